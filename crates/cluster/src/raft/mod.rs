//! One group's consensus on the `raft` crate, driven without I/O. The shard takes away what is to be
//! written and sent; a message leaves only when what it promises is durable. With one voter there is
//! nobody to send to and nothing to wait for: it leads as soon as it starts and needs no ticks.

mod check;
mod mandate;
mod store;
#[cfg(test)]
mod tests;

use crate::consensus::{
    Configuration, Entry, GroupPosition, HardState, LogPoint, NotLeader, Ready,
};
use koine_base::{Moment, NodeId};
use mandate::Mandate;
use protobuf::Message as _;
use raft::eraftpb::{
    ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, Message, MessageType,
    Snapshot,
};
use raft::{RawNode, StateRole};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use store::{own_entry, raft_entry, Store, Window};

pub use check::is_sound;
pub use store::KEPT_ENTRIES_MAX;

/// Time of a tick.
pub const TICK_MS: u64 = 10;

const HEARTBEAT_TICKS: usize = 5;

/// The quorum of a leader must have answered within this many ticks.
const ELECTION_TICKS: usize = 30;

/// A follower that hears nothing campaigns after a number of ticks in this range. It begins somewhat
/// above the promise that other followers made when they last heard the leader.
const CAMPAIGN_TICKS: std::ops::Range<usize> = 33..60;

/// Entries of one message, unless a single one is larger.
const MESSAGE_BYTES_MAX: u64 = 1 << 20;

/// Messages with entries on their way to one follower.
const MESSAGES_IN_FLIGHT_MAX: usize = 64;

/// A learner this close behind becomes a voter.
const CAUGHT_UP_ENTRIES: u64 = 128;

/// Where a group stands when it starts: what recovery applied, and what it remembers of its vote.
pub struct StartingPoint {
    pub this: NodeId,
    pub now: Moment,
    /// For the times at which it campaigns.
    pub seed: u64,
    pub applied: LogPoint,
    pub hard_state: HardState,
    pub configuration: Configuration,
    /// From the log, in its order: entries behind `applied`, and some before it.
    pub entries: Vec<Entry>,
}

/// A `Ready` whose frames are on their way to the disk.
struct Writing {
    number: u64,
    /// The log's number of its last frame.
    frame: u64,
    /// The state that was installed with it is that of this index.
    installed: Option<u64>,
    /// It holds a vote or a term: nothing that comes after may be sent before it is durable.
    votes: bool,
    /// To be sent when it is durable.
    messages: Vec<Message>,
}

/// What is left of a `Ready` until the shard has handed its frames to the log.
struct Taken {
    number: u64,
    installed: Option<u64>,
    votes: bool,
    messages: Vec<Message>,
}

pub struct RaftGroup {
    node: RawNode<Store>,
    store: Store,
    this: u64,
    seed: u64,
    /// Campaigns begun since the start.
    campaigns: u64,
    taken: Option<Taken>,
    writing: VecDeque<Writing>,
    outgoing: Vec<Message>,
    /// Term and index of this replica's newest own-term no-op.
    no_op: Option<LogPoint>,
    mandate: Mandate,
    is_alone: bool,
    /// A leader says that this node is no longer part of the group.
    is_excluded: bool,
    /// Who is to vote when the change under way is over.
    target: Option<Vec<u64>>,
}

