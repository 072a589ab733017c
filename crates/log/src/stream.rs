//! Where the batches of one stream are: segments first, then the WAL, and for the newest ones also
//! memory. Pure book-keeping; it never reads or writes anything.

use crate::batch::{BatchHeader, PREFIX_BYTES};
use crate::format::{RunRecord, WalPosition};
use bytes::Bytes;
use koine_base::checksum::{crc32c, crc32c_append};
use koine_base::StreamId;
use std::collections::hash_map::HashMap;
use std::collections::VecDeque;
use std::hash::{BuildHasherDefault, Hasher};

/// Adjacent batches in the WAL share one index entry up to this size: it is the unit of a disk read.
const WAL_RUN_BYTES_MAX: u32 = 64 << 10;

/// Streams by id. The ids are our own numbers, so a multiplication is hash enough.
pub(crate) type Streams = HashMap<StreamId, Stream, BuildHasherDefault<IdHasher>>;

#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        let mixed = (self.0 ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

/// Batches of one stream that lie side by side in one WAL file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WalRun {
    pub base: u64,
    pub position: WalPosition,
    pub max_timestamp_ms: i64,
    pub bytes: u32,
    /// Last offset minus `base`.
    pub last_delta: u32,
    /// As in [`crate::format::IndexEntry::prefix_crc`].
    pub prefix_crc: u32,
    pub batch_count: u32,
}

const _: () = assert!(std::mem::size_of::<WalRun>() == 40, "the bound on memory per batch");

impl WalRun {
    pub(crate) fn of_batch(header: &BatchHeader, bytes: &[u8], position: WalPosition) -> WalRun {
        WalRun {
            base: header.base_offset,
            position,
            max_timestamp_ms: header.max_timestamp_ms,
            bytes: header.bytes,
            last_delta: (header.last_offset - header.base_offset) as u32,
            prefix_crc: crc32c(&bytes[..PREFIX_BYTES]),
            batch_count: 1,
        }
    }

    /// Last offset + 1.
    pub(crate) fn end(&self) -> u64 {
        self.base + u64::from(self.last_delta) + 1
    }

    /// Takes in the batch that follows in offset and on disk; false if it does not follow.
    fn merge(&mut self, next: &WalRun, prefix: &[u8]) -> bool {
        let bytes = self.bytes.saturating_add(next.bytes);
        let last_delta = next.end() - 1 - self.base;
        let adjacent = self.position.plus(self.bytes) == next.position && self.end() == next.base;
        if !adjacent || bytes > WAL_RUN_BYTES_MAX || last_delta > u64::from(u32::MAX) {
            return false;
        }
        self.bytes = bytes;
        self.last_delta = last_delta as u32;
        self.max_timestamp_ms = self.max_timestamp_ms.max(next.max_timestamp_ms);
        self.prefix_crc = crc32c_append(self.prefix_crc, prefix);
        self.batch_count += 1;
        true
    }
}

/// A batch in memory. Those of a stream are always its newest ones, without a gap.
pub(crate) struct CachedBatch {
    pub base: u64,
    /// Which unit of the cache pays for it.
    pub unit: u64,
    pub bytes: Bytes,
}

impl CachedBatch {
    pub(crate) fn header(&self) -> BatchHeader {
        BatchHeader::parse(&self.bytes).expect("checked when it was placed")
    }
}

/// Queues shorter than this keep their memory.
const QUEUE_KEPT: usize = 64;

/// Gives memory back when a queue has got much shorter than it was: otherwise each stream would keep
/// what it needed at its longest.
pub(crate) fn give_back<T>(queue: &mut VecDeque<T>) {
    if queue.capacity() > QUEUE_KEPT && queue.len() < queue.capacity() / 4 {
        queue.shrink_to(queue.capacity() / 2);
    }
}

/// `start <= end`. Offsets in `[start, end)` are in `segments`, then in `wal`, in this order; `cached`
/// repeats the newest.
#[derive(Default)]
pub(crate) struct Stream {
    pub start: u64,
    pub end: u64,
    pub segments: VecDeque<RunRecord>,
    pub wal: VecDeque<WalRun>,
    pub cached: VecDeque<CachedBatch>,
    /// The newest checkpoint does not know the latest of it.
    pub changed: bool,
}

