//! A node of shards on a disk in memory, with sessions that do what a test tells them.

mod offsets;
mod panics;
mod producers;
mod retention;
mod spreading;

use super::*;
use crate::layout::Layout;
use bytes::{Bytes, BytesMut};
use koine_base::disk::MemoryDisk;
use koine_base::{Timestamp, TopicId};
use koine_broker::batch::{self, BatchBuilder};
use koine_broker::message::{Content, Dialect, Message, Origin};
use koine_broker::metadata::{Command, Durability, NamespaceId, Outcome, QueueSpec, Refusal};
use koine_broker::once::OnceId;
use koine_broker::session::{Attach, Context, Delivery, Route, Session, Settlement};
use std::cell::RefCell;
use std::rc::Rc;

mod damage;
mod load;
mod logins;
mod wills;

pub(super) const NAMESPACE: NamespaceId = NamespaceId(0);

struct Plain;

impl Dialect for Plain {
    fn message(&self, content: &Content) -> Message {
        Message { body: content.body.clone(), ..Message::default() }
    }
}

/// A session that passes everything through.
#[derive(Default)]
pub(super) struct Script {
    pub events: Vec<Event>,
    pub requests: Vec<Request>,
}

pub(super) struct Puppet(pub Rc<RefCell<Script>>);

