//! Made by `cargo xtask codegen` from `crates/kafka/schema`. Do not edit.
//!
//! Reads a group's positions; from version 8 those of several groups.

#[cfg(test)]
use crate::codec::samples;
use crate::codec::{Malformed, Reader, Writer};
#[cfg(test)]
use koine_base::rng::Rng;

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TopicWanted {
    pub name: String,
    pub partition_indexes: Vec<i32>,
}

impl TopicWanted {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let name = r.string(v >= 6)?;
        let partition_indexes = r.array(v >= 6, 4, |r| r.i32())?;
        if v >= 6 {
            r.skip_tags()?;
        }
        Ok(Self { name, partition_indexes })
    }
}

#[cfg(test)]
impl TopicWanted {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.string(&self.name, v >= 6);
        w.array(&self.partition_indexes, v >= 6, |w, x| w.i32(*x));
        if v >= 6 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, _v: i16) -> Self {
        Self {
            name: samples::string(rng),
            partition_indexes: samples::array(rng, |rng| samples::number(rng) as i32),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct GroupTopicWanted {
    pub name: String,
    pub topic_id: [u8; 16],
    pub partition_indexes: Vec<i32>,
}

impl GroupTopicWanted {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let name = if v <= 9 { r.string(true)? } else { String::new() };
        let topic_id = if v >= 10 { r.uuid()? } else { [0; 16] };
        let partition_indexes = r.array(true, 4, |r| r.i32())?;
        r.skip_tags()?;
        Ok(Self { name, topic_id, partition_indexes })
    }
}

#[cfg(test)]
impl GroupTopicWanted {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        if v <= 9 {
            w.string(&self.name, true);
        }
        if v >= 10 {
            w.uuid(&self.topic_id);
        }
        w.array(&self.partition_indexes, true, |w, x| w.i32(*x));
        w.no_tags();
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            name: if v <= 9 { samples::string(rng) } else { String::new() },
            topic_id: if v >= 10 { samples::uuid(rng) } else { [0; 16] },
            partition_indexes: samples::array(rng, |rng| samples::number(rng) as i32),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupWanted {
    pub group_id: String,
    pub member_id: Option<String>,
    pub member_epoch: i32,
    pub topics: Option<Vec<GroupTopicWanted>>,
}

impl Default for GroupWanted {
    fn default() -> Self {
        Self { group_id: String::new(), member_id: None, member_epoch: -1, topics: None }
    }
}

impl GroupWanted {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let group_id = r.string(true)?;
        let member_id = if v >= 9 { r.nullable_string(true)? } else { None };
        let member_epoch = if v >= 9 { r.i32()? } else { -1 };
        let topics = r.nullable_array(true, 3, |r| GroupTopicWanted::decode(r, v))?;
        r.skip_tags()?;
        Ok(Self { group_id, member_id, member_epoch, topics })
    }
}

#[cfg(test)]
impl GroupWanted {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.string(&self.group_id, true);
        if v >= 9 {
            w.nullable_string(self.member_id.as_deref(), true);
        }
        if v >= 9 {
            w.i32(self.member_epoch);
        }
        w.nullable_array(self.topics.as_deref(), true, |w, x| x.encode(w, v));
        w.no_tags();
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            group_id: samples::string(rng),
            member_id: if v >= 9 {
                samples::nullable(rng, |rng| samples::string(rng))
            } else {
                None
            },
            member_epoch: if v >= 9 { samples::number(rng) as i32 } else { -1 },
            topics: samples::nullable(rng, |rng| {
                samples::array(rng, |rng| GroupTopicWanted::sample(rng, v))
            }),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Request {
    pub group_id: String,
    /// Null means all topics of the group.
    pub topics: Option<Vec<TopicWanted>>,
    pub groups: Vec<GroupWanted>,
    pub require_stable: bool,
}

impl Request {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let group_id = if v <= 7 { r.string(v >= 6)? } else { String::new() };
        let topics = if v <= 7 {
            if v >= 2 {
                r.nullable_array(v >= 6, 3, |r| TopicWanted::decode(r, v))?
            } else {
                Some(r.array(v >= 6, 3, |r| TopicWanted::decode(r, v))?)
            }
        } else {
            None
        };
        let groups =
            if v >= 8 { r.array(true, 3, |r| GroupWanted::decode(r, v))? } else { Vec::new() };
        let require_stable = if v >= 7 { r.bool()? } else { false };
        if v >= 6 {
            r.skip_tags()?;
        }
        Ok(Self { group_id, topics, groups, require_stable })
    }
}

#[cfg(test)]
impl Request {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        if v <= 7 {
            w.string(&self.group_id, v >= 6);
        }
        if v <= 7 {
            if v >= 2 {
                w.nullable_array(self.topics.as_deref(), v >= 6, |w, x| x.encode(w, v));
            } else {
                w.array(self.topics.as_deref().unwrap_or_default(), v >= 6, |w, x| x.encode(w, v));
            }
        }
        if v >= 8 {
            w.array(&self.groups, true, |w, x| x.encode(w, v));
        }
        if v >= 7 {
            w.bool(self.require_stable);
        }
        if v >= 6 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            group_id: if v <= 7 { samples::string(rng) } else { String::new() },
            topics: if v <= 7 {
                if v >= 2 {
                    samples::nullable(rng, |rng| {
                        samples::array(rng, |rng| TopicWanted::sample(rng, v))
                    })
                } else {
                    Some(samples::array(rng, |rng| TopicWanted::sample(rng, v)))
                }
            } else {
                None
            },
            groups: if v >= 8 {
                samples::array(rng, |rng| GroupWanted::sample(rng, v))
            } else {
                Vec::new()
            },
            require_stable: if v >= 7 { samples::number(rng) % 2 == 0 } else { false },
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    pub partition_index: i32,
    pub committed_offset: i64,
    pub committed_leader_epoch: i32,
    pub metadata: Option<String>,
    pub error_code: i16,
}

impl Default for Partition {
    fn default() -> Self {
        Self {
            partition_index: 0,
            committed_offset: 0,
            committed_leader_epoch: -1,
            metadata: None,
            error_code: 0,
        }
    }
}

impl Partition {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.i32(self.partition_index);
        w.i64(self.committed_offset);
        if v >= 5 {
            w.i32(self.committed_leader_epoch);
        }
        w.nullable_string(self.metadata.as_deref(), v >= 6);
        w.i16(self.error_code);
        if v >= 6 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Partition {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let partition_index = r.i32()?;
        let committed_offset = r.i64()?;
        let committed_leader_epoch = if v >= 5 { r.i32()? } else { -1 };
        let metadata = r.nullable_string(v >= 6)?;
        let error_code = r.i16()?;
        if v >= 6 {
            r.skip_tags()?;
        }
        Ok(Self { partition_index, committed_offset, committed_leader_epoch, metadata, error_code })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            partition_index: samples::number(rng) as i32,
            committed_offset: samples::number(rng),
            committed_leader_epoch: if v >= 5 { samples::number(rng) as i32 } else { -1 },
            metadata: samples::nullable(rng, |rng| samples::string(rng)),
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
        let partitions = r.array(v >= 6, 16, |r| Partition::decode(r, v))?;
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

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPartition {
    pub partition_index: i32,
    pub committed_offset: i64,
    pub committed_leader_epoch: i32,
    pub metadata: Option<String>,
    pub error_code: i16,
}

impl Default for GroupPartition {
    fn default() -> Self {
        Self {
            partition_index: 0,
            committed_offset: 0,
            committed_leader_epoch: -1,
            metadata: None,
            error_code: 0,
        }
    }
}

impl GroupPartition {
    pub fn encode(&self, w: &mut Writer<'_>, _v: i16) {
        w.i32(self.partition_index);
        w.i64(self.committed_offset);
        w.i32(self.committed_leader_epoch);
        w.nullable_string(self.metadata.as_deref(), true);
        w.i16(self.error_code);
        w.no_tags();
    }
}

#[cfg(test)]
impl GroupPartition {
    pub fn decode(r: &mut Reader<'_>, _v: i16) -> Result<Self, Malformed> {
        let partition_index = r.i32()?;
        let committed_offset = r.i64()?;
        let committed_leader_epoch = r.i32()?;
        let metadata = r.nullable_string(true)?;
        let error_code = r.i16()?;
        r.skip_tags()?;
        Ok(Self { partition_index, committed_offset, committed_leader_epoch, metadata, error_code })
    }

    pub fn sample(rng: &mut Rng, _v: i16) -> Self {
        Self {
            partition_index: samples::number(rng) as i32,
            committed_offset: samples::number(rng),
            committed_leader_epoch: samples::number(rng) as i32,
            metadata: samples::nullable(rng, |rng| samples::string(rng)),
            error_code: samples::number(rng) as i16,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct GroupTopic {
    pub name: String,
    pub topic_id: [u8; 16],
    pub partitions: Vec<GroupPartition>,
}

impl GroupTopic {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        if v <= 9 {
            w.string(&self.name, true);
        }
        if v >= 10 {
            w.uuid(&self.topic_id);
        }
        w.array(&self.partitions, true, |w, x| x.encode(w, v));
        w.no_tags();
    }
}

#[cfg(test)]
impl GroupTopic {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let name = if v <= 9 { r.string(true)? } else { String::new() };
        let topic_id = if v >= 10 { r.uuid()? } else { [0; 16] };
        let partitions = r.array(true, 20, |r| GroupPartition::decode(r, v))?;
        r.skip_tags()?;
        Ok(Self { name, topic_id, partitions })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            name: if v <= 9 { samples::string(rng) } else { String::new() },
            topic_id: if v >= 10 { samples::uuid(rng) } else { [0; 16] },
            partitions: samples::array(rng, |rng| GroupPartition::sample(rng, v)),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Group {
    pub group_id: String,
    pub topics: Vec<GroupTopic>,
    pub error_code: i16,
}

impl Group {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.string(&self.group_id, true);
        w.array(&self.topics, true, |w, x| x.encode(w, v));
        w.i16(self.error_code);
        w.no_tags();
    }
}

#[cfg(test)]
impl Group {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let group_id = r.string(true)?;
        let topics = r.array(true, 3, |r| GroupTopic::decode(r, v))?;
        let error_code = r.i16()?;
        r.skip_tags()?;
        Ok(Self { group_id, topics, error_code })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            group_id: samples::string(rng),
            topics: samples::array(rng, |rng| GroupTopic::sample(rng, v)),
            error_code: samples::number(rng) as i16,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Response {
    pub throttle_time_ms: i32,
    pub topics: Vec<Topic>,
    pub error_code: i16,
    pub groups: Vec<Group>,
}

impl Response {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        if v >= 3 {
            w.i32(self.throttle_time_ms);
        }
        if v <= 7 {
            w.array(&self.topics, v >= 6, |w, x| x.encode(w, v));
        }
        if (2..=7).contains(&v) {
            w.i16(self.error_code);
        }
        if v >= 8 {
            w.array(&self.groups, true, |w, x| x.encode(w, v));
        }
        if v >= 6 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Response {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let throttle_time_ms = if v >= 3 { r.i32()? } else { 0 };
        let topics = if v <= 7 { r.array(v >= 6, 3, |r| Topic::decode(r, v))? } else { Vec::new() };
        let error_code = if (2..=7).contains(&v) { r.i16()? } else { 0 };
        let groups = if v >= 8 { r.array(true, 5, |r| Group::decode(r, v))? } else { Vec::new() };
        if v >= 6 {
            r.skip_tags()?;
        }
        Ok(Self { throttle_time_ms, topics, error_code, groups })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            throttle_time_ms: if v >= 3 { samples::number(rng) as i32 } else { 0 },
            topics: if v <= 7 {
                samples::array(rng, |rng| Topic::sample(rng, v))
            } else {
                Vec::new()
            },
            error_code: if (2..=7).contains(&v) { samples::number(rng) as i16 } else { 0 },
            groups: if v >= 8 {
                samples::array(rng, |rng| Group::sample(rng, v))
            } else {
                Vec::new()
            },
        }
    }
}
