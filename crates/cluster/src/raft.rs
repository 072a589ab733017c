//! [`Consensus`] on the `raft` crate. One voter for now: it campaigns as soon as it starts.

use crate::consensus::{Consensus, Entry, HardState, NotLeader, Ready};
use raft::eraftpb::{ConfState, Entry as RaftEntry, HardState as RaftHardState, Snapshot};
use raft::{GetEntriesContext, RaftState, RawNode, Storage, StorageError};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// The id of the only voter.
const VOTER: u64 = 1;

/// Where a group stands when it starts: what recovery applied, and what it remembers of its vote.
#[derive(Clone, Copy, Debug, Default)]
pub struct StartingPoint {
    pub applied_index: u64,
    pub applied_term: u64,
    pub hard_state: HardState,
}

/// Entries that raft may still ask for. Those that are applied are dropped: one voter has nobody to
/// send them to.
struct Window {
    /// The entry before the first one kept.
    before: (u64, u64),
    entries: VecDeque<RaftEntry>,
    hard_state: RaftHardState,
    conf_state: ConfState,
}

#[derive(Clone)]
struct Store(Rc<RefCell<Window>>);

impl Store {
    fn new(start: StartingPoint) -> Self {
        let mut hard_state = RaftHardState::default();
        hard_state.term = start.hard_state.term.max(start.applied_term);
        hard_state.vote = start.hard_state.vote;
        hard_state.commit = start.applied_index;
        let mut conf_state = ConfState::default();
        conf_state.voters.push(VOTER);
        Store(Rc::new(RefCell::new(Window {
            before: (start.applied_index, start.applied_term),
            entries: VecDeque::new(),
            hard_state,
            conf_state,
        })))
    }

    fn append(&self, entries: &[RaftEntry]) {
        let mut window = self.0.borrow_mut();
        for entry in entries {
            let next = window.before.0 + window.entries.len() as u64 + 1;
            assert!(entry.index <= next, "raft hands out entries without gaps");
            let kept = (entry.index - window.before.0 - 1) as usize;
            window.entries.truncate(kept);
            window.entries.push_back(entry.clone());
        }
    }

    fn drop_through(&self, index: u64) {
        let mut window = self.0.borrow_mut();
        while window.entries.front().is_some_and(|entry| entry.index <= index) {
            let entry = window.entries.pop_front().expect("looked at above");
            window.before = (entry.index, entry.term);
        }
    }
}

