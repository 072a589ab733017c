//! CreatePartitions (key 37): grows topics to a new total.

use crate::codec::generated::create_partitions::{Request, Response, Topic, TopicWanted};
use crate::error::ErrorCode;
use crate::operation::{Env, Gather, Operation, Started};
use crate::reply::Reply;
use crate::rights::refusal_text;
use crate::topic::NAMESPACE;
use koine_broker::access::Action;
use koine_broker::metadata::{Command, Named};
use koine_broker::session::Event;
use std::collections::HashSet;

pub(crate) fn start(request: Request, reply: Reply, env: &mut Env<'_, '_>) -> Started {
    let op = env.new_op();
    let mut answers: Vec<Topic> = Vec::new();
    let mut waiting = 0;
    let mut seen = HashSet::new();
    for wanted in &request.topics {
        let mut answer = Topic { name: wanted.name.clone(), ..Topic::default() };
        let repeated = !seen.insert(wanted.name.as_str());
        let checked = if repeated {
            Err((ErrorCode::InvalidRequest, "Duplicate topic name.".to_string()))
        } else {
            check(wanted, env)
        };
        match checked {
            Ok(total) if !request.validate_only => {
                let command = Command::AddPartitions {
                    namespace: NAMESPACE,
                    name: wanted.name.clone(),
                    total,
                };
                env.propose(op.token_at(answers.len()), command);
                waiting += 1;
            }
            Ok(_) => {}
            Err((error, message)) => {
                answer.error_code = error.code();
                answer.error_message = Some(message);
            }
        }
        answers.push(answer);
    }
    let mut operation = CreatePartitions { reply, topics: Gather::new(answers, waiting) };
    if waiting == 0 {
        operation.answer(env);
        return Started::Answered;
    }
    Started::Waiting(op, Box::new(operation))
}

fn check(wanted: &TopicWanted, env: &Env<'_, '_>) -> Result<u32, (ErrorCode, String)> {
    env.may_topic(Action::Alter, &wanted.name).map_err(|error| (error, refusal_text(error)))?;
    let current = match env.catalog().find(&wanted.name) {
        Ok(Named::Topic(topic)) => topic.partition_count(),
        Ok(Named::Queue(_)) => {
            return Err((ErrorCode::InvalidPartitions, "A queue has one partition.".into()));
        }
        Err(error) => return Err((error, format!("The topic '{}' does not exist.", wanted.name))),
    };
    let max = env.ctx.limits.partitions_max;
    let total = match u32::try_from(wanted.count) {
        Ok(total) if total > current && total <= max => total,
        Ok(total) if total > current => {
            return Err((
                ErrorCode::InvalidPartitions,
                format!("A topic has at most {max} partitions."),
            ));
        }
        _ => {
            let text = format!(
                "The topic '{}' currently has {current} partition(s); {} would not be an increase.",
                wanted.name, wanted.count
            );
            return Err((ErrorCode::InvalidPartitions, text));
        }
    };
    if let Some(assignments) = &wanted.assignments {
        let added = (total - current) as usize;
        let here = assignments.iter().all(|a| a.broker_ids == [env.ctx.node.node_id]);
        if assignments.len() != added || !here {
            let text =
                format!("{added} assignment(s) to broker {} are needed.", env.ctx.node.node_id);
            return Err((ErrorCode::InvalidReplicaAssignment, text));
        }
    }
    Ok(total)
}

struct CreatePartitions {
    reply: Reply,
    topics: Gather<Topic>,
}

impl CreatePartitions {
    fn answer(&mut self, env: &mut Env<'_, '_>) {
        let results = std::mem::take(&mut self.topics.answers);
        let response = Response { throttle_time_ms: 0, results };
        env.send(self.reply, |w, v| response.encode(w, v));
    }
}

impl Operation for CreatePartitions {
    fn event(&mut self, event: Event, env: &mut Env<'_, '_>) -> bool {
        let Event::Proposed { token, result } = event else { return false };
        let Some((place, last)) = self.topics.take(token) else { return false };
        if let Err(refusal) = result {
            place.error_code = ErrorCode::from(refusal).code();
        }
        if last {
            self.answer(env);
        }
        last
    }
}
