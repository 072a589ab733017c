//! DeleteTopics (key 20): by name, from version 6 also by id. A queue can be deleted as well.

use crate::codec::generated::delete_topics::{Request, Response, Topic, TopicWanted};
use crate::error::ErrorCode;
use crate::operation::{Env, Gather, Operation, Started};
use crate::reply::Reply;
use crate::topic::NAMESPACE;
use koine_broker::access::Action;
use koine_broker::metadata::{Command, Named};
use koine_broker::session::{Event, Request as Ask};
use std::collections::HashSet;

pub(crate) fn start(request: Request, reply: Reply, env: &mut Env<'_, '_>) -> Started {
    let by_name = request
        .topic_names
        .into_iter()
        .map(|name| TopicWanted { name: Some(name), topic_id: [0; 16] });
    let op = env.new_op();
    let mut answers: Vec<Topic> = Vec::new();
    let mut waiting = 0;
    let mut seen = HashSet::new();
    for wanted in request.topics.into_iter().chain(by_name) {
        let token = op.token_at(answers.len());
        let (name, found) = look_up(&wanted, env);
        let repeated = name.as_ref().is_some_and(|name| !seen.insert(name.clone()));
        let error = match found {
            _ if repeated => ErrorCode::InvalidRequest,
            Err(error) => error,
            Ok(ask) => {
                env.request(ask(token));
                waiting += 1;
                ErrorCode::None
            }
        };
        answers.push(Topic {
            name,
            topic_id: wanted.topic_id,
            error_code: error.code(),
            error_message: None,
        });
    }
    let mut operation = DeleteTopics { reply, topics: Gather::new(answers, waiting) };
    if waiting == 0 {
        operation.answer(env);
        return Started::Answered;
    }
    Started::Waiting(op, Box::new(operation))
}

type Deletion = Box<dyn FnOnce(u64) -> Ask>;

/// The name to answer with, and what has to be asked to delete it.
fn look_up(
    wanted: &TopicWanted,
    env: &Env<'_, '_>,
) -> (Option<String>, Result<Deletion, ErrorCode>) {
    let catalog = env.catalog();
    let name = match &wanted.name {
        Some(name) if wanted.topic_id == [0; 16] => name.as_str(),
        Some(_) => return (wanted.name.clone(), Err(ErrorCode::InvalidRequest)),
        None => match catalog.name_of(wanted.topic_id) {
            Ok(name) => name,
            Err(error) => return (None, Err(error)),
        },
    };
    if let Err(error) = env.may_topic(Action::Delete, name) {
        // Who named it knows the name; who did not learns it only if it may see the topic.
        let is_known = wanted.name.is_some() || env.may_topic(Action::Describe, name).is_ok();
        return (is_known.then(|| name.to_string()), Err(error));
    }
    let owned = name.to_string();
    let deletion: Result<Deletion, ErrorCode> = catalog.find(name).map(|named| -> Deletion {
        let (namespace, name) = (NAMESPACE, owned.clone());
        match named {
            Named::Topic(_) => Box::new(move |token| Ask::Propose {
                token,
                command: Command::DeleteTopic { namespace, name },
            }),
            Named::Queue(_) => Box::new(move |token| Ask::DeleteQueue {
                token,
                namespace,
                name,
                if_unused: false,
                if_empty: false,
            }),
        }
    });
    (Some(owned), deletion)
}

struct DeleteTopics {
    reply: Reply,
    topics: Gather<Topic>,
}

impl DeleteTopics {
    fn answer(&mut self, env: &mut Env<'_, '_>) {
        let responses = std::mem::take(&mut self.topics.answers);
        let response = Response { throttle_time_ms: 0, responses };
        env.send(self.reply, |w, v| response.encode(w, v));
    }
}

impl Operation for DeleteTopics {
    fn event(&mut self, event: Event, env: &mut Env<'_, '_>) -> bool {
        let (token, refusal) = match event {
            Event::Proposed { token, result } => (token, result.err()),
            Event::QueueDeleted { token, result } => (token, result.err()),
            _ => return false,
        };
        let Some((place, last)) = self.topics.take(token) else { return false };
        if let Some(refusal) = refusal {
            place.error_code = ErrorCode::from(refusal).code();
        }
        if last {
            self.answer(env);
        }
        last
    }
}
