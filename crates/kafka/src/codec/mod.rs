//! Bytes of the Kafka protocol to plain structs and back: headers, primitives, one struct per
//! message. Knows nothing of topics, groups or sessions, and never panics on what a peer sent.
//!
//! Most messages are generated from `schema/*.txt` (`cargo xtask codegen`); Produce and Fetch are
//! written by hand because record batches must not be copied.

pub mod fetch;
// The generator writes every element as a closure, whether it needs one or not.
#[allow(clippy::redundant_closure)]
pub mod generated;
pub mod header;
pub mod produce;
mod reader;
#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
pub(crate) mod tests;
mod writer;

pub use generated::{ApiKey, APIS};
pub use header::RequestHeader;
pub use reader::{Malformed, Reader};
#[cfg(test)]
pub(crate) use tests::{known_frames, reencode_any};
pub use writer::Writer;

/// The longest string that the protocol can carry in every version: flexible versions could carry
/// more, but what came in through one may have to leave through the other.
pub const STRING_BYTES_MAX: usize = i16::MAX as usize;

/// What is advertised for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Api {
    pub key: ApiKey,
    /// As the specification spells it.
    pub name: &'static str,
    pub version_min: i16,
    pub version_max: i16,
    /// The first version with compact lengths and tagged fields; `i16::MAX` if there is none.
    pub flexible_from: i16,
}

impl Api {
    /// `None` for a key that is not advertised.
    pub fn find(key: i16) -> Option<&'static Api> {
        APIS.iter().find(|api| api.key as i16 == key)
    }

    pub fn is_flexible(&self, version: i16) -> bool {
        version >= self.flexible_from
    }

    pub fn serves(&self, version: i16) -> bool {
        (self.version_min..=self.version_max).contains(&version)
    }
}

impl ApiKey {
    /// The advertised versions of this request.
    pub fn api(self) -> &'static Api {
        Api::find(self as i16).expect("every ApiKey has a line in APIS")
    }
}
