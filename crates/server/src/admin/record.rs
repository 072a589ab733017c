//! A record as JSON, whatever protocol wrote it.

use base64ct::{Base64, Encoding};
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
        Err(_) => shown.insert(format!("{name}_base64"), Base64::encode_string(bytes).into()),
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
            Err(_) => json!({"base64": Base64::encode_string(bytes)}),
        },
        HeaderValue::Nested(bytes) => json!({"base64": Base64::encode_string(bytes)}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_marked() {
        let mut shown = Map::new();
        put_bytes(&mut shown, "key", None);
        put_bytes(&mut shown, "value", Some(&[0xFF]));
        assert_eq!(Value::Object(shown), json!({"key": null, "value_base64": "/w=="}));
    }
}
