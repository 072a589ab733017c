//! Whoever runs the cluster: says which nodes should vote, and keeps asking the leaders until it is so. A
//! node that lost its disk comes back under a new number.

use super::node::Node;
use super::{Cluster, Task};
use crate::coverage::Mark;
use crate::model::Checked;
use koine_base::NodeId;

/// How often the leaders are asked.
const ASK_EVERY_US: u64 = 200_000;

impl Cluster {
    pub(super) fn begin_operating(&mut self) {
        self.wanted = self.nodes.iter().map(|node| node.id).collect();
        self.after(ASK_EVERY_US, Task::Operate);
    }

    /// Every group's leader says that exactly the wanted nodes vote, and nothing else is under way: a
    /// change that was asked for before and comes late may need a node that is gone by then.
    pub(super) fn has_wanted_voters(&self) -> bool {
        self.groups().into_iter().all(|group| {
            let shard = self.shard_of(group);
            self.serving(group).is_some_and(|node| {
                let position = self.nodes[node].shards[shard].position(group);
                position.voters == self.wanted && !position.is_changing
            })
        })
    }

    pub(super) fn operate(&mut self) -> Checked {
        self.after(ASK_EVERY_US, Task::Operate);
        for group in self.groups() {
            let shard = self.shard_of(group);
            let Some(node) = self.serving(group) else { continue };
            let position = self.nodes[node].shards[shard].position(group);
            if position.voters == self.wanted && !position.is_changing {
                continue;
            }
            let (now, wanted) = (self.nodes[node].now(self.now_us), self.wanted.clone());
            if self.nodes[node].paused_until > self.now_us {
                continue;
            }
            let number = group.0;
            self.note(|| format!("group {number}: {wanted:?} shall vote"));
            // Refused: asked for again.
            let _ = self.nodes[node].shards[shard].change_voters(now, group, wanted);
            self.pump(node, shard)?;
        }
        Ok(())
    }

    /// One node shall no longer vote; or all shall again.
    pub(super) fn change_voters(&mut self) {
        self.has_changed_voters = true;
        self.mark(Mark::VotersChanged);
        let all: Vec<NodeId> =
            self.nodes.iter().filter(|node| !node.is_gone).map(|node| node.id).collect();
        if self.wanted.len() < all.len() || all.len() <= 2 {
            self.wanted = all;
        } else {
            let leaves = self.faults.below(self.wanted.len() as u64) as usize;
            self.wanted.remove(leaves);
        }
        let wanted = self.wanted.clone();
        self.note(|| format!("wanted: {wanted:?}"));
    }

    /// A disk is lost for good, and another machine takes the place of its node. Never two before the
    /// first is made up for: that would lose data by right.
    pub(super) fn wipe(&mut self) -> Checked {
        let all = self.nodes.iter().filter(|node| !node.is_gone).count();
        if self.wanted.len() < all || !self.has_wanted_voters() || self.is_wiped_open {
            return Ok(());
        }
        self.has_changed_voters = true;
        self.is_wiped_open = true;
        self.mark(Mark::DiskWiped);
        let node = self.any_node();
        let old = self.nodes[node].id;
        self.crash(node);
        self.nodes[node].is_gone = true;
        let id = NodeId(self.nodes.len() as u32 + 1);
        self.wanted.retain(|wanted| *wanted != old);
        let voters = self.wanted.clone();
        self.nodes.push(Node::new(id, voters, 0));
        self.network.add();
        self.wanted.push(id);
        self.note(|| format!("{old} lost its disk; {id} takes its place"));
        let new = self.nodes.len() - 1;
        self.after(1 + self.options.disk_us, Task::Restart { node: new });
        Ok(())
    }

    /// Once the place of a wiped node is filled another one may go.
    pub(super) fn note_filled_place(&mut self) {
        if self.is_wiped_open && self.has_wanted_voters() {
            self.is_wiped_open = false;
        }
    }
}
