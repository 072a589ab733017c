//! Metadata (key 3): brokers, topics and partitions. Missing topics are created if the client allows
//! it and the node does; the answer then waits until they exist.

use super::create_topics::may_create;
use crate::codec::generated::metadata::{Broker, Partition, Request, Response, Topic, TopicWanted};
use crate::error::ErrorCode;
use crate::operation::{Env, Gather, Operation, Started};
use crate::reply::Reply;
use crate::topic::{check_new_name, NAMESPACE};
use koine_broker::access::Action;
use koine_broker::metadata::{Command, Durability, Named, Refusal, TopicSettings};
use koine_broker::session::{Event, NodeInfo};

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
        forbidden: Vec::new(),
    };
    let missing = if create { op.missing(env) } else { Vec::new() };
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
    /// Names that do not exist and may not be created by whoever asks.
    forbidden: Vec<String>,
}

impl MetadataOp {
    /// Names that do not exist and may be created, each once.
    fn missing(&mut self, env: &Env<'_, '_>) -> Vec<String> {
        let catalog = env.catalog();
        let mut missing: Vec<String> = self
            .wanted
            .iter()
            .flatten()
            .filter(|wanted| wanted.topic_id == NO_ID)
            .filter_map(|wanted| wanted.name.clone())
            .filter(|name| env.may_topic(Action::Describe, name).is_ok())
            .filter(|name| matches!(catalog.find(name), Err(ErrorCode::UnknownTopicOrPartition)))
            .collect();
        missing.sort_unstable();
        missing.dedup();
        let (missing, forbidden) =
            missing.into_iter().partition(|name| may_create(name, env).is_ok());
        self.forbidden = forbidden;
        let mut missing: Vec<String> = missing;
        missing.retain(|name| check_new_name(name).is_ok());
        missing
    }

    fn answer(&self, env: &mut Env<'_, '_>) {
        let node = env.ctx.node;
        let (host, port) = env.advertised();
        let is_visible = |name: &str| env.may_topic(Action::Describe, name).is_ok();
        let topics = match &self.wanted {
            None => {
                let all = env.catalog().all().filter(|(name, _)| is_visible(name));
                all.map(|(name, named)| self.found(name, named, env)).collect()
            }
            Some(wanted) => wanted.iter().map(|wanted| self.topic(wanted, env)).collect(),
        };
        let mut response = Response {
            brokers: vec![Broker { node_id: node.node_id, host, port, rack: None }],
            cluster_id: Some(node.cluster_id.clone()),
            controller_id: node.node_id,
            topics,
            ..Response::default()
        };
        if self.cluster_operations {
            response.cluster_authorized_operations = env.cluster_operations();
        }
        env.send(self.reply, |w, v| response.encode(w, v));
    }

    fn topic(&self, wanted: &TopicWanted, env: &Env<'_, '_>) -> Topic {
        let catalog = env.catalog();
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
        if let Err(error) = env.may_topic(Action::Describe, name) {
            // Ids are no secret, names are: each hears back what it said.
            return missing(wanted.name.clone(), error);
        }
        match catalog.find(name) {
            Ok(named) => self.found(name, named, env),
            Err(_) if self.forbidden.iter().any(|forbidden| forbidden == name) => {
                missing(Some(name.to_string()), ErrorCode::TopicAuthorizationFailed)
            }
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

    fn found(&self, name: &str, named: Named<'_>, env: &Env<'_, '_>) -> Topic {
        let node = env.ctx.node;
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
            topic.topic_authorized_operations = env.topic_operations(name);
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
