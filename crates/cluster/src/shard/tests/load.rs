//! What a shard does when the disk or the memory runs short, and that it is over by itself.

use super::producers::{appended, produce};
use super::*;
use koine_broker::message::Annotation;
use koine_broker::metadata::{SessionId, SubscriptionOptions};
use koine_broker::offsets::CommittedOffset;
use koine_broker::overload::Alarms;
use koine_broker::session::RetainedPage;

/// A peer whose session has begun what the test says and writes what it is sent.
#[derive(Default)]
struct State {
    partial: usize,
    /// The alarms each time it was told.
    told: Vec<Alarms>,
    requests: Vec<Request>,
    events: Vec<Event>,
    evicted: bool,
    told_goodbye: bool,
}

struct Peer(Rc<RefCell<State>>);

impl Session for Peer {
    fn protocol(&self) -> Protocol {
        Protocol::Mqtt
    }
    fn receive(&mut self, _input: &mut BytesMut, ctx: &mut Context<'_>) {
        ctx.out.requests.append(&mut self.0.borrow_mut().requests);
    }
    fn event(&mut self, event: Event, ctx: &mut Context<'_>) {
        match event {
            Event::Live { content, .. } => ctx.out.wire.push(content.body.unwrap_or_default()),
            Event::Deliveries { deliveries, .. } => {
                for delivery in deliveries {
                    ctx.out.wire.put(delivery.record.value().unwrap_or_default());
                }
            }
            other => self.0.borrow_mut().events.push(other),
        }
    }
    fn alarms_changed(&mut self, ctx: &mut Context<'_>) {
        self.0.borrow_mut().told.push(ctx.alarms);
    }
    fn partial_bytes(&self) -> usize {
        self.0.borrow().partial
    }
    fn evict(&mut self, ctx: &mut Context<'_>) {
        self.0.borrow_mut().evicted = true;
        ctx.out.wire.put(b"goodbye");
        ctx.out.close = true;
    }
    fn tick(&mut self, _ctx: &mut Context<'_>) {}
    fn deadline(&self) -> Moment {
        Moment::NEVER
    }
    fn access_changed(&mut self, _ctx: &mut Context<'_>) {}
    fn disconnected(&mut self, _ctx: &mut Context<'_>) {}
    fn shutdown(&mut self, ctx: &mut Context<'_>) {
        self.0.borrow_mut().told_goodbye = true;
        ctx.out.close = true;
    }
}

const MEMORY: Alarms = Alarms { disk: false, memory: true };
const DISK: Alarms = Alarms { disk: true, memory: false };

fn open_with(disk: &MemoryDisk, limits: Limits) -> Node<'_> {
    let layout = Layout { shard_count: 1 };
    let now = Now { moment: Moment(1_000_000), wall: Timestamp(1_700_000_000_000) };
    let mut config = config(ShardId(0), layout);
    config.limits = limits;
    let shard = Shard::open(disk, config, None, now).expect("the directory is sound");
    let mut node = Node { disk, shards: vec![shard], now };
    node.settle();
    node
}

fn peer(node: &mut Node<'_>) -> (ConnectionId, Rc<RefCell<State>>) {
    let state = Rc::new(RefCell::new(State::default()));
    let id = node.shards[0].connect(node.now, Box::new(Peer(Rc::clone(&state))));
    (id, state)
}

fn send(node: &mut Node<'_>, (id, state): &(ConnectionId, Rc<RefCell<State>>), request: Request) {
    state.borrow_mut().requests.push(request);
    node.shards[0].receive(node.now, *id, &mut BytesMut::new());
    node.settle();
}

fn begin(node: &mut Node<'_>, of: &(ConnectionId, Rc<RefCell<State>>), bytes: usize) -> bool {
    of.1.borrow_mut().partial = bytes;
    node.shards[0].receive(node.now, of.0, &mut BytesMut::new());
    node.shards[0].wants_input(of.0)
}

fn output_bytes(node: &mut Node<'_>, id: ConnectionId) -> usize {
    node.shards[0].output(id).map_or(0, |output| output.len())
}

/// The peer reads all that waits for it.
fn read_all(node: &mut Node<'_>, id: ConnectionId) -> Bytes {
    let all = node.shards[0].output(id).map(|output| output.take_all()).unwrap_or_default();
    node.shards[0].written(node.now, id);
    node.settle();
    all
}

fn pass(node: &mut Node<'_>, ms: u64) {
    node.now.moment = node.now.moment.after_ms(ms);
    for shard in &mut node.shards {
        shard.tick(node.now);
    }
    node.settle();
}

fn content(bytes: usize) -> Content {
    Content {
        origin: Origin::Mqtt,
        envelope: Bytes::from_static(b"envelope"),
        key: None,
        body: Some(Bytes::from(vec![b'x'; bytes])),
        timestamp: Timestamp(5),
    }
}

fn live(to: &[ConnectionId], bytes: usize) -> Request {
    let annotation = Annotation { qos: 0, retain: false, identifiers: Vec::new() };
    let live = to.iter().map(|to| (*to, annotation.clone())).collect();
    let route = Route { live, ..Route::default() };
    Request::Publish { token: None, content: content(bytes), route, once: None }
}

fn batch_to(stream: StreamId) -> Request {
    let mut builder = BatchBuilder::new(1);
    builder.push(1, Some(b"key"), Some(&[b"value"]), &[]);
    let batch = builder.finish(0, 0);
    let info = batch::BatchHeader::new(&batch).and_then(|h| h.info()).expect("built here");
    Request::Append { token: Some(4), stream, batch, info }
}

fn commit_offset(topic: &str) -> Request {
    let committed = CommittedOffset {
        offset: 7,
        leader_epoch: -1,
        metadata: String::new(),
        commit_timestamp: 1,
    };
    Request::CommitOffsets {
        token: 5,
        group: "g".to_owned(),
        member: None,
        offsets: vec![(topic.to_owned(), 0, committed)],
    }
}

/// Publishes of all kinds are refused, everything that consumers need is not.
fn check_refuses_only_publishes(node: &mut Node<'_>, client: &Client, stream: StreamId) {
    let route = Route { streams: vec![stream], ..Route::default() };
    let publish = Request::Publish { token: Some(9), content: content(3), route, once: None };
    let events = node.ask(client, publish);
    assert!(
        matches!(events[..], [Event::Published { token: 9, result: Err(Refusal::Busy) }]),
        "{events:?}"
    );
    let events = node.ask(client, batch_to(stream));
    assert!(
        matches!(events[..], [Event::Appended { token: 4, result: Err(Refusal::Busy) }]),
        "{events:?}"
    );
    let command = Command::Retain {
        namespace: NAMESPACE,
        topic: "a".to_owned(),
        content: Some(vec![1]),
        qos: 1,
        expires_at: None,
    };
    let events = node.ask(client, Request::Propose { token: 3, command });
    assert!(
        matches!(events[..], [Event::Proposed { token: 3, result: Err(Refusal::Busy) }]),
        "{events:?}"
    );
    let events = node.ask(client, commit_offset("t"));
    assert!(matches!(events[..], [Event::Committed { token: 5, result: Ok(()) }]), "{events:?}");
}

#[test]
fn without_room_on_the_disk_consumers_drain_and_publishers_are_refused() {
    for shard_count in [1, 2] {
        let disk = MemoryDisk::new();
        let mut node = Node::open(&disk, shard_count);
        let client = node.connect(0);
        let stream = node.queue(&client, "q");
        for body in ["one", "two"] {
            node.publish(&client, &[stream], body);
        }
        for shard in &mut node.shards {
            shard.set_disk_low(node.now, true);
        }
        node.settle();
        assert!(node.shards.iter().all(|shard| shard.load().alarms == DISK));
        check_refuses_only_publishes(&mut node, &client, stream);
        let got = deliveries(node.ask(&client, attach(stream, 1, 10)));
        assert_eq!(bodies(&got), ["one", "two"]);
        let (ranges, settlement) = (vec![(0, 1)], Settlement::Ack);
        node.ask(&client, Request::Settle { stream, consumer: 1, ranges, settlement });
        let events = node.ask(&client, Request::Sync { token: 6, stream });
        assert!(matches!(events[..], [Event::Synced { token: 6, result: Ok(()) }]), "{events:?}");
        let events = node.ask(&client, Request::Bounds { token: 3, stream });
        assert!(
            matches!(&events[..], [Event::Bounds { result: Ok(bounds), .. }] if bounds.start == 2),
            "{events:?}"
        );
        node.queue(&client, "meanwhile");
        for shard in &mut node.shards {
            shard.set_disk_low(node.now, false);
        }
        node.publish(&client, &[stream], "three");
    }
}

#[test]
fn a_full_log_stops_publishers_of_all_shards_and_draining_starts_them_again() {
    let disk = MemoryDisk::new();
    let mut node = Node::open(&disk, 2);
    let client = node.connect(0);
    let streams = ["a", "b"].map(|name| node.queue(&client, name));
    disk.limit(Some(disk.used_bytes() + (256 << 10)));
    let route = |stream| Route { streams: vec![stream], ..Route::default() };
    let mut stored = 0;
    loop {
        let request = Request::Publish {
            token: Some(9),
            content: content(2000),
            route: route(streams[0]),
            once: None,
        };
        match &node.ask(&client, request)[..] {
            [Event::Published { result: Ok(()), .. }] => stored += 1,
            [Event::Published { result: Err(Refusal::Busy), .. }] => break,
            other => panic!("{other:?}"),
        }
        assert!(stored < 10_000, "the disk is never full");
    }
    assert!(node.shards.iter().all(|shard| shard.load().alarms == DISK));
    check_refuses_only_publishes(&mut node, &client, streams[1]);
    let mut taken = 0;
    let mut events = node.ask(&client, attach(streams[0], 1, 10));
    while taken < stored {
        let got = deliveries(events);
        assert!(!got.is_empty(), "stuck at {taken} of {stored}");
        taken += got.len();
        let ranges = vec![(got[0].offset, got[got.len() - 1].offset)];
        let (stream, settlement) = (streams[0], Settlement::Ack);
        events = node.ask(&client, Request::Settle { stream, consumer: 1, ranges, settlement });
        let add = u32::try_from(got.len()).expect("small");
        events.extend(node.ask(&client, Request::Credit { stream, consumer: 1, add }));
    }
    for _ in 0..20 {
        pass(&mut node, 1_000);
    }
    assert!(node.shards.iter().all(|shard| shard.load().alarms == Alarms::default()));
    node.publish(&client, &streams, "again");
}

#[test]
fn large_frames_are_read_one_after_the_other_while_memory_is_short() {
    const MIB: usize = 1 << 20;
    let disk = MemoryDisk::new();
    // Half of it is for what comes in.
    let mut node = open_with(&disk, Limits { memory_bytes_max: 8 * MIB, ..Limits::default() });
    let peers: Vec<_> = (0..4).map(|_| peer(&mut node)).collect();
    assert!(begin(&mut node, &peers[0], 2 * MIB));
    assert!(begin(&mut node, &peers[1], MIB));
    assert!(begin(&mut node, &peers[2], 60 << 10), "a small one is not counted");
    assert_eq!(node.shards[0].load().alarms, Alarms::default());
    assert!(!begin(&mut node, &peers[1], 2 * MIB), "the mark is reached");
    assert_eq!(node.shards[0].load().alarms, MEMORY);
    assert!(begin(&mut node, &peers[0], 50 * MIB), "the first is read to its end");
    assert!(!begin(&mut node, &peers[3], MIB));
    assert!(begin(&mut node, &peers[2], 50 << 10));
    begin(&mut node, &peers[0], 0);
    assert!(node.shards[0].wants_input(peers[1].0) && node.shards[0].wants_input(peers[3].0));
    assert_eq!(node.shards[0].load().waiting_count, 0);
    node.shards[0].disconnected(node.now, peers[1].0);
    begin(&mut node, &peers[3], 0);
    pass(&mut node, 200);
    assert_eq!(node.shards[0].load(), LoadStats::default());
    assert_eq!(peers[2].1.borrow().told, [MEMORY, Alarms::default()]);
}

#[test]
fn while_publishes_hold_the_memory_not_even_the_first_frame_is_read_on() {
    const MIB: usize = 1 << 20;
    let disk = MemoryDisk::new();
    let mut node = open_with(&disk, Limits { memory_bytes_max: 8 * MIB, ..Limits::default() });
    let client = node.connect(0);
    let stream = node.queue(&client, "q");
    let peers: Vec<_> = (0..20).map(|_| peer(&mut node)).collect();
    // The disk does nothing: each frame that becomes whole is a publish that stays.
    let mut taken = 0;
    for peer in &peers {
        if !begin(&mut node, peer, 100 << 10) {
            continue;
        }
        let route = Route { streams: vec![stream], ..Route::default() };
        let publish = Request::Publish { token: Some(3), content: content(MIB), route, once: None };
        peer.1.borrow_mut().requests.push(publish);
        begin(&mut node, peer, 0);
        taken += 1;
    }
    let load = node.shards[0].load();
    assert!(load.incoming_bytes + load.publish_bytes < 6 * MIB, "{load:?}");
    assert!(load.waiting_count > 0 && taken >= 2, "{load:?}");
    // Nothing more comes from them, and yet all goes on when the disk does.
    node.settle();
    assert_eq!((node.shards[0].load().publish_bytes, node.shards[0].load().waiting_count), (0, 0));
    for peer in &peers {
        begin(&mut node, peer, 0);
    }
    pass(&mut node, 200);
    assert_eq!(node.shards[0].load(), LoadStats::default());
}

#[test]
fn what_lies_here_of_a_peer_that_is_not_read_holds_nobody_up() {
    let disk = MemoryDisk::new();
    let mut node = open_with(&disk, Limits { memory_bytes_max: 256 << 10, ..Limits::default() });
    let parked = peer(&mut node);
    let mut input = BytesMut::from(&[0; 200 << 10][..]);
    node.shards[0].receive(node.now, parked.0, &mut input);
    assert_eq!(node.shards[0].load().incoming_bytes, 0);
    assert_eq!(node.shards[0].load().alarms, Alarms::default());
}

#[test]
fn on_a_full_disk_a_producer_hears_of_what_is_stored_and_of_nothing_out_of_order() {
    let disk = MemoryDisk::new();
    let mut node = Node::open(&disk, 2);
    let clients = [node.connect(0), node.connect(1)];
    let streams = ["a", "b"].map(|name| node.queue(&clients[0], name));
    assert_ne!(streams[0].group(), streams[1].group(), "one of each shard");
    for stream in streams {
        assert_eq!(appended(&node.ask(&clients[0], produce(stream, 0))), [(0, Ok(0))]);
    }
    disk.limit(Some(disk.used_bytes() + (256 << 10)));
    while node.shards[0].load().alarms != DISK {
        let route = Route { streams: vec![streams[0]], ..Route::default() };
        let (token, content) = (Some(9), content(2000));
        node.ask(&clients[0], Request::Publish { token, content, route, once: None });
    }
    for (client, stream) in clients.iter().flat_map(|client| streams.map(|of| (client, of))) {
        for (sequence, expect) in [(0, Ok(0)), (1, Err(Refusal::Busy)), (2, Err(Refusal::Busy))] {
            let answers = appended(&node.ask(client, produce(stream, sequence)));
            assert_eq!(answers, [(sequence as u64, expect)], "{stream}");
        }
    }
    disk.limit(None);
    for _ in 0..20 {
        pass(&mut node, 1_000);
    }
    assert_eq!(appended(&node.ask(&clients[0], produce(streams[1], 1))), [(1, Ok(1))]);
    let refused = [(3, Err(Refusal::OutOfOrderSequence))];
    assert_eq!(appended(&node.ask(&clients[0], produce(streams[1], 3))), refused);
}

#[test]
fn a_node_that_stops_answers_first_what_it_has_taken() {
    let disk = MemoryDisk::new();
    let mut node = open_with(&disk, Limits::default());
    let client = node.connect(0);
    let stream = node.queue(&client, "q");
    let (sender, idle) = (peer(&mut node), peer(&mut node));
    let publish = |node: &mut Node<'_>| {
        let route = Route { streams: vec![stream], ..Route::default() };
        let request = Request::Publish { token: Some(3), content: content(10), route, once: None };
        sender.1.borrow_mut().requests.push(request);
        node.shards[0].receive(node.now, sender.0, &mut BytesMut::new());
    };
    publish(&mut node);
    node.shards[0].shut_down(node.now);
    assert!(idle.1.borrow().told_goodbye && node.shards[0].wants_close(idle.0));
    assert!(!sender.1.borrow().told_goodbye && !node.shards[0].wants_input(sender.0));
    node.settle();
    let state = sender.1.borrow();
    assert!(matches!(state.events[..], [Event::Published { token: 3, result: Ok(()) }]));
    assert!(state.told_goodbye && node.shards[0].wants_close(sender.0));
}

#[test]
fn the_second_stop_waits_for_nothing() {
    let disk = MemoryDisk::new();
    let mut node = open_with(&disk, Limits::default());
    let client = node.connect(0);
    let stream = node.queue(&client, "q");
    let sender = peer(&mut node);
    let route = Route { streams: vec![stream], ..Route::default() };
    let request = Request::Publish { token: Some(3), content: content(10), route, once: None };
    sender.1.borrow_mut().requests.push(request);
    node.shards[0].receive(node.now, sender.0, &mut BytesMut::new());
    node.shards[0].shut_down(node.now);
    assert!(!sender.1.borrow().told_goodbye);
    node.shards[0].shut_down(node.now);
    assert!(sender.1.borrow().told_goodbye);
}

#[test]
fn who_never_sends_the_rest_is_closed_when_others_wait() {
    const MIB: usize = 1 << 20;
    let disk = MemoryDisk::new();
    let mut node = open_with(&disk, Limits { memory_bytes_max: 8 * MIB, ..Limits::default() });
    let (slow, other) = (peer(&mut node), peer(&mut node));
    assert!(begin(&mut node, &slow, 3 * MIB));
    pass(&mut node, 60_000);
    assert!(!slow.1.borrow().evicted, "nobody needs it");
    assert!(!begin(&mut node, &other, MIB));
    pass(&mut node, 1_000);
    assert!(slow.1.borrow().evicted && node.shards[0].wants_close(slow.0));
    assert!(node.shards[0].wants_input(other.0) && !other.1.borrow().evicted);
    pass(&mut node, 29_000);
    assert!(!other.1.borrow().evicted, "its own time began with its turn");
    assert_eq!(node.shards[0].meter(Protocol::Mqtt).evicted, 1);
}

#[test]
fn publishes_under_way_raise_the_alarm_and_their_commit_ends_it() {
    let disk = MemoryDisk::new();
    let mut node = open_with(&disk, Limits { memory_bytes_max: 64 << 10, ..Limits::default() });
    let client = node.connect(0);
    let stream = node.queue(&client, "q");
    let sender = peer(&mut node);
    for _ in 0..5 {
        let route = Route { streams: vec![stream], ..Route::default() };
        let request =
            Request::Publish { token: None, content: content(8 << 10), route, once: None };
        sender.1.borrow_mut().requests.push(request);
    }
    node.shards[0].receive(node.now, sender.0, &mut BytesMut::new());
    assert_eq!(node.shards[0].load().alarms, MEMORY);
    // The account is the shard's: that the connection is gone takes nothing from it.
    node.shards[0].disconnected(node.now, sender.0);
    assert!(node.shards[0].load().publish_bytes > 40 << 10);
    node.settle();
    pass(&mut node, 200);
    assert_eq!(node.shards[0].load(), LoadStats::default());
}

#[test]
fn over_the_output_budget_the_slow_miss_volatile_messages_and_are_closed() {
    const KIB: usize = 1 << 10;
    let disk = MemoryDisk::new();
    let limits = Limits { memory_bytes_max: 2048 * KIB, ..Limits::default() };
    let mut node = open_with(&disk, limits);
    let sender = peer(&mut node);
    let fast = peer(&mut node);
    let slow: Vec<_> = (0..8).map(|_| peer(&mut node)).collect();
    let mut all: Vec<ConnectionId> = slow.iter().map(|(id, _)| *id).collect();
    all.push(fast.0);
    let mut received = 0;
    for _ in 0..100 {
        send(&mut node, &sender, live(&all, 50 * KIB));
        received += read_all(&mut node, fast.0).len();
    }
    assert_eq!(received, 100 * 50 * KIB, "who reads gets everything");
    let held = node.shards[0].load().outgoing_bytes;
    assert!((900 * KIB..1300 * KIB).contains(&held), "{held}");
    let meter = node.shards[0].meter(Protocol::Mqtt);
    assert!(meter.dropped_memory > 0 && meter.dropped_slow == 0);
    // One of them is seen half-way through a frame.
    let begun = slow[0].0;
    let output = node.shards[0].output(begun).expect("it is there");
    output.advance(10);
    node.shards[0].written(node.now, begun);
    pass(&mut node, 29_000);
    assert!(slow.iter().all(|(_, state)| !state.borrow().evicted));
    pass(&mut node, 2_000);
    let evicted = slow.iter().filter(|(_, state)| state.borrow().evicted).count();
    assert!((1..8).contains(&evicted), "as many as it takes: {evicted}");
    assert!(node.shards[0].load().outgoing_bytes <= 1024 * KIB);
    for (id, state) in &slow {
        if state.borrow().evicted {
            let rest = read_all(&mut node, *id);
            assert!(rest.ends_with(b"goodbye"));
            let frames = rest.len() - b"goodbye".len() + if *id == begun { 10 } else { 0 };
            assert_eq!(frames % (50 * KIB), 0, "only whole frames");
        }
    }
    assert!(!fast.1.borrow().evicted);
}

#[test]
fn a_publisher_waits_for_shards_that_lag_behind_with_its_volatile_messages() {
    let disk = MemoryDisk::new();
    let mut node = Node::open(&disk, 2);
    let (sender, near) = (peer(&mut node), peer(&mut node));
    let state = Rc::new(RefCell::new(State::default()));
    let far = node.shards[1].connect(node.now, Box::new(Peer(Rc::clone(&state))));
    let flood = |node: &mut Node<'_>, to: ConnectionId| {
        let mut sent = 0;
        while sent < 100 && node.shards[0].wants_input(sender.0) {
            sender.1.borrow_mut().requests.push(live(&[to], 1 << 20));
            node.shards[0].receive(node.now, sender.0, &mut BytesMut::new());
            sent += 1;
        }
        sent
    };
    assert_eq!(flood(&mut node, near.0), 100, "on its own shard they are handed out at once");
    assert_eq!(flood(&mut node, far), 8, "as many as one connection may have under way");
    node.settle();
    assert!(node.shards[0].wants_input(sender.0));
    assert_eq!(node.shards[0].load().publish_bytes, 0);
    assert_eq!(flood(&mut node, far), 8);
}

