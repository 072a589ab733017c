//! How threads reach a shard: a list behind a lock, and one wake however much was put in. Messages
//! from one sender are taken in the order they were posted.

use super::gate::Place;
use super::report::ShardReport;
use crate::http::AdminCall;
use crate::metrics::Protocol;
use crate::tls::Acceptance;
use koine_cluster::mail::Mail;
use koine_log::{IoClass, IoResult};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{oneshot, Notify};

/// A socket on its way to the shard that will serve it.
pub struct Accepted {
    pub socket: TcpStream,
    pub protocol: Protocol,
    pub remote: SocketAddr,
    pub local: SocketAddr,
    /// `None`: plain, without looking.
    pub encryption: Option<Acceptance>,
    /// Held as long as the socket.
    pub place: Place,
}

pub enum Message {
    Mail(Mail),
    /// What a disk thread did, and how long the request took from being made.
    Disk {
        result: IoResult,
        class: IoClass,
        took: Duration,
    },
    Accepted(Accepted),
    Admin(AdminCall),
    /// Whether a login's password was right.
    PasswordChecked {
        ticket: u64,
        is_right: bool,
    },
    Report(oneshot::Sender<ShardReport>),
    /// Free disk space is below its mark, or not any more.
    DiskLow(bool),
    /// Say goodbye to all peers; the second time to those with something under way as well.
    ShutDown,
    /// End the thread.
    Stop,
}

#[derive(Default)]
pub struct Mailbox {
    /// Guards the messages not yet taken; held for a push or a swap only. Its length is bounded by
    /// what the senders may have under way: each connection's bounds, and one result per disk request.
    waiting: Mutex<Vec<Message>>,
    filled: AtomicBool,
    /// The receiver looks by itself: it need not be woken.
    is_watched: AtomicBool,
    wake: Notify,
}

impl Mailbox {
    pub fn post(&self, message: Message) {
        self.post_all([message]);
    }

    pub fn post_all(&self, messages: impl IntoIterator<Item = Message>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.extend(messages);
        let first = !waiting.is_empty() && !self.filled.swap(true, Ordering::SeqCst);
        drop(waiting);
        if first && !self.is_watched.load(Ordering::SeqCst) {
            self.wake.notify_one();
        }
    }

    /// Everything that waits. Costs one atomic load if there is nothing.
    pub fn take(&self) -> Vec<Message> {
        if !self.filled.load(Ordering::SeqCst) {
            return Vec::new();
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        self.filled.store(false, Ordering::Release);
        std::mem::take(&mut *waiting)
    }

    /// From now on, or no longer, the receiver calls [`Self::take`] all the time. It has to call it once
    /// more after it has said that it no longer does.
    pub fn watch(&self, is_watched: bool) {
        self.is_watched.store(is_watched, Ordering::SeqCst);
    }

    /// Until something may wait. For one task only.
    pub async fn filled(&self) {
        self.wake.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_kept_and_taking_empties() {
        let mailbox = Mailbox::default();
        assert!(mailbox.take().is_empty());
        mailbox.post_all([Message::ShutDown, Message::Stop]);
        mailbox.post(Message::ShutDown);
        let taken = mailbox.take();
        assert!(matches!(taken[..], [Message::ShutDown, Message::Stop, Message::ShutDown]));
        assert!(mailbox.take().is_empty());
    }
}
