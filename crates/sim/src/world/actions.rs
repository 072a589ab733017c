//! What a client may do next, and doing it: a request for its session and a note for the model.

use super::client::{batch, body, Client, Consumer, Phase, Producer, Question};
use super::World;
use crate::coverage::Mark;
use crate::model::{Holder, Kind, Value};
use crate::options::draw;
use koine_base::rng::Rng;
use koine_base::StreamId;
use koine_broker::message::{Content, Origin};
use koine_broker::metadata::{
    Command, Durability, NamespaceId, QueueSpec, SubscriptionOptions, TopicSettings, EXPIRY_NEVER,
};
use koine_broker::offsets::CommittedOffset;
use koine_broker::publish::{self, Publisher};
use koine_broker::router::{Matches, Subject};
use koine_broker::session::{Attach, Request, Route, Settlement};

pub(super) const NAMESPACE: NamespaceId = NamespaceId(0);

/// Subjects that sessions subscribe to and clients publish on.
const SUBJECT_COUNT: u64 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Publish,
    PublishToSubject,
    Append,
    AppendOnce,
    Attach,
    AttachBacklog,
    Credit,
    Settle,
    Release,
    Half,
    Stop,
    Detach,
    Pull,
    Purge,
    Trim,
    Read,
    Watch,
    Bounds,
    Status,
    Locate,
    EpochEnd,
    Commit,
    Offsets,
    Declare,
    CreateTopic,
    DeleteQueue,
    DeleteTopic,
    OpenSession,
    Subscribe,
    Retain,
    Retained,
    Disconnect,
}

impl Action {
    /// With usual weights.
    pub const ALL: [(Action, u64); 32] = [
        (Action::Publish, 30),
        (Action::PublishToSubject, 8),
        (Action::Append, 8),
        (Action::AppendOnce, 12),
        (Action::Attach, 8),
        (Action::AttachBacklog, 4),
        (Action::Credit, 10),
        (Action::Settle, 40),
        (Action::Release, 6),
        (Action::Half, 4),
        (Action::Stop, 2),
        (Action::Detach, 3),
        (Action::Pull, 8),
        (Action::Purge, 1),
        (Action::Trim, 1),
        (Action::Read, 10),
        (Action::Watch, 3),
        (Action::Bounds, 4),
        (Action::Status, 4),
        (Action::Locate, 2),
        (Action::EpochEnd, 2),
        (Action::Commit, 5),
        (Action::Offsets, 4),
        (Action::Declare, 2),
        (Action::CreateTopic, 1),
        (Action::DeleteQueue, 1),
        (Action::DeleteTopic, 1),
        (Action::OpenSession, 4),
        (Action::Subscribe, 4),
        (Action::Retain, 3),
        (Action::Retained, 3),
        (Action::Disconnect, 2),
    ];
}

impl World {
    /// One or a few actions of a client, sent together.
    pub(super) fn step_client(&mut self, slot: usize) {
        let count = 1 + self.workload.below(4);
        for _ in 0..count {
            let weights = std::mem::take(&mut self.options.actions);
            let action = draw(&mut self.workload, &weights);
            self.options.actions = weights;
            match action {
                Some(Action::Disconnect) => return self.drop_client(slot),
                Some(action) => self.act(slot, action),
                None => {}
            }
        }
        self.send(slot);
    }

    pub(super) fn act(&mut self, slot: usize, action: Action) {
        match action {
            Action::Publish => self.publish(slot),
            Action::PublishToSubject => self.publish_to_subject(slot),
            Action::Append => self.append(slot),
            Action::AppendOnce => self.append_once(slot),
            Action::Attach => self.attach_any(slot),
            Action::AttachBacklog => self.attach_backlog(slot),
            Action::Credit => self.credit(slot),
            Action::Settle | Action::Release | Action::Half => self.settle(slot, action),
            Action::Stop | Action::Detach => self.end_consumer(slot, action),
            Action::Pull => self.pull(slot),
            Action::Purge => self.purge(slot),
            Action::Trim => self.trim(slot),
            Action::Read | Action::Watch | Action::Locate | Action::EpochEnd => {
                self.read_log(slot, action);
            }
            Action::Bounds | Action::Status => self.look(slot, action),
            Action::Commit | Action::Offsets => self.group(slot, action),
            Action::Declare => self.declare(slot),
            Action::CreateTopic => self.create_topic(slot),
            Action::DeleteQueue => self.delete_queue(slot),
            Action::DeleteTopic => self.delete_topic(slot),
            Action::OpenSession => self.open_session(slot),
            Action::Subscribe => self.subscribe(slot),
            Action::Retain | Action::Retained => self.retain(slot, action),
            Action::Disconnect => self.drop_client(slot),
        }
    }

