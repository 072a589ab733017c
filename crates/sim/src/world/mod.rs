//! The world around a node: its disk, its clock, its clients, and the order in which things happen.
//!
//! Everything that takes time in a real process is a [`Task`] with a moment drawn from the seed: a disk
//! request takes effect and later is reported, mail between shards arrives, a timer is looked at, a
//! client acts. The world takes the earliest task, lets the node react, and goes on.

pub mod actions;
pub(crate) mod answers;
pub mod client;
mod damage;
pub mod faults;
mod last_look;
pub(crate) mod node;
mod wire;
mod wire_life;

use crate::coverage::{Coverage, Mark};
use crate::disk::FaultyDisk;
use crate::model::{violation, Checked, Kind, Model, StreamModel, Value, Violation};
use crate::options::Options;
use crate::trace::Trace;
use client::{Client, Puppet};
use damage::Damage;
use koine_base::rng::Rng;
use koine_base::{ConnectionId, Moment, Now, StreamId};
use koine_broker::metadata::StreamOwner;
use koine_broker::session::{Event, QueueStatus, StreamBounds};
use koine_cluster::{Mail, Shard};
use koine_log::{IoRequest, IoResult};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// Tasks in a row without the node coming to rest: it goes round in circles.
const RESTLESS_TASKS_MAX: u64 = 500_000;

pub(super) enum Task {
    /// A disk request takes effect.
    Disk {
        shard: usize,
        request: IoRequest,
        number: u64,
    },
    /// Its shard hears of it.
    DiskDone {
        shard: usize,
        result: IoResult,
        number: u64,
    },
    /// Some of the mail from one shard to another arrives.
    Mail {
        from: usize,
        to: usize,
    },
    Tick {
        shard: usize,
    },
    Client {
        slot: usize,
    },
    /// A peer reads its socket.
    Written {
        slot: usize,
        id: ConnectionId,
    },
    Fault,
    Room,
    Wire(wire::Event),
}

impl Task {
    /// True for what the node itself has under way.
    fn is_of_node(&self) -> bool {
        !matches!(
            self,
            Task::Tick { .. } | Task::Client { .. } | Task::Fault | Task::Room | Task::Wire(_)
        )
    }
}

pub struct World {
    options: Options,
    disk: FaultyDisk,
    /// What went wrong with it, and what the node may do about that.
    damage: Damage,
    shards: Vec<Shard>,
    now: Now,
    wall_ahead_ms: i64,
    /// By moment, then in order of scheduling.
    tasks: BTreeMap<(u64, u64), Task>,
    task_count: u64,
    /// Tasks of the node itself among them.
    busy: u64,
    mail: BTreeMap<(usize, usize), VecDeque<Mail>>,
    ticks: Vec<u64>,
    disk_requests: u64,
    last_disk_done: u64,
    // One generator per concern, so that a change of one leaves the others as they were.
    schedule: Rng,
    workload: Rng,
    faults: Rng,
    /// The last one is the world's own: the scout that looks around after a start and at the end.
    clients: Vec<Client>,
    model: Model,
    wire: Option<Box<wire::Wire>>,
    serials: u64,
    client_steps: u64,
    life: u64,
    slow_until: u64,
    full_since: Option<u64>,
    full_until: u64,
    /// A disk error ended the node: it has to be started again.
    is_broken: bool,
    faults_on: bool,
    clients_on: bool,
    /// The last end of the node may have cost relaxed streams what was acknowledged.
    lost_allowed: bool,
    // What the scout heard last.
    kept: BTreeMap<u64, Value>,
    kept_bounds: Option<StreamBounds>,
    start: Option<u64>,
    status: Option<QueueStatus>,
    trace: Rc<RefCell<Trace>>,
    coverage: Rc<RefCell<Coverage>>,
}

impl World {
    pub fn new(
        options: Options,
        trace: Rc<RefCell<Trace>>,
        coverage: Rc<RefCell<Coverage>>,
    ) -> World {
        let seed = options.seed;
        let moment = Moment(1_000_000);
        let mut world = World {
            disk: FaultyDisk::default(),
            damage: Damage::default(),
            shards: Vec::new(),
            now: Now { moment, ..Now::default() },
            wall_ahead_ms: 0,
            tasks: BTreeMap::new(),
            task_count: 0,
            busy: 0,
            mail: BTreeMap::new(),
            ticks: Vec::new(),
            disk_requests: 0,
            last_disk_done: 0,
            schedule: Rng::new(seed ^ 0x5343_4845_4455_4C45),
            workload: Rng::new(seed ^ 0x574F_524B_4C4F_4144),
            faults: Rng::new(seed ^ 0x4641_554C_5453_0000),
            clients: (0..=options.client_count as usize).map(Client::new).collect(),
            model: Model::default(),
            wire: options.wire.as_ref().map(|wire| Box::new(wire::Wire::new(&options, wire))),
            serials: 0,
            client_steps: 0,
            life: 0,
            slow_until: 0,
            full_since: None,
            full_until: 0,
            is_broken: false,
            faults_on: true,
            clients_on: true,
            lost_allowed: true,
            kept: BTreeMap::new(),
            kept_bounds: None,
            start: None,
            status: None,
            trace,
            coverage,
            options,
        };
        world.now.wall = world.wall(moment.0);
        world.disk.lie_about_syncs(world.options.is_lying);
        world
    }

