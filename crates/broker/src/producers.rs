//! What one stream knows of its idempotent producers: enough to answer a repeated batch with the
//! offset it got the first time, and to refuse a gap. The rules are Apache Kafka's
//! (`ProducerAppendInfo`, `ProducerStateEntry` of its storage module, 4.x), but for one: a producer that
//! was never known here begins with sequence 0. Its first batches may have been lost with a leader,
//! and a later one must not get in before they are sent again.
//!
//! Two layers: `committed` is durable and equal on every replica; `proposed` is the leader's, for
//! batches on their way through the log, so that a producer may have several in flight. No clock: time
//! comes with each batch, from the log entry.

use crate::snapshot::{
    put_number, put_signed, take_as, take_count, take_format, take_number, take_signed,
    take_signed_as, SnapshotError,
};
use koine_base::Timestamp;
use std::collections::{HashMap, VecDeque};

const FORMAT: u8 = 2;

/// Batches remembered per producer: what a Java producer has in flight at most
/// (`max.in.flight.requests.per.connection` of an idempotent producer).
pub const BATCHES_MAX: usize = 5;

/// Batches of one producer on their way at once. Clients keep 5; others are told to come back.
pub const PROPOSED_MAX: usize = 64;

/// Producers remembered per stream, 200 bytes each or less. Kafka has no bound here and had outages
/// from it; beyond the bound the longest idle ones are forgotten and may go on with any sequence.
pub const PRODUCERS_MAX: usize = 100_000;

/// One batch of one producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerBatch {
    pub producer_id: i64,
    pub epoch: i16,
    pub base_sequence: i32,
    /// Records, 1 or more.
    pub count: u32,
    pub base_offset: u64,
    /// When the leader took it, by its wall clock; decides expiry.
    pub timestamp: Timestamp,
}

/// Whether a batch may be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accept,
    /// It is in the log already, from this offset on. Answer as if it had just been appended.
    Duplicate {
        base_offset: u64,
    },
    /// The very same batch is on its way to this offset (the client reconnected and repeated it). Its
    /// fate is not known yet: answer both when it is.
    InFlight {
        base_offset: u64,
    },
    /// A batch is missing before it, or it is older than what is remembered. Also a new epoch that
    /// does not start at sequence 0.
    OutOfOrder,
    /// A newer instance of the producer is known.
    InvalidEpoch,
    /// More than [`PROPOSED_MAX`] on their way.
    TooManyInFlight,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Remembered {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: u64,
}

impl Remembered {
    fn of(batch: &ProducerBatch) -> Self {
        Remembered {
            first_sequence: batch.base_sequence,
            last_sequence: sequence_after(batch.base_sequence, batch.count - 1),
            base_offset: batch.base_offset,
        }
    }

    fn is(&self, base_sequence: i32, last_sequence: i32) -> bool {
        self.first_sequence == base_sequence && self.last_sequence == last_sequence
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    /// Oldest first; empty after a marker raised the epoch.
    batches: VecDeque<Remembered>,
    last_seen: Timestamp,
}

/// The leader's view of one producer's batches on their way, all of one epoch.
#[derive(Clone, Debug)]
struct Proposed {
    epoch: i16,
    batches: VecDeque<Remembered>,
}

/// The idempotent producers of one stream.
#[derive(Clone, Debug, Default)]
pub struct Producers {
    committed: HashMap<i64, Producer>,
    /// Whoever was forgotten has a number below this: numbers are given out in ascending order.
    forgotten_below: i64,
    proposed: HashMap<i64, Proposed>,
}

impl Producers {
    pub fn new() -> Self {
        Self::default()
    }

    /// Producers remembered.
    pub fn len(&self) -> usize {
        self.committed.len()
    }

    /// True if no producer was ever remembered: there is nothing that a checkpoint has to say.
    pub fn is_empty(&self) -> bool {
        self.committed.is_empty() && self.forgotten_below == 0
    }

    pub fn knows(&self, producer_id: i64) -> bool {
        self.committed.contains_key(&producer_id) || self.proposed.contains_key(&producer_id)
    }

