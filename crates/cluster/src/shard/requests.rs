//! Requests of sessions: finding the shard that owns what they are about, and carrying them out there.

use super::{ReadPurpose, Shard};
use crate::group::{DataGroup, Waiter, ENTRY_BYTES_MAX};
use crate::mail::Mail;
use crate::stream::Watcher;
use bytes::Bytes;
use koine_base::{ConnectionId, GroupId, ShardId, StreamId, Timestamp};
use koine_broker::batch::BatchInfo;
use koine_broker::cursor::{AttachError, ConsumerOptions};
use koine_broker::metadata::{Command, Named, NamespaceId, Queue, Refusal, StreamOwner};
use koine_broker::producers::{ProducerBatch, Verdict};
use koine_broker::session::{
    Appended, Attach, ConsumerId, Event, OffsetRange, QueueStatus, ReadBatches, Request,
    Settlement, StreamBounds, Token,
};
use koine_log::{ReadOutcome, TimestampOutcome};

/// A `Pull` on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct PullRequest {
    pub token: Token,
    pub stream: StreamId,
    pub consumer: ConsumerId,
    pub auto_settle: bool,
}

/// What became of a batch that was not refused.
enum Taken {
    New(Appended),
    /// A repetition of one that is not committed yet.
    UnderWay(Appended),
    /// A repetition of one that is: there is nothing to wait for, not even for room on the disk.
    Before(Appended),
}

/// What a producer's batch is to what its stream has of it, and at which offset.
enum Repetition {
    No,
    OfStored(u64),
    OfProposed(u64),
}

impl Shard {
    /// Sends a session's request where it belongs.
    pub(super) fn route_request(&mut self, from: ConnectionId, request: Request) {
        let Some(request) = self.refuse_for_space(from, request) else {
            return;
        };
        let owner = match &request {
            Request::Publish { .. } => {
                if let Request::Publish { token, content, route, once } = request {
                    self.publish(from, token, content, route, once);
                }
                return;
            }
            Request::ListGroups { token } => {
                let token = *token;
                return self.ask_for_groups(from, token);
            }
            Request::Append { .. } => {
                if let Request::Append { token, stream, batch, info } = request {
                    let token = self.count_append(from, token, batch.len());
                    self.send_request(from, stream, Request::Append { token, stream, batch, info });
                }
                return;
            }
            Request::Propose { token, command: Command::Retain { content, .. } } => {
                let bytes = content.as_ref().map_or(0, Vec::len);
                self.count_append(from, Some(*token), bytes);
                ShardId(0)
            }
            Request::Propose { .. } | Request::Retained { .. } | Request::Authenticate { .. } => {
                ShardId(0)
            }
            Request::DeleteQueue { namespace, name, .. } => {
                let named = self.metadata.named(*namespace, name);
                let stream = named.and_then(|named| named.stream(0));
                stream.map_or(ShardId(0), |stream| self.owner(stream))
            }
            Request::Group { request, .. } => self.coordinator_shard(request.group()),
            Request::CommitOffsets { group, .. }
            | Request::FetchOffsets { group, .. }
            | Request::DeleteOffsets { group, .. } => self.coordinator_shard(group),
            Request::Read { stream, .. }
            | Request::Watch { stream, .. }
            | Request::Unwatch { stream, .. }
            | Request::Bounds { stream, .. }
            | Request::Locate { stream, .. }
            | Request::EpochEnd { stream, .. }
            | Request::Trim { stream, .. }
            | Request::Credit { stream, .. }
            | Request::Stop { stream, .. }
            | Request::Detach { stream, .. }
            | Request::Settle { stream, .. }
            | Request::Sync { stream, .. }
            | Request::Pull { stream, .. }
            | Request::Purge { stream, .. }
            | Request::Status { stream, .. } => self.owner(*stream),
            Request::Attach { attach, .. } => self.owner(attach.stream),
        };
        if owner == self.config.shard {
            self.own_request(from, request);
        } else {
            self.outbox.push((owner, Mail::Request { from, request }));
        }
    }

