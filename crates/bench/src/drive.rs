//! One thread's event loop: it owns sockets, feeds producers as fast as windows and pace allow,
//! reads whatever arrives and hands it to the links. It knows no protocol.

use crate::clock::{nanos, Clock, Nanos, Schedule, Window};
use crate::failure::Failure;
use crate::plan::{Mode, Plan};
use crate::protocol::{Link, Opened};
use crate::shared::Shared;
use crate::tally::Tally;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::Timespec;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// A producer's bytes per write, while none are left over from the last one.
const WRITE_BYTES: usize = 128 << 10;
/// Bytes that one connection reads at once: large with few connections, small with many.
const READ_BYTES_MAX: usize = 256 << 10;
const READ_BYTES_MIN: usize = 16 << 10;
const READ_BYTES_ALL: usize = 32 << 20;
/// Largest frame that a broker may send.
const FRAME_BYTES_MAX: usize = 256 << 20;
/// Reads of one connection before others get their turn.
const READS_MAX: usize = 4;
const EVENTS_MAX: usize = 256;
/// Longest sleep: how late the end of a run may be noticed.
const SLEEP: Duration = Duration::from_millis(20);
/// The bell's number among the connections'.
const BELL: u64 = u64::MAX;

/// When a loop should go on without an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wait {
    Not,
    Until(Nanos),
    ForEvents,
}

/// How far one producer may go.
struct Pace {
    /// Nanoseconds between two messages of this producer; 0 saturates.
    step: f64,
    first: Nanos,
    sent: u64,
    limit: u64,
}

impl Pace {
    fn due(&self, at: Nanos) -> u64 {
        let left = self.limit - self.sent;
        if self.step == 0.0 {
            return left;
        }
        if at < self.first {
            return 0;
        }
        let due = ((at - self.first) as f64 / self.step) as u64 + 1;
        due.saturating_sub(self.sent).min(left)
    }

    fn time_of(&self, message: u64) -> Nanos {
        self.first + (self.step * message as f64) as Nanos
    }
}

struct Connection {
    stream: TcpStream,
    link: Box<dyn Link>,
    pace: Option<Pace>,
    input: Vec<u8>,
    filled: usize,
    output: Vec<u8>,
    written: usize,
    writable: bool,
    /// When its one message in flight was sent (latency mode).
    open_since: Option<Nanos>,
}

/// A connection and, for a producer, its index among all producers.
pub struct Assigned {
    pub opened: Opened,
    pub producer: Option<usize>,
}

pub struct Drive<'a> {
    plan: &'a Plan,
    clock: Clock,
    window: Window,
    shared: &'a Shared,
    thread: usize,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    producers: Vec<usize>,
    /// Connections with more to read than one turn allows.
    again: Vec<usize>,
    tally: Tally,
    turn: usize,
    /// Consumers of one message; scales the end-to-end window.
    copies: u64,
    delivered_before: u64,
}

