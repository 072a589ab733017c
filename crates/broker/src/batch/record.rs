//! Reading the records of a stored batch. A [`Record`] shares the batch's (or the decompressed)
//! buffer; nothing is copied per record.
//!
//! ```text
//! | length | attributes | timestamp delta | offset delta | key length | key | value length | value |
//! | header count | { key length | key | value length | value } ... |      length -1 is "none"
//! ```

use super::varint::{read_varint, read_varlong};
use super::{
    attribute, decompress, BatchError, BatchHeader, BatchLimits, Codec, Origin, HEADER_BYTES,
};
use bytes::Bytes;

/// Bytes `start..end` of a record's body; `start == NONE` for a null key or value.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    const NONE: u32 = u32::MAX;

    fn of<'a>(&self, body: &'a [u8]) -> Option<&'a [u8]> {
        (self.start != Self::NONE).then(|| &body[self.start as usize..self.end as usize])
    }

    fn shared(&self, body: &Bytes) -> Option<Bytes> {
        (self.start != Self::NONE).then(|| body.slice(self.start as usize..self.end as usize))
    }
}

/// Where the parts of one record's body lie; every range was checked against the body.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordLayout {
    attributes: u8,
    timestamp_delta: i64,
    pub(super) offset_delta: i32,
    key: Span,
    value: Span,
    headers_start: u32,
    count_start: u32,
    header_count: u32,
}

impl RecordLayout {
    /// Parses a body whose length came from a 32-bit number. All of it must be used up.
    #[inline]
    pub(super) fn parse(body: &[u8]) -> Result<Self, BatchError> {
        let attributes = *body.first().ok_or(BatchError::BadRecord)?;
        let mut position = 1;
        let timestamp_delta = read_varlong(body, &mut position)?;
        let offset_delta = read_varint(body, &mut position)?;
        let key = read_span(body, &mut position)?;
        let value = read_span(body, &mut position)?;
        let count_start = position as u32;
        let header_count = read_varint(body, &mut position)?;
        let header_count = u32::try_from(header_count).map_err(|_| BatchError::BadRecord)?;
        let headers_start = position as u32;
        // A header takes two bytes or more, so a false count runs out of bytes, not of time.
        for _ in 0..header_count {
            if read_span(body, &mut position)?.start == Span::NONE {
                return Err(BatchError::BadRecord);
            }
            read_span(body, &mut position)?;
        }
        if position != body.len() {
            return Err(BatchError::BadRecord);
        }
        Ok(RecordLayout {
            attributes,
            timestamp_delta,
            offset_delta,
            key,
            value,
            headers_start,
            count_start,
            header_count,
        })
    }
}

#[inline]
fn read_span(body: &[u8], position: &mut usize) -> Result<Span, BatchError> {
    let length = read_varint(body, position)?;
    if length < 0 {
        if length != -1 {
            return Err(BatchError::BadRecord);
        }
        return Ok(Span { start: Span::NONE, end: Span::NONE });
    }
    let start = *position;
    if length as usize > body.len() - start {
        return Err(BatchError::BadRecord);
    }
    *position = start + length as usize;
    Ok(Span { start: start as u32, end: *position as u32 })
}

/// One record. Cloning shares the buffer.
#[derive(Clone, Debug)]
pub struct Record {
    body: Bytes,
    layout: RecordLayout,
    offset: u64,
    timestamp: i64,
    origin: Origin,
}

impl Record {
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Milliseconds since 1970, the producer's or the broker's as the batch says; -1 for none.
    pub fn timestamp(&self) -> i64 {
        self.timestamp
    }

    /// The protocol that wrote it.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    pub fn key(&self) -> Option<&[u8]> {
        self.layout.key.of(&self.body)
    }

    pub fn key_bytes(&self) -> Option<Bytes> {
        self.layout.key.shared(&self.body)
    }

    pub fn value(&self) -> Option<&[u8]> {
        self.layout.value.of(&self.body)
    }

    pub fn value_bytes(&self) -> Option<Bytes> {
        self.layout.value.shared(&self.body)
    }

    pub fn header_count(&self) -> usize {
        self.layout.header_count as usize
    }

    /// All headers in order, duplicates included. Of a foreign record the first is its envelope.
    pub fn headers(&self) -> Headers<'_> {
        Headers {
            body: &self.body,
            position: self.layout.headers_start as usize,
            remaining: self.layout.header_count,
        }
    }

    /// The headers as they stand in the record, count included.
    pub fn header_block(&self) -> Bytes {
        self.body.slice(self.layout.count_start as usize..)
    }

    /// The bytes that the writing protocol needs to give the record back as it came: the value of
    /// the first header of a foreign record. `None` for Kafka's own records.
    pub fn envelope(&self) -> Option<&[u8]> {
        if self.origin == Origin::Kafka {
            return None;
        }
        self.headers().next().filter(|header| header.key.is_empty())?.value
    }

    /// [`Self::envelope`], sharing the buffer.
    pub fn envelope_bytes(&self) -> Option<Bytes> {
        self.envelope().map(|envelope| self.body.slice_ref(envelope))
    }

    /// Size of the record as stored, without its length prefix.
    pub fn body_bytes(&self) -> usize {
        self.body.len()
    }

    /// Shares a part of this record that one of its accessors returned. Panics on foreign slices.
    pub fn share(&self, part: &[u8]) -> Bytes {
        self.body.slice_ref(part)
    }
}

