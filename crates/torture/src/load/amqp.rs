//! AMQP's side of the load: a publisher with confirms, whose unanswered messages stay undecided, and a consumer that
//! acknowledges by hand. Promises checked: what was confirmed is delivered, and only a delivery that is flagged may be
//! a repetition.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::connection::{broken, Connection, Fields};
use super::ledger::Protocol;
use super::{Load, PACE, PAUSE};

pub const QUEUE: &str = "torture-queue";
/// Unconfirmed messages at once.
const WINDOW: usize = 40;
const ANSWER_LIMIT: Duration = Duration::from_secs(120);
/// Seconds, as told in tune-ok; heartbeats are sent four times as often.
pub const HEARTBEAT_SECONDS: u16 = 4;
const HEARTBEAT_EVERY: Duration = Duration::from_secs(1);
const PREFETCH: u16 = 100;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
const FRAME_END: u8 = 0xCE;
const BODY_BYTES_MAX: usize = 100_000;

fn measure(bytes: &[u8]) -> Option<usize> {
    let length = u32::from_be_bytes(bytes.get(3..7)?.try_into().ok()?);
    Some(8 + length as usize)
}

fn short_text(out: &mut Vec<u8>, text: &str) {
    out.push(text.len() as u8);
    out.extend(text.as_bytes());
}

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend(channel.to_be_bytes());
    out.extend((payload.len() as u32).to_be_bytes());
    out.extend(payload);
    out.push(FRAME_END);
    out
}

fn method(channel: u16, id: (u16, u16), arguments: &[u8]) -> Vec<u8> {
    let mut payload = id.0.to_be_bytes().to_vec();
    payload.extend(id.1.to_be_bytes());
    payload.extend(arguments);
    frame(METHOD, channel, &payload)
}

/// Client properties that ask to be told when publishing is blocked.
fn client_properties() -> Vec<u8> {
    let mut capabilities = Vec::new();
    short_text(&mut capabilities, "connection.blocked");
    capabilities.extend(*b"t\x01");
    let mut table = Vec::new();
    short_text(&mut table, "capabilities");
    table.push(b'F');
    table.extend((capabilities.len() as u32).to_be_bytes());
    table.extend(capabilities);
    let mut out = (table.len() as u32).to_be_bytes().to_vec();
    out.extend(table);
    out
}

pub fn publish(out: &mut Vec<u8>, queue: &str, body: &[u8]) {
    let mut arguments = vec![0, 0, 0];
    short_text(&mut arguments, queue);
    arguments.push(0);
    out.extend(method(1, (60, 40), &arguments));
    let mut header = vec![0, 60, 0, 0];
    header.extend((body.len() as u64).to_be_bytes());
    header.extend([0x10, 0, 2]); // persistent
    out.extend(frame(HEADER, 1, &header));
    for piece in body.chunks(BODY_BYTES_MAX) {
        out.extend(frame(BODY, 1, piece));
    }
}

/// A frame's parts.
struct Frame<'a> {
    kind: u8,
    /// Class and method, if it is one.
    id: (u16, u16),
    arguments: Fields<'a>,
}

fn parse(bytes: &[u8]) -> io::Result<Frame<'_>> {
    let (kind, payload) = (bytes[0], &bytes[7..bytes.len() - 1]);
    if bytes[bytes.len() - 1] != FRAME_END {
        return Err(broken("a frame without its end"));
    }
    let mut arguments = Fields(payload);
    let id = match kind {
        METHOD => (arguments.u16()?, arguments.u16()?),
        _ => (0, 0),
    };
    Ok(Frame { kind, id, arguments })
}

/// A connection with one open channel.
pub struct Channel {
    connection: Connection,
    beat: Instant,
    /// The delivery whose body is still coming.
    open: Option<Delivery>,
}