    fn send_request(&mut self, from: ConnectionId, stream: StreamId, request: Request) {
        let owner = self.owner(stream);
        if owner == self.config.shard {
            self.own_request(from, request);
        } else {
            self.outbox.push((owner, Mail::Request { from, request }));
        }
    }

    fn coordinator_shard(&self, group_name: &str) -> ShardId {
        self.config.layout.shard_of(self.metadata.coordinator(group_name))
    }

    /// Takes a request about something that this shard owns. What asks for the records of a stream
    /// comes after the appends that were made before it, as a client sees its own publishes.
    pub(super) fn own_request(&mut self, from: ConnectionId, request: Request) {
        let Some(request) = self.admit(from, request) else { return };
        let asked = match &request {
            Request::Pull { stream, .. }
            | Request::Purge { stream, .. }
            | Request::Status { stream, .. } => Some(*stream),
            Request::DeleteQueue { namespace, name, .. } => {
                self.metadata.queue(*namespace, name).map(Queue::stream)
            }
            _ => None,
        };
        let Some(stream) = asked.filter(|stream| self.has_appends_under_way(*stream)) else {
            return self.carry_out_request(from, request);
        };
        self.held.entry(from).or_default().insert(stream);
        if let Some(group) = self.groups.get_mut(&stream.group()) {
            group.wait_for_appends(Waiter::Ask { connection: from, request: Box::new(request) });
        }
    }

    fn has_appends_under_way(&mut self, stream: StreamId) -> bool {
        self.stream_mut(stream).is_some_and(|state| state.next > state.end)
    }

    pub(super) fn carry_out_request(&mut self, from: ConnectionId, request: Request) {
        match request {
            Request::Propose { token, command } => self.propose_command(from, token, command),
            Request::Retained { token, namespace, filter, after } => {
                self.read_retained(from, token, namespace, &filter, after.as_ref());
            }
            Request::Append { token, stream, batch, info } => {
                self.append(from, token, stream, &batch, &info);
            }
            Request::Read { token, stream, offset, bytes_max } => {
                self.read(from, token, stream, offset, bytes_max);
            }
            Request::Watch { token, stream, offset } => self.watch(from, token, stream, offset),
            Request::Unwatch { token, stream } => {
                if let Some(stream) = self.stream_mut(stream) {
                    stream.watchers.retain(|w| (w.connection, w.token) != (from, token));
                }
            }
            Request::Bounds { token, stream } => {
                let result = self.bounds(stream);
                self.tell(from, Event::Bounds { token, result });
            }
            Request::Locate { token, stream, timestamp } => {
                self.locate(from, token, stream, timestamp);
            }
            Request::EpochEnd { token, stream, epoch } => {
                let current = self.groups.get(&stream.group()).map_or(-1, DataGroup::epoch);
                let found = self.live_stream(stream);
                let found = found.map(|stream| stream.epoch_end(epoch, current));
                self.tell(from, Event::EpochEnd { token, result: found });
            }
            Request::Trim { token, stream, offset } => self.trim(from, token, stream, offset),
            Request::DeleteQueue { token, namespace, name, if_unused, if_empty } => {
                self.check_deletion(from, token, namespace, name, if_unused, if_empty);
            }
            Request::Group { token, request } => self.group_request(from, token, request),
            Request::Authenticate { token, address, credentials } => {
                self.authenticate(from, token, address, credentials);
            }
            Request::CommitOffsets { token, group, member, offsets } => {
                self.commit_offsets(from, token, group, member, offsets);
            }
            Request::FetchOffsets { token, group, partitions } => {
                self.fetch_offsets(from, token, &group, partitions);
            }
            Request::DeleteOffsets { token, group, partitions } => {
                self.delete_offsets(from, token, group, partitions);
            }
            consumer => self.consumer_request(from, consumer),
        }
    }

