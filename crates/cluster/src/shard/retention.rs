//! Deleting what topics keep too long or too much of. Queues are trimmed by their cursor.
//!
//! A record goes by its own timestamp, which may be old when it arrives. So that readers have a chance to
//! see it, a round lets only those go that were there in the round before: each is spared for one
//! interval, and all are after a start.

use super::Shard;
use koine_base::{Moment, StreamId};
use koine_broker::metadata::StreamOwner;

/// Streams looked at in one step of a round, and how soon the next one follows.
const STEP_STREAMS: usize = 2_000;
const STEP_EVERY_MS: u64 = 5;

/// Where a round over the streams of topics stands.
pub(super) struct RetentionRound {
    pub next: Moment,
    /// Still to be looked at; taken from the back.
    left: Vec<StreamId>,
}

impl RetentionRound {
    pub fn new(now: Moment) -> Self {
        RetentionRound { next: now, left: Vec::new() }
    }
}

impl Shard {
    /// One step of a round: proposes new starts for streams that have something to give up. None begins
    /// once the node stops: the next start looks at everything anyway.
    pub(super) fn tick_retention(&mut self) {
        if self.is_leaving {
            self.retention_round.next = Moment::NEVER;
            return;
        }
        if self.now.moment < self.retention_round.next {
            return;
        }
        if self.retention_round.left.is_empty() {
            let is_ours = |(stream, owner): &(StreamId, &StreamOwner)| {
                matches!(owner, StreamOwner::Topic { .. })
                    && self.groups.contains_key(&stream.group())
                    && self.may_serve(stream.group())
            };
            let ours = self.metadata.streams().filter(is_ours).map(|(stream, _)| stream);
            let mut left: Vec<StreamId> = ours.collect();
            left.sort_unstable_by(|a, b| b.cmp(a));
            self.retention_round.left = left;
        }
        for _ in 0..STEP_STREAMS {
            let Some(stream) = self.retention_round.left.pop() else { break };
            self.expire_records(stream);
        }
        let wait_ms = match self.retention_round.left.is_empty() {
            true => self.config.limits.retention_check_ms,
            false => STEP_EVERY_MS,
        };
        self.retention_round.next = self.now.moment.after_ms(wait_ms);
    }

    fn expire_records(&mut self, id: StreamId) {
        let Some(StreamOwner::Topic { namespace, name, .. }) = self.metadata.stream_owner(id)
        else {
            return;
        };
        let Some(topic) = self.metadata.topic(*namespace, name) else { return };
        let node = &self.config.node;
        let ms = topic.settings.retention_ms.unwrap_or(node.default_retention_ms);
        let bytes = topic.settings.retention_bytes.unwrap_or(node.default_retention_bytes);
        // Below zero keeps everything.
        let ms = (ms >= 0).then_some(ms);
        let bytes = u64::try_from(bytes).ok();
        let wall = self.now.wall.0;
        if !self.may_serve(id.group()) {
            return;
        }
        let stored = self.stored(id);
        let Some(group) = self.groups.get_mut(&id.group()) else { return };
        let Some(stream) = group.streams.get_mut(&id) else { return };
        let spared_from = stream.seen_by_retention.replace(stream.end).unwrap_or(0);
        let start = self.log.expire(stored, wall, ms, bytes).map(|start| start.min(spared_from));
        if let Some(start) = start.filter(|start| *start > stream.start) {
            group.trim(id, start);
        }
    }
}
