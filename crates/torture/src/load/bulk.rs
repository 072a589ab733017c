//! Much data at full speed: gigabytes of Kafka records and a long AMQP queue, written and read again with every batch,
//! offset and message checked. Ends with an error at the first thing that is not as it was written.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use koine_base::checksum::crc32c;
use koine_broker::batch::{BatchBuilder, BatchHeader};

use super::amqp::{self, Channel};
use super::connection::{broken, Connection};
use super::kafka::{self, Asking};
use super::site::Addresses;

pub const RECORD_BYTES: usize = 1024;
const RECORDS_PER_BATCH: u64 = 500;
/// Produce requests in flight.
const WINDOW: usize = 8;
const FETCH_BYTES: i32 = 16 << 20;
/// Of the batch: base timestamp, greatest timestamp, checksum and where it begins to cover.
const BASE_TIMESTAMP: usize = 27;
const MAX_TIMESTAMP: usize = 35;
const CRC: usize = 17;
const CRC_START: usize = 21;
const QUEUE_WINDOW: u64 = 2_000;
const QUEUE_BODY_BYTES: usize = 1024;
/// A message of the crowd that pushes without listening.
const CROWD_BODY_BYTES: usize = 1 << 20;
/// Reading gives up after so long without anything new.
const QUIET: Duration = Duration::from_secs(30);

/// Kafka records in one partition. Batch n carries the time `origin` + n ms.
pub struct Topic {
    pub name: String,
    origin: i64,
    pub batches: u64,
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64
}

impl Topic {
    pub fn new(name: &str) -> Topic {
        // Batches are numbered by their time, which has to stay near now because of retention.
        Topic { name: name.to_owned(), origin: now_ms() - 60_000, batches: 0 }
    }

    pub fn bytes(&self) -> u64 {
        self.batches * RECORDS_PER_BATCH * RECORD_BYTES as u64
    }

    fn template(&self) -> Vec<u8> {
        let mut builder = BatchBuilder::new(self.origin);
        let mut body = vec![0; RECORD_BYTES];
        let mut state = 0x9E37_79B9_7F4A_7C15u64;
        for _ in 0..RECORDS_PER_BATCH {
            for byte in &mut body {
                // Bytes that do not compress, should anything below try to.
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = (state >> 56) as u8;
            }
            builder.push(self.origin, None, Some(&[&body]), &[]);
        }
        builder.finish(0, -1).to_vec()
    }

    /// Appends until so many bytes are acknowledged or `stop` says so. Counts what was acknowledged.
    pub fn write(
        &mut self,
        address: &str,
        bytes: u64,
        stop: impl Fn() -> bool,
    ) -> io::Result<Duration> {
        let mut asking = Asking::open(address)?;
        asking.create_topic(&self.name, 1)?;
        if self.batches > 0 {
            self.adopt(&mut asking)?;
        }
        let mut connection = Connection::open(address, kafka::measure)?;
        let mut batch = self.template();
        let (start, target) = (Instant::now(), self.bytes() + bytes);
        let (mut sent, mut open) = (self.batches, VecDeque::new());
        while self.bytes() < target && !stop() {
            while open.len() < WINDOW {
                let time = (self.origin + sent as i64).to_be_bytes();
                batch[BASE_TIMESTAMP..BASE_TIMESTAMP + 8].copy_from_slice(&time);
                batch[MAX_TIMESTAMP..MAX_TIMESTAMP + 8].copy_from_slice(&time);
                let crc = crc32c(&batch[CRC_START..]).to_be_bytes();
                batch[CRC..CRC + 4].copy_from_slice(&crc);
                connection.send(&kafka::produce(&self.name, 0, sent as i32, &batch))?;
                open.push_back(sent);
                sent += 1;
            }
            let Some(frame) = connection.next()? else { continue };
            let expected = open.pop_front().ok_or_else(|| broken("an answer to no request"))?;
            let (code, base) = kafka::produced(&frame)?;
            match (code, u64::try_from(base).ok() == Some(expected * RECORDS_PER_BATCH)) {
                (0, true) => self.batches += 1,
                (0, false) => {
                    return Err(broken(format!("batch {expected} went to offset {base}")))
                }
                (code, _) => return Err(broken(format!("Produce error {code}"))),
            }
        }
        Ok(start.elapsed())
    }

