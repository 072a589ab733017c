//! Until when a leader may answer reads from its own state, and until when a voter keeps its word not
//! to elect another. Measured on the clocks of both, and never by counting ticks: a process that was
//! stopped for a while must not believe that no time has passed.
//!
//! A leader stamps what it sends with its clock; a voter that hears it promises to grant no vote for
//! [`PROMISE_MS`] and returns the stamp. What a majority has returned, less a margin for clocks of
//! different speed, is the mandate.

use crate::consensus::Configuration;
use koine_base::Moment;
use std::collections::BTreeMap;

/// A voter that heard a leader grants no other node a vote for this long.
pub const PROMISE_MS: u64 = 300;

/// How long a leader relies on it: clocks may differ in speed by a sixth.
const MANDATE_MS: u64 = 250;

pub struct Mandate {
    /// Leader and term of the newest promise, and the highest stamp heard from it.
    promised: (u64, u64, u64),
    promised_until: Moment,
    /// As leader: the highest stamp that each voter returned in this term.
    returned: BTreeMap<u64, u64>,
}

impl Mandate {
    /// What was promised before a restart is not known: it is kept as if it had been made just now.
    pub fn new(now: Moment, is_sole_voter: bool) -> Mandate {
        let promised_until = if is_sole_voter { now } else { now.after_ms(PROMISE_MS) };
        Mandate { promised: (0, 0, 0), promised_until, returned: BTreeMap::new() }
    }

    /// A leader was heard.
    pub fn heard(&mut self, now: Moment, leader: u64, term: u64, stamp: u64) {
        let (known, known_term, highest) = self.promised;
        let highest =
            if (known, known_term) == (leader, term) { highest.max(stamp) } else { stamp };
        self.promised = (leader, term, highest);
        self.promised_until = self.promised_until.max(now.after_ms(PROMISE_MS));
    }

    /// The stamp to return to `leader`; 0 for none.
    pub fn stamp_for(&self, leader: u64, term: u64) -> u64 {
        let (known, known_term, stamp) = self.promised;
        if (known, known_term) == (leader, term) {
            stamp
        } else {
            0
        }
    }

    pub fn may_vote(&self, now: Moment, candidate: u64) -> bool {
        now >= self.promised_until || self.promised.0 == candidate
    }

    /// A new term of office, or none: what was returned in another says nothing.
    pub fn reset(&mut self) {
        self.returned.clear();
    }

    /// A voter returned a stamp of this term. One from the future is not ours.
    pub fn returned(&mut self, now: Moment, from: u64, stamp: u64) {
        if stamp <= now.0 {
            let highest = self.returned.entry(from).or_default();
            *highest = stamp.max(*highest);
        }
    }

    pub fn holds(&self, now: Moment, this: u64, configuration: &Configuration) -> bool {
        configuration.has_quorum(|node| {
            node == this
                || self
                    .returned
                    .get(&node)
                    .is_some_and(|stamp| now < Moment(*stamp).after_ms(MANDATE_MS))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mandate_ends_before_any_promise_it_rests_on() {
        let configuration = Configuration { voters: vec![1, 2, 3], ..Configuration::default() };
        let start = Moment(10_000_000);
        let mut leader = Mandate::new(start, false);
        let mut voter = Mandate::new(start, false);
        assert!(!leader.holds(start, 1, &configuration));
        // Heard late: the promise counts from then, the mandate from when it was sent.
        let heard = start.after_ms(40);
        voter.heard(heard, 1, 5, start.0);
        leader.returned(start.after_ms(80), 2, voter.stamp_for(1, 5));
        for ms in 0..1000 {
            let now = start.after_ms(ms);
            let holds = leader.holds(now, 1, &configuration);
            assert_eq!(holds, ms < MANDATE_MS, "at {ms} ms");
            assert!(!(holds && voter.may_vote(now, 3)), "at {ms} ms");
        }
        assert!(voter.may_vote(heard, 1), "the leader itself may ask again");
        assert_eq!(voter.stamp_for(1, 6), 0, "not of that term");
        leader.reset();
        assert!(!leader.holds(start, 1, &configuration));
    }
}
