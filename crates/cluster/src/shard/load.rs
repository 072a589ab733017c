//! What peers make this shard hold, and what it does when that is too much: the memory alarm, reading
//! large frames one after the other, each connection's share of the output, and closing those who keep
//! what the node needs. And the disk alarm, of which the host and the logs are the sources.
//!
//! Nothing here may wait for what only a stopped peer could bring: all that is counted on the incoming
//! side goes away by itself, as publishes are committed and the frame whose turn it is becomes whole.
//! That frame is read on only while publishes hold no more than their part of the budget: each that
//! becomes whole is one more of them, and a disk that is slower than the peers would never catch up.
//! Only what has come is counted, so that announcing much costs nobody anything. Small beginnings of
//! frames are not counted; a connection has at most [`FRAME_BYTES_FREE`] of them.

use super::{Shard, Work};
use koine_base::{ConnectionId, Moment, Now, ShardId};
use koine_broker::metadata::{Command, Refusal};
use koine_broker::overload::Alarms;
use koine_broker::session::{Event, Protocol, Request, Route, Session};
use std::collections::{BTreeSet, VecDeque};

/// What a connection may have of a frame uncounted: about one read from its socket, which is also what
/// lies here of one that is not read on.
const FRAME_BYTES_FREE: usize = 64 << 10;

/// The memory alarm stays this long at least: telling all sessions has its price.
const ALARM_MS_MIN: u64 = 100;

/// How often to look for peers that hold what the node needs.
const LOOK_EVERY_MS: u64 = 1_000;

/// Where frames of the output end is noted about this often, for cutting it there.
const BOUNDARY_EVERY_BYTES: u64 = 64 << 10;

/// What one connection holds.
#[derive(Default)]
pub(super) struct Held {
    /// Of a frame that is not whole, if that is a large one.
    incoming: usize,
    /// Since when it could have sent the rest.
    incoming_since: Moment,
    /// It is not read on until it is its turn.
    pub waits: bool,
    /// Output and what the session gathers for it.
    outgoing: usize,
    /// Of these, bytes in the output.
    wire: usize,
    /// Of the output that waited at `owed_since`, what the peer has not taken yet.
    owed: usize,
    owed_since: Moment,
    /// Bytes ever put into the output, and taken from it.
    put: u64,
    taken: u64,
    /// Values of `put` at which no frame is half in the output, rising.
    boundaries: VecDeque<u64>,
}

/// What all connections of a shard hold.
pub(super) struct Load {
    /// The shard's share of each half of the node's budget.
    side_bytes_max: usize,
    incoming: usize,
    publishes: usize,
    outgoing: usize,
    /// Connections with anything outgoing.
    receivers: usize,
    /// Connections with a large frame that is not whole, in the order in which they began. While memory
    /// is short only the first is read, and it only while publishes leave room.
    partial: VecDeque<ConnectionId>,
    waiting_count: usize,
    memory_is_low: bool,
    memory_low_until: Moment,
    /// The host's word.
    disk_is_low: bool,
    /// Shards whose log has no room.
    full_shards: BTreeSet<ShardId>,
    /// What sessions were told last.
    pub alarms: Alarms,
    next_look: Moment,
}

/// For metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadStats {
    pub alarms: Alarms,
    /// Bytes of large frames that are not whole.
    pub incoming_bytes: usize,
    /// Bytes of publishes that are not committed yet.
    pub publish_bytes: usize,
    /// Bytes that wait for peers to take them.
    pub outgoing_bytes: usize,
    /// Connections whose frame waits for its turn.
    pub waiting_count: usize,
}

impl Load {
    /// `memory_bytes` is the shard's share of the node's budget.
    pub fn new(memory_bytes: usize) -> Self {
        Load {
            side_bytes_max: memory_bytes / 2,
            incoming: 0,
            publishes: 0,
            outgoing: 0,
            receivers: 0,
            partial: VecDeque::new(),
            waiting_count: 0,
            memory_is_low: false,
            memory_low_until: Moment(0),
            disk_is_low: false,
            full_shards: BTreeSet::new(),
            alarms: Alarms::default(),
            next_look: Moment(0),
        }
    }

