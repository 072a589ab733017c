//! Made by `cargo xtask codegen` from `crates/kafka/schema`. Do not edit.
//!
//! Keeps a classic group member alive and tells it of a rebalance.

#[cfg(test)]
use crate::codec::samples;
use crate::codec::{Malformed, Reader, Writer};
#[cfg(test)]
use koine_base::rng::Rng;

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Request {
    pub group_id: String,
    pub generation_id: i32,
    pub member_id: String,
    pub group_instance_id: Option<String>,
}

impl Request {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let group_id = r.string(v >= 4)?;
        let generation_id = r.i32()?;
        let member_id = r.string(v >= 4)?;
        let group_instance_id = if v >= 3 { r.nullable_string(v >= 4)? } else { None };
        if v >= 4 {
            r.skip_tags()?;
        }
        Ok(Self { group_id, generation_id, member_id, group_instance_id })
    }
}

#[cfg(test)]
impl Request {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.string(&self.group_id, v >= 4);
        w.i32(self.generation_id);
        w.string(&self.member_id, v >= 4);
        if v >= 3 {
            w.nullable_string(self.group_instance_id.as_deref(), v >= 4);
        }
        if v >= 4 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            group_id: samples::string(rng),
            generation_id: samples::number(rng) as i32,
            member_id: samples::string(rng),
            group_instance_id: if v >= 3 {
                samples::nullable(rng, |rng| samples::string(rng))
            } else {
                None
            },
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Response {
    pub throttle_time_ms: i32,
    pub error_code: i16,
}

impl Response {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        if v >= 1 {
            w.i32(self.throttle_time_ms);
        }
        w.i16(self.error_code);
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
        if v >= 4 {
            r.skip_tags()?;
        }
        Ok(Self { throttle_time_ms, error_code })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            throttle_time_ms: if v >= 1 { samples::number(rng) as i32 } else { 0 },
            error_code: samples::number(rng) as i16,
        }
    }
}
