//! One connection: finds the transport, cuts packets, hands each to its file in `api`, and turns the
//! engine's events into packets. Never waits; a packet whose answer needs the engine either blocks
//! the input behind it (CONNECT, SUBSCRIBE, UNSUBSCRIBE) or is answered later in order (PUBLISH).
//!
//! While the node is short of memory, and before version 5, which can be told no, while it is short of
//! disk, the input is read up to the next PUBLISH: acknowledgements before it go on, and what waits is
//! not lost.

mod deliver;
#[cfg(test)]
mod engine;
#[cfg(test)]
mod login_tests;
mod rights;
#[cfg(test)]
mod script;
#[cfg(test)]
mod tests;
mod tokens;

use crate::aliases::{AliasesIn, AliasesOut};
use crate::api::{Client, Held, Login, SubscribePending, UnsubscribePending};
use crate::codec::{put_acknowledgement, Acknowledgement, Connack};
use crate::codec::{
    Decoder, Disconnect, FixedHeader, Packet, PacketType, Properties, Property, Version,
};
use crate::error::{DecodeError, End, ReasonCode, Violation};
use crate::incoming::{Answer, Changes, Incoming};
use crate::outgoing::{Order, Outgoing};
use crate::retained::RetainedQueue;
use crate::routes::RouteCache;
use crate::verdicts::Verdicts;
use crate::websocket::{is_http, put_close, wrap, CloseCode, WebSocket};
use bytes::BytesMut;
use koine_base::{Moment, Rope};
use koine_broker::access::Principal;
use koine_broker::metadata::{Command, NamespaceId, Outcome};
use koine_broker::router::Matches;
use koine_broker::session::{Context, Event, Peer, Protocol, Request, Session, Settlement};
use std::collections::{BTreeSet, VecDeque};

use tokens::kind_of;
pub(crate) use tokens::{token, Kind};

/// The largest CONNECT: two strings, a will and a password of 64 KiB each, and properties. Bounds what
/// a peer can make us hold before it is known.
const CONNECT_BYTES_MAX: usize = 512 * 1024;

/// A client with a smaller maximum packet size gets no reason strings.
const REASON_STRING_PACKET_MIN: u32 = 256;

/// Of PUBLISH packets larger than this the engine reads one after the other while memory is short;
/// smaller ones wait here for the end of the alarm.
const SMALL_PUBLISH_BYTES: usize = 64 << 10;

/// How soon to look again whether the output has drained, in milliseconds.
const RETRY_MS: u64 = 20;

/// All subjects of MQTT are in the default namespace.
pub(crate) const NAMESPACE: NamespaceId = NamespaceId(0);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    AwaitConnect,
    /// CONNECT named a method, and AUTH is to prove who it is.
    Authenticating,
    /// Who it is is with the engine.
    LoggingIn,
    /// The session is with the engine.
    Opening,
    Connected,
    Closed,
}

/// A request that holds up the packets behind it.
#[derive(Debug)]
pub(crate) enum Blocked {
    Subscribe(SubscribePending),
    Unsubscribe(UnsubscribePending),
}

#[derive(Debug)]
enum Transport {
    /// No byte has come.
    Unknown,
    Plain,
    WebSocket(Box<WebSocketInput>),
}

#[derive(Debug, Default)]
struct WebSocketInput {
    socket: WebSocket,
    packets: BytesMut,
    /// A close frame was sent.
    closed: bool,
}

