//! `basic.consume`, `basic.cancel`, `basic.qos`, and the deliveries that follow.
//!
//! A consumer is attached to every stream of what it reads (a queue has one, a topic one per
//! partition) and grants each a number of deliveries. One stream is never granted more than the
//! client's prefetch allows; what its limits over several streams or consumers do not allow yet is
//! held back here.

use super::access::Thing;
use super::arguments;
use super::channel::{Held, Lease};
use super::error::{ReplyCode, Violation};
use super::methods::{
    BasicCancel, BasicCancelOk, BasicConsume, BasicConsumeOk, BasicQos, BasicQosOk, MethodId,
};
use super::output::{put_deliver, Delivery as Delivered};
use super::session::AmqpSession;
use super::shown::Shown;
use super::waiting::{Answer, RefusedMethod, Then};
use super::wire::ShortString;
use super::{names, text};
use koine_base::StreamId;
use koine_broker::access::Action;
use koine_broker::metadata::Refusal;
use koine_broker::session::{Attach, ConsumerId, Context, Delivery, Request, Settlement};

/// Deliveries granted at a time to a consumer that settles none: so many that they never run out
/// before more are granted. How many bytes are on their way is for the broker to bound.
const GRANTED_MAX: u32 = 1 << 20;

#[derive(Debug)]
pub(super) struct Consumer {
    pub channel: u16,
    tag: ShortString,
    queue: String,
    /// Deliveries count as settled when sent.
    no_ack: bool,
    /// Unsettled deliveries allowed.
    limit: u32,
    /// Delivered to the client and not settled.
    pub unacked: u32,
    /// Delivered by the broker and held back.
    held: u32,
    parts: Vec<Part>,
    /// consume-ok is sent.
    started: bool,
    /// Cancelled; kept until what the client has of it is settled.
    pub stopped: bool,
}

#[derive(Debug)]
struct Part {
    stream: StreamId,
    /// Deliveries the broker may still make.
    granted: u32,
}

impl Consumer {
    pub(super) fn streams(&self) -> impl Iterator<Item = StreamId> + '_ {
        self.parts.iter().map(|part| part.stream)
    }

    pub(super) fn queue(&self) -> &str {
        &self.queue
    }

    /// consume-ok is sent, and it was not cancelled.
    pub(super) fn is_running(&self) -> bool {
        self.started && !self.stopped
    }

    /// How many deliveries each stream should have granted. `shared`: the channel's limit for all its
    /// consumers, so that no more is held back here than could be delivered.
    fn share(&self, shared: u16) -> u32 {
        if self.no_ack {
            return GRANTED_MAX;
        }
        let limit = if shared == 0 { self.limit } else { self.limit.min(shared.into()) };
        let free = limit.saturating_sub(self.unacked + self.held);
        if free == 0 {
            return 0;
        }
        let parts = u32::try_from(self.parts.len()).unwrap_or(u32::MAX).max(1);
        (free / parts).max(1)
    }
}

impl AmqpSession {
    pub(super) fn basic_qos(
        &mut self,
        number: u16,
        qos: &BasicQos,
        ctx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        if qos.prefetch_size != 0 {
            let explanation = format!("prefetch_size!=0 ({})", qos.prefetch_size);
            return Err(Violation::new(ReplyCode::NotImplemented, &explanation, BasicQos::ID));
        }
        if let Some(channel) = self.channel(number) {
            if qos.global {
                channel.prefetch_shared = qos.prefetch_count;
            } else {
                // RabbitMQ: the consumers' own limits replace the shared one.
                channel.prefetch = qos.prefetch_count;
                channel.prefetch_shared = 0;
            }
        }
        self.reply(number, BasicQosOk {}, ctx);
        self.deliver_held(number, ctx);
        Ok(())
    }

