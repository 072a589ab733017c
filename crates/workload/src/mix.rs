//! A seeded random workload over clients of all three protocols, in poll style: the host moves bytes and
//! tells the time, and nothing here knows whether time and wires are real.

use crate::check::{judge, Kind, Rules, Verdict};
use crate::client::{Client, Phase, Protocol, Step};
use crate::history::{History, Note, Process};
use crate::topology;
use koine_base::rng::Rng;
use koine_base::{Moment, Now};

/// Bytes of one connection that may wait for the rest of their frame: more than the largest frame.
const INPUT_BYTES_MAX: usize = 320 << 20;
/// A drain that has been quiet for so long looks whether something is missing, and again whenever it has
/// been quiet for half as long again.
const LOOK_AFTER_MS: u64 = 500;
/// How much slower clients turn while they only wait.
const WAITING_SLOWNESS: u64 = 20;

/// One connection of one client. A client's connections have different numbers, so that what arrives
/// late from an old one is not taken for the new one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Link {
    pub client: usize,
    pub connection: u32,
}

/// What the host is asked to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Answered by [`Mix::connected`] or [`Mix::closed`].
    Connect {
        link: Link,
        protocol: Protocol,
    },
    Send {
        link: Link,
        bytes: Vec<u8>,
    },
    /// The connection is of no use any more; nothing is to be reported of it.
    Close {
        link: Link,
    },
}

/// What a mix is made of. Counts of 0 leave clients out.
#[derive(Clone, Debug)]
pub struct MixOptions {
    pub seed: u64,
    /// Tells the names and payloads of this run from those of others on the same node.
    pub run: u32,
    pub kafka_writers: usize,
    pub kafka_readers: usize,
    pub amqp_publishers: usize,
    pub amqp_consumers: usize,
    pub mqtt_publishers: usize,
    pub mqtt_subscribers: usize,
    /// Retained messages set and looked at.
    pub retained: bool,
    /// Mean time between two turns of one client.
    pub think_us: u64,
    /// Largest body; most are a sixteenth of it at most.
    pub body_bytes_max: usize,
    /// A client ends its connection without a word once in so many turns; 0 for never.
    pub drop_every: u64,
    /// Mean time until a client connects again.
    pub reconnect_us: u64,
    /// An unanswered client gives its connection up after this time.
    pub answer_timeout_ms: u64,
    /// A drain ends when nothing has been read for so long, though something is missing.
    pub quiet_ms: u64,
    pub rules: Rules,
}