/// The state machine of one MQTT connection.
pub struct MqttSession {
    peer: Peer,
    transport: Transport,
    pub(crate) phase: Phase,
    pub(crate) decoder: Decoder,
    pub(crate) client: Client,
    /// Who it is; nobody in particular on a node without users.
    pub(crate) principal: Principal,
    /// A login by AUTH, the first or another one.
    pub(crate) login: Option<Login>,
    /// It gave a user name, which may be wrong.
    pub(crate) is_named: bool,
    pub(crate) blocked: Option<Blocked>,
    pub(crate) incoming: Incoming,
    /// QoS 2 publishes whose identifiers are being noted, in order.
    pub(crate) held: VecDeque<Held>,
    pub(crate) outgoing: Outgoing,
    pub(crate) aliases_in: AliasesIn,
    pub(crate) aliases_out: AliasesOut,
    pub(crate) routes: RouteCache,
    /// Topics that it may publish under, or not.
    pub(crate) writable: Verdicts,
    /// Topics that it may be sent what was kept of.
    pub(crate) readable: Verdicts,
    /// Filters that it may not subscribe to any more and that metadata has not dropped yet.
    pub(crate) revoked: BTreeSet<String>,
    pub(crate) matches: Matches,
    /// Envelopes are cut from this.
    pub(crate) arena: BytesMut,
    pub(crate) retained: RetainedQueue,
    /// When the peer must have been accepted; set by the first step.
    handshake_at: Option<Moment>,
    input_at: Moment,
    /// When to look at the keep-alive again. Later input only moves it when it comes, so that a busy
    /// connection does not set its deadline anew with each packet.
    keep_alive_at: Moment,
    /// Bytes of the input that the last step left.
    input_left: usize,
    publish_bytes_max: usize,
    /// Output that waits beside the one being written, in a WebSocket step.
    outer_bytes: usize,
    retry_at: Moment,
    /// What comes next is a PUBLISH that waits for the end of an alarm.
    parked: bool,
    partial_bytes: usize,
    /// The durable packet identifiers are with the engine, nothing more is to be noted.
    saved: bool,
}

impl MqttSession {
    pub fn new(peer: Peer) -> MqttSession {
        MqttSession {
            peer,
            transport: Transport::Unknown,
            phase: Phase::AwaitConnect,
            decoder: Decoder::new(Version::V3_1_1, CONNECT_BYTES_MAX),
            client: Client::default(),
            principal: Principal::default(),
            login: None,
            is_named: false,
            blocked: None,
            incoming: Incoming::default(),
            held: VecDeque::new(),
            outgoing: Outgoing::default(),
            aliases_in: AliasesIn::default(),
            aliases_out: AliasesOut::default(),
            routes: RouteCache::default(),
            writable: Verdicts::default(),
            readable: Verdicts::default(),
            revoked: BTreeSet::new(),
            matches: Matches::new(),
            arena: BytesMut::new(),
            retained: RetainedQueue::default(),
            handshake_at: None,
            input_at: Moment::default(),
            keep_alive_at: Moment::NEVER,
            input_left: 0,
            publish_bytes_max: usize::MAX,
            outer_bytes: 0,
            retry_at: Moment::NEVER,
            parked: false,
            partial_bytes: 0,
            saved: false,
        }
    }

    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    pub(crate) fn version(&self) -> Version {
        self.decoder.version()
    }

    /// Bytes that wait to be written to the peer.
    pub(crate) fn output_bytes(&self, ctx: &Context<'_>) -> usize {
        self.outer_bytes + ctx.out.wire.len()
    }

    pub(crate) fn encode(&self, packet: &Packet, ctx: &mut Context<'_>) {
        packet.encode(self.version(), ctx.out.wire.tail());
    }

