//! Tables over the three views of rules.

use super::*;
use crate::metadata::Refusal;
use crate::router::{Filter, Subject};
use std::net::IpAddr;

const DEFAULT: NamespaceId = NamespaceId(0);

fn access(commands: Vec<AccessCommand>) -> Access {
    let mut access = Access::default();
    for name in ["alice", "bob"] {
        let add = AccessCommand::AddUser {
            name: name.to_owned(),
            user: User::default(),
            decoy_key: vec![1],
        };
        access.apply(add, &AccessLimits::default()).expect("a new user");
    }
    for command in commands {
        access.apply(command, &AccessLimits::default()).expect("a sound command");
    }
    access
}

fn principal(access: &Access, name: &str) -> Principal {
    Principal {
        user: Some(name.into()),
        generation: access.user(name).map_or(0, |user| user.generation),
        address: Some(IpAddr::from([10, 0, 0, 1])),
        client_id: Some("c1".into()),
    }
}

fn pattern(text: &str) -> Pattern {
    Pattern::new(text).expect("a sound pattern")
}

fn permit(user: &str, configure: &str, write: &str, read: &str) -> AccessCommand {
    AccessCommand::SetPermissions {
        user: user.to_owned(),
        namespace: DEFAULT,
        row: Permissions {
            configure: pattern(configure),
            write: pattern(write),
            read: pattern(read),
        },
    }
}

fn permit_keys(user: &str, exchange: &str, write: &str, read: &str) -> AccessCommand {
    AccessCommand::SetTopicPermissions {
        user: user.to_owned(),
        namespace: DEFAULT,
        exchange: exchange.to_owned(),
        row: TopicPermissions { write: pattern(write), read: pattern(read) },
    }
}

/// `effect operation kind pattern user [host]`; a pattern that ends in `~` is prefixed.
fn list(text: &str) -> AccessCommand {
    let words: Vec<&str> = text.split(' ').collect();
    let operation = match words[1] {
        "all" => Operation::All,
        "read" => Operation::Read,
        "write" => Operation::Write,
        "create" => Operation::Create,
        "describe" => Operation::Describe,
        "alter" => Operation::Alter,
        other => panic!("no operation {other}"),
    };
    let kind = match words[2] {
        "topic" => AclKind::Topic,
        "group" => AclKind::Group,
        "cluster" => AclKind::Cluster,
        "subject" => AclKind::Subject,
        other => panic!("no kind {other}"),
    };
    let pattern = match (kind, words[3].strip_suffix('~')) {
        (AclKind::Subject, _) => AclPattern::Filter(words[3].to_owned()),
        (_, Some(prefix)) => AclPattern::Prefixed(prefix.to_owned()),
        (_, None) => AclPattern::Literal(words[3].to_owned()),
    };
    let acl = Acl {
        user: words[4].to_owned(),
        host: words.get(5).unwrap_or(&"*").to_string(),
        effect: if words[0] == "allow" { Effect::Allow } else { Effect::Deny },
        operation,
        kind,
        pattern,
    };
    AccessCommand::AddAcls { acls: vec![acl] }
}

fn topic(name: &str) -> Resource<'_> {
    Resource::Topic { namespace: DEFAULT, name }
}

fn check(access: &Access, user: &str, action: Action, resource: Resource<'_>, expect: bool) {
    let verdict = access.authorize(&principal(access, user), action, &resource);
    assert_eq!(verdict, expect, "{user} {action:?} {resource:?}");
}

#[test]
fn without_users_everything_is_allowed_and_after_the_last_one_nothing() {
    let mut access = Access::default();
    let nobody = Principal::anonymous(IpAddr::from([127, 0, 0, 1]));
    assert!(access.authorize(&nobody, Action::Write, &topic("t")));
    assert!(access.still_knows(&nobody));
    let user = User::default();
    let add = AccessCommand::AddUser { name: "a".to_owned(), user, decoy_key: vec![1] };
    access.apply(add, &AccessLimits::default()).expect("a new user");
    assert!(!access.authorize(&nobody, Action::Write, &topic("t")));
    let delete = AccessCommand::DeleteUser { name: "a".to_owned() };
    assert_eq!(access.apply(delete, &AccessLimits::default()), Ok(true));
    assert!(!access.authorize(&nobody, Action::Write, &topic("t")), "fails closed");
    assert!(!access.still_knows(&nobody));
}

