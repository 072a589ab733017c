//! An engine in memory and a client on the other end of a session, for tests.

use crate::codec::{header, ApiKey, Writer};
use crate::session::KafkaSession;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use koine_base::rng::Rng;
use koine_base::{ConnectionId, Moment, Now, ShardId, StreamId, Timestamp};
use koine_broker::access::scram::{Mechanism, Verifier};
use koine_broker::access::{AccessCommand, Principal, Secret, User, Verifiers};
use koine_broker::batch::{self, BatchHeader};
use koine_broker::limits::Limits;
use koine_broker::membership::{self, Answer, GroupError, GroupListing, JoinRefused};
use koine_broker::message::{Content, Dialect, Dialects, HeaderValue, Message};
use koine_broker::metadata::{Command, Durability, Effects, Metadata, Outcome, Refusal};
use koine_broker::offsets::CommittedOffset;
use koine_broker::overload::Alarms;
use koine_broker::session::{
    Appended, Context, Credentials, Event, LoginRefusal, Meter, NodeInfo, Output, Peer,
    ReadBatches, Request, Session, StreamBounds, Token,
};
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Mutex;

/// A node with Kafka's own defaults.
pub fn node() -> NodeInfo {
    NodeInfo {
        node_id: 1,
        cluster_id: "cluster".into(),
        version: "0",
        advertised_kafka: None,
        auto_create_topics: true,
        default_partitions: 2,
        default_retention_ms: 604_800_000,
        default_retention_bytes: -1,
        default_durability: Durability::Fsync,
        epochs: vec![EPOCH; 64],
    }
}

/// Stands in for the other protocols: the envelope is a text, and becomes the content type.
pub struct OtherDialect;

impl Dialect for OtherDialect {
    fn message(&self, content: &Content) -> Message {
        Message {
            key: content.key.clone(),
            body: content.body.clone(),
            timestamp: content.timestamp,
            headers: vec![("n".into(), HeaderValue::Int(-5)), ("void".into(), HeaderValue::Void)],
            content_type: Some(String::from_utf8_lossy(&content.envelope).into_owned()),
            address: Some("a.b".into()),
            ..Message::default()
        }
    }
}

pub static DIALECTS: Dialects =
    Dialects { kafka: &crate::KafkaDialect, amqp091: &OtherDialect, mqtt: &OtherDialect };

#[derive(Default)]
struct Stream {
    batches: Vec<Bytes>,
    start: u64,
    end: u64,
}

/// What the engine would keep, in memory.
pub struct Engine {
    pub metadata: Metadata,
    streams: BTreeMap<StreamId, Stream>,
    watches: Vec<(Token, StreamId, u64)>,
    offsets: BTreeMap<(String, String, i32), CommittedOffset>,
    /// What group requests are answered with, in order.
    pub group_answers: VecDeque<Answer>,
    pub group_requests: Vec<membership::Request>,
    pub published: Vec<Content>,
    pub groups: Vec<GroupListing>,
    /// Requests wait here while it is set.
    pub paused: bool,
    /// Every read, with its byte limit.
    pub reads: Vec<u32>,
    /// The disk has no room for appends.
    pub full: bool,
    /// Of users whose logins are right.
    pub passwords: BTreeMap<String, String>,
    /// Whatever a login brings, it is refused so.
    pub login_refusal: Option<LoginRefusal>,
    pub logins: u32,
}

const EPOCH: i32 = 7;

impl Engine {
    fn bounds(&mut self, stream: StreamId) -> StreamBounds {
        let stream = self.streams.entry(stream).or_default();
        StreamBounds { start: stream.start, end: stream.end, epoch: EPOCH }
    }

    pub fn end(&mut self, stream: StreamId) -> u64 {
        self.bounds(stream).end
    }

