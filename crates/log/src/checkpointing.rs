//! When to make a checkpoint, what goes into it, and what is different once it is durable. The work on
//! disk is in `checkpoint.rs`.

use crate::checkpoint::{segments_kept, CheckpointDone, CheckpointError, CheckpointPlan, Copied};
use crate::error::LogError;
use crate::format::WalPosition;
use crate::io_plan::{IoRequest, Plan};
use crate::log::{Completion, GroupCheckpoint, Log};
use crate::manifest::checkpoint_path;
use crate::segment::Removal;
use crate::stream::give_back;
use crate::stream_plan::Changes;
use koine_base::{GroupId, Moment};
use std::collections::{BTreeSet, HashMap};

enum State {
    Idle,
    /// Waits until the WAL is durable up to here: the manifest must not know more than the log.
    Waiting {
        plan: Box<CheckpointPlan>,
        required: WalPosition,
        garbage: Vec<u64>,
        newest_closed: u32,
    },
    Running {
        number: u64,
        replay_from: u32,
        victims: Vec<u64>,
        newest_closed: u32,
    },
}

/// What the log knows of its checkpoints.
pub(crate) struct Checkpointing {
    state: State,
    /// Numbers of the files on disk, oldest first.
    numbers: Vec<u64>,
    last: u64,
    /// The newest closed WAL file that the last one saw.
    newest_closed_seen: u32,
    retry_at: Option<Moment>,
    /// Set when it is first asked for.
    not_before: Option<Moment>,
    pub(crate) changes: Changes,
    /// The next one must take in all streams: the one before is none to build on.
    from_scratch: bool,
}

impl Checkpointing {
    /// `numbers` are the files on disk, `last` is the highest number ever used.
    pub(crate) fn new(numbers: Vec<u64>, last: u64) -> Self {
        let from_scratch = numbers.last().is_none();
        Checkpointing {
            state: State::Idle,
            numbers,
            last,
            newest_closed_seen: 0,
            retry_at: None,
            not_before: None,
            changes: Changes::default(),
            from_scratch,
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }
}

impl Log {
    /// True if it is time for [`Self::checkpoint`].
    pub fn checkpoint_due(&mut self, now: Moment) -> bool {
        let after_open = now.after(self.config.checkpoint_after_open);
        if now < *self.checkpoints.not_before.get_or_insert(after_open) {
            return false;
        }
        let idle = self.checkpoints.is_idle();
        if !idle
            || self.replaying
            || self.checkpoints.retry_at.is_some_and(|retry_at| now < retry_at)
        {
            return false;
        }
        let files = &self.wal.files;
        let newly_closed = self.newest_closed() > self.checkpoints.newest_closed_seen;
        let dead = self.segments.dead_bytes();
        (newly_closed && files.checkpoint_worthwhile())
            || dead >= self.config.wal_file_bytes
            || (self.wal.no_space && dead > 0)
    }

    fn newest_closed(&self) -> u32 {
        let count = self.wal.files.closed_count();
        count.checked_sub(1).map_or(0, |index| self.wal.files.files[index].sequence)
    }

    /// Starts a checkpoint of the state as it is now; `poll_io` gives out the work. `groups` are all
    /// groups of this shard, each as of this call: a WAL file stays as long as it has a frame above its
    /// group's applied index, or a frame of a group that is not in the list. Does nothing if one is
    /// under way.
    pub fn checkpoint(&mut self, groups: Vec<GroupCheckpoint>) {
        assert!(!self.replaying, "a checkpoint before the replay was finished");
        if !self.checkpoints.is_idle() {
            return;
        }
        let applied: HashMap<GroupId, u64> =
            groups.iter().map(|group| (group.group, group.applied_index)).collect();
        let replay_from = self.wal.files.first_needed(|group| applied.get(&group).copied());
        let config = &self.config;
        let victims = self.segments.victims(config.rewrite_bytes_max, config.pack_merge_count);
        let victims: BTreeSet<u64> = victims.into_iter().collect();
        let dead =
            self.segments.iter().filter(|(_, segment)| segment.live == 0).map(|(number, _)| number);
        let mut garbage: Vec<u64> = dead.collect();
        garbage.extend(&victims);
        let base = self.checkpoints.numbers.last().filter(|_| !self.checkpoints.from_scratch);
        let base = base.copied();
        let streams = self.checkpoints.changes.take(&mut self.streams, replay_from, base);
        self.wal.flush();
        let required = self.wal.appended();
        let plan = CheckpointPlan {
            directory: config.directory.clone(),
            number: self.checkpoints.last + 1,
            replay_from,
            durable: required,
            groups,
            segments_kept: segments_kept(&self.segments, &victims),
            streams,
            victims,
            wal_files: Vec::new(),
            next_segment: self.segments.next,
            own_segment_bytes_min: config.own_segment_bytes_min,
            pack_segment_bytes_max: config.pack_segment_bytes_max,
            index_interval_bytes: config.index_interval_bytes,
        };
        let newest_closed = self.newest_closed();
        self.checkpoints.last += 1;
        self.checkpoints.state =
            State::Waiting { plan: Box::new(plan), required, garbage, newest_closed };
    }

