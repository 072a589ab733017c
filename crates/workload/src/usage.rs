//! What processes cost, read from Linux's /proc. A file that is not there or not allowed counts as
//! zero: the figures are an addition to a run, never a reason to end it.

use std::fs;

/// Ticks per second in /proc, fixed by the kernel's interface.
const TICKS_PER_SECOND: f64 = 100.0;

/// Totals of some processes since each began.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
    /// Most that was resident at any time.
    pub resident_bytes_max: u64,
    /// Bytes handed to block devices.
    pub written_bytes: u64,
}

impl Usage {
    pub fn of(pids: &[u32]) -> Usage {
        let mut sum = Usage::default();
        for pid in pids {
            let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}"));
            if let Ok(stat) = read("stat") {
                sum.cpu_seconds += cpu_seconds(&stat);
            }
            if let Ok(status) = read("status") {
                sum.resident_bytes += field(&status, "VmRSS:") * 1024;
                sum.resident_bytes_max += field(&status, "VmHWM:") * 1024;
            }
            if let Ok(io) = read("io") {
                sum.written_bytes += field(&io, "write_bytes:");
            }
        }
        sum
    }

    /// CPU and writes since `before`; memory as it is.
    pub fn since(self, before: Usage) -> Usage {
        Usage {
            cpu_seconds: self.cpu_seconds - before.cpu_seconds,
            written_bytes: self.written_bytes.saturating_sub(before.written_bytes),
            ..self
        }
    }

    pub fn own() -> Usage {
        Usage::of(&[std::process::id()])
    }
}

/// CPU seconds that all processes of the machine used, time stolen by the host not counted.
pub fn machine_cpu_seconds() -> f64 {
    let Ok(stat) = fs::read_to_string("/proc/stat") else { return 0.0 };
    let line = stat.lines().next().unwrap_or_default();
    // "cpu" user nice system idle iowait irq softirq
    let used = [1, 2, 3, 6, 7];
    used.iter().filter_map(|&at| line.split_whitespace().nth(at)?.parse::<f64>().ok()).sum::<f64>()
        / TICKS_PER_SECOND
}

/// The command's name may hold anything, so fields are counted from its closing bracket.
fn cpu_seconds(stat: &str) -> f64 {
    let behind = stat.rsplit_once(')').map_or("", |(_, behind)| behind);
    // state is field 3 of proc(5); utime and stime are 14 and 15.
    let ticks = behind.split_whitespace().skip(11).take(2);
    ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND
}

fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_fields_behind_an_odd_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 4 0 9 1 2";
        assert_eq!(cpu_seconds(stat), 3.0);
        assert_eq!(cpu_seconds(""), 0.0);
        assert_eq!(field("VmHWM:\t 9 kB\nVmRSS:\t  1234 kB\n", "VmRSS:"), 1234);
        assert_eq!(field("", "VmRSS:"), 0);
    }
}
