//! Below `server` there is no socket, file, thread, clock, random number or environment: time, bytes and randomness
//! come in as arguments. That is what lets the simulator run the very code that ships.

use super::source::{find_word, Source};
use super::Problem;

/// The crates that must stay free of I/O.
const SANS_IO: [&str; 7] = ["base", "log", "broker", "cluster", "kafka", "amqp", "mqtt"];

/// What must not be named there, and what to do instead.
const FORBIDDEN: [(&str, &str); 17] = [
    ("std::fs", "go through base's Disk trait"),
    ("std::net", "sockets belong to server"),
    ("std::thread", "threads belong to server"),
    ("std::process", "processes belong to server"),
    ("std::env", "settings come as arguments"),
    ("env::var", "settings come as arguments"),
    ("SystemTime", "take `now` as an argument"),
    ("Instant::now", "take `now` as an argument"),
    ("time::Instant", "take `now` as an argument"),
    ("thread_rng", "take the seeded generator as an argument"),
    ("rand::rng", "take the seeded generator as an argument"),
    ("getrandom", "take the seeded generator as an argument"),
    ("tokio", "the runtime belongs to server"),
    ("println!", "leave output to server"),
    ("eprintln!", "leave output to server"),
    ("print!", "leave output to server"),
    ("eprint!", "leave output to server"),
];

/// Plain values of `std::net`: an address is data.
const ADDRESSES: [&str; 6] =
    ["IpAddr", "Ipv4Addr", "Ipv6Addr", "SocketAddr", "SocketAddrV4", "SocketAddrV6"];

pub fn check(sources: &[Source]) -> Vec<Problem> {
    sources
        .iter()
        .filter(|source| SANS_IO.contains(&source.crate_name()))
        // A program that measures a crate from outside is no part of it.
        .filter(|source| !source.path.contains("/examples/"))
        .flat_map(check_one)
        .collect()
}

fn check_one(source: &Source) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (number, line) in source.shipped_lines() {
        for (name, instead) in FORBIDDEN {
            let Some(at) = find_word(line, name, 0) else {
                continue;
            };
            let after = line[at + name.len()..].trim_start_matches("::");
            if name == "std::net" && ADDRESSES.iter().any(|address| after.starts_with(address)) {
                continue;
            }
            problems.push(format!("{}:{number}: {name} below server: {instead}", source.path));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str) -> usize {
        super::check(&[Source::new(path.to_owned(), text.to_owned())]).len()
    }

    #[test]
    fn finds_calls_in_shipped_code_only() {
        let cases = [
            ("use std::fs::File;", 1),
            ("let now = Instant::now();", 1),
            ("// std::fs is for server", 0),
            ("let x = \"std::env\";", 0),
            ("fn f(e: std::io::Error) {}", 0),
            ("use std::net::SocketAddr;", 0),
            ("use std::net::TcpStream;", 1),
            ("writeln!(out, \"x\");", 0),
            ("println!(\"x\");", 1),
            ("#[cfg(test)]\nmod tests {\n use std::fs;\n}\n", 0),
        ];
        for (text, expect) in cases {
            assert_eq!(check("crates/log/src/lib.rs", text), expect, "{text}");
        }
        assert_eq!(check("crates/server/src/main.rs", "use std::fs;"), 0);
        assert_eq!(check("crates/log/src/wal/tests.rs", "use std::fs;"), 0);
    }
}
