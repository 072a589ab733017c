//! The publisher confirms of one channel: which publishes wait for the broker, and the acks and nacks
//! that go out. One place makes them, strictly in publishing order, so that an ack with `multiple`
//! can never overtake a publish that is still undecided.

use std::collections::VecDeque;

/// The fate of one publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// This many queues have not answered yet.
    Waiting(u32),
    /// Likewise, but one has refused already.
    Failing(u32),
}

/// One `basic.ack` or `basic.nack` to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub delivery_tag: u64,
    pub multiple: bool,
    pub acked: bool,
}

/// Sequence numbers start at 1 with `confirm.select`.
#[derive(Debug)]
pub struct Confirms {
    /// The sequence number of `waiting[0]`.
    first: u64,
    waiting: VecDeque<Fate>,
}

impl Default for Confirms {
    fn default() -> Self {
        Confirms { first: 1, waiting: VecDeque::new() }
    }
}

impl Confirms {
    /// Takes the next sequence number for a publish that `queue_count` queues must answer. With 0 it
    /// is decided at once (an unroutable message is acknowledged).
    pub fn open(&mut self, queue_count: u32) -> u64 {
        self.waiting.push_back(Fate::Waiting(queue_count));
        self.first + self.waiting.len() as u64 - 1
    }

    /// One queue has stored (or refused) the publish.
    pub fn answer(&mut self, sequence: u64, stored: bool) {
        if let Some(fate) = self.fate(sequence) {
            *fate = match (*fate, stored) {
                (Fate::Waiting(count), true) => Fate::Waiting(count.saturating_sub(1)),
                (Fate::Waiting(count) | Fate::Failing(count), false) => {
                    Fate::Failing(count.saturating_sub(1))
                }
                (Fate::Failing(count), true) => Fate::Failing(count.saturating_sub(1)),
            };
        }
    }

    fn fate(&mut self, sequence: u64) -> Option<&mut Fate> {
        let index = sequence.checked_sub(self.first)?;
        self.waiting.get_mut(usize::try_from(index).ok()?)
    }

    /// The next answer to send, joining as many like ones as are decided. Call until `None`.
    pub fn next_verdict(&mut self) -> Option<Verdict> {
        let acked = match self.waiting.front()? {
            Fate::Waiting(0) => true,
            Fate::Failing(0) => false,
            Fate::Waiting(_) | Fate::Failing(_) => return None,
        };
        let like = if acked { Fate::Waiting(0) } else { Fate::Failing(0) };
        let mut count = 0u64;
        while self.waiting.front() == Some(&like) {
            self.waiting.pop_front();
            count += 1;
        }
        self.first += count;
        Some(Verdict { delivery_tag: self.first - 1, multiple: count > 1, acked })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(confirms: &mut Confirms) -> Vec<(u64, bool, bool)> {
        std::iter::from_fn(|| confirms.next_verdict())
            .map(|verdict| (verdict.delivery_tag, verdict.multiple, verdict.acked))
            .collect()
    }

    #[test]
    fn decided_neighbours_are_joined_and_nothing_overtakes() {
        let mut confirms = Confirms::default();
        for expect in 1..=5 {
            assert_eq!(confirms.open(1), expect);
        }
        confirms.answer(2, true);
        confirms.answer(3, true);
        assert_eq!(verdicts(&mut confirms), []);
        confirms.answer(1, true);
        assert_eq!(verdicts(&mut confirms), [(3, true, true)]);
        confirms.answer(5, true);
        confirms.answer(4, false);
        assert_eq!(verdicts(&mut confirms), [(4, false, false), (5, false, true)]);
        assert!(confirms.waiting.is_empty());
    }

    #[test]
    fn a_publish_waits_for_all_its_queues_and_one_refusal_is_a_nack() {
        let mut confirms = Confirms::default();
        let first = confirms.open(3);
        confirms.answer(first, true);
        confirms.answer(first, false);
        assert_eq!(verdicts(&mut confirms), []);
        confirms.answer(first, true);
        assert_eq!(verdicts(&mut confirms), [(1, false, false)]);
        confirms.open(0);
        assert_eq!(verdicts(&mut confirms), [(2, false, true)]);
    }

    #[test]
    fn answers_to_unknown_numbers_are_ignored() {
        let mut confirms = Confirms::default();
        confirms.open(0);
        assert_eq!(verdicts(&mut confirms), [(1, false, true)]);
        confirms.answer(1, false);
        confirms.answer(99, false);
        assert_eq!(verdicts(&mut confirms), []);
    }
}
