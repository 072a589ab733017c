//! Clients that speak protocols, and their wires: each connection has a session of the protocol's own crate
//! inside the node, as the server makes them, and what passes is bytes, cut anywhere, late, or never.
//!
//! What clients were promised is judged by `koine_workload::check`, from their side alone.

use super::{Task, World};
use crate::coverage::Mark;
use crate::model::Checked;
use crate::options::Options;
use crate::wired::WireOptions;
use bytes::BytesMut;
use koine_base::checksum::crc32c;
use koine_base::rng::Rng;
use koine_base::ConnectionId;
use koine_broker::message::Dialects;
use koine_broker::session::{Peer, Session};
use koine_workload::client::Protocol;
use koine_workload::mix::{Link, Mix, MixOptions, Wish};
use std::collections::BTreeMap;
use std::net::SocketAddr;

pub const DIALECTS: Dialects = Dialects {
    kafka: &koine_kafka::message::KafkaDialect,
    amqp091: &koine_amqp::v091::Amqp091Dialect,
    mqtt: &koine_mqtt::MqttDialect,
};

/// A peer that is gone without a word is found by TCP itself after this time, if by nothing else.
const SILENCE_US: u64 = 300_000_000;

/// Retries of what a crash interrupts are quick: virtual time is cheap, steps are not.
const RECONNECT_US: u64 = 5_000;
const ANSWER_TIMEOUT_MS: u64 = 30_000;
/// Longer than a silent peer is held for alive.
const QUIET_MS: u64 = 400_000;

#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// Clients act. Stale unless it is the one that was asked for last.
    Poll {
        at: u64,
    },
    Connect {
        link: Link,
        protocol: Protocol,
    },
    /// Some bytes reach the node.
    Arrive {
        link: Link,
    },
    /// Some of the node's output is read by the client.
    Depart {
        link: Link,
    },
    /// The node's TCP gives up a peer that has long been gone.
    Expire {
        link: Link,
    },
}

/// The client's end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    /// Closed: the node hears of it after what is still on its way.
    Closed,
    /// Gone, and the node is not told.
    Silent,
}

struct Socket {
    shard: usize,
    id: ConnectionId,
    end: End,
    /// On its way to the node.
    flying: Vec<u8>,
    /// Arrived; what a session leaves is the front of a frame.
    input: BytesMut,
    /// The last step used some of the input up.
    progressed: bool,
    had_appetite: bool,
    is_arriving: bool,
    is_departing: bool,
}

pub struct Wire {
    mix: Mix,
    wires: BTreeMap<Link, Socket>,
    links: BTreeMap<(usize, ConnectionId), Link>,
    options: WireOptions,
    rng: Rng,
    poll_at: u64,
}

impl Wire {
    pub fn new(options: &Options, wire: &WireOptions) -> Self {
        let count = |kind: usize| wire.clients[kind] as usize;
        let mix = Mix::new(MixOptions {
            kafka_writers: count(0),
            kafka_readers: count(1),
            amqp_publishers: count(2),
            amqp_consumers: count(3),
            mqtt_publishers: count(4),
            mqtt_subscribers: count(5),
            think_us: options.think_us,
            body_bytes_max: options.body_bytes_max as usize,
            drop_every: wire.drop_every,
            reconnect_us: RECONNECT_US,
            answer_timeout_ms: ANSWER_TIMEOUT_MS,
            quiet_ms: QUIET_MS,
            ..MixOptions::new(options.seed)
        });
        Wire {
            mix,
            wires: BTreeMap::new(),
            links: BTreeMap::new(),
            options: wire.clone(),
            rng: Rng::new(options.seed ^ 0x5749_5245_0000_0000),
            poll_at: u64::MAX,
        }
    }

    pub fn mix(&mut self) -> &mut Mix {
        &mut self.mix
    }

    fn remove(&mut self, link: Link) -> Option<Socket> {
        let wire = self.wires.remove(&link)?;
        self.links.remove(&(wire.shard, wire.id));
        Some(wire)
    }
}

