//! A blocking connection for set-up: say something, hear one frame. The load itself runs
//! non-blocking in `drive`.

use crate::failure::Failure;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// How long the broker may take for any answer during set-up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const READ_BYTES: usize = 64 << 10;
/// Largest frame during set-up.
const FRAME_BYTES_MAX: usize = 64 << 20;

/// Size of the frame that starts at these bytes, once enough of them are there to tell.
pub type FrameBytes = fn(&[u8]) -> Option<usize>;

pub struct Dialogue {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Dialogue {
    pub fn open(addr: &str) -> Result<Self, Failure> {
        let stream = TcpStream::connect(addr).map_err(|e| Failure::Io("connecting", e))?;
        stream.set_nodelay(true).map_err(|e| Failure::Io("connecting", e))?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(|e| Failure::Io("connecting", e))?;
        Ok(Dialogue { stream, input: Vec::new() })
    }

    pub fn say(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stream.write_all(bytes).map_err(|e| Failure::Io("writing during set-up", e))
    }

    /// The next whole frame.
    pub fn hear(&mut self, frame_bytes: FrameBytes) -> Result<Vec<u8>, Failure> {
        loop {
            if let Some(bytes) = frame_bytes(&self.input) {
                if bytes > FRAME_BYTES_MAX {
                    return Err(Failure::Malformed("frame length"));
                }
                if bytes <= self.input.len() {
                    let rest = self.input.split_off(bytes);
                    return Ok(std::mem::replace(&mut self.input, rest));
                }
            }
            let filled = self.input.len();
            self.input.resize(filled + READ_BYTES, 0);
            let read = self.stream.read(&mut self.input[filled..]);
            self.input.truncate(filled + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => return Err(Failure::Closed),
                Ok(_) => {}
                Err(error) => return Err(Failure::Io("waiting for an answer", error)),
            }
        }
    }

    /// The socket and what was read beyond the last frame heard.
    pub fn into_parts(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.input)
    }
}
