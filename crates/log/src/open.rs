//! Opening a log: find the newest checkpoint, check every frame that it does not cover, and offer both
//! for replay. Reads the disk directly, since the shard does not run yet. It deletes only what a good
//! checkpoint proves to be unneeded.

use crate::checkpointing::Checkpointing;
use crate::config::Config;
use crate::error::{CorruptReason, OpenError};
use crate::format::{
    HeaderError, WalHeader, WalMark, WalPosition, WAL_FRAMES_AT, WAL_HEADER_BYTES, WAL_MARKS_AT,
    WAL_MARK_BYTES,
};
use crate::log::Log;
use crate::manifest::{self, checkpoint_path, ReadManifest, StreamRecord};
use crate::repair::{self, mend_header, Flip, Repair};
use crate::replay::{Replay, ReplayFile, Superseded};
use crate::scan::{holds_newer_frames, Scanner, Step};
use crate::segment::{segment_path, Segments};
use crate::stream::{Stream, Streams};
use crate::wal::Wal;
use crate::wal_files::{slot_path, Slot, WalFile, WalFiles};
use koine_base::disk::Disk;
use koine_base::GroupId;
use std::collections::{HashMap, VecDeque};
use std::io;

/// Written again at once of a tail that may never have been synced.
const SETTLE_BYTES: usize = 1 << 20;

impl Log {
    /// Opens the log in `config.directory`, making it if it is not there. Reads and checks all frames
    /// that the checkpoint does not cover; creates no file. Single inverted bits are put right on disk:
    /// [`Log::repairs`]. On an error nothing on disk has changed.
    pub fn open(disk: &dyn Disk, config: Config) -> Result<(Log, Replay<'_>), OpenError> {
        config.check();
        let opener = Opener::new(disk, &config.directory);
        opener.make_dirs()?;
        let checkpoints = opener.read_checkpoints()?;
        let (slots, blanks) = opener.read_slots()?;
        let retained = opener.choose_files(&checkpoints, slots, blanks)?;
        let scanned = opener.scan_files(&checkpoints, &retained.needed)?;
        let segments = opener.open_segments(&checkpoints, &config)?;
        opener.assemble(config, checkpoints, retained, scanned, segments)
    }
}

struct Checkpoints {
    newest: Option<ReadManifest>,
    /// Numbers on disk, ascending, without those that are damaged.
    numbers: Vec<u64>,
    highest: u64,
    /// A newer one than `newest` is damaged: its segments may be on disk, unknown to us.
    fallen_back: bool,
    /// Unfinished or superseded files.
    stale: Vec<String>,
}

impl Checkpoints {
    fn replay_from(&self) -> u32 {
        self.newest.as_ref().map_or(1, |newest| newest.header.replay_from)
    }

    fn durable(&self) -> WalPosition {
        self.newest.as_ref().map_or(WalPosition::default(), |newest| newest.header.durable)
    }
}

pub(crate) struct FoundSlot {
    pub slot: Slot,
    pub header: WalHeader,
    /// Highest position that the file itself says was durable.
    pub mark: WalPosition,
    /// Bits of header and marks that are inverted on disk.
    pub flips: Vec<Flip>,
}

/// A slot without a readable header.
pub(crate) struct BlankSlot {
    pub slot: Slot,
    pub header_blank: bool,
}

struct Retained {
    /// Files from the checkpoint on, ascending without a gap.
    needed: Vec<FoundSlot>,
    free: Vec<Slot>,
    next_slot: u64,
}

#[derive(Default)]
struct Scanned {
    ends: Vec<u32>,
    groups: Vec<Vec<(GroupId, u64)>>,
    superseded: Superseded,
    /// Highest position that a frame says was synced.
    synced: WalPosition,
    /// Bits inverted on disk, headers and marks included.
    repairs: Vec<Repair>,
}

pub(crate) struct Opener<'d> {
    disk: &'d dyn Disk,
    pub directory: String,
}

