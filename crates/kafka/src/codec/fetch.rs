//! Fetch (key 1): reads record batches. The batches of a response go into the output rope as they
//! are; the frame length is computed from their sizes.

use super::header;
pub use super::produce::{LeaderIdAndEpoch, NodeEndpoint};
use super::{ApiKey, Malformed, Reader, Writer};
use bytes::{BufMut, Bytes, BytesMut};
use koine_base::Rope;

const FLEXIBLE_FROM: i16 = 12;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    pub cluster_id: Option<&'a str>,
    /// Negative for consumers.
    pub replica_id: i32,
    pub max_wait_ms: i32,
    pub min_bytes: i32,
    pub max_bytes: i32,
    /// 0 read uncommitted, 1 read committed.
    pub isolation_level: i8,
    pub session_id: i32,
    /// -1 no session, 0 a new one, otherwise the next request of `session_id` (KIP-227).
    pub session_epoch: i32,
    pub topics: Vec<TopicWanted<'a>>,
    pub forgotten: Vec<Forgotten<'a>>,
    pub rack_id: &'a str,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TopicWanted<'a> {
    /// Empty from version 13 on.
    pub topic: &'a str,
    /// Zero before version 13.
    pub topic_id: [u8; 16],
    pub partitions: Vec<PartitionWanted>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionWanted {
    pub partition: i32,
    pub current_leader_epoch: i32,
    pub fetch_offset: i64,
    pub last_fetched_epoch: i32,
    pub log_start_offset: i64,
    pub partition_max_bytes: i32,
}

/// Partitions that leave the fetch session.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Forgotten<'a> {
    pub topic: &'a str,
    pub topic_id: [u8; 16],
    pub partitions: Vec<i32>,
}

impl<'a> Request<'a> {
    pub fn decode(r: &mut Reader<'a>, v: i16) -> Result<Self, Malformed> {
        let flexible = v >= FLEXIBLE_FROM;
        let mut replica_id = if v <= 14 { r.i32()? } else { -1 };
        let max_wait_ms = r.i32()?;
        let min_bytes = r.i32()?;
        let max_bytes = r.i32()?;
        let isolation_level = r.i8()?;
        let session_id = if v >= 7 { r.i32()? } else { 0 };
        let session_epoch = if v >= 7 { r.i32()? } else { -1 };
        let topics = r.array(flexible, 3, |r| TopicWanted::decode(r, v))?;
        let forgotten =
            if v >= 7 { r.array(flexible, 3, |r| Forgotten::decode(r, v))? } else { Vec::new() };
        let rack_id = if v >= 11 { r.str(flexible)? } else { "" };
        let mut cluster_id = None;
        if flexible {
            r.tags(|tag, r| {
                match tag {
                    0 => cluster_id = r.nullable_str(true)?,
                    1 if v >= 15 => {
                        replica_id = r.i32()?;
                        // The replica's own epoch: there are no replicas that fetch.
                        r.i64()?;
                        r.skip_tags()?;
                    }
                    _ => return Ok(false),
                }
                Ok(true)
            })?;
        }
        Ok(Request {
            cluster_id,
            replica_id,
            max_wait_ms,
            min_bytes,
            max_bytes,
            isolation_level,
            session_id,
            session_epoch,
            topics,
            forgotten,
            rack_id,
        })
    }
}

impl<'a> TopicWanted<'a> {
    fn decode(r: &mut Reader<'a>, v: i16) -> Result<Self, Malformed> {
        let flexible = v >= FLEXIBLE_FROM;
        let topic = if v <= 12 { r.str(flexible)? } else { "" };
        let topic_id = if v >= 13 { r.uuid()? } else { [0; 16] };
        let partitions = r.array(flexible, 16, |r| {
            let wanted = PartitionWanted {
                partition: r.i32()?,
                current_leader_epoch: if v >= 9 { r.i32()? } else { -1 },
                fetch_offset: r.i64()?,
                last_fetched_epoch: if v >= 12 { r.i32()? } else { -1 },
                log_start_offset: if v >= 5 { r.i64()? } else { -1 },
                partition_max_bytes: r.i32()?,
            };
            if flexible {
                r.skip_tags()?;
            }
            Ok(wanted)
        })?;
        if flexible {
            r.skip_tags()?;
        }
        Ok(TopicWanted { topic, topic_id, partitions })
    }
}

