//! Taking over the whole state of a group that its leader sends. Pieces go to the log as frames of a
//! group number of their own, and their batches into streams that nobody sees: this replica keeps what
//! it has, and its vote, until all is durable. One frame then makes the new state the group's and
//! voids the entries before it. A crash before that frame leaves the old state; what was sent is
//! discarded and sent again.

use super::checkpoint::{decode_control, decode_group, UnreadableCheckpoint};
use super::commit::{FRAME_INSTALLED, FRAME_PIECE};
use super::sending::PIECES_IN_FLIGHT_MAX;
use super::Shard;
use crate::consensus::{Configuration, LogPoint};
use crate::group::DataGroup;
use crate::mail::Mail;
use crate::peer::{PeerBody, Piece, PieceBody};
use bytes::{Buf, BufMut, Bytes};
use koine_base::{GroupId, StreamId};
use koine_broker::batch::BatchHeader;
use koine_broker::metadata::{Metadata, MetadataLimits};
use koine_log::{
    Frame, FrameLocation, GroupCheckpoint, Placed, Placement, ReplayFrame, FRAME_PAYLOAD_BYTES_MAX,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Marks the numbers of the groups whose frames are pieces. Real ones are far below.
const STAGING: u16 = 1 << 15;

/// Where the log's numbers of streams carry the incarnation; metadata counts far below.
const INCARNATION_SHIFT: u32 = 40;

/// Largest encoded state that is taken.
const STATE_BYTES_MAX: usize = 1 << 30;

/// Bytes of a piece's frame before its batches: incarnation, install, term, number, kind, stream.
const BATCHES_AT: usize = 1 + 8 + 8 + 8 + 1 + 8;

pub(super) fn is_staging(id: GroupId) -> bool {
    id.0 & STAGING != 0
}

fn staging(id: GroupId) -> GroupId {
    GroupId(id.0 | STAGING)
}

pub(super) fn staged(id: GroupId) -> GroupId {
    GroupId(id.0 & !STAGING)
}

fn with_incarnation(stream: StreamId, incarnation: u8) -> StreamId {
    StreamId::from_raw(stream.raw() | u64::from(incarnation) << INCARNATION_SHIFT)
}

/// The stream that the log keeps under this number.
pub(crate) fn without_incarnation(stored: StreamId) -> StreamId {
    StreamId::from_raw(stored.raw() & !(u64::from(u8::MAX) << INCARNATION_SHIFT))
}

/// What a group's pieces left behind, and the installation under way.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Stage {
    /// Index of the last piece's frame.
    frames: u64,
    /// The last one given to an installation.
    incarnation: u8,
    current: Option<Installation>,
}

#[derive(Serialize, Deserialize)]
struct Installation {
    install: u64,
    term: u64,
    point: (u64, u64),
    configuration: Configuration,
    incarnation: u8,
    /// Number of the next piece.
    next: u64,
    state: Vec<u8>,
    /// As the log numbers them.
    streams: BTreeSet<u64>,
    is_whole: bool,
    /// Who sends it.
    #[serde(skip)]
    from: u64,
    /// Frames on their way to the disk, with the number of the piece after each.
    #[serde(skip)]
    writing: VecDeque<(u64, u64)>,
    #[serde(skip)]
    durable: u64,
    /// Pieces that came before one that is next, by number; no more than a leader has on its way.
    #[serde(skip)]
    early: BTreeMap<u64, Piece>,
}

impl Installation {
    /// Mail comes in any order: a piece that overtook another waits for it.
    fn keep_early(&mut self, piece: &Piece) {
        let ahead = piece.number.saturating_sub(self.next);
        if (1..PIECES_IN_FLIGHT_MAX as u64).contains(&ahead) {
            self.early.entry(piece.number).or_insert_with(|| piece.clone());
        }
    }
}

impl Shard {
    /// Under which number the log keeps a stream.
    pub(super) fn stored(&self, stream: StreamId) -> StreamId {
        let incarnation = self.groups.get(&stream.group()).map_or(0, |group| group.incarnation);
        with_incarnation(stream, incarnation)
    }

    // ---- from the leader

