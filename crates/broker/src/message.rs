//! What a record holds, in two forms: [`Content`], the bytes as they are stored and carried around
//! without being looked at, and [`Message`], the common model that one protocol's content is
//! translated into when another protocol reads it (docs/user/cross-protocol.md).

use bytes::{Buf, BufMut, Bytes, BytesMut};
use koine_base::Timestamp;
use serde::{Deserialize, Serialize};

/// The protocol whose client wrote a record. The number is the record's `attributes` byte on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Origin {
    /// A plain Kafka record; its envelope is the raw header block of the RecordBatch v2 record.
    Kafka = 0,
    Amqp091 = 1,
    Mqtt = 2,
    /// A Kafka record that reached a queue or a session through a subject. Its envelope is the topic
    /// name (u16 length, bytes) followed by the raw header block.
    KafkaForwarded = 3,
}

impl Origin {
    pub const COUNT: usize = 4;

    pub fn from_number(number: u8) -> Option<Origin> {
        Some(match number {
            0 => Origin::Kafka,
            1 => Origin::Amqp091,
            2 => Origin::Mqtt,
            3 => Origin::KafkaForwarded,
            _ => return None,
        })
    }

    pub fn number(self) -> u8 {
        self as u8
    }
}

/// A record apart from its place in a stream. All parts share the buffer they were received in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    pub origin: Origin,
    /// The origin protocol's own properties, raw. Only that protocol's crate reads them.
    pub envelope: Bytes,
    pub key: Option<Bytes>,
    /// `None` is Kafka's null value (a tombstone); other protocols read it as an empty body.
    pub body: Option<Bytes>,
    pub timestamp: Timestamp,
}

impl Content {
    /// Bytes held, for budgets.
    pub fn size(&self) -> usize {
        self.envelope.len()
            + self.key.as_ref().map_or(0, Bytes::len)
            + self.body.as_ref().map_or(0, Bytes::len)
    }

    /// A self-contained encoding, for retained messages and wills:
    /// `origin u8, timestamp i64, envelope, key, body`, each part with an i32 length (-1 = none).
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.size() + 21);
        out.put_u8(self.origin.number());
        out.put_i64(self.timestamp.0);
        put_part(&mut out, Some(&self.envelope));
        put_part(&mut out, self.key.as_ref());
        put_part(&mut out, self.body.as_ref());
        out.freeze()
    }

    /// `None` if `bytes` are not what [`Self::encode`] made.
    pub fn decode(mut bytes: Bytes) -> Option<Content> {
        if bytes.len() < 9 {
            return None;
        }
        let origin = Origin::from_number(bytes.get_u8())?;
        let timestamp = Timestamp(bytes.get_i64());
        let envelope = take_part(&mut bytes)??;
        let key = take_part(&mut bytes)?;
        let body = take_part(&mut bytes)?;
        bytes.is_empty().then_some(Content { origin, envelope, key, body, timestamp })
    }
}

fn put_part(out: &mut BytesMut, part: Option<&Bytes>) {
    match part {
        Some(part) => {
            out.put_i32(i32::try_from(part.len()).expect("parts are below the message size limit"));
            out.extend_from_slice(part);
        }
        None => out.put_i32(-1),
    }
}

fn take_part(bytes: &mut Bytes) -> Option<Option<Bytes>> {
    if bytes.len() < 4 {
        return None;
    }
    match bytes.get_i32() {
        -1 => Some(None),
        length => {
            let length = usize::try_from(length).ok()?;
            (length <= bytes.len()).then(|| Some(bytes.split_to(length)))
        }
    }
}

/// Flags before an envelope as stored in a record.
const NULL_BODY: u8 = 1;
const ANNOTATED: u8 = 2;

/// Writes what precedes the envelope in a stored foreign record:
/// `flags u8 [annotation length u16, annotation]`.
pub fn stored_prefix(content: &Content, annotation: Option<&Annotation>, out: &mut BytesMut) {
    let null_body = if content.body.is_none() { NULL_BODY } else { 0 };
    match annotation {
        None => out.put_u8(null_body),
        Some(annotation) => {
            let annotation = annotation.encode();
            out.put_u8(null_body | ANNOTATED);
            out.put_u16(u16::try_from(annotation.len()).expect("a session's filters are bounded"));
            out.extend_from_slice(&annotation);
        }
    }
}

/// The content of a stored record, and the annotation if it lies in a session's backlog.
pub fn from_record(record: &crate::batch::Record) -> (Content, Option<Annotation>) {
    let timestamp = Timestamp(record.timestamp());
    let (key, body) = (record.key_bytes(), record.value_bytes());
    let origin = record.origin();
    if origin == Origin::Kafka {
        let envelope = record.header_block();
        return (Content { origin, envelope, key, body, timestamp }, None);
    }
    let mut stored = record.envelope_bytes().unwrap_or_default();
    let flags = if stored.is_empty() { 0 } else { stored.get_u8() };
    let mut annotation = None;
    if flags & ANNOTATED != 0 && stored.len() >= 2 {
        let length = usize::from(stored.get_u16()).min(stored.len());
        annotation = Annotation::decode(&stored.split_to(length));
    }
    let body = if flags & NULL_BODY != 0 { None } else { body };
    (Content { origin, envelope: stored, key, body, timestamp }, annotation)
}

