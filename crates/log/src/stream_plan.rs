//! What a checkpoint does with each stream. The shard's own thread only looks at streams that changed
//! since the checkpoint before; a disk thread adds the others from that checkpoint's file, so that a
//! hundred thousand idle streams cost the shard nothing.

use crate::format::RunRecord;
use crate::manifest::StreamRecord;
use crate::stream::{Streams, WalRun};
use koine_base::StreamId;
use std::collections::BTreeSet;

pub(crate) enum CopySource {
    Wal(WalRun),
    Segment(RunRecord),
}

impl CopySource {
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            CopySource::Wal(run) => u64::from(run.bytes),
            CopySource::Segment(run) => run.bytes,
        }
    }

    pub(crate) fn base(&self) -> u64 {
        match self {
            CopySource::Wal(run) => run.base,
            CopySource::Segment(run) => run.base,
        }
    }

    pub(crate) fn end(&self) -> u64 {
        match self {
            CopySource::Wal(run) => run.end(),
            CopySource::Segment(run) => run.end,
        }
    }
}

/// One run of the stream in the new manifest.
pub(crate) enum Part {
    Keep(RunRecord),
    /// Becomes one new run.
    Copy(Vec<CopySource>),
}

pub(crate) struct StreamPlan {
    pub stream: StreamId,
    pub start: u64,
    pub end: u64,
    pub parts: Vec<Part>,
}

/// A stream as it was when the checkpoint was asked for.
pub(crate) struct ChangedStream {
    record: StreamRecord,
    /// Its runs in WAL files that are to be given back.
    wal: Vec<WalRun>,
}

#[derive(Default)]
pub(crate) struct ChangedStreams {
    /// Number of the checkpoint that has the others; none if these are all.
    pub base: Option<u64>,
    pub changed: Vec<ChangedStream>,
    pub deleted: Vec<StreamId>,
}

/// Streams of which the newest checkpoint does not know the latest.
#[derive(Default)]
pub(crate) struct Changes {
    /// Each at most once: [`crate::stream::Stream::changed`] says whether it is in here.
    pub changed: Vec<StreamId>,
    pub deleted: Vec<StreamId>,
}

impl Changes {
    /// Takes down where the streams' batches are, for a checkpoint that gives back WAL files below
    /// `replay_from`. Without a `base` all streams are taken.
    pub(crate) fn take(
        &mut self,
        streams: &mut Streams,
        replay_from: u32,
        base: Option<u64>,
    ) -> ChangedStreams {
        let mut deleted = std::mem::take(&mut self.deleted);
        deleted.sort_unstable();
        let mut ids = std::mem::take(&mut self.changed);
        if base.is_none() {
            ids = streams.keys().copied().collect();
        }
        // The order on disk does not hang on the hash, or on who changed first.
        ids.sort_unstable();
        let mut changed = Vec::with_capacity(ids.len());
        for id in ids {
            // It may have been deleted since.
            let Some(stream) = streams.get_mut(&id) else { continue };
            let moved = stream.wal.partition_point(|run| run.position.sequence() < replay_from);
            let wal = stream.wal.range(..moved).copied().collect();
            let runs = stream.segments.iter().copied().collect();
            let record = StreamRecord { stream: id, start: stream.start, end: stream.end, runs };
            changed.push(ChangedStream { record, wal });
            // What stays in the WAL has to move with a later checkpoint.
            stream.changed = moved < stream.wal.len();
            if stream.changed {
                self.changed.push(id);
            }
            stream.shrink();
        }
        ChangedStreams { base, changed, deleted }
    }
}

impl ChangedStreams {
    /// All streams, ascending: those that changed, and of `base` those that did not and still exist.
    pub(crate) fn merge(self, base: Vec<StreamRecord>, victims: &BTreeSet<u64>) -> Vec<StreamPlan> {
        let ChangedStreams { changed, deleted, .. } = self;
        let known = |stream: StreamId| {
            deleted.binary_search(&stream).is_ok()
                || changed.binary_search_by_key(&stream, |changed| changed.record.stream).is_ok()
        };
        let idle = base.into_iter().filter(|record| !known(record.stream));
        let idle = idle.map(|record| StreamPlan::new(record, &[], victims));
        let mut plans: Vec<StreamPlan> = idle.collect();
        plans.extend(changed.into_iter().map(|changed| {
            let ChangedStream { record, wal } = changed;
            StreamPlan::new(record, &wal, victims)
        }));
        plans.sort_unstable_by_key(|plan| plan.stream);
        plans
    }
}

impl StreamPlan {
    /// Runs in `victims` and in the WAL are copied, neighbours into one run.
    fn new(record: StreamRecord, wal: &[WalRun], victims: &BTreeSet<u64>) -> Self {
        let mut parts: Vec<Part> = Vec::with_capacity(record.runs.len());
        let copy = |source: CopySource, parts: &mut Vec<Part>| match parts.last_mut() {
            Some(Part::Copy(sources)) => sources.push(source),
            _ => parts.push(Part::Copy(vec![source])),
        };
        for run in record.runs {
            if victims.contains(&run.segment) {
                copy(CopySource::Segment(run), &mut parts);
            } else {
                parts.push(Part::Keep(run));
            }
        }
        for run in wal {
            copy(CopySource::Wal(*run), &mut parts);
        }
        StreamPlan { stream: record.stream, start: record.start, end: record.end, parts }
    }
}
