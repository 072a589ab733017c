//! One shard's log: the state machine that the other files are parts of.

use crate::batch::BatchHeader;
use crate::cache::Cache;
use crate::checkpointing::Checkpointing;
use crate::config::Config;
use crate::error::{LogError, ReadError};
use crate::format::WalPosition;
use crate::index_cache::IndexCache;
use crate::io_plan::{IoRequest, IoResult, Outcome, Plan};
use crate::reading::PendingRead;
use crate::repair::Repair;
use crate::scrub::Scrub;
use crate::segment::{Removal, Segments};
use crate::stats::Stats;
use crate::stream::{Stream, Streams, Trimmed, WalRun};
use crate::wal::{Appended, Frame, FrameLocation, Persisted, Wal};
use bytes::Bytes;
use koine_base::{GroupId, Moment, StreamId};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// A group's state at one moment, for recovery: everything that its frames up to `applied_index`
/// established, and also what frames without an index did (raft's vote and term).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupCheckpoint {
    pub group: GroupId,
    pub applied_index: u64,
    pub applied_term: u64,
    /// The caller's own encoding.
    pub blob: Bytes,
    /// More of it, to be written behind `blob`: parts that the caller shares. What is read back is all in
    /// `blob`.
    pub pages: Vec<Arc<[Bytes]>>,
}

impl GroupCheckpoint {
    pub(crate) fn parts(&self) -> impl Iterator<Item = &Bytes> {
        std::iter::once(&self.blob).chain(self.pages.iter().flat_map(|page| page.iter()))
    }
}

/// A batch that was committed, and where it lies in the WAL.
#[derive(Clone, Debug)]
pub struct Placement {
    pub stream: StreamId,
    /// The batch's own base offset, already patched in.
    pub base_offset: u64,
    pub last_offset: u64,
    pub max_timestamp_ms: i64,
    /// One whole RecordBatch v2: the slice of the frame's payload at `position`.
    pub bytes: Bytes,
    /// The frame that carries it.
    pub frame: FrameLocation,
    /// Of `bytes` in the frame's payload.
    pub position: u32,
}

/// What became of a [`Placement`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// It is now the newest batch of its stream.
    Added,
    /// The stream already had it, or had already trimmed it: normal during replay.
    Covered,
    /// There is no such stream (any more).
    UnknownStream,
}

/// Offsets of a stream: `start` is the first not trimmed, `end` the one the next batch gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub start: u64,
    pub end: u64,
}

/// Names a read or a search that waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReadToken(pub u64);

#[derive(Debug)]
pub enum ReadOutcome {
    /// Whole batches; the first holds the offset asked for, or is the next one behind a gap. Empty if
    /// the offset is the stream's end, or nothing ends below `offset_end`.
    Ready(Vec<Bytes>),
    /// Execute the request, give the result to [`Log::complete`]; the token comes back there.
    Pending(ReadToken, IoRequest),
    OutOfRange {
        start: u64,
        end: u64,
    },
    UnknownStream,
}

#[derive(Debug)]
pub enum TimestampOutcome {
    /// The first batch with a max timestamp at or above the one asked for.
    Found {
        base_offset: u64,
        max_timestamp_ms: i64,
    },
    /// All batches are older.
    None,
    Pending(ReadToken, IoRequest),
    UnknownStream,
}

/// What a result was about. Frames that it made persisted come from [`Log::take_persisted`].
#[derive(Debug)]
pub enum Completion {
    /// Nothing for the caller.
    Internal,
    /// A read; the same batches as [`ReadOutcome::Ready`] would have given.
    Read { token: ReadToken, batches: Result<Vec<Bytes>, ReadError> },
    /// A search. It may need another read: `Pending` then has a new token.
    Timestamp { token: ReadToken, outcome: Result<TimestampOutcome, ReadError> },
    /// The device is full; [`Log::pressure`] says so until there is room. Nothing is lost.
    NoSpace,
    /// The scrub found what a read of this offset would find: damage.
    Damaged { stream: StreamId, offset: u64 },
    /// A checkpoint is durable; up to this WAL position frames will not be replayed.
    Checkpointed { replay_from: WalPosition },
}

/// Whether the caller should go on accepting appends from clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pressure {
    None,
    /// WAL files pile up faster than checkpoints free them: slow down.
    CheckpointBehind,
    /// There is no room for the next WAL file: refuse.
    NoSpace,
}

/// See the crate's documentation for how to drive it.
pub struct Log {
    pub(crate) config: Config,
    pub(crate) wal: Wal,
    pub(crate) streams: Streams,
    pub(crate) segments: Segments,
    cache: Cache,
    pub(crate) indexes: IndexCache,
    pub(crate) reads: HashMap<u64, PendingRead>,
    pub(crate) last_token: u64,
    pub(crate) background: VecDeque<IoRequest>,
    pub(crate) checkpoints: Checkpointing,
    pub(crate) replaying: bool,
    pub(crate) stats: Stats,
    pub(crate) scrub: Scrub,
    repairs: Vec<Repair>,
}

