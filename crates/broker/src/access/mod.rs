//! Who may do what: users, their rules, and the one question that every protocol asks,
//! [`Access::authorize`]. Part of group 0's metadata: every shard has a copy, and asking it costs no hop.
//!
//! Three views of one set of rules, each the field's own: permissions (RabbitMQ's configure, write and
//! read patterns, with topic permissions on top), access control lists (Kafka's), and rules on subjects
//! (MQTT filters with the user's name and client id in them). What none of them allows is refused, and
//! what a list denies is refused whatever else allows it.
//!
//! Nothing here looks at a clock, draws a random number or keeps a password: what is kept of one cannot
//! be turned back into it, and prints as nothing.

mod acl;
mod authorize;
mod command;
mod grants;
mod password;
mod pattern;
pub mod scram;
mod secret;
#[cfg(test)]
mod tests;
mod user;

pub use acl::{Acl, AclKind, AclPattern, Effect, Operation};
pub use authorize::{
    Action, Principal, Resource, CLUSTER_NAME, DEFAULT_EXCHANGE, SUBJECT_EXCHANGE,
};
pub use command::{AccessCommand, AccessLimits};
pub use grants::Grants;
pub use password::{PasswordCheck, PasswordHash};
pub use pattern::{Pattern, PatternError, PATTERN_BYTES_MAX};
pub use secret::{same_bytes, Secret, SecretRng};
pub use user::{User, UserLimits, Verifiers, ADMINISTRATOR, IMPERSONATOR, MONITORING, TAGS_MAX};

use crate::metadata::NamespaceId;
use pattern::Compiled;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Configure, write and read patterns of one user in one namespace, over the names of its topics,
/// queues, exchanges and consumer groups alike. An empty pattern matches nothing but the empty name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permissions {
    pub configure: Pattern,
    pub write: Pattern,
    pub read: Pattern,
}

/// Patterns over the routing keys of one topic exchange (subjects, for `amq.topic`), asked after the
/// exchange itself is allowed. `{username}`, `{vhost}` and `{client_id}` stand for the connection's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicPermissions {
    pub write: Pattern,
    pub read: Pattern,
}

/// What becomes durable of access control, as part of the metadata.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DurableAccess {
    /// A user was made once. Never taken back: a node whose users are all gone lets nobody in.
    pub is_secured: bool,
    pub users: BTreeMap<String, User>,
    pub permissions: BTreeMap<(String, NamespaceId), Permissions>,
    /// By user, namespace and exchange.
    pub topic_permissions: BTreeMap<(String, NamespaceId, String), TopicPermissions>,
    pub acls: BTreeSet<Acl>,
    /// Of the next user or password; never reused.
    pub next_generation: u64,
    /// Makes the salts that users who do not exist seem to have; drawn with the first user.
    pub decoy_key: Vec<u8>,
}

/// Users and rules, as they stand on this shard.
#[derive(Debug, Default)]
pub struct Access {
    durable: DurableAccess,
    /// Grows with each change.
    epoch: u64,
    // Derived, rebuilt from `durable`:
    compiled: HashMap<Pattern, Compiled>,
    /// Lists by user, and `*` for everybody.
    acls_of: HashMap<String, Vec<Acl>>,
}

impl Access {
    pub(crate) fn from_durable(durable: DurableAccess) -> Self {
        let mut access = Access { durable, ..Access::default() };
        access.rebuild();
        access
    }

    /// This takes the place of `before`.
    pub(crate) fn follow(&mut self, before: &Access) {
        self.epoch = before.epoch + 1;
    }

    pub(crate) fn durable(&self) -> &DurableAccess {
        &self.durable
    }

    /// False: there were never any users, and everybody may do everything. Such a node listens on
    /// loopback only, unless told otherwise.
    pub fn is_secured(&self) -> bool {
        self.durable.is_secured
    }

    /// Grows with each change of users or rules: verdicts of an earlier epoch are void.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    pub fn user(&self, name: &str) -> Option<&User> {
        self.durable.users.get(name)
    }

    /// In order of name.
    pub fn users(&self) -> impl Iterator<Item = (&str, &User)> {
        self.durable.users.iter().map(|(name, user)| (name.as_str(), user))
    }

    pub fn permissions(&self) -> impl Iterator<Item = (&str, NamespaceId, &Permissions)> {
        let rows = self.durable.permissions.iter();
        rows.map(|((user, namespace), row)| (user.as_str(), *namespace, row))
    }

    /// User, namespace, exchange and patterns.
    pub fn topic_permissions(
        &self,
    ) -> impl Iterator<Item = (&str, NamespaceId, &str, &TopicPermissions)> {
        let rows = self.durable.topic_permissions.iter();
        rows.map(|((user, namespace, exchange), row)| {
            (user.as_str(), *namespace, exchange.as_str(), row)
        })
    }

    pub fn acls(&self) -> impl Iterator<Item = &Acl> {
        self.durable.acls.iter()
    }

    /// Whether who logged in so long ago still is who it was: its user is there, and has the password it
    /// came with. Without users everybody is.
    pub fn still_knows(&self, who: &Principal) -> bool {
        match &who.user {
            None => !self.is_secured(),
            Some(name) => {
                let user = self.durable.users.get(&**name);
                user.is_some_and(|user| user.generation == who.generation)
            }
        }
    }

    fn rebuild(&mut self) {
        self.epoch += 1;
        self.acls_of.clear();
        for acl in &self.durable.acls {
            self.acls_of.entry(acl.user.clone()).or_default().push(acl.clone());
        }
        let rows = self.durable.permissions.values();
        let mut patterns: Vec<&Pattern> =
            rows.flat_map(|row| [&row.configure, &row.write, &row.read]).collect();
        let rows = self.durable.topic_permissions.values();
        patterns.extend(rows.flat_map(|row| [&row.write, &row.read]));
        patterns.sort_unstable();
        patterns.dedup();
        let mut kept = std::mem::take(&mut self.compiled);
        for pattern in patterns.into_iter().filter(|pattern| !pattern.has_variables()) {
            let compiled = kept.remove(pattern).or_else(|| pattern.compile().ok());
            if let Some(compiled) = compiled {
                self.compiled.insert(pattern.clone(), compiled);
            }
        }
    }
}