    fn any_stream(&mut self, wanted: impl Fn(Kind) -> bool) -> Option<StreamId> {
        let all: Vec<StreamId> =
            self.model.usable().filter(|stream| wanted(stream.kind)).map(|s| s.id).collect();
        pick(&mut self.workload, &all)
    }

    fn body_bytes(&mut self) -> u64 {
        let every = self.options.huge_body_every;
        if every > 0 && self.workload.chance(1, every) {
            self.mark(Mark::HugeRecord);
            return self.options.wal_file_bytes + self.workload.below(100_000);
        }
        self.workload.below(self.options.body_bytes_max)
    }

    fn content(&mut self, value: Value, origin: Origin) -> Content {
        let bytes = self.body_bytes();
        Content {
            origin,
            envelope: bytes::Bytes::from_static(b"envelope"),
            key: None,
            body: Some(body(value, bytes)),
            timestamp: self.now.wall,
        }
    }

    fn publish(&mut self, slot: usize) {
        let count = [1, 1, 1, 2, 3][self.workload.below(5) as usize];
        let mut streams = Vec::new();
        for _ in 0..count {
            let stream = self.any_stream(|kind| kind != Kind::Backlog);
            streams.extend(stream.filter(|stream| !streams.contains(stream)));
        }
        if streams.is_empty() {
            return;
        }
        let value = self.model.value();
        let content = self.content(value, Origin::Amqp091);
        let route = Route { streams, ..Route::default() };
        self.publish_routed(slot, value, content, route);
    }

    fn publish_to_subject(&mut self, slot: usize) {
        let Some((shard, connection)) = self.clients[slot].connection else { return };
        let subject = format!("s/{}", self.workload.below(SUBJECT_COUNT));
        let subject = Subject::from_mqtt(&subject).expect("a plain subject");
        let publisher = Publisher { connection, session: None, qos: 2, retain: false, key: None };
        let metadata = self.shards[shard].metadata();
        let route =
            publish::to_subject(metadata, NAMESPACE, &subject, &publisher, &mut Matches::new());
        let value = self.model.value();
        let content = self.content(value, Origin::Mqtt);
        self.publish_routed(slot, value, content, route);
    }

    fn publish_routed(&mut self, slot: usize, value: Value, content: Content, route: Route) {
        let backlogs = route.backlogs.iter().map(|(stream, _)| *stream);
        let streams: Vec<StreamId> = route.streams.iter().copied().chain(backlogs).collect();
        for stream in &streams {
            self.discover(slot, *stream);
        }
        let writer = self.clients[slot].writer();
        for stream in &streams {
            if let Some(stream) = self.model.stream(*stream) {
                stream.records.sent(value, writer);
            }
        }
        let token = self.workload.chance(9, 10).then(|| {
            let serial = self.serial();
            self.clients[slot].ask(serial, Question::Publish { value, streams })
        });
        self.clients[slot].request(Request::Publish { token, content, route, once: None });
    }

    fn values(&mut self, stream: StreamId, writer: u64) -> Vec<(Value, u64)> {
        let count = 1 + self.workload.below(4);
        let values: Vec<_> = (0..count).map(|_| (self.model.value(), self.body_bytes())).collect();
        if let Some(stream) = self.model.stream(stream) {
            for (value, _) in &values {
                stream.records.sent(*value, writer);
            }
        }
        values
    }

    fn append(&mut self, slot: usize) {
        let Some(stream) = self.any_stream(|kind| kind != Kind::Backlog) else { return };
        let values = self.values(stream, self.clients[slot].writer());
        let (bytes, info) = batch(&values, self.now.wall.0, None);
        let values = values.into_iter().map(|(value, _)| value).collect();
        let token = self.workload.chance(9, 10).then(|| {
            let serial = self.serial();
            self.clients[slot].ask(serial, Question::Append { stream, values })
        });
        self.clients[slot].request(Request::Append { token, stream, batch: bytes, info });
    }

