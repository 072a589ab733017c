//! Plain passwords: what is kept of them (argon2id, RFC 9106), and checking one. A check costs tens of
//! milliseconds on purpose, so that it runs on a thread of its own and never on a shard's.

use super::scram::{Mechanism, Verifier};
use super::secret::{same_bytes, Secret, SecretRng};
use super::user::Verifiers;
use argon2::{Algorithm, Argon2, Block, Params, Version};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Memory in KiB, passes and lanes: the second of OWASP's equal choices for argon2id, the one that
/// wants the memory and costs least time.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const HASH_BYTES: usize = 32;
const SALT_BYTES: usize = 16;

/// What a stored hash may ask for: a record from elsewhere must not take the machine.
const MEMORY_KIB_MAX: u32 = 256 * 1024;
const PASSES_MAX: u32 = 16;

/// Longest password in bytes; longer ones are wrong without being looked at.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// An argon2id hash with what it was made with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswordHash {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash")
    }
}

impl PasswordHash {
    /// Costs what a check costs.
    pub fn new(password: &Secret, rng: &mut SecretRng) -> Self {
        let salt = rng.bytes::<SALT_BYTES>().to_vec();
        let (memory_kib, passes, lanes) = (MEMORY_KIB, PASSES, LANES);
        let mut made = PasswordHash { memory_kib, passes, lanes, salt, hash: Vec::new() };
        made.hash = made.hash_of(password).expect("our own parameters are sound");
        made
    }

    /// Of nobody; checking against it takes as long and never succeeds.
    fn decoy() -> Self {
        PasswordHash {
            memory_kib: MEMORY_KIB,
            passes: PASSES,
            lanes: LANES,
            salt: vec![0; SALT_BYTES],
            hash: Vec::new(),
        }
    }

    fn hash_of(&self, password: &Secret) -> Option<Vec<u8>> {
        if self.memory_kib > MEMORY_KIB_MAX || self.passes > PASSES_MAX {
            return None;
        }
        let params =
            Params::new(self.memory_kib, self.passes, self.lanes, Some(HASH_BYTES)).ok()?;
        let mut hash = vec![0; HASH_BYTES];
        let mut memory = vec![Block::default(); params.block_count()];
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into_with_memory(password.expose(), &self.salt, &mut hash, &mut memory)
            .ok()?;
        Some(hash)
    }

    fn is_of(&self, password: &Secret) -> bool {
        let made = self.hash_of(password);
        made.is_some_and(|made| same_bytes(&made, &self.hash))
    }
}

impl Verifiers {
    /// Everything that is kept of a password. Takes tens of milliseconds.
    pub fn of_password(password: &Secret, rng: &mut SecretRng) -> Self {
        let scram = |mechanism, rng: &mut SecretRng| {
            let salt = rng.bytes::<SALT_BYTES>().to_vec();
            Verifier::of_password(mechanism, password, salt, super::scram::ITERATIONS)
        };
        Verifiers {
            password: Some(PasswordHash::new(password, rng)),
            scram_sha_256: Some(scram(Mechanism::Sha256, rng)),
            scram_sha_512: Some(scram(Mechanism::Sha512, rng)),
        }
    }
}

/// Whether a password is a user's: everything that takes, to be run elsewhere. Takes as long for a user
/// who does not exist or has no password.
#[derive(Debug)]
pub struct PasswordCheck {
    /// Returned with the result.
    pub ticket: u64,
    pub(crate) password: Secret,
    /// `None` for a user who does not exist.
    pub(crate) verifiers: Option<Verifiers>,
}

impl PasswordCheck {
    pub fn new(ticket: u64, password: Secret, verifiers: Option<Verifiers>) -> Self {
        PasswordCheck { ticket, password, verifiers }
    }

    pub fn is_right(&self) -> bool {
        let is_possible =
            !self.password.is_empty() && self.password.expose().len() <= PASSWORD_BYTES_MAX;
        let verifiers = self.verifiers.as_ref().filter(|_| is_possible);
        match verifiers {
            Some(Verifiers { password: Some(hash), .. }) => hash.is_of(&self.password),
            // Set by a Kafka client, which sends what SCRAM needs and not the password.
            Some(Verifiers { scram_sha_256: Some(verifier), .. }) => {
                verifier.is_of(Mechanism::Sha256, &self.password)
            }
            Some(Verifiers { scram_sha_512: Some(verifier), .. }) => {
                verifier.is_of(Mechanism::Sha512, &self.password)
            }
            _ => PasswordHash::decoy().is_of(&self.password),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rng() -> SecretRng {
        SecretRng::new(&[7; 32])
    }

    fn is_right(password: &str, verifiers: Option<Verifiers>) -> bool {
        PasswordCheck::new(1, Secret::new(password), verifiers).is_right()
    }

    #[test]
    fn a_password_is_right_by_whatever_is_kept_of_it() {
        let whole = Verifiers::of_password(&Secret::new("right"), &mut rng());
        let scram_only = Verifiers { password: None, ..whole.clone() };
        let sha_512_only = Verifiers { scram_sha_256: None, ..scram_only.clone() };
        for verifiers in [whole, scram_only, sha_512_only] {
            assert!(is_right("right", Some(verifiers.clone())));
            assert!(!is_right("wrong", Some(verifiers.clone())));
            assert!(!is_right("", Some(verifiers)));
        }
    }

    #[test]
    fn nobody_and_a_user_without_a_password_are_never_right() {
        for password in ["", "x", "Secret"] {
            assert!(!is_right(password, None));
            assert!(!is_right(password, Some(Verifiers::default())));
        }
        let long = "x".repeat(PASSWORD_BYTES_MAX + 1);
        let verifiers = Verifiers::of_password(&Secret::new(long.clone()), &mut rng());
        assert!(!is_right(&long, Some(verifiers)));
    }

    #[test]
    fn a_record_that_asks_for_the_machine_is_wrong_at_once() {
        let mut hash = PasswordHash::new(&Secret::new("right"), &mut rng());
        hash.memory_kib = u32::MAX;
        assert!(!hash.is_of(&Secret::new("right")));
    }

    #[test]
    fn nothing_that_is_kept_prints() {
        let verifiers = Verifiers::of_password(&Secret::new("canary"), &mut rng());
        let printed = format!("{verifiers:?}");
        assert!(!printed.contains('['), "{printed}");
    }
}
