//! Kafka's side of the load: an idempotent producer that repeats what was not answered, a consumer that remembers what
//! it read at each offset, and a scan of the whole log. Promises checked: nothing acknowledged is missing, nothing is
//! there twice, an offset holds one record for ever, and what was readable stays readable.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use koine_broker::batch::{records, BatchBuilder, BatchHeader, BatchLimits};

use super::connection::{broken, Connection, Fields};
use super::ledger::Protocol;
use super::{Load, PAUSE};

pub const TOPIC: &str = "torture";
pub const PARTITIONS: u16 = 4;
const RECORDS_PER_BATCH_MAX: u64 = 8;
/// Without an answer for so long the connection is given up.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);
const FETCH_WAIT_MS: i32 = 100;
const FETCH_BYTES: i32 = 1 << 20;

const PRODUCE: i16 = 0;
const FETCH: i16 = 1;
const CREATE_TOPICS: i16 = 19;
const INIT_PRODUCER_ID: i16 = 22;

const OFFSET_OUT_OF_RANGE: i16 = 1;
const UNKNOWN_TOPIC: i16 = 3;
const TOPIC_ALREADY_EXISTS: i16 = 36;
const OUT_OF_ORDER_SEQUENCE: i16 = 45;
const DUPLICATE_SEQUENCE: i16 = 46;
const UNKNOWN_PRODUCER: i16 = 59;

pub fn measure(bytes: &[u8]) -> Option<usize> {
    let length = i32::from_be_bytes(bytes.get(..4)?.try_into().ok()?);
    Some(4 + usize::try_from(length).unwrap_or(usize::MAX >> 1))
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as i16).to_be_bytes());
    out.extend(text.as_bytes());
}

fn int32(out: &mut Vec<u8>, value: i32) {
    out.extend(value.to_be_bytes());
}

/// A request frame with header v1.
fn request(key: i16, version: i16, correlation: i32, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 4];
    frame.extend(key.to_be_bytes());
    frame.extend(version.to_be_bytes());
    int32(&mut frame, correlation);
    text(&mut frame, "torture");
    frame.extend(body);
    let length = frame.len() as i32 - 4;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame
}

/// Produce v7 of one batch, acks=all.
pub fn produce(topic: &str, partition: u16, correlation: i32, batch: &[u8]) -> Vec<u8> {
    let mut body = (-1i16).to_be_bytes().to_vec(); // no transaction
    body.extend((-1i16).to_be_bytes()); // acks=all
    int32(&mut body, 30_000);
    int32(&mut body, 1);
    text(&mut body, topic);
    int32(&mut body, 1);
    int32(&mut body, i32::from(partition));
    int32(&mut body, batch.len() as i32);
    body.extend(batch);
    request(PRODUCE, 7, correlation, &body)
}

/// Error code and base offset of the answer to one batch.
pub fn produced(frame: &[u8]) -> io::Result<(i16, i64)> {
    let mut at = Fields(frame);
    at.take(12)?; // length, correlation id, one topic
    at.text()?;
    at.take(8)?; // one partition, its number
    Ok((at.i16()?, at.i64()?))
}

/// A connection that asks one thing at a time.
pub struct Asking {
    connection: Connection,
    correlation: i32,
}

impl Asking {
    pub fn open(address: &str) -> io::Result<Asking> {
        Ok(Asking { connection: Connection::open(address, measure)?, correlation: 0 })
    }

    pub fn into_stream(self) -> TcpStream {
        self.connection.into_stream()
    }

    fn ask(&mut self, key: i16, version: i16, body: &[u8]) -> io::Result<Vec<u8>> {
        self.correlation += 1;
        self.connection.send(&request(key, version, self.correlation, body))?;
        let frame = self.connection.answer()?;
        match frame.get(4..8) == Some(&self.correlation.to_be_bytes()[..]) {
            true => Ok(frame[8..].to_vec()),
            false => Err(broken("another request's answer")),
        }
    }

    /// Makes the topic; the error code.
    pub fn create_topic(&mut self, topic: &str, partitions: u16) -> io::Result<i16> {
        let mut body = Vec::new();
        int32(&mut body, 1);
        text(&mut body, topic);
        int32(&mut body, i32::from(partitions));
        body.extend(1i16.to_be_bytes()); // replicas
        int32(&mut body, 0); // assignments
        int32(&mut body, 0); // settings
        int32(&mut body, 30_000); // limit, ms
        body.push(0); // validate only
        let answer = self.ask(CREATE_TOPICS, 4, &body)?;
        let mut at = Fields(&answer);
        at.take(8)?; // throttle time, one topic
        at.text()?;
        at.i16()
    }

