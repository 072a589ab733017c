//! One shard on real files with the threads that `server` gives it, and a session that a program plays.
//! Must never wait but in [`Node::turn`].

use crate::disk::FileDisk;
use bytes::{Bytes, BytesMut};
use koine_base::{ConnectionId, Moment, Now, ShardId, StreamId, Timestamp};
use koine_broker::batch::{self, BatchBuilder, BatchInfo, BatchLimits};
use koine_broker::limits::Limits;
use koine_broker::message::{Content, Dialect, Dialects, Message};
use koine_broker::metadata::{Command, Durability, NamespaceId, Outcome, QueueSpec, TopicSettings};
use koine_broker::session::{Context, Event, NodeInfo, Protocol, Request, Session};
use koine_cluster::{Layout, Shard, ShardConfig, Voters};
use koine_log::{execute, IoClass, IoRequest, IoResult};
use std::cell::RefCell;
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::Arc;
use std::time::{Duration, Instant};

struct Plain;

impl Dialect for Plain {
    fn message(&self, content: &Content) -> Message {
        Message { body: content.body.clone(), ..Message::default() }
    }
}

#[derive(Default)]
struct Script {
    requests: Vec<Request>,
    events: Vec<Event>,
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
        self.0.borrow_mut().events.push(event);
    }
    fn tick(&mut self, _ctx: &mut Context<'_>) {}
    fn deadline(&self) -> Moment {
        Moment::NEVER
    }
    fn access_changed(&mut self, _ctx: &mut Context<'_>) {}
    fn disconnected(&mut self, _ctx: &mut Context<'_>) {}
    fn shutdown(&mut self, _ctx: &mut Context<'_>) {}
}

fn config(wal_file_bytes: u64, wal_files_free_max: usize) -> ShardConfig {
    let mut log = koine_log::Config::new("shard-0".to_owned());
    log.wal_file_bytes = wal_file_bytes;
    log.wal_files_free_max = wal_files_free_max;
    ShardConfig {
        shard: ShardId(0),
        layout: Layout { shard_count: 1 },
        voters: Voters::alone(),
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
        limits: Limits::default(),
        dialects: Dialects { kafka: &Plain, amqp091: &Plain, mqtt: &Plain },
        log,
        initial_rebalance_delay_ms: 0,
        seed: 7,
        secret_seed: [7; 32],
    }
}

pub struct Node {
    pub disk: Arc<FileDisk>,
    pub shard: Shard,
    begun: Instant,
    script: Rc<RefCell<Script>>,
    connection: ConnectionId,
    lanes: [Sender<IoRequest>; 3],
    results: Receiver<IoResult>,
    /// Disk requests under way.
    pub under_way: usize,
}

impl Node {
    pub fn open(name: &str, wal_file_bytes: u64) -> Node {
        let defaults = koine_log::Config::new("");
        Node::open_with(name, wal_file_bytes, defaults.wal_files_free_max)
    }

    pub fn open_with(name: &str, wal_file_bytes: u64, wal_files_free_max: usize) -> Node {
        let disk = FileDisk::new(name);
        let begun = Instant::now();
        let mut shard =
            Shard::open(&*disk, config(wal_file_bytes, wal_files_free_max), None, now_since(begun))
                .expect("a fresh directory");
        let script = Rc::new(RefCell::new(Script::default()));
        let puppet = Box::new(Puppet(Rc::clone(&script)));
        let connection = shard.connect(now_since(begun), puppet);
        let (done, results) = channel();
        let lanes = [0, 1, 2].map(|_| {
            let (lane, jobs) = channel::<IoRequest>();
            let (disk, done) = (Arc::clone(&disk), done.clone());
            std::thread::spawn(move || {
                for job in jobs {
                    if done.send(execute(&*disk, job)).is_err() {
                        return;
                    }
                }
            });
            lane
        });
        let mut node =
            Node { disk, shard, begun, script, connection, lanes, results, under_way: 0 };
        while !node.shard.is_serving() || !node.shard.is_quiet() {
            node.turn();
        }
        node
    }

    fn now(&self) -> Now {
        now_since(self.begun)
    }

    /// Hands requests in, as if they had come with one read of a socket.
    pub fn ask(&mut self, requests: Vec<Request>) {
        self.script.borrow_mut().requests = requests;
        self.shard.receive(self.now(), self.connection, &mut BytesMut::new());
        self.submit();
    }

    fn submit(&mut self) {
        while let Some(request) = self.shard.poll_io() {
            let lane = match request.class() {
                IoClass::Wal => 0,
                IoClass::Read => 1,
                IoClass::Background => 2,
            };
            self.under_way += 1;
            self.lanes[lane].send(request).expect("the lane lives as long as the node");
        }
    }

    /// Waits for the disk, a millisecond at most, and goes on with what it brought.
    pub fn turn(&mut self) {
        let wait = Duration::from_millis(1);
        let mut result = self.results.recv_timeout(wait).ok();
        while let Some(done) = result {
            self.under_way -= 1;
            self.shard.io_complete(self.now(), done).expect("the disk works");
            result = self.results.try_recv().ok();
        }
        if self.shard.deadline() <= self.now().moment {
            self.shard.tick(self.now());
        }
        self.submit();
    }

    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.script.borrow_mut().events)
    }

    /// Until nothing is under way on the disk, checkpoints included.
    pub fn settle(&mut self) {
        for _ in 0..5 {
            self.turn();
            while self.under_way > 0 || !self.shard.is_quiet() {
                self.turn();
            }
        }
    }

    fn outcomes(&mut self, commands: Vec<Command>) -> Vec<Outcome> {
        let count = commands.len();
        let propose = |command| Request::Propose { token: 0, command };
        self.ask(commands.into_iter().map(propose).collect());
        let mut outcomes = Vec::new();
        while outcomes.len() < count {
            self.turn();
            outcomes.extend(self.take_events().into_iter().filter_map(|event| match event {
                Event::Proposed { result, .. } => Some(result.expect("nothing is in the way")),
                _ => None,
            }));
        }
        outcomes
    }

    pub fn topic(&mut self, name: &str, durability: Durability) -> StreamId {
        let settings = TopicSettings { durability: Some(durability), ..TopicSettings::default() };
        let mut id = [1; 16];
        id[..name.len().min(16)].copy_from_slice(&name.as_bytes()[..name.len().min(16)]);
        let command = Command::CreateTopic {
            namespace: NamespaceId(0),
            name: name.to_owned(),
            partitions: 1,
            settings,
            id,
        };
        match self.outcomes(vec![command]).pop() {
            Some(Outcome::TopicCreated { streams, .. }) => streams[0],
            other => panic!("{other:?}"),
        }
    }

    pub fn queues(&mut self, count: usize, durable: bool) -> Vec<StreamId> {
        let mut streams = Vec::new();
        for first in (0..count).step_by(1000) {
            let declare = |number: usize| {
                let mut id = [1; 16];
                id[..8].copy_from_slice(&(number as u64).to_be_bytes());
                let spec = QueueSpec { durable, ..QueueSpec::default() };
                let name = format!("queue-{durable}-{number}");
                Command::DeclareQueue { namespace: NamespaceId(0), name, spec, id }
            };
            let commands = (first..count.min(first + 1000)).map(declare).collect();
            streams.extend(self.outcomes(commands).into_iter().map(|outcome| match outcome {
                Outcome::QueueDeclared { stream, .. } => stream,
                other => panic!("{other:?}"),
            }));
        }
        streams
    }
}

fn now_since(begun: Instant) -> Now {
    let micros = begun.elapsed().as_micros() as u64;
    let wall = Timestamp(1_700_000_000_000 + (micros / 1000) as i64);
    Now { moment: Moment(1_000_000 + micros), wall }
}

/// A batch as a Kafka producer sends it.
pub fn batch(record_count: usize, record_bytes: usize) -> (Bytes, BatchInfo) {
    let mut builder = BatchBuilder::new(1_700_000_000_000);
    let value = vec![7; record_bytes];
    for _ in 0..record_count {
        builder.push(1_700_000_000_000, None, Some(&[&value]), &[]);
    }
    let bytes = builder.finish(0, 0);
    let limits = BatchLimits { batch_bytes_max: 64 << 20, ..BatchLimits::default() };
    let info = batch::validate_from_producer(&bytes, &limits).expect("our own batch");
    (bytes, info)
}

/// What was used up to now.
pub struct Used {
    /// `write_bytes` of this process: whole folios of the page cache, however few of their pages changed.
    pub kernel_bytes: u64,
    /// Written to the device that holds the temporary directory, by everybody.
    pub device_bytes: u64,
    /// Of processor, by this process.
    pub seconds: f64,
}

/// Of Linux; elsewhere zeros.
pub fn used() -> Used {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let number = |name: &str| {
        let line = io.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|number| number.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name: state is the first field, user and system time the 12th and 13th, in 1/100 s.
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2).filter_map(|it| it.parse::<f64>().ok());
    Used {
        kernel_bytes: number("write_bytes:"),
        device_bytes: device_bytes().unwrap_or(0),
        seconds: ticks.sum::<f64>() / 100.0,
    }
}

fn device_bytes() -> Option<u64> {
    let device = std::fs::metadata(std::env::temp_dir()).ok()?.dev();
    let (major, minor) = ((device >> 8) & 0xfff, device & 0xff);
    let stat = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).ok()?;
    // The seventh figure counts sectors of 512 bytes.
    Some(stat.split_whitespace().nth(6)?.parse::<u64>().ok()? * 512)
}

/// Values at these parts of the sorted list.
pub fn at(sorted: &[u64], part: f64) -> u64 {
    sorted.get(((sorted.len().max(1) - 1) as f64 * part) as usize).copied().unwrap_or(0)
}
