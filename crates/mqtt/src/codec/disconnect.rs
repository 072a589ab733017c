//! DISCONNECT (MQTT 5 §3.14): a goodbye from either side; from a server only in version 5.

use super::properties::{Place, Properties, Property};
use super::reader::Reader;
use super::writer::put_packet;
use super::{PacketType, Version};
use crate::error::{DecodeError, Malformed, ReasonCode};
use bytes::{BufMut, BytesMut};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnect {
    pub reason: ReasonCode,
    pub properties: Properties,
}

impl Disconnect {
    /// Seconds.
    pub fn session_expiry_interval(&self) -> Option<u32> {
        self.properties.find(|property| match property {
            Property::SessionExpiryInterval(seconds) => Some(seconds),
            _ => None,
        })
    }

    pub(super) fn decode(version: Version, reader: &mut Reader) -> Result<Disconnect, DecodeError> {
        let mut packet =
            Disconnect { reason: ReasonCode::Success, properties: Properties::default() };
        if !version.is_v5() || reader.remaining() == 0 {
            return Ok(packet);
        }
        let byte = reader.u8()?;
        let reason = ReasonCode::from_byte(byte).ok_or(Malformed::ReasonCode(byte))?;
        if !is_permitted(reason) {
            return Err(Malformed::ReasonCode(byte).into());
        }
        packet.reason = reason;
        if reader.remaining() > 0 {
            packet.properties = Properties::read(reader, Place::Disconnect)?;
        }
        Ok(packet)
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) {
        let mut body = BytesMut::new();
        let bare = self.reason == ReasonCode::Success && self.properties.is_empty();
        if version.is_v5() && !bare {
            body.put_u8(self.reason.byte());
            if !self.properties.is_empty() {
                self.properties.write(&mut body);
            }
        }
        put_packet(out, PacketType::Disconnect.first_byte(), &body);
    }
}

/// The table of §3.14.2.1, both directions.
fn is_permitted(reason: ReasonCode) -> bool {
    match reason {
        ReasonCode::Success | ReasonCode::DisconnectWithWill => true,
        ReasonCode::UnsupportedProtocolVersion
        | ReasonCode::ClientIdentifierNotValid
        | ReasonCode::BadUserNameOrPassword
        | ReasonCode::ServerUnavailable
        | ReasonCode::Banned
        | ReasonCode::PacketIdentifierInUse
        | ReasonCode::PacketIdentifierNotFound => false,
        other => other.is_failure(),
    }
}
