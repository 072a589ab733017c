//! The header of a batch as a checked view, the check of a producer's batch, and the few fields that
//! the broker writes into a batch it did not make.

use super::record::RecordLayout;
use super::{attribute, varint, BatchError, BatchLimits, Codec, HEADER_BYTES, LENGTH_END};
use bytes::Bytes;
use koine_base::checksum::crc32c;

/// Position of the magic byte, the same in every format there ever was.
const MAGIC_POSITION: usize = 16;
const CRC_POSITION: usize = 17;
/// The checksum covers the batch from here.
const CRC_START: usize = 21;
const MAX_TIMESTAMP_POSITION: usize = 35;

/// The header of one batch whose bytes are all there. Fields are read on demand.
#[derive(Clone, Copy, Debug)]
pub struct BatchHeader<'a> {
    /// Exactly the batch.
    bytes: &'a [u8],
    header: &'a [u8; HEADER_BYTES],
}

impl<'a> BatchHeader<'a> {
    /// Checks magic and length only; `bytes` may go on behind the batch.
    pub fn new(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let batch_bytes = Self::batch_bytes(bytes)?;
        let bytes = bytes.get(..batch_bytes).ok_or(BatchError::Truncated)?;
        let header = bytes.first_chunk().ok_or(BatchError::Truncated)?;
        Ok(BatchHeader { bytes, header })
    }

    /// Size of the batch that starts at `bytes`, of which only the first 17 bytes need be there.
    pub fn batch_bytes(bytes: &[u8]) -> Result<usize, BatchError> {
        match bytes.get(MAGIC_POSITION) {
            None => return Err(BatchError::Truncated),
            Some(2) => {}
            Some(&old @ 0..=1) => return Err(BatchError::OldFormat(old)),
            Some(&other) => return Err(BatchError::BadMagic(other)),
        }
        let mut length = [0; 4];
        length.copy_from_slice(&bytes[8..LENGTH_END]);
        let length =
            usize::try_from(i32::from_be_bytes(length)).map_err(|_| BatchError::BadLength)?;
        if length < HEADER_BYTES - LENGTH_END {
            return Err(BatchError::BadLength);
        }
        Ok(length + LENGTH_END)
    }

    fn field<const N: usize>(&self, position: usize) -> [u8; N] {
        let mut field = [0; N];
        field.copy_from_slice(&self.header[position..position + N]);
        field
    }

    /// The batch, header included.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// What follows the header, compressed or not.
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..]
    }

    pub fn base_offset(&self) -> u64 {
        u64::from_be_bytes(self.field(0))
    }

    /// The offset after the last record's. Saturates on nonsense.
    pub fn next_offset(&self) -> u64 {
        self.base_offset()
            .saturating_add(u64::from(self.last_offset_delta().max(0) as u32))
            .saturating_add(1)
    }

    pub fn leader_epoch(&self) -> i32 {
        i32::from_be_bytes(self.field(12))
    }

    pub fn crc(&self) -> u32 {
        u32::from_be_bytes(self.field(CRC_POSITION))
    }

    pub fn crc_is_good(&self) -> bool {
        crc32c(&self.bytes[CRC_START..]) == self.crc()
    }

    pub fn attributes(&self) -> u16 {
        u16::from_be_bytes(self.field(21))
    }

    pub fn has(&self, attribute: u16) -> bool {
        self.attributes() & attribute != 0
    }

    pub fn codec(&self) -> Result<Codec, BatchError> {
        Codec::from_attributes(self.attributes())
    }

    pub fn last_offset_delta(&self) -> i32 {
        i32::from_be_bytes(self.field(23))
    }

    pub fn base_timestamp(&self) -> i64 {
        i64::from_be_bytes(self.field(27))
    }

    pub fn max_timestamp(&self) -> i64 {
        i64::from_be_bytes(self.field(MAX_TIMESTAMP_POSITION))
    }

    pub fn producer_id(&self) -> i64 {
        i64::from_be_bytes(self.field(43))
    }

    pub fn producer_epoch(&self) -> i16 {
        i16::from_be_bytes(self.field(51))
    }

    pub fn base_sequence(&self) -> i32 {
        i32::from_be_bytes(self.field(53))
    }

    /// Records in the batch; after compaction fewer than offsets. Negative only in a damaged batch.
    pub fn record_count(&self) -> i32 {
        i32::from_be_bytes(self.field(57))
    }

    pub fn info(&self) -> Result<BatchInfo, BatchError> {
        Ok(BatchInfo {
            batch_bytes: self.bytes.len(),
            record_count: u32::try_from(self.record_count())
                .map_err(|_| BatchError::BadRecordCount)?,
            attributes: self.attributes(),
            codec: self.codec()?,
            base_timestamp: self.base_timestamp(),
            max_timestamp: self.max_timestamp(),
            producer_id: self.producer_id(),
            producer_epoch: self.producer_epoch(),
            base_sequence: self.base_sequence(),
        })
    }
}

