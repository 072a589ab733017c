//! Made by `cargo xtask codegen` from `crates/kafka/schema`. Do not edit.
//!
//! Creates topics, or with validate_only says whether it could.

#[cfg(test)]
use crate::codec::samples;
use crate::codec::{Malformed, Reader, Writer};
#[cfg(test)]
use koine_base::rng::Rng;

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ReplicaAssignment {
    pub partition_index: i32,
    pub broker_ids: Vec<i32>,
}

impl ReplicaAssignment {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let partition_index = r.i32()?;
        let broker_ids = r.array(v >= 5, 4, |r| r.i32())?;
        if v >= 5 {
            r.skip_tags()?;
        }
        Ok(Self { partition_index, broker_ids })
    }
}

#[cfg(test)]
impl ReplicaAssignment {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.i32(self.partition_index);
        w.array(&self.broker_ids, v >= 5, |w, x| w.i32(*x));
        if v >= 5 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, _v: i16) -> Self {
        Self {
            partition_index: samples::number(rng) as i32,
            broker_ids: samples::array(rng, |rng| samples::number(rng) as i32),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ConfigWanted {
    pub name: String,
    pub value: Option<String>,
}

impl ConfigWanted {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let name = r.string(v >= 5)?;
        let value = r.nullable_string(v >= 5)?;
        if v >= 5 {
            r.skip_tags()?;
        }
        Ok(Self { name, value })
    }
}

#[cfg(test)]
impl ConfigWanted {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.string(&self.name, v >= 5);
        w.nullable_string(self.value.as_deref(), v >= 5);
        if v >= 5 {
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
pub struct TopicWanted {
    pub name: String,
    /// -1 asks for the broker's default.
    pub num_partitions: i32,
    /// -1 asks for the broker's default.
    pub replication_factor: i16,
    pub assignments: Vec<ReplicaAssignment>,
    pub configs: Vec<ConfigWanted>,
}

impl TopicWanted {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let name = r.string(v >= 5)?;
        let num_partitions = r.i32()?;
        let replication_factor = r.i16()?;
        let assignments = r.array(v >= 5, 6, |r| ReplicaAssignment::decode(r, v))?;
        let configs = r.array(v >= 5, 3, |r| ConfigWanted::decode(r, v))?;
        if v >= 5 {
            r.skip_tags()?;
        }
        Ok(Self { name, num_partitions, replication_factor, assignments, configs })
    }
}

#[cfg(test)]
impl TopicWanted {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.string(&self.name, v >= 5);
        w.i32(self.num_partitions);
        w.i16(self.replication_factor);
        w.array(&self.assignments, v >= 5, |w, x| x.encode(w, v));
        w.array(&self.configs, v >= 5, |w, x| x.encode(w, v));
        if v >= 5 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            name: samples::string(rng),
            num_partitions: samples::number(rng) as i32,
            replication_factor: samples::number(rng) as i16,
            assignments: samples::array(rng, |rng| ReplicaAssignment::sample(rng, v)),
            configs: samples::array(rng, |rng| ConfigWanted::sample(rng, v)),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub topics: Vec<TopicWanted>,
    pub timeout_ms: i32,
    pub validate_only: bool,
}

impl Default for Request {
    fn default() -> Self {
        Self { topics: Vec::new(), timeout_ms: 60000, validate_only: false }
    }
}

impl Request {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let topics = r.array(v >= 5, 10, |r| TopicWanted::decode(r, v))?;
        let timeout_ms = r.i32()?;
        let validate_only = if v >= 1 { r.bool()? } else { false };
        if v >= 5 {
            r.skip_tags()?;
        }
        Ok(Self { topics, timeout_ms, validate_only })
    }
}

#[cfg(test)]
impl Request {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.array(&self.topics, v >= 5, |w, x| x.encode(w, v));
        w.i32(self.timeout_ms);
        if v >= 1 {
            w.bool(self.validate_only);
        }
        if v >= 5 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            topics: samples::array(rng, |rng| TopicWanted::sample(rng, v)),
            timeout_ms: samples::number(rng) as i32,
            validate_only: if v >= 1 { samples::number(rng) % 2 == 0 } else { false },
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub name: String,
    pub value: Option<String>,
    pub read_only: bool,
    pub config_source: i8,
    pub is_sensitive: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: String::new(),
            value: None,
            read_only: false,
            config_source: -1,
            is_sensitive: false,
        }
    }
}

impl Config {
    pub fn encode(&self, w: &mut Writer<'_>, _v: i16) {
        w.string(&self.name, true);
        w.nullable_string(self.value.as_deref(), true);
        w.bool(self.read_only);
        w.i8(self.config_source);
        w.bool(self.is_sensitive);
        w.no_tags();
    }
}

