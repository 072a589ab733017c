//! CONNECT (MQTT 5 §3.1, MQTT 3.1.1 §3.1): who the client is and what it asks for.

use super::properties::{Place, Properties};
use super::reader::Reader;
use super::writer::{put_field, put_packet};
use super::{PacketType, Property, Qos, Version};
use crate::error::{DecodeError, Malformed, Violation};
use bytes::{BufMut, Bytes, BytesMut};
use koine_broker::access::Secret;

/// The message that the server publishes when the connection ends without a proper goodbye.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    pub topic: String,
    pub payload: Bytes,
    pub qos: Qos,
    pub retain: bool,
    /// Includes the will delay interval, which does not travel with the message.
    pub properties: Properties,
}

impl Will {
    /// Seconds.
    pub fn delay_interval(&self) -> u32 {
        let delay = self.properties.find(|property| match property {
            Property::WillDelayInterval(seconds) => Some(seconds),
            _ => None,
        });
        delay.unwrap_or(0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    pub version: Version,
    /// `Clean Session` before version 5.
    pub clean_start: bool,
    /// Seconds; 0 turns it off.
    pub keep_alive: u16,
    pub properties: Properties,
    pub client_identifier: String,
    pub will: Option<Will>,
    pub user_name: Option<String>,
    pub password: Option<Secret>,
}

const USER_NAME: u8 = 0x80;
const PASSWORD: u8 = 0x40;
const WILL_RETAIN: u8 = 0x20;
const WILL_QOS: u8 = 0x18;
const WILL: u8 = 0x04;
const CLEAN_START: u8 = 0x02;
const RESERVED: u8 = 0x01;

fn decode_version(reader: &mut Reader) -> Result<Version, DecodeError> {
    let name = reader.binary()?;
    let level = reader.u8()?;
    match (&name[..], level) {
        (b"MQIsdp", 3) => Ok(Version::V3_1),
        (b"MQTT", 4) => Ok(Version::V3_1_1),
        (b"MQTT", 5) => Ok(Version::V5),
        (b"MQTT" | b"MQIsdp", level) => Err(DecodeError::ProtocolLevel(level)),
        _ => Err(Malformed::ProtocolName.into()),
    }
}

fn check_flags(flags: u8, version: Version) -> Result<(), Malformed> {
    // Version 3.1 leaves bit 0 unused, later ones demand 0.
    let reserved = version != Version::V3_1 && flags & RESERVED != 0;
    let will_without_will = flags & WILL == 0 && flags & (WILL_QOS | WILL_RETAIN) != 0;
    let password_alone = !version.is_v5() && flags & (USER_NAME | PASSWORD) == PASSWORD;
    if reserved || will_without_will || password_alone {
        return Err(Malformed::ConnectFlags(flags));
    }
    Ok(())
}

impl Connect {
    pub(super) fn decode(reader: &mut Reader) -> Result<Connect, DecodeError> {
        let version = decode_version(reader)?;
        let flags = reader.u8()?;
        check_flags(flags, version)?;
        let keep_alive = reader.u16()?;
        let properties = match version {
            Version::V5 => Properties::read(reader, Place::Connect)?,
            _ => Properties::default(),
        };
        check_authentication(&properties)?;
        let client_identifier = reader.text()?;
        let will = match flags & WILL {
            0 => None,
            _ => Some(decode_will(reader, version, flags)?),
        };
        let user_name = match flags & USER_NAME {
            0 => None,
            _ => Some(reader.text()?),
        };
        let password = match flags & PASSWORD {
            0 => None,
            _ => Some(Secret::new(&reader.binary()?[..])),
        };
        Ok(Connect {
            version,
            clean_start: flags & CLEAN_START != 0,
            keep_alive,
            properties,
            client_identifier,
            will,
            user_name,
            password,
        })
    }

    fn flags(&self) -> u8 {
        let mut flags = 0;
        if self.clean_start {
            flags |= CLEAN_START;
        }
        if let Some(will) = &self.will {
            flags |= WILL | (will.qos as u8) << 3;
            if will.retain {
                flags |= WILL_RETAIN;
            }
        }
        if self.user_name.is_some() {
            flags |= USER_NAME;
        }
        if self.password.is_some() {
            flags |= PASSWORD;
        }
        flags
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        let mut body = BytesMut::new();
        let name: &[u8] = match self.version {
            Version::V3_1 => b"MQIsdp",
            _ => b"MQTT",
        };
        put_field(&mut body, name);
        body.put_u8(self.version.level());
        body.put_u8(self.flags());
        body.put_u16(self.keep_alive);
        if self.version.is_v5() {
            self.properties.write(&mut body);
        }
        put_field(&mut body, self.client_identifier.as_bytes());
        if let Some(will) = &self.will {
            if self.version.is_v5() {
                will.properties.write(&mut body);
            }
            put_field(&mut body, will.topic.as_bytes());
            put_field(&mut body, &will.payload);
        }
        if let Some(user_name) = &self.user_name {
            put_field(&mut body, user_name.as_bytes());
        }
        if let Some(password) = &self.password {
            put_field(&mut body, password.expose());
        }
        put_packet(out, PacketType::Connect.first_byte(), &body);
    }
}

fn decode_will(reader: &mut Reader, version: Version, flags: u8) -> Result<Will, DecodeError> {
    let properties = match version {
        Version::V5 => Properties::read(reader, Place::Will)?,
        _ => Properties::default(),
    };
    let topic = reader.text()?;
    crate::topic::check_topic_name(&topic)?;
    Ok(Will {
        topic,
        payload: reader.binary()?,
        qos: Qos::from_bits(flags >> 3)?,
        retain: flags & WILL_RETAIN != 0,
        properties,
    })
}

/// Authentication data makes no sense without its method (§3.1.2.11.10).
pub(super) fn check_authentication(properties: &Properties) -> Result<(), Violation> {
    let mut method = false;
    let mut data = false;
    for property in properties.iter() {
        match property {
            Property::AuthenticationMethod(_) => method = true,
            Property::AuthenticationData(_) => data = true,
            _ => {}
        }
    }
    if data && !method {
        return Err(Violation::AuthenticationMethodMissing);
    }
    Ok(())
}