    pub(crate) fn poll_checkpoint(&mut self) -> Option<IoRequest> {
        match self.checkpoints.state {
            State::Waiting { required, .. } if self.wal.durable() >= required => {}
            _ => return None,
        }
        let state = std::mem::replace(&mut self.checkpoints.state, State::Idle);
        let State::Waiting { mut plan, garbage, newest_closed, .. } = state else {
            return None;
        };
        let closed =
            self.wal.files.files.iter().take_while(|file| file.sequence < plan.replay_from);
        plan.wal_files = closed.filter_map(|file| Some((file.sequence, file.slot?.file))).collect();
        self.checkpoints.state = State::Running {
            number: plan.number,
            replay_from: plan.replay_from,
            victims: garbage,
            newest_closed,
        };
        Some(IoRequest(Plan::Checkpoint(plan)))
    }

    pub(crate) fn checkpoint_done(
        &mut self,
        now: Moment,
        done: CheckpointDone,
    ) -> Result<Completion, LogError> {
        let state = std::mem::replace(&mut self.checkpoints.state, State::Idle);
        let State::Running { number, replay_from, victims, newest_closed } = state else {
            unreachable!("a checkpoint was running");
        };
        self.segments.next = self.segments.next.max(done.next_segment);
        let copied = match done.outcome {
            Ok(copied) => copied,
            Err(error) => return self.checkpoint_failed(now, error),
        };
        self.checkpoints.newest_closed_seen = newest_closed;
        self.checkpoints.retry_at = None;
        self.checkpoints.from_scratch = false;
        self.stats.checkpoints += 1;
        self.stats.segment_bytes_written += copied.bytes;
        self.stats.segment_bytes_rewritten += copied.bytes_rewritten;
        self.adopt(copied, replay_from);
        let mut removals = Vec::new();
        for segment in victims {
            self.stats.segments_deleted += 1;
            removals.extend(self.segments.doom(segment));
        }
        self.stats.wal_files_recycled += self.wal.recycle(replay_from, &mut removals);
        self.checkpoints.numbers.push(number);
        while self.checkpoints.numbers.len() > 2 {
            let path = checkpoint_path(&self.config.directory, self.checkpoints.numbers.remove(0));
            removals.push(Removal { path, file: None });
        }
        self.remove(removals);
        Ok(Completion::Checkpointed { replay_from: WalPosition::new(replay_from, 0) })
    }

    fn checkpoint_failed(
        &mut self,
        now: Moment,
        error: CheckpointError,
    ) -> Result<Completion, LogError> {
        self.stats.checkpoints_failed += 1;
        // What was taken down as changed is spent.
        self.checkpoints.from_scratch = true;
        self.checkpoints.retry_at = Some(now.after(self.config.full_retry_after));
        match error {
            CheckpointError::Full => Ok(Completion::NoSpace),
            CheckpointError::BaseUnreadable => {
                self.checkpoints.retry_at = None;
                Ok(Completion::Internal)
            }
            CheckpointError::SegmentCorrupt(segment) => {
                self.segments.mark_damaged(segment);
                Ok(Completion::Internal)
            }
            CheckpointError::WalCorrupt { stream, offset } => {
                Err(LogError::Corrupt { stream, offset })
            }
            CheckpointError::Io { action, error } => Err(LogError::Io { action, error }),
        }
    }

    /// Lets the streams know where their batches are now.
    fn adopt(&mut self, copied: Copied, replay_from: u32) {
        for segment in copied.segments {
            self.segments.add(segment);
        }
        for (id, runs) in copied.streams {
            let Some(stream) = self.streams.get_mut(&id) else {
                continue;
            };
            let before = std::mem::take(&mut stream.segments);
            // The stream may have been trimmed in the meantime.
            stream.segments = runs.into_iter().filter(|run| run.end > stream.start).collect();
            for run in &stream.segments {
                self.segments.acquire(run);
            }
            for run in &before {
                self.segments.release(run);
            }
            while stream.wal.front().is_some_and(|run| run.position.sequence() < replay_from) {
                stream.wal.pop_front();
            }
            give_back(&mut stream.wal);
            stream.shrink();
        }
    }
}
