//! A record as JSON, whatever protocol wrote it.

use koine_broker::batch::Record;
use koine_broker::message::{from_record, Dialects, HeaderValue, Origin};
use serde_json::{json, Map, Value};

/// `{"offset", "timestamp_ms", "origin", "key", "value", "headers"}`; bytes that are not UTF-8 text go
/// under the same key with `_base64` behind it.
pub fn to_json(record: &Record, dialects: &Dialects) -> Value {
    let (content, _) = from_record(record);
    let message = dialects.message(&content);
    let mut shown = Map::new();
    shown.insert("offset".to_owned(), record.offset().into());
    shown.insert("timestamp_ms".to_owned(), record.timestamp().into());
    shown.insert("origin".to_owned(), origin_name(content.origin).into());
    put_bytes(&mut shown, "key", message.key.as_deref());
    put_bytes(&mut shown, "value", message.body.as_deref());
    let headers: Vec<Value> =
        message.headers.iter().map(|(name, value)| json!([name, header(value)])).collect();
    shown.insert("headers".to_owned(), headers.into());
    let texts = [
        ("content_type", &message.content_type),
        ("content_encoding", &message.content_encoding),
        ("reply_to", &message.reply_to),
        ("message_id", &message.message_id),
        ("address", &message.address),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            shown.insert(name.to_owned(), text.as_str().into());
        }
    }
    if let Some(id) = &message.correlation_id {
        put_bytes(&mut shown, "correlation_id", Some(id));
    }
    Value::Object(shown)
}

fn origin_name(origin: Origin) -> &'static str {
    match origin {
        Origin::Kafka | Origin::KafkaForwarded => "kafka",
        Origin::Amqp091 => "amqp",
        Origin::Mqtt => "mqtt",
    }
}

fn put_bytes(shown: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    let Some(bytes) = bytes else {
        shown.insert(name.to_owned(), Value::Null);
        return;
    };
    match std::str::from_utf8(bytes) {
        Ok(text) => shown.insert(name.to_owned(), text.into()),
        Err(_) => shown.insert(format!("{name}_base64"), base64(bytes).into()),
    };
}

fn header(value: &HeaderValue) -> Value {
    match value {
        HeaderValue::Void => Value::Null,
        HeaderValue::Bool(truth) => json!(truth),
        HeaderValue::Int(number) | HeaderValue::Timestamp(number) => json!(number),
        HeaderValue::Float(number) => json!(number),
        HeaderValue::Text(text) => json!(text),
        HeaderValue::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => json!(text),
            Err(_) => json!({"base64": base64(bytes)}),
        },
        HeaderValue::Nested(bytes) => json!({"base64": base64(bytes)}),
    }
}

/// RFC 4648 §4, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for index in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * index) & 63) as usize];
            text.push(if index > chunk.len() { '=' } else { digit as char });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_vectors_of_the_rfc() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
        assert_eq!(base64(&[0xFF, 0xFE]), "//4=");
    }

    #[test]
    fn bytes_that_are_no_text_are_marked() {
        let mut shown = Map::new();
        put_bytes(&mut shown, "key", None);
        put_bytes(&mut shown, "value", Some(&[0xFF]));
        assert_eq!(Value::Object(shown), json!({"key": null, "value_base64": "/w=="}));
    }
}
