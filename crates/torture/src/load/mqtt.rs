//! MQTT 5's side of the load: publishers of QoS 1 and 2 and a subscriber of both, all with sessions that outlive their
//! connections. Promises checked: what was acknowledged arrives, QoS 2 exactly once, and no session is forgotten.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::time::{Duration, Instant};

use super::connection::{broken, Connection, Fields};
use super::ledger::Protocol;
use super::{Load, PACE, PAUSE};

/// Unanswered publishes at once.
const WINDOW: usize = 40;
const ANSWER_LIMIT: Duration = Duration::from_secs(120);
pub const KEEP_ALIVE_SECONDS: u16 = 4;
const PING_EVERY: Duration = Duration::from_secs(1);
const SESSION_EXPIRY_SECONDS: u32 = 86_400;

const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBREL: u8 = 0x62;
const PUBCOMP: u8 = 0x70;
const SUBSCRIBE: u8 = 0x82;
const SUBACK: u8 = 0x90;
const PINGREQ: u8 = 0xC0;
const DISCONNECT: u8 = 0xE0;
const DUP: u8 = 0x08;

const NO_MATCHING_SUBSCRIBERS: u8 = 0x10;
const FAILURE: u8 = 0x80;
const PACKET_ID_NOT_FOUND: u8 = 0x92;

/// The remaining length and how many bytes it takes.
fn remaining(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for index in 0..4 {
        let byte = *bytes.get(1 + index)?;
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return Some((value, 1 + index));
        }
    }
    Some((usize::MAX >> 1, 4))
}

fn measure(bytes: &[u8]) -> Option<usize> {
    remaining(bytes).map(|(length, bytes)| 1 + bytes + length)
}

fn packet(first: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let mut rest = content.len();
    loop {
        let byte = (rest & 0x7f) as u8;
        rest >>= 7;
        out.push(if rest > 0 { byte | 0x80 } else { byte });
        if rest == 0 {
            break;
        }
    }
    out.extend(content);
    out
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u16).to_be_bytes());
    out.extend(text.as_bytes());
}

fn topic(qos: u8) -> String {
    format!("torture/{qos}")
}

fn content(packet: &[u8]) -> Fields<'_> {
    let start = remaining(packet).map_or(packet.len(), |(_, bytes)| 1 + bytes);
    Fields(&packet[start.min(packet.len())..])
}

/// Packet identifier and reason code of an acknowledgement.
fn acknowledgement(packet: &[u8]) -> io::Result<(u16, u8)> {
    let mut at = content(packet);
    Ok((at.u16()?, at.u8().unwrap_or(0)))
}

/// A connected session.
struct Session {
    connection: Connection,
    ping: Instant,
}

impl Session {
    /// Connects; says whether the broker had the session.
    fn open(address: &str, client: &str) -> io::Result<(Session, bool)> {
        let mut connection = Connection::open(address, measure)?;
        let mut connect = Vec::new();
        text(&mut connect, "MQTT");
        connect.push(5);
        connect.push(0); // go on with the session
        connect.extend(KEEP_ALIVE_SECONDS.to_be_bytes());
        connect.extend([5, 0x11]); // session expiry interval
        connect.extend(SESSION_EXPIRY_SECONDS.to_be_bytes());
        text(&mut connect, client);
        connection.send(&packet(CONNECT, &connect))?;
        let answer = connection.answer()?;
        let mut at = content(&answer);
        let (present, reason) = (at.u8()?, at.u8()?);
        match (answer[0], reason) {
            (CONNACK, 0) => Ok((Session { connection, ping: Instant::now() }, present == 1)),
            _ => Err(broken(format!("CONNECT: packet {:#04x}, reason {reason:#04x}", answer[0]))),
        }
    }

    fn ping(&mut self) -> io::Result<()> {
        if self.ping.elapsed() < PING_EVERY {
            return Ok(());
        }
        self.ping = Instant::now();
        self.connection.send(&packet(PINGREQ, &[]))
    }
}

