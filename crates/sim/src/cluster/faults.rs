//! What goes wrong in a cluster.

use super::network::Shape;
use super::{Cluster, Task};
use crate::coverage::Mark;
use crate::model::Checked;
use crate::options::draw;
use koine_base::GroupId;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Crash,
    CrashLeader,
    /// The power goes everywhere at once.
    PowerCut,
    Halves,
    Ring,
    OneWay,
    IsolateLeader,
    /// A process stops and later goes on, as with SIGSTOP.
    Pause,
    PauseLeader,
    SlowDisk,
    SyncFailure,
    ClockJump,
    /// A bit flips on one node while it is down.
    Flip,
    /// A node votes no longer, or again.
    ChangeVoters,
    /// A node loses its disk, and another takes its place.
    Wipe,
}

impl Fault {
    /// With usual weights.
    pub const ALL: [(Fault, u64); 15] = [
        (Fault::Crash, 6),
        (Fault::CrashLeader, 6),
        (Fault::PowerCut, 3),
        (Fault::Halves, 5),
        (Fault::Ring, 4),
        (Fault::OneWay, 4),
        (Fault::IsolateLeader, 5),
        (Fault::Pause, 4),
        (Fault::PauseLeader, 4),
        (Fault::SlowDisk, 3),
        (Fault::SyncFailure, 2),
        (Fault::ClockJump, 2),
        (Fault::Flip, 2),
        (Fault::ChangeVoters, 3),
        (Fault::Wipe, 2),
    ];
}

impl Cluster {
    pub(super) fn schedule_fault(&mut self) {
        let wait = 1 + self.faults.below(self.options.fault_every_ms * 2000);
        self.after(wait, Task::Fault);
    }

    pub(super) fn any_node(&mut self) -> usize {
        let there: Vec<usize> =
            (0..self.nodes.len()).filter(|node| !self.nodes[*node].is_gone).collect();
        there[self.faults.below(there.len() as u64) as usize]
    }

    /// The leader of some group, else any node.
    fn any_leader(&mut self) -> usize {
        let groups = self.groups();
        let group: GroupId = groups[self.faults.below(groups.len() as u64) as usize];
        self.serving(group).unwrap_or_else(|| self.any_node())
    }

    pub(super) fn make_fault(&mut self) -> Checked {
        self.schedule_fault();
        let Some(fault) = draw(&mut self.faults, &self.options.faults) else { return Ok(()) };
        self.note(|| format!("fault {fault:?}"));
        match fault {
            Fault::Crash | Fault::CrashLeader => {
                let node = match fault {
                    Fault::Crash => self.any_node(),
                    _ => self.any_leader(),
                };
                self.mark(if fault == Fault::Crash {
                    Mark::NodeCrashed
                } else {
                    Mark::LeaderCrashed
                });
                self.crash(node);
                self.schedule_restart(node)?;
            }
            Fault::PowerCut => {
                self.mark(Mark::PowerCut);
                for node in 0..self.nodes.len() {
                    self.crash(node);
                    self.schedule_restart(node)?;
                }
            }
            Fault::Halves => self.split(Shape::Halves, Mark::SplitHalves),
            Fault::Ring => self.split(Shape::Ring, Mark::SplitRing),
            Fault::OneWay => {
                let node = self.any_node();
                let is_mute = self.faults.chance(1, 2);
                let shape = if is_mute { Shape::Mute(node) } else { Shape::Deaf(node) };
                self.split(shape, Mark::SplitOneWay);
            }
            Fault::IsolateLeader => {
                let node = self.any_leader();
                self.split(Shape::Alone(node), Mark::LeaderIsolated);
            }
            Fault::Pause | Fault::PauseLeader => {
                let node = match fault {
                    Fault::Pause => self.any_node(),
                    _ => self.any_leader(),
                };
                self.mark(Mark::NodePaused);
                let time = 10_000 + self.faults.below(3_000_000);
                self.nodes[node].paused_until = self.now_us + time;
            }
            Fault::SlowDisk => {
                self.mark(Mark::DiskSlow);
                let node = self.any_node();
                self.nodes[node].slow_until = self.now_us + self.faults.below(2_000_000);
            }
            Fault::SyncFailure => {
                self.mark(Mark::SyncFailed);
                let node = self.any_node();
                self.nodes[node].disk.fail_sync(self.faults.below(6));
            }
            Fault::ClockJump => {
                self.mark(Mark::ClockJumped);
                let node = self.any_node();
                self.nodes[node].wall_ahead_ms += self.faults.below(20_000) as i64 - 10_000;
            }
            Fault::Flip => self.flip(),
            Fault::ChangeVoters => self.change_voters(),
            Fault::Wipe => self.wipe()?,
        }
        Ok(())
    }

    fn split(&mut self, shape: Shape, mark: Mark) {
        self.mark(mark);
        self.note(|| format!("{shape:?}"));
        self.network.split(shape, &mut self.faults);
        let wait = 50_000 + self.faults.below(4_000_000);
        self.after(wait, Task::Heal);
    }

    pub(super) fn heal_network(&mut self) {
        self.note(|| "the network is whole".to_owned());
        self.network.heal();
    }

    pub(super) fn schedule_restart(&mut self, node: usize) -> Checked {
        let most = [1_000, 200_000, 3_000_000][self.faults.below(3) as usize];
        let wait = 1 + self.faults.below(most);
        self.after(wait, Task::Restart { node });
        Ok(())
    }

    /// A node ends, and a bit of what it has flips before it is back. Only one node is ever damaged.
    fn flip(&mut self) {
        let node = self.any_node();
        let is_other = |other: usize| other != node && self.nodes[other].disk.is_damaged();
        if (0..self.nodes.len()).any(is_other) {
            return;
        }
        self.crash(node);
        let paths = self.nodes[node].disk.paths();
        if !paths.is_empty() {
            let path = &paths[self.faults.below(paths.len() as u64) as usize];
            let size = self.nodes[node].disk.contents(path).map_or(0, |bytes| bytes.len() as u64);
            if size > 0 {
                let position = self.faults.below(size.min(20_000));
                let mask = 1 << self.faults.below(8);
                let id = self.nodes[node].id;
                self.nodes[node].disk.decay(path, position, mask);
                if self.nodes[node].disk.is_excusable() {
                    // It would pass for a torn write, and a vote or an acknowledgement be forgotten.
                    self.nodes[node].disk.restore(path, position, mask);
                } else {
                    self.mark(Mark::FlippedAtRest);
                    self.note(|| format!("{id}: bits {mask:#04x} of {path} at {position} flip"));
                    self.nodes[node].flips.push((path.clone(), position, mask));
                }
            }
        }
        let wait = 1 + self.faults.below(500_000);
        self.after(wait, Task::Restart { node });
    }

    /// The node refused to start on damaged files: they are put right, and it tries again.
    pub(super) fn repair(&mut self, node: usize) -> Checked {
        self.nodes[node].disk.kill();
        let flips = std::mem::take(&mut self.nodes[node].flips);
        for (path, position, mask) in flips.into_iter().rev() {
            self.nodes[node].disk.restore(&path, position, mask);
        }
        let wait = 1 + self.faults.below(500_000);
        self.after(wait, Task::Restart { node });
        Ok(())
    }
}
