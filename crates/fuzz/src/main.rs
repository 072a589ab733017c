//! `koine-fuzz`: targets one after the other, each for some seconds of its own processor time, with changed
//! inputs from a seed. Says what it did, and keeps what it found.

use koine_base::rng::Rng;
use koine_fuzz::{allocator, corpus, find, mutate, Target, TARGETS};
use lexopt::prelude::*;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: allocator::Counting = allocator::Counting;

const HELP: &str = "koine-fuzz [--target NAME]... [--seconds N] [--seed N] [--findings DIR]\n\
                    koine-fuzz --replay NAME FILE\n\
                    koine-fuzz --seeds DIR: writes every target's inputs there, for libFuzzer\n";

struct Plan {
    targets: Vec<&'static Target>,
    seconds: u64,
    seed: u64,
    findings: PathBuf,
    replay: Option<PathBuf>,
    seeds: Option<PathBuf>,
}

fn parse() -> Result<Option<Plan>, lexopt::Error> {
    let mut plan = Plan {
        targets: Vec::new(),
        seconds: 10,
        seed: 1,
        findings: PathBuf::from("target/findings"),
        replay: None,
        seeds: None,
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("help") | Short('h') => return Ok(None),
            Long("target") => plan.targets.push(named(&parser.value()?.string()?)?),
            Long("seconds") => plan.seconds = parser.value()?.parse()?,
            Long("seed") => plan.seed = parser.value()?.parse()?,
            Long("findings") => plan.findings = parser.value()?.into(),
            Long("seeds") => plan.seeds = Some(parser.value()?.into()),
            Long("replay") => plan.targets.push(named(&parser.value()?.string()?)?),
            Value(file) if plan.replay.is_none() => plan.replay = Some(file.into()),
            other => return Err(other.unexpected()),
        }
    }
    if plan.targets.is_empty() {
        plan.targets = TARGETS.iter().collect();
    }
    Ok(Some(plan))
}

fn named(name: &str) -> Result<&'static Target, lexopt::Error> {
    find(name).ok_or_else(|| format!("no target {name}").into())
}

fn main() -> ExitCode {
    let plan = match parse() {
        Ok(Some(plan)) => plan,
        Ok(None) => {
            let names: Vec<String> = TARGETS
                .iter()
                .map(|target| format!("  {:<14} {}", target.name, target.claim))
                .collect();
            print!("{HELP}\n{}\n", names.join("\n"));
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error}\n{HELP}");
            return ExitCode::from(2);
        }
    };
    if let Some(file) = &plan.replay {
        let input = std::fs::read(file).unwrap_or_default();
        plan.targets[0].check(&input);
        println!("{}: {} bytes, nothing wrong", plan.targets[0].name, input.len());
        return ExitCode::SUCCESS;
    }
    if let Some(directory) = &plan.seeds {
        return match plan.targets.iter().try_for_each(|target| write_seeds(target, directory)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{}: {error}", directory.display());
                ExitCode::FAILURE
            }
        };
    }
    let found: usize = plan.targets.iter().map(|target| run(target, &plan)).sum();
    match found {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn write_seeds(target: &Target, directory: &Path) -> std::io::Result<()> {
    let own = directory.join(target.name);
    std::fs::create_dir_all(&own)?;
    let mut inputs = corpus::inputs(target.name).into_iter().enumerate();
    inputs.try_for_each(|(number, input)| std::fs::write(own.join(format!("seed-{number}")), input))
}

/// How many inputs broke it; it goes on behind each.
fn run(target: &Target, plan: &Plan) -> usize {
    let inputs = corpus::inputs(target.name);
    let mut rng = Rng::new(plan.seed);
    let (began, limit) = (Instant::now(), Duration::from_secs(plan.seconds));
    let (mut runs, mut found) = (0u64, 0);
    let mut slowest = Duration::ZERO;
    while began.elapsed() < limit && found < 5 {
        let chosen = rng.below(inputs.len() as u64) as usize;
        let input = mutate::mutate(&inputs[chosen], &inputs, &mut rng);
        let asked = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| target.check(&input)));
        slowest = slowest.max(asked.elapsed());
        runs += 1;
        if outcome.is_err() {
            found += 1;
            let path = plan.findings.join(format!("{}-{}-{runs}", target.name, plan.seed));
            let kept = std::fs::create_dir_all(&plan.findings)
                .and_then(|()| std::fs::write(&path, &input));
            println!("{}: {} ({kept:?})", target.name, path.display());
        }
    }
    println!(
        "{:<14} {runs} runs in {:.0} s, {}/s, slowest {} ms, {found} found",
        target.name,
        began.elapsed().as_secs_f64(),
        runs / began.elapsed().as_secs().max(1),
        slowest.as_millis()
    );
    found
}
