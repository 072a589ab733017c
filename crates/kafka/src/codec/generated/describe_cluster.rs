//! Made by `cargo xtask codegen` from `crates/kafka/schema`. Do not edit.
//!
//! The cluster id, its controller and its brokers (KIP-700).

#[cfg(test)]
use crate::codec::samples;
use crate::codec::{Malformed, Reader, Writer};
#[cfg(test)]
use koine_base::rng::Rng;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub include_cluster_authorized_operations: bool,
    /// 1 brokers, 2 controllers.
    pub endpoint_type: i8,
    pub include_fenced_brokers: bool,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            include_cluster_authorized_operations: false,
            endpoint_type: 1,
            include_fenced_brokers: false,
        }
    }
}

impl Request {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let include_cluster_authorized_operations = r.bool()?;
        let endpoint_type = if v >= 1 { r.i8()? } else { 1 };
        let include_fenced_brokers = if v >= 2 { r.bool()? } else { false };
        r.skip_tags()?;
        Ok(Self { include_cluster_authorized_operations, endpoint_type, include_fenced_brokers })
    }
}

#[cfg(test)]
impl Request {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.bool(self.include_cluster_authorized_operations);
        if v >= 1 {
            w.i8(self.endpoint_type);
        }
        if v >= 2 {
            w.bool(self.include_fenced_brokers);
        }
        w.no_tags();
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            include_cluster_authorized_operations: samples::number(rng) % 2 == 0,
            endpoint_type: if v >= 1 { samples::number(rng) as i8 } else { 1 },
            include_fenced_brokers: if v >= 2 { samples::number(rng) % 2 == 0 } else { false },
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Broker {
    pub broker_id: i32,
    pub host: String,
    pub port: i32,
    pub rack: Option<String>,
    pub is_fenced: bool,
}

impl Broker {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.i32(self.broker_id);
        w.string(&self.host, true);
        w.i32(self.port);
        w.nullable_string(self.rack.as_deref(), true);
        if v >= 2 {
            w.bool(self.is_fenced);
        }
        w.no_tags();
    }
}

#[cfg(test)]
impl Broker {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let broker_id = r.i32()?;
        let host = r.string(true)?;
        let port = r.i32()?;
        let rack = r.nullable_string(true)?;
        let is_fenced = if v >= 2 { r.bool()? } else { false };
        r.skip_tags()?;
        Ok(Self { broker_id, host, port, rack, is_fenced })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            broker_id: samples::number(rng) as i32,
            host: samples::string(rng),
            port: samples::number(rng) as i32,
            rack: samples::nullable(rng, |rng| samples::string(rng)),
            is_fenced: if v >= 2 { samples::number(rng) % 2 == 0 } else { false },
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub throttle_time_ms: i32,
    pub error_code: i16,
    pub error_message: Option<String>,
    pub endpoint_type: i8,
    pub cluster_id: String,
    pub controller_id: i32,
    pub brokers: Vec<Broker>,
    pub cluster_authorized_operations: i32,
}

impl Default for Response {
    fn default() -> Self {
        Self {
            throttle_time_ms: 0,
            error_code: 0,
            error_message: None,
            endpoint_type: 1,
            cluster_id: String::new(),
            controller_id: -1,
            brokers: Vec::new(),
            cluster_authorized_operations: -2147483648,
        }
    }
}

impl Response {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.i32(self.throttle_time_ms);
        w.i16(self.error_code);
        w.nullable_string(self.error_message.as_deref(), true);
        if v >= 1 {
            w.i8(self.endpoint_type);
        }
        w.string(&self.cluster_id, true);
        w.i32(self.controller_id);
        w.array(&self.brokers, true, |w, x| x.encode(w, v));
        w.i32(self.cluster_authorized_operations);
        w.no_tags();
    }
}

#[cfg(test)]
impl Response {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let throttle_time_ms = r.i32()?;
        let error_code = r.i16()?;
        let error_message = r.nullable_string(true)?;
        let endpoint_type = if v >= 1 { r.i8()? } else { 1 };
        let cluster_id = r.string(true)?;
        let controller_id = r.i32()?;
        let brokers = r.array(true, 11, |r| Broker::decode(r, v))?;
        let cluster_authorized_operations = r.i32()?;
        r.skip_tags()?;
        Ok(Self {
            throttle_time_ms,
            error_code,
            error_message,
            endpoint_type,
            cluster_id,
            controller_id,
            brokers,
            cluster_authorized_operations,
        })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            throttle_time_ms: samples::number(rng) as i32,
            error_code: samples::number(rng) as i16,
            error_message: samples::nullable(rng, |rng| samples::string(rng)),
            endpoint_type: if v >= 1 { samples::number(rng) as i8 } else { 1 },
            cluster_id: samples::string(rng),
            controller_id: samples::number(rng) as i32,
            brokers: samples::array(rng, |rng| Broker::sample(rng, v)),
            cluster_authorized_operations: samples::number(rng) as i32,
        }
    }
}
