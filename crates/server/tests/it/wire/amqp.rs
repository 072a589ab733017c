//! AMQP 0-9-1: log in, one channel with confirms, declare, publish, get and acknowledge.

use std::io::{self, Read, Write};
use std::time::Duration;

use super::{broken, buffer, open, Stream};

/// Fits into the frame size that is negotiated.
const BODY_FRAME_BYTES: usize = 64 << 10;

pub const PROTOCOL_HEADER: &[u8] = b"AMQP\0\0\x09\x01";

#[derive(Debug)]
pub struct Client {
    stream: Stream,
}

struct Frame {
    kind: u8,
    channel: u16,
    payload: Vec<u8>,
}

fn short_text(out: &mut Vec<u8>, text: &str) {
    out.push(text.len() as u8);
    out.extend(text.as_bytes());
}

/// A frame: type, channel, size, payload, 0xCE.
pub fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend(channel.to_be_bytes());
    out.extend((payload.len() as u32).to_be_bytes());
    out.extend(payload);
    out.push(0xCE);
    out
}

/// A method frame: class, method, arguments.
pub fn method(channel: u16, class: u16, method: u16, arguments: &[u8]) -> Vec<u8> {
    let mut payload = class.to_be_bytes().to_vec();
    payload.extend(method.to_be_bytes());
    payload.extend(arguments);
    frame(1, channel, &payload)
}

pub fn start_ok() -> Vec<u8> {
    start_ok_as("guest", "guest")
}

/// A login by PLAIN of a client that wants to be told when it fails.
pub fn start_ok_as(user: &str, password: &str) -> Vec<u8> {
    // Client properties: a table with the table of capabilities in it.
    let mut capabilities = Vec::new();
    short_text(&mut capabilities, "connection.blocked");
    capabilities.extend([b't', 1]);
    short_text(&mut capabilities, "authentication_failure_close");
    capabilities.extend([b't', 1]);
    let mut properties = Vec::new();
    short_text(&mut properties, "capabilities");
    properties.push(b'F');
    properties.extend((capabilities.len() as u32).to_be_bytes());
    properties.extend(capabilities);
    let mut arguments = (properties.len() as u32).to_be_bytes().to_vec();
    arguments.extend(properties);
    short_text(&mut arguments, "PLAIN");
    let response = format!("\0{user}\0{password}").into_bytes();
    arguments.extend((response.len() as u32).to_be_bytes());
    arguments.extend(response);
    short_text(&mut arguments, "en_US");
    method(0, 10, 11, &arguments)
}

pub fn tune_ok() -> Vec<u8> {
    let mut arguments = 16u16.to_be_bytes().to_vec(); // channels
    arguments.extend(131_072u32.to_be_bytes()); // frame size
    arguments.extend(0u16.to_be_bytes()); // no heartbeat
    method(0, 10, 31, &arguments)
}

pub fn connection_open() -> Vec<u8> {
    let mut arguments = Vec::new();
    short_text(&mut arguments, "/");
    arguments.extend([0, 0]);
    method(0, 10, 40, &arguments)
}

pub fn channel_open() -> Vec<u8> {
    method(1, 20, 10, &[0])
}

pub fn queue_declare(name: &str) -> Vec<u8> {
    let mut arguments = vec![0, 0];
    short_text(&mut arguments, name);
    arguments.push(0b10); // durable
    arguments.extend(0u32.to_be_bytes());
    method(1, 50, 10, &arguments)
}

/// basic.publish to the default exchange, its content header and its body.
pub fn basic_publish(queue: &str, body: &[u8]) -> Vec<u8> {
    let mut arguments = vec![0, 0, 0];
    short_text(&mut arguments, queue);
    arguments.push(0);
    let mut out = method(1, 60, 40, &arguments);
    let mut header = 60u16.to_be_bytes().to_vec();
    header.extend(0u16.to_be_bytes());
    header.extend((body.len() as u64).to_be_bytes());
    header.extend(0x1000u16.to_be_bytes()); // delivery mode only
    header.push(2);
    out.extend(frame(2, 1, &header));
    for piece in body.chunks(BODY_FRAME_BYTES) {
        out.extend(frame(3, 1, piece));
    }
    out
}

impl Client {
    pub fn connect(address: &str) -> io::Result<Client> {
        Client::over(open(address)?)
    }

    /// A connection on which nothing has been sent.
    pub fn raw(address: &str) -> io::Result<Client> {
        Ok(Client { stream: open(address)?.into() })
    }

    /// The next method of the first channel or of the connection: class, method, arguments. Deliveries
    /// and contents are passed over.
    pub fn answer(&mut self) -> io::Result<(u16, u16, Vec<u8>)> {
        loop {
            let Frame { kind, channel, payload } = self.read()?;
            if kind != 1 || channel > 1 || payload.starts_with(&[0, 60, 0, 60]) {
                continue;
            }
            let [a, b, c, d, ..] = payload[..] else { return Err(broken("a short method")) };
            let (class, method) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            return Ok((class, method, payload[4..].to_vec()));
        }
    }

