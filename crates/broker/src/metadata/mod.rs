//! The state machine of group 0: namespaces, topics, queues, exchanges, bindings, subject sessions,
//! users and rules.
//! Every shard keeps a copy and applies the same commands in the same order; reads are local.
//!
//! `apply` is deterministic: the same commands give the same state and outcomes on every copy. It must
//! never look at a clock, draw a random number or iterate a hash map where order can be seen.

mod apply;
pub mod command;
mod rights;
mod sessions;
mod snapshot;
#[cfg(test)]
mod tests;
mod topology;

pub use command::{
    BindingSpec, BindingTarget, Command, Durability, ExchangeKind, ExchangeSpec, NamespaceId,
    Outcome, QueueSpec, Refusal, SessionId, SubscriptionOptions, TopicSettings, Will, EXPIRY_NEVER,
};
pub use rights::TopicGuard;
pub use sessions::{SharedGroup, SubjectSession};

use crate::access::{Access, AccessLimits, DurableAccess};
use crate::router::Router;
use koine_base::{GroupId, StreamId, TopicId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// Name of the namespace that the AMQP vhost `/` stands for.
pub const DEFAULT_NAMESPACE: &str = "public/default";

/// A name with one or more streams, kept by a retention policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Topic {
    pub(crate) id: [u8; 16],
    /// One per partition.
    pub(crate) streams: Vec<u64>,
    pub settings: TopicSettings,
    /// Numbers below this had been given to producers before the topic was made.
    pub first_producer: i64,
}

impl Topic {
    pub fn id(&self) -> TopicId {
        TopicId(self.id)
    }

    pub fn partition_count(&self) -> u32 {
        u32::try_from(self.streams.len()).expect("bounded by partitions_max")
    }

    pub fn stream(&self, partition: i32) -> Option<StreamId> {
        let index = usize::try_from(partition).ok()?;
        self.streams.get(index).copied().map(StreamId::from_raw)
    }

    pub fn streams(&self) -> impl Iterator<Item = StreamId> + '_ {
        self.streams.iter().copied().map(StreamId::from_raw)
    }
}

/// A name with one stream, kept until settled by its shared cursor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Queue {
    pub(crate) stream: u64,
    pub(crate) id: [u8; 16],
    pub spec: QueueSpec,
}

impl Queue {
    pub fn stream(&self) -> StreamId {
        StreamId::from_raw(self.stream)
    }

    /// The id Kafka clients see for it.
    pub fn id(&self) -> TopicId {
        TopicId(self.id)
    }
}

/// What a stream belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamOwner {
    Topic {
        namespace: NamespaceId,
        name: String,
        partition: u32,
    },
    Queue {
        namespace: NamespaceId,
        name: String,
    },
    Backlog {
        session: SessionId,
    },
    /// A shared subscription: `$share/group/filter`.
    Shared {
        namespace: NamespaceId,
        group: String,
        filter: String,
    },
}

/// A topic or a queue, found by name.
#[derive(Clone, Copy, Debug)]
pub enum Named<'a> {
    Topic(&'a Topic),
    Queue(&'a Queue),
}

impl<'a> Named<'a> {
    /// Every stream of it; a queue has one.
    pub fn streams(self) -> Vec<StreamId> {
        match self {
            Named::Topic(topic) => topic.streams().collect(),
            Named::Queue(queue) => vec![queue.stream()],
        }
    }

    pub fn stream(self, partition: i32) -> Option<StreamId> {
        match self {
            Named::Topic(topic) => topic.stream(partition),
            Named::Queue(queue) => (partition == 0).then(|| queue.stream()),
        }
    }

    pub fn partition_count(self) -> u32 {
        match self {
            Named::Topic(topic) => topic.partition_count(),
            Named::Queue(_) => 1,
        }
    }

    pub fn id(self) -> TopicId {
        match self {
            Named::Topic(topic) => topic.id(),
            Named::Queue(queue) => queue.id(),
        }
    }
}

/// One group of the node and the promise of the streams in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct GroupState {
    /// False for groups whose commits wait for the disk, true for `replicated` and `memory`.
    pub relaxed: bool,
    /// Sequence of the next stream placed in it; never reused.
    pub next_sequence: u64,
    /// Streams that live in it now.
    pub stream_count: u64,
}

type Name = (NamespaceId, String);

