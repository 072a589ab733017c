//! Made by `cargo xtask codegen` from `crates/kafka/schema`. Do not edit.
//!
//! Raises the partition count of topics.

#[cfg(test)]
use crate::codec::samples;
use crate::codec::{Malformed, Reader, Writer};
#[cfg(test)]
use koine_base::rng::Rng;

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Assignment {
    pub broker_ids: Vec<i32>,
}

impl Assignment {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let broker_ids = r.array(v >= 2, 4, |r| r.i32())?;
        if v >= 2 {
            r.skip_tags()?;
        }
        Ok(Self { broker_ids })
    }
}

#[cfg(test)]
impl Assignment {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.array(&self.broker_ids, v >= 2, |w, x| w.i32(*x));
        if v >= 2 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, _v: i16) -> Self {
        Self { broker_ids: samples::array(rng, |rng| samples::number(rng) as i32) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TopicWanted {
    pub name: String,
    /// The new total, not the number to add.
    pub count: i32,
    pub assignments: Option<Vec<Assignment>>,
}

impl TopicWanted {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let name = r.string(v >= 2)?;
        let count = r.i32()?;
        let assignments = r.nullable_array(v >= 2, 2, |r| Assignment::decode(r, v))?;
        if v >= 2 {
            r.skip_tags()?;
        }
        Ok(Self { name, count, assignments })
    }
}

#[cfg(test)]
impl TopicWanted {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.string(&self.name, v >= 2);
        w.i32(self.count);
        w.nullable_array(self.assignments.as_deref(), v >= 2, |w, x| x.encode(w, v));
        if v >= 2 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            name: samples::string(rng),
            count: samples::number(rng) as i32,
            assignments: samples::nullable(rng, |rng| {
                samples::array(rng, |rng| Assignment::sample(rng, v))
            }),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Request {
    pub topics: Vec<TopicWanted>,
    pub timeout_ms: i32,
    pub validate_only: bool,
}

impl Request {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let topics = r.array(v >= 2, 7, |r| TopicWanted::decode(r, v))?;
        let timeout_ms = r.i32()?;
        let validate_only = r.bool()?;
        if v >= 2 {
            r.skip_tags()?;
        }
        Ok(Self { topics, timeout_ms, validate_only })
    }
}

#[cfg(test)]
impl Request {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.array(&self.topics, v >= 2, |w, x| x.encode(w, v));
        w.i32(self.timeout_ms);
        w.bool(self.validate_only);
        if v >= 2 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            topics: samples::array(rng, |rng| TopicWanted::sample(rng, v)),
            timeout_ms: samples::number(rng) as i32,
            validate_only: samples::number(rng) % 2 == 0,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Topic {
    pub name: String,
    pub error_code: i16,
    pub error_message: Option<String>,
}

impl Topic {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.string(&self.name, v >= 2);
        w.i16(self.error_code);
        w.nullable_string(self.error_message.as_deref(), v >= 2);
        if v >= 2 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Topic {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let name = r.string(v >= 2)?;
        let error_code = r.i16()?;
        let error_message = r.nullable_string(v >= 2)?;
        if v >= 2 {
            r.skip_tags()?;
        }
        Ok(Self { name, error_code, error_message })
    }

    pub fn sample(rng: &mut Rng, _v: i16) -> Self {
        Self {
            name: samples::string(rng),
            error_code: samples::number(rng) as i16,
            error_message: samples::nullable(rng, |rng| samples::string(rng)),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Response {
    pub throttle_time_ms: i32,
    pub results: Vec<Topic>,
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
        let results = r.array(v >= 2, 5, |r| Topic::decode(r, v))?;
        if v >= 2 {
            r.skip_tags()?;
        }
        Ok(Self { throttle_time_ms, results })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            throttle_time_ms: samples::number(rng) as i32,
            results: samples::array(rng, |rng| Topic::sample(rng, v)),
        }
    }
}
