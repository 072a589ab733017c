//! What consumer groups have committed: one group's offsets per partition, apart from who is in the
//! group. Changed only by committed log entries, alike on every replica; no clock.

use crate::snapshot::{
    put_bytes, put_number, put_signed, take_count, take_format, take_signed, take_signed_as,
    take_text, SnapshotError,
};
use koine_base::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Bound;

const FORMAT: u8 = 1;

/// Longest note a client may leave with an offset, in bytes (Kafka's
/// `offset.metadata.max.bytes`).
pub const METADATA_BYTES_MAX: usize = 4096;

/// How far a group has consumed one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedOffset {
    /// The next offset to read.
    pub offset: i64,
    /// -1 if not given.
    pub leader_epoch: i32,
    /// The client's own note.
    pub metadata: String,
    /// Milliseconds since 1970.
    pub commit_timestamp: i64,
}

/// Why an offset is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetRefused {
    /// Above [`METADATA_BYTES_MAX`].
    MetadataTooLarge,
    /// The group would have offsets for more partitions than it may.
    TooManyPartitions,
}

/// The offsets of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    /// By topic (name or id in text form), then partition.
    topics: BTreeMap<String, BTreeMap<i32, CommittedOffset>>,
    partition_count: usize,
}

impl Offsets {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn is_empty(&self) -> bool {
        self.partition_count == 0
    }

    /// Partitions with an offset.
    pub fn partition_count(&self) -> usize {
        self.partition_count
    }

