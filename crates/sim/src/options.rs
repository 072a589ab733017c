//! What one run is made of. Everything is drawn from the seed, and each run leaves some faults and some
//! actions out altogether: bugs that need much of one thing are found by runs that do little else.

use crate::shrink::{smaller, without_some, Shrink};
use crate::wired::WireOptions;
use crate::world::actions::Action;
use crate::world::faults::Fault;
use koine_base::rng::Rng;

#[derive(Clone, Debug)]
pub struct Options {
    pub seed: u64,
    pub shard_count: u64,
    pub client_count: u64,
    /// Client steps before the last look.
    pub steps: u64,
    /// Streams that clients make before they start, and up to which they make more.
    pub stream_count_max: u64,
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
    /// Clients that speak protocols, in place of puppets.
    pub wire: Option<WireOptions>,
    /// The disk acknowledges syncs that it never does. No node survives that: it is how the simulator
    /// itself is tested, and no seed sets it.
    pub is_lying: bool,
}

impl Options {
    pub fn from_seed(seed: u64) -> Options {
        let rng = &mut Rng::new(seed ^ 0x6B6F_696E_6500_0001);
        let faults = Fault::ALL.iter().map(|(fault, weight)| (*fault, swarm(rng, *weight, 3)));
        let mut faults: Vec<_> = faults.collect();
        // What is damaged cannot be judged, so most runs do without.
        if !rng.chance(1, 4) {
            let harmful = faults.iter_mut().filter(|(fault, _)| fault.does_damage());
            harmful.for_each(|(_, weight)| *weight = 0);
        }
        let actions = Action::ALL.iter().map(|(action, weight)| (*action, swarm(rng, *weight, 5)));
        let actions = actions.collect();
        Options {
            seed,
            shard_count: 1 + rng.below(3),
            client_count: 2 + rng.below(6),
            steps: 500 + rng.below(1000),
            stream_count_max: 3 + rng.below(10),
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
            wire: None,
            is_lying: false,
        }
    }

    /// What the seed says, changed as `text` says: `steps=90,faults=CrashTearing+DiskFull,...`, as
    /// [`Shrink::text`] wrote it. A weight that is left keeps the seed's value.
    pub fn from_text(seed: u64, text: &str) -> Result<Options, String> {
        let mut options = Options::from_seed(seed);
        for pair in text.split(',').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or(format!("{pair} has no value"))?;
            match key {
                "faults" => keep(&mut options.faults, value)?,
                "actions" => keep(&mut options.actions, value)?,
                "lying" => options.is_lying = value == "1",
                _ => *options.number(key)? = value.parse().map_err(|_| format!("{pair}?"))?,
            }
        }
        Ok(options)
    }

    fn number(&mut self, key: &str) -> Result<&mut u64, String> {
        Ok(match key {
            "steps" => &mut self.steps,
            "clients" => &mut self.client_count,
            "shards" => &mut self.shard_count,
            "streams" => &mut self.stream_count_max,
            "huge" => &mut self.huge_body_every,
            _ => return Err(format!("no option {key}")),
        })
    }
}

/// Numbers that may be changed, and what they shrink to.
const NUMBERS: [(&str, u64); 5] =
    [("steps", 1), ("clients", 1), ("shards", 1), ("streams", 1), ("huge", 0)];

impl Shrink for Options {
    fn simpler(&self) -> Vec<Options> {
        let mut all = Vec::new();
        for (key, least) in NUMBERS {
            let mut now = self.clone();
            let Ok(value) = now.number(key).copied() else { continue };
            let values = match key {
                // A smaller number means more of them.
                "huge" if value > 0 => vec![0],
                _ => smaller(value, least),
            };
            all.extend(values.into_iter().filter_map(|value| {
                let mut simpler = self.clone();
                *simpler.number(key).ok()? = value;
                Some(simpler)
            }));
        }
        let faults = without_some(&self.faults).into_iter();
        all.extend(faults.map(|faults| Options { faults, ..self.clone() }));
        let actions = without_some(&self.actions).into_iter();
        all.extend(actions.map(|actions| Options { actions, ..self.clone() }));
        all
    }

    fn text(&self) -> String {
        let mut seeded = Options::from_seed(self.seed);
        let mut own = self.clone();
        let mut parts = Vec::new();
        for (key, _) in NUMBERS {
            if let (Ok(own), Ok(seeded)) = (own.number(key), seeded.number(key)) {
                if own != seeded {
                    parts.push(format!("{key}={own}"));
                }
            }
        }
        if self.faults != seeded.faults {
            parts.push(format!("faults={}", names(&self.faults)));
        }
        if self.actions != seeded.actions {
            parts.push(format!("actions={}", names(&self.actions)));
        }
        if self.is_lying {
            parts.push("lying=1".to_owned());
        }
        parts.join(",")
    }

    fn seed(&self) -> u64 {
        self.seed
    }
}

/// Those that may come about, joined with `+`.
pub(crate) fn names<T: std::fmt::Debug>(weights: &[(T, u64)]) -> String {
    let on = weights.iter().filter(|(_, weight)| *weight > 0);
    on.map(|(choice, _)| format!("{choice:?}")).collect::<Vec<_>>().join("+")
}

/// Leaves only what `text` names.
pub(crate) fn keep<T: std::fmt::Debug>(weights: &mut [(T, u64)], text: &str) -> Result<(), String> {
    let wanted: Vec<&str> = text.split('+').filter(|name| !name.is_empty()).collect();
    let known: Vec<String> = weights.iter().map(|(choice, _)| format!("{choice:?}")).collect();
    if let Some(name) = wanted.iter().find(|name| !known.iter().any(|known| known == *name)) {
        return Err(format!("nothing is called {name}"));
    }
    for ((_, weight), name) in weights.iter_mut().zip(&known) {
        let is_wanted = wanted.contains(&name.as_str());
        *weight = if is_wanted { (*weight).max(1) } else { 0 };
    }
    Ok(())
}

/// A weight near `weight`, or 0 in one of `out_of` cases.
pub(crate) fn swarm(rng: &mut Rng, weight: u64, out_of: u64) -> u64 {
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
