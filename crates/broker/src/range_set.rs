//! A set of offsets kept as disjoint, non-adjacent ranges. Ten million consecutive offsets cost as
//! much as one; every operation is logarithmic in the number of ranges it does not remove.

use crate::snapshot::{put_number, take_count, take_number, SnapshotError};
use std::collections::BTreeMap;
use std::ops::Range;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet {
    /// Start to end (exclusive).
    ranges: BTreeMap<u64, u64>,
    /// Offsets in all ranges.
    count: u64,
}

impl RangeSet {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Offsets in the set.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Ranges in the set: what it costs in memory.
    pub fn range_count(&self) -> usize {
        self.ranges.len()
    }

    pub fn clear(&mut self) {
        self.ranges.clear();
        self.count = 0;
    }

    pub fn ranges(&self) -> impl DoubleEndedIterator<Item = Range<u64>> + '_ {
        self.ranges.iter().map(|(&start, &end)| start..end)
    }

    pub fn first(&self) -> Option<Range<u64>> {
        self.ranges.first_key_value().map(|(&start, &end)| start..end)
    }

    pub fn contains(&self, offset: u64) -> bool {
        self.range_at(offset).is_some()
    }

    /// The range that holds `offset`.
    pub fn range_at(&self, offset: u64) -> Option<Range<u64>> {
        let (&start, &end) = self.ranges.range(..=offset).next_back()?;
        (offset < end).then_some(start..end)
    }

    /// Start of the first range that begins at `offset` or later.
    pub fn next_start(&self, offset: u64) -> Option<u64> {
        self.ranges.range(offset..).next().map(|(&start, _)| start)
    }

    /// Adds `range`; returns how many of its offsets were not in the set before.
    pub fn insert(&mut self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let count_before = self.count;
        let (mut start, mut end) = (range.start, range.end);
        if let Some((&left_start, left_end)) = self.ranges.range_mut(..=start).next_back() {
            if *left_end >= end {
                return 0;
            }
            if *left_end >= start {
                // The usual case: the range before grows. Only what it now reaches needs merging.
                let grown_from = *left_end;
                *left_end = end;
                self.count += end - grown_from;
                start = left_start;
                if self.ranges.range(grown_from + 1..=end).next().is_none() {
                    return self.count - count_before;
                }
                self.ranges.remove(&left_start);
                self.count -= end - left_start;
            }
        }
        while let Some((&next_start, &next_end)) = self.ranges.range(start..=end).next() {
            self.ranges.remove(&next_start);
            self.count -= next_end - next_start;
            end = end.max(next_end);
        }
        self.ranges.insert(start, end);
        self.count += end - start;
        self.count - count_before
    }

    /// Takes `range` out; returns how many of its offsets were in the set.
    pub fn remove(&mut self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let count_before = self.count;
        if let Some((&left_start, left_end)) = self.ranges.range_mut(..range.start).next_back() {
            let end = *left_end;
            if end > range.start {
                *left_end = range.start;
                self.count -= end - range.start;
                debug_assert!(left_start < range.start, "a range is never empty");
                if end > range.end {
                    self.ranges.insert(range.end, end);
                    self.count += end - range.end;
                    return count_before - self.count;
                }
            }
        }
        while let Some((&start, &end)) = self.ranges.range(range.clone()).next() {
            self.ranges.remove(&start);
            self.count -= end - start;
            if end > range.end {
                self.ranges.insert(range.end, end);
                self.count += end - range.end;
            }
        }
        count_before - self.count
    }

    /// The parts of `within` that are not in the set, in order.
    pub fn gaps(&self, within: Range<u64>) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut position = within.start;
        if let Some(range) = self.range_at(position) {
            position = range.end;
        }
        for (&start, &end) in self.ranges.range(position..within.end.max(position)) {
            if start > position {
                gaps.push(position..start);
            }
            position = end;
        }
        if position < within.end {
            gaps.push(position..within.end);
        }
        gaps
    }

    /// Count, then per range the distance from the end of the one before and its length.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode_ranges(self.ranges(), self.ranges.len(), out);
    }

    pub fn decode(input: &mut &[u8]) -> Result<Self, SnapshotError> {
        let mut set = RangeSet::new();
        for range in decode_ranges(input)? {
            set.insert(range);
        }
        Ok(set)
    }
}

