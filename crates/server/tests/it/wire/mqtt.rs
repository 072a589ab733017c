//! MQTT 3.1.1 and as much of 5: connect, subscribe and publish with QoS 1, receive and acknowledge.

use std::io::{self, Read, Write};

use super::{broken, buffer, open, Stream};

#[derive(Debug)]
pub struct Client {
    stream: Stream,
    packet_identifier: u16,
    level: u8,
    /// Messages that came while an acknowledgement was awaited.
    early: Vec<Vec<u8>>,
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u16).to_be_bytes());
    out.extend(text.as_bytes());
}

/// A packet: first byte, remaining length (1 to 4 bytes), the rest.
pub fn packet(first: u8, rest: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let mut length = rest.len();
    loop {
        let more = length >= 0x80;
        out.push((length as u8 & 0x7f) | if more { 0x80 } else { 0 });
        length >>= 7;
        if !more {
            break;
        }
    }
    out.extend(rest);
    out
}

/// `level` is 4 for 3.1.1, 5 for MQTT 5.
pub fn connect(level: u8, client_id: &str, clean: bool) -> Vec<u8> {
    let mut rest = Vec::new();
    text(&mut rest, "MQTT");
    rest.extend([level, u8::from(clean) << 1, 0, 60]);
    if level == 5 {
        rest.push(0); // no properties
    }
    text(&mut rest, client_id);
    packet(0x10, &rest)
}

/// The same with a login.
pub fn connect_as(level: u8, client_id: &str, user: &str, password: &str) -> Vec<u8> {
    let mut rest = Vec::new();
    text(&mut rest, "MQTT");
    rest.extend([level, 0xc2, 0, 60]);
    if level == 5 {
        rest.push(0); // no properties
    }
    text(&mut rest, client_id);
    text(&mut rest, user);
    text(&mut rest, password);
    packet(0x10, &rest)
}

pub fn subscribe(identifier: u16, filter: &str) -> Vec<u8> {
    subscribe_at(identifier, filter, 1)
}

pub fn subscribe_at(identifier: u16, filter: &str, qos: u8) -> Vec<u8> {
    let mut rest = identifier.to_be_bytes().to_vec();
    text(&mut rest, filter);
    rest.push(qos);
    packet(0x82, &rest)
}

pub fn publish(identifier: u16, topic: &str, body: &[u8]) -> Vec<u8> {
    let mut rest = Vec::new();
    text(&mut rest, topic);
    rest.extend(identifier.to_be_bytes());
    rest.extend(body);
    packet(0x32, &rest)
}

/// A PUBLISH with QoS 2.
pub fn publish_once(identifier: u16, topic: &str, body: &[u8], again: bool) -> Vec<u8> {
    let mut out = publish(identifier, topic, body);
    out[0] = 0x34 | u8::from(again) << 3;
    out
}

impl Client {
    pub fn connect(address: &str, client_id: &str, clean: bool) -> io::Result<Client> {
        Self::connect_level(4, address, client_id, clean)
    }

    /// `level` is 4 for 3.1.1, 5 for MQTT 5.
    pub fn connect_level(
        level: u8,
        address: &str,
        client_id: &str,
        clean: bool,
    ) -> io::Result<Client> {
        Self::over(open(address)?, level, client_id, clean)
    }

    pub fn over(
        stream: impl Into<Stream>,
        level: u8,
        client_id: &str,
        clean: bool,
    ) -> io::Result<Client> {
        let mut this = Self::new(stream.into(), level);
        this.stream.write_all(&connect(level, client_id, clean))?;
        match this.read()? {
            (0x20, rest) if rest.get(1) == Some(&0) => Ok(this),
            other => Err(broken(format!("want CONNACK, got {other:x?}"))),
        }
    }

    pub fn login(
        level: u8,
        address: &str,
        client_id: &str,
        user: &str,
        password: &str,
    ) -> io::Result<Client> {
        let mut this = Self::raw(address, level)?;
        this.stream.write_all(&connect_as(level, client_id, user, password))?;
        match this.read()? {
            (0x20, rest) if rest.get(1) == Some(&0) => Ok(this),
            other => Err(broken(format!("want CONNACK, got {other:x?}"))),
        }
    }

