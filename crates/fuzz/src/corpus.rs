//! The committed inputs: `corpus/TARGET/NAME`, beside those that are made here for every boundary that a
//! decoder of somebody else once missed.

use crate::{amqp, kafka, mqtt};
use std::path::{Path, PathBuf};

/// Where a target's inputs lie.
pub fn directory(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

/// Committed and made, in a fixed order.
pub fn inputs(target: &str) -> Vec<Vec<u8>> {
    let mut inputs = made(target);
    let entries = std::fs::read_dir(directory(target)).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    inputs.extend(paths.iter().filter_map(|path| std::fs::read(path).ok()));
    inputs
}

fn made(target: &str) -> Vec<Vec<u8>> {
    let mut inputs = vec![Vec::new(), vec![0], vec![0xff; 64], vec![0; 64]];
    match target {
        "kafka_bytes" => inputs.extend(kafka::frames().iter().cloned().chain(lengths())),
        "kafka_split" => inputs.extend(with(&[0, 2], kafka::frames())),
        "amqp_bytes" => {
            inputs.extend(with(&[0], amqp::frames()));
            inputs.extend(with(&[1], amqp::frames()));
            inputs.push([&[0][..], &nested_tables(100_000)].concat());
            inputs.push([&[0][..], &announces(10_000_000_000)].concat());
        }
        "amqp_split" => inputs.extend(with(&[0, 2], amqp::frames())),
        "amqp_codec" => inputs.extend((0..3).flat_map(|kind| {
            with(
                &[kind],
                &amqp::frames().iter().map(|frame| frame[7..].to_vec()).collect::<Vec<_>>(),
            )
        })),
        "mqtt_bytes" => {
            inputs.extend(with(&[0], mqtt::frames(5)));
            inputs.extend(with(&[5], mqtt::frames(4)));
            inputs.extend(with(&[2], mqtt::frames(5)));
            inputs.push(vec![2, 0x10, 0xff, 0xff, 0xff, 0xff, 0x7f]);
            inputs.push(vec![2, 0x10, 0xff, 0xff, 0xff, 0x7f]);
        }
        "mqtt_split" => inputs.extend(with(&[0, 3], mqtt::frames(5))),
        "mqtt_codec" => inputs
            .extend(with(&[2], mqtt::frames(5)).into_iter().chain(with(&[1], mqtt::frames(4)))),
        // A choice byte and no changes for each frame, in order and all at once.
        "kafka_session" | "amqp_session" | "mqtt_session" => {
            for mode in 0..16 {
                let all = (0..60).flat_map(|choice| [choice, 0]);
                inputs.push(std::iter::once(mode).chain(all).collect());
            }
        }
        "batch" => inputs.push(batch()),
        "gzip" => inputs.push(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff".to_vec()),
        "zstd" => inputs.push(b"\x28\xb5\x2f\xfd\x00\xa0\x00\x00".to_vec()),
        "lz4" => inputs.push(b"\x04\x22\x4d\x18\x68\x40\xff\xff\xff\xff\xff\xff\xff\x7f".to_vec()),
        "snappy" => {
            inputs.push(b"\xff\xff\xff\xff\x0f\x00".to_vec());
            inputs.push(b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01\xff\xff\xff\xff".to_vec());
        }
        "patterns" => inputs.extend(
            [
                ".*",
                "^{username}$",
                "(a{1000}){1000}",
                "(?=a)",
                "[^a]",
                "(((((((a*)*)*)*)*)*)*",
                "{client_id}",
            ]
            .map(|pattern| {
                let length = (pattern.len() as u16).to_be_bytes();
                [&length[..], pattern.as_bytes(), b"aaaaaaaaaaaaaaaaaaaaaaaa!"].concat()
            }),
        ),
        _ => {}
    }
    inputs
}

fn with(prefix: &[u8], frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    frames.iter().map(|frame| [prefix, frame].concat()).collect()
}

/// Kafka's length field at its boundaries.
fn lengths() -> impl Iterator<Item = Vec<u8>> {
    let sizes = [0, 1, 7, 8, 9, 65_536, 104_857_600, 104_857_601, i32::MAX, -1, i32::MIN];
    sizes.into_iter().map(|size| {
        let mut frame = size.to_be_bytes().to_vec();
        frame.extend_from_slice(&[
            0, 3, 0, 12, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        ]);
        frame
    })
}

/// A queue's arguments: tables in tables.
fn nested_tables(depth: usize) -> Vec<u8> {
    let mut table = Vec::new();
    for _ in 0..depth.min(16_000) {
        let mut outer = vec![1, b'k', b'F'];
        outer.extend_from_slice(&(table.len() as u32).to_be_bytes());
        table.splice(0..0, outer);
    }
    let mut payload = vec![0, 50, 0, 10, 0, 0, 1, b'q', 0];
    payload.extend_from_slice(&(table.len() as u32).to_be_bytes());
    payload.extend_from_slice(&table);
    amqp::frame(1, 1, &payload)
}

fn announces(body_size: u64) -> Vec<u8> {
    let mut header = vec![0, 60, 0, 0];
    header.extend_from_slice(&body_size.to_be_bytes());
    header.extend_from_slice(&[0, 0]);
    let publish = amqp::frame(1, 1, b"\x00\x3c\x00\x28\x00\x00\x00\x01q\x00");
    [publish, amqp::frame(2, 1, &header)].concat()
}

fn batch() -> Vec<u8> {
    let mut builder = koine_broker::batch::BatchBuilder::new(1);
    builder.push(5, Some(b"key"), Some(&[b"body"]), &[]);
    builder.push(6, None, None, &[]);
    builder.finish(0, 0).to_vec()
}
