//! The one consumer-state engine: what one subscription has consumed of one stream, and who holds
//! what right now. AMQP queues, MQTT sessions and every other "take and settle" notion are this
//! machine with other options.
//!
//! An offset below the stream's end is in exactly one of these states:
//! ```text
//!            assign                settle Ack               apply
//!   ready ------------> leased ----------------> settling ---------> acked
//!     ^ |                 |  \ settle Half          ^
//!     | +- discard, purge-|---\---------------------+  settle Ack
//!     |                   |    half, leased --------+
//!     +-- Release, detach-+      | detach   ^ resume_half
//!                                half, idle-+
//! ```
//! Durable are `floor`, the acked ranges above it, the half-settled set and `redelivered_below`: they
//! change only by [`Cursor::apply`] of a committed [`Delta`], in the same order on every replica. All
//! else lives on the leader only and ends with [`Cursor::recover`].
//!
//! FIFO costs no memory per message: what was never given out is only the distance from `next` to
//! the end. This machine never sees a record, sends nothing and knows no time.

mod consumers;
mod delta;
mod durable;
mod outcome;

#[cfg(test)]
mod tests;

pub use consumers::{ConsumerId, ConsumerOptions, CREDIT_UNLIMITED};
pub use delta::Delta;
pub use outcome::{Applied, Assign, Assignment, AttachError, Outcome};

use crate::range_set::RangeSet;
use consumers::{Consumers, Lease, LeaseState};
use delta::{normalise, push_range};
use std::collections::HashMap;
use std::ops::Range;

/// Consumers of one cursor. Far above any real queue; bounds what one connection can make us scan.
pub const CONSUMERS_MAX: usize = 1 << 16;

/// Offsets of one cursor that are leased or wait to be given again: 16 bytes each, and 104 in the worst
/// order of acknowledgements (one range of acked offsets between any two), so 16 to 104 MiB. At
/// the limit no new offset is given until some are settled.
pub const LEASES_MAX: u64 = 1 << 20;

/// No bound on how far beyond the floor offsets are given.
pub const SPAN_UNLIMITED: u64 = u64::MAX;

#[derive(Debug)]
pub struct Cursor {
    // Durable.
    floor: u64,
    /// Above the floor, never touching it.
    acked: RangeSet,
    half: RangeSet,
    redelivered_below: u64,

    // The leader's.
    offset_span_max: u64,
    consumers: Consumers,
    leased_count: u64,
    /// Given out before, waiting to be given again. Lowest first.
    requeued: RangeSet,
    /// Failed deliveries of offsets in `requeued`, where not 0.
    delivery_counts: HashMap<u64, u32>,
    /// Acked in a delta that is not applied yet.
    settling: RangeSet,
    /// Half-settled and in nobody's hands.
    half_idle: RangeSet,
    /// Never given out from here on (by this leader).
    next: u64,
    /// No settled offset lies at or beyond both this and `next`. Such ones exist after a recovery
    /// and after a discard ahead of `next`; all other giving need not look for them.
    settled_ahead_end: u64,
    pending: Delta,
}

impl Cursor {
    /// A subscription that starts at `floor`.
    pub fn new(floor: u64) -> Self {
        Cursor {
            floor,
            acked: RangeSet::new(),
            half: RangeSet::new(),
            redelivered_below: 0,
            offset_span_max: SPAN_UNLIMITED,
            consumers: Consumers::default(),
            leased_count: 0,
            requeued: RangeSet::new(),
            delivery_counts: HashMap::new(),
            settling: RangeSet::new(),
            half_idle: RangeSet::new(),
            next: floor,
            settled_ahead_end: 0,
            pending: Delta::default(),
        }
    }

    /// Gives no offset at or beyond `floor + span`. MQTT derives packet identifiers from offsets and
    /// must not have two of the same in flight.
    pub fn set_offset_span_max(&mut self, span: u64) {
        self.offset_span_max = span;
    }

    /// A new leader starts here: nobody is attached, nothing is held, and whatever lies below `end`
    /// may have been delivered by the leader before.
    pub fn recover(&mut self, end: u64) {
        self.consumers = Consumers::default();
        self.leased_count = 0;
        self.requeued.clear();
        self.delivery_counts.clear();
        self.settling.clear();
        self.half_idle = self.half.clone();
        self.next = self.floor;
        self.settled_ahead_end = u64::MAX;
        self.pending = Delta::default();
        self.redelivered_below = self.redelivered_below.max(end);
    }

