//! The subject tree: which filters match a subject. A trie over the levels of the filters, walked
//! as a set of states, never by backtracking: work per publish is bounded by levels times live
//! nodes, whatever the filters look like.
//!
//! Each node has children by exact level, at most one for "one level" and at most one for "any
//! number of levels". A subject level moves every live node to its exact and its one-level child;
//! an any-number node also stays alive, and is live from the moment its parent is. A node other
//! than an any-number node has one way in (its parent), so only any-number nodes are marked to be
//! entered once per level.
//!
//! Two roots: filters that start with an MQTT wildcard stand under their own, because they do not
//! see subjects that start with `$` (MQTT 5 §4.7.2), while AMQP filters do.

use super::ordered::OrderedMap;
use super::subject::{fits, levels_of, Filter, FilterLevel, FilterStyle, Subject};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

const ROOT: u32 = 0;
const MQTT_WILDCARD_ROOT: u32 = 1;
const NONE: u32 = u32::MAX;

/// Filters and what stands behind them. A `(filter, key)` pair holds one value.
#[derive(Debug)]
pub struct SubjectTree<K, V> {
    nodes: Vec<Node<K, V>>,
    free: Vec<u32>,
    /// `node << 32 | segment` to the child. Only ever looked up: its order shows nowhere.
    edges: HashMap<u64, u32, EdgeHash>,
    segments: Segments,
    count: usize,
}

#[derive(Debug)]
struct Node<K, V> {
    one: u32,
    many: u32,
    exact_count: u32,
    is_many: bool,
    /// Keyed by style too: MQTT `a/b` and AMQP `a.b` share a node but are two filters.
    values: OrderedMap<(FilterStyle, K), V>,
}

impl<K: Ord, V> Node<K, V> {
    fn new(is_many: bool) -> Self {
        Node { one: NONE, many: NONE, exact_count: 0, is_many, values: OrderedMap::new() }
    }

    fn is_empty(&self) -> bool {
        self.one == NONE && self.many == NONE && self.exact_count == 0 && self.values.is_empty()
    }
}

/// The working memory of a match. One per shard, reused: warm, a match allocates nothing. Not tied
/// to a tree. Grows to 8 bytes per node of the largest tree it has seen.
#[derive(Debug, Default)]
pub struct MatchScratch {
    live: Vec<u32>,
    next: Vec<u32>,
    /// For any-number nodes: the step in which the node was entered last.
    entered: Vec<u64>,
    /// Never reset, so that marks of earlier matches and of other trees are all in the past.
    step: u64,
    visited_count: u64,
}

impl MatchScratch {
    /// Nodes visited by all matches so far: the measure of work that tests bound.
    pub fn visited_count(&self) -> u64 {
        self.visited_count
    }
}

impl<K: Ord, V> Default for SubjectTree<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Ord, V> SubjectTree<K, V> {
    pub fn new() -> Self {
        SubjectTree {
            nodes: vec![Node::new(false), Node::new(false)],
            free: Vec::new(),
            edges: HashMap::with_hasher(EdgeHash::new()),
            segments: Segments::default(),
            count: 0,
        }
    }

    /// `(filter, key)` pairs held.
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Trie nodes in use, the two roots not counted: 0 when the tree is empty.
    pub fn node_count(&self) -> usize {
        self.nodes.len() - 2 - self.free.len()
    }

    /// Distinct level texts in use.
    pub fn segment_count(&self) -> usize {
        self.segments.ids.len()
    }

    /// Gives back the value that the pair had. O(levels), plus O(log n) for n keys on the filter.
    pub fn insert(&mut self, filter: &Filter, key: K, value: V) -> Option<V> {
        let mut node = root_of(filter);
        for level in filter.levels() {
            node = match self.child(node, level) {
                Some(child) => child,
                None => self.add_child(node, level),
            };
        }
        let before = self.nodes[node as usize].values.insert((filter.style(), key), value);
        self.count += usize::from(before.is_none());
        before
    }

    /// Gives back the value that the pair had. Nodes and segments that nothing needs any more go
    /// with it.
    pub fn remove(&mut self, filter: &Filter, key: K) -> Option<V> {
        let mut path = Vec::new();
        let mut node = root_of(filter);
        for level in filter.levels() {
            let child = self.child(node, level)?;
            path.push((node, level, child));
            node = child;
        }
        let value = self.nodes[node as usize].values.remove(&(filter.style(), key))?;
        self.count -= 1;
        while let Some((parent, level, child)) = path.pop() {
            if !self.nodes[child as usize].is_empty() {
                break;
            }
            self.cut(parent, level, child);
        }
        Some(value)
    }

    pub fn get(&self, filter: &Filter, key: K) -> Option<&V> {
        let mut node = root_of(filter);
        for level in filter.levels() {
            node = self.child(node, level)?;
        }
        self.nodes[node as usize].values.get(&(filter.style(), key))
    }

    /// Calls `visit` once for each pair whose filter matches, in an order that depends only on the
    /// calls made to this tree so far.
    pub fn matching(
        &self,
        subject: &Subject,
        scratch: &mut MatchScratch,
        visit: impl FnMut(&K, &V),
    ) {
        self.matching_canonical(subject.canonical(), scratch, visit);
    }

