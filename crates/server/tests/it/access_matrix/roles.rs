//! Who there is, and what the rules say each may do: the table that expectations are derived from.

use crate::access::{administer_as, secure, ADMIN};
use crate::broker::Broker;

pub const PASSWORD: &str = "canary-matrix-77c1";

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Right {
    Configure,
    Write,
    Read,
    /// One of the three: to see that something is there.
    Any,
}

/// What a list says about topics; queues are topics to it.
#[derive(Clone, Copy, Debug)]
pub struct List {
    is_deny: bool,
    is_prefix: bool,
    /// `all` or `read`.
    operation: &'static str,
    name: &'static str,
}

/// How a role fares before any rule is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Standing {
    User,
    Nobody,
    WrongPassword,
    /// Logged in, and deleted after.
    Deleted,
    /// Everything was allowed at the login, and nothing is now.
    Revoked,
}

#[derive(Clone, Copy, Debug)]
pub struct Role {
    pub name: &'static str,
    pub standing: Standing,
    /// Configure, write and read: how the names begin that are allowed. `None`: no permission was given.
    patterns: Option<[&'static [&'static str]; 3]>,
    /// How keys of `amq.topic` must begin.
    keys: Option<&'static str>,
    lists: &'static [List],
}

const ALL: &[&str] = &[""];
const NONE: &[&str] = &[];

const fn by_patterns(name: &'static str, patterns: [&'static [&'static str]; 3]) -> Role {
    Role { name, standing: Standing::User, patterns: Some(patterns), keys: None, lists: &[] }
}

const fn by_lists(name: &'static str, lists: &'static [List]) -> Role {
    Role { name, standing: Standing::User, patterns: None, keys: None, lists }
}

const fn outsider(name: &'static str, standing: Standing) -> Role {
    Role { name, standing, patterns: Some([ALL, ALL, ALL]), keys: None, lists: &[] }
}

const fn literal(name: &'static str) -> List {
    List { is_deny: false, is_prefix: false, operation: "all", name }
}

pub const ROLES: [Role; 20] = [
    outsider("nobody", Standing::Nobody),
    outsider("wrong", Standing::WrongPassword),
    outsider("deleted", Standing::Deleted),
    outsider("revoked", Standing::Revoked),
    by_lists("unpermitted", &[]),
    by_patterns("empty", [NONE, NONE, NONE]),
    by_patterns("configure", [ALL, NONE, NONE]),
    by_patterns("write", [NONE, ALL, NONE]),
    by_patterns("read", [NONE, NONE, ALL]),
    by_patterns("noread", [ALL, ALL, NONE]),
    by_patterns("nowrite", [ALL, NONE, ALL]),
    by_patterns("all", [ALL, ALL, ALL]),
    by_patterns("own", [&["own."], &["own.", "amq.topic"], &["own.", "amq.topic"]]),
    by_patterns("other", [&["elsewhere."], &["elsewhere."], &["elsewhere."]]),
    // Whatever is reached by these two exchanges, and nothing by its own name.
    by_patterns("doors", [NONE, &["amq."], &["amq."]]),
    Role { keys: Some("keys."), ..by_patterns("keys", [ALL, ALL, ALL]) },
    by_lists(
        "literal",
        &[
            literal("literal.declare.q"),
            literal("literal.get.q"),
            literal("literal.publish-default.q"),
            literal("literal.publish-default-topic.t"),
            literal("literal.produce.t"),
            literal("literal.fetch.t"),
            literal("literal.metadata.t"),
        ],
    ),
    by_lists(
        "prefixed",
        &[List { is_deny: false, is_prefix: true, operation: "all", name: "prefixed." }],
    ),
    by_lists(
        "lister",
        &[List { is_deny: false, is_prefix: true, operation: "read", name: "lister." }],
    ),
    Role {
        lists: &[List { is_deny: true, is_prefix: true, operation: "all", name: "denied." }],
        ..by_patterns("denied", [ALL, ALL, ALL])
    },
];

impl List {
    fn says(&self, right: Right, name: &str) -> bool {
        let is_named = match self.is_prefix {
            true => name.starts_with(self.name),
            false => name == self.name,
        };
        is_named && (self.operation == "all" || matches!(right, Right::Read | Right::Any))
    }
}

impl Role {
    pub fn password(&self) -> &'static str {
        match self.standing {
            Standing::WrongPassword => "canary-matrix-wrong",
            _ => PASSWORD,
        }
    }

    /// Whether there is any rule about it: without one it is not let in.
    pub fn is_let_in(&self) -> bool {
        self.patterns.is_some() || !self.lists.is_empty()
    }

    /// By patterns alone: exchanges and groups.
    pub fn may(&self, right: Right, name: &str) -> bool {
        let Some(patterns) = self.patterns else { return false };
        let begins = |at: usize| patterns[at].iter().any(|prefix| name.starts_with(prefix));
        self.standing != Standing::Revoked
            && match right {
                Right::Configure => begins(0),
                Right::Write => begins(1),
                Right::Read => begins(2),
                Right::Any => (0..3).any(begins),
            }
    }

    /// By lists and patterns: topics and queues.
    pub fn may_topic(&self, right: Right, name: &str) -> bool {
        let mut lists = self.lists.iter().filter(|list| list.says(right, name)).peekable();
        match lists.peek() {
            Some(_) => lists.all(|list| !list.is_deny),
            None => self.may(right, name),
        }
    }

    pub fn is_denied(&self, name: &str) -> bool {
        self.lists.iter().any(|list| list.is_deny && list.says(Right::Write, name))
    }

    /// By topic permissions: a key of `amq.topic`, on top of the exchange.
    pub fn may_key(&self, right: Right, key: &str) -> bool {
        self.may(right, "amq.topic") && self.keys.is_none_or(|prefix| key.starts_with(prefix))
    }

    /// Publishing by the default exchange: a queue is reached by that exchange or by its own name, a topic
    /// by its name alone.
    pub fn may_publish_to(&self, name: &str, is_topic: bool) -> bool {
        let by_exchange = self.may(Right::Write, "amq.default") && !self.is_denied(name);
        self.may_topic(Right::Write, name) || (!is_topic && by_exchange)
    }
}

