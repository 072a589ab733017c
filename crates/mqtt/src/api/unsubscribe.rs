//! UNSUBSCRIBE (MQTT 5 §3.10).

use crate::codec::{Packet, Properties, Unsuback, Unsubscribe};
use crate::error::{subscribe_refused, End, ReasonCode};
use crate::session::{token, Blocked, Kind, MqttSession};
use crate::topic::TopicFilter;
use koine_broker::metadata::{Command, Outcome, Refusal};
use koine_broker::session::{Context, Request};

/// An UNSUBSCRIBE that is with the engine.
#[derive(Debug)]
pub(crate) struct UnsubscribePending {
    packet_identifier: u16,
    /// One per filter of the packet.
    reasons: Vec<ReasonCode>,
    /// The filters that were proposed, in order, each with its index in `reasons`.
    proposed: Vec<(usize, String)>,
}

impl MqttSession {
    pub(crate) fn on_unsubscribe(
        &mut self,
        unsubscribe: &Unsubscribe,
        ctx: &mut Context<'_>,
    ) -> Result<(), End> {
        let mut pending = UnsubscribePending {
            packet_identifier: unsubscribe.packet_identifier,
            reasons: Vec::with_capacity(unsubscribe.topic_filters.len()),
            proposed: Vec::new(),
        };
        for (index, topic_filter) in unsubscribe.topic_filters.iter().enumerate() {
            match TopicFilter::parse(topic_filter) {
                Ok(_) => {
                    pending.reasons.push(ReasonCode::Success);
                    pending.proposed.push((index, topic_filter.clone()));
                }
                Err(violation) if !self.version().is_v5() => return Err(violation.into()),
                Err(_) => pending.reasons.push(ReasonCode::TopicFilterInvalid),
            }
        }
        let Some(session) = self.client.session.filter(|_| !pending.proposed.is_empty()) else {
            self.send_unsuback(pending, ctx);
            return Ok(());
        };
        let filters = pending.proposed.iter().map(|(_, filter)| filter.clone()).collect();
        self.blocked = Some(Blocked::Unsubscribe(pending));
        let command = Command::Unsubscribe { session, filters };
        ctx.out.request(Request::Propose { token: token(Kind::Unsubscribe, 0), command });
        Ok(())
    }

    fn send_unsuback(&mut self, pending: UnsubscribePending, ctx: &mut Context<'_>) {
        let unsuback = Unsuback {
            packet_identifier: pending.packet_identifier,
            properties: Properties::default(),
            reasons: pending.reasons,
        };
        self.encode(&Packet::Unsuback(unsuback), ctx);
    }

    pub(crate) fn on_unsubscribed(
        &mut self,
        result: Result<Outcome, Refusal>,
        ctx: &mut Context<'_>,
    ) {
        let Some(Blocked::Unsubscribe(mut pending)) = self.blocked.take() else { return };
        match result {
            Ok(Outcome::Unsubscribed { existed }) => {
                for ((index, topic_filter), existed) in pending.proposed.iter().zip(existed) {
                    if !existed {
                        pending.reasons[*index] = ReasonCode::NoSubscriptionExisted;
                    }
                    self.leave_shared(topic_filter, ctx);
                }
            }
            other => {
                ctx.meter.request_errors += 1;
                let reason = match other {
                    Err(refusal) => subscribe_refused(refusal),
                    Ok(_) => ReasonCode::UnspecifiedError,
                };
                for (index, _) in &pending.proposed {
                    pending.reasons[*index] = reason;
                }
            }
        }
        self.send_unsuback(pending, ctx);
    }

    /// Deliveries under way may still be acknowledged; what was not sent goes to other members.
    pub(crate) fn leave_shared(&mut self, topic_filter: &str, ctx: &mut Context<'_>) {
        let Some(consumer) = self.outgoing.shared_consumer(topic_filter) else { return };
        if let Some(stream) = self.outgoing.stop(consumer) {
            ctx.out.request(Request::Stop { token: token(Kind::Stop, consumer), stream, consumer });
        }
    }
}