    fn consumer_request(&mut self, from: ConnectionId, request: Request) {
        match request {
            Request::Attach { token, attach } => self.attach(from, token, &attach),
            Request::Credit { stream, consumer, add } => {
                if let Some(subscription) = self.subscription(stream) {
                    if let Some(id) = subscription.find(from, consumer) {
                        subscription.add_credit(id, add);
                        self.deliverable.push(stream);
                    }
                }
            }
            Request::Stop { token, stream, consumer } => {
                if let Some(subscription) = self.subscription(stream) {
                    if let Some(id) = subscription.find(from, consumer) {
                        subscription.cursor.stop(id);
                    }
                }
                self.tell(from, Event::Stopped { token });
                self.delete_if_abandoned(stream);
            }
            Request::Detach { token, stream, consumer } => {
                self.end_pulls(from, stream, consumer);
                if let Some(subscription) = self.subscription(stream) {
                    if let Some(id) = subscription.find(from, consumer) {
                        subscription.detach(id);
                        self.deliverable.push(stream);
                    }
                }
                self.tell(from, Event::Detached { token });
                self.delete_if_abandoned(stream);
            }
            Request::Settle { stream, consumer, ranges, settlement } => {
                self.settle(from, stream, consumer, &ranges, settlement);
            }
            Request::Sync { token, stream } => match self.groups.get_mut(&stream.group()) {
                Some(group) => group.wait(Waiter::Synced { connection: from, token }),
                None => self.tell(from, Event::Synced { token, result: Ok(()) }),
            },
            Request::Pull { token, stream, consumer, auto_settle } => {
                self.pull(from, PullRequest { token, stream, consumer, auto_settle });
            }
            Request::Purge { token, stream } => self.purge(from, token, stream),
            Request::Status { token, stream } => {
                let result = self.status(stream);
                self.tell(from, Event::Status { token, result });
            }
            other => unreachable!("handled before: {other:?}"),
        }
    }

    /// True if the stream was there once and is not any more.
    pub(super) fn is_deleted(&self, stream: StreamId) -> bool {
        self.metadata.was_placed(stream) && self.metadata.stream_owner(stream).is_none()
    }

    pub(super) fn stream_mut(&mut self, stream: StreamId) -> Option<&mut crate::stream::Stream> {
        let group = self.groups.get_mut(&stream.group())?;
        let state = group.streams.get_mut(&stream)?;
        // Whoever asks may change what a checkpoint says of it.
        group.pages.touch(stream);
        Some(state)
    }

    /// The stream's state, made if it has none yet; refused if it was deleted.
    fn live_stream(&mut self, stream: StreamId) -> Result<&mut crate::stream::Stream, Refusal> {
        if self.is_deleted(stream) {
            return Err(Refusal::NotFound);
        }
        let group = self.groups.get_mut(&stream.group()).ok_or(Refusal::NotFound)?;
        Ok(group.stream(stream))
    }

    pub(super) fn bounds(&mut self, stream: StreamId) -> Result<StreamBounds, Refusal> {
        let epoch = self.groups.get(&stream.group()).map_or(-1, crate::group::DataGroup::epoch);
        let state = self.live_stream(stream)?;
        Ok(StreamBounds { start: state.start, end: state.end, epoch })
    }

    fn append(
        &mut self,
        from: ConnectionId,
        token: Option<Token>,
        stream: StreamId,
        batch: &Bytes,
        info: &BatchInfo,
    ) {
        let result = self.try_append(stream, batch, info);
        let Some(token) = token else { return };
        let group = self.groups.get_mut(&stream.group());
        let waiter = |appended| Waiter::Appended { connection: from, token, appended };
        match (result, group) {
            (Ok(Taken::New(appended)), Some(group)) => group.wait(waiter(appended)),
            (Ok(Taken::UnderWay(appended)), Some(group)) => {
                group.wait_for_appends(waiter(appended));
            }
            (Ok(Taken::Before(appended)), _) => {
                self.tell(from, Event::Appended { token, result: Ok(appended) });
            }
            (Ok(_), None) => {}
            (Err(refusal), _) => {
                self.tell(from, Event::Appended { token, result: Err(refusal) });
            }
        }
    }

