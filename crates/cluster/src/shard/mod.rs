//! One core's share of a node: its sessions, its groups, its log and its copy of the metadata. A state
//! machine: the host (threads and sockets of `server`, the simulator) feeds it bytes, mail from other
//! shards, results of disk requests and time, and takes away bytes, mail and disk requests.
//!
//! Inside, work is a queue: a session's request may answer at once with an event for a session, whose
//! step may make requests, and so on until nothing is left. Then the groups propose what queued up.

mod checkpoint;
mod commit;
mod control;
mod dispatch;
pub(crate) mod doctor;
mod epochs;
mod fingerprint;
mod groups;
mod installing;
mod load;
mod logins;
mod offsets;
mod once;
mod publish;
mod recovery;
mod refusals;
#[cfg(test)]
mod replica_tests;
mod replication;
mod requests;
mod retention;
mod sending;
mod sessions;
mod spreading;
mod strangers;
#[cfg(test)]
mod tests;

pub use doctor::Damage;
pub use load::LoadStats;
pub use recovery::{Recovery, ShardOpenError};

use crate::consensus::Voters;
use crate::group::DataGroup;
use crate::layout::Layout;
use crate::mail::Mail;
use crate::peer::PeerMail;
use control::Controller;
use koine_base::rng::Rng;
use koine_base::{ConnectionId, GroupId, Moment, NodeId, Now, ShardId, StreamId};
use koine_broker::access::SecretRng;
use koine_broker::batch::BatchLimits;
use koine_broker::limits::Limits;
use koine_broker::message::Dialects;
use koine_broker::metadata::Metadata;
use koine_broker::session::{Event, Meter, NodeInfo, Protocol, Request, Token};
use koine_log::{IoRequest, IoResult, Log, LogError, Pressure, ReadToken};
use sessions::Connection;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

/// Everything a shard is told when it starts.
#[derive(Clone)]
pub struct ShardConfig {
    pub shard: ShardId,
    pub layout: Layout,
    /// Of every group, as long as its log says nothing else.
    pub voters: Voters,
    pub node: NodeInfo,
    pub limits: Limits,
    pub dialects: Dialects,
    pub log: koine_log::Config,
    /// Waits this long for more members before the first rebalance of an empty group.
    pub initial_rebalance_delay_ms: u64,
    /// For generated names and ids.
    pub seed: u64,
    /// For nonces and salts: drawn where nobody can foretell it.
    pub secret_seed: [u8; 32],
}

/// A step on its way through the shard.
enum Work {
    Event(ConnectionId, Event),
    Request(ConnectionId, Request),
    Mail(Mail),
}

/// What a read from disk is for.
enum ReadPurpose {
    /// Answer a session's `Read`.
    Session { connection: ConnectionId, token: Token },
    /// Fill a cursor's window from this offset on.
    Window { offset: u64 },
    /// Answer a session's `Locate`; the timestamp looked for.
    Locate { connection: ConnectionId, token: Token, timestamp: i64 },
    /// Send it to a follower that needs the whole state.
    Piece { to: u64, install: u64 },
}

