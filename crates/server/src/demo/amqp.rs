//! A small AMQP 0-9-1 client: publishes with confirms, consumes one queue with acknowledgements.

use super::wire::{unexpected, Connection, Feed, Fields, Outgoing, WireError, Writer};
use bytes::BytesMut;
use std::net::SocketAddr;

const FRAME_METHOD: u8 = 1;
const FRAME_HEADER: u8 = 2;
const FRAME_BODY: u8 = 3;
const FRAME_HEARTBEAT: u8 = 8;
const FRAME_END: u8 = 0xCE;
/// Type, channel and size in front, the end mark behind (AMQP 0-9-1 §2.3.5).
const FRAME_OVERHEAD: usize = 8;
const CHANNEL: u16 = 1;

/// Class and method, as the specification numbers them.
type Method = (u16, u16);
const CONNECTION_START: Method = (10, 10);
const CONNECTION_START_OK: Method = (10, 11);
const CONNECTION_TUNE: Method = (10, 30);
const CONNECTION_TUNE_OK: Method = (10, 31);
const CONNECTION_OPEN: Method = (10, 40);
const CONNECTION_OPEN_OK: Method = (10, 41);
const CONNECTION_CLOSE: Method = (10, 50);
const CHANNEL_OPEN: Method = (20, 10);
const CHANNEL_OPEN_OK: Method = (20, 11);
const CHANNEL_CLOSE: Method = (20, 40);
const QUEUE_DECLARE: Method = (50, 10);
const QUEUE_DECLARE_OK: Method = (50, 11);
const QUEUE_BIND: Method = (50, 20);
const QUEUE_BIND_OK: Method = (50, 21);
const BASIC_QOS: Method = (60, 10);
const BASIC_QOS_OK: Method = (60, 11);
const BASIC_CONSUME: Method = (60, 20);
const BASIC_CONSUME_OK: Method = (60, 21);
const BASIC_PUBLISH: Method = (60, 40);
const BASIC_DELIVER: Method = (60, 60);
const BASIC_ACK: Method = (60, 80);
const CONFIRM_SELECT: Method = (85, 10);
const CONFIRM_SELECT_OK: Method = (85, 11);

/// Unacknowledged deliveries at once.
const PREFETCH: u16 = 500;
/// Deliveries after which one acknowledgement covers all of them.
const ACK_EVERY: u64 = 50;
const TOPIC_EXCHANGE: &str = "amq.topic";

fn split(bytes: &[u8]) -> Result<Option<usize>, WireError> {
    let Some(size) = bytes.get(3..7) else {
        return Ok(None);
    };
    let size = u32::from_be_bytes([size[0], size[1], size[2], size[3]]);
    Ok(Some(size as usize + FRAME_OVERHEAD))
}

fn put_frame(out: &mut Vec<u8>, kind: u8, channel: u16, parts: &[&[u8]]) {
    let size: usize = parts.iter().map(|part| part.len()).sum();
    out.push(kind);
    out.extend_from_slice(&channel.to_be_bytes());
    out.extend_from_slice(&(size as u32).to_be_bytes());
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out.push(FRAME_END);
}

fn put_method(out: &mut Vec<u8>, channel: u16, method: Method, arguments: &[u8]) {
    put_frame(
        out,
        FRAME_METHOD,
        channel,
        &[&method.0.to_be_bytes(), &method.1.to_be_bytes(), arguments],
    );
}

/// The names here are all short.
fn put_short(out: &mut Vec<u8>, text: &str) {
    out.push(text.len() as u8);
    out.extend_from_slice(text.as_bytes());
}

/// Method and arguments of a method frame; a close from the broker becomes an error with its words.
fn open_method(frame: &BytesMut) -> Result<(Method, Fields<'_>), WireError> {
    if frame[0] != FRAME_METHOD {
        return Err(unexpected(format!("a frame of type {} where a method belongs", frame[0])));
    }
    let mut fields = Fields(&frame[7..frame.len() - 1]);
    let method = (fields.u16()?, fields.u16()?);
    if method == CONNECTION_CLOSE || method == CHANNEL_CLOSE {
        let code = fields.u16()?;
        let length = fields.u8()?;
        let text = String::from_utf8_lossy(fields.take(usize::from(length))?);
        return Err(unexpected(format!("the broker closed with {code} {text}")));
    }
    Ok((method, fields))
}

struct Channel {
    connection: Connection,
}