    pub(super) fn basic_consume(
        &mut self,
        number: u16,
        consume: &BasicConsume,
        ctx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        const ID: MethodId = BasicConsume::ID;
        let not_allowed =
            |explanation: &str| Violation::new(ReplyCode::NotAllowed, explanation, ID);
        let tag = consume.consumer_tag.as_str();
        let Some(channel) = self.channel(number) else {
            return Ok(());
        };
        if channel.tags.contains_key(tag) {
            let explanation = format!("attempt to reuse consumer tag '{tag}'");
            return Err(not_allowed(&explanation));
        }
        if channel.tags.len() >= ctx.limits.consumers_per_channel_max {
            let limit = ctx.limits.consumers_per_channel_max;
            return Err(not_allowed(&format!(
                "reached maximum ({limit}) of consumers per channel"
            )));
        }
        let limit = match channel.prefetch {
            0 => ctx.limits.unacked_max,
            prefetch => u32::from(prefetch),
        };
        let queue = self.queue_name(number, &consume.queue, ID)?;
        let streams = self.queue_streams(Action::Read, &queue, ID, ctx)?;
        let what = text::queue(&queue, &self.vhost);
        arguments::CONSUMER.check(&consume.arguments, &what, ID)?;
        let tag = match tag {
            "" => names::generated("amq.ctag-", ctx.secret_rng),
            given => given.to_owned(),
        };
        self.next_consumer += 1;
        let id = self.next_consumer;
        let tokens: Vec<_> = streams.iter().map(|_| self.token()).collect();
        let requests = streams.iter().zip(&tokens).map(|(stream, token)| Request::Attach {
            token: *token,
            attach: Attach {
                stream: *stream,
                consumer: id,
                // Granted once consume-ok is on its way.
                credit: 0,
                auto_settle: consume.no_ack,
                exclusive: consume.exclusive,
                priority: arguments::consumer_priority(&consume.arguments),
                offset_span_max: u64::MAX,
            },
        });
        let requests = requests.collect();
        let consumer = Consumer {
            channel: number,
            tag: ShortString::truncated(&tag),
            queue: queue.clone(),
            no_ack: consume.no_ack,
            limit,
            unacked: 0,
            held: 0,
            parts: streams.iter().map(|stream| Part { stream: *stream, granted: 0 }).collect(),
            started: false,
            stopped: false,
        };
        self.consumers.insert(id, consumer);
        if let Some(channel) = self.channel(number) {
            channel.tags.insert(tag, id);
        }
        let then = Then::Consumed { consumer: id, queue, no_wait: consume.no_wait };
        self.wait(number, then, requests, tokens, ctx);
        Ok(())
    }

