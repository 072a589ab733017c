//! Commands about users, rules and topics, from a few words.

use crate::session::NAMESPACE;
use koine_broker::access::scram::{Mechanism, Verifier, ITERATIONS_MIN};
use koine_broker::access::{
    AccessCommand, Acl, AclKind, AclPattern, Effect, Operation, Pattern, Permissions, Secret,
    TopicPermissions, User, Verifiers,
};
use koine_broker::metadata::{Command, TopicSettings};

/// `-` is the empty one.
fn pattern(text: &str) -> Pattern {
    let text = if text == "-" { "" } else { text };
    Pattern::new(text).expect("a sound pattern")
}

fn verifiers(password: &str) -> Verifiers {
    let mut verifiers = Verifiers::default();
    for mechanism in Mechanism::ALL {
        let (password, salt) = (Secret::new(password), vec![1; 16]);
        *verifiers.scram_mut(mechanism) =
            Some(Verifier::of_password(mechanism, &password, salt, ITERATIONS_MIN));
    }
    verifiers
}

/// Its password is the engine's affair.
pub fn add_user(name: &str) -> AccessCommand {
    let user = User::default();
    AccessCommand::AddUser { name: name.to_owned(), user, decoy_key: vec![1; 32] }
}

/// May log in by SCRAM, too.
pub fn add_scram_user(name: &str, password: &str) -> AccessCommand {
    let user = User { verifiers: verifiers(password), ..User::default() };
    AccessCommand::AddUser { name: name.to_owned(), user, decoy_key: vec![1; 32] }
}

/// Another one than before.
pub fn set_password(name: &str) -> AccessCommand {
    AccessCommand::SetVerifiers { name: name.to_owned(), verifiers: Verifiers::default() }
}

/// Configure, write, read.
pub fn permit(user: &str, patterns: &[&str]) -> AccessCommand {
    let row = Permissions {
        configure: pattern(patterns[0]),
        write: pattern(patterns[1]),
        read: pattern(patterns[2]),
    };
    AccessCommand::SetPermissions { user: user.to_owned(), namespace: NAMESPACE, row }
}

/// Write, read.
pub fn permit_keys(user: &str, patterns: &[&str]) -> AccessCommand {
    AccessCommand::SetTopicPermissions {
        user: user.to_owned(),
        namespace: NAMESPACE,
        exchange: "amq.topic".to_owned(),
        row: TopicPermissions { write: pattern(patterns[0]), read: pattern(patterns[1]) },
    }
}

/// Effect, operation, filter or `topic:name`, user.
pub fn rule(words: &[&str]) -> AccessCommand {
    let effect = if words[0] == "allow" { Effect::Allow } else { Effect::Deny };
    let operation = match words[1] {
        "read" => Operation::Read,
        "write" => Operation::Write,
        _ => Operation::All,
    };
    let (kind, pattern) = match words[2].strip_prefix("topic:") {
        Some(name) => (AclKind::Topic, AclPattern::Literal(name.to_owned())),
        None => (AclKind::Subject, AclPattern::Filter(words[2].to_owned())),
    };
    let (user, host) = (words[3].to_owned(), "*".to_owned());
    AccessCommand::AddAcls { acls: vec![Acl { user, host, effect, operation, kind, pattern }] }
}

pub fn create_topic(name: &str) -> Command {
    let mut id = [0; 16];
    id[..name.len().min(16)].copy_from_slice(&name.as_bytes()[..name.len().min(16)]);
    Command::CreateTopic {
        namespace: NAMESPACE,
        name: name.to_owned(),
        partitions: 1,
        settings: TopicSettings::default(),
        id,
    }
}