/// What becomes durable of this state machine; see `snapshot`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Durable {
    pub namespaces: Vec<String>,
    pub groups: Vec<GroupState>,
    pub topics: BTreeMap<Name, Topic>,
    pub queues: BTreeMap<Name, Queue>,
    pub exchanges: BTreeMap<Name, ExchangeSpec>,
    pub sessions: BTreeMap<SessionId, SubjectSession>,
    pub shared: BTreeMap<(NamespaceId, String, String), SharedGroup>,
    pub next_session: u64,
    pub next_producer_id: i64,
    /// Number of the next use of a packet identifier that is noted; never reused.
    pub next_use: u64,
}

pub struct Metadata {
    durable: Durable,
    access: Access,
    limits: MetadataLimits,
    // Derived, rebuilt from `durable`:
    router: Router,
    by_topic_id: HashMap<TopicId, Name>,
    streams: HashMap<StreamId, StreamOwner>,
    by_client: BTreeMap<Name, SessionId>,
    /// Lets holders of derived data notice change.
    version: u64,
    rights_version: u64,
    revision: u64,
}

/// The node-wide bounds that `apply` enforces. The same on every copy.
#[derive(Clone, Copy, Debug)]
pub struct MetadataLimits {
    pub partitions_max: u32,
    pub objects_max: usize,
    pub bindings_max: usize,
    pub subscriptions_max: usize,
    pub name_bytes_max: usize,
    pub access: AccessLimits,
}

impl From<&crate::limits::Limits> for MetadataLimits {
    fn from(limits: &crate::limits::Limits) -> Self {
        MetadataLimits {
            partitions_max: limits.partitions_max,
            objects_max: limits.objects_max,
            bindings_max: limits.bindings_max,
            subscriptions_max: limits.subscriptions_max,
            name_bytes_max: limits.name_bytes_max,
            access: AccessLimits {
                users_max: limits.users_max,
                rules_max: limits.rules_max,
                name_bytes_max: limits.name_bytes_max,
            },
        }
    }
}

/// Side effects of an applied command that the node carries out beside the outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Streams whose data goes.
    pub deleted_streams: Vec<StreamId>,
    /// Connections (raw) that lost their session to another connection, and whether that one goes on
    /// with its state.
    pub taken: Vec<(u64, SessionId, bool)>,
    /// Connections (raw) whose session was ended under them.
    pub ended: Vec<(u64, SessionId)>,
}

impl Metadata {
    /// `relaxed[g]` tells for data group `g + 1` whether its commits wait for the disk.
    pub fn new(relaxed: &[bool], limits: MetadataLimits) -> Self {
        let metadata_group = GroupState { relaxed: false, next_sequence: 0, stream_count: 0 };
        let data = relaxed.iter().map(|relaxed| GroupState {
            relaxed: *relaxed,
            next_sequence: 0,
            stream_count: 0,
        });
        let durable = Durable {
            namespaces: vec![DEFAULT_NAMESPACE.to_owned()],
            groups: std::iter::once(metadata_group).chain(data).collect(),
            topics: BTreeMap::new(),
            queues: BTreeMap::new(),
            exchanges: BTreeMap::new(),
            sessions: BTreeMap::new(),
            shared: BTreeMap::new(),
            next_session: 1,
            next_producer_id: 1,
            next_use: 1,
        };
        Self::from_durable(durable, Vec::new(), DurableAccess::default(), limits)
            .expect("nothing in it is unsound")
    }

    /// Grows with each applied command that may change what is looked up here.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Grows with each change of users, rules or topics: what anybody may do to a subject, as far as it was
    /// asked before, is void. Connections that come and go leave it alone.
    pub fn rights_version(&self) -> u64 {
        self.rights_version
    }

    /// Grows with each applied command.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// This takes the place of `before`: whoever derived something from that notices.
    pub fn follow(&mut self, before: &Metadata) {
        self.version = before.version + 1;
        self.rights_version = before.rights_version + 1;
        self.access.follow(&before.access);
    }

    /// Users and rules.
    pub fn access(&self) -> &Access {
        &self.access
    }

    pub fn router(&self) -> &Router {
        &self.router
    }

    /// The namespace of an AMQP vhost: `/` is the default one.
    pub fn vhost(&self, vhost: &str) -> Option<NamespaceId> {
        (vhost == "/").then_some(NamespaceId(0))
    }

    pub fn topic(&self, namespace: NamespaceId, name: &str) -> Option<&Topic> {
        self.durable.topics.get(&(namespace, name.to_owned()))
    }

    pub fn queue(&self, namespace: NamespaceId, name: &str) -> Option<&Queue> {
        self.durable.queues.get(&(namespace, name.to_owned()))
    }

