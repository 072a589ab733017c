//! Handing records to consumers: read ahead a window, ask the cursor whose turn it is, send.

use super::requests::PullRequest;
use super::{ReadPurpose, Shard};
use crate::stream::Subscription;
use bytes::Bytes;
use koine_base::{ConnectionId, StreamId};
use koine_broker::batch::{BatchHeader, Record};
use koine_broker::cursor::{self, Assign, ConsumerOptions};
use koine_broker::metadata::Refusal;
use koine_broker::session::{ConsumerId, Delivery, Event};
use koine_log::{ReadError, ReadOutcome};
use std::collections::BTreeMap;

/// Bytes read ahead for a cursor at a time.
const WINDOW_BYTES: usize = 256 << 10;

/// Records handed out of one stream before the others get their turn.
const TURN_RECORDS_MAX: usize = 4096;

/// Memory and wire overhead counted for each delivery beside its bytes.
const DELIVERY_OVERHEAD_BYTES: u64 = 64;

pub(super) fn delivery_bytes(delivery: &Delivery) -> u64 {
    delivery.record.body_bytes() as u64 + DELIVERY_OVERHEAD_BYTES
}

/// What a connection was handed out of this shard's streams and its socket has not taken.
#[derive(Default)]
pub(super) struct Untaken {
    bytes: u64,
    /// Its consumers get nothing, whatever credit they have.
    is_paused: bool,
}

/// What became of an attempt to have a record at hand.
enum Window {
    Has,
    /// It comes from disk; go on when it is there.
    Waits,
    /// No record has this offset any more; go on above it.
    Skipped,
    /// It cannot be read.
    Broken,
}

/// What became of a pull.
enum Pulled {
    /// The record, and how many stay ready behind it.
    Record(Delivery, u64),
    Nothing,
    /// The record comes from disk; answered when it is there.
    Waits,
}

impl Shard {
    pub(super) fn subscription(&mut self, stream: StreamId) -> Option<&mut Subscription> {
        self.stream_mut(stream)?.subscription.as_deref_mut()
    }

    /// Serves every stream that may have something for somebody.
    pub(super) fn dispatch(&mut self) {
        let mut streams = std::mem::take(&mut self.deliverable);
        streams.sort_unstable();
        streams.dedup();
        for stream in streams {
            if self.may_read(stream.group()) {
                self.dispatch_stream(stream);
            } else if self.may_serve(stream.group()) {
                // Another may lead by now; if not, that will show soon.
                self.deliverable.push(stream);
            }
        }
    }

    fn dispatch_stream(&mut self, id: StreamId) {
        let mut out: BTreeMap<cursor::ConsumerId, Vec<Delivery>> = BTreeMap::new();
        let mut handed = 0;
        loop {
            let Some(state) = self.stream_mut(id) else {
                return;
            };
            let end = state.end;
            let Some(subscription) = state.subscription.as_deref_mut() else {
                return;
            };
            if subscription.is_reading {
                break;
            }
            let Some((offset, _)) = subscription.cursor.next_wanted(end) else {
                break;
            };
            if subscription.at(offset).is_none() {
                match self.fill_window(id, offset, end) {
                    Window::Has | Window::Skipped => continue,
                    Window::Waits => break,
                    Window::Broken => {
                        self.cancel_pushed(id);
                        break;
                    }
                }
            }
            handed += Self::hand_out(subscription, offset, &mut out);
            if handed >= TURN_RECORDS_MAX {
                self.deliverable.push(id);
                break;
            }
        }
        self.send(id, out);
    }

    /// Gives out records of the window from `offset` on as long as they follow each other.
    fn hand_out(
        subscription: &mut Subscription,
        mut offset: u64,
        out: &mut BTreeMap<cursor::ConsumerId, Vec<Delivery>>,
    ) -> usize {
        let mut count = 0;
        while count < TURN_RECORDS_MAX {
            let Some(record) = subscription.at(offset) else {
                break;
            };
            let record = record.clone();
            match subscription.cursor.assign(offset) {
                Assign::Given(given) => {
                    let delivery = Delivery { offset, record, redelivered: given.redelivered };
                    subscription.sent(given.consumer, delivery_bytes(&delivery));
                    out.entry(given.consumer).or_default().push(delivery);
                    count += 1;
                }
                Assign::NotWanted | Assign::NoTaker => break,
            }
            subscription.window_at += 1;
            offset += 1;
        }
        if subscription.window_at >= subscription.window.len() {
            subscription.drop_window();
        }
        count
    }

