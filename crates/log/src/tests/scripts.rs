//! One rule per test, on a log driven by hand.

use super::harness::{small_config, Op, Shard};
use crate::{
    execute, Appended, Completion, Config, Frame, IoClass, IoRequest, Log, Persisted, Pressure,
    Replayed,
};
use bytes::Bytes;
use koine_base::disk::{MemoryDisk, Survival};
use koine_base::{GroupId, Moment, StreamId};
use std::sync::Arc;

const A: GroupId = GroupId(1);
const B: GroupId = GroupId(2);

struct Wal {
    disk: MemoryDisk,
    log: Log,
    now: Moment,
}

impl Wal {
    fn new(config: Config) -> Wal {
        let disk = MemoryDisk::new();
        let (mut log, mut replay) = Log::open(&disk, config).unwrap();
        assert!(replay.next().is_none());
        log.finish_replay(replay).unwrap();
        Wal { disk, log, now: Moment(0) }
    }

    /// A new process on the same disk, and the indexes of the frames that it finds.
    fn reopen(self) -> (Wal, Vec<u64>) {
        let Wal { disk, now, .. } = self;
        let mut found = Vec::new();
        let (mut log, mut replay) = Log::open(&disk, small_config()).unwrap();
        for replayed in &mut replay {
            if let Replayed::Frame(frame) = replayed.unwrap() {
                found.push(frame.index);
            }
        }
        log.finish_replay(replay).unwrap();
        (Wal { disk, log, now }, found)
    }

    fn append(&mut self, group: GroupId, index: u64, bytes: usize, sync: bool) -> Appended {
        let payload = vec![Bytes::from(vec![index as u8; bytes])];
        self.log.append(self.now, Frame { group, kind: 1, term: 1, index, payload, sync })
    }

    fn poll(&mut self) -> Option<IoRequest> {
        self.log.poll_io(self.now)
    }

    fn run(&mut self, request: IoRequest) {
        let result = execute(&self.disk, request);
        self.log.complete(self.now, result).unwrap();
    }

    fn run_all(&mut self) {
        while let Some(request) = self.poll() {
            self.run(request);
        }
    }

    /// Group and index of what became persisted.
    fn persisted(&mut self) -> Vec<(u16, u64)> {
        self.log
            .take_persisted()
            .iter()
            .map(|Persisted { group, index, .. }| (group.0, *index))
            .collect()
    }
}

#[test]
fn one_write_at_a_time_takes_all_that_queued_up() {
    let mut wal = Wal::new(small_config());
    wal.append(A, 1, 100, true);
    let create = wal.poll().unwrap();
    assert_eq!(create.class(), IoClass::Background, "the first file is made when it is needed");
    assert!(wal.poll().is_none());
    wal.run(create);
    let first = wal.poll().unwrap();
    assert_eq!(first.class(), IoClass::Wal);
    wal.append(A, 2, 100, true);
    wal.append(B, 1, 100, true);
    wal.append(A, 3, 100, false);
    assert!(wal.poll().is_none(), "one write at a time");
    assert_eq!(wal.persisted(), []);
    wal.run(first);
    assert_eq!(wal.persisted(), [(1, 1)]);
    let syncs = wal.disk.syncs();
    let second = wal.poll().unwrap();
    wal.run(second);
    assert_eq!(wal.persisted(), [(1, 3), (2, 1)]);
    assert_eq!(wal.disk.syncs() - syncs, 1, "one sync for all");
    assert!(wal.poll().is_none());
    assert!(wal.log.is_idle());
}

#[test]
fn relaxed_frames_count_when_queued_unless_one_before_them_does_not() {
    let mut wal = Wal::new(small_config());
    wal.append(A, 1, 10, false);
    assert_eq!(wal.persisted(), [(1, 1)]);
    wal.append(A, 2, 10, true);
    wal.append(A, 3, 10, false);
    wal.append(B, 1, 10, false);
    assert_eq!(wal.persisted(), [(2, 1)], "3 is behind 2, which waits for its sync");
    wal.run_all();
    assert_eq!(wal.persisted(), [(1, 3)]);
}

