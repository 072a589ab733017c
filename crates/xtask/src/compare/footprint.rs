//! `cargo xtask footprint`: what idle queues and connections cost in memory, and a backlog twenty times the memory that
//! the broker may use. Koine alone, a fresh broker for each; the results are written to `docs/performance/`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use koine_workload::cgroup::{self, MemoryGroup};
use serde_json::{json, Value};

use super::brokers::Running;
use super::machine;
use super::pages::{mebibytes, write_section};
use super::results::{read_rows, write_rows};
use crate::{process, project};

const QUEUES: u64 = 100_000;
/// As far as a process may open so many files.
const CONNECTIONS_WANTED: u64 = 20_000;
/// Files that the broker and the generator need beside those of connections.
const FILES_BESIDE: u64 = 300;
const BACKLOG_BYTES: u64 = 10_000_000_000;
const BODY_BYTES: u64 = 1024;
const MEMORY_BYTES: u64 = 512 << 20;
/// Records have heads, and the write-ahead log is kept for a while.
const DISK_BYTES: u64 = 14_000_000_000;
const LIMIT: Duration = Duration::from_secs(300);

pub fn run(arguments: &[String]) -> Result<(), String> {
    let flags = ["--json", "--no-pages"];
    if let Some(other) = arguments.iter().find(|argument| !flags.contains(&argument.as_str())) {
        return Err(format!("footprint: unknown argument {other}"));
    }
    let is_given = |flag: &str| arguments.iter().any(|argument| argument == flag);
    super::build()?;
    let began = Instant::now();
    let mut rows = Vec::new();
    let mut done = |row: Value| -> Result<(), String> {
        eprintln!("{:>4} s {row}", began.elapsed().as_secs());
        if !is_given("--no-pages") {
            save(&row)?;
        }
        rows.push(row);
        Ok(())
    };
    done(queues()?)?;
    for protocol in ["kafka", "amqp", "mqtt"] {
        done(connections(protocol)?)?;
    }
    let lacks = cgroup::missing();
    if lacks.is_none() {
        for protocol in ["kafka", "amqp"] {
            done(backlog(protocol)?)?;
        }
    }
    if !is_given("--no-pages") {
        write_section("footprint", &section(&read_rows(&file())?))?;
    }
    match is_given("--json") {
        true => println!("{}", Value::Array(rows)),
        false => print!("{}", section(&rows)),
    }
    match lacks {
        None => Ok(()),
        Some(lacks) => Err(format!("no backlog was tried: it needs {lacks}")),
    }
}

/// 100,000 durable queues, declared over one connection.
fn queues() -> Result<Value, String> {
    let broker = Running::alone(&home(), &[], &[])?;
    let load = format!("amqp --mode idle --durability fsync --lanes {QUEUES} --name idle --keep");
    let held = bench(&broker, &[], &load)?;
    Ok(idle_row("durable AMQP queue", QUEUES, &held))
}

/// 20,000 connections that have logged in.
fn connections(protocol: &str) -> Result<Value, String> {
    let wrapper = with_files();
    let count = CONNECTIONS_WANTED.min(files_max().saturating_sub(FILES_BESIDE));
    let flags = ["--limits-connections".to_owned(), (count + 100).to_string()];
    let broker = Running::alone(&home(), &wrapper, &flags)?;
    let load = format!("{protocol} --mode idle --producers {count} --batch 1 --size 16");
    let held = bench(&broker, &wrapper, &load)?;
    let name = match protocol {
        "kafka" => "Kafka connection",
        "amqp" => "AMQP connection with a channel",
        _ => "MQTT connection",
    };
    Ok(idle_row(name, count, &held))
}

fn idle_row(what: &str, count: u64, held: &Value) -> Value {
    let bytes = |name: &str| held[name].as_u64().unwrap_or(0);
    let (before, after) = (bytes("broker_resident_bytes_before"), bytes("broker_resident_bytes"));
    json!({
        "what": what, "count": count, "before": before, "after": after,
        "each": after.saturating_sub(before) / count, "seconds": held["set_up_seconds"],
    })
}

