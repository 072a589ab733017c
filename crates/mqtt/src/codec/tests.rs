//! Round trips of every packet in every version, byte-by-byte arrival, a malformed case per field,
//! and random bytes.

use super::*;
use crate::error::{ReasonCode, Violation};
use koine_base::rng::Rng;
use koine_base::Rope;
use koine_broker::access::Secret;

const PACKET_BYTES_MAX: usize = 1 << 20;

fn properties(all: &[Property<'_>]) -> Properties {
    all.iter().copied().collect()
}

fn encoded(packet: &Packet, version: Version) -> BytesMut {
    let mut out = BytesMut::new();
    packet.encode(version, &mut out);
    out
}

fn decode(version: Version, input: &[u8]) -> Result<Option<Packet>, DecodeError> {
    Decoder::new(version, PACKET_BYTES_MAX).next(&mut BytesMut::from(input))
}

fn publish(version: Version, frame: PublishFrame<'_>) -> Packet {
    let mut out = Rope::new();
    frame.encode(&mut out);
    assert_eq!(frame.packet_size(), Some(out.len()));
    let packet = decode(version, &out.take_all()).expect("well-formed");
    packet.expect("complete")
}

fn frame(version: Version, payload: &Bytes) -> PublishFrame<'_> {
    PublishFrame {
        version,
        topic: b"a/b",
        qos: Qos::AtMostOnce,
        retain: false,
        duplicate: false,
        packet_identifier: 0,
        properties: &[],
        message_expiry_interval: None,
        topic_alias: None,
        subscription_identifiers: &[],
        payload,
    }
}

fn connect(version: Version) -> Connect {
    Connect {
        version,
        clean_start: true,
        keep_alive: 60,
        properties: Properties::default(),
        client_identifier: "client".to_owned(),
        will: None,
        user_name: None,
        password: None,
    }
}

fn connects(version: Version) -> Vec<Packet> {
    let mut full = connect(version);
    full.clean_start = false;
    full.user_name = Some("user".to_owned());
    full.password = Some(Secret::new([0, 255]));
    full.will = Some(Will {
        topic: "will/ä".to_owned(),
        payload: Bytes::from_static(b"gone"),
        qos: Qos::ExactlyOnce,
        retain: true,
        properties: Properties::default(),
    });
    if version.is_v5() {
        full.properties = properties(&[
            Property::SessionExpiryInterval(9),
            Property::UserProperty("k", "1"),
            Property::UserProperty("k", "2"),
        ]);
        let will = full.will.as_mut().expect("set above");
        will.properties = properties(&[Property::WillDelayInterval(5), Property::ContentType("t")]);
        assert_eq!(will.delay_interval(), 5);
    }
    vec![Packet::Connect(Box::new(connect(version))), Packet::Connect(Box::new(full))]
}

fn acknowledgement(version: Version) -> Acknowledgement {
    let mut packet = Acknowledgement::new(77);
    if version.is_v5() {
        packet.properties = properties(&[Property::ReasonString("why")]);
    }
    packet
}

