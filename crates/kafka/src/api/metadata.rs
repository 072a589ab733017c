//! Metadata (key 3): brokers, topics and partitions. Missing topics are created if the client allows
//! it and the node does; the answer then waits until they exist.

use crate::codec::generated::metadata::{Broker, Partition, Request, Response, Topic, TopicWanted};
use crate::error::ErrorCode;
use crate::operation::{Env, Gather, Operation, Started};
use crate::reply::Reply;
use crate::topic::{check_new_name, Catalog, NAMESPACE};
use koine_broker::metadata::{Command, Durability, Named, Refusal, TopicSettings};
use koine_broker::session::{Event, NodeInfo};

/// Everything that can be done to a topic, as bits numbered by Kafka's ACL operations: read 3,
/// write 4, create 5, delete 6, alter 7, describe 8, describe configs 10, alter configs 11.
/// There are no ACLs yet: all of it is allowed.
pub const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;

/// Create 5, alter 7, describe 8, cluster action 9, describe configs 10, alter configs 11,
/// idempotent write 12.
pub const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;

const NO_ID: [u8; 16] = [0; 16];

pub(crate) fn start(request: Request, reply: Reply, env: &mut Env<'_, '_>) -> Started {
    // Version 0 has no null: empty means all there.
    let wanted = request.topics.filter(|topics| reply.version > 0 || !topics.is_empty());
    let create = request.allow_auto_topic_creation && env.ctx.node.auto_create_topics;
    let mut op = MetadataOp {
        reply,
        topic_operations: request.include_topic_authorized_operations,
        cluster_operations: request.include_cluster_authorized_operations,
        wanted,
        created: Gather::new(Vec::new(), 0),
    };
    let missing = if create { op.missing(env.catalog()) } else { Vec::new() };
    if missing.is_empty() {
        op.answer(env);
        return Started::Answered;
    }
    let number = env.new_op();
    for (index, name) in missing.iter().enumerate() {
        let id = env.fresh_topic_id();
        let command = Command::CreateTopic {
            namespace: NAMESPACE,
            name: name.clone(),
            partitions: env.ctx.node.default_partitions,
            settings: default_settings(env.ctx.node),
            id,
        };
        env.propose(number.token_at(index), command);
    }
    let count = missing.len();
    op.created = Gather::new(missing.into_iter().map(|name| (name, None)).collect(), count);
    Started::Waiting(number, Box::new(op))
}

/// What a topic gets that is created without settings of its own.
pub(crate) fn default_settings(node: &NodeInfo) -> TopicSettings {
    let durability = match node.default_durability {
        Durability::Fsync => None,
        other => Some(other),
    };
    TopicSettings { durability, ..TopicSettings::default() }
}

struct MetadataOp {
    reply: Reply,
    topic_operations: bool,
    cluster_operations: bool,
    wanted: Option<Vec<TopicWanted>>,
    /// Names being created, and why they were not.
    created: Gather<(String, Option<Refusal>)>,
}

impl MetadataOp {
    /// Names that do not exist and may be created, each once.
    fn missing(&self, catalog: Catalog<'_>) -> Vec<String> {
        let mut missing: Vec<String> = self
            .wanted
            .iter()
            .flatten()
            .filter(|wanted| wanted.topic_id == NO_ID)
            .filter_map(|wanted| wanted.name.clone())
            .filter(|name| matches!(catalog.find(name), Err(ErrorCode::UnknownTopicOrPartition)))
            .filter(|name| check_new_name(name).is_ok())
            .collect();
        missing.sort_unstable();
        missing.dedup();
        missing
    }

    fn answer(&self, env: &mut Env<'_, '_>) {
        let node = env.ctx.node;
        let (host, port) = env.advertised();
        let catalog = env.catalog();
        let topics = match &self.wanted {
            None => catalog.all().map(|(name, named)| self.found(name, named, node)).collect(),
            Some(wanted) => wanted.iter().map(|wanted| self.topic(wanted, catalog, node)).collect(),
        };
        let mut response = Response {
            brokers: vec![Broker { node_id: node.node_id, host, port, rack: None }],
            cluster_id: Some(node.cluster_id.clone()),
            controller_id: node.node_id,
            topics,
            ..Response::default()
        };
        if self.cluster_operations {
            response.cluster_authorized_operations = CLUSTER_OPERATIONS;
        }
        env.send(self.reply, |w, v| response.encode(w, v));
    }

    fn topic(&self, wanted: &TopicWanted, catalog: Catalog<'_>, node: &NodeInfo) -> Topic {
        let missing = |name: Option<String>, error: ErrorCode| Topic {
            error_code: error.code(),
            name,
            topic_id: wanted.topic_id,
            ..Topic::default()
        };
        let name = match &wanted.name {
            _ if wanted.topic_id != NO_ID => match catalog.name_of(wanted.topic_id) {
                Ok(name) => name,
                Err(error) => return missing(None, error),
            },
            Some(name) => name,
            None => return missing(None, ErrorCode::InvalidRequest),
        };
        match catalog.find(name) {
            Ok(named) => self.found(name, named, node),
            Err(error) => {
                let refused = self.created.answers.iter().find(|(created, _)| created == name);
                let error = match refused {
                    Some((_, Some(refusal))) => ErrorCode::from(*refusal),
                    _ if check_new_name(name).is_err() => ErrorCode::InvalidTopicException,
                    _ => error,
                };
                missing(Some(name.to_string()), error)
            }
        }
    }

    fn found(&self, name: &str, named: Named<'_>, node: &NodeInfo) -> Topic {
        let epoch = |index| named.stream(index).map_or(-1, |stream| node.epoch(stream));
        let partitions = (0..named.partition_count()).map(|index| Partition {
            error_code: 0,
            partition_index: index as i32,
            leader_id: node.node_id,
            leader_epoch: epoch(index as i32),
            replica_nodes: vec![node.node_id],
            isr_nodes: vec![node.node_id],
            offline_replicas: Vec::new(),
        });
        let mut topic = Topic {
            name: Some(name.to_string()),
            topic_id: named.id().0,
            partitions: partitions.collect(),
            ..Topic::default()
        };
        if self.topic_operations {
            topic.topic_authorized_operations = TOPIC_OPERATIONS;
        }
        topic
    }
}

impl Operation for MetadataOp {
    fn event(&mut self, event: Event, env: &mut Env<'_, '_>) -> bool {
        let Event::Proposed { token, result } = event else { return false };
        let Some((place, last)) = self.created.take(token) else { return false };
        // Another client may have been faster: what counts is that the topic is there.
        place.1 = result.err().filter(|refusal| *refusal != Refusal::AlreadyExists);
        if last {
            self.answer(env);
        }
        last
    }
}
