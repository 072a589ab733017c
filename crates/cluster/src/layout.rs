//! Which shard owns which group. Fixed when a data directory is made.

use koine_base::{GroupId, ShardId};

/// Data groups per shard: one whose commits wait for the disk, one whose commits do not.
const DATA_GROUPS_PER_SHARD: u16 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub shard_count: u16,
}

impl Layout {
    /// Group 0 and the data groups of every shard.
    pub fn group_count(self) -> u16 {
        1 + self.shard_count * DATA_GROUPS_PER_SHARD
    }

    pub fn shard_of(self, group: GroupId) -> ShardId {
        match group.0 {
            0 => ShardId(0),
            number => ShardId((number - 1) / DATA_GROUPS_PER_SHARD),
        }
    }

    /// The data groups of a shard.
    pub fn data_groups(self, shard: ShardId) -> impl Iterator<Item = GroupId> {
        let first = 1 + shard.0 * DATA_GROUPS_PER_SHARD;
        (first..first + DATA_GROUPS_PER_SHARD).map(GroupId)
    }

    /// Per data group, from group 1: whether its commits are acknowledged before the disk has them.
    pub fn relaxed(self) -> Vec<bool> {
        (1..self.group_count()).map(|number| self.is_relaxed(GroupId(number))).collect()
    }

    pub fn is_relaxed(self, group: GroupId) -> bool {
        group.0 != 0 && (group.0 - 1) % DATA_GROUPS_PER_SHARD == 1
    }

    pub fn shards(self) -> impl Iterator<Item = ShardId> {
        (0..self.shard_count).map(ShardId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_has_one_shard_and_every_shard_both_classes() {
        let layout = Layout { shard_count: 3 };
        assert_eq!(layout.relaxed(), [false, true, false, true, false, true]);
        for shard in layout.shards() {
            let groups: Vec<GroupId> = layout.data_groups(shard).collect();
            assert!(groups.iter().all(|group| layout.shard_of(*group) == shard));
            assert_eq!(groups.iter().filter(|group| layout.is_relaxed(**group)).count(), 1);
        }
        assert_eq!(layout.shard_of(GroupId::METADATA), ShardId(0));
    }
}
