//! A small MQTT 3.1.1 client: publishes with QoS 1, subscribes with QoS 1.

use super::wire::{unexpected, Connection, Feed, Fields, Outgoing, WireError, Writer};
use bytes::BytesMut;
use std::net::SocketAddr;

const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const PUBACK: u8 = 0x40;
const SUBSCRIBE: u8 = 0x82;
const SUBACK: u8 = 0x90;
/// QoS 1 in the flags of PUBLISH (MQTT 3.1.1 §3.3.1.2).
const QOS_1: u8 = 0x02;

/// Length of the packet at the head, once its fixed header is there.
fn split(bytes: &[u8]) -> Result<Option<usize>, WireError> {
    let mut remaining = 0usize;
    for index in 0..4 {
        let Some(byte) = bytes.get(1 + index) else {
            return Ok(None);
        };
        remaining |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some(2 + index + remaining));
        }
    }
    Err(unexpected("an MQTT length of more than four bytes"))
}

/// First byte and body of a packet.
fn open_packet(packet: &BytesMut) -> (u8, Fields<'_>) {
    let header = 1 + packet[1..].iter().take_while(|byte| **byte & 0x80 != 0).count() + 1;
    (packet[0], Fields(&packet[header..]))
}

fn put_packet(out: &mut Vec<u8>, first: u8, parts: &[&[u8]]) {
    let mut remaining: usize = parts.iter().map(|part| part.len()).sum();
    out.push(first);
    loop {
        let low = (remaining & 0x7F) as u8;
        remaining >>= 7;
        out.push(if remaining > 0 { low | 0x80 } else { low });
        if remaining == 0 {
            break;
        }
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// Lengths here are of short names.
fn prefix(text: &str) -> [u8; 2] {
    (text.len() as u16).to_be_bytes()
}

fn connect(address: SocketAddr, client_id: &str) -> Result<Connection, WireError> {
    let mut connection = Connection::open(address)?;
    let mut out = Vec::new();
    // Clean session, no keep-alive.
    let head = [0, 4, b'M', b'Q', b'T', b'T', 4, 0x02, 0, 0];
    put_packet(&mut out, CONNECT, &[&head, &prefix(client_id), client_id.as_bytes()]);
    connection.send(&out)?;
    let answer = connection.wait_frame(split)?;
    match &answer[..] {
        [CONNACK, 2, _, 0] => Ok(connection),
        other => Err(unexpected(format!("CONNECT was answered with {other:02x?}"))),
    }
}

pub struct MqttWriter {
    connection: Connection,
    prefix: String,
    next_identifier: u16,
}

impl MqttWriter {
    pub fn open(address: SocketAddr, prefix: &str) -> Result<Self, WireError> {
        let connection = connect(address, &format!("{prefix}-writer"))?;
        Ok(MqttWriter { connection, prefix: prefix.to_owned(), next_identifier: 1 })
    }
}

impl Writer for MqttWriter {
    fn write(&mut self, records: &[Outgoing<'_>]) -> Result<(), WireError> {
        let mut out = Vec::new();
        for record in records {
            let topic = record.flight.subject(&self.prefix, '/');
            let identifier = self.next_identifier.to_be_bytes();
            self.next_identifier = self.next_identifier.checked_add(1).unwrap_or(1);
            let parts =
                [&prefix(&topic)[..], topic.as_bytes(), &identifier, record.body.as_bytes()];
            put_packet(&mut out, PUBLISH | QOS_1, &parts);
        }
        self.connection.send(&out)?;
        for _ in records {
            let packet = self.connection.wait_frame(split)?;
            if packet[0] != PUBACK {
                return Err(unexpected(format!("PUBLISH was answered with {:02x?}", &packet[..])));
            }
        }
        Ok(())
    }
}

/// Reads one wildcard subscription until told to stop.
pub fn read(
    address: SocketAddr,
    client_id: &str,
    filter: &str,
    feed: &Feed,
) -> Result<(), WireError> {
    let mut connection = connect(address, client_id)?;
    let mut out = Vec::new();
    put_packet(&mut out, SUBSCRIBE, &[&[0, 1], &prefix(filter), filter.as_bytes(), &[1]]);
    connection.send(&out)?;
    let answer = connection.wait_frame(split)?;
    if answer[0] != SUBACK || answer.last() != Some(&1) {
        return Err(unexpected(format!("SUBSCRIBE was answered with {:02x?}", &answer[..])));
    }
    feed.subscribed(0);
    while !feed.is_stopped() {
        let Some(packet) = connection.poll_frame(split)? else {
            continue;
        };
        let (first, mut fields) = open_packet(&packet);
        if first & 0xF0 != PUBLISH {
            return Err(unexpected(format!("a packet {first:#04x} to a subscriber")));
        }
        let topic_bytes = fields.u16()?;
        fields.take(usize::from(topic_bytes))?;
        if first & 0x06 == QOS_1 {
            let identifier = fields.u16()?.to_be_bytes();
            out.clear();
            put_packet(&mut out, PUBACK, &[&identifier]);
            connection.send(&out)?;
        }
        feed.received(fields.0);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_split_where_they_were_put() {
        for size in [0, 100, 127, 128, 16_383, 16_384, 100_000] {
            let mut out = Vec::new();
            put_packet(&mut out, PUBLISH, &[&vec![7; size]]);
            assert_eq!(split(&out).unwrap(), Some(out.len()), "{size}");
            assert_eq!(split(&out[..1]).unwrap(), None);
            let packet = BytesMut::from(&out[..]);
            let (first, fields) = open_packet(&packet);
            assert_eq!((first, fields.0.len()), (PUBLISH, size));
        }
        assert!(split(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF]).is_err());
    }
}