impl<'a> Forgotten<'a> {
    fn decode(r: &mut Reader<'a>, v: i16) -> Result<Self, Malformed> {
        let flexible = v >= FLEXIBLE_FROM;
        let topic = if v <= 12 { r.str(flexible)? } else { "" };
        let topic_id = if v >= 13 { r.uuid()? } else { [0; 16] };
        let partitions = r.array(flexible, 4, |r| r.i32())?;
        if flexible {
            r.skip_tags()?;
        }
        Ok(Forgotten { topic, topic_id, partitions })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Response {
    pub throttle_time_ms: i32,
    pub error_code: i16,
    /// 0 says that there is no session.
    pub session_id: i32,
    pub topics: Vec<Topic>,
    /// Version 16+.
    pub node_endpoints: Vec<NodeEndpoint>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Topic {
    pub topic: String,
    pub topic_id: [u8; 16],
    pub partitions: Vec<Partition>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    pub partition_index: i32,
    pub error_code: i16,
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    pub log_start_offset: i64,
    /// Set if the log of the reader went another way: the epoch and where it ended here.
    pub diverging_epoch: Option<EpochEndOffset>,
    pub current_leader: Option<LeaderIdAndEpoch>,
    /// Null for read uncommitted.
    pub aborted_transactions: Option<Vec<AbortedTransaction>>,
    pub preferred_read_replica: i32,
    /// Whole batches, in order.
    pub records: Vec<Bytes>,
}

impl Default for Partition {
    fn default() -> Self {
        Partition {
            partition_index: 0,
            error_code: 0,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging_epoch: None,
            current_leader: None,
            aborted_transactions: None,
            preferred_read_replica: -1,
            records: Vec::new(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEndOffset {
    pub epoch: i32,
    pub end_offset: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    pub producer_id: i64,
    pub first_offset: i64,
}

/// Places in the encoded fields where batches belong.
type Splices<'a> = Vec<(usize, &'a Bytes)>;

impl Response {
    /// Appends a whole frame, length and header included.
    pub fn encode_frame(&self, out: &mut Rope, v: i16, correlation_id: i32) {
        let mut fields = BytesMut::new();
        header::encode_response(&mut Writer::new(&mut fields), ApiKey::Fetch, v, correlation_id);
        let mut splices = Vec::new();
        self.encode(&mut fields, v, &mut splices);
        let records_bytes: usize = splices.iter().map(|(_, batch)| batch.len()).sum();
        let length = fields.len() + records_bytes;
        out.tail().put_u32(u32::try_from(length).expect("a reply is cut at max_bytes"));
        let mut position = 0;
        for (at, batch) in splices {
            out.put(&fields[position..at]);
            out.push(batch.clone());
            position = at;
        }
        out.put(&fields[position..]);
    }

    fn encode<'a>(&'a self, fields: &mut BytesMut, v: i16, splices: &mut Splices<'a>) {
        let flexible = v >= FLEXIBLE_FROM;
        let mut writer = Writer::new(fields);
        let w = &mut writer;
        w.i32(self.throttle_time_ms);
        if v >= 7 {
            w.i16(self.error_code);
            w.i32(self.session_id);
        }
        w.bytes_length(Some(self.topics.len()), flexible);
        for topic in &self.topics {
            if v <= 12 {
                w.string(&topic.topic, flexible);
            } else {
                w.uuid(&topic.topic_id);
            }
            w.bytes_length(Some(topic.partitions.len()), flexible);
            for partition in &topic.partitions {
                partition.encode(w, v, splices);
            }
            if flexible {
                w.no_tags();
            }
        }
        if v >= 16 && !self.node_endpoints.is_empty() {
            w.uvarint(1);
            w.tag(0, |w| NodeEndpoint::encode_all(&self.node_endpoints, w));
        } else if flexible {
            w.no_tags();
        }
    }
}

impl Partition {
    pub fn records_bytes(&self) -> usize {
        self.records.iter().map(Bytes::len).sum()
    }

    fn encode<'a>(&'a self, w: &mut Writer<'_>, v: i16, splices: &mut Splices<'a>) {
        let flexible = v >= FLEXIBLE_FROM;
        w.i32(self.partition_index);
        w.i16(self.error_code);
        w.i64(self.high_watermark);
        w.i64(self.last_stable_offset);
        if v >= 5 {
            w.i64(self.log_start_offset);
        }
        w.nullable_array(self.aborted_transactions.as_deref(), flexible, |w, aborted| {
            w.i64(aborted.producer_id);
            w.i64(aborted.first_offset);
            if flexible {
                w.no_tags();
            }
        });
        if v >= 11 {
            w.i32(self.preferred_read_replica);
        }
        w.bytes_length(Some(self.records_bytes()), flexible);
        splices.extend(self.records.iter().map(|batch| (w.position(), batch)));
        if flexible {
            let count =
                self.diverging_epoch.is_some() as u32 + self.current_leader.is_some() as u32;
            w.uvarint(count);
            if let Some(diverging) = self.diverging_epoch {
                w.tag(0, |w| {
                    w.i32(diverging.epoch);
                    w.i64(diverging.end_offset);
                    w.no_tags();
                });
            }
            if let Some(leader) = self.current_leader {
                w.tag(1, |w| leader.encode(w));
            }
        }
    }
}

#[cfg(test)]
mod opposite {
    use super::*;

    impl Request<'_> {
        pub fn encode(&self, w: &mut Writer<'_>, v: i16) {
            let flexible = v >= FLEXIBLE_FROM;
            let end = |w: &mut Writer<'_>| {
                if flexible {
                    w.no_tags();
                }
            };
            let topic = |w: &mut Writer<'_>, name: &str, id: &[u8; 16]| match v {
                ..=12 => w.string(name, flexible),
                _ => w.uuid(id),
            };
            if v <= 14 {
                w.i32(self.replica_id);
            }
            w.i32(self.max_wait_ms);
            w.i32(self.min_bytes);
            w.i32(self.max_bytes);
            w.i8(self.isolation_level);
            if v >= 7 {
                w.i32(self.session_id);
                w.i32(self.session_epoch);
            }
            w.array(&self.topics, flexible, |w, wanted| {
                topic(w, wanted.topic, &wanted.topic_id);
                w.array(&wanted.partitions, flexible, |w, wanted| {
                    w.i32(wanted.partition);
                    if v >= 9 {
                        w.i32(wanted.current_leader_epoch);
                    }
                    w.i64(wanted.fetch_offset);
                    if v >= 12 {
                        w.i32(wanted.last_fetched_epoch);
                    }
                    if v >= 5 {
                        w.i64(wanted.log_start_offset);
                    }
                    w.i32(wanted.partition_max_bytes);
                    end(w);
                });
                end(w);
            });
            if v >= 7 {
                w.array(&self.forgotten, flexible, |w, forgotten| {
                    topic(w, forgotten.topic, &forgotten.topic_id);
                    w.array(&forgotten.partitions, flexible, |w, partition| w.i32(*partition));
                    end(w);
                });
            }
            if v >= 11 {
                w.string(self.rack_id, flexible);
            }
            end(w);
        }
    }

    impl Response {
        /// All records of a partition come back as one piece.
        pub fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
            let flexible = v >= FLEXIBLE_FROM;
            let throttle_time_ms = r.i32()?;
            let error_code = if v >= 7 { r.i16()? } else { 0 };
            let session_id = if v >= 7 { r.i32()? } else { 0 };
            let topics = r.array(flexible, 6, |r| {
                let topic = if v <= 12 { r.string(flexible)? } else { String::new() };
                let topic_id = if v >= 13 { r.uuid()? } else { [0; 16] };
                let partitions = r.array(flexible, 20, |r| Partition::decode(r, v))?;
                if flexible {
                    r.skip_tags()?;
                }
                Ok(Topic { topic, topic_id, partitions })
            })?;
            let mut node_endpoints = Vec::new();
            if flexible {
                r.tags(|tag, r| {
                    if tag == 0 {
                        node_endpoints = NodeEndpoint::decode_all(r)?;
                    }
                    Ok(tag == 0)
                })?;
            }
            Ok(Response { throttle_time_ms, error_code, session_id, topics, node_endpoints })
        }
    }

