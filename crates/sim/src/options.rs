//! What one run is made of. Everything is drawn from the seed, and each run leaves some faults and some
//! actions out altogether: bugs that need much of one thing are found by runs that do little else.

use crate::world::actions::Action;
use crate::world::faults::Fault;
use koine_base::rng::Rng;

#[derive(Clone, Debug)]
pub struct Options {
    pub seed: u64,
    pub shard_count: u16,
    pub client_count: usize,
    /// Client steps before the last look.
    pub steps: u64,
    /// Streams that clients make before they start, and up to which they make more.
    pub stream_count_max: usize,
    pub wal_file_bytes: u64,
    pub tail_cache_bytes: u64,
    pub own_segment_bytes_min: u64,
    pub relaxed_flush_after_us: u64,
    /// Largest ordinary body.
    pub body_bytes_max: u64,
    /// One in this many bodies is larger than a WAL file; 0 for none.
    pub huge_body_every: u64,
    /// Mean time of a synced write.
    pub disk_us: u64,
    pub mail_us: u64,
    pub think_us: u64,
    /// Mean time between faults.
    pub fault_every_us: u64,
    /// Weights; 0 leaves it out.
    pub faults: Vec<(Fault, u64)>,
    pub actions: Vec<(Action, u64)>,
    /// Output of a peer that reads slowly waits this long at most before it is taken.
    pub peer_us: u64,
}

impl Options {
    pub fn from_seed(seed: u64) -> Options {
        let rng = &mut Rng::new(seed ^ 0x6B6F_696E_6500_0001);
        let faults = Fault::ALL.iter().map(|(fault, weight)| (*fault, swarm(rng, *weight, 3)));
        let faults: Vec<_> = faults.collect();
        let actions = Action::ALL.iter().map(|(action, weight)| (*action, swarm(rng, *weight, 5)));
        let actions = actions.collect();
        Options {
            seed,
            shard_count: 1 + rng.below(3) as u16,
            client_count: 2 + rng.below(6) as usize,
            steps: 500 + rng.below(1000),
            stream_count_max: 3 + rng.below(10) as usize,
            wal_file_bytes: 8 << (10 + rng.below(4)),
            tail_cache_bytes: 1 << (12 + rng.below(6)),
            own_segment_bytes_min: 1 << (10 + rng.below(5)),
            relaxed_flush_after_us: 500 + rng.below(20_000),
            body_bytes_max: 1 << (5 + rng.below(6)),
            huge_body_every: [0, 0, 50, 200][rng.below(4) as usize],
            disk_us: 20 + rng.below(400),
            mail_us: 1 + rng.below(200),
            think_us: 50 + rng.below(2000),
            fault_every_us: 20_000 + rng.below(200_000),
            faults,
            actions,
            peer_us: [10, 100, 20_000][rng.below(3) as usize],
        }
    }
}

/// A weight near `weight`, or 0 in one of `out_of` cases.
fn swarm(rng: &mut Rng, weight: u64, out_of: u64) -> u64 {
    if rng.chance(1, out_of) {
        0
    } else {
        1 + rng.below(weight * 2)
    }
}

/// Draws one by weight; `None` if all weights are 0.
pub fn draw<T: Copy>(rng: &mut Rng, weights: &[(T, u64)]) -> Option<T> {
    let total: u64 = weights.iter().map(|(_, weight)| weight).sum();
    if total == 0 {
        return None;
    }
    let mut at = rng.below(total);
    for (choice, weight) in weights {
        if at < *weight {
            return Some(*choice);
        }
        at -= weight;
    }
    None
}
