//! The node's process: opening it, running its disk, ending it.

use super::client::Question;
use super::faults::Fault;
use super::{Task, World};
use crate::coverage::Mark;
use crate::model::{violation, Checked, Violation};
use koine_base::disk::memory::Survival;
use koine_base::ShardId;
use koine_broker::limits::Limits;
use koine_broker::message::{Content, Dialect, Dialects, Message};
use koine_broker::metadata::Durability;
use koine_broker::session::{NodeInfo, Request};
use koine_cluster::{Layout, Shard, ShardConfig, ShardOpenError, Voters};
use koine_log::{IoClass, IoRequest, IoResult};
use std::time::Duration;

/// Output of one peer above which its input is not read; small, so that slow peers matter.
pub(super) const OUTPUT_BYTES_MAX: usize = 16 << 10;

/// As often as a short run needs it, to see retention at work.
const RETENTION_CHECK_MS: u64 = 200;

/// Publishes of one client under way above which it is not read; small, so that clients meet it.
const PUBLISH_BYTES_MAX: usize = 8 << 10;

/// Time that the node is given to come to rest: longer than every timer that matters.
pub(super) const REST_US: u64 = 300_000;

/// How much slower a slow disk is.
const SLOWNESS: u64 = 30;

/// Reads any protocol's records alike.
pub(crate) struct Plain;

pub(crate) static PLAIN: Plain = Plain;

impl Dialect for Plain {
    fn message(&self, content: &Content) -> Message {
        Message { body: content.body.clone(), ..Message::default() }
    }
}

impl World {
    fn config(&self, shard: ShardId) -> ShardConfig {
        let options = &self.options;
        let mut log = koine_log::Config::new(format!("shard-{}", shard.0));
        log.wal_file_bytes = options.wal_file_bytes;
        log.wal_index_entries_max = 2000;
        log.tail_cache_bytes = options.tail_cache_bytes;
        log.own_segment_bytes_min = options.own_segment_bytes_min;
        log.pack_segment_bytes_max = options.own_segment_bytes_min * 8;
        log.index_interval_bytes = 2048;
        log.index_cache_bytes = 8 << 10;
        log.segments_open_max = 4;
        log.pack_merge_count = 3;
        log.relaxed_flush_after = Duration::from_micros(options.relaxed_flush_after_us);
        log.relaxed_flush_bytes = 32 << 10;
        log.free_bytes_min = 0;
        log.full_retry_after = Duration::from_millis(5);
        ShardConfig {
            shard,
            layout: Layout { shard_count: options.shard_count as u16 },
            voters: Voters::alone(),
            node: NodeInfo {
                node_id: 1,
                cluster_id: "simulated".to_owned(),
                version: "0",
                advertised_kafka: None,
                auto_create_topics: true,
                default_partitions: 1,
                default_retention_ms: -1,
                default_retention_bytes: -1,
                default_durability: Durability::Fsync,
                epochs: Vec::new(),
            },
            limits: self.limits(),
            dialects: self.dialects(),
            log,
            initial_rebalance_delay_ms: 0,
            seed: options.seed.wrapping_add(self.life),
            secret_seed: [7; 32],
        }
    }

    pub(super) fn limits(&self) -> Limits {
        let limits = Limits {
            output_bytes_max: OUTPUT_BYTES_MAX,
            retention_check_ms: RETENTION_CHECK_MS,
            ..Limits::default()
        };
        match self.wire {
            Some(_) => Limits { publish_bytes_in_flight_max: PUBLISH_BYTES_MAX, ..limits },
            None => limits,
        }
    }

    fn dialects(&self) -> Dialects {
        match self.wire {
            Some(_) => super::wire::DIALECTS,
            None => Dialects { kafka: &Plain, amqp091: &Plain, mqtt: &Plain },
        }
    }

    fn try_open(&self) -> Result<Vec<Shard>, ShardOpenError> {
        let layout = Layout { shard_count: self.options.shard_count as u16 };
        let mut shards: Vec<Shard> = Vec::new();
        for id in layout.shards() {
            let metadata = shards.first().map(|first| first.metadata().encode());
            let metadata = metadata.as_deref();
            shards.push(Shard::open(&self.disk, self.config(id), metadata, self.now)?);
        }
        Ok(shards)
    }

    /// Starts the node, again if it crashes while it starts, and asks what it kept.
    pub(super) fn open(&mut self) -> Checked {
        loop {
            self.life += 1;
            let interrupted = self.life > 1 && self.faults_on && self.faults.chance(1, 6);
            if interrupted {
                self.disk.stop_after(self.faults.below(30));
            }
            self.note(|| format!("life {}", self.life));
            self.is_broken = false;
            self.decay();
            let is_excusable = self.disk.is_excusable();
            match self.try_open() {
                Ok(shards) => {
                    self.damage.is_excused |= is_excusable;
                    self.shards = shards;
                    if self.get_ready()? {
                        self.note(|| "serves".to_owned());
                        self.started();
                        return Ok(());
                    }
                }
                Err(error) if self.may_refuse_to_start(&error) => {
                    self.note(|| format!("refuses to start: {error}"));
                    self.repair()?;
                    continue;
                }
                Err(_) if interrupted => {}
                Err(error) => return violation(format!("the node cannot start: {error}")),
            }
            self.mark(Mark::CrashInRecovery);
            self.expect_wills_again();
            let how = self.any_crash();
            self.lose_power(how);
        }
    }

