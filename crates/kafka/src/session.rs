//! One Kafka connection. Requests are carried out in the order they came, one at a time as in Kafka's
//! own broker, save that Produce requests which follow each other run together: clients pipeline
//! those, and they share one commit. Answers leave in the order of the requests.
//!
//! Nothing is queued beyond that: while a request waits, the bytes of the next stay in the input
//! buffer and the socket is not read.
//!
//! When the node is short of something, producers are held back as Kafka's quotas do it: an answer
//! carries `throttle_time_ms`, and the connection is muted. Short of disk, a batch is refused with an
//! error that producers retry; short of memory, Produce requests wait unread.

use crate::api::{self, produce::Produce};
use crate::codec::ApiKey;
use crate::framing::{announced_bytes, next_frame, next_token, peek_api, Frame};
use crate::login::{first_look, Login};
use crate::operation::{token_of, Connection, Env, Op, Operation, Started};
use bytes::BytesMut;
use koine_base::{rng::Rng, Moment};
use koine_broker::router::Matches;
use koine_broker::session::{Context, Event, Peer, Protocol, Session};
use std::collections::VecDeque;

/// After a burst of answers that fills the output, the rest of the input waits at least this long.
const OUTPUT_PAUSE_MS: u64 = 1;

/// How long a producer is muted after a batch was refused for lack of disk space, and told so: long
/// enough that retries cost nothing, short against its `delivery.timeout.ms`.
pub(crate) const DISK_THROTTLE_MS: u64 = 1_000;

/// What a producer is told while the node is short of memory. It is muted as long as that lasts.
pub(crate) const MEMORY_THROTTLE_MS: u64 = 100;

/// Of Produce requests larger than this the engine reads one after the other while memory is short;
/// smaller ones wait here for the end of the alarm.
const SMALL_PRODUCE_BYTES: usize = 64 << 10;

pub struct KafkaSession {
    connection: Connection,
    /// Produce requests under way, oldest first.
    produces: VecDeque<Produce>,
    produce_bytes: usize,
    /// The one other request under way. `produces` is empty while there is one.
    current: Option<(Op, Box<dyn Operation + Send>)>,
    /// A request that must wait for `produces` to drain.
    stalled: Option<Frame>,
    /// Too many Produce requests are under way.
    full: bool,
    /// Until then no request is taken, because the output is full. Whoever runs the session does not
    /// call `receive` while it is; the pause makes sure that it is called again afterwards.
    paused_until: Moment,
    /// The next request is a Produce that waits for the end of an alarm.
    parked: bool,
    partial_bytes: usize,
    /// Its user is gone: it is closed once `current` is answered.
    is_ending: bool,
    closed: bool,
}

impl KafkaSession {
    /// `seed` must be random: topic ids and fetch session ids are drawn from it.
    pub fn new(peer: Peer, seed: u64) -> Self {
        KafkaSession {
            connection: Connection {
                login: Login::new(&peer),
                rights: Default::default(),
                peer,
                rng: Rng::new(seed),
                fetch_session: Default::default(),
                matches: Matches::default(),
                next_op: 0,
            },
            produces: VecDeque::new(),
            produce_bytes: 0,
            current: None,
            stalled: None,
            full: false,
            paused_until: Moment::NEVER,
            parked: false,
            partial_bytes: 0,
            is_ending: false,
            closed: false,
        }
    }

    #[cfg(test)]
    pub fn with_certificate(&mut self, user: &str) {
        self.connection.login.with_certificate(user);
    }

    fn is_blocked(&self) -> bool {
        self.closed
            || self.is_ending
            || self.parked
            || self.current.is_some()
            || self.stalled.is_some()
            || self.is_full()
    }

    /// True if what comes next has to wait for the end of an alarm: a small Produce while the node is
    /// short of memory, or one that wants no answer, and so cannot be refused, while it is short of disk.
    fn must_park(&self, input: &BytesMut, ctx: &Context<'_>) -> bool {
        let is_produce =
            self.connection.login.is_over() && peek_api(input) == Some(ApiKey::Produce);
        if !ctx.alarms.any() || !is_produce {
            return false;
        }
        if ctx.alarms.memory && announced_bytes(input).max(input.len()) <= SMALL_PRODUCE_BYTES {
            return true;
        }
        ctx.alarms.disk && api::produce::is_silent(input)
    }

