//! Kafka: size-prefixed requests and answers. Requests are of versions before the "flexible" ones,
//! which Kafka 4 still serves.

use super::wire::{Put, Reader};

/// API keys.
pub mod key {
    pub const PRODUCE: i16 = 0;
    pub const FETCH: i16 = 1;
    pub const LIST_OFFSETS: i16 = 2;
    pub const METADATA: i16 = 3;
    pub const OFFSET_COMMIT: i16 = 8;
    pub const OFFSET_FETCH: i16 = 9;
    pub const FIND_COORDINATOR: i16 = 10;
    pub const JOIN_GROUP: i16 = 11;
    pub const HEARTBEAT: i16 = 12;
    pub const LEAVE_GROUP: i16 = 13;
    pub const SYNC_GROUP: i16 = 14;
    pub const API_VERSIONS: i16 = 18;
    pub const CREATE_TOPICS: i16 = 19;
    pub const DELETE_TOPICS: i16 = 20;
    pub const INIT_PRODUCER_ID: i16 = 22;
}

/// Bytes from the frame's start to its correlation id: size, key, version.
pub const CORRELATION_POSITION: usize = 8;

/// Begins a request; [`finish`] writes its size.
pub fn request(key: i16, version: i16, correlation: i32, client_id: &str) -> Vec<u8> {
    let mut frame = vec![0; 4];
    frame.put_i16(key);
    frame.put_i16(version);
    frame.put_i32(correlation);
    frame.put_short_text(client_id);
    frame
}

pub fn finish(mut frame: Vec<u8>) -> Vec<u8> {
    let size = (frame.len() - 4) as i32;
    frame[..4].copy_from_slice(&size.to_be_bytes());
    frame
}

/// Size of the frame at the front, its own length field included.
pub fn frame_bytes(input: &[u8]) -> Option<usize> {
    let size = input.first_chunk::<4>()?;
    // A negative size becomes one that no limit allows.
    Some((u32::from_be_bytes(*size) as usize).saturating_add(4))
}

/// The first whole frame's content behind its size, and the bytes it takes.
pub fn first_frame<'a>(input: &'a [u8], what: &'static str) -> Option<(Reader<'a>, usize)> {
    let bytes = frame_bytes(input)?;
    Some((Reader::new(input.get(4..bytes)?, what), bytes))
}
