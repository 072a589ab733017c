//! One request under way: it has asked the engine something and is answered when the events have
//! come back. Tokens carry the operation they belong to, so that an event finds its way and a late
//! one finds nobody.

use crate::codec::Writer;
use crate::fetch_session::FetchSession;
use crate::login::Login;
use crate::reply::Reply;
use crate::rights::Rights;
use crate::topic::Catalog;
use koine_base::{rng::Rng, Moment};
use koine_broker::metadata::Command;
use koine_broker::router::Matches;
use koine_broker::session::{Context, Event, Peer, Request, Token};

/// Number of an operation of one connection, 31 bits: the highest bit of a token belongs to the
/// shard. Wraps long after the first operations have been forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Op(u32);

impl Op {
    const MASK: u32 = u32::MAX >> 1;

    pub fn number(number: u32) -> Op {
        Op(number & Self::MASK)
    }

    /// How many operations after `first` this one was started.
    pub fn since(self, first: Op) -> usize {
        (self.0.wrapping_sub(first.0) & Self::MASK) as usize
    }

    /// `index` tells the operation's own requests apart.
    pub fn token(self, index: u32) -> Token {
        u64::from(self.0) << 32 | u64::from(index)
    }

    pub fn of(token: Token) -> Op {
        Op((token >> 32) as u32)
    }

    pub fn index(token: Token) -> usize {
        token as u32 as usize
    }

    /// Requests counted from 0 up by the caller; frames are far too small for 2^32 of them.
    pub fn token_at(self, index: usize) -> Token {
        self.token(u32::try_from(index).expect("bounded by the elements of one frame"))
    }
}

/// What lives as long as the connection and is not part of one request.
pub struct Connection {
    pub peer: Peer,
    pub rng: Rng,
    pub login: Login,
    pub rights: Rights,
    pub fetch_session: FetchSession,
    /// Scratch for routing.
    pub matches: Matches,
    pub next_op: u32,
}

/// What a handler works with during one step.
pub struct Env<'e, 'c> {
    pub ctx: &'e mut Context<'c>,
    pub connection: &'e mut Connection,
}

impl<'c> Env<'_, 'c> {
    pub fn new_op(&mut self) -> Op {
        let op = self.next_op();
        self.connection.next_op = self.connection.next_op.wrapping_add(1);
        op
    }

    /// The number that the next call of [`Self::new_op`] gives.
    pub fn next_op(&self) -> Op {
        Op::number(self.connection.next_op)
    }

    pub fn catalog(&self) -> Catalog<'c> {
        Catalog { metadata: self.ctx.metadata, connection: self.ctx.connection }
    }

    pub fn request(&mut self, request: Request) {
        self.ctx.out.request(request);
    }

    pub fn propose(&mut self, token: Token, command: Command) {
        self.request(Request::Propose { token, command });
    }

    /// Never all zero.
    pub fn fresh_topic_id(&mut self) -> [u8; 16] {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.connection.rng.next_u64().to_be_bytes());
        id[8..].copy_from_slice(&self.connection.rng.next_u64().to_be_bytes());
        // The version and variant bits of a random UUID (RFC 9562 §5.4).
        id[6] = id[6] & 0x0F | 0x40;
        id[8] = id[8] & 0x3F | 0x80;
        id
    }

    pub fn send(&mut self, reply: Reply, encode: impl FnOnce(&mut Writer<'_>, i16)) {
        reply.send(&mut self.ctx.out.wire, encode);
    }

    /// Host and port that this client can reach this node at.
    pub fn advertised(&self) -> (String, i32) {
        if let Some((host, port)) = &self.ctx.node.advertised_kafka {
            return (host.clone(), i32::from(*port));
        }
        let local = self.connection.peer.local;
        (local.ip().to_canonical().to_string(), i32::from(local.port()))
    }
}

/// A request that waits for events.
pub trait Operation {
    /// Takes an event of one of its tokens. True once it has answered; it is dropped then.
    fn event(&mut self, event: Event, env: &mut Env<'_, '_>) -> bool;

    /// When [`Self::tick`] wants to be called.
    fn deadline(&self) -> Moment {
        Moment::NEVER
    }

    /// Bytes that it has gathered, or asked for, for its answer.
    fn gathered_bytes(&self) -> usize {
        0
    }

    /// Users or rules have changed: whoever waits for what it may not have any more is told so. As
    /// [`Self::event`].
    fn access_changed(&mut self, _env: &mut Env<'_, '_>) -> bool {
        false
    }

    /// Whether its answer is still sent when its user is not known any more: it may be what changed the
    /// user, and shows nothing.
    fn outlives_its_user(&self) -> bool {
        false
    }

    /// As [`Self::event`].
    fn tick(&mut self, _env: &mut Env<'_, '_>) -> bool {
        false
    }
}

/// What became of a request that was started.
pub enum Started {
    Answered,
    Waiting(Op, Box<dyn Operation + Send>),
}

/// Answers that are collected one by one, each in the place of its question.
pub struct Gather<T> {
    pub answers: Vec<T>,
    waiting: usize,
}

impl<T> Gather<T> {
    /// `waiting` of the answers are still to come.
    pub fn new(answers: Vec<T>, waiting: usize) -> Self {
        Gather { answers, waiting }
    }

    /// The place that `token` asked for. True in the second part if it was the last one.
    pub fn take(&mut self, token: Token) -> Option<(&mut T, bool)> {
        let place = self.answers.get_mut(Op::index(token))?;
        self.waiting = self.waiting.saturating_sub(1);
        Some((place, self.waiting == 0))
    }
}

/// The token of an event, if it answers a request.
pub fn token_of(event: &Event) -> Option<Token> {
    match event {
        Event::Proposed { token, .. }
        | Event::Published { token, .. }
        | Event::Appended { token, .. }
        | Event::Read { token, .. }
        | Event::Grown { token }
        | Event::Bounds { token, .. }
        | Event::EpochEnd { token, .. }
        | Event::Located { token, .. }
        | Event::Attached { token, .. }
        | Event::Stopped { token }
        | Event::Synced { token, .. }
        | Event::Detached { token }
        | Event::Pulled { token, .. }
        | Event::Purged { token, .. }
        | Event::Status { token, .. }
        | Event::QueueDeleted { token, .. }
        | Event::Retained { token, .. }
        | Event::Group { token, .. }
        | Event::Committed { token, .. }
        | Event::Offsets { token, .. }
        | Event::Authenticated { token, .. }
        | Event::Groups { token, .. } => Some(*token),
        Event::Deliveries { .. }
        | Event::ConsumerCancelled { .. }
        | Event::Live { .. }
        | Event::SessionTaken { .. }
        | Event::SessionEnded { .. } => None,
    }
}
