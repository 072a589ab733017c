//! What the threads of one run share: each one's counters, the signal to stop, and the wake-up of a
//! thread that waits for another thread's deliveries.

use crate::failure::Failure;
use crate::tally::{Counters, Totals};
use rustix::event::{eventfd, EventfdFlags};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

pub struct Shared {
    lanes: Vec<Seat>,
    stop: AtomicBool,
    failed: AtomicBool,
}

/// One thread's place.
struct Seat {
    counters: Counters,
    /// Waits until others have delivered.
    starved: AtomicBool,
    bell: OwnedFd,
}

impl Shared {
    pub fn new(threads: usize) -> Result<Self, Failure> {
        let seat = |_| {
            let bell = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
            Ok(Seat { counters: Counters::default(), starved: AtomicBool::new(false), bell })
        };
        Ok(Shared {
            lanes: (0..threads).map(seat).collect::<Result<_, Failure>>()?,
            stop: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        })
    }

    pub fn counters(&self, thread: usize) -> &Counters {
        &self.lanes[thread].counters
    }

    pub fn bell(&self, thread: usize) -> &OwnedFd {
        &self.lanes[thread].bell
    }

    pub fn totals(&self) -> Totals {
        self.lanes.iter().fold(Totals::default(), |sum, seat| sum.plus(seat.counters.read()))
    }

    /// Deliveries that are still to come. Deliveries are summed up before expectations, so that the
    /// difference never comes out too small.
    pub fn under_way(&self) -> u64 {
        let delivered: u64 = self.lanes.iter().map(|seat| seat.counters.read().delivered).sum();
        let expected: u64 = self.lanes.iter().map(|seat| seat.counters.read().expected).sum();
        expected.saturating_sub(delivered)
    }

    pub fn set_starved(&self, thread: usize) {
        self.lanes[thread].starved.store(true, Ordering::SeqCst);
    }

    /// Rings for every other thread that waits for deliveries.
    pub fn wake_starved(&self, thread: usize) {
        for (index, seat) in self.lanes.iter().enumerate() {
            if index != thread
                && seat.starved.load(Ordering::SeqCst)
                && seat.starved.swap(false, Ordering::SeqCst)
            {
                ring(&seat.bell);
            }
        }
    }

    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.lanes.iter().for_each(|seat| ring(&seat.bell));
    }

    pub fn fail(&self) {
        self.failed.store(true, Ordering::SeqCst);
        self.stop();
    }

    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}

fn ring(bell: &OwnedFd) {
    // Full means that it rings already.
    let _ = rustix::io::write(bell, &1u64.to_ne_bytes());
}
