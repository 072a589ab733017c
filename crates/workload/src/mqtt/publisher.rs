//! A publisher with a session that outlives its connections: what is not acknowledged when a connection
//! ends is sent again over the next one, in its old order, under its old identifier (§4.4).

use super::packets::{Heard, Hello, Packets, Publish, Welcome};
use super::Version;
use crate::client::{Client, Phase, Protocol, Step};
use crate::frames::mqtt::kind;
use crate::frames::Malformed;
use crate::history::{Note, Outcome, Process, Promise, RouteId, WriteId};
use crate::value::Value;
use std::collections::VecDeque;

/// Messages of QoS 1 and 2 on their way.
const WINDOW: usize = 10;
const BURST_MAX: u64 = 4;

const WILL_QOS: u8 = 1;

/// A topic, and what publishing to it is in the history.
#[derive(Clone, Debug)]
pub struct Topic {
    pub name: String,
    pub route: RouteId,
}

/// A message of QoS 1 or 2 that is not complete.
#[derive(Debug)]
struct Open {
    publish: Publish,
    /// `None` once PUBREC has said that it is stored.
    write: Option<WriteId>,
    /// PUBREC came: PUBREL is on its way.
    is_released: bool,
}

pub struct Publisher {
    process: Process,
    counter: u32,
    version: Version,
    client: String,
    topics: Vec<Topic>,
    /// Where its wills go: one of its own for every connection, published if it ends without goodbye.
    will: Topic,
    open_will: Option<WriteId>,
    packets: Option<Packets>,
    connection: u32,
    is_ready: bool,
    /// The broker has said that it keeps a session.
    has_session: bool,
    window: usize,
    /// Oldest first.
    open: VecDeque<Open>,
    next_identifier: u16,
}

impl Publisher {
    pub fn new(
        process: Process,
        version: Version,
        client: String,
        topics: Vec<Topic>,
        will: Topic,
    ) -> Self {
        Publisher {
            process,
            counter: 0,
            version,
            client,
            topics,
            will,
            open_will: None,
            packets: None,
            connection: 0,
            is_ready: false,
            has_session: false,
            window: WINDOW,
            open: VecDeque::new(),
            next_identifier: 0,
        }
    }

    fn heard(&mut self, heard: Heard, step: &mut Step<'_>) -> Result<(), Malformed> {
        match heard {
            Heard::Welcome(welcome) if !self.is_ready => self.welcome(welcome, step),
            Heard::Answer { kind, identifier, is_failure } => {
                return self.answer(kind, identifier, is_failure, step)
            }
            Heard::Pong => {}
            Heard::Refused(text) => step.refused(self.process, text),
            Heard::Welcome(_) | Heard::Publish(_) | Heard::Subscribed { .. } => {
                return Err(Malformed("packet that nobody asked for"))
            }
        }
        Ok(())
    }

    fn welcome(&mut self, welcome: Welcome, step: &mut Step<'_>) {
        if self.has_session && !welcome.session_present {
            let text = format!("session {}", self.client);
            step.note(self.process, Note::ObjectLost(text));
            self.give_up(step);
        }
        self.is_ready = true;
        self.has_session = true;
        self.window = WINDOW.min(usize::from(welcome.receive_maximum));
        let Some(packets) = &self.packets else { return };
        if !self.open.is_empty() {
            step.note(self.process, Note::Repeated);
        }
        for open in &mut self.open {
            if open.is_released {
                packets.answer(step.out, kind::PUBREL, open.publish.identifier);
                continue;
            }
            open.publish.dup = true;
            packets.publish(step.out, &open.publish);
            match open.write {
                // PUBACK and PUBREC have a reason code.
                Some(write) if self.version == Version::V5 => step.history.repeat_refusable(write),
                Some(write) => step.history.repeat(write),
                None => {}
            }
        }
    }

    fn answer(
        &mut self,
        answer: u8,
        identifier: u16,
        is_failure: bool,
        step: &mut Step<'_>,
    ) -> Result<(), Malformed> {
        let place = self.open.iter().position(|open| open.publish.identifier == identifier);
        let Some(place) = place else {
            return Err(Malformed("acknowledgement: its identifier is not open"));
        };
        let open = &mut self.open[place];
        let ends = match (answer, open.publish.qos, open.is_released) {
            (kind::PUBACK, 1, _) | (kind::PUBCOMP, 2, true) => true,
            // After PUBREL a late PUBREC may still come: for a repetition of PUBLISH (§4.3.3).
            (kind::PUBREC, 2, _) => is_failure,
            _ => return Err(Malformed("acknowledgement of another QoS")),
        };
        if let Some(write) = open.write.take() {
            let outcome = if is_failure { Outcome::Unknown } else { Outcome::Ok(None) };
            step.history.end(write, outcome);
        }
        // PUBCOMP with a failure is no refusal: PUBREL was repeated, and is done with (§4.3.3).
        if is_failure && answer != kind::PUBCOMP {
            step.note(self.process, Note::Refused("PUBLISH: a reason of failure".to_owned()));
        }
        if ends {
            self.open.remove(place);
        } else {
            open.is_released = true;
            if let Some(packets) = &self.packets {
                packets.answer(step.out, kind::PUBREL, identifier);
            }
        }
        Ok(())
    }

