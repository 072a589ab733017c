//! From the engine to the client: backlog and shared deliveries with acknowledgement, live ones
//! without. What cannot be sent to this client at all is settled, so that it does not stand in the way.

use super::{token, Kind, MqttSession, Phase};
use crate::aliases::Alias;
use crate::codec::{put_acknowledgement, PacketType, PublishFrame, Qos};
use crate::message::{envelope_of_foreign, life, Envelope, Life};
use crate::outgoing::{Awaited, Source, BACKLOG_IDENTIFIERS};
use bytes::Bytes;
use koine_base::StreamId;
use koine_broker::message::{from_record, Annotation, Content, Origin};
use koine_broker::session::{
    Attach, ConsumerId, Context, Delivery, Meter, Request, LATENCY_BUCKETS,
};

/// The payload of a record without a body.
static EMPTY: Bytes = Bytes::new();

/// How one message goes to this client.
pub(crate) struct Sending<'a> {
    pub qos: Qos,
    pub retain: bool,
    pub duplicate: bool,
    pub packet_identifier: u16,
    pub identifiers: &'a [u32],
}

impl<'a> Sending<'a> {
    pub(crate) fn at_most_once(retain: bool, identifiers: &'a [u32]) -> Sending<'a> {
        Sending {
            qos: Qos::AtMostOnce,
            retain,
            duplicate: false,
            packet_identifier: 0,
            identifiers,
        }
    }
}

/// What a delivery's subscription says about it.
struct Grant {
    qos: Qos,
    retain: bool,
    identifiers: Vec<u32>,
}

fn qos_of(number: u8) -> Qos {
    match number {
        0 => Qos::AtMostOnce,
        1 => Qos::AtLeastOnce,
        _ => Qos::ExactlyOnce,
    }
}

impl MqttSession {
    /// Attaches to a stream without credit; it is given once the engine has answered.
    pub(crate) fn attach(&mut self, stream: StreamId, source: Source, ctx: &mut Context<'_>) {
        let offset_span_max = match source {
            Source::Backlog => BACKLOG_IDENTIFIERS,
            Source::Shared { .. } => u64::MAX,
        };
        let consumer = self.outgoing.add(stream, source);
        ctx.out.request(Request::Attach {
            token: token(Kind::Attach, consumer),
            attach: Attach {
                stream,
                consumer,
                credit: 0,
                auto_settle: false,
                exclusive: false,
                priority: 0,
                offset_span_max,
            },
        });
    }

    /// The session's backlog, once it has one.
    pub(crate) fn attach_backlog(&mut self, ctx: &mut Context<'_>) {
        let Some(session) = self.client.session.and_then(|id| ctx.metadata.session(id)) else {
            return;
        };
        if let (Some(stream), false) = (session.backlog(), self.outgoing.has_backlog()) {
            self.attach(stream, Source::Backlog, ctx);
        }
    }

    pub(super) fn on_attached(&mut self, id: ConsumerId, half: &[u64], ctx: &mut Context<'_>) {
        let Some(consumer) = self.outgoing.consumer(id) else { return };
        let stream = consumer.stream;
        // Half-settled offsets of a shared stream belong to no one in particular.
        let half = if consumer.source == Source::Backlog { half } else { &[] };
        let Some(credit) = self.outgoing.attached(id, half) else { return };
        for packet_identifier in self.outgoing.awaiting_pubcomp(id) {
            put_acknowledgement(ctx.out.wire.tail(), PacketType::Pubrel, packet_identifier);
        }
        if credit > 0 {
            ctx.out.request(Request::Credit { stream, consumer: id, add: credit });
        }
    }

    pub(super) fn on_deliveries(
        &mut self,
        consumer: ConsumerId,
        deliveries: Vec<Delivery>,
        ctx: &mut Context<'_>,
    ) {
        self.outgoing.touch();
        for delivery in deliveries {
            if self.outgoing.has_waiting() || !self.outgoing.has_room() {
                self.outgoing.wait(consumer, delivery);
            } else {
                self.deliver(consumer, &delivery, ctx);
            }
        }
    }