#[test]
fn retained_messages_under_way_are_counted() {
    let disk = MemoryDisk::new();
    let mut node = open_with(&disk, Limits { memory_bytes_max: 64 << 10, ..Limits::default() });
    let sender = peer(&mut node);
    for token in 0..2 {
        let command = Command::Retain {
            namespace: NAMESPACE,
            topic: "a".to_owned(),
            content: Some(content(20 << 10).encode().to_vec()),
            qos: 1,
            expires_at: None,
        };
        sender.1.borrow_mut().requests.push(Request::Propose { token, command });
    }
    node.shards[0].receive(node.now, sender.0, &mut BytesMut::new());
    assert_eq!(node.shards[0].load().alarms, MEMORY);
    node.settle();
    pass(&mut node, 200);
    assert_eq!(node.shards[0].load(), LoadStats::default());
}

#[test]
fn one_connection_with_many_consumers_has_no_more_waiting_than_one_may() {
    let disk = MemoryDisk::new();
    let limits = Limits { output_bytes_max: 256 << 10, ..Limits::default() };
    let mut node = open_with(&disk, limits);
    let publisher = node.connect(0);
    let queues: Vec<StreamId> =
        (0..20).map(|number| node.queue(&publisher, &format!("q{number}"))).collect();
    let body = "y".repeat(10_000);
    for _ in 0..10 {
        node.publish(&publisher, &queues, &body);
    }
    let consumer = peer(&mut node);
    for (number, stream) in queues.iter().enumerate() {
        send(&mut node, &consumer, attach(*stream, number as u64, u32::MAX));
    }
    let waiting = output_bytes(&mut node, consumer.0);
    // One more window of a stream may be on its way when the line is crossed.
    assert!((256 << 10..640 << 10).contains(&waiting), "{waiting}");
    let mut received = 0;
    loop {
        let read = read_all(&mut node, consumer.0).len();
        received += read;
        if read == 0 {
            break;
        }
    }
    assert_eq!(received, 20 * 10 * 10_000, "it goes on as the peer reads");
    assert!(node.shards[0].untaken.is_empty());
}

