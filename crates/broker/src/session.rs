//! The port between protocols and the engine. A protocol implements [`Session`], one per connection:
//! a state machine that is fed bytes, events and time, and answers with bytes for the peer and
//! [`Request`]s for the engine, through its [`Context`]. It never waits: every answer comes later as an
//! [`Event`] that carries the token of its request.
//!
//! Order: requests of one session to one stream are carried out in the order they were made. Their
//! events come back in that order too, but for answers that wait for the disk, which come when it is
//! done.

use crate::access::{Principal, Secret, SecretRng};
use crate::batch::{BatchInfo, Record};
use crate::limits::Limits;
use crate::membership;
use crate::message::{Annotation, Content, Dialects};
use crate::metadata::{Command, Metadata, NamespaceId, Outcome, Refusal, SessionId};
use crate::offsets::CommittedOffset;
use crate::once::OnceId;
use crate::overload::Alarms;
use crate::retained::ScanPosition;
use bytes::{Bytes, BytesMut};
use koine_base::rng::Rng;
use koine_base::{ConnectionId, Moment, Now, Rope, StreamId, Timestamp};
use std::net::IpAddr;
use std::net::SocketAddr;

/// Chosen by a session, unique among its open requests, returned with the answer.
pub type Token = u64;

/// Chosen by a session, unique among its consumers.
pub type ConsumerId = u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    Kafka,
    Amqp091,
    Mqtt,
    /// The node's own administration interface.
    Admin,
}

impl Protocol {
    pub const ALL: [Protocol; 4] =
        [Protocol::Kafka, Protocol::Amqp091, Protocol::Mqtt, Protocol::Admin];

    pub const COUNT: usize = Self::ALL.len();

    pub fn index(self) -> usize {
        self as usize
    }

    pub fn name(self) -> &'static str {
        match self {
            Protocol::Kafka => "kafka",
            Protocol::Amqp091 => "amqp",
            Protocol::Mqtt => "mqtt",
            Protocol::Admin => "admin",
        }
    }
}

/// The two ends of a connection as the socket sees them, and what TLS says of the other one.
#[derive(Clone, Debug)]
pub struct Peer {
    pub remote: SocketAddr,
    /// The address the peer reached.
    pub local: SocketAddr,
    /// `None`: the connection is not encrypted.
    pub tls: Option<TlsPeer>,
}

/// The other end of an encrypted connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsPeer {
    /// Verified, chain and period, before the session began; `None` if the peer showed none or was not
    /// asked for one.
    pub certificate: Option<ClientCertificate>,
    /// The user name that the certificate stands for (setting `tls.user_from`); `None` if it has no
    /// such name.
    pub user: Option<String>,
}

/// Who a client certificate was made out to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The subject as RFC 4514 has it, last part first: `CN=alice,OU=dev,O=Koine`.
    pub subject: String,
    /// The most specific common name of the subject.
    pub common_name: Option<String>,
    /// Alternative names, in the order of the certificate.
    pub dns_names: Vec<String>,
    pub email_addresses: Vec<String>,
}

impl Peer {
    /// Of a connection that is not encrypted.
    pub fn plain(remote: SocketAddr, local: SocketAddr) -> Self {
        Peer { remote, local, tls: None }
    }

    /// Whether it speaks from this machine. An IPv4 address that came as IPv6 (`::ffff:127.0.0.1`) is
    /// judged as what it is.
    pub fn is_loopback(&self) -> bool {
        self.remote.ip().to_canonical().is_loopback()
    }
}

/// What a node says of itself; fixed while it runs, but for `epochs`.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    pub node_id: i32,
    pub cluster_id: String,
    pub version: &'static str,
    /// Host and port to tell Kafka clients instead of the address they reached.
    pub advertised_kafka: Option<(String, u16)>,
    pub auto_create_topics: bool,
    pub default_partitions: u32,
    pub default_retention_ms: i64,
    pub default_retention_bytes: i64,
    pub default_durability: crate::metadata::Durability,
    /// Leader epoch of each group of the node, by number; what this shard last heard.
    pub epochs: Vec<i32>,
}

