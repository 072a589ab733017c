//! `cargo xtask bitflips`: inverts every bit of every file of small stores, one at a time, where the ordinary tests take
//! a sample.

use std::process::Command;

use crate::process;

const ARGUMENTS: &[&str] = &[
    "test",
    "--release",
    "--quiet",
    "-p",
    "koine-log",
    "-p",
    "koine-cluster",
    "--lib",
    "bit_flips_are",
    "--",
    "--nocapture",
];

pub fn run() -> Result<(), String> {
    let mut command: Command = process::cargo(ARGUMENTS);
    let status =
        command.env("KOINE_BITFLIPS", "all").status().map_err(|error| error.to_string())?;
    match status.success() {
        true => Ok(()),
        false => Err("a bit was passed over, or changed what is served".to_owned()),
    }
}
