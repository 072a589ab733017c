//! SUBSCRIBE (MQTT 5 §3.8): the valid filters go to metadata as one command; the rest is answered per
//! filter. Packets behind it wait, so that what the client publishes next already reaches it.

use crate::codec::{Packet, Properties, Qos, RetainHandling, Suback, Subscribe, SubscribeEntry};
use crate::error::{subscribe_refused, End, ReasonCode, Violation};
use crate::retained::Wanted;
use crate::session::{token, Blocked, Kind, MqttSession, Phase, NAMESPACE};
use crate::topic::TopicFilter;
use koine_broker::message::Annotation;
use koine_broker::metadata::{Command, Outcome, Refusal, SubscriptionOptions};
use koine_broker::session::{Context, Request, RetainedMessage, RetainedPage, Route};

/// Retained messages that leave in one step: they may become publishes to the session's own backlog,
/// of which a connection may have only so many under way.
const RETAINED_STEP_BYTES: usize = 1 << 20;

/// A SUBSCRIBE that is with the engine.
#[derive(Debug)]
pub(crate) struct SubscribePending {
    packet_identifier: u16,
    /// One per filter of the packet; those that were not proposed are decided.
    reasons: Vec<ReasonCode>,
    /// Those that were, in order, each with its index in `reasons`.
    proposed: Vec<(usize, Proposed)>,
    /// Of the rules it was judged by.
    epoch: u64,
}

#[derive(Debug)]
struct Proposed {
    topic_filter: String,
    shared: bool,
    qos: Qos,
    retain_handling: RetainHandling,
    identifier: Option<u32>,
}

fn granted(qos: Qos) -> ReasonCode {
    match qos {
        Qos::AtMostOnce => ReasonCode::Success,
        Qos::AtLeastOnce => ReasonCode::GrantedQos1,
        Qos::ExactlyOnce => ReasonCode::GrantedQos2,
    }
}

fn stored(entry: &SubscribeEntry, identifier: Option<u32>) -> (String, SubscriptionOptions) {
    let options = SubscriptionOptions {
        qos_max: entry.options.qos as u8,
        no_local: entry.options.no_local,
        retain_as_published: entry.options.retain_as_published,
        retain_handling: entry.options.retain_handling as u8,
        identifier,
    };
    (entry.topic_filter.clone(), options)
}

impl MqttSession {
    pub(crate) fn on_subscribe(
        &mut self,
        subscribe: &Subscribe,
        ctx: &mut Context<'_>,
    ) -> Result<(), End> {
        let identifier = subscribe.subscription_identifier();
        let mut pending = SubscribePending {
            packet_identifier: subscribe.packet_identifier,
            reasons: Vec::with_capacity(subscribe.entries.len()),
            proposed: Vec::new(),
            epoch: ctx.metadata.access().epoch(),
        };
        let mut filters = Vec::new();
        for (index, entry) in subscribe.entries.iter().enumerate() {
            let parsed = match TopicFilter::parse(&entry.topic_filter) {
                Ok(parsed) => parsed,
                // Before version 5 an invalid filter cannot be told apart: the connection ends.
                Err(violation) if !self.version().is_v5() => return Err(violation.into()),
                Err(_) => {
                    pending.reasons.push(ReasonCode::TopicFilterInvalid);
                    continue;
                }
            };
            if parsed.share.is_some() && entry.options.no_local {
                return Err(Violation::SharedNoLocal.into());
            }
            if !self.may_subscribe(&entry.topic_filter, ctx) {
                ctx.meter.refused += 1;
                pending.reasons.push(ReasonCode::NotAuthorized);
                continue;
            }
            pending.reasons.push(granted(entry.options.qos));
            let proposed = Proposed {
                topic_filter: entry.topic_filter.clone(),
                shared: parsed.share.is_some(),
                qos: entry.options.qos,
                retain_handling: entry.options.retain_handling,
                identifier,
            };
            pending.proposed.push((index, proposed));
            filters.push(stored(entry, identifier));
        }
        let Some(session) = self.client.session.filter(|_| !filters.is_empty()) else {
            self.send_suback(pending.packet_identifier, pending.reasons, ctx);
            return Ok(());
        };
        self.blocked = Some(Blocked::Subscribe(pending));
        let command = Command::Subscribe { session, filters };
        ctx.out.request(Request::Propose { token: token(Kind::Subscribe, 0), command });
        Ok(())
    }

