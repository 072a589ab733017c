//! A checksum of what a group has applied, equal on all its replicas at the same index. What only a
//! leader knows is not in it, nor what depends on when this node learned of something: how far a queue
//! is trimmed, which follows from its cursor, and streams that metadata no longer knows.

use super::Shard;
use crate::stream::Stream;
use koine_base::checksum::crc32c;
use koine_base::{GroupId, StreamId};

impl Shard {
    /// 0 if the group is not of this shard. Replicas agree when they have applied the same of this
    /// group and of group 0, and the shards of each node have their mail.
    pub fn fingerprint(&self, group: GroupId) -> u64 {
        let mut bytes = Vec::new();
        if group == GroupId::METADATA {
            let Some(controller) = &self.controller else { return 0 };
            bytes.extend_from_slice(&self.metadata.encode());
            bytes.extend_from_slice(&controller.retained.encode());
            return checksum(&bytes);
        }
        let Some(group) = self.groups.get(&group) else { return 0 };
        let mut streams: Vec<(&StreamId, &Stream)> = group.streams.iter().collect();
        streams.sort_unstable_by_key(|(id, _)| **id);
        for (id, stream) in streams {
            // One without a record is made by whoever asks for it.
            if stream.end > 0 && !self.is_deleted(*id) {
                describe(*id, stream, &mut bytes);
            }
        }
        for (name, offsets) in group.offsets.iter().filter(|(_, offsets)| !offsets.is_empty()) {
            bytes.extend_from_slice(name.as_bytes());
            offsets.encode(&mut bytes);
        }
        checksum(&bytes)
    }
}

fn describe(id: StreamId, stream: &Stream, out: &mut Vec<u8>) {
    let cursor = stream.subscription.as_ref().map(|subscription| &subscription.cursor);
    let start = cursor.map_or(0, |cursor| cursor.floor()).max(stream.start);
    let mut put = |number: u64| out.extend_from_slice(&number.to_be_bytes());
    put(id.raw());
    put(start);
    put(stream.end);
    let covering = stream.epochs.iter().rposition(|(_, from)| *from <= start).unwrap_or(0);
    for (epoch, from) in stream.epochs.iter().skip(covering) {
        put(u64::from(*epoch));
        put(*from);
    }
    // A cursor that settled nothing is made by whoever attaches.
    for set in cursor.iter().flat_map(|cursor| [cursor.acked(), cursor.half()]) {
        for range in set.ranges() {
            put(range.start);
            put(range.end);
        }
    }
    // A leader has a place for producers before it has committed anything of them.
    if let Some(producers) = stream.producers.as_ref().filter(|producers| !producers.is_empty()) {
        producers.encode(out);
    }
}

fn checksum(bytes: &[u8]) -> u64 {
    // Two halves of which the second begins with the length: 32 bits are few for many comparisons.
    let seeded = [&(bytes.len() as u64).to_be_bytes()[..], bytes].concat();
    u64::from(crc32c(bytes)) << 32 | u64::from(crc32c(&seeded))
}
