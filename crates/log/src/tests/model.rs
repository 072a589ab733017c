//! Random histories against the model: rolls, checkpoints, evictions, reads from every layer, crashes
//! of every kind. A failure prints its seed.

use super::harness::{small_config, Op, Shard};
use koine_base::disk::{MemoryDisk, Survival};
use koine_base::rng::Rng;
use koine_base::{GroupId, StreamId};
use std::sync::Arc;

struct Run {
    shard: Shard,
    rng: Rng,
    next_stream: u64,
    /// Entries that may stay unapplied.
    lag_max: u64,
    sync_percent: u64,
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut rng = Rng::new(seed);
        let mut config = small_config();
        config.relaxed_write_after = std::time::Duration::from_millis(seed % 3);
        // Each run has its own mix of small and large limits.
        config.tail_cache_bytes = [0, 2 << 10, 6 << 10, 1 << 20][rng.below(4) as usize];
        config.wal_index_entries_max = [5, 40, 1000][rng.below(3) as usize];
        config.own_segment_bytes_min = [500, 2 << 10, 1 << 20][rng.below(3) as usize];
        config.wal_file_bytes = [10 << 10, 16 << 10, 40 << 10][rng.below(3) as usize];
        let shard = Shard::new(Arc::new(MemoryDisk::new()), config, 1 + rng.below(3) as u16);
        let (lag_max, sync_percent) = (rng.below(4), [0, 30, 90, 100][rng.below(4) as usize]);
        Run { shard, rng, next_stream: 1, lag_max, sync_percent }
    }

    fn group(&mut self) -> GroupId {
        GroupId(1 + self.rng.below(self.shard.groups.len() as u64) as u16)
    }

    fn stream_of(&mut self, group: GroupId) -> Option<StreamId> {
        let streams: Vec<StreamId> = self.shard.groups[&group].proposed.keys().copied().collect();
        (!streams.is_empty()).then(|| streams[self.rng.below(streams.len() as u64) as usize])
    }

    fn propose(&mut self) {
        let group = self.group();
        let mut ops = Vec::new();
        for _ in 0..=self.rng.below(4) {
            let op = self.random_op(group);
            // Each operation must see the one before.
            let state = self.shard.groups.get_mut(&group).unwrap();
            super::harness::apply_model(&mut state.proposed, &op);
            ops.push(op);
        }
        let sync = self.rng.below(100) < self.sync_percent;
        self.shard.append_entry(group, &ops, sync);
    }

    fn random_op(&mut self, group: GroupId) -> Op {
        let count = self.shard.groups[&group].proposed.len() as u64;
        let roll = self.rng.below(100);
        let Some(stream) = self.stream_of(group).filter(|_| roll >= 6 || count >= 6) else {
            self.next_stream += 1;
            return Op::Create(StreamId::new(group, self.next_stream));
        };
        let model = &self.shard.groups[&group].proposed[&stream];
        let (start, end) = (model.start, model.end);
        match roll {
            0..=7 => Op::Delete(stream),
            // A queue that is drained, a retention that moves a little, and one past the end.
            8..=15 => Op::Trim(stream, end),
            16..=24 => Op::Trim(stream, start + self.rng.below(end - start + 1)),
            25 => Op::Trim(stream, end + self.rng.below(5)),
            26 => {
                let filler = 3000 + self.rng.below(30_000) as usize;
                self.shard.next_batch(stream, 1, filler)
            }
            _ => {
                let (records, filler) =
                    (1 + self.rng.below(5) as u32, self.rng.below(400) as usize);
                self.shard.next_batch(stream, records, filler)
            }
        }
    }

    fn read(&mut self) {
        let group = self.group();
        let streams: Vec<StreamId> = self.shard.groups[&group].visible.keys().copied().collect();
        if streams.is_empty() {
            return;
        }
        let stream = streams[self.rng.below(streams.len() as u64) as usize];
        let model = &self.shard.groups[&group].visible[&stream];
        let (start, end) = (model.start, model.end);
        if self.rng.chance(1, 5) {
            let timestamp_ms = self.rng.below(self.shard.batch_count * 10 + 50) as i64;
            return self.shard.search(stream, timestamp_ms);
        }
        let low = start.saturating_sub(2);
        let offset = low + self.rng.below(end - low + 3);
        let bytes_max = [0, 200, 1000, 100_000][self.rng.below(4) as usize];
        let offset_end =
            if self.rng.chance(1, 4) { low + self.rng.below(end - low + 3) } else { u64::MAX };
        self.shard.read(stream, offset, bytes_max, offset_end);
    }

    /// Now and then the device is nearly full for a while.
    fn fill_device(&mut self) {
        if self.rng.chance(1, 200) {
            let room = self.rng.below(40 << 10);
            self.shard.disk.limit(Some(self.shard.disk.used_bytes() + room));
        } else if self.rng.chance(1, 60) {
            self.shard.disk.limit(None);
        }
    }

    fn step(&mut self) {
        self.fill_device();
        match self.rng.below(100) {
            0..=29 => self.propose(),
            30..=54 => {
                self.shard.poll();
                if !self.shard.requests.is_empty() {
                    let index = self.rng.below(self.shard.requests.len() as u64) as usize;
                    self.shard.execute_one(index);
                }
            }
            55..=76 => {
                if !self.shard.results.is_empty() {
                    let index = self.rng.below(self.shard.results.len() as u64) as usize;
                    self.shard.complete_one(index);
                }
                let (rng, lag_max) = (&mut self.rng, self.lag_max);
                self.shard.apply(|| rng.below(lag_max + 1));
            }
            77..=88 => self.read(),
            89..=91 => self.shard.now = self.shard.now.after_ms(self.rng.below(80)),
            92..=94 => {
                let group = self.group();
                self.shard.vote(group);
            }
            95 => {
                let group = self.group();
                let rng = &mut self.rng;
                self.shard.take_back(group, rng);
            }
            _ => {
                if self.shard.log.checkpoint_due(self.shard.now) || self.rng.chance(1, 20) {
                    self.shard.checkpoint();
                }
            }
        }
    }

    fn crash(&mut self) {
        self.shard.disk.limit(None);
        if self.rng.chance(1, 3) {
            // The end comes in the middle of something.
            self.shard.disk.stop_after(self.rng.below(12));
            while !self.shard.requests.is_empty() {
                self.shard.execute_one(0);
            }
        }
        if self.rng.chance(1, 6) {
            // And once more while the log is opened.
            self.shard.disk.crash(Survival::Random(&mut self.rng));
            self.shard.disk.stop_after(self.rng.below(4));
            let _ = crate::Log::open(&*self.shard.disk.clone(), self.shard.config.clone());
        }
        match self.rng.below(7) {
            0 | 1 => self.shard.crash(Survival::Nothing),
            2 => self.shard.crash(Survival::Everything),
            4 => {
                self.shard.disk.kill();
                self.shard.reopen();
            }
            3 => {
                let kept = self.rng.below(600);
                self.shard.crash(Survival::TornLastWrite(kept));
            }
            _ => {
                let rng = &mut self.rng;
                self.shard.disk.crash(Survival::Random(rng));
                self.shard.reopen();
            }
        }
    }
}

