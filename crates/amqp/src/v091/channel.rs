//! Class channel: what a channel holds, opening and closing it, and the way of a method to the file
//! that carries it out.

use super::confirms::Confirms;
use super::content::BodyAssembly;
use super::error::{ReplyCode, Violation};
use super::methods::{
    AccessRequestOk, BasicPublish, ChannelClose, ChannelCloseOk, ChannelFlow, ChannelFlowOk,
    ChannelOpen, ChannelOpenOk, ConfirmSelect, ConfirmSelectOk, Method, TxCommit, TxSelect,
};
use super::session::AmqpSession;
use super::unacked::Unacked;
use super::waiting::Then;
use bytes::Bytes;
use koine_base::StreamId;
use koine_broker::session::{ConsumerId, Context, Delivery, Request, Token};
use std::collections::{BTreeMap, VecDeque};

/// A delivery that the client must settle.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    pub stream: StreamId,
    pub offset: u64,
    /// Whom the broker has it for: a consumer, or the channel's [`Channel::puller`].
    pub consumer: ConsumerId,
}

/// A delivery that the client's limits do not allow yet. The broker holds it for the consumer.
#[derive(Debug)]
pub(super) struct Held {
    pub consumer: ConsumerId,
    pub stream: StreamId,
    pub delivery: Delivery,
}

#[derive(Debug)]
pub(super) struct Channel {
    pub incarnation: u32,
    /// We have said close; everything but the answer is ignored.
    pub closing: bool,
    pub incoming: Incoming,
    /// The empty queue name means this one.
    pub last_queue: String,
    /// Limit of consumers to come (0: none), see `basic.qos`.
    pub prefetch: u16,
    /// Limit of all consumers together (0: none).
    pub prefetch_shared: u16,
    pub confirms: Option<Confirms>,
    pub unacked: Unacked<Lease>,
    /// How many of `unacked` came from consumers rather than `basic.get`.
    pub consumer_unacked: u32,
    /// By consumer tag.
    pub tags: BTreeMap<String, ConsumerId>,
    /// Holds what `basic.get` has taken, and the streams it has taken from.
    pub puller: ConsumerId,
    pub pulled: Vec<StreamId>,
    pub held: VecDeque<Held>,
}

/// A publish on its way in: method, then header, then body (0-9-1 section 4.2.6).
#[derive(Debug, Default)]
pub(super) enum Incoming {
    #[default]
    Idle,
    Method(BasicPublish),
    Header {
        publish: BasicPublish,
        properties: Bytes,
        body: BodyAssembly,
    },
}

impl Incoming {
    pub(super) fn is_idle(&self) -> bool {
        matches!(self, Incoming::Idle)
    }

    /// The method to blame for what comes wrong now.
    pub(super) fn method(&self) -> (u16, u16) {
        if self.is_idle() {
            return (0, 0);
        }
        BasicPublish::ID
    }

    /// 505 in the words for what was expected instead.
    pub(super) fn unexpected(&self) -> Violation {
        let explanation = match self {
            Incoming::Idle => "expected method frame, got non method frame instead",
            Incoming::Method(_) => {
                "expected content header for class 60, got non content header frame instead"
            }
            Incoming::Header { .. } => "expected content body, got non content body frame instead",
        };
        Violation::new(ReplyCode::UnexpectedFrame, explanation, self.method())
    }

    pub(super) fn take_method(&mut self) -> Result<BasicPublish, Violation> {
        match std::mem::take(self) {
            Incoming::Method(publish) => Ok(publish),
            other => Err(other.unexpected()),
        }
    }

    pub(super) fn expect_body(&mut self, publish: BasicPublish, properties: Bytes, size: u64) {
        *self = Incoming::Header { publish, properties, body: BodyAssembly::new(size) };
    }

    /// Bytes of the body so far.
    pub(super) fn received(&self) -> usize {
        match self {
            Incoming::Header { body, .. } => body.received(),
            Incoming::Idle | Incoming::Method(_) => 0,
        }
    }