    impl Partition {
        fn decode(r: &mut Reader<'_>, v: i16) -> Result<Self, Malformed> {
            let flexible = v >= FLEXIBLE_FROM;
            let mut out = Partition {
                partition_index: r.i32()?,
                error_code: r.i16()?,
                high_watermark: r.i64()?,
                last_stable_offset: r.i64()?,
                log_start_offset: if v >= 5 { r.i64()? } else { -1 },
                ..Partition::default()
            };
            out.aborted_transactions = r.nullable_array(flexible, 16, |r| {
                let aborted = AbortedTransaction { producer_id: r.i64()?, first_offset: r.i64()? };
                if flexible {
                    r.skip_tags()?;
                }
                Ok(aborted)
            })?;
            if v >= 11 {
                out.preferred_read_replica = r.i32()?;
            }
            out.records.extend(r.nullable_bytes(flexible)?.filter(|records| !records.is_empty()));
            if flexible {
                r.tags(|tag, r| {
                    match tag {
                        0 => {
                            let diverging =
                                EpochEndOffset { epoch: r.i32()?, end_offset: r.i64()? };
                            r.skip_tags()?;
                            out.diverging_epoch = Some(diverging);
                        }
                        1 => out.current_leader = Some(LeaderIdAndEpoch::decode(r)?),
                        _ => return Ok(false),
                    }
                    Ok(true)
                })?;
            }
            Ok(out)
        }
    }
}