    fn send(&mut self, id: StreamId, out: BTreeMap<cursor::ConsumerId, Vec<Delivery>>) {
        if out.is_empty() {
            return;
        }
        for (consumer, deliveries) in out {
            let Some(subscription) = self.subscription(id) else {
                return;
            };
            let Some(link) = subscription.links.get(&consumer) else {
                continue;
            };
            let (to, consumer) = (link.connection, link.consumer);
            self.count_untaken(to, deliveries.iter().map(delivery_bytes).sum());
            self.tell(to, Event::Deliveries { consumer, stream: id, deliveries });
        }
        // Deliveries that settle themselves have to be made durable.
        if let Some(group) = self.groups.get_mut(&id.group()) {
            group.note_settled(id);
        }
    }

    fn fill_window(&mut self, id: StreamId, offset: u64, end: u64) -> Window {
        let stored = self.stored(id);
        match self.log.read(stored, offset, WINDOW_BYTES, end) {
            ReadOutcome::Ready(batches) => self.put_window(id, offset, &batches),
            ReadOutcome::Pending(token, request) => {
                self.io.push_back(request);
                self.reads.insert(token, (id, ReadPurpose::Window { offset }));
                if let Some(subscription) = self.subscription(id) {
                    subscription.is_reading = true;
                }
                Window::Waits
            }
            ReadOutcome::OutOfRange { start, .. } if offset < start => {
                self.discard(id, offset..start);
                Window::Skipped
            }
            ReadOutcome::OutOfRange { .. } | ReadOutcome::UnknownStream => Window::Broken,
        }
    }

    /// What was read for a cursor from `offset` on is there. Meanwhile something else may have become
    /// next (a release, a purge): then the window is as good as any other, but says nothing about
    /// offsets below its own.
    pub(super) fn window_read(
        &mut self,
        id: StreamId,
        offset: u64,
        read: Result<Vec<Bytes>, ReadError>,
    ) {
        let Some(subscription) = self.subscription(id) else {
            return self.refuse_pulls(id, Refusal::NotFound);
        };
        subscription.is_reading = false;
        let window = match &read {
            Ok(batches) => self.put_window(id, offset, batches),
            Err(_) => Window::Broken,
        };
        if let Window::Broken = window {
            self.cancel_pushed(id);
            return self.refuse_pulls(id, Refusal::Corrupt);
        }
        self.deliverable.push(id);
        self.retry_pulls(id);
    }

    /// Decodes what was read from `offset` on; skips offsets that hold no record.
    fn put_window(&mut self, id: StreamId, offset: u64, batches: &[Bytes]) -> Window {
        let mut window: Vec<Record> = Vec::new();
        for batch in batches {
            let Ok(records) = koine_broker::batch::records(batch, &self.batch_limits) else {
                return if window.is_empty() {
                    Window::Broken
                } else {
                    break;
                };
            };
            for record in records {
                let Ok(record) = record else {
                    return Window::Broken;
                };
                if record.offset() >= offset {
                    window.push(record);
                }
            }
        }
        let Some(first) = window.first().map(Record::offset) else {
            return self.skip_empty(id, offset, batches);
        };
        if first > offset {
            self.discard(id, offset..first);
        }
        let Some(subscription) = self.subscription(id) else {
            return Window::Waits;
        };
        subscription.window = window;
        subscription.window_at = 0;
        if first > offset {
            Window::Skipped
        } else {
            Window::Has
        }
    }

    /// Batches without records stand for offsets that hold none.
    fn skip_empty(&mut self, id: StreamId, offset: u64, batches: &[Bytes]) -> Window {
        let header = batches.last().and_then(|last| BatchHeader::new(last).ok());
        let Some(end) = header.map(|header| header.next_offset()).filter(|end| *end > offset)
        else {
            return Window::Broken;
        };
        self.discard(id, offset..end);
        Window::Skipped
    }

    /// Settles offsets that hold no record (compacted, trimmed) so that the cursor passes them.
    fn discard(&mut self, id: StreamId, offsets: std::ops::Range<u64>) {
        let Some(subscription) = self.subscription(id) else {
            return;
        };
        subscription.cursor.discard(offsets);
        if let Some(group) = self.groups.get_mut(&id.group()) {
            group.note_settled(id);
        }
    }

