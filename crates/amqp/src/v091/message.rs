//! Messages between AMQP and the broker. The envelope kept with each record is what came in
//! (exchange, routing key, raw property bytes), so that AMQP gives back exactly what it was sent;
//! the common model is made only when another protocol reads, and AMQP properties only when AMQP
//! reads what another protocol wrote (docs/user/cross-protocol.md).

use super::arguments::{header_value, put_header};
use super::content::BasicProperties;
use super::table::{TableBuilder, TableView, Value};
use super::wire::ShortString;
use bytes::{BufMut, Bytes, BytesMut};
use koine_base::Timestamp;
use koine_broker::message::{Content, Dialect, Message};
use koine_broker::router::{HeaderRef, Headers};

/// The header that carries a record's key (Kafka's, say), which AMQP has no property for.
pub const KEY_HEADER: &str = "x-record-key";
/// What RabbitMQ names properties that do not fit AMQP's short strings.
const CORRELATION_ID_HEADER: &str = "x-correlation-id";
const REPLY_TO_HEADER: &str = "x-reply-to-topic";

/// The origin's own part of a record:
///
/// ```text
/// | exchange length u8 | exchange | key length u8 | routing key | property flags and values |
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    pub exchange: &'a [u8],
    pub routing_key: &'a [u8],
    pub properties: &'a [u8],
}

impl<'a> Envelope<'a> {
    pub fn encode(&self, out: &mut BytesMut) {
        for text in [self.exchange, self.routing_key] {
            let size = text.len().min(ShortString::LEN_MAX);
            out.put_u8(size as u8);
            out.extend_from_slice(&text[..size]);
        }
        out.extend_from_slice(self.properties);
    }

    /// `None` for bytes that [`Self::encode`] did not make.
    pub fn decode(raw: &'a [u8]) -> Option<Self> {
        let (exchange, rest) = split_short_text(raw)?;
        let (routing_key, properties) = split_short_text(rest)?;
        Some(Envelope { exchange, routing_key, properties })
    }
}

fn split_short_text(raw: &[u8]) -> Option<(&[u8], &[u8])> {
    let (size, rest) = raw.split_first()?;
    rest.split_at_checked(usize::from(*size))
}

/// How AMQP 0-9-1 records read in the common model.
pub struct Amqp091Dialect;

impl Dialect for Amqp091Dialect {
    fn message(&self, content: &Content) -> Message {
        let mut message = Message {
            key: content.key.clone(),
            body: content.body.clone(),
            timestamp: content.timestamp,
            ..Message::default()
        };
        let Some(envelope) = Envelope::decode(&content.envelope) else {
            return message;
        };
        if !envelope.routing_key.is_empty() {
            message.address = text(envelope.routing_key);
        }
        if let Ok(properties) = BasicProperties::parse(envelope.properties) {
            put_properties(&mut message, &properties);
        }
        message
    }
}

fn put_properties(message: &mut Message, properties: &BasicProperties<'_>) {
    message.content_type = properties.content_type.and_then(text);
    message.content_encoding = properties.content_encoding.and_then(text);
    message.correlation_id = properties.correlation_id.map(Bytes::copy_from_slice);
    message.reply_to = properties.reply_to.and_then(text);
    message.message_id = properties.message_id.and_then(text);
    message.user_id = properties.user_id.and_then(text);
    message.app_id = properties.app_id.and_then(text);
    message.kind = properties.kind.and_then(text);
    message.priority = properties.priority;
    message.expiry_ms = properties.expiration.and_then(expiration_ms);
    message.persistent = properties.is_persistent();
    if let Some(seconds) = properties.timestamp {
        let ms = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000);
        message.timestamp = Timestamp(ms);
    }
    for (name, value) in properties.headers.unwrap_or_default().entries() {
        match (name, value) {
            (name, Value::Binary(octets)) if name == CORRELATION_ID_HEADER.as_bytes() => {
                message.correlation_id = Some(Bytes::copy_from_slice(octets));
            }
            (name, _) if name == KEY_HEADER.as_bytes() => {}
            (name, value) => {
                let name = String::from_utf8_lossy(name).into_owned();
                message.headers.push((name, header_value(value)));
            }
        }
    }
}

fn text(octets: &[u8]) -> Option<String> {
    Some(String::from_utf8_lossy(octets).into_owned())
}

/// `expiration` is decimal text; anything else is no expiry (refused at publish).
pub fn expiration_ms(expiration: &[u8]) -> Option<u64> {
    std::str::from_utf8(expiration).ok()?.parse().ok()
}

