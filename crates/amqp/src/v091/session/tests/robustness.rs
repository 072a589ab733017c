//! Hostile and broken peers: no panic, no growth, and nobody else notices.

use super::*;
use crate::v091::output::{put_content, put_method, Content as Outgoing};
use koine_base::rng::Rng;
use koine_base::Rope;

/// A whole conversation of a client as bytes.
fn conversation() -> Vec<u8> {
    let mut out = Rope::new();
    out.put(b"AMQP\x00\x00\x09\x01");
    let mut put = |channel, method: Method| put_method(&mut out, channel, &method);
    put(0, start_ok("guest", "guest").into());
    put(0, ConnectionTuneOk { channel_max: 10, frame_max: 4096, heartbeat: 10 }.into());
    put(0, open("/").into());
    put(1, ChannelOpen::default().into());
    put(1, ConfirmSelect::default().into());
    put(1, declare("q").into());
    for size in [0usize, 10, 5000] {
        put_method(&mut out, 1, &publish_to("q").into());
        let body = Bytes::from(vec![7; size]);
        put_content(
            &mut out,
            1,
            Outgoing { properties: &NO_PROPERTIES, body: &body, frame_max: 4096 },
        );
    }
    put_method(&mut out, 1, &consume("q", "t").into());
    put_method(&mut out, 1, &BasicAck { delivery_tag: 0, multiple: true }.into());
    put_method(&mut out, 1, &BasicCancel { consumer_tag: text("t"), no_wait: false }.into());
    put_method(&mut out, 1, &get("q").into());
    put_method(&mut out, 1, &ChannelClose::default().into());
    put_method(&mut out, 0, &ConnectionClose::default().into());
    out.take_all().to_vec()
}

fn names(seen: &[Seen]) -> Vec<&'static str> {
    let name = |seen: &Seen| match seen {
        Seen::Method(_, method) | Seen::Content(_, method, _, _) => method.name(),
        Seen::Heartbeat => "heartbeat",
        Seen::Header(_) => "header",
    };
    seen.iter().map(name).collect()
}

#[test]
fn any_chunking_gives_the_same_conversation() {
    let bytes = conversation();
    let talk = |chunk: usize| {
        let mut node = Node::new();
        let client = node.connect_raw();
        for piece in bytes.chunks(chunk) {
            node.send_bytes(client, piece);
        }
        assert!(node.is_closed(client));
        node.take(client)
    };
    let seen = talk(bytes.len());
    // Confirms may be joined differently.
    let without_acks = |seen: &[Seen]| {
        let mut names = names(seen);
        names.retain(|name| *name != "BasicAck");
        names
    };
    let expect = [
        "ConnectionStart",
        "ConnectionTune",
        "ConnectionOpenOk",
        "ChannelOpenOk",
        "ConfirmSelectOk",
        "QueueDeclareOk",
        "BasicConsumeOk",
        "BasicDeliver",
        "BasicDeliver",
        "BasicDeliver",
        "BasicCancelOk",
        "BasicGetEmpty",
        "ChannelCloseOk",
        "ConnectionCloseOk",
    ];
    assert_eq!(without_acks(&talk(1)), expect);
    assert_eq!(without_acks(&talk(7)), expect);
    assert_eq!(without_acks(&talk(20)), expect);
    // In one piece the ack of everything comes before anything is delivered.
    assert_eq!(names(&seen).first(), Some(&"ConnectionStart"));
    assert_eq!(names(&seen).last(), Some(&"ConnectionCloseOk"));
}

#[test]
fn damaged_conversations_never_panic_and_disturb_nobody() {
    let bytes = conversation();
    let mut rng = Rng::new(21);
    let mut node = Node::new();
    let witness = node.connect();
    node.send(witness, 1, declare("witness"));
    node.take(witness);
    for round in 0..1000 {
        let mut damaged = bytes.clone();
        for _ in 0..=rng.below(4) {
            let position = rng.below(damaged.len() as u64) as usize;
            match rng.below(3) {
                0 => damaged[position] ^= 1 << rng.below(8),
                1 => damaged[position] = rng.next_u64() as u8,
                _ => {
                    damaged.remove(position);
                }
            }
        }
        if round % 100 == 0 {
            node = Node::new();
            node.connect();
        }
        let client = node.connect_raw();
        for piece in damaged.chunks(1 + rng.below(600) as usize) {
            node.send_bytes(client, piece);
        }
        node.disconnect(client);
        let alive = node.ask(0, 1, declare("witness"));
        assert!(matches!(only_method(alive), Method::QueueDeclareOk(_)));
    }
}

