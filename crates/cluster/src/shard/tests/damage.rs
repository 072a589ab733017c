//! A small node with some of everything on its disk, which then decays: every bit in turn, and larger
//! damage, which the examination has to name. `KOINE_BITFLIPS=all` takes every bit, else a sample.

use super::*;
use crate::doctor::{self, examine, repair, Finding, Remedy, Report};
use crate::shard::checkpoint::encode_group;
use koine_base::disk::{Disk, Survival};
use koine_broker::metadata::StreamOwner;
use koine_broker::offsets::CommittedOffset;
use koine_log::{Completion, OpenError, ReadError, ReadOutcome};
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

/// Bytes of a file, and where something that only it holds stands in it.
fn find(disk: &MemoryDisk, part: &str, wanted: &[u8]) -> (String, u64) {
    let of_part = |path: &String| path.contains(part);
    for path in disk.paths().into_iter().filter(of_part) {
        let bytes = disk.contents(&path).expect("it is listed");
        if let Some(at) = bytes.windows(wanted.len()).rposition(|window| window == wanted) {
            return (path, at as u64);
        }
    }
    panic!("{wanted:?} is not in {part}")
}

/// Makes `count` bytes something else.
fn spoil(disk: &MemoryDisk, path: &str, at: u64, count: u64) {
    for position in at..at + count {
        disk.flip(path, position, 0x5A).expect("it is there");
    }
}

fn newest(disk: &MemoryDisk, part: &str) -> Vec<String> {
    let mut paths: Vec<String> =
        disk.paths().into_iter().filter(|path| path.contains(part)).collect();
    paths.sort_by_key(|path| path.rsplit('/').next().and_then(|name| name.parse::<u64>().ok()));
    paths.reverse();
    paths
}

/// What the examination says, a line per finding: fault, what is lost.
fn said(report: &Report) -> Vec<String> {
    let name = |owner: &Option<StreamOwner>| match owner {
        Some(StreamOwner::Topic { name, partition, .. }) => format!("{name}/{partition}"),
        Some(StreamOwner::Queue { name, .. }) => name.clone(),
        other => format!("{other:?}"),
    };
    let line = |finding: &Finding| {
        let mut line = finding.fault.code().to_owned();
        for affected in &finding.affected {
            let last = affected.end - 1;
            line += &format!(" {} {}..={last}", name(&affected.owner), affected.start);
        }
        let flags = [(finding.metadata, " metadata"), (finding.and_more, " and more")];
        for (_, flag) in flags.into_iter().filter(|(is_set, _)| *is_set) {
            line += flag;
        }
        line
    };
    report.findings.iter().map(line).collect()
}

/// A record of the topic as it is stored: its value is its offset, 300 times.
fn news(offset: u8) -> [u8; 40] {
    [offset; 40]
}

#[test]
fn each_kind_of_damage_is_named_with_what_it_costs() {
    let disk = store();
    let end = contents(&disk.fork()).expect("sound").streams.values().map(|s| s.1).max();
    let end = end.expect("there are streams") as u8;
    let check = |damage: &dyn Fn(&MemoryDisk), expect: &[&str]| {
        let trial = disk.fork();
        damage(&trial);
        let report = report(&trial);
        assert_eq!(said(&report), expect, "{:?}", report.findings);
        let opened = contents(&trial);
        assert_eq!(report.prevents_start(), opened.is_err(), "{expect:?}: {:?}", opened.err());
    };
    let late = end - 4;
    check(
        &|disk| {
            let (path, at) = find(disk, "/wal/", &news(late));
            spoil(disk, &path, at, 2);
        },
        &[&format!("wal-entry news/0 {late}..={late}")],
    );
    // The whole entry, with its header: the entries behind it tell what is gone.
    check(
        &|disk| {
            let (path, at) = find(disk, "/wal/", &news(late));
            let trial = disk.fork();
            spoil(&trial, &path, at, 2);
            spoil(disk, &path, report(&trial).findings[0].position, 300);
        },
        &[&format!("wal-entry news/0 {late}..={late} metadata and more")],
    );
    let early = 5;
    check(
        &|disk| {
            let (path, at) = find(disk, "/segments/", &news(early));
            spoil(disk, &path, at, 2);
        },
        &[&format!("records news/0 {early}..={early}")],
    );
    let lose = |part: &'static str, number: usize| {
        move |disk: &MemoryDisk| disk.remove(&newest(disk, part)[number]).expect("it is there")
    };
    check(&lose("/segments/", 0), &["segment-missing jobs 10..=15 news/0 11..=15"]);
    check(&lose("/segments/", 1), &["segment-missing jobs 5..=9 news/0 5..=10"]);
    let index = |disk: &MemoryDisk| {
        let path = newest(disk, "/segments/").remove(0);
        let size = disk.contents(&path).expect("it is listed").len() as u64;
        spoil(disk, &path, size - 40 - 72 - 8, 2);
    };
    check(&index, &["segment-structure"]);
    let spoil_start = |part: &'static str, number: usize| {
        move |disk: &MemoryDisk| spoil(disk, &newest(disk, part)[number], 4, 8)
    };
    check(&spoil_start("/segments/", 0), &["segment-structure"]);
    check(&spoil_start("/checkpoints/", 0), &["checkpoint"]);
    check(&spoil_start("/checkpoints/", 1), &["checkpoint"]);
    let no_checkpoint = |disk: &MemoryDisk| {
        newest(disk, "/checkpoints/").iter().for_each(|path| disk.remove(path).expect("there"));
    };
    check(&no_checkpoint, &["checkpoint-missing metadata and more"]);
    // One holds what no checkpoint covers, one is spare, one waits to be used again.
    let mut costs = Vec::new();
    for path in newest(&disk, "/wal/") {
        let trial = disk.fork();
        spoil(&trial, &path, 4, 8);
        costs.extend(said(&report(&trial)));
        trial.remove(&path).expect("it is there");
        costs.extend(said(&report(&trial)));
    }
    assert_eq!(costs, ["wal-header", "wal-file-missing metadata and more"]);
}

