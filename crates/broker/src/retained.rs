//! Retained messages: the last message of each subject, found again by filter. One store per
//! namespace. Must never look into a message: values are opaque bytes.
//!
//! A trie over levels with ordered children. A filter walks it with the set of its own positions
//! that are live, so a filter without wildcards costs one look-up per level and any other visits no
//! node twice. Results come in order of level lists, and each call has a budget: a subscription to
//! everything is served in pieces instead of holding up its shard.

use crate::router::subject::{levels_of, LEVELS_MAX};
use crate::router::{Filter, FilterLevel, Subject};
use bytes::Bytes;
use koine_base::Timestamp;
use scan::{Frame, Live};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

mod scan;
#[cfg(test)]
mod tests;

pub use scan::ScanPosition;

/// What one message counts beside its subject and value: node, entry and map places, roughly.
pub const ENTRY_OVERHEAD_BYTES: usize = 192;

/// Bytes of one value: the largest MQTT packet (MQTT 5 §2.1.4).
pub const VALUE_BYTES_MAX: usize = 268_435_455;

const ROOT: u32 = 0;
const SNAPSHOT_VERSION: u8 = 1;

/// Nodes whose messages share a page of a checkpoint.
const PAGE_NODES: usize = 64;

/// Values from this size on are shared with a page and not copied.
const SHARED_BYTES_MIN: usize = 256;

/// What a store may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetainedLimits {
    pub count_max: usize,
    /// Subjects, values and [`ENTRY_OVERHEAD_BYTES`] for each message.
    pub bytes_max: usize,
}

/// Why a message was not kept. The one that stood there before still does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetainedRefusal {
    TooMany {
        count_max: usize,
    },
    /// Over [`RetainedLimits::bytes_max`], or over [`VALUE_BYTES_MAX`] alone.
    TooLarge {
        bytes_max: usize,
    },
}

impl fmt::Display for RetainedRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RetainedRefusal::TooMany { count_max } => {
                write!(f, "{count_max} retained messages are held already")
            }
            RetainedRefusal::TooLarge { bytes_max } => {
                write!(f, "retained messages would take over {bytes_max} bytes")
            }
        }
    }
}

impl std::error::Error for RetainedRefusal {}

/// A snapshot that this code did not write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotMalformed {
    Version(u8),
    /// Ends inside a field, or has bytes left over.
    Length,
    /// A subject that is none, or stands not after the one before it.
    Subject,
    /// A flag that is neither 0 nor 1.
    Flag(u8),
}

impl fmt::Display for SnapshotMalformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotMalformed::Version(version) => write!(f, "unknown version {version}"),
            SnapshotMalformed::Length => f.write_str("the length does not fit the content"),
            SnapshotMalformed::Subject => f.write_str("a subject is invalid or out of order"),
            SnapshotMalformed::Flag(flag) => write!(f, "flag {flag} is neither 0 nor 1"),
        }
    }
}

impl std::error::Error for SnapshotMalformed {}

/// One retained message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retained {
    pub subject: Subject,
    pub value: Bytes,
    /// From then on it is as good as gone.
    pub expires_at: Option<Timestamp>,
}

impl Retained {
    fn size(&self) -> usize {
        self.subject.canonical().len() + self.value.len() + ENTRY_OVERHEAD_BYTES
    }

