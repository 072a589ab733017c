//! A small Kafka client: creates topics, produces with `acks=all`, and consumes as a member of a
//! group. It asks in versions before the compact encodings, which every broker since 2.1 answers.

mod member;

pub use member::read;

use super::wire::{unexpected, Connection, Fields, Outgoing, WireError, Writer};
use bytes::BytesMut;
use koine_broker::batch::BatchBuilder;
use std::collections::BTreeMap;
use std::net::SocketAddr;

const PRODUCE: (i16, i16) = (0, 7);
const CREATE_TOPICS: (i16, i16) = (19, 4);
/// All in-sync replicas.
const ACKS_ALL: i16 = -1;
const TIMEOUT_MS: i32 = 30_000;

/// A request or a part of one.
#[derive(Default)]
struct Body(Vec<u8>);

impl Body {
    fn i8(&mut self, value: i8) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    fn i16(&mut self, value: i16) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    fn i32(&mut self, value: i32) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    fn i64(&mut self, value: i64) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.i16(text.len() as i16);
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    fn null_text(&mut self) -> &mut Self {
        self.i16(-1)
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.i32(bytes.len() as i32);
        self.0.extend_from_slice(bytes);
        self
    }
}

impl<'a> Fields<'a> {
    fn text(&mut self) -> Result<&'a str, WireError> {
        let length = usize::try_from(self.i16()?).unwrap_or(0);
        std::str::from_utf8(self.take(length)?).map_err(|_| unexpected("a name that is not UTF-8"))
    }

    fn sized_bytes(&mut self) -> Result<&'a [u8], WireError> {
        let length = usize::try_from(self.i32()?).unwrap_or(0);
        self.take(length)
    }

    fn ok(&mut self, what: &str) -> Result<(), WireError> {
        match self.i16()? {
            0 => Ok(()),
            code => Err(unexpected(format!("{what} failed with code {code}"))),
        }
    }
}

fn split(bytes: &[u8]) -> Result<Option<usize>, WireError> {
    let Some(size) = bytes.first_chunk::<4>() else {
        return Ok(None);
    };
    Ok(Some(u32::from_be_bytes(*size) as usize + 4))
}

struct Client {
    connection: Connection,
    correlation_id: i32,
}

impl Client {
    fn open(address: SocketAddr) -> Result<Self, WireError> {
        Ok(Client { connection: Connection::open(address)?, correlation_id: 0 })
    }

    /// One request, and its answer without size and correlation id.
    fn call(&mut self, (key, version): (i16, i16), body: &Body) -> Result<BytesMut, WireError> {
        self.correlation_id += 1;
        let mut request = Body::default();
        request.i16(key).i16(version).i32(self.correlation_id).text("koine-demo");
        let size = (request.0.len() + body.0.len()) as i32;
        self.connection.send(&[&size.to_be_bytes()[..], &request.0, &body.0].concat())?;
        let mut answer = self.connection.wait_frame(split)?;
        let head = answer.split_to(answer.len().min(8));
        match Fields(head.get(4..).unwrap_or_default()).i32()? {
            id if id == self.correlation_id => Ok(answer),
            id => Err(unexpected(format!(
                "an answer to request {id} instead of {}",
                self.correlation_id
            ))),
        }
    }
}

/// One partition each, so that the topic keeps one order.
pub fn create_topics(address: SocketAddr, names: &[String]) -> Result<(), WireError> {
    let mut body = Body::default();
    body.i32(names.len() as i32);
    for name in names {
        body.text(name).i32(1).i16(1).i32(0).i32(0);
    }
    body.i32(TIMEOUT_MS).i8(0);
    let answer = Client::open(address)?.call(CREATE_TOPICS, &body)?;
    let mut fields = Fields(&answer);
    fields.i32()?;
    for _ in 0..fields.i32()? {
        let name = fields.text()?.to_owned();
        fields.ok(&format!("creating {name}"))?;
        fields.text()?;
    }
    Ok(())
}

pub struct KafkaWriter {
    client: Client,
    prefix: String,
}

impl KafkaWriter {
    pub fn open(address: SocketAddr, prefix: &str) -> Result<Self, WireError> {
        Ok(KafkaWriter { client: Client::open(address)?, prefix: prefix.to_owned() })
    }
}

impl Writer for KafkaWriter {
    fn write(&mut self, records: &[Outgoing<'_>]) -> Result<(), WireError> {
        let mut batches: BTreeMap<String, BatchBuilder> = BTreeMap::new();
        for record in records {
            let timestamp = unix_ms();
            let topic = record.flight.subject(&self.prefix, '.');
            let batch = batches.entry(topic).or_insert_with(|| BatchBuilder::new(timestamp));
            let key = Some(record.flight.key.as_bytes());
            batch.push(timestamp, key, Some(&[record.body.as_bytes()]), &[]);
        }
        let mut body = Body::default();
        body.null_text().i16(ACKS_ALL).i32(TIMEOUT_MS).i32(batches.len() as i32);
        for (topic, mut batch) in batches {
            body.text(&topic).i32(1).i32(0).bytes(&batch.finish(0, -1));
        }
        let answer = self.client.call(PRODUCE, &body)?;
        let mut fields = Fields(&answer);
        for _ in 0..fields.i32()? {
            let topic = fields.text()?.to_owned();
            for _ in 0..fields.i32()? {
                fields.i32()?;
                fields.ok(&format!("producing to {topic}"))?;
                fields.take(24)?;
            }
        }
        Ok(())
    }
}

fn unix_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}