    /// A connection on which nothing has been sent.
    pub fn raw(address: &str, level: u8) -> io::Result<Client> {
        Ok(Self::new(open(address)?.into(), level))
    }

    fn new(stream: Stream, level: u8) -> Client {
        Client { stream, packet_identifier: 0, level, early: Vec::new() }
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next packet: its first byte and what follows the length.
    pub fn read(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte)?;
        let first = byte[0];
        let mut length = 0usize;
        for shift in [0, 7, 14, 21] {
            self.stream.read_exact(&mut byte)?;
            length |= usize::from(byte[0] & 0x7f) << shift;
            if byte[0] < 0x80 {
                break;
            }
        }
        let mut rest = buffer(length)?;
        self.stream.read_exact(&mut rest)?;
        Ok((first, rest))
    }

    /// Reads until the wanted acknowledgement; messages that come before are kept.
    fn acknowledged(&mut self, first: u8) -> io::Result<()> {
        loop {
            let (got, rest) = self.read()?;
            if got == first {
                return match rest.get(2) {
                    Some(0x80) => Err(broken("refused")),
                    _ => Ok(()),
                };
            }
            let body = self.message(got, &rest)?;
            self.early.push(body);
        }
    }

    /// The body of a PUBLISH, which is acknowledged.
    fn message(&mut self, first: u8, rest: &[u8]) -> io::Result<Vec<u8>> {
        if first >> 4 != 3 || rest.len() < 2 {
            return Err(broken(format!("want PUBLISH, got {first:x}")));
        }
        let mut body = 2 + usize::from(u16::from_be_bytes([rest[0], rest[1]]));
        if first & 0b110 != 0 {
            let identifier =
                rest.get(body..body + 2).ok_or_else(|| broken("no packet identifier"))?;
            self.stream.write_all(&packet(0x40, identifier))?;
            body += 2;
        }
        rest.get(body..).map(<[u8]>::to_vec).ok_or_else(|| broken("a short PUBLISH"))
    }

    fn next_identifier(&mut self) -> u16 {
        self.packet_identifier = self.packet_identifier % 0xFFFF + 1;
        self.packet_identifier
    }

    pub fn subscribe(&mut self, filter: &str) -> io::Result<()> {
        let identifier = self.next_identifier();
        self.stream.write_all(&subscribe(identifier, filter))?;
        self.acknowledged(0x90)
    }

    /// [`Self::subscribe`] in MQTT 5.
    pub fn subscribe_5(&mut self, filter: &str) -> io::Result<()> {
        let mut rest = self.next_identifier().to_be_bytes().to_vec();
        rest.push(0); // no properties
        text(&mut rest, filter);
        rest.push(1);
        self.stream.write_all(&packet(0x82, &rest))?;
        self.acknowledged(0x90)
    }

    pub fn publish(&mut self, topic: &str, body: &[u8]) -> io::Result<()> {
        let identifier = self.next_identifier();
        self.stream.write_all(&publish(identifier, topic, body))?;
        self.acknowledged(0x40)
    }

    /// Publishes at QoS 1 in MQTT 5; the reason code of the PUBACK.
    pub fn publish_reason(&mut self, topic: &str, body: &[u8]) -> io::Result<u8> {
        assert_eq!(self.level, 5, "older versions have no reasons");
        let identifier = self.next_identifier();
        // No properties.
        let body = [&[0], body].concat();
        self.stream.write_all(&publish(identifier, topic, &body))?;
        match self.read()? {
            (0x40, rest) => Ok(rest.get(2).copied().unwrap_or(0)),
            other => Err(broken(format!("want PUBACK, got {other:x?}"))),
        }
    }

    /// Publishes at QoS 0.
    pub fn publish_volatile(&mut self, topic: &str, body: &[u8]) -> io::Result<()> {
        let mut rest = Vec::new();
        text(&mut rest, topic);
        rest.extend(body);
        self.stream.write_all(&packet(0x30, &rest))
    }

    pub fn receive(&mut self) -> io::Result<Vec<u8>> {
        if !self.early.is_empty() {
            return Ok(self.early.remove(0));
        }
        let (first, rest) = self.read()?;
        self.message(first, &rest)
    }
}
