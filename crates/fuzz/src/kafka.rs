//! Kafka's requests.

use crate::allocator::measured;
use crate::data::Data;
use crate::node::{nearly_right, Client, Node, PASSWORD, USER};
use crate::shared::ZSTD_WINDOW_BYTES;
use koine_broker::batch::{BatchBuilder, BatchLimits};
use koine_broker::session::Protocol;
use koine_workload::frames::kafka::{finish, key, request};
use koine_workload::frames::wire::Put;
use std::sync::OnceLock;

/// What one connection may cost beside its input: blocks of the log, its answers, the node's tables; and one
/// batch at a time that is unpacked for subscribers, into a buffer that grows by doubling.
const FREE_BYTES: usize = (8 << 20) + ZSTD_WINDOW_BYTES + 3 * BatchLimits::RATIO_FREE_BYTES;
/// A request's bytes are held by the input, the decoded request, the log's entry and its frame; an empty
/// element of one byte becomes a structure of some hundred.
const PER_BYTE: usize = 512;

/// What comes, in one piece, then a request of somebody else.
pub fn bytes(input: &[u8]) {
    let mut node = Node::new(input.first().is_some_and(|byte| byte & 1 == 1));
    measured(input.len(), FREE_BYTES, PER_BYTE, || {
        let mut client = node.connect(Protocol::Kafka);
        node.say(&mut client, input);
        node.hang_up(&mut client);
    });
    still_serves(&mut node);
}

pub fn split(input: &[u8]) {
    let mut data = Data::new(input);
    let is_secured = data.byte() & 1 == 1;
    let cut = data.byte();
    let stream = data.rest();
    let hear = |pieces: Vec<&[u8]>| {
        let mut node = Node::new(is_secured);
        let mut client = node.connect(Protocol::Kafka);
        node.say_at_once(&mut client, &pieces);
        (client.heard, client.is_closed)
    };
    let step = usize::from(cut % 7) + 1;
    assert_eq!(hear(vec![stream]), hear(stream.chunks(step).collect()), "cut every {step} bytes");
}