impl Channel {
    fn open(address: SocketAddr) -> Result<Self, WireError> {
        let mut channel = Channel { connection: Connection::open(address)? };
        channel.connection.send(b"AMQP\0\0\x09\x01")?;
        channel.expect(CONNECTION_START)?;
        let mut start = vec![0; 4];
        put_short(&mut start, "PLAIN");
        let login = b"\0guest\0guest";
        start.extend_from_slice(&(login.len() as u32).to_be_bytes());
        start.extend_from_slice(login);
        put_short(&mut start, "en_US");
        channel.send(0, CONNECTION_START_OK, &start)?;
        let frame = channel.wait()?;
        let (method, mut tune) = open_method(&frame)?;
        if method != CONNECTION_TUNE {
            return Err(unexpected(format!("method {method:?} instead of Connection.Tune")));
        }
        // The broker's bounds as they are, and no heartbeat.
        let mut bounds = tune.take(6)?.to_vec();
        bounds.extend_from_slice(&[0, 0]);
        channel.send(0, CONNECTION_TUNE_OK, &bounds)?;
        let mut open = Vec::new();
        put_short(&mut open, "/");
        open.extend_from_slice(&[0, 0]);
        channel.call(0, CONNECTION_OPEN, &open, CONNECTION_OPEN_OK)?;
        channel.call(CHANNEL, CHANNEL_OPEN, &[0], CHANNEL_OPEN_OK)?;
        Ok(channel)
    }

    fn send(&mut self, channel: u16, method: Method, arguments: &[u8]) -> Result<(), WireError> {
        let mut out = Vec::new();
        put_method(&mut out, channel, method, arguments);
        self.connection.send(&out)
    }

    fn wait(&mut self) -> Result<BytesMut, WireError> {
        loop {
            let frame = self.connection.wait_frame(split)?;
            if frame[0] != FRAME_HEARTBEAT {
                return Ok(frame);
            }
        }
    }

    fn expect(&mut self, expect: Method) -> Result<(), WireError> {
        let frame = self.wait()?;
        match open_method(&frame)? {
            (method, _) if method == expect => Ok(()),
            (method, _) => Err(unexpected(format!("method {method:?} instead of {expect:?}"))),
        }
    }

    fn call(
        &mut self,
        channel: u16,
        method: Method,
        arguments: &[u8],
        answer: Method,
    ) -> Result<(), WireError> {
        self.send(channel, method, arguments)?;
        self.expect(answer)
    }
}

pub struct AmqpWriter {
    channel: Channel,
    prefix: String,
    /// Delivery tags given out; the broker counts alike.
    published: u64,
    confirmed: u64,
}

impl AmqpWriter {
    pub fn open(address: SocketAddr, prefix: &str) -> Result<Self, WireError> {
        let mut channel = Channel::open(address)?;
        channel.call(CHANNEL, CONFIRM_SELECT, &[0], CONFIRM_SELECT_OK)?;
        Ok(AmqpWriter { channel, prefix: prefix.to_owned(), published: 0, confirmed: 0 })
    }
}

