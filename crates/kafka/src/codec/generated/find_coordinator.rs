//! Made by `cargo xtask codegen` from `crates/kafka/schema`. Do not edit.
//!
//! Which broker coordinates a group (type 0), a transactional id (1) or a share partition (2).

#[cfg(test)]
use crate::codec::samples;
use crate::codec::{Malformed, Reader, Writer};
#[cfg(test)]
use koine_base::rng::Rng;

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Request {
    pub key: String,
    pub key_type: i8,
    pub coordinator_keys: Vec<String>,
}

impl Request {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let key = if v <= 3 { r.string(v >= 3)? } else { String::new() };
        let key_type = if v >= 1 { r.i8()? } else { 0 };
        let coordinator_keys =
            if v >= 4 { r.array(true, 1, |r| r.string(true))? } else { Vec::new() };
        if v >= 3 {
            r.skip_tags()?;
        }
        Ok(Self { key, key_type, coordinator_keys })
    }
}

#[cfg(test)]
impl Request {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        if v <= 3 {
            w.string(&self.key, v >= 3);
        }
        if v >= 1 {
            w.i8(self.key_type);
        }
        if v >= 4 {
            w.array(&self.coordinator_keys, true, |w, x| w.string(x, true));
        }
        if v >= 3 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            key: if v <= 3 { samples::string(rng) } else { String::new() },
            key_type: if v >= 1 { samples::number(rng) as i8 } else { 0 },
            coordinator_keys: if v >= 4 {
                samples::array(rng, |rng| samples::string(rng))
            } else {
                Vec::new()
            },
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Coordinator {
    pub key: String,
    pub node_id: i32,
    pub host: String,
    pub port: i32,
    pub error_code: i16,
    pub error_message: Option<String>,
}

impl Coordinator {
    pub fn encode(&self, w: &mut Writer<'_>, _v: i16) {
        w.string(&self.key, true);
        w.i32(self.node_id);
        w.string(&self.host, true);
        w.i32(self.port);
        w.i16(self.error_code);
        w.nullable_string(self.error_message.as_deref(), true);
        w.no_tags();
    }
}

#[cfg(test)]
impl Coordinator {
    pub fn decode(r: &mut Reader<'_>, _v: i16) -> Result<Self, Malformed> {
        let key = r.string(true)?;
        let node_id = r.i32()?;
        let host = r.string(true)?;
        let port = r.i32()?;
        let error_code = r.i16()?;
        let error_message = r.nullable_string(true)?;
        r.skip_tags()?;
        Ok(Self { key, node_id, host, port, error_code, error_message })
    }

    pub fn sample(rng: &mut Rng, _v: i16) -> Self {
        Self {
            key: samples::string(rng),
            node_id: samples::number(rng) as i32,
            host: samples::string(rng),
            port: samples::number(rng) as i32,
            error_code: samples::number(rng) as i16,
            error_message: samples::nullable(rng, |rng| samples::string(rng)),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Response {
    pub throttle_time_ms: i32,
    pub error_code: i16,
    pub error_message: Option<String>,
    pub node_id: i32,
    pub host: String,
    pub port: i32,
    pub coordinators: Vec<Coordinator>,
}

impl Response {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        if v >= 1 {
            w.i32(self.throttle_time_ms);
        }
        if v <= 3 {
            w.i16(self.error_code);
        }
        if (1..=3).contains(&v) {
            w.nullable_string(self.error_message.as_deref(), v >= 3);
        }
        if v <= 3 {
            w.i32(self.node_id);
        }
        if v <= 3 {
            w.string(&self.host, v >= 3);
        }
        if v <= 3 {
            w.i32(self.port);
        }
        if v >= 4 {
            w.array(&self.coordinators, true, |w, x| x.encode(w, v));
        }
        if v >= 3 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Response {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let throttle_time_ms = if v >= 1 { r.i32()? } else { 0 };
        let error_code = if v <= 3 { r.i16()? } else { 0 };
        let error_message = if (1..=3).contains(&v) { r.nullable_string(v >= 3)? } else { None };
        let node_id = if v <= 3 { r.i32()? } else { 0 };
        let host = if v <= 3 { r.string(v >= 3)? } else { String::new() };
        let port = if v <= 3 { r.i32()? } else { 0 };
        let coordinators =
            if v >= 4 { r.array(true, 14, |r| Coordinator::decode(r, v))? } else { Vec::new() };
        if v >= 3 {
            r.skip_tags()?;
        }
        Ok(Self { throttle_time_ms, error_code, error_message, node_id, host, port, coordinators })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            throttle_time_ms: if v >= 1 { samples::number(rng) as i32 } else { 0 },
            error_code: if v <= 3 { samples::number(rng) as i16 } else { 0 },
            error_message: if (1..=3).contains(&v) {
                samples::nullable(rng, |rng| samples::string(rng))
            } else {
                None
            },
            node_id: if v <= 3 { samples::number(rng) as i32 } else { 0 },
            host: if v <= 3 { samples::string(rng) } else { String::new() },
            port: if v <= 3 { samples::number(rng) as i32 } else { 0 },
            coordinators: if v >= 4 {
                samples::array(rng, |rng| Coordinator::sample(rng, v))
            } else {
                Vec::new()
            },
        }
    }
}
