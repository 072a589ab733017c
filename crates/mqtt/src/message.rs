//! How an MQTT message is stored with its record, and its translation to and from the common model.
//! Everything of a PUBLISH that travels is in the envelope; what belongs to one connection (topic
//! alias, packet identifier, DUP) never is.

use crate::base64::base64;
use crate::codec::{
    check_text, properties_of, put_property, Properties, Property, Publish, Qos, Will,
    FIELD_BYTES_MAX,
};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use koine_base::Timestamp;
use koine_broker::message::{Content, Dialect, HeaderValue, Message};
use koine_broker::router::Subject;

/// The user property that carries a record's key (Kafka's, say), which MQTT has no property for.
pub const KEY_PROPERTY: &str = "x-record-key";

const QOS: u8 = 0b0000_0011;
const RETAIN: u8 = 0b0000_0100;
const EXPIRES: u8 = 0b0000_1000;

/// What is stored with an MQTT record.
///
/// ```text
/// | flags u8 | expiry u32, if flagged | topic length u16 | topic | properties (raw, version 5) |
/// ```
///
/// The properties are those of the PUBLISH without topic alias and message expiry interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The publisher's.
    pub qos: Qos,
    /// The publisher's.
    pub retain: bool,
    /// Seconds from the record's timestamp.
    pub message_expiry_interval: Option<u32>,
    pub topic: &'a [u8],
    pub properties: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// `None` if the bytes are not an envelope.
    pub fn parse(mut bytes: &'a [u8]) -> Option<Envelope<'a>> {
        if bytes.is_empty() {
            return None;
        }
        let flags = bytes.get_u8();
        let mut message_expiry_interval = None;
        if flags & EXPIRES != 0 {
            if bytes.len() < 4 {
                return None;
            }
            message_expiry_interval = Some(bytes.get_u32());
        }
        if bytes.len() < 2 {
            return None;
        }
        let topic_bytes = usize::from(bytes.get_u16());
        if bytes.len() < topic_bytes {
            return None;
        }
        let (topic, properties) = bytes.split_at(topic_bytes);
        Some(Envelope {
            qos: Qos::from_bits(flags & QOS).ok()?,
            retain: flags & RETAIN != 0,
            message_expiry_interval,
            topic,
            properties,
        })
    }

    /// Writes everything but the properties.
    fn put_head(&self, out: &mut BytesMut) {
        let mut flags = self.qos as u8;
        if self.retain {
            flags |= RETAIN;
        }
        if self.message_expiry_interval.is_some() {
            flags |= EXPIRES;
        }
        out.put_u8(flags);
        if let Some(seconds) = self.message_expiry_interval {
            out.put_u32(seconds);
        }
        let topic_bytes = u16::try_from(self.topic.len());
        out.put_u16(topic_bytes.expect("topics are checked against FIELD_BYTES_MAX"));
        out.put_slice(self.topic);
    }
}

/// The envelope of a received PUBLISH, cut from `arena`: many envelopes share one allocation.
/// `topic` stands for the packet's own, which may be an alias.
pub fn envelope_of_publish(publish: &Publish, topic: &[u8], arena: &mut BytesMut) -> Bytes {
    let properties = publish.properties();
    arena.reserve(7 + topic.len() + properties.len());
    let envelope = Envelope {
        qos: publish.qos,
        retain: publish.retain,
        message_expiry_interval: publish.message_expiry_interval,
        topic,
        properties,
    };
    envelope.put_head(arena);
    if publish.topic_alias.is_none() && publish.message_expiry_interval.is_none() {
        arena.put_slice(properties);
    } else {
        put_travelling(properties, arena);
    }
    arena.split().freeze()
}

/// The record key that a publish asks for.
pub fn record_key(properties: &[u8]) -> Option<Bytes> {
    properties_of(properties).find_map(|property| match property {
        Property::UserProperty(KEY_PROPERTY, text) => Some(Bytes::copy_from_slice(text.as_bytes())),
        _ => None,
    })
}

/// The envelope of a will.
pub fn envelope_of_will(will: &Will) -> Bytes {
    let mut out = BytesMut::new();
    let envelope = Envelope {
        qos: will.qos,
        retain: will.retain,
        message_expiry_interval: will_expiry_interval(will),
        topic: will.topic.as_bytes(),
        properties: &[],
    };
    envelope.put_head(&mut out);
    put_travelling(will.properties.block(), &mut out);
    out.freeze()
}

