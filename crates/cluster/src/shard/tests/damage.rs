//! A small node with some of everything on its disk, which then decays: every bit in turn, and larger
//! damage, which the examination has to name. `KOINE_BITFLIPS=all` takes every bit, else a sample.

use super::*;
use crate::doctor::{self, examine, Finding, Report};
use crate::shard::checkpoint::encode_group;
use koine_base::disk::{Disk, Survival};
use koine_broker::metadata::StreamOwner;
use koine_broker::offsets::CommittedOffset;
use koine_log::{Completion, Fault, OpenError, ReadError, ReadOutcome};
use std::collections::BTreeMap;

const SHARDS: u16 = 1;
const LAYOUT: Layout = Layout { shard_count: SHARDS };

fn tiny(shard: ShardId, layout: Layout) -> ShardConfig {
    let mut config = config(shard, layout);
    config.log.wal_file_bytes = 8 << 10;
    config.log.wal_files_free_max = 1;
    config.log.own_segment_bytes_min = 3 << 10;
    config.log.index_interval_bytes = 700;
    config.log.tail_cache_bytes = 0;
    config
}

/// Queue with settlements, topic with an idempotent producer, committed offsets, retained messages;
/// in recycled WAL files, segments of both kinds and two checkpoints.
fn store() -> MemoryDisk {
    let disk = MemoryDisk::new();
    let mut node = Node::open_with(&disk, SHARDS, tiny);
    let client = node.connect(0);
    let queue = node.queue(&client, "jobs");
    let command = Command::CreateTopic {
        namespace: NAMESPACE,
        name: "news".to_owned(),
        partitions: 1,
        settings: Default::default(),
        id: [3; 16],
    };
    let events = node.ask(&client, Request::Propose { token: 1, command });
    let [Event::Proposed { result: Ok(Outcome::TopicCreated { streams, .. }), .. }] = &events[..]
    else {
        panic!("{events:?}")
    };
    let topic = streams[0];
    node.ask(&client, attach(queue, 1, 1000));
    let mut round = 0;
    while node.shards[0].log_stats().checkpoints < 3 || round % 12 != 9 {
        let mut builder = BatchBuilder::new(1);
        builder.push(1, None, Some(&[&[round as u8; 300]]), &[]);
        builder.set_producer(77, 0, round);
        let batch = builder.finish(0, 0);
        let info = batch::BatchHeader::new(&batch).and_then(|h| h.info()).expect("built here");
        let append = Request::Append { token: Some(4), stream: topic, batch, info };
        let events = node.ask(&client, append);
        assert!(
            events.iter().any(|event| matches!(event, Event::Appended { result: Ok(_), .. })),
            "{events:?}"
        );
        node.publish(&client, &[queue], &format!("job {round}"));
        if round % 2 == 0 {
            let offset = round as u64 / 2;
            node.ask(&client, settle(queue, vec![(offset, offset)], Settlement::Ack));
        }
        if round % 5 == 0 {
            let committed = CommittedOffset {
                offset: i64::from(round),
                leader_epoch: -1,
                metadata: String::new(),
                commit_timestamp: 9,
            };
            let offsets = vec![("news".to_owned(), 0, committed)];
            let group = "readers".to_owned();
            node.ask(&client, Request::CommitOffsets { token: 5, group, member: None, offsets });
            let command = Command::Retain {
                namespace: NAMESPACE,
                topic: format!("state/{}", round % 3),
                content: Some(vec![round as u8; 20]),
                qos: 1,
                expires_at: None,
            };
            node.ask(&client, Request::Propose { token: 6, command });
        }
        round += 1;
    }
    let stats = node.shards[0].log_stats();
    assert!(stats.segments >= 2 && stats.wal_files_recycled >= 3, "{stats:?}");
    drop(node);
    disk.crash(Survival::Nothing);
    disk
}

/// All that a shard knows and stores.
#[derive(Clone, Debug, Default, PartialEq)]
struct Contents {
    state: Vec<Vec<u8>>,
    streams: BTreeMap<StreamId, (u64, u64, Vec<Bytes>)>,
    refused: Vec<(StreamId, u64)>,
    repaired: usize,
}

fn contents(disk: &MemoryDisk) -> Result<Contents, OpenError> {
    let now = Now { moment: Moment(1_000_000), wall: Timestamp(1_700_000_000_000) };
    let opened = Shard::open(disk, tiny(ShardId(0), LAYOUT), None, now);
    let mut shard = opened.map_err(|error| match error {
        ShardOpenError::Log(error) => error,
        other => panic!("{other}"),
    })?;
    let mut contents = Contents { repaired: shard.repairs().len(), ..Contents::default() };
    contents.state.push(shard.metadata.encode());
    let controller = shard.controller.as_ref().expect("of shard 0");
    contents.state.push(controller.retained.encode());
    contents.state.extend(shard.groups.values().map(encode_group));
    let mut ids: Vec<StreamId> =
        shard.groups.values().flat_map(|group| group.streams.keys().copied()).collect();
    ids.sort_unstable();
    for id in ids {
        let Some(bounds) = shard.log.bounds(id) else { continue };
        let mut offset = bounds.start;
        let mut batches: Vec<Bytes> = Vec::new();
        while offset < bounds.end {
            match read(disk, &mut shard.log, id, offset) {
                Ok(read) => {
                    let last = read.last().expect("more is there");
                    offset = batch::BatchHeader::new(last).expect("checked").next_offset();
                    batches.extend(read);
                }
                Err(ReadError::Corrupt { offset, .. }) => {
                    contents.refused.push((id, offset));
                    break;
                }
                Err(error) => panic!("{error}"),
            }
        }
        contents.streams.insert(id, (bounds.start, bounds.end, batches));
    }
    Ok(contents)
}

