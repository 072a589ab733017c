//! Group 0 on the shard that owns it: metadata commands, retained messages, wills and the ends of
//! sessions. And on every shard: applying what group 0 committed to its own copy.

use super::spreading::{changes_routes, Spreading};
use super::{Shard, Work};
use crate::consensus::{HardState, LogPoint};
use crate::mail::Mail;
use crate::pages::Pages;
use crate::raft::RaftGroup;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use koine_base::{ConnectionId, Moment, Now, ShardId, StreamId, Timestamp};
use koine_broker::message::Content;
use koine_broker::metadata::{
    Command, Effects, Metadata, NamespaceId, Outcome, Refusal, SessionId,
};
use koine_broker::publish::{self, Publisher};
use koine_broker::retained::{RetainedStore, ScanBudget, ScanPosition};
use koine_broker::router::{Filter, Matches, Subject};
use koine_broker::session::{Event, Protocol, RetainedMessage, RetainedPage, Token};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// Commands of one entry; keeps an entry far below the log's frame limit.
const COMMANDS_PER_ENTRY_MAX: usize = 1024;

/// Bytes of retained messages and wills in one entry above which the next command waits.
const ENTRY_BYTES_SOFT: usize = 16 << 20;

/// Wills and ends of sessions are looked for again at the earliest after this long.
const SESSIONS_EVERY_MS: u64 = 10;

/// Of a subscription's retained messages that are shown, and nodes of the trie looked at, at a time: what
/// one answer may hold, and how long it may hold the shard. All of a node's would be some 200 MB for
/// each subscriber that asks for them.
const RETAINED_PAGE: ScanBudget = ScanBudget { count_max: 1_000, node_count_max: 20_000 };

/// Whom to tell what became of a command.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asker {
    Nobody,
    Proposer(ConnectionId, Token),
    /// Of a queue's deletion; how many messages went with it.
    Deleter(ConnectionId, Token, u64),
}

/// What a checkpoint says of group 0, as far as it is encoded.
#[derive(Default)]
pub(super) struct ControlPages {
    pub retained: Pages<u32>,
    /// The metadata and its revision.
    pub metadata: Option<(u64, Bytes)>,
}

pub(super) struct Controller {
    pub consensus: RaftGroup,
    pub retained: RetainedStore,
    pub pages: ControlPages,
    pub applied: LogPoint,
    pub hard_state: HardState,
    /// The term in which this replica leads, as far as it has acted on it.
    pub office: Option<u64>,
    /// It has told the others that its term has begun.
    pub is_prepared: bool,
    /// The commit index that the log knows of.
    pub noted_commit: u64,
    pending: VecDeque<(Command, Asker)>,
    under_way: VecDeque<(u64, Vec<Asker>)>,
    /// Sessions whose will is on its way, so that it goes once.
    wills_under_way: BTreeSet<SessionId>,
    expiry_under_way: bool,
    next_sessions: Moment,
    /// Wall-clock deadline of the sessions, and the metadata version it was found at.
    session_deadline: (u64, Option<i64>),
    pub spreading: Spreading,
}

impl Controller {
    pub fn new(consensus: RaftGroup, retained: RetainedStore) -> Self {
        Controller {
            consensus,
            retained,
            pages: ControlPages::default(),
            applied: LogPoint::default(),
            hard_state: HardState::default(),
            office: None,
            is_prepared: false,
            noted_commit: 0,
            pending: VecDeque::new(),
            under_way: VecDeque::new(),
            wills_under_way: BTreeSet::new(),
            expiry_under_way: false,
            next_sessions: Moment(0),
            session_deadline: (u64::MAX, None),
            spreading: Spreading::default(),
        }
    }

    pub fn is_serving(&self) -> bool {
        self.is_prepared && self.office == self.consensus.office() && self.consensus.is_serving()
    }

    /// A new term of office: the first command ends what the last one left connected.
    pub fn prepare(&mut self, at: i64) {
        self.pending.push_front((Command::NodeStarted { at }, Asker::Nobody));
        self.is_prepared = true;
    }

    /// Leadership is lost: drops what only a leader has. Returns who waited, for an outcome that nobody
    /// here will know.
    pub fn abdicate(&mut self) -> Vec<Asker> {
        self.is_prepared = false;
        self.wills_under_way.clear();
        self.expiry_under_way = false;
        let under_way = std::mem::take(&mut self.under_way);
        let pending = std::mem::take(&mut self.pending);
        let askers = under_way.into_iter().flat_map(|(_, askers)| askers);
        askers.chain(pending.into_iter().map(|(_, asker)| asker)).collect()
    }

    pub fn is_quiet(&self) -> bool {
        self.pending.is_empty() && self.under_way.is_empty() && self.spreading.is_empty()
    }

    pub fn ask(&mut self, command: Command, asker: Asker) {
        self.pending.push_back((command, asker));
    }

