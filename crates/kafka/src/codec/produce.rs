//! Produce (key 0): appends record batches. The records stay slices of the received frame.
//!
//! Versions 0-2 are decoded and answered only so that they can be refused with an error code: their
//! message formats are not served, but librdkafka before 2.6 needs version 0 to be advertised.

use super::{Malformed, Reader, Writer};
use bytes::Bytes;

const FLEXIBLE_FROM: i16 = 9;

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Request<'a> {
    pub transactional_id: Option<&'a str>,
    /// 0 no answer, 1 leader, -1 as durable as the topic promises.
    pub acks: i16,
    pub timeout_ms: i32,
    pub topics: Vec<TopicData<'a>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TopicData<'a> {
    /// Empty from version 13 on.
    pub name: &'a str,
    /// Zero before version 13.
    pub topic_id: [u8; 16],
    pub partitions: Vec<PartitionData>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PartitionData {
    pub index: i32,
    pub records: Option<Bytes>,
}

impl<'a> Request<'a> {
    pub fn decode(r: &mut Reader<'a>, v: i16) -> Result<Self, Malformed> {
        let flexible = v >= FLEXIBLE_FROM;
        let (transactional_id, acks) = Self::decode_front(r, v)?;
        let timeout_ms = r.i32()?;
        let topics = r.array(flexible, 3, |r| {
            let name = if v <= 12 { r.str(flexible)? } else { "" };
            let topic_id = if v >= 13 { r.uuid()? } else { [0; 16] };
            let partitions = r.array(flexible, 5, |r| {
                let index = r.i32()?;
                let records = r.nullable_bytes(flexible)?;
                if flexible {
                    r.skip_tags()?;
                }
                Ok(PartitionData { index, records })
            })?;
            if flexible {
                r.skip_tags()?;
            }
            Ok(TopicData { name, topic_id, partitions })
        })?;
        if flexible {
            r.skip_tags()?;
        }
        Ok(Request { transactional_id, acks, timeout_ms, topics })
    }

    fn decode_front(r: &mut Reader<'a>, v: i16) -> Result<(Option<&'a str>, i16), Malformed> {
        let transactional_id = if v >= 3 { r.nullable_str(v >= FLEXIBLE_FROM)? } else { None };
        Ok((transactional_id, r.i16()?))
    }

    /// The wanted acknowledgements, of a request that need not be there in full.
    pub fn decode_acks(r: &mut Reader<'a>, v: i16) -> Result<i16, Malformed> {
        Ok(Self::decode_front(r, v)?.1)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Response {
    pub topics: Vec<TopicResponse>,
    pub throttle_time_ms: i32,
    /// Version 10+: where the leaders named in `current_leader` are.
    pub node_endpoints: Vec<NodeEndpoint>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TopicResponse {
    pub name: String,
    pub topic_id: [u8; 16],
    pub partitions: Vec<PartitionResponse>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionResponse {
    pub index: i32,
    pub error_code: i16,
    /// Of the first record; -1 with an error.
    pub base_offset: i64,
    /// -1 unless the topic stamps records on arrival.
    pub log_append_time_ms: i64,
    pub log_start_offset: i64,
    pub record_errors: Vec<RecordError>,
    pub error_message: Option<String>,
    pub current_leader: Option<LeaderIdAndEpoch>,
}

impl Default for PartitionResponse {
    fn default() -> Self {
        PartitionResponse {
            index: 0,
            error_code: 0,
            base_offset: -1,
            log_append_time_ms: -1,
            log_start_offset: -1,
            record_errors: Vec::new(),
            error_message: None,
            current_leader: None,
        }
    }
}

/// Why one record of a batch was refused (KIP-467).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RecordError {
    pub batch_index: i32,
    pub message: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderIdAndEpoch {
    pub leader_id: i32,
    pub leader_epoch: i32,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct NodeEndpoint {
    pub node_id: i32,
    pub host: String,
    pub port: i32,
    pub rack: Option<String>,
}

impl LeaderIdAndEpoch {
    pub(super) fn encode(self, w: &mut Writer<'_>) {
        w.i32(self.leader_id);
        w.i32(self.leader_epoch);
        w.no_tags();
    }
}

impl NodeEndpoint {
    pub(super) fn encode_all(endpoints: &[Self], w: &mut Writer<'_>) {
        w.array(endpoints, true, |w, endpoint| {
            w.i32(endpoint.node_id);
            w.string(&endpoint.host, true);
            w.i32(endpoint.port);
            w.nullable_string(endpoint.rack.as_deref(), true);
            w.no_tags();
        });
    }
}

impl Response {
    pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
        let flexible = v >= FLEXIBLE_FROM;
        w.array(&self.topics, flexible, |w, topic| {
            if v <= 12 {
                w.string(&topic.name, flexible);
            } else {
                w.uuid(&topic.topic_id);
            }
            w.array(&topic.partitions, flexible, |w, partition| partition.encode(w, v));
            if flexible {
                w.no_tags();
            }
        });
        if v >= 1 {
            w.i32(self.throttle_time_ms);
        }
        if v >= 10 && !self.node_endpoints.is_empty() {
            w.uvarint(1);
            w.tag(0, |w| NodeEndpoint::encode_all(&self.node_endpoints, w));
        } else if flexible {
            w.no_tags();
        }
    }
}

impl PartitionResponse {
    fn encode(&self, w: &mut Writer<'_>, v: i16) {
        let flexible = v >= FLEXIBLE_FROM;
        w.i32(self.index);
        w.i16(self.error_code);
        w.i64(self.base_offset);
        if v >= 2 {
            w.i64(self.log_append_time_ms);
        }
        if v >= 5 {
            w.i64(self.log_start_offset);
        }
        if v >= 8 {
            w.array(&self.record_errors, flexible, |w, error| {
                w.i32(error.batch_index);
                w.nullable_string(error.message.as_deref(), flexible);
                if flexible {
                    w.no_tags();
                }
            });
            w.nullable_string(self.error_message.as_deref(), flexible);
        }
        match self.current_leader {
            Some(leader) if v >= 10 => {
                w.uvarint(1);
                w.tag(0, |w| leader.encode(w));
            }
            _ if flexible => w.no_tags(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod opposite {
    use super::*;

    impl Request<'_> {
        pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
            let flexible = v >= FLEXIBLE_FROM;
            if v >= 3 {
                w.nullable_string(self.transactional_id, flexible);
            }
            w.i16(self.acks);
            w.i32(self.timeout_ms);
            w.array(&self.topics, flexible, |w, topic| {
                if v <= 12 {
                    w.string(topic.name, flexible);
                } else {
                    w.uuid(&topic.topic_id);
                }
                w.array(&topic.partitions, flexible, |w, partition| {
                    w.i32(partition.index);
                    let records = partition.records.as_deref();
                    w.bytes_length(records.map(<[u8]>::len), flexible);
                    for byte in records.unwrap_or_default() {
                        w.i8(*byte as i8);
                    }
                    if flexible {
                        w.no_tags();
                    }
                });
                if flexible {
                    w.no_tags();
                }
            });
            if flexible {
                w.no_tags();
            }
        }
    }

    impl LeaderIdAndEpoch {
        pub fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
            let leader = LeaderIdAndEpoch { leader_id: r.i32()?, leader_epoch: r.i32()? };
            r.skip_tags()?;
            Ok(leader)
        }
    }

    impl NodeEndpoint {
        pub fn decode_all(r: &mut Reader<'_>) -> Result<Vec<Self>, Malformed> {
            r.array(true, 11, |r| {
                let endpoint = NodeEndpoint {
                    node_id: r.i32()?,
                    host: r.string(true)?,
                    port: r.i32()?,
                    rack: r.nullable_string(true)?,
                };
                r.skip_tags()?;
                Ok(endpoint)
            })
        }
    }

    impl PartitionResponse {
        fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
            let flexible = v >= FLEXIBLE_FROM;
            let mut out = PartitionResponse {
                index: r.i32()?,
                error_code: r.i16()?,
                base_offset: r.i64()?,
                ..PartitionResponse::default()
            };
            if v >= 2 {
                out.log_append_time_ms = r.i64()?;
            }
            if v >= 5 {
                out.log_start_offset = r.i64()?;
            }
            if v >= 8 {
                out.record_errors = r.array(flexible, 5, |r| {
                    let batch_index = r.i32()?;
                    let message = r.nullable_string(flexible)?;
                    if flexible {
                        r.skip_tags()?;
                    }
                    Ok(RecordError { batch_index, message })
                })?;
                out.error_message = r.nullable_string(flexible)?;
            }
            if flexible {
                r.tags(|tag, r| {
                    if tag == 0 {
                        out.current_leader = Some(LeaderIdAndEpoch::decode(r)?);
                    }
                    Ok(tag == 0)
                })?;
            }
            Ok(out)
        }
    }

    impl Response {
        pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
            let flexible = v >= FLEXIBLE_FROM;
            let mut out = Response {
                topics: r.array(flexible, 6, |r| {
                    let topic = TopicResponse {
                        name: if v <= 12 { r.string(flexible)? } else { String::new() },
                        topic_id: if v >= 13 { r.uuid()? } else { [0; 16] },
                        partitions: r.array(flexible, 14, |r| PartitionResponse::decode(r, v))?,
                    };
                    if flexible {
                        r.skip_tags()?;
                    }
                    Ok(topic)
                })?,
                ..Response::default()
            };
            if v >= 1 {
                out.throttle_time_ms = r.i32()?;
            }
            if flexible {
                r.tags(|tag, r| {
                    if tag == 0 {
                        out.node_endpoints = NodeEndpoint::decode_all(r)?;
                    }
                    Ok(tag == 0)
                })?;
            }
            Ok(out)
        }
    }
}
