//! PUBLISH from the client (MQTT 5 §3.3, §4.3): routed at once, acknowledged when every copy is as
//! durable as its stream promises, and only in order.

use crate::codec::{Publish, Qos};
use crate::error::{publish_refused, DecodeError, End, ReasonCode, Violation};
use crate::incoming::Receipt;
use crate::message::{envelope_of_publish, record_key};
use crate::session::{token, Kind, MqttSession, NAMESPACE};
use bytes::{Bytes, BytesMut};
use koine_broker::message::{Content, Origin};
use koine_broker::metadata::{Command, Refusal};
use koine_broker::once::OnceId;
use koine_broker::publish::{to_subject, Publisher};
use koine_broker::router::Subject;
use koine_broker::session::{Context, Request, Route};

/// What a waiting publish costs beside its payload, for the bound on what one connection has under
/// way.
const PENDING_BYTES: usize = 64;

/// Room for envelopes is allocated in pieces of this size.
const ARENA_BYTES: usize = 4096;

/// A publish whose requests are still to be made.
#[derive(Debug)]
pub(crate) struct Held {
    sequence: u64,
    packet_identifier: u16,
    qos: Qos,
    retain: Option<Retain>,
    content: Content,
    route: Route,
}

#[derive(Debug)]
struct Retain {
    topic: Bytes,
    /// Message expiry interval, seconds.
    expires: Option<u32>,
}

impl MqttSession {
    pub(crate) fn on_publish(
        &mut self,
        publish: Publish,
        ctx: &mut Context<'_>,
    ) -> Result<(), End> {
        if publish.has_subscription_identifier {
            return Err(Violation::UnexpectedPacket.into());
        }
        let maximum = ctx.limits.topic_alias_max;
        let topic = self.aliases_in.resolve(publish.topic_bytes(), publish.topic_alias, maximum)?;
        if publish.payload_size() > ctx.limits.message_bytes_max {
            return Err(DecodeError::PacketTooLarge.into());
        }
        if publish.qos == Qos::ExactlyOnce && self.is_repetition(&publish, ctx) {
            return Ok(());
        }
        if publish.qos != Qos::AtMostOnce && self.version().is_v5() {
            let maximum = usize::from(ctx.limits.receive_maximum.max(1));
            if self.incoming.open_count() >= maximum {
                return Err(Violation::ReceiveMaximum.into());
            }
        }
        if !self.may_publish(&topic, ctx)? {
            self.refuse_publish(&publish, ctx);
            return Ok(());
        }
        ctx.meter.messages_in += 1;
        ctx.meter.message_bytes_in += publish.payload_size() as u64;
        let key = record_key(publish.properties());
        let (route, envelope) = self.route(&publish, &topic, key.as_deref(), ctx)?;
        let content = Content {
            origin: Origin::Mqtt,
            envelope,
            key,
            body: Some(publish.payload()),
            timestamp: ctx.now.wall,
        };
        self.hand_over(&publish, topic, content, route, ctx);
        Ok(())
    }

    /// Not allowed: version 5 is told, in turn. Older ones cannot be, and lose their connection rather than
    /// be told that it is done. At QoS 0 there is nobody to tell.
    fn refuse_publish(&mut self, publish: &Publish, ctx: &mut Context<'_>) {
        ctx.meter.refused += 1;
        if publish.qos == Qos::AtMostOnce {
            return;
        }
        let sequence = self.incoming.next_sequence();
        let (packet_identifier, reason) = (publish.packet_identifier, ReasonCode::Success);
        self.incoming.begin(packet_identifier, publish.qos, reason, 1, PENDING_BYTES);
        self.on_published(sequence, Some(Refusal::NotAuthorized));
    }

    /// A second QoS 2 publish under an identifier that this connection has not released yet (§4.3.3).
    fn is_repetition(&mut self, publish: &Publish, ctx: &mut Context<'_>) -> bool {
        let packet_identifier = publish.packet_identifier;
        match self.incoming.receipt(packet_identifier) {
            // What an earlier connection noted is handed over again under the same number.
            Receipt::New | Receipt::Noted(_) => return false,
            Receipt::Publishing => {}
            Receipt::Received => {
                let pubrec = crate::codec::PacketType::Pubrec;
                crate::codec::put_acknowledgement(ctx.out.wire.tail(), pubrec, packet_identifier);
            }
        }
        true
    }

    /// The receivers of a publish and its envelope, from the cache if nothing changed.
    fn route(
        &mut self,
        publish: &Publish,
        topic: &Bytes,
        key: Option<&[u8]>,
        ctx: &mut Context<'_>,
    ) -> Result<(Route, Bytes), End> {
        if self.arena.capacity() == 0 {
            self.arena = BytesMut::with_capacity(ARENA_BYTES);
        }
        let (qos, retain) = (publish.qos, publish.retain);
        let version = ctx.metadata.version();
        let plain = publish.properties().is_empty();
        // A key picks the partition of a topic, so the route is its own.
        let known = match key {
            None => self.routes.find(topic, qos, retain, version),
            Some(_) => None,
        };
        if let Some((route, envelope)) = known {
            let envelope = match plain {
                true => envelope.clone(),
                false => envelope_of_publish(publish, topic, &mut self.arena),
            };
            return Ok((route.clone(), envelope));
        }
        let text = std::str::from_utf8(topic).unwrap_or_default();
        let subject = Subject::from_mqtt(text).map_err(|_| Violation::TopicName)?;
        let publisher = Publisher {
            connection: ctx.connection,
            session: self.client.session,
            qos: qos as u8,
            retain,
            key,
        };
        let matches = &mut self.matches;
        let route = to_subject(ctx.metadata, NAMESPACE, &subject, &publisher, matches);
        let envelope = envelope_of_publish(publish, topic, &mut self.arena);
        if plain {
            self.routes.remember(topic, qos, retain, version, &route, &envelope);
        }
        Ok((route, envelope))
    }