/// Every packet, with and without what is optional.
fn samples(version: Version) -> Vec<Packet> {
    let v5 = version.is_v5();
    let some = |all: &[Property<'_>]| {
        if v5 {
            properties(all)
        } else {
            Properties::default()
        }
    };
    let payload = Bytes::from_static(b"payload");
    let mut packets = connects(version);
    packets.extend([
        Packet::Connack(Connack {
            session_present: true,
            reason: ReasonCode::Success,
            properties: some(&[Property::ReceiveMaximum(3)]),
        }),
        Packet::Connack(Connack {
            session_present: false,
            reason: ReasonCode::NotAuthorized,
            properties: Properties::default(),
        }),
        publish(version, frame(version, &payload)),
        publish(
            version,
            PublishFrame {
                qos: Qos::AtLeastOnce,
                retain: true,
                duplicate: true,
                packet_identifier: 65_535,
                properties: some(&[Property::UserProperty("a", "b")]).block(),
                ..frame(version, &payload)
            },
        ),
        Packet::Puback(Acknowledgement::new(1)),
        Packet::Puback(acknowledgement(version)),
        Packet::Pubrec(acknowledgement(version)),
        Packet::Pubrel(acknowledgement(version)),
        Packet::Pubcomp(acknowledgement(version)),
        Packet::Subscribe(Subscribe {
            packet_identifier: 2,
            properties: some(&[Property::SubscriptionIdentifier(300)]),
            entries: vec![
                SubscribeEntry {
                    topic_filter: "a/#".to_owned(),
                    options: SubscriptionOptions { qos: Qos::ExactlyOnce, ..Default::default() },
                },
                SubscribeEntry { topic_filter: "b".to_owned(), options: Default::default() },
            ],
        }),
        Packet::Suback(Suback {
            packet_identifier: 2,
            properties: Properties::default(),
            reasons: vec![ReasonCode::GrantedQos2, ReasonCode::UnspecifiedError],
        }),
        Packet::Unsubscribe(Unsubscribe {
            packet_identifier: 3,
            properties: some(&[Property::UserProperty("", "")]),
            topic_filters: vec!["a/#".to_owned(), "b".to_owned()],
        }),
        Packet::Unsuback(Unsuback {
            packet_identifier: 3,
            properties: Properties::default(),
            reasons: if v5 {
                vec![ReasonCode::Success, ReasonCode::NoSubscriptionExisted]
            } else {
                Vec::new()
            },
        }),
        Packet::Pingreq,
        Packet::Pingresp,
        Packet::Disconnect(Disconnect {
            reason: ReasonCode::Success,
            properties: Properties::default(),
        }),
    ]);
    if v5 {
        packets.extend([
            Packet::Disconnect(Disconnect {
                reason: ReasonCode::SessionTakenOver,
                properties: properties(&[Property::ReasonString("other")]),
            }),
            Packet::Auth(Auth {
                reason: ReasonCode::ContinueAuthentication,
                properties: properties(&[
                    Property::AuthenticationMethod("SCRAM"),
                    Property::AuthenticationData(Hidden(b"x")),
                ]),
            }),
            Packet::Auth(Auth { reason: ReasonCode::Success, properties: Properties::default() }),
        ]);
    }
    packets
}

const VERSIONS: [Version; 3] = [Version::V3_1, Version::V3_1_1, Version::V5];

#[test]
fn every_packet_reads_back_as_it_was_written() {
    for version in VERSIONS {
        for packet in samples(version) {
            let bytes = encoded(&packet, version);
            let read = decode(version, &bytes);
            assert_eq!(read, Ok(Some(packet.clone())), "{version:?} {bytes:02x?}");
            let again = encoded(&packet, version);
            assert_eq!(bytes, again);
        }
    }
}

#[test]
fn packets_arrive_byte_by_byte() {
    for version in VERSIONS {
        let packets = samples(version);
        let mut stream = BytesMut::new();
        for packet in &packets {
            packet.encode(version, &mut stream);
        }
        let decoder = Decoder::new(version, PACKET_BYTES_MAX);
        let mut input = BytesMut::new();
        let mut seen = Vec::new();
        for byte in stream {
            input.put_u8(byte);
            while let Some(packet) = decoder.next(&mut input).expect("well-formed") {
                seen.push(packet);
            }
        }
        assert!(input.is_empty());
        assert_eq!(seen, packets);
    }
}

/// A packet cut short inside its fields, with its length adjusted, never decodes to something else
/// than a complete shorter packet and never panics.
#[test]
fn shortened_bodies_never_panic() {
    for version in VERSIONS {
        for packet in samples(version) {
            let bytes = encoded(&packet, version);
            let header = FixedHeader::parse(&bytes).expect("well-formed").expect("complete");
            let body = Bytes::from(bytes).slice(header.header_bytes..);
            for cut in 0..body.len() {
                let shorter = FixedHeader { body_bytes: cut, ..header };
                let _ = decode_body(&shorter, version, body.slice(..cut));
            }
            let mut longer = BytesMut::from(&body[..]);
            longer.put_u8(0);
            let _ = decode_body(&header, version, longer.freeze());
        }
    }
}

