//! What a producer is told and made to do while the node is short of something, and that consumers are
//! left alone.

use super::*;
use crate::codec::produce::Response;
use koine_base::Moment;
use koine_broker::overload::Alarms;

const DISK: Alarms = Alarms { disk: true, memory: false };
const MEMORY: Alarms = Alarms { disk: false, memory: true };

fn send(client: &mut Client, acks: i16, value: &str) {
    let records = batch(&[value]);
    client.queue(ApiKey::Produce, 9, |w| {
        crate::codec::produce::Request { acks, ..produce::request("t", 0, &records) }.encode(w, 9);
    });
    client.run();
}

/// Error code and throttle time of the next answer.
fn answered(client: &mut Client) -> Option<(i16, i32)> {
    let (_, frame) = client.answer(ApiKey::Produce, 9)?;
    let response = decode(&frame, |r| Response::decode(r, 9));
    Some((response.topics[0].partitions[0].error_code, response.throttle_time_ms))
}

#[test]
fn short_of_disk_a_batch_is_refused_for_now_and_its_sender_muted() {
    let mut client = Client::new();
    let streams = create_topic(&mut client, "t", 1);
    send(&mut client, -1, "before");
    assert_eq!(answered(&mut client), Some((0, 0)));
    client.alarm(DISK);
    send(&mut client, -1, "meanwhile");
    // Producers retry this one, and keep the batch.
    assert_eq!(answered(&mut client), Some((ErrorCode::KafkaStorageError.code(), 1000)));
    send(&mut client, -1, "again");
    assert_eq!(answered(&mut client), None, "muted");
    assert!(!client.session.wants_input());
    assert_eq!(client.session.deadline(), client.now.moment.after_ms(1000));
    client.pass_deadline();
    assert_eq!(answered(&mut client), Some((ErrorCode::KafkaStorageError.code(), 1000)));
    client.alarm(Alarms::default());
    client.pass_deadline();
    send(&mut client, -1, "after");
    assert_eq!(answered(&mut client), Some((0, 0)));
    assert_eq!(client.engine.end(streams[0]), 2);
}

#[test]
fn short_of_disk_what_wants_no_answer_waits() {
    let mut client = Client::new();
    let streams = create_topic(&mut client, "t", 1);
    client.alarm(DISK);
    send(&mut client, 0, "silent");
    assert!(!client.session.wants_input() && !client.closed);
    assert_eq!(client.session.partial_bytes(), 0);
    assert_eq!(client.engine.end(streams[0]), 0);
    client.alarm(Alarms::default());
    assert_eq!(client.engine.end(streams[0]), 1);
    assert!(client.session.wants_input());
}

#[test]
fn short_of_memory_producers_wait_and_are_told_to() {
    let mut client = Client::new();
    let streams = create_topic(&mut client, "t", 1);
    client.engine.paused = true;
    send(&mut client, -1, "under way");
    client.engine.paused = false;
    client.alarm(MEMORY);
    assert_eq!(answered(&mut client), Some((0, 100)));
    send(&mut client, -1, "unread");
    assert!(!client.session.wants_input());
    assert_eq!((client.session.deadline(), client.meter.blocked), (Moment::NEVER, 1));
    assert!(client.input_bytes() > 0, "it is left where it is");
    client.alarm(Alarms::default());
    assert_eq!(answered(&mut client), Some((0, 0)));
    assert_eq!(client.engine.end(streams[0]), 2);
}

#[test]
fn a_large_batch_counts_as_it_comes_and_is_not_held_up() {
    let mut client = Client::new();
    let streams = create_topic(&mut client, "t", 1);
    let records = batch(&[&"x".repeat(200_000)]);
    let before = client.input_bytes();
    client.queue(ApiKey::Produce, 9, |w| produce::request("t", 0, &records).encode(w, 9));
    let rest = client.hold_back(100_000);
    assert_eq!(before, 0);
    client.alarm(MEMORY);
    client.run();
    assert_eq!(client.session.partial_bytes(), 100_000);
    assert!(client.session.wants_input());
    client.queue_bytes(&rest);
    client.run();
    assert_eq!((client.session.partial_bytes(), client.engine.end(streams[0])), (0, 1));
}

#[test]
fn consumers_go_on_whatever_is_short() {
    for alarms in [DISK, MEMORY, Alarms { disk: true, memory: true }] {
        let mut client = Client::new();
        let streams = create_topic(&mut client, "t", 1);
        client.append_elsewhere(streams[0], &batch(&["a"]));
        client.alarm(alarms);
        let response = call!(client, metadata, Metadata, 9, metadata::Request::default());
        assert_eq!(response.topics.len(), 1);
        let answer = fetch::fetch_one(&mut client, "t", 0, 0);
        assert!(!answer.is_empty());
        assert!(client.session.wants_input());
    }
}

#[test]
fn a_fetch_takes_no_more_than_there_is_room_for() {
    let mut client = Client::new();
    let streams = create_topic(&mut client, "t", 1);
    client.append_elsewhere(streams[0], &batch(&["a"]));
    for (room, expect) in [(usize::MAX, 1 << 20), (100_000, 100_000), (0, 64 << 10)] {
        client.output_room = room;
        client.engine.reads.clear();
        fetch::fetch_one(&mut client, "t", 0, 0);
        assert_eq!(client.engine.reads, [expect], "{room}");
        assert_eq!(client.session.gathered_bytes(), 0, "it is in the output");
    }
}
