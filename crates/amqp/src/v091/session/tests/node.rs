//! A node in miniature for session tests: the real metadata, router and cursor, one list of records
//! per stream, and clients that speak in methods. Everything happens at once and in order.

use crate::v091::content::{BasicProperties, BodyAssembly, ContentHeader};
use crate::v091::frame::{frame_at, Frame, FrameType};
use crate::v091::methods::*;
use crate::v091::output::{put_content, put_method, Content as Outgoing};
use crate::v091::{Amqp091Dialect, AmqpSession};
use bytes::{Bytes, BytesMut};
use koine_base::rng::Rng;
use koine_base::{ConnectionId, Moment, Now, Rope, ShardId, StreamId, Timestamp};
use koine_broker::access::{AccessCommand, Principal};
use koine_broker::batch::{records, BatchBuilder, BatchLimits, Record};
use koine_broker::cursor::{self, Assign, AttachError, ConsumerOptions, Cursor};
use koine_broker::limits::Limits;
use koine_broker::message::{stored_prefix, Content, Dialects};
use koine_broker::metadata::*;
use koine_broker::overload::Alarms;
use koine_broker::session::*;
use std::collections::{BTreeMap, BTreeSet};

struct Stream {
    /// Attached, with the client in the upper half.
    consumers: Vec<u64>,
    records: Vec<Record>,
    cursor: Cursor,
    was_consumed: bool,
}

pub(super) struct Client {
    session: AmqpSession,
    id: ConnectionId,
    input: BytesMut,
    output: Output,
    meter: Meter,
    gone: bool,
}

pub(super) struct Node {
    pub metadata: Metadata,
    streams: BTreeMap<StreamId, Stream>,
    clients: Vec<Client>,
    pub now: Now,
    pub limits: Limits,
    info: NodeInfo,
    rng: Rng,
    secret_rng: koine_broker::access::SecretRng,
    /// Publishes are answered only when this is false: a slow disk.
    pub hold_publishes: bool,
    held_publishes: Vec<(usize, Token)>,
    pub refuse_publishes: bool,
    pub alarms: Alarms,
    /// Whether the end of a turn is told.
    pub flushes: bool,
    pub logins: Logins,
    /// Rules change while the next attach, stop or pull is under way.
    pub meanwhile: Option<AccessCommand>,
    /// Whether sessions are told that rules have changed.
    pub tells_access: bool,
    /// All that was asked and told since the last look at it, as it prints.
    pub shown: String,
}

/// Who is let in.
#[derive(Default)]
pub(super) struct Logins {
    pub passwords: BTreeMap<String, String>,
    /// Of every login.
    pub refusal: Option<LoginRefusal>,
    /// Checks take their time.
    pub are_held: bool,
    held: Vec<(usize, Token, Result<Principal, LoginRefusal>)>,
}

static DIALECT: Amqp091Dialect = Amqp091Dialect;

/// What a client was sent, readable.
#[derive(Debug, PartialEq)]
pub(super) enum Seen {
    Method(u16, Method),
    /// The method it followed, raw properties, body.
    Content(u16, Method, Bytes, Bytes),
    Heartbeat,
    Header([u8; 8]),
}

impl Node {
    pub(super) fn new() -> Node {
        let limits = Limits::default();
        Node {
            metadata: Metadata::new(&[false, true], MetadataLimits::from(&limits)),
            streams: BTreeMap::new(),
            clients: Vec::new(),
            now: Now { moment: Moment(1_000_000), wall: Timestamp(1_700_000_000_000) },
            limits,
            info: NodeInfo {
                node_id: 1,
                cluster_id: "test".to_owned(),
                version: "0.0.0",
                advertised_kafka: None,
                auto_create_topics: true,
                default_partitions: 1,
                default_retention_ms: -1,
                default_retention_bytes: -1,
                default_durability: Durability::Fsync,
                epochs: Vec::new(),
            },
            rng: Rng::new(1),
            secret_rng: koine_broker::access::SecretRng::new(&[7; 32]),
            hold_publishes: false,
            held_publishes: Vec::new(),
            refuse_publishes: false,
            alarms: Alarms::default(),
            flushes: true,
            logins: Logins::default(),
            meanwhile: None,
            tells_access: true,
            shown: String::new(),
        }
    }

