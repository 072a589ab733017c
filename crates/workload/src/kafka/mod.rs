//! Kafka clients: a producer, plain or idempotent, and a consumer that reads by offset and commits.

mod batch;
mod calls;
mod reader;
mod requests;
mod writer;

pub use reader::{Partition, Reader};
pub use writer::{Target, Writer};

/// A topic that a client makes.
#[derive(Clone, Debug)]
pub struct Topic {
    pub name: String,
    pub partition_count: i32,
}

/// Error codes that clients act on.
mod code {
    pub const NONE: i16 = 0;
    pub const OFFSET_OUT_OF_RANGE: i16 = 1;
    pub const UNKNOWN_TOPIC: i16 = 3;
    pub const MESSAGE_TOO_LARGE: i16 = 10;
    pub const TOPIC_ALREADY_EXISTS: i16 = 36;
    pub const OUT_OF_ORDER_SEQUENCE: i16 = 45;
    pub const DUPLICATE_SEQUENCE: i16 = 46;
    pub const INVALID_PRODUCER_EPOCH: i16 = 47;
    pub const UNKNOWN_PRODUCER: i16 = 59;
    pub const INVALID_RECORD: i16 = 87;
}
