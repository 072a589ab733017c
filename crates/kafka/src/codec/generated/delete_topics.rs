//! Made by `cargo xtask codegen` from `crates/kafka/schema`. Do not edit.
//!
//! Deletes topics by name, from version 6 also by id.

#[cfg(test)]
use crate::codec::samples;
use crate::codec::{Malformed, Reader, Writer};
#[cfg(test)]
use koine_base::rng::Rng;

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TopicWanted {
    pub name: Option<String>,
    pub topic_id: [u8; 16],
}

impl TopicWanted {
    pub fn decode(r: &mut Reader<'_>, _v: i16) -> Result<Self, Malformed> {
        let name = r.nullable_string(true)?;
        let topic_id = r.uuid()?;
        r.skip_tags()?;
        Ok(Self { name, topic_id })
    }
}

#[cfg(test)]
impl TopicWanted {
    pub fn encode(&self, w: &mut Writer<'_>, _v: i16) {
        w.nullable_string(self.name.as_deref(), true);
        w.uuid(&self.topic_id);
        w.no_tags();
    }

    pub fn sample(rng: &mut Rng, _v: i16) -> Self {
        Self {
            name: samples::nullable(rng, |rng| samples::string(rng)),
            topic_id: samples::uuid(rng),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Request {
    pub topics: Vec<TopicWanted>,
    pub topic_names: Vec<String>,
    pub timeout_ms: i32,
}

impl Request {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let topics =
            if v >= 6 { r.array(true, 18, |r| TopicWanted::decode(r, v))? } else { Vec::new() };
        let topic_names =
            if v <= 5 { r.array(v >= 4, 1, |r| r.string(v >= 4))? } else { Vec::new() };
        let timeout_ms = r.i32()?;
        if v >= 4 {
            r.skip_tags()?;
        }
        Ok(Self { topics, topic_names, timeout_ms })
    }
}

#[cfg(test)]
impl Request {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        if v >= 6 {
            w.array(&self.topics, true, |w, x| x.encode(w, v));
        }
        if v <= 5 {
            w.array(&self.topic_names, v >= 4, |w, x| w.string(x, v >= 4));
        }
        w.i32(self.timeout_ms);
        if v >= 4 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            topics: if v >= 6 {
                samples::array(rng, |rng| TopicWanted::sample(rng, v))
            } else {
                Vec::new()
            },
            topic_names: if v <= 5 {
                samples::array(rng, |rng| samples::string(rng))
            } else {
                Vec::new()
            },
            timeout_ms: samples::number(rng) as i32,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Topic {
    pub name: Option<String>,
    pub topic_id: [u8; 16],
    pub error_code: i16,
    pub error_message: Option<String>,
}

impl Topic {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        if v >= 6 {
            w.nullable_string(self.name.as_deref(), v >= 4);
        } else {
            w.string(self.name.as_deref().unwrap_or_default(), v >= 4);
        }
        if v >= 6 {
            w.uuid(&self.topic_id);
        }
        w.i16(self.error_code);
        if v >= 5 {
            w.nullable_string(self.error_message.as_deref(), true);
        }
        if v >= 4 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Topic {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let name = if v >= 6 { r.nullable_string(v >= 4)? } else { Some(r.string(v >= 4)?) };
        let topic_id = if v >= 6 { r.uuid()? } else { [0; 16] };
        let error_code = r.i16()?;
        let error_message = if v >= 5 { r.nullable_string(true)? } else { None };
        if v >= 4 {
            r.skip_tags()?;
        }
        Ok(Self { name, topic_id, error_code, error_message })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            name: if v >= 6 {
                samples::nullable(rng, |rng| samples::string(rng))
            } else {
                Some(samples::string(rng))
            },
            topic_id: if v >= 6 { samples::uuid(rng) } else { [0; 16] },
            error_code: samples::number(rng) as i16,
            error_message: if v >= 5 {
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
    pub responses: Vec<Topic>,
}

impl Response {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        if v >= 1 {
            w.i32(self.throttle_time_ms);
        }
        w.array(&self.responses, v >= 4, |w, x| x.encode(w, v));
        if v >= 4 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Response {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let throttle_time_ms = if v >= 1 { r.i32()? } else { 0 };
        let responses = r.array(v >= 4, 4, |r| Topic::decode(r, v))?;
        if v >= 4 {
            r.skip_tags()?;
        }
        Ok(Self { throttle_time_ms, responses })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            throttle_time_ms: if v >= 1 { samples::number(rng) as i32 } else { 0 },
            responses: samples::array(rng, |rng| Topic::sample(rng, v)),
        }
    }
}
