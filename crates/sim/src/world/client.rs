//! A client and its end of the connection: a session that does what it is told, what the client waits
//! for, what it holds, and the idempotent producers that outlive its connections.

use crate::model::Value;
use bytes::{Bytes, BytesMut};
use koine_base::{ConnectionId, Moment, StreamId};
use koine_broker::batch::{BatchBuilder, BatchHeader, BatchInfo};
use koine_broker::metadata::SessionId;
use koine_broker::session::{ConsumerId, Context, Event, Protocol, Request, Session, Token};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// What passes through a [`Puppet`].
#[derive(Default)]
pub struct Script {
    pub requests: Vec<Request>,
    pub events: Vec<Event>,
}

/// A session without a protocol: requests in, events out.
pub struct Puppet(pub Rc<RefCell<Script>>);

impl Session for Puppet {
    fn protocol(&self) -> Protocol {
        Protocol::Admin
    }

    fn receive(&mut self, _input: &mut BytesMut, ctx: &mut Context<'_>) {
        ctx.out.requests.append(&mut self.0.borrow_mut().requests);
    }

    fn event(&mut self, event: Event, ctx: &mut Context<'_>) {
        if let Event::Deliveries { deliveries, .. } = &event {
            // Something for the socket to be slow with.
            let bytes: usize = deliveries.iter().map(|d| d.record.body_bytes()).sum();
            ctx.out.wire.push(Bytes::from(vec![0; bytes]));
        }
        self.0.borrow_mut().events.push(event);
    }

