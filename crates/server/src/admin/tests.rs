//! Calls in, requests out, events in, JSON out; the engine is played by the test.

use super::*;
use crate::http::{Caller, TailFrom, TailRequest};
use koine_base::rng::Rng;
use koine_base::{ConnectionId, Now};
use koine_broker::batch::BatchBuilder;
use koine_broker::limits::Limits;
use koine_broker::message::{Content, Dialect, Dialects, Message};
use koine_broker::metadata::{Durability, Effects, Metadata, Outcome};
use koine_broker::session::{Meter, NodeInfo, Output, QueueStatus, ReadBatches, StreamBounds};
use std::time::Duration;
use tokio::sync::oneshot;

struct Plain;

impl Dialect for Plain {
    fn message(&self, content: &Content) -> Message {
        Message { key: content.key.clone(), body: content.body.clone(), ..Message::default() }
    }
}

const DIALECTS: Dialects = Dialects { kafka: &Plain, amqp091: &Plain, mqtt: &Plain };

struct Bench {
    session: AdminSession,
    inbox: Inbox,
    metadata: Metadata,
    limits: Limits,
    node: NodeInfo,
    rng: Rng,
    secret_rng: koine_broker::access::SecretRng,
    now: Now,
}

type Answered = oneshot::Receiver<Result<AdminAnswer, AdminError>>;

impl Bench {
    fn new() -> Self {
        let limits = Limits::default();
        let inbox = Inbox::default();
        Bench {
            session: AdminSession::new(Rc::clone(&inbox)),
            inbox,
            metadata: Metadata::new(&[false, true], (&limits).into()),
            limits,
            node: NodeInfo {
                node_id: 1,
                cluster_id: "c".into(),
                version: "0",
                advertised_kafka: None,
                auto_create_topics: true,
                default_partitions: 2,
                default_retention_ms: -1,
                default_retention_bytes: -1,
                default_durability: Durability::Fsync,
                epochs: Vec::new(),
            },
            rng: Rng::new(1),
            secret_rng: koine_broker::access::SecretRng::new(&[7; 32]),
            now: Now::default(),
        }
    }

