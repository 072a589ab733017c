//! `basic.get`: one message, if there is one.

use super::access::Thing;
use super::basic_consume::exclusive_use;
use super::channel::Lease;
use super::error::Violation;
use super::methods::{BasicGet, BasicGetEmpty};
use super::output::{put_get_ok, Delivery as Delivered};
use super::session::AmqpSession;
use super::shown::Shown;
use super::text;
use super::waiting::{Answer, Then};
use koine_base::StreamId;
use koine_broker::access::Action;
use koine_broker::metadata::Refusal;
use koine_broker::session::{Context, Delivery, Request, Settlement};

/// A get on its way through the streams of what it reads.
#[derive(Debug)]
pub(super) struct Get {
    queue: String,
    no_ack: bool,
    stream: StreamId,
    /// Still to be asked, the last first.
    others: Vec<StreamId>,
}

impl AmqpSession {
    pub(super) fn basic_get(
        &mut self,
        number: u16,
        get: &BasicGet,
        ctx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        let queue = self.queue_name(number, &get.queue, BasicGet::ID)?;
        let mut others = self.queue_streams(Action::Read, &queue, BasicGet::ID, ctx)?;
        others.reverse();
        let Some(stream) = others.pop() else {
            self.reply(number, BasicGetEmpty::default(), ctx);
            return Ok(());
        };
        self.pull(number, Get { queue, no_ack: get.no_ack, stream, others }, ctx);
        Ok(())
    }

    fn pull(&mut self, number: u16, get: Get, ctx: &mut Context<'_>) {
        let Some(channel) = self.channel(number) else {
            return;
        };
        let (consumer, stream, auto_settle) = (channel.puller, get.stream, get.no_ack);
        if !channel.pulled.contains(&stream) {
            channel.pulled.push(stream);
        }
        let request = |token| Request::Pull { token, stream, consumer, auto_settle };
        self.ask(number, Then::Got(get), request, ctx);
    }

    pub(super) fn got(
        &mut self,
        number: u16,
        mut get: Get,
        answer: Result<Answer, Refusal>,
        ctx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        let answer = answer.map_err(|refusal| {
            let what = text::queue(&get.queue, &self.vhost);
            exclusive_use(refusal, &what, BasicGet::ID)
        })?;
        let is_consumed = get.no_ack && matches!(answer, Answer::Pulled(Some(_)));
        if !is_consumed {
            // The right to it may have gone meanwhile; what was taken goes back with the channel.
            self.permit(Action::Read, Thing::Queue(&get.queue), BasicGet::ID, ctx)?;
        }
        if let Answer::Pulled(Some((delivery, ready_count))) = answer {
            self.pulled(number, get, &delivery, ready_count, ctx);
            return Ok(());
        }
        match get.others.pop() {
            Some(stream) => {
                get.stream = stream;
                self.pull(number, get, ctx);
            }
            None => self.reply(number, BasicGetEmpty::default(), ctx),
        }
        Ok(())
    }

    fn pulled(
        &mut self,
        number: u16,
        get: Get,
        delivery: &Delivery,
        ready_count: u64,
        ctx: &mut Context<'_>,
    ) {
        let frame_max = self.frame_max;
        let Some(channel) = self.channel(number) else {
            return;
        };
        let consumer = channel.puller;
        let shown = Shown::new(delivery, &get.queue, ctx.dialects);
        if shown.is_expired(ctx.now.wall) {
            if !get.no_ack {
                self.settling.add(get.stream, consumer, Settlement::Discard, delivery.offset);
            }
            return self.pull(number, get, ctx);
        }
        let delivery_tag = if get.no_ack {
            channel.unacked.tag()
        } else {
            channel.unacked.add(Lease { stream: get.stream, offset: delivery.offset, consumer })
        };
        let envelope = shown.envelope();
        let delivered = Delivered {
            consumer_tag: b"",
            delivery_tag,
            redelivered: delivery.redelivered,
            exchange: envelope.exchange,
            routing_key: envelope.routing_key,
        };
        let message_count = u32::try_from(ready_count).unwrap_or(u32::MAX);
        let content = shown.content(frame_max);
        put_get_ok(&mut ctx.out.wire, number, delivered, message_count, content);
        shown.count(delivery.redelivered, ctx.now.wall, ctx.meter);
    }
}