    /// What was under way when the broker ended may be stored without an acknowledgement. It counts, if it is what
    /// was sent.
    fn adopt(&mut self, asking: &mut Asking) -> io::Result<()> {
        let (acknowledged, mut known) = (self.batches, u64::MAX);
        while known != self.batches {
            known = self.batches;
            let offset = known * RECORDS_PER_BATCH;
            for fetched in asking.fetch(&self.name, &[offset], FETCH_BYTES)? {
                if fetched.code != 0 {
                    return Err(broken(format!("Fetch error {} at {offset}", fetched.code)));
                }
                self.batches = self.check(fetched.batches, self.batches)?;
            }
        }
        match self.batches - acknowledged <= WINDOW as u64 {
            true => Ok(()),
            false => Err(broken(format!("{} batches beyond {acknowledged}", self.batches))),
        }
    }

    /// Reads everything from the start and checks each batch.
    pub fn read(&self, address: &str) -> io::Result<Duration> {
        let mut asking = Asking::open(address)?;
        let (start, mut moved, mut batches) = (Instant::now(), Instant::now(), 0);
        while batches < self.batches {
            let offset = batches * RECORDS_PER_BATCH;
            for fetched in asking.fetch(&self.name, &[offset], FETCH_BYTES)? {
                if fetched.code != 0 {
                    return Err(broken(format!("Fetch error {} at {offset}", fetched.code)));
                }
                batches = self.check(fetched.batches, batches)?;
            }
            if batches * RECORDS_PER_BATCH > offset {
                moved = Instant::now();
            } else if moved.elapsed() > QUIET {
                return Err(broken(format!("nothing at offset {offset} of {}", self.bytes())));
            }
        }
        Ok(start.elapsed())
    }

    /// The batches that follow after `batches` others; how many there are then.
    fn check(&self, mut rest: Bytes, mut batches: u64) -> io::Result<u64> {
        while let Some(length) = BatchHeader::batch_bytes(&rest).ok().filter(|n| *n <= rest.len()) {
            let bytes = rest.split_to(length);
            let header = BatchHeader::new(&bytes).map_err(|_| broken("a batch that is none"))?;
            let expected = (batches * RECORDS_PER_BATCH, self.origin + batches as i64);
            if (header.base_offset(), header.base_timestamp()) != expected || !header.crc_is_good()
            {
                return Err(broken(format!("batch {batches} is not what was written")));
            }
            batches += 1;
        }
        Ok(batches)
    }
}

/// Publishes so many messages with confirms; each begins with its number.
pub fn fill_queue(address: &str, queue: &str, count: u64) -> io::Result<Duration> {
    let mut channel = Channel::open(address)?;
    channel.declare(queue)?;
    channel.select_confirms()?;
    let (start, mut sent, mut confirmed) = (Instant::now(), 0u64, 0);
    let mut body = vec![0xA5; QUEUE_BODY_BYTES];
    while confirmed < count {
        let mut out = Vec::new();
        while sent < count && sent - confirmed < QUEUE_WINDOW {
            body[..8].copy_from_slice(&sent.to_be_bytes());
            amqp::publish(&mut out, queue, &body);
            sent += 1;
        }
        channel.send(&out)?;
        if let Some(tag) = channel.confirmed()? {
            confirmed = tag;
        }
    }
    Ok(start.elapsed())
}

