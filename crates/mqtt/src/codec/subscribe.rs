//! SUBSCRIBE and SUBACK (MQTT 5 §3.8, §3.9). Filters are only checked as text here; what is wrong
//! with one filter is answered per filter by the session.

use super::properties::{Place, Properties, Property};
use super::reader::Reader;
use super::writer::{put_field, put_packet};
use super::{PacketType, Qos, Version};
use crate::error::{DecodeError, Malformed, ReasonCode, Violation};
use bytes::{BufMut, BytesMut};

/// What a new subscription wants of retained messages (§3.8.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum RetainHandling {
    #[default]
    Send = 0,
    SendIfNew = 1,
    Never = 2,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionOptions {
    pub qos: Qos,
    pub no_local: bool,
    pub retain_as_published: bool,
    pub retain_handling: RetainHandling,
}

impl SubscriptionOptions {
    pub fn from_byte(byte: u8, version: Version) -> Result<SubscriptionOptions, DecodeError> {
        let reserved = if version.is_v5() { 0xC0 } else { 0xFC };
        if byte & reserved != 0 {
            return Err(Malformed::SubscriptionOptions(byte).into());
        }
        let retain_handling = match byte >> 4 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::Never,
            _ => return Err(Violation::RetainHandling.into()),
        };
        Ok(SubscriptionOptions {
            qos: Qos::from_bits(byte)?,
            no_local: byte & 0x04 != 0,
            retain_as_published: byte & 0x08 != 0,
            retain_handling,
        })
    }

    pub fn byte(self) -> u8 {
        self.qos as u8
            | u8::from(self.no_local) << 2
            | u8::from(self.retain_as_published) << 3
            | (self.retain_handling as u8) << 4
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscribeEntry {
    pub topic_filter: String,
    pub options: SubscriptionOptions,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    pub packet_identifier: u16,
    pub properties: Properties,
    /// At least one.
    pub entries: Vec<SubscribeEntry>,
}

impl Subscribe {
    pub fn subscription_identifier(&self) -> Option<u32> {
        self.properties.find(|property| match property {
            Property::SubscriptionIdentifier(identifier) => Some(identifier),
            _ => None,
        })
    }

    pub(super) fn decode(version: Version, reader: &mut Reader) -> Result<Subscribe, DecodeError> {
        let (packet_identifier, properties) = decode_head(version, reader, Place::Subscribe)?;
        let mut entries = Vec::new();
        while reader.remaining() > 0 {
            let topic_filter = reader.text()?;
            let options = SubscriptionOptions::from_byte(reader.u8()?, version)?;
            entries.push(SubscribeEntry { topic_filter, options });
        }
        if entries.is_empty() {
            return Err(Violation::NoTopicFilter.into());
        }
        Ok(Subscribe { packet_identifier, properties, entries })
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) {
        let mut body = encode_head(version, self.packet_identifier, &self.properties);
        for entry in &self.entries {
            put_field(&mut body, entry.topic_filter.as_bytes());
            body.put_u8(entry.options.byte());
        }
        put_packet(out, PacketType::Subscribe.first_byte(), &body);
    }
}

/// Packet identifier and properties: how SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK begin.
pub(super) fn decode_head(
    version: Version,
    reader: &mut Reader,
    place: Place,
) -> Result<(u16, Properties), DecodeError> {
    let packet_identifier = reader.u16()?;
    if packet_identifier == 0 {
        return Err(Violation::PacketIdentifierZero.into());
    }
    let properties = match version {
        Version::V5 => Properties::read(reader, place)?,
        _ => Properties::default(),
    };
    Ok((packet_identifier, properties))
}

pub(super) fn encode_head(
    version: Version,
    packet_identifier: u16,
    properties: &Properties,
) -> BytesMut {
    let mut body = BytesMut::new();
    body.put_u16(packet_identifier);
    if version.is_v5() {
        properties.write(&mut body);
    }
    body
}

/// The reason codes at the end of SUBACK and UNSUBACK.
pub(super) fn decode_reasons(reader: &mut Reader) -> Result<Vec<ReasonCode>, DecodeError> {
    let mut reasons = Vec::new();
    while reader.remaining() > 0 {
        let byte = reader.u8()?;
        reasons.push(ReasonCode::from_byte(byte).ok_or(Malformed::ReasonCode(byte))?);
    }
    Ok(reasons)
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suback {
    pub packet_identifier: u16,
    pub properties: Properties,
    /// One for each filter, in the order of the SUBSCRIBE.
    pub reasons: Vec<ReasonCode>,
}

impl Suback {
    pub(super) fn decode(version: Version, reader: &mut Reader) -> Result<Suback, DecodeError> {
        let (packet_identifier, properties) = decode_head(version, reader, Place::Acknowledgement)?;
        Ok(Suback { packet_identifier, properties, reasons: decode_reasons(reader)? })
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) {
        let mut body = encode_head(version, self.packet_identifier, &self.properties);
        for reason in &self.reasons {
            body.put_u8(match version {
                Version::V5 => reason.byte(),
                _ => reason.suback_return_code(),
            });
        }
        put_packet(out, PacketType::Suback.first_byte(), &body);
    }
}
