//! What a stream that is kept for long costs the disk: into the write-ahead log, and out of it into a
//! segment.

use crate::disk::FileDisk;
use crate::node::{at, batch, used, Node};
use bytes::Bytes;
use koine_base::disk::Disk;
use koine_base::StreamId;
use koine_broker::batch::BatchInfo;
use koine_broker::metadata::Durability;
use koine_broker::session::{Event, Request};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Batches that are not acknowledged yet: what a few producers have under way.
const UNDER_WAY: usize = 8;

struct Load {
    name: &'static str,
    records: usize,
    record_bytes: usize,
}

const LOADS: [Load; 3] = [
    Load { name: "1,000 x 100 B", records: 1000, record_bytes: 100 },
    Load { name: "1 x 16 KiB", records: 1, record_bytes: 16 << 10 },
    Load { name: "1 x 1 MB", records: 1, record_bytes: 1_000_000 },
];

pub fn run(quick: bool) {
    let (wal_file_bytes, total): (u64, usize) =
        if quick { (8 << 20, 64 << 20) } else { (128 << 20, 1024 << 20) };
    println!(
        "Bytes per byte received; WAL files of {} MiB, {} MiB a row",
        wal_file_bytes >> 20,
        total >> 20
    );
    println!("{TITLE}");
    for load in &LOADS {
        for durability in [Durability::Fsync, Durability::Memory] {
            one(load, durability, wal_file_bytes, 2, total);
        }
    }
    let (wal_file_bytes, total) = if quick { (2 << 20, 64 << 20) } else { (32 << 20, 2048 << 20) };
    println!(
        "WAL files of {} MiB, {} MiB a row, kept for use again: 2, 6",
        wal_file_bytes >> 20,
        total >> 20
    );
    println!("{TITLE}");
    for free_max in [2, 6] {
        one(&LOADS[0], Durability::Memory, wal_file_bytes, free_max, total);
    }
    let total = if quick { 16 << 20 } else { 256 << 20 };
    println!("Files alone; the WAL is full of zeros before the clock starts");
    println!("a turn | way | MB/s | CPU-s per GB | p50 us | p99 us | device");
    for (name, turn_bytes) in [("128 KiB", 128 << 10), ("1 MiB", 1 << 20), ("4 MiB", 4 << 20)] {
        bare(name, turn_bytes, total, false);
        bare(name, turn_bytes, total, true);
    }
}

const TITLE: &str = "batch | promise | MB/s | CPU-s per GB | zeros | WAL | its pages | segments | \
    device | counted by the kernel | WAL files made";

fn one(load: &Load, durability: Durability, wal_file_bytes: u64, free_max: usize, total: usize) {
    let mut node = Node::open_with("double-write", wal_file_bytes, free_max);
    let stream = node.topic("kept", durability);
    let (bytes, info) = batch(load.records, load.record_bytes);
    let count = total / bytes.len();
    let before = used();
    let begun = Instant::now();
    append_all(&mut node, stream, count, &bytes, info);
    let seconds = begun.elapsed().as_secs_f64();
    node.settle();
    let after = used();
    let received = (count * bytes.len()) as f64;
    let counts = &node.disk.counts;
    let per_byte = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64 / received;
    println!(
        "{} | {} | {:.0} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {}",
        load.name,
        if durability == Durability::Fsync { "fsync" } else { "memory" },
        received / seconds / 1e6,
        (after.seconds - before.seconds) / received * 1e9,
        per_byte(&counts.fill),
        per_byte(&counts.wal),
        per_byte(&counts.wal_pages),
        per_byte(&counts.segment),
        (after.device_bytes - before.device_bytes) as f64 / received,
        (after.kernel_bytes - before.kernel_bytes) as f64 / received,
        node.shard.log_stats().wal_files_created,
    );
}

fn append_all(node: &mut Node, stream: StreamId, count: usize, bytes: &Bytes, info: BatchInfo) {
    let (mut sent, mut done) = (0, 0);
    while done < count {
        let room = (UNDER_WAY - (sent - done)).min(count - sent);
        if room > 0 {
            let append = |_| Request::Append { token: Some(1), stream, batch: bytes.clone(), info };
            node.ask((0..room).map(append).collect());
            sent += room;
        }
        let events = node.take_events();
        if events.is_empty() {
            node.turn();
        }
        for event in events {
            if let Event::Appended { result, .. } = event {
                result.expect("the stream takes batches");
                done += 1;
            }
        }
    }
}

/// Both ways with nothing but files: each turn of batches durable before the next.
fn bare(name: &str, turn_bytes: usize, total: usize, direct: bool) {
    let disk = FileDisk::new("double-write-bare");
    disk.make_dir("s/wal").expect("a fresh directory");
    disk.make_dir("s/segments").expect("a fresh directory");
    let turn = vec![7; turn_bytes];
    let turns = total / turn_bytes;
    let wal_bytes = if direct { 8 << 20 } else { total as u64 };
    let wal = disk.create("s/wal/1", wal_bytes).expect("room");
    disk.fill(wal, wal_bytes).expect("room");
    let segment = disk.create("s/segments/1", 0).expect("room");
    let mut latencies = Vec::with_capacity(turns);
    let (before, begun) = (used(), Instant::now());
    for number in 0..turns {
        let turn_begun = Instant::now();
        let position = (number * turn_bytes) as u64;
        if direct {
            disk.write_at(segment, position, &[&turn]).expect("room");
            disk.sync(segment).expect("the disk works");
            disk.write_at(wal, (number * 120 % (8 << 20)) as u64, &[&turn[..120]]).expect("room");
        } else {
            disk.write_at(wal, position, &[&turn]).expect("room");
        }
        disk.sync(wal).expect("the disk works");
        latencies.push(turn_begun.elapsed().as_micros() as u64);
    }
    if !direct {
        // What a checkpoint does.
        for position in (0..turns * turn_bytes).step_by(1 << 20) {
            let mut copy = vec![0; (1 << 20).min(turns * turn_bytes - position)];
            disk.read_at(wal, position as u64, &mut copy).expect("what was written");
            disk.write_at(segment, position as u64, &[&copy]).expect("room");
        }
        disk.sync(segment).expect("the disk works");
    }
    let (after, received) = (used(), (turns * turn_bytes) as f64);
    latencies.sort_unstable();
    println!(
        "{name} | {} | {:.0} | {:.2} | {} | {} | {:.2}",
        if direct { "into the segment, a line of it into the WAL" } else { "WAL, then segment" },
        received / begun.elapsed().as_secs_f64() / 1e6,
        (after.seconds - before.seconds) / received * 1e9,
        at(&latencies, 0.5),
        at(&latencies, 0.99),
        (after.device_bytes - before.device_bytes) as f64 / received,
    );
}
