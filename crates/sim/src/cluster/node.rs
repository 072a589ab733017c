//! One node of a cluster: its shards, its disk and its clock; starting it, ending it, running what it asks
//! of its disk and of the other shards.

use super::{Cluster, Task};
use crate::coverage::Mark;
use crate::disk::FaultyDisk;
use crate::model::{violation, Checked};
use crate::world::node::PLAIN;
use koine_base::disk::Survival;
use koine_base::{Moment, NodeId, Now, ShardId, Timestamp};
use koine_broker::limits::Limits;
use koine_broker::message::Dialects;
use koine_broker::metadata::Durability;
use koine_broker::session::{Event, NodeInfo};
use koine_cluster::{Layout, Mail, PeerMail, Shard, ShardConfig, ShardOpenError, Voters};
use koine_log::{IoClass, IoRequest, IoResult};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// When the world begins, on every clock.
pub(super) const START_US: u64 = 1_000_000;

/// How much slower a slow disk is.
const SLOWNESS: u64 = 30;

/// Longest wait for a timer, so that a clock that drifts is looked at now and then.
const TIMER_US_MAX: u64 = 5_000_000;

pub(super) struct Node {
    pub id: NodeId,
    /// Whom it takes for voters as long as its log says nothing else.
    pub voters: Vec<NodeId>,
    pub disk: FaultyDisk,
    /// None while it is down.
    pub shards: Vec<Shard>,
    pub mail: BTreeMap<(usize, usize), VecDeque<Mail>>,
    /// When each shard is looked at next.
    pub ticks: Vec<u64>,
    pub life: u64,
    pub paused_until: u64,
    pub slow_until: u64,
    /// Its clock runs by so many millionths faster than time.
    pub drift_ppm: i64,
    pub wall_ahead_ms: i64,
    /// Bits that flipped while it was down: path, position, mask.
    pub flips: Vec<(String, u64, u8)>,
    /// It never comes back.
    pub is_gone: bool,
}

impl Node {
    pub fn new(id: NodeId, voters: Vec<NodeId>, drift_ppm: i64) -> Node {
        Node {
            id,
            voters,
            disk: FaultyDisk::default(),
            shards: Vec::new(),
            mail: BTreeMap::new(),
            ticks: Vec::new(),
            life: 0,
            paused_until: 0,
            slow_until: 0,
            drift_ppm,
            wall_ahead_ms: 0,
            flips: Vec::new(),
            is_gone: false,
        }
    }

    pub fn is_up(&self) -> bool {
        !self.shards.is_empty()
    }

    /// Its own clock at a moment of the world's.
    pub fn now(&self, at_us: u64) -> Now {
        let since = (at_us - START_US) as i128;
        let own = since * i128::from(1_000_000 + self.drift_ppm) / 1_000_000;
        let moment = Moment(START_US + own as u64);
        let wall = 1_700_000_000_000 + (moment.0 / 1000) as i64 + self.wall_ahead_ms;
        Now { moment, wall: Timestamp(wall) }
    }

    /// When its clock will show `moment`.
    fn when(&self, moment: Moment) -> u64 {
        let own = i128::from(moment.0.saturating_sub(START_US));
        let since = own * 1_000_000 / i128::from(1_000_000 + self.drift_ppm) + 1;
        START_US.saturating_add(u64::try_from(since).unwrap_or(u64::MAX))
    }
}