#[test]
fn relaxed_frames_are_written_by_size_or_age_or_with_others() {
    let after = std::time::Duration::from_millis(1);
    let config = Config { relaxed_write_after: after, relaxed_write_bytes: 500, ..small_config() };
    let mut wal = Wal::new(config);
    wal.append(A, 1, 10, true);
    wal.run_all();
    let written = wal.log.stats().wal_writes;
    let expect = |wal: &mut Wal, more: u64, why: &str| {
        wal.run_all();
        assert_eq!(wal.log.stats().wal_writes, written + more, "{why}");
    };
    wal.append(A, 2, 10, false);
    assert_eq!(wal.persisted(), [(1, 2)]);
    expect(&mut wal, 0, "nobody waits for it");
    assert_eq!(wal.log.deadline(), Some(Moment(1_000)));
    wal.now = Moment(999);
    wal.append(A, 3, 10, false);
    expect(&mut wal, 0, "it is not time");
    wal.now = Moment(1_000);
    expect(&mut wal, 1, "the first has waited long enough, and takes the other along");
    wal.append(A, 4, 600, false);
    expect(&mut wal, 2, "it is much");
    wal.append(A, 5, 10, false);
    wal.append(B, 1, 10, true);
    expect(&mut wal, 3, "somebody waits for the one behind it");
    wal.append(A, 6, 10, false);
    expect(&mut wal, 3, "nobody waits for it");
    wal.log.flush();
    expect(&mut wal, 4, "somebody does now");
}

#[test]
fn relaxed_frames_are_synced_by_size_or_age() {
    let mut wal = Wal::new(small_config());
    wal.append(A, 1, 10, true);
    wal.run_all();
    let syncs = wal.disk.syncs();
    wal.append(A, 2, 100, false);
    wal.run_all();
    assert_eq!(wal.disk.syncs(), syncs, "written, not yet synced");
    assert_eq!(wal.log.deadline(), Some(Moment(100_000)));
    wal.now = Moment(99_999);
    assert!(wal.poll().is_none());
    wal.now = Moment(100_000);
    wal.run_all();
    assert_eq!(wal.disk.syncs(), syncs + 1, "by age");
    wal.append(A, 3, 2000, false);
    wal.run_all();
    assert_eq!(wal.disk.syncs(), syncs + 2, "by size");
    wal.append(A, 4, 10, false);
    wal.run_all();
    wal.log.flush();
    wal.run_all();
    assert_eq!(wal.disk.syncs(), syncs + 3, "on demand");
    assert!(wal.log.is_idle());
}

#[test]
fn relaxed_frames_wait_when_the_disk_is_far_behind() {
    let mut wal = Wal::new(small_config());
    for index in 1..=20 {
        wal.append(A, index, 1000, false);
    }
    let reported = wal.persisted()[0].1;
    assert!((8..=10).contains(&reported), "about the backlog's limit of 8 KiB: {reported}");
    wal.run_all();
    assert_eq!(wal.persisted(), [(1, 20)]);
}

#[test]
fn a_failed_sync_or_write_is_fatal_and_persists_nothing() {
    for fail_sync in [true, false] {
        let mut wal = Wal::new(small_config());
        wal.append(A, 1, 10, true);
        wal.run_all();
        wal.persisted();
        wal.append(A, 2, 10, true);
        if fail_sync {
            wal.disk.fail_sync(0);
        } else {
            wal.disk.fail_write(0);
        }
        let request = wal.poll().unwrap();
        let result = execute(&wal.disk, request);
        assert!(wal.log.complete(wal.now, result).is_err());
        assert_eq!(wal.persisted(), []);
    }
}

/// A frame whose sync failed is found by the next process in the system's cache. Once that process has
/// replayed it, it has to stay, though the cache takes it for written.
#[test]
fn what_a_failed_sync_left_in_the_cache_is_written_again() {
    // The first sync of the file covers its header, the second the frame.
    for (frames_before, syncs_before) in [(0, 0), (0, 1), (3, 0)] {
        let mut wal = Wal::new(small_config());
        let create = (frames_before == 0).then(|| {
            wal.append(A, 1, 600, true);
            wal.poll().unwrap()
        });
        create.into_iter().for_each(|request| wal.run(request));
        for index in 1..=frames_before {
            wal.append(A, index, 600, true);
            wal.run_all();
        }
        if frames_before > 0 {
            wal.append(A, frames_before + 1, 600, true);
        }
        wal.disk.fail_sync(syncs_before);
        let request = wal.poll().unwrap();
        let result = execute(&wal.disk, request);
        assert!(wal.log.complete(wal.now, result).is_err());
        wal.disk.kill();
        let (mut wal, mut found) = wal.reopen();
        wal.append(A, 9, 10, true);
        wal.run_all();
        wal.disk.crash(Survival::Nothing);
        found.push(9);
        assert_eq!(wal.reopen().1, found, "{frames_before} frames, sync {syncs_before}");
    }
}

