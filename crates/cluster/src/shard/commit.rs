//! The way of an entry: proposed, written, committed, applied, answered. The same for every group; what
//! differs is whether the commit waits for the disk.

use super::{ReadPurpose, Shard};
use crate::consensus::{Entry, EntryKind, HardState, LogPoint, Ready};
use crate::entry::{holds_settlements_only, operations, Operation};
use crate::group::Waiter;
use crate::raft::RaftGroup;
use bytes::Bytes;
use koine_base::{GroupId, StreamId, Timestamp};
use koine_broker::batch::{BatchHeader, NO_PRODUCER};
use koine_broker::cursor::Delta;
use koine_broker::metadata::{Refusal, StreamOwner};
use koine_broker::producers::ProducerBatch;
use koine_broker::session::{Event, ReadBatches};
use koine_log::{
    Completion, Frame, FrameLocation, Persisted, Placed, Placement, ReadError, ReadToken,
    TimestampOutcome,
};

/// Kinds of WAL frames.
pub(super) const FRAME_ENTRY: u8 = 1;
pub(super) const FRAME_HARD_STATE: u8 = 2;
/// An entry that changes who votes.
pub(super) const FRAME_CHANGE: u8 = 3;
/// All entries up to an index are committed: a start need not ask the others about these.
pub(super) const FRAME_COMMIT: u8 = 4;

/// The state that was sent in pieces is the group's from here on.
pub(super) const FRAME_INSTALLED: u8 = 5;
/// A piece of a group's state on its way; of a group number of its own.
pub(super) const FRAME_PIECE: u8 = 6;

/// The commit index is noted in the log once per so many entries.
const NOTE_COMMIT_EVERY: u64 = 64;

/// What an append needs to know of where its entry lies.
#[derive(Clone, Copy)]
pub(super) struct EntryPlace {
    pub location: FrameLocation,
    /// Leader epoch of its batches.
    pub term: u64,
}

pub(super) fn encode_hard_state(state: HardState) -> Bytes {
    let mut bytes = Vec::with_capacity(16);
    bytes.extend_from_slice(&state.term.to_be_bytes());
    bytes.extend_from_slice(&state.vote.to_be_bytes());
    Bytes::from(bytes)
}

pub(super) fn decode_hard_state(bytes: &[u8]) -> Option<HardState> {
    let (term, vote) = bytes.split_first_chunk::<8>()?;
    let vote = <[u8; 8]>::try_from(vote).ok()?;
    Some(HardState { term: u64::from_be_bytes(*term), vote: u64::from_be_bytes(vote) })
}

impl Shard {
    /// Proposes what queued up and carries on whatever is ready, until only the disk can go on.
    pub(super) fn commit(&mut self) {
        self.note_persisted();
        let ids: Vec<GroupId> = self.groups.keys().copied().collect();
        for id in ids {
            while self.commit_group(id) {}
        }
        while self.commit_control() {}
    }

    fn commit_group(&mut self, id: GroupId) -> bool {
        self.follow_office(id);
        let Some(group) = self.groups.get_mut(&id) else {
            return false;
        };
        let proposed = group.propose();
        let Some(ready) = group.consensus.ready() else {
            return proposed;
        };
        self.write(id, &ready);
        let changes = ready.committed.iter().any(|entry| entry.kind == EntryKind::Change);
        for entry in ready.committed {
            self.apply_entry(id, entry);
        }
        self.note_commit(id, changes);
        self.note_persisted();
        true
    }

    fn commit_control(&mut self) -> bool {
        self.follow_office(GroupId::METADATA);
        let Some(controller) = &mut self.controller else {
            return false;
        };
        let proposed = controller.propose();
        let Some(ready) = controller.consensus.ready() else {
            return proposed;
        };
        self.write(GroupId::METADATA, &ready);
        let changes = ready.committed.iter().any(|entry| entry.kind == EntryKind::Change);
        for Entry { index, term, kind, data } in ready.committed {
            let point = LogPoint { index, term };
            match kind {
                EntryKind::Change => self.apply_change(GroupId::METADATA, &data),
                EntryKind::Data if data.is_empty() => {}
                EntryKind::Data => self.apply_control_entry(point, &data),
            }
            let Some(controller) = &mut self.controller else {
                return false;
            };
            controller.applied = point;
            controller.consensus.applied(point);
        }
        self.note_commit(GroupId::METADATA, changes);
        self.note_persisted();
        true
    }

