//! What the machine, or the container around us, offers and what this process uses of it. Linux
//! files only; what cannot be read is left out or taken as unlimited, never guessed.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};

/// Memory to plan with where nothing can be read.
const MEMORY_UNKNOWN_BYTES: u64 = 1 << 30;
const PAGE_BYTES: u64 = 4096;
/// Kernel clock ticks per second in `/proc/self/stat`; fixed at 100 on every Linux ABI.
const TICKS_PER_SECOND: f64 = 100.0;

/// The smaller of the machine's memory and every control-group limit above this process.
pub fn memory_bytes() -> u64 {
    let total = meminfo_total(&read_to_string("/proc/meminfo").unwrap_or_default());
    let limit = read_to_string("/proc/self/cgroup").ok().and_then(|text| cgroup_limit(&text));
    match (total, limit) {
        (Some(total), Some(limit)) => total.min(limit),
        (Some(bytes), None) | (None, Some(bytes)) => bytes,
        (None, None) => MEMORY_UNKNOWN_BYTES,
    }
}

fn meminfo_total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Walks from our control group up to the root: a limit on any level binds. Version 2 has one
/// hierarchy (`0::/path`); version 1 has one for memory.
fn cgroup_limit(own: &str) -> Option<u64> {
    let limits = own.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            other if other.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return None,
        };
        lowest_limit(Path::new(root), path, file)
    });
    limits.min()
}

fn lowest_limit(root: &Path, group: &str, file: &str) -> Option<u64> {
    let full = root.join(group.trim_start_matches('/'));
    let levels = full.ancestors().take_while(|level| level.starts_with(root));
    let paths: Vec<PathBuf> = levels.map(|level| level.join(file)).collect();
    paths.iter().filter_map(|path| read_to_string(path).ok()?.trim().parse::<u64>().ok()).min()
}

/// Raises the soft limit of open files to the hard one: every connection takes a descriptor, and the
/// usual soft limit of 1,024 is meant for programs that use `select`.
pub fn raise_open_files_limit() {
    use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};
    let limit = getrlimit(Resource::Nofile);
    // Refused only where the hard limit shrank meanwhile; then the old one stays.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// What this process has used, for `/metrics`.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct ProcessUse {
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    pub threads: u64,
    pub open_files: u64,
    pub open_files_max: u64,
}

/// Processors that this process may use; 1 if the system does not say.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

pub fn process_use() -> ProcessUse {
    let mut usage =
        stat_use(&read_to_string("/proc/self/stat").unwrap_or_default()).unwrap_or_default();
    usage.open_files =
        std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
    let limits = read_to_string("/proc/self/limits").unwrap_or_default();
    usage.open_files_max = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0);
    usage
}

/// Fields of proc(5) `/proc/pid/stat`, counted after the command name, which may hold blanks.
fn stat_use(text: &str) -> Option<ProcessUse> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(ProcessUse {
        cpu_seconds: (field(14)? + field(15)?) as f64 / TICKS_PER_SECOND,
        threads: field(20)?,
        virtual_bytes: field(23)?,
        resident_bytes: field(24)? * PAGE_BYTES,
        ..ProcessUse::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_directory::TestDirectory;

    #[test]
    fn meminfo_and_stat_lines() {
        assert_eq!(meminfo_total("MemFree: 1 kB\nMemTotal:       2048 kB\n"), Some(2 << 20));
        assert_eq!(meminfo_total("MemTotal: many"), None);
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194304 1 0 0 0 250 50 0 0 20 0 6 0 99 8192 3 184467";
        let usage = stat_use(stat).unwrap();
        assert_eq!((usage.cpu_seconds, usage.threads), (3.0, 6));
        assert_eq!((usage.virtual_bytes, usage.resident_bytes), (8192, 3 * PAGE_BYTES));
        assert!(process_use().resident_bytes > 0);
        assert!(memory_bytes() > 0);
    }

    #[test]
    fn lowest_limit_of_all_levels_binds() {
        let directory = TestDirectory::new("cgroup");
        let inner = directory.path().join("a/b");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(inner.join("memory.max"), "max\n").unwrap();
        std::fs::write(directory.path().join("a/memory.max"), "1000\n").unwrap();
        std::fs::write(directory.path().join("memory.max"), "5000\n").unwrap();
        assert_eq!(lowest_limit(directory.path(), "/a/b", "memory.max"), Some(1000));
        assert_eq!(lowest_limit(directory.path(), "/c", "memory.max"), Some(5000));
    }
}