    fn try_append(
        &mut self,
        stream: StreamId,
        batch: &Bytes,
        info: &BatchInfo,
    ) -> Result<Taken, Refusal> {
        if batch.len() > ENTRY_BYTES_MAX {
            return Err(Refusal::TooLarge);
        }
        let topic = match self.metadata.stream_owner(stream) {
            Some(StreamOwner::Topic { namespace, name, .. }) => {
                self.metadata.topic(*namespace, name)
            }
            _ => None,
        };
        let stamps = topic.is_some_and(|topic| topic.settings.log_append_time == Some(true));
        // It may have written to an earlier topic of that name, and goes on counting.
        let counts_on = topic.is_some_and(|topic| info.producer_id < topic.first_producer);
        let append_time = stamps.then_some(self.now.wall.0);
        let state = self.live_stream(stream)?;
        let log_start = state.start;
        let base_offset = state.next;
        if info.is_idempotent() {
            let batch = ProducerBatch {
                producer_id: info.producer_id,
                epoch: info.producer_epoch,
                base_sequence: info.base_sequence,
                count: info.record_count,
                base_offset,
                timestamp: self.now.wall,
            };
            let known = |base_offset| Appended { base_offset, log_start, log_append_time: None };
            match self.check_producer(stream, &batch, counts_on)? {
                Repetition::No => {}
                Repetition::OfStored(offset) => return Ok(Taken::Before(known(offset))),
                Repetition::OfProposed(offset) => return Ok(Taken::UnderWay(known(offset))),
            }
        }
        let group = self.groups.get_mut(&stream.group()).ok_or(Refusal::NotFound)?;
        let base_offset = group.add_batch(stream, batch, info.record_count, append_time);
        let log_append_time = append_time.map(Timestamp);
        Ok(Taken::New(Appended { base_offset, log_start, log_append_time }))
    }

    /// Proposes a batch of an idempotent producer, unless it is there already or may not come now.
    /// `counts_on`: a producer of which the stream knows nothing need not begin with sequence 0.
    fn check_producer(
        &mut self,
        stream: StreamId,
        batch: &ProducerBatch,
        counts_on: bool,
    ) -> Result<Repetition, Refusal> {
        let is_full = self.is_short_of_disk();
        let producers = self.live_stream(stream)?.producers.get_or_insert_default();
        let id = batch.producer_id;
        let mut verdict = producers.check(id, batch.epoch, batch.base_sequence, batch.count);
        if verdict == Verdict::OutOfOrder && counts_on && !producers.knows(id) {
            verdict = Verdict::Accept;
        }
        match verdict {
            Verdict::Duplicate { base_offset } => Ok(Repetition::OfStored(base_offset)),
            Verdict::InFlight { base_offset } => Ok(Repetition::OfProposed(base_offset)),
            // Also what follows a batch that was refused for space, and seems out of order.
            Verdict::Accept | Verdict::OutOfOrder if is_full => Err(Refusal::Busy),
            Verdict::Accept => {
                producers.propose(batch);
                Ok(Repetition::No)
            }
            Verdict::TooManyInFlight => Err(Refusal::Busy),
            // What came before may have gone to another leader by now.
            Verdict::OutOfOrder | Verdict::InvalidEpoch if !self.may_read(stream.group()) => {
                Err(Refusal::NotLeader)
            }
            Verdict::OutOfOrder => Err(Refusal::OutOfOrderSequence),
            Verdict::InvalidEpoch => Err(Refusal::InvalidProducerEpoch),
        }
    }

