//! Frames and the protocol header (0-9-1 sections 2.2 and 4.2). Looks at bytes, says how far the next
//! frame reaches, and never waits for or keeps more than one frame.
//!
//! ```text
//! 0      1         3             7                  7+size
//! +------+---------+-------------+-- ... --+--------+
//! | type | channel | size        | payload | 0xCE   |
//! +------+---------+-------------+-- ... --+--------+
//! ```

use super::error::Malformed;
use bytes::Bytes;
use std::ops::Range;

/// What a client sends first (and what it gets back if it asked for something else).
pub const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\x00\x00\x09\x01";
/// AMQP 0-9, which is near enough for RabbitMQ to treat it as 0-9-1.
const PROTOCOL_HEADER_0_9: [u8; 8] = *b"AMQP\x01\x01\x00\x09";

pub const FRAME_END: u8 = 0xCE;
const HEAD_SIZE: usize = 7;
/// Type, channel, size and end octet: what a frame is larger than its payload.
pub const FRAME_OVERHEAD: usize = 8;
/// No peer may ask for less (RabbitMQ's FRAME-MIN-SIZE is the specification's 4096).
pub const FRAME_MIN_SIZE: u32 = 4096;
/// Until tune-ok nothing is negotiated; RabbitMQ takes 8192 so that long tokens fit in start-ok.
pub const FRAME_MAX_BEFORE_TUNE: u32 = 8192;
/// RabbitMQ forgives clients that count the limit without the overhead.
const FRAME_SIZE_FORGIVEN: u32 = FRAME_OVERHEAD as u32;

/// What the first eight bytes of a connection say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// Not enough bytes yet, and so far it may become any AMQP header.
    Incomplete,
    V091,
    /// AMQP 1.0, plain.
    V1,
    /// AMQP 1.0 with the SASL layer.
    V1Sasl,
    /// Anything else: answer with the own header and close (section 2.2.4).
    Unknown,
}

/// Looks at the start of a connection; a V091 greeting is 8 bytes.
pub fn greeting(input: &[u8]) -> Greeting {
    let seen = &input[..input.len().min(8)];
    if !b"AMQP".starts_with(&seen[..seen.len().min(4)]) {
        return Greeting::Unknown;
    }
    match *seen {
        _ if seen == PROTOCOL_HEADER || seen == PROTOCOL_HEADER_0_9 => Greeting::V091,
        [_, _, _, _, 0, 1, 0, 0] => Greeting::V1,
        [_, _, _, _, 3, 1, 0, 0] => Greeting::V1Sasl,
        _ if seen.len() < 8 => Greeting::Incomplete,
        _ => Greeting::Unknown,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameType {
    Method = 1,
    Header = 2,
    Body = 3,
    Heartbeat = 8,
}

/// One whole frame; the payload is shared with the buffer that it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: FrameType,
    pub channel: u16,
    pub payload: Bytes,
}

/// The seven octets before the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    pub kind: FrameType,
    pub channel: u16,
    pub payload_size: usize,
}

impl FrameHead {
    /// The head of the frame that starts `input`. `None` until the whole frame is there. What is
    /// wrong is told as early as it can be seen, so a peer cannot make us wait for a giant.
    pub fn whole(input: &[u8], frame_max: u32) -> Result<Option<FrameHead>, Malformed> {
        let kind = match input.first() {
            None => return Ok(None),
            Some(1) => FrameType::Method,
            Some(2) => FrameType::Header,
            Some(3) => FrameType::Body,
            Some(8) => FrameType::Heartbeat,
            Some(&other) => return Err(Malformed::FrameType(other)),
        };
        let &[_, channel_high, channel_low, s0, s1, s2, s3, ref rest @ ..] = input else {
            return Ok(None);
        };
        let size = u32::from_be_bytes([s0, s1, s2, s3]);
        let limit = frame_max.saturating_sub(FRAME_OVERHEAD as u32);
        if size > limit.saturating_add(FRAME_SIZE_FORGIVEN) {
            return Err(Malformed::FrameTooLarge { size, limit });
        }
        if kind == FrameType::Heartbeat && size != 0 {
            return Err(Malformed::HeartbeatPayload);
        }
        let channel = u16::from_be_bytes([channel_high, channel_low]);
        let payload_size = size as usize;
        match rest.get(payload_size) {
            None => Ok(None),
            Some(&FRAME_END) => Ok(Some(FrameHead { kind, channel, payload_size })),
            Some(&other) => Err(Malformed::FrameEnd(other)),
        }
    }

    /// Bytes of the whole frame.
    pub fn frame_size(self) -> usize {
        self.payload_size + FRAME_OVERHEAD
    }