pub struct Shard {
    config: ShardConfig,
    now: Now,
    rng: Rng,
    secret_rng: SecretRng,
    log: Log,
    metadata: Metadata,
    /// Group 0, on the shard that owns it.
    controller: Option<Controller>,
    groups: BTreeMap<GroupId, DataGroup>,
    connections: HashMap<ConnectionId, Connection>,
    next_connection: u64,
    /// Streams of this shard that a connection (of any shard) consumes or watches.
    held: HashMap<ConnectionId, HashSet<StreamId>>,
    queue: VecDeque<Work>,
    outbox: Vec<(ShardId, Mail)>,
    /// Connections with new output or changed appetite since the host last asked.
    changed: Vec<ConnectionId>,
    /// Sessions stepped since they were last asked to flush.
    stepped: Vec<ConnectionId>,
    /// Streams that may have something to hand out.
    deliverable: Vec<StreamId>,
    publishes: HashMap<u64, publish::Publish>,
    /// Bytes of the appends and retained messages that are not answered yet, whether or not their
    /// connection still is.
    appends: HashMap<(ConnectionId, Token), usize>,
    /// Bytes handed out to connections whose sockets have not taken them yet.
    untaken: HashMap<ConnectionId, dispatch::Untaken>,
    load: load::Load,
    strangers: strangers::Strangers,
    /// Volatile messages of other shards' connections that were handed out in this turn, in bytes.
    live_taken: BTreeMap<ConnectionId, usize>,
    /// The node stops.
    is_leaving: bool,
    /// Connections that have nothing to wait for before their goodbye.
    leaving: Vec<ConnectionId>,
    next_ticket: u64,
    reads: HashMap<ReadToken, (StreamId, ReadPurpose)>,
    /// Pulls that wait for their stream's window to be read.
    waiting_pulls: Vec<(ConnectionId, requests::PullRequest)>,
    group_waits: groups::GroupWaits,
    meters: [Meter; Protocol::COUNT],
    session_deadlines: BTreeSet<(Moment, ConnectionId)>,
    retention_round: retention::RetentionRound,
    /// When a checkpoint that is being prepared goes on.
    next_checkpoint_step: Moment,
    offsets_round: offsets::OffsetsRound,
    batch_limits: BatchLimits,
    /// Disk requests ready for the host.
    io: VecDeque<IoRequest>,
    /// For the same shard of other nodes.
    peer_outbox: Vec<(NodeId, PeerMail)>,
    next_raft_tick: Moment,
    /// Followers that are sent the whole state of a group.
    sendings: BTreeMap<(GroupId, u64), sending::Sending>,
    /// Groups whose whole state this node was sent, or is.
    stages: BTreeMap<GroupId, installing::Stage>,
    /// No other node has a part in any group here: nothing is sent, and nothing waits for others.
    is_alone: bool,
    damage: doctor::DamageNews,
    /// Of the whole node, on shard 0.
    logins: logins::Logins,
    /// The epoch of users and rules that the sessions have been told of.
    told_access: u64,
}

impl Shard {
    pub fn id(&self) -> ShardId {
        self.config.shard
    }

    /// This shard's copy of the metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Bits that were found inverted on disk at the start, and put right.
    pub fn repairs(&self) -> &[koine_log::Repair] {
        self.log.repairs()
    }

    pub fn log_stats(&self) -> koine_log::Stats {
        self.log.stats()
    }

    pub fn meter(&self, protocol: Protocol) -> &Meter {
        &self.meters[protocol.index()]
    }

    pub fn connection_count(&self, protocol: Protocol) -> usize {
        self.connections.values().filter(|connection| connection.protocol == protocol).count()
    }

    /// True once every group of this shard serves: sessions may be connected.
    pub fn is_serving(&self) -> bool {
        self.groups.values().all(DataGroup::is_serving)
            && self.controller.as_ref().is_none_or(Controller::is_serving)
    }

    /// Mail from other shards.
    pub fn mail(&mut self, now: Now, mail: impl IntoIterator<Item = Mail>) {
        self.now = now;
        self.queue.extend(mail.into_iter().map(Work::Mail));
        self.run();
    }

    /// Mail for other shards since the last call, in order.
    pub fn take_outbox(&mut self) -> Vec<(ShardId, Mail)> {
        std::mem::take(&mut self.outbox)
    }

    /// The next request for the disk, if there is one.
    pub fn poll_io(&mut self) -> Option<IoRequest> {
        let request = self.io.pop_front().or_else(|| self.log.poll_io(self.now.moment));
        if request.is_none() {
            // The log may have found that it needs no room after all.
            self.note_pressure();
        }
        request
    }

    /// The result of a disk request. An error is the end of the process: what was not synced before
    /// may be lost, and nothing may be acknowledged any more.
    pub fn io_complete(&mut self, now: Now, result: IoResult) -> Result<(), LogError> {
        self.now = now;
        let completion = self.log.complete(now.moment, result)?;
        self.log_completed(completion);
        self.run();
        Ok(())
    }

