//! Suites that come inside a crate: the integration tests of lapin and amqprs. The crate is fetched through a
//! throw-away project, copied, and its own tests are built and run there.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::{Outcome, Outcomes, Setting};
use crate::process;

/// How long a suite of this kind may take, its build included.
const LIMIT: Duration = Duration::from_secs(1_800);

/// Fetches a crate by name and version and returns a fresh copy of its sources.
pub fn fetch(directory: &Path, name: &str, version: &str) -> Result<PathBuf, String> {
    let told = |error: std::io::Error| format!("{}: {error}", directory.display());
    let project = directory.join("fetch");
    std::fs::create_dir_all(project.join("src")).map_err(told)?;
    std::fs::write(project.join("src/lib.rs"), "").map_err(told)?;
    let manifest = format!(
        "[workspace]\n[package]\nname = \"fetch\"\nversion = \"0.0.0\"\nedition = \"2021\"\n\
         [dependencies.{name}]\nversion = \"={version}\"\ndefault-features = false\n"
    );
    std::fs::write(project.join("Cargo.toml"), manifest).map_err(told)?;
    let mut command = process::cargo(&["metadata", "--format-version=1", "--manifest-path"]);
    let text = process::output(command.arg(project.join("Cargo.toml")))?;
    let metadata: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let mut packages = metadata["packages"].as_array().into_iter().flatten();
    let found = packages
        .find(|package| package["name"] == name)
        .and_then(|package| package["manifest_path"].as_str());
    let source = found
        .and_then(|manifest| Path::new(manifest).parent())
        .ok_or(format!("{name} {version} not fetched"))?;
    let copy = directory.join(format!("{name}-{version}"));
    if !copy.exists() {
        copy_tree(source, &copy).map_err(told)?;
        // Else cargo would look for a workspace above, and find ours.
        let manifest = copy.join("Cargo.toml");
        let text = std::fs::read_to_string(&manifest).map_err(told)?;
        std::fs::write(&manifest, text + "\n[workspace]\n").map_err(told)?;
    }
    Ok(copy)
}

fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy_tree(&entry.path(), &target)?,
            false => std::fs::copy(entry.path(), &target).map(drop)?,
        }
    }
    Ok(())
}

pub fn lapin(setting: &Setting) -> Result<Outcomes, String> {
    let home = fetch(&setting.directory, "lapin", "4.12.3")?;
    let uri = format!("amqp://guest:guest@{}/%2f", setting.address);
    let arguments = ["--no-default-features", "--features", "default-runtime,smol", "--test", "*"];
    run(setting, &home, &arguments, &[("AMQP_ADDR", &uri)])
}

/// amqprs has its server's port and account in its sources; both are replaced by ours in the copy. It connects to
/// `localhost`.
pub fn amqprs(setting: &Setting) -> Result<Outcomes, String> {
    let home = fetch(&setting.directory, "amqprs", "2.1.5")?;
    let (_, port) = setting.address.rsplit_once(':').ok_or("the address is HOST:PORT")?;
    let original = setting.directory.join("amqprs-original");
    if !original.exists() {
        copy_tree(&home, &original).map_err(|error| error.to_string())?;
    }
    let change = |text: &str| {
        text.replace("5672", port)
            .replace("\"user\", \"bitnami\"", "\"guest\", \"guest\"")
            .replace("user:bitnami", "guest:guest")
            .replace("with_user_id(\"user\")", "with_user_id(\"guest\")")
    };
    for directory in ["src", "tests"] {
        rewrite(&original.join(directory), &home.join(directory), &change)
            .map_err(|error| error.to_string())?;
    }
    run(setting, &home, &["--lib", "--test", "*"], &[])
}

fn rewrite(from: &Path, to: &Path, change: &dyn Fn(&str) -> String) -> std::io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            rewrite(&entry.path(), &target, change)?;
        } else if entry.file_name().to_string_lossy().ends_with(".rs") {
            std::fs::write(target, change(&std::fs::read_to_string(entry.path())?))?;
        }
    }
    Ok(())
}

fn run(
    setting: &Setting,
    home: &Path,
    arguments: &[&str],
    variables: &[(&str, &str)],
) -> Result<Outcomes, String> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["test", "--no-fail-fast"]).args(arguments).current_dir(home);
    // A workspace of its own, and none of our build settings.
    command
        .env("CARGO_TARGET_DIR", setting.directory.join("target"))
        .envs(variables.iter().copied());
    command.args(["--", "--test-threads=1"]).args(&setting.only);
    let finished = process::run(&mut command, &setting.directory.join("suite.log"), Some(LIMIT))?;
    let outcomes = parse(&finished.text());
    if outcomes.is_empty() || finished.late {
        return Err(finished.tail(40));
    }
    Ok(outcomes)
}

/// Names are `FILE::TEST`, the file without its ending.
fn parse(text: &str) -> Outcomes {
    let mut outcomes = Outcomes::new();
    let (mut file, mut pending) = (String::new(), None);
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("Running ") {
            let path = rest.trim_start_matches("unittests ").split(' ').next().unwrap_or_default();
            file = Path::new(path).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        } else if let Some(rest) = line.strip_prefix("test ") {
            let Some((name, outcome)) = rest.split_once(" ... ") else {
                continue;
            };
            pending = Some(format!("{file}::{}", name.trim_end_matches(" - should panic")));
            note(&mut outcomes, &mut pending, outcome);
        } else {
            note(&mut outcomes, &mut pending, line);
        }
    }
    outcomes
}

/// A test that prints has its result on a later line.
fn note(outcomes: &mut Outcomes, pending: &mut Option<String>, text: &str) {
    let outcome = match text.rsplit(' ').next() {
        Some("ok") => Outcome::Passed,
        Some("FAILED") => Outcome::Failed,
        Some("ignored") => Outcome::Skipped,
        _ => return,
    };
    if let Some(name) = pending.take() {
        outcomes.insert(name, outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_test_runner() {
        let text = "     Running tests/connection.rs (target/debug/deps/connection-1)\ntest connection ... ok\n\
                    test later ... noise\nFAILED\n     Running unittests src/lib.rs (x)\ntest a::b ... ignored\n";
        let want = Outcomes::from([
            ("connection::connection".to_owned(), Outcome::Passed),
            ("connection::later".to_owned(), Outcome::Failed),
            ("lib::a::b".to_owned(), Outcome::Skipped),
        ]);
        assert_eq!(parse(text), want);
    }
}