    /// Bytes that the body will have.
    pub(super) fn announced(&self) -> usize {
        match self {
            Incoming::Header { body, .. } => body.size(),
            Incoming::Idle | Incoming::Method(_) => 0,
        }
    }

    /// The whole publish if `piece` completes it.
    pub(super) fn add_body(
        &mut self,
        piece: Bytes,
    ) -> Result<Option<(BasicPublish, Bytes, Bytes)>, Violation> {
        let Incoming::Header { body, .. } = self else {
            return Err(self.unexpected());
        };
        body.add(piece).map_err(|_| {
            let explanation = "content body frame exceeds remaining content size";
            Violation::new(ReplyCode::FrameError, explanation, BasicPublish::ID)
        })?;
        if !body.is_complete() {
            return Ok(None);
        }
        match std::mem::take(self) {
            Incoming::Header { publish, properties, body } => {
                Ok(Some((publish, properties, body.finish())))
            }
            Incoming::Idle | Incoming::Method(_) => Ok(None),
        }
    }
}

impl AmqpSession {
    /// The channel, `None` while it is being closed by us. An unopened one is an error of the
    /// connection.
    pub(super) fn open_channel(&mut self, number: u16) -> Result<Option<&mut Channel>, Violation> {
        match self.channels.get_mut(usize::from(number)) {
            Some(Some(channel)) => Ok((!channel.closing).then_some(channel)),
            _ => {
                let explanation = "expected 'channel.open'";
                Err(Violation::new(ReplyCode::ChannelError, explanation, ChannelOpen::ID))
            }
        }
    }

    /// The channel if it is open.
    pub(super) fn channel(&mut self, number: u16) -> Option<&mut Channel> {
        let channel = self.channels.get_mut(usize::from(number))?.as_deref_mut()?;
        (!channel.closing).then_some(channel)
    }

    pub(super) fn channel_method(
        &mut self,
        number: u16,
        method: Method,
        ctx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        let slot = self.channels.get(usize::from(number)).and_then(Option::as_ref);
        match (&method, slot.map(|channel| channel.closing)) {
            (Method::ChannelOpen(_), None) => return self.channel_open(number, ctx),
            (Method::ChannelCloseOk(_), Some(true)) => {
                self.forget_channel(number);
                return Ok(());
            }
            // It crossed a close of the client, which we have answered.
            (Method::ChannelCloseOk(_), None) => return Ok(()),
            (Method::ChannelClose(_), Some(_)) => {
                self.channel_close(number, ctx);
                return Ok(());
            }
            _ => {}
        }
        let Some(channel) = self.open_channel(number)? else {
            return Ok(());
        };
        if !channel.incoming.is_idle() {
            return Err(channel.incoming.unexpected());
        }
        if let Method::BasicPublish(publish) = method {
            // Copies, see `content_header`.
            let publish = BasicPublish {
                exchange: publish.exchange.detached(),
                routing_key: publish.routing_key.detached(),
                ..publish
            };
            channel.incoming = Incoming::Method(publish);
            return Ok(());
        }
        self.open_channel_method(number, method, ctx)
    }

