//! Runs fresh seeds on all cores until the time is up or one fails; the one that fails is made small and
//! printed with the command that replays it. Started by `cargo xtask sim`.

mod hunt;
mod report;

use hunt::{Hunt, Plan, WorldKind};
use koine_sim::wired::Wired;
use koine_sim::{cluster, Options};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const HELP: &str = "\
koine-sim [--minutes N | --seconds N] [--seeds N] [--from SEED] [--jobs N]
          [--keep-going] [--no-shrink] [--json] [--world node|wired|cluster] [--cluster]
";

fn main() -> ExitCode {
    let plan = match plan(std::env::args().skip(1)) {
        Ok(plan) => plan,
        Err(why) => {
            eprintln!("{why}\n{HELP}");
            return ExitCode::FAILURE;
        }
    };
    // A panic of the node is reported with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    match plan.world {
        WorldKind::Wired => Hunt::<Wired>::new(plan).run(),
        WorldKind::Cluster => Hunt::<cluster::Options>::new(plan).run(),
        WorldKind::Node => Hunt::<Options>::new(plan).run(),
    }
}

fn plan(mut args: impl Iterator<Item = String>) -> Result<Plan, String> {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let mut plan = Plan { from: fresh_seed(), jobs, ..Plan::default() };
    while let Some(name) = args.next() {
        match name.as_str() {
            "--keep-going" => plan.keep_going = true,
            "--no-shrink" => plan.shrinks = false,
            "--json" => plan.json = true,
            "--cluster" => plan.world = WorldKind::Cluster,
            "--world" => {
                plan.world = match args.next().as_deref() {
                    Some("node") => WorldKind::Node,
                    Some("wired") => WorldKind::Wired,
                    Some("cluster") => WorldKind::Cluster,
                    other => return Err(format!("no world {other:?}")),
                }
            }
            _ => {
                let value = args.next().and_then(|value| value.parse::<u64>().ok());
                let value = value.ok_or_else(|| format!("{name} wants a number"))?;
                match name.as_str() {
                    "--from" => plan.from = value,
                    "--minutes" => plan.time = Duration::from_secs(value.saturating_mul(60)),
                    "--seconds" => plan.time = Duration::from_secs(value),
                    "--seeds" => plan.seeds = value,
                    "--jobs" => plan.jobs = usize::try_from(value.clamp(1, 256)).unwrap_or(1),
                    _ => return Err(format!("no option {name}")),
                }
            }
        }
    }
    Ok(plan)
}

/// Nobody has run it before.
fn fresh_seed() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_refused() {
        let plan = |text: &str| plan(text.split_whitespace().map(str::to_owned));
        let read = plan("--minutes 2 --from 7 --seeds 9 --jobs 0 --json").expect("known options");
        assert_eq!((read.from, read.seeds, read.jobs, read.json), (7, 9, 1, true));
        assert_eq!(read.time, Duration::from_secs(120));
        for text in ["--minutes", "--minutes x", "--from -1", "--colour 3"] {
            assert!(plan(text).is_err(), "{text}");
        }
    }
}