    pub(super) fn consensus(&self, id: GroupId) -> Option<&RaftGroup> {
        if id == GroupId::METADATA {
            return self.controller.as_ref().map(|controller| &controller.consensus);
        }
        self.groups.get(&id).map(|group| &group.consensus)
    }

    pub(super) fn consensus_mut(&mut self, id: GroupId) -> Option<&mut RaftGroup> {
        if id == GroupId::METADATA {
            return self.controller.as_mut().map(|controller| &mut controller.consensus);
        }
        self.groups.get_mut(&id).map(|group| &mut group.consensus)
    }

    /// Hands what must become durable to the log.
    fn write(&mut self, id: GroupId, ready: &Ready) {
        // With others in the group a majority of disks is the promise, whatever the group is called.
        let sync = !self.is_alone || !self.config.layout.is_relaxed(id);
        let mut last = None;
        if let Some(point) = ready.installed {
            last = Some(self.adopt_installed(id, point));
        }
        if let Some(hard_state) = ready.hard_state {
            // A vote is always synced: a forgotten one could elect two leaders in one term.
            let payload = vec![encode_hard_state(hard_state)];
            let (term, index) = (hard_state.term, 0);
            let kind = FRAME_HARD_STATE;
            let frame = Frame { group: id, kind, term, index, payload, sync: true };
            last = Some(self.log.append(self.now.moment, frame).number);
            match self.groups.get_mut(&id) {
                Some(group) => group.hard_state = hard_state,
                None => {
                    if let Some(controller) = &mut self.controller {
                        controller.hard_state = hard_state;
                    }
                }
            }
        }
        for entry in &ready.entries {
            let kind = match entry.kind {
                EntryKind::Data => FRAME_ENTRY,
                EntryKind::Change => FRAME_CHANGE,
            };
            let frame = Frame {
                group: id,
                kind,
                term: entry.term,
                index: entry.index,
                payload: vec![entry.data.clone()],
                // The first entry of a term makes the vote count. And who is taken in is sent what
                // comes before, which from then on must not be lost. Settlements that nobody waits for
                // go with the next sync: no protocol acknowledges them.
                sync: match kind {
                    FRAME_CHANGE => true,
                    _ if entry.data.is_empty() => true,
                    _ if self.is_alone && holds_settlements_only(&entry.data) => false,
                    _ => sync,
                },
            };
            let appended = self.log.append(self.now.moment, frame);
            last = Some(appended.number);
            if let Some(group) = self.groups.get_mut(&id) {
                group.note_location(entry.index, appended.location);
            }
        }
        if let Some(consensus) = self.consensus_mut(id) {
            consensus.wrote(last);
        }
    }

    /// Leaves a note of how far the group has committed, so that a start does not have to hold in
    /// memory what it could apply. Needs no sync, since without it the others are asked; but after a
    /// change they may not be there to be asked.
    fn note_commit(&mut self, id: GroupId, changes: bool) {
        if self.is_alone && !changes {
            return;
        }
        let (applied, noted) = match (self.groups.get_mut(&id), &mut self.controller) {
            (Some(group), _) => (group.applied, &mut group.noted_commit),
            (None, Some(controller)) => (controller.applied, &mut controller.noted_commit),
            (None, None) => return,
        };
        if !changes && applied.index < *noted + NOTE_COMMIT_EVERY {
            return;
        }
        *noted = applied.index;
        let payload = vec![Bytes::copy_from_slice(&applied.index.to_be_bytes())];
        let (kind, term) = (FRAME_COMMIT, applied.term);
        let frame = Frame { group: id, kind, term, index: 0, payload, sync: changes };
        self.log.append(self.now.moment, frame);
    }

    fn note_persisted(&mut self) {
        for Persisted { group: id, number, .. } in self.log.take_persisted() {
            match self.consensus_mut(id) {
                Some(consensus) => consensus.persisted(number),
                None => self.pieces_persisted(id, number),
            }
        }
    }

    /// Applies one committed entry of a data group and answers who waited for it.
    fn apply_entry(&mut self, id: GroupId, entry: Entry) {
        let Entry { index, term, kind, data } = entry;
        let point = LogPoint { index, term };
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        let location = group.take_location(index);
        match kind {
            EntryKind::Change => self.apply_change(id, &data),
            EntryKind::Data if data.is_empty() => {}
            EntryKind::Data => self.apply_operations(id, data, EntryPlace { location, term }),
        }
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        group.applied = point;
        group.consensus.applied(point);
        for waiter in group.committed(point) {
            self.answer(waiter);
        }
    }

