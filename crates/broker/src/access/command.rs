//! Changes of users and rules, as commands of group 0. They carry what is kept of a password, never the
//! password.

use super::acl::{Acl, AclKind, AclPattern, ANY};
use super::scram::{Mechanism, Verifier, ITERATIONS_MAX, ITERATIONS_MIN};
use super::user::{User, UserLimits, Verifiers, TAGS_MAX};
use super::{Access, Permissions, TopicPermissions};
use crate::metadata::{NamespaceId, Refusal};
use crate::router::Filter;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Bounds that [`Access::apply`] enforces. The same on every copy.
#[derive(Clone, Copy, Debug)]
pub struct AccessLimits {
    pub users_max: usize,
    /// Rows of permissions, of topic permissions, and lists: each.
    pub rules_max: usize,
    pub name_bytes_max: usize,
}

impl Default for AccessLimits {
    fn default() -> Self {
        AccessLimits { users_max: 100_000, rules_max: 100_000, name_bytes_max: 255 }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AccessCommand {
    /// Refused if there is a user of that name. From the first one on, nobody is let in without a login.
    AddUser {
        name: String,
        user: User,
        /// Random; kept from the first user only.
        decoy_key: Vec<u8>,
    },
    /// With all its rules.
    DeleteUser {
        name: String,
    },
    /// Another password, or none. Ends the connections that came with the old one.
    SetVerifiers {
        name: String,
        verifiers: Verifiers,
    },
    /// Sets or takes away what is kept for single mechanisms; makes the user if there is none.
    AlterScram {
        name: String,
        changes: Vec<(Mechanism, Option<Verifier>)>,
        decoy_key: Vec<u8>,
    },
    SetTags {
        name: String,
        tags: BTreeSet<String>,
    },
    SetLimits {
        name: String,
        limits: UserLimits,
    },
    SetPermissions {
        user: String,
        namespace: NamespaceId,
        row: Permissions,
    },
    ClearPermissions {
        user: String,
        namespace: NamespaceId,
    },
    SetTopicPermissions {
        user: String,
        namespace: NamespaceId,
        exchange: String,
        row: TopicPermissions,
    },
    /// Of every exchange, if none is named.
    ClearTopicPermissions {
        user: String,
        namespace: NamespaceId,
        exchange: Option<String>,
    },
    /// What is there already stays. All or none.
    AddAcls {
        acls: Vec<Acl>,
    },
    RemoveAcls {
        acls: Vec<Acl>,
    },
}

impl AccessCommand {
    /// Its outcome is whether there was something to take away.
    pub fn takes_away(&self) -> bool {
        matches!(
            self,
            AccessCommand::DeleteUser { .. }
                | AccessCommand::ClearPermissions { .. }
                | AccessCommand::ClearTopicPermissions { .. }
                | AccessCommand::RemoveAcls { .. }
        )
    }
}

impl Access {
    /// Applies one committed command. Deterministic. `Ok(false)`: what was to go was not there.
    pub fn apply(
        &mut self,
        command: AccessCommand,
        limits: &AccessLimits,
    ) -> Result<bool, Refusal> {
        let done = self.change(command, limits)?;
        self.rebuild();
        Ok(done)
    }

    fn change(&mut self, command: AccessCommand, limits: &AccessLimits) -> Result<bool, Refusal> {
        match command {
            AccessCommand::AddUser { name, user, decoy_key } => {
                if self.durable.users.contains_key(&name) {
                    return Err(Refusal::AlreadyExists);
                }
                check_tags(&user.tags)?;
                check_verifiers(&user.verifiers)?;
                self.add_user(name, user, decoy_key, limits)?;
            }
            AccessCommand::DeleteUser { name } => return Ok(self.delete_user(&name)),
            AccessCommand::SetVerifiers { name, verifiers } => {
                check_verifiers(&verifiers)?;
                let generation = self.next_generation();
                let user = self.user_mut(&name)?;
                user.verifiers = verifiers;
                user.generation = generation;
            }
            AccessCommand::AlterScram { name, changes, decoy_key } => {
                self.alter_scram(name, changes, decoy_key, limits)?;
            }
            AccessCommand::SetTags { name, tags } => {
                check_tags(&tags)?;
                self.user_mut(&name)?.tags = tags;
            }
            AccessCommand::SetLimits { name, limits } => self.user_mut(&name)?.limits = limits,
            AccessCommand::AddAcls { acls } => self.add_acls(acls, limits)?,
            AccessCommand::RemoveAcls { acls } => {
                let before = self.durable.acls.len();
                for acl in &acls {
                    self.durable.acls.remove(acl);
                }
                return Ok(self.durable.acls.len() < before);
            }
            row => return self.change_row(row, limits),
        }
        Ok(true)
    }

    fn change_row(
        &mut self,
        command: AccessCommand,
        limits: &AccessLimits,
    ) -> Result<bool, Refusal> {
        match command {
            AccessCommand::SetPermissions { user, namespace, row } => {
                for pattern in [&row.configure, &row.write, &row.read] {
                    pattern.check().map_err(|_| Refusal::InvalidSettings)?;
                }
                self.user_mut(&user)?;
                let rows = &mut self.durable.permissions;
                if rows.len() >= limits.rules_max {
                    return Err(Refusal::QuotaExceeded);
                }
                rows.insert((user, namespace), row);
                Ok(true)
            }
            AccessCommand::ClearPermissions { user, namespace } => {
                Ok(self.durable.permissions.remove(&(user, namespace)).is_some())
            }
            AccessCommand::SetTopicPermissions { user, namespace, exchange, row } => {
                for pattern in [&row.write, &row.read] {
                    pattern.check().map_err(|_| Refusal::InvalidSettings)?;
                }
                self.user_mut(&user)?;
                let rows = &mut self.durable.topic_permissions;
                if rows.len() >= limits.rules_max {
                    return Err(Refusal::QuotaExceeded);
                }
                rows.insert((user, namespace, exchange), row);
                Ok(true)
            }
            AccessCommand::ClearTopicPermissions { user, namespace, exchange } => {
                let rows = &mut self.durable.topic_permissions;
                let before = rows.len();
                rows.retain(|(of, within, name), _| {
                    *of != user
                        || *within != namespace
                        || exchange.as_ref().is_some_and(|exchange| exchange != name)
                });
                Ok(rows.len() < before)
            }
            other => unreachable!("not about a row: {other:?}"),
        }
    }

    fn user_mut(&mut self, name: &str) -> Result<&mut User, Refusal> {
        self.durable.users.get_mut(name).ok_or(Refusal::NotFound)
    }

    fn next_generation(&mut self) -> u64 {
        self.durable.next_generation += 1;
        self.durable.next_generation
    }

    fn add_user(
        &mut self,
        name: String,
        mut user: User,
        decoy_key: Vec<u8>,
        limits: &AccessLimits,
    ) -> Result<(), Refusal> {
        let is_printable = !name.chars().any(char::is_control);
        // The one name that rules use for everybody.
        if name.is_empty() || name.len() > limits.name_bytes_max || name == ANY || !is_printable {
            return Err(Refusal::InvalidName);
        }
        if self.durable.users.len() >= limits.users_max {
            return Err(Refusal::QuotaExceeded);
        }
        user.generation = self.next_generation();
        self.durable.users.insert(name, user);
        self.durable.is_secured = true;
        if self.durable.decoy_key.is_empty() {
            self.durable.decoy_key = decoy_key;
        }
        Ok(())
    }

    fn delete_user(&mut self, name: &str) -> bool {
        let durable = &mut self.durable;
        let existed = durable.users.remove(name).is_some();
        durable.permissions.retain(|(user, _), _| user != name);
        durable.topic_permissions.retain(|(user, _, _), _| user != name);
        // A later user of the same name must not find them.
        durable.acls.retain(|acl| acl.user != name);
        existed
    }

    fn alter_scram(
        &mut self,
        name: String,
        changes: Vec<(Mechanism, Option<Verifier>)>,
        decoy_key: Vec<u8>,
        limits: &AccessLimits,
    ) -> Result<(), Refusal> {
        let sets = changes.iter().any(|(_, verifier)| verifier.is_some());
        for verifier in changes.iter().filter_map(|(_, verifier)| verifier.as_ref()) {
            check_verifier(verifier)?;
        }
        if !self.durable.users.contains_key(&name) {
            if !sets {
                return Err(Refusal::NotFound);
            }
            self.add_user(name.clone(), User::default(), decoy_key, limits)?;
        }
        let generation = self.next_generation();
        let user = self.user_mut(&name)?;
        let lacks = |(mechanism, change): &(Mechanism, Option<Verifier>)| {
            change.is_none() && user.verifiers.scram(*mechanism).is_none()
        };
        if changes.iter().any(lacks) {
            return Err(Refusal::NotFound);
        }
        for (mechanism, verifier) in changes {
            *user.verifiers.scram_mut(mechanism) = verifier;
        }
        // The plain password was the old one: what SCRAM keeps answers for it from now on.
        user.verifiers.password = None;
        user.generation = generation;
        Ok(())
    }

    fn add_acls(&mut self, acls: Vec<Acl>, limits: &AccessLimits) -> Result<(), Refusal> {
        if acls.iter().any(|acl| !is_sound(acl, limits)) {
            return Err(Refusal::InvalidSettings);
        }
        if self.durable.acls.len() + acls.len() > limits.rules_max {
            return Err(Refusal::QuotaExceeded);
        }
        self.durable.acls.extend(acls);
        Ok(())
    }
}

fn is_sound(acl: &Acl, limits: &AccessLimits) -> bool {
    let name = match &acl.pattern {
        AclPattern::Literal(name) | AclPattern::Prefixed(name) => name,
        AclPattern::Filter(filter) => filter,
    };
    let fits = match (&acl.pattern, acl.kind) {
        (AclPattern::Filter(filter), AclKind::Subject) => Filter::from_mqtt(filter).is_ok(),
        (AclPattern::Filter(_), _) | (_, AclKind::Subject) => false,
        _ => name.len() <= limits.name_bytes_max,
    };
    let is_host = acl.host == ANY || acl.host.parse::<std::net::IpAddr>().is_ok();
    fits && is_host
        && !name.is_empty()
        && !acl.user.is_empty()
        && acl.user.len() <= limits.name_bytes_max
}

fn check_tags(tags: &BTreeSet<String>) -> Result<(), Refusal> {
    let is_sound =
        tags.len() <= TAGS_MAX && tags.iter().all(|tag| !tag.is_empty() && tag.len() <= 64);
    is_sound.then_some(()).ok_or(Refusal::InvalidSettings)
}

fn check_verifiers(verifiers: &Verifiers) -> Result<(), Refusal> {
    let scram = [&verifiers.scram_sha_256, &verifiers.scram_sha_512];
    scram.into_iter().flatten().try_for_each(check_verifier)
}

fn check_verifier(verifier: &Verifier) -> Result<(), Refusal> {
    let is_sound = (ITERATIONS_MIN..=ITERATIONS_MAX).contains(&verifier.iterations)
        && !verifier.salt.is_empty()
        && verifier.salt.len() <= 256;
    is_sound.then_some(()).ok_or(Refusal::InvalidSettings)
}
