//! CONNECT and its answer (MQTT 5 §3.1, §3.2): limits are agreed, the session is opened or taken
//! over, and what it left unfinished is taken up again.

use super::login::{authentication, Shown};
use crate::aliases::AliasesOut;
use crate::codec::{
    put_acknowledgement, Connack, Connect, Packet, PacketType, Properties, Property, Version, Will,
};
use crate::error::{connect_refused, End, ReasonCode};
use crate::message::{envelope_of_will, will_expiry_interval};
use crate::outgoing::{Outgoing, Source};
use crate::session::{token, Kind, MqttSession, Phase, NAMESPACE};
use crate::topic::TopicFilter;
use bytes::Bytes;
use koine_base::Timestamp;
use koine_broker::access::scram::Mechanism;
use koine_broker::limits::Limits;
use koine_broker::message::{Content, Origin};
use koine_broker::metadata::{self, Command, Outcome, Refusal, SessionId, EXPIRY_NEVER};
use koine_broker::publish::{to_subject, Publisher};
use koine_broker::router::Subject;
use koine_broker::session::{Context, Request};

/// What a PUBLISH may have beside its payload: a topic of 64 KiB and properties.
const PACKET_OVERHEAD_MAX: usize = 256 * 1024;

/// The receive maximum of a client that names none (MQTT 5 §3.1.2.11.3); versions before 5 have none.
const RECEIVE_MAXIMUM_DEFAULT: u16 = 65_535;

/// The client of this connection, as its CONNECT describes it.
#[derive(Debug)]
pub(crate) struct Client {
    pub identifier: String,
    /// We made the identifier up.
    pub assigned: bool,
    /// `Clean Session` before version 5.
    pub clean_start: bool,
    /// It logged in by AUTH, and may do so again.
    pub mechanism: Option<Mechanism>,
    /// Set once the session is open.
    pub session: Option<SessionId>,
    /// 0 is off.
    pub keep_alive_ms: u64,
    /// Seconds; imposed by us in place of the client's own interval.
    pub server_keep_alive: Option<u16>,
    pub expiry_ms: u64,
    pub receive_maximum: u16,
    pub topic_alias_maximum: u16,
    /// The largest packet it takes.
    pub packet_bytes_max: u32,
    /// It wants reason strings.
    pub problem_information: bool,
    pub will: Option<Will>,
}

impl Default for Client {
    fn default() -> Self {
        Client {
            identifier: String::new(),
            assigned: false,
            clean_start: false,
            mechanism: None,
            session: None,
            keep_alive_ms: 0,
            server_keep_alive: None,
            expiry_ms: 0,
            receive_maximum: RECEIVE_MAXIMUM_DEFAULT,
            topic_alias_maximum: 0,
            packet_bytes_max: u32::MAX,
            problem_information: true,
            will: None,
        }
    }
}

/// Seconds to milliseconds; the largest number of seconds is "never" (MQTT 5 §3.1.2.11.2).
pub(super) fn expiry_ms(seconds: u32) -> u64 {
    match seconds {
        u32::MAX => EXPIRY_NEVER,
        seconds => u64::from(seconds) * 1000,
    }
}

impl Client {
    fn new(connect: Connect, limits: &Limits) -> Client {
        let server_keep_alive = server_keep_alive(&connect, limits);
        let keep_alive = server_keep_alive.unwrap_or(connect.keep_alive);
        let mut client = Client {
            identifier: connect.client_identifier,
            clean_start: connect.clean_start,
            keep_alive_ms: u64::from(keep_alive) * 1000,
            server_keep_alive,
            will: connect.will,
            ..Client::default()
        };
        if !connect.version.is_v5() && !connect.clean_start {
            client.expiry_ms = EXPIRY_NEVER;
        }
        for property in connect.properties.iter() {
            match property {
                Property::SessionExpiryInterval(seconds) => client.expiry_ms = expiry_ms(seconds),
                Property::ReceiveMaximum(maximum) => client.receive_maximum = maximum,
                Property::MaximumPacketSize(maximum) => client.packet_bytes_max = maximum,
                Property::TopicAliasMaximum(maximum) => client.topic_alias_maximum = maximum,
                Property::RequestProblemInformation(wanted) => {
                    client.problem_information = wanted == 1;
                }
                _ => {}
            }
        }
        client
    }
}

/// Only version 5 can be told another interval than its own (MQTT 5 §3.2.2.3.14).
fn server_keep_alive(connect: &Connect, limits: &Limits) -> Option<u16> {
    let maximum = limits.keep_alive_seconds_max;
    let within = connect.keep_alive > 0 && connect.keep_alive <= maximum;
    if within || maximum == u16::MAX || !connect.version.is_v5() {
        return None;
    }
    Some(maximum)
}