    pub(super) fn consumed(
        &mut self,
        number: u16,
        (id, queue): (ConsumerId, &str),
        no_wait: bool,
        answers: Vec<Result<Answer, Refusal>>,
        ctx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        const ID: MethodId = BasicConsume::ID;
        let what = text::queue(queue, &self.vhost);
        let refusal = answers.into_iter().find_map(Result::err);
        // The right to the queue may have gone while it came, and so may the queue.
        let started = match refusal {
            Some(refusal) => Err(exclusive_use(refusal, &what, ID)),
            None => self.permit(Action::Read, Thing::Queue(queue), ID, ctx),
        };
        if started.is_err() {
            self.end_consumer(id, None, ctx);
            return started;
        }
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return Err(exclusive_use(Refusal::NotFound, &what, ID));
        };
        consumer.started = true;
        let consumer_tag = consumer.tag.clone();
        self.credit_due.push(id);
        self.reply_unless(no_wait, number, BasicConsumeOk { consumer_tag }, ctx);
        Ok(())
    }

    /// Forgets a consumer that the broker may still know in its streams, but for `gone`.
    fn end_consumer(&mut self, id: ConsumerId, gone: Option<StreamId>, ctx: &mut Context<'_>) {
        let Some(consumer) = self.consumers.remove(&id) else {
            return;
        };
        if let Some(channel) = self.channel(consumer.channel) {
            channel.tags.retain(|_, held| *held != id);
            channel.held.retain(|held| held.consumer != id);
        }
        self.settling.flush(ctx.out);
        for stream in consumer.streams().filter(|stream| Some(*stream) != gone) {
            let token = self.token();
            ctx.out.request(Request::Detach { token, stream, consumer: id });
        }
    }

    /// The queue is gone under a consumer.
    pub(super) fn consumer_cancelled(
        &mut self,
        id: ConsumerId,
        stream: StreamId,
        ctx: &mut Context<'_>,
    ) {
        self.take_away(id, Some(stream), ctx);
    }

    /// Its user may no longer read the queue: it gets nothing more, and what it has goes back.
    pub(super) fn revoke_consumer(&mut self, id: ConsumerId, ctx: &mut Context<'_>) {
        self.take_away(id, None, ctx);
    }

    fn take_away(&mut self, id: ConsumerId, gone: Option<StreamId>, ctx: &mut Context<'_>) {
        let Some(consumer) = self.consumers.get(&id) else {
            return;
        };
        let (number, consumer_tag) = (consumer.channel, consumer.tag.clone());
        let notify = self.wants_cancel_notify && consumer.is_running();
        self.end_consumer(id, gone, ctx);
        if notify {
            self.reply(number, BasicCancel { consumer_tag, no_wait: true }, ctx);
        }
    }

    pub(super) fn basic_cancel(
        &mut self,
        number: u16,
        cancel: &BasicCancel,
        ctx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        let Some(channel) = self.channel(number) else {
            return Ok(());
        };
        let Some(id) = channel.tags.remove(cancel.consumer_tag.as_str()) else {
            // As the specification says: not an error.
            let reply = BasicCancelOk { consumer_tag: cancel.consumer_tag.clone() };
            self.reply_unless(cancel.no_wait, number, reply, ctx);
            return Ok(());
        };
        let streams: Vec<StreamId> =
            self.consumers.get(&id).into_iter().flat_map(Consumer::streams).collect();
        let tokens: Vec<_> = streams.iter().map(|_| self.token()).collect();
        let requests = streams.iter().zip(&tokens);
        let requests = requests
            .map(|(stream, token)| Request::Stop { token: *token, stream: *stream, consumer: id })
            .collect();
        let consumer_tag = cancel.consumer_tag.detached();
        let then = Then::Cancelled { consumer: id, consumer_tag, no_wait: cancel.no_wait };
        self.wait(number, then, requests, tokens, ctx);
        Ok(())
    }

    /// The broker gives the consumer nothing more. What the client has may still be settled.
    pub(super) fn cancelled(&mut self, number: u16, id: ConsumerId, ctx: &mut Context<'_>) {
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return;
        };
        consumer.stopped = true;
        consumer.held = 0;
        let unacked = consumer.unacked;
        let settling = &mut self.settling;
        if let Some(Some(channel)) = self.channels.get_mut(usize::from(number)) {
            channel.held.retain(|held| {
                if held.consumer == id {
                    let offset = held.delivery.offset;
                    settling.add(held.stream, id, Settlement::Release, offset);
                }
                held.consumer != id
            });
        }
        if unacked == 0 {
            self.end_consumer(id, None, ctx);
        }
    }

    pub(super) fn deliveries(
        &mut self,
        id: ConsumerId,
        stream: StreamId,
        deliveries: Vec<Delivery>,
        ctx: &mut Context<'_>,
    ) {
        let Some(consumer) = self.consumers.get_mut(&id) else {
            // It is gone, and what was on its way to it goes back with it.
            return;
        };
        let count = u32::try_from(deliveries.len()).unwrap_or(u32::MAX);
        if let Some(part) = consumer.parts.iter_mut().find(|part| part.stream == stream) {
            part.granted = part.granted.saturating_sub(count);
        }
        self.credit_due.push(id);
        for delivery in deliveries {
            self.deliver(Held { consumer: id, stream, delivery }, ctx);
        }
    }

    /// Sends one delivery to the client, or holds it back until the client's limits allow it.
    fn deliver(&mut self, held: Held, ctx: &mut Context<'_>) {
        let Some(consumer) = self.consumers.get_mut(&held.consumer) else {
            return;
        };
        let Some(Some(channel)) = self.channels.get_mut(usize::from(consumer.channel)) else {
            return;
        };
        // Behind what is held already, to keep the order.
        let shared = u32::from(channel.prefetch_shared);
        let shared_is_used_up = shared != 0 && channel.consumer_unacked >= shared;
        let is_full = consumer.unacked >= consumer.limit || shared_is_used_up;
        if !consumer.no_ack && (is_full || consumer.held > 0) {
            consumer.held += 1;
            channel.held.push_back(held);
            return;
        }
        self.send(held, ctx);
    }

    fn send(&mut self, held: Held, ctx: &mut Context<'_>) {
        let Held { consumer: id, stream, delivery } = held;
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return;
        };
        let number = consumer.channel;
        let Some(Some(channel)) = self.channels.get_mut(usize::from(number)) else {
            return;
        };
        let shown = Shown::new(&delivery, &consumer.queue, ctx.dialects);
        if shown.is_expired(ctx.now.wall) {
            if !consumer.no_ack {
                self.settling.add(stream, id, Settlement::Discard, delivery.offset);
            }
            return;
        }
        let delivery_tag = if consumer.no_ack {
            channel.unacked.tag()
        } else {
            consumer.unacked += 1;
            channel.consumer_unacked += 1;
            channel.unacked.add(Lease { stream, offset: delivery.offset, consumer: id })
        };
        let envelope = shown.envelope();
        let delivered = Delivered {
            consumer_tag: consumer.tag.as_bytes(),
            delivery_tag,
            redelivered: delivery.redelivered,
            exchange: envelope.exchange,
            routing_key: envelope.routing_key,
        };
        put_deliver(&mut ctx.out.wire, number, delivered, shown.content(self.frame_max));
        shown.count(delivery.redelivered, ctx.now.wall, ctx.meter);
    }

    /// Sends what the channel's limits allow by now.
    pub(super) fn deliver_held(&mut self, number: u16, ctx: &mut Context<'_>) {
        let mut index = 0;
        while let Some(Some(channel)) = self.channels.get_mut(usize::from(number)) {
            let shared = u32::from(channel.prefetch_shared);
            if shared != 0 && channel.consumer_unacked >= shared {
                return;
            }
            let Some(held) = channel.held.get(index) else {
                return;
            };
            let consumer = self.consumers.get_mut(&held.consumer);
            match consumer {
                Some(consumer) if consumer.unacked >= consumer.limit => index += 1,
                consumer => {
                    if let Some(consumer) = consumer {
                        consumer.held = consumer.held.saturating_sub(1);
                    }
                    if let Some(held) = channel.held.remove(index) {
                        self.credit_due.push(held.consumer);
                        self.send(held, ctx);
                    }
                }
            }
        }
    }

    /// Lets the broker go on where the client has settled or taken enough.
    pub(super) fn grant_credit(&mut self, ctx: &mut Context<'_>) {
        let mut due = std::mem::take(&mut self.credit_due);
        for id in due.drain(..) {
            let Some(consumer) = self.consumers.get_mut(&id) else {
                continue;
            };
            if !consumer.is_running() {
                continue;
            }
            let channel = self.channels.get(usize::from(consumer.channel));
            let shared = channel.and_then(Option::as_ref).map_or(0, |c| c.prefetch_shared);
            let share = consumer.share(shared);
            for part in &mut consumer.parts {
                let missing = share.saturating_sub(part.granted);
                // Not for every single one, but never let a stream stand still.
                if missing == 0 || (part.granted > 0 && missing < share / 4) {
                    continue;
                }
                part.granted += missing;
                let (stream, add) = (part.stream, missing);
                ctx.out.request(Request::Credit { stream, consumer: id, add });
            }
        }
        self.credit_due = due;
    }

    /// The client has settled what a consumer had delivered. Of one that was taken away nothing is left
    /// to settle: it has gone back already.
    pub(super) fn consumer_settled(
        &mut self,
        lease: Lease,
        settlement: Settlement,
        ctx: &mut Context<'_>,
    ) {
        let id = lease.consumer;
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return;
        };
        self.settling.add(lease.stream, id, settlement, lease.offset);
        consumer.unacked = consumer.unacked.saturating_sub(1);
        if consumer.stopped && consumer.unacked == 0 {
            self.end_consumer(id, None, ctx);
        } else if self.credit_due.last() != Some(&id) {
            self.credit_due.push(id);
        }
    }
}

/// The refusal of a consumer or get; where others consume alone RabbitMQ says 403.
pub(super) fn exclusive_use(refusal: Refusal, what: &str, method: MethodId) -> Violation {
    if refusal == Refusal::Exclusive {
        let explanation = format!("{what} in exclusive use");
        return Violation::new(ReplyCode::AccessRefused, &explanation, method);
    }
    RefusedMethod(method).violation(refusal, what)
}
