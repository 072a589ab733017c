use super::*;
use crate::v091::frame::frame_at;
use crate::v091::methods::Method;
use crate::v091::output::{put_content, put_deliver, put_method, Content, Delivery};
use crate::v091::table::{TableBuilder, Value};
use crate::v091::wire::ShortString;
use koine_base::rng::Rng;
use koine_base::Rope;

fn encoded(properties: &BasicProperties<'_>) -> Bytes {
    let mut out = BytesMut::new();
    properties.encode(&mut out);
    out.freeze()
}

fn all_properties<'a>(headers: TableView<'a>) -> BasicProperties<'a> {
    BasicProperties {
        content_type: Some(b"text/plain"),
        content_encoding: Some(b"utf-8"),
        headers: Some(headers),
        delivery_mode: Some(2),
        priority: Some(9),
        correlation_id: Some("é".as_bytes()),
        reply_to: Some(b""),
        expiration: Some(b"60000"),
        message_id: Some(b"m"),
        timestamp: Some(u64::MAX),
        kind: Some(b"t"),
        user_id: Some(b"guest"),
        app_id: Some(b"app"),
        cluster_id: Some(b"c"),
    }
}

#[test]
fn every_set_of_properties_round_trips() {
    let headers = TableBuilder::new().with("k", Value::Long(1)).finish();
    let all = all_properties(headers.view());
    for flags in 0..1u32 << 14 {
        let keep = |bit: u32| flags >> bit & 1 == 1;
        let some = BasicProperties {
            content_type: all.content_type.filter(|_| keep(13)),
            content_encoding: all.content_encoding.filter(|_| keep(12)),
            headers: all.headers.filter(|_| keep(11)),
            delivery_mode: all.delivery_mode.filter(|_| keep(10)),
            priority: all.priority.filter(|_| keep(9)),
            correlation_id: all.correlation_id.filter(|_| keep(8)),
            reply_to: all.reply_to.filter(|_| keep(7)),
            expiration: all.expiration.filter(|_| keep(6)),
            message_id: all.message_id.filter(|_| keep(5)),
            timestamp: all.timestamp.filter(|_| keep(4)),
            kind: all.kind.filter(|_| keep(3)),
            user_id: all.user_id.filter(|_| keep(2)),
            app_id: all.app_id.filter(|_| keep(1)),
            cluster_id: all.cluster_id.filter(|_| keep(0)),
        };
        let raw = encoded(&some);
        assert_eq!(u32::from(u16::from_be_bytes([raw[0], raw[1]])), flags << 2);
        assert_eq!(BasicProperties::parse(&raw), Ok(some));
    }
}

#[test]
fn every_cut_and_every_extra_octet_of_properties_is_refused() {
    let headers = TableBuilder::new().with("k", Value::LongString(b"v")).finish();
    let raw = encoded(&all_properties(headers.view()));
    for end in 0..raw.len() {
        assert!(BasicProperties::parse(&raw[..end]).is_err(), "cut at {end}");
    }
    let mut longer = raw.to_vec();
    longer.push(0);
    assert_eq!(BasicProperties::parse(&longer), Err(Malformed::TrailingBytes));
}

#[test]
fn property_flags_may_continue_but_bring_nothing_new() {
    let check = |raw: &[u8], expect: Result<BasicProperties<'_>, Malformed>| {
        assert_eq!(BasicProperties::parse(raw), expect, "{raw:?}");
    };
    let priority = BasicProperties { priority: Some(5), ..BasicProperties::default() };
    check(&[0x08, 0, 5], Ok(priority));
    check(&[0x08, 1, 0, 0, 5], Ok(priority));
    check(&[0x08, 1, 0, 1, 0, 0, 5], Ok(priority));
    check(&[0x08, 2, 5], Ok(priority));
    check(&[0x08, 1, 0x80, 0, 5], Err(Malformed::PropertyFlags(0x8000)));
    check(&[0x08, 1], Err(Malformed::FieldPastEnd));
    check(&[0], Err(Malformed::FieldPastEnd));
    check(&[0, 0], Ok(BasicProperties::default()));
    check(&[0x80, 0, 1, 0xFF], Err(Malformed::ShortStringNotUtf8));
    check(&[0x20, 0, 0xFF, 0xFF, 0xFF, 0xFF], Err(Malformed::FieldPastEnd));
}

#[test]
fn content_headers_round_trip_and_short_ones_are_refused() {
    let header = ContentHeader {
        class_id: CLASS_BASIC,
        weight: 0,
        body_size: u64::MAX,
        properties: Bytes::from_static(&NO_PROPERTIES),
    };
    let mut out = BytesMut::new();
    header.encode(&mut out);
    let payload = out.freeze();
    assert_eq!(ContentHeader::decode(&payload), Ok(header));
    for end in 0..HEADER_FIXED_SIZE {
        assert_eq!(ContentHeader::decode(&payload.slice(..end)), Err(Malformed::ContentHeader));
    }
}

#[test]
fn a_body_in_one_piece_is_shared_and_in_many_is_joined() {
    let piece = Bytes::from(vec![1u8; 100]);
    let mut assembly = BodyAssembly::new(100);
    assembly.add(Bytes::new()).unwrap();
    assembly.add(piece.clone()).unwrap();
    assert!(assembly.is_complete());
    let body = assembly.finish();
    assert_eq!(body.as_ptr(), piece.as_ptr());

    let mut assembly = BodyAssembly::new(250);
    for size in [100, 100, 49, 1] {
        assert!(!assembly.is_complete());
        assembly.add(piece.slice(..size)).unwrap();
    }
    assert!(assembly.is_complete());
    assert_eq!(assembly.received(), 250);
    assert_eq!(assembly.add(Bytes::from_static(b"x")), Err(BodyTooLong));
    assert_eq!(assembly.finish(), vec![1u8; 250]);
}

