//! Requests and answers field by field, each of one version (KAFKA's message schemas).

use super::Topic;
use crate::frames::kafka::key;
use crate::frames::wire::{Put, Reader};
use crate::frames::Malformed;

pub const API_VERSIONS: (i16, i16) = (key::API_VERSIONS, 2);
pub const METADATA: (i16, i16) = (key::METADATA, 4);
pub const CREATE_TOPICS: (i16, i16) = (key::CREATE_TOPICS, 4);
pub const PRODUCE: (i16, i16) = (key::PRODUCE, 7);
pub const FETCH: (i16, i16) = (key::FETCH, 4);
pub const LIST_OFFSETS: (i16, i16) = (key::LIST_OFFSETS, 1);
pub const INIT_PRODUCER_ID: (i16, i16) = (key::INIT_PRODUCER_ID, 1);
pub const OFFSET_COMMIT: (i16, i16) = (key::OFFSET_COMMIT, 5);
pub const OFFSET_FETCH: (i16, i16) = (key::OFFSET_FETCH, 3);

/// What these clients use and a broker must serve.
const USED: [(i16, i16); 9] = [
    API_VERSIONS,
    METADATA,
    CREATE_TOPICS,
    PRODUCE,
    FETCH,
    LIST_OFFSETS,
    INIT_PRODUCER_ID,
    OFFSET_COMMIT,
    OFFSET_FETCH,
];

/// Timestamps that ListOffsets gives a meaning to.
pub const EARLIEST: i64 = -2;

const TIMEOUT_MS: i32 = 30_000;
const FETCH_BYTES_MAX: i32 = 1 << 20;
const NULL: i16 = -1;

/// Says whether everything that is used is served.
pub fn api_versions_answer(reader: &mut Reader<'_>) -> Result<bool, Malformed> {
    if reader.i16()? != 0 {
        return Ok(false);
    }
    let mut served = 0;
    for _ in 0..reader.count()? {
        let (key, min, max) = (reader.i16()?, reader.i16()?, reader.i16()?);
        let is_served = |used: &&(i16, i16)| used.0 == key && (min..=max).contains(&used.1);
        served += USED.iter().filter(is_served).count();
    }
    reader.i32()?; // throttle time
    Ok(served == USED.len())
}

pub fn metadata(out: &mut Vec<u8>, names: &[String]) {
    out.put_i32(names.len() as i32);
    for name in names {
        out.put_short_text(name);
    }
    out.put_u8(0); // no auto-creation
}

/// Name, error code and partition count of each topic.
pub fn metadata_answer(reader: &mut Reader<'_>) -> Result<Vec<(String, i16, usize)>, Malformed> {
    reader.i32()?; // throttle time
    for _ in 0..reader.count()? {
        reader.i32()?; // node
        reader.short_bytes()?; // host
        reader.i32()?; // port
        reader.short_bytes()?; // rack
    }
    reader.short_bytes()?; // cluster id
    reader.i32()?; // controller
    let mut topics = Vec::new();
    for _ in 0..reader.count()? {
        let code = reader.i16()?;
        let name = text(reader)?;
        reader.u8()?; // internal
        let partitions = reader.count()?;
        for _ in 0..partitions {
            reader.i16()?;
            reader.i32()?; // partition
            reader.i32()?; // leader
            for _ in 0..2 {
                let count = reader.count()?;
                reader.take(count * 4)?;
            }
        }
        topics.push((name, code, partitions));
    }
    Ok(topics)
}

pub fn create_topics(out: &mut Vec<u8>, topics: &[Topic]) {
    out.put_i32(topics.len() as i32);
    for topic in topics {
        out.put_short_text(&topic.name);
        out.put_i32(topic.partition_count);
        out.put_i16(1); // replicas
        out.put_i32(0); // assignments
        out.put_i32(0); // configs
    }
    out.put_i32(TIMEOUT_MS);
    out.put_u8(0); // not only validate
}

pub fn create_topics_answer(reader: &mut Reader<'_>) -> Result<Vec<(String, i16)>, Malformed> {
    reader.i32()?; // throttle time
    let count = reader.count()?;
    (0..count)
        .map(|_| {
            let name = text(reader)?;
            let code = reader.i16()?;
            reader.short_bytes()?; // message
            Ok((name, code))
        })
        .collect()
}

pub fn produce(out: &mut Vec<u8>, topic: &str, partition: i32, batch: &[u8]) {
    out.put_i16(NULL); // no transaction
    out.put_i16(-1); // acks=all
    out.put_i32(TIMEOUT_MS);
    put_only_partition(out, topic, partition);
    out.put_i32(batch.len() as i32);
    out.put(batch);
}