    /// The askers of the entry at this point, if this replica proposed it in its present office.
    fn committed(&mut self, point: LogPoint) -> Vec<Asker> {
        let is_own = self.office == Some(point.term);
        match self.under_way.front() {
            Some((index, _)) if is_own && *index == point.index => {
                self.under_way.pop_front().map(|(_, askers)| askers).unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }

    pub fn deadline(&self, now: Now) -> Moment {
        let spreading = self.spreading.deadline();
        let Some(at) = self.session_deadline.1 else {
            return spreading;
        };
        let wait_ms = u64::try_from(at.saturating_sub(now.wall.0)).unwrap_or(0);
        now.moment.after_ms(wait_ms).max(self.next_sessions).min(spreading)
    }

    pub fn look_at(&mut self, metadata: &Metadata) {
        if self.session_deadline.0 != metadata.version() {
            self.session_deadline = (metadata.version(), metadata.next_session_deadline());
        }
    }

    /// Proposes what queued up while the last entry was on its way to disk.
    pub fn propose(&mut self) -> bool {
        if self.pending.is_empty() || !self.under_way.is_empty() || !self.is_serving() {
            return false;
        }
        let mut commands = Vec::new();
        let mut askers = Vec::new();
        let mut bytes = 0;
        while let Some((command, asker)) = self.pending.pop_front() {
            bytes += weight(&command);
            commands.push(command);
            askers.push(asker);
            if commands.len() >= COMMANDS_PER_ENTRY_MAX || bytes >= ENTRY_BYTES_SOFT {
                break;
            }
        }
        let entry = postcard::to_allocvec(&commands).expect("encoding to memory cannot fail");
        let index = self.consensus.propose(entry).expect("a serving leader takes proposals");
        self.under_way.push_back((index, askers));
        true
    }
}

fn weight(command: &Command) -> usize {
    match command {
        Command::Retain { content, .. } => content.as_ref().map_or(0, Vec::len),
        Command::OpenSession { will, .. } => will.as_ref().map_or(0, |will| will.content.len()),
        _ => 0,
    }
}

/// A retained message in the store: `qos u8 | content`.
fn encode_retained(qos: u8, content: &[u8]) -> Vec<u8> {
    let mut value = BytesMut::with_capacity(1 + content.len());
    value.put_u8(qos);
    value.extend_from_slice(content);
    value.to_vec()
}

fn decode_retained(mut value: Bytes) -> Option<(u8, Content)> {
    if value.is_empty() {
        return None;
    }
    let qos = value.get_u8();
    Content::decode(value).map(|content| (qos, content))
}

impl Shard {
    pub(super) fn propose_command(&mut self, from: ConnectionId, token: Token, command: Command) {
        let leads = self.takes_proposals();
        match &mut self.controller {
            Some(controller) if leads => controller.ask(command, Asker::Proposer(from, token)),
            _ => {
                let result = Err(Refusal::NotLeader);
                self.tell(from, Event::Proposed { token, result });
            }
        }
    }

    /// True if group 0 is here and led from here.
    fn takes_proposals(&self) -> bool {
        self.controller.as_ref().is_some_and(|controller| self.is_alone || controller.is_serving())
    }

    /// A command that nobody waits for. Where group 0 is not led from here it is dropped: who leads it
    /// begins its term with the end of whatever was connected.
    pub(super) fn propose_silently(&mut self, command: Command) {
        let leads = self.takes_proposals();
        match &mut self.controller {
            Some(controller) if leads => controller.ask(command, Asker::Nobody),
            Some(_) => {}
            None => {
                let from = ConnectionId::new(self.config.shard, 0);
                let request = koine_broker::session::Request::Propose { token: u64::MAX, command };
                self.queue.push_back(Work::Request(from, request));
            }
        }
    }

    /// One committed entry of group 0: other shards are told first, then whoever asked, so that the
    /// answer never overtakes the change. Answers about routes wait until the others have applied it.
    pub(super) fn apply_control_entry(&mut self, point: LogPoint, data: &[u8]) {
        let Ok(commands) = postcard::from_bytes::<Vec<Command>>(data) else {
            unreachable!("an entry that passed its checksum is what was proposed");
        };
        let commands = Arc::new(commands);
        let askers = self.controller.as_mut().map(|controller| controller.committed(point));
        let askers = askers.unwrap_or_default();
        let others: Vec<ShardId> =
            self.config.layout.shards().filter(|shard| *shard != self.config.shard).collect();
        let is_held = |asker: &Asker, command: &Command| {
            !matches!(asker, Asker::Nobody) && !others.is_empty() && changes_routes(command)
        };
        let holds_any = askers.iter().zip(commands.iter()).any(|(asker, of)| is_held(asker, of));
        let controller = self.controller.as_mut().filter(|_| holds_any);
        let report = controller.map(|controller| controller.spreading.next_number());
        for shard in &others {
            let commands = Arc::clone(&commands);
            self.outbox.push((*shard, Mail::Commands { commands, report }));
        }
        let outcomes = self.apply_commands(&commands);
        let mut held = Vec::new();
        for ((asker, result), command) in askers.into_iter().zip(outcomes).zip(commands.iter()) {
            match is_held(&asker, command) {
                true => held.push((asker, result)),
                false => self.tell_asker(asker, result),
            }
        }
        if let (Some(controller), false) = (&mut self.controller, held.is_empty()) {
            controller.spreading.begin(others.len(), self.now.moment, held);
        }
    }

    pub(super) fn tell_asker(&mut self, asker: Asker, result: Result<Outcome, Refusal>) {
        match asker {
            Asker::Nobody => {}
            Asker::Proposer(from, token) => self.tell(from, Event::Proposed { token, result }),
            Asker::Deleter(from, token, count) => {
                let result = result.map(|_| count);
                self.tell(from, Event::QueueDeleted { token, result });
            }
        }
    }

    pub(super) fn apply_commands(&mut self, commands: &[Command]) -> Vec<Result<Outcome, Refusal>> {
        let outcomes = commands.iter().map(|command| self.apply_command(command)).collect();
        if let Some(controller) = &mut self.controller {
            controller.look_at(&self.metadata);
        }
        outcomes
    }

    fn apply_command(&mut self, command: &Command) -> Result<Outcome, Refusal> {
        let mut effects = Effects::default();
        let mut result = self.metadata.apply(command.clone(), &mut effects);
        if let Some(controller) = &mut self.controller {
            match command {
                Command::Retain { topic, content, qos, expires_at, .. } => {
                    let now = self.now.wall;
                    result = controller.retain(topic, content.as_deref(), *qos, *expires_at, now);
                }
                Command::WillPublished { session } => {
                    controller.wills_under_way.remove(session);
                }
                Command::ExpireSessions { .. } => controller.expiry_under_way = false,
                _ => {}
            }
        }
        if let (Command::DeleteTopic { name, .. } | Command::DeleteQueue { name, .. }, Ok(_)) =
            (command, &result)
        {
            self.forget_offsets_of(name);
        }
        self.carry_out(effects);
        self.release_if_gone(command);
        result
    }

    fn carry_out(&mut self, effects: Effects) {
        for stream in effects.deleted_streams {
            self.drop_stream(stream);
        }
        for (connection, session, resumed) in effects.taken {
            let to = ConnectionId::from_raw(connection);
            if self.is_own_connection(to) {
                self.tell(to, Event::SessionTaken { session, resumed });
            }
        }
        for (connection, session) in effects.ended {
            let to = ConnectionId::from_raw(connection);
            if self.is_own_connection(to) {
                self.tell(to, Event::SessionEnded { session });
            }
        }
    }

    /// A connection may end while what it asked for is being committed.
    fn release_if_gone(&mut self, command: &Command) {
        let owner = match command {
            Command::OpenSession { connection, .. } => Some(*connection),
            Command::DeclareQueue { spec, .. } => spec.exclusive,
            _ => None,
        };
        let Some(connection) = owner else { return };
        let id = ConnectionId::from_raw(connection);
        let is_ours = self.is_own_connection(id);
        if is_ours && !self.connections.contains_key(&id) && self.metadata.is_bound_to(connection) {
            self.propose_silently(Command::ReleaseConnection { connection, at: self.now.wall.0 });
        }
    }

    pub(super) fn drop_stream(&mut self, id: StreamId) {
        if !self.is_group_here(id.group()) {
            return;
        }
        self.cancel_consumers(id);
        self.refuse_pulls(id, Refusal::NotFound);
        let watchers = self.stream_mut(id).map(|state| std::mem::take(&mut state.watchers));
        for watcher in watchers.unwrap_or_default() {
            self.tell(watcher.connection, Event::Grown { token: watcher.token });
        }
        if let Some(group) = self.groups.get_mut(&id.group()) {
            group.streams.remove(&id);
            group.pages.touch(id);
        }
        let stored = self.stored(id);
        self.log.delete_stream(stored);
    }

    pub(super) fn delete_checked(
        &mut self,
        from: ConnectionId,
        token: Option<Token>,
        namespace: NamespaceId,
        name: String,
        message_count: u64,
    ) {
        let asker = match token {
            Some(token) => Asker::Deleter(from, token, message_count),
            None => Asker::Nobody,
        };
        let leads = self.takes_proposals();
        match &mut self.controller {
            Some(controller) if leads => {
                controller.ask(Command::DeleteQueue { namespace, name }, asker);
            }
            _ => self.tell_asker(asker, Err(Refusal::NotLeader)),
        }
    }

    pub(super) fn read_retained(
        &mut self,
        from: ConnectionId,
        token: Token,
        _namespace: NamespaceId,
        filter: &str,
        after: Option<&ScanPosition>,
    ) {
        let (mut messages, mut rest) = (Vec::new(), None);
        if let (Some(controller), Ok(filter)) = (&self.controller, Filter::from_mqtt(filter)) {
            let now = self.now.wall;
            rest = controller.retained.matching(&filter, after, now, RETAINED_PAGE, |retained| {
                let Some((qos, content)) = decode_retained(retained.value.clone()) else {
                    return;
                };
                let Some(topic) = retained.subject.to_mqtt() else {
                    return;
                };
                let expires_at = retained.expires_at;
                messages.push(RetainedMessage { topic, content, qos, expires_at });
            });
        }
        let page = RetainedPage { messages, rest };
        self.tell(from, Event::Retained { token, result: Ok(page) });
    }

    /// Publishes wills that are due and ends sessions whose time is up.
    pub(super) fn tick_control(&mut self) {
        let Some(controller) = &mut self.controller else {
            return;
        };
        if !controller.is_serving() || self.now.moment < controller.next_sessions {
            return;
        }
        controller.look_at(&self.metadata);
        let at = self.now.wall.0;
        if controller.session_deadline.1.is_none_or(|deadline| deadline > at) {
            return;
        }
        controller.next_sessions = self.now.moment.after_ms(SESSIONS_EVERY_MS);
        let due: Vec<_> = self
            .metadata
            .due_wills(at)
            .filter(|(id, _, _)| !controller.wills_under_way.contains(id))
            .map(|(id, session, will)| (id, session.namespace, will.clone()))
            .collect();
        controller.wills_under_way.extend(due.iter().map(|(id, _, _)| *id));
        let expires = self.metadata.has_expired_sessions(at) && !controller.expiry_under_way;
        controller.expiry_under_way |= expires;
        for (session, namespace, will) in due {
            self.publish_will(session, namespace, &will);
        }
        if expires {
            self.propose_silently(Command::ExpireSessions { at });
        }
    }

    fn publish_will(
        &mut self,
        session: SessionId,
        namespace: NamespaceId,
        will: &koine_broker::metadata::Will,
    ) {
        let content = Content::decode(Bytes::from(will.content.clone()));
        let subject = Subject::from_mqtt(&will.topic).ok();
        let is_allowed = subject
            .as_ref()
            .is_some_and(|subject| self.may_leave_will(session, namespace, subject));
        if !is_allowed {
            self.meters[Protocol::Mqtt.index()].refused += 1;
        }
        if let (Some(mut content), Some(subject), true) = (content, subject, is_allowed) {
            content.timestamp = self.now.wall;
            let nobody = ConnectionId::new(ShardId(0), 0);
            let publisher = Publisher {
                connection: nobody,
                session: Some(session),
                qos: will.qos,
                retain: will.retain,
                key: None,
            };
            let mut matches = Matches::new();
            let route =
                publish::to_subject(&self.metadata, namespace, &subject, &publisher, &mut matches);
            if will.retain {
                let body = content.body.as_ref().is_some_and(|body| !body.is_empty());
                let expires_at = will
                    .expiry_ms
                    .map(|ms| self.now.wall.plus_ms(i64::try_from(ms).unwrap_or(i64::MAX)).0);
                self.propose_silently(Command::Retain {
                    namespace,
                    topic: will.topic.clone(),
                    content: body.then(|| content.encode().to_vec()),
                    qos: will.qos,
                    expires_at,
                });
            }
            self.publish(nobody, None, content, route, None);
        }
        self.propose_silently(Command::WillPublished { session });
    }

    /// Asked when the will is due, of whatever its user may do by then: it may have been years, and
    /// nobody can be told.
    fn may_leave_will(&self, id: SessionId, namespace: NamespaceId, subject: &Subject) -> bool {
        let session = self.metadata.session(id);
        let who = session.map(|session| session.principal(self.metadata.access()));
        who.is_some_and(|who| self.metadata.may_publish(&who, namespace, subject))
    }
}

impl Controller {
    pub(super) fn retain(
        &mut self,
        topic: &str,
        content: Option<&[u8]>,
        qos: u8,
        expires_at: Option<i64>,
        now: Timestamp,
    ) -> Result<Outcome, Refusal> {
        let subject = Subject::from_mqtt(topic).map_err(|_| Refusal::InvalidName)?;
        match content {
            None => {
                self.retained.clear(&subject);
            }
            Some(content) => {
                let value = encode_retained(qos, content);
                let expires_at = expires_at.map(Timestamp);
                self.retained
                    .set(&subject, &value, expires_at, now)
                    .map_err(|_| Refusal::QuotaExceeded)?;
            }
        }
        Ok(Outcome::Done)
    }
}
