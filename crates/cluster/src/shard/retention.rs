//! Deleting what topics keep too long or too much of. Queues are trimmed by their cursor.

use super::Shard;
use koine_base::StreamId;
use koine_broker::metadata::StreamOwner;

impl Shard {
    /// Proposes new starts for the streams of topics that have something to give up.
    pub(super) fn expire_records(&mut self) {
        let node = &self.config.node;
        let mut trims: Vec<(StreamId, u64)> = Vec::new();
        for (stream, owner) in self.metadata.streams() {
            let StreamOwner::Topic { namespace, name, .. } = owner else {
                continue;
            };
            if !self.groups.contains_key(&stream.group()) || !self.may_serve(stream.group()) {
                continue;
            }
            let Some(topic) = self.metadata.topic(*namespace, name) else {
                continue;
            };
            let ms = topic.settings.retention_ms.unwrap_or(node.default_retention_ms);
            let bytes = topic.settings.retention_bytes.unwrap_or(node.default_retention_bytes);
            // Below zero keeps everything.
            let ms = (ms >= 0).then_some(ms);
            let bytes = u64::try_from(bytes).ok();
            if let Some(start) = self.log.expire(self.stored(stream), self.now.wall.0, ms, bytes) {
                trims.push((stream, start));
            }
        }
        trims.sort_unstable();
        for (stream, start) in trims {
            if let Some(group) = self.groups.get_mut(&stream.group()) {
                group.trim(stream, start);
            }
        }
    }
}
