//! Whole requests against an engine in memory: what a client sends and what it gets.

use crate::codec::generated::{self as message, *};
use crate::codec::{ApiKey, Malformed, Reader, APIS};
use crate::error::ErrorCode;
use crate::testing::Client;
use bytes::Bytes;
use koine_base::{rng::Rng, StreamId};
use koine_broker::batch::BatchBuilder;
use koine_broker::metadata::{Command, Effects, NamespaceId, Outcome, QueueSpec};
use koine_broker::session::Session;

mod acls;
mod admin;
mod fetch;
mod groups;
mod overload;
mod produce;
mod rights;
mod sasl;

fn decode<'a, T>(
    frame: &'a Bytes,
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, Malformed>,
) -> T {
    let mut r = Reader::new(frame);
    let message = read(&mut r).expect("a well-formed answer");
    assert_eq!(r.remaining(), 0, "bytes after the answer");
    message
}

/// `call!(client, heartbeat, Heartbeat, 4, Request { .. })` gives the decoded `Response`.
macro_rules! call {
    ($client:expr, $module:ident, $key:ident, $version:expr, $request:expr) => {{
        let (request, version): (message::$module::Request, i16) = ($request, $version);
        let frame = $client.call(ApiKey::$key, version, |w| request.encode(w, version));
        decode(&frame, |r| message::$module::Response::decode(r, version))
    }};
}
use call;

fn create_topic(client: &mut Client, name: &str, partitions: u32) -> Vec<StreamId> {
    let mut id = [1; 16];
    id[..name.len().min(16)].copy_from_slice(&name.as_bytes()[..name.len().min(16)]);
    let command = Command::CreateTopic {
        namespace: NamespaceId(0),
        name: name.into(),
        partitions,
        settings: Default::default(),
        id,
    };
    match client.engine.metadata.apply(command, &mut Effects::default()) {
        Ok(Outcome::TopicCreated { streams, .. }) => streams,
        other => panic!("{other:?}"),
    }
}

fn declare_queue(client: &mut Client, name: &str, exclusive: Option<u64>) -> StreamId {
    let spec = QueueSpec { durable: true, exclusive, ..Default::default() };
    let command =
        Command::DeclareQueue { namespace: NamespaceId(0), name: name.into(), spec, id: [9; 16] };
    match client.engine.metadata.apply(command, &mut Effects::default()) {
        Ok(Outcome::QueueDeclared { stream, .. }) => stream,
        other => panic!("{other:?}"),
    }
}

fn topic_id(client: &Client, name: &str) -> [u8; 16] {
    client.engine.metadata.topic(NamespaceId(0), name).expect("it was created").id().0
}

/// A batch with these values.
fn batch(values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(1_700_000_000_000);
    for value in values {
        builder.push(1_700_000_000_000, None, Some(&[value.as_bytes()]), &[]);
    }
    builder.finish(0, -1)
}

fn served_without_users() -> usize {
    APIS.iter().filter(|api| !sasl::SECURITY.contains(&(api.key as i16))).count()
}

#[test]
fn api_versions_names_what_is_served() {
    for version in 0..=4 {
        let mut client = Client::new();
        let request = api_versions::Request {
            client_software_name: "tester".into(),
            client_software_version: "1.0".into(),
        };
        let response = call!(client, api_versions, ApiVersions, version, request);
        assert_eq!(response.error_code, 0);
        assert_eq!(response.api_keys.len(), served_without_users());
        let produce = &response.api_keys[0];
        assert_eq!((produce.api_key, produce.min_version, produce.max_version), (0, 0, 13));
        assert_eq!(response.finalized_features_epoch, -1);
    }
}

#[test]
fn an_unknown_api_versions_version_is_answered_in_version_0() {
    let mut client = Client::new();
    client.queue(ApiKey::ApiVersions, 77, |w| w.no_tags());
    client.run();
    let (_, frame) = client.answer(ApiKey::ApiVersions, 0).expect("an answer");
    let response = decode(&frame, |r| api_versions::Response::decode(r, 0));
    assert_eq!(response.error_code, ErrorCode::UnsupportedVersion.code());
    assert_eq!(response.api_keys.len(), served_without_users());
    assert!(!client.closed);
}