    /// A connection that has said nothing yet.
    pub(super) fn connect_raw(&mut self) -> usize {
        self.connect_from(peer())
    }

    /// Likewise, over TLS; `user` is whom its certificate names.
    pub(super) fn connect_tls(&mut self, user: Option<&str>) -> usize {
        let tls = TlsPeer { user: user.map(str::to_owned), ..TlsPeer::default() };
        self.connect_from(Peer { tls: Some(tls), ..peer() })
    }

    fn connect_from(&mut self, peer: Peer) -> usize {
        let index = self.clients.len();
        self.clients.push(Client {
            session: AmqpSession::new(&peer, self.now.moment, &self.limits),
            id: ConnectionId::new(ShardId(0), index as u64 + 1),
            input: BytesMut::new(),
            output: Output::default(),
            meter: Meter::default(),
            gone: false,
        });
        index
    }

    /// A connection with channel 1 open.
    pub(super) fn connect(&mut self) -> usize {
        self.connect_as("guest", "guest")
    }

    /// A connection that has sent its header.
    pub(super) fn connect_greeted(&mut self) -> usize {
        let client = self.connect_raw();
        self.send_bytes(client, b"AMQP\x00\x00\x09\x01");
        client
    }

    /// A connection with channel 1 open, if the user is let in.
    pub(super) fn connect_as(&mut self, user: &str, password: &str) -> usize {
        let client = self.connect_greeted();
        self.send(client, 0, super::start_ok(user, password));
        self.open(client);
        client
    }

    /// From tune to channel 1.
    pub(super) fn open(&mut self, client: usize) {
        self.send(
            client,
            0,
            ConnectionTuneOk { channel_max: 2047, frame_max: 131_072, heartbeat: 60 },
        );
        self.send(client, 0, super::open("/"));
        self.send(client, 1, ChannelOpen::default());
        self.take(client);
    }

    pub(super) fn send_bytes(&mut self, client: usize, bytes: &[u8]) {
        self.clients[client].input.extend_from_slice(bytes);
        self.run();
    }

    pub(super) fn send(&mut self, client: usize, channel: u16, method: impl Into<Method>) {
        let mut out = Rope::new();
        put_method(&mut out, channel, &method.into());
        self.send_bytes(client, &out.take_all());
    }

    pub(super) fn publish(
        &mut self,
        client: usize,
        publish: BasicPublish,
        properties: BasicProperties<'_>,
        body: &[u8],
    ) {
        let mut raw = BytesMut::new();
        properties.encode(&mut raw);
        let mut out = Rope::new();
        put_method(&mut out, 1, &publish.into());
        let body = Bytes::copy_from_slice(body);
        put_content(&mut out, 1, Outgoing { properties: &raw, body: &body, frame_max: 4096 });
        self.send_bytes(client, &out.take_all());
    }

    /// Everything the client was sent since the last call.
    pub(super) fn take(&mut self, client: usize) -> Vec<Seen> {
        let buffer = self.clients[client].output.wire.take_all();
        if buffer.starts_with(b"AMQP") {
            return vec![Seen::Header(buffer[..].try_into().expect("nothing but a header"))];
        }
        let mut seen = Vec::new();
        let mut position = 0;
        while let Some((frame, next)) = frame_at(&buffer, position, u32::MAX).expect("frames") {
            position = next;
            match frame.kind {
                FrameType::Heartbeat => seen.push(Seen::Heartbeat),
                FrameType::Method => {
                    let method = Method::decode(&frame.payload).expect("a method");
                    if method.has_content() {
                        let (properties, body) = take_content(&buffer, &mut position);
                        seen.push(Seen::Content(frame.channel, method, properties, body));
                    } else {
                        seen.push(Seen::Method(frame.channel, method));
                    }
                }
                other => panic!("{other:?} without method"),
            }
        }
        assert_eq!(position, buffer.len());
        seen
    }

    /// Sends one method and gives back what came of it.
    pub(super) fn ask(
        &mut self,
        client: usize,
        channel: u16,
        method: impl Into<Method>,
    ) -> Vec<Seen> {
        self.send(client, channel, method);
        self.take(client)
    }

    pub(super) fn is_closed(&self, client: usize) -> bool {
        self.clients[client].output.close
    }

    pub(super) fn meter(&self, client: usize) -> &Meter {
        &self.clients[client].meter
    }

    pub(super) fn deadline(&self, client: usize) -> Moment {
        self.clients[client].session.deadline()
    }