/// What [`Stream::trim`] let go of.
#[derive(Default)]
pub(crate) struct Trimmed {
    pub runs: Vec<RunRecord>,
    pub units: Vec<u64>,
}

impl Stream {
    /// True if no byte of it is stored.
    pub(crate) fn is_bare(&self) -> bool {
        self.segments.is_empty() && self.wal.is_empty()
    }

    /// Adds a batch at the end; true if it took a new index entry. It stays in memory if there is a
    /// `unit` of the cache to pay for it.
    pub(crate) fn push(&mut self, run: WalRun, unit: Option<u64>, bytes: Bytes) -> bool {
        if let Some(unit) = unit {
            self.cached.push_back(CachedBatch { base: run.base, unit, bytes: bytes.clone() });
        }
        self.end = run.end();
        if let Some(last) = self.wal.back_mut() {
            assert!(run.position > last.position, "batches are placed in the order of the WAL");
            if last.merge(&run, &bytes[..PREFIX_BYTES]) {
                return false;
            }
        }
        self.wal.push_back(run);
        true
    }

    /// Index in `cached` of the batch that holds `offset`, or of the next one behind a gap; `None` if
    /// older batches may have to be asked.
    pub(crate) fn find_cached(&self, offset: u64) -> Option<usize> {
        let first = self.cached.front()?;
        if offset < first.base {
            return None;
        }
        let behind = self.cached.partition_point(|batch| batch.base <= offset);
        let candidate = behind - 1;
        if offset <= self.cached[candidate].header().last_offset {
            Some(candidate)
        } else {
            Some(behind)
        }
    }

    /// Index in `wal` of the first run that ends behind `offset`.
    pub(crate) fn find_wal(&self, offset: u64) -> usize {
        self.wal.partition_point(|run| run.end() <= offset)
    }

    /// Index in `segments` of the first run that ends behind `offset`.
    pub(crate) fn find_segment(&self, offset: u64) -> usize {
        self.segments.partition_point(|run| run.end <= offset)
    }

    /// Forgets whatever lies wholly below `start`, and moves the end along if it is below, too.
    pub(crate) fn trim(&mut self, start: u64) -> Trimmed {
        let mut trimmed = Trimmed::default();
        if start <= self.start {
            return trimmed;
        }
        self.start = start;
        self.end = self.end.max(start);
        while self.segments.front().is_some_and(|run| run.end <= start) {
            trimmed.runs.extend(self.segments.pop_front());
        }
        while self.wal.front().is_some_and(|run| run.end() <= start) {
            self.wal.pop_front();
        }
        while self.cached.front().is_some_and(|batch| batch.header().last_offset < start) {
            trimmed.units.extend(self.cached.pop_front().map(|batch| batch.unit));
        }
        give_back(&mut self.segments);
        give_back(&mut self.wal);
        give_back(&mut self.cached);
        trimmed
    }

    /// Stored bytes from `start` on. Of a segment's run that is trimmed in part, the part by offsets.
    pub(crate) fn bytes(&self) -> u64 {
        let mut total: u64 = self.wal.iter().map(|run| u64::from(run.bytes)).sum();
        for run in &self.segments {
            total += if run.base >= self.start {
                run.bytes
            } else {
                let share = u128::from(run.bytes) * u128::from(run.end - self.start);
                (share / u128::from(run.end - run.base)) as u64
            };
        }
        total
    }

    /// The new start under both limits, if it moves. Whole runs go, so up to one run too much stays.
    pub(crate) fn expire(&self, oldest_ms: Option<i64>, bytes_max: Option<u64>) -> Option<u64> {
        let mut bytes = self.bytes();
        let mut start = self.start;
        let segments = self.segments.iter().map(|run| (run.end, run.bytes, run.max_timestamp_ms));
        let wal =
            self.wal.iter().map(|run| (run.end(), u64::from(run.bytes), run.max_timestamp_ms));
        for (end, run_bytes, max_timestamp_ms) in segments.chain(wal) {
            let too_old = oldest_ms.is_some_and(|oldest_ms| max_timestamp_ms < oldest_ms);
            let too_much =
                bytes_max.is_some_and(|bytes_max| bytes.saturating_sub(run_bytes) >= bytes_max);
            if !too_old && !too_much {
                break;
            }
            bytes = bytes.saturating_sub(run_bytes);
            start = end;
        }
        (start > self.start).then_some(start)
    }

