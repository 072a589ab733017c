//! The packets of MQTT 3.1, 3.1.1 and 5 to and from bytes. Pure: never allocates more than the bytes
//! it was given, never panics on what a peer sends. Both directions are here, so that tests and the
//! load generator speak through the same code.

mod acknowledgement;
mod auth;
mod connack;
mod connect;
mod disconnect;
pub mod properties;
mod publish;
mod reader;
mod subscribe;
mod unsubscribe;
mod writer;

#[cfg(test)]
mod tests;

pub use acknowledgement::{put_acknowledgement, Acknowledgement};
pub use auth::Auth;
pub use connack::Connack;
pub use connect::{Connect, Will};
pub use disconnect::Disconnect;
pub use properties::{properties_of, put_property, Hidden, Properties, Property};
pub use publish::{Publish, PublishFrame};
pub use reader::{check_text, VARIABLE_BYTE_INTEGER_MAX};
pub use subscribe::{RetainHandling, Suback, Subscribe, SubscribeEntry, SubscriptionOptions};
pub use unsubscribe::{Unsuback, Unsubscribe};
pub use writer::FIELD_BYTES_MAX;

use crate::error::{DecodeError, Malformed};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use reader::Reader;

/// The protocol level of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Protocol name `MQIsdp`, level 3.
    V3_1,
    /// Level 4.
    V3_1_1,
    V5,
}

impl Version {
    pub fn level(self) -> u8 {
        match self {
            Version::V3_1 => 3,
            Version::V3_1_1 => 4,
            Version::V5 => 5,
        }
    }

    /// Properties and reason codes exist.
    pub fn is_v5(self) -> bool {
        self == Version::V5
    }
}

/// Quality of service: at most once, at least once, exactly once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Qos {
    #[default]
    AtMostOnce = 0,
    AtLeastOnce = 1,
    ExactlyOnce = 2,
}

impl Qos {
    /// From the low two bits of `bits`.
    pub fn from_bits(bits: u8) -> Result<Qos, Malformed> {
        match bits & 0b11 {
            0 => Ok(Qos::AtMostOnce),
            1 => Ok(Qos::AtLeastOnce),
            2 => Ok(Qos::ExactlyOnce),
            _ => Err(Malformed::Qos),
        }
    }
}

/// MQTT 5 §2.1.2, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PacketType {
    Connect = 1,
    Connack = 2,
    Publish = 3,
    Puback = 4,
    Pubrec = 5,
    Pubrel = 6,
    Pubcomp = 7,
    Subscribe = 8,
    Suback = 9,
    Unsubscribe = 10,
    Unsuback = 11,
    Pingreq = 12,
    Pingresp = 13,
    Disconnect = 14,
    Auth = 15,
}

impl PacketType {
    /// The packet of a type number, 1 to 15.
    pub fn from_number(number: u8) -> Option<PacketType> {
        Some(match number {
            1 => PacketType::Connect,
            2 => PacketType::Connack,
            3 => PacketType::Publish,
            4 => PacketType::Puback,
            5 => PacketType::Pubrec,
            6 => PacketType::Pubrel,
            7 => PacketType::Pubcomp,
            8 => PacketType::Subscribe,
            9 => PacketType::Suback,
            10 => PacketType::Unsubscribe,
            11 => PacketType::Unsuback,
            12 => PacketType::Pingreq,
            13 => PacketType::Pingresp,
            14 => PacketType::Disconnect,
            15 => PacketType::Auth,
            _ => return None,
        })
    }

    fn from_first_byte(first: u8) -> Result<PacketType, Malformed> {
        let number = first >> 4;
        let packet_type = PacketType::from_number(number).ok_or(Malformed::PacketType(number))?;
        let flags = first & 0x0F;
        let expected = match packet_type {
            PacketType::Publish => return Ok(packet_type),
            PacketType::Pubrel | PacketType::Subscribe | PacketType::Unsubscribe => 0b0010,
            _ => 0,
        };
        if flags != expected {
            return Err(Malformed::FixedHeaderFlags(first));
        }
        Ok(packet_type)
    }

    fn first_byte(self) -> u8 {
        let flags = match self {
            PacketType::Pubrel | PacketType::Subscribe | PacketType::Unsubscribe => 0b0010,
            _ => 0,
        };
        (self as u8) << 4 | flags
    }
}

