//! Made by `cargo xtask codegen` from `crates/kafka/schema`. Do not edit.
//!
//! Removes empty groups and their offsets.

#[cfg(test)]
use crate::codec::samples;
use crate::codec::{Malformed, Reader, Writer};
#[cfg(test)]
use koine_base::rng::Rng;

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Request {
    pub groups_names: Vec<String>,
}

impl Request {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let groups_names = r.array(v >= 2, 1, |r| r.string(v >= 2))?;
        if v >= 2 {
            r.skip_tags()?;
        }
        Ok(Self { groups_names })
    }
}

#[cfg(test)]
impl Request {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.array(&self.groups_names, v >= 2, |w, x| w.string(x, v >= 2));
        if v >= 2 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, _v: i16) -> Self {
        Self { groups_names: samples::array(rng, |rng| samples::string(rng)) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Group {
    pub group_id: String,
    pub error_code: i16,
}

impl Group {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.string(&self.group_id, v >= 2);
        w.i16(self.error_code);
        if v >= 2 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Group {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let group_id = r.string(v >= 2)?;
        let error_code = r.i16()?;
        if v >= 2 {
            r.skip_tags()?;
        }
        Ok(Self { group_id, error_code })
    }

    pub fn sample(rng: &mut Rng, _v: i16) -> Self {
        Self { group_id: samples::string(rng), error_code: samples::number(rng) as i16 }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Response {
    pub throttle_time_ms: i32,
    pub results: Vec<Group>,
}

impl Response {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.i32(self.throttle_time_ms);
        w.array(&self.results, v >= 2, |w, x| x.encode(w, v));
        if v >= 2 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Response {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let throttle_time_ms = r.i32()?;
        let results = r.array(v >= 2, 4, |r| Group::decode(r, v))?;
        if v >= 2 {
            r.skip_tags()?;
        }
        Ok(Self { throttle_time_ms, results })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            throttle_time_ms: samples::number(rng) as i32,
            results: samples::array(rng, |rng| Group::sample(rng, v)),
        }
    }
}
