//! DeleteRecords (key 21): moves the start of partitions forward.

use crate::codec::generated::delete_records::{Partition, Request, Response, Topic};
use crate::error::ErrorCode;
use crate::operation::{Env, Gather, Operation, Started};
use crate::reply::Reply;
use koine_base::StreamId;
use koine_broker::access::Action;
use koine_broker::metadata::Named;
use koine_broker::session::{Event, Request as Ask};

/// Delete everything that is there.
const HIGH_WATERMARK: i64 = -1;

pub(crate) fn start(request: Request, reply: Reply, env: &mut Env<'_, '_>) -> Started {
    let op = env.new_op();
    let mut places: Vec<Partition> = Vec::new();
    let mut names = Vec::new();
    let mut waiting = 0;
    for topic in request.topics {
        for wanted in &topic.partitions {
            let mut place = Partition {
                partition_index: wanted.partition_index,
                low_watermark: -1,
                error_code: 0,
            };
            match check(&topic.name, wanted.partition_index, wanted.offset, env) {
                Ok((stream, offset)) => {
                    let token = op.token_at(places.len());
                    env.request(Ask::Trim { token, stream, offset });
                    waiting += 1;
                }
                Err(error) => place.error_code = error.code(),
            }
            places.push(place);
        }
        names.push((topic.name, topic.partitions.len()));
    }
    let mut operation = DeleteRecords { reply, names, partitions: Gather::new(places, waiting) };
    if waiting == 0 {
        operation.answer(env);
        return Started::Answered;
    }
    Started::Waiting(op, Box::new(operation))
}

fn check(
    name: &str,
    index: i32,
    offset: i64,
    env: &Env<'_, '_>,
) -> Result<(StreamId, u64), ErrorCode> {
    env.may_topic(Action::Delete, name)?;
    let named = env.catalog().find(name)?;
    if matches!(named, Named::Queue(_)) {
        // What a queue holds goes when it is consumed or purged, not behind its consumers' back.
        return Err(ErrorCode::PolicyViolation);
    }
    let stream = named.stream(index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    match offset {
        HIGH_WATERMARK => Ok((stream, u64::MAX)),
        offset => Ok((stream, u64::try_from(offset).map_err(|_| ErrorCode::OffsetOutOfRange)?)),
    }
}

struct DeleteRecords {
    reply: Reply,
    /// Topics in order, each with its number of partitions.
    names: Vec<(String, usize)>,
    partitions: Gather<Partition>,
}

impl DeleteRecords {
    fn answer(&mut self, env: &mut Env<'_, '_>) {
        let mut partitions = std::mem::take(&mut self.partitions.answers).into_iter();
        let topics = std::mem::take(&mut self.names).into_iter().map(|(name, count)| Topic {
            name,
            partitions: partitions.by_ref().take(count).collect(),
        });
        let response = Response { throttle_time_ms: 0, topics: topics.collect() };
        env.send(self.reply, |w, v| response.encode(w, v));
    }
}

impl Operation for DeleteRecords {
    fn event(&mut self, event: Event, env: &mut Env<'_, '_>) -> bool {
        let Event::Bounds { token, result } = event else { return false };
        let Some((place, last)) = self.partitions.take(token) else { return false };
        match result {
            Ok(bounds) => place.low_watermark = bounds.start as i64,
            Err(refusal) => place.error_code = ErrorCode::from(refusal).code(),
        }
        if last {
            self.answer(env);
        }
        last
    }
}
