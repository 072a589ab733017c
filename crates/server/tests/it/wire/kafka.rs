//! Kafka: CreateTopics v2, Produce v3 and Fetch v4 of one record in partition 0, Metadata v1.

use std::io::{self, Read, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{broken, buffer, open, Stream};
use koine_base::checksum::crc32c;

#[derive(Debug)]
pub struct Client {
    stream: Stream,
    correlation: i32,
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as i16).to_be_bytes());
    out.extend(text.as_bytes());
}

fn int32(out: &mut Vec<u8>, value: i32) {
    out.extend(value.to_be_bytes());
}

/// A request frame: length, header v1 (key, version, correlation id, client id), body.
pub fn request(key: i16, version: i16, correlation: i32, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(key.to_be_bytes());
    frame.extend(version.to_be_bytes());
    int32(&mut frame, correlation);
    text(&mut frame, "wire");
    frame.extend(body);
    let mut out = (frame.len() as i32).to_be_bytes().to_vec();
    out.extend(frame);
    out
}

pub fn api_versions_body() -> Vec<u8> {
    Vec::new()
}

pub fn metadata_body(topic: &str) -> Vec<u8> {
    let mut body = Vec::new();
    int32(&mut body, 1);
    text(&mut body, topic);
    body
}

fn create_topics_body(topic: &str) -> Vec<u8> {
    let mut body = Vec::new();
    int32(&mut body, 1);
    text(&mut body, topic);
    int32(&mut body, 1); // partitions
    body.extend(1i16.to_be_bytes()); // replication factor
    int32(&mut body, 0); // assignments
    int32(&mut body, 0); // configs
    int32(&mut body, 10_000); // timeout, ms
    body.push(0); // validate only
    body
}

/// Zigzag, seven bits a byte.
pub fn varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push((rest as u8) | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// A RecordBatch v2 of one record without key.
pub fn batch(value: &[u8]) -> Vec<u8> {
    batch_with(value, &[])
}

/// The same with headers.
pub fn batch_with(value: &[u8], headers: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut record = vec![0]; // attributes
    varint(&mut record, 0); // timestamp delta
    varint(&mut record, 0); // offset delta
    varint(&mut record, -1); // no key
    varint(&mut record, value.len() as i64);
    record.extend(value);
    varint(&mut record, headers.len() as i64);
    for (name, value) in headers {
        varint(&mut record, name.len() as i64);
        record.extend(*name);
        varint(&mut record, value.len() as i64);
        record.extend(*value);
    }
    let mut records = Vec::new();
    varint(&mut records, record.len() as i64);
    records.extend(record);
    compressed_batch(0, &records)
}

/// A RecordBatch v2 that says its `records` are one record, compressed by this codec (0 to 4).
pub fn compressed_batch(codec: i16, records: &[u8]) -> Vec<u8> {
    let mut summed = Vec::new(); // what the checksum covers
    summed.extend(codec.to_be_bytes()); // attributes
    int32(&mut summed, 0); // last offset delta
                           // Recent: what is older than the retention time may go at any moment.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    summed.extend(now.to_be_bytes()); // base timestamp
    summed.extend(now.to_be_bytes()); // greatest timestamp
    summed.extend((-1i64).to_be_bytes()); // producer id
    summed.extend((-1i16).to_be_bytes()); // producer epoch
    int32(&mut summed, -1); // base sequence
    int32(&mut summed, 1); // records
    summed.extend(records);
    let mut out = 0i64.to_be_bytes().to_vec(); // base offset
    int32(&mut out, 9 + summed.len() as i32); // bytes from the leader epoch on
    int32(&mut out, -1); // leader epoch
    out.push(2); // magic
    out.extend(crc32c(&summed).to_be_bytes());
    out.extend(summed);
    out
}

pub fn produce_body(topic: &str, value: &[u8]) -> Vec<u8> {
    produce_batch_body(topic, &batch(value))
}

fn produce_batch_body(topic: &str, batch: &[u8]) -> Vec<u8> {
    let mut body = (-1i16).to_be_bytes().to_vec(); // no transactional id
    body.extend((-1i16).to_be_bytes()); // acks=all
    int32(&mut body, 10_000);
    int32(&mut body, 1);
    text(&mut body, topic);
    int32(&mut body, 1);
    int32(&mut body, 0); // partition
    int32(&mut body, batch.len() as i32);
    body.extend(batch);
    body
}

pub fn fetch_body(topic: &str, offset: i64) -> Vec<u8> {
    let mut body = Vec::new();
    int32(&mut body, -1); // replica
    int32(&mut body, 5_000); // wait, ms
    int32(&mut body, 1); // bytes, at least
    int32(&mut body, 1 << 20); // bytes, at most
    body.push(0); // isolation
    int32(&mut body, 1);
    text(&mut body, topic);
    int32(&mut body, 1);
    int32(&mut body, 0); // partition
    body.extend(offset.to_be_bytes());
    int32(&mut body, 1 << 20);
    body
}

/// Reads an answer from left to right.
struct Answer<'a>(&'a [u8]);

