//! The processes of a broker, and what this machine is.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::process;
use koine_workload::usage::Usage;

/// Below this share of a core it is idle.
const IDLE_SHARE: f64 = 0.05;
const IDLE_LIMIT: Duration = Duration::from_secs(20);

/// A process and all its descendants.
pub fn family(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_string_lossy().parse().ok())
        .filter_map(|process: u32| Some((process, parent_of(process)?)))
        .collect();
    let mut found = vec![root];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(process, _)| process));
        next += 1;
    }
    found
}

/// Counted from the bracket behind the name, which may hold anything (proc(5)).
fn parent_of(process: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, behind) = stat.rsplit_once(')')?;
    behind.split_whitespace().nth(1)?.parse().ok()
}

/// Until it has nothing to do, or long enough.
pub fn wait_until_idle(processes: &[u32]) {
    const PERIOD: Duration = Duration::from_millis(500);
    let began = Instant::now();
    let mut before = Usage::of(processes);
    while began.elapsed() < IDLE_LIMIT {
        std::thread::sleep(PERIOD);
        let now = Usage::of(processes);
        if now.since(before).cpu_seconds < IDLE_SHARE * PERIOD.as_secs_f64() {
            return;
        }
        before = now;
    }
}

/// Refuses to begin what the disk has no room for.
pub fn require_free(directory: &Path, bytes: u64) -> Result<(), String> {
    let text = process::output(Command::new("df").args(["-B1", "--output=avail"]).arg(directory))?;
    let free = text.lines().nth(1).and_then(|line| line.trim().parse::<u64>().ok());
    match free.is_none_or(|free| free >= bytes) {
        true => Ok(()),
        false => Err(format!("{} has not {} GB free", directory.display(), bytes / 1_000_000_000)),
    }
}

/// Processor and number of cores, for the head of a page.
pub fn description() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let model = model.map_or("unknown processor", |(_, name)| name);
    format!("{cores} cores ({model}), Linux {}", kernel.trim())
}
