//! Made by `cargo xtask codegen` from `crates/kafka/schema`. Do not edit.
//!
//! Where a leader epoch ended, for truncation detection (KIP-320).

#[cfg(test)]
use crate::codec::samples;
use crate::codec::{Malformed, Reader, Writer};
#[cfg(test)]
use koine_base::rng::Rng;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionWanted {
    pub partition: i32,
    pub current_leader_epoch: i32,
    pub leader_epoch: i32,
}

impl Default for PartitionWanted {
    fn default() -> Self {
        Self { partition: 0, current_leader_epoch: -1, leader_epoch: 0 }
    }
}

impl PartitionWanted {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let partition = r.i32()?;
        let current_leader_epoch = if v >= 2 { r.i32()? } else { -1 };
        let leader_epoch = r.i32()?;
        if v >= 4 {
            r.skip_tags()?;
        }
        Ok(Self { partition, current_leader_epoch, leader_epoch })
    }
}

#[cfg(test)]
impl PartitionWanted {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.i32(self.partition);
        if v >= 2 {
            w.i32(self.current_leader_epoch);
        }
        w.i32(self.leader_epoch);
        if v >= 4 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            partition: samples::number(rng) as i32,
            current_leader_epoch: if v >= 2 { samples::number(rng) as i32 } else { -1 },
            leader_epoch: samples::number(rng) as i32,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TopicWanted {
    pub topic: String,
    pub partitions: Vec<PartitionWanted>,
}

impl TopicWanted {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let topic = r.string(v >= 4)?;
        let partitions = r.array(v >= 4, 8, |r| PartitionWanted::decode(r, v))?;
        if v >= 4 {
            r.skip_tags()?;
        }
        Ok(Self { topic, partitions })
    }
}

#[cfg(test)]
impl TopicWanted {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.string(&self.topic, v >= 4);
        w.array(&self.partitions, v >= 4, |w, x| x.encode(w, v));
        if v >= 4 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            topic: samples::string(rng),
            partitions: samples::array(rng, |rng| PartitionWanted::sample(rng, v)),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub replica_id: i32,
    pub topics: Vec<TopicWanted>,
}

impl Default for Request {
    fn default() -> Self {
        Self { replica_id: -2, topics: Vec::new() }
    }
}

impl Request {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let replica_id = if v >= 3 { r.i32()? } else { -2 };
        let topics = r.array(v >= 4, 3, |r| TopicWanted::decode(r, v))?;
        if v >= 4 {
            r.skip_tags()?;
        }
        Ok(Self { replica_id, topics })
    }
}

#[cfg(test)]
impl Request {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        if v >= 3 {
            w.i32(self.replica_id);
        }
        w.array(&self.topics, v >= 4, |w, x| x.encode(w, v));
        if v >= 4 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            replica_id: if v >= 3 { samples::number(rng) as i32 } else { -2 },
            topics: samples::array(rng, |rng| TopicWanted::sample(rng, v)),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochEndOffset {
    pub error_code: i16,
    pub partition: i32,
    pub leader_epoch: i32,
    pub end_offset: i64,
}

impl Default for EpochEndOffset {
    fn default() -> Self {
        Self { error_code: 0, partition: 0, leader_epoch: -1, end_offset: -1 }
    }
}

impl EpochEndOffset {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.i16(self.error_code);
        w.i32(self.partition);
        if v >= 1 {
            w.i32(self.leader_epoch);
        }
        w.i64(self.end_offset);
        if v >= 4 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl EpochEndOffset {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let error_code = r.i16()?;
        let partition = r.i32()?;
        let leader_epoch = if v >= 1 { r.i32()? } else { -1 };
        let end_offset = r.i64()?;
        if v >= 4 {
            r.skip_tags()?;
        }
        Ok(Self { error_code, partition, leader_epoch, end_offset })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            error_code: samples::number(rng) as i16,
            partition: samples::number(rng) as i32,
            leader_epoch: if v >= 1 { samples::number(rng) as i32 } else { -1 },
            end_offset: samples::number(rng),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Topic {
    pub topic: String,
    pub partitions: Vec<EpochEndOffset>,
}

impl Topic {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.string(&self.topic, v >= 4);
        w.array(&self.partitions, v >= 4, |w, x| x.encode(w, v));
        if v >= 4 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Topic {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let topic = r.string(v >= 4)?;
        let partitions = r.array(v >= 4, 14, |r| EpochEndOffset::decode(r, v))?;
        if v >= 4 {
            r.skip_tags()?;
        }
        Ok(Self { topic, partitions })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            topic: samples::string(rng),
            partitions: samples::array(rng, |rng| EpochEndOffset::sample(rng, v)),
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
        w.array(&self.topics, v >= 4, |w, x| x.encode(w, v));
        if v >= 4 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Response {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let throttle_time_ms = if v >= 2 { r.i32()? } else { 0 };
        let topics = r.array(v >= 4, 3, |r| Topic::decode(r, v))?;
        if v >= 4 {
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