impl RaftGroup {
    pub fn start(start: StartingPoint) -> Self {
        let this = u64::from(start.this.0);
        let is_alone = start.configuration.is_alone(this);
        let is_sole_voter = start.configuration.is_sole_voter(this);
        let config = raft::Config {
            id: this,
            applied: start.applied.index,
            election_tick: ELECTION_TICKS,
            max_election_tick: CAMPAIGN_TICKS.end,
            heartbeat_tick: HEARTBEAT_TICKS,
            // An entry is bounded by the caller; alone, nothing is sent that could be too large.
            max_size_per_msg: if is_alone { u64::MAX } else { MESSAGE_BYTES_MAX },
            max_committed_size_per_ready: u64::MAX,
            max_inflight_msgs: MESSAGES_IN_FLIGHT_MAX,
            pre_vote: true,
            check_quorum: true,
            ..raft::Config::default()
        };
        let mut window = Window::new(start.applied, start.configuration);
        if !is_alone {
            for entry in &start.entries {
                window.push(raft_entry(entry));
            }
            if window.last().index < start.applied.index {
                window.restore(start.applied, window.configuration.clone());
            }
        }
        window.hard_state.term =
            start.hard_state.term.max(start.applied.term).max(window.last().term);
        if window.hard_state.term == start.hard_state.term {
            window.hard_state.vote = start.hard_state.vote;
        }
        window.hard_state.commit = start.applied.index;
        let store = Store(Rc::new(RefCell::new(window)));
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let node = RawNode::new(&config, store.clone(), &logger)
            .expect("the configuration is constant and the store consistent");
        let mut group = RaftGroup {
            node,
            store,
            this,
            seed: start.seed,
            campaigns: 0,
            taken: None,
            writing: VecDeque::new(),
            outgoing: Vec::new(),
            no_op: None,
            mandate: Mandate::new(start.now, is_sole_voter),
            is_alone,
            is_excluded: false,
            target: None,
        };
        if is_sole_voter {
            group.node.campaign().expect("a lone voter may always campaign");
        }
        group.pin_timeout();
        group
    }

    /// Takes the place of a group's consensus until the replay has shown where it stands.
    pub fn idle(this: NodeId, now: Moment) -> Self {
        RaftGroup::start(StartingPoint {
            this,
            now,
            seed: 0,
            applied: LogPoint::default(),
            hard_state: HardState::default(),
            configuration: Configuration::default(),
            entries: Vec::new(),
        })
    }

    /// The `raft` crate draws the time-out of elections from a generator without a seed. It is set
    /// anew after every step that may have drawn one.
    fn pin_timeout(&mut self) {
        if self.is_alone {
            return;
        }
        let span = (CAMPAIGN_TICKS.end - CAMPAIGN_TICKS.start) as u64;
        let mix = self.seed ^ self.node.raft.term.rotate_left(32) ^ self.campaigns.rotate_left(48);
        let drawn = koine_base::rng::Rng::new(mix).below(span) as usize;
        self.node.raft.set_randomized_election_timeout(CAMPAIGN_TICKS.start + drawn);
    }

    // ---- the leader's

    /// Offers one entry; returns its index. It is committed when it comes back in
    /// [`Ready::committed`] with this index and the term of office it was offered in.
    pub fn propose(&mut self, data: Vec<u8>) -> Result<u64, NotLeader> {
        if self.node.raft.state != StateRole::Leader {
            return Err(NotLeader);
        }
        self.node.propose(Vec::new(), data).map_err(|_| NotLeader)?;
        Ok(self.node.raft.raft_log.last_index())
    }

    /// The term in which this replica leads, if it does.
    pub fn office(&self) -> Option<u64> {
        (self.node.raft.state == StateRole::Leader).then_some(self.node.raft.term)
    }

    /// True once this replica leads and its own-term no-op is applied: only then may it serve.
    pub fn is_serving(&self) -> bool {
        let Some(term) = self.office() else { return false };
        let applied = self.store.0.borrow().applied();
        self.no_op.is_some_and(|no_op| no_op.term == term && no_op.index <= applied.index)
    }

    /// True if no other can lead at this moment: a read from the applied state is no stale one.
    pub fn has_mandate(&self, now: Moment) -> bool {
        if self.is_alone {
            return true;
        }
        let window = self.store.0.borrow();
        self.mandate.holds(now, self.this, &window.configuration)
    }

    /// Another term of office than before, or none.
    pub fn note_office(&mut self) {
        self.mandate.reset();
        self.target = None;
    }

    // ---- work

