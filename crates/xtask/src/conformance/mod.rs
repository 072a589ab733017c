//! `cargo xtask conformance SUITE`: other projects' own test suites against Koine. A suite is fetched by its package
//! coordinates when it is run and never becomes part of this repository. What fails has to be listed with its reason
//! in `conformance/SUITE.txt`; what is listed and passes has to be taken off the list.

mod amqp091_go;
mod broker;
mod crates;
pub mod librdkafka;

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::project;
use broker::Broker;

/// How one test of a suite ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    Passed,
    Failed,
    Skipped,
}

/// Every test that ran, by name.
pub type Outcomes = BTreeMap<String, Outcome>;

/// What a suite is given to work with.
pub struct Setting {
    /// `HOST:PORT` of the listener that the suite speaks to.
    pub address: String,
    /// Scratch space of the suite below `target/conformance`.
    pub directory: PathBuf,
    /// Run only tests whose name contains this.
    pub only: Option<String>,
}

struct Suite {
    name: &'static str,
    listener: &'static str,
    /// What Koine is started with.
    arguments: &'static [&'static str],
    run: fn(&Setting) -> Result<Outcomes, String>,
}

/// librdkafka's suite expects four partitions of a topic that it has not created.
const SUITES: [Suite; 4] = [
    Suite { name: "lapin", listener: "amqp", arguments: &[], run: crates::lapin },
    Suite { name: "amqprs", listener: "amqp", arguments: &[], run: crates::amqprs },
    Suite { name: "amqp091-go", listener: "amqp", arguments: &[], run: amqp091_go::run },
    Suite {
        name: "librdkafka",
        listener: "kafka",
        arguments: &["--topics-partitions", "4"],
        run: librdkafka::run,
    },
];

pub fn run(arguments: &[String]) -> Result<(), String> {
    let names = SUITES.map(|suite| suite.name).join(", ");
    let (name, flags) = arguments.split_first().ok_or(format!("which suite? {names}"))?;
    let suite = SUITES
        .iter()
        .find(|suite| suite.name == name)
        .ok_or(format!("no suite {name}: {names}"))?;
    let (mut address, mut only, mut release) = (None, None, true);
    let mut flags = flags.iter();
    while let Some(flag) = flags.next() {
        match flag.as_str() {
            "--address" => address = flags.next().cloned(),
            "--only" => only = flags.next().cloned(),
            "--debug" => release = false,
            other => return Err(format!("no flag {other}")),
        }
    }
    let directory = project::target().join("conformance").join(suite.name);
    std::fs::create_dir_all(&directory)
        .map_err(|error| format!("{}: {error}", directory.display()))?;
    let broker = match address {
        Some(_) => None,
        None => Some(Broker::start(&directory, release, suite.arguments)?),
    };
    let address = match (&broker, address) {
        (Some(broker), _) => broker.address(suite.listener)?,
        (None, given) => given.unwrap_or_default(),
    };
    println!("{} against {address}", suite.name);
    let whole = only.is_none();
    let outcomes = (suite.run)(&Setting { address, directory, only })?;
    drop(broker);
    report(suite.name, &outcomes, whole)
}

fn exclusions(suite: &str) -> BTreeMap<String, String> {
    parse_exclusions(&project::read(&format!("conformance/{suite}.txt")))
}

/// Lines `NAME reason`; `#` begins a comment.
fn parse_exclusions(text: &str) -> BTreeMap<String, String> {
    let lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| line.split_once(char::is_whitespace).unwrap_or((line, "")))
        .map(|(name, reason)| (name.to_owned(), reason.trim().to_owned()))
        .collect()
}

/// Prints the counts and every surprise; a surprise is an error.
fn report(suite: &str, outcomes: &Outcomes, whole: bool) -> Result<(), String> {
    let excluded = exclusions(suite);
    let count = |wanted| outcomes.values().filter(|outcome| **outcome == wanted).count();
    for (name, _) in outcomes.iter().filter(|(_, outcome)| **outcome == Outcome::Failed) {
        if let Some(reason) = excluded.get(name) {
            println!("excluded  {name}: {reason}");
        }
    }
    let surprises = surprises(outcomes, &excluded, whole);
    surprises.iter().for_each(|surprise| println!("{surprise}"));
    println!(
        "{suite}: {} passed, {} failed, {} skipped",
        count(Outcome::Passed),
        count(Outcome::Failed),
        count(Outcome::Skipped)
    );
    match surprises.len() {
        0 => Ok(()),
        number => Err(format!("{number} against conformance/{suite}.txt")),
    }
}

fn surprises(outcomes: &Outcomes, excluded: &BTreeMap<String, String>, whole: bool) -> Vec<String> {
    let mut found = Vec::new();
    for (name, outcome) in outcomes {
        match (outcome, excluded.get(name)) {
            (Outcome::Failed, None) => found.push(format!("FAILED    {name}")),
            (Outcome::Passed, Some(_)) => {
                found.push(format!("passes    {name}: take it off the list"))
            }
            (_, Some(reason)) if reason.is_empty() => found.push(format!("no reason {name}")),
            _ => {}
        }
    }
    let unknown = excluded.keys().filter(|name| whole && !outcomes.contains_key(*name));
    found.extend(unknown.map(|name| format!("unknown   {name}: no such test ran")));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surprises_are_told_apart() {
        let excluded = parse_exclusions(
            "# comment\nknown  not yet: needs x\ngood wrongly listed\ngone was removed\nbare\n",
        );
        let outcomes = Outcomes::from([
            ("known".to_owned(), Outcome::Failed),
            ("good".to_owned(), Outcome::Passed),
            ("new".to_owned(), Outcome::Failed),
            ("bare".to_owned(), Outcome::Failed),
            ("fine".to_owned(), Outcome::Passed),
        ]);
        let found = surprises(&outcomes, &excluded, true);
        let words: Vec<&str> =
            found.iter().filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(words, ["no", "passes", "FAILED", "unknown"]);
        assert_eq!(surprises(&outcomes, &excluded, false).len(), 3);
    }
}
