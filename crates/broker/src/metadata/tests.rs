//! The state machine of group 0, command by command.

use super::*;
use crate::limits::Limits;
use crate::message::{Annotation, HeaderValue};
use crate::publish::{to_exchange, to_subject, Publisher};
use crate::router::{Matches, NoHeaders, Subject};
use crate::session::Route;
use koine_base::ConnectionId;

const NS: NamespaceId = NamespaceId(0);

fn metadata() -> Metadata {
    Metadata::new(&[false, true, false, true], MetadataLimits::from(&Limits::default()))
}

fn apply(metadata: &mut Metadata, command: Command) -> (Result<Outcome, Refusal>, Effects) {
    let mut effects = Effects::default();
    let outcome = metadata.apply(command, &mut effects);
    (outcome, effects)
}

fn id(name: &str) -> [u8; 16] {
    let mut id = [1; 16];
    id[..name.len()].copy_from_slice(name.as_bytes());
    id
}

fn queue(metadata: &mut Metadata, name: &str, spec: QueueSpec) -> StreamId {
    let command =
        Command::DeclareQueue { namespace: NS, name: name.to_owned(), spec, id: id(name) };
    match apply(metadata, command).0 {
        Ok(Outcome::QueueDeclared { stream, .. }) => stream,
        other => panic!("{other:?}"),
    }
}

fn exchange(metadata: &mut Metadata, name: &str, kind: ExchangeKind, auto_delete: bool) {
    let spec =
        ExchangeSpec { kind, durable: true, auto_delete, internal: false, arguments: Vec::new() };
    let command = Command::DeclareExchange { namespace: NS, name: name.to_owned(), spec };
    assert_eq!(apply(metadata, command).0, Ok(Outcome::Done));
}

fn bind(metadata: &mut Metadata, source: &str, target: BindingTarget, key: &str) {
    let arguments = vec![("n".to_owned(), HeaderValue::Int(1))];
    let key = key.as_bytes().to_vec();
    let binding = BindingSpec { source: source.to_owned(), target, key, arguments };
    assert_eq!(apply(metadata, Command::Bind { namespace: NS, binding }).0, Ok(Outcome::Done));
}

fn open(metadata: &mut Metadata, client: &str, connection: u64, expiry_ms: u64) -> Outcome {
    let command = Command::OpenSession {
        namespace: NS,
        client_id: client.to_owned(),
        connection,
        clean_start: false,
        expiry_ms,
        will: None,
        user: None,
        at: 0,
    };
    apply(metadata, command).0.expect("sessions are within their limit")
}

fn session_of(outcome: &Outcome) -> SessionId {
    match outcome {
        Outcome::SessionOpened { session, .. } => *session,
        other => panic!("{other:?}"),
    }
}

fn subscribe(metadata: &mut Metadata, session: SessionId, filter: &str, qos_max: u8) {
    let options = SubscriptionOptions { qos_max, ..SubscriptionOptions::default() };
    let filters = vec![(filter.to_owned(), options)];
    let subscribed = apply(metadata, Command::Subscribe { session, filters }).0;
    assert!(matches!(subscribed, Ok(Outcome::Subscribed { .. })), "{subscribed:?}");
}

fn publisher(qos: u8) -> Publisher<'static> {
    Publisher {
        connection: ConnectionId::from_raw(77),
        session: None,
        qos,
        retain: false,
        key: None,
    }
}

fn route_key(metadata: &Metadata, exchange: &str, key: &str) -> Option<Route> {
    let mut matches = Matches::new();
    to_exchange(metadata, NS, exchange, key.as_bytes(), &NoHeaders, &publisher(1), &mut matches)
}

fn route_topic(metadata: &Metadata, topic: &str, qos: u8) -> Route {
    let subject = Subject::from_mqtt(topic).expect("a topic name");
    to_subject(metadata, NS, &subject, &publisher(qos), &mut Matches::new())
}

