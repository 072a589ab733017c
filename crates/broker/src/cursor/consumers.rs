//! Who may be given offsets, whose turn it is, and what each holds. Knows nothing of what is acked.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;

/// Chosen by whoever attaches; unique within the cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConsumerId(pub u64);

/// Credit that never runs out.
pub const CREDIT_UNLIMITED: u32 = u32::MAX;

/// How a consumer takes part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsumerOptions {
    /// Offsets it may be given now; [`CREDIT_UNLIMITED`] for no bound.
    pub credit: u32,
    /// What it is given counts as settled at once (AMQP no-ack, MQTT QoS 0).
    pub auto_settle: bool,
    /// Refuses all others as long as it is attached, and is refused if there are any.
    pub exclusive: bool,
    /// It is never given anything by itself; it only holds what it pulls. Such holders neither
    /// count as consumers nor are in the way of an exclusive one.
    pub pull_only: bool,
    /// Higher is served first as long as it has credit.
    pub priority: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeaseState {
    Held,
    /// The other side has it; only its release is pending.
    Half,
    /// Settled or released; waits to be dropped from the list.
    Gone,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    pub offset: u64,
    /// How often it was delivered before this time.
    pub delivery_count: u32,
    pub state: LeaseState,
}

#[derive(Debug)]
pub(super) struct Consumer {
    pub id: ConsumerId,
    pub options: ConsumerOptions,
    /// No longer given anything, but may still settle what it holds.
    pub stopped: bool,
    in_ring: bool,
    /// Ascending by offset. Settled ones in the middle stay as [`LeaseState::Gone`] for a while.
    leases: VecDeque<Lease>,
    gone_count: usize,
}

impl Consumer {
    pub fn lease_count(&self) -> usize {
        self.leases.len() - self.gone_count
    }

    pub fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.leases.iter().filter(|lease| lease.state != LeaseState::Gone)
    }

    pub fn hold(&mut self, lease: Lease) {
        if self.leases.back().is_none_or(|last| last.offset < lease.offset) {
            self.leases.push_back(lease);
            return;
        }
        let index = self.leases.partition_point(|held| held.offset < lease.offset);
        match self.leases.get_mut(index) {
            Some(slot) if slot.offset == lease.offset => {
                assert!(slot.state == LeaseState::Gone, "an offset was given to its holder again");
                self.gone_count -= 1;
                *slot = lease;
            }
            _ => self.leases.insert(index, lease),
        }
    }

    /// Calls `decide` for each lease in `offsets`, in order. It changes the state; leases that it
    /// leaves as [`LeaseState::Gone`] are dropped.
    pub fn visit(&mut self, offsets: &Range<u64>, mut decide: impl FnMut(&mut Lease)) {
        let front_is_in = self.leases.front().is_some_and(|lease| lease.offset >= offsets.start);
        let mut index = if front_is_in {
            0
        } else {
            self.leases.partition_point(|lease| lease.offset < offsets.start)
        };
        while let Some(lease) = self.leases.get_mut(index) {
            if lease.offset >= offsets.end {
                break;
            }
            if lease.state != LeaseState::Gone {
                decide(lease);
                if lease.state == LeaseState::Gone {
                    self.gone_count += 1;
                }
            }
            index += 1;
        }
        while self.leases.front().is_some_and(|lease| lease.state == LeaseState::Gone) {
            self.leases.pop_front();
            self.gone_count -= 1;
        }
        // Each pass halves the list at least, so its cost is spread over what was settled.
        if self.gone_count > 64 && self.gone_count > self.leases.len() / 2 {
            self.leases.retain(|lease| lease.state != LeaseState::Gone);
            self.gone_count = 0;
        }
    }

    fn may_take(&self) -> bool {
        self.options.credit > 0 && !self.stopped && !self.options.pull_only
    }
}

/// Consumers of equal priority take turns.
#[derive(Debug)]
struct Ring {
    priority: i32,
    /// Slots of those with credit; the front's turn is next.
    turns: VecDeque<u32>,
    member_count: u32,
}

/// Spreads numbers that the broker itself hands out, at a fraction of the default hasher's cost:
/// ids are looked up for every delivery. Not for numbers that a peer could choose.
#[derive(Clone, Copy, Debug, Default)]
struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // Fibonacci hashing: 2^64 over the golden ratio; the fold gives the table its low bits.
        let spread = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = spread ^ (spread >> 32);
    }
}

