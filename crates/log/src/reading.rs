//! Reads: from memory at once, else a plan for a disk thread; and what its result means. Files that are
//! being read are kept until the result is back.

use crate::batch::BatchHeader;
use crate::error::ReadError;
use crate::format::RunRecord;
use crate::io_plan::{IoRequest, Plan};
use crate::log::{Completion, Log, ReadOutcome, ReadToken};
use crate::read::{Goal, ReadDone, ReadFound, ReadPlan, Source, READ_BYTES_MAX};
use crate::segment::segment_path;
use crate::stream::{Stream, WalRun};
use bytes::Bytes;
use koine_base::StreamId;

/// Runs that one read of the WAL gathers.
const READ_RUNS_MAX: usize = 1024;

pub(crate) struct PendingRead {
    stream: StreamId,
    from: ReadFrom,
    /// Last offset + 1 of the first run read.
    behind: u64,
    goal: Goal,
    /// Nobody waits for it: it only looks.
    is_scrub: bool,
}

enum ReadFrom {
    Wal(u32),
    Segment(RunRecord),
}

impl Log {
    /// Batches from the one that holds `offset`, as long as their last offset is below `offset_end` and
    /// together they have at most `bytes_max` bytes; at least one, whatever its size. May bring less
    /// than there is: the caller goes on at the last offset + 1.
    pub fn read(
        &mut self,
        stream: StreamId,
        offset: u64,
        bytes_max: usize,
        offset_end: u64,
    ) -> ReadOutcome {
        let Some(found) = self.streams.get(&stream) else {
            return ReadOutcome::UnknownStream;
        };
        if offset < found.start || offset > found.end {
            return ReadOutcome::OutOfRange { start: found.start, end: found.end };
        }
        let bytes_max = bytes_max.min(READ_BYTES_MAX);
        if offset >= found.end.min(offset_end) {
            return ReadOutcome::Ready(Vec::new());
        }
        if let Some(first) = found.find_cached(offset) {
            self.stats.cache_hits += 1;
            let mut bytes = 0;
            let mut batches: Vec<Bytes> = Vec::new();
            for batch in found.cached.range(first..) {
                let over = !batches.is_empty() && bytes + batch.bytes.len() > bytes_max;
                if over || batch.header().last_offset >= offset_end {
                    break;
                }
                bytes += batch.bytes.len();
                batches.push(batch.bytes.clone());
            }
            return ReadOutcome::Ready(batches);
        }
        let (token, request) =
            self.start_read(stream, offset, bytes_max, offset_end, Goal::Batches);
        ReadOutcome::Pending(token, request)
    }

    /// Begins a read from disk of what the stream has at `offset`, which must not be at its end.
    pub(crate) fn start_read(
        &mut self,
        id: StreamId,
        offset: u64,
        bytes_max: usize,
        offset_end: u64,
        goal: Goal,
    ) -> (ReadToken, IoRequest) {
        let stream = self.streams.get(&id).expect("looked up by the caller");
        let (source, from, behind) = match stream.segments.get(stream.find_segment(offset)) {
            Some(run) => {
                self.stats.cache_misses_segment += 1;
                let run = *run;
                let file = self.segments.begin_read(run.segment);
                let path = segment_path(&self.config.directory, run.segment);
                let index = self.indexes.find(&run);
                (Source::Segment { path, file, run, index }, ReadFrom::Segment(run), run.end)
            }
            None => {
                self.stats.cache_misses_wal += 1;
                let runs = wal_runs(stream, offset, bytes_max, offset_end, goal);
                let first = *runs.first().expect("the offset is below the end");
                let sequence = first.position.sequence();
                let file = self.wal.files.begin_read(sequence);
                (Source::Wal { file, runs }, ReadFrom::Wal(sequence), first.end())
            }
        };
        self.last_token += 1;
        let token = self.last_token;
        self.reads.insert(token, PendingRead { stream: id, from, behind, goal, is_scrub: false });
        let in_background = false;
        let plan = ReadPlan {
            token,
            stream: id,
            offset,
            offset_end,
            bytes_max,
            goal,
            source,
            in_background,
        };
        (ReadToken(token), IoRequest(Plan::Read(plan)))
    }

