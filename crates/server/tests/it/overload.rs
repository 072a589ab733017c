//! A node that runs short of disk or memory: publishers are slowed down in their protocol's own way, consumers go on,
//! and service returns by itself.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::broker::{koine, Broker, Directory};
use crate::command_line::http_get;
use crate::wait;
use crate::wire::{amqp, kafka, mqtt};

/// The disk is looked at every second at most.
const ALARM_LIMIT: Duration = Duration::from_secs(10);
const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

pub fn metric(broker: &Broker, name: &str) -> u64 {
    let (_, page) = http_get(&broker.addresses.http, "/metrics");
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
}

fn wait_for_alarm(broker: &Broker, resource: &str, value: u64) {
    let name = format!("koine_alarm{{resource=\"{resource}\"}}");
    wait::until(&name, ALARM_LIMIT, || (metric(broker, &name) == value).then_some(()));
}

fn free_bytes(path: &Path) -> u64 {
    let mut df = Command::new("df");
    let output = df.args(["--output=avail", "-B1"]).arg(path).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().last().and_then(|line| line.trim().parse().ok()).unwrap_or(0)
}

#[test]
fn a_start_below_the_disk_mark_serves_consumers_and_says_why_nothing_is_published() {
    let broker = Broker::start("disk-mark");
    let mut writer = kafka::Client::connect(&broker.addresses.kafka).unwrap();
    writer.create_topic("kept").unwrap();
    assert_eq!(writer.produce("kept", b"before").unwrap(), 0);
    let (_, directory) = broker.stop();

    // More than any disk has.
    let broker = Broker::start_in(directory, &["--storage-free-min", "1000000TiB"]);
    let at = &broker.addresses;
    let (status, ready) = http_get(&at.http, "/health/ready");
    assert_eq!(status, 200, "consumers are served: {ready}");
    assert!(ready.contains("\"resource\":\"disk\""), "{ready}");
    assert_eq!(metric(&broker, "koine_alarm{resource=\"disk\"}"), 1);
    let shown = koine().args(["status", "--http", &at.http]).output().unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("disk") && shown.contains("publishers wait"), "{shown}");

    let mut client = kafka::Client::connect(&at.kafka).unwrap();
    assert_eq!(client.fetch("kept", 0).unwrap(), b"before");
    client.commit("group", "kept", 1).unwrap();
    let (code, _, throttle_ms) = client.try_produce("kept", b"refused").unwrap();
    assert_eq!((code, throttle_ms), (56, 1000), "KAFKA_STORAGE_ERROR, which producers retry");
    let mut five = mqtt::Client::connect_level(5, &at.mqtt, "five", true).unwrap();
    five.subscribe_5("kept").unwrap();
    assert_eq!(five.publish_reason("kept", b"refused").unwrap(), 0x97);
}

/// What a consumer had goes to another when it is killed, also while what it publishes waits: it is
/// consumers that end an alarm.
#[test]
fn a_peer_that_is_gone_is_noticed_while_it_is_not_read() {
    let broker = Broker::start("gone-unread");
    let mut publisher = amqp::Client::connect(&broker.addresses.amqp).unwrap();
    publisher.declare("q").unwrap();
    publisher.publish("q", b"one").unwrap();
    let (_, directory) = broker.stop();

    let broker = Broker::start_in(directory, &["--storage-free-min", "1000000TiB"]);
    let at = &broker.addresses;
    let mut client = amqp::Client::connect(&at.amqp).unwrap();
    assert_eq!(client.get_unsettled("q").unwrap().as_deref(), Some(&b"one"[..]));
    client.send(&amqp::basic_publish("q", b"two")).unwrap();
    client.expect(10, 60).unwrap();
    client.reset();
    let mut other = amqp::Client::connect(&at.amqp).unwrap();
    let got = wait::until("the message", ALARM_LIMIT, || other.get("q").unwrap());
    assert_eq!(got, b"one");
    assert_eq!(metric(&broker, "koine_alarm{resource=\"disk\"}"), 1, "all the while");
}

