//! A change of routes is acknowledged when all shards of the node have it.

use super::*;
use koine_broker::metadata::{BindingSpec, BindingTarget};

/// Mail for the shards is held back until the test hands it over.
fn take_mail(node: &mut Node<'_>) -> Vec<(ShardId, Mail)> {
    let mut all = Vec::new();
    for index in 0..node.shards.len() {
        while let Some(request) = node.shards[index].poll_io() {
            let result = koine_log::execute(node.disk, request);
            node.shards[index].io_complete(node.now, result).expect("the disk works");
        }
        all.extend(node.shards[index].take_outbox());
    }
    all
}

fn hand_over(node: &mut Node<'_>, mail: Vec<(ShardId, Mail)>) {
    for (to, mail) in mail {
        node.shards[usize::from(to.0)].mail(node.now, [mail]);
    }
}

fn bind(node: &mut Node<'_>, client: &Client) {
    let (source, target) = ("amq.topic".to_owned(), BindingTarget::Queue("q".to_owned()));
    let binding = BindingSpec { source, target, key: b"k".to_vec(), arguments: Vec::new() };
    let command = Command::Bind { namespace: NAMESPACE, binding };
    client.script.borrow_mut().requests.push(Request::Propose { token: 5, command });
    node.shards[client.shard].receive(node.now, client.id, &mut BytesMut::new());
}

#[test]
fn who_binds_is_answered_when_every_shard_routes_by_it() {
    let disk = MemoryDisk::new();
    let mut node = Node::open(&disk, 3);
    let client = node.connect(0);
    node.queue(&client, "q");
    let revisions =
        |node: &Node<'_>| node.shards.iter().map(|it| it.metadata().version()).collect();
    let before: Vec<u64> = revisions(&node);
    bind(&mut node, &client);
    let mail = take_mail(&mut node);
    assert_eq!(mail.len(), 2, "one for each of the others");
    assert!(client.take().is_empty(), "nobody else has heard of it");
    // Only one of the others applies it.
    let mut mail = mail.into_iter();
    hand_over(&mut node, mail.by_ref().take(1).collect());
    let reports = take_mail(&mut node);
    hand_over(&mut node, reports);
    assert!(client.take().is_empty(), "one shard has not");
    assert!(!node.shards[0].is_quiet());
    hand_over(&mut node, mail.collect());
    let after: Vec<u64> = revisions(&node);
    assert!(after.iter().zip(&before).all(|(after, before)| after > before));
    let reports = take_mail(&mut node);
    hand_over(&mut node, reports);
    let events = client.take();
    assert!(matches!(events[..], [Event::Proposed { token: 5, result: Ok(_) }]), "{events:?}");
    assert!(node.shards[0].is_quiet());
}

#[test]
fn a_shard_that_lags_is_not_waited_for_without_end() {
    let disk = MemoryDisk::new();
    let mut node = Node::open(&disk, 2);
    let client = node.connect(0);
    node.queue(&client, "q");
    bind(&mut node, &client);
    let late = take_mail(&mut node);
    // What routes nothing waits for nobody.
    let ask = Request::Propose { token: 6, command: Command::AllocateProducerId };
    client.script.borrow_mut().requests.push(ask);
    node.shards[0].receive(node.now, client.id, &mut BytesMut::new());
    let more = take_mail(&mut node);
    let events = client.take();
    assert!(matches!(events[..], [Event::Proposed { token: 6, .. }]), "{events:?}");
    node.now.moment = node.now.moment.after_ms(5_000);
    assert!(node.shards[0].deadline() <= node.now.moment);
    node.shards[0].tick(node.now);
    let events = client.take();
    assert!(matches!(events[..], [Event::Proposed { token: 5, .. }]), "{events:?}");
    // Its report comes too late, and is none of the next one's.
    hand_over(&mut node, late.into_iter().chain(more).collect());
    node.settle();
    assert!(client.take().is_empty());
}
