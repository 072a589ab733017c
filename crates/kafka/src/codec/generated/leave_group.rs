//! Made by `cargo xtask codegen` from `crates/kafka/schema`. Do not edit.
//!
//! Removes one member, or from version 3 several, also static ones by instance id.

#[cfg(test)]
use crate::codec::samples;
use crate::codec::{Malformed, Reader, Writer};
#[cfg(test)]
use koine_base::rng::Rng;

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct MemberIdentity {
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub reason: Option<String>,
}

impl MemberIdentity {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let member_id = r.string(v >= 4)?;
        let group_instance_id = r.nullable_string(v >= 4)?;
        let reason = if v >= 5 { r.nullable_string(true)? } else { None };
        if v >= 4 {
            r.skip_tags()?;
        }
        Ok(Self { member_id, group_instance_id, reason })
    }
}

#[cfg(test)]
impl MemberIdentity {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.string(&self.member_id, v >= 4);
        w.nullable_string(self.group_instance_id.as_deref(), v >= 4);
        if v >= 5 {
            w.nullable_string(self.reason.as_deref(), true);
        }
        if v >= 4 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            member_id: samples::string(rng),
            group_instance_id: samples::nullable(rng, |rng| samples::string(rng)),
            reason: if v >= 5 { samples::nullable(rng, |rng| samples::string(rng)) } else { None },
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Request {
    pub group_id: String,
    pub member_id: String,
    pub members: Vec<MemberIdentity>,
}

impl Request {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let group_id = r.string(v >= 4)?;
        let member_id = if v <= 2 { r.string(false)? } else { String::new() };
        let members =
            if v >= 3 { r.array(v >= 4, 3, |r| MemberIdentity::decode(r, v))? } else { Vec::new() };
        if v >= 4 {
            r.skip_tags()?;
        }
        Ok(Self { group_id, member_id, members })
    }
}

#[cfg(test)]
impl Request {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.string(&self.group_id, v >= 4);
        if v <= 2 {
            w.string(&self.member_id, false);
        }
        if v >= 3 {
            w.array(&self.members, v >= 4, |w, x| x.encode(w, v));
        }
        if v >= 4 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            group_id: samples::string(rng),
            member_id: if v <= 2 { samples::string(rng) } else { String::new() },
            members: if v >= 3 {
                samples::array(rng, |rng| MemberIdentity::sample(rng, v))
            } else {
                Vec::new()
            },
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Member {
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub error_code: i16,
}

impl Member {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.string(&self.member_id, v >= 4);
        w.nullable_string(self.group_instance_id.as_deref(), v >= 4);
        w.i16(self.error_code);
        if v >= 4 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Member {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let member_id = r.string(v >= 4)?;
        let group_instance_id = r.nullable_string(v >= 4)?;
        let error_code = r.i16()?;
        if v >= 4 {
            r.skip_tags()?;
        }
        Ok(Self { member_id, group_instance_id, error_code })
    }

    pub fn sample(rng: &mut Rng, _v: i16) -> Self {
        Self {
            member_id: samples::string(rng),
            group_instance_id: samples::nullable(rng, |rng| samples::string(rng)),
            error_code: samples::number(rng) as i16,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Response {
    pub throttle_time_ms: i32,
    pub error_code: i16,
    pub members: Vec<Member>,
}

impl Response {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        if v >= 1 {
            w.i32(self.throttle_time_ms);
        }
        w.i16(self.error_code);
        if v >= 3 {
            w.array(&self.members, v >= 4, |w, x| x.encode(w, v));
        }
        if v >= 4 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Response {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let throttle_time_ms = if v >= 1 { r.i32()? } else { 0 };
        let error_code = r.i16()?;
        let members =
            if v >= 3 { r.array(v >= 4, 5, |r| Member::decode(r, v))? } else { Vec::new() };
        if v >= 4 {
            r.skip_tags()?;
        }
        Ok(Self { throttle_time_ms, error_code, members })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            throttle_time_ms: if v >= 1 { samples::number(rng) as i32 } else { 0 },
            error_code: samples::number(rng) as i16,
            members: if v >= 3 {
                samples::array(rng, |rng| Member::sample(rng, v))
            } else {
                Vec::new()
            },
        }
    }
}