fn read(
    disk: &MemoryDisk,
    log: &mut Log,
    stream: StreamId,
    offset: u64,
) -> Result<Vec<Bytes>, ReadError> {
    match log.read(stream, offset, 1 << 20, u64::MAX) {
        ReadOutcome::Ready(batches) => Ok(batches),
        ReadOutcome::Pending(_, request) => {
            let result = koine_log::execute(disk, request);
            match log.complete(Moment(0), result).expect("a read is never fatal") {
                Completion::Read { batches, .. } => batches,
                other => panic!("{other:?}"),
            }
        }
        other => panic!("{other:?}"),
    }
}

fn report(disk: &MemoryDisk) -> Report {
    examine(disk, LAYOUT, &Limits::default(), &mut |_| {}).expect("the directory is readable")
}

/// Bits to try of a file: all, or those of the first structures and a sample of the others.
fn bits(path: &str, size: u64) -> Vec<u64> {
    let all = std::env::var("KOINE_BITFLIPS").is_ok_and(|value| value == "all");
    let wal = path.contains("/wal/");
    let in_header = |byte: u64| byte < 64 || wal && (4096..4096 + 64).contains(&byte);
    (0..size * 8)
        .filter(|bit| all || in_header(bit / 8) && bit % 3 == 0 || bit % 241 == 0)
        .collect()
}

/// What one inverted bit came to.
fn outcome(disk: &MemoryDisk, path: &str, bit: u64, sound: &Contents) -> &'static str {
    let trial = disk.fork();
    trial.flip(path, bit / 8, 1 << (bit % 8)).expect("it is there");
    let what = || format!("{path} byte {} bit {}", bit / 8, bit % 8);
    let before = report(&trial);
    let named = before.findings.iter().any(|finding| finding.file == path);
    let found = contents(&trial).unwrap_or_else(|error| panic!("{}: {error}", what()));
    if found.refused.is_empty() {
        let repaired = found.repaired;
        assert_eq!(Contents { repaired: 0, ..found }, *sound, "{}", what());
        if repaired == 0 {
            return if named { "harmless, named" } else { "harmless" };
        }
        assert!(named, "{}: not named", what());
        let after = report(&trial);
        assert!(after.findings.is_empty(), "{}: {:?}", what(), after.findings);
        return "put right";
    }
    assert!(path.contains("/segments/"), "{}", what());
    assert_eq!(found.state, sound.state, "{}", what());
    for (id, (start, end, batches)) in &found.streams {
        let (sound_start, sound_end, sound_batches) = &sound.streams[id];
        assert_eq!((start, end), (sound_start, sound_end), "{}", what());
        assert!(sound_batches.starts_with(batches), "{}: wrong bytes", what());
        let Some((_, offset)) = found.refused.iter().find(|(refused, _)| refused == id) else {
            assert_eq!(batches, sound_batches, "{}: silent loss", what());
            continue;
        };
        let affected = before.findings.iter().flat_map(|finding| &finding.affected);
        let covers = |affected: &doctor::Affected| {
            affected.stream == *id && affected.owner.is_some() && affected.end > *offset
        };
        assert!(affected.clone().any(covers), "{}: {:?}", what(), before.findings);
    }
    "read refused"
}

#[test]
fn bit_flips_are_harmless_or_put_right_or_named() {
    let disk = store();
    let sound = contents(&disk.fork()).expect("sound");
    assert_eq!((sound.repaired, sound.refused.len()), (0, 0));
    assert_eq!(report(&disk).findings, []);
    let mut tries: Vec<(String, u64)> = Vec::new();
    for path in disk.paths() {
        let size = disk.contents(&path).expect("it is listed").len() as u64;
        tries.extend(bits(&path, size).into_iter().map(|bit| (path.clone(), bit)));
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let counts = std::thread::scope(|scope| {
        let run = |first: usize| {
            let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
            for (path, bit) in tries.iter().skip(first).step_by(threads) {
                *counts.entry(outcome(&disk, path, *bit, &sound)).or_default() += 1;
            }
            counts
        };
        let workers: Vec<_> = (0..threads).map(|first| scope.spawn(move || run(first))).collect();
        let mut sum: BTreeMap<&str, u64> = BTreeMap::new();
        for worker in workers {
            for (outcome, count) in worker.join().expect("a failed try has said why") {
                *sum.entry(outcome).or_default() += count;
            }
        }
        sum
    });
    println!("{} bits: {counts:?}", tries.len());
    assert!(counts.len() == 4 && counts.values().all(|count| *count >= 5), "{counts:?}");
}
