//! OffsetForLeaderEpoch (key 23): where a leader epoch ended (KIP-320).

use super::list_offsets::check_epoch;
use crate::codec::generated::offset_for_leader_epoch::{EpochEndOffset, Request, Response, Topic};
use crate::error::ErrorCode;
use crate::operation::{Env, Gather, Operation, Started};
use crate::reply::Reply;
use koine_broker::access::Action;
use koine_broker::session::{Event, Request as Ask};

pub(crate) fn start(request: Request, reply: Reply, env: &mut Env<'_, '_>) -> Started {
    let op = env.new_op();
    let mut places = Vec::new();
    let mut names = Vec::new();
    let mut waiting = 0;
    for topic in request.topics {
        let by_cluster = env.may_cluster(Action::ClusterAction);
        let allowed = by_cluster.or_else(|_| env.may_topic(Action::Describe, &topic.topic));
        for wanted in &topic.partitions {
            let mut place = EpochEndOffset {
                error_code: 0,
                partition: wanted.partition,
                leader_epoch: -1,
                end_offset: -1,
            };
            let stream =
                allowed.and_then(|()| env.catalog().stream(&topic.topic, wanted.partition));
            let found = stream.and_then(|stream| {
                let epoch = env.ctx.node.epoch(stream);
                // One that is not known here yet is for the client to come back with.
                check_epoch(wanted.current_leader_epoch, epoch).map(|()| stream)
            });
            match found {
                Ok(stream) => {
                    let token = op.token_at(places.len());
                    env.request(Ask::EpochEnd { token, stream, epoch: wanted.leader_epoch });
                    waiting += 1;
                }
                Err(error) => place.error_code = error.code(),
            }
            places.push(place);
        }
        names.push((topic.topic, topic.partitions.len()));
    }
    let mut operation = OffsetForLeaderEpoch { reply, names, ends: Gather::new(places, waiting) };
    if waiting == 0 {
        operation.answer(env);
        return Started::Answered;
    }
    Started::Waiting(op, Box::new(operation))
}

struct OffsetForLeaderEpoch {
    reply: Reply,
    names: Vec<(String, usize)>,
    ends: Gather<EpochEndOffset>,
}

impl OffsetForLeaderEpoch {
    fn answer(&mut self, env: &mut Env<'_, '_>) {
        let mut ends = std::mem::take(&mut self.ends.answers).into_iter();
        let topics = std::mem::take(&mut self.names)
            .into_iter()
            .map(|(topic, count)| Topic { topic, partitions: ends.by_ref().take(count).collect() });
        let response = Response { throttle_time_ms: 0, topics: topics.collect() };
        env.send(self.reply, |w, v| response.encode(w, v));
    }
}

impl Operation for OffsetForLeaderEpoch {
    fn event(&mut self, event: Event, env: &mut Env<'_, '_>) -> bool {
        let Event::EpochEnd { token, result } = event else { return false };
        let Some((place, last)) = self.ends.take(token) else { return false };
        match result {
            Ok(Some((epoch, end))) => {
                place.leader_epoch = epoch;
                place.end_offset = end as i64;
            }
            Ok(None) => {}
            Err(refusal) => place.error_code = ErrorCode::from(refusal).code(),
        }
        if last {
            self.answer(env);
        }
        last
    }
}
