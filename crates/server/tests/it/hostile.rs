//! Peers that send rubbish: random bytes, cut and bent requests, absurd lengths, another protocol's bytes. The broker
//! must not panic, must stay within a bound of memory, must let go of their connections, and clients that behave must
//! not notice.
//!
//! `KOINE_HOSTILE_TRIES` sets the tries per listener (`cargo xtask hostile --tries N`), `KOINE_HOSTILE_SEED` the
//! random numbers; the seed is printed.

mod attacks;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::broker::{Addresses, Broker};
use crate::wait;
use crate::wire::{amqp, kafka, mqtt};
use attacks::{Attacks, Listener};

/// Tries per listener when the variable is not set: a few seconds.
const TRIES: u64 = 3_000;
/// Tries before memory is looked at for the first time: caches and pools have filled by then.
const WARM_UP_TRIES: u64 = 200;
/// Memory that may have been gained over all tries: pools, fragmentation, topics that a bent request created.
const GAIN_BYTES_MAX: u64 = 64 << 20;
/// Descriptors that may be left over once the peers are gone.
const LEFT_DESCRIPTORS_MAX: usize = 8;
/// The longest that a good client may wait for one round trip while the attack runs.
const GOOD_LIMIT: Duration = Duration::from_secs(10);
/// How long one try waits for the broker's reaction.
const REACTION_LIMIT: Duration = Duration::from_millis(200);

fn variable(name: &str, otherwise: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => otherwise,
    }
}

/// One hostile connection: send, sometimes half-close and read what comes, then drop.
fn attack_once(address: &str, bytes: &[u8], polite: bool) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else {
        return false;
    };
    let _ = stream.set_write_timeout(Some(REACTION_LIMIT));
    let _ = stream.set_read_timeout(Some(REACTION_LIMIT));
    let _ = stream.write_all(bytes);
    if polite {
        let _ = stream.shutdown(Shutdown::Write);
        let mut sink = [0; 4096];
        while matches!(stream.read(&mut sink), Ok(count) if count > 0) {}
    }
    true
}

fn attack(address: &str, listener: Listener, seed: u64, tries: u64) {
    let mut attacks = Attacks::new(listener, seed);
    let mut refused = 0;
    for number in 0..tries {
        let bytes = attacks.next();
        // One in eight waits for the reaction; the others vanish at once.
        match attack_once(address, &bytes, number % 8 == 0) {
            true => refused = 0,
            false => refused += 1,
        }
        assert!(refused < 50, "{listener:?} has stopped accepting at try {number}, seed {seed}");
    }
}

fn attack_all(at: &Addresses, seed: u64, tries: u64) {
    std::thread::scope(|scope| {
        for (listener, address) in [
            (Listener::Kafka, &at.kafka),
            (Listener::Amqp, &at.amqp),
            (Listener::Mqtt, &at.mqtt),
            (Listener::Http, &at.http),
        ] {
            scope.spawn(move || attack(address, listener, seed ^ listener as u64, tries));
        }
    });
}

/// Round trips of clients that behave, one after the other, until told to stop.
fn behave(name: &str, done: &AtomicBool, slowest_us: &AtomicU64, mut round_trip: impl FnMut(u64)) {
    let mut count = 0;
    while !done.load(Ordering::Relaxed) {
        let start = Instant::now();
        round_trip(count);
        let took = start.elapsed();
        assert!(took < GOOD_LIMIT, "{name}: round trip {count} took {took:?}");
        slowest_us.fetch_max(took.as_micros() as u64, Ordering::Relaxed);
        count += 1;
    }
    println!("{name}: {count} round trips, the slowest {} us", slowest_us.load(Ordering::Relaxed));
    assert!(count > 0, "{name}: not one round trip");
}

fn behave_on_kafka(at: &Addresses, done: &AtomicBool) {
    let mut writer = kafka::Client::connect(&at.kafka).unwrap();
    writer.create_topic("good").unwrap();
    let mut reader = kafka::Client::connect(&at.kafka).unwrap();
    behave("kafka", done, &AtomicU64::new(0), |number| {
        let value = number.to_be_bytes();
        let offset = writer.produce("good", &value).unwrap();
        assert_eq!(offset, number as i64);
        assert_eq!(reader.fetch("good", offset).unwrap(), value);
    });
}

fn behave_on_amqp(at: &Addresses, done: &AtomicBool) {
    let mut client = amqp::Client::connect(&at.amqp).unwrap();
    client.declare("good-queue").unwrap();
    behave("amqp", done, &AtomicU64::new(0), |number| {
        let body = number.to_be_bytes();
        client.publish("good-queue", &body).unwrap();
        assert_eq!(client.get("good-queue").unwrap().unwrap(), body);
    });
}

fn behave_on_mqtt(at: &Addresses, done: &AtomicBool) {
    let mut reader = mqtt::Client::connect(&at.mqtt, "good-reader", true).unwrap();
    reader.subscribe("good/subject").unwrap();
    let mut writer = mqtt::Client::connect(&at.mqtt, "good-writer", true).unwrap();
    behave("mqtt", done, &AtomicU64::new(0), |number| {
        let body = number.to_be_bytes();
        writer.publish("good/subject", &body).unwrap();
        assert_eq!(reader.receive().unwrap(), body);
    });
}

#[test]
fn hostile_peers_change_nothing() {
    let tries = variable("KOINE_HOSTILE_TRIES", TRIES);
    let seed = variable("KOINE_HOSTILE_SEED", u64::from(std::process::id()));
    println!("{tries} tries per listener, seed {seed}");
    let mut broker = Broker::start("hostile");
    let at = &broker.addresses;
    attack_all(at, seed, WARM_UP_TRIES.min(tries));
    let (memory, descriptors) = (broker.resident_bytes(), broker.descriptor_count());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| behave_on_kafka(at, &done));
        scope.spawn(|| behave_on_amqp(at, &done));
        scope.spawn(|| behave_on_mqtt(at, &done));
        let attackers = scope.spawn(|| attack_all(at, seed.wrapping_add(1), tries));
        let outcome = attackers.join();
        done.store(true, Ordering::Relaxed);
        outcome.unwrap();
    });
    let log = broker.log();
    assert!(broker.is_running(), "the broker is gone:\n{log}");
    assert!(!log.contains("panicked"), "a panic:\n{log}");
    let left = wait::poll(Duration::from_secs(30), || {
        (broker.descriptor_count() <= descriptors + LEFT_DESCRIPTORS_MAX).then_some(())
    });
    assert!(left.is_some(), "{} descriptors, {descriptors} before", broker.descriptor_count());
    let gained = broker.resident_bytes().saturating_sub(memory);
    println!("memory {} MiB, gained {} KiB", memory >> 20, gained >> 10);
    assert!(gained < GAIN_BYTES_MAX, "gained {gained} bytes");
}
