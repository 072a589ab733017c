//! One fault per file. Each brings a broker under mixed load into trouble, again and again, and fills one row.

pub mod backlog;
pub mod clock;
pub mod fsync;
pub mod full;
pub mod kill;
pub mod memory;
pub mod pause;
pub mod power;
pub mod recovery;
pub mod siege;
pub mod stage;
pub mod writeback;

use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;

use crate::report::Row;

/// What the command line said.
#[derive(Clone, Debug)]
pub struct Options {
    pub koine: PathBuf,
    /// Everything is below it and gone afterwards, unless a fault fails.
    pub directory: PathBuf,
    pub cycles: Option<u64>,
    pub seed: u64,
    pub json: bool,
}

impl Options {
    pub fn cycles(&self, default: u64) -> u64 {
        self.cycles.unwrap_or(default)
    }

    /// The bar on a terminal; invisible elsewhere.
    pub fn progress(&self, name: &'static str, cycles: u64) -> ProgressBar {
        let target = match std::io::stderr().is_terminal() && !self.json {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(cycles), target);
        if let Ok(style) = ProgressStyle::with_template("{prefix} {pos}/{len} {wide_bar} {msg}") {
            bar.set_style(style);
        }
        bar.set_prefix(name);
        bar
    }
}

/// A fault that can be asked for.
pub struct Fault {
    pub name: &'static str,
    pub what: &'static str,
    /// What this machine lacks for it, exactly.
    pub missing: fn() -> Option<String>,
    pub run: fn(&Options, &mut Row) -> Result<(), String>,
}

pub const FAULTS: [Fault; 11] = [
    Fault {
        name: "kill",
        what: "SIGKILL at random moments, during recovery too (200 cycles)",
        missing: || None,
        run: kill::run,
    },
    Fault {
        name: "power",
        what: "ext4 on a loop device loses all that was not synced (40 cycles)",
        missing: crate::volume::missing,
        run: power::run,
    },
    Fault {
        name: "fsync",
        what: "fdatasync, fsync and pwritev answer EIO, by strace (12 cycles)",
        missing: fsync::missing,
        run: fsync::run,
    },
    Fault {
        name: "writeback",
        what: "the device has no room while the kernel writes back (5 cycles)",
        missing: crate::volume::missing,
        run: writeback::run,
    },
    Fault {
        name: "full",
        what: "the file system is full, then has space again (5 cycles)",
        missing: crate::volume::missing,
        run: full::run,
    },
    Fault {
        name: "pause",
        what: "SIGSTOP for longer than the clients' time-outs, then SIGCONT (5 cycles)",
        missing: || None,
        run: pause::run,
    },
    Fault {
        name: "clock",
        what: "the wall clock jumps by hours, under load and while the broker is down (20 cycles)",
        missing: clock::missing,
        run: clock::run,
    },
    Fault {
        name: "memory",
        what: "150 connections push large messages and do not listen, in 512 MiB (3 cycles)",
        missing: koine_workload::cgroup::missing,
        run: memory::run,
    },
    Fault {
        name: "siege",
        what:
            "thousands of strangers and hostile clients while others work (5 attacks, koine-bench)",
        missing: siege::missing,
        run: siege::run,
    },
    Fault {
        name: "recovery",
        what:
            "time to the first acknowledgement with 10 GiB, warm and cold (6 cycles, 20 GB of disk)",
        missing: recovery::missing,
        run: recovery::run,
    },
    Fault {
        name: "backlog",
        what: "30 GB written and read back within 512 MiB of memory (35 GB of disk)",
        missing: koine_workload::cgroup::missing,
        run: backlog::run,
    },
];

/// Refuses to begin what would fill somebody else's disk.
pub fn require_free(options: &Options, bytes: u64) -> Result<(), String> {
    std::fs::create_dir_all(&options.directory)
        .map_err(|error| format!("{}: {error}", options.directory.display()))?;
    let path = options.directory.to_string_lossy().into_owned();
    let text = crate::broker::run("df", &["--output=avail", "-B1", &path])?;
    let free: u64 = text.lines().last().and_then(|line| line.trim().parse().ok()).unwrap_or(0);
    match free >= bytes {
        true => Ok(()),
        false => Err(format!(
            "{} GB free where {} are needed",
            free / 1_000_000_000,
            bytes / 1_000_000_000
        )),
    }
}
