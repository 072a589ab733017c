//! A memory control group of its own, of version 1 or 2. Removed when dropped.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const V1: &str = "/sys/fs/cgroup/memory";
const V2: &str = "/sys/fs/cgroup";

/// Where groups can be made, and the names of the files there.
fn root() -> Option<(&'static Path, &'static str, &'static str, &'static str)> {
    let (v1, v2) = (Path::new(V1), Path::new(V2));
    if v1.join("memory.limit_in_bytes").is_file() {
        return Some((
            v1,
            "memory.limit_in_bytes",
            "memory.max_usage_in_bytes",
            "memory.oom_control",
        ));
    }
    let controllers =
        std::fs::read_to_string(v2.join("cgroup.subtree_control")).unwrap_or_default();
    let has_memory = controllers.split_whitespace().any(|name| name == "memory");
    has_memory.then_some((v2, "memory.max", "memory.peak", "memory.events"))
}

/// What this machine lacks, exactly.
pub fn missing() -> Option<String> {
    // Its owner is the effective user.
    let user = std::fs::metadata("/proc/self").map(|own| own.uid());
    if user.ok() != Some(0) {
        return Some("root, for a memory control group".to_owned());
    }
    root().is_none().then(|| format!("a memory controller below {V1} or {V2}"))
}

pub struct MemoryGroup {
    path: PathBuf,
    peak: &'static str,
    events: &'static str,
}

impl MemoryGroup {
    pub fn make(bytes: u64) -> Result<MemoryGroup, String> {
        let (root, limit, peak, events) = root().ok_or("no memory controller")?;
        let path = root.join(format!("koine-{}", std::process::id()));
        let failed = |error| format!("{}: {error}", path.display());
        std::fs::create_dir_all(&path).map_err(failed)?;
        std::fs::write(path.join(limit), bytes.to_string()).map_err(failed)?;
        Ok(MemoryGroup { path, peak, events })
    }

    /// Program and arguments that run a command in this group.
    pub fn wrapper(&self) -> Vec<String> {
        let script = format!("echo $$ > '{}/cgroup.procs' && exec \"$@\"", self.path.display());
        ["sh", "-c", &script, "sh"].map(str::to_owned).to_vec()
    }

    /// Most memory at once, page cache included.
    pub fn peak_bytes(&self) -> u64 {
        let text = std::fs::read_to_string(self.path.join(self.peak)).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    /// Processes that were killed because the limit was reached.
    pub fn kills(&self) -> u64 {
        let text = std::fs::read_to_string(self.path.join(self.events)).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.path);
    }
}