    /// Looks at the node before anything else is done.
    fn look(&mut self, ctx: &mut Context<'_>) {
        let mut env = Env { ctx, connection: &mut self.connection };
        if let Some(operation) = first_look(&mut env) {
            self.current = Some(operation);
        }
    }

    /// Takes one request, or one token of a login, off the input. False if none is there.
    fn take_input(&mut self, input: &mut BytesMut, ctx: &mut Context<'_>) -> bool {
        let login = &self.connection.login;
        let taken = if login.awaits_token() {
            next_token(input, ctx.limits.handshake_bytes_max).map(|token| {
                let Some(token) = token else { return false };
                let mut env = Env { ctx, connection: &mut self.connection };
                let started = api::sasl_authenticate::start_bare(token, &mut env);
                self.await_end(started, ctx);
                true
            })
        } else {
            let bytes_max = match login.is_over() {
                true => ctx.limits.request_bytes_max,
                false => ctx.limits.handshake_bytes_max,
            };
            next_frame(input, bytes_max).map(|frame| {
                let Some(frame) = frame else { return false };
                match self.connection.login.admits(frame.api.key, ctx.now.moment) {
                    true => self.start(frame, ctx),
                    false => self.refuse(ctx),
                }
                true
            })
        };
        taken.unwrap_or_else(|_| {
            self.refuse(ctx);
            false
        })
    }

    fn await_end(&mut self, started: Started, ctx: &mut Context<'_>) {
        if let Started::Waiting(op, operation) = started {
            self.current = Some((op, operation));
        }
        self.settle(ctx);
    }

    fn start(&mut self, frame: Frame, ctx: &mut Context<'_>) {
        if frame.api.key != ApiKey::Produce && !self.produces.is_empty() {
            self.stalled = Some(frame);
            return;
        }
        ctx.meter.requests += 1;
        let mut env = Env { ctx, connection: &mut self.connection };
        let started = if frame.api.key == ApiKey::Produce {
            let bytes = frame.bytes.len();
            api::produce::start(&frame, &mut env).map(|produce| {
                self.produce_bytes += bytes;
                self.produces.push_back(produce);
            })
        } else {
            api::start(&frame, &mut env).map(|started| {
                if let Started::Waiting(op, operation) = started {
                    self.current = Some((op, operation));
                }
            })
        };
        match started {
            Ok(()) => self.answer_produces(ctx),
            Err(_) => self.refuse(ctx),
        }
    }

    /// Sends what is complete at the head of the produce queue, then lets the stalled request go.
    fn answer_produces(&mut self, ctx: &mut Context<'_>) {
        while self.produces.front().is_some_and(Produce::is_complete) {
            let Some(produce) = self.produces.pop_front() else { break };
            self.produce_bytes = self.produce_bytes.saturating_sub(produce.frame_bytes());
            produce.answer(&mut Env { ctx, connection: &mut self.connection });
            if ctx.alarms.disk {
                self.paused_until = ctx.now.moment.after_ms(DISK_THROTTLE_MS);
            }
        }
        if self.produces.is_empty() {
            if let Some(frame) = self.stalled.take() {
                self.start(frame, ctx);
            }
        }
        self.settle(ctx);
    }

    fn is_full(&self) -> bool {
        self.full || self.paused_until != Moment::NEVER
    }

    /// Brings the flags up to date at the end of a step.
    fn settle(&mut self, ctx: &mut Context<'_>) {
        self.full = self.produces.len() >= ctx.limits.requests_in_flight_max
            || self.produce_bytes > ctx.limits.publish_bytes_in_flight_max;
        self.closed |= ctx.out.close;
    }

    /// The peer broke the protocol: there is no answer it could make sense of.
    fn refuse(&mut self, ctx: &mut Context<'_>) {
        ctx.meter.violations += 1;
        ctx.out.close = true;
        self.closed = true;
    }

