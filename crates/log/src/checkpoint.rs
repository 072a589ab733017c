//! A checkpoint: what is still live in closed WAL files moves into segments, then a manifest makes it
//! official, then the WAL files are free. Until the manifest has its name nothing on disk has changed
//! that recovery looks at; a crash at any point leaves the old state or the new one.

use crate::batch::BatchHeader;
use crate::format::{BodyCheck, CheckpointHeader, RunHeader, RunRecord, WalPosition};
use crate::log::GroupCheckpoint;
use crate::manifest::{self, Manifest, StreamRecord};
use crate::read::{fetch_index, fetch_intervals, fetch_wal, FetchError};
use crate::segment::{segment_path, SegmentRecord, Segments};
use crate::segment_writer::{Expected, SegmentWriter};
use crate::stream::WalRun;
use crate::stream_plan::{ChangedStreams, CopySource, Part, StreamPlan};
use crate::wal::is_full;
use bytes::Bytes;
use koine_base::disk::{Disk, FileId};
use koine_base::StreamId;
use std::collections::{BTreeSet, HashMap};
use std::io;

/// Batches read before they are written on; bounds the memory of a checkpoint.
const COPY_BYTES: usize = 4 << 20;

pub(crate) struct CheckpointPlan {
    pub directory: String,
    pub number: u64,
    pub replay_from: u32,
    pub durable: WalPosition,
    pub groups: Vec<GroupCheckpoint>,
    pub segments_kept: Vec<SegmentRecord>,
    pub streams: ChangedStreams,
    /// Segments to be given up: what is live in them is copied.
    pub victims: BTreeSet<u64>,
    /// Files below `replay_from`.
    pub wal_files: Vec<(u32, FileId)>,
    /// Segment numbers from here on are free to use.
    pub next_segment: u64,
    pub own_segment_bytes_min: u64,
    pub pack_segment_bytes_max: u64,
    pub index_interval_bytes: u32,
}

#[derive(Debug)]
pub(crate) struct CheckpointDone {
    pub next_segment: u64,
    pub outcome: Result<Copied, CheckpointError>,
}

#[derive(Debug, Default)]
pub(crate) struct Copied {
    pub segments: Vec<SegmentRecord>,
    /// All runs of each stream of which something was copied.
    pub streams: Vec<(StreamId, Vec<RunRecord>)>,
    pub bytes: u64,
    pub bytes_rewritten: u64,
}

#[derive(Debug)]
pub(crate) enum CheckpointError {
    /// Nothing has changed; it may be tried again when there is room.
    Full,
    /// The checkpoint before cannot be read; nothing has changed.
    BaseUnreadable,
    /// A batch in an old segment is damaged; nothing has changed.
    SegmentCorrupt(u64),
    /// A batch in the WAL is damaged.
    WalCorrupt {
        stream: StreamId,
        offset: u64,
    },
    Io {
        action: &'static str,
        error: io::Error,
    },
}

/// Segments that the new manifest still refers to.
pub(crate) fn segments_kept(segments: &Segments, victims: &BTreeSet<u64>) -> Vec<SegmentRecord> {
    let kept =
        segments.iter().filter(|(number, segment)| segment.live > 0 && !victims.contains(number));
    kept.filter_map(|(number, _)| segments.record(number)).collect()
}

impl CheckpointPlan {
    pub(crate) fn execute(mut self, disk: &dyn Disk) -> CheckpointDone {
        let changed = std::mem::take(&mut self.streams);
        let mut copier = Copier {
            disk,
            plan: &self,
            next_segment: self.next_segment,
            pack: None,
            own: None,
            sources: HashMap::new(),
            runs: HashMap::new(),
            copied: Copied::default(),
        };
        let outcome = copier.gather(changed).and_then(|streams| {
            copier.copy_streams(&streams)?;
            copier.commit(streams)
        });
        let next_segment = copier.next_segment;
        let unchanged = matches!(
            outcome,
            Err(CheckpointError::Full
                | CheckpointError::BaseUnreadable
                | CheckpointError::SegmentCorrupt(_))
        );
        copier.close(unchanged);
        let copied = std::mem::take(&mut copier.copied);
        CheckpointDone { next_segment, outcome: outcome.map(|()| copied) }
    }
}

struct Copier<'a> {
    disk: &'a dyn Disk,
    plan: &'a CheckpointPlan,
    next_segment: u64,
    pack: Option<SegmentWriter<'a>>,
    own: Option<SegmentWriter<'a>>,
    /// Old segments open for copying.
    sources: HashMap<u64, FileId>,
    runs: HashMap<(StreamId, u64), RunRecord>,
    copied: Copied,
}

fn io_error(action: &'static str) -> impl Fn(io::Error) -> CheckpointError {
    move |error| {
        if is_full(&error) {
            CheckpointError::Full
        } else {
            CheckpointError::Io { action, error }
        }
    }
}

