//! What processes use, from `/proc`, and what this machine is.

use std::time::{Duration, Instant};

/// Clock ticks per second of `/proc/PID/stat`, which Linux fixes for user space.
const TICKS: f64 = 100.0;
const PAGE_BYTES: u64 = 4096;
/// Below this share of a core it is idle.
const IDLE_SHARE: f64 = 0.05;
const IDLE_LIMIT: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
    pub written_bytes: u64,
}

impl Usage {
    /// CPU and writes since `before`; memory as it is.
    pub fn since(self, before: Usage) -> Usage {
        Usage {
            cpu_seconds: self.cpu_seconds - before.cpu_seconds,
            resident_bytes: self.resident_bytes,
            written_bytes: self.written_bytes.saturating_sub(before.written_bytes),
        }
    }
}

/// The fields of `/proc/PID/stat` behind the name, which may hold anything.
fn stat(process: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

pub fn usage(processes: &[u32]) -> Usage {
    let mut sum = Usage::default();
    for process in processes {
        let Some(fields) = stat(*process) else { continue };
        let field = |index: usize| fields.get(index).and_then(|text| text.parse::<u64>().ok());
        let ticks = field(11).unwrap_or(0) + field(12).unwrap_or(0);
        sum.cpu_seconds += ticks as f64 / TICKS;
        sum.resident_bytes += field(21).unwrap_or(0) * PAGE_BYTES;
        let io = std::fs::read_to_string(format!("/proc/{process}/io")).unwrap_or_default();
        let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
        sum.written_bytes += written.and_then(|text| text.parse().ok()).unwrap_or(0);
    }
    sum
}

/// A process and all its descendants.
pub fn family(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_string_lossy().parse().ok())
        .filter_map(|process: u32| Some((process, stat(process)?.get(1)?.parse().ok()?)))
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

/// Until it has nothing to do, or long enough.
pub fn wait_until_idle(processes: &[u32]) {
    const PERIOD: Duration = Duration::from_millis(500);
    let began = Instant::now();
    let mut before = usage(processes);
    while began.elapsed() < IDLE_LIMIT {
        std::thread::sleep(PERIOD);
        let now = usage(processes);
        if now.since(before).cpu_seconds < IDLE_SHARE * PERIOD.as_secs_f64() {
            return;
        }
        before = now;
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
