//! What the node needs from a replicated log of entries, and nothing of how it is reached: the words
//! that [`crate::raft`] and the shard have in common.

use bytes::Bytes;
use koine_base::NodeId;
use serde::{Deserialize, Serialize};

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// The caller's. Without data it is a leader's own-term no-op.
    Data,
    /// Changes who votes; for [`crate::raft::RaftGroup::apply_change`].
    Change,
}

/// One slot of the replicated log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub index: u64,
    pub term: u64,
    pub kind: EntryKind,
    pub data: Bytes,
}

/// What a voter must remember across restarts beside its entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    pub term: u64,
    pub vote: u64,
}

/// A place in the log: everything up to it is one state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogPoint {
    pub index: u64,
    pub term: u64,
}

/// Work a group has for its caller.
#[derive(Debug, Default)]
pub struct Ready {
    /// The state of the group is from here on the one that was installed for this point; to be made
    /// durable before all else.
    pub installed: Option<LogPoint>,
    /// To be made durable before `entries`.
    pub hard_state: Option<HardState>,
    /// To be made durable, in order; an index that was there before takes its place and that of all
    /// after it.
    pub entries: Vec<Entry>,
    /// Committed: apply in order, then call [`crate::raft::RaftGroup::applied`] for each.
    pub committed: Vec<Entry>,
}

/// Why a proposal was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotLeader;

/// The nodes that a group starts with, before its log says anything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voters {
    pub this: NodeId,
    /// Without `this` on a node that waits to be taken in.
    pub voters: Vec<NodeId>,
}

impl Voters {
    /// A node that is its own cluster.
    pub fn alone() -> Voters {
        Voters { this: NodeId(1), voters: vec![NodeId(1)] }
    }
}

/// Who votes, as of an applied index. All lists ascend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    pub voters: Vec<u64>,
    /// Are sent everything and count for nothing.
    pub learners: Vec<u64>,
    /// In the midst of a change: those before it, whose majority is needed as well.
    pub outgoing: Vec<u64>,
    /// Voters of `outgoing` that are learners afterwards.
    pub learners_next: Vec<u64>,
    /// The change completes itself.
    pub auto_leave: bool,
}

impl Configuration {
    pub fn new(voters: &[NodeId]) -> Configuration {
        let mut voters: Vec<u64> = voters.iter().map(|node| u64::from(node.0)).collect();
        voters.sort_unstable();
        voters.dedup();
        Configuration { voters, ..Configuration::default() }
    }

    /// True if nobody but `this` has any part in the group.
    pub fn is_alone(&self, this: u64) -> bool {
        self.is_sole_voter(this) && self.learners.is_empty() && self.learners_next.is_empty()
    }

    /// True if what `this` has made durable is committed by that.
    pub fn is_sole_voter(&self, this: u64) -> bool {
        self.voters == [this] && self.outgoing.is_empty()
    }

    pub fn contains(&self, node: u64) -> bool {
        [&self.voters, &self.learners, &self.outgoing, &self.learners_next]
            .iter()
            .any(|list| list.contains(&node))
    }

    /// True if `has` holds for a majority of the voters, in the midst of a change for one of each side.
    pub fn has_quorum(&self, has: impl Fn(u64) -> bool) -> bool {
        let most = |list: &[u64]| {
            list.is_empty() || list.iter().filter(|node| has(**node)).count() > list.len() / 2
        };
        !self.voters.is_empty() && most(&self.voters) && most(&self.outgoing)
    }
}

/// Where a group stands, for checkers and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupPosition {
    pub term: u64,
    pub commit_index: u64,
    pub applied_index: u64,
    pub last_index: u64,
    pub voters: Vec<NodeId>,
    /// Who votes is being changed, as far as this replica knows: asked for, proposed, or half done.
    pub is_changing: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_needs_a_majority_of_both_sides() {
        let check = |voters: &[u64], outgoing: &[u64], has: &[u64], expect: bool| {
            let configuration = Configuration {
                voters: voters.to_vec(),
                outgoing: outgoing.to_vec(),
                ..Configuration::default()
            };
            assert_eq!(configuration.has_quorum(|node| has.contains(&node)), expect, "{has:?}");
        };
        check(&[1], &[], &[1], true);
        check(&[1, 2, 3], &[], &[1], false);
        check(&[1, 2, 3], &[], &[1, 3], true);
        check(&[1, 2, 3, 4], &[], &[1, 2], false);
        check(&[1, 2, 3], &[3, 4, 5], &[1, 2], false);
        check(&[1, 2, 3], &[3, 4, 5], &[1, 3, 5], true);
        check(&[], &[], &[1], false);
    }
}