    pub(super) fn send_waiting(&mut self, ctx: &mut Context<'_>) {
        while let Some((consumer, delivery)) = self.outgoing.next_waiting() {
            self.deliver(consumer, &delivery, ctx);
        }
    }

    /// Sends a delivery; there is room for it.
    fn deliver(&mut self, consumer: ConsumerId, delivery: &Delivery, ctx: &mut Context<'_>) {
        let offset = delivery.offset;
        if self.outgoing.is_stopped(consumer) {
            // For another member.
            self.outgoing.release(consumer, offset);
            return;
        }
        let (content, annotation) = from_record(&delivery.record);
        let translated = translated(&content, ctx);
        let Some(envelope) = envelope_of(&content, translated.as_deref()) else {
            ctx.meter.dropped_undeliverable += 1;
            self.outgoing.ack(consumer, offset);
            return;
        };
        if self.outgoing.is_backlog(consumer) && !self.may_receive(envelope.topic, ctx) {
            ctx.meter.refused += 1;
            self.outgoing.ack(consumer, offset);
            return;
        }
        let grant = match annotation {
            Some(annotation) => Grant {
                qos: qos_of(annotation.qos),
                retain: annotation.retain,
                identifiers: annotation.identifiers,
            },
            None => self.grant_of_shared(consumer, &envelope, ctx),
        };
        if grant.qos == Qos::AtMostOnce {
            let sending = Sending::at_most_once(grant.retain, &grant.identifiers);
            self.send(&content, &envelope, &sending, ctx);
            self.outgoing.ack(consumer, offset);
            return;
        }
        let packet_identifier = self.outgoing.identifier(consumer, offset);
        let sending = Sending {
            qos: grant.qos,
            retain: grant.retain,
            // DUP tells this client that it may have seen the packet; what another member of a
            // shared subscription was sent is no concern of its.
            duplicate: delivery.redelivered && self.outgoing.is_backlog(consumer),
            packet_identifier,
            identifiers: &grant.identifiers,
        };
        if delivery.redelivered {
            ctx.meter.redelivered += 1;
        }
        if !self.send(&content, &envelope, &sending, ctx) {
            self.outgoing.unused(packet_identifier);
            self.outgoing.ack(consumer, offset);
            return;
        }
        let awaited = match grant.qos {
            Qos::ExactlyOnce => Awaited::Pubrec,
            _ => Awaited::Puback,
        };
        self.outgoing.sent(consumer, offset, packet_identifier, awaited);
    }

    /// A shared stream holds one copy for all members: what this one asked for is looked up.
    fn grant_of_shared(
        &self,
        consumer: ConsumerId,
        envelope: &Envelope<'_>,
        ctx: &Context<'_>,
    ) -> Grant {
        let mut grant = Grant { qos: envelope.qos, retain: false, identifiers: Vec::new() };
        let session = self.client.session.and_then(|id| ctx.metadata.session(id));
        let source = self.outgoing.consumer(consumer).map(|consumer| &consumer.source);
        if let (Some(session), Some(Source::Shared { topic_filter })) = (session, source) {
            if let Some(options) = session.subscriptions.get(topic_filter) {
                grant.qos = envelope.qos.min(qos_of(options.qos_max));
                grant.retain = options.retain_as_published && envelope.retain;
                grant.identifiers.extend(options.identifier);
            }
        }
        grant
    }

    /// A volatile delivery. Dropped if the client does not keep up.
    pub(super) fn on_live(
        &mut self,
        content: &Content,
        annotation: &Annotation,
        ctx: &mut Context<'_>,
    ) {
        if self.phase != Phase::Connected {
            return;
        }
        if self.output_bytes(ctx) >= ctx.limits.output_bytes_max {
            ctx.meter.dropped_slow += 1;
            return;
        }
        self.send_live(content, annotation.retain, &annotation.identifiers, ctx);
    }

