//! `cargo xtask compare`: Koine and the brokers it stands beside, under the same load, one after the other in every
//! round. Only Koine and one peer are up at a time. The results are written to `docs/performance/`.

mod brokers;
mod cases;
pub mod curves;
pub mod footprint;
mod machine;
mod pages;
mod plots;
mod results;
mod tools;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use brokers::{Kind, Running};
use cases::{Case, Load, Side, CASES};
use results::Run;

use crate::{process, project};

/// How long one run may take beyond what it was asked for: start, topics, draining, cleaning up.
const MORE: Duration = Duration::from_secs(90);

/// Where everything that is fetched, built or written by a broker goes.
pub fn directory() -> PathBuf {
    project::target().join("compare")
}

struct Options {
    rounds: usize,
    seconds: u32,
    only: Vec<String>,
    json: bool,
    publish: bool,
}

impl Options {
    fn read(arguments: &[String]) -> Result<Options, String> {
        let mut options =
            Options { rounds: 5, seconds: 4, only: Vec::new(), json: false, publish: true };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--rounds" => options.rounds = number(value()?)? as usize,
                "--seconds" => options.seconds = number(value()?)?,
                "--json" => options.json = true,
                "--no-pages" => options.publish = false,
                name if !name.starts_with('-') => options.only.push(name.to_owned()),
                other => return Err(format!("compare: unknown argument {other}")),
            }
        }
        Ok(options)
    }

    fn wants(&self, case: &Case) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| case.name.contains(only.as_str()))
    }
}

fn number(text: &str) -> Result<u32, String> {
    let parsed = text.parse().ok().filter(|number| *number > 0);
    parsed.ok_or_else(|| format!("{text} is not a positive number"))
}

pub fn run(arguments: &[String]) -> Result<(), String> {
    let options = Options::read(arguments)?;
    let cases: Vec<&Case> = CASES.iter().filter(|case| options.wants(case)).collect();
    if cases.is_empty() {
        let names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
        return Err(format!("no such case; there are: {}", names.join(", ")));
    }
    build()?;
    let mut runs = Vec::new();
    for peer in Kind::PEERS {
        let mine: Vec<&Case> = cases.iter().copied().filter(|case| case.peer == peer).collect();
        if !mine.is_empty() {
            let group = beside(peer, &mine, &options)?;
            results::save(&group)?;
            runs.extend(group);
        }
    }
    if options.publish {
        let all = results::load()?;
        pages::write(&all)?;
        plots::write(&all)?;
    }
    match options.json {
        true => println!("{}", results::json(&runs)),
        false => print!("{}", pages::text(&runs)),
    }
    match runs.iter().filter(|run| !run.is_clean).count() {
        0 => Ok(()),
        unclean => Err(format!("{unclean} runs lost, repeated or damaged something, or failed")),
    }
}

fn build() -> Result<(), String> {
    let build = ["build", "--release", "--quiet", "-p", "koine", "-p", "koine-bench"];
    match process::cargo(&build).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err("the build failed".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// All rounds of the cases of one peer.
fn beside(peer: Kind, cases: &[&Case], options: &Options) -> Result<Vec<Run>, String> {
    eprintln!("starting Koine and {}", peer.name());
    let koine = Running::start(Kind::Koine)?;
    let other = Running::start(peer)?;
    let mut runs = vec![koine.footprint(), other.footprint()];
    let total = options.rounds * cases.iter().map(|case| case.sides.len()).sum::<usize>();
    for round in 1..=options.rounds {
        for case in cases {
            // Who begins changes, so that neither always finds the machine as the other left it.
            let mut sides: Vec<&Side> = case.sides.iter().collect();
            if round % 2 == 0 {
                sides.reverse();
            }
            for side in sides {
                let broker = if side.broker == Kind::Koine { &koine } else { &other };
                let run = one(case, side, broker, round, options)?;
                runs.push(run);
                let last = &runs[runs.len() - 1];
                eprintln!("{:>3}/{total} {}", runs.len() - 2, last.line());
            }
        }
    }
    Ok(runs)
}

fn one(
    case: &Case,
    side: &Side,
    broker: &Running,
    round: usize,
    options: &Options,
) -> Result<Run, String> {
    let log = directory().join("logs").join(format!("{}-{}-{round}.log", case.name, side.name()));
    let limit = Duration::from_secs(u64::from(options.seconds)) + MORE;
    let mut run = match &case.load {
        Load::Bench(arguments) => {
            let mut command = Command::new(project::target().join("release/koine-bench"));
            let protocol = arguments.first().copied().unwrap_or_default();
            command.args(*arguments).args(side.arguments);
            command.args(["--addr", broker.address_of(protocol)]);
            command.args(["--pid", &broker.pids(), "--json", "--warmup", "1"]);
            command.arg("--duration").arg(options.seconds.to_string());
            let finished = process::run(&mut command, &log, Some(limit))?;
            Run::of_bench(&finished.text())
        }
        Load::Vendor(tool) => Run::of_tool(tools::run(*tool, side, broker, options.seconds, &log)?),
    };
    run.case = case.name.to_owned();
    run.side = side.name();
    run.round = round;
    if !run.is_clean {
        eprintln!("{} {}: see {}", case.name, side.name(), log.display());
    }
    Ok(run)
}
