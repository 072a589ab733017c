//! Verdicts that one connection was given, so that what it does all the time is decided once.

use super::{Access, Action, Principal, Resource};

/// Verdicts kept per connection; the one unused longest goes.
const GRANTS_MAX: usize = 32;

#[derive(PartialEq, Eq)]
enum Kind {
    Topic,
    Exchange,
    Group,
    TransactionalId,
    Subject,
}

struct Grant {
    action: Action,
    kind: Kind,
    namespace: u32,
    name: Vec<u8>,
    is_allowed: bool,
}

/// Void as soon as users or rules change.
#[derive(Default)]
pub struct Grants {
    epoch: u64,
    /// Latest used first.
    kept: Vec<Grant>,
}

impl Grants {
    /// [`Access::authorize`], remembered for this principal. One `Grants` serves one principal.
    pub fn authorize(
        &mut self,
        access: &Access,
        who: &Principal,
        action: Action,
        resource: &Resource<'_>,
    ) -> bool {
        if !access.is_secured() {
            return true;
        }
        if self.epoch != access.epoch() {
            self.kept.clear();
            self.epoch = access.epoch();
        }
        let (kind, namespace, name) = match resource {
            Resource::Topic { namespace, name } => (Kind::Topic, namespace.0, name.as_bytes()),
            Resource::Exchange { namespace, name } => {
                (Kind::Exchange, namespace.0, name.as_bytes())
            }
            Resource::Group(name) => (Kind::Group, 0, name.as_bytes()),
            Resource::TransactionalId(name) => (Kind::TransactionalId, 0, name.as_bytes()),
            Resource::Subject { namespace, subject } => {
                (Kind::Subject, namespace.0, subject.canonical())
            }
            _ => return access.authorize(who, action, resource),
        };
        let same = |grant: &Grant| {
            grant.action == action
                && grant.kind == kind
                && grant.namespace == namespace
                && grant.name == name
        };
        if let Some(at) = self.kept.iter().position(same) {
            self.kept[..=at].rotate_right(1);
            return self.kept[0].is_allowed;
        }
        let is_allowed = access.authorize(who, action, resource);
        let grant = Grant { action, kind, namespace, name: name.to_vec(), is_allowed };
        self.kept.truncate(GRANTS_MAX - 1);
        self.kept.insert(0, grant);
        is_allowed
    }
}