/// Seconds.
pub fn will_expiry_interval(will: &Will) -> Option<u32> {
    will.properties.find(|property| match property {
        Property::MessageExpiryInterval(seconds) => Some(seconds),
        _ => None,
    })
}

/// Copies what travels with a message, in its order.
fn put_travelling(properties: &[u8], out: &mut BytesMut) {
    for property in properties_of(properties) {
        match property {
            Property::TopicAlias(_)
            | Property::MessageExpiryInterval(_)
            | Property::SubscriptionIdentifier(_)
            | Property::WillDelayInterval(_) => {}
            other => {
                put_property(out, other);
            }
        }
    }
}

/// What is left of a message's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    Unlimited,
    /// Seconds, at least 1.
    Left(u32),
    Over,
}

/// The interval is decremented by the time the message waited (MQTT 5 §3.3.2.3.3).
pub fn life(interval: Option<u32>, published: Timestamp, now: Timestamp) -> Life {
    let Some(interval) = interval else {
        return Life::Unlimited;
    };
    let waited_seconds = now.0.saturating_sub(published.0).max(0) / 1000;
    let left = i64::from(interval).saturating_sub(waited_seconds);
    match u32::try_from(left) {
        Ok(0) | Err(_) => Life::Over,
        Ok(left) => Life::Left(left),
    }
}

/// Reads MQTT envelopes into the common model.
pub struct MqttDialect;

/// The one instance.
pub static DIALECT: &MqttDialect = &MqttDialect;

impl Dialect for MqttDialect {
    fn message(&self, content: &Content) -> Message {
        let mut message = Message {
            key: content.key.clone(),
            body: content.body.clone(),
            timestamp: content.timestamp,
            persistent: true,
            ..Message::default()
        };
        let Some(envelope) = Envelope::parse(&content.envelope) else {
            return message;
        };
        message.persistent = envelope.qos != Qos::AtMostOnce;
        let seconds = envelope.message_expiry_interval.map(u64::from);
        message.expiry_ms = seconds.map(|seconds| seconds * 1000);
        message.address = dotted(envelope.topic);
        for property in properties_of(envelope.properties) {
            match property {
                Property::PayloadFormatIndicator(format) => message.text = format == 1,
                Property::ContentType(text) => message.content_type = Some(text.to_owned()),
                Property::ResponseTopic(topic) => message.reply_to = dotted(topic.as_bytes()),
                Property::CorrelationData(data) => {
                    message.correlation_id = Some(Bytes::copy_from_slice(data));
                }
                // The key says it already.
                Property::UserProperty(KEY_PROPERTY, text)
                    if message.key.as_deref() == Some(text.as_bytes()) => {}
                Property::UserProperty(name, text) => {
                    let value = HeaderValue::Text(text.to_owned());
                    message.headers.push((name.to_owned(), value));
                }
                _ => {}
            }
        }
        message
    }
}

/// The AMQP spelling of a topic name.
fn dotted(topic: &[u8]) -> Option<String> {
    let subject = Subject::from_canonical(topic).ok()?;
    subject.to_topic_name()
}

/// The MQTT spelling of a dotted name, if a topic name can hold it.
fn topic_name(dotted: &str) -> Option<String> {
    let name = Subject::from_topic_name(dotted).ok()?.to_mqtt()?;
    (name.len() <= FIELD_BYTES_MAX).then_some(name)
}

/// The envelope that gives a foreign message its MQTT shape. `None` if it has no address that a topic
/// name can hold.
pub fn envelope_of_foreign(message: &Message) -> Option<Bytes> {
    let topic = topic_name(message.address.as_deref()?)?;
    let mut out = BytesMut::new();
    let seconds = message.expiry_ms.map(|ms| u32::try_from(ms.div_ceil(1000)).unwrap_or(u32::MAX));
    let envelope = Envelope {
        // What has no QoS of its own is delivered at least once.
        qos: Qos::AtLeastOnce,
        retain: false,
        message_expiry_interval: seconds,
        topic: topic.as_bytes(),
        properties: &[],
    };
    envelope.put_head(&mut out);
    put_foreign_properties(message, &mut out);
    Some(out.freeze())
}