impl FromIterator<Range<u64>> for RangeSet {
    fn from_iter<I: IntoIterator<Item = Range<u64>>>(ranges: I) -> Self {
        let mut set = RangeSet::new();
        for range in ranges {
            set.insert(range);
        }
        set
    }
}

/// Writes ascending, disjoint ranges.
pub(crate) fn encode_ranges(
    ranges: impl Iterator<Item = Range<u64>>,
    count: usize,
    out: &mut Vec<u8>,
) {
    put_number(out, count as u64);
    let mut position = 0;
    for range in ranges {
        put_number(out, range.start - position);
        put_number(out, range.end - range.start);
        position = range.end;
    }
}

pub(crate) fn decode_ranges(input: &mut &[u8]) -> Result<Vec<Range<u64>>, SnapshotError> {
    let count = take_count(input, 2)?;
    let mut ranges = Vec::with_capacity(count);
    let mut position = 0u64;
    for _ in 0..count {
        let start = position.checked_add(take_number(input)?).ok_or(SnapshotError::BadValue)?;
        let length = take_number(input)?;
        position = start.checked_add(length).ok_or(SnapshotError::BadValue)?;
        if length == 0 {
            return Err(SnapshotError::BadValue);
        }
        ranges.push(start..position);
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;
    use koine_base::rng::Rng;
    use std::collections::BTreeSet;

    #[test]
    fn neighbours_merge_and_split() {
        let mut set = RangeSet::new();
        assert_eq!(set.insert(10..20), 10);
        assert_eq!(set.insert(20..25), 5);
        assert_eq!(set.insert(5..10), 5);
        assert_eq!(set.insert(30..40), 10);
        assert_eq!(set.insert(0..50), 20);
        assert_eq!(set.range_count(), 1);
        assert_eq!(set.remove(10..12), 2);
        assert_eq!(set.ranges().collect::<Vec<_>>(), [0..10, 12..50]);
        assert_eq!(set.insert(10..12), 2);
        assert_eq!((set.first(), set.count()), (Some(0..50), 50));
        assert_eq!(set.insert(3..3), 0);
        assert_eq!(set.insert(u64::MAX - 1..u64::MAX), 1);
    }

    #[test]
    fn agrees_with_a_plain_set() {
        let mut rng = Rng::new(8);
        for _ in 0..200 {
            let mut set = RangeSet::new();
            let mut plain = BTreeSet::new();
            for _ in 0..200 {
                let start = rng.below(100);
                let range = start..start + rng.below(12);
                let changed = if rng.chance(3, 5) {
                    (set.insert(range.clone()), range.filter(|&o| plain.insert(o)).count())
                } else {
                    (set.remove(range.clone()), range.filter(|o| plain.remove(o)).count())
                };
                assert_eq!(changed.0, changed.1 as u64);
                assert_eq!(set.count(), plain.len() as u64);
                assert!(set.ranges().flatten().eq(plain.iter().copied()));
                let ends: Vec<_> = set.ranges().collect();
                assert!(ends.windows(2).all(|pair| pair[0].end < pair[1].start), "merged");
                let within = rng.below(60)..60 + rng.below(60);
                let gaps: Vec<u64> = set.gaps(within.clone()).into_iter().flatten().collect();
                assert!(gaps.into_iter().eq(within.filter(|o| !plain.contains(o))));
                let probe = rng.below(120);
                assert_eq!(set.contains(probe), plain.contains(&probe));
            }
            let mut bytes = Vec::new();
            set.encode(&mut bytes);
            assert_eq!(RangeSet::decode(&mut &bytes[..]), Ok(set));
        }
    }

    #[test]
    fn malformed() {
        let check =
            |bytes: &[u8], expect| assert_eq!(RangeSet::decode(&mut &bytes[..]), Err(expect));
        check(&[], SnapshotError::Truncated);
        check(&[1, 5], SnapshotError::Truncated);
        check(&[0xFF, 0xFF, 0x03, 1, 1], SnapshotError::Truncated);
        check(&[1, 5, 0], SnapshotError::BadValue);
        check(
            &[1, 1, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1],
            SnapshotError::BadValue,
        );
    }
}