    /// Also used while recovering, before anything is connected.
    pub(super) fn apply_operations(&mut self, id: GroupId, data: Bytes, place: EntryPlace) {
        for operation in operations(data) {
            let operation =
                operation.expect("an entry that passed its checksum is what was written");
            if let (Some(stream), Some(group)) = (operation.stream(), self.groups.get_mut(&id)) {
                group.pages.touch(stream);
            }
            match operation {
                Operation::Append { stream, base_offset, batch, position } => {
                    self.apply_append(stream, base_offset, batch, position, place);
                }
                Operation::Settle { stream, delta } => self.apply_settle(stream, &delta),
                Operation::Trim { stream, start } => self.apply_trim(stream, start),
                Operation::Offsets { commit } => {
                    let change = postcard::from_bytes::<super::groups::OffsetsChange>(&commit)
                        .expect("an entry that passed its checksum is what was written");
                    if let Some(group) = self.groups.get_mut(&id) {
                        change.touch(&mut group.pages.offsets);
                        change.apply(&mut group.offsets);
                    }
                }
                Operation::Mark => {}
                Operation::Once { stream, id } => self.apply_once(stream, id),
            }
        }
    }

    fn apply_append(
        &mut self,
        id: StreamId,
        base_offset: u64,
        batch: Bytes,
        position: usize,
        place: EntryPlace,
    ) {
        if self.is_deleted(id) {
            return;
        }
        let header = BatchHeader::new(&batch).expect("only checked batches are proposed");
        let (end, max_timestamp) = (header.next_offset(), header.max_timestamp());
        let producer = (header.producer_id() != NO_PRODUCER).then(|| ProducerBatch {
            producer_id: header.producer_id(),
            epoch: header.producer_epoch(),
            base_sequence: header.base_sequence(),
            count: u32::try_from(end - base_offset).expect("a batch counts its records in 32 bits"),
            base_offset,
            timestamp: Timestamp(max_timestamp),
        });
        let Some(group) = self.groups.get_mut(&id.group()) else {
            return;
        };
        let state = group.stream(id);
        state.note_epoch(u32::try_from(place.term).unwrap_or(u32::MAX), base_offset);
        state.end = state.end.max(end);
        state.next = state.next.max(end);
        if let Some(producer) = producer {
            state.producers.get_or_insert_default().commit(&producer);
        }
        let watchers = &mut state.watchers;
        let mut grown = Vec::new();
        watchers.retain(|watcher| {
            let waits = watcher.offset >= end;
            if !waits {
                grown.push((watcher.connection, watcher.token));
            }
            waits
        });
        if state.subscription.is_some() {
            self.deliverable.push(id);
        }
        self.place(id, batch, position, place);
        for (to, token) in grown {
            self.tell(to, Event::Grown { token });
        }
    }

    /// Makes a committed batch readable.
    fn place(&mut self, stream: StreamId, bytes: Bytes, position: usize, place: EntryPlace) {
        let header = BatchHeader::new(&bytes).expect("only checked batches are proposed");
        let stream = self.stored(stream);
        let placement = Placement {
            stream,
            base_offset: header.base_offset(),
            last_offset: header.next_offset() - 1,
            max_timestamp_ms: header.max_timestamp(),
            bytes: bytes.clone(),
            frame: place.location,
            position: u32::try_from(position).expect("a frame is below 4 GiB"),
        };
        if self.log.place(placement.clone()) == Placed::UnknownStream {
            self.log.create_stream(stream);
            // It begins above 0 if the rest went before this replica was sent the group's state.
            self.log.trim(stream, placement.base_offset);
            self.log.place(placement);
        }
    }

    /// Puts the batches of an entry whose effects a checkpoint holds back in their place.
    pub(super) fn place_again(&mut self, data: Bytes, place: EntryPlace) {
        for operation in operations(data) {
            let operation =
                operation.expect("an entry that passed its checksum is what was written");
            if let Operation::Append { stream, batch, position, .. } = operation {
                if self.stream_mut(stream).is_some() {
                    self.place(stream, batch, position, place);
                }
            }
        }
    }

    fn apply_settle(&mut self, id: StreamId, delta: &[u8]) {
        let delta = Delta::decode(&mut &delta[..]).expect("our own delta behind a checksum");
        let trims = self.trims_at_floor(id);
        let Some(state) = self.stream_mut(id) else {
            return;
        };
        let applied = state.subscription().cursor.apply(&delta);
        if applied.floor_moved && trims {
            state.trim_to(applied.floor);
            let start = state.start;
            self.log.trim(self.stored(id), start);
        }
        // A window that was full (packet identifiers) may have moved.
        self.deliverable.push(id);
    }