    /// Collects work; `None` if there is none. [`Self::wrote`] has to follow.
    pub fn ready(&mut self) -> Option<Ready> {
        if !self.node.has_ready() {
            return None;
        }
        assert!(self.taken.is_none(), "the work taken before was not handed on");
        let mut raft_ready = self.node.ready();
        let mut ready = Ready::default();
        let raft_entries = raft_ready.take_entries();
        {
            let mut window = self.store.0.borrow_mut();
            if !raft_ready.snapshot().is_empty() {
                let metadata = raft_ready.snapshot().get_metadata();
                let point = LogPoint { index: metadata.index, term: metadata.term };
                window.restore(point, store::configuration(metadata.get_conf_state().clone()));
                ready.installed = Some(point);
            }
            for entry in &raft_entries {
                assert!(entry.index <= window.last().index + 1, "raft leaves no gaps");
                window.push(entry.clone());
            }
            if let Some(hard_state) = raft_ready.hs() {
                let voted = hard_state.term != window.hard_state.term
                    || hard_state.vote != window.hard_state.vote;
                window.hard_state = hard_state.clone();
                // The commit index alone need not be durable: it is found again.
                if voted {
                    ready.hard_state =
                        Some(HardState { term: hard_state.term, vote: hard_state.vote });
                }
            }
        }
        if ready.installed.is_some() {
            self.refresh_alone();
        }
        self.note_no_op(&raft_entries);
        ready.committed = raft_ready.take_committed_entries().into_iter().map(own_entry).collect();
        ready.entries = raft_entries.into_iter().map(own_entry).collect();
        let votes = ready.hard_state.is_some();
        let mut messages = raft_ready.take_persisted_messages();
        let at_once = raft_ready.take_messages();
        if votes || self.writing.iter().any(|writing| writing.votes) {
            messages.extend(at_once);
        } else {
            self.outgoing.extend(at_once);
        }
        let number = raft_ready.number();
        self.node.advance_append_async(raft_ready);
        let installed = ready.installed.map(|point| point.index);
        self.taken = Some(Taken { number, installed, votes, messages });
        Some(ready)
    }

    fn note_no_op(&mut self, entries: &[raft::eraftpb::Entry]) {
        let Some(term) = self.office() else { return };
        if self.no_op.is_some_and(|no_op| no_op.term == term) {
            return;
        }
        let own = entries.iter().find(|entry| entry.term == term);
        if let Some(own) = own {
            self.no_op = Some(LogPoint { index: own.index, term });
        }
    }

    /// What the last [`Ready`] wanted durable is handed to the log; `frame` is the number of its last
    /// frame, if there was any.
    pub fn wrote(&mut self, frame: Option<u64>) {
        let Some(taken) = self.taken.take() else { return };
        let Taken { number, installed, votes, messages } = taken;
        let frame = frame.or(self.writing.back().map(|before| before.frame));
        match frame {
            Some(frame) => {
                let writing = Writing { number, frame, installed, votes, messages };
                self.writing.push_back(writing);
            }
            None => {
                self.node.on_persist_ready(number);
                self.outgoing.extend(messages);
            }
        }
    }

    /// All frames of the group up to this number are durable.
    pub fn persisted(&mut self, frame: u64) {
        while self.writing.front().is_some_and(|writing| writing.frame <= frame) {
            let Some(writing) = self.writing.pop_front() else { return };
            self.node.on_persist_ready(writing.number);
            if let Some(index) = writing.installed {
                self.node.advance_apply_to(index);
            }
            self.outgoing.extend(writing.messages);
        }
    }

    /// The entry at this point is applied, and all before it.
    pub fn applied(&mut self, point: LogPoint) {
        self.store.0.borrow_mut().note_applied(point, !self.is_alone);
        self.node.advance_apply_to(point.index);
    }

    // ---- others

    /// Drops entries that are applied, as if the bound had been reached.
    #[cfg(test)]
    pub fn drop_through(&mut self, index: u64) {
        self.store.0.borrow_mut().drop_through(index);
    }

