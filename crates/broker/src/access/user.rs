//! Users: what they are known by, what is kept of their passwords, and their limits.

use super::password::PasswordHash;
use super::scram::{Mechanism, Verifier};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// May administer the cluster: users, rules, topics of everybody, the node itself. Says nothing about
/// messages.
pub const ADMINISTRATOR: &str = "administrator";
/// May see everything about the cluster and change nothing.
pub const MONITORING: &str = "monitoring";
/// May publish with another user's name in AMQP's `user-id` property.
pub const IMPERSONATOR: &str = "impersonator";

/// Tags of one user; RabbitMQ's bound.
pub const TAGS_MAX: usize = 32;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct User {
    pub verifiers: Verifiers,
    pub tags: BTreeSet<String>,
    pub limits: UserLimits,
    /// Changes with the password: connections that came with the one before are ended.
    pub generation: u64,
}

/// What is kept of a password. Without any the user can log in by certificate only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verifiers {
    pub password: Option<PasswordHash>,
    pub scram_sha_256: Option<Verifier>,
    pub scram_sha_512: Option<Verifier>,
}

/// `None` is without limit; counted over the whole node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserLimits {
    pub connections_max: Option<u32>,
    /// AMQP channels of one connection of the user.
    pub channels_max: Option<u32>,
}

impl User {
    pub fn is_tagged(&self, tag: &str) -> bool {
        self.tags.contains(tag)
    }
}

impl Verifiers {
    pub fn scram(&self, mechanism: Mechanism) -> Option<&Verifier> {
        match mechanism {
            Mechanism::Sha256 => self.scram_sha_256.as_ref(),
            Mechanism::Sha512 => self.scram_sha_512.as_ref(),
        }
    }

    pub fn scram_mut(&mut self, mechanism: Mechanism) -> &mut Option<Verifier> {
        match mechanism {
            Mechanism::Sha256 => &mut self.scram_sha_256,
            Mechanism::Sha512 => &mut self.scram_sha_512,
        }
    }
}
