//! How long a shard's thread is held up while checkpoints are made: one shard with many streams and a
//! full store of retained messages, writes to random streams, every call into the shard timed.
//!
//! `cargo run --release -p koine-cluster --example checkpoint_stalls [streams] [retained MiB]`

use bytes::{Bytes, BytesMut};
use koine_base::disk::MemoryDisk;
use koine_base::rng::Rng;
use koine_base::{Moment, Now, ShardId, StreamId, Timestamp};
use koine_broker::limits::Limits;
use koine_broker::message::{Content, Dialect, Dialects, Message, Origin};
use koine_broker::metadata::{Command, Durability, NamespaceId, Outcome, QueueSpec};
use koine_broker::session::{Context, Event, NodeInfo, Protocol, Request, Route, Session};
use koine_cluster::{Layout, Shard, ShardConfig};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

const RETAINED_BYTES: usize = 4096;
const WRITES: usize = 400_000;
const WRITE_BYTES: usize = 200;

struct Plain;

impl Dialect for Plain {
    fn message(&self, content: &Content) -> Message {
        Message { body: content.body.clone(), ..Message::default() }
    }
}

#[derive(Default)]
struct Script {
    requests: Vec<Request>,
    streams: Vec<StreamId>,
}

struct Puppet(Rc<RefCell<Script>>);

impl Session for Puppet {
    fn protocol(&self) -> Protocol {
        Protocol::Admin
    }
    fn receive(&mut self, _input: &mut BytesMut, ctx: &mut Context<'_>) {
        ctx.out.requests.append(&mut self.0.borrow_mut().requests);
    }
    fn event(&mut self, event: Event, _ctx: &mut Context<'_>) {
        match event {
            Event::Proposed { result: Ok(Outcome::QueueDeclared { stream, .. }), .. } => {
                self.0.borrow_mut().streams.push(stream);
            }
            Event::Proposed { result: Err(refusal), .. } => panic!("{refusal:?}"),
            _ => {}
        }
    }
    fn tick(&mut self, _ctx: &mut Context<'_>) {}
    fn deadline(&self) -> Moment {
        Moment::NEVER
    }
    fn access_changed(&mut self, _ctx: &mut Context<'_>) {}
    fn disconnected(&mut self, _ctx: &mut Context<'_>) {}
    fn shutdown(&mut self, _ctx: &mut Context<'_>) {}
}

fn config() -> ShardConfig {
    let mut log = koine_log::Config::new("shard-0".to_owned());
    log.wal_file_bytes = 32 << 20;
    log.tail_cache_bytes = 64 << 20;
    log.free_bytes_min = 0;
    ShardConfig {
        shard: ShardId(0),
        layout: Layout { shard_count: 1 },
        voters: koine_cluster::Voters::alone(),
        node: NodeInfo {
            node_id: 1,
            cluster_id: "measured".to_owned(),
            version: "0",
            advertised_kafka: None,
            auto_create_topics: true,
            default_partitions: 1,
            default_retention_ms: -1,
            default_retention_bytes: -1,
            default_durability: Durability::Fsync,
            epochs: Vec::new(),
        },
        limits: Limits { retained_bytes_max: 2 << 30, ..Limits::default() },
        dialects: Dialects { kafka: &Plain, amqp091: &Plain, mqtt: &Plain },
        log,
        initial_rebalance_delay_ms: 0,
        seed: 7,
        secret_seed: [7; 32],
    }
}

struct Node {
    disk: MemoryDisk,
    shard: Shard,
    now: Now,
    calls: Vec<Duration>,
}

impl Node {
    fn timed<R>(&mut self, call: impl FnOnce(&mut Shard, Now) -> R) -> R {
        let start = Instant::now();
        let result = call(&mut self.shard, self.now);
        self.calls.push(start.elapsed());
        result
    }

    fn settle(&mut self) {
        while let Some(request) = self.timed(|shard, _| shard.poll_io()) {
            let result = koine_log::execute(&self.disk, request);
            self.timed(|shard, now| shard.io_complete(now, result)).expect("the disk works");
        }
        // Steps that the shard spreads over time.
        self.now.moment = self.now.moment.after_ms(1);
        if self.shard.deadline() <= self.now.moment {
            self.timed(Shard::tick);
        }
    }

    fn ask(
        &mut self,
        id: koine_base::ConnectionId,
        script: &RefCell<Script>,
        requests: Vec<Request>,
    ) {
        script.borrow_mut().requests = requests;
        self.timed(|shard, now| shard.receive(now, id, &mut BytesMut::new()));
        self.settle();
    }

    fn report(&mut self, what: &str) {
        self.calls.sort_unstable();
        let at = |part: f64| self.calls[((self.calls.len() - 1) as f64 * part) as usize];
        println!(
            "{what}: {} calls, p50 {:?}, p99.9 {:?}, max {:?}, checkpoints {}",
            self.calls.len(),
            at(0.5),
            at(0.999),
            at(1.0),
            self.shard.log_stats().checkpoints
        );
        self.calls.clear();
    }
}

fn publish(rng: &mut Rng, streams: &[StreamId]) -> Request {
    let content = Content {
        origin: Origin::Amqp091,
        envelope: Bytes::from_static(b"envelope"),
        key: None,
        body: Some(Bytes::from(vec![1; WRITE_BYTES])),
        timestamp: Timestamp(5),
    };
    let stream = streams[rng.below(streams.len() as u64) as usize];
    let route = Route { streams: vec![stream], ..Route::default() };
    Request::Publish { token: None, content, route, once: None }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default| arguments.next().and_then(|it| it.parse().ok()).unwrap_or(default);
    let (stream_count, retained_mib): (usize, usize) = (number(100_000), number(1024));
    let now = Now { moment: Moment(1_000_000), wall: Timestamp(1_700_000_000_000) };
    let disk = MemoryDisk::new();
    let shard = Shard::open(&disk, config(), None, now).expect("a fresh directory");
    let mut node = Node { disk, shard, now, calls: Vec::new() };
    node.settle();
    let script = Rc::new(RefCell::new(Script::default()));
    let id = node.shard.connect(node.now, Box::new(Puppet(Rc::clone(&script))));
    let namespace = NamespaceId(0);
    for first in (0..stream_count).step_by(1000) {
        let declare = |number: usize| {
            let spec = QueueSpec { durable: true, ..QueueSpec::default() };
            let mut id = [1; 16];
            id[..8].copy_from_slice(&(number as u64).to_be_bytes());
            let command =
                Command::DeclareQueue { namespace, name: format!("queue-{number}"), spec, id };
            Request::Propose { token: 1, command }
        };
        node.ask(id, &script, (first..stream_count.min(first + 1000)).map(declare).collect());
    }
    let streams = std::mem::take(&mut script.borrow_mut().streams);
    node.report("declaring");
    let retained_count = (retained_mib << 20) / RETAINED_BYTES;
    for first in (0..retained_count).step_by(100) {
        let retain = |number: usize| Request::Propose {
            token: 1,
            command: Command::Retain {
                namespace,
                topic: format!("retained/{number}"),
                content: Some(vec![2; RETAINED_BYTES]),
                qos: 1,
                expires_at: None,
            },
        };
        node.ask(id, &script, (first..retained_count.min(first + 100)).map(retain).collect());
    }
    node.report("retaining");
    let mut rng = Rng::new(1);
    for _ in 0..WRITES / 100 {
        let requests = (0..100).map(|_| publish(&mut rng, &streams)).collect();
        node.ask(id, &script, requests);
    }
    node.report("writing");
}