/// A broker that knew the session before has to know it now.
fn check_session(load: &Load, client: &str, known: &mut bool, present: bool) {
    if *known && !present {
        load.ledger.complain(format!("mqtt: the session of {client} is gone"));
    }
    *known = true;
}

fn disconnected(load: &Load, packet: &[u8]) -> io::Error {
    let reason = content(packet).u8().unwrap_or(0);
    load.ledger.signal(format!("mqtt DISCONNECT {reason:#04x}"));
    broken(format!("DISCONNECT {reason:#04x}"))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Published,
    /// PUBREC came: from now on only PUBREL is repeated.
    Received,
}

struct Outgoing {
    identifier: u16,
    message: u64,
    body: Vec<u8>,
    stage: Stage,
}

/// Publishes with one QoS and repeats after a reconnect what was not answered.
pub struct Publisher {
    writer: u16,
    qos: u8,
    known: bool,
    next_identifier: u16,
    open: VecDeque<Outgoing>,
}

impl Publisher {
    pub fn new(writer: u16, qos: u8) -> Publisher {
        Publisher { writer, qos, known: false, next_identifier: 1, open: VecDeque::new() }
    }

    pub fn live(&mut self, load: &Load, address: &str, life: u64) -> io::Result<()> {
        if !self.known && !load.subscriber_is_ready() {
            std::thread::sleep(PAUSE);
            return Ok(());
        }
        let client = format!("torture-publisher-{}", self.qos);
        let (mut session, present) = Session::open(address, &client)?;
        check_session(load, &client, &mut self.known, present);
        let again: Vec<u8> = self.open.iter().flat_map(|out| self.encode(out, DUP)).collect();
        session.connection.send(&again)?;
        let mut answered = Instant::now();
        while !load.site.is_over() {
            session.ping()?;
            if load.site.is_writing() && self.open.len() <= WINDOW / 2 {
                self.fill(load, &mut session)?;
                std::thread::sleep(PACE);
            }
            if self.open.is_empty() {
                (answered, _) = (Instant::now(), std::thread::sleep(PAUSE));
            }
            while let Some(packet) = session.connection.next()? {
                if self.answered(load, life, &packet, &mut session)? {
                    answered = Instant::now();
                }
                if self.open.len() <= WINDOW / 2 {
                    break;
                }
            }
            if answered.elapsed() > ANSWER_LIMIT {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }

    fn encode(&self, out: &Outgoing, dup: u8) -> Vec<u8> {
        if out.stage == Stage::Received {
            return packet(PUBREL, &out.identifier.to_be_bytes());
        }
        let mut content = Vec::with_capacity(out.body.len() + 20);
        text(&mut content, &topic(self.qos));
        content.extend(out.identifier.to_be_bytes());
        content.push(0); // properties
        content.extend(&out.body);
        packet(PUBLISH | dup | self.qos << 1, &content)
    }

    fn fill(&mut self, load: &Load, session: &mut Session) -> io::Result<()> {
        let mut bytes = Vec::new();
        while self.open.len() < WINDOW {
            let (message, body) = load.ledger.attempt(self.writer);
            while self.open.iter().any(|out| out.identifier == self.next_identifier) {
                self.next_identifier = self.next_identifier % u16::MAX + 1;
            }
            let identifier = self.next_identifier;
            self.next_identifier = self.next_identifier % u16::MAX + 1;
            let out = Outgoing { identifier, message, body, stage: Stage::Published };
            bytes.extend(self.encode(&out, 0));
            self.open.push_back(out);
            load.site.opened(1);
        }
        session.connection.send(&bytes)
    }

    /// True if it was an answer to a publish.
    fn answered(
        &mut self,
        load: &Load,
        life: u64,
        bytes: &[u8],
        session: &mut Session,
    ) -> io::Result<bool> {
        match bytes[0] {
            PUBACK | PUBREC | PUBCOMP => {}
            DISCONNECT => return Err(disconnected(load, bytes)),
            _ => return Ok(false),
        }
        let (identifier, reason) = acknowledgement(bytes)?;
        let Some(index) = self.open.iter().position(|out| out.identifier == identifier) else {
            return Err(broken(format!("packet {:#04x} for no publish", bytes[0])));
        };
        let message = self.open[index].message;
        if reason == NO_MATCHING_SUBSCRIBERS {
            load.ledger.complain("mqtt: a publish found no subscriber".to_owned());
        }
        match bytes[0] {
            PUBREC if reason < FAILURE => {
                // Ownership has passed to the broker: this is the acknowledgement.
                load.ledger.acknowledged(self.writer, message, None);
                load.site.acknowledged(Protocol::Mqtt, life);
                self.open[index].stage = Stage::Received;
                session.connection.send(&packet(PUBREL, &identifier.to_be_bytes()))?;
                return Ok(true);
            }
            PUBACK if reason < FAILURE => {
                load.ledger.acknowledged(self.writer, message, None);
                load.site.acknowledged(Protocol::Mqtt, life);
            }
            // After a repeated PUBREL the broker may have forgotten the identifier.
            PUBCOMP if reason == 0 || reason == PACKET_ID_NOT_FOUND => {}
            kind => {
                load.ledger.refused(self.writer, message);
                load.ledger.signal(format!("mqtt packet {kind:#04x} reason {reason:#04x}"));
                std::thread::sleep(PAUSE);
            }
        }
        self.open.remove(index);
        load.site.closed(1);
        Ok(true)
    }
}

/// One session that is subscribed to both topics.
#[derive(Default)]
pub struct Subscriber {
    known: bool,
    /// Identifiers of QoS 2 deliveries whose PUBREL has not come.
    held: BTreeSet<u16>,
}

impl Subscriber {
    pub fn live(&mut self, load: &Load, address: &str) -> io::Result<()> {
        while !load.site.is_reading() {
            if load.site.is_over() {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
        let (mut session, present) = Session::open(address, "torture-subscriber")?;
        check_session(load, "torture-subscriber", &mut self.known, present);
        if !present {
            self.held.clear();
        }
        if !load.subscriber_is_ready() || !present {
            subscribe(&mut session)?;
            load.set_subscriber_ready();
        }
        while !load.site.is_over() && load.site.is_reading() {
            session.ping()?;
            let mut answers = Vec::new();
            let mut next = session.connection.next()?;
            while let Some(packet) = next {
                self.take(load, &packet, &mut answers)?;
                next = session.connection.buffered()?;
            }
            session.connection.send(&answers)?;
        }
        Ok(())
    }

    fn take(&mut self, load: &Load, bytes: &[u8], answers: &mut Vec<u8>) -> io::Result<()> {
        match bytes[0] {
            first if first & 0xF0 == PUBLISH => {
                let (qos, dup) = ((first >> 1) & 3, first & DUP != 0);
                let mut at = content(bytes);
                at.text()?;
                let identifier = at.u16()?;
                let properties = usize::from(at.u8()?);
                at.take(properties)?;
                if qos == 1 {
                    load.ledger.read(at.0, dup, None);
                    answers.extend(packet(PUBACK, &identifier.to_be_bytes()));
                } else {
                    if self.held.insert(identifier) {
                        load.ledger.read(at.0, dup, None);
                    }
                    answers.extend(packet(PUBREC, &identifier.to_be_bytes()));
                }
            }
            PUBREL => {
                let (identifier, _) = acknowledgement(bytes)?;
                self.held.remove(&identifier);
                answers.extend(packet(PUBCOMP, &identifier.to_be_bytes()));
            }
            DISCONNECT => return Err(disconnected(load, bytes)),
            _ => {}
        }
        Ok(())
    }
}

fn subscribe(session: &mut Session) -> io::Result<()> {
    let mut subscribe = vec![0, 1, 0]; // packet identifier, no properties
    for qos in [1, 2] {
        text(&mut subscribe, &topic(qos));
        subscribe.push(qos);
    }
    session.connection.send(&packet(SUBSCRIBE, &subscribe))?;
    let answer = session.connection.answer()?;
    match answer[0] == SUBACK && answer.ends_with(&[1, 2]) {
        true => Ok(()),
        false => Err(broken(format!("SUBSCRIBE: {answer:02x?}"))),
    }
}
