//! Bounds of committed offsets, and their end: a group that nobody uses any more keeps its offsets for a
//! while (Kafka's `offsets.retention.minutes`, counted as since its 2.1), those of a deleted topic go
//! with it.

use super::groups::OffsetsChange;
use super::Shard;
use crate::group::DataGroup;
use koine_base::{GroupId, Moment, Timestamp};
use koine_broker::membership::{GroupError, GroupPhase};
use koine_broker::offsets::{CommittedOffset, OffsetRefused};
use std::collections::HashMap;
use std::ops::Bound;

/// Between two rounds over all groups; Kafka's `offsets.retention.check.interval.ms`.
const ROUND_EVERY_MS: u64 = 600_000;

/// Groups looked at in one step of a round, and how soon the next one follows.
const STEP_GROUPS: usize = 500;
const STEP_EVERY_MS: u64 = 5;

/// Offsets that one step lets expire of one group; the next round finds the rest.
const STEP_OFFSETS: usize = 10_000;

/// Where a round over the groups of this shard stands.
pub(super) struct OffsetsRound {
    pub next: Moment,
    at: Option<(GroupId, String)>,
    /// When this shard began to coordinate: nothing is known of who used a group before.
    since: Timestamp,
    /// When a group was last found in use, for groups that were since then.
    used_at: HashMap<(GroupId, String), Timestamp>,
}

impl OffsetsRound {
    pub fn new(now: koine_base::Now) -> Self {
        OffsetsRound { next: now.moment, at: None, since: now.wall, used_at: HashMap::new() }
    }
}

impl Shard {
    pub(super) fn check_offsets(
        &self,
        id: GroupId,
        name: &str,
        offsets: &[(String, i32, CommittedOffset)],
    ) -> Result<(), GroupError> {
        let limits = &self.config.limits;
        let known = self.groups.get(&id).and_then(|group| group.offsets.get(name));
        if known.is_none() {
            if name.len() > limits.name_bytes_max {
                return Err(GroupError::InvalidGroupId);
            }
            let count: usize = self.groups.values().map(|group| group.offsets.len()).sum();
            if count >= limits.offset_groups_max {
                return Err(GroupError::TooManyOffsets);
            }
        }
        let none = koine_broker::offsets::Offsets::new();
        let commit =
            offsets.iter().map(|(topic, partition, offset)| (&topic[..], *partition, offset));
        known.unwrap_or(&none).check(commit, limits.offsets_per_group_max).map_err(|refused| {
            match refused {
                OffsetRefused::MetadataTooLarge => GroupError::OffsetMetadataTooLarge,
                OffsetRefused::TooManyPartitions => GroupError::TooManyOffsets,
            }
        })
    }

    /// A topic or queue was deleted: one of that name that is made later starts anew.
    pub(super) fn forget_offsets_of(&mut self, topic: &str) {
        for group in self.groups.values_mut().filter(|group| group.consensus.is_serving()) {
            let has_any = group.offsets.values().any(|offsets| offsets.has_topic(topic));
            if has_any {
                let change = OffsetsChange::DeleteTopic { topic: topic.to_owned() };
                group.commit_offsets(&change.encode());
            }
        }
    }

    /// One step of a round. None begins once the node stops.
    pub(super) fn tick_offsets(&mut self) {
        if self.is_leaving {
            self.offsets_round.next = Moment::NEVER;
            return;
        }
        if self.now.moment < self.offsets_round.next {
            return;
        }
        let round = &mut self.offsets_round;
        let (mut left, mut last) = (STEP_GROUPS, None);
        let from = round.at.take();
        let first = from.as_ref().map_or(GroupId(0), |(id, _)| *id);
        let retention_ms = self.config.limits.offsets_retention_ms;
        let wait = i64::try_from(retention_ms).unwrap_or(i64::MAX);
        let before = Timestamp(self.now.wall.0.saturating_sub(wait));
        for (id, group) in self.groups.range_mut(first..) {
            let after = from.as_ref().filter(|(at, _)| at == id);
            let start = after.map_or(Bound::Unbounded, |(_, name)| Bound::Excluded(name.clone()));
            let names = group.offsets.range((start, Bound::Unbounded)).take(left);
            let names: Vec<String> = names.map(|(name, _)| name.clone()).collect();
            left -= names.len();
            for name in names {
                if group.consensus.is_serving() {
                    expire_group(group, &name, self.now.wall, before, round);
                }
                last = Some((*id, name));
            }
            if left == 0 {
                break;
            }
        }
        let is_over = left > 0;
        round.at = last.filter(|_| !is_over);
        let wait_ms = if is_over { ROUND_EVERY_MS.min(retention_ms.max(1)) } else { STEP_EVERY_MS };
        round.next = self.now.moment.after_ms(wait_ms);
        if is_over {
            round.used_at.retain(|_, at| *at >= before);
        }
    }
}

/// Proposes the end of the offsets of one group that are older than `before` and not needed.
fn expire_group(
    group: &mut DataGroup,
    name: &str,
    now: Timestamp,
    before: Timestamp,
    round: &mut OffsetsRound,
) {
    let Some(offsets) = group.offsets.get(name) else { return };
    let key = (group.id, name.to_owned());
    let expired = match group.membership.phase(name).unwrap_or(GroupPhase::Empty) {
        GroupPhase::Empty | GroupPhase::Dead => {
            let used_at = round.used_at.get(&key).copied().unwrap_or(round.since);
            match used_at < before {
                true => offsets.expired(before, |_| false, None, STEP_OFFSETS),
                false => Vec::new(),
            }
        }
        phase => {
            round.used_at.insert(key, now);
            let is_needed = |topic: &str| {
                phase != GroupPhase::Stable || group.membership.is_subscribed(name, topic)
            };
            offsets.expired(before, is_needed, None, STEP_OFFSETS)
        }
    };
    if !expired.is_empty() {
        let (group_name, before) = (name.to_owned(), before.0);
        let change = OffsetsChange::Expire { group: group_name, partitions: expired, before };
        group.commit_offsets(&change.encode());
    }
}