#[test]
fn a_payload_is_shared_with_the_input() {
    let payload = Bytes::from(vec![7u8; 5000]);
    let mut out = Rope::new();
    frame(Version::V5, &payload).encode(&mut out);
    let all = out.take_all();
    let mut input = BytesMut::from(&all[..]);
    let range = input.as_ptr_range();
    let decoder = Decoder::new(Version::V5, PACKET_BYTES_MAX);
    let packet = decoder.next(&mut input).expect("well-formed").expect("complete");
    let Packet::Publish(publish) = packet else { panic!("a publish was sent") };
    assert!(range.contains(&publish.payload().as_ptr()));
    assert_eq!(publish.payload(), payload);
    assert_eq!(publish.payload_size(), 5000);
}

#[test]
fn publish_properties_are_added_in_front_of_the_raw_ones() {
    let payload = Bytes::from_static(b"x");
    let raw = properties(&[Property::UserProperty("z", "1"), Property::UserProperty("a", "2")]);
    let packet = publish(
        Version::V5,
        PublishFrame {
            properties: raw.block(),
            message_expiry_interval: Some(10),
            topic_alias: Some(4),
            subscription_identifiers: &[1, 268_435_455],
            ..frame(Version::V5, &payload)
        },
    );
    let Packet::Publish(publish) = packet else { panic!("a publish was sent") };
    assert_eq!(publish.topic_alias, Some(4));
    assert_eq!(publish.message_expiry_interval, Some(10));
    assert!(publish.has_subscription_identifier);
    let all: Vec<_> = properties_of(publish.properties()).collect();
    assert_eq!(
        all,
        [
            Property::TopicAlias(4),
            Property::MessageExpiryInterval(10),
            Property::SubscriptionIdentifier(1),
            Property::SubscriptionIdentifier(268_435_455),
            Property::UserProperty("z", "1"),
            Property::UserProperty("a", "2"),
        ]
    );
}

#[test]
fn fixed_headers() {
    fn check(input: &[u8], expect: Result<Option<(usize, usize)>, Malformed>) {
        let parsed = FixedHeader::parse(input);
        let sizes = parsed.map(|header| header.map(|it| (it.header_bytes, it.body_bytes)));
        assert_eq!(sizes, expect, "{input:02x?}");
    }
    check(&[], Ok(None));
    check(&[0x30], Ok(None));
    check(&[0x30, 0xFF, 0xFF], Ok(None));
    check(&[0x30, 0x00], Ok(Some((2, 0))));
    check(&[0x30, 0x80, 0x00], Ok(Some((3, 0))));
    check(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], Ok(Some((5, 268_435_455))));
    check(&[0x30, 0xFF, 0xFF, 0xFF, 0x80], Err(Malformed::RemainingLength));
    check(&[0x00], Err(Malformed::PacketType(0)));
    for first in [0x11, 0x2F, 0x41, 0x58, 0x60, 0x63, 0x80, 0xA0, 0xC1, 0xE1, 0xF1] {
        check(&[first], Err(Malformed::FixedHeaderFlags(first)));
    }
}

#[test]
fn too_large_is_known_from_the_header() {
    let decoder = Decoder::new(Version::V5, 100);
    let mut input = BytesMut::from(&[0x30, 98][..]);
    assert_eq!(decoder.next(&mut input), Ok(None));
    let mut input = BytesMut::from(&[0x30, 99][..]);
    assert_eq!(decoder.next(&mut input), Err(DecodeError::PacketTooLarge));
}