    fn read(
        &mut self,
        from: ConnectionId,
        token: Token,
        stream: StreamId,
        offset: u64,
        bytes_max: u32,
    ) {
        let bounds = match self.bounds(stream) {
            Ok(bounds) => bounds,
            Err(refusal) => {
                return self.tell(from, Event::Read { token, result: Err(refusal) });
            }
        };
        if offset < bounds.start || offset > bounds.end {
            let result = Err(Refusal::OffsetOutOfRange);
            return self.tell(from, Event::Read { token, result });
        }
        if offset == bounds.end {
            let result = Ok(ReadBatches { batches: Vec::new(), bounds });
            return self.tell(from, Event::Read { token, result });
        }
        let stored = self.stored(stream);
        match self.log.read(stored, offset, bytes_max as usize, bounds.end) {
            ReadOutcome::Ready(batches) => {
                let result = Ok(ReadBatches { batches, bounds });
                self.tell(from, Event::Read { token, result });
            }
            ReadOutcome::Pending(read, request) => {
                self.io.push_back(request);
                let purpose = ReadPurpose::Session { connection: from, token };
                self.reads.insert(read, (stream, purpose));
            }
            ReadOutcome::OutOfRange { .. } | ReadOutcome::UnknownStream => {
                let result = Err(Refusal::OffsetOutOfRange);
                self.tell(from, Event::Read { token, result });
            }
        }
    }

    fn watch(&mut self, from: ConnectionId, token: Token, stream: StreamId, offset: u64) {
        let grown = match self.live_stream(stream) {
            Ok(state) if state.end <= offset => {
                state.watchers.push(Watcher { connection: from, token, offset });
                false
            }
            // Already there, or gone: either way the session looks again.
            _ => true,
        };
        if grown {
            self.tell(from, Event::Grown { token });
        } else {
            self.held.entry(from).or_default().insert(stream);
        }
    }

    fn locate(&mut self, from: ConnectionId, token: Token, stream: StreamId, timestamp: Timestamp) {
        if let Err(refusal) = self.live_stream(stream) {
            return self.tell(from, Event::Located { token, result: Err(refusal) });
        }
        let outcome = self.log.offset_for_timestamp(self.stored(stream), timestamp.0);
        self.located(from, token, stream, timestamp.0, outcome);
    }

    /// A search by time found a batch, or found that it needs the disk.
    pub(super) fn located(
        &mut self,
        to: ConnectionId,
        token: Token,
        stream: StreamId,
        timestamp: i64,
        outcome: TimestampOutcome,
    ) {
        let purpose = ReadPurpose::Locate { connection: to, token, timestamp };
        let base_offset = match outcome {
            TimestampOutcome::Found { base_offset, .. } => base_offset,
            TimestampOutcome::None | TimestampOutcome::UnknownStream => {
                return self.tell(to, Event::Located { token, result: Ok(None) });
            }
            TimestampOutcome::Pending(read, request) => {
                self.io.push_back(request);
                self.reads.insert(read, (stream, purpose));
                return;
            }
        };
        let end = self.stream_mut(stream).map_or(0, |state| state.end);
        let stored = self.stored(stream);
        match self.log.read(stored, base_offset, 1, end) {
            ReadOutcome::Ready(batches) => {
                let found = batches.first().and_then(|batch| self.first_at(batch, timestamp));
                self.tell(to, Event::Located { token, result: Ok(found) });
            }
            ReadOutcome::Pending(read, request) => {
                self.io.push_back(request);
                self.reads.insert(read, (stream, purpose));
            }
            ReadOutcome::OutOfRange { .. } | ReadOutcome::UnknownStream => {
                self.tell(to, Event::Located { token, result: Ok(None) });
            }
        }
    }

    /// The first record of a batch at or after a time.
    pub(super) fn first_at(&self, batch: &Bytes, timestamp: i64) -> Option<(u64, Timestamp)> {
        let records = koine_broker::batch::records(batch, &self.batch_limits).ok()?;
        let mut records = records.filter_map(Result::ok);
        let first = records.find(|record| record.timestamp() >= timestamp)?;
        Some((first.offset(), Timestamp(first.timestamp())))
    }

