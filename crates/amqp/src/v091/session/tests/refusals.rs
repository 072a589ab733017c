//! What is refused, with which code and words, and what it closes.

use super::*;
use crate::v091::table::Value;

/// The channel is closed with `code` and a text that starts so; the connection lives.
fn check_soft(method: impl Into<Method>, code: u16, starts: &str) {
    let (mut node, client) = with_messages(&["a"]);
    let method = method.into();
    let name = method.name();
    let id = method.id();
    match only_method(node.ask(client, 1, method)) {
        Method::ChannelClose(close) => {
            assert_eq!((close.class_id, close.method_id), id, "{name}");
            assert_eq!(close.reply_code, code, "{name}");
            assert!(close.reply_text.as_str().starts_with(starts), "{name}: {}", close.reply_text);
        }
        other => panic!("{name}: {other:?}"),
    }
    // Everything on the closing channel is ignored until it is answered; then it can be opened again.
    assert_eq!(node.ask(client, 1, get("q")), []);
    assert_eq!(node.ask(client, 1, ChannelCloseOk {}), []);
    let opened = only_method(node.ask(client, 1, ChannelOpen::default()));
    assert_eq!(opened, ChannelOpenOk::default().into());
    assert_eq!(bodies(node.ask(client, 1, get("q"))).len(), 1);
}

/// The connection is closed with `code` and a text that starts so.
fn check_hard(method: impl Into<Method>, code: u16, starts: &str) {
    let (mut node, client) = with_messages(&["a"]);
    let method = method.into();
    let name = method.name();
    match only_method(node.ask(client, 1, method)) {
        Method::ConnectionClose(close) => {
            assert_eq!(close.reply_code, code, "{name}");
            assert!(close.reply_text.as_str().starts_with(starts), "{name}: {}", close.reply_text);
        }
        other => panic!("{name}: {other:?}"),
    }
    assert_eq!(node.ask(client, 1, get("q")), []);
    node.send(client, 0, ConnectionCloseOk {});
    assert!(node.is_closed(client));
}

fn argument(name: &'static str) -> Table {
    TableBuilder::new().with(name, Value::Int(1)).finish()
}

#[test]
fn declarations() {
    check_soft(
        QueueDeclare { passive: true, ..declare("none") },
        404,
        "NOT_FOUND - no queue 'none' in vhost '/'",
    );
    check_soft(
        QueueDeclare { durable: false, ..declare("q") },
        406,
        "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': \
         received 'false' but current is 'true'",
    );
    check_soft(
        QueueDeclare { exclusive: true, ..declare("q") },
        405,
        "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost '/'",
    );
    check_soft(
        QueueDeclare { arguments: argument("x-max-length"), ..declare("n") },
        406,
        "PRECONDITION_FAILED - invalid arg 'x-max-length' for queue 'n' in vhost '/'",
    );
    check_soft(
        declare("amq.mine"),
        403,
        "ACCESS_REFUSED - queue name 'amq.mine' contains reserved",
    );
    let exchange = |name: &str, kind: &str| ExchangeDeclare {
        exchange: text(name),
        kind: text(kind),
        durable: true,
        ..ExchangeDeclare::default()
    };
    check_soft(exchange("amq.mine", "direct"), 403, "ACCESS_REFUSED - exchange name 'amq.mine'");
    check_soft(
        exchange("", "direct"),
        403,
        "ACCESS_REFUSED - operation not permitted on the default",
    );
    check_soft(
        exchange("amq.topic", "fanout"),
        406,
        "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'amq.topic' in vhost '/': \
         received 'fanout' but current is 'topic'",
    );
    check_soft(
        ExchangeDeclare { arguments: argument("alternate-exchange"), ..exchange("e", "direct") },
        406,
        "PRECONDITION_FAILED - invalid arg 'alternate-exchange' for exchange 'e'",
    );
    check_soft(
        ExchangeDeclare { passive: true, ..exchange("none", "") },
        404,
        "NOT_FOUND - no exchange 'none' in vhost '/'",
    );
}

#[test]
fn deletions_and_bindings() {
    check_soft(
        ExchangeDelete { exchange: text("amq.direct"), ..ExchangeDelete::default() },
        403,
        "ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed",
    );
    check_soft(
        QueueDelete { queue: text("q"), if_empty: true, ..QueueDelete::default() },
        406,
        "PRECONDITION_FAILED - queue 'q' in vhost '/' not empty",
    );
    check_soft(
        QueuePurge { queue: text("none"), ..QueuePurge::default() },
        404,
        "NOT_FOUND - no queue 'none'",
    );
    let bind = |queue: &str, exchange: &str| QueueBind {
        queue: text(queue),
        exchange: text(exchange),
        ..QueueBind::default()
    };
    check_soft(bind("none", "amq.topic"), 404, "NOT_FOUND - no queue 'none' in vhost '/'");
    check_soft(bind("q", "none"), 404, "NOT_FOUND - no exchange 'none' in vhost '/'");
    check_soft(bind("q", ""), 403, "ACCESS_REFUSED - operation not permitted");
    let wrong = TableBuilder::new().with("x-match", Value::LongString(b"most")).finish();
    check_soft(
        QueueBind { arguments: wrong, ..bind("q", "amq.headers") },
        406,
        "PRECONDITION_FAILED - Invalid x-match field value \"most\"",
    );
    let mut node = Node::new();
    let client = node.connect();
    let delete = QueueDelete { queue: text("none"), ..QueueDelete::default() };
    let ok = only_method(node.ask(client, 1, delete));
    assert_eq!(ok, QueueDeleteOk { message_count: 0 }.into());
    let delete = ExchangeDelete { exchange: text("none"), ..ExchangeDelete::default() };
    assert_eq!(only_method(node.ask(client, 1, delete)), ExchangeDeleteOk {}.into());
    let missing = QueuePurge::default();
    let close = only_method(node.ask(client, 1, missing));
    assert!(matches!(close, Method::ChannelClose(close) if close.reply_code == 404));
}

