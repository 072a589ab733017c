//! OffsetFetch (key 9): how far groups have read. Up to version 7 of one group, then of several.

use crate::codec::generated::offset_fetch::{
    Group, GroupPartition, GroupTopic, GroupWanted, Partition, Request, Response, Topic,
};
use crate::error::ErrorCode;
use crate::operation::{Env, Gather, Operation, Started};
use crate::reply::Reply;
use koine_broker::access::Action;
use koine_broker::offsets::CommittedOffset;
use koine_broker::session::{Event, Request as Ask};
use std::collections::HashMap;

/// Before this version an error of the group stands at each partition.
const GROUP_ERROR_FROM: i16 = 2;
const SEVERAL_FROM: i16 = 8;
const IDS_FROM: i16 = 10;

type Offsets = Vec<(String, i32, Option<CommittedOffset>)>;

/// One group of the request, its answer once it is there.
struct Asked {
    group_id: String,
    /// Topics as the client named them, with the partitions in order; `None` for all of the group.
    topics: Option<Vec<AskedTopic>>,
    found: Offsets,
    /// Of the whole group.
    error: ErrorCode,
}

struct AskedTopic {
    /// The error is for all of its partitions.
    name: Result<String, ErrorCode>,
    /// As the client named it.
    given: String,
    topic_id: [u8; 16],
    partitions: Vec<i32>,
}

pub(crate) fn start(request: Request, reply: Reply, env: &mut Env<'_, '_>) -> Started {
    let mut asked: Vec<Asked> = if reply.version < SEVERAL_FROM {
        let topics = request.topics.map(|topics| {
            let named = topics.into_iter().map(|topic| AskedTopic {
                name: env.may_topic(Action::Describe, &topic.name).map(|()| topic.name.clone()),
                given: topic.name,
                topic_id: [0; 16],
                partitions: topic.partition_indexes,
            });
            named.collect()
        });
        vec![Asked {
            group_id: request.group_id,
            topics,
            found: Vec::new(),
            error: ErrorCode::None,
        }]
    } else {
        let groups = request.groups.into_iter();
        groups.map(|group| Asked::of(group, reply.version, env)).collect()
    };
    let op = env.new_op();
    let mut waiting = 0;
    for (index, asked) in asked.iter_mut().enumerate() {
        if let Err(error) = env.may_group(Action::Describe, &asked.group_id) {
            asked.refuse(error, reply.version);
            continue;
        }
        waiting += 1;
        let partitions = asked.topics.as_ref().map(|topics| named_partitions(topics));
        let (token, group) = (op.token_at(index), asked.group_id.clone());
        env.request(Ask::FetchOffsets { token, group, partitions });
    }
    let mut operation = OffsetFetch { reply, groups: Gather::new(asked, waiting) };
    if waiting == 0 {
        operation.answer(env);
        return Started::Answered;
    }
    Started::Waiting(op, Box::new(operation))
}

fn named_partitions(topics: &[AskedTopic]) -> Vec<(String, i32)> {
    let named =
        topics.iter().filter_map(|topic| Some((topic.name.as_ref().ok()?, &topic.partitions)));
    named.flat_map(|(name, indexes)| indexes.iter().map(|index| (name.clone(), *index))).collect()
}

impl Asked {
    fn of(group: GroupWanted, version: i16, env: &Env<'_, '_>) -> Self {
        let catalog = env.catalog();
        let topics = group.topics.map(|topics| {
            let named = topics.into_iter().map(|topic| {
                let name = match version {
                    IDS_FROM.. => catalog.name_of(topic.topic_id),
                    _ => Ok(topic.name.as_str()),
                };
                let allowed = |name: &str| env.may_topic(Action::Describe, name);
                AskedTopic {
                    name: name.and_then(|name| allowed(name).map(|()| name.to_string())),
                    given: topic.name,
                    topic_id: topic.topic_id,
                    partitions: topic.partition_indexes,
                }
            });
            named.collect()
        });
        Asked { group_id: group.group_id, topics, found: Vec::new(), error: ErrorCode::None }
    }

    /// Nothing of the group is shown.
    fn refuse(&mut self, error: ErrorCode, version: i16) {
        self.error = error;
        if version >= GROUP_ERROR_FROM {
            self.topics = Some(Vec::new());
        }
        for topic in self.topics.iter_mut().flatten() {
            topic.name = Err(error);
        }
    }

