use super::*;
use crate::v091::content::NO_PROPERTIES;
use crate::v091::methods::*;
use crate::v091::table::{Table, TableBuilder};
use crate::v091::wire::SecretString;
use node::{Node, Seen};

mod access;
mod alarms;
mod logins;
mod node;
mod refusals;
mod revocation;
mod robustness;
mod roles;

fn text(text: &str) -> ShortString {
    ShortString::truncated(text)
}

fn start_ok(user: &str, password: &str) -> ConnectionStartOk {
    use crate::v091::table::Value;
    let capabilities = TableBuilder::new()
        .with("consumer_cancel_notify", Value::Bool(true))
        .with("authentication_failure_close", Value::Bool(true))
        .with("connection.blocked", Value::Bool(true))
        .finish();
    ConnectionStartOk {
        client_properties: TableBuilder::new()
            .with("capabilities", Value::Table(capabilities.view()))
            .finish(),
        mechanism: text("PLAIN"),
        response: SecretString(format!("\0{user}\0{password}").into()),
        locale: text("en_US"),
    }
}

fn open(vhost: &str) -> ConnectionOpen {
    ConnectionOpen { virtual_host: text(vhost), ..ConnectionOpen::default() }
}

fn declare(name: &str) -> QueueDeclare {
    QueueDeclare { queue: text(name), durable: true, ..QueueDeclare::default() }
}

fn publish_to(name: &str) -> BasicPublish {
    BasicPublish { routing_key: text(name), ..BasicPublish::default() }
}

fn consume(name: &str, tag: &str) -> BasicConsume {
    BasicConsume { queue: text(name), consumer_tag: text(tag), ..BasicConsume::default() }
}

fn get(name: &str) -> BasicGet {
    BasicGet { queue: text(name), ..BasicGet::default() }
}

fn ack(delivery_tag: u64) -> BasicAck {
    BasicAck { delivery_tag, multiple: false }
}

fn only_method(seen: Vec<Seen>) -> Method {
    match <[Seen; 1]>::try_from(seen) {
        Ok([Seen::Method(_, method)]) => method,
        other => panic!("{other:?}"),
    }
}

/// Delivery tag, redelivered, body as text of every delivery or get-ok.
fn bodies(seen: Vec<Seen>) -> Vec<(u64, bool, String)> {
    let body = |body: Bytes| String::from_utf8(body.to_vec()).expect("text");
    seen.into_iter()
        .filter_map(|seen| match seen {
            Seen::Content(_, Method::BasicDeliver(method), _, content) => {
                Some((method.delivery_tag, method.redelivered, body(content)))
            }
            Seen::Content(_, Method::BasicGetOk(method), _, content) => {
                Some((method.delivery_tag, method.redelivered, body(content)))
            }
            _ => None,
        })
        .collect()
}

fn with_messages(messages: &[&str]) -> (Node, usize) {
    let mut node = Node::new();
    let client = node.connect();
    node.send(client, 1, declare("q"));
    for message in messages {
        node.publish(client, publish_to("q"), BasicProperties::default(), message.as_bytes());
    }
    node.take(client);
    (node, client)
}

fn counts(node: &mut Node, client: usize, name: &str) -> (u32, u32) {
    let passive = QueueDeclare { passive: true, ..declare(name) };
    match only_method(node.ask(client, 1, passive)) {
        Method::QueueDeclareOk(ok) => (ok.message_count, ok.consumer_count),
        other => panic!("{other:?}"),
    }
}

