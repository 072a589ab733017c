//! Makes uncompressed batches record by record, straight into their final bytes. This is the hot path
//! of every protocol but Kafka: one growing buffer, no allocation per record.

use super::header::seal;
use super::varint::{put_varlong, varlong_bytes, VARINT_BYTES_MAX, VARLONG_BYTES_MAX};
use super::{attribute, Origin, HEADER_BYTES, LENGTH_END};
use bytes::{Bytes, BytesMut};

/// Record length, attributes, timestamp delta, offset delta and key length, at their longest.
const HEAD_BYTES_MAX: usize =
    VARINT_BYTES_MAX + 1 + VARLONG_BYTES_MAX + VARINT_BYTES_MAX + VARINT_BYTES_MAX;

/// What a transaction marker says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    Abort = 0,
    Commit = 1,
}

/// A batch under construction. After [`Self::finish`] it can be used again with
/// [`Self::restart`], which keeps what is left of the buffer.
///
/// Callers cut their batches well below 2^31 bytes and records; going over is a bug and panics.
#[derive(Debug)]
pub struct BatchBuilder {
    /// Starts with room for the header, filled in at the end.
    buffer: BytesMut,
    record_count: u32,
    attributes: u16,
    base_timestamp: i64,
    max_timestamp: i64,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
}

impl BatchBuilder {
    /// `base_timestamp`: milliseconds since 1970; records near it take fewer bytes.
    pub fn new(base_timestamp: i64) -> Self {
        Self::with_capacity(base_timestamp, 0)
    }

    /// Room for `capacity_bytes` of records before the buffer grows.
    pub fn with_capacity(base_timestamp: i64, capacity_bytes: usize) -> Self {
        let mut builder = BatchBuilder {
            buffer: BytesMut::with_capacity(HEADER_BYTES + capacity_bytes),
            record_count: 0,
            attributes: 0,
            base_timestamp,
            max_timestamp: -1,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
        };
        builder.buffer.resize(HEADER_BYTES, 0);
        builder
    }

    /// Begins the next batch, dropping records pushed since the last [`Self::finish`].
    pub fn restart(&mut self, base_timestamp: i64) {
        self.buffer.clear();
        self.buffer.resize(HEADER_BYTES, 0);
        self.record_count = 0;
        self.attributes = 0;
        self.base_timestamp = base_timestamp;
        self.max_timestamp = -1;
        self.set_producer(-1, -1, -1);
    }

    pub fn set_producer(&mut self, producer_id: i64, producer_epoch: i16, base_sequence: i32) {
        self.producer_id = producer_id;
        self.producer_epoch = producer_epoch;
        self.base_sequence = base_sequence;
    }

    /// Sets bits of the batch's attributes, see [`attribute`].
    pub fn add_attributes(&mut self, attributes: u16) {
        debug_assert!(attributes & attribute::CODEC == 0, "builds uncompressed batches only");
        self.attributes |= attributes;
    }

    pub fn record_count(&self) -> u32 {
        self.record_count
    }

    pub fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// Size of the batch so far, header included.
    pub fn batch_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Appends a plain record and returns its offset delta. The value is the pieces one after the
    /// other.
    pub fn push(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[&[u8]]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) -> u32 {
        let value_bytes = value.map(total_bytes);
        let mut tail_bytes = varlong_bytes(headers.len() as i64);
        for (key, value) in headers {
            tail_bytes +=
                bytes_and_length(Some(key.len())) + bytes_and_length(value.map(<[u8]>::len));
        }
        let delta = self.put_head(0, timestamp, key, bytes_and_length(value_bytes) + tail_bytes);
        self.put_length(value_bytes);
        for piece in value.unwrap_or_default() {
            self.buffer.extend_from_slice(piece);
        }
        self.put_number(headers.len() as i64);
        for (key, value) in headers {
            self.put_field(Some(key));
            self.put_field(*value);
        }
        delta
    }

    /// Appends a record of another protocol: `envelope` (pieces one after the other) becomes the
    /// value of its one header. Marks the batch [`attribute::FOREIGN`].
    pub fn push_foreign(
        &mut self,
        origin: Origin,
        timestamp: i64,
        envelope: &[&[u8]],
        key: Option<&[u8]>,
        value: &[&[u8]],
    ) -> u32 {
        self.attributes |= attribute::FOREIGN;
        let value_bytes = total_bytes(value);
        let envelope_bytes = total_bytes(envelope);
        // One byte each: header count 1, empty header key.
        let tail_bytes =
            bytes_and_length(Some(value_bytes)) + 2 + bytes_and_length(Some(envelope_bytes));
        let delta = self.put_head(origin as u8, timestamp, key, tail_bytes);
        self.put_length(Some(value_bytes));
        for piece in value {
            self.buffer.extend_from_slice(piece);
        }
        let mut head = [0; 2 + VARINT_BYTES_MAX];
        head[0] = 2; // zigzag of 1
        let mut end = 2;
        put_varlong(&mut head, &mut end, envelope_bytes as i64);
        self.buffer.extend_from_slice(&head[..end]);
        for piece in envelope {
            self.buffer.extend_from_slice(piece);
        }
        delta
    }

