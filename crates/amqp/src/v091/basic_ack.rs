//! `basic.ack`, `basic.nack`, `basic.reject`, `basic.recover`: what becomes of deliveries.

use super::error::{ReplyCode, Violation};
use super::methods::{
    BasicAck, BasicNack, BasicRecover, BasicRecoverAsync, BasicRecoverOk, BasicReject, MethodId,
};
use super::session::AmqpSession;
use koine_broker::session::{Context, Settlement};

impl AmqpSession {
    pub(super) fn basic_ack(
        &mut self,
        number: u16,
        ack: &BasicAck,
        ctx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        self.settle(number, (ack.delivery_tag, ack.multiple), Settlement::Ack, BasicAck::ID, ctx)
    }

    pub(super) fn basic_nack(
        &mut self,
        number: u16,
        nack: &BasicNack,
        ctx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        let tags = (nack.delivery_tag, nack.multiple);
        self.settle(number, tags, rejected(nack.requeue), BasicNack::ID, ctx)
    }

    pub(super) fn basic_reject(
        &mut self,
        number: u16,
        reject: &BasicReject,
        ctx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        let tags = (reject.delivery_tag, false);
        self.settle(number, tags, rejected(reject.requeue), BasicReject::ID, ctx)
    }

    fn settle(
        &mut self,
        number: u16,
        (tag, multiple): (u64, bool),
        settlement: Settlement,
        method: MethodId,
        ctx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        let mut leases = std::mem::take(&mut self.settled);
        let Some(channel) = self.channel(number) else {
            return Ok(());
        };
        let puller = channel.puller;
        channel.unacked.settle(tag, multiple, |lease| leases.push(lease)).map_err(|_| {
            let explanation = format!("unknown delivery tag {tag}");
            Violation::new(ReplyCode::PreconditionFailed, &explanation, method)
        })?;
        if settlement == Settlement::Ack {
            ctx.meter.acked += leases.len() as u64;
        }
        let from_consumers = leases.iter().filter(|lease| lease.consumer != puller).count();
        let from_consumers = u32::try_from(from_consumers).unwrap_or(u32::MAX);
        channel.consumer_unacked = channel.consumer_unacked.saturating_sub(from_consumers);
        for lease in leases.drain(..) {
            if lease.consumer == puller {
                self.settling.add(lease.stream, puller, settlement, lease.offset);
            } else {
                self.consumer_settled(lease, settlement, ctx);
            }
        }
        self.settled = leases;
        self.deliver_held(number, ctx);
        Ok(())
    }

    pub(super) fn basic_recover(
        &mut self,
        number: u16,
        recover: &BasicRecover,
        ctx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        self.recover(number, recover.requeue, BasicRecover::ID, ctx)?;
        self.reply(number, BasicRecoverOk {}, ctx);
        Ok(())
    }

    pub(super) fn basic_recover_async(
        &mut self,
        number: u16,
        recover: &BasicRecoverAsync,
        ctx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        self.recover(number, recover.requeue, BasicRecoverAsync::ID, ctx)
    }

    fn recover(
        &mut self,
        number: u16,
        requeue: bool,
        method: MethodId,
        ctx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        if !requeue {
            return Err(Violation::new(ReplyCode::NotImplemented, "requeue=false", method));
        }
        self.settle(number, (0, true), Settlement::Release, method, ctx)
    }
}

fn rejected(requeue: bool) -> Settlement {
    if requeue {
        return Settlement::Release;
    }
    Settlement::Discard
}