pub fn session(input: &[u8]) {
    let mut data = Data::new(input);
    let mode = data.byte();
    let mut node = Node::new(mode & 1 == 1);
    node.let_in(mode & 2 == 0);
    let pieces = nearly_right(&mut data, frames());
    let total: usize = pieces.iter().map(Vec::len).sum();
    measured(total, FREE_BYTES, PER_BYTE, || {
        let mut client = node.connect(Protocol::Kafka);
        if mode & 4 == 0 {
            log_in(&mut node, &mut client);
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

fn log_in(node: &mut Node, client: &mut Client) {
    for frame in login() {
        node.say(client, &frame);
    }
}

fn login() -> [Vec<u8>; 2] {
    let mut handshake = request(17, 1, 1, "fuzz");
    handshake.put_short_text("PLAIN");
    let token = format!("\0{USER}\0{PASSWORD}");
    let mut authenticate = request(36, 0, 2, "fuzz");
    authenticate.put_i32(token.len() as i32);
    authenticate.put(token.as_bytes());
    [finish(handshake), finish(authenticate)]
}

/// Another client gets its answer.
fn still_serves(node: &mut Node) {
    let mut other = node.connect(Protocol::Kafka);
    node.say(&mut other, &finish(request(key::API_VERSIONS, 0, 77, "other")));
    assert_eq!(other.heard.get(4..8), Some(&77i32.to_be_bytes()[..]), "another client is served");
}

/// A request for each thing that a client does.
pub fn frames() -> &'static [Vec<u8>] {
    static MADE: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    MADE.get_or_init(|| {
        let mut frames = ordinary();
        frames.extend(login());
        // Every other request that there is, with nothing in it.
        for api in koine_kafka::codec::APIS {
            frames.push(make(api.key as i16, api.version_max, |frame| frame.put(&[0; 24])));
        }
        frames
    })
}

fn ordinary() -> Vec<Vec<u8>> {
    vec![
        make(key::API_VERSIONS, 0, |_| {}),
        make(key::METADATA, 1, |frame| {
            frame.put_i32(1);
            frame.put_short_text("t");
        }),
        make(key::METADATA, 1, |frame| frame.put_i32(-1)),
        make(key::CREATE_TOPICS, 2, create_topics),
        make(key::PRODUCE, 3, produce),
        make(key::FETCH, 4, fetch),
        make(key::LIST_OFFSETS, 1, |frame| {
            frame.put_i32(-1);
            partition(frame);
            frame.put_i64(-1);
        }),
        make(key::FIND_COORDINATOR, 1, |frame| {
            frame.put_short_text("g");
            frame.put_u8(0);
        }),
        make(key::JOIN_GROUP, 2, join_group),
        make(key::HEARTBEAT, 1, |frame| {
            frame.put_short_text("g");
            frame.put_i32(1);
            frame.put_short_text("member");
        }),
        make(key::LEAVE_GROUP, 1, |frame| {
            frame.put_short_text("g");
            frame.put_short_text("member");
        }),
        make(key::OFFSET_COMMIT, 2, |frame| {
            frame.put_short_text("g");
            frame.put_i32(-1);
            frame.put_short_text("");
            frame.put_i64(-1);
            partition(frame);
            frame.put_i64(3);
            frame.put_short_text("note");
        }),
        make(key::OFFSET_FETCH, 1, |frame| {
            frame.put_short_text("g");
            partition(frame);
        }),
        make(key::INIT_PRODUCER_ID, 0, |frame| {
            frame.put_i16(-1);
            frame.put_i32(1000);
        }),
        make(key::DELETE_TOPICS, 1, |frame| {
            frame.put_i32(1);
            frame.put_short_text("t");
            frame.put_i32(1000);
        }),
        make(21, 0, |frame| {
            partition(frame);
            frame.put_i64(1);
            frame.put_i32(1000);
        }),
        make(32, 0, |frame| {
            frame.put_i32(1);
            frame.put_u8(2);
            frame.put_short_text("t");
            frame.put_i32(-1);
        }),
    ]
}

fn make(key: i16, version: i16, fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = request(key, version, 5, "fuzz");
    fill(&mut frame);
    finish(frame)
}

/// One topic with one partition, in the oldest way.
fn partition(frame: &mut Vec<u8>) {
    frame.put_i32(1);
    frame.put_short_text("t");
    frame.put_i32(1);
    frame.put_i32(0);
}

fn create_topics(frame: &mut Vec<u8>) {
    frame.put_i32(1);
    frame.put_short_text("t");
    frame.put_i32(1);
    frame.put_i16(1);
    frame.put_i32(0);
    frame.put_i32(0);
    frame.put_i32(1000);
    frame.put_u8(0);
}

fn produce(frame: &mut Vec<u8>) {
    let mut builder = BatchBuilder::new(1);
    builder.push(5, Some(b"key"), Some(&[b"body"]), &[]);
    let batch = builder.finish(0, 0);
    frame.put_i16(-1);
    frame.put_i16(1);
    frame.put_i32(1000);
    partition(frame);
    frame.put_i32(batch.len() as i32);
    frame.put(&batch);
}

fn fetch(frame: &mut Vec<u8>) {
    frame.put_i32(-1);
    frame.put_i32(10);
    frame.put_i32(1);
    frame.put_i32(1 << 20);
    frame.put_u8(0);
    partition(frame);
    frame.put_i64(0);
    frame.put_i32(1 << 20);
}

fn join_group(frame: &mut Vec<u8>) {
    frame.put_short_text("g");
    frame.put_i32(6000);
    frame.put_i32(6000);
    frame.put_short_text("");
    frame.put_short_text("consumer");
    frame.put_i32(1);
    frame.put_short_text("range");
    frame.put_i32(3);
    frame.put(b"abc");
}
