//! Looks at every byte of a log that nobody has open, and says what is damaged and which offsets that
//! costs. It must never change anything, and never stop at the first finding.
//!
//! What the log itself cannot know, above all what a damaged frame held, is left to the caller, who is
//! shown everything in the order of a replay.

use crate::batch::BatchHeader;
use crate::config::Config;
use crate::error::OpenError;
use crate::format::{
    Fields, FrameHeader, IndexEntry, RunHeader, RunRecord, SegmentHeader, SegmentTrailer,
    WalPosition, FRAME_HEADER_BYTES, RUN_HEADER_BYTES, RUN_RECORD_BYTES, SEGMENT_TRAILER_BYTES,
    WAL_FRAMES_AT,
};
use crate::log::GroupCheckpoint;
use crate::manifest::{self, checkpoint_path, Manifest, ReadManifest};
use crate::open::{BlankSlot, FoundSlot, Opener};
use crate::read::{fetch_index, read_exact, split_batches};
use crate::repair::Repair;
use crate::scan::{Scanner, Step};
use crate::segment::{segment_path, SegmentRecord};
use crate::wal_files::{slot_path, Slot};
use koine_base::checksum::crc32c;
use koine_base::disk::{Disk, FileId};
use koine_base::{GroupId, StreamId};
use std::collections::BTreeMap;
use std::fmt;
use std::io;

/// Offsets of a stream that cannot be read any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lost {
    pub stream: StreamId,
    pub start: u64,
    /// Last offset + 1.
    pub end: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// One inverted bit. The next start puts it right.
    Bit { mask: u8 },
    /// A frame that had been synced. What it held is the caller's to say.
    Frame { sequence: u32, group: Option<GroupId>, index: u64 },
    /// The header of a WAL file that is needed. The frames behind it are sound.
    WalHeader,
    /// A WAL file between the checkpoint and the newest is not there.
    WalFileMissing { sequence: u32 },
    /// `stands_in`: the one before says the same with the WAL from it on, and a start takes that.
    Checkpoint { stands_in: bool },
    /// There are segments or WAL files that only a checkpoint explains, but none is there.
    CheckpointMissing,
    /// A segment is not there, or ends too early.
    SegmentMissing,
    /// Batches of a segment.
    Batches,
    /// The index of a run: without it nothing of the run can be read.
    Index,
    /// Parts of a segment that only serve to rebuild an index. Nothing is lost by it.
    SegmentStructure,
    /// The medium gives an error.
    Unreadable(io::ErrorKind),
    /// Written by another release.
    Version(u32),
}

