//! The smallest clients that can write and read one message: they need nothing installed, and their bytes are what
//! the hostile tests cut and bend. The layouts are stated here, not taken from the broker's own codecs.

pub mod amqp;
pub mod kafka;
pub mod mqtt;

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::tls::client::Tls;

/// How long a well-behaved client waits for an answer.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// The largest answer a test expects; more is a broken length.
const ANSWER_BYTES_MAX: usize = 64 << 20;

pub fn open(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.set_write_timeout(Some(ANSWER_LIMIT))?;
    Ok(stream)
}

/// What a client speaks through.
#[derive(Debug)]
pub enum Stream {
    Plain(TcpStream),
    Tls(Box<Tls>),
}

impl Stream {
    pub fn socket(&self) -> &TcpStream {
        match self {
            Stream::Plain(socket) => socket,
            Stream::Tls(tls) => &tls.sock,
        }
    }
}

impl From<TcpStream> for Stream {
    fn from(socket: TcpStream) -> Stream {
        Stream::Plain(socket)
    }
}

impl From<Tls> for Stream {
    fn from(tls: Tls) -> Stream {
        Stream::Tls(Box::new(tls))
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.read(into),
            Stream::Tls(tls) => tls.read(into),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.write(bytes),
            Stream::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(socket) => socket.flush(),
            Stream::Tls(tls) => tls.flush(),
        }
    }
}

pub fn broken(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// A zeroed buffer for an announced length, if that is believable.
fn buffer(length: usize) -> io::Result<Vec<u8>> {
    if length > ANSWER_BYTES_MAX {
        return Err(broken(format!("an answer of {length} bytes")));
    }
    Ok(vec![0; length])
}
