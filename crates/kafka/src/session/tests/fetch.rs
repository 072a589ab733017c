//! Fetch, ListOffsets, OffsetForLeaderEpoch, DeleteRecords.

use super::*;
use crate::codec::fetch::{PartitionWanted, Request, Response, TopicWanted};
use bytes::BytesMut;
use koine_base::Moment;
use koine_broker::batch::{BatchHeader, Origin};

pub fn wanted(partition: i32, fetch_offset: i64) -> PartitionWanted {
    PartitionWanted {
        partition,
        current_leader_epoch: -1,
        fetch_offset,
        last_fetched_epoch: -1,
        log_start_offset: -1,
        partition_max_bytes: 1 << 20,
    }
}

pub fn request(topic: &str, partitions: Vec<PartitionWanted>) -> Request<'_> {
    let topics = match partitions.is_empty() {
        true => Vec::new(),
        false => vec![TopicWanted { topic, topic_id: [0; 16], partitions }],
    };
    Request {
        cluster_id: None,
        replica_id: -1,
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: 50 << 20,
        isolation_level: 0,
        session_id: 0,
        session_epoch: -1,
        topics,
        forgotten: Vec::new(),
        rack_id: "",
    }
}

pub fn fetch(client: &mut Client, version: i16, request: &Request<'_>) -> Response {
    let frame = client.call(ApiKey::Fetch, version, |w| request.encode(w, version));
    decode(&frame, |r| Response::decode(r, version))
}

/// The batches of one partition from an offset on.
pub fn fetch_one(client: &mut Client, topic: &str, partition: i32, offset: i64) -> Vec<Bytes> {
    let mut response = fetch(client, 12, &request(topic, vec![wanted(partition, offset)]));
    response.topics.remove(0).partitions.remove(0).records
}

/// Sends a request that may have to wait.
pub fn start(client: &mut Client, request: &Request<'_>) -> Option<Response> {
    client.queue(ApiKey::Fetch, 12, |w| request.encode(w, 12));
    client.run();
    answered(client)
}

pub fn answered(client: &mut Client) -> Option<Response> {
    let (_, frame) = client.answer(ApiKey::Fetch, 12)?;
    Some(decode(&frame, |r| Response::decode(r, 12)))
}

#[test]
fn batches_come_back_as_they_were_in_every_version() {
    for version in 4..=18 {
        let mut client = Client::new();
        let streams = create_topic(&mut client, "t", 1);
        client.engine.append(streams[0], &batch(&["a", "b"]));
        client.engine.append(streams[0], &batch(&["c"]));
        let mut wanted = request("t", vec![wanted(0, 1)]);
        wanted.topics[0].topic_id = topic_id(&client, "t");
        wanted.isolation_level = 1;
        let response = fetch(&mut client, version, &wanted);
        let partition = &response.topics[0].partitions[0];
        assert_eq!((partition.error_code, partition.high_watermark), (0, 3));
        assert_eq!(partition.last_stable_offset, 3);
        assert_eq!(partition.aborted_transactions, Some(Vec::new()));
        // The whole batch that holds the offset, and the next.
        let records = partition.records.concat();
        let first = BatchHeader::new(&records).expect("a batch");
        assert_eq!((first.base_offset(), first.crc_is_good()), (0, true));
        assert_eq!(records.len(), batch(&["a", "b"]).len() + batch(&["c"]).len());
        assert_eq!(client.meter.messages_out, 2);
    }
}

#[test]
fn errors_are_answered_at_once() {
    let mut client = Client::new();
    create_topic(&mut client, "t", 1);
    let mut check = |topic, partition: PartitionWanted, expect: ErrorCode| {
        let response = fetch(&mut client, 12, &request(topic, vec![partition]));
        let partition = &response.topics[0].partitions[0];
        assert_eq!((partition.error_code, partition.high_watermark), (expect.code(), -1));
    };
    check("missing", wanted(0, 0), ErrorCode::UnknownTopicOrPartition);
    check("t", wanted(1, 0), ErrorCode::UnknownTopicOrPartition);
    check("t", wanted(0, 9), ErrorCode::OffsetOutOfRange);
    check("t", wanted(0, -1), ErrorCode::OffsetOutOfRange);
    let ahead = PartitionWanted { current_leader_epoch: 8, ..wanted(0, 0) };
    check("t", ahead, ErrorCode::UnknownLeaderEpoch);
}

#[test]
fn a_client_that_believes_in_another_leader_epoch_is_told() {
    let mut client = Client::new();
    create_topic(&mut client, "t", 1);
    let cases = [
        (-1, ErrorCode::None),
        (0, ErrorCode::None),
        (6, ErrorCode::FencedLeaderEpoch),
        (7, ErrorCode::None),
        (8, ErrorCode::UnknownLeaderEpoch),
    ];
    for (believed, expect) in cases {
        let partition = PartitionWanted { current_leader_epoch: believed, ..wanted(0, 0) };
        let request = Request { max_wait_ms: 0, ..request("t", vec![partition]) };
        let found = fetch(&mut client, 12, &request).topics[0].partitions[0].error_code;
        assert_eq!(found, expect.code(), "fetch, {believed}");
        let asked = offset_for_leader_epoch::PartitionWanted {
            partition: 0,
            current_leader_epoch: believed,
            leader_epoch: 7,
        };
        let topic =
            offset_for_leader_epoch::TopicWanted { topic: "t".into(), partitions: vec![asked] };
        let request = offset_for_leader_epoch::Request { replica_id: -1, topics: vec![topic] };
        let response = call!(client, offset_for_leader_epoch, OffsetForLeaderEpoch, 4, request);
        let found = response.topics[0].partitions[0].error_code;
        assert_eq!(found, expect.code(), "epoch's end, {believed}");
    }
}