    pub(super) fn receive_piece(&mut self, id: GroupId, from: u64, piece: Piece) {
        let is_full = self.is_full();
        let Some(consensus) = self.consensus(id) else { return };
        let is_leader = consensus.leader().is_some_and(|leader| u64::from(leader.0) == from);
        if !is_leader || consensus.term() != piece.term || is_full {
            return;
        }
        let install = piece.install;
        let committed = consensus.committed_index();
        let received = |next, is_done| PeerBody::Received { install, next, is_done };
        let current = self.stages.get_mut(&id).and_then(|stage| stage.current.as_mut());
        match (current.filter(|current| current.install == install), &piece.body) {
            (Some(current), _) if piece.number == current.next => {}
            // Late, twice, or one before it is late or got lost.
            (Some(current), _) => {
                current.keep_early(&piece);
                let next = current.durable;
                return self.post_peer(id, from, received(next, false));
            }
            (None, PieceBody::Begin { point, .. }) if point.index <= committed => {
                return self.post_peer(id, from, received(0, true));
            }
            (None, PieceBody::Begin { .. }) => {}
            (None, _) => return self.post_peer(id, from, received(0, false)),
        }
        let mut next = Some(piece);
        while let Some(piece) = next.filter(|piece| self.is_acceptable(id, piece)) {
            self.write_piece(id, from, &piece);
            let current = self.stages.get_mut(&id).and_then(|stage| stage.current.as_mut());
            next = current.and_then(|current| current.early.remove(&current.next));
        }
    }

    /// What a peer sends is checked before it gets to the log.
    fn is_acceptable(&self, id: GroupId, piece: &Piece) -> bool {
        let current = self.stages.get(&id).and_then(|stage| stage.current.as_ref());
        match &piece.body {
            PieceBody::Begin { .. } => piece.number == 0,
            PieceBody::State(bytes) => {
                current.is_some_and(|c| c.state.len() + bytes.len() <= STATE_BYTES_MAX)
            }
            PieceBody::Batches { stream, batches } => {
                let plain = stream.raw() >> INCARNATION_SHIFT & 0xff == 0;
                let fits = batches.len() + BATCHES_AT <= FRAME_PAYLOAD_BYTES_MAX;
                let is_sound = split(batches)
                    .is_some_and(|all| all.iter().all(|(_, batch)| batch_is_good(batch)));
                stream.group() == id && self.groups.contains_key(&id) && plain && fits && is_sound
            }
            PieceBody::End => true,
        }
    }

    fn write_piece(&mut self, id: GroupId, from: u64, piece: &Piece) {
        let stage = self.stages.entry(id).or_default();
        let incarnation = match (&piece.body, &stage.current) {
            (PieceBody::Begin { .. }, _) | (_, None) => stage.incarnation % u8::MAX + 1,
            (_, Some(current)) => current.incarnation,
        };
        let index = stage.frames + 1;
        let mut payload = vec![incarnation];
        let mut parts = Vec::with_capacity(2);
        match &piece.body {
            PieceBody::Batches { stream, batches } => {
                let (stream, none) = (*stream, Bytes::new());
                Piece { body: PieceBody::Batches { stream, batches: none }, ..piece.clone() }
                    .encode(&mut payload);
                parts.extend([Bytes::from(payload), batches.clone()]);
            }
            _ => {
                piece.encode(&mut payload);
                parts.push(Bytes::from(payload));
            }
        }
        let (group, kind, term) = (staging(id), FRAME_PIECE, piece.term);
        let frame = Frame { group, kind, term, index, payload: parts, sync: true };
        let appended = self.log.append(self.now.moment, frame);
        self.take_piece(id, index, incarnation, piece, appended.location);
        if let Some(current) = self.stages.get_mut(&id).and_then(|stage| stage.current.as_mut()) {
            current.from = from;
            current.writing.push_back((appended.number, current.next));
        }
    }

    /// Frames of pieces are durable.
    pub(super) fn pieces_persisted(&mut self, pieces_of: GroupId, frame: u64) {
        let id = staged(pieces_of);
        let Some(stage) = self.stages.get_mut(&id) else { return };
        let Some(current) = &mut stage.current else { return };
        while current.writing.front().is_some_and(|(number, _)| *number <= frame) {
            if let Some((_, next)) = current.writing.pop_front() {
                current.durable = next;
            }
        }
        let (from, install, next) = (current.from, current.install, current.durable);
        let is_ready = current.is_whole && current.durable == current.next;
        let is_done = is_ready;
        if is_ready {
            self.offer(id);
        }
        self.post_peer(id, from, PeerBody::Received { install, next, is_done });
    }