    fn step(&mut self, act: impl FnOnce(&mut AdminSession, &mut Context<'_>)) -> Vec<Request> {
        let (mut out, mut meter) = (Output::default(), Meter::default());
        let mut ctx = Context {
            now: self.now,
            connection: ConnectionId::from_raw(1),
            metadata: &self.metadata,
            dialects: &DIALECTS,
            limits: &self.limits,
            node: &self.node,
            rng: &mut self.rng,
            secret_rng: &mut self.secret_rng,
            out: &mut out,
            meter: &mut meter,
            alarms: Default::default(),
            is_read: true,
            output_room: usize::MAX,
        };
        act(&mut self.session, &mut ctx);
        out.requests
    }

    fn call(&mut self, request: AdminRequest) -> (Answered, Vec<Request>) {
        let (answer, answered) = oneshot::channel();
        self.inbox.borrow_mut().push_back(AdminCall {
            request,
            caller: Caller::Node,
            verifiers: None,
            answer,
        });
        (answered, self.step(|session, ctx| session.receive(&mut BytesMut::new(), ctx)))
    }

    fn event(&mut self, event: Event) -> Vec<Request> {
        self.step(|session, ctx| session.event(event, ctx))
    }

    fn apply(&mut self, command: Command) {
        let outcome = self.metadata.apply(command, &mut Effects::default());
        outcome.expect("the test's own command");
    }

    fn create_topic(&mut self, name: &str) {
        self.apply(Command::CreateTopic {
            namespace: NAMESPACE,
            name: name.into(),
            partitions: 2,
            settings: Default::default(),
            id: [name.len() as u8; 16],
        });
    }
}

fn json_of(mut answered: Answered) -> Value {
    match answered.try_recv().expect("answered by now") {
        Ok(AdminAnswer::Json(value)) => value,
        other => panic!("{other:?}"),
    }
}

fn error_of(mut answered: Answered) -> AdminError {
    answered.try_recv().expect("answered by now").expect_err("an error")
}

fn bounds(token: Token, start: u64, end: u64) -> Event {
    Event::Bounds { token, result: Ok(StreamBounds { start, end, epoch: 1 }) }
}

fn list(kind: Kind, after: Option<&str>, limit: usize) -> AdminRequest {
    AdminRequest::List { kind, after: after.map(str::to_owned), limit }
}

#[test]
fn topics_come_in_pages_with_their_records() {
    let mut bench = Bench::new();
    ["a", "bb", "ccc"].iter().for_each(|name| bench.create_topic(name));
    let (answered, requests) = bench.call(list(Kind::Topics, Some("a"), 1));
    assert_eq!(requests.len(), 2);
    for request in requests {
        let Request::Bounds { token, .. } = request else { panic!("{request:?}") };
        bench.event(bounds(token, 3, 10));
    }
    let page = json_of(answered);
    assert_eq!(page["items"][0]["name"], "bb");
    assert_eq!(page["items"][0]["records"], 14);
    assert_eq!(page["next"], "bb");
    let (answered, _) = bench.call(list(Kind::Topics, Some("ccc"), 1));
    assert_eq!(json_of(answered), json!({"items": [], "next": null}));
}

#[test]
fn queues_are_declared_listed_and_deleted() {
    let mut bench = Bench::new();
    let create = AdminRequest::Create {
        kind: Kind::Queues,
        name: "q".into(),
        options: Default::default(),
        password: None,
    };
    let (answered, mut requests) = bench.call(create.clone());
    let Some(Request::Propose { token, command }) = requests.pop() else { panic!("no proposal") };
    bench.apply(command);
    bench.event(Event::Proposed { token, result: Ok(Outcome::Done) });
    assert_eq!(json_of(answered), json!({"name": "q"}));

    let (answered, _) = bench.call(create);
    assert!(matches!(error_of(answered), AdminError::AlreadyExists(_)));

    let (answered, mut requests) = bench.call(list(Kind::Queues, None, 10));
    let Some(Request::Status { token, .. }) = requests.pop() else { panic!("no status") };
    let status = QueueStatus { ready: 4, unacked: 1, consumers: 2, bytes: 99 };
    bench.event(Event::Status { token, result: Ok(status) });
    let row = json_of(answered)["items"][0].clone();
    assert_eq!(
        (&row["ready"], &row["unacked"], &row["consumers"]),
        (&json!(4), &json!(1), &json!(2))
    );

    let delete = |name: &str| AdminRequest::Delete { kind: Kind::Queues, name: name.into() };
    let (answered, requests) = bench.call(delete("nope"));
    assert!(requests.is_empty());
    assert_eq!(error_of(answered), AdminError::NotFound("no queue \"nope\"".into()));
    let (answered, mut requests) = bench.call(delete("q"));
    let Some(Request::DeleteQueue { token, .. }) = requests.pop() else { panic!("no delete") };
    bench.event(Event::QueueDeleted { token, result: Err(Refusal::Busy) });
    assert!(matches!(error_of(answered), AdminError::Unavailable(_)));
}

#[test]
fn group_lag_is_added_up() {
    let mut bench = Bench::new();
    bench.create_topic("t");
    let (answered, requests) =
        bench.call(AdminRequest::Describe { kind: Kind::Groups, name: "g".into() });
    let [Request::Group { token: members, .. }, Request::FetchOffsets { token: offsets, .. }] =
        requests[..]
    else {
        panic!("{requests:?}")
    };
    let description = membership::GroupDescription {
        group: "g".into(),
        phase: membership::GroupPhase::Stable,
        protocol_type: "consumer".into(),
        protocol_name: "range".into(),
        members: vec![Default::default()],
    };
    bench.event(Event::Group {
        token: members,
        answer: membership::Answer::Describe(Ok(description)),
    });
    let committed = |offset| koine_broker::offsets::CommittedOffset {
        offset,
        leader_epoch: -1,
        metadata: String::new(),
        commit_timestamp: 0,
    };
    let offsets = Event::Offsets {
        token: offsets,
        result: Ok(vec![
            ("t".into(), 0, Some(committed(5))),
            ("t".into(), 1, None),
            ("gone".into(), 0, Some(committed(1))),
        ]),
    };
    let requests = bench.event(offsets);
    let [Request::Bounds { token, .. }] = requests[..] else { panic!("{requests:?}") };
    bench.event(bounds(token, 0, 12));
    let group = json_of(answered);
    assert_eq!((&group["state"], &group["lag"]), (&json!("stable"), &json!(7)));
    assert_eq!(
        group["offsets"],
        json!([{"topic": "t", "partition": 0, "committed": 5, "end": 12, "lag": 7}])
    );
}

fn tail(from: TailFrom, wait_ms: u64) -> AdminRequest {
    AdminRequest::Tail(TailRequest {
        name: "t".into(),
        partition: 0,
        from,
        limit: 1,
        wait: Duration::from_millis(wait_ms),
    })
}

#[test]
fn tail_waits_then_reads_and_gives_up_in_time() {
    let mut bench = Bench::new();
    bench.create_topic("t");
    let (answered, requests) = bench.call(tail(TailFrom::End, 1000));
    let [Request::Bounds { token, .. }] = requests[..] else { panic!("{requests:?}") };
    let requests = bench.event(bounds(token, 0, 7));
    let [Request::Watch { token, offset: 7, .. }] = requests[..] else { panic!("{requests:?}") };
    let requests = bench.event(Event::Grown { token });
    let [Request::Read { token, offset: 7, .. }] = requests[..] else { panic!("{requests:?}") };
    let mut batch = BatchBuilder::new(0);
    for value in ["old", "first", "second"] {
        batch.push(0, Some(b"k"), Some(&[value.as_bytes()]), &[]);
    }
    let batches = vec![batch.finish(6, 0)];
    let bounds_now = StreamBounds { start: 0, end: 9, epoch: 0 };
    bench.event(Event::Read { token, result: Ok(ReadBatches { batches, bounds: bounds_now }) });
    let page = json_of(answered);
    assert_eq!(page["next_offset"], 8);
    assert_eq!(page["records"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&page["records"][0]["offset"], &page["records"][0]["value"]),
        (&json!(7), &json!("first"))
    );

    let (answered, requests) = bench.call(tail(TailFrom::Offset(9), 1000));
    let [Request::Bounds { token, .. }] = requests[..] else { panic!("{requests:?}") };
    bench.event(bounds(token, 0, 9));
    assert_eq!(bench.session.deadline(), Moment(1_000_000));
    bench.now.moment = Moment(1_000_000);
    let requests = bench.step(|session, ctx| session.tick(ctx));
    assert!(matches!(requests[..], [Request::Unwatch { .. }]));
    assert_eq!(json_of(answered), json!({"records": [], "next_offset": 9}));
    assert_eq!(bench.session.deadline(), Moment::NEVER);

    let (answered, requests) = bench.call(tail(TailFrom::Offset(100), 0));
    let [Request::Bounds { token, .. }] = requests[..] else { panic!("{requests:?}") };
    bench.event(bounds(token, 0, 9));
    assert!(matches!(error_of(answered), AdminError::Invalid(_)));
}

#[test]
fn options_are_checked() {
    let mut bench = Bench::new();
    let mut check = |options: Value, expect: &str| {
        let options = options.as_object().cloned().unwrap_or_default();
        let (answered, requests) = bench.call(AdminRequest::Create {
            kind: Kind::Topics,
            name: "x".into(),
            options,
            password: None,
        });
        assert!(requests.is_empty());
        assert_eq!(error_of(answered), AdminError::Invalid(expect.into()));
    };
    check(json!({"partition": 1}), "unknown option \"partition\"; known: partitions, durability, retention_ms, retention_bytes");
    check(json!({"partitions": "x"}), "\"partitions\" must be a whole number");
    check(json!({"partitions": -1}), "\"partitions\" must be a whole number from 1");
    check(json!({"durability": "disk"}), "\"durability\" must be fsync, replicated or memory");
}

#[test]
fn shutdown_tells_the_waiting() {
    let mut bench = Bench::new();
    bench.create_topic("t");
    let (mut answered, _) = bench.call(list(Kind::Topics, None, 10));
    bench.step(|session, ctx| session.shutdown(ctx));
    assert!(answered.try_recv().is_err());
}