#[test]
fn negotiation_from_header_to_open() {
    let mut node = Node::new();
    let client = node.connect_raw();
    node.send_bytes(client, b"AMQP\x00\x00\x09\x01");
    let Method::ConnectionStart(start) = only_method(node.take(client)) else { panic!("start") };
    use crate::v091::table::Value;
    let properties = start.server_properties.view();
    assert_eq!(properties.find("product"), Some(Value::LongString(b"Koine")));
    assert_eq!(properties.find("version"), Some(Value::LongString(b"0.0.0")));
    let Some(Value::Table(capabilities)) = properties.find("capabilities") else { panic!("table") };
    assert_eq!(capabilities.find("publisher_confirms"), Some(Value::Bool(true)));
    assert_eq!(capabilities.find("connection.blocked"), Some(Value::Bool(true)));
    assert_eq!(capabilities.find("direct_reply_to"), None);
    let tune = only_method(node.ask(client, 0, start_ok("guest", "guest")));
    assert_eq!(
        tune,
        ConnectionTune { channel_max: 2047, frame_max: 131_072, heartbeat: 60 }.into()
    );
    let tune_ok = ConnectionTuneOk { channel_max: 10, frame_max: 4096, heartbeat: 0 };
    assert_eq!(node.ask(client, 0, tune_ok), []);
    assert_eq!(only_method(node.ask(client, 0, open("/"))), ConnectionOpenOk::default().into());
    assert_eq!(node.deadline(client), Moment::NEVER);
    let close = ConnectionClose { reply_code: 200, ..ConnectionClose::default() };
    assert_eq!(only_method(node.ask(client, 0, close)), ConnectionCloseOk {}.into());
    assert!(node.is_closed(client));
}

#[test]
fn another_protocol_is_told_ours() {
    for header in
        [b"AMQP\x00\x01\x00\x00", b"AMQP\x03\x01\x00\x00", b"GET / HT", b"\x16\x03\x01\0\0\0\0\0"]
    {
        let mut node = Node::new();
        let client = node.connect_raw();
        node.send_bytes(client, header);
        assert_eq!(node.take(client), [Seen::Header(*b"AMQP\x00\x00\x09\x01")]);
        assert!(node.is_closed(client));
    }
}

#[test]
fn heartbeats_are_sent_and_expected() {
    let mut node = Node::new();
    let client = node.connect();
    let second = |count: u64| Moment(1_000_000 + count * 1_000_000);
    assert_eq!(node.deadline(client), second(30));
    node.tick(client, second(30));
    assert_eq!(node.take(client), [Seen::Heartbeat]);
    node.now.moment = second(50);
    node.send_bytes(client, &crate::v091::output::HEARTBEAT);
    node.tick(client, second(60));
    assert_eq!(node.take(client), [Seen::Heartbeat]);
    node.tick(client, second(169));
    assert!(!node.is_closed(client));
    node.tick(client, second(170));
    assert!(node.is_closed(client));
}

#[test]
fn a_late_login_is_cut_off() {
    let mut node = Node::new();
    let client = node.connect_raw();
    node.send_bytes(client, b"AMQP\x00\x00\x09\x01");
    let deadline = node.deadline(client);
    assert_eq!(deadline, Moment(1_000_000).after_ms(node.limits.handshake_ms_max));
    node.tick(client, deadline);
    assert!(node.is_closed(client));
}

#[test]
fn publish_get_and_settle() {
    let (mut node, client) = with_messages(&["a", "b", "c"]);
    assert_eq!(counts(&mut node, client, "q"), (3, 0));
    let seen = node.ask(client, 1, get("q"));
    let [Seen::Content(1, Method::BasicGetOk(ok), properties, body)] = &seen[..] else {
        panic!("{seen:?}");
    };
    assert_eq!((ok.delivery_tag, ok.redelivered, ok.message_count), (1, false, 2));
    assert_eq!((ok.exchange.as_str(), ok.routing_key.as_str()), ("", "q"));
    assert_eq!((&properties[..], &body[..]), (&NO_PROPERTIES[..], &b"a"[..]));
    node.send(client, 1, BasicReject { delivery_tag: 1, requeue: true });
    assert_eq!(bodies(node.ask(client, 1, get("q"))), [(2, true, "a".into())]);
    node.send(client, 1, ack(2));
    let no_ack = BasicGet { no_ack: true, ..get("q") };
    assert_eq!(bodies(node.ask(client, 1, no_ack)), [(3, false, "b".into())]);
    assert_eq!(bodies(node.ask(client, 1, get("q"))), [(4, false, "c".into())]);
    node.send(client, 1, BasicNack { delivery_tag: 0, multiple: true, requeue: false });
    assert_eq!(only_method(node.ask(client, 1, get("q"))), BasicGetEmpty::default().into());
    assert_eq!(counts(&mut node, client, "q"), (0, 0));
}

