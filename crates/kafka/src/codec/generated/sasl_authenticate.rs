//! Made by `cargo xtask codegen` from `crates/kafka/schema`. Do not edit.
//!
//! One step of a login: a token of the mechanism there, and one back.

#[cfg(test)]
use crate::codec::samples;
use crate::codec::{Malformed, Reader, Writer};
use bytes::Bytes;
#[cfg(test)]
use koine_base::rng::Rng;
use koine_broker::access::Secret;

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Request {
    pub auth_bytes: Secret,
}

impl Request {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let auth_bytes = r.secret(v >= 2)?;
        if v >= 2 {
            r.skip_tags()?;
        }
        Ok(Self { auth_bytes })
    }
}

#[cfg(test)]
impl Request {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.bytes(self.auth_bytes.expose(), v >= 2);
        if v >= 2 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, _v: i16) -> Self {
        Self { auth_bytes: samples::secret(rng) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Response {
    pub error_code: i16,
    pub error_message: Option<String>,
    pub auth_bytes: Bytes,
    /// Before it is over the client must log in again; 0 is without limit.
    pub session_lifetime_ms: i64,
}

impl Response {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.i16(self.error_code);
        w.nullable_string(self.error_message.as_deref(), v >= 2);
        w.bytes(&self.auth_bytes, v >= 2);
        if v >= 1 {
            w.i64(self.session_lifetime_ms);
        }
        if v >= 2 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Response {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let error_code = r.i16()?;
        let error_message = r.nullable_string(v >= 2)?;
        let auth_bytes = r.bytes(v >= 2)?;
        let session_lifetime_ms = if v >= 1 { r.i64()? } else { 0 };
        if v >= 2 {
            r.skip_tags()?;
        }
        Ok(Self { error_code, error_message, auth_bytes, session_lifetime_ms })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            error_code: samples::number(rng) as i16,
            error_message: samples::nullable(rng, |rng| samples::string(rng)),
            auth_bytes: samples::bytes(rng),
            session_lifetime_ms: if v >= 1 { samples::number(rng) } else { 0 },
        }
    }
}