impl Log {
    /// A log as [`Log::open`] found it, about to be replayed.
    pub(crate) fn assemble(
        config: Config,
        wal: Wal,
        streams: Streams,
        segments: Segments,
        checkpoints: Checkpointing,
        repairs: Vec<Repair>,
    ) -> Log {
        Log {
            cache: Cache::new(config.tail_cache_bytes),
            indexes: IndexCache::new(config.index_cache_bytes),
            config,
            wal,
            streams,
            segments,
            reads: HashMap::new(),
            last_token: 0,
            background: VecDeque::new(),
            checkpoints,
            replaying: true,
            stats: Stats { bits_repaired: repairs.len() as u64, ..Stats::default() },
            scrub: Scrub::default(),
            repairs,
        }
    }

    /// Bits that were found inverted on disk when the log was opened, and put right: a medium that
    /// decays. To be told to whoever runs the node.
    pub fn repairs(&self) -> &[Repair] {
        &self.repairs
    }

    // ---- writing ----

    /// Queues a frame; its place in the WAL is settled at once. Panics if the payload is over
    /// [`crate::FRAME_PAYLOAD_BYTES_MAX`] or the replay is not finished.
    pub fn append(&mut self, now: Moment, frame: Frame) -> Appended {
        assert!(!self.replaying, "append before the replay was finished");
        self.wal.append(now, frame, &mut self.stats)
    }

    /// Asks for everything appended so far to become durable soon, whatever its frames asked for.
    pub fn flush(&mut self) {
        self.wal.flush();
    }

    /// Groups of which more is persisted than was reported before. To be asked after `append` (frames
    /// without `sync` are reported at once) and after `complete`.
    pub fn take_persisted(&mut self) -> Vec<Persisted> {
        self.wal.take_persisted()
    }

    /// The next job for the disk threads, until `None`. At most one of class `Wal` is ever in flight.
    pub fn poll_io(&mut self, now: Moment) -> Option<IoRequest> {
        if let Some(write) = self.wal.poll_write(now, &mut self.stats) {
            return Some(IoRequest(Plan::WalWrite(write)));
        }
        if let Some(request) = self.background.pop_front() {
            return Some(request);
        }
        if let Some(create) = self.wal.poll_create(now) {
            return Some(IoRequest(Plan::WalCreate(create)));
        }
        self.poll_checkpoint().or_else(|| self.poll_scrub(now))
    }

    /// When to call [`Self::poll_io`] again even if nothing else happens.
    pub fn deadline(&self) -> Option<Moment> {
        [self.wal.deadline(), self.scrub_deadline()].into_iter().flatten().min()
    }

    /// Takes back what [`crate::execute`] returned. An error means that the process must end at once:
    /// frames not reported as persisted may or may not be there after a restart.
    pub fn complete(&mut self, now: Moment, result: IoResult) -> Result<Completion, LogError> {
        match result.0 {
            Outcome::WalWritten(written) => {
                self.wal.written_back(written)?;
                self.evict();
                Ok(Completion::Internal)
            }
            Outcome::WalCreated(created) => {
                let full = self.wal.created(now, created, &mut self.stats)?;
                Ok(if full { Completion::NoSpace } else { Completion::Internal })
            }
            Outcome::Read(done) => Ok(self.read_done(done)),
            Outcome::Checkpoint(done) => self.checkpoint_done(now, done),
            Outcome::Done => Ok(Completion::Internal),
        }
    }

    pub fn pressure(&self) -> Pressure {
        if self.wal.no_space {
            Pressure::NoSpace
        } else if self.wal.files.closed_count() >= self.config.wal_files_closed_max {
            Pressure::CheckpointBehind
        } else {
            Pressure::None
        }
    }

    /// True if nothing appended is still on its way to the disk.
    pub fn is_idle(&self) -> bool {
        self.wal.is_idle() && self.checkpoints.is_idle()
    }

    pub fn stats(&self) -> Stats {
        Stats {
            streams: self.streams.len() as u64,
            wal_files: self.wal.files.files.len() as u64,
            segments: self.segments.count(),
            segment_bytes: self.segments.total_bytes(),
            segment_bytes_dead: self.segments.dead_bytes(),
            cache_bytes: self.cache.charged(),
            queued_bytes: self.wal.queued_bytes(),
            ..self.stats
        }
    }

    // ---- streams ----

    /// The group has left this shard: its streams go, and its frames no longer hold WAL files back.
    pub fn drop_group(&mut self, group: GroupId) {
        let streams: Vec<StreamId> =
            self.streams.keys().copied().filter(|id| id.group() == group).collect();
        for stream in streams {
            self.delete_stream(stream);
        }
        self.wal.files.forget_group(group);
    }

