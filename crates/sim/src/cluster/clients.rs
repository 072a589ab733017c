//! Clients of a cluster, at the engine's port: each knows every node, guesses who leads, and goes on to
//! another when it is told otherwise or hears nothing. What was not answered is unknown for ever and is
//! never sent again under the same value, but by idempotent producers.

use super::{Cluster, Task};
use crate::model::{Checked, Kind, Value};
use crate::options::draw;
use crate::world::client::{batch, body, Producer, Puppet, Script};
use koine_base::{ConnectionId, GroupId, StreamId};
use koine_broker::message::{Content, Origin};
use koine_broker::metadata::{Command, Durability, NamespaceId, QueueSpec, TopicSettings};
use koine_broker::offsets::CommittedOffset;
use koine_broker::session::{Attach, ConsumerId, Request, Route, Settlement, Token};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

pub(super) const NAMESPACE: NamespaceId = NamespaceId(0);

/// An answer that takes longer never comes.
const PATIENCE_US: u64 = 1_500_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Append,
    AppendOnce,
    Publish,
    Read,
    Consume,
    Settle,
    Commit,
    Offsets,
    Retain,
    Retained,
    Create,
    Disconnect,
}

impl Action {
    /// With usual weights.
    pub const ALL: [(Action, u64); 12] = [
        (Action::Append, 8),
        (Action::AppendOnce, 10),
        (Action::Publish, 10),
        (Action::Read, 6),
        (Action::Consume, 4),
        (Action::Settle, 10),
        (Action::Commit, 4),
        (Action::Offsets, 3),
        (Action::Retain, 3),
        (Action::Retained, 2),
        (Action::Create, 2),
        (Action::Disconnect, 1),
    ];
}

/// What an answer will be about.
#[derive(Clone, Debug)]
pub(super) enum Question {
    Create { name: String, kind: Kind },
    ProducerId { stream: StreamId },
    Append { stream: StreamId, values: Vec<Value> },
    AppendOnce { id: i64, sequence: i32 },
    Publish { stream: StreamId, value: Value },
    Read { stream: StreamId, offset: u64, end: u64 },
    Attach { stream: StreamId, consumer: ConsumerId },
    Sync { stream: StreamId, consumer: ConsumerId, offsets: Vec<u64> },
    Status { stream: StreamId },
    Commit { key: (String, i32), offset: i64 },
    Offsets { key: (String, i32), at_least: i64 },
    Retain { subject: String, index: usize },
    Retained { subject: String, at_least: usize },
}

