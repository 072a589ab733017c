//! The simulated cluster on fixed seeds, and that a seed says everything.

use super::scripts::failover;
use super::*;
use crate::shrink::Shrink;

/// Seeds of every test run.
const SEED_COUNT: u64 = 26;

/// Seeds that found something, with whole lives: a producer that went on past the window of a broker's
/// memory, machines that were replaced while an earlier change of the voters was under way, and replicas
/// that were compared before all was applied.
const REGRESSIONS: &[u64] = &[1795600000512, 1795600010162, 1795600002492, 1795700001816];

/// Marks that want more seeds than a test run has time for; `cargo xtask sim --cluster` wants them too.
const RARE: &[Mark] = &[Mark::StartRefused, Mark::DiskWiped, Mark::MajorityHealed];

/// Shorter lives than in a hunt: more of them fit into the time, and each begins anew.
fn short_life(seed: u64) -> Options {
    let mut options = Options::from_seed(seed);
    options.run_ms /= 2;
    options
}

fn check(seed: u64) -> Report {
    let options = short_life(seed);
    let text = options.text();
    let report = run(options, Trace::tail());
    if let Err(violation) = &report.outcome {
        panic!(
            "{}\nseed {seed}: {violation}\n\
             replay: KOINE_SIM_SEED={seed} KOINE_SIM_OPTIONS={text} \
             cargo test -p koine-sim one_cluster_seed -- --nocapture",
            report.trace.text()
        );
    }
    report
}

#[test]
fn no_promise_is_broken_and_every_fault_fires() {
    let seeds: Vec<u64> = (0..SEED_COUNT).collect();
    let mut coverage = Coverage::default();
    std::thread::scope(|scope| {
        let halves = seeds.chunks(seeds.len().div_ceil(2)).map(|half| {
            scope.spawn(|| half.iter().map(|seed| check(*seed).coverage).collect::<Vec<_>>())
        });
        for half in halves.collect::<Vec<_>>() {
            let half = half.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            half.iter().for_each(|one| coverage.add(one));
        }
    });
    let never = |mark: &&Mark| coverage.count(**mark) == 0 && !RARE.contains(mark);
    let missing: Vec<&Mark> = Mark::CLUSTER.iter().filter(never).collect();
    assert_eq!(missing, [&Mark::PowerCut; 0], "these never fired: {coverage:?}");
}

#[test]
fn what_was_found_stays_mended() {
    for seed in REGRESSIONS.iter().copied() {
        let report = run(Options::from_seed(seed), Trace::tail());
        let text = report.trace.text();
        report.outcome.unwrap_or_else(|violation| panic!("{text}\n{seed}: {violation}"));
    }
}

#[test]
fn one_cluster_seed() {
    let Ok(seed) = std::env::var("KOINE_SIM_SEED") else { return };
    let seed = seed.parse().expect("KOINE_SIM_SEED is a number");
    let text = std::env::var("KOINE_SIM_OPTIONS").unwrap_or_default();
    // The options may be of the other world, which has a test of its own.
    let Ok(options) = Options::from_text(seed, &text) else { return };
    let report = run(options, Trace::whole());
    println!("{}", report.trace.text());
    report.outcome.unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
}

#[test]
fn the_same_seed_twice_gives_the_same_trace_byte_for_byte() {
    for seed in 0..2 {
        let [first, second] =
            [(), ()].map(|()| run(Options::from_seed(seed), Trace::whole()).trace.text());
        let differs = first.lines().zip(second.lines()).find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}");
        assert!(first == second && first.lines().count() > 1000);
    }
}

#[test]
fn schedules_that_lost_data_elsewhere_lose_none() {
    for script in Script::ALL {
        for seed in 0..3 {
            let report = run_script(script, seed);
            let text = report.trace.text();
            report.outcome.unwrap_or_else(|v| panic!("{text}\n{script:?} {seed}: {v}"));
        }
    }
}

#[test]
fn another_leader_serves_within_a_second() {
    let mut times: Vec<u64> =
        (0..20).map(|seed| failover(seed).unwrap_or_else(|v| panic!("{seed}: {v}"))).collect();
    times.sort_unstable();
    println!("failover: p50 {} ms, max {} ms", times[10] / 1000, times[19] / 1000);
    assert!(times[19] < 1_000_000, "{times:?}");
}
