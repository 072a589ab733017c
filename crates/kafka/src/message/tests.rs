//! Records of each origin as Kafka records, and Kafka records in the common model.

use super::*;
use crate::testing::DIALECTS;
use koine_broker::message::stored_prefix;

/// A batch at offset 40 with one record of another protocol.
fn foreign(origin: koine_broker::batch::Origin, envelope: &[u8], body: Option<&[u8]>) -> Bytes {
    let content = Content {
        origin: Origin::Amqp091,
        envelope: Bytes::copy_from_slice(envelope),
        key: None,
        body: body.map(Bytes::copy_from_slice),
        timestamp: Timestamp(1000),
    };
    let mut prefix = BytesMut::new();
    stored_prefix(&content, None, &mut prefix);
    let mut builder = BatchBuilder::new(990);
    builder.push_foreign(origin, 1000, &[&prefix, envelope], None, &[body.unwrap_or_default()]);
    builder.finish(40, 3)
}

type Shown = (u64, i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Option<String>)>);

fn show(batch: &Bytes) -> Vec<Shown> {
    let all = records(batch, &BatchLimits::default()).expect("a batch");
    all.map(|record| {
        let record = record.expect("a record");
        let headers = record.headers().map(|header| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            (text(header.key), header.value.map(text))
        });
        let (key, value) = (record.key().map(<[u8]>::to_vec), record.value().map(<[u8]>::to_vec));
        (record.offset(), record.timestamp(), key, value, headers.collect())
    })
    .collect()
}

fn some(text: &str) -> Option<String> {
    Some(text.to_string())
}

#[test]
fn properties_of_other_protocols_become_headers() {
    let batch = foreign(koine_broker::batch::Origin::Amqp091, b"text/plain", Some(b"body"));
    let out = for_kafka(&batch, "q", &DIALECTS, &Limits::default()).expect("converted");
    let header = BatchHeader::new(&out).expect("a batch");
    assert!(header.crc_is_good());
    assert_eq!((header.base_offset(), header.leader_epoch(), header.attributes()), (40, 3, 0));
    let headers = vec![
        ("n".to_string(), some("-5")),
        ("void".to_string(), None),
        (CONTENT_TYPE.to_string(), some("text/plain")),
        (ADDRESS.to_string(), some("a.b")),
    ];
    assert_eq!(show(&out), [(40, 1000, None, Some(b"body".to_vec()), headers)]);
}

#[test]
fn the_address_is_left_out_where_it_is_the_topic() {
    let batch = foreign(koine_broker::batch::Origin::Mqtt, b"x", Some(b""));
    let out = for_kafka(&batch, "a.b", &DIALECTS, &Limits::default()).expect("converted");
    let shown = show(&out);
    assert!(shown[0].4.iter().all(|(name, _)| name != ADDRESS));
    assert_eq!(shown[0].3, Some(Vec::new()));
}

fn kafka_record(headers: &[(&[u8], Option<&[u8]>)], value: Option<&[u8]>) -> Record {
    let mut builder = BatchBuilder::new(0);
    let value = value.map(|value| [value]);
    builder.push(5, Some(b"k"), value.as_ref().map(|v| &v[..]), headers);
    let batch = builder.finish(0, 0);
    let mut all = records(&batch, &BatchLimits::default()).expect("a batch");
    all.next().expect("one record").expect("well formed")
}

#[test]
fn kafka_headers_reach_the_common_model() {
    let record = kafka_record(
        &[
            (b"a", Some(b"1")),
            (b"content-type", Some(b"text/plain")),
            (b"content-type", Some(b"again")),
            (b"correlation-id", Some(&[0xFF])),
            (b"type", Some(b"order")),
            (b"raw", Some(&[0xFF, 0xFE])),
            (b"null", None),
        ],
        None,
    );
    let (content, _) = from_record(&record);
    let message = KafkaDialect.message(&content);
    assert_eq!(message.key.as_deref(), Some(&b"k"[..]));
    assert_eq!((message.body, message.timestamp, message.address), (None, Timestamp(5), None));
    assert_eq!(message.content_type.as_deref(), Some("text/plain"));
    assert_eq!(message.correlation_id.as_deref(), Some(&[0xFF][..]));
    let text = |text: &str| HeaderValue::Text(text.into());
    let expect = [
        ("a", text("1")),
        ("content-type", text("again")),
        ("type", text("order")),
        ("raw", HeaderValue::Bytes(vec![0xFF, 0xFE])),
        ("null", HeaderValue::Void),
    ];
    let expect = expect.map(|(name, value)| (name.to_string(), value));
    assert_eq!(message.headers, expect);
}

#[test]
fn forwarded_records_know_their_topic_and_come_back_as_they_were() {
    let headers: [(&[u8], Option<&[u8]>); 2] = [(b"h", Some(b"v")), (b"content-type", Some(b"x"))];
    let record = kafka_record(&headers, None);
    let content = forwarded("a.b", &record);
    let message = KafkaDialect.message(&content);
    assert_eq!(message.address.as_deref(), Some("a.b"));
    assert_eq!(message.content_type.as_deref(), Some("x"));

    let mut prefix = BytesMut::new();
    stored_prefix(&content, None, &mut prefix);
    let mut builder = BatchBuilder::new(0);
    let origin = koine_broker::batch::Origin::KafkaForwarded;
    builder.push_foreign(origin, 5, &[&prefix, &content.envelope], Some(b"k"), &[]);
    let out =
        for_kafka(&builder.finish(9, 0), "q", &DIALECTS, &Limits::default()).expect("converted");
    let kept = vec![("h".to_string(), some("v")), ("content-type".to_string(), some("x"))];
    assert_eq!(show(&out), [(9, 5, Some(b"k".to_vec()), None, kept)]);
}

#[test]
fn damaged_envelopes_give_a_message_without_properties() {
    for origin in [Origin::Kafka, Origin::KafkaForwarded] {
        for envelope in [&b""[..], &[9], &[0xFF, 0xFF, 1], &[0, 1, b'a', 0x80]] {
            let content = Content {
                origin,
                envelope: Bytes::copy_from_slice(envelope),
                key: None,
                body: None,
                timestamp: Timestamp(0),
            };
            assert!(KafkaDialect.message(&content).headers.is_empty());
        }
    }
}
