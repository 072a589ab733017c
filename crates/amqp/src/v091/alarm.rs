//! Publishers while the node is short of memory or disk, as RabbitMQ treats them: a connection is read
//! on until it wants to publish, so that acknowledgements and consumers go on; what it then sends stays
//! in its socket. It is told once per episode, if it can understand it. Heartbeats go on, and its own
//! are not missed.
//!
//! Nothing is taken and lost: the publish that meets the alarm is the first that waits.

use super::content::CLASS_BASIC;
use super::frame::FrameType;
use super::methods::{BasicPublish, ConnectionBlocked, ConnectionUnblocked};
use super::session::{AmqpSession, Stage};
use super::wire::ShortString;
use koine_broker::session::Context;

/// What the session knows of the node's alarms and of its own part in them.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    /// The client has the capability `connection.blocked`.
    pub can_be_told: bool,
    pub has_published: bool,
    /// Blocked was sent, and unblocked was not.
    is_told: bool,
    /// What comes next would be stored: it is not read.
    pub is_parked: bool,
}

/// What a frame would do, as far as it can be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Publish,
    /// The rest of a publish.
    Content,
    Other,
}

impl Next {
    fn of(input: &[u8]) -> Next {
        match input {
            [kind, ..] if *kind == FrameType::Header as u8 || *kind == FrameType::Body as u8 => {
                Next::Content
            }
            &[1, _, _, _, _, _, _, c0, c1, m0, m1, ..] => {
                let id = (u16::from_be_bytes([c0, c1]), u16::from_be_bytes([m0, m1]));
                match id == BasicPublish::ID {
                    true => Next::Publish,
                    false => Next::Other,
                }
            }
            _ => Next::Other,
        }
    }
}

const _: () = assert!(FrameType::Method as u8 == 1 && BasicPublish::ID.0 == CLASS_BASIC);

impl AmqpSession {
    /// True if the front of `input` has to wait for the end of an alarm. A body that was begun when
    /// memory was not short comes to its end: that is what frees memory.
    pub(super) fn must_park(&mut self, input: &[u8], ctx: &mut Context<'_>) -> bool {
        if self.stage != Stage::Running || !ctx.alarms.any() {
            return false;
        }
        let waits = match Next::of(input) {
            Next::Publish => ctx.alarms.disk || self.announced_bytes == 0,
            Next::Content => ctx.alarms.disk,
            Next::Other => false,
        };
        if waits {
            self.alarm.is_parked = true;
            ctx.meter.blocked += 1;
            self.tell_blocked(ctx);
        }
        waits
    }

    /// The node's alarms changed.
    pub(super) fn follow_alarms(&mut self, ctx: &mut Context<'_>) {
        // Looked at again when the input is.
        self.alarm.is_parked = false;
        if self.stage != Stage::Running {
            return;
        }
        if ctx.alarms.any() {
            if self.alarm.has_published {
                self.tell_blocked(ctx);
            }
        } else if std::mem::take(&mut self.alarm.is_told) {
            self.reply(0, ConnectionUnblocked {}, ctx);
        }
    }

    fn tell_blocked(&mut self, ctx: &mut Context<'_>) {
        let Some(reason) = ctx.alarms.reason() else { return };
        if self.alarm.can_be_told && !self.alarm.is_told {
            self.alarm.is_told = true;
            self.reply(0, ConnectionBlocked { reason: ShortString::truncated(reason) }, ctx);
        }
    }
}