    /// Messages that may leave.
    pub fn take_messages(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.outgoing)
    }

    /// True if this replica and no other has any part in the group.
    pub fn is_alone(&self) -> bool {
        self.is_alone
    }

    /// [`TICK_MS`] have passed.
    pub fn tick(&mut self) {
        if self.is_alone {
            return;
        }
        let led = self.node.raft.state == StateRole::Leader;
        if !led {
            // A sole voter elects itself on the spot, and must have written all that it has; one that
            // is excluded has nobody to ask.
            // Nor does one campaign whose state is being replaced.
            let log = &self.node.raft.raft_log;
            let is_unwritten = log.persisted != log.last_index();
            let is_replaced = self.writing.iter().any(|writing| writing.installed.is_some());
            if self.is_excluded || is_replaced || is_unwritten && self.is_sole_voter() {
                return;
            }
        }
        if self.node.tick() && !led {
            self.campaigns += 1;
        }
        self.pin_timeout();
        self.go_on_with_change();
    }

    fn is_sole_voter(&self) -> bool {
        self.store.0.borrow().configuration.is_sole_voter(self.this)
    }

    /// A message of another replica; `stamp` is that of its clock and `returned` one of ours.
    pub fn step(&mut self, now: Moment, message: Message, stamp: u64, returned: u64) {
        let (from, term, kind) = (message.from, message.term, message.get_msg_type());
        if !check::fits(&self.node.raft, &message) {
            return;
        }
        let asks_for_vote =
            matches!(kind, MessageType::MsgRequestVote | MessageType::MsgRequestPreVote);
        if asks_for_vote && !self.mandate.may_vote(now, from) {
            return;
        }
        if returned > 0 && Some(term) == self.office() {
            self.mandate.returned(now, from, returned);
        }
        // What does not fit any more is no error: messages may come late or twice.
        let _ = self.node.step(message);
        self.pin_timeout();
        if from_leader(kind) && self.node.raft.leader_id == from && self.node.raft.term == term {
            self.is_excluded = false;
            self.mandate.heard(now, from, term, stamp);
        }
    }

    /// The stamp to return with a message to `to`.
    pub fn stamp_for(&self, to: u64) -> u64 {
        self.mandate.stamp_for(to, self.node.raft.term)
    }

    pub fn term(&self) -> u64 {
        self.node.raft.term
    }

    pub fn leader(&self) -> Option<NodeId> {
        node_id(self.node.raft.leader_id)
    }

    pub fn configuration(&self) -> Configuration {
        self.store.0.borrow().configuration.clone()
    }

    pub fn position(&self) -> GroupPosition {
        let window = self.store.0.borrow();
        let log = &self.node.raft.raft_log;
        GroupPosition {
            term: self.node.raft.term,
            commit_index: log.committed,
            applied_index: window.applied().index,
            last_index: log.last_index(),
            voters: window.configuration.voters.iter().filter_map(|id| node_id(*id)).collect(),
            is_changing: self.target.is_some()
                || self.node.raft.has_pending_conf()
                || !window.configuration.outgoing.is_empty(),
        }
    }

    // ---- who votes

    /// Changes who votes, as leader: those who are new are sent everything first.
    pub fn change_voters(&mut self, voters: &[NodeId]) -> Result<(), NotLeader> {
        if !self.is_serving() {
            return Err(NotLeader);
        }
        self.target = Some(Configuration::new(voters).voters);
        self.go_on_with_change();
        Ok(())
    }

    /// One step at a time: take in as learners, wait until they are near, exchange the voters.
    fn go_on_with_change(&mut self) {
        if !self.is_serving() || self.node.raft.has_pending_conf() {
            return;
        }
        let configuration = self.configuration();
        if !configuration.outgoing.is_empty() {
            // A leader that came to office in the midst of a change completes it.
            let _ = self.node.propose_conf_change(Vec::new(), ConfChangeV2::default());
            return;
        }
        let Some(target) = &self.target else { return };
        let unknown = target.iter().filter(|node| !configuration.contains(**node));
        let unknown: Vec<u64> = unknown.copied().collect();
        if !unknown.is_empty() {
            self.propose_change(&unknown, ConfChangeType::AddLearnerNode, &[]);
            return;
        }
        let surplus: Vec<u64> = configuration
            .voters
            .iter()
            .chain(&configuration.learners)
            .filter(|node| !target.contains(node))
            .copied()
            .collect();
        let new: Vec<u64> =
            configuration.learners.iter().filter(|node| target.contains(node)).copied().collect();
        if new.is_empty() && surplus.is_empty() {
            self.target = None;
            return;
        }
        let last = self.node.raft.raft_log.last_index();
        let is_near = |node: &u64| {
            let progress = self.node.raft.prs().get(*node);
            progress.is_some_and(|progress| progress.matched + CAUGHT_UP_ENTRIES >= last)
        };
        if new.iter().all(is_near) {
            self.propose_change(&new, ConfChangeType::AddNode, &surplus);
        }
    }

    fn propose_change(&mut self, add: &[u64], kind: ConfChangeType, remove: &[u64]) {
        let single = |node: &u64, kind| {
            let mut single = ConfChangeSingle { node_id: *node, ..ConfChangeSingle::default() };
            single.set_change_type(kind);
            single
        };
        let add = add.iter().map(|node| single(node, kind));
        let remove = remove.iter().map(|node| single(node, ConfChangeType::RemoveNode));
        let mut change = ConfChangeV2::default();
        change.set_transition(ConfChangeTransition::Implicit);
        change.set_changes(add.chain(remove).collect::<Vec<_>>().into());
        // Refused only if this replica leads no more.
        let _ = self.node.propose_conf_change(Vec::new(), change);
    }

    /// A committed change takes effect. False if its bytes are none.
    pub fn apply_change(&mut self, data: &[u8]) -> bool {
        let Ok(change) = ConfChangeV2::parse_from_bytes(data) else { return false };
        // One that does not fit the configuration is refused alike on every replica.
        if let Ok(state) = self.node.apply_conf_change(&change) {
            let mut window = self.store.0.borrow_mut();
            window.configuration = store::configuration(state);
            // A node that is new must not begin with an entry that means another configuration than
            // the one it was started with: without the first entry it gets the whole state.
            window.drop_through(1);
        }
        self.refresh_alone();
        let is_member = self.store.0.borrow().configuration.contains(self.this);
        if !is_member && self.node.raft.state == StateRole::Leader {
            let term = self.node.raft.term;
            self.node.raft.become_follower(term, raft::INVALID_ID);
        }
        self.pin_timeout();
        true
    }

    fn refresh_alone(&mut self) {
        self.is_alone = self.store.0.borrow().configuration.is_alone(self.this);
        let bytes_max = if self.is_alone { u64::MAX } else { MESSAGE_BYTES_MAX };
        self.node.raft.max_msg_size = bytes_max;
    }

    /// A node asked for a vote that has no part in the group (any more), and this replica knows it.
    pub fn is_stranger(&self, now: Moment, node: u64) -> bool {
        self.is_serving()
            && self.has_mandate(now)
            && !self.store.0.borrow().configuration.contains(node)
    }

    /// The leader of this term says that this node has no part in the group: it stops campaigning
    /// until it hears of entries or heartbeats again.
    pub fn exclude(&mut self, term: u64) {
        if term >= self.node.raft.term && self.node.raft.state != StateRole::Leader {
            self.is_excluded = true;
        }
    }

    // ---- the whole state

    /// All of the state at `point` is at hand. True if it is wanted: then it comes back in
    /// [`Ready::installed`].
    pub fn offer_installed(
        &mut self,
        now: Moment,
        from: u64,
        term: u64,
        point: LogPoint,
        configuration: &Configuration,
    ) -> bool {
        let mut snapshot = Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.index = point.index;
        metadata.term = point.term;
        metadata.set_conf_state(store::conf_state(configuration));
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgSnapshot);
        message.from = from;
        message.to = self.this;
        message.term = term;
        message.set_snapshot(snapshot);
        self.step(now, message, 0, 0);
        self.node.raft.snap().is_some()
    }

    /// What became of the state sent to a follower.
    pub fn report_sent(&mut self, to: u64, arrived: bool) {
        let status =
            if arrived { raft::SnapshotStatus::Finish } else { raft::SnapshotStatus::Failure };
        self.node.report_snapshot(to, status);
    }

    pub fn committed_index(&self) -> u64 {
        self.node.raft.raft_log.committed
    }
}

/// The configuration after a change that was committed; the same as before if it does not fit.
pub fn changed(before: &Configuration, change: &ConfChangeV2) -> Configuration {
    let store = Store(Rc::new(RefCell::new(Window::new(LogPoint::default(), before.clone()))));
    // A node to try it on: none of the group, so that it has no part in anything.
    let config = raft::Config { id: u64::MAX, ..raft::Config::default() };
    let logger = slog::Logger::root(slog::Discard, slog::o!());
    let mut node = RawNode::new(&config, store, &logger)
        .expect("the configuration is constant and the store consistent");
    node.apply_conf_change(change).map_or_else(|_| before.clone(), store::configuration)
}

/// [`changed`] by a change as it is stored; `None` if it is none.
pub fn changed_by(before: &Configuration, change: &[u8]) -> Option<Configuration> {
    Some(changed(before, &ConfChangeV2::parse_from_bytes(change).ok()?))
}

fn from_leader(kind: MessageType) -> bool {
    matches!(kind, MessageType::MsgAppend | MessageType::MsgHeartbeat | MessageType::MsgSnapshot)
}

pub fn node_id(raft: u64) -> Option<NodeId> {
    u32::try_from(raft).ok().filter(|id| *id > 0).map(NodeId)
}
