//! One data group: its streams, and on its leader the entry that is being filled and those under way.
//! Everything that queues up while an entry is on its way to disk rides in the next one. What only the
//! leader has goes with [`DataGroup::abdicate`].

use crate::consensus::{HardState, LogPoint};
use crate::entry::EntryWriter;
use crate::pages::Pages;
use crate::raft::RaftGroup;
use crate::stream::{Stream, StreamMap};
use bytes::BytesMut;
use koine_base::{ConnectionId, GroupId, ShardId, StreamId};
use koine_broker::batch::{self, BatchBuilder};
use koine_broker::membership::Membership;
use koine_broker::message::{stored_prefix, Annotation, Content, Origin};
use koine_broker::offsets::Offsets;
use koine_broker::once::OnceId;
use koine_broker::session::{Appended, Request, Token};
use koine_log::FrameLocation;
use std::collections::{BTreeMap, VecDeque};

/// An entry is proposed at the latest when it has grown to this size, even while others are under way.
/// With what may come in one turn it stays below the size from which the allocator gives each block
/// pages of its own, which cost more to get and give back than what is written into them.
pub const ENTRY_BYTES_SOFT: usize = 640 << 10;

/// Largest entry: leaves room below the log's frame limit for one more request.
pub const ENTRY_BYTES_MAX: usize = 112 << 20;

/// A batch of other protocols' records is closed at this size: a reader takes whole batches.
const OPEN_BATCH_BYTES_MAX: usize = 256 << 10;

/// Whom to tell when the entry is committed and applied.
#[derive(Debug)]
pub enum Waiter {
    /// One part of a publish, counted on the publisher's shard.
    Stored {
        home: ShardId,
        ticket: u64,
    },
    Appended {
        connection: ConnectionId,
        token: Token,
        appended: Appended,
    },
    Purged {
        connection: ConnectionId,
        token: Token,
        count: u64,
    },
    Trimmed {
        connection: ConnectionId,
        token: Token,
        stream: StreamId,
    },
    Committed {
        connection: ConnectionId,
        token: Token,
    },
    Synced {
        connection: ConnectionId,
        token: Token,
    },
    /// Asks for what a stream holds, and appends to it were still under way.
    Ask {
        connection: ConnectionId,
        request: Box<Request>,
    },
}

/// Streams with neighbouring numbers that share a page.
pub const PAGE_STREAMS: u64 = 16;

/// The pages of a group's checkpoint.
#[derive(Default)]
pub struct GroupPages {
    /// By sequence number of the streams, in units of [`PAGE_STREAMS`].
    pub streams: Pages<u64>,
    /// By name of the consumer group.
    pub offsets: Pages<String>,
}

impl GroupPages {
    /// What a checkpoint says of the stream has changed.
    pub fn touch(&mut self, stream: StreamId) {
        self.streams.touch(stream.sequence() / PAGE_STREAMS);
    }
}

pub struct DataGroup {
    pub id: GroupId,
    /// Commits do not wait for the disk.
    pub is_relaxed: bool,
    pub consensus: RaftGroup,
    pub streams: StreamMap,
    pub membership: Membership,
    /// Committed offsets by consumer group.
    pub offsets: BTreeMap<String, Offsets>,
    /// What a checkpoint says of the streams and of the offsets.
    pub pages: GroupPages,
    /// Where the frames under way lie, by index.
    pub locations: VecDeque<(u64, FrameLocation)>,
    pub applied: LogPoint,
    pub hard_state: HardState,
    /// The term in which this replica leads, as far as the group has acted on it.
    pub office: Option<u64>,
    /// Its cursors and streams are a leader's: nothing was applied as a follower since.
    pub is_prepared: bool,
    /// The commit index that the log knows of.
    pub noted_commit: u64,
    /// Under which numbers the log keeps its streams: another each time the whole state is replaced.
    pub incarnation: u8,
    writer: EntryWriter,
    /// Streams with an open batch, in order of their first record.
    open: Vec<StreamId>,
    /// Streams whose cursor has something to make durable.
    settled: Vec<StreamId>,
    waiters: Vec<Waiter>,
    /// Waiters of the entries under way with their index, oldest first.
    under_way: VecDeque<(u64, Vec<Waiter>)>,
    /// Builders to use again. Boxed as in the streams that they go back and forth to.
    #[allow(clippy::vec_box)]
    spare: Vec<Box<BatchBuilder>>,
    prefix: BytesMut,
}