#[test]
fn properties_and_bodies_come_back_byte_for_byte() {
    use crate::v091::table::Value;
    let mut node = Node::new();
    let client = node.connect();
    node.send(client, 1, declare("é"));
    let headers = TableBuilder::new()
        .with("k", Value::LongString(&[0xFF]))
        .with("k", Value::Decimal { scale: 1, unscaled: 5 })
        .finish();
    for size in [0usize, 1, 4088, 4089, 100_000, 8 << 20] {
        let body: Vec<u8> = (0..size).map(|index| index as u8).collect();
        let properties = BasicProperties {
            headers: Some(headers.view()),
            message_id: Some(b"id"),
            cluster_id: Some(b"c"),
            ..BasicProperties::default()
        };
        let mut raw = BytesMut::new();
        properties.encode(&mut raw);
        node.publish(client, publish_to("é"), properties, &body);
        let seen = node.ask(client, 1, BasicGet { no_ack: true, ..get("é") });
        let found = seen.into_iter().find_map(|seen| match seen {
            Seen::Content(_, Method::BasicGetOk(_), properties, body) => Some((properties, body)),
            _ => None,
        });
        let found = found.expect("a message");
        assert!(found.0 == raw && found.1 == body, "{size} bytes");
    }
}

#[test]
fn confirms_are_joined_and_follow_the_return() {
    let mut node = Node::new();
    let client = node.connect();
    node.send(client, 1, declare("q"));
    node.send(client, 1, ConfirmSelect::default());
    node.take(client);
    node.hold_publishes = true;
    for _ in 0..3 {
        node.publish(client, publish_to("q"), BasicProperties::default(), b"x");
    }
    let unroutable = BasicPublish { mandatory: true, ..publish_to("nobody") };
    node.publish(client, unroutable, BasicProperties::default(), b"back");
    let seen = node.take(client);
    let [Seen::Content(1, Method::BasicReturn(returned), _, body)] = &seen[..] else {
        panic!("{seen:?}");
    };
    assert_eq!((returned.reply_code, returned.reply_text.as_str()), (312, "NO_ROUTE"));
    assert_eq!(&body[..], b"back");
    node.release_publishes();
    let expect = BasicAck { delivery_tag: 4, multiple: true };
    assert_eq!(only_method(node.take(client)), expect.into());
    node.hold_publishes = false;
    node.refuse_publishes = true;
    node.publish(client, publish_to("q"), BasicProperties::default(), b"x");
    let expect = BasicNack { delivery_tag: 5, multiple: false, requeue: false };
    assert_eq!(only_method(node.take(client)), expect.into());
}

#[test]
fn without_flush_the_deadline_brings_the_confirms() {
    let (mut node, client) = with_messages(&[]);
    node.send(client, 1, ConfirmSelect::default());
    node.take(client);
    node.flushes = false;
    node.publish(client, publish_to("q"), BasicProperties::default(), b"x");
    assert_eq!(node.take(client), []);
    assert_eq!(node.deadline(client), node.now.moment);
    node.tick(client, node.now.moment);
    assert_eq!(only_method(node.take(client)), ack(1).into());
    assert!(node.deadline(client) > node.now.moment);
}

#[test]
fn prefetch_limits_each_consumer_and_an_ack_makes_room() {
    let (mut node, client) = with_messages(&["a", "b", "c", "d"]);
    node.send(client, 1, BasicQos { prefetch_count: 2, ..BasicQos::default() });
    node.take(client);
    let seen = node.ask(client, 1, consume("q", "t"));
    assert_eq!(seen[0], Seen::Method(1, BasicConsumeOk { consumer_tag: text("t") }.into()));
    assert_eq!(bodies(seen), [(1, false, "a".into()), (2, false, "b".into())]);
    assert_eq!(bodies(node.ask(client, 1, ack(2))), [(3, false, "c".into())]);
    let all = BasicAck { delivery_tag: 3, multiple: true };
    assert_eq!(bodies(node.ask(client, 1, all)), [(4, false, "d".into())]);
    assert_eq!(counts(&mut node, client, "q"), (0, 1));
    assert_eq!(node.meter(client).acked, 3);
}

