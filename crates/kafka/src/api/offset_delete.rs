//! OffsetDelete (key 47): forgets positions of a group.

use crate::codec::generated::offset_delete::{Partition, Request, Response, Topic};
use crate::error::ErrorCode;
use crate::operation::{Env, Operation, Started};
use crate::reply::Reply;
use koine_broker::access::Action;
use koine_broker::membership::GroupError;
use koine_broker::session::{Event, Request as Ask};

pub(crate) fn start(request: Request, reply: Reply, env: &mut Env<'_, '_>) -> Started {
    if let Err(error) = env.may_group(Action::Delete, &request.group_id) {
        let response = Response { error_code: error.code(), ..Response::default() };
        env.send(reply, |w, v| response.encode(w, v));
        return Started::Answered;
    }
    let catalog = env.catalog();
    let mut partitions = Vec::new();
    let mut topics = Vec::new();
    for topic in request.topics {
        let allowed = env.may_topic(Action::Read, &topic.name);
        let answers = topic.partitions.iter().map(|wanted| {
            let index = wanted.partition_index;
            let error = match allowed.and_then(|()| catalog.stream(&topic.name, index)) {
                Ok(_) => {
                    partitions.push((topic.name.clone(), index));
                    ErrorCode::None
                }
                Err(error) => error,
            };
            Partition { partition_index: index, error_code: error.code() }
        });
        let answers = answers.collect();
        topics.push(Topic { name: topic.name, partitions: answers });
    }
    // Asked even without partitions: the group itself may be unknown.
    let op = env.new_op();
    env.request(Ask::DeleteOffsets { token: op.token(0), group: request.group_id, partitions });
    Started::Waiting(op, Box::new(OffsetDelete { reply, topics }))
}

struct OffsetDelete {
    reply: Reply,
    topics: Vec<Topic>,
}

impl Operation for OffsetDelete {
    fn event(&mut self, event: Event, env: &mut Env<'_, '_>) -> bool {
        let Event::Committed { result, .. } = event else { return false };
        let mut response =
            Response { topics: std::mem::take(&mut self.topics), ..Response::default() };
        match result {
            Ok(()) => {}
            Err(GroupError::GroupSubscribedToTopic) => {
                for partition in response.topics.iter_mut().flat_map(|topic| &mut topic.partitions)
                {
                    partition.error_code = ErrorCode::GroupSubscribedToTopic.code();
                }
            }
            Err(error) => {
                response.error_code = ErrorCode::from(error).code();
                response.topics.clear();
            }
        }
        env.send(self.reply, |w, v| response.encode(w, v));
        true
    }
}