    /// Writes a record up to and including its key; `rest_bytes` will follow.
    #[inline]
    fn put_head(
        &mut self,
        attributes: u8,
        timestamp: i64,
        key: Option<&[u8]>,
        rest_bytes: usize,
    ) -> u32 {
        let delta = self.record_count;
        let timestamp_delta = timestamp.wrapping_sub(self.base_timestamp);
        let body_bytes = 1
            + varlong_bytes(timestamp_delta)
            + varlong_bytes(i64::from(delta))
            + bytes_and_length(key.map(<[u8]>::len))
            + rest_bytes;
        let record_bytes = body_bytes + varlong_bytes(body_bytes as i64);
        assert!(
            self.buffer.len() + record_bytes <= i32::MAX as usize && delta < i32::MAX as u32,
            "a batch may not reach 2 GiB or 2^31 records: the caller cuts batches far below"
        );
        self.buffer.reserve(record_bytes);

        let mut head = [0; HEAD_BYTES_MAX];
        let mut end = 0;
        put_varlong(&mut head, &mut end, body_bytes as i64);
        head[end] = attributes;
        end += 1;
        put_varlong(&mut head, &mut end, timestamp_delta);
        put_varlong(&mut head, &mut end, i64::from(delta));
        put_varlong(&mut head, &mut end, key.map_or(-1, |key| key.len() as i64));
        self.buffer.extend_from_slice(&head[..end]);
        if let Some(key) = key {
            self.buffer.extend_from_slice(key);
        }
        self.record_count = delta + 1;
        self.max_timestamp = self.max_timestamp.max(timestamp);
        delta
    }

    fn put_number(&mut self, value: i64) {
        let mut number = [0; VARLONG_BYTES_MAX];
        let mut end = 0;
        put_varlong(&mut number, &mut end, value);
        self.buffer.extend_from_slice(&number[..end]);
    }

    fn put_length(&mut self, length: Option<usize>) {
        self.put_number(length.map_or(-1, |length| length as i64));
    }

    fn put_field(&mut self, field: Option<&[u8]>) {
        self.put_length(field.map(<[u8]>::len));
        self.buffer.extend_from_slice(field.unwrap_or_default());
    }

    /// Completes the batch and takes it out. [`Self::restart`] before the next record.
    pub fn finish(&mut self, base_offset: u64, leader_epoch: i32) -> Bytes {
        assert!(self.record_count > 0, "a batch without records has no last offset");
        let length = (self.buffer.len() - LENGTH_END) as i32;
        let last_delta = self.record_count as i32 - 1;
        let header = &mut self.buffer[..HEADER_BYTES];
        header[0..8].copy_from_slice(&base_offset.to_be_bytes());
        header[8..12].copy_from_slice(&length.to_be_bytes());
        header[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
        header[16] = 2;
        header[21..23].copy_from_slice(&self.attributes.to_be_bytes());
        header[23..27].copy_from_slice(&last_delta.to_be_bytes());
        header[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        header[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        header[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        header[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        header[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        header[57..61].copy_from_slice(&(self.record_count as i32).to_be_bytes());
        seal(&mut self.buffer);
        let batch = self.buffer.split().freeze();
        self.record_count = 0;
        batch
    }
}

/// The batch that ends a transaction of one producer in one stream. It takes one offset.
pub fn control_batch(
    base_offset: u64,
    leader_epoch: i32,
    producer: (i64, i16),
    marker: Marker,
    coordinator_epoch: i32,
    timestamp: i64,
) -> Bytes {
    // Key: version 0, type. Value: version 0, coordinator epoch.
    let key = [0, 0, 0, marker as u8];
    let mut value = [0; 6];
    value[2..].copy_from_slice(&coordinator_epoch.to_be_bytes());
    let mut builder = BatchBuilder::new(timestamp);
    builder.add_attributes(attribute::CONTROL | attribute::TRANSACTIONAL);
    builder.set_producer(producer.0, producer.1, -1);
    builder.push(timestamp, Some(&key), Some(&[&value]), &[]);
    builder.finish(base_offset, leader_epoch)
}

/// Bytes of a field together with its length; `None` is the null field.
#[inline]
fn bytes_and_length(length: Option<usize>) -> usize {
    match length {
        Some(length) => length + varlong_bytes(length as i64),
        None => 1,
    }
}

#[inline]
fn total_bytes(pieces: &[&[u8]]) -> usize {
    pieces.iter().map(|piece| piece.len()).sum()
}