    pub fn append(&mut self, stream: StreamId, batch: &Bytes) -> u64 {
        let stored = self.streams.entry(stream).or_default();
        let base = stored.end;
        let mut bytes = BytesMut::from(&batch[..]);
        batch::patch(&mut bytes, base, EPOCH);
        let bytes = bytes.freeze();
        stored.end = BatchHeader::new(&bytes).expect("a checked batch").next_offset();
        stored.batches.push(bytes);
        base
    }

    fn read(
        &mut self,
        stream: StreamId,
        offset: u64,
        bytes_max: u32,
    ) -> Result<ReadBatches, Refusal> {
        let bounds = self.bounds(stream);
        if offset < bounds.start || offset > bounds.end {
            return Err(Refusal::OffsetOutOfRange);
        }
        let mut batches: Vec<Bytes> = Vec::new();
        let mut bytes = 0;
        for batch in &self.streams[&stream].batches {
            let header = BatchHeader::new(batch).expect("a checked batch");
            if header.next_offset() <= offset {
                continue;
            }
            if !batches.is_empty() && bytes + batch.len() > bytes_max as usize {
                break;
            }
            bytes += batch.len();
            batches.push(batch.clone());
        }
        Ok(ReadBatches { batches, bounds })
    }

    fn locate(&self, stream: StreamId, at: i64) -> Option<(u64, Timestamp)> {
        let batches = self.streams.get(&stream)?.batches.iter();
        let mut all = batches.flat_map(|batch| {
            batch::records(batch, &Default::default())
                .expect("well formed")
                .map(|r| r.expect("well formed"))
        });
        all.find(|record| record.timestamp() >= at)
            .map(|record| (record.offset(), Timestamp(record.timestamp())))
    }

    fn authenticate(
        &mut self,
        address: IpAddr,
        credentials: Credentials,
    ) -> Result<Principal, LoginRefusal> {
        self.logins += 1;
        if let Some(refusal) = self.login_refusal {
            return Err(refusal);
        }
        let (user, is_right) = match credentials {
            Credentials::Password { user, password } => {
                let right = self.passwords.get(&user).map(String::as_bytes);
                let is_right = right == Some(password.expose());
                (user, is_right)
            }
            Credentials::Scram { user, is_right } => (user, is_right),
            Credentials::Certificate { user } => (user, true),
        };
        let known = self.metadata.access().user(&user).filter(|_| is_right);
        let generation = known.ok_or(LoginRefusal::Wrong)?.generation;
        let user = Some(user.into());
        Ok(Principal { user, generation, address: Some(address), client_id: None })
    }

    /// Makes a user whose password is its own name.
    pub fn add_user(&mut self, name: &str) {
        let user = User { verifiers: verifiers_of(name), ..User::default() };
        let decoy_key = vec![1; 32];
        self.access(AccessCommand::AddUser { name: name.into(), user, decoy_key });
        self.passwords.insert(name.into(), name.into());
    }

    /// Changes users or rules; sessions are not told.
    pub fn access(&mut self, command: AccessCommand) {
        let command = Command::Access(Box::new(command));
        self.propose(command).expect("a sound command");
    }

    fn propose(&mut self, command: Command) -> Result<Outcome, Refusal> {
        self.metadata.apply(command, &mut Effects::default())
    }