fn io_error<'a>(action: &'static str, path: &'a str) -> impl Fn(io::Error) -> OpenError + 'a {
    move |error| OpenError::Io { action, path: path.to_owned(), error }
}

fn corrupt(file: String, position: u64, reason: CorruptReason) -> OpenError {
    OpenError::Corrupt { file, position, reason }
}

impl<'d> Opener<'d> {
    pub(crate) fn new(disk: &'d dyn Disk, directory: &str) -> Self {
        Opener { disk, directory: directory.to_owned() }
    }

    fn path(&self, part: &str) -> String {
        format!("{}/{part}", self.directory)
    }

    /// Makes the directories, and makes durable what names are in them and above them: a process that
    /// was killed may have created or renamed files without getting to the sync, and from here on they
    /// are relied on.
    fn make_dirs(&self) -> Result<(), OpenError> {
        let parts = ["wal", "segments", "checkpoints"].map(|part| self.path(part));
        for path in &parts {
            let made = self.disk.make_dir(path);
            made.map_err(io_error("make the directory", path))?;
        }
        let above = self.directory.match_indices('/').map(|(at, _)| &self.directory[..at]);
        let above = std::iter::once("").chain(above).chain([self.directory.as_str()]);
        for path in above.chain(parts.iter().map(String::as_str)) {
            let synced = self.disk.sync_dir(path);
            synced.map_err(io_error("sync the directory", path))?;
        }
        Ok(())
    }

    /// Files of a directory whose names are numbers, ascending, and all others.
    pub(crate) fn list(&self, part: &str) -> Result<(Vec<u64>, Vec<String>), OpenError> {
        let path = self.path(part);
        let names = self.disk.list(&path).map_err(io_error("list", &path))?;
        let mut numbers = Vec::new();
        let mut others = Vec::new();
        for name in names {
            match name.parse::<u64>() {
                Ok(number) if number.to_string() == name => numbers.push(number),
                _ => others.push(name),
            }
        }
        numbers.sort_unstable();
        Ok((numbers, others))
    }

    pub(crate) fn size(&self, path: &str) -> Result<u64, OpenError> {
        let file = self.disk.open(path).map_err(io_error("open", path))?;
        let size = self.disk.size(file);
        self.disk.close(file);
        size.map_err(io_error("read", path))
    }

    fn read_checkpoints(&self) -> Result<Checkpoints, OpenError> {
        let (mut numbers, others) = self.list("checkpoints")?;
        let unfinished = others.iter().filter(|name| name.ends_with(".tmp"));
        let stale = unfinished.map(|name| self.path(&format!("checkpoints/{name}"))).collect();
        let highest = numbers.last().copied().unwrap_or(0);
        let mut newest = None;
        let mut fallen_back = false;
        while let Some(number) = numbers.last().copied() {
            newest = manifest::read(self.disk, &self.directory, number)?;
            if newest.is_some() {
                break;
            }
            fallen_back = true;
            numbers.pop();
        }
        if fallen_back && newest.is_none() {
            let file = checkpoint_path(&self.directory, highest);
            return Err(corrupt(file, 0, CorruptReason::Checkpoint));
        }
        Ok(Checkpoints { newest, numbers, highest, fallen_back, stale })
    }

    pub(crate) fn read_slots(&self) -> Result<(Vec<FoundSlot>, Vec<BlankSlot>), OpenError> {
        let mut found = Vec::new();
        let mut blanks = Vec::new();
        for number in self.list("wal")?.0 {
            let path = slot_path(&self.directory, number);
            let file = self.disk.open(&path).map_err(io_error("open", &path))?;
            let size = self.disk.size(file).map_err(io_error("read", &path))?;
            let capacity = u32::try_from(size).unwrap_or(u32::MAX);
            let slot = Slot { number, file, capacity };
            let mut block = [0; WAL_FRAMES_AT as usize];
            let count = self.disk.read_at(file, 0, &mut block).map_err(io_error("read", &path))?;
            match read_header_block(&block[..count]) {
                Ok((header, mark, flips)) => found.push(FoundSlot { slot, header, mark, flips }),
                Err(HeaderError::Version(version)) => {
                    return Err(OpenError::UnknownVersion { file: path, version });
                }
                Err(HeaderError::Invalid) => {
                    let header_blank = block.iter().all(|byte| *byte == 0);
                    blanks.push(BlankSlot { slot, header_blank });
                }
            }
        }
        found.sort_unstable_by_key(|found| found.header.sequence);
        Ok((found, blanks))
    }

