//! Made by `cargo xtask codegen` from `crates/kafka/schema`. Do not edit.
//!
//! Partitions of topics in pages (KIP-966).

#[cfg(test)]
use crate::codec::samples;
use crate::codec::{Malformed, Reader, Writer};
#[cfg(test)]
use koine_base::rng::Rng;

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TopicWanted {
    pub name: String,
}

impl TopicWanted {
    pub fn decode(r: &mut Reader<'_>, _v: i16) -> Result<Self, Malformed> {
        let name = r.string(true)?;
        r.skip_tags()?;
        Ok(Self { name })
    }
}

#[cfg(test)]
impl TopicWanted {
    pub fn encode(&self, w: &mut Writer<'_>, _v: i16) {
        w.string(&self.name, true);
        w.no_tags();
    }

    pub fn sample(rng: &mut Rng, _v: i16) -> Self {
        Self { name: samples::string(rng) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct StartAt {
    pub topic_name: String,
    pub partition_index: i32,
}

impl StartAt {
    pub fn decode(r: &mut Reader<'_>, _v: i16) -> Result<Self, Malformed> {
        let topic_name = r.string(true)?;
        let partition_index = r.i32()?;
        r.skip_tags()?;
        Ok(Self { topic_name, partition_index })
    }
}

#[cfg(test)]
impl StartAt {
    pub fn encode(&self, w: &mut Writer<'_>, _v: i16) {
        w.string(&self.topic_name, true);
        w.i32(self.partition_index);
        w.no_tags();
    }

    pub fn sample(rng: &mut Rng, _v: i16) -> Self {
        Self { topic_name: samples::string(rng), partition_index: samples::number(rng) as i32 }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub topics: Vec<TopicWanted>,
    pub response_partition_limit: i32,
    pub cursor: Option<StartAt>,
}

impl Default for Request {
    fn default() -> Self {
        Self { topics: Vec::new(), response_partition_limit: 2000, cursor: None }
    }
}

impl Request {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let topics = r.array(true, 2, |r| TopicWanted::decode(r, v))?;
        let response_partition_limit = r.i32()?;
        let cursor = r.nullable_struct(|r| StartAt::decode(r, v))?;
        r.skip_tags()?;
        Ok(Self { topics, response_partition_limit, cursor })
    }
}

#[cfg(test)]
impl Request {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.array(&self.topics, true, |w, x| x.encode(w, v));
        w.i32(self.response_partition_limit);
        w.nullable_struct(self.cursor.as_ref(), |w, x| x.encode(w, v));
        w.no_tags();
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            topics: samples::array(rng, |rng| TopicWanted::sample(rng, v)),
            response_partition_limit: samples::number(rng) as i32,
            cursor: samples::nullable(rng, |rng| StartAt::sample(rng, v)),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    pub error_code: i16,
    pub partition_index: i32,
    pub leader_id: i32,
    pub leader_epoch: i32,
    pub replica_nodes: Vec<i32>,
    pub isr_nodes: Vec<i32>,
    pub eligible_leader_replicas: Option<Vec<i32>>,
    pub last_known_elr: Option<Vec<i32>>,
    pub offline_replicas: Vec<i32>,
}

impl Default for Partition {
    fn default() -> Self {
        Self {
            error_code: 0,
            partition_index: 0,
            leader_id: 0,
            leader_epoch: -1,
            replica_nodes: Vec::new(),
            isr_nodes: Vec::new(),
            eligible_leader_replicas: None,
            last_known_elr: None,
            offline_replicas: Vec::new(),
        }
    }
}

impl Partition {
    pub fn encode(&self, w: &mut Writer<'_>, _v: i16) {
        w.i16(self.error_code);
        w.i32(self.partition_index);
        w.i32(self.leader_id);
        w.i32(self.leader_epoch);
        w.array(&self.replica_nodes, true, |w, x| w.i32(*x));
        w.array(&self.isr_nodes, true, |w, x| w.i32(*x));
        w.nullable_array(self.eligible_leader_replicas.as_deref(), true, |w, x| w.i32(*x));
        w.nullable_array(self.last_known_elr.as_deref(), true, |w, x| w.i32(*x));
        w.array(&self.offline_replicas, true, |w, x| w.i32(*x));
        w.no_tags();
    }
}

#[cfg(test)]
impl Partition {
    pub fn decode(r: &mut Reader<'_>, _v: i16) -> Result<Self, Malformed> {
        let error_code = r.i16()?;
        let partition_index = r.i32()?;
        let leader_id = r.i32()?;
        let leader_epoch = r.i32()?;
        let replica_nodes = r.array(true, 4, |r| r.i32())?;
        let isr_nodes = r.array(true, 4, |r| r.i32())?;
        let eligible_leader_replicas = r.nullable_array(true, 4, |r| r.i32())?;
        let last_known_elr = r.nullable_array(true, 4, |r| r.i32())?;
        let offline_replicas = r.array(true, 4, |r| r.i32())?;
        r.skip_tags()?;
        Ok(Self {
            error_code,
            partition_index,
            leader_id,
            leader_epoch,
            replica_nodes,
            isr_nodes,
            eligible_leader_replicas,
            last_known_elr,
            offline_replicas,
        })
    }

    pub fn sample(rng: &mut Rng, _v: i16) -> Self {
        Self {
            error_code: samples::number(rng) as i16,
            partition_index: samples::number(rng) as i32,
            leader_id: samples::number(rng) as i32,
            leader_epoch: samples::number(rng) as i32,
            replica_nodes: samples::array(rng, |rng| samples::number(rng) as i32),
            isr_nodes: samples::array(rng, |rng| samples::number(rng) as i32),
            eligible_leader_replicas: samples::nullable(rng, |rng| {
                samples::array(rng, |rng| samples::number(rng) as i32)
            }),
            last_known_elr: samples::nullable(rng, |rng| {
                samples::array(rng, |rng| samples::number(rng) as i32)
            }),
            offline_replicas: samples::array(rng, |rng| samples::number(rng) as i32),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pub error_code: i16,
    pub name: Option<String>,
    pub topic_id: [u8; 16],
    pub is_internal: bool,
    pub partitions: Vec<Partition>,
    pub topic_authorized_operations: i32,
}

impl Default for Topic {
    fn default() -> Self {
        Self {
            error_code: 0,
            name: None,
            topic_id: [0; 16],
            is_internal: false,
            partitions: Vec::new(),
            topic_authorized_operations: -2147483648,
        }
    }
}

impl Topic {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.i16(self.error_code);
        w.nullable_string(self.name.as_deref(), true);
        w.uuid(&self.topic_id);
        w.bool(self.is_internal);
        w.array(&self.partitions, true, |w, x| x.encode(w, v));
        w.i32(self.topic_authorized_operations);
        w.no_tags();
    }
}

#[cfg(test)]
impl Topic {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let error_code = r.i16()?;
        let name = r.nullable_string(true)?;
        let topic_id = r.uuid()?;
        let is_internal = r.bool()?;
        let partitions = r.array(true, 20, |r| Partition::decode(r, v))?;
        let topic_authorized_operations = r.i32()?;
        r.skip_tags()?;
        Ok(Self {
            error_code,
            name,
            topic_id,
            is_internal,
            partitions,
            topic_authorized_operations,
        })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            error_code: samples::number(rng) as i16,
            name: samples::nullable(rng, |rng| samples::string(rng)),
            topic_id: samples::uuid(rng),
            is_internal: samples::number(rng) % 2 == 0,
            partitions: samples::array(rng, |rng| Partition::sample(rng, v)),
            topic_authorized_operations: samples::number(rng) as i32,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Cursor {
    pub topic_name: String,
    pub partition_index: i32,
}

impl Cursor {
    pub fn encode(&self, w: &mut Writer<'_>, _v: i16) {
        w.string(&self.topic_name, true);
        w.i32(self.partition_index);
        w.no_tags();
    }
}

#[cfg(test)]
impl Cursor {
    pub fn decode(r: &mut Reader<'_>, _v: i16) -> Result<Self, Malformed> {
        let topic_name = r.string(true)?;
        let partition_index = r.i32()?;
        r.skip_tags()?;
        Ok(Self { topic_name, partition_index })
    }

    pub fn sample(rng: &mut Rng, _v: i16) -> Self {
        Self { topic_name: samples::string(rng), partition_index: samples::number(rng) as i32 }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Response {
    pub throttle_time_ms: i32,
    pub topics: Vec<Topic>,
    pub next_cursor: Option<Cursor>,
}

impl Response {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.i32(self.throttle_time_ms);
        w.array(&self.topics, true, |w, x| x.encode(w, v));
        w.nullable_struct(self.next_cursor.as_ref(), |w, x| x.encode(w, v));
        w.no_tags();
    }
}

#[cfg(test)]
impl Response {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let throttle_time_ms = r.i32()?;
        let topics = r.array(true, 26, |r| Topic::decode(r, v))?;
        let next_cursor = r.nullable_struct(|r| Cursor::decode(r, v))?;
        r.skip_tags()?;
        Ok(Self { throttle_time_ms, topics, next_cursor })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            throttle_time_ms: samples::number(rng) as i32,
            topics: samples::array(rng, |rng| Topic::sample(rng, v)),
            next_cursor: samples::nullable(rng, |rng| Cursor::sample(rng, v)),
        }
    }
}
