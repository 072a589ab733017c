//! The thread that checks passwords. Each check takes tens of milliseconds on purpose, so that one
//! thread does them one after the other: a flood of logins costs one core's share and nobody's latency.

use super::fail_stop::FailStop;
use super::mailbox::{Mailbox, Message};
use koine_broker::access::PasswordCheck;
use std::cell::OnceCell;
use std::sync::mpsc::{channel, Sender};
use std::sync::Arc;

/// The way to the thread, which is started with the first check and ends when this is dropped. How many
/// checks wait is bounded by the shard.
#[derive(Default)]
pub struct PasswordChecks {
    thread: OnceCell<Sender<PasswordCheck>>,
}

impl PasswordChecks {
    /// The answer goes to this mailbox, always the same.
    pub fn submit(&self, check: PasswordCheck, mailbox: &Arc<Mailbox>) {
        let thread = self.thread.get_or_init(|| start(Arc::clone(mailbox)));
        if let Err(refused) = thread.send(check) {
            // The thread could not be started: nobody's password is right.
            let ticket = refused.0.ticket;
            mailbox.post(Message::PasswordChecked { ticket, is_right: false });
        }
    }
}

fn start(mailbox: Arc<Mailbox>) -> Sender<PasswordCheck> {
    let (sender, checks) = channel::<PasswordCheck>();
    let started = std::thread::Builder::new().name("koine-login".to_owned()).spawn(move || {
        let _fail_stop = FailStop("the login thread");
        for check in checks {
            let is_right = check.is_right();
            mailbox.post(Message::PasswordChecked { ticket: check.ticket, is_right });
        }
    });
    if let Err(error) = started {
        tracing::error!(%error, "passwords cannot be checked: the thread for it did not start");
    }
    sender
}
