//! A node in this process: shard threads, disk threads, and the front thread with the listeners. The
//! only place with threads and sockets of the data path.
//!
//! ```text
//! front thread: accept, HTTP  --sockets, calls-->  shard 0 .. n (tokio current-thread, one Shard each)
//! shard  --IoRequest-->  its WAL thread, the read thread, the background thread  --IoResult-->  shard
//! shard  --Mail-->  shard      (mailboxes: one wake per batch)
//! ```

mod allocator;
mod busy_poll;
mod clock;
mod connection;
mod disk_threads;
pub mod entrance;
mod fail_stop;
mod front;
pub mod gate;
mod login_thread;
mod mailbox;
pub mod node_file;
mod overload;
mod protocols;
mod report;
mod shard_host;
mod stream;
#[cfg(test)]
mod tests;

use crate::config::{Config, ConfigError, Durability};
use crate::data_directory::{DataDirectory, DataDirectoryError};
use crate::disk::RealDisk;
use crate::http::{AdminAnswer, AdminCall, AdminError, AdminRequest, Caller};
use crate::machine;
use crate::metrics::PROTOCOLS;
use crate::tls::{Acceptance, Tls, TlsFileError};
use busy_poll::Lookers;
use clock::Clock;
use disk_threads::ShardDisk;
use front::{Front, Listening};
use gate::{Bounds, Gate};
use koine_base::disk::Disk;
use koine_base::ShardId;
use koine_broker::access::Verifiers;
use koine_broker::limits::Limits;
use koine_broker::metadata;
use koine_broker::session::{NodeInfo, Protocol};
use koine_cluster::{Layout, Recovery, Shard, ShardConfig, ShardOpenError, Voters};
use mailbox::{Mailbox, Message};
use node_file::{Node, NodeFileError};
use overload::Marks;
use ring::rand::SecureRandom;
use shard_host::{ShardHost, ADMIN_SHARD};
use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::mpsc::{channel, sync_channel, Receiver, Sender, SyncSender};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;

const NODE_ID: i32 = 1;
/// Kafka's own default: a group's first members have this long to arrive together.
const INITIAL_REBALANCE_DELAY_MS: u64 = 500;

/// Until then the disk and the cores are for recovery and the first clients.
const CHECKPOINT_AFTER_OPEN: Duration = Duration::from_secs(2);

/// One MiB each time and shard: 100 GB take seven hours.
const SCRUB_EVERY: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub enum StartError {
    Config(ConfigError),
    Data(DataDirectoryError),
    Node(NodeFileError),
    Tls(TlsFileError),
    Listen {
        key: &'static str,
        address: SocketAddr,
        error: io::Error,
    },
    Shard(ShardOpenError),
    Thread(io::Error),
    /// A shard's thread ended, or never came to serve.
    NotServing,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Config(error) => error.fmt(f),
            StartError::Data(error) => error.fmt(f),
            StartError::Node(error) => error.fmt(f),
            StartError::Tls(error) => error.fmt(f),
            StartError::Listen { key, address, error } => write!(
                f,
                "{key}: cannot listen on {address}: {error}. Choose another with --{key} HOST:PORT, or --{key} off"
            ),
            StartError::Shard(error) => write!(f, "the data cannot be opened: {error}"),
            StartError::Thread(error) => write!(f, "cannot start a thread: {error}"),
            StartError::NotServing => f.write_str("the shards did not come to serve"),
        }
    }
}

impl std::error::Error for StartError {}