    /// Everything below is acked.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// Acked above the floor.
    pub fn acked(&self) -> &RangeSet {
        &self.acked
    }

    /// Half-settled and committed as such.
    pub fn half(&self) -> &RangeSet {
        &self.half
    }

    // ---- consumers

    pub fn attach(&mut self, id: ConsumerId, options: ConsumerOptions) -> Result<(), AttachError> {
        if self.consumers.contains(id) {
            return Err(AttachError::AlreadyAttached);
        }
        if self.consumers.len() >= CONSUMERS_MAX {
            return Err(AttachError::TooMany);
        }
        let any_active = self.consumers.active().next().is_some();
        let refused = options.exclusive && !options.pull_only && any_active;
        if refused || self.is_exclusive() {
            return Err(AttachError::Exclusive);
        }
        self.consumers.insert(id, options);
        Ok(())
    }

    /// Gives nothing more to the consumer. It may still settle what it holds.
    pub fn stop(&mut self, id: ConsumerId) {
        self.consumers.stop(id);
    }

    /// Ends the consumer and returns what it held. That goes back to its place, the deliveries
    /// counting as failed ones; half-settled ones stay with the subscription in nobody's hands.
    pub fn detach(&mut self, id: ConsumerId) -> Vec<Range<u64>> {
        let mut released = Vec::new();
        let outcome = Outcome::Release { count_delivery: true };
        self.settle(id, std::slice::from_ref(&(0..u64::MAX)), outcome, &mut released);
        self.consumers.remove(id);
        released
    }

    /// Adds to what the consumer may be given; saturates below unlimited.
    pub fn add_credit(&mut self, id: ConsumerId, credit: u32) {
        let Some(consumer) = self.consumers.get(id) else {
            return;
        };
        let before = consumer.options.credit;
        if before != CREDIT_UNLIMITED {
            self.consumers.set_credit(id, before.saturating_add(credit).min(CREDIT_UNLIMITED - 1));
        }
    }

    pub fn set_credit(&mut self, id: ConsumerId, credit: u32) {
        self.consumers.set_credit(id, credit);
    }

    pub fn credit(&self, id: ConsumerId) -> u32 {
        self.consumers.get(id).map_or(0, |consumer| consumer.options.credit)
    }

    pub fn is_attached(&self, id: ConsumerId) -> bool {
        self.consumers.contains(id)
    }

    /// Those that are served; not the stopped, not those that only pull.
    pub fn consumer_count(&self) -> usize {
        self.consumers.active().count()
    }

    pub fn is_exclusive(&self) -> bool {
        self.consumers.active().any(|consumer| consumer.options.exclusive)
    }

    // ---- giving

    /// Where the dispatcher should read next and how many offsets from there could be given at once,
    /// if anyone may take something and something below `end` is ready.
    pub fn next_wanted(&mut self, end: u64) -> Option<(u64, u64)> {
        if self.consumers.credit_total() == 0 {
            return None;
        }
        let ready = self.next_ready(end)?;
        let count = (ready.end - ready.start).min(self.consumers.credit_total());
        Some((ready.start, count))
    }

    /// The first run of ready offsets, whether or not anyone has credit.
    pub fn next_ready(&mut self, end: u64) -> Option<Range<u64>> {
        let window_end = self.floor.saturating_add(self.offset_span_max);
        if let Some(first) = self.requeued.first() {
            // Within the window when it was given first, and the window only moves up.
            return Some(first);
        }
        if self.leased_count + self.requeued.count() >= LEASES_MAX {
            return None;
        }
        self.skip_settled();
        let mut run_end = end.min(window_end);
        if self.next < self.settled_ahead_end {
            for set in [&self.acked, &self.half, &self.settling] {
                if let Some(start) = set.next_start(self.next) {
                    run_end = run_end.min(start);
                }
            }
        }
        (self.next < run_end).then_some(self.next..run_end)
    }

    /// Moves `next` over what is settled already.
    fn skip_settled(&mut self) {
        if self.next >= self.settled_ahead_end {
            return;
        }
        while let Some(range) =
            [&self.acked, &self.half, &self.settling].iter().find_map(|set| set.range_at(self.next))
        {
            self.next = range.end;
        }
        let last_end = |set: &RangeSet| set.ranges().next_back().map_or(0, |range| range.end);
        self.settled_ahead_end =
            last_end(&self.acked).max(last_end(&self.half)).max(last_end(&self.settling));
    }

