//! What a connection may do. Every request asks here before it looks whether something exists; what was
//! asked before is remembered until users or rules change, so that the path of messages costs one look-up
//! and no allocation.

use crate::error::ErrorCode;
use crate::operation::Env;
use crate::topic::NAMESPACE;
use koine_broker::access::{Action, Resource};
use std::cell::RefCell;
use std::collections::HashMap;

/// Names remembered for one connection, topics and groups each; all are forgotten above it. A client
/// that works with more topics than this is asked about anew each time.
const NAMES_MAX: usize = 4096;

/// Kafka's numbers of operations, as bits of the fields that tell a client what it may do.
const OPERATION_BITS: [(Action, u32); 10] = [
    (Action::Read, 3),
    (Action::Write, 4),
    (Action::Create, 5),
    (Action::Delete, 6),
    (Action::Alter, 7),
    (Action::Describe, 8),
    (Action::ClusterAction, 9),
    (Action::DescribeConfigs, 10),
    (Action::AlterConfigs, 11),
    (Action::IdempotentWrite, 12),
];

/// Operations that Kafka knows of a topic, a group and the cluster.
const TOPIC: i32 = 0b1101_1111_1000;
const GROUP: i32 = 0b1_0100_1000;
const CLUSTER: i32 = 0b1_1111_1010_0000;

/// One bit per action.
#[derive(Clone, Copy, Default)]
struct Verdicts {
    known: u16,
    allowed: u16,
}

#[derive(Default)]
struct Remembered {
    epoch: u64,
    topics: HashMap<Box<str>, Verdicts>,
    groups: HashMap<Box<str>, Verdicts>,
}

/// Verdicts of one connection.
#[derive(Default)]
pub struct Rights {
    remembered: RefCell<Remembered>,
}

fn look_up(
    names: &mut HashMap<Box<str>, Verdicts>,
    name: &str,
    action: Action,
    decide: impl FnOnce() -> bool,
) -> bool {
    let bit = 1 << action as u16;
    if let Some(verdicts) = names.get(name).filter(|verdicts| verdicts.known & bit != 0) {
        return verdicts.allowed & bit != 0;
    }
    if names.len() >= NAMES_MAX {
        names.clear();
    }
    let is_allowed = decide();
    let verdicts = names.entry(name.into()).or_default();
    verdicts.known |= bit;
    if is_allowed {
        verdicts.allowed |= bit;
    }
    is_allowed
}

impl Env<'_, '_> {
    pub fn may_topic(&self, action: Action, name: &str) -> Result<(), ErrorCode> {
        let resource = Resource::Topic { namespace: NAMESPACE, name };
        let is_allowed = self.may(action, name, &resource, |remembered| &mut remembered.topics);
        is_allowed.then_some(()).ok_or(ErrorCode::TopicAuthorizationFailed)
    }

    pub fn may_group(&self, action: Action, name: &str) -> Result<(), ErrorCode> {
        let resource = Resource::Group(name);
        let is_allowed = self.may(action, name, &resource, |remembered| &mut remembered.groups);
        is_allowed.then_some(()).ok_or(ErrorCode::GroupAuthorizationFailed)
    }

    /// Not remembered: nothing that is done all the time asks this.
    pub fn may_cluster(&self, action: Action) -> Result<(), ErrorCode> {
        let who = &self.connection.login.principal;
        let is_allowed = self.ctx.metadata.access().authorize(who, action, &Resource::Cluster);
        is_allowed.then_some(()).ok_or(ErrorCode::ClusterAuthorizationFailed)
    }

    fn may(
        &self,
        action: Action,
        name: &str,
        resource: &Resource<'_>,
        names: fn(&mut Remembered) -> &mut HashMap<Box<str>, Verdicts>,
    ) -> bool {
        let access = self.ctx.metadata.access();
        if !access.is_secured() {
            return true;
        }
        let mut remembered = self.connection.rights.remembered.borrow_mut();
        if remembered.epoch != access.epoch() {
            *remembered = Remembered { epoch: access.epoch(), ..Remembered::default() };
        }
        let who = &self.connection.login.principal;
        look_up(names(&mut remembered), name, action, || access.authorize(who, action, resource))
    }

    /// What may be done with a topic, as the field of its answer has it.
    pub fn topic_operations(&self, name: &str) -> i32 {
        bits(TOPIC, |action| self.may_topic(action, name).is_ok())
    }

    pub fn group_operations(&self, name: &str) -> i32 {
        bits(GROUP, |action| self.may_group(action, name).is_ok())
    }

    /// None if not even that may be known.
    pub fn cluster_operations(&self) -> i32 {
        match self.may_cluster(Action::Describe) {
            Ok(()) => bits(CLUSTER, |action| self.may_cluster(action).is_ok()),
            Err(_) => 0,
        }
    }
}

fn bits(there_are: i32, is_allowed: impl Fn(Action) -> bool) -> i32 {
    OPERATION_BITS
        .into_iter()
        .filter(|(action, bit)| there_are & 1 << bit != 0 && is_allowed(*action))
        .fold(0, |bits, (_, bit)| bits | 1 << bit)
}

/// Kafka's own words for a refusal that has a place for some.
pub(crate) fn refusal_text(error: ErrorCode) -> String {
    match error {
        ErrorCode::TopicAuthorizationFailed => "Topic authorization failed.",
        ErrorCode::GroupAuthorizationFailed => "Group authorization failed.",
        _ => "Cluster authorization failed.",
    }
    .into()
}
