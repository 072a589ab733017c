//! What a message carries: a stamp that says who sent it, when and as the how-manieth, then a fixed
//! pattern. The consumer's [`Ledger`] turns stamps into order, loss and duplication.
//!
//! ```text
//! 0            6     8        12         16
//! | sent at ns | run | source | sequence | pattern ...
//! ```

use crate::clock::Nanos;
use koine_base::rng::Rng;

pub const STAMP_BYTES: usize = 16;

/// A source is one producer on one lane; within it sequences are dense from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub sent_at: Nanos,
    /// Tells this run's messages from those that an earlier run left behind.
    pub run: u16,
    pub source: u32,
    pub sequence: u32,
}

impl Stamp {
    /// Writes the stamp over the first 16 bytes of `body`; shorter bodies carry none.
    #[inline]
    pub fn write(self, body: &mut [u8]) {
        if let Some(out) = body.first_chunk_mut::<STAMP_BYTES>() {
            let when = (self.sent_at << 16) | u64::from(self.run);
            let which = (u64::from(self.source) << 32) | u64::from(self.sequence);
            out[..8].copy_from_slice(&when.to_be_bytes());
            out[8..].copy_from_slice(&which.to_be_bytes());
        }
    }

    #[inline]
    pub fn read(body: &[u8]) -> Option<Stamp> {
        let (when, rest) = body.split_first_chunk::<8>()?;
        let when = u64::from_be_bytes(*when);
        let which = u64::from_be_bytes(*rest.first_chunk::<8>()?);
        Some(Stamp {
            sent_at: when >> 16,
            run: when as u16,
            source: (which >> 32) as u32,
            sequence: which as u32,
        })
    }
}

/// A whole body of `size` bytes; what a stamp covers is overwritten before sending. Incompressible,
/// so that compression on the way cannot flatter a broker.
pub fn pattern(size: usize) -> Vec<u8> {
    let mut rng = Rng::new(0x6b6f_696e_6500 + size as u64);
    let mut body = Vec::with_capacity(size + 8);
    while body.len() < size {
        body.extend_from_slice(&rng.next_u64().to_be_bytes());
    }
    body.truncate(size);
    body
}

/// What went wrong with messages, counted in messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Arrived again.
    pub duplicated: u64,
    /// Arrived after a later one of the same source.
    pub reordered: u64,
    /// Sampled and found to differ from what was sent.
    pub damaged: u64,
    /// Left behind by an earlier run; not counted as delivered.
    pub strays: u64,
    /// Refused by the broker (negative acknowledgement).
    pub refused: u64,
    /// Jumped over, and not arrived since.
    pub skipped: u64,
}

impl Faults {
    pub fn add(&mut self, other: &Faults) {
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.damaged += other.damaged;
        self.strays += other.strays;
        self.refused += other.refused;
        self.skipped += other.skipped;
    }
}

/// Which of a lane's messages one consumer sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Every message: a gap in the sequence is a loss.
    Whole,
    /// Some, because consumers compete: only going backwards is wrong.
    Part,
}

/// One consumer's memory of what it has seen: the next sequence by source.
#[derive(Debug)]
pub struct Ledger {
    run: u16,
    /// Counts messages of other runs as well, without looking at their order.
    any_run: bool,
    share: Share,
    next: Vec<u32>,
}

/// Largest source number that a ledger follows; a larger one can only come from damage.
const SOURCES_MAX: usize = 1 << 22;

impl Ledger {
    pub fn new(run: u16, any_run: bool, share: Share) -> Self {
        Ledger { run, any_run, share, next: Vec::new() }
    }

    /// Forgets the order, before reading the same messages again.
    pub fn clear(&mut self) {
        self.next.clear();
    }

    /// Takes in a stamp that stands for `weight` messages. Says whether they count as delivered.
    #[inline]
    pub fn observe(&mut self, stamp: &Stamp, weight: u64, faults: &mut Faults) -> bool {
        if stamp.run != self.run {
            if !self.any_run {
                faults.strays += weight;
            }
            return self.any_run;
        }
        let source = stamp.source as usize;
        match self.next.get_mut(source) {
            Some(next) if *next == stamp.sequence => *next = next.wrapping_add(1),
            _ => self.observe_other(source, stamp.sequence, weight, faults),
        }
        true
    }

    #[cold]
    fn observe_other(&mut self, source: usize, sequence: u32, weight: u64, faults: &mut Faults) {
        if source >= SOURCES_MAX {
            faults.damaged += weight;
            return;
        }
        if source >= self.next.len() {
            self.next.resize(source + 1, 0);
        }
        let next = &mut self.next[source];
        let ahead = sequence.wrapping_sub(*next) as i32;
        if ahead >= 0 {
            if self.share == Share::Whole {
                faults.skipped += ahead as u64 * weight;
            }
            *next = sequence.wrapping_add(1);
        } else if self.share == Share::Part || faults.skipped >= weight {
            // Jumped over before, or of a source whose rest others read: late, not repeated.
            faults.reordered += weight;
            faults.skipped = faults.skipped.saturating_sub(weight);
        } else {
            faults.duplicated += weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_round_trip_and_short_bodies_carry_none() {
        let stamp = Stamp { sent_at: 0xFFFF_1234_5678, run: 7, source: 70_000, sequence: u32::MAX };
        let mut body = pattern(20);
        stamp.write(&mut body);
        assert_eq!(Stamp::read(&body), Some(stamp));
        assert_eq!(body[16..], pattern(20)[16..]);
        let mut short = pattern(15);
        stamp.write(&mut short);
        assert_eq!(short, pattern(15));
        assert_eq!(Stamp::read(&short), None);
    }

    #[test]
    fn ledgers_tell_loss_from_repetition() {
        let check = |share, sequences: &[u32], expect: Faults| {
            let mut ledger = Ledger::new(1, false, share);
            let mut faults = Faults::default();
            for &sequence in sequences {
                let stamp = Stamp { sent_at: 0, run: 1, source: 3, sequence };
                assert!(ledger.observe(&stamp, 1, &mut faults));
            }
            assert_eq!(faults, expect, "{sequences:?}");
        };
        let none = Faults::default();
        check(Share::Whole, &[0, 1, 2], none);
        check(Share::Whole, &[0, 2], Faults { skipped: 1, ..none });
        check(Share::Whole, &[0, 2, 1, 3], Faults { reordered: 1, ..none });
        check(Share::Whole, &[0, 1, 1], Faults { duplicated: 1, ..none });
        check(Share::Part, &[0, 5, 9], none);
        check(Share::Part, &[5, 3], Faults { reordered: 1, ..none });
        let mut faults = none;
        let stray = Stamp { sent_at: 0, run: 2, source: 0, sequence: 9 };
        assert!(!Ledger::new(1, false, Share::Whole).observe(&stray, 4, &mut faults));
        assert!(Ledger::new(1, true, Share::Whole).observe(&stray, 4, &mut faults));
        assert_eq!(faults, Faults { strays: 4, ..none });
    }
}
