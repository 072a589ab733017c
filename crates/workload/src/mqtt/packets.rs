//! Packets of one connection, built and read. Sections are those of MQTT 5.

use super::Version;
use crate::frames::mqtt::{first_packet, kind, put_answer, put_packet, remaining_length, FLAGS};
use crate::frames::wire::{Put, Reader};
use crate::frames::Malformed;
use koine_base::Moment;
use std::time::Duration;

/// CONNECT flags.
const CLEAN_START: u8 = 0x02;
const WILL: u8 = 0x04;
/// CONNECT property: how long the session outlives the connection, in seconds.
const SESSION_EXPIRY_INTERVAL: u8 = 0x11;
const SESSION_EXPIRY_SECONDS: u32 = 86_400;
/// CONNACK property.
const RECEIVE_MAXIMUM: u8 = 0x21;
const KEEP_ALIVE_SECONDS: u16 = 20;
/// PUBLISH flags.
const DUP: u8 = 0x08;
const RETAIN: u8 = 0x01;
/// Reasons from here on are failures (§2.4).
const FAILURE: u8 = 0x80;

/// What CONNACK says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    pub session_present: bool,
    pub receive_maximum: u16,
}

/// A message on its way, in either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    pub topic: String,
    pub qos: u8,
    pub dup: bool,
    pub retain: bool,
    /// 0 with QoS 0.
    pub identifier: u16,
    pub body: Vec<u8>,
}

/// What the broker said.
#[derive(Debug)]
pub enum Heard {
    Welcome(Welcome),
    Publish(Publish),
    /// PUBACK, PUBREC, PUBREL or PUBCOMP.
    Answer {
        kind: u8,
        identifier: u16,
        is_failure: bool,
    },
    Subscribed {
        is_failure: bool,
    },
    Pong,
    /// CONNACK or DISCONNECT with a reason.
    Refused(String),
}

/// What a client says first.
#[derive(Clone, Copy, Debug)]
pub struct Hello<'a> {
    pub version: Version,
    pub client: &'a str,
    pub is_clean: bool,
    /// Topic, QoS and body of what is published if the connection ends without a goodbye.
    pub will: Option<(&'a str, u8, &'a [u8])>,
}

/// One connection's version and keep-alive.
#[derive(Debug)]
pub struct Packets {
    version: Version,
    last_sent: Moment,
}

impl Packets {
    pub fn open(out: &mut Vec<u8>, hello: Hello<'_>, now: Moment) -> Self {
        let Hello { version, client, is_clean, will } = hello;
        let mut content = Vec::new();
        content.put_short_text("MQTT");
        content.put_u8(version as u8);
        let clean = if is_clean { CLEAN_START } else { 0 };
        content.put_u8(clean | will.map_or(0, |(_, qos, _)| WILL | qos << 3));
        content.put_u16(KEEP_ALIVE_SECONDS);
        if version == Version::V5 {
            // Without the property the session ends with the connection.
            if is_clean {
                content.put_u8(0);
            } else {
                content.put_u8(5);
                content.put_u8(SESSION_EXPIRY_INTERVAL);
                content.put_u32(SESSION_EXPIRY_SECONDS);
            }
        }
        content.put_short_text(client);
        if let Some((topic, _, body)) = will {
            if version == Version::V5 {
                content.put_u8(0); // no properties: no delay
            }
            content.put_short_text(topic);
            content.put_u16(body.len() as u16);
            content.put(body);
        }
        put_packet(out, kind::CONNECT, &content);
        Packets { version, last_sent: now }
    }

    /// Keeps the connection alive; for every turn.
    pub fn keep_alive(&mut self, out: &mut Vec<u8>, now: Moment) {
        if !out.is_empty() {
            self.last_sent = now;
        }
        let interval = Duration::from_secs(u64::from(KEEP_ALIVE_SECONDS));
        if now.since(self.last_sent) * 2 >= interval {
            self.ping(out);
            self.last_sent = now;
        }
    }

    pub fn ping(&self, out: &mut Vec<u8>) {
        put_packet(out, kind::PINGREQ, &[]);
    }

    pub fn publish(&self, out: &mut Vec<u8>, publish: &Publish) {
        let mut content = Vec::with_capacity(publish.body.len() + publish.topic.len() + 8);
        content.put_short_text(&publish.topic);
        if publish.qos > 0 {
            content.put_u16(publish.identifier);
        }
        self.put_no_properties(&mut content);
        content.put(&publish.body);
        let dup = if publish.dup { DUP } else { 0 };
        let retain = if publish.retain { RETAIN } else { 0 };
        put_packet(out, kind::PUBLISH | dup | publish.qos << 1 | retain, &content);
    }

    pub fn subscribe(&self, out: &mut Vec<u8>, identifier: u16, filters: &[(String, u8)]) {
        let mut content = Vec::new();
        content.put_u16(identifier);
        self.put_no_properties(&mut content);
        for (filter, qos) in filters {
            content.put_short_text(filter);
            content.put_u8(*qos);
        }
        put_packet(out, kind::SUBSCRIBE | FLAGS, &content);
    }

    pub fn answer(&self, out: &mut Vec<u8>, kind: u8, identifier: u16) {
        let flags = if kind == kind::PUBREL { FLAGS } else { 0 };
        put_answer(out, kind | flags, identifier);
    }