impl Channel {
    pub fn open(address: &str) -> io::Result<Channel> {
        let connection = Connection::open(address, measure)?;
        let mut this = Channel { connection, beat: Instant::now(), open: None };
        this.connection.send(b"AMQP\0\0\x09\x01")?;
        this.expect((10, 10))?;
        let mut start = client_properties();
        short_text(&mut start, "PLAIN");
        start.extend(12u32.to_be_bytes());
        start.extend(b"\0guest\0guest");
        short_text(&mut start, "en_US");
        this.connection.send(&method(0, (10, 11), &start))?;
        this.expect((10, 30))?;
        let mut tune = 16u16.to_be_bytes().to_vec();
        tune.extend(131_072u32.to_be_bytes());
        tune.extend(HEARTBEAT_SECONDS.to_be_bytes());
        this.connection.send(&method(0, (10, 31), &tune))?;
        this.connection.send(&method(0, (10, 40), b"\x01/\0\0"))?;
        this.expect((10, 41))?;
        this.connection.send(&method(1, (20, 10), &[0]))?;
        this.expect((20, 11))?;
        Ok(this)
    }

    /// The arguments of the next method, which has to be this one.
    fn expect(&mut self, id: (u16, u16)) -> io::Result<Vec<u8>> {
        loop {
            let bytes = self.connection.answer()?;
            let frame = parse(&bytes)?;
            match frame.kind {
                METHOD if frame.id == id => return Ok(frame.arguments.0.to_vec()),
                METHOD if frame.id.0 == 10 && frame.id.1 >= 60 => {} // blocked, unblocked
                METHOD => return Err(refusal(&frame)),
                _ => {}
            }
        }
    }

    fn beat(&mut self) -> io::Result<()> {
        if self.beat.elapsed() < HEARTBEAT_EVERY {
            return Ok(());
        }
        self.beat = Instant::now();
        self.connection.send(&frame(HEARTBEAT, 0, &[]))
    }

    /// Makes the durable queue; how many messages it holds ready.
    pub fn declare(&mut self, queue: &str) -> io::Result<u32> {
        let mut arguments = vec![0, 0];
        short_text(&mut arguments, queue);
        arguments.push(0b10);
        arguments.extend([0; 4]);
        self.connection.send(&method(1, (50, 10), &arguments))?;
        let answer = self.expect((50, 11))?;
        let mut at = Fields(&answer);
        at.short_text()?;
        at.u32()
    }

    pub fn select_confirms(&mut self) -> io::Result<()> {
        self.connection.send(&method(1, (85, 10), &[0]))?;
        self.expect((85, 11)).map(drop)
    }

    pub fn consume(&mut self, queue: &str, prefetch: u16) -> io::Result<()> {
        let mut qos = vec![0; 4];
        qos.extend(prefetch.to_be_bytes());
        qos.push(0);
        self.connection.send(&method(1, (60, 10), &qos))?;
        self.expect((60, 11))?;
        let mut arguments = vec![0, 0];
        short_text(&mut arguments, queue);
        short_text(&mut arguments, "reader");
        arguments.push(0);
        arguments.extend([0; 4]);
        self.connection.send(&method(1, (60, 20), &arguments))?;
        self.expect((60, 21)).map(drop)
    }
}

/// For who has nothing but deliveries or confirms to wait for.
impl Channel {
    pub fn into_stream(self) -> TcpStream {
        self.connection.into_stream()
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.connection.send(bytes)
    }

    /// The highest tag that a confirm covers, if one is there. Confirms come in order.
    pub fn confirmed(&mut self) -> io::Result<Option<u64>> {
        self.beat()?;
        let mut found = None;
        let mut next = self.connection.next()?;
        while let Some(bytes) = next {
            let mut frame = parse(&bytes)?;
            match (frame.kind, frame.id) {
                (METHOD, (60, 80)) => found = Some(frame.arguments.u64()?),
                (METHOD, (60, 120) | (10, 50) | (20, 40)) => return Err(refusal(&frame)),
                _ => {}
            }
            next = self.connection.buffered()?;
        }
        Ok(found)
    }