    /// Which files are needed, and whether they are all there.
    fn choose_files(
        &self,
        checkpoints: &Checkpoints,
        found: Vec<FoundSlot>,
        blanks: Vec<BlankSlot>,
    ) -> Result<Retained, OpenError> {
        let replay_from = checkpoints.replay_from();
        let (old, needed): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|found| found.header.sequence < replay_from);
        let newest = needed.last().map_or(replay_from - 1, |found| found.header.sequence);
        for blank in &blanks {
            let path = slot_path(&self.directory, blank.slot.number);
            let newer = holds_newer_frames(self.disk, blank.slot.file, newest, blank.header_blank);
            if newer.map_err(io_error("read", &path))? {
                return Err(corrupt(path, 0, CorruptReason::WalHeader));
            }
        }
        for found in &old {
            // A file that was used again, and whose new header was acknowledged and lost, looks like
            // the old file that it was. Its first frame knows better.
            let path = slot_path(&self.directory, found.slot.number);
            let newer = holds_newer_frames(self.disk, found.slot.file, newest, true);
            if newer.map_err(io_error("read", &path))? {
                return Err(corrupt(path, 0, CorruptReason::WalHeader));
            }
        }
        for (expected, found) in (replay_from..).zip(&needed) {
            if found.header.sequence != expected {
                return Err(self.missing(checkpoints, expected));
            }
        }
        // The checkpoint knew of durable bytes in this file.
        let last_frame_file = checkpoints.durable().sequence();
        if last_frame_file > newest {
            return Err(self.missing(checkpoints, newest + 1));
        }
        let numbers = needed.iter().chain(&old).map(|found| found.slot.number);
        let next_slot = numbers
            .chain(blanks.iter().map(|blank| blank.slot.number))
            .max()
            .map_or(1, |max| max + 1);
        let old = old.into_iter().map(|found| found.slot);
        let free = old.chain(blanks.into_iter().map(|blank| blank.slot)).collect();
        Ok(Retained { needed, free, next_slot })
    }

    fn missing(&self, checkpoints: &Checkpoints, sequence: u32) -> OpenError {
        if checkpoints.fallen_back {
            // What the older one needs has been used again: the newer one is what is missing.
            let file = checkpoint_path(&self.directory, checkpoints.highest);
            return corrupt(file, 0, CorruptReason::Checkpoint);
        }
        let reason = match checkpoints.newest {
            Some(_) => CorruptReason::WalFileMissing,
            None => CorruptReason::CheckpointMissing,
        };
        corrupt(self.path(&format!("wal (sequence {sequence})")), 0, reason)
    }

    fn scan_files(
        &self,
        checkpoints: &Checkpoints,
        needed: &[FoundSlot],
    ) -> Result<Scanned, OpenError> {
        let mut scanned = Scanned::default();
        let newest = checkpoints.newest.as_ref();
        scanned.repairs.extend(newest.and_then(|newest| newest.repair.clone()));
        for (index, found) in needed.iter().enumerate() {
            let path = slot_path(&self.directory, found.slot.number);
            // A file is followed by the next only when all of it was durable, and that one says how much.
            let closed_at = match needed.get(index + 1) {
                None => None,
                Some(next) if next.header.previous_end.sequence() == found.header.sequence => {
                    Some(next.header.previous_end.offset())
                }
                Some(_) => return Err(corrupt(path, 0, CorruptReason::WalHeader)),
            };
            let known = checkpoints.durable().max(found.mark);
            self.scan_file(found, closed_at, known, &path, &mut scanned)?;
        }
        scanned.superseded.seal();
        if let (Some(last), Some(end)) = (needed.last(), scanned.ends.last()) {
            let path = slot_path(&self.directory, last.slot.number);
            let known = checkpoints.durable().max(last.mark).max(scanned.synced);
            let settled = self.settle_tail(last, known, *end);
            settled.map_err(io_error("write the tail again", &path))?;
        }
        Ok(scanned)
    }

    /// After the death of a process the newest file may have frames that no sync has covered. From here
    /// on they count, so they are written again, unchanged, and synced: if a sync had failed, the system's
    /// cache holds them as clean, and another sync alone would report success without writing them.
    /// What lies below `known` was synced.
    fn settle_tail(&self, last: &FoundSlot, known: WalPosition, end: u32) -> io::Result<()> {
        let first_frame = WalPosition::new(last.header.sequence, WAL_FRAMES_AT);
        // Without a durable frame the header is not known to be durable either.
        let from = if known > first_frame { known.offset() } else { 0 };
        let mut at = u64::from(from);
        let mut buffer = vec![0; SETTLE_BYTES.min(end.saturating_sub(from) as usize)];
        while at < u64::from(end) {
            let wanted = buffer.len().min((u64::from(end) - at) as usize);
            let count = self.disk.read_at(last.slot.file, at, &mut buffer[..wanted])?;
            if count == 0 {
                break;
            }
            self.disk.write_at(last.slot.file, at, &[&buffer[..count]])?;
            at += count as u64;
        }
        self.disk.sync(last.slot.file)
    }

    /// Checks the frames of one file, and notes where they end.
    fn scan_file(
        &self,
        found: &FoundSlot,
        closed_at: Option<u32>,
        known: WalPosition,
        path: &str,
        scanned: &mut Scanned,
    ) -> Result<(), OpenError> {
        let sequence = found.header.sequence;
        let capacity = found.header.capacity.min(found.slot.capacity);
        let limit = closed_at.unwrap_or(capacity);
        let mut scanner = Scanner::new(self.disk, found.slot.file, sequence, limit);
        let mut groups: HashMap<GroupId, u64> = HashMap::new();
        loop {
            let step = scanner.next().map_err(io_error("read", path))?;
            match step {
                Step::Frame { header, position, .. } => {
                    let group = GroupId(header.group);
                    let highest = groups.entry(group).or_default();
                    *highest = header.index.max(*highest);
                    scanned.superseded.note(group, header.index, position);
                    scanned.synced = scanned.synced.max(header.durable);
                }
                Step::Bad { position, next } => {
                    let durable = closed_at.is_some()
                        || scanner
                            .was_durable(position, next, known)
                            .map_err(io_error("read", path))?;
                    if durable {
                        let reason = CorruptReason::FrameBelowSyncedMark;
                        return Err(corrupt(path.to_owned(), u64::from(position), reason));
                    }
                    break;
                }
                Step::End => break,
            }
        }
        let end = scanner.position;
        let too_short = match closed_at {
            Some(closed_at) => closed_at != end,
            None => known > WalPosition::new(sequence, end),
        };
        if too_short {
            return Err(corrupt(
                path.to_owned(),
                u64::from(end),
                CorruptReason::FrameBelowSyncedMark,
            ));
        }
        let flips = found.flips.iter().chain(&scanner.flips);
        scanned.repairs.extend(flips.map(|flip| flip.in_file(path)));
        scanned.ends.push(end);
        scanned.groups.push(groups.into_iter().collect());
        Ok(())
    }

    fn open_segments(
        &self,
        checkpoints: &Checkpoints,
        config: &Config,
    ) -> Result<(Segments, Vec<u64>), OpenError> {
        let mut segments = Segments::new(&self.directory, config.segments_open_max);
        let (on_disk, _) = self.list("segments")?;
        let Some(ReadManifest { header, manifest, .. }) = &checkpoints.newest else {
            segments.next = on_disk.last().map_or(1, |last| last + 1);
            return Ok((segments, on_disk));
        };
        for record in &manifest.segments {
            let path = segment_path(&self.directory, record.segment);
            let missing = || corrupt(path.clone(), 0, CorruptReason::SegmentMissing);
            if on_disk.binary_search(&record.segment).is_err() {
                return Err(missing());
            }
            if self.size(&path)? < record.bytes {
                return Err(missing());
            }
            segments.add(*record);
        }
        let unused = on_disk.last().map_or(1, |last| last + 1);
        segments.next = segments.next.max(header.next_segment).max(unused);
        let mut orphans = on_disk;
        orphans.retain(|number| segments.record(*number).is_none());
        Ok((segments, orphans))
    }

    fn assemble(
        self,
        config: Config,
        checkpoints: Checkpoints,
        retained: Retained,
        scanned: Scanned,
        (mut segments, orphans): (Segments, Vec<u64>),
    ) -> Result<(Log, Replay<'d>), OpenError> {
        if checkpoints.newest.is_none() && retained.needed.is_empty() && !orphans.is_empty() {
            return Err(corrupt(self.path("checkpoints"), 0, CorruptReason::CheckpointMissing));
        }
        let (highest, durable) = (checkpoints.highest, checkpoints.durable());
        let replay_from = checkpoints.replay_from();
        let stale = self.stale_paths(&checkpoints, &orphans);
        let mut numbers = checkpoints.numbers;
        numbers.drain(..numbers.len().saturating_sub(2));
        let manifest = checkpoints.newest.map(|newest| newest.manifest);
        let (groups, records) =
            manifest.map_or_else(Default::default, |manifest| (manifest.groups, manifest.streams));
        let ends = records.iter().map(|record| (record.stream, record.end)).collect();
        let streams = adopt_streams(records, &mut segments).ok_or_else(|| {
            corrupt(checkpoint_path(&self.directory, highest), 0, CorruptReason::Checkpoint)
        })?;

        // All checks have passed. What a crash left behind goes; failing is no harm, since it is tried
        // at every start.
        self.repair(&scanned.repairs)?;
        for path in stale {
            let _ = self.disk.remove(&path);
        }
        let next_sequence =
            retained.needed.last().map_or(replay_from, |found| found.header.sequence + 1);
        let replay = Replay {
            disk: self.disk,
            groups: groups.into(),
            files: self.replay_files(&retained.needed, &scanned.ends),
            scanner: None,
            superseded: scanned.superseded,
            ends,
            done: false,
        };
        let end =
            replay.files.back().map_or(durable, |file| WalPosition::new(file.sequence, file.end));
        let files = self.adopt_files(&config, retained, scanned.ends, scanned.groups);
        let wal = Wal::new(&config, files, next_sequence, end);
        let checkpointing = Checkpointing::new(numbers, highest);
        let log = Log::assemble(config, wal, streams, segments, checkpointing, scanned.repairs);
        Ok((log, replay))
    }

    fn replay_files(&self, needed: &[FoundSlot], ends: &[u32]) -> VecDeque<ReplayFile> {
        let files = needed.iter().zip(ends);
        let file = |(found, end): (&FoundSlot, &u32)| ReplayFile {
            file: found.slot.file,
            path: slot_path(&self.directory, found.slot.number),
            sequence: found.header.sequence,
            end: *end,
        };
        files.map(file).collect()
    }

    /// Puts right on disk what was put right in memory: later reads look at the disk again.
    fn repair(&self, repairs: &[Repair]) -> Result<(), OpenError> {
        for repair in repairs {
            let path = &repair.file;
            let file = self.disk.open(path).map_err(io_error("open", path))?;
            let applied = repair::apply(self.disk, file, repair);
            self.disk.close(file);
            applied.map_err(io_error("repair", path))?;
        }
        Ok(())
    }

    /// The WAL's files as the log goes on with them. Slots beyond what it keeps are removed.
    fn adopt_files(
        &self,
        config: &Config,
        retained: Retained,
        ends: Vec<u32>,
        groups: Vec<Vec<(GroupId, u64)>>,
    ) -> WalFiles {
        let (file_bytes, free_max) = (config.wal_file_bytes, config.wal_files_free_max);
        let mut files = WalFiles::new(&config.directory, file_bytes, free_max, retained.next_slot);
        let last = retained.needed.len().checked_sub(1);
        for (index, ((found, end), groups)) in
            retained.needed.iter().zip(ends).zip(groups).enumerate()
        {
            files.files.push_back(WalFile {
                sequence: found.header.sequence,
                slot: Some(found.slot),
                capacity: found.slot.capacity,
                end,
                previous_end: found.header.previous_end,
                header_written: true,
                cut_short: Some(index) == last,
                groups,
                index_entries: 0,
                readers: 0,
            });
        }
        for slot in retained.free {
            if let Some(removal) = files.free(slot) {
                self.disk.close(slot.file);
                let _ = self.disk.remove(&removal.path);
            }
        }
        files
    }

    /// Files that nothing refers to.
    fn stale_paths(&self, checkpoints: &Checkpoints, orphans: &[u64]) -> Vec<String> {
        let mut stale = checkpoints.stale.clone();
        let superseded = checkpoints.numbers.len().saturating_sub(2);
        for number in &checkpoints.numbers[..superseded] {
            stale.push(checkpoint_path(&self.directory, *number));
        }
        // After falling back to an older checkpoint they may be all that is left of something.
        if !checkpoints.fallen_back {
            stale.extend(orphans.iter().map(|segment| segment_path(&self.directory, *segment)));
        }
        stale
    }
}

