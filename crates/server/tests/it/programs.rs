//! Client programs: where `cargo xtask test` has put them, and how one is run with a limit on its time.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::broker::Broker;
use crate::wait;

/// How long one client program may run, all of its checks together.
pub const PROGRAM_LIMIT: Duration = Duration::from_secs(240);

/// Where the client programs are set up: `target/clients` unless `KOINE_CLIENTS` says otherwise.
pub fn clients() -> PathBuf {
    match std::env::var_os("KOINE_CLIENTS") {
        Some(path) => path.into(),
        None => Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("clients"),
    }
}

/// The sources of the client programs.
pub fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../clients")
}

/// The path if it is there. If not, the test is to end: that is a failure when `kind` had to be there.
pub fn present(kind: &str, path: PathBuf) -> Option<PathBuf> {
    if path.exists() {
        return Some(path);
    }
    let required = std::env::var("KOINE_IT_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|name| name == kind), "{} is missing", path.display());
    eprintln!("not run: {} is missing (`cargo xtask test` sets it up)", path.display());
    None
}

/// A Debian program on the PATH.
pub fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|file| file.exists());
    present(name, found.unwrap_or_else(|| PathBuf::from(name)))
}

/// What a finished program said.
#[derive(Debug)]
pub struct Finished {
    pub success: bool,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Finished {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// Runs a command to its end, or kills it after `limit`. Output goes to files, so that no pipe can fill.
pub fn run(broker: &Broker, command: &mut Command, limit: Duration) -> Finished {
    let file = |name: &str| broker.directory.path().join(name);
    let (out, err) = (file("client.out"), file("client.err"));
    command.envs(broker.variables()).stdin(Stdio::null());
    command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
    let mut process = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let status = wait::poll(limit, || process.try_wait().unwrap());
    if status.is_none() {
        let _ = process.kill();
        let _ = process.wait();
    }
    let stderr = String::from_utf8_lossy(&std::fs::read(&err).unwrap()).into_owned();
    let note = if status.is_none() { format!("{stderr}\nkilled after {limit:?}") } else { stderr };
    Finished {
        success: status.is_some_and(|status| status.success()),
        stdout: std::fs::read(&out).unwrap(),
        stderr: note,
    }
}

/// Runs a program that prints `ok NAME` and `FAIL NAME: why`, and fails the test unless it ends with 0.
pub fn check(broker: &mut Broker, command: &mut Command) {
    let finished = run(broker, command, PROGRAM_LIMIT);
    let text = finished.text();
    print!("{text}");
    let passed = text.lines().filter(|line| line.starts_with("ok ")).count();
    let running = broker.is_running();
    let log = broker.log();
    let tail: Vec<&str> = log.lines().rev().take(30).collect();
    let tail: Vec<&str> = tail.into_iter().rev().collect();
    assert!(
        finished.success && passed > 0 && running,
        "{command:?}\n{text}{}\nbroker running: {running}; its last lines:\n{}",
        finished.stderr,
        tail.join("\n")
    );
}