#[test]
fn a_full_device_refuses_before_anything_is_acknowledged() {
    let mut wal = Wal::new(small_config());
    wal.disk.limit(Some(10 << 10));
    wal.append(A, 1, 10, true);
    let create = wal.poll().unwrap();
    let completion = wal.log.complete(wal.now, execute(&wal.disk, create)).unwrap();
    assert!(matches!(completion, Completion::NoSpace));
    assert_eq!(wal.log.pressure(), Pressure::NoSpace);
    assert_eq!(wal.persisted(), []);
    wal.append(B, 1, 10, false);
    assert_eq!(wal.persisted(), [], "not even relaxed frames count now");
    assert!(wal.poll().is_none(), "no hurry to try again");
    assert_eq!(wal.log.deadline(), Some(Moment(200_000)));
    wal.disk.limit(None);
    wal.now = Moment(200_000);
    wal.run_all();
    assert_eq!(wal.persisted(), [(1, 1), (2, 1)]);
    assert_eq!(wal.log.pressure(), Pressure::None);
}

#[test]
fn when_it_is_quiet_the_mark_covers_the_last_write() {
    let mut wal = Wal::new(small_config());
    wal.append(A, 1, 10, true);
    wal.run_all();
    assert_eq!(wal.log.deadline(), Some(Moment(100_000)));
    wal.now = Moment(100_000);
    let (steps, syncs) = (wal.disk.steps(), wal.disk.syncs());
    wal.run_all();
    assert_eq!((wal.disk.steps(), wal.disk.syncs()), (steps + 1, syncs), "one write, no sync");
    assert_eq!(wal.log.deadline(), None);
    wal.disk.crash(Survival::Everything);
    wal.disk.flip("0/wal/1", 4096 + 58, 3).unwrap();
    assert!(Log::open(&wal.disk, small_config()).is_err());
}

/// The first file is waited for, those behind it are made meanwhile.
#[test]
fn a_large_first_file_is_not_waited_for() {
    let config = Config { wal_file_bytes: 16 << 20, ..small_config() };
    let mut wal = Wal::new(config);
    let mut sizes = Vec::new();
    for bytes in [10, 2 << 20, 2 << 20] {
        wal.append(A, sizes.len() as u64 + 1, bytes, true);
        wal.run_all();
        let paths = wal.disk.paths();
        let size = |path: &String| wal.disk.contents(path).unwrap().len() >> 20;
        sizes.push(paths.iter().map(size).collect::<Vec<_>>());
    }
    assert_eq!(sizes, [vec![4], vec![4, 16], vec![4, 16]]);
    assert_eq!(wal.persisted(), [(1, 3)]);
}

#[test]
fn the_next_file_is_made_ahead_of_need() {
    let mut wal = Wal::new(small_config());
    wal.append(A, 1, 4500, true);
    wal.run_all();
    assert_eq!(wal.disk.paths(), ["0/wal/1", "0/wal/2"]);
    wal.disk.limit(Some(0));
    wal.append(A, 2, 4500, true);
    wal.append(A, 3, 4500, true);
    wal.run_all();
    assert_eq!(wal.persisted(), [(1, 3)]);
    assert_eq!(wal.log.pressure(), Pressure::NoSpace, "known while there is still room");
}

