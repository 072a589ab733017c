//! Starting a shard from its directory: the newest checkpoint, then the write-ahead log behind it.

use super::checkpoint::{decode_control, decode_group, ControlParts, UnreadableCheckpoint};
use super::commit::{
    decode_hard_state, EntryPlace, FRAME_CHANGE, FRAME_COMMIT, FRAME_ENTRY, FRAME_HARD_STATE,
    FRAME_INSTALLED, FRAME_PIECE,
};
use super::control::Controller;
use super::installing::is_staging;
use super::{Shard, ShardConfig};
use crate::consensus::{Configuration, Entry, EntryKind, HardState, LogPoint};
use crate::group::DataGroup;
use crate::raft::{RaftGroup, StartingPoint};
use koine_base::disk::Disk;
use koine_base::rng::Rng;
use koine_base::{GroupId, Moment, Now, ShardId, StreamId};
use koine_broker::access::SecretRng;
use koine_broker::batch::BatchLimits;
use koine_broker::limits::Limits;
use koine_broker::membership::{GroupsConfig, Membership};
use koine_broker::metadata::{Command, Effects, Metadata, MetadataLimits};
use koine_broker::retained::{RetainedLimits, RetainedStore};
use koine_log::{FrameLocation, Log, OpenError, Replay, ReplayFrame, Replayed};
use protobuf::Message as _;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

/// Records of one batch at the most.
const BATCH_RECORDS_MAX: u32 = 10_000_000;

#[derive(Debug)]
pub enum ShardOpenError {
    Log(OpenError),
    /// A checkpoint or frame that passed its checksum is not what this version writes.
    Unreadable {
        shard: ShardId,
    },
    /// Other shards need the metadata that shard 0 recovered.
    NoMetadata,
}

impl std::fmt::Display for ShardOpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ShardOpenError::Log(error) => write!(f, "{error}"),
            ShardOpenError::Unreadable { shard } => {
                write!(f, "shard {}: the data was written by another version", shard.0)
            }
            ShardOpenError::NoMetadata => write!(f, "shard 0 has to be opened first"),
        }
    }
}

impl std::error::Error for ShardOpenError {}

impl From<OpenError> for ShardOpenError {
    fn from(error: OpenError) -> Self {
        ShardOpenError::Log(error)
    }
}

/// What the replay knows of a group's entries beside what it applied.
struct Tail {
    configuration: Configuration,
    /// Not known to be committed.
    open: VecDeque<(Entry, FrameLocation)>,
    /// Those, and the newest of the applied ones, for raft.
    entries: VecDeque<Entry>,
}

type Tails = BTreeMap<GroupId, Tail>;

fn retained_limits(limits: &Limits) -> RetainedLimits {
    RetainedLimits { count_max: limits.retained_count_max, bytes_max: limits.retained_bytes_max }
}

/// A shard's log, read and checked: the part of recovery that needs nothing of other shards.
pub struct Recovery<'d> {
    config: ShardConfig,
    log: Log,
    replay: Replay<'d>,
}

impl<'d> Recovery<'d> {
    /// Blocks on the disk.
    pub fn begin(disk: &'d dyn Disk, config: ShardConfig) -> Result<Recovery<'d>, ShardOpenError> {
        let (log, replay) = Log::open(disk, config.log.clone())?;
        Ok(Recovery { config, log, replay })
    }
}

/// Every shard draws numbers of its own.
fn secret_rng(config: &ShardConfig) -> SecretRng {
    let mut seed = config.secret_seed;
    for (byte, number) in seed.iter_mut().zip(config.shard.0.to_be_bytes()) {
        *byte ^= number;
    }
    SecretRng::new(&seed)
}

fn batch_limits(limits: &Limits) -> BatchLimits {
    BatchLimits {
        batch_bytes_max: limits.request_bytes_max,
        record_count_max: BATCH_RECORDS_MAX,
        decompressed_bytes_max: limits.inflated_bytes_max,
        decompressed_ratio_max: limits.inflated_ratio_max,
    }
}

impl Shard {
    /// Recovers a shard. Shard 0 first; its [`Metadata::encode`]d metadata is handed to the others.
    /// Blocks on the disk; runs before anything is connected.
    pub fn open(
        disk: &dyn Disk,
        config: ShardConfig,
        metadata: Option<&[u8]>,
        now: Now,
    ) -> Result<Shard, ShardOpenError> {
        Self::recover(Recovery::begin(disk, config)?, metadata, now)
    }