    /// On the leader, before a commit is proposed: all of it or nothing. `partitions_max` bounds the
    /// partitions of one group.
    pub fn check<'a>(
        &self,
        commit: impl IntoIterator<Item = (&'a str, i32, &'a CommittedOffset)>,
        partitions_max: usize,
    ) -> Result<(), OffsetRefused> {
        let mut count = self.partition_count;
        for (topic, partition, committed) in commit {
            if committed.metadata.len() > METADATA_BYTES_MAX {
                return Err(OffsetRefused::MetadataTooLarge);
            }
            count += usize::from(self.fetch(topic, partition).is_none());
        }
        // One that names no new partition is taken, whatever the bound was before.
        if count > partitions_max && count > self.partition_count {
            return Err(OffsetRefused::TooManyPartitions);
        }
        Ok(())
    }

    /// A commit. It may go backwards: clients reset offsets this way.
    pub fn apply(&mut self, topic: &str, partition: i32, committed: CommittedOffset) {
        // Not the entry API: the topic is known nearly always, and its name need not be copied then.
        if !self.topics.contains_key(topic) {
            self.topics.insert(topic.to_owned(), BTreeMap::new());
        }
        if let Some(partitions) = self.topics.get_mut(topic) {
            if partitions.insert(partition, committed).is_none() {
                self.partition_count += 1;
            }
        }
    }

    pub fn fetch(&self, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.topics.get(topic)?.get(&partition)
    }

    /// All of the group, by topic and partition.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i32, &CommittedOffset)> {
        self.topics.iter().flat_map(|(topic, partitions)| {
            partitions
                .iter()
                .map(move |(&partition, committed)| (topic.as_str(), partition, committed))
        })
    }

    pub fn has_topic(&self, topic: &str) -> bool {
        self.topics.contains_key(topic)
    }

    /// Returns whether there was one.
    pub fn delete(&mut self, topic: &str, partition: i32) -> bool {
        let Some(partitions) = self.topics.get_mut(topic) else {
            return false;
        };
        let found = partitions.remove(&partition).is_some();
        if partitions.is_empty() {
            self.topics.remove(topic);
        }
        self.partition_count -= usize::from(found);
        found
    }

    /// The topic is gone, and the group's offsets of it. Returns how many.
    pub fn delete_topic(&mut self, topic: &str) -> usize {
        let count = self.topics.remove(topic).map_or(0, |partitions| partitions.len());
        self.partition_count -= count;
        count
    }

    /// Partitions whose offset may be forgotten: committed before `before`, and `is_subscribed` says
    /// that nobody in the group reads the topic. The caller deletes them through the log. At most
    /// `count_max` are named, from after `from` on, so that a large group is gone through in steps.
    pub fn expired(
        &self,
        before: Timestamp,
        is_subscribed: impl Fn(&str) -> bool,
        from: Option<(&str, i32)>,
        count_max: usize,
    ) -> Vec<(String, i32)> {
        let first_topic = from.map_or(Bound::Unbounded, |(topic, _)| Bound::Included(topic));
        let mut expired = Vec::new();
        for (topic, partitions) in self.topics.range::<str, _>((first_topic, Bound::Unbounded)) {
            if is_subscribed(topic) {
                continue;
            }
            for (&partition, committed) in partitions {
                let is_done = from.is_some_and(|from| (topic.as_str(), partition) <= from);
                if is_done || committed.commit_timestamp >= before.0 {
                    continue;
                }
                if expired.len() == count_max {
                    return expired;
                }
                expired.push((topic.clone(), partition));
            }
        }
        expired
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(FORMAT);
        put_number(out, self.topics.len() as u64);
        for (topic, partitions) in &self.topics {
            put_bytes(out, topic.as_bytes());
            put_number(out, partitions.len() as u64);
            for (&partition, committed) in partitions {
                put_signed(out, i64::from(partition));
                put_signed(out, committed.offset);
                put_signed(out, i64::from(committed.leader_epoch));
                put_bytes(out, committed.metadata.as_bytes());
                put_signed(out, committed.commit_timestamp);
            }
        }
    }

    pub fn decode(input: &mut &[u8]) -> Result<Self, SnapshotError> {
        take_format(input, FORMAT)?;
        let mut offsets = Offsets::new();
        for _ in 0..take_count(input, 2)? {
            let topic = take_text(input)?;
            let count = take_count(input, 5)?;
            if count == 0 {
                return Err(SnapshotError::BadValue);
            }
            for _ in 0..count {
                let partition = take_signed_as(input)?;
                let committed = CommittedOffset {
                    offset: take_signed(input)?,
                    leader_epoch: take_signed_as(input)?,
                    metadata: take_text(input)?,
                    commit_timestamp: take_signed(input)?,
                };
                offsets.apply(&topic, partition, committed);
            }
        }
        Ok(offsets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: i64, commit_timestamp: i64) -> CommittedOffset {
        CommittedOffset {
            offset,
            leader_epoch: -1,
            metadata: String::from("note"),
            commit_timestamp,
        }
    }

    fn sample() -> Offsets {
        let mut offsets = Offsets::new();
        offsets.apply("a", 1, at(10, 100));
        offsets.apply("a", 0, at(5, 200));
        offsets.apply("b", 0, at(7, 100));
        offsets.apply("a", 1, at(3, 100));
        offsets
    }

    #[test]
    fn commit_fetch_delete() {
        let mut offsets = sample();
        assert_eq!(offsets.partition_count(), 3);
        assert_eq!(offsets.fetch("a", 1).map(|committed| committed.offset), Some(3));
        assert_eq!(offsets.fetch("a", 2), None);
        let all: Vec<_> =
            offsets.iter().map(|(topic, partition, _)| (topic.to_owned(), partition)).collect();
        assert_eq!(all, [("a".to_owned(), 0), ("a".to_owned(), 1), ("b".to_owned(), 0)]);
        assert!(offsets.delete("b", 0));
        assert!(!offsets.delete("b", 0));
        assert_eq!(offsets.delete_topic("a"), 2);
        assert!(offsets.is_empty() && offsets.topics.is_empty());
    }

    #[test]
    fn expiry_in_steps_spares_what_is_subscribed() {
        let offsets = sample();
        let expired = |from, count| offsets.expired(Timestamp(150), |_| false, from, count);
        assert_eq!(expired(None, 9), [("a".to_owned(), 1), ("b".to_owned(), 0)]);
        assert_eq!(expired(None, 1), [("a".to_owned(), 1)]);
        assert_eq!(expired(Some(("a", 1)), 1), [("b".to_owned(), 0)]);
        assert_eq!(expired(Some(("b", 0)), 1), []);
        let spared = offsets.expired(Timestamp(150), |topic| topic == "a", None, 9);
        assert_eq!(spared, [("b".to_owned(), 0)]);
    }

    #[test]
    fn refused() {
        let offsets = sample();
        let check = |commit: &[(&'static str, i32)], offset: &CommittedOffset, maximum| {
            let commit = commit.iter().map(|(topic, partition)| (*topic, *partition, offset));
            offsets.check(commit, maximum)
        };
        let mut large = at(1, 1);
        large.metadata = "m".repeat(METADATA_BYTES_MAX);
        assert_eq!(check(&[("a", 0)], &large, 3), Ok(()));
        large.metadata.push('m');
        assert_eq!(check(&[("a", 0)], &large, 3), Err(OffsetRefused::MetadataTooLarge));
        let too_many = Err(OffsetRefused::TooManyPartitions);
        assert_eq!(check(&[("a", 0), ("a", 9)], &at(1, 1), 4), Ok(()));
        assert_eq!(check(&[("a", 9), ("a", 8)], &at(1, 1), 4), too_many);
        assert_eq!(check(&[("a", 0), ("b", 0)], &at(1, 1), 2), Ok(()), "known ones go on");
    }

    #[test]
    fn snapshots() {
        let offsets = sample();
        let mut bytes = Vec::new();
        offsets.encode(&mut bytes);
        assert_eq!(Offsets::decode(&mut &bytes[..]), Ok(offsets));
        for cut in 0..bytes.len() {
            assert!(Offsets::decode(&mut &bytes[..cut]).is_err());
        }
        assert_eq!(Offsets::decode(&mut &[1, 1, 1, b'a', 0][..]), Err(SnapshotError::BadValue));
    }
}
