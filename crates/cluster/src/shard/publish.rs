//! Publishes: one copy per stream of the route, on whichever shards own them, and one answer.

use super::Shard;
use crate::group::Waiter;
use crate::mail::{Copy, Mail};
use koine_base::{ConnectionId, ShardId, StreamId};
use koine_broker::message::{Annotation, Content};
use koine_broker::metadata::Refusal;
use koine_broker::once::{OnceId, Sighting};
use koine_broker::session::{Event, Protocol, Route, Token};
use std::collections::BTreeMap;

/// Bookkeeping cost of a publish beside its bytes.
const PUBLISH_OVERHEAD_BYTES: usize = 256;

/// A publish whose copies are not all committed.
pub(super) struct Publish {
    connection: ConnectionId,
    token: Option<Token>,
    bytes: usize,
    copies_open: usize,
    result: Result<(), Refusal>,
}

impl Shard {
    pub(super) fn publish(
        &mut self,
        from: ConnectionId,
        token: Option<Token>,
        content: Content,
        route: Route,
        once: Option<OnceId>,
    ) {
        self.post_live(from, &content, route.live);
        let copies = route.streams.into_iter().map(|stream| (stream, None));
        let backlogs = route.backlogs.into_iter().map(|(stream, how)| (stream, Some(how)));
        let mut by_shard: BTreeMap<ShardId, Vec<Copy>> = BTreeMap::new();
        for copy in copies.chain(backlogs) {
            by_shard.entry(self.owner(copy.0)).or_default().push(copy);
        }
        if by_shard.is_empty() {
            if let Some(token) = token {
                self.tell(from, Event::Published { token, result: Ok(()) });
            }
            return;
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let bytes = content.size() + PUBLISH_OVERHEAD_BYTES;
        self.takes_off(from, bytes);
        let copies_open = by_shard.values().map(Vec::len).sum();
        let publish = Publish { connection: from, token, bytes, copies_open, result: Ok(()) };
        self.publishes.insert(ticket, publish);
        for (shard, copies) in by_shard {
            if shard == self.config.shard {
                self.store_copies(shard, ticket, &content, copies, once);
            } else {
                let from_shard = self.config.shard;
                let content = content.clone();
                self.outbox.push((
                    shard,
                    Mail::Store {
                        from: from_shard,
                        ticket,
                        connection: from,
                        content,
                        copies,
                        once,
                    },
                ));
            }
        }
    }

    /// Stores copies here; each is answered when it is as durable as its stream promises.
    pub(super) fn store_copies(
        &mut self,
        home: ShardId,
        ticket: u64,
        content: &Content,
        copies: Vec<Copy>,
        once: Option<OnceId>,
    ) {
        for (stream, annotation) in copies {
            if !self.may_serve(stream.group()) {
                self.post(home, Mail::Stored { ticket, result: Err(Refusal::NotLeader) });
                continue;
            }
            if self.is_deleted(stream) || self.is_backlog_full(stream, annotation.as_ref()) {
                // The queue went between routing and storing, and nobody is left to want the copy; or
                // the session has more than it may have, which is no reason to stop the publisher.
                self.post(home, Mail::Stored { ticket, result: Ok(()) });
                continue;
            }
            let sighting = once.map_or(Sighting::New, |once| self.sighting(stream, &once));
            if sighting == Sighting::Stored {
                self.post(home, Mail::Stored { ticket, result: Ok(()) });
                continue;
            }
            let Some(group) = self.groups.get_mut(&stream.group()) else {
                continue;
            };
            if sighting == Sighting::New {
                group.add_record(stream, content, annotation.as_ref());
                if let Some(once) = once {
                    group.note_once(stream, once);
                }
            }
            group.wait(Waiter::Stored { home, ticket });
        }
    }

    /// True if a session's backlog takes no more: the copy is counted as dropped.
    fn is_backlog_full(&mut self, stream: StreamId, annotation: Option<&Annotation>) -> bool {
        if annotation.is_none() {
            return false;
        }
        let limits = &self.config.limits;
        let (count_max, bytes_max) = (limits.backlog_count_max, limits.backlog_bytes_max);
        let count = self.stream_mut(stream).map_or(0, |state| state.next - state.start);
        let is_full = count >= count_max
            || self.log.size_bytes(self.stored(stream)).is_some_and(|bytes| bytes >= bytes_max);
        if is_full {
            self.meters[Protocol::Mqtt.index()].dropped_backlog_full += 1;
        }
        is_full
    }

    /// One copy is committed.
    pub(super) fn copy_stored(&mut self, ticket: u64, result: Result<(), Refusal>) {
        let Some(publish) = self.publishes.get_mut(&ticket) else {
            return;
        };
        publish.copies_open -= 1;
        publish.result = publish.result.and(result);
        if publish.copies_open > 0 {
            return;
        }
        let publish = self.publishes.remove(&ticket).expect("looked up above");
        self.landed(publish.connection, publish.bytes);
        if let Some(token) = publish.token {
            self.tell(publish.connection, Event::Published { token, result: publish.result });
        }
    }

    /// Something of the connection's is under way, to be ended by [`Self::landed`].
    pub(super) fn takes_off(&mut self, from: ConnectionId, bytes: usize) {
        self.load.publish_begins(bytes);
        if let Some(connection) = self.connections.get_mut(&from) {
            connection.publish_bytes_in_flight += bytes;
        }
    }

    /// What goes to other shards is under way until these have handed it out: a publisher that is faster
    /// than its receivers' shards would fill their mailboxes.
    fn post_live(
        &mut self,
        from: ConnectionId,
        content: &Content,
        live: Vec<(ConnectionId, Annotation)>,
    ) {
        if live.is_empty() {
            return;
        }
        let mut by_shard: BTreeMap<ShardId, Vec<(ConnectionId, Annotation)>> = BTreeMap::new();
        for (connection, annotation) in live {
            by_shard.entry(connection.shard()).or_default().push((connection, annotation));
        }
        for (shard, receivers) in by_shard {
            if shard != self.config.shard {
                self.takes_off(from, content.size() + PUBLISH_OVERHEAD_BYTES);
            }
            self.post(shard, Mail::Live { from, content: content.clone(), receivers });
        }
    }

    /// Tells other shards what of theirs was handed out in this turn.
    pub(super) fn report_live(&mut self) {
        for (connection, bytes) in std::mem::take(&mut self.live_taken) {
            self.outbox.push((connection.shard(), Mail::LiveTaken { connection, bytes }));
        }
    }

    /// Volatile deliveries: a receiver whose socket does not keep up misses them, and is counted.
    pub(super) fn deliver_live(
        &mut self,
        from: ConnectionId,
        content: &Content,
        receivers: Vec<(ConnectionId, Annotation)>,
    ) {
        if from.shard() != self.config.shard {
            *self.live_taken.entry(from).or_default() += content.size() + PUBLISH_OVERHEAD_BYTES;
        }
        let limit = self.config.limits.output_bytes_max;
        for (to, annotation) in receivers {
            let Some(connection) = self.connections.get(&to) else {
                continue;
            };
            let waiting = connection.output.wire.len();
            let allowance = self.load.output_allowance(limit);
            if waiting + content.size() > allowance && waiting > 0 {
                let meter = &mut self.meters[connection.protocol.index()];
                match allowance < limit {
                    true => meter.dropped_memory += 1,
                    false => meter.dropped_slow += 1,
                }
                continue;
            }
            let event = Event::Live { content: content.clone(), annotation };
            self.step(to, |session, ctx| session.event(event, ctx));
        }
    }
}
