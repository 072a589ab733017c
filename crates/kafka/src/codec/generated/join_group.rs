//! Made by `cargo xtask codegen` from `crates/kafka/schema`. Do not edit.
//!
//! Enters a classic group's next generation; answered when the generation is complete.

#[cfg(test)]
use crate::codec::samples;
use crate::codec::{Malformed, Reader, Writer};
use bytes::Bytes;
#[cfg(test)]
use koine_base::rng::Rng;

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Protocol {
    pub name: String,
    pub metadata: Bytes,
}

impl Protocol {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let name = r.string(v >= 6)?;
        let metadata = r.bytes(v >= 6)?;
        if v >= 6 {
            r.skip_tags()?;
        }
        Ok(Self { name, metadata })
    }
}

#[cfg(test)]
impl Protocol {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.string(&self.name, v >= 6);
        w.bytes(&self.metadata, v >= 6);
        if v >= 6 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, _v: i16) -> Self {
        Self { name: samples::string(rng), metadata: samples::bytes(rng) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub group_id: String,
    pub session_timeout_ms: i32,
    /// Version 0 uses the session timeout for both.
    pub rebalance_timeout_ms: i32,
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub protocol_type: String,
    pub protocols: Vec<Protocol>,
    pub reason: Option<String>,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            group_id: String::new(),
            session_timeout_ms: 0,
            rebalance_timeout_ms: -1,
            member_id: String::new(),
            group_instance_id: None,
            protocol_type: String::new(),
            protocols: Vec::new(),
            reason: None,
        }
    }
}

impl Request {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let group_id = r.string(v >= 6)?;
        let session_timeout_ms = r.i32()?;
        let rebalance_timeout_ms = if v >= 1 { r.i32()? } else { -1 };
        let member_id = r.string(v >= 6)?;
        let group_instance_id = if v >= 5 { r.nullable_string(v >= 6)? } else { None };
        let protocol_type = r.string(v >= 6)?;
        let protocols = r.array(v >= 6, 3, |r| Protocol::decode(r, v))?;
        let reason = if v >= 8 { r.nullable_string(true)? } else { None };
        if v >= 6 {
            r.skip_tags()?;
        }
        Ok(Self {
            group_id,
            session_timeout_ms,
            rebalance_timeout_ms,
            member_id,
            group_instance_id,
            protocol_type,
            protocols,
            reason,
        })
    }
}

#[cfg(test)]
impl Request {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.string(&self.group_id, v >= 6);
        w.i32(self.session_timeout_ms);
        if v >= 1 {
            w.i32(self.rebalance_timeout_ms);
        }
        w.string(&self.member_id, v >= 6);
        if v >= 5 {
            w.nullable_string(self.group_instance_id.as_deref(), v >= 6);
        }
        w.string(&self.protocol_type, v >= 6);
        w.array(&self.protocols, v >= 6, |w, x| x.encode(w, v));
        if v >= 8 {
            w.nullable_string(self.reason.as_deref(), true);
        }
        if v >= 6 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            group_id: samples::string(rng),
            session_timeout_ms: samples::number(rng) as i32,
            rebalance_timeout_ms: if v >= 1 { samples::number(rng) as i32 } else { -1 },
            member_id: samples::string(rng),
            group_instance_id: if v >= 5 {
                samples::nullable(rng, |rng| samples::string(rng))
            } else {
                None
            },
            protocol_type: samples::string(rng),
            protocols: samples::array(rng, |rng| Protocol::sample(rng, v)),
            reason: if v >= 8 { samples::nullable(rng, |rng| samples::string(rng)) } else { None },
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Member {
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub metadata: Bytes,
}

impl Member {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.string(&self.member_id, v >= 6);
        if v >= 5 {
            w.nullable_string(self.group_instance_id.as_deref(), v >= 6);
        }
        w.bytes(&self.metadata, v >= 6);
        if v >= 6 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Member {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let member_id = r.string(v >= 6)?;
        let group_instance_id = if v >= 5 { r.nullable_string(v >= 6)? } else { None };
        let metadata = r.bytes(v >= 6)?;
        if v >= 6 {
            r.skip_tags()?;
        }
        Ok(Self { member_id, group_instance_id, metadata })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            member_id: samples::string(rng),
            group_instance_id: if v >= 5 {
                samples::nullable(rng, |rng| samples::string(rng))
            } else {
                None
            },
            metadata: samples::bytes(rng),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub throttle_time_ms: i32,
    pub error_code: i16,
    pub generation_id: i32,
    pub protocol_type: Option<String>,
    pub protocol_name: Option<String>,
    pub leader: String,
    pub skip_assignment: bool,
    pub member_id: String,
    /// Only the leader is told who the members are.
    pub members: Vec<Member>,
}

impl Default for Response {
    fn default() -> Self {
        Self {
            throttle_time_ms: 0,
            error_code: 0,
            generation_id: -1,
            protocol_type: None,
            protocol_name: None,
            leader: String::new(),
            skip_assignment: false,
            member_id: String::new(),
            members: Vec::new(),
        }
    }
}

impl Response {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        if v >= 2 {
            w.i32(self.throttle_time_ms);
        }
        w.i16(self.error_code);
        w.i32(self.generation_id);
        if v >= 7 {
            w.nullable_string(self.protocol_type.as_deref(), true);
        }
        if v >= 7 {
            w.nullable_string(self.protocol_name.as_deref(), v >= 6);
        } else {
            w.string(self.protocol_name.as_deref().unwrap_or_default(), v >= 6);
        }
        w.string(&self.leader, v >= 6);
        if v >= 9 {
            w.bool(self.skip_assignment);
        }
        w.string(&self.member_id, v >= 6);
        w.array(&self.members, v >= 6, |w, x| x.encode(w, v));
        if v >= 6 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Response {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let throttle_time_ms = if v >= 2 { r.i32()? } else { 0 };
        let error_code = r.i16()?;
        let generation_id = r.i32()?;
        let protocol_type = if v >= 7 { r.nullable_string(true)? } else { None };
        let protocol_name =
            if v >= 7 { r.nullable_string(v >= 6)? } else { Some(r.string(v >= 6)?) };
        let leader = r.string(v >= 6)?;
        let skip_assignment = if v >= 9 { r.bool()? } else { false };
        let member_id = r.string(v >= 6)?;
        let members = r.array(v >= 6, 4, |r| Member::decode(r, v))?;
        if v >= 6 {
            r.skip_tags()?;
        }
        Ok(Self {
            throttle_time_ms,
            error_code,
            generation_id,
            protocol_type,
            protocol_name,
            leader,
            skip_assignment,
            member_id,
            members,
        })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            throttle_time_ms: if v >= 2 { samples::number(rng) as i32 } else { 0 },
            error_code: samples::number(rng) as i16,
            generation_id: samples::number(rng) as i32,
            protocol_type: if v >= 7 {
                samples::nullable(rng, |rng| samples::string(rng))
            } else {
                None
            },
            protocol_name: if v >= 7 {
                samples::nullable(rng, |rng| samples::string(rng))
            } else {
                Some(samples::string(rng))
            },
            leader: samples::string(rng),
            skip_assignment: if v >= 9 { samples::number(rng) % 2 == 0 } else { false },
            member_id: samples::string(rng),
            members: samples::array(rng, |rng| Member::sample(rng, v)),
        }
    }
}
