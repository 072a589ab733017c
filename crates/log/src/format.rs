//! Every structure on disk, little endian, as drawn in `docs/internals/log-format.md`. Encoders are
//! infallible; decoders take bytes that may be damaged and never panic on them.

use koine_base::checksum::{crc32c, crc32c_append, Digest};
use koine_base::StreamId;

/// Version of all file formats of this crate.
pub(crate) const VERSION: u32 = 4;

/// Where frames start in a WAL file: the header has a block of its own.
pub(crate) const WAL_FRAMES_AT: u32 = 4096;
/// The two places of the synced mark in the header block, each in its own sector.
pub(crate) const WAL_MARKS_AT: [u32; 2] = [512, 1024];
pub(crate) const WAL_HEADER_BYTES: usize = 48;
pub(crate) const WAL_MARK_BYTES: usize = 24;
pub const FRAME_HEADER_BYTES: usize = 56;
pub(crate) const FRAME_ALIGN: u32 = 8;
pub(crate) const SEGMENT_HEADER_BYTES: usize = 32;
pub(crate) const RUN_HEADER_BYTES: usize = 40;
pub(crate) const RUN_RECORD_BYTES: usize = 72;
pub(crate) const INDEX_ENTRY_BYTES: usize = 32;
pub(crate) const SEGMENT_TRAILER_BYTES: usize = 40;
pub(crate) const CHECKPOINT_HEADER_BYTES: usize = 64;

const WAL_MAGIC: u64 = u64::from_le_bytes(*b"KOINEWAL");
const MARK_MAGIC: u32 = u32::from_le_bytes(*b"MARK");
const SEGMENT_MAGIC: u64 = u64::from_le_bytes(*b"KOINESEG");
const RUN_MAGIC: u32 = u32::from_le_bytes(*b"RUN1");
const TRAILER_MAGIC: u64 = u64::from_le_bytes(*b"KOINEEND");
const CHECKPOINT_MAGIC: u64 = u64::from_le_bytes(*b"KOINECKP");

const _: () = assert!(WAL_MARKS_AT[1] as usize + WAL_MARK_BYTES <= WAL_FRAMES_AT as usize);
const _: () =
    assert!(WAL_FRAMES_AT.is_multiple_of(FRAME_ALIGN) && FRAME_HEADER_BYTES.is_multiple_of(8));

/// A byte position in the whole WAL: 32 bits sequence number of the file, 32 bits position in it.
/// Positions order as the bytes were appended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WalPosition(u64);

impl WalPosition {
    pub(crate) fn new(sequence: u32, offset: u32) -> Self {
        WalPosition(u64::from(sequence) << 32 | u64::from(offset))
    }

    pub fn from_raw(raw: u64) -> Self {
        WalPosition(raw)
    }

    pub fn raw(self) -> u64 {
        self.0
    }

    /// Number of the WAL file; ascending, never used twice.
    pub fn sequence(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Byte position in the file.
    pub fn offset(self) -> u32 {
        self.0 as u32
    }

    /// The position `bytes` further in the same file.
    pub(crate) fn plus(self, bytes: u32) -> Self {
        let offset = self.offset().checked_add(bytes).expect("WAL files are below 4 GiB");
        WalPosition::new(self.sequence(), offset)
    }
}

/// Checked reader of little-endian fields.
pub(crate) struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        Some(self.array::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn i64(&mut self) -> Option<i64> {
        Some(i64::from_le_bytes(self.array()?))
    }
}

/// Puts the checksum of `bytes[..at]` at `at`.
fn seal(bytes: &mut [u8], at: usize) {
    let crc = crc32c(&bytes[..at]);
    bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
}

/// True if `bytes` holds the checksum of `bytes[..at]` at `at`.
fn sealed(bytes: &[u8], at: usize) -> bool {
    bytes.get(at..at + 4).is_some_and(|stored| stored == crc32c(&bytes[..at]).to_le_bytes())
}

/// Why a header was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderError {
    /// Not there, torn or damaged.
    Invalid,
    /// Intact, but of a version that is not known.
    Version(u32),
}