#[test]
fn one_name_is_a_topic_or_a_queue() {
    let mut metadata = metadata();
    let stream = queue(&mut metadata, "x", QueueSpec { durable: true, ..QueueSpec::default() });
    let create = Command::CreateTopic {
        namespace: NS,
        name: "x".to_owned(),
        partitions: 2,
        settings: TopicSettings::default(),
        id: id("t"),
    };
    assert_eq!(apply(&mut metadata, create).0, Err(Refusal::AlreadyExists));
    assert!(!metadata.is_relaxed(stream.group()), "durable queues wait for the disk");
    let transient = queue(&mut metadata, "y", QueueSpec::default());
    assert!(metadata.is_relaxed(transient.group()));
    assert_eq!(route_key(&metadata, "", "x").map(|route| route.streams), Some(vec![stream]));
    assert_eq!(route_key(&metadata, "missing", "x"), None);
}

#[test]
fn auto_delete_exchanges_go_with_their_last_binding_in_a_chain() {
    let mut metadata = metadata();
    exchange(&mut metadata, "first", ExchangeKind::Fanout, true);
    exchange(&mut metadata, "second", ExchangeKind::Direct, true);
    let stream = queue(&mut metadata, "q", QueueSpec { durable: true, ..QueueSpec::default() });
    bind(&mut metadata, "first", BindingTarget::Exchange("second".to_owned()), "");
    bind(&mut metadata, "second", BindingTarget::Queue("q".to_owned()), "k");
    assert_eq!(route_key(&metadata, "first", "k").map(|r| r.streams), Some(vec![stream]));
    let delete = Command::DeleteQueue { namespace: NS, name: "q".to_owned() };
    let (outcome, effects) = apply(&mut metadata, delete);
    assert_eq!(outcome, Ok(Outcome::Deleted { existed: true }));
    assert_eq!(effects.deleted_streams, [stream]);
    assert_eq!(metadata.exchanges(NS).count(), 0, "both lost their last binding as a source");
}

#[test]
fn subscriptions_decide_between_live_and_stored() {
    let mut metadata = metadata();
    let opened = open(&mut metadata, "c", 5, 1000);
    let session = session_of(&opened);
    subscribe(&mut metadata, session, "a/#", 0);
    let live = route_topic(&metadata, "a/b", 1);
    let annotation = Annotation::default();
    assert_eq!(live.live, [(ConnectionId::from_raw(5), annotation)]);
    subscribe(&mut metadata, session, "a/+", 2);
    let stored = route_topic(&metadata, "a/b", 1);
    let backlog = metadata.session(session).and_then(SubjectSession::backlog).expect("QoS 2");
    assert_eq!(stored.backlogs.len(), 1);
    assert_eq!((stored.backlogs[0].0, stored.backlogs[0].1.qos), (backlog, 1));
    assert!(!metadata.is_relaxed(backlog.group()), "a session that stays is kept on disk");
    let close = Command::CloseSession {
        session,
        connection: 5,
        expiry_ms: None,
        publish_will: true,
        at: 0,
    };
    assert!(apply(&mut metadata, close).0.is_ok());
    assert!(route_topic(&metadata, "a/x/y", 0).is_empty(), "nobody is there for QoS 0");
    let expire = Command::ExpireSessions { at: 999 };
    assert!(apply(&mut metadata, expire).1.deleted_streams.is_empty());
    let (_, effects) = apply(&mut metadata, Command::ExpireSessions { at: 1000 });
    assert_eq!(effects.deleted_streams, [backlog]);
    assert!(route_topic(&metadata, "a/b", 1).is_empty());
}

#[test]
fn a_session_is_taken_over_and_its_old_connection_told() {
    let mut metadata = metadata();
    let first = session_of(&open(&mut metadata, "c", 5, 1000));
    subscribe(&mut metadata, first, "a", 1);
    let command = Command::OpenSession {
        namespace: NS,
        client_id: "c".to_owned(),
        connection: 6,
        clean_start: false,
        expiry_ms: 1000,
        will: None,
        user: None,
        at: 0,
    };
    let (outcome, effects) = apply(&mut metadata, command);
    let expected = Outcome::SessionOpened { session: first, present: true, taken_from: Some(5) };
    assert_eq!(outcome, Ok(expected));
    assert_eq!(effects.taken, [(5, first, true)]);
    // What the old connection says about its end changes nothing any more.
    let release = Command::ReleaseConnection { connection: 5, at: 0 };
    assert!(apply(&mut metadata, release).0.is_ok());
    assert_eq!(metadata.session(first).and_then(|s| s.connection), Some(6));
}