#[test]
fn settling_and_consuming() {
    check_soft(ack(1), 406, "PRECONDITION_FAILED - unknown delivery tag 1");
    check_soft(
        BasicNack { delivery_tag: 7, multiple: true, requeue: true },
        406,
        "PRECONDITION_FAILED - unknown delivery tag 7",
    );
    check_soft(get("none"), 404, "NOT_FOUND - no queue 'none' in vhost '/'");
    check_soft(consume("none", "t"), 404, "NOT_FOUND - no queue 'none' in vhost '/'");
    check_soft(
        BasicConsume { arguments: argument("x-stream-offset"), ..consume("q", "t") },
        406,
        "PRECONDITION_FAILED - invalid arg 'x-stream-offset'",
    );
}

#[test]
fn what_is_not_implemented_closes_the_connection() {
    check_hard(TxSelect {}, 540, "NOT_IMPLEMENTED");
    let weird = ExchangeDeclare {
        exchange: text("e"),
        kind: text("x-weird"),
        ..ExchangeDeclare::default()
    };
    check_hard(weird, 503, "COMMAND_INVALID - unknown exchange type 'x-weird'");
    check_hard(ChannelFlow { active: false }, 540, "NOT_IMPLEMENTED - active=false");
    check_hard(BasicRecover { requeue: false }, 540, "NOT_IMPLEMENTED - requeue=false");
    let qos = BasicQos { prefetch_size: 9, ..BasicQos::default() };
    check_hard(qos, 540, "NOT_IMPLEMENTED - prefetch_size!=0 (9)");
    check_hard(ChannelOpen::default(), 504, "CHANNEL_ERROR - second 'channel.open' seen");
    check_hard(ConfirmSelectOk {}, 503, "COMMAND_INVALID - unimplemented method");
    check_hard(ConnectionBlocked::default(), 503, "COMMAND_INVALID");
}

#[test]
fn a_consumer_tag_is_used_once_and_an_exclusive_consumer_is_alone() {
    let (mut node, client) = with_messages(&[]);
    let other = node.connect();
    node.send(client, 1, BasicConsume { exclusive: true, ..consume("q", "t") });
    node.take(client);
    for method in [Method::from(consume("q", "u")), get("q").into()] {
        let close = only_method(node.ask(other, 1, method));
        let Method::ChannelClose(close) = close else { panic!("{close:?}") };
        assert_eq!(close.reply_code, 403);
        let expect = "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use";
        assert_eq!(close.reply_text.as_str(), expect);
        node.send(other, 1, ChannelCloseOk {});
        node.send(other, 1, ChannelOpen::default());
        node.take(other);
    }
    let close = only_method(node.ask(client, 1, consume("q", "t")));
    let Method::ConnectionClose(close) = close else { panic!("{close:?}") };
    assert_eq!(close.reply_code, 530);
    assert_eq!(close.reply_text.as_str(), "NOT_ALLOWED - attempt to reuse consumer tag 't'");
}

#[test]
fn an_exclusive_queue_is_locked_for_others() {
    let mut node = Node::new();
    let (owner, other) = (node.connect(), node.connect());
    node.send(owner, 1, QueueDeclare { exclusive: true, ..declare("mine") });
    let purge = QueuePurge { queue: text("mine"), ..QueuePurge::default() };
    let methods: [Method; 4] = [
        QueueDeclare { passive: true, ..declare("mine") }.into(),
        purge.into(),
        consume("mine", "t").into(),
        QueueDelete { queue: text("mine"), ..QueueDelete::default() }.into(),
    ];
    for method in methods {
        let close = only_method(node.ask(other, 1, method));
        assert!(matches!(close, Method::ChannelClose(close) if close.reply_code == 405));
        node.send(other, 1, ChannelCloseOk {});
        node.send(other, 1, ChannelOpen::default());
        node.take(other);
    }
}

