//! AMQP 0-9-1's frames, methods, tables and properties.

use crate::allocator::measured;
use crate::data::Data;
use crate::node::{nearly_right, Node, PASSWORD, USER};
use bytes::{BufMut, Bytes, BytesMut};
use koine_amqp::v091::content::{BasicProperties, ContentHeader};
use koine_amqp::v091::methods::Method;
use koine_amqp::v091::table::Table;
use koine_broker::session::Protocol;
use std::sync::OnceLock;

const FREE_BYTES: usize = 8 << 20;
/// A frame's bytes are held by the input, the message, the log's entry and its frame; a method of a few
/// bytes makes a consumer or a binding of some hundred.
const PER_BYTE: usize = 512;
const GREETING: &[u8] = b"AMQP\x00\x00\x09\x01";

pub fn bytes(input: &[u8]) {
    let mut data = Data::new(input);
    let mode = data.byte();
    let mut node = Node::new(mode & 1 == 1);
    let stream = data.rest();
    measured(input.len(), FREE_BYTES, PER_BYTE, || {
        let mut client = node.connect(Protocol::Amqp091);
        if mode & 2 == 0 {
            node.say(&mut client, GREETING);
        }
        if mode & 4 == 0 {
            login(mode & 1 == 1).iter().for_each(|piece| node.say(&mut client, piece));
        }
        node.say(&mut client, stream);
        node.hang_up(&mut client);
    });
    still_serves(&mut node);
}

pub fn split(input: &[u8]) {
    let mut data = Data::new(input);
    let mode = data.byte();
    let cut = data.byte();
    let mut stream = Vec::new();
    if mode & 2 == 0 {
        stream.extend_from_slice(GREETING);
        login(mode & 1 == 1).iter().for_each(|piece| stream.extend_from_slice(piece));
    }
    stream.extend_from_slice(data.rest());
    let hear = |pieces: Vec<&[u8]>| {
        let mut node = Node::new(mode & 1 == 1);
        let mut client = node.connect(Protocol::Amqp091);
        node.say_at_once(&mut client, &pieces);
        (client.heard, client.is_closed)
    };
    let step = usize::from(cut % 7) + 1;
    assert_eq!(hear(vec![&stream]), hear(stream.chunks(step).collect()), "cut every {step} bytes");
}

pub fn codec(input: &[u8]) {
    let Some((kind, rest)) = input.split_first() else { return };
    let rest_bytes = Bytes::copy_from_slice(rest);
    measured(input.len(), 64 << 10, 64, || match kind % 3 {
        0 => {
            let Ok(method) = Method::decode(&rest_bytes) else { return };
            let mut out = BytesMut::new();
            method.encode(&mut out);
            assert_eq!(Method::decode(&out.freeze()), Ok(method), "encoded as it was decoded");
        }
        1 => {
            let Ok(table) = Table::new(rest_bytes.clone()) else { return };
            for (name, value) in table.view().entries() {
                let found = table.view().entries().any(|(other, _)| other == name);
                assert!(found && !value.type_name().is_empty());
            }
        }
        _ => {
            let Ok(header) = ContentHeader::decode(&rest_bytes) else { return };
            let mut out = BytesMut::new();
            header.encode(&mut out);
            assert_eq!(ContentHeader::decode(&out.freeze()), Ok(header.clone()));
            let Ok(properties) = BasicProperties::parse(&header.properties) else { return };
            let mut out = BytesMut::new();
            properties.encode(&mut out);
            assert_eq!(BasicProperties::parse(&out), Ok(properties));
        }
    });
}