impl Session for Puppet {
    fn protocol(&self) -> Protocol {
        Protocol::Admin
    }
    fn receive(&mut self, _input: &mut BytesMut, ctx: &mut Context<'_>) {
        ctx.out.requests.append(&mut self.0.borrow_mut().requests);
    }
    fn event(&mut self, event: Event, _ctx: &mut Context<'_>) {
        self.0.borrow_mut().events.push(event);
    }
    fn tick(&mut self, _ctx: &mut Context<'_>) {}
    fn deadline(&self) -> Moment {
        Moment::NEVER
    }
    fn access_changed(&mut self, _ctx: &mut Context<'_>) {}
    fn disconnected(&mut self, _ctx: &mut Context<'_>) {}
    fn shutdown(&mut self, ctx: &mut Context<'_>) {
        ctx.out.close = true;
    }
}

struct Node<'d> {
    disk: &'d MemoryDisk,
    shards: Vec<Shard>,
    now: Now,
}

pub(super) fn config(shard: ShardId, layout: Layout) -> ShardConfig {
    let mut log = koine_log::Config::new(format!("shard-{}", shard.0));
    log.wal_file_bytes = 64 << 10;
    log.own_segment_bytes_min = 8 << 10;
    log.free_bytes_min = 0;
    ShardConfig {
        shard,
        layout,
        voters: Voters::alone(),
        node: NodeInfo {
            node_id: 1,
            cluster_id: "test".to_owned(),
            version: "0",
            advertised_kafka: None,
            auto_create_topics: true,
            default_partitions: 1,
            default_retention_ms: -1,
            default_retention_bytes: -1,
            default_durability: Durability::Fsync,
            epochs: Vec::new(),
        },
        limits: Limits::default(),
        dialects: Dialects { kafka: &Plain, amqp091: &Plain, mqtt: &Plain },
        log,
        initial_rebalance_delay_ms: 0,
        seed: 7,
        secret_seed: [7; 32],
    }
}

impl<'d> Node<'d> {
    fn open(disk: &'d MemoryDisk, shard_count: u16) -> Node<'d> {
        Self::open_with(disk, shard_count, config)
    }

    fn open_with(
        disk: &'d MemoryDisk,
        shard_count: u16,
        config: impl Fn(ShardId, Layout) -> ShardConfig,
    ) -> Node<'d> {
        let layout = Layout { shard_count };
        let now = Now { moment: Moment(1_000_000), wall: Timestamp(1_700_000_000_000) };
        let mut shards: Vec<Shard> = Vec::new();
        for id in layout.shards() {
            let metadata = shards.first().map(|first| first.metadata().encode());
            let opened = Shard::open(disk, config(id, layout), metadata.as_deref(), now);
            shards.push(opened.expect("the directory is sound"));
        }
        let mut node = Node { disk, shards, now };
        node.settle();
        assert!(node.shards.iter().all(Shard::is_serving));
        node
    }

    /// Carries disk requests and mail around until nothing moves.
    fn settle(&mut self) {
        loop {
            let mut moved = false;
            for index in 0..self.shards.len() {
                while let Some(request) = self.shards[index].poll_io() {
                    moved = true;
                    let result = koine_log::execute(self.disk, request);
                    self.shards[index].io_complete(self.now, result).expect("the disk works");
                }
                for (to, mail) in self.shards[index].take_outbox() {
                    moved = true;
                    self.shards[usize::from(to.0)].mail(self.now, [mail]);
                }
            }
            if !moved {
                return;
            }
        }
    }

    fn connect(&mut self, shard: usize) -> Client {
        let script = Rc::new(RefCell::new(Script::default()));
        let id = self.shards[shard].connect(self.now, Box::new(Puppet(Rc::clone(&script))));
        Client { script, id, shard }
    }

    fn ask(&mut self, client: &Client, request: Request) -> Vec<Event> {
        client.script.borrow_mut().requests.push(request);
        self.shards[client.shard].receive(self.now, client.id, &mut BytesMut::new());
        self.settle();
        client.take()
    }

    fn queue(&mut self, client: &Client, name: &str) -> StreamId {
        let spec = QueueSpec { durable: true, ..QueueSpec::default() };
        let mut id = [0; 16];
        id[..name.len()].copy_from_slice(name.as_bytes());
        let command =
            Command::DeclareQueue { namespace: NAMESPACE, name: name.to_owned(), spec, id };
        match &self.ask(client, Request::Propose { token: 1, command })[..] {
            [Event::Proposed { result: Ok(Outcome::QueueDeclared { stream, .. }), .. }] => *stream,
            other => panic!("{other:?}"),
        }
    }

    fn publish(&mut self, client: &Client, streams: &[StreamId], body: &str) {
        let content = Content {
            origin: Origin::Amqp091,
            envelope: Bytes::from_static(b"envelope"),
            key: None,
            body: Some(Bytes::copy_from_slice(body.as_bytes())),
            timestamp: Timestamp(5),
        };
        let route = Route { streams: streams.to_vec(), ..Route::default() };
        let events =
            self.ask(client, Request::Publish { token: Some(9), content, route, once: None });
        assert!(
            events.iter().any(|e| matches!(e, Event::Published { token: 9, result: Ok(()) })),
            "{events:?}"
        );
    }
}

/// Lets time pass in steps, with ticks as a host gives them.
fn pass(node: &mut Node<'_>, ms: u64) {
    let end = node.now.moment.after_ms(ms);
    while node.now.moment < end {
        let next = node.shards.iter().map(Shard::deadline).min().expect("shards").min(end);
        let step = (next.0.saturating_sub(node.now.moment.0)).div_ceil(1000).max(1);
        node.now.moment = node.now.moment.after_ms(step);
        node.now.wall = node.now.wall.plus_ms(i64::try_from(step).expect("short"));
        for shard in &mut node.shards {
            shard.tick(node.now);
        }
        node.settle();
    }
}

pub(super) struct Client {
    pub script: Rc<RefCell<Script>>,
    pub id: ConnectionId,
    pub shard: usize,
}

impl Client {
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.script.borrow_mut().events)
    }
}

pub(super) fn deliveries(events: Vec<Event>) -> Vec<Delivery> {
    let of = |event| match event {
        Event::Deliveries { deliveries, .. } => deliveries,
        _ => Vec::new(),
    };
    events.into_iter().flat_map(of).collect()
}

pub(super) fn bodies(deliveries: &[Delivery]) -> Vec<String> {
    let body = |d: &Delivery| String::from_utf8_lossy(d.record.value().unwrap_or(b"")).into_owned();
    deliveries.iter().map(body).collect()
}

pub(super) fn attach(stream: StreamId, consumer: u64, credit: u32) -> Request {
    Request::Attach {
        token: 2,
        attach: Attach {
            stream,
            consumer,
            credit,
            auto_settle: false,
            exclusive: false,
            priority: 0,
            offset_span_max: u64::MAX,
        },
    }
}

