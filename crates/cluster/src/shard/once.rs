//! Exactly-once publishes where their copies are stored: recognising a repetition, remembering what is
//! stored, forgetting what is released.

use super::Shard;
use koine_base::StreamId;
use koine_broker::once::{OnceId, Sighting};

impl Shard {
    /// Whether the stream holds a copy of an exactly-once publish.
    pub(super) fn sighting(&mut self, stream: StreamId, once: &OnceId) -> Sighting {
        // What was released is not repeated any more: it comes late, from a connection that is gone.
        if !self.metadata.is_once_open(once) {
            return Sighting::Stored;
        }
        let metadata = &self.metadata;
        let group = self.groups.get_mut(&stream.group());
        let Some(group) = group else { return Sighting::New };
        let pages = &mut group.pages;
        let known = group.streams.get_mut(&stream).and_then(|state| state.once.as_mut());
        known.map_or(Sighting::New, |known| {
            if known.is_sweep_due() {
                pages.touch(stream);
                known.sweep(|id| metadata.is_once_open(id));
            }
            known.sighting(once)
        })
    }

    /// Also used while recovering.
    pub(super) fn apply_once(&mut self, stream: StreamId, id: OnceId) {
        if self.is_deleted(stream) {
            return;
        }
        if let Some(group) = self.groups.get_mut(&stream.group()) {
            group.stream(stream).once.get_or_insert_default().commit(&id);
        }
    }
}