fn session(world: &World, protocol: Protocol, seed: u64) -> Box<dyn Session> {
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let peer = Peer::plain(address, address);
    match protocol {
        Protocol::Kafka => Box::new(koine_kafka::KafkaSession::new(peer, seed)),
        Protocol::Amqp091 => {
            let limits = world.limits();
            Box::new(koine_amqp::v091::AmqpSession::new(&peer, world.now.moment, &limits))
        }
        Protocol::Mqtt => Box::new(koine_mqtt::MqttSession::new(peer)),
    }
}

impl World {
    /// The clients' side; there is one wherever this is called from.
    pub(super) fn wires(&mut self) -> &mut Wire {
        self.wire.as_mut().expect("a wired world has wires")
    }

    pub(super) fn run_wire(&mut self, event: Event) -> Checked {
        match event {
            Event::Poll { at } if at != self.wires().poll_at => {}
            Event::Poll { .. } if !self.clients_on => {
                self.wires().poll_at = u64::MAX;
                self.poll_after(1000);
            }
            Event::Poll { .. } => self.poll_clients(),
            Event::Connect { link, protocol } => self.connect_wire(link, protocol)?,
            Event::Arrive { link } => self.arrive(link)?,
            Event::Depart { link } => self.depart(link)?,
            Event::Expire { link } => self.node_hears_end(link)?,
        }
        Ok(())
    }

    pub(super) fn poll_after(&mut self, wait_us: u64) {
        let at = self.now.moment.0 + wait_us;
        if at < self.wires().poll_at {
            self.wires().poll_at = at;
            self.schedule(wait_us, Task::Wire(Event::Poll { at }));
        }
    }

    fn poll_clients(&mut self) {
        let now = self.now;
        let wire = self.wires();
        wire.poll_at = u64::MAX;
        let wishes = wire.mix.poll(now);
        for wish in wishes {
            self.fulfil(wish);
        }
        let deadline = self.wires().mix.deadline().0;
        self.poll_after(deadline.saturating_sub(now.moment.0).max(1));
    }

    fn fulfil(&mut self, wish: Wish) {
        match wish {
            Wish::Connect { link, protocol } => {
                let wait = self.flight();
                self.schedule(wait, Task::Wire(Event::Connect { link, protocol }));
            }
            Wish::Send { link, bytes } => {
                self.note(|| format!("{} sends {}", name(link), sum(&bytes)));
                if let Some(wire) = self.wires().wires.get_mut(&link) {
                    wire.flying.extend_from_slice(&bytes);
                    self.fly(link);
                }
            }
            Wish::Close { link } => self.close_wire(link),
        }
    }

    /// The client is through with a connection, in one of the ways in which clients are.
    fn close_wire(&mut self, link: Link) {
        let draw = self.wires().rng.below(4);
        let wires = self.wires();
        let Some(wire) = wires.wires.get_mut(&link) else { return };
        let mut marks = Vec::new();
        if draw > 0 && !wire.flying.is_empty() {
            let kept = wires.rng.below(wire.flying.len() as u64) as usize;
            wire.flying.truncate(kept);
            marks.push(Mark::VanishedHalfWay);
        }
        wire.end = if draw == 3 { End::Silent } else { End::Closed };
        if wire.end == End::Silent {
            marks.push(Mark::VanishedSilently);
        }
        let end = wire.end;
        marks.into_iter().for_each(|mark| self.mark(mark));
        self.note(|| format!("{} ends: {end:?}", name(link)));
        self.fly(link);
        if end == End::Silent {
            self.schedule(SILENCE_US, Task::Wire(Event::Expire { link }));
        }
    }

    /// Time that a piece is on its way.
    fn flight(&mut self) -> u64 {
        let mean = self.wires().options.wire_us;
        1 + self.wires().rng.below(mean * 2)
    }

    /// Sees to it that what is on its way to the node arrives.
    fn fly(&mut self, link: Link) {
        let wait = self.flight();
        if let Some(wire) = self.wires().wires.get_mut(&link) {
            if !wire.is_arriving {
                wire.is_arriving = true;
                self.schedule(wait, Task::Wire(Event::Arrive { link }));
            }
        }
    }

