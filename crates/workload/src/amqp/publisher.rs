//! A publisher with confirms: persistent, mandatory messages to queues, subjects and, to see them come
//! back, to nowhere. It never publishes a message again: unanswered ones stay unknown.

use super::connection::{Connection, Content, Heard, CHANNEL};
use super::Queue;
use crate::client::{Client, Phase, Protocol, Step};
use crate::frames::amqp::{method, put_method};
use crate::frames::wire::Put;
use crate::frames::Malformed;
use crate::history::{Note, Outcome, Process, Promise, RouteId, WriteId};
use crate::value::{Found, Value};
use std::collections::VecDeque;

/// Messages that wait for their confirm.
const WINDOW: usize = 20;
const BURST_MAX: u64 = 5;

/// Where to publish, and what it is in the history.
#[derive(Clone, Debug)]
pub struct Address {
    pub exchange: String,
    pub key: String,
    /// A route without sinks is expected to return everything.
    pub route: RouteId,
}

pub struct Publisher {
    process: Process,
    counter: u32,
    queues: Vec<Queue>,
    addresses: Vec<Address>,
    connection: Option<Connection>,
    connection_count: u32,
    /// Methods of set-up that wait for their answer.
    answers_due: usize,
    is_ready: bool,
    is_set_up: bool,
    is_blocked: bool,
    next_tag: u64,
    unconfirmed: VecDeque<(u64, WriteId)>,
    /// Came back, and its confirm is still to come.
    returned: Vec<Value>,
}

impl Publisher {
    /// `queues` are those that it makes before the load begins.
    pub fn new(process: Process, queues: Vec<Queue>, addresses: Vec<Address>) -> Self {
        Publisher {
            process,
            counter: 0,
            is_set_up: queues.is_empty(),
            queues,
            addresses,
            connection: None,
            connection_count: 0,
            answers_due: 0,
            is_ready: false,
            is_blocked: false,
            next_tag: 1,
            unconfirmed: VecDeque::new(),
            returned: Vec::new(),
        }
    }

    /// Makes its queues, or looks whether they are still there; then confirms.
    fn set_up(&mut self, step: &mut Step<'_>) {
        let is_passive = self.is_set_up;
        for Queue { name, binding } in &self.queues {
            put_method(step.out, CHANNEL, method::QUEUE_DECLARE, |out| {
                out.put_u16(0);
                out.put_tiny_text(name);
                // Bits: passive, durable, exclusive, auto-delete, no-wait.
                out.put_u8(0b10 | u8::from(is_passive));
                out.put_u32(0);
            });
            self.answers_due += 1;
            if let (Some(binding), false) = (binding, is_passive) {
                put_method(step.out, CHANNEL, method::QUEUE_BIND, |out| {
                    out.put_u16(0);
                    out.put_tiny_text(name);
                    out.put_tiny_text("amq.topic");
                    out.put_tiny_text(binding);
                    out.put_u8(0);
                    out.put_u32(0);
                });
                self.answers_due += 1;
            }
        }
        put_method(step.out, CHANNEL, method::CONFIRM_SELECT, |out| out.put_u8(0));
        self.answers_due += 1;
    }

    fn heard(&mut self, heard: Heard, step: &mut Step<'_>) -> Result<(), Malformed> {
        match heard {
            Heard::Ready { tells_blocked } => {
                if tells_blocked {
                    step.note(self.process, Note::TellsBlocked);
                }
                self.set_up(step);
            }
            Heard::Method(
                method::QUEUE_DECLARE_OK | method::QUEUE_BIND_OK | method::CONFIRM_SELECT_OK,
            ) if self.answers_due > 0 => {
                self.answers_due -= 1;
                if self.answers_due == 0 {
                    (self.is_set_up, self.is_ready) = (true, true);
                }
            }
            Heard::Confirmed { tag, multiple, ok } => self.confirmed(tag, multiple, ok, step)?,
            Heard::Message { content: Content::Returned, body } => {
                step.note(self.process, Note::Returned);
                match Found::in_body(step.run, &body) {
                    Found::Value(value) => self.returned.push(value),
                    other => return Err(damaged(other)),
                }
            }
            Heard::Blocked => {
                self.is_blocked = true;
                step.note(self.process, Note::Blocked);
            }
            Heard::Unblocked => {
                self.is_blocked = false;
                step.note(self.process, Note::Unblocked);
            }
            Heard::Closed { text, is_not_found } => {
                if is_not_found && self.is_set_up {
                    step.note(self.process, Note::ObjectLost(text));
                    step.close = true;
                } else {
                    step.refused(self.process, text);
                }
            }
            Heard::Nothing => {}
            Heard::Message { .. } | Heard::Method(..) => {
                return Err(Malformed("method that nobody asked for"))
            }
        }
        Ok(())
    }

