//! Everything that clients asked and heard, in the order in which it happened. It lives with the clients,
//! not with the broker, and survives it. The checkers in [`crate::check`] read it; it judges nothing.
//!
//! A *route* is a way to write (a partition, a queue, a subject with its QoS), a *sink* a place to
//! read (a partition's log, a queue, the session of a subscriber). Which sinks a route reaches is
//! fixed before the first write.

use crate::value::{Found, Value};
use koine_base::Moment;
use std::collections::BTreeMap;

/// A client. It is the same one over all of its connections.
pub type Process = u32;
pub type RouteId = usize;
pub type SinkId = usize;
/// Index of a write.
pub type WriteId = usize;

/// Place in the order of events; every event has its own.
pub type Order = u64;

#[derive(Clone, Debug)]
pub struct Route {
    pub name: String,
    pub sinks: Vec<SinkId>,
    /// Those of the sinks that get a copy of what another one gets: what is sent again with a sequence
    /// number is stored once there, and may be copied again.
    pub copies: Vec<SinkId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkKind {
    /// Read by offset. Unless it is `whole`, what consumers settled may be missing.
    Log { whole: bool },
    /// Taken and settled, by any number of consumers.
    Queue,
    /// An MQTT session that outlives its connections, with the QoS it subscribed with.
    Session { qos: u8 },
}

#[derive(Clone, Debug)]
pub struct Sink {
    pub name: String,
    pub kind: SinkKind,
}

/// What a writer is promised once its write is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// Nothing, and it is never acknowledged (MQTT QoS 0).
    Nothing,
    /// Nothing that an answer would tell: the broker publishes it at QoS 1 if the connection ends without
    /// goodbye, and again if it is killed before it has noted that (MQTT 5 §3.1.2.5, §4.3.2).
    Will,
    /// It is stored; a repetition by the client may be stored again (MQTT QoS 1).
    AtLeastOnce,
    /// It is stored, and once, however often the client repeats it (MQTT QoS 2).
    ExactlyOnce,
    /// It is stored, and once: the client does not repeat it, or with a sequence number.
    Once,
}

impl Promise {
    /// What was acknowledged has to be there.
    pub fn is_due(self) -> bool {
        !matches!(self, Promise::Nothing | Promise::Will)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not answered yet; the protocol may still repeat it.
    Open,
    /// With the offset it got, where the protocol tells.
    Ok(Option<i64>),
    /// It certainly did not happen, and never will.
    Failed,
    /// The connection ended before the answer: it may have happened, or may still.
    Unknown,
}

#[derive(Clone, Debug)]
pub struct Write {
    pub process: Process,
    pub value: Value,
    pub route: RouteId,
    pub promise: Promise,
    /// Writes of one process to one route with the same `lane` are in order.
    pub lane: u64,
    /// How often the client sent it again.
    pub repeats: u32,
    /// A try before the last one may have been refused, in words that the client did not live to hear.
    pub was_refusable: bool,
    pub outcome: Outcome,
    pub at: Moment,
    pub begun: Order,
    /// [`Order::MAX`] while it is open.
    pub ended: Order,
}

/// How a value came to a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// `after`: the offset that the same reader had read just before, if it has not sought since.
    Offset { offset: i64, after: Option<i64> },
    /// AMQP, with the `redelivered` flag.
    Delivered { redelivered: bool },
    /// MQTT, with the QoS of this delivery and its DUP flag.
    Pushed { qos: u8, dup: bool },
}

#[derive(Clone, Debug)]
pub struct Read {
    pub process: Process,
    /// Numbers the connections of a process.
    pub connection: u32,
    pub sink: SinkId,
    pub found: Found,
    pub how: How,
    pub at: Moment,
    pub order: Order,
}

/// A retained message set, or removed.
#[derive(Clone, Debug)]
pub struct Retain {
    pub topic: String,
    /// `None` removes it.
    pub value: Option<Value>,
    pub outcome: Outcome,
    pub begun: Order,
    pub ended: Order,
}

/// What a new subscription was told to be retained.
#[derive(Clone, Debug)]
pub struct RetainedSeen {
    pub topic: String,
    pub value: Option<Found>,
    /// When the subscription was asked for, and when all of the answer was there.
    pub asked: Order,
    pub heard: Order,
}

/// An offset commit of a group; each group has one process.
#[derive(Clone, Debug)]
pub struct Commit {
    pub group: String,
    pub sink: SinkId,
    pub offset: i64,
    pub outcome: Outcome,
    pub begun: Order,
    pub ended: Order,
}

#[derive(Clone, Debug)]
pub struct CommittedSeen {
    pub group: String,
    pub sink: SinkId,
    /// `None` if the group has none.
    pub offset: Option<i64>,
    pub asked: Order,
    pub heard: Order,
}