    /// On the leader, before a batch of `count` records (1 or more) is proposed.
    pub fn check(&self, producer_id: i64, epoch: i16, base_sequence: i32, count: u32) -> Verdict {
        let last_sequence = sequence_after(base_sequence, count.max(1) - 1);
        let committed = self.committed.get(&producer_id);
        let proposed = self.proposed.get(&producer_id);
        let known_epoch = proposed.map(|p| p.epoch).max(committed.map(|c| c.epoch));
        let Some(known_epoch) = known_epoch else {
            return accept_if(base_sequence == 0 || producer_id < self.forgotten_below);
        };
        if epoch < known_epoch {
            return Verdict::InvalidEpoch;
        }
        if epoch > known_epoch {
            return accept_if(base_sequence == 0);
        }
        let proposed = proposed.filter(|proposed| proposed.epoch == epoch);
        if let Some(proposed) = proposed {
            let mut batches = proposed.batches.iter();
            if let Some(batch) = batches.find(|batch| batch.is(base_sequence, last_sequence)) {
                return Verdict::InFlight { base_offset: batch.base_offset };
            }
        }
        let committed = committed.filter(|committed| committed.epoch == epoch);
        let repeated = committed
            .and_then(|c| c.batches.iter().find(|batch| batch.is(base_sequence, last_sequence)));
        if let Some(batch) = repeated {
            return Verdict::Duplicate { base_offset: batch.base_offset };
        }
        if proposed.is_some_and(|proposed| proposed.batches.len() >= PROPOSED_MAX) {
            return Verdict::TooManyInFlight;
        }
        let newest = proposed
            .and_then(|proposed| proposed.batches.back())
            .or(committed.and_then(|committed| committed.batches.back()));
        match newest {
            Some(newest) => accept_if(base_sequence == sequence_after(newest.last_sequence, 1)),
            // A marker raised the epoch and nothing of that epoch came yet.
            None => accept_if(base_sequence == 0),
        }
    }

    /// On the leader: an accepted batch is on its way.
    pub fn propose(&mut self, batch: &ProducerBatch) {
        let proposed = self
            .proposed
            .entry(batch.producer_id)
            .or_insert_with(|| Proposed { epoch: batch.epoch, batches: VecDeque::new() });
        if proposed.epoch != batch.epoch {
            proposed.epoch = batch.epoch;
            proposed.batches.clear();
        }
        proposed.batches.push_back(Remembered::of(batch));
    }

    /// Forgets what was on its way: leadership or the proposals were lost.
    pub fn abandon_proposed(&mut self) {
        self.proposed.clear();
    }

    /// On every replica, for each committed batch of an idempotent producer, in log order.
    pub fn commit(&mut self, batch: &ProducerBatch) {
        let remembered = Remembered::of(batch);
        self.settle_proposed(batch, &remembered);
        if self.committed.len() >= PRODUCERS_MAX && !self.committed.contains_key(&batch.producer_id)
        {
            self.forget_longest_idle();
        }
        let producer = self.committed.entry(batch.producer_id).or_insert_with(|| Producer {
            epoch: batch.epoch,
            batches: VecDeque::with_capacity(BATCHES_MAX),
            last_seen: batch.timestamp,
        });
        if producer.epoch != batch.epoch {
            producer.epoch = batch.epoch;
            producer.batches.clear();
        }
        if producer.batches.len() == BATCHES_MAX {
            producer.batches.pop_front();
        }
        producer.batches.push_back(remembered);
        producer.last_seen = producer.last_seen.max(batch.timestamp);
    }

    fn settle_proposed(&mut self, batch: &ProducerBatch, remembered: &Remembered) {
        let Some(proposed) = self.proposed.get_mut(&batch.producer_id) else {
            return;
        };
        if proposed.epoch == batch.epoch && proposed.batches.front() == Some(remembered) {
            proposed.batches.pop_front();
            if proposed.batches.is_empty() {
                self.proposed.remove(&batch.producer_id);
            }
        }
    }

    /// On every replica: a committed transaction marker of this producer. It may raise the epoch, after
    /// which the producer starts again at sequence 0.
    pub fn commit_marker(&mut self, producer_id: i64, epoch: i16, timestamp: Timestamp) {
        if let Some(producer) = self.committed.get_mut(&producer_id) {
            if epoch > producer.epoch {
                producer.epoch = epoch;
                producer.batches.clear();
            }
            producer.last_seen = producer.last_seen.max(timestamp);
        }
    }

    /// Epoch of the last batch or marker of a producer.
    pub fn epoch(&self, producer_id: i64) -> Option<i16> {
        self.committed.get(&producer_id).map(|producer| producer.epoch)
    }

    /// Forgets producers last seen before `before`; the same on every replica if `before` comes with
    /// the log (Kafka's `producer.id.expiration.ms` is a day). Returns how many.
    pub fn expire(&mut self, before: Timestamp) -> usize {
        let count_before = self.committed.len();
        let forgotten_below = &mut self.forgotten_below;
        self.committed.retain(|id, producer| {
            let is_kept = producer.last_seen >= before;
            if !is_kept {
                *forgotten_below = (*forgotten_below).max(id.saturating_add(1));
            }
            is_kept
        });
        count_before - self.committed.len()
    }