impl Fault {
    /// A word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Fault::Bit { .. } => "bit",
            Fault::Frame { .. } => "wal-entry",
            Fault::WalHeader => "wal-header",
            Fault::WalFileMissing { .. } => "wal-file-missing",
            Fault::Checkpoint { .. } => "checkpoint",
            Fault::CheckpointMissing => "checkpoint-missing",
            Fault::SegmentMissing => "segment-missing",
            Fault::Batches => "records",
            Fault::Index => "index",
            Fault::SegmentStructure => "segment-structure",
            Fault::Unreadable(_) => "unreadable",
            Fault::Version(_) => "version",
        }
    }

    /// True if the node does not start with this.
    pub fn prevents_start(&self) -> bool {
        match self {
            Fault::Frame { .. }
            | Fault::WalHeader
            | Fault::WalFileMissing { .. }
            | Fault::Checkpoint { stands_in: false }
            | Fault::CheckpointMissing
            | Fault::SegmentMissing
            | Fault::Version(_) => true,
            Fault::Bit { .. }
            | Fault::Checkpoint { stands_in: true }
            | Fault::Batches
            | Fault::Index
            | Fault::SegmentStructure
            | Fault::Unreadable(_) => false,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Bit { mask } => {
                write!(f, "bit {} is inverted; the next start puts it right", mask.trailing_zeros())
            }
            Fault::Frame { .. } => f.write_str("a write-ahead log entry is damaged"),
            Fault::WalHeader => {
                f.write_str("the header of a write-ahead log file is damaged, its entries are not")
            }
            Fault::WalFileMissing { sequence } => {
                write!(f, "write-ahead log file number {sequence} is missing")
            }
            Fault::Checkpoint { stands_in: true } => {
                f.write_str("a checkpoint is damaged, another stands in for it")
            }
            Fault::Checkpoint { stands_in: false } => {
                f.write_str("a checkpoint is damaged, and nothing stands in for it")
            }
            Fault::CheckpointMissing => f.write_str("the checkpoint is missing"),
            Fault::SegmentMissing => f.write_str("a segment is missing or too short"),
            Fault::Batches => f.write_str("records are damaged"),
            Fault::Index => f.write_str("the index of records is damaged"),
            Fault::SegmentStructure => {
                f.write_str("a spare copy of an index is damaged; nothing is lost")
            }
            Fault::Unreadable(kind) => write!(f, "cannot be read: {kind}"),
            Fault::Version(version) => write!(f, "has format version {version}, not known here"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub file: String,
    pub position: u64,
    pub fault: Fault,
    /// As far as the log can tell.
    pub lost: Vec<Lost>,
}

/// What goes by while a log is inspected, in the order of a replay.
pub enum Seen<'a> {
    /// Of the checkpoint that a start would take.
    Group(&'a GroupCheckpoint),
    /// A stream of that checkpoint, with its end.
    Stream(StreamId, u64),
    /// An intact frame, or one that a single bit keeps from it.
    Frame { group: GroupId, kind: u8, term: u64, index: u64, payload: &'a [u8] },
    /// The frame of the newest finding. `header` only if that is intact: group, kind, index.
    Damaged { header: Option<(GroupId, u8, u64)>, payload: &'a [u8] },
    /// So many bytes more have been checked.
    Bytes(u64),
}

/// What [`inspect`] found.
#[derive(Debug, Default)]
pub struct Inspection {
    pub findings: Vec<Finding>,
    pub files: u64,
    pub bytes: u64,
}

/// Bytes that [`inspect`] will check, for a progress bar.
pub fn bytes_to_inspect(disk: &dyn Disk, directory: &str) -> io::Result<u64> {
    let mut bytes = 0;
    for part in ["wal", "segments", "checkpoints"] {
        let directory = format!("{directory}/{part}");
        for name in disk.list(&directory)? {
            let file = disk.open(&format!("{directory}/{name}"))?;
            let size = disk.size(file);
            disk.close(file);
            bytes += size?;
        }
    }
    Ok(bytes)
}

/// Checks the log in `config.directory`. An error only if it cannot be looked at.
pub fn inspect(
    disk: &dyn Disk,
    config: &Config,
    seen: &mut dyn FnMut(Seen<'_>),
) -> Result<Inspection, OpenError> {
    let opener = Opener::new(disk, &config.directory);
    let mut inspector =
        Inspector { disk, opener: &opener, seen, inspection: Inspection::default() };
    let newest = inspector.checkpoints()?;
    inspector.wal(newest.as_ref())?;
    if let Some(newest) = newest {
        inspector.segments(&newest.manifest)?;
    }
    Ok(inspector.inspection)
}

/// A WAL file that a start needs. `found` is none if its header is lost.
struct WalFile<'s> {
    slot: &'s Slot,
    sequence: u32,
    capacity: u32,
    found: Option<&'s FoundSlot>,
}

/// The sequence number that the first frame of a file without a header names.
pub(crate) fn first_frame_sequence(disk: &dyn Disk, file: FileId) -> io::Result<Option<u32>> {
    let mut bytes = [0; FRAME_HEADER_BYTES];
    let count = disk.read_at(file, u64::from(WAL_FRAMES_AT), &mut bytes)?;
    let mut fields = Fields(&bytes[24..28]);
    let sequence = fields.u32().unwrap_or_default();
    let place = WalPosition::new(sequence, WAL_FRAMES_AT);
    let sound = count == bytes.len() && FrameHeader::decode(&bytes, place).is_some();
    Ok(sound.then_some(sequence))
}

struct Inspector<'a, 'd> {
    disk: &'d dyn Disk,
    opener: &'a Opener<'d>,
    seen: &'a mut dyn FnMut(Seen<'_>),
    inspection: Inspection,
}

impl Inspector<'_, '_> {
    fn find(&mut self, file: String, position: u64, fault: Fault, lost: Vec<Lost>) {
        self.inspection.findings.push(Finding { file, position, fault, lost });
    }

    fn repairable(&mut self, repair: Repair) {
        let Repair { file, position, mask } = repair;
        self.find(file, position, Fault::Bit { mask }, Vec::new());
    }

    fn count(&mut self, bytes: u64) {
        self.inspection.bytes += bytes;
        (self.seen)(Seen::Bytes(bytes));
    }

    // ---- checkpoints ----

    /// Checks all, and returns the one that a start would take.
    fn checkpoints(&mut self) -> Result<Option<ReadManifest>, OpenError> {
        let (numbers, _) = self.opener.list("checkpoints")?;
        let mut newest = None;
        let mut damaged = Vec::new();
        for number in numbers {
            let path = checkpoint_path(&self.opener.directory, number);
            self.inspection.files += 1;
            self.count(self.opener.size(&path)?);
            match manifest::read(self.disk, &self.opener.directory, number) {
                Ok(Some(read)) => {
                    if let Some(repair) = read.repair.clone() {
                        self.repairable(repair);
                    }
                    newest = Some(read);
                }
                Ok(None) => damaged.push((number, path)),
                Err(OpenError::UnknownVersion { file, version }) => {
                    self.find(file, 0, Fault::Version(version), Vec::new());
                }
                Err(OpenError::Io { error, .. }) => {
                    self.find(path, 0, Fault::Unreadable(error.kind()), Vec::new());
                }
                Err(OpenError::Corrupt { .. }) => damaged.push((number, path)),
            }
        }
        let standing = newest.as_ref().map(|newest| newest.header.number);
        for (number, path) in damaged {
            // An older one is not looked at by a start.
            let newer = standing.is_some_and(|standing| standing > number);
            let fault =
                Fault::Checkpoint { stands_in: newer || self.reaches_back(newest.as_ref())? };
            self.find(path, 0, fault, Vec::new());
        }
        if let Some(newest) = &newest {
            for group in &newest.manifest.groups {
                (self.seen)(Seen::Group(group));
            }
            for stream in &newest.manifest.streams {
                (self.seen)(Seen::Stream(stream.stream, stream.end));
            }
        }
        Ok(newest)
    }

    /// True if the WAL and the segments that the checkpoint needs are all still there.
    fn reaches_back(&self, checkpoint: Option<&ReadManifest>) -> Result<bool, OpenError> {
        let (found, blanks) = self.opener.read_slots()?;
        self.close(&found, &blanks);
        let replay_from = checkpoint.map_or(1, |checkpoint| checkpoint.header.replay_from);
        let has_all = found.iter().any(|found| found.header.sequence == replay_from);
        let (on_disk, _) = self.opener.list("segments")?;
        let segments = checkpoint.map_or(&[][..], |checkpoint| &checkpoint.manifest.segments);
        Ok(has_all && segments.iter().all(|known| on_disk.binary_search(&known.segment).is_ok()))
    }

    fn close(&self, found: &[FoundSlot], blanks: &[BlankSlot]) {
        let slots = found.iter().map(|found| found.slot);
        for slot in slots.chain(blanks.iter().map(|blank| blank.slot)) {
            self.disk.close(slot.file);
        }
    }

    // ---- the WAL ----

    fn wal(&mut self, checkpoint: Option<&ReadManifest>) -> Result<(), OpenError> {
        let (found, blanks) = match self.opener.read_slots() {
            Ok(slots) => slots,
            Err(OpenError::UnknownVersion { file, version }) => {
                self.find(file, 0, Fault::Version(version), Vec::new());
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        self.inspection.files += (found.len() + blanks.len()) as u64;
        let replay_from = checkpoint.map_or(1, |checkpoint| checkpoint.header.replay_from);
        let (needed, free): (Vec<&FoundSlot>, Vec<&FoundSlot>) =
            found.iter().partition(|found| found.header.sequence >= replay_from);
        self.count(free.iter().map(|found| u64::from(found.slot.capacity)).sum());
        let mut files: Vec<WalFile<'_>> = needed
            .into_iter()
            .map(|found| WalFile {
                slot: &found.slot,
                sequence: found.header.sequence,
                capacity: found.header.capacity.min(found.slot.capacity),
                found: Some(found),
            })
            .collect();
        self.headless(&blanks, replay_from, &mut files);
        files.sort_by_key(|file| file.sequence);
        self.wal_files(checkpoint, replay_from, &files)?;
        self.close(&found, &blanks);
        Ok(())
    }

    /// Files whose header is lost, but whose frames say which they were.
    fn headless<'s>(
        &mut self,
        blanks: &'s [BlankSlot],
        replay_from: u32,
        files: &mut Vec<WalFile<'s>>,
    ) {
        for BlankSlot { slot, .. } in blanks {
            let path = slot_path(&self.opener.directory, slot.number);
            match first_frame_sequence(self.disk, slot.file) {
                Ok(Some(sequence))
                    if sequence >= replay_from
                        && files.iter().all(|file| file.sequence != sequence) =>
                {
                    self.find(path, 0, Fault::WalHeader, Vec::new());
                    files.push(WalFile { slot, sequence, capacity: slot.capacity, found: None });
                }
                Ok(_) => self.count(u64::from(slot.capacity)),
                Err(error) => self.find(path, 0, Fault::Unreadable(error.kind()), Vec::new()),
            }
        }
    }

    fn wal_files(
        &mut self,
        checkpoint: Option<&ReadManifest>,
        replay_from: u32,
        files: &[WalFile<'_>],
    ) -> Result<(), OpenError> {
        let durable =
            checkpoint.map_or(WalPosition::default(), |checkpoint| checkpoint.header.durable);
        // Without a checkpoint the WAL must begin with the first file.
        let unexplained = match files.first() {
            Some(first) => first.sequence > replay_from,
            None => !self.opener.list("segments")?.0.is_empty(),
        };
        let mut expected = replay_from;
        if checkpoint.is_none() && unexplained {
            let path = format!("{}/checkpoints", self.opener.directory);
            self.find(path, 0, Fault::CheckpointMissing, Vec::new());
            expected = files.first().map_or(expected, |first| first.sequence);
        }
        for (index, file) in files.iter().enumerate() {
            for missing in expected..file.sequence {
                self.file_missing(missing);
            }
            expected = file.sequence + 1;
            let next = files.get(index + 1).and_then(|next| next.found);
            let end = next.map(|next| next.header.previous_end);
            let closed_at =
                end.filter(|end| end.sequence() == file.sequence).map(WalPosition::offset);
            let mark = file.found.map_or(WalPosition::default(), |found| found.mark);
            self.wal_file(file, closed_at, durable.max(mark));
        }
        for missing in expected..=durable.sequence() {
            self.file_missing(missing);
        }
        Ok(())
    }

    fn file_missing(&mut self, sequence: u32) {
        let path = format!("{}/wal", self.opener.directory);
        self.find(path, 0, Fault::WalFileMissing { sequence }, Vec::new());
    }

    fn wal_file(&mut self, file: &WalFile<'_>, closed_at: Option<u32>, known: WalPosition) {
        let path = slot_path(&self.opener.directory, file.slot.number);
        for flip in file.found.iter().flat_map(|found| &found.flips) {
            self.repairable(flip.in_file(&path));
        }
        let sequence = file.sequence;
        let limit = closed_at.unwrap_or(file.capacity);
        let mut scanner = Scanner::new(self.disk, file.slot.file, sequence, limit);
        if let Err(error) = self.frames(&mut scanner, &path, closed_at.is_some(), known) {
            let fault = Fault::Unreadable(error.kind());
            self.find(path.clone(), u64::from(scanner.position), fault, Vec::new());
        }
        let short = match closed_at {
            Some(closed_at) => scanner.position != closed_at,
            None => known > WalPosition::new(sequence, scanner.position),
        };
        if short {
            let fault = Fault::Frame { sequence, group: None, index: 0 };
            self.find(path.clone(), u64::from(scanner.position), fault, Vec::new());
            (self.seen)(Seen::Damaged { header: None, payload: &[] });
        }
        for flip in &scanner.flips {
            self.repairable(flip.in_file(&path));
        }
        self.count(u64::from(file.slot.capacity));
    }

    /// Walks over all frames, also those behind damaged ones.
    fn frames(
        &mut self,
        scanner: &mut Scanner<'_>,
        path: &str,
        closed: bool,
        known: WalPosition,
    ) -> io::Result<()> {
        loop {
            let (position, next) = match scanner.next()? {
                Step::End => return Ok(()),
                Step::Frame { header, payload, .. } => {
                    let FrameHeader { group, kind, term, index, .. } = header;
                    let group = GroupId(group);
                    (self.seen)(Seen::Frame { group, kind, term, index, payload });
                    continue;
                }
                Step::Bad { position, next } => (position, next),
            };
            if !closed && !scanner.was_durable(position, next, known)? {
                return Ok(());
            }
            let (header, payload) = scanner.damaged(position, next)?;
            let fault = Fault::Frame {
                sequence: scanner.sequence(),
                group: header.map(|header| GroupId(header.group)),
                index: header.map_or(0, |header| header.index),
            };
            self.find(path.to_owned(), u64::from(position), fault, Vec::new());
            let header = header.map(|header| (GroupId(header.group), header.kind, header.index));
            (self.seen)(Seen::Damaged { header, payload: &payload });
            if !scanner.skip_to_next(position, next)? {
                return Ok(());
            }
        }
    }

    // ---- segments ----

    fn segments(&mut self, manifest: &Manifest) -> Result<(), OpenError> {
        let mut runs: BTreeMap<u64, Vec<(StreamId, RunRecord)>> = BTreeMap::new();
        for stream in &manifest.streams {
            for run in &stream.runs {
                // What is trimmed may be gone.
                if run.end > stream.start {
                    runs.entry(run.segment).or_default().push((stream.stream, *run));
                }
            }
        }
        for record in &manifest.segments {
            let mut runs = runs.remove(&record.segment).unwrap_or_default();
            runs.sort_unstable_by_key(|(_, run)| run.position);
            self.inspection.files += 1;
            let path = segment_path(&self.opener.directory, record.segment);
            let all = || {
                let lost = |(stream, run): &(StreamId, RunRecord)| Lost {
                    stream: *stream,
                    start: run.base,
                    end: run.end,
                };
                runs.iter().map(lost).collect::<Vec<Lost>>()
            };
            let file = match self.disk.open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.find(path, 0, Fault::SegmentMissing, all());
                    continue;
                }
                Err(error) => {
                    self.find(path, 0, Fault::Unreadable(error.kind()), all());
                    continue;
                }
            };
            match self.disk.size(file) {
                Ok(size) if size >= record.bytes => self.segment(&path, file, record, &runs),
                Ok(size) => self.find(path, size, Fault::SegmentMissing, all()),
                Err(error) => self.find(path, 0, Fault::Unreadable(error.kind()), all()),
            }
            self.disk.close(file);
            self.count(record.bytes);
        }
        Ok(())
    }

    fn segment(
        &mut self,
        path: &str,
        file: FileId,
        record: &SegmentRecord,
        runs: &[(StreamId, RunRecord)],
    ) {
        let header = SegmentHeader { segment: record.segment, pack: record.pack }.encode();
        self.expect_bytes(path, file, 0, &header);
        let trailer_at = record.bytes - SEGMENT_TRAILER_BYTES as u64;
        self.table(path, file, record, trailer_at);
        for (stream, run) in runs {
            let RunRecord { base, end, bytes, position, .. } = *run;
            let header = RunHeader { stream: *stream, base, end, bytes }.encode();
            self.expect_bytes(path, file, position - RUN_HEADER_BYTES as u64, &header);
            let whole = Lost { stream: *stream, start: base, end };
            match fetch_index(self.disk, file, run) {
                Ok(index) => self.run(path, file, whole, &index),
                Err(_) => {
                    self.find(path.to_owned(), run.index_position, Fault::Index, vec![whole]);
                }
            }
        }
    }

    /// Parts that can be told from what the checkpoint says.
    fn expect_bytes(&mut self, path: &str, file: FileId, position: u64, expect: &[u8]) {
        match read_exact(self.disk, file, position, expect.len()) {
            Ok(Some(bytes)) if bytes == expect => {}
            Ok(_) => self.find(path.to_owned(), position, Fault::SegmentStructure, Vec::new()),
            Err(error) => {
                self.find(path.to_owned(), position, Fault::Unreadable(error.kind()), Vec::new());
            }
        }
    }

    fn table(&mut self, path: &str, file: FileId, record: &SegmentRecord, trailer_at: u64) {
        let trailer = read_exact(self.disk, file, trailer_at, SEGMENT_TRAILER_BYTES);
        let trailer = trailer.ok().flatten().and_then(|bytes| SegmentTrailer::decode(&bytes));
        let Some(trailer) = trailer.filter(|trailer| trailer.segment == record.segment) else {
            self.find(path.to_owned(), trailer_at, Fault::SegmentStructure, Vec::new());
            return;
        };
        let bytes = trailer.run_count as usize * RUN_RECORD_BYTES;
        let fits = trailer.table_position.checked_add(bytes as u64) == Some(trailer_at);
        let table = read_exact(self.disk, file, trailer.table_position, bytes);
        let sound = fits && matches!(table, Ok(Some(table)) if crc32c(&table) == trailer.table_crc);
        if !sound {
            let position = trailer.table_position;
            self.find(path.to_owned(), position, Fault::SegmentStructure, Vec::new());
        }
    }

    fn run(&mut self, path: &str, file: FileId, whole: Lost, index: &[IndexEntry]) {
        for (number, entry) in index.iter().enumerate() {
            let end = index.get(number + 1).map_or(whole.end, |next| next.offset);
            let interval = Lost { start: entry.offset, end, ..whole };
            match read_exact(self.disk, file, entry.position, entry.bytes as usize) {
                Ok(Some(bytes)) => {
                    for (at, lost) in damaged_batches(&bytes, interval, entry.prefix_crc) {
                        let position = entry.position + at as u64;
                        self.find(path.to_owned(), position, Fault::Batches, vec![lost]);
                    }
                }
                Ok(None) => {
                    self.find(path.to_owned(), entry.position, Fault::Batches, vec![interval]);
                }
                Err(error) => {
                    let fault = Fault::Unreadable(error.kind());
                    self.find(path.to_owned(), entry.position, fault, vec![interval]);
                }
            }
        }
    }
}

/// What of an interval's batches is damaged, and where in it: single batches, or all of it if it cannot be
/// said where one ends.
fn damaged_batches(bytes: &[u8], interval: Lost, prefix_crc: u32) -> Vec<(usize, Lost)> {
    let Some(batches) = split_batches(bytes, interval.start..interval.end, prefix_crc) else {
        return vec![(0, interval)];
    };
    let damaged =
        batches.into_iter().filter(|(at, _)| BatchHeader::verified(&bytes[*at..]).is_none());
    let lost = |header: BatchHeader| Lost {
        start: header.base_offset,
        end: header.last_offset + 1,
        ..interval
    };
    damaged.map(|(at, header)| (at, lost(header))).collect()
}
