//! Publishes: one copy per stream of the route, on whichever shards own them, and one answer.

use super::Shard;
use crate::group::Waiter;
use crate::mail::{Copy, Mail};
use koine_base::{ConnectionId, ShardId};
use koine_broker::message::{Annotation, Content};
use koine_broker::metadata::Refusal;
use koine_broker::session::{Event, Route, Token};
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
    ) {
        self.post_live(&content, route.live);
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
        if let Some(connection) = self.connections.get_mut(&from) {
            connection.publish_bytes_in_flight += bytes;
        }
        let copies_open = by_shard.values().map(Vec::len).sum();
        let publish = Publish { connection: from, token, bytes, copies_open, result: Ok(()) };
        self.publishes.insert(ticket, publish);
        for (shard, copies) in by_shard {
            if shard == self.config.shard {
                self.store_copies(shard, ticket, &content, copies);
            } else {
                let from_shard = self.config.shard;
                let content = content.clone();
                self.outbox.push((
                    shard,
                    Mail::Store { from: from_shard, ticket, connection: from, content, copies },
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
    ) {
        for (stream, annotation) in copies {
            if self.is_full() {
                self.post(home, Mail::Stored { ticket, result: Err(Refusal::Busy) });
                continue;
            }
            if self.is_deleted(stream) {
                // The queue went between routing and storing: nobody is left to want the copy.
                self.post(home, Mail::Stored { ticket, result: Ok(()) });
                continue;
            }
            let Some(group) = self.groups.get_mut(&stream.group()) else {
                continue;
            };
            group.add_record(stream, content, annotation.as_ref());
            group.wait(Waiter::Stored { home, ticket });
        }
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

    fn post_live(&mut self, content: &Content, live: Vec<(ConnectionId, Annotation)>) {
        if live.is_empty() {
            return;
        }
        let mut by_shard: BTreeMap<ShardId, Vec<(ConnectionId, Annotation)>> = BTreeMap::new();
        for (connection, annotation) in live {
            by_shard.entry(connection.shard()).or_default().push((connection, annotation));
        }
        for (shard, receivers) in by_shard {
            self.post(shard, Mail::Live { content: content.clone(), receivers });
        }
    }

    /// Volatile deliveries: a receiver whose socket does not keep up misses them, and is counted.
    pub(super) fn deliver_live(
        &mut self,
        content: &Content,
        receivers: Vec<(ConnectionId, Annotation)>,
    ) {
        let limit = self.config.limits.output_bytes_max;
        for (to, annotation) in receivers {
            let Some(connection) = self.connections.get(&to) else {
                continue;
            };
            if connection.output.wire.len() + content.size() > limit
                && !connection.output.wire.is_empty()
            {
                self.meters[connection.protocol.index()].dropped_slow += 1;
                continue;
            }
            let event = Event::Live { content: content.clone(), annotation };
            self.step(to, |session, ctx| session.event(event, ctx));
        }
    }
}
