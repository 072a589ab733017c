//! The broker's process: started on free ports on given data, killed, stopped, paused. Its output stays in a log file.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::load::site::Addresses;

const LOOK: Duration = Duration::from_millis(2);
/// How long a wrapper may take to end after what it wraps.
const WRAPPER_LIMIT: Duration = Duration::from_secs(2);

/// How to start it.
#[derive(Clone, Debug)]
pub struct Start {
    pub koine: PathBuf,
    /// Of the log and the ready file; not on the disk under torture.
    pub directory: PathBuf,
    pub data: PathBuf,
    pub arguments: Vec<String>,
    /// Program and arguments to run it under.
    pub wrapper: Vec<String>,
}

pub struct Process {
    child: Child,
    ready: PathBuf,
    log: PathBuf,
    /// Bytes of the log file that earlier lives have written.
    log_start: u64,
    pub started: Instant,
    /// Its own number, if a wrapper is the child.
    pid: Option<u32>,
}

impl Start {
    pub fn spawn(&self) -> Result<Process, String> {
        let ready = self.directory.join("ready.json");
        let log = self.directory.join("koine.log");
        let _ = std::fs::remove_file(&ready);
        let open = || File::options().create(true).append(true).open(&log);
        let failed = |error| format!("{}: {error}", log.display());
        let (out, err) = (open().map_err(failed)?, open().map_err(failed)?);
        let log_start = out.metadata().map_or(0, |metadata| metadata.len());
        let mut words = self.wrapper.iter().map(PathBuf::from).chain([self.koine.clone()]);
        let program = words.next().unwrap_or_default();
        let mut command = Command::new(&program);
        command.args(words).arg("start").arg("--data").arg(&self.data);
        for listener in ["--kafka", "--amqp", "--mqtt", "--http"] {
            command.args([listener, "127.0.0.1:0"]);
        }
        command.arg("--ready-file").arg(&ready).args(&self.arguments);
        command.current_dir(&self.directory).stdin(Stdio::null()).stdout(out).stderr(err);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("KOINE_") {
                command.env_remove(name);
            }
        }
        let started = Instant::now();
        let child = command.spawn().map_err(|error| format!("{}: {error}", program.display()))?;
        let pid = self.wrapper.is_empty().then(|| child.id());
        Ok(Process { child, ready, log, log_start, started, pid })
    }
}

impl Process {
    /// Waits until every listener accepts. The error is what it printed last.
    pub fn wait_ready(&mut self, limit: Duration) -> Result<Addresses, String> {
        while self.started.elapsed() < limit {
            if let Ok(text) = std::fs::read_to_string(&self.ready) {
                return self.read_ready(&text);
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("it ended with {status}: {}", self.last_line()));
            }
            std::thread::sleep(LOOK);
        }
        Err(format!("not ready after {limit:?}: {}", self.last_line()))
    }

    fn read_ready(&mut self, text: &str) -> Result<Addresses, String> {
        let json: serde_json::Value =
            serde_json::from_str(text).map_err(|error| format!("ready file: {error}"))?;
        self.pid = json["pid"].as_u64().map(|pid| pid as u32);
        let address = |name: &str| {
            let text = json["listeners"][name].as_str();
            text.map(str::to_owned).ok_or_else(|| format!("no {name} in the ready file"))
        };
        Ok(Addresses { kafka: address("kafka")?, amqp: address("amqp")?, mqtt: address("mqtt")? })
    }

    pub fn signal(&self, name: &str) -> Result<(), String> {
        let pid = self.pid.ok_or("the process is not known yet")?;
        signal(pid, name)
    }

    /// SIGKILL, at whatever moment.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(pid) = self.pid.filter(|pid| *pid != self.child.id()) {
            if self.is_running() {
                // A wrapper that is killed first would leave it running, with its data locked.
                let _ = signal(pid, "KILL");
                self.wait_exit(WRAPPER_LIMIT);
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for it to end by itself.
    pub fn wait_exit(&mut self, limit: Duration) -> Option<ExitStatus> {
        let start = Instant::now();
        while start.elapsed() < limit {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            std::thread::sleep(LOOK);
        }
        None
    }

    /// What it has printed in this life.
    pub fn said(&self) -> String {
        let all = std::fs::read(&self.log).unwrap_or_default();
        let own = all.get(self.log_start as usize..).unwrap_or_default();
        String::from_utf8_lossy(own).into_owned()
    }

    fn last_line(&self) -> String {
        let text = self.said();
        text.lines().last().unwrap_or("it printed nothing").to_owned()
    }

    /// Peak of resident memory, bytes.
    pub fn peak_resident_bytes(&self) -> u64 {
        let Some(pid) = self.pid else { return 0 };
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

fn signal(pid: u32, name: &str) -> Result<(), String> {
    run("kill", &[&format!("-{name}"), &pid.to_string()]).map(drop)
}

/// Runs a short command; its output, or what it complained about.
pub fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(format!("{program} {}: {why}", arguments.join(" ")))
        }
    }
}

/// The first program of this name on the PATH.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|at: PathBuf| at.join(program))
        .find(|at: &PathBuf| Path::is_file(at))
}
