//! Who is left out of a route, whichever way the message comes.

use super::*;
use crate::access::{
    AccessCommand, Acl, AclKind, AclPattern, Effect, Operation, Pattern, Permissions, User,
};
use crate::limits::Limits;
use crate::metadata::{
    Command, Effects, MetadataLimits, Outcome, SessionId, SubscriptionOptions, TopicSettings,
};
use crate::publish::{to_exchange, to_subject, to_subscribers, Publisher};
use crate::router::{Matches, NoHeaders};
use crate::session::Route;
use koine_base::ConnectionId;

const NS: NamespaceId = NamespaceId(0);

/// May use subjects, and the topic `a.b` if it is `trusted`.
fn permit(metadata: &mut Metadata, user: &str, trusted: bool) {
    let pattern = |text: &str| Pattern::new(text).expect("a sound pattern");
    let names = if trusted { "^(amq\\.topic|a\\.b)$" } else { "^amq\\.topic$" };
    let row = Permissions { configure: pattern(""), write: pattern(names), read: pattern(names) };
    let user = user.to_owned();
    change(metadata, AccessCommand::SetPermissions { user, namespace: NS, row });
}

fn change(metadata: &mut Metadata, command: AccessCommand) {
    apply(metadata, Command::Access(Box::new(command)));
}

fn apply(metadata: &mut Metadata, command: Command) -> Outcome {
    metadata.apply(command, &mut Effects::default()).expect("a sound command")
}

fn add_user(metadata: &mut Metadata, name: &str, trusted: bool) {
    let (name, user) = (name.to_owned(), User::default());
    let add = AccessCommand::AddUser { name: name.clone(), user, decoy_key: vec![1] };
    change(metadata, add);
    permit(metadata, &name, trusted);
}

/// A connected client of the user, subscribed at QoS 0.
fn subscribe(metadata: &mut Metadata, user: &str, connection: u64, filter: &str) -> SessionId {
    let opened = apply(
        metadata,
        Command::OpenSession {
            namespace: NS,
            client_id: format!("{user}-{connection}"),
            connection,
            clean_start: true,
            expiry_ms: 0,
            will: None,
            user: Some(user.to_owned()),
            at: 0,
        },
    );
    let Outcome::SessionOpened { session, .. } = opened else { panic!("{opened:?}") };
    let filters = vec![(filter.to_owned(), SubscriptionOptions::default())];
    apply(metadata, Command::Subscribe { session, filters });
    session
}

fn create_topic(metadata: &mut Metadata, name: &str) {
    let (name, settings) = (name.to_owned(), TopicSettings::default());
    let id = [7; 16];
    let create = Command::CreateTopic { namespace: NS, name, partitions: 1, settings, id };
    apply(metadata, create);
}

/// Every way to the subject of that name.
fn routes(metadata: &Metadata, name: &str) -> [Route; 4] {
    let publisher = Publisher {
        connection: ConnectionId::from_raw(99),
        session: None,
        qos: 1,
        retain: false,
        key: None,
    };
    let subject = Subject::from_topic_name(name).expect("a sound name");
    let mut matches = Matches::new();
    let mut exchange = |exchange: &str| {
        let key = name.as_bytes();
        to_exchange(metadata, NS, exchange, key, &NoHeaders, &publisher, &mut matches)
            .expect("predeclared")
    };
    let (by_topic, by_name) = (exchange("amq.topic"), exchange(""));
    let by_subject = to_subject(metadata, NS, &subject, &publisher, &mut matches);
    let by_append = to_subscribers(metadata, NS, &subject, &publisher, &mut matches);
    [by_topic, by_name, by_subject, by_append]
}

fn live(route: &Route) -> Vec<u64> {
    let mut all: Vec<u64> = route.live.iter().map(|(to, _)| to.raw()).collect();
    all.sort_unstable();
    all
}

#[test]
fn what_a_topic_is_appended_goes_only_to_whom_it_may() {
    let mut metadata = Metadata::new(&[false, true], MetadataLimits::from(&Limits::default()));
    add_user(&mut metadata, "trusted", true);
    add_user(&mut metadata, "other", false);
    create_topic(&mut metadata, "a.b");
    for (user, connection, filter) in [
        ("trusted", 1, "#"),
        ("other", 2, "#"),
        ("other", 3, "a/+"),
        ("other", 4, "+/b"),
        ("trusted", 5, "a/b"),
    ] {
        subscribe(&mut metadata, user, connection, filter);
    }
    for route in routes(&metadata, "a.b") {
        assert_eq!(live(&route), [1, 5]);
    }
    // What is no topic is under the rules on subjects alone.
    let [by_topic, _, by_subject, by_append] = routes(&metadata, "a.c");
    for route in [by_topic, by_subject, by_append] {
        assert_eq!(live(&route), [1, 2, 3]);
    }
    // The next change of the rules counts at once.
    let version = metadata.rights_version();
    permit(&mut metadata, "trusted", false);
    assert!(metadata.rights_version() > version);
    for route in routes(&metadata, "a.b") {
        assert!(route.live.is_empty());
    }
}

