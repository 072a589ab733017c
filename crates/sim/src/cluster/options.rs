//! What one run of a cluster is made of, drawn from its seed; each run leaves some faults and actions out.

use super::clients::Action;
use super::faults::Fault;
use crate::options::{keep, names, swarm};
use crate::shrink::{smaller, without_some, Shrink};
use koine_base::rng::Rng;

#[derive(Clone, Debug)]
pub struct Options {
    pub seed: u64,
    /// Voters at the start: 3 or 5.
    pub nodes: u64,
    pub shard_count: u64,
    pub clients: u64,
    /// Virtual time of the part with faults.
    pub run_ms: u64,
    pub streams: u64,
    pub wal_file_bytes: u64,
    pub disk_us: u64,
    /// One way, mean.
    pub latency_us: u64,
    pub think_us: u64,
    /// Of 1000 mails between nodes.
    pub lost: u64,
    pub doubled: u64,
    pub body_bytes_max: u64,
    pub fault_every_ms: u64,
    /// Clocks are fast or slow by up to this many parts in a million.
    pub drift_ppm_max: u64,
    /// In the end only a majority is healed.
    pub heals_majority_only: bool,
    pub faults: Vec<(Fault, u64)>,
    pub actions: Vec<(Action, u64)>,
}

impl Options {
    pub fn from_seed(seed: u64) -> Options {
        let rng = &mut Rng::new(seed ^ 0x636C_7573_7465_7200);
        let faults = Fault::ALL.iter().map(|(fault, weight)| (*fault, swarm(rng, *weight, 2)));
        let faults = faults.collect();
        let actions = Action::ALL.iter().map(|(action, weight)| (*action, swarm(rng, *weight, 6)));
        let actions = actions.collect();
        Options {
            seed,
            nodes: [3, 3, 3, 5][rng.below(4) as usize],
            shard_count: 1 + rng.below(2),
            clients: 2 + rng.below(4),
            run_ms: 4_000 + rng.below(8_000),
            streams: 2 + rng.below(4),
            wal_file_bytes: 8 << (10 + rng.below(4)),
            disk_us: 20 + rng.below(1500),
            latency_us: 50 + rng.below(4_000),
            think_us: 2_000 + rng.below(30_000),
            lost: [0, 0, 10, 100, 300][rng.below(5) as usize],
            doubled: [0, 0, 50, 300][rng.below(4) as usize],
            body_bytes_max: 1 << (4 + rng.below(6)),
            fault_every_ms: 100 + rng.below(1_500),
            drift_ppm_max: [0, 500, 50_000][rng.below(3) as usize],
            heals_majority_only: rng.chance(1, 3),
            faults,
            actions,
        }
    }

    /// Nothing goes wrong by itself: for scripts.
    pub fn quiet(seed: u64) -> Options {
        let mut options = Options::from_seed(seed);
        options.faults.iter_mut().for_each(|(_, weight)| *weight = 0);
        options.actions = Action::ALL.to_vec();
        Options {
            nodes: 3,
            shard_count: 1,
            lost: 0,
            doubled: 0,
            drift_ppm_max: 0,
            heals_majority_only: false,
            disk_us: 100 + seed % 200,
            latency_us: 200 + seed % 500,
            think_us: 4_000,
            ..options
        }
    }

    /// What the seed says, changed as `text` says; see [`Shrink::text`].
    pub fn from_text(seed: u64, text: &str) -> Result<Options, String> {
        let mut options = Options::from_seed(seed);
        for pair in text.split(',').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or(format!("{pair} has no value"))?;
            match key {
                "faults" => keep(&mut options.faults, value)?,
                "actions" => keep(&mut options.actions, value)?,
                _ => *options.number(key)? = value.parse().map_err(|_| format!("{pair}?"))?,
            }
        }
        Ok(options)
    }

    fn number(&mut self, key: &str) -> Result<&mut u64, String> {
        Ok(match key {
            "run_ms" => &mut self.run_ms,
            "clients" => &mut self.clients,
            "shards" => &mut self.shard_count,
            "streams" => &mut self.streams,
            "lost" => &mut self.lost,
            "doubled" => &mut self.doubled,
            "drift" => &mut self.drift_ppm_max,
            _ => return Err(format!("no option {key}")),
        })
    }
}

const NUMBERS: [(&str, u64); 7] = [
    ("run_ms", 100),
    ("clients", 1),
    ("shards", 1),
    ("streams", 1),
    ("lost", 0),
    ("doubled", 0),
    ("drift", 0),
];

impl Shrink for Options {
    fn simpler(&self) -> Vec<Options> {
        let mut all = Vec::new();
        for (key, least) in NUMBERS {
            let mut now = self.clone();
            let Ok(value) = now.number(key).copied() else { continue };
            all.extend(smaller(value, least).into_iter().filter_map(|value| {
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
        parts.join(",")
    }

    fn seed(&self) -> u64 {
        self.seed
    }
}
