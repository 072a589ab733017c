//! The write side of the WAL: frames queue, one write is in flight at a time, and what queued up
//! meanwhile is the next one. A position is given out when a frame is queued; a frame is reported as
//! persisted when it has what it asked for, and never before an earlier frame of its group.

use crate::config::{Config, FRAME_PAYLOAD_BYTES_MAX};
use crate::error::LogError;
use crate::format::{
    BodyCheck, FrameHeader, WalHeader, WalMark, WalPosition, FRAME_HEADER_BYTES, WAL_FRAMES_AT,
};
use crate::io_plan::{WalCreate, WalCreated, WalWrite, WalWritten, WriteFrame};
use crate::segment::Removal;
use crate::stats::Stats;
use crate::wal_files::{frame_bytes, Slot, WalFiles};
use bytes::Bytes;
use koine_base::{GroupId, Moment};
use std::collections::{HashMap, VecDeque};
use std::io;

/// How far the log gets before the mark in a file's header block is renewed. With `write_bytes_max`
/// it bounds how far recovery has to look behind a damaged frame.
pub(crate) const MARK_INTERVAL_BYTES: u64 = 1 << 20;

/// One frame to append. Kinds are the caller's.
#[derive(Clone, Debug)]
pub struct Frame {
    pub group: GroupId,
    pub kind: u8,
    pub term: u64,
    /// Raft index, or 0 for a frame that has none. A frame with an index takes the place of all earlier
    /// frames of its group with this index or a higher one.
    pub index: u64,
    /// Together at most [`FRAME_PAYLOAD_BYTES_MAX`].
    pub payload: Vec<Bytes>,
    /// Persisted only when a sync has covered it. Without, it counts as persisted when queued.
    pub sync: bool,
}

/// Where a frame's payload is in the WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrameLocation {
    pub payload: WalPosition,
    pub payload_bytes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Counts the frames of this log since it was opened, from 1.
    pub number: u64,
    pub location: FrameLocation,
}

/// All frames of the group up to `number` are persisted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persisted {
    pub group: GroupId,
    pub number: u64,
    /// Term and index of the last of them that has an index; 0 if none had since the log was opened.
    pub term: u64,
    pub index: u64,
}

struct QueuedFrame {
    position: WalPosition,
    header: FrameHeader,
    payload: Vec<Bytes>,
    sync: bool,
    is_awaited: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Queued,
    Written,
    Synced,
}

struct PendingFrame {
    end: WalPosition,
    number: u64,
    group: GroupId,
    term: u64,
    index: u64,
    wanted: Wanted,
}

#[derive(Default)]
struct GroupProgress {
    /// Frames not yet reported.
    pending: u32,
    term: u64,
    index: u64,
}

struct Flight {
    end: WalPosition,
    synced: bool,
    bytes: u64,
    started: Moment,
}

pub(crate) struct Wal {
    pub files: WalFiles,
    write_bytes_max: usize,
    index_entries_max: u32,
    relaxed_write_bytes: u64,
    relaxed_write_after: std::time::Duration,
    relaxed_flush_bytes: u64,
    relaxed_flush_after: std::time::Duration,
    relaxed_backlog_bytes_max: u64,
    full_retry_after: std::time::Duration,
    free_bytes_min: u64,

    queue: VecDeque<QueuedFrame>,
    queue_bytes: u64,
    /// Frames in the queue that somebody waits for.
    queue_awaited: usize,
    /// When the oldest frame in the queue was put there, or a little earlier.
    queued_since: Option<Moment>,
    pending: VecDeque<PendingFrame>,
    groups: HashMap<GroupId, GroupProgress>,
    persisted: Vec<Persisted>,
    last_number: u64,

    /// End of the last frame queued, written, synced.
    appended: WalPosition,
    written: WalPosition,
    durable: WalPosition,
    /// Somebody waits for everything below to be durable.
    flush_to: WalPosition,
    flight: Option<Flight>,
    /// When the oldest frame that is not yet durable was queued, or a little later.
    unflushed_since: Option<Moment>,
    marked: WalPosition,
    marks: u64,
    /// When the last sync was started.
    synced_at: Option<Moment>,

    creating: bool,
    /// The device was full when a file was to be created.
    pub no_space: bool,
    retry_at: Option<Moment>,
}

