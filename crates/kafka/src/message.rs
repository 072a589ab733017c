//! Kafka's records in the common model, and other protocols' records as Kafka records.
//!
//! Kafka has no properties beside headers, so the properties that other protocols have are headers
//! here, by the names below. docs/user/cross-protocol.md has the whole table.

use bytes::{Bytes, BytesMut};
use koine_base::Timestamp;
use koine_broker::batch::{
    records, BatchBuilder, BatchError, BatchHeader, BatchLimits, Header, Headers, Record,
};
use koine_broker::limits::Limits;
use koine_broker::message::{
    from_record, Content, Dialect, Dialects, HeaderValue, Message, Origin,
};

pub const CONTENT_TYPE: &str = "content-type";
pub const CONTENT_ENCODING: &str = "content-encoding";
pub const CORRELATION_ID: &str = "correlation-id";
pub const REPLY_TO: &str = "reply-to";
pub const MESSAGE_ID: &str = "message-id";
pub const USER_ID: &str = "user-id";
pub const APP_ID: &str = "app-id";
pub const TYPE: &str = "type";
pub const PRIORITY: &str = "priority";
/// Life time in milliseconds.
pub const EXPIRATION: &str = "expiration";
/// The subject or routing key a record was sent to, where it differs from the topic's name.
pub const ADDRESS: &str = "koine-address";

/// Reads the envelopes of Kafka records for other protocols.
pub struct KafkaDialect;

/// The dialect for the composition root.
pub static DIALECT: KafkaDialect = KafkaDialect;

impl Dialect for KafkaDialect {
    fn message(&self, content: &Content) -> Message {
        let (address, block) = match content.origin {
            Origin::KafkaForwarded => split_forwarded(&content.envelope),
            _ => (None, &content.envelope[..]),
        };
        let mut message = Message {
            key: content.key.clone(),
            body: content.body.clone(),
            timestamp: content.timestamp,
            persistent: true,
            address: address.map(str::to_string),
            ..Message::default()
        };
        if let Ok(headers) = Headers::of_block(block) {
            for header in headers {
                take_header(&header, &mut message);
            }
        }
        message
    }
}

/// A header goes to the property of its name, once; every other one stays a header.
///
/// Only names that say the same in every ecosystem are taken. `type`, `priority`, `user-id` and the
/// like are common names of headers that mean something else, and stay headers.
fn take_header(header: &Header<'_>, message: &mut Message) {
    let name = String::from_utf8_lossy(header.key).into_owned();
    let Some(value) = header.value else {
        message.headers.push((name, HeaderValue::Void));
        return;
    };
    let text = std::str::from_utf8(value).ok();
    let property = match name.as_str() {
        CONTENT_TYPE => Some(&mut message.content_type),
        CONTENT_ENCODING => Some(&mut message.content_encoding),
        REPLY_TO => Some(&mut message.reply_to),
        MESSAGE_ID => Some(&mut message.message_id),
        CORRELATION_ID if message.correlation_id.is_none() => {
            message.correlation_id = Some(Bytes::copy_from_slice(value));
            return;
        }
        _ => None,
    };
    match (property, text) {
        (Some(property @ None), Some(text)) => *property = Some(text.to_string()),
        (_, Some(text)) => message.headers.push((name, HeaderValue::Text(text.to_string()))),
        (_, None) => message.headers.push((name, HeaderValue::Bytes(value.to_vec()))),
    }
}

/// The content of a Kafka record on its way to a queue or session: with the topic it was sent to.
pub fn forwarded(topic: &str, record: &Record) -> Content {
    let block = record.header_block();
    let mut envelope = BytesMut::with_capacity(2 + topic.len() + block.len());
    let length = u16::try_from(topic.len()).expect("names are at most 255 bytes long");
    envelope.extend_from_slice(&length.to_be_bytes());
    envelope.extend_from_slice(topic.as_bytes());
    envelope.extend_from_slice(&block);
    Content {
        origin: Origin::KafkaForwarded,
        envelope: envelope.freeze(),
        key: record.key_bytes(),
        body: record.value_bytes(),
        timestamp: Timestamp(record.timestamp()),
    }
}

/// Topic name and header block of what [`forwarded`] made.
fn split_forwarded(envelope: &[u8]) -> (Option<&str>, &[u8]) {
    let Some((length, rest)) = envelope.split_first_chunk::<2>() else { return (None, envelope) };
    let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
    let (name, block) = rest.split_at(length);
    (std::str::from_utf8(name).ok(), block)
}