    /// Runs `work`, whose output is MQTT, and puts that into the transport's frame.
    fn step(&mut self, ctx: &mut Context<'_>, work: impl FnOnce(&mut Self, &mut Context<'_>)) {
        if !matches!(self.transport, Transport::WebSocket(_)) {
            work(self, ctx);
            return;
        }
        let outer = std::mem::take(&mut ctx.out.wire);
        self.outer_bytes = outer.len();
        work(self, ctx);
        let mut inner = std::mem::replace(&mut ctx.out.wire, outer);
        self.outer_bytes = 0;
        wrap(&mut inner, &mut ctx.out.wire);
        if let Transport::WebSocket(socket) = &mut self.transport {
            if ctx.out.close && !socket.closed && socket.socket.is_open() {
                socket.closed = true;
                put_close(ctx.out.wire.tail(), CloseCode::Normal);
            }
        }
    }

    fn receive_websocket(&mut self, input: &mut BytesMut, ctx: &mut Context<'_>) {
        let Transport::WebSocket(socket) = &mut self.transport else { return };
        let mut control = Rope::new();
        let was_open = socket.socket.is_open();
        let result = socket.socket.receive(input, &mut socket.packets, &mut control);
        socket.closed |= result.is_err();
        let mut packets = std::mem::take(&mut socket.packets);
        if !was_open {
            ctx.out.wire.append(&mut control);
        }
        self.step(ctx, |session, ctx| session.receive_packets(&mut packets, ctx));
        ctx.out.wire.append(&mut control);
        if let Transport::WebSocket(socket) = &mut self.transport {
            socket.packets = packets;
        }
        if result.is_err() {
            self.close(ctx);
        }
    }

    fn receive_packets(&mut self, input: &mut BytesMut, ctx: &mut Context<'_>) {
        while self.wants_input() {
            if self.must_park(input, ctx) {
                self.parked = true;
                ctx.meter.blocked += 1;
                break;
            }
            let claimed = claimed_version(self.phase, input);
            match self.decoder.next(input) {
                Ok(None) => break,
                Ok(Some(packet)) => {
                    if let Err(end) = self.receive_packet(packet, ctx) {
                        self.fail(end, ctx);
                    }
                }
                Err(error) => {
                    if let Some(version) = claimed {
                        self.decoder.set_version(version);
                    }
                    self.fail(error.into(), ctx);
                }
            }
        }
        self.partial_bytes = match FixedHeader::parse(input) {
            Ok(Some(header)) if !self.parked && header.packet_bytes() > input.len() => input.len(),
            _ => 0,
        };
        self.flush(ctx);
    }

    /// True if the packet at the front of `input` is a PUBLISH that cannot be taken now. Large ones
    /// the engine reads one after the other.
    fn must_park(&self, input: &[u8], ctx: &Context<'_>) -> bool {
        let is_publish = |first: &u8| first >> 4 == PacketType::Publish as u8;
        let (true, Some(first)) = (ctx.alarms.any(), input.first().filter(|it| is_publish(it)))
        else {
            return false;
        };
        if self.phase != Phase::Connected {
            return false;
        }
        let is_acknowledged = first & 0x06 != 0;
        if ctx.alarms.disk && is_acknowledged && !self.version().is_v5() {
            return true;
        }
        let is_small = match FixedHeader::parse(input) {
            Ok(Some(header)) => header.packet_bytes() <= SMALL_PUBLISH_BYTES,
            Ok(None) => true,
            Err(_) => false,
        };
        ctx.alarms.memory && is_small
    }

    /// What a WebSocket frame brought may still lie here, although the input is empty.
    fn receive_rest(&mut self, ctx: &mut Context<'_>) {
        let Transport::WebSocket(socket) = &self.transport else { return };
        if !socket.packets.is_empty() && self.wants_input() {
            self.receive_websocket(&mut BytesMut::new(), ctx);
        }
    }

    fn receive_packet(&mut self, packet: Packet, ctx: &mut Context<'_>) -> Result<(), End> {
        ctx.meter.requests += 1;
        if self.phase == Phase::AwaitConnect {
            return match packet {
                Packet::Connect(connect) => self.on_connect(*connect, ctx),
                _ => Err(Violation::UnexpectedConnect.into()),
            };
        }
        if self.phase == Phase::Authenticating {
            return match packet {
                Packet::Auth(auth) => self.on_auth(&auth, ctx),
                Packet::Disconnect(disconnect) => self.on_disconnect(&disconnect, ctx),
                // Nothing else may come before CONNACK (MQTT 5 §3.1.2.11.9).
                _ => Err(Violation::UnexpectedPacket.into()),
            };
        }
        match packet {
            Packet::Publish(publish) => self.on_publish(publish, ctx),
            Packet::Puback(puback) => self.on_puback(&puback, ctx),
            Packet::Pubrec(pubrec) => self.on_pubrec(&pubrec, ctx),
            Packet::Pubrel(pubrel) => self.on_pubrel(&pubrel, ctx),
            Packet::Pubcomp(pubcomp) => self.on_pubcomp(&pubcomp, ctx),
            Packet::Subscribe(subscribe) => self.on_subscribe(&subscribe, ctx),
            Packet::Unsubscribe(unsubscribe) => self.on_unsubscribe(&unsubscribe, ctx),
            Packet::Pingreq => {
                self.encode(&Packet::Pingresp, ctx);
                Ok(())
            }
            Packet::Disconnect(disconnect) => self.on_disconnect(&disconnect, ctx),
            Packet::Connect(_) => Err(Violation::UnexpectedConnect.into()),
            Packet::Auth(auth) => self.on_auth(&auth, ctx),
            Packet::Connack(_) | Packet::Suback(_) | Packet::Unsuback(_) | Packet::Pingresp => {
                Err(Violation::UnexpectedPacket.into())
            }
        }
    }

    /// Tells the peer as far as its version can be told, and closes. The will is due.
    pub(crate) fn fail(&mut self, end: End, ctx: &mut Context<'_>) {
        if matches!(end, End::Peer(_)) {
            ctx.meter.violations += 1;
        }
        match self.phase {
            Phase::AwaitConnect | Phase::Authenticating | Phase::LoggingIn | Phase::Opening => {
                self.refuse(end, ctx);
            }
            Phase::Connected if self.version().is_v5() => self.send_disconnect(end, ctx),
            Phase::Connected | Phase::Closed => {}
        }
        self.close(ctx);
    }

    /// A CONNACK that says no. What did not claim to be MQTT 5 and is malformed gets no answer
    /// (MQTT 3.1.1 §3.1.4).
    fn refuse(&mut self, end: End, ctx: &mut Context<'_>) {
        let version = match end {
            End::Peer(DecodeError::ProtocolLevel(level)) if level > Version::V5.level() => {
                Version::V5
            }
            End::Peer(DecodeError::ProtocolLevel(_)) => Version::V3_1_1,
            End::Peer(_) if !self.version().is_v5() => return,
            _ => self.version(),
        };
        let connack = Connack {
            session_present: false,
            reason: end.reason(),
            properties: Properties::default(),
        };
        Packet::Connack(connack).encode(version, ctx.out.wire.tail());
    }

    fn send_disconnect(&mut self, end: End, ctx: &mut Context<'_>) {
        let roomy = self.client.packet_bytes_max >= REASON_STRING_PACKET_MIN;
        let properties = match end {
            End::Peer(error) if self.client.problem_information && roomy => {
                [Property::ReasonString(&error.to_string())].into_iter().collect()
            }
            _ => Properties::default(),
        };
        let disconnect = Disconnect { reason: end.reason(), properties };
        self.encode(&Packet::Disconnect(disconnect), ctx);
    }

    pub(crate) fn close(&mut self, ctx: &mut Context<'_>) {
        self.phase = Phase::Closed;
        self.blocked = None;
        ctx.out.close = true;
    }

    /// Ends a step: sends what has become possible, tells the engine what changed.
    pub(crate) fn flush(&mut self, ctx: &mut Context<'_>) {
        if self.phase != Phase::Connected {
            return;
        }
        self.send_waiting(ctx);
        self.send_retained(ctx);
        self.send_answers(ctx);
        // A publish that failed in a version without negative acknowledgements ends the connection.
        if self.phase != Phase::Connected {
            return;
        }
        if let Some(changes) = self.incoming.notes.take() {
            self.propose_notes(changes, ctx);
        }
        let drained = self.output_bytes(ctx) < ctx.limits.output_bytes_max;
        self.outgoing.orders(drained, |order| {
            ctx.out.request(match order {
                Order::Settle { stream, consumer, ranges, settlement } => {
                    if settlement == Settlement::Ack {
                        ctx.meter.acked += ranges.iter().map(|(a, b)| b - a + 1).sum::<u64>();
                    }
                    Request::Settle { stream, consumer, ranges, settlement }
                }
                Order::Credit { stream, consumer, add } => {
                    Request::Credit { stream, consumer, add }
                }
                Order::Sync { stream, consumer } => {
                    Request::Sync { token: token(Kind::Sync, consumer), stream }
                }
                Order::Detach { stream, consumer } => {
                    Request::Detach { token: token(Kind::Ignored, 0), stream, consumer }
                }
            });
        });
        let is_owed = !drained && self.outgoing.owes_credit();
        self.retry_at = match is_owed || self.retained.is_waiting() {
            true => ctx.now.moment.after_ms(RETRY_MS),
            false => Moment::NEVER,
        };
    }

    fn send_answers(&mut self, ctx: &mut Context<'_>) {
        let version = self.version();
        let mut refused = None;
        let out = ctx.out.wire.tail();
        self.incoming.answers(|answer| {
            let (packet_type, packet_identifier, reason) = match answer {
                Answer::Puback(packet, reason) => (PacketType::Puback, packet, reason),
                Answer::Pubrec(packet, reason) => (PacketType::Pubrec, packet, reason),
                Answer::Pubcomp(packet, reason) => (PacketType::Pubcomp, packet, reason),
            };
            if reason.is_failure() && !version.is_v5() {
                refused = refused.or(Some(reason));
            }
            // Nothing is acknowledged after a failure that cannot be told.
            if refused.is_some() {
                return;
            }
            if reason == ReasonCode::Success || !version.is_v5() {
                put_acknowledgement(out, packet_type, packet_identifier);
                return;
            }
            let mut packet = Acknowledgement::new(packet_identifier);
            packet.reason = reason;
            packet.encode(packet_type, version, out);
        });
        if let Some(reason) = refused {
            ctx.meter.request_errors += 1;
            self.fail(End::Reason(reason), ctx);
        }
    }

    /// True if exactly-once state has to outlive the connection.
    pub(crate) fn is_durable(&self) -> bool {
        self.client.expiry_ms > 0
    }

    fn propose_notes(&mut self, changes: Changes, ctx: &mut Context<'_>) {
        let Some(session) = self.client.session else { return };
        let Changes { noted, released, unreleased } = changes;
        let connection = ctx.connection.raw();
        let command = Command::NotePackets { session, connection, noted, released, unreleased };
        ctx.out.request(Request::Propose { token: token(Kind::Notes, 0), command });
    }

    /// The connection ends and the session may not: everything that it cannot do without is noted.
    pub(crate) fn save_packets(&mut self, ctx: &mut Context<'_>) {
        if self.saved || !self.is_durable() {
            return;
        }
        self.saved = true;
        let mut changes = self.incoming.notes.take_rest();
        changes.unreleased.extend(self.outgoing.unreleased().map(|packet| (packet, true)));
        if !changes.is_empty() {
            self.propose_notes(changes, ctx);
        }
    }

    fn on_event(&mut self, event: Event, ctx: &mut Context<'_>) {
        if self.phase == Phase::Closed {
            return;
        }
        match event {
            Event::Deliveries { consumer, deliveries, .. } => {
                self.on_deliveries(consumer, deliveries, ctx);
            }
            Event::Live { content, annotation } => self.on_live(&content, &annotation, ctx),
            Event::Published { token, result } => {
                let (_, sequence) = kind_of(token);
                self.on_published(sequence, result.err());
            }
            Event::Proposed { token, result } => match kind_of(token) {
                (Kind::Open, _) => self.on_opened(result, ctx),
                (Kind::Publish, sequence) => self.on_published(sequence, result.err()),
                (Kind::Subscribe, _) => self.on_subscribed(result, ctx),
                (Kind::Unsubscribe, _) => self.on_unsubscribed(result, ctx),
                (Kind::Revoke, _) => self.on_revoked(result, ctx),
                (Kind::Notes, _) => match result {
                    Ok(Outcome::Noted { use_number }) => self.on_noted(use_number, ctx),
                    Ok(_) | Err(_) => self.fail(End::Reason(ReasonCode::UnspecifiedError), ctx),
                },
                _ => {}
            },
            Event::Authenticated { result, .. } => {
                if let Err(end) = self.on_authenticated(result, ctx) {
                    self.fail(end, ctx);
                }
            }
            Event::Retained { result, .. } => match result {
                Ok(page) => self.on_retained(page, ctx),
                // What is retained is known elsewhere: the client comes back and asks there.
                Err(_) => self.fail(End::Reason(ReasonCode::UnspecifiedError), ctx),
            },
            Event::Attached { token, result } => match result {
                Ok(half) => self.on_attached(kind_of(token).1, &half, ctx),
                Err(_) => self.fail(End::Reason(ReasonCode::UnspecifiedError), ctx),
            },
            Event::Stopped { token } => self.outgoing.stopped(kind_of(token).1),
            // Whether they are settled is not known: the client comes back and is told by another.
            Event::Synced { result: Err(_), .. } => {
                self.fail(End::Reason(ReasonCode::UnspecifiedError), ctx);
            }
            Event::Synced { token, .. } => {
                let packets = self.outgoing.synced(kind_of(token).1);
                self.send_pubrels(&packets, ctx);
            }
            Event::ConsumerCancelled { consumer, .. } => {
                let packets = self.outgoing.remove(consumer);
                self.send_pubrels(&packets, ctx);
            }
            Event::SessionTaken { session, resumed } if self.client.session == Some(session) => {
                self.on_session_taken(resumed, ctx);
            }
            Event::SessionEnded { session } if self.client.session == Some(session) => {
                self.saved = true;
                self.fail(End::Reason(ReasonCode::AdministrativeAction), ctx);
            }
            // Answers to requests that this protocol does not make.
            _ => {}
        }
        self.flush(ctx);
    }

    pub(crate) fn start_keep_alive(&mut self) {
        self.keep_alive_at = self.keep_alive_deadline();
    }

    fn send_pubrels(&self, packets: &[u16], ctx: &mut Context<'_>) {
        for packet_identifier in packets {
            put_acknowledgement(ctx.out.wire.tail(), PacketType::Pubrel, *packet_identifier);
        }
    }

    fn keep_alive_deadline(&self) -> Moment {
        match self.client.keep_alive_ms {
            0 => Moment::NEVER,
            // One and a half times the interval (MQTT 5 §3.1.2.10).
            interval => self.input_at.after_ms(interval + interval / 2),
        }
    }

    fn handshake_deadline(&mut self, ctx: &Context<'_>) -> Moment {
        let limit = ctx.now.moment.after_ms(ctx.limits.handshake_ms_max);
        *self.handshake_at.get_or_insert(limit)
    }

    fn on_tick(&mut self, ctx: &mut Context<'_>) {
        let now = ctx.now.moment;
        let handshake_at = self.handshake_deadline(ctx);
        match self.phase {
            Phase::AwaitConnect | Phase::Authenticating | Phase::LoggingIn | Phase::Opening => {
                if now >= handshake_at {
                    self.close(ctx);
                }
            }
            Phase::Connected => {
                if !ctx.is_read || !self.wants_input() {
                    // The packets that would keep it alive are not read.
                    self.input_at = now;
                }
                self.keep_alive_at = self.keep_alive_deadline();
                if now >= self.keep_alive_at {
                    self.fail(Violation::KeepAlive.into(), ctx);
                }
            }
            Phase::Closed => {}
        }
        self.outgoing.touch();
        self.flush(ctx);
    }
}