#[test]
fn what_is_published_is_delivered_settled_and_trimmed() {
    for shard_count in [1, 2] {
        let disk = MemoryDisk::new();
        let mut node = Node::open(&disk, shard_count);
        let publisher = node.connect(0);
        let consumer = node.connect(usize::from(shard_count) - 1);
        let streams = [node.queue(&publisher, "a"), node.queue(&publisher, "b")];
        for body in ["one", "two", "three"] {
            node.publish(&publisher, &streams, body);
        }
        for stream in streams {
            let got = deliveries(node.ask(&consumer, attach(stream, 1, 2)));
            assert_eq!(bodies(&got), ["one", "two"], "credit bounds deliveries");
            assert!(got.iter().all(|delivery| !delivery.redelivered));
            let settle = |settlement, ranges: Vec<(u64, u64)>| Request::Settle {
                stream,
                consumer: 1,
                ranges,
                settlement,
            };
            node.ask(&consumer, settle(Settlement::Ack, vec![(0, 0)]));
            node.ask(&consumer, settle(Settlement::Release, vec![(1, 1)]));
            let got =
                deliveries(node.ask(&consumer, Request::Credit { stream, consumer: 1, add: 2 }));
            assert_eq!(bodies(&got), ["two", "three"]);
            assert!(got[0].redelivered && !got[1].redelivered);
            node.ask(&consumer, settle(Settlement::Ack, vec![(1, 2)]));
            let events = node.ask(&consumer, Request::Bounds { token: 3, stream });
            let [Event::Bounds { result: Ok(bounds), .. }] = &events[..] else {
                panic!("{events:?}")
            };
            assert_eq!((bounds.start, bounds.end), (3, 3), "a drained queue keeps nothing");
        }
    }
}

#[test]
fn a_crash_keeps_what_was_acknowledged_and_flags_redelivery() {
    let disk = MemoryDisk::new();
    let (stream, topic) = {
        let mut node = Node::open(&disk, 2);
        let client = node.connect(0);
        let stream = node.queue(&client, "q");
        for number in 0..500 {
            node.publish(&client, &[stream], &format!("message {number} {}", "x".repeat(300)));
        }
        let got = deliveries(node.ask(&client, attach(stream, 1, 10)));
        assert_eq!(got.len(), 10);
        let ranges = vec![(0, 4)];
        let settlement = Settlement::Ack;
        node.ask(&client, Request::Settle { stream, consumer: 1, ranges, settlement });
        let command = Command::CreateTopic {
            namespace: NAMESPACE,
            name: "t".to_owned(),
            partitions: 3,
            settings: Default::default(),
            id: [3; 16],
        };
        let events = node.ask(&client, Request::Propose { token: 1, command });
        let [Event::Proposed { result: Ok(Outcome::TopicCreated { id, streams }), .. }] =
            &events[..]
        else {
            panic!("{events:?}")
        };
        assert_eq!(*id, TopicId([3; 16]));
        let mut builder = BatchBuilder::new(1);
        builder.push(1, Some(b"key"), Some(&[b"value"]), &[]);
        let bytes = builder.finish(0, 0);
        let info = batch::BatchHeader::new(&bytes).and_then(|h| h.info()).expect("built here");
        let append = Request::Append { token: Some(4), stream: streams[1], batch: bytes, info };
        let events = node.ask(&client, append);
        assert!(matches!(&events[..], [Event::Appended { result: Ok(_), .. }]), "{events:?}");
        (stream, streams[1])
    };
    for _ in 0..3 {
        disk.crash(koine_base::disk::memory::Survival::Nothing);
        let mut node = Node::open(&disk, 2);
        let client = node.connect(1);
        let got = deliveries(node.ask(&client, attach(stream, 1, 1000)));
        assert_eq!(got.len(), 495);
        assert!(got.iter().all(|delivery| delivery.redelivered));
        assert!(bodies(&got)[0].starts_with("message 5 "));
        let read = Request::Read { token: 5, stream: topic, offset: 0, bytes_max: 100 };
        let events = node.ask(&client, read);
        let [Event::Read { result: Ok(read), .. }] = &events[..] else { panic!("{events:?}") };
        let records: Vec<_> = batch::records(&read.batches[0], &node.shards[0].batch_limits)
            .expect("sound")
            .collect::<Result<_, _>>()
            .expect("sound");
        assert_eq!(records[0].value(), Some(&b"value"[..]));
        assert_eq!(node.shards[0].metadata().topics(NAMESPACE).count(), 1);
    }
}

