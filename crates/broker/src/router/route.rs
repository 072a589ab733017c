//! One publish on its way through the exchanges of a namespace. Reads the tables, changes none.

use super::exchange::{Exchange, Target};
use super::headers::Headers;
use super::namespace::{Namespace, TOPIC_SLOT};
use super::subject::{swap_separators, Subject};
use super::tree::MatchScratch;
use super::{SessionId, Subscriber, SubscriptionOptions};
use koine_base::StreamId;

/// Whom a publish reaches. Reusable: once warm, routing allocates nothing. One per shard.
///
/// Calls of `route` add to it, so that a message with several keys (CC, BCC) is routed by several
/// calls and each queue still gets one copy; [`Matches::clear`] starts the next message.
#[derive(Debug, Default)]
pub struct Matches {
    /// Ascending, each stream once.
    pub queues: Vec<StreamId>,
    /// Ascending by session. A session stands here once for each of its subscriptions that match,
    /// side by side: the caller merges or sends one copy each (MQTT 5 §3.3.4).
    pub sessions: Vec<(SessionId, SubscriptionOptions)>,
    /// The outcome hung on the headers, not on the key alone: it must not be cached by key.
    pub headers_asked: bool,
    work: Work,
}

#[derive(Debug, Default)]
struct Work {
    scratch: MatchScratch,
    /// Exchanges still to be asked.
    pending: Vec<u32>,
    /// By exchange slot: the run in which it was reached last.
    reached_in: Vec<u64>,
    run: u64,
    /// The key in the spelling that it was not given in.
    spelling: Vec<u8>,
}

impl Matches {
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the results, keeps the memory.
    pub fn clear(&mut self) {
        self.queues.clear();
        self.sessions.clear();
        self.headers_asked = false;
    }

    pub fn is_empty(&self) -> bool {
        self.queues.is_empty() && self.sessions.is_empty()
    }

    /// Trie nodes visited since this was made: a measure of work.
    pub fn visited_count(&self) -> u64 {
        self.work.scratch.visited_count()
    }

    fn in_order(&mut self) {
        if !self.queues.windows(2).all(|pair| pair[0] < pair[1]) {
            self.queues.sort_unstable();
            self.queues.dedup();
        }
        if !self.sessions.windows(2).all(|pair| pair[0] <= pair[1]) {
            self.sessions.sort_unstable();
        }
    }
}

/// What became of one routing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteOutcome {
    /// At least one queue or session.
    Routed,
    /// Nothing, alternate exchanges included: a mandatory message is returned.
    Unroutable,
    /// 404 in AMQP terms.
    NoSuchExchange,
}

/// A routing key in both spellings, the second made when an exchange first asks for it.
pub(super) struct Spelling<'a> {
    given: &'a [u8],
    given_is_amqp: bool,
    other: &'a mut Vec<u8>,
    other_ready: bool,
}

impl Spelling<'_> {
    pub(super) fn amqp(&mut self) -> &[u8] {
        if self.given_is_amqp {
            self.given
        } else {
            self.swapped()
        }
    }

    pub(super) fn canonical(&mut self) -> &[u8] {
        if self.given_is_amqp {
            self.swapped()
        } else {
            self.given
        }
    }

    fn swapped(&mut self) -> &[u8] {
        if !self.other_ready {
            self.other.clear();
            self.other.extend_from_slice(self.given);
            swap_separators(self.other);
            self.other_ready = true;
        }
        self.other
    }
}

/// Where tables put what they find.
pub(super) struct Reached<'a> {
    queues: &'a mut Vec<StreamId>,
    sessions: &'a mut Vec<(SessionId, SubscriptionOptions)>,
    pending: &'a mut Vec<u32>,
    reached_in: &'a mut Vec<u64>,
    run: u64,
    /// A queue or session was added in this run.
    any: bool,
}

impl Reached<'_> {
    pub(super) fn add(&mut self, target: Target, options: SubscriptionOptions) {
        match target {
            Target::Queue(stream) | Target::Subscriber(Subscriber::Queue(stream)) => {
                self.queues.push(stream);
                self.any = true;
            }
            Target::Subscriber(Subscriber::Session(session)) => {
                self.sessions.push((session, options));
                self.any = true;
            }
            Target::Exchange(slot) => self.add_exchange(slot),
        }
    }

    /// Each exchange is asked once per run: that is what makes cycles legal.
    fn add_exchange(&mut self, slot: u32) {
        let index = slot as usize;
        if self.reached_in.len() <= index {
            self.reached_in.resize(index + 1, 0);
        }
        if self.reached_in[index] != self.run {
            self.reached_in[index] = self.run;
            self.pending.push(slot);
        }
    }
}

pub(super) struct Found<'a> {
    pub spelling: Spelling<'a>,
    pub scratch: &'a mut MatchScratch,
    pub headers_asked: &'a mut bool,
    pub reached: Reached<'a>,
}

/// The key as the caller has it.
pub(super) enum Key<'a> {
    Amqp(&'a [u8]),
    Subject(&'a Subject),
}

impl Namespace {
    pub(super) fn route(
        &self,
        exchange: &[u8],
        key: &[u8],
        headers: &dyn Headers,
        out: &mut Matches,
    ) -> RouteOutcome {
        if exchange.is_empty() {
            let Some(stream) = self.queue(key) else {
                return RouteOutcome::Unroutable;
            };
            out.queues.push(stream);
            out.in_order();
            return RouteOutcome::Routed;
        }
        match self.slot(exchange) {
            Some(slot) => self.route_from(slot, Key::Amqp(key), headers, out),
            None => RouteOutcome::NoSuchExchange,
        }
    }

    pub(super) fn route_subject(
        &self,
        subject: &Subject,
        headers: &dyn Headers,
        out: &mut Matches,
    ) -> RouteOutcome {
        self.route_from(TOPIC_SLOT, Key::Subject(subject), headers, out)
    }

    fn route_from(
        &self,
        first: u32,
        key: Key<'_>,
        headers: &dyn Headers,
        out: &mut Matches,
    ) -> RouteOutcome {
        let Matches { queues, sessions, headers_asked, work } = out;
        let Work { scratch, pending, reached_in, run, spelling } = work;
        let (given, given_is_amqp) = match key {
            Key::Amqp(key) => (key, true),
            Key::Subject(subject) => (subject.canonical(), false),
        };
        pending.clear();
        *run += 1;
        let mut found = Found {
            spelling: Spelling { given, given_is_amqp, other: spelling, other_ready: false },
            scratch,
            headers_asked,
            reached: Reached { queues, sessions, pending, reached_in, run: *run, any: false },
        };
        found.reached.add_exchange(first);
        while let Some(slot) = found.reached.pending.pop() {
            let Some(exchange) = self.exchange(slot) else {
                continue;
            };
            if !exchange.collect(headers, &mut found) {
                self.take_alternate(exchange, &mut found);
            }
        }
        let any = found.reached.any;
        out.in_order();
        if any {
            RouteOutcome::Routed
        } else {
            RouteOutcome::Unroutable
        }
    }

    fn take_alternate(&self, exchange: &Exchange, found: &mut Found<'_>) {
        let Some(alternate) = &exchange.settings.alternate else {
            return;
        };
        if alternate.is_empty() {
            if let Some(stream) = self.queue(found.spelling.amqp()) {
                found.reached.add(Target::Queue(stream), SubscriptionOptions::default());
            }
        } else if let Some(slot) = self.slot(alternate) {
            found.reached.add_exchange(slot);
        }
    }
}
