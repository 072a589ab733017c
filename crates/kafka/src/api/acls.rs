//! Rules as Kafka's requests write them: numbers for kinds and operations, `User:` before a name, filters.
//! Rules on subjects have no place there; they are neither shown nor touched.

use crate::error::ErrorCode;
use koine_broker::access::{Acl, AclKind, AclPattern, Effect, Operation, CLUSTER_NAME};
use std::net::IpAddr;

const ANY: i8 = 1;
const MATCH: i8 = 2;
const LITERAL: i8 = 3;
const PREFIXED: i8 = 4;

const USER: &str = "User:";

/// Rules that one command carries.
pub(super) const RULES_PER_COMMAND_MAX: usize = 1000;

const KINDS: [(AclKind, i8); 4] = [
    (AclKind::Topic, 2),
    (AclKind::Group, 3),
    (AclKind::Cluster, 4),
    (AclKind::TransactionalId, 5),
];

const OPERATIONS: [(Operation, i8); 11] = [
    (Operation::All, 2),
    (Operation::Read, 3),
    (Operation::Write, 4),
    (Operation::Create, 5),
    (Operation::Delete, 6),
    (Operation::Alter, 7),
    (Operation::Describe, 8),
    (Operation::ClusterAction, 9),
    (Operation::DescribeConfigs, 10),
    (Operation::AlterConfigs, 11),
    (Operation::IdempotentWrite, 12),
];

const EFFECTS: [(Effect, i8); 2] = [(Effect::Deny, 2), (Effect::Allow, 3)];

fn number_of<T: PartialEq>(table: &[(T, i8)], of: &T) -> i8 {
    table.iter().find(|(value, _)| value == of).map_or(0, |(_, number)| *number)
}

fn of_number<T: Copy>(table: &[(T, i8)], number: i8) -> Option<T> {
    table.iter().find(|(_, known)| *known == number).map(|(value, _)| *value)
}

/// A rule in the numbers of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spelled {
    pub resource_type: i8,
    pub resource_name: String,
    pub pattern_type: i8,
    pub principal: String,
    pub host: String,
    pub operation: i8,
    pub permission_type: i8,
}

impl Spelled {
    /// `None` for a rule that Kafka has no words for.
    pub fn of(acl: &Acl) -> Option<Self> {
        let (pattern_type, name) = match &acl.pattern {
            AclPattern::Literal(name) => (LITERAL, name),
            AclPattern::Prefixed(name) => (PREFIXED, name),
            AclPattern::Filter(_) => return None,
        };
        Some(Spelled {
            resource_type: number_of(&KINDS, &acl.kind),
            resource_name: name.clone(),
            pattern_type,
            principal: format!("{USER}{}", acl.user),
            host: acl.host.clone(),
            operation: number_of(&OPERATIONS, &acl.operation),
            permission_type: number_of(&EFFECTS, &acl.effect),
        })
    }

    /// The rule; the error is a text for the client.
    pub fn to_acl(&self) -> Result<Acl, String> {
        let kind = of_number(&KINDS, self.resource_type)
            .ok_or_else(|| format!("Resource type {} is not supported", self.resource_type))?;
        if self.resource_name.is_empty() {
            return Err("Invalid empty resource name".into());
        }
        if kind == AclKind::Cluster && self.resource_name != CLUSTER_NAME {
            return Err(format!("The only valid name for the CLUSTER resource is {CLUSTER_NAME}"));
        }
        let pattern = match self.pattern_type {
            LITERAL => AclPattern::Literal(self.resource_name.clone()),
            PREFIXED => AclPattern::Prefixed(self.resource_name.clone()),
            other => return Err(format!("Invalid patternType {other}")),
        };
        let operation = of_number(&OPERATIONS, self.operation)
            .ok_or_else(|| format!("Invalid operation {}", self.operation))?;
        let effect = of_number(&EFFECTS, self.permission_type)
            .ok_or_else(|| format!("Invalid permissionType {}", self.permission_type))?;
        let user = self.principal.strip_prefix(USER).filter(|user| !user.is_empty());
        let user = user.ok_or("Principals are users, written User:name")?.to_owned();
        let host = match self.host.as_str() {
            "*" => "*".to_owned(),
            // As it is compared with the address of a connection.
            host => {
                let address: Result<IpAddr, _> = host.parse();
                address.map_err(|_| "Hosts are addresses, or *")?.to_canonical().to_string()
            }
        };
        Ok(Acl { user, host, effect, operation, kind, pattern })
    }
}

/// Which rules a request is about; null and [`ANY`] are all.
pub(super) struct Filter {
    pub resource_type: i8,
    pub resource_name: Option<String>,
    pub pattern_type: i8,
    pub principal: Option<String>,
    pub host: Option<String>,
    pub operation: i8,
    pub permission_type: i8,
}

impl Filter {
    /// Numbers that stand for nothing are a mistake, not a filter that nothing passes.
    pub fn check(&self) -> Result<(), (ErrorCode, String)> {
        let is_sound = (ANY..=7).contains(&self.resource_type)
            && (ANY..=PREFIXED).contains(&self.pattern_type)
            && (ANY..=15).contains(&self.operation)
            && (ANY..=3).contains(&self.permission_type);
        let text = "The filter contains UNKNOWN elements";
        is_sound.then_some(()).ok_or_else(|| (ErrorCode::InvalidRequest, text.into()))
    }