fn check_version(version: u32) -> Result<(), HeaderError> {
    if version == VERSION {
        Ok(())
    } else {
        Err(HeaderError::Version(version))
    }
}

/// First bytes of a WAL file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WalHeader {
    pub sequence: u32,
    /// Frames do not reach beyond this.
    pub capacity: u32,
    /// Where the previous file ends. Everything below was durable when this header was written.
    pub previous_end: WalPosition,
}

impl WalHeader {
    pub(crate) fn encode(&self) -> [u8; WAL_HEADER_BYTES] {
        let mut bytes = [0; WAL_HEADER_BYTES];
        bytes[0..8].copy_from_slice(&WAL_MAGIC.to_le_bytes());
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.capacity.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.previous_end.raw().to_le_bytes());
        seal(&mut bytes, 44);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<WalHeader, HeaderError> {
        if !sealed(bytes, 44) {
            return Err(HeaderError::Invalid);
        }
        let mut fields = Fields(bytes);
        let mut read = || {
            let magic = fields.u64()?;
            let version = fields.u32()?;
            fields.u32()?;
            let header = WalHeader {
                sequence: fields.u32()?,
                capacity: fields.u32()?,
                previous_end: WalPosition::from_raw(fields.u64()?),
            };
            (magic == WAL_MAGIC).then_some((version, header))
        };
        let (version, header) = read().ok_or(HeaderError::Invalid)?;
        check_version(version)?;
        if header.sequence == 0 || header.capacity < WAL_FRAMES_AT {
            return Err(HeaderError::Invalid);
        }
        Ok(header)
    }
}

/// "Everything below `durable` was on disk when this was written", in one of two places.
pub(crate) struct WalMark {
    pub sequence: u32,
    pub durable: WalPosition,
}

impl WalMark {
    pub(crate) fn encode(&self) -> [u8; WAL_MARK_BYTES] {
        let mut bytes = [0; WAL_MARK_BYTES];
        bytes[0..4].copy_from_slice(&MARK_MAGIC.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.durable.raw().to_le_bytes());
        seal(&mut bytes, 20);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<WalMark> {
        if !sealed(bytes, 20) {
            return None;
        }
        let mut fields = Fields(bytes);
        let magic = fields.u32()?;
        let mark =
            WalMark { sequence: fields.u32()?, durable: WalPosition::from_raw(fields.u64()?) };
        (magic == MARK_MAGIC).then_some(mark)
    }
}

/// In front of each payload in the WAL. The header's checksum also covers the frame's own position,
/// so bytes of an earlier use of the file, or written to a wrong place, are never taken for a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// Payload only.
    pub length: u32,
    pub kind: u8,
    pub flags: u8,
    pub group: u16,
    pub term: u64,
    pub index: u64,
    /// Everything below was durable when the frame was written.
    pub durable: WalPosition,
    pub body: BodyCheck,
}

impl FrameHeader {
    pub(crate) fn encode(&self, position: WalPosition) -> [u8; FRAME_HEADER_BYTES] {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        bytes[0..4].copy_from_slice(&self.length.to_le_bytes());
        bytes[4] = self.kind;
        bytes[5] = self.flags;
        bytes[6..8].copy_from_slice(&self.group.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.term.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.index.to_le_bytes());
        bytes[24..28].copy_from_slice(&position.sequence().to_le_bytes());
        bytes[28..32].copy_from_slice(&(position.offset() / FRAME_ALIGN).to_le_bytes());
        bytes[32..40].copy_from_slice(&self.durable.raw().to_le_bytes());
        bytes[40..48].copy_from_slice(&self.body.digest.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.body.crc.to_le_bytes());
        seal(&mut bytes, 52);
        bytes
    }