#[cfg(test)]
impl Config {
    pub fn decode(r: &mut Reader<'_>, _v: i16) -> Result<Self, Malformed> {
        let name = r.string(true)?;
        let value = r.nullable_string(true)?;
        let read_only = r.bool()?;
        let config_source = r.i8()?;
        let is_sensitive = r.bool()?;
        r.skip_tags()?;
        Ok(Self { name, value, read_only, config_source, is_sensitive })
    }

    pub fn sample(rng: &mut Rng, _v: i16) -> Self {
        Self {
            name: samples::string(rng),
            value: samples::nullable(rng, |rng| samples::string(rng)),
            read_only: samples::number(rng) % 2 == 0,
            config_source: samples::number(rng) as i8,
            is_sensitive: samples::number(rng) % 2 == 0,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pub name: String,
    pub topic_id: [u8; 16],
    pub error_code: i16,
    pub error_message: Option<String>,
    pub topic_config_error_code: i16,
    pub num_partitions: i32,
    pub replication_factor: i16,
    pub configs: Option<Vec<Config>>,
}

impl Default for Topic {
    fn default() -> Self {
        Self {
            name: String::new(),
            topic_id: [0; 16],
            error_code: 0,
            error_message: None,
            topic_config_error_code: 0,
            num_partitions: -1,
            replication_factor: -1,
            configs: None,
        }
    }
}

impl Topic {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.string(&self.name, v >= 5);
        if v >= 7 {
            w.uuid(&self.topic_id);
        }
        w.i16(self.error_code);
        if v >= 1 {
            w.nullable_string(self.error_message.as_deref(), v >= 5);
        }
        if v >= 5 {
            w.i32(self.num_partitions);
        }
        if v >= 5 {
            w.i16(self.replication_factor);
        }
        if v >= 5 {
            w.nullable_array(self.configs.as_deref(), true, |w, x| x.encode(w, v));
        }
        if v >= 5 {
            w.uvarint(u32::from(self.topic_config_error_code != 0));
            if self.topic_config_error_code != 0 {
                w.tag(0, |w| {
                    w.i16(self.topic_config_error_code);
                });
            }
        }
    }
}

#[cfg(test)]
impl Topic {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let name = r.string(v >= 5)?;
        let topic_id = if v >= 7 { r.uuid()? } else { [0; 16] };
        let error_code = r.i16()?;
        let error_message = if v >= 1 { r.nullable_string(v >= 5)? } else { None };
        let mut topic_config_error_code = 0;
        let num_partitions = if v >= 5 { r.i32()? } else { -1 };
        let replication_factor = if v >= 5 { r.i16()? } else { -1 };
        let configs =
            if v >= 5 { r.nullable_array(true, 6, |r| Config::decode(r, v))? } else { None };
        if v >= 5 {
            r.tags(|tag, r| {
                match tag {
                    0 => topic_config_error_code = r.i16()?,
                    _ => return Ok(false),
                }
                Ok(true)
            })?;
        }
        Ok(Self {
            name,
            topic_id,
            error_code,
            error_message,
            topic_config_error_code,
            num_partitions,
            replication_factor,
            configs,
        })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            name: samples::string(rng),
            topic_id: if v >= 7 { samples::uuid(rng) } else { [0; 16] },
            error_code: samples::number(rng) as i16,
            error_message: if v >= 1 {
                samples::nullable(rng, |rng| samples::string(rng))
            } else {
                None
            },
            topic_config_error_code: if v >= 5 { samples::number(rng) as i16 } else { 0 },
            num_partitions: if v >= 5 { samples::number(rng) as i32 } else { -1 },
            replication_factor: if v >= 5 { samples::number(rng) as i16 } else { -1 },
            configs: if v >= 5 {
                samples::nullable(rng, |rng| samples::array(rng, |rng| Config::sample(rng, v)))
            } else {
                None
            },
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Response {
    pub throttle_time_ms: i32,
    pub topics: Vec<Topic>,
}

impl Response {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        if v >= 2 {
            w.i32(self.throttle_time_ms);
        }
        w.array(&self.topics, v >= 5, |w, x| x.encode(w, v));
        if v >= 5 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Response {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let throttle_time_ms = if v >= 2 { r.i32()? } else { 0 };
        let topics = r.array(v >= 5, 4, |r| Topic::decode(r, v))?;
        if v >= 5 {
            r.skip_tags()?;
        }
        Ok(Self { throttle_time_ms, topics })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            throttle_time_ms: if v >= 2 { samples::number(rng) as i32 } else { 0 },
            topics: samples::array(rng, |rng| Topic::sample(rng, v)),
        }
    }
}
