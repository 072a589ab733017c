//! A node of one shard in memory, with sessions of any protocol, whose disk is as fast as it is asked.

use crate::data::Data;
use bytes::{Bytes, BytesMut};
use koine_base::disk::MemoryDisk;
use koine_base::{ConnectionId, Moment, Now, ShardId, Timestamp};
use koine_broker::access::scram::{Mechanism, Verifier};
use koine_broker::access::{AccessCommand, Pattern, Permissions, Secret, User, Verifiers};
use koine_broker::limits::Limits;
use koine_broker::message::Dialects;
use koine_broker::metadata::{Command, Durability, NamespaceId};
use koine_broker::session::{Context, Event, NodeInfo, Peer, Protocol, Request, Session};
use koine_cluster::{Layout, Shard, ShardConfig, Voters};
use std::net::SocketAddr;
use std::sync::OnceLock;

pub const USER: &str = "fuzz";
pub const PASSWORD: &str = "right";
/// Turns after which a node that is not quiet is taken for one that never will be.
const TURNS_MAX: usize = 100_000;

pub struct Node {
    disk: MemoryDisk,
    shard: Shard,
    now: Now,
    limits: Limits,
    /// What the password check of a login says, instead of the check.
    lets_in: bool,
}

/// Proposes one command and hears nothing.
struct Proposer(Option<Command>);

