//! `cargo xtask test`: the one test command, for a person and for CI.

use std::path::PathBuf;
use std::process::Command;

use crate::clients;
use crate::machine;
use crate::process;
use crate::project;
use crate::report::{Counts, Steps};
use crate::supply;
use crate::tidy;

/// A test program that cargo has built.
struct TestProgram {
    package: String,
    target: String,
    manifest: PathBuf,
    executable: PathBuf,
}

pub fn run(_arguments: &[String]) -> Result<(), String> {
    let missing = machine::missing();
    let mut steps = Steps::default();
    steps.run("format", || quiet("format", &["fmt", "--all", "--check"]));
    steps.run("tidy", || tidy::check().map(|()| Counts::default()));
    let lints = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--keep-going",
        "--",
        "-D",
        "warnings",
    ];
    steps.run("lints", || quiet("lints", &lints));
    let mut unchecked = Vec::new();
    steps.run("supply chain", || supply::check(&mut unchecked));
    let mut programs = Vec::new();
    steps.run("build", || build().map(|built| programs = built).map(|()| Counts::default()));
    let of =
        |wanted: fn(&TestProgram) -> bool| programs.iter().filter(move |program| wanted(program));
    let is_black_box = |program: &TestProgram| program.target == "it";
    let is_simulator = |program: &TestProgram| program.package == "koine-sim";
    steps.run("unit tests and scripts", || {
        run_all(
            "unit",
            of(|program| !(program.target == "it" || program.package == "koine-sim")),
            |_| (),
        )
    });
    steps.run("simulator", || {
        run_all("simulator", programs.iter().filter(|p| is_simulator(p)), |_| ())
    });
    clients::set_up(&mut steps);
    steps.run("black box, real clients", || {
        run_all("it", programs.iter().filter(|p| is_black_box(p)), |command| {
            black_box(command, &missing)
        })
    });
    report_missing(&mut steps, &missing);
    report_unchecked(&unchecked);
    steps.finish()
}

/// A cargo command that is one step; its output is shown only if it fails.
fn quiet(name: &str, arguments: &[&str]) -> Result<Counts, String> {
    let finished = process::run(&mut process::cargo(arguments), &log(name), None)?;
    match finished.success {
        true => Ok(Counts::default()),
        false => Err(finished.tail(60)),
    }
}

fn log(name: &str) -> PathBuf {
    project::target().join("xtask").join(format!("{name}.log"))
}

/// Builds every test program once, so that the later steps only run.
fn build() -> Result<Vec<TestProgram>, String> {
    let arguments =
        ["test", "--workspace", "--no-run", "--quiet", "--message-format=json-render-diagnostics"];
    let finished = process::run(&mut process::cargo(&arguments), &log("build"), None)?;
    if !finished.success {
        return Err(finished.tail(60));
    }
    let mut programs = Vec::new();
    for line in finished.text().lines() {
        let Ok(message) = serde_json::from_str::<serde_json::Value>(line) else {
            continue;
        };
        let (Some(executable), Some(true)) =
            (message["executable"].as_str(), message["profile"]["test"].as_bool())
        else {
            continue;
        };
        let manifest = PathBuf::from(message["manifest_path"].as_str().unwrap_or_default());
        let text = std::fs::read_to_string(&manifest).unwrap_or_default();
        programs.push(TestProgram {
            package: package_name(&text),
            target: message["target"]["name"].as_str().unwrap_or_default().to_owned(),
            manifest,
            executable: executable.into(),
        });
    }
    Ok(programs)
}

fn package_name(manifest: &str) -> String {
    let line = manifest.lines().find_map(|line| line.strip_prefix("name = "));
    line.unwrap_or_default().trim_matches('"').to_owned()
}

/// Runs test programs one after the other and adds up what they say.
fn run_all<'a>(
    name: &str,
    programs: impl Iterator<Item = &'a TestProgram>,
    prepare: impl Fn(&mut Command),
) -> Result<Counts, String> {
    let (mut counts, mut failures) = (Counts::default(), String::new());
    for program in programs {
        let mut command = Command::new(&program.executable);
        command.current_dir(program.manifest.parent().unwrap_or(&program.manifest));
        command.env("CARGO_MANIFEST_DIR", program.manifest.parent().unwrap_or(&program.manifest));
        prepare(&mut command);
        let log = log(&format!("{name}-{}-{}", program.package, program.target));
        let finished = process::run(&mut command, &log, None)?;
        counts.add(Counts::of_libtest(&finished.text()));
        if !finished.success {
            failures += &format!(
                "{} ({}):\n{}\n",
                program.package,
                log.display(),
                failed_tests(&finished.text())
            );
        }
    }
    if !failures.is_empty() {
        println!("\n{failures}");
        counts.failed = counts.failed.max(1);
    }
    Ok(counts)
}

/// What libtest says about failures: from `failures:` to the end, at most so many lines.
fn failed_tests(text: &str) -> String {
    const LINES_MAX: usize = 150;
    let from = text.find("\nfailures:\n").unwrap_or(text.len().saturating_sub(4_000));
    let from = (from..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    text[from..].lines().take(LINES_MAX).map(|line| format!("{line}\n")).collect()
}

/// Tells the black-box tests where the clients are and which of them have to be there.
fn black_box(command: &mut Command, missing: &[&machine::Part]) {
    let is_missing = |part: &machine::Part| missing.iter().any(|other| other.name == part.name);
    let present: Vec<&str> =
        machine::PARTS.iter().filter(|part| !is_missing(part)).map(|part| part.name).collect();
    command.env("KOINE_CLIENTS", clients::directory()).env("KOINE_IT_REQUIRE", present.join(","));
    for test in missing.iter().flat_map(|part| part.tests) {
        command.args(["--skip", test]);
    }
}

/// Says what of the supply chain nobody checked. `.ci/run` sees to it that cargo-deny is there.
fn report_unchecked(unchecked: &[String]) {
    for what in unchecked {
        println!("\nNOT CHECKED: {what}");
    }
}

/// Says what was not run; with `CI=true` that is a failure.
fn report_missing(steps: &mut Steps, missing: &[&machine::Part]) {
    if missing.is_empty() {
        return;
    }
    println!("\nnot run, because this machine lacks:");
    for part in missing {
        println!("    {}: {}", part.name, part.tests.join(", "));
    }
    println!("install them with: {}", machine::install_line(missing));
    if std::env::var("CI").is_ok_and(|value| value == "true") {
        steps.fail("parts missing under CI");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_name_in_a_manifest() {
        assert_eq!(package_name("[package]\nname = \"koine-log\"\nversion = \"1\"\n"), "koine-log");
    }

    #[test]
    fn shows_the_failures_part() {
        let text = "test a ... FAILED\n\nfailures:\n\n---- a ----\nboom\n";
        assert!(failed_tests(text).contains("boom"));
        assert!(failed_tests("killed").contains("killed"));
    }
}