    /// Gives `offset`, whose record the dispatcher has at hand, to whose turn it is. Offsets are given
    /// in the order of [`Self::next_wanted`]; those that hold no record must be
    /// [discarded](Self::discard), or they stay next for ever.
    #[inline]
    pub fn assign(&mut self, offset: u64) -> Assign {
        if let Some(refused) = self.refuses(offset) {
            return refused;
        }
        let Some(consumer) = self.consumers.take_turn() else {
            return Assign::NoTaker;
        };
        let (id, auto_settle) = (consumer.id, consumer.options.auto_settle);
        Assign::Given(self.give(offset, id, auto_settle))
    }

    /// Gives `offset` to `holder` on its own request (AMQP `basic.get`), without regard to credit or
    /// turns. `None` if the offset is not next or the holder is not attached.
    pub fn pull(
        &mut self,
        offset: u64,
        holder: ConsumerId,
        auto_settle: bool,
    ) -> Option<Assignment> {
        if self.refuses(offset).is_some() || !self.consumers.contains(holder) {
            return None;
        }
        Some(self.give(offset, holder, auto_settle))
    }

    #[inline]
    fn refuses(&mut self, offset: u64) -> Option<Assign> {
        if let Some(first) = self.requeued.first() {
            return (first.start != offset).then_some(Assign::NotWanted);
        }
        self.skip_settled();
        if offset != self.next {
            return Some(Assign::NotWanted);
        }
        let in_window =
            offset - self.floor < self.offset_span_max && self.leased_count < LEASES_MAX;
        (!in_window).then_some(Assign::NoTaker)
    }

    fn give(&mut self, offset: u64, consumer: ConsumerId, auto_settled: bool) -> Assignment {
        let requeued = self.requeued.remove(offset..offset + 1) > 0;
        let delivery_count =
            if requeued { self.delivery_counts.remove(&offset).unwrap_or(0) } else { 0 };
        if !requeued {
            self.next = offset + 1;
        }
        if auto_settled {
            self.settling.insert(offset..offset + 1);
            push_range(&mut self.pending.acked, offset..offset + 1);
        } else if let Some(consumer) = self.consumers.get_mut(consumer) {
            consumer.hold(Lease { offset, delivery_count, state: LeaseState::Held });
            self.leased_count += 1;
        }
        let redelivered = requeued || offset < self.redelivered_below;
        Assignment { consumer, redelivered, delivery_count, auto_settled }
    }

    /// Settles the ready ones of `offsets`: they expired, or no record has this offset. Returns how
    /// many there were. Only offsets below the stream's end may be named.
    pub fn discard(&mut self, offsets: Range<u64>) -> u64 {
        let mut count = 0;
        for range in self.ready_ranges(offsets) {
            count += range.end - range.start;
            self.drop_requeued(&range);
            if range.start <= self.next {
                self.next = self.next.max(range.end);
            }
            self.settled_ahead_end = self.settled_ahead_end.max(range.end);
            self.settling.insert(range.clone());
            push_range(&mut self.pending.acked, range);
        }
        count
    }

    /// Settles all that is ready below `end`; what is held stays held. Returns how many.
    pub fn purge(&mut self, end: u64) -> u64 {
        self.discard(self.floor..end)
    }

    fn ready_ranges(&self, within: Range<u64>) -> Vec<Range<u64>> {
        let mut ready: Vec<Range<u64>> = self
            .requeued
            .ranges()
            .map(|range| range.start.max(within.start)..range.end.min(within.end))
            .filter(|range| !range.is_empty())
            .collect();
        let untouched = within.start.max(self.next).max(self.floor)..within.end;
        for gap in self.acked.gaps(untouched) {
            for gap in self.half.gaps(gap) {
                // Discarded beyond `next` before, not applied yet.
                ready.extend(self.settling.gaps(gap));
            }
        }
        ready
    }

    fn drop_requeued(&mut self, range: &Range<u64>) {
        if self.requeued.remove(range.clone()) > 0 && !self.delivery_counts.is_empty() {
            self.delivery_counts.retain(|offset, _| !range.contains(offset));
        }
    }

    // ---- settling