    fn apply_trim(&mut self, id: StreamId, start: u64) {
        let Some(state) = self.stream_mut(id) else {
            return;
        };
        state.trim_to(start);
        let start = state.start;
        let subscription = state.subscription.is_some();
        self.log.trim(self.stored(id), start);
        // Only the leader has a delta for the cursor to propose.
        let group = self.groups.get_mut(&id.group());
        let Some(group) = group.filter(|group| subscription && group.office.is_some()) else {
            return;
        };
        if let Some(subscription) = &mut group.stream(id).subscription {
            subscription.cursor.advance_floor(start);
        }
        group.note_settled(id);
    }

    /// Queues keep nothing that is settled; topics keep what retention says.
    pub(super) fn trims_at_floor(&self, id: StreamId) -> bool {
        !matches!(self.metadata.stream_owner(id), None | Some(StreamOwner::Topic { .. }))
    }

    fn answer(&mut self, waiter: Waiter) {
        match waiter {
            Waiter::Stored { home, ticket } if home == self.config.shard => {
                self.copy_stored(ticket, Ok(()));
            }
            Waiter::Stored { home, ticket } => {
                self.post(home, crate::mail::Mail::Stored { ticket, result: Ok(()) });
            }
            Waiter::Appended { connection, token, appended } => {
                self.tell(connection, Event::Appended { token, result: Ok(appended) });
            }
            Waiter::Purged { connection, token, count } => {
                self.tell(connection, Event::Purged { token, result: Ok(count) });
            }
            Waiter::Trimmed { connection, token, stream } => {
                let result = self.bounds(stream);
                self.tell(connection, Event::Bounds { token, result });
            }
            Waiter::Committed { connection, token } => {
                self.tell(connection, Event::Committed { token, result: Ok(()) });
            }
            Waiter::Synced { connection, token } => {
                self.tell(connection, Event::Synced { token, result: Ok(()) });
            }
            Waiter::Ask { connection, request } => self.carry_out_request(connection, *request),
        }
    }

    /// What a disk request brought.
    pub(super) fn log_completed(&mut self, completion: Completion) {
        if let Completion::Read { batches: Err(ReadError::Corrupt { stream, offset }), .. }
        | Completion::Timestamp {
            outcome: Err(ReadError::Corrupt { stream, offset }), ..
        }
        | Completion::Damaged { stream, offset } = &completion
        {
            self.note_damage(*stream, *offset);
        }
        match completion {
            Completion::Read { token, batches } => self.read_completed(token, batches),
            Completion::Timestamp { token, outcome } => self.search_completed(token, outcome),
            Completion::Internal
            | Completion::NoSpace
            | Completion::Damaged { .. }
            | Completion::Checkpointed { .. } => {}
        }
    }

    fn search_completed(&mut self, token: ReadToken, outcome: Result<TimestampOutcome, ReadError>) {
        let Some((stream, purpose)) = self.reads.remove(&token) else { return };
        let ReadPurpose::Locate { connection, token, timestamp } = purpose else { return };
        match outcome {
            Ok(outcome) => self.located(connection, token, stream, timestamp, outcome),
            Err(_) => {
                let result = Err(Refusal::Corrupt);
                self.tell(connection, Event::Located { token, result });
            }
        }
    }

    fn read_completed(&mut self, token: ReadToken, result: Result<Vec<Bytes>, ReadError>) {
        let Some((stream, purpose)) = self.reads.remove(&token) else {
            return;
        };
        match purpose {
            ReadPurpose::Session { connection, token } => {
                let bounds = match self.may_read(stream.group()) {
                    true => self.bounds(stream),
                    // Led from here when it was asked for.
                    false => Err(Refusal::NotLeader),
                };
                let result = match (result, bounds) {
                    (Ok(batches), Ok(bounds)) => Ok(ReadBatches { batches, bounds }),
                    (_, Err(refusal)) => Err(refusal),
                    (Err(_), _) => Err(Refusal::Corrupt),
                };
                self.tell(connection, Event::Read { token, result });
            }
            ReadPurpose::Window { offset } => self.window_read(stream, offset, result),
            ReadPurpose::Piece { to, install } => self.piece_read(stream, to, install, result),
            ReadPurpose::Locate { connection, token, timestamp } => {
                let found = match result {
                    Ok(batches) => {
                        Ok(batches.first().and_then(|batch| self.first_at(batch, timestamp)))
                    }
                    Err(_) => Err(Refusal::Corrupt),
                };
                self.tell(connection, Event::Located { token, result: found });
            }
        }
    }
}
