//! The entries that raft may still ask for: those not applied, and with others in the group the newest
//! applied ones, which followers may lack. Memory only; the shard writes every entry to the log first.

use crate::consensus::{Configuration, Entry, EntryKind, LogPoint};
use raft::eraftpb::{
    ConfState, Entry as RaftEntry, EntryType, HardState as RaftHardState, Snapshot,
};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// Applied entries kept for followers, bytes and number. A follower that lacks older ones is sent the
/// whole state.
pub const KEPT_BYTES_MAX: usize = 64 << 20;
pub const KEPT_ENTRIES_MAX: usize = 100_000;

/// Counted for each entry beside its data.
const ENTRY_OVERHEAD_BYTES: usize = 128;

/// Entries in the order of their index, without gaps.
pub struct Window {
    /// The entry before the first one.
    before: LogPoint,
    entries: VecDeque<RaftEntry>,
    bytes: usize,
    applied: LogPoint,
    pub hard_state: RaftHardState,
    pub configuration: Configuration,
}

fn cost(entry: &RaftEntry) -> usize {
    entry.data.len() + ENTRY_OVERHEAD_BYTES
}

impl Window {
    pub fn new(applied: LogPoint, configuration: Configuration) -> Window {
        Window {
            before: applied,
            entries: VecDeque::new(),
            bytes: 0,
            applied,
            hard_state: RaftHardState::default(),
            configuration,
        }
    }

    pub fn last(&self) -> LogPoint {
        let last = self.entries.back();
        last.map_or(self.before, |last| LogPoint { index: last.index, term: last.term })
    }

    pub fn applied(&self) -> LogPoint {
        self.applied
    }

    /// Adds an entry at the end or in place of one, which goes with all after it. One that leaves a gap
    /// begins the window anew: only recovery hands out such ones.
    pub fn push(&mut self, entry: RaftEntry) {
        if entry.index > self.last().index + 1 || entry.index <= self.before.index {
            self.entries.clear();
            self.bytes = 0;
            self.before = LogPoint { index: entry.index, term: entry.term };
            return;
        }
        while self.entries.back().is_some_and(|last| last.index >= entry.index) {
            let last = self.entries.pop_back().expect("looked at above");
            self.bytes -= cost(&last);
        }
        self.bytes += cost(&entry);
        self.entries.push_back(entry);
    }

    /// Notes what is applied, and drops what nobody needs any more.
    pub fn note_applied(&mut self, applied: LogPoint, keep: bool) {
        self.applied = applied;
        let (bytes_max, entries_max) =
            if keep { (KEPT_BYTES_MAX, KEPT_ENTRIES_MAX) } else { (0, 0) };
        while self.bytes > bytes_max || self.entries.len() > entries_max {
            if self.entries.front().is_none_or(|first| first.index > applied.index) {
                return;
            }
            self.drop_first();
        }
    }

    /// Drops the entries through `index` that are applied.
    pub fn drop_through(&mut self, index: u64) {
        let index = index.min(self.applied.index);
        while self.entries.front().is_some_and(|first| first.index <= index) {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some(first) = self.entries.pop_front() {
            self.bytes -= cost(&first);
            self.before = LogPoint { index: first.index, term: first.term };
        }
    }

    /// The state of the group is from here on the one at `point`.
    pub fn restore(&mut self, point: LogPoint, configuration: Configuration) {
        self.entries.clear();
        self.bytes = 0;
        self.before = point;
        self.applied = point;
        self.configuration = configuration;
    }
}

#[derive(Clone)]
pub struct Store(pub Rc<RefCell<Window>>);

pub fn raft_entry(entry: &Entry) -> RaftEntry {
    let Entry { index, term, ref data, .. } = *entry;
    let mut raft = RaftEntry { index, term, data: data.clone(), ..RaftEntry::default() };
    if entry.kind == EntryKind::Change {
        raft.set_entry_type(EntryType::EntryConfChangeV2);
    }
    raft
}

pub fn own_entry(mut raft: RaftEntry) -> Entry {
    let kind = match raft.get_entry_type() {
        EntryType::EntryNormal => EntryKind::Data,
        EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => EntryKind::Change,
    };
    Entry { index: raft.index, term: raft.term, kind, data: std::mem::take(&mut raft.data) }
}

pub fn conf_state(configuration: &Configuration) -> ConfState {
    let mut state = ConfState::default();
    state.voters.clone_from(&configuration.voters);
    state.learners.clone_from(&configuration.learners);
    state.voters_outgoing.clone_from(&configuration.outgoing);
    state.learners_next.clone_from(&configuration.learners_next);
    state.auto_leave = configuration.auto_leave;
    state
}

pub fn configuration(mut state: ConfState) -> Configuration {
    let sorted = |list: &mut Vec<u64>| {
        let mut list = std::mem::take(list);
        list.sort_unstable();
        list
    };
    Configuration {
        voters: sorted(&mut state.voters),
        learners: sorted(&mut state.learners),
        outgoing: sorted(&mut state.voters_outgoing),
        learners_next: sorted(&mut state.learners_next),
        auto_leave: state.auto_leave,
    }
}

impl Storage for Store {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let window = self.0.borrow();
        Ok(RaftState::new(window.hard_state.clone(), conf_state(&window.configuration)))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<RaftEntry>> {
        let window = self.0.borrow();
        if low <= window.before.index {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        let first = (low - window.before.index - 1) as usize;
        let count = (high - low) as usize;
        // Stops early: there may be many, and each is cheap only because its data is shared.
        let size_max = max_size.into().unwrap_or(u64::MAX);
        let mut size = 0;
        let mut entries = Vec::new();
        for entry in window.entries.iter().skip(first).take(count) {
            size += cost(entry) as u64;
            if size > size_max && !entries.is_empty() {
                break;
            }
            entries.push(entry.clone());
        }
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        let window = self.0.borrow();
        if index == window.before.index {
            return Ok(window.before.term);
        }
        if index < window.before.index {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        let at = (index - window.before.index - 1) as usize;
        let entry = window.entries.get(at).ok_or(raft::Error::Store(StorageError::Unavailable))?;
        Ok(entry.term)
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.0.borrow().before.index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.0.borrow().last().index)
    }

    /// Only the point: what belongs to it travels outside of raft.
    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        let window = self.0.borrow();
        let point = window.applied;
        if point.index == 0 || point.index < request_index {
            return Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        let mut snapshot = Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.index = point.index;
        metadata.term = point.term;
        metadata.set_conf_state(conf_state(&window.configuration));
        Ok(snapshot)
    }
}