/// A start and the examination must agree, whatever is damaged; and nothing may panic.
#[test]
fn the_examination_and_a_start_agree() {
    let disk = store();
    let mut rng = koine_base::rng::Rng::new(11);
    let (mut refused, mut started) = (0, 0);
    for round in 0..120 {
        let trial = disk.fork();
        for _ in 0..1 + rng.below(2) {
            let paths = trial.paths();
            let path = &paths[rng.below(paths.len() as u64) as usize];
            let size = trial.contents(path).expect("it is listed").len() as u64;
            let at = rng.below(size);
            match rng.below(12) {
                0 => trial.remove(path).expect("it is there"),
                _ => spoil(&trial, path, at, (1 + rng.below(600)).min(size - at)),
            }
        }
        let report = report(&trial);
        let opened = contents(&trial);
        let why = format!("round {round}: {:?}, {:?}", report.findings, opened.as_ref().err());
        assert_eq!(report.prevents_start(), opened.is_err(), "{why}");
        if let Err(OpenError::Corrupt { file, .. }) = &opened {
            let names_it = |finding: &Finding| file.starts_with(&finding.file);
            assert!(report.findings.iter().any(names_it), "{why}");
        }
        *(if opened.is_err() { &mut refused } else { &mut started }) += 1;
    }
    assert!(refused > 8 && started > 30, "{refused} refused, {started} started");
}

/// Damage in the WAL, repaired: the node starts, and lacks what was said and nothing else.
#[test]
fn repaired_data_lacks_only_what_was_said() {
    let disk = store();
    let sound = contents(&disk.fork()).expect("sound");
    let wal = find(&disk, "/wal/", &news(17)).0;
    let size = disk.contents(&wal).expect("it is listed").len() as u64;
    let mut rng = koine_base::rng::Rng::new(3);
    let (mut replaced, mut lost) = (0, 0);
    for round in 0..150 {
        let trial = disk.fork();
        let at = 4096 + rng.below(size - 4096);
        match round {
            0 => spoil(&trial, &wal, 0, 20),
            _ => spoil(&trial, &wal, at, (1 + rng.below(900)).min(size - at)),
        }
        let before = report(&trial);
        let why = format!("round {round}: {:?}", before.findings);
        let remedies = repair(&trial, &before).expect("the disk works");
        if !before.prevents_start() {
            continue;
        }
        assert!(!remedies.contains(&Remedy::Hopeless), "{why}");
        replaced += 1;
        let after = report(&trial);
        assert!(after.findings.is_empty(), "{why}, then {:?}", after.findings);
        let found = contents(&trial).unwrap_or_else(|error| panic!("{why}: {error}"));
        let affected: Vec<&doctor::Affected> =
            before.findings.iter().flat_map(|finding| &finding.affected).collect();
        for (id, (_, end, batches)) in &sound.streams {
            let (_, found_end, found_batches) = &found.streams[id];
            let and_more = before.findings.iter().any(|finding| finding.and_more);
            assert!(found_end == end || and_more && found_end < end, "{why}");
            for batch in batches {
                let header = batch::BatchHeader::new(batch).expect("sound");
                let (base, next) = (header.base_offset(), header.next_offset());
                let is_lost = base >= *found_end
                    || affected.iter().any(|affected| {
                        affected.stream == *id && affected.start < next && base < affected.end
                    });
                assert_eq!(found_batches.contains(batch), !is_lost, "{why}: {id} {base}");
                lost += u64::from(is_lost);
            }
        }
        // It goes on from there, and what is left is delivered past the holes.
        let mut node = Node::open_with(&trial, SHARDS, tiny);
        let client = node.connect(0);
        let queue = *sound.streams.keys().next().expect("the queue is the first");
        node.publish(&client, &[queue], "after the repair");
        let got = deliveries(node.ask(&client, attach(queue, 1, 1000)));
        assert_eq!(bodies(&got).last().map(String::as_str), Some("after the repair"), "{why}");
    }
    assert!(replaced > 30 && lost > 10, "{replaced} repaired, {lost} batches lost");
}
