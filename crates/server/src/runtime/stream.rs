//! A client's socket, plain or encrypted. A plain one is read and written as it is; for an encrypted
//! one rustls is driven by hand: bytes from the socket go in, plaintext comes out, and the other way
//! round, without a task, a copy or a buffer that the plain way would have to pay for.
//!
//! Memory of an encrypted one: rustls keeps at most one record that is not complete (18 KiB; 4 KiB when
//! there is none), and at most `tls_output_bytes_max` encrypted bytes wait for the socket. Everything
//! else is shared by the shard.

use bytes::{BufMut, BytesMut};
use rustls::ServerConnection;
use std::io::{self, BufRead, IoSlice, Read, Write};
use tokio::net::TcpStream;

/// Most bytes of one read: bounds how long one connection holds the shard, and what lies in memory of a
/// peer that is not read on.
pub const READ_BYTES: usize = 64 << 10;

pub enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

pub struct TlsStream {
    socket: TcpStream,
    tls: ServerConnection,
    /// There may be plaintext, or word of the peer's end, that no byte on the socket announces.
    has_input: bool,
    /// The peer has been sent an alert: that was the last word.
    is_broken: bool,
}

impl Stream {
    /// The stream of a finished handshake, behind which plaintext may have come already.
    pub fn encrypted(socket: TcpStream, tls: ServerConnection) -> Self {
        Stream::Tls(Box::new(TlsStream { socket, tls, has_input: true, is_broken: false }))
    }

    pub fn socket(&self) -> &TcpStream {
        match self {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => &stream.socket,
        }
    }

    /// Reading gives something now, although the socket may have nothing.
    pub fn has_input(&self) -> bool {
        match self {
            Stream::Plain(_) => false,
            Stream::Tls(stream) => stream.has_input,
        }
    }

    /// Reads once, into the room that `input` has or gets. Nothing read is the peer's end; what cannot
    /// be decrypted is an error. `scratch` holds encrypted bytes during the call only.
    pub fn read(&mut self, input: &mut BytesMut, scratch: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.try_read_buf(&mut input.limit(READ_BYTES)),
            Stream::Tls(stream) => stream.read(input, scratch),
        }
    }

    /// Takes as much of `slices` as there is room for, which may be less than all of it.
    pub fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.try_write_vectored(slices),
            Stream::Tls(stream) => {
                stream.flush()?;
                stream.tls.writer().write_vectored(slices)
            }
        }
    }

    /// Hands to the socket what was taken and waits. `WouldBlock` if something is left.
    pub fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(_) => Ok(()),
            Stream::Tls(stream) => stream.flush(),
        }
    }

    /// Makes the end known within the encryption, so that nobody can have cut the stream short. To be
    /// flushed.
    pub fn close_notify(&mut self) {
        match self {
            Stream::Tls(stream) if !stream.is_broken => stream.tls.send_close_notify(),
            _ => {}
        }
    }
}

impl TlsStream {
    fn read(&mut self, input: &mut BytesMut, scratch: &mut Vec<u8>) -> io::Result<usize> {
        let before = input.len();
        let outcome = self.read_behind(before, input, scratch);
        if outcome.is_err() {
            // The block is shared: what came before the mistake must not become another peer's input.
            input.truncate(before);
        }
        outcome
    }

    fn read_behind(
        &mut self,
        before: usize,
        input: &mut BytesMut,
        scratch: &mut Vec<u8>,
    ) -> io::Result<usize> {
        if self.has_input {
            let is_end = self.take(input)?;
            // The end is announced until it is taken.
            self.has_input = is_end;
            match input.len() - before {
                0 if is_end => return Ok(0),
                0 => {}
                count => return Ok(count),
            }
        }
        scratch.resize(READ_BYTES, 0);
        let count = self.socket.try_read(scratch)?;
        let mut rest = &scratch[..count];
        if rest.is_empty() {
            return Ok(0);
        }
        while !rest.is_empty() {
            // A few KiB each time: as much as it keeps.
            let taken = self.tls.read_tls(&mut rest)?;
            if self.take(input)? {
                self.has_input = true;
                break;
            }
            if taken == 0 {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        if count < READ_BYTES {
            self.let_go();
        }
        match input.len() - before {
            0 if self.has_input => Ok(0),
            // Part of a record, or one without data.
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }

    /// Moves plaintext that is there to `input`. True if the peer has ended.
    fn take(&mut self, input: &mut BytesMut) -> io::Result<bool> {
        let state = match self.tls.process_new_packets() {
            Ok(state) => state,
            Err(error) => {
                // The alert that says why. Whether it arrives does not matter.
                self.is_broken = true;
                let _ = self.flush();
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        };
        let mut left = state.plaintext_bytes_to_read();
        input.reserve(left);
        while left > 0 {
            let mut reader = self.tls.reader();
            let piece = reader.fill_buf()?;
            let count = piece.len();
            input.extend_from_slice(piece);
            reader.consume(count);
            left = if count == 0 { 0 } else { left.saturating_sub(count) };
        }
        Ok(state.peer_has_closed())
    }

    /// The peer may be silent for long now: gives back the room of the largest record so far. rustls does
    /// that when it is about to read and has nothing left, and the read itself need not give anything.
    fn let_go(&mut self) {
        let _ = self.tls.read_tls(&mut Nothing);
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut SocketWriter(&self.socket))?;
        }
        Ok(())
    }
}

struct Nothing;

impl Read for Nothing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// The socket as rustls wants to write to it.
struct SocketWriter<'a>(&'a TcpStream);

impl Write for SocketWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
