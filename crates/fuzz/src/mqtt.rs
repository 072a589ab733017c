//! MQTT's packets, plain and over WebSocket.

use crate::allocator::measured;
use crate::data::Data;
use crate::node::{nearly_right, Node, PASSWORD, USER};
use bytes::{BufMut, BytesMut};
use koine_broker::session::Protocol;
use koine_mqtt::codec::{Decoder, Version};
use std::sync::OnceLock;

const FREE_BYTES: usize = 8 << 20;
/// A packet's bytes are held by the input, the message, the log's entry and its frame; a filter of one
/// byte becomes a subscription of some hundred.
const PER_BYTE: usize = 512;
const PACKET_BYTES_MAX: usize = 1 << 20;

pub fn bytes(input: &[u8]) {
    let mut data = Data::new(input);
    let mode = data.byte();
    let mut node = Node::new(mode & 1 == 1);
    let stream = data.rest();
    measured(input.len(), FREE_BYTES, PER_BYTE, || {
        let mut client = node.connect(Protocol::Mqtt);
        if mode & 2 == 0 {
            node.say(&mut client, &connect(if mode & 4 == 0 { 5 } else { 4 }));
        }
        node.say(&mut client, stream);
        node.hang_up(&mut client);
    });
    still_serves(&mut node, mode & 1 == 1);
}

pub fn split(input: &[u8]) {
    let mut data = Data::new(input);
    let mode = data.byte();
    let cut = data.byte();
    let mut stream = Vec::new();
    if mode & 2 == 0 {
        stream.extend(connect(if mode & 4 == 0 { 5 } else { 4 }));
    }
    stream.extend_from_slice(data.rest());
    let hear = |pieces: Vec<&[u8]>| {
        let mut node = Node::new(mode & 1 == 1);
        let mut client = node.connect(Protocol::Mqtt);
        node.say_at_once(&mut client, &pieces);
        (client.heard, client.is_closed)
    };
    let step = usize::from(cut % 7) + 1;
    assert_eq!(hear(vec![&stream]), hear(stream.chunks(step).collect()), "cut every {step} bytes");
}

pub fn codec(input: &[u8]) {
    let Some((mode, rest)) = input.split_first() else { return };
    let version = match mode % 3 {
        0 => Version::V3_1,
        1 => Version::V3_1_1,
        _ => Version::V5,
    };
    let decoder = Decoder::new(version, PACKET_BYTES_MAX);
    measured(input.len(), 64 << 10, 128, || {
        let mut stream = BytesMut::from(rest);
        while let Ok(Some(packet)) = decoder.next(&mut stream) {
            let mut out = BytesMut::new();
            packet.encode(version, &mut out);
            // Several reasons of MQTT 5 are one in older versions: what is compared is what was written.
            let written = out.clone();
            let Ok(Some(again)) = decoder.next(&mut out) else {
                panic!("what was written cannot be read: {packet:?}");
            };
            let mut out = BytesMut::new();
            again.encode(version, &mut out);
            assert_eq!(out, written, "encoded as it was decoded");
        }
    });
}

pub fn session(input: &[u8]) {
    let mut data = Data::new(input);
    let mode = data.byte();
    let mut node = Node::new(mode & 1 == 1);
    node.let_in(mode & 2 == 0);
    let version = if mode & 8 == 0 { 5 } else { 4 };
    let pieces = nearly_right(&mut data, frames(version));
    let total: usize = pieces.iter().map(Vec::len).sum();
    measured(total, FREE_BYTES, PER_BYTE, || {
        let mut client = node.connect(Protocol::Mqtt);
        if mode & 4 == 0 {
            node.say(&mut client, &connect(version));
        }
        for piece in &pieces {
            node.say(&mut client, piece);
            node.wait(1);
        }
        node.wait(20_000);
        node.hear(&mut client);
        node.hang_up(&mut client);
    });
    node.let_in(true);
    still_serves(&mut node, mode & 1 == 1);
}

fn still_serves(node: &mut Node, is_secured: bool) {
    let mut other = node.connect(Protocol::Mqtt);
    node.say(&mut other, &connect(4));
    assert_eq!(other.heard.first(), Some(&0x20), "another client is answered, users {is_secured}");
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.put_u16(text.len() as u16);
    out.extend_from_slice(text.as_bytes());
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let mut rest = body.len();
    loop {
        let more = rest >= 0x80;
        out.push(rest as u8 & 0x7f | if more { 0x80 } else { 0 });
        rest >>= 7;
        if !more {
            break;
        }
    }
    out.extend_from_slice(body);
    out
}

fn connect(version: u8) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, "MQTT");
    body.extend_from_slice(&[version, 0xc2, 0, 0]);
    if version == 5 {
        body.push(0);
    }
    text(&mut body, "fuzz");
    text(&mut body, USER);
    text(&mut body, PASSWORD);
    packet(0x10, &body)
}

/// A packet for each thing that a client does.
pub fn frames(version: u8) -> &'static [Vec<u8>] {
    static MADE: OnceLock<[Vec<Vec<u8>>; 2]> = OnceLock::new();
    let made = MADE.get_or_init(|| [make(4), make(5)]);
    &made[usize::from(version == 5)]
}

fn make(version: u8) -> Vec<Vec<u8>> {
    let properties = |body: &mut Vec<u8>| {
        if version == 5 {
            body.push(0);
        }
    };
    let publish = |first: u8, topic: &str, identifier: Option<u16>| {
        let mut body = Vec::new();
        text(&mut body, topic);
        body.extend(identifier.map(u16::to_be_bytes).into_iter().flatten());
        properties(&mut body);
        body.extend_from_slice(b"payload");
        packet(first, &body)
    };
    let subscribe = |filter: &str, options: u8| {
        let mut body = vec![0, 9];
        properties(&mut body);
        text(&mut body, filter);
        body.push(options);
        packet(0x82, &body)
    };
    let mut unsubscribe = vec![0, 8];
    properties(&mut unsubscribe);
    text(&mut unsubscribe, "a/#");
    let mut will = Vec::new();
    text(&mut will, "MQTT");
    will.extend_from_slice(&[version, 0x2e, 0, 0]);
    properties(&mut will);
    text(&mut will, "will");
    properties(&mut will);
    text(&mut will, "a/will");
    text(&mut will, "gone");
    let mut alias = Vec::new();
    text(&mut alias, "a/alias");
    alias.extend_from_slice(&[3, 0x23, 0, 1, b'x']);
    vec![
        connect(version),
        packet(0x10, &will),
        publish(0x30, "a/b", None),
        publish(0x32, "a/b", Some(1)),
        publish(0x34, "a/b", Some(2)),
        publish(0x33, "a/retained", Some(3)),
        packet(0x30, &alias),
        packet(0x62, &[0, 2]),
        packet(0x40, &[0, 1]),
        packet(0x50, &[0, 1]),
        packet(0x70, &[0, 1]),
        subscribe("a/#", 1),
        subscribe("+/b", 2),
        subscribe("$share/g/a/+", 1),
        subscribe("#", 0),
        packet(0xa2, &unsubscribe),
        packet(0xc0, &[]),
        packet(0xe0, &[]),
        packet(0xf0, &[0x18, 0]),
        b"GET /mqtt HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
          Sec-WebSocket-Protocol: mqtt\r\n\r\n"
            .to_vec(),
    ]
}