impl NodeInfo {
    /// The leader epoch of a stream; -1 if it is not known.
    pub fn epoch(&self, stream: StreamId) -> i32 {
        self.epochs.get(usize::from(stream.group().0)).copied().unwrap_or(-1)
    }
}

/// Everything a session may look at or leave behind during one step.
pub struct Context<'a> {
    pub now: Now,
    pub connection: ConnectionId,
    /// This shard's copy: complete up to some recent command, and always up to those whose outcome
    /// this session has been told.
    pub metadata: &'a Metadata,
    pub dialects: &'a Dialects,
    pub limits: &'a Limits,
    pub node: &'a NodeInfo,
    /// For generated names and ids; not for secrets.
    pub rng: &'a mut Rng,
    /// For nonces and salts.
    pub secret_rng: &'a mut SecretRng,
    pub out: &'a mut Output,
    pub meter: &'a mut Meter,
    /// What the node is short of.
    pub alarms: Alarms,
    /// False: the engine leaves this peer's input in its socket, so that its silence means nothing.
    pub is_read: bool,
    /// Bytes that may be gathered for this peer at once: less than its `output_bytes_max` allows while
    /// many peers leave theirs unread. What is one whole (a batch, a message) may be larger.
    pub output_room: usize,
}

/// What one or more steps left behind.
#[derive(Default)]
pub struct Output {
    /// Bytes for the peer.
    pub wire: Rope,
    pub requests: Vec<Request>,
    /// Close the connection once `wire` is written.
    pub close: bool,
}

impl Output {
    pub fn request(&mut self, request: Request) {
        self.requests.push(request);
    }
}

/// Counters of one shard and protocol, added up over all connections when scraped.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    pub messages_in: u64,
    pub message_bytes_in: u64,
    pub messages_out: u64,
    pub message_bytes_out: u64,
    pub acked: u64,
    pub redelivered: u64,
    pub unroutable: u64,
    /// Volatile (QoS 0) deliveries dropped because the receiver was too slow.
    pub dropped_slow: u64,
    /// Likewise, because the node's budget for output was used up and this receiver had a share of it.
    pub dropped_memory: u64,
    /// Publishes without an acknowledgement (QoS 0) that were not stored for lack of disk space.
    pub dropped_no_space: u64,
    /// Messages not stored for a session because its backlog is full.
    pub dropped_backlog_full: u64,
    /// Messages a receiver cannot be sent: over its packet limit, or an address it cannot spell.
    pub dropped_undeliverable: u64,
    /// Operations refused, and messages not published or delivered, for lack of permission.
    pub refused: u64,
    /// Connections closed because they kept the node's memory and took nothing.
    pub evicted: u64,
    /// Times that a connection was told, or made, to stop publishing.
    pub blocked: u64,
    /// Peers that broke their protocol.
    pub violations: u64,
    pub requests: u64,
    pub request_errors: u64,
    /// Microseconds from append to delivery, by writer's origin number; bucket i counts < 2^i.
    pub delivery_latency: [[u64; LATENCY_BUCKETS]; crate::message::Origin::COUNT],
    pub delivery_latency_sum_us: [u64; crate::message::Origin::COUNT],
}

pub const LATENCY_BUCKETS: usize = 32;

/// Where one publish goes, decided by [`crate::publish`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    pub streams: Vec<StreamId>,
    /// Copies for session backlogs, each with how that session wants it.
    pub backlogs: Vec<(StreamId, Annotation)>,
    /// Connected sessions that get it live and volatile.
    pub live: Vec<(ConnectionId, Annotation)>,
}

impl Route {
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty() && self.backlogs.is_empty() && self.live.is_empty()
    }
}

/// What happens to delivered records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// Consumed.
    Ack,
    /// Back to its place in the stream; the next delivery is flagged redelivered.
    Release,
    /// Gone without being consumed (AMQP reject or nack without requeue).
    Discard,
    /// The receiver has it, but the exchange is not complete (MQTT PUBREC): never delivered again,
    /// still remembered until acknowledged, across connections and restarts.
    Half,
}

/// A range of offsets, both ends included.
pub type OffsetRange = (u64, u64);