    fn put_no_properties(&self, out: &mut Vec<u8>) {
        if self.version == Version::V5 {
            out.put_u8(0);
        }
    }

    /// The first whole packet and the bytes it takes.
    pub fn hear(&self, input: &[u8]) -> Result<Option<(Heard, usize)>, Malformed> {
        let Some((first, content, bytes)) = first_packet(input)? else { return Ok(None) };
        let reader = Reader::new(content, "packet");
        let heard = match first & 0xF0 {
            kind::CONNACK => self.welcome(reader)?,
            kind::PUBLISH => Heard::Publish(self.published(first, reader)?),
            kind @ (kind::PUBACK | kind::PUBREC | kind::PUBREL | kind::PUBCOMP) => {
                let flags = if kind == kind::PUBREL { FLAGS } else { 0 };
                if first & 0x0F != flags {
                    return Err(Malformed("acknowledgement: its flags"));
                }
                answer(kind, reader)?
            }
            kind::SUBACK => self.subscribed(reader)?,
            kind::PINGRESP => Heard::Pong,
            kind::DISCONNECT if self.version == Version::V5 => {
                let reason = content.first().copied().unwrap_or(0);
                Heard::Refused(format!("DISCONNECT: reason {reason:#04x}"))
            }
            _ => return Err(Malformed("packet that a broker does not send")),
        };
        Ok(Some((heard, bytes)))
    }

    fn welcome(&self, mut reader: Reader<'_>) -> Result<Heard, Malformed> {
        let session_present = match reader.u8()? {
            0 => false,
            1 => true,
            _ => return Err(reader.malformed()),
        };
        let reason = reader.u8()?;
        if reason != 0 {
            return Ok(Heard::Refused(format!("CONNACK: reason {reason:#04x}")));
        }
        let mut receive_maximum = u16::MAX;
        if self.version == Version::V5 {
            let mut properties = self.properties(&mut reader)?;
            while !properties.rest().is_empty() {
                if let (RECEIVE_MAXIMUM, Some(value)) = property(&mut properties)? {
                    receive_maximum = value;
                }
            }
        }
        Ok(Heard::Welcome(Welcome { session_present, receive_maximum }))
    }

    fn published(&self, first: u8, mut reader: Reader<'_>) -> Result<Publish, Malformed> {
        let topic = std::str::from_utf8(reader.short_bytes()?).map_err(|_| reader.malformed())?;
        let qos = first >> 1 & 3;
        let dup = first & DUP != 0;
        let identifier = if qos > 0 { reader.u16()? } else { 0 };
        if qos == 3 || (qos == 0 && dup) || (qos > 0 && identifier == 0) {
            return Err(Malformed("PUBLISH: its flags or identifier"));
        }
        if self.version == Version::V5 {
            self.properties(&mut reader)?;
        }
        Ok(Publish {
            topic: topic.to_owned(),
            qos,
            dup,
            retain: first & RETAIN != 0,
            identifier,
            body: reader.rest().to_vec(),
        })
    }

    fn subscribed(&self, mut reader: Reader<'_>) -> Result<Heard, Malformed> {
        reader.u16()?; // identifier
        if self.version == Version::V5 {
            self.properties(&mut reader)?;
        }
        let is_failure = reader.rest().iter().any(|code| *code >= FAILURE);
        Ok(Heard::Subscribed { is_failure })
    }

    fn properties<'a>(&self, reader: &mut Reader<'a>) -> Result<Reader<'a>, Malformed> {
        let Some((length, bytes)) = remaining_length(reader.rest())? else {
            return Err(reader.malformed());
        };
        reader.take(bytes)?;
        Ok(Reader::new(reader.take(length)?, "properties"))
    }
}

/// PUBACK and its relatives: success may be left out (§3.4.2.1).
fn answer(kind: u8, mut reader: Reader<'_>) -> Result<Heard, Malformed> {
    let identifier = reader.u16()?;
    let reason = reader.rest().first().copied().unwrap_or(0);
    Ok(Heard::Answer { kind, identifier, is_failure: reason >= FAILURE })
}

/// One property of CONNACK (§3.2.2.3): its number, and its value where it is one of two bytes.
fn property(reader: &mut Reader<'_>) -> Result<(u8, Option<u16>), Malformed> {
    let number = reader.u8()?;
    let mut value = None;
    match number {
        // Maximum QoS, retain, wildcard, subscription identifiers, shared: available or not.
        0x24 | 0x25 | 0x28 | 0x29 | 0x2A => drop(reader.u8()?),
        // Keep alive, receive maximum, topic alias maximum.
        0x13 | RECEIVE_MAXIMUM | 0x22 => value = Some(reader.u16()?),
        // Session expiry, maximum packet size.
        0x11 | 0x27 => drop(reader.u32()?),
        // Assigned client identifier, response information, server reference, reason.
        0x12 | 0x1A | 0x1C | 0x1F => drop(reader.short_bytes()?),
        // User property.
        0x26 => {
            reader.short_bytes()?;
            reader.short_bytes()?;
        }
        _ => return Err(reader.malformed()),
    }
    Ok((number, value))
}
