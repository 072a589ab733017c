//! Made by `cargo xtask codegen` from `crates/kafka/schema`. Do not edit.
//!
//! Takes away the rules that filters match.

#[cfg(test)]
use crate::codec::samples;
use crate::codec::{Malformed, Reader, Writer};
#[cfg(test)]
use koine_base::rng::Rng;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AclFilter {
    pub resource_type: i8,
    /// Null is any.
    pub resource_name: Option<String>,
    pub pattern_type: i8,
    pub principal: Option<String>,
    pub host: Option<String>,
    pub operation: i8,
    pub permission_type: i8,
}

impl Default for AclFilter {
    fn default() -> Self {
        Self {
            resource_type: 0,
            resource_name: None,
            pattern_type: 3,
            principal: None,
            host: None,
            operation: 0,
            permission_type: 0,
        }
    }
}

impl AclFilter {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let resource_type = r.i8()?;
        let resource_name = r.nullable_string(v >= 2)?;
        let pattern_type = r.i8()?;
        let principal = r.nullable_string(v >= 2)?;
        let host = r.nullable_string(v >= 2)?;
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
impl AclFilter {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.i8(self.resource_type);
        w.nullable_string(self.resource_name.as_deref(), v >= 2);
        w.i8(self.pattern_type);
        w.nullable_string(self.principal.as_deref(), v >= 2);
        w.nullable_string(self.host.as_deref(), v >= 2);
        w.i8(self.operation);
        w.i8(self.permission_type);
        if v >= 2 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, _v: i16) -> Self {
        Self {
            resource_type: samples::number(rng) as i8,
            resource_name: samples::nullable(rng, |rng| samples::string(rng)),
            pattern_type: samples::number(rng) as i8,
            principal: samples::nullable(rng, |rng| samples::string(rng)),
            host: samples::nullable(rng, |rng| samples::string(rng)),
            operation: samples::number(rng) as i8,
            permission_type: samples::number(rng) as i8,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Request {
    pub filters: Vec<AclFilter>,
}

impl Request {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let filters = r.array(v >= 2, 8, |r| AclFilter::decode(r, v))?;
        if v >= 2 {
            r.skip_tags()?;
        }
        Ok(Self { filters })
    }
}

#[cfg(test)]
impl Request {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.array(&self.filters, v >= 2, |w, x| x.encode(w, v));
        if v >= 2 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self { filters: samples::array(rng, |rng| AclFilter::sample(rng, v)) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatchingAcl {
    pub error_code: i16,
    pub error_message: Option<String>,
    pub resource_type: i8,
    pub resource_name: String,
    pub pattern_type: i8,
    pub principal: String,
    pub host: String,
    pub operation: i8,
    pub permission_type: i8,
}

impl Default for MatchingAcl {
    fn default() -> Self {
        Self {
            error_code: 0,
            error_message: None,
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

impl MatchingAcl {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.i16(self.error_code);
        w.nullable_string(self.error_message.as_deref(), v >= 2);
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
}

#[cfg(test)]
impl MatchingAcl {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let error_code = r.i16()?;
        let error_message = r.nullable_string(v >= 2)?;
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
            error_code,
            error_message,
            resource_type,
            resource_name,
            pattern_type,
            principal,
            host,
            operation,
            permission_type,
        })
    }

    pub fn sample(rng: &mut Rng, _v: i16) -> Self {
        Self {
            error_code: samples::number(rng) as i16,
            error_message: samples::nullable(rng, |rng| samples::string(rng)),
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
pub struct FilterResult {
    pub error_code: i16,
    pub error_message: Option<String>,
    pub matching_acls: Vec<MatchingAcl>,
}

impl FilterResult {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.i16(self.error_code);
        w.nullable_string(self.error_message.as_deref(), v >= 2);
        w.array(&self.matching_acls, v >= 2, |w, x| x.encode(w, v));
        if v >= 2 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl FilterResult {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let error_code = r.i16()?;
        let error_message = r.nullable_string(v >= 2)?;
        let matching_acls = r.array(v >= 2, 11, |r| MatchingAcl::decode(r, v))?;
        if v >= 2 {
            r.skip_tags()?;
        }
        Ok(Self { error_code, error_message, matching_acls })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            error_code: samples::number(rng) as i16,
            error_message: samples::nullable(rng, |rng| samples::string(rng)),
            matching_acls: samples::array(rng, |rng| MatchingAcl::sample(rng, v)),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Response {
    pub throttle_time_ms: i32,
    pub filter_results: Vec<FilterResult>,
}

impl Response {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.i32(self.throttle_time_ms);
        w.array(&self.filter_results, v >= 2, |w, x| x.encode(w, v));
        if v >= 2 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Response {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let throttle_time_ms = r.i32()?;
        let filter_results = r.array(v >= 2, 5, |r| FilterResult::decode(r, v))?;
        if v >= 2 {
            r.skip_tags()?;
        }
        Ok(Self { throttle_time_ms, filter_results })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            throttle_time_ms: samples::number(rng) as i32,
            filter_results: samples::array(rng, |rng| FilterResult::sample(rng, v)),
        }
    }
}
