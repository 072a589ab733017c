//! What every other crate stands on: ids, time, the disk trait, checksums, byte ropes, seeded
//! randomness. Nothing here does I/O; the traits are implemented by `server` (real) and `sim` (fake).

pub mod checksum;
pub mod disk;
pub mod ids;
pub mod rng;
pub mod rope;
pub mod time;

pub use ids::{ConnectionId, GroupId, NodeId, ShardId, StreamId, TopicId};
pub use rope::Rope;
pub use time::{Moment, Now, Timestamp};