#[test]
fn frames_larger_than_a_file_get_one_of_their_own() {
    let mut wal = Wal::new(small_config());
    let sizes = [10, 100_000, 50, 13_000, 20_000, 0];
    for (index, bytes) in (1..).zip(sizes) {
        wal.append(A, index, bytes, true);
    }
    wal.run_all();
    assert_eq!(wal.persisted(), [(1, 6)]);
    wal.disk.crash(Survival::Nothing);
    let (_, replay) = Log::open(&wal.disk, small_config()).unwrap();
    let found: Vec<usize> = replay
        .map(|replayed| match replayed.unwrap() {
            Replayed::Frame(frame) => {
                assert!(frame.payload.iter().all(|byte| *byte == frame.index as u8));
                frame.payload.len()
            }
            Replayed::Group(_) => panic!("there is no checkpoint"),
        })
        .collect();
    assert_eq!(found, sizes);
}

#[test]
fn superseded_frames_are_not_replayed() {
    let mut wal = Wal::new(small_config());
    for (group, index) in [(A, 1), (A, 2), (B, 1), (A, 3), (A, 2), (B, 2), (A, 3), (A, 3), (B, 0)] {
        wal.append(group, index, 10, true);
    }
    wal.run_all();
    let (_, replay) = Log::open(&wal.disk, small_config()).unwrap();
    let found: Vec<(u16, u64)> = replay
        .map(|replayed| match replayed.unwrap() {
            Replayed::Frame(frame) => (frame.group.0, frame.index),
            Replayed::Group(_) => panic!("there is no checkpoint"),
        })
        .collect();
    assert_eq!(found, [(1, 1), (2, 1), (1, 2), (2, 2), (1, 3), (2, 0)]);
}

#[test]
fn restarts_do_not_pile_up_files() {
    let mut shard = Shard::new(Arc::new(MemoryDisk::new()), small_config(), 1);
    for _ in 0..20 {
        shard.vote(A);
        shard.settle();
        if shard.log.checkpoint_due(shard.now) {
            shard.checkpoint();
            shard.settle();
        }
        shard.crash(Survival::Nothing);
    }
    let files = shard.disk.paths().iter().filter(|path| path.starts_with("0/wal/")).count();
    assert!(files <= 5, "{files} files");
}

#[test]
fn a_stream_drained_in_time_never_touches_a_segment() {
    let mut shard = Shard::new(Arc::new(MemoryDisk::new()), small_config(), 1);
    let stream = StreamId::new(A, 1);
    shard.propose(A, &[Op::Create(stream)], true);
    for _ in 0..100 {
        let append = shard.next_batch(stream, 1, 500);
        shard.propose(A, &[append], true);
        let end = shard.groups[&A].proposed[&stream].end;
        shard.propose(A, &[Op::Trim(stream, end)], true);
        shard.settle();
        if shard.log.checkpoint_due(shard.now) {
            shard.checkpoint();
            shard.settle();
        }
    }
    let stats = shard.log.stats();
    assert!(stats.checkpoints >= 3 && stats.wal_files_recycled >= 3, "{stats:?}");
    assert_eq!((stats.segments, stats.segment_bytes_written), (0, 0));
    shard.crash(Survival::Nothing);
}

#[test]
fn files_stay_few_and_dead_segments_go() {
    let config = Config { own_segment_bytes_min: 1 << 20, ..small_config() };
    let mut shard = Shard::new(Arc::new(MemoryDisk::new()), config, 2);
    let streams: Vec<StreamId> =
        (1..=12).map(|n| StreamId::new(if n % 2 == 0 { A } else { B }, n)).collect();
    for stream in &streams {
        shard.propose(stream.group(), &[Op::Create(*stream)], true);
    }
    let mut most = 0;
    for round in 0..400usize {
        let stream = streams[round % streams.len()];
        let append = shard.next_batch(stream, 1, 200);
        let end = shard.groups[&stream.group()].proposed[&stream].end;
        // A retention of a hundred records.
        shard.propose(stream.group(), &[append, Op::Trim(stream, end.saturating_sub(10))], true);
        shard.settle();
        if shard.log.checkpoint_due(shard.now) {
            shard.checkpoint();
            shard.settle();
        }
        most = most.max(shard.log.stats().segments);
    }
    let stats = shard.log.stats();
    assert!(stats.segments_deleted > 3 && stats.segment_bytes_rewritten > 0, "{stats:?}");
    assert!(most <= 12, "{most} segments");
    assert!(stats.wal_files <= 3, "{stats:?}");
    shard.check_all();
    shard.crash(Survival::Nothing);
}

