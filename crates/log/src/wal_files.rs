//! The WAL's files: which sequence number lives in which slot, who still reads them, and when a slot
//! may take a new sequence number. A slot is a file on disk with a fixed name; recycling gives it a new
//! header and leaves the stale frames, which no reader can take for new ones.

use crate::format::{WalPosition, FRAME_HEADER_BYTES, WAL_FRAMES_AT};
use crate::segment::Removal;
use koine_base::disk::FileId;
use koine_base::GroupId;
use std::collections::VecDeque;

pub(crate) fn slot_path(directory: &str, slot: u64) -> String {
    format!("{directory}/wal/{slot}")
}

/// A file on disk that can hold one sequence number at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub number: u64,
    pub file: FileId,
    /// Usable bytes.
    pub capacity: u32,
}

/// One sequence number of the WAL.
pub(crate) struct WalFile {
    pub sequence: u32,
    /// None until a write needs it.
    pub slot: Option<Slot>,
    /// Frames stay below.
    pub capacity: u32,
    /// Where the next frame goes, or the end if closed.
    pub end: u32,
    pub previous_end: WalPosition,
    pub header_written: bool,
    /// Closed by a restart and not because it was full.
    pub cut_short: bool,
    /// Highest index of each group with frames in the file.
    pub groups: Vec<(GroupId, u64)>,
    /// Entries that streams keep for batches in the file.
    pub index_entries: u32,
    pub readers: u32,
}

impl WalFile {
    pub(crate) fn note_group(&mut self, group: GroupId, index: u64) {
        match self.groups.iter_mut().find(|(known, _)| *known == group) {
            Some((_, highest)) => *highest = (*highest).max(index),
            None => self.groups.push((group, index)),
        }
    }

    fn used_bytes(&self) -> u64 {
        u64::from(self.end - WAL_FRAMES_AT)
    }
}

/// Largest size of a file that somebody waits for before anything was written: it is filled with zeros
/// first, and a start should not take as long as that takes for a file of the full size.
const FIRST_FILE_BYTES: u32 = 4 << 20;

/// `files` is never empty: the last one takes the next frame.
pub(crate) struct WalFiles {
    directory: String,
    file_bytes: u32,
    free_max: usize,
    pub files: VecDeque<WalFile>,
    /// No longer needed for recovery, but for reads that are in flight.
    retired: Vec<WalFile>,
    free: Vec<Slot>,
    next_slot: u64,
}

impl WalFiles {
    pub(crate) fn new(directory: &str, file_bytes: u64, free_max: usize, next_slot: u64) -> Self {
        WalFiles {
            directory: directory.to_owned(),
            file_bytes: u32::try_from(file_bytes).expect("checked with the configuration"),
            free_max,
            files: VecDeque::new(),
            retired: Vec::new(),
            free: Vec::new(),
            next_slot,
        }
    }

    /// The file that takes the next frame.
    pub(crate) fn last(&mut self) -> &mut WalFile {
        self.files.back_mut().expect("there is always a last file")
    }

    /// Opens the first sequence number of this life of the process: small, unless a slot is there.
    pub(crate) fn begin(&mut self, sequence: u32, previous_end: WalPosition) {
        self.roll(sequence, previous_end, 0);
        if self.free.is_empty() {
            self.last().capacity = self.file_bytes.min(FIRST_FILE_BYTES);
        }
    }

    /// Closes the last file and opens the next sequence number, with room for a frame of
    /// `frame_bytes`.
    pub(crate) fn roll(&mut self, sequence: u32, previous_end: WalPosition, frame_bytes: u32) {
        let needed = frame_bytes + WAL_FRAMES_AT;
        self.files.push_back(WalFile {
            sequence,
            slot: None,
            capacity: self.file_bytes.max(needed),
            end: WAL_FRAMES_AT,
            previous_end,
            header_written: false,
            cut_short: false,
            groups: Vec::new(),
            index_entries: 0,
            readers: 0,
        });
    }

    pub(crate) fn by_sequence(&mut self, sequence: u32) -> Option<&mut WalFile> {
        let first = self.files.front()?.sequence;
        let index = sequence.checked_sub(first)?;
        self.files.get_mut(index as usize)
    }

    /// Gives the file a slot if one fits; false if one has to be created.
    pub(crate) fn bind(&mut self, sequence: u32) -> bool {
        let Some(file) = self.by_sequence(sequence) else {
            return false;
        };
        if file.slot.is_some() {
            return true;
        }
        let needed = file.capacity;
        let Some(found) = self.free.iter().position(|slot| slot.capacity >= needed) else {
            return false;
        };
        let slot = self.free.swap_remove(found);
        let file = self.by_sequence(sequence).expect("found above");
        file.slot = Some(slot);
        true
    }

    /// True if the file of this position has a slot.
    pub(crate) fn is_bound(&self, position: WalPosition) -> bool {
        let first = self.files.front().map_or(0, |file| file.sequence);
        let index = position.sequence().checked_sub(first);
        let file = index.and_then(|index| self.files.get(index as usize));
        file.is_some_and(|file| file.slot.is_some())
    }

