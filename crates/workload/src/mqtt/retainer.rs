//! Sets and removes retained messages with QoS 1, one after the other per topic, so that it is always
//! known which one must be there.

use super::packets::{Heard, Hello, Packets, Publish};
use super::Version;
use crate::client::{Client, Phase, Protocol, Step};
use crate::frames::mqtt::kind;
use crate::frames::Malformed;
use crate::history::{Note, Outcome, Process};
use crate::value::Value;

pub struct Retainer {
    process: Process,
    counter: u32,
    version: Version,
    client: String,
    topics: Vec<String>,
    packets: Option<Packets>,
    is_ready: bool,
    has_session: bool,
    /// On its way, with its place in the history.
    open: Option<(Publish, usize)>,
}

impl Retainer {
    pub fn new(process: Process, version: Version, client: String, topics: Vec<String>) -> Self {
        Retainer {
            process,
            counter: 0,
            version,
            client,
            topics,
            packets: None,
            is_ready: false,
            has_session: false,
            open: None,
        }
    }

    fn heard(&mut self, heard: Heard, step: &mut Step<'_>) -> Result<(), Malformed> {
        match heard {
            Heard::Welcome(welcome) if !self.is_ready => {
                if self.has_session && !welcome.session_present {
                    let text = format!("session {}", self.client);
                    step.note(self.process, Note::ObjectLost(text));
                }
                (self.is_ready, self.has_session) = (true, true);
                if let (Some((publish, _)), Some(packets)) = (&mut self.open, &self.packets) {
                    publish.dup = true;
                    packets.publish(step.out, publish);
                }
            }
            Heard::Answer { kind: kind::PUBACK, is_failure, .. } => {
                let Some((_, index)) = self.open.take() else {
                    return Err(Malformed("acknowledgement: its identifier is not open"));
                };
                let outcome = if is_failure { Outcome::Unknown } else { Outcome::Ok(None) };
                step.history.end_retain(index, outcome);
            }
            Heard::Pong => {}
            Heard::Refused(text) => step.refused(self.process, text),
            _ => return Err(Malformed("packet that nobody asked for")),
        }
        Ok(())
    }

    fn publish(&mut self, step: &mut Step<'_>) {
        let topic = self.topics[step.rng.below(self.topics.len() as u64) as usize].clone();
        self.counter += 1;
        let value = Value { process: self.process, counter: self.counter };
        // An empty body removes it (§3.3.1.3).
        let value = (!step.rng.chance(1, 6)).then_some(value);
        let body = value.map_or_else(Vec::new, |value| step.body(value, 0));
        let index = step.history.retain(&topic, value);
        let identifier = 1 + (self.counter % 1000) as u16;
        let publish = Publish { topic, qos: 1, dup: false, retain: true, identifier, body };
        if let Some(packets) = &self.packets {
            packets.publish(step.out, &publish);
        }
        self.open = Some((publish, index));
    }
}

impl Client for Retainer {
    fn protocol(&self) -> Protocol {
        Protocol::Mqtt
    }

    fn connected(&mut self, step: &mut Step<'_>) {
        let now = step.moment();
        let (version, client) = (self.version, self.client.as_str());
        let hello = Hello { version, client, is_clean: false, will: None };
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
        let is_free = self.is_ready && self.open.is_none();
        if step.phase == Phase::Load && is_free && step.rng.chance(1, 4) {
            self.publish(step);
        }
        if let Some(packets) = &mut self.packets {
            packets.keep_alive(step.out, step.now.moment);
        }
    }

    fn lost(&mut self, _step: &mut Step<'_>) {
        self.packets = None;
        self.is_ready = false;
    }

    fn is_set_up(&self) -> bool {
        true
    }

    fn is_waiting(&self) -> bool {
        !self.is_ready || self.open.is_some()
    }

    fn is_finished(&self) -> bool {
        self.open.is_none()
    }
}
