//! Starting a shard from its directory: the newest checkpoint, then the write-ahead log behind it.

use super::checkpoint::{decode_control, decode_group, UnreadableCheckpoint};
use super::commit::{decode_hard_state, EntryPlace, FRAME_ENTRY, FRAME_HARD_STATE};
use super::control::Controller;
use super::{Shard, ShardConfig};
use crate::consensus::HardState;
use crate::group::DataGroup;
use crate::raft::{RaftGroup, StartingPoint};
use koine_base::disk::Disk;
use koine_base::rng::Rng;
use koine_base::{GroupId, Now, ShardId, StreamId};
use koine_broker::batch::BatchLimits;
use koine_broker::membership::{GroupsConfig, Membership};
use koine_broker::metadata::{Command, Effects, Metadata, MetadataLimits};
use koine_broker::retained::{RetainedLimits, RetainedStore};
use koine_log::{Log, OpenError, ReplayFrame, Replayed};
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

impl Shard {
    /// Recovers a shard. Shard 0 first; its [`Metadata::encode`]d metadata is handed to the others.
    /// Blocks on the disk; runs before anything is connected.
    pub fn open(
        disk: &dyn Disk,
        config: ShardConfig,
        metadata: Option<&[u8]>,
        now: Now,
    ) -> Result<Shard, ShardOpenError> {
        let shard = config.shard;
        let unreadable = |_| ShardOpenError::Unreadable { shard };
        let (log, mut replay) = Log::open(disk, config.log.clone())?;
        let mut shard = Shard::empty(config, log, now);
        if let Some(bytes) = metadata {
            let limits = MetadataLimits::from(&shard.config.limits);
            shard.metadata = Metadata::decode(bytes, limits)
                .ok_or(ShardOpenError::Unreadable { shard: shard.config.shard })?;
        } else if shard.config.shard != ShardId(0) {
            return Err(ShardOpenError::NoMetadata);
        }
        for item in replay.by_ref() {
            match item? {
                Replayed::Group(checkpoint) => shard.restore(checkpoint).map_err(unreadable)?,
                Replayed::Frame(frame) => shard.replay(frame).map_err(unreadable)?,
            }
        }
        shard.log.finish_replay(replay)?;
        shard.take_office();
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
        let groups: BTreeMap<GroupId, DataGroup> = layout
            .data_groups(config.shard)
            .map(|id| {
                let seed = config.seed ^ u64::from(id.0);
                let raft = RaftGroup::start(StartingPoint::default());
                let members = Membership::new(membership.clone(), Rng::new(seed));
                (id, DataGroup::new(id, layout.is_relaxed(id), raft, members))
            })
            .collect();
        let retained = RetainedLimits {
            count_max: limits.retained_count_max,
            bytes_max: limits.retained_bytes_max,
        };
        let controller = (config.shard == ShardId(0)).then(|| {
            let raft = RaftGroup::start(StartingPoint::default());
            Controller::new(raft, RetainedStore::new(retained))
        });
        let batch_limits = BatchLimits {
            batch_bytes_max: limits.request_bytes_max,
            record_count_max: BATCH_RECORDS_MAX,
            decompressed_bytes_max: limits.inflated_bytes_max,
            decompressed_ratio_max: limits.inflated_ratio_max,
        };
        let memory_bytes = limits.memory_bytes_max / usize::from(layout.shard_count.max(1));
        Shard {
            load: super::load::Load::new(memory_bytes),
            appends: HashMap::new(),
            untaken: HashMap::new(),
            rng: Rng::new(config.seed.rotate_left(17) ^ u64::from(config.shard.0)),
            now,
            log,
            metadata,
            controller,
            groups,
            connections: HashMap::new(),
            next_connection: 1,
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
            next_retention: now.moment,
            offsets_round: super::offsets::OffsetsRound::new(now),
            batch_limits,
            io: VecDeque::new(),
            config,
        }
    }

    fn restore(
        &mut self,
        checkpoint: koine_log::GroupCheckpoint,
    ) -> Result<(), UnreadableCheckpoint> {
        if checkpoint.group == GroupId::METADATA {
            let controller = self.controller.as_mut().ok_or(UnreadableCheckpoint)?;
            let parts = decode_control(&checkpoint.blob)?;
            let limits = MetadataLimits::from(&self.config.limits);
            self.metadata =
                Metadata::decode(&parts.metadata, limits).ok_or(UnreadableCheckpoint)?;
            let retained = RetainedLimits {
                count_max: self.config.limits.retained_count_max,
                bytes_max: self.config.limits.retained_bytes_max,
            };
            controller.retained = RetainedStore::decode(&parts.retained, retained)
                .map_err(|_| UnreadableCheckpoint)?;
            controller.hard_state = parts.hard_state;
            controller.applied_index = checkpoint.applied_index;
            controller.applied_term = checkpoint.applied_term;
            return Ok(());
        }
        let group = self.groups.get_mut(&checkpoint.group).ok_or(UnreadableCheckpoint)?;
        decode_group(group, &checkpoint.blob)?;
        group.applied_index = checkpoint.applied_index;
        group.applied_term = checkpoint.applied_term;
        Ok(())
    }

