//! What a queue costs whose head is stuck while all behind it is acknowledged, in order or not: memory of
//! the cursor, bytes of its checkpoint, and time.
//!
//! `cargo run --release -p koine-broker --example acked_set [--quick]`

use koine_base::rng::Rng;
use koine_broker::cursor::{
    Assign, ConsumerId, ConsumerOptions, Cursor, Outcome, CREDIT_UNLIMITED, LEASES_MAX,
};
use std::time::Instant;

const CONSUMER: ConsumerId = ConsumerId(1);

/// Offsets acknowledged between two commits.
const TURN: u64 = 1000;

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

/// A cursor with one consumer that took whatever there was up to `end`, as a leader has it.
struct Queue {
    cursor: Cursor,
    given: u64,
    delta_bytes: u64,
}

impl Queue {
    fn new() -> Self {
        let mut cursor = Cursor::new(0);
        let options = ConsumerOptions { credit: CREDIT_UNLIMITED, ..ConsumerOptions::default() };
        cursor.attach(CONSUMER, options).expect("the first consumer");
        Queue { cursor, given: 0, delta_bytes: 0 }
    }

    /// Gives out offsets up to `end`; false if the cursor gives no more.
    fn give(&mut self, end: u64) -> bool {
        while self.given < end {
            if !matches!(self.cursor.assign(self.given), Assign::Given(_)) {
                return false;
            }
            self.given += 1;
        }
        true
    }

    fn acknowledge(&mut self, offset: u64) {
        let range = offset..offset + 1;
        let mut settled = Vec::new();
        self.cursor.settle(CONSUMER, std::slice::from_ref(&range), Outcome::Ack, &mut settled);
    }

    fn commit(&mut self) {
        if let Some(delta) = self.cursor.take_delta() {
            let mut bytes = Vec::new();
            delta.encode(&mut bytes);
            self.delta_bytes += bytes.len() as u64;
            self.cursor.apply(&delta);
        }
    }
}

fn report(name: &str, queue: &Queue, resident_before: u64, begun: Instant, count: u64) {
    let seconds = begun.elapsed().as_secs_f64();
    let mut checkpoint = Vec::new();
    let encoding = Instant::now();
    queue.cursor.encode(&mut checkpoint);
    let encoding = encoding.elapsed();
    let decoding = Instant::now();
    let decoded = Cursor::decode(&mut &checkpoint[..]).expect("what was just encoded");
    let decoding = decoding.elapsed();
    assert_eq!(decoded.floor(), queue.cursor.floor());
    println!(
        "{name} | {count} | {} | {} | {:.1} | {} | {:.1} | {:.1} | {:.2} | {:.0}",
        queue.cursor.acked().range_count(),
        queue.cursor.unacked_count(),
        (resident_bytes().saturating_sub(resident_before)) as f64 / f64::from(1 << 20),
        checkpoint.len(),
        encoding.as_secs_f64() * 1e3,
        decoding.as_secs_f64() * 1e3,
        queue.delta_bytes as f64 / count.max(1) as f64,
        seconds / count.max(1) as f64 * 1e9,
    );
}

/// The first offset stays; of each `step` behind it all but the first are acknowledged.
fn in_order(name: &str, end: u64, step: u64) {
    let resident = resident_bytes();
    let begun = Instant::now();
    let (mut queue, mut count) = (Queue::new(), 0);
    for first in (0..end).step_by(TURN as usize) {
        let is_given = queue.give((first + TURN).min(end));
        for offset in first.max(1)..queue.given {
            if step == 0 || offset % step != 0 {
                queue.acknowledge(offset);
                count += 1;
            }
        }
        queue.commit();
        if !is_given {
            break;
        }
    }
    report(name, &queue, resident, begun, count);
}

/// Everything is out, and comes back acknowledged in any order.
fn shuffled(name: &str, held: u64, part: f64) {
    let mut offsets: Vec<u32> = (1..held as u32).collect();
    let mut rng = Rng::new(3);
    for last in (1..offsets.len()).rev() {
        offsets.swap(last, rng.below(last as u64 + 1) as usize);
    }
    let resident = resident_bytes();
    let mut queue = Queue::new();
    assert!(queue.give(held), "a cursor holds fewer offsets than that");
    let begun = Instant::now();
    let count = (offsets.len() as f64 * part) as u64;
    for turn in offsets[..count as usize].chunks(TURN as usize) {
        turn.iter().for_each(|offset| queue.acknowledge(u64::from(*offset)));
        queue.commit();
    }
    report(name, &queue, resident, begun, count);
}

const ROWS: usize = 6;

fn row(number: usize, many: u64) {
    // What a cursor gives out at most, with the half that is never acknowledged among it.
    let held = many.min(LEASES_MAX);
    match number {
        0 => in_order("none", held, 1),
        1 => in_order("all but the first", many, 0),
        2 => in_order("all but each 1,000th", many, 1000),
        3 => in_order("every second", many, 2),
        4 => shuffled("half, in random order", held, 0.5),
        _ => shuffled("all but the first, in random order", held, 1.0),
    }
}

/// A process for each row, for memory once used would be used again.
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let many = if quick { 100_000 } else { 10_000_000 };
    if let Some(number) = arguments.iter().find_map(|argument| argument.parse().ok()) {
        return row(number, many);
    }
    println!(
        "acknowledged | how many | ranges | unacknowledged | MiB | checkpoint bytes | encoded in ms | decoded in ms | \
         delta bytes per ack | ns per ack"
    );
    for number in 0..ROWS {
        let program = std::env::current_exe().expect("this program");
        let mut child = std::process::Command::new(program);
        child.arg(number.to_string()).args(quick.then_some("--quick"));
        assert!(child.status().expect("this program again").success());
    }
}