    /// The next whole delivery, if one is there.
    pub fn delivery(&mut self) -> io::Result<Option<Delivery>> {
        self.beat()?;
        while let Some(bytes) = self.connection.next()? {
            let frame = parse(&bytes)?;
            if let Some(delivery) = self.take(&frame)? {
                return Ok(Some(delivery));
            }
        }
        Ok(None)
    }

    /// Acknowledges everything up to this tag.
    pub fn acknowledge(&mut self, tag: u64) -> io::Result<()> {
        let mut arguments = tag.to_be_bytes().to_vec();
        arguments.push(1);
        self.connection.send(&method(1, (60, 80), &arguments))
    }

    /// Takes one frame in; the delivery, if it is whole now.
    fn take(&mut self, frame: &Frame) -> io::Result<Option<Delivery>> {
        match (frame.kind, frame.id) {
            (METHOD, (60, 60)) => self.open = Some(Delivery::read(frame.arguments)?),
            (METHOD, (10, 50) | (20, 40)) => return Err(refusal(frame)),
            (HEADER | BODY, _) => {
                let Some(open) = &mut self.open else { return Err(broken("a stray body")) };
                open.take(frame)?;
                if open.body.len() as u64 == open.size {
                    return Ok(self.open.take());
                }
            }
            _ => {}
        }
        Ok(None)
    }
}

/// What the broker said instead, as an error.
fn refusal(frame: &Frame) -> io::Error {
    let mut at = frame.arguments;
    let code = at.u16().unwrap_or(0);
    let text = String::from_utf8_lossy(at.short_text().unwrap_or_default()).into_owned();
    broken(format!("method {}.{}: {code} {text}", frame.id.0, frame.id.1))
}

/// Takes note of what is said outside the order of requests: blocked, unblocked, closed.
fn aside(load: &Load, frame: &Frame) -> io::Result<()> {
    match (frame.kind, frame.id) {
        (METHOD, (10, 60)) => load.ledger.signal("amqp connection.blocked".to_owned()),
        (METHOD, (10, 61)) => load.ledger.signal("amqp connection.unblocked".to_owned()),
        (METHOD, (10, 50) | (20, 40)) => {
            let refusal = refusal(frame);
            load.ledger.signal(format!("amqp {refusal}"));
            return Err(refusal);
        }
        _ => {}
    }
    Ok(())
}

/// Publishes with confirms. A message without an answer when the connection ends is not sent again: whether it is
/// there is open, as the protocol says.
pub struct Publisher {
    writer: u16,
}

impl Publisher {
    pub fn new(writer: u16) -> Publisher {
        Publisher { writer }
    }

    pub fn live(&mut self, load: &Load, address: &str, life: u64) -> io::Result<()> {
        let mut channel = Channel::open(address)?;
        channel.declare(QUEUE)?;
        channel.select_confirms()?;
        let mut open = BTreeMap::new();
        let outcome = self.run(load, life, &mut channel, &mut open);
        load.site.closed(open.len());
        outcome
    }