/// Attaches a consumer to the shared cursor of a stream.
#[derive(Clone, Debug)]
pub struct Attach {
    pub stream: StreamId,
    pub consumer: ConsumerId,
    /// Deliveries allowed at first; `u32::MAX` is without limit.
    pub credit: u32,
    /// Deliveries count as acknowledged when handed out.
    pub auto_settle: bool,
    /// Refused while others consume; refuses others afterwards.
    pub exclusive: bool,
    /// Higher first while it has credit.
    pub priority: i32,
    /// Offsets at or above the cursor's floor plus this are not handed out yet; `u64::MAX` is without
    /// limit.
    pub offset_span_max: u64,
}

/// What a session asks of the engine. Where a token is given, exactly one event answers it.
#[derive(Debug)]
pub enum Request {
    /// Event: `Proposed`.
    Propose { token: Token, command: Command },
    /// Append a copy to every stream of the route, hand it to the live ones. Event: `Published` once
    /// every copy is as durable as its stream promises; none without a token. With `once`, a stream
    /// that holds a copy of that publish already takes no second one; live ones may see it twice.
    Publish { token: Option<Token>, content: Content, route: Route, once: Option<OnceId> },
    /// Append a validated Kafka batch verbatim. Event: `Appended`; none without a token.
    Append { token: Option<Token>, stream: StreamId, batch: Bytes, info: BatchInfo },
    /// Whole batches from the one that holds `offset`; at least one if there is any, however large.
    /// Event: `Read`.
    Read { token: Token, stream: StreamId, offset: u64, bytes_max: u32 },
    /// Event: `Grown` once, when the committed end of the stream passes `offset`.
    Watch { token: Token, stream: StreamId, offset: u64 },
    /// Forget a watch; its event may still be under way.
    Unwatch { token: Token, stream: StreamId },
    /// Event: `Bounds`.
    Bounds { token: Token, stream: StreamId },
    /// First record at or after a time. Event: `Located`.
    Locate { token: Token, stream: StreamId, timestamp: Timestamp },
    /// Where the leader epoch that holds `epoch` ends. Event: `EpochEnd`.
    EpochEnd { token: Token, stream: StreamId, epoch: i32 },
    /// Delete records below `offset` (`u64::MAX`: all). Event: `Bounds`.
    Trim { token: Token, stream: StreamId, offset: u64 },
    /// Event: `Attached`, then `Deliveries`.
    Attach { token: Token, attach: Attach },
    /// Allow `add` more deliveries.
    Credit { stream: StreamId, consumer: ConsumerId, add: u32 },
    /// Gives the consumer nothing more; it may still settle what it holds. Event: `Stopped`, after
    /// the last delivery.
    Stop { token: Token, stream: StreamId, consumer: ConsumerId },
    /// What it holds unsettled is released. Event: `Detached`.
    Detach { token: Token, stream: StreamId, consumer: ConsumerId },
    /// Settle what `consumer` was delivered. Unknown offsets are ignored. No event.
    Settle {
        stream: StreamId,
        consumer: ConsumerId,
        ranges: Vec<OffsetRange>,
        settlement: Settlement,
    },
    /// Event: `Synced` once all that was asked of the stream before, settlements included, is as durable
    /// as the stream promises.
    Sync { token: Token, stream: StreamId },
    /// Take one record without a consumer; with `auto_settle` it is acknowledged at once, else it is
    /// leased to `consumer`, which need not be attached. Event: `Pulled`.
    Pull { token: Token, stream: StreamId, consumer: ConsumerId, auto_settle: bool },
    /// Acknowledge all that is ready. Event: `Purged`.
    Purge { token: Token, stream: StreamId },
    /// Event: `Status`.
    Status { token: Token, stream: StreamId },
    /// Delete a queue if the conditions hold, checked by its owner. Event: `QueueDeleted`.
    DeleteQueue {
        token: Token,
        namespace: NamespaceId,
        name: String,
        if_unused: bool,
        if_empty: bool,
    },
    /// Some of the retained messages that match an MQTT filter, from behind `after` on. Event:
    /// `Retained`.
    Retained { token: Token, namespace: NamespaceId, filter: String, after: Option<ScanPosition> },
    /// Consumer-group membership. Event: `Group`.
    Group { token: Token, request: membership::Request },
    /// Commit offsets for a group (validated against its membership first). Event: `Committed`.
    CommitOffsets {
        token: Token,
        group: String,
        /// `None` commits without membership (simple consumers, administration).
        member: Option<membership::CommitMember>,
        offsets: Vec<(String, i32, CommittedOffset)>,
    },
    /// Event: `Offsets`; `None` asks for all of the group.
    FetchOffsets { token: Token, group: String, partitions: Option<Vec<(String, i32)>> },
    /// Event: `Committed`.
    DeleteOffsets { token: Token, group: String, partitions: Vec<(String, i32)> },
    /// All groups this node coordinates. Event: `Groups`.
    ListGroups { token: Token },
    /// Is this peer who it says? Event: `Authenticated`; if it is not, after a delay that says nothing
    /// about why. From then on the connection counts as its user's.
    Authenticate { token: Token, address: IpAddr, credentials: Credentials },
}