#[test]
fn a_bad_software_name_is_an_invalid_request() {
    let mut client = Client::new();
    let response = call!(client, api_versions, ApiVersions, 3, Default::default());
    assert_eq!(response.error_code, ErrorCode::InvalidRequest.code());
}

#[test]
fn unknown_requests_and_other_protocols_close_the_connection() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0, 0, 0, 10, 0, 99, 0, 0, 0, 0, 0, 1, 0xFF, 0xFF],
        &[0, 0, 0, 10, 0, 3, 0, 99, 0, 0, 0, 1, 0xFF, 0xFF],
        // Metadata whose array says 2^31 - 1 topics.
        &[0, 0, 0, 14, 0, 3, 0, 0, 0, 0, 0, 1, 0xFF, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF],
    ] {
        let mut client = Client::new();
        client.queue_bytes(bytes);
        client.run();
        assert!(client.closed);
        assert!(!client.session.wants_input());
        assert_eq!(client.meter.violations, 1);
    }
}

/// Every known frame, whole and damaged, gets one well-formed answer or closes the connection.
#[test]
fn no_request_goes_unanswered_and_none_panics() {
    let mut rng = Rng::new(11);
    for (key, request, version, frame) in crate::codec::known_frames() {
        for round in 0..30 {
            if !request {
                continue;
            }
            let mut bytes = frame.to_vec();
            for _ in 0..round.min(3) {
                let at = rng.below(bytes.len().max(1) as u64) as usize;
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = [0, 1, 0x7F, 0xFF, rng.next_u64() as u8][rng.below(5) as usize];
                }
            }
            let mut client = Client::new();
            create_topic(&mut client, "s3", 2);
            let sent = client.queue(key, version, |w| bytes.iter().for_each(|b| w.i8(*b as i8)));
            client.run();
            if client.session.deadline() != koine_base::Moment::NEVER {
                client.pass_deadline();
            }
            match client.answer(key, version) {
                Some((correlation_id, answer)) => {
                    assert_eq!(correlation_id, sent);
                    let again = crate::codec::reencode_any(&answer, key, false, version);
                    assert_eq!(again.as_deref(), Ok(&answer[..]), "{key:?} {version}");
                }
                // Produce with acks=0 has no answer.
                None => assert!(client.closed || key == ApiKey::Produce, "{key:?} {version}"),
            }
        }
    }
}

#[test]
fn metadata_creates_missing_topics_where_that_is_allowed() {
    for version in 0..=13 {
        let mut client = Client::new();
        let wanted =
            |name: &str| metadata::TopicWanted { topic_id: [0; 16], name: Some(name.into()) };
        let request = |allow| metadata::Request {
            topics: Some(vec![wanted("t"), wanted("a/b"), wanted("t")]),
            allow_auto_topic_creation: allow,
            include_cluster_authorized_operations: true,
            include_topic_authorized_operations: true,
        };
        if version >= 4 {
            let response = call!(client, metadata, Metadata, version, request(false));
            assert_eq!(response.topics[0].error_code, ErrorCode::UnknownTopicOrPartition.code());
        }
        let response = call!(client, metadata, Metadata, version, request(true));
        assert_eq!(response.brokers[0].host, "127.0.0.1");
        assert_eq!(response.brokers[0].port, 9092);
        let topic = &response.topics[0];
        assert_eq!((topic.error_code, topic.name.as_deref()), (0, Some("t")));
        assert_eq!(topic.partitions.len(), 2);
        assert_eq!(topic.partitions[1].leader_id, 1);
        if version >= 10 {
            assert_ne!(topic.topic_id, [0; 16]);
        }
        assert_eq!(response.topics[1].error_code, ErrorCode::InvalidTopicException.code());
        assert_eq!(response.topics[2], response.topics[0]);
    }
}