    /// False if a disk error ended the node before it served.
    fn get_ready(&mut self) -> Result<bool, Violation> {
        self.ticks = vec![u64::MAX; self.shards.len()];
        self.pump_all()?;
        let is_ready =
            |world: &World| world.busy == 0 && world.shards.iter().all(Shard::is_serving);
        Ok(self.run_node_until(is_ready)? && self.take_stock()?)
    }

    /// Asks for the bounds of every stream and tells the model.
    fn take_stock(&mut self) -> Result<bool, Violation> {
        let metadata = self.shards[0].metadata();
        for stream in self.model.streams.values_mut().filter(|stream| !stream.deleted) {
            if metadata.stream_owner(stream.id).is_some() {
                stream.closing = 0;
                continue;
            }
            if stream.closing == 0 && stream.may_not_vanish() {
                return violation(format!("{} {} is gone", stream.kind.noun(), stream.name));
            }
            stream.deleted = true;
        }
        self.check_copies()?;
        let streams: Vec<_> = self.model.usable().map(|stream| stream.id).collect();
        let scout = self.scout();
        self.connect(scout);
        for stream in streams {
            let serial = self.serial();
            let token = self.clients[scout].ask(serial, Question::Stock { stream });
            self.clients[scout].request(Request::Bounds { token, stream });
        }
        self.send(scout);
        self.pump_all()?;
        let is_whole = self.run_node_until(|world| world.clients[scout].waiting.is_empty())?;
        self.drop_client(scout);
        self.pump_all()?;
        Ok(is_whole)
    }

