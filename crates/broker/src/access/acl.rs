//! Access control lists: Kafka's model (principal, operation, host, resource pattern, allow or deny), and
//! with one more kind of resource, subjects, MQTT's. Deny wins over every allow, whichever view it is in.

use crate::router::FilterLevel;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Everybody, in place of a user's name; any host, in place of an address.
pub const ANY: &str = "*";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Effect {
    Allow,
    Deny,
}

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AclKind {
    /// Topics and queues.
    Topic,
    Group,
    Cluster,
    TransactionalId,
    /// MQTT topics, as filters: `Read` subscribes, `Write` publishes.
    Subject,
}

/// Operations as Kafka names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Operation {
    All,
    Read,
    Write,
    Create,
    Delete,
    Alter,
    Describe,
    ClusterAction,
    DescribeConfigs,
    AlterConfigs,
    IdempotentWrite,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AclPattern {
    /// This name; `*` is every name.
    Literal(String),
    /// Every name that begins so.
    Prefixed(String),
    /// An MQTT filter; `%u` and `%c` in a level are the user's name and the client id.
    Filter(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Acl {
    /// A user, or [`ANY`].
    pub user: String,
    /// An address, or [`ANY`].
    pub host: String,
    pub effect: Effect,
    pub operation: Operation,
    pub kind: AclKind,
    pub pattern: AclPattern,
}

impl Acl {
    /// `None` as address: it is not known, as for a will of a client that is gone. Then only a denial
    /// for some host is about it.
    pub(super) fn is_for(&self, address: Option<IpAddr>) -> bool {
        if self.host == ANY {
            return true;
        }
        match address {
            Some(address) => self.host == address.to_canonical().to_string(),
            None => self.effect == Effect::Deny,
        }
    }

    /// Whether this rule decides about `asked`: an allowance of one operation brings others with it.
    pub(super) fn covers(&self, asked: Operation) -> bool {
        if self.operation == Operation::All || self.operation == asked {
            return true;
        }
        let implied: &[Operation] = match asked {
            Operation::Describe => {
                &[Operation::Read, Operation::Write, Operation::Delete, Operation::Alter]
            }
            Operation::DescribeConfigs => &[Operation::AlterConfigs],
            _ => &[],
        };
        self.effect == Effect::Allow && implied.contains(&self.operation)
    }

    pub(super) fn names(&self, kind: AclKind, name: &str) -> bool {
        self.kind == kind
            && match &self.pattern {
                AclPattern::Literal(literal) => literal == ANY || literal == name,
                AclPattern::Prefixed(prefix) => name.starts_with(prefix.as_str()),
                AclPattern::Filter(_) => false,
            }
    }
}

/// Whether every subject that `asked` can match is matched by the rule. A name with a wildcard or a
/// separator in it covers nothing: it could speak for more than itself (CVE-2017-7650).
pub(super) fn filter_covers(
    rule: &str,
    asked: &[FilterLevel<'_>],
    user: &str,
    client_id: Option<&str>,
) -> bool {
    let mut asked = asked.iter();
    let mut levels = rule.split('/').peekable();
    while let Some(level) = levels.next() {
        if level == "#" && levels.peek().is_none() {
            return true;
        }
        let Some(next) = asked.next() else {
            return false;
        };
        let is_covered = match (level, next) {
            ("+", FilterLevel::One | FilterLevel::Exact(_)) => true,
            (_, FilterLevel::Exact(text)) => {
                filled(level, user, client_id).is_some_and(|level| level.as_bytes() == *text)
            }
            _ => false,
        };
        if !is_covered {
            return false;
        }
    }
    asked.next().is_none()
}

/// Whether some subject may be matched by both: what a denial of a part of it must refuse.
pub(super) fn filter_overlaps(
    rule: &str,
    asked: &[FilterLevel<'_>],
    user: &str,
    client_id: Option<&str>,
) -> bool {
    let mut asked = asked.iter();
    let mut levels = rule.split('/');
    loop {
        let (level, next) = (levels.next(), asked.next());
        let is_possible = match (level, next) {
            (Some("#"), _) | (_, Some(FilterLevel::Many)) => return true,
            (None, None) => return true,
            (None, _) | (_, None) => false,
            (Some("+"), _) | (_, Some(FilterLevel::One)) => true,
            (Some(level), Some(FilterLevel::Exact(text))) => {
                filled(level, user, client_id).is_none_or(|level| level.as_bytes() == *text)
            }
        };
        if !is_possible {
            // `a/#` is about `a` as well.
            let ends_in_rest = |level: Option<&str>| level == Some("#");
            return next.is_none() && ends_in_rest(level);
        }
    }
}

fn filled(level: &str, user: &str, client_id: Option<&str>) -> Option<String> {
    if !level.contains('%') {
        return Some(level.to_owned());
    }
    let mut filled = String::new();
    let mut rest = level;
    while let Some(at) = rest.find('%') {
        filled.push_str(&rest[..at]);
        let name = match rest.as_bytes().get(at + 1) {
            Some(b'u') => user,
            Some(b'c') => client_id?,
            _ => {
                filled.push('%');
                rest = &rest[at + 1..];
                continue;
            }
        };
        if name.is_empty() || name.contains(['/', '+', '#']) {
            return None;
        }
        filled.push_str(name);
        rest = &rest[at + 2..];
    }
    filled.push_str(rest);
    Some(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::Filter;

    fn covers(rule: &str, asked: &str, client: &str, expect: bool) {
        let filter = Filter::from_mqtt(asked).expect("a sound filter");
        let levels: Vec<_> = filter.levels().collect();
        let covered = filter_covers(rule, &levels, "alice", Some(client));
        assert_eq!(covered, expect, "{rule} covers {asked} for {client}");
    }

    #[test]
    fn a_rule_covers_what_is_wholly_inside() {
        for (rule, asked, expect) in [
            ("#", "#", true),
            ("#", "a/b", true),
            ("a/#", "a/b/+/#", true),
            ("a/#", "a", true),
            ("a/#", "#", false),
            ("a/#", "+/b", false),
            ("a/+", "a/+", true),
            ("a/+", "a/b", true),
            ("a/+", "a/#", false),
            ("a/+", "a", false),
            ("a/+", "a/b/c", false),
            ("a/b", "a/+", false),
            ("a/b", "a/b", true),
            ("a/%u", "a/alice", true),
            ("a/%u", "a/bob", false),
            ("a/%u", "a/+", false),
            ("a/%c/x", "a/c1/x", true),
            ("a/x-%c-y", "a/x-c1-y", true),
            ("a/100%", "a/100%", true),
        ] {
            covers(rule, asked, "c1", expect);
        }
    }

    #[test]
    fn a_name_with_wildcards_covers_nothing() {
        for client in ["+", "#", "a/b", ""] {
            covers("a/%c", "a/x", client, false);
            covers("a/%c", "a/+", client, false);
            covers("a/%c/#", "a/b/c", client, false);
        }
    }

    #[test]
    fn a_denial_reaches_whatever_overlaps() {
        for (rule, asked, expect) in [
            ("a/b", "#", true),
            ("a/b", "a/+", true),
            ("a/b", "a/c", false),
            ("a/#", "a", true),
            ("a/#", "+", true),
            ("a/+", "a", false),
            ("a/+/c", "a/b/#", true),
            ("a/%u", "a/alice", true),
            ("a/%u", "a/bob", false),
        ] {
            let filter = Filter::from_mqtt(asked).expect("a sound filter");
            let levels: Vec<_> = filter.levels().collect();
            let overlap = filter_overlaps(rule, &levels, "alice", Some("c"));
            assert_eq!(overlap, expect, "{rule} and {asked}");
        }
    }
}
