//! Rights that go while a connection is open.

use super::access::{add_user, outcome, permission, permit, permit_keys, secured, to, try_publish};
use super::*;
use koine_broker::access::{AccessCommand, Verifiers};

/// Alice with a queue of three messages, and a consumer of hers that has one of them.
fn consuming() -> (Node, usize) {
    let mut node = secured();
    let client = node.connect_as("alice", "right");
    node.send(client, 1, declare("q"));
    for body in ["a", "b", "c"] {
        node.publish(client, publish_to("q"), BasicProperties::default(), body.as_bytes());
    }
    node.send(client, 1, BasicQos { prefetch_count: 1, ..BasicQos::default() });
    node.take(client);
    assert_eq!(bodies(node.ask(client, 1, consume("q", "t"))).len(), 1);
    (node, client)
}

fn cancelled() -> Seen {
    Seen::Method(1, BasicCancel { consumer_tag: text("t"), no_wait: true }.into())
}

#[test]
fn a_user_who_is_gone_is_thrown_out() {
    let changes = [
        (
            AccessCommand::DeleteUser { name: "alice".to_owned() },
            "!320 CONNECTION_FORCED - user 'alice' is deleted",
        ),
        (
            AccessCommand::SetVerifiers {
                name: "alice".to_owned(),
                verifiers: Verifiers::default(),
            },
            "!320 CONNECTION_FORCED - the password of user 'alice' has changed",
        ),
        (
            AccessCommand::ClearPermissions { user: "alice".to_owned(), namespace: NamespaceId(0) },
            "!530 NOT_ALLOWED - access to vhost '/' refused for user 'alice'",
        ),
    ];
    for (change, expect) in changes {
        let (mut node, client) = consuming();
        add_user(&mut node, "bob");
        permit(&mut node, "bob", ".*", ".*", ".*");
        node.access(change);
        assert_eq!(outcome(&node.take(client)), expect);
        node.publish(client, publish_to("q"), BasicProperties::default(), b"late");
        assert_eq!(node.take(client), [], "nothing is said after it");
        let bob = node.connect_as("bob", "right");
        let seen = node.ask(bob, 1, BasicConsume { no_ack: true, ..consume("q", "t") });
        let expect = [(1, true, "a".into()), (2, false, "b".into()), (3, false, "c".into())];
        assert_eq!(bodies(seen), expect, "what it held went back");
        node.send(client, 0, ConnectionCloseOk {});
        assert!(node.is_closed(client));
    }
}

#[test]
fn whoever_has_not_opened_the_vhost_yet_is_thrown_out_too() {
    let mut node = secured();
    let client = node.connect_greeted();
    node.send(client, 0, start_ok("alice", "right"));
    node.take(client);
    node.access(AccessCommand::DeleteUser { name: "alice".to_owned() });
    let expect = "!320 CONNECTION_FORCED - user 'alice' is deleted";
    assert_eq!(outcome(&node.take(client)), expect);
}

#[test]
fn a_consumer_that_may_not_read_any_more_is_cancelled() {
    let (mut node, client) = consuming();
    permit(&mut node, "alice", ".*", ".*", "^other$");
    assert_eq!(node.take(client), [cancelled()]);
    // What it had is back, and its late ack is no mistake of the client and settles nothing.
    assert_eq!(node.ask(client, 1, ack(1)), []);
    node.publish(client, publish_to("q"), BasicProperties::default(), b"d");
    assert_eq!(node.take(client), []);
    permit(&mut node, "alice", ".*", ".*", ".*");
    assert_eq!(node.take(client), [], "it does not come back by itself");
    assert_eq!(counts(&mut node, client, "q"), (4, 0));
    assert_eq!(bodies(node.ask(client, 1, consume("q", "t"))), [(2, true, "a".into())]);
    assert_eq!(bodies(node.ask(client, 1, ack(2))), [(3, false, "b".into())]);
}

#[test]
fn others_of_its_consumers_go_on() {
    let (mut node, client) = consuming();
    node.send(client, 1, declare("other"));
    node.send(client, 1, consume("other", "o"));
    node.take(client);
    permit(&mut node, "alice", ".*", ".*", "^other$");
    assert_eq!(node.take(client), [cancelled()]);
    node.publish(client, publish_to("other"), BasicProperties::default(), b"x");
    assert_eq!(bodies(node.take(client)).len(), 1);
}