#[test]
fn a_backlog_larger_than_the_wal_file_comes_back_from_segments() {
    let disk = MemoryDisk::new();
    let mut node = Node::open(&disk, 1);
    let client = node.connect(0);
    let stream = node.queue(&client, "q");
    let count = 3000;
    for number in 0..count {
        node.publish(&client, &[stream], &format!("{number} {}", "y".repeat(200)));
    }
    assert!(node.shards[0].log_stats().segments > 0, "the queue outgrew the WAL");
    let mut node = Node::open(&disk, 1);
    let client = node.connect(0);
    let mut seen = 0;
    let mut events = node.ask(&client, attach(stream, 1, 100));
    while seen < count {
        let got = deliveries(events);
        assert!(!got.is_empty(), "stuck at {seen}");
        for delivery in &got {
            let text = bodies(std::slice::from_ref(delivery)).remove(0);
            assert!(text.starts_with(&format!("{seen} ")), "{text} at {seen}");
            seen += 1;
        }
        let last = got[got.len() - 1].offset;
        let ranges = vec![(got[0].offset, last)];
        let settlement = Settlement::Ack;
        events = node.ask(&client, Request::Settle { stream, consumer: 1, ranges, settlement });
        let add = u32::try_from(got.len()).expect("small");
        events.extend(node.ask(&client, Request::Credit { stream, consumer: 1, add }));
    }
}

#[test]
fn a_delivery_that_nobody_settled_is_flagged_after_a_restart() {
    let disk = MemoryDisk::new();
    let mut node = Node::open(&disk, 1);
    let client = node.connect(0);
    let stream = node.queue(&client, "q");
    node.publish(&client, &[stream], "one");
    let got = deliveries(node.ask(&client, attach(stream, 1, 10)));
    assert!(!got[0].redelivered);
    disk.crash(koine_base::disk::memory::Survival::Nothing);
    let mut node = Node::open(&disk, 1);
    let client = node.connect(0);
    let got = deliveries(node.ask(&client, attach(stream, 1, 10)));
    assert!(
        got[0].redelivered,
        "the log knows of no cursor, but the record may have been delivered"
    );
    let publisher = node.connect(0);
    node.publish(&publisher, &[stream], "two");
    let got = deliveries(client.take());
    assert_eq!((bodies(&got)[0].as_str(), got.len()), ("two", 1));
    assert!(!got[0].redelivered, "written after the restart");
}

/// A node with `count` records in a queue, none of them in memory, and a client.
fn with_backlog_on_disk(disk: &MemoryDisk, count: usize) -> (Node<'_>, Client, StreamId) {
    let mut node = Node::open(disk, 1);
    let client = node.connect(0);
    let stream = node.queue(&client, "q");
    for number in 0..count {
        node.publish(&client, &[stream], &format!("{number} {}", "y".repeat(2000)));
    }
    let mut node = Node::open(disk, 1);
    let client = node.connect(0);
    (node, client, stream)
}

impl Node<'_> {
    /// Like [`Self::ask`], but the disk does not answer.
    fn ask_only(&mut self, client: &Client, request: Request) {
        client.script.borrow_mut().requests.push(request);
        self.shards[client.shard].receive(self.now, client.id, &mut BytesMut::new());
    }
}

pub(super) fn settle(stream: StreamId, ranges: Vec<(u64, u64)>, settlement: Settlement) -> Request {
    Request::Settle { stream, consumer: 1, ranges, settlement }
}

#[test]
fn what_is_released_while_a_later_window_is_read_is_not_skipped() {
    let disk = MemoryDisk::new();
    let count = 400;
    let (mut node, client, stream) = with_backlog_on_disk(&disk, count);
    let mut seen = deliveries(node.ask(&client, attach(stream, 1, 1)));
    // Take records until the next one has to be read from disk.
    while node.shards[0].io.is_empty() {
        node.ask_only(&client, Request::Credit { stream, consumer: 1, add: 1 });
        seen.extend(deliveries(client.take()));
    }
    let last = seen.len() as u64 - 1;
    assert!(last > 5 && seen.len() < count);
    node.ask_only(&client, settle(stream, vec![(0, last - 5)], Settlement::Ack));
    node.ask_only(&client, settle(stream, vec![(last - 4, last)], Settlement::Release));
    let credit = Request::Credit { stream, consumer: 1, add: u32::MAX };
    let again = deliveries(node.ask(&client, credit));
    let offsets: Vec<u64> = again.iter().map(|delivery| delivery.offset).collect();
    let expect: Vec<u64> = (last - 4..count as u64).collect();
    assert_eq!(offsets, expect);
}

