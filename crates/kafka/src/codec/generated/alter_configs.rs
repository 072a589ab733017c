//! Made by `cargo xtask codegen` from `crates/kafka/schema`. Do not edit.
//!
//! Replaces the whole configuration of resources (deprecated in favour of IncrementalAlterConfigs).

#[cfg(test)]
use crate::codec::samples;
use crate::codec::{Malformed, Reader, Writer};
#[cfg(test)]
use koine_base::rng::Rng;

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ConfigWanted {
    pub name: String,
    pub value: Option<String>,
}

impl ConfigWanted {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let name = r.string(v >= 2)?;
        let value = r.nullable_string(v >= 2)?;
        if v >= 2 {
            r.skip_tags()?;
        }
        Ok(Self { name, value })
    }
}

#[cfg(test)]
impl ConfigWanted {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.string(&self.name, v >= 2);
        w.nullable_string(self.value.as_deref(), v >= 2);
        if v >= 2 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, _v: i16) -> Self {
        Self {
            name: samples::string(rng),
            value: samples::nullable(rng, |rng| samples::string(rng)),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ResourceWanted {
    pub resource_type: i8,
    pub resource_name: String,
    pub configs: Vec<ConfigWanted>,
}

impl ResourceWanted {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let resource_type = r.i8()?;
        let resource_name = r.string(v >= 2)?;
        let configs = r.array(v >= 2, 3, |r| ConfigWanted::decode(r, v))?;
        if v >= 2 {
            r.skip_tags()?;
        }
        Ok(Self { resource_type, resource_name, configs })
    }
}

#[cfg(test)]
impl ResourceWanted {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.i8(self.resource_type);
        w.string(&self.resource_name, v >= 2);
        w.array(&self.configs, v >= 2, |w, x| x.encode(w, v));
        if v >= 2 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            resource_type: samples::number(rng) as i8,
            resource_name: samples::string(rng),
            configs: samples::array(rng, |rng| ConfigWanted::sample(rng, v)),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Request {
    pub resources: Vec<ResourceWanted>,
    pub validate_only: bool,
}

impl Request {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let resources = r.array(v >= 2, 4, |r| ResourceWanted::decode(r, v))?;
        let validate_only = r.bool()?;
        if v >= 2 {
            r.skip_tags()?;
        }
        Ok(Self { resources, validate_only })
    }
}

#[cfg(test)]
impl Request {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.array(&self.resources, v >= 2, |w, x| x.encode(w, v));
        w.bool(self.validate_only);
        if v >= 2 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            resources: samples::array(rng, |rng| ResourceWanted::sample(rng, v)),
            validate_only: samples::number(rng) % 2 == 0,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Resource {
    pub error_code: i16,
    pub error_message: Option<String>,
    pub resource_type: i8,
    pub resource_name: String,
}

impl Resource {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.i16(self.error_code);
        w.nullable_string(self.error_message.as_deref(), v >= 2);
        w.i8(self.resource_type);
        w.string(&self.resource_name, v >= 2);
        if v >= 2 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Resource {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let error_code = r.i16()?;
        let error_message = r.nullable_string(v >= 2)?;
        let resource_type = r.i8()?;
        let resource_name = r.string(v >= 2)?;
        if v >= 2 {
            r.skip_tags()?;
        }
        Ok(Self { error_code, error_message, resource_type, resource_name })
    }

    pub fn sample(rng: &mut Rng, _v: i16) -> Self {
        Self {
            error_code: samples::number(rng) as i16,
            error_message: samples::nullable(rng, |rng| samples::string(rng)),
            resource_type: samples::number(rng) as i8,
            resource_name: samples::string(rng),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Response {
    pub throttle_time_ms: i32,
    pub responses: Vec<Resource>,
}

impl Response {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.i32(self.throttle_time_ms);
        w.array(&self.responses, v >= 2, |w, x| x.encode(w, v));
        if v >= 2 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Response {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let throttle_time_ms = r.i32()?;
        let responses = r.array(v >= 2, 6, |r| Resource::decode(r, v))?;
        if v >= 2 {
            r.skip_tags()?;
        }
        Ok(Self { throttle_time_ms, responses })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            throttle_time_ms: samples::number(rng) as i32,
            responses: samples::array(rng, |rng| Resource::sample(rng, v)),
        }
    }
}