/// What a peer shows to be let in.
#[derive(Debug)]
pub enum Credentials {
    Password {
        user: String,
        password: Secret,
    },
    /// SCRAM's exchange is through; whether the proof was right.
    Scram {
        user: String,
        is_right: bool,
    },
    /// TLS has verified its certificate, which names this user.
    Certificate {
        user: String,
    },
}

/// Why a peer is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginRefusal {
    /// No such user, or not its password: nobody is told which.
    Wrong,
    /// Its user has as many connections as it may.
    TooManyConnections { connections_max: u32 },
    /// Too many logins wait to be checked.
    Busy,
}

/// One record handed to a consumer.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub offset: u64,
    pub record: Record,
    /// It may have been delivered before.
    pub redelivered: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamBounds {
    /// Offset of the oldest record kept.
    pub start: u64,
    /// Offset the next record will get; everything below is committed.
    pub end: u64,
    /// Leader epoch of the stream's group.
    pub epoch: i32,
}

#[derive(Clone, Debug)]
pub struct ReadBatches {
    pub batches: Vec<Bytes>,
    pub bounds: StreamBounds,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    pub base_offset: u64,
    pub log_start: u64,
    /// Set if the broker stamped the batch.
    pub log_append_time: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueStatus {
    pub ready: u64,
    pub unacked: u64,
    pub consumers: u32,
    pub bytes: u64,
}

#[derive(Clone, Debug)]
pub struct RetainedMessage {
    /// MQTT topic name.
    pub topic: String,
    pub content: Content,
    pub qos: u8,
    pub expires_at: Option<Timestamp>,
}

/// Some of the retained messages that a filter matches.
#[derive(Clone, Debug)]
pub struct RetainedPage {
    pub messages: Vec<RetainedMessage>,
    /// There may be more behind this.
    pub rest: Option<ScanPosition>,
}

/// What the engine tells a session.
#[derive(Debug)]
pub enum Event {
    Proposed {
        token: Token,
        result: Result<Outcome, Refusal>,
    },
    Published {
        token: Token,
        result: Result<(), Refusal>,
    },
    Appended {
        token: Token,
        result: Result<Appended, Refusal>,
    },
    /// `OffsetOutOfRange` comes with the bounds in a following `Bounds` request, if wanted.
    Read {
        token: Token,
        result: Result<ReadBatches, Refusal>,
    },
    Grown {
        token: Token,
    },
    Bounds {
        token: Token,
        result: Result<StreamBounds, Refusal>,
    },
    /// The largest epoch at or below the one asked for, and the offset after its last record;
    /// `None` if the stream knows no such epoch.
    EpochEnd {
        token: Token,
        result: Result<Option<(i32, u64)>, Refusal>,
    },
    /// Offset and timestamp of the record found.
    Located {
        token: Token,
        result: Result<Option<(u64, Timestamp)>, Refusal>,
    },
    /// On success: offsets this cursor holds half-settled, oldest first.
    Attached {
        token: Token,
        result: Result<Vec<u64>, Refusal>,
    },
    Stopped {
        token: Token,
    },
    Synced {
        token: Token,
        /// Refused: what of it is durable is not known.
        result: Result<(), Refusal>,
    },
    Detached {
        token: Token,
    },
    Deliveries {
        consumer: ConsumerId,
        stream: StreamId,
        deliveries: Vec<Delivery>,
    },
    /// The stream is gone or unreadable: the consumer is detached.
    ConsumerCancelled {
        consumer: ConsumerId,
        stream: StreamId,
    },
    /// A record, and how many stay ready behind it.
    Pulled {
        token: Token,
        result: Result<Option<(Delivery, u64)>, Refusal>,
    },
    Purged {
        token: Token,
        result: Result<u64, Refusal>,
    },
    Status {
        token: Token,
        result: Result<QueueStatus, Refusal>,
    },
    /// How many ready messages went with the queue.
    QueueDeleted {
        token: Token,
        result: Result<u64, Refusal>,
    },
    Retained {
        token: Token,
        result: Result<RetainedPage, Refusal>,
    },
    Group {
        token: Token,
        answer: membership::Answer,
    },
    Committed {
        token: Token,
        result: Result<(), membership::GroupError>,
    },
    Offsets {
        token: Token,
        result: Result<Vec<(String, i32, Option<CommittedOffset>)>, membership::GroupError>,
    },
    Groups {
        token: Token,
        groups: Vec<membership::GroupListing>,
    },
    Authenticated {
        token: Token,
        result: Result<Principal, LoginRefusal>,
    },
    /// A volatile delivery to a subject session.
    Live {
        content: Content,
        annotation: Annotation,
    },
    /// Another connection has taken this connection's session; `resumed` if it goes on with its state.
    /// This connection publishes its own will if that is due (delay 0, or not resumed), and closes.
    SessionTaken {
        session: SessionId,
        resumed: bool,
    },
    /// The session was ended by administration or expiry.
    SessionEnded {
        session: SessionId,
    },
}

/// One connection's protocol state machine.
pub trait Session {
    fn protocol(&self) -> Protocol;

