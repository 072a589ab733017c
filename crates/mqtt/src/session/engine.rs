//! A node in a test: the real metadata, router and cursors, streams in memory, any number of MQTT
//! connections. Carries out requests at once and in order; time moves only when told to.

use crate::topic::TopicFilter;
use crate::{MqttSession, DIALECT};
use bytes::{Bytes, BytesMut};
use koine_base::rng::Rng;
use koine_base::{ConnectionId, Moment, Now, ShardId, StreamId, Timestamp};
use koine_broker::access::{AccessCommand, Principal};
use koine_broker::batch::{records, BatchBuilder, BatchLimits, Record};
use koine_broker::cursor::{self, Assign, ConsumerOptions, Cursor};
use koine_broker::limits::Limits;
use koine_broker::message::{stored_prefix, Annotation, Content, Dialects};
use koine_broker::metadata::{Command, Durability, Effects, Metadata, Outcome, Refusal};
use koine_broker::once::OnceId;
use koine_broker::overload::Alarms;
use koine_broker::publish::{to_subject, Publisher};
use koine_broker::router::{Matches, Subject};
use koine_broker::session::{
    Attach, ConsumerId, Context, Credentials, Delivery, Event, LoginRefusal, Meter, NodeInfo,
    Output, Peer, Request, RetainedMessage, RetainedPage, Route, Session, Settlement, TlsPeer,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub mod administration;

struct Connection {
    session: MqttSession,
    out: Output,
    input: BytesMut,
}

struct Stream {
    records: Vec<Record>,
    cursor: Cursor,
    /// By cursor id.
    consumers: BTreeMap<u64, (ConnectionId, ConsumerId)>,
}

impl Stream {
    fn new() -> Stream {
        Stream { records: Vec::new(), cursor: Cursor::new(0), consumers: BTreeMap::new() }
    }

    fn id_of(&self, connection: ConnectionId, consumer: ConsumerId) -> Option<cursor::ConsumerId> {
        let mut all = self.consumers.iter();
        let found = all.find(|(_, holder)| **holder == (connection, consumer));
        found.map(|(id, _)| cursor::ConsumerId(*id))
    }

    fn commit(&mut self) {
        while let Some(delta) = self.cursor.take_delta() {
            self.cursor.apply(&delta);
        }
    }
}

pub struct Engine {
    pub metadata: Metadata,
    pub limits: Limits,
    pub meter: Meter,
    now: Now,
    node: NodeInfo,
    rng: Rng,
    secret_rng: koine_broker::access::SecretRng,
    streams: BTreeMap<StreamId, Stream>,
    retained: BTreeMap<String, RetainedMessage>,
    once: BTreeSet<(StreamId, OnceId)>,
    connections: BTreeMap<ConnectionId, Connection>,
    next: u64,
    events: VecDeque<(ConnectionId, Event)>,
    pub alarms: Alarms,
    /// Instead of slow hashes.
    pub passwords: BTreeMap<String, String>,
    /// Logins are answered with this, whoever it is.
    pub login_refusal: Option<LoginRefusal>,
    /// Logins are not answered, until [`Self::answer_logins`].
    pub hold_logins: bool,
    held_logins: Vec<(ConnectionId, Event)>,
    /// Commands are not applied and consumers not stopped, until [`Self::release_commands`].
    pub hold_commands: bool,
    held_commands: Vec<(ConnectionId, Request)>,
    /// Publishes are not answered: a slow disk.
    pub hold_publishes: bool,
    /// Another node leads group 0 by now, or may.
    pub is_deposed: bool,
    /// What connections that are gone had still to write.
    written: BTreeMap<ConnectionId, BytesMut>,
}

/// Runs `work` on one session with everything it may see.
macro_rules! with_session {
    ($engine:expr, $id:expr, |$session:ident, $input:ident, $ctx:ident| $work:expr) => {
        if let Some(connection) = $engine.connections.get_mut(&$id) {
            let dialects = Dialects { kafka: DIALECT, amqp091: DIALECT, mqtt: DIALECT };
            let Connection { session: $session, out, input: $input } = connection;
            let mut context = Context {
                now: $engine.now,
                connection: $id,
                metadata: &$engine.metadata,
                dialects: &dialects,
                limits: &$engine.limits,
                node: &$engine.node,
                rng: &mut $engine.rng,
                secret_rng: &mut $engine.secret_rng,
                out,
                meter: &mut $engine.meter,
                alarms: $engine.alarms,
                is_read: true,
                output_room: usize::MAX,
            };
            let $ctx = &mut context;
            let _ = &$input;
            $work
        }
    };
}

impl Engine {
    pub fn new() -> Engine {
        let limits = Limits { receive_maximum: 8, topic_alias_max: 4, ..Limits::default() };
        Engine {
            metadata: Metadata::new(&[false, true], (&limits).into()),
            limits,
            meter: Meter::default(),
            alarms: Alarms::default(),
            passwords: BTreeMap::new(),
            login_refusal: None,
            hold_logins: false,
            held_logins: Vec::new(),
            hold_commands: false,
            held_commands: Vec::new(),
            hold_publishes: false,
            is_deposed: false,
            now: Now { moment: Moment(1_000_000), wall: Timestamp(1_700_000_000_000) },
            node: NodeInfo {
                node_id: 1,
                cluster_id: "test".to_owned(),
                version: "0",
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
            streams: BTreeMap::new(),
            retained: BTreeMap::new(),
            once: BTreeSet::new(),
            connections: BTreeMap::new(),
            next: 1,
            events: VecDeque::new(),
            written: BTreeMap::new(),
        }
    }

    pub fn connect(&mut self) -> ConnectionId {
        self.connect_with(None)
    }

    /// Over TLS, if there is a user that the certificate names.
    pub fn connect_with(&mut self, certificate: Option<&str>) -> ConnectionId {
        let id = ConnectionId::new(ShardId(0), self.next);
        self.next += 1;
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 1883));
        let tls =
            certificate.map(|user| TlsPeer { certificate: None, user: Some(user.to_owned()) });
        let session = MqttSession::new(Peer { tls, ..Peer::plain(address, address) });
        let connection = Connection { session, out: Output::default(), input: BytesMut::new() };
        self.connections.insert(id, connection);
        id
    }

    pub fn is_open(&self, id: ConnectionId) -> bool {
        self.connections.contains_key(&id)
    }

    /// Bytes from the client; runs until nothing is left to do.
    pub fn send(&mut self, id: ConnectionId, bytes: &[u8]) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.input.extend_from_slice(bytes);
        }
        with_session!(self, id, |session, input, ctx| session.receive(input, ctx));
        self.run();
    }

    /// What the client can read.
    pub fn take(&mut self, id: ConnectionId) -> Bytes {
        let mut all = self.written.remove(&id).unwrap_or_default();
        if let Some(connection) = self.connections.get_mut(&id) {
            all.extend_from_slice(&connection.out.wire.take_all());
        }
        all.freeze()
    }

    /// The client is gone without a word.
    pub fn drop_connection(&mut self, id: ConnectionId) {
        self.end(id);
        self.run();
    }

    /// Users or rules change, and every session is told.
    pub fn change(&mut self, command: AccessCommand) {
        let outcome = self.apply(Command::Access(Box::new(command.clone())));
        assert!(outcome.is_ok(), "{command:?}: {outcome:?}");
        let ids: Vec<ConnectionId> = self.connections.keys().copied().collect();
        for id in ids {
            with_session!(self, id, |session, input, ctx| session.access_changed(ctx));
        }
        self.run();
    }

    /// A command of somebody else's.
    pub fn command(&mut self, command: Command) {
        self.apply(command).expect("a sound command");
        self.run();
    }

    pub fn answer_logins(&mut self) {
        self.hold_logins = false;
        self.events.extend(std::mem::take(&mut self.held_logins));
        self.run();
    }

    pub fn release_commands(&mut self) {
        self.hold_commands = false;
        for (id, request) in std::mem::take(&mut self.held_commands) {
            self.perform(id, request);
        }
        self.run();
    }

    fn log_in(&mut self, id: ConnectionId, token: u64, credentials: Credentials) {
        let result = self.authenticate(credentials);
        let event = (id, Event::Authenticated { token, result });
        match self.hold_logins {
            true => self.held_logins.push(event),
            false => self.events.push_back(event),
        }
    }

    fn retained_page(&self, filter: &str) -> RetainedPage {
        let filter = TopicFilter::parse(filter).expect("checked at SUBSCRIBE");
        let all = self.retained.values();
        let messages = all.filter(|it| filter.matches(&it.topic)).cloned().collect();
        RetainedPage { messages, rest: None }
    }

    fn authenticate(&self, credentials: Credentials) -> Result<Principal, LoginRefusal> {
        if let Some(refusal) = self.login_refusal {
            return Err(refusal);
        }
        let (user, is_right) = match credentials {
            Credentials::Password { user, password } => {
                let known = self.passwords.get(&user);
                let is_right = known.is_some_and(|known| known.as_bytes() == password.expose());
                (user, is_right && !password.is_empty())
            }
            Credentials::Scram { user, is_right } => (user, is_right),
            Credentials::Certificate { user } => (user, true),
        };
        let known = self.metadata.access().user(&user).filter(|_| is_right);
        let generation = known.ok_or(LoginRefusal::Wrong)?.generation;
        let address = Some(std::net::IpAddr::from([127, 0, 0, 1]));
        Ok(Principal { user: Some(user.into()), generation, address, client_id: None })
    }

    /// The node's alarms change.
    pub fn alarm(&mut self, alarms: Alarms) {
        self.alarms = alarms;
        let ids: Vec<ConnectionId> = self.connections.keys().copied().collect();
        for id in ids {
            with_session!(self, id, |session, input, ctx| {
                session.alarms_changed(ctx);
                if session.wants_input() && !input.is_empty() {
                    session.receive(input, ctx);
                }
            });
        }
        self.run();
    }

    pub fn evict(&mut self, id: ConnectionId) {
        with_session!(self, id, |session, input, ctx| session.evict(ctx));
        self.run();
    }

    pub fn session(&self, id: ConnectionId) -> &MqttSession {
        &self.connections[&id].session
    }

    pub fn shutdown(&mut self, id: ConnectionId) {
        with_session!(self, id, |session, input, ctx| session.shutdown(ctx));
        self.run();
    }

    /// Time passes; whatever falls due is done.
    pub fn advance(&mut self, ms: u64) {
        self.now.moment = self.now.moment.after_ms(ms);
        self.now.wall = self.now.wall.plus_ms(i64::try_from(ms).unwrap());
        let ids: Vec<ConnectionId> = self.connections.keys().copied().collect();
        for id in ids {
            if self.connections[&id].session.deadline() <= self.now.moment {
                with_session!(self, id, |session, input, ctx| session.tick(ctx));
            }
        }
        self.run();
        self.sessions_due();
    }

    /// The node is killed and started again: only what is committed is left.
    pub fn restart(&mut self) {
        self.connections.clear();
        self.events.clear();
        for stream in self.streams.values_mut() {
            stream.consumers.clear();
            let end = stream.records.len() as u64;
            stream.cursor.recover(end);
        }
        let at = self.now.wall.0;
        self.apply(Command::NodeStarted { at }).expect("the start of a node is never refused");
        self.run();
        self.sessions_due();
    }

    fn sessions_due(&mut self) {
        let at = self.now.wall.0;
        let due: Vec<_> = self
            .metadata
            .due_wills(at)
            .map(|(id, session, will)| {
                let who = session.principal(self.metadata.access());
                (id, session.namespace, will.clone(), who)
            })
            .collect();
        for (session, namespace, will, who) in due {
            let mut content = Content::decode(Bytes::from(will.content)).expect("we encoded it");
            content.timestamp = self.now.wall;
            let publisher = Publisher {
                connection: ConnectionId::from_raw(0),
                session: Some(session),
                qos: will.qos,
                retain: will.retain,
                key: None,
            };
            let subject = Subject::from_mqtt(&will.topic).expect("checked at CONNECT");
            if !self.metadata.may_publish(&who, namespace, &subject) {
                self.apply(Command::WillPublished { session }).expect("never refused");
                continue;
            }
            let mut matches = Matches::new();
            let route = to_subject(&self.metadata, namespace, &subject, &publisher, &mut matches);
            if will.retain {
                self.retain(will.topic, Some(content.clone()), will.qos, None);
            }
            self.publish(&content, &route);
            self.apply(Command::WillPublished { session }).expect("never refused");
        }
        self.apply(Command::ExpireSessions { at }).expect("never refused");
        self.run();
    }

    fn run(&mut self) {
        loop {
            let mut busy = false;
            let ids: Vec<ConnectionId> = self.connections.keys().copied().collect();
            for id in &ids {
                let Some(connection) = self.connections.get_mut(id) else { continue };
                let requests = std::mem::take(&mut connection.out.requests);
                for request in requests {
                    busy = true;
                    self.perform(*id, request);
                }
            }
            self.dispatch();
            if let Some((id, event)) = self.events.pop_front() {
                busy = true;
                with_session!(self, id, |session, input, ctx| {
                    session.event(event, ctx);
                    if session.wants_input() && !input.is_empty() {
                        session.receive(input, ctx);
                    }
                });
            }
            for id in ids {
                let closing = self.connections.get(&id).is_some_and(|it| it.out.close);
                if closing && self.connections[&id].out.requests.is_empty() {
                    busy = true;
                    self.end(id);
                }
            }
            if !busy && self.events.is_empty() {
                return;
            }
        }
    }

    fn end(&mut self, id: ConnectionId) {
        with_session!(self, id, |session, input, ctx| session.disconnected(ctx));
        let Some(mut connection) = self.connections.remove(&id) else { return };
        let wire = connection.out.wire.take_all();
        self.written.entry(id).or_default().extend_from_slice(&wire);
        for request in connection.out.requests {
            self.perform(id, request);
        }
        for stream in self.streams.values_mut() {
            let mine: Vec<u64> = stream
                .consumers
                .iter()
                .filter(|(_, (owner, _))| *owner == id)
                .map(|(consumer, _)| *consumer)
                .collect();
            for consumer in mine {
                stream.consumers.remove(&consumer);
                stream.cursor.detach(cursor::ConsumerId(consumer));
            }
        }
        let at = self.now.wall.0;
        if self.metadata.is_bound_to(id.raw()) {
            let release = Command::ReleaseConnection { connection: id.raw(), at };
            self.apply(release).expect("never refused");
        }
        self.sessions_due();
    }

    fn apply(&mut self, command: Command) -> Result<Outcome, Refusal> {
        if let Command::Retain { topic, content, qos, expires_at, .. } = &command {
            let content = content
                .clone()
                .map(|bytes| Content::decode(Bytes::from(bytes)).expect("the session encoded it"));
            self.retain(topic.clone(), content, *qos, expires_at.map(Timestamp));
        }
        let mut effects = Effects::default();
        let outcome = self.metadata.apply(command, &mut effects);
        for (connection, session, resumed) in effects.taken {
            let event = Event::SessionTaken { session, resumed };
            self.events.push_back((ConnectionId::from_raw(connection), event));
        }
        for (connection, session) in effects.ended {
            let event = Event::SessionEnded { session };
            self.events.push_back((ConnectionId::from_raw(connection), event));
        }
        for stream in effects.deleted_streams {
            if let Some(gone) = self.streams.remove(&stream) {
                for (connection, consumer) in gone.consumers.into_values() {
                    let event = Event::ConsumerCancelled { consumer, stream };
                    self.events.push_back((connection, event));
                }
            }
        }
        outcome
    }

    fn retain(
        &mut self,
        topic: String,
        content: Option<Content>,
        qos: u8,
        expires_at: Option<Timestamp>,
    ) {
        match content {
            None => {
                self.retained.remove(&topic);
            }
            Some(content) => {
                let message = RetainedMessage { topic: topic.clone(), content, qos, expires_at };
                self.retained.insert(topic, message);
            }
        }
    }

    /// Streams take one copy of an exactly-once publish.
    fn without_repetitions(&mut self, mut route: Route, once: Option<OnceId>) -> Route {
        if let Some(once) = once {
            route.streams.retain(|stream| self.once.insert((*stream, once)));
            route.backlogs.retain(|(stream, _)| self.once.insert((*stream, once)));
        }
        route
    }

    fn publish(&mut self, content: &Content, route: &Route) {
        for stream in &route.streams {
            self.append(*stream, content, None);
        }
        for (stream, annotation) in &route.backlogs {
            self.append(*stream, content, Some(annotation));
        }
        for (connection, annotation) in &route.live {
            let annotation = annotation.clone();
            self.events
                .push_back((*connection, Event::Live { content: content.clone(), annotation }));
        }
    }

    fn append(&mut self, stream: StreamId, content: &Content, annotation: Option<&Annotation>) {
        let stream = self.streams.entry(stream).or_insert_with(Stream::new);
        let mut prefix = BytesMut::new();
        stored_prefix(content, annotation, &mut prefix);
        let mut builder = BatchBuilder::new(content.timestamp.0);
        let body = content.body.clone().unwrap_or_default();
        builder.push_foreign(
            content.origin,
            content.timestamp.0,
            &[&prefix, &content.envelope],
            content.key.as_deref(),
            &[&body],
        );
        let batch = builder.finish(stream.records.len() as u64, 1);
        let mut all = records(&batch, &BatchLimits::default()).expect("just built");
        stream.records.push(all.next().expect("one record").expect("well-formed"));
    }

    fn propose(&mut self, id: ConnectionId, token: u64, command: Command) {
        // The answer comes before what the command does to others.
        let position = self.events.len();
        let result = match command {
            Command::Unsubscribe { .. } if self.is_deposed => Err(Refusal::NotLeader),
            command => self.apply(command),
        };
        self.events.insert(position, (id, Event::Proposed { token, result }));
    }

    fn perform(&mut self, id: ConnectionId, request: Request) {
        let event = match request {
            Request::Propose { .. } | Request::Stop { .. } if self.hold_commands => {
                return self.held_commands.push((id, request));
            }
            Request::Propose { token, command } => return self.propose(id, token, command),
            Request::Publish { token, content, route, once: _ }
                if self.alarms.disk && !(route.streams.is_empty() && route.backlogs.is_empty()) =>
            {
                let Some(token) = token else {
                    let live = Route { live: route.live, ..Route::default() };
                    return self.publish(&content, &live);
                };
                Event::Published { token, result: Err(Refusal::Busy) }
            }
            Request::Publish { token, content, route, once } => {
                let route = self.without_repetitions(route, once);
                self.publish(&content, &route);
                let Some(token) = token.filter(|_| !self.hold_publishes) else { return };
                Event::Published { token, result: Ok(()) }
            }
            Request::Authenticate { token, credentials, .. } => {
                self.log_in(id, token, credentials);
                return;
            }
            Request::Attach { token, attach } => self.attach(id, token, attach),
            Request::Credit { stream, consumer, add } => {
                let Some(stream) = self.streams.get_mut(&stream) else { return };
                let Some(holder) = stream.id_of(id, consumer) else { return };
                stream.cursor.add_credit(holder, add);
                return;
            }
            Request::Settle { stream, consumer, ranges, settlement } => {
                self.settle(id, stream, consumer, &ranges, settlement);
                return;
            }
            Request::Sync { token, .. } => Event::Synced { token, result: Ok(()) },
            Request::Stop { token, stream, consumer } => {
                if let Some(stream) = self.streams.get_mut(&stream) {
                    if let Some(holder) = stream.id_of(id, consumer) {
                        stream.cursor.stop(holder);
                    }
                }
                Event::Stopped { token }
            }
            Request::Detach { token, stream, consumer } => {
                if let Some(stream) = self.streams.get_mut(&stream) {
                    if let Some(holder) = stream.id_of(id, consumer) {
                        stream.cursor.detach(holder);
                        stream.consumers.remove(&holder.0);
                    }
                }
                Event::Detached { token }
            }
            Request::Retained { token, .. } if self.is_deposed => {
                Event::Retained { token, result: Err(Refusal::NotLeader) }
            }
            Request::Retained { token, filter, .. } => {
                Event::Retained { token, result: Ok(self.retained_page(&filter)) }
            }
            other => panic!("an MQTT session does not ask for {other:?}"),
        };
        self.events.push_back((id, event));
    }

    fn attach(&mut self, id: ConnectionId, token: u64, attach: Attach) -> Event {
        let next = self.next;
        self.next += 1;
        let stream = self.streams.entry(attach.stream).or_insert_with(Stream::new);
        if attach.offset_span_max != u64::MAX {
            // One holder at a time.
            for old in std::mem::take(&mut stream.consumers).into_keys() {
                stream.cursor.detach(cursor::ConsumerId(old));
            }
            stream.cursor.set_offset_span_max(attach.offset_span_max);
        }
        let holder = cursor::ConsumerId(next);
        let options = ConsumerOptions { credit: attach.credit, ..ConsumerOptions::default() };
        stream.cursor.attach(holder, options).expect("never exclusive");
        stream.consumers.insert(next, (id, attach.consumer));
        let half = match attach.offset_span_max {
            u64::MAX => Vec::new(),
            _ => stream.cursor.resume_half(holder),
        };
        Event::Attached { token, result: Ok(half.into_iter().flatten().collect()) }
    }

    fn settle(
        &mut self,
        id: ConnectionId,
        stream: StreamId,
        consumer: ConsumerId,
        ranges: &[(u64, u64)],
        settlement: Settlement,
    ) {
        let Some(stream) = self.streams.get_mut(&stream) else { return };
        let Some(holder) = stream.id_of(id, consumer) else { return };
        let outcome = match settlement {
            Settlement::Ack => cursor::Outcome::Ack,
            Settlement::Release => cursor::Outcome::Release { count_delivery: false },
            Settlement::Half => cursor::Outcome::Half,
            Settlement::Discard => panic!("MQTT discards nothing"),
        };
        let ranges: Vec<_> = ranges.iter().map(|(start, end)| *start..*end + 1).collect();
        let mut settled = Vec::new();
        let unknown = stream.cursor.settle(holder, &ranges, outcome, &mut settled);
        assert_eq!(unknown, 0, "the session settles what it holds, once");
        stream.commit();
    }

    fn dispatch(&mut self) {
        for (stream_id, stream) in &mut self.streams {
            let end = stream.records.len() as u64;
            while let Some((offset, _)) = stream.cursor.next_wanted(end) {
                let Assign::Given(given) = stream.cursor.assign(offset) else { break };
                let (connection, consumer) = stream.consumers[&given.consumer.0];
                let delivery = Delivery {
                    offset,
                    record: stream.records[offset as usize].clone(),
                    redelivered: given.redelivered,
                };
                let deliveries = vec![delivery];
                let event = Event::Deliveries { consumer, stream: *stream_id, deliveries };
                self.events.push_back((connection, event));
            }
        }
    }
}
