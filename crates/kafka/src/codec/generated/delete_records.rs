//! Made by `cargo xtask codegen` from `crates/kafka/schema`. Do not edit.
//!
//! Moves the log start offset of partitions forward.

#[cfg(test)]
use crate::codec::samples;
use crate::codec::{Malformed, Reader, Writer};
#[cfg(test)]
use koine_base::rng::Rng;

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PartitionWanted {
    pub partition_index: i32,
    /// Everything below it goes; -1 means up to the high watermark.
    pub offset: i64,
}

impl PartitionWanted {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let partition_index = r.i32()?;
        let offset = r.i64()?;
        if v >= 2 {
            r.skip_tags()?;
        }
        Ok(Self { partition_index, offset })
    }
}

#[cfg(test)]
impl PartitionWanted {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.i32(self.partition_index);
        w.i64(self.offset);
        if v >= 2 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, _v: i16) -> Self {
        Self { partition_index: samples::number(rng) as i32, offset: samples::number(rng) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TopicWanted {
    pub name: String,
    pub partitions: Vec<PartitionWanted>,
}

impl TopicWanted {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let name = r.string(v >= 2)?;
        let partitions = r.array(v >= 2, 12, |r| PartitionWanted::decode(r, v))?;
        if v >= 2 {
            r.skip_tags()?;
        }
        Ok(Self { name, partitions })
    }
}

#[cfg(test)]
impl TopicWanted {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.string(&self.name, v >= 2);
        w.array(&self.partitions, v >= 2, |w, x| x.encode(w, v));
        if v >= 2 {
            w.no_tags();
        }
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
    pub topics: Vec<TopicWanted>,
    pub timeout_ms: i32,
}

impl Request {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let topics = r.array(v >= 2, 3, |r| TopicWanted::decode(r, v))?;
        let timeout_ms = r.i32()?;
        if v >= 2 {
            r.skip_tags()?;
        }
        Ok(Self { topics, timeout_ms })
    }
}

#[cfg(test)]
impl Request {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.array(&self.topics, v >= 2, |w, x| x.encode(w, v));
        w.i32(self.timeout_ms);
        if v >= 2 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            topics: samples::array(rng, |rng| TopicWanted::sample(rng, v)),
            timeout_ms: samples::number(rng) as i32,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Partition {
    pub partition_index: i32,
    pub low_watermark: i64,
    pub error_code: i16,
}

impl Partition {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.i32(self.partition_index);
        w.i64(self.low_watermark);
        w.i16(self.error_code);
        if v >= 2 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Partition {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let partition_index = r.i32()?;
        let low_watermark = r.i64()?;
        let error_code = r.i16()?;
        if v >= 2 {
            r.skip_tags()?;
        }
        Ok(Self { partition_index, low_watermark, error_code })
    }

    pub fn sample(rng: &mut Rng, _v: i16) -> Self {
        Self {
            partition_index: samples::number(rng) as i32,
            low_watermark: samples::number(rng),
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
        w.string(&self.name, v >= 2);
        w.array(&self.partitions, v >= 2, |w, x| x.encode(w, v));
        if v >= 2 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Topic {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let name = r.string(v >= 2)?;
        let partitions = r.array(v >= 2, 14, |r| Partition::decode(r, v))?;
        if v >= 2 {
            r.skip_tags()?;
        }
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
    pub throttle_time_ms: i32,
    pub topics: Vec<Topic>,
}

impl Response {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.i32(self.throttle_time_ms);
        w.array(&self.topics, v >= 2, |w, x| x.encode(w, v));
        if v >= 2 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Response {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let throttle_time_ms = r.i32()?;
        let topics = r.array(v >= 2, 3, |r| Topic::decode(r, v))?;
        if v >= 2 {
            r.skip_tags()?;
        }
        Ok(Self { throttle_time_ms, topics })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            throttle_time_ms: samples::number(rng) as i32,
            topics: samples::array(rng, |rng| Topic::sample(rng, v)),
        }
    }
}
