//! What hostile peers send, from a seed: the same seed gives the same bytes.

use crate::wire::{amqp, kafka, mqtt};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Listener {
    Kafka = 1,
    Amqp,
    Mqtt,
    Http,
}

const LISTENERS: [Listener; 4] = [Listener::Kafka, Listener::Amqp, Listener::Mqtt, Listener::Http];
/// The most random bytes in one try.
const RANDOM_BYTES_MAX: u64 = 4_096;

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    fn bytes(&mut self, count: u64) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}

/// The endless sequence of attacks on one listener.
pub struct Attacks {
    listener: Listener,
    random: Random,
}

impl Attacks {
    pub fn new(listener: Listener, seed: u64) -> Attacks {
        Attacks { listener, random: Random(seed) }
    }

    pub fn next(&mut self) -> Vec<u8> {
        match self.random.below(8) {
            0 => self.noise(),
            1 => self.cut(),
            2 | 3 => self.bent(),
            4 => self.absurd_length(),
            5 => self.other_protocol(),
            6 => self.header_then_noise(),
            _ => self.repeated_and_bent(),
        }
    }

    fn noise(&mut self) -> Vec<u8> {
        let count = self.random.below(RANDOM_BYTES_MAX);
        self.random.bytes(count)
    }

    /// A valid conversation, broken off somewhere.
    fn cut(&mut self) -> Vec<u8> {
        let mut bytes = conversation(self.listener, &mut self.random);
        bytes.truncate(self.random.below(bytes.len() as u64) as usize);
        bytes
    }

    /// A valid conversation with a few bytes changed.
    fn bent(&mut self) -> Vec<u8> {
        let mut bytes = conversation(self.listener, &mut self.random);
        for _ in 0..1 + self.random.below(4) {
            self.bend(&mut bytes);
        }
        bytes
    }

    fn bend(&mut self, bytes: &mut Vec<u8>) {
        let at = self.random.below(bytes.len() as u64) as usize;
        match self.random.below(6) {
            0 => bytes[at] ^= 1 << self.random.below(8),
            1 => bytes[at] = self.random.next() as u8,
            2 => bytes[at] = *self.random.pick(&[0, 0x7f, 0x80, 0xff]),
            3 => drop(bytes.remove(at)),
            4 => bytes.insert(at, self.random.next() as u8),
            _ => {
                // Four bytes of a length or a count.
                let extreme: [u8; 4] = *self.random.pick(&[
                    [0xff; 4],
                    [0x7f, 0xff, 0xff, 0xff],
                    [0x80, 0, 0, 0],
                    [0; 4],
                ]);
                let end = (at + 4).min(bytes.len());
                bytes[at..end].copy_from_slice(&extreme[..end - at]);
            }
        }
        if bytes.is_empty() {
            bytes.push(0);
        }
    }

    /// A frame that announces far more, or less than nothing.
    fn absurd_length(&mut self) -> Vec<u8> {
        let length = *self.random.pick(&[u32::MAX, 1 << 31, (1 << 31) - 1, 100 << 20, 1, 0]);
        let noise = self.noise();
        let mut bytes = match self.listener {
            Listener::Kafka => length.to_be_bytes().to_vec(),
            Listener::Amqp => {
                let mut bytes = amqp::PROTOCOL_HEADER.to_vec();
                bytes.extend([1 + self.random.below(8) as u8, 0, 0]);
                bytes.extend(length.to_be_bytes());
                bytes
            }
            Listener::Mqtt => {
                let mut bytes = vec![*self.random.pick(&[0x10u8, 0x30, 0x32, 0x82, 0xf0])];
                bytes.extend(
                    self.random
                        .pick(&[&[0xff; 4][..], &[0xff, 0xff, 0xff, 0x7f], &[0x80; 6], &[0]])
                        .iter(),
                );
                bytes
            }
            Listener::Http => {
                format!("POST / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n").into_bytes()
            }
        };
        bytes.extend(noise);
        bytes
    }