/// The record key that a publish asks for.
pub fn record_key(properties: &BasicProperties<'_>) -> Option<Bytes> {
    match properties.headers?.find(KEY_HEADER)? {
        Value::LongString(octets) | Value::Binary(octets) => Some(Bytes::copy_from_slice(octets)),
        _ => None,
    }
}

/// A message as AMQP shows it, when another protocol wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Translated {
    pub exchange: &'static str,
    pub routing_key: ShortString,
    pub properties: Bytes,
}

/// `queue`: the name it was read from; messages without an address of their own show it as their
/// routing key.
pub fn translate(message: &Message, queue: &str) -> Translated {
    let (exchange, routing_key) = match &message.address {
        Some(address) => ("amq.topic", ShortString::truncated(address)),
        None => ("", ShortString::truncated(queue)),
    };
    let mut headers = TableBuilder::new();
    for (name, value) in &message.headers {
        put_header(&mut headers, name, value);
    }
    if let Some(key) = &message.key {
        let value = match std::str::from_utf8(key) {
            Ok(_) => Value::LongString(key),
            Err(_) => Value::Binary(key),
        };
        headers.put(KEY_HEADER.as_bytes(), value);
    }
    let correlation_id = message.correlation_id.as_deref();
    let short_correlation_id = correlation_id.filter(|id| is_short_text(id));
    if let (Some(id), None) = (correlation_id, short_correlation_id) {
        headers.put(CORRELATION_ID_HEADER.as_bytes(), Value::Binary(id));
    }
    let reply_to = message.reply_to.as_deref().map(str::as_bytes);
    let short_reply_to = reply_to.filter(|reply_to| is_short_text(reply_to));
    if let (Some(reply_to), None) = (reply_to, short_reply_to) {
        headers.put(REPLY_TO_HEADER.as_bytes(), Value::LongString(reply_to));
    }
    let headers = headers.finish();
    let expiration = message.expiry_ms.map(|ms| ms.to_string());
    let properties = BasicProperties {
        content_type: short(&message.content_type),
        content_encoding: short(&message.content_encoding),
        headers: (!headers.is_empty()).then(|| headers.view()),
        delivery_mode: Some(if message.persistent { 2 } else { 1 }),
        priority: message.priority,
        correlation_id: short_correlation_id,
        reply_to: short_reply_to,
        expiration: expiration.as_deref().map(str::as_bytes),
        message_id: short(&message.message_id),
        timestamp: u64::try_from(message.timestamp.0).ok().map(|ms| ms / 1000),
        kind: short(&message.kind),
        user_id: short(&message.user_id),
        app_id: short(&message.app_id),
        cluster_id: None,
    };
    let mut raw = BytesMut::new();
    properties.encode(&mut raw);
    Translated { exchange, routing_key, properties: raw.freeze() }
}

fn is_short_text(octets: &[u8]) -> bool {
    octets.len() <= ShortString::LEN_MAX && std::str::from_utf8(octets).is_ok()
}

/// Texts over the 255 bytes of a short string are cut between two characters.
fn short(text: &Option<String>) -> Option<&[u8]> {
    let text = text.as_deref()?;
    let mut end = text.len().min(ShortString::LEN_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Some(&text.as_bytes()[..end])
}

/// A message's headers as headers exchanges ask for them.
pub struct TableHeaders<'a>(pub TableView<'a>);

impl Headers for TableHeaders<'_> {
    fn find(&self, name: &[u8]) -> Option<HeaderRef<'_>> {
        let (value, encoded) = self.0.find_encoded(name)?;
        Some(match value {
            Value::LongString(octets) | Value::Binary(octets) => HeaderRef::Bytes(octets),
            Value::Timestamp(seconds) => HeaderRef::Timestamp(
                i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000),
            ),
            Value::Float(number) => HeaderRef::Float(f64::from(number)),
            Value::Double(number) => HeaderRef::Float(number),
            Value::Bool(truth) => HeaderRef::Bool(truth),
            Value::Void => HeaderRef::Void,
            Value::Table(_) | Value::Array(_) | Value::Decimal { .. } => HeaderRef::Nested(encoded),
            Value::Byte(_)
            | Value::UnsignedByte(_)
            | Value::Short(_)
            | Value::UnsignedShort(_)
            | Value::Int(_)
            | Value::UnsignedInt(_)
            | Value::Long(_) => HeaderRef::Int(value.as_integer()?),
        })
    }
}

#[cfg(test)]
mod tests;
