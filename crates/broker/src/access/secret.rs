//! What must not be seen, and what must not be guessed: passwords on their way, comparison that takes
//! the same time whatever is compared, and random bytes for nonces and salts.

use ring::hmac;
use std::fmt;

/// A password on its way from a peer. Prints as nothing, and its bytes are overwritten when it goes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Secret(bytes.into())
    }

    /// The password itself: for checking it, never for showing it.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.fill(0);
        // Keeps the writes: something may still look.
        std::hint::black_box(&self.0);
    }
}

/// Whether two byte strings are equal, in a time that depends on their lengths alone.
pub fn same_bytes(a: &[u8], b: &[u8]) -> bool {
    let differing = a.iter().zip(b).fold(0, |differing, (a, b)| differing | (a ^ b));
    a.len() == b.len() && std::hint::black_box(differing) == 0
}

/// Random bytes that nobody can foretell who does not know the seed: HMAC-SHA-256 in counter mode. The
/// host draws the seed from the system; the simulator from its own.
pub struct SecretRng {
    key: hmac::Key,
    counter: u64,
}

impl SecretRng {
    pub fn new(seed: &[u8; 32]) -> Self {
        SecretRng { key: hmac::Key::new(hmac::HMAC_SHA256, seed), counter: 0 }
    }

    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        for chunk in bytes.chunks_mut(32) {
            self.counter += 1;
            let block = hmac::sign(&self.key, &self.counter.to_be_bytes());
            chunk.copy_from_slice(&block.as_ref()[..chunk.len()]);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_prints_as_nothing() {
        assert_eq!(format!("{:?}", Secret::new("canary")), "Secret");
    }

    #[test]
    fn bytes_are_the_same_or_not() {
        assert!(same_bytes(b"abc", b"abc") && same_bytes(b"", b""));
        assert!(
            !same_bytes(b"abc", b"abd") && !same_bytes(b"abc", b"ab") && !same_bytes(b"", b"a")
        );
    }

    #[test]
    fn random_bytes_do_not_repeat_and_depend_on_the_seed() {
        let (mut a, mut b) = (SecretRng::new(&[1; 32]), SecretRng::new(&[2; 32]));
        let first: [u8; 40] = a.bytes();
        assert_ne!(first, a.bytes());
        assert_ne!(first, b.bytes());
        assert_ne!(first[..8], first[32..]);
        assert_eq!(first, SecretRng::new(&[1; 32]).bytes());
    }
}