    /// The second half of [`Self::open`].
    pub fn recover(
        recovery: Recovery<'_>,
        metadata: Option<&[u8]>,
        now: Now,
    ) -> Result<Shard, ShardOpenError> {
        let Recovery { config, log, mut replay } = recovery;
        let shard = config.shard;
        let unreadable = |_| ShardOpenError::Unreadable { shard };
        let mut shard = Shard::empty(config, log, now);
        if let Some(bytes) = metadata {
            let limits = MetadataLimits::from(&shard.config.limits);
            shard.metadata = Metadata::decode(bytes, limits)
                .ok_or(ShardOpenError::Unreadable { shard: shard.config.shard })?;
        } else if shard.config.shard != ShardId(0) {
            return Err(ShardOpenError::NoMetadata);
        }
        let mut tails = shard.fresh_tails();
        for item in replay.by_ref() {
            match item? {
                Replayed::Group(checkpoint) => {
                    shard.restore(checkpoint, &mut tails).map_err(unreadable)?;
                }
                Replayed::Frame(frame) => shard.replay(frame, &mut tails).map_err(unreadable)?,
            }
        }
        shard.log.finish_replay(replay)?;
        shard.start_groups(tails);
        Ok(shard)
    }

    fn empty(config: ShardConfig, log: Log, now: Now) -> Shard {
        let layout = config.layout;
        let limits = &config.limits;
        let metadata = Metadata::new(&layout.relaxed(), MetadataLimits::from(limits));
        let membership = GroupsConfig {
            initial_rebalance_delay_ms: config.initial_rebalance_delay_ms,
            ..GroupsConfig::default()
        };
        let idle = || RaftGroup::idle(config.voters.this, now.moment);
        let groups: BTreeMap<GroupId, DataGroup> = layout
            .data_groups(config.shard)
            .map(|id| {
                let seed = config.seed ^ u64::from(id.0);
                let members = Membership::new(membership.clone(), Rng::new(seed));
                (id, DataGroup::new(id, layout.is_relaxed(id), idle(), members))
            })
            .collect();
        let retained = retained_limits(limits);
        let controller = (config.shard == ShardId(0))
            .then(|| Controller::new(idle(), RetainedStore::new(retained)));
        let batch_limits = batch_limits(limits);
        let share = |bytes: usize| bytes / usize::from(layout.shard_count.max(1));
        let memory_bytes = share(limits.memory_bytes_max);
        let stranger_bytes = share(limits.handshake_memory_max);
        Shard {
            load: super::load::Load::new(memory_bytes),
            strangers: super::strangers::Strangers::new(stranger_bytes),
            appends: HashMap::new(),
            untaken: HashMap::new(),
            live_taken: BTreeMap::new(),
            is_leaving: false,
            leaving: Vec::new(),
            rng: Rng::new(config.seed.rotate_left(17) ^ u64::from(config.shard.0)),
            secret_rng: secret_rng(&config),
            now,
            log,
            told_access: metadata.access().epoch(),
            metadata,
            controller,
            groups,
            connections: HashMap::new(),
            next_connection: first_connection(config.voters.this),
            held: HashMap::new(),
            queue: VecDeque::new(),
            outbox: Vec::new(),
            changed: Vec::new(),
            stepped: Vec::new(),
            deliverable: Vec::new(),
            publishes: HashMap::new(),
            next_ticket: 0,
            reads: HashMap::new(),
            waiting_pulls: Vec::new(),
            group_waits: super::groups::GroupWaits::default(),
            meters: Default::default(),
            session_deadlines: BTreeSet::new(),
            next_checkpoint_step: koine_base::Moment::NEVER,
            retention_round: super::retention::RetentionRound::new(now.moment),
            offsets_round: super::offsets::OffsetsRound::new(now),
            batch_limits,
            io: VecDeque::new(),
            peer_outbox: Vec::new(),
            next_raft_tick: Moment::NEVER,
            sendings: BTreeMap::new(),
            stages: BTreeMap::new(),
            is_alone: true,
            damage: Default::default(),
            logins: Default::default(),
            config,
        }
    }

