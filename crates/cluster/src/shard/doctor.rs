//! Reading what a shard wrote without being one: for the examination of damaged data.

use super::checkpoint::{decode_control, decode_ends};
use super::commit::FRAME_ENTRY;
use koine_base::StreamId;
use koine_broker::metadata::{Command, Metadata, MetadataLimits};

/// Kind of a frame that holds an entry.
pub(crate) const ENTRY_KIND: u8 = FRAME_ENTRY;

pub(crate) fn is_entry(kind: u8) -> bool {
    kind == FRAME_ENTRY
}

/// The metadata in group 0's checkpoint.
pub(crate) fn decode_metadata(blob: &[u8], limits: MetadataLimits) -> Option<Metadata> {
    Metadata::decode(&decode_control(blob).ok()?.metadata, limits)
}

/// The commands of one of group 0's entries.
pub(crate) fn decode_commands(payload: &[u8]) -> Option<Vec<Command>> {
    if payload.is_empty() {
        return Some(Vec::new());
    }
    postcard::from_bytes(payload).ok()
}

/// Where the streams in a data group's checkpoint end.
pub(crate) fn stream_ends(blob: &[u8]) -> Vec<(StreamId, u64)> {
    decode_ends(blob).unwrap_or_default()
}
