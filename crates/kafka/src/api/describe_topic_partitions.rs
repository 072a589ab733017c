//! DescribeTopicPartitions (key 75): topics in pages, for clients that describe very many.

use crate::codec::generated::describe_topic_partitions::{
    Cursor, Partition, Request, Response, Topic,
};
use crate::error::ErrorCode;
use crate::operation::{Env, Started};
use crate::reply::Reply;
use koine_broker::access::Action;
use koine_broker::metadata::Named;
use koine_broker::session::NodeInfo;

/// Partitions in one answer, whatever the client asks for. Kafka's own
/// `max.request.partition.size.limit`.
const PARTITIONS_MAX: i32 = 2000;

pub(crate) fn start(request: Request, reply: Reply, env: &mut Env<'_, '_>) -> Started {
    let catalog = env.catalog();
    let mut names: Vec<&str> = if request.topics.is_empty() {
        let all = catalog.all().map(|(name, _)| name);
        all.filter(|name| env.may_topic(Action::Describe, name).is_ok()).collect()
    } else {
        request.topics.iter().map(|topic| topic.name.as_str()).collect()
    };
    names.sort_unstable();
    names.dedup();
    let (from_name, from_partition) = match &request.cursor {
        Some(cursor) => (cursor.topic_name.as_str(), cursor.partition_index.max(0)),
        None => ("", 0),
    };
    let mut room = request.response_partition_limit.clamp(1, PARTITIONS_MAX);
    let mut response = Response::default();
    for name in names.into_iter().filter(|name| *name >= from_name) {
        if room == 0 {
            response.next_cursor =
                Some(Cursor { topic_name: name.to_string(), partition_index: 0 });
            break;
        }
        let mut topic = Topic { name: Some(name.to_string()), ..Topic::default() };
        let named = match env.may_topic(Action::Describe, name).and_then(|()| catalog.find(name)) {
            Ok(named) => named,
            Err(error) => {
                topic.error_code = error.code();
                response.topics.push(topic);
                continue;
            }
        };
        let first = if name == from_name { from_partition } else { 0 };
        let count = named.partition_count() as i32;
        let end = count.min(first.saturating_add(room));
        topic.topic_id = named.id().0;
        topic.topic_authorized_operations = env.topic_operations(name);
        topic.partitions =
            (first..end).map(|index| partition(index, named, env.ctx.node)).collect();
        room -= topic.partitions.len() as i32;
        response.topics.push(topic);
        if end < count {
            response.next_cursor =
                Some(Cursor { topic_name: name.to_string(), partition_index: end });
            break;
        }
    }
    env.send(reply, |w, v| response.encode(w, v));
    Started::Answered
}

fn partition(index: i32, named: Named<'_>, node: &NodeInfo) -> Partition {
    let node_id = node.node_id;
    Partition {
        error_code: ErrorCode::None.code(),
        partition_index: index,
        leader_id: node_id,
        leader_epoch: named.stream(index).map_or(-1, |stream| node.epoch(stream)),
        replica_nodes: vec![node_id],
        isr_nodes: vec![node_id],
        // Null is allowed by the protocol, but the Java client up to 4.4 does not expect it.
        eligible_leader_replicas: Some(Vec::new()),
        last_known_elr: Some(Vec::new()),
        offline_replicas: Vec::new(),
    }
}
