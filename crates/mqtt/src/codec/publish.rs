//! PUBLISH (MQTT 5 §3.3). Decoded as a checked view over the packet's own bytes; encoded straight
//! into the output with the payload shared. No allocation per packet in either direction.

use super::properties::{check_properties, subscription_identifier_size, Place, Property};
use super::reader::{check_text, variable_byte_integer};
use super::writer::{
    put_field, put_variable_byte_integer, variable_byte_integer_size, FIELD_BYTES_MAX,
};
use super::{PacketType, Qos, Version, VARIABLE_BYTE_INTEGER_MAX};
use crate::error::{DecodeError, Malformed, Violation};
use crate::topic::check_topic_name;
use bytes::{BufMut, Bytes, BytesMut};
use koine_base::Rope;

const DUPLICATE: u8 = 0x08;
const RETAIN: u8 = 0x01;

/// A received PUBLISH.
///
/// ```text
/// body: | topic length 2 | topic | packet identifier 2, QoS > 0 | properties, v5 | payload |
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    pub duplicate: bool,
    pub qos: Qos,
    pub retain: bool,
    /// 0 at QoS 0.
    pub packet_identifier: u16,
    /// Bound to the topic by this packet, or stands for it if the topic is empty.
    pub topic_alias: Option<u16>,
    /// Seconds.
    pub message_expiry_interval: Option<u32>,
    /// Only a server may send one.
    pub has_subscription_identifier: bool,
    body: Bytes,
    // Positions in `body`; `decode` has checked them.
    topic_end: u32,
    properties_start: u32,
    payload_start: u32,
}

impl Publish {
    pub(super) fn decode(first: u8, version: Version, body: Bytes) -> Result<Publish, DecodeError> {
        let qos = Qos::from_bits(first >> 1)?;
        let duplicate = first & DUPLICATE != 0;
        if duplicate && qos == Qos::AtMostOnce {
            return Err(Malformed::DuplicateFlag.into());
        }
        let topic_end = topic_end(&body)?;
        let mut at = topic_end;
        let mut packet_identifier = 0;
        if qos != Qos::AtMostOnce {
            let bytes = body.get(at..at + 2).ok_or(Malformed::Truncated)?;
            packet_identifier = u16::from_be_bytes([bytes[0], bytes[1]]);
            if packet_identifier == 0 {
                return Err(Violation::PacketIdentifierZero.into());
            }
            at += 2;
        }
        let mut publish = Publish {
            duplicate,
            qos,
            retain: first & RETAIN != 0,
            packet_identifier,
            topic_alias: None,
            message_expiry_interval: None,
            has_subscription_identifier: false,
            topic_end: topic_end as u32,
            properties_start: at as u32,
            payload_start: at as u32,
            body,
        };
        if version.is_v5() {
            publish.decode_properties(at)?;
        }
        if topic_end == 2 {
            if publish.topic_alias.is_none() {
                return Err(Violation::TopicMissing.into());
            }
        } else {
            check_topic_name(check_text(&publish.body[2..topic_end])?)?;
        }
        Ok(publish)
    }

    fn decode_properties(&mut self, at: usize) -> Result<(), DecodeError> {
        let read = variable_byte_integer(&self.body[at..])?;
        let (length, length_bytes) = read.ok_or(Malformed::Truncated)?;
        let start = at + length_bytes;
        let end = start + length as usize;
        let block = self.body.get(start..end).ok_or(Malformed::Truncated)?;
        let (mut alias, mut expiry, mut identifier) = (None, None, false);
        check_properties(block, Place::Publish, |property| match property {
            Property::TopicAlias(value) => alias = Some(value),
            Property::MessageExpiryInterval(seconds) => expiry = Some(seconds),
            Property::SubscriptionIdentifier(_) => identifier = true,
            _ => {}
        })?;
        self.topic_alias = alias;
        self.message_expiry_interval = expiry;
        self.has_subscription_identifier = identifier;
        self.properties_start = start as u32;
        self.payload_start = end as u32;
        Ok(())
    }

    /// UTF-8, checked when the packet was decoded. Empty if an alias stands for it.
    pub fn topic(&self) -> &[u8] {
        &self.body[2..self.topic_end as usize]
    }

    pub fn topic_text(&self) -> &str {
        std::str::from_utf8(self.topic()).unwrap_or_default()
    }

    /// The topic as a share of the input buffer.
    pub fn topic_bytes(&self) -> Bytes {
        self.body.slice(2..self.topic_end as usize)
    }

    /// The raw property block, without its length.
    pub fn properties(&self) -> &[u8] {
        &self.body[self.properties_start as usize..self.payload_start as usize]
    }

