//! The table of segment files: how much of each is still needed, who reads it, which handles are open.
//! A file is deleted only when no durable checkpoint refers to it and no read is in flight.

use crate::format::RunRecord;
use koine_base::disk::FileId;
use std::collections::BTreeMap;

pub(crate) fn segment_path(directory: &str, segment: u64) -> String {
    format!("{directory}/segments/{segment}")
}

/// What the manifest says of a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentRecord {
    pub segment: u64,
    pub pack: bool,
    /// Length of the file.
    pub bytes: u64,
}

pub(crate) struct Segment {
    pub pack: bool,
    pub bytes: u64,
    /// Bytes of the runs that streams still refer to.
    pub live: u64,
    /// A checkpoint found damage in it: it stays as it is.
    pub damaged: bool,
    readers: u32,
    doomed: bool,
    file: Option<FileId>,
    used: u64,
}

/// A file to be deleted, and its handle if it is open.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Removal {
    pub path: String,
    pub file: Option<FileId>,
}

pub(crate) struct Segments {
    directory: String,
    open_max: usize,
    table: BTreeMap<u64, Segment>,
    /// The next unused number.
    pub next: u64,
    open: usize,
    clock: u64,
    dead_bytes: u64,
}

impl Segments {
    pub(crate) fn new(directory: &str, open_max: usize) -> Self {
        Segments {
            directory: directory.to_owned(),
            open_max,
            table: BTreeMap::new(),
            next: 1,
            open: 0,
            clock: 0,
            dead_bytes: 0,
        }
    }

    pub(crate) fn add(&mut self, record: SegmentRecord) {
        let segment = Segment {
            pack: record.pack,
            bytes: record.bytes,
            live: 0,
            damaged: false,
            readers: 0,
            doomed: false,
            file: None,
            used: 0,
        };
        self.next = self.next.max(record.segment + 1);
        self.dead_bytes += record.bytes;
        let before = self.table.insert(record.segment, segment);
        assert!(before.is_none(), "segment numbers are never used twice");
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Segment)> {
        self.table
            .iter()
            .map(|(number, segment)| (*number, segment))
            .filter(|(_, segment)| !segment.doomed)
    }

    fn segment(&mut self, number: u64) -> &mut Segment {
        self.table.get_mut(&number).expect("runs refer to segments of the table only")
    }

    pub(crate) fn record(&self, number: u64) -> Option<SegmentRecord> {
        let segment = self.table.get(&number)?;
        Some(SegmentRecord { segment: number, pack: segment.pack, bytes: segment.bytes })
    }

    /// A stream refers to `run`.
    pub(crate) fn acquire(&mut self, run: &RunRecord) {
        let segment = self.segment(run.segment);
        let revived = if segment.live == 0 { segment.bytes } else { 0 };
        segment.live += run.bytes;
        self.dead_bytes -= revived;
    }

    /// A stream no longer refers to `run`.
    pub(crate) fn release(&mut self, run: &RunRecord) {
        let segment = self.segment(run.segment);
        assert!(segment.live >= run.bytes, "a run is released once");
        segment.live -= run.bytes;
        let died = if segment.live == 0 { segment.bytes } else { 0 };
        self.dead_bytes += died;
    }

    pub(crate) fn mark_damaged(&mut self, number: u64) {
        self.segment(number).damaged = true;
    }

    /// Bytes of files that no stream refers to and that no checkpoint has let go of yet.
    pub(crate) fn dead_bytes(&self) -> u64 {
        self.dead_bytes
    }

    pub(crate) fn total_bytes(&self) -> u64 {
        self.table.values().map(|segment| segment.bytes).sum()
    }

    pub(crate) fn count(&self) -> u64 {
        self.table.len() as u64
    }

    /// A read of the segment begins; returns its handle if it is open.
    pub(crate) fn begin_read(&mut self, number: u64) -> Option<FileId> {
        self.clock += 1;
        let clock = self.clock;
        let segment = self.segment(number);
        segment.readers += 1;
        segment.used = clock;
        segment.file
    }

    /// A read ended, and brought along the handle it had to open. Returns a handle to close, if any,
    /// and what can be deleted now.
    pub(crate) fn end_read(
        &mut self,
        number: u64,
        opened: Option<FileId>,
    ) -> (Option<FileId>, Option<Removal>) {
        let segment = self.segment(number);
        segment.readers -= 1;
        let mut close = None;
        match (segment.file, opened) {
            (Some(_), Some(second)) => close = Some(second),
            (None, Some(first)) => {
                segment.file = Some(first);
                self.open += 1;
            }
            (_, None) => {}
        }
        let removal = self.remove_if_idle(number);
        if close.is_none() && self.open > self.open_max {
            close = self.close_oldest();
        }
        (close, removal)
    }

    fn close_oldest(&mut self) -> Option<FileId> {
        let idle = self
            .table
            .values_mut()
            .filter(|segment| segment.readers == 0 && segment.file.is_some());
        let oldest = idle.min_by_key(|segment| segment.used)?;
        self.open -= 1;
        oldest.file.take()
    }

