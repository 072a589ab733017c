//! Looks at retained messages as a stranger does: a clean session, a subscription, what comes with RETAIN
//! set; and again.

use super::packets::{Heard, Hello, Packets, Publish};
use super::Version;
use crate::client::{Client, Phase, Protocol, Step};
use crate::frames::Malformed;
use crate::history::{Order, Process};
use crate::value::Found;
use koine_base::Moment;
use std::collections::BTreeMap;

/// How long after SUBACK retained messages may take; then a ping shows that the broker is awake.
const SETTLE_MS: u64 = 500;

/// Where one look has got to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Idle,
    Subscribing { asked: Order },
    Hearing { asked: Order, until: Moment },
    Pinging { asked: Order },
    Done,
}

pub struct Watcher {
    process: Process,
    version: Version,
    client: String,
    topics: Vec<String>,
    packets: Option<Packets>,
    is_ready: bool,
    look: Look,
    found: BTreeMap<String, Found>,
    /// Looks finished since all writers were.
    final_looks: Option<u32>,
}

impl Watcher {
    pub fn new(process: Process, version: Version, client: String, topics: Vec<String>) -> Self {
        Watcher {
            process,
            version,
            client,
            topics,
            packets: None,
            is_ready: false,
            look: Look::Idle,
            found: BTreeMap::new(),
            final_looks: None,
        }
    }

    fn heard(&mut self, heard: Heard, step: &mut Step<'_>) -> Result<(), Malformed> {
        match (heard, self.look) {
            (Heard::Welcome(welcome), _) if !self.is_ready => {
                if welcome.session_present {
                    return Err(Malformed("CONNACK: a clean session that is present"));
                }
                self.is_ready = true;
            }
            (Heard::Subscribed { is_failure: false }, Look::Subscribing { asked }) => {
                self.look = Look::Hearing { asked, until: step.moment().after_ms(SETTLE_MS) };
            }
            // Asked for before the drain began.
            (Heard::Subscribed { .. }, Look::Done) => {}
            (Heard::Publish(Publish { retain: true, topic, body, .. }), _) => {
                self.found.insert(topic, Found::in_body(step.run, &body));
            }
            // Live, to a subscription that exists.
            (Heard::Publish(_), _) => {}
            (Heard::Pong, Look::Pinging { asked }) => {
                for topic in &self.topics {
                    step.history.retained(topic, self.found.get(topic).copied(), asked);
                }
                self.final_looks = self.final_looks.map(|looks| looks + 1);
                self.look = Look::Done;
            }
            (Heard::Pong, _) => {}
            (Heard::Refused(text), _) => step.refused(self.process, text),
            _ => return Err(Malformed("packet that nobody asked for")),
        }
        Ok(())
    }
}

impl Client for Watcher {
    fn protocol(&self) -> Protocol {
        Protocol::Mqtt
    }

    fn connected(&mut self, step: &mut Step<'_>) {
        let now = step.moment();
        let (version, client) = (self.version, self.client.as_str());
        let hello = Hello { version, client, is_clean: true, will: None };
        self.packets = Some(Packets::open(step.out, hello, now));
        self.look = Look::Idle;
        self.found.clear();
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
        match self.look {
            Look::Idle if self.is_ready && step.phase != Phase::SetUp => {
                let filters: Vec<_> = self.topics.iter().map(|topic| (topic.clone(), 0)).collect();
                self.look = Look::Subscribing { asked: step.history.tick() };
                packets.subscribe(step.out, 1, &filters);
            }
            Look::Hearing { asked, until } if step.moment() >= until => {
                packets.ping(step.out);
                self.look = Look::Pinging { asked };
            }
            // A new connection looks with new eyes.
            Look::Done if self.final_looks.is_none_or(|looks| looks == 0) => step.close = true,
            _ => {}
        }
        packets.keep_alive(step.out, step.now.moment);
    }

    fn lost(&mut self, _step: &mut Step<'_>) {
        self.packets = None;
        self.is_ready = false;
    }

    fn is_set_up(&self) -> bool {
        true
    }

    fn is_waiting(&self) -> bool {
        !self.is_ready || matches!(self.look, Look::Subscribing { .. } | Look::Pinging { .. })
    }

    fn is_finished(&self) -> bool {
        true
    }

    fn has_read_all(&self) -> bool {
        self.final_looks.is_some_and(|looks| looks > 0)
    }

    fn read_all(&mut self) {
        self.final_looks = Some(0);
        // What is under way began too early.
        self.look = Look::Done;
    }
}