pub fn session(input: &[u8]) {
    let mut data = Data::new(input);
    let mode = data.byte();
    let mut node = Node::new(mode & 1 == 1);
    node.let_in(mode & 2 == 0);
    let pieces = nearly_right(&mut data, frames());
    let total: usize = pieces.iter().map(Vec::len).sum();
    measured(total, FREE_BYTES, PER_BYTE, || {
        let mut client = node.connect(Protocol::Amqp091);
        node.say(&mut client, GREETING);
        if mode & 4 == 0 {
            login(mode & 1 == 1).iter().for_each(|piece| node.say(&mut client, piece));
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
    still_serves(&mut node);
}

fn still_serves(node: &mut Node) {
    let mut other = node.connect(Protocol::Amqp091);
    node.say(&mut other, GREETING);
    assert_eq!(other.heard.get(7..11), Some(&[0, 10, 0, 10][..]), "another client is greeted");
}

pub fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.put_u16(channel);
    out.put_u32(payload.len() as u32);
    out.extend_from_slice(payload);
    out.push(0xce);
    out
}

fn method(channel: u16, id: (u16, u16), arguments: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    payload.put_u16(id.0);
    payload.put_u16(id.1);
    payload.extend_from_slice(arguments);
    frame(1, channel, &payload)
}

fn short(text: &str) -> Vec<u8> {
    let mut out = vec![text.len() as u8];
    out.extend_from_slice(text.as_bytes());
    out
}

/// Up to an open channel; on a node without users the name is RabbitMQ's usual one.
fn login(is_secured: bool) -> Vec<Vec<u8>> {
    let (user, password) = if is_secured { (USER, PASSWORD) } else { ("guest", "guest") };
    let response = format!("\0{user}\0{password}");
    let mut start_ok = vec![0, 0, 0, 0];
    start_ok.extend(short("PLAIN"));
    start_ok.put_u32(response.len() as u32);
    start_ok.extend_from_slice(response.as_bytes());
    start_ok.extend(short("en_US"));
    vec![
        method(0, (10, 11), &start_ok),
        method(0, (10, 31), &[0x07, 0xff, 0, 2, 0, 0, 0, 0]),
        method(0, (10, 40), &[1, b'/', 0, 0]),
        method(1, (20, 10), &[0]),
    ]
}

/// A method for each thing that a client does.
pub fn frames() -> &'static [Vec<u8>] {
    static MADE: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    MADE.get_or_init(|| {
        let join = |pieces: &[&[u8]]| pieces.concat();
        let (q, x) = (short("q"), short("x"));
        let mut publish = method(1, (60, 40), &join(&[&[0, 0], &short(""), &q, &[0]]));
        let mut header = vec![0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0x10, 0, 2];
        publish.extend(frame(2, 1, &header));
        publish.extend(frame(3, 1, b"body"));
        header[11] = 200;
        vec![
            method(2, (20, 10), &[0]),
            method(1, (50, 10), &join(&[&[0, 0], &q, &[0], &[0; 4]])),
            method(1, (50, 10), &join(&[&[0, 0], &q, &[2], &[0; 4]])),
            method(1, (40, 10), &join(&[&[0, 0], &x, &short("topic"), &[0], &[0; 4]])),
            method(1, (40, 10), &join(&[&[0, 0], &short("h"), &short("headers"), &[2], &[0; 4]])),
            method(1, (50, 20), &join(&[&[0, 0], &q, &x, &short("a.#"), &[0], &[0; 4]])),
            method(
                1,
                (40, 30),
                &join(&[&[0, 0], &x, &short("amq.topic"), &short("*"), &[0], &[0; 4]]),
            ),
            publish,
            join(&[
                &method(1, (60, 40), &join(&[&[0, 0], &x, &short("a.b"), &[1]])),
                &frame(2, 1, &header),
            ]),
            frame(3, 1, &[7; 100]),
            method(1, (60, 20), &join(&[&[0, 0], &q, &short("c"), &[0], &[0; 4]])),
            method(1, (60, 30), &join(&[&short("c"), &[0]])),
            method(1, (60, 70), &join(&[&[0, 0], &q, &[0]])),
            method(1, (60, 80), &[0, 0, 0, 0, 0, 0, 0, 1, 1]),
            method(1, (60, 90), &[0, 0, 0, 0, 0, 0, 0, 1, 1]),
            method(1, (60, 120), &[0, 0, 0, 0, 0, 0, 0, 1, 3]),
            method(1, (60, 10), &[0, 0, 0, 0, 0, 9, 0]),
            method(1, (60, 110), &[1]),
            method(1, (85, 10), &[0]),
            method(1, (90, 10), &[]),
            method(1, (20, 20), &[0]),
            method(1, (50, 30), &join(&[&[0, 0], &q, &[0]])),
            method(1, (50, 40), &join(&[&[0, 0], &q, &[0]])),
            method(1, (40, 20), &join(&[&[0, 0], &x, &[0]])),
            method(1, (50, 50), &join(&[&[0, 0], &q, &x, &short("a.#"), &[0; 4]])),
            method(1, (20, 40), &join(&[&[0, 200], &short("bye"), &[0; 4]])),
            method(1, (20, 41), &[]),
            method(0, (10, 50), &join(&[&[0, 200], &short("bye"), &[0; 4]])),
            method(0, (10, 70), &join(&[&[0, 0, 0, 1, b's'], &short("r")])),
            frame(8, 0, &[]),
            GREETING.to_vec(),
        ]
    })
}