#[test]
fn publishes() {
    let check =
        |publish: BasicPublish, properties: BasicProperties<'_>, size: usize, starts: &str| {
            let (mut node, client) = with_messages(&[]);
            node.publish(client, publish, properties, &vec![0; size]);
            let reply_text = match only_method(node.take(client)) {
                Method::ChannelClose(close) => close.reply_text,
                Method::ConnectionClose(close) => close.reply_text,
                other => panic!("{other:?}"),
            };
            assert!(reply_text.as_str().starts_with(starts), "{reply_text}");
        };
    let none = BasicProperties::default();
    let nowhere = BasicPublish { exchange: text("none"), ..BasicPublish::default() };
    check(nowhere, none, 1, "NOT_FOUND - no exchange 'none' in vhost '/'");
    let immediate = BasicPublish { immediate: true, ..publish_to("q") };
    check(immediate, none, 1, "NOT_IMPLEMENTED - immediate=true");
    let size = 16 << 20;
    check(
        publish_to("q"),
        none,
        size + 1,
        "PRECONDITION_FAILED - message size 16777217 is larger than configured max size 16777216",
    );
    let bob = BasicProperties { user_id: Some(b"bob"), ..none };
    check(publish_to("q"), bob, 1, "PRECONDITION_FAILED - user_id property set to 'bob' but");
    for wrong in ["soon", "-1", "1.5", "", "4294967296"] {
        let wrong = BasicProperties { expiration: Some(wrong.as_bytes()), ..none };
        check(publish_to("q"), wrong, 1, "PRECONDITION_FAILED - invalid expiration");
    }
    let headers = TableBuilder::new().with("CC", Value::LongString(b"r")).finish();
    let wrong = BasicProperties { headers: Some(headers.view()), ..none };
    check(publish_to("q"), wrong, 1, "PRECONDITION_FAILED - CC header is not an array");
}

#[test]
fn logins_and_tuning() {
    let check = |method: Method, code: u16, starts: &str| {
        let mut node = Node::new();
        let client = node.connect_raw();
        node.send_bytes(client, b"AMQP\x00\x00\x09\x01");
        if !matches!(method, Method::ConnectionStartOk(_)) {
            node.send(client, 0, start_ok("guest", "guest"));
        }
        if matches!(method, Method::ConnectionOpen(_)) {
            let tune = ConnectionTuneOk { channel_max: 1, frame_max: 4096, heartbeat: 0 };
            node.send(client, 0, tune);
        }
        node.take(client);
        match only_method(node.ask(client, 0, method)) {
            Method::ConnectionClose(close) => {
                assert_eq!(close.reply_code, code);
                assert!(close.reply_text.as_str().starts_with(starts), "{}", close.reply_text);
            }
            other => panic!("{other:?}"),
        }
    };
    let wrong = start_ok("guest", "wrong").into();
    check(wrong, 403, "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN");
    let external = ConnectionStartOk { mechanism: text("EXTERNAL"), ..start_ok("", "") };
    check(external.into(), 503, "COMMAND_INVALID - unknown authentication mechanism 'EXTERNAL'");
    let tune =
        |channel_max, frame_max| ConnectionTuneOk { channel_max, frame_max, heartbeat: 0 }.into();
    check(tune(2048, 4096), 530, "NOT_ALLOWED - negotiated channel_max = 2048 is higher");
    check(tune(0, 4096), 530, "NOT_ALLOWED - negotiated channel_max = 0 is higher");
    check(tune(1, 4095), 530, "NOT_ALLOWED - negotiated frame_max = 4095 is lower");
    check(tune(1, 131_073), 530, "NOT_ALLOWED - negotiated frame_max = 131073 is higher");
    check(open("other").into(), 530, "NOT_ALLOWED - vhost other not found");
    check(ConnectionOpenOk::default().into(), 504, "CHANNEL_ERROR - unexpected method");
}

#[test]
fn channels_are_limited_and_must_be_opened() {
    let mut node = Node::new();
    let client = node.connect_raw();
    node.send_bytes(client, b"AMQP\x00\x00\x09\x01");
    node.send(client, 0, start_ok("guest", "guest"));
    node.send(client, 0, ConnectionTuneOk { channel_max: 2, frame_max: 4096, heartbeat: 0 });
    node.send(client, 0, open("/"));
    node.send(client, 1, ChannelOpen::default());
    node.send(client, 2, ChannelOpen::default());
    node.take(client);
    let close = only_method(node.ask(client, 3, ChannelOpen::default()));
    assert!(matches!(close, Method::ConnectionClose(close) if close.reply_code == 530));
    let client = node.connect();
    let close = only_method(node.ask(client, 2, get("q")));
    assert!(matches!(close, Method::ConnectionClose(close) if close.reply_code == 504));
}

#[test]
fn closes_that_cross_each_other_are_both_answered() {
    let (mut node, client) = with_messages(&[]);
    node.send(client, 1, ack(9));
    node.take(client);
    let close = ChannelClose { reply_code: 200, ..ChannelClose::default() };
    assert_eq!(only_method(node.ask(client, 1, close)), ChannelCloseOk {}.into());
    assert_eq!(node.ask(client, 1, ChannelCloseOk {}), []);
    let opened = only_method(node.ask(client, 1, ChannelOpen::default()));
    assert_eq!(opened, ChannelOpenOk::default().into());
}
