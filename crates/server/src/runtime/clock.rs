//! The one place that reads the clocks.

use koine_base::{Moment, Now, Timestamp};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The same for all threads of a node, so that moments can be compared between shards.
#[derive(Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    pub fn start() -> Self {
        Clock { start: Instant::now() }
    }

    pub fn now(self) -> Now {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as i64);
        Now { moment: Moment(self.start.elapsed().as_micros() as u64), wall: Timestamp(wall) }
    }

    /// `None` for a moment that never comes.
    pub fn instant(self, moment: Moment) -> Option<Instant> {
        match moment {
            Moment::NEVER => None,
            Moment(us) => self.start.checked_add(Duration::from_micros(us)),
        }
    }
}