    fn is_due(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

#[derive(Debug, Default)]
struct Node {
    children: BTreeMap<Box<[u8]>, u32>,
    entry: Option<Retained>,
}

/// The retained messages of one namespace.
#[derive(Debug)]
pub struct RetainedStore {
    limits: RetainedLimits,
    nodes: Vec<Node>,
    free: Vec<u32>,
    /// When to drop which node's message, soonest first.
    expiries: BTreeSet<(Timestamp, u32)>,
    count: usize,
    bytes: usize,
    /// Pages whose messages changed since [`Self::take_touched`].
    touched: BTreeSet<u32>,
}

impl RetainedStore {
    pub fn new(limits: RetainedLimits) -> Self {
        RetainedStore {
            limits,
            nodes: vec![Node::default()],
            free: Vec::new(),
            expiries: BTreeSet::new(),
            count: 0,
            bytes: 0,
            touched: BTreeSet::new(),
        }
    }

    /// Messages held, those that expired but were not dropped yet included.
    pub fn count(&self) -> usize {
        self.count
    }

    /// What they take, as [`RetainedLimits::bytes_max`] counts.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Trie nodes in use beside the root: 0 when nothing is held.
    pub fn node_count(&self) -> usize {
        self.nodes.len() - 1 - self.free.len()
    }

    /// Keeps `value` as the message of `subject` in place of an earlier one. Copies it: what is kept
    /// for long must not pin the buffer that it arrived in. When a limit is in the way, messages
    /// that are due by `now` are dropped first.
    pub fn set(
        &mut self,
        subject: &Subject,
        value: &[u8],
        expires_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), RetainedRefusal> {
        if value.len() > VALUE_BYTES_MAX {
            return Err(RetainedRefusal::TooLarge { bytes_max: VALUE_BYTES_MAX });
        }
        if !self.has_room(subject, value) {
            self.drop_expired(now);
        }
        let (count, bytes) = self.after_set(subject, value);
        if count > self.limits.count_max {
            return Err(RetainedRefusal::TooMany { count_max: self.limits.count_max });
        }
        if bytes > self.limits.bytes_max {
            return Err(RetainedRefusal::TooLarge { bytes_max: self.limits.bytes_max });
        }
        self.put(subject.clone(), Bytes::copy_from_slice(value), expires_at);
        Ok(())
    }

    /// False if there was nothing to clear.
    pub fn clear(&mut self, subject: &Subject) -> bool {
        match self.find(subject) {
            Some(node) if self.nodes[node as usize].entry.is_some() => {
                self.take(node);
                true
            }
            _ => false,
        }
    }

    /// The message of exactly this subject, unless it is due by `now`.
    pub fn get(&self, subject: &Subject, now: Timestamp) -> Option<&Retained> {
        let entry = self.nodes[self.find(subject)? as usize].entry.as_ref()?;
        (!entry.is_due(now)).then_some(entry)
    }

    /// When the next message is due: nothing changes by time alone before.
    pub fn next_expiry(&self) -> Option<Timestamp> {
        self.expiries.first().map(|(at, _)| *at)
    }

    /// Drops what is due by `now`; gives the number.
    pub fn drop_expired(&mut self, now: Timestamp) -> usize {
        let before = self.count;
        while let Some(&(at, node)) = self.expiries.first() {
            if at > now {
                break;
            }
            self.take(node);
        }
        before - self.count
    }

    /// Shows `visit` the messages whose subject matches and that are not due by `now`, in order of
    /// level lists, from behind `after` on. Stops when the budget is used up and then says where;
    /// the next call goes on from there, and what changed meanwhile is seen as it then is.
    /// `None` means that nothing is left.
    pub fn matching(
        &self,
        filter: &Filter,
        after: Option<&ScanPosition>,
        now: Timestamp,
        budget: ScanBudget,
        mut visit: impl FnMut(&Retained),
    ) -> Option<ScanPosition> {
        let levels: Vec<FilterLevel<'_>> = filter.levels().collect();
        // The rule for `$`, which also hides the empty subject (see `FilterStyle::Mqtt`).
        let hidden = filter.starts_with_mqtt_wildcard();
        let live = Live::start(&levels);
        let root = &self.nodes[ROOT as usize];
        let count_max = budget.count_max.max(1);
        let node_count_max = budget.node_count_max.max(LEVELS_MAX + 1);
        let (mut shown, mut visited) = (0, 0);
        if let (Some(entry), None, false) = (&root.entry, after, hidden) {
            if live.holds(levels.len()) && !entry.is_due(now) {
                visit(entry);
                shown += 1;
                if shown >= count_max {
                    return Some(ScanPosition { levels: Vec::new() });
                }
            }
        }
        let bound = after.and_then(|after| after.level(0));
        let mut frames = vec![Frame::open(&[], root, live, bound, &levels)];
        while let Some(frame) = frames.last_mut() {
            let Some((level, child)) = frame.children.next() else {
                frames.pop();
                continue;
            };
            let (live, on_bound) = (frame.live.after(level, &levels), frame.bound == Some(level));
            let depth = frames.len();
            if live == Live::NONE || (depth == 1 && hidden && level.first() == Some(&b'$')) {
                continue;
            }
            let node = &self.nodes[child as usize];
            visited += 1;
            if let (Some(entry), true, false) = (&node.entry, live.holds(levels.len()), on_bound) {
                if !entry.is_due(now) {
                    visit(entry);
                    shown += 1;
                }
            }
            let bound = after.filter(|_| on_bound).and_then(|after| after.level(depth));
            frames.push(Frame::open(level, node, live, bound, &levels));
            if shown >= count_max || visited >= node_count_max {
                return Some(ScanPosition::of(&frames));
            }
        }
        None
    }

    /// All messages, as bytes that depend on nothing but them:
    ///
    /// ```text
    /// version u8 | count u64 | { subject_length u32 | subject | expires u8 (| at i64)
    ///                            | value_length u32 | value } * count          big endian
    /// ```
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(9 + self.bytes);
        out.push(SNAPSHOT_VERSION);
        out.extend_from_slice(&(self.count as u64).to_be_bytes());
        self.for_each(|entry| {
            put_head(&mut out, entry);
            out.extend_from_slice(&entry.value);
        });
        out
    }

    /// Pages whose messages changed since the last call.
    pub fn take_touched(&mut self) -> BTreeSet<u32> {
        std::mem::take(&mut self.touched)
    }

    /// The messages of one page in parts that share the large values; `None` if there are none:
    /// `{ subject_length u32 | subject | expires u8 (| at i64) | value_length u32 | value } *`.
    pub fn encode_page(&self, page: u32) -> Option<Vec<Bytes>> {
        let first = (page as usize * PAGE_NODES).min(self.nodes.len());
        let nodes = &self.nodes[first..self.nodes.len().min(first + PAGE_NODES)];
        let mut parts = Vec::new();
        let mut out = Vec::new();
        for entry in nodes.iter().filter_map(|node| node.entry.as_ref()) {
            put_head(&mut out, entry);
            if entry.value.len() < SHARED_BYTES_MIN {
                out.extend_from_slice(&entry.value);
            } else {
                parts.push(Bytes::from(std::mem::take(&mut out)));
                parts.push(entry.value.clone());
            }
        }
        if !out.is_empty() {
            parts.push(Bytes::from(out));
        }
        (!parts.is_empty()).then_some(parts)
    }

    /// Every page, in order.
    pub fn encode_pages(&self) -> impl Iterator<Item = Bytes> + '_ {
        let count = self.nodes.len().div_ceil(PAGE_NODES);
        (0..count).filter_map(|page| self.encode_page(page as u32)).flatten()
    }

