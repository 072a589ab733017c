//! What comes from outside, checked by cargo-deny against `deny.toml`: licences, sources, packages in two versions,
//! known holes. The first three need no network; the list of holes is fetched, and what cannot be fetched is not
//! passed over in silence.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::report::Counts;
use crate::{machine, process, project};

/// The version that `.ci/run` installs.
pub const VERSION: &str = "0.20.2";

/// Fetching the list of holes takes seconds, or the network is not there.
const FETCH_TIME_MAX: Duration = Duration::from_secs(120);

/// What cargo-deny says when it has no list; anything else that fails is a finding.
const WITHOUT_LIST: [&str; 2] = ["failed to fetch advisory database", "failed to get 'FETCH_HEAD'"];

/// Where it is: `target/tools/bin`, or on the PATH.
fn program() -> Option<PathBuf> {
    let ours = project::target().join("tools/bin/cargo-deny");
    if ours.is_file() {
        return Some(ours);
    }
    machine::find("cargo-deny")
}

/// One step of `cargo xtask test`. What was not checked goes to `unchecked`.
pub fn check(unchecked: &mut Vec<String>) -> Result<Counts, String> {
    let Some(program) = program() else {
        let install =
            format!("cargo install cargo-deny --version {VERSION} --locked --root target/tools");
        if std::env::var("CI").is_ok_and(|value| value == "true") {
            return Err(format!("cargo-deny is missing: {install}"));
        }
        unchecked.push(format!("the supply chain: {install}"));
        return Ok(Counts { skipped: 1, ..Counts::default() });
    };
    let run = |name: &str, checks: &[&str]| {
        let mut command = Command::new(&program);
        command.args(["--locked", "check"]).args(checks).current_dir(project::root());
        let log = project::target().join("xtask").join(format!("{name}.log"));
        process::run(&mut command, &log, Some(FETCH_TIME_MAX))
    };
    let rules = run("deny", &["bans", "licenses", "sources"])?;
    if !rules.success {
        return Err(rules.tail(60));
    }
    let mut counts = Counts { passed: 1, ..Counts::default() };
    let holes = run("advisories", &["advisories"])?;
    match outcome(holes.success, holes.late, &holes.text()) {
        Outcome::Sound => counts.passed += 1,
        Outcome::Found => return Err(holes.tail(60)),
        Outcome::WithoutList => {
            unchecked.push(
                "KNOWN HOLES IN DEPENDENCIES: github.com/RustSec/advisory-db cannot be fetched"
                    .to_owned(),
            );
            counts.skipped += 1;
        }
    }
    Ok(counts)
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Sound,
    Found,
    WithoutList,
}

fn outcome(is_success: bool, is_late: bool, text: &str) -> Outcome {
    if is_success {
        Outcome::Sound
    } else if is_late || WITHOUT_LIST.iter().any(|words| text.contains(words)) {
        Outcome::WithoutList
    } else {
        Outcome::Found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_is_told_from_a_list_that_is_not_there() {
        let check = |is_success, is_late, text, expect| {
            assert_eq!(outcome(is_success, is_late, text), expect, "{text}");
        };
        check(true, false, "advisories ok", Outcome::Sound);
        check(false, false, "error[vulnerability]: a hole\nadvisories FAILED", Outcome::Found);
        check(false, false, "error: unexpected argument", Outcome::Found);
        check(false, true, "", Outcome::WithoutList);
        let offline =
            "[ERROR] failed to fetch advisory database https://github.com/RustSec/advisory-db";
        check(false, false, offline, Outcome::WithoutList);
    }

    #[test]
    fn ci_installs_this_version() {
        assert!(project::read(".ci/run").contains(&format!("cargo-deny --version {VERSION} ")));
    }
}
