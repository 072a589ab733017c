//! What a peer's bytes may not do: name code, overflow a length, nest, or be taken for more than they are.

use super::{closes_connection, ended_by, serves, Before};
use crate::broker::Broker;
use crate::wire::{amqp, kafka, mqtt};
use Before::{Login, Nothing};

/// OpenWire's ExceptionResponse that names a class and its argument (CVE-2023-46604).
fn openwire_exception() -> Vec<u8> {
    let mut command = vec![0x1f, 0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 1];
    for text in [
        "org.springframework.context.support.ClassPathXmlApplicationContext",
        "http://127.0.0.1:1/x",
    ] {
        command.push(1);
        command.extend((text.len() as u16).to_be_bytes());
        command.extend(text.as_bytes());
    }
    let mut out = (command.len() as u32).to_be_bytes().to_vec();
    out.extend(command);
    out
}

/// A serialised object is a body like any other, and a foreign protocol's frame the end of its connection.
#[test]
fn code_or_class_from_the_wire() {
    let mut broker = Broker::start("class-from-wire");
    let at = broker.addresses.clone();
    for protocol in ["kafka", "amqp", "mqtt", "http"] {
        let answer = ended_by(&at, protocol, Nothing, &openwire_exception());
        assert!(answer.is_ok(), "{protocol}: {answer:?}");
    }
    let mut object = b"\xac\xed\x00\x05sr\x00\x11java.util.HashMap".to_vec();
    object.extend([0; 64]);
    let mut client = kafka::Client::connect(&at.kafka).unwrap();
    client.create_topic("objects").unwrap();
    let offset = client.produce("objects", &object).unwrap();
    assert_eq!(client.fetch("objects", offset).unwrap(), object);
    serves(&mut broker, "after");
}