    fn publish(&mut self, step: &mut Step<'_>) {
        let topic = &self.topics[step.rng.below(self.topics.len() as u64) as usize];
        let qos = step.rng.below(3) as u8;
        if qos > 0 && self.open.len() >= self.window {
            return;
        }
        self.counter += 1;
        let value = Value { process: self.process, counter: self.counter };
        let (promise, lane) = match qos {
            // What is lost with a connection is not sent again, so the next begins a lane.
            0 => (Promise::Nothing, u64::from(self.connection) << 2),
            1 => (Promise::AtLeastOnce, 1),
            _ => (Promise::ExactlyOnce, 2),
        };
        let body = step.body(value, 0);
        let at = step.moment();
        let write = step.history.write(at, value, topic.route, promise, lane);
        let name = topic.name.clone();
        let identifier = if qos > 0 { self.take_identifier() } else { 0 };
        let publish = Publish { topic: name, qos, dup: false, retain: false, identifier, body };
        if let Some(packets) = &self.packets {
            packets.publish(step.out, &publish);
        }
        if qos == 0 {
            step.history.end(write, Outcome::Unknown);
        } else {
            self.open.push_back(Open { publish, write: Some(write), is_released: false });
        }
    }

    /// The will of a connection that begins; none before the load.
    fn begin_will(&mut self, step: &mut Step<'_>) -> Option<Vec<u8>> {
        if step.phase != Phase::Load {
            return None;
        }
        self.counter += 1;
        let value = Value { process: self.process, counter: self.counter };
        let (at, lane) = (step.moment(), u64::from(self.connection) << 2 | 3);
        let write = step.history.write(at, value, self.will.route, Promise::Will, lane);
        self.open_will = Some(write);
        Some(value.body(step.run, 0, 0))
    }

    fn take_identifier(&mut self) -> u16 {
        loop {
            self.next_identifier = self.next_identifier.checked_add(1).unwrap_or(1);
            let next = self.next_identifier;
            if !self.open.iter().any(|open| open.publish.identifier == next) {
                return next;
            }
        }
    }

    fn give_up(&mut self, step: &mut Step<'_>) {
        for write in self.open.drain(..).filter_map(|open| open.write) {
            step.history.end(write, Outcome::Unknown);
        }
    }
}

impl Client for Publisher {
    fn protocol(&self) -> Protocol {
        Protocol::Mqtt
    }

    fn connected(&mut self, step: &mut Step<'_>) {
        self.connection += 1;
        let now = step.moment();
        let body = self.begin_will(step);
        let will = body.as_ref().map(|body| (self.will.name.as_str(), WILL_QOS, &body[..]));
        let hello = Hello { version: self.version, client: &self.client, is_clean: false, will };
        self.packets = Some(Packets::open(step.out, hello, now));
    }

    fn receive(&mut self, input: &[u8], step: &mut Step<'_>) -> Result<usize, Malformed> {
        let mut used = 0;
        while let (Some(packets), false) = (&self.packets, step.close) {
            let Some((heard, bytes)) = packets.hear(&input[used..])? else { break };
            used += bytes;
            self.heard(heard, step)?;
        }
        Ok(used)
    }

    fn act(&mut self, step: &mut Step<'_>) {
        if step.phase == Phase::Load && self.is_ready && !self.topics.is_empty() {
            for _ in 0..=step.rng.below(BURST_MAX) {
                self.publish(step);
            }
        }
        if let Some(packets) = &mut self.packets {
            packets.keep_alive(step.out, step.now.moment);
        }
    }

    fn lost(&mut self, step: &mut Step<'_>) {
        if let Some(will) = self.open_will.take() {
            step.history.end(will, Outcome::Unknown);
        }
        self.packets = None;
        self.is_ready = false;
    }

    fn is_set_up(&self) -> bool {
        true
    }

    fn is_waiting(&self) -> bool {
        !self.is_ready || !self.open.is_empty()
    }

    fn is_finished(&self) -> bool {
        self.open.is_empty()
    }
}