    pub fn publish_begins(&mut self, bytes: usize) {
        self.publishes += bytes;
    }

    pub fn publish_ends(&mut self, bytes: usize) {
        self.publishes = self.publishes.saturating_sub(bytes);
    }

    fn used(&self) -> usize {
        self.incoming + self.publishes
    }

    fn is_over_input(&self) -> bool {
        self.used() >= self.side_bytes_max
    }

    /// True if even the frame whose turn it is has to wait: for publishes to be committed, which they are
    /// without anything more being read.
    fn is_over_publishes(&self) -> bool {
        self.publishes >= self.side_bytes_max / 2
    }

    fn is_over_output(&self) -> bool {
        self.outgoing > self.side_bytes_max
    }

    /// What one connection's output may grow to now. `bytes_max` is its own limit.
    pub fn output_allowance(&self, bytes_max: usize) -> usize {
        match self.is_over_output() {
            true => (self.side_bytes_max / self.receivers.max(1)).clamp(2, bytes_max.max(2)),
            false => bytes_max,
        }
    }

    pub fn output_room(&self) -> usize {
        self.side_bytes_max.saturating_sub(self.outgoing)
    }

    /// A step of a session is over: counts what it has left in the output.
    pub fn count_output(&mut self, held: &mut Held, wire: usize, gathered: usize, now: Moment) {
        let put = wire.saturating_sub(held.wire) as u64;
        if put > 0 {
            held.put += put;
            let last = held.boundaries.back().copied().unwrap_or(held.taken);
            if held.put - last >= BOUNDARY_EVERY_BYTES {
                held.boundaries.push_back(held.put);
            }
        }
        held.wire = wire;
        if held.owed == 0 && wire > 0 {
            (held.owed, held.owed_since) = (wire, now);
        }
        self.count_outgoing(held, wire + gathered);
    }

    /// The socket has taken some of the output, of which `wire` bytes are left.
    pub fn count_taken(&mut self, held: &mut Held, wire: usize, gathered: usize, now: Moment) {
        let taken = held.wire.saturating_sub(wire);
        held.taken += taken as u64;
        held.wire = wire;
        while held.boundaries.front().is_some_and(|at| *at <= held.taken) {
            held.boundaries.pop_front();
        }
        held.owed = held.owed.saturating_sub(taken);
        if held.owed == 0 {
            (held.owed, held.owed_since) = (wire, now);
        }
        self.count_outgoing(held, wire + gathered);
    }

    fn count_outgoing(&mut self, held: &mut Held, outgoing: usize) {
        match (held.outgoing, outgoing) {
            (0, 1..) => self.receivers += 1,
            (1.., 0) => self.receivers -= 1,
            _ => {}
        }
        self.outgoing = self.outgoing - held.outgoing + outgoing;
        held.outgoing = outgoing;
    }

    /// The connection has `partial` bytes here of what is not whole.
    fn count_input(&mut self, id: ConnectionId, held: &mut Held, partial: usize, now: Moment) {
        let bytes = if partial > FRAME_BYTES_FREE { partial } else { 0 };
        match (held.incoming, bytes) {
            (0, 1..) => {
                held.incoming_since = now;
                self.partial.push_back(id);
            }
            (1.., 0) => self.partial.retain(|other| *other != id),
            _ => {}
        }
        self.incoming = self.incoming - held.incoming + bytes;
        held.incoming = bytes;
        let has_turn = self.partial.front() == Some(&id) && !self.is_over_publishes();
        let waits = bytes > 0 && !has_turn && self.is_over_input();
        self.set_waiting(held, waits, now);
    }

    fn set_waiting(&mut self, held: &mut Held, waits: bool, now: Moment) {
        match (held.waits, waits) {
            (false, true) => self.waiting_count += 1,
            (true, false) => {
                self.waiting_count -= 1;
                held.incoming_since = now;
            }
            _ => {}
        }
        held.waits = waits;
    }