    /// The property block as a share of the input buffer.
    pub fn properties_bytes(&self) -> Bytes {
        self.body.slice(self.properties_start as usize..self.payload_start as usize)
    }

    /// The payload as a share of the input buffer.
    pub fn payload(&self) -> Bytes {
        self.body.slice(self.payload_start as usize..)
    }

    pub fn payload_size(&self) -> usize {
        self.body.len() - self.payload_start as usize
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) {
        let payload = self.payload();
        let frame = PublishFrame {
            version,
            topic: self.topic(),
            qos: self.qos,
            retain: self.retain,
            duplicate: self.duplicate,
            packet_identifier: self.packet_identifier,
            properties: self.properties(),
            message_expiry_interval: None,
            topic_alias: None,
            subscription_identifiers: &[],
            payload: &payload,
        };
        frame.encode_head(out);
        out.put_slice(&payload);
    }
}

fn topic_end(body: &[u8]) -> Result<usize, Malformed> {
    let length = body.get(..2).ok_or(Malformed::Truncated)?;
    let end = 2 + usize::from(u16::from_be_bytes([length[0], length[1]]));
    if end > body.len() {
        return Err(Malformed::Truncated);
    }
    Ok(end)
}

/// Payloads below this are copied into the output, which is cheaper than taking a reference.
const COPIED_BYTES_MAX: usize = 512;

/// A PUBLISH to be sent.
#[derive(Clone, Copy, Debug)]
pub struct PublishFrame<'a> {
    pub version: Version,
    /// Empty if `topic_alias` already stands for it.
    pub topic: &'a [u8],
    pub qos: Qos,
    pub retain: bool,
    pub duplicate: bool,
    /// Ignored at QoS 0.
    pub packet_identifier: u16,
    /// Raw properties to be sent verbatim; ignored before version 5.
    pub properties: &'a [u8],
    /// Properties added to the raw ones, which must not hold them already.
    pub message_expiry_interval: Option<u32>,
    pub topic_alias: Option<u16>,
    pub subscription_identifiers: &'a [u32],
    pub payload: &'a Bytes,
}

impl PublishFrame<'_> {
    fn properties_size(&self) -> usize {
        let mut size = self.properties.len();
        if self.message_expiry_interval.is_some() {
            size += 5;
        }
        if self.topic_alias.is_some() {
            size += 3;
        }
        let identifiers = self.subscription_identifiers.iter();
        size + identifiers.map(|id| subscription_identifier_size(*id)).sum::<usize>()
    }

    fn body_size(&self) -> usize {
        let mut size = 2 + self.topic.len() + self.payload.len();
        if self.qos != Qos::AtMostOnce {
            size += 2;
        }
        if self.version.is_v5() {
            let properties = self.properties_size();
            size += variable_byte_integer_size(properties) + properties;
        }
        size
    }

    /// Size of the whole packet; `None` if no MQTT packet can hold it.
    pub fn packet_size(&self) -> Option<usize> {
        let body = self.body_size();
        if body > VARIABLE_BYTE_INTEGER_MAX as usize || self.topic.len() > FIELD_BYTES_MAX {
            return None;
        }
        Some(1 + variable_byte_integer_size(body) + body)
    }

    /// Appends the packet. The caller has compared [`Self::packet_size`] with the receiver's limit.
    pub fn encode(&self, out: &mut Rope) {
        self.encode_head(out.tail());
        if self.payload.len() < COPIED_BYTES_MAX {
            out.put(self.payload);
        } else {
            out.push(self.payload.clone());
        }
    }

    /// All but the payload.
    fn encode_head(&self, out: &mut BytesMut) {
        let mut first = PacketType::Publish.first_byte() | (self.qos as u8) << 1;
        if self.duplicate {
            first |= DUPLICATE;
        }
        if self.retain {
            first |= RETAIN;
        }
        out.put_u8(first);
        put_variable_byte_integer(out, self.body_size());
        put_field(out, self.topic);
        if self.qos != Qos::AtMostOnce {
            out.put_u16(self.packet_identifier);
        }
        if self.version.is_v5() {
            self.encode_properties(out);
        }
    }

    fn encode_properties(&self, out: &mut BytesMut) {
        put_variable_byte_integer(out, self.properties_size());
        if let Some(alias) = self.topic_alias {
            out.put_u8(0x23);
            out.put_u16(alias);
        }
        if let Some(seconds) = self.message_expiry_interval {
            out.put_u8(0x02);
            out.put_u32(seconds);
        }
        for identifier in self.subscription_identifiers {
            out.put_u8(0x0B);
            put_variable_byte_integer(out, *identifier as usize);
        }
        out.put_slice(self.properties);
    }
}
