//! MQTT QoS 2 over crashes: the broker is killed again and again under load, publisher and subscriber come back to
//! their sessions and repeat what was not acknowledged, and every message is read once: by the subscriber, by a
//! consumer of a bound AMQP queue and by a Kafka reader of the topic.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::broker::Broker;
use crate::wait;
use crate::wire::{amqp, kafka, mqtt};

const KILLS: usize = 4;
/// Exchanges completed before each kill.
const COMPLETED_PER_LIFE: usize = 250;
/// Exchanges a publisher has open at once.
const OPEN_MAX: usize = 64;
const LIMIT: Duration = Duration::from_secs(60);

const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;
const PUBREC: u8 = 5;
const PUBREL: u8 = 6;
const PUBCOMP: u8 = 7;

fn acknowledgement(kind: u8, identifier: u16) -> Vec<u8> {
    let flags = if kind == PUBREL { 2 } else { 0 };
    mqtt::packet(kind << 4 | flags, &identifier.to_be_bytes())
}

fn identifier_of(rest: &[u8]) -> u16 {
    u16::from_be_bytes([rest[0], rest[1]])
}

/// A publisher's side of MQTT 3.1.1 §4.3.3, with what has to survive its connections.
#[derive(Default)]
struct Publisher {
    next: u32,
    /// Open exchanges in order: identifier, number, and whether PUBREC came.
    open: VecDeque<(u16, u32, bool)>,
    completed: usize,
}

impl Publisher {
    fn packet(&self, identifier: u16, number: u32, received: bool, again: bool) -> Vec<u8> {
        match received {
            true => acknowledgement(PUBREL, identifier),
            false => {
                mqtt::publish_once(identifier, "once/topic", number.to_string().as_bytes(), again)
            }
        }
    }

    /// The lowest free identifier, so that each is used again and again.
    fn free_identifier(&self) -> u16 {
        let used: BTreeSet<u16> = self.open.iter().map(|(identifier, ..)| *identifier).collect();
        (1..).find(|identifier| !used.contains(identifier)).unwrap()
    }

    /// Goes on until the connection breaks or, once `stop` is set, nothing is open.
    fn run(&mut self, address: &str, stop: &AtomicBool, done: &AtomicUsize) -> io::Result<()> {
        let mut client = mqtt::Client::connect(address, "once-writer", false)?;
        for (identifier, number, received) in &self.open {
            client.send(&self.packet(*identifier, *number, *received, true))?;
        }
        loop {
            while self.open.len() < OPEN_MAX && !stop.load(Ordering::Relaxed) {
                let identifier = self.free_identifier();
                // Noted before it is sent, as a client with a store does.
                self.open.push_back((identifier, self.next, false));
                self.next += 1;
                client.send(&self.packet(identifier, self.next - 1, false, false))?;
            }
            if self.open.is_empty() {
                return Ok(());
            }
            let (first, rest) = client.read()?;
            let identifier = identifier_of(&rest);
            let at = self.open.iter().position(|(open, ..)| *open == identifier);
            let at = at.expect("an acknowledgement of nothing");
            match first >> 4 {
                PUBREC => {
                    self.open[at].2 = true;
                    client.send(&acknowledgement(PUBREL, identifier))?;
                }
                PUBCOMP => {
                    self.open.remove(at);
                    self.completed += 1;
                    done.store(self.completed, Ordering::Relaxed);
                }
                other => panic!("a publisher got packet {other}"),
            }
        }
    }
}

/// A subscriber's side, likewise.
#[derive(Default)]
struct Subscriber {
    /// Identifiers whose PUBREL has not come.
    held: BTreeSet<u16>,
    read: Vec<u32>,
}

impl Subscriber {
    fn run(&mut self, address: &str, wanted: &AtomicUsize) -> io::Result<()> {
        let mut client = mqtt::Client::connect(address, "once-reader", false)?;
        client.send(&mqtt::subscribe_at(1, "once/topic", 2))?;
        loop {
            if self.read.len() >= wanted.load(Ordering::Relaxed) && self.held.is_empty() {
                return Ok(());
            }
            let (first, rest) = client.read()?;
            match first >> 4 {
                PUBLISH => {
                    // The marker at the end is a Kafka record, which comes with QoS 1.
                    let once = first & 0b110 == 0b100;
                    let topic = 2 + usize::from(identifier_of(&rest));
                    let identifier = identifier_of(&rest[topic..]);
                    let number = std::str::from_utf8(&rest[topic + 2..]).unwrap().parse().unwrap();
                    if !once || self.held.insert(identifier) {
                        self.read.push(number);
                    }
                    let kind = if once { PUBREC } else { PUBACK };
                    client.send(&acknowledgement(kind, identifier))?;
                }
                PUBREL => {
                    let identifier = identifier_of(&rest);
                    self.held.remove(&identifier);
                    client.send(&acknowledgement(PUBCOMP, identifier))?;
                }
                9 => {}
                other => panic!("a subscriber got packet {other}"),
            }
        }
    }
}