/// A running node.
pub struct Broker {
    listeners: Vec<(&'static str, SocketAddr)>,
    stop: oneshot::Sender<()>,
    front: JoinHandle<()>,
    threads: Vec<JoinHandle<()>>,
    /// Held, so that nobody else opens it, until everything has ended.
    data: DataDirectory,
    /// Where the admin session is.
    admin: Arc<Mailbox>,
}

impl Broker {
    /// Comes back when every listener accepts.
    pub fn start(config: &Config) -> Result<Broker, StartError> {
        machine::raise_open_files_limit();
        allocator::return_large_blocks();
        let data = DataDirectory::open(&config.data).map_err(StartError::Data)?;
        let node = node_file::open(data.path(), config.shards).map_err(StartError::Node)?;
        if node.shard_count != config.shards {
            tracing::info!(
                shards = node.shard_count,
                "the data directory was made for another number of shards, which stays"
            );
        }
        let memory_bytes = machine::memory_bytes();
        let limits = limits(config, memory_bytes);
        let tls = Tls::open(&config.tls, &limits).map_err(StartError::Tls)?;
        let bound = bind(config)?;
        let kafka = bound.iter().find(|(key, ..)| matches!(*key, "kafka" | "kafkas"));
        let kafka_port = kafka.map(|(_, _, address)| address.port());
        let listeners = bound.iter().map(|(key, _, address)| (*key, *address)).collect();

        let disk = Arc::new(RealDisk::new(data.path()));
        let mailboxes: Vec<Arc<Mailbox>> = (0..node.shard_count).map(|_| Arc::default()).collect();
        let (disks, mut threads) =
            disk_threads::start(&disk, &mailboxes).map_err(StartError::Thread)?;
        let disk_bytes = disk.total_bytes().unwrap_or(u64::MAX);
        let marks = Marks::new(
            config.disk_free_bytes_min(disk_bytes, node.shard_count),
            config.connection_memory_bytes(memory_bytes),
        );
        let mut shard_config = shard_config(config, &node, kafka_port, memory_bytes, limits);
        if let Ok(free_bytes) = disk.free_bytes() {
            let wanted = shard_config.log.wal_file_bytes;
            shard_config.log.wal_file_bytes = fitting(wanted, free_bytes, node.shard_count);
        }
        let gate = Arc::new(gate(config.limits.connections, &shard_config.limits));
        let starter = ShardStarter {
            config: shard_config,
            clock: Clock::start(),
            disk: Arc::clone(&disk),
            mailboxes: mailboxes.clone(),
            tls: tls.clone(),
            lookers: Arc::new(Lookers::new(machine::processors())),
        };
        let (shards, is_secured) = starter.start(disks)?;
        threads.extend(shards);
        if let Some((key, address)) = beyond_loopback(&bound).filter(|_| !is_secured) {
            if !config.insecure {
                mailboxes.iter().for_each(|mailbox| mailbox.post(Message::Stop));
                threads.into_iter().for_each(|thread| drop(thread.join()));
                return Err(StartError::Config(open_to_all(key, address)));
            }
            tracing::warn!(listener = key, %address, "there are no users: whoever reaches this may do everything");
        }

        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let admin = Arc::clone(&mailboxes[usize::from(ADMIN_SHARD.0)]);
        let front = FrontStarter {
            mailboxes,
            disk,
            gate,
            tls,
            memory_bytes,
            marks,
            started_unix_seconds: since.map_or(0.0, |since| since.as_secs_f64()),
        };
        let (stop, stopped) = oneshot::channel();
        let front = front.start(bound, stopped)?;
        Ok(Broker { listeners, stop, front, threads, data, admin })
    }

    /// One request of the node's own owner, who needs no login. Waits for the answer.
    pub fn administer(
        &self,
        request: AdminRequest,
        verifiers: Option<Verifiers>,
    ) -> Result<AdminAnswer, AdminError> {
        let (answer, answered) = oneshot::channel();
        let call = AdminCall { request, caller: Caller::Node, verifiers, answer };
        self.admin.post(Message::Admin(call));
        let gone = |_| AdminError::Unavailable("the broker is stopping".to_owned());
        answered.blocking_recv().map_err(gone)?
    }

