//! WebSocket frames (RFC 6455 §5), server side: masked frames in, unmasked frames out.
//!
//! ```text
//! +-+---+------+-+-------+----------------+----------+---------+
//! |F|RSV|opcode|M|len 7  | len 16 or 64   | mask 32  | payload |
//! |1| 3 |  4   |1|       | if 126 or 127  | if M     |         |
//! +-+---+------+-+-------+----------------+----------+---------+
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use koine_base::Rope;

/// RFC 6455 §7.4.1: the codes that this server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum CloseCode {
    Normal = 1000,
    GoingAway = 1001,
    ProtocolError = 1002,
    /// A text frame: MQTT is binary only ([MQTT-6.0.0-1]).
    UnsupportedData = 1003,
    PolicyViolation = 1008,
    TooBig = 1009,
}

/// The connection is to be closed with `code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameError {
    pub code: CloseCode,
}

const PROTOCOL_ERROR: FrameError = FrameError { code: CloseCode::ProtocolError };

/// RFC 6455 §5.5.
const CONTROL_BYTES_MAX: usize = 125;
const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    fn from_bits(bits: u8) -> Result<Opcode, FrameError> {
        match bits {
            0x0 => Ok(Opcode::Continuation),
            0x1 => Ok(Opcode::Text),
            0x2 => Ok(Opcode::Binary),
            0x8 => Ok(Opcode::Close),
            0x9 => Ok(Opcode::Ping),
            0xA => Ok(Opcode::Pong),
            _ => Err(PROTOCOL_ERROR),
        }
    }

    fn is_control(self) -> bool {
        matches!(self, Opcode::Close | Opcode::Ping | Opcode::Pong)
    }
}

#[derive(Clone, Copy, Debug)]
struct Header {
    opcode: Opcode,
    last: bool,
    mask: [u8; 4],
    header_bytes: usize,
    payload_bytes: u64,
}

