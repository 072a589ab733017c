//! What scripts cannot say: bytes cut anywhere, WebSocket, slow receivers, noise, and many messages.

use super::engine::Engine;
use crate::codec::{Acknowledgement, Subscribe, SubscribeEntry, SubscriptionOptions};
use crate::codec::{Connect, Decoder, Packet, Properties, Property, PublishFrame, Qos, Version};
use crate::websocket::client_frame;
use bytes::{Bytes, BytesMut};
use koine_base::rng::Rng;
use koine_base::{ConnectionId, Rope};
use koine_broker::overload::Alarms;
use koine_broker::session::Session;

pub(super) fn connect_packet(name: &str, version: Version, clean_start: bool) -> Packet {
    Packet::Connect(Box::new(Connect {
        version,
        clean_start,
        keep_alive: 0,
        properties: Properties::default(),
        client_identifier: name.to_owned(),
        will: None,
        user_name: None,
        password: None,
    }))
}

pub(super) fn bytes_of(packet: &Packet, version: Version) -> Bytes {
    let mut out = BytesMut::new();
    packet.encode(version, &mut out);
    out.freeze()
}

pub(super) fn subscribe_packet(topic_filter: &str, qos: Qos) -> Packet {
    Packet::Subscribe(Subscribe {
        packet_identifier: 1,
        properties: Properties::default(),
        entries: vec![SubscribeEntry {
            topic_filter: topic_filter.to_owned(),
            options: SubscriptionOptions { qos, ..SubscriptionOptions::default() },
        }],
    })
}

pub(super) fn publish_bytes(
    topic: &str,
    payload: &Bytes,
    qos: Qos,
    packet_identifier: u16,
) -> Bytes {
    let frame = PublishFrame {
        version: Version::V3_1_1,
        topic: topic.as_bytes(),
        qos,
        retain: false,
        duplicate: false,
        packet_identifier,
        properties: &[],
        message_expiry_interval: None,
        topic_alias: None,
        subscription_identifiers: &[],
        payload,
    };
    let mut out = Rope::new();
    frame.encode(&mut out);
    out.take_all()
}

const V4: Version = Version::V3_1_1;

fn packets(bytes: &[u8]) -> Vec<Packet> {
    let decoder = Decoder::new(V4, 1 << 28);
    let mut input = BytesMut::from(bytes);
    let mut all = Vec::new();
    while let Some(packet) = decoder.next(&mut input).expect("we sent it") {
        all.push(packet);
    }
    assert!(input.is_empty());
    all
}

fn client(engine: &mut Engine, name: &str, clean_start: bool) -> ConnectionId {
    let id = engine.connect();
    engine.send(id, &bytes_of(&connect_packet(name, V4, clean_start), V4));
    let answer = packets(&engine.take(id));
    assert!(matches!(&answer[0], Packet::Connack(connack) if !connack.reason.is_failure()));
    id
}

fn subscriber(engine: &mut Engine, name: &str, topic_filter: &str, qos: Qos) -> ConnectionId {
    let id = client(engine, name, true);
    engine.send(id, &bytes_of(&subscribe_packet(topic_filter, qos), V4));
    engine.take(id);
    id
}

#[test]
fn a_whole_conversation_byte_by_byte() {
    let mut stream = BytesMut::new();
    stream.extend_from_slice(&bytes_of(&connect_packet("a", V4, true), V4));
    stream.extend_from_slice(&bytes_of(&subscribe_packet("t", Qos::AtMostOnce), V4));
    stream.extend_from_slice(&publish_bytes("t", &Bytes::from_static(b"x"), Qos::AtLeastOnce, 5));
    stream.extend_from_slice(&bytes_of(&Packet::Pingreq, V4));
    for chunk in [1, 2, 7, stream.len()] {
        let mut engine = Engine::new();
        let id = engine.connect();
        for piece in stream.chunks(chunk) {
            engine.send(id, piece);
        }
        let seen: Vec<_> = packets(&engine.take(id)).iter().map(Packet::packet_type).collect();
        assert_eq!(seen.len(), 5, "{seen:?}");
    }
}