#[test]
fn a_shared_subscription_is_one_queue_until_its_last_member_leaves() {
    let mut metadata = metadata();
    let one = session_of(&open(&mut metadata, "one", 1, 0));
    let two = session_of(&open(&mut metadata, "two", 2, 0));
    subscribe(&mut metadata, one, "$share/g/a/+", 1);
    subscribe(&mut metadata, two, "$share/g/a/+", 1);
    let stream = metadata.shared(NS, "g", "a/+").expect("made by the first").stream();
    assert_eq!(route_topic(&metadata, "a/b", 1).streams, [stream]);
    let filters = vec!["$share/g/a/+".to_owned()];
    let leave = Command::Unsubscribe { session: one, filters: filters.clone() };
    assert!(apply(&mut metadata, leave).0.is_ok());
    assert_eq!(route_topic(&metadata, "a/b", 1).streams, [stream]);
    let (_, effects) = apply(&mut metadata, Command::Unsubscribe { session: two, filters });
    assert_eq!(effects.deleted_streams, [stream]);
    assert!(route_topic(&metadata, "a/b", 1).is_empty());
}

#[test]
fn a_snapshot_routes_like_the_original() {
    let mut metadata = metadata();
    exchange(&mut metadata, "e", ExchangeKind::Topic, false);
    queue(&mut metadata, "q", QueueSpec { durable: true, ..QueueSpec::default() });
    bind(&mut metadata, "e", BindingTarget::Queue("q".to_owned()), "a.*");
    bind(&mut metadata, "amq.topic", BindingTarget::Queue("q".to_owned()), "#.z");
    let session = session_of(&open(&mut metadata, "c", 5, EXPIRY_NEVER));
    subscribe(&mut metadata, session, "x/y", 1);
    subscribe(&mut metadata, session, "$share/g/s", 1);
    let copy = Metadata::decode(&metadata.encode(), metadata.limits).expect("just encoded");
    for (exchange, key) in [("e", "a.b"), ("amq.topic", "c.z"), ("e", "b"), ("", "q")] {
        assert_eq!(route_key(&copy, exchange, key), route_key(&metadata, exchange, key));
    }
    for topic in ["x/y", "s", "k/z"] {
        assert_eq!(route_topic(&copy, topic, 1), route_topic(&metadata, topic, 1));
    }
    assert_eq!(copy.encode(), metadata.encode());
    let bytes = metadata.encode();
    assert!(Metadata::decode(&bytes[..bytes.len() / 2], metadata.limits).is_none());
}

#[test]
fn a_new_life_of_the_node_drops_what_is_transient() {
    let mut metadata = metadata();
    queue(&mut metadata, "kept", QueueSpec { durable: true, ..QueueSpec::default() });
    let gone = queue(&mut metadata, "gone", QueueSpec::default());
    let passing = session_of(&open(&mut metadata, "passing", 1, 0));
    let staying = session_of(&open(&mut metadata, "staying", 2, EXPIRY_NEVER));
    let (_, effects) = apply(&mut metadata, Command::NodeStarted { at: 10 });
    assert_eq!(effects.deleted_streams, [gone]);
    assert!(metadata.session(passing).is_none());
    assert_eq!(metadata.session(staying).and_then(|s| s.connection), None);
    assert_eq!(metadata.queues(NS).map(|(name, _)| name).collect::<Vec<_>>(), ["kept"]);
}

#[test]
fn a_topic_of_the_subjects_name_receives_and_keeps_one_publisher_in_order() {
    let mut metadata = metadata();
    let create = Command::CreateTopic {
        namespace: NS,
        name: "a.b".to_owned(),
        partitions: 4,
        settings: TopicSettings::default(),
        id: id("t"),
    };
    let (Ok(Outcome::TopicCreated { streams, .. }), _) = apply(&mut metadata, create) else {
        panic!("a new topic")
    };
    let by_mqtt = route_topic(&metadata, "a/b", 0).streams;
    let by_amqp = route_key(&metadata, "amq.topic", "a.b").map(|route| route.streams);
    assert_eq!(by_mqtt.len(), 1);
    assert!(streams.contains(&by_mqtt[0]));
    assert_eq!(by_amqp, Some(by_mqtt), "the same connection stays on one partition");
}
