//! What one thread has counted: totals, faults and latencies. Totals are also published to shared
//! counters, from which progress, rates and the end-to-end window are read.

use crate::clock::{Nanos, Window};
use crate::payload::{Faults, Ledger, Stamp};
use hdrhistogram::Histogram;
use std::sync::atomic::{AtomicU64, Ordering};

/// Latencies above this are counted as this.
const LATENCY_NS_MAX: u64 = 120_000_000_000;
const LATENCY_NS_MIN: u64 = 100;

/// Messages since the run began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub sent: u64,
    pub acknowledged: u64,
    /// Deliveries that what was sent must lead to: more than sent with fan-out.
    pub expected: u64,
    pub delivered: u64,
}

impl Totals {
    pub fn since(self, earlier: Totals) -> Totals {
        Totals {
            sent: self.sent - earlier.sent,
            acknowledged: self.acknowledged - earlier.acknowledged,
            expected: self.expected - earlier.expected,
            delivered: self.delivered - earlier.delivered,
        }
    }

    pub fn plus(self, other: Totals) -> Totals {
        Totals {
            sent: self.sent + other.sent,
            acknowledged: self.acknowledged + other.acknowledged,
            expected: self.expected + other.expected,
            delivered: self.delivered + other.delivered,
        }
    }
}

/// One thread's totals as others see them. On its own cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counters {
    sent: AtomicU64,
    acknowledged: AtomicU64,
    expected: AtomicU64,
    delivered: AtomicU64,
}

impl Counters {
    pub fn publish(&self, totals: &Totals) {
        self.sent.store(totals.sent, Ordering::Relaxed);
        self.acknowledged.store(totals.acknowledged, Ordering::Relaxed);
        self.expected.store(totals.expected, Ordering::Release);
        self.delivered.store(totals.delivered, Ordering::Release);
    }

    /// Deliveries are read first, so that they never seem to overtake what was expected.
    pub fn read(&self) -> Totals {
        let delivered = self.delivered.load(Ordering::Acquire);
        let acknowledged = self.acknowledged.load(Ordering::Acquire);
        Totals {
            delivered,
            acknowledged,
            expected: self.expected.load(Ordering::Acquire),
            sent: self.sent.load(Ordering::Acquire),
        }
    }
}

#[derive(Debug)]
pub struct Tally {
    pub totals: Totals,
    pub faults: Faults,
    window: Window,
    /// From the intended sending to the broker's acknowledgement, ns.
    pub acknowledgement: Histogram<u64>,
    /// From the intended sending to the delivery at a consumer, ns.
    pub delivery: Histogram<u64>,
    /// One in flight: from the sending until delivered everywhere and acknowledged, ns.
    pub whole: Histogram<u64>,
    /// When the last message arrived.
    pub last_delivery: Nanos,
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(LATENCY_NS_MIN, LATENCY_NS_MAX, 3)
        .expect("constant bounds that the histogram's own rules allow")
}

impl Tally {
    pub fn new(window: Window) -> Self {
        Tally {
            totals: Totals::default(),
            faults: Faults::default(),
            window,
            acknowledgement: histogram(),
            delivery: histogram(),
            whole: histogram(),
            last_delivery: 0,
        }
    }

    /// `count` messages of which each leads to `copies` deliveries.
    #[inline]
    pub fn sent(&mut self, count: u64, copies: u64) {
        self.totals.sent += count;
        self.totals.expected += count * copies;
    }

    #[inline]
    pub fn acknowledged(&mut self, count: u64, sent_at: Nanos, at: Nanos) {
        self.totals.acknowledged += count;
        if self.window.contains(sent_at) {
            let took = at.saturating_sub(sent_at);
            self.acknowledgement.saturating_record_n(took, count);
        }
    }

    /// `count` messages with the stamp of the first or only one arrived.
    #[inline]
    pub fn delivered(&mut self, stamp: &Stamp, count: u64, at: Nanos, ledger: &mut Ledger) {
        if !ledger.observe(stamp, count, &mut self.faults) {
            return;
        }
        self.totals.delivered += count;
        self.last_delivery = at;
        if self.window.contains(stamp.sent_at) {
            self.delivery.saturating_record_n(at.saturating_sub(stamp.sent_at), count);
        }
    }

    /// A message too short for a stamp arrived.
    pub fn delivered_unstamped(&mut self, at: Nanos) {
        self.totals.delivered += 1;
        self.last_delivery = at;
    }

    pub fn completed(&mut self, sent_at: Nanos, at: Nanos) {
        if self.window.contains(sent_at) {
            self.whole.saturating_record(at.saturating_sub(sent_at));
        }
    }

    pub fn absorb(&mut self, other: &Tally) {
        self.totals = self.totals.plus(other.totals);
        self.faults.add(&other.faults);
        self.last_delivery = self.last_delivery.max(other.last_delivery);
        for (mine, theirs) in [
            (&mut self.acknowledgement, &other.acknowledgement),
            (&mut self.delivery, &other.delivery),
            (&mut self.whole, &other.whole),
        ] {
            mine.add(theirs).expect("all histograms have the same bounds");
        }
    }
}