    fn send_suback(
        &mut self,
        packet_identifier: u16,
        reasons: Vec<ReasonCode>,
        ctx: &mut Context<'_>,
    ) {
        let properties = Properties::default();
        self.encode(&Packet::Suback(Suback { packet_identifier, properties, reasons }), ctx);
    }

    pub(crate) fn on_subscribed(
        &mut self,
        result: Result<Outcome, Refusal>,
        ctx: &mut Context<'_>,
    ) {
        let Some(Blocked::Subscribe(mut pending)) = self.blocked.take() else { return };
        let new = match result {
            Ok(Outcome::Subscribed { new }) => new,
            other => {
                ctx.meter.request_errors += 1;
                let reason = match other {
                    Err(refusal) => subscribe_refused(refusal),
                    Ok(_) => ReasonCode::UnspecifiedError,
                };
                for (index, _) in &pending.proposed {
                    pending.reasons[*index] = reason;
                }
                return self.send_suback(pending.packet_identifier, pending.reasons, ctx);
            }
        };
        for (_, subscription) in &pending.proposed {
            self.not_revoked(&subscription.topic_filter);
        }
        if pending.epoch != ctx.metadata.access().epoch() {
            self.recheck(ctx);
            for (index, subscription) in &pending.proposed {
                if self.revoked.contains(&subscription.topic_filter) {
                    pending.reasons[*index] = ReasonCode::NotAuthorized;
                }
            }
        }
        if self.phase != Phase::Connected {
            return;
        }
        self.send_suback(pending.packet_identifier, pending.reasons, ctx);
        self.attach_backlog(ctx);
        for ((_, subscription), is_new) in pending.proposed.into_iter().zip(new) {
            if self.revoked.contains(&subscription.topic_filter) {
                continue;
            }
            if subscription.shared {
                // No retained messages for shared subscriptions (§4.8.2).
                self.attach_shared(&subscription.topic_filter, ctx);
                continue;
            }
            let wanted = match subscription.retain_handling {
                RetainHandling::Send => true,
                RetainHandling::SendIfNew => is_new,
                RetainHandling::Never => false,
            };
            if wanted {
                self.want_retained(subscription);
            }
        }
    }

    fn want_retained(&mut self, subscription: Proposed) {
        self.retained.want(Wanted {
            filter: subscription.topic_filter,
            qos: subscription.qos as u8,
            identifier: subscription.identifier,
        });
    }

    pub(crate) fn on_retained(&mut self, page: RetainedPage, ctx: &mut Context<'_>) {
        self.retained.answered(page);
        self.send_retained(ctx);
    }

    /// Retained messages go out with the RETAIN flag: at QoS 0 directly, else through the session's
    /// backlog, where they are acknowledged and survive like any other delivery. Either way no faster
    /// than the client takes them.
    pub(crate) fn send_retained(&mut self, ctx: &mut Context<'_>) {
        let mut room = RETAINED_STEP_BYTES;
        loop {
            if let Some((filter, after)) = self.retained.next_page() {
                let (token, namespace) = (token(Kind::Retained, 0), NAMESPACE);
                ctx.out.request(Request::Retained { token, namespace, filter, after });
            }
            let is_full = self.output_bytes(ctx) >= ctx.limits.output_bytes_max;
            if is_full || room == 0 || !ctx.is_read {
                return;
            }
            let Some((message, granted, identifier)) = self.retained.next_message() else {
                return;
            };
            room = room.saturating_sub(message.content.size());
            self.send_one_retained(message, granted, identifier, ctx);
        }
    }

    fn send_one_retained(
        &mut self,
        message: RetainedMessage,
        granted: u8,
        identifier: Option<u32>,
        ctx: &mut Context<'_>,
    ) {
        if message.expires_at.is_some_and(|expires_at| expires_at <= ctx.now.wall) {
            return;
        }
        if !self.may_receive(message.topic.as_bytes(), ctx) {
            ctx.meter.refused += 1;
            return;
        }
        let session = self.client.session.and_then(|id| ctx.metadata.session(id));
        let backlog = session.and_then(|session| session.backlog());
        let qos = message.qos.min(granted);
        let identifiers: Vec<u32> = identifier.into_iter().collect();
        match backlog {
            Some(backlog) if qos > 0 => {
                let annotation = Annotation { qos, retain: true, identifiers };
                let route = Route { backlogs: vec![(backlog, annotation)], ..Route::default() };
                let content = message.content;
                ctx.out.request(Request::Publish { token: None, content, route, once: None });
            }
            _ => self.send_live(&message.content, true, &identifiers, ctx),
        }
    }
}
