//! Batches that are small on the wire and huge inside, in every codec, for a topic that an MQTT client has
//! subscribed to, so that the broker has to look inside.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

use koine_base::checksum::crc32c;
use koine_workload::frames::kafka::{finish, request};
use koine_workload::frames::mqtt::{kind, put_packet};
use koine_workload::frames::wire::Put;

use super::attacks::{mqtt_connect, Siege};
use super::{Target, PASSWORD, USER};

const PRODUCE: i16 = 0;
const CREATE_TOPICS: i16 = 19;
const SASL_HANDSHAKE: i16 = 17;
const SASL_AUTHENTICATE: i16 = 36;
const TOPIC: &str = "bomb.topic";
/// Bytes of zeros inside each bomb.
const INFLATED_BYTES: usize = 256 << 20;
/// Between two bombs.
const PAUSE: Duration = Duration::from_millis(250);
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
const CLIENT: &str = "siege";

pub fn begin(target: &Target) -> Result<Siege, String> {
    let bombs: Vec<Vec<u8>> = (1..=4).map(bomb).collect();
    let failed = |error: std::io::Error| format!("bombs: {error}");
    let mut subscriber = mqtt_connect(&target.addresses.mqtt, "bombs").map_err(failed)?;
    let mut content = vec![0, 1, 0];
    content.put_short_text("bomb/#");
    content.put_u8(0);
    let mut subscribe = Vec::new();
    put_packet(&mut subscribe, kind::SUBSCRIBE, &content);
    subscriber.write_all(&subscribe).map_err(failed)?;
    let _ = subscriber.read(&mut [0; 256]).map_err(failed)?;
    let address = target.addresses.kafka.clone();
    let mut stream = log_in(&address).map_err(failed)?;
    ask(&mut stream, &create()).map_err(failed)?;
    let mut siege = Siege::new("bombs of 256 MiB each, in all four codecs by turns");
    let mut turn = 0;
    siege.run(move |count| {
        let _keeps = &subscriber;
        turn += 1;
        match ask(&mut stream, &produce(&bombs[turn % bombs.len()])) {
            Ok(()) => {
                count.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => {
                if let Ok(again) = log_in(&address) {
                    stream = again;
                }
            }
        }
        std::thread::sleep(PAUSE);
    });
    Ok(siege)
}

/// A batch of one record, compressed by this codec of Kafka's.
fn bomb(codec: i16) -> Vec<u8> {
    let mut record = vec![0, 0, 0, 1]; // attributes, deltas, no key
    put_varint(&mut record, INFLATED_BYTES as u64);
    record.resize(record.len() + INFLATED_BYTES, 0);
    record.push(0); // headers
    let mut records = Vec::new();
    put_varint(&mut records, record.len() as u64);
    records.extend_from_slice(&record);
    let compressed = match codec {
        1 => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            encoder.write_all(&records).and_then(|()| encoder.finish()).unwrap_or_default()
        }
        2 => snap::raw::Encoder::new().compress_vec(&records).unwrap_or_default(),
        3 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            let written = encoder.write_all(&records).is_ok();
            encoder.finish().ok().filter(|_| written).unwrap_or_default()
        }
        _ => {
            let level = ruzstd::encoding::CompressionLevel::Fastest;
            ruzstd::encoding::compress_to_vec(&records[..], level)
        }
    };
    let mut out = vec![0; 8]; // base offset
    out.put_i32(0);
    out.put_i32(-1);
    out.put_u8(2);
    out.put_u32(0);
    out.put_i16(codec);
    out.put_i32(0);
    out.put_i64(0);
    out.put_i64(0);
    out.put_i64(-1);
    out.put_i16(-1);
    out.put_i32(-1);
    out.put_i32(1);
    out.extend_from_slice(&compressed);
    let length = (out.len() - 12) as i32;
    out[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c(&out[21..]);
    out[17..21].copy_from_slice(&crc.to_be_bytes());
    out
}

/// Zigzag of a number that is not negative.
fn put_varint(out: &mut Vec<u8>, number: u64) {
    let mut rest = number << 1;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn produce(batch: &[u8]) -> Vec<u8> {
    let mut frame = request(PRODUCE, 3, 1, CLIENT);
    frame.put_i16(-1); // no transaction
    frame.put_i16(1);
    frame.put_i32(30_000);
    frame.put_i32(1);
    frame.put_short_text(TOPIC);
    frame.put_i32(1);
    frame.put_i32(0);
    frame.put_i32(batch.len() as i32);
    frame.extend_from_slice(batch);
    finish(frame)
}

fn create() -> Vec<u8> {
    let mut frame = request(CREATE_TOPICS, 4, 1, CLIENT);
    frame.put_i32(1);
    frame.put_short_text(TOPIC);
    frame.put_i32(1);
    frame.put_i16(1);
    frame.put_i32(0);
    frame.put_i32(0);
    frame.put_i32(30_000);
    frame.put_u8(0);
    finish(frame)
}

fn log_in(address: &str) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    let mut handshake = request(SASL_HANDSHAKE, 1, 1, CLIENT);
    handshake.put_short_text("PLAIN");
    ask(&mut stream, &finish(handshake))?;
    let token = format!("\0{USER}\0{PASSWORD}");
    let mut authenticate = request(SASL_AUTHENTICATE, 0, 2, CLIENT);
    authenticate.put_i32(token.len() as i32);
    authenticate.extend_from_slice(token.as_bytes());
    ask(&mut stream, &finish(authenticate))?;
    Ok(stream)
}

/// Waits for the whole answer and does not look at it.
fn ask(stream: &mut TcpStream, frame: &[u8]) -> std::io::Result<()> {
    stream.write_all(frame)?;
    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let bytes = u64::from(u32::from_be_bytes(size));
    std::io::copy(&mut stream.take(bytes), &mut std::io::sink()).map(drop)
}