impl MixOptions {
    pub fn new(seed: u64) -> Self {
        MixOptions {
            seed,
            run: seed as u32,
            kafka_writers: 3,
            kafka_readers: 2,
            amqp_publishers: 2,
            amqp_consumers: 4,
            mqtt_publishers: 2,
            mqtt_subscribers: 3,
            retained: true,
            think_us: 5_000,
            body_bytes_max: 4096,
            drop_every: 300,
            reconnect_us: 50_000,
            answer_timeout_ms: 30_000,
            quiet_ms: 10_000,
            rules: Rules::default(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Offline { until: Moment },
    Connecting { since: Moment },
    Online { heard: Moment },
}

struct Slot {
    process: Process,
    client: Box<dyn Client>,
    state: State,
    connection: u32,
    input: Vec<u8>,
    next_turn: Moment,
    rng: Rng,
}

/// How far a drain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Draining {
    No,
    /// Writers finish.
    Writes,
    Reads,
    Done,
}

pub struct Mix {
    options: MixOptions,
    slots: Vec<Slot>,
    history: History,
    phase: Phase,
    draining: Draining,
    wishes: Vec<Wish>,
    /// When the last read was seen, and how many there were.
    last_read: (Moment, usize),
    last_look: Moment,
}

impl Mix {
    pub fn new(options: MixOptions) -> Self {
        let mut history = History::default();
        let clients = topology::clients(&options, &mut history);
        let slots = clients.into_iter().enumerate().map(|(index, client)| Slot {
            process: index as Process,
            client,
            state: State::Offline { until: Moment::default() },
            connection: 0,
            input: Vec::new(),
            next_turn: Moment::default(),
            rng: Rng::new(options.seed ^ (index as u64 + 1) << 40),
        });
        Mix {
            slots: slots.collect(),
            options,
            history,
            phase: Phase::SetUp,
            draining: Draining::No,
            wishes: Vec::new(),
            last_read: (Moment::default(), 0),
            last_look: Moment::default(),
        }
    }

    /// Lets every client whose time has come do something, and says what the host is to do.
    pub fn poll(&mut self, now: Now) -> Vec<Wish> {
        self.advance(now);
        for index in 0..self.slots.len() {
            self.poll_slot(index, now);
        }
        std::mem::take(&mut self.wishes)
    }

    /// When to poll next at the latest; earlier after anything that was reported.
    pub fn deadline(&self) -> Moment {
        if !self.wishes.is_empty() {
            return Moment::default();
        }
        let due = self.slots.iter().map(|slot| match slot.state {
            State::Offline { until } => until,
            State::Connecting { since } => since.after_ms(self.options.answer_timeout_ms),
            State::Online { .. } => slot.next_turn,
        });
        due.min().unwrap_or(Moment::NEVER)
    }

    /// The connection that was wished for is there.
    pub fn connected(&mut self, now: Now, link: Link) {
        if !self.is_current(link) {
            return;
        }
        let slot = &mut self.slots[link.client];
        slot.state = State::Online { heard: now.moment };
        slot.next_turn = now.moment;
        slot.input.clear();
        let process = slot.process;
        self.history.note(process, Note::Connected);
        self.step(link.client, now, |client, step| client.connected(step));
    }

    /// Bytes came, cut anywhere.
    pub fn receive(&mut self, now: Now, link: Link, bytes: &[u8]) {
        if !self.is_current(link) {
            return;
        }
        let slot = &mut self.slots[link.client];
        slot.state = State::Online { heard: now.moment };
        slot.input.extend_from_slice(bytes);
        let input = std::mem::take(&mut slot.input);
        let mut outcome = Ok(0);
        self.step(link.client, now, |client, step| {
            outcome = client.receive(&input, step);
            if let Err(malformed) = outcome {
                step.close = true;
                let process = link.client as Process;
                step.history.note(process, Note::Malformed(malformed.to_string()));
            }
        });
        if let (Ok(used), true) = (outcome, self.is_current(link)) {
            let slot = &mut self.slots[link.client];
            slot.input = input;
            slot.input.drain(..used);
            if slot.input.len() > INPUT_BYTES_MAX {
                self.history.note(slot.process, Note::Malformed("endless frame".to_owned()));
                self.give_up(link.client, now);
            }
        }
    }

    /// The connection ended, or never came about.
    pub fn closed(&mut self, now: Now, link: Link) {
        if self.is_current(link) {
            let process = self.slots[link.client].process;
            self.history.note(process, Note::ConnectionLost);
            self.end_connection(link.client, now);
        }
    }

    /// From now on nothing new is begun: writers finish, then readers read everything.
    pub fn drain(&mut self, now: Now) {
        self.phase = Phase::Drain;
        self.draining = self.draining.max(Draining::Writes);
        self.last_read = (now.moment, self.history.reads.len());
    }

    /// Everything is made and the load has begun.
    pub fn is_loading(&self) -> bool {
        self.phase >= Phase::Load
    }

    /// Everything was read, or nothing has come for [`MixOptions::quiet_ms`].
    pub fn is_drained(&self) -> bool {
        self.draining == Draining::Done
    }

    /// The broker is made to run short of something: see [`Rules::refuses`].
    pub fn expect_refusals(&mut self) {
        self.options.rules.refuses = true;
    }

    /// The broker was killed: see [`Rules::repeats_wills`].
    pub fn expect_wills_again(&mut self) {
        self.options.rules.repeats_wills = true;
    }

    pub fn history(&self) -> &History {
        &self.history
    }

    /// Whether promises were kept; of meaning once it is drained.
    pub fn judge(&self) -> Verdict {
        judge(&self.history, self.options.rules)
    }

    /// The clients that a drain waits for, for whoever asks why it does not end.
    pub fn unfinished(&self) -> Vec<(Process, Protocol, String)> {
        let is_open = |slot: &&Slot| {
            !matches!(slot.state, State::Online { .. })
                || !slot.client.is_set_up()
                || !slot.client.is_finished()
                || !slot.client.has_read_all()
        };
        let name = |slot: &Slot| {
            let client = &slot.client;
            let text = format!(
                "{:?}, set up {}, finished {}, has read all {}",
                slot.state,
                client.is_set_up(),
                client.is_finished(),
                client.has_read_all()
            );
            (slot.process, client.protocol(), text)
        };
        self.slots.iter().filter(is_open).map(name).collect()
    }

    fn is_current(&self, link: Link) -> bool {
        self.slots.get(link.client).is_some_and(|slot| {
            slot.connection == link.connection && !matches!(slot.state, State::Offline { .. })
        })
    }

    fn advance(&mut self, now: Now) {
        if self.phase == Phase::SetUp && self.slots.iter().all(|slot| slot.client.is_set_up()) {
            self.phase = Phase::Load;
        }
        if self.history.reads.len() != self.last_read.1 {
            self.last_read = (now.moment, self.history.reads.len());
        }
        match self.draining {
            Draining::Writes if self.slots.iter().all(|slot| slot.client.is_finished()) => {
                self.slots.iter_mut().for_each(|slot| slot.client.read_all());
                self.draining = Draining::Reads;
                self.last_read.0 = now.moment;
            }
            Draining::Reads => self.finish_reads(now),
            _ => {}
        }
    }

    fn finish_reads(&mut self, now: Now) {
        let quiet_ms = self.quiet_ms(now);
        let since_look_ms = now.moment.since(self.last_look).as_millis() as u64;
        if quiet_ms < LOOK_AFTER_MS || since_look_ms < quiet_ms / 3 {
            return;
        }
        self.last_look = now.moment;
        let is_read =
            |slot: &Slot| slot.client.has_read_all() && matches!(slot.state, State::Online { .. });
        if self.slots.iter().all(is_read)
            && (quiet_ms >= self.options.quiet_ms || !self.is_missing_anything())
        {
            self.draining = Draining::Done;
        }
    }

    fn quiet_ms(&self, now: Now) -> u64 {
        now.moment.since(self.last_read.0).as_millis() as u64
    }

    fn is_missing_anything(&self) -> bool {
        let missing = [Kind::Lost, Kind::LostWrite, Kind::Unseen];
        self.judge().anomalies.iter().any(|anomaly| missing.contains(&anomaly.kind))
    }

    fn poll_slot(&mut self, index: usize, now: Now) {
        let is_waiting = self.draining == Draining::Reads && self.quiet_ms(now) > LOOK_AFTER_MS;
        let slowness = if is_waiting { WAITING_SLOWNESS } else { 1 };
        let timeout_ms = self.options.answer_timeout_ms;
        let is_late = |since: Moment| now.moment >= since.after_ms(timeout_ms);
        let slot = &mut self.slots[index];
        match slot.state {
            State::Offline { until } if until <= now.moment => {
                slot.connection += 1;
                slot.state = State::Connecting { since: now.moment };
                let link = Link { client: index, connection: slot.connection };
                self.wishes.push(Wish::Connect { link, protocol: slot.client.protocol() });
            }
            State::Connecting { since } if is_late(since) => self.give_up(index, now),
            State::Online { heard } if slot.client.is_waiting() && is_late(heard) => {
                let process = self.slots[index].process;
                self.history.note(process, Note::Refused("no answer in time".to_owned()));
                self.give_up(index, now);
            }
            State::Online { .. } if slot.next_turn <= now.moment => {
                let wait = 1 + slot.rng.below(self.options.think_us * 2 * slowness);
                slot.next_turn = Moment(now.moment.0 + wait);
                let drops = self.phase == Phase::Load
                    && self.options.drop_every > 0
                    && slot.rng.chance(1, self.options.drop_every);
                if drops {
                    self.give_up(index, now);
                } else {
                    self.step(index, now, |client, step| client.act(step));
                }
            }
            _ => {}
        }
    }

    /// Ends the connection from this side.
    fn give_up(&mut self, index: usize, now: Now) {
        let link = Link { client: index, connection: self.slots[index].connection };
        self.wishes.push(Wish::Close { link });
        self.end_connection(index, now);
    }

    fn end_connection(&mut self, index: usize, now: Now) {
        let slot = &mut self.slots[index];
        let wait = 1 + slot.rng.below(self.options.reconnect_us * 2);
        slot.state = State::Offline { until: Moment(now.moment.0 + wait) };
        slot.input.clear();
        self.step(index, now, |client, step| client.lost(step));
    }

    /// One step of one client, and what it leaves.
    fn step(&mut self, index: usize, now: Now, run: impl FnOnce(&mut dyn Client, &mut Step<'_>)) {
        let slot = &mut self.slots[index];
        let mut out = Vec::new();
        let mut step = Step {
            now,
            phase: self.phase,
            run: self.options.run,
            body_bytes_max: self.options.body_bytes_max,
            rng: &mut slot.rng,
            history: &mut self.history,
            out: &mut out,
            close: false,
        };
        run(slot.client.as_mut(), &mut step);
        let close = step.close;
        if matches!(slot.state, State::Offline { .. }) {
            return;
        }
        let link = Link { client: index, connection: slot.connection };
        if !out.is_empty() {
            self.wishes.push(Wish::Send { link, bytes: out });
        }
        if close {
            self.give_up(index, now);
        }
    }
}
