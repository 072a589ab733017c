//! What a cursor is told and what it answers.

use super::{ConsumerId, CONSUMERS_MAX};
use std::fmt;

/// One offset given to one consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assignment {
    pub consumer: ConsumerId,
    /// It may have been delivered before.
    pub redelivered: bool,
    /// Failed deliveries known of, not counting this one. Starts from 0 after a change of leader.
    pub delivery_count: u32,
    /// It counts as settled already; the consumer holds nothing.
    pub auto_settled: bool,
}

/// Answer to [`Cursor::assign`](super::Cursor::assign).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assign {
    Given(Assignment),
    /// The offset is settled, held or not next in order: go on with the next record.
    NotWanted,
    /// Nobody may take anything now: stop.
    NoTaker,
}

/// What happens to leased offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done with.
    Ack,
    /// Back to its place in the queue, to be given to anyone.
    Release { count_delivery: bool },
    /// Received; its release is still to come. The lease stays.
    Half,
}

/// Why a consumer could not attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachError {
    /// The id is in use.
    AlreadyAttached,
    /// An exclusive consumer is there, or an exclusive one came and was not the first.
    Exclusive,
    /// There are [`CONSUMERS_MAX`] already.
    TooMany,
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AttachError::AlreadyAttached => write!(f, "the consumer is attached already"),
            AttachError::Exclusive => write!(f, "in exclusive use"),
            AttachError::TooMany => write!(f, "more than {CONSUMERS_MAX} consumers"),
        }
    }
}

impl std::error::Error for AttachError {}

/// What [`Cursor::apply`](super::Cursor::apply) changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Offsets that were not acked before.
    pub acked_count: u64,
    /// Everything below is acked and may be dropped from a queue's storage.
    pub floor: u64,
    pub floor_moved: bool,
}
