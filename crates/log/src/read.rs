//! Reading batches back from disk. Everything that leaves here has been checked: the batch's own
//! checksum, and the checksum over the part of the header which that one leaves out.

use crate::batch::{BatchHeader, PREFIX_BYTES};
use crate::error::ReadError;
use crate::format::{Fields, IndexEntry, RunRecord, INDEX_ENTRY_BYTES};
use crate::stream::WalRun;
use bytes::Bytes;
use koine_base::checksum::{crc32c, crc32c_append};
use koine_base::disk::{Disk, FileId};
use koine_base::StreamId;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// One read brings at most this, or one interval or batch if that is larger.
pub(crate) const READ_BYTES_MAX: usize = 8 << 20;

/// Runs in a WAL file that lie this close together are read in one go.
const WAL_GAP_BYTES_MAX: u32 = 4 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    Batches,
    /// The first batch with a max timestamp of at least this.
    Timestamp(i64),
}

#[derive(Debug)]
pub(crate) enum Source {
    Wal {
        file: FileId,
        /// In ascending order, all in this file.
        runs: Vec<WalRun>,
    },
    Segment {
        path: String,
        file: Option<FileId>,
        run: RunRecord,
        index: Option<Arc<[IndexEntry]>>,
    },
}

#[derive(Debug)]
pub(crate) struct ReadPlan {
    pub token: u64,
    pub stream: StreamId,
    pub offset: u64,
    pub offset_end: u64,
    pub bytes_max: usize,
    pub goal: Goal,
    pub source: Source,
    /// Nobody waits for it.
    pub in_background: bool,
}

#[derive(Debug)]
pub(crate) enum ReadFound {
    Batches(Vec<Bytes>),
    /// Base offset and max timestamp of the batch found.
    Timestamp(Option<(u64, i64)>),
}

#[derive(Debug)]
pub(crate) struct ReadDone {
    pub token: u64,
    pub outcome: Result<ReadFound, ReadError>,
    pub opened: Option<FileId>,
    pub index: Option<Arc<[IndexEntry]>>,
}

/// Why a stretch of bytes on disk gives no batches.
#[derive(Debug)]
pub(crate) enum FetchError {
    /// What should be here starts with this offset.
    Corrupt(u64),
    Io(io::Error),
}

impl From<io::Error> for FetchError {
    fn from(error: io::Error) -> Self {
        FetchError::Io(error)
    }
}

/// Reads exactly `bytes` bytes; `None` if the file is shorter.
pub(crate) fn read_exact(
    disk: &dyn Disk,
    file: FileId,
    position: u64,
    bytes: usize,
) -> io::Result<Option<Bytes>> {
    let mut buffer = vec![0; bytes];
    let count = disk.read_at(file, position, &mut buffer)?;
    Ok((count == bytes).then(|| Bytes::from(buffer)))
}

/// Splits a stretch of whole batches and checks each. `offsets` begins with the first one's base offset
/// and ends behind the last one's last, `prefix_crc` is the checksum over all prefixes.
pub(crate) fn check_batches(
    stretch: &Bytes,
    offsets: Range<u64>,
    prefix_crc: u32,
    out: &mut Vec<(BatchHeader, Bytes)>,
) -> Result<(), FetchError> {
    let first = out.len();
    let base = offsets.start;
    let mut expected = base;
    let mut crc = 0;
    let mut at = 0;
    while at < stretch.len() {
        let header = BatchHeader::verified(&stretch[at..]).ok_or(FetchError::Corrupt(expected))?;
        let ascending =
            if at == 0 { header.base_offset == base } else { header.base_offset >= expected };
        if !ascending || header.last_offset >= offsets.end {
            return Err(FetchError::Corrupt(expected));
        }
        crc = crc32c_append(crc, &stretch[at..at + PREFIX_BYTES]);
        expected = header.last_offset + 1;
        let end = at + header.bytes as usize;
        out.push((header, stretch.slice(at..end)));
        at = end;
    }
    if crc != prefix_crc || out.len() == first {
        return Err(FetchError::Corrupt(base));
    }
    Ok(())
}

