//! One connection with one channel: the handshake, and frames put together to messages.

use crate::frames::amqp::{frame, method, put_frame, put_method, Frame};
use crate::frames::wire::{Put, Reader};
use crate::frames::Malformed;
use koine_base::Moment;
use std::time::Duration;

pub const CHANNEL: u16 = 1;
/// What we allow when the broker sets no limit.
const FRAME_BYTES_MAX: u32 = 128 << 10;
const FRAME_EXTRA_BYTES: usize = 8;
/// Largest body that is taken in: no writer makes a larger one.
const BODY_BYTES_MAX: u64 = 256 << 20;
const HAS_DELIVERY_MODE: u16 = 0x1000;
const PERSISTENT: u8 = 2;
const CLASS_BASIC: u16 = 60;
/// Interval that is asked for; the broker may be satisfied with less often.
const HEARTBEAT_SECONDS: u16 = 20;

/// What a message came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    Delivered { tag: u64, redelivered: bool },
    Got { tag: u64, redelivered: bool },
    Returned,
}

/// What the broker said.
#[derive(Debug)]
pub enum Heard {
    /// The channel is open.
    Ready {
        tells_blocked: bool,
    },
    Message {
        content: Content,
        body: Vec<u8>,
    },
    Confirmed {
        tag: u64,
        multiple: bool,
        ok: bool,
    },
    Blocked,
    Unblocked,
    /// The broker closed the connection or the channel and says why.
    Closed {
        text: String,
        is_not_found: bool,
    },
    /// Any other method.
    Method(u32),
    Nothing,
}

#[derive(Debug)]
pub struct Connection {
    frame_bytes_max: usize,
    tells_blocked: bool,
    /// A message whose frames are still coming: content, size, and what is there of it.
    partial: Option<(Content, Option<u64>, Vec<u8>)>,
    heartbeat: Duration,
    last_sent: Moment,
}

impl Connection {
    /// Says hello.
    pub fn open(out: &mut Vec<u8>, now: Moment) -> Self {
        out.put(b"AMQP\x00\x00\x09\x01");
        Connection {
            frame_bytes_max: FRAME_BYTES_MAX as usize,
            tells_blocked: false,
            partial: None,
            heartbeat: Duration::from_secs(u64::from(HEARTBEAT_SECONDS)),
            last_sent: now,
        }
    }

    /// Keeps the connection alive; for every turn.
    pub fn keep_alive(&mut self, out: &mut Vec<u8>, now: Moment) {
        if !out.is_empty() {
            self.last_sent = now;
        }
        if !self.heartbeat.is_zero() && now.since(self.last_sent) * 2 >= self.heartbeat {
            put_frame(out, frame::HEARTBEAT, 0, |_| {});
            self.last_sent = now;
        }
    }