    /// `None` unless `bytes` starts with a frame header that was written for just this position.
    pub(crate) fn decode(bytes: &[u8], position: WalPosition) -> Option<FrameHeader> {
        // The place is compared first: it is all that a search over stale bytes has to look at.
        let mut place = [0; 8];
        place[0..4].copy_from_slice(&position.sequence().to_le_bytes());
        place[4..8].copy_from_slice(&(position.offset() / FRAME_ALIGN).to_le_bytes());
        if bytes.get(24..32)? != place || !sealed(bytes, 52) {
            return None;
        }
        let mut fields = Fields(bytes);
        let (length, kind, flags) = (fields.u32()?, fields.u8()?, fields.u8()?);
        let (group, term, index) = (fields.u16()?, fields.u64()?, fields.u64()?);
        fields.u64()?;
        let durable = WalPosition::from_raw(fields.u64()?);
        Some(FrameHeader {
            length,
            kind,
            flags,
            group,
            term,
            index,
            durable,
            body: BodyCheck { digest: fields.u64()?, crc: fields.u32()? },
        })
    }

    /// Padding behind the payload.
    pub(crate) fn padding(&self) -> u32 {
        self.length.next_multiple_of(FRAME_ALIGN) - self.length
    }

    /// Header, payload and padding; 64 bits because `length` may be damaged.
    pub(crate) fn total_bytes(&self) -> u64 {
        FRAME_HEADER_BYTES as u64 + u64::from(self.length).next_multiple_of(u64::from(FRAME_ALIGN))
    }
}

/// What a frame's header says of its body, payload and padding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BodyCheck {
    /// Looked at only before a damaged bit is put right: the checksum alone would take one torn body in
    /// 2^32 / bits for one with a flipped bit.
    pub digest: u64,
    pub crc: u32,
}

impl BodyCheck {
    pub(crate) fn of<'a>(pieces: impl Iterator<Item = &'a [u8]>, padding: u32) -> BodyCheck {
        let mut digest = Digest::default();
        let mut crc = 0;
        let padding = &[0; FRAME_ALIGN as usize][..padding as usize];
        for piece in pieces.chain(std::iter::once(padding)) {
            digest.add(piece);
            crc = crc32c_append(crc, piece);
        }
        BodyCheck { digest: digest.finish(), crc }
    }
}

/// First bytes of a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub segment: u64,
    pub pack: bool,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[0..8].copy_from_slice(&SEGMENT_MAGIC.to_le_bytes());
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&u32::from(self.pack).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.segment.to_le_bytes());
        seal(&mut bytes, 28);
        bytes
    }
}

/// In front of each run in a segment, so that the index can be rebuilt without the footer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunHeader {
    pub stream: StreamId,
    pub base: u64,
    pub end: u64,
    pub bytes: u64,
}

impl RunHeader {
    pub(crate) fn encode(&self) -> [u8; RUN_HEADER_BYTES] {
        let mut bytes = [0; RUN_HEADER_BYTES];
        bytes[0..4].copy_from_slice(&RUN_MAGIC.to_le_bytes());
        bytes[4..12].copy_from_slice(&self.stream.raw().to_le_bytes());
        bytes[12..20].copy_from_slice(&self.base.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.end.to_le_bytes());
        bytes[28..36].copy_from_slice(&self.bytes.to_le_bytes());
        seal(&mut bytes, 36);
        bytes
    }
}

/// Consecutive batches of one stream in one segment. The same record stands in the segment's own
/// table and in the manifest, so that opening the log reads no segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunRecord {
    pub segment: u64,
    /// First offset.
    pub base: u64,
    /// Last offset + 1.
    pub end: u64,
    /// Of the first batch in the file.
    pub position: u64,
    pub bytes: u64,
    pub max_timestamp_ms: i64,
    pub index_position: u64,
    pub index_count: u32,
    pub index_crc: u32,
}

