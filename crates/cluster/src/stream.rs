//! One stream as its group's leader sees it: offsets, the batch that is being filled, its shared cursor
//! and who waits for it to grow.

use koine_base::{ConnectionId, StreamId};
use koine_broker::batch::{BatchBuilder, Record};
use koine_broker::cursor::{self, Cursor};
use koine_broker::once::OncePublishes;
use koine_broker::producers::Producers;
use koine_broker::session::{ConsumerId, Token};
use std::collections::HashMap;

/// Deliveries to one consumer that its peer's socket has not taken yet, in bytes; above it the
/// consumer waits, whatever credit it has.
pub const UNTAKEN_BYTES_MAX: u64 = 1 << 20;

#[derive(Default)]
pub struct Stream {
    /// Oldest offset kept.
    pub start: u64,
    /// Everything below is committed.
    pub end: u64,
    /// The next offset to give out; above `end` while entries are under way.
    pub next: u64,
    /// Everything below may have been delivered before this node started, whether or not the log
    /// knows of a cursor: one that only held and never settled leaves no trace there.
    pub recovered_end: u64,
    /// Its end when retention last looked; `None` before that.
    pub seen_by_retention: Option<u64>,
    /// Leader epochs with the first offset of each, oldest first.
    pub epochs: Vec<(u32, u64)>,
    pub producers: Option<Box<Producers>>,
    /// Made with the first exactly-once publish.
    pub once: Option<Box<OncePublishes>>,
    pub subscription: Option<Box<Subscription>>,
    pub watchers: Vec<Watcher>,
    /// Records of other protocols than Kafka that join the next entry, and their first offset.
    pub open_batch: Option<(u64, Box<BatchBuilder>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watcher {
    pub connection: ConnectionId,
    pub token: Token,
    pub offset: u64,
}

impl Stream {
    /// Notes that records from `base_offset` on carry leader epoch `term`.
    pub fn note_epoch(&mut self, term: u32, base_offset: u64) {
        match self.epochs.last() {
            Some((last, _)) if *last >= term => {}
            _ => self.epochs.push((term, base_offset)),
        }
    }

    /// Where leader epoch `epoch` ends, and the epoch of the last record before that if it is another;
    /// `None` for 0, which no leader has, and for one that is not known yet. `current` is that of the group. An epoch without records ends
    /// where the next one with some begins (Kafka's `LeaderEpochFileCache`).
    pub fn epoch_end(&self, epoch: i32, current: i32) -> Option<(i32, u64)> {
        let asked = u32::try_from(epoch).ok().filter(|asked| *asked > 0 && epoch <= current)?;
        if epoch == current {
            return Some((epoch, self.end));
        }
        let behind = self.epochs.partition_point(|(known, _)| *known <= asked);
        let end = self.epochs.get(behind).map_or(self.end, |(_, start)| *start);
        let known = behind.checked_sub(1).map(|at| self.epochs[at].0);
        Some((known.map_or(epoch, |known| i32::try_from(known).unwrap_or(i32::MAX)), end))
    }

    /// Forgets epochs whose records are all below `start`.
    pub fn trim_to(&mut self, start: u64) {
        self.start = self.start.max(start.min(self.end));
        let covering = self.epochs.iter().rposition(|(_, from)| *from <= self.start);
        if let Some(covering) = covering {
            self.epochs.drain(..covering);
        }
    }

    /// The shared cursor, made at the oldest record on first use.
    pub fn subscription(&mut self) -> &mut Subscription {
        let (start, recovered_end) = (self.start, self.recovered_end);
        self.subscription.get_or_insert_with(|| {
            let mut cursor = Cursor::new(start);
            cursor.recover(recovered_end);
            Box::new(Subscription::new(cursor))
        })
    }

    /// Records that are neither settled nor handed out.
    pub fn ready_count(&self) -> u64 {
        match &self.subscription {
            Some(subscription) => subscription.cursor.ready_count(self.end),
            None => self.end - self.start,
        }
    }
}

/// The one shared cursor of a stream with the consumers on it.
pub struct Subscription {
    pub cursor: Cursor,
    pub links: HashMap<cursor::ConsumerId, Link>,
    by_session: HashMap<(ConnectionId, ConsumerId), cursor::ConsumerId>,
    next_id: u64,
    /// Records read ahead, ascending by offset; those below `window_at` are behind.
    pub window: Vec<Record>,
    pub window_at: usize,
    /// A read from disk is under way.
    pub is_reading: bool,
    /// A consumer was attached once: an auto-delete queue goes when none is left.
    pub was_consumed: bool,
}

/// One consumer's way back to its session.
pub struct Link {
    pub connection: ConnectionId,
    pub consumer: ConsumerId,
    pub pull_only: bool,
    pub untaken_bytes: u64,
    /// What credit it had when its socket fell behind.
    pub paused_credit: Option<u32>,
}

impl Subscription {
    pub fn new(cursor: Cursor) -> Self {
        Subscription {
            cursor,
            links: HashMap::new(),
            by_session: HashMap::new(),
            next_id: 1,
            window: Vec::new(),
            window_at: 0,
            is_reading: false,
            was_consumed: false,
        }
    }

    pub fn find(
        &self,
        connection: ConnectionId,
        consumer: ConsumerId,
    ) -> Option<cursor::ConsumerId> {
        self.by_session.get(&(connection, consumer)).copied()
    }

    pub fn attach(
        &mut self,
        connection: ConnectionId,
        consumer: ConsumerId,
        options: cursor::ConsumerOptions,
    ) -> Result<cursor::ConsumerId, cursor::AttachError> {
        if self.by_session.contains_key(&(connection, consumer)) {
            return Err(cursor::AttachError::AlreadyAttached);
        }
        let id = cursor::ConsumerId(self.next_id);
        self.cursor.attach(id, options)?;
        self.next_id += 1;
        self.by_session.insert((connection, consumer), id);
        let pull_only = options.pull_only;
        self.was_consumed |= !pull_only;
        let link = Link { connection, consumer, pull_only, untaken_bytes: 0, paused_credit: None };
        self.links.insert(id, link);
        Ok(id)
    }

    /// Ends one consumer; what it held goes back to its place.
    pub fn detach(&mut self, id: cursor::ConsumerId) -> Option<Link> {
        let link = self.links.remove(&id)?;
        self.by_session.remove(&(link.connection, link.consumer));
        self.cursor.detach(id);
        Some(link)
    }

    /// Every consumer of a connection, in order of attachment.
    pub fn of_connection(&self, connection: ConnectionId) -> Vec<cursor::ConsumerId> {
        let links = self.links.iter().filter(|(_, link)| link.connection == connection);
        let mut ids: Vec<_> = links.map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }

    pub fn add_credit(&mut self, id: cursor::ConsumerId, add: u32) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        match &mut link.paused_credit {
            Some(paused) if *paused != cursor::CREDIT_UNLIMITED => {
                *paused = paused.saturating_add(add).min(cursor::CREDIT_UNLIMITED - 1);
            }
            Some(_) => {}
            None => self.cursor.add_credit(id, add),
        }
    }

    /// Counts a delivery on its way; pauses a consumer whose socket falls behind.
    pub fn sent(&mut self, id: cursor::ConsumerId, bytes: u64) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        link.untaken_bytes += bytes;
        if link.untaken_bytes >= UNTAKEN_BYTES_MAX {
            self.pause(id);
        }
    }

