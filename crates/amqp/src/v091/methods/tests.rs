use super::*;
use crate::v091::table::{TableBuilder, Value};
use koine_base::rng::Rng;

/// An arbitrary value of a field's type.
pub(crate) trait Sample {
    fn sample(rng: &mut Rng) -> Self;
}

macro_rules! numbers {
    ($($type:ty),*) => {$(
        impl Sample for $type {
            fn sample(rng: &mut Rng) -> Self {
                match rng.below(4) {
                    0 => <$type>::MIN,
                    1 => <$type>::MAX,
                    _ => rng.next_u64() as $type,
                }
            }
        }
    )*};
}

numbers!(u8, u16, u32, u64);

impl Sample for bool {
    fn sample(rng: &mut Rng) -> Self {
        rng.chance(1, 2)
    }
}

impl Sample for ShortString {
    fn sample(rng: &mut Rng) -> Self {
        let alphabet = ["a", ".", "é", "κ", "\u{1F600}", "\n", "\0"];
        let count = [0, 1, 12, 255][rng.below(4) as usize];
        let text: String =
            (0..count).map(|_| alphabet[rng.below(alphabet.len() as u64) as usize]).collect();
        ShortString::truncated(&text)
    }
}

impl Sample for LongString {
    fn sample(rng: &mut Rng) -> Self {
        let size = rng.below(600) as usize;
        LongString((0..size).map(|_| rng.next_u64() as u8).collect::<Vec<u8>>().into())
    }
}

impl Sample for SecretString {
    fn sample(rng: &mut Rng) -> Self {
        SecretString(LongString::sample(rng).0)
    }
}

impl Sample for Table {
    fn sample(rng: &mut Rng) -> Self {
        let mut builder = TableBuilder::new();
        for index in 0..rng.below(4) {
            let text = LongString::sample(rng);
            let value = match rng.below(4) {
                0 => Value::LongString(&text.0),
                1 => Value::Long(rng.next_u64() as i64),
                2 => Value::Bool(rng.chance(1, 2)),
                _ => Value::Void,
            };
            assert!(builder.put(format!("key-{index}").as_bytes(), value));
        }
        builder.finish()
    }
}

fn encoded(method: &Method) -> Bytes {
    let mut out = BytesMut::new();
    method.encode(&mut out);
    out.freeze()
}

#[test]
fn every_method_round_trips() {
    let mut rng = Rng::new(1);
    for _ in 0..50 {
        let methods = Method::every(&mut rng);
        assert_eq!(methods.len(), 66);
        for method in methods {
            assert_eq!(Method::decode(&encoded(&method)), Ok(method));
        }
    }
}

#[test]
fn every_cut_and_every_extra_octet_is_refused() {
    let mut rng = Rng::new(2);
    for method in Method::every(&mut rng) {
        let whole = encoded(&method);
        for end in 0..whole.len() {
            let cut = Method::decode(&whole.slice(..end));
            assert!(cut.is_err(), "{} cut at {end} of {}", method.name(), whole.len());
        }
        let mut longer = whole.to_vec();
        longer.push(0);
        assert_eq!(
            Method::decode(&Bytes::from(longer)),
            Err((method.id(), Malformed::TrailingBytes))
        );
    }
}

#[test]
fn every_flipped_octet_is_refused_or_still_encodes_to_something() {
    let mut rng = Rng::new(3);
    for method in Method::every(&mut rng) {
        let whole = encoded(&method);
        for position in 4..whole.len() {
            let mut damaged = whole.to_vec();
            damaged[position] ^= 1 << rng.below(8);
            if let Ok(other) = Method::decode(&Bytes::from(damaged)) {
                assert_eq!(Method::decode(&encoded(&other)), Ok(other));
            }
        }
    }
}

#[test]
fn malformed_fields_are_named() {
    let check = |payload: &'static [u8], expect: Malformed| {
        let found = Method::decode(&Bytes::from_static(payload));
        assert_eq!(found.map_err(|(_, malformed)| malformed), Err(expect), "{payload:?}");
    };
    check(b"", Malformed::FieldPastEnd);
    check(b"\x00\x0A\x00", Malformed::FieldPastEnd);
    check(b"\x00\x0A\x00\x63", Malformed::UnknownMethod { class_id: 10, method_id: 99 });
    check(b"\x12\x34\x00\x0A", Malformed::UnknownMethod { class_id: 0x1234, method_id: 10 });
    // channel.open whose out-of-band says 3 bytes and brings 1
    check(b"\x00\x14\x00\x0A\x03a", Malformed::FieldPastEnd);
    // basic.publish whose exchange is not UTF-8
    check(b"\x00\x3C\x00\x28\x00\x00\x01\xFF\x00\x00", Malformed::ShortStringNotUtf8);
    // queue.declare whose table holds a value type that does not exist
    check(b"\x00\x32\x00\x0A\x00\x00\x00\x00\x00\x00\x00\x03\x01a!", Malformed::ValueType(b'!'));
}

#[test]
fn random_payloads_never_panic() {
    let mut rng = Rng::new(4);
    let ids: Vec<MethodId> = Method::every(&mut rng).iter().map(Method::id).collect();
    for _ in 0..100_000 {
        let (class_id, method_id) = ids[rng.below(ids.len() as u64) as usize];
        let mut payload = Vec::new();
        payload.extend_from_slice(&class_id.to_be_bytes());
        payload.extend_from_slice(&method_id.to_be_bytes());
        for _ in 0..rng.below(40) {
            payload.push(if rng.chance(1, 2) { rng.below(5) as u8 } else { rng.next_u64() as u8 });
        }
        let _ = Method::decode(&Bytes::from(payload));
    }
}

#[test]
fn known_bytes_of_well_known_methods() {
    let check = |method: Method, expect: &[u8]| assert_eq!(&encoded(&method)[..], expect);
    check(
        ConnectionTune { channel_max: 2047, frame_max: 131_072, heartbeat: 60 }.into(),
        b"\x00\x0A\x00\x1E\x07\xFF\x00\x02\x00\x00\x00\x3C",
    );
    check(
        BasicPublish {
            routing_key: ShortString::fixed("q"),
            mandatory: true,
            ..BasicPublish::default()
        }
        .into(),
        b"\x00\x3C\x00\x28\x00\x00\x00\x01q\x01",
    );
    check(
        QueueDeclare {
            queue: ShortString::fixed("q"),
            durable: true,
            no_wait: true,
            ..QueueDeclare::default()
        }
        .into(),
        b"\x00\x32\x00\x0A\x00\x00\x01q\x12\x00\x00\x00\x00",
    );
    check(
        BasicNack { delivery_tag: 5, multiple: true, requeue: true }.into(),
        b"\x00\x3C\x00\x78\x00\x00\x00\x00\x00\x00\x00\x05\x03",
    );
}
