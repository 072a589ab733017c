//! What a group is, as bytes, when a WAL file is to be given back: everything that replaying the
//! file again would tell.

use super::control::Controller;
use super::Shard;
use crate::consensus::{Configuration, HardState};
use crate::group::DataGroup;
use crate::stream::{Stream, Subscription};
use koine_base::{GroupId, StreamId};
use koine_broker::cursor::Cursor;
use koine_broker::offsets::Offsets;
use koine_broker::once::OncePublishes;
use koine_broker::producers::Producers;
use koine_log::GroupCheckpoint;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct StreamState {
    stream: u64,
    start: u64,
    end: u64,
    epochs: Vec<(u32, u64)>,
    cursor: Option<Vec<u8>>,
    producers: Option<Vec<u8>>,
    once: Option<Vec<u8>>,
}

#[derive(Serialize, Deserialize)]
struct GroupState {
    term: u64,
    vote: u64,
    configuration: Configuration,
    incarnation: u8,
    streams: Vec<StreamState>,
    offsets: Vec<(String, Vec<u8>)>,
}

#[derive(Serialize, Deserialize)]
struct ControlState {
    term: u64,
    vote: u64,
    configuration: Configuration,
    metadata: Vec<u8>,
    retained: Vec<u8>,
}

/// A checkpoint's bytes are not what this version writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnreadableCheckpoint;

pub(super) struct ControlParts {
    pub hard_state: HardState,
    pub configuration: Configuration,
    pub metadata: Vec<u8>,
    pub retained: Vec<u8>,
}

pub(super) fn decode_control(bytes: &[u8]) -> Result<ControlParts, UnreadableCheckpoint> {
    let state: ControlState = postcard::from_bytes(bytes).map_err(|_| UnreadableCheckpoint)?;
    let hard_state = HardState { term: state.term, vote: state.vote };
    Ok(ControlParts {
        hard_state,
        configuration: state.configuration,
        metadata: state.metadata,
        retained: state.retained,
    })
}

/// Each stream of a data group's checkpoint with its end.
pub(super) fn decode_ends(bytes: &[u8]) -> Result<Vec<(StreamId, u64)>, UnreadableCheckpoint> {
    let state: GroupState = postcard::from_bytes(bytes).map_err(|_| UnreadableCheckpoint)?;
    let streams = state.streams.iter();
    Ok(streams.map(|stream| (StreamId::from_raw(stream.stream), stream.end)).collect())
}

pub(super) fn encode_group(group: &DataGroup) -> Vec<u8> {
    let mut streams: Vec<StreamState> =
        group.streams.iter().map(|(id, stream)| encode_stream(*id, stream)).collect();
    streams.sort_unstable_by_key(|state| state.stream);
    let offsets = group.offsets.iter().map(|(name, offsets)| {
        let mut bytes = Vec::new();
        offsets.encode(&mut bytes);
        (name.clone(), bytes)
    });
    let HardState { term, vote } = group.hard_state;
    let configuration = group.consensus.configuration();
    let (incarnation, offsets) = (group.incarnation, offsets.collect());
    let state = GroupState { term, vote, configuration, incarnation, streams, offsets };
    postcard::to_allocvec(&state).expect("encoding to memory cannot fail")
}

fn encode_stream(id: StreamId, stream: &Stream) -> StreamState {
    let cursor = stream.subscription.as_ref().map(|subscription| {
        let mut bytes = Vec::new();
        subscription.cursor.encode(&mut bytes);
        bytes
    });
    let producers = stream.producers.as_ref().map(|producers| {
        let mut bytes = Vec::new();
        producers.encode(&mut bytes);
        bytes
    });
    let once = stream.once.as_ref().filter(|once| !once.is_empty()).map(|once| {
        let mut bytes = Vec::new();
        once.encode(&mut bytes);
        bytes
    });
    StreamState {
        stream: id.raw(),
        start: stream.start,
        end: stream.end,
        epochs: stream.epochs.clone(),
        cursor,
        producers,
        once,
    }
}

/// Fills a fresh group from its checkpoint; returns who voted.
pub(super) fn decode_group(
    group: &mut DataGroup,
    bytes: &[u8],
) -> Result<Configuration, UnreadableCheckpoint> {
    let state: GroupState = postcard::from_bytes(bytes).map_err(|_| UnreadableCheckpoint)?;
    group.hard_state = HardState { term: state.term, vote: state.vote };
    group.incarnation = state.incarnation;
    for stored in state.streams {
        let stream = group.stream(StreamId::from_raw(stored.stream));
        stream.start = stored.start;
        stream.end = stored.end;
        stream.next = stored.end;
        stream.epochs = stored.epochs;
        if let Some(bytes) = stored.cursor {
            let cursor = Cursor::decode(&mut &bytes[..]).map_err(|_| UnreadableCheckpoint)?;
            stream.subscription = Some(Box::new(Subscription::new(cursor)));
        }
        if let Some(bytes) = stored.producers {
            let producers = Producers::decode(&mut &bytes[..]).map_err(|_| UnreadableCheckpoint)?;
            stream.producers = Some(Box::new(producers));
        }
        if let Some(bytes) = stored.once {
            let once = OncePublishes::decode(&mut &bytes[..]).map_err(|_| UnreadableCheckpoint)?;
            stream.once = Some(Box::new(once));
        }
    }
    for (name, bytes) in state.offsets {
        let offsets = Offsets::decode(&mut &bytes[..]).map_err(|_| UnreadableCheckpoint)?;
        group.offsets.insert(name, offsets);
    }
    Ok(state.configuration)
}

impl Shard {
    /// Gives the log the state of every group when it wants to let a WAL file go.
    pub(super) fn checkpoint_if_due(&mut self) {
        if !self.log.checkpoint_due(self.now.moment) {
            return;
        }
        self.sweep_once();
        let mut groups = Vec::new();
        if let Some(controller) = &self.controller {
            groups.push(GroupCheckpoint {
                group: GroupId::METADATA,
                applied_index: controller.applied.index,
                applied_term: controller.applied.term,
                blob: self.encode_control(controller).into(),
            });
        }
        groups.extend(self.groups.values().map(|group| GroupCheckpoint {
            group: group.id,
            applied_index: group.applied.index,
            applied_term: group.applied.term,
            blob: encode_group(group).into(),
        }));
        groups.extend(self.checkpoint_stages());
        self.log.checkpoint(groups);
    }

    pub(super) fn encode_control(&self, controller: &Controller) -> Vec<u8> {
        let HardState { term, vote } = controller.hard_state;
        let state = ControlState {
            term,
            vote,
            configuration: controller.consensus.configuration(),
            metadata: self.metadata.encode(),
            retained: controller.retained.encode(),
        };
        postcard::to_allocvec(&state).expect("encoding to memory cannot fail")
    }
}