/// Values that no property can hold (over 65,535 bytes) are left out.
fn put_foreign_properties(message: &Message, out: &mut BytesMut) {
    if message.text {
        put_property(out, Property::PayloadFormatIndicator(1));
    }
    if let Some(content_type) = message.content_type.as_deref().filter(|text| is_text(text)) {
        put_property(out, Property::ContentType(content_type));
    }
    if let Some(topic) = message.reply_to.as_deref().and_then(topic_name) {
        put_property(out, Property::ResponseTopic(&topic));
    }
    if let Some(data) = &message.correlation_id {
        put_property(out, Property::CorrelationData(data));
    }
    for (name, value) in &message.headers {
        put_user_property(name, &text_of(value), out);
    }
    if let Some(key) = &message.key {
        put_user_property(KEY_PROPERTY, &text_of_bytes(key), out);
    }
    let rest = [
        ("content-encoding", &message.content_encoding),
        ("message-id", &message.message_id),
        ("user-id", &message.user_id),
        ("app-id", &message.app_id),
        ("type", &message.kind),
    ];
    for (name, value) in rest {
        if let Some(text) = value {
            put_user_property(name, text, out);
        }
    }
    if let Some(priority) = message.priority {
        put_user_property("priority", &priority.to_string(), out);
    }
}

fn is_text(text: &str) -> bool {
    check_text(text.as_bytes()).is_ok()
}

/// A name or value with U+0000, which MQTT forbids, goes as base64.
fn put_user_property(name: &str, text: &str, out: &mut BytesMut) {
    let encoded;
    let name = if is_text(name) {
        name
    } else {
        encoded = base64(name.as_bytes());
        &encoded
    };
    if is_text(text) {
        put_property(out, Property::UserProperty(name, text));
    } else {
        put_property(out, Property::UserProperty(name, &base64(text.as_bytes())));
    }
}

/// Text if it is text, else base64.
fn text_of_bytes(bytes: &[u8]) -> String {
    match check_text(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => base64(bytes),
    }
}

fn text_of(value: &HeaderValue) -> String {
    match value {
        HeaderValue::Void => String::new(),
        HeaderValue::Bool(value) => value.to_string(),
        HeaderValue::Int(value) => value.to_string(),
        HeaderValue::Float(value) => value.to_string(),
        HeaderValue::Text(text) => text.clone(),
        HeaderValue::Bytes(bytes) | HeaderValue::Nested(bytes) => text_of_bytes(bytes),
        HeaderValue::Timestamp(ms) => ms.to_string(),
    }
}

