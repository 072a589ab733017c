//! Schedules that lost data elsewhere, and how long it takes until somebody leads again.

use super::{observed, Cluster, Options, Report, START_US};
use crate::coverage::Coverage;
use crate::model::{violation, Checked, Violation};
use crate::trace::Trace;
use koine_base::disk::Survival;
use koine_base::GroupId;
use std::cell::RefCell;
use std::rc::Rc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// The power goes on all nodes at once in the midst of writes, and nothing unsynced survives.
    PowerCut,
    /// A minority stops; writes go on; one of the others loses its power and the rest stop; the first go
    /// on and the one that lost its power comes back: what was acknowledged meanwhile must be there.
    LastReplicaStanding,
    /// The same with partitions in place of stopped processes.
    LastReplicaApart,
}

impl Script {
    pub const ALL: [Script; 3] =
        [Script::PowerCut, Script::LastReplicaStanding, Script::LastReplicaApart];
}

pub fn run_script(script: Script, seed: u64) -> Report {
    observed(Trace::tail(), |trace, coverage| {
        let mut cluster = Cluster::new(Options::quiet(seed), trace, coverage);
        cluster.begin()?;
        cluster.go_on(2_000)?;
        match script {
            Script::PowerCut => cluster.power_cut()?,
            Script::LastReplicaStanding => cluster.last_replica(false)?,
            Script::LastReplicaApart => cluster.last_replica(true)?,
        }
        cluster.end()
    })
}

/// Virtual microseconds from the end of a leader until another one serves the same group; settings as they
/// are by default.
pub fn failover(seed: u64) -> Result<u64, Violation> {
    let trace = Rc::new(RefCell::new(Trace::tail()));
    let coverage = Rc::new(RefCell::new(Coverage::default()));
    let mut cluster = Cluster::new(Options::quiet(seed), trace, coverage);
    cluster.begin()?;
    cluster.go_on(2_000)?;
    let group = GroupId(1);
    let Some(leader) = cluster.serving(group) else { return violation("nobody leads") };
    let since = cluster.now_us;
    cluster.crash(leader);
    if !cluster.run_while(20_000_000, |cluster| cluster.serving(group).is_some())? {
        return violation("nobody leads again");
    }
    Ok(cluster.now_us - since)
}

impl Cluster {
    fn go_on(&mut self, ms: u64) -> Checked {
        let until = self.now_us.max(START_US) + ms * 1000;
        self.run_until(until)
    }

    fn lose_power(&mut self, node: usize) {
        self.crash(node);
        // Of what was not synced nothing at all is left.
        self.nodes[node].disk.crash(Survival::Nothing);
    }

    fn power_cut(&mut self) -> Checked {
        for _ in 0..3 {
            for node in 0..self.nodes.len() {
                self.lose_power(node);
            }
            for node in 0..self.nodes.len() {
                self.go_on(self.options.seed % 50)?;
                self.open(node)?;
            }
            self.go_on(1_500)?;
        }
        Ok(())
    }

    fn last_replica(&mut self, by_network: bool) -> Checked {
        let Some(leader) = self.serving(GroupId(1)) else { return violation("nobody leads") };
        let others: Vec<usize> = (0..self.nodes.len()).filter(|node| *node != leader).collect();
        let (behind, ahead) = (others[0], others[1]);
        // One falls behind while the leader and another go on.
        match by_network {
            true => self.network.only(&[leader, ahead]),
            false => self.nodes[behind].paused_until = self.now_us + 60_000_000,
        }
        self.go_on(1_000)?;
        let acked = self.history.acked_count;
        if acked == 0 {
            return violation("nothing was acknowledged by two of three");
        }
        // The one that has it all beside the leader loses its power, and the leader stops.
        self.lose_power(ahead);
        match by_network {
            true => self.network.only(&[behind, ahead]),
            false => {
                self.nodes[leader].paused_until = self.now_us + 60_000_000;
                self.nodes[behind].paused_until = 0;
            }
        }
        self.go_on(300)?;
        self.open(ahead)?;
        // These two are a majority: one of them leads, and has everything.
        self.go_on(3_000)?;
        self.nodes[leader].paused_until = 0;
        self.network.heal();
        self.go_on(2_000)
    }
}