    /// Settles what `consumer` holds of `ranges`. Appends the offsets that it really held to
    /// `settled` and returns how many it did not hold (only counted within the given ranges, so a
    /// range to `u64::MAX` makes the number meaningless).
    ///
    /// An [`Outcome::Ack`] or [`Outcome::Half`] is durable once the next [`Self::take_delta`] is
    /// committed and applied. Until then an acked offset is given to nobody.
    pub fn settle(
        &mut self,
        consumer: ConsumerId,
        ranges: &[Range<u64>],
        outcome: Outcome,
        settled: &mut Vec<Range<u64>>,
    ) -> u64 {
        let mut unknown = 0u64;
        for range in ranges {
            let held = self.settle_range(consumer, range, outcome, settled);
            unknown = unknown.saturating_add(range.end.saturating_sub(range.start) - held);
        }
        unknown
    }

    fn settle_range(
        &mut self,
        consumer: ConsumerId,
        range: &Range<u64>,
        outcome: Outcome,
        settled: &mut Vec<Range<u64>>,
    ) -> u64 {
        let Cursor {
            consumers,
            pending,
            requeued,
            delivery_counts,
            settling,
            half_idle,
            leased_count,
            ..
        } = self;
        let Some(consumer) = consumers.get_mut(consumer) else {
            return 0;
        };
        let mut held = 0;
        consumer.visit(range, |lease| {
            let offset = lease.offset..lease.offset + 1;
            held += 1;
            push_range(settled, offset.clone());
            match (outcome, lease.state) {
                (Outcome::Half, LeaseState::Held) => {
                    lease.state = LeaseState::Half;
                    push_range(&mut pending.half, offset);
                    return;
                }
                (Outcome::Half, _) => return,
                (Outcome::Ack, _) => {
                    settling.insert(offset.clone());
                    push_range(&mut pending.acked, offset);
                }
                (Outcome::Release { .. }, LeaseState::Half) => {
                    half_idle.insert(offset);
                }
                (Outcome::Release { count_delivery }, _) => {
                    let count = lease.delivery_count.saturating_add(u32::from(count_delivery));
                    if count > 0 {
                        delivery_counts.insert(lease.offset, count);
                    }
                    requeued.insert(offset);
                }
            }
            lease.state = LeaseState::Gone;
            *leased_count -= 1;
        });
        held
    }

    /// Hands the half-settled offsets that nobody holds to `consumer`, which must ask the other side
    /// to release them (MQTT: send PUBREL again). They are returned in order.
    pub fn resume_half(&mut self, consumer: ConsumerId) -> Vec<Range<u64>> {
        let Some(consumer) = self.consumers.get_mut(consumer) else {
            return Vec::new();
        };
        let resumed: Vec<Range<u64>> = self.half_idle.ranges().collect();
        for offset in resumed.iter().cloned().flatten() {
            consumer.hold(Lease { offset, delivery_count: 0, state: LeaseState::Half });
            self.leased_count += 1;
        }
        self.half_idle.clear();
        resumed
    }

    /// Moves the floor to `floor` whatever is held or ready below: the stream was cut there, or an
    /// operator skipped ahead. Durable with the next [`Self::take_delta`].
    pub fn advance_floor(&mut self, floor: u64) {
        if floor > self.floor {
            self.pending.floor = self.pending.floor.max(floor);
        }
    }

    /// What must be made durable since the last call. The caller commits it and then calls
    /// [`Self::apply`] with it on every replica.
    pub fn take_delta(&mut self) -> Option<Delta> {
        if self.pending.is_empty() {
            return None;
        }
        let mut delta = std::mem::take(&mut self.pending);
        normalise(&mut delta.acked);
        normalise(&mut delta.half);
        Some(delta)
    }

    // ---- counting

    /// Offsets below `end` that could be given now if someone had credit.
    pub fn ready_count(&self, end: u64) -> u64 {
        let taken =
            self.acked.count() + self.settling.count() + self.half_idle.count() + self.leased_count;
        end.saturating_sub(self.floor).saturating_sub(taken)
    }

    /// Offsets in consumers' hands.
    pub fn unacked_count(&self) -> u64 {
        self.leased_count
    }

    pub fn unacked_count_of(&self, consumer: ConsumerId) -> usize {
        self.consumers.get(consumer).map_or(0, |consumer| consumer.lease_count())
    }

    /// What one consumer holds, ascending.
    pub fn held_by(&self, consumer: ConsumerId) -> Vec<Range<u64>> {
        let mut held = Vec::new();
        if let Some(consumer) = self.consumers.get(consumer) {
            for lease in consumer.leases() {
                push_range(&mut held, lease.offset..lease.offset + 1);
            }
        }
        held
    }
}