    /// All pieces are durable: raft says whether the state is wanted, and if so hands it out with its
    /// next work.
    fn offer(&mut self, id: GroupId) {
        let now = self.now.moment;
        let stage = self.stages.get(&id);
        let Some(current) = stage.and_then(|stage| stage.current.as_ref()) else { return };
        let (from, term) = (current.from, current.term);
        let point = LogPoint { index: current.point.0, term: current.point.1 };
        let configuration = current.configuration.clone();
        let is_readable = match id {
            GroupId::METADATA => decode_control(&current.state).is_ok_and(|parts| {
                let limits = MetadataLimits::from(&self.config.limits);
                Metadata::decode(parts.metadata, limits).is_some()
            }),
            _ => self
                .scratch_group(id)
                .is_some_and(|mut scratch| decode_group(&mut scratch, &current.state).is_ok()),
        };
        let Some(consensus) = self.consensus_mut(id).filter(|_| is_readable) else {
            return self.discard_stage(id);
        };
        if !consensus.offer_installed(now, from, term, point, &configuration) {
            self.discard_stage(id);
        }
    }

    fn scratch_group(&self, id: GroupId) -> Option<DataGroup> {
        let group = self.groups.get(&id)?;
        let members = koine_broker::membership::Membership::new(
            self.membership_config(),
            koine_base::rng::Rng::new(0),
        );
        let idle = crate::raft::RaftGroup::idle(self.config.voters.this, self.now.moment);
        Some(DataGroup::new(id, group.is_relaxed, idle, members))
    }

    // ---- the same live and in replay

    fn take_piece(
        &mut self,
        id: GroupId,
        index: u64,
        incarnation: u8,
        piece: &Piece,
        location: FrameLocation,
    ) {
        if let PieceBody::Begin { point, configuration } = &piece.body {
            self.discard_stage(id);
            let stage = self.stages.entry(id).or_default();
            stage.incarnation = incarnation;
            stage.current = Some(Installation {
                install: piece.install,
                term: piece.term,
                point: (point.index, point.term),
                configuration: configuration.clone(),
                incarnation,
                next: 0,
                state: Vec::new(),
                streams: BTreeSet::new(),
                is_whole: false,
                from: 0,
                writing: VecDeque::new(),
                durable: 0,
                early: BTreeMap::new(),
            });
        }
        let stage = self.stages.entry(id).or_default();
        stage.frames = index;
        let Some(current) = &mut stage.current else { return };
        if current.install != piece.install {
            return;
        }
        current.next = piece.number + 1;
        match &piece.body {
            PieceBody::Begin { .. } => {}
            PieceBody::State(bytes) => current.state.extend_from_slice(bytes),
            PieceBody::Batches { stream, batches } => {
                let stored = with_incarnation(*stream, incarnation);
                current.streams.insert(stored.raw());
                self.place_piece(stored, batches, location, true);
            }
            PieceBody::End => current.is_whole = true,
        }
    }

    fn place_piece(
        &mut self,
        stored: StreamId,
        batches: &Bytes,
        frame: FrameLocation,
        creates: bool,
    ) {
        if creates {
            self.log.create_stream(stored);
        }
        for (position, bytes) in split(batches).unwrap_or_default() {
            let Ok(header) = BatchHeader::new(&bytes) else { return };
            let (base_offset, end) = (header.base_offset(), header.next_offset());
            let max_timestamp_ms = header.max_timestamp();
            let Some(bounds) = self.log.bounds(stored) else { return };
            if base_offset > bounds.end && creates {
                // Its first one, or the leader has trimmed what was between.
                self.log.trim(stored, base_offset);
            } else if base_offset < bounds.end && end > bounds.end && bounds.start < bounds.end {
                // Not what a sound leader sends.
                return;
            }
            let position = (BATCHES_AT + position) as u32;
            let last_offset = end - 1;
            let placed = self.log.place(Placement {
                stream: stored,
                base_offset,
                last_offset,
                max_timestamp_ms,
                bytes,
                frame,
                position,
            });
            debug_assert!(placed != Placed::UnknownStream, "looked at above");
        }
    }