/// The value of a header, argument or user property in the common model. `Text` is valid UTF-8.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum HeaderValue {
    Void,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    /// Milliseconds since 1970.
    Timestamp(i64),
    /// A list or table in the origin's own encoding: carried, compared by bytes, not looked into.
    Nested(Vec<u8>),
}

/// The common model: what every protocol can say about a message, named as in docs/glossary.md.
/// Order and duplicates of `headers` are kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    pub key: Option<Bytes>,
    pub body: Option<Bytes>,
    pub timestamp: Timestamp,
    pub headers: Vec<(String, HeaderValue)>,
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    pub correlation_id: Option<Bytes>,
    /// Where answers go, in the spelling of the subject space with `.` between levels where the
    /// origin used subjects, else a queue name.
    pub reply_to: Option<String>,
    pub message_id: Option<String>,
    pub user_id: Option<String>,
    pub app_id: Option<String>,
    /// AMQP `type`.
    pub kind: Option<String>,
    pub priority: Option<u8>,
    /// Life time from `timestamp`, in milliseconds.
    pub expiry_ms: Option<u64>,
    /// AMQP delivery mode 2, MQTT QoS 1 and 2, every Kafka record.
    pub persistent: bool,
    /// MQTT payload format indicator 1: the body is UTF-8 text.
    pub text: bool,
    /// The subject or name it was sent to, levels separated by `.` (AMQP spelling), if the origin
    /// says so; Kafka's own records do not carry their topic.
    pub address: Option<String>,
}

/// One protocol's reading of its own envelopes.
pub trait Dialect: Send + Sync {
    /// Translates content of this dialect's origins. Never fails: an envelope this node wrote is
    /// well-formed, and one that is not gives a message without properties.
    fn message(&self, content: &Content) -> Message;
}

/// Finds the dialect of any origin. Filled once by the composition root.
#[derive(Clone, Copy)]
pub struct Dialects {
    pub kafka: &'static dyn Dialect,
    pub amqp091: &'static dyn Dialect,
    pub mqtt: &'static dyn Dialect,
}

impl Dialects {
    pub fn message(&self, content: &Content) -> Message {
        match content.origin {
            Origin::Kafka | Origin::KafkaForwarded => self.kafka.message(content),
            Origin::Amqp091 => self.amqp091.message(content),
            Origin::Mqtt => self.mqtt.message(content),
        }
    }
}

/// How one session's subscriptions want one message: stored with the copy in the session's backlog
/// and handed out with a live delivery. Overlapping subscriptions are merged: one copy, the highest
/// QoS, every identifier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotation {
    /// Granted quality of service of this delivery, 0 to 2.
    pub qos: u8,
    /// The RETAIN flag to show.
    pub retain: bool,
    /// Subscription identifiers, in order of subscription.
    pub identifiers: Vec<u32>,
}

impl Annotation {
    /// `qos u8 | retain u8 | identifiers u32 ...`
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(2 + 4 * self.identifiers.len());
        out.put_u8(self.qos);
        out.put_u8(u8::from(self.retain));
        for identifier in &self.identifiers {
            out.put_u32(*identifier);
        }
        out.freeze()
    }

    pub fn decode(mut bytes: &[u8]) -> Option<Annotation> {
        if bytes.len() < 2 || !(bytes.len() - 2).is_multiple_of(4) {
            return None;
        }
        let qos = bytes.get_u8();
        let retain = bytes.get_u8() != 0;
        let mut identifiers = Vec::with_capacity(bytes.len() / 4);
        while bytes.has_remaining() {
            identifiers.push(bytes.get_u32());
        }
        (qos <= 2).then_some(Annotation { qos, retain, identifiers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_round_trips_and_refuses_damage() {
        let content = Content {
            origin: Origin::Mqtt,
            envelope: Bytes::from_static(b"env"),
            key: None,
            body: Some(Bytes::new()),
            timestamp: Timestamp(-5),
        };
        let encoded = content.encode();
        assert_eq!(Content::decode(encoded.clone()), Some(content));
        for end in 0..encoded.len() {
            assert_eq!(Content::decode(encoded.slice(..end)), None, "cut at {end}");
        }
    }

    #[test]
    fn annotation_round_trips_and_refuses_damage() {
        let annotation = Annotation { qos: 2, retain: true, identifiers: vec![1, 268_435_455] };
        let encoded = annotation.encode();
        assert_eq!(Annotation::decode(&encoded), Some(annotation));
        assert_eq!(Annotation::decode(&encoded[..3]), None);
        assert_eq!(Annotation::decode(&[3, 0]), None);
    }
}
