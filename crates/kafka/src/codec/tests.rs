//! The whole codec against itself, against frames of the Java client, and against garbage.

use super::{fetch, generated, produce, ApiKey, Malformed, Reader, Writer, APIS};
use bytes::{Bytes, BytesMut};
use koine_base::{rng::Rng, Rope};

/// Decodes a whole frame and encodes the result.
pub(crate) fn reencode<'a, T>(
    frame: &'a Bytes,
    decode: impl FnOnce(&mut Reader<'a>) -> Result<T, Malformed>,
    encode: impl FnOnce(T, &mut Writer<'_>),
) -> Result<BytesMut, Malformed> {
    let mut r = Reader::new(frame);
    let message = decode(&mut r)?;
    let mut out = BytesMut::new();
    encode(message, &mut Writer::new(&mut out));
    out.extend_from_slice(&frame[frame.len() - r.remaining()..]);
    Ok(out)
}

pub(crate) fn reencode_any(
    frame: &Bytes,
    key: ApiKey,
    request: bool,
    v: i16,
) -> Result<BytesMut, Malformed> {
    let generated = generated::CODECS.iter().find(|c| (c.key, c.request) == (key, request));
    if let Some(codec) = generated {
        return (codec.reencode)(frame, v);
    }
    match (key, request) {
        (ApiKey::Produce, true) => {
            reencode(frame, |r| produce::Request::decode(r, v), |m, w| m.encode(w, v))
        }
        (ApiKey::Produce, false) => {
            reencode(frame, |r| produce::Response::decode(r, v), |m, w| m.encode(w, v))
        }
        (ApiKey::Fetch, true) => {
            reencode(frame, |r| fetch::Request::decode(r, v), |m, w| m.encode(w, v))
        }
        (ApiKey::Fetch, false) => {
            let response = fetch::Response::decode(&mut Reader::new(frame), v)?;
            let mut rope = Rope::new();
            response.encode_frame(&mut rope, v, 9);
            let all = rope.take_all();
            assert_eq!(all[..4], (all.len() as u32 - 4).to_be_bytes());
            let header_bytes = if v >= 12 { 9 } else { 8 };
            Ok(BytesMut::from(&all[header_bytes..]))
        }
        _ => panic!("{key:?} has no codec"),
    }
}

#[test]
fn every_version_of_every_generated_message_round_trips() {
    let mut rng = Rng::new(3);
    for codec in generated::CODECS {
        let api = codec.key.api();
        for v in api.version_min..=api.version_max {
            for round in 0..40 {
                let mut frame = BytesMut::new();
                (codec.sample)(&mut rng, &mut Writer::new(&mut frame), v);
                let frame = frame.freeze();
                let again = (codec.reencode)(&frame, v);
                assert_eq!(again.as_deref(), Ok(&frame[..]), "{} {v} {round}", api.name);
            }
        }
    }
}

fn hex(text: &str) -> Bytes {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).expect("a hexadecimal digit") as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// `(api, is a request, version, bytes)` of each line of `testdata/frames.txt`.
pub(crate) fn known_frames() -> Vec<(ApiKey, bool, i16, Bytes)> {
    let text = include_str!("../../testdata/frames.txt");
    let mut frames = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split(' ').collect();
        let [name, kind, version, bytes] = words[..] else { panic!("not a frame: {line}") };
        let api = APIS.iter().find(|api| api.name == name).expect("an advertised request");
        let version = version.parse().expect("a version");
        // "-" stands for no bytes at all: some requests have no fields.
        let bytes = if bytes == "-" { Bytes::new() } else { hex(bytes) };
        frames.push((api.key, kind == "request", version, bytes));
    }
    frames
}

#[test]
fn frames_of_the_java_client_survive_decode_and_encode() {
    let frames = known_frames();
    for (key, request, v, frame) in &frames {
        let again = reencode_any(frame, *key, *request, *v);
        assert_eq!(again.as_deref(), Ok(&frame[..]), "{key:?} request={request} version {v}");
    }
    for api in APIS {
        for v in api.version_min..=api.version_max {
            let count = frames.iter().filter(|(key, _, at, _)| *key == api.key && *at == v).count();
            // The Java client cannot speak Produce 0-2 of old message formats any more.
            assert!(count == 2 || (api.key == ApiKey::Produce && v < 3), "{} {v}", api.name);
        }
    }
}

#[test]
fn cut_frames_are_malformed() {
    for (key, request, v, frame) in known_frames() {
        for length in 0..frame.len() {
            let cut = reencode_any(&frame.slice(..length), key, request, v);
            assert!(cut.is_err(), "{key:?} request={request} version {v} cut to {length}");
        }
    }
}

#[test]
fn changed_and_random_bytes_never_panic() {
    let mut rng = Rng::new(8);
    for (key, request, v, frame) in known_frames() {
        for _ in 0..60 {
            let mut bytes = frame.to_vec();
            for _ in 0..=rng.below(3) {
                let at = rng.below(bytes.len().max(1) as u64) as usize;
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = [0, 1, 0x7F, 0x80, 0xFF, rng.next_u64() as u8][rng.below(6) as usize];
                }
            }
            let _ = reencode_any(&bytes.into(), key, request, v);
            let noise: Bytes = (0..rng.below(64)).map(|_| rng.next_u64() as u8).collect();
            let _ = reencode_any(&noise, key, request, v);
        }
    }
}

#[test]
fn produce_records_are_slices_of_the_frame() {
    let (_, _, v, frame) = known_frames()
        .into_iter()
        .find(|(key, request, ..)| *key == ApiKey::Produce && *request)
        .expect("there is a frame");
    let request = produce::Request::decode(&mut Reader::new(&frame), v).expect("well formed");
    let records = request.topics[0].partitions[0].records.as_ref().expect("there are records");
    assert!(frame.as_ptr_range().contains(&records.as_ptr()));
}

#[test]
fn fetched_batches_are_shared_not_copied() {
    let batch = Bytes::from(vec![5; 4096]);
    let response = fetch::Response {
        topics: vec![fetch::Topic {
            topic: "t".into(),
            partitions: vec![fetch::Partition {
                records: vec![batch.clone(), batch.clone()],
                ..fetch::Partition::default()
            }],
            ..fetch::Topic::default()
        }],
        ..fetch::Response::default()
    };
    let mut rope = Rope::new();
    response.encode_frame(&mut rope, 12, 1);
    let shared = rope.slices(16).filter(|slice| slice.as_ptr() == batch.as_ptr()).count();
    assert_eq!(shared, 2);
}

#[test]
fn refused_produce_versions_have_an_answer() {
    let response = produce::Response {
        topics: vec![produce::TopicResponse {
            name: "t".into(),
            partitions: vec![produce::PartitionResponse { error_code: 35, ..Default::default() }],
            ..Default::default()
        }],
        ..Default::default()
    };
    for (v, extra) in [(0, 0), (1, 4), (2, 12)] {
        let mut out = BytesMut::new();
        response.encode(&mut Writer::new(&mut out), v);
        assert_eq!(out.len(), 4 + 3 + 4 + 4 + 2 + 8 + extra);
    }
}