    fn trim(&mut self, from: ConnectionId, token: Token, stream: StreamId, offset: u64) {
        let result = self.live_stream(stream).map(|state| state.end);
        let refused = match result {
            Ok(end) if offset != u64::MAX && offset > end => Err(Refusal::OffsetOutOfRange),
            Ok(end) => Ok(offset.min(end)),
            Err(refusal) => Err(refusal),
        };
        match (refused, self.groups.get_mut(&stream.group())) {
            (Ok(start), Some(group)) => {
                group.trim(stream, start);
                group.wait(Waiter::Trimmed { connection: from, token, stream });
            }
            (Err(refusal), _) => {
                self.tell(from, Event::Bounds { token, result: Err(refusal) });
            }
            (Ok(_), None) => {
                self.tell(from, Event::Bounds { token, result: Err(Refusal::NotFound) });
            }
        }
    }

    fn attach(&mut self, from: ConnectionId, token: Token, attach: &Attach) {
        let stream = attach.stream;
        let evicts =
            matches!(self.metadata.stream_owner(stream), Some(StreamOwner::Backlog { .. }));
        let subscription = match self.live_stream(stream) {
            Ok(state) => state.subscription(),
            Err(refusal) => {
                return self.tell(from, Event::Attached { token, result: Err(refusal) });
            }
        };
        if evicts {
            // A session's backlog has one reader: the connection that took the session last.
            let old: Vec<_> = subscription.links.keys().copied().collect();
            for id in old {
                subscription.detach(id);
            }
        }
        let options = ConsumerOptions {
            credit: attach.credit,
            auto_settle: attach.auto_settle,
            exclusive: attach.exclusive,
            pull_only: false,
            priority: attach.priority,
        };
        let result = match subscription.attach(from, attach.consumer, options) {
            Ok(id) => {
                subscription.cursor.set_offset_span_max(attach.offset_span_max);
                Ok(subscription.cursor.resume_half(id).into_iter().flatten().collect())
            }
            Err(AttachError::Exclusive) => Err(Refusal::Exclusive),
            Err(AttachError::AlreadyAttached) => Err(Refusal::AlreadyExists),
            Err(AttachError::TooMany) => Err(Refusal::QuotaExceeded),
        };
        if result.is_ok() {
            self.pause_if_behind(from, stream);
            self.held.entry(from).or_default().insert(stream);
            self.deliverable.push(stream);
        }
        self.tell(from, Event::Attached { token, result });
    }

    fn settle(
        &mut self,
        from: ConnectionId,
        stream: StreamId,
        consumer: ConsumerId,
        ranges: &[OffsetRange],
        settlement: Settlement,
    ) {
        use koine_broker::cursor::Outcome;
        let outcome = match settlement {
            Settlement::Ack | Settlement::Discard => Outcome::Ack,
            Settlement::Release => Outcome::Release { count_delivery: true },
            Settlement::Half => Outcome::Half,
        };
        let Some(subscription) = self.subscription(stream) else {
            return;
        };
        let Some(id) = subscription.find(from, consumer) else {
            return;
        };
        let mut settled = Vec::new();
        for (first, last) in ranges {
            let range = *first..last.saturating_add(1);
            subscription.cursor.settle(id, &[range], outcome, &mut settled);
        }
        if let Some(group) = self.groups.get_mut(&stream.group()) {
            group.note_settled(stream);
        }
        self.deliverable.push(stream);
    }

    fn purge(&mut self, from: ConnectionId, token: Token, stream: StreamId) {
        let state = match self.live_stream(stream) {
            Ok(state) => state,
            Err(refusal) => {
                return self.tell(from, Event::Purged { token, result: Err(refusal) });
            }
        };
        let end = state.end;
        let count = state.subscription().cursor.purge(end);
        state.subscription().drop_window();
        let Some(group) = self.groups.get_mut(&stream.group()) else {
            return;
        };
        group.note_settled(stream);
        group.wait(Waiter::Purged { connection: from, token, count });
    }