    fn open_channel_method(
        &mut self,
        number: u16,
        method: Method,
        ctx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        match method {
            Method::ChannelOpen(_) => Err(Violation::new(
                ReplyCode::ChannelError,
                "second 'channel.open' seen",
                ChannelOpen::ID,
            )),
            Method::ChannelFlow(flow) => self.channel_flow(number, &flow, ctx),
            // We never ask for it.
            Method::ChannelFlowOk(_) => Ok(()),
            Method::AccessRequest(_) => {
                self.reply(number, AccessRequestOk { ticket: 1 }, ctx);
                Ok(())
            }
            Method::ExchangeDeclare(declare) => self.exchange_declare(number, declare, ctx),
            Method::ExchangeDelete(delete) => self.exchange_delete(number, &delete, ctx),
            Method::ExchangeBind(bind) => self.exchange_bind(number, &bind, ctx),
            Method::ExchangeUnbind(unbind) => self.exchange_unbind(number, &unbind, ctx),
            Method::QueueDeclare(declare) => self.queue_declare(number, &declare, ctx),
            Method::QueueBind(bind) => self.queue_bind(number, &bind, ctx),
            Method::QueueUnbind(unbind) => self.queue_unbind(number, &unbind, ctx),
            Method::QueuePurge(purge) => self.queue_purge(number, &purge, ctx),
            Method::QueueDelete(delete) => self.queue_delete(number, &delete, ctx),
            Method::BasicQos(qos) => self.basic_qos(number, &qos, ctx),
            Method::BasicConsume(consume) => self.basic_consume(number, &consume, ctx),
            Method::BasicCancel(cancel) => self.basic_cancel(number, &cancel, ctx),
            // The answer to a cancel of ours, which waited for none.
            Method::BasicCancelOk(_) => Ok(()),
            Method::BasicGet(get) => self.basic_get(number, &get, ctx),
            Method::BasicAck(ack) => self.basic_ack(number, &ack, ctx),
            Method::BasicNack(nack) => self.basic_nack(number, &nack, ctx),
            Method::BasicReject(reject) => self.basic_reject(number, &reject, ctx),
            Method::BasicRecover(recover) => self.basic_recover(number, &recover, ctx),
            Method::BasicRecoverAsync(recover) => self.basic_recover_async(number, &recover, ctx),
            Method::ConfirmSelect(select) => self.confirm_select(number, &select, ctx),
            Method::TxSelect(_) => Err(Violation::new(
                ReplyCode::NotImplemented,
                "transactions are not supported",
                TxSelect::ID,
            )),
            Method::TxCommit(_) | Method::TxRollback(_) => Err(Violation::new(
                ReplyCode::PreconditionFailed,
                "channel is not transactional",
                TxCommit::ID,
            )),
            other => {
                Err(Violation::new(ReplyCode::CommandInvalid, "unimplemented method", other.id()))
            }
        }
    }

    fn channel_open(&mut self, number: u16, ctx: &mut Context<'_>) -> Result<(), Violation> {
        let full = self.channel_count >= usize::from(self.channel_max);
        if full || number > self.channel_max {
            let explanation = format!(
                "number of channels opened ({}) has reached the negotiated channel_max ({})",
                self.channel_count, self.channel_max
            );
            return Err(Violation::new(ReplyCode::NotAllowed, &explanation, ChannelOpen::ID));
        }
        let user = ctx.metadata.access().user(self.who.name());
        let allowed = user.and_then(|user| user.limits.channels_max);
        if let Some(allowed) = allowed.filter(|max| self.channel_count >= *max as usize) {
            let explanation = format!(
                "number of channels opened for user '{}' has reached the maximum allowed user \
                 limit of {allowed}",
                self.user
            );
            return Err(Violation::new(ReplyCode::NotAllowed, &explanation, ChannelOpen::ID));
        }
        let index = usize::from(number);
        if self.channels.len() <= index {
            self.channels.resize_with(index + 1, || None);
        }
        self.next_incarnation = self.next_incarnation.wrapping_add(1);
        self.next_consumer += 1;
        let channel = Channel {
            incarnation: self.next_incarnation,
            closing: false,
            incoming: Incoming::Idle,
            last_queue: String::new(),
            prefetch: 0,
            prefetch_shared: 0,
            confirms: None,
            unacked: Unacked::default(),
            consumer_unacked: 0,
            tags: BTreeMap::new(),
            puller: self.next_consumer,
            pulled: Vec::new(),
            held: VecDeque::new(),
        };
        self.channels[index] = Some(Box::new(channel));
        self.channel_count += 1;
        self.reply(number, ChannelOpenOk::default(), ctx);
        Ok(())
    }

