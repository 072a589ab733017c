//! What users may do, in words and order of RabbitMQ, and where one name space makes it stricter.

use super::*;
use crate::v091::table::Value;
use koine_broker::access::{
    AccessCommand, Acl, AclKind, AclPattern, Effect, Operation, Pattern, Permissions,
    TopicPermissions, User, IMPERSONATOR,
};

pub(super) fn add_user(node: &mut Node, name: &str) {
    node.logins.passwords.insert(name.to_owned(), "right".to_owned());
    node.access(AccessCommand::AddUser {
        name: name.to_owned(),
        user: User::default(),
        decoy_key: vec![1],
    });
}

fn pattern(text: &str) -> Pattern {
    Pattern::new(text).expect("a sound pattern")
}

pub(super) fn permission(user: &str, configure: &str, write: &str, read: &str) -> AccessCommand {
    AccessCommand::SetPermissions {
        user: user.to_owned(),
        namespace: NamespaceId(0),
        row: Permissions {
            configure: pattern(configure),
            write: pattern(write),
            read: pattern(read),
        },
    }
}

pub(super) fn permit(node: &mut Node, user: &str, configure: &str, write: &str, read: &str) {
    node.access(permission(user, configure, write, read));
}

pub(super) fn permit_keys(node: &mut Node, user: &str, exchange: &str, write: &str, read: &str) {
    node.access(AccessCommand::SetTopicPermissions {
        user: user.to_owned(),
        namespace: NamespaceId(0),
        exchange: exchange.to_owned(),
        row: TopicPermissions { write: pattern(write), read: pattern(read) },
    });
}

pub(super) fn list(
    node: &mut Node,
    user: &str,
    effect: Effect,
    operation: Operation,
    pattern: AclPattern,
) {
    let kind = match pattern {
        AclPattern::Filter(_) => AclKind::Subject,
        _ => AclKind::Topic,
    };
    let acl = Acl { user: user.to_owned(), host: "*".to_owned(), effect, operation, kind, pattern };
    node.access(AccessCommand::AddAcls { acls: vec![acl] });
}

/// A node with a user `alice`, password `right`, who may do everything.
pub(super) fn secured() -> Node {
    let mut node = Node::new();
    add_user(&mut node, "alice");
    permit(&mut node, "alice", ".*", ".*", ".*");
    node
}

/// A node where alice has declared the queue `q`, the exchanges `x` (direct) and `t` (topic) and the
/// topic `orders`, and a connection of bob, whose permission is this.
fn with_bob(configure: &str, write: &str, read: &str) -> (Node, usize) {
    let mut node = secured();
    let alice = node.connect_as("alice", "right");
    node.send(alice, 1, declare("q"));
    node.send(alice, 1, exchange("x", "direct"));
    node.send(alice, 1, exchange("t", "topic"));
    node.create_topic("orders", 1);
    add_user(&mut node, "bob");
    permit(&mut node, "bob", configure, write, read);
    let bob = node.connect_as("bob", "right");
    (node, bob)
}

pub(super) fn exchange(name: &str, kind: &str) -> ExchangeDeclare {
    ExchangeDeclare { exchange: text(name), kind: text(kind), ..ExchangeDeclare::default() }
}

pub(super) fn to(exchange: &str, key: &str) -> BasicPublish {
    BasicPublish { exchange: text(exchange), routing_key: text(key), ..BasicPublish::default() }
}

pub(super) fn bind(queue: &str, exchange: &str, key: &str) -> QueueBind {
    QueueBind {
        queue: text(queue),
        exchange: text(exchange),
        routing_key: text(key),
        ..QueueBind::default()
    }
}

/// Code and text of the close, or `ok`; with `!` if it is the connection's.
pub(super) fn outcome(seen: &[Seen]) -> String {
    for seen in seen {
        match seen {
            Seen::Method(_, Method::ChannelClose(close)) => {
                return format!("{} {}", close.reply_code, close.reply_text);
            }
            Seen::Method(_, Method::ConnectionClose(close)) => {
                return format!("!{} {}", close.reply_code, close.reply_text);
            }
            _ => {}
        }
    }
    "ok".to_owned()
}

