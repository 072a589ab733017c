//! Sets up the client programs of `clients/` below `target/clients`, each with its own language's package manager.
//! What has not changed since the last time is not done again.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::machine;
use crate::process;
use crate::project;
use crate::report::{Counts, Steps};

/// Where everything goes.
pub fn directory() -> PathBuf {
    project::target().join("clients")
}

/// `cargo xtask clients`.
pub fn run(_arguments: &[String]) -> Result<(), String> {
    let mut steps = Steps::default();
    set_up(&mut steps);
    let missing = machine::missing();
    if !missing.is_empty() {
        println!("missing: {}", machine::install_line(&missing));
    }
    steps.finish()
}

/// One step for each language that this machine has.
pub fn set_up(steps: &mut Steps) {
    type SetUp = fn() -> Result<(), String>;
    let languages: [(&str, SetUp); 5] =
        [("python", python), ("node", node), ("java", java), ("go", go), ("rust", rust)];
    for (name, set_up) in languages {
        let part = machine::PARTS.iter().find(|part| part.name == name);
        if part.is_some_and(machine::Part::is_present) {
            steps.run(&format!("clients: {name}"), || set_up().map(|()| Counts::default()));
        }
    }
}

/// Runs one command of a set-up; its output is kept in `target/clients/NAME.log`.
fn command(name: &str, command: &mut Command) -> Result<(), String> {
    let finished = process::run(command, &directory().join(format!("{name}.log")), None)?;
    match finished.success {
        true => Ok(()),
        false => Err(finished.tail(30)),
    }
}

/// Runs `work` unless the files are the same as when it last succeeded.
fn once(
    name: &str,
    files: &[String],
    work: impl FnOnce() -> Result<(), String>,
) -> Result<(), String> {
    let mut hasher = DefaultHasher::new();
    for file in files {
        (file, project::read(file)).hash(&mut hasher);
    }
    let (mark, stamp) =
        (format!("{:x}", hasher.finish()), directory().join(format!("{name}.stamp")));
    if std::fs::read_to_string(&stamp).is_ok_and(|last| last == mark)
        && directory().join(name).is_dir()
    {
        return Ok(());
    }
    work()?;
    std::fs::write(&stamp, mark).map_err(|error| format!("{}: {error}", stamp.display()))
}

fn python() -> Result<(), String> {
    let requirements = "clients/python/requirements.txt";
    once("python", &[requirements.to_owned()], || {
        let home = directory().join("python");
        command("python", Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home))?;
        let mut install = Command::new(home.join("bin/python"));
        install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]);
        command("python", install.arg(project::root().join(requirements)))
    })
}

fn node() -> Result<(), String> {
    let manifests = ["clients/node/package.json", "clients/node/package-lock.json"];
    once("node", &manifests.map(str::to_owned), || {
        let home = directory().join("node");
        std::fs::create_dir_all(&home).map_err(|error| error.to_string())?;
        for manifest in manifests {
            let name = Path::new(manifest).file_name().unwrap_or_default();
            std::fs::copy(project::root().join(manifest), home.join(name))
                .map_err(|error| format!("{manifest}: {error}"))?;
        }
        command(
            "node",
            Command::new("npm")
                .args(["ci", "--no-audit", "--no-fund", "--silent"])
                .current_dir(home),
        )
    })
}

fn java() -> Result<(), String> {
    let mut files = project::files("clients/java", ".java");
    files.push("clients/java/pom.xml".to_owned());
    once("java", &files, || {
        let mut build = Command::new("mvn");
        build
            .args(["-q", "-B", "package"])
            .arg(format!("-Dout={}", directory().join("java").display()));
        command("java", build.current_dir(project::root().join("clients/java")))
    })
}

fn go() -> Result<(), String> {
    let home = directory().join("go");
    std::fs::create_dir_all(&home).map_err(|error| error.to_string())?;
    let mut build = Command::new("go");
    build.args(["build", "-o"]).arg(format!("{}/", home.display())).arg("./...");
    command("go", build.env("GOWORK", "off").current_dir(project::root().join("clients/go")))
}

fn rust() -> Result<(), String> {
    let mut build = process::cargo(&[
        "build",
        "--quiet",
        "--locked",
        "--manifest-path",
        "clients/rust/Cargo.toml",
    ]);
    command("rust", build.arg("--target-dir").arg(directory().join("rust")))
}