impl<'a> Copier<'a> {
    /// All streams with their parts: those that changed, and the others as the checkpoint before has
    /// them.
    fn gather(&self, changed: ChangedStreams) -> Result<Vec<StreamPlan>, CheckpointError> {
        let base = match changed.base {
            None => Vec::new(),
            Some(number) => {
                let read = manifest::read(self.disk, &self.plan.directory, number);
                let Ok(Some(read)) = read else {
                    return Err(CheckpointError::BaseUnreadable);
                };
                read.manifest.streams
            }
        };
        let plans = changed.merge(base, &self.plan.victims);
        let kept = &self.plan.segments_kept;
        let is_kept =
            |segment| kept.binary_search_by_key(&segment, |record| record.segment).is_ok();
        let known = plans.iter().flat_map(|plan| &plan.parts).all(|part| match part {
            Part::Keep(run) => is_kept(run.segment),
            Part::Copy(_) => true,
        });
        if known {
            Ok(plans)
        } else {
            Err(CheckpointError::BaseUnreadable)
        }
    }

    fn copy_streams(&mut self, streams: &[StreamPlan]) -> Result<(), CheckpointError> {
        let copies = || {
            streams.iter().flat_map(|plan| {
                plan.parts.iter().filter_map(|part| match part {
                    Part::Keep(_) => None,
                    Part::Copy(sources) => Some((plan.stream, sources)),
                })
            })
        };
        let bytes_of = |sources: &[CopySource]| sources.iter().map(CopySource::bytes).sum::<u64>();
        let mut expected = Expected::default();
        for (_, sources) in copies() {
            let bytes = bytes_of(sources);
            if bytes < self.plan.own_segment_bytes_min {
                expected.runs += 1;
                expected.batch_bytes += bytes;
            }
        }
        for (stream, sources) in copies() {
            let bytes = bytes_of(sources);
            if bytes >= self.plan.own_segment_bytes_min {
                self.own = Some(self.create(false, Expected { runs: 1, batch_bytes: bytes })?);
                self.copy_run(stream, sources, bytes, false)?;
                let own = self.own.take();
                self.finish(own)?;
            } else {
                if self.pack.is_none() {
                    let fits = expected.batch_bytes <= self.plan.pack_segment_bytes_max;
                    self.pack =
                        Some(self.create(true, if fits { expected } else { Expected::default() })?);
                }
                self.copy_run(stream, sources, bytes, true)?;
                expected.runs -= 1;
                expected.batch_bytes -= bytes;
                let full = self
                    .pack
                    .as_ref()
                    .is_some_and(|pack| pack.bytes() >= self.plan.pack_segment_bytes_max);
                if full {
                    let pack = self.pack.take();
                    self.finish(pack)?;
                }
            }
        }
        let pack = self.pack.take();
        self.finish(pack)
    }