    fn fresh_tails(&self) -> Tails {
        let configuration = Configuration::new(&self.config.voters.voters);
        let tail = || Tail {
            configuration: configuration.clone(),
            open: VecDeque::new(),
            entries: VecDeque::new(),
        };
        self.group_ids().into_iter().map(|id| (id, tail())).collect()
    }

    fn restore(
        &mut self,
        checkpoint: koine_log::GroupCheckpoint,
        tails: &mut Tails,
    ) -> Result<(), UnreadableCheckpoint> {
        let applied = LogPoint { index: checkpoint.applied_index, term: checkpoint.applied_term };
        if is_staging(checkpoint.group) {
            return self.restore_stage(checkpoint);
        }
        let tail = tails.get_mut(&checkpoint.group).ok_or(UnreadableCheckpoint)?;
        if checkpoint.group == GroupId::METADATA {
            let parts = decode_control(&checkpoint.blob)?;
            tail.configuration = parts.configuration.clone();
            let hard_state = parts.hard_state;
            self.take_control(parts)?;
            let controller = self.controller.as_mut().ok_or(UnreadableCheckpoint)?;
            controller.hard_state = hard_state;
            controller.applied = applied;
            return Ok(());
        }
        let group = self.groups.get_mut(&checkpoint.group).ok_or(UnreadableCheckpoint)?;
        tail.configuration = decode_group(group, &checkpoint.blob)?;
        group.applied = applied;
        Ok(())
    }

    /// Metadata and retained messages as they were written down.
    pub(super) fn take_control(
        &mut self,
        parts: ControlParts<'_>,
    ) -> Result<(), UnreadableCheckpoint> {
        let limits = MetadataLimits::from(&self.config.limits);
        let retained = retained_limits(&self.config.limits);
        let mut metadata = Metadata::decode(parts.metadata, limits).ok_or(UnreadableCheckpoint)?;
        let retained = RetainedStore::decode_pages(parts.retained, retained);
        let controller = self.controller.as_mut().ok_or(UnreadableCheckpoint)?;
        controller.retained = retained.map_err(|_| UnreadableCheckpoint)?;
        controller.pages.retained.touch_all();
        controller.pages.metadata = None;
        metadata.follow(&self.metadata);
        self.metadata = metadata;
        Ok(())
    }