    /// Consumes the whole frames at the front of `input`; leaves a partial one there. May leave whole
    /// frames as well while [`Self::wants_input`] is false; it is called again (with no new bytes) after
    /// an event changed that.
    fn receive(&mut self, input: &mut BytesMut, ctx: &mut Context<'_>);

    fn event(&mut self, event: Event, ctx: &mut Context<'_>);

    /// Called once after all the input and events that one turn brought: the place to join what
    /// several of them left to say, such as acknowledgements. A session must not rely on it alone:
    /// with something left to say its deadline has come.
    fn flush(&mut self, _ctx: &mut Context<'_>) {}

    /// Called at or soon after [`Self::deadline`].
    fn tick(&mut self, ctx: &mut Context<'_>);

    fn deadline(&self) -> Moment;

    /// False stops reading from the socket.
    fn wants_input(&self) -> bool {
        true
    }

    /// `ctx.alarms` has changed.
    fn alarms_changed(&mut self, _ctx: &mut Context<'_>) {}

    /// Users or rules have changed (`ctx.metadata.access()`): a session whose principal is not known any
    /// more ends, and what it may not do any more stops.
    fn access_changed(&mut self, ctx: &mut Context<'_>);

    /// What has come of frames and bodies that are not whole yet, in bytes. Not of those that wait for
    /// the end of an alarm: nothing may depend on their rest.
    fn partial_bytes(&self) -> usize {
        0
    }

    /// Bytes that the session has gathered for its peer beside those in its output.
    fn gathered_bytes(&self) -> usize {
        0
    }

    /// The peer has kept the node's memory for too long without taking what is its: say why, in the
    /// protocol's way, and set `close`.
    fn evict(&mut self, ctx: &mut Context<'_>) {
        ctx.out.close = true;
    }

    /// The peer is gone (or closed by us). Its consumers, watches and leases are released by the
    /// engine afterwards; requests made here are still carried out, their events go nowhere.
    fn disconnected(&mut self, ctx: &mut Context<'_>);

    /// The node is stopping: say goodbye in the protocol's way and set `close`.
    fn shutdown(&mut self, ctx: &mut Context<'_>);
}
