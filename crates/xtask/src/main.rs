//! The project's own commands: `cargo xtask test` and its parts. Nothing here is shipped, and nothing here may reach
//! outside `target/` except to read the sources.

mod bitflips;
mod clients;
mod codegen;
mod compare;
mod conformance;
mod hostile;
mod machine;
mod mutants;
mod process;
mod project;
mod report;
mod sim;
mod supply;
mod test;
mod tidy;
mod torture;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask test                 everything: format, lints, tidy, supply chain, tests, simulator, real clients
cargo xtask tidy [--ratchet]     the rules that no compiler checks; --ratchet lowers the recorded sizes
cargo xtask codegen [--check]    write the Kafka codec anew from its schema files, or only compare
cargo xtask sim [--minutes N] [--from SEED] [--seeds N] [--jobs N] [--keep-going] [--no-shrink] [--json]
             [--world node|wired|cluster]
                                 fresh seeds for the simulator, 1 minute on all cores: a node among puppets, among
                                 clients that speak protocols, or several nodes
cargo xtask mutants [NAME...] [--seconds N]
                                 does the simulator catch the invariants broken on purpose in crates/sim/mutants?
cargo xtask clients              set up the client programs below target/clients and stop
cargo xtask bitflips             every bit of small stores inverted in turn; the tests take a sample
cargo xtask hostile [--tries N] [--seed N]
                                 N tries (100,000) of hostile bytes on each listener of a release build
cargo xtask conformance SUITE    lapin, amqprs, amqp091-go or librdkafka against Koine
             [--address HOST:PORT] [--only NAME] [--debug]
                                 against a broker that runs already; one test; an unoptimised build
cargo xtask compare [CASE...] [--rounds N] [--seconds N] [--json] [--no-pages]
                                 Koine beside Kafka, RabbitMQ and mosquitto, 5 rounds; writes docs/performance.md
cargo xtask curves [NAME...] [--quick] [--json] [--no-pages]
                                 Koine alone as queues, backlog, sizes, connections and partitions grow
cargo xtask footprint [--json] [--no-pages]
                                 what idle queues and connections hold, and 10 GB of backlog in 512 MiB
cargo xtask torture FAULT...|all [--cycles N] [--seed N] [--json]
                                 real faults on a release build under load; without a fault: which there are
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match arguments.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("help", &[][..]),
    };
    let outcome = match command {
        "test" => test::run(rest),
        "tidy" => tidy::run(rest),
        "clients" => clients::run(rest),
        "codegen" => codegen::run(rest.iter().any(|argument| argument == "--check")),
        "sim" => sim::run(rest),
        "mutants" => mutants::run(rest),
        "bitflips" => bitflips::run(),
        "hostile" => hostile::run(rest),
        "conformance" => conformance::run(rest),
        "torture" => torture::run(rest),
        "compare" => compare::run(rest),
        "curves" => compare::curves::run(rest),
        "footprint" => compare::footprint::run(rest),
        "help" | "--help" => {
            print!("{HELP}");
            Ok(())
        }
        other => Err(format!("no command {other}\n\n{HELP}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}
