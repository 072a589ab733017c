//! What can be wrong with a batch. Which number of which protocol answers it is decided by that
//! protocol's own table.

use std::fmt;

/// Why bytes are not an acceptable record batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchError {
    /// Fewer bytes than the header, or than the batch's own length says.
    Truncated,
    /// A message set of magic 0 or 1, the formats before Kafka 0.11.
    OldFormat(u8),
    /// Neither an old format nor version 2.
    BadMagic(u8),
    /// The checksum does not match.
    BadCrc,
    /// The batch's length is below the header's size.
    BadLength,
    /// Bytes after the one batch that was expected, or a second batch.
    NotOneBatch,
    /// No record, a negative count, or more records than allowed.
    BadRecordCount,
    /// `lastOffsetDelta` is not `count - 1`, or records' deltas are not ascending from 0.
    BadOffsetDelta,
    /// Attribute bits that a producer may not set; the bits are given.
    UnknownAttributes(u16),
    /// A producer sent a control batch.
    ControlFromProducer,
    /// A producer claims that the broker set the time.
    AppendTimeFromProducer,
    /// Producer id without sequence or epoch, or a transaction without producer id.
    BadProducer,
    /// No codec has this number.
    UnknownCodec(u8),
    /// The batch is above the byte limit.
    TooLarge,
    /// A variable-length integer is longer than its type.
    BadVarint,
    /// A record's lengths contradict each other.
    BadRecord,
    /// A foreign record of a protocol this version does not know.
    UnknownOrigin(u8),
    /// The compressed bytes are damaged.
    Decompression,
    /// Decompressing would exceed the absolute limit or the ratio.
    DecompressedTooLarge,
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BatchError::Truncated => write!(f, "record batch is cut short"),
            BatchError::OldFormat(magic) => write!(f, "message format v{magic} is not supported"),
            BatchError::BadMagic(magic) => write!(f, "unknown record batch magic {magic}"),
            BatchError::BadCrc => write!(f, "record batch checksum does not match"),
            BatchError::BadLength => write!(f, "record batch length is below its header's"),
            BatchError::NotOneBatch => write!(f, "expected exactly one record batch"),
            BatchError::BadRecordCount => write!(f, "bad record count"),
            BatchError::BadOffsetDelta => write!(f, "record offsets are not consecutive"),
            BatchError::UnknownAttributes(bits) => {
                write!(f, "unknown batch attributes {bits:#06x}")
            }
            BatchError::ControlFromProducer => write!(f, "producers may not send control batches"),
            BatchError::AppendTimeFromProducer => {
                write!(f, "producers may not set the timestamp type to log append time")
            }
            BatchError::BadProducer => write!(f, "inconsistent producer id, epoch and sequence"),
            BatchError::UnknownCodec(codec) => write!(f, "unknown compression codec {codec}"),
            BatchError::TooLarge => write!(f, "record batch is too large"),
            BatchError::BadVarint => write!(f, "malformed variable-length integer"),
            BatchError::BadRecord => write!(f, "malformed record"),
            BatchError::UnknownOrigin(byte) => write!(f, "record of unknown origin {byte}"),
            BatchError::Decompression => write!(f, "damaged compressed records"),
            BatchError::DecompressedTooLarge => write!(f, "records decompress to too many bytes"),
        }
    }
}

impl std::error::Error for BatchError {}