/// Takes so many messages, in order, and acknowledges them.
pub fn drain_queue(address: &str, queue: &str, count: u64) -> io::Result<Duration> {
    let mut channel = Channel::open(address)?;
    channel.consume(queue, QUEUE_WINDOW as u16)?;
    let (start, mut moved, mut next) = (Instant::now(), Instant::now(), 0u64);
    while next < count {
        let Some(delivery) = channel.delivery()? else {
            match moved.elapsed() > QUIET {
                true => return Err(broken(format!("message {next} of {count} does not come"))),
                false => continue,
            }
        };
        moved = Instant::now();
        let number =
            delivery.body.get(..8).map(|bytes| bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b)));
        if number != Some(next) || delivery.body.len() != QUEUE_BODY_BYTES {
            return Err(broken(format!("message {number:?} came where {next} belongs")));
        }
        next += 1;
        if next % (QUEUE_WINDOW / 4) == 0 || next == count {
            channel.acknowledge(delivery.tag)?;
        }
    }
    Ok(start.elapsed())
}

/// Pushes large messages on one connection and reads no answer, until it is over; the bytes that the broker took. Which
/// protocol it speaks depends on its index.
pub fn flood(addresses: &Addresses, index: usize, over: &AtomicBool) -> u64 {
    let name = format!("crowd-{}", index % 8);
    let topic = Topic::new(&name);
    let mut out = Vec::new();
    let connected = match index % 2 {
        0 => {
            out = kafka::produce(&name, 0, 1, &topic.template());
            Asking::open(&addresses.kafka).and_then(|mut asking| {
                asking.create_topic(&name, 1)?;
                Ok(asking.into_stream())
            })
        }
        _ => {
            amqp::publish(&mut out, &name, &vec![0x5A; CROWD_BODY_BYTES]);
            Channel::open(&addresses.amqp).and_then(|mut channel| {
                channel.declare(&name)?;
                channel.select_confirms()?;
                Ok(channel.into_stream())
            })
        }
    };
    let Ok(mut stream) = connected else { return 0 };
    let _ = stream.set_write_timeout(Some(Duration::from_millis(100)));
    let (mut pushed, mut at) = (0, 0);
    while !over.load(Ordering::SeqCst) {
        match stream.write(&out[at..]) {
            Ok(count) => {
                pushed += count as u64;
                at = (at + count) % out.len();
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    pushed
}

pub fn megabytes_per_second(bytes: u64, time: Duration) -> String {
    format!("{:.0} MB/s", bytes as f64 / 1e6 / time.as_secs_f64().max(1e-9))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_batches_in_their_order_pass() {
        let topic = Topic { name: "t".to_owned(), origin: 1_000, batches: 2 };
        let batch = |number: u64| {
            let mut bytes = topic.template();
            bytes[..8].copy_from_slice(&(number * RECORDS_PER_BATCH).to_be_bytes());
            let time = (topic.origin + number as i64).to_be_bytes();
            bytes[BASE_TIMESTAMP..BASE_TIMESTAMP + 8].copy_from_slice(&time);
            bytes[MAX_TIMESTAMP..MAX_TIMESTAMP + 8].copy_from_slice(&time);
            let crc = crc32c(&bytes[CRC_START..]).to_be_bytes();
            bytes[CRC..CRC + 4].copy_from_slice(&crc);
            bytes
        };
        let check = |pieces: &[Vec<u8>]| topic.check(Bytes::from(pieces.concat()), 0).ok();
        assert_eq!(check(&[batch(0), batch(1)]), Some(2));
        assert_eq!(check(&[batch(0), batch(1)[..100].to_vec()]), Some(1));
        assert_eq!(check(&[batch(1)]), None);
        let mut damaged = batch(0);
        damaged[70] ^= 1;
        assert_eq!(check(&[damaged]), None);
    }

    #[test]
    fn a_produce_answer_is_read() {
        let mut frame =
            vec![0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0];
        frame.extend([0, 56]);
        frame.extend((-1i64).to_be_bytes());
        assert_eq!(kafka::produced(&frame).ok(), Some((56, -1)));
        assert!(kafka::produced(&frame[..20]).is_err());
    }
}
