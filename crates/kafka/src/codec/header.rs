//! What stands before each message.
//!
//! ```text
//! request:  length i32 | api key i16 | version i16 | correlation id i32 | client id string | [tags]
//! response: length i32 | correlation id i32 | [tags]
//! ```
//!
//! The tags are there if the message's version is flexible, save for the response to ApiVersions.

use super::{Api, ApiKey, Malformed, Reader, Writer};
use bytes::Bytes;

/// Bytes before the client id: enough to know what is asked and to refuse it.
pub const REQUEST_HEAD_BYTES: usize = 8;

/// The part that can be read without knowing the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead {
    pub api_key: i16,
    pub api_version: i16,
    pub correlation_id: i32,
}

impl RequestHead {
    /// From the first [`REQUEST_HEAD_BYTES`] after the length.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let &[k0, k1, v0, v1, c0, c1, c2, c3, ..] = bytes else {
            return Err(Malformed::Truncated);
        };
        Ok(RequestHead {
            api_key: i16::from_be_bytes([k0, k1]),
            api_version: i16::from_be_bytes([v0, v1]),
            correlation_id: i32::from_be_bytes([c0, c1, c2, c3]),
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader<'a> {
    pub head: RequestHead,
    /// Classic encoding even in flexible versions.
    pub client_id: Option<&'a str>,
}

/// Reads the header of a request of `api` from the start of `frame` (after the length).
/// The reader is left at the first field of the message.
pub fn decode_request<'a>(
    frame: &'a Bytes,
    api: &Api,
) -> Result<(RequestHeader<'a>, Reader<'a>), Malformed> {
    let mut r = Reader::new(frame);
    let head = RequestHead { api_key: r.i16()?, api_version: r.i16()?, correlation_id: r.i32()? };
    let client_id = r.nullable_str(false)?;
    if api.is_flexible(head.api_version) {
        r.skip_tags()?;
    }
    Ok((RequestHeader { head, client_id }, r))
}

/// The response header after the length.
pub fn encode_response(w: &mut Writer<'_>, key: ApiKey, version: i16, correlation_id: i32) {
    w.i32(correlation_id);
    if key != ApiKey::ApiVersions && key.api().is_flexible(version) {
        w.no_tags();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;

    #[test]
    fn flexible_requests_have_tags_after_a_classic_client_id() {
        let frame = Bytes::from_static(&[0, 3, 0, 9, 0, 0, 0, 7, 0, 1, b'c', 1, 0, 1, 0xEE, 0x55]);
        let (header, mut r) = decode_request(&frame, ApiKey::Metadata.api()).expect("well formed");
        let head = RequestHead { api_key: 3, api_version: 9, correlation_id: 7 };
        assert_eq!(header, RequestHeader { head, client_id: Some("c") });
        assert_eq!(r.i8(), Ok(0x55));
        assert_eq!(RequestHead::parse(&frame), Ok(head));
        assert_eq!(RequestHead::parse(&frame[..7]), Err(Malformed::Truncated));
    }

    #[test]
    fn old_requests_have_no_tags_and_may_have_no_client_id() {
        let frame = Bytes::from_static(&[0, 3, 0, 8, 0, 0, 0, 7, 0xFF, 0xFF, 0x55]);
        let (header, mut r) = decode_request(&frame, ApiKey::Metadata.api()).expect("well formed");
        assert_eq!(header.client_id, None);
        assert_eq!(r.i8(), Ok(0x55));
    }

    #[test]
    fn api_versions_is_answered_without_tags() {
        let check = |key, version, expect: &[u8]| {
            let mut out = BytesMut::new();
            encode_response(&mut Writer::new(&mut out), key, version, 1);
            assert_eq!(&out[..], expect);
        };
        check(ApiKey::ApiVersions, 3, &[0, 0, 0, 1]);
        check(ApiKey::Metadata, 9, &[0, 0, 0, 1, 0]);
        check(ApiKey::Metadata, 8, &[0, 0, 0, 1]);
        check(ApiKey::OffsetDelete, 0, &[0, 0, 0, 1]);
    }
}
