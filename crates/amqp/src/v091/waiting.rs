//! The one operation that a connection waits for: the requests it has made and what to do once all
//! of them are answered.

use super::basic_get::Get;
use super::error::{ReplyCode, Violation};
use super::methods::{ExchangeDeclare, Method, MethodId};
use super::queue::Declaration;
use super::text;
use super::wire::ShortString;
use koine_broker::access::Principal;
use koine_broker::metadata::{Outcome, Refusal};
use koine_broker::session::{ConsumerId, Delivery, LoginRefusal, QueueStatus, Token};

/// What the broker said, whatever was asked.
#[derive(Debug)]
pub(super) enum Answer {
    Done,
    Outcome(Outcome),
    Count(u64),
    /// A record, and how many stay ready behind it.
    Pulled(Option<(Delivery, u64)>),
    Status(QueueStatus),
    Login(Result<Principal, LoginRefusal>),
}

#[derive(Debug)]
pub(super) enum Then {
    /// For the words of a refusal: the mechanism, and the name that the client gave.
    LoggedIn {
        mechanism: String,
        user: String,
    },
    ExchangeDeclared(ExchangeDeclare),
    QueueDeclared(Declaration),
    /// One status per stream of the queue.
    QueueCounted {
        queue: String,
        no_wait: bool,
    },
    /// Nothing but the answer is left to do. `what` is named in a refusal.
    Reply {
        method: Method,
        no_wait: bool,
        what: String,
        refused: RefusedMethod,
    },
    /// Purged, or with `delete` deleted.
    QueueEmptied {
        delete: bool,
        no_wait: bool,
        what: String,
    },
    Consumed {
        consumer: ConsumerId,
        queue: String,
        no_wait: bool,
    },
    Cancelled {
        consumer: ConsumerId,
        consumer_tag: ShortString,
        no_wait: bool,
    },
    Got(Get),
    ChannelLeft,
    /// All consumers are gone.
    ConnectionLeft,
    /// The exclusive queues are gone.
    ConnectionReleased,
}

#[derive(Debug)]
pub(super) struct Waiting {
    /// 0 for operations of the connection.
    pub channel: u16,
    open: Vec<Token>,
    /// In the order they came.
    pub answers: Vec<Result<Answer, Refusal>>,
    pub then: Then,
}

impl Waiting {
    pub(super) fn new(channel: u16, open: Vec<Token>, then: Then) -> Self {
        Waiting { channel, open, answers: Vec::new(), then }
    }

    /// False if `token` is not one of this operation's.
    pub(super) fn take(&mut self, token: Token, result: Result<Answer, Refusal>) -> bool {
        let Some(index) = self.open.iter().position(|open| *open == token) else {
            return false;
        };
        self.open.swap_remove(index);
        self.answers.push(result);
        true
    }

    pub(super) fn is_answered(&self) -> bool {
        self.open.is_empty()
    }
}

/// The method that a refusal is reported for.
#[derive(Clone, Copy, Debug)]
pub(super) struct RefusedMethod(pub MethodId);

impl RefusedMethod {
    /// The broker's reason in the words and numbers of AMQP. `what` is the object, as `text` names it.
    pub(super) fn violation(self, refusal: Refusal, what: &str) -> Violation {
        let (code, explanation) = match refusal {
            Refusal::NotFound => (ReplyCode::NotFound, format!("no {what}")),
            Refusal::Exclusive => (ReplyCode::ResourceLocked, text::locked(what)),
            Refusal::InUse => (ReplyCode::PreconditionFailed, format!("{what} in use")),
            Refusal::NotEmpty => (ReplyCode::PreconditionFailed, format!("{what} not empty")),
            Refusal::NotAuthorized => {
                (ReplyCode::AccessRefused, format!("access to {what} refused"))
            }
            Refusal::Predeclared => (ReplyCode::AccessRefused, text::DEFAULT_EXCHANGE.to_string()),
            Refusal::AlreadyExists => {
                (ReplyCode::PreconditionFailed, format!("{what} exists with other properties"))
            }
            Refusal::OtherKind => {
                (ReplyCode::PreconditionFailed, format!("the name of {what} is taken by a topic"))
            }
            Refusal::InvalidName => {
                (ReplyCode::PreconditionFailed, format!("not a possible name: {what}"))
            }
            Refusal::InvalidSettings => {
                (ReplyCode::PreconditionFailed, format!("invalid arguments for {what}"))
            }
            Refusal::QuotaExceeded => {
                (ReplyCode::PreconditionFailed, format!("a limit of the broker is reached: {what}"))
            }
            Refusal::TooLarge => (ReplyCode::PreconditionFailed, format!("too large for {what}")),
            Refusal::InvalidPartitions
            | Refusal::OffsetOutOfRange
            | Refusal::Corrupt
            | Refusal::Busy
            | Refusal::NotLeader
            | Refusal::Cancelled
            | Refusal::DuplicateSequence { .. }
            | Refusal::OutOfOrderSequence
            | Refusal::InvalidProducerEpoch => {
                (ReplyCode::InternalError, format!("{what} cannot be reached now: {refusal:?}"))
            }
        };
        Violation::new(code, &explanation, self.0)
    }
}
