//! Made by `cargo xtask codegen` from `crates/kafka/schema`. Do not edit.
//!
//! Adds rules.

#[cfg(test)]
use crate::codec::samples;
use crate::codec::{Malformed, Reader, Writer};
#[cfg(test)]
use koine_base::rng::Rng;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AclCreation {
    pub resource_type: i8,
    pub resource_name: String,
    pub pattern_type: i8,
    pub principal: String,
    pub host: String,
    pub operation: i8,
    pub permission_type: i8,
}

impl Default for AclCreation {
    fn default() -> Self {
        Self {
            resource_type: 0,
            resource_name: String::new(),
            pattern_type: 3,
            principal: String::new(),
            host: String::new(),
            operation: 0,
            permission_type: 0,
        }
    }
}

impl AclCreation {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let resource_type = r.i8()?;
        let resource_name = r.string(v >= 2)?;
        let pattern_type = r.i8()?;
        let principal = r.string(v >= 2)?;
        let host = r.string(v >= 2)?;
        let operation = r.i8()?;
        let permission_type = r.i8()?;
        if v >= 2 {
            r.skip_tags()?;
        }
        Ok(Self {
            resource_type,
            resource_name,
            pattern_type,
            principal,
            host,
            operation,
            permission_type,
        })
    }
}

#[cfg(test)]
impl AclCreation {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.i8(self.resource_type);
        w.string(&self.resource_name, v >= 2);
        w.i8(self.pattern_type);
        w.string(&self.principal, v >= 2);
        w.string(&self.host, v >= 2);
        w.i8(self.operation);
        w.i8(self.permission_type);
        if v >= 2 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, _v: i16) -> Self {
        Self {
            resource_type: samples::number(rng) as i8,
            resource_name: samples::string(rng),
            pattern_type: samples::number(rng) as i8,
            principal: samples::string(rng),
            host: samples::string(rng),
            operation: samples::number(rng) as i8,
            permission_type: samples::number(rng) as i8,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Request {
    pub creations: Vec<AclCreation>,
}

impl Request {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let creations = r.array(v >= 2, 8, |r| AclCreation::decode(r, v))?;
        if v >= 2 {
            r.skip_tags()?;
        }
        Ok(Self { creations })
    }
}

#[cfg(test)]
impl Request {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.array(&self.creations, v >= 2, |w, x| x.encode(w, v));
        if v >= 2 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self { creations: samples::array(rng, |rng| AclCreation::sample(rng, v)) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct AclCreationResult {
    pub error_code: i16,
    pub error_message: Option<String>,
}

impl AclCreationResult {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.i16(self.error_code);
        w.nullable_string(self.error_message.as_deref(), v >= 2);
        if v >= 2 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl AclCreationResult {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let error_code = r.i16()?;
        let error_message = r.nullable_string(v >= 2)?;
        if v >= 2 {
            r.skip_tags()?;
        }
        Ok(Self { error_code, error_message })
    }

    pub fn sample(rng: &mut Rng, _v: i16) -> Self {
        Self {
            error_code: samples::number(rng) as i16,
            error_message: samples::nullable(rng, |rng| samples::string(rng)),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Response {
    pub throttle_time_ms: i32,
    pub results: Vec<AclCreationResult>,
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
        let results = r.array(v >= 2, 4, |r| AclCreationResult::decode(r, v))?;
        if v >= 2 {
            r.skip_tags()?;
        }
        Ok(Self { throttle_time_ms, results })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            throttle_time_ms: samples::number(rng) as i32,
            results: samples::array(rng, |rng| AclCreationResult::sample(rng, v)),
        }
    }
}
