//! Round trips, a batch laid out by hand, one malformed case per field, and random bytes.

use super::*;
use bytes::{BufMut, Bytes, BytesMut};
use koine_base::checksum::crc32c;
use koine_base::rng::Rng;
use std::io::Write;

fn limits() -> BatchLimits {
    BatchLimits::default()
}

/// Recomputes the checksum after a change under it.
fn sealed(mut bytes: Vec<u8>) -> Bytes {
    header::seal(&mut bytes);
    Bytes::from(bytes)
}

/// Three records: plain, null key with headers, null value.
fn sample() -> Bytes {
    let mut builder = BatchBuilder::new(1_000);
    builder.push(1_000, Some(b"k"), Some(&[b"va", b"lue"]), &[]);
    builder.push(990, None, Some(&[b"x"]), &[(b"h", Some(b"1")), (b"h", None), (b"", Some(b""))]);
    builder.push(1_005, Some(b"gone"), None, &[]);
    builder.finish(7, 3)
}

/// A header for `payload`, with everything consistent.
fn wrap(attributes: u16, count: i32, payload: &[u8]) -> Bytes {
    let mut out = Vec::new();
    out.put_i64(0);
    out.put_i32((HEADER_BYTES - LENGTH_END + payload.len()) as i32);
    out.put_i32(0);
    out.put_u8(2);
    out.put_u32(0);
    out.put_u16(attributes);
    out.put_i32(count - 1);
    out.put_i64(1_000);
    out.put_i64(1_005);
    out.put_i64(-1);
    out.put_i16(-1);
    out.put_i32(-1);
    out.put_i32(count);
    out.put_slice(payload);
    sealed(out)
}

#[test]
fn a_batch_laid_out_by_hand() {
    // One record {key "a", value "hello", header b=c} as the Java client 4.0 lays it out.
    let record = b"\x20\x00\x00\x00\x02a\x0ahello\x02\x02b\x02c";
    let mut expect = Vec::new();
    expect.extend_from_slice(&42u64.to_be_bytes());
    expect.extend_from_slice(&(49u32 + record.len() as u32).to_be_bytes());
    expect.extend_from_slice(&5u32.to_be_bytes());
    expect.push(2);
    let mut under_crc = Vec::new();
    under_crc.extend_from_slice(&[0, 0]); // attributes
    under_crc.extend_from_slice(&[0, 0, 0, 0]); // last offset delta
    under_crc.extend_from_slice(&1_700_000_000_123i64.to_be_bytes());
    under_crc.extend_from_slice(&1_700_000_000_123i64.to_be_bytes());
    under_crc.extend_from_slice(&[0xFF; 8]); // producer id
    under_crc.extend_from_slice(&[0xFF; 2]); // producer epoch
    under_crc.extend_from_slice(&[0xFF; 4]); // base sequence
    under_crc.extend_from_slice(&1u32.to_be_bytes());
    under_crc.extend_from_slice(record);
    expect.extend_from_slice(&crc32c(&under_crc).to_be_bytes());
    expect.extend_from_slice(&under_crc);

    let mut builder = BatchBuilder::new(1_700_000_000_123);
    builder.push(1_700_000_000_123, Some(b"a"), Some(&[b"hello"]), &[(b"b", Some(b"c"))]);
    let built = builder.finish(42, 5);
    assert_eq!(&built[..], &expect[..]);
    assert_eq!(&built[HEADER_BYTES..], record);
}

#[test]
fn round_trip() {
    let batch = sample();
    let header = BatchHeader::new(&batch).unwrap();
    assert_eq!((header.base_offset(), header.next_offset(), header.leader_epoch()), (7, 10, 3));
    assert_eq!((header.base_timestamp(), header.max_timestamp()), (1_000, 1_005));
    let info = validate_from_producer(&batch, &limits()).unwrap();
    assert_eq!(info.record_count, 3);
    assert!(!info.is_idempotent() && !info.is_transactional());

    let all: Vec<Record> = records(&batch, &limits()).unwrap().map(Result::unwrap).collect();
    assert_eq!(all.len(), 3);
    assert_eq!(all[0].key(), Some(&b"k"[..]));
    assert_eq!(all[0].value_bytes(), Some(Bytes::from_static(b"value")));
    assert_eq!((all[0].offset(), all[0].timestamp()), (7, 1_000));
    assert_eq!((all[1].key(), all[1].timestamp(), all[1].header_count()), (None, 990, 3));
    let headers: Vec<_> =
        all[1].headers().map(|h| (h.key.to_vec(), h.value.map(<[u8]>::to_vec))).collect();
    assert_eq!(
        headers,
        [(b"h".to_vec(), Some(b"1".to_vec())), (b"h".to_vec(), None), (vec![], Some(vec![]))]
    );
    assert_eq!((all[2].offset(), all[2].value(), all[2].value_bytes()), (9, None, None));
    // A header with an empty key is no envelope unless the batch is marked.
    assert_eq!((all[1].origin(), all[1].envelope()), (Origin::Kafka, None));
}