impl Question {
    /// Whose leader answers; `None` for a consumer group's, which any node may have to name.
    pub fn group(&self) -> Option<GroupId> {
        match self {
            Question::Append { stream, .. }
            | Question::Publish { stream, .. }
            | Question::Read { stream, .. }
            | Question::Attach { stream, .. }
            | Question::Sync { stream, .. }
            | Question::Status { stream } => Some(stream.group()),
            Question::AppendOnce { .. } | Question::Commit { .. } | Question::Offsets { .. } => {
                None
            }
            _ => Some(GroupId::METADATA),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub question: Question,
    pub node: usize,
    pub at_us: u64,
}

pub(super) struct Consumer {
    pub node: usize,
    pub stream: StreamId,
    pub is_attached: bool,
    /// Got and not settled.
    pub held: Vec<u64>,
}

#[derive(Clone)]
pub(super) struct Link {
    pub script: Rc<RefCell<Script>>,
    pub id: ConnectionId,
    pub shard: usize,
}

#[derive(Default)]
pub(super) struct Client {
    pub slot: usize,
    /// By node.
    pub links: BTreeMap<usize, Link>,
    pub link_count: u64,
    /// Who leads a group, as far as it knows.
    pub guesses: BTreeMap<GroupId, usize>,
    /// Which node it asks about consumer groups.
    pub coordinator: usize,
    next_token: Token,
    next_consumer: ConsumerId,
    pub waiting: BTreeMap<Token, Asked>,
    pub consumers: BTreeMap<ConsumerId, Consumer>,
    pub producer: Option<Producer>,
    pub retains: bool,
    pub group_offset: i64,
}

impl Client {
    pub fn new(slot: usize) -> Self {
        Client { slot, next_token: 1, next_consumer: 1, ..Client::default() }
    }

    /// Tells the order of appends over one link from that of others.
    fn writer(&self) -> u64 {
        (self.slot as u64) << 32 | self.link_count
    }
}

impl Cluster {
    pub(super) fn step_client(&mut self, slot: usize) -> Checked {
        self.lose_patience(slot);
        for _ in 0..1 + self.workload.below(3) {
            let weights = std::mem::take(&mut self.options.actions);
            let action = draw(&mut self.workload, &weights);
            self.options.actions = weights;
            match action {
                Some(action) => self.act(slot, action)?,
                None => return Ok(()),
            }
        }
        Ok(())
    }

    fn act(&mut self, slot: usize, action: Action) -> Checked {
        // Without streams there is nothing else to do.
        let has_few = (self.history.streams.len() as u64) < self.options.streams;
        if has_few && (action == Action::Create || self.workload.chance(1, 4)) {
            return self.create(slot);
        }
        match action {
            Action::Append => self.append(slot),
            Action::AppendOnce => self.append_once(slot),
            Action::Publish => self.publish(slot),
            Action::Read => self.read_some(slot),
            Action::Consume => self.consume(slot),
            Action::Settle => self.settle(slot),
            Action::Commit => self.commit(slot),
            Action::Offsets => self.fetch_offsets(slot),
            Action::Retain => self.retain(slot),
            Action::Retained => self.ask_retained(slot),
            Action::Create => Ok(()),
            Action::Disconnect => {
                let node = self.workload.below(self.nodes.len() as u64) as usize;
                self.drop_link(slot, node);
                Ok(())
            }
        }
    }

    // ---- links

    /// Where a client sends what concerns a group.
    fn node_for(&self, slot: usize, group: Option<GroupId>) -> usize {
        let client = &self.clients[slot];
        let guess = group.map_or(Some(&client.coordinator), |group| client.guesses.get(&group));
        guess.copied().unwrap_or(slot) % self.nodes.len()
    }

    /// The node asked does not lead: where it points to, or the next one.
    pub(super) fn guess_again(&mut self, slot: usize, group: Option<GroupId>, node: usize) {
        let next = (node + 1) % self.nodes.len();
        let Some(group) = group else {
            self.clients[slot].coordinator = next;
            return;
        };
        let shard = self.shard_of(group);
        let hint = self.nodes[node].shards.get(shard).and_then(|shard| shard.leader(group));
        let hint = hint.and_then(|id| self.nodes.iter().position(|node| node.id == id));
        let guess = hint.filter(|hint| *hint != node).unwrap_or(next);
        self.clients[slot].guesses.insert(group, guess);
    }

    fn link(&mut self, slot: usize, node: usize) -> Option<Link> {
        let is_deaf = !self.nodes[node].is_up() || self.nodes[node].paused_until > self.now_us;
        if is_deaf {
            return None;
        }
        if let Some(link) = self.clients[slot].links.get(&node) {
            return Some(link.clone());
        }
        let now = self.nodes[node].now(self.now_us);
        let shard = slot % self.nodes[node].shards.len();
        let script = Rc::<RefCell<Script>>::default();
        let puppet = Puppet(Rc::clone(&script));
        let id = self.nodes[node].shards[shard].connect(now, Box::new(puppet));
        let link = Link { script, id, shard };
        self.clients[slot].links.insert(node, link.clone());
        self.clients[slot].link_count += 1;
        Some(link)
    }

    /// Sends a request about `group`; the answer will be about `question`. False if nobody listens.
    pub(super) fn ask(
        &mut self,
        slot: usize,
        group: Option<GroupId>,
        question: Question,
        request: impl FnOnce(Token) -> Request,
    ) -> Result<bool, crate::model::Violation> {
        let node = self.node_for(slot, group);
        self.ask_node(slot, node, group, question, request)
    }

    pub(super) fn ask_node(
        &mut self,
        slot: usize,
        node: usize,
        group: Option<GroupId>,
        question: Question,
        request: impl FnOnce(Token) -> Request,
    ) -> Result<bool, crate::model::Violation> {
        let Some(link) = self.link(slot, node) else {
            self.guess_again(slot, group, node);
            return Ok(false);
        };
        let client = &mut self.clients[slot];
        let token = client.next_token;
        client.next_token += 1;
        self.note(|| format!("client {slot} asks node {} {token}: {question:?}", node + 1));
        let at_us = self.now_us;
        self.clients[slot].waiting.insert(token, Asked { question, node, at_us });
        self.tell(node, &link, request(token))?;
        Ok(true)
    }

    /// Hands a request to a session and lets the node work on it.
    fn tell(&mut self, node: usize, link: &Link, request: Request) -> Checked {
        link.script.borrow_mut().requests.push(request);
        let now = self.nodes[node].now(self.now_us);
        self.nodes[node].shards[link.shard].receive(now, link.id, &mut bytes::BytesMut::new());
        self.pump(node, link.shard)
    }

    /// The client gives up a connection; what it had asked over it is unknown for ever.
    pub(super) fn drop_link(&mut self, slot: usize, node: usize) {
        if let Some(link) = self.clients[slot].links.remove(&node) {
            // A process that is stopped notices when it goes on.
            let (life, shard, connection) = (self.nodes[node].life, link.shard, link.id);
            self.after(0, Task::HangUp { node, life, shard, connection });
        }
        self.forget_questions(slot, node);
    }

    /// The node is gone, and all connections to it.
    pub(super) fn forget_links(&mut self, node: usize) {
        for slot in 0..self.clients.len() {
            self.clients[slot].links.remove(&node);
            self.forget_questions(slot, node);
        }
    }

    fn forget_questions(&mut self, slot: usize, node: usize) {
        let client = &mut self.clients[slot];
        client.consumers.retain(|_, consumer| consumer.node != node);
        let (lost, kept) =
            std::mem::take(&mut client.waiting).into_iter().partition(|(_, a)| a.node == node);
        client.waiting = kept;
        let lost: BTreeMap<Token, Asked> = lost;
        for asked in lost.into_values() {
            self.unknown(slot, &asked);
        }
    }

    /// Whether it happened will never be known.
    pub(super) fn unknown(&mut self, slot: usize, asked: &Asked) {
        let client = &mut self.clients[slot];
        match &asked.question {
            Question::Retain { .. } => client.retains = false,
            Question::AppendOnce { id, sequence } => {
                let Some(producer) = client.producer.as_mut().filter(|p| p.id == *id) else {
                    return;
                };
                producer.is_resending = true;
                if let Some(batch) = producer.batches.iter_mut().find(|b| b.sequence == *sequence) {
                    batch.is_sent = false;
                }
            }
            _ => {}
        }
    }

    fn lose_patience(&mut self, slot: usize) {
        let since = self.now_us.saturating_sub(PATIENCE_US);
        let waiting = self.clients[slot].waiting.values();
        let late: Vec<usize> = waiting.filter(|a| a.at_us < since).map(|a| a.node).collect();
        for node in late {
            self.drop_link(slot, node);
        }
    }

    // ---- writing

    fn any_stream(&mut self, is_queue: bool) -> Option<StreamId> {
        let streams = self.history.streams.iter();
        let all: Vec<StreamId> =
            streams.filter(|(_, s)| s.is_queue() == is_queue).map(|(id, _)| *id).collect();
        (!all.is_empty()).then(|| all[self.workload.below(all.len() as u64) as usize])
    }

    fn create(&mut self, slot: usize) -> Checked {
        let serial = self.history.serial();
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.workload.next_u64().to_be_bytes());
        id[15] = 1;
        let (name, kind, command);
        if self.workload.chance(1, 2) {
            name = format!("q{serial}");
            kind = Kind::Queue;
            let spec = QueueSpec { durable: true, ..QueueSpec::default() };
            let name = name.clone();
            command = Command::DeclareQueue { namespace: NAMESPACE, name, spec, id };
        } else {
            name = format!("t{serial}");
            kind = Kind::Topic;
            let durability =
                if self.workload.chance(3, 4) { Durability::Fsync } else { Durability::Replicated };
            let settings =
                TopicSettings { durability: Some(durability), ..TopicSettings::default() };
            let (namespace, partitions, name) = (NAMESPACE, 1, name.clone());
            command = Command::CreateTopic { namespace, name, partitions, settings, id };
        }
        let question = Question::Create { name, kind };
        let control = Some(GroupId::METADATA);
        self.ask(slot, control, question, |token| Request::Propose { token, command })?;
        Ok(())
    }

    fn values(&mut self, stream: StreamId, writer: u64) -> Vec<(Value, u64)> {
        let count = 1 + self.workload.below(3);
        let most = self.options.body_bytes_max;
        let values: Vec<_> =
            (0..count).map(|_| (self.history.value(), self.workload.below(most))).collect();
        if let Some(stream) = self.history.streams.get_mut(&stream) {
            for (value, _) in &values {
                stream.model.records.sent(*value, writer);
            }
        }
        values
    }

    fn append(&mut self, slot: usize) -> Checked {
        let Some(stream) = self.any_stream(false) else { return Ok(()) };
        let values = self.values(stream, self.clients[slot].writer());
        let (batch, info) = batch(&values, 1_700_000_000_000, None);
        let values = values.into_iter().map(|(value, _)| value).collect();
        let question = Question::Append { stream, values };
        self.ask(slot, Some(stream.group()), question, |token| {
            let token = Some(token);
            Request::Append { token, stream, batch, info }
        })?;
        Ok(())
    }

    fn publish(&mut self, slot: usize) -> Checked {
        let Some(stream) = self.any_stream(true) else { return Ok(()) };
        let value = self.history.value();
        let writer = self.clients[slot].writer();
        if let Some(history) = self.history.streams.get_mut(&stream) {
            history.model.records.sent(value, writer);
        }
        let bytes = self.workload.below(self.options.body_bytes_max);
        let content = self.content(value, bytes, Origin::Amqp091);
        let route = Route { streams: vec![stream], ..Route::default() };
        self.ask(slot, Some(stream.group()), Question::Publish { stream, value }, |token| {
            Request::Publish { token: Some(token), content, route, once: None }
        })?;
        Ok(())
    }

    fn content(&self, value: Value, bytes: u64, origin: Origin) -> Content {
        Content {
            origin,
            envelope: bytes::Bytes::from_static(b"envelope"),
            key: None,
            body: Some(body(value, bytes)),
            timestamp: self.nodes[0].now(self.now_us).wall,
        }
    }

    /// A step of the client's idempotent producer, or a new one.
    fn append_once(&mut self, slot: usize) -> Checked {
        let Some(producer) = &self.clients[slot].producer else {
            let Some(stream) = self.any_stream(false) else { return Ok(()) };
            let command = Command::AllocateProducerId;
            let question = Question::ProducerId { stream };
            let control = Some(GroupId::METADATA);
            self.ask(slot, control, question, |token| Request::Propose { token, command })?;
            return Ok(());
        };
        if producer.is_resending {
            if producer.batches.is_empty() {
                if let Some(producer) = &mut self.clients[slot].producer {
                    producer.is_resending = false;
                }
                return Ok(());
            }
            return match producer.batches.iter().any(|batch| batch.is_sent) {
                true => Ok(()),
                false => self.send_batch(slot, 0),
            };
        }
        if !producer.has_room() {
            return Ok(());
        }
        let (id, stream, sequence) = (producer.id, producer.stream, producer.next_sequence);
        let values = self.values(stream, u64::MAX - id as u64);
        let (bytes, info) = batch(&values, 1_700_000_000_000, Some((id, sequence)));
        let values: Vec<Value> = values.into_iter().map(|(value, _)| value).collect();
        let Some(producer) = &mut self.clients[slot].producer else { return Ok(()) };
        let last = producer.push(bytes, info, values);
        self.send_batch(slot, last)
    }

    fn send_batch(&mut self, slot: usize, index: usize) -> Checked {
        let Some(producer) = &mut self.clients[slot].producer else { return Ok(()) };
        let (id, stream) = (producer.id, producer.stream);
        let pending = &mut producer.batches[index];
        pending.is_sent = true;
        pending.tries += 1;
        let (batch, info, sequence) = (pending.bytes.clone(), pending.info, pending.sequence);
        let question = Question::AppendOnce { id, sequence };
        let sent = self.ask(slot, Some(stream.group()), question, |token| {
            let token = Some(token);
            Request::Append { token, stream, batch, info }
        })?;
        if !sent {
            if let Some(producer) = &mut self.clients[slot].producer {
                producer.batches[index].is_sent = false;
                producer.is_resending = true;
            }
        }
        Ok(())
    }

    // ---- reading

    fn read_some(&mut self, slot: usize) -> Checked {
        let Some(stream) = self.any_stream(false) else { return Ok(()) };
        let end = self.history.streams.get(&stream).map_or(0, |s| s.model.records.end);
        let offset = self.workload.below(end + 1);
        self.read(slot, stream, offset, end)
    }

    pub(super) fn read(&mut self, slot: usize, stream: StreamId, offset: u64, end: u64) -> Checked {
        let question = Question::Read { stream, offset, end };
        self.ask(slot, Some(stream.group()), question, |token| {
            let bytes_max = 1 << 14;
            Request::Read { token, stream, offset, bytes_max }
        })?;
        Ok(())
    }

    fn consume(&mut self, slot: usize) -> Checked {
        let Some(stream) = self.any_stream(true) else { return Ok(()) };
        let is_there = |consumer: &Consumer| consumer.stream == stream;
        if self.clients[slot].consumers.values().any(is_there) {
            return Ok(());
        }
        self.attach(slot, stream)
    }

    pub(super) fn attach(&mut self, slot: usize, stream: StreamId) -> Checked {
        let group = Some(stream.group());
        let node = self.node_for(slot, group);
        let client = &mut self.clients[slot];
        let consumer = client.next_consumer;
        client.next_consumer += 1;
        let is_attached = false;
        client.consumers.insert(consumer, Consumer { node, stream, is_attached, held: Vec::new() });
        let attach = Attach {
            stream,
            consumer,
            credit: u32::MAX,
            auto_settle: false,
            exclusive: false,
            priority: 0,
            offset_span_max: u64::MAX,
        };
        let question = Question::Attach { stream, consumer };
        let sent =
            self.ask_node(slot, node, group, question, |token| Request::Attach { token, attach })?;
        if !sent {
            self.clients[slot].consumers.remove(&consumer);
        }
        Ok(())
    }

    /// Some of what a consumer holds is consumed, and now and then made sure of.
    fn settle(&mut self, slot: usize) -> Checked {
        let consumers = self.clients[slot].consumers.iter();
        let holding: Vec<ConsumerId> =
            consumers.filter(|(_, c)| !c.held.is_empty()).map(|(id, _)| *id).collect();
        if holding.is_empty() {
            return Ok(());
        }
        let consumer = holding[self.workload.below(holding.len() as u64) as usize];
        let count = match self.clients[slot].consumers.get(&consumer) {
            Some(consumer) => 1 + self.workload.below(consumer.held.len() as u64) as usize,
            None => return Ok(()),
        };
        let is_sure = self.workload.chance(2, 3);
        self.settle_these(slot, consumer, count, is_sure)
    }

    pub(super) fn settle_these(
        &mut self,
        slot: usize,
        consumer: ConsumerId,
        count: usize,
        is_sure: bool,
    ) -> Checked {
        let Some(state) = self.clients[slot].consumers.get_mut(&consumer) else { return Ok(()) };
        let (node, stream) = (state.node, state.stream);
        let offsets: Vec<u64> = state.held.drain(..count.min(state.held.len())).collect();
        let Some(link) = self.link(slot, node) else { return Ok(()) };
        if let Some(history) = self.history.streams.get_mut(&stream) {
            offsets.iter().for_each(|offset| history.consume(*offset));
        }
        self.note(|| format!("client {slot} settles {offsets:?} of {stream}"));
        let ranges = offsets.iter().map(|offset| (*offset, *offset)).collect();
        let settlement = Settlement::Ack;
        self.tell(node, &link, Request::Settle { stream, consumer, ranges, settlement })?;
        if is_sure {
            let question = Question::Sync { stream, consumer, offsets };
            self.ask_node(slot, node, Some(stream.group()), question, |token| Request::Sync {
                token,
                stream,
            })?;
        }
        Ok(())
    }

    // ---- consumer groups and retained messages

    fn commit(&mut self, slot: usize) -> Checked {
        let group = format!("g{}", self.workload.below(3));
        let commit_timestamp = self.nodes[0].now(self.now_us).wall.0;
        let client = &mut self.clients[slot];
        client.group_offset += 1 + self.workload.below(5) as i64;
        let (offset, partition) = (client.group_offset, slot as i32);
        let key = (group.clone(), partition);
        let none = crate::model::GroupOffset { acked: -1, attempted: -1 };
        self.history.groups.entry(key.clone()).or_insert(none).attempted = offset;
        let (leader_epoch, metadata) = (-1, String::new());
        let committed = CommittedOffset { offset, leader_epoch, metadata, commit_timestamp };
        let offsets = vec![("t".to_owned(), partition, committed)];
        self.ask(slot, None, Question::Commit { key, offset }, |token| {
            let member = None;
            Request::CommitOffsets { token, group, member, offsets }
        })?;
        Ok(())
    }

    fn fetch_offsets(&mut self, slot: usize) -> Checked {
        let group = format!("g{}", self.workload.below(3));
        let partition = self.workload.below(self.clients.len() as u64) as i32;
        self.fetch_offset(slot, (group, partition))
    }

    pub(super) fn fetch_offset(&mut self, slot: usize, key: (String, i32)) -> Checked {
        let at_least = self.history.groups.get(&key).map_or(-1, |known| known.acked);
        let (group, partition) = key.clone();
        let partitions = Some(vec![("t".to_owned(), partition)]);
        self.ask(slot, None, Question::Offsets { key, at_least }, |token| Request::FetchOffsets {
            token,
            group,
            partitions,
        })?;
        Ok(())
    }

    /// Each client sets the retained message of a subject of its own, one at a time.
    fn retain(&mut self, slot: usize) -> Checked {
        if self.clients[slot].retains {
            return Ok(());
        }
        let subject = format!("r/{slot}");
        let value = self.workload.chance(4, 5).then(|| self.history.value());
        let content = value.map(|value| self.content(value, 0, Origin::Mqtt).encode().to_vec());
        let known = self.history.retained.entry(subject.clone()).or_default();
        known.history.push(value);
        let index = known.history.len() - 1;
        self.clients[slot].retains = true;
        let (namespace, topic) = (NAMESPACE, subject.clone());
        let command = Command::Retain { namespace, topic, content, qos: 1, expires_at: None };
        let question = Question::Retain { subject, index };
        let control = Some(GroupId::METADATA);
        let sent =
            self.ask(slot, control, question, |token| Request::Propose { token, command })?;
        if !sent {
            self.clients[slot].retains = false;
        }
        Ok(())
    }

    fn ask_retained(&mut self, slot: usize) -> Checked {
        let subject = format!("r/{}", self.workload.below(self.clients.len() as u64));
        self.ask_retained_of(slot, subject)
    }

    pub(super) fn ask_retained_of(&mut self, slot: usize, subject: String) -> Checked {
        let at_least = self.history.retained.get(&subject).map_or(0, |known| known.acked);
        let (namespace, filter) = (NAMESPACE, subject.clone());
        let question = Question::Retained { subject, at_least };
        let control = Some(GroupId::METADATA);
        self.ask(slot, control, question, |token| Request::Retained {
            token,
            namespace,
            filter,
            after: None,
        })?;
        Ok(())
    }
}
