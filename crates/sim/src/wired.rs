//! What a run of a node among clients that speak protocols is made of, and how such a run is made small.

use crate::options::{keep, names, Options};
use crate::shrink::{smaller, without_some, Shrink};
use crate::world::faults::Fault;
use koine_base::rng::Rng;

/// What clients do, and their wires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireOptions {
    /// How long the load lasts.
    pub span_us: u64,
    /// How many of each of [`Self::KINDS`].
    pub clients: [u64; Self::KINDS.len()],
    /// Mean time of one piece on the wire.
    pub wire_us: u64,
    /// A frame is cut in one of so many sends.
    pub cut_every: u64,
    /// A client ends its connection without a word once in so many turns; 0 for never.
    pub drop_every: u64,
    /// A client that stops reading does so for this long at most; 0 for never.
    pub stall_us: u64,
}

impl WireOptions {
    pub const KINDS: [&'static str; 6] = [
        "kafka-writers",
        "kafka-readers",
        "amqp-publishers",
        "amqp-consumers",
        "mqtt-publishers",
        "mqtt-subscribers",
    ];

    fn draw(rng: &mut Rng) -> Self {
        WireOptions {
            span_us: 100_000 + rng.below(1_500_000),
            clients: [1, 1, 1, 2, 1, 1].map(|least| least + rng.below(3)),
            wire_us: 1 + rng.below(1000),
            cut_every: [1, 3, 20][rng.below(3) as usize],
            drop_every: [0, 50, 400][rng.below(3) as usize],
            stall_us: [0, 20_000, 2_000_000][rng.below(3) as usize],
        }
    }
}

/// Options of such a run.
#[derive(Clone, Debug)]
pub struct Wired(pub Options);

impl Wired {
    pub fn from_seed(seed: u64) -> Wired {
        let rng = &mut Rng::new(seed ^ 0x6B6F_696E_6500_0002);
        let mut options = Options::from_seed(seed);
        options.client_count = 0;
        options.think_us = 1000 + rng.below(8000);
        options.body_bytes_max = 64 << rng.below(8);
        options.fault_every_us = 30_000 + rng.below(1_000_000);
        let known = |fault: &Fault| Fault::WIRED.contains(fault);
        options.faults.iter_mut().filter(|(fault, _)| !known(fault)).for_each(|pair| pair.1 = 0);
        options.wire = Some(WireOptions::draw(rng));
        Wired(options)
    }

    /// What the seed says, changed as [`Shrink::text`] wrote it.
    pub fn from_text(seed: u64, text: &str) -> Result<Wired, String> {
        let mut wired = Wired::from_seed(seed);
        for pair in text.split(',').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or(format!("{pair} has no value"))?;
            match wired.number(key) {
                Some(number) => *number = value.parse().map_err(|_| format!("{pair}?"))?,
                None if key == "faults" => keep(&mut wired.0.faults, value)?,
                None => return Err(format!("no option {key}")),
            }
        }
        Ok(wired)
    }

    fn number(&mut self, key: &str) -> Option<&mut u64> {
        if key == "shards" {
            return Some(&mut self.0.shard_count);
        }
        let wire = self.0.wire.as_mut()?;
        if let Some(kind) = WireOptions::KINDS.iter().position(|kind| *kind == key) {
            return Some(&mut wire.clients[kind]);
        }
        match key {
            "span" => Some(&mut wire.span_us),
            "cut" => Some(&mut wire.cut_every),
            "drop" => Some(&mut wire.drop_every),
            "stall" => Some(&mut wire.stall_us),
            _ => None,
        }
    }
}

/// Numbers that may be changed, and what they shrink to. Without the first writer of Kafka and the first
/// publisher of AMQP nothing is made.
fn numbers() -> impl Iterator<Item = (&'static str, u64)> {
    let kinds = WireOptions::KINDS.map(|kind| (kind, 0));
    let needed = |kind: &str| u64::from(matches!(kind, "kafka-writers" | "amqp-publishers"));
    let kinds = kinds.into_iter().map(move |(kind, _)| (kind, needed(kind)));
    [("span", 1000), ("shards", 1), ("drop", 0), ("stall", 0)].into_iter().chain(kinds)
}

impl Shrink for Wired {
    fn simpler(&self) -> Vec<Self> {
        let mut all = Vec::new();
        for (key, least) in numbers() {
            let mut own = self.clone();
            let Some(value) = own.number(key).copied() else { continue };
            all.extend(smaller(value, least).into_iter().filter_map(|value| {
                let mut simpler = self.clone();
                *simpler.number(key)? = value;
                Some(simpler)
            }));
        }
        let faults = without_some(&self.0.faults).into_iter();
        all.extend(faults.map(|faults| Wired(Options { faults, ..self.0.clone() })));
        all
    }

    fn text(&self) -> String {
        let (mut own, mut seeded) = (self.clone(), Wired::from_seed(self.0.seed));
        let mut parts = Vec::new();
        for (key, _) in numbers() {
            let (own, seeded) = (own.number(key), seeded.number(key));
            if own != seeded {
                parts.extend(own.map(|own| format!("{key}={own}")));
            }
        }
        if self.0.faults != seeded.0.faults {
            parts.push(format!("faults={}", names(&self.0.faults)));
        }
        parts.join(",")
    }

    fn seed(&self) -> u64 {
        self.0.seed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_smaller_is_read_back_from_its_text() {
        let wired = Wired::from_seed(7);
        assert_eq!(wired.text(), "");
        for simpler in wired.simpler() {
            let again = Wired::from_text(7, &simpler.text()).expect("its own text");
            assert_eq!(again.text(), simpler.text());
            assert_eq!(again.0.wire, simpler.0.wire);
        }
        for text in ["span", "span=x", "faults=Flood", "colour=1"] {
            assert!(Wired::from_text(7, text).is_err(), "{text}");
        }
    }
}