#[test]
fn foreign_records_keep_origin_and_envelope() {
    let mut builder = BatchBuilder::with_capacity(5, 200);
    assert_eq!(
        builder.push_foreign(Origin::Amqp091, 5, &[b"ex", b"|rk"], Some(b"rk"), &[b"bo", b"dy"]),
        0
    );
    assert_eq!(builder.push_foreign(Origin::Mqtt, 6, &[], None, &[]), 1);
    assert_eq!(builder.push(7, None, Some(&[b"plain"]), &[]), 2);
    assert_eq!(builder.record_count(), 3);
    let batch = builder.finish(100, 0);
    assert!(BatchHeader::new(&batch).unwrap().has(attribute::FOREIGN));
    let all: Vec<Record> = records(&batch, &limits()).unwrap().map(Result::unwrap).collect();
    assert_eq!(all[0].origin(), Origin::Amqp091);
    assert_eq!(all[0].envelope_bytes(), Some(Bytes::from_static(b"ex|rk")));
    assert_eq!((all[0].key(), all[0].value()), (Some(&b"rk"[..]), Some(&b"body"[..])));
    assert_eq!(
        (all[1].origin(), all[1].envelope(), all[1].value()),
        (Origin::Mqtt, Some(&b""[..]), Some(&b""[..]))
    );
    assert_eq!((all[2].origin(), all[2].envelope()), (Origin::Kafka, None));
    // Producers may not claim to hold foreign records.
    assert_eq!(
        validate_from_producer(&batch, &limits()),
        Err(BatchError::UnknownAttributes(attribute::FOREIGN))
    );

    builder.restart(9);
    builder.push(9, None, Some(&[b"again"]), &[]);
    let second = builder.finish(103, 0);
    assert!(!BatchHeader::new(&second).unwrap().has(attribute::FOREIGN));
    validate_from_producer(&second, &limits()).unwrap();
}

#[test]
fn random_records_round_trip() {
    let mut rng = Rng::new(11);
    for _ in 0..300 {
        let base = rng.next_u64() as i64;
        let mut builder = BatchBuilder::new(base);
        let mut expect = Vec::new();
        for _ in 0..=rng.below(20) {
            let blob = |rng: &mut Rng| {
                let length = if rng.chance(1, 10) { rng.below(40_000) } else { rng.below(200) };
                (0..length).map(|_| rng.next_u64() as u8).collect::<Vec<u8>>()
            };
            let key = rng.chance(1, 2).then(|| blob(&mut rng));
            let value = rng.chance(4, 5).then(|| blob(&mut rng));
            let headers: Vec<(Vec<u8>, Option<Vec<u8>>)> = (0..rng.below(4))
                .map(|_| {
                    (blob(&mut rng), if rng.chance(1, 3) { None } else { Some(blob(&mut rng)) })
                })
                .collect();
            let timestamp = rng.next_u64() as i64;
            let views: Vec<(&[u8], Option<&[u8]>)> =
                headers.iter().map(|(k, v)| (k.as_slice(), v.as_deref())).collect();
            let pieces = value.as_deref().map(|v| v.split_at(v.len() / 2));
            let pieces = pieces.map(|(a, b)| [a, b]);
            builder.push(timestamp, key.as_deref(), pieces.as_ref().map(|p| &p[..]), &views);
            expect.push((timestamp, key, value, headers));
        }
        let batch = builder.finish(rng.below(1 << 40), 1);
        let wide = BatchLimits { batch_bytes_max: usize::MAX, ..limits() };
        validate_from_producer(&batch, &wide).unwrap();
        let seen: Vec<_> = records(&batch, &wide)
            .unwrap()
            .map(Result::unwrap)
            .map(|record| {
                let headers = record
                    .headers()
                    .map(|h| (h.key.to_vec(), h.value.map(<[u8]>::to_vec)))
                    .collect();
                (
                    record.timestamp(),
                    record.key().map(<[u8]>::to_vec),
                    record.value().map(<[u8]>::to_vec),
                    headers,
                )
            })
            .collect();
        assert_eq!(seen, expect);
    }
}