    /// The same for text in MQTT spelling that is not held as a subject. Text over the limits of a
    /// subject matches nothing.
    pub(super) fn matching_canonical(
        &self,
        text: &[u8],
        scratch: &mut MatchScratch,
        mut visit: impl FnMut(&K, &V),
    ) {
        if self.count == 0 || !fits(text) {
            return;
        }
        let MatchScratch { live, next, entered, step, visited_count } = scratch;
        live.clear();
        *step += 1;
        self.enter(ROOT, *step, entered, live);
        if !text.is_empty() && text[0] != b'$' {
            self.enter(MQTT_WILDCARD_ROOT, *step, entered, live);
        }
        for level in levels_of(text) {
            let segment = self.segments.find(level);
            *step += 1;
            *visited_count += live.len() as u64;
            next.clear();
            for &id in live.iter() {
                let node = &self.nodes[id as usize];
                if node.is_many {
                    self.enter(id, *step, entered, next);
                }
                if node.one != NONE {
                    self.enter(node.one, *step, entered, next);
                }
                if let (Some(segment), true) = (segment, node.exact_count > 0) {
                    if let Some(&child) = self.edges.get(&edge(id, segment)) {
                        self.enter(child, *step, entered, next);
                    }
                }
            }
            std::mem::swap(live, next);
            if live.is_empty() {
                return;
            }
        }
        *visited_count += live.len() as u64;
        for &id in live.iter() {
            self.nodes[id as usize].values.for_each(|(_, key), value| visit(key, value));
        }
    }

    /// Makes `id` live, and with it the any-number nodes that need no further level.
    fn enter(&self, id: u32, step: u64, entered: &mut Vec<u64>, live: &mut Vec<u32>) {
        let mut id = id;
        while id != NONE {
            let node = &self.nodes[id as usize];
            if node.is_many {
                let index = id as usize;
                if entered.len() <= index {
                    entered.resize(index + 1, 0);
                }
                // Entered in this step already, so the chain behind it is live as well.
                if entered[index] == step {
                    return;
                }
                entered[index] = step;
            }
            live.push(id);
            id = node.many;
        }
    }

    fn child(&self, node: u32, level: FilterLevel<'_>) -> Option<u32> {
        let held = &self.nodes[node as usize];
        let child = match level {
            FilterLevel::One => held.one,
            FilterLevel::Many => held.many,
            FilterLevel::Exact(text) => {
                let segment = self.segments.find(text)?;
                *self.edges.get(&edge(node, segment))?
            }
        };
        (child != NONE).then_some(child)
    }

    fn add_child(&mut self, parent: u32, level: FilterLevel<'_>) -> u32 {
        let node = Node::new(level == FilterLevel::Many);
        let child = match self.free.pop() {
            Some(id) => {
                self.nodes[id as usize] = node;
                id
            }
            None => {
                let id = u32::try_from(self.nodes.len()).unwrap_or(NONE);
                assert!(id != NONE, "a tree of 2^32 nodes does not fit into memory");
                self.nodes.push(node);
                id
            }
        };
        match level {
            FilterLevel::One => self.nodes[parent as usize].one = child,
            FilterLevel::Many => self.nodes[parent as usize].many = child,
            FilterLevel::Exact(text) => {
                let segment = self.segments.acquire(text);
                self.edges.insert(edge(parent, segment), child);
                self.nodes[parent as usize].exact_count += 1;
            }
        }
        child
    }

    fn cut(&mut self, parent: u32, level: FilterLevel<'_>, child: u32) {
        match level {
            FilterLevel::One => self.nodes[parent as usize].one = NONE,
            FilterLevel::Many => self.nodes[parent as usize].many = NONE,
            FilterLevel::Exact(text) => {
                if let Some(segment) = self.segments.release(text) {
                    self.edges.remove(&edge(parent, segment));
                }
                self.nodes[parent as usize].exact_count -= 1;
            }
        }
        self.nodes[child as usize] = Node::new(false);
        self.free.push(child);
    }
}

fn root_of(filter: &Filter) -> u32 {
    if filter.starts_with_mqtt_wildcard() {
        MQTT_WILDCARD_ROOT
    } else {
        ROOT
    }
}

fn edge(node: u32, segment: u32) -> u64 {
    u64::from(node) << 32 | u64::from(segment)
}

/// Level texts by number, so that an edge is eight bytes and a subject's level is hashed once
/// however many nodes are live.
#[derive(Debug, Default)]
struct Segments {
    ids: HashMap<Box<[u8]>, Segment>,
    free: Vec<u32>,
    next: u32,
}

#[derive(Debug)]
struct Segment {
    id: u32,
    edge_count: u32,
}

impl Segments {
    fn find(&self, text: &[u8]) -> Option<u32> {
        self.ids.get(text).map(|segment| segment.id)
    }

    fn acquire(&mut self, text: &[u8]) -> u32 {
        if let Some(segment) = self.ids.get_mut(text) {
            segment.edge_count += 1;
            return segment.id;
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        });
        self.ids.insert(text.into(), Segment { id, edge_count: 1 });
        id
    }

    /// One edge less; gives the number that the edge was known by.
    fn release(&mut self, text: &[u8]) -> Option<u32> {
        let segment = self.ids.get_mut(text)?;
        let id = segment.id;
        segment.edge_count -= 1;
        if segment.edge_count == 0 {
            self.ids.remove(text);
            self.free.push(id);
        }
        Some(id)
    }
}

/// Mixes one edge number. The keys are our own small numbers, but who may bind chooses which pairs
/// exist; the secret start value keeps collisions from being aimed at.
#[derive(Clone, Debug)]
struct EdgeHash {
    seed: u64,
}

impl EdgeHash {
    fn new() -> Self {
        EdgeHash { seed: RandomState::new().hash_one(0u64) }
    }
}

impl BuildHasher for EdgeHash {
    type Hasher = EdgeHasher;

    fn build_hasher(&self) -> EdgeHasher {
        EdgeHasher(self.seed)
    }
}

struct EdgeHasher(u64);

impl Hasher for EdgeHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        let wide = u128::from(self.0 ^ value) * 0x9E37_79B9_7F4A_7C15u128;
        self.0 = (wide as u64) ^ (wide >> 64) as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