impl Session for Proposer {
    fn protocol(&self) -> Protocol {
        Protocol::Admin
    }
    fn receive(&mut self, _input: &mut BytesMut, ctx: &mut Context<'_>) {
        if let Some(command) = self.0.take() {
            ctx.out.request(Request::Propose { token: 1, command });
        }
    }
    fn event(&mut self, _event: Event, _ctx: &mut Context<'_>) {}
    fn access_changed(&mut self, _ctx: &mut Context<'_>) {}
    fn tick(&mut self, _ctx: &mut Context<'_>) {}
    fn deadline(&self) -> Moment {
        Moment::NEVER
    }
    fn disconnected(&mut self, _ctx: &mut Context<'_>) {}
    fn shutdown(&mut self, _ctx: &mut Context<'_>) {}
}

pub fn config() -> ShardConfig {
    let mut log = koine_log::Config::new("shard-0".to_owned());
    log.wal_file_bytes = 256 << 10;
    log.own_segment_bytes_min = 16 << 10;
    log.free_bytes_min = 0;
    ShardConfig {
        shard: ShardId(0),
        layout: Layout { shard_count: 1 },
        voters: Voters::alone(),
        node: NodeInfo {
            node_id: 1,
            cluster_id: "fuzz".to_owned(),
            version: "0",
            advertised_kafka: None,
            auto_create_topics: true,
            default_partitions: 1,
            default_retention_ms: -1,
            default_retention_bytes: -1,
            default_durability: Durability::Fsync,
            epochs: Vec::new(),
        },
        limits: Limits { inflated_bytes_max: 8 << 20, ..Limits::default() },
        dialects: Dialects {
            kafka: &koine_kafka::DIALECT,
            amqp091: &koine_amqp::v091::Amqp091Dialect,
            mqtt: koine_mqtt::DIALECT,
        },
        log,
        initial_rebalance_delay_ms: 0,
        seed: 7,
        secret_seed: [7; 32],
    }
}

/// The beginning of time.
pub fn start() -> Now {
    Now { moment: Moment(1_000_000), wall: Timestamp(1_700_000_000_000) }
}

/// What is kept of the one password; made once, because that takes its time.
fn verifiers() -> Verifiers {
    static MADE: OnceLock<Verifiers> = OnceLock::new();
    let make = || {
        let verifier =
            |mechanism| Verifier::of_password(mechanism, &Secret::new(PASSWORD), vec![5; 16], 4096);
        Verifiers {
            password: None,
            scram_sha_256: Some(verifier(Mechanism::Sha256)),
            scram_sha_512: Some(verifier(Mechanism::Sha512)),
        }
    };
    MADE.get_or_init(make).clone()
}

impl Node {
    pub fn new(is_secured: bool) -> Node {
        let disk = MemoryDisk::new();
        let config = config();
        let limits = config.limits.clone();
        let shard = Shard::open(&disk, config, None, start()).expect("an empty disk is sound");
        let mut node = Node { disk, shard, now: start(), limits, lets_in: true };
        node.settle();
        if is_secured {
            node.secure();
        }
        node
    }

    fn secure(&mut self) {
        let everything = || Pattern::new(".*").expect("a sound pattern");
        let user = User { verifiers: verifiers(), ..User::default() };
        let (name, decoy_key) = (USER.to_owned(), vec![1; 32]);
        self.propose(AccessCommand::AddUser { name, user, decoy_key });
        let row = Permissions { configure: everything(), write: everything(), read: everything() };
        let (user, namespace) = (USER.to_owned(), NamespaceId(0));
        self.propose(AccessCommand::SetPermissions { user, namespace, row });
    }

    fn propose(&mut self, command: AccessCommand) {
        let proposer = Proposer(Some(Command::Access(Box::new(command))));
        let id = self.shard.connect(self.now, Box::new(proposer));
        self.shard.receive(self.now, id, &mut BytesMut::new());
        self.settle();
        self.shard.disconnected(self.now, id);
        self.settle();
    }

    /// What it leaves on disk when it is killed.
    pub fn into_disk(self) -> MemoryDisk {
        drop(self.shard);
        self.disk
    }

    /// What becomes of logins by password from now on.
    pub fn let_in(&mut self, lets_in: bool) {
        self.lets_in = lets_in;
    }

    pub fn connect(&mut self, protocol: Protocol) -> Client {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let peer = Peer { remote: address, local: address, tls: None };
        let session: Box<dyn Session> = match protocol {
            Protocol::Kafka => Box::new(koine_kafka::KafkaSession::new(peer, 9)),
            Protocol::Amqp091 => {
                let now = self.now.moment;
                Box::new(koine_amqp::v091::AmqpSession::new(&peer, now, &self.limits))
            }
            _ => Box::new(koine_mqtt::MqttSession::new(peer)),
        };
        let id = self.shard.connect(self.now, session);
        Client { id, input: BytesMut::new(), heard: Vec::new(), is_closed: false }
    }

    /// The peer says this, and hears what there is to hear.
    pub fn say(&mut self, client: &mut Client, bytes: &[u8]) {
        if client.is_closed {
            return;
        }
        client.input.extend_from_slice(bytes);
        loop {
            let before = client.input.len();
            self.shard.receive(self.now, client.id, &mut client.input);
            self.settle();
            self.hear(client);
            if client.is_closed || client.input.is_empty() || client.input.len() == before {
                return;
            }
        }
    }

    /// The peer's bytes come in these pieces, one right after the other: the disk has done nothing yet when
    /// the last has come, so that what is answered cannot depend on where they were cut.
    pub fn say_at_once(&mut self, client: &mut Client, pieces: &[&[u8]]) {
        for piece in pieces {
            client.input.extend_from_slice(piece);
            if self.shard.wants_input(client.id) {
                self.shard.receive(self.now, client.id, &mut client.input);
            }
        }
        self.settle();
        self.hear(client);
        self.say(client, &[]);
    }

    pub fn hear(&mut self, client: &mut Client) {
        if let Some(output) = self.shard.output(client.id) {
            let bytes: Bytes = output.take_all();
            client.heard.extend_from_slice(&bytes);
            self.shard.written(self.now, client.id);
            self.settle();
        }
        if !client.is_closed && self.shard.wants_close(client.id) {
            client.is_closed = true;
            self.shard.disconnected(self.now, client.id);
            self.settle();
        }
    }

    /// The peer goes without a word.
    pub fn hang_up(&mut self, client: &mut Client) {
        if !std::mem::replace(&mut client.is_closed, true) {
            self.shard.disconnected(self.now, client.id);
            self.settle();
        }
    }

    pub fn wait(&mut self, ms: u64) {
        self.now.moment = self.now.moment.after_ms(ms);
        self.now.wall = self.now.wall.plus_ms(ms as i64);
        self.shard.tick(self.now);
        self.settle();
    }

    fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            let mut has_moved = false;
            while let Some(request) = self.shard.poll_io() {
                has_moved = true;
                let result = koine_log::execute(&self.disk, request);
                self.shard.io_complete(self.now, result).expect("the disk works");
            }
            for check in self.shard.take_password_checks() {
                has_moved = true;
                self.shard.password_checked(self.now, check.ticket, self.lets_in);
            }
            for (_, mail) in self.shard.take_outbox() {
                has_moved = true;
                self.shard.mail(self.now, [mail]);
            }
            if !has_moved {
                return;
            }
        }
        panic!("the node never comes to rest");
    }
}

pub struct Client {
    id: ConnectionId,
    input: BytesMut,
    /// All that it was told.
    pub heard: Vec<u8>,
    pub is_closed: bool,
}

/// Pieces of a conversation that is nearly right: whole frames by number, some with bytes changed, and
/// sometimes something else entirely.
pub fn nearly_right(data: &mut Data<'_>, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    while !data.is_empty() && pieces.len() < 64 {
        let choice = data.byte();
        if choice == 255 {
            pieces.push(data.piece(300).to_vec());
            continue;
        }
        let mut frame = frames[usize::from(choice) % frames.len()].clone();
        // Every fourth choice leaves the frame as it is.
        for _ in 0..(data.byte() & 3) {
            let at = data.below(frame.len().max(1));
            let byte = data.byte();
            if let Some(place) = frame.get_mut(at) {
                *place = byte;
            }
        }
        pieces.push(frame);
    }
    pieces
}
