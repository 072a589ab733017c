//! MQTT 3.1.1 and 5: a lane is a topic, and every subscriber of it gets every message.

mod handshake;
mod publisher;
mod subscriber;

use crate::dialogue::Dialogue;
use crate::failure::Failure;
use crate::plan::Plan;
use crate::protocol::{Opened, Protocol};
use crate::wire::Put;

/// First byte of a packet without its flags (MQTT 5 §2.1.2).
mod kind {
    pub const CONNECT: u8 = 0x10;
    pub const CONNACK: u8 = 0x20;
    pub const PUBLISH: u8 = 0x30;
    pub const PUBACK: u8 = 0x40;
    pub const PUBREC: u8 = 0x50;
    pub const PUBREL: u8 = 0x60;
    pub const PUBCOMP: u8 = 0x70;
    pub const SUBSCRIBE: u8 = 0x80;
    pub const SUBACK: u8 = 0x90;
    pub const DISCONNECT: u8 = 0xE0;
}

/// The flags that PUBREL and SUBSCRIBE must carry.
const FLAGS: u8 = 0x02;

pub struct Mqtt;

impl Protocol for Mqtt {
    /// Topics need no creation; this only finds out early whether the broker answers.
    fn prepare(&mut self, plan: &Plan) -> Result<(), Failure> {
        handshake::connect(plan, &format!("{}-probe", plan.name()), true).map(drop)
    }

    fn producer(&self, plan: &Plan, index: usize) -> Result<Opened, Failure> {
        let client = format!("{}-pub-{index}", plan.name());
        let (dialogue, receive_max) = handshake::connect(plan, &client, true)?;
        let link = publisher::Publisher::new(plan, index, receive_max);
        Ok(Opened { dialogue, link: Box::new(link) })
    }

    fn consumer(&self, plan: &Plan, index: usize) -> Result<Opened, Failure> {
        let client = subscriber_name(plan, index);
        let (mut dialogue, _) = handshake::connect(plan, &client, !plan.persistent_session)?;
        handshake::subscribe(&mut dialogue, plan, &plan.lanes_of(index, plan.consumers))?;
        Ok(Opened { dialogue, link: Box::new(subscriber::Subscriber::new(plan)) })
    }

    fn clean_up(&self, plan: &Plan) -> Result<(), Failure> {
        if !plan.persistent_session {
            return Ok(());
        }
        // A clean start discards what the session left.
        for index in 0..plan.consumers {
            let client = subscriber_name(plan, index);
            let (mut dialogue, _): (Dialogue, _) = handshake::connect(plan, &client, true)?;
            dialogue.say(&[kind::DISCONNECT, 0])?;
        }
        Ok(())
    }

    fn promise(&self, plan: &Plan) -> String {
        let version = if plan.mqtt_version == 5 { "MQTT 5" } else { "MQTT 3.1.1" };
        let session = if plan.persistent_session { "persistent" } else { "clean" };
        format!("{version}, QoS {}, {session} session", plan.qos)
    }
}

fn subscriber_name(plan: &Plan, index: usize) -> String {
    format!("{}-sub-{index}", plan.name())
}

fn topic(plan: &Plan, lane: usize) -> String {
    format!("bench/{}", plan.lane_name(lane))
}

/// A packet's first byte, its content, and the bytes it takes.
type Packet<'a> = (u8, &'a [u8], usize);

#[inline]
fn first_packet(input: &[u8]) -> Result<Option<Packet<'_>>, Failure> {
    let Some((&first, rest)) = input.split_first() else { return Ok(None) };
    // Nearly all packets here are shorter than 128 bytes.
    let (length, head) = match rest.first() {
        None => return Ok(None),
        Some(&short @ 0..=0x7F) => (usize::from(short), 2),
        Some(_) => match remaining_length(rest)? {
            None => return Ok(None),
            Some((length, bytes)) => (length, 1 + bytes),
        },
    };
    Ok(input.get(head..head + length).map(|content| (first, content, head + length)))
}

/// A length of up to four bytes, and how many it took.
fn remaining_length(input: &[u8]) -> Result<Option<(usize, usize)>, Failure> {
    let mut length = 0;
    for (index, &byte) in input.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * index);
        if byte < 0x80 {
            return Ok(Some((length, index + 1)));
        }
    }
    match input.len() >= 4 {
        true => Err(Failure::Malformed("remaining length")),
        false => Ok(None),
    }
}

/// Size of the packet at the front; a broken length becomes one that no limit allows.
fn packet_bytes(input: &[u8]) -> Option<usize> {
    match remaining_length(input.get(1..)?) {
        Ok(None) => None,
        Ok(Some((length, bytes))) => Some(1 + bytes + length),
        Err(_) => Some(usize::MAX),
    }
}

fn put_packet(out: &mut Vec<u8>, first: u8, content: &[u8]) {
    out.put_u8(first);
    let mut rest = content.len();
    while rest >= 0x80 {
        out.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
    out.put(content);
}

/// PUBACK and its relatives: only a packet identifier, and so the reason "success".
#[inline]
fn put_answer(out: &mut Vec<u8>, first: u8, packet_identifier: u16) {
    let [high, low] = packet_identifier.to_be_bytes();
    out.put(&[first, 2, high, low]);
}

/// The packet identifier of PUBACK, PUBREC, PUBREL and PUBCOMP, if the reason is a success.
fn answered(content: &[u8]) -> Result<u16, Failure> {
    let identifier = content.first_chunk::<2>().ok_or(Failure::Malformed("acknowledgement"))?;
    match content.get(2) {
        // §2.4: reasons below 0x80 are successes, such as "no matching subscribers".
        None | Some(0..=0x7F) => Ok(u16::from_be_bytes(*identifier)),
        Some(reason) => Err(Failure::Refused(format!("PUBLISH: reason {reason:#04x}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_of_every_length_are_found_whole() {
        for length in [0, 1, 127, 128, 16_383, 16_384, 2_097_152] {
            let mut bytes = Vec::new();
            put_packet(&mut bytes, 0x30, &vec![7; length]);
            let (first, content, used) = first_packet(&bytes).unwrap().unwrap();
            assert_eq!((first, content.len(), used), (0x30, length, bytes.len()));
            assert_eq!(packet_bytes(&bytes), Some(bytes.len()));
            assert!(first_packet(&bytes[..bytes.len() - 1]).unwrap().is_none());
        }
        assert!(first_packet(&[0x30, 0x80, 0x80, 0x80, 0x80]).is_err());
        assert!(first_packet(&[0x30, 0x80, 0x80]).unwrap().is_none());
        assert!(first_packet(&[]).unwrap().is_none());
    }

    #[test]
    fn answers_with_a_failing_reason_are_refusals() {
        assert_eq!(answered(&[1, 2]).unwrap(), 0x102);
        assert_eq!(answered(&[1, 2, 0x10, 0]).unwrap(), 0x102);
        assert!(answered(&[1, 2, 0x97]).is_err());
        assert!(answered(&[1]).is_err());
    }
}