#[test]
fn a_file_stays_until_every_group_has_applied_it() {
    let mut shard = Shard::new(Arc::new(MemoryDisk::new()), small_config(), 2);
    shard.propose(B, &[], true);
    for _ in 0..40 {
        shard.propose(A, &[Op::Create(StreamId::new(A, 1))], true);
        let append = shard.next_batch(StreamId::new(A, 1), 1, 800);
        shard.propose(A, &[append], true);
    }
    shard.poll();
    while !shard.log.is_idle() {
        shard.poll();
        if shard.requests.is_empty() {
            shard.complete_one(0);
        } else {
            shard.execute_one(0);
        }
    }
    // B's only entry is not applied.
    let mut lags = [0u64, 1].into_iter();
    shard.apply(|| lags.next().unwrap_or(0));
    shard.checkpoint();
    while !shard.log.is_idle() {
        shard.poll();
        if shard.requests.is_empty() {
            shard.complete_one(0);
        } else {
            shard.execute_one(0);
        }
    }
    assert_eq!(shard.log.stats().wal_files_recycled, 0);
    shard.apply(|| 0);
    shard.checkpoint();
    shard.settle();
    assert!(shard.log.stats().wal_files_recycled >= 2);
    shard.crash(Survival::Nothing);
}

#[test]
fn a_checkpoint_on_a_full_device_changes_nothing_and_is_tried_again() {
    let mut shard = Shard::new(Arc::new(MemoryDisk::new()), small_config(), 1);
    let stream = StreamId::new(A, 1);
    shard.propose(A, &[Op::Create(stream)], true);
    while !shard.log.checkpoint_due(shard.now) {
        let append = shard.next_batch(stream, 1, 500);
        shard.propose(A, &[append], true);
        shard.settle();
    }
    let before = shard.disk.paths();
    let used: u64 = before.iter().map(|path| shard.disk.contents(path).unwrap().len() as u64).sum();
    shard.disk.limit(Some(used + 100));
    shard.checkpoint();
    shard.settle();
    let stats = shard.log.stats();
    assert_eq!((stats.checkpoints, stats.checkpoints_failed), (0, 1));
    assert_eq!(shard.disk.paths(), before);
    assert!(!shard.log.checkpoint_due(shard.now), "not at once");
    shard.check_all();
    shard.disk.limit(None);
    shard.now = shard.now.after_ms(200);
    assert!(shard.log.checkpoint_due(shard.now));
    shard.checkpoint();
    shard.settle();
    assert_eq!(shard.log.stats().checkpoints, 1);
    shard.check_all();
    shard.crash(Survival::Nothing);
}

#[test]
fn memory_per_batch_is_bounded_by_the_cache_and_the_index() {
    let config = Config { tail_cache_bytes: 4 << 10, wal_index_entries_max: 50, ..small_config() };
    let mut shard = Shard::new(Arc::new(MemoryDisk::new()), config, 1);
    let stream = StreamId::new(A, 1);
    shard.propose(A, &[Op::Create(stream)], true);
    for _ in 0..600 {
        let append = shard.next_batch(stream, 1, 10);
        shard.propose(A, &[append], true);
        shard.settle();
        if shard.log.checkpoint_due(shard.now) {
            shard.checkpoint();
            shard.settle();
        }
        let held = &shard.log.streams[&stream];
        assert!(held.wal.len() <= 2 * 51, "{} entries", held.wal.len());
        assert!(shard.log.stats().cache_bytes <= 4 << 10);
    }
    assert!(shard.log.stats().checkpoints >= 10);
    shard.check_all();
}

/// Frames that only the system's cache held when the process died count once they were replayed.
#[test]
fn what_was_replayed_is_durable() {
    let mut wal = Wal::new(small_config());
    wal.append(A, 1, 10, false);
    wal.run_all();
    wal.disk.kill();
    let frames = |disk: &MemoryDisk| Log::open(disk, small_config()).unwrap().1.count();
    assert_eq!(frames(&wal.disk), 1);
    wal.disk.crash(Survival::Nothing);
    assert_eq!(frames(&wal.disk), 1);
}
