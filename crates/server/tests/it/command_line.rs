//! The program as a person meets it: start, refuse, stop, admin commands, health and metrics.

use std::io::{Read, Write};
use std::process::{Output, Stdio};
use std::time::Duration;

use crate::broker::{koine, Broker, Directory};
use crate::wait;
use crate::wire::{amqp, kafka, mqtt, open};

/// Idle memory of an unoptimised build; the release build is held to 30 MiB by the acceptance run.
const IDLE_BYTES_MAX: u64 = 80 << 20;
const COMMAND_LIMIT: Duration = Duration::from_secs(20);

/// Runs `koine` with arguments to its end, in a directory of its own.
fn run(directory: &Directory, arguments: &[&str]) -> Output {
    let mut command = koine();
    command.args(arguments).current_dir(directory.path()).stdin(Stdio::null());
    let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    if wait::poll(COMMAND_LIMIT, || process.try_wait().unwrap()).is_none() {
        process.kill().unwrap();
        panic!("koine {arguments:?} has not ended");
    }
    process.wait_with_output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// The status and the body of an HTTP answer.
pub fn http_get(address: &str, path: &str) -> (u16, String) {
    http_get_over(open(address).unwrap(), address, path)
}

pub fn http_get_over(mut stream: impl Read + Write, address: &str, path: &str) -> (u16, String) {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split_whitespace().nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    (status, body)
}

#[test]
fn starts_lean_and_stops_cleanly() {
    let broker = Broker::start("lean");
    println!("started in {} ms, {} KiB resident", broker.startup_ms, broker.resident_bytes() >> 10);
    assert!(broker.startup_ms < 2_000, "{} ms", broker.startup_ms);
    assert!(broker.resident_bytes() < IDLE_BYTES_MAX, "{} bytes", broker.resident_bytes());
    let (status, _directory) = broker.stop();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn an_unknown_key_is_named() {
    let directory = Directory::new("unknown-key");
    std::fs::write(directory.path().join("koine.toml"), "kafka_adress = \"127.0.0.1:0\"\n")
        .unwrap();
    let output = run(&directory, &["start", "--config", "koine.toml", "--data", "data"]);
    assert!(!output.status.success());
    assert!(text(&output).contains("kafka_adress"), "{}", text(&output));
}

#[test]
fn an_unknown_flag_is_named() {
    let output = run(&Directory::new("unknown-flag"), &["start", "--kafkaa", "127.0.0.1:0"]);
    assert!(!output.status.success());
    assert!(text(&output).contains("kafkaa"), "{}", text(&output));
}

#[test]
fn a_data_directory_in_use_is_refused() {
    let mut broker = Broker::start("in-use");
    let data = broker.directory.path().join("data");
    let mut arguments = vec!["start", "--data", data.to_str().unwrap()];
    for listener in ["--kafka", "--amqp", "--mqtt", "--http"] {
        arguments.extend([listener, "127.0.0.1:0"]);
    }
    let output = run(&Directory::new("second"), &arguments);
    assert!(!output.status.success());
    assert!(text(&output).contains("data"), "{}", text(&output));
    assert!(broker.is_running());
}

#[test]
fn a_port_in_use_is_named() {
    let broker = Broker::start("port");
    let directory = Directory::new("port-second");
    let at = broker.addresses.kafka.as_str();
    let free = "127.0.0.1:0";
    let output =
        run(&directory, &["start", "--kafka", at, "--amqp", free, "--mqtt", free, "--http", free]);
    assert!(!output.status.success());
    assert!(text(&output).contains(at), "{}", text(&output));
}

#[test]
fn admin_commands_show_what_clients_made() {
    let broker = Broker::start("admin");
    let at = &broker.addresses;
    kafka::Client::connect(&at.kafka).unwrap().create_topic("made-by-kafka").unwrap();
    amqp::Client::connect(&at.amqp).unwrap().declare("made-by-amqp").unwrap();
    mqtt::Client::connect(&at.mqtt, "made-by-mqtt", false).unwrap().subscribe("a/b").unwrap();
    let directory = Directory::new("admin-commands");
    for (what, name) in
        [("topics", "made-by-kafka"), ("queues", "made-by-amqp"), ("sessions", "made-by-mqtt")]
    {
        for arguments in [
            vec![what, "list", "--http", &at.http],
            vec![what, "list", "--json", "--http", &at.http],
            vec![what, "describe", name, "--json", "--http", &at.http],
        ] {
            let output = run(&directory, &arguments);
            assert!(output.status.success(), "{arguments:?}: {}", text(&output));
            assert!(text(&output).contains(name), "{arguments:?}: {}", text(&output));
        }
    }
    let created = run(&directory, &["topics", "create", "made-here", "--http", &at.http]);
    assert!(created.status.success(), "{}", text(&created));
    assert_eq!(kafka::Client::connect(&at.kafka).unwrap().produce("made-here", b"x").unwrap(), 0);
    let deleted = run(&directory, &["topics", "delete", "made-here", "--http", &at.http]);
    assert!(deleted.status.success(), "{}", text(&deleted));
    let missing = run(&directory, &["topics", "describe", "made-here", "--http", &at.http]);
    assert!(!missing.status.success(), "{}", text(&missing));
}

#[test]
fn tail_shows_records_without_taking_them() {
    let broker = Broker::start("tail");
    let at = &broker.addresses;
    let mut client = amqp::Client::connect(&at.amqp).unwrap();
    client.declare("tailed").unwrap();
    client.publish("tailed", b"look at me").unwrap();
    let arguments =
        ["tail", "tailed", "--from", "start", "--no-follow", "--json", "--http", &at.http];
    let output = run(&Directory::new("tail-command"), &arguments);
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("look at me"), "{}", text(&output));
    assert_eq!(client.get("tailed").unwrap().as_deref(), Some(&b"look at me"[..]));
}

#[test]
fn health_and_metrics() {
    let broker = Broker::start("health");
    let at = &broker.addresses;
    let mut client = kafka::Client::connect(&at.kafka).unwrap();
    client.create_topic("measured").unwrap();
    client.produce("measured", b"x").unwrap();
    for path in ["/health/live", "/health/ready"] {
        assert_eq!(http_get(&at.http, path).0, 200, "{path}");
    }
    assert_eq!(http_get(&at.http, "/no/such/page").0, 404);
    let (status, metrics) = http_get(&at.http, "/metrics");
    assert_eq!(status, 200);
    assert!(metrics.contains("# TYPE koine_"), "{metrics}");
    assert!(metrics.contains("measured"), "{metrics}");
    for line in metrics.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let value = line.rsplit(' ').next().unwrap_or_default();
        assert!(value.parse::<f64>().is_ok(), "not a sample: {line}");
    }
}
