//! The commands of group 0 and their outcomes. A command is data: it is proposed by a session or the
//! node, replicated, and applied in the same order on every copy of [`super::Metadata`].

use crate::access::AccessCommand;
use crate::message::HeaderValue;
use koine_base::{StreamId, TopicId};
use serde::{Deserialize, Serialize};

/// Index of a namespace. `public/default`, the AMQP vhost `/`, is 0.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct NamespaceId(pub u32);

/// Identifies a subject session (an MQTT session) for its whole life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionId(pub u64);

/// When an append is acknowledged (design: durability levels). Fixed when a stream is created,
/// because it decides which group carries the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Durability {
    /// A majority of replicas has it on disk.
    Fsync,
    /// A majority has it in memory; flushed within 100 ms or 1 MiB.
    Replicated,
    /// The leader has it in memory; flushed when convenient.
    Memory,
}

/// Topic settings that differ from the node's defaults; `None` means the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicSettings {
    /// Age in milliseconds after which records go; -1 keeps them for ever.
    pub retention_ms: Option<i64>,
    /// Size per stream in bytes above which the oldest records go; -1 is no limit.
    pub retention_bytes: Option<i64>,
    /// Largest batch accepted.
    pub message_bytes_max: Option<u32>,
    /// Timestamps are set by the broker at append.
    pub log_append_time: Option<bool>,
    /// Only looked at when the topic is created.
    pub durability: Option<Durability>,
}

/// What a queue was declared with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QueueSpec {
    pub durable: bool,
    /// The raw id of the one connection that may use it; deleted with that connection.
    pub exclusive: Option<u64>,
    /// Deleted when its last consumer goes.
    pub auto_delete: bool,
    /// The arguments as declared, in order, for equivalence checks and listings.
    pub arguments: Vec<(String, HeaderValue)>,
}

/// How an exchange reads routing keys and headers (AMQP 0-9-1 §3.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ExchangeKind {
    /// The key is the binding key.
    Direct,
    /// Everything.
    Fanout,
    /// The binding key is a filter.
    Topic,
    /// The binding's arguments are asked of the message's headers.
    Headers,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExchangeSpec {
    pub kind: ExchangeKind,
    pub durable: bool,
    /// Deleted when its last binding as a source goes.
    pub auto_delete: bool,
    /// Clients may not publish to it.
    pub internal: bool,
    pub arguments: Vec<(String, HeaderValue)>,
}

/// The receiving end of a binding, by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum BindingTarget {
    Queue(String),
    Exchange(String),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BindingSpec {
    pub source: String,
    pub target: BindingTarget,
    /// The binding key, as sent.
    pub key: Vec<u8>,
    pub arguments: Vec<(String, HeaderValue)>,
}

/// How a session wants what matches one filter (MQTT 5 §3.8.3.1).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct SubscriptionOptions {
    /// Highest QoS to deliver with, 0 to 2.
    pub qos_max: u8,
    /// Not what this session itself published.
    pub no_local: bool,
    pub retain_as_published: bool,
    /// 0 send retained messages, 1 only if the subscription is new, 2 never.
    pub retain_handling: u8,
    pub identifier: Option<u32>,
}

/// A message to publish when a session ends badly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Will {
    /// MQTT topic name.
    pub topic: String,
    /// [`crate::message::Content::encode`].
    pub content: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    /// Milliseconds between the end of the connection and the publish.
    pub delay_ms: u64,
    /// Life time of the published message in milliseconds.
    pub expiry_ms: Option<u64>,
}