    /// Runs the node alone, without clients and faults; false if a disk error ended it before `done`.
    fn run_node_until(&mut self, done: impl Fn(&World) -> bool) -> Result<bool, Violation> {
        let mut tasks = 0;
        while !done(self) {
            tasks += 1;
            let is_its = |task: &Task| task.is_of_node() || matches!(task, Task::Tick { .. });
            let next = self.tasks.iter().find(|(_, task)| is_its(task)).map(|(key, _)| *key);
            let Some(key) = next.filter(|_| tasks < super::RESTLESS_TASKS_MAX) else {
                return violation("the node does not get ready");
            };
            let Some(task) = self.tasks.remove(&key) else { continue };
            self.busy -= u64::from(task.is_of_node());
            self.advance_to(key.0);
            self.run_node_task(task)?;
            if self.is_broken {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Every shard has the same copy of the metadata.
    pub(super) fn check_copies(&self) -> Checked {
        let first = self.shards[0].metadata().encode();
        for shard in &self.shards[1..] {
            if shard.metadata().encode() != first {
                return violation(format!(
                    "shard {} has other metadata than shard 0",
                    shard.id().0
                ));
            }
        }
        Ok(())
    }

    pub(super) fn start_disk(&mut self, shard: usize, request: IoRequest) {
        let mean = match request.class() {
            IoClass::Wal => self.options.disk_us,
            IoClass::Read => self.options.disk_us / 4,
            IoClass::Background => self.options.disk_us * 3,
        };
        let mut wait = 1 + self.schedule.below(mean * 2 + 1);
        if self.schedule.chance(1, 50) {
            wait *= 10;
        }
        if self.now.moment.0 < self.slow_until {
            wait *= SLOWNESS;
        }
        self.disk_requests += 1;
        let number = self.disk_requests;
        self.note(|| format!("shard {shard}: disk {number} {request:?}"));
        self.schedule(wait, Task::Disk { shard, request, number });
    }

    pub(super) fn run_disk(&mut self, shard: usize, request: IoRequest, number: u64) {
        let result = koine_log::execute(&self.disk, request);
        self.note_misfires();
        let wait = 1 + self.schedule.below(30);
        self.schedule(wait, Task::DiskDone { shard, result, number });
    }

    pub(super) fn report_disk(&mut self, shard: usize, result: IoResult, number: u64) -> Checked {
        self.note(|| format!("shard {shard}: disk {number} done"));
        if number < self.last_disk_done {
            self.mark(Mark::DiskReordered);
        }
        self.last_disk_done = number;
        if let Err(error) = self.shards[shard].io_complete(self.now, result) {
            let text = error.to_string();
            self.note(|| format!("shard {shard}: {text}"));
            match &text {
                text if text.contains("injected sync") => self.mark(Mark::SyncFailed),
                text if text.contains("injected write") => self.mark(Mark::WriteFailed),
                text if text.contains("has stopped") => {}
                text if self.may_give_up(text) => self.count_death()?,
                _ => return violation(format!("the log gave up: {text}")),
            }
            self.is_broken = true;
            return Ok(());
        }
        self.pump(shard)
    }

    pub(super) fn any_crash(&mut self) -> Fault {
        let crashes = [
            Fault::CrashLosingAll,
            Fault::CrashKeepingAll,
            Fault::CrashBySector,
            Fault::CrashTearing,
        ];
        crashes[self.faults.below(4) as usize]
    }

    /// The process ends at once, and comes back.
    pub(super) fn crash(&mut self, how: Fault) -> Checked {
        self.mark(match how {
            Fault::CrashLosingAll => Mark::CrashLosingAll,
            Fault::CrashKeepingAll => Mark::CrashKeepingAll,
            Fault::CrashBySector => Mark::CrashBySector,
            _ => Mark::CrashTearing,
        });
        self.note(|| format!("crash: {how:?}"));
        self.expect_wills_again();
        // Longer than the slowest write between an acknowledgement and its flush.
        let slowest = self.options.disk_us * 60 * SLOWNESS;
        let grace = self.options.relaxed_flush_after_us + slowest;
        let full = self.full_since.or((self.full_until > 0).then_some(self.full_until));
        let was_full = full.is_some_and(|at| at + 2 * grace > self.now.moment.0);
        let since = if was_full { 0 } else { self.now.moment.0.saturating_sub(grace) };
        for stream in self.model.streams.values_mut().filter(|stream| !stream.strict) {
            stream.records.doubt(since);
        }
        self.lost_allowed = true;
        self.forget_clients();
        self.make_room();
        self.lose_power(how);
        self.open()
    }

    /// The node is not told when it ends.
    fn expect_wills_again(&mut self) {
        if let Some(wires) = &mut self.wire {
            wires.mix().expect_wills_again();
        }
    }

    fn forget_clients(&mut self) {
        self.cut_wires();
        for slot in 0..self.clients.len() {
            let open: Vec<_> = self.clients[slot].waiting.values().cloned().collect();
            for asked in open {
                self.forget_question(slot, &asked);
            }
            self.clients[slot].forget_connection();
            if self.lost_allowed {
                // What it wrote may be gone, and with it what the stream knew of its sequence.
                let model = &self.model;
                self.clients[slot]
                    .producers
                    .retain(|p| model.streams.get(&p.stream).is_some_and(|stream| stream.strict));
            }
        }
    }

    /// The node says goodbye, finishes what it has begun, and ends; nothing may be missing then.
    pub(super) fn stop_in_order(&mut self) -> Checked {
        self.make_room();
        let life = self.life;
        self.clients_on = false;
        for shard in 0..self.shards.len() {
            self.shards[shard].shut_down(self.now);
            self.pump(shard)?;
        }
        for slot in 0..self.clients.len() {
            self.drop_client(slot);
        }
        self.hang_up_wires();
        self.pump_all()?;
        let rested = self.rest();
        self.clients_on = true;
        rested?;
        if self.life != life {
            // A fault that was on its way came first.
            return Ok(());
        }
        if !self.shards.iter().all(Shard::is_quiet) {
            return violation("the node is still busy long after it was told to stop");
        }
        self.mark(Mark::CleanStop);
        for stream in self.model.streams.values_mut() {
            stream.cursor.confirm_all();
        }
        self.lost_allowed = false;
        self.forget_clients();
        self.lose_power(Fault::CrashLosingAll);
        self.open()
    }

    /// Ends the process: of the requests that its disk works on some are done, and some in part.
    fn lose_power(&mut self, how: Fault) {
        self.count_stats();
        self.shards.clear();
        self.mail.clear();
        let mut requests = Vec::new();
        for (key, task) in std::mem::take(&mut self.tasks) {
            match task {
                Task::Disk { request, .. } => requests.push(request),
                task if task.is_of_node() || matches!(task, Task::Tick { .. }) => {}
                task => {
                    self.tasks.insert(key, task);
                }
            }
        }
        self.busy = 0;
        while !requests.is_empty() {
            let at = self.faults.below(requests.len() as u64) as usize;
            let request = requests.swap_remove(at);
            match self.faults.below(4) {
                0 => {}
                1 => {
                    self.mark(Mark::CrashInsideRequest);
                    self.disk.stop_after(self.faults.below(4));
                    koine_log::execute(&self.disk, request);
                    break;
                }
                _ => {
                    koine_log::execute(&self.disk, request);
                }
            }
        }
        self.note_misfires();
        let rng = &mut self.faults;
        self.disk.crash(match how {
            Fault::CrashLosingAll => Survival::Nothing,
            Fault::CrashKeepingAll => Survival::Everything,
            Fault::CrashBySector => Survival::Random(rng),
            _ => Survival::TornLastWrite(rng.below(5000)),
        });
    }

    pub(super) fn count_stats(&self) {
        for shard in &self.shards {
            let stats = shard.log_stats();
            let seen = [
                (Mark::ReadFromWal, stats.cache_misses_wal),
                (Mark::ReadFromSegment, stats.cache_misses_segment),
                (Mark::Checkpointed, stats.checkpoints),
                (Mark::WalRecycled, stats.wal_files_recycled),
            ];
            for (mark, count) in seen {
                if count > 0 {
                    self.mark(mark);
                }
            }
        }
    }
}
