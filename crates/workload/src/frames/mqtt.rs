//! MQTT: packets, cut and put together.

use super::wire::Put;
use super::Malformed;

/// First byte of a packet without its flags (MQTT 5 §2.1.2).
pub mod kind {
    pub const CONNECT: u8 = 0x10;
    pub const CONNACK: u8 = 0x20;
    pub const PUBLISH: u8 = 0x30;
    pub const PUBACK: u8 = 0x40;
    pub const PUBREC: u8 = 0x50;
    pub const PUBREL: u8 = 0x60;
    pub const PUBCOMP: u8 = 0x70;
    pub const SUBSCRIBE: u8 = 0x80;
    pub const SUBACK: u8 = 0x90;
    pub const PINGREQ: u8 = 0xC0;
    pub const PINGRESP: u8 = 0xD0;
    pub const DISCONNECT: u8 = 0xE0;
}

/// The flags that PUBREL and SUBSCRIBE must carry.
pub const FLAGS: u8 = 0x02;

/// A packet's first byte, its content, and the bytes it takes.
pub type Packet<'a> = (u8, &'a [u8], usize);

#[inline]
pub fn first_packet(input: &[u8]) -> Result<Option<Packet<'_>>, Malformed> {
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
pub fn remaining_length(input: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let mut length = 0;
    for (index, &byte) in input.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * index);
        if byte < 0x80 {
            return Ok(Some((length, index + 1)));
        }
    }
    match input.len() >= 4 {
        true => Err(Malformed("remaining length")),
        false => Ok(None),
    }
}

/// Size of the packet at the front; a broken length becomes one that no limit allows.
pub fn packet_bytes(input: &[u8]) -> Option<usize> {
    match remaining_length(input.get(1..)?) {
        Ok(None) => None,
        Ok(Some((length, bytes))) => Some(1 + bytes + length),
        Err(_) => Some(usize::MAX),
    }
}

pub fn put_packet(out: &mut Vec<u8>, first: u8, content: &[u8]) {
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
pub fn put_answer(out: &mut Vec<u8>, first: u8, packet_identifier: u16) {
    let [high, low] = packet_identifier.to_be_bytes();
    out.put(&[first, 2, high, low]);
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
}