/// Sends, and opens channel 1 again if it was closed.
pub(super) fn try_out(node: &mut Node, client: usize, method: impl Into<Method>) -> String {
    let seen = node.ask(client, 1, method);
    reopened(node, client, &seen)
}

pub(super) fn try_publish(
    node: &mut Node,
    client: usize,
    publish: BasicPublish,
    properties: BasicProperties<'_>,
) -> String {
    node.publish(client, publish, properties, b"x");
    let seen = node.take(client);
    reopened(node, client, &seen)
}

fn reopened(node: &mut Node, client: usize, seen: &[Seen]) -> String {
    let outcome = outcome(seen);
    if outcome != "ok" {
        node.send(client, 1, ChannelCloseOk {});
        node.send(client, 1, ChannelOpen::default());
        node.take(client);
    }
    outcome
}

fn no_properties() -> BasicProperties<'static> {
    BasicProperties::default()
}

fn denied(right: &str, what: &str) -> String {
    format!("403 ACCESS_REFUSED - {right} access to {what} in vhost '/' refused for user 'bob'")
}

fn copies_to(name: &'static str, keys: &[&str]) -> Table {
    let mut raw = Vec::new();
    for key in keys {
        raw.extend(Value::LongString(key.as_bytes()).encoded());
    }
    let mut array = vec![b'A'];
    array.extend((raw.len() as u32).to_be_bytes());
    array.extend(raw);
    TableBuilder::new().with(name, Value::decode(&array).expect("an array")).finish()
}

fn depth(node: &mut Node, name: &str) -> u32 {
    let admin = node.connect_as("alice", "right");
    counts(node, admin, name).0
}

#[test]
fn permission_comes_before_existence_and_everything_else() {
    let (mut node, bob) = with_bob("^none$", "^none$", "^none$");
    let owner = node.connect_as("alice", "right");
    node.send(owner, 1, QueueDeclare { exclusive: true, ..declare("mine") });
    let mut check = |method: Method, expect: String| {
        assert_eq!(try_out(&mut node, bob, method.clone()), expect, "{method:?}");
    };
    for name in ["q", "absent", "mine"] {
        let queue = format!("queue '{name}'");
        let passive = QueueDeclare { passive: true, ..declare(name) };
        check(passive.into(), denied("configure", &queue));
        check(declare(name).into(), denied("configure", &queue));
        check(get(name).into(), denied("read", &queue));
        check(consume(name, "c").into(), denied("read", &queue));
        let purge = QueuePurge { queue: text(name), ..QueuePurge::default() };
        check(purge.into(), denied("read", &queue));
        let delete = QueueDelete { queue: text(name), ..QueueDelete::default() };
        check(delete.into(), denied("configure", &queue));
        check(bind(name, "absent", "").into(), denied("write", &queue));
        let bad = TableBuilder::new().with("x-max-length", Value::Int(1)).finish();
        let bad = QueueDeclare { arguments: bad, ..declare(name) };
        check(bad.into(), denied("configure", &queue));
    }
    for name in ["x", "absent"] {
        let what = format!("exchange '{name}'");
        let passive = ExchangeDeclare { passive: true, ..exchange(name, "") };
        check(passive.into(), denied("configure", &what));
        check(exchange(name, "fanout").into(), denied("configure", &what));
        let delete = ExchangeDelete { exchange: text(name), ..ExchangeDelete::default() };
        check(delete.into(), denied("configure", &what));
        let into = ExchangeBind {
            destination: text(name),
            source: text("absent"),
            ..ExchangeBind::default()
        };
        check(into.into(), denied("write", &what));
    }
}

#[test]
fn any_right_is_enough_to_see_that_something_is_there() {
    for rights in [["^q$|^x$", "", ""], ["", "^q$|^x$", ""], ["", "", "^q$|^x$"]] {
        let (mut node, bob) = with_bob(rights[0], rights[1], rights[2]);
        let passive = QueueDeclare { passive: true, ..declare("q") };
        assert_eq!(try_out(&mut node, bob, passive), "ok", "{rights:?}");
        let passive = ExchangeDeclare { passive: true, ..exchange("x", "") };
        assert_eq!(try_out(&mut node, bob, passive), "ok", "{rights:?}");
    }
}

