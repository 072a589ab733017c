//! The walk of a filter through the trie of retained messages: which of its positions are live at a
//! node, and which children they lead to. Must never hold more than one path of the trie, however
//! many children a node has.

use super::Node;
use crate::router::subject::LEVELS_MAX;
use crate::router::FilterLevel;
use std::collections::btree_map::Range;
use std::ops::Bound;

/// Where a scan stopped: the level list of the last node it walked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanPosition {
    pub(super) levels: Vec<Box<[u8]>>,
}

impl ScanPosition {
    pub(super) fn of(frames: &[Frame<'_, '_>]) -> Self {
        // The first frame is the root, which no level leads to.
        ScanPosition { levels: frames[1..].iter().map(|frame| frame.level.into()).collect() }
    }

    pub(super) fn level(&self, depth: usize) -> Option<&[u8]> {
        self.levels.get(depth).map(AsRef::as_ref)
    }
}

/// A node on the way through the trie whose children are being walked.
pub(super) struct Frame<'n, 'p> {
    /// The level that leads here.
    level: &'n [u8],
    pub live: Live,
    pub children: Children<'n>,
    /// The first child to walk, if this node is on the path to where the last scan stopped.
    pub bound: Option<&'p [u8]>,
}

impl<'n, 'p> Frame<'n, 'p> {
    pub(super) fn open(
        level: &'n [u8],
        node: &'n Node,
        live: Live,
        bound: Option<&'p [u8]>,
        levels: &[FilterLevel<'_>],
    ) -> Self {
        Frame { level, live, children: Children::open(node, &live, bound, levels), bound }
    }
}

/// Children that the filter may go on with, in order.
pub(super) enum Children<'n> {
    /// The filter names the next level: at most one child.
    Named(Option<(&'n [u8], u32)>),
    All(Range<'n, Box<[u8]>, u32>),
}

impl<'n> Children<'n> {
    fn open(node: &'n Node, live: &Live, bound: Option<&[u8]>, levels: &[FilterLevel<'_>]) -> Self {
        let mut wanted = None;
        for position in live.positions() {
            match levels.get(position) {
                Some(FilterLevel::One | FilterLevel::Many) => {
                    let from = bound.map_or(Bound::Unbounded, Bound::Included);
                    return Children::All(node.children.range::<[u8], _>((from, Bound::Unbounded)));
                }
                // A second position is live only beside "any number", which stays live for good:
                // without a wildcard there is one level to look for.
                Some(FilterLevel::Exact(level)) => wanted = Some(*level),
                None => {}
            }
        }
        let wanted = wanted.filter(|level| bound.is_none_or(|bound| *level >= bound));
        let child = wanted.and_then(|level| node.children.get_key_value(level));
        Children::Named(child.map(|(level, child)| (level.as_ref(), *child)))
    }

    pub(super) fn next(&mut self) -> Option<(&'n [u8], u32)> {
        match self {
            Children::Named(child) => child.take(),
            Children::All(range) => range.next().map(|(level, child)| (level.as_ref(), *child)),
        }
    }
}

/// Positions in a filter: bit `n` says that the first `n` filter levels have taken exactly the
/// levels walked so far.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Live([u64; Live::WORDS]);

impl Live {
    /// One bit per level and one for the end.
    const WORDS: usize = LEVELS_MAX / 64 + 1;
    pub(super) const NONE: Live = Live([0; Live::WORDS]);

    pub(super) fn start(levels: &[FilterLevel<'_>]) -> Live {
        let mut live = Live::NONE;
        live.add(0, levels);
        live
    }

    /// Adds a position, and those that "any number of levels" reaches by taking none.
    fn add(&mut self, position: usize, levels: &[FilterLevel<'_>]) {
        let mut position = position;
        self.0[position / 64] |= 1 << (position % 64);
        while levels.get(position) == Some(&FilterLevel::Many) {
            position += 1;
            self.0[position / 64] |= 1 << (position % 64);
        }
    }

    pub(super) fn holds(&self, position: usize) -> bool {
        self.0[position / 64] & (1 << (position % 64)) != 0
    }

    fn positions(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(index, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                if rest == 0 {
                    return None;
                }
                let bit = rest.trailing_zeros() as usize;
                rest &= rest - 1;
                Some(index * 64 + bit)
            })
        })
    }

    /// After one more level of a subject.
    pub(super) fn after(&self, text: &[u8], levels: &[FilterLevel<'_>]) -> Live {
        let mut next = Live::NONE;
        for position in self.positions() {
            match levels.get(position) {
                Some(FilterLevel::Exact(wanted)) if *wanted == text => {
                    next.add(position + 1, levels);
                }
                Some(FilterLevel::One) => next.add(position + 1, levels),
                Some(FilterLevel::Many) => next.add(position, levels),
                Some(FilterLevel::Exact(_)) | None => {}
            }
        }
        next
    }
}
