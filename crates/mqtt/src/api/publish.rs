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
use koine_broker::publish::{to_subject, Publisher};
use koine_broker::router::Subject;
use koine_broker::session::{Context, Request, Route};

/// What a waiting publish costs beside its payload, for the bound on what one connection has under
/// way.
const PENDING_BYTES: usize = 64;

/// Room for envelopes is allocated in pieces of this size.
const ARENA_BYTES: usize = 4096;

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
        self.hand_over(&publish, &topic, content, route, ctx);
        Ok(())
    }

    /// A second QoS 2 publish under an identifier that is not released yet (§4.3.3).
    fn is_repetition(&mut self, publish: &Publish, ctx: &mut Context<'_>) -> bool {
        let packet_identifier = publish.packet_identifier;
        let mut receipt = self.incoming.receipt(packet_identifier);
        if receipt == Receipt::New && publish.duplicate {
            // The connection before this one may have noted it after this one began.
            let session = self.client.session.and_then(|id| ctx.metadata.session(id));
            if session.is_some_and(|session| session.received.contains(&packet_identifier)) {
                self.incoming.resume([packet_identifier]);
                receipt = Receipt::Received;
            }
        }
        if receipt == Receipt::Received {
            let pubrec = crate::codec::PacketType::Pubrec;
            crate::codec::put_acknowledgement(ctx.out.wire.tail(), pubrec, packet_identifier);
        }
        receipt != Receipt::New
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

    /// Makes the requests of one publish and queues its acknowledgement.
    fn hand_over(
        &mut self,
        publish: &Publish,
        topic: &[u8],
        content: Content,
        route: Route,
        ctx: &mut Context<'_>,
    ) {
        let sequence = self.incoming.next_sequence();
        let mut parts = 0;
        if publish.retain {
            parts += 1;
            let topic = std::str::from_utf8(topic).unwrap_or_default();
            let expires = publish.message_expiry_interval;
            self.propose_retain(topic, &content, publish.qos, expires, Some(sequence), ctx);
        }
        let reason = match route.is_empty() {
            true => ReasonCode::NoMatchingSubscribers,
            false => ReasonCode::Success,
        };
        if route.is_empty() {
            ctx.meter.unroutable += u64::from(!publish.retain);
        } else {
            // At QoS 0 there is nothing to answer; the engine bounds what is under way.
            let wanted = (publish.qos != Qos::AtMostOnce).then(|| token(Kind::Publish, sequence));
            parts += u8::from(wanted.is_some());
            ctx.out.request(Request::Publish { token: wanted, content, route });
        }
        if publish.qos == Qos::AtMostOnce && parts == 0 {
            return;
        }
        let bytes = match parts {
            0 => 0,
            _ => publish.payload_size() + PENDING_BYTES,
        };
        self.incoming.begin(publish.packet_identifier, publish.qos, reason, parts, bytes);
        if parts == 0 && publish.qos == Qos::ExactlyOnce && self.is_durable() {
            self.incoming.note_last();
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

    /// One part of a publish is done; acknowledgements leave at the end of the step.
    pub(crate) fn on_published(&mut self, sequence: u64, refusal: Option<Refusal>) {
        let durable = self.is_durable();
        self.incoming.part_done(sequence, refusal.map(publish_refused), durable);
    }
}
