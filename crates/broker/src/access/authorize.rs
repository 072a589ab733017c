//! The one question: may this principal do this to that?

use super::acl::{
    filter_covers, filter_overlaps, Acl, AclKind, AclPattern, Effect, Operation, ANY,
};
use super::pattern::{Pattern, Variables};
use super::user::{ADMINISTRATOR, MONITORING};
use super::Access;
use crate::metadata::NamespaceId;
use crate::router::{Filter, FilterLevel, Subject};
use std::net::IpAddr;
use std::sync::Arc;

/// The name under which the default exchange stands in permissions; RabbitMQ's.
pub const DEFAULT_EXCHANGE: &str = "amq.default";
/// The exchange whose routing keys are the subjects.
pub const SUBJECT_EXCHANGE: &str = "amq.topic";

/// Who asks. Made by the engine when a login is granted; the client id is the protocol's to add.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Principal {
    /// `None`: nobody in particular, on a node without users.
    pub user: Option<Arc<str>>,
    /// Of the user when it logged in; see [`super::User::generation`].
    pub generation: u64,
    /// Where it connects from; `None` if that is not known any more.
    pub address: Option<IpAddr>,
    pub client_id: Option<Arc<str>>,
}

impl Principal {
    pub fn anonymous(address: IpAddr) -> Self {
        Principal { address: Some(address), ..Principal::default() }
    }

    /// The user's name, or the empty one.
    pub fn name(&self) -> &str {
        self.user.as_deref().unwrap_or_default()
    }
}

/// What is to be done. The names are Kafka's; a permission's configure pattern answers for the first
/// three that change what there is, and for settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    Read,
    Write,
    Create,
    Delete,
    Alter,
    /// To see that it exists, and how it is.
    Describe,
    DescribeConfigs,
    AlterConfigs,
    /// To publish with a producer id.
    IdempotentWrite,
    /// What nodes ask of each other.
    ClusterAction,
}

impl Action {
    pub const ALL: [Action; 10] = [
        Action::Read,
        Action::Write,
        Action::Create,
        Action::Delete,
        Action::Alter,
        Action::Describe,
        Action::DescribeConfigs,
        Action::AlterConfigs,
        Action::IdempotentWrite,
        Action::ClusterAction,
    ];

    fn operation(self) -> Operation {
        match self {
            Action::Read => Operation::Read,
            Action::Write => Operation::Write,
            Action::Create => Operation::Create,
            Action::Delete => Operation::Delete,
            Action::Alter => Operation::Alter,
            Action::Describe => Operation::Describe,
            Action::DescribeConfigs => Operation::DescribeConfigs,
            Action::AlterConfigs => Operation::AlterConfigs,
            Action::IdempotentWrite => Operation::IdempotentWrite,
            Action::ClusterAction => Operation::ClusterAction,
        }
    }
}

