//! The generator's one clock: nanoseconds since the process began. Stamps inside messages carry it,
//! so it must never be compared with a stamp of another process.

use std::time::{Duration, Instant};

/// Nanoseconds since [`Clock::start`]. Messages carry the lower 48 bits: good for three days.
pub type Nanos = u64;

#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    pub fn start() -> Self {
        Clock { origin: Instant::now() }
    }

    pub fn now(&self) -> Nanos {
        self.origin.elapsed().as_nanos() as Nanos
    }
}

pub fn nanos(duration: Duration) -> Nanos {
    duration.as_nanos() as Nanos
}

pub fn seconds(nanos: Nanos) -> f64 {
    nanos as f64 / 1e9
}

/// When a run measures: from `start` to `end`. Messages are sent from `origin` on, the time between
/// `origin` and `start` is the warm-up.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub origin: Nanos,
    pub start: Nanos,
    pub end: Nanos,
}

impl Window {
    pub fn contains(&self, at: Nanos) -> bool {
        self.start <= at && at < self.end
    }
}

/// The intended times of the messages of one write: all alike when saturating, evenly spaced when
/// paced. Latency counts from the intended time, so a generator or broker that falls behind does
/// not hide it.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    pub next: Nanos,
    pub step: f64,
    taken: u64,
}

impl Schedule {
    pub fn new(first: Nanos, step: f64) -> Self {
        Schedule { next: first, step, taken: 0 }
    }

    /// The intended time of the next `count` messages (of their last).
    pub fn take(&mut self, count: u64) -> Nanos {
        self.taken += count;
        self.next + (self.step * (self.taken - 1) as f64) as Nanos
    }
}