    fn init_producer_id(&mut self) -> io::Result<(i64, i16)> {
        let mut body = Vec::new();
        body.extend((-1i16).to_be_bytes()); // no transactional id
        int32(&mut body, 60_000);
        let answer = self.ask(INIT_PRODUCER_ID, 1, &body)?;
        let mut at = Fields(&answer);
        at.i32()?; // throttle time
        match at.i16()? {
            0 => Ok((at.i64()?, at.i16()?)),
            code => Err(broken(format!("InitProducerId error {code}"))),
        }
    }

    /// One Fetch: per partition the error code, the end of the log and the batches.
    pub fn fetch(
        &mut self,
        topic: &str,
        offsets: &[u64],
        partition_bytes: i32,
    ) -> io::Result<Vec<Fetched>> {
        let mut body = Vec::new();
        int32(&mut body, -1); // no replica
        int32(&mut body, FETCH_WAIT_MS);
        int32(&mut body, 1); // least bytes
        int32(&mut body, partition_bytes.saturating_mul(offsets.len() as i32));
        body.push(0); // uncommitted
        int32(&mut body, 0); // no session
        int32(&mut body, -1);
        int32(&mut body, 1);
        text(&mut body, topic);
        int32(&mut body, offsets.len() as i32);
        for (partition, offset) in offsets.iter().enumerate() {
            int32(&mut body, partition as i32);
            int32(&mut body, -1); // leader epoch
            body.extend((*offset as i64).to_be_bytes());
            body.extend((-1i64).to_be_bytes()); // start of the log
            int32(&mut body, partition_bytes);
        }
        int32(&mut body, 0); // forgotten topics
        text(&mut body, ""); // rack
        let answer = self.ask(FETCH, 11, &body)?;
        let mut at = Fields(&answer);
        at.i32()?; // throttle time
        match at.i16()? {
            0 => {}
            code => return Err(broken(format!("Fetch error {code}"))),
        }
        at.i32()?; // session
        let mut found = Vec::new();
        for _ in 0..at.i32()? {
            at.text()?;
            for _ in 0..at.i32()? {
                found.push(Fetched::read(&mut at)?);
            }
        }
        Ok(found)
    }
}

pub struct Fetched {
    pub partition: u16,
    pub code: i16,
    pub end: u64,
    pub batches: Bytes,
}

impl Fetched {
    fn read(at: &mut Fields) -> io::Result<Fetched> {
        let partition = at.i32()? as u16;
        let code = at.i16()?;
        let end = at.i64()?.max(0) as u64;
        at.take(16)?; // last stable offset, start of the log
        let aborted = at.i32()?.max(0) as usize;
        at.take(aborted.saturating_mul(16))?;
        at.i32()?; // preferred replica
        let bytes = at.i32()?.max(0) as usize;
        let batches = Bytes::copy_from_slice(at.take(bytes)?);
        Ok(Fetched { partition, code, end, batches })
    }

    /// The values from `from` on, with their offsets. Checks each batch's checksum.
    pub fn values(&self, from: u64) -> io::Result<Vec<(u64, Bytes)>> {
        let mut values = Vec::new();
        let mut rest = self.batches.clone();
        // An answer may end in the middle of a batch.
        while let Some(length) = BatchHeader::batch_bytes(&rest).ok().filter(|n| *n <= rest.len()) {
            let batch = rest.split_to(length);
            let header = BatchHeader::new(&batch).map_err(|_| broken("a batch that is none"))?;
            if !header.crc_is_good() {
                return Err(broken("a batch with a wrong checksum"));
            }
            let read = records(&batch, &BatchLimits::default());
            for record in read.map_err(|_| broken("a batch without records"))? {
                let record = record.map_err(|_| broken("a record that is none"))?;
                if record.offset() >= from {
                    values.push((record.offset(), record.value_bytes().unwrap_or_default()));
                }
            }
        }
        Ok(values)
    }
}

/// A batch that is not answered yet. It keeps its producer sequence however often it is sent.
struct Batch {
    correlation: i32,
    messages: Vec<u64>,
    bytes: Bytes,
    sent: Instant,
    /// Was refused with an error that may go: when to send it again.
    again_at: Option<Instant>,
}