#[derive(Debug, Default)]
pub(super) struct Consumers {
    slots: Vec<Option<Consumer>>,
    free: Vec<u32>,
    by_id: HashMap<ConsumerId, u32, BuildHasherDefault<NumberHasher>>,
    /// Highest priority first.
    rings: Vec<Ring>,
    /// Sum over all that may take; unlimited counts as `u32::MAX`.
    credit_total: u64,
}

impl Consumers {
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn credit_total(&self) -> u64 {
        self.credit_total
    }

    pub fn contains(&self, id: ConsumerId) -> bool {
        self.by_id.contains_key(&id)
    }

    pub fn get(&self, id: ConsumerId) -> Option<&Consumer> {
        let slot = *self.by_id.get(&id)?;
        self.slots[slot as usize].as_ref()
    }

    pub fn get_mut(&mut self, id: ConsumerId) -> Option<&mut Consumer> {
        let slot = *self.by_id.get(&id)?;
        self.slots[slot as usize].as_mut()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Consumer> {
        self.slots.iter().flatten()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Consumer> {
        self.slots.iter_mut().flatten()
    }

    /// Those that are served, not merely holding.
    pub fn active(&self) -> impl Iterator<Item = &Consumer> {
        self.iter().filter(|consumer| !consumer.stopped && !consumer.options.pull_only)
    }

    pub fn insert(&mut self, id: ConsumerId, options: ConsumerOptions) {
        let consumer = Consumer {
            id,
            options,
            stopped: false,
            in_ring: false,
            leases: VecDeque::new(),
            gone_count: 0,
        };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(consumer);
                slot
            }
            None => {
                self.slots.push(Some(consumer));
                (self.slots.len() - 1) as u32
            }
        };
        self.by_id.insert(id, slot);
        self.ring(options.priority).member_count += 1;
        self.change(slot, |_| {});
    }

    pub fn remove(&mut self, id: ConsumerId) -> Option<Consumer> {
        let slot = self.by_id.remove(&id)?;
        self.change(slot, |consumer| consumer.stopped = true);
        let consumer = self.slots[slot as usize].take()?;
        self.free.push(slot);
        let priority = consumer.options.priority;
        let ring = self.ring(priority);
        ring.member_count -= 1;
        if ring.member_count == 0 {
            self.rings.retain(|ring| ring.priority != priority);
        }
        Some(consumer)
    }

    pub fn set_credit(&mut self, id: ConsumerId, credit: u32) {
        if let Some(&slot) = self.by_id.get(&id) {
            self.change(slot, |consumer| consumer.options.credit = credit);
        }
    }

    pub fn stop(&mut self, id: ConsumerId) {
        if let Some(&slot) = self.by_id.get(&id) {
            self.change(slot, |consumer| consumer.stopped = true);
        }
    }

    /// Whose turn it is; takes one credit from it.
    #[inline]
    pub fn take_turn(&mut self) -> Option<&mut Consumer> {
        let ring = self.rings.iter_mut().find(|ring| !ring.turns.is_empty())?;
        let slot = ring.turns.pop_front()?;
        let consumer = self.slots[slot as usize].as_mut()?;
        if consumer.options.credit != CREDIT_UNLIMITED {
            consumer.options.credit -= 1;
            self.credit_total -= 1;
        }
        if consumer.options.credit > 0 {
            ring.turns.push_back(slot);
        } else {
            consumer.in_ring = false;
        }
        Some(consumer)
    }

    fn ring(&mut self, priority: i32) -> &mut Ring {
        let index = self.rings.partition_point(|ring| ring.priority > priority);
        if self.rings.get(index).is_none_or(|ring| ring.priority != priority) {
            self.rings.insert(index, Ring { priority, turns: VecDeque::new(), member_count: 0 });
        }
        &mut self.rings[index]
    }

    /// Changes a consumer and keeps ring and credit total true to it.
    fn change(&mut self, slot: u32, change: impl FnOnce(&mut Consumer)) {
        let Some(consumer) = self.slots[slot as usize].as_mut() else {
            return;
        };
        if consumer.in_ring {
            self.credit_total -= u64::from(consumer.options.credit);
        }
        change(consumer);
        let (takes, was_in_ring) = (consumer.may_take(), consumer.in_ring);
        if takes {
            self.credit_total += u64::from(consumer.options.credit);
        }
        consumer.in_ring = takes;
        let priority = consumer.options.priority;
        if takes && !was_in_ring {
            self.ring(priority).turns.push_back(slot);
        } else if was_in_ring && !takes {
            self.ring(priority).turns.retain(|&turn| turn != slot);
        }
    }
}