    /// One frame behind the checkpoint. A sole voter has committed whatever it persisted. With others,
    /// what the log does not know to be committed is left to raft.
    fn replay(
        &mut self,
        frame: ReplayFrame,
        tails: &mut Tails,
    ) -> Result<(), UnreadableCheckpoint> {
        let id = frame.group;
        let kind = match frame.kind {
            FRAME_HARD_STATE => {
                let state = decode_hard_state(&frame.payload).ok_or(UnreadableCheckpoint)?;
                self.remember(id, state);
                return Ok(());
            }
            FRAME_COMMIT => {
                let bytes = <[u8; 8]>::try_from(&frame.payload[..]);
                let index = u64::from_be_bytes(bytes.map_err(|_| UnreadableCheckpoint)?);
                let tail = tails.get_mut(&id).ok_or(UnreadableCheckpoint)?;
                return self.replay_through(id, tail, index);
            }
            FRAME_PIECE => return self.replay_piece(frame),
            FRAME_INSTALLED => {
                let tail = tails.get_mut(&id).ok_or(UnreadableCheckpoint)?;
                if let Some(configuration) = self.replay_installed(id, &frame.payload)? {
                    tail.configuration = configuration;
                    tail.open.clear();
                    tail.entries.clear();
                }
                return Ok(());
            }
            FRAME_ENTRY => EntryKind::Data,
            FRAME_CHANGE => EntryKind::Change,
            _ => return Err(UnreadableCheckpoint),
        };
        let tail = tails.get_mut(&id).ok_or(UnreadableCheckpoint)?;
        let ReplayFrame { index, term, payload, location, .. } = frame;
        let this = u64::from(self.config.voters.this.0);
        let entry = Entry { index, term, kind, data: payload };
        if !tail.configuration.is_alone(this) {
            tail.keep(entry.clone());
        }
        if index <= self.applied(id).index {
            // Its effects are in the checkpoint; its batches may still lie in the WAL alone.
            if kind == EntryKind::Data && id != GroupId::METADATA {
                self.place_again(entry.data, EntryPlace { location, term });
            }
            return Ok(());
        }
        tail.open.push_back((entry, location));
        if tail.configuration.is_sole_voter(this) {
            return self.replay_through(id, tail, index);
        }
        Ok(())
    }

    pub(super) fn applied(&self, id: GroupId) -> LogPoint {
        let group = self.groups.get(&id).map(|group| group.applied);
        let control = || self.controller.as_ref().map(|controller| controller.applied);
        group.or_else(control).unwrap_or_default()
    }

    /// Applies what is known to be committed.
    fn replay_through(
        &mut self,
        id: GroupId,
        tail: &mut Tail,
        index: u64,
    ) -> Result<(), UnreadableCheckpoint> {
        let this = u64::from(self.config.voters.this.0);
        // What a sole voter finds on its disk is committed by that.
        let is_committed =
            |tail: &Tail, at: u64| at <= index || tail.configuration.is_sole_voter(this);
        while tail.open.front().is_some_and(|(entry, _)| is_committed(tail, entry.index)) {
            let Some((entry, location)) = tail.open.pop_front() else { break };
            let point = LogPoint { index: entry.index, term: entry.term };
            // What is missing alone was taken out by a repair. Among others it is what they have and this
            // replica does not: it must not go on as if it had.
            let follows = point.index == self.applied(id).index + 1;
            if !follows && !tail.configuration.is_alone(this) {
                return Err(UnreadableCheckpoint);
            }
            if entry.kind == EntryKind::Change {
                tail.apply_change(&entry.data).ok_or(UnreadableCheckpoint)?;
            } else if id == GroupId::METADATA {
                self.replay_control(&entry.data)?;
            } else {
                let place = EntryPlace { location, term: entry.term };
                self.apply_operations(id, entry.data, place);
            }
            if let Some(group) = self.groups.get_mut(&id) {
                group.applied = point;
            } else if let Some(controller) = &mut self.controller {
                controller.applied = point;
            }
        }
        Ok(())
    }

    fn remember(&mut self, group: GroupId, state: HardState) {
        if let Some(group) = self.groups.get_mut(&group) {
            group.hard_state = state;
        } else if let Some(controller) = &mut self.controller {
            controller.hard_state = state;
        }
    }

    fn replay_control(&mut self, data: &[u8]) -> Result<(), UnreadableCheckpoint> {
        if data.is_empty() {
            return Ok(());
        }
        let commands: Vec<Command> =
            postcard::from_bytes(data).map_err(|_| UnreadableCheckpoint)?;
        for command in commands {
            self.replay_command(command);
        }
        Ok(())
    }

    fn replay_command(&mut self, command: Command) {
        let mut effects = Effects::default();
        if let Command::Retain { topic, content, qos, expires_at, .. } = &command {
            let now = self.now.wall;
            if let Some(controller) = &mut self.controller {
                // It was refused the first time as well, for the same reason.
                let _ = controller.retain(topic, content.as_deref(), *qos, *expires_at, now);
            }
        }
        let _ = self.metadata.apply(command, &mut effects);
    }