/// A message without properties under `topic`, for tests and tools.
pub fn plain_envelope(topic: &str, qos: Qos, retain: bool, properties: &Properties) -> Bytes {
    let mut out = BytesMut::new();
    let envelope = Envelope {
        qos,
        retain,
        message_expiry_interval: None,
        topic: topic.as_bytes(),
        properties: &[],
    };
    envelope.put_head(&mut out);
    out.put_slice(properties.block());
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use koine_broker::message::Origin;

    fn content(envelope: Bytes) -> Content {
        Content {
            origin: Origin::Mqtt,
            envelope,
            key: None,
            body: Some(Bytes::from_static(b"body")),
            timestamp: Timestamp(5),
        }
    }

    #[test]
    fn a_will_becomes_a_message_of_the_common_model() {
        let will = Will {
            topic: "a/v1.0/b".to_owned(),
            payload: Bytes::new(),
            qos: Qos::AtLeastOnce,
            retain: true,
            properties: [
                Property::WillDelayInterval(9),
                Property::PayloadFormatIndicator(1),
                Property::MessageExpiryInterval(7),
                Property::ContentType("text/plain"),
                Property::ResponseTopic("reply/x.y"),
                Property::CorrelationData(&[0, 1]),
                Property::UserProperty("k", "1"),
                Property::UserProperty("k", "2"),
            ]
            .into_iter()
            .collect(),
        };
        let raw = envelope_of_will(&will);
        let envelope = Envelope::parse(&raw).expect("just written");
        assert!(envelope.retain);
        assert_eq!(envelope.message_expiry_interval, Some(7));
        assert_eq!(properties_of(envelope.properties).count(), 6);
        let message = DIALECT.message(&content(raw));
        assert_eq!(message.address.as_deref(), Some("a.v1/0.b"));
        assert_eq!(message.reply_to.as_deref(), Some("reply.x/y"));
        assert_eq!(message.expiry_ms, Some(7000));
        assert!(message.text && message.persistent);
        assert_eq!(message.correlation_id, Some(Bytes::from_static(&[0, 1])));
        let text = |value: &str| HeaderValue::Text(value.to_owned());
        let headers = vec![("k".to_owned(), text("1")), ("k".to_owned(), text("2"))];
        assert_eq!(message.headers, headers);
    }

    #[test]
    fn a_message_that_goes_through_the_common_model_comes_back() {
        let properties: Properties = [
            Property::PayloadFormatIndicator(1),
            Property::ContentType("x"),
            Property::ResponseTopic("r/1"),
            Property::CorrelationData(&[255]),
            Property::UserProperty("b", ""),
            Property::UserProperty("a", "ü"),
        ]
        .into_iter()
        .collect();
        let raw = plain_envelope("a/b.c", Qos::AtLeastOnce, false, &properties);
        let message = DIALECT.message(&content(raw.clone()));
        assert_eq!(envelope_of_foreign(&message), Some(raw));
    }

    #[test]
    fn foreign_values_are_spelt_as_text() {
        fn check(value: HeaderValue, expect: &str) {
            let message = Message {
                address: Some("a".to_owned()),
                headers: vec![("h".to_owned(), value)],
                ..Message::default()
            };
            let raw = envelope_of_foreign(&message).expect("the address is a topic name");
            let envelope = Envelope::parse(&raw).expect("just written");
            let all: Vec<_> = properties_of(envelope.properties).collect();
            assert_eq!(all, [Property::UserProperty("h", expect)]);
        }
        check(HeaderValue::Void, "");
        check(HeaderValue::Bool(true), "true");
        check(HeaderValue::Int(-5), "-5");
        check(HeaderValue::Float(1.5), "1.5");
        check(HeaderValue::Text("t".to_owned()), "t");
        check(HeaderValue::Text("a\0".to_owned()), "YQA=");
        check(HeaderValue::Bytes(b"b".to_vec()), "b");
        check(HeaderValue::Bytes(vec![0xFF]), "/w==");
        check(HeaderValue::Timestamp(12), "12");
    }

    #[test]
    fn a_record_key_travels_as_a_user_property() {
        let properties: Properties =
            [Property::UserProperty("a", "1"), Property::UserProperty(KEY_PROPERTY, "k")]
                .into_iter()
                .collect();
        assert_eq!(record_key(properties.block()), Some(Bytes::from_static(b"k")));
        assert_eq!(record_key(&[]), None);
        let raw = plain_envelope("t", Qos::AtLeastOnce, false, &properties);
        let content = Content { key: Some(Bytes::from_static(b"k")), ..content(raw.clone()) };
        let message = DIALECT.message(&content);
        assert_eq!(message.headers.len(), 1);
        assert_eq!(envelope_of_foreign(&message), Some(raw));
    }

    #[test]
    fn what_mqtt_cannot_address() {
        assert_eq!(envelope_of_foreign(&Message::default()), None);
        let empty = Message { address: Some(String::new()), ..Message::default() };
        assert_eq!(envelope_of_foreign(&empty), None);
        let long = Message { address: Some("x".repeat(70_000)), ..Message::default() };
        assert_eq!(envelope_of_foreign(&long), None);
    }

    #[test]
    fn damaged_envelopes() {
        let raw = plain_envelope("topic", Qos::AtLeastOnce, false, &Properties::default());
        for cut in 0..raw.len() {
            assert_eq!(Envelope::parse(&raw[..cut]), None);
        }
        assert_eq!(Envelope::parse(&[3, 0, 0]), None);
        assert_eq!(Envelope::parse(&[8, 0, 0]), None);
        let message = DIALECT.message(&content(Bytes::new()));
        assert_eq!(message.body, Some(Bytes::from_static(b"body")));
    }

    #[test]
    fn lives() {
        fn check(interval: Option<u32>, waited_ms: i64, expect: Life) {
            assert_eq!(life(interval, Timestamp(1000), Timestamp(1000 + waited_ms)), expect);
        }
        check(None, i64::MAX - 1000, Life::Unlimited);
        check(Some(5), 0, Life::Left(5));
        check(Some(5), 999, Life::Left(5));
        check(Some(5), 4_999, Life::Left(1));
        check(Some(5), 5_000, Life::Over);
        check(Some(0), 0, Life::Over);
        check(Some(5), -10_000, Life::Left(5));
        check(Some(u32::MAX), 0, Life::Left(u32::MAX));
    }
}
