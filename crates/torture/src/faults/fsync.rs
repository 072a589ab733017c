//! A disk that fails: at a random moment fdatasync, fsync or pwritev answers EIO. The broker has to end by itself, with
//! a message and an exit code, because after a failed sync nothing may be promised any more; what it had promised
//! before is there after the next start.

use std::time::Duration;

use super::stage::Stage;
use super::{kill, Options};
use crate::broker::find;
use crate::report::Row;

const CYCLES: u64 = 12;
const EXIT_LIMIT: Duration = Duration::from_secs(60);
/// Each in turn, with the range of calls (of one thread) from which the failing one is drawn. The log makes many
/// fdatasync and pwritev calls, fsync only when a directory changes.
const CALLS: [(&str, u64, u64); 3] = [("fdatasync", 3, 300), ("pwritev", 3, 300), ("fsync", 2, 6)];

pub fn missing() -> Option<String> {
    find("strace").is_none().then(|| "the program strace (Debian: strace)".to_owned())
}

pub fn run(options: &Options, row: &mut Row) -> Result<(), String> {
    let cycles = options.cycles(CYCLES);
    let bar = options.progress("fsync", cycles);
    let mut stage = Stage::new(options, &options.directory.join("data"), &kill::ARGUMENTS)?;
    let mut words = Vec::new();
    for cycle in 0..cycles {
        let (call, from, to) = CALLS[cycle as usize % CALLS.len()];
        let at = from + stage.rng.below(to - from);
        let filter = format!("trace={call}");
        let inject = format!("inject={call}:error=EIO:when={at}+");
        stage.start.wrapper = [
            "strace",
            "-f",
            "--seccomp-bpf",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            &filter,
            "-e",
            &inject,
        ]
        .map(str::to_owned)
        .to_vec();
        let text = fail_once(&mut stage).map_err(|why| format!("{call} number {at}: {why}"))?;
        if !words.contains(&text) {
            words.push(text);
        }
        stage.clients.load.site.down();
        stage.process = None;
        stage.start.wrapper.clear();
        stage.up()?;
        row.recovery.push(stage.wait_service()?);
        row.cycles += 1;
        stage.check(row);
        stage.kill();
        if !row.passed() {
            break;
        }
        stage.go_on();
        bar.inc(1);
    }
    bar.finish_and_clear();
    row.notes.extend(words.into_iter().map(|text| format!("it said: {text}")));
    stage.up()?;
    stage.finish(row)
}

/// Runs the broker under strace until it ends; what it said last.
fn fail_once(stage: &mut Stage) -> Result<String, String> {
    stage.spawn()?;
    let process = stage.process.as_mut().ok_or("no process")?;
    // It may end before it listens.
    if let Ok(addresses) = process.wait_ready(EXIT_LIMIT) {
        stage.clients.load.site.up(addresses.clone());
        stage.addresses = Some(addresses);
    }
    wait_deliberate_exit(stage)
}

/// The broker ends by itself, with a message and an exit code; both, in words.
pub fn wait_deliberate_exit(stage: &mut Stage) -> Result<String, String> {
    let process = stage.process.as_mut().ok_or("no process")?;
    let status = process.wait_exit(EXIT_LIMIT).ok_or("it goes on after a failed call")?;
    let said = process.said();
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    match status.code() {
        Some(code) if code != 0 && !last.is_empty() => {
            Ok(format!("exit code {code}, {}", tail(last)))
        }
        _ => Err(format!("{status}, saying {last:?}")),
    }
}

/// A log line without its time, which differs.
fn tail(line: &str) -> &str {
    ["ERROR", "koine:"]
        .iter()
        .find_map(|mark| line.find(mark).map(|at| &line[at..]))
        .unwrap_or(line)
}
