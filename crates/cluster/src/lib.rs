//! Composes the log and the meaning of messaging into a node: raft groups, metadata on every shard, and
//! the [`Shard`] that protocol sessions run on. Knows no protocol and does no I/O.

pub mod consensus;
pub mod doctor;
pub mod entry;
pub mod group;
pub mod layout;
pub mod mail;
pub mod pages;
pub mod peer;
pub mod raft;
pub mod shard;
pub mod stream;

pub use consensus::{GroupPosition, Voters};
pub use layout::Layout;
pub use mail::Mail;
pub use peer::PeerMail;
pub use shard::{Recovery, Shard, ShardConfig, ShardOpenError};
