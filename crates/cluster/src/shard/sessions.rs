//! Connections of this shard and their sessions: stepping them, their output, their appetite.

use super::load::Held;
use super::{Shard, Work};
use crate::mail::Mail;
use bytes::BytesMut;
use koine_base::{ConnectionId, Moment, Now, Rope, StreamId};
use koine_broker::limits::Limits;
use koine_broker::metadata::Command;
use koine_broker::session::{
    ConsumerId, Context, Event, Output, Protocol, Request, Session, Token,
};
use std::panic::{catch_unwind, AssertUnwindSafe};

/// Token of requests that the shard makes in a connection's name without waiting for the answer.
const NOBODY: u64 = u64::MAX;

/// Set in tokens that the shard chose itself, for appends whose session wants no answer.
const HIDDEN_TOKEN: Token = 1 << 63;

pub(super) struct Connection {
    /// Away while it is being stepped; gone for good if it panicked.
    pub session: Option<Box<dyn Session>>,
    pub protocol: Protocol,
    pub output: Output,
    /// Bytes of its publishes and appends that are not committed yet.
    pub publish_bytes_in_flight: usize,
    pub held: Held,
    /// It has logged in.
    pub is_known: bool,
    next_hidden_token: Token,
    /// Deliveries written to `output` whose owners wait to hear that the socket took them.
    untaken: Vec<(StreamId, ConsumerId, u64)>,
    deadline: Moment,
}

impl Connection {
    /// False while the engine itself does not want its input.
    fn is_read(&self, limits: &Limits) -> bool {
        self.publish_bytes_in_flight < limits.publish_bytes_in_flight_max
            && self.output.wire.len() < limits.output_bytes_max
            && !self.output.close
            && !self.held.waits
    }
}

impl Shard {
    /// Takes a new connection in.
    pub fn connect(&mut self, now: Now, session: Box<dyn Session>) -> ConnectionId {
        self.now = now;
        let id = ConnectionId::new(self.config.shard, self.next_connection);
        self.next_connection += 1;
        let deadline = session.deadline();
        let protocol = session.protocol();
        self.connections.insert(
            id,
            Connection {
                session: Some(session),
                protocol,
                output: Output::default(),
                publish_bytes_in_flight: 0,
                held: Held::default(),
                is_known: false,
                next_hidden_token: HIDDEN_TOKEN,
                untaken: Vec::new(),
                deadline,
            },
        );
        self.session_deadlines.insert((deadline, id));
        id
    }

    /// Bytes from the peer. Call it also without new bytes when [`Self::wants_input`] turned true.
    pub fn receive(&mut self, now: Now, id: ConnectionId, input: &mut BytesMut) {
        self.now = now;
        let before = input.len();
        let had_appetite = self.take_in(id, input);
        // What it wanted to know before it takes anything (who its certificate names) it may have heard
        // within this very step: then nobody would ask it again.
        if !had_appetite && input.len() == before && self.wants_input(id) {
            self.take_in(id, input);
        }
    }

    /// One step of input; whether the session wanted more before the engine had its turn.
    fn take_in(&mut self, id: ConnectionId, input: &mut BytesMut) -> bool {
        self.step(id, |session, ctx| session.receive(input, ctx));
        let had_appetite = self.wants_input(id);
        self.count_input(id);
        self.count_stranger(id, input.len());
        self.run();
        had_appetite
    }

    /// The connection is closed, by the peer or by us.
    pub fn disconnected(&mut self, now: Now, id: ConnectionId) {
        self.now = now;
        self.step(id, |session, ctx| session.disconnected(ctx));
        self.run();
        let Some(connection) = self.connections.remove(&id) else {
            return;
        };
        self.session_deadlines.remove(&(connection.deadline, id));
        self.load.forget(id, connection.held);
        self.strangers.forget(id);
        for shard in self.config.layout.shards() {
            self.post(shard, Mail::Gone { connection: id });
        }
        if self.metadata.is_bound_to(id.raw()) {
            let command = Command::ReleaseConnection { connection: id.raw(), at: self.now.wall.0 };
            self.queue.push_back(Work::Request(id, Request::Propose { token: NOBODY, command }));
        }
        self.run();
    }