#[test]
fn a_session_takes_no_more_than_its_backlog_may_hold() {
    let disk = MemoryDisk::new();
    let mut node = open_with(&disk, Limits { backlog_count_max: 3, ..Limits::default() });
    let client = node.connect(0);
    let command = Command::OpenSession {
        namespace: NAMESPACE,
        client_id: "c".to_owned(),
        connection: client.id.raw(),
        clean_start: false,
        expiry_ms: 1_000_000,
        will: None,
        user: None,
        at: 0,
    };
    let events = node.ask(&client, Request::Propose { token: 1, command });
    let session = match &events[..] {
        [Event::Proposed { result: Ok(Outcome::SessionOpened { session, .. }), .. }] => *session,
        other => panic!("{other:?}"),
    };
    subscribe(&mut node, &client, session);
    let backlog = node.shards[0].metadata().session(session).and_then(|session| session.backlog());
    let backlog = backlog.expect("it has subscribed");
    let annotation = Annotation { qos: 1, retain: false, identifiers: Vec::new() };
    for _ in 0..5 {
        let route = Route { backlogs: vec![(backlog, annotation.clone())], ..Route::default() };
        let publish = Request::Publish { token: Some(2), content: content(1), route, once: None };
        let events = node.ask(&client, publish);
        assert!(matches!(events[..], [Event::Published { result: Ok(()), .. }]), "{events:?}");
    }
    assert_eq!(node.shards[0].meter(Protocol::Mqtt).dropped_backlog_full, 2);
    let got = deliveries(node.ask(&client, attach(backlog, 1, 10)));
    assert_eq!(got.len(), 3);
}