/// `0x00 0x04 MQTT` and what follows.
fn connect_bytes(level: u8, flags: u8, rest: &[u8]) -> Vec<u8> {
    let mut body = b"\x00\x04MQTT".to_vec();
    body.extend_from_slice(&[level, flags, 0, 60]);
    body.extend_from_slice(rest);
    let mut bytes = vec![0x10, body.len() as u8];
    bytes.extend_from_slice(&body);
    bytes
}

#[test]
fn malformed_connects() {
    fn check(input: &[u8], expect: impl Into<DecodeError>) {
        let expect = expect.into();
        assert_eq!(decode(Version::V3_1_1, input), Err(expect), "{input:02x?}");
    }
    let v4 = |flags, rest: &[u8]| connect_bytes(4, flags, rest);
    let v5 = |flags, rest: &[u8]| connect_bytes(5, flags, rest);
    check(&[0x10, 0], Malformed::Truncated);
    check(b"\x10\x09\x00\x04MQTX\x04\x02\x00", Malformed::ProtocolName);
    check(b"\x10\x09\x00\x06MQTT\x04\x02\x00", Malformed::ProtocolName);
    check(&connect_bytes(6, 2, b"\0\0"), DecodeError::ProtocolLevel(6));
    check(&connect_bytes(0x84, 2, b"\0\0"), DecodeError::ProtocolLevel(0x84));
    check(&v4(0x03, b"\0\0"), Malformed::ConnectFlags(0x03));
    check(&v4(0x0A, b"\0\0"), Malformed::ConnectFlags(0x0A)); // will QoS, no will
    check(&v4(0x22, b"\0\0"), Malformed::ConnectFlags(0x22)); // will retain, no will
    check(&v4(0x42, b"\0\0\0\0"), Malformed::ConnectFlags(0x42)); // password alone
    check(&v4(0x1E, b"\0\0\0\x01w\0\0"), Malformed::Qos);
    check(&v4(0x06, b"\0\0\0\x01#\0\0"), Violation::TopicName);
    check(&v4(0x06, b"\0\0\0\0\0\0"), Violation::TopicName);
    check(&v4(0x06, b"\0\0\0\x01w\0\x02x"), Malformed::Truncated);
    check(&v4(0x02, b""), Malformed::Truncated);
    check(&v4(0x02, b"\0\x02a"), Malformed::Truncated);
    check(&v4(0x02, b"\0\x02a\0"), Malformed::Text);
    check(&v4(0x02, b"\0\x01\xff"), Malformed::Text);
    check(&v4(0x82, b"\0\0"), Malformed::Truncated);
    check(&v4(0x82, b"\0\0\0\x01\xc0"), Malformed::Text);
    check(&v4(0xC2, b"\0\0\0\x01u\0\x05pw"), Malformed::Truncated);
    check(&v4(0x02, b"\0\0\x00"), Malformed::TrailingBytes);
    check(&v5(0x02, b""), Malformed::Truncated);
    check(&v5(0x02, b"\x05\0\0"), Malformed::Truncated);
    check(&v5(0x02, b"\x03\x23\0\x01\0\0"), Malformed::Property(0x23));
    check(&v5(0x02, b"\x03\x21\0\0\0\0"), Violation::PropertyValue(0x21));
    check(&v5(0x02, b"\x06\x21\0\x01\x21\0\x01\0\0"), Violation::DuplicateProperty(0x21));
    check(&v5(0x02, b"\x04\x16\0\x01x\0\0"), Violation::AuthenticationMethodMissing);
    check(&v5(0x02, b"\xff\xff\xff\xff\x01\0\0"), Malformed::VariableByteInteger);
}

#[test]
fn connects_that_older_clients_send() {
    // 3.1 leaves the lowest flag bit undefined; version 5 permits a password alone.
    let v31 = b"\x10\x0f\x00\x06MQIsdp\x03\x03\x00\x3c\x00\x01c";
    assert!(matches!(decode(Version::V3_1_1, v31), Ok(Some(Packet::Connect(_)))));
    let password = connect_bytes(5, 0x42, b"\0\0\0\0\x01p");
    assert!(matches!(decode(Version::V3_1_1, &password), Ok(Some(Packet::Connect(_)))));
}