#[test]
fn metadata_lists_topics_and_queues_but_not_others_exclusive_ones() {
    let mut client = Client::new();
    create_topic(&mut client, "t", 3);
    declare_queue(&mut client, "q é", None);
    let names = |response: metadata::Response| -> Vec<String> {
        response.topics.into_iter().filter_map(|topic| topic.name).collect()
    };
    let all = || metadata::Request { topics: None, ..Default::default() };
    assert_eq!(names(call!(client, metadata, Metadata, 12, all())), ["t", "q é"]);
    // Version 0 says "all" with an empty list, later versions say "none".
    let empty = || metadata::Request { topics: Some(Vec::new()), ..Default::default() };
    assert_eq!(names(call!(client, metadata, Metadata, 0, empty())).len(), 2);
    assert_eq!(names(call!(client, metadata, Metadata, 1, empty())).len(), 0);

    let mut client = Client::new();
    declare_queue(&mut client, "own", Some(12345));
    assert!(names(call!(client, metadata, Metadata, 12, all())).is_empty());
    let wanted = metadata::TopicWanted { topic_id: [0; 16], name: Some("own".into()) };
    let request = metadata::Request { topics: Some(vec![wanted]), ..Default::default() };
    let response = call!(client, metadata, Metadata, 12, request);
    assert_eq!(response.topics[0].error_code, ErrorCode::TopicAuthorizationFailed.code());
}

#[test]
fn metadata_finds_topics_by_id() {
    let mut client = Client::new();
    create_topic(&mut client, "t", 1);
    let id = client.engine.metadata.topic(NamespaceId(0), "t").expect("created").id().0;
    let wanted = |topic_id| metadata::TopicWanted { topic_id, name: None };
    let request =
        metadata::Request { topics: Some(vec![wanted(id), wanted([3; 16])]), ..Default::default() };
    let response = call!(client, metadata, Metadata, 12, request);
    assert_eq!(response.topics[0].name.as_deref(), Some("t"));
    assert_eq!(response.topics[1].error_code, ErrorCode::UnknownTopicId.code());
    assert_eq!((response.topics[1].name.clone(), response.topics[1].topic_id), (None, [3; 16]));
}

#[test]
fn find_coordinator_knows_groups_only() {
    for version in 0..=6 {
        let mut client = Client::new();
        let request = find_coordinator::Request {
            key: "g".into(),
            key_type: 0,
            coordinator_keys: vec!["g".into(), "h".into()],
        };
        let response = call!(client, find_coordinator, FindCoordinator, version, request.clone());
        if version >= 4 {
            assert_eq!(response.coordinators.len(), 2);
            assert_eq!(
                (response.coordinators[1].key.as_str(), response.coordinators[1].port),
                ("h", 9092)
            );
        } else {
            assert_eq!((response.error_code, response.node_id, response.port), (0, 1, 9092));
        }
        if version >= 1 {
            let request = find_coordinator::Request { key_type: 1, ..request };
            let response = call!(client, find_coordinator, FindCoordinator, version, request);
            let code = response.coordinators.first().map_or(response.error_code, |c| c.error_code);
            assert_eq!(code, ErrorCode::TransactionalIdAuthorizationFailed.code());
        }
    }
}

#[test]
fn requests_behind_a_produce_wait_for_it() {
    let mut client = Client::new();
    create_topic(&mut client, "t", 1);
    client.engine.paused = true;
    let first =
        client.queue(ApiKey::Produce, 9, |w| produce::request("t", 0, &batch(&["a"])).encode(w, 9));
    let second =
        client.queue(ApiKey::Produce, 9, |w| produce::request("t", 0, &batch(&["b"])).encode(w, 9));
    let third = client.queue(ApiKey::Metadata, 9, |w| metadata::Request::default().encode(w, 9));
    client.run();
    assert!(client.answer(ApiKey::Produce, 9).is_none());
    assert!(!client.session.wants_input());
    client.engine.paused = false;
    client.run();
    let mut order = Vec::new();
    for key in [ApiKey::Produce, ApiKey::Produce, ApiKey::Metadata] {
        order.push(client.answer(key, 9).expect("an answer").0);
    }
    assert_eq!(order, [first, second, third]);
    assert!(client.session.wants_input());
}
