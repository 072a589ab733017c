//! Made by `cargo xtask codegen` from `crates/kafka/schema`. Do not edit.
//!
//! Forgets a group's positions in topics it no longer subscribes to (KIP-496).

#[cfg(test)]
use crate::codec::samples;
use crate::codec::{Malformed, Reader, Writer};
#[cfg(test)]
use koine_base::rng::Rng;

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PartitionWanted {
    pub partition_index: i32,
}

impl PartitionWanted {
    pub fn decode(r: &mut Reader<'_>, _v: i16) -> Result<Self, Malformed> {
        let partition_index = r.i32()?;
        Ok(Self { partition_index })
    }
}

#[cfg(test)]
impl PartitionWanted {
    pub fn encode(&self, w: &mut Writer<'_>, _v: i16) {
        w.i32(self.partition_index);
    }

    pub fn sample(rng: &mut Rng, _v: i16) -> Self {
        Self { partition_index: samples::number(rng) as i32 }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TopicWanted {
    pub name: String,
    pub partitions: Vec<PartitionWanted>,
}

impl TopicWanted {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let name = r.string(false)?;
        let partitions = r.array(false, 4, |r| PartitionWanted::decode(r, v))?;
        Ok(Self { name, partitions })
    }
}

#[cfg(test)]
impl TopicWanted {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.string(&self.name, false);
        w.array(&self.partitions, false, |w, x| x.encode(w, v));
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            name: samples::string(rng),
            partitions: samples::array(rng, |rng| PartitionWanted::sample(rng, v)),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Request {
    pub group_id: String,
    pub topics: Vec<TopicWanted>,
}

impl Request {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let group_id = r.string(false)?;
        let topics = r.array(false, 6, |r| TopicWanted::decode(r, v))?;
        Ok(Self { group_id, topics })
    }
}

#[cfg(test)]
impl Request {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.string(&self.group_id, false);
        w.array(&self.topics, false, |w, x| x.encode(w, v));
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            group_id: samples::string(rng),
            topics: samples::array(rng, |rng| TopicWanted::sample(rng, v)),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Partition {
    pub partition_index: i32,
    pub error_code: i16,
}

impl Partition {
    pub fn encode(&self, w: &mut Writer<'_>, _v: i16) {
        w.i32(self.partition_index);
        w.i16(self.error_code);
    }
}

#[cfg(test)]
impl Partition {
    pub fn decode(r: &mut Reader<'_>, _v: i16) -> Result<Self, Malformed> {
        let partition_index = r.i32()?;
        let error_code = r.i16()?;
        Ok(Self { partition_index, error_code })
    }

    pub fn sample(rng: &mut Rng, _v: i16) -> Self {
        Self {
            partition_index: samples::number(rng) as i32,
            error_code: samples::number(rng) as i16,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Topic {
    pub name: String,
    pub partitions: Vec<Partition>,
}

impl Topic {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.string(&self.name, false);
        w.array(&self.partitions, false, |w, x| x.encode(w, v));
    }
}

#[cfg(test)]
impl Topic {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let name = r.string(false)?;
        let partitions = r.array(false, 6, |r| Partition::decode(r, v))?;
        Ok(Self { name, partitions })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            name: samples::string(rng),
            partitions: samples::array(rng, |rng| Partition::sample(rng, v)),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Response {
    pub error_code: i16,
    pub throttle_time_ms: i32,
    pub topics: Vec<Topic>,
}

impl Response {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.i16(self.error_code);
        w.i32(self.throttle_time_ms);
        w.array(&self.topics, false, |w, x| x.encode(w, v));
    }
}

#[cfg(test)]
impl Response {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let error_code = r.i16()?;
        let throttle_time_ms = r.i32()?;
        let topics = r.array(false, 6, |r| Topic::decode(r, v))?;
        Ok(Self { error_code, throttle_time_ms, topics })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            error_code: samples::number(rng) as i16,
            throttle_time_ms: samples::number(rng) as i32,
            topics: samples::array(rng, |rng| Topic::sample(rng, v)),
        }
    }
}
