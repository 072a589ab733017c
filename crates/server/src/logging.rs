//! Log lines go to standard error, one event a line; standard output belongs to the banner and to
//! the answers of subcommands.

use crate::config::{Log, LogFormat};
use crate::terminal::Style;

/// Once per process; a second call changes nothing.
pub fn start(log: &Log) {
    let builder = tracing_subscriber::fmt()
        .with_max_level(log.level)
        .with_writer(std::io::stderr)
        .with_ansi(Style::of_stderr().colour())
        .with_target(false);
    // An error means that a subscriber is already there: tests and the demo start twice.
    let _ = match log.format {
        LogFormat::Text => tracing::subscriber::set_global_default(builder.finish()),
        LogFormat::Json => {
            tracing::subscriber::set_global_default(builder.json().flatten_event(true).finish())
        }
    };
}