/// The same batch with every record as a Kafka record: same offsets, timestamps and leader epoch.
/// `batch` holds records of other protocols, uncompressed as the broker built it.
pub fn for_kafka(
    batch: &Bytes,
    topic: &str,
    dialects: &Dialects,
    limits: &Limits,
) -> Result<Bytes, BatchError> {
    let header = BatchHeader::new(batch)?;
    let batch_limits = BatchLimits {
        decompressed_bytes_max: limits.inflated_bytes_max,
        decompressed_ratio_max: limits.inflated_ratio_max,
        ..BatchLimits::default()
    };
    let mut builder = BatchBuilder::with_capacity(header.base_timestamp(), batch.len());
    for record in records(batch, &batch_limits)? {
        push(&record?, topic, dialects, &mut builder);
    }
    if builder.is_empty() {
        return Err(BatchError::BadRecordCount);
    }
    Ok(builder.finish(header.base_offset(), header.leader_epoch()))
}

fn push(record: &Record, topic: &str, dialects: &Dialects, builder: &mut BatchBuilder) {
    let (content, _) = from_record(record);
    if matches!(content.origin, Origin::Kafka | Origin::KafkaForwarded) {
        // A Kafka record keeps its own headers, whatever they are called.
        let (_, block) = match content.origin {
            Origin::KafkaForwarded => split_forwarded(&content.envelope),
            _ => (None, &content.envelope[..]),
        };
        let headers: Vec<(&[u8], Option<&[u8]>)> = match Headers::of_block(block) {
            Ok(headers) => headers.map(|header| (header.key, header.value)).collect(),
            Err(_) => Vec::new(),
        };
        push_parts(&content, content.key.as_deref(), &headers, builder);
        return;
    }
    let message = dialects.message(&content);
    let headers = headers_of(&message, topic);
    let headers: Vec<(&[u8], Option<&[u8]>)> =
        headers.iter().map(|(key, value)| (key.as_bytes(), value.as_deref())).collect();
    push_parts(&content, message.key.as_deref(), &headers, builder);
}

fn push_parts(
    content: &Content,
    key: Option<&[u8]>,
    headers: &[(&[u8], Option<&[u8]>)],
    builder: &mut BatchBuilder,
) {
    let value: Option<[&[u8]; 1]> = content.body.as_ref().map(|body| [&body[..]]);
    builder.push(content.timestamp.0, key, value.as_ref().map(|pieces| &pieces[..]), headers);
}

/// The headers of a message as Kafka sees them: its own first, then its properties.
fn headers_of(message: &Message, topic: &str) -> Vec<(String, Option<Vec<u8>>)> {
    let own = message.headers.iter().map(|(name, value)| (name.clone(), header_bytes(value)));
    let mut headers: Vec<(String, Option<Vec<u8>>)> = own.collect();
    let mut add = |name: &str, value: Option<Vec<u8>>| {
        if let Some(value) = value {
            headers.push((name.to_string(), Some(value)));
        }
    };
    let text = |value: &Option<String>| value.as_ref().map(|text| text.clone().into_bytes());
    add(CONTENT_TYPE, text(&message.content_type));
    add(CONTENT_ENCODING, text(&message.content_encoding));
    add(CORRELATION_ID, message.correlation_id.as_ref().map(|id| id.to_vec()));
    add(REPLY_TO, text(&message.reply_to));
    add(MESSAGE_ID, text(&message.message_id));
    add(USER_ID, text(&message.user_id));
    add(APP_ID, text(&message.app_id));
    add(TYPE, text(&message.kind));
    add(PRIORITY, message.priority.map(|priority| priority.to_string().into_bytes()));
    add(EXPIRATION, message.expiry_ms.map(|ms| ms.to_string().into_bytes()));
    add(ADDRESS, text(&message.address).filter(|address| address != topic.as_bytes()));
    headers
}

/// Numbers and truth values are written as text, which is what Kafka clients expect of headers.
fn header_bytes(value: &HeaderValue) -> Option<Vec<u8>> {
    Some(match value {
        HeaderValue::Void => return None,
        HeaderValue::Bool(value) => value.to_string().into_bytes(),
        HeaderValue::Int(value) | HeaderValue::Timestamp(value) => value.to_string().into_bytes(),
        HeaderValue::Float(value) => value.to_string().into_bytes(),
        HeaderValue::Text(value) => value.clone().into_bytes(),
        HeaderValue::Bytes(value) | HeaderValue::Nested(value) => value.clone(),
    })
}

#[cfg(test)]
mod tests;