#[test]
fn permissions_answer_for_names_of_every_kind() {
    let access = access(vec![permit("alice", "^c", "^w|^amq\\.default$", "^r")]);
    for (action, name, expect) in [
        (Action::Create, "c1", true),
        (Action::Delete, "c1", true),
        (Action::AlterConfigs, "c1", true),
        (Action::Create, "w1", false),
        (Action::Write, "w1", true),
        (Action::Write, "r1", false),
        (Action::Read, "r1", true),
        (Action::Read, "c1", false),
        (Action::Describe, "c1", true),
        (Action::Describe, "w1", true),
        (Action::Describe, "r1", true),
        (Action::Describe, "x1", false),
        (Action::ClusterAction, "c1", false),
    ] {
        check(&access, "alice", action, topic(name), expect);
        check(&access, "alice", action, Resource::Group(name), expect);
        check(&access, "alice", action, Resource::Exchange { namespace: DEFAULT, name }, expect);
        check(&access, "bob", action, topic(name), false);
    }
    let default = Resource::Exchange { namespace: DEFAULT, name: "" };
    check(&access, "alice", Action::Write, default, true);
    check(&access, "alice", Action::Read, default, false);
    check(&access, "alice", Action::Read, Resource::Namespace(DEFAULT), true);
    check(&access, "bob", Action::Read, Resource::Namespace(DEFAULT), false);
    check(&access, "alice", Action::IdempotentWrite, Resource::Cluster, true);
    check(&access, "alice", Action::Alter, Resource::Cluster, false);
}

#[test]
fn a_denial_wins_over_every_allowance() {
    let access = access(vec![
        permit("alice", ".*", ".*", ".*"),
        list("deny read topic secret alice"),
        list("deny all topic locked~ *"),
        list("allow read topic locked-1 alice"),
        list("allow read topic open *"),
        list("allow write topic from-here bob 10.0.0.1"),
        list("allow write topic from-there bob 10.0.0.2"),
        list("deny describe topic open bob"),
    ]);
    check(&access, "alice", Action::Read, topic("secret"), false);
    check(&access, "alice", Action::Write, topic("secret"), true);
    check(&access, "alice", Action::Describe, topic("secret"), true);
    check(&access, "alice", Action::Read, topic("locked-1"), false);
    check(&access, "bob", Action::Read, topic("open"), true);
    check(&access, "bob", Action::Describe, topic("open"), false);
    check(&access, "bob", Action::Write, topic("from-here"), true);
    check(&access, "bob", Action::Describe, topic("from-here"), true);
    check(&access, "bob", Action::Write, topic("from-there"), false);
    check(&access, "bob", Action::Read, topic("elsewhere"), false);
    let mut far = principal(&access, "bob");
    far.address = None;
    assert!(!access.authorize(&far, Action::Write, &topic("from-here")));
}

#[test]
fn topic_permissions_are_asked_on_top() {
    let access = access(vec![
        permit("alice", "", "^amq\\.topic$|^ex$", "^amq\\.topic$"),
        permit_keys("alice", "amq.topic", "^w\\.", "^r\\.{client_id}$|^r\\.\\*$"),
        permit_keys("bob", "amq.topic", ".*", ".*"),
    ]);
    let subject = |text: &str| Subject::from_mqtt(text).expect("a sound topic");
    for (user, action, text, expect) in [
        ("alice", Action::Write, "w/1", true),
        ("alice", Action::Write, "x/1", false),
        ("alice", Action::Read, "r/c1", true),
        ("alice", Action::Read, "r/c2", false),
        ("bob", Action::Write, "w/1", false),
    ] {
        let subject = subject(text);
        let resource = Resource::Subject { namespace: DEFAULT, subject: &subject };
        check(&access, user, action, resource, expect);
    }
    for (text, expect) in [("r/+", true), ("r/#", false), ("#", false)] {
        let filter = Filter::from_mqtt(text).expect("a sound filter");
        let resource = Resource::Filter { namespace: DEFAULT, filter: &filter };
        check(&access, "alice", Action::Read, resource, expect);
    }
    let key = Resource::RoutingKey { namespace: DEFAULT, exchange: "ex", key: b"any" };
    check(&access, "alice", Action::Write, key, true);
    check(&access, "bob", Action::Write, key, false);
}

#[test]
fn rules_on_subjects_need_no_permission_for_the_exchange() {
    let access = access(vec![
        list("allow write subject out/%u/# bob"),
        list("allow read subject in/# *"),
        list("deny read subject in/secret bob"),
    ]);
    for (user, action, text, expect) in [
        ("bob", Action::Write, "out/bob/1", true),
        ("bob", Action::Write, "out/alice/1", false),
        ("alice", Action::Write, "out/alice/1", false),
        ("alice", Action::Read, "in/#", true),
        ("alice", Action::Read, "#", false),
        ("bob", Action::Read, "in/open", true),
        ("bob", Action::Read, "in/secret", false),
        ("bob", Action::Read, "in/#", false),
        ("bob", Action::Read, "in/+", false),
    ] {
        let filter = Filter::from_mqtt(text).expect("a sound filter");
        let resource = Resource::Filter { namespace: DEFAULT, filter: &filter };
        check(&access, user, action, resource, expect);
    }
    let exchange = Resource::Exchange { namespace: DEFAULT, name: "amq.topic" };
    check(&access, "bob", Action::Write, exchange, true);
    check(&access, "alice", Action::Write, exchange, false);
}