impl<'a> Drive<'a> {
    /// `limit` is the most messages of each producer.
    pub fn new(
        plan: &'a Plan,
        clock: Clock,
        window: Window,
        shared: &'a Shared,
        thread: usize,
        assigned: Vec<Assigned>,
        limit: u64,
    ) -> Result<Self, Failure> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, shared.bell(thread), EventData::new_u64(BELL), EventFlags::IN)?;
        let read_bytes = (READ_BYTES_ALL / (plan.producers + plan.consumers).max(1))
            .clamp(READ_BYTES_MIN, READ_BYTES_MAX);
        let mut connections = Vec::with_capacity(assigned.len());
        let mut producers = Vec::new();
        for (index, Assigned { opened, producer }) in assigned.into_iter().enumerate() {
            let (stream, read_already) = opened.dialogue.into_parts();
            stream.set_nonblocking(true).map_err(|e| Failure::Io("setting up a socket", e))?;
            let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
            epoll::add(&epoll, &stream, EventData::new_u64(index as u64), flags)?;
            if producer.is_some() {
                producers.push(index);
            }
            let filled = read_already.len();
            let mut input = read_already;
            input.resize(filled + read_bytes, 0);
            // Whole units, or the last messages would never be sent.
            let unit = opened.link.unit().max(1);
            let limit = limit.checked_next_multiple_of(unit).unwrap_or(limit);
            let pace = producer.map(|producer| pace(plan, window, producer, limit));
            connections.push(Connection {
                stream,
                link: opened.link,
                pace,
                input,
                filled,
                output: Vec::new(),
                written: 0,
                writable: true,
                open_since: None,
            });
        }
        let copies = (0..plan.lanes).map(|lane| plan.readers_of(lane)).max().unwrap_or(0).max(1);
        Ok(Drive {
            plan,
            clock,
            window,
            shared,
            thread,
            epoll,
            connections,
            producers,
            again: Vec::new(),
            tally: Tally::new(window),
            turn: 0,
            copies: if plan.protocol == crate::plan::ProtocolName::Amqp { 1 } else { copies },
            delivered_before: 0,
        })
    }

    /// Runs until stopped; a failure stops all threads.
    pub fn run(mut self) -> Result<Tally, Failure> {
        let result = self.run_until_stopped();
        if let Err(failure) = result {
            // Whoever fails first says why; the others fail because of it or are merely stopped.
            let first = !self.shared.failed();
            self.shared.fail();
            return Err(if first { failure } else { Failure::Stopped });
        }
        Ok(self.tally)
    }

    fn run_until_stopped(&mut self) -> Result<(), Failure> {
        let at = self.clock.now();
        for index in 0..self.connections.len() {
            let connection = &mut self.connections[index];
            connection.link.start(&mut connection.output);
            // What set-up read too much.
            connection.take_in(at, &mut self.tally)?;
            connection.flush()?;
            self.again.push(index);
        }
        let mut events =
            vec![Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; EVENTS_MAX];
        while !self.shared.stopped() {
            let wait = self.feed_all()?;
            self.publish_totals();
            let count = self.wait(wait, &mut events)?;
            for again in std::mem::take(&mut self.again) {
                self.read(again)?;
            }
            for event in &events[..count] {
                let (index, flags) = (event.data.u64(), event.flags);
                if index == BELL {
                    let _ = rustix::io::read(self.shared.bell(self.thread), &mut [0u8; 8][..]);
                    continue;
                }
                let index = index as usize;
                if flags.contains(EventFlags::OUT) && !self.connections[index].writable {
                    self.connections[index].writable = true;
                    self.connections[index].flush()?;
                }
                if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
                    self.read(index)?;
                }
            }
        }
        self.publish_totals();
        Ok(())
    }

    fn publish_totals(&mut self) {
        self.shared.counters(self.thread).publish(&self.tally.totals);
        if self.plan.end_to_end > 0 && self.tally.totals.delivered != self.delivered_before {
            self.delivered_before = self.tally.totals.delivered;
            self.shared.wake_starved(self.thread);
        }
    }

    fn wait(&self, wait: Wait, events: &mut [Event]) -> Result<usize, Failure> {
        let pause = match wait {
            _ if self.plan.spin || !self.again.is_empty() => 0,
            Wait::Not => 0,
            Wait::Until(at) => at.saturating_sub(self.clock.now()).min(nanos(SLEEP)),
            Wait::ForEvents => nanos(SLEEP),
        };
        let timeout = Timespec { tv_sec: 0, tv_nsec: pause as i64 };
        match epoll::wait(&self.epoll, events, Some(&timeout)) {
            Ok(count) => Ok(count),
            Err(rustix::io::Errno::INTR) => Ok(0),
            Err(errno) => Err(errno.into()),
        }
    }

    fn feed_all(&mut self) -> Result<Wait, Failure> {
        let count = self.producers.len();
        if count == 0 {
            return Ok(Wait::ForEvents);
        }
        let at = self.clock.now();
        if at < self.window.origin {
            return Ok(Wait::Until(self.window.origin));
        }
        let ended = at >= self.window.end;
        let mut wait = Wait::ForEvents;
        for step in 0..count {
            let index = self.producers[(self.turn + step) % count];
            let at = if self.plan.mode == Mode::Latency { self.clock.now() } else { at };
            wait = wait.min(self.feed(index, at, ended)?);
        }
        self.turn = (self.turn + 1) % count;
        Ok(wait)
    }

    /// Lets one producer send what it may. The answer says when to try again.
    fn feed(&mut self, index: usize, at: Nanos, ended: bool) -> Result<Wait, Failure> {
        let connection = &mut self.connections[index];
        if !connection.output.is_empty() || connection.link.room() == 0 {
            return Ok(Wait::ForEvents);
        }
        let unit = connection.link.unit();
        let unit_bytes = connection.link.unit_bytes().max(1);
        let mut units = connection.link.room().min((WRITE_BYTES / unit_bytes).max(1) as u64);
        if self.plan.end_to_end > 0 {
            // Published first, so that this thread's own figures are up to date.
            self.shared.counters(self.thread).publish(&self.tally.totals);
            let allowed = self.under_way_allows(unit);
            if allowed == 0 {
                return Ok(Wait::ForEvents);
            }
            units = units.min(allowed);
        }
        let connection = &mut self.connections[index];
        if let Some(since) = connection.open_since.take() {
            self.tally.completed(since, at);
        }
        if ended {
            return Ok(Wait::ForEvents);
        }
        let pace = pace_of(connection);
        units = units.min(pace.due(at) / unit);
        if units == 0 {
            return Ok(match pace.sent + unit <= pace.limit {
                true => Wait::Until(pace.time_of(pace.sent + unit - 1)),
                false => Wait::ForEvents,
            });
        }
        let mut times = match pace.step {
            0.0 => Schedule::new(at, 0.0),
            step => Schedule::new(pace.time_of(pace.sent), step),
        };
        let sent =
            connection.link.publish(units, &mut times, &mut connection.output, &mut self.tally);
        pace_of(connection).sent += sent * unit;
        if self.plan.mode == Mode::Latency && sent > 0 && self.plan.rate.is_none() {
            connection.open_since = Some(at);
        }
        connection.flush()?;
        Ok(if sent > 0 && connection.writable { Wait::Not } else { Wait::ForEvents })
    }

    /// Units that the end-to-end window has room for.
    fn under_way_allows(&self, unit: u64) -> u64 {
        let allowed = |under_way: u64| {
            let messages = self.plan.end_to_end.saturating_sub(under_way.div_ceil(self.copies));
            // A window smaller than a unit still lets one unit through at a time.
            if under_way == 0 {
                (messages / unit).max(1)
            } else {
                messages / unit
            }
        };
        let units = allowed(self.shared.under_way());
        if units > 0 {
            return units;
        }
        // Asked for again after saying so, or a delivery in between would never ring.
        self.shared.set_starved(self.thread);
        allowed(self.shared.under_way())
    }

    fn read(&mut self, index: usize) -> Result<(), Failure> {
        let connection = &mut self.connections[index];
        for _ in 0..READS_MAX {
            let room = connection.input.len() - connection.filled;
            match connection.stream.read(&mut connection.input[connection.filled..]) {
                Ok(0) => return Err(Failure::Closed),
                Ok(count) => {
                    connection.filled += count;
                    connection.take_in(self.clock.now(), &mut self.tally)?;
                    if count < room {
                        connection.flush()?;
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    connection.flush()?;
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::Io("reading", error)),
            }
        }
        connection.flush()?;
        self.again.push(index);
        Ok(())
    }
}