    fn carry_out(&mut self, request: Request, events: &mut Vec<Event>) {
        match request {
            Request::Authenticate { token, address, credentials } => {
                let result = self.authenticate(address, credentials);
                events.push(Event::Authenticated { token, result });
            }
            Request::Propose { token, command } => {
                events.push(Event::Proposed { token, result: self.propose(command) });
            }
            Request::Append { token, .. } if self.full => {
                let result = Err(Refusal::Busy);
                events.extend(token.map(|token| Event::Appended { token, result }));
            }
            Request::Append { token, stream, batch, .. } => {
                let base_offset = self.append(stream, &batch);
                let appended = Appended { base_offset, log_start: 0, log_append_time: None };
                events.extend(token.map(|token| Event::Appended { token, result: Ok(appended) }));
                let ripe = |(_, watched, offset): &(Token, StreamId, u64)| {
                    *watched == stream && base_offset >= *offset
                };
                for (token, ..) in self.watches.iter().filter(|watch| ripe(watch)) {
                    events.push(Event::Grown { token: *token });
                }
                self.watches.retain(|watch| !ripe(watch));
            }
            Request::Publish { token, content, .. } => {
                self.published.push(content);
                events.extend(token.map(|token| Event::Published { token, result: Ok(()) }));
            }
            Request::Read { token, stream, offset, bytes_max } => {
                self.reads.push(bytes_max);
                events.push(Event::Read { token, result: self.read(stream, offset, bytes_max) });
            }
            Request::Watch { token, stream, offset } => {
                if self.bounds(stream).end > offset {
                    events.push(Event::Grown { token });
                } else {
                    self.watches.push((token, stream, offset));
                }
            }
            Request::Unwatch { token, .. } => self.watches.retain(|(other, ..)| *other != token),
            Request::Bounds { token, stream } => {
                events.push(Event::Bounds { token, result: Ok(self.bounds(stream)) });
            }
            Request::Locate { token, stream, timestamp } => {
                events.push(Event::Located { token, result: Ok(self.locate(stream, timestamp.0)) });
            }
            Request::EpochEnd { token, stream, epoch } => {
                let end = self.bounds(stream).end;
                events.push(Event::EpochEnd {
                    token,
                    result: Ok((epoch >= EPOCH).then_some((EPOCH, end))),
                });
            }
            Request::Trim { token, stream, offset } => {
                let end = self.bounds(stream).end;
                let result = if offset != u64::MAX && offset > end {
                    Err(Refusal::OffsetOutOfRange)
                } else {
                    self.streams.entry(stream).or_default().start = offset.min(end);
                    Ok(self.bounds(stream))
                };
                events.push(Event::Bounds { token, result });
            }
            other => self.carry_out_group(other, events),
        }
    }

    fn carry_out_group(&mut self, request: Request, events: &mut Vec<Event>) {
        match request {
            Request::Group { token, request } => {
                let answer = self.group_answers.pop_front().unwrap_or_else(|| refusal(&request));
                self.group_requests.push(request);
                events.push(Event::Group { token, answer });
            }
            Request::CommitOffsets { token, group, offsets, .. } => {
                for (name, index, offset) in offsets {
                    self.offsets.insert((group.clone(), name, index), offset);
                }
                events.push(Event::Committed { token, result: Ok(()) });
            }
            Request::FetchOffsets { token, group, partitions } => {
                let all = || {
                    let keys = self.offsets.keys().filter(|(of, ..)| *of == group);
                    keys.map(|(_, name, index)| (name.clone(), *index)).collect()
                };
                let wanted: Vec<(String, i32)> = partitions.unwrap_or_else(all);
                let found = wanted.into_iter().map(|(name, index)| {
                    let offset = self.offsets.get(&(group.clone(), name.clone(), index)).cloned();
                    (name, index, offset)
                });
                events.push(Event::Offsets { token, result: Ok(found.collect()) });
            }
            Request::DeleteOffsets { token, group, partitions } => {
                for (name, index) in partitions {
                    self.offsets.remove(&(group.clone(), name, index));
                }
                events.push(Event::Committed { token, result: Ok(()) });
            }
            Request::ListGroups { token } => {
                events.push(Event::Groups { token, groups: self.groups.clone() });
            }
            other => panic!("a Kafka session does not ask for {other:?}"),
        }
    }
}