    pub(super) fn tick(&mut self, client: usize, moment: Moment) {
        self.now.moment = moment;
        self.step(client, |session, _, ctx| session.tick(ctx));
        self.run();
    }

    pub(super) fn shutdown(&mut self, client: usize) {
        self.step(client, |session, _, ctx| session.shutdown(ctx));
    }

    /// The socket is gone: what the client held goes back.
    pub(super) fn disconnect(&mut self, client: usize) {
        self.step(client, |session, _, ctx| session.disconnected(ctx));
        self.clients[client].gone = true;
        let connection = self.clients[client].id.raw();
        let streams: Vec<StreamId> = self.streams.keys().copied().collect();
        for stream in streams {
            for consumer in 0..100 {
                self.detach(client, stream, consumer);
            }
        }
        self.apply(Command::ReleaseConnection { connection, at: 0 }).expect("it always works");
        self.run();
    }

    /// The slow disk catches up.
    pub(super) fn release_publishes(&mut self) {
        for (client, token) in std::mem::take(&mut self.held_publishes) {
            self.event(client, Event::Published { token, result: Ok(()) });
        }
        self.run();
    }

    pub(super) fn create_topic(&mut self, name: &str, partitions: u32) {
        let mut id = [1; 16];
        id[..name.len()].copy_from_slice(name.as_bytes());
        let command = Command::CreateTopic {
            namespace: NamespaceId(0),
            name: name.to_owned(),
            partitions,
            settings: TopicSettings::default(),
            id,
        };
        self.apply(command).expect("a new topic");
    }

    /// Appends a record as another protocol would.
    pub(super) fn append(&mut self, name: &str, partition: i32, content: &Content) {
        let named = self.metadata.named(NamespaceId(0), name).expect("it exists");
        let stream = named.stream(partition).expect("it has the partition");
        self.store(stream, content);
        self.run();
    }