#[test]
fn a_rule_for_one_address_lets_nothing_be_delivered() {
    let mut metadata = Metadata::new(&[false, true], MetadataLimits::from(&Limits::default()));
    add_user(&mut metadata, "other", false);
    create_topic(&mut metadata, "a.b");
    for connection in [1, 2] {
        subscribe(&mut metadata, "other", connection, "#");
    }
    let acl = |kind, pattern, host: &str| AccessCommand::AddAcls {
        acls: vec![Acl {
            user: "other".to_owned(),
            host: host.to_owned(),
            effect: Effect::Allow,
            operation: Operation::Read,
            kind,
            pattern,
        }],
    };
    let by_name = || AclPattern::Literal("a.b".to_owned());
    change(&mut metadata, acl(AclKind::Topic, by_name(), "10.0.0.1"));
    for route in routes(&metadata, "a.b") {
        assert!(route.live.is_empty());
    }
    change(&mut metadata, acl(AclKind::Topic, by_name(), "*"));
    for route in routes(&metadata, "a.b") {
        assert_eq!(live(&route), [1, 2]);
    }
}

#[test]
fn a_shared_subscription_is_as_trusted_as_its_least_member() {
    let mut metadata = Metadata::new(&[false, true], MetadataLimits::from(&Limits::default()));
    add_user(&mut metadata, "trusted", true);
    add_user(&mut metadata, "other", false);
    create_topic(&mut metadata, "a.b");
    let topic = metadata.topic(NS, "a.b").and_then(|topic| topic.stream(0)).expect("made");
    subscribe(&mut metadata, "trusted", 1, "$share/g/#");
    let group = metadata.shared(NS, "g", "#").expect("joined").stream();
    let streams = |metadata: &Metadata, name: &str| routes(metadata, name).map(|it| it.streams);
    for found in streams(&metadata, "a.b") {
        assert!(found.contains(&group));
    }
    let member = subscribe(&mut metadata, "other", 2, "$share/g/#");
    for found in streams(&metadata, "a.b") {
        assert!(!found.contains(&group), "{found:?}");
    }
    assert!(streams(&metadata, "a.b")[2].contains(&topic), "the topic itself has it");
    assert!(streams(&metadata, "a.c")[2].contains(&group));
    let filters = vec!["$share/g/#".to_owned()];
    apply(&mut metadata, Command::Unsubscribe { session: member, filters });
    for found in streams(&metadata, "a.b") {
        assert!(found.contains(&group));
    }
}

#[test]
fn a_session_whose_user_is_gone_is_given_nothing() {
    let mut metadata = Metadata::new(&[false, true], MetadataLimits::from(&Limits::default()));
    add_user(&mut metadata, "trusted", true);
    add_user(&mut metadata, "other", true);
    subscribe(&mut metadata, "trusted", 1, "#");
    subscribe(&mut metadata, "other", 2, "#");
    let reached = |metadata: &Metadata| live(&routes(metadata, "x")[2]);
    assert_eq!(reached(&metadata), [1, 2]);
    change(&mut metadata, AccessCommand::DeleteUser { name: "other".to_owned() });
    assert_eq!(reached(&metadata), [1]);
}

#[test]
fn publishing_and_subscribing_ask_the_topic_as_well() {
    let mut metadata = Metadata::new(&[false, true], MetadataLimits::from(&Limits::default()));
    add_user(&mut metadata, "trusted", true);
    add_user(&mut metadata, "other", false);
    let subject = Subject::from_mqtt("a/b").expect("sound");
    let may = |metadata: &Metadata, name: &str, filter: &str| {
        let generation = metadata.access().user(name).expect("added").generation;
        let who = Principal { user: Some(name.into()), generation, ..Principal::default() };
        let filter = Filter::from_mqtt(filter).expect("sound");
        (metadata.may_publish(&who, NS, &subject), metadata.may_subscribe(&who, NS, &filter))
    };
    for name in ["trusted", "other"] {
        assert_eq!(may(&metadata, name, "a/b"), (true, true), "{name}");
    }
    create_topic(&mut metadata, "a.b");
    assert_eq!(may(&metadata, "trusted", "a/b"), (true, true));
    assert_eq!(may(&metadata, "other", "a/b"), (false, false));
    // Asked when something is published.
    assert_eq!(may(&metadata, "other", "a/+"), (false, true));
}