/// What the append path needs to know of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchInfo {
    pub batch_bytes: usize,
    /// Records, and from a producer also offsets.
    pub record_count: u32,
    pub attributes: u16,
    pub codec: Codec,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    /// [`super::NO_PRODUCER`] if the producer is not idempotent.
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
}

impl BatchInfo {
    pub fn is_idempotent(&self) -> bool {
        self.producer_id >= 0
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes & attribute::TRANSACTIONAL != 0
    }
}

/// Accepts `bytes` only if they are exactly one batch that a producer may send: whole, undamaged,
/// with consecutive offsets from 0 and no bit that is the broker's to set. Uncompressed records are
/// walked; compressed ones are not looked into here, [`super::records`] checks them when read.
pub fn validate_from_producer(
    bytes: &Bytes,
    limits: &BatchLimits,
) -> Result<BatchInfo, BatchError> {
    let header = BatchHeader::new(bytes)?;
    if header.bytes().len() != bytes.len() {
        return Err(BatchError::NotOneBatch);
    }
    if bytes.len() > limits.batch_bytes_max {
        return Err(BatchError::TooLarge);
    }
    if !header.crc_is_good() {
        return Err(BatchError::BadCrc);
    }
    check_attributes(header.attributes())?;
    let info = header.info()?;
    if info.record_count == 0 || info.record_count > limits.record_count_max {
        return Err(BatchError::BadRecordCount);
    }
    if i64::from(header.last_offset_delta()) != i64::from(info.record_count) - 1 {
        return Err(BatchError::BadOffsetDelta);
    }
    check_producer(&info)?;
    if info.codec == Codec::None {
        walk(header.payload(), info.record_count)?;
    }
    Ok(info)
}

fn check_attributes(attributes: u16) -> Result<(), BatchError> {
    if attributes & attribute::CONTROL != 0 {
        return Err(BatchError::ControlFromProducer);
    }
    if attributes & attribute::LOG_APPEND_TIME != 0 {
        return Err(BatchError::AppendTimeFromProducer);
    }
    let unknown = attributes & !attribute::FROM_PRODUCER;
    if unknown != 0 {
        return Err(BatchError::UnknownAttributes(unknown));
    }
    Ok(())
}

fn check_producer(info: &BatchInfo) -> Result<(), BatchError> {
    let consistent = if info.is_idempotent() {
        info.producer_epoch >= 0 && info.base_sequence >= 0
    } else {
        !info.is_transactional()
    };
    if consistent {
        Ok(())
    } else {
        Err(BatchError::BadProducer)
    }
}

/// Checks the structure of uncompressed records: every length fits, offsets are 0, 1, 2 and so on.
fn walk(payload: &[u8], record_count: u32) -> Result<(), BatchError> {
    let mut position = 0;
    for expect_delta in 0..record_count {
        let length = varint::read_varint(payload, &mut position)?;
        let length = usize::try_from(length).map_err(|_| BatchError::BadRecord)?;
        let body = payload[position..].get(..length).ok_or(BatchError::BadRecord)?;
        let layout = RecordLayout::parse(body)?;
        if layout.offset_delta != expect_delta as i32 {
            return Err(BatchError::BadOffsetDelta);
        }
        position += length;
    }
    if position != payload.len() {
        return Err(BatchError::BadRecordCount);
    }
    Ok(())
}

/// Writes the assigned offset and the leader's epoch. Both lie outside the checksum.
///
/// `bytes` must hold at least the header of a checked batch.
pub fn patch(bytes: &mut [u8], base_offset: u64, leader_epoch: i32) {
    bytes[0..8].copy_from_slice(&base_offset.to_be_bytes());
    bytes[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// Stamps the broker's time (milliseconds since 1970) on all records of a checked batch, for topics
/// with log append time. This changes bytes under the checksum, so it is computed anew.
pub fn set_append_time(bytes: &mut [u8], timestamp: i64) {
    bytes[22] |= attribute::LOG_APPEND_TIME as u8;
    bytes[MAX_TIMESTAMP_POSITION..MAX_TIMESTAMP_POSITION + 8]
        .copy_from_slice(&timestamp.to_be_bytes());
    seal(bytes);
}

/// Writes the checksum of a batch that is complete otherwise.
pub(super) fn seal(bytes: &mut [u8]) {
    let crc = crc32c(&bytes[CRC_START..]);
    bytes[CRC_POSITION..CRC_START].copy_from_slice(&crc.to_be_bytes());
}

/// The batches that lie one after the other in `bytes`, such as the answer to a fetch or a piece of
/// a segment. A cut-off last batch is an error item.
pub fn batches(bytes: Bytes) -> Batches {
    Batches { rest: bytes }
}

/// See [`batches`].
#[derive(Debug)]
pub struct Batches {
    rest: Bytes,
}

impl Iterator for Batches {
    type Item = Result<Bytes, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match BatchHeader::new(&self.rest).map(|header| header.bytes().len()) {
            Ok(batch_bytes) => Some(Ok(self.rest.split_to(batch_bytes))),
            Err(error) => {
                self.rest.clear();
                Some(Err(error))
            }
        }
    }
}
