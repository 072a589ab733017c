//! Made by `cargo xtask codegen` from `crates/kafka/schema`. Do not edit.
//!
//! Hands out a producer id and epoch for idempotent writes.

#[cfg(test)]
use crate::codec::samples;
use crate::codec::{Malformed, Reader, Writer};
#[cfg(test)]
use koine_base::rng::Rng;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub transactional_id: Option<String>,
    pub transaction_timeout_ms: i32,
    pub producer_id: i64,
    pub producer_epoch: i16,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            transactional_id: None,
            transaction_timeout_ms: 0,
            producer_id: -1,
            producer_epoch: -1,
        }
    }
}

impl Request {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let transactional_id = r.nullable_string(v >= 2)?;
        let transaction_timeout_ms = r.i32()?;
        let producer_id = if v >= 3 { r.i64()? } else { -1 };
        let producer_epoch = if v >= 3 { r.i16()? } else { -1 };
        if v >= 2 {
            r.skip_tags()?;
        }
        Ok(Self { transactional_id, transaction_timeout_ms, producer_id, producer_epoch })
    }
}

#[cfg(test)]
impl Request {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.nullable_string(self.transactional_id.as_deref(), v >= 2);
        w.i32(self.transaction_timeout_ms);
        if v >= 3 {
            w.i64(self.producer_id);
        }
        if v >= 3 {
            w.i16(self.producer_epoch);
        }
        if v >= 2 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            transactional_id: samples::nullable(rng, |rng| samples::string(rng)),
            transaction_timeout_ms: samples::number(rng) as i32,
            producer_id: if v >= 3 { samples::number(rng) } else { -1 },
            producer_epoch: if v >= 3 { samples::number(rng) as i16 } else { -1 },
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub throttle_time_ms: i32,
    pub error_code: i16,
    pub producer_id: i64,
    pub producer_epoch: i16,
}

impl Default for Response {
    fn default() -> Self {
        Self { throttle_time_ms: 0, error_code: 0, producer_id: -1, producer_epoch: 0 }
    }
}

impl Response {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.i32(self.throttle_time_ms);
        w.i16(self.error_code);
        w.i64(self.producer_id);
        w.i16(self.producer_epoch);
        if v >= 2 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Response {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let throttle_time_ms = r.i32()?;
        let error_code = r.i16()?;
        let producer_id = r.i64()?;
        let producer_epoch = r.i16()?;
        if v >= 2 {
            r.skip_tags()?;
        }
        Ok(Self { throttle_time_ms, error_code, producer_id, producer_epoch })
    }

    pub fn sample(rng: &mut Rng, _v: i16) -> Self {
        Self {
            throttle_time_ms: samples::number(rng) as i32,
            error_code: samples::number(rng) as i16,
            producer_id: samples::number(rng),
            producer_epoch: samples::number(rng) as i16,
        }
    }
}
