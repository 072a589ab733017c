//! The Kafka protocol: its wire format and how its requests are served by `broker`. Sans-I/O: bytes
//! come in and go out as values; no socket, file, clock or other protocol is known here.
//!
//! [`KafkaSession`] is one connection, [`KafkaDialect`] reads Kafka's records for other
//! protocols, [`support()`] says what is served.

mod api;
pub mod codec;
pub mod config;
pub mod error;
mod fetch_session;
mod framing;
mod login;
pub mod message;
mod operation;
mod reply;
mod rights;
pub mod session;
pub mod support;
#[cfg(test)]
mod testing;
mod topic;

pub use message::{KafkaDialect, DIALECT};
pub use session::KafkaSession;
pub use support::support;