    /// Where each listener is, in the order of the configuration.
    pub fn listeners(&self) -> &[(&'static str, SocketAddr)] {
        &self.listeners
    }

    /// Says goodbye to all clients, brings the log to rest and ends all threads.
    pub fn stop(self) {
        let _ = self.stop.send(());
        // A thread that panicked has ended the process already.
        let _ = self.front.join();
        for thread in self.threads {
            let _ = thread.join();
        }
        drop(self.data);
    }
}

fn gate(connections: u32, limits: &Limits) -> Gate {
    Gate::new(Bounds {
        connections,
        per_address: limits.connections_per_address_max,
        per_address_rate: limits.connections_per_address_rate_max,
        addresses: limits.addresses_max,
    })
}

/// A listener that other machines may reach.
fn beyond_loopback(bound: &Bound) -> Option<(&'static str, SocketAddr)> {
    let found = bound.iter().find(|(_, _, address)| !address.ip().to_canonical().is_loopback());
    found.map(|(key, _, address)| (*key, *address))
}

/// Without users everyone who reaches the port could read and delete everything.
fn open_to_all(key: &str, address: SocketAddr) -> ConfigError {
    ConfigError(format!(
        "{key}: {address} can be reached from other machines, and there are no users to keep strangers \
         out. Make the first with `koine init`, listen on 127.0.0.1, or start with --insecure if the \
         network is trusted"
    ))
}

type Bound = Vec<(&'static str, TcpListener, SocketAddr)>;

/// Binds every listener before anything else runs, so that a port in use is told at once.
fn bind(config: &Config) -> Result<Bound, StartError> {
    let mut bound = Vec::new();
    for (key, listen) in config.listeners() {
        let addresses = listen.resolve(key).map_err(StartError::Config)?;
        // One address per listener: `localhost` may have two, of which clients try both.
        let address = addresses[0];
        let failed = |error| StartError::Listen { key, address, error };
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let actual = listener.local_addr().map_err(failed)?;
        bound.push((key, listener, actual));
    }
    Ok(bound)
}

fn limits(config: &Config, memory_bytes: u64) -> Limits {
    Limits {
        message_bytes_max: config.limits.message_bytes as usize,
        request_bytes_max: config.limits.request_bytes as usize,
        output_bytes_max: config.limits.output_bytes as usize,
        memory_bytes_max: config.connection_memory_bytes(memory_bytes) as usize,
        retention_check_ms: config.topics.retention_check_ms,
        sasl_session_ms_max: config.limits.sasl_session_ms.unwrap_or(0),
        connections_per_address_max: config.limits.connections_per_address,
        connections_per_address_rate_max: config.limits.connection_rate_per_address,
        ..Limits::default()
    }
}

/// From the system's generator.
pub fn secret_seed() -> [u8; 32] {
    let mut seed = [0; 32];
    let drawn = ring::rand::SystemRandom::new().fill(&mut seed);
    // Without it every nonce could be foretold.
    drawn.expect("the system has a random number generator");
    seed
}

fn shard_config(
    config: &Config,
    node: &Node,
    kafka_port: Option<u16>,
    memory_bytes: u64,
    limits: Limits,
) -> ShardConfig {
    let layout = Layout { shard_count: node.shard_count };
    let signed =
        |value: Option<u64>| value.map_or(-1, |value| i64::try_from(value).unwrap_or(i64::MAX));
    let advertised_kafka = config.advertised_host.clone().zip(kafka_port);
    let mut log = koine_log::Config::new(String::new());
    log.wal_file_bytes = config.storage.wal_file_bytes;
    log.checkpoint_after_open = CHECKPOINT_AFTER_OPEN;
    log.scrub_every = Some(SCRUB_EVERY);
    log.tail_cache_bytes = config.tail_cache_bytes(memory_bytes) / u64::from(node.shard_count);
    ShardConfig {
        shard: ShardId(0),
        layout,
        voters: Voters::alone(),
        node: NodeInfo {
            node_id: NODE_ID,
            cluster_id: node.cluster_id.clone(),
            version: env!("CARGO_PKG_VERSION"),
            advertised_kafka,
            auto_create_topics: config.topics.auto_create,
            default_partitions: config.topics.partitions,
            default_retention_ms: signed(config.topics.retention_ms),
            default_retention_bytes: signed(config.topics.retention_bytes),
            default_durability: match config.topics.durability {
                Durability::Fsync => metadata::Durability::Fsync,
                Durability::Replicated => metadata::Durability::Replicated,
                Durability::Memory => metadata::Durability::Memory,
            },
            epochs: Vec::new(),
        },
        limits,
        secret_seed: secret_seed(),
        dialects: protocols::DIALECTS,
        log,
        initial_rebalance_delay_ms: INITIAL_REBALANCE_DELAY_MS,
        seed: node_file::random_number(),
    }
}

/// The size of WAL files: as wanted, or less where the disk has little room, since each shard soon has
/// several. Below the least it waits for room.
fn fitting(wanted: u64, free_bytes: u64, shard_count: u16) -> u64 {
    let share = (free_bytes / (8 * u64::from(shard_count))) >> 20 << 20;
    wanted.min(share.max(WAL_FILE_BYTES_MIN))
}

/// The setting allows no less.
const WAL_FILE_BYTES_MIN: u64 = 4 << 20;

struct ShardStarter {
    config: ShardConfig,
    clock: Clock,
    disk: Arc<RealDisk>,
    mailboxes: Vec<Arc<Mailbox>>,
    tls: Option<Arc<Tls>>,
    lookers: Arc<Lookers>,
}

/// What a shard's thread says when its shard is open.
type Opened = Result<Option<First>, ShardOpenError>;

/// What the first shard knows.
struct First {
    metadata: Vec<u8>,
    /// There are users.
    is_secured: bool,
}

impl ShardStarter {
    /// Opens all shards side by side. Those behind the first need its metadata half way.
    /// Also tells whether there are users.
    fn start(&self, disks: Vec<ShardDisk>) -> Result<(Vec<JoinHandle<()>>, bool), StartError> {
        let (opened, opening) = channel();
        let mut threads = Vec::new();
        let mut waiting = Vec::new();
        for (number, disk) in disks.into_iter().enumerate() {
            let (tell, told) = channel();
            let metadata = (number > 0).then_some(told);
            waiting.push(tell);
            let thread = self.spawn(number as u16, disk, metadata, opened.clone());
            threads.push(thread.map_err(StartError::Thread)?);
        }
        drop(opened);
        let mut is_secured = false;
        for _ in 0..waiting.len() {
            let opened =
                opening.recv().map_err(|_| StartError::NotServing)?.map_err(StartError::Shard)?;
            let Some(first) = opened else { continue };
            is_secured = first.is_secured;
            for other in &waiting {
                // One that failed has said so, or will.
                let _ = other.send(first.metadata.clone());
            }
        }
        Ok((threads, is_secured))
    }

    fn spawn(
        &self,
        number: u16,
        disk: ShardDisk,
        metadata: Option<Receiver<Vec<u8>>>,
        opened: Sender<Opened>,
    ) -> io::Result<JoinHandle<()>> {
        let mut config = self.config.clone();
        config.shard = ShardId(number);
        config.log.directory = format!("shard-{number}");
        let limits = config.limits.clone();
        let (clock, real_disk) = (self.clock, Arc::clone(&self.disk));
        let mailboxes = self.mailboxes.clone();
        let (tls, lookers) = (self.tls.clone(), Arc::clone(&self.lookers));
        std::thread::Builder::new().name(format!("koine-shard-{number}")).spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                // The receiver learns it from the closed channel.
                Err(_) => return,
            };
            let recovered = Recovery::begin(&*real_disk, config).and_then(|recovery| {
                // A closed channel is the first shard's failure, which it has told.
                let metadata = metadata.map(|metadata| metadata.recv()).transpose();
                let metadata = metadata.map_err(|_| ShardOpenError::NoMetadata)?;
                Shard::recover(recovery, metadata.as_deref(), clock.now())
            });
            let shard = match recovered {
                Ok(shard) => shard,
                Err(error) => {
                    let _ = opened.send(Err(error));
                    return;
                }
            };
            for repair in shard.repairs() {
                tracing::warn!(
                    shard = number,
                    "{repair} and was put right; the disk may be failing"
                );
            }
            // Before the shard's first step: what comes later reaches the others as mail.
            let first = (number == 0).then(|| First {
                metadata: shard.metadata().encode(),
                is_secured: shard.metadata().access().is_secured(),
            });
            let host = ShardHost::new(shard, clock, disk, mailboxes, tls, limits, lookers);
            if opened.send(Ok(first)).is_err() {
                return;
            }
            drop(opened);
            host.run(&runtime);
        })
    }
}