    /// The connection is gone.
    pub fn forget(&mut self, id: ConnectionId, mut held: Held) {
        self.count_input(id, &mut held, 0, Moment(0));
        self.count_outgoing(&mut held, 0);
    }

    /// Decides on the alarms anew; true if they changed.
    fn decide(&mut self, now: Moment) -> bool {
        let used = self.used();
        if !self.memory_is_low {
            if self.is_over_input() {
                self.memory_is_low = true;
                self.memory_low_until = now.after_ms(ALARM_MS_MIN);
                self.next_look = self.memory_low_until;
            }
        } else if used < self.side_bytes_max / 4 * 3 && now >= self.memory_low_until {
            self.memory_is_low = false;
        }
        let disk = self.disk_is_low || !self.full_shards.is_empty();
        let alarms = Alarms { disk, memory: self.memory_is_low };
        std::mem::replace(&mut self.alarms, alarms) != alarms
    }

    pub fn deadline(&self) -> Moment {
        match self.memory_is_low || self.is_over_output() {
            true => self.next_look,
            false => Moment::NEVER,
        }
    }

    pub fn stats(&self) -> LoadStats {
        LoadStats {
            alarms: self.alarms,
            incoming_bytes: self.incoming,
            publish_bytes: self.publishes,
            outgoing_bytes: self.outgoing,
            waiting_count: self.waiting_count,
        }
    }
}

impl Held {
    /// Holds what it does since `since` without getting on with it.
    fn is_slow(&self, since: Moment) -> (bool, bool) {
        let input = self.incoming > 0 && !self.waits && self.incoming_since <= since;
        let output = self.owed > 0 && self.owed_since <= since;
        (input, output)
    }

    /// How much of the output is left if it ends with the frame that the peer has begun to take.
    fn frame_rest(&self) -> usize {
        let end = self.boundaries.front().copied().unwrap_or(self.put);
        usize::try_from(end - self.taken).unwrap_or(usize::MAX).min(self.wire)
    }
}

impl Shard {
    /// What this shard holds for its peers, and the alarms it knows of.
    pub fn load(&self) -> LoadStats {
        self.load.stats()
    }

    /// The host has measured the disk: its free space is below the mark, or not any more.
    pub fn set_disk_low(&mut self, now: Now, is_low: bool) {
        self.now = now;
        self.load.disk_is_low = is_low;
        self.run();
    }

    /// Another shard's log has no room, or has room again.
    pub(super) fn shard_full(&mut self, shard: ShardId, is_full: bool) {
        match is_full {
            true => self.load.full_shards.insert(shard),
            false => self.load.full_shards.remove(&shard),
        };
    }

    /// Tells every shard if this one's log ran out of room or got some.
    pub(super) fn note_pressure(&mut self) {
        let own = self.config.shard;
        let is_full = self.is_full();
        if is_full == self.load.full_shards.contains(&own) {
            return;
        }
        self.shard_full(own, is_full);
        for shard in self.config.layout.shards().filter(|shard| *shard != own) {
            let mail = crate::mail::Mail::Full { shard: own, is_full };
            self.outbox.push((shard, mail));
        }
    }

    /// Lets in who waits and tells sessions of changed alarms. True if there was something to tell.
    pub(super) fn note_load(&mut self) -> bool {
        self.note_pressure();
        self.let_wait_end();
        if !self.load.decide(self.now.moment) {
            return false;
        }
        for id in self.connection_ids() {
            self.step(id, |session, ctx| session.alarms_changed(ctx));
        }
        true
    }

    /// Who waits with a large frame goes on when there is room, or when it is the first.
    fn let_wait_end(&mut self) {
        if self.load.waiting_count == 0 {
            return;
        }
        let count = match (self.load.is_over_input(), self.load.is_over_publishes()) {
            (false, _) => self.load.partial.len(),
            (true, false) => 1,
            (true, true) => return,
        };
        let ids: Vec<ConnectionId> = self.load.partial.iter().take(count).copied().collect();
        for id in ids {
            if let Some(connection) = self.connections.get_mut(&id) {
                if connection.held.waits {
                    self.load.set_waiting(&mut connection.held, false, self.now.moment);
                    self.changed.push(id);
                }
            }
        }
    }