/// Error code and base offset.
pub fn produce_answer(reader: &mut Reader<'_>) -> Result<(i16, i64), Malformed> {
    only_partition(reader)?;
    Ok((reader.i16()?, reader.i64()?))
}

pub fn init_producer_id(out: &mut Vec<u8>) {
    out.put_i16(NULL); // no transaction
    out.put_i32(TIMEOUT_MS);
}

/// Error code, producer id and epoch.
pub fn init_producer_id_answer(reader: &mut Reader<'_>) -> Result<(i16, i64, i16), Malformed> {
    reader.i32()?; // throttle time
    Ok((reader.i16()?, reader.i64()?, reader.i16()?))
}

/// Of one partition.
pub fn fetch(out: &mut Vec<u8>, topic: &str, partition: i32, offset: i64, wait_ms: i32) {
    out.put_i32(-1); // not a replica
    out.put_i32(wait_ms);
    out.put_i32(1); // bytes at least
    out.put_i32(FETCH_BYTES_MAX);
    out.put_u8(0); // read uncommitted
    put_only_partition(out, topic, partition);
    out.put_i64(offset);
    out.put_i32(FETCH_BYTES_MAX);
}

pub struct Fetched<'a> {
    pub code: i16,
    pub high_watermark: i64,
    pub records: &'a [u8],
}

pub fn fetch_answer<'a>(reader: &mut Reader<'a>) -> Result<Fetched<'a>, Malformed> {
    reader.i32()?; // throttle time
    only_partition(reader)?;
    let code = reader.i16()?;
    let high_watermark = reader.i64()?;
    reader.i64()?; // last stable offset
    let aborted = reader.count()?;
    reader.take(aborted * 16)?;
    let bytes = reader.count()?;
    Ok(Fetched { code, high_watermark, records: reader.take(bytes)? })
}

pub fn list_offsets(out: &mut Vec<u8>, topic: &str, partition: i32, when: i64) {
    out.put_i32(-1); // not a replica
    put_only_partition(out, topic, partition);
    out.put_i64(when);
}

/// Error code and offset.
pub fn list_offsets_answer(reader: &mut Reader<'_>) -> Result<(i16, i64), Malformed> {
    only_partition(reader)?;
    let code = reader.i16()?;
    reader.i64()?; // timestamp
    Ok((code, reader.i64()?))
}

/// By a consumer that is no member.
pub fn offset_commit(out: &mut Vec<u8>, group: &str, topic: &str, partition: i32, offset: i64) {
    out.put_short_text(group);
    out.put_i32(-1); // generation
    out.put_short_text(""); // member
    put_only_partition(out, topic, partition);
    out.put_i64(offset);
    out.put_short_text(""); // metadata
}

pub fn offset_commit_answer(reader: &mut Reader<'_>) -> Result<i16, Malformed> {
    reader.i32()?; // throttle time
    only_partition(reader)?;
    reader.i16()
}

pub fn offset_fetch(out: &mut Vec<u8>, group: &str, topic: &str, partition: i32) {
    out.put_short_text(group);
    put_only_partition(out, topic, partition);
}

/// Error code and committed offset; -1 if there is none.
pub fn offset_fetch_answer(reader: &mut Reader<'_>) -> Result<(i16, i64), Malformed> {
    reader.i32()?; // throttle time
    only_partition(reader)?;
    let offset = reader.i64()?;
    reader.short_bytes()?; // metadata
    let code = reader.i16()?;
    let all = reader.i16()?;
    Ok((if all != 0 { all } else { code }, offset))
}

fn text(reader: &mut Reader<'_>) -> Result<String, Malformed> {
    Ok(String::from_utf8_lossy(reader.short_bytes()?).into_owned())
}

/// The head of an answer about one partition of one topic.
fn only_partition(reader: &mut Reader<'_>) -> Result<(), Malformed> {
    if reader.count()? != 1 {
        return Err(reader.malformed());
    }
    reader.short_bytes()?; // topic
    if reader.count()? != 1 {
        return Err(reader.malformed());
    }
    reader.i32()?; // partition
    Ok(())
}

/// The head of a question about it.
fn put_only_partition(out: &mut Vec<u8>, topic: &str, partition: i32) {
    out.put_i32(1);
    out.put_short_text(topic);
    out.put_i32(1);
    out.put_i32(partition);
}