    fn tick(&mut self, _ctx: &mut Context<'_>) {}

    fn deadline(&self) -> Moment {
        Moment::NEVER
    }

    fn access_changed(&mut self, _ctx: &mut Context<'_>) {}
    fn disconnected(&mut self, _ctx: &mut Context<'_>) {}

    fn shutdown(&mut self, ctx: &mut Context<'_>) {
        ctx.out.close = true;
    }
}

/// What an answer will be about.
#[derive(Clone, Debug)]
pub enum Question {
    Publish {
        value: Value,
        streams: Vec<StreamId>,
    },
    Append {
        stream: StreamId,
        values: Vec<Value>,
    },
    AppendOnce {
        id: i64,
        sequence: i32,
    },
    /// What the node kept of a stream, after a start.
    Stock {
        stream: StreamId,
    },
    /// For the last look: everything.
    ReadAll {
        stream: StreamId,
        offset: u64,
    },
    Read {
        stream: StreamId,
        offset: u64,
        end: u64,
        epoch: i32,
    },
    Watch {
        stream: StreamId,
        offset: u64,
    },
    Bounds {
        stream: StreamId,
        end: u64,
        epoch: i32,
    },
    Status {
        stream: StreamId,
    },
    Locate {
        stream: StreamId,
    },
    EpochEnd {
        stream: StreamId,
        epoch: i32,
        end: u64,
    },
    Trim {
        stream: StreamId,
        offset: u64,
    },
    Attach {
        stream: StreamId,
        consumer: ConsumerId,
    },
    Stop {
        stream: StreamId,
        consumer: ConsumerId,
    },
    Detach {
        stream: StreamId,
        consumer: ConsumerId,
    },
    Pull {
        stream: StreamId,
        consumer: ConsumerId,
        auto: bool,
    },
    Purge {
        stream: StreamId,
    },
    Commit {
        key: (String, i32),
        offset: i64,
    },
    Offsets {
        key: (String, i32),
        at_least: i64,
    },
    Declare {
        name: String,
    },
    CreateTopic {
        name: String,
        strict: bool,
        has_retention: bool,
    },
    DeleteQueue {
        stream: StreamId,
    },
    DeleteTopic {
        name: String,
    },
    ProducerId {
        stream: StreamId,
    },
    OpenSession,
    Subscribe {
        session: SessionId,
    },
    Retain {
        subject: String,
        index: usize,
    },
    Retained {
        subject: String,
        at_least: usize,
    },
}

/// A question on its way.
#[derive(Clone, Debug)]
pub struct Asked {
    pub question: Question,
    /// Of all operations of the run.
    pub serial: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Attaching,
    Attached,
    Stopped,
    Ended,
}

#[derive(Clone, Debug)]
pub struct Consumer {
    pub stream: StreamId,
    pub phase: Phase,
    pub auto: bool,
    /// It only holds what it pulled.
    pub pull_only: bool,
}

/// A batch that an idempotent producer sends until it is acknowledged.
#[derive(Clone)]
pub struct PendingBatch {
    pub sequence: i32,
    pub values: Vec<Value>,
    pub bytes: Bytes,
    pub info: BatchInfo,
    /// On its way now.
    pub is_sent: bool,
    pub tries: u32,
    /// How many newer ones there were.
    pub later: usize,
}

/// From the oldest batch that is not acknowledged to the newest, both included. Kafka's clients keep
/// to it, and a broker remembers no more: an older one that comes again is out of order by right.
const IN_FLIGHT_MAX: usize = 5;

/// An idempotent producer of one stream, as a Kafka client keeps it.
pub struct Producer {
    pub id: i64,
    pub stream: StreamId,
    pub next_sequence: i32,
    /// Not acknowledged, oldest first.
    pub batches: VecDeque<PendingBatch>,
    /// Something went wrong: everything is sent again, one by one, before anything new.
    pub is_resending: bool,
}

impl Producer {
    /// Says whether the next batch may go out already.
    pub fn has_room(&self) -> bool {
        self.batches.front().is_none_or(|oldest| oldest.later + 1 < IN_FLIGHT_MAX)
    }

    /// The next batch; returns its index.
    pub fn push(&mut self, bytes: Bytes, info: BatchInfo, values: Vec<Value>) -> usize {
        let sequence = self.next_sequence;
        self.next_sequence += values.len() as i32;
        self.batches.iter_mut().for_each(|batch| batch.later += 1);
        let (is_sent, tries, later) = (false, 0, 0);
        let batch = PendingBatch { sequence, values, bytes, info, is_sent, tries, later };
        self.batches.push_back(batch);
        self.batches.len() - 1
    }

    pub fn disconnected(&mut self) {
        for batch in &mut self.batches {
            batch.is_sent = false;
        }
        self.is_resending |= !self.batches.is_empty();
    }
}

#[derive(Default)]
pub struct Client {
    pub slot: usize,
    pub connection: Option<(usize, ConnectionId)>,
    pub script: Rc<RefCell<Script>>,
    pub next_token: Token,
    pub waiting: BTreeMap<Token, Asked>,
    pub next_consumer: ConsumerId,
    pub consumers: BTreeMap<ConsumerId, Consumer>,
    pub session: Option<SessionId>,
    pub producers: Vec<Producer>,
    /// Connections so far; a writer is a client and one of these.
    pub connections: u64,
    pub retains: bool,
    pub group_offset: i64,
}

impl Client {
    pub fn new(slot: usize) -> Self {
        Client { slot, next_token: 1, next_consumer: 1, ..Client::default() }
    }

    /// The connection's number.
    pub fn raw(&self) -> u64 {
        self.connection.map_or(0, |(_, id)| id.raw())
    }

    /// Tells the order of appends of one connection from that of others.
    pub fn writer(&self) -> u64 {
        (self.slot as u64) << 32 | self.connections
    }

    pub fn ask(&mut self, serial: u64, question: Question) -> Token {
        let token = self.next_token;
        self.next_token += 1;
        self.waiting.insert(token, Asked { question, serial });
        token
    }

    pub fn request(&mut self, request: Request) {
        self.script.borrow_mut().requests.push(request);
    }

    /// The connection is gone, or the node.
    pub fn forget_connection(&mut self) {
        self.connection = None;
        self.script = Rc::default();
        self.waiting.clear();
        self.consumers.clear();
        self.session = None;
        for producer in &mut self.producers {
            producer.disconnected();
        }
    }
}

/// `v<number>;` and padding.
pub fn body(value: Value, bytes: u64) -> Bytes {
    let mut body = format!("v{value};").into_bytes();
    body.resize((body.len() as u64).max(bytes) as usize, b'.');
    Bytes::from(body)
}

pub fn value_of(body: &[u8]) -> Option<Value> {
    let end = body.iter().position(|byte| *byte == b';')?;
    std::str::from_utf8(body.get(1..end)?).ok()?.parse().ok()
}

/// A batch as a Kafka producer makes it.
pub fn batch(
    values: &[(Value, u64)],
    timestamp: i64,
    producer: Option<(i64, i32)>,
) -> (Bytes, BatchInfo) {
    let mut builder = BatchBuilder::new(timestamp);
    if let Some((id, sequence)) = producer {
        builder.set_producer(id, 0, sequence);
    }
    for (value, bytes) in values {
        builder.push(timestamp, None, Some(&[&body(*value, *bytes)]), &[]);
    }
    let bytes = builder.finish(0, 0);
    let info = BatchHeader::new(&bytes).and_then(|header| header.info());
    (bytes, info.expect("a batch just built is sound"))
}