#[test]
fn a_shared_prefetch_counts_all_consumers_of_the_channel() {
    let (mut node, client) = with_messages(&["a", "b", "c"]);
    node.send(client, 1, declare("r"));
    node.publish(client, publish_to("r"), BasicProperties::default(), b"r");
    let qos = BasicQos { prefetch_count: 2, global: true, ..BasicQos::default() };
    node.send(client, 1, qos);
    node.take(client);
    let mut seen = node.ask(client, 1, consume("q", "t"));
    seen.extend(node.ask(client, 1, consume("r", "u")));
    assert_eq!(bodies(seen), [(1, false, "a".into()), (2, false, "b".into())]);
    assert_eq!(bodies(node.ask(client, 1, ack(1))), [(3, false, "r".into())]);
    assert_eq!(bodies(node.ask(client, 1, ack(3))), [(4, false, "c".into())]);
}

#[test]
fn no_ack_consumers_are_not_limited() {
    let (mut node, client) = with_messages(&["a", "b", "c"]);
    node.send(client, 1, BasicQos { prefetch_count: 1, ..BasicQos::default() });
    node.take(client);
    let seen = node.ask(client, 1, BasicConsume { no_ack: true, ..consume("q", "") });
    assert_eq!(bodies(seen).len(), 3);
    let refused = only_method(node.ask(client, 1, ack(1)));
    assert!(matches!(refused, Method::ChannelClose(close) if close.reply_code == 406));
}

#[test]
fn what_is_not_settled_goes_back_in_its_place() {
    let (mut node, client) = with_messages(&["a", "b", "c"]);
    let other = node.connect();
    assert_eq!(bodies(node.ask(client, 1, consume("q", "t"))).len(), 3);
    node.send(client, 1, ack(2));
    let close = ChannelClose { reply_code: 200, ..ChannelClose::default() };
    assert_eq!(only_method(node.ask(client, 1, close)), ChannelCloseOk {}.into());
    let mut seen = node.ask(other, 1, get("q"));
    seen.extend(node.ask(other, 1, get("q")));
    assert_eq!(bodies(seen), [(1, true, "a".into()), (2, true, "c".into())]);
    // The same when a connection breaks, for gets as for consumers.
    node.disconnect(other);
    let third = node.connect();
    assert_eq!(bodies(node.ask(third, 1, consume("q", "t"))).len(), 2);
}

#[test]
fn recover_gives_all_back() {
    let (mut node, client) = with_messages(&["a", "b"]);
    assert_eq!(bodies(node.ask(client, 1, consume("q", "t"))).len(), 2);
    let seen = node.ask(client, 1, BasicRecover { requeue: true });
    assert_eq!(seen[0], Seen::Method(1, BasicRecoverOk {}.into()));
    assert_eq!(bodies(seen), [(3, true, "a".into()), (4, true, "b".into())]);
}

#[test]
fn cancel_leaves_what_was_delivered_to_be_settled() {
    let (mut node, client) = with_messages(&["a"]);
    node.send(client, 1, consume("q", "t"));
    node.take(client);
    let cancel = BasicCancel { consumer_tag: text("t"), no_wait: false };
    let ok = BasicCancelOk { consumer_tag: text("t") };
    assert_eq!(only_method(node.ask(client, 1, cancel.clone())), ok.clone().into());
    node.publish(client, publish_to("q"), BasicProperties::default(), b"b");
    assert_eq!(node.take(client), []);
    assert_eq!(node.ask(client, 1, ack(1)), []);
    assert_eq!(counts(&mut node, client, "q"), (1, 0));
    // Cancelling what is not there is no error, and the tag is free again.
    assert_eq!(only_method(node.ask(client, 1, cancel)), ok.into());
    assert_eq!(bodies(node.ask(client, 1, consume("q", "t"))), [(2, false, "b".into())]);
}

#[test]
fn consumers_are_told_when_their_queue_goes() {
    let (mut node, client) = with_messages(&[]);
    let other = node.connect();
    node.send(client, 1, consume("q", "t"));
    node.take(client);
    let delete = QueueDelete { queue: text("q"), ..QueueDelete::default() };
    let ok = only_method(node.ask(other, 1, delete));
    assert_eq!(ok, QueueDeleteOk { message_count: 0 }.into());
    let cancel = BasicCancel { consumer_tag: text("t"), no_wait: true };
    assert_eq!(only_method(node.take(client)), cancel.into());
}