    /// From the first start to the last look.
    pub fn live(mut self) -> Checked {
        let outcome = self.live_on();
        self.judge_damage(outcome)
    }

    fn live_on(&mut self) -> Checked {
        self.note(|| format!("seed {}", self.options.seed));
        self.open()?;
        if self.wire.is_some() {
            return self.live_wired();
        }
        for slot in 0..self.scout() {
            let wait = 1 + self.workload.below(self.options.think_us * 2);
            self.schedule(wait, Task::Client { slot });
        }
        self.schedule_fault();
        while self.client_steps < self.options.steps {
            self.run_task()?;
        }
        self.last_look()
    }

    fn scout(&self) -> usize {
        self.clients.len() - 1
    }

    fn note(&self, line: impl FnOnce() -> String) {
        let line = format!("{:>10} {}", self.now.moment.0, line());
        self.trace.borrow_mut().line(line);
    }

    fn mark(&self, mark: Mark) {
        self.coverage.borrow_mut().hit(mark);
    }

    fn serial(&mut self) -> u64 {
        self.serials += 1;
        self.serials
    }

    fn schedule(&mut self, wait_us: u64, task: Task) {
        self.task_count += 1;
        self.busy += u64::from(task.is_of_node());
        self.tasks.insert((self.now.moment.0 + wait_us, self.task_count), task);
    }

    fn advance_to(&mut self, moment_us: u64) {
        let moment_us = moment_us.max(self.now.moment.0);
        self.now = Now { moment: Moment(moment_us), wall: self.wall(moment_us) };
    }

    /// The next thing happens.
    fn run_task(&mut self) -> Checked {
        let Some(((at, _), task)) = self.tasks.pop_first() else {
            return violation("nothing is left to happen");
        };
        self.busy -= u64::from(task.is_of_node());
        self.advance_to(at);
        match task {
            Task::Client { slot } => {
                let wait = 1 + self.workload.below(self.options.think_us * 2);
                self.schedule(wait, Task::Client { slot });
                if self.clients_on {
                    self.client_steps += 1;
                    if self.clients[slot].connection.is_none() {
                        self.connect(slot);
                    }
                    self.step_client(slot);
                    self.pump_all()?;
                }
            }
            Task::Fault if self.faults_on && self.clients_on => self.make_fault()?,
            Task::Fault => self.schedule_fault(),
            Task::Room => self.make_room(),
            Task::Wire(event) => self.run_wire(event)?,
            of_node => self.run_node_task(of_node)?,
        }
        if self.is_broken {
            let survival = self.any_crash();
            self.crash(survival)?;
        }
        Ok(())
    }

    fn run_node_task(&mut self, task: Task) -> Checked {
        match task {
            Task::Disk { shard, request, number } => self.run_disk(shard, request, number),
            Task::DiskDone { shard, result, number } => self.report_disk(shard, result, number)?,
            Task::Mail { from, to } => self.deliver_mail(from, to)?,
            Task::Tick { shard } => {
                self.ticks[shard] = u64::MAX;
                self.shards[shard].tick(self.now);
                self.pump(shard)?;
            }
            Task::Written { slot, id } => self.take_output(slot, id)?,
            Task::Client { .. } | Task::Fault | Task::Room | Task::Wire(_) => {
                unreachable!("not of the node")
            }
        }
        Ok(())
    }

    fn deliver_mail(&mut self, from: usize, to: usize) -> Checked {
        let Some(waiting) = self.mail.get_mut(&(from, to)).filter(|mail| !mail.is_empty()) else {
            return Ok(());
        };
        let count = 1 + self.schedule.below(waiting.len() as u64) as usize;
        let mail: Vec<Mail> = waiting.drain(..count).collect();
        self.note(|| format!("shard {to}: {} mail from {from}", mail.len()));
        self.shards[to].mail(self.now, mail);
        self.pump(to)
    }

