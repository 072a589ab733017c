//! The deliveries of one channel that the client has not settled, by delivery tag. Acks mostly come
//! in order or in runs; one stuck delivery must not hold the memory of all that follow it.

use std::collections::VecDeque;

/// `T`: what must be known to settle a delivery.
#[derive(Debug)]
pub struct Unacked<T> {
    /// Ascending by tag; `None` where settled out of order.
    entries: VecDeque<(u64, Option<T>)>,
    live_count: usize,
    /// The last tag handed out; tags start at 1.
    last_tag: u64,
}

/// The client named a tag that is not outstanding (406 in RabbitMQ).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownTag;

impl<T> Default for Unacked<T> {
    fn default() -> Self {
        Unacked { entries: VecDeque::new(), live_count: 0, last_tag: 0 }
    }
}

impl<T> Unacked<T> {
    /// A tag for a delivery that needs no settling.
    pub fn tag(&mut self) -> u64 {
        self.last_tag += 1;
        self.last_tag
    }

    /// A tag for a delivery that must be settled.
    pub fn add(&mut self, delivery: T) -> u64 {
        let tag = self.tag();
        self.entries.push_back((tag, Some(delivery)));
        self.live_count += 1;
        tag
    }

    /// Removes `tag`, or with `multiple` everything up to and including it (0: everything), handing
    /// each to `settle` oldest first. As in RabbitMQ `tag` itself must be outstanding.
    pub fn settle(
        &mut self,
        tag: u64,
        multiple: bool,
        mut settle: impl FnMut(T),
    ) -> Result<(), UnknownTag> {
        if multiple && tag == 0 {
            self.settle_all(settle);
            return Ok(());
        }
        let index =
            self.entries.binary_search_by_key(&tag, |(entry, _)| *entry).map_err(|_| UnknownTag)?;
        if self.entries[index].1.is_none() {
            return Err(UnknownTag);
        }
        if multiple {
            for (_, delivery) in self.entries.drain(..=index) {
                if let Some(delivery) = delivery {
                    self.live_count -= 1;
                    settle(delivery);
                }
            }
        } else if let Some(delivery) = self.entries[index].1.take() {
            self.live_count -= 1;
            settle(delivery);
        }
        self.shrink();
        Ok(())
    }

    /// Removes everything, oldest first.
    pub fn settle_all(&mut self, mut settle: impl FnMut(T)) {
        for (_, delivery) in self.entries.drain(..) {
            if let Some(delivery) = delivery {
                settle(delivery);
            }
        }
        self.live_count = 0;
    }

    /// Drops settled entries: at the front always, in the middle when they are the majority.
    fn shrink(&mut self) {
        while self.entries.front().is_some_and(|(_, delivery)| delivery.is_none()) {
            self.entries.pop_front();
        }
        if self.entries.len() > 64 && self.live_count * 2 < self.entries.len() {
            self.entries.retain(|(_, delivery)| delivery.is_some());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(count: u64) -> Unacked<u64> {
        let mut unacked = Unacked::default();
        for expect in 1..=count {
            assert_eq!(unacked.add(expect * 10), expect);
        }
        unacked
    }

    fn settle(
        unacked: &mut Unacked<u64>,
        tag: u64,
        multiple: bool,
    ) -> Result<Vec<u64>, UnknownTag> {
        let mut settled = Vec::new();
        unacked.settle(tag, multiple, |delivery| settled.push(delivery))?;
        Ok(settled)
    }

    #[test]
    fn single_and_multiple_and_all() {
        let mut unacked = with(6);
        assert_eq!(settle(&mut unacked, 2, false), Ok(vec![20]));
        assert_eq!(settle(&mut unacked, 4, true), Ok(vec![10, 30, 40]));
        assert_eq!(settle(&mut unacked, 0, true), Ok(vec![50, 60]));
        assert_eq!(settle(&mut unacked, 0, true), Ok(vec![]));
        assert_eq!(unacked.live_count, 0);
        assert_eq!(unacked.add(70), 7);
    }

    #[test]
    fn unknown_twice_settled_and_zero_tags_are_refused() {
        let mut unacked = with(3);
        assert_eq!(unacked.tag(), 4);
        assert_eq!(settle(&mut unacked, 2, false), Ok(vec![20]));
        for (tag, multiple) in [(2, false), (2, true), (0, false), (4, false), (9, true)] {
            assert_eq!(settle(&mut unacked, tag, multiple), Err(UnknownTag), "{tag} {multiple}");
        }
        assert_eq!(unacked.live_count, 2);
    }

    #[test]
    fn one_stuck_delivery_does_not_hold_the_memory_of_the_others() {
        let mut unacked = with(10_000);
        for tag in 2..=10_000 {
            assert_eq!(settle(&mut unacked, tag, false), Ok(vec![tag * 10]));
        }
        assert_eq!(unacked.live_count, 1);
        assert!(unacked.entries.len() <= 64);
        assert_eq!(settle(&mut unacked, 1, false), Ok(vec![10]));
    }
}
