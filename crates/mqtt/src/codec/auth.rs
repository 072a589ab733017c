//! AUTH (MQTT 5 §3.15): a step of enhanced authentication.

use super::connect::check_authentication;
use super::properties::{Place, Properties};
use super::reader::Reader;
use super::writer::put_packet;
use super::PacketType;
use crate::error::{DecodeError, Malformed, ReasonCode};
use bytes::{BufMut, BytesMut};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    pub reason: ReasonCode,
    pub properties: Properties,
}

impl Auth {
    pub(super) fn decode(reader: &mut Reader) -> Result<Auth, DecodeError> {
        if reader.remaining() == 0 {
            return Ok(Auth { reason: ReasonCode::Success, properties: Properties::default() });
        }
        let byte = reader.u8()?;
        let reason = match ReasonCode::from_byte(byte) {
            Some(
                reason @ (ReasonCode::Success
                | ReasonCode::ContinueAuthentication
                | ReasonCode::ReAuthenticate),
            ) => reason,
            _ => return Err(Malformed::ReasonCode(byte).into()),
        };
        let properties = match reader.remaining() {
            0 => Properties::default(),
            _ => Properties::read(reader, Place::Auth)?,
        };
        check_authentication(&properties)?;
        Ok(Auth { reason, properties })
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        let mut body = BytesMut::new();
        if self.reason != ReasonCode::Success || !self.properties.is_empty() {
            body.put_u8(self.reason.byte());
            self.properties.write(&mut body);
        }
        put_packet(out, PacketType::Auth.first_byte(), &body);
    }
}