fn pattern(prefixes: &[&str]) -> String {
    match prefixes {
        [] => String::new(),
        [""] => ".*".to_owned(),
        prefixes => format!("^({})", prefixes.join("|").replace('.', "\\.")),
    }
}

fn administer(broker: &Broker, line: &str, input: &str) {
    administer_as(broker, ADMIN, line, input);
}

fn permit(broker: &Broker, user: &str, patterns: [&[&str]; 3]) {
    let [configure, write, read] = patterns.map(pattern);
    let line =
        format!("permissions set {user} --configure={configure} --write={write} --read={read}");
    administer(broker, &line, "");
}

/// The administrator, who may do everything, and all the users.
pub fn make(broker: &Broker) {
    secure(broker);
    permit(broker, ADMIN.0, [ALL, ALL, ALL]);
    for role in ROLES.iter().filter(|role| role.standing != Standing::Nobody) {
        let user = role.name;
        administer(broker, &format!("users create {user} --password-file -"), PASSWORD);
        if let Some(patterns) = role.patterns {
            permit(broker, user, patterns);
        }
        if let Some(prefix) = role.keys {
            let key = pattern(&[prefix]);
            let line = format!("topic-permissions set {user}/amq.topic --write={key} --read={key}");
            administer(broker, &line, "");
        }
        for list in role.lists {
            let List { is_deny, is_prefix, operation, name } = list;
            let effect = if *is_deny { "deny" } else { "allow" };
            let kind = if *is_prefix { "prefixed" } else { "literal" };
            let line = format!(
                "acls create {name} --user {user} --operation {operation} --kind topic \
                 --pattern {kind} --effect {effect}"
            );
            administer(broker, &line, "");
        }
    }
}

/// What happens to some users while they are connected.
pub fn change(broker: &Broker) {
    for role in &ROLES {
        match role.standing {
            Standing::Deleted => administer(broker, &format!("users delete {}", role.name), ""),
            Standing::Revoked => permit(broker, role.name, [NONE, NONE, NONE]),
            _ => {}
        }
    }
}
