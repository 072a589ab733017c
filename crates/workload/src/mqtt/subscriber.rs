//! A subscriber with a session that outlives its connections. It acknowledges after a while, keeps the
//! identifiers of QoS 2 until PUBREL, and sees to it that its session is still there.

use super::packets::{Heard, Hello, Packets, Publish, Welcome};
use super::Version;
use crate::client::{Client, Phase, Protocol, Step};
use crate::frames::mqtt::kind;
use crate::frames::Malformed;
use crate::history::{How, Note, Process, SinkId};
use std::collections::{BTreeSet, VecDeque};

const SUBSCRIBE_IDENTIFIER: u16 = 1;

pub struct Subscriber {
    process: Process,
    version: Version,
    client: String,
    filter: String,
    qos: u8,
    sink: SinkId,
    packets: Option<Packets>,
    connection: u32,
    is_ready: bool,
    has_session: bool,
    is_subscribed: bool,
    /// PUBACK and PUBREC that are still to be sent, oldest first.
    answers: VecDeque<(u8, u16)>,
    /// QoS 2: taken, and PUBREL has not come. It outlives connections.
    taken: BTreeSet<u16>,
}

impl Subscriber {
    /// Everything that `filter` matches is of `sink`.
    pub fn new(
        process: Process,
        version: Version,
        client: String,
        (filter, qos): (String, u8),
        sink: SinkId,
    ) -> Self {
        Subscriber {
            process,
            version,
            client,
            filter,
            qos,
            sink,
            packets: None,
            connection: 0,
            is_ready: false,
            has_session: false,
            is_subscribed: false,
            answers: VecDeque::new(),
            taken: BTreeSet::new(),
        }
    }

    fn heard(&mut self, heard: Heard, step: &mut Step<'_>) -> Result<(), Malformed> {
        match heard {
            Heard::Welcome(welcome) if !self.is_ready => self.welcome(welcome, step),
            Heard::Publish(publish) if self.is_ready => return self.take(publish, step),
            Heard::Answer { kind: kind::PUBREL, identifier, .. } => {
                self.taken.remove(&identifier);
                if let Some(packets) = &self.packets {
                    packets.answer(step.out, kind::PUBCOMP, identifier);
                }
            }
            Heard::Subscribed { is_failure: false } => self.is_subscribed = true,
            Heard::Subscribed { is_failure: true } => {
                step.refused(self.process, "SUBACK: a reason of failure".to_owned());
            }
            Heard::Pong => {}
            Heard::Refused(text) => step.refused(self.process, text),
            Heard::Welcome(_) | Heard::Publish(_) | Heard::Answer { .. } => {
                return Err(Malformed("packet that nobody asked for"))
            }
        }
        Ok(())
    }

    fn welcome(&mut self, welcome: Welcome, step: &mut Step<'_>) {
        if self.has_session && !welcome.session_present {
            step.note(self.process, Note::ObjectLost(format!("session {}", self.client)));
            self.taken.clear();
            self.is_subscribed = false;
        }
        self.is_ready = true;
        self.has_session = true;
        if let (false, Some(packets)) = (self.is_subscribed, &self.packets) {
            let filters = [(self.filter.clone(), self.qos)];
            packets.subscribe(step.out, SUBSCRIBE_IDENTIFIER, &filters);
        }
    }

    fn take(&mut self, publish: Publish, step: &mut Step<'_>) -> Result<(), Malformed> {
        let Publish { qos, dup, identifier, body, .. } = publish;
        if qos > self.qos {
            return Err(Malformed("PUBLISH: above the QoS that was granted"));
        }
        let is_new = qos < 2 || self.taken.insert(identifier);
        if is_new {
            let who = (self.process, self.connection);
            step.read(who, self.sink, &body, How::Pushed { qos, dup });
        } else if !dup {
            // §4.3.3: until PUBCOMP the identifier is in use.
            return Err(Malformed("PUBLISH: its identifier is in use"));
        }
        match qos {
            0 => {}
            1 => self.answers.push_back((kind::PUBACK, identifier)),
            _ => self.answers.push_back((kind::PUBREC, identifier)),
        }
        Ok(())
    }
}

impl Client for Subscriber {
    fn protocol(&self) -> Protocol {
        Protocol::Mqtt
    }

    fn connected(&mut self, step: &mut Step<'_>) {
        self.connection += 1;
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
        let Some(packets) = &mut self.packets else { return };
        let count = match step.phase {
            Phase::Drain => self.answers.len(),
            _ => step.rng.below(self.answers.len() as u64 + 1) as usize,
        };
        for (kind, identifier) in self.answers.drain(..count) {
            packets.answer(step.out, kind, identifier);
        }
        packets.keep_alive(step.out, step.now.moment);
    }

    fn lost(&mut self, _step: &mut Step<'_>) {
        self.packets = None;
        self.is_ready = false;
        self.answers.clear();
    }

    fn is_set_up(&self) -> bool {
        self.is_subscribed
    }

    fn is_waiting(&self) -> bool {
        !self.is_ready || !self.is_subscribed
    }

    fn is_finished(&self) -> bool {
        self.answers.is_empty() && self.taken.is_empty()
    }
}
