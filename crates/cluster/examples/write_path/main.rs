//! What the write path costs under loads that it was not made for: a table per experiment, each behind a
//! decision in `docs/adr`. On real files below the temporary directory; figures of the machine it runs on.
//!
//! `cargo run --release -p koine-cluster --example write_path -- double-write [--quick]`

mod blocking;
mod disk;
mod double_write;
mod fan_out;
mod node;
mod small_messages;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    match arguments.first().map(String::as_str) {
        Some("double-write") => double_write::run(quick),
        Some("small-messages") => small_messages::run(quick),
        Some("blocking") => blocking::run(quick),
        Some("fan-out") => fan_out::run(quick),
        _ => println!("one of: double-write, small-messages, blocking, fan-out; and --quick"),
    }
}
