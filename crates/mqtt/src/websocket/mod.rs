//! MQTT over WebSocket (RFC 6455, MQTT 5 §6): between the socket and the packet codec. Takes the
//! socket's bytes, gives back the MQTT bytes inside, and writes its own answers (handshake, pong,
//! close). A frame's payload is unmasked and passed on as it arrives, so that no frame length makes
//! this layer buffer anything but one control frame.

mod frame;
mod handshake;

pub use frame::{client_frame, put_close, wrap, CloseCode, FrameError, Frames};
pub use handshake::{HandshakeError, Request, REQUEST_BYTES_MAX};

use bytes::BytesMut;
use koine_base::Rope;

/// True if a connection that starts with `input` is an HTTP request and not MQTT; `None` if more
/// bytes are needed. No MQTT packet starts with `G` (0x47 is PUBACK with forbidden flags).
pub fn is_http(input: &[u8]) -> Option<bool> {
    const GET: &[u8] = b"GET ";
    let count = input.len().min(GET.len());
    if input[..count] != GET[..count] {
        return Some(false);
    }
    (count == GET.len()).then_some(true)
}

/// Why the WebSocket layer ends the connection. What the peer must still be sent is in `out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebSocketEnd {
    Handshake(HandshakeError),
    /// The peer asked to close, or broke a rule and was told so.
    Closed(CloseCode),
}

/// One connection's WebSocket layer.
#[derive(Debug, Default)]
pub struct WebSocket {
    open: bool,
    frames: Frames,
}

impl WebSocket {
    pub fn new() -> WebSocket {
        WebSocket::default()
    }

    /// The upgrade is done: MQTT bytes may be sent.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Consumes `input`, appends MQTT bytes to `packets` and answers to `out`.
    pub fn receive(
        &mut self,
        input: &mut BytesMut,
        packets: &mut BytesMut,
        out: &mut Rope,
    ) -> Result<(), WebSocketEnd> {
        if !self.open {
            match Request::parse(input) {
                Ok(None) => return Ok(()),
                Ok(Some((request, length))) => {
                    let _ = input.split_to(length);
                    request.put_answer(out.tail());
                    self.open = true;
                }
                Err(error) => {
                    error.put_answer(out.tail());
                    return Err(WebSocketEnd::Handshake(error));
                }
            }
        }
        match self.frames.receive(input, packets, out) {
            Ok(()) => Ok(()),
            Err(FrameError { code }) => {
                put_close(out.tail(), code);
                Err(WebSocketEnd::Closed(code))
            }
        }
    }

    /// Moves MQTT bytes out of `packets` into one binary frame.
    pub fn send(&mut self, packets: &mut Rope, out: &mut Rope) {
        wrap(packets, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_http_from_mqtt() {
        assert_eq!(is_http(b""), None);
        assert_eq!(is_http(b"GE"), None);
        assert_eq!(is_http(b"GET / HTTP/1.1\r\n"), Some(true));
        assert_eq!(is_http(b"\x10\x0c\x00\x04MQTT"), Some(false));
        assert_eq!(is_http(b"GOT "), Some(false));
    }

    const HELLO: &[u8] = b"GET /mqtt HTTP/1.1\r\nHost: localhost:1883\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

    #[test]
    fn upgrade_then_packets_however_the_bytes_are_cut() {
        let mut stream = HELLO.to_vec();
        // Two masked frames: a fragmented binary message with a ping between its halves.
        let mask = [1u8, 2, 3, 4];
        let masked = |payload: &[u8]| -> Vec<u8> {
            payload.iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]).collect()
        };
        for (first, payload) in [(0x02, &b"\x10\x0c\x00"[..]), (0x89, b"hi"), (0x80, b"\x04MQTT")] {
            stream.extend_from_slice(&[first, 0x80 | payload.len() as u8]);
            stream.extend_from_slice(&mask);
            stream.extend_from_slice(&masked(payload));
        }
        for chunk in [1, 2, 3, 7, stream.len()] {
            let mut socket = WebSocket::new();
            let (mut input, mut packets, mut out) = (BytesMut::new(), BytesMut::new(), Rope::new());
            for piece in stream.chunks(chunk) {
                input.extend_from_slice(piece);
                socket.receive(&mut input, &mut packets, &mut out).expect("well-formed");
            }
            assert_eq!(&packets[..], b"\x10\x0c\x00\x04MQTT");
            let answer = out.take_all();
            let text = String::from_utf8_lossy(&answer);
            assert!(text.starts_with("HTTP/1.1 101 "), "{text}");
            assert!(
                text.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"),
                "{text}"
            );
            assert!(text.contains("Sec-WebSocket-Protocol: mqtt\r\n"), "{text}");
            assert!(answer.ends_with(b"\r\n\r\n\x8a\x02hi"), "{text}");
            assert!(input.is_empty());
        }
    }
}
