//! Looking again for a moment before a shard's thread sleeps. To wake a processor that sleeps takes tens
//! of microseconds, which a client with one message in flight would pay at every turn. Worth it only
//! while the next work usually comes at once, and for no more threads than leave the others their
//! processors.

use super::mailbox::Mailbox;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long a thread looks before it sleeps. A synchronous write of a good disk takes as long.
pub const LOOK_MAX: Duration = Duration::from_micros(150);

/// How many pauses in a row have to be short, about, for it to be worth it.
const SHORT_PAUSES_MIN: u32 = 8;
const SHORT_PAUSES_MAX: u32 = 16;
/// One that was not takes away as much as so many that were.
const LONG_PAUSE_COSTS: u32 = 3;

/// Who offers its processor gets it back at once, unless another thread had use for it.
const TAKEN_MIN: Duration = Duration::from_micros(15);

/// The threads of a node that may look at the same time.
pub struct Lookers {
    free: AtomicUsize,
}

impl Lookers {
    /// Half of the processors: clients on the same machine need some as well.
    pub fn new(processors: usize) -> Self {
        Lookers { free: AtomicUsize::new((processors / 2).max(1)) }
    }

    fn take(&self) -> bool {
        let take = |free: usize| free.checked_sub(1);
        self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    fn give_back(&self) {
        self.free.fetch_add(1, Ordering::Relaxed);
    }
}

/// A thread that looks; while it does nobody has to wake it.
pub struct Looking<'a> {
    lookers: &'a Lookers,
    mailbox: &'a Mailbox,
}

impl<'a> Looking<'a> {
    /// None if enough others look. When it is dropped the mailbox has to be emptied once more.
    pub fn begin(lookers: &'a Lookers, mailbox: &'a Mailbox) -> Option<Self> {
        let may = lookers.take();
        may.then(|| {
            mailbox.watch(true);
            Looking { lookers, mailbox }
        })
    }
}

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        self.mailbox.watch(false);
        self.lookers.give_back();
    }
}

/// What one thread's pauses were like lately.
#[derive(Default)]
pub struct Pauses {
    short: u32,
}

impl Pauses {
    pub fn note(&mut self, lasted: Duration) {
        self.short = match lasted <= LOOK_MAX {
            true => (self.short + 1).min(SHORT_PAUSES_MAX),
            false => self.short.saturating_sub(LONG_PAUSE_COSTS),
        };
    }

    /// To look would take from others what they need.
    pub fn note_crowd(&mut self) {
        self.short = 0;
    }

    pub fn are_short(&self) -> bool {
        self.short >= SHORT_PAUSES_MIN
    }
}

/// How a look ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// There is work.
    Found,
    /// It takes longer than is worth it.
    Nothing,
    /// Somebody else has work for this processor.
    InTheWay,
}

/// Looks until `is_over`. `look` lets everything else of the thread have its turn.
pub async fn until(is_over: impl Fn() -> bool, look: impl AsyncFn()) -> Look {
    let since = Instant::now();
    let mut before = since;
    while before - since < LOOK_MAX {
        look().await;
        if is_over() {
            return Look::Found;
        }
        let offered = Instant::now();
        std::thread::yield_now();
        before = Instant::now();
        if before - offered > TAKEN_MIN {
            return Look::InTheWay;
        }
    }
    Look::Nothing
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_micros(40);
    const LONG: Duration = Duration::from_millis(5);

    #[test]
    fn only_who_is_called_all_the_time_looks() {
        let mut pauses = Pauses::default();
        for _ in 1..SHORT_PAUSES_MIN {
            pauses.note(SHORT);
            assert!(!pauses.are_short());
        }
        pauses.note(SHORT);
        assert!(pauses.are_short());
        (0..100).for_each(|_| pauses.note(SHORT));
        (0..3).for_each(|_| pauses.note(LONG));
        assert!(!pauses.are_short(), "three long ones end it");
        for _ in 0..100 {
            pauses.note(SHORT);
            pauses.note(LONG);
            assert!(!pauses.are_short(), "every other one is not enough");
        }
    }

    #[test]
    fn some_processors_are_left_to_others() {
        let lookers = Lookers::new(5);
        let mailboxes = [Mailbox::default(), Mailbox::default(), Mailbox::default()];
        let first = Looking::begin(&lookers, &mailboxes[0]);
        let second = Looking::begin(&lookers, &mailboxes[1]);
        assert!(first.is_some() && second.is_some());
        assert!(Looking::begin(&lookers, &mailboxes[2]).is_none());
        drop(first);
        assert!(Looking::begin(&lookers, &mailboxes[2]).is_some());
    }
}