    fn discard_stage(&mut self, id: GroupId) {
        let stage = self.stages.get_mut(&id);
        let Some(current) = stage.and_then(|stage| stage.current.take()) else { return };
        for stream in current.streams {
            self.log.delete_stream(StreamId::from_raw(stream));
        }
    }

    /// Makes what was sent the group's state.
    fn adopt(&mut self, id: GroupId) -> Result<(LogPoint, Configuration), UnreadableCheckpoint> {
        let stage = self.stages.get_mut(&id).ok_or(UnreadableCheckpoint)?;
        let current = stage.current.take().ok_or(UnreadableCheckpoint)?;
        if !current.is_whole {
            return Err(UnreadableCheckpoint);
        }
        let point = LogPoint { index: current.point.0, term: current.point.1 };
        let configuration = current.configuration.clone();
        if id == GroupId::METADATA {
            self.take_control(decode_control(&current.state)?)?;
            if let Some(controller) = &mut self.controller {
                controller.applied = point;
                controller.noted_commit = point.index;
                controller.look_at(&self.metadata);
            }
            return Ok((point, configuration));
        }
        self.clear_group(id);
        let group = self.groups.get_mut(&id).ok_or(UnreadableCheckpoint)?;
        let hard_state = group.hard_state;
        decode_group(group, &current.state)?;
        group.hard_state = hard_state;
        group.incarnation = current.incarnation;
        group.applied = point;
        group.noted_commit = point.index;
        group.is_prepared = false;
        let bounds = |(id, stream): (&StreamId, &crate::stream::Stream)| {
            (with_incarnation(*id, current.incarnation), stream.start, stream.end)
        };
        let bounds: Vec<_> = group.streams.iter().map(bounds).collect();
        let mut unknown = current.streams;
        for (stored, start, end) in bounds {
            unknown.remove(&stored.raw());
            self.log.create_stream(stored);
            // What is missing at the end was trimmed, or deleted, before it could be read.
            let has = self.log.bounds(stored).map_or(0, |bounds| bounds.end);
            self.log.trim(stored, if has < end { end } else { start });
        }
        for stream in unknown {
            self.log.delete_stream(StreamId::from_raw(stream));
        }
        Ok((point, configuration))
    }

    /// Forgets all that the group holds and knows, but its vote.
    fn clear_group(&mut self, id: GroupId) {
        let Some(group) = self.groups.get(&id) else { return };
        let mut streams: Vec<StreamId> = group.streams.keys().copied().collect();
        streams.sort_unstable();
        for stream in streams {
            self.leave_stream(stream);
            let stored = self.stored(stream);
            self.log.delete_stream(stored);
        }
        if let Some(group) = self.groups.get_mut(&id) {
            group.streams.clear();
            group.offsets.clear();
            group.locations.clear();
        }
    }

    /// Raft has taken the state that was offered. Returns the number of the frame that makes it so.
    pub(super) fn adopt_installed(&mut self, id: GroupId, point: LogPoint) -> u64 {
        let current = self.stages.get(&id).and_then(|stage| stage.current.as_ref());
        let incarnation = current.map_or(0, |current| current.incarnation);
        let (at, _) = self.adopt(id).expect("raft takes only what was offered, whole and readable");
        assert_eq!(at, point, "raft takes only what was offered");
        let mut payload = Vec::with_capacity(17);
        payload.put_u8(incarnation);
        payload.put_u64(point.index);
        payload.put_u64(point.term);
        // As the first index it takes the place of all entries before it.
        let frame = Frame {
            group: id,
            kind: FRAME_INSTALLED,
            term: point.term,
            index: 1,
            payload: vec![Bytes::from(payload)],
            sync: true,
        };
        let number = self.log.append(self.now.moment, frame).number;
        if id == GroupId::METADATA {
            let bytes = Arc::new(self.metadata.encode());
            for shard in self.config.layout.shards() {
                if shard != self.config.shard {
                    self.outbox.push((shard, Mail::Metadata(Arc::clone(&bytes))));
                }
            }
            self.drop_ownerless();
        }
        self.trim_settled(None);
        self.note_company();
        number
    }

