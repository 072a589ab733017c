//! `cargo xtask mutants`: does the simulator see what it is there to see? Each file in `crates/sim/mutants` breaks one
//! invariant on purpose; a copy of the sources with that one change must be caught within a minute. Never touches the
//! sources themselves.

mod mutant;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::{process, project};
use mutant::Mutant;

const SECONDS: u64 = 60;

/// How long the program as it is must pass, so that what is caught is the mutant's doing.
const BASELINE_SECONDS: u64 = 20;

/// The first seed; the same each time, so that two runs of the command can be compared.
const FROM: &str = "1";

/// What a copy of the sources is made of.
const SOURCES: [&str; 4] = ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml", "crates"];

enum Fate {
    Caught { after: Duration, seeds: String, violation: String },
    Survived { seeds: String },
    Broken { why: String },
}

struct Plan {
    seconds: u64,
    /// Names that were asked for; all if there are none.
    names: Vec<String>,
}

pub fn run(arguments: &[String]) -> Result<(), String> {
    let plan = plan(arguments)?;
    let mut mutants = read_all()?;
    if !plan.names.is_empty() {
        for name in &plan.names {
            if !mutants.iter().any(|mutant| mutant.name == *name) {
                return Err(format!("no mutant {name} in crates/sim/mutants"));
            }
        }
        mutants.retain(|mutant| plan.names.contains(&mutant.name));
    }
    let stale: Vec<String> =
        mutants.iter().flat_map(|mutant| mutant.problems(&project::root())).collect();
    if !stale.is_empty() {
        return Err(format!("{}\n{} out of date", stale.join("\n"), stale.len()));
    }
    let copy = project::target().join("mutants");
    copy_sources(&copy)?;
    check_baseline(&copy, &mutants)?;
    let mut survivors = 0;
    let width = mutants.iter().map(|mutant| mutant.name.len()).max().unwrap_or(0);
    println!("{:<width$}  {:<8}  {:>6}  {:>7}  what broke", "mutant", "fate", "after", "seeds");
    for mutant in &mutants {
        let fate = try_one(&copy, mutant, plan.seconds)?;
        let name = &mutant.name;
        match fate {
            Fate::Caught { after, seeds, violation } => {
                let after = format!("{:.1} s", after.as_secs_f64());
                println!("{name:<width$}  caught    {after:>6}  {seeds:>7}  {violation}");
            }
            Fate::Survived { seeds } => {
                survivors += 1;
                println!(
                    "{name:<width$}  SURVIVED  {:>4} s  {seeds:>7}  {}",
                    plan.seconds, mutant.title
                );
            }
            Fate::Broken { why } => {
                survivors += 1;
                println!("{name:<width$}  BROKEN    {why}");
            }
        }
    }
    println!("{} of {} caught", mutants.len() - survivors, mutants.len());
    match survivors {
        0 => Ok(()),
        _ => Err(format!("{survivors} not caught")),
    }
}

fn plan(arguments: &[String]) -> Result<Plan, String> {
    let mut plan = Plan { seconds: SECONDS, names: Vec::new() };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--seconds" => {
                let value = rest.next().and_then(|value| value.parse().ok());
                plan.seconds = value.ok_or("--seconds needs a number")?;
            }
            flag if flag.starts_with("--") => return Err(format!("no flag {flag}")),
            name => plan.names.push(name.to_owned()),
        }
    }
    Ok(plan)
}

fn read_all() -> Result<Vec<Mutant>, String> {
    project::files("crates/sim/mutants", ".txt")
        .iter()
        .map(|path| Mutant::parse(path, &project::read(path)))
        .collect()
}

/// Files that are already the same stay untouched, so that little is built again.
fn copy_sources(to: &Path) -> Result<(), String> {
    let root = project::root();
    for name in SOURCES {
        let path = root.join(name);
        if path.is_dir() {
            for file in project::files(name, "") {
                copy_file(&root.join(&file), &to.join(&file))?;
            }
            remove_strangers(&root, &to.join(name), to)?;
        } else if path.exists() {
            copy_file(&path, &to.join(name))?;
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", to.display());
    let bytes = std::fs::read(from).map_err(failed)?;
    if std::fs::read(to).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    if let Some(directory) = to.parent() {
        std::fs::create_dir_all(directory).map_err(failed)?;
    }
    std::fs::write(to, bytes).map_err(failed)
}

/// Files of an earlier copy that are no longer in the sources.
fn remove_strangers(root: &Path, directory: &Path, copy: &Path) -> Result<(), String> {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(relative) = path.strip_prefix(copy) else { continue };
        if path.is_dir() {
            remove_strangers(root, &path, copy)?;
        } else if !root.join(relative).exists() {
            std::fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    Ok(())
}

fn build(copy: &Path) -> Result<PathBuf, String> {
    let target = copy.join("target");
    let log = project::target().join("xtask").join("mutants-build.log");
    let mut command = process::cargo(&["build", "--quiet", "--profile", "sim", "-p", "koine-sim"]);
    command.current_dir(copy).env("CARGO_TARGET_DIR", &target);
    let finished = process::run(&mut command, &log, None)?;
    match finished.success {
        true => Ok(target.join("sim").join("koine-sim")),
        false => Err(finished.tail(20)),
    }
}

/// What one run of the simulator says, as JSON, and how long it took.
fn simulate(
    program: &Path,
    world: &str,
    seconds: u64,
) -> Result<(serde_json::Value, Duration), String> {
    let start = Instant::now();
    let mut command = Command::new(program);
    command.args(["--json", "--no-shrink", "--jobs", "1", "--from", FROM]);
    command.args(["--seconds", &seconds.to_string(), "--world", world]);
    let log = project::target().join("xtask").join("mutants-run.log");
    let limit = Duration::from_secs(seconds.saturating_add(200));
    let finished = process::run(&mut command, &log, Some(limit))?;
    let text = finished.text();
    let json = text.lines().find_map(|line| serde_json::from_str(line).ok());
    // A run that never ends is reported in words.
    let json = json.unwrap_or_else(|| {
        serde_json::json!({"seeds": 0, "failures": [{"violation": text.lines().next().unwrap_or("it died")}]})
    });
    Ok((json, start.elapsed()))
}

fn check_baseline(copy: &Path, mutants: &[Mutant]) -> Result<(), String> {
    let program = build(copy)?;
    for world in mutant::WORLDS {
        if mutants.iter().any(|mutant| mutant.world == *world) {
            let (json, _) = simulate(&program, world, BASELINE_SECONDS)?;
            if let Some(failure) = json["failures"].get(0) {
                return Err(format!("the program as it is fails: {}", failure["violation"]));
            }
        }
    }
    Ok(())
}

fn try_one(copy: &Path, mutant: &Mutant, seconds: u64) -> Result<Fate, String> {
    mutant.apply(copy)?;
    let built = build(copy);
    let outcome = built.map(|program| simulate(&program, &mutant.world, seconds));
    copy_sources(copy)?;
    let (json, after) = match outcome {
        Ok(ran) => ran?,
        Err(why) => return Ok(Fate::Broken { why }),
    };
    let seeds = json["seeds"].to_string();
    let Some(failure) = json["failures"].get(0) else {
        return Ok(Fate::Survived { seeds });
    };
    let violation = failure["violation"].as_str().unwrap_or_default();
    let violation = violation.lines().next().unwrap_or_default().chars().take(100).collect();
    Ok(Fate::Caught { after, seeds, violation })
}