    pub fn matches(&self, rule: &Spelled) -> bool {
        let is = |wanted: i8, found: i8| wanted == ANY || wanted == found;
        let text = |wanted: &Option<String>, found: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == found)
        };
        is(self.resource_type, rule.resource_type)
            && self.matches_name(rule)
            && text(&self.principal, &rule.principal)
            && text(&self.host, &rule.host)
            && is(self.operation, rule.operation)
            && is(self.permission_type, rule.permission_type)
    }

    fn matches_name(&self, rule: &Spelled) -> bool {
        let is_of_type = [ANY, MATCH, rule.pattern_type].contains(&self.pattern_type);
        let Some(name) = &self.resource_name else { return is_of_type };
        is_of_type
            && match (self.pattern_type, rule.pattern_type) {
                // All the rules that decide about this name.
                (MATCH, PREFIXED) => name.starts_with(&rule.resource_name),
                (MATCH, _) => *name == rule.resource_name || rule.resource_name == "*",
                _ => *name == rule.resource_name,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, pattern_type: i8) -> Spelled {
        Spelled {
            resource_type: 2,
            resource_name: name.into(),
            pattern_type,
            principal: "User:alice".into(),
            host: "*".into(),
            operation: 3,
            permission_type: 3,
        }
    }

    #[test]
    fn rules_are_spelled_and_read_back() {
        for (kind, _) in KINDS {
            for (operation, _) in OPERATIONS {
                for (effect, _) in EFFECTS {
                    let name = CLUSTER_NAME.to_owned();
                    for pattern in [AclPattern::Literal(name.clone()), AclPattern::Prefixed(name)] {
                        let (user, host) = ("*".into(), "10.0.0.1".into());
                        let acl = Acl { user, host, effect, operation, kind, pattern };
                        let spelled = Spelled::of(&acl).expect("Kafka knows it");
                        assert_eq!(spelled.to_acl(), Ok(acl));
                    }
                }
            }
        }
        let subject = AclPattern::Filter("a/#".into());
        let acl = Acl { pattern: subject, ..rule("t", LITERAL).to_acl().expect("sound") };
        assert_eq!(Spelled::of(&acl), None);
    }

    #[test]
    fn what_makes_no_rule_is_named() {
        let check = |change: fn(&mut Spelled), expect: &str| {
            let mut spelled = rule("t", LITERAL);
            change(&mut spelled);
            assert_eq!(spelled.to_acl().err().as_deref(), Some(expect));
        };
        check(|rule| rule.resource_type = 6, "Resource type 6 is not supported");
        check(|rule| rule.resource_type = 1, "Resource type 1 is not supported");
        check(|rule| rule.resource_name.clear(), "Invalid empty resource name");
        let cluster = "The only valid name for the CLUSTER resource is kafka-cluster";
        check(|rule| rule.resource_type = 4, cluster);
        check(|rule| rule.pattern_type = MATCH, "Invalid patternType 2");
        check(|rule| rule.operation = 1, "Invalid operation 1");
        check(|rule| rule.operation = 13, "Invalid operation 13");
        check(|rule| rule.permission_type = 1, "Invalid permissionType 1");
        let principal = "Principals are users, written User:name";
        check(|rule| rule.principal = "alice".into(), principal);
        check(|rule| rule.principal = "User:".into(), principal);
        check(|rule| rule.principal = "Group:alice".into(), principal);
        check(|rule| rule.host = "example.org".into(), "Hosts are addresses, or *");
        let mut spelled = rule("t", LITERAL);
        spelled.host = "::ffff:10.0.0.1".into();
        assert_eq!(spelled.to_acl().expect("sound").host, "10.0.0.1");
    }

    #[test]
    fn filters_find_what_they_name() {
        let check = |name: Option<&str>, pattern_type: i8, rule: &Spelled, expect: bool| {
            let filter = Filter {
                resource_type: ANY,
                resource_name: name.map(str::to_owned),
                pattern_type,
                principal: None,
                host: None,
                operation: ANY,
                permission_type: ANY,
            };
            assert_eq!(filter.check(), Ok(()));
            assert_eq!(filter.matches(rule), expect, "{name:?} {pattern_type} {rule:?}");
        };
        for (name, pattern_type, rule, expect) in [
            (None, ANY, rule("t", LITERAL), true),
            (None, LITERAL, rule("t", PREFIXED), false),
            (Some("t"), ANY, rule("t", PREFIXED), true),
            (Some("tt"), ANY, rule("t", PREFIXED), false),
            (Some("tt"), MATCH, rule("t", PREFIXED), true),
            (Some("t"), MATCH, rule("tt", PREFIXED), false),
            (Some("t"), MATCH, rule("t", LITERAL), true),
            (Some("tt"), MATCH, rule("t", LITERAL), false),
            (Some("t"), MATCH, rule("*", LITERAL), true),
            (Some("t"), LITERAL, rule("*", LITERAL), false),
            (Some("t"), PREFIXED, rule("t", LITERAL), false),
        ] {
            check(name, pattern_type, &rule, expect);
        }
    }

    #[test]
    fn unknown_numbers_make_no_filter() {
        for field in 0..4 {
            for number in [0, -1, 100] {
                let mut numbers = [ANY; 4];
                numbers[field] = number;
                let filter = Filter {
                    resource_type: numbers[0],
                    resource_name: None,
                    pattern_type: numbers[1],
                    principal: None,
                    host: None,
                    operation: numbers[2],
                    permission_type: numbers[3],
                };
                assert!(filter.check().is_err(), "{numbers:?}");
            }
        }
    }
}
