//! A whole node in this process, reached through its sockets.

use super::*;
use crate::cli::DoctorCommand;
use crate::config::{Config, Flags, Listen};
use crate::http::client;
use crate::test_directory::TestDirectory;
use serde_json::{json, Value};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

fn config(directory: &TestDirectory) -> Config {
    let any = || Some(Listen { host: "127.0.0.1".to_owned(), port: 0 });
    let mut config = Config { data: directory.path().join("data"), shards: 2, ..Config::default() };
    config.listen.kafka = any();
    config.listen.amqp = any();
    config.listen.mqtt = any();
    config.listen.http = any();
    config.storage.wal_file_bytes = 4 << 20;
    config
}

fn address(broker: &Broker, key: &str) -> SocketAddr {
    broker.listeners().iter().find(|(name, _)| *name == key).expect("it is on").1
}

fn http(broker: &Broker, method: &str, path: &str, body: Option<Value>) -> Value {
    client::request(&address(broker, "http").to_string(), method, path, body.as_ref()).unwrap()
}

fn page(broker: &Broker, path: &str) -> String {
    let address = address(broker, "http");
    let mut socket = TcpStream::connect(address).unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn what_was_created_is_there_after_a_restart() {
    let directory = TestDirectory::new("node");
    let config = config(&directory);
    let broker = Broker::start(&config).unwrap();
    assert_eq!(http(&broker, "GET", "/health/ready", None), json!({"status": "ready"}));
    http(&broker, "POST", "/koine/v1/topics", Some(json!({"name": "orders", "partitions": 3})));
    http(&broker, "POST", "/koine/v1/queues", Some(json!({"name": "jobs"})));
    broker.stop();

    let mut other = config.clone();
    other.shards = 1;
    let broker = Broker::start(&other).unwrap();
    let topics = http(&broker, "GET", "/koine/v1/topics", None);
    assert_eq!(topics["items"][0]["partitions"], 3);
    assert_eq!(http(&broker, "GET", "/koine/v1/queues/jobs", None)["ready"], 0);
    let metrics = page(&broker, "/metrics");
    assert!(metrics.contains("koine_topic_partitions{topic=\"orders\"} 3\n"), "{metrics}");
    assert!(metrics.contains("koine_queue_ready_messages{queue=\"jobs\"} 0\n"));
    broker.stop();
}

#[test]
fn a_directory_and_a_port_have_one_owner() {
    let directory = TestDirectory::new("node");
    let first_config = config(&directory);
    let first = Broker::start(&first_config).unwrap();
    let error = Broker::start(&first_config).err().map(|error| error.to_string()).unwrap();
    assert!(error.ends_with(&format!("is in use by process {}", std::process::id())), "{error}");

    let elsewhere = TestDirectory::new("node");
    let mut second_config = config(&elsewhere);
    let taken = address(&first, "kafka");
    second_config.listen.kafka = Some(Listen { host: "127.0.0.1".to_owned(), port: taken.port() });
    let error = Broker::start(&second_config).err().map(|error| error.to_string()).unwrap();
    assert!(error.starts_with(&format!("kafka: cannot listen on {taken}")), "{error}");
    first.stop();
}

#[test]
fn too_many_connections_are_refused_and_counted() {
    let directory = TestDirectory::new("node");
    let mut config = config(&directory);
    config.limits.connections = 1;
    let broker = Broker::start(&config).unwrap();
    let mqtt = address(&broker, "mqtt");
    let first = TcpStream::connect(mqtt).unwrap();
    let mut second = TcpStream::connect(mqtt).unwrap();
    second.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // Refused means closed; which of the two is refused is decided by the order of arrival.
    assert!(matches!(second.read(&mut [0]), Ok(0) | Err(_)));
    assert!(page(&broker, "/metrics").contains(
        "koine_connections_rejected_total{protocol=\"mqtt\",reason=\"connections\"} 1\n"
    ));
    drop(first);
    // The place becomes free again.
    let asked = Instant::now();
    while !page(&broker, "/metrics").contains("koine_connections{protocol=\"mqtt\"} 0\n") {
        assert!(asked.elapsed() < Duration::from_secs(10), "the closed connection still counts");
    }
    broker.stop();
}

#[test]
fn an_address_of_others_is_refused_while_there_are_no_users() {
    let directory = TestDirectory::new("node");
    let mut config = config(&directory);
    config.listen.amqp = Some(Listen { host: "0.0.0.0".to_owned(), port: 0 });
    let error = Broker::start(&config).err().map(|error| error.to_string()).unwrap();
    assert!(error.contains("--insecure"), "{error}");
    config.insecure = true;
    Broker::start(&config).unwrap().stop();
}

#[test]
fn wal_files_fit_a_small_disk() {
    let check = |free_mib: u64, shards, expect_mib: u64| {
        assert_eq!(fitting(128 << 20, free_mib << 20, shards), expect_mib << 20, "{free_mib} MiB");
    };
    check(100_000, 2, 128);
    check(2048, 2, 128);
    check(1000, 2, 62);
    check(100, 1, 12);
    check(10, 8, 4);
}

/// Exit code and JSON of `koine doctor`.
fn doctor(config: &Config, repair: bool) -> Result<(String, Value), String> {
    let flags = Flags::default();
    let command = DoctorCommand { data: None, repair, json: true, flags };
    let mut out = Vec::new();
    let code = crate::doctor::run(&command, &config.data, &mut out)?;
    Ok((format!("{code:?}"), serde_json::from_slice(&out).unwrap()))
}

#[test]
fn the_doctor_and_the_start_agree_about_damage() {
    let code = |code: u8| format!("{:?}", std::process::ExitCode::from(code));
    let directory = TestDirectory::new("node");
    let config = config(&directory);
    assert!(doctor(&config, false).is_err(), "there is nothing to look at");
    let broker = Broker::start(&config).unwrap();
    http(&broker, "POST", "/koine/v1/topics", Some(json!({"name": "orders", "partitions": 3})));
    let error = doctor(&config, false).unwrap_err();
    assert!(error.contains("is in use"), "{error}");
    broker.stop();
    let (clean, report) = doctor(&config, false).unwrap();
    assert_eq!((clean, &report["clean"]), (code(0), &json!(true)), "{report}");

    let wal = config.data.join("shard-0/wal/1");
    let spoil = |mask: u8| {
        let mut bytes = std::fs::read(&wal).unwrap();
        bytes[4096 + 58] ^= mask;
        std::fs::write(&wal, bytes).unwrap();
    };
    spoil(0x10);
    let before = std::fs::read(&wal).unwrap();
    let (damaged, report) = doctor(&config, false).unwrap();
    assert_eq!((damaged, &report["prevents_start"]), (code(1), &json!(false)), "{report}");
    assert_eq!(report["findings"][0]["fault"], "bit");
    assert_eq!(std::fs::read(&wal).unwrap(), before, "looking changes nothing");
    let broker = Broker::start(&config).unwrap();
    let metrics = page(&broker, "/metrics");
    assert!(metrics.contains("koine_log_repaired_bits_total 1\n"), "{metrics}");
    broker.stop();
    assert_eq!(doctor(&config, false).unwrap().0, code(0));

    spoil(0x18);
    let (damaged, report) = doctor(&config, false).unwrap();
    assert_eq!((damaged, &report["prevents_start"]), (code(1), &json!(true)), "{report}");
    let error = Broker::start(&config).err().map(|error| error.to_string()).unwrap();
    assert!(error.contains("shard-0/wal/1 is damaged at 4096"), "{error}");
    let (repaired, report) = doctor(&config, true).unwrap();
    assert_eq!((repaired, &report["repair"]["starts"]), (code(1), &json!(true)), "{report}");
    let saved = PathBuf::from(report["repair"]["quarantine"].as_str().unwrap());
    assert!(saved.join("shard-0/wal/1").is_file());
    let broker = Broker::start(&config).unwrap();
    assert_eq!(http(&broker, "GET", "/health/ready", None), json!({"status": "ready"}));
    broker.stop();
    assert_eq!(doctor(&config, false).unwrap().0, code(0));
}
