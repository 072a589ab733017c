//! `cargo xtask torture`: builds the broker and `koine-torture` for release and runs one on the other.

use std::process::Command;

use crate::process;
use crate::project;

/// Takes the faults and flags of `koine-torture` as they are.
pub fn run(arguments: &[String]) -> Result<(), String> {
    let build = ["build", "--release", "--quiet", "-p", "koine", "-p", "koine-torture"];
    let built = process::cargo(&build).status().map_err(|error| error.to_string())?;
    if !built.success() {
        return Err("the build failed".to_owned());
    }
    let release = project::target().join("release");
    let mut torture = Command::new(release.join("koine-torture"));
    torture.arg("--koine").arg(release.join("koine"));
    torture.arg("--directory").arg(project::target().join("torture"));
    match torture.args(arguments).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("torture: {status}")),
        Err(error) => Err(format!("{}: {error}", release.display())),
    }
}
