//! Made by `cargo xtask codegen` from `crates/kafka/schema`. Do not edit.
//!
//! Sets and takes away passwords, one mechanism of one user each.

#[cfg(test)]
use crate::codec::samples;
use crate::codec::{Malformed, Reader, Writer};
use bytes::Bytes;
#[cfg(test)]
use koine_base::rng::Rng;
use koine_broker::access::Secret;

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Deletion {
    pub name: String,
    pub mechanism: i8,
}

impl Deletion {
    pub fn decode(r: &mut Reader<'_>, _v: i16) -> Result<Self, Malformed> {
        let name = r.string(true)?;
        let mechanism = r.i8()?;
        r.skip_tags()?;
        Ok(Self { name, mechanism })
    }
}

#[cfg(test)]
impl Deletion {
    pub fn encode(&self, w: &mut Writer<'_>, _v: i16) {
        w.string(&self.name, true);
        w.i8(self.mechanism);
        w.no_tags();
    }

    pub fn sample(rng: &mut Rng, _v: i16) -> Self {
        Self { name: samples::string(rng), mechanism: samples::number(rng) as i8 }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Upsertion {
    pub name: String,
    pub mechanism: i8,
    pub iterations: i32,
    pub salt: Bytes,
    pub salted_password: Secret,
}

impl Upsertion {
    pub fn decode(r: &mut Reader<'_>, _v: i16) -> Result<Self, Malformed> {
        let name = r.string(true)?;
        let mechanism = r.i8()?;
        let iterations = r.i32()?;
        let salt = r.bytes(true)?;
        let salted_password = r.secret(true)?;
        r.skip_tags()?;
        Ok(Self { name, mechanism, iterations, salt, salted_password })
    }
}

#[cfg(test)]
impl Upsertion {
    pub fn encode(&self, w: &mut Writer<'_>, _v: i16) {
        w.string(&self.name, true);
        w.i8(self.mechanism);
        w.i32(self.iterations);
        w.bytes(&self.salt, true);
        w.bytes(self.salted_password.expose(), true);
        w.no_tags();
    }

    pub fn sample(rng: &mut Rng, _v: i16) -> Self {
        Self {
            name: samples::string(rng),
            mechanism: samples::number(rng) as i8,
            iterations: samples::number(rng) as i32,
            salt: samples::bytes(rng),
            salted_password: samples::secret(rng),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Request {
    pub deletions: Vec<Deletion>,
    pub upsertions: Vec<Upsertion>,
}

impl Request {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let deletions = r.array(true, 3, |r| Deletion::decode(r, v))?;
        let upsertions = r.array(true, 9, |r| Upsertion::decode(r, v))?;
        r.skip_tags()?;
        Ok(Self { deletions, upsertions })
    }
}

#[cfg(test)]
impl Request {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.array(&self.deletions, true, |w, x| x.encode(w, v));
        w.array(&self.upsertions, true, |w, x| x.encode(w, v));
        w.no_tags();
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            deletions: samples::array(rng, |rng| Deletion::sample(rng, v)),
            upsertions: samples::array(rng, |rng| Upsertion::sample(rng, v)),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct UserResult {
    pub user: String,
    pub error_code: i16,
    pub error_message: Option<String>,
}

impl UserResult {
    pub fn encode(&self, w: &mut Writer<'_>, _v: i16) {
        w.string(&self.user, true);
        w.i16(self.error_code);
        w.nullable_string(self.error_message.as_deref(), true);
        w.no_tags();
    }
}

#[cfg(test)]
impl UserResult {
    pub fn decode(r: &mut Reader<'_>, _v: i16) -> Result<Self, Malformed> {
        let user = r.string(true)?;
        let error_code = r.i16()?;
        let error_message = r.nullable_string(true)?;
        r.skip_tags()?;
        Ok(Self { user, error_code, error_message })
    }

    pub fn sample(rng: &mut Rng, _v: i16) -> Self {
        Self {
            user: samples::string(rng),
            error_code: samples::number(rng) as i16,
            error_message: samples::nullable(rng, |rng| samples::string(rng)),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Response {
    pub throttle_time_ms: i32,
    pub results: Vec<UserResult>,
}

impl Response {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.i32(self.throttle_time_ms);
        w.array(&self.results, true, |w, x| x.encode(w, v));
        w.no_tags();
    }
}

#[cfg(test)]
impl Response {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let throttle_time_ms = r.i32()?;
        let results = r.array(true, 5, |r| UserResult::decode(r, v))?;
        r.skip_tags()?;
        Ok(Self { throttle_time_ms, results })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            throttle_time_ms: samples::number(rng) as i32,
            results: samples::array(rng, |rng| UserResult::sample(rng, v)),
        }
    }
}