    fn confirmed(
        &mut self,
        tag: u64,
        multiple: bool,
        ok: bool,
        step: &mut Step<'_>,
    ) -> Result<(), Malformed> {
        let place = self.unconfirmed.iter().position(|(of, _)| *of == tag);
        let Some(place) = place else {
            return Err(Malformed("confirm: its delivery tag is not open"));
        };
        let first = if multiple { 0 } else { place };
        for (_, id) in self.unconfirmed.drain(first..=place) {
            let write = &step.history.writes[id];
            let (value, is_expected) =
                (write.value, step.history.routes[write.route].sinks.is_empty());
            let back = self.returned.iter().position(|other| *other == value);
            let outcome = match (ok, back) {
                // Refused, but perhaps not by everything that it was routed to.
                (false, _) => Outcome::Unknown,
                (true, None) => Outcome::Ok(None),
                (true, Some(back)) => {
                    self.returned.swap_remove(back);
                    Outcome::Failed
                }
            };
            if ok && is_expected != (outcome == Outcome::Failed) {
                let text = format!("{value}: routed nowhere {is_expected}, returned otherwise");
                step.history.note(self.process, Note::ObjectLost(text));
            }
            if !ok {
                step.history.note(self.process, Note::Refused("basic.nack".to_owned()));
            }
            step.history.end(id, outcome);
        }
        Ok(())
    }

    fn publish(&mut self, step: &mut Step<'_>) {
        let at = step.rng.below(self.addresses.len() as u64) as usize;
        self.counter += 1;
        let value = Value { process: self.process, counter: self.counter };
        let body = step.body(value, 0);
        let Address { exchange, key, route } = &self.addresses[at];
        let (lane, now) = (u64::from(self.connection_count), step.moment());
        let id = step.history.write(now, value, *route, Promise::Once, lane);
        self.unconfirmed.push_back((self.next_tag, id));
        self.next_tag += 1;
        if let Some(connection) = &self.connection {
            connection.publish(step.out, exchange, key, &body);
        }
    }
}

pub(super) fn damaged(found: Found) -> Malformed {
    match found {
        Found::Stray => Malformed("message: of another run"),
        _ => Malformed("message: damaged"),
    }
}

impl Client for Publisher {
    fn protocol(&self) -> Protocol {
        Protocol::Amqp091
    }

    fn connected(&mut self, step: &mut Step<'_>) {
        self.connection_count += 1;
        self.connection = Some(Connection::open(step.out, step.now.moment));
        (self.answers_due, self.next_tag) = (0, 1);
    }

    fn receive(&mut self, input: &[u8], step: &mut Step<'_>) -> Result<usize, Malformed> {
        let mut used = 0;
        while let (Some(connection), false) = (&mut self.connection, step.close) {
            let Some((heard, bytes)) = connection.hear(&input[used..], step.out)? else { break };
            used += bytes;
            self.heard(heard, step)?;
        }
        Ok(used)
    }

    fn act(&mut self, step: &mut Step<'_>) {
        if step.phase == Phase::Load && self.is_ready && !self.is_blocked {
            for _ in 0..=step.rng.below(BURST_MAX) {
                if self.unconfirmed.len() < WINDOW && !self.addresses.is_empty() {
                    self.publish(step);
                }
            }
        }
        if let Some(connection) = &mut self.connection {
            connection.keep_alive(step.out, step.now.moment);
        }
    }

    fn lost(&mut self, step: &mut Step<'_>) {
        self.connection = None;
        (self.is_ready, self.is_blocked) = (false, false);
        self.returned.clear();
        for (_, write) in self.unconfirmed.drain(..) {
            step.history.end(write, Outcome::Unknown);
        }
    }

    fn is_set_up(&self) -> bool {
        self.is_set_up
    }

    fn is_waiting(&self) -> bool {
        !self.is_ready || !self.unconfirmed.is_empty() && !self.is_blocked
    }

    fn is_finished(&self) -> bool {
        self.unconfirmed.is_empty()
    }
}