    /// The store whose pages follow each other in `bytes`, in any order.
    pub fn decode_pages(bytes: &[u8], limits: RetainedLimits) -> Result<Self, SnapshotMalformed> {
        let mut reader = Reader { rest: bytes };
        let mut store = RetainedStore::new(limits);
        while !reader.rest.is_empty() {
            let (subject, value, expires_at) = reader.entry()?;
            store.put(subject, value, expires_at);
        }
        Ok(store)
    }

    /// The store that [`Self::encode`] wrote. Limits apply to what comes later: a snapshot made
    /// under wider ones still loads.
    pub fn decode(bytes: &[u8], limits: RetainedLimits) -> Result<Self, SnapshotMalformed> {
        let mut reader = Reader { rest: bytes };
        let [version] = reader.array()?;
        if version != SNAPSHOT_VERSION {
            return Err(SnapshotMalformed::Version(version));
        }
        let count = u64::from_be_bytes(reader.array()?);
        let mut store = RetainedStore::new(limits);
        let mut last: Option<Subject> = None;
        // Each round takes bytes away or fails, so a lying count costs nothing.
        for _ in 0..count {
            let (subject, value, expires_at) = reader.entry()?;
            if last.is_some_and(|last| last.levels().ge(subject.levels())) {
                return Err(SnapshotMalformed::Subject);
            }
            store.put(subject.clone(), value, expires_at);
            last = Some(subject);
        }
        if !reader.rest.is_empty() {
            return Err(SnapshotMalformed::Length);
        }
        Ok(store)
    }

    /// Every message, in order of level lists.
    fn for_each(&self, mut visit: impl FnMut(&Retained)) {
        let mut stack = vec![ROOT];
        while let Some(id) = stack.pop() {
            let node = &self.nodes[id as usize];
            node.entry.iter().for_each(&mut visit);
            stack.extend(node.children.values().rev());
        }
    }

    fn has_room(&self, subject: &Subject, value: &[u8]) -> bool {
        let (count, bytes) = self.after_set(subject, value);
        count <= self.limits.count_max && bytes <= self.limits.bytes_max
    }

    /// Count and bytes as they would be with this message in.
    fn after_set(&self, subject: &Subject, value: &[u8]) -> (usize, usize) {
        let held = self.find(subject).and_then(|node| self.nodes[node as usize].entry.as_ref());
        let size = subject.canonical().len() + value.len() + ENTRY_OVERHEAD_BYTES;
        let count = self.count + usize::from(held.is_none());
        (count, self.bytes - held.map_or(0, Retained::size) + size)
    }

