//! `cargo xtask hostile`: the hostile peers of the black-box tests, many times over, against a release build.

use crate::process;

const TRIES: &str = "100000";

pub fn run(arguments: &[String]) -> Result<(), String> {
    let (mut tries, mut seed) = (TRIES.to_owned(), None);
    let mut rest = arguments.iter();
    while let Some(flag) = rest.next() {
        let value = rest.next().ok_or_else(|| format!("{flag} needs a number"))?.clone();
        match flag.as_str() {
            "--tries" => tries = value,
            "--seed" => seed = Some(value),
            other => return Err(format!("no flag {other}")),
        }
    }
    let mut command = process::cargo(&[
        "test",
        "--release",
        "-p",
        "koine",
        "--test",
        "it",
        "hostile",
        "--",
        "--nocapture",
    ]);
    command.env("KOINE_HOSTILE_TRIES", tries);
    if let Some(seed) = seed {
        command.env("KOINE_HOSTILE_SEED", seed);
    }
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{status}")),
        Err(error) => Err(error.to_string()),
    }
}
