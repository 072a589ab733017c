//! What a message carries: a value that no other message of any run carries, then a pattern that only
//! this value has, all of it under a checksum, so that a reader can tell damage from strangers.
//!
//! ```text
//! 0        4     8         12        16    20    24
//! | "KoW1" | run | process | counter | key | crc | pattern ...
//! ```

use koine_base::checksum::crc32c;
use koine_base::rng::Rng;

const MAGIC: &[u8; 4] = b"KoW1";
/// Smallest body.
pub const HEAD_BYTES: usize = 24;
const CRC_POSITION: usize = 20;

/// Names one write of a run: a process numbers its own from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value {
    pub process: u32,
    pub counter: u32,
}

impl Value {
    /// Processes below 2^20.
    fn seed(self) -> u64 {
        u64::from(self.process) << 32 | u64::from(self.counter)
    }

    /// The body that carries it, of `bytes`, or as many as the head takes.
    pub fn body(self, run: u32, key: u32, bytes: usize) -> Vec<u8> {
        let mut body = Vec::with_capacity(bytes.max(HEAD_BYTES) + 8);
        body.extend_from_slice(MAGIC);
        for part in [run, self.process, self.counter, key, 0] {
            body.extend_from_slice(&part.to_be_bytes());
        }
        let mut rng = Rng::new(self.seed());
        while body.len() < bytes {
            body.extend_from_slice(&rng.next_u64().to_be_bytes());
        }
        body.truncate(bytes.max(HEAD_BYTES));
        let crc = crc32c(&body);
        body[CRC_POSITION..HEAD_BYTES].copy_from_slice(&crc.to_be_bytes());
        body
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.process, self.counter)
    }
}

/// What a reader found in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Value(Value),
    /// Of another run.
    Stray,
    /// Nothing that any writer wrote.
    Damaged,
}

impl Found {
    pub fn in_body(run: u32, body: &[u8]) -> Found {
        let Some((head, _)) = body.split_first_chunk::<HEAD_BYTES>() else {
            return Found::Damaged;
        };
        let word =
            |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let mut clean = body.to_vec();
        clean[CRC_POSITION..HEAD_BYTES].fill(0);
        if &head[..4] != MAGIC || crc32c(&clean) != word(CRC_POSITION) {
            return Found::Damaged;
        }
        if word(4) != run {
            return Found::Stray;
        }
        Found::Value(Value { process: word(8), counter: word(12) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_says_its_value_and_nothing_once_a_byte_differs() {
        let value = Value { process: 3, counter: 70_000 };
        for bytes in [0, HEAD_BYTES, 25, 1000] {
            let body = value.body(9, 4, bytes);
            assert_eq!(body.len(), bytes.max(HEAD_BYTES));
            assert_eq!(Found::in_body(9, &body), Found::Value(value));
            assert_eq!(Found::in_body(8, &body), Found::Stray);
            for at in 0..body.len() {
                let mut other = body.clone();
                other[at] ^= 0x10;
                assert_eq!(Found::in_body(9, &other), Found::Damaged, "byte {at} of {bytes}");
            }
            assert_eq!(Found::in_body(9, &body[..body.len() - 1]), Found::Damaged);
        }
    }
}