    /// Another shard was sent all of group 0.
    pub(super) fn replace_metadata(&mut self, bytes: &[u8]) {
        let limits = MetadataLimits::from(&self.config.limits);
        let mut metadata =
            Metadata::decode(bytes, limits).expect("encoded by another shard of this node");
        metadata.follow(&self.metadata);
        self.metadata = metadata;
        self.drop_ownerless();
        self.trim_settled(None);
    }

    // ---- recovery

    pub(super) fn replay_piece(&mut self, frame: ReplayFrame) -> Result<(), UnreadableCheckpoint> {
        let id = staged(frame.group);
        if !is_staging(frame.group) || self.consensus(id).is_none() || frame.payload.is_empty() {
            return Err(UnreadableCheckpoint);
        }
        let mut rest = frame.payload;
        let incarnation = rest.get_u8();
        let piece = Piece::decode(&mut rest).ok_or(UnreadableCheckpoint)?;
        if frame.index > self.stages.get(&id).map_or(0, |stage| stage.frames) {
            self.take_piece(id, frame.index, incarnation, &piece, frame.location);
        } else if let PieceBody::Batches { stream, batches } = &piece.body {
            // The checkpoint knows of it; its batches may still lie in the WAL alone.
            let stored = with_incarnation(*stream, incarnation);
            self.place_piece(stored, batches, frame.location, false);
        }
        Ok(())
    }

    /// Who votes from here on, if the checkpoint is not newer.
    pub(super) fn replay_installed(
        &mut self,
        id: GroupId,
        payload: &Bytes,
    ) -> Result<Option<Configuration>, UnreadableCheckpoint> {
        if payload.len() != 17 {
            return Err(UnreadableCheckpoint);
        }
        let mut rest = payload.clone();
        let incarnation = rest.get_u8();
        let index = rest.get_u64();
        if self.applied(id).index >= index {
            return Ok(None);
        }
        let current = self.stages.get(&id).and_then(|stage| stage.current.as_ref());
        if current.is_none_or(|c| c.incarnation != incarnation || c.point.0 != index) {
            return Err(UnreadableCheckpoint);
        }
        self.adopt(id).map(|(_, configuration)| Some(configuration))
    }

    pub(super) fn restore_stage(
        &mut self,
        checkpoint: GroupCheckpoint,
    ) -> Result<(), UnreadableCheckpoint> {
        let stage = postcard::from_bytes(&checkpoint.blob).map_err(|_| UnreadableCheckpoint)?;
        self.stages.insert(staged(checkpoint.group), stage);
        Ok(())
    }

    /// What was being sent when the node stopped is sent again from the start.
    pub(super) fn discard_unfinished(&mut self) {
        let ids: Vec<GroupId> = self.stages.keys().copied().collect();
        for id in ids {
            self.discard_stage(id);
        }
    }

    pub(super) fn checkpoint_stages(&self) -> Vec<GroupCheckpoint> {
        let of = |(id, stage): (&GroupId, &Stage)| GroupCheckpoint {
            group: staging(*id),
            applied_index: stage.frames,
            applied_term: 0,
            blob: postcard::to_allocvec(stage).expect("encoding to memory cannot fail").into(),
            pages: Vec::new(),
        };
        self.stages.iter().map(of).collect()
    }
}

/// The batches that lie one after the other, with their positions; `None` if these are no whole ones.
fn split(batches: &Bytes) -> Option<Vec<(usize, Bytes)>> {
    let mut found = Vec::new();
    let mut position = 0;
    while position < batches.len() {
        let length = BatchHeader::new(&batches[position..]).ok()?.bytes().len();
        found.push((position, batches.slice(position..position + length)));
        position += length;
    }
    Some(found)
}

fn batch_is_good(batch: &Bytes) -> bool {
    BatchHeader::new(batch).is_ok_and(|header| {
        header.crc_is_good()
            && header.last_offset_delta() >= 0
            && header.base_offset() < u64::MAX - u64::from(u32::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_found_again_under_every_number_that_the_log_keeps_it_under() {
        let stream = StreamId::new(GroupId(3), 1 << 39);
        for incarnation in [0, 1, u8::MAX] {
            assert_eq!(without_incarnation(with_incarnation(stream, incarnation)), stream);
        }
    }
}