/// Header and newest mark of a WAL file, with single inverted bits put right.
fn read_header_block(block: &[u8]) -> Result<(WalHeader, WalPosition, Vec<Flip>), HeaderError> {
    let bytes = block.get(..WAL_HEADER_BYTES).unwrap_or_default();
    let mut flips = Vec::new();
    let header = match WalHeader::decode(bytes) {
        Ok(header) => header,
        Err(HeaderError::Invalid) => {
            let mended = mend_header(&mut bytes.to_vec(), |bytes| WalHeader::decode(bytes).ok());
            let (header, flip) = mended.ok_or(HeaderError::Invalid)?;
            flips.push(flip);
            header
        }
        Err(version) => return Err(version),
    };
    let mut newest = WalPosition::default();
    for at in WAL_MARKS_AT {
        let bytes = block.get(at as usize..at as usize + WAL_MARK_BYTES).unwrap_or_default();
        let own =
            |bytes: &[u8]| WalMark::decode(bytes).filter(|mark| mark.sequence == header.sequence);
        let mark = own(bytes).or_else(|| {
            let (mark, flip) = mend_header(&mut bytes.to_vec(), own)?;
            flips.push(flip.behind(u64::from(at)));
            Some(mark)
        });
        newest = mark.map_or(newest, |mark| newest.max(mark.durable));
    }
    Ok((header, newest, flips))
}

/// The streams as the manifest has them; `None` if it contradicts itself.
fn adopt_streams(records: Vec<StreamRecord>, segments: &mut Segments) -> Option<Streams> {
    let mut streams = Streams::default();
    streams.reserve(records.len());
    for record in records {
        let mut stream = Stream { start: record.start, end: record.start, ..Stream::default() };
        let mut end = 0;
        for run in record.runs {
            if run.base < end {
                return None;
            }
            end = run.end;
            if run.end > record.start {
                segments.acquire(&run);
                stream.segments.push_back(run);
            }
        }
        stream.end = stream.end.max(end);
        if record.end < record.start || streams.insert(record.stream, stream).is_some() {
            return None;
        }
    }
    Some(streams)
}
