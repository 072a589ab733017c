//! The storage of one shard: a write-ahead log that carries many raft groups, a cache of its tail, and
//! segments for what is still live when a WAL file is full.
//!
//! Sans-I/O: [`Log`] never touches a disk. It hands out [`IoRequest`]s, whoever runs the shard executes
//! them with [`execute`] on a disk thread, and gives each [`IoResult`] back to [`Log::complete`]. Only
//! [`Log::open`] and [`Replay`] read the disk directly; they run before the shard does.
//!
//! What it must never do: report a frame as persisted that a power cut could lose (unless the frame
//! asked for less), hand out bytes that fail a checksum, cut off a damaged log anywhere but at a tail
//! that provably was never acknowledged, or hold memory in proportion to the backlog.
//!
//! Formats on disk: `docs/internals/log-format.md`, code in `format.rs`.

mod batch;
mod cache;
mod checkpoint;
mod checkpointing;
mod config;
mod error;
mod format;
mod index_cache;
mod inspect;
mod io_plan;
mod log;
mod manifest;
mod mend;
mod open;
mod read;
mod reading;
mod repair;
mod replay;
mod scan;
mod scrub;
mod segment;
mod segment_writer;
mod stats;
mod stream;
mod stream_plan;
mod timestamp;
mod wal;
mod wal_files;

#[cfg(test)]
mod tests;

pub use config::{Config, FRAME_PAYLOAD_BYTES_MAX};
pub use error::{CorruptReason, LogError, OpenError, ReadError};
pub use format::{WalPosition, FRAME_HEADER_BYTES};
pub use inspect::{bytes_to_inspect, inspect, Fault, Finding, Inspection, Lost, Seen};
pub use io_plan::{execute, IoClass, IoRequest, IoResult};
pub use log::{
    Bounds, Completion, GroupCheckpoint, Log, Placed, Placement, Pressure, ReadOutcome, ReadToken,
    TimestampOutcome,
};
pub use mend::{hole, rebuild_wal_header, replace_frame, DamagedFrame, PlaceHolder, HOLE_BYTES};
pub use repair::Repair;
pub use replay::{Replay, ReplayFrame, Replayed};
pub use stats::Stats;
pub use wal::{Appended, Frame, FrameLocation, Persisted};