    /// A step of one of the client's idempotent producers, or a new one.
    fn append_once(&mut self, slot: usize) {
        let model = &self.model;
        self.clients[slot]
            .producers
            .retain(|p| model.streams.get(&p.stream).is_some_and(|stream| !stream.is_unsure()));
        let count = self.clients[slot].producers.len();
        if count == 0 || count < 2 && self.workload.chance(1, 20) {
            let Some(stream) = self.any_stream(|kind| kind == Kind::Topic) else { return };
            let serial = self.serial();
            let token = self.clients[slot].ask(serial, Question::ProducerId { stream });
            let command = Command::AllocateProducerId;
            self.clients[slot].request(Request::Propose { token, command });
            return;
        }
        let at = self.workload.below(count as u64) as usize;
        let producer = &self.clients[slot].producers[at];
        if producer.is_resending {
            return self.resend(slot, at);
        }
        if !producer.has_room() {
            return;
        }
        let (id, stream, sequence) = (producer.id, producer.stream, producer.next_sequence);
        let values = self.values(stream, u64::MAX - id as u64);
        let (bytes, info) = batch(&values, self.now.wall.0, Some((id, sequence)));
        let values = values.into_iter().map(|(value, _)| value).collect();
        let index = self.clients[slot].producers[at].push(bytes, info, values);
        self.send_batch(slot, at, index);
    }

    fn resend(&mut self, slot: usize, at: usize) {
        let producer: &mut Producer = &mut self.clients[slot].producers[at];
        if producer.batches.is_empty() {
            producer.is_resending = false;
        } else if !producer.batches.iter().any(|batch| batch.is_sent) {
            self.send_batch(slot, at, 0);
        }
    }

    fn send_batch(&mut self, slot: usize, at: usize, index: usize) {
        let serial = self.serial();
        let client: &mut Client = &mut self.clients[slot];
        let stream = client.producers[at].stream;
        let pending = &mut client.producers[at].batches[index];
        pending.is_sent = true;
        pending.tries += 1;
        let (bytes, info, sequence) = (pending.bytes.clone(), pending.info, pending.sequence);
        let id = client.producers[at].id;
        let token = Some(client.ask(serial, Question::AppendOnce { id, sequence }));
        client.request(Request::Append { token, stream, batch: bytes, info });
    }

    fn attach_any(&mut self, slot: usize) {
        if self.clients[slot].consumers.len() >= 6 {
            return;
        }
        let Some(stream) = self.any_stream(|kind| kind != Kind::Backlog) else { return };
        self.attach(slot, stream);
    }

    fn attach(&mut self, slot: usize, stream: StreamId) {
        let rng = &mut self.workload;
        let credit = [0, 1, 10, 100, u32::MAX][rng.below(5) as usize];
        let auto_settle = rng.chance(1, 12);
        let priority = rng.below(2) as i32;
        let span = [u64::MAX, u64::MAX, 8, 50][rng.below(4) as usize];
        self.attach_with(slot, stream, credit, auto_settle, priority, span);
    }

    pub(super) fn attach_with(
        &mut self,
        slot: usize,
        stream: StreamId,
        credit: u32,
        auto_settle: bool,
        priority: i32,
        offset_span_max: u64,
    ) {
        let serial = self.serial();
        let client = &mut self.clients[slot];
        let consumer = client.next_consumer;
        client.next_consumer += 1;
        let token = client.ask(serial, Question::Attach { stream, consumer });
        let phase = Phase::Attaching;
        let attached = Consumer { stream, phase, auto: auto_settle, pull_only: false };
        client.consumers.insert(consumer, attached);
        let attach = Attach {
            stream,
            consumer,
            credit,
            auto_settle,
            exclusive: false,
            priority,
            offset_span_max,
        };
        client.request(Request::Attach { token, attach });
        if let Some(stream) = self.model.stream(stream) {
            stream.cursor.is_lossy |= auto_settle;
            stream.cursor.taking_over += u32::from(stream.kind == Kind::Backlog);
        }
    }

    fn attach_backlog(&mut self, slot: usize) {
        let Some((shard, _)) = self.clients[slot].connection else { return };
        let Some(session) = self.clients[slot].session else { return };
        let found = self.shards[shard].metadata().session(session);
        let Some(stream) = found.and_then(|session| session.backlog()) else { return };
        self.discover(slot, stream);
        if !self.clients[slot].consumers.values().any(|c| c.stream == stream) {
            self.attach(slot, stream);
        }
    }

