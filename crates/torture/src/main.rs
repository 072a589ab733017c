//! `koine-torture`: real faults on the real broker under mixed load, and a table of what came of it. The history of
//! what was acknowledged lives here, outside the broker. Touches nothing but its own directory, its own loop device and
//! the processes it started.

mod broker;
mod faults;
mod load;
mod report;
mod volume;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use faults::{Fault, Options, FAULTS};
use lexopt::prelude::*;
use report::Row;

struct Command {
    options: Options,
    faults: Vec<&'static Fault>,
}

fn help() -> String {
    let mut out = "koine-torture FAULT...|all [--cycles N] [--seed N] [--json] [--koine FILE] [--directory DIR]\n\n".to_owned();
    for fault in &FAULTS {
        out += &format!("  {:<10} {}\n", fault.name, fault.what);
    }
    out
}

fn parse() -> Result<Option<Command>, lexopt::Error> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut options = Options {
        koine: PathBuf::from("koine"),
        directory: std::env::temp_dir().join(format!("koine-torture-{}", std::process::id())),
        cycles: None,
        seed: now.as_nanos() as u64 % 1_000_000_007,
        json: false,
    };
    let mut faults = Vec::new();
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("help") | Short('h') => return Ok(None),
            Long("cycles") => options.cycles = Some(parser.value()?.parse()?),
            Long("seed") => options.seed = parser.value()?.parse()?,
            Long("json") => options.json = true,
            Long("koine") => options.koine = parser.value()?.into(),
            Long("directory") => options.directory = parser.value()?.into(),
            Value(name) if name == "all" => faults.extend(&FAULTS),
            Value(name) => match FAULTS.iter().find(|fault| name == fault.name) {
                Some(fault) => faults.push(fault),
                None => return Err(format!("no fault {}", name.to_string_lossy()).into()),
            },
            other => return Err(other.unexpected()),
        }
    }
    match faults.is_empty() {
        true => Ok(None),
        false => Ok(Some(Command { options, faults })),
    }
}

fn run(fault: &Fault, options: &Options) -> Row {
    let mut row = Row::new(fault.name);
    if let Some(missing) = (fault.missing)() {
        row.failures.push(format!("not run, this machine lacks {missing}"));
        return row;
    }
    let options = Options { directory: options.directory.join(fault.name), ..options.clone() };
    if let Err(why) = (fault.run)(&options, &mut row) {
        row.failures.push(why);
    }
    for failure in &row.failures {
        eprintln!("{} FAILED: {failure}", row.fault);
    }
    match row.passed() {
        true => drop(std::fs::remove_dir_all(&options.directory)),
        false => {
            row.notes.push(format!("seed {}, kept {}", options.seed, options.directory.display()))
        }
    }
    row
}

fn main() -> ExitCode {
    let command = match parse() {
        Ok(Some(command)) => command,
        Ok(None) => {
            print!("{}", help());
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error}\n\n{}", help());
            return ExitCode::from(2);
        }
    };
    let rows: Vec<Row> = command.faults.iter().map(|fault| run(fault, &command.options)).collect();
    let _ = std::fs::remove_dir(&command.options.directory);
    match command.options.json {
        true => println!("{:#}", serde_json::Value::from_iter(rows.iter().map(Row::json))),
        false => print!("{}", report::table(&rows)),
    }
    match rows.iter().all(Row::passed) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