    fn step(
        &mut self,
        client: usize,
        step: impl FnOnce(&mut AmqpSession, &mut BytesMut, &mut Context<'_>),
    ) {
        let Client { session, id, input, output, meter, .. } = &mut self.clients[client];
        let mut ctx = Context {
            now: self.now,
            connection: *id,
            metadata: &self.metadata,
            dialects: &Dialects { kafka: &DIALECT, amqp091: &DIALECT, mqtt: &DIALECT },
            limits: &self.limits,
            node: &self.info,
            rng: &mut self.rng,
            secret_rng: &mut self.secret_rng,
            out: output,
            meter,
            alarms: self.alarms,
            is_read: true,
            output_room: usize::MAX,
        };
        step(session, input, &mut ctx);
    }

    /// The node's alarms change.
    pub(super) fn alarm(&mut self, alarms: Alarms) {
        self.alarms = alarms;
        for client in 0..self.clients.len() {
            if !self.clients[client].gone {
                self.step(client, |session, _, ctx| session.alarms_changed(ctx));
            }
        }
        self.run();
    }

    pub(super) fn wants_input(&self, client: usize) -> bool {
        self.clients[client].session.wants_input()
    }

    /// Of bodies that are not whole: what has come, and what they will have.
    pub(super) fn unfinished_bytes(&self, client: usize) -> (usize, usize) {
        let session = &self.clients[client].session;
        (session.partial_bytes(), session.announced_bytes)
    }

    pub(super) fn evict(&mut self, client: usize) {
        self.step(client, |session, _, ctx| session.evict(ctx));
    }

    pub(super) fn session(&mut self, client: usize) -> &mut AmqpSession {
        &mut self.clients[client].session
    }

    /// Users or rules change: every session is told.
    pub(super) fn access(&mut self, command: AccessCommand) {
        self.apply(Command::Access(Box::new(command))).expect("a sound command");
        for client in 0..self.clients.len() {
            if !self.clients[client].gone && self.tells_access {
                self.step(client, |session, _, ctx| session.access_changed(ctx));
            }
        }
        self.run();
    }

    fn change_meanwhile(&mut self) {
        if let Some(command) = self.meanwhile.take() {
            self.access(command);
        }
    }

    fn authenticate(&mut self, client: usize, token: Token, credentials: Credentials) {
        let (name, is_right) = match &credentials {
            Credentials::Password { user, password } => {
                let known = self.logins.passwords.get(user);
                (user, known.is_some_and(|known| known.as_bytes() == password.expose()))
            }
            Credentials::Certificate { user } => (user, true),
            Credentials::Scram { .. } => panic!("not of this protocol"),
        };
        let user = self.metadata.access().user(name).filter(|_| is_right);
        let result = match (self.logins.refusal, user) {
            (Some(refusal), _) => Err(refusal),
            (None, None) => Err(LoginRefusal::Wrong),
            (None, Some(user)) => Ok(Principal {
                user: Some(name.as_str().into()),
                generation: user.generation,
                address: Some(peer().remote.ip()),
                client_id: None,
            }),
        };
        if self.logins.are_held {
            return self.logins.held.push((client, token, result));
        }
        self.event(client, Event::Authenticated { token, result });
    }

    /// The checks of passwords come to their end.
    pub(super) fn release_logins(&mut self) {
        for (client, token, result) in std::mem::take(&mut self.logins.held) {
            self.event(client, Event::Authenticated { token, result });
        }
        self.run();
    }

    fn event(&mut self, client: usize, event: Event) {
        self.shown.push_str(&format!("{event:?}\n"));
        if !self.clients[client].gone {
            self.step(client, |session, _, ctx| session.event(event, ctx));
        }
    }

    fn run(&mut self) {
        loop {
            let mut moved = false;
            for client in 0..self.clients.len() {
                let Client { session, input, output, gone, .. } = &self.clients[client];
                if !gone && !input.is_empty() && session.wants_input() && !output.close {
                    let before = input.len();
                    self.step(client, |session, input, ctx| session.receive(input, ctx));
                    moved |= self.clients[client].input.len() != before;
                }
                for request in std::mem::take(&mut self.clients[client].output.requests) {
                    moved = true;
                    self.request(client, request);
                }
            }
            moved |= self.dispatch();
            if moved {
                continue;
            }
            let stepped = if self.flushes { self.clients.len() } else { 0 };
            for client in 0..stepped {
                self.step(client, |session, _, ctx| session.flush(ctx));
            }
            if self.clients.iter().all(|client| client.output.requests.is_empty()) {
                return;
            }
        }
    }

    fn request(&mut self, client: usize, request: Request) {
        self.shown.push_str(&format!("{request:?}\n"));
        let event = match request {
            Request::Authenticate { token, address, credentials } => {
                assert_eq!(address, peer().remote.ip());
                return self.authenticate(client, token, credentials);
            }
            Request::Propose { token, command } => {
                Event::Proposed { token, result: self.apply(command) }
            }
            Request::Publish { token, content, route, once: _ } => {
                return self.publish_to(client, token, &content, route);
            }
            Request::Attach { token, attach } => {
                let result = self.attach(client, &attach);
                self.change_meanwhile();
                Event::Attached { token, result }
            }
            Request::Credit { stream, consumer, add } => {
                if let Some(stream) = self.streams.get_mut(&stream) {
                    stream.cursor.add_credit(key(client, consumer), add);
                }
                return;
            }
            Request::Stop { token, stream, consumer } => {
                if let Some(stream) = self.streams.get_mut(&stream) {
                    stream.cursor.stop(key(client, consumer));
                }
                self.delete_abandoned(stream);
                self.change_meanwhile();
                Event::Stopped { token }
            }
            Request::Detach { token, stream, consumer } => {
                self.detach(client, stream, consumer);
                Event::Detached { token }
            }
            Request::Settle { stream, consumer, ranges, settlement } => {
                return self.settle(key(client, consumer), stream, &ranges, settlement);
            }
            Request::Pull { token, stream, consumer, auto_settle } => {
                let result = self.pull(key(client, consumer), stream, auto_settle);
                self.change_meanwhile();
                Event::Pulled { token, result }
            }
            Request::Purge { token, stream } => {
                let purge = |stream: &mut Stream| {
                    let end = stream.records.len() as u64;
                    let count = stream.cursor.purge(end);
                    stream.commit();
                    count
                };
                let result = self.streams.get_mut(&stream).map(purge).ok_or(Refusal::NotFound);
                Event::Purged { token, result }
            }
            Request::Status { token, stream } => {
                let result = self.status(stream).ok_or(Refusal::NotFound);
                Event::Status { token, result }
            }
            Request::DeleteQueue { token, namespace, name, if_unused, if_empty } => {
                let result = self.delete_queue(namespace, name, if_unused, if_empty);
                Event::QueueDeleted { token, result }
            }
            other => panic!("not asked by this protocol: {other:?}"),
        };
        self.event(client, event);
    }

    fn apply(&mut self, command: Command) -> Result<Outcome, Refusal> {
        let mut effects = Effects::default();
        let result = self.metadata.apply(command, &mut effects);
        for stream in effects.deleted_streams {
            let Some(state) = self.streams.remove(&stream) else { continue };
            let held: BTreeSet<u64> = state.consumers.iter().copied().collect();
            for consumer in held {
                let (client, consumer) = ((consumer >> 32) as usize, consumer & 0xFFFF_FFFF);
                self.event(client, Event::ConsumerCancelled { consumer, stream });
            }
        }
        for (stream, _) in self.metadata.streams() {
            self.streams.entry(stream).or_insert_with(Stream::new);
        }
        result
    }

    fn publish_to(&mut self, client: usize, token: Option<Token>, content: &Content, route: Route) {
        if !self.refuse_publishes {
            for stream in route.streams {
                self.store(stream, content);
            }
        }
        let Some(token) = token else { return };
        if self.hold_publishes {
            return self.held_publishes.push((client, token));
        }
        let result = if self.refuse_publishes { Err(Refusal::Busy) } else { Ok(()) };
        self.event(client, Event::Published { token, result });
    }

    fn store(&mut self, stream: StreamId, content: &Content) {
        let Some(stream) = self.streams.get_mut(&stream) else { return };
        let mut prefix = BytesMut::new();
        stored_prefix(content, None, &mut prefix);
        let mut builder = BatchBuilder::new(content.timestamp.0);
        let body = content.body.clone().unwrap_or_default();
        let envelope: [&[u8]; 2] = [&prefix, &content.envelope];
        let key = content.key.as_deref();
        builder.push_foreign(content.origin, content.timestamp.0, &envelope, key, &[&body]);
        let batch = builder.finish(stream.records.len() as u64, 0);
        let limits = BatchLimits { batch_bytes_max: 32 << 20, ..BatchLimits::default() };
        for record in records(&batch, &limits).expect("a batch of ours") {
            stream.records.push(record.expect("a record of ours"));
        }
    }

    fn attach(&mut self, client: usize, attach: &Attach) -> Result<Vec<u64>, Refusal> {
        let stream = self.streams.get_mut(&attach.stream).ok_or(Refusal::NotFound)?;
        let id = key(client, attach.consumer);
        let options = ConsumerOptions {
            credit: attach.credit,
            auto_settle: attach.auto_settle,
            exclusive: attach.exclusive,
            pull_only: false,
            priority: attach.priority,
        };
        match stream.cursor.attach(id, options) {
            Ok(()) => {
                stream.was_consumed = true;
                stream.consumers.push(id.0);
                Ok(Vec::new())
            }
            Err(AttachError::Exclusive) => Err(Refusal::Exclusive),
            Err(other) => panic!("{other:?}"),
        }
    }

    fn detach(&mut self, client: usize, id: StreamId, consumer: u64) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.cursor.detach(key(client, consumer));
        stream.consumers.retain(|held| *held != key(client, consumer).0);
        self.delete_abandoned(id);
    }

