//! What the demo's three clients share: a blocking connection, big-endian fields, and how a client
//! reports. These are real clients: they reach the broker through its sockets only.

use bytes::{Buf, BytesMut};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::flights::Flight;
use crate::metrics::Protocol;

/// How often a waiting reader looks whether it should stop.
const POLL: Duration = Duration::from_millis(100);
/// No answer of a broker takes this long unless something is wrong.
const ANSWER_WAIT: Duration = Duration::from_secs(30);
/// Largest frame that the demo's traffic can cause.
const FRAME_BYTES_MAX: usize = 64 << 20;

#[derive(Debug)]
pub enum WireError {
    Io(io::Error),
    /// The broker said something that does not belong here; what it was.
    Unexpected(String),
}

impl From<io::Error> for WireError {
    fn from(error: io::Error) -> Self {
        WireError::Io(error)
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WireError::Io(error) => error.fmt(f),
            WireError::Unexpected(what) => f.write_str(what),
        }
    }
}

pub fn unexpected(what: impl Into<String>) -> WireError {
    WireError::Unexpected(what.into())
}

/// One record on its way out.
pub struct Outgoing<'a> {
    pub flight: &'a Flight,
    pub body: String,
}

/// Writes records and comes back when the broker has confirmed every one of them.
pub trait Writer {
    fn write(&mut self, records: &[Outgoing<'_>]) -> Result<(), WireError>;
}

/// Microseconds since the demo began, the same for all its threads.
#[derive(Clone, Copy)]
pub struct Clock(pub Instant);

impl Clock {
    pub fn now_us(self) -> u64 {
        self.0.elapsed().as_micros() as u64
    }
}

/// What the threads of the demo tell its account.
pub enum Event {
    /// A subscriber is in place; for a member of the Kafka group, with how many partitions.
    Subscribed {
        reader: Protocol,
        member: usize,
        partitions: usize,
    },
    Received {
        reader: Protocol,
        body: Vec<u8>,
        at_us: u64,
    },
    Wrote {
        writer: Protocol,
        count: u64,
    },
    /// A writer is through; a reader ended because it was told to.
    Finished,
    Failed {
        who: String,
        error: WireError,
    },
}

/// A reader's way to the account.
#[derive(Clone)]
pub struct Feed {
    pub reader: Protocol,
    pub member: usize,
    pub events: SyncSender<Event>,
    pub stop: Arc<AtomicBool>,
    pub clock: Clock,
}

impl Feed {
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub fn subscribed(&self, partitions: usize) {
        let _ = self.events.send(Event::Subscribed {
            reader: self.reader,
            member: self.member,
            partitions,
        });
    }

    pub fn received(&self, body: &[u8]) {
        let at_us = self.clock.now_us();
        let _ =
            self.events.send(Event::Received { reader: self.reader, body: body.to_vec(), at_us });
    }
}

pub struct Connection {
    socket: TcpStream,
    buffer: BytesMut,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Result<Self, WireError> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(POLL))?;
        socket.set_write_timeout(Some(ANSWER_WAIT))?;
        Ok(Connection { socket, buffer: BytesMut::new() })
    }

    pub fn send(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        Ok(self.socket.write_all(bytes)?)
    }

    /// Takes the next frame that `split` finds at the head of what was read; `None` if none came
    /// within [`POLL`].
    pub fn poll_frame(
        &mut self,
        split: fn(&[u8]) -> Result<Option<usize>, WireError>,
    ) -> Result<Option<BytesMut>, WireError> {
        loop {
            match split(&self.buffer)? {
                Some(length) if length > FRAME_BYTES_MAX => {
                    return Err(unexpected(format!("a frame of {length} bytes")));
                }
                Some(length) if length <= self.buffer.len() => {
                    return Ok(Some(self.buffer.split_to(length)));
                }
                _ => {}
            }
            let mut chunk = [0; 64 << 10];
            match self.socket.read(&mut chunk) {
                Ok(0) => return Err(unexpected("the broker closed the connection")),
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
                Err(error) if is_timeout(&error) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Like [`Self::poll_frame`], but no frame is an error.
    pub fn wait_frame(
        &mut self,
        split: fn(&[u8]) -> Result<Option<usize>, WireError>,
    ) -> Result<BytesMut, WireError> {
        let asked = Instant::now();
        while asked.elapsed() < ANSWER_WAIT {
            if let Some(frame) = self.poll_frame(split)? {
                return Ok(frame);
            }
        }
        Err(unexpected("no answer within 30 s"))
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

/// Reads big-endian fields; running out of bytes is one error, whatever the field.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        if count > self.0.len() {
            return Err(unexpected("an answer that ends too early"));
        }
        let (head, rest) = self.0.split_at(count);
        self.0 = rest;
        Ok(head)
    }

    pub fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.take(1)?[0])
    }

    pub fn i16(&mut self) -> Result<i16, WireError> {
        Ok(self.take(2)?.get_i16())
    }

    pub fn u16(&mut self) -> Result<u16, WireError> {
        Ok(self.take(2)?.get_u16())
    }

    pub fn i32(&mut self) -> Result<i32, WireError> {
        Ok(self.take(4)?.get_i32())
    }

    pub fn i64(&mut self) -> Result<i64, WireError> {
        Ok(self.take(8)?.get_i64())
    }

    pub fn u64(&mut self) -> Result<u64, WireError> {
        Ok(self.take(8)?.get_u64())
    }
}