    /// Makes room for an eighth of the bound, so that its cost is spread over as many new producers.
    fn forget_longest_idle(&mut self) {
        let mut by_age: Vec<(Timestamp, i64)> =
            self.committed.iter().map(|(&id, producer)| (producer.last_seen, id)).collect();
        let forget_count = (PRODUCERS_MAX / 8).min(by_age.len());
        if forget_count < by_age.len() {
            by_age.select_nth_unstable(forget_count);
        }
        for (_, id) in &by_age[..forget_count] {
            self.committed.remove(id);
            self.forgotten_below = self.forgotten_below.max(id.saturating_add(1));
        }
    }

    /// The committed layer.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(FORMAT);
        put_signed(out, self.forgotten_below);
        let mut ids: Vec<i64> = self.committed.keys().copied().collect();
        ids.sort_unstable();
        put_number(out, ids.len() as u64);
        for id in ids {
            let producer = &self.committed[&id];
            put_signed(out, id);
            put_signed(out, i64::from(producer.epoch));
            put_signed(out, producer.last_seen.0);
            put_number(out, producer.batches.len() as u64);
            for batch in &producer.batches {
                put_signed(out, i64::from(batch.first_sequence));
                put_signed(out, i64::from(batch.last_sequence));
                put_number(out, batch.base_offset);
            }
        }
    }

    pub fn decode(input: &mut &[u8]) -> Result<Self, SnapshotError> {
        let mut producers = Producers::new();
        take_format(input, FORMAT)?;
        producers.forgotten_below = take_signed(input)?;
        for _ in 0..take_count(input, 4)? {
            let id = take_signed(input)?;
            let epoch = take_signed_as(input)?;
            let last_seen = Timestamp(take_signed(input)?);
            let batch_count: usize = take_as(input)?;
            if batch_count > BATCHES_MAX {
                return Err(SnapshotError::BadValue);
            }
            let mut batches = VecDeque::with_capacity(BATCHES_MAX);
            for _ in 0..batch_count {
                batches.push_back(Remembered {
                    first_sequence: take_signed_as(input)?,
                    last_sequence: take_signed_as(input)?,
                    base_offset: take_number(input)?,
                });
            }
            producers.committed.insert(id, Producer { epoch, batches, last_seen });
        }
        Ok(producers)
    }
}

fn accept_if(in_sequence: bool) -> Verdict {
    if in_sequence {
        Verdict::Accept
    } else {
        Verdict::OutOfOrder
    }
}

