//! Damage, seen by a running shard; and reading what a shard wrote without being one, for the examination
//! of damaged data.

use super::checkpoint::{decode_configuration, decode_control, decode_ends};
use super::commit::{FRAME_CHANGE, FRAME_COMMIT, FRAME_ENTRY, FRAME_INSTALLED, FRAME_PIECE};
use super::installing::{is_staging, staged};
use super::Shard;
use crate::consensus::Configuration;
use koine_base::{GroupId, StreamId};
use koine_broker::metadata::{Command, Metadata, MetadataLimits, StreamOwner};
use std::collections::BTreeSet;

/// Kind of a frame that holds an entry.
pub(crate) const ENTRY_KIND: u8 = FRAME_ENTRY;

pub(crate) fn is_entry(kind: u8) -> bool {
    kind == FRAME_ENTRY
}

/// The metadata in group 0's checkpoint.
pub(crate) fn decode_metadata(blob: &[u8], limits: MetadataLimits) -> Option<Metadata> {
    Metadata::decode(decode_control(blob).ok()?.metadata, limits)
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

/// Who votes, as a group's checkpoint says. `None` also for a checkpoint that is of no group.
pub(crate) fn configuration_in(group: GroupId, blob: &[u8]) -> Option<Configuration> {
    match group {
        GroupId::METADATA => Some(decode_control(blob).ok()?.configuration),
        group if is_staging(group) => None,
        _ => decode_configuration(blob).ok(),
    }
}

/// Frames that a node alone in a group does not write, unless others left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trace {
    Change,
    Commit,
    /// Of the group's state, sent by its leader.
    Piece,
}

pub(crate) fn trace_of(group: GroupId, kind: u8) -> Option<(GroupId, Trace)> {
    let trace = match kind {
        FRAME_CHANGE => Trace::Change,
        FRAME_COMMIT => Trace::Commit,
        FRAME_PIECE | FRAME_INSTALLED => Trace::Piece,
        _ => return None,
    };
    Some((if is_staging(group) { staged(group) } else { group }, trace))
}

pub(crate) use super::installing::without_incarnation;

/// A place on disk that cannot be read any more, told once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub stream: StreamId,
    pub owner: Option<StreamOwner>,
    /// What begins here is damaged.
    pub offset: u64,
}

/// Places remembered so that each is told once.
const KNOWN_MAX: usize = 4096;

#[derive(Default)]
pub(super) struct DamageNews {
    known: BTreeSet<(StreamId, u64)>,
    news: Vec<Damage>,
}

impl Shard {
    pub(super) fn note_damage(&mut self, stream: StreamId, offset: u64) {
        let known = &mut self.damage.known;
        if known.len() < KNOWN_MAX && known.insert((stream, offset)) {
            let owner = self.metadata.stream_owner(stream).cloned();
            self.damage.news.push(Damage { stream, owner, offset });
        }
    }

    /// Damage that reads or the scrub came upon since the last call: a person must act.
    pub fn take_damage(&mut self) -> Vec<Damage> {
        std::mem::take(&mut self.damage.news)
    }
}
