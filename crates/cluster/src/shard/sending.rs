//! Sending the whole state of a group to a follower that lacks entries which the leader has dropped:
//! the encoded state as of one applied index, then the records of its streams, in numbered pieces. A
//! few are on their way at a time; what is not acknowledged is sent again. Entries that are committed
//! meanwhile follow afterwards, through raft.

use super::checkpoint::encode_group;
use super::{ReadPurpose, Shard};
use crate::consensus::{Configuration, LogPoint};
use crate::peer::{PeerBody, Piece, PieceBody};
use bytes::{Bytes, BytesMut};
use koine_base::{GroupId, Moment, StreamId};
use koine_broker::batch::BatchHeader;
use koine_log::{ReadError, ReadOutcome};
use std::collections::VecDeque;

/// Bytes of one piece, unless a single batch is larger.
const PIECE_BYTES: usize = 512 << 10;

/// Pieces on their way to one follower.
pub(super) const PIECES_IN_FLIGHT_MAX: usize = 8;

/// Without an answer for this long, what is on its way is sent again.
const SEND_AGAIN_MS: u64 = 200;

/// Without progress for this long the sending is given up; raft begins another if the follower lives.
const GIVE_UP_MS: u64 = 10_000;

pub(super) struct Sending {
    install: u64,
    /// Of the office in which it began.
    term: u64,
    point: LogPoint,
    configuration: Configuration,
    /// Of the encoded state, what is not in a piece yet.
    state: Bytes,
    /// Streams to be sent, with the next offset and the end.
    streams: VecDeque<(StreamId, u64, u64)>,
    /// Pieces made.
    made: u64,
    /// Those not acknowledged, oldest first.
    flying: VecDeque<Piece>,
    /// The next piece comes from disk.
    is_reading: bool,
    is_whole: bool,
    progress_at: Moment,
    sent_at: Moment,
}

impl Sending {
    fn add(&mut self, body: PieceBody) -> Piece {
        let Sending { install, term, .. } = *self;
        let piece = Piece { install, term, number: self.made, body };
        self.made += 1;
        self.flying.push_back(piece.clone());
        piece
    }
}

impl Shard {
    /// Raft has found that a follower needs the whole state.
    pub(super) fn start_sending(&mut self, id: GroupId, to: u64) {
        if self.sendings.contains_key(&(id, to)) {
            return;
        }
        let Some(consensus) = self.consensus(id) else { return };
        let (term, configuration) = (consensus.term(), consensus.configuration());
        let (point, state, streams) = if let Some(group) = self.groups.get(&id) {
            let bounds = |(id, stream): (&StreamId, &crate::stream::Stream)| {
                (stream.start < stream.end).then_some((*id, stream.start, stream.end))
            };
            let mut streams: Vec<_> = group.streams.iter().filter_map(bounds).collect();
            streams.sort_unstable();
            (group.applied, encode_group(group), streams)
        } else if let Some(controller) = &self.controller {
            (controller.applied, self.encode_control(controller), Vec::new())
        } else {
            return;
        };
        let sending = Sending {
            install: self.rng.next_u64(),
            term,
            point,
            configuration,
            state: Bytes::from(state),
            streams: streams.into(),
            made: 0,
            flying: VecDeque::new(),
            is_reading: false,
            is_whole: false,
            progress_at: self.now.moment,
            sent_at: self.now.moment,
        };
        self.sendings.insert((id, to), sending);
        self.send_pieces(id, to);
    }

    /// Makes and sends pieces as long as there is room for them on the way.
    fn send_pieces(&mut self, id: GroupId, to: u64) {
        while let Some(body) = self.next_piece(id, to) {
            let Some(sending) = self.sendings.get_mut(&(id, to)) else { return };
            let piece = sending.add(body);
            self.post_peer(id, to, PeerBody::Piece(piece));
        }
    }

    fn next_piece(&mut self, id: GroupId, to: u64) -> Option<PieceBody> {
        let sending = self.sendings.get_mut(&(id, to))?;
        let is_full = sending.flying.len() >= PIECES_IN_FLIGHT_MAX;
        if is_full || sending.is_reading || sending.is_whole {
            return None;
        }
        if sending.made == 0 {
            let (point, configuration) = (sending.point, sending.configuration.clone());
            return Some(PieceBody::Begin { point, configuration });
        }
        if !sending.state.is_empty() {
            let length = sending.state.len().min(PIECE_BYTES);
            return Some(PieceBody::State(sending.state.split_to(length)));
        }
        let install = sending.install;
        while let Some((stream, next, end)) = self.sendings.get(&(id, to))?.streams.front().copied()
        {
            let stored = self.stored(stream);
            match self.log.read(stored, next, PIECE_BYTES, end) {
                ReadOutcome::Ready(batches) if !batches.is_empty() => {
                    return self.batches_piece(id, to, stream, &batches);
                }
                ReadOutcome::Pending(token, request) => {
                    self.io.push_back(request);
                    self.reads.insert(token, (stream, ReadPurpose::Piece { to, install }));
                    self.sendings.get_mut(&(id, to))?.is_reading = true;
                    return None;
                }
                // Trimmed since: the entry that says so follows.
                ReadOutcome::OutOfRange { start, .. } if start > next && start < end => {
                    self.sendings.get_mut(&(id, to))?.streams.front_mut()?.1 = start;
                }
                ReadOutcome::Ready(_)
                | ReadOutcome::OutOfRange { .. }
                | ReadOutcome::UnknownStream => {
                    self.sendings.get_mut(&(id, to))?.streams.pop_front();
                }
            }
        }
        self.sendings.get_mut(&(id, to))?.is_whole = true;
        Some(PieceBody::End)
    }