#[test]
fn a_binding_needs_the_target_first_and_then_the_source() {
    let (mut node, bob) = with_bob("", "^q$|^x$", "");
    assert_eq!(try_out(&mut node, bob, bind("q", "", "")), DEFAULT_REFUSED);
    assert_eq!(try_out(&mut node, bob, bind("q", "x", "")), denied("read", "exchange 'x'"));
    assert_eq!(try_out(&mut node, bob, bind("q", "gone", "")), denied("read", "exchange 'gone'"));
    let into_default = ExchangeBind { source: text("x"), ..ExchangeBind::default() };
    let expect = denied("write", "exchange 'amq.default'");
    assert_eq!(try_out(&mut node, bob, into_default.clone()), expect);
    permit(&mut node, "bob", "", "^q$|^amq\\.default$", "^x$");
    assert_eq!(try_out(&mut node, bob, into_default), DEFAULT_REFUSED);
    assert_eq!(try_out(&mut node, bob, bind("q", "x", "")), "ok");
    assert_eq!(try_out(&mut node, bob, bind("q", "gone", "")), denied("read", "exchange 'gone'"));
}

const DEFAULT_REFUSED: &str =
    "403 ACCESS_REFUSED - operation not permitted on the default exchange";

#[test]
fn reserved_names_are_refused_alike_whether_they_are_there_or_not() {
    let (mut node, bob) = with_bob("", "", "");
    let alice = node.connect_as("alice", "right");
    let Method::QueueDeclareOk(ok) = only_method(node.ask(alice, 1, declare(""))) else { panic!() };
    for name in [ok.queue.as_str(), "amq.gen-absent"] {
        let expect =
            format!("403 ACCESS_REFUSED - queue name '{name}' contains reserved prefix 'amq.*'");
        assert_eq!(try_out(&mut node, bob, declare(name)), expect);
    }
    assert_eq!(try_out(&mut node, alice, declare(ok.queue.as_str())), "ok");
    // A name that the broker makes up needs the right as well.
    let refused = try_out(&mut node, bob, declare(""));
    assert!(refused.starts_with("403 ACCESS_REFUSED - configure access to queue 'amq.gen-"));
    permit(&mut node, "bob", "^amq\\.gen", "", "");
    assert_eq!(try_out(&mut node, bob, declare("")), "ok");
}

/// RabbitMQ's manual: who answers requests by their `reply_to` needs the default exchange alone.
#[test]
fn whoever_may_write_to_the_default_exchange_reaches_every_queue_and_no_topic() {
    let (mut node, bob) = with_bob("", "^amq\\.default$", "");
    assert_eq!(try_publish(&mut node, bob, publish_to("q"), no_properties()), "ok");
    assert_eq!(try_publish(&mut node, bob, publish_to("absent"), no_properties()), "ok");
    let refused = try_publish(&mut node, bob, publish_to("orders"), no_properties());
    assert_eq!(refused, denied("write", "queue 'orders'"));
    let refused = try_publish(&mut node, bob, to("x", "q"), no_properties());
    assert_eq!(refused, denied("write", "exchange 'x'"));
    assert_eq!(try_out(&mut node, bob, get("q")), denied("read", "queue 'q'"));
    assert_eq!((depth(&mut node, "q"), depth(&mut node, "orders")), (1, 0));
}

#[test]
fn without_the_default_exchange_only_what_may_be_written_to_is_reached() {
    let (mut node, bob) = with_bob("", "^orders$", "");
    assert_eq!(try_publish(&mut node, bob, publish_to("orders"), no_properties()), "ok");
    for name in ["q", "absent"] {
        let refused = try_publish(&mut node, bob, publish_to(name), no_properties());
        assert_eq!(refused, denied("write", "exchange 'amq.default'"), "{name}");
    }
    permit(&mut node, "bob", "", "^amq\\.default$", "");
    let literal = AclPattern::Literal("q".to_owned());
    list(&mut node, "bob", Effect::Deny, Operation::Write, literal);
    let refused = try_publish(&mut node, bob, publish_to("q"), no_properties());
    assert_eq!(refused, denied("write", "queue 'q'"), "a denial wins");
}

