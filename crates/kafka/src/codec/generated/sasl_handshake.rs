//! Made by `cargo xtask codegen` from `crates/kafka/schema`. Do not edit.
//!
//! Chooses the mechanism of a login. After version 0 the login's tokens follow bare, each behind its length; after
//! version 1 they come in SaslAuthenticate.

#[cfg(test)]
use crate::codec::samples;
use crate::codec::{Malformed, Reader, Writer};
#[cfg(test)]
use koine_base::rng::Rng;

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Request {
    pub mechanism: String,
}

impl Request {
    pub fn decode(r: &mut Reader<'_>, _v: i16) -> Result<Self, Malformed> {
        let mechanism = r.string(false)?;
        Ok(Self { mechanism })
    }
}

#[cfg(test)]
impl Request {
    pub fn encode(&self, w: &mut Writer<'_>, _v: i16) {
        w.string(&self.mechanism, false);
    }

    pub fn sample(rng: &mut Rng, _v: i16) -> Self {
        Self { mechanism: samples::string(rng) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Response {
    pub error_code: i16,
    pub mechanisms: Vec<String>,
}

impl Response {
    pub fn encode(&self, w: &mut Writer<'_>, _v: i16) {
        w.i16(self.error_code);
        w.array(&self.mechanisms, false, |w, x| w.string(x, false));
    }
}

#[cfg(test)]
impl Response {
    pub fn decode(r: &mut Reader<'_>, _v: i16) -> Result<Self, Malformed> {
        let error_code = r.i16()?;
        let mechanisms = r.array(false, 2, |r| r.string(false))?;
        Ok(Self { error_code, mechanisms })
    }

    pub fn sample(rng: &mut Rng, _v: i16) -> Self {
        Self {
            error_code: samples::number(rng) as i16,
            mechanisms: samples::array(rng, |rng| samples::string(rng)),
        }
    }
}