#[test]
fn malformed_publishes() {
    fn check(version: Version, input: &[u8], expect: impl Into<DecodeError>) {
        let expect = expect.into();
        assert_eq!(decode(version, input), Err(expect), "{input:02x?}");
    }
    let v5 = Version::V5;
    for version in VERSIONS {
        check(version, b"\x36\x05\x00\x01a\x00\x01", Malformed::Qos);
        check(version, b"\x38\x03\x00\x01a", Malformed::DuplicateFlag);
        check(version, b"\x30\x00", Malformed::Truncated);
        check(version, b"\x30\x03\x00\x02a", Malformed::Truncated);
        check(version, b"\x32\x04\x00\x01a\x00", Malformed::Truncated);
        check(version, b"\x32\x05\x00\x01a\x00\x00", Violation::PacketIdentifierZero);
    }
    check(Version::V3_1_1, b"\x30\x02\x00\x00", Violation::TopicMissing);
    check(Version::V3_1_1, b"\x30\x03\x00\x01+", Violation::TopicName);
    check(Version::V3_1_1, b"\x30\x03\x00\x01\x00", Malformed::Text);
    check(v5, b"\x30\x03\x00\x00\x00", Violation::TopicMissing);
    check(v5, b"\x30\x04\x00\x01#\x00", Violation::TopicName);
    check(v5, b"\x30\x04\x00\x01\xff\x00", Malformed::Text);
    check(v5, b"\x30\x03\x00\x01a", Malformed::Truncated);
    check(v5, b"\x30\x05\x00\x01a\x02\x01", Malformed::Truncated);
    check(v5, b"\x30\x07\x00\x01a\x03\x23\x00\x00", Violation::PropertyValue(0x23));
    check(v5, b"\x30\x06\x00\x01a\x02\x01\x02", Violation::PropertyValue(0x01));
    assert_eq!(Violation::PropertyValue(0x23).reason(), ReasonCode::TopicAliasInvalid);
}

#[test]
fn malformed_subscriptions() {
    fn check(version: Version, input: &[u8], expect: impl Into<DecodeError>) {
        let expect = expect.into();
        assert_eq!(decode(version, input), Err(expect), "{input:02x?}");
    }
    let (v4, v5) = (Version::V3_1_1, Version::V5);
    check(v4, b"\x82\x06\x00\x00\x00\x01a\x00", Violation::PacketIdentifierZero);
    check(v4, b"\x82\x02\x00\x01", Violation::NoTopicFilter);
    check(v4, b"\x82\x05\x00\x01\x00\x01a", Malformed::Truncated);
    check(v4, b"\x82\x06\x00\x01\x00\x01a\x03", Malformed::Qos);
    check(v4, b"\x82\x06\x00\x01\x00\x01a\x04", Malformed::SubscriptionOptions(4));
    check(v5, b"\x82\x07\x00\x01\x00\x00\x01a\x40", Malformed::SubscriptionOptions(0x40));
    check(v5, b"\x82\x07\x00\x01\x00\x00\x01a\x30", Violation::RetainHandling);
    check(v5, b"\x82\x09\x00\x01\x02\x0b\x00\x00\x01a\x00", Violation::PropertyValue(0x0B));
    check(v4, b"\xa2\x02\x00\x01", Violation::NoTopicFilter);
    check(v4, b"\xa2\x05\x00\x00\x00\x01a", Violation::PacketIdentifierZero);
    check(v4, b"\xa2\x05\x00\x01\x00\x02a", Malformed::Truncated);
    check(v5, b"\xa2\x03\x00\x01\x00", Violation::NoTopicFilter);
}