    /// The next moment at which [`Self::tick`] has something to do.
    pub fn deadline(&self) -> Moment {
        let session = self.session_deadlines.first().map_or(Moment::NEVER, |(at, _)| *at);
        let groups = self.groups.values().map(|group| group.membership.deadline()).min();
        let control = self.controller.as_ref().map_or(Moment::NEVER, |c| c.deadline(self.now));
        session
            .min(self.retention_round.next)
            .min(self.next_checkpoint_step)
            .min(self.offsets_round.next)
            .min(groups.unwrap_or(Moment::NEVER))
            .min(control)
            .min(self.load.deadline())
            .min(self.logins.deadline())
            .min(self.next_raft_tick)
            .min(self.log.deadline().unwrap_or(Moment::NEVER))
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Now) {
        self.now = now;
        self.tick_consensus();
        self.tick_sessions();
        self.tick_load();
        self.tick_logins();
        self.tick_memberships();
        self.tick_control();
        self.tick_spreading();
        self.tick_offsets();
        self.tick_retention();
        self.run();
    }

    /// True when nothing waits for the disk: a clean stop loses nothing and replays little.
    pub fn is_quiet(&self) -> bool {
        self.queue.is_empty()
            && self.groups.values().all(DataGroup::is_quiet)
            && self.controller.as_ref().is_none_or(Controller::is_quiet)
            && self.log.is_idle()
    }

    /// Works until nothing is left to do without the disk, other shards or time.
    fn run(&mut self) {
        loop {
            while let Some(work) = self.queue.pop_front() {
                self.work(work);
            }
            self.commit();
            self.post_messages();
            self.tell_epochs();
            self.dispatch();
            if self.queue.is_empty() {
                self.flush_sessions();
            }
            if self.queue.is_empty()
                && !self.say_goodbyes()
                && !self.note_load()
                && !self.note_access()
            {
                break;
            }
        }
        self.report_live();
        self.checkpoint_if_due();
    }

    fn work(&mut self, work: Work) {
        match work {
            Work::Event(to, event) => self.session_event(to, event),
            Work::Request(from, request) => self.route_request(from, request),
            Work::Mail(mail) => self.receive_mail(mail),
        }
    }

    fn receive_mail(&mut self, mail: Mail) {
        match mail {
            Mail::Request { from, request } => self.own_request(from, request),
            Mail::Event { to, event } => self.session_event(to, event),
            Mail::Store { from, ticket, connection: _, content, copies, once } => {
                self.store_copies(from, ticket, &content, copies, once);
            }
            Mail::Stored { ticket, result } => self.copy_stored(ticket, result),
            Mail::Live { from, content, receivers } => {
                self.deliver_live(from, &content, receivers);
            }
            Mail::LiveTaken { connection, bytes } => self.landed(connection, bytes),
            Mail::Commands { commands, report } => {
                self.apply_commands(&commands);
                if let Some(number) = report {
                    self.post(ShardId(0), Mail::CommandsApplied { number });
                }
            }
            Mail::CommandsApplied { number } => self.commands_applied(number),
            Mail::Metadata(bytes) => self.replace_metadata(&bytes),
            Mail::Epoch { group, epoch } => self.learn_epoch(group, epoch),
            Mail::Gone { connection } => {
                self.logins.forget(connection);
                self.release_connection(connection);
            }
            Mail::Taken { connection, stream, consumer, bytes } => {
                self.delivery_taken(connection, stream, consumer, bytes);
            }
            Mail::Full { shard, is_full } => self.shard_full(shard, is_full),
            Mail::ListGroups { from, token } => self.list_own_groups(from, token),
            Mail::GroupsListed { to, token, groups } => self.groups_listed(to, token, groups),
            Mail::DeleteChecked { from, token, namespace, name, message_count } => {
                self.delete_checked(from, token, namespace, name, message_count);
            }
        }
    }

    /// This shard's log has no room for its next file. What is on its way already is still taken: it
    /// goes into the rest of the file before, or waits. New publishes are refused where they come in.
    pub fn is_full(&self) -> bool {
        self.log.pressure() == Pressure::NoSpace
    }

    /// An event for a session wherever it lives.
    fn tell(&mut self, to: ConnectionId, event: Event) {
        if to.shard() == self.config.shard {
            self.queue.push_back(Work::Event(to, event));
        } else {
            self.outbox.push((to.shard(), Mail::Event { to, event }));
        }
    }

    /// Mail for a shard, which may be this one.
    fn post(&mut self, to: ShardId, mail: Mail) {
        if to == self.config.shard {
            self.queue.push_back(Work::Mail(mail));
        } else {
            self.outbox.push((to, mail));
        }
    }

    fn owner(&self, stream: StreamId) -> ShardId {
        self.config.layout.shard_of(stream.group())
    }
}