    fn channel_flow(
        &mut self,
        number: u16,
        flow: &ChannelFlow,
        ctx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        if !flow.active {
            return Err(Violation::new(ReplyCode::NotImplemented, "active=false", ChannelFlow::ID));
        }
        self.reply(number, ChannelFlowOk { active: true }, ctx);
        Ok(())
    }

    fn confirm_select(
        &mut self,
        number: u16,
        select: &ConfirmSelect,
        ctx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        if let Some(channel) = self.channel(number) {
            channel.confirms.get_or_insert_default();
        }
        self.reply_unless(select.no_wait, number, ConfirmSelectOk {}, ctx);
        Ok(())
    }

    /// The client closes: answered once its consumers are gone, so that what it held can be seen by
    /// others then.
    fn channel_close(&mut self, number: u16, ctx: &mut Context<'_>) {
        self.send_confirms(ctx);
        let tokens = self.release_channel(number, ctx);
        if tokens.is_empty() {
            return self.channel_left(number, ctx);
        }
        self.wait(number, Then::ChannelLeft, Vec::new(), tokens, ctx);
    }

    pub(super) fn channel_left(&mut self, number: u16, ctx: &mut Context<'_>) {
        self.forget_channel(number);
        self.reply(number, ChannelCloseOk {}, ctx);
    }

    /// Closes the channel on our side.
    pub(super) fn channel_exception(
        &mut self,
        number: u16,
        violation: Violation,
        ctx: &mut Context<'_>,
    ) {
        // What was published before is still confirmed where it is decided.
        self.send_confirms(ctx);
        self.release_channel(number, ctx);
        if let Some(Some(channel)) = self.channels.get_mut(usize::from(number)) {
            channel.closing = true;
        }
        let (class_id, method_id) = violation.method;
        let close = ChannelClose {
            reply_code: violation.code.number(),
            reply_text: violation.reply_text,
            class_id,
            method_id,
        };
        self.reply(number, close, ctx);
    }

    fn forget_channel(&mut self, number: u16) {
        if let Some(slot) = self.channels.get_mut(usize::from(number)) {
            self.channel_count -= usize::from(slot.take().is_some());
        }
    }

    /// Gives back all that the channel holds and ends its consumers. The tokens of the requests made
    /// for that.
    pub(super) fn release_channel(&mut self, number: u16, ctx: &mut Context<'_>) -> Vec<Token> {
        let Some(Some(channel)) = self.channels.get_mut(usize::from(number)) else {
            return Vec::new();
        };
        self.partial_bytes -= channel.incoming.received();
        self.announced_bytes -= channel.incoming.announced();
        channel.incoming = Incoming::Idle;
        channel.held.clear();
        channel.tags.clear();
        channel.confirms = None;
        channel.consumer_unacked = 0;
        channel.unacked.settle_all(|_| ());
        let mut ended = vec![(channel.puller, std::mem::take(&mut channel.pulled))];
        self.settling.flush(ctx.out);
        self.consumers.retain(|id, consumer| {
            if consumer.channel != number {
                return true;
            }
            ended.push((*id, consumer.streams().collect()));
            false
        });
        ended.sort_unstable();
        let mut tokens = Vec::new();
        for (consumer, streams) in ended {
            for stream in streams {
                let token = self.token();
                ctx.out.request(Request::Detach { token, stream, consumer });
                tokens.push(token);
            }
        }
        tokens
    }

    /// [`Self::release_channel`] for all, which are then gone.
    pub(super) fn drop_channels(&mut self, ctx: &mut Context<'_>) -> Vec<Token> {
        let count = u16::try_from(self.channels.len()).unwrap_or(u16::MAX);
        let tokens = (0..count).flat_map(|number| self.release_channel(number, ctx)).collect();
        self.channels.clear();
        self.channel_count = 0;
        tokens
    }
}