impl RunRecord {
    pub(crate) fn encode(&self, stream: StreamId, out: &mut Vec<u8>) {
        for field in [stream.raw(), self.segment, self.base, self.end, self.position, self.bytes] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(&self.max_timestamp_ms.to_le_bytes());
        out.extend_from_slice(&self.index_position.to_le_bytes());
        out.extend_from_slice(&self.index_count.to_le_bytes());
        out.extend_from_slice(&self.index_crc.to_le_bytes());
    }

    pub(crate) fn decode(fields: &mut Fields<'_>) -> Option<(StreamId, RunRecord)> {
        let stream = StreamId::from_raw(fields.u64()?);
        let record = RunRecord {
            segment: fields.u64()?,
            base: fields.u64()?,
            end: fields.u64()?,
            position: fields.u64()?,
            bytes: fields.u64()?,
            max_timestamp_ms: fields.i64()?,
            index_position: fields.u64()?,
            index_count: fields.u32()?,
            index_crc: fields.u32()?,
        };
        (record.base < record.end && record.bytes > 0 && record.index_count > 0)
            .then_some((stream, record))
    }
}

/// The sparse index of a run: one entry per interval of whole batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    /// Base offset of the interval's first batch.
    pub offset: u64,
    /// Of that batch in the file.
    pub position: u64,
    /// Largest of the interval's batches.
    pub max_timestamp_ms: i64,
    pub bytes: u32,
    /// Checksum of the first 21 bytes of each batch of the interval, one after the other: the part of
    /// a batch that its own checksum leaves out.
    pub prefix_crc: u32,
}

impl IndexEntry {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.position.to_le_bytes());
        out.extend_from_slice(&self.max_timestamp_ms.to_le_bytes());
        out.extend_from_slice(&self.bytes.to_le_bytes());
        out.extend_from_slice(&self.prefix_crc.to_le_bytes());
    }

    pub(crate) fn decode(fields: &mut Fields<'_>) -> Option<IndexEntry> {
        Some(IndexEntry {
            offset: fields.u64()?,
            position: fields.u64()?,
            max_timestamp_ms: fields.i64()?,
            bytes: fields.u32()?,
            prefix_crc: fields.u32()?,
        })
    }
}

/// Last bytes of a segment file: where its table of runs is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentTrailer {
    pub table_position: u64,
    pub run_count: u32,
    pub table_crc: u32,
    pub segment: u64,
}

impl SegmentTrailer {
    pub(crate) fn encode(&self) -> [u8; SEGMENT_TRAILER_BYTES] {
        let mut bytes = [0; SEGMENT_TRAILER_BYTES];
        bytes[0..8].copy_from_slice(&self.table_position.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.run_count.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.table_crc.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.segment.to_le_bytes());
        bytes[24..32].copy_from_slice(&TRAILER_MAGIC.to_le_bytes());
        seal(&mut bytes, 36);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<SegmentTrailer> {
        if !sealed(bytes, 36) {
            return None;
        }
        let mut fields = Fields(bytes);
        let trailer = SegmentTrailer {
            table_position: fields.u64()?,
            run_count: fields.u32()?,
            table_crc: fields.u32()?,
            segment: fields.u64()?,
        };
        (fields.u64()? == TRAILER_MAGIC).then_some(trailer)
    }
}

/// First bytes of a checkpoint file; the body's layout is in `manifest.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CheckpointHeader {
    pub number: u64,
    /// Frames from this WAL file on are not covered by the segments.
    pub replay_from: u32,
    /// The WAL was durable up to here when the checkpoint was written.
    pub durable: WalPosition,
    /// Segment numbers from here on are unused.
    pub next_segment: u64,
    pub body_bytes: u64,
    pub body: BodyCheck,
}