/// The version that a first packet claims, if all of it is there and it says so before it goes wrong: an
/// answer should be one that its sender can read.
fn claimed_version(phase: Phase, input: &[u8]) -> Option<Version> {
    if phase != Phase::AwaitConnect || input.first() != Some(&0x10) {
        return None;
    }
    let header = FixedHeader::parse(input).ok()??;
    let body = input.get(header.header_bytes..header.packet_bytes())?;
    body.starts_with(b"\0\x04MQTT\x05").then_some(Version::V5)
}

impl Session for MqttSession {
    fn protocol(&self) -> Protocol {
        Protocol::Mqtt
    }

    fn receive(&mut self, input: &mut BytesMut, ctx: &mut Context<'_>) {
        self.handshake_deadline(ctx);
        self.publish_bytes_max = ctx.limits.publish_bytes_in_flight_max;
        if input.len() != self.input_left {
            self.input_at = ctx.now.moment;
        }
        if matches!(self.transport, Transport::Unknown) {
            match is_http(input) {
                None => {}
                Some(true) => self.transport = Transport::WebSocket(Box::default()),
                Some(false) => self.transport = Transport::Plain,
            }
        }
        match self.transport {
            Transport::Unknown => {}
            Transport::Plain => self.receive_packets(input, ctx),
            Transport::WebSocket(_) => self.receive_websocket(input, ctx),
        }
        if self.phase == Phase::Closed {
            input.clear();
        }
        self.input_left = input.len();
    }