#[test]
fn every_further_key_is_asked_for() {
    let (mut node, bob) = with_bob("", "^amq\\.default$|^t$", "");
    permit_keys(&mut node, "bob", "t", "^a\\.", "");
    for name in ["CC", "BCC"] {
        for (publish, fine, refused, expect) in [
            (publish_to("q"), "q", "orders", denied("write", "queue 'orders'")),
            (to("t", "a.b"), "a.c", "b.c", denied("write", "topic 'b.c' in exchange 't'")),
        ] {
            let table = copies_to(name, &[fine, refused]);
            let properties = BasicProperties { headers: Some(table.view()), ..no_properties() };
            // Once with nothing kept of the address, once with its verdict.
            for _ in 0..2 {
                let found = try_publish(&mut node, bob, publish.clone(), properties);
                assert_eq!(found, expect, "{name}");
                assert_eq!(try_publish(&mut node, bob, publish.clone(), no_properties()), "ok");
            }
            let table = copies_to(name, &[fine]);
            let properties = BasicProperties { headers: Some(table.view()), ..no_properties() };
            assert_eq!(try_publish(&mut node, bob, publish, properties), "ok", "{name}");
        }
    }
    assert_eq!(depth(&mut node, "orders"), 0);
}

#[test]
fn topic_permissions_are_asked_of_topic_exchanges_alone() {
    let (mut node, bob) = with_bob("", ".*", ".*");
    permit_keys(&mut node, "bob", "t", "^w\\.{username}$", "^r\\.");
    permit_keys(&mut node, "bob", "x", "^w\\.", "^r\\.");
    let mut check = |publish: BasicPublish, expect: &str| {
        assert_eq!(try_publish(&mut node, bob, publish, no_properties()), expect);
    };
    check(to("t", "w.bob"), "ok");
    check(to("t", "w.alice"), &denied("write", "topic 'w.alice' in exchange 't'"));
    check(to("x", "other"), "ok");
    check(to("amq.topic", "other"), "ok");
    let mut check = |method: Method, expect: &str| {
        assert_eq!(try_out(&mut node, bob, method.clone()), expect, "{method:?}");
    };
    check(bind("q", "t", "r.*").into(), "ok");
    check(bind("q", "t", "#").into(), &denied("read", "topic '#' in exchange 't'"));
    check(bind("q", "x", "other").into(), "ok");
    let unbind = QueueUnbind {
        queue: text("q"),
        exchange: text("t"),
        routing_key: text("*.x"),
        ..QueueUnbind::default()
    };
    check(unbind.into(), &denied("read", "topic '*.x' in exchange 't'"));
}

#[test]
fn what_flows_into_a_topic_exchange_is_written_to_it() {
    let (mut node, bob) = with_bob(".*", ".*", ".*");
    assert_eq!(try_out(&mut node, bob, exchange("f", "fanout")), "ok");
    permit_keys(&mut node, "bob", "amq.topic", "^a\\.", ".*");
    permit_keys(&mut node, "bob", "t", "^a\\.", ".*");
    let into = |target: &str, source: &str, key: &str| ExchangeBind {
        destination: text(target),
        source: text(source),
        routing_key: text(key),
        ..ExchangeBind::default()
    };
    for target in ["amq.topic", "t"] {
        let mut check = |source: &str, key: &str, expect: &str| {
            let found = try_out(&mut node, bob, into(target, source, key));
            assert_eq!(found, expect, "{target} {source} {key}");
        };
        let refused = |key: &str| denied("write", &format!("topic '{key}' in exchange '{target}'"));
        check("x", "a.b", "ok");
        check("x", "b.b", &refused("b.b"));
        check("f", "a.b", &refused("#"));
    }
}

#[test]
fn amq_topic_leads_to_a_topic_only_with_the_right_to_it() {
    let (mut node, bob) = with_bob("", "^q$|^amq\\.topic$", "^amq\\.topic$");
    let publish =
        |node: &mut Node, key: &str| try_publish(node, bob, to("amq.topic", key), no_properties());
    assert_eq!(publish(&mut node, "other"), "ok");
    let refused = denied("write", "topic 'orders' in exchange 'amq.topic'");
    assert_eq!(publish(&mut node, "orders"), refused);
    for key in ["orders", "#", "*", "#.orders"] {
        let refused = denied("read", &format!("topic '{key}' in exchange 'amq.topic'"));
        assert_eq!(try_out(&mut node, bob, bind("q", "amq.topic", key)), refused, "{key}");
    }
    for key in ["other", "*.*", "other.#"] {
        assert_eq!(try_out(&mut node, bob, bind("q", "amq.topic", key)), "ok", "{key}");
    }
    permit(&mut node, "bob", "", "^q$|^amq\\.topic$|^orders$", "^amq\\.topic$|^orders$");
    assert_eq!(publish(&mut node, "orders"), "ok");
    assert_eq!(try_out(&mut node, bob, bind("q", "amq.topic", "#")), "ok");
    assert_eq!(depth(&mut node, "orders"), 1);
}

