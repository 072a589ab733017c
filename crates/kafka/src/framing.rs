//! Cuts the received bytes into request frames. A length is believed only after the first bytes
//! behind it look like a request that is served, so that a wrong protocol or an attack is told apart
//! before anything is buffered for it.

use crate::codec::header::{RequestHead, REQUEST_HEAD_BYTES};
use crate::codec::{Api, ApiKey};
use bytes::{Buf, Bytes, BytesMut};
use koine_broker::access::Secret;

/// Bytes of any request but Produce, which has the node's own limit. The largest honest ones are SyncGroup and JoinGroup of groups with
/// very many partitions; they stay below a tenth of this.
pub const REQUEST_BYTES_MAX: usize = 16 << 20;

const LENGTH_BYTES: usize = 4;

/// Why the connection must be closed. There is no answer that the peer could read: it has not
/// spoken a known request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// Negative, or too short for a request header.
    LengthTooShort,
    /// Over the limit of the request, or of any request.
    LengthTooLong,
    /// A request that is not served.
    UnknownApiKey(i16),
    /// A version that is not served. Not used for ApiVersions, which has an answer for that.
    UnsupportedVersion { key: ApiKey, version: i16 },
}

/// A whole request, header included and length taken off. Does not print: it may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    pub api: &'static Api,
    pub head: RequestHead,
    pub bytes: Bytes,
}

/// Takes the next request off the front of `buffer`; `None` if it is not complete yet. No request is
/// longer than `request_bytes_max`.
pub fn next_frame(
    buffer: &mut BytesMut,
    request_bytes_max: usize,
) -> Result<Option<Frame>, FrameError> {
    let Some(length) = buffer.first_chunk::<LENGTH_BYTES>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*length) as usize;
    if length > request_bytes_max {
        return Err(FrameError::LengthTooLong);
    }
    // The client id is at least its two bytes of length.
    if length < REQUEST_HEAD_BYTES + 2 {
        return Err(FrameError::LengthTooShort);
    }
    let Ok(head) = RequestHead::parse(&buffer[LENGTH_BYTES..]) else {
        return Ok(None);
    };
    let api = Api::find(head.api_key).ok_or(FrameError::UnknownApiKey(head.api_key))?;
    if !api.serves(head.api_version) && api.key != ApiKey::ApiVersions {
        return Err(FrameError::UnsupportedVersion { key: api.key, version: head.api_version });
    }
    if api.key != ApiKey::Produce && length > REQUEST_BYTES_MAX {
        return Err(FrameError::LengthTooLong);
    }
    if buffer.len() < LENGTH_BYTES + length {
        return Ok(None);
    }
    buffer.advance(LENGTH_BYTES);
    Ok(Some(Frame { api, head, bytes: buffer.split_to(length).freeze() }))
}

/// Takes a bare token of a login off the front of `buffer`, its length taken off; `None` if it is not
/// complete yet.
pub fn next_token(
    buffer: &mut BytesMut,
    token_bytes_max: usize,
) -> Result<Option<Secret>, FrameError> {
    let Some(length) = buffer.first_chunk::<LENGTH_BYTES>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*length) as usize;
    if length > token_bytes_max {
        return Err(FrameError::LengthTooLong);
    }
    if buffer.len() < LENGTH_BYTES + length {
        return Ok(None);
    }
    buffer.advance(LENGTH_BYTES);
    Ok(Some(Secret::new(&buffer.split_to(length)[..])))
}

/// The request at the front of `buffer`, if enough of it is there to tell.
pub fn peek_api(buffer: &[u8]) -> Option<ApiKey> {
    let head = RequestHead::parse(buffer.get(LENGTH_BYTES..)?).ok()?;
    Api::find(head.api_key).map(|api| api.key)
}

/// The size of the request at the front of `buffer` if it is not there in full, else 0. To be asked
/// after [`next_frame`], which has checked the length.
pub fn announced_bytes(buffer: &[u8]) -> usize {
    let Some(length) = buffer.first_chunk::<LENGTH_BYTES>() else {
        return 0;
    };
    let size = LENGTH_BYTES + u32::from_be_bytes(*length) as usize;
    match size > buffer.len() {
        true => size,
        false => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(length: u32, key: i16, version: i16) -> BytesMut {
        let mut out = BytesMut::new();
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&key.to_be_bytes());
        out.extend_from_slice(&version.to_be_bytes());
        out.extend_from_slice(&[0, 0, 0, 7, 0xFF, 0xFF]);
        out
    }

    #[test]
    fn frames_come_out_whole_and_in_order() {
        let mut two = bytes(10, 18, 0);
        two.extend_from_slice(&bytes(10, 3, 0));
        let mut buffer = BytesMut::new();
        let mut keys = Vec::new();
        for byte in two {
            buffer.extend_from_slice(&[byte]);
            while let Some(frame) = next_frame(&mut buffer, 100 << 20).expect("well formed") {
                assert_eq!(frame.bytes.len(), 10);
                keys.push(frame.api.key);
            }
        }
        assert_eq!(keys, [ApiKey::ApiVersions, ApiKey::Metadata]);
        assert!(buffer.is_empty());
    }

    #[test]
    fn nonsense_is_refused_at_once() {
        let check = |mut buffer: BytesMut, expect| {
            assert_eq!(next_frame(&mut buffer, 100 << 20).map(|frame| frame.is_some()), expect);
        };
        check(bytes(9, 18, 0), Err(FrameError::LengthTooShort));
        check(bytes(u32::MAX, 18, 0), Err(FrameError::LengthTooLong));
        check(bytes(10, 9999, 0), Err(FrameError::UnknownApiKey(9999)));
        check(bytes(10, -1, 0), Err(FrameError::UnknownApiKey(-1)));
        let key = ApiKey::Metadata;
        check(bytes(10, 3, 99), Err(FrameError::UnsupportedVersion { key, version: 99 }));
        check(bytes(10, 18, 99), Ok(true));
        check(bytes(50 << 20, 3, 0), Err(FrameError::LengthTooLong));
        check(bytes(50 << 20, 0, 9), Ok(false));
        // Other protocols: HTTP, TLS, AMQP 0-9-1, MQTT.
        for other in ["GET / HTTP/1.1\r\n", "\x16\x03\x01\x02\x00\x01", "AMQP\x00\x00\x09\x01"] {
            check(BytesMut::from(other), Err(FrameError::LengthTooLong));
        }
        check(BytesMut::from(&b"\x10\x0c\x00\x04MQTT"[..]), Err(FrameError::LengthTooLong));
    }
}