fn packet_bytes_max(limits: &Limits) -> usize {
    limits.message_bytes_max.saturating_add(PACKET_OVERHEAD_MAX)
}

impl MqttSession {
    pub(crate) fn on_connect(
        &mut self,
        mut connect: Connect,
        ctx: &mut Context<'_>,
    ) -> Result<(), End> {
        let version = connect.version;
        self.decoder.set_version(version);
        let (user_name, password) = (connect.user_name.take(), connect.password.take());
        let is_secured = ctx.metadata.access().is_secured();
        let shown = Shown::of(&connect.properties, user_name, password, is_secured)?;
        let clean_start = connect.clean_start;
        self.client = Client::new(connect, ctx.limits);
        self.check_identifier(version, clean_start, ctx)?;
        self.log_in(shown, ctx)
    }

    /// The client is who it says: its session is next.
    pub(super) fn open(&mut self, ctx: &mut Context<'_>) -> Result<(), End> {
        if !self.may_enter(ctx) || !self.may_leave_will(ctx) {
            ctx.meter.refused += 1;
            return Err(End::Reason(ReasonCode::NotAuthorized));
        }
        let will = self.client.will.as_ref().map(|will| stored_will(will, ctx.now.wall));
        if will.as_ref().is_some_and(|will| will.content.len() > ctx.limits.message_bytes_max) {
            return Err(End::Reason(ReasonCode::PacketTooLarge));
        }
        self.phase = Phase::Opening;
        let command = Command::OpenSession {
            namespace: NAMESPACE,
            client_id: self.client.identifier.clone(),
            connection: ctx.connection.raw(),
            clean_start: self.client.clean_start,
            expiry_ms: self.client.expiry_ms,
            will,
            user: self.principal.user.as_deref().map(str::to_owned),
            at: ctx.now.wall.0,
        };
        ctx.out.request(Request::Propose { token: token(Kind::Open, 0), command });
        Ok(())
    }

    /// MQTT 5 §3.1.3.1; MQTT 3.1.1 lets only clean sessions go without a name, 3.1 none.
    fn check_identifier(
        &mut self,
        version: Version,
        clean_start: bool,
        ctx: &mut Context<'_>,
    ) -> Result<(), End> {
        let length = self.client.identifier.len();
        let nameless_allowed = match version {
            Version::V3_1 => false,
            Version::V3_1_1 => clean_start,
            Version::V5 => true,
        };
        if length > ctx.limits.name_bytes_max || (length == 0 && !nameless_allowed) {
            return Err(End::Reason(ReasonCode::ClientIdentifierNotValid));
        }
        if length == 0 {
            self.client.assigned = true;
            self.client.identifier =
                format!("koine-{:016x}{:016x}", ctx.rng.next_u64(), ctx.connection.raw());
        }
        Ok(())
    }

    pub(crate) fn on_opened(&mut self, result: Result<Outcome, Refusal>, ctx: &mut Context<'_>) {
        if self.phase != Phase::Opening {
            return;
        }
        let (session, present) = match result {
            Ok(Outcome::SessionOpened { session, present, .. }) => (session, present),
            Ok(_) => return self.fail(End::Reason(ReasonCode::UnspecifiedError), ctx),
            Err(refusal) => {
                ctx.meter.request_errors += 1;
                return self.fail(End::Reason(connect_refused(refusal)), ctx);
            }
        };
        let owner = ctx.metadata.session(session).and_then(|session| session.connection);
        if owner != Some(ctx.connection.raw()) {
            // Another connection took the session before this one heard that it had it.
            return self.fail(End::Reason(ReasonCode::ServerUnavailable), ctx);
        }
        if !self.may_enter(ctx) {
            ctx.meter.refused += 1;
            return self.fail(End::Reason(ReasonCode::NotAuthorized), ctx);
        }
        self.phase = Phase::Connected;
        self.client.session = Some(session);
        self.start_keep_alive();
        self.decoder.set_packet_bytes_max(packet_bytes_max(ctx.limits));
        self.outgoing = Outgoing::new(self.client.receive_maximum);
        let aliases = self.client.topic_alias_maximum.min(ctx.limits.topic_alias_max);
        self.aliases_out = AliasesOut::new(aliases);
        let answer = self.end_login();
        let connack = Connack {
            // Version 3.1 has no such flag.
            session_present: present && self.version() != Version::V3_1,
            reason: ReasonCode::Success,
            properties: self.connack_properties(answer.as_ref(), ctx.limits),
        };
        self.encode(&Packet::Connack(connack), ctx);
        if present {
            self.resume(session, ctx);
        }
    }