#[test]
fn rules_on_subjects_are_rules_on_amq_topic() {
    let (mut node, bob) = with_bob("", "^q$", "");
    for (operation, filter) in [(Operation::Write, "out/%u/#"), (Operation::Read, "in/#")] {
        let filter = AclPattern::Filter(filter.to_owned());
        list(&mut node, "bob", Effect::Allow, operation, filter);
    }
    let publish =
        |node: &mut Node, key: &str| try_publish(node, bob, to("amq.topic", key), no_properties());
    assert_eq!(publish(&mut node, "out.bob.1"), "ok");
    let refused = denied("write", "topic 'out.alice.1' in exchange 'amq.topic'");
    assert_eq!(publish(&mut node, "out.alice.1"), refused);
    assert_eq!(try_out(&mut node, bob, bind("q", "amq.topic", "in.*.x")), "ok");
    let refused = denied("read", "topic '#' in exchange 'amq.topic'");
    assert_eq!(try_out(&mut node, bob, bind("q", "amq.topic", "#")), refused);
}

#[test]
fn purging_a_topic_is_more_than_reading_it() {
    let (mut node, bob) = with_bob("", "", "^orders$|^q$");
    let purge = |name: &str| QueuePurge { queue: text(name), ..QueuePurge::default() };
    assert_eq!(try_out(&mut node, bob, purge("q")), "ok");
    let refused = denied("configure", "queue 'orders'");
    assert_eq!(try_out(&mut node, bob, purge("orders")), refused);
    permit(&mut node, "bob", "^orders$", "", "^orders$");
    assert_eq!(try_out(&mut node, bob, purge("orders")), "ok");
}

#[test]
fn only_an_impersonator_speaks_for_others() {
    let (mut node, bob) = with_bob("", "^amq\\.default$", "");
    let claim =
        |name: &'static str| BasicProperties { user_id: Some(name.as_bytes()), ..no_properties() };
    let refused = "406 PRECONDITION_FAILED - user_id property set to 'alice' but authenticated \
                   user was 'bob'";
    assert_eq!(try_publish(&mut node, bob, publish_to("q"), claim("bob")), "ok");
    assert_eq!(try_publish(&mut node, bob, publish_to("q"), claim("alice")), refused);
    let tag = |tags: &[&str]| AccessCommand::SetTags {
        name: "bob".to_owned(),
        tags: tags.iter().map(|tag| tag.to_string()).collect(),
    };
    node.access(tag(&[IMPERSONATOR]));
    assert_eq!(try_publish(&mut node, bob, publish_to("q"), claim("alice")), "ok");
    node.access(tag(&[]));
    assert_eq!(try_publish(&mut node, bob, publish_to("q"), claim("alice")), refused);
    // Whoever may not publish there is not told about the property.
    permit(&mut node, "bob", "", "", "");
    let refused = denied("write", "exchange 'amq.default'");
    assert_eq!(try_publish(&mut node, bob, publish_to("q"), claim("alice")), refused);
}

#[test]
fn arguments_that_would_need_further_rights_are_not_honoured() {
    // Whoever honours one of these owes the checks that go with it: read of the queue or exchange
    // that is declared, write of the exchange that is named.
    let (mut node, bob) = with_bob(".*", "", "");
    let argument =
        |name: &'static str| TableBuilder::new().with(name, Value::LongString(b"x")).finish();
    let queue = QueueDeclare { arguments: argument("x-dead-letter-exchange"), ..declare("n") };
    assert!(try_out(&mut node, bob, queue).starts_with("406"));
    let exchange =
        ExchangeDeclare { arguments: argument("alternate-exchange"), ..exchange("n", "direct") };
    assert!(try_out(&mut node, bob, exchange).starts_with("406"));
}
