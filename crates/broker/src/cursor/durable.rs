//! The part of a cursor that outlives leaders: how committed deltas change it, and its snapshot.

use super::consumers::LeaseState;
use super::{Applied, Cursor, Delta};
use crate::range_set::RangeSet;
use crate::snapshot::{put_number, take_format, take_number, SnapshotError};
use std::ops::Range;

const FORMAT: u8 = 1;

impl Cursor {
    /// Applies a committed delta; the same on leader and followers.
    pub fn apply(&mut self, delta: &Delta) -> Applied {
        let floor_before = self.floor;
        let mut acked_count = 0;
        if delta.floor > self.floor {
            self.forget(self.floor..delta.floor);
            acked_count += self.ack(self.floor..delta.floor);
        }
        for range in &delta.acked {
            let range = range.start.max(self.floor)..range.end;
            if range.is_empty() {
                continue;
            }
            if self.settling.remove(range.clone()) != range.end - range.start {
                self.forget(range.clone());
            }
            self.settled_ahead_end = self.settled_ahead_end.max(range.end);
            acked_count += self.ack(range);
        }
        for range in &delta.half {
            for gap in self.acked.gaps(range.start.max(self.floor)..range.end) {
                self.settled_ahead_end = self.settled_ahead_end.max(gap.end);
                self.half.insert(gap);
            }
        }
        self.next = self.next.max(self.floor);
        debug_assert!(
            self.acked.first().is_none_or(|first| first.start > self.floor),
            "floor left behind"
        );
        Applied { acked_count, floor: self.floor, floor_moved: self.floor > floor_before }
    }

    fn ack(&mut self, range: Range<u64>) -> u64 {
        if !self.half.is_empty() {
            self.half.remove(range.clone());
            self.half_idle.remove(range.clone());
        }
        if range.start > self.floor {
            return self.acked.insert(range);
        }
        let already = self.acked.remove(range.clone());
        let count = range.end - self.floor - already;
        self.floor = range.end;
        if let Some(touching) = self.acked.range_at(self.floor) {
            self.acked.remove(touching.clone());
            self.floor = touching.end;
        }
        count
    }

    /// Drops the leader's state of offsets that are acked by other means than a settle.
    fn forget(&mut self, range: Range<u64>) {
        self.settling.remove(range.clone());
        self.half_idle.remove(range.clone());
        self.drop_requeued(&range);
        let leased_count = &mut self.leased_count;
        for consumer in self.consumers.iter_mut() {
            consumer.visit(&range, |lease| {
                lease.state = LeaseState::Gone;
                *leased_count -= 1;
            });
        }
    }

    /// True if nothing durable tells it from a new cursor at `start` but what a leader finds out anew.
    pub fn is_new_at(&self, start: u64) -> bool {
        self.floor == start && self.acked.is_empty() && self.half.is_empty()
    }

    /// The durable part.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(FORMAT);
        put_number(out, self.floor);
        put_number(out, self.redelivered_below);
        self.acked.encode(out);
        self.half.encode(out);
    }

    /// A cursor as a follower has it; [`Self::recover`] makes it a leader's.
    pub fn decode(input: &mut &[u8]) -> Result<Self, SnapshotError> {
        take_format(input, FORMAT)?;
        let mut cursor = Cursor::new(take_number(input)?);
        cursor.redelivered_below = take_number(input)?;
        cursor.acked = RangeSet::decode(input)?;
        cursor.half = RangeSet::decode(input)?;
        let lowest = cursor.acked.first().map_or(u64::MAX, |range| range.start);
        let lowest_half = cursor.half.first().map_or(u64::MAX, |range| range.start);
        if lowest <= cursor.floor || lowest_half < cursor.floor {
            return Err(SnapshotError::BadValue);
        }
        cursor.half_idle = cursor.half.clone();
        Ok(cursor)
    }
}