    fn any_consumer(&mut self, slot: usize, wanted: impl Fn(&Consumer) -> bool) -> Option<u64> {
        let consumers = &self.clients[slot].consumers;
        let all: Vec<u64> =
            consumers.iter().filter(|(_, c)| wanted(c)).map(|(id, _)| *id).collect();
        pick(&mut self.workload, &all)
    }

    fn holder(&self, slot: usize, consumer: u64) -> Holder {
        (self.clients[slot].raw(), consumer)
    }

    fn credit(&mut self, slot: usize) {
        let wanted = |c: &Consumer| c.phase == Phase::Attached && !c.pull_only;
        let Some(consumer) = self.any_consumer(slot, wanted) else { return };
        let stream = self.clients[slot].consumers[&consumer].stream;
        let add = 1 + self.workload.below(20) as u32;
        self.clients[slot].request(Request::Credit { stream, consumer, add });
    }

    fn settle(&mut self, slot: usize, action: Action) {
        let wanted = |c: &Consumer| c.phase != Phase::Ended && !c.auto;
        let Some(consumer) = self.any_consumer(slot, wanted) else { return };
        let stream = self.clients[slot].consumers[&consumer].stream;
        let holder = self.holder(slot, consumer);
        let Some(model) = self.model.streams.get(&stream) else { return };
        let held = model.cursor.held(holder);
        if held.is_empty() {
            return;
        }
        let (from, rng) = (held.len() as u64, &mut self.workload);
        let first = rng.below(from) as usize;
        let count = if rng.chance(1, 2) { 1 } else { 1 + rng.below(from) as usize };
        // Now and then everything up to an offset, as with AMQP's `multiple`.
        let chosen: Vec<u64> = match rng.chance(1, 4) {
            true => held[..=first].to_vec(),
            false => held.into_iter().skip(first).take(count).collect(),
        };
        let settlement = match action {
            Action::Release => Settlement::Release,
            Action::Half => Settlement::Half,
            _ if rng.chance(1, 10) => Settlement::Discard,
            _ => Settlement::Ack,
        };
        self.settle_these(slot, stream, consumer, &chosen, settlement);
    }

    pub(super) fn settle_these(
        &mut self,
        slot: usize,
        stream: StreamId,
        consumer: u64,
        offsets: &[u64],
        settlement: Settlement,
    ) {
        let (holder, serial) = (self.holder(slot, consumer), self.serial());
        let Some(model) = self.model.stream(stream) else { return };
        for offset in offsets {
            match settlement {
                Settlement::Ack | Settlement::Discard => {
                    model.cursor.settle(holder, *offset, serial);
                }
                Settlement::Release => model.cursor.release(holder, *offset),
                Settlement::Half => model.cursor.half(holder, *offset, serial),
            }
        }
        let ranges = offsets.iter().map(|offset| (*offset, *offset)).collect();
        self.clients[slot].request(Request::Settle { stream, consumer, ranges, settlement });
    }

    fn end_consumer(&mut self, slot: usize, action: Action) {
        let Some(consumer) = self.any_consumer(slot, |c| c.phase == Phase::Attached) else {
            return;
        };
        let (serial, holder) = (self.serial(), self.holder(slot, consumer));
        let client = &mut self.clients[slot];
        let state = client.consumers.get_mut(&consumer).expect("just chosen");
        let stream = state.stream;
        if action == Action::Stop {
            state.phase = Phase::Stopped;
            let token = client.ask(serial, Question::Stop { stream, consumer });
            client.request(Request::Stop { token, stream, consumer });
            return;
        }
        state.phase = Phase::Ended;
        let token = client.ask(serial, Question::Detach { stream, consumer });
        client.request(Request::Detach { token, stream, consumer });
        if let Some(stream) = self.model.stream(stream) {
            stream.cursor.end(holder);
        }
    }

