//! The body of a data group's entry: a sequence of operations, all of them committed or none.
//!
//! ```text
//! | 1 append  | stream u64 | base offset u64 | length u32 | RecordBatch v2, offsets patched |
//! | 2 settle  | stream u64 | length u32 | cursor delta |
//! | 3 trim    | stream u64 | new start u64 |
//! | 4 offsets | length u32 | committed offsets of consumer groups |
//! | 5 mark    | nothing: somebody waits for what was committed before |
//! | 6 once    | stream u64 | session u64 | packet identifier u16 | use number u64 |
//! ```
//! Numbers are big-endian. What is read back here was written by this node and has passed the frame's
//! checksum, so a malformed operation is damage that the checksum did not see: it ends the process.

use bytes::{Buf, Bytes};
use koine_base::StreamId;
use koine_broker::once::OnceId;

const APPEND: u8 = 1;
const SETTLE: u8 = 2;
const TRIM: u8 = 3;
const OFFSETS: u8 = 4;
const MARK: u8 = 5;
const ONCE: u8 = 6;

/// Bytes before the batch of an append.
pub const APPEND_HEADER_BYTES: usize = 1 + 8 + 8 + 4;

/// An entry may keep this part of its length as room that it does not need.
const SPARE_SHARE_MAX: usize = 16;

/// One operation of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `position` is where `batch` begins in the entry.
    Append {
        stream: StreamId,
        base_offset: u64,
        batch: Bytes,
        position: usize,
    },
    Settle {
        stream: StreamId,
        delta: Bytes,
    },
    Trim {
        stream: StreamId,
        start: u64,
    },
    Offsets {
        commit: Bytes,
    },
    /// Nothing: somebody waits for what was committed before.
    Mark,
    /// The entry appends a copy of this publish to the stream.
    Once {
        stream: StreamId,
        id: OnceId,
    },
}

impl Operation {
    /// The stream that it changes.
    pub fn stream(&self) -> Option<StreamId> {
        match self {
            Operation::Append { stream, .. }
            | Operation::Settle { stream, .. }
            | Operation::Trim { stream, .. }
            | Operation::Once { stream, .. } => Some(*stream),
            Operation::Offsets { .. } | Operation::Mark => None,
        }
    }
}

/// The entry is not a sequence of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedEntry;

/// Grows the next entry of a group.
#[derive(Default)]
pub struct EntryWriter {
    bytes: Vec<u8>,
    /// How long the last entry was: the next is given that room at once.
    last_bytes: usize,
    /// There is more in it than settlements.
    has_more: bool,
}

/// Most room that an entry is given before it needs it.
const ROOM_BYTES_MAX: usize = 1 << 20;

impl EntryWriter {
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True also if it is empty.
    pub fn holds_settlements_only(&self) -> bool {
        !self.has_more
    }

    /// Appends a batch and returns it for patching.
    pub fn append(&mut self, stream: StreamId, base_offset: u64, batch: &[u8]) -> &mut [u8] {
        if self.bytes.is_empty() && self.last_bytes > self.bytes.capacity() {
            self.bytes.reserve(self.last_bytes.min(ROOM_BYTES_MAX));
        }
        self.bytes.reserve(APPEND_HEADER_BYTES + batch.len());
        self.has_more = true;
        self.bytes.push(APPEND);
        self.bytes.extend_from_slice(&stream.raw().to_be_bytes());
        self.bytes.extend_from_slice(&base_offset.to_be_bytes());
        self.put_sized(batch);
        let start = self.bytes.len() - batch.len();
        &mut self.bytes[start..]
    }

    pub fn settle(&mut self, stream: StreamId, delta: &[u8]) {
        self.bytes.push(SETTLE);
        self.bytes.extend_from_slice(&stream.raw().to_be_bytes());
        self.put_sized(delta);
    }

    pub fn trim(&mut self, stream: StreamId, start: u64) {
        self.has_more = true;
        self.bytes.push(TRIM);
        self.bytes.extend_from_slice(&stream.raw().to_be_bytes());
        self.bytes.extend_from_slice(&start.to_be_bytes());
    }

    pub fn offsets(&mut self, commit: &[u8]) {
        self.has_more = true;
        self.bytes.push(OFFSETS);
        self.put_sized(commit);
    }

    pub fn once(&mut self, stream: StreamId, id: OnceId) {
        self.has_more = true;
        self.bytes.push(ONCE);
        self.bytes.extend_from_slice(&stream.raw().to_be_bytes());
        self.bytes.extend_from_slice(&id.to_bytes());
    }

    pub fn mark(&mut self) {
        self.has_more = true;
        self.bytes.push(MARK);
    }

