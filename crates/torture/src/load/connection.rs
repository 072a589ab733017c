//! One blocking socket with whole frames read from it. Waits are short, so that whoever uses it can look whether the
//! load is over. Never allocates for a frame before its bytes have come.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// How long one look for input lasts.
const LOOK: Duration = Duration::from_millis(20);
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// A broker that takes no bytes for so long is left for a new connection.
const WRITE_LIMIT: Duration = Duration::from_secs(120);
/// How long an answer of a handshake may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);
const READ_BYTES: usize = 64 << 10;
/// Largest frame that a broker may send.
const FRAME_BYTES_MAX: usize = 256 << 20;

/// Says how long the frame is that these bytes begin with, as soon as that can be said.
pub type Measure = fn(&[u8]) -> Option<usize>;

pub fn broken(why: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why.into())
}

pub struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    /// Bytes of `input` that were handed out.
    used: usize,
    measure: Measure,
}

impl Connection {
    pub fn open(address: &str, measure: Measure) -> io::Result<Connection> {
        let address = address.to_socket_addrs()?.next().ok_or_else(|| broken("no address"))?;
        let stream = TcpStream::connect_timeout(&address, CONNECT_LIMIT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LOOK))?;
        stream.set_write_timeout(Some(WRITE_LIMIT))?;
        Ok(Connection { stream, input: Vec::new(), used: 0, measure })
    }

    /// For who does not want to hear any more.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next frame that has already arrived.
    pub fn buffered(&mut self) -> io::Result<Option<Vec<u8>>> {
        let rest = &self.input[self.used..];
        match (self.measure)(rest) {
            Some(length) if length > FRAME_BYTES_MAX => Err(broken("a frame is too long")),
            Some(length) if length <= rest.len() => {
                let frame = rest[..length].to_vec();
                self.used += length;
                Ok(Some(frame))
            }
            _ => {
                self.input.drain(..self.used);
                self.used = 0;
                Ok(None)
            }
        }
    }

    /// The next frame; `None` if it is not there after a short wait.
    pub fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        if let Some(frame) = self.buffered()? {
            return Ok(Some(frame));
        }
        let before = self.input.len();
        self.input.resize(before + READ_BYTES, 0);
        let read = self.stream.read(&mut self.input[before..]);
        self.input.truncate(before + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => self.buffered(),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// The next frame, which a handshake waits for.
    pub fn answer(&mut self) -> io::Result<Vec<u8>> {
        let start = Instant::now();
        loop {
            match self.next()? {
                Some(frame) => return Ok(frame),
                None if start.elapsed() > ANSWER_LIMIT => return Err(ErrorKind::TimedOut.into()),
                None => {}
            }
        }
    }
}

/// Reads big-endian fields, each checked.
#[derive(Clone, Copy)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub fn take(&mut self, count: usize) -> io::Result<&'a [u8]> {
        let split = self.0.split_at_checked(count);
        let (head, rest) = split.ok_or_else(|| broken("a frame ends early"))?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    pub fn u8(&mut self) -> io::Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u16(&mut self) -> io::Result<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub fn i16(&mut self) -> io::Result<i16> {
        self.array().map(i16::from_be_bytes)
    }

    pub fn u32(&mut self) -> io::Result<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub fn i32(&mut self) -> io::Result<i32> {
        self.array().map(i32::from_be_bytes)
    }

    pub fn u64(&mut self) -> io::Result<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub fn i64(&mut self) -> io::Result<i64> {
        self.array().map(i64::from_be_bytes)
    }

    /// Text behind a 16-bit length; -1 is none.
    pub fn text(&mut self) -> io::Result<&'a [u8]> {
        let length = self.i16()?;
        self.take(usize::try_from(length).unwrap_or(0))
    }

    /// Text behind an 8-bit length.
    pub fn short_text(&mut self) -> io::Result<&'a [u8]> {
        let length = self.u8()?;
        self.take(usize::from(length))
    }
}
