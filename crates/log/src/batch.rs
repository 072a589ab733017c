//! The few header fields of a RecordBatch v2 that storage needs (all big endian). It never looks at
//! records, and never changes a byte.
//!
//! ```text
//! 0            8            12           16      17      21
//! | baseOffset | batchLength | leaderEpoch | magic | crc32c | ... crc covers from here to the end
//! 21         23                27             35             43
//! | attributes | lastOffsetDelta | baseTimestamp | maxTimestamp | ... 61: records
//! ```

use koine_base::checksum::crc32c;

/// Header up to the first record.
pub(crate) const BATCH_BYTES_MIN: usize = 61;
/// The part in front of what the batch's own checksum covers.
pub(crate) const PREFIX_BYTES: usize = 21;
/// `batchLength` counts from here.
const LENGTH_FROM: u32 = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub base_offset: u64,
    pub last_offset: u64,
    /// Of the whole batch, header included.
    pub bytes: u32,
    pub crc: u32,
    pub max_timestamp_ms: i64,
}

impl BatchHeader {
    /// `None` if the bytes cannot be a batch. `bytes` may go on behind the batch, or end within it.
    pub(crate) fn parse(bytes: &[u8]) -> Option<BatchHeader> {
        if bytes.len() < BATCH_BYTES_MIN || bytes[16] != 2 {
            return None;
        }
        let u32_at = |at: usize| {
            u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let u64_at = |at: usize| u64::from(u32_at(at)) << 32 | u64::from(u32_at(at + 4));
        let base_offset = u64_at(0);
        let length = u32_at(8);
        let last_delta = u32_at(23);
        let plausible = base_offset <= i64::MAX as u64 - u64::from(u32::MAX)
            && length >= BATCH_BYTES_MIN as u32 - LENGTH_FROM
            && length <= i32::MAX as u32 - LENGTH_FROM
            && last_delta <= i32::MAX as u32;
        plausible.then(|| BatchHeader {
            base_offset,
            last_offset: base_offset + u64::from(last_delta),
            bytes: length + LENGTH_FROM,
            crc: u32_at(17),
            max_timestamp_ms: u64_at(35) as i64,
        })
    }

    /// Like [`Self::parse`], but the whole batch must be there and match its checksum.
    pub(crate) fn verified(bytes: &[u8]) -> Option<BatchHeader> {
        let header = Self::parse(bytes)?;
        let body = bytes.get(PREFIX_BYTES..header.bytes as usize)?;
        (crc32c(body) == header.crc).then_some(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::batch;

    #[test]
    fn reads_the_fields() {
        let bytes = batch(1000, 3, 77, 40);
        let header = BatchHeader::verified(&bytes).unwrap();
        let expect = BatchHeader {
            base_offset: 1000,
            last_offset: 1002,
            bytes: 101,
            crc: header.crc,
            max_timestamp_ms: 77,
        };
        assert_eq!(header, expect);
    }

    #[test]
    fn refuses_each_bad_field() {
        let good = batch(1000, 3, 77, 40).to_vec();
        let check = |at: usize, bytes: &[u8]| {
            let mut bad = good.clone();
            bad[at..at + bytes.len()].copy_from_slice(bytes);
            assert_eq!(BatchHeader::verified(&bad), None, "changed byte {at}");
        };
        check(0, &[0x80]);
        check(8, &[0xff]);
        check(8, &[0, 0, 0, 48]);
        check(8, &[0x7f, 0xff, 0xff, 0xff]);
        check(11, &[good[11] + 1]);
        check(16, &[1]);
        check(17, &[!good[17]]);
        check(23, &[0x80]);
        check(100, &[!good[100]]);
        for length in 0..good.len() {
            assert_eq!(BatchHeader::verified(&good[..length]), None);
        }
    }
}
