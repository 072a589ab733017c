//! When a node takes no more from publishers, and when it does again: the alarms, and the watch over
//! free disk space. Pure decisions; who measures is the host, who acts are the shards and sessions.
//!
//! Consumers are never stopped by an alarm: what they take and settle is what ends one.

/// What the node is short of. Publishers wait or are refused, in their protocol's way, while any is
/// set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alarms {
    /// Free space is below the mark. What is left is for metadata, settlements and group offsets.
    pub disk: bool,
    /// What peers have sent and the node still holds is over its budget.
    pub memory: bool,
}

impl Alarms {
    pub fn any(self) -> bool {
        self.disk || self.memory
    }

    /// In the words that AMQP clients know from RabbitMQ; `None` without an alarm.
    pub fn reason(self) -> Option<&'static str> {
        match (self.memory, self.disk) {
            (true, true) => Some("low on memory & disk"),
            (true, false) => Some("low on memory"),
            (false, true) => Some("low on disk"),
            (false, false) => None,
        }
    }
}

/// The alarm ends this far above its mark, or a tenth of the mark if that is less: a disk that hovers
/// at the mark must not block and unblock everybody all the time.
const DISK_HYSTERESIS_BYTES_MAX: u64 = 256 << 20;

/// How often to look when there is plenty of room, and when there is little.
const DISK_LOOK_MS_MAX: u64 = 1_000;
const DISK_LOOK_MS_MIN: u64 = 100;

/// With less than this many marks free there is little room: a fast disk fills a mark of 1 GiB in a
/// second.
const DISK_PLENTY_MARKS: u64 = 4;

/// Decides on the disk alarm from what was measured.
#[derive(Clone, Debug)]
pub struct DiskWatch {
    free_bytes_min: u64,
    is_low: bool,
}

impl DiskWatch {
    /// With 0 there is never an alarm.
    pub fn new(free_bytes_min: u64) -> Self {
        DiskWatch { free_bytes_min, is_low: false }
    }

    pub fn is_low(&self) -> bool {
        self.is_low
    }

    /// Takes a measurement; true if it changed the alarm.
    pub fn measured(&mut self, free_bytes: u64) -> bool {
        let mark = self.free_bytes_min;
        let end = mark.saturating_add((mark / 10).min(DISK_HYSTERESIS_BYTES_MAX));
        let before = self.is_low;
        self.is_low = match before {
            true => free_bytes < end,
            false => free_bytes < mark,
        };
        self.is_low != before
    }

    /// When to measure again.
    pub fn look_again_ms(&self, free_bytes: u64) -> u64 {
        match free_bytes >= self.free_bytes_min.saturating_mul(DISK_PLENTY_MARKS) {
            true => DISK_LOOK_MS_MAX,
            false => DISK_LOOK_MS_MIN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_alarm_has_two_marks() {
        let mut watch = DiskWatch::new(1000);
        let mut check = |free, is_low| {
            let before = watch.is_low();
            assert_eq!(watch.measured(free), before != is_low, "{free}");
            assert_eq!(watch.is_low(), is_low, "{free}");
        };
        check(1000, false);
        check(999, true);
        check(0, true);
        check(1099, true);
        check(1100, false);
        check(1000, false);
    }

    #[test]
    fn the_second_mark_of_a_large_one_is_near() {
        let mut watch = DiskWatch::new(100 << 30);
        assert!(watch.measured(1));
        assert!(watch.measured((100 << 30) + DISK_HYSTERESIS_BYTES_MAX));
    }

    #[test]
    fn no_mark_is_no_alarm_and_little_room_is_watched_closely() {
        let mut watch = DiskWatch::new(0);
        assert!(!watch.measured(0) && !watch.is_low());
        assert_eq!(watch.look_again_ms(0), DISK_LOOK_MS_MAX);
        let watch = DiskWatch::new(100);
        assert_eq!(watch.look_again_ms(400), DISK_LOOK_MS_MAX);
        assert_eq!(watch.look_again_ms(399), DISK_LOOK_MS_MIN);
    }

    #[test]
    fn reasons_name_what_is_short() {
        let reason = |memory, disk| Alarms { disk, memory }.reason();
        assert_eq!(reason(false, false), None);
        assert_eq!(reason(false, true), Some("low on disk"));
        assert_eq!(reason(true, false), Some("low on memory"));
        assert_eq!(reason(true, true), Some("low on memory & disk"));
    }
}