    /// What was asked for, in the client's order; or all that was found and may be seen.
    fn topics(self, version: i16, env: &Env<'_, '_>) -> Vec<GroupTopic> {
        let catalog = env.catalog();
        let mut found: HashMap<String, Vec<(i32, CommittedOffset)>> = HashMap::new();
        let mut order = Vec::new();
        for (name, index, offset) in self.found {
            let Some(offset) = offset else { continue };
            let partitions = found.entry(name.clone()).or_default();
            if partitions.is_empty() {
                order.push(name);
            }
            partitions.push((index, offset));
        }
        let Some(asked) = self.topics else {
            order.retain(|name| env.may_topic(Action::Describe, name).is_ok());
            let all = order.into_iter().filter_map(|name| {
                let topic_id = match catalog.find(&name) {
                    Ok(named) => named.id().0,
                    // Cannot be named in a version without names.
                    Err(_) if version >= IDS_FROM => return None,
                    Err(_) => [0; 16],
                };
                let partitions = found.remove(&name).unwrap_or_default();
                let partitions =
                    partitions.into_iter().map(|(index, offset)| present(index, offset));
                Some(GroupTopic { topic_id, partitions: partitions.collect(), name })
            });
            return all.collect();
        };
        let answers = asked.into_iter().map(|topic| {
            let known: HashMap<i32, &CommittedOffset> = match &topic.name {
                Ok(name) => {
                    found.get(name).into_iter().flatten().map(|(i, offset)| (*i, offset)).collect()
                }
                Err(_) => HashMap::new(),
            };
            let error = topic.name.as_ref().err().copied().unwrap_or(self.error);
            let partitions = topic.partitions.iter().map(|index| match known.get(index) {
                Some(offset) => present(*index, (*offset).clone()),
                None => absent(*index, error),
            });
            GroupTopic {
                partitions: partitions.collect(),
                name: topic.given,
                topic_id: topic.topic_id,
            }
        });
        answers.collect()
    }
}

fn present(partition_index: i32, offset: CommittedOffset) -> GroupPartition {
    GroupPartition {
        partition_index,
        committed_offset: offset.offset,
        committed_leader_epoch: offset.leader_epoch,
        metadata: Some(offset.metadata),
        error_code: 0,
    }
}

/// Nothing was committed: -1, which is no error.
fn absent(partition_index: i32, error: ErrorCode) -> GroupPartition {
    GroupPartition {
        partition_index,
        committed_offset: -1,
        committed_leader_epoch: -1,
        metadata: Some(String::new()),
        error_code: error.code(),
    }
}

struct OffsetFetch {
    reply: Reply,
    groups: Gather<Asked>,
}

impl OffsetFetch {
    fn answer(&mut self, env: &mut Env<'_, '_>) {
        let version = self.reply.version;
        let asked = std::mem::take(&mut self.groups.answers).into_iter();
        let mut groups = asked.map(|asked| Group {
            group_id: asked.group_id.clone(),
            error_code: asked.error.code(),
            topics: asked.topics(version, env),
        });
        let mut response = Response::default();
        if version < SEVERAL_FROM {
            let group = groups.next().unwrap_or_default();
            response.error_code = group.error_code;
            response.topics = group.topics.into_iter().map(single).collect();
        } else {
            response.groups = groups.collect();
        }
        env.send(self.reply, |w, v| response.encode(w, v));
    }
}

/// The same in the form of one group.
fn single(topic: GroupTopic) -> Topic {
    let partitions = topic.partitions.into_iter().map(|partition| Partition {
        partition_index: partition.partition_index,
        committed_offset: partition.committed_offset,
        committed_leader_epoch: partition.committed_leader_epoch,
        metadata: partition.metadata,
        error_code: partition.error_code,
    });
    Topic { name: topic.name, partitions: partitions.collect() }
}

impl Operation for OffsetFetch {
    fn event(&mut self, event: Event, env: &mut Env<'_, '_>) -> bool {
        let Event::Offsets { token, result } = event else { return false };
        let Some((place, last)) = self.groups.take(token) else { return false };
        match result {
            Ok(offsets) => place.found = offsets,
            Err(error) => place.error = error.into(),
        }
        if last {
            self.answer(env);
        }
        last
    }
}
