//! One stream of large batches that is always full beside small queues: how long the small ones wait.

use crate::node::{at, batch, Node};
use crate::small_messages::content;
use koine_base::StreamId;
use koine_broker::metadata::Durability;
use koine_broker::session::{Event, Request, Route};
use std::time::{Duration, Instant};

const SMALL: u64 = 1;
const LARGE: u64 = 2;
const BATCH_BYTES: usize = 1_000_000;
const QUEUES: usize = 100;

pub fn run(quick: bool) {
    let length = Duration::from_millis(if quick { 300 } else { 4_000 });
    println!(
        "one message of 100 B in flight, 100 queues in turn, fsync; batches of {BATCH_BYTES} B"
    );
    println!("beside | batches under way | small p50 us | p99 | p99.9 | max | large MB/s");
    for (name, durability, under_way) in [
        ("nothing", Durability::Fsync, 0),
        ("the same group", Durability::Fsync, 1),
        ("the same group", Durability::Fsync, 8),
        ("the same group", Durability::Fsync, 64),
        ("the other group of the shard", Durability::Memory, 8),
    ] {
        let mut node = Node::open("blocking", 128 << 20);
        let (small, large) = (node.queues(QUEUES, true), node.topic("large", durability));
        node.settle();
        mixed(name, &mut node, &small, large, under_way, length);
    }
    own_shard(length);
}

fn drive(
    node: &mut Node,
    queues: &[StreamId],
    large: StreamId,
    under_way: usize,
    length: Duration,
) -> (Vec<u64>, u64) {
    let (bytes, info) = batch(1, BATCH_BYTES);
    let content = content(100);
    let (mut latencies, mut batches, mut open, mut asked) = (Vec::new(), 0, 0, None);
    let begun = Instant::now();
    while begun.elapsed() < length {
        let mut requests = Vec::new();
        while open < under_way {
            requests.push(Request::Append {
                token: Some(LARGE),
                stream: large,
                batch: bytes.clone(),
                info,
            });
            open += 1;
        }
        if asked.is_none() && !queues.is_empty() {
            let streams = vec![queues[latencies.len() % queues.len()]];
            let route = Route { streams, ..Route::default() };
            let content = content.clone();
            requests.push(Request::Publish { token: Some(SMALL), content, route, once: None });
            asked = Some(Instant::now());
        }
        if !requests.is_empty() {
            node.ask(requests);
        }
        let events = node.take_events();
        if events.is_empty() {
            node.turn();
        }
        for event in events {
            match event {
                Event::Published { result, .. } => {
                    result.expect("queues take messages");
                    let asked: Option<Instant> = asked.take();
                    latencies.extend(asked.map(|asked| asked.elapsed().as_micros() as u64));
                }
                Event::Appended { result, .. } => {
                    result.expect("the stream takes batches");
                    open -= 1;
                    batches += 1;
                }
                _ => {}
            }
        }
    }
    latencies.sort_unstable();
    (latencies, batches)
}

fn mixed(
    name: &str,
    node: &mut Node,
    queues: &[StreamId],
    large: StreamId,
    under_way: usize,
    length: Duration,
) {
    let (latencies, batches) = drive(node, queues, large, under_way, length);
    print(name, under_way, &latencies, batches, length);
}

fn print(name: &str, under_way: usize, latencies: &[u64], batches: u64, length: Duration) {
    println!(
        "{name} | {under_way} | {} | {} | {} | {} | {:.0}",
        at(latencies, 0.5),
        at(latencies, 0.99),
        at(latencies, 0.999),
        at(latencies, 1.0),
        (batches * BATCH_BYTES as u64) as f64 / length.as_secs_f64() / 1e6,
    );
}

/// Another shard has a thread, a log and files of its own, on the same device.
fn own_shard(length: Duration) {
    let large = std::thread::spawn(move || {
        let mut node = Node::open("blocking-large", 128 << 20);
        let large = node.topic("large", Durability::Fsync);
        drive(&mut node, &[], large, 8, length + Duration::from_millis(200)).1
    });
    let mut node = Node::open("blocking-small", 128 << 20);
    let (queues, unused) = (node.queues(QUEUES, true), node.topic("unused", Durability::Fsync));
    let (latencies, _) = drive(&mut node, &queues, unused, 0, length);
    let batches = large.join().expect("the other shard works");
    print("a shard of its own", 8, &latencies, batches, length);
}
