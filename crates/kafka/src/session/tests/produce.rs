//! Produce and InitProducerId.

use super::*;
use crate::codec::produce::{PartitionData, PartitionResponse, Request, Response, TopicData};
use bytes::BytesMut;
use koine_broker::batch::Origin;

pub fn request<'a>(topic: &'a str, index: i32, records: &Bytes) -> Request<'a> {
    let partitions = vec![PartitionData { index, records: Some(records.clone()) }];
    Request {
        transactional_id: None,
        acks: -1,
        timeout_ms: 1000,
        topics: vec![TopicData { name: topic, topic_id: [0; 16], partitions }],
    }
}

pub fn produce(client: &mut Client, version: i16, request: &Request<'_>) -> PartitionResponse {
    let frame = client.call(ApiKey::Produce, version, |w| request.encode(w, version));
    let mut response = decode(&frame, |r| Response::decode(r, version));
    response.topics.remove(0).partitions.remove(0)
}

#[test]
fn batches_are_appended_verbatim_in_every_version() {
    for version in 3..=13 {
        let mut client = Client::new();
        let streams = create_topic(&mut client, "t", 2);
        let id = topic_id(&client, "t");
        let records = batch(&["a", "b"]);
        let mut wanted = request("t", 1, &records);
        wanted.topics[0].topic_id = id;
        let answer = produce(&mut client, version, &wanted);
        assert_eq!((answer.error_code, answer.base_offset), (0, 0));
        let answer = produce(&mut client, version, &wanted);
        assert_eq!((answer.error_code, answer.base_offset), (0, 2));
        assert_eq!(client.engine.end(streams[1]), 4);
        assert_eq!(client.meter.messages_in, 4);
    }
}

fn check(version: i16, change: impl FnOnce(&mut Request<'_>), expect: ErrorCode) {
    let mut client = Client::new();
    create_topic(&mut client, "t", 1);
    let records = batch(&["a"]);
    let mut wanted = request("t", 0, &records);
    change(&mut wanted);
    let answer = produce(&mut client, version, &wanted);
    assert_eq!(answer.error_code, expect.code(), "{expect:?}");
    assert_eq!(answer.base_offset, -1);
}

#[test]
fn requests_that_cannot_be_served_are_refused() {
    for version in 0..=2 {
        check(version, |_| {}, ErrorCode::UnsupportedVersion);
    }
    check(9, |r| r.acks = 2, ErrorCode::InvalidRequiredAcks);
    check(9, |r| r.transactional_id = Some("x"), ErrorCode::TransactionalIdAuthorizationFailed);
    check(9, |r| r.topics[0].name = "missing", ErrorCode::UnknownTopicOrPartition);
    check(9, |r| r.topics[0].partitions[0].index = 5, ErrorCode::UnknownTopicOrPartition);
    check(9, |r| r.topics[0].partitions[0].index = -1, ErrorCode::UnknownTopicOrPartition);
    check(13, |r| r.topics[0].topic_id = [8; 16], ErrorCode::UnknownTopicId);
}

#[test]
fn batches_that_cannot_be_stored_are_refused() {
    let check = |records: Option<Bytes>, expect| {
        super::produce::check(9, |r| r.topics[0].partitions[0].records = records, expect);
    };
    let damaged = |change: &dyn Fn(&mut BytesMut)| {
        let mut bytes = BytesMut::from(&batch(&["a"])[..]);
        change(&mut bytes);
        Some(bytes.freeze())
    };
    check(None, ErrorCode::InvalidRecord);
    check(damaged(&|b| b[65] ^= 1), ErrorCode::CorruptMessage);
    check(damaged(&|b| b[16] = 1), ErrorCode::InvalidRecord);
    check(damaged(&|b| b.truncate(30)), ErrorCode::CorruptMessage);
    let two = [&batch(&["a"])[..], &batch(&["b"])[..]].concat();
    check(Some(two.into()), ErrorCode::InvalidRecord);
    let mut builder = BatchBuilder::new(0);
    builder.push(1_700_000_000_000 + 3_600_001, None, Some(&[b"early"]), &[]);
    check(Some(builder.finish(0, -1)), ErrorCode::InvalidTimestamp);
}

#[test]
fn a_topics_own_batch_limit_holds() {
    let mut client = Client::new();
    create_topic(&mut client, "t", 1);
    let settings = koine_broker::metadata::TopicSettings {
        message_bytes_max: Some(100),
        ..Default::default()
    };
    let command = Command::AlterTopic { namespace: NamespaceId(0), name: "t".into(), settings };
    client.engine.metadata.apply(command, &mut Effects::default()).expect("altered");
    let answer = produce(&mut client, 9, &request("t", 0, &batch(&[&"x".repeat(100)])));
    assert_eq!(answer.error_code, ErrorCode::MessageTooLarge.code());
    assert_eq!(produce(&mut client, 9, &request("t", 0, &batch(&["x"]))).error_code, 0);
}

#[test]
fn acks_0_has_no_answer_and_an_error_closes() {
    let mut client = Client::new();
    let streams = create_topic(&mut client, "t", 1);
    let records = batch(&["a"]);
    let silent = |topic| Request { acks: 0, ..request(topic, 0, &records) };
    client.queue(ApiKey::Produce, 9, |w| silent("t").encode(w, 9));
    client.run();
    assert!(client.answer(ApiKey::Produce, 9).is_none());
    assert_eq!(client.engine.end(streams[0]), 1);
    assert!(!client.closed);
    client.queue(ApiKey::Produce, 9, |w| silent("missing").encode(w, 9));
    client.run();
    assert!(client.closed);
}

#[test]
fn what_a_topic_gets_is_offered_to_subscribers_of_its_subject() {
    let mut client = Client::new();
    create_topic(&mut client, "a.b", 1);
    declare_queue(&mut client, "q", None);
    let binding = koine_broker::metadata::BindingSpec {
        source: "amq.topic".into(),
        target: koine_broker::metadata::BindingTarget::Queue("q".into()),
        key: b"a.*".to_vec(),
        arguments: Vec::new(),
    };
    let command = Command::Bind { namespace: NamespaceId(0), binding };
    client.engine.metadata.apply(command, &mut Effects::default()).expect("bound");
    let answer = produce(&mut client, 9, &request("a.b", 0, &batch(&["x", "y"])));
    assert_eq!(answer.error_code, 0);
    let published = &client.engine.published;
    let bodies: Vec<_> =
        published.iter().map(|content| content.body.clone().expect("a body")).collect();
    assert_eq!(bodies, ["x", "y"]);
    assert!(published.iter().all(|content| content.origin == Origin::KafkaForwarded));
}

#[test]
fn producer_ids_are_handed_out_but_not_for_transactions() {
    for version in 0..=5 {
        let mut client = Client::new();
        let first = call!(client, init_producer_id, InitProducerId, version, Default::default());
        let second = call!(client, init_producer_id, InitProducerId, version, Default::default());
        assert_eq!((first.error_code, first.producer_epoch), (0, 0));
        assert_ne!(first.producer_id, second.producer_id);
        let request =
            init_producer_id::Request { transactional_id: Some("x".into()), ..Default::default() };
        let refused = call!(client, init_producer_id, InitProducerId, version, request);
        assert_eq!(refused.error_code, ErrorCode::TransactionalIdAuthorizationFailed.code());
    }
}
