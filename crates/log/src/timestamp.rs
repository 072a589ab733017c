//! Search by time: the first batch whose max timestamp reaches a given one. Timestamps need not
//! ascend, so runs are asked in the order of offsets; only the run that must hold the batch is read.

use crate::log::{Log, TimestampOutcome};
use crate::read::Goal;
use crate::stream::Stream;
use koine_base::StreamId;

/// Where the search stands without the disk.
enum Step {
    Found {
        base_offset: u64,
        max_timestamp_ms: i64,
    },
    None,
    /// The run that holds this offset must be read.
    Read(u64),
}

impl Log {
    /// The first batch of the stream whose max timestamp is at least `timestamp_ms`.
    pub fn offset_for_timestamp(
        &mut self,
        stream: StreamId,
        timestamp_ms: i64,
    ) -> TimestampOutcome {
        self.search_timestamp(stream, timestamp_ms, 0)
    }

    fn search_timestamp(&mut self, id: StreamId, timestamp_ms: i64, from: u64) -> TimestampOutcome {
        let Some(stream) = self.streams.get(&id) else {
            return TimestampOutcome::UnknownStream;
        };
        match step(stream, timestamp_ms, from.max(stream.start)) {
            Step::Found { base_offset, max_timestamp_ms } => {
                TimestampOutcome::Found { base_offset, max_timestamp_ms }
            }
            Step::None => TimestampOutcome::None,
            Step::Read(offset) => {
                let (token, request) =
                    self.start_read(id, offset, 0, u64::MAX, Goal::Timestamp(timestamp_ms));
                TimestampOutcome::Pending(token, request)
            }
        }
    }

    /// A run was read. If the batch was not in it (what had the timestamp is below the start), the
    /// search goes on behind it.
    pub(crate) fn resume_timestamp(
        &mut self,
        stream: StreamId,
        timestamp_ms: i64,
        found: Option<(u64, i64)>,
        behind: u64,
    ) -> TimestampOutcome {
        match found {
            Some((base_offset, max_timestamp_ms)) => {
                TimestampOutcome::Found { base_offset, max_timestamp_ms }
            }
            None => self.search_timestamp(stream, timestamp_ms, behind),
        }
    }
}

fn step(stream: &Stream, timestamp_ms: i64, from: u64) -> Step {
    let in_memory = stream.cached.front().map_or(u64::MAX, |batch| batch.base);
    let segments = stream.segments.range(stream.find_segment(from)..);
    let segments = segments.map(|run| (run.base, run.end, run.max_timestamp_ms, false));
    let wal = stream.wal.range(stream.find_wal(from)..);
    let wal = wal.map(|run| (run.base, run.end(), run.max_timestamp_ms, run.batch_count == 1));
    for (base, end, max_timestamp_ms, single) in segments.chain(wal) {
        if max_timestamp_ms < timestamp_ms {
            continue;
        }
        if single {
            return Step::Found { base_offset: base, max_timestamp_ms };
        }
        let first = base.max(from);
        if first < in_memory {
            return Step::Read(first);
        }
        let cached = stream.cached.iter().map(|batch| batch.header());
        let mut fitting = cached
            .filter(|header| header.last_offset >= first && header.base_offset < end)
            .filter(|header| header.max_timestamp_ms >= timestamp_ms);
        if let Some(header) = fitting.next() {
            let (base_offset, max_timestamp_ms) = (header.base_offset, header.max_timestamp_ms);
            return Step::Found { base_offset, max_timestamp_ms };
        }
    }
    Step::None
}
