//! The meaning of messaging, as pure state machines: what a record is, where a publish goes, who has
//! consumed what. Knows no protocol (they know it), no storage and no I/O.

pub mod access;
pub mod batch;
pub mod cursor;
pub mod limits;
pub mod membership;
pub mod message;
pub mod metadata;
pub mod offsets;
pub mod once;
pub mod overload;
pub mod producers;
pub mod publish;
mod range_set;
pub mod retained;
pub mod router;
pub mod session;
pub mod snapshot;
