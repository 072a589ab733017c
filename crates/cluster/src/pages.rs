//! State kept encoded in pages, so that a checkpoint encodes again only what changed since the one
//! before, and in steps: a page is encoded on its own, shared by whoever writes it, and made anew after
//! it was touched. Must never hold a page of something that changed without a touch.

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The parts of one page, in order.
pub type Page = Arc<[Bytes]>;

/// A page is made anew this often more, on average, than there are pages, before it is taken that
/// changes come faster than pages can be made.
const ROUNDS_MAX: usize = 4;

/// Pages by key.
#[derive(Debug)]
pub struct Pages<K> {
    encoded: BTreeMap<K, Page>,
    touched: BTreeSet<K>,
    /// Pages made since the last checkpoint.
    made: usize,
}

impl<K> Default for Pages<K> {
    fn default() -> Self {
        Pages { encoded: BTreeMap::new(), touched: BTreeSet::new(), made: 0 }
    }
}

impl<K: Ord + Clone> Pages<K> {
    /// What the page holds has changed, come or gone.
    pub fn touch(&mut self, key: K) {
        self.touched.insert(key);
    }

    /// Everything may have changed.
    pub fn touch_all(&mut self) {
        self.touched.extend(self.encoded.keys().cloned());
    }

    pub fn keys(&self) -> Vec<K> {
        self.encoded.keys().cloned().collect()
    }

    /// Makes up to `count` touched pages anew; `None` from `encode` is a page without content. True if
    /// so few are left that they may be made at once, or if waiting does not help.
    pub fn prepare(&mut self, count: usize, mut encode: impl FnMut(&K) -> Option<Page>) -> bool {
        for _ in 0..count {
            let Some(key) = self.touched.pop_first() else { break };
            self.made += 1;
            match encode(&key) {
                Some(page) => self.encoded.insert(key, page),
                None => self.encoded.remove(&key),
            };
        }
        self.touched.len() <= count || self.made > ROUNDS_MAX * (self.encoded.len() + count)
    }

    /// Every page as of now, in order of keys.
    pub fn finish(&mut self, encode: impl FnMut(&K) -> Option<Page>) -> Vec<Page> {
        self.prepare(usize::MAX, encode);
        self.made = 0;
        self.encoded.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(value: u32) -> Page {
        Arc::from([Bytes::copy_from_slice(&value.to_be_bytes())])
    }

    #[test]
    fn only_touched_pages_are_made_anew_and_in_steps() {
        let mut pages = Pages::default();
        let mut state: BTreeMap<u32, u32> = (0..100).map(|key| (key, key)).collect();
        for key in 0..100 {
            pages.touch(key);
        }
        let mut steps = 1;
        while !pages.prepare(10, |key| state.get(key).map(|value| page(*value))) {
            steps += 1;
        }
        assert_eq!(steps, 9);
        state.insert(3, 300);
        state.remove(&4);
        for key in [3, 4] {
            pages.touch(key);
        }
        let mut made = Vec::new();
        let all = pages.finish(|key| {
            made.push(*key);
            state.get(key).map(|value| page(*value))
        });
        assert_eq!(made, [3, 4].into_iter().chain(90..100).collect::<Vec<_>>());
        let expect: Vec<Page> = state.values().map(|value| page(*value)).collect();
        assert_eq!(all, expect);
        assert_eq!(pages.finish(|_| panic!("nothing was touched")), expect);
    }

    #[test]
    fn changes_that_never_end_do_not_hold_a_checkpoint_up_for_ever() {
        let mut pages = Pages::default();
        let touch_all = |pages: &mut Pages<u32>| (0..100).for_each(|key| pages.touch(key));
        touch_all(&mut pages);
        let mut steps = 0;
        while !pages.prepare(10, |key| Some(page(*key))) {
            touch_all(&mut pages);
            steps += 1;
        }
        assert!(steps < 100, "{steps}");
    }
}
