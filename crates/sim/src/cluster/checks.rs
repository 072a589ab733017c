//! What replicas must agree on, whatever happens: one leader per term, the same state at the same index,
//! positions that never go back.

use super::Cluster;
use crate::model::{violation, Checked};
use koine_base::checksum::crc32c;
use koine_base::{GroupId, NodeId};
use koine_cluster::GroupPosition;
use std::collections::BTreeMap;

/// States that are remembered per group.
const STATES_MAX: usize = 4000;

#[derive(Default)]
pub(super) struct Checks {
    /// Who led in a term of a group.
    leaders: BTreeMap<(GroupId, u64), NodeId>,
    /// Checksum of a group's state by applied index and metadata, and who had it first.
    states: BTreeMap<(GroupId, u64, u32), (u64, NodeId)>,
    /// The last position of a group at a node, and in which life.
    positions: BTreeMap<(NodeId, GroupId), (u64, GroupPosition)>,
}

impl Cluster {
    pub(super) fn groups(&self) -> Vec<GroupId> {
        (0..self.layout().group_count()).map(GroupId).collect()
    }

    pub(super) fn shard_of(&self, group: GroupId) -> usize {
        usize::from(self.layout().shard_of(group).0)
    }

    /// The node that serves a group, of those that run.
    pub(super) fn serving(&self, group: GroupId) -> Option<usize> {
        let shard = self.shard_of(group);
        let serving = |node: &usize| {
            let node = &self.nodes[*node];
            node.is_up() && node.shards[shard].is_serving_group(group)
        };
        // After a partition there may be two for a moment; the one of the higher term counts.
        let term = |node: &usize| self.nodes[*node].shards[shard].position(group).term;
        (0..self.nodes.len()).filter(serving).max_by_key(term)
    }

    pub(super) fn check_replicas(&mut self) -> Checked {
        for node in 0..self.nodes.len() {
            if self.nodes[node].is_up() {
                for group in self.groups() {
                    self.check_replica(node, group)?;
                }
            }
        }
        Ok(())
    }

    fn check_replica(&mut self, node: usize, group: GroupId) -> Checked {
        let of = &self.nodes[node];
        let (id, life, shard) = (of.id, of.life, &of.shards[self.shard_of(group)]);
        let position = shard.position(group);
        let number = group.0;
        if shard.is_serving_group(group) {
            let leader = *self.checks.leaders.entry((group, position.term)).or_insert(id);
            if leader != id {
                let term = position.term;
                return violation(format!("{leader} and {id} lead group {number} in term {term}"));
            }
        }
        let GroupPosition { commit_index, applied_index, last_index, term, .. } = position;
        if applied_index > commit_index || commit_index > last_index {
            return violation(format!("{id} group {number}: {position:?} is out of order"));
        }
        let before = self.checks.positions.insert((id, group), (life, position));
        if let Some((_, before)) = before.filter(|(in_life, _)| *in_life == life) {
            let went_back = before.term > term
                || before.commit_index > commit_index
                || before.applied_index > applied_index;
            if went_back {
                return violation(format!("{id} group {number}: went back from {before:?}"));
            }
        }
        let metadata = match group {
            GroupId::METADATA => 0,
            _ => crc32c(&shard.metadata().encode()),
        };
        let state = shard.fingerprint(group);
        let key = (group, applied_index, metadata);
        let (known, whose) = *self.checks.states.entry(key).or_insert((state, id));
        if known != state {
            return violation(format!(
                "group {number} at index {applied_index}: {id} has another state than {whose}"
            ));
        }
        if self.checks.states.len() > STATES_MAX {
            self.checks.states.pop_first();
        }
        Ok(())
    }
}