    fn put_sized(&mut self, part: &[u8]) {
        let length = u32::try_from(part.len()).expect("requests are below 4 GiB");
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(part);
    }

    /// The finished entry; the writer is empty again. What it grew into in vain goes: the tail cache
    /// keeps the entry, and counts its length.
    pub fn take(&mut self) -> Vec<u8> {
        let mut entry = std::mem::take(&mut self.bytes);
        self.last_bytes = entry.len();
        self.has_more = false;
        if entry.capacity() - entry.len() > entry.len() / SPARE_SHARE_MAX {
            entry.shrink_to_fit();
        }
        entry
    }
}

/// True if the entry does nothing but settle what was delivered, and nobody waits for that (see
/// [`Operation::Mark`]).
pub fn holds_settlements_only(mut entry: &[u8]) -> bool {
    const LENGTH_AT: usize = 1 + 8;
    while let [SETTLE, ..] = entry {
        let length = entry.get(LENGTH_AT..LENGTH_AT + 4).and_then(|bytes| bytes.try_into().ok());
        let Some(length) = length.map(u32::from_be_bytes) else { return false };
        let rest = entry.get(LENGTH_AT + 4 + length as usize..);
        let Some(rest) = rest else { return false };
        if rest.is_empty() {
            return true;
        }
        entry = rest;
    }
    false
}

/// Walks the operations of an entry.
pub struct Operations {
    entry: Bytes,
    rest: Bytes,
}

pub fn operations(entry: Bytes) -> Operations {
    Operations { rest: entry.clone(), entry }
}

impl Iterator for Operations {
    type Item = Result<Operation, MalformedEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let operation = self.read();
        if operation.is_none() {
            self.rest.clear();
        }
        Some(operation.ok_or(MalformedEntry))
    }
}

impl Operations {
    fn read(&mut self) -> Option<Operation> {
        match self.rest.get_u8() {
            APPEND => {
                let stream = StreamId::from_raw(self.take_u64()?);
                let base_offset = self.take_u64()?;
                let batch = self.take_sized()?;
                let position = self.entry.len() - self.rest.len() - batch.len();
                Some(Operation::Append { stream, base_offset, batch, position })
            }
            SETTLE => {
                let stream = StreamId::from_raw(self.take_u64()?);
                Some(Operation::Settle { stream, delta: self.take_sized()? })
            }
            TRIM => {
                let stream = StreamId::from_raw(self.take_u64()?);
                Some(Operation::Trim { stream, start: self.take_u64()? })
            }
            OFFSETS => Some(Operation::Offsets { commit: self.take_sized()? }),
            MARK => Some(Operation::Mark),
            ONCE => {
                let stream = StreamId::from_raw(self.take_u64()?);
                let id = (self.rest.len() >= OnceId::BYTES)
                    .then(|| self.rest.split_to(OnceId::BYTES))?;
                Some(Operation::Once { stream, id: OnceId::from_bytes(&id)? })
            }
            _ => None,
        }
    }

    fn take_u64(&mut self) -> Option<u64> {
        (self.rest.len() >= 8).then(|| self.rest.get_u64())
    }

    fn take_sized(&mut self) -> Option<Bytes> {
        if self.rest.len() < 4 {
            return None;
        }
        let length = self.rest.get_u32() as usize;
        (length <= self.rest.len()).then(|| self.rest.split_to(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use koine_base::GroupId;

    #[test]
    fn operations_come_back_in_order_and_positions_point_at_batches() {
        let stream = StreamId::new(GroupId(1), 7);
        let mut writer = EntryWriter::default();
        writer.append(stream, 100, b"batch").copy_from_slice(b"BATCH");
        writer.settle(stream, b"delta");
        writer.trim(stream, 50);
        writer.offsets(b"commit");
        let session = koine_broker::metadata::SessionId(1 << 40);
        let id = OnceId { session, packet_identifier: 65_535, use_number: 9 };
        writer.once(stream, id);
        let entry = Bytes::from(writer.take());
        assert!(writer.is_empty());
        let seen: Vec<_> = operations(entry.clone()).collect::<Result<_, _>>().expect("whole");
        let Operation::Append { position, batch, .. } = &seen[0] else { panic!("{seen:?}") };
        assert_eq!(&entry[*position..*position + 5], b"BATCH");
        assert_eq!(&batch[..], b"BATCH");
        assert_eq!(seen[2], Operation::Trim { stream, start: 50 });
        assert_eq!(seen[4], Operation::Once { stream, id });
        assert_eq!(seen.len(), 5);
        for end in 1..entry.len() {
            let cut: Vec<_> = operations(entry.slice(..end)).collect();
            let whole = cut.iter().filter(|operation| operation.is_ok()).count();
            assert!(whole < 5, "cut at {end}");
        }
    }
}