/// Made once for all tests: that takes milliseconds.
fn verifiers_of(name: &str) -> Verifiers {
    static MADE: Mutex<BTreeMap<String, Verifiers>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().expect("no test panics while it holds this");
    let make = || {
        let password = Secret::new(name);
        let verifier = |mechanism| {
            Some(Verifier::of_password(mechanism, &password, b"salt and pepper".to_vec(), 4096))
        };
        Verifiers {
            password: None,
            scram_sha_256: verifier(Mechanism::Sha256),
            scram_sha_512: verifier(Mechanism::Sha512),
        }
    };
    made.entry(name.to_owned()).or_insert_with(make).clone()
}

/// What a group request is answered with unless the test says otherwise.
fn refusal(request: &membership::Request) -> Answer {
    let error = GroupError::CoordinatorNotAvailable;
    match request {
        membership::Request::Join(join) => {
            Answer::Join(Err(JoinRefused { error, member_id: join.member.member_id.clone() }))
        }
        membership::Request::Sync(_) => Answer::Sync(Err(error)),
        membership::Request::Heartbeat { .. } => Answer::Heartbeat(Err(error)),
        membership::Request::Leave { .. } => Answer::Leave(Err(error)),
        membership::Request::Describe { .. } => Answer::Describe(Err(error)),
        membership::Request::Delete { .. } => Answer::Delete(Err(error)),
    }
}

/// A client, its session and the engine behind it.
pub struct Client {
    pub engine: Engine,
    pub session: KafkaSession,
    pub now: Now,
    pub node: NodeInfo,
    pub limits: Limits,
    pub meter: Meter,
    pub alarms: Alarms,
    pub output_room: usize,
    pub closed: bool,
    rng: Rng,
    secret_rng: koine_broker::access::SecretRng,
    out: Output,
    input: BytesMut,
    answers: BytesMut,
    correlation_id: i32,
}

impl Client {
    pub fn new() -> Self {
        let address = "127.0.0.1:9092".parse().expect("an address");
        let limits = Limits::default();
        let engine = Engine {
            metadata: Metadata::new(&[false, true], (&limits).into()),
            streams: BTreeMap::new(),
            watches: Vec::new(),
            offsets: BTreeMap::new(),
            group_answers: VecDeque::new(),
            group_requests: Vec::new(),
            published: Vec::new(),
            groups: Vec::new(),
            paused: false,
            reads: Vec::new(),
            full: false,
            passwords: BTreeMap::new(),
            login_refusal: None,
            logins: 0,
        };
        Client {
            engine,
            session: KafkaSession::new(Peer::plain(address, address), 1),
            now: Now { moment: Moment(1_000_000), wall: Timestamp(1_700_000_000_000) },
            node: node(),
            limits,
            meter: Meter::default(),
            alarms: Alarms::default(),
            output_room: usize::MAX,
            closed: false,
            rng: Rng::new(2),
            secret_rng: koine_broker::access::SecretRng::new(&[7; 32]),
            out: Output::default(),
            input: BytesMut::new(),
            answers: BytesMut::new(),
            correlation_id: 0,
        }
    }

