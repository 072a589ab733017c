//! What a peer may not make the broker hold.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::{ended_by, serves, start_secured, Before, END_LIMIT};
use crate::broker::Broker;
use crate::wire::{amqp, kafka, mqtt, open};

const MIB: u64 = 1 << 20;
/// AMQP waits for its connection.close to be answered, as long as for a login; what comes is passed over.
const LAST_WORD_LIMIT: Duration = Duration::from_secs(15);

/// Connections that announce a huge length and then stay cost no memory for what they only announced.
#[test]
fn allocation_by_a_length_prefix() {
    const PEERS: usize = 200;
    let broker = Broker::start("class-announced");
    let at = &broker.addresses;
    let before = broker.resident_bytes();
    let mut held = Vec::new();
    for (address, bytes) in [
        (&at.kafka, &b"\x06\x00\x00\x00\x00\x03\x00\x00"[..]), // 100 MB, within Kafka's usual limit
        (&at.mqtt, &b"\x10\xff\xff\xff\x7f\x00\x04MQTT\x04"[..]), // 256 MB, MQTT's greatest
        (&at.amqp, &b"AMQP\0\0\x09\x01\x01\x00\x00\x7f\xff\xff\xff\x00\x0a\x00\x0b"[..]), // 2 GB
    ] {
        for _ in 0..PEERS {
            let mut stream = TcpStream::connect(address).unwrap();
            let _ = stream.write_all(bytes);
            held.push(stream);
        }
    }
    let mut good = mqtt::Client::connect(&at.mqtt, "good", true).unwrap();
    good.subscribe("still/here").unwrap();
    let gained = broker.resident_bytes().saturating_sub(before);
    assert!(gained < 64 * MIB, "{} silent peers cost {gained} bytes", held.len());
}

/// Whoever has not logged in and says more than a login needs is closed, and none of it is kept.
#[test]
fn memory_before_the_login() {
    let broker = start_secured("class-strangers");
    let at = &broker.addresses;
    let before = broker.forget_peak();
    // The beginning of a request, a frame and a packet that would be in order from somebody who has logged in.
    let mut request = (15i32 << 20).to_be_bytes().to_vec();
    request.extend([0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff]);
    let mut packet = vec![0x10, 0xff, 0xff, 0xff, 0x7f];
    packet.extend(b"\x00\x04MQTT\x05\xc2\x00\x3c\x00\x00\x01x");
    let mut frame = amqp::PROTOCOL_HEADER.to_vec();
    frame.extend([1, 0, 0, 0, 1, 0xff, 0xf0]);
    for (address, head) in [(&at.kafka, request), (&at.amqp, frame), (&at.mqtt, packet)] {
        let mut stream = open(address).unwrap();
        stream.write_all(&head).unwrap();
        let began = Instant::now();
        while stream.write_all(&[0; 64 << 10]).is_ok() {
            assert!(began.elapsed() < LAST_WORD_LIMIT, "{head:x?} and no end");
        }
    }
    let gained = broker.peak_resident_bytes().saturating_sub(before);
    assert!(gained < 8 * MIB, "{gained} bytes");
}

/// More body than the header announced, and a header that announces more than any message may have.
#[test]
fn body_assembly_not_bounded() {
    let mut broker = Broker::start("class-body");
    let at = broker.addresses.clone();
    let publish = |size: u64, frames: usize| {
        let mut out = amqp::method(1, 60, 40, b"\x00\x00\x00\x01q\x00");
        let mut header = vec![0, 60, 0, 0];
        header.extend(size.to_be_bytes());
        header.extend([0, 0]);
        out.extend(amqp::frame(2, 1, &header));
        for _ in 0..frames {
            out.extend(amqp::frame(3, 1, &[b'x'; 100_000]));
        }
        out
    };
    let before = broker.forget_peak();
    let answer = ended_by(&at, "amqp", Before::Login, &publish(10, 1_000));
    assert!(answer.is_ok(), "10 announced, 100,000,000 sent: {answer:?}");
    for size in [10_000_000_000, u64::MAX] {
        let mut client = amqp::Client::connect(&at.amqp).unwrap();
        client.send(&publish(size, 0)).unwrap();
        let (class, method, arguments) = client.answer().unwrap();
        assert_eq!((class, method), (20, 40), "channel.close");
        assert_eq!(arguments[..2], 406u16.to_be_bytes(), "PRECONDITION_FAILED");
    }
    let gained = broker.peak_resident_bytes().saturating_sub(before);
    assert!(gained < 16 * MIB, "{gained} bytes");
    serves(&mut broker, "after");
}