#[test]
fn random_frames_after_login_never_panic() {
    let mut rng = Rng::new(5);
    for _ in 0..500 {
        let mut node = Node::new();
        let client = node.connect();
        for _ in 0..10 {
            let methods = Method::every(&mut rng);
            let method = &methods[rng.below(methods.len() as u64) as usize];
            node.send(client, rng.below(3) as u16, method.clone());
        }
        node.disconnect(client);
    }
}

#[test]
fn frames_out_of_order_are_named() {
    let check = |frames: &[(u8, &[u8])], code: u16, starts: &str| {
        let mut node = Node::new();
        let client = node.connect();
        for (kind, payload) in frames {
            let mut frame = vec![*kind, 0, 1];
            frame.extend_from_slice(&(payload.len() as u32).to_be_bytes());
            frame.extend_from_slice(payload);
            frame.push(0xCE);
            node.send_bytes(client, &frame);
        }
        match only_method(node.take(client)) {
            Method::ConnectionClose(close) => {
                assert_eq!(close.reply_code, code);
                assert!(close.reply_text.as_str().starts_with(starts), "{}", close.reply_text);
            }
            other => panic!("{other:?}"),
        }
    };
    const PUBLISH: (u8, &[u8]) = (1, b"\0\x3C\0\x28\0\0\0\x01q\0");
    const HEADER: (u8, &[u8]) = (2, b"\0\x3C\0\0\0\0\0\0\0\0\0\x02\0\0");
    check(&[HEADER], 505, "UNEXPECTED_FRAME - expected method frame");
    check(&[(3, b"x")], 505, "UNEXPECTED_FRAME - expected method frame");
    check(&[PUBLISH, (3, b"x")], 505, "UNEXPECTED_FRAME - expected content header");
    check(&[PUBLISH, PUBLISH], 505, "UNEXPECTED_FRAME - expected content header");
    check(&[PUBLISH, HEADER, PUBLISH], 505, "UNEXPECTED_FRAME - expected content body");
    check(&[PUBLISH, HEADER, (3, b"xyz")], 501, "FRAME_ERROR - content body frame exceeds");
    check(
        &[PUBLISH, (2, b"\0\x32\0\0\0\0\0\0\0\0\0\x02\0\0")],
        505,
        "UNEXPECTED_FRAME - expected content header for class 60, got one for class 50",
    );
    check(&[PUBLISH, (2, b"\0\x3C\0")], 501, "FRAME_ERROR - content header frame too short");
    check(
        &[PUBLISH, (2, b"\0\x3C\0\0\0\0\0\0\0\0\0\0\x80\0\x05a")],
        502,
        "SYNTAX_ERROR - a field reaches past the end",
    );
    check(&[(8, b"")], 505, "UNEXPECTED_FRAME");
    check(&[(1, b"\0\x3C\0\x63")], 540, "NOT_IMPLEMENTED - unknown method 99 of class 60");
}

#[test]
fn a_lost_frame_border_is_told_and_nothing_more_is_read() {
    let mut node = Node::new();
    let client = node.connect();
    node.send_bytes(client, &[1, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF]);
    let close = only_method(node.take(client));
    assert!(matches!(close, Method::ConnectionClose(close) if close.reply_code == 501));
    assert_eq!(node.ask(client, 1, declare("q")), []);
    let deadline = node.deadline(client);
    node.tick(client, deadline);
    assert!(node.is_closed(client));
}

#[test]
fn unfinished_bodies_are_bounded_for_the_connection() {
    let mut node = Node::new();
    node.limits.message_bytes_max = 10_000;
    let client = node.connect();
    let mut refused = false;
    for channel in 1..=20u16 {
        if channel > 1 {
            node.send(client, channel, ChannelOpen::default());
        }
        let mut out = Rope::new();
        put_method(&mut out, channel, &publish_to("q").into());
        let body = Bytes::from(vec![0; 10_000]);
        put_content(
            &mut out,
            channel,
            Outgoing { properties: &NO_PROPERTIES, body: &body, frame_max: 5000 },
        );
        let bytes = out.take_all();
        // All but the last frame, which has the 16 bytes that two frames of 4992 leave over.
        node.send_bytes(client, &bytes[..bytes.len() - 24]);
        let seen = node.take(client);
        refused = seen.iter().any(|seen| {
            matches!(seen, Seen::Method(0, Method::ConnectionClose(close)) if close.reply_code == 506)
        });
        if refused {
            break;
        }
    }
    assert!(refused);
}
