//! Made by `cargo xtask codegen` from `crates/kafka/schema`. Do not edit.
//!
//! Which SCRAM mechanisms users can log in with, never what is kept of their passwords.

#[cfg(test)]
use crate::codec::samples;
use crate::codec::{Malformed, Reader, Writer};
#[cfg(test)]
use koine_base::rng::Rng;

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct UserName {
    pub name: String,
}

impl UserName {
    pub fn decode(r: &mut Reader<'_>, _v: i16) -> Result<Self, Malformed> {
        let name = r.string(true)?;
        r.skip_tags()?;
        Ok(Self { name })
    }
}

#[cfg(test)]
impl UserName {
    pub fn encode(&self, w: &mut Writer<'_>, _v: i16) {
        w.string(&self.name, true);
        w.no_tags();
    }

    pub fn sample(rng: &mut Rng, _v: i16) -> Self {
        Self { name: samples::string(rng) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Request {
    /// Null or empty means all.
    pub users: Option<Vec<UserName>>,
}

impl Request {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let users = r.nullable_array(true, 2, |r| UserName::decode(r, v))?;
        r.skip_tags()?;
        Ok(Self { users })
    }
}

#[cfg(test)]
impl Request {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.nullable_array(self.users.as_deref(), true, |w, x| x.encode(w, v));
        w.no_tags();
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            users: samples::nullable(rng, |rng| {
                samples::array(rng, |rng| UserName::sample(rng, v))
            }),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct CredentialInfo {
    pub mechanism: i8,
    pub iterations: i32,
}

impl CredentialInfo {
    pub fn encode(&self, w: &mut Writer<'_>, _v: i16) {
        w.i8(self.mechanism);
        w.i32(self.iterations);
        w.no_tags();
    }
}

#[cfg(test)]
impl CredentialInfo {
    pub fn decode(r: &mut Reader<'_>, _v: i16) -> Result<Self, Malformed> {
        let mechanism = r.i8()?;
        let iterations = r.i32()?;
        r.skip_tags()?;
        Ok(Self { mechanism, iterations })
    }

    pub fn sample(rng: &mut Rng, _v: i16) -> Self {
        Self { mechanism: samples::number(rng) as i8, iterations: samples::number(rng) as i32 }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct UserResult {
    pub user: String,
    pub error_code: i16,
    pub error_message: Option<String>,
    pub credential_infos: Vec<CredentialInfo>,
}

impl UserResult {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.string(&self.user, true);
        w.i16(self.error_code);
        w.nullable_string(self.error_message.as_deref(), true);
        w.array(&self.credential_infos, true, |w, x| x.encode(w, v));
        w.no_tags();
    }
}

#[cfg(test)]
impl UserResult {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let user = r.string(true)?;
        let error_code = r.i16()?;
        let error_message = r.nullable_string(true)?;
        let credential_infos = r.array(true, 6, |r| CredentialInfo::decode(r, v))?;
        r.skip_tags()?;
        Ok(Self { user, error_code, error_message, credential_infos })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            user: samples::string(rng),
            error_code: samples::number(rng) as i16,
            error_message: samples::nullable(rng, |rng| samples::string(rng)),
            credential_infos: samples::array(rng, |rng| CredentialInfo::sample(rng, v)),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Response {
    pub throttle_time_ms: i32,
    pub error_code: i16,
    pub error_message: Option<String>,
    pub results: Vec<UserResult>,
}

impl Response {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.i32(self.throttle_time_ms);
        w.i16(self.error_code);
        w.nullable_string(self.error_message.as_deref(), true);
        w.array(&self.results, true, |w, x| x.encode(w, v));
        w.no_tags();
    }
}

#[cfg(test)]
impl Response {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let throttle_time_ms = r.i32()?;
        let error_code = r.i16()?;
        let error_message = r.nullable_string(true)?;
        let results = r.array(true, 6, |r| UserResult::decode(r, v))?;
        r.skip_tags()?;
        Ok(Self { throttle_time_ms, error_code, error_message, results })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            throttle_time_ms: samples::number(rng) as i32,
            error_code: samples::number(rng) as i16,
            error_message: samples::nullable(rng, |rng| samples::string(rng)),
            results: samples::array(rng, |rng| UserResult::sample(rng, v)),
        }
    }
}