/// What it is to be done to.
#[derive(Clone, Copy, Debug)]
pub enum Resource<'a> {
    /// To enter it; the action does not matter.
    Namespace(NamespaceId),
    /// A topic or a queue.
    Topic {
        namespace: NamespaceId,
        name: &'a str,
    },
    /// An exchange; the default one is "".
    Exchange {
        namespace: NamespaceId,
        name: &'a str,
    },
    /// A routing or binding key of a topic exchange that is not `amq.topic`, as sent.
    RoutingKey {
        namespace: NamespaceId,
        exchange: &'a str,
        key: &'a [u8],
    },
    /// What is published under a subject, by whatever protocol: includes the exchange `amq.topic`.
    Subject {
        namespace: NamespaceId,
        subject: &'a Subject,
    },
    /// What is subscribed to, likewise; all of it must be allowed.
    Filter {
        namespace: NamespaceId,
        filter: &'a Filter,
    },
    /// A consumer group.
    Group(&'a str),
    TransactionalId(&'a str),
    Cluster,
}

impl Access {
    /// The choke point. Without users everything is allowed; with them, what some rule allows and none
    /// denies.
    pub fn authorize(&self, who: &Principal, action: Action, resource: &Resource<'_>) -> bool {
        if !self.is_secured() {
            return true;
        }
        if who.user.is_none() || !self.still_knows(who) {
            return false;
        }
        match *resource {
            Resource::Namespace(namespace) => self.may_enter(who, namespace),
            Resource::Topic { namespace, name } => {
                self.decide(who, action, AclKind::Topic, name, || {
                    self.permits(who, namespace, action, name)
                })
            }
            Resource::Group(name) => self.decide(who, action, AclKind::Group, name, || {
                self.permits(who, NamespaceId(0), action, name)
            }),
            Resource::TransactionalId(name) => {
                self.decide(who, action, AclKind::TransactionalId, name, || {
                    self.permits(who, NamespaceId(0), action, name)
                })
            }
            Resource::Cluster => self.decide(who, action, AclKind::Cluster, CLUSTER_NAME, || {
                self.administers(who, action)
            }),
            Resource::Exchange { namespace, name } => {
                let name = if name.is_empty() { DEFAULT_EXCHANGE } else { name };
                self.permits(who, namespace, action, name)
                    || (name == SUBJECT_EXCHANGE && self.has_subject_rule(who, action))
            }
            Resource::RoutingKey { namespace, exchange, key } => {
                self.permits(who, namespace, action, exchange)
                    && self.permits_key(who, namespace, exchange, action, key)
            }
            Resource::Subject { namespace, subject } => {
                let levels: Vec<_> = subject.levels().map(FilterLevel::Exact).collect();
                self.may_use_subjects(who, namespace, action, &levels, || Some(subject.to_amqp()))
            }
            Resource::Filter { namespace, filter } => {
                let levels: Vec<_> = filter.levels().collect();
                self.may_use_subjects(who, namespace, action, &levels, || filter.to_amqp())
            }
        }
    }

    /// Whether who may publish under a subject may also append to the topic of that name, or who may
    /// subscribe may read what that topic is appended: a rule that names the subject says yes, and so
    /// does one for the topic; a permission for `amq.topic` alone does not.
    pub fn subject_reaches_topic(
        &self,
        who: &Principal,
        namespace: NamespaceId,
        action: Action,
        subject: &Subject,
        topic: &str,
    ) -> bool {
        if !self.is_secured() {
            return true;
        }
        if who.user.is_none() || !self.still_knows(who) {
            return false;
        }
        let levels: Vec<_> = subject.levels().map(FilterLevel::Exact).collect();
        self.decide(who, action, AclKind::Topic, topic, || {
            self.permits(who, namespace, action, topic) || self.allows_subject(who, action, &levels)
        })
    }

    /// Whether who publishes to the default exchange reaches this name. A queue is reached by the
    /// permission to write to the exchange, as RabbitMQ has it, or to the queue; a topic by the latter
    /// alone. `is_topic`: `None` if there is nothing of that name.
    pub fn may_publish_by_name(
        &self,
        who: &Principal,
        namespace: NamespaceId,
        name: &str,
        is_topic: Option<bool>,
    ) -> bool {
        let by_exchange =
            || self.authorize(who, Action::Write, &Resource::Exchange { namespace, name: "" });
        let topic = Resource::Topic { namespace, name };
        match is_topic {
            _ if !self.is_secured() => true,
            None => by_exchange(),
            Some(true) => self.authorize(who, Action::Write, &topic),
            Some(false) => {
                by_exchange() && !self.is_denied(who, Action::Write, name)
                    || self.authorize(who, Action::Write, &topic)
            }
        }
    }

    fn is_denied(&self, who: &Principal, action: Action, topic: &str) -> bool {
        !self.decide(who, action, AclKind::Topic, topic, || true)
    }

    /// May be on the node at all: some rule is about the user there.
    fn may_enter(&self, who: &Principal, namespace: NamespaceId) -> bool {
        let row = (who.name().to_owned(), namespace);
        self.durable.permissions.contains_key(&row)
            || (namespace == NamespaceId(0)
                && self.acls_for(who).any(|acl| acl.effect == Effect::Allow))
    }

    /// Lists first, since a denial is final; then what else may allow it.
    fn decide(
        &self,
        who: &Principal,
        action: Action,
        kind: AclKind,
        name: &str,
        otherwise: impl FnOnce() -> bool,
    ) -> bool {
        let asked = action.operation();
        let mut is_allowed = false;
        for acl in self.acls_for(who) {
            if acl.names(kind, name) && acl.covers(asked) {
                match acl.effect {
                    Effect::Deny => return false,
                    Effect::Allow => is_allowed = true,
                }
            }
        }
        is_allowed || otherwise()
    }

    /// The lists about this user or everybody, where it connects from.
    fn acls_for<'a>(&'a self, who: &'a Principal) -> impl Iterator<Item = &'a Acl> {
        let of = |name: &str| self.acls_of.get(name).map(Vec::as_slice).unwrap_or_default();
        let all = of(who.name()).iter().chain(of(ANY));
        all.filter(|acl| acl.is_for(who.address))
    }

    /// A permission row's answer.
    fn permits(&self, who: &Principal, namespace: NamespaceId, action: Action, name: &str) -> bool {
        let row = self.durable.permissions.get(&(who.name().to_owned(), namespace));
        let Some(row) = row else { return false };
        let is_match = |pattern: &Pattern| self.matches(who, pattern, name.as_bytes());
        match action {
            Action::Read => is_match(&row.read),
            Action::Write | Action::IdempotentWrite => is_match(&row.write),
            Action::Create
            | Action::Delete
            | Action::Alter
            | Action::AlterConfigs
            | Action::DescribeConfigs => is_match(&row.configure),
            Action::Describe => [&row.configure, &row.write, &row.read].into_iter().any(is_match),
            Action::ClusterAction => false,
        }
    }

    /// A topic permission's answer; without one every key is allowed. It is asked on top of the
    /// exchange's own permission, never in its place.
    fn permits_key(
        &self,
        who: &Principal,
        namespace: NamespaceId,
        exchange: &str,
        action: Action,
        key: &[u8],
    ) -> bool {
        let row = (who.name().to_owned(), namespace, exchange.to_owned());
        let Some(row) = self.durable.topic_permissions.get(&row) else {
            return true;
        };
        match action {
            Action::Write => self.matches(who, &row.write, key),
            Action::Read => self.matches(who, &row.read, key),
            _ => true,
        }
    }

    fn may_use_subjects(
        &self,
        who: &Principal,
        namespace: NamespaceId,
        action: Action,
        levels: &[FilterLevel<'_>],
        key: impl FnOnce() -> Option<Vec<u8>>,
    ) -> bool {
        let is_denied = self
            .subject_rules(who, action, Effect::Deny)
            .any(|rule| filter_overlaps(rule, levels, who.name(), who.client_id.as_deref()));
        if is_denied {
            return false;
        }
        let by_permissions = self.permits(who, namespace, action, SUBJECT_EXCHANGE)
            && match key() {
                Some(key) => self.permits_key(who, namespace, SUBJECT_EXCHANGE, action, &key),
                // A filter that no pattern can be asked about.
                None => !self.has_topic_permission(who, namespace),
            };
        by_permissions || self.allows_subject(who, action, levels)
    }

    fn has_topic_permission(&self, who: &Principal, namespace: NamespaceId) -> bool {
        let row = (who.name().to_owned(), namespace, SUBJECT_EXCHANGE.to_owned());
        self.durable.topic_permissions.contains_key(&row)
    }

    fn allows_subject(&self, who: &Principal, action: Action, levels: &[FilterLevel<'_>]) -> bool {
        let client_id = who.client_id.as_deref();
        self.subject_rules(who, action, Effect::Allow)
            .any(|rule| filter_covers(rule, levels, who.name(), client_id))
    }

    fn has_subject_rule(&self, who: &Principal, action: Action) -> bool {
        self.subject_rules(who, action, Effect::Allow).next().is_some()
    }

    fn subject_rules<'a>(
        &'a self,
        who: &'a Principal,
        action: Action,
        effect: Effect,
    ) -> impl Iterator<Item = &'a str> {
        let about = move |acl: &&Acl| {
            acl.kind == AclKind::Subject && acl.effect == effect && acl.covers(action.operation())
        };
        self.acls_for(who).filter(about).filter_map(|acl| match &acl.pattern {
            AclPattern::Filter(filter) => Some(filter.as_str()),
            _ => None,
        })
    }

    fn matches(&self, who: &Principal, pattern: &Pattern, name: &[u8]) -> bool {
        if let Some(compiled) = self.compiled.get(pattern) {
            return compiled.is_match(name);
        }
        let client_id = who.client_id.as_deref();
        let variables = Variables { username: who.name(), vhost: "/", client_id };
        pattern.matches_with(name, &variables)
    }

    /// What tags and permissions say about the cluster itself.
    fn administers(&self, who: &Principal, action: Action) -> bool {
        let Some(user) = self.user(who.name()) else { return false };
        if user.is_tagged(ADMINISTRATOR) {
            return true;
        }
        match action {
            Action::Describe | Action::DescribeConfigs => user.is_tagged(MONITORING),
            // Whoever may publish anywhere may do so with a producer id.
            Action::IdempotentWrite => self.may_write_somewhere(who),
            _ => false,
        }
    }

    fn may_write_somewhere(&self, who: &Principal) -> bool {
        let row = self.durable.permissions.get(&(who.name().to_owned(), NamespaceId(0)));
        row.is_some_and(|row| !row.write.as_str().is_empty())
            || self.acls_for(who).any(|acl| {
                acl.effect == Effect::Allow
                    && acl.kind == AclKind::Topic
                    && acl.covers(Operation::Write)
            })
    }
}

/// The name of the one cluster in Kafka's lists.
pub const CLUSTER_NAME: &str = "kafka-cluster";