/// An LZ4 frame of one record whose value is `blocks` blocks, each 4 MiB of zeros.
fn lz4_of_zeros(blocks: usize) -> Vec<u8> {
    const BLOCK_BYTES: usize = 4 << 20;
    // The last zero is the count of headers.
    let value = blocks * BLOCK_BYTES - 1;
    let mut record = vec![0, 0, 0, 1]; // attributes, deltas, no key
    kafka::varint(&mut record, value as i64);
    let mut head = Vec::new();
    kafka::varint(&mut head, (record.len() + value + 1) as i64);
    head.extend(record);
    // Magic; version 1, independent blocks; of 4 MiB; the checksum of these two.
    let mut out = vec![0x04, 0x22, 0x4d, 0x18, 0x60, 0x70, 0x73];
    // A block that is not compressed.
    out.extend((head.len() as u32 | 1 << 31).to_le_bytes());
    out.extend(head);
    // One zero; the byte before again and again; five zeros, as a block has to end.
    let mut block = vec![0x1f, 0, 1, 0];
    let repeated = BLOCK_BYTES - 1 - 5 - 4 - 15;
    block.resize(block.len() + repeated / 255, 255);
    block.push((repeated % 255) as u8);
    block.extend([0x50, 0, 0, 0, 0, 0]);
    for _ in 0..blocks {
        out.extend((block.len() as u32).to_le_bytes());
        out.extend(&block);
    }
    out.extend([0; 4]);
    out
}

/// What is small on the wire and huge inside is read by a subscriber of another protocol, for whom the broker has to
/// look inside.
#[test]
fn decompression_bomb() {
    let mut broker = Broker::start("class-bomb");
    let at = broker.addresses.clone();
    let mut writer = kafka::Client::connect(&at.kafka).unwrap();
    writer.create_topic("bomb.topic").unwrap();
    let mut reader = mqtt::Client::connect(&at.mqtt, "reader", true).unwrap();
    reader.subscribe("bomb/#").unwrap();
    writer.produce("bomb.topic", b"before").unwrap();
    assert!(reader.receive().unwrap().ends_with(b"before"));
    let before = broker.forget_peak();
    let bomb = kafka::compressed_batch(3, &lz4_of_zeros(60));
    // Taken or refused: a batch that nobody looks into is the producer's own business.
    let _ = writer.produce_batch("bomb.topic", &bomb);
    let mut writer = kafka::Client::connect(&at.kafka).unwrap();
    writer.produce("bomb.topic", b"after").unwrap();
    loop {
        if reader.receive().unwrap().ends_with(b"after") {
            break;
        }
    }
    let gained = broker.peak_resident_bytes().saturating_sub(before);
    assert!(gained < 160 * MIB, "{gained} bytes for {} of 240 MiB", bomb.len());
    serves(&mut broker, "after");
}

/// Exactly-once publishes that are never completed are bounded by the receive maximum.
#[test]
fn slow_leak() {
    let mut broker = Broker::start("class-leak");
    let at = broker.addresses.clone();
    let mut said = mqtt::connect(5, "leak", true);
    for identifier in 1..=u16::MAX {
        said.extend(mqtt::publish_once(identifier, "leak", b"\0x", false));
    }
    let answer = ended_by(&at, "mqtt", Before::Nothing, &said).unwrap();
    // DISCONNECT: receive maximum exceeded.
    let told = answer.windows(3).any(|end| end[0] == 0xe0 && end[2] == 0x93);
    assert!(told, "{} bytes of answers", answer.len());
    serves(&mut broker, "after");
}

/// Filters that match in many ways are bounded in number, and matched in a time that does not multiply.
#[test]
fn combinatorial_routing() {
    let mut broker = Broker::start("class-routing");
    let at = broker.addresses.clone();
    let mut client = amqp::Client::connect(&at.amqp).unwrap();
    client.declare("routed").unwrap();
    for ways in ["#.a.#.a.#.a.#.a.#.b", "#.*.#.*.#.*.#.*.#.b", "*.#.*.#.*.#.*.#.b", "#.#.#.#.b"] {
        client.bind("routed", ways).unwrap();
    }
    let mut publisher = mqtt::Client::connect(&at.mqtt, "", true).unwrap();
    let subject = vec!["a"; 120].join("/");
    let began = Instant::now();
    for _ in 0..50 {
        publisher.publish(&subject, b"x").unwrap();
    }
    assert!(began.elapsed() < END_LIMIT, "{:?}", began.elapsed());
    let refused = client.bind("routed", &["#"; 50].join(".a."));
    assert!(refused.is_err(), "fifty ways to match each level");
    serves(&mut broker, "after");
}
