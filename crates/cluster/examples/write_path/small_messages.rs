//! What one-record publishes cost: bytes beside the body, bytes of the log, and processor; alone, beside
//! others of the same turn, in one queue and in many.

use crate::node::{used, Node};
use bytes::Bytes;
use koine_base::{StreamId, Timestamp};
use koine_broker::message::{Content, Origin};
use koine_broker::session::{Event, Request, Route};
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Flags and a header table as a client sends them with a persistent message.
const ENVELOPE_BYTES: usize = 14;

pub fn content(body_bytes: usize) -> Content {
    Content {
        origin: Origin::Amqp091,
        envelope: Bytes::from(vec![3; ENVELOPE_BYTES]),
        key: None,
        body: Some(Bytes::from(vec![1; body_bytes])),
        timestamp: Timestamp(1_700_000_000_000),
    }
}

/// Publishes one turn of messages and waits until all are stored.
pub fn publish(node: &mut Node, content: &Content, routes: Vec<Route>) {
    let count = routes.len();
    let publish =
        |route| Request::Publish { token: Some(1), content: content.clone(), route, once: None };
    node.ask(routes.into_iter().map(publish).collect());
    let mut done = 0;
    while done < count {
        let events = node.take_events();
        if events.is_empty() {
            node.turn();
        }
        for event in events {
            if let Event::Published { result, .. } = event {
                result.expect("queues take messages");
                done += 1;
            }
        }
    }
}

pub fn run(quick: bool) {
    let messages = if quick { 2_000 } else { 20_000 };
    println!("{messages} messages a row; bytes are per message, the body's included");
    println!("body | a turn | into queues | promise | log | its pages | device | counted by the kernel | us | CPU us");
    for body_bytes in [16, 100, 1024] {
        for (turn, queue_count) in [(1, 1), (10, 1), (100, 1), (100, 100)] {
            for durable in [true, false] {
                let mut node = Node::open("small-messages", 64 << 20);
                let queues = node.queues(queue_count, durable);
                one(&mut node, &queues, body_bytes, turn, messages, durable);
            }
        }
    }
}

fn one(
    node: &mut Node,
    queues: &[StreamId],
    body_bytes: usize,
    turn: usize,
    messages: usize,
    durable: bool,
) {
    let content = content(body_bytes);
    node.settle();
    let counts = &node.disk.counts;
    let wal = counts.wal.load(Ordering::Relaxed);
    let pages = counts.wal_pages.load(Ordering::Relaxed);
    let (before, begun) = (used(), Instant::now());
    for _ in 0..messages / turn {
        let to = |number: usize| vec![queues[number % queues.len()]];
        let routes = (0..turn).map(|number| Route { streams: to(number), ..Route::default() });
        publish(node, &content, routes.collect());
    }
    let micros = begun.elapsed().as_secs_f64() * 1e6;
    node.settle();
    let (after, each) = (used(), 1.0 / messages as f64);
    let counts = &node.disk.counts;
    println!(
        "{body_bytes} | {turn} | {} | {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.1} | {:.1}",
        queues.len(),
        if durable { "fsync" } else { "transient" },
        (counts.wal.load(Ordering::Relaxed) - wal) as f64 * each,
        (counts.wal_pages.load(Ordering::Relaxed) - pages) as f64 * each,
        (after.device_bytes - before.device_bytes) as f64 * each,
        (after.kernel_bytes - before.kernel_bytes) as f64 * each,
        micros * each,
        (after.seconds - before.seconds) * 1e6 * each,
    );
}
