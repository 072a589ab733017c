//! `koine-bench`: loads a broker through its native protocols, measures, and verifies what it reads.
//! It must cost little itself: prebuilt frames, large writes, no allocation per message. It is not
//! part of the shipped program.

mod amqp;
mod args;
mod clock;
mod dialogue;
mod drive;
mod failure;
mod idle;
mod kafka;
mod mqtt;
mod payload;
mod plan;
mod progress;
mod protocol;
mod report;
mod run;
mod shared;
mod tally;

use plan::{Mode, ProtocolName};
use protocol::Protocol;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let plan = match args::parse(lexopt::Parser::from_env()) {
        Ok(Some(plan)) => plan,
        Ok(None) => {
            let _ = std::io::stdout().write_all(args::HELP.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(failure) => {
            eprintln!("koine-bench: {failure}");
            return ExitCode::from(2);
        }
    };
    let mut protocol: Box<dyn Protocol> = match plan.protocol {
        ProtocolName::Kafka => Box::<kafka::Kafka>::default(),
        ProtocolName::Amqp => Box::new(amqp::Amqp),
        ProtocolName::Mqtt => Box::new(mqtt::Mqtt),
    };
    if plan.mode == Mode::Idle {
        return match idle::run(&plan, protocol.as_mut()) {
            Ok(held) => {
                let shown = std::io::stdout().write_all(held.text(&plan).as_bytes());
                ExitCode::from(u8::from(shown.is_err()))
            }
            Err(failure) => failed(&plan, &failure),
        };
    }
    match run::run(&plan, protocol.as_mut()) {
        Ok(outcome) => {
            let text = match plan.json {
                true => format!("{}\n", report::json(&plan, &outcome)),
                false => report::table(&plan, &outcome),
            };
            let shown = std::io::stdout().write_all(text.as_bytes());
            ExitCode::from(u8::from(!outcome.is_clean() || shown.is_err()))
        }
        Err(failure) => failed(&plan, &failure),
    }
}

fn failed(plan: &plan::Plan, failure: &failure::Failure) -> ExitCode {
    eprintln!("koine-bench {} at {}: {failure}", plan.protocol.name(), plan.addr);
    ExitCode::FAILURE
}