impl CheckpointHeader {
    pub(crate) fn encode(&self) -> [u8; CHECKPOINT_HEADER_BYTES] {
        let mut bytes = [0; CHECKPOINT_HEADER_BYTES];
        bytes[0..8].copy_from_slice(&CHECKPOINT_MAGIC.to_le_bytes());
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.replay_from.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.durable.raw().to_le_bytes());
        bytes[32..40].copy_from_slice(&self.next_segment.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.body.digest.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.body.crc.to_le_bytes());
        seal(&mut bytes, 60);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<CheckpointHeader, HeaderError> {
        if !sealed(bytes, 60) {
            return Err(HeaderError::Invalid);
        }
        let mut fields = Fields(bytes);
        let mut read = || {
            let (magic, version) = (fields.u64()?, fields.u32()?);
            let replay_from = fields.u32()?;
            let header = CheckpointHeader {
                replay_from,
                number: fields.u64()?,
                durable: WalPosition::from_raw(fields.u64()?),
                next_segment: fields.u64()?,
                body_bytes: fields.u64()?,
                body: BodyCheck { digest: fields.u64()?, crc: fields.u32()? },
            };
            (magic == CHECKPOINT_MAGIC).then_some((version, header))
        };
        let (version, header) = read().ok_or(HeaderError::Invalid)?;
        check_version(version)?;
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every single-bit change of an encoded header must be refused.
    fn check_flips(bytes: &[u8], accepted: impl Fn(&[u8]) -> bool) {
        assert!(accepted(bytes));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!accepted(&bad), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(!accepted(&bytes[..length]), "length {length}");
        }
    }

    #[test]
    fn headers_round_trip_and_refuse_each_flipped_bit() {
        let wal =
            WalHeader { sequence: 7, capacity: 8192, previous_end: WalPosition::new(6, 5000) };
        check_flips(&wal.encode(), |bytes| WalHeader::decode(bytes) == Ok(wal));

        let mark = WalMark { sequence: 7, durable: WalPosition::new(7, 4500) };
        check_flips(&mark.encode(), |bytes| {
            WalMark::decode(bytes)
                .is_some_and(|read| read.sequence == 7 && read.durable == mark.durable)
        });

        let frame = FrameHeader {
            length: 13,
            kind: 2,
            flags: 1,
            group: 3,
            term: 4,
            index: 5,
            durable: WalPosition::new(7, 4096),
            body: BodyCheck { digest: 98, crc: 99 },
        };
        let position = WalPosition::new(7, 4160);
        check_flips(&frame.encode(position), |bytes| {
            FrameHeader::decode(bytes, position) == Some(frame)
        });
        assert_eq!(FrameHeader::decode(&frame.encode(position), WalPosition::new(8, 4160)), None);
        assert_eq!(FrameHeader::decode(&frame.encode(position), WalPosition::new(7, 4168)), None);
        assert_eq!((frame.padding(), frame.total_bytes()), (3, 72));

        let checkpoint = CheckpointHeader {
            number: 3,
            replay_from: 7,
            durable: position,
            next_segment: 12,
            body_bytes: 100,
            body: BodyCheck { digest: 4, crc: 5 },
        };
        check_flips(&checkpoint.encode(), |bytes| {
            CheckpointHeader::decode(bytes) == Ok(checkpoint)
        });
    }

    #[test]
    fn later_versions_are_told_from_damage() {
        let wal = WalHeader { sequence: 7, capacity: 8192, previous_end: WalPosition::default() };
        let mut bytes = wal.encode();
        bytes[8..12].copy_from_slice(&(VERSION + 1).to_le_bytes());
        seal(&mut bytes, 44);
        assert_eq!(WalHeader::decode(&bytes), Err(HeaderError::Version(VERSION + 1)));
    }

    #[test]
    fn positions_order_as_appended() {
        assert!(WalPosition::new(1, u32::MAX) < WalPosition::new(2, 0));
        assert_eq!(WalPosition::new(3, 9).plus(5), WalPosition::new(3, 14));
        assert_eq!(WalPosition::from_raw(WalPosition::new(3, 9).raw()).sequence(), 3);
    }
}