    fn step(&mut self, step: impl FnOnce(&mut KafkaSession, &mut BytesMut, &mut Context<'_>)) {
        let mut ctx = Context {
            now: self.now,
            connection: ConnectionId::new(ShardId(0), 1),
            metadata: &self.engine.metadata,
            dialects: &DIALECTS,
            limits: &self.limits,
            node: &self.node,
            rng: &mut self.rng,
            secret_rng: &mut self.secret_rng,
            out: &mut self.out,
            meter: &mut self.meter,
            alarms: self.alarms,
            is_read: true,
            output_room: self.output_room,
        };
        step(&mut self.session, &mut self.input, &mut ctx);
        self.answers.extend_from_slice(&self.out.wire.take_all());
        self.closed |= self.out.close;
    }

    /// Puts a request into the input without running anything.
    pub fn queue(
        &mut self,
        key: ApiKey,
        version: i16,
        encode: impl FnOnce(&mut Writer<'_>),
    ) -> i32 {
        self.correlation_id += 1;
        let mut frame = BytesMut::new();
        frame.put_i16(key as i16);
        frame.put_i16(version);
        frame.put_i32(self.correlation_id);
        let mut w = Writer::new(&mut frame);
        w.nullable_string(Some("tester"), false);
        if key.api().is_flexible(version) {
            w.no_tags();
        }
        encode(&mut w);
        self.input.put_u32(frame.len() as u32);
        self.input.extend_from_slice(&frame);
        self.correlation_id
    }

    pub fn queue_bytes(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// Takes away what lies behind the first `length` bytes of the input: it has not come yet.
    pub fn hold_back(&mut self, length: usize) -> BytesMut {
        self.input.split_off(length)
    }

    /// Bytes of the input that were not taken.
    pub fn input_bytes(&self) -> usize {
        self.input.len()
    }

    /// Runs until nothing moves any more.
    pub fn run(&mut self) {
        loop {
            let before = self.input.len();
            if self.session.wants_input() {
                self.step(|session, input, ctx| session.receive(input, ctx));
            }
            if self.engine.paused {
                return;
            }
            let requests = std::mem::take(&mut self.out.requests);
            if requests.is_empty() && before == self.input.len() {
                return;
            }
            let mut events = Vec::new();
            for request in requests {
                self.engine.carry_out(request, &mut events);
            }
            for event in events {
                self.step(|session, _, ctx| session.event(event, ctx));
            }
        }
    }

    /// The node's alarms change.
    pub fn alarm(&mut self, alarms: Alarms) {
        self.alarms = alarms;
        self.engine.full = alarms.disk;
        self.step(|session, _, ctx| session.alarms_changed(ctx));
        self.run();
    }

    /// The session hears that users or rules have changed.
    pub fn access_changed(&mut self) {
        self.step(|session, _, ctx| session.access_changed(ctx));
        self.run();
    }

    /// Takes what was sent back, not cut into answers.
    pub fn take_bytes(&mut self) -> Bytes {
        self.answers.split().freeze()
    }

    pub fn tick(&mut self) {
        self.step(|session, _, ctx| session.tick(ctx));
    }

    /// What was asked of the engine and not carried out yet.
    pub fn requests(&self) -> &[Request] {
        &self.out.requests
    }

    /// Lets time pass up to the session's deadline.
    pub fn pass_deadline(&mut self) {
        self.now.moment = self.session.deadline();
        self.step(|session, _, ctx| session.tick(ctx));
        self.run();
    }

    /// Appends as another client would, and wakes whoever watches.
    pub fn append_elsewhere(&mut self, stream: StreamId, batch: &Bytes) {
        let info =
            BatchHeader::new(batch).and_then(|header| header.info()).expect("a checked batch");
        let request = Request::Append { token: None, stream, batch: batch.clone(), info };
        let mut events = Vec::new();
        self.engine.carry_out(request, &mut events);
        for event in events {
            self.step(|session, _, ctx| session.event(event, ctx));
        }
        self.run();
    }

    /// The next answer: correlation id and message.
    pub fn answer(&mut self, key: ApiKey, version: i16) -> Option<(i32, Bytes)> {
        let length = u32::from_be_bytes(*self.answers.first_chunk::<4>()?) as usize;
        self.answers.advance(4);
        let mut frame = self.answers.split_to(length).freeze();
        let correlation_id = frame.get_i32();
        let mut head = BytesMut::new();
        header::encode_response(&mut Writer::new(&mut head), key, version, 0);
        frame.advance(head.len() - 4);
        Some((correlation_id, frame))
    }

    /// One request and its answer.
    pub fn call(
        &mut self,
        key: ApiKey,
        version: i16,
        encode: impl FnOnce(&mut Writer<'_>),
    ) -> Bytes {
        let sent = self.queue(key, version, encode);
        self.run();
        let (correlation_id, frame) = self.answer(key, version).expect("an answer");
        assert_eq!(correlation_id, sent);
        frame
    }
}