    /// What the consumers read is gone or damaged: they are told and detached.
    pub(super) fn cancel_consumers(&mut self, id: StreamId) {
        let Some(subscription) = self.subscription(id) else {
            return;
        };
        let ids: Vec<_> = subscription.links.keys().copied().collect();
        self.cancel_links(id, ids);
    }

    /// The stream cannot be read. Whoever is sent records hears it now; whoever pulls hears it with the
    /// next pull, and may still settle what it holds.
    fn cancel_pushed(&mut self, id: StreamId) {
        let Some(subscription) = self.subscription(id) else {
            return;
        };
        let pushed = subscription.links.iter().filter(|(_, link)| !link.pull_only);
        let ids: Vec<_> = pushed.map(|(id, _)| *id).collect();
        self.cancel_links(id, ids);
    }

    fn cancel_links(&mut self, id: StreamId, mut ids: Vec<cursor::ConsumerId>) {
        let Some(subscription) = self.subscription(id) else {
            return;
        };
        ids.sort_unstable();
        let links: Vec<_> = ids.into_iter().filter_map(|id| subscription.detach(id)).collect();
        for link in links.into_iter().filter(|link| !link.pull_only) {
            let event = Event::ConsumerCancelled { consumer: link.consumer, stream: id };
            self.tell(link.connection, event);
        }
    }

    /// A connection with many consumers would have each one's [`crate::stream::UNTAKEN_BYTES_MAX`]
    /// waiting: all of them pause when together they have as much as one connection may.
    fn count_untaken(&mut self, to: ConnectionId, bytes: u64) {
        let untaken = self.untaken.entry(to).or_default();
        untaken.bytes += bytes;
        if untaken.is_paused || untaken.bytes < self.config.limits.output_bytes_max as u64 {
            return;
        }
        untaken.is_paused = true;
        for stream in self.streams_held_by(to) {
            self.pause_if_behind(to, stream);
        }
    }

    fn streams_held_by(&self, connection: ConnectionId) -> Vec<StreamId> {
        let held = self.held.get(&connection);
        let mut streams: Vec<StreamId> = held.into_iter().flatten().copied().collect();
        streams.sort_unstable();
        streams
    }

    /// Pauses the connection's consumers of `stream` if it has too much waiting already.
    pub(super) fn pause_if_behind(&mut self, connection: ConnectionId, stream: StreamId) {
        if !self.is_behind(connection) {
            return;
        }
        if let Some(subscription) = self.subscription(stream) {
            subscription.pause_connection(connection);
        }
    }

    fn is_behind(&self, connection: ConnectionId) -> bool {
        self.untaken.get(&connection).is_some_and(|untaken| untaken.is_paused)
    }

    /// The connection's socket took some of what it was sent: its consumers may go on.
    fn count_taken(&mut self, connection: ConnectionId, bytes: u64) {
        let Some(untaken) = self.untaken.get_mut(&connection) else {
            return;
        };
        untaken.bytes = untaken.bytes.saturating_sub(bytes);
        if untaken.bytes >= self.config.limits.output_bytes_max as u64 / 2 {
            return;
        }
        let was_paused = std::mem::take(&mut untaken.is_paused);
        if untaken.bytes == 0 {
            self.untaken.remove(&connection);
        }
        if !was_paused {
            return;
        }
        for stream in self.streams_held_by(connection) {
            let Some(subscription) = self.subscription(stream) else {
                continue;
            };
            if subscription.resume_connection(connection) {
                self.deliverable.push(stream);
            }
        }
    }

    /// A consumer's peer took what it was sent.
    pub(super) fn delivery_taken(
        &mut self,
        connection: ConnectionId,
        stream: StreamId,
        consumer: ConsumerId,
        bytes: u64,
    ) {
        self.count_taken(connection, bytes);
        let is_behind = self.is_behind(connection);
        let Some(subscription) = self.subscription(stream) else {
            return;
        };
        let Some(id) = subscription.find(connection, consumer) else {
            return;
        };
        if subscription.taken(id, bytes, is_behind) {
            self.deliverable.push(stream);
        }
    }