    fn pull(&mut self, slot: usize) {
        let Some(stream) = self.any_stream(|kind| kind == Kind::Queue) else { return };
        let auto_settle = self.workload.chance(1, 12);
        let serial = self.serial();
        let client = &mut self.clients[slot];
        let found = client.consumers.iter().find(|(_, c)| {
            c.stream == stream && c.pull_only && c.phase == Phase::Attached && c.auto == auto_settle
        });
        let consumer = match found {
            Some((consumer, _)) => *consumer,
            None => {
                let consumer = client.next_consumer;
                client.next_consumer += 1;
                let phase = Phase::Attached;
                let holder = Consumer { stream, phase, auto: auto_settle, pull_only: true };
                client.consumers.insert(consumer, holder);
                consumer
            }
        };
        let question = Question::Pull { stream, consumer, auto: auto_settle };
        let token = client.ask(serial, question);
        client.request(Request::Pull { token, stream, consumer, auto_settle });
        if let Some(stream) = self.model.stream(stream) {
            stream.cursor.is_lossy |= auto_settle;
        }
    }

    fn purge(&mut self, slot: usize) {
        let Some(stream) = self.any_stream(|kind| kind == Kind::Queue) else { return };
        let serial = self.serial();
        let token = self.clients[slot].ask(serial, Question::Purge { stream });
        self.clients[slot].request(Request::Purge { token, stream });
    }

    fn trim(&mut self, slot: usize) {
        let Some(stream) = self.any_stream(|kind| kind == Kind::Topic) else { return };
        let serial = self.serial();
        let Some(model) = self.model.streams.get_mut(&stream) else { return };
        let offset = self.workload.below(model.records.end + 1);
        model.records.trimmed_to = model.records.trimmed_to.max(offset);
        model.cursor.trimmed(offset);
        let token = self.clients[slot].ask(serial, Question::Trim { stream, offset });
        self.clients[slot].request(Request::Trim { token, stream, offset });
    }

    fn read_log(&mut self, slot: usize, action: Action) {
        let Some(stream) = self.any_stream(|_| true) else { return };
        let Some(model) = self.model.streams.get(&stream) else { return };
        let (end, epoch) = (model.records.end, model.records.epoch);
        let offset = self.workload.below(end + 2);
        let (wall, rng) = (self.now.wall, &mut self.workload);
        let bytes_max = 1 << rng.below(16);
        let earlier_ms = rng.below(1000) as i64;
        let asked_epoch = rng.below(epoch.max(0) as u64 + 2) as i32;
        let serial = self.serial();
        let client = &mut self.clients[slot];
        match action {
            Action::Read => {
                let token = client.ask(serial, Question::Read { stream, offset, end, epoch });
                client.request(Request::Read { token, stream, offset, bytes_max });
            }
            Action::Watch => {
                let token = client.ask(serial, Question::Watch { stream, offset });
                client.request(Request::Watch { token, stream, offset });
            }
            Action::Locate => {
                let token = client.ask(serial, Question::Locate { stream });
                let timestamp = wall.plus_ms(-earlier_ms);
                client.request(Request::Locate { token, stream, timestamp });
            }
            _ => {
                let epoch = asked_epoch;
                let token = client.ask(serial, Question::EpochEnd { stream, epoch, end });
                client.request(Request::EpochEnd { token, stream, epoch });
            }
        }
    }

    fn look(&mut self, slot: usize, action: Action) {
        let Some(stream) = self.any_stream(|_| true) else { return };
        match action {
            Action::Bounds => self.ask_bounds(slot, stream),
            _ => self.ask_status(slot, stream),
        }
    }

    pub(super) fn ask_bounds(&mut self, slot: usize, stream: StreamId) {
        let serial = self.serial();
        let Some(model) = self.model.streams.get(&stream) else { return };
        let (end, epoch) = (model.records.end, model.records.epoch);
        let token = self.clients[slot].ask(serial, Question::Bounds { stream, end, epoch });
        self.clients[slot].request(Request::Bounds { token, stream });
    }

    pub(super) fn ask_status(&mut self, slot: usize, stream: StreamId) {
        let serial = self.serial();
        let token = self.clients[slot].ask(serial, Question::Status { stream });
        self.clients[slot].request(Request::Status { token, stream });
    }

