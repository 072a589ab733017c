//! OffsetCommit (key 8): stores how far a group has read.

use crate::codec::generated::offset_commit::{
    Partition, PartitionOffset, Request, Response, Topic, TopicOffsets,
};
use crate::error::ErrorCode;
use crate::operation::{Env, Operation, Started};
use crate::reply::Reply;
use crate::topic::Catalog;
use koine_broker::access::Action;
use koine_broker::membership::{CommitMember, MemberRef};
use koine_broker::offsets::CommittedOffset;
use koine_broker::session::{Event, Request as Ask};

/// Kafka's `offset.metadata.max.bytes`.
const METADATA_BYTES_MAX: usize = 4096;

/// Topics are named by id from this version on.
const IDS_FROM: i16 = 10;

pub(crate) fn start(request: Request, reply: Reply, env: &mut Env<'_, '_>) -> Started {
    let member = member_of(&request);
    let wall = env.ctx.now.wall.0;
    let allowed = env.may_group(Action::Read, &request.group_id);
    let mut offsets = Vec::new();
    let topics = request
        .topics
        .iter()
        .map(|wanted| topic(wanted, reply.version, wall, allowed, &mut offsets, env));
    let mut operation = OffsetCommit { reply, topics: topics.collect() };
    if offsets.is_empty() {
        operation.answer(env);
        return Started::Answered;
    }
    let op = env.new_op();
    env.request(Ask::CommitOffsets {
        token: op.token(0),
        group: request.group_id,
        member,
        offsets,
    });
    Started::Waiting(op, Box::new(operation))
}

/// `None` for clients that take no part in the group, such as administration tools.
fn member_of(request: &Request) -> Option<CommitMember> {
    let generation = request.generation_id_or_member_epoch;
    if generation < 0 && request.member_id.is_empty() && request.group_instance_id.is_none() {
        return None;
    }
    let member = MemberRef {
        member_id: request.member_id.clone(),
        instance_id: request.group_instance_id.clone(),
    };
    Some(CommitMember { member, generation })
}

/// The answer for one topic; what can be committed goes to `offsets`.
fn topic(
    wanted: &TopicOffsets,
    version: i16,
    wall: i64,
    allowed: Result<(), ErrorCode>,
    offsets: &mut Vec<(String, i32, CommittedOffset)>,
    env: &Env<'_, '_>,
) -> Topic {
    let catalog = env.catalog();
    let named = match version {
        IDS_FROM.. => catalog.name_of(wanted.topic_id),
        _ => Ok(wanted.name.as_str()),
    };
    let named = allowed.and(named);
    let named = named.and_then(|name| env.may_topic(Action::Read, name).map(|()| name));
    let partitions = wanted.partitions.iter().map(|partition| {
        let checked = named.and_then(|name| check(name, partition, catalog).map(|()| name));
        let error = match checked {
            Ok(name) => {
                let offset = committed(partition, wall);
                offsets.push((name.to_string(), partition.partition_index, offset));
                ErrorCode::None
            }
            Err(error) => error,
        };
        Partition { partition_index: partition.partition_index, error_code: error.code() }
    });
    Topic { partitions: partitions.collect(), name: wanted.name.clone(), topic_id: wanted.topic_id }
}

fn check(name: &str, partition: &PartitionOffset, catalog: Catalog<'_>) -> Result<(), ErrorCode> {
    catalog.stream(name, partition.partition_index)?;
    let metadata_bytes = partition.committed_metadata.as_ref().map_or(0, String::len);
    if metadata_bytes > METADATA_BYTES_MAX {
        return Err(ErrorCode::OffsetMetadataTooLarge);
    }
    Ok(())
}

fn committed(partition: &PartitionOffset, wall: i64) -> CommittedOffset {
    CommittedOffset {
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata: partition.committed_metadata.clone().unwrap_or_default(),
        commit_timestamp: match partition.commit_timestamp {
            // Only version 1 carries one; -1 there means now.
            -1 => wall,
            given => given,
        },
    }
}

struct OffsetCommit {
    reply: Reply,
    topics: Vec<Topic>,
}

impl OffsetCommit {
    fn answer(&mut self, env: &mut Env<'_, '_>) {
        let topics = std::mem::take(&mut self.topics);
        let response = Response { throttle_time_ms: 0, topics };
        env.send(self.reply, |w, v| response.encode(w, v));
    }
}

impl Operation for OffsetCommit {
    fn event(&mut self, event: Event, env: &mut Env<'_, '_>) -> bool {
        let Event::Committed { result, .. } = event else { return false };
        if let Err(error) = result {
            let code = ErrorCode::from(error).code();
            for partition in self.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
                if partition.error_code == ErrorCode::None.code() {
                    partition.error_code = code;
                }
            }
        }
        self.answer(env);
        true
    }
}
