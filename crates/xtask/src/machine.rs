//! What this machine has of what the client programs need, and the line that installs what it lacks.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// One thing that real clients need: a toolchain or a Debian package.
pub struct Part {
    /// The name in reports and in `KOINE_IT_REQUIRE`.
    pub name: &'static str,
    /// Every one of these has to be on the PATH.
    programs: &'static [&'static str],
    /// Beyond being there, this has to succeed (program and arguments).
    works: &'static [&'static str],
    /// What to install on Debian.
    packages: &'static str,
    /// Names of black-box tests that need it, as `--skip` takes them.
    pub tests: &'static [&'static str],
}

/// In the order of set-up.
pub const PARTS: [Part; 8] = [
    Part {
        name: "python",
        programs: &["python3"],
        works: &[
            "python3",
            "-c",
            "import venv, ensurepip, sys; sys.exit(sys.version_info < (3, 9))",
        ],
        packages: "python3 python3-venv",
        tests: &[
            "clients::kafka_python",
            "clients::amqp_python",
            "clients::mqtt_python",
            "matrix::",
            "survive::acknowledged_messages_survive",
        ],
    },
    Part {
        name: "node",
        programs: &["node", "npm"],
        works: &["node", "--version"],
        packages: "nodejs npm",
        tests: &["clients::kafka_node", "clients::amqp_node", "clients::mqtt_node"],
    },
    Part {
        name: "java",
        programs: &["java", "javac", "mvn"],
        works: &["javac", "--release", "17", "--version"],
        packages: "openjdk-17-jdk-headless maven",
        tests: &["clients::kafka_java", "clients::amqp_java"],
    },
    Part {
        name: "go",
        programs: &["go"],
        works: &["go", "version"],
        packages: "golang-go",
        tests: &["clients::kafka_go", "clients::amqp_go"],
    },
    Part {
        name: "rust",
        programs: &["cc", "make"],
        works: &["cc", "--version"],
        packages: "build-essential zlib1g-dev",
        tests: &["clients::kafka_rust", "clients::amqp_rust", "clients::mqtt_rust"],
    },
    Part {
        name: "kcat",
        programs: &["kcat"],
        works: &["kcat", "-V"],
        packages: "kcat",
        tests: &["shell::kafka_kcat"],
    },
    Part {
        name: "mosquitto_pub",
        programs: &["mosquitto_pub"],
        works: &[],
        packages: "mosquitto-clients",
        tests: &["shell::mqtt_mosquitto"],
    },
    Part {
        name: "mosquitto_sub",
        programs: &["mosquitto_sub"],
        works: &[],
        packages: "mosquitto-clients",
        tests: &["shell::mqtt_mosquitto"],
    },
];

/// The first program of this name on the PATH.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
}

impl Part {
    pub fn is_present(&self) -> bool {
        let works = |line: &[&str]| match line {
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command
                    .args(arguments)
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null());
                command.status().is_ok_and(|status| status.success())
            }
            [] => true,
        };
        self.programs.iter().all(|program| find(program).is_some()) && works(self.works)
    }
}

/// The parts that this machine lacks.
pub fn missing() -> Vec<&'static Part> {
    PARTS.iter().filter(|part| !part.is_present()).collect()
}

/// One line that installs these parts on Debian.
pub fn install_line(parts: &[&Part]) -> String {
    let mut packages: Vec<&str> = parts.iter().flat_map(|part| part.packages.split(' ')).collect();
    packages.sort_unstable();
    packages.dedup();
    format!("apt-get update && apt-get install -y {}", packages.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_install_line_names_each_package_once() {
        let mosquitto: Vec<&Part> =
            PARTS.iter().filter(|part| part.name.starts_with("mosquitto")).collect();
        assert_eq!(
            install_line(&mosquitto),
            "apt-get update && apt-get install -y mosquitto-clients"
        );
    }
}