    /// Takes away what a shard has left to do for others, and lets its clients hear what it says.
    fn pump(&mut self, shard: usize) -> Checked {
        while let Some(request) = self.shards[shard].poll_io() {
            self.start_disk(shard, request);
        }
        for (to, mail) in self.shards[shard].take_outbox() {
            let to = usize::from(to.0);
            if let Mail::Event { to, event: Event::ConsumerCancelled { consumer, stream } } = &mail
            {
                self.cancel_leaves(*to, *stream, *consumer)?;
            }
            self.mail.entry((shard, to)).or_default().push_back(mail);
            let wait = 1 + self.schedule.below(self.options.mail_us * 2);
            self.schedule(wait, Task::Mail { from: shard, to });
        }
        for id in self.shards[shard].take_changed() {
            let waits = self.shards[shard].output(id).is_some_and(|output| !output.is_empty());
            let slot = self.clients.iter().position(|c| c.connection == Some((shard, id)));
            if let (true, Some(slot)) = (waits, slot) {
                let wait = 1 + self.schedule.below(self.options.peer_us);
                self.schedule(wait, Task::Written { slot, id });
            }
            self.wire_changed(shard, id);
        }
        let deadline = self.shards[shard].deadline().0;
        if deadline < self.ticks[shard] {
            self.ticks[shard] = deadline;
            let wait = deadline.saturating_sub(self.now.moment.0) + self.schedule.below(200);
            self.schedule(wait.min(60_000_000), Task::Tick { shard });
        }
        for slot in 0..self.clients.len() {
            if self.clients[slot].connection.is_some_and(|(of, _)| of == shard) {
                self.hear(slot)?;
            }
        }
        Ok(())
    }

    fn pump_all(&mut self) -> Checked {
        for shard in 0..self.shards.len() {
            self.pump(shard)?;
        }
        Ok(())
    }

    /// A client's place is at the same shard every time: what it sent over an earlier connection
    /// arrives before what it sends over this one.
    fn connect(&mut self, slot: usize) {
        let shard = slot % self.shards.len();
        let client = &mut self.clients[slot];
        client.script = Rc::default();
        let puppet = Puppet(Rc::clone(&client.script));
        let id = self.shards[shard].connect(self.now, Box::new(puppet));
        client.connection = Some((shard, id));
        client.connections += 1;
        self.note(|| format!("client {slot} connects to shard {shard} as {}", id.raw()));
    }

    /// Hands what the client prepared to its session.
    fn send(&mut self, slot: usize) {
        let Some((shard, id)) = self.clients[slot].connection else { return };
        {
            let script = self.clients[slot].script.borrow();
            for request in &script.requests {
                self.note(|| format!("client {slot} {}", answers::summary_of(request)));
            }
        }
        self.shards[shard].receive(self.now, id, &mut bytes::BytesMut::new());
    }

    /// The client is gone without a word.
    fn drop_client(&mut self, slot: usize) {
        let Some((shard, id)) = self.clients[slot].connection else { return };
        self.mark(Mark::PeerGone);
        self.note(|| format!("client {slot} is gone"));
        // What it had prepared was never sent.
        self.send(slot);
        self.shards[shard].disconnected(self.now, id);
        for stream in self.model.streams.values_mut() {
            stream.cursor.end_connection(id.raw());
        }
        let open: Vec<_> = self.clients[slot].waiting.values().cloned().collect();
        for asked in open {
            self.forget_question(slot, &asked);
        }
        self.clients[slot].forget_connection();
    }

    fn take_output(&mut self, slot: usize, id: ConnectionId) -> Checked {
        let Some((shard, _)) = self.clients[slot].connection.filter(|(_, of)| *of == id) else {
            return Ok(());
        };
        if let Some(output) = self.shards[shard].output(id) {
            let bytes = output.len();
            if bytes as u64 >= node::OUTPUT_BYTES_MAX as u64 / 2 {
                self.coverage.borrow_mut().hit(Mark::PeerSlow);
            }
            output.advance(bytes);
        }
        self.shards[shard].written(self.now, id);
        self.pump(shard)
    }

    /// The model learns of a stream that came to be as a side effect.
    fn discover(&mut self, slot: usize, id: StreamId) {
        if self.model.streams.contains_key(&id) {
            return;
        }
        let Some((shard, _)) = self.clients[slot].connection else { return };
        let metadata = self.shards[shard].metadata();
        let kind = match metadata.stream_owner(id) {
            Some(StreamOwner::Backlog { .. }) => Kind::Backlog,
            Some(StreamOwner::Shared { .. }) => Kind::Queue,
            _ => return,
        };
        let strict = !metadata.is_relaxed(id.group());
        let name = format!("${}", id);
        self.model.streams.insert(id, StreamModel::new(id, name, kind, strict));
    }

    /// Lets everything that the node has under way come to its end, and some time pass.
    fn rest(&mut self) -> Checked {
        let until = self.now.moment.0 + node::REST_US;
        for _ in 0..RESTLESS_TASKS_MAX {
            if self.busy == 0 && self.now.moment.0 >= until {
                return Ok(());
            }
            if self.busy == 0 {
                let next = self.tasks.first_key_value().map_or(u64::MAX, |((at, _), _)| *at);
                if next > until {
                    self.advance_to(until);
                    continue;
                }
            }
            self.run_task()?;
        }
        Err(Violation("the node never comes to rest".to_owned()))
    }
}