    /// Sends at QoS 0.
    pub(crate) fn send_live(
        &mut self,
        content: &Content,
        retain: bool,
        identifiers: &[u32],
        ctx: &mut Context<'_>,
    ) {
        let translated = translated(content, ctx);
        match envelope_of(content, translated.as_deref()) {
            // It was on its way when a filter was revoked.
            Some(envelope)
                if !self.revoked.is_empty() && !self.may_receive(envelope.topic, ctx) =>
            {
                ctx.meter.refused += 1;
            }
            Some(envelope) => {
                let sending = Sending::at_most_once(retain, identifiers);
                self.send(content, &envelope, &sending, ctx);
            }
            None => ctx.meter.dropped_undeliverable += 1,
        }
    }

    /// Encodes one PUBLISH. False if the client will never get it: it has expired or is over the
    /// client's maximum packet size (MQTT 5 §3.1.2.11.4).
    fn send(
        &mut self,
        content: &Content,
        envelope: &Envelope<'_>,
        sending: &Sending<'_>,
        ctx: &mut Context<'_>,
    ) -> bool {
        let message_expiry_interval =
            match life(envelope.message_expiry_interval, content.timestamp, ctx.now.wall) {
                Life::Over => return false,
                Life::Unlimited => None,
                Life::Left(seconds) => Some(seconds),
            };
        let payload = content.body.as_ref().unwrap_or(&EMPTY);
        let alias = self.aliases_out.choose(envelope.topic);
        let frame = PublishFrame {
            version: self.version(),
            topic: if matches!(alias, Alias::Known(_)) { &[] } else { envelope.topic },
            qos: sending.qos,
            retain: sending.retain,
            duplicate: sending.duplicate,
            packet_identifier: sending.packet_identifier,
            properties: envelope.properties,
            message_expiry_interval,
            topic_alias: match alias {
                Alias::None => None,
                Alias::New(alias) | Alias::Known(alias) => Some(alias),
            },
            subscription_identifiers: sending.identifiers,
            payload,
        };
        match frame.packet_size() {
            Some(size) if size <= self.client.packet_bytes_max as usize => {}
            _ => {
                ctx.meter.dropped_undeliverable += 1;
                return false;
            }
        }
        frame.encode(&mut ctx.out.wire);
        if let Alias::New(alias) = alias {
            self.aliases_out.bind(envelope.topic, alias);
        }
        ctx.meter.messages_out += 1;
        ctx.meter.message_bytes_out += payload.len() as u64;
        let waited_ms = ctx.now.wall.0.saturating_sub(content.timestamp.0);
        note_latency(ctx.meter, content.origin, waited_ms);
        true
    }
}

/// The envelope of what another protocol wrote, as MQTT reads it.
fn translated(content: &Content, ctx: &Context<'_>) -> Option<Bytes> {
    match content.origin {
        Origin::Mqtt => None,
        _ => envelope_of_foreign(&ctx.dialects.message(content)),
    }
}

/// `None` if the content has no address that MQTT can spell.
fn envelope_of<'a>(content: &'a Content, translated: Option<&'a [u8]>) -> Option<Envelope<'a>> {
    match content.origin {
        Origin::Mqtt => Envelope::parse(&content.envelope),
        _ => Envelope::parse(translated?),
    }
}

fn note_latency(meter: &mut Meter, origin: Origin, waited_ms: i64) {
    let micros = u64::try_from(waited_ms).unwrap_or(0).saturating_mul(1000);
    let bits = (u64::BITS - micros.leading_zeros()) as usize;
    let origin = usize::from(origin.number());
    meter.delivery_latency[origin][bits.min(LATENCY_BUCKETS - 1)] += 1;
    let sum = &mut meter.delivery_latency_sum_us[origin];
    *sum = sum.saturating_add(micros);
}