    fn delete_abandoned(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get(&id) else { return };
        let Some(StreamOwner::Queue { namespace, name }) = self.metadata.stream_owner(id).cloned()
        else {
            return;
        };
        let is_abandoned = stream.was_consumed && stream.cursor.consumer_count() == 0;
        let queue = self.metadata.queue(namespace, &name);
        if is_abandoned && queue.is_some_and(|queue| queue.spec.auto_delete) {
            self.apply(Command::DeleteQueue { namespace, name }).expect("it exists");
        }
    }

    fn settle(
        &mut self,
        consumer: cursor::ConsumerId,
        stream: StreamId,
        ranges: &[OffsetRange],
        settlement: Settlement,
    ) {
        let Some(stream) = self.streams.get_mut(&stream) else { return };
        let outcome = match settlement {
            Settlement::Ack | Settlement::Discard => cursor::Outcome::Ack,
            Settlement::Release => cursor::Outcome::Release { count_delivery: true },
            Settlement::Half => panic!("not of this protocol"),
        };
        let ranges: Vec<_> = ranges.iter().map(|(first, last)| *first..last + 1).collect();
        let unknown = stream.cursor.settle(consumer, &ranges, outcome, &mut Vec::new());
        assert_eq!(unknown, 0, "settled what it does not hold");
        stream.commit();
    }