fn subscribe(node: &mut Node<'_>, client: &Client, session: SessionId) {
    let options = SubscriptionOptions { qos_max: 1, ..SubscriptionOptions::default() };
    let filters = vec![("a".to_owned(), options)];
    let command = Command::Subscribe { session, filters };
    let events = node.ask(client, Request::Propose { token: 1, command });
    assert!(matches!(&events[..], [Event::Proposed { result: Ok(_), .. }]), "{events:?}");
}

#[test]
fn retained_messages_come_a_page_at_a_time() {
    const COUNT: usize = 2_300;
    let disk = MemoryDisk::new();
    let mut node = Node::open(&disk, 1);
    let client = node.connect(0);
    for number in 0..COUNT {
        let retained = content(1).encode().to_vec();
        let command = Command::Retain {
            namespace: NAMESPACE,
            topic: format!("t/{number}"),
            content: Some(retained),
            qos: 1,
            expires_at: None,
        };
        node.ask(&client, Request::Propose { token: 3, command });
    }
    let (mut after, mut pages, mut topics) = (None, Vec::new(), BTreeSet::new());
    loop {
        let filter = "t/#".to_owned();
        let request = Request::Retained { token: 4, namespace: NAMESPACE, filter, after };
        let mut events = node.ask(&client, request);
        let Some(Event::Retained { result: Ok(RetainedPage { messages, rest }), .. }) =
            events.pop()
        else {
            panic!("no answer");
        };
        pages.push(messages.len());
        topics.extend(messages.into_iter().map(|message| message.topic));
        after = rest;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((topics.len(), pages), (COUNT, vec![1_000, 1_000, 300]));
}