#[test]
fn a_pull_that_waits_for_the_disk_is_answered_whatever_happens_to_the_queue() {
    let pull = |stream| Request::Pull { token: 7, stream, consumer: 3, auto_settle: false };
    let answers = |events: &[Event]| {
        events.iter().filter(|event| matches!(event, Event::Pulled { token: 7, .. })).count()
    };
    // The queue goes.
    let disk = MemoryDisk::new();
    let (mut node, client, stream) = with_backlog_on_disk(&disk, 50);
    node.ask_only(&client, pull(stream));
    let command = Command::DeleteQueue { namespace: NAMESPACE, name: "q".to_owned() };
    let events = node.ask(&client, Request::Propose { token: 8, command });
    assert_eq!(answers(&events), 1, "{events:?}");
    // Its consumer ends: nobody is left to hold the record.
    let disk = MemoryDisk::new();
    let (mut node, client, stream) = with_backlog_on_disk(&disk, 50);
    node.ask_only(&client, pull(stream));
    let events = node.ask(&client, Request::Detach { token: 8, stream, consumer: 3 });
    assert_eq!(answers(&events), 1, "{events:?}");
    let events = node.ask(&client, Request::Status { token: 9, stream });
    let [Event::Status { result: Ok(status), .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!((status.ready, status.unacked), (50, 0));
    // Its bytes are damaged.
    let disk = MemoryDisk::new();
    let (mut node, client, stream) = with_backlog_on_disk(&disk, 50);
    node.ask_only(&client, pull(stream));
    for path in disk.paths() {
        let bytes = disk.contents(&path).expect("it is listed");
        let damaged = bytes.windows(3).position(|window| window == b"0 y");
        if let Some(position) = damaged {
            disk.flip(&path, position as u64 + 2, 0x40).expect("it is there");
        }
    }
    let events = node.ask(&client, Request::Status { token: 9, stream });
    assert_eq!(answers(&events), 1, "{events:?}");
    assert!(
        events.iter().any(|e| matches!(e, Event::Pulled { result: Err(Refusal::Corrupt), .. })),
        "{events:?}"
    );
}

fn damage(disk: &MemoryDisk, wanted: &[u8]) {
    for path in disk.paths() {
        let bytes = disk.contents(&path).expect("it is listed");
        if let Some(at) = bytes.windows(wanted.len()).position(|window| window == wanted) {
            disk.flip(&path, at as u64, 0x40).expect("it is there");
        }
    }
}

#[test]
fn who_holds_a_record_may_settle_it_though_the_queue_cannot_be_read_on() {
    let disk = MemoryDisk::new();
    let (mut node, client, stream) = with_backlog_on_disk(&disk, 400);
    let pull = Request::Pull { token: 7, stream, consumer: 1, auto_settle: false };
    let pulled = node.ask(&client, pull);
    assert!(matches!(&pulled[..], [Event::Pulled { result: Ok(Some(_)), .. }]), "{pulled:?}");
    damage(&disk, b"150 y");
    let other = node.connect(0);
    let events = node.ask(&other, attach(stream, 1, u32::MAX));
    assert!(
        events.iter().any(|event| matches!(event, Event::ConsumerCancelled { .. })),
        "whoever is sent records hears that no more will come: {events:?}"
    );
    node.ask_only(&client, settle(stream, vec![(0, 0)], Settlement::Ack));
    let events = node.ask(&client, Request::Status { token: 9, stream });
    let [Event::Status { result: Ok(status), .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!((status.ready, status.unacked), (399, 0));
}

#[test]
fn what_is_synced_survives_a_crash() {
    let disk = MemoryDisk::new();
    let mut node = Node::open(&disk, 2);
    let client = node.connect(0);
    let stream = node.queue(&client, "q");
    for text in ["one", "two", "three"] {
        node.publish(&client, &[stream], text);
    }
    assert_eq!(deliveries(node.ask(&client, attach(stream, 1, 3))).len(), 3);
    node.ask_only(&client, settle(stream, vec![(0, 0)], Settlement::Ack));
    node.ask_only(&client, settle(stream, vec![(1, 1)], Settlement::Half));
    node.ask_only(&client, Request::Sync { token: 9, stream });
    assert!(client.take().is_empty(), "nothing is on disk yet");
    let events = node.ask(&client, Request::Status { token: 10, stream });
    assert!(
        events.iter().any(|event| matches!(event, Event::Synced { token: 9, result: Ok(()) })),
        "{events:?}"
    );
    disk.crash(koine_base::disk::memory::Survival::Nothing);
    let mut node = Node::open(&disk, 2);
    let client = node.connect(0);
    let events = node.ask(&client, attach(stream, 1, 3));
    let half = events.iter().find_map(|event| match event {
        Event::Attached { result: Ok(half), .. } => Some(half.clone()),
        _ => None,
    });
    assert_eq!(half, Some(vec![1]));
    assert_eq!(bodies(&deliveries(events)), ["three"]);
}

#[test]
fn a_client_that_asks_finds_what_it_has_just_published() {
    let disk = MemoryDisk::new();
    let mut node = Node::open(&disk, 2);
    let client = node.connect(0);
    for name in ["q", "r"] {
        // One of them lives on the other shard.
        let stream = node.queue(&client, name);
        let content = Content {
            origin: Origin::Amqp091,
            envelope: Bytes::new(),
            key: None,
            body: Some(Bytes::from_static(b"body")),
            timestamp: Timestamp(5),
        };
        let publish = || Request::Publish {
            token: None,
            content: content.clone(),
            route: Route { streams: vec![stream], ..Route::default() },
            once: None,
        };
        let pull = Request::Pull { token: 1, stream, consumer: 3, auto_settle: true };
        let requests = [publish(), publish(), pull, Request::Status { token: 2, stream }];
        client.script.borrow_mut().requests.extend(requests);
        node.shards[client.shard].receive(node.now, client.id, &mut BytesMut::new());
        node.settle();
        let events = client.take();
        let pulled = events
            .iter()
            .any(|event| matches!(event, Event::Pulled { token: 1, result: Ok(Some((_, 1))) }));
        let counted = events.iter().any(|event| {
            matches!(event, Event::Status { token: 2, result: Ok(status) } if status.ready == 1)
        });
        assert!(pulled && counted, "{events:?}");
    }
    // One that leaves before its answer comes takes nothing.
    let leaver = node.connect(1);
    let stream = node.queue(&client, "s");
    let content = Content {
        origin: Origin::Amqp091,
        envelope: Bytes::new(),
        key: None,
        body: None,
        timestamp: Timestamp(5),
    };
    let route = Route { streams: vec![stream], ..Route::default() };
    let pull = Request::Pull { token: 1, stream, consumer: 3, auto_settle: false };
    let requests = [Request::Publish { token: None, content, route, once: None }, pull];
    leaver.script.borrow_mut().requests.extend(requests);
    node.shards[1].receive(node.now, leaver.id, &mut BytesMut::new());
    node.shards[1].disconnected(node.now, leaver.id);
    node.settle();
    match &node.ask(&client, Request::Status { token: 4, stream })[..] {
        [Event::Status { result: Ok(status), .. }] => {
            assert_eq!((status.ready, status.unacked), (1, 0));
        }
        other => panic!("{other:?}"),
    }
}

/// What a session that outlives its connection does to publish exactly once.
struct Once {
    session: koine_broker::metadata::SessionId,
    connection: u64,
}

impl Once {
    fn open(node: &mut Node<'_>, client: &Client) -> Once {
        let connection = client.id.raw();
        let command = Command::OpenSession {
            namespace: NAMESPACE,
            client_id: "once".to_owned(),
            connection,
            clean_start: false,
            expiry_ms: u64::MAX,
            will: None,
            user: None,
            at: 0,
        };
        match &node.ask(client, Request::Propose { token: 1, command })[..] {
            [Event::Proposed { result: Ok(Outcome::SessionOpened { session, .. }), .. }] => {
                Once { session: *session, connection }
            }
            other => panic!("{other:?}"),
        }
    }

    fn note(&self, node: &mut Node<'_>, client: &Client, noted: &[u16]) -> OnceId {
        let use_number = match self.change(node, client, noted, &[]) {
            Ok(Outcome::Noted { use_number }) => use_number,
            other => panic!("{other:?}"),
        };
        OnceId { session: self.session, packet_identifier: noted[0], use_number }
    }

    fn change(
        &self,
        node: &mut Node<'_>,
        client: &Client,
        noted: &[u16],
        released: &[(u16, u64)],
    ) -> Result<Outcome, Refusal> {
        let command = Command::NotePackets {
            session: self.session,
            connection: self.connection,
            noted: noted.to_vec(),
            released: released.to_vec(),
            unreleased: Vec::new(),
        };
        match node.ask(client, Request::Propose { token: 1, command }).pop() {
            Some(Event::Proposed { result, .. }) => result,
            other => panic!("{other:?}"),
        }
    }
}

fn publish_once(streams: &[StreamId], body: &str, once: OnceId) -> Request {
    let content = Content {
        origin: Origin::Mqtt,
        envelope: Bytes::new(),
        key: None,
        body: Some(Bytes::copy_from_slice(body.as_bytes())),
        timestamp: Timestamp(5),
    };
    let route = Route { streams: streams.to_vec(), ..Route::default() };
    Request::Publish { token: Some(9), content, route, once: Some(once) }
}

fn is_published(events: &[Event]) -> bool {
    matches!(events, [Event::Published { token: 9, result: Ok(()) }])
}

#[test]
fn an_exactly_once_publish_is_stored_once_in_each_stream_over_crashes() {
    let disk = MemoryDisk::new();
    let mut node = Node::open(&disk, 2);
    let client = node.connect(0);
    let streams = [node.queue(&client, "a"), node.queue(&client, "b"), node.queue(&client, "c")];
    let once = Once::open(&mut node, &client);
    let id = once.note(&mut node, &client, &[7]);
    // The first try reached only one of the streams.
    assert!(is_published(&node.ask(&client, publish_once(&streams[..1], "one", id))));
    for round in 0..3 {
        disk.crash(koine_base::disk::memory::Survival::Nothing);
        node = Node::open(&disk, 2);
        let client = node.connect(round % 2);
        assert_eq!(Once::open(&mut node, &client).session, id.session);
        for _ in 0..2 {
            assert!(is_published(&node.ask(&client, publish_once(&streams, "one", id))));
        }
        // Enough for a checkpoint, which keeps what is known of it.
        let filler = node.queue(&client, "filler");
        for _ in 0..400 {
            node.publish(&client, &[filler], &"x".repeat(300));
        }
    }
    let client = node.connect(0);
    let once = Once::open(&mut node, &client);
    assert!(once.change(&mut node, &client, &[], &[(7, id.use_number)]).is_ok());
    // A repetition that was on its way for so long stores nothing; the next use of the identifier does.
    assert!(is_published(&node.ask(&client, publish_once(&streams, "one", id))));
    let next = once.note(&mut node, &client, &[7]);
    assert_ne!(next.use_number, id.use_number);
    assert!(is_published(&node.ask(&client, publish_once(&streams, "two", next))));
    for stream in streams {
        let got = deliveries(node.ask(&client, attach(stream, stream.raw(), 10)));
        assert_eq!(bodies(&got), ["one", "two"]);
    }
}

#[test]
fn a_repetition_waits_for_the_first_copy_and_a_connection_without_the_session_notes_nothing() {
    let disk = MemoryDisk::new();
    let mut node = Node::open(&disk, 2);
    let client = node.connect(0);
    let stream = node.queue(&client, "a");
    let old = Once::open(&mut node, &client);
    let id = old.note(&mut node, &client, &[1]);
    let both = [publish_once(&[stream], "one", id), publish_once(&[stream], "one", id)];
    client.script.borrow_mut().requests.extend(both);
    node.shards[0].receive(node.now, client.id, &mut BytesMut::new());
    assert!(client.take().is_empty(), "neither before the disk has it");
    node.settle();
    assert_eq!(client.take().len(), 2);
    let events = node.ask(&client, Request::Status { token: 4, stream });
    assert!(
        matches!(&events[..], [Event::Status { result: Ok(status), .. }] if status.ready == 1),
        "{events:?}"
    );
    let other = node.connect(1);
    Once::open(&mut node, &other);
    assert_eq!(old.change(&mut node, &other, &[2], &[]), Err(Refusal::Cancelled));
    // A late release of an earlier use leaves the present one alone.
    let new = Once { session: old.session, connection: other.id.raw() };
    let again = new.note(&mut node, &other, &[1]);
    assert!(old.change(&mut node, &other, &[], &[(1, id.use_number)]).is_ok());
    let metadata = node.shards[1].metadata();
    assert!(metadata.is_once_open(&again) && !metadata.is_once_open(&id));
}