impl DataGroup {
    pub fn new(
        id: GroupId,
        is_relaxed: bool,
        consensus: RaftGroup,
        membership: Membership,
    ) -> Self {
        DataGroup {
            id,
            is_relaxed,
            consensus,
            streams: StreamMap::new(),
            membership,
            offsets: BTreeMap::new(),
            pages: GroupPages::default(),
            locations: VecDeque::new(),
            applied: LogPoint::default(),
            hard_state: HardState::default(),
            office: None,
            is_prepared: false,
            noted_commit: 0,
            incarnation: 0,
            writer: EntryWriter::default(),
            open: Vec::new(),
            settled: Vec::new(),
            waiters: Vec::new(),
            under_way: VecDeque::new(),
            spare: Vec::new(),
            prefix: BytesMut::new(),
        }
    }

    /// The leader epoch that new batches carry.
    pub fn epoch(&self) -> i32 {
        i32::try_from(self.consensus.term()).unwrap_or(i32::MAX)
    }

    pub fn stream(&mut self, stream: StreamId) -> &mut Stream {
        // Whoever asks may change what a checkpoint says of it.
        self.pages.touch(stream);
        self.streams.entry(stream).or_default()
    }

    pub fn wait(&mut self, waiter: Waiter) {
        self.waiters.push(waiter);
    }

    /// [`Self::wait`] for what is appended so far, without an entry of its own.
    pub fn wait_for_appends(&mut self, waiter: Waiter) {
        let all_are_under_way = self.writer.is_empty() && self.open.is_empty();
        match self.under_way.back_mut().filter(|_| all_are_under_way) {
            Some((_, last)) => last.push(waiter),
            None => self.waiters.push(waiter),
        }
    }

    /// The connection is gone: nobody is left to answer.
    pub fn forget_asks(&mut self, of: ConnectionId) {
        let is_kept = |waiter: &Waiter| !matches!(waiter, Waiter::Ask { connection, .. } if *connection == of);
        self.waiters.retain(is_kept);
        for (_, waiters) in &mut self.under_way {
            waiters.retain(is_kept);
        }
    }

    /// Adds a record of a protocol that does not write batches itself. Returns its offset.
    pub fn add_record(
        &mut self,
        id: StreamId,
        content: &Content,
        annotation: Option<&Annotation>,
    ) -> u64 {
        let stream = self.streams.entry(id).or_default();
        let offset = stream.next;
        stream.next += 1;
        let spare = &mut self.spare;
        let open = &mut self.open;
        let (_, builder) = stream.open_batch.get_or_insert_with(|| {
            open.push(id);
            let mut builder =
                spare.pop().unwrap_or_else(|| Box::new(BatchBuilder::new(content.timestamp.0)));
            builder.restart(content.timestamp.0);
            (offset, builder)
        });
        self.prefix.clear();
        stored_prefix(content, annotation, &mut self.prefix);
        let (origin, envelope) = (stored_origin(content.origin), &content.envelope[..]);
        builder.push_foreign(
            origin,
            content.timestamp.0,
            &[&self.prefix[..], envelope],
            content.key.as_deref(),
            &[content.body.as_deref().unwrap_or_default()],
        );
        if builder.batch_bytes() >= OPEN_BATCH_BYTES_MAX {
            self.close_batch(id);
        }
        offset
    }

    /// Adds a batch as a Kafka producer sent it. Returns its first offset.
    pub fn add_batch(
        &mut self,
        id: StreamId,
        bytes: &[u8],
        record_count: u32,
        append_time: Option<i64>,
    ) -> u64 {
        self.close_batch(id);
        let epoch = self.epoch();
        let stream = self.streams.entry(id).or_default();
        let base_offset = stream.next;
        stream.next += u64::from(record_count);
        let copy = self.writer.append(id, base_offset, bytes);
        batch::patch(copy, base_offset, epoch);
        if let Some(timestamp) = append_time {
            batch::set_append_time(copy, timestamp);
        }
        base_offset
    }

    fn close_batch(&mut self, id: StreamId) {
        let epoch = self.epoch();
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let Some((base_offset, mut builder)) = stream.open_batch.take() else {
            return;
        };
        let bytes = builder.finish(base_offset, epoch);
        self.writer.append(id, base_offset, &bytes);
        self.spare.push(builder);
    }

    /// The record just added to the stream is a copy of this exactly-once publish.
    pub fn note_once(&mut self, id: StreamId, once: OnceId) {
        self.writer.once(id, once);
        self.stream(id).once.get_or_insert_default().propose(&once);
    }

    pub fn trim(&mut self, stream: StreamId, start: u64) {
        self.writer.trim(stream, start);
    }

    pub fn commit_offsets(&mut self, commit: &[u8]) {
        self.writer.offsets(commit);
    }