#[test]
fn a_topic_is_reached_under_its_own_rules_alone() {
    let access = access(vec![
        permit("alice", "", "^amq\\.(topic|default)$", "^amq\\.topic$"),
        list("allow write subject a/b bob"),
    ]);
    let subject = Subject::from_mqtt("a/b").expect("a sound topic");
    let reaches = |user: &str, action: Action| {
        let who = principal(&access, user);
        access.subject_reaches_topic(&who, DEFAULT, action, &subject, "a.b")
    };
    assert!(!reaches("alice", Action::Write) && !reaches("alice", Action::Read));
    assert!(reaches("bob", Action::Write) && !reaches("bob", Action::Read));
    let publishes = |user: &str, is_topic| {
        access.may_publish_by_name(&principal(&access, user), DEFAULT, "a.b", is_topic)
    };
    assert!(publishes("alice", Some(false)) && publishes("alice", None));
    assert!(!publishes("alice", Some(true)));
    assert!(!publishes("bob", Some(false)) && !publishes("bob", None));
}

#[test]
fn whoever_is_gone_or_has_another_password_is_not_known_any_more() {
    let mut access = access(vec![permit("alice", ".*", ".*", ".*")]);
    let before = principal(&access, "alice");
    assert!(access.still_knows(&before));
    let other =
        AccessCommand::SetVerifiers { name: "alice".to_owned(), verifiers: Verifiers::default() };
    access.apply(other, &AccessLimits::default()).expect("there is such a user");
    assert!(!access.still_knows(&before));
    assert!(!access.authorize(&before, Action::Read, &topic("t")));
    let after = principal(&access, "alice");
    assert!(access.authorize(&after, Action::Read, &topic("t")));
    for command in [
        AccessCommand::DeleteUser { name: "alice".to_owned() },
        AccessCommand::AddUser {
            name: "alice".to_owned(),
            user: User::default(),
            decoy_key: vec![2],
        },
    ] {
        access.apply(command, &AccessLimits::default()).expect("a sound command");
    }
    assert!(!access.still_knows(&after), "another user of the same name");
    let now = principal(&access, "alice");
    assert!(!access.authorize(&now, Action::Read, &topic("t")), "without the old one's rules");
}

#[test]
fn what_is_not_sound_is_refused() {
    let mut access = access(Vec::new());
    let mut refused = |command: AccessCommand, expect: Refusal| {
        let outcome = access.apply(command.clone(), &AccessLimits::default());
        assert_eq!(outcome, Err(expect), "{command:?}");
    };
    let add = |name: &str| AccessCommand::AddUser {
        name: name.to_owned(),
        user: User::default(),
        decoy_key: vec![1],
    };
    refused(add("alice"), Refusal::AlreadyExists);
    refused(add(""), Refusal::InvalidName);
    refused(add("*"), Refusal::InvalidName);
    refused(add("a\nb"), Refusal::InvalidName);
    refused(add(&"x".repeat(256)), Refusal::InvalidName);
    refused(permit("nobody", "", "", ""), Refusal::NotFound);
    refused(list("allow read subject a/#/b alice"), Refusal::InvalidSettings);
    refused(list("allow read topic t alice not-an-address"), Refusal::InvalidSettings);
}

#[test]
fn remembered_verdicts_end_with_the_rules() {
    let mut access = access(vec![permit("alice", "", ".*", "")]);
    let who = principal(&access, "alice");
    let mut grants = Grants::default();
    for _ in 0..3 {
        assert!(grants.authorize(&access, &who, Action::Write, &topic("t")));
        assert!(!grants.authorize(&access, &who, Action::Read, &topic("t")));
    }
    let clear = AccessCommand::ClearPermissions { user: "alice".to_owned(), namespace: DEFAULT };
    assert_eq!(access.apply(clear, &AccessLimits::default()), Ok(true));
    assert!(!grants.authorize(&access, &who, Action::Write, &topic("t")));
    for number in 0..100 {
        let name = format!("t{number}");
        assert!(!grants.authorize(&access, &who, Action::Write, &topic(&name)));
    }
}

#[test]
fn what_is_kept_survives_as_bytes() {
    let access = access(vec![
        permit("alice", "c", "w", "r"),
        permit_keys("bob", "x", "w", "r"),
        list("allow all group g~ *"),
    ]);
    let bytes = postcard::to_allocvec(access.durable()).expect("encodes");
    let durable: DurableAccess = postcard::from_bytes(&bytes).expect("decodes");
    assert_eq!(&durable, access.durable());
    let again = Access::from_durable(durable);
    check(&again, "alice", Action::Write, topic("w"), true);
    check(&again, "bob", Action::Read, Resource::Group("g1"), true);
}