impl Cluster {
    fn config(&self, node: usize, shard: ShardId) -> ShardConfig {
        let (options, of) = (&self.options, &self.nodes[node]);
        let mut log = koine_log::Config::new(format!("shard-{}", shard.0));
        log.wal_file_bytes = options.wal_file_bytes;
        log.wal_index_entries_max = 2000;
        log.tail_cache_bytes = 16 << 10;
        log.own_segment_bytes_min = 4 << 10;
        log.pack_segment_bytes_max = 32 << 10;
        log.index_interval_bytes = 2048;
        log.index_cache_bytes = 8 << 10;
        log.segments_open_max = 4;
        log.pack_merge_count = 3;
        log.relaxed_flush_after = Duration::from_millis(5);
        log.relaxed_flush_bytes = 32 << 10;
        log.free_bytes_min = 0;
        log.full_retry_after = Duration::from_millis(5);
        ShardConfig {
            shard,
            layout: self.layout(),
            voters: Voters { this: of.id, voters: of.voters.clone() },
            node: NodeInfo {
                node_id: of.id.0 as i32,
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
            limits: Limits::default(),
            dialects: Dialects { kafka: &PLAIN, amqp091: &PLAIN, mqtt: &PLAIN },
            log,
            initial_rebalance_delay_ms: 0,
            seed: options.seed.wrapping_mul(1_000_003) ^ u64::from(of.id.0) << 32 ^ of.life,
            secret_seed: [7; 32],
        }
    }

    pub(super) fn layout(&self) -> Layout {
        Layout { shard_count: self.options.shard_count as u16 }
    }

    fn try_open(&self, node: usize) -> Result<Vec<Shard>, ShardOpenError> {
        let mut shards: Vec<Shard> = Vec::new();
        let now = self.nodes[node].now(self.now_us);
        for id in self.layout().shards() {
            let metadata = shards.first().map(|first| first.metadata().encode());
            let config = self.config(node, id);
            shards.push(Shard::open(&self.nodes[node].disk, config, metadata.as_deref(), now)?);
        }
        Ok(shards)
    }

    pub(super) fn open(&mut self, node: usize) -> Checked {
        let of = &mut self.nodes[node];
        if of.is_up() || of.is_gone {
            return Ok(());
        }
        of.life += 1;
        let (id, life) = (of.id, of.life);
        self.note(|| format!("{id} starts, life {life}"));
        match self.try_open(node) {
            Ok(shards) => {
                let of = &mut self.nodes[node];
                of.ticks = vec![u64::MAX; shards.len()];
                of.shards = shards;
                self.pump_node(node)
            }
            Err(error) if self.nodes[node].disk.is_damaged() => {
                self.note(|| format!("{id} refuses to start: {error}"));
                self.mark(Mark::StartRefused);
                self.repair(node)
            }
            Err(error) if error.to_string().contains("injected") => {
                // The process ends, and the sync that failed has lost what it should have saved.
                self.note(|| format!("{id} cannot start: {error}"));
                self.nodes[node].disk.crash(Survival::Nothing);
                self.schedule_restart(node)
            }
            Err(error) => violation(format!("{id} cannot start: {error}")),
        }
    }

    /// Takes away what a shard has left to do for others.
    pub(super) fn pump(&mut self, node: usize, shard: usize) -> Checked {
        let life = self.nodes[node].life;
        while let Some(request) = self.nodes[node].shards[shard].poll_io() {
            self.start_disk(node, shard, request);
        }
        for (to, mail) in self.nodes[node].shards[shard].take_outbox() {
            let to = usize::from(to.0);
            if let Mail::Event {
                event: Event::Deliveries { consumer, stream, deliveries }, ..
            } = &mail
            {
                self.handed_out(*stream, *consumer, deliveries)?;
            }
            self.nodes[node].mail.entry((shard, to)).or_default().push_back(mail);
            let wait = 1 + self.schedule.below(100);
            self.after(wait, Task::Mail { node, life, from: shard, to });
        }
        for (to, mail) in self.nodes[node].shards[shard].take_peer_mail() {
            self.post(node, shard, to, &mail);
        }
        for id in self.nodes[node].shards[shard].take_changed() {
            if let Some(output) = self.nodes[node].shards[shard].output(id) {
                let bytes = output.len();
                output.advance(bytes);
            }
            let now = self.nodes[node].now(self.now_us);
            self.nodes[node].shards[shard].written(now, id);
        }
        let deadline = self.nodes[node].shards[shard].deadline();
        let due = match deadline {
            Moment::NEVER => u64::MAX,
            deadline => self.nodes[node].when(deadline).max(self.now_us + 1),
        };
        let due = due.min(self.now_us + TIMER_US_MAX);
        if due < self.nodes[node].ticks[shard] {
            self.nodes[node].ticks[shard] = due;
            let wait = due - self.now_us + self.schedule.below(200);
            self.after(wait, Task::Tick { node, life, shard, due });
        }
        self.hear_all(node)
    }

    pub(super) fn pump_node(&mut self, node: usize) -> Checked {
        for shard in 0..self.nodes[node].shards.len() {
            self.pump(node, shard)?;
        }
        Ok(())
    }

    /// A mail sets out for another node; as bytes, as it would in life.
    fn post(&mut self, from: usize, shard: usize, to: NodeId, mail: &PeerMail) {
        let Some(to) = self.nodes.iter().position(|node| node.id == to) else { return };
        let times = match self.schedule.below(1000) {
            drawn if drawn < self.lost => 0,
            drawn if drawn < self.lost + self.doubled => 2,
            _ => 1,
        };
        match times {
            0 => self.mark(Mark::MailLost),
            2 => self.mark(Mark::MailDoubled),
            _ => {}
        }
        let mut bytes = Vec::new();
        mail.encode(&mut bytes);
        for _ in 0..times {
            let mut wait = 1 + self.schedule.below(self.options.latency_us * 2);
            if self.schedule.chance(1, 100) {
                wait *= 10;
            }
            self.after(wait, Task::Peer { from, to, shard, bytes: bytes.clone() });
        }
    }

    pub(super) fn deliver(
        &mut self,
        from: usize,
        to: usize,
        shard: usize,
        bytes: &[u8],
    ) -> Checked {
        if !self.network.reaches(from, to) {
            self.mark(Mark::MailCut);
            return Ok(());
        }
        let Some(mail) = PeerMail::decode(bytes) else {
            return violation("a node cannot read what another sent");
        };
        let (id, to_id) = (self.nodes[from].id, self.nodes[to].id);
        self.note(|| format!("{id} to {to_id}: {}", mail.describe()));
        let now = self.nodes[to].now(self.now_us);
        if self.nodes[to].is_up() {
            self.nodes[to].shards[shard].peer_mail(now, id, mail);
            self.pump(to, shard)?;
        }
        Ok(())
    }

    fn start_disk(&mut self, node: usize, shard: usize, request: IoRequest) {
        let mean = match request.class() {
            IoClass::Wal => self.options.disk_us,
            IoClass::Read => self.options.disk_us / 4,
            IoClass::Background => self.options.disk_us * 3,
        };
        let mut wait = 1 + self.schedule.below(mean * 2 + 1);
        if self.now_us < self.nodes[node].slow_until {
            wait *= SLOWNESS;
        }
        let life = self.nodes[node].life;
        let request = Box::new(request);
        self.after(wait, Task::Disk { node, life, shard, request });
    }

    pub(super) fn run_disk(&mut self, node: usize, shard: usize, request: IoRequest) {
        let result = koine_log::execute(&self.nodes[node].disk, request);
        let life = self.nodes[node].life;
        let wait = 1 + self.schedule.below(30);
        let result = Box::new(result);
        self.after(wait, Task::DiskDone { node, life, shard, result });
    }

    pub(super) fn report_disk(&mut self, node: usize, shard: usize, result: IoResult) -> Checked {
        let now = self.nodes[node].now(self.now_us);
        if let Err(error) = self.nodes[node].shards[shard].io_complete(now, result) {
            let text = error.to_string();
            let id = self.nodes[node].id;
            self.note(|| format!("{id}: {text}"));
            if !text.contains("injected") && !self.nodes[node].disk.is_damaged() {
                return violation(format!("{id}: the log gave up: {text}"));
            }
            self.crash(node);
            return self.schedule_restart(node);
        }
        self.pump(node, shard)
    }

    /// The process ends at once, with some of its disk requests done and some in part.
    pub(super) fn crash(&mut self, node: usize) {
        if !self.nodes[node].is_up() {
            return;
        }
        let id = self.nodes[node].id;
        self.note(|| format!("{id} crashes"));
        self.forget_links(node);
        let of = &mut self.nodes[node];
        of.shards.clear();
        of.mail.clear();
        of.paused_until = 0;
        let life = of.life;
        let is_its = |task: &Task| matches!(task, Task::Disk { node: its, life: in_life, .. } if *its == node && *in_life == life);
        let keys: Vec<_> =
            self.tasks.iter().filter(|(_, task)| is_its(task)).map(|(key, _)| *key).collect();
        for key in keys {
            let Some(Task::Disk { request, .. }) = self.tasks.remove(&key) else { continue };
            match self.faults.below(4) {
                0 => {}
                1 => {
                    self.nodes[node].disk.stop_after(self.faults.below(4));
                    koine_log::execute(&self.nodes[node].disk, *request);
                    break;
                }
                _ => {
                    koine_log::execute(&self.nodes[node].disk, *request);
                }
            }
        }
        let style = self.faults.below(4);
        let rng = &mut self.faults;
        self.nodes[node].disk.crash(match style {
            0 => Survival::Nothing,
            1 => Survival::Everything,
            2 => Survival::TornLastWrite(rng.below(3000)),
            _ => Survival::Random(rng),
        });
    }
}
