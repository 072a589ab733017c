//! Strangers and hostile clients, thousands at a time, while somebody else works: what the broker holds for them,
//! and how much of the throughput is left. The broker has users, so that strangers are strangers.

mod attacks;
mod bombs;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::Options;
use crate::broker::{Process, Start};
use crate::load::site::Addresses;
use crate::report::Row;
use attacks::{Attack, ATTACKS};

const START_LIMIT: Duration = Duration::from_secs(30);
/// How long the attack has run before throughput is measured.
const BEFORE: Duration = Duration::from_secs(3);
const MEASURE_SECONDS: &str = "2";
/// Each figure is the median of so many.
const MEASURES: usize = 5;
/// Of the throughput without an attack, in per mille.
const LEFT_MIN: u64 = 800;
/// Beside what the broker has in memory without an attack.
const MORE_BYTES_MAX: u64 = 768 << 20;
pub const USER: &str = "siege";
pub const PASSWORD: &str = "siege-password";

/// What is attacked.
pub struct Target {
    pub addresses: Addresses,
}

pub fn missing() -> Option<String> {
    let limit = crate::broker::run("sh", &["-c", "ulimit -n"]).ok()?;
    let files: u64 = limit.parse().unwrap_or(u64::MAX);
    (files < 15_000).then(|| format!("15,000 open files (ulimit -n says {files})"))
}

pub fn run(options: &Options, row: &mut Row) -> Result<(), String> {
    let bench = options.koine.with_file_name("koine-bench");
    if !bench.exists() {
        return Err(format!(
            "{} is not there: cargo build --release -p koine-bench",
            bench.display()
        ));
    }
    std::fs::create_dir_all(&options.directory)
        .map_err(|error| format!("{}: {error}", options.directory.display()))?;
    let bar = options.progress("siege", ATTACKS.len() as u64);
    for attack in &ATTACKS {
        bar.set_message(attack.name);
        besiege(options, &bench, attack, row)?;
        row.cycles += 1;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}

/// One attack on a broker of its own.
fn besiege(options: &Options, bench: &Path, attack: &Attack, row: &mut Row) -> Result<(), String> {
    let (process, target) = start(options, attack)?;
    let quiet = measure(bench, &target)?;
    let resident_before = process.peak_resident_bytes();
    let mut siege = (attack.begin)(&target)?;
    if !siege.wait_until_full(attack.full) {
        row.failures.push(format!("{}: never got to {}", attack.name, attack.full));
    }
    std::thread::sleep(BEFORE);
    let besieged = measure(bench, &target)?;
    let resident = process.peak_resident_bytes();
    let done = siege.end();
    let mut note = format!("{}: {done};", attack.name);
    for ((protocol, before), (_, under)) in quiet.iter().zip(&besieged) {
        let left = under * 1000 / before.max(&1);
        note += &format!(" {protocol} {} % of {before}/s,", left / 10);
        if left < LEFT_MIN {
            let why =
                format!("{}: {protocol} keeps {} % of its throughput", attack.name, left / 10);
            row.failures.push(why);
        }
    }
    note += &format!(" peak {} MiB, {} before", resident >> 20, resident_before >> 20);
    row.notes.push(note);
    if resident > resident_before + MORE_BYTES_MAX {
        row.failures.push(format!("{}: {} MiB resident", attack.name, resident >> 20));
    }
    drop(siege);
    process.kill();
    Ok(())
}

fn start(options: &Options, attack: &Attack) -> Result<(Process, Target), String> {
    let directory = options.directory.join(attack.name);
    std::fs::create_dir_all(&directory)
        .map_err(|error| format!("{}: {error}", directory.display()))?;
    let data = directory.join("data");
    init(options, &data)?;
    let tls = |file: &str| data.join("tls").join(file).display().to_string();
    let mut arguments = attacks::ARGUMENTS.map(str::to_owned).to_vec();
    arguments.push(format!("--tls-certificate={}", tls("server.pem")));
    arguments.push(format!("--tls-key={}", tls("server.key")));
    let koine = options.koine.clone();
    let start = Start { koine, data, directory, arguments, wrapper: Vec::new() };
    let mut process = start.spawn()?;
    let addresses = process.wait_ready(START_LIMIT)?;
    Ok((process, Target { addresses }))
}

/// Makes the user and the certificate.
fn init(options: &Options, data: &Path) -> Result<(), String> {
    let mut command = Command::new(&options.koine);
    command.arg("init").arg("--data").arg(data).args(["--user", USER, "--password-file", "-"]);
    command.arg("--config").arg(data.with_extension("toml"));
    let failed = |error| format!("{}: {error}", options.koine.display());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().map_err(failed)?;
    if let Some(mut input) = child.stdin.take() {
        use std::io::Write;
        input.write_all(PASSWORD.as_bytes()).map_err(failed)?;
    }
    match child.wait().map_err(failed)?.success() {
        true => Ok(()),
        false => Err("koine init failed".to_owned()),
    }
}

/// Messages received per second through each protocol, by turns.
fn measure(bench: &Path, target: &Target) -> Result<Vec<(&'static str, u64)>, String> {
    let Addresses { kafka, amqp, mqtt } = &target.addresses;
    let of = [("kafka", kafka), ("amqp", amqp), ("mqtt", mqtt)];
    let mut rates = [const { Vec::new() }; 3];
    for _ in 0..MEASURES {
        for ((protocol, address), rates) in of.iter().zip(&mut rates) {
            rates.push(rate(bench, protocol, address)?);
        }
    }
    let median = |mut rates: Vec<u64>| {
        rates.sort_unstable();
        rates[MEASURES / 2]
    };
    Ok(of.iter().zip(rates).map(|((protocol, _), rates)| (*protocol, median(rates))).collect())
}

fn rate(bench: &Path, protocol: &str, address: &str) -> Result<u64, String> {
    let mut command = Command::new(bench);
    command.args([protocol, "--addr", address, "--durability", "fsync", "--json"]);
    command.args(["--warmup", "1", "--duration", MEASURE_SECONDS, "--user", USER]);
    command.args(["--password", PASSWORD]).stdin(Stdio::null());
    let output = command.output().map_err(|error| format!("{}: {error}", bench.display()))?;
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).map_err(|_| {
        format!("koine-bench {protocol}: {}", String::from_utf8_lossy(&output.stderr).trim())
    })?;
    json["received_per_s"].as_f64().map(|rate| rate as u64).ok_or_else(|| "no rate".to_owned())
}