    fn pull(
        &mut self,
        consumer: cursor::ConsumerId,
        stream: StreamId,
        auto_settle: bool,
    ) -> Result<Option<(Delivery, u64)>, Refusal> {
        let stream = self.streams.get_mut(&stream).ok_or(Refusal::NotFound)?;
        if !stream.cursor.is_attached(consumer) {
            let options = ConsumerOptions { pull_only: true, ..ConsumerOptions::default() };
            stream.cursor.attach(consumer, options).map_err(|_| Refusal::Exclusive)?;
        }
        let end = stream.records.len() as u64;
        let Some(ready) = stream.cursor.next_ready(end) else { return Ok(None) };
        let given = stream.cursor.pull(ready.start, consumer, auto_settle).expect("it is ready");
        stream.commit();
        let record = stream.records[ready.start as usize].clone();
        let delivery = Delivery { offset: ready.start, record, redelivered: given.redelivered };
        Ok(Some((delivery, stream.cursor.ready_count(end))))
    }

    fn status(&self, stream: StreamId) -> Option<QueueStatus> {
        let stream = self.streams.get(&stream)?;
        Some(QueueStatus {
            ready: stream.cursor.ready_count(stream.records.len() as u64),
            unacked: stream.cursor.unacked_count(),
            consumers: stream.cursor.consumer_count() as u32,
            bytes: 0,
        })
    }

    fn delete_queue(
        &mut self,
        namespace: NamespaceId,
        name: String,
        if_unused: bool,
        if_empty: bool,
    ) -> Result<u64, Refusal> {
        let queue = self.metadata.queue(namespace, &name).ok_or(Refusal::NotFound)?;
        let status = self.status(queue.stream()).ok_or(Refusal::NotFound)?;
        if if_unused && status.consumers > 0 {
            return Err(Refusal::InUse);
        }
        if if_empty && status.ready > 0 {
            return Err(Refusal::NotEmpty);
        }
        self.apply(Command::DeleteQueue { namespace, name })?;
        Ok(status.ready)
    }

    fn dispatch(&mut self) -> bool {
        let mut events = Vec::new();
        for (id, stream) in &mut self.streams {
            let end = stream.records.len() as u64;
            while let Some((offset, _)) = stream.cursor.next_wanted(end) {
                let Assign::Given(given) = stream.cursor.assign(offset) else { break };
                let record = stream.records[offset as usize].clone();
                let delivery = Delivery { offset, record, redelivered: given.redelivered };
                let client = (given.consumer.0 >> 32) as usize;
                let consumer = given.consumer.0 & 0xFFFF_FFFF;
                let deliveries = vec![delivery];
                events.push((client, Event::Deliveries { consumer, stream: *id, deliveries }));
            }
            stream.commit();
        }
        let any = !events.is_empty();
        for (client, event) in events {
            self.event(client, event);
        }
        any
    }
}

impl Stream {
    fn new() -> Self {
        Stream {
            records: Vec::new(),
            cursor: Cursor::new(0),
            consumers: Vec::new(),
            was_consumed: false,
        }
    }

    fn commit(&mut self) {
        if let Some(delta) = self.cursor.take_delta() {
            self.cursor.apply(&delta);
        }
    }
}

fn peer() -> Peer {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    Peer::plain(address, address)
}

fn key(client: usize, consumer: u64) -> cursor::ConsumerId {
    cursor::ConsumerId((client as u64) << 32 | consumer)
}

fn take_content(buffer: &Bytes, position: &mut usize) -> (Bytes, Bytes) {
    let mut next = |kind| {
        let (frame, next) = frame_at(buffer, *position, u32::MAX).expect("frames").expect("whole");
        assert_eq!(frame.kind, kind);
        *position = next;
        let Frame { payload, .. } = frame;
        payload
    };
    let header = ContentHeader::decode(&next(FrameType::Header)).expect("a header");
    let mut body = BodyAssembly::new(header.body_size);
    while !body.is_complete() {
        body.add(next(FrameType::Body)).expect("no more than announced");
    }
    (header.properties, body.finish())
}