    pub fn named(&self, namespace: NamespaceId, name: &str) -> Option<Named<'_>> {
        let key = (namespace, name.to_owned());
        match self.durable.topics.get(&key) {
            Some(topic) => Some(Named::Topic(topic)),
            None => self.durable.queues.get(&key).map(Named::Queue),
        }
    }

    /// Name of the topic or queue with this id.
    pub fn name_of(&self, id: TopicId) -> Option<(NamespaceId, &str)> {
        self.by_topic_id.get(&id).map(|(namespace, name)| (*namespace, name.as_str()))
    }

    /// In order of name.
    pub fn topics(&self, namespace: NamespaceId) -> impl Iterator<Item = (&str, &Topic)> {
        self.durable
            .topics
            .range((namespace, String::new())..)
            .take_while(move |((ns, _), _)| *ns == namespace)
            .map(|((_, name), topic)| (name.as_str(), topic))
    }

    /// In order of name.
    pub fn queues(&self, namespace: NamespaceId) -> impl Iterator<Item = (&str, &Queue)> {
        self.durable
            .queues
            .range((namespace, String::new())..)
            .take_while(move |((ns, _), _)| *ns == namespace)
            .map(|((_, name), queue)| (name.as_str(), queue))
    }

    /// A declared or predeclared exchange; the default exchange is "".
    pub fn exchange(&self, namespace: NamespaceId, name: &str) -> Option<ExchangeSpec> {
        topology::predeclared(name)
            .or_else(|| self.durable.exchanges.get(&(namespace, name.to_owned())).cloned())
    }

    /// Declared exchanges, in order of name (not the predeclared ones).
    pub fn exchanges(&self, namespace: NamespaceId) -> impl Iterator<Item = (&str, &ExchangeSpec)> {
        self.durable
            .exchanges
            .range((namespace, String::new())..)
            .take_while(move |((ns, _), _)| *ns == namespace)
            .map(|((_, name), spec)| (name.as_str(), spec))
    }

    pub fn session(&self, session: SessionId) -> Option<&SubjectSession> {
        self.durable.sessions.get(&session)
    }

    pub fn session_of_client(&self, namespace: NamespaceId, client_id: &str) -> Option<SessionId> {
        self.by_client.get(&(namespace, client_id.to_owned())).copied()
    }

    /// In order of id.
    pub fn sessions(&self) -> impl Iterator<Item = (SessionId, &SubjectSession)> {
        self.durable.sessions.iter().map(|(id, session)| (*id, session))
    }

    /// The stream behind a shared subscription.
    pub fn shared(
        &self,
        namespace: NamespaceId,
        group: &str,
        filter: &str,
    ) -> Option<&SharedGroup> {
        self.durable.shared.get(&(namespace, group.to_owned(), filter.to_owned()))
    }

    pub fn stream_owner(&self, stream: StreamId) -> Option<&StreamOwner> {
        self.streams.get(&stream)
    }

    /// Every stream with its owner, in no order.
    pub fn streams(&self) -> impl Iterator<Item = (StreamId, &StreamOwner)> {
        self.streams.iter().map(|(stream, owner)| (*stream, owner))
    }

    /// True if a stream of this number was placed once, whether or not it still lives.
    pub fn was_placed(&self, stream: StreamId) -> bool {
        let group = self.durable.groups.get(usize::from(stream.group().0));
        group.is_some_and(|group| stream.sequence() < group.next_sequence)
    }

    pub fn group_count(&self) -> usize {
        self.durable.groups.len()
    }

    /// True if commits of this group do not wait for the disk.
    pub fn is_relaxed(&self, group: GroupId) -> bool {
        self.durable.groups.get(usize::from(group.0)).is_some_and(|group| group.relaxed)
    }

    /// The group that keeps a consumer group's membership and offsets: one whose commits are on disk.
    pub fn coordinator(&self, group_name: &str) -> GroupId {
        let strict: Vec<u16> = (1u16..)
            .zip(&self.durable.groups[1..])
            .filter(|(_, group)| !group.relaxed)
            .map(|(number, _)| number)
            .collect();
        assert!(!strict.is_empty(), "the layout of every node has an fsync group");
        let hash = koine_base::checksum::crc32c(group_name.as_bytes()) as usize;
        GroupId(strict[hash % strict.len()])
    }

    /// True if `connection` (raw) owns exclusive queues or a session, so that its end must be told.
    pub fn is_bound_to(&self, connection: u64) -> bool {
        self.durable.queues.values().any(|queue| queue.spec.exclusive == Some(connection))
            || self.durable.sessions.values().any(|session| session.connection == Some(connection))
    }
}
