//! A consumer of one queue: takes with Basic.Consume or Basic.Get, holds what it took for a while, then
//! acknowledges it or puts it back.

use super::connection::{Connection, Content, Heard, CHANNEL};
use crate::client::{Client, Phase, Protocol, Step};
use crate::frames::amqp::{method, put_method};
use crate::frames::wire::Put;
use crate::frames::Malformed;
use crate::history::{How, Note, Process, SinkId};

const PREFETCH_MAX: u64 = 30;

pub struct Consumer {
    process: Process,
    queue: String,
    sink: SinkId,
    connection: Option<Connection>,
    connection_count: u32,
    /// It takes one by one, with Basic.Get.
    gets: bool,
    is_open: bool,
    /// Basic.Consume was sent.
    is_consuming: bool,
    answers_due: usize,
    /// Delivery tags not settled, oldest first.
    held: Vec<u64>,
    /// The queue was empty when it was asked last; with Basic.Consume nothing tells.
    was_empty: bool,
}

impl Consumer {
    pub fn new(process: Process, queue: String, sink: SinkId, gets: bool) -> Self {
        Consumer {
            process,
            queue,
            sink,
            connection: None,
            connection_count: 0,
            gets,
            is_open: false,
            is_consuming: false,
            answers_due: 0,
            held: Vec::new(),
            was_empty: false,
        }
    }

    fn heard(&mut self, heard: Heard, step: &mut Step<'_>) -> Result<(), Malformed> {
        let is_due = self.answers_due > 0;
        match heard {
            Heard::Ready { .. } => self.is_open = true,
            Heard::Method(method::BASIC_QOS_OK | method::BASIC_CONSUME_OK) if is_due => {
                self.answers_due -= 1;
            }
            Heard::Method(method::BASIC_GET_EMPTY) if is_due => {
                self.answers_due -= 1;
                self.was_empty = true;
            }
            Heard::Message { content: Content::Delivered { tag, redelivered }, body } => {
                self.take(tag, redelivered, &body, step);
            }
            Heard::Message { content: Content::Got { tag, redelivered }, body } if is_due => {
                self.answers_due -= 1;
                self.was_empty = false;
                self.take(tag, redelivered, &body, step);
            }
            Heard::Closed { text, is_not_found: true } => {
                step.note(self.process, Note::ObjectLost(text));
                step.close = true;
            }
            Heard::Closed { text, .. } => step.refused(self.process, text),
            Heard::Method(method::BASIC_CANCEL) => {
                let text = format!("consumer of {} cancelled", self.queue);
                step.refused(self.process, text);
            }
            Heard::Nothing | Heard::Blocked | Heard::Unblocked => {}
            Heard::Message { .. } | Heard::Method(..) | Heard::Confirmed { .. } => {
                return Err(Malformed("method that nobody asked for"))
            }
        }
        Ok(())
    }

    fn take(&mut self, tag: u64, redelivered: bool, body: &[u8], step: &mut Step<'_>) {
        let who = (self.process, self.connection_count);
        step.read(who, self.sink, body, How::Delivered { redelivered });
        self.held.push(tag);
    }

    fn consume(&mut self, step: &mut Step<'_>) {
        let prefetch = 1 + step.rng.below(PREFETCH_MAX) as u16;
        put_method(step.out, CHANNEL, method::BASIC_QOS, |out| {
            out.put_u32(0); // bytes: no bound
            out.put_u16(prefetch);
            out.put_u8(0); // for each consumer
        });
        put_method(step.out, CHANNEL, method::BASIC_CONSUME, |out| {
            out.put_u16(0);
            out.put_tiny_text(&self.queue);
            out.put_tiny_text("c");
            out.put_u8(0); // no-local, no-ack, exclusive, no-wait: none
            out.put_u32(0);
        });
        self.answers_due += 2;
        self.is_consuming = true;
    }

    fn get(&mut self, step: &mut Step<'_>) {
        put_method(step.out, CHANNEL, method::BASIC_GET, |out| {
            out.put_u16(0);
            out.put_tiny_text(&self.queue);
            out.put_u8(0); // with acknowledgement
        });
        self.answers_due += 1;
    }

    fn settle(&mut self, step: &mut Step<'_>) {
        let draw = step.rng.below(20);
        let (id, at, bits) = match (step.phase, draw) {
            // Everything so far.
            (Phase::Drain, _) | (_, 0..=4) => (method::BASIC_ACK, self.held.len() - 1, 0b1),
            (_, 5..=14) => (method::BASIC_ACK, self.any_held(step), 0),
            (_, 15 | 16) => (method::BASIC_REJECT, self.any_held(step), 0b1),
            (_, 17 | 18) => (method::BASIC_NACK, self.any_held(step), 0b10),
            _ => (method::BASIC_NACK, self.any_held(step), 0b11),
        };
        let tag = self.held[at];
        let is_multiple = id != method::BASIC_REJECT && bits & 1 != 0;
        let first = if is_multiple { 0 } else { at };
        self.held.drain(first..=at);
        put_method(step.out, CHANNEL, id, |out| {
            out.put_u64(tag);
            out.put_u8(bits);
        });
    }

    fn any_held(&self, step: &mut Step<'_>) -> usize {
        step.rng.below(self.held.len() as u64) as usize
    }
}

impl Client for Consumer {
    fn protocol(&self) -> Protocol {
        Protocol::Amqp091
    }

    fn connected(&mut self, step: &mut Step<'_>) {
        self.connection_count += 1;
        self.connection = Some(Connection::open(step.out, step.now.moment));
        (self.answers_due, self.is_consuming) = (0, false);
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
        if self.is_open && step.phase != Phase::SetUp {
            let takes = self.gets && self.answers_due == 0;
            if !self.gets && !self.is_consuming {
                self.consume(step);
            } else if takes && (step.phase == Phase::Drain || step.rng.chance(1, 2)) {
                self.get(step);
            }
            if !self.held.is_empty() {
                self.settle(step);
            }
        }
        if let Some(connection) = &mut self.connection {
            connection.keep_alive(step.out, step.now.moment);
        }
    }

    fn lost(&mut self, _step: &mut Step<'_>) {
        self.connection = None;
        self.is_open = false;
        self.held.clear();
    }

    fn is_set_up(&self) -> bool {
        true
    }

    fn is_waiting(&self) -> bool {
        !self.is_open || self.answers_due > 0
    }

    fn is_finished(&self) -> bool {
        true
    }

    fn has_read_all(&self) -> bool {
        self.held.is_empty() && (self.is_consuming || self.was_empty)
    }

    fn read_all(&mut self) {
        self.was_empty = false;
    }
}