    fn pause(&mut self, id: cursor::ConsumerId) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        if link.paused_credit.is_none() && !link.pull_only {
            link.paused_credit = Some(self.cursor.credit(id));
            self.cursor.set_credit(id, 0);
        }
    }

    /// The connection as a whole has fallen behind.
    pub fn pause_connection(&mut self, connection: ConnectionId) {
        for id in self.of_connection(connection) {
            self.pause(id);
        }
    }

    /// It goes on; true if one of its consumers here does.
    pub fn resume_connection(&mut self, connection: ConnectionId) -> bool {
        let mut resumed = false;
        for id in self.of_connection(connection) {
            resumed |= self.resume(id);
        }
        resumed
    }

    /// The peer's socket took some; true if a paused consumer goes on, which it does not while its
    /// connection is behind.
    pub fn taken(&mut self, id: cursor::ConsumerId, bytes: u64, is_behind: bool) -> bool {
        let Some(link) = self.links.get_mut(&id) else {
            return false;
        };
        link.untaken_bytes = link.untaken_bytes.saturating_sub(bytes);
        !is_behind && self.resume(id)
    }

    fn resume(&mut self, id: cursor::ConsumerId) -> bool {
        let Some(link) = self.links.get_mut(&id) else {
            return false;
        };
        if link.untaken_bytes >= UNTAKEN_BYTES_MAX / 2 {
            return false;
        }
        let Some(credit) = link.paused_credit.take() else {
            return false;
        };
        self.cursor.set_credit(id, credit);
        true
    }

    /// The record at `offset` if it was read ahead.
    pub fn at(&mut self, offset: u64) -> Option<&Record> {
        let hint = self.window.get(self.window_at);
        if hint.is_none_or(|record| record.offset() != offset) {
            self.window_at = self.window.binary_search_by_key(&offset, Record::offset).ok()?;
        }
        self.window.get(self.window_at)
    }

    pub fn drop_window(&mut self) {
        self.window = Vec::new();
        self.window_at = 0;
    }
}

/// Streams whose owner is a queue are trimmed at their cursor's floor; topics by retention.
pub type StreamMap = HashMap<StreamId, Stream>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_end_where_the_next_one_with_records_begins() {
        let mut stream = Stream { end: 30, ..Stream::default() };
        for (epoch, start) in [(3, 5), (4, 10), (8, 20)] {
            stream.note_epoch(epoch, start);
        }
        let check = |epoch, expect| assert_eq!(stream.epoch_end(epoch, 9), expect, "{epoch}");
        check(-1, None);
        check(0, None);
        check(1, Some((1, 5)));
        check(3, Some((3, 10)));
        check(5, Some((4, 20)));
        check(8, Some((8, 30)));
        check(9, Some((9, 30)));
        check(10, None);
        assert_eq!(Stream::default().epoch_end(1, 2), Some((1, 0)), "a stream without records");
    }
}
