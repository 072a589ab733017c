//! Runs seed after seed: `koine-sim [--from SEED] [--seconds N] [--seeds N]`. Ends at the first violation
//! with the seed that replays it.

use koine_sim::trace::Trace;
use koine_sim::{run, Coverage, Options};
use std::process::ExitCode;
use std::time::{Duration, Instant};

fn main() -> ExitCode {
    let mut from = 0u64;
    let mut seconds = 60u64;
    let mut seeds = u64::MAX;
    let mut keep_going = false;
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        if name == "--keep-going" {
            keep_going = true;
            continue;
        }
        let Some(value) = args.next().and_then(|value| value.parse().ok()) else {
            eprintln!("{name} wants a number");
            return ExitCode::FAILURE;
        };
        match name.as_str() {
            "--from" => from = value,
            "--seconds" => seconds = value,
            "--seeds" => seeds = value,
            _ => {
                eprintln!("koine-sim [--from SEED] [--seconds N] [--seeds N] [--keep-going]");
                return ExitCode::FAILURE;
            }
        }
    }
    // A panic of the node is reported with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    hunt(from, seeds, Duration::from_secs(seconds), keep_going)
}

fn hunt(from: u64, seeds: u64, time: Duration, keep_going: bool) -> ExitCode {
    let started = Instant::now();
    let mut coverage = Coverage::default();
    let (mut count, mut failed) = (0u64, 0u64);
    while count < seeds && started.elapsed() < time {
        let seed = from + count;
        let report = run(Options::from_seed(seed), Trace::tail());
        coverage.add(&report.coverage);
        count += 1;
        if let Err(violation) = report.outcome {
            failed += 1;
            println!("seed {seed}: {violation}");
            if !keep_going {
                println!("{}", report.trace.text());
                println!("seed {seed}: {violation}");
                println!(
                    "replay: KOINE_SIM_SEED={seed} cargo test -p koine-sim one_seed -- --nocapture"
                );
                break;
            }
        }
    }
    let minutes = started.elapsed().as_secs_f64() / 60.0;
    println!("{count} seeds, {failed} failed, {:.0} a minute", count as f64 / minutes);
    println!("never fired: {:?}", coverage.missing());
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
