//! UNSUBSCRIBE and UNSUBACK (MQTT 5 §3.10, §3.11).

use super::properties::{Place, Properties};
use super::reader::Reader;
use super::subscribe::{decode_head, decode_reasons, encode_head};
use super::writer::{put_field, put_packet};
use super::{PacketType, Version};
use crate::error::{DecodeError, ReasonCode, Violation};
use bytes::{BufMut, BytesMut};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    pub packet_identifier: u16,
    pub properties: Properties,
    /// At least one.
    pub topic_filters: Vec<String>,
}

impl Unsubscribe {
    pub(super) fn decode(
        version: Version,
        reader: &mut Reader,
    ) -> Result<Unsubscribe, DecodeError> {
        let (packet_identifier, properties) = decode_head(version, reader, Place::Unsubscribe)?;
        let mut topic_filters = Vec::new();
        while reader.remaining() > 0 {
            topic_filters.push(reader.text()?);
        }
        if topic_filters.is_empty() {
            return Err(Violation::NoTopicFilter.into());
        }
        Ok(Unsubscribe { packet_identifier, properties, topic_filters })
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) {
        let mut body = encode_head(version, self.packet_identifier, &self.properties);
        for topic_filter in &self.topic_filters {
            put_field(&mut body, topic_filter.as_bytes());
        }
        put_packet(out, PacketType::Unsubscribe.first_byte(), &body);
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsuback {
    pub packet_identifier: u16,
    pub properties: Properties,
    /// One for each filter, in the order of the UNSUBSCRIBE; not sent before version 5.
    pub reasons: Vec<ReasonCode>,
}

impl Unsuback {
    pub(super) fn decode(version: Version, reader: &mut Reader) -> Result<Unsuback, DecodeError> {
        let (packet_identifier, properties) = decode_head(version, reader, Place::Acknowledgement)?;
        let reasons = match version {
            Version::V5 => decode_reasons(reader)?,
            _ => Vec::new(),
        };
        Ok(Unsuback { packet_identifier, properties, reasons })
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) {
        let mut body = encode_head(version, self.packet_identifier, &self.properties);
        if version.is_v5() {
            for reason in &self.reasons {
                body.put_u8(reason.byte());
            }
        }
        put_packet(out, PacketType::Unsuback.first_byte(), &body);
    }
}