    /// Notes that a stream's cursor has a delta to take along.
    pub fn note_settled(&mut self, stream: StreamId) {
        if self.settled.last() != Some(&stream) {
            self.settled.push(stream);
        }
    }

    fn has_pending(&self) -> bool {
        !(self.writer.is_empty()
            && self.open.is_empty()
            && self.settled.is_empty()
            && self.waiters.is_empty())
    }

    /// Proposes what queued up, if it is time. True if an entry was proposed.
    pub fn propose(&mut self) -> bool {
        if !self.has_pending() || !self.consensus.is_serving() {
            return false;
        }
        if !self.under_way.is_empty() && self.writer.len() < ENTRY_BYTES_SOFT {
            return false;
        }
        for id in std::mem::take(&mut self.open) {
            self.close_batch(id);
        }
        self.write_deltas();
        match (self.waiters.is_empty(), self.writer.holds_settlements_only()) {
            (true, _) if self.writer.is_empty() => return false,
            // Settlements alone are not synced for their own sake, but for whoever waits for them.
            (false, true) => self.writer.mark(),
            _ => {}
        }
        let entry = self.writer.take();
        let index = self.consensus.propose(entry).expect("a serving leader takes proposals");
        self.under_way.push_back((index, std::mem::take(&mut self.waiters)));
        true
    }

    fn write_deltas(&mut self) {
        let mut encoded = Vec::new();
        for id in std::mem::take(&mut self.settled) {
            self.pages.touch(id);
            let subscription = self.streams.get_mut(&id).and_then(|s| s.subscription.as_mut());
            let Some(delta) = subscription.and_then(|s| s.cursor.take_delta()) else {
                continue;
            };
            encoded.clear();
            delta.encode(&mut encoded);
            self.writer.settle(id, &encoded);
        }
    }

    /// The waiters of the entry at this point, if this replica proposed it in its present office: it was
    /// committed and applied.
    pub fn committed(&mut self, point: LogPoint) -> Vec<Waiter> {
        let is_own = self.office == Some(point.term);
        match self.under_way.front() {
            Some((index, _)) if is_own && *index == point.index => {
                self.under_way.pop_front().map(|(_, waiters)| waiters).unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }

    /// True if this replica may take what clients ask: it leads, all that was committed before is
    /// applied, and its state is a leader's.
    pub fn is_serving(&self) -> bool {
        self.is_prepared && self.office == self.consensus.office() && self.consensus.is_serving()
    }

    /// Notes where the entry with this index lies, which takes the place of those from there on.
    pub fn note_location(&mut self, index: u64, location: FrameLocation) {
        while self.locations.back().is_some_and(|(last, _)| *last >= index) {
            self.locations.pop_back();
        }
        self.locations.push_back((index, location));
    }

    pub fn take_location(&mut self, index: u64) -> FrameLocation {
        let (at, location) = self.locations.pop_front().expect("every entry was appended first");
        assert_eq!(at, index, "entries are applied in the order of their index");
        location
    }

    /// Leadership is lost: drops what only a leader has. Returns who waited, for an outcome that nobody
    /// here will know.
    pub fn abdicate(&mut self) -> Vec<Waiter> {
        self.is_prepared = false;
        self.writer.take();
        self.settled.clear();
        for id in std::mem::take(&mut self.open) {
            let open = self.streams.get_mut(&id).and_then(|stream| stream.open_batch.take());
            if let Some((_, builder)) = open {
                self.spare.push(builder);
            }
        }
        let under_way = std::mem::take(&mut self.under_way);
        let mut waiters: Vec<Waiter> =
            under_way.into_iter().flat_map(|(_, waiters)| waiters).collect();
        waiters.append(&mut self.waiters);
        waiters
    }

    /// All is applied that was committed before this replica's term of office: its streams and cursors
    /// become a leader's.
    pub fn prepare(&mut self) {
        for (id, stream) in &mut self.streams {
            self.pages.touch(*id);
            let end = stream.end;
            stream.next = end;
            stream.recovered_end = end;
            if let Some(producers) = &mut stream.producers {
                producers.abandon_proposed();
            }
            if let Some(once) = &mut stream.once {
                once.abandon_proposed();
            }
            if let Some(subscription) = &mut stream.subscription {
                subscription.cursor.recover(end);
            }
        }
        self.is_prepared = true;
    }

    /// True if nothing waits for the disk.
    pub fn is_quiet(&self) -> bool {
        self.under_way.is_empty() && !self.has_pending()
    }
}

/// Kafka's records reach other streams only forwarded, with their own kind of envelope.
fn stored_origin(origin: Origin) -> Origin {
    match origin {
        Origin::Kafka => Origin::KafkaForwarded,
        other => other,
    }
}