    /// Takes one record for a client that asks instead of being sent.
    pub(super) fn pull(&mut self, from: ConnectionId, pull: PullRequest) {
        match self.try_pull(from, pull) {
            Ok(Pulled::Record(delivery, left)) => {
                let result = Ok(Some((delivery, left)));
                self.tell(from, Event::Pulled { token: pull.token, result });
            }
            Ok(Pulled::Nothing) => {
                self.tell(from, Event::Pulled { token: pull.token, result: Ok(None) });
            }
            Ok(Pulled::Waits) => {}
            Err(refusal) => {
                self.tell(from, Event::Pulled { token: pull.token, result: Err(refusal) });
            }
        }
    }

    fn try_pull(&mut self, from: ConnectionId, pull: PullRequest) -> Result<Pulled, Refusal> {
        let id = pull.stream;
        if !self.may_read(id.group()) {
            return Err(Refusal::NotLeader);
        }
        if self.is_deleted(id) {
            return Err(Refusal::NotFound);
        }
        let Some(group) = self.groups.get_mut(&id.group()) else {
            return Err(Refusal::NotFound);
        };
        let state = group.stream(id);
        let end = state.end;
        let subscription = state.subscription();
        let holder = match subscription.find(from, pull.consumer) {
            Some(holder) => holder,
            None => {
                let options = ConsumerOptions { pull_only: true, ..ConsumerOptions::default() };
                let attached = subscription.attach(from, pull.consumer, options);
                let holder = attached.map_err(|_| Refusal::Exclusive)?;
                self.held.entry(from).or_default().insert(id);
                holder
            }
        };
        loop {
            let Some(subscription) = self.subscription(id) else {
                return Err(Refusal::NotFound);
            };
            let Some(ready) = subscription.cursor.next_ready(end) else {
                return Ok(Pulled::Nothing);
            };
            let offset = ready.start;
            if let Some(record) = subscription.at(offset).cloned() {
                let given = subscription.cursor.pull(offset, holder, pull.auto_settle);
                let Some(given) = given else {
                    return Ok(Pulled::Nothing);
                };
                let left = subscription.cursor.ready_count(end);
                let delivery = Delivery { offset, record, redelivered: given.redelivered };
                if pull.auto_settle {
                    if let Some(group) = self.groups.get_mut(&id.group()) {
                        group.note_settled(id);
                    }
                }
                return Ok(Pulled::Record(delivery, left));
            }
            if subscription.is_reading {
                self.waiting_pulls.push((from, pull));
                return Ok(Pulled::Waits);
            }
            match self.fill_window(id, offset, end) {
                Window::Has | Window::Skipped => {}
                Window::Waits => {
                    self.waiting_pulls.push((from, pull));
                    return Ok(Pulled::Waits);
                }
                Window::Broken => return Err(Refusal::Corrupt),
            }
        }
    }

    /// The window is there: pulls that waited for it try again.
    fn retry_pulls(&mut self, id: StreamId) {
        for (from, pull) in self.take_pulls(|_, pull| pull.stream == id) {
            self.pull(from, pull);
        }
    }

    /// Nothing will come for the pulls that wait.
    pub(super) fn refuse_pulls(&mut self, id: StreamId, refusal: Refusal) {
        for (from, pull) in self.take_pulls(|_, pull| pull.stream == id) {
            self.tell(from, Event::Pulled { token: pull.token, result: Err(refusal) });
        }
    }

    /// The consumer ends: what it wanted to pull stays where it is.
    pub(super) fn end_pulls(&mut self, of: ConnectionId, id: StreamId, consumer: ConsumerId) {
        let is_its = |from: ConnectionId, pull: &PullRequest| {
            (from, pull.stream, pull.consumer) == (of, id, consumer)
        };
        for (from, pull) in self.take_pulls(is_its) {
            self.tell(from, Event::Pulled { token: pull.token, result: Ok(None) });
        }
    }

    pub(super) fn forget_pulls(&mut self, of: ConnectionId) {
        self.waiting_pulls.retain(|(from, _)| *from != of);
    }

    fn take_pulls(
        &mut self,
        wanted: impl Fn(ConnectionId, &PullRequest) -> bool,
    ) -> Vec<(ConnectionId, PullRequest)> {
        let waiting = std::mem::take(&mut self.waiting_pulls);
        let (taken, rest) = waiting.into_iter().partition(|(from, pull)| wanted(*from, pull));
        self.waiting_pulls = rest;
        taken
    }
}
