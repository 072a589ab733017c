//! Running other programs: output into a log file, never into a pipe that can fill, with an optional limit on time.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a program left behind.
pub struct Finished {
    pub success: bool,
    /// True if it was killed at its limit.
    pub late: bool,
    pub log: PathBuf,
}

impl Finished {
    pub fn text(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last lines, for a report of what went wrong.
    pub fn tail(&self, count: usize) -> String {
        let text = self.text();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}

/// Runs the command to its end; its whole output goes to `log`. After `limit` it is killed.
pub fn run(command: &mut Command, log: &Path, limit: Option<Duration>) -> Result<Finished, String> {
    if let Some(directory) = log.parent() {
        std::fs::create_dir_all(directory)
            .map_err(|error| format!("{}: {error}", directory.display()))?;
    }
    let open = || File::options().create(true).append(true).open(log);
    let describe = |error| format!("{}: {error}", log.display());
    let _ = std::fs::remove_file(log);
    let (out, err) = (open().map_err(describe)?, open().map_err(describe)?);
    command.stdin(Stdio::null()).stdout(out).stderr(err);
    let name = command.get_program().to_string_lossy().into_owned();
    let failed = |error| format!("{name}: {error}");
    let Some(limit) = limit else {
        let status = command.status().map_err(failed)?;
        return Ok(Finished { success: status.success(), late: false, log: log.to_owned() });
    };
    let start = Instant::now();
    let mut child = command.spawn().map_err(failed)?;
    loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            return Ok(Finished { success: status.success(), late: false, log: log.to_owned() });
        }
        if start.elapsed() > limit {
            let _ = child.kill();
            let _ = child.wait();
            return Ok(Finished { success: false, late: true, log: log.to_owned() });
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// `cargo` as it started this program, at the root.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(crate::project::root());
    command
}

/// The standard output of a short command.
pub fn output(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output =
        command.stdin(Stdio::null()).output().map_err(|error| format!("{name}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
