//! Whether other nodes have a part in a group, as far as a node's own log says. A repair on one replica
//! alone would make it differ from the others for ever; where the log leaves it open and shows a trace
//! of others, they are taken to be there.
//!
//! Who votes in a new group is not in its log but in the node's settings: one that has made no
//! checkpoint, and committed little, shows no trace.

use crate::consensus::Configuration;
use crate::shard::doctor::{configuration_in, trace_of, Trace};
use koine_base::GroupId;
use koine_log::GroupCheckpoint;
use std::collections::BTreeMap;

/// A group in which other nodes have a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    pub group: GroupId,
    /// Their numbers; empty if the log does not say.
    pub voters: Vec<u64>,
}

/// What the log has said of one group so far.
#[derive(Default)]
struct Known {
    /// As of the checkpoint, and the changes behind it.
    configuration: Option<Configuration>,
    applied_index: u64,
    /// Something that a node alone does not write.
    has_trace: bool,
}

#[derive(Default)]
pub(super) struct VotersSeen {
    groups: BTreeMap<GroupId, Known>,
}

impl VotersSeen {
    pub(super) fn checkpoint(&mut self, checkpoint: &GroupCheckpoint) {
        let configuration = configuration_in(checkpoint.group, &checkpoint.blob);
        let known =
            Known { configuration, applied_index: checkpoint.applied_index, has_trace: false };
        self.groups.insert(checkpoint.group, known);
    }

    pub(super) fn frame(&mut self, group: GroupId, kind: u8, index: u64, payload: &[u8]) {
        let Some((group, trace)) = trace_of(group, kind) else { return };
        let known = self.groups.entry(group).or_default();
        match (trace, &known.configuration) {
            (Trace::Change, Some(before)) if index > known.applied_index => {
                known.configuration = crate::raft::changed_by(before, payload);
                known.has_trace |= known.configuration.is_none();
            }
            // The checkpoint is newer, or says who votes.
            (Trace::Change, Some(_)) | (Trace::Commit, Some(_)) => {}
            _ => known.has_trace = true,
        }
    }

    pub(super) fn shared(&self) -> Vec<Shared> {
        let shared = self.groups.iter().filter_map(|(group, known)| {
            let configuration = known.configuration.clone().unwrap_or_default();
            let mut voters = configuration.voters;
            voters.extend(configuration.learners);
            voters.extend(configuration.outgoing);
            voters.extend(configuration.learners_next);
            voters.sort_unstable();
            voters.dedup();
            (voters.len() > 1 || known.has_trace).then_some(Shared { group: *group, voters })
        });
        shared.collect()
    }
}
