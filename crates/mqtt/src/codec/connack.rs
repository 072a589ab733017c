//! CONNACK (MQTT 5 §3.2): the server's answer to CONNECT.

use super::properties::{Place, Properties};
use super::reader::Reader;
use super::writer::put_packet;
use super::{PacketType, Version};
use crate::error::{DecodeError, Malformed, ReasonCode};
use bytes::{BufMut, BytesMut};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connack {
    pub session_present: bool,
    pub reason: ReasonCode,
    pub properties: Properties,
}

impl Connack {
    pub(super) fn decode(version: Version, reader: &mut Reader) -> Result<Connack, DecodeError> {
        let flags = reader.u8()?;
        if flags > 1 {
            return Err(Malformed::ConnackFlags(flags).into());
        }
        let byte = reader.u8()?;
        if !version.is_v5() {
            let reason = reason_of_return_code(byte).ok_or(Malformed::ReasonCode(byte))?;
            return Ok(Connack {
                session_present: flags == 1,
                reason,
                properties: Properties::default(),
            });
        }
        Ok(Connack {
            session_present: flags == 1,
            reason: ReasonCode::from_byte(byte).ok_or(Malformed::ReasonCode(byte))?,
            properties: Properties::read(reader, Place::Connack)?,
        })
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) {
        let mut body = BytesMut::new();
        body.put_u8(u8::from(self.session_present));
        if version.is_v5() {
            body.put_u8(self.reason.byte());
            self.properties.write(&mut body);
        } else {
            body.put_u8(self.reason.connack_return_code());
        }
        put_packet(out, PacketType::Connack.first_byte(), &body);
    }
}

fn reason_of_return_code(code: u8) -> Option<ReasonCode> {
    Some(match code {
        0 => ReasonCode::Success,
        1 => ReasonCode::UnsupportedProtocolVersion,
        2 => ReasonCode::ClientIdentifierNotValid,
        3 => ReasonCode::ServerUnavailable,
        4 => ReasonCode::BadUserNameOrPassword,
        5 => ReasonCode::NotAuthorized,
        _ => return None,
    })
}
