//! Indexes of runs that were read lately, under a budget. The oldest goes first: a reader that goes
//! through a run asks for the same index again and again within a short time.

use crate::format::{IndexEntry, RunRecord};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// What an entry costs beside the index.
const ENTRY_BYTES: usize = 128;

type Key = (u64, u64);

pub(crate) struct IndexCache {
    budget: usize,
    bytes: usize,
    indexes: HashMap<Key, Arc<[IndexEntry]>>,
    /// Oldest first.
    order: VecDeque<Key>,
}

fn key(run: &RunRecord) -> Key {
    (run.segment, run.position)
}

fn size(index: &[IndexEntry]) -> usize {
    std::mem::size_of_val(index) + ENTRY_BYTES
}

impl IndexCache {
    pub(crate) fn new(budget: usize) -> Self {
        IndexCache { budget, bytes: 0, indexes: HashMap::new(), order: VecDeque::new() }
    }

    pub(crate) fn find(&self, run: &RunRecord) -> Option<Arc<[IndexEntry]>> {
        self.indexes.get(&key(run)).cloned()
    }

    pub(crate) fn insert(&mut self, run: &RunRecord, index: Arc<[IndexEntry]>) {
        self.bytes += size(&index);
        if let Some(before) = self.indexes.insert(key(run), index) {
            self.bytes -= size(&before);
        } else {
            self.order.push_back(key(run));
        }
        while self.bytes > self.budget {
            let Some(oldest) = self.order.pop_front() else {
                return;
            };
            self.bytes -= self.indexes.remove(&oldest).map_or(0, |index| size(&index));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_first() {
        let run = |segment| RunRecord {
            segment,
            base: 0,
            end: 1,
            position: 72,
            bytes: 1,
            max_timestamp_ms: 0,
            index_position: 0,
            index_count: 1,
            index_crc: 0,
        };
        let entry =
            IndexEntry { offset: 0, position: 72, max_timestamp_ms: 0, bytes: 1, prefix_crc: 0 };
        let index: Arc<[IndexEntry]> = Arc::new([entry; 4]);
        let mut cache = IndexCache::new(2 * size(&index));
        for segment in [1, 2, 2, 3] {
            cache.insert(&run(segment), index.clone());
        }
        let found = [1, 2, 3].map(|segment| cache.find(&run(segment)).is_some());
        assert_eq!(found, [false, true, true]);
        assert_eq!(cache.bytes, cache.budget);
    }
}