impl Storage for Store {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let window = self.0.borrow();
        Ok(RaftState::new(window.hard_state.clone(), window.conf_state.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<RaftEntry>> {
        let window = self.0.borrow();
        if low <= window.before.0 {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        let first = (low - window.before.0 - 1) as usize;
        let count = (high - low) as usize;
        let mut entries: Vec<RaftEntry> =
            window.entries.iter().skip(first).take(count).cloned().collect();
        raft::util::limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        let window = self.0.borrow();
        if index == window.before.0 {
            return Ok(window.before.1);
        }
        if index < window.before.0 {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        let at = (index - window.before.0 - 1) as usize;
        let entry = window.entries.get(at).ok_or(raft::Error::Store(StorageError::Unavailable))?;
        Ok(entry.term)
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.0.borrow().before.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        let window = self.0.borrow();
        Ok(window.before.0 + window.entries.len() as u64)
    }

    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        // Only a leader with followers is asked for one.
        Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}

/// One group with one voter.
pub struct RaftGroup {
    node: RawNode<Store>,
    store: Store,
    /// Numbers of the `Ready`s whose entries are being written, with their last index.
    writing: VecDeque<(u64, u64)>,
    /// Index of this leader's first entry in its term.
    no_op_index: Option<u64>,
    applied_index: u64,
}

impl RaftGroup {
    pub fn start(start: StartingPoint) -> Self {
        let config = raft::Config {
            id: VOTER,
            applied: start.applied_index,
            // An entry is bounded by the caller; raft's own batching limit must not split it.
            max_size_per_msg: u64::MAX,
            max_committed_size_per_ready: u64::MAX,
            max_inflight_msgs: 256,
            pre_vote: true,
            check_quorum: true,
            ..raft::Config::default()
        };
        let store = Store::new(start);
        let logger = slog_discard();
        let mut node = RawNode::new(&config, store.clone(), &logger)
            .expect("the configuration is constant and the store consistent");
        node.campaign().expect("a lone voter may always campaign");
        RaftGroup {
            node,
            store,
            writing: VecDeque::new(),
            no_op_index: None,
            applied_index: start.applied_index,
        }
    }
}

fn slog_discard() -> slog::Logger {
    slog::Logger::root(slog::Discard, slog::o!())
}

impl Consensus for RaftGroup {
    fn propose(&mut self, data: Vec<u8>) -> Result<(), NotLeader> {
        self.node.propose(Vec::new(), data).map_err(|_| NotLeader)
    }

    fn ready(&mut self) -> Option<Ready> {
        if !self.node.has_ready() {
            return None;
        }
        let mut raft_ready = self.node.ready();
        let raft_entries = raft_ready.take_entries();
        self.store.append(&raft_entries);
        let mut ready = Ready::default();
        if let Some(hard_state) = raft_ready.hs() {
            let mut window = self.store.0.borrow_mut();
            let voted = hard_state.term != window.hard_state.term
                || hard_state.vote != window.hard_state.vote;
            window.hard_state = hard_state.clone();
            // The commit index alone need not be durable: it is found again.
            if voted {
                ready.hard_state = Some(HardState { term: hard_state.term, vote: hard_state.vote });
            }
        }
        ready.committed = raft_ready.take_committed_entries().into_iter().map(entry).collect();
        let last_index = raft_entries.last().map(|last| last.index);
        if self.no_op_index.is_none() && self.node.raft.state == raft::StateRole::Leader {
            let mut own = raft_entries.iter().filter(|e| e.term == self.node.raft.term);
            self.no_op_index = own.next().map(|first| first.index);
        }
        ready.entries = raft_entries.into_iter().map(entry).collect();
        let number = raft_ready.number();
        self.node.advance_append_async(raft_ready);
        match last_index {
            Some(index) => self.writing.push_back((number, index)),
            // Nothing of it waits for the disk but a vote for itself, which rides before its no-op.
            None => self.node.on_persist_ready(number),
        }
        Some(ready)
    }

    fn persisted(&mut self, index: u64) {
        while let Some((number, last)) = self.writing.front().copied() {
            if last > index {
                return;
            }
            self.writing.pop_front();
            self.node.on_persist_ready(number);
        }
    }

    fn applied(&mut self, index: u64) {
        self.applied_index = index;
        self.node.advance_apply_to(index);
        self.store.drop_through(index);
    }

    fn is_serving(&self) -> bool {
        self.no_op_index.is_some_and(|index| index <= self.applied_index)
    }

    fn term(&self) -> u64 {
        self.node.raft.term
    }
}

fn entry(mut raft: RaftEntry) -> Entry {
    Entry { index: raft.index, term: raft.term, data: std::mem::take(&mut raft.data) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drive(group: &mut RaftGroup) -> Vec<Entry> {
        let mut committed = Vec::new();
        while let Some(ready) = group.ready() {
            if let Some(last) = ready.entries.last() {
                group.persisted(last.index);
            }
            if let Some(last) = ready.committed.last() {
                group.applied(last.index);
            }
            committed.extend(ready.committed);
        }
        committed
    }

    #[test]
    fn a_lone_voter_leads_and_commits_what_is_persisted() {
        let mut group = RaftGroup::start(StartingPoint::default());
        assert!(!group.is_serving());
        let first = drive(&mut group);
        assert!(group.is_serving());
        assert_eq!(first.len(), 1, "the no-op of its term");
        group.propose(b"one".to_vec()).expect("leader");
        let ready = group.ready().expect("an entry to write");
        assert_eq!(ready.entries.len(), 1);
        assert!(ready.committed.is_empty(), "not committed before it is persisted");
        group.persisted(ready.entries[0].index);
        let committed = drive(&mut group);
        assert_eq!(committed.iter().map(|e| &e.data[..]).collect::<Vec<_>>(), [b"one"]);
    }

    #[test]
    fn a_restart_goes_on_above_what_was_applied_in_a_higher_term() {
        let start = StartingPoint {
            applied_index: 41,
            applied_term: 3,
            hard_state: HardState { term: 3, vote: VOTER },
        };
        let mut group = RaftGroup::start(start);
        let committed = drive(&mut group);
        assert_eq!((committed[0].index, committed[0].term), (42, 4));
        assert!(group.is_serving());
    }
}