#[test]
fn the_same_conversation_in_a_websocket() {
    let mut engine = Engine::new();
    let id = engine.connect();
    engine.send(
        id,
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
          Sec-WebSocket-Protocol: mqtt\r\n\r\n",
    );
    let answer = engine.take(id);
    assert!(answer.starts_with(b"HTTP/1.1 101 "));
    let mask = [9, 8, 7, 6];
    let connect = bytes_of(&connect_packet("a", V4, true), V4);
    engine.send(id, &client_frame(0x02, mask, &connect[..5]));
    engine.send(id, &client_frame(0x80, mask, &connect[5..]));
    assert_eq!(&engine.take(id)[..], [0x82, 4, 0x20, 2, 0, 0]);
    engine.send(id, &client_frame(0x89, mask, b"still there?"));
    assert_eq!(&engine.take(id)[..2], [0x8A, 12]);
    let subscribe = bytes_of(&subscribe_packet("t", Qos::AtMostOnce), V4);
    engine.send(id, &client_frame(0x82, mask, &subscribe));
    assert_eq!(&engine.take(id)[..], [0x82, 5, 0x90, 3, 0, 1, 0]);
    let other = client(&mut engine, "b", true);
    engine.send(other, &publish_bytes("t", &Bytes::from_static(b"x"), Qos::AtMostOnce, 0));
    assert_eq!(&engine.take(id)[..], [0x82, 6, 0x30, 4, 0, 1, b't', b'x']);
    // A protocol error closes the WebSocket as well.
    engine.send(id, &client_frame(0x82, mask, &connect));
    assert_eq!(&engine.take(id)[..], [0x88, 2, 3, 232]);
    assert!(!engine.is_open(id));
}

