//! One publish that many durable queues take: a copy each.

use crate::node::{used, Node};
use crate::small_messages::{content, publish};
use koine_broker::session::Route;
use std::sync::atomic::Ordering;
use std::time::Instant;

const BODY_BYTES: usize = 1024;

pub fn run(quick: bool) {
    let largest = if quick { 1_000 } else { 10_000 };
    println!("{BODY_BYTES} B each; bytes and time are per publish");
    println!("queues | publishes | log bytes | per queue | ms | CPU ms");
    let mut node = Node::open("fan-out", 64 << 20);
    let queues = node.queues(largest, true);
    for count in [1, 10, 1_000, 10_000] {
        if count > largest {
            continue;
        }
        node.settle();
        let publishes = (20_000 / count).clamp(10, 200);
        let wal = node.disk.counts.wal.load(Ordering::Relaxed);
        let (before, begun) = (used(), Instant::now());
        for _ in 0..publishes {
            let route = Route { streams: queues[..count].to_vec(), ..Route::default() };
            publish(&mut node, &content(BODY_BYTES), vec![route]);
        }
        let (seconds, after) = (begun.elapsed().as_secs_f64(), used());
        let bytes = (node.disk.counts.wal.load(Ordering::Relaxed) - wal) as f64 / publishes as f64;
        println!(
            "{count} | {publishes} | {bytes:.0} | {:.0} | {:.2} | {:.2}",
            bytes / count as f64,
            seconds * 1e3 / publishes as f64,
            (after.seconds - before.seconds) * 1e3 / publishes as f64,
        );
    }
}