    /// Says goodbye to every peer, in each protocol's way: to those whose publishes are all committed at
    /// once, to the others as soon as theirs are, and until then nobody's input is read. Called again,
    /// it waits for nothing.
    pub fn shut_down(&mut self, now: Now) {
        self.now = now;
        let waits = !std::mem::replace(&mut self.is_leaving, true);
        for id in self.connection_ids() {
            if !waits || !self.has_publishes(id) {
                self.leaving.push(id);
            }
        }
        self.run();
    }

    fn has_publishes(&self, id: ConnectionId) -> bool {
        self.connections.get(&id).is_some_and(|connection| connection.publish_bytes_in_flight > 0)
    }

    /// Sessions that have nothing to wait for any more say goodbye. True if there were any.
    pub(super) fn say_goodbyes(&mut self) -> bool {
        let leaving = std::mem::take(&mut self.leaving);
        for id in &leaving {
            if self.connections.get(id).is_some_and(|connection| !connection.output.close) {
                self.step(*id, |session, ctx| session.shutdown(ctx));
            }
        }
        !leaving.is_empty()
    }

    pub(super) fn connection_ids(&self) -> Vec<ConnectionId> {
        let mut ids: Vec<ConnectionId> = self.connections.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// Connections with new output, or whose [`Self::wants_input`] may have changed.
    pub fn take_changed(&mut self) -> Vec<ConnectionId> {
        std::mem::take(&mut self.changed)
    }

    /// What waits to be written to the peer.
    pub fn output(&mut self, id: ConnectionId) -> Option<&mut Rope> {
        self.connections.get_mut(&id).map(|connection| &mut connection.output.wire)
    }

    /// Close the socket once the output is written.
    pub fn wants_close(&self, id: ConnectionId) -> bool {
        self.connections.get(&id).is_none_or(|connection| connection.output.close)
    }

    /// False: leave what the peer sends in the socket.
    pub fn wants_input(&self, id: ConnectionId) -> bool {
        !self.is_leaving
            && self.connections.get(&id).is_some_and(|connection| {
                connection.is_read(&self.config.limits)
                    && connection.session.as_ref().is_some_and(|session| session.wants_input())
            })
    }

    /// The socket took some of the output: consumers that waited for it go on.
    pub fn written(&mut self, now: Now, id: ConnectionId) {
        self.now = now;
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let wire = connection.output.wire.len();
        let gathered = connection.session.as_deref().map_or(0, Session::gathered_bytes);
        self.load.count_taken(&mut connection.held, wire, gathered, now.moment);
        let allowance = self.load.output_allowance(self.config.limits.output_bytes_max);
        if connection.untaken.is_empty() || wire >= allowance / 2 {
            return;
        }
        for (stream, consumer, bytes) in std::mem::take(&mut connection.untaken) {
            let owner = self.owner(stream);
            self.post(owner, Mail::Taken { connection: id, stream, consumer, bytes });
        }
        self.run();
    }

    /// Counts an append as on its way; returns the token that its answer will carry.
    pub(super) fn count_append(
        &mut self,
        from: ConnectionId,
        token: Option<Token>,
        bytes: usize,
    ) -> Option<Token> {
        let Some(connection) = self.connections.get_mut(&from) else { return token };
        let token = token.unwrap_or_else(|| {
            connection.next_hidden_token += 1;
            connection.next_hidden_token
        });
        *self.appends.entry((from, token)).or_default() += bytes;
        self.takes_off(from, bytes);
        Some(token)
    }

    /// Something of the connection's is committed: it may send more.
    pub(super) fn landed(&mut self, id: ConnectionId, bytes: usize) {
        self.load.publish_ends(bytes);
        let limit = self.config.limits.publish_bytes_in_flight_max;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let before = connection.publish_bytes_in_flight;
        connection.publish_bytes_in_flight = before.saturating_sub(bytes);
        let left = connection.publish_bytes_in_flight;
        if before >= limit && left < limit {
            self.changed.push(id);
        }
        if self.is_leaving && before > 0 && left == 0 {
            self.leaving.push(id);
        }
    }

    /// True if the event was for the shard's own accounts only.
    fn account_append(&mut self, to: ConnectionId, event: &Event) -> bool {
        let (Event::Appended { token, .. } | Event::Proposed { token, .. }) = event else {
            return false;
        };
        if let Some(bytes) = self.appends.remove(&(to, *token)) {
            self.landed(to, bytes);
        }
        matches!(event, Event::Appended { .. }) && token & HIDDEN_TOKEN != 0
    }

    pub(super) fn session_event(&mut self, to: ConnectionId, event: Event) {
        if self.account_append(to, &event) {
            return;
        }
        if matches!(event, Event::Authenticated { result: Ok(_), .. }) {
            self.know(to);
        }
        let taken = match &event {
            Event::Deliveries { consumer, stream, deliveries } => {
                let bytes = deliveries.iter().map(super::dispatch::delivery_bytes).sum();
                Some((*stream, *consumer, bytes))
            }
            _ => None,
        };
        self.step(to, |session, ctx| session.event(event, ctx));
        let Some((stream, consumer, bytes)) = taken else {
            return;
        };
        let allowance = self.load.output_allowance(self.config.limits.output_bytes_max);
        let Some(connection) = self.connections.get_mut(&to) else {
            return;
        };
        if connection.output.wire.len() >= allowance / 2 {
            connection.untaken.push((stream, consumer, bytes));
        } else {
            let owner = self.owner(stream);
            self.post(owner, Mail::Taken { connection: to, stream, consumer, bytes });
        }
    }

    pub(super) fn tick_sessions(&mut self) {
        while let Some((deadline, id)) = self.session_deadlines.first().copied() {
            if deadline > self.now.moment {
                return;
            }
            self.step(id, |session, ctx| session.tick(ctx));
            // A session that leaves its deadline in the past is asked again with the next tick.
            self.session_deadlines.remove(&(deadline, id));
            if let Some(connection) = self.connections.get_mut(&id) {
                if connection.deadline <= self.now.moment {
                    connection.deadline = self.now.moment.after_ms(1);
                }
                self.session_deadlines.insert((connection.deadline, id));
            }
        }
    }

    /// One step of a session: lends it the context, then takes its requests over.
    pub(super) fn step(
        &mut self,
        id: ConnectionId,
        step: impl FnOnce(&mut dyn Session, &mut Context<'_>),
    ) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let Some(mut session) = connection.session.take() else {
            return;
        };
        let is_read = connection.is_read(&self.config.limits);
        let mut ctx = Context {
            now: self.now,
            connection: id,
            metadata: &self.metadata,
            dialects: &self.config.dialects,
            limits: &self.config.limits,
            node: &self.config.node,
            rng: &mut self.rng,
            secret_rng: &mut self.secret_rng,
            out: &mut connection.output,
            meter: &mut self.meters[connection.protocol.index()],
            alarms: self.load.alarms,
            is_read,
            output_room: self.load.output_room(),
        };
        // A bug in a protocol closes the connection that met it and disturbs nothing else: the
        // session is dropped, and all it shares with others are counters and its own output.
        let outcome = catch_unwind(AssertUnwindSafe(|| step(&mut *session, &mut ctx)));
        if outcome.is_err() {
            connection.output.close = true;
            connection.output.requests.clear();
            self.changed.push(id);
            return;
        }
        let wire = connection.output.wire.len();
        let gathered = session.gathered_bytes();
        self.load.count_output(&mut connection.held, wire, gathered, self.now.moment);
        let deadline = session.deadline();
        connection.session = Some(session);
        if deadline != connection.deadline {
            self.session_deadlines.remove(&(connection.deadline, id));
            self.session_deadlines.insert((deadline, id));
            connection.deadline = deadline;
        }
        let requests = connection.output.requests.drain(..);
        self.queue.extend(requests.map(|request| Work::Request(id, request)));
        if self.changed.last() != Some(&id) {
            self.changed.push(id);
        }
        if self.stepped.last() != Some(&id) {
            self.stepped.push(id);
        }
    }

    /// The turn is over: sessions say together what several inputs and events left to say.
    pub(super) fn flush_sessions(&mut self) {
        let mut stepped = std::mem::take(&mut self.stepped);
        stepped.sort_unstable();
        stepped.dedup();
        for id in &stepped {
            self.step(*id, |session, ctx| session.flush(ctx));
        }
        stepped.clear();
        self.stepped = stepped;
    }
}
