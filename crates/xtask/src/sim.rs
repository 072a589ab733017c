//! `cargo xtask sim`: fresh seeds for the simulator, built with a profile of its own: fast, but with every assertion
//! and every overflow checked.

use std::process::Command;

use crate::{process, project};

/// All that it understands is passed on to `crates/sim/src/main.rs`.
pub fn run(arguments: &[String]) -> Result<(), String> {
    let build = ["build", "--quiet", "--profile", "sim", "-p", "koine-sim"];
    match process::cargo(&build).status() {
        Ok(status) if status.success() => {}
        Ok(status) => return Err(format!("building the simulator: {status}")),
        Err(error) => return Err(format!("building the simulator: {error}")),
    }
    let program = project::target().join("sim").join("koine-sim");
    match Command::new(&program).args(arguments).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err("the simulator found something".to_owned()),
        Err(error) => Err(format!("{}: {error}", program.display())),
    }
}
