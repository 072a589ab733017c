//! librdkafka's own test suite, which the crate `rdkafka-sys` ships with its sources. Every test that needs a broker
//! is run by itself with a limit, so that one that hangs costs only its own time.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::{crates, Outcome, Outcomes, Setting};
use crate::process;

const VERSION: &str = "4.10.0+2.12.1";
/// How long one test may run.
const TEST_LIMIT: Duration = Duration::from_secs(120);
/// Tests that run at once: most of them wait most of the time.
const WORKERS: usize = 3;
/// The Kafka version that the suite is told: what it asks for follows from it.
const KAFKA_VERSION: &str = "4.0.0";

pub fn run(setting: &Setting) -> Result<Outcomes, String> {
    let home = fetch(&setting.directory)?;
    let log = setting.directory.join("make.log");
    build(&home, "make -j2 -C tests build", "tests/test-runner", &log)?;
    let tests = home.join("tests");
    let configuration =
        format!("bootstrap.servers={}\nbroker.address.family=v4\n", setting.address);
    std::fs::write(tests.join("test.conf"), configuration).map_err(|error| error.to_string())?;
    let table = std::fs::read_to_string(tests.join("test.c")).map_err(|error| error.to_string())?;
    let wanted = |name: &&String| setting.only.as_ref().is_none_or(|only| name.contains(only));
    let names = broker_tests(&table);
    let waiting = Mutex::new(names.iter().filter(wanted));
    let outcomes = Mutex::new(Outcomes::new());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|_| scope.spawn(|| run_next(setting, &tests, &waiting, &outcomes)))
            .collect();
        let joined = workers.into_iter().map(|worker| worker.join());
        joined
            .map(|end| end.unwrap_or_else(|_| Err("a worker ended".to_owned())))
            .collect::<Result<Vec<()>, String>>()
    })
    .and_then(|_| outcomes.into_inner().map_err(|error| error.to_string()))
}

/// Runs tests until none is waiting.
fn run_next<'a>(
    setting: &Setting,
    tests: &Path,
    waiting: &Mutex<impl Iterator<Item = &'a String>>,
    outcomes: &Mutex<Outcomes>,
) -> Result<(), String> {
    loop {
        let Some(name) = waiting.lock().map_err(|error| error.to_string())?.next() else {
            return Ok(());
        };
        let start = Instant::now();
        let outcome = run_one(setting, tests, name)?;
        println!("{outcome:?} {name} {:.1} s", start.elapsed().as_secs_f64());
        outcomes.lock().map_err(|error| error.to_string())?.insert(name.clone(), outcome);
    }
}

/// The sources, which the crate ships, below `directory`.
pub fn fetch(directory: &Path) -> Result<PathBuf, String> {
    Ok(crates::fetch(directory, "rdkafka-sys", VERSION)?.join("librdkafka"))
}

/// Builds the library and, by the command `make`, the program at this path, unless it is there.
pub fn build(home: &Path, make: &str, program: &str, log: &Path) -> Result<PathBuf, String> {
    let program = home.join(program);
    if program.exists() {
        return Ok(program);
    }
    let script = format!(
        "chmod +x configure lds-gen.py tests/*.sh 2>/dev/null; \
         ./configure --disable-curl --disable-sasl --disable-gssapi && make -j2 libs && {make}"
    );
    let mut command = Command::new("bash");
    command.args(["-c", &script]).current_dir(home);
    let finished = process::run(&mut command, log, None)?;
    match program.exists() {
        true => Ok(program),
        false => Err(finished.tail(40)),
    }
}

/// The names in the table of tests, without those that need no broker or a person.
fn broker_tests(table: &str) -> Vec<String> {
    let mut names = Vec::new();
    for entry in table.split("_TEST(").skip(1) {
        let mut parts = entry.split([',', ')']);
        let (name, flags) =
            (parts.next().unwrap_or_default().trim(), parts.next().unwrap_or_default());
        let numbered = name.bytes().take_while(u8::is_ascii_digit).count() == 4;
        if numbered && !flags.contains("TEST_F_LOCAL") && !flags.contains("TEST_F_MANUAL") {
            names.push(name.to_owned());
        }
    }
    names.sort();
    names.dedup();
    names
}

fn run_one(setting: &Setting, tests: &Path, name: &str) -> Result<Outcome, String> {
    let number = &name[..4];
    let mut command = Command::new("./test-runner");
    command.args(["-p1", "-Q", "-E"]).current_dir(tests);
    command.env("TESTS", number).env("TEST_KAFKA_VERSION", KAFKA_VERSION);
    let libraries = format!("{0}/../src:{0}/../src-cpp", tests.display());
    command.env("LD_LIBRARY_PATH", libraries);
    let log = setting.directory.join("logs").join(format!("{name}.log"));
    let finished = process::run(&mut command, &log, Some(TEST_LIMIT))?;
    let text = finished.text();
    let cell = format!(" {name} "); // not a sub-test whose name begins like this one's
    let is_summary = |line: &&str| line.contains('|') && line.contains(&cell);
    let line = text.lines().rfind(is_summary).unwrap_or_default();
    Ok(match finished.success {
        true if line.contains("SKIPPED") => Outcome::Skipped,
        true => Outcome::Passed,
        false => Outcome::Failed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_table() {
        let table = "_TEST_DECL(0001_multiobj);\n    _TEST(0000_unittests, TEST_F_LOCAL),\n    _TEST(0001_multiobj, 0),\n\
                     _TEST(0041_fetch_max_bytes, 0, TEST_BRKVER(0, 8, 0, 0)),\n _TEST(8000_idle, TEST_F_MANUAL),\n";
        assert_eq!(broker_tests(table), ["0001_multiobj", "0041_fetch_max_bytes"]);
    }
}