    /// No durable checkpoint refers to the segment any more.
    pub(crate) fn doom(&mut self, number: u64) -> Option<Removal> {
        let segment = self.segment(number);
        assert!(segment.live == 0, "a segment with live runs is not deleted");
        segment.doomed = true;
        let bytes = segment.bytes;
        self.dead_bytes -= bytes;
        self.remove_if_idle(number)
    }

    fn remove_if_idle(&mut self, number: u64) -> Option<Removal> {
        let segment = self.segment(number);
        if !segment.doomed || segment.readers > 0 {
            return None;
        }
        let file = segment.file;
        self.open -= usize::from(file.is_some());
        self.table.remove(&number);
        Some(Removal { path: segment_path(&self.directory, number), file })
    }

    /// Pack files worth rewriting: those mostly dead, and enough of one size to be merged into one.
    /// `bytes_max` limits the live bytes of all of them.
    pub(crate) fn victims(&self, bytes_max: u64, merge_count: usize) -> Vec<u64> {
        let packs = || {
            self.iter().filter(|(_, segment)| segment.pack && !segment.damaged && segment.live > 0)
        };
        let mut victims = Vec::new();
        let mut bytes = 0;
        for (number, segment) in packs() {
            if segment.live < segment.bytes / 2 && bytes + segment.live <= bytes_max {
                bytes += segment.live;
                victims.push(number);
            }
        }
        let tier = |segment: &Segment| segment.bytes.checked_ilog2().unwrap_or(0) / 2;
        let others = || packs().filter(|(number, _)| !victims.contains(number));
        let mut tiers: Vec<u32> = others().map(|(_, segment)| tier(segment)).collect();
        tiers.sort_unstable();
        tiers.dedup();
        for wanted in tiers {
            let alike: Vec<_> =
                others().filter(|(_, segment)| tier(segment) == wanted).take(merge_count).collect();
            let live: u64 = alike.iter().map(|(_, segment)| segment.live).sum();
            // All or none: rewriting fewer than that would not lower their number.
            if alike.len() == merge_count && bytes + live <= bytes_max {
                let merged: Vec<u64> = alike.iter().map(|(number, _)| *number).collect();
                victims.extend(merged);
                break;
            }
        }
        victims
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(segment: u64, bytes: u64) -> RunRecord {
        RunRecord {
            segment,
            base: 0,
            end: 1,
            position: 72,
            bytes,
            max_timestamp_ms: 0,
            index_position: 0,
            index_count: 1,
            index_crc: 0,
        }
    }

    fn table(lives: &[(u64, u64)]) -> Segments {
        let mut segments = Segments::new("0", 1);
        for (number, (bytes, live)) in lives.iter().enumerate() {
            let segment = number as u64 + 1;
            segments.add(SegmentRecord { segment, pack: true, bytes: *bytes });
            segments.acquire(&run(segment, *live));
        }
        segments
    }

    #[test]
    fn victims_are_mostly_dead_or_many_of_a_size() {
        let check = |lives: &[(u64, u64)], bytes_max, expect: &[u64]| {
            assert_eq!(table(lives).victims(bytes_max, 3), expect);
        };
        check(&[(1000, 1000), (1000, 499), (1000, 500)], 10_000, &[2]);
        check(&[(1000, 1000), (1000, 499)], 10_000, &[2]);
        check(&[(1000, 1000), (1000, 0)], 10_000, &[]);
        check(&[(1000, 900), (1000, 900), (900, 800), (1000, 900)], 10_000, &[1, 2, 3]);
        check(&[(1000, 900), (1000, 900), (9000, 8000)], 10_000, &[]);
        check(&[(1000, 900), (1000, 900), (900, 800)], 1000, &[]);
    }

    #[test]
    fn deleted_only_when_no_read_is_in_flight() {
        let mut segments = table(&[(1000, 10)]);
        assert_eq!(segments.begin_read(1), None);
        segments.release(&run(1, 10));
        assert_eq!(segments.dead_bytes(), 1000);
        assert_eq!(segments.doom(1), None);
        assert_eq!(segments.count(), 1);
        let (close, removal) = segments.end_read(1, Some(FileId(5)));
        assert_eq!(close, None);
        assert_eq!(removal, Some(Removal { path: "0/segments/1".into(), file: Some(FileId(5)) }));
        assert_eq!(segments.count(), 0);
    }

    #[test]
    fn keeps_a_limited_number_of_handles() {
        let mut segments = table(&[(1000, 10), (1000, 10)]);
        segments.begin_read(1);
        assert_eq!(segments.end_read(1, Some(FileId(5))), (None, None));
        assert_eq!(segments.begin_read(1), Some(FileId(5)));
        assert_eq!(segments.end_read(1, None), (None, None));
        segments.begin_read(2);
        assert_eq!(segments.end_read(2, Some(FileId(6))), (Some(FileId(5)), None));
        segments.begin_read(1);
        assert_eq!(segments.end_read(1, Some(FileId(7))), (Some(FileId(6)), None));
    }
}
