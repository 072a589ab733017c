//! Answers on the wire: one frame per request, in the order of the requests.

use crate::codec::header::{self, RequestHead};
use crate::codec::{ApiKey, Writer};
use bytes::BufMut;
use koine_base::Rope;

/// Where the answer of one request goes and in which version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    pub key: ApiKey,
    pub version: i16,
    pub correlation_id: i32,
}

impl Reply {
    pub fn to(key: ApiKey, head: RequestHead) -> Self {
        Reply { key, version: head.api_version, correlation_id: head.correlation_id }
    }

    /// Appends a whole frame to `wire`; `encode` writes the message in the request's version.
    pub fn send(&self, wire: &mut Rope, encode: impl FnOnce(&mut Writer<'_>, i16)) {
        let tail = wire.tail();
        let start = tail.len();
        tail.put_u32(0);
        let mut w = Writer::new(tail);
        header::encode_response(&mut w, self.key, self.version, self.correlation_id);
        encode(&mut w, self.version);
        let length = u32::try_from(tail.len() - start - 4).expect("an answer is below 2 GiB");
        tail[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }
}