#[test]
fn auto_delete_and_exclusive_queues_go_with_their_users() {
    let mut node = Node::new();
    let client = node.connect();
    node.send(client, 1, QueueDeclare { auto_delete: true, ..declare("ad") });
    node.send(client, 1, consume("ad", "t"));
    node.send(client, 1, BasicCancel { consumer_tag: text("t"), no_wait: false });
    assert!(node.metadata.queue(NamespaceId(0), "ad").is_none());
    node.send(client, 1, QueueDeclare { exclusive: true, ..declare("ex") });
    let exclusive = node.metadata.queue(NamespaceId(0), "ex").expect("it exists");
    assert!(!exclusive.spec.durable);
    let close = ConnectionClose { reply_code: 200, ..ConnectionClose::default() };
    node.take(client);
    assert_eq!(only_method(node.ask(client, 0, close)), ConnectionCloseOk {}.into());
    assert!(node.metadata.queue(NamespaceId(0), "ex").is_none());
}

#[test]
fn a_server_named_queue_is_meant_by_the_empty_name() {
    let mut node = Node::new();
    let client = node.connect();
    let declared = only_method(node.ask(client, 1, declare("")));
    let Method::QueueDeclareOk(ok) = declared else { panic!("{declared:?}") };
    assert!(ok.queue.as_str().starts_with("amq.gen-"));
    let bind = QueueBind { exchange: text("amq.direct"), ..QueueBind::default() };
    assert_eq!(only_method(node.ask(client, 1, bind)), QueueBindOk {}.into());
    let publish = BasicPublish {
        exchange: text("amq.direct"),
        routing_key: ok.queue,
        ..BasicPublish::default()
    };
    node.publish(client, publish, BasicProperties::default(), b"x");
    assert_eq!(bodies(node.ask(client, 1, get(""))).len(), 1);
}

#[test]
fn exchanges_route_by_key_header_and_each_other() {
    use crate::v091::table::Value;
    let mut node = Node::new();
    let client = node.connect();
    node.send(client, 1, declare("q"));
    let exchange = |name: &str, kind: &str| ExchangeDeclare {
        exchange: text(name),
        kind: text(kind),
        ..ExchangeDeclare::default()
    };
    node.send(client, 1, exchange("f", "fanout"));
    node.send(client, 1, exchange("t", "topic"));
    node.send(client, 1, exchange("h", "headers"));
    let e2e = ExchangeBind { destination: text("t"), source: text("f"), ..ExchangeBind::default() };
    node.send(client, 1, e2e);
    let bind = |exchange: &str, key: &str, arguments: Table| QueueBind {
        queue: text("q"),
        exchange: text(exchange),
        routing_key: text(key),
        arguments,
        ..QueueBind::default()
    };
    node.send(client, 1, bind("t", "a.#", Table::default()));
    let wanted = TableBuilder::new().with("n", Value::Byte(3)).finish();
    node.send(client, 1, bind("h", "", wanted));
    node.take(client);
    let mut check = |exchange: &str, key: &str, number: i64, expect: usize| {
        let headers = TableBuilder::new().with("n", Value::Long(number)).finish();
        let publish = BasicPublish {
            exchange: text(exchange),
            routing_key: text(key),
            ..BasicPublish::default()
        };
        let properties =
            BasicProperties { headers: Some(headers.view()), ..BasicProperties::default() };
        node.publish(client, publish, properties, b"x");
        let purge = QueuePurge { queue: text("q"), ..QueuePurge::default() };
        let purged = only_method(node.ask(client, 1, purge));
        let expect = QueuePurgeOk { message_count: expect as u32 };
        assert_eq!(purged, expect.into(), "{exchange} {key} {number}");
    };
    check("f", "a.b", 0, 1);
    check("f", "b", 0, 0);
    check("t", "a", 0, 1);
    check("h", "", 3, 1);
    check("h", "", 4, 0);
    check("", "q", 0, 1);
}

