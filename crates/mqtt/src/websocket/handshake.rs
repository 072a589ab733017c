//! The HTTP upgrade (RFC 6455 §4.2). Reads one bounded request head; serves nothing else over HTTP.

use crate::base64::base64;
use bytes::{BufMut, BytesMut};
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};

/// The longest request head. Browsers with large cookies stay below 8 KiB.
pub const REQUEST_BYTES_MAX: usize = 8 * 1024;

/// The most header lines in a request head.
const HEADER_COUNT_MAX: usize = 64;

/// RFC 6455 §1.3.
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeError {
    /// Not HTTP, or not a WebSocket upgrade.
    BadRequest,
    HeadTooLarge,
    /// A WebSocket version other than 13.
    Version,
    /// The client does not offer the sub-protocol `mqtt` (MQTT 5 §6.0, [MQTT-6.0.0-3]).
    Protocol,
}

impl HandshakeError {
    pub(super) fn put_answer(self, out: &mut BytesMut) {
        let (status, header, text) = match self {
            HandshakeError::BadRequest => ("400 Bad Request", "", "not a WebSocket upgrade\n"),
            HandshakeError::HeadTooLarge => {
                ("431 Request Header Fields Too Large", "", "request head too large\n")
            }
            HandshakeError::Version => {
                ("426 Upgrade Required", "Sec-WebSocket-Version: 13\r\n", "WebSocket 13 only\n")
            }
            HandshakeError::Protocol => {
                ("400 Bad Request", "", "offer the WebSocket sub-protocol mqtt\n")
            }
        };
        let length = text.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\n{header}Connection: close\r\nContent-Type: text/plain\r\n\
             Content-Length: {length}\r\n\r\n{text}"
        );
        out.put_slice(answer.as_bytes());
    }
}

/// An accepted upgrade request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    accept: String,
    protocol: &'static str,
}

#[derive(Default)]
struct Headers<'a> {
    key: Option<&'a str>,
    version: Option<&'a str>,
    upgrade: bool,
    connection_upgrade: bool,
    protocol: Option<&'static str>,
}

impl Request {
    /// Reads a request head at the start of `input`: the request and the head's length.
    pub fn parse(input: &[u8]) -> Result<Option<(Request, usize)>, HandshakeError> {
        let window = &input[..input.len().min(REQUEST_BYTES_MAX)];
        let Some(end) = window.windows(4).position(|four| four == b"\r\n\r\n") else {
            if input.len() >= REQUEST_BYTES_MAX {
                return Err(HandshakeError::HeadTooLarge);
            }
            return Ok(None);
        };
        let head = std::str::from_utf8(&window[..end]).map_err(|_| HandshakeError::BadRequest)?;
        let mut lines = head.split("\r\n");
        check_request_line(lines.next().unwrap_or_default())?;
        let mut headers = Headers::default();
        for (index, line) in lines.enumerate() {
            if index >= HEADER_COUNT_MAX {
                return Err(HandshakeError::HeadTooLarge);
            }
            headers.take(line)?;
        }
        let request = headers.into_request()?;
        Ok(Some((request, end + 4)))
    }

    pub(super) fn put_answer(&self, out: &mut BytesMut) {
        let Request { accept, protocol } = self;
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n"
        );
        out.put_slice(answer.as_bytes());
    }
}

fn check_request_line(line: &str) -> Result<(), HandshakeError> {
    let mut words = line.split(' ');
    let method = words.next();
    let target = words.next().unwrap_or_default();
    let version = words.next();
    if method != Some("GET") || target.is_empty() || version != Some("HTTP/1.1") {
        return Err(HandshakeError::BadRequest);
    }
    if words.next().is_some() {
        return Err(HandshakeError::BadRequest);
    }
    Ok(())
}

fn lists_token(value: &str, token: &str) -> bool {
    value.split(',').any(|item| item.trim().eq_ignore_ascii_case(token))
}

impl<'a> Headers<'a> {
    fn take(&mut self, line: &'a str) -> Result<(), HandshakeError> {
        let (name, value) = line.split_once(':').ok_or(HandshakeError::BadRequest)?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("upgrade") {
            self.upgrade |= lists_token(value, "websocket");
        } else if name.eq_ignore_ascii_case("connection") {
            self.connection_upgrade |= lists_token(value, "upgrade");
        } else if name.eq_ignore_ascii_case("sec-websocket-key") {
            self.key = Some(value);
        } else if name.eq_ignore_ascii_case("sec-websocket-version") {
            self.version = Some(value);
        } else if name.eq_ignore_ascii_case("sec-websocket-protocol") {
            self.protocol = self.protocol.or(offered_protocol(value));
        }
        Ok(())
    }