    /// The first whole frame and the bytes it takes.
    pub fn hear(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<(Heard, usize)>, Malformed> {
        let Some(whole) = Frame::first(input)? else { return Ok(None) };
        let heard = match whole.kind {
            frame::METHOD if self.partial.is_none() => self.method(whole.payload, out)?,
            frame::HEADER | frame::BODY => self.piece(whole.kind, whole.payload)?,
            frame::HEARTBEAT => Heard::Nothing,
            _ => return Err(Malformed("order of frames")),
        };
        Ok(Some((heard, whole.bytes)))
    }

    fn method(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<Heard, Malformed> {
        let mut reader = Reader::new(payload, "method");
        let id = reader.u32()?;
        match id {
            method::CONNECTION_START => self.start(reader, out)?,
            method::CONNECTION_TUNE => self.tune(reader, out)?,
            method::CONNECTION_OPEN_OK => {
                put_method(out, CHANNEL, method::CHANNEL_OPEN, |out| out.put_u8(0));
            }
            method::CHANNEL_OPEN_OK => {
                return Ok(Heard::Ready { tells_blocked: self.tells_blocked })
            }
            method::CONNECTION_CLOSE | method::CHANNEL_CLOSE => {
                let code = reader.u16()?;
                let text = String::from_utf8_lossy(reader.tiny_bytes()?).into_owned();
                let (channel, answer) = match id {
                    method::CONNECTION_CLOSE => (0, method::CONNECTION_CLOSE_OK),
                    _ => (CHANNEL, method::CHANNEL_CLOSE_OK),
                };
                put_method(out, channel, answer, |_| {});
                let is_not_found = code == 404;
                return Ok(Heard::Closed { text: format!("{code} {text}"), is_not_found });
            }
            method::BASIC_DELIVER => {
                reader.tiny_bytes()?; // consumer tag
                let (tag, redelivered) = (reader.u64()?, reader.u8()? != 0);
                self.partial = Some((Content::Delivered { tag, redelivered }, None, Vec::new()));
            }
            method::BASIC_GET_OK => {
                let (tag, redelivered) = (reader.u64()?, reader.u8()? != 0);
                self.partial = Some((Content::Got { tag, redelivered }, None, Vec::new()));
            }
            method::BASIC_RETURN => self.partial = Some((Content::Returned, None, Vec::new())),
            method::BASIC_ACK | method::BASIC_NACK => {
                let (tag, bits) = (reader.u64()?, reader.u8()?);
                let (multiple, ok) = (bits & 1 != 0, id == method::BASIC_ACK);
                return Ok(Heard::Confirmed { tag, multiple, ok });
            }
            method::CONNECTION_BLOCKED => return Ok(Heard::Blocked),
            method::CONNECTION_UNBLOCKED => return Ok(Heard::Unblocked),
            _ => return Ok(Heard::Method(id)),
        }
        Ok(Heard::Nothing)
    }

    fn start(&mut self, mut reader: Reader<'_>, out: &mut Vec<u8>) -> Result<(), Malformed> {
        reader.take(2)?; // version
        let bytes = reader.u32()? as usize;
        let properties = reader.take(bytes)?;
        self.tells_blocked = has_flag(properties, b"connection.blocked");
        put_method(out, 0, method::CONNECTION_START_OK, |out| {
            let mut capabilities = Vec::new();
            for name in ["publisher_confirms", "basic.nack", "connection.blocked"] {
                capabilities.put_tiny_text(name);
                capabilities.put(b"t\x01");
            }
            let mut properties = Vec::new();
            properties.put_tiny_text("capabilities");
            properties.put_u8(b'F');
            properties.put_u32(capabilities.len() as u32);
            properties.put(&capabilities);
            out.put_u32(properties.len() as u32);
            out.put(&properties);
            out.put_tiny_text("PLAIN");
            let response = b"\0guest\0guest";
            out.put_u32(response.len() as u32);
            out.put(response);
            out.put_tiny_text("en_US");
        });
        Ok(())
    }

    fn tune(&mut self, mut reader: Reader<'_>, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let channel_max = reader.u16()?;
        let frame_max = match reader.u32()? {
            0 => FRAME_BYTES_MAX,
            offered => offered.min(FRAME_BYTES_MAX),
        };
        let heartbeat = match reader.u16()? {
            0 => HEARTBEAT_SECONDS,
            offered => offered.min(HEARTBEAT_SECONDS),
        };
        self.frame_bytes_max = frame_max as usize;
        self.heartbeat = Duration::from_secs(u64::from(heartbeat));
        put_method(out, 0, method::CONNECTION_TUNE_OK, |out| {
            out.put_u16(channel_max);
            out.put_u32(frame_max);
            out.put_u16(heartbeat);
        });
        put_method(out, 0, method::CONNECTION_OPEN, |out| {
            out.put_tiny_text("/");
            out.put_u16(0);
        });
        Ok(())
    }

    fn piece(&mut self, kind: u8, payload: &[u8]) -> Result<Heard, Malformed> {
        let Some((content, size, body)) = &mut self.partial else {
            return Err(Malformed("order of frames"));
        };
        match (kind, *size) {
            (frame::HEADER, None) => {
                let mut reader = Reader::new(payload, "content header");
                reader.take(4)?; // class, weight
                let bytes = reader.u64()?;
                if bytes > BODY_BYTES_MAX {
                    return Err(reader.malformed());
                }
                *size = Some(bytes);
            }
            (frame::BODY, Some(bytes)) if (body.len() + payload.len()) as u64 <= bytes => {
                body.put(payload);
            }
            _ => return Err(Malformed("content body")),
        }
        if *size != Some(body.len() as u64) {
            return Ok(Heard::Nothing);
        }
        let (content, body) = (*content, std::mem::take(body));
        self.partial = None;
        Ok(Heard::Message { content, body })
    }

    /// Basic.Publish of a persistent message, mandatory.
    pub fn publish(&self, out: &mut Vec<u8>, exchange: &str, key: &str, body: &[u8]) {
        put_method(out, CHANNEL, method::BASIC_PUBLISH, |out| {
            out.put_u16(0);
            out.put_tiny_text(exchange);
            out.put_tiny_text(key);
            out.put_u8(0b01); // mandatory
        });
        put_frame(out, frame::HEADER, CHANNEL, |out| {
            out.put_u16(CLASS_BASIC);
            out.put_u16(0); // weight
            out.put_u64(body.len() as u64);
            out.put_u16(HAS_DELIVERY_MODE);
            out.put_u8(PERSISTENT);
        });
        for piece in body.chunks(self.frame_bytes_max - FRAME_EXTRA_BYTES) {
            put_frame(out, frame::BODY, CHANNEL, |out| out.put(piece));
        }
    }
}

/// True if a table, or one inside it, holds `name` with the truth value true.
fn has_flag(table: &[u8], name: &[u8]) -> bool {
    let mut wanted = vec![name.len() as u8];
    wanted.put(name);
    wanted.put(b"t\x01");
    table.windows(wanted.len()).any(|window| window == wanted)
}