    /// Where the payload lies if the frame starts at `position`.
    pub fn payload_range(self, position: usize) -> Range<usize> {
        let start = position + HEAD_SIZE;
        start..start + self.payload_size
    }
}

/// The frame at `position` of `buffer` and the position after it; `None` if it is not all there.
pub fn frame_at(
    buffer: &Bytes,
    position: usize,
    frame_max: u32,
) -> Result<Option<(Frame, usize)>, Malformed> {
    let Some(input) = buffer.get(position..) else {
        return Ok(None);
    };
    let Some(head) = FrameHead::whole(input, frame_max)? else {
        return Ok(None);
    };
    let payload = buffer.slice(head.payload_range(position));
    let frame = Frame { kind: head.kind, channel: head.channel, payload };
    Ok(Some((frame, position + head.frame_size())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use koine_base::rng::Rng;

    fn raw(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![kind];
        out.extend_from_slice(&channel.to_be_bytes());
        out.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        out.extend_from_slice(payload);
        out.push(FRAME_END);
        out
    }

    #[test]
    fn greetings() {
        let check = |input: &[u8], expect| assert_eq!(greeting(input), expect, "{input:?}");
        check(b"", Greeting::Incomplete);
        check(b"AM", Greeting::Incomplete);
        check(b"AMQP\x00\x00\x09", Greeting::Incomplete);
        check(b"AMQP\x00\x00\x09\x01", Greeting::V091);
        check(b"AMQP\x00\x00\x09\x01\x01\x00", Greeting::V091);
        check(b"AMQP\x01\x01\x00\x09", Greeting::V091);
        check(b"AMQP\x00\x01\x00\x00", Greeting::V1);
        check(b"AMQP\x03\x01\x00\x00", Greeting::V1Sasl);
        check(b"AMQP\x00\x00\x09\x02", Greeting::Unknown);
        check(b"AMQP\x01\x01\x08\x00", Greeting::Unknown);
        check(b"GET / HTTP/1.1", Greeting::Unknown);
        check(b"\x10", Greeting::Unknown);
    }

    #[test]
    fn errors_are_seen_as_early_as_possible() {
        let check = |input: &[u8], expect| {
            assert_eq!(FrameHead::whole(input, 4096), expect, "{input:?}");
        };
        check(&[], Ok(None));
        check(&[7], Err(Malformed::FrameType(7)));
        check(&[1, 0, 0, 0, 0, 0x0F], Ok(None));
        check(&[1, 0, 0, 0, 0, 0x10, 0], Ok(None));
        check(&[1, 0, 0, 0, 0, 0x10, 1], Err(Malformed::FrameTooLarge { size: 4097, limit: 4088 }));
        check(
            &[3, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF],
            Err(Malformed::FrameTooLarge { size: u32::MAX, limit: 4088 }),
        );
        check(&[8, 0, 0, 0, 0, 0, 1], Err(Malformed::HeartbeatPayload));
        check(&[8, 0, 0, 0, 0, 0, 0], Ok(None));
        check(&[8, 0, 0, 0, 0, 0, 0, 0xCD], Err(Malformed::FrameEnd(0xCD)));
        check(
            &[8, 0, 3, 0, 0, 0, 0, 0xCE],
            Ok(Some(FrameHead { kind: FrameType::Heartbeat, channel: 3, payload_size: 0 })),
        );
    }

    #[test]
    fn any_chunking_gives_the_same_frames() {
        let mut stream = Vec::new();
        stream.extend(raw(1, 1, b"method"));
        stream.extend(raw(2, 1, b"header"));
        stream.extend(raw(3, 1, &[9; 300]));
        stream.extend(raw(8, 0, b""));
        stream.extend(raw(3, 65535, b""));
        let read = |chunk: usize| {
            let mut frames = Vec::new();
            let mut pending: Vec<u8> = Vec::new();
            for piece in stream.chunks(chunk) {
                pending.extend_from_slice(piece);
                let buffer = Bytes::copy_from_slice(&pending);
                let mut position = 0;
                while let Some((frame, next)) = frame_at(&buffer, position, 4096).unwrap() {
                    frames.push(frame);
                    position = next;
                }
                pending.drain(..position);
            }
            assert!(pending.is_empty());
            frames
        };
        let whole = read(stream.len());
        assert_eq!(whole.len(), 5);
        for chunk in 1..40 {
            assert_eq!(read(chunk), whole);
        }
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut rng = Rng::new(3);
        for _ in 0..100_000 {
            let size = rng.below(24) as usize;
            let mut input: Vec<u8> = (0..size).map(|_| rng.next_u64() as u8).collect();
            if let Some(first) = input.first_mut() {
                *first = [1, 2, 3, 8][rng.below(4) as usize];
            }
            let _ = greeting(&input);
            let _ = frame_at(&Bytes::from(input), 0, 4096);
        }
    }
}
