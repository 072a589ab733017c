//! Made by `cargo xtask codegen` from `crates/kafka/schema`. Do not edit.
//!
//! Stores a group's positions. Versions 0 and 1 are what pre-0.9 clients send.

#[cfg(test)]
use crate::codec::samples;
use crate::codec::{Malformed, Reader, Writer};
#[cfg(test)]
use koine_base::rng::Rng;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionOffset {
    pub partition_index: i32,
    pub committed_offset: i64,
    pub committed_leader_epoch: i32,
    pub commit_timestamp: i64,
    pub committed_metadata: Option<String>,
}

impl Default for PartitionOffset {
    fn default() -> Self {
        Self {
            partition_index: 0,
            committed_offset: 0,
            committed_leader_epoch: -1,
            commit_timestamp: -1,
            committed_metadata: None,
        }
    }
}

impl PartitionOffset {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let partition_index = r.i32()?;
        let committed_offset = r.i64()?;
        let committed_leader_epoch = if v >= 6 { r.i32()? } else { -1 };
        let commit_timestamp = if v == 1 { r.i64()? } else { -1 };
        let committed_metadata = r.nullable_string(v >= 8)?;
        if v >= 8 {
            r.skip_tags()?;
        }
        Ok(Self {
            partition_index,
            committed_offset,
            committed_leader_epoch,
            commit_timestamp,
            committed_metadata,
        })
    }
}

#[cfg(test)]
impl PartitionOffset {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.i32(self.partition_index);
        w.i64(self.committed_offset);
        if v >= 6 {
            w.i32(self.committed_leader_epoch);
        }
        if v == 1 {
            w.i64(self.commit_timestamp);
        }
        w.nullable_string(self.committed_metadata.as_deref(), v >= 8);
        if v >= 8 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            partition_index: samples::number(rng) as i32,
            committed_offset: samples::number(rng),
            committed_leader_epoch: if v >= 6 { samples::number(rng) as i32 } else { -1 },
            commit_timestamp: if v == 1 { samples::number(rng) } else { -1 },
            committed_metadata: samples::nullable(rng, |rng| samples::string(rng)),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TopicOffsets {
    pub name: String,
    pub topic_id: [u8; 16],
    pub partitions: Vec<PartitionOffset>,
}

impl TopicOffsets {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let name = if v <= 9 { r.string(v >= 8)? } else { String::new() };
        let topic_id = if v >= 10 { r.uuid()? } else { [0; 16] };
        let partitions = r.array(v >= 8, 14, |r| PartitionOffset::decode(r, v))?;
        if v >= 8 {
            r.skip_tags()?;
        }
        Ok(Self { name, topic_id, partitions })
    }
}

#[cfg(test)]
impl TopicOffsets {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        if v <= 9 {
            w.string(&self.name, v >= 8);
        }
        if v >= 10 {
            w.uuid(&self.topic_id);
        }
        w.array(&self.partitions, v >= 8, |w, x| x.encode(w, v));
        if v >= 8 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            name: if v <= 9 { samples::string(rng) } else { String::new() },
            topic_id: if v >= 10 { samples::uuid(rng) } else { [0; 16] },
            partitions: samples::array(rng, |rng| PartitionOffset::sample(rng, v)),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub group_id: String,
    pub generation_id_or_member_epoch: i32,
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub retention_time_ms: i64,
    pub topics: Vec<TopicOffsets>,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            group_id: String::new(),
            generation_id_or_member_epoch: -1,
            member_id: String::new(),
            group_instance_id: None,
            retention_time_ms: -1,
            topics: Vec::new(),
        }
    }
}

impl Request {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let group_id = r.string(v >= 8)?;
        let generation_id_or_member_epoch = if v >= 1 { r.i32()? } else { -1 };
        let member_id = if v >= 1 { r.string(v >= 8)? } else { String::new() };
        let group_instance_id = if v >= 7 { r.nullable_string(v >= 8)? } else { None };
        let retention_time_ms = if (2..=4).contains(&v) { r.i64()? } else { -1 };
        let topics = r.array(v >= 8, 3, |r| TopicOffsets::decode(r, v))?;
        if v >= 8 {
            r.skip_tags()?;
        }
        Ok(Self {
            group_id,
            generation_id_or_member_epoch,
            member_id,
            group_instance_id,
            retention_time_ms,
            topics,
        })
    }
}

#[cfg(test)]
impl Request {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.string(&self.group_id, v >= 8);
        if v >= 1 {
            w.i32(self.generation_id_or_member_epoch);
        }
        if v >= 1 {
            w.string(&self.member_id, v >= 8);
        }
        if v >= 7 {
            w.nullable_string(self.group_instance_id.as_deref(), v >= 8);
        }
        if (2..=4).contains(&v) {
            w.i64(self.retention_time_ms);
        }
        w.array(&self.topics, v >= 8, |w, x| x.encode(w, v));
        if v >= 8 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            group_id: samples::string(rng),
            generation_id_or_member_epoch: if v >= 1 { samples::number(rng) as i32 } else { -1 },
            member_id: if v >= 1 { samples::string(rng) } else { String::new() },
            group_instance_id: if v >= 7 {
                samples::nullable(rng, |rng| samples::string(rng))
            } else {
                None
            },
            retention_time_ms: if (2..=4).contains(&v) { samples::number(rng) } else { -1 },
            topics: samples::array(rng, |rng| TopicOffsets::sample(rng, v)),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Partition {
    pub partition_index: i32,
    pub error_code: i16,
}

impl Partition {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.i32(self.partition_index);
        w.i16(self.error_code);
        if v >= 8 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Partition {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let partition_index = r.i32()?;
        let error_code = r.i16()?;
        if v >= 8 {
            r.skip_tags()?;
        }
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
    pub topic_id: [u8; 16],
    pub partitions: Vec<Partition>,
}

impl Topic {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        if v <= 9 {
            w.string(&self.name, v >= 8);
        }
        if v >= 10 {
            w.uuid(&self.topic_id);
        }
        w.array(&self.partitions, v >= 8, |w, x| x.encode(w, v));
        if v >= 8 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Topic {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let name = if v <= 9 { r.string(v >= 8)? } else { String::new() };
        let topic_id = if v >= 10 { r.uuid()? } else { [0; 16] };
        let partitions = r.array(v >= 8, 6, |r| Partition::decode(r, v))?;
        if v >= 8 {
            r.skip_tags()?;
        }
        Ok(Self { name, topic_id, partitions })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            name: if v <= 9 { samples::string(rng) } else { String::new() },
            topic_id: if v >= 10 { samples::uuid(rng) } else { [0; 16] },
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
        if v >= 3 {
            w.i32(self.throttle_time_ms);
        }
        w.array(&self.topics, v >= 8, |w, x| x.encode(w, v));
        if v >= 8 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Response {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let throttle_time_ms = if v >= 3 { r.i32()? } else { 0 };
        let topics = r.array(v >= 8, 3, |r| Topic::decode(r, v))?;
        if v >= 8 {
            r.skip_tags()?;
        }
        Ok(Self { throttle_time_ms, topics })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            throttle_time_ms: if v >= 3 { samples::number(rng) as i32 } else { 0 },
            topics: samples::array(rng, |rng| Topic::sample(rng, v)),
        }
    }
}