/// A decoded packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    Connect(Box<Connect>),
    Connack(Connack),
    Publish(Publish),
    Puback(Acknowledgement),
    Pubrec(Acknowledgement),
    Pubrel(Acknowledgement),
    Pubcomp(Acknowledgement),
    Subscribe(Subscribe),
    Suback(Suback),
    Unsubscribe(Unsubscribe),
    Unsuback(Unsuback),
    Pingreq,
    Pingresp,
    Disconnect(Disconnect),
    Auth(Auth),
}

impl Packet {
    pub fn packet_type(&self) -> PacketType {
        match self {
            Packet::Connect(_) => PacketType::Connect,
            Packet::Connack(_) => PacketType::Connack,
            Packet::Publish(_) => PacketType::Publish,
            Packet::Puback(_) => PacketType::Puback,
            Packet::Pubrec(_) => PacketType::Pubrec,
            Packet::Pubrel(_) => PacketType::Pubrel,
            Packet::Pubcomp(_) => PacketType::Pubcomp,
            Packet::Subscribe(_) => PacketType::Subscribe,
            Packet::Suback(_) => PacketType::Suback,
            Packet::Unsubscribe(_) => PacketType::Unsubscribe,
            Packet::Unsuback(_) => PacketType::Unsuback,
            Packet::Pingreq => PacketType::Pingreq,
            Packet::Pingresp => PacketType::Pingresp,
            Packet::Disconnect(_) => PacketType::Disconnect,
            Packet::Auth(_) => PacketType::Auth,
        }
    }

    /// Appends the packet in the form of `version`.
    pub fn encode(&self, version: Version, out: &mut BytesMut) {
        let packet_type = self.packet_type();
        match self {
            Packet::Connect(connect) => connect.encode(out),
            Packet::Connack(connack) => connack.encode(version, out),
            Packet::Publish(publish) => publish.encode(version, out),
            Packet::Puback(packet)
            | Packet::Pubrec(packet)
            | Packet::Pubrel(packet)
            | Packet::Pubcomp(packet) => packet.encode(packet_type, version, out),
            Packet::Subscribe(subscribe) => subscribe.encode(version, out),
            Packet::Suback(suback) => suback.encode(version, out),
            Packet::Unsubscribe(unsubscribe) => unsubscribe.encode(version, out),
            Packet::Unsuback(unsuback) => unsuback.encode(version, out),
            Packet::Pingreq | Packet::Pingresp => out.put_slice(&[packet_type.first_byte(), 0]),
            Packet::Disconnect(disconnect) => disconnect.encode(version, out),
            Packet::Auth(auth) => auth.encode(out),
        }
    }
}

/// The first byte and the length of a packet (MQTT 5 §2.1.1).
///
/// ```text
/// +---------------+-----------------------------+------------------+
/// | type 4b flags | remaining length 1..4 bytes | body             |
/// +---------------+-----------------------------+------------------+
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedHeader {
    pub packet_type: PacketType,
    pub first: u8,
    /// 2 to 5.
    pub header_bytes: usize,
    pub body_bytes: usize,
}

impl FixedHeader {
    /// `None` while the header is incomplete. A bad first byte is found before the length arrives.
    pub fn parse(input: &[u8]) -> Result<Option<FixedHeader>, Malformed> {
        let Some(first) = input.first().copied() else {
            return Ok(None);
        };
        let packet_type = PacketType::from_first_byte(first)?;
        let length =
            reader::variable_byte_integer(&input[1..]).map_err(|_| Malformed::RemainingLength)?;
        Ok(length.map(|(body_bytes, length_bytes)| FixedHeader {
            packet_type,
            first,
            header_bytes: 1 + length_bytes,
            body_bytes: body_bytes as usize,
        }))
    }

    pub fn packet_bytes(&self) -> usize {
        self.header_bytes + self.body_bytes
    }
}

/// Cuts packets out of a connection's input.
#[derive(Clone, Debug)]
pub struct Decoder {
    version: Version,
    packet_bytes_max: usize,
}

impl Decoder {
    /// `packet_bytes_max` counts the whole packet, as the Maximum Packet Size property does.
    pub fn new(version: Version, packet_bytes_max: usize) -> Decoder {
        Decoder { version, packet_bytes_max }
    }

