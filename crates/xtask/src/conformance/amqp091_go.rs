//! The integration tests inside the Go module `amqp091-go`, the official Go client of RabbitMQ.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::{Outcome, Outcomes, Setting};
use crate::process;

const MODULE: &str = "github.com/rabbitmq/amqp091-go@v1.16.0";
const LIMIT: Duration = Duration::from_secs(1_200);

pub fn run(setting: &Setting) -> Result<Outcomes, String> {
    let home = fetch(&setting.directory)?;
    let mut command = Command::new("go");
    command.args(["test", "-tags", "integration", "-count=1", "-timeout=15m", "-json", "-run"]);
    command.arg(setting.only.as_deref().unwrap_or("Integration|Example|Test")).arg(".");
    command
        .env("AMQP_URL", format!("amqp://guest:guest@{}/", setting.address))
        .env("GOFLAGS", "-mod=mod");
    let finished = process::run(
        command.current_dir(&home),
        &setting.directory.join("suite.log"),
        Some(LIMIT),
    )?;
    let outcomes = parse(&finished.text());
    if outcomes.is_empty() || finished.late {
        return Err(finished.tail(40));
    }
    Ok(outcomes)
}

/// The module, copied out of the read-only cache.
fn fetch(directory: &Path) -> Result<PathBuf, String> {
    let mut download = Command::new("go");
    download
        .args(["mod", "download", "-json", MODULE])
        .current_dir(directory)
        .env("GO111MODULE", "on");
    let text = process::output(&mut download)?;
    let answer: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let cached = answer["Dir"].as_str().ok_or("go mod download names no directory")?;
    let copy = directory.join("module");
    if !copy.exists() {
        process::output(Command::new("cp").args(["-r", cached]).arg(&copy))?;
        process::output(Command::new("chmod").args(["-R", "u+w"]).arg(&copy))?;
    }
    Ok(copy)
}

/// One JSON object a line: `{"Action": "pass", "Test": "TestName"}`. Subtests count with their parent.
fn parse(text: &str) -> Outcomes {
    let mut outcomes = Outcomes::new();
    for line in text.lines() {
        let Ok(event) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        let (Some(action), Some(test)) = (event["Action"].as_str(), event["Test"].as_str()) else {
            continue;
        };
        let outcome = match action {
            "run" => Outcome::Failed, // until it says otherwise: a crash ends the program without a word
            "pass" => Outcome::Passed,
            "fail" => Outcome::Failed,
            "skip" => Outcome::Skipped,
            _ => continue,
        };
        if !test.contains('/') {
            outcomes.insert(test.to_owned(), outcome);
        }
    }
    outcomes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_events() {
        let text = "{\"Action\":\"run\",\"Test\":\"TestA\"}\n{\"Action\":\"pass\",\"Test\":\"TestA\"}\n\
                    {\"Action\":\"run\",\"Test\":\"TestB\"}\n{\"Action\":\"output\",\"Test\":\"TestB\",\"Output\":\"x\"}\nnoise\n\
                    {\"Action\":\"fail\",\"Test\":\"TestA/sub\"}\n{\"Action\":\"skip\",\"Test\":\"TestC\"}\n";
        let want = Outcomes::from([
            ("TestA".to_owned(), Outcome::Passed),
            ("TestB".to_owned(), Outcome::Failed),
            ("TestC".to_owned(), Outcome::Skipped),
        ]);
        assert_eq!(parse(text), want);
    }
}
