//! Kafka's RecordBatch v2: the one form in which records of every protocol are stored, replicated
//! and fetched. A Kafka producer's batch is checked once at ingress and kept verbatim; the broker
//! writes only the 12 bytes that lie outside the checksum. Records of other protocols are packed
//! into such batches by [`BatchBuilder`].
//!
//! Bytes of a peer never panic here and never make it allocate more than its limits say. Nothing in
//! this module knows streams, topics or errors of a protocol.
//!
//! ```text
//! 0            8        12       16  17    21         23              27
//! | baseOffset | length | epoch  | 2 | crc | attributes | lastOffsetDelta |
//! 27              35             43           51              53             57      61
//! | baseTimestamp | maxTimestamp | producerId | producerEpoch | baseSequence | count | records
//! ```
//! `length` counts what follows it (from `epoch`); `crc` covers everything from `attributes`.

pub use crate::message::Origin;

mod builder;
mod decompress;
mod error;
mod header;
mod record;
mod varint;

#[cfg(test)]
mod tests;

pub use builder::{control_batch, BatchBuilder, Marker};
pub use error::BatchError;
pub use header::{
    batches, patch, set_append_time, validate_from_producer, BatchHeader, BatchInfo, Batches,
};
pub use record::{records, Header, Headers, Record, Records};

/// Bytes of a batch before its records.
pub const HEADER_BYTES: usize = 61;

/// Bytes of `baseOffset` and `length`, which `length` does not count.
pub const LENGTH_END: usize = 12;

/// No producer id, no producer epoch, no base sequence: the batch is not idempotent.
pub const NO_PRODUCER: i64 = -1;

/// Bits of a batch's `attributes`.
pub mod attribute {
    /// Codec number, see [`super::Codec`].
    pub const CODEC: u16 = 0x0007;
    /// All records carry the broker's time (`maxTimestamp`) instead of their own.
    pub const LOG_APPEND_TIME: u16 = 0x0008;
    pub const TRANSACTIONAL: u16 = 0x0010;
    /// Holds one transaction marker; only the broker writes these.
    pub const CONTROL: u16 = 0x0020;
    /// `baseTimestamp` is the time before which a compacted tombstone stays.
    pub const DELETE_HORIZON: u16 = 0x0040;
    /// Ours: the records' attributes byte is their origin protocol, and the first header of each
    /// (empty key) is that protocol's envelope. Kafka clients ignore the bit.
    pub const FOREIGN: u16 = 0x0100;
    /// What a producer may set.
    pub const FROM_PRODUCER: u16 = CODEC | TRANSACTIONAL;
}

/// How the records after the header are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    None = 0,
    Gzip = 1,
    /// Raw, or in the framing of the Java library ("xerial").
    Snappy = 2,
    /// The LZ4 frame format.
    Lz4 = 3,
    Zstd = 4,
}

impl Codec {
    pub fn from_attributes(attributes: u16) -> Result<Codec, BatchError> {
        match attributes & attribute::CODEC {
            0 => Ok(Codec::None),
            1 => Ok(Codec::Gzip),
            2 => Ok(Codec::Snappy),
            3 => Ok(Codec::Lz4),
            4 => Ok(Codec::Zstd),
            other => Err(BatchError::UnknownCodec(other as u8)),
        }
    }
}

/// What a batch of a peer may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Largest batch, header included. Kafka's `message.max.bytes`.
    pub batch_bytes_max: usize,
    /// Most records of one batch. A compressed batch could claim 2^31 offsets with a few bytes.
    pub record_count_max: u32,
    /// Most bytes that the records of one batch may decompress to.
    pub decompressed_bytes_max: usize,
    /// Most decompressed bytes per compressed byte, once above [`Self::RATIO_FREE_BYTES`].
    pub decompressed_ratio_max: usize,
}

impl BatchLimits {
    /// Below this size no ratio is enforced: a batch of a few equal records may honestly shrink
    /// a thousandfold.
    pub const RATIO_FREE_BYTES: usize = 4 << 20;

    /// The most that `compressed_bytes` may become.
    pub fn decompressed_bytes_allowed(&self, compressed_bytes: usize) -> usize {
        compressed_bytes
            .saturating_mul(self.decompressed_ratio_max)
            .max(Self::RATIO_FREE_BYTES)
            .min(self.decompressed_bytes_max)
    }
}

impl Default for BatchLimits {
    fn default() -> Self {
        BatchLimits {
            // Kafka's default for `message.max.bytes`.
            batch_bytes_max: (1 << 20) + 12,
            // 8 bytes or more per record: 32 MiB of the smallest records.
            record_count_max: 4 << 20,
            decompressed_bytes_max: 64 << 20,
            decompressed_ratio_max: 256,
        }
    }
}