    pub fn version(&self) -> Version {
        self.version
    }

    pub fn set_version(&mut self, version: Version) {
        self.version = version;
    }

    pub fn set_packet_bytes_max(&mut self, packet_bytes_max: usize) {
        self.packet_bytes_max = packet_bytes_max;
    }

    /// The next packet, removed from `input`; `None` if it is not complete. The input is left alone
    /// until a packet is whole, and a header that announces too much fails before its body arrives.
    pub fn next(&self, input: &mut BytesMut) -> Result<Option<Packet>, DecodeError> {
        let Some(header) = FixedHeader::parse(input)? else {
            return Ok(None);
        };
        if header.packet_bytes() > self.packet_bytes_max {
            return Err(DecodeError::PacketTooLarge);
        }
        if input.len() < header.packet_bytes() {
            return Ok(None);
        }
        if let Some(packet) = short_acknowledgement(&header, input) {
            input.advance(header.packet_bytes());
            return Ok(Some(packet));
        }
        let mut packet = input.split_to(header.packet_bytes());
        packet.advance(header.header_bytes);
        decode_body(&header, self.version, packet.freeze()).map(Some)
    }
}

/// The four-byte PUBACK, PUBREC, PUBREL and PUBCOMP, which are the same in every version and too
/// frequent to take a reference to the buffer for.
fn short_acknowledgement(header: &FixedHeader, input: &[u8]) -> Option<Packet> {
    if header.body_bytes != 2 {
        return None;
    }
    let body = input.get(header.header_bytes..header.packet_bytes())?;
    let packet_identifier = u16::from_be_bytes([body[0], body[1]]);
    if packet_identifier == 0 {
        return None;
    }
    let packet = Acknowledgement::new(packet_identifier);
    match header.packet_type {
        PacketType::Puback => Some(Packet::Puback(packet)),
        PacketType::Pubrec => Some(Packet::Pubrec(packet)),
        PacketType::Pubrel => Some(Packet::Pubrel(packet)),
        PacketType::Pubcomp => Some(Packet::Pubcomp(packet)),
        _ => None,
    }
}

/// Decodes one packet whose fixed header was cut off.
pub fn decode_body(
    header: &FixedHeader,
    version: Version,
    body: Bytes,
) -> Result<Packet, DecodeError> {
    let packet_type = header.packet_type;
    if packet_type == PacketType::Publish {
        return Publish::decode(header.first, version, body).map(Packet::Publish);
    }
    let mut reader = Reader::new(body);
    let packet = match packet_type {
        PacketType::Connect => Packet::Connect(Box::new(Connect::decode(&mut reader)?)),
        PacketType::Connack => Packet::Connack(Connack::decode(version, &mut reader)?),
        PacketType::Puback => {
            Packet::Puback(Acknowledgement::decode(header, version, &mut reader)?)
        }
        PacketType::Pubrec => {
            Packet::Pubrec(Acknowledgement::decode(header, version, &mut reader)?)
        }
        PacketType::Pubrel => {
            Packet::Pubrel(Acknowledgement::decode(header, version, &mut reader)?)
        }
        PacketType::Pubcomp => {
            Packet::Pubcomp(Acknowledgement::decode(header, version, &mut reader)?)
        }
        PacketType::Subscribe => Packet::Subscribe(Subscribe::decode(version, &mut reader)?),
        PacketType::Suback => Packet::Suback(Suback::decode(version, &mut reader)?),
        PacketType::Unsubscribe => Packet::Unsubscribe(Unsubscribe::decode(version, &mut reader)?),
        PacketType::Unsuback => Packet::Unsuback(Unsuback::decode(version, &mut reader)?),
        PacketType::Pingreq => Packet::Pingreq,
        PacketType::Pingresp => Packet::Pingresp,
        PacketType::Disconnect => Packet::Disconnect(Disconnect::decode(version, &mut reader)?),
        PacketType::Auth if version.is_v5() => Packet::Auth(Auth::decode(&mut reader)?),
        PacketType::Auth | PacketType::Publish => {
            return Err(Malformed::PacketType(packet_type as u8).into());
        }
    };
    reader.finish()?;
    Ok(packet)
}
