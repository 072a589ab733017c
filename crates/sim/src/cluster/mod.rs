//! A cluster: several nodes that replicate their groups, the network between them, clients that follow the
//! leaders, and all that goes wrong meanwhile. One seed decides everything.
//!
//! First faults of all kinds come and go while clients write and read (safety), then all of it or a
//! majority alone is healed and has to get on within a bound (liveness), then everything that was
//! acknowledged has to be there and all replicas have to agree.
//!
//! It judges by what clients hear and by the positions and fingerprints that replicas report; it must
//! never draw from anything but its seed.

mod checks;
pub mod clients;
mod ending;
pub mod faults;
mod hearing;
mod history;
mod network;
mod node;
mod operator;
mod options;
mod scripts;
#[cfg(test)]
mod tests;

pub use options::Options;
pub use scripts::{failover, run_script, Script};

use crate::coverage::{Coverage, Mark};
use crate::model::{violation, Checked, Value, Violation};
use crate::trace::Trace;
use checks::Checks;
use clients::Client;
use history::History;
use koine_base::rng::Rng;
use koine_base::{ConnectionId, NodeId};
use koine_broker::session::QueueStatus;
use koine_log::{IoRequest, IoResult};
use network::Network;
use node::{Node, START_US};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// How often replicas are compared.
const CHECK_EVERY_US: u64 = 20_000;

/// How often a stopped process is looked at.
const PAUSE_LOOK_US: u64 = 20_000;

/// Tasks of one run; more is a run that goes round in circles.
const TASKS_MAX: u64 = 20_000_000;

enum Task {
    /// A disk request takes effect, whether or not the process is stopped.
    Disk {
        node: usize,
        life: u64,
        shard: usize,
        request: Box<IoRequest>,
    },
    DiskDone {
        node: usize,
        life: u64,
        shard: usize,
        result: Box<IoResult>,
    },
    /// Between shards of one node.
    Mail {
        node: usize,
        life: u64,
        from: usize,
        to: usize,
    },
    /// A client's connection ends.
    HangUp {
        node: usize,
        life: u64,
        shard: usize,
        connection: ConnectionId,
    },
    /// Between nodes.
    Peer {
        from: usize,
        to: usize,
        shard: usize,
        bytes: Vec<u8>,
    },
    /// Void if the shard is looked at at another moment by now.
    Tick {
        node: usize,
        life: u64,
        shard: usize,
        due: u64,
    },
    Client {
        slot: usize,
    },
    Restart {
        node: usize,
    },
    Heal,
    Fault,
    /// The voters are made to be the wanted ones.
    Operate,
    Check,
}

pub struct Cluster {
    options: Options,
    nodes: Vec<Node>,
    network: Network,
    now_us: u64,
    tasks: BTreeMap<(u64, u64), Task>,
    task_count: u64,
    // One generator per concern, so that a change of one leaves the others as they were.
    schedule: Rng,
    workload: Rng,
    faults: Rng,
    clients: Vec<Client>,
    history: History,
    checks: Checks,
    /// Who shall vote, ascending.
    wanted: Vec<NodeId>,
    has_changed_voters: bool,
    /// The place of a node that lost its disk is not filled yet.
    is_wiped_open: bool,
    /// Of 1000 mails.
    lost: u64,
    doubled: u64,
    faults_on: bool,
    clients_on: bool,
    // What the scout heard last.
    kept: BTreeMap<u64, Value>,
    kept_end: Option<u64>,
    status: Option<QueueStatus>,
    fetched: Option<(String, i32)>,
    retained_read: Option<String>,
    trace: Rc<RefCell<Trace>>,
    coverage: Rc<RefCell<Coverage>>,
}

/// What came of one run.
pub struct Report {
    pub outcome: Result<(), Violation>,
    pub coverage: Coverage,
    pub trace: Trace,
}

/// One whole life of a cluster. A panic of a node counts as a violation.
pub fn run(options: Options, trace: Trace) -> Report {
    observed(trace, |trace, coverage| Cluster::new(options, trace, coverage).live())
}

/// Runs something that makes a cluster, and catches what it panics with.
fn observed(
    trace: Trace,
    run: impl FnOnce(Rc<RefCell<Trace>>, Rc<RefCell<Coverage>>) -> Checked,
) -> Report {
    let trace = Rc::new(RefCell::new(trace));
    let coverage = Rc::new(RefCell::new(Coverage::default()));
    let outcome = crate::caught(|| run(Rc::clone(&trace), Rc::clone(&coverage)));
    let (coverage, trace) = (coverage.take(), trace.take());
    Report { outcome, coverage, trace }
}

impl Cluster {
    fn new(
        options: Options,
        trace: Rc<RefCell<Trace>>,
        coverage: Rc<RefCell<Coverage>>,
    ) -> Cluster {
        let seed = options.seed;
        let count = options.nodes as usize;
        let voters: Vec<NodeId> = (1..=count as u32).map(NodeId).collect();
        let mut schedule = Rng::new(seed ^ 0x5343_4845_4455_0001);
        let mut drift = || {
            let most = options.drift_ppm_max;
            schedule.below(2 * most + 1) as i64 - most as i64
        };
        let nodes: Vec<Node> =
            voters.iter().map(|id| Node::new(*id, voters.clone(), drift())).collect();
        Cluster {
            network: Network::new(count),
            nodes,
            now_us: START_US,
            tasks: BTreeMap::new(),
            task_count: 0,
            schedule,
            workload: Rng::new(seed ^ 0x574F_524B_4C4F_0001),
            faults: Rng::new(seed ^ 0x4641_554C_5453_0001),
            clients: (0..=options.clients as usize).map(Client::new).collect(),
            history: History::default(),
            checks: Checks::default(),
            wanted: Vec::new(),
            has_changed_voters: false,
            is_wiped_open: false,
            lost: options.lost,
            doubled: options.doubled,
            faults_on: true,
            clients_on: true,
            kept: BTreeMap::new(),
            kept_end: None,
            status: None,
            fetched: None,
            retained_read: None,
            trace,
            coverage,
            options,
        }
    }