    fn into_request(self) -> Result<Request, HandshakeError> {
        let key = self.key.filter(|key| is_key(key));
        let (true, true, Some(key)) = (self.upgrade, self.connection_upgrade, key) else {
            return Err(HandshakeError::BadRequest);
        };
        if self.version != Some("13") {
            return Err(HandshakeError::Version);
        }
        let protocol = self.protocol.ok_or(HandshakeError::Protocol)?;
        Ok(Request { accept: accept_of(key), protocol })
    }
}

/// `mqtt`, or the name that clients of version 3.1 use (mosquitto and Eclipse Paho offer it first
/// for level 3).
fn offered_protocol(value: &str) -> Option<&'static str> {
    value.split(',').find_map(|item| match item.trim() {
        "mqtt" => Some("mqtt"),
        "mqttv3.1" => Some("mqttv3.1"),
        _ => None,
    })
}

/// 16 bytes in base64: 22 digits and two pads.
fn is_key(key: &str) -> bool {
    let bytes = key.as_bytes();
    let digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    bytes.len() == 24 && bytes[..22].iter().all(digit) && &bytes[22..] == b"=="
}

fn accept_of(key: &str) -> String {
    let mut sha1 = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    sha1.update(key.as_bytes());
    sha1.update(ACCEPT_GUID);
    base64(sha1.finish().as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_6455() {
        assert_eq!(accept_of("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    const LINES: [&str; 7] = [
        "GET / HTTP/1.1",
        "Host: a",
        "upgrade: WebSocket",
        "connection: keep-alive, upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: mqttv3.1, mqtt",
    ];

    fn parse(lines: &[&str]) -> Result<Option<&'static str>, HandshakeError> {
        let text = lines.join("\r\n") + "\r\n\r\n";
        let parsed = Request::parse(text.as_bytes())?;
        Ok(parsed.map(|(request, length)| {
            assert_eq!(length, text.len());
            request.protocol
        }))
    }

    #[test]
    fn accepts_the_offered_protocol() {
        assert_eq!(parse(&LINES), Ok(Some("mqttv3.1")));
        let text = LINES.join("\r\n");
        for cut in 0..text.len() {
            assert_eq!(Request::parse(&text.as_bytes()[..cut]), Ok(None));
        }
    }

    #[test]
    fn refuses_what_is_not_an_mqtt_upgrade() {
        fn check(index: usize, line: &str, expect: HandshakeError) {
            let mut lines = LINES;
            lines[index] = line;
            assert_eq!(parse(&lines), Err(expect), "{line}");
        }
        check(0, "POST / HTTP/1.1", HandshakeError::BadRequest);
        check(0, "GET / HTTP/1.0", HandshakeError::BadRequest);
        check(0, "GET  HTTP/1.1", HandshakeError::BadRequest);
        check(1, "no colon", HandshakeError::BadRequest);
        check(2, "Upgrade: h2c", HandshakeError::BadRequest);
        check(3, "Connection: close", HandshakeError::BadRequest);
        check(4, "Sec-WebSocket-Key: short", HandshakeError::BadRequest);
        check(4, "X: y", HandshakeError::BadRequest);
        check(5, "Sec-WebSocket-Version: 8", HandshakeError::Version);
        check(6, "Sec-WebSocket-Protocol: amqp", HandshakeError::Protocol);
        check(6, "X: y", HandshakeError::Protocol);
    }

    #[test]
    fn the_head_is_bounded() {
        let mut endless = b"GET / HTTP/1.1\r\nA: ".to_vec();
        endless.resize(REQUEST_BYTES_MAX - 1, b'x');
        assert_eq!(Request::parse(&endless), Ok(None));
        endless.push(b'x');
        assert_eq!(Request::parse(&endless), Err(HandshakeError::HeadTooLarge));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(HEADER_COUNT_MAX + 1));
        assert_eq!(Request::parse(many.as_bytes()), Err(HandshakeError::HeadTooLarge));
    }

    #[test]
    fn errors_answer_in_http() {
        for (error, status) in [
            (HandshakeError::BadRequest, "400"),
            (HandshakeError::HeadTooLarge, "431"),
            (HandshakeError::Version, "426"),
            (HandshakeError::Protocol, "400"),
        ] {
            let mut out = BytesMut::new();
            error.put_answer(&mut out);
            assert_eq!(&out[9..12], status.as_bytes());
        }
    }
}