    /// False if the stream exists already. It begins at offset 0.
    pub fn create_stream(&mut self, stream: StreamId) -> bool {
        let created = !self.streams.contains_key(&stream);
        if created {
            self.streams.insert(stream, Stream { changed: true, ..Stream::default() });
            self.checkpoints.changes.changed.push(stream);
        }
        created
    }

    /// Forgets the stream and all that it stored; false if there is none.
    pub fn delete_stream(&mut self, stream: StreamId) -> bool {
        let Some(removed) = self.streams.remove(&stream) else {
            return false;
        };
        self.checkpoints.changes.deleted.push(stream);
        self.let_go(Trimmed {
            runs: removed.segments.into(),
            units: removed.cached.iter().map(|batch| batch.unit).collect(),
        });
        true
    }

    fn let_go(&mut self, trimmed: Trimmed) {
        for run in &trimmed.runs {
            self.segments.release(run);
        }
        for unit in trimmed.units {
            self.cache.release(unit);
        }
    }

    /// Makes a committed batch readable. Batches of a stream come in the order of their offsets, without
    /// gaps (to begin elsewhere, [`Self::trim`] first), and in the order of the WAL. Panics if a batch
    /// does not follow what the stream has, or its header says something else than the placement.
    pub fn place(&mut self, placement: Placement) -> Placed {
        let Placement { stream: id, base_offset, last_offset, frame, .. } = placement;
        let Some(stream) = self.streams.get_mut(&id) else {
            return Placed::UnknownStream;
        };
        if last_offset < stream.end {
            return Placed::Covered;
        }
        // After a restart the start may lie within the first batch.
        let follows = base_offset == stream.end || (stream.is_bare() && base_offset < stream.start);
        assert!(follows, "a batch at {base_offset} where {id} ends at {}", stream.end);
        let header =
            BatchHeader::parse(&placement.bytes).expect("a placed batch is a RecordBatch v2");
        let fits =
            (
                header.base_offset,
                header.last_offset,
                header.max_timestamp_ms,
                header.bytes as usize,
            ) == (base_offset, last_offset, placement.max_timestamp_ms, placement.bytes.len());
        assert!(fits, "the batch at {base_offset} of {id} differs from its placement");
        let end = u64::from(placement.position) + u64::from(header.bytes);
        assert!(end <= u64::from(frame.payload_bytes), "the batch reaches out of its frame");
        let position = frame.payload.plus(placement.position);
        let run = WalRun::of_batch(&header, &placement.bytes, position);
        if !std::mem::replace(&mut stream.changed, true) {
            self.checkpoints.changes.changed.push(id);
        }
        // What is replayed lies on disk. Filling memory with it would take longer than all the rest.
        let unit = (!self.replaying).then(|| self.cache.place(id, frame));
        if stream.push(run, unit, placement.bytes) {
            if let Some(file) = self.wal.files.by_sequence(position.sequence()) {
                file.index_entries += 1;
            }
        }
        self.stats.batches_placed += 1;
        self.evict();
        Placed::Added
    }

    fn evict(&mut self) {
        self.cache.evict(&mut self.streams, self.wal.written());
    }

    pub fn bounds(&self, stream: StreamId) -> Option<Bounds> {
        let stream = self.streams.get(&stream)?;
        Some(Bounds { start: stream.start, end: stream.end })
    }

    /// Bytes of the stream's batches from its start on; what is trimmed in part counts by share.
    pub fn size_bytes(&self, stream: StreamId) -> Option<u64> {
        self.streams.get(&stream).map(Stream::bytes)
    }

    /// Drops everything below `start`; a start beyond the end moves the end, too. Never moves back.
    /// False if there is no such stream.
    pub fn trim(&mut self, stream: StreamId, start: u64) -> bool {
        let Some(found) = self.streams.get_mut(&stream) else {
            return false;
        };
        if start > found.start && !std::mem::replace(&mut found.changed, true) {
            self.checkpoints.changes.changed.push(stream);
        }
        let trimmed = found.trim(start);
        self.let_go(trimmed);
        true
    }

    /// The start that these limits would leave, if it is another than now. Changes nothing: the caller
    /// trims when the group has agreed. `None` is no limit.
    pub fn expire(
        &self,
        stream: StreamId,
        now_ms: i64,
        retention_ms: Option<i64>,
        retention_bytes: Option<u64>,
    ) -> Option<u64> {
        let oldest_ms = retention_ms.map(|retention_ms| now_ms.saturating_sub(retention_ms));
        self.streams.get(&stream)?.expire(oldest_ms, retention_bytes)
    }

    pub(crate) fn remove(&mut self, removals: Vec<Removal>) {
        if !removals.is_empty() {
            self.background.push_back(IoRequest(Plan::Remove(removals)));
        }
    }
}
