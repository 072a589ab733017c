//! RecordBatch v2: written by producers, read back by consumers.

use crate::frames::wire::{Put, Reader};
use crate::frames::Malformed;
use koine_base::checksum::crc32c;

const MAGIC: u8 = 2;
/// Positions inside a batch.
const LENGTH_POSITION: usize = 8;
const CRC_POSITION: usize = 17;
const CRC_START: usize = 21;
const COMPRESSION_MASK: i16 = 0x07;
const CONTROL: i16 = 0x20;

/// The numbers that make a producer idempotent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequence {
    pub producer_id: i64,
    pub epoch: i16,
    pub first: i32,
}

/// A batch of records with `key`s and bodies, uncompressed.
pub fn encode(records: &[(u32, Vec<u8>)], timestamp: i64, sequence: Option<Sequence>) -> Vec<u8> {
    let none = Sequence { producer_id: -1, epoch: -1, first: -1 };
    let sequence = sequence.unwrap_or(none);
    let mut out = Vec::new();
    out.put_i64(0); // base offset
    out.put_i32(0); // length
    out.put_i32(-1); // leader epoch
    out.put_u8(MAGIC);
    out.put_u32(0); // checksum
    out.put_i16(0); // attributes
    out.put_i32(records.len() as i32 - 1);
    out.put_i64(timestamp);
    out.put_i64(timestamp);
    out.put_i64(sequence.producer_id);
    out.put_i16(sequence.epoch);
    out.put_i32(sequence.first);
    out.put_i32(records.len() as i32);
    for (index, (key, body)) in records.iter().enumerate() {
        let mut record = vec![0]; // attributes
        put_varint(&mut record, 0); // timestamp delta
        put_varint(&mut record, index as i64);
        let key = key.to_string();
        put_varint(&mut record, key.len() as i64);
        record.put(key.as_bytes());
        put_varint(&mut record, body.len() as i64);
        record.put(body);
        put_varint(&mut record, 0); // headers
        put_varint(&mut out, record.len() as i64);
        out.put(&record);
    }
    let length = (out.len() - LENGTH_POSITION - 4) as i32;
    out[LENGTH_POSITION..LENGTH_POSITION + 4].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c(&out[CRC_START..]);
    out[CRC_POSITION..CRC_POSITION + 4].copy_from_slice(&crc.to_be_bytes());
    out
}

/// Calls `each` with offset and value of every record at or above `from`, and returns the offset
/// after the last batch. The last batch may be cut off (a fetch answers by bytes).
pub fn decode(
    records: &[u8],
    from: i64,
    mut each: impl FnMut(i64, &[u8]),
) -> Result<Option<i64>, Malformed> {
    let mut rest = records;
    let mut next = None;
    while let Some(head) = rest.get(LENGTH_POSITION..LENGTH_POSITION + 4) {
        let length = Reader::new(head, "batch length").u32()? as usize;
        let Some(batch) = rest.get(..length.saturating_add(LENGTH_POSITION + 4)) else { break };
        rest = &rest[batch.len()..];
        next = Some(decode_one(batch, from, &mut each)?);
    }
    Ok(next)
}

fn decode_one(
    batch: &[u8],
    from: i64,
    each: &mut impl FnMut(i64, &[u8]),
) -> Result<i64, Malformed> {
    let mut reader = Reader::new(batch, "record batch");
    let base = reader.i64()?;
    reader.take(8)?; // length, leader epoch
    let magic = reader.u8()?;
    let crc = reader.u32()?;
    if magic != MAGIC || crc != crc32c(reader.rest()) {
        return Err(Malformed("record batch: magic or checksum"));
    }
    let attributes = reader.i16()?;
    let last_delta = reader.i32()?;
    reader.take(30)?; // two timestamps, producer
    let count = reader.count()?;
    if attributes & (COMPRESSION_MASK | CONTROL) != 0 || last_delta < 0 {
        return Err(Malformed("record batch that nobody sent"));
    }
    for _ in 0..count {
        let length = varint(&mut reader)?;
        let mut record = Reader::new(reader.take(length_of(length)?)?, "record");
        record.u8()?; // attributes
        varint(&mut record)?; // timestamp delta
        let delta = varint(&mut record)?;
        let key = varint(&mut record)?;
        record.take(length_of(key.max(0))?)?;
        let value = varint(&mut record)?;
        let value = record.take(length_of(value.max(0))?)?;
        if base + delta >= from {
            each(base + delta, value);
        }
    }
    Ok(base + i64::from(last_delta) + 1)
}

fn length_of(length: i64) -> Result<usize, Malformed> {
    usize::try_from(length).map_err(|_| Malformed("length in a record"))
}

/// Zigzag, seven bits a byte.
fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

fn varint(reader: &mut Reader<'_>) -> Result<i64, Malformed> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = reader.u8()?;
        value |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    Err(reader.malformed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_damage_is_not() {
        let records: Vec<(u32, Vec<u8>)> =
            (0..3).map(|n| (n, vec![n as u8; n as usize * 100])).collect();
        let sequence = Sequence { producer_id: 7, epoch: 0, first: 5 };
        let batch = encode(&records, 1_700_000_000_000, Some(sequence));
        let two = [&batch[..], &batch[..batch.len() - 1]].concat();
        let mut seen = Vec::new();
        let next = decode(&two, 1, |offset, body| seen.push((offset, body.len())));
        assert_eq!((next, seen), (Ok(Some(3)), vec![(1, 100), (2, 200)]));
        let mut other = batch.clone();
        other[30] ^= 1;
        assert!(decode(&other, 0, |_, _| {}).is_err());
        for value in [0, 1, -1, 63, 64, -64, i64::MAX, i64::MIN] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            assert_eq!(varint(&mut Reader::new(&bytes, "varint")), Ok(value));
        }
    }
}
