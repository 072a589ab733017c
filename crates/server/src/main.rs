//! The program `koine`: the one crate with sockets, files, threads, clocks and the environment.

mod admin;
mod banner;
// `koine init` will be its caller; until then its tests are.
#[cfg_attr(not(test), allow(dead_code))]
mod certificates;
mod cli;
mod config;
mod data_directory;
mod demo;
mod disk;
mod doctor;
mod http;
mod init;
mod logging;
mod machine;
mod metrics;
mod ready_file;
mod runtime;
mod start;
mod terminal;
#[cfg(test)]
mod test_directory;
mod tls;

use cli::Command;
use config::{Config, Flags};
use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;
use terminal::Style;

/// The command line itself was wrong.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let started = Instant::now();
    let command = match cli::read(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(error) => {
            complain(&format!("{}\n`koine --help` shows what there is.", error.0));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match act(command, started) {
        Ok(code) => code,
        Err(message) => {
            complain(&message);
            ExitCode::FAILURE
        }
    }
}

fn complain(message: &str) {
    let style = Style::of_stderr();
    let _ = writeln!(std::io::stderr(), "{} {message}", style.red("koine:"));
}

fn act(command: Command, started: Instant) -> Result<ExitCode, String> {
    let mut out = std::io::stdout().lock();
    match command {
        Command::Show(text) => {
            let _ = write!(out, "{text}");
        }
        Command::Admin(command) => {
            let address = admin_address(&command.flags)?;
            let text = cli::admin::run(&command, &address, Style::of_stdout())
                .map_err(|error| error.to_string())?;
            let _ = writeln!(out, "{text}");
        }
        Command::Status(command) => {
            let address = admin_address(&command.flags)?;
            let text = cli::admin::status(&command, &address, Style::of_stdout())
                .map_err(|error| error.to_string())?;
            let _ = writeln!(out, "{text}");
        }
        Command::Tail(command) => {
            let address = admin_address(&command.flags)?;
            cli::tail::run(&command, &address, &mut out).map_err(|error| error.to_string())?;
        }
        Command::Doctor(command) => {
            let data = match &command.data {
                Some(data) => data.clone(),
                None => load(&command.flags)?.data,
            };
            return doctor::run(&command, &data, &mut out).or_else(|message| {
                complain(&message);
                Ok(ExitCode::from(doctor::EXIT_CANNOT_CHECK))
            });
        }
        Command::Init(command) => {
            let done = init::run(&command, load_first(&command.flags)?)?;
            let _ = match command.json {
                true => writeln!(out, "{:#}", done.json()),
                false => write!(out, "{}", done.text()),
            };
        }
        Command::Start(flags) => {
            drop(out);
            start::run(&load(&flags)?, started)?;
        }
        Command::Demo(command) => {
            drop(out);
            return start::demo(&command, load(&command.flags)?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The configuration, whose named file need not be there yet.
fn load_first(flags: &Flags) -> Result<Config, String> {
    match &flags.file {
        Some(file) if !file.exists() => {
            load(&Flags { file: None, settings: flags.settings.clone() })
        }
        _ => load(flags),
    }
}

fn load(flags: &Flags) -> Result<Config, String> {
    config::load(flags, std::env::vars()).map_err(|error| error.to_string())
}

/// Where the running broker's admin API is, by the same configuration that the broker reads.
fn admin_address(flags: &Flags) -> Result<String, String> {
    match load(flags)?.listen.http {
        Some(listen) => Ok(listen.to_string()),
        None => Err(
            "the http listener is off in the configuration; say where the broker is with --http"
                .to_owned(),
        ),
    }
}