#[test]
fn copies_go_to_every_key_once_and_blind_ones_stay_hidden() {
    use crate::v091::table::{ArrayView, Value};
    let mut node = Node::new();
    let client = node.connect();
    for name in ["q", "r", "s"] {
        node.send(client, 1, declare(name));
    }
    let list = |name: &'static str| {
        let encoded = Value::LongString(name.as_bytes()).encoded();
        encoded
    };
    let (cc, bcc) = (list("r"), list("s"));
    let array = |raw: &[u8]| {
        let mut encoded = vec![b'A'];
        encoded.extend_from_slice(&(raw.len() as u32).to_be_bytes());
        encoded.extend_from_slice(raw);
        encoded
    };
    let (cc, bcc) = (array(&cc), array(&bcc));
    let headers = TableBuilder::new()
        .with("CC", Value::decode(&cc).expect("an array"))
        .with("BCC", Value::decode(&bcc).expect("an array"))
        .finish();
    let properties =
        BasicProperties { headers: Some(headers.view()), ..BasicProperties::default() };
    node.publish(client, publish_to("q"), properties, b"x");
    node.take(client);
    for name in ["q", "r", "s"] {
        let seen = node.ask(client, 1, BasicGet { no_ack: true, ..get(name) });
        let [Seen::Content(_, _, raw, _)] = &seen[..] else { panic!("{name}: {seen:?}") };
        let headers = BasicProperties::parse(raw).expect("ours").headers.expect("headers");
        assert!(matches!(headers.find("CC"), Some(Value::Array(ArrayView { .. }))));
        assert_eq!(headers.find("BCC"), None);
    }
}

#[test]
fn expired_messages_are_not_delivered() {
    let (mut node, client) = with_messages(&[]);
    let short = BasicProperties { expiration: Some(b"1000"), ..BasicProperties::default() };
    node.publish(client, publish_to("q"), short, b"short");
    node.publish(client, publish_to("q"), BasicProperties::default(), b"long");
    node.publish(client, publish_to("q"), short, b"short");
    node.now.wall = node.now.wall.plus_ms(1001);
    assert_eq!(bodies(node.ask(client, 1, get("q"))), [(1, false, "long".into())]);
    let seen = node.ask(client, 1, consume("q", "t"));
    assert_eq!(bodies(seen), []);
    assert_eq!(counts(&mut node, client, "q"), (0, 1));
}

#[test]
fn topics_of_others_are_queues_that_need_no_declaration() {
    use koine_broker::message::{Content, Origin};
    let mut node = Node::new();
    let client = node.connect();
    node.create_topic("flights", 2);
    for partition in [0, 1, 0] {
        let content = Content {
            origin: Origin::Mqtt,
            envelope: Bytes::new(),
            key: Some(Bytes::from_static(b"key")),
            body: None,
            timestamp: node.now.wall,
        };
        node.append("flights", partition, &content);
    }
    assert_eq!(counts(&mut node, client, "flights"), (3, 0));
    assert_eq!(bodies(node.ask(client, 1, get("flights"))).len(), 1);
    node.send(client, 1, BasicQos { prefetch_count: 1, ..BasicQos::default() });
    node.take(client);
    let seen = node.ask(client, 1, consume("flights", "t"));
    assert_eq!(bodies(seen), [(2, false, String::new())]);
    let seen = node.ask(client, 1, ack(2));
    let [Seen::Content(_, Method::BasicDeliver(method), properties, _)] = &seen[..] else {
        panic!("{seen:?}");
    };
    assert_eq!((method.exchange.as_str(), method.routing_key.as_str()), ("", "flights"));
    let headers = BasicProperties::parse(properties).expect("ours").headers.expect("the key");
    use crate::v091::table::Value;
    assert_eq!(headers.find("x-record-key"), Some(Value::LongString(b"key")));
}

#[test]
fn a_broker_that_stops_says_so() {
    let mut node = Node::new();
    let client = node.connect();
    node.shutdown(client);
    let close = only_method(node.take(client));
    assert!(matches!(close, Method::ConnectionClose(close) if close.reply_code == 320));
    assert!(node.is_closed(client));
}