/// Where the batches of a stretch are, if that is sure: the checksum over their prefixes, which say so,
/// matches. Their own checksums are not looked at.
pub(crate) fn split_batches(
    stretch: &[u8],
    offsets: Range<u64>,
    prefix_crc: u32,
) -> Option<Vec<(usize, BatchHeader)>> {
    let mut batches = Vec::new();
    let (mut at, mut expected, mut crc) = (0, offsets.start, 0);
    while at < stretch.len() {
        let header = BatchHeader::parse(&stretch[at..])?;
        crc = crc32c_append(crc, &stretch[at..at + PREFIX_BYTES]);
        // The last offset is not in the prefix: a batch that is damaged there ends where the next begins.
        if header.base_offset < expected || header.bytes as usize > stretch.len() - at {
            return None;
        }
        expected = header.base_offset + 1;
        batches.push((at, header));
        at += header.bytes as usize;
    }
    for next in (1..=batches.len()).rev() {
        let end = batches.get(next).map_or(offsets.end, |(_, header)| header.base_offset);
        let header = &mut batches[next - 1].1;
        if header.base_offset >= end {
            return None;
        }
        header.last_offset = header.last_offset.min(end - 1);
        if BatchHeader::verified(&stretch[batches[next - 1].0..]).is_none() {
            batches[next - 1].1.last_offset = end - 1;
        }
    }
    (crc == prefix_crc).then_some(batches)
}

/// Of an interval with damage in it what lies between `offset` and the damage.
fn sound_part(
    stretch: &Bytes,
    offsets: Range<u64>,
    prefix_crc: u32,
    offset: u64,
) -> Result<Vec<(BatchHeader, Bytes)>, FetchError> {
    let whole = FetchError::Corrupt(offsets.start);
    let batches = split_batches(stretch, offsets, prefix_crc).ok_or(whole)?;
    let mut sound = Vec::new();
    for (at, header) in batches.into_iter().filter(|(_, header)| header.last_offset >= offset) {
        if BatchHeader::verified(&stretch[at..]).is_none() {
            return match sound.is_empty() {
                true => Err(FetchError::Corrupt(header.base_offset)),
                false => Ok(sound),
            };
        }
        sound.push((header, stretch.slice(at..at + header.bytes as usize)));
    }
    Ok(sound)
}

/// Reads runs of one WAL file, as many as `runs` has, joining those close together.
pub(crate) fn fetch_wal(
    disk: &dyn Disk,
    file: FileId,
    runs: &[WalRun],
    out: &mut Vec<(BatchHeader, Bytes)>,
) -> Result<(), FetchError> {
    let mut first = 0;
    while first < runs.len() {
        let start = runs[first].position.offset();
        let mut end = start + runs[first].bytes;
        let mut next = first + 1;
        while next < runs.len()
            && runs[next]
                .position
                .offset()
                .checked_sub(end)
                .is_some_and(|gap| gap <= WAL_GAP_BYTES_MAX)
            && (runs[next].position.offset() - start) as usize <= READ_BYTES_MAX
        {
            end = runs[next].position.offset() + runs[next].bytes;
            next += 1;
        }
        let buffer = read_exact(disk, file, u64::from(start), (end - start) as usize)?;
        let buffer = buffer.ok_or(FetchError::Corrupt(runs[first].base))?;
        for run in &runs[first..next] {
            let from = (run.position.offset() - start) as usize;
            let stretch = buffer.slice(from..from + run.bytes as usize);
            check_batches(&stretch, run.base..run.end(), run.prefix_crc, out)?;
        }
        first = next;
    }
    Ok(())
}

/// The sparse index of a run.
pub(crate) fn fetch_index(
    disk: &dyn Disk,
    file: FileId,
    run: &RunRecord,
) -> Result<Arc<[IndexEntry]>, FetchError> {
    let bytes = run.index_count as usize * INDEX_ENTRY_BYTES;
    let buffer = read_exact(disk, file, run.index_position, bytes)?;
    let buffer = buffer
        .filter(|buffer| crc32c(buffer) == run.index_crc)
        .ok_or(FetchError::Corrupt(run.base))?;
    let mut fields = Fields(&buffer);
    let entries = (0..run.index_count).map_while(|_| IndexEntry::decode(&mut fields)).collect();
    Ok(entries)
}

/// Reads adjacent intervals of a segment's run in one go: those of `index` with these numbers.
pub(crate) fn fetch_intervals(
    disk: &dyn Disk,
    file: FileId,
    run: &RunRecord,
    index: &[IndexEntry],
    numbers: Range<usize>,
    out: &mut Vec<(BatchHeader, Bytes)>,
) -> Result<(), FetchError> {
    let intervals = &index[numbers.clone()];
    let Some(first) = intervals.first() else {
        return Ok(());
    };
    let bytes: usize = intervals.iter().map(|interval| interval.bytes as usize).sum();
    let buffer =
        read_exact(disk, file, first.position, bytes)?.ok_or(FetchError::Corrupt(first.offset))?;
    let mut at = 0;
    for (interval, number) in intervals.iter().zip(numbers) {
        let stretch = buffer.slice(at..at + interval.bytes as usize);
        let end = index.get(number + 1).map_or(run.end, |next| next.offset);
        check_batches(&stretch, interval.offset..end, interval.prefix_crc, out)?;
        at += interval.bytes as usize;
    }
    Ok(())
}

