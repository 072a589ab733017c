//! Frames of the three protocols as a client cuts, builds and reads them: written from the
//! specifications, sharing nothing with the server's codecs, so that neither tests itself. They hold
//! no state and must never allocate by a length that a peer merely claims.

pub mod amqp;
pub mod kafka;
pub mod mqtt;
pub mod wire;

use std::fmt;

/// The broker's bytes are not what the protocol allows; what was being read is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a malformed {}", self.0)
    }
}