/// A session that never expires.
pub const EXPIRY_NEVER: u64 = u64::MAX;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// First command of a node's life: transient queues, exchanges and sessions of earlier lives go,
    /// every session is disconnected.
    NodeStarted {
        at: i64,
    },
    CreateTopic {
        namespace: NamespaceId,
        name: String,
        /// At least 1.
        partitions: u32,
        settings: TopicSettings,
        /// Random, made by the proposer; never all zero.
        id: [u8; 16],
    },
    DeleteTopic {
        namespace: NamespaceId,
        name: String,
    },
    /// Grows to `total` partitions.
    AddPartitions {
        namespace: NamespaceId,
        name: String,
        total: u32,
    },
    AlterTopic {
        namespace: NamespaceId,
        name: String,
        settings: TopicSettings,
    },
    DeclareQueue {
        namespace: NamespaceId,
        name: String,
        spec: QueueSpec,
        id: [u8; 16],
    },
    DeleteQueue {
        namespace: NamespaceId,
        name: String,
    },
    DeclareExchange {
        namespace: NamespaceId,
        name: String,
        spec: ExchangeSpec,
    },
    /// With `if_unused`, refused while bindings have it as their source.
    DeleteExchange {
        namespace: NamespaceId,
        name: String,
        if_unused: bool,
    },
    Bind {
        namespace: NamespaceId,
        binding: BindingSpec,
    },
    /// Unbinding what is not bound succeeds.
    Unbind {
        namespace: NamespaceId,
        binding: BindingSpec,
    },
    OpenSession {
        namespace: NamespaceId,
        client_id: String,
        /// Raw id of the connection that takes the session.
        connection: u64,
        clean_start: bool,
        /// Kept this long after the connection ends; 0 ends with it, [`EXPIRY_NEVER`] never.
        expiry_ms: u64,
        will: Option<Will>,
        /// Who opens it; `None` on a node without users. A session of somebody else is refused.
        user: Option<String>,
        at: i64,
    },
    /// The connection ended. Ignored if another connection has taken the session meanwhile.
    CloseSession {
        session: SessionId,
        connection: u64,
        /// Replaces the expiry given at opening.
        expiry_ms: Option<u64>,
        publish_will: bool,
        at: i64,
    },
    /// Ends a session now whoever is connected (administration).
    DeleteSession {
        session: SessionId,
        at: i64,
    },
    Subscribe {
        session: SessionId,
        /// MQTT filters (valid; `$share/group/filter` for shared ones).
        filters: Vec<(String, SubscriptionOptions)>,
    },
    Unsubscribe {
        session: SessionId,
        filters: Vec<String>,
    },
    /// Sets the retained message of a subject, or clears it with `content: None`.
    Retain {
        namespace: NamespaceId,
        topic: String,
        content: Option<Vec<u8>>,
        qos: u8,
        /// Absolute, milliseconds since 1970.
        expires_at: Option<i64>,
    },
    /// A will was published; forget it.
    WillPublished {
        session: SessionId,
    },
    /// Packet identifiers of exactly-once exchanges that must outlive the connection. Outcome: `Noted`.
    NotePackets {
        session: SessionId,
        /// Raw id of the connection that speaks. One that lost the session meanwhile notes nothing.
        connection: u64,
        /// Identifiers whose use begins; see [`super::SubjectSession::received`].
        noted: Vec<u16>,
        /// Identifiers with the number of the use that ends. Carried out before `noted`.
        released: Vec<(u16, u64)>,
        /// Noted (true) or forgotten (false); see [`super::SubjectSession::unreleased`].
        unreleased: Vec<(u16, bool)>,
    },
    /// Ends every session whose time is up.
    ExpireSessions {
        at: i64,
    },
    AllocateProducerId,
    /// A connection ended: its exclusive queues go and its session is closed as if it broke.
    ReleaseConnection {
        connection: u64,
        at: i64,
    },
    /// A change of users or rules. Outcome: `Deleted` for what takes something away.
    Access(Box<AccessCommand>),
}

/// What a command did, for whoever proposed it.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Done,
    TopicCreated {
        id: TopicId,
        streams: Vec<StreamId>,
    },
    /// The queue now exists; `created` is false if it (or a topic of that name) already did.
    QueueDeclared {
        stream: StreamId,
        created: bool,
    },
    Deleted {
        existed: bool,
    },
    SessionOpened {
        session: SessionId,
        /// State was kept from before.
        present: bool,
        /// Raw id of the connection that lost the session.
        taken_from: Option<u64>,
    },
    /// Per filter: whether the subscription is new.
    Subscribed {
        new: Vec<bool>,
    },
    /// Per filter: whether there was such a subscription.
    Unsubscribed {
        existed: Vec<bool>,
    },
    ProducerId(i64),
    /// The number of the uses of packet identifiers that begin.
    Noted {
        use_number: u64,
    },
}

/// Why the broker said no. Each protocol's error table maps every reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No such topic, queue, exchange, session or stream.
    NotFound,
    AlreadyExists,
    /// The name is taken by the other kind (topic or queue).
    OtherKind,
    /// Not a legal name, or a reserved one.
    InvalidName,
    InvalidPartitions,
    InvalidSettings,
    /// It is in use (bindings, consumers).
    InUse,
    NotEmpty,
    /// Another connection has exclusive use.
    Exclusive,
    /// Predeclared objects cannot be changed.
    Predeclared,
    OffsetOutOfRange,
    /// The stored bytes are damaged.
    Corrupt,
    /// The user may not.
    NotAuthorized,
    /// A bounded resource is used up.
    QuotaExceeded,
    /// The disk is full or the node is overloaded; try again.
    Busy,
    /// This node does not lead the group now.
    NotLeader,
    /// The command waits too long, or its connection or stream went away.
    Cancelled,
    DuplicateSequence {
        base_offset: u64,
    },
    OutOfOrderSequence,
    InvalidProducerEpoch,
    TooLarge,
}
