//! Made by `cargo xtask codegen` from `crates/kafka/schema`. Do not edit.
//!
//! All groups, filtered by state (version 4) and type (version 5).

#[cfg(test)]
use crate::codec::samples;
use crate::codec::{Malformed, Reader, Writer};
#[cfg(test)]
use koine_base::rng::Rng;

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Request {
    pub states_filter: Vec<String>,
    pub types_filter: Vec<String>,
}

impl Request {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let states_filter = if v >= 4 { r.array(true, 1, |r| r.string(true))? } else { Vec::new() };
        let types_filter = if v >= 5 { r.array(true, 1, |r| r.string(true))? } else { Vec::new() };
        if v >= 3 {
            r.skip_tags()?;
        }
        Ok(Self { states_filter, types_filter })
    }
}

#[cfg(test)]
impl Request {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        if v >= 4 {
            w.array(&self.states_filter, true, |w, x| w.string(x, true));
        }
        if v >= 5 {
            w.array(&self.types_filter, true, |w, x| w.string(x, true));
        }
        if v >= 3 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            states_filter: if v >= 4 {
                samples::array(rng, |rng| samples::string(rng))
            } else {
                Vec::new()
            },
            types_filter: if v >= 5 {
                samples::array(rng, |rng| samples::string(rng))
            } else {
                Vec::new()
            },
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Group {
    pub group_id: String,
    pub protocol_type: String,
    pub group_state: String,
    pub group_type: String,
}

impl Group {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.string(&self.group_id, v >= 3);
        w.string(&self.protocol_type, v >= 3);
        if v >= 4 {
            w.string(&self.group_state, true);
        }
        if v >= 5 {
            w.string(&self.group_type, true);
        }
        if v >= 3 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Group {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let group_id = r.string(v >= 3)?;
        let protocol_type = r.string(v >= 3)?;
        let group_state = if v >= 4 { r.string(true)? } else { String::new() };
        let group_type = if v >= 5 { r.string(true)? } else { String::new() };
        if v >= 3 {
            r.skip_tags()?;
        }
        Ok(Self { group_id, protocol_type, group_state, group_type })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            group_id: samples::string(rng),
            protocol_type: samples::string(rng),
            group_state: if v >= 4 { samples::string(rng) } else { String::new() },
            group_type: if v >= 5 { samples::string(rng) } else { String::new() },
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Response {
    pub throttle_time_ms: i32,
    pub error_code: i16,
    pub groups: Vec<Group>,
}

impl Response {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        if v >= 1 {
            w.i32(self.throttle_time_ms);
        }
        w.i16(self.error_code);
        w.array(&self.groups, v >= 3, |w, x| x.encode(w, v));
        if v >= 3 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Response {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let throttle_time_ms = if v >= 1 { r.i32()? } else { 0 };
        let error_code = r.i16()?;
        let groups = r.array(v >= 3, 3, |r| Group::decode(r, v))?;
        if v >= 3 {
            r.skip_tags()?;
        }
        Ok(Self { throttle_time_ms, error_code, groups })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            throttle_time_ms: if v >= 1 { samples::number(rng) as i32 } else { 0 },
            error_code: samples::number(rng) as i16,
            groups: samples::array(rng, |rng| Group::sample(rng, v)),
        }
    }
}