impl Wal {
    /// `end` is where the log ends on disk, all of it durable. The next frame opens a new file.
    pub(crate) fn new(
        config: &Config,
        mut files: WalFiles,
        next_sequence: u32,
        end: WalPosition,
    ) -> Self {
        files.begin(next_sequence, end);
        Wal {
            files,
            write_bytes_max: config.write_bytes_max,
            index_entries_max: config.wal_index_entries_max,
            relaxed_write_bytes: config.relaxed_write_bytes,
            relaxed_write_after: config.relaxed_write_after,
            relaxed_flush_bytes: config.relaxed_flush_bytes,
            relaxed_flush_after: config.relaxed_flush_after,
            relaxed_backlog_bytes_max: config.relaxed_backlog_bytes_max,
            full_retry_after: config.full_retry_after,
            free_bytes_min: config.free_bytes_min,
            queue: VecDeque::new(),
            queue_bytes: 0,
            queue_awaited: 0,
            queued_since: None,
            pending: VecDeque::new(),
            groups: HashMap::new(),
            persisted: Vec::new(),
            last_number: 0,
            appended: end,
            written: end,
            durable: end,
            flush_to: end,
            flight: None,
            unflushed_since: None,
            marked: end,
            marks: 0,
            synced_at: None,
            creating: false,
            no_space: false,
            retry_at: None,
        }
    }

    pub(crate) fn append(&mut self, now: Moment, frame: Frame, stats: &mut Stats) -> Appended {
        let length: usize = frame.payload.iter().map(Bytes::len).sum();
        assert!(length <= FRAME_PAYLOAD_BYTES_MAX, "a frame of {length} bytes is over the limit");
        let length = length as u32;
        let total = frame_bytes(length);
        self.files.make_room(total, self.index_entries_max, self.appended);
        let file = self.files.last();
        let position = WalPosition::new(file.sequence, file.end);
        file.end += total;
        file.note_group(frame.group, frame.index);
        self.appended = position.plus(total);
        self.last_number += 1;
        stats.frames_appended += 1;
        stats.payload_bytes_appended += u64::from(length);
        let is_awaited = self.note_pending(&frame) != Wanted::Queued;
        self.queue_awaited += usize::from(is_awaited);
        self.unflushed_since.get_or_insert(now);
        self.queued_since.get_or_insert(now);
        self.queue_bytes += u64::from(total);
        let header = FrameHeader {
            length,
            kind: frame.kind,
            flags: 0,
            group: frame.group.0,
            term: frame.term,
            index: frame.index,
            durable: WalPosition::default(),
            body: BodyCheck::default(),
        };
        self.queue.push_back(QueuedFrame {
            position,
            header,
            payload: frame.payload,
            sync: frame.sync,
            is_awaited,
        });
        let payload = position.plus(FRAME_HEADER_BYTES as u32);
        Appended {
            number: self.last_number,
            location: FrameLocation { payload, payload_bytes: length },
        }
    }

    fn note_pending(&mut self, frame: &Frame) -> Wanted {
        let backlog = self.queue_bytes + self.flight.as_ref().map_or(0, |flight| flight.bytes);
        let wanted = if frame.sync {
            Wanted::Synced
        } else if self.no_space || backlog > self.relaxed_backlog_bytes_max {
            Wanted::Written
        } else {
            Wanted::Queued
        };
        let progress = self.groups.entry(frame.group).or_default();
        progress.pending += 1;
        let alone = progress.pending == 1;
        let pending = PendingFrame {
            end: self.appended,
            number: self.last_number,
            group: frame.group,
            term: frame.term,
            index: frame.index,
            wanted,
        };
        if alone && wanted == Wanted::Queued {
            self.report(&pending);
        } else {
            self.pending.push_back(pending);
        }
        wanted
    }

    fn report(&mut self, frame: &PendingFrame) {
        let progress = self.groups.entry(frame.group).or_default();
        progress.pending -= 1;
        if frame.index > 0 {
            (progress.term, progress.index) = (frame.term, frame.index);
        }
        let (term, index) = (progress.term, progress.index);
        let report = Persisted { group: frame.group, number: frame.number, term, index };
        match self.persisted.iter_mut().find(|persisted| persisted.group == frame.group) {
            Some(persisted) => *persisted = report,
            None => self.persisted.push(report),
        }
    }

    fn report_pending(&mut self) {
        while let Some(frame) = self.pending.front() {
            let satisfied = match frame.wanted {
                Wanted::Queued => true,
                Wanted::Written => frame.end <= self.written,
                Wanted::Synced => frame.end <= self.durable,
            };
            if !satisfied {
                return;
            }
            if let Some(frame) = self.pending.pop_front() {
                self.report(&frame);
            }
        }
    }

    pub(crate) fn take_persisted(&mut self) -> Vec<Persisted> {
        std::mem::take(&mut self.persisted)
    }

    pub(crate) fn appended(&self) -> WalPosition {
        self.appended
    }

    pub(crate) fn written(&self) -> WalPosition {
        self.written
    }

    pub(crate) fn durable(&self) -> WalPosition {
        self.durable
    }

    pub(crate) fn queued_bytes(&self) -> u64 {
        self.queue_bytes
    }

