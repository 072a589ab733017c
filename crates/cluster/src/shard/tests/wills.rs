//! Wills of clients that are gone, and of users whose rights are.

use super::logins::{add_user, change};
use super::*;
use koine_broker::access::{AccessCommand, Pattern, Permissions};
use koine_broker::metadata::{BindingSpec, BindingTarget, Will};
use koine_broker::session::Protocol;

/// To a queue bound to the subject of the will.
fn bind(node: &mut Node<'_>, client: &Client) -> StreamId {
    let queue = node.queue(client, "q");
    let target = BindingTarget::Queue("q".to_owned());
    let (source, key) = ("amq.topic".to_owned(), b"last.words".to_vec());
    let binding = BindingSpec { source, target, key, arguments: Vec::new() };
    let command = Command::Bind { namespace: NAMESPACE, binding };
    node.ask(client, Request::Propose { token: 1, command });
    queue
}

/// Goes, and leaves a will that is due in a minute.
fn die(node: &mut Node<'_>, client: &Client, user: &str) {
    let content = Content {
        origin: Origin::Mqtt,
        envelope: Bytes::from_static(b"envelope"),
        key: None,
        body: Some(Bytes::from_static(b"bye")),
        timestamp: Timestamp(5),
    };
    let will = Will {
        topic: "last/words".to_owned(),
        content: content.encode().to_vec(),
        qos: 1,
        retain: false,
        delay_ms: 60_000,
        expiry_ms: None,
    };
    let command = Command::OpenSession {
        namespace: NAMESPACE,
        client_id: "c".to_owned(),
        connection: client.id.raw(),
        clean_start: true,
        expiry_ms: 3_600_000,
        will: Some(will),
        user: Some(user.to_owned()),
        at: node.now.wall.0,
    };
    node.ask(client, Request::Propose { token: 1, command });
    node.shards[1].disconnected(node.now, client.id);
    node.settle();
}

fn may_publish(user: &str) -> AccessCommand {
    let pattern = |text: &str| Pattern::new(text).expect("a sound pattern");
    let (configure, write, read) = (pattern(""), pattern("^amq\\.topic$"), pattern(""));
    let (user, row) = (user.to_owned(), Permissions { configure, write, read });
    AccessCommand::SetPermissions { user, namespace: NAMESPACE, row }
}

/// What counts is what its user may do when it is due.
#[test]
fn a_will_is_published_only_if_its_user_still_may() {
    let (user, namespace) = ("alice".to_owned(), NAMESPACE);
    for (takes_away, expect) in [
        (None, 1),
        (Some(AccessCommand::DeleteUser { name: user.clone() }), 0),
        (Some(AccessCommand::ClearPermissions { user, namespace }), 0),
    ] {
        let disk = MemoryDisk::new();
        let mut node = Node::open(&disk, 2);
        let admin = node.connect(0);
        let queue = bind(&mut node, &admin);
        add_user(&mut node, &admin, "alice", None);
        change(&mut node, &admin, may_publish("alice"));
        let client = node.connect(1);
        die(&mut node, &client, "alice");
        if let Some(command) = takes_away {
            change(&mut node, &admin, command);
        }
        pass(&mut node, 59_000);
        assert_eq!(ready(&mut node, &admin, queue), 0, "too early");
        pass(&mut node, 2_000);
        assert_eq!(ready(&mut node, &admin, queue), expect);
        assert_eq!(node.shards[0].meter(Protocol::Mqtt).refused, 1 - expect);
        assert!(node.shards[0].metadata().due_wills(i64::MAX).next().is_none(), "it is over");
    }
}

fn ready(node: &mut Node<'_>, client: &Client, stream: StreamId) -> u64 {
    match &node.ask(client, Request::Status { token: 3, stream })[..] {
        [Event::Status { result: Ok(status), .. }] => status.ready,
        other => panic!("{other:?}"),
    }
}