impl Writer for AmqpWriter {
    fn write(&mut self, records: &[Outgoing<'_>]) -> Result<(), WireError> {
        let mut out = Vec::new();
        for record in records {
            let mut publish = vec![0, 0];
            put_short(&mut publish, TOPIC_EXCHANGE);
            put_short(&mut publish, &record.flight.subject(&self.prefix, '.'));
            publish.push(0);
            put_method(&mut out, CHANNEL, BASIC_PUBLISH, &publish);
            let mut header = vec![0, 60, 0, 0];
            header.extend_from_slice(&(record.body.len() as u64).to_be_bytes());
            // Flags: content type and delivery mode (2: persistent).
            header.extend_from_slice(&[0x90, 0x00]);
            put_short(&mut header, "application/json");
            header.push(2);
            put_frame(&mut out, FRAME_HEADER, CHANNEL, &[&header]);
            put_frame(&mut out, FRAME_BODY, CHANNEL, &[record.body.as_bytes()]);
        }
        self.published += records.len() as u64;
        self.channel.connection.send(&out)?;
        while self.confirmed < self.published {
            let frame = self.channel.wait()?;
            match open_method(&frame)? {
                (BASIC_ACK, mut fields) => {
                    let tag = fields.u64()?;
                    let multiple = fields.u8()? & 1 == 1;
                    // Tags may be confirmed one by one and out of order; only their count matters
                    // because everything is awaited.
                    self.confirmed =
                        if multiple { self.confirmed.max(tag) } else { self.confirmed + 1 };
                }
                (method, _) => {
                    return Err(unexpected(format!("a publish was answered with {method:?}")))
                }
            }
        }
        Ok(())
    }
}

/// Declares a queue, binds it to the topic exchange with `binding` and consumes it until told to stop.
pub fn read(address: SocketAddr, queue: &str, binding: &str, feed: &Feed) -> Result<(), WireError> {
    let mut channel = Channel::open(address)?;
    subscribe(&mut channel, queue, binding)?;
    feed.subscribed(0);
    let (mut tag, mut unacked) = (0, 0);
    let (mut expected, mut body) = (None, Vec::new());
    while !feed.is_stopped() {
        let frame = channel.connection.poll_frame(split)?;
        // Nothing more for now: settle what is left before waiting on.
        if unacked >= ACK_EVERY || (frame.is_none() && unacked > 0) {
            let mut ack = u64::to_be_bytes(tag).to_vec();
            ack.push(1);
            channel.send(CHANNEL, BASIC_ACK, &ack)?;
            unacked = 0;
        }
        let Some(frame) = frame else { continue };
        let mut payload = Fields(&frame[7..frame.len() - 1]);
        match frame[0] {
            FRAME_HEADER => {
                payload.take(4)?;
                expected = Some(payload.u64()? as usize);
            }
            FRAME_BODY => body.extend_from_slice(payload.0),
            FRAME_HEARTBEAT => continue,
            _ => match open_method(&frame)? {
                (BASIC_DELIVER, mut fields) => {
                    let length = fields.u8()?;
                    fields.take(usize::from(length))?;
                    tag = fields.u64()?;
                }
                (method, _) => return Err(unexpected(format!("method {method:?} to a consumer"))),
            },
        }
        if expected.is_some_and(|size| body.len() >= size) {
            feed.received(&body);
            body.clear();
            expected = None;
            unacked += 1;
        }
    }
    Ok(())
}

fn subscribe(channel: &mut Channel, queue: &str, binding: &str) -> Result<(), WireError> {
    let mut declare = vec![0, 0];
    put_short(&mut declare, queue);
    // Durable, and an empty argument table.
    declare.extend_from_slice(&[0x02, 0, 0, 0, 0]);
    channel.call(CHANNEL, QUEUE_DECLARE, &declare, QUEUE_DECLARE_OK)?;
    let mut bind = vec![0, 0];
    put_short(&mut bind, queue);
    put_short(&mut bind, TOPIC_EXCHANGE);
    put_short(&mut bind, binding);
    bind.extend_from_slice(&[0, 0, 0, 0, 0]);
    channel.call(CHANNEL, QUEUE_BIND, &bind, QUEUE_BIND_OK)?;
    let mut qos = vec![0; 4];
    qos.extend_from_slice(&PREFETCH.to_be_bytes());
    qos.push(0);
    channel.call(CHANNEL, BASIC_QOS, &qos, BASIC_QOS_OK)?;
    let mut consume = vec![0, 0];
    put_short(&mut consume, queue);
    put_short(&mut consume, "demo");
    consume.extend_from_slice(&[0, 0, 0, 0, 0]);
    channel.call(CHANNEL, BASIC_CONSUME, &consume, BASIC_CONSUME_OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_and_the_brokers_words() {
        let mut out = Vec::new();
        put_method(&mut out, CHANNEL, BASIC_ACK, &[0, 0, 0, 0, 0, 0, 0, 9, 1]);
        assert_eq!(split(&out).unwrap(), Some(out.len()));
        assert_eq!(split(&out[..6]).unwrap(), None);
        let frame = BytesMut::from(&out[..]);
        let (method, mut fields) = open_method(&frame).unwrap();
        assert_eq!((method, fields.u64().unwrap()), (BASIC_ACK, 9));
        let mut close = vec![0x01, 0x94];
        put_short(&mut close, "NOT_FOUND");
        out.clear();
        put_method(&mut out, 0, CHANNEL_CLOSE, &close);
        let frame = BytesMut::from(&out[..]);
        let words = open_method(&frame).err().map(|error| error.to_string());
        assert_eq!(words.as_deref(), Some("the broker closed with 404 NOT_FOUND"));
    }
}