    fn finish(&mut self, done: bool, ctx: &mut Context<'_>) {
        if done {
            self.current = None;
            ctx.out.close |= self.is_ending;
        }
        self.settle(ctx);
    }
}

impl Session for KafkaSession {
    fn protocol(&self) -> Protocol {
        Protocol::Kafka
    }

    fn receive(&mut self, input: &mut BytesMut, ctx: &mut Context<'_>) {
        self.look(ctx);
        while !self.is_blocked() {
            if ctx.out.wire.len() >= ctx.limits.output_bytes_max {
                self.paused_until = ctx.now.moment.after_ms(OUTPUT_PAUSE_MS);
                break;
            }
            if self.must_park(input, ctx) {
                self.parked = true;
                ctx.meter.blocked += 1;
                break;
            }
            if !self.take_input(input, ctx) {
                break;
            }
        }
        self.partial_bytes = match announced_bytes(input) {
            0 => 0,
            _ if self.parked => 0,
            _ => input.len(),
        };
    }

    fn alarms_changed(&mut self, _ctx: &mut Context<'_>) {
        // Looked at again when the input is.
        self.parked = false;
    }

    fn partial_bytes(&self) -> usize {
        self.partial_bytes
    }

    fn gathered_bytes(&self) -> usize {
        self.current.as_ref().map_or(0, |(_, operation)| operation.gathered_bytes())
    }

    fn event(&mut self, event: Event, ctx: &mut Context<'_>) {
        let Some(token) = token_of(&event) else { return };
        let op = Op::of(token);
        let mut env = Env { ctx, connection: &mut self.connection };
        if let Some(produce) = self.produces.iter_mut().find(|produce| produce.owns(op)) {
            produce.event(event, &mut env);
            self.answer_produces(ctx);
            return;
        }
        match &mut self.current {
            Some((current, operation)) if *current == op => {
                let done = operation.event(event, &mut env);
                self.finish(done, ctx);
            }
            // Of a request that was answered without it, such as a watch.
            _ => {}
        }
    }

    fn tick(&mut self, ctx: &mut Context<'_>) {
        self.look(ctx);
        if self.connection.login.deadline() <= ctx.now.moment {
            return self.refuse(ctx);
        }
        if self.paused_until <= ctx.now.moment {
            self.paused_until = Moment::NEVER;
        }
        let mut done = false;
        if let Some((_, operation)) = &mut self.current {
            if operation.deadline() <= ctx.now.moment {
                done = operation.tick(&mut Env { ctx, connection: &mut self.connection });
            }
        }
        self.finish(done, ctx);
    }

    fn deadline(&self) -> Moment {
        let operation = self.current.as_ref().map_or(Moment::NEVER, |(_, op)| op.deadline());
        operation.min(self.paused_until).min(self.connection.login.deadline())
    }

    fn wants_input(&self) -> bool {
        !self.is_blocked()
    }

    fn access_changed(&mut self, ctx: &mut Context<'_>) {
        if self.is_ending {
            return;
        }
        if !self.connection.login.is_known(ctx) {
            if self.current.as_ref().is_some_and(|(_, operation)| operation.outlives_its_user()) {
                self.is_ending = true;
                return self.connection.login.end(ctx);
            }
            ctx.out.close = true;
            self.closed = true;
            return;
        }
        let mut done = false;
        if let Some((_, operation)) = &mut self.current {
            done = operation.access_changed(&mut Env { ctx, connection: &mut self.connection });
        }
        self.finish(done, ctx);
    }

    fn disconnected(&mut self, _ctx: &mut Context<'_>) {
        // Watches are released by the engine; appends under way are carried out.
        self.closed = true;
        self.current = None;
    }

    fn shutdown(&mut self, ctx: &mut Context<'_>) {
        // Kafka has no goodbye: clients see the connection end and look for a leader.
        ctx.out.close = true;
        self.closed = true;
    }
}

#[cfg(test)]
mod tests;
