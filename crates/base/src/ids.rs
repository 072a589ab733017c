//! Identifiers that cross crate borders. All are plain numbers: names live only in metadata.

use std::fmt;

/// One core's event loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

/// One node of a cluster, from 1. Never given to another node: one that lost its disk comes back under a
/// new number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}", self.0)
    }
}

/// One replicated log that carries many streams. Group 0 holds metadata, the others data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId(pub u16);

impl GroupId {
    /// The metadata group.
    pub const METADATA: GroupId = GroupId(0);
}

/// One append-only sequence of batches. The owning group is part of the number, so finding the
/// group of a stream costs no look-up: 16 bits of group, 48 bits of sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(u64);

impl StreamId {
    /// The largest sequence number a group can hand out.
    pub const SEQUENCE_MAX: u64 = (1 << 48) - 1;

    /// Panics if `sequence` is over [`Self::SEQUENCE_MAX`]: 2^48 streams of one group.
    pub fn new(group: GroupId, sequence: u64) -> Self {
        assert!(sequence <= Self::SEQUENCE_MAX, "stream sequence out of range");
        StreamId(u64::from(group.0) << 48 | sequence)
    }

    pub fn from_raw(raw: u64) -> Self {
        StreamId(raw)
    }

    pub fn raw(self) -> u64 {
        self.0
    }

    pub fn group(self) -> GroupId {
        GroupId((self.0 >> 48) as u16)
    }

    pub fn sequence(self) -> u64 {
        self.0 & Self::SEQUENCE_MAX
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.group().0, self.sequence())
    }
}

/// One client connection. The shard that serves it is part of the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u64);

impl ConnectionId {
    pub fn new(shard: ShardId, sequence: u64) -> Self {
        ConnectionId(u64::from(shard.0) << 48 | (sequence & StreamId::SEQUENCE_MAX))
    }

    pub fn shard(self) -> ShardId {
        ShardId((self.0 >> 48) as u16)
    }

    pub fn raw(self) -> u64 {
        self.0
    }

    pub fn from_raw(raw: u64) -> Self {
        ConnectionId(raw)
    }
}

/// The UUID that Kafka clients know a topic by. Never all zero: clients take zero as "no id".
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicId(pub [u8; 16]);

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_id_carries_its_group() {
        let id = StreamId::new(GroupId(7), 42);
        assert_eq!(id.group(), GroupId(7));
        assert_eq!(id.sequence(), 42);
        assert_eq!(StreamId::from_raw(id.raw()), id);
        assert_eq!(id.to_string(), "7-42");
    }

    #[test]
    fn connection_id_carries_its_shard() {
        let id = ConnectionId::new(ShardId(3), 9);
        assert_eq!(id.shard(), ShardId(3));
        assert_eq!(ConnectionId::from_raw(id.raw()), id);
    }
}