fn published(channel: u16, body: &Bytes, frame_max: u32) -> Bytes {
    let publish = BasicPublish {
        exchange: ShortString::fixed("amq.topic"),
        routing_key: ShortString::fixed("a.b"),
        mandatory: true,
        ..BasicPublish::default()
    };
    let mut rope = Rope::new();
    put_method(&mut rope, channel, &Method::BasicPublish(publish));
    put_content(&mut rope, channel, Content { properties: &[0x08, 0, 5], body, frame_max });
    rope.take_all()
}

fn whole_publish(buffer: &Bytes, frame_max: u32) -> Option<WholePublish> {
    let layout = WholePublishLayout::find(buffer, frame_max)?;
    layout.take(&buffer.slice(..layout.size)).ok()
}

#[test]
fn the_fast_path_reads_what_the_slow_path_reads() {
    for size in [0, 1, 16, 1023, 1024, 4088] {
        let body = Bytes::from(vec![0xCE; size]);
        let buffer = published(7, &body, 4096);
        let whole = whole_publish(&buffer, 4096).unwrap();
        assert_eq!((whole.channel, &whole.body), (7, &body));
        assert_eq!(&whole.properties[..], [0x08, 0, 5]);
        let (frame, next) = frame_at(&buffer, 0, 4096).unwrap().unwrap();
        assert_eq!(Method::decode(&frame.payload), Ok(Method::BasicPublish(whole.publish)));
        let (header, _) = frame_at(&buffer, next, 4096).unwrap().unwrap();
        assert_eq!(ContentHeader::decode(&header.payload).unwrap().body_size, size as u64);
        for end in 0..buffer.len() {
            assert_eq!(whole_publish(&buffer.slice(..end), 4096), None);
        }
    }
}

#[test]
fn the_fast_path_leaves_everything_odd_to_the_slow_one() {
    let body = Bytes::from_static(b"body");
    let good = published(1, &body, 4096);
    assert!(whole_publish(&good, 4096).is_some());
    // Two body frames.
    assert_eq!(whole_publish(&published(1, &Bytes::from(vec![0; 5000]), 4096), 4096), None);
    // Channel 0.
    assert_eq!(whole_publish(&published(0, &body, 4096), 4096), None);
    let mut rng = Rng::new(9);
    for _ in 0..20_000 {
        let mut damaged = good.to_vec();
        let position = rng.below(damaged.len() as u64) as usize;
        damaged[position] ^= 1 << rng.below(8);
        let _ = whole_publish(&Bytes::from(damaged), 4096);
    }
}

#[test]
fn deliveries_cut_and_share_large_bodies() {
    let body: Bytes = (0..10_000u32).map(|index| index as u8).collect::<Vec<u8>>().into();
    let delivery = Delivery {
        consumer_tag: b"ct",
        delivery_tag: 9,
        redelivered: true,
        exchange: b"",
        routing_key: b"q",
    };
    let mut rope = Rope::new();
    let content = Content { properties: &NO_PROPERTIES, body: &body, frame_max: 4096 };
    put_deliver(&mut rope, 3, delivery, content);
    let shared = rope.slices(100).filter(|slice| body.as_ptr_range().contains(&slice.as_ptr()));
    assert_eq!(shared.map(<[u8]>::len).collect::<Vec<_>>(), [4088, 4088, 1824]);

    let buffer = rope.take_all();
    let (mut frames, mut position) = (Vec::new(), 0);
    while let Some((frame, next)) = frame_at(&buffer, position, 4096).unwrap() {
        frames.push(frame);
        position = next;
    }
    assert_eq!(position, buffer.len());
    assert_eq!(frames.len(), 5);
    let Ok(Method::BasicDeliver(method)) = Method::decode(&frames[0].payload) else {
        panic!("a deliver");
    };
    assert_eq!((method.delivery_tag, method.redelivered), (9, true));
    assert_eq!((method.consumer_tag.as_str(), method.routing_key.as_str()), ("ct", "q"));
    let mut assembly = BodyAssembly::new(10_000);
    for frame in &frames[2..] {
        assert_eq!((frame.kind, frame.channel), (FrameType::Body, 3));
        assembly.add(frame.payload.clone()).unwrap();
    }
    assert_eq!(assembly.finish(), body);
}

#[test]
fn random_properties_never_panic() {
    let mut rng = Rng::new(5);
    for _ in 0..100_000 {
        let size = rng.below(30) as usize;
        let raw: Vec<u8> = (0..size)
            .map(|_| if rng.chance(1, 2) { rng.below(6) as u8 } else { rng.next_u64() as u8 })
            .collect();
        let _ = BasicProperties::parse(&raw);
    }
}

#[test]
fn a_piece_that_waits_for_others_keeps_nothing_of_what_was_received_around_it() {
    let received = Bytes::from(vec![b'x'; 1000]);
    let mut body = BodyAssembly::new(20);
    body.add(received.slice(0..10)).expect("fits");
    assert!(received.is_unique());
    body.add(received.slice(10..20)).expect("fits");
    assert!(received.is_unique() && body.is_complete());
    assert_eq!(body.finish(), received.slice(0..20));
    let mut body = BodyAssembly::new(20);
    body.add(received.slice(0..20)).expect("fits");
    assert_eq!(body.finish().as_ptr(), received.as_ptr(), "one piece is not copied");
}