/// What else a client met.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Note {
    Connected,
    /// The connection ended without the client's wish.
    ConnectionLost,
    /// The broker said no, in words or a code. Legal as such: disks fill up, nodes shut down.
    Refused(String),
    /// The broker's bytes break the protocol.
    Malformed(String),
    /// A session, topic, queue or binding that was acknowledged is not there any more.
    ObjectLost(String),
    /// An idempotent producer repeats its oldest open batch and is told that it does not fit.
    SequenceLost(String),
    /// AMQP connection.blocked and connection.unblocked.
    Blocked,
    Unblocked,
    /// The broker claims the capability connection.blocked.
    TellsBlocked,
    /// A mandatory message came back.
    Returned,
    /// The client repeated writes after a reconnect.
    Repeated,
}

#[derive(Clone, Debug, Default)]
pub struct History {
    pub routes: Vec<Route>,
    pub sinks: Vec<Sink>,
    pub writes: Vec<Write>,
    pub reads: Vec<Read>,
    pub retains: Vec<Retain>,
    pub retained_seen: Vec<RetainedSeen>,
    pub commits: Vec<Commit>,
    pub committed_seen: Vec<CommittedSeen>,
    /// By process, with how often.
    pub notes: BTreeMap<(Process, Note), u64>,
    last: Order,
}

impl History {
    pub fn route(&mut self, name: impl Into<String>, sinks: &[SinkId]) -> RouteId {
        let (name, sinks) = (name.into(), sinks.to_vec());
        self.routes.push(Route { name, sinks, copies: Vec::new() });
        self.routes.len() - 1
    }

    pub fn sink(&mut self, name: impl Into<String>, kind: SinkKind) -> SinkId {
        self.sinks.push(Sink { name: name.into(), kind });
        self.sinks.len() - 1
    }

    /// The next place in the order of events.
    pub fn tick(&mut self) -> Order {
        self.last += 1;
        self.last
    }

    /// A write is about to leave.
    pub fn write(
        &mut self,
        at: Moment,
        value: Value,
        route: RouteId,
        promise: Promise,
        lane: u64,
    ) -> WriteId {
        let begun = self.tick();
        self.writes.push(Write {
            process: value.process,
            value,
            route,
            promise,
            lane,
            repeats: 0,
            was_refusable: false,
            outcome: Outcome::Open,
            at,
            begun,
            ended: Order::MAX,
        });
        self.writes.len() - 1
    }

    /// The client sends it again, as its protocol demands.
    pub fn repeat(&mut self, id: WriteId) {
        self.writes[id].repeats += 1;
    }

    /// [`Self::repeat`] in a protocol that can say no to one write and yes to the next.
    pub fn repeat_refusable(&mut self, id: WriteId) {
        self.repeat(id);
        self.writes[id].was_refusable = true;
    }

    pub fn end(&mut self, id: WriteId, outcome: Outcome) {
        let ended = self.tick();
        let write = &mut self.writes[id];
        debug_assert_eq!(write.outcome, Outcome::Open, "a write ends once");
        (write.outcome, write.ended) = (outcome, ended);
    }

    pub fn read(
        &mut self,
        at: Moment,
        (process, connection): (Process, u32),
        sink: SinkId,
        found: Found,
        how: How,
    ) {
        let order = self.tick();
        self.reads.push(Read { process, connection, sink, found, how, at, order });
    }

    pub fn retain(&mut self, topic: &str, value: Option<Value>) -> usize {
        let begun = self.tick();
        let (outcome, ended) = (Outcome::Open, Order::MAX);
        self.retains.push(Retain { topic: topic.to_owned(), value, outcome, begun, ended });
        self.retains.len() - 1
    }

    pub fn end_retain(&mut self, index: usize, outcome: Outcome) {
        let ended = self.tick();
        let retain = &mut self.retains[index];
        (retain.outcome, retain.ended) = (outcome, ended);
    }

    pub fn retained(&mut self, topic: &str, value: Option<Found>, asked: Order) {
        let heard = self.tick();
        self.retained_seen.push(RetainedSeen { topic: topic.to_owned(), value, asked, heard });
    }

    pub fn commit(&mut self, group: &str, sink: SinkId, offset: i64) -> usize {
        let begun = self.tick();
        let (outcome, ended) = (Outcome::Open, Order::MAX);
        self.commits.push(Commit { group: group.to_owned(), sink, offset, outcome, begun, ended });
        self.commits.len() - 1
    }

    pub fn end_commit(&mut self, index: usize, outcome: Outcome) {
        let ended = self.tick();
        let commit = &mut self.commits[index];
        (commit.outcome, commit.ended) = (outcome, ended);
    }

    pub fn committed(&mut self, group: &str, sink: SinkId, offset: Option<i64>, asked: Order) {
        let heard = self.tick();
        let group = group.to_owned();
        self.committed_seen.push(CommittedSeen { group, sink, offset, asked, heard });
    }

    pub fn note(&mut self, process: Process, note: Note) {
        self.tick();
        *self.notes.entry((process, note)).or_default() += 1;
    }
}
