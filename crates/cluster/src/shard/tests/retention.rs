//! What retention lets go, and when.

use super::*;
use koine_broker::metadata::TopicSettings;

const CHECK_MS: u64 = 300_000;
const HOUR_MS: i64 = 3_600_000;

fn topic(node: &mut Node<'_>, client: &Client) -> StreamId {
    let settings = TopicSettings { retention_ms: Some(HOUR_MS), ..TopicSettings::default() };
    let (name, partitions, id) = ("t".to_owned(), 1, [3; 16]);
    let command = Command::CreateTopic { namespace: NAMESPACE, name, partitions, settings, id };
    match &node.ask(client, Request::Propose { token: 1, command })[..] {
        [Event::Proposed { result: Ok(Outcome::TopicCreated { streams, .. }), .. }] => streams[0],
        other => panic!("{other:?}"),
    }
}

fn append(node: &mut Node<'_>, client: &Client, stream: StreamId, timestamp: i64) {
    let mut builder = BatchBuilder::new(timestamp);
    builder.push(timestamp, None, Some(&[b"value"]), &[]);
    let batch = builder.finish(0, 0);
    let info = batch::BatchHeader::new(&batch).and_then(|h| h.info()).expect("built here");
    let events = node.ask(client, Request::Append { token: Some(4), stream, batch, info });
    assert!(matches!(&events[..], [Event::Appended { result: Ok(_), .. }]), "{events:?}");
}

fn start(node: &mut Node<'_>, client: &Client, stream: StreamId) -> u64 {
    match &node.ask(client, Request::Bounds { token: 3, stream })[..] {
        [Event::Bounds { result: Ok(bounds), .. }] => bounds.start,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_record_with_an_old_timestamp_is_spared_for_a_while_after_its_append() {
    let disk = MemoryDisk::new();
    let mut node = Node::open(&disk, 1);
    let client = node.connect(0);
    let stream = topic(&mut node, &client);
    pass(&mut node, 1_000);
    append(&mut node, &client, stream, 5);
    pass(&mut node, CHECK_MS);
    append(&mut node, &client, stream, 6);
    pass(&mut node, CHECK_MS - 2_000);
    assert_eq!(start(&mut node, &client, stream), 0);
    pass(&mut node, 2_000);
    assert_eq!(start(&mut node, &client, stream), 1, "the first is due, the second is new");

    // A start spares what is there.
    let now = node.now;
    disk.crash(koine_base::disk::memory::Survival::Nothing);
    node = Node::open(&disk, 1);
    node.now = now;
    let client = node.connect(0);
    pass(&mut node, 1_000);
    assert_eq!(start(&mut node, &client, stream), 1);
    let recent = node.now.wall.0;
    append(&mut node, &client, stream, recent);
    pass(&mut node, 2 * CHECK_MS);
    assert_eq!(start(&mut node, &client, stream), 2);
    pass(&mut node, HOUR_MS as u64 + CHECK_MS);
    assert_eq!(start(&mut node, &client, stream), 3);
}

#[test]
fn a_node_that_stops_begins_no_round() {
    let disk = MemoryDisk::new();
    let mut node = Node::open(&disk, 1);
    let client = node.connect(0);
    let stream = topic(&mut node, &client);
    pass(&mut node, 1_000);
    append(&mut node, &client, stream, 5);
    pass(&mut node, CHECK_MS);
    node.shards[0].shut_down(node.now);
    node.settle();
    assert!(node.shards[0].is_quiet());
    // Without a result of the disk in between.
    for _ in 0..3 {
        node.now.moment = node.now.moment.after_ms(CHECK_MS);
        node.now.wall = node.now.wall.plus_ms(CHECK_MS as i64);
        node.shards[0].tick(node.now);
        assert!(node.shards[0].is_quiet());
    }
    assert!(node.shards[0].deadline() > node.now.moment, "nothing is due over and over");
}