impl<'a> Answer<'a> {
    fn take(&mut self, count: usize) -> io::Result<&'a [u8]> {
        if self.0.len() < count {
            return Err(broken("the answer ends early"));
        }
        let (head, tail) = self.0.split_at(count);
        self.0 = tail;
        Ok(head)
    }

    fn int16(&mut self) -> io::Result<i16> {
        self.take(2).map(|bytes| i16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn int32(&mut self) -> io::Result<i32> {
        self.take(4).map(|bytes| i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn int64(&mut self) -> io::Result<i64> {
        Ok((i64::from(self.int32()?) << 32) | i64::from(self.int32()? as u32))
    }

    fn skip_text(&mut self) -> io::Result<()> {
        let length = self.int16()?.max(0) as usize;
        self.take(length).map(drop)
    }

    fn varint(&mut self) -> io::Result<i64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(broken("a varint without end"))
    }
}

/// The value of the record with this offset delta in a batch, which the answer is at.
fn value_in(batch: &[u8], wanted: i64) -> io::Result<Option<Vec<u8>>> {
    let mut at = Answer(batch);
    let base = at.int64()?;
    let length = at.int32()?;
    let mut rest = Answer(at.take(usize::try_from(length).map_err(|_| broken("length"))?)?);
    rest.take(4 + 1 + 4 + 2 + 4 + 8 + 8 + 8 + 2 + 4)?;
    let count = rest.int32()?;
    for _ in 0..count {
        let size = rest.varint()?;
        let mut record = Answer(rest.take(usize::try_from(size).map_err(|_| broken("size"))?)?);
        record.take(1)?;
        record.varint()?;
        let delta = record.varint()?;
        let key = record.varint()?.max(0) as usize;
        record.take(key)?;
        let value = record.varint()?.max(0) as usize;
        let value = record.take(value)?;
        if base + delta == wanted {
            return Ok(Some(value.to_vec()));
        }
    }
    Ok(None)
}

impl Client {
    pub fn connect(address: &str) -> io::Result<Client> {
        Ok(Client::over(open(address)?))
    }

    pub fn over(stream: impl Into<Stream>) -> Client {
        Client { stream: stream.into(), correlation: 0 }
    }

    /// A connection logged in by SASL PLAIN.
    pub fn login(address: &str, user: &str, password: &str) -> io::Result<Client> {
        let mut this = Client::connect(address)?;
        match this.authenticate(user, password)? {
            0 => Ok(this),
            code => Err(broken(format!("login error {code}"))),
        }
    }

    /// Logs in by PLAIN; the error code.
    pub fn authenticate(&mut self, user: &str, password: &str) -> io::Result<i16> {
        match self.handshake("PLAIN")? {
            0 => Ok(self.say(format!("\0{user}\0{password}").as_bytes())?.0),
            code => Ok(code),
        }
    }

    /// SaslHandshake v1; the error code.
    pub fn handshake(&mut self, mechanism: &str) -> io::Result<i16> {
        let mut body = Vec::new();
        text(&mut body, mechanism);
        Answer(&self.call(17, 1, &body)?).int16()
    }

    /// SaslAuthenticate v0: one step of the mechanism; the error code and the broker's step.
    pub fn say(&mut self, step: &[u8]) -> io::Result<(i16, Vec<u8>)> {
        let mut body = Vec::new();
        int32(&mut body, step.len() as i32);
        body.extend(step);
        let answer = self.call(36, 0, &body)?;
        let mut at = Answer(&answer);
        let code = at.int16()?;
        at.skip_text()?; // the error in words
        let size = at.int32()?.max(0) as usize;
        Ok((code, at.take(size)?.to_vec()))
    }

    /// IncrementalAlterConfigs v0 of one key of the broker (4) or of a topic (2); the error code.
    pub fn set_config(
        &mut self,
        kind: u8,
        resource: &str,
        key: &str,
        value: &str,
    ) -> io::Result<i16> {
        let mut body = Vec::new();
        int32(&mut body, 1);
        body.push(kind);
        text(&mut body, resource);
        int32(&mut body, 1);
        text(&mut body, key);
        body.push(0); // set
        text(&mut body, value);
        body.push(0); // not only validated
        let answer = self.call(44, 0, &body)?;
        let mut at = Answer(&answer);
        at.take(8)?; // throttle time, one resource
        at.int16()
    }

    /// Makes topics of one partition, all of which must be new.
    pub fn create_topics(&mut self, topics: &[String]) -> io::Result<()> {
        topics.iter().try_for_each(|topic| self.create_topic(topic))
    }

    /// ListOffsets v1: the offset that the next record of partition 0 will have.
    pub fn end(&mut self, topic: &str) -> io::Result<i64> {
        let mut body = Vec::new();
        int32(&mut body, -1); // replica
        int32(&mut body, 1);
        text(&mut body, topic);
        int32(&mut body, 1);
        int32(&mut body, 0); // partition
        body.extend((-1i64).to_be_bytes()); // the latest
        let answer = self.call(2, 1, &body)?;
        let mut at = Answer(&answer);
        at.take(4)?;
        at.skip_text()?;
        at.take(8)?;
        match at.int16()? {
            0 => {
                at.take(8)?; // timestamp
                at.int64()
            }
            code => Err(broken(format!("ListOffsets error {code}"))),
        }
    }

    fn call(&mut self, key: i16, version: i16, body: &[u8]) -> io::Result<Vec<u8>> {
        self.correlation += 1;
        self.stream.write_all(&request(key, version, self.correlation, body))?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut answer = buffer(u32::from_be_bytes(length) as usize)?;
        self.stream.read_exact(&mut answer)?;
        let mut at = Answer(&answer);
        match at.int32()? == self.correlation {
            true => Ok(at.0.to_vec()),
            false => Err(broken("another request's answer")),
        }
    }

    pub fn create_topic(&mut self, topic: &str) -> io::Result<()> {
        match self.try_create_topic(topic)? {
            0 => Ok(()),
            code => Err(broken(format!("CreateTopics error {code}"))),
        }
    }

    /// The error code of CreateTopics.
    pub fn try_create_topic(&mut self, topic: &str) -> io::Result<i16> {
        let answer = self.call(19, 2, &create_topics_body(topic))?;
        let mut at = Answer(&answer);
        at.take(8)?; // throttle time, one topic
        at.skip_text()?;
        at.int16()
    }

    /// The error code of DeleteTopics.
    pub fn try_delete_topic(&mut self, topic: &str) -> io::Result<i16> {
        let mut body = Vec::new();
        int32(&mut body, 1);
        text(&mut body, topic);
        int32(&mut body, 10_000);
        let answer = self.call(20, 1, &body)?;
        let mut at = Answer(&answer);
        at.take(8)?;
        at.skip_text()?;
        at.int16()
    }

    /// The error code that Metadata has for a topic.
    pub fn metadata_code(&mut self, topic: &str) -> io::Result<i16> {
        let answer = self.call(3, 1, &metadata_body(topic))?;
        let mut at = Answer(&answer);
        for _ in 0..at.int32()? {
            at.take(4)?;
            at.skip_text()?;
            at.take(4)?;
            at.skip_text()?;
        }
        at.take(8)?; // the controller, one topic
        at.int16()
    }

    /// Appends one record; its offset.
    pub fn produce(&mut self, topic: &str, value: &[u8]) -> io::Result<i64> {
        match self.try_produce(topic, value)? {
            (0, offset, _) => Ok(offset),
            (code, ..) => Err(broken(format!("Produce error {code}"))),
        }
    }

    /// Error code, offset and throttle time in milliseconds.
    pub fn try_produce(&mut self, topic: &str, value: &[u8]) -> io::Result<(i16, i64, i32)> {
        self.try_produce_batch(topic, &batch(value))
    }

    /// Appends a batch made elsewhere; its first offset.
    pub fn produce_batch(&mut self, topic: &str, batch: &[u8]) -> io::Result<i64> {
        match self.try_produce_batch(topic, batch)? {
            (0, offset, _) => Ok(offset),
            (code, ..) => Err(broken(format!("Produce error {code}"))),
        }
    }

    fn try_produce_batch(&mut self, topic: &str, batch: &[u8]) -> io::Result<(i16, i64, i32)> {
        let answer = self.call(0, 3, &produce_batch_body(topic, batch))?;
        let mut at = Answer(&answer);
        at.take(4)?;
        at.skip_text()?;
        at.take(8)?; // one partition, number 0
        let (code, offset) = (at.int16()?, at.int64()?);
        at.take(8)?; // append time
        Ok((code, offset, at.int32()?))
    }

    /// Commits an offset of partition 0 without being a member of the group.
    pub fn commit(&mut self, group: &str, topic: &str, offset: i64) -> io::Result<()> {
        match self.try_commit(group, topic, offset)? {
            0 => Ok(()),
            code => Err(broken(format!("OffsetCommit error {code}"))),
        }
    }

    /// The error code of OffsetCommit.
    pub fn try_commit(&mut self, group: &str, topic: &str, offset: i64) -> io::Result<i16> {
        let mut body = Vec::new();
        text(&mut body, group);
        int32(&mut body, -1); // generation
        text(&mut body, ""); // member
        body.extend((-1i64).to_be_bytes()); // retention
        int32(&mut body, 1);
        text(&mut body, topic);
        int32(&mut body, 1);
        int32(&mut body, 0); // partition
        body.extend(offset.to_be_bytes());
        text(&mut body, "");
        let answer = self.call(8, 2, &body)?;
        let mut at = Answer(&answer);
        at.take(4)?;
        at.skip_text()?;
        at.take(8)?;
        at.int16()
    }

    /// Reads until the broker closes the connection without another word.
    pub fn closed(&mut self) -> io::Result<()> {
        match self.stream.read(&mut [0; 64])? {
            0 => Ok(()),
            count => Err(broken(format!("{count} bytes more"))),
        }
    }

    /// The error code of Fetch.
    pub fn try_fetch(&mut self, topic: &str) -> io::Result<i16> {
        let answer = self.call(1, 4, &fetch_body(topic, 0))?;
        let mut at = Answer(&answer);
        at.take(8)?;
        at.skip_text()?;
        at.take(8)?;
        at.int16()
    }

    /// The value of the record at this offset, waiting for it if it is not there yet.
    pub fn fetch(&mut self, topic: &str, offset: i64) -> io::Result<Vec<u8>> {
        let answer = self.call(1, 4, &fetch_body(topic, offset))?;
        let mut at = Answer(&answer);
        at.take(8)?; // throttle time, one topic
        at.skip_text()?;
        at.take(8)?; // one partition, number 0
        let code = at.int16()?;
        if code != 0 {
            return Err(broken(format!("Fetch error {code}")));
        }
        at.take(16)?; // high watermark, last stable offset
        let aborted = at.int32()?.max(0) as usize;
        at.take(aborted * 16)?;
        let size = at.int32()?.max(0) as usize;
        let mut records = at.take(size)?;
        while records.len() > 61 {
            if let Some(value) = value_in(records, offset)? {
                return Ok(value);
            }
            let mut head = Answer(&records[8..]);
            let length = head.int32()?.max(0) as usize;
            records = records.get(12 + length..).unwrap_or_default();
        }
        Err(broken(format!("offset {offset} is not in the answer")))
    }
}