    /// Everything appended so far is to become durable soon.
    pub(crate) fn flush(&mut self) {
        self.flush_to = self.appended;
    }

    /// The next write, if none is in flight and there is a reason for one.
    pub(crate) fn poll_write(&mut self, now: Moment, stats: &mut Stats) -> Option<WalWrite> {
        if self.flight.is_some() {
            return None;
        }
        let ready = self.queue.front().map(|frame| frame.position.sequence());
        if let Some(sequence) = ready.filter(|_| !self.queue_may_wait(now)) {
            if self.files.bind(sequence) {
                return Some(self.write_frames(now, sequence, stats));
            }
        }
        if self.written > self.durable && (self.flush_due(now) || self.flush_to > self.durable) {
            return self.write_sync(now, stats);
        }
        if self.mark_due_at().is_some_and(|due| now >= due) {
            return self.write_mark(now);
        }
        None
    }

    /// Nobody waits for what is queued, and a little later there will be more for the same write.
    fn queue_may_wait(&self, now: Moment) -> bool {
        self.queue_awaited == 0
            && self.queue_bytes < self.relaxed_write_bytes
            && self.flush_to <= self.durable
            && self.write_due().is_some_and(|due| now < due)
            && !self.flush_due(now)
    }

    fn write_due(&self) -> Option<Moment> {
        self.queued_since.map(|since| since.after(self.relaxed_write_after))
    }

    /// When it is quiet the mark is renewed, so that damage in the last write can be told from a tear.
    fn mark_due_at(&self) -> Option<Moment> {
        let quiet = self.queue.is_empty() && self.flight.is_none() && self.written == self.durable;
        let since = self.synced_at.filter(|_| quiet && self.marked < self.durable);
        since.map(|since| since.after(self.relaxed_flush_after))
    }

    /// Not synced: it says what is so, and reaches the disk with the next sync or when the system will.
    fn write_mark(&mut self, now: Moment) -> Option<WalWrite> {
        let sequence = self.durable.sequence();
        let mark = Some(self.renew_mark(sequence));
        let file = self.files.by_sequence(sequence)?.slot?.file;
        self.flight = Some(Flight { end: self.written, synced: false, bytes: 0, started: now });
        Some(WalWrite {
            sync_first: None,
            file,
            header: None,
            mark,
            frames: Vec::new(),
            sync: false,
        })
    }

    fn flush_due(&self, now: Moment) -> bool {
        let unflushed = self.queue_bytes + self.unsynced_bytes();
        let aged =
            self.unflushed_since.is_some_and(|since| now >= since.after(self.relaxed_flush_after));
        unflushed >= self.relaxed_flush_bytes || aged
    }

    /// Written but not synced; only ever in one file, because a file is synced before it is left.
    fn unsynced_bytes(&self) -> u64 {
        self.written.raw() - self.durable.raw()
    }

    fn write_frames(&mut self, now: Moment, sequence: u32, stats: &mut Stats) -> WalWrite {
        let position = self.queue.front().expect("the caller saw a frame").position;
        let mut frames = Vec::new();
        let mut bytes = 0;
        let mut sync = self.flush_to > self.durable || self.flush_due(now);
        while let Some(next) = self.queue.front() {
            let total = u64::from(frame_bytes(next.header.length));
            let full = !frames.is_empty() && bytes + total > self.write_bytes_max as u64;
            if next.position.sequence() != sequence || full {
                break;
            }
            let Some(mut next) = self.queue.pop_front() else {
                break;
            };
            bytes += total;
            sync |= next.sync;
            self.queue_awaited -= usize::from(next.is_awaited);
            next.header.durable = self.durable;
            frames.push(WriteFrame {
                position: next.position,
                header: next.header,
                payload: next.payload,
            });
        }
        self.queue_bytes -= bytes;
        if self.queue.is_empty() {
            self.queued_since = None;
        }
        let sync_first = self.unsynced_elsewhere(sequence);
        let mark = self.next_mark(sequence);
        let file =
            self.files.by_sequence(sequence).expect("frames are queued for files of the WAL");
        let header = (!file.header_written).then_some(WalHeader {
            sequence,
            capacity: file.capacity,
            previous_end: file.previous_end,
        });
        file.header_written = true;
        let slot = file.slot.expect("bound by the caller");
        let end = position.plus(bytes as u32);
        self.flight = Some(Flight { end, synced: sync, bytes, started: now });
        stats.wal_writes += 1;
        stats.wal_bytes_written += bytes;
        stats.wal_syncs +=
            u64::from(sync) + u64::from(header.is_some()) + u64::from(sync_first.is_some());
        WalWrite { sync_first, file: slot.file, header, mark, frames, sync }
    }