    /// Each client commits for a partition of its own and asks for anybody's.
    fn group(&mut self, slot: usize, action: Action) {
        let name = format!("g{}", self.workload.below(3));
        let serial = self.serial();
        if action == Action::Offsets {
            let slots = self.clients.len() as u64;
            let partition = self.workload.below(slots) as i32;
            let key = (name.clone(), partition);
            let at_least = self.model.groups.get(&key).map_or(-1, |known| known.acked);
            let token = self.clients[slot].ask(serial, Question::Offsets { key, at_least });
            let partitions = Some(vec![("t".to_owned(), partition)]);
            self.clients[slot].request(Request::FetchOffsets { token, group: name, partitions });
            return;
        }
        let wall = self.now.wall;
        let client = &mut self.clients[slot];
        client.group_offset += 1 + self.workload.below(5) as i64;
        let (offset, partition) = (client.group_offset, slot as i32);
        let key = (name.clone(), partition);
        let known = self
            .model
            .groups
            .entry(key.clone())
            .or_insert_with(|| crate::model::GroupOffset { acked: -1, attempted: -1 });
        known.attempted = offset;
        let token = client.ask(serial, Question::Commit { key, offset });
        let committed = CommittedOffset {
            offset,
            leader_epoch: -1,
            metadata: String::new(),
            commit_timestamp: wall.0,
        };
        let offsets = vec![("t".to_owned(), partition, committed)];
        self.clients[slot].request(Request::CommitOffsets {
            token,
            group: name,
            member: None,
            offsets,
        });
    }