    /// True if the last file is more than half full and there is no slot ready to follow it.
    pub(crate) fn wants_spare(&self) -> bool {
        let Some(last) = self.files.back() else {
            return false;
        };
        self.free.is_empty() && last.slot.is_some() && last.end > last.capacity / 2
    }

    /// Name and size of the slot to create for a file of `capacity`.
    pub(crate) fn next_slot(&mut self, capacity: Option<u32>) -> (u64, String, u32) {
        let number = self.next_slot;
        self.next_slot += 1;
        (number, slot_path(&self.directory, number), capacity.unwrap_or(self.file_bytes))
    }

    /// Takes a slot back, or a new one in. Those of odd size, and those beyond the wanted number, are
    /// to be removed.
    pub(crate) fn free(&mut self, slot: Slot) -> Option<Removal> {
        if slot.capacity == self.file_bytes && self.free.len() < self.free_max {
            self.free.push(slot);
            return None;
        }
        Some(Removal { path: slot_path(&self.directory, slot.number), file: Some(slot.file) })
    }

    /// Like [`Self::free`] for a slot just created: whatever asked for it must find it.
    pub(crate) fn add_created(&mut self, slot: Slot) {
        self.free.push(slot);
    }

    pub(crate) fn free_count(&self) -> usize {
        self.free.len()
    }

    /// The first file that a checkpoint must keep, given the index that each group has applied.
    pub(crate) fn first_needed(&self, applied: impl Fn(GroupId) -> Option<u64>) -> u32 {
        let covered = |file: &&WalFile| {
            file.groups
                .iter()
                .all(|(group, index)| applied(*group).is_some_and(|applied| applied >= *index))
        };
        let closed = self.files.len().saturating_sub(1);
        let count = self.files.iter().take(closed).take_while(covered).count();
        self.files[count].sequence
    }

    /// Frames of the group no longer matter.
    pub(crate) fn forget_group(&mut self, group: GroupId) {
        for file in &mut self.files {
            file.groups.retain(|(known, _)| *known != group);
        }
    }

    /// Takes files below `sequence` out of the WAL; their slots are free once nobody reads them.
    pub(crate) fn recycle(&mut self, sequence: u32, removals: &mut Vec<Removal>) -> u64 {
        let mut count = 0;
        while self.files.front().is_some_and(|file| file.sequence < sequence) {
            let Some(file) = self.files.pop_front() else {
                break;
            };
            count += 1;
            if file.readers > 0 {
                self.retired.push(file);
            } else if let Some(slot) = file.slot {
                removals.extend(self.free(slot));
            }
        }
        count
    }

    pub(crate) fn begin_read(&mut self, sequence: u32) -> FileId {
        let file = self.by_sequence(sequence).expect("streams refer to files of the WAL only");
        file.readers += 1;
        file.slot.expect("only what is written is read").file
    }

    pub(crate) fn end_read(&mut self, sequence: u32) -> Option<Removal> {
        if let Some(file) = self.by_sequence(sequence) {
            file.readers -= 1;
            return None;
        }
        let found = self.retired.iter().position(|file| file.sequence == sequence);
        let index = found.expect("a file with readers is kept");
        self.retired[index].readers -= 1;
        if self.retired[index].readers > 0 {
            return None;
        }
        let file = self.retired.swap_remove(index);
        file.slot.and_then(|slot| self.free(slot))
    }

    /// Closed files that a checkpoint could free.
    pub(crate) fn closed_count(&self) -> usize {
        self.files.len().saturating_sub(1)
    }

    /// True if there is enough in closed files to be worth a checkpoint. A restart closes the last file
    /// however little is in it; that alone is not worth one.
    pub(crate) fn checkpoint_worthwhile(&self) -> bool {
        let closed = || self.files.iter().take(self.closed_count());
        let used: u64 = closed().map(WalFile::used_bytes).sum();
        closed().any(|file| !file.cut_short)
            || self.closed_count() >= 2
            || used >= u64::from(self.file_bytes) / 4
    }

    /// Makes the last file one that takes a frame of `frame_bytes`. `appended` is where the last frame
    /// ends. An empty file is made larger rather than left behind: sequence numbers have no gaps.
    pub(crate) fn make_room(
        &mut self,
        frame_bytes: u32,
        index_entries_max: u32,
        appended: WalPosition,
    ) {
        let last = self.last();
        if last.end == WAL_FRAMES_AT {
            assert!(last.slot.is_none(), "a file gets its slot with its first write");
            last.capacity = last.capacity.max(WAL_FRAMES_AT + frame_bytes);
        } else if last.index_entries >= index_entries_max || last.capacity - last.end < frame_bytes
        {
            let next = last.sequence.checked_add(1).expect("2^32 WAL files take centuries");
            self.roll(next, appended, frame_bytes);
        }
    }
}

/// Bytes of a frame in the file.
pub(crate) fn frame_bytes(payload_bytes: u32) -> u32 {
    FRAME_HEADER_BYTES as u32 + payload_bytes.next_multiple_of(crate::format::FRAME_ALIGN)
}
