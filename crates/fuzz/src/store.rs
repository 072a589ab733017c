//! A small node's files, damaged as the input says, and opened again.

use crate::allocator::measured;
use crate::data::Data;
use crate::kafka;
use crate::node::{config, start, Node};
use koine_base::disk::MemoryDisk;
use koine_broker::session::Protocol;
use koine_cluster::Shard;
use std::sync::OnceLock;

/// Recovery reads whole files of the log, 256 KiB each, and keeps what they hold.
const FREE_BYTES: usize = 64 << 20;

/// The disk of a node that has worked and stopped.
fn sound() -> &'static MemoryDisk {
    static MADE: OnceLock<MemoryDisk> = OnceLock::new();
    MADE.get_or_init(|| {
        let mut node = Node::new(true);
        let mut client = node.connect(Protocol::Kafka);
        for frame in kafka::frames().iter().chain(&kafka::frames()[3..6]) {
            node.say(&mut client, frame);
            if client.is_closed {
                client = node.connect(Protocol::Kafka);
            }
        }
        node.into_disk()
    })
}

pub fn run(input: &[u8]) {
    let disk = sound().fork();
    let paths = disk.paths();
    let mut data = Data::new(input);
    while !data.is_empty() {
        let path = &paths[data.below(paths.len())];
        let size = disk.contents(path).map_or(0, |contents| contents.len()).max(1);
        let position = (usize::from(data.u16()) << 8 | usize::from(data.byte())) % size;
        let mask = data.byte();
        // A file of no bytes has none to change.
        let _ = disk.flip(path, position as u64, mask);
    }
    measured(input.len(), FREE_BYTES, 64, || {
        match Shard::open(&disk, config(), None, start()) {
            Ok(shard) => drop(shard),
            // It says what is wrong.
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    });
}