type Case = (&'static str, Before, Vec<u8>);

fn kafka_lengths() -> Vec<Case> {
    let size = |size: i32| size.to_be_bytes().to_vec();
    // A request header whose client id says it has this many bytes.
    let client_id = |length: i16| {
        let mut out = vec![0, 0, 0, 12, 0, 3, 0, 1, 0, 0, 0, 1];
        out.extend(length.to_be_bytes());
        out.extend([b'c'; 2]);
        out
    };
    let array = |count: i32| kafka::request(3, 1, 1, &count.to_be_bytes());
    let topic = |length: i16| {
        let mut body = 1i32.to_be_bytes().to_vec();
        body.extend(length.to_be_bytes());
        kafka::request(3, 1, 1, &body)
    };
    let mut out = Vec::new();
    out.extend([0, 1, -1, i32::MIN, i32::MAX].map(size));
    out.extend([-2, 3, i16::MAX, i16::MIN].map(client_id));
    out.extend([1, -2, i32::MAX, i32::MIN].map(array));
    out.extend([-1, 1, i16::MAX].map(topic));
    out.into_iter().map(|bytes| ("kafka", Nothing, bytes)).collect()
}

fn amqp_lengths() -> Vec<Case> {
    // queue.declare with a name, and with a table, that say they have this many bytes.
    let name = |length: u8| amqp::method(1, 50, 10, &[0, 0, length, b'q', 0, 0, 0, 0, 0]);
    let table = |length: u32| {
        let mut arguments = vec![0, 0, 1, b'q', 0];
        arguments.extend(length.to_be_bytes());
        amqp::method(1, 50, 10, &arguments)
    };
    let frame = |size: u32| {
        let mut out = vec![1, 0, 1];
        out.extend(size.to_be_bytes());
        out.extend([0; 16]);
        out
    };
    let mut out = Vec::new();
    out.extend([7, 255].map(name));
    out.extend([1, u32::MAX, i32::MAX as u32].map(table));
    out.extend([0, 3, 131_073, u32::MAX].map(frame));
    out.into_iter().map(|bytes| ("amqp", Login, bytes)).collect()
}

fn mqtt_lengths() -> Vec<Case> {
    // A PUBLISH at QoS 0 whose topic, and in version 5 whose properties, say they have this many bytes.
    let subject = |length: u16| {
        let mut rest = length.to_be_bytes().to_vec();
        rest.extend(b"t\x00");
        mqtt::packet(0x30, &rest)
    };
    let properties = |length: &[u8]| mqtt::packet(0x30, &[b"\x00\x01t", length].concat());
    vec![
        ("mqtt", Nothing, vec![0x10, 0xff, 0xff, 0xff, 0xff, 0x01]),
        ("mqtt", Login, vec![0x30, 0x80, 0x80, 0x80, 0x80, 0x01]),
        ("mqtt", Login, subject(3)),
        ("mqtt", Login, subject(u16::MAX)),
        ("mqtt4", Login, subject(u16::MAX)),
        ("mqtt", Login, properties(&[1])),
        ("mqtt", Login, properties(&[0xff, 0xff, 0xff, 0x7f])),
        ("mqtt", Login, properties(&[0xff, 0xff, 0xff, 0xff, 0x01])),
        ("mqtt", Login, vec![0x32, 0x00]),
        ("mqtt", Login, vec![0x82, 0x01, 0x00]),
    ]
}

/// Lengths at their limits, one beyond, and of the other sign.
#[test]
fn integer_over_and_underflow_in_lengths() {
    let mut broker = Broker::start("class-lengths");
    let at = broker.addresses.clone();
    for (protocol, before, bytes) in [kafka_lengths(), amqp_lengths(), mqtt_lengths()].concat() {
        let answer = ended_by(&at, protocol, before, &bytes);
        assert!(answer.is_ok(), "{protocol} {before:?} {bytes:x?}: {answer:?}");
    }
    serves(&mut broker, "after");
}

/// Counts of elements that would need no bytes, or more than there are.
#[test]
fn amplification_by_counts() {
    let mut broker = Broker::start("class-counts");
    let at = broker.addresses.clone();
    let before = broker.forget_peak();
    for count in [i32::MAX, 1 << 28, 1 << 20] {
        let count = count.to_be_bytes();
        let fetch = [&[0; 4 + 4 + 4 + 4 + 1], &count[..]].concat();
        let produce = [&[0xff, 0xff, 0, 1, 0, 0, 0, 9], &count[..]].concat();
        for request in [
            kafka::request(3, 1, 1, &count),
            kafka::request(19, 2, 1, &count),
            kafka::request(1, 4, 1, &fetch),
            kafka::request(0, 3, 1, &produce),
            kafka::request(2, 1, 1, &[&[0xff; 4], &count[..]].concat()),
            kafka::request(42, 0, 1, &count),
        ] {
            let answer = ended_by(&at, "kafka", Nothing, &request);
            assert!(answer.is_ok(), "{request:x?}: {answer:?}");
        }
    }
    let gained = broker.peak_resident_bytes().saturating_sub(before);
    assert!(gained < 16 << 20, "{gained} bytes");
    serves(&mut broker, "after");
}

/// Tables within tables, as deep as a frame can hold.
#[test]
fn nesting_depth() {
    let mut broker = Broker::start("class-nesting");
    let at = broker.addresses.clone();
    let mut table = Vec::new();
    while table.len() < 120_000 {
        // A name of no bytes, a table, its length.
        let mut outer = vec![0, b'F'];
        outer.extend((table.len() as u32).to_be_bytes());
        table = [outer, table].concat();
    }
    let mut arguments = vec![0, 0, 1, b'q', 0];
    arguments.extend((table.len() as u32).to_be_bytes());
    arguments.extend(table);
    let answer = ended_by(&at, "amqp", Login, &amqp::method(1, 50, 10, &arguments)).unwrap();
    assert!(closes_connection(&answer), "{answer:?}");
    serves(&mut broker, "after");
}

/// Whether MQTT 5's properties are well-formed, up to their end (§2.2.2.2).
fn are_properties(mut rest: &[u8]) -> bool {
    fn text(rest: &mut &[u8]) -> Option<bool> {
        let length = usize::from(u16::from_be_bytes(*rest.first_chunk()?));
        let said = rest.get(2..2 + length)?;
        *rest = &rest[2 + length..];
        Some(std::str::from_utf8(said).is_ok_and(|said| !said.contains('\0')))
    }
    let mut next = || {
        let (kind, tail) = rest.split_first()?;
        rest = tail;
        match kind {
            0x01 => rest.split_at_checked(1).map(|(_, tail)| rest = tail).map(|()| true),
            0x02 => rest.split_at_checked(4).map(|(_, tail)| rest = tail).map(|()| true),
            0x03 | 0x08 => text(&mut rest),
            0x09 => text(&mut rest).map(|_| true),
            0x26 => Some(text(&mut rest)? & text(&mut rest)?),
            _ => None,
        }
    };
    while let Some(is_sound) = next() {
        if !is_sound {
            return false;
        }
    }
    rest.is_empty()
}

/// The body of a PUBLISH at QoS 1 of MQTT 5, whose properties are looked at.
fn sound_message(client: &mut mqtt::Client) -> Vec<u8> {
    let (first, rest) = client.read().unwrap();
    assert_eq!(first >> 4, 3, "PUBLISH");
    let at = 2 + usize::from(u16::from_be_bytes([rest[0], rest[1]]));
    client.send(&mqtt::packet(0x40, &rest[at..at + 2])).unwrap();
    let mut from = at + 2;
    let mut length = 0;
    for shift in [0, 7, 14, 21] {
        let byte = rest[from];
        from += 1;
        length |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    assert!(are_properties(&rest[from..from + length]), "{:?}", &rest[from..from + length]);
    rest[from + length..].to_vec()
}

/// A message that one protocol can hold and another cannot spell leaves those who read it connected.
#[test]
fn poison_message_to_other_clients() {
    let mut broker = Broker::start("class-poison");
    let at = broker.addresses.clone();
    let mut writer = kafka::Client::connect(&at.kafka).unwrap();
    writer.create_topic("poison.topic").unwrap();
    let mut old = mqtt::Client::connect(&at.mqtt, "old", true).unwrap();
    old.subscribe("poison/#").unwrap();
    let mut new = mqtt::Client::connect_level(5, &at.mqtt, "new", true).unwrap();
    new.subscribe_5("poison/#").unwrap();
    let mut queue = amqp::Client::connect(&at.amqp).unwrap();
    queue.declare("poisoned").unwrap();
    queue.bind("poisoned", "poison.#").unwrap();
    let long = vec![b'n'; 70_000];
    let poisons: [(&[u8], &[u8]); 6] = [
        (&long, b"v"),
        (b"name", &long),
        (b"nul\0nul", b"v"),
        (b"not text \xff\xfe", b"\xff\xfe"),
        (b"", b""),
        (b"koine-subject", b"poison/+/#"),
    ];
    for (name, value) in poisons {
        let batch = kafka::batch_with(b"body", &[(name, value)]);
        writer.produce_batch("poison.topic", &batch).unwrap();
    }
    writer.produce("poison.topic", b"the last").unwrap();
    while old.receive().unwrap() != b"the last" {}
    while sound_message(&mut new) != b"the last" {}
    crate::wait::until("the last through AMQP", super::END_LIMIT, || {
        queue.get("poisoned").unwrap().filter(|body| body == b"the last")
    });
    serves(&mut broker, "after");
}