#[test]
fn a_client_that_cannot_be_told_gets_nothing_more() {
    let mut node = secured();
    let client = node.connect_greeted();
    let start_ok =
        ConnectionStartOk { client_properties: Table::default(), ..start_ok("alice", "right") };
    node.send(client, 0, start_ok);
    node.open(client);
    node.send(client, 1, declare("q"));
    node.send(client, 1, consume("q", "t"));
    node.take(client);
    permit(&mut node, "alice", ".*", ".*", "");
    node.publish(client, publish_to("q"), BasicProperties::default(), b"x");
    assert_eq!(node.take(client), []);
}

#[test]
fn the_next_publish_is_refused() {
    let (mut node, client) = consuming();
    node.send(client, 1, access::exchange("t", "topic"));
    node.take(client);
    let none = BasicProperties::default();
    for publish in [publish_to("q"), to("t", "a.b")] {
        assert_eq!(try_publish(&mut node, client, publish, none), "ok");
    }
    permit_keys(&mut node, "alice", "t", "^b", ".*");
    let refused = try_publish(&mut node, client, to("t", "a.b"), none);
    assert!(refused.starts_with("403 ACCESS_REFUSED - write access to topic 'a.b'"), "{refused}");
    permit(&mut node, "alice", ".*", "^t$", ".*");
    let refused = try_publish(&mut node, client, publish_to("q"), none);
    let expect =
        "403 ACCESS_REFUSED - write access to exchange 'amq.default' in vhost '/' refused \
                  for user 'alice'";
    assert_eq!(refused, expect);
}

#[test]
fn an_update_of_the_secret_looks_again() {
    let (mut node, client) = consuming();
    let update = ConnectionUpdateSecret::default;
    let ok = || Seen::Method(0, ConnectionUpdateSecretOk {}.into());
    assert_eq!(node.ask(client, 0, update()), [ok()]);
    node.tells_access = false;
    permit(&mut node, "alice", ".*", ".*", "");
    assert_eq!(node.take(client), []);
    assert_eq!(node.ask(client, 0, update()), [cancelled(), ok()]);
    node.access(AccessCommand::DeleteUser { name: "alice".to_owned() });
    let expect = "!320 CONNECTION_FORCED - user 'alice' is deleted";
    let seen = node.ask(client, 0, update());
    assert_eq!((seen.len(), outcome(&seen).as_str()), (1, expect));
}

const READ_REFUSED: &str =
    "403 ACCESS_REFUSED - read access to queue 'q' in vhost '/' refused for user 'alice'";

/// Rights that go between a method and the answer to it.
#[test]
fn what_is_on_its_way_is_refused_at_its_end() {
    for (method, expect) in [
        (Method::from(consume("q", "other")), READ_REFUSED),
        (get("q").into(), READ_REFUSED),
        (BasicGet { no_ack: true, ..get("q") }.into(), "ok"),
        (BasicGet { no_ack: true, ..get("empty") }.into(), "403 ACCESS_REFUSED"),
    ] {
        let (mut node, client) = consuming();
        node.send(client, 1, declare("empty"));
        node.take(client);
        node.meanwhile = Some(permission("alice", ".*", ".*", ""));
        let seen = node.ask(client, 1, method.clone());
        assert!(outcome(&seen).starts_with(expect), "{method:?} {seen:?}");
        assert_eq!(node.meanwhile, None);
        if expect == "ok" {
            // It has left the queue: nobody else would see it.
            assert_eq!(bodies(seen).len(), 1);
            continue;
        }
        permit(&mut node, "alice", ".*", ".*", ".*");
        let other = node.connect_as("alice", "right");
        assert_eq!(counts(&mut node, other, "q"), (3, 0), "{method:?}");
    }
}

#[test]
fn a_cancel_that_crosses_the_revocation_is_answered() {
    let (mut node, client) = consuming();
    node.meanwhile = Some(permission("alice", ".*", ".*", ""));
    let cancel = BasicCancel { consumer_tag: text("t"), no_wait: false };
    let ok = Seen::Method(1, BasicCancelOk { consumer_tag: text("t") }.into());
    assert_eq!(node.ask(client, 1, cancel), [cancelled(), ok]);
}