    pub(crate) fn note_scrub(&mut self, token: ReadToken) {
        if let Some(read) = self.reads.get_mut(&token.0) {
            read.is_scrub = true;
        }
    }

    /// What the scrub looked at: it goes on behind that, or behind a damaged run.
    fn scrub_done(&mut self, behind: u64, outcome: Result<ReadFound, ReadError>) -> Completion {
        match outcome {
            Ok(ReadFound::Batches(batches)) => {
                let last = batches.last().and_then(|last| BatchHeader::parse(last));
                self.scrubbed(last.map_or(behind, |last| last.last_offset + 1));
                Completion::Internal
            }
            Ok(ReadFound::Timestamp(_)) | Err(ReadError::Io { .. }) => {
                self.scrubbed(behind);
                Completion::Internal
            }
            Err(ReadError::Corrupt { stream, offset }) => {
                self.scrubbed(behind);
                Completion::Damaged { stream, offset }
            }
        }
    }

    pub(crate) fn read_done(&mut self, done: ReadDone) -> Completion {
        let read = self.reads.remove(&done.token).expect("each read is completed once");
        match read.from {
            ReadFrom::Wal(sequence) => {
                let removal = self.wal.files.end_read(sequence);
                self.remove(removal.into_iter().collect());
            }
            ReadFrom::Segment(run) => {
                if let Some(index) = done.index {
                    self.indexes.insert(&run, index);
                }
                let (close, removal) = self.segments.end_read(run.segment, done.opened);
                if let Some(file) = close {
                    self.background.push_back(IoRequest(Plan::Close(file)));
                }
                self.remove(removal.into_iter().collect());
            }
        }
        self.stats.reads_corrupt +=
            u64::from(matches!(done.outcome, Err(ReadError::Corrupt { .. })));
        if read.is_scrub {
            return self.scrub_done(read.behind, done.outcome);
        }
        let token = ReadToken(done.token);
        match (read.goal, done.outcome) {
            (Goal::Batches, Ok(ReadFound::Batches(batches))) => {
                Completion::Read { token, batches: Ok(batches) }
            }
            (Goal::Batches, Err(error)) => Completion::Read { token, batches: Err(error) },
            (Goal::Timestamp(_), Err(error)) => {
                Completion::Timestamp { token, outcome: Err(error) }
            }
            (Goal::Timestamp(wanted_ms), Ok(ReadFound::Timestamp(found))) => {
                let outcome = self.resume_timestamp(read.stream, wanted_ms, found, read.behind);
                Completion::Timestamp { token, outcome: Ok(outcome) }
            }
            (goal, Ok(found)) => unreachable!("a read for {goal:?} found {found:?}"),
        }
    }
}

/// Runs of one WAL file for one read, up to what is in memory: that may not be written yet.
fn wal_runs(
    stream: &Stream,
    offset: u64,
    bytes_max: usize,
    offset_end: u64,
    goal: Goal,
) -> Vec<WalRun> {
    let offset_end = stream.cached.front().map_or(offset_end, |batch| offset_end.min(batch.base));
    let mut runs: Vec<WalRun> = Vec::new();
    let mut bytes = 0;
    for run in stream.wal.range(stream.find_wal(offset)..) {
        let Some(first) = runs.first() else {
            runs.push(*run);
            bytes += run.bytes as usize;
            continue;
        };
        let other_file = run.position.sequence() != first.position.sequence();
        let enough = bytes + run.bytes as usize > bytes_max || runs.len() == READ_RUNS_MAX;
        if other_file || enough || run.base >= offset_end || goal != Goal::Batches {
            break;
        }
        bytes += run.bytes as usize;
        runs.push(*run);
    }
    runs
}