struct FrontStarter {
    mailboxes: Vec<Arc<Mailbox>>,
    disk: Arc<RealDisk>,
    gate: Arc<Gate>,
    tls: Option<Arc<Tls>>,
    memory_bytes: u64,
    marks: Marks,
    started_unix_seconds: f64,
}

impl FrontStarter {
    fn start(
        self,
        bound: Bound,
        stopped: oneshot::Receiver<()>,
    ) -> Result<JoinHandle<()>, StartError> {
        let (ready, readiness) = sync_channel(1);
        let thread = std::thread::Builder::new().name("koine-front".to_owned()).spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => {
                    let _ = ready.send(Err(StartError::Thread(error)));
                    return;
                }
            };
            tokio::task::LocalSet::new().block_on(&runtime, self.run(bound, ready, stopped));
        });
        let thread = thread.map_err(StartError::Thread)?;
        readiness.recv().map_err(|_| StartError::NotServing)??;
        Ok(thread)
    }

    async fn run(
        self,
        bound: Bound,
        ready: SyncSender<Result<(), StartError>>,
        stopped: oneshot::Receiver<()>,
    ) {
        let front = Rc::new(Front {
            mailboxes: self.mailboxes,
            disk: self.disk,
            gate: self.gate,
            tls: self.tls,
            memory_bytes: self.memory_bytes,
            marks: self.marks,
            started_unix_seconds: self.started_unix_seconds,
            refused: Default::default(),
            next_shard: Default::default(),
            waits_for: RefCell::new(Some("starting".to_owned())),
        });
        // Before anybody connects: a start on a full disk begins with the alarm.
        front.look_at_disk();
        let Listening { protocols, http } = match listening(bound, front.tls.is_some()) {
            Ok(listening) => listening,
            Err(error) => {
                let _ = ready.send(Err(StartError::Thread(error)));
                return;
            }
        };
        let mut tasks = front.listen_http(http);
        if !front.until_serving().await {
            let _ = ready.send(Err(StartError::NotServing));
            return;
        }
        let disk_watch = tokio::task::spawn_local(Rc::clone(&front).watch_disk());
        tasks.extend(front.listen(protocols));
        tasks.push(tokio::task::spawn_local(Rc::clone(&front).watch_certificates()));
        let _ = ready.send(Ok(()));
        // A dropped sender means the same.
        let _ = stopped.await;
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
        disk_watch.abort();
        front.shut_down().await;
    }
}

/// A key with an `s` at its end takes TLS only; the others look, if there is a certificate to show.
fn listening(bound: Bound, has_certificate: bool) -> io::Result<Listening> {
    let mut listening = Listening { protocols: Vec::new(), http: Vec::new() };
    for (key, listener, _) in bound {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let (name, encryption) = match key.strip_suffix('s') {
            Some(name) => (name, Some(Acceptance::Always)),
            None => (key, has_certificate.then_some(Acceptance::Either)),
        };
        match PROTOCOLS.into_iter().find(|protocol: &Protocol| protocol.name() == name) {
            Some(protocol) => listening.protocols.push((protocol, encryption, listener)),
            None => listening.http.push((encryption, listener)),
        }
    }
    Ok(listening)
}
