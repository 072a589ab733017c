//! The simulator on a fixed list of seeds, and that a seed says everything.

use super::*;
use crate::shrink::Shrink;
use crate::wired::Wired;

/// Seeds of every test run.
const SEED_COUNT: u64 = 100;

/// Seeds that found a bug, in the node or in here, since the workload draws as it does now. Any change of what is drawn gives
/// every seed another meaning, so each bug has a test of its own where it was fixed as well.
const REGRESSIONS: &[u64] = &[100_312, 102_496, 1795600017761];

/// Marks that want more seeds than a test run has time for; `cargo xtask sim` wants them too.
const RARE: &[Mark] = &[
    Mark::DamageExcused,
    Mark::StartedAfterRepair,
    Mark::RefusedCorrupt,
    Mark::StoppedCorrupt,
    Mark::WriteMisdirected,
    Mark::WriteLost,
];

fn check(seed: u64) -> Report {
    let report = run(Options::from_seed(seed), Trace::tail());
    if let Err(violation) = &report.outcome {
        panic!(
            "{}\nseed {seed}: {violation}\n\
             replay: KOINE_SIM_SEED={seed} cargo test -p koine-sim one_seed -- --nocapture",
            report.trace.text()
        );
    }
    report
}

#[test]
fn no_promise_is_broken_and_every_fault_fires() {
    let seeds: Vec<u64> = REGRESSIONS.iter().copied().chain(0..SEED_COUNT).collect();
    let mut coverage = Coverage::default();
    // Runs share nothing: a seed says the same on whatever thread it runs.
    std::thread::scope(|scope| {
        let halves = seeds.chunks(seeds.len().div_ceil(2)).map(|half| {
            scope.spawn(|| half.iter().map(|seed| check(*seed).coverage).collect::<Vec<_>>())
        });
        for half in halves.collect::<Vec<_>>() {
            let half = half.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            half.iter().for_each(|one| coverage.add(one));
        }
    });
    let mut missing = coverage.missing();
    missing.retain(|mark| !RARE.contains(mark));
    assert_eq!(missing, [], "these never fired: {coverage:?}");
}

#[test]
fn one_seed() {
    let Ok(seed) = std::env::var("KOINE_SIM_SEED") else { return };
    let seed = seed.parse().expect("KOINE_SIM_SEED is a number");
    let text = std::env::var("KOINE_SIM_OPTIONS").unwrap_or_default();
    let options = Options::from_text(seed, &text).expect("KOINE_SIM_OPTIONS as a hunt printed it");
    let report = run(options, Trace::whole());
    println!("{}", report.trace.text());
    report.outcome.unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
}

#[test]
fn the_same_seed_twice_gives_the_same_trace_byte_for_byte() {
    for seed in 0..6 {
        let [first, second] =
            [(), ()].map(|()| run(Options::from_seed(seed), Trace::whole()).trace.text());
        let differs = first.lines().zip(second.lines()).find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}");
        assert!(first == second && first.lines().count() > 1000);
    }
}

/// The whole chain: a broken promise is seen, made small, and seen again from the text alone.
#[test]
fn a_disk_that_lies_about_syncs_is_caught_and_the_run_made_small() {
    let found = (0..40).find_map(|seed| {
        let options = Options { is_lying: true, ..Options::from_seed(seed) };
        let violation = run(options.clone(), Trace::tail()).outcome.err()?;
        Some((options, violation))
    });
    let (options, violation) = found.expect("what was acknowledged is gone after a crash");
    let mut runs = 0;
    let shrunk = shrink::shrink(
        options.clone(),
        violation,
        |options| run(options.clone(), Trace::tail()).outcome.err(),
        || {
            runs += 1;
            runs < 150
        },
    );
    assert!(shrunk.options.steps < options.steps, "{}", shrunk.options.text());
    let again = Options::from_text(options.seed, &shrunk.options.text()).expect("its own text");
    assert_eq!(run(again, Trace::tail()).outcome, Err(shrunk.violation));
}

/// Seeds of a node among clients that speak protocols, of every test run.
const WIRED_SEED_COUNT: u64 = 12;

fn check_wired(seed: u64) -> Report {
    let report = run(Wired::from_seed(seed).0, Trace::tail());
    if let Err(violation) = &report.outcome {
        panic!(
            "{}\nseed {seed}: {violation}\n\
             replay: KOINE_SIM_SEED={seed} cargo test -p koine-sim one_wired_seed -- --nocapture",
            report.trace.text()
        );
    }
    report
}

#[test]
fn clients_of_every_protocol_are_given_what_they_were_promised() {
    let mut coverage = Coverage::default();
    (0..WIRED_SEED_COUNT).for_each(|seed| coverage.add(&check_wired(seed).coverage));
    // Too rare for so few seeds; a hunt wants them.
    let rare = [Mark::NodeHungUp, Mark::RefusedToClient];
    let mut missing = coverage.missing_of(Mark::WIRED);
    missing.retain(|mark| !rare.contains(mark));
    assert_eq!(missing, [], "these never fired: {coverage:?}");
}

#[test]
fn one_wired_seed() {
    let Ok(seed) = std::env::var("KOINE_SIM_SEED") else { return };
    let seed = seed.parse().expect("KOINE_SIM_SEED is a number");
    let text = std::env::var("KOINE_SIM_OPTIONS").unwrap_or_default();
    let wired = Wired::from_text(seed, &text).expect("KOINE_SIM_OPTIONS as a hunt printed it");
    let report = run(wired.0, Trace::whole());
    println!("{}", report.trace.text());
    report.outcome.unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
}

#[test]
fn the_same_wired_seed_twice_gives_the_same_trace() {
    for seed in 0..2 {
        let [first, second] =
            [(), ()].map(|()| run(Wired::from_seed(seed).0, Trace::whole()).trace.text());
        let differs = first.lines().zip(second.lines()).find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}");
        assert!(first == second && first.lines().count() > 1000);
    }
}