/// `None` while the header is incomplete.
fn parse_header(input: &[u8]) -> Result<Option<Header>, FrameError> {
    let Some(first) = input.first().copied() else {
        return Ok(None);
    };
    let opcode = Opcode::from_bits(first & 0x0F)?;
    let last = first & FINAL != 0;
    if first & 0x70 != 0 || (opcode.is_control() && !last) {
        return Err(PROTOCOL_ERROR);
    }
    let Some(second) = input.get(1).copied() else {
        return Ok(None);
    };
    if second & MASKED == 0 {
        return Err(PROTOCOL_ERROR);
    }
    let short = usize::from(second & 0x7F);
    if opcode.is_control() && short > CONTROL_BYTES_MAX {
        return Err(PROTOCOL_ERROR);
    }
    let extended_bytes = match short {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let header_bytes = 2 + extended_bytes + 4;
    let Some(header) = input.get(..header_bytes) else {
        return Ok(None);
    };
    let extended = &header[2..2 + extended_bytes];
    let mut payload_bytes = short as u64;
    if extended_bytes > 0 {
        payload_bytes = extended.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        let minimum = if extended_bytes == 2 { 126 } else { 65_536 };
        if payload_bytes < minimum || payload_bytes >> 63 != 0 {
            return Err(PROTOCOL_ERROR);
        }
    }
    let mask = &header[2 + extended_bytes..];
    Ok(Some(Header {
        opcode,
        last,
        mask: [mask[0], mask[1], mask[2], mask[3]],
        header_bytes,
        payload_bytes,
    }))
}

/// The payload of a data frame that has not arrived in full.
#[derive(Clone, Copy, Debug)]
struct Pending {
    mask: [u8; 4],
    payload_bytes: u64,
}

/// Reads a client's frames.
#[derive(Debug, Default)]
pub struct Frames {
    pending: Option<Pending>,
    /// A message began and its last frame has not come.
    fragmented: bool,
}

impl Frames {
    /// Consumes `input` as far as possible: payloads go to `packets`, pongs to `out`.
    pub fn receive(
        &mut self,
        input: &mut BytesMut,
        packets: &mut BytesMut,
        out: &mut Rope,
    ) -> Result<(), FrameError> {
        loop {
            if let Some(pending) = &mut self.pending {
                pending.pass_on(input, packets);
                if pending.payload_bytes > 0 {
                    return Ok(());
                }
                self.pending = None;
            }
            let Some(header) = parse_header(input)? else {
                return Ok(());
            };
            if header.opcode.is_control() {
                let payload_bytes = header.payload_bytes as usize;
                if input.len() < header.header_bytes + payload_bytes {
                    return Ok(());
                }
                input.advance(header.header_bytes);
                let mut payload = input.split_to(payload_bytes);
                unmask(&mut payload, header.mask);
                control(header.opcode, &payload, out)?;
                continue;
            }
            self.begin_data(&header)?;
            input.advance(header.header_bytes);
            self.pending = Some(Pending { mask: header.mask, payload_bytes: header.payload_bytes });
        }
    }

    fn begin_data(&mut self, header: &Header) -> Result<(), FrameError> {
        match (header.opcode, self.fragmented) {
            (Opcode::Text, _) => return Err(FrameError { code: CloseCode::UnsupportedData }),
            (Opcode::Binary, true) | (Opcode::Continuation, false) => return Err(PROTOCOL_ERROR),
            _ => {}
        }
        self.fragmented = !header.last;
        Ok(())
    }
}

impl Pending {
    fn pass_on(&mut self, input: &mut BytesMut, packets: &mut BytesMut) {
        let count = usize::try_from(self.payload_bytes).unwrap_or(usize::MAX).min(input.len());
        let mut payload = input.split_to(count);
        unmask(&mut payload, self.mask);
        self.mask.rotate_left(count % 4);
        self.payload_bytes -= count as u64;
        if packets.is_empty() {
            *packets = payload;
        } else {
            packets.extend_from_slice(&payload);
        }
    }
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    for chunk in payload.chunks_mut(4) {
        for (byte, key) in chunk.iter_mut().zip(mask) {
            *byte ^= key;
        }
    }
}

fn control(opcode: Opcode, payload: &[u8], out: &mut Rope) -> Result<(), FrameError> {
    match opcode {
        Opcode::Ping => {
            out.tail().put_slice(&[FINAL | 0x0A, payload.len() as u8]);
            out.tail().put_slice(payload);
            Ok(())
        }
        Opcode::Close => Err(FrameError { code: close_answer(payload) }),
        _ => Ok(()),
    }
}

/// The peer's code is checked (§7.4) and answered with "normal" or "protocol error".
fn close_answer(payload: &[u8]) -> CloseCode {
    let code = match payload {
        [] => return CloseCode::Normal,
        [_] => return CloseCode::ProtocolError,
        [high, low, reason @ ..] if std::str::from_utf8(reason).is_ok() => {
            u16::from_be_bytes([*high, *low])
        }
        _ => return CloseCode::ProtocolError,
    };
    match code {
        1000..=1003 | 1007..=1014 | 3000..=4999 => CloseCode::Normal,
        _ => CloseCode::ProtocolError,
    }
}

pub fn put_close(out: &mut BytesMut, code: CloseCode) {
    out.put_slice(&[FINAL | 0x08, 2]);
    out.put_u16(code as u16);
}

/// Moves `packets` to the end of `out` as one binary frame; nothing if it is empty.
pub fn wrap(packets: &mut Rope, out: &mut Rope) {
    let count = packets.len();
    if count == 0 {
        return;
    }
    let head = out.tail();
    head.put_u8(FINAL | 0x02);
    match count {
        0..=125 => head.put_u8(count as u8),
        126..=65_535 => {
            head.put_u8(126);
            head.put_u16(count as u16);
        }
        _ => {
            head.put_u8(127);
            head.put_u64(count as u64);
        }
    }
    out.append(packets);
}

/// A masked client frame, for tests and the load generator.
pub fn client_frame(first: u8, mask: [u8; 4], payload: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(first);
    match payload.len() {
        count @ 0..=125 => out.put_u8(MASKED | count as u8),
        count @ 126..=65_535 => {
            out.put_u8(MASKED | 126);
            out.put_u16(count as u16);
        }
        count => {
            out.put_u8(MASKED | 127);
            out.put_u64(count as u64);
        }
    }
    out.put_slice(&mask);
    let start = out.len();
    out.put_slice(payload);
    unmask(&mut out[start..], mask);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(stream: &[u8]) -> (Result<(), FrameError>, Vec<u8>, Bytes) {
        let (mut input, mut packets, mut out) =
            (BytesMut::from(stream), BytesMut::new(), Rope::new());
        let result = Frames::default().receive(&mut input, &mut packets, &mut out);
        (result, packets.to_vec(), out.take_all())
    }

    const MASK: [u8; 4] = [0xA5, 0x5A, 0x00, 0xFF];

    #[test]
    fn payloads_of_every_length_form() {
        for length in [0usize, 1, 125, 126, 127, 65_535, 65_536, 70_001] {
            let payload: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let (result, packets, _) = read(&client_frame(0x82, MASK, &payload));
            assert_eq!(result, Ok(()));
            assert_eq!(packets, payload);

            let mut plain = Rope::new();
            plain.push(Bytes::from(payload.clone()));
            let mut framed = Rope::new();
            wrap(&mut plain, &mut framed);
            let head = match length {
                0 => 0,
                1..=125 => 2,
                126..=65_535 => 4,
                _ => 10,
            };
            assert_eq!(framed.len(), head + length);
        }
    }

    #[test]
    fn rules_broken() {
        fn check(stream: &[u8], expect: CloseCode) {
            assert_eq!(read(stream).0, Err(FrameError { code: expect }), "{stream:02x?}");
        }
        check(&[0x82, 0x01, 0x10], CloseCode::ProtocolError); // not masked
        check(&[0xC2], CloseCode::ProtocolError); // a reserved bit
        check(&[0x83], CloseCode::ProtocolError); // a reserved opcode
        check(&[0x09], CloseCode::ProtocolError); // a fragmented ping
        check(&[0x89, 0xFE], CloseCode::ProtocolError); // a long ping
        check(&[0x82, 0xFE, 0, 125, 0, 0, 0, 0], CloseCode::ProtocolError); // not minimal
        check(&[0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0, 0, 0, 0], CloseCode::ProtocolError);
        check(&[0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], CloseCode::ProtocolError);
        check(&client_frame(0x81, MASK, b"text"), CloseCode::UnsupportedData);
        check(&client_frame(0x80, MASK, b"x"), CloseCode::ProtocolError); // nothing to continue
        let mut twice = client_frame(0x02, MASK, b"x").to_vec();
        twice.extend_from_slice(&client_frame(0x82, MASK, b"x"));
        check(&twice, CloseCode::ProtocolError);
        check(&client_frame(0x88, MASK, b""), CloseCode::Normal);
        check(&client_frame(0x88, MASK, &[3, 232, b'b']), CloseCode::Normal);
        check(&client_frame(0x88, MASK, &[3]), CloseCode::ProtocolError);
        check(&client_frame(0x88, MASK, &[3, 237]), CloseCode::ProtocolError); // 1005
        check(&client_frame(0x88, MASK, &[3, 232, 0xFF]), CloseCode::ProtocolError);
    }

    #[test]
    fn a_huge_length_costs_no_memory() {
        let mut stream = vec![0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
        stream.extend_from_slice(&MASK);
        stream.extend_from_slice(&[0xA5 ^ 1, 0x5A ^ 2, 3]);
        let (result, packets, _) = read(&stream);
        assert_eq!(result, Ok(()));
        assert_eq!(packets, [1, 2, 3]);
    }

    #[test]
    fn a_ping_is_answered_and_a_pong_is_ignored() {
        let mut stream = client_frame(0x89, MASK, b"abc").to_vec();
        stream.extend_from_slice(&client_frame(0x8A, MASK, b"xyz"));
        let (result, packets, out) = read(&stream);
        assert_eq!(result, Ok(()));
        assert!(packets.is_empty());
        assert_eq!(&out[..], b"\x8a\x03abc");
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut rng = koine_base::rng::Rng::new(11);
        for _ in 0..20_000 {
            let length = rng.below(64) as usize;
            let mut stream: Vec<u8> = (0..length).map(|_| rng.next_u64() as u8).collect();
            if rng.chance(1, 2) {
                stream.insert(0, 0x82);
            }
            let _ = read(&stream);
        }
    }
}