/// Runs `life` on the broker's address of the moment, again after each lost connection, until it is done.
fn keep_running(
    address: Arc<Mutex<String>>,
    mut life: impl FnMut(&str) -> io::Result<()> + Send + 'static,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || loop {
        let now = address.lock().unwrap().clone();
        if life(&now).is_ok() {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(5));
    })
}

fn once_each(reader: &str, mut read: Vec<u32>, count: u32) {
    let first_seen = read.clone();
    read.sort_unstable();
    let repeated = read.windows(2).filter(|pair| pair[0] == pair[1]).count();
    let missing = (0..count).filter(|number| read.binary_search(number).is_err()).count();
    assert_eq!((repeated, missing), (0, 0), "{reader}: repeated and missing of {count}");
    assert_eq!(first_seen, read, "{reader}: in order");
}

#[test]
fn qos_2_is_exactly_once_over_kill_9() {
    let mut broker = Broker::start("once");
    let mut topics = kafka::Client::connect(&broker.addresses.kafka).unwrap();
    topics.create_topic("once.topic").unwrap();
    let mut queues = amqp::Client::connect(&broker.addresses.amqp).unwrap();
    queues.declare("once-queue").unwrap();
    queues.bind("once-queue", "once.topic").unwrap();
    let mut reader = mqtt::Client::connect(&broker.addresses.mqtt, "once-reader", false).unwrap();
    reader.send(&mqtt::subscribe_at(1, "once/topic", 2)).unwrap();
    assert_eq!(reader.read().unwrap().0, 0x90);
    drop((topics, queues, reader));

    let address = Arc::new(Mutex::new(broker.addresses.mqtt.clone()));
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let wanted = Arc::new(AtomicUsize::new(usize::MAX));
    let publisher = Arc::new(Mutex::new(Publisher::default()));
    let subscriber = Arc::new(Mutex::new(Subscriber::default()));
    let publishing = {
        let (publisher, stop, done) =
            (Arc::clone(&publisher), Arc::clone(&stop), Arc::clone(&done));
        keep_running(Arc::clone(&address), move |at| {
            publisher.lock().unwrap().run(at, &stop, &done)
        })
    };
    let subscribing = {
        let (subscriber, wanted) = (Arc::clone(&subscriber), Arc::clone(&wanted));
        keep_running(Arc::clone(&address), move |at| subscriber.lock().unwrap().run(at, &wanted))
    };
    for life in 1..=KILLS {
        wait::until("completed exchanges", LIMIT, || {
            (done.load(Ordering::Relaxed) >= life * COMPLETED_PER_LIFE).then_some(())
        });
        broker = Broker::start_in(broker.kill(), &[]);
        *address.lock().unwrap() = broker.addresses.mqtt.clone();
    }
    stop.store(true, Ordering::Relaxed);
    publishing.join().unwrap();
    let count = publisher.lock().unwrap().next;
    // The subscriber of the subject sees the marker as well, and stops at it.
    wanted.store(count as usize + 1, Ordering::Relaxed);
    let mut marker = kafka::Client::connect(&broker.addresses.kafka).unwrap();
    let end = marker.produce("once.topic", count.to_string().as_bytes()).unwrap();
    subscribing.join().unwrap();

    let number = |body: Vec<u8>| String::from_utf8(body).unwrap().parse::<u32>().unwrap();
    let in_topic = (0..end).map(|offset| number(marker.fetch("once.topic", offset).unwrap()));
    once_each("Kafka", in_topic.collect(), count);
    let mut queue = amqp::Client::connect(&broker.addresses.amqp).unwrap();
    let mut consumed = Vec::new();
    while let Some(body) = queue.get("once-queue").unwrap() {
        consumed.push(number(body));
    }
    once_each("AMQP", consumed, count + 1);
    let subscriber = subscriber.lock().unwrap();
    once_each("MQTT", subscriber.read.clone(), count + 1);
}