    fn live(mut self) -> Checked {
        self.begin()?;
        self.schedule_fault();
        let until = self.now_us + self.options.run_ms * 1000;
        self.run_until(until)?;
        self.end()
    }

    /// Starts every node and every client.
    fn begin(&mut self) -> Checked {
        self.note(|| format!("seed {}", self.options.seed));
        for node in 0..self.nodes.len() {
            self.open(node)?;
        }
        for slot in 0..self.scout() {
            let wait = 1 + self.workload.below(self.options.think_us * 2);
            self.after(wait, Task::Client { slot });
        }
        self.after(CHECK_EVERY_US, Task::Check);
        self.begin_operating();
        Ok(())
    }

    /// The last client is the world's own, for the last look.
    fn scout(&self) -> usize {
        self.clients.len() - 1
    }

    fn note(&self, line: impl FnOnce() -> String) {
        let line = format!("{:>10} {}", self.now_us, line());
        self.trace.borrow_mut().line(line);
    }

    fn mark(&self, mark: Mark) {
        self.coverage.borrow_mut().hit(mark);
    }

    fn after(&mut self, wait_us: u64, task: Task) {
        self.task_count += 1;
        self.tasks.insert((self.now_us + wait_us, self.task_count), task);
    }

    fn run_until(&mut self, until_us: u64) -> Checked {
        while let Some(((at, _), _)) = self.tasks.first_key_value() {
            if *at > until_us {
                break;
            }
            self.run_task()?;
        }
        self.now_us = self.now_us.max(until_us);
        Ok(())
    }

    /// Runs until `done`; false if it is not so within the time.
    fn run_while(
        &mut self,
        time_us: u64,
        mut is_done: impl FnMut(&Cluster) -> bool,
    ) -> Result<bool, Violation> {
        let until = self.now_us + time_us;
        while !is_done(self) {
            match self.tasks.first_key_value() {
                Some(((at, _), _)) if *at <= until => self.run_task()?,
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    fn run_task(&mut self) -> Checked {
        let Some(((at, number), task)) = self.tasks.pop_first() else {
            return violation("nothing is left to happen");
        };
        if number > TASKS_MAX {
            return violation("the cluster goes round in circles");
        }
        self.now_us = self.now_us.max(at);
        if let Some(resumes) = self.waits_for_process(&task) {
            // In the order in which it came.
            self.tasks.insert((resumes, number), task);
            return Ok(());
        }
        match task {
            Task::Client { slot } => {
                let wait = 1 + self.workload.below(self.options.think_us * 2);
                self.after(wait, Task::Client { slot });
                match self.clients_on {
                    true => self.step_client(slot),
                    false => Ok(()),
                }
            }
            Task::Restart { node } => self.open(node),
            Task::Heal => {
                self.heal_network();
                Ok(())
            }
            Task::Fault if self.faults_on => self.make_fault(),
            Task::Fault => Ok(()),
            Task::Operate => self.operate(),
            Task::Check => {
                self.after(CHECK_EVERY_US, Task::Check);
                self.note_filled_place();
                self.check_replicas()
            }
            of_node => self.run_node_task(of_node),
        }
    }

    /// When to try again, if the task is one of a stopped process.
    fn waits_for_process(&self, task: &Task) -> Option<u64> {
        let node = match task {
            Task::DiskDone { node, .. }
            | Task::Mail { node, .. }
            | Task::HangUp { node, .. }
            | Task::Tick { node, .. } => node,
            Task::Peer { to, .. } => to,
            _ => return None,
        };
        let resumes = self.nodes[*node].paused_until;
        // Looked at again now and then: it may be told to go on sooner.
        let next_look = (self.now_us / PAUSE_LOOK_US + 1) * PAUSE_LOOK_US;
        (resumes > self.now_us).then_some(next_look)
    }

    fn run_node_task(&mut self, task: Task) -> Checked {
        let (node, life) = match &task {
            Task::Disk { node, life, .. }
            | Task::DiskDone { node, life, .. }
            | Task::Mail { node, life, .. }
            | Task::HangUp { node, life, .. }
            | Task::Tick { node, life, .. } => (*node, *life),
            Task::Peer { from, to, shard, bytes } => {
                return self.deliver(*from, *to, *shard, bytes);
            }
            _ => return Ok(()),
        };
        if !self.nodes[node].is_up() || self.nodes[node].life != life {
            return Ok(());
        }
        let now = self.nodes[node].now(self.now_us);
        match task {
            Task::Disk { shard, request, .. } => self.run_disk(node, shard, *request),
            Task::DiskDone { shard, result, .. } => self.report_disk(node, shard, *result)?,
            Task::Mail { from, to, .. } => {
                let waiting = self.nodes[node].mail.get_mut(&(from, to));
                let mail = waiting.and_then(|waiting| waiting.pop_front());
                self.nodes[node].shards[to].mail(now, mail);
                self.pump(node, to)?;
            }
            Task::HangUp { shard, connection, .. } => {
                self.nodes[node].shards[shard].disconnected(now, connection);
                self.pump(node, shard)?;
            }
            Task::Tick { shard, due, .. } if self.nodes[node].ticks[shard] == due => {
                self.nodes[node].ticks[shard] = u64::MAX;
                self.nodes[node].shards[shard].tick(now);
                self.pump(node, shard)?;
            }
            _ => {}
        }
        Ok(())
    }
}