    /// Queues the acknowledgement of one publish, and makes its requests or lets them wait for the note
    /// of its identifier.
    fn hand_over(
        &mut self,
        publish: &Publish,
        topic: Bytes,
        content: Content,
        route: Route,
        ctx: &mut Context<'_>,
    ) {
        let (qos, packet_identifier) = (publish.qos, publish.packet_identifier);
        let reason = match route.is_empty() {
            true => ReasonCode::NoMatchingSubscribers,
            false => ReasonCode::Success,
        };
        ctx.meter.unroutable += u64::from(route.is_empty() && !publish.retain);
        // At QoS 0 there is nothing to answer; the engine bounds what is under way.
        let answered = !route.is_empty() && qos != Qos::AtMostOnce;
        let parts = u8::from(publish.retain) + u8::from(answered);
        let sequence = self.incoming.next_sequence();
        let held = Held {
            sequence,
            packet_identifier,
            qos,
            retain: publish
                .retain
                .then_some(Retain { topic, expires: publish.message_expiry_interval }),
            content,
            route,
        };
        if qos == Qos::AtMostOnce && parts == 0 {
            return self.make_requests(held, None, ctx);
        }
        // Also one without receivers waits for those before it to be answered.
        let bytes = PENDING_BYTES + if parts > 0 { publish.payload_size() } else { 0 };
        let noted = self.incoming.receipt(packet_identifier);
        self.incoming.begin(packet_identifier, qos, reason, parts, bytes);
        match (noted, self.client.session) {
            _ if qos != Qos::ExactlyOnce || parts == 0 => self.make_requests(held, None, ctx),
            (Receipt::Noted(use_number), Some(session)) => {
                let once = OnceId { session, packet_identifier, use_number };
                self.make_requests(held, Some(once), ctx);
            }
            _ if self.is_durable() => {
                self.incoming.note_last();
                self.held.push_back(held);
            }
            _ => self.make_requests(held, None, ctx),
        }
    }

    /// The use of some identifiers is noted: their publishes go on.
    pub(crate) fn on_noted(&mut self, use_number: u64, ctx: &mut Context<'_>) {
        self.incoming.noted(use_number);
        let Some(session) = self.client.session else { return };
        while let Some(held) = self.held.front() {
            let packet_identifier = held.packet_identifier;
            let Some(use_number) = self.incoming.use_number(packet_identifier) else { break };
            let once = OnceId { session, packet_identifier, use_number };
            if let Some(held) = self.held.pop_front() {
                self.make_requests(held, Some(once), ctx);
            }
        }
    }

    fn make_requests(&mut self, held: Held, once: Option<OnceId>, ctx: &mut Context<'_>) {
        let Held { sequence, packet_identifier: _, qos, retain, content, route } = held;
        if let Some(Retain { topic, expires }) = retain {
            let topic = std::str::from_utf8(&topic).unwrap_or_default();
            self.propose_retain(topic, &content, qos, expires, Some(sequence), ctx);
        }
        if !route.is_empty() {
            let token = (qos != Qos::AtMostOnce).then(|| token(Kind::Publish, sequence));
            ctx.out.request(Request::Publish { token, content, route, once });
        }
    }

    /// Sets the retained message of a topic, or clears it if there is no payload (§3.3.1.3).
    pub(super) fn propose_retain(
        &mut self,
        topic: &str,
        content: &Content,
        qos: Qos,
        expiry_interval: Option<u32>,
        sequence: Option<u64>,
        ctx: &mut Context<'_>,
    ) {
        let cleared = content.body.as_ref().is_none_or(Bytes::is_empty);
        let expires_at =
            expiry_interval.map(|seconds| content.timestamp.plus_ms(i64::from(seconds) * 1000).0);
        let command = Command::Retain {
            namespace: NAMESPACE,
            topic: topic.to_owned(),
            content: (!cleared).then(|| content.encode().to_vec()),
            qos: qos as u8,
            expires_at,
        };
        let token = match sequence {
            Some(sequence) => token(Kind::Publish, sequence),
            None => token(Kind::Ignored, 0),
        };
        ctx.out.request(Request::Propose { token, command });
    }

    /// One part of a publish is done; acknowledgements leave at the end of the step. A version that
    /// cannot be told of a refusal loses its connection, and repeats the same publish on the next.
    pub(crate) fn on_published(&mut self, sequence: u64, refusal: Option<Refusal>) {
        let forgets = self.version().is_v5();
        self.incoming.part_done(sequence, refusal.map(publish_refused), forgets);
    }
}