/// One header. Kafka's text says keys are UTF-8; nobody checks it, so they are bytes here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    pub key: &'a [u8],
    pub value: Option<&'a [u8]>,
}

/// See [`Record::headers`].
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    body: &'a [u8],
    position: usize,
    remaining: u32,
}

impl<'a> Headers<'a> {
    /// Reads a block that [`Record::header_block`] gave; checked whole before the first header.
    pub fn of_block(block: &'a [u8]) -> Result<Headers<'a>, BatchError> {
        let mut position = 0;
        let count = read_varint(block, &mut position)?;
        let remaining = u32::try_from(count).map_err(|_| BatchError::BadRecord)?;
        let headers = Headers { body: block, position, remaining };
        for _ in 0..remaining {
            if read_span(block, &mut position)?.start == Span::NONE {
                return Err(BatchError::BadRecord);
            }
            read_span(block, &mut position)?;
        }
        if position != block.len() {
            return Err(BatchError::BadRecord);
        }
        Ok(headers)
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        if self.remaining == 0 {
            return None;
        }
        self.remaining -= 1;
        // The layout was checked when the record was parsed, so nothing here ends early.
        let key = read_span(self.body, &mut self.position).ok()?.of(self.body)?;
        let value = read_span(self.body, &mut self.position).ok()?.of(self.body);
        Some(Header { key, value })
    }
}

/// The records of one batch, decompressed if need be. `batch` must hold the batch from its first
/// byte; what follows the batch is ignored. The checksum is not looked at.
pub fn records(batch: &Bytes, limits: &BatchLimits) -> Result<Records, BatchError> {
    let header = BatchHeader::new(batch)?;
    let info = header.info()?;
    if info.record_count > limits.record_count_max {
        return Err(BatchError::BadRecordCount);
    }
    let payload = batch.slice(HEADER_BYTES..header.bytes().len());
    let body = match info.codec {
        Codec::None => payload,
        codec => decompress::decompress(codec, &payload, limits)?,
    };
    Ok(Records {
        body,
        position: 0,
        remaining: info.record_count,
        delta_min: 0,
        delta_max: header.last_offset_delta(),
        base_offset: header.base_offset(),
        base_timestamp: info.base_timestamp,
        append_timestamp: header.has(attribute::LOG_APPEND_TIME).then_some(info.max_timestamp),
        foreign: header.has(attribute::FOREIGN),
    })
}

/// See [`records`]. Ends after the first error.
#[derive(Debug)]
pub struct Records {
    body: Bytes,
    position: usize,
    remaining: u32,
    /// Smallest offset delta that the next record may have.
    delta_min: i64,
    delta_max: i32,
    base_offset: u64,
    base_timestamp: i64,
    append_timestamp: Option<i64>,
    foreign: bool,
}

impl Records {
    fn read(&mut self) -> Result<Record, BatchError> {
        let length = read_varint(&self.body, &mut self.position)?;
        let length = usize::try_from(length).map_err(|_| BatchError::BadRecord)?;
        if length > self.body.len() - self.position {
            return Err(BatchError::BadRecord);
        }
        let body = self.body.slice(self.position..self.position + length);
        self.position += length;
        let layout = RecordLayout::parse(&body)?;
        if i64::from(layout.offset_delta) < self.delta_min || layout.offset_delta > self.delta_max {
            return Err(BatchError::BadOffsetDelta);
        }
        self.delta_min = i64::from(layout.offset_delta) + 1;
        let offset = self
            .base_offset
            .checked_add(layout.offset_delta as u64)
            .ok_or(BatchError::BadOffsetDelta)?;
        let origin = if self.foreign {
            Origin::from_number(layout.attributes)
                .ok_or(BatchError::UnknownOrigin(layout.attributes))?
        } else {
            Origin::Kafka
        };
        let timestamp = match self.append_timestamp {
            Some(timestamp) => timestamp,
            // Wraps like the arithmetic of Kafka's own clients: any 64-bit delta is legal.
            None => self.base_timestamp.wrapping_add(layout.timestamp_delta),
        };
        Ok(Record { body, layout, offset, timestamp, origin })
    }
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.remaining == 0 {
            if self.position < self.body.len() {
                self.position = self.body.len();
                return Some(Err(BatchError::BadRecordCount));
            }
            return None;
        }
        self.remaining -= 1;
        let record = self.read();
        if record.is_err() {
            self.remaining = 0;
            self.position = self.body.len();
        }
        Some(record)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // A record takes 7 bytes or more, so a false count cannot make a collector reserve much.
        (0, Some((self.remaining as usize).min(self.body.len() / 7 + 1)))
    }
}