    /// Gives back the memory of empty queues: most streams are idle.
    pub(crate) fn shrink(&mut self) {
        if self.segments.is_empty() {
            self.segments = VecDeque::new();
        }
        if self.wal.is_empty() {
            self.wal = VecDeque::new();
        }
        if self.cached.is_empty() {
            self.cached = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::batch;

    fn placed(
        stream: &mut Stream,
        base: u64,
        count: u32,
        timestamp_ms: i64,
        position: WalPosition,
    ) -> bool {
        let bytes = batch(base, count, timestamp_ms, 20);
        let header = BatchHeader::parse(&bytes).unwrap();
        stream.push(WalRun::of_batch(&header, &bytes, position), Some(0), bytes)
    }

    #[test]
    fn adjacent_batches_share_an_entry() {
        let mut stream = Stream::default();
        let at = |offset| WalPosition::new(1, offset);
        assert!(placed(&mut stream, 0, 2, 5, at(4096)));
        assert!(!placed(&mut stream, 2, 3, 9, at(4096 + 81)));
        assert!(placed(&mut stream, 5, 1, 7, at(4096 + 81 + 82)), "not adjacent");
        assert!(placed(&mut stream, 6, 1, 7, WalPosition::new(2, 4096)));
        assert_eq!(stream.wal.len(), 3);
        let first = stream.wal[0];
        assert_eq!(
            (first.base, first.end(), first.batch_count, first.max_timestamp_ms),
            (0, 5, 2, 9)
        );
        assert_eq!(stream.bytes(), 4 * 81);
    }

    #[test]
    fn finds_by_offset() {
        let mut stream = Stream::default();
        for n in 0..4u64 {
            placed(&mut stream, n * 10, 10, 0, WalPosition::new(1, 4096 + n as u32 * 100));
        }
        stream.cached.drain(..2);
        let check = |offset, cached, wal| {
            assert_eq!(
                (stream.find_cached(offset), stream.find_wal(offset)),
                (cached, wal),
                "{offset}"
            );
        };
        check(0, None, 0);
        check(9, None, 0);
        check(10, None, 1);
        check(19, None, 1);
        check(20, Some(0), 2);
        check(29, Some(0), 2);
        check(30, Some(1), 3);
        check(39, Some(1), 3);
        check(40, Some(2), 4);
    }

    #[test]
    fn trims_whole_batches_and_moves_the_end() {
        let mut stream = Stream::default();
        for n in 0..3u64 {
            placed(&mut stream, n * 10, 10, 0, WalPosition::new(1, 4096 + n as u32 * 100));
        }
        assert!(stream.trim(0).units.is_empty());
        assert_eq!(stream.trim(15).units.len(), 1);
        assert_eq!(
            (stream.start, stream.end, stream.wal.len(), stream.cached.len()),
            (15, 30, 2, 2)
        );
        stream.trim(100);
        assert_eq!((stream.start, stream.end, stream.is_bare()), (100, 100, true));
    }

    #[test]
    fn expires_by_time_and_size() {
        let mut stream = Stream::default();
        for n in 0..4u64 {
            placed(
                &mut stream,
                n * 10,
                10,
                n as i64 * 100,
                WalPosition::new(1, 4096 + n as u32 * 100),
            );
        }
        let check =
            |oldest_ms, bytes_max, expect| assert_eq!(stream.expire(oldest_ms, bytes_max), expect);
        check(None, None, None);
        check(Some(0), None, None);
        check(Some(1), None, Some(10));
        check(Some(200), None, Some(20));
        check(Some(1000), None, Some(40));
        check(None, Some(1000), None);
        check(None, Some(81), Some(30));
        check(None, Some(82), Some(20));
        check(None, Some(0), Some(40));
        check(Some(1), Some(1000), Some(10));
    }
}
