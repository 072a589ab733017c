//! Made by `cargo xtask codegen` from `crates/kafka/schema`. Do not edit.
//!
//! Brokers, topics and partition leaders; creates missing topics if asked to.

#[cfg(test)]
use crate::codec::samples;
use crate::codec::{Malformed, Reader, Writer};
#[cfg(test)]
use koine_base::rng::Rng;

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TopicWanted {
    pub topic_id: [u8; 16],
    pub name: Option<String>,
}

impl TopicWanted {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let topic_id = if v >= 10 { r.uuid()? } else { [0; 16] };
        let name = if v >= 10 { r.nullable_string(v >= 9)? } else { Some(r.string(v >= 9)?) };
        if v >= 9 {
            r.skip_tags()?;
        }
        Ok(Self { topic_id, name })
    }
}

#[cfg(test)]
impl TopicWanted {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        if v >= 10 {
            w.uuid(&self.topic_id);
        }
        if v >= 10 {
            w.nullable_string(self.name.as_deref(), v >= 9);
        } else {
            w.string(self.name.as_deref().unwrap_or_default(), v >= 9);
        }
        if v >= 9 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            topic_id: if v >= 10 { samples::uuid(rng) } else { [0; 16] },
            name: if v >= 10 {
                samples::nullable(rng, |rng| samples::string(rng))
            } else {
                Some(samples::string(rng))
            },
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Null means all topics; in version 0 empty means all.
    pub topics: Option<Vec<TopicWanted>>,
    pub allow_auto_topic_creation: bool,
    pub include_cluster_authorized_operations: bool,
    pub include_topic_authorized_operations: bool,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            topics: None,
            allow_auto_topic_creation: true,
            include_cluster_authorized_operations: false,
            include_topic_authorized_operations: false,
        }
    }
}

impl Request {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let topics = if v >= 1 {
            r.nullable_array(v >= 9, 2, |r| TopicWanted::decode(r, v))?
        } else {
            Some(r.array(v >= 9, 2, |r| TopicWanted::decode(r, v))?)
        };
        let allow_auto_topic_creation = if v >= 4 { r.bool()? } else { true };
        let include_cluster_authorized_operations =
            if (8..=10).contains(&v) { r.bool()? } else { false };
        let include_topic_authorized_operations = if v >= 8 { r.bool()? } else { false };
        if v >= 9 {
            r.skip_tags()?;
        }
        Ok(Self {
            topics,
            allow_auto_topic_creation,
            include_cluster_authorized_operations,
            include_topic_authorized_operations,
        })
    }
}

#[cfg(test)]
impl Request {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        if v >= 1 {
            w.nullable_array(self.topics.as_deref(), v >= 9, |w, x| x.encode(w, v));
        } else {
            w.array(self.topics.as_deref().unwrap_or_default(), v >= 9, |w, x| x.encode(w, v));
        }
        if v >= 4 {
            w.bool(self.allow_auto_topic_creation);
        }
        if (8..=10).contains(&v) {
            w.bool(self.include_cluster_authorized_operations);
        }
        if v >= 8 {
            w.bool(self.include_topic_authorized_operations);
        }
        if v >= 9 {
            w.no_tags();
        }
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            topics: if v >= 1 {
                samples::nullable(rng, |rng| samples::array(rng, |rng| TopicWanted::sample(rng, v)))
            } else {
                Some(samples::array(rng, |rng| TopicWanted::sample(rng, v)))
            },
            allow_auto_topic_creation: if v >= 4 { samples::number(rng) % 2 == 0 } else { true },
            include_cluster_authorized_operations: if (8..=10).contains(&v) {
                samples::number(rng) % 2 == 0
            } else {
                false
            },
            include_topic_authorized_operations: if v >= 8 {
                samples::number(rng) % 2 == 0
            } else {
                false
            },
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Broker {
    pub node_id: i32,
    pub host: String,
    pub port: i32,
    pub rack: Option<String>,
}

impl Broker {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.i32(self.node_id);
        w.string(&self.host, v >= 9);
        w.i32(self.port);
        if v >= 1 {
            w.nullable_string(self.rack.as_deref(), v >= 9);
        }
        if v >= 9 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Broker {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let node_id = r.i32()?;
        let host = r.string(v >= 9)?;
        let port = r.i32()?;
        let rack = if v >= 1 { r.nullable_string(v >= 9)? } else { None };
        if v >= 9 {
            r.skip_tags()?;
        }
        Ok(Self { node_id, host, port, rack })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            node_id: samples::number(rng) as i32,
            host: samples::string(rng),
            port: samples::number(rng) as i32,
            rack: if v >= 1 { samples::nullable(rng, |rng| samples::string(rng)) } else { None },
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
            offline_replicas: Vec::new(),
        }
    }
}