/// 10 GB in, then all of it out, in a control group.
fn backlog(protocol: &str) -> Result<Value, String> {
    machine::require_free(&project::root(), DISK_BYTES)?;
    let group = MemoryGroup::make(MEMORY_BYTES)?;
    let broker = Running::alone(&home(), &group.wrapper(), &[])?;
    let count = BACKLOG_BYTES / BODY_BYTES;
    let common = format!("{protocol} --durability fsync --size {BODY_BYTES} --name backlog --keep");
    let batch = if protocol == "kafka" { "--batch 100" } else { "" };
    let written = format!("{common} {batch} --mode produce --messages {count}");
    let written = bench(&broker, &[], &written)?;
    let read = format!("{common} --mode consume --backlog 0 --messages {count} --duration 280");
    let read = bench(&broker, &[], &read)?;
    let rate =
        |run: &Value, name: &str| run[name].as_f64().unwrap_or(0.0) * BODY_BYTES as f64 / 1e6;
    let resident = broker.usage().resident_bytes_max;
    drop(broker);
    let row = json!({
        "what": format!("{protocol} backlog"), "bytes": BACKLOG_BYTES, "memory": MEMORY_BYTES,
        "written_mb_per_s": rate(&written, "acknowledged_per_s"),
        "read_mb_per_s": rate(&read, "received_per_s"),
        "resident": resident, "group": group.peak_bytes(), "killed": group.kills(),
    });
    Ok(row)
}

/// Files that a process may open here, if it asks.
fn files_max() -> u64 {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    let hard = line.and_then(|line| line.split_whitespace().nth(4)?.parse().ok());
    hard.unwrap_or(1024)
}

/// Runs what follows with as many files.
fn with_files() -> Vec<String> {
    ["sh", "-c", "ulimit -n \"$(ulimit -H -n)\" && exec \"$@\"", "sh"].map(str::to_owned).to_vec()
}

/// What `koine-bench` says; a run that failed or was not clean is an error.
fn bench(broker: &Running, wrapper: &[String], load: &str) -> Result<Value, String> {
    let program = project::target().join("release/koine-bench");
    let mut command = match wrapper.split_first() {
        Some((first, rest)) => {
            let mut command = Command::new(first);
            command.args(rest).arg(&program);
            command
        }
        None => Command::new(&program),
    };
    let protocol = load.split_whitespace().next().unwrap_or_default();
    command.args(load.split_whitespace());
    command.args(["--addr", broker.address_of(protocol), "--pid", &broker.pids(), "--json"]);
    let finished = process::run(&mut command, &home().join("bench.log"), Some(LIMIT))?;
    let text = finished.text();
    let said = text.lines().rev().find_map(|line| serde_json::from_str::<Value>(line).ok());
    said.filter(|_| finished.success).ok_or(format!("koine-bench {load}:\n{}", finished.tail(12)))
}

fn home() -> PathBuf {
    project::target().join("footprint")
}

fn file() -> PathBuf {
    project::root().join("docs/performance/footprint.json")
}

/// Keeps the row in place of an earlier one of the same thing.
fn save(row: &Value) -> Result<(), String> {
    let mut rows = read_rows(&file())?;
    rows.retain(|old| old["what"] != row["what"]);
    rows.push(row.clone());
    write_rows(&file(), &rows)
}

fn section(rows: &[Value]) -> String {
    let mut out = format!("Single runs; {}.\n", machine::description());
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let number = |row: &Value, name: &str| row[name].as_f64().unwrap_or(0.0);
    let idle: Vec<&Value> = rows.iter().filter(|row| row["each"].is_u64()).collect();
    if !idle.is_empty() {
        out += "\n| idle | count | resident before | after | bytes each | made in, s |\n|---|---|---|---|---|---|\n";
    }
    for row in idle {
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {:.1} |",
            text(row, "what"),
            row["count"],
            mebibytes(number(row, "before")),
            mebibytes(number(row, "after")),
            row["each"],
            number(row, "seconds"),
        );
    }
    let filled: Vec<&Value> = rows.iter().filter(|row| row["killed"].is_u64()).collect();
    if !filled.is_empty() {
        out += "\n| 10 GB in 1 KiB bodies, 512 MiB for everything | written, MB/s | read, MB/s | most resident | most in the group | killed |\n\
                |---|---|---|---|---|---|\n";
    }
    for row in filled {
        let _ = writeln!(
            out,
            "| {} | {:.0} | {:.0} | {} | {} | {} |",
            text(row, "what"),
            number(row, "written_mb_per_s"),
            number(row, "read_mb_per_s"),
            mebibytes(number(row, "resident")),
            mebibytes(number(row, "group")),
            row["killed"],
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_share_of_what_came_in_addition() {
        let held = json!({
            "broker_resident_bytes_before": 1000, "broker_resident_bytes": 21_000, "set_up_seconds": 1.5,
        });
        let row = idle_row("thing", 10, &held);
        assert_eq!(row["each"], 2000);
        assert!(section(&[row]).contains("| thing | 10 | 0 MiB | 0 MiB | 2000 | 1.5 |"));
    }
}