    fn event(&mut self, event: Event, ctx: &mut Context<'_>) {
        self.step(ctx, |session, ctx| session.on_event(event, ctx));
        self.receive_rest(ctx);
    }

    fn alarms_changed(&mut self, ctx: &mut Context<'_>) {
        // Looked at again when the input is.
        self.parked = false;
        self.receive_rest(ctx);
    }

    fn partial_bytes(&self) -> usize {
        self.partial_bytes
    }

    fn evict(&mut self, ctx: &mut Context<'_>) {
        let end = End::Reason(ReasonCode::QuotaExceeded);
        self.step(ctx, |session, ctx| session.fail(end, ctx));
    }

    fn tick(&mut self, ctx: &mut Context<'_>) {
        self.step(ctx, Self::on_tick);
    }

    fn deadline(&self) -> Moment {
        match self.phase {
            // The first tick tells the time.
            Phase::AwaitConnect | Phase::Authenticating | Phase::LoggingIn | Phase::Opening => {
                self.handshake_at.unwrap_or_default()
            }
            Phase::Connected => self.keep_alive_at.min(self.retry_at),
            Phase::Closed => Moment::NEVER,
        }
    }

    fn wants_input(&self) -> bool {
        match self.phase {
            Phase::AwaitConnect | Phase::Authenticating => true,
            Phase::Connected => {
                self.blocked.is_none()
                    && !self.login.as_ref().is_some_and(Login::is_checked)
                    && !self.parked
                    && !self.retained.is_full()
                    && self.incoming.bytes() < self.publish_bytes_max
            }
            Phase::LoggingIn | Phase::Opening | Phase::Closed => false,
        }
    }

    fn access_changed(&mut self, ctx: &mut Context<'_>) {
        self.step(ctx, Self::on_access_changed);
    }

    fn disconnected(&mut self, ctx: &mut Context<'_>) {
        // The engine closes the session of a lost connection by itself.
        self.save_packets(ctx);
        self.phase = Phase::Closed;
    }

    fn shutdown(&mut self, ctx: &mut Context<'_>) {
        let end = End::Reason(ReasonCode::ServerShuttingDown);
        self.step(ctx, |session, ctx| session.fail(end, ctx));
    }
}
