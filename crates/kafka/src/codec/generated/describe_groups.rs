//! Made by `cargo xtask codegen` from `crates/kafka/schema`. Do not edit.
//!
//! State and members of classic groups.

#[cfg(test)]
use crate::codec::samples;
use crate::codec::{Malformed, Reader, Writer};
use bytes::Bytes;
#[cfg(test)]
use koine_base::rng::Rng;

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Request {
    pub groups: Vec<String>,
    pub include_authorized_operations: bool,
}

impl Request {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let groups = r.array(v >= 5, 1, |r| r.string(v >= 5))?;
        let include_authorized_operations = if v >= 3 { r.bool()? } else { false };
        if v >= 5 {
            r.skip_tags()?;
        }
        Ok(Self { groups, include_authorized_operations })
    }
}

#[cfg(test)]
impl Request {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.array(&self.groups, v >= 5, |w, x| w.string(x, v >= 5));
        if v >= 3 {
            w.bool(self.include_authorized_operations);
        }
        if v >= 5 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            groups: samples::array(rng, |rng| samples::string(rng)),
            include_authorized_operations: if v >= 3 {
                samples::number(rng) % 2 == 0
            } else {
                false
            },
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Member {
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub member_metadata: Bytes,
    pub member_assignment: Bytes,
}

impl Member {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.string(&self.member_id, v >= 5);
        if v >= 4 {
            w.nullable_string(self.group_instance_id.as_deref(), v >= 5);
        }
        w.string(&self.client_id, v >= 5);
        w.string(&self.client_host, v >= 5);
        w.bytes(&self.member_metadata, v >= 5);
        w.bytes(&self.member_assignment, v >= 5);
        if v >= 5 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Member {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let member_id = r.string(v >= 5)?;
        let group_instance_id = if v >= 4 { r.nullable_string(v >= 5)? } else { None };
        let client_id = r.string(v >= 5)?;
        let client_host = r.string(v >= 5)?;
        let member_metadata = r.bytes(v >= 5)?;
        let member_assignment = r.bytes(v >= 5)?;
        if v >= 5 {
            r.skip_tags()?;
        }
        Ok(Self {
            member_id,
            group_instance_id,
            client_id,
            client_host,
            member_metadata,
            member_assignment,
        })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            member_id: samples::string(rng),
            group_instance_id: if v >= 4 {
                samples::nullable(rng, |rng| samples::string(rng))
            } else {
                None
            },
            client_id: samples::string(rng),
            client_host: samples::string(rng),
            member_metadata: samples::bytes(rng),
            member_assignment: samples::bytes(rng),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub error_code: i16,
    pub error_message: Option<String>,
    pub group_id: String,
    pub group_state: String,
    pub protocol_type: String,
    pub protocol_data: String,
    pub members: Vec<Member>,
    pub authorized_operations: i32,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            error_code: 0,
            error_message: None,
            group_id: String::new(),
            group_state: String::new(),
            protocol_type: String::new(),
            protocol_data: String::new(),
            members: Vec::new(),
            authorized_operations: -2147483648,
        }
    }
}

impl Group {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.i16(self.error_code);
        if v >= 6 {
            w.nullable_string(self.error_message.as_deref(), true);
        }
        w.string(&self.group_id, v >= 5);
        w.string(&self.group_state, v >= 5);
        w.string(&self.protocol_type, v >= 5);
        w.string(&self.protocol_data, v >= 5);
        w.array(&self.members, v >= 5, |w, x| x.encode(w, v));
        if v >= 3 {
            w.i32(self.authorized_operations);
        }
        if v >= 5 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Group {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let error_code = r.i16()?;
        let error_message = if v >= 6 { r.nullable_string(true)? } else { None };
        let group_id = r.string(v >= 5)?;
        let group_state = r.string(v >= 5)?;
        let protocol_type = r.string(v >= 5)?;
        let protocol_data = r.string(v >= 5)?;
        let members = r.array(v >= 5, 7, |r| Member::decode(r, v))?;
        let authorized_operations = if v >= 3 { r.i32()? } else { -2147483648 };
        if v >= 5 {
            r.skip_tags()?;
        }
        Ok(Self {
            error_code,
            error_message,
            group_id,
            group_state,
            protocol_type,
            protocol_data,
            members,
            authorized_operations,
        })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            error_code: samples::number(rng) as i16,
            error_message: if v >= 6 {
                samples::nullable(rng, |rng| samples::string(rng))
            } else {
                None
            },
            group_id: samples::string(rng),
            group_state: samples::string(rng),
            protocol_type: samples::string(rng),
            protocol_data: samples::string(rng),
            members: samples::array(rng, |rng| Member::sample(rng, v)),
            authorized_operations: if v >= 3 { samples::number(rng) as i32 } else { -2147483648 },
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Response {
    pub throttle_time_ms: i32,
    pub groups: Vec<Group>,
}

impl Response {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        if v >= 1 {
            w.i32(self.throttle_time_ms);
        }
        w.array(&self.groups, v >= 5, |w, x| x.encode(w, v));
        if v >= 5 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Response {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let throttle_time_ms = if v >= 1 { r.i32()? } else { 0 };
        let groups = r.array(v >= 5, 12, |r| Group::decode(r, v))?;
        if v >= 5 {
            r.skip_tags()?;
        }
        Ok(Self { throttle_time_ms, groups })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            throttle_time_ms: if v >= 1 { samples::number(rng) as i32 } else { 0 },
            groups: samples::array(rng, |rng| Group::sample(rng, v)),
        }
    }
}