    fn create(
        &mut self,
        pack: bool,
        expected: Expected,
    ) -> Result<SegmentWriter<'a>, CheckpointError> {
        let segment = self.next_segment;
        self.next_segment += 1;
        let (disk, plan) = (self.disk, self.plan);
        SegmentWriter::create(
            disk,
            &plan.directory,
            segment,
            pack,
            expected,
            plan.index_interval_bytes,
        )
        .map_err(io_error("create a segment"))
    }

    fn finish(&mut self, writer: Option<SegmentWriter<'a>>) -> Result<(), CheckpointError> {
        let Some(writer) = writer else { return Ok(()) };
        let (segment, runs) = writer.finish().map_err(io_error("write a segment"))?;
        self.copied.segments.push(segment);
        self.runs.extend(runs.into_iter().map(|(stream, run)| ((stream, run.base), run)));
        Ok(())
    }

    fn copy_run(
        &mut self,
        stream: StreamId,
        sources: &[CopySource],
        bytes: u64,
        pack: bool,
    ) -> Result<(), CheckpointError> {
        let (Some(first), Some(last)) = (sources.first(), sources.last()) else {
            return Ok(());
        };
        let header = RunHeader { stream, base: first.base(), end: last.end(), bytes };
        self.writer(pack).begin_run(header);
        self.copied.bytes += bytes;
        let mut wal_runs: Vec<WalRun> = Vec::new();
        let mut wal_bytes = 0;
        for source in sources {
            match source {
                CopySource::Segment(run) => {
                    self.copied.bytes_rewritten += run.bytes;
                    self.copy_segment_run(run, pack)?;
                }
                CopySource::Wal(run) => {
                    let other_file = wal_runs
                        .last()
                        .is_some_and(|last| last.position.sequence() != run.position.sequence());
                    if other_file || wal_bytes >= COPY_BYTES {
                        self.copy_wal_runs(stream, &wal_runs, pack)?;
                        wal_runs.clear();
                        wal_bytes = 0;
                    }
                    wal_bytes += run.bytes as usize;
                    wal_runs.push(*run);
                }
            }
        }
        self.copy_wal_runs(stream, &wal_runs, pack)
    }

    fn writer(&mut self, pack: bool) -> &mut SegmentWriter<'a> {
        let writer = if pack { &mut self.pack } else { &mut self.own };
        writer.as_mut().expect("created before a run is copied into it")
    }

    fn copy_wal_runs(
        &mut self,
        stream: StreamId,
        runs: &[WalRun],
        pack: bool,
    ) -> Result<(), CheckpointError> {
        let Some(first) = runs.first() else {
            return Ok(());
        };
        let sequence = first.position.sequence();
        let file = self.plan.wal_files.iter().find(|(known, _)| *known == sequence);
        let (_, file) = file.expect("the plan names each file that it copies from");
        let mut batches = Vec::new();
        fetch_wal(self.disk, *file, runs, &mut batches).map_err(|error| match error {
            FetchError::Corrupt(offset) => CheckpointError::WalCorrupt { stream, offset },
            FetchError::Io(error) => CheckpointError::Io { action: "read the WAL", error },
        })?;
        self.add_all(batches, pack)
    }

    fn add_all(
        &mut self,
        batches: Vec<(BatchHeader, Bytes)>,
        pack: bool,
    ) -> Result<(), CheckpointError> {
        let writer = self.writer(pack);
        for (header, batch) in batches {
            writer.add(&header, batch).map_err(io_error("write a segment"))?;
        }
        Ok(())
    }

    fn copy_segment_run(&mut self, run: &RunRecord, pack: bool) -> Result<(), CheckpointError> {
        let failed = |error| match error {
            FetchError::Corrupt(_) => CheckpointError::SegmentCorrupt(run.segment),
            FetchError::Io(error) => CheckpointError::Io { action: "read a segment", error },
        };
        let file = match self.sources.get(&run.segment) {
            Some(file) => *file,
            None => {
                let opened = self.disk.open(&segment_path(&self.plan.directory, run.segment));
                let file = opened.map_err(|error| failed(FetchError::Io(error)))?;
                self.sources.insert(run.segment, file);
                file
            }
        };
        let index = fetch_index(self.disk, file, run).map_err(failed)?;
        let mut first = 0;
        while first < index.len() {
            let mut bytes = 0;
            let mut next = first;
            while next < index.len() && (next == first || bytes < COPY_BYTES) {
                bytes += index[next].bytes as usize;
                next += 1;
            }
            let mut batches = Vec::new();
            fetch_intervals(self.disk, file, run, &index, first..next, &mut batches)
                .map_err(failed)?;
            self.add_all(batches, pack)?;
            first = next;
        }
        Ok(())
    }

    /// Makes the new segments' names durable, then writes the manifest.
    fn commit(&mut self, streams: Vec<StreamPlan>) -> Result<(), CheckpointError> {
        let plan = self.plan;
        if !self.copied.segments.is_empty() {
            let synced = self.disk.sync_dir(&format!("{}/segments", plan.directory));
            synced.map_err(io_error("sync the segments' directory"))?;
        }
        let mut segments = plan.segments_kept.clone();
        segments.extend(&self.copied.segments);
        segments.sort_unstable_by_key(|segment| segment.segment);
        let mut records = Vec::with_capacity(streams.len());
        for stream in streams {
            let copies = stream.parts.iter().any(|part| matches!(part, Part::Copy(_)));
            let runs: Vec<RunRecord> =
                stream.parts.iter().map(|part| self.run_of(stream.stream, part)).collect();
            if copies {
                self.copied.streams.push((stream.stream, runs.clone()));
            }
            records.push(StreamRecord {
                stream: stream.stream,
                start: stream.start,
                end: stream.end,
                runs,
            });
        }
        let header = CheckpointHeader {
            number: plan.number,
            replay_from: plan.replay_from,
            durable: plan.durable,
            next_segment: self.next_segment,
            body_bytes: 0,
            body: BodyCheck::default(),
        };
        let manifest = Manifest { groups: plan.groups.clone(), segments, streams: records };
        manifest::write(self.disk, &plan.directory, header, &manifest)
            .map_err(io_error("write a checkpoint"))
    }

    fn run_of(&self, stream: StreamId, part: &Part) -> RunRecord {
        match part {
            Part::Keep(run) => *run,
            Part::Copy(sources) => {
                let base = sources.first().expect("a copy has a source").base();
                *self.runs.get(&(stream, base)).expect("each copy was written")
            }
        }
    }

    /// `unchanged`: it failed before anything could refer to the new segments.
    fn close(&mut self, unchanged: bool) {
        for (_, file) in self.sources.drain() {
            self.disk.close(file);
        }
        for writer in [self.pack.take(), self.own.take()].into_iter().flatten() {
            writer.abandon();
        }
        if unchanged {
            // What cannot be removed now is removed when the log is opened again.
            for segment in self.plan.next_segment..self.next_segment {
                let _ = self.disk.remove(&segment_path(&self.plan.directory, segment));
            }
        }
    }
}