#[test]
fn patch_and_append_time() {
    let mut bytes = sample().to_vec();
    patch(&mut bytes, 1 << 40, 9);
    let header = BatchHeader::new(&bytes).unwrap();
    assert!(header.crc_is_good());
    assert_eq!((header.base_offset(), header.leader_epoch()), (1 << 40, 9));
    set_append_time(&mut bytes, 77);
    assert!(BatchHeader::new(&bytes).unwrap().crc_is_good());
    let batch = Bytes::from(bytes);
    assert!(records(&batch, &limits()).unwrap().all(|record| record.unwrap().timestamp() == 77));
    assert_eq!(validate_from_producer(&batch, &limits()), Err(BatchError::AppendTimeFromProducer));
}

#[test]
fn control_batches() {
    let batch = control_batch(50, 2, (9, 1), Marker::Commit, 4, 1_000);
    let header = BatchHeader::new(&batch).unwrap();
    assert!(header.has(attribute::CONTROL) && header.has(attribute::TRANSACTIONAL));
    let record = records(&batch, &limits()).unwrap().next().unwrap().unwrap();
    assert_eq!(
        (record.key(), record.value()),
        (Some(&[0, 0, 0, 1][..]), Some(&[0, 0, 0, 0, 0, 4][..]))
    );
    assert_eq!(validate_from_producer(&batch, &limits()), Err(BatchError::ControlFromProducer));
}

#[test]
fn batches_one_after_the_other() {
    let mut all = BytesMut::new();
    all.extend_from_slice(&sample());
    all.extend_from_slice(&sample());
    let whole = all.clone().freeze();
    assert_eq!(batches(whole.clone()).filter(Result::is_ok).count(), 2);
    assert_eq!(validate_from_producer(&whole, &limits()), Err(BatchError::NotOneBatch));
    let cut = whole.slice(..whole.len() - 1);
    let seen: Vec<_> = batches(cut).collect();
    assert!(seen[0].is_ok());
    assert_eq!(seen[1], Err(BatchError::Truncated));
    assert_eq!(seen.len(), 2);
}

#[test]
fn malformed_headers() {
    let good = sample();
    let check = |position: usize, bytes: &[u8], reseal: bool, expect: BatchError| {
        let mut changed = good.to_vec();
        changed[position..position + bytes.len()].copy_from_slice(bytes);
        let changed = if reseal { sealed(changed) } else { Bytes::from(changed) };
        assert_eq!(
            validate_from_producer(&changed, &limits()),
            Err(expect),
            "at {position}: {bytes:?}"
        );
    };
    for cut in 0..good.len() {
        assert_eq!(
            validate_from_producer(&good.slice(..cut), &limits()),
            Err(BatchError::Truncated)
        );
    }
    check(8, &(-1i32).to_be_bytes(), true, BatchError::BadLength);
    check(8, &48i32.to_be_bytes(), true, BatchError::BadLength);
    check(8, &i32::MAX.to_be_bytes(), true, BatchError::Truncated);
    check(8, &((good.len() - 13) as i32).to_be_bytes(), true, BatchError::NotOneBatch);
    check(16, &[0], true, BatchError::OldFormat(0));
    check(16, &[1], true, BatchError::OldFormat(1));
    check(16, &[3], true, BatchError::BadMagic(3));
    check(17, &[0, 0, 0, 0], false, BatchError::BadCrc);
    check(70, b"?", false, BatchError::BadCrc);
    check(21, &[0x00, 0x05], true, BatchError::UnknownCodec(5));
    check(21, &[0x00, 0x08], true, BatchError::AppendTimeFromProducer);
    check(21, &[0x00, 0x10], true, BatchError::BadProducer);
    check(21, &[0x00, 0x30], true, BatchError::ControlFromProducer);
    check(21, &[0x00, 0x40], true, BatchError::UnknownAttributes(0x40));
    check(21, &[0x80, 0x80], true, BatchError::UnknownAttributes(0x8080));
    check(23, &3i32.to_be_bytes(), true, BatchError::BadOffsetDelta);
    check(23, &(-1i32).to_be_bytes(), true, BatchError::BadOffsetDelta);
    check(43, &5i64.to_be_bytes(), true, BatchError::BadProducer);
    check(57, &0i32.to_be_bytes(), true, BatchError::BadRecordCount);
    check(57, &(-2i32).to_be_bytes(), true, BatchError::BadRecordCount);
    check(57, &i32::MAX.to_be_bytes(), true, BatchError::BadRecordCount);
    // Count and delta agree with each other but not with the records.
    check(57, &2i32.to_be_bytes(), true, BatchError::BadOffsetDelta);
    let small = BatchLimits { batch_bytes_max: good.len() - 1, ..limits() };
    assert_eq!(validate_from_producer(&good, &small), Err(BatchError::TooLarge));
}