    fn connect_wire(&mut self, link: Link, protocol: Protocol) -> Checked {
        let count = self.shards.len() as u64;
        let (shard, seed) = (self.wires().rng.below(count) as usize, self.wires().rng.next_u64());
        let session = session(self, protocol, seed);
        let id = self.shards[shard].connect(self.now, session);
        self.note(|| format!("{} connects with {protocol:?} to shard {shard}", name(link)));
        let wire = Socket {
            shard,
            id,
            end: End::Open,
            flying: Vec::new(),
            input: BytesMut::new(),
            progressed: false,
            had_appetite: true,
            is_arriving: false,
            is_departing: false,
        };
        let now = self.now;
        let wires = self.wires();
        wires.wires.insert(link, wire);
        wires.links.insert((shard, id), link);
        wires.mix.connected(now, link);
        self.poll_after(1);
        self.pump(shard)
    }

    /// The node reads what has arrived, if it wants to.
    fn arrive(&mut self, link: Link) -> Checked {
        let wires = self.wire.as_mut().expect("a wired world has wires");
        let Some(wire) = wires.wires.get_mut(&link) else { return Ok(()) };
        wire.is_arriving = false;
        let shard = wire.shard;
        let wants = self.shards[shard].wants_input(wire.id);
        let appetite_back = wants && !wire.had_appetite;
        wire.had_appetite = wants;
        if !wants && !wire.flying.is_empty() {
            self.mark(Mark::InputHeldBack);
            return Ok(());
        }
        let again = (appetite_back || wire.progressed) && !wire.input.is_empty();
        let count = match wire.flying.len() {
            0 => 0,
            all if again && all > 0 => 0,
            all if wires.rng.chance(1, wires.options.cut_every) => {
                1 + wires.rng.below(all as u64) as usize
            }
            all => all,
        };
        if count < wire.flying.len() && count > 0 {
            self.coverage.borrow_mut().hit(Mark::FrameSplit);
        }
        if wants && (count > 0 || again) {
            wire.input.extend_from_slice(&wire.flying[..count]);
            wire.flying.drain(..count);
            let before = wire.input.len();
            self.shards[shard].receive(self.now, wire.id, &mut wire.input);
            wire.progressed = wire.input.len() < before;
            wire.had_appetite = self.shards[shard].wants_input(wire.id);
            let text = format!("{count} bytes, {} left", wire.input.len());
            self.note(|| format!("{} arrives: {text}", name(link)));
        }
        self.pump(shard)?;
        self.arrive_more(link)
    }

    fn arrive_more(&mut self, link: Link) -> Checked {
        let Some(wire) = self.wires().wires.get(&link) else { return Ok(()) };
        let (shard, id) = (wire.shard, wire.id);
        let is_through = wire.flying.is_empty() && wire.end == End::Closed;
        let has_more = !wire.flying.is_empty() || (wire.progressed && !wire.input.is_empty());
        if is_through {
            return self.node_hears_end(link);
        }
        if has_more && self.shards[shard].wants_input(id) {
            self.fly(link);
        }
        Ok(())
    }

    /// A shard says that a connection has something to write, or is to be read again, or closed.
    pub(super) fn wire_changed(&mut self, shard: usize, id: ConnectionId) {
        let Some(wires) = self.wire.as_mut() else { return };
        let Some(link) = wires.links.get(&(shard, id)).copied() else { return };
        let Some(wire) = wires.wires.get_mut(&link) else { return };
        let node = &mut self.shards[shard];
        let speaks =
            node.output(id).is_some_and(|output| !output.is_empty()) && wire.end != End::Silent;
        let hangs_up = node.wants_close(id);
        let reads = node.wants_input(id) && !wire.had_appetite;
        wire.had_appetite &= node.wants_input(id);
        if (speaks || hangs_up) && !wire.is_departing {
            wire.is_departing = true;
            let stalls = wires.options.stall_us > 0 && wires.rng.chance(1, 60);
            let most = if stalls { wires.options.stall_us } else { wires.options.wire_us * 2 };
            let wait = 1 + wires.rng.below(most);
            self.schedule(wait, Task::Wire(Event::Depart { link }));
        }
        if reads {
            self.fly(link);
        }
    }

