//! SIGTERM: every client is told in its protocol's way, what was sent before is answered or not acknowledged, and the
//! process ends within bounds.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use crate::broker::{signal, Broker};
use crate::wait;
use crate::wire::{amqp, kafka, mqtt};

#[test]
fn every_protocol_says_goodbye_in_its_own_way() {
    let broker = Broker::start("goodbye");
    let at = broker.addresses.clone();
    let mut kafka = kafka::Client::connect(&at.kafka).unwrap();
    kafka.create_topic("t").unwrap();
    let mut amqp = amqp::Client::connect(&at.amqp).unwrap();
    let mut five = mqtt::Client::connect_level(5, &at.mqtt, "five", true).unwrap();
    let mut four = mqtt::Client::connect(&at.mqtt, "four", true).unwrap();
    let started = Instant::now();
    let stopping = std::thread::spawn(move || broker.stop());
    let close = amqp.expect(10, 50).unwrap();
    assert_eq!(close[..2], 320u16.to_be_bytes());
    assert!(String::from_utf8_lossy(&close).contains("CONNECTION_FORCED"));
    let (first, rest) = five.read().unwrap();
    assert_eq!((first, rest[0]), (0xE0, 0x8B), "DISCONNECT, server shutting down");
    assert_eq!(four.read().unwrap_err().kind(), ErrorKind::UnexpectedEof);
    kafka.closed().unwrap();
    drop((amqp, five, four, kafka));
    let (status, directory) = stopping.join().unwrap();
    assert!(status.success(), "{status}");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    drop(directory);
}

/// Publishers that never stop: what was confirmed before the end is there afterwards.
#[test]
fn a_stop_under_load_loses_nothing_that_was_acknowledged() {
    let broker = Broker::start("stop-under-load");
    let at = broker.addresses.clone();
    let mut setup = kafka::Client::connect(&at.kafka).unwrap();
    setup.create_topic("t").unwrap();
    amqp::Client::connect(&at.amqp).unwrap().declare("q").unwrap();
    let by_kafka = {
        let at = at.clone();
        std::thread::spawn(move || {
            let mut client = kafka::Client::connect(&at.kafka).unwrap();
            (0..).take_while(|_| client.produce("t", b"x").is_ok()).count()
        })
    };
    let by_amqp = std::thread::spawn(move || {
        let mut client = amqp::Client::connect(&at.amqp).unwrap();
        (0..).take_while(|_| client.publish("q", b"x").is_ok()).count()
    });
    wait::until("some load", Duration::from_secs(20), || {
        setup.fetch("t", 50).is_ok().then_some(())
    });
    let (status, directory) = broker.stop();
    assert!(status.success(), "{status}");
    let (produced, published) = (by_kafka.join().unwrap(), by_amqp.join().unwrap());
    assert!(produced > 50);
    let broker = Broker::start_in(directory, &[]);
    let mut reader = kafka::Client::connect(&broker.addresses.kafka).unwrap();
    assert_eq!(reader.fetch("t", produced as i64 - 1).unwrap(), b"x");
    let mut consumer = amqp::Client::connect(&broker.addresses.amqp).unwrap();
    for number in 0..published {
        assert!(consumer.get("q").unwrap().is_some(), "{number} of {published}");
    }
}

/// Fills what waits for a subscriber that does not read.
fn with_unread_output(broker: &Broker) -> (mqtt::Client, mqtt::Client) {
    let at = &broker.addresses;
    let mut deaf = mqtt::Client::connect(&at.mqtt, "deaf", true).unwrap();
    deaf.subscribe("flood").unwrap();
    let mut publisher = mqtt::Client::connect(&at.mqtt, "publisher", true).unwrap();
    for _ in 0..400 {
        publisher.publish_volatile("flood", &[7; 60_000]).unwrap();
    }
    // Answered when everything before is handed out.
    publisher.publish("elsewhere", b"").unwrap();
    (deaf, publisher)
}

#[test]
fn a_client_that_does_not_read_does_not_hold_up_the_end() {
    let broker = Broker::start("deaf");
    let (deaf, publisher) = with_unread_output(&broker);
    let started = Instant::now();
    let (status, directory) = broker.stop();
    assert!(status.success(), "{status}");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    drop((deaf, publisher, directory));
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    let mut broker = Broker::start("second-signal");
    let (deaf, publisher) = with_unread_output(&broker);
    signal(broker.id(), "TERM");
    wait::until("the first signal", Duration::from_secs(10), || {
        broker.log().contains("stopping").then_some(())
    });
    assert!(broker.is_running(), "it waits for the one that does not read");
    let second = Instant::now();
    signal(broker.id(), "TERM");
    let status = broker.wait();
    assert_eq!(status.code(), Some(130));
    assert!(second.elapsed() < Duration::from_secs(3), "{:?}", second.elapsed());
    drop((deaf, publisher));
}
