//! Publishers while the node is short of something.

use super::*;
use crate::v091::output::{put_content, put_method, Content as Outgoing};
use koine_base::Rope;
use koine_broker::overload::Alarms;

const DISK: Alarms = Alarms { disk: true, memory: false };
const MEMORY: Alarms = Alarms { disk: false, memory: true };
const BOTH: Alarms = Alarms { disk: true, memory: true };
const NONE: Alarms = Alarms { disk: false, memory: false };

fn publish(node: &mut Node, client: usize, body: &str) {
    node.publish(client, publish_to("q"), BasicProperties::default(), body.as_bytes());
}

fn blocked(reason: &str) -> Seen {
    Seen::Method(0, ConnectionBlocked { reason: text(reason) }.into())
}

fn unblocked() -> Seen {
    Seen::Method(0, ConnectionUnblocked {}.into())
}

#[test]
fn a_publisher_is_told_once_and_told_again_when_all_is_clear() {
    let (mut node, publisher) = with_messages(&["before"]);
    node.alarm(MEMORY);
    assert_eq!(node.take(publisher), [blocked("low on memory")]);
    publish(&mut node, publisher, "first");
    publish(&mut node, publisher, "second");
    node.alarm(BOTH);
    node.alarm(DISK);
    assert_eq!(node.take(publisher), [], "once per episode");
    assert!(!node.wants_input(publisher));
    node.alarm(NONE);
    assert_eq!(node.take(publisher), [unblocked()]);
    assert_eq!(counts(&mut node, publisher, "q"), (3, 0), "what waited was not lost");
    node.alarm(DISK);
    assert_eq!(node.take(publisher), [blocked("low on disk")]);
}

#[test]
fn who_does_not_publish_is_not_told_before_it_does() {
    let mut node = Node::new();
    let client = node.connect();
    node.send(client, 1, declare("q"));
    node.take(client);
    node.alarm(BOTH);
    assert_eq!(node.take(client), []);
    publish(&mut node, client, "a");
    assert_eq!(node.take(client), [blocked("low on memory & disk")]);
    assert_eq!(node.meter(client).blocked, 1);
    let late = node.connect();
    assert!(node.wants_input(late), "new connections are taken during an alarm");
    publish(&mut node, late, "b");
    assert_eq!(node.take(late), [blocked("low on memory & disk")]);
}

#[test]
fn without_the_capability_it_is_blocked_all_the_same() {
    let mut node = Node::new();
    let client = node.connect_raw();
    node.send_bytes(client, b"AMQP\x00\x00\x09\x01");
    let start_ok =
        ConnectionStartOk { client_properties: Table::default(), ..start_ok("guest", "guest") };
    node.send(client, 0, start_ok);
    node.send(client, 0, ConnectionTuneOk { channel_max: 9, frame_max: 131_072, heartbeat: 60 });
    node.send(client, 0, open("/"));
    node.send(client, 1, ChannelOpen::default());
    node.send(client, 1, declare("q"));
    node.take(client);
    node.alarm(DISK);
    publish(&mut node, client, "a");
    assert_eq!(node.take(client), []);
    assert!(!node.wants_input(client));
    node.alarm(NONE);
    assert_eq!(node.take(client), []);
    assert_eq!(counts(&mut node, client, "q"), (1, 0));
}

#[test]
fn acknowledgements_and_consumers_go_on_up_to_the_next_publish() {
    let (mut node, client) = with_messages(&["a", "b", "c"]);
    node.send(client, 1, BasicQos { prefetch_count: 1, ..BasicQos::default() });
    assert_eq!(bodies(node.ask(client, 1, consume("q", "t"))).len(), 1);
    node.alarm(DISK);
    node.take(client);
    assert_eq!(bodies(node.ask(client, 1, ack(1))), [(2, false, "b".into())]);
    publish(&mut node, client, "d");
    assert_eq!(bodies(node.ask(client, 1, ack(2))), [], "behind the publish");
    node.alarm(NONE);
    let seen = node.take(client);
    assert_eq!(seen[0], unblocked());
    assert_eq!(bodies(seen), [(3, false, "c".into())]);
}

#[test]
fn heartbeats_go_on_while_it_is_blocked() {
    let (mut node, client) = with_messages(&["a"]);
    node.alarm(MEMORY);
    publish(&mut node, client, "b");
    node.take(client);
    for minutes in 1..20 {
        // Its own heartbeats lie unread behind the publish.
        node.send_bytes(client, &crate::v091::output::HEARTBEAT);
        node.tick(client, Moment(minutes * 60_000_000));
        assert_eq!(node.take(client), [Seen::Heartbeat]);
        assert!(!node.is_closed(client));
    }
    node.alarm(NONE);
    assert!(node.wants_input(client));
}

/// A publish in many frames, cut before the last two of its body.
fn begun(body: &Bytes) -> (Bytes, Bytes) {
    let mut raw = BytesMut::new();
    BasicProperties::default().encode(&mut raw);
    let mut out = Rope::new();
    put_method(&mut out, 1, &publish_to("q").into());
    put_content(&mut out, 1, Outgoing { properties: &raw, body, frame_max: 4096 });
    let mut all = out.take_all();
    let last = body.len() % (4096 - 8) + 8;
    let first = all.split_to(all.len() - last - 4096);
    (first, all)
}

#[test]
fn short_of_memory_a_body_comes_to_its_end_and_the_next_waits() {
    let (mut node, client) = with_messages(&["a"]);
    let body = Bytes::from(vec![7; 100_000]);
    let (first, rest) = begun(&body);
    node.send_bytes(client, &first);
    assert_eq!(node.unfinished_bytes(client), (94_024, 100_000));
    node.alarm(MEMORY);
    assert_eq!(node.take(client), [blocked("low on memory")]);
    node.send_bytes(client, &rest);
    assert_eq!(node.unfinished_bytes(client), (0, 0));
    assert!(node.wants_input(client));
    publish(&mut node, client, "c");
    assert!(!node.wants_input(client));
    let other = node.connect();
    assert_eq!(counts(&mut node, other, "q"), (2, 0));
}

#[test]
fn short_of_disk_a_body_waits_where_it_is() {
    let (mut node, client) = with_messages(&["a"]);
    let body = Bytes::from(vec![7; 100_000]);
    let (first, rest) = begun(&body);
    node.send_bytes(client, &first);
    node.alarm(DISK);
    node.send_bytes(client, &rest);
    assert!(!node.wants_input(client));
    node.alarm(NONE);
    assert_eq!(node.take(client), [blocked("low on disk"), unblocked()]);
    assert_eq!(counts(&mut node, client, "q"), (2, 0));
}

#[test]
fn an_unfinished_body_of_a_closed_channel_counts_no_more() {
    let (mut node, client) = with_messages(&["a"]);
    let (first, _) = begun(&Bytes::from(vec![7; 100_000]));
    node.send_bytes(client, &first);
    node.send(client, 1, ChannelClose { reply_code: 200, ..ChannelClose::default() });
    assert_eq!(node.unfinished_bytes(client), (0, 0));
}

#[test]
fn a_connection_that_keeps_memory_is_closed_with_the_reason() {
    let (mut node, client) = with_messages(&["a"]);
    node.evict(client);
    let close = only_method(node.take(client));
    assert!(matches!(close, Method::ConnectionClose(close) if close.reply_code == 506));
    assert!(node.is_closed(client));
}