#[test]
fn malformed_answers_and_goodbyes() {
    fn check(version: Version, input: &[u8], expect: impl Into<DecodeError>) {
        let expect = expect.into();
        assert_eq!(decode(version, input), Err(expect), "{input:02x?}");
    }
    let (v4, v5) = (Version::V3_1_1, Version::V5);
    for first in [0x40, 0x50, 0x62, 0x70] {
        check(v4, &[first, 2, 0, 0], Violation::PacketIdentifierZero);
        check(v4, &[first, 1, 0], Malformed::Truncated);
        check(v4, &[first, 3, 0, 1, 0], Malformed::TrailingBytes);
        check(v5, &[first, 3, 0, 1, 0x01], Malformed::ReasonCode(0x01));
        check(v5, &[first, 5, 0, 1, 0, 0, 0], Malformed::TrailingBytes);
    }
    check(v5, &[0x62, 3, 0, 1, 0x10], Malformed::ReasonCode(0x10));
    check(v5, &[0x40, 3, 0, 1, 0x92], Malformed::ReasonCode(0x92));
    check(v4, &[0xC0, 1, 0], Malformed::TrailingBytes);
    check(v4, &[0xE0, 1, 0], Malformed::TrailingBytes);
    check(v4, &[0xF0, 0], Malformed::PacketType(15));
    check(v5, &[0xE0, 1, 0x01], Malformed::ReasonCode(0x01));
    check(v5, &[0xE0, 1, 0x88], Malformed::ReasonCode(0x88));
    check(v5, &[0xE0, 3, 0, 1, 0x11], Malformed::Truncated);
    check(v5, &[0xF0, 1, 0x01], Malformed::ReasonCode(0x01));
    check(v4, &[0x20, 2, 2, 0], Malformed::ConnackFlags(2));
    check(v4, &[0x20, 2, 0, 6], Malformed::ReasonCode(6));
    check(v5, &[0x20, 3, 0, 0x03, 0], Malformed::ReasonCode(3));
    check(v5, &[0x90, 4, 0, 1, 0, 0x7F], Malformed::ReasonCode(0x7F));
}

#[test]
fn random_bytes_never_panic() {
    let mut rng = Rng::new(7);
    for round in 0..60_000 {
        let version = VERSIONS[rng.below(3) as usize];
        let mut input = BytesMut::new();
        for _ in 0..rng.below(80) {
            input.put_u8(rng.next_u64() as u8);
        }
        if round % 2 == 0 && input.len() > 2 {
            input[0] = (rng.below(15) as u8 + 1) << 4 | [0, 2][rng.below(2) as usize];
            input[1] = (input.len() - 2) as u8;
        }
        let decoder = Decoder::new(version, PACKET_BYTES_MAX);
        while let Ok(Some(_)) = decoder.next(&mut input) {}
    }
}

/// Valid packets with a few bytes changed: what still decodes must encode and decode to itself.
#[test]
fn mutated_packets_decode_to_something_consistent() {
    let mut rng = Rng::new(8);
    for version in VERSIONS {
        for packet in samples(version) {
            let bytes = encoded(&packet, version);
            for _ in 0..400 {
                let mut mutated = bytes.clone();
                for _ in 0..=rng.below(3) {
                    let at = rng.below(mutated.len() as u64) as usize;
                    mutated[at] = rng.next_u64() as u8;
                }
                let Ok(Some(read)) = decode(version, &mutated) else {
                    continue;
                };
                let version = match &read {
                    Packet::Connect(connect) => connect.version,
                    _ => version,
                };
                let again = decode(version, &encoded(&read, version));
                let same = match (again, &read) {
                    (Ok(Some(Packet::Publish(a))), Packet::Publish(b)) => {
                        a.topic() == b.topic() && a.payload() == b.payload()
                    }
                    (Ok(Some(Packet::Connack(_))), _) => true,
                    (Ok(Some(Packet::Suback(_))), _) => true,
                    (Ok(Some(a)), b) => a == *b,
                    _ => false,
                };
                assert!(same, "{mutated:02x?} read as {read:?}");
            }
        }
    }
}
