//! `cargo xtask curves`: Koine alone, and what its throughput, processor time and memory do as queues, backlog, sizes,
//! connections and partitions grow. Each point has a broker of its own in a fresh directory, and is kept in
//! `docs/performance/curves.json` as soon as it is measured, so that a sitting can be broken off and gone on with.

mod pages;
mod plots;
mod points;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use points::{Curve, Point, CURVES};
use serde_json::{json, Value};

use super::brokers::Running;
use super::machine;
use super::results::{read_rows, write_rows, Run};
use crate::{process, project};

/// Filling 10 GB takes a minute.
const LIMIT: Duration = Duration::from_secs(300);

/// One run of one point; the run's case is the curve and its side the line.
#[derive(Clone, Debug, PartialEq)]
struct Measured {
    x: u64,
    size: u64,
    run: Run,
}

impl Measured {
    fn to_json(&self) -> Value {
        let mut json = self.run.to_json();
        (json["x"], json["size"]) = (json!(self.x), json!(self.size));
        json
    }

    fn from_json(json: &Value) -> Measured {
        let number = |name: &str| json[name].as_u64().unwrap_or(0);
        Measured { x: number("x"), size: number("size"), run: Run::from_json(json) }
    }
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
            Options { rounds: 3, seconds: 3, only: Vec::new(), json: false, publish: true };
        for argument in arguments {
            match argument.as_str() {
                "--quick" => (options.rounds, options.seconds) = (1, 2),
                "--json" => options.json = true,
                "--no-pages" => options.publish = false,
                name if !name.starts_with('-') => options.only.push(name.to_owned()),
                other => return Err(format!("curves: unknown argument {other}")),
            }
        }
        Ok(options)
    }

    fn wants(&self, curve: &Curve) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| curve.name == only)
    }
}

pub fn run(arguments: &[String]) -> Result<(), String> {
    let options = Options::read(arguments)?;
    let names: Vec<&str> = CURVES.iter().map(|curve| curve.name).collect();
    if let Some(unknown) = options.only.iter().find(|only| !names.contains(&only.as_str())) {
        return Err(format!("no curve {unknown}; there are: {}", names.join(", ")));
    }
    super::build()?;
    let wanted: Vec<&Curve> = CURVES.iter().filter(|curve| options.wants(curve)).collect();
    let total: usize = wanted.iter().map(|curve| curve.points().len()).sum();
    let began = Instant::now();
    let mut done = Vec::new();
    let mut count = 0;
    for curve in wanted {
        for point in curve.points() {
            count += 1;
            let runs = measure(curve, &point, &options)?;
            let seconds = began.elapsed().as_secs();
            for Measured { x, run, .. } in &runs {
                eprintln!("{count:>3}/{total} {seconds:>5} s {x:>8} {}", run.line());
            }
            if options.publish {
                save(&runs)?;
            }
            done.extend(runs);
        }
    }
    if options.publish {
        let all = load()?;
        super::pages::write_section("curves", &pages::section(&all))?;
        plots::write(&all)?;
    }
    match options.json {
        true => println!("{}", Value::Array(done.iter().map(Measured::to_json).collect())),
        false => print!("{}", pages::section(&done)),
    }
    match done.iter().filter(|measured| !measured.run.is_clean).count() {
        0 => Ok(()),
        unclean => Err(format!("{unclean} runs lost, repeated or damaged something, or failed")),
    }
}

/// All runs of one point on a broker of its own.
fn measure(curve: &Curve, point: &Point, options: &Options) -> Result<Vec<Measured>, String> {
    let home = home();
    let broker = Running::alone(&home, &[], &[])?;
    machine::require_free(&home, point.disk_bytes)?;
    let mut runs = Vec::new();
    for round in 1..=options.rounds {
        let first = if round == 1 { &point.fill } else { &point.refill };
        if let Some(load) = first {
            let filled = bench(&broker, load, 0, "fill")?;
            if !filled.is_clean {
                return Err(format!("{} {}: the backlog was not written", curve.name, point.line));
            }
        }
        let mut run = bench(&broker, &point.load, options.seconds, curve.name)?;
        (run.case, run.side, run.round) = (curve.name.to_owned(), point.line.to_owned(), round);
        runs.push(Measured { x: point.x, size: point.size, run });
    }
    Ok(runs)
}

/// One run of `koine-bench`; without seconds it ends by itself.
fn bench(broker: &Running, load: &[String], seconds: u32, name: &str) -> Result<Run, String> {
    let log = home().join("logs").join(format!("{name}.log"));
    let protocol = load.first().map_or("", String::as_str);
    let mut command = Command::new(project::target().join("release/koine-bench"));
    command.args(load).args(["--addr", broker.address_of(protocol), "--pid", &broker.pids()]);
    command.arg("--json");
    if seconds > 0 {
        command.args(["--warmup", "1", "--duration", &seconds.to_string()]);
    }
    let finished = process::run(&mut command, &log, Some(LIMIT))?;
    let run = Run::of_bench(&finished.text());
    if !run.is_clean {
        eprintln!("koine-bench {}:\n{}", load.join(" "), finished.tail(12));
    }
    Ok(run)
}

fn home() -> PathBuf {
    project::target().join("curves")
}

fn file() -> PathBuf {
    project::root().join("docs/performance/curves.json")
}

fn load() -> Result<Vec<Measured>, String> {
    Ok(read_rows(&file())?.iter().map(Measured::from_json).collect())
}

/// Keeps these in place of earlier ones of the same points.
fn save(runs: &[Measured]) -> Result<(), String> {
    let mut all = load()?;
    let same = |a: &Measured, b: &Measured| {
        a.x == b.x && a.run.case == b.run.case && a.run.side == b.run.side
    };
    all.retain(|old| !runs.iter().any(|new| same(old, new)));
    all.extend_from_slice(runs);
    let rows: Vec<Value> = all.iter().map(Measured::to_json).collect();
    write_rows(&file(), &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_reads_back() {
        let run =
            Run { case: "sizes".into(), side: "a".into(), per_second: Some(2.5), ..Run::default() };
        let measured = Measured { x: 16, size: 100, run };
        assert_eq!(Measured::from_json(&measured.to_json()), measured);
    }

    #[test]
    fn every_point_of_a_curve_is_another_one() {
        for curve in CURVES {
            let points = curve.points();
            let mut places: Vec<_> = points.iter().map(|point| (point.line, point.x)).collect();
            places.sort_unstable();
            places.dedup();
            assert_eq!(places.len(), points.len(), "{}", curve.name);
            assert!(points.iter().all(|point| point.disk_bytes <= 20 << 30), "{}", curve.name);
        }
    }

    #[test]
    fn unknown_curves_and_flags_are_refused() {
        assert!(Options::read(&["--slow".to_owned()]).is_err());
        assert!(run(&["no-such".to_owned()]).is_err_and(|why| why.contains("queues")));
    }
}