/// Sequences count from 0 to 2^31-1 and then from 0 again.
fn sequence_after(sequence: i32, steps: u32) -> i32 {
    ((i64::from(sequence) + i64::from(steps)) & i64::from(i32::MAX)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: i64 = 7;

    fn batch(epoch: i16, base_sequence: i32, count: u32, base_offset: u64) -> ProducerBatch {
        let timestamp = Timestamp(base_offset as i64);
        ProducerBatch { producer_id: P, epoch, base_sequence, count, base_offset, timestamp }
    }

    #[test]
    fn consecutive_duplicate_gap_and_old() {
        let mut producers = Producers::new();
        assert_eq!(producers.check(P, 0, 42, 3), Verdict::OutOfOrder, "what was before is missing");
        for index in 0..7u64 {
            let batch = batch(0, index as i32 * 10, 10, 100 + index * 10);
            assert_eq!(producers.check(P, 0, batch.base_sequence, 10), Verdict::Accept);
            producers.commit(&batch);
        }
        assert_eq!(producers.check(P, 0, 60, 10), Verdict::Duplicate { base_offset: 160 });
        assert_eq!(producers.check(P, 0, 20, 10), Verdict::Duplicate { base_offset: 120 });
        assert_eq!(producers.check(P, 0, 10, 10), Verdict::OutOfOrder, "five are remembered");
        assert_eq!(producers.check(P, 0, 60, 9), Verdict::OutOfOrder, "same start, other end");
        assert_eq!(producers.check(P, 0, 71, 1), Verdict::OutOfOrder);
        assert_eq!(producers.check(P, 0, 70, 1), Verdict::Accept);
        assert_eq!(producers.check(P + 1, 0, 0, 1), Verdict::Accept);
    }

    #[test]
    fn epochs() {
        let mut producers = Producers::new();
        producers.commit(&batch(3, 0, 5, 0));
        assert_eq!(producers.check(P, 2, 5, 1), Verdict::InvalidEpoch);
        assert_eq!(producers.check(P, 4, 5, 1), Verdict::OutOfOrder, "a new epoch starts at 0");
        assert_eq!(producers.check(P, 4, 0, 1), Verdict::Accept);
        producers.commit(&batch(4, 0, 1, 5));
        assert_eq!(
            producers.check(P, 4, 0, 5),
            Verdict::OutOfOrder,
            "the old epoch's batches are forgotten"
        );
        assert_eq!(producers.epoch(P), Some(4));
        producers.commit_marker(P, 5, Timestamp(9));
        assert_eq!(producers.check(P, 4, 1, 1), Verdict::InvalidEpoch);
        assert_eq!(producers.check(P, 5, 1, 1), Verdict::OutOfOrder);
        assert_eq!(producers.check(P, 5, 0, 1), Verdict::Accept);
    }

    #[test]
    fn sequences_wrap() {
        let mut producers = Producers::new();
        producers.commit(&batch(0, i32::MAX - 1, 2, 0));
        assert_eq!(producers.check(P, 0, 0, 1), Verdict::Accept);
        let mut producers = Producers::new();
        producers.commit(&batch(0, i32::MAX, 3, 0));
        assert_eq!(producers.check(P, 0, 2, 1), Verdict::Accept);
        assert_eq!(producers.check(P, 0, i32::MAX, 3), Verdict::Duplicate { base_offset: 0 });
    }

    #[test]
    fn batches_on_their_way() {
        let mut producers = Producers::new();
        let all = [batch(0, 0, 2, 0), batch(0, 2, 2, 2), batch(0, 4, 2, 4)];
        for batch in &all {
            assert_eq!(producers.check(P, 0, batch.base_sequence, 2), Verdict::Accept);
            producers.propose(batch);
        }
        assert_eq!(producers.check(P, 0, 2, 2), Verdict::InFlight { base_offset: 2 });
        producers.commit(&all[0]);
        assert_eq!(producers.check(P, 0, 0, 2), Verdict::Duplicate { base_offset: 0 });
        assert_eq!(producers.check(P, 0, 6, 2), Verdict::Accept);
        assert_eq!(producers.check(P, 1, 0, 2), Verdict::Accept);
        producers.abandon_proposed();
        assert_eq!(producers.check(P, 0, 6, 2), Verdict::OutOfOrder);
        assert_eq!(producers.check(P, 0, 2, 2), Verdict::Accept);
        for index in 0..PROPOSED_MAX as i32 {
            producers.propose(&batch(0, 2 + index, 1, 0));
        }
        assert_eq!(producers.check(P, 0, 2 + PROPOSED_MAX as i32, 1), Verdict::TooManyInFlight);
    }

    #[test]
    fn expiry_and_bound() {
        let mut producers = Producers::new();
        for id in 0..PRODUCERS_MAX as i64 + 1 {
            let timestamp = Timestamp(id);
            producers.commit(&ProducerBatch { producer_id: id, timestamp, ..batch(0, 0, 1, 0) });
        }
        assert_eq!(producers.len(), PRODUCERS_MAX + 1 - PRODUCERS_MAX / 8);
        assert_eq!(producers.epoch(0), None, "the longest idle went first");
        assert_eq!(producers.epoch(PRODUCERS_MAX as i64), Some(0));
        assert_eq!(producers.check(0, 0, 9, 1), Verdict::Accept, "who was forgotten goes on");
        let never_seen = PRODUCERS_MAX as i64 + 1;
        assert_eq!(producers.check(never_seen, 0, 9, 1), Verdict::OutOfOrder);
        producers.expire(Timestamp(PRODUCERS_MAX as i64 - 1));
        assert_eq!(producers.len(), 2);
        assert_eq!(producers.check(never_seen - 3, 0, 9, 1), Verdict::Accept);
        assert_eq!(producers.check(never_seen, 0, 9, 1), Verdict::OutOfOrder);
        let mut bytes = Vec::new();
        producers.encode(&mut bytes);
        let decoded = Producers::decode(&mut &bytes[..]).unwrap();
        assert_eq!(decoded.forgotten_below, producers.forgotten_below);
        assert_eq!(producers.expire(Timestamp(i64::MAX)), 2);
        assert!(!producers.is_empty(), "a checkpoint has to say that there were some");
    }

    #[test]
    fn snapshots() {
        let mut producers = Producers::new();
        for (id, epoch) in [(5, 0), (i64::MAX, i16::MAX), (0, 3)] {
            for sequence in 0..7 {
                producers
                    .commit(&ProducerBatch { producer_id: id, ..batch(epoch, sequence, 1, 9) });
            }
        }
        let mut bytes = Vec::new();
        producers.encode(&mut bytes);
        let decoded = Producers::decode(&mut &bytes[..]).unwrap();
        assert_eq!(decoded.committed, producers.committed);
        for cut in 0..bytes.len() {
            assert!(Producers::decode(&mut &bytes[..cut]).is_err());
        }
        assert_eq!(
            Producers::decode(&mut &[2, 0, 1, 0, 0, 0, 6][..]).unwrap_err(),
            SnapshotError::BadValue
        );
    }
}