#[test]
fn an_empty_fetch_waits_for_the_next_append() {
    let mut client = Client::new();
    let streams = create_topic(&mut client, "t", 2);
    assert!(start(&mut client, &request("t", vec![wanted(0, 0), wanted(1, 0)])).is_none());
    client.append_elsewhere(streams[1], &batch(&["a"]));
    let response = answered(&mut client).expect("an answer");
    let partitions = &response.topics[0].partitions;
    assert!(partitions[0].records.is_empty());
    assert_eq!(partitions[1].high_watermark, 1);
    assert!(!partitions[1].records.is_empty());
    assert_eq!(client.session.deadline(), Moment::NEVER);
}

#[test]
fn an_empty_fetch_is_answered_when_its_time_is_up() {
    let mut client = Client::new();
    create_topic(&mut client, "t", 1);
    assert!(start(&mut client, &request("t", vec![wanted(0, 0)])).is_none());
    assert_eq!(client.session.deadline(), client.now.moment.after_ms(500));
    client.pass_deadline();
    let response = answered(&mut client).expect("an answer");
    assert_eq!(response.topics[0].partitions[0].high_watermark, 0);
}

#[test]
fn min_bytes_are_collected() {
    let mut client = Client::new();
    let streams = create_topic(&mut client, "t", 1);
    let one = batch(&["a"]);
    let wanted = Request { min_bytes: 2 * one.len() as i32, ..request("t", vec![wanted(0, 0)]) };
    assert!(start(&mut client, &wanted).is_none());
    client.append_elsewhere(streams[0], &one);
    assert!(answered(&mut client).is_none());
    client.append_elsewhere(streams[0], &one);
    let response = answered(&mut client).expect("an answer");
    assert_eq!(response.topics[0].partitions[0].records.concat().len(), 2 * one.len());
}

#[test]
fn max_bytes_bound_the_answer_but_one_batch_always_fits() {
    let mut client = Client::new();
    let streams = create_topic(&mut client, "t", 3);
    let large = batch(&[&"x".repeat(1000)]);
    for stream in &streams {
        client.engine.append(*stream, &large);
        client.engine.append(*stream, &large);
    }
    let all = vec![wanted(0, 0), wanted(1, 0), wanted(2, 0)];
    let sizes = |response: &Response| -> Vec<usize> {
        response.topics[0].partitions.iter().map(|p| p.records.concat().len()).collect()
    };
    let response = fetch(&mut client, 12, &Request { max_bytes: 10, ..request("t", all.clone()) });
    assert_eq!(sizes(&response), [large.len(), 0, 0]);
    // Watermarks of what was not read are told all the same.
    assert!(response.topics[0].partitions.iter().all(|p| p.high_watermark == 2));
    let some = Request { max_bytes: 3 * large.len() as i32, ..request("t", all) };
    let total: usize = sizes(&fetch(&mut client, 12, &some)).iter().sum();
    assert!((2 * large.len()..=3 * large.len()).contains(&total));
}

#[test]
fn a_session_answers_only_what_is_new() {
    let mut client = Client::new();
    let streams = create_topic(&mut client, "t", 2);
    let both = vec![wanted(0, 0), wanted(1, 0)];
    let opening = Request { session_epoch: 0, max_wait_ms: 0, ..request("t", both) };
    let first = fetch(&mut client, 12, &opening);
    assert!(first.session_id > 0);
    assert_eq!(first.topics[0].partitions.len(), 2);
    client.engine.append(streams[1], &batch(&["a"]));
    let next = Request { session_id: first.session_id, session_epoch: 1, ..request("t", vec![]) };
    let second = fetch(&mut client, 12, &next);
    assert_eq!(second.session_id, first.session_id);
    assert_eq!(second.topics[0].partitions.len(), 1);
    assert_eq!(second.topics[0].partitions[0].partition_index, 1);
    let refused = fetch(&mut client, 12, &Request { session_epoch: 9, ..next });
    assert_eq!(refused.error_code, ErrorCode::InvalidFetchSessionEpoch.code());
}

#[test]
fn records_of_other_protocols_are_plain_records() {
    let mut client = Client::new();
    let stream = declare_queue(&mut client, "q", None);
    let mut builder = BatchBuilder::new(0);
    builder.push_foreign(Origin::Amqp091, 5, &[&[0], b"text/plain"], None, &[b"body"]);
    client.engine.append(stream, &builder.finish(0, 0));
    let response = fetch(&mut client, 12, &request("q", vec![wanted(0, 0)]));
    let records = response.topics[0].partitions[0].records.concat();
    let header = BatchHeader::new(&records).expect("a batch");
    assert_eq!((header.attributes(), header.crc_is_good(), header.leader_epoch()), (0, true, 7));
}