    fn run(
        &mut self,
        load: &Load,
        life: u64,
        channel: &mut Channel,
        open: &mut BTreeMap<u64, u64>,
    ) -> io::Result<()> {
        let (mut tag, mut answered) = (0, Instant::now());
        while !load.site.is_over() {
            channel.beat()?;
            if load.site.is_writing() && open.len() <= WINDOW / 2 {
                let mut out = Vec::new();
                while open.len() < WINDOW {
                    let (message, body) = load.ledger.attempt(self.writer);
                    tag += 1;
                    open.insert(tag, message);
                    publish(&mut out, QUEUE, &body);
                    load.site.opened(1);
                }
                channel.connection.send(&out)?;
                std::thread::sleep(PACE);
            }
            if open.is_empty() {
                (answered, _) = (Instant::now(), std::thread::sleep(PAUSE));
            }
            while let Some(bytes) = channel.connection.next()? {
                let frame = parse(&bytes)?;
                aside(load, &frame)?;
                if self.settled(load, life, &frame, open)? {
                    answered = Instant::now();
                }
                if open.len() <= WINDOW / 2 {
                    break;
                }
            }
            if answered.elapsed() > ANSWER_LIMIT {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }

    /// basic.ack and basic.nack; false for all else.
    fn settled(
        &mut self,
        load: &Load,
        life: u64,
        frame: &Frame,
        open: &mut BTreeMap<u64, u64>,
    ) -> io::Result<bool> {
        let is_ack = frame.id == (60, 80);
        if frame.kind != METHOD || !(is_ack || frame.id == (60, 120)) {
            return Ok(false);
        }
        let mut at = frame.arguments;
        let (tag, multiple) = (at.u64()?, at.u8()? & 1 == 1);
        let from = if multiple { 0 } else { tag };
        let tags: Vec<u64> = open.range(from..=tag).map(|(tag, _)| *tag).collect();
        for message in tags.iter().filter_map(|tag| open.remove(tag)) {
            match is_ack {
                true => load.ledger.acknowledged(self.writer, message, None),
                false => load.ledger.refused(self.writer, message),
            }
        }
        load.site.closed(tags.len());
        match is_ack {
            true => load.site.acknowledged(Protocol::Amqp, life),
            false => {
                load.ledger.signal("amqp basic.nack".to_owned());
                std::thread::sleep(PAUSE);
            }
        }
        Ok(true)
    }
}

/// Takes deliveries and acknowledges them by hand, some later than others.
#[derive(Default)]
pub struct Consumer;

impl Consumer {
    pub fn live(&mut self, load: &Load, address: &str) -> io::Result<()> {
        let mut channel = Channel::open(address)?;
        channel.declare(QUEUE)?;
        while !load.site.is_reading() {
            if load.site.is_over() {
                return Ok(());
            }
            channel.beat()?;
            std::thread::sleep(PAUSE);
        }
        channel.consume(QUEUE, PREFETCH)?;
        let mut unsettled = None;
        while !load.site.is_over() {
            channel.beat()?;
            // To stop reading, the consumer goes; what it holds is delivered again.
            if !load.site.is_reading() {
                return Ok(());
            }
            let Some(bytes) = channel.connection.next()? else {
                settle(&mut channel, &mut unsettled)?;
                continue;
            };
            let frame = parse(&bytes)?;
            aside(load, &frame)?;
            if let Some(delivery) = channel.take(&frame)? {
                load.ledger.read(&delivery.body, delivery.redelivered, None);
                unsettled = Some(delivery.tag);
                if delivery.tag % 20 == 0 {
                    settle(&mut channel, &mut unsettled)?;
                }
            }
        }
        settle(&mut channel, &mut unsettled)
    }
}

fn settle(channel: &mut Channel, unsettled: &mut Option<u64>) -> io::Result<()> {
    unsettled.take().map_or(Ok(()), |tag| channel.acknowledge(tag))
}

pub struct Delivery {
    pub tag: u64,
    redelivered: bool,
    size: u64,
    pub body: Vec<u8>,
}

impl Delivery {
    fn read(mut at: Fields) -> io::Result<Delivery> {
        at.short_text()?;
        let (tag, redelivered) = (at.u64()?, at.u8()? != 0);
        Ok(Delivery { tag, redelivered, size: u64::MAX, body: Vec::new() })
    }

    fn take(&mut self, frame: &Frame) -> io::Result<()> {
        let mut at = frame.arguments;
        if frame.kind == HEADER {
            at.take(4)?;
            self.size = at.u64()?;
        } else {
            self.body.extend(at.0);
        }
        Ok(())
    }
}
