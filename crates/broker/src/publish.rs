//! From one publish to its [`Route`]: which streams get a copy, which session backlogs, which live
//! connections. The rules are those of the one name space (docs/user/cross-protocol.md).
//!
//! Whether who publishes may is asked before. Here sessions are left out whose user may not read the topic
//! that the subject names.

use crate::message::Annotation;
use crate::metadata::{
    ExchangeKind, Metadata, Named, NamespaceId, SessionId, SubscriptionOptions, TopicGuard,
};
use crate::router::{Headers, Matches, NoHeaders, Subject};
use crate::session::Route;
use koine_base::{ConnectionId, StreamId};

/// Who publishes, and how.
#[derive(Clone, Copy, Debug)]
pub struct Publisher<'a> {
    pub connection: ConnectionId,
    /// For the no-local rule.
    pub session: Option<SessionId>,
    /// 0 is volatile; 1 for every publish that has no MQTT QoS of its own.
    pub qos: u8,
    /// The RETAIN flag of an MQTT publish.
    pub retain: bool,
    /// Picks the partition if the address is a topic with several.
    pub key: Option<&'a [u8]>,
}

/// Publishes to an exchange with a routing key (AMQP 0-9-1 §3.1.3). `None`: no such exchange.
pub fn to_exchange(
    metadata: &Metadata,
    namespace: NamespaceId,
    exchange: &str,
    routing_key: &[u8],
    headers: &dyn Headers,
    publisher: &Publisher<'_>,
    matches: &mut Matches,
) -> Option<Route> {
    matches.clear();
    if exchange.is_empty() {
        return Some(to_name(metadata, namespace, routing_key, publisher, matches));
    }
    let kind = metadata.exchange(namespace, exchange)?.kind;
    let exchange_bytes = exchange.as_bytes();
    metadata.router().route(namespace, exchange_bytes, routing_key, headers, matches);
    let subject = match metadata.access().is_secured() {
        true => Subject::from_amqp(routing_key).ok(),
        false => None,
    };
    let guard = subject.as_ref().and_then(|subject| TopicGuard::new(metadata, namespace, subject));
    let mut route = collect(metadata, publisher, matches, guard.as_ref());
    if kind == ExchangeKind::Topic && exchange == "amq.topic" {
        append_to_topic(metadata, namespace, routing_key, publisher, &mut route);
    }
    Some(route)
}

/// The default exchange: the queue or topic of that name.
fn to_name(
    metadata: &Metadata,
    namespace: NamespaceId,
    name: &[u8],
    publisher: &Publisher<'_>,
    matches: &mut Matches,
) -> Route {
    let Ok(text) = std::str::from_utf8(name) else {
        return Route::default();
    };
    match metadata.named(namespace, text) {
        Some(Named::Queue(queue)) => Route { streams: vec![queue.stream()], ..Route::default() },
        Some(Named::Topic(_)) => match Subject::from_amqp(name) {
            Ok(subject) => to_subject(metadata, namespace, &subject, publisher, matches),
            Err(_) => Route::default(),
        },
        None => Route::default(),
    }
}

/// Publishes to a subject: every matching subscriber, every queue bound to it on `amq.topic`, and the
/// topic of that name.
pub fn to_subject(
    metadata: &Metadata,
    namespace: NamespaceId,
    subject: &Subject,
    publisher: &Publisher<'_>,
    matches: &mut Matches,
) -> Route {
    let mut route = to_subscribers(metadata, namespace, subject, publisher, matches);
    append_to_topic(metadata, namespace, &subject.to_amqp(), publisher, &mut route);
    route
}

/// Offers what was appended to a topic to the subscribers of the subject of that name.
pub fn to_subscribers(
    metadata: &Metadata,
    namespace: NamespaceId,
    subject: &Subject,
    publisher: &Publisher<'_>,
    matches: &mut Matches,
) -> Route {
    matches.clear();
    metadata.router().route_subject(namespace, subject, &NoHeaders, matches);
    if matches.queues.is_empty() && matches.sessions.is_empty() {
        return Route::default();
    }
    let guard = TopicGuard::new(metadata, namespace, subject);
    collect(metadata, publisher, matches, guard.as_ref())
}

fn append_to_topic(
    metadata: &Metadata,
    namespace: NamespaceId,
    name: &[u8],
    publisher: &Publisher<'_>,
    route: &mut Route,
) {
    let Ok(name) = std::str::from_utf8(name) else {
        return;
    };
    let Some(topic) = metadata.topic(namespace, name) else {
        return;
    };
    let hash = match publisher.key {
        Some(key) => u64::from(koine_base::checksum::crc32c(key)),
        // Without a key one publisher stays on one partition: its order is kept.
        None => publisher.connection.raw(),
    };
    let partition = hash % u64::from(topic.partition_count());
    let partition = i32::try_from(partition).expect("bounded by partitions_max");
    let stream = topic.stream(partition).expect("below the partition count");
    if !route.streams.contains(&stream) {
        route.streams.push(stream);
    }
}

fn collect(
    metadata: &Metadata,
    publisher: &Publisher<'_>,
    matches: &Matches,
    guard: Option<&TopicGuard<'_>>,
) -> Route {
    let mut route = Route { streams: matches.queues.clone(), ..Route::default() };
    if let Some(guard) = guard {
        route.streams.retain(|stream| guard.lets_into(*stream));
    }
    for of_one in matches.sessions.chunk_by(|a, b| a.0 == b.0) {
        deliver_to_session(metadata, publisher, of_one, guard, &mut route);
    }
    route
}

/// Merges overlapping subscriptions of one session into one copy (MQTT 5 §3.3.4).
fn deliver_to_session(
    metadata: &Metadata,
    publisher: &Publisher<'_>,
    of_one: &[(SessionId, SubscriptionOptions)],
    guard: Option<&TopicGuard<'_>>,
    route: &mut Route,
) {
    let id = of_one[0].0;
    let own = publisher.session == Some(id);
    let mut wanted = of_one.iter().map(|(_, options)| options).filter(|o| !(own && o.no_local));
    let Some(first) = wanted.next() else { return };
    let mut annotation = Annotation {
        qos: first.qos_max,
        retain: first.retain_as_published && publisher.retain,
        identifiers: first.identifier.into_iter().collect(),
    };
    for options in wanted {
        annotation.qos = annotation.qos.max(options.qos_max);
        annotation.retain |= options.retain_as_published && publisher.retain;
        annotation.identifiers.extend(options.identifier);
    }
    annotation.qos = annotation.qos.min(publisher.qos);
    let Some(session) = metadata.session(id) else {
        return;
    };
    // A session whose user is gone stores nothing for whoever takes the name next.
    if !session.is_somebody(metadata.access()) {
        return;
    }
    if guard.is_some_and(|guard| !guard.lets_read(session)) {
        return;
    }
    match (annotation.qos, session.backlog(), session.connection) {
        (1.., Some(backlog), _) => route.backlogs.push((backlog, annotation)),
        (_, _, Some(connection)) => {
            route.live.push((ConnectionId::from_raw(connection), annotation));
        }
        // QoS 0 for a session without a connection: volatile, nobody is there to see it.
        _ => {}
    }
}

/// Streams that a consumer of `name` reads: a queue has one, a topic one per partition.
pub fn streams_of(
    metadata: &Metadata,
    namespace: NamespaceId,
    name: &str,
) -> Option<Vec<StreamId>> {
    metadata.named(namespace, name).map(Named::streams)
}
