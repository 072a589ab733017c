//! Writes one segment file: runs of batches as they came, then the runs' indexes, then the table of
//! runs. Runs on a disk thread, inside a checkpoint.

use crate::batch::{BatchHeader, PREFIX_BYTES};
use crate::format::{
    IndexEntry, RunHeader, RunRecord, SegmentHeader, SegmentTrailer, INDEX_ENTRY_BYTES,
    RUN_HEADER_BYTES, RUN_RECORD_BYTES, SEGMENT_HEADER_BYTES, SEGMENT_TRAILER_BYTES,
};
use crate::segment::{segment_path, SegmentRecord};
use bytes::Bytes;
use koine_base::checksum::{crc32c, crc32c_append};
use koine_base::disk::{Disk, FileId};
use koine_base::StreamId;
use std::io;

/// Batches gathered for one write.
const WRITE_BYTES: usize = 1 << 20;

pub(crate) struct SegmentWriter<'d> {
    disk: &'d dyn Disk,
    file: FileId,
    record: SegmentRecord,
    index_interval_bytes: u32,
    position: u64,
    waiting: Vec<Bytes>,
    waiting_bytes: usize,
    runs: Vec<OpenRun>,
}

struct OpenRun {
    stream: StreamId,
    base: u64,
    end: u64,
    position: u64,
    bytes: u64,
    max_timestamp_ms: i64,
    index: Vec<IndexEntry>,
}

impl<'d> SegmentWriter<'d> {
    /// `bytes` of batches in `runs` runs are expected; the file is preallocated for them.
    pub(crate) fn create(
        disk: &'d dyn Disk,
        directory: &str,
        segment: u64,
        pack: bool,
        expected: Expected,
        index_interval_bytes: u32,
    ) -> io::Result<Self> {
        let path = segment_path(directory, segment);
        let file = disk.create(&path, expected.bytes_before_indexes())?;
        let header = SegmentHeader { segment, pack }.encode();
        Ok(SegmentWriter {
            disk,
            file,
            record: SegmentRecord { segment, pack, bytes: 0 },
            index_interval_bytes,
            position: SEGMENT_HEADER_BYTES as u64,
            waiting: vec![Bytes::copy_from_slice(&header)],
            waiting_bytes: header.len(),
            runs: Vec::new(),
        })
    }

    /// What the file holds so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.position
    }

    /// Begins a run of exactly `header.bytes` bytes of batches.
    pub(crate) fn begin_run(&mut self, header: RunHeader) {
        self.put(Bytes::copy_from_slice(&header.encode()));
        self.runs.push(OpenRun {
            stream: header.stream,
            base: header.base,
            end: header.end,
            position: self.position,
            bytes: 0,
            max_timestamp_ms: i64::MIN,
            index: Vec::new(),
        });
    }

    /// Adds a checked batch to the run.
    pub(crate) fn add(&mut self, header: &BatchHeader, batch: Bytes) -> io::Result<()> {
        let run = self.runs.last_mut().expect("begin_run comes first");
        let full = run.index.last().is_none_or(|entry| entry.bytes >= self.index_interval_bytes);
        if full {
            run.index.push(IndexEntry {
                offset: header.base_offset,
                position: self.position,
                max_timestamp_ms: i64::MIN,
                bytes: 0,
                prefix_crc: 0,
            });
        }
        let entry = run.index.last_mut().expect("pushed above if there was none");
        entry.bytes += header.bytes;
        entry.max_timestamp_ms = entry.max_timestamp_ms.max(header.max_timestamp_ms);
        entry.prefix_crc = crc32c_append(entry.prefix_crc, &batch[..PREFIX_BYTES]);
        run.max_timestamp_ms = run.max_timestamp_ms.max(header.max_timestamp_ms);
        run.bytes += u64::from(header.bytes);
        self.put(batch);
        if self.waiting_bytes >= WRITE_BYTES {
            self.write_waiting()?;
        }
        Ok(())
    }

    fn put(&mut self, bytes: Bytes) {
        self.position += bytes.len() as u64;
        self.waiting_bytes += bytes.len();
        self.waiting.push(bytes);
    }

    fn write_waiting(&mut self) -> io::Result<()> {
        let pieces: Vec<&[u8]> = self.waiting.iter().map(|piece| &piece[..]).collect();
        let begin = self.position - self.waiting_bytes as u64;
        self.disk.write_past_cache(self.file, begin, &pieces)?;
        self.waiting.clear();
        self.waiting_bytes = 0;
        Ok(())
    }

    /// Gives up; the file is still to be removed.
    pub(crate) fn abandon(self) {
        self.disk.close(self.file);
    }

    /// Writes the footer and syncs the file. The directory is still to be synced.
    pub(crate) fn finish(mut self) -> io::Result<(SegmentRecord, Vec<(StreamId, RunRecord)>)> {
        let mut records = Vec::with_capacity(self.runs.len());
        let mut table = Vec::with_capacity(self.runs.len() * RUN_RECORD_BYTES);
        for run in std::mem::take(&mut self.runs) {
            let mut index = Vec::with_capacity(run.index.len() * INDEX_ENTRY_BYTES);
            run.index.iter().for_each(|entry| entry.encode(&mut index));
            let record = RunRecord {
                segment: self.record.segment,
                base: run.base,
                end: run.end,
                position: run.position,
                bytes: run.bytes,
                max_timestamp_ms: run.max_timestamp_ms,
                index_position: self.position,
                index_count: run.index.len() as u32,
                index_crc: crc32c(&index),
            };
            record.encode(run.stream, &mut table);
            records.push((run.stream, record));
            self.put(Bytes::from(index));
        }
        let trailer = SegmentTrailer {
            table_position: self.position,
            run_count: records.len() as u32,
            table_crc: crc32c(&table),
            segment: self.record.segment,
        };
        self.put(Bytes::from(table));
        self.put(Bytes::copy_from_slice(&trailer.encode()));
        let written = self.write_waiting().and_then(|()| self.disk.sync(self.file));
        self.disk.close(self.file);
        written?;
        Ok((SegmentRecord { bytes: self.position, ..self.record }, records))
    }
}

/// What will go into a segment file, as far as it is known beforehand.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Expected {
    pub batch_bytes: u64,
    pub runs: u64,
}

impl Expected {
    /// Length of the file without the indexes, which are at least one entry per run: the trailer is
    /// always the end of the file.
    fn bytes_before_indexes(&self) -> u64 {
        let per_run = (RUN_HEADER_BYTES + RUN_RECORD_BYTES) as u64;
        (SEGMENT_HEADER_BYTES + SEGMENT_TRAILER_BYTES) as u64
            + self.batch_bytes
            + self.runs * per_run
    }
}
