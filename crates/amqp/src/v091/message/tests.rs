use super::*;
use koine_broker::message::HeaderValue;

fn content(envelope: &Envelope<'_>) -> Content {
    let mut raw = BytesMut::new();
    envelope.encode(&mut raw);
    Content {
        origin: koine_broker::message::Origin::Amqp091,
        envelope: raw.freeze(),
        key: None,
        body: Some(Bytes::from_static(b"body")),
        timestamp: Timestamp(5),
    }
}

#[test]
fn envelopes_round_trip_and_short_ones_are_refused() {
    let envelope = Envelope { exchange: b"e", routing_key: b"a.b", properties: &[8, 0, 5] };
    let mut raw = BytesMut::new();
    envelope.encode(&mut raw);
    assert_eq!(Envelope::decode(&raw), Some(envelope));
    for end in 0..6 {
        assert_eq!(Envelope::decode(&raw[..end]), None);
    }
}

#[test]
fn every_property_crosses_to_the_common_model_and_back() {
    let headers = TableBuilder::new()
        .with("text", Value::LongString("é".as_bytes()))
        .with("number", Value::Long(7))
        .with("x-record-key", Value::LongString(b"key"))
        .finish();
    let properties = BasicProperties {
        content_type: Some(b"text/plain"),
        content_encoding: Some(b"gzip"),
        headers: Some(headers.view()),
        delivery_mode: Some(2),
        priority: Some(4),
        correlation_id: Some(b"c"),
        reply_to: Some(b"r"),
        expiration: Some(b"60000"),
        message_id: Some(b"m"),
        timestamp: Some(1_700_000_000),
        kind: Some(b"k"),
        user_id: Some(b"guest"),
        app_id: Some(b"a"),
        cluster_id: None,
    };
    let mut raw = BytesMut::new();
    properties.encode(&mut raw);
    let mut content =
        content(&Envelope { exchange: b"amq.topic", routing_key: b"a.b", properties: &raw });
    content.key = record_key(&properties);
    let message = Amqp091Dialect.message(&content);
    assert_eq!(message.address.as_deref(), Some("a.b"));
    assert_eq!(message.key.as_deref(), Some(&b"key"[..]));
    assert_eq!(message.expiry_ms, Some(60_000));
    assert_eq!(message.timestamp, Timestamp(1_700_000_000_000));
    assert!(message.persistent);
    assert_eq!(message.headers.len(), 2);
    let translated = translate(&message, "q");
    assert_eq!((translated.exchange, translated.routing_key.as_str()), ("amq.topic", "a.b"));
    assert_eq!(BasicProperties::parse(&translated.properties), Ok(properties));
}

#[test]
fn what_does_not_fit_a_short_string_goes_to_a_header() {
    let long = "x".repeat(300);
    let message = Message {
        correlation_id: Some(Bytes::from_static(&[0xFF])),
        reply_to: Some(long.clone()),
        content_type: Some("é".repeat(200)),
        key: Some(Bytes::from_static(&[0xFE])),
        headers: vec![("n".repeat(300), HeaderValue::Bytes(vec![1]))],
        ..Message::default()
    };
    let translated = translate(&message, "q");
    assert_eq!((translated.exchange, translated.routing_key.as_str()), ("", "q"));
    let properties = BasicProperties::parse(&translated.properties).unwrap();
    assert_eq!((properties.correlation_id, properties.reply_to), (None, None));
    assert_eq!(properties.content_type.map(<[u8]>::len), Some(254));
    let headers = properties.headers.unwrap();
    assert_eq!(headers.find("x-correlation-id"), Some(Value::Binary(&[0xFF])));
    assert_eq!(headers.find("x-reply-to-topic"), Some(Value::LongString(long.as_bytes())));
    assert_eq!(headers.find("x-record-key"), Some(Value::Binary(&[0xFE])));
    assert_eq!(headers.find(&"n".repeat(255)), Some(Value::Binary(&[1])));
}

#[test]
fn a_damaged_envelope_is_a_message_without_properties() {
    let mut content = content(&Envelope { exchange: b"", routing_key: b"", properties: b"\xFF" });
    assert_eq!(Amqp091Dialect.message(&content).content_type, None);
    content.envelope = Bytes::from_static(&[200]);
    assert_eq!(Amqp091Dialect.message(&content).body.as_deref(), Some(&b"body"[..]));
}