    /// The file before, if something in it is not synced: it must be before the next one begins.
    fn unsynced_elsewhere(&mut self, sequence: u32) -> Option<koine_base::disk::FileId> {
        if self.written <= self.durable || self.written.sequence() == sequence {
            return None;
        }
        let file = self.files.by_sequence(self.written.sequence())?;
        file.slot.map(|slot| slot.file)
    }

    fn next_mark(&mut self, sequence: u32) -> Option<(usize, WalMark)> {
        let same_file = self.durable.sequence() == sequence;
        if !same_file || self.durable.raw() < self.marked.raw().saturating_add(MARK_INTERVAL_BYTES)
        {
            return None;
        }
        Some(self.renew_mark(sequence))
    }

    /// The two places take turns: a torn mark leaves the one before.
    fn renew_mark(&mut self, sequence: u32) -> (usize, WalMark) {
        self.marked = self.durable;
        self.marks += 1;
        ((self.marks % 2) as usize, WalMark { sequence, durable: self.durable })
    }

    fn write_sync(&mut self, now: Moment, stats: &mut Stats) -> Option<WalWrite> {
        let file = self.files.by_sequence(self.written.sequence())?.slot?.file;
        self.flight = Some(Flight { end: self.written, synced: true, bytes: 0, started: now });
        stats.wal_syncs += 1;
        Some(WalWrite {
            sync_first: None,
            file,
            header: None,
            mark: None,
            frames: Vec::new(),
            sync: true,
        })
    }

    pub(crate) fn written_back(&mut self, result: WalWritten) -> Result<(), LogError> {
        let flight = self.flight.take().expect("a write was in flight");
        result.map_err(|error| LogError::Io { action: "write the WAL", error })?;
        if flight.end.sequence() != self.written.sequence() {
            // The file before was synced by this write or an earlier one, the header by this one.
            self.durable = WalPosition::new(flight.end.sequence(), WAL_FRAMES_AT);
        }
        self.written = flight.end;
        if flight.synced {
            self.durable = flight.end;
            self.synced_at = Some(flight.started);
            self.unflushed_since = (self.appended > self.durable).then_some(flight.started);
        }
        self.report_pending();
        Ok(())
    }

    /// The next file to create: the one that queued frames wait for, or one ahead of need.
    pub(crate) fn poll_create(&mut self, now: Moment) -> Option<WalCreate> {
        if self.creating || self.retry_at.is_some_and(|retry_at| now < retry_at) {
            return None;
        }
        let waiting = self.queue.front().map(|frame| frame.position.sequence());
        let unbound = waiting.filter(|sequence| !self.files.bind(*sequence));
        let capacity = match unbound {
            Some(sequence) => self.files.by_sequence(sequence).map(|file| file.capacity),
            None if self.files.wants_spare() => None,
            None => {
                self.no_space = false;
                self.retry_at = None;
                return None;
            }
        };
        self.creating = true;
        let (number, path, capacity) = self.files.next_slot(capacity);
        Some(WalCreate { number, path, capacity, free_bytes_min: self.free_bytes_min })
    }

    /// True if the device was full.
    pub(crate) fn created(
        &mut self,
        now: Moment,
        result: WalCreated,
        stats: &mut Stats,
    ) -> Result<bool, LogError> {
        self.creating = false;
        match result.outcome {
            Ok(file) => {
                stats.wal_files_created += 1;
                self.files.add_created(Slot {
                    number: result.number,
                    file,
                    capacity: result.capacity,
                });
                self.no_space = false;
                self.retry_at = None;
                Ok(false)
            }
            Err(error) if is_full(&error) => {
                stats.no_space += 1;
                self.no_space = true;
                self.retry_at = Some(now.after(self.full_retry_after));
                Ok(true)
            }
            Err(error) => Err(LogError::Io { action: "create a WAL file", error }),
        }
    }

    pub(crate) fn recycle(&mut self, sequence: u32, removals: &mut Vec<Removal>) -> u64 {
        // A full device has room again for the file that could not be created.
        self.retry_at = None;
        let count = self.files.recycle(sequence, removals);
        if self.files.free_count() > 0 {
            self.no_space = false;
        }
        count
    }

    /// When to poll again though nothing else happens.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        let flush =
            self.unflushed_since.filter(|_| self.flight.is_none() && self.written > self.durable);
        let flush = flush.map(|since| since.after(self.relaxed_flush_after));
        let retry = self.retry_at.filter(|_| !self.creating);
        // Without a file it is the file that is waited for.
        let has_file = self.queue.front().is_some_and(|frame| self.files.is_bound(frame.position));
        let write = self.write_due().filter(|_| self.flight.is_none() && has_file);
        [write, flush, retry, self.mark_due_at()].into_iter().flatten().min()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.flight.is_none() && self.durable == self.appended
    }
}

/// The device, or the quota on it, has no room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
