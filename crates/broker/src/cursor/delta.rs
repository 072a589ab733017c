//! What a cursor asks to be made durable. Produced on the leader, committed with the group's log, and
//! applied alike on every replica.

use crate::range_set::{decode_ranges, encode_ranges};
use crate::snapshot::{put_number, take_format, take_number, SnapshotError};
use std::ops::Range;

const FORMAT: u8 = 1;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Settled for good. Ascending and disjoint.
    pub acked: Vec<Range<u64>>,
    /// Received by the other side but not released yet (MQTT QoS 2 after PUBREC). Ascending and
    /// disjoint.
    pub half: Vec<Range<u64>>,
    /// Everything below is settled, whatever its state was; 0 for no change.
    pub floor: u64,
}

impl Delta {
    pub fn is_empty(&self) -> bool {
        self.acked.is_empty() && self.half.is_empty() && self.floor == 0
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(FORMAT);
        put_number(out, self.floor);
        encode_ranges(self.acked.iter().cloned(), self.acked.len(), out);
        encode_ranges(self.half.iter().cloned(), self.half.len(), out);
    }

    pub fn decode(input: &mut &[u8]) -> Result<Self, SnapshotError> {
        take_format(input, FORMAT)?;
        let floor = take_number(input)?;
        let acked = decode_ranges(input)?;
        let half = decode_ranges(input)?;
        Ok(Delta { acked, half, floor })
    }
}

/// Appends `range`, joining it to the last one if it continues that.
#[inline]
pub(super) fn push_range(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}

/// Sorts ranges that may have come in any order and joins neighbours.
pub(super) fn normalise(ranges: &mut Vec<Range<u64>>) {
    if ranges.windows(2).all(|pair| pair[0].end < pair[1].start) {
        return;
    }
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.dedup_by(|next, kept| {
        let joins = next.start <= kept.end;
        if joins {
            kept.end = kept.end.max(next.end);
        }
        joins
    });
}