    /// Counts what a step of input has left to be kept.
    pub(super) fn count_input(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let partial = connection.session.as_deref().map_or(0, Session::partial_bytes);
        self.load.count_input(id, &mut connection.held, partial, self.now.moment);
    }

    /// Closes peers that hold what the node needs, for too long and the largest first, until it has
    /// what it needs.
    pub(super) fn tick_load(&mut self) {
        let now = self.now.moment;
        if now < self.load.next_look || self.load.deadline() == Moment::NEVER {
            return;
        }
        self.load.next_look = now.after_ms(LOOK_EVERY_MS);
        let wait_us = self.config.limits.slow_peer_ms_max.saturating_mul(1000);
        let Some(since) = now.0.checked_sub(wait_us).map(Moment) else { return };
        let mut slow: Vec<(usize, ConnectionId)> = Vec::new();
        let needs = (self.load.is_over_input(), self.load.is_over_output());
        for (id, connection) in &self.connections {
            let held = &connection.held;
            let (input, output) = held.is_slow(since);
            let bytes = [(needs.0 && input, held.incoming), (needs.1 && output, held.outgoing)];
            let bytes = bytes.into_iter().filter(|(is, _)| *is).map(|(_, bytes)| bytes).sum();
            if bytes > 0 && !connection.output.close && connection.protocol != Protocol::Admin {
                slow.push((bytes, *id));
            }
        }
        slow.sort_unstable_by(|a, b| b.cmp(a));
        for (_, id) in slow {
            if !self.load.is_over_input() && !self.load.is_over_output() {
                return;
            }
            self.evict(id);
        }
    }

    fn evict(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.output.wire.truncate(connection.held.frame_rest());
        connection.held.wire = connection.output.wire.len();
        self.meters[connection.protocol.index()].evicted += 1;
        self.step(id, |session, ctx| session.evict(ctx));
        // Whatever the session says: it is not read on, and nothing is gathered for it.
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.output.close = true;
            self.load.count_input(id, &mut connection.held, 0, self.now.moment);
        }
    }

    /// A shard of the node has no room: nothing new is stored.
    pub(super) fn is_short_of_disk(&self) -> bool {
        self.load.alarms.disk
    }

    /// Refuses what a client wants to have stored while there is an alarm for the disk. Volatile copies
    /// of what is not acknowledged go on their way.
    pub(super) fn refuse_for_space(
        &mut self,
        from: ConnectionId,
        request: Request,
    ) -> Option<Request> {
        // A producer's batch may be a repetition of what is stored: its stream knows.
        let is_known_there =
            matches!(&request, Request::Append { info, .. } if info.is_idempotent());
        if !self.is_short_of_disk() || is_known_there {
            return Some(request);
        }
        let event = match request {
            Request::Publish { token, content, route, once } => {
                if route.streams.is_empty() && route.backlogs.is_empty() {
                    return Some(Request::Publish { token, content, route, once });
                }
                match token {
                    // Its sender may try again: nobody gets it yet.
                    Some(token) => Some(Event::Published { token, result: Err(Refusal::Busy) }),
                    None => {
                        self.count_dropped(from);
                        let live = Route { live: route.live, ..Route::default() };
                        self.publish(from, None, content, live, None);
                        None
                    }
                }
            }
            Request::Append { token, .. } => {
                token.map(|token| Event::Appended { token, result: Err(Refusal::Busy) })
            }
            Request::Propose { token, command: Command::Retain { content: Some(_), qos, .. } } => {
                if qos == 0 {
                    self.count_dropped(from);
                }
                Some(Event::Proposed { token, result: Err(Refusal::Busy) })
            }
            other => return Some(other),
        };
        if let Some(event) = event {
            self.queue.push_back(Work::Event(from, event));
        }
        None
    }

    fn count_dropped(&mut self, from: ConnectionId) {
        if let Some(connection) = self.connections.get(&from) {
            self.meters[connection.protocol.index()].dropped_no_space += 1;
        }
    }
}