    /// One frame behind the checkpoint. A lone voter has committed whatever it persisted.
    fn replay(&mut self, frame: ReplayFrame) -> Result<(), UnreadableCheckpoint> {
        match frame.kind {
            FRAME_HARD_STATE => {
                let state = decode_hard_state(&frame.payload).ok_or(UnreadableCheckpoint)?;
                self.remember(frame.group, state);
                Ok(())
            }
            FRAME_ENTRY if frame.group == GroupId::METADATA => self.replay_control(frame),
            FRAME_ENTRY => self.replay_data(frame),
            _ => Err(UnreadableCheckpoint),
        }
    }

    fn remember(&mut self, group: GroupId, state: HardState) {
        if let Some(group) = self.groups.get_mut(&group) {
            group.hard_state = state;
        } else if let Some(controller) = &mut self.controller {
            controller.hard_state = state;
        }
    }

    fn replay_control(&mut self, frame: ReplayFrame) -> Result<(), UnreadableCheckpoint> {
        let controller = self.controller.as_mut().ok_or(UnreadableCheckpoint)?;
        if frame.index <= controller.applied_index {
            return Ok(());
        }
        controller.applied_index = frame.index;
        controller.applied_term = frame.term;
        if frame.payload.is_empty() {
            return Ok(());
        }
        let commands: Vec<Command> =
            postcard::from_bytes(&frame.payload).map_err(|_| UnreadableCheckpoint)?;
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

    fn replay_data(&mut self, frame: ReplayFrame) -> Result<(), UnreadableCheckpoint> {
        let group = self.groups.get_mut(&frame.group).ok_or(UnreadableCheckpoint)?;
        let place = EntryPlace { location: frame.location, term: frame.term };
        if frame.payload.is_empty() {
            group.applied_index = group.applied_index.max(frame.index);
            group.applied_term = group.applied_term.max(frame.term);
            return Ok(());
        }
        if frame.index <= group.applied_index {
            // Its effects are in the checkpoint; its batches may still lie in the WAL alone.
            self.place_again(frame.payload, place);
            return Ok(());
        }
        group.applied_index = frame.index;
        group.applied_term = frame.term;
        self.apply_operations(frame.group, frame.payload, place);
        Ok(())
    }

    /// Recovery is over: streams that went meanwhile are dropped, cursors forget who held what, and
    /// every group starts as its own leader above what it applied.
    fn take_office(&mut self) {
        self.deliverable.clear();
        let metadata = &self.metadata;
        let gone = |id: &StreamId| metadata.was_placed(*id) && metadata.stream_owner(*id).is_none();
        let mut dropped = Vec::new();
        for group in self.groups.values_mut() {
            group.streams.retain(|id, stream| {
                if gone(id) {
                    dropped.push(*id);
                    return false;
                }
                let end = stream.end;
                stream.recovered_end = end;
                if let Some(subscription) = &mut stream.subscription {
                    subscription.cursor.recover(end);
                }
                true
            });
        }
        for id in dropped {
            self.log.delete_stream(id);
        }
        self.trim_settled();
        for group in self.groups.values_mut() {
            group.consensus = RaftGroup::start(StartingPoint {
                applied_index: group.applied_index,
                applied_term: group.applied_term,
                hard_state: group.hard_state,
            });
        }
        if let Some(controller) = &mut self.controller {
            controller.consensus = RaftGroup::start(StartingPoint {
                applied_index: controller.applied_index,
                applied_term: controller.applied_term,
                hard_state: controller.hard_state,
            });
            self.propose_silently(Command::NodeStarted { at: self.now.wall.0 });
        }
        self.run();
    }

    fn trim_settled(&mut self) {
        let mut trims = Vec::new();
        for group in self.groups.values() {
            for (id, stream) in &group.streams {
                let floor = stream.subscription.as_ref().map_or(0, |s| s.cursor.floor());
                if floor > stream.start && self.trims_at_floor(*id) {
                    trims.push((*id, floor));
                }
            }
        }
        for (id, floor) in trims {
            if let Some(state) = self.stream_mut(id) {
                state.trim_to(floor);
                let start = state.start;
                self.log.trim(id, start);
            }
        }
    }
}
