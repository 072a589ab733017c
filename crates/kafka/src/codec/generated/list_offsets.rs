//! Made by `cargo xtask codegen` from `crates/kafka/schema`. Do not edit.
//!
//! Offsets by timestamp or by a special negative timestamp.

#[cfg(test)]
use crate::codec::samples;
use crate::codec::{Malformed, Reader, Writer};
#[cfg(test)]
use koine_base::rng::Rng;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionWanted {
    pub partition_index: i32,
    pub current_leader_epoch: i32,
    pub timestamp: i64,
    pub max_num_offsets: i32,
}

impl Default for PartitionWanted {
    fn default() -> Self {
        Self { partition_index: 0, current_leader_epoch: -1, timestamp: 0, max_num_offsets: 1 }
    }
}

impl PartitionWanted {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let partition_index = r.i32()?;
        let current_leader_epoch = if v >= 4 { r.i32()? } else { -1 };
        let timestamp = r.i64()?;
        let max_num_offsets = if v == 0 { r.i32()? } else { 1 };
        if v >= 6 {
            r.skip_tags()?;
        }
        Ok(Self { partition_index, current_leader_epoch, timestamp, max_num_offsets })
    }
}

#[cfg(test)]
impl PartitionWanted {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.i32(self.partition_index);
        if v >= 4 {
            w.i32(self.current_leader_epoch);
        }
        w.i64(self.timestamp);
        if v == 0 {
            w.i32(self.max_num_offsets);
        }
        if v >= 6 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            partition_index: samples::number(rng) as i32,
            current_leader_epoch: if v >= 4 { samples::number(rng) as i32 } else { -1 },
            timestamp: samples::number(rng),
            max_num_offsets: if v == 0 { samples::number(rng) as i32 } else { 1 },
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TopicWanted {
    pub name: String,
    pub partitions: Vec<PartitionWanted>,
}

impl TopicWanted {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let name = r.string(v >= 6)?;
        let partitions = r.array(v >= 6, 12, |r| PartitionWanted::decode(r, v))?;
        if v >= 6 {
            r.skip_tags()?;
        }
        Ok(Self { name, partitions })
    }
}

#[cfg(test)]
impl TopicWanted {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.string(&self.name, v >= 6);
        w.array(&self.partitions, v >= 6, |w, x| x.encode(w, v));
        if v >= 6 {
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
    pub replica_id: i32,
    pub isolation_level: i8,
    pub topics: Vec<TopicWanted>,
    pub timeout_ms: i32,
}

impl Request {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let replica_id = r.i32()?;
        let isolation_level = if v >= 2 { r.i8()? } else { 0 };
        let topics = r.array(v >= 6, 3, |r| TopicWanted::decode(r, v))?;
        let timeout_ms = if v >= 10 { r.i32()? } else { 0 };
        if v >= 6 {
            r.skip_tags()?;
        }
        Ok(Self { replica_id, isolation_level, topics, timeout_ms })
    }
}

#[cfg(test)]
impl Request {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.i32(self.replica_id);
        if v >= 2 {
            w.i8(self.isolation_level);
        }
        w.array(&self.topics, v >= 6, |w, x| x.encode(w, v));
        if v >= 10 {
            w.i32(self.timeout_ms);
        }
        if v >= 6 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            replica_id: samples::number(rng) as i32,
            isolation_level: if v >= 2 { samples::number(rng) as i8 } else { 0 },
            topics: samples::array(rng, |rng| TopicWanted::sample(rng, v)),
            timeout_ms: if v >= 10 { samples::number(rng) as i32 } else { 0 },
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    pub partition_index: i32,
    pub error_code: i16,
    pub old_style_offsets: Vec<i64>,
    pub timestamp: i64,
    pub offset: i64,
    pub leader_epoch: i32,
}

impl Default for Partition {
    fn default() -> Self {
        Self {
            partition_index: 0,
            error_code: 0,
            old_style_offsets: Vec::new(),
            timestamp: -1,
            offset: -1,
            leader_epoch: -1,
        }
    }
}

impl Partition {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.i32(self.partition_index);
        w.i16(self.error_code);
        if v == 0 {
            w.array(&self.old_style_offsets, false, |w, x| w.i64(*x));
        }
        if v >= 1 {
            w.i64(self.timestamp);
        }
        if v >= 1 {
            w.i64(self.offset);
        }
        if v >= 4 {
            w.i32(self.leader_epoch);
        }
        if v >= 6 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Partition {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let partition_index = r.i32()?;
        let error_code = r.i16()?;
        let old_style_offsets = if v == 0 { r.array(false, 8, |r| r.i64())? } else { Vec::new() };
        let timestamp = if v >= 1 { r.i64()? } else { -1 };
        let offset = if v >= 1 { r.i64()? } else { -1 };
        let leader_epoch = if v >= 4 { r.i32()? } else { -1 };
        if v >= 6 {
            r.skip_tags()?;
        }
        Ok(Self { partition_index, error_code, old_style_offsets, timestamp, offset, leader_epoch })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            partition_index: samples::number(rng) as i32,
            error_code: samples::number(rng) as i16,
            old_style_offsets: if v == 0 {
                samples::array(rng, |rng| samples::number(rng))
            } else {
                Vec::new()
            },
            timestamp: if v >= 1 { samples::number(rng) } else { -1 },
            offset: if v >= 1 { samples::number(rng) } else { -1 },
            leader_epoch: if v >= 4 { samples::number(rng) as i32 } else { -1 },
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
        w.string(&self.name, v >= 6);
        w.array(&self.partitions, v >= 6, |w, x| x.encode(w, v));
        if v >= 6 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Topic {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let name = r.string(v >= 6)?;
        let partitions = r.array(v >= 6, 10, |r| Partition::decode(r, v))?;
        if v >= 6 {
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
        if v >= 2 {
            w.i32(self.throttle_time_ms);
        }
        w.array(&self.topics, v >= 6, |w, x| x.encode(w, v));
        if v >= 6 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Response {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let throttle_time_ms = if v >= 2 { r.i32()? } else { 0 };
        let topics = r.array(v >= 6, 3, |r| Topic::decode(r, v))?;
        if v >= 6 {
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