#[test]
fn a_websocket_that_closes_or_speaks_text() {
    for (frame, code) in [(0x88, 1000u16), (0x81, 1003)] {
        let mut engine = Engine::new();
        let id = engine.connect();
        engine.send(
            id,
            b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
              Sec-WebSocket-Protocol: mqtt\r\n\r\n",
        );
        engine.take(id);
        engine.send(id, &client_frame(frame, [1, 2, 3, 4], b""));
        let [high, low] = code.to_be_bytes();
        assert_eq!(&engine.take(id)[..], [0x88, 2, high, low]);
        assert!(!engine.is_open(id));
    }
    let mut engine = Engine::new();
    let id = engine.connect();
    engine.send(id, b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(engine.take(id).starts_with(b"HTTP/1.1 400 "));
    assert!(!engine.is_open(id));
}

#[test]
fn volatile_messages_are_dropped_when_the_receiver_is_slow_and_others_never() {
    let mut engine = Engine::new();
    engine.limits.output_bytes_max = 10_000;
    let slow = subscriber(&mut engine, "slow", "t", Qos::AtLeastOnce);
    let fast = client(&mut engine, "fast", true);
    let payload = Bytes::from(vec![1; 1000]);
    for packet in 1..=50 {
        engine.send(fast, &publish_bytes("t", &payload, Qos::AtMostOnce, 0));
        engine.send(fast, &publish_bytes("t", &payload, Qos::AtLeastOnce, packet));
    }
    assert_eq!(packets(&engine.take(fast)).len(), 50);
    let mut volatile = 0;
    let mut kept = 0;
    // It reads now, and acknowledges.
    loop {
        let seen = packets(&engine.take(slow));
        if seen.is_empty() {
            break;
        }
        for packet in seen {
            let Packet::Publish(publish) = packet else { panic!("only publishes were sent") };
            match publish.packet_identifier {
                0 => volatile += 1,
                packet => {
                    kept += 1;
                    let puback = Packet::Puback(Acknowledgement::new(packet));
                    engine.send(slow, &bytes_of(&puback, V4));
                }
            }
        }
        engine.advance(20);
    }
    assert_eq!(kept, 50);
    assert!((1..50).contains(&volatile), "{volatile}");
    assert_eq!(engine.meter.dropped_slow, 50 - volatile);
}

#[test]
fn a_keep_alive_above_the_limit_is_replaced() {
    fn check(version: Version, asked: u16, expect: Option<u16>) {
        let mut engine = Engine::new();
        engine.limits.keep_alive_seconds_max = 60;
        let id = engine.connect();
        let Packet::Connect(mut connect) = connect_packet("a", version, true) else {
            panic!("just made")
        };
        connect.keep_alive = asked;
        engine.send(id, &bytes_of(&Packet::Connect(connect), version));
        let mut input = BytesMut::from(&engine.take(id)[..]);
        let answer = Decoder::new(version, 1 << 20).next(&mut input).expect("we sent it");
        let Some(Packet::Connack(connack)) = answer else { panic!("accepted") };
        let told = connack.properties.find(|property| match property {
            Property::ServerKeepAlive(seconds) => Some(seconds),
            _ => None,
        });
        assert_eq!(told, expect, "{version:?} {asked}");
        let interval = u64::from(expect.unwrap_or(asked));
        engine.advance(interval * 1500 - 1);
        assert!(engine.is_open(id));
        engine.advance(1);
        assert_eq!(engine.is_open(id), interval == 0);
    }
    check(Version::V5, 60, None);
    check(Version::V5, 61, Some(60));
    check(Version::V5, 0, Some(60));
    check(V4, 61, None);
}

/// Identifiers come from offsets, and there are 32,767 of them: the backlog goes through them three
/// times while one early message stays unacknowledged for as long as the window allows.
#[test]
fn identifiers_go_round_without_meeting() {
    let mut engine = Engine::new();
    let sub = subscriber(&mut engine, "sub", "t", Qos::AtLeastOnce);
    let publisher = client(&mut engine, "pub", true);
    let payload = Bytes::from_static(b"x");
    let mut open = std::collections::BTreeSet::new();
    let mut held = None;
    let mut received = 0u32;
    for round in 0..70_000u32 {
        let packet = (round % 60_000) as u16 + 1;
        engine.send(publisher, &publish_bytes("t", &payload, Qos::AtLeastOnce, packet));
        engine.take(publisher);
        for packet in packets(&engine.take(sub)) {
            let Packet::Publish(publish) = packet else { panic!("only publishes were sent") };
            let packet = publish.packet_identifier;
            assert!(open.insert(packet), "{packet} is in use");
            received += 1;
            if held.is_none() {
                held = Some(packet);
                continue;
            }
            open.remove(&packet);
            let puback = Packet::Puback(Acknowledgement::new(packet));
            engine.send(sub, &bytes_of(&puback, V4));
        }
        // The window is full: nothing more comes until the held one is acknowledged.
        if open.len() == 1 && received.is_multiple_of(32_767) {
            let held = held.take().expect("one is held");
            open.remove(&held);
            let puback = Packet::Puback(Acknowledgement::new(held));
            engine.send(sub, &bytes_of(&puback, V4));
        }
    }
    assert!(received > 65_000, "{received}");
}

#[test]
fn noise_after_connect_never_panics_and_leaves_others_alone() {
    let mut rng = Rng::new(3);
    let mut engine = Engine::new();
    let witness = subscriber(&mut engine, "witness", "witness", Qos::AtMostOnce);
    for round in 0..3000u32 {
        let id = engine.connect();
        let version = [Version::V3_1, V4, Version::V5][rng.below(3) as usize];
        let packet = connect_packet(&format!("c{}", round % 7), version, rng.chance(1, 2));
        engine.send(id, &bytes_of(&packet, version));
        for _ in 0..rng.below(6) {
            let mut noise = vec![rng.next_u64() as u8, rng.below(24) as u8];
            let length = usize::from(noise[1]);
            noise.extend((0..length).map(|_| match rng.below(3) {
                0 => 0,
                1 => rng.below(8) as u8,
                _ => rng.next_u64() as u8,
            }));
            if rng.chance(2, 3) {
                noise[0] = (rng.below(12) as u8 + 3) << 4 | [0, 2][rng.below(2) as usize];
            }
            engine.send(id, &noise);
        }
        if rng.chance(1, 3) {
            engine.drop_connection(id);
        }
        engine.take(id);
    }
    let sender = client(&mut engine, "sender", true);
    engine.send(sender, &publish_bytes("witness", &Bytes::new(), Qos::AtMostOnce, 0));
    assert!(engine.is_open(witness));
    let last = packets(&engine.take(witness));
    assert!(matches!(last.last(), Some(Packet::Publish(publish)) if publish.topic() == b"witness"));
}

/// An idle connection is to cost at most 8 KiB in all (socket buffers of the runtime included).
#[test]
fn a_session_is_small() {
    let bytes = std::mem::size_of::<crate::MqttSession>();
    assert!(bytes <= 2048, "{bytes}");
}

#[test]
fn what_waited_in_a_websocket_frame_goes_on_without_more_input() {
    let mut engine = Engine::new();
    let id = engine.connect();
    let upgrade = "GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
          Sec-WebSocket-Protocol: mqtt\r\n\r\n";
    engine.send(id, upgrade.as_bytes());
    let mut all = BytesMut::new();
    all.extend_from_slice(&bytes_of(&connect_packet("c", V4, true), V4));
    all.extend_from_slice(&bytes_of(&subscribe_packet("a", Qos::AtMostOnce), V4));
    all.extend_from_slice(&bytes_of(&Packet::Pingreq, V4));
    engine.send(id, &client_frame(0x82, [1, 2, 3, 4], &all));
    let answer = engine.take(id);
    // A PINGRESP in a frame of its own is the last that comes.
    assert!(answer.ends_with(&[0xD0, 0]), "{answer:?}");
}

#[test]
fn a_publish_counts_until_it_is_whole_but_not_while_it_waits() {
    let mut engine = Engine::new();
    let id = client(&mut engine, "c", true);
    let all = publish_bytes("t", &Bytes::from(vec![0; 100_000]), Qos::AtLeastOnce, 1);
    engine.send(id, &all[..50_000]);
    assert_eq!(engine.session(id).partial_bytes(), 50_000);
    // Version 3.1.1 waits for the disk, wherever in its publish it is.
    engine.alarm(Alarms { disk: true, memory: false });
    assert_eq!((engine.session(id).partial_bytes(), engine.session(id).wants_input()), (0, false));
    // A large one is not held up by the memory alarm: the engine reads them in turn.
    engine.alarm(Alarms { disk: false, memory: true });
    assert_eq!(engine.session(id).partial_bytes(), 50_000);
    assert!(engine.session(id).wants_input());
    engine.send(id, &all[50_000..]);
    assert_eq!(engine.session(id).partial_bytes(), 0);
    assert_eq!(engine.take(id)[..2], [0x40, 2]);
}

/// Before version 5 nothing else limits how many there are.
#[test]
fn publishes_that_wait_for_those_before_them_are_bounded() {
    let mut engine = Engine::new();
    engine.limits.publish_bytes_in_flight_max = 64_000;
    let id = client(&mut engine, "c", true);
    subscriber(&mut engine, "kept", "kept", Qos::AtLeastOnce);
    engine.hold_publishes = true;
    engine.send(id, &publish_bytes("kept", &Bytes::new(), Qos::AtLeastOnce, 1));
    let mut sent = 0;
    while engine.session(id).wants_input() && sent < 5000 {
        engine.send(id, &publish_bytes("nobody", &Bytes::new(), Qos::AtLeastOnce, 2));
        sent += 1;
    }
    assert!((500..5000).contains(&sent), "{sent}");
}

#[test]
fn retained_messages_leave_no_faster_than_they_are_taken() {
    let mut engine = Engine::new();
    engine.limits.output_bytes_max = 100_000;
    let sender = client(&mut engine, "sender", true);
    for number in 0..100 {
        let mut publish =
            publish_bytes(&format!("r/{number}"), &vec![7; 10_000].into(), Qos::AtMostOnce, 0)
                .to_vec();
        publish[0] |= 1;
        engine.send(sender, &publish);
    }
    let receiver = client(&mut engine, "receiver", true);
    engine.send(receiver, &bytes_of(&subscribe_packet("r/+", Qos::AtMostOnce), V4));
    engine.send(receiver, &bytes_of(&subscribe_packet("r/1", Qos::AtMostOnce), V4));
    let mut received = Vec::new();
    loop {
        let bytes = engine.take(receiver);
        assert!(bytes.len() < 120_000, "{}", bytes.len());
        if bytes.is_empty() {
            break;
        }
        received.extend(packets(&bytes));
        engine.advance(20);
    }
    let publishes = received.iter().filter(|packet| matches!(packet, Packet::Publish(_))).count();
    assert_eq!(publishes, 101);
}

#[test]
fn who_cannot_be_told_what_is_retained_is_sent_away() {
    let mut engine = Engine::new();
    let id = client(&mut engine, "receiver", true);
    engine.is_deposed = true;
    engine.send(id, &bytes_of(&subscribe_packet("r/+", Qos::AtMostOnce), V4));
    assert!(!engine.is_open(id));
}