    fn find(&self, subject: &Subject) -> Option<u32> {
        let mut node = ROOT;
        for level in subject.levels() {
            node = *self.nodes[node as usize].children.get(level)?;
        }
        Some(node)
    }

    fn put(&mut self, subject: Subject, value: Bytes, expires_at: Option<Timestamp>) {
        let mut node = ROOT;
        for level in subject.levels() {
            node = match self.nodes[node as usize].children.get(level) {
                Some(child) => *child,
                None => self.add_child(node, level),
            };
        }
        self.touched.insert(page_of(node));
        let entry = Retained { subject, value, expires_at };
        self.count += 1;
        self.bytes += entry.size();
        if let Some(at) = expires_at {
            self.expiries.insert((at, node));
        }
        if let Some(before) = self.nodes[node as usize].entry.replace(entry) {
            self.forget(node, &before, expires_at);
        }
    }

    fn add_child(&mut self, parent: u32, level: &[u8]) -> u32 {
        let child = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(Node::default());
            let id = u32::try_from(self.nodes.len() - 1);
            id.expect("2^32 nodes of this size do not fit into memory")
        });
        self.nodes[parent as usize].children.insert(level.into(), child);
        child
    }

    /// Takes a message out of the figures; `kept` is the expiry of what took its place.
    fn forget(&mut self, node: u32, entry: &Retained, kept: Option<Timestamp>) {
        self.count -= 1;
        self.bytes -= entry.size();
        if let (Some(at), false) = (entry.expires_at, entry.expires_at == kept) {
            self.expiries.remove(&(at, node));
        }
    }

    /// Takes the message of `node` away, and the nodes that only led to it.
    fn take(&mut self, node: u32) {
        let Some(entry) = self.nodes[node as usize].entry.take() else {
            return;
        };
        self.touched.insert(page_of(node));
        self.forget(node, &entry, None);
        let mut path = vec![ROOT];
        for level in entry.subject.levels() {
            let parent = path[path.len() - 1];
            match self.nodes[parent as usize].children.get(level) {
                Some(child) => path.push(*child),
                None => return,
            }
        }
        let levels: Vec<&[u8]> = levels_of(entry.subject.canonical()).collect();
        for depth in (1..path.len()).rev() {
            let (parent, child) = (path[depth - 1], path[depth]);
            let held = &self.nodes[child as usize];
            if held.entry.is_some() || !held.children.is_empty() {
                break;
            }
            self.nodes[parent as usize].children.remove(levels[depth - 1]);
            self.free.push(child);
        }
    }
}

/// How much one call of [`RetainedStore::matching`] may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanBudget {
    /// Messages shown; at least one is, if there is one.
    pub count_max: usize,
    /// Trie nodes walked, matching or not. Less than one path of [`LEVELS_MAX`] counts as that.
    pub node_count_max: usize,
}

fn page_of(node: u32) -> u32 {
    node / PAGE_NODES as u32
}

/// An encoded message up to its value.
fn put_head(out: &mut Vec<u8>, entry: &Retained) {
    put_length(out, entry.subject.canonical());
    out.extend_from_slice(entry.subject.canonical());
    match entry.expires_at {
        None => out.push(0),
        Some(at) => {
            out.push(1);
            out.extend_from_slice(&at.0.to_be_bytes());
        }
    }
    put_length(out, &entry.value);
}

fn put_length(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len());
    let length = length.expect("SUBJECT_BYTES_MAX and VALUE_BYTES_MAX are below 4 GiB");
    out.extend_from_slice(&length.to_be_bytes());
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], SnapshotMalformed> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(SnapshotMalformed::Length)?;
        self.rest = rest;
        Ok(*head)
    }

    fn entry(&mut self) -> Result<(Subject, Bytes, Option<Timestamp>), SnapshotMalformed> {
        let subject = Subject::from_canonical(self.bytes()?);
        let subject = subject.map_err(|_| SnapshotMalformed::Subject)?;
        let expires_at = match self.array()? {
            [0] => None,
            [1] => Some(Timestamp(i64::from_be_bytes(self.array()?))),
            [flag] => return Err(SnapshotMalformed::Flag(flag)),
        };
        Ok((subject, Bytes::copy_from_slice(self.bytes()?), expires_at))
    }

    fn bytes(&mut self) -> Result<&'a [u8], SnapshotMalformed> {
        let length = u32::from_be_bytes(self.array()?) as usize;
        let (head, rest) = self.rest.split_at_checked(length).ok_or(SnapshotMalformed::Length)?;
        self.rest = rest;
        Ok(head)
    }
}