    /// Only what differs from the defaults of MQTT 5 §3.2.2.3.
    fn connack_properties(
        &self,
        answer: Option<&(Mechanism, String)>,
        limits: &Limits,
    ) -> Properties {
        let packet_bytes_max = u32::try_from(packet_bytes_max(limits)).unwrap_or(u32::MAX);
        let mut all = vec![
            Property::ReceiveMaximum(limits.receive_maximum.max(1)),
            Property::MaximumPacketSize(packet_bytes_max),
            Property::TopicAliasMaximum(limits.topic_alias_max),
        ];
        all.extend(self.client.server_keep_alive.map(Property::ServerKeepAlive));
        if self.client.assigned {
            all.push(Property::AssignedClientIdentifier(&self.client.identifier));
        }
        if let Some((mechanism, answer)) = answer {
            all.extend(authentication(*mechanism, answer));
        }
        all.into_iter().collect()
    }

    /// Goes on where the last connection of the session stopped.
    fn resume(&mut self, id: SessionId, ctx: &mut Context<'_>) {
        // What it may not subscribe to any more goes before anything is delivered.
        self.recheck(ctx);
        if self.phase != Phase::Connected {
            return;
        }
        let Some(session) = ctx.metadata.session(id) else { return };
        self.incoming.resume(session.received.iter().map(|(packet, number)| (*packet, *number)));
        for packet_identifier in session.unreleased.iter().copied() {
            self.outgoing.resume_unreleased(packet_identifier);
            put_acknowledgement(ctx.out.wire.tail(), PacketType::Pubrel, packet_identifier);
        }
        self.attach_backlog(ctx);
        for topic_filter in session.subscriptions.keys() {
            if self.revoked.contains(topic_filter) {
                continue;
            }
            self.attach_shared(topic_filter, ctx);
        }
    }

    /// Joins a shared subscription that metadata knows this session in.
    pub(super) fn attach_shared(&mut self, topic_filter: &str, ctx: &mut Context<'_>) {
        let Ok(TopicFilter { share: Some(group), filter }) = TopicFilter::parse(topic_filter)
        else {
            return;
        };
        if self.outgoing.shared_consumer(topic_filter).is_some() {
            return;
        }
        if let Some(shared) = ctx.metadata.shared(NAMESPACE, group, filter) {
            let source = Source::Shared { topic_filter: topic_filter.to_owned() };
            self.attach(shared.stream(), source, ctx);
        }
    }

    /// Asked again when it is published: rights may go in the meantime.
    fn may_leave_will(&self, ctx: &Context<'_>) -> bool {
        let Some(will) = &self.client.will else { return true };
        let subject = Subject::from_mqtt(&will.topic);
        subject.is_ok_and(|it| ctx.metadata.may_publish(&self.principal, NAMESPACE, &it))
    }

    /// Another connection has the session now (MQTT 5 §3.1.4).
    pub(crate) fn on_session_taken(&mut self, resumed: bool, ctx: &mut Context<'_>) {
        self.save_packets(ctx);
        if let Some(will) = self.client.will.take() {
            if !resumed || will.delay_interval() == 0 {
                self.publish_will(&will, ctx);
            }
        }
        self.fail(End::Reason(ReasonCode::SessionTakenOver), ctx);
    }

    fn publish_will(&mut self, will: &Will, ctx: &mut Context<'_>) {
        let Ok(subject) = Subject::from_mqtt(&will.topic) else { return };
        if !ctx.metadata.may_publish(&self.principal, NAMESPACE, &subject) {
            ctx.meter.refused += 1;
            return;
        }
        let publisher = Publisher {
            connection: ctx.connection,
            session: self.client.session,
            qos: will.qos as u8,
            retain: will.retain,
            key: None,
        };
        let matches = &mut self.matches;
        let route = to_subject(ctx.metadata, NAMESPACE, &subject, &publisher, matches);
        let content = will_content(will, ctx.now.wall);
        if will.retain {
            let expires_at = will_expiry_interval(will);
            self.propose_retain(&will.topic, &content, will.qos, expires_at, None, ctx);
        }
        if !route.is_empty() {
            ctx.out.request(Request::Publish { token: None, content, route, once: None });
        }
    }
}

fn will_content(will: &Will, now: Timestamp) -> Content {
    Content {
        origin: Origin::Mqtt,
        envelope: envelope_of_will(will),
        key: None,
        // A copy, so that a will does not keep a network buffer alive.
        body: Some(Bytes::copy_from_slice(&will.payload)),
        timestamp: now,
    }
}

fn stored_will(will: &Will, now: Timestamp) -> metadata::Will {
    metadata::Will {
        topic: will.topic.clone(),
        content: will_content(will, now).encode().to_vec(),
        qos: will.qos as u8,
        retain: will.retain,
        delay_ms: u64::from(will.delay_interval()) * 1000,
        expiry_ms: will_expiry_interval(will).map(|seconds| u64::from(seconds) * 1000),
    }
}