/// Space is really taken, and given back.
#[test]
fn publishers_wait_while_the_disk_is_filled_by_others_and_go_on_when_it_is_not() {
    let directory = Directory::new("ballast");
    let free = free_bytes(directory.path());
    if free < 8 * GIB {
        println!("skipped: needs 8 GiB of free disk, there are {free} bytes");
        return;
    }
    let mark = (free - 2 * GIB).to_string();
    let broker = Broker::start_in(directory, &["--storage-free-min", &mark]);
    let at = &broker.addresses;
    let mut producer = kafka::Client::connect(&at.kafka).unwrap();
    producer.create_topic("t").unwrap();
    assert_eq!(producer.produce("t", b"first").unwrap(), 0);
    let mut publisher = amqp::Client::connect(&at.amqp).unwrap();
    publisher.declare("q").unwrap();
    publisher.publish("q", b"one").unwrap();
    let mut old = mqtt::Client::connect(&at.mqtt, "old", true).unwrap();
    old.subscribe("own").unwrap();

    let ballast = broker.directory.path().join("ballast");
    let made = Command::new("fallocate").args(["-l", "4G"]).arg(&ballast).status();
    if !made.is_ok_and(|status| status.success()) {
        println!("skipped: the file system cannot set space aside");
        return;
    }
    wait_for_alarm(&broker, "disk", 1);
    // connection.blocked, because it has published; the reason is its only argument.
    let blocked = publisher.expect(10, 60).unwrap();
    assert_eq!(blocked[1..], *b"low on disk");
    publisher.send(&amqp::basic_publish("q", b"two")).unwrap();
    old.send(&mqtt::publish(9, "own", b"three")).unwrap();
    assert_eq!(producer.try_produce("t", b"refused").unwrap().0, 56);
    let mut consumer = amqp::Client::connect(&at.amqp).unwrap();
    assert_eq!(consumer.get("q").unwrap().as_deref(), Some(&b"one"[..]));
    assert_eq!(consumer.get("q").unwrap(), None, "what waits is not stored");

    std::fs::remove_file(&ballast).unwrap();
    wait_for_alarm(&broker, "disk", 0);
    publisher.expect(10, 61).unwrap();
    publisher.expect(60, 80).unwrap();
    // Both its own publish comes back and the acknowledgement for it.
    let first = old.read().unwrap().0;
    let second = old.read().unwrap().0;
    assert!([first, second].contains(&0x40), "{first:x} {second:x}");
    assert_eq!(consumer.get("q").unwrap().as_deref(), Some(&b"two"[..]));
    let retried = wait::until("the retry", ALARM_LIMIT, || producer.produce("t", b"second").ok());
    assert_eq!(retried, 1, "what was refused is not there");
    let (_, ready) = http_get(&at.http, "/health/ready");
    assert!(!ready.contains("alarms"), "{ready}");
}

#[test]
fn subscribers_that_do_not_read_cost_no_more_than_the_budget() {
    const SUBSCRIBERS: usize = 60;
    let arguments = ["--limits-memory", "16MiB", "--shards", "1"];
    let broker = Broker::start_in(Directory::new("slow"), &arguments);
    let at = &broker.addresses;
    let mut slow = Vec::new();
    for number in 0..SUBSCRIBERS {
        let mut client = mqtt::Client::connect(&at.mqtt, &format!("slow{number}"), true).unwrap();
        client.subscribe("flood").unwrap();
        slow.push(client);
    }
    let before = broker.resident_bytes();
    let mut publisher = mqtt::Client::connect(&at.mqtt, "publisher", true).unwrap();
    let body = [7; 900];
    let name = "koine_messages_dropped_total{protocol=\"mqtt\",reason=\"memory\"}";
    wait::until("a full budget", Duration::from_secs(60), || {
        for _ in 0..500 {
            publisher.publish_volatile("flood", &body).unwrap();
        }
        (metric(&broker, name) > 50_000).then_some(())
    });
    let gained = broker.resident_bytes().saturating_sub(before);
    // Without the budget each would have 4 MiB: 240 MiB.
    assert!(gained < 80 * MIB, "{gained}");
    let held = metric(&broker, "koine_connection_memory_bytes{of=\"output\"}");
    assert!(held < 12 * MIB, "{held}");
    let mut reader = mqtt::Client::connect(&at.mqtt, "reader", true).unwrap();
    reader.subscribe("other").unwrap();
    publisher.publish("other", b"still served").unwrap();
    assert_eq!(reader.receive().unwrap(), b"still served");
}

#[test]
fn large_messages_of_many_publishers_are_taken_one_after_the_other() {
    const PUBLISHERS: usize = 20;
    const BODY_BYTES: usize = 8 << 20;
    let arguments = ["--limits-memory", "8MiB", "--storage-tail-cache", "1MiB", "--shards", "1"];
    let broker = Broker::start_in(Directory::new("large"), &arguments);
    let at = &broker.addresses;
    amqp::Client::connect(&at.amqp).unwrap().declare("q").unwrap();
    let before = broker.resident_bytes();
    let mut highest = 0;
    std::thread::scope(|scope| {
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|number| {
                scope.spawn(move || {
                    let body = vec![number as u8; BODY_BYTES];
                    let mut client = amqp::Client::connect(&at.amqp).unwrap();
                    client.send(&amqp::basic_publish("q", &body)).unwrap();
                    // It may be told that it is blocked, and that it is not any more.
                    while client.expect(60, 80).is_err() {}
                })
            })
            .collect();
        while !publishers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            highest = highest.max(broker.resident_bytes());
            std::thread::park_timeout(Duration::from_millis(2));
        }
    });
    let gained = highest.saturating_sub(before);
    // All at once are 160 MiB, and more while they are written.
    assert!(gained < 96 * MIB, "{gained}");
    let mut consumer = amqp::Client::connect(&at.amqp).unwrap();
    for _ in 0..PUBLISHERS {
        let body = consumer.get("q").unwrap().expect("each was confirmed");
        assert_eq!(body.len(), BODY_BYTES);
    }
    wait_for_alarm(&broker, "memory", 0);
}