#[test]
fn zstd_is_not_given_to_clients_that_cannot_know_it() {
    let mut client = Client::new();
    let streams = create_topic(&mut client, "t", 1);
    let mut bytes = BytesMut::from(&batch(&["a"])[..]);
    bytes[22] |= 4;
    client.engine.append(streams[0], &bytes.freeze());
    for (version, expect) in [(9, ErrorCode::UnsupportedCompressionType), (10, ErrorCode::None)] {
        let response = fetch(&mut client, version, &request("t", vec![wanted(0, 0)]));
        assert_eq!(response.topics[0].partitions[0].error_code, expect.code());
    }
}

fn list(client: &mut Client, version: i16, timestamp: i64) -> list_offsets::Partition {
    let wanted = list_offsets::PartitionWanted { timestamp, ..Default::default() };
    let request = list_offsets::Request {
        topics: vec![list_offsets::TopicWanted { name: "t".into(), partitions: vec![wanted] }],
        ..Default::default()
    };
    let mut response = call!(client, list_offsets, ListOffsets, version, request);
    response.topics.remove(0).partitions.remove(0)
}

#[test]
fn offsets_are_listed_by_time_and_by_special_timestamps() {
    let mut client = Client::new();
    let streams = create_topic(&mut client, "t", 1);
    let mut builder = BatchBuilder::new(100);
    for timestamp in [100, 300, 200] {
        builder.push(timestamp, None, None, &[]);
    }
    client.engine.append(streams[0], &builder.finish(0, 0));
    // Timestamp asked for, first version, offset and timestamp found.
    let table = [
        (-1, 1, 3, -1),
        (-2, 1, 0, -1),
        (150, 1, 1, 300),
        (301, 1, -1, -1),
        (-3, 7, 1, 300),
        (-4, 8, 0, -1),
        (-5, 9, -1, -1),
        (-6, 11, -1, -1),
    ];
    for version in 1..=11 {
        for (timestamp, from, offset, at) in table {
            let found = list(&mut client, version, timestamp);
            if version < from {
                assert_eq!(found.error_code, ErrorCode::UnsupportedVersion.code());
            } else {
                assert_eq!((found.error_code, found.offset, found.timestamp), (0, offset, at));
            }
        }
    }
    assert_eq!(list(&mut client, 0, -1).old_style_offsets, [3]);
}

#[test]
fn leader_epochs_end_where_the_log_ends() {
    for version in 0..=4 {
        let mut client = Client::new();
        let streams = create_topic(&mut client, "t", 1);
        client.engine.append(streams[0], &batch(&["a"]));
        let asked = |leader_epoch, partition| offset_for_leader_epoch::PartitionWanted {
            partition,
            current_leader_epoch: -1,
            leader_epoch,
        };
        let request = offset_for_leader_epoch::Request {
            replica_id: -1,
            topics: vec![offset_for_leader_epoch::TopicWanted {
                topic: "t".into(),
                partitions: vec![asked(7, 0), asked(3, 0), asked(7, 5)],
            }],
        };
        let response =
            call!(client, offset_for_leader_epoch, OffsetForLeaderEpoch, version, request);
        let ends = &response.topics[0].partitions;
        assert_eq!((ends[0].error_code, ends[0].end_offset), (0, 1));
        assert_eq!((ends[1].error_code, ends[1].end_offset), (0, -1));
        assert_eq!(ends[2].error_code, ErrorCode::UnknownTopicOrPartition.code());
    }
}

#[test]
fn records_are_deleted_up_to_an_offset() {
    for version in 0..=2 {
        let mut client = Client::new();
        let streams = create_topic(&mut client, "t", 1);
        declare_queue(&mut client, "q", None);
        client.engine.append(streams[0], &batch(&["a", "b", "c"]));
        let mut delete = |name: &str, offset| {
            let wanted = delete_records::PartitionWanted { partition_index: 0, offset };
            let topic = delete_records::TopicWanted { name: name.into(), partitions: vec![wanted] };
            let request = delete_records::Request { topics: vec![topic], timeout_ms: 0 };
            let mut response = call!(client, delete_records, DeleteRecords, version, request);
            let partition = response.topics.remove(0).partitions.remove(0);
            (partition.error_code, partition.low_watermark)
        };
        assert_eq!(delete("t", 2), (0, 2));
        assert_eq!(delete("t", 9), (ErrorCode::OffsetOutOfRange.code(), -1));
        assert_eq!(delete("t", -7), (ErrorCode::OffsetOutOfRange.code(), -1));
        assert_eq!(delete("t", -1), (0, 3));
        assert_eq!(delete("q", -1), (ErrorCode::PolicyViolation.code(), -1));
        assert_eq!(delete("x", -1), (ErrorCode::UnknownTopicOrPartition.code(), -1));
    }
}
