//! The budget of the tail cache. The batches themselves hang on their streams; here is only who pays
//! for how much, and in which order they go.
//!
//! The unit is the WAL frame, not the batch: a small slice keeps its whole frame's buffer alive, so
//! memory comes back only when all batches of a frame go. A frame is charged once, whole.

use crate::format::WalPosition;
use crate::stream::{give_back, Streams};
use crate::wal::FrameLocation;
use koine_base::StreamId;
use std::collections::VecDeque;

/// What a unit costs beside its frame, also when all its batches are gone but older units are not.
const UNIT_BYTES: u64 = 48;
/// What a batch costs beside its bytes: its entries in the stream and in `owners`.
const BATCH_BYTES: u64 = 104;
/// The part of it that stays until the unit goes.
const OWNER_BYTES: u64 = 8;

struct Unit {
    frame: WalPosition,
    charge: u64,
    placed: u32,
    live: u32,
}

pub(crate) struct Cache {
    budget: u64,
    charged: u64,
    /// In order of placing; the number of the first is `first`.
    units: VecDeque<Unit>,
    first: u64,
    /// The stream of each batch placed, unit after unit.
    owners: VecDeque<StreamId>,
}

impl Cache {
    pub(crate) fn new(budget: u64) -> Self {
        Cache { budget, charged: 0, units: VecDeque::new(), first: 0, owners: VecDeque::new() }
    }

    pub(crate) fn charged(&self) -> u64 {
        self.charged
    }

    /// Charges one batch out of `frame` and returns the number of its unit.
    pub(crate) fn place(&mut self, stream: StreamId, frame: FrameLocation) -> u64 {
        if self.units.back().is_none_or(|unit| unit.frame != frame.payload || unit.live == 0) {
            let charge = UNIT_BYTES + u64::from(frame.payload_bytes);
            self.charged += charge;
            self.units.push_back(Unit { frame: frame.payload, charge, placed: 0, live: 0 });
        }
        let unit = self.units.back_mut().expect("pushed above if there was none");
        unit.placed += 1;
        unit.live += 1;
        unit.charge += BATCH_BYTES;
        self.charged += BATCH_BYTES;
        self.owners.push_back(stream);
        self.first + self.units.len() as u64 - 1
    }

    /// A batch of the unit was trimmed. With the last one the frame's buffer is free.
    pub(crate) fn release(&mut self, unit: u64) {
        let index = (unit - self.first) as usize;
        let unit = self.units.get_mut(index).expect("a unit outlives its batches");
        unit.live -= 1;
        if unit.live == 0 {
            let rest = UNIT_BYTES + OWNER_BYTES * u64::from(unit.placed);
            self.charged -= unit.charge - rest;
            unit.charge = rest;
        }
    }

    /// Drops the oldest units until the budget holds. Stops at a frame that is not yet written, since
    /// its batches are nowhere else.
    pub(crate) fn evict(&mut self, streams: &mut Streams, written: WalPosition) {
        while self.charged > self.budget {
            if self.units.front().is_none_or(|unit| unit.live > 0 && unit.frame >= written) {
                return;
            }
            let Some(unit) = self.units.pop_front() else {
                return;
            };
            self.charged -= unit.charge;
            for owner in self.owners.drain(..unit.placed as usize) {
                let Some(stream) = streams.get_mut(&owner) else {
                    continue;
                };
                if stream.cached.front().is_some_and(|batch| batch.unit == self.first) {
                    stream.cached.pop_front();
                    give_back(&mut stream.cached);
                }
            }
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchHeader;
    use crate::stream::WalRun;
    use crate::tests::batch;
    use koine_base::GroupId;

    struct Fixture {
        cache: Cache,
        streams: Streams,
    }

    impl Fixture {
        fn new(budget: u64) -> Self {
            Fixture { cache: Cache::new(budget), streams: Streams::default() }
        }

        fn place(&mut self, stream: u64, frame: u32, at: u32) {
            let id = StreamId::new(GroupId(1), stream);
            let location =
                FrameLocation { payload: WalPosition::new(1, frame), payload_bytes: 1000 };
            let unit = self.cache.place(id, location);
            let stream = self.streams.entry(id).or_default();
            let bytes = batch(stream.end, 1, 0, 10);
            let header = BatchHeader::parse(&bytes).unwrap();
            let run = WalRun::of_batch(&header, &bytes, WalPosition::new(1, frame + at));
            stream.push(run, Some(unit), bytes);
        }

        fn cached(&self, stream: u64) -> usize {
            self.streams[&StreamId::new(GroupId(1), stream)].cached.len()
        }
    }

    #[test]
    fn a_frame_is_charged_once_and_goes_whole() {
        let mut fixture = Fixture::new(1500);
        fixture.place(1, 4096, 0);
        fixture.place(2, 4096, 100);
        fixture.place(1, 4096, 200);
        assert_eq!(fixture.cache.charged(), 1000 + UNIT_BYTES + 3 * BATCH_BYTES);
        fixture.place(2, 6000, 0);
        let all_written = WalPosition::new(2, 0);
        fixture.cache.evict(&mut fixture.streams, WalPosition::new(1, 4096));
        assert_eq!(fixture.cached(1), 2, "nothing that is not written goes");
        fixture.cache.evict(&mut fixture.streams, all_written);
        assert_eq!((fixture.cached(1), fixture.cached(2)), (0, 1));
        assert_eq!(fixture.cache.charged(), 1000 + UNIT_BYTES + BATCH_BYTES);
    }

    #[test]
    fn trimmed_frames_stop_costing() {
        let mut fixture = Fixture::new(500);
        fixture.place(1, 4096, 0);
        fixture.place(1, 4096, 100);
        fixture.place(2, 6000, 0);
        let trimmed = fixture.streams.get_mut(&StreamId::new(GroupId(1), 1)).unwrap().trim(2);
        for unit in trimmed.units {
            fixture.cache.release(unit);
        }
        let rest = UNIT_BYTES + 2 * OWNER_BYTES;
        assert_eq!(fixture.cache.charged(), rest + 1000 + UNIT_BYTES + BATCH_BYTES);
        fixture.cache.evict(&mut fixture.streams, WalPosition::new(2, 0));
        assert_eq!((fixture.cache.charged(), fixture.cached(2)), (0, 0));
    }
}