impl Partition {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        w.i16(self.error_code);
        w.i32(self.partition_index);
        w.i32(self.leader_id);
        if v >= 7 {
            w.i32(self.leader_epoch);
        }
        w.array(&self.replica_nodes, v >= 9, |w, x| w.i32(*x));
        w.array(&self.isr_nodes, v >= 9, |w, x| w.i32(*x));
        if v >= 5 {
            w.array(&self.offline_replicas, v >= 9, |w, x| w.i32(*x));
        }
        if v >= 9 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Partition {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let error_code = r.i16()?;
        let partition_index = r.i32()?;
        let leader_id = r.i32()?;
        let leader_epoch = if v >= 7 { r.i32()? } else { -1 };
        let replica_nodes = r.array(v >= 9, 4, |r| r.i32())?;
        let isr_nodes = r.array(v >= 9, 4, |r| r.i32())?;
        let offline_replicas = if v >= 5 { r.array(v >= 9, 4, |r| r.i32())? } else { Vec::new() };
        if v >= 9 {
            r.skip_tags()?;
        }
        Ok(Self {
            error_code,
            partition_index,
            leader_id,
            leader_epoch,
            replica_nodes,
            isr_nodes,
            offline_replicas,
        })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            error_code: samples::number(rng) as i16,
            partition_index: samples::number(rng) as i32,
            leader_id: samples::number(rng) as i32,
            leader_epoch: if v >= 7 { samples::number(rng) as i32 } else { -1 },
            replica_nodes: samples::array(rng, |rng| samples::number(rng) as i32),
            isr_nodes: samples::array(rng, |rng| samples::number(rng) as i32),
            offline_replicas: if v >= 5 {
                samples::array(rng, |rng| samples::number(rng) as i32)
            } else {
                Vec::new()
            },
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
    /// Bit set; the default says "not asked for".
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
        if v >= 12 {
            w.nullable_string(self.name.as_deref(), v >= 9);
        } else {
            w.string(self.name.as_deref().unwrap_or_default(), v >= 9);
        }
        if v >= 10 {
            w.uuid(&self.topic_id);
        }
        if v >= 1 {
            w.bool(self.is_internal);
        }
        w.array(&self.partitions, v >= 9, |w, x| x.encode(w, v));
        if v >= 8 {
            w.i32(self.topic_authorized_operations);
        }
        if v >= 9 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Topic {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let error_code = r.i16()?;
        let name = if v >= 12 { r.nullable_string(v >= 9)? } else { Some(r.string(v >= 9)?) };
        let topic_id = if v >= 10 { r.uuid()? } else { [0; 16] };
        let is_internal = if v >= 1 { r.bool()? } else { false };
        let partitions = r.array(v >= 9, 18, |r| Partition::decode(r, v))?;
        let topic_authorized_operations = if v >= 8 { r.i32()? } else { -2147483648 };
        if v >= 9 {
            r.skip_tags()?;
        }
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
            name: if v >= 12 {
                samples::nullable(rng, |rng| samples::string(rng))
            } else {
                Some(samples::string(rng))
            },
            topic_id: if v >= 10 { samples::uuid(rng) } else { [0; 16] },
            is_internal: if v >= 1 { samples::number(rng) % 2 == 0 } else { false },
            partitions: samples::array(rng, |rng| Partition::sample(rng, v)),
            topic_authorized_operations: if v >= 8 {
                samples::number(rng) as i32
            } else {
                -2147483648
            },
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub throttle_time_ms: i32,
    pub brokers: Vec<Broker>,
    pub cluster_id: Option<String>,
    pub controller_id: i32,
    pub topics: Vec<Topic>,
    pub cluster_authorized_operations: i32,
    pub error_code: i16,
}

impl Default for Response {
    fn default() -> Self {
        Self {
            throttle_time_ms: 0,
            brokers: Vec::new(),
            cluster_id: None,
            controller_id: -1,
            topics: Vec::new(),
            cluster_authorized_operations: -2147483648,
            error_code: 0,
        }
    }
}

impl Response {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        if v >= 3 {
            w.i32(self.throttle_time_ms);
        }
        w.array(&self.brokers, v >= 9, |w, x| x.encode(w, v));
        if v >= 2 {
            w.nullable_string(self.cluster_id.as_deref(), v >= 9);
        }
        if v >= 1 {
            w.i32(self.controller_id);
        }
        w.array(&self.topics, v >= 9, |w, x| x.encode(w, v));
        if (8..=10).contains(&v) {
            w.i32(self.cluster_authorized_operations);
        }
        if v >= 13 {
            w.i16(self.error_code);
        }
        if v >= 9 {
            w.no_tags();
        }
    }
}

#[cfg(test)]
impl Response {
    pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
        let throttle_time_ms = if v >= 3 { r.i32()? } else { 0 };
        let brokers = r.array(v >= 9, 10, |r| Broker::decode(r, v))?;
        let cluster_id = if v >= 2 { r.nullable_string(v >= 9)? } else { None };
        let controller_id = if v >= 1 { r.i32()? } else { -1 };
        let topics = r.array(v >= 9, 8, |r| Topic::decode(r, v))?;
        let cluster_authorized_operations =
            if (8..=10).contains(&v) { r.i32()? } else { -2147483648 };
        let error_code = if v >= 13 { r.i16()? } else { 0 };
        if v >= 9 {
            r.skip_tags()?;
        }
        Ok(Self {
            throttle_time_ms,
            brokers,
            cluster_id,
            controller_id,
            topics,
            cluster_authorized_operations,
            error_code,
        })
    }

    pub fn sample(rng: &mut Rng, v: i16) -> Self {
        Self {
            throttle_time_ms: if v >= 3 { samples::number(rng) as i32 } else { 0 },
            brokers: samples::array(rng, |rng| Broker::sample(rng, v)),
            cluster_id: if v >= 2 {
                samples::nullable(rng, |rng| samples::string(rng))
            } else {
                None
            },
            controller_id: if v >= 1 { samples::number(rng) as i32 } else { -1 },
            topics: samples::array(rng, |rng| Topic::sample(rng, v)),
            cluster_authorized_operations: if (8..=10).contains(&v) {
                samples::number(rng) as i32
            } else {
                -2147483648
            },
            error_code: if v >= 13 { samples::number(rng) as i16 } else { 0 },
        }
    }
}