    pub fn over(stream: impl Into<Stream>) -> io::Result<Client> {
        Client::over_as(stream, "guest", "guest")
    }

    pub fn login(address: &str, user: &str, password: &str) -> io::Result<Client> {
        Client::over_as(open(address)?, user, password)
    }

    fn over_as(stream: impl Into<Stream>, user: &str, password: &str) -> io::Result<Client> {
        let mut this = Client { stream: stream.into() };
        this.stream.write_all(PROTOCOL_HEADER)?;
        this.expect(10, 10)?;
        this.stream.write_all(&start_ok_as(user, password))?;
        this.expect(10, 30)?;
        this.stream.write_all(&tune_ok())?;
        this.stream.write_all(&connection_open())?;
        this.expect(10, 41)?;
        this.stream.write_all(&channel_open())?;
        this.expect(20, 11)?;
        this.stream.write_all(&method(1, 85, 10, &[0]))?; // confirm.select
        this.expect(85, 11)?;
        Ok(this)
    }

    fn read(&mut self) -> io::Result<Frame> {
        let mut head = [0; 7];
        self.stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
        let mut payload = buffer(length as usize)?;
        self.stream.read_exact(&mut payload)?;
        let mut end = [0];
        self.stream.read_exact(&mut end)?;
        if end[0] != 0xCE {
            return Err(broken("no frame end"));
        }
        match head[0] {
            8 => self.read(),
            kind => Ok(Frame { kind, channel: u16::from_be_bytes([head[1], head[2]]), payload }),
        }
    }

    /// The arguments of the next method, which must be this one.
    pub fn expect(&mut self, class: u16, method: u16) -> io::Result<Vec<u8>> {
        let frame = self.read()?;
        let wanted = [class.to_be_bytes(), method.to_be_bytes()].concat();
        if frame.kind == 1 && frame.payload.starts_with(&wanted) {
            return Ok(frame.payload[4..].to_vec());
        }
        let text = String::from_utf8_lossy(&frame.payload).into_owned();
        Err(broken(format!("want method {class}.{method}, got type {} {text:?}", frame.kind)))
    }

    pub fn declare(&mut self, queue: &str) -> io::Result<()> {
        self.stream.write_all(&queue_declare(queue))?;
        self.expect(50, 11).map(drop)
    }

    /// Binds a queue to `amq.topic`.
    pub fn bind(&mut self, queue: &str, key: &str) -> io::Result<()> {
        let mut arguments = vec![0, 0];
        short_text(&mut arguments, queue);
        short_text(&mut arguments, "amq.topic");
        short_text(&mut arguments, key);
        arguments.push(0);
        arguments.extend(0u32.to_be_bytes());
        self.stream.write_all(&method(1, 50, 20, &arguments))?;
        self.expect(50, 21).map(drop)
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Ends as a process that is killed with something unread: the other side is told at once.
    pub fn reset(self) {
        rustix::net::sockopt::set_socket_linger(self.stream.socket(), Some(Duration::ZERO))
            .unwrap();
    }

    /// Publishes and waits for the confirm.
    pub fn publish(&mut self, queue: &str, body: &[u8]) -> io::Result<()> {
        self.stream.write_all(&basic_publish(queue, body))?;
        self.expect(60, 80).map(drop)
    }

    /// Gets one message and acknowledges it.
    pub fn get(&mut self, queue: &str) -> io::Result<Option<Vec<u8>>> {
        let Some((tag, body)) = self.take(queue)? else { return Ok(None) };
        let mut acknowledged = tag;
        acknowledged.push(0);
        self.stream.write_all(&method(1, 60, 80, &acknowledged))?;
        Ok(Some(body))
    }

    /// Gets one message and keeps it.
    pub fn get_unsettled(&mut self, queue: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.take(queue)?.map(|(_, body)| body))
    }

    /// Delivery tag and body of the next message.
    fn take(&mut self, queue: &str) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
        let mut arguments = vec![0, 0];
        short_text(&mut arguments, queue);
        arguments.push(0);
        self.stream.write_all(&method(1, 60, 70, &arguments))?;
        let answer = self.read()?;
        if answer.payload.starts_with(&[0, 60, 0, 72]) {
            return Ok(None);
        }
        if !answer.payload.starts_with(&[0, 60, 0, 71]) {
            return Err(broken("want get-ok or get-empty"));
        }
        let tag = answer.payload.get(4..12).ok_or_else(|| broken("get-ok is short"))?.to_vec();
        let header = self.read()?;
        let size =
            header.payload.get(4..12).ok_or_else(|| broken("the content header is short"))?;
        let size = size.iter().fold(0usize, |sum, byte| (sum << 8) | usize::from(*byte));
        let mut body = Vec::new();
        while body.len() < size {
            body.extend(self.read()?.payload);
        }
        Ok(Some((tag, body)))
    }
}