impl ReadPlan {
    pub(crate) fn execute(self, disk: &dyn Disk) -> ReadDone {
        let mut done = ReadDone {
            token: self.token,
            outcome: Ok(ReadFound::Batches(Vec::new())),
            opened: None,
            index: None,
        };
        let found = match &self.source {
            Source::Wal { file, runs } => self.execute_wal(disk, *file, runs),
            Source::Segment { path, file, run, index } => {
                self.open_segment(disk, path, *file, &mut done).and_then(|file| {
                    let index = match index {
                        Some(index) => index.clone(),
                        None => done.index.insert(fetch_index(disk, file, run)?).clone(),
                    };
                    self.execute_segment(disk, file, run, &index)
                })
            }
        };
        done.outcome = found.map_err(|error| match error {
            FetchError::Corrupt(offset) => ReadError::Corrupt { stream: self.stream, offset },
            FetchError::Io(error) => ReadError::Io { stream: self.stream, kind: error.kind() },
        });
        done
    }

    fn open_segment(
        &self,
        disk: &dyn Disk,
        path: &str,
        file: Option<FileId>,
        done: &mut ReadDone,
    ) -> Result<FileId, FetchError> {
        match file {
            Some(file) => Ok(file),
            None => Ok(*done.opened.insert(disk.open(path)?)),
        }
    }

    fn execute_wal(
        &self,
        disk: &dyn Disk,
        file: FileId,
        runs: &[WalRun],
    ) -> Result<ReadFound, FetchError> {
        let mut batches = Vec::new();
        fetch_wal(disk, file, runs, &mut batches)?;
        Ok(match self.goal {
            Goal::Batches => ReadFound::Batches(self.select(batches)),
            Goal::Timestamp(wanted_ms) => {
                ReadFound::Timestamp(self.select_timestamp(&batches, wanted_ms))
            }
        })
    }

    fn execute_segment(
        &self,
        disk: &dyn Disk,
        file: FileId,
        run: &RunRecord,
        index: &[IndexEntry],
    ) -> Result<ReadFound, FetchError> {
        let first = index.partition_point(|entry| entry.offset <= self.offset).saturating_sub(1);
        let mut batches = Vec::new();
        if let Goal::Timestamp(wanted_ms) = self.goal {
            for number in first..index.len() {
                if index[number].max_timestamp_ms < wanted_ms {
                    continue;
                }
                batches.clear();
                fetch_intervals(disk, file, run, index, number..number + 1, &mut batches)?;
                if let Some(found) = self.select_timestamp(&batches, wanted_ms) {
                    return Ok(ReadFound::Timestamp(Some(found)));
                }
            }
            return Ok(ReadFound::Timestamp(None));
        }
        let mut bytes = 0;
        let mut last = first;
        while last < index.len() && (last == first || bytes < self.bytes_max) {
            bytes += index[last].bytes as usize;
            last += 1;
        }
        match fetch_intervals(disk, file, run, index, first..last, &mut batches) {
            Err(FetchError::Corrupt(_)) => {
                // Damage costs what is damaged, not its neighbours.
                let entry = index.get(first).ok_or(FetchError::Corrupt(run.base))?;
                let end = index.get(first + 1).map_or(run.end, |next| next.offset);
                let stretch = read_exact(disk, file, entry.position, entry.bytes as usize)?;
                let stretch = stretch.ok_or(FetchError::Corrupt(entry.offset))?;
                batches = sound_part(&stretch, entry.offset..end, entry.prefix_crc, self.offset)?;
            }
            other => other?,
        }
        Ok(ReadFound::Batches(self.select(batches)))
    }

    /// Of checked batches those asked for.
    fn select(&self, batches: Vec<(BatchHeader, Bytes)>) -> Vec<Bytes> {
        let mut bytes = 0;
        let mut selected: Vec<Bytes> = Vec::new();
        for (header, batch) in batches {
            if header.last_offset < self.offset {
                continue;
            }
            let over = !selected.is_empty() && bytes + batch.len() > self.bytes_max;
            if header.last_offset >= self.offset_end || over {
                break;
            }
            bytes += batch.len();
            selected.push(batch);
        }
        selected
    }

    fn select_timestamp(
        &self,
        batches: &[(BatchHeader, Bytes)],
        wanted_ms: i64,
    ) -> Option<(u64, i64)> {
        let headers = batches.iter().map(|(header, _)| header);
        let mut fitting = headers.filter(|header| {
            header.last_offset >= self.offset && header.max_timestamp_ms >= wanted_ms
        });
        fitting.next().map(|header| (header.base_offset, header.max_timestamp_ms))
    }
}