    fn status(&mut self, stream: StreamId) -> Result<QueueStatus, Refusal> {
        let bytes = self.log.size_bytes(self.stored(stream)).unwrap_or(0);
        let state = self.live_stream(stream)?;
        let mut status =
            QueueStatus { ready: state.ready_count(), bytes, ..QueueStatus::default() };
        if let Some(subscription) = &state.subscription {
            status.unacked = subscription.cursor.unacked_count();
            status.consumers =
                u32::try_from(subscription.cursor.consumer_count()).unwrap_or(u32::MAX);
        }
        Ok(status)
    }

    fn check_deletion(
        &mut self,
        from: ConnectionId,
        token: Token,
        namespace: NamespaceId,
        name: String,
        if_unused: bool,
        if_empty: bool,
    ) {
        let stream = match self.metadata.named(namespace, &name) {
            Some(Named::Queue(queue)) => queue.stream(),
            Some(Named::Topic(_)) => {
                let result = Err(Refusal::OtherKind);
                return self.tell(from, Event::QueueDeleted { token, result });
            }
            None => {
                let result = Err(Refusal::NotFound);
                return self.tell(from, Event::QueueDeleted { token, result });
            }
        };
        let checked = self.status(stream).and_then(|status| {
            if if_unused && status.consumers > 0 {
                return Err(Refusal::InUse);
            }
            if if_empty && status.ready > 0 {
                return Err(Refusal::NotEmpty);
            }
            Ok(status.ready)
        });
        match checked {
            Ok(message_count) => {
                let token = Some(token);
                let mail = Mail::DeleteChecked { from, token, namespace, name, message_count };
                self.post(ShardId(0), mail);
            }
            Err(refusal) => self.tell(from, Event::QueueDeleted { token, result: Err(refusal) }),
        }
    }

    /// An auto-delete queue goes with its last consumer.
    pub(super) fn delete_if_abandoned(&mut self, stream: StreamId) {
        let Some(StreamOwner::Queue { namespace, name }) = self.metadata.stream_owner(stream)
        else {
            return;
        };
        let (namespace, name) = (*namespace, name.clone());
        let queue = self.metadata.queue(namespace, &name);
        if !queue.is_some_and(|queue| queue.spec.auto_delete) {
            return;
        }
        let Some(subscription) = self.subscription(stream) else {
            return;
        };
        if subscription.was_consumed && subscription.cursor.consumer_count() == 0 {
            subscription.was_consumed = false;
            let from = ConnectionId::new(self.config.shard, 0);
            let mail = Mail::DeleteChecked { from, token: None, namespace, name, message_count: 0 };
            self.post(ShardId(0), mail);
        }
    }

    /// The connection is gone: what it held here goes back.
    pub(super) fn release_connection(&mut self, connection: ConnectionId) {
        self.forget_pulls(connection);
        self.untaken.remove(&connection);
        let Some(streams) = self.held.remove(&connection) else {
            return;
        };
        let mut streams: Vec<StreamId> = streams.into_iter().collect();
        streams.sort_unstable();
        for id in streams {
            if let Some(group) = self.groups.get_mut(&id.group()) {
                group.forget_asks(connection);
            }
            let Some(state) = self.stream_mut(id) else {
                continue;
            };
            state.watchers.retain(|watcher| watcher.connection != connection);
            if let Some(subscription) = &mut state.subscription {
                for consumer in subscription.of_connection(connection) {
                    subscription.detach(consumer);
                }
                self.deliverable.push(id);
            }
            self.delete_if_abandoned(id);
        }
    }

    pub(super) fn is_group_here(&self, group: GroupId) -> bool {
        self.groups.contains_key(&group)
    }
}