    /// The client reads some of what the node has written.
    fn depart(&mut self, link: Link) -> Checked {
        let now = self.now;
        let wires = self.wire.as_mut().expect("a wired world has wires");
        let Some(wire) = wires.wires.get_mut(&link) else { return Ok(()) };
        wire.is_departing = false;
        let (shard, id, end) = (wire.shard, wire.id, wire.end);
        let mut bytes = Vec::new();
        let mut waiting = 0;
        if let Some(output) = self.shards[shard].output(id).filter(|_| end != End::Silent) {
            waiting = output.len();
            let is_cut = waiting > 1 && wires.rng.chance(1, wires.options.cut_every);
            let count = if is_cut { 1 + wires.rng.below(waiting as u64) as usize } else { waiting };
            output.slices(usize::MAX).for_each(|piece| bytes.extend_from_slice(piece));
            bytes.truncate(count);
            output.advance(bytes.len());
        }
        if waiting >= super::node::OUTPUT_BYTES_MAX {
            self.mark(Mark::OutputPiledUp);
        }
        if !bytes.is_empty() {
            self.note(|| format!("{} hears {}", name(link), sum(&bytes)));
            if end == End::Open {
                self.wires().mix.receive(now, link, &bytes);
                self.poll_after(1);
            }
            self.shards[shard].written(now, id);
            self.pump(shard)?;
        }
        let is_silent = self.shards[shard].output(id).is_none_or(|output| output.is_empty());
        if self.shards[shard].wants_close(id) && (is_silent || end == End::Silent) {
            self.mark(if end == End::Silent { Mark::SilenceFound } else { Mark::NodeHungUp });
            self.wires().mix.closed(now, link);
            self.poll_after(1);
            return self.node_hears_end(link);
        }
        self.wire_changed(shard, id);
        Ok(())
    }

    /// The connection is over for the node.
    fn node_hears_end(&mut self, link: Link) -> Checked {
        let Some(Socket { shard, id, .. }) = self.wires().remove(link) else { return Ok(()) };
        self.note(|| format!("{} is over", name(link)));
        self.shards[shard].disconnected(self.now, id);
        self.pump(shard)
    }

    /// The process of the node has ended: whoever was connected notices.
    pub(super) fn cut_wires(&mut self) {
        let Some(wires) = self.wire.as_mut() else { return };
        let now = self.now;
        self.coverage.borrow_mut().hit(Mark::NodeGone);
        wires.links.clear();
        for (link, wire) in std::mem::take(&mut wires.wires) {
            if wire.end == End::Open {
                wires.mix.closed(now, link);
            }
        }
        self.poll_after(1);
    }

    /// Every client is gone at once.
    pub(super) fn drop_wires(&mut self) {
        let Some(wires) = self.wire.as_mut() else { return };
        let now = self.now;
        let links: Vec<Link> = wires.wires.keys().copied().collect();
        for link in links {
            self.wires().mix.closed(now, link);
            self.close_wire(link);
        }
        self.poll_after(1);
    }

    /// The node has said goodbye and closes every connection.
    pub(super) fn hang_up_wires(&mut self) {
        let Some(wires) = self.wire.as_mut() else { return };
        let now = self.now;
        wires.links.clear();
        for (link, wire) in std::mem::take(&mut wires.wires) {
            let shard = &mut self.shards[wire.shard];
            let last_words = shard.output(wire.id).map(|output| output.take_all());
            if let (Some(bytes), End::Open) = (last_words, wire.end) {
                self.coverage.borrow_mut().hit(Mark::NodeHungUp);
                wires.mix.receive(now, link, &bytes);
            }
            wires.mix.closed(now, link);
            shard.disconnected(now, wire.id);
        }
    }
}

fn name(link: Link) -> String {
    format!("wire {}.{}", link.client, link.connection)
}

/// Bytes as a trace shows them.
fn sum(bytes: &[u8]) -> String {
    format!("{} bytes {:08x}", bytes.len(), crc32c(bytes))
}