#[derive(Default, Debug)]
struct Coverage {
    recycled: u64,
    segments_deleted: u64,
    rewritten: u64,
    reads_wal: u64,
    reads_segment: u64,
    reads_checked: u64,
    checkpoints_failed: u64,
    no_space: u64,
}

fn run(seed: u64, steps: u64, coverage: &mut Coverage) {
    let mut run = Run::new(seed);
    let mut note = |run: &Run| {
        let stats = run.shard.log.stats();
        coverage.recycled += stats.wal_files_recycled;
        coverage.segments_deleted += stats.segments_deleted;
        coverage.rewritten += stats.segment_bytes_rewritten;
        coverage.reads_wal += stats.cache_misses_wal;
        coverage.reads_segment += stats.cache_misses_segment;
        coverage.checkpoints_failed += stats.checkpoints_failed;
        coverage.no_space += stats.no_space;
    };
    for _ in 0..steps {
        run.step();
        if run.rng.chance(1, 150) {
            note(&run);
            run.crash();
        }
    }
    run.shard.disk.limit(None);
    run.shard.check_all();
    note(&run);
    coverage.reads_checked += run.shard.reads_checked;
}

fn seeds(first: u64, count: u64) {
    let mut coverage = Coverage::default();
    for seed in first..first + count {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut coverage = Coverage::default();
            run(seed, 1500, &mut coverage);
            coverage
        }));
        let Ok(done) = outcome else { panic!("seed {seed} fails") };
        coverage.recycled += done.recycled;
        coverage.segments_deleted += done.segments_deleted;
        coverage.rewritten += done.rewritten;
        coverage.reads_wal += done.reads_wal;
        coverage.reads_segment += done.reads_segment;
        coverage.reads_checked += done.reads_checked;
        coverage.checkpoints_failed += done.checkpoints_failed;
        coverage.no_space += done.no_space;
    }
    // A run that never gets to the interesting places proves nothing.
    let all = [
        coverage.recycled,
        coverage.segments_deleted,
        coverage.rewritten,
        coverage.reads_wal,
        coverage.reads_segment,
        coverage.reads_checked,
        coverage.checkpoints_failed,
        coverage.no_space,
    ];
    assert!(all.iter().all(|count| *count > 0), "{coverage:?}");
}

#[test]
fn random_histories_survive_crashes() {
    let first =
        std::env::var("KOINE_LOG_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let count =
        std::env::var("KOINE_LOG_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(60);
    seeds(first, count);
}