    /// A whole valid conversation of another listener.
    fn other_protocol(&mut self) -> Vec<u8> {
        let other: Vec<Listener> =
            LISTENERS.into_iter().filter(|other| *other != self.listener).collect();
        match self.random.below(5) {
            0 => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), // the start of TLS
            1 => b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
            _ => {
                let other = *self.random.pick(&other);
                conversation(other, &mut self.random)
            }
        }
    }

    /// The right greeting, then noise.
    fn header_then_noise(&mut self) -> Vec<u8> {
        let mut bytes = match self.listener {
            Listener::Kafka => kafka::request(18, 0, 1, &kafka::api_versions_body()),
            Listener::Amqp => [amqp::PROTOCOL_HEADER, &amqp::start_ok()].concat(),
            Listener::Mqtt => mqtt::connect(*self.random.pick(&[4, 5]), "noisy", true),
            Listener::Http => b"GET / HTTP/1.1\r\n".to_vec(),
        };
        bytes.extend(self.noise());
        bytes
    }

    /// The same conversation several times on one connection, the last time bent.
    fn repeated_and_bent(&mut self) -> Vec<u8> {
        let once = conversation(self.listener, &mut self.random);
        let mut bytes = once.repeat(1 + self.random.below(4) as usize);
        let mut last = once;
        self.bend(&mut last);
        bytes.extend(last);
        bytes
    }
}

/// Every request of the wire clients, one after the other, without waiting for answers. The names are few, so that
/// tries that get through create few topics.
fn conversation(listener: Listener, random: &mut Random) -> Vec<u8> {
    let count = random.below(600);
    let body = random.bytes(count);
    match listener {
        Listener::Kafka => kafka_conversation(random, &body),
        Listener::Amqp => [
            amqp::PROTOCOL_HEADER.to_vec(),
            amqp::start_ok(),
            amqp::tune_ok(),
            amqp::connection_open(),
            amqp::channel_open(),
            amqp::queue_declare("hostile-queue"),
            amqp::basic_publish("hostile-queue", &body),
            amqp::method(1, 60, 70, b"\0\0\x0dhostile-queue\x01"), // basic.get without acknowledgement
        ]
        .concat(),
        Listener::Mqtt => {
            let level = *random.pick(&[3, 4, 5]);
            let mut bytes = mqtt::connect(level, "hostile", true);
            if level == 5 {
                bytes.extend(b"\x82\x0d\x00\x01\x00\x00\x07hostile\x01"); // no properties, one filter
                bytes.extend(b"\x32\x0d\x00\x07hostile\x00\x02\x00x"); // no properties, one byte
            } else {
                bytes.extend(mqtt::subscribe(1, "hostile/+"));
                bytes.extend(mqtt::publish(2, "hostile/x", &body));
            }
            bytes
        }
        Listener::Http => b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n".to_vec(),
    }
}

fn kafka_conversation(random: &mut Random, body: &[u8]) -> Vec<u8> {
    let known = [
        kafka::request(18, 0, 1, &kafka::api_versions_body()),
        kafka::request(3, 1, 2, &kafka::metadata_body("hostile")),
        kafka::request(0, 3, 3, &kafka::produce_body("hostile", body)),
        kafka::request(1, 4, 4, &kafka::fetch_body("hostile", 0)),
    ];
    match random.below(3) {
        0 => known.concat(),
        1 => random.pick(&known).clone(),
        // Any request of any version, with bytes that may or may not fit.
        _ => {
            let (key, version) = (random.below(95) as i16, random.below(19) as i16);
            let mut rest = random.bytes(random_length(body));
            if random.below(2) == 0 {
                rest.iter_mut().for_each(|byte| *byte &= 0x03);
            }
            kafka::request(key, version, 9, &rest)
        }
    }
}

fn random_length(body: &[u8]) -> u64 {
    body.len() as u64 / 4
}
