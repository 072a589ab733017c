//! Heartbeats by deadline (0-9-1 section 4.2.7): any traffic counts, silence of half the interval is
//! filled, silence of two intervals means that the peer is gone. Both sides use the client's interval.

use koine_base::Moment;

#[derive(Debug)]
pub(super) struct Heartbeat {
    /// 0 is off.
    interval_ms: u64,
    last_received: Moment,
    last_sent: Moment,
}

impl Heartbeat {
    pub(super) fn new(now: Moment) -> Self {
        Heartbeat { interval_ms: 0, last_received: now, last_sent: now }
    }

    pub(super) fn start(&mut self, interval_seconds: u16, now: Moment) {
        *self = Heartbeat { interval_ms: u64::from(interval_seconds) * 1000, ..Self::new(now) };
    }

    pub(super) fn received(&mut self, now: Moment) {
        self.last_received = now;
    }

    pub(super) fn sent(&mut self, now: Moment) {
        self.last_sent = now;
    }

    pub(super) fn is_send_due(&self, now: Moment) -> bool {
        self.send_at() <= now
    }

    pub(super) fn is_dead(&self, now: Moment) -> bool {
        self.dead_at() <= now
    }

    pub(super) fn deadline(&self) -> Moment {
        self.send_at().min(self.dead_at())
    }

    fn send_at(&self) -> Moment {
        self.after(self.last_sent, self.interval_ms / 2)
    }

    fn dead_at(&self) -> Moment {
        self.after(self.last_received, self.interval_ms * 2)
    }

    fn after(&self, moment: Moment, ms: u64) -> Moment {
        if self.interval_ms == 0 {
            return Moment::NEVER;
        }
        moment.after_ms(ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_filled_and_two_intervals_are_death() {
        let second = |count: u64| Moment(count * 1_000_000);
        let mut heartbeat = Heartbeat::new(second(0));
        assert_eq!(heartbeat.deadline(), Moment::NEVER);
        heartbeat.start(10, second(0));
        assert_eq!(heartbeat.deadline(), second(5));
        assert!(heartbeat.is_send_due(second(5)));
        heartbeat.sent(second(5));
        assert_eq!(heartbeat.deadline(), second(10));
        heartbeat.sent(second(19));
        assert_eq!(heartbeat.deadline(), second(20));
        assert!(heartbeat.is_dead(second(20)));
        heartbeat.received(second(19));
        assert!(!heartbeat.is_dead(second(20)));
    }
}
