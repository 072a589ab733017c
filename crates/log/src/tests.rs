//! Shared by the tests of this crate.

mod bitflips;
mod damage;
mod harness;
mod model;
mod scripts;

use bytes::{BufMut, Bytes, BytesMut};
use koine_base::checksum::crc32c;

/// A RecordBatch v2 with `count` records, whose records part is `filler` bytes.
pub(crate) fn batch(base: u64, count: u32, max_timestamp_ms: i64, filler: usize) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u64(base);
    bytes.put_u32((61 - 12 + filler) as u32);
    bytes.put_u32(0);
    bytes.put_u8(2);
    bytes.put_u32(0);
    bytes.put_u16(0);
    bytes.put_u32(count - 1);
    bytes.put_i64(max_timestamp_ms);
    bytes.put_i64(max_timestamp_ms);
    bytes.put_i64(-1);
    bytes.put_i16(-1);
    bytes.put_i32(-1);
    bytes.put_u32(count);
    for n in 0..filler {
        bytes.put_u8((base as usize * 7 + n) as u8);
    }
    let crc = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.freeze()
}