fn pace_of(connection: &mut Connection) -> &mut Pace {
    connection.pace.as_mut().expect("only producers are fed, and each has a pace")
}

fn pace(plan: &Plan, window: Window, producer: usize, limit: u64) -> Pace {
    let step = plan.rate.map_or(0.0, |rate| 1e9 * plan.producers as f64 / rate);
    let shift = step * producer as f64 / plan.producers as f64;
    Pace { step, first: window.origin + shift as Nanos, sent: 0, limit }
}

impl Connection {
    /// Hands all whole frames to the link and keeps the rest at the front of the buffer.
    fn take_in(&mut self, at: Nanos, tally: &mut Tally) -> Result<(), Failure> {
        let input = &self.input[..self.filled];
        let used = self.link.receive(input, at, &mut self.output, tally)?;
        if used > 0 {
            self.input.copy_within(used..self.filled, 0);
            self.filled -= used;
        }
        if self.filled > self.input.len() / 4 * 3 {
            if self.input.len() >= FRAME_BYTES_MAX {
                return Err(Failure::Malformed("frame length"));
            }
            self.input.resize(self.input.len() * 2, 0);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        while self.writable && self.written < self.output.len() {
            match self.stream.write(&self.output[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::Io("writing", error)),
            }
        }
        if self.written == self.output.len() {
            self.output.clear();
            self.written = 0;
        }
        Ok(())
    }
}
