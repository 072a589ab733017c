//! AMQP 0-9-1: frames and method numbers.

use super::wire::Put;
use super::Malformed;

/// Frame types and end (spec 2.3).
pub mod frame {
    pub const METHOD: u8 = 1;
    pub const HEADER: u8 = 2;
    pub const BODY: u8 = 3;
    pub const HEARTBEAT: u8 = 8;
    pub const END: u8 = 0xCE;
}

/// Class and method ids, in one number.
pub mod method {
    pub const CONNECTION_START: u32 = 10 << 16 | 10;
    pub const CONNECTION_START_OK: u32 = 10 << 16 | 11;
    pub const CONNECTION_TUNE: u32 = 10 << 16 | 30;
    pub const CONNECTION_TUNE_OK: u32 = 10 << 16 | 31;
    pub const CONNECTION_OPEN: u32 = 10 << 16 | 40;
    pub const CONNECTION_OPEN_OK: u32 = 10 << 16 | 41;
    pub const CONNECTION_CLOSE: u32 = 10 << 16 | 50;
    pub const CONNECTION_CLOSE_OK: u32 = 10 << 16 | 51;
    pub const CONNECTION_BLOCKED: u32 = 10 << 16 | 60;
    pub const CONNECTION_UNBLOCKED: u32 = 10 << 16 | 61;
    pub const CHANNEL_OPEN: u32 = 20 << 16 | 10;
    pub const CHANNEL_OPEN_OK: u32 = 20 << 16 | 11;
    pub const CHANNEL_CLOSE: u32 = 20 << 16 | 40;
    pub const CHANNEL_CLOSE_OK: u32 = 20 << 16 | 41;
    pub const EXCHANGE_DECLARE: u32 = 40 << 16 | 10;
    pub const EXCHANGE_DECLARE_OK: u32 = 40 << 16 | 11;
    pub const QUEUE_DECLARE: u32 = 50 << 16 | 10;
    pub const QUEUE_DECLARE_OK: u32 = 50 << 16 | 11;
    pub const QUEUE_BIND: u32 = 50 << 16 | 20;
    pub const QUEUE_BIND_OK: u32 = 50 << 16 | 21;
    pub const QUEUE_DELETE: u32 = 50 << 16 | 40;
    pub const QUEUE_DELETE_OK: u32 = 50 << 16 | 41;
    pub const BASIC_QOS: u32 = 60 << 16 | 10;
    pub const BASIC_QOS_OK: u32 = 60 << 16 | 11;
    pub const BASIC_CONSUME: u32 = 60 << 16 | 20;
    pub const BASIC_CONSUME_OK: u32 = 60 << 16 | 21;
    pub const BASIC_CANCEL: u32 = 60 << 16 | 30;
    pub const BASIC_PUBLISH: u32 = 60 << 16 | 40;
    pub const BASIC_RETURN: u32 = 60 << 16 | 50;
    pub const BASIC_DELIVER: u32 = 60 << 16 | 60;
    pub const BASIC_GET: u32 = 60 << 16 | 70;
    pub const BASIC_GET_OK: u32 = 60 << 16 | 71;
    pub const BASIC_GET_EMPTY: u32 = 60 << 16 | 72;
    pub const BASIC_ACK: u32 = 60 << 16 | 80;
    pub const BASIC_REJECT: u32 = 60 << 16 | 90;
    pub const BASIC_NACK: u32 = 60 << 16 | 120;
    pub const CONFIRM_SELECT: u32 = 85 << 16 | 10;
    pub const CONFIRM_SELECT_OK: u32 = 85 << 16 | 11;
}

/// Type, channel and size before a frame's payload; the end octet follows it.
pub const FRAME_HEAD_BYTES: usize = 7;
pub const FRAME_EXTRA_BYTES: usize = FRAME_HEAD_BYTES + 1;

/// A whole frame at the front of the input.
pub struct Frame<'a> {
    pub kind: u8,
    pub payload: &'a [u8],
    /// With head and end.
    pub bytes: usize,
}

impl<'a> Frame<'a> {
    #[inline]
    pub fn first(input: &'a [u8]) -> Result<Option<Frame<'a>>, Malformed> {
        let Some(bytes) = frame_bytes(input) else { return Ok(None) };
        let Some(whole) = input.get(..bytes) else { return Ok(None) };
        if whole[bytes - 1] != frame::END {
            return Err(Malformed("frame end"));
        }
        let payload = &whole[FRAME_HEAD_BYTES..bytes - 1];
        Ok(Some(Frame { kind: whole[0], payload, bytes }))
    }
}

pub fn frame_bytes(input: &[u8]) -> Option<usize> {
    let size = input.get(3..FRAME_HEAD_BYTES)?.first_chunk::<4>()?;
    Some((u32::from_be_bytes(*size) as usize).saturating_add(FRAME_EXTRA_BYTES))
}

/// Appends a frame of `kind` whose payload `fill` writes.
pub fn put_frame(out: &mut Vec<u8>, kind: u8, channel: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    out.put_u8(kind);
    out.put_u16(channel);
    out.put_u32(0);
    let start = out.len();
    fill(out);
    let size = (out.len() - start) as u32;
    out[start - 4..start].copy_from_slice(&size.to_be_bytes());
    out.put_u8(frame::END);
}

pub fn put_method(out: &mut Vec<u8>, channel: u16, id: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    put_frame(out, frame::METHOD, channel, |out| {
        out.put_u32(id);
        fill(out);
    });
}