    pub(super) fn fresh_id(&mut self) -> [u8; 16] {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.workload.next_u64().to_be_bytes());
        id[15] = 1;
        id
    }

    pub(super) fn declare(&mut self, slot: usize) {
        if self.model.usable().count() as u64 >= self.options.stream_count_max {
            return;
        }
        let serial = self.serial();
        let name = format!("q{serial}");
        let id = self.fresh_id();
        let spec = QueueSpec { durable: true, ..QueueSpec::default() };
        let token = self.clients[slot].ask(serial, Question::Declare { name: name.clone() });
        let command = Command::DeclareQueue { namespace: NAMESPACE, name, spec, id };
        self.clients[slot].request(Request::Propose { token, command });
    }

    pub(super) fn create_topic(&mut self, slot: usize) {
        if self.model.usable().count() as u64 >= self.options.stream_count_max {
            return;
        }
        let serial = self.serial();
        let name = format!("t{serial}");
        let id = self.fresh_id();
        let (strict, has_retention) = (self.workload.chance(2, 3), self.workload.chance(1, 5));
        let settings = TopicSettings {
            durability: Some(if strict { Durability::Fsync } else { Durability::Replicated }),
            retention_bytes: has_retention.then_some(20_000),
            retention_ms: has_retention.then_some(200),
            ..TopicSettings::default()
        };
        let partitions = 1 + self.workload.below(3) as u32;
        let question = Question::CreateTopic { name: name.clone(), strict, has_retention };
        let token = self.clients[slot].ask(serial, question);
        let namespace = NAMESPACE;
        let command = Command::CreateTopic { namespace, name, partitions, settings, id };
        self.clients[slot].request(Request::Propose { token, command });
    }

    fn delete_queue(&mut self, slot: usize) {
        let all: Vec<(StreamId, String)> = self
            .model
            .usable()
            .filter(|stream| stream.kind == Kind::Queue && stream.name.starts_with('q'))
            .map(|stream| (stream.id, stream.name.clone()))
            .collect();
        let Some(at) = pick(&mut self.workload, &(0..all.len()).collect::<Vec<_>>()) else {
            return;
        };
        let (stream, name) = all[at].clone();
        let serial = self.serial();
        if let Some(stream) = self.model.stream(stream) {
            stream.closing += 1;
        }
        let (if_unused, if_empty) = (self.workload.chance(1, 2), self.workload.chance(1, 2));
        let token = self.clients[slot].ask(serial, Question::DeleteQueue { stream });
        let namespace = NAMESPACE;
        let request = Request::DeleteQueue { token, namespace, name, if_unused, if_empty };
        self.clients[slot].request(request);
    }

    fn delete_topic(&mut self, slot: usize) {
        let topics = self.model.usable().filter(|stream| stream.kind == Kind::Topic);
        let names: Vec<String> = topics.map(|stream| stream.name.clone()).collect();
        let Some(name) = pick(&mut self.workload, &names) else { return };
        for stream in self.model.streams.values_mut().filter(|stream| stream.name == name) {
            stream.closing += 1;
        }
        let serial = self.serial();
        let token = self.clients[slot].ask(serial, Question::DeleteTopic { name: name.clone() });
        let command = Command::DeleteTopic { namespace: NAMESPACE, name };
        self.clients[slot].request(Request::Propose { token, command });
    }

    /// Mostly its own session; now and then somebody else's.
    fn open_session(&mut self, slot: usize) {
        if self.clients[slot].session.is_some() && self.workload.chance(3, 4) {
            return;
        }
        let Some((_, connection)) = self.clients[slot].connection else { return };
        let others = self.clients.len() as u64;
        let whose = match self.workload.chance(1, 4) {
            true => self.workload.below(others),
            false => slot as u64,
        };
        let clean_start = self.workload.chance(1, 12);
        let expiry_ms = EXPIRY_NEVER;
        let serial = self.serial();
        if clean_start {
            self.close_backlog_of(&format!("c{whose}"));
        }
        let token = self.clients[slot].ask(serial, Question::OpenSession);
        let command = Command::OpenSession {
            namespace: NAMESPACE,
            client_id: format!("c{whose}"),
            connection: connection.raw(),
            clean_start,
            expiry_ms,
            user: None,
            will: None,
            at: self.now.wall.0,
        };
        self.clients[slot].session = None;
        self.clients[slot].request(Request::Propose { token, command });
    }

    /// A clean start drops the backlog, whatever is in it.
    fn close_backlog_of(&mut self, client_id: &str) {
        let metadata = self.shards[0].metadata();
        let session = metadata.session_of_client(NAMESPACE, client_id);
        let session = session.and_then(|id| metadata.session(id));
        let Some(stream) = session.and_then(|session| session.backlog()) else { return };
        if let Some(stream) = self.model.stream(stream) {
            stream.closing += 1;
        }
    }

    fn subscribe(&mut self, slot: usize) {
        let Some(session) = self.clients[slot].session else { return };
        let serial = self.serial();
        let rng = &mut self.workload;
        let subject = match rng.below(SUBJECT_COUNT + 2) {
            number @ 0..SUBJECT_COUNT => format!("s/{number}"),
            SUBJECT_COUNT => "s/#".to_owned(),
            _ => "$share/all/s/+".to_owned(),
        };
        let qos_max = 1 + rng.below(2) as u8;
        let options = SubscriptionOptions { qos_max, ..SubscriptionOptions::default() };
        let token = self.clients[slot].ask(serial, Question::Subscribe { session });
        let command = Command::Subscribe { session, filters: vec![(subject, options)] };
        self.clients[slot].request(Request::Propose { token, command });
    }

    /// Each client sets the retained message of a subject of its own, one at a time.
    fn retain(&mut self, slot: usize, action: Action) {
        let serial = self.serial();
        if action == Action::Retained {
            let others = self.clients.len() as u64;
            let subject = format!("r/{}", self.workload.below(others));
            let at_least = self.model.retained.entry(subject.clone()).or_default().acked;
            let question = Question::Retained { subject: subject.clone(), at_least };
            let token = self.clients[slot].ask(serial, question);
            let namespace = NAMESPACE;
            self.clients[slot].request(Request::Retained {
                token,
                namespace,
                filter: subject,
                after: None,
            });
            return;
        }
        if self.clients[slot].retains {
            return;
        }
        self.clients[slot].retains = true;
        let subject = format!("r/{slot}");
        let value = self.workload.chance(4, 5).then(|| self.model.value());
        let content = value.map(|value| Content {
            body: Some(body(value, 0)),
            ..self.content(value, Origin::Mqtt)
        });
        let known = self.model.retained.entry(subject.clone()).or_default();
        known.history.push(value);
        let index = known.history.len() - 1;
        let question = Question::Retain { subject: subject.clone(), index };
        let token = self.clients[slot].ask(serial, question);
        let command = Command::Retain {
            namespace: NAMESPACE,
            topic: subject,
            content: content.map(|content| content.encode().to_vec()),
            qos: 1,
            expires_at: None,
        };
        self.clients[slot].request(Request::Propose { token, command });
    }
}

fn pick<T: Clone>(rng: &mut Rng, all: &[T]) -> Option<T> {
    if all.is_empty() {
        return None;
    }
    Some(all[rng.below(all.len() as u64) as usize].clone())
}