/// One idempotent producer over all partitions, one request in flight on each.
pub struct Producer {
    writer: u16,
    identity: Option<(i64, i16)>,
    next_sequence: [i32; PARTITIONS as usize],
    open: BTreeMap<u16, Batch>,
    correlation: i32,
}

impl Producer {
    pub fn new(writer: u16) -> Producer {
        Producer {
            writer,
            identity: None,
            next_sequence: [0; PARTITIONS as usize],
            open: BTreeMap::new(),
            correlation: 0,
        }
    }

    /// One connection, until it breaks or the load is over.
    pub fn live(&mut self, load: &Load, address: &str, life: u64) -> io::Result<()> {
        let mut asking = Asking::open(address)?;
        if self.identity.is_none() {
            match asking.create_topic(TOPIC, PARTITIONS)? {
                0 | TOPIC_ALREADY_EXISTS => {}
                code => return Err(broken(format!("CreateTopics error {code}"))),
            }
            self.identity = Some(asking.init_producer_id()?);
        }
        let mut connection = asking.connection;
        for batch in self.open.values_mut() {
            batch.again_at = Some(Instant::now());
        }
        while !load.site.is_over() {
            if load.site.is_writing() {
                self.fill(load);
            }
            self.send(&mut connection)?;
            if self.open.is_empty() {
                std::thread::sleep(PAUSE);
            }
            while let Some(frame) = connection.next()? {
                self.answered(load, life, &frame)?;
                self.send(&mut connection)?;
                if self.open.is_empty() {
                    break;
                }
            }
            if self.open.values().any(|batch| batch.sent.elapsed() > ANSWER_LIMIT) {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }

    /// A new batch for each partition that has none.
    fn fill(&mut self, load: &Load) {
        let Some((producer, epoch)) = self.identity else { return };
        for partition in 0..PARTITIONS {
            if self.open.contains_key(&partition) {
                continue;
            }
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let timestamp = now.as_millis() as i64;
            let mut builder = BatchBuilder::new(timestamp);
            let sequence = &mut self.next_sequence[usize::from(partition)];
            builder.set_producer(producer, epoch, *sequence);
            let count = 1 + load.random(RECORDS_PER_BATCH_MAX);
            *sequence = sequence.wrapping_add(count as i32) & i32::MAX;
            let mut messages = Vec::new();
            for _ in 0..count {
                let (message, body) = load.ledger.attempt(self.writer);
                builder.push(timestamp, None, Some(&[&body]), &[]);
                messages.push(message);
            }
            load.site.opened(messages.len());
            let now = Instant::now();
            let bytes = builder.finish(0, -1);
            let batch = Batch { correlation: 0, messages, bytes, sent: now, again_at: Some(now) };
            self.open.insert(partition, batch);
        }
    }

    fn send(&mut self, connection: &mut Connection) -> io::Result<()> {
        let now = Instant::now();
        for (partition, batch) in &mut self.open {
            if batch.again_at.is_none_or(|at| at > now) {
                continue;
            }
            self.correlation = self.correlation.wrapping_add(1);
            (batch.correlation, batch.sent, batch.again_at) = (self.correlation, now, None);
            let frame = produce(TOPIC, *partition, self.correlation, &batch.bytes);
            connection.send(&frame)?;
        }
        Ok(())
    }

    fn answered(&mut self, load: &Load, life: u64, frame: &[u8]) -> io::Result<()> {
        let mut at = Fields(frame);
        at.i32()?; // length
        let correlation = at.i32()?;
        at.i32()?; // one topic
        at.text()?;
        at.i32()?; // one partition
        let partition = at.i32()? as u16;
        let code = at.i16()?;
        let base = at.i64()?;
        at.take(16)?; // append time, start of the log
        if at.i32()? > 0 {
            load.ledger.signal("kafka throttle_time_ms".to_owned());
        }
        let Some(batch) = self.open.get_mut(&partition).filter(|b| b.correlation == correlation)
        else {
            return Err(broken("an answer to no request"));
        };
        match code {
            0 | DUPLICATE_SEQUENCE => {
                let batch = self.open.remove(&partition).unwrap_or_else(|| unreachable!());
                for (index, message) in batch.messages.iter().enumerate() {
                    let place =
                        u64::try_from(base).ok().map(|base| (partition, base + index as u64));
                    load.ledger.acknowledged(self.writer, *message, place);
                }
                load.site.closed(batch.messages.len());
                load.site.acknowledged(Protocol::Kafka, life);
            }
            OUT_OF_ORDER_SEQUENCE | UNKNOWN_PRODUCER => {
                load.ledger.complain(format!(
                    "kafka: error {code} to an idempotent producer on partition {partition}: its state is gone"
                ));
                return Err(broken(format!("Produce error {code}")));
            }
            code => {
                load.ledger.signal(format!("kafka Produce error {code}"));
                batch.again_at = Some(Instant::now() + Duration::from_millis(100));
            }
        }
        Ok(())
    }
}

/// What was read, by partition and offset. Never forgets: an offset holds one record for ever.
#[derive(Default)]
pub struct Log {
    partitions: [Vec<(u16, u64)>; PARTITIONS as usize],
}

impl Log {
    /// Takes in what came of a fetch at the end of what is known.
    fn extend(&mut self, load: &Load, fetched: &Fetched) -> io::Result<()> {
        let partition = fetched.partition;
        let Some(known) = self.partitions.get_mut(usize::from(partition)) else {
            return Err(broken("a partition that was not asked for"));
        };
        for (offset, value) in fetched.values(known.len() as u64)? {
            if offset != known.len() as u64 {
                load.ledger.complain(format!(
                    "kafka: partition {partition} goes on at {offset} after {}",
                    known.len()
                ));
                return Err(broken("a gap in a log"));
            }
            match load.ledger.read(&value, false, Some((partition, offset))) {
                Some(name) => known.push((name.writer, name.sequence)),
                None => known.push((u16::MAX, u64::MAX)),
            }
        }
        Ok(())
    }

    fn offsets(&self) -> [u64; PARTITIONS as usize] {
        [0, 1, 2, 3].map(|partition: usize| self.partitions[partition].len() as u64)
    }
}

/// Reads on from where it is.
#[derive(Default)]
pub struct Consumer {
    pub log: Log,
}

impl Consumer {
    pub fn live(&mut self, load: &Load, address: &str) -> io::Result<()> {
        let mut asking = Asking::open(address)?;
        while !load.site.is_over() {
            if !load.site.is_reading() {
                std::thread::sleep(PAUSE);
                continue;
            }
            for fetched in asking.fetch(TOPIC, &self.log.offsets(), FETCH_BYTES)? {
                match fetched.code {
                    0 => self.log.extend(load, &fetched)?,
                    UNKNOWN_TOPIC if self.log.offsets() == [0; 4] => std::thread::sleep(PAUSE),
                    OFFSET_OUT_OF_RANGE => {
                        load.ledger.complain(format!(
                            "kafka: partition {} ends at {}, {} had been read",
                            fetched.partition,
                            fetched.end,
                            self.log.offsets()[usize::from(fetched.partition)]
                        ));
                        return Err(broken("what was read is gone"));
                    }
                    code => load.ledger.signal(format!("kafka Fetch error {code}")),
                }
            }
        }
        Ok(())
    }

    /// Reads the whole log once more and compares; the number of records.
    pub fn scan(&self, load: &Load, address: &str) -> io::Result<u64> {
        let mut asking = Asking::open(address)?;
        let mut offsets = [0; PARTITIONS as usize];
        loop {
            let mut moved = false;
            for fetched in asking.fetch(TOPIC, &offsets, FETCH_BYTES)? {
                let (partition, offset) =
                    (fetched.partition, &mut offsets[usize::from(fetched.partition)]);
                if fetched.code != 0 {
                    return Err(broken(format!("Fetch error {} at {offset}", fetched.code)));
                }
                for (at, value) in fetched.values(*offset)? {
                    let name = super::body::decode(&value).map(|name| (name.writer, name.sequence));
                    let known = self.log.partitions[usize::from(partition)].get(at as usize);
                    if at != *offset || name.is_none() || name.as_ref() != known {
                        load.ledger.complain(format!(
                            "kafka: partition {partition} offset {at} held {known:?} and holds {name:?}"
                        ));
                    }
                    *offset = at + 1;
                    moved = true;
                }
            }
            if !moved {
                break;
            }
        }
        if offsets != self.log.offsets() {
            load.ledger.complain(format!(
                "kafka: read again up to {offsets:?}, before up to {:?}",
                self.log.offsets()
            ));
        }
        Ok(offsets.iter().sum())
    }
}
