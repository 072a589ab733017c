//! Every bit of every file of a small log inverted in turn: it makes no difference, or it is put right,
//! or what it damages is reported. `KOINE_BITFLIPS=all` takes every bit, else a sample.

use super::harness::{apply_log, decode, last_offset, small_config, Op, Shard, ENTRY};
use crate::{execute, Completion, Config, Log, OpenError, ReadError, ReadOutcome, Replayed};
use bytes::Bytes;
use koine_base::disk::{MemoryDisk, Survival};
use koine_base::{GroupId, Moment, StreamId};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

const GROUP: GroupId = GroupId(1);

fn config() -> Config {
    Config { wal_file_bytes: 8 << 10, tail_cache_bytes: 0, ..small_config() }
}

/// What one can read from a log.
#[derive(Clone, Debug, Default, PartialEq)]
struct Contents {
    /// Applied index and vote.
    groups: BTreeMap<GroupId, (u64, u64)>,
    /// Start, end and batches.
    streams: BTreeMap<StreamId, (u64, u64, Vec<Bytes>)>,
    /// Reads that were refused: stream and offset.
    refused: Vec<(StreamId, u64)>,
    repaired: usize,
}

fn recover(disk: &MemoryDisk) -> Result<Contents, OpenError> {
    let (mut log, mut replay) = Log::open(disk, config())?;
    let mut contents = Contents { repaired: log.repairs().len(), ..Contents::default() };
    let mut covered: BTreeMap<GroupId, u64> = BTreeMap::new();
    for replayed in &mut replay {
        match replayed? {
            Replayed::Group(group) => {
                let vote = u64::from_be_bytes(group.blob[..8].try_into().unwrap());
                covered.insert(group.group, group.applied_index);
                contents.groups.insert(group.group, (group.applied_index, vote));
            }
            Replayed::Frame(frame) => {
                let known = contents.groups.entry(frame.group).or_default();
                if frame.kind != ENTRY {
                    known.1 = u64::from_be_bytes(frame.payload[..8].try_into().unwrap());
                    continue;
                }
                known.0 = known.0.max(frame.index);
                let covered = covered.get(&frame.group).copied().unwrap_or(0);
                for (op, position) in decode(&frame.payload) {
                    if frame.index > covered || matches!(op, Op::Append(..)) {
                        apply_log(&mut log, &op, position, frame.location);
                    }
                }
            }
        }
    }
    log.finish_replay(replay)?;
    let mut ids: Vec<StreamId> = log.streams.keys().copied().collect();
    ids.sort_unstable();
    for id in ids {
        let bounds = log.bounds(id).unwrap();
        let mut offset = bounds.start;
        let mut batches = Vec::new();
        while offset < bounds.end {
            match read(disk, &mut log, id, offset) {
                Ok(read) => {
                    offset = last_offset(read.last().expect("more is there")) + 1;
                    batches.extend(read);
                }
                Err(ReadError::Corrupt { stream, offset }) => {
                    assert_eq!(stream, id);
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
            match log.complete(Moment(0), execute(disk, request)).unwrap() {
                Completion::Read { batches, .. } => batches,
                other => panic!("{other:?}"),
            }
        }
        other => panic!("{other:?}"),
    }
}

/// Two streams, with segments of both kinds, two checkpoints, recycled WAL files and a tail.
fn store() -> Arc<MemoryDisk> {
    let mut shard = Shard::new(Arc::new(MemoryDisk::new()), config(), 1);
    let streams: Vec<StreamId> = (1..=2).map(|number| StreamId::new(GROUP, number)).collect();
    let creates: Vec<Op> = streams.iter().map(|stream| Op::Create(*stream)).collect();
    shard.vote(GROUP);
    shard.propose(GROUP, &creates, true);
    while shard.log.stats().checkpoints < 3 || shard.log.wal.files.last().end < 6 << 10 {
        let large = shard.next_batch(streams[0], 2, 300);
        let small = shard.next_batch(streams[1], 1, 20);
        shard.propose(GROUP, &[large, small], true);
        shard.settle();
        if shard.log.checkpoint_due(shard.now) {
            shard.checkpoint();
            shard.settle();
        }
    }
    shard.check_all();
    let stats = shard.log.stats();
    assert!(stats.segments >= 2 && stats.wal_files_recycled >= 2, "{stats:?}");
    shard.disk.crash(Survival::Nothing);
    shard.disk
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
    trial.flip(path, bit / 8, 1 << (bit % 8)).unwrap();
    let what = || format!("{path} byte {} bit {}", bit / 8, bit % 8);
    let found = recover(&trial).unwrap_or_else(|error| panic!("{}: {error}", what()));
    if found.refused.is_empty() {
        let repaired = found.repaired;
        assert_eq!(Contents { repaired: 0, ..found }, *sound, "{}", what());
        // What is put right stays so.
        let again = if repaired > 0 { recover(&trial).unwrap() } else { sound.clone() };
        assert_eq!(again, *sound, "{} again", what());
        return ["harmless", "put right"][repaired.min(1)];
    }
    assert!(path.contains("/segments/"), "{}", what());
    assert_eq!(found.groups, sound.groups, "{}", what());
    for (id, (start, end, batches)) in &found.streams {
        let (sound_start, sound_end, sound_batches) = &sound.streams[id];
        assert_eq!((start, end), (sound_start, sound_end), "{}", what());
        assert!(sound_batches.starts_with(batches), "{}: wrong bytes", what());
        let refused = found.refused.iter().any(|(refused, _)| refused == id);
        assert!(refused || batches == sound_batches, "{}: silent loss", what());
    }
    "read refused"
}

#[test]
fn bit_flips_are_harmless_or_put_right_or_reported() {
    let disk = store();
    let sound = recover(&disk.fork()).unwrap();
    assert_eq!((sound.repaired, sound.refused.len()), (0, 0));
    let mut tries: Vec<(String, u64)> = Vec::new();
    for path in disk.paths() {
        let size = disk.contents(&path).unwrap().len() as u64;
        tries.extend(bits(&path, size).into_iter().map(|bit| (path.clone(), bit)));
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let run = || {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        while let Some((path, bit)) = tries.get(next.fetch_add(1, Ordering::Relaxed)) {
            *counts.entry(outcome(&disk, path, *bit, &sound)).or_default() += 1;
        }
        counts
    };
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        for (outcome, count) in workers.into_iter().flat_map(|worker| worker.join().unwrap()) {
            *counts.entry(outcome).or_default() += count;
        }
    });
    println!("{} bits: {counts:?}", tries.len());
    assert!(counts.values().all(|count| *count > 30) && counts.len() == 3, "{counts:?}");
}

/// Two bits, in different bytes or in one: never put right by mistake, never passed over.
#[test]
fn two_flipped_bits_are_reported_below_the_mark() {
    let disk = store();
    let sound = recover(&disk.fork()).unwrap();
    let mut rng = koine_base::rng::Rng::new(5);
    let (mut refused, mut whole) = (0, 0);
    for _ in 0..500 {
        let trial = disk.fork();
        let paths: Vec<String> =
            disk.paths().into_iter().filter(|path| path.contains("/wal/")).collect();
        let path = &paths[rng.below(paths.len() as u64) as usize];
        let size = disk.contents(path).unwrap().len() as u64;
        let first = rng.below(size * 8);
        let second = (first + 1 + rng.below(300 * 8)) % (size * 8);
        for bit in [first, second] {
            trial.flip(path, bit / 8, 1 << (bit % 8)).unwrap();
        }
        match recover(&trial) {
            Ok(found) => {
                let last = sound.groups[&GROUP].0;
                // Only the last write may be taken for a tear.
                if found.groups[&GROUP].0 != last - 1 {
                    assert_eq!(Contents { repaired: 0, ..found }, sound, "{path} {first} {second}");
                }
                whole += 1;
            }
            Err(OpenError::Corrupt { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused > 8 && whole > 200, "{refused} refused, {whole} whole");
}
