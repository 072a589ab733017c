//! PUBACK, PUBREC, PUBREL and PUBCOMP (MQTT 5 §3.4 to §3.7): one layout, four types.

use super::properties::{Place, Properties};
use super::reader::Reader;
use super::writer::put_packet;
use super::{FixedHeader, PacketType, Version};
use crate::error::{DecodeError, Malformed, ReasonCode, Violation};
use bytes::{BufMut, BytesMut};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    pub packet_identifier: u16,
    /// Always `Success` before version 5.
    pub reason: ReasonCode,
    pub properties: Properties,
}

impl Acknowledgement {
    pub fn new(packet_identifier: u16) -> Acknowledgement {
        Acknowledgement {
            packet_identifier,
            reason: ReasonCode::Success,
            properties: Properties::default(),
        }
    }

    pub(super) fn decode(
        header: &FixedHeader,
        version: Version,
        reader: &mut Reader,
    ) -> Result<Acknowledgement, DecodeError> {
        let packet_identifier = reader.u16()?;
        if packet_identifier == 0 {
            return Err(Violation::PacketIdentifierZero.into());
        }
        let mut packet = Acknowledgement::new(packet_identifier);
        if !version.is_v5() || reader.remaining() == 0 {
            return Ok(packet);
        }
        let byte = reader.u8()?;
        let reason = ReasonCode::from_byte(byte).ok_or(Malformed::ReasonCode(byte))?;
        if !is_permitted(header.packet_type, reason) {
            return Err(Malformed::ReasonCode(byte).into());
        }
        packet.reason = reason;
        // A length of 3 stands for "no properties" (§3.4.2.2.1).
        if reader.remaining() > 0 {
            packet.properties = Properties::read(reader, Place::Acknowledgement)?;
        }
        Ok(packet)
    }

    pub(crate) fn encode(&self, packet_type: PacketType, version: Version, out: &mut BytesMut) {
        if !version.is_v5() || (self.reason == ReasonCode::Success && self.properties.is_empty()) {
            put_acknowledgement(out, packet_type, self.packet_identifier);
            return;
        }
        let mut body = BytesMut::new();
        body.put_u16(self.packet_identifier);
        body.put_u8(self.reason.byte());
        if !self.properties.is_empty() {
            self.properties.write(&mut body);
        }
        put_packet(out, packet_type.first_byte(), &body);
    }
}

/// The four-byte form: success without properties, the same in every version.
pub fn put_acknowledgement(out: &mut BytesMut, packet_type: PacketType, packet_identifier: u16) {
    let [high, low] = packet_identifier.to_be_bytes();
    out.put_slice(&[packet_type.first_byte(), 2, high, low]);
}

fn is_permitted(packet_type: PacketType, reason: ReasonCode) -> bool {
    match packet_type {
        PacketType::Puback | PacketType::Pubrec => matches!(
            reason,
            ReasonCode::Success
                | ReasonCode::NoMatchingSubscribers
                | ReasonCode::UnspecifiedError
                | ReasonCode::ImplementationSpecificError
                | ReasonCode::NotAuthorized
                | ReasonCode::TopicNameInvalid
                | ReasonCode::PacketIdentifierInUse
                | ReasonCode::QuotaExceeded
                | ReasonCode::PayloadFormatInvalid
        ),
        _ => matches!(reason, ReasonCode::Success | ReasonCode::PacketIdentifierNotFound),
    }
}