#[test]
fn malformed_records() {
    let check = |count: i32, payload: &[u8], expect: BatchError| {
        let batch = wrap(0, count, payload);
        assert_eq!(validate_from_producer(&batch, &limits()), Err(expect), "{payload:?}");
        let read = records(&batch, &limits()).unwrap().collect::<Result<Vec<_>, _>>();
        assert_eq!(read.map(|_| ()), Err(expect), "{payload:?}");
    };
    // length, attributes, timestamp, offset, key, value, headers
    let good: &[u8] = &[12, 0, 0, 0, 1, 1, 0];
    assert!(validate_from_producer(&wrap(0, 1, good), &limits()).is_ok());
    check(1, &[], BatchError::BadRecord);
    check(1, &[0], BatchError::BadRecord); // no attributes
    check(1, &[1, 0, 0, 0, 1, 1, 0], BatchError::BadRecord); // length -1
    check(1, &[14, 0, 0, 0, 1, 1, 0], BatchError::BadRecord); // length beyond the batch
    check(1, &[10, 0, 0, 0, 1, 1, 0], BatchError::BadRecord); // length too short for the fields
    check(1, &[0xFF, 0xFF, 0xFF, 0xFF, 0x0F], BatchError::BadRecord);
    check(1, &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F], BatchError::BadVarint);
    check(1, &[12, 0, 0, 2, 1, 1, 0], BatchError::BadOffsetDelta);
    check(1, &[12, 0, 0, 1, 1, 1, 0], BatchError::BadOffsetDelta); // delta -1
    check(1, &[12, 0, 0, 0, 3, 1, 0], BatchError::BadRecord); // key length -2
    check(1, &[12, 0, 0, 0, 200, 1, 0], BatchError::BadRecord); // key beyond the record
    check(1, &[12, 0, 0, 0, 1, 20, 0], BatchError::BadRecord); // value beyond the record
    check(1, &[12, 0, 0, 0, 1, 1, 1], BatchError::BadRecord); // header count -1
    check(1, &[12, 0, 0, 0, 1, 1, 2], BatchError::BadRecord); // header missing
    check(1, &[16, 0, 0, 0, 1, 1, 2, 1, 1], BatchError::BadRecord); // null header key
    check(1, &[20, 0, 0, 0, 1, 1, 0xFE, 0xFF, 0xFF, 0xFF, 0x0F], BatchError::BadRecord); // 2^31 headers
    check(1, &[12, 0, 0, 0, 1, 1, 0, 12, 0, 0, 2, 1, 1, 0], BatchError::BadRecordCount); // one too many
    check(2, &[12, 0, 0, 0, 1, 1, 0, 12, 0, 0, 0, 1, 1, 0], BatchError::BadOffsetDelta); // same offset twice
    let unknown = wrap(attribute::FOREIGN, 1, &[12, 99, 0, 0, 1, 1, 0]);
    assert_eq!(
        records(&unknown, &limits()).unwrap().next().unwrap().unwrap_err(),
        BatchError::UnknownOrigin(99)
    );
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn lz4(plain: &[u8]) -> Vec<u8> {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn snappy_raw(plain: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(plain).unwrap()
}

fn snappy_xerial(plain: &[u8]) -> Vec<u8> {
    let mut out = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
    for block in plain.chunks(1_000) {
        let block = snappy_raw(block);
        out.put_u32(block.len() as u32);
        out.put_slice(&block);
    }
    out
}

fn zstd(plain: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(plain, ruzstd::encoding::CompressionLevel::Fastest)
}

type Compress = fn(&[u8]) -> Vec<u8>;
const CODECS: [(u16, Compress); 5] =
    [(1, gzip), (2, snappy_raw), (2, snappy_xerial), (3, lz4), (4, zstd)];

fn many_records(count: i32) -> (Bytes, Vec<u8>) {
    let mut rng = Rng::new(3);
    let mut builder = BatchBuilder::new(1_000);
    for _ in 0..count {
        let value = rng.next_u64().to_string();
        builder.push(
            1_000,
            Some(b"key"),
            Some(&[value.as_bytes(), b"some text that repeats"]),
            &[],
        );
    }
    let batch = builder.finish(0, 0);
    let payload = batch[HEADER_BYTES..].to_vec();
    (batch, payload)
}

#[test]
fn every_codec_decompresses() {
    let (plain, payload) = many_records(5_000);
    let values = |batch: &Bytes| -> Vec<Option<Bytes>> {
        records(batch, &limits()).unwrap().map(|record| record.unwrap().value_bytes()).collect()
    };
    let expect = values(&plain);
    for (codec, compress) in CODECS {
        let batch = wrap(codec, 5_000, &compress(&payload));
        assert_eq!(validate_from_producer(&batch, &limits()).unwrap().codec as u16, codec);
        assert!(batch.len() < plain.len());
        assert_eq!(values(&batch), expect, "codec {codec}");
    }
    // Two frames and a skippable one between them.
    let (head, tail) = payload.split_at(payload.len() / 3);
    let mut frames = zstd(head);
    frames.extend_from_slice(b"\x50\x2A\x4D\x18\x03\0\0\0abc");
    frames.extend_from_slice(&zstd(tail));
    assert_eq!(values(&wrap(4, 5_000, &frames)), expect);
}

#[test]
fn decompression_bombs_end_at_the_limit() {
    let zeros = vec![0u8; 20 << 20];
    for (codec, compress) in CODECS {
        let compressed = compress(&zeros);
        let batch = wrap(codec, 1, &compressed);
        let absolute = BatchLimits { decompressed_bytes_max: 1 << 20, ..limits() };
        assert_eq!(
            records(&batch, &absolute).unwrap_err(),
            BatchError::DecompressedTooLarge,
            "codec {codec}"
        );
        let ratio = BatchLimits { decompressed_ratio_max: 2, ..limits() };
        assert_eq!(
            records(&batch, &ratio).unwrap_err(),
            BatchError::DecompressedTooLarge,
            "codec {codec}"
        );
    }
    // A block that claims 4 GiB without having them.
    let claim = wrap(2, 1, &[0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 0]);
    assert_eq!(records(&claim, &limits()).unwrap_err(), BatchError::DecompressedTooLarge);
    // The older LZ4 format takes 8 MiB for its smallest block.
    let older = wrap(3, 1, b"\x02\x21\x4c\x18\x10\xfb\x10\x01\x00\x00\xff");
    assert_eq!(records(&older, &limits()).unwrap_err(), BatchError::Decompression);
    let claim = wrap(2, 1, &[0x80, 0x80, 0x80, 0x01, 0]);
    assert_eq!(records(&claim, &limits()).unwrap_err(), BatchError::Decompression);
}

#[test]
fn damaged_compressed_bytes_never_panic() {
    let (_, payload) = many_records(50);
    let mut rng = Rng::new(99);
    for (codec, compress) in CODECS {
        let good = compress(&payload);
        for cut in 0..good.len().min(200) {
            let batch = wrap(codec, 50, &good[..cut]);
            let whole = records(&batch, &limits()).map(|all| all.filter(Result::is_ok).count());
            assert_ne!(whole, Ok(50), "codec {codec} cut at {cut}");
        }
        for _ in 0..2_000 {
            let mut bad = good.clone();
            for _ in 0..=rng.below(4) {
                let position = rng.below(bad.len() as u64) as usize;
                bad[position] = rng.next_u64() as u8;
            }
            let batch = wrap(codec, 50, &bad);
            if let Ok(all) = records(&batch, &limits()) {
                for record in all.flatten() {
                    assert!(record.headers().count() == record.header_count());
                }
            }
        }
    }
}

#[test]
fn random_bytes_never_panic() {
    let mut rng = Rng::new(20);
    let good = sample();
    for round in 0..30_000 {
        let mut bytes = if round % 2 == 0 {
            good.to_vec()
        } else {
            (0..rng.below(200)).map(|_| rng.next_u64() as u8).collect()
        };
        for _ in 0..rng.below(6) {
            if !bytes.is_empty() {
                let position = rng.below(bytes.len() as u64) as usize;
                bytes[position] = rng.next_u64() as u8;
            }
        }
        if bytes.len() > HEADER_BYTES && rng.chance(1, 2) {
            bytes[16] = 2;
            let length = (bytes.len() - LENGTH_END) as u32;
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            header::seal(&mut bytes);
        }
        let bytes = Bytes::from(bytes);
        let valid = validate_from_producer(&bytes, &limits());
        for batch in batches(bytes.clone()).flatten() {
            let Ok(all) = records(&batch, &limits()) else {
                continue;
            };
            let read: Result<Vec<_>, _> = all.collect();
            if let Ok(info) = &valid {
                assert!(info.codec != Codec::None || read.is_ok(), "accepted but unreadable");
            }
            for record in read.into_iter().flatten() {
                assert_eq!(record.headers().count(), record.header_count());
                let _ = (record.key_bytes(), record.value_bytes(), record.envelope_bytes());
            }
        }
    }
}

impl PartialEq for Records {
    fn eq(&self, _: &Records) -> bool {
        false
    }
}
