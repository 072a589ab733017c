//! The Koine that a suite runs against: built, started on free ports with fresh data, killed at the end.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{process, project};

const START_LIMIT: Duration = Duration::from_secs(30);

pub struct Broker {
    child: Child,
    ready: Value,
}

impl Broker {
    pub fn start(directory: &Path, release: bool, arguments: &[&str]) -> Result<Broker, String> {
        let mut build = vec!["build", "-p", "koine", "--quiet"];
        if release {
            build.push("--release");
        }
        let built = process::run(&mut process::cargo(&build), &directory.join("build.log"), None)?;
        if !built.success {
            return Err(built.tail(40));
        }
        let program =
            project::target().join(if release { "release" } else { "debug" }).join("koine");
        let (data, ready) = (directory.join("data"), directory.join("ready.json"));
        let _ = std::fs::remove_dir_all(&data);
        let _ = std::fs::remove_file(&ready);
        let log = std::fs::File::create(directory.join("koine.log"))
            .map_err(|error| error.to_string())?;
        let mut command = Command::new(&program);
        command.arg("start").arg("--data").arg(&data).arg("--ready-file").arg(&ready);
        for listener in ["--kafka", "--amqp", "--mqtt", "--http"] {
            command.args([listener, "127.0.0.1:0"]);
        }
        command.args(arguments);
        let errors = log.try_clone().map_err(|error| error.to_string())?;
        command.stdin(Stdio::null()).stdout(log).stderr(errors).current_dir(directory);
        let child = command.spawn().map_err(|error| format!("{}: {error}", program.display()))?;
        let mut broker = Broker { child, ready: Value::Null };
        let start = Instant::now();
        while broker.ready.is_null() {
            let ended = broker.child.try_wait().map_err(|error| error.to_string())?;
            if ended.is_some() || start.elapsed() > START_LIMIT {
                return Err(format!(
                    "Koine did not start; see {}",
                    directory.join("koine.log").display()
                ));
            }
            std::thread::sleep(Duration::from_millis(10));
            let text = std::fs::read_to_string(&ready).unwrap_or_default();
            broker.ready = serde_json::from_str(&text).unwrap_or(Value::Null);
        }
        Ok(broker)
    }

    pub fn address(&self, listener: &str) -> Result<String, String> {
        let address = self.ready["listeners"][listener].as_str();
        address.map(str::to_owned).ok_or_else(|| format!("no {listener} listener"))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