    /// A piece of what was read from the stream that is next.
    fn batches_piece(
        &mut self,
        id: GroupId,
        to: u64,
        stream: StreamId,
        batches: &[Bytes],
    ) -> Option<PieceBody> {
        let sending = self.sendings.get_mut(&(id, to))?;
        let last = BatchHeader::new(batches.last()?).expect("checked when it was read");
        let (_, next, end) = sending.streams.front_mut()?;
        *next = last.next_offset();
        if *next >= *end {
            sending.streams.pop_front();
        }
        let mut bytes = BytesMut::with_capacity(batches.iter().map(Bytes::len).sum());
        batches.iter().for_each(|batch| bytes.extend_from_slice(batch));
        Some(PieceBody::Batches { stream, batches: bytes.freeze() })
    }

    /// What a piece is made of came from disk.
    pub(super) fn piece_read(
        &mut self,
        stream: StreamId,
        to: u64,
        install: u64,
        result: Result<Vec<Bytes>, ReadError>,
    ) {
        let id = stream.group();
        let sending = self.sendings.get_mut(&(id, to));
        let Some(sending) = sending.filter(|sending| sending.install == install) else { return };
        sending.is_reading = false;
        let is_next = sending.streams.front().is_some_and(|(next, ..)| *next == stream);
        let Ok(batches) = result else {
            return self.give_up(id, to);
        };
        if is_next && !batches.is_empty() {
            if let Some(body) = self.batches_piece(id, to, stream, &batches) {
                let Some(sending) = self.sendings.get_mut(&(id, to)) else { return };
                let piece = sending.add(body);
                self.post_peer(id, to, PeerBody::Piece(piece));
            }
        }
        self.send_pieces(id, to);
    }

    /// The follower has the pieces below `next`.
    pub(super) fn pieces_received(
        &mut self,
        id: GroupId,
        from: u64,
        install: u64,
        next: u64,
        is_done: bool,
    ) {
        let sending = self.sendings.get_mut(&(id, from));
        let Some(sending) = sending.filter(|sending| sending.install == install) else { return };
        if is_done {
            self.sendings.remove(&(id, from));
            if let Some(consensus) = self.consensus_mut(id) {
                consensus.report_sent(from, true);
            }
            return;
        }
        let acknowledged = sending.made - sending.flying.len() as u64;
        if next == 0 && acknowledged > 0 {
            // It was started again and has forgotten what it had.
            return self.give_up(id, from);
        }
        while sending.flying.front().is_some_and(|piece| piece.number < next) {
            sending.flying.pop_front();
            sending.progress_at = self.now.moment;
            sending.sent_at = self.now.moment;
        }
        self.send_pieces(id, from);
    }

    fn give_up(&mut self, id: GroupId, to: u64) {
        self.sendings.remove(&(id, to));
        if let Some(consensus) = self.consensus_mut(id) {
            consensus.report_sent(to, false);
        }
    }

    pub(super) fn tick_sendings(&mut self) {
        if self.sendings.is_empty() {
            return;
        }
        let now = self.now.moment;
        let keys: Vec<(GroupId, u64)> = self.sendings.keys().copied().collect();
        for (id, to) in keys {
            let is_member = self.consensus(id).is_some_and(|c| c.configuration().contains(to));
            let Some(sending) = self.sendings.get_mut(&(id, to)) else { continue };
            if !is_member || now >= sending.progress_at.after_ms(GIVE_UP_MS) {
                self.give_up(id, to);
                continue;
            }
            if now < sending.sent_at.after_ms(SEND_AGAIN_MS) {
                continue;
            }
            sending.sent_at = now;
            for piece in sending.flying.clone() {
                self.post_peer(id, to, PeerBody::Piece(piece));
            }
        }
    }

    pub(super) fn stop_sendings(&mut self, id: GroupId) {
        self.sendings.retain(|(group, _), _| *group != id);
    }
}
