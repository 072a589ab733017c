//! What is around the connections: files, logs, browsers.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::Path;

use super::{serves, start_secured, LOW, PASSWORD};
use crate::broker::{Broker, Directory, CANARY};
use crate::wire::{amqp, kafka, mqtt, open};

/// Every path below a directory.
fn paths(directory: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(paths(&path));
        }
        found.insert(path.to_string_lossy().into_owned());
    }
    found
}

/// No name that a peer gives becomes one of a file.
#[test]
fn path_traversal() {
    let mut broker = Broker::start("class-path");
    let at = broker.addresses.clone();
    let root = broker.directory.path().to_owned();
    let outside = || {
        let entries = std::fs::read_dir(root.parent().unwrap()).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).filter(|name| name == "traversed").count()
    };
    let long = "traversed".repeat(28);
    let names = [
        "../../traversed",
        "../traversed",
        "traversed/../../traversed",
        "/tmp/traversed",
        "traversed\0x",
        "traversed\\..\\..\\traversed",
        "..",
        ".",
        "Traversed",
        "traversed",
        "traversed.",
        "\u{202e}traversed",
        &long,
    ];
    for name in names {
        if let Ok(mut client) = kafka::Client::connect(&at.kafka) {
            let _ = client.try_create_topic(name);
            let _ = client.try_produce(name, b"x");
            let _ = client.try_commit(name, name, 0);
        }
        let mut client = amqp::Client::connect(&at.amqp).unwrap();
        let _ = client.declare(name).and_then(|()| client.publish(name, b"x"));
        if let Ok(mut client) = mqtt::Client::connect(&at.mqtt, name, false) {
            let _ = client.subscribe(name).and_then(|()| client.publish(name, b"x"));
        }
    }
    serves(&mut broker, "after");
    let hostile: Vec<String> = paths(&root)
        .into_iter()
        .filter(|path| path[root.to_string_lossy().len()..].to_lowercase().contains("traversed"))
        .collect();
    assert!(hostile.is_empty(), "{hostile:?}");
    assert_eq!(outside(), 0);
    assert!(!Path::new("/tmp/traversed").exists());
}

/// Logins that succeed and fail, at the most talkative level: the passwords are nowhere. (Every other test looks into
/// its broker's log as well.)
#[test]
fn secrets_in_logs() {
    let arguments = ["--log-level", "trace"];
    let broker = Broker::start_in(Directory::new("class-secrets"), &arguments);
    crate::access::secure(&broker);
    crate::access::add_user(&broker, LOW, PASSWORD, ["^low"; 3]);
    let at = &broker.addresses;
    let wrong = "canary-wrong-1177";
    for password in [PASSWORD, wrong] {
        let is_right = password == PASSWORD;
        assert_eq!(kafka::Client::login(&at.kafka, LOW, password).is_ok(), is_right);
        assert_eq!(amqp::Client::login(&at.amqp, LOW, password).is_ok(), is_right);
        assert_eq!(mqtt::Client::login(5, &at.mqtt, "x", LOW, password).is_ok(), is_right);
    }
    // In a place where no password is awaited it is refused, not repeated.
    let mut client = mqtt::Client::raw(&at.mqtt, 5).unwrap();
    client.send(&mqtt::connect_as(9, "x", LOW, PASSWORD)).unwrap();
    let _ = client.read();
    for line in ["users list --json", "users describe low --json", "permissions list --json"] {
        let said = crate::access::administer(&broker, line, "");
        assert!(!said.contains(CANARY), "{line}");
    }
    let log = broker.log();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "nothing is traced: {log}");
    assert!(!log.contains(CANARY), "{log}");
}

/// A page in the administrator's browser is not the administrator, and neither is a name that leads here.
#[test]
fn other_web_sites() {
    let broker = start_secured("class-web");
    let at = &broker.addresses.http;
    let status = |head: String| -> u16 {
        let mut stream = open(at).unwrap();
        write!(stream, "{head}Connection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(!answer.to_lowercase().contains("access-control-allow-origin"), "{answer}");
        assert!(!answer.to_lowercase().contains("set-cookie"), "{answer}");
        answer.split_whitespace().nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
    };
    // admin:canary-admin-3f9c
    let login = "Authorization: Basic YWRtaW46Y2FuYXJ5LWFkbWluLTNmOWM=\r\n";
    for (line, headers, expect) in [
        ("GET /koine/v1/users", String::new(), 200),
        ("GET /koine/v1/users", "Origin: http://evil.example\r\n".to_owned(), 403),
        ("GET /koine/v1/users", "Origin: null\r\n".to_owned(), 403),
        ("POST /koine/v1/topics", "Origin: http://evil.example\r\n".to_owned(), 403),
    ] {
        let head = format!("{line} HTTP/1.1\r\nHost: {at}\r\n{login}{headers}");
        assert_eq!(status(head), expect, "{line} {headers}");
    }
    let open = Broker::start("class-web-open");
    let at = &open.addresses.http;
    for (host, expect) in [(at.as_str(), 200), ("evil.example", 403), ("evil.example:15672", 403)] {
        let mut stream = crate::wire::open(at).unwrap();
        let head = "GET /koine/v1/topics HTTP/1.1";
        write!(stream, "{head}\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let code: u16 = answer.split_whitespace().nth(1).unwrap().parse().unwrap();
        assert_eq!(code, expect, "{host}");
    }
}