    /// Recovery is over: streams that went meanwhile are dropped, cursors forget who held what, and
    /// consensus starts where the log ends. A sole voter leads at once.
    fn start_groups(&mut self, mut tails: Tails) {
        self.deliverable.clear();
        self.discard_unfinished();
        self.drop_ownerless();
        for group in self.groups.values_mut() {
            group.prepare();
        }
        self.trim_settled(None);
        for id in self.group_ids() {
            let Some(tail) = tails.remove(&id) else { continue };
            let hard_state = match (self.groups.get(&id), &self.controller) {
                (Some(group), _) => group.hard_state,
                (None, Some(controller)) => controller.hard_state,
                (None, None) => continue,
            };
            let consensus = RaftGroup::start(StartingPoint {
                this: self.config.voters.this,
                now: self.now.moment,
                seed: self.config.seed.rotate_left(29) ^ u64::from(id.0) << 32,
                applied: self.applied(id),
                hard_state,
                configuration: tail.configuration,
                entries: tail.entries.into(),
            });
            if let Some(group) = self.groups.get_mut(&id) {
                let places = tail.open.into_iter();
                group.locations = places.map(|(entry, location)| (entry.index, location)).collect();
                group.noted_commit = group.applied.index;
                group.consensus = consensus;
            } else if let Some(controller) = &mut self.controller {
                controller.noted_commit = controller.applied.index;
                controller.consensus = consensus;
            }
        }
        self.note_company();
        self.run();
    }

    /// Drops the streams that metadata says are deleted.
    pub(super) fn drop_ownerless(&mut self) {
        let metadata = &self.metadata;
        let gone = |id: &StreamId| metadata.was_placed(*id) && metadata.stream_owner(*id).is_none();
        let mut dropped: Vec<StreamId> = Vec::new();
        for group in self.groups.values() {
            dropped.extend(group.streams.keys().copied().filter(gone));
        }
        dropped.sort_unstable();
        for id in dropped {
            self.drop_stream(id);
        }
    }

    /// Gives up what the cursors of queues have passed, in one group or in all: a settlement may have
    /// been applied before the metadata said that its stream is a queue's.
    pub(super) fn trim_settled(&mut self, only: Option<GroupId>) {
        let mut trims = Vec::new();
        for group in self.groups.values().filter(|group| only.is_none_or(|id| id == group.id)) {
            for (id, stream) in &group.streams {
                let floor = stream.subscription.as_ref().map_or(0, |s| s.cursor.floor());
                if floor > stream.start && self.trims_at_floor(*id) {
                    trims.push((*id, floor));
                }
            }
        }
        for (id, floor) in trims {
            if let Some(group) = self.groups.get_mut(&id.group()) {
                group.pages.touch(id);
            }
            if let Some(state) = self.stream_mut(id) {
                state.trim_to(floor);
                let start = state.start;
                let stored = self.stored(id);
                self.log.trim(stored, start);
            }
        }
    }
}

impl Tail {
    /// Keeps an entry for raft: in place of those from its index on.
    fn keep(&mut self, entry: Entry) {
        while self.entries.back().is_some_and(|last| last.index >= entry.index) {
            self.entries.pop_back();
        }
        self.entries.push_back(entry);
        // Raft's own bound counts bytes as well; this one keeps the replay of many small ones short.
        while self.entries.len() > crate::raft::KEPT_ENTRIES_MAX + self.open.len() {
            self.entries.pop_front();
        }
    }

    fn apply_change(&mut self, data: &[u8]) -> Option<()> {
        let change = raft::eraftpb::ConfChangeV2::parse_from_bytes(data).ok()?;
        self.configuration = crate::raft::changed(&self.configuration, &change);
        Some(())
    }
}

/// Connections are numbered so that no two nodes have one of the same number at a time: commands name
/// them, and every node applies them.
fn first_connection(node: koine_base::NodeId) -> u64 {
    u64::from((node.0 - 1) & 0xffff) << 32 | 1
}
