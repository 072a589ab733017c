//! A broker process of a test's own: started on free ports with a fresh data directory, ended with the test.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::wait;

/// How long a start may take, recovery of the data included.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long a clean stop may take.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// What every password of these tests begins with: it may be in nothing that a broker says.
pub const CANARY: &str = "canary-";

/// A directory below `target/tmp` that goes when its test passes and stays when it fails.
#[derive(Debug)]
pub struct Directory(PathBuf);

impl Directory {
    pub fn new(name: &str) -> Directory {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{name}-{}-{count}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// Where the broker listens, as in its ready file.
#[derive(Clone, Debug)]
pub struct Addresses {
    pub kafka: String,
    pub amqp: String,
    pub mqtt: String,
    pub http: String,
}

#[derive(Debug)]
pub struct Broker {
    process: Child,
    pub directory: Directory,
    pub addresses: Addresses,
    pub startup_ms: u64,
}

/// The program under test. It refuses `KOINE_` variables that it does not know, and ours are not for it.
pub fn koine() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_koine"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("KOINE_") {
            command.env_remove(name);
        }
    }
    command
}

impl Broker {
    pub fn start(test: &str) -> Broker {
        Broker::start_in(Directory::new(test), &[])
    }

    /// Starts on the data that `directory` already holds, with further command line arguments.
    pub fn start_in(directory: Directory, arguments: &[&str]) -> Broker {
        let ready = directory.path().join("ready.json");
        let _ = std::fs::remove_file(&ready);
        let log = directory.path().join("log.txt");
        let open_log = || File::options().create(true).append(true).open(&log).unwrap();
        let mut command = koine();
        command.args(["start", "--data"]).arg(directory.path().join("data"));
        for listener in ["--kafka", "--amqp", "--mqtt", "--http"] {
            command.args([listener, "127.0.0.1:0"]);
        }
        command.arg("--ready-file").arg(&ready).args(arguments).current_dir(directory.path());
        let mut process =
            command.stdin(Stdio::null()).stdout(open_log()).stderr(open_log()).spawn().unwrap();
        let found = wait::poll(START_LIMIT, || match process.try_wait().unwrap() {
            Some(status) => Some(Err(status)),
            None => std::fs::read_to_string(&ready).ok().map(Ok),
        });
        let Some(Ok(ready)) = found else {
            let _ = process.kill();
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            panic!("the broker did not start ({found:?}):\n{log}");
        };
        let address =
            |name| json_text(&ready, name).unwrap_or_else(|| panic!("no {name} in {ready}"));
        let addresses = Addresses {
            kafka: address("kafka"),
            amqp: address("amqp"),
            mqtt: address("mqtt"),
            http: address("http"),
        };
        let startup_ms = json_number(&ready, "startup_ms").expect("startup_ms in the ready file");
        Broker { process, directory, addresses, startup_ms }
    }

    /// Where another listener than the four is, by its key.
    pub fn listener(&self, key: &str) -> String {
        let ready = std::fs::read_to_string(self.directory.path().join("ready.json")).unwrap();
        json_text(&ready, key).unwrap_or_else(|| panic!("no {key} in {ready}"))
    }

    /// SIGKILL; gives back the directory for another start.
    pub fn kill(mut self) -> Directory {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.take_directory()
    }

    /// SIGTERM; the exit status and the directory.
    pub fn stop(mut self) -> (ExitStatus, Directory) {
        signal(self.process.id(), "TERM");
        let status = wait::until("clean stop", STOP_LIMIT, || self.process.try_wait().unwrap());
        (status, self.take_directory())
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Until it has ended by itself.
    pub fn wait(&mut self) -> ExitStatus {
        wait::until("the end", STOP_LIMIT, || self.process.try_wait().unwrap())
    }

    fn take_directory(&mut self) -> Directory {
        std::mem::replace(&mut self.directory, Directory(PathBuf::from("/nonexistent")))
    }

    pub fn is_running(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }

    /// Resident memory, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// From now on the peak is that of what follows (proc(5), `clear_refs`); what is resident, in bytes.
    pub fn forget_peak(&self) -> u64 {
        std::fs::write(format!("/proc/{}/clear_refs", self.process.id()), "5").unwrap();
        self.resident_bytes()
    }

    /// The most that was resident since, in bytes.
    pub fn peak_resident_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    fn status_bytes(&self, name: &str) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib * 1024
    }

    /// Open file descriptors: files, sockets and the runtime's own.
    pub fn descriptor_count(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap().count()
    }

    /// What it has printed so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log.txt")).unwrap_or_default()
    }

    /// Environment variables for a client program.
    pub fn variables(&self) -> [(&'static str, &str); 3] {
        [
            ("KOINE_KAFKA", &self.addresses.kafka),
            ("KOINE_AMQP", &self.addresses.amqp),
            ("KOINE_MQTT", &self.addresses.mqtt),
        ]
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if !std::thread::panicking() {
            let log = self.log();
            assert!(!log.contains(CANARY), "a password is in the log:\n{log}");
        }
    }
}

/// Sends a signal by its short name to a process that a test started.
pub fn signal(pid: u32, name: &str) {
    let status =
        Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().unwrap();
    assert!(status.success(), "kill -{name} {pid}: {status}");
}

fn json_value<'a>(json: &'a str, name: &str) -> Option<&'a str> {
    let (_, after) = json.split_once(&format!("\"{name}\""))?;
    Some(after.trim_start().strip_prefix(':')?.trim_start())
}

fn json_text(json: &str, name: &str) -> Option<String> {
    let (text, _) = json_value(json, name)?.strip_prefix('"')?.split_once('"')?;
    Some(text.to_owned())
}

fn json_number(json: &str, name: &str) -> Option<u64> {
    let value = json_value(json, name)?;
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    value[..digits].parse().ok()
}
