//! One AMQP 0-9-1 connection: the state machine that the server feeds with bytes, events and time.
//! This file takes frames apart by connection and channel, keeps the one operation that the
//! connection waits for, and ends turns; the methods themselves are in the files named after them.
//!
//! A channel's methods are carried out one after the other, and most need an answer of the broker
//! (declare, bind, get ...). While one is open the connection reads no further: what follows may rely
//! on it. Publishes, acks and deliveries never wait.

use super::access::Caller;
use super::alarm::Alarm;
use super::content::{BasicProperties, ContentHeader, WholePublishLayout, CLASS_BASIC};
use super::error::{Malformed, Reach, ReplyCode, Violation};
use super::frame::{self, Frame, FrameHead, FrameType};
use super::heartbeat::Heartbeat;
use super::methods::{BasicCancelOk, BasicPublish, Method, MethodId};
use super::output::{put_method, HEARTBEAT};
use super::publish_window::PublishWindow;
use super::settling::Settling;
use super::waiting::{Answer, Then, Waiting};
use super::wire::ShortString;
use super::{
    basic_consume::Consumer,
    basic_publish::Publishing,
    channel::{Channel, Lease},
};
use bytes::{Bytes, BytesMut};
use koine_base::Moment;
use koine_broker::access::{Grants, Principal};
use koine_broker::limits::Limits;
use koine_broker::metadata::{NamespaceId, Outcome, Refusal};
use koine_broker::session::{ConsumerId, Context, Event, Peer, Protocol, Request, Session, Token};
use std::collections::HashMap;

/// How long a peer has to answer our close, and to read what we said before the socket goes.
const CLOSE_MS_MAX: u64 = 5_000;

/// Unfinished bodies of one connection, in messages of the largest size. Channels can be interleaved,
/// but nobody sends many large bodies so.
const PARTIAL_BODIES_MAX: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// The protocol header has not come.
    Greeting,
    /// Start is sent.
    Starting,
    /// Tune is sent.
    Tuning,
    /// The vhost has not been opened.
    Opening,
    Running,
    /// The client has said close; answered when all is released.
    Leaving,
    /// We have said close; only the answer counts.
    Closing,
    /// Nothing the peer says makes sense any more, or the socket is about to go.
    Deaf,
}

pub struct AmqpSession {
    pub(super) stage: Stage,
    /// As negotiated; before that what is allowed until then.
    pub(super) frame_max: u32,
    pub(super) channel_max: u16,
    pub(super) heartbeat: Heartbeat,
    /// The peer must be logged in, or have closed, by then.
    pub(super) stage_deadline: Moment,
    pub(super) caller: Caller,
    /// As whom it is logged in; nobody before that, and on a node without users.
    pub(super) who: Principal,
    /// Verdicts about `who`.
    pub(super) grants: Grants,
    /// The name to show, also of an account that is no user.
    pub(super) user: String,
    /// The user has as many connections as it may: told when the vhost is opened, as in RabbitMQ.
    pub(super) limit_reached: Option<u32>,
    pub(super) vhost: String,
    pub(super) namespace: NamespaceId,
    /// The client's capabilities that matter here.
    pub(super) wants_cancel_notify: bool,
    pub(super) wants_login_close: bool,
    /// By number; 0 is never used.
    pub(super) channels: Vec<Option<Box<Channel>>>,
    pub(super) channel_count: usize,
    pub(super) next_incarnation: u32,
    pub(super) consumers: HashMap<ConsumerId, Consumer>,
    pub(super) next_consumer: ConsumerId,
    next_token: Token,
    pub(super) waiting: Option<Waiting>,
    pub(super) window: PublishWindow,
    pub(super) publishing: Publishing,
    pub(super) settling: Settling,
    /// Kept empty between settlements for its memory.
    pub(super) settled: Vec<Lease>,
    /// Consumers that may be granted more.
    pub(super) credit_due: Vec<ConsumerId>,
    /// Channels with confirms to send.
    pub(super) confirms_due: Vec<u16>,
    /// Since when there are confirms to send.
    pub(super) confirms_due_at: Moment,
    /// Bytes of bodies that are not complete.
    pub(super) partial_bytes: usize,
    /// What these will have when they are.
    pub(super) announced_bytes: usize,
    pub(super) alarm: Alarm,
}

impl AmqpSession {
    pub fn new(peer: &Peer, now: Moment, limits: &Limits) -> Self {
        let caller = Caller::of(peer);
        AmqpSession {
            stage: Stage::Greeting,
            frame_max: frame::FRAME_MAX_BEFORE_TUNE,
            channel_max: limits.channel_max,
            heartbeat: Heartbeat::new(now),
            stage_deadline: now.after_ms(limits.handshake_ms_max),
            who: Principal::anonymous(caller.address),
            caller,
            grants: Grants::default(),
            user: String::new(),
            limit_reached: None,
            vhost: String::new(),
            namespace: NamespaceId::default(),
            wants_cancel_notify: false,
            wants_login_close: false,
            channels: Vec::new(),
            channel_count: 0,
            next_incarnation: 0,
            consumers: HashMap::new(),
            next_consumer: 0,
            next_token: 0,
            waiting: None,
            window: PublishWindow::default(),
            publishing: Publishing::default(),
            settling: Settling::default(),
            settled: Vec::new(),
            credit_due: Vec::new(),
            confirms_due: Vec::new(),
            confirms_due_at: Moment::NEVER,
            partial_bytes: 0,
            announced_bytes: 0,
            alarm: Alarm::default(),
        }
    }

    pub(super) fn token(&mut self) -> Token {
        self.next_token += 1;
        self.next_token
    }

    /// Makes the requests and reads no further until all of them are answered.
    pub(super) fn wait(
        &mut self,
        channel: u16,
        then: Then,
        requests: Vec<Request>,
        tokens: Vec<Token>,
        ctx: &mut Context<'_>,
    ) {
        self.settling.flush(ctx.out);
        ctx.out.requests.extend(requests);
        self.waiting = Some(Waiting::new(channel, tokens, then));
    }

    /// [`Self::wait`] for one request.
    pub(super) fn ask(
        &mut self,
        channel: u16,
        then: Then,
        request: impl FnOnce(Token) -> Request,
        ctx: &mut Context<'_>,
    ) {
        let token = self.token();
        self.wait(channel, then, vec![request(token)], vec![token], ctx);
    }

    /// Takes the first frame (or whole publish) of `input`. False if there is none.
    fn step(&mut self, input: &mut BytesMut, ctx: &mut Context<'_>) -> bool {
        if self.stage == Stage::Greeting {
            return self.greet(input, ctx);
        }
        if self.stage == Stage::Running {
            if let Some(layout) = WholePublishLayout::find(input, self.frame_max) {
                let block = input.split_to(layout.size).freeze();
                self.whole_publish(&layout, &block, ctx);
                return true;
            }
        }
        match FrameHead::whole(input, self.frame_max) {
            Ok(None) => false,
            Ok(Some(head)) => {
                let block = input.split_to(head.frame_size()).freeze();
                let payload = block.slice(head.payload_range(0));
                self.frame(Frame { kind: head.kind, channel: head.channel, payload }, ctx);
                true
            }
            Err(malformed) => {
                self.lost_sync(malformed, ctx);
                false
            }
        }
    }

    fn whole_publish(&mut self, layout: &WholePublishLayout, block: &Bytes, ctx: &mut Context<'_>) {
        let whole = match layout.take(block) {
            Ok(whole) => whole,
            Err(malformed) => {
                return self.connection_exception(malformed.violation(BasicPublish::ID), ctx);
            }
        };
        let number = whole.channel;
        let judged = match self.open_channel(number) {
            Err(violation) => Err(violation),
            Ok(None) => return,
            Ok(Some(channel)) if !channel.incoming.is_idle() => Err(channel.incoming.unexpected()),
            Ok(Some(_)) => {
                self.basic_publish(number, whole.publish, whole.properties, whole.body, ctx)
            }
        };
        self.judge(number, judged, ctx);
    }

    fn frame(&mut self, frame: Frame, ctx: &mut Context<'_>) {
        ctx.meter.requests += u64::from(frame.kind == FrameType::Method);
        let number = frame.channel;
        let judged = match (frame.channel, frame.kind, self.stage) {
            (0, FrameType::Heartbeat, _) => Ok(()),
            (0, FrameType::Method, _) => match Method::decode(&frame.payload) {
                Ok(method) => self.connection_method(method, ctx),
                Err((id, malformed)) => Err(malformed.violation(id)),
            },
            (_, _, Stage::Closing | Stage::Leaving) => Ok(()),
            (0, _, _) | (_, FrameType::Heartbeat, _) => Err(unexpected_frame(&frame)),
            (_, _, Stage::Running) => self.channel_frame(frame, ctx),
            _ => Err(unexpected_frame(&frame)),
        };
        self.judge(number, judged, ctx);
    }

    fn channel_frame(&mut self, frame: Frame, ctx: &mut Context<'_>) -> Result<(), Violation> {
        let number = frame.channel;
        if frame.kind == FrameType::Method {
            let method = Method::decode(&frame.payload)
                .map_err(|(id, malformed)| malformed.violation(id))?;
            return self.channel_method(number, method, ctx);
        }
        let Some(channel) = self.open_channel(number)? else {
            return Ok(());
        };
        if frame.kind == FrameType::Header {
            let id = channel.incoming.method();
            let header = ContentHeader::decode(&frame.payload).map_err(|m| m.violation(id))?;
            return self.content_header(number, header, ctx);
        }
        self.content_body(number, frame.payload, ctx)
    }

    fn content_header(
        &mut self,
        number: u16,
        header: ContentHeader,
        ctx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        let Some(channel) = self.open_channel(number)? else {
            return Ok(());
        };
        let publish = channel.incoming.take_method()?;
        if header.class_id != CLASS_BASIC || header.weight != 0 {
            let explanation = format!(
                "expected content header for class {CLASS_BASIC}, got one for class {} instead",
                header.class_id
            );
            return Err(Violation::new(ReplyCode::UnexpectedFrame, &explanation, BasicPublish::ID));
        }
        // Refused before the body comes: its frames are then ignored with the channel's others.
        super::basic_publish::check_size(header.body_size, ctx.limits)?;
        if header.body_size == 0 {
            return self.basic_publish(number, publish, header.properties, Bytes::new(), ctx);
        }
        // A copy: a piece of what was received would keep all of it until the body is there.
        let properties = Bytes::copy_from_slice(&header.properties);
        channel.incoming.expect_body(publish, properties, header.body_size);
        self.announced_bytes += channel.incoming.announced();
        Ok(())
    }

    fn content_body(
        &mut self,
        number: u16,
        piece: Bytes,
        ctx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        let limit = ctx.limits.message_bytes_max.saturating_mul(PARTIAL_BODIES_MAX);
        let (partial_bytes, size) = (self.partial_bytes, piece.len());
        let Some(channel) = self.open_channel(number)? else {
            return Ok(());
        };
        if partial_bytes + size > limit {
            let explanation = "too many unfinished message bodies on this connection";
            return Err(Violation::new(ReplyCode::ResourceError, explanation, BasicPublish::ID));
        }
        let before = channel.incoming.received();
        let announced = channel.incoming.announced();
        let complete = channel.incoming.add_body(piece)?;
        let Some((publish, properties, body)) = complete else {
            self.partial_bytes += size;
            return Ok(());
        };
        self.partial_bytes -= before;
        self.announced_bytes -= announced;
        self.basic_publish(number, publish, properties, body, ctx)
    }

    /// Carries out what a method's refusal closes.
    pub(super) fn judge(
        &mut self,
        channel: u16,
        judged: Result<(), Violation>,
        ctx: &mut Context<'_>,
    ) {
        let Err(violation) = judged else { return };
        ctx.meter.request_errors += 1;
        match violation.code.reach() {
            Reach::Channel if channel != 0 => self.channel_exception(channel, violation, ctx),
            _ => self.connection_exception(violation, ctx),
        }
    }

    fn lost_sync(&mut self, malformed: Malformed, ctx: &mut Context<'_>) {
        self.connection_exception(malformed.violation((0, 0)), ctx);
        self.stage = Stage::Deaf;
    }

    /// What several inputs and events left to say is joined here, once per step.
    fn end_step(&mut self, sent_before: usize, ctx: &mut Context<'_>) {
        self.settling.flush(ctx.out);
        self.grant_credit(ctx);
        if ctx.out.wire.len() > sent_before {
            self.heartbeat.sent(ctx.now.moment);
        }
    }

    fn answered(&mut self, token: Token, result: Result<Answer, Refusal>, ctx: &mut Context<'_>) {
        let Some(waiting) = &mut self.waiting else {
            return;
        };
        if !waiting.take(token, result) {
            return;
        }
        let Some(waiting) = self.waiting.take_if(|waiting| waiting.is_answered()) else {
            return;
        };
        let number = waiting.channel;
        // What the channel asked for has no meaning once it is closed.
        if number != 0 && !matches!(self.open_channel(number), Ok(Some(_))) {
            return;
        }
        let judged = self.resume(number, waiting.then, waiting.answers, ctx);
        self.judge(number, judged, ctx);
    }

    pub(super) fn reply(&self, channel: u16, method: impl Into<Method>, ctx: &mut Context<'_>) {
        put_method(&mut ctx.out.wire, channel, &method.into());
    }

    /// Sends `method` unless the client asked for no answer.
    pub(super) fn reply_unless(
        &self,
        no_wait: bool,
        channel: u16,
        method: impl Into<Method>,
        ctx: &mut Context<'_>,
    ) {
        if !no_wait {
            self.reply(channel, method, ctx);
        }
    }

    /// Starts to close on our side: the client may still answer, until the deadline.
    pub(super) fn connection_exception(&mut self, violation: Violation, ctx: &mut Context<'_>) {
        if self.stage >= Stage::Closing {
            return;
        }
        ctx.meter.violations += 1;
        self.close_connection(violation, ctx);
    }

    /// Likewise, where the peer has done nothing wrong.
    pub(super) fn close_connection(&mut self, violation: Violation, ctx: &mut Context<'_>) {
        self.drop_channels(ctx);
        self.put_close(violation.code, violation.reply_text, violation.method, ctx);
        self.enter_closing(Stage::Closing, ctx);
    }

    pub(super) fn put_close(
        &self,
        code: ReplyCode,
        reply_text: ShortString,
        (class_id, method_id): MethodId,
        ctx: &mut Context<'_>,
    ) {
        let close = super::methods::ConnectionClose {
            reply_code: code.number(),
            reply_text,
            class_id,
            method_id,
        };
        self.reply(0, close, ctx);
    }

    pub(super) fn enter_closing(&mut self, stage: Stage, ctx: &Context<'_>) {
        self.stage = stage;
        self.waiting = None;
        self.stage_deadline = ctx.now.moment.after_ms(CLOSE_MS_MAX);
    }

    /// The socket goes as soon as everything is written.
    pub(super) fn finish(&mut self, ctx: &mut Context<'_>) {
        self.stage = Stage::Deaf;
        self.stage_deadline = Moment::NEVER;
        self.waiting = None;
        ctx.out.close = true;
    }
}

fn unexpected_frame(frame: &Frame) -> Violation {
    let explanation = format!(
        "type {}, {} octets, on channel {}",
        frame.kind as u8,
        frame.payload.len(),
        frame.channel
    );
    Violation::new(ReplyCode::UnexpectedFrame, &explanation, (0, 0))
}

impl Session for AmqpSession {
    fn protocol(&self) -> Protocol {
        Protocol::Amqp091
    }

    fn receive(&mut self, input: &mut BytesMut, ctx: &mut Context<'_>) {
        let sent_before = ctx.out.wire.len();
        self.heartbeat.received(ctx.now.moment);
        while self.stage != Stage::Deaf
            && self.wants_input()
            && !self.must_park(input, ctx)
            && self.step(input, ctx)
        {}
        if self.stage == Stage::Deaf {
            input.clear();
        }
        self.end_step(sent_before, ctx);
    }

    fn event(&mut self, event: Event, ctx: &mut Context<'_>) {
        let sent_before = ctx.out.wire.len();
        match event {
            Event::Published { token, result } => self.published(token, result.is_ok(), ctx),
            Event::Deliveries { consumer, stream, deliveries } => {
                self.deliveries(consumer, stream, deliveries, ctx);
            }
            Event::ConsumerCancelled { consumer, stream } => {
                self.consumer_cancelled(consumer, stream, ctx);
            }
            Event::Proposed { token, result } => {
                self.answered(token, result.map(Answer::Outcome), ctx);
            }
            Event::Attached { token, result } => {
                self.answered(token, result.map(|_| Answer::Done), ctx);
            }
            Event::Detached { token } | Event::Stopped { token } => {
                self.answered(token, Ok(Answer::Done), ctx);
            }
            Event::Pulled { token, result } => {
                self.answered(token, result.map(Answer::Pulled), ctx);
            }
            Event::Purged { token, result } | Event::QueueDeleted { token, result } => {
                self.answered(token, result.map(Answer::Count), ctx);
            }
            Event::Status { token, result } => {
                self.answered(token, result.map(Answer::Status), ctx);
            }
            Event::Authenticated { token, result } => {
                self.answered(token, Ok(Answer::Login(result)), ctx);
            }
            // Answers to requests that this protocol does not make.
            _ => {}
        }
        self.end_step(sent_before, ctx);
    }

    fn flush(&mut self, ctx: &mut Context<'_>) {
        let sent_before = ctx.out.wire.len();
        self.send_confirms(ctx);
        self.end_step(sent_before, ctx);
    }

    fn tick(&mut self, ctx: &mut Context<'_>) {
        let sent_before = ctx.out.wire.len();
        let now = ctx.now.moment;
        if self.stage_deadline <= now {
            // A late login, or no answer to our close.
            return self.finish(ctx);
        }
        if self.heartbeat_is_on() {
            if !self.wants_input() || !ctx.is_read {
                self.heartbeat.received(now);
            }
            if self.heartbeat.is_dead(now) {
                return self.finish(ctx);
            }
            if self.heartbeat.is_send_due(now) {
                ctx.out.wire.put(&HEARTBEAT);
            }
        }
        self.send_confirms(ctx);
        self.end_step(sent_before, ctx);
    }

    fn deadline(&self) -> Moment {
        let mut deadline = self.stage_deadline.min(self.confirms_due_at);
        if self.heartbeat_is_on() {
            deadline = deadline.min(self.heartbeat.deadline());
        }
        deadline
    }

    fn wants_input(&self) -> bool {
        self.waiting.is_none() && !self.alarm.is_parked
    }

    fn alarms_changed(&mut self, ctx: &mut Context<'_>) {
        let sent_before = ctx.out.wire.len();
        self.follow_alarms(ctx);
        self.end_step(sent_before, ctx);
    }

    fn partial_bytes(&self) -> usize {
        self.partial_bytes
    }

    fn evict(&mut self, ctx: &mut Context<'_>) {
        if (Stage::Starting..Stage::Closing).contains(&self.stage) {
            let reason = "the node needs the memory that this connection keeps";
            let violation = Violation::new(ReplyCode::ResourceError, reason, (0, 0));
            self.put_close(violation.code, violation.reply_text, violation.method, ctx);
        }
        self.finish(ctx);
    }

    fn access_changed(&mut self, ctx: &mut Context<'_>) {
        let sent_before = ctx.out.wire.len();
        self.follow_access(ctx);
        self.end_step(sent_before, ctx);
    }

    fn disconnected(&mut self, _ctx: &mut Context<'_>) {
        // Consumers, leases and exclusive queues are released by the engine.
        self.stage = Stage::Deaf;
        self.waiting = None;
    }

    fn shutdown(&mut self, ctx: &mut Context<'_>) {
        if (Stage::Starting..Stage::Closing).contains(&self.stage) {
            let reason = "broker forced connection closure with reason 'shutdown'";
            let violation = Violation::new(ReplyCode::ConnectionForced, reason, (0, 0));
            self.put_close(violation.code, violation.reply_text, violation.method, ctx);
        }
        self.finish(ctx);
    }
}

impl AmqpSession {
    fn heartbeat_is_on(&self) -> bool {
        (Stage::Opening..=Stage::Leaving).contains(&self.stage)
    }

    /// Goes on where an operation waited for the broker.
    fn resume(
        &mut self,
        number: u16,
        then: Then,
        mut answers: Vec<Result<Answer, Refusal>>,
        ctx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        match then {
            Then::LoggedIn { mechanism, user } => {
                self.logged_in(&mechanism, user, only(&mut answers)?, ctx)
            }
            Then::ExchangeDeclared(declare) => {
                self.exchange_declared(number, declare, only(&mut answers)?, ctx)
            }
            Then::QueueDeclared(declaration) => {
                self.queue_declared(number, declaration, only(&mut answers)?, ctx)
            }
            Then::QueueCounted { queue, no_wait } => {
                self.queue_counted(number, &queue, no_wait, answers, ctx)
            }
            Then::Reply { method, no_wait, what, refused } => {
                if let Err(refusal) = only(&mut answers)? {
                    return Err(refused.violation(refusal, &what));
                }
                self.reply_unless(no_wait, number, method, ctx);
                Ok(())
            }
            Then::QueueEmptied { delete, no_wait, what } => {
                self.queue_emptied(number, delete, no_wait, &what, answers, ctx)
            }
            Then::Consumed { consumer, queue, no_wait } => {
                self.consumed(number, (consumer, &queue), no_wait, answers, ctx)
            }
            Then::Cancelled { consumer, consumer_tag, no_wait } => {
                self.cancelled(number, consumer, ctx);
                self.reply_unless(no_wait, number, BasicCancelOk { consumer_tag }, ctx);
                Ok(())
            }
            Then::Got(get) => self.got(number, get, only(&mut answers)?, ctx),
            Then::ChannelLeft => {
                self.channel_left(number, ctx);
                Ok(())
            }
            Then::ConnectionLeft => {
                self.connection_left(ctx);
                Ok(())
            }
            Then::ConnectionReleased => {
                self.reply(0, super::methods::ConnectionCloseOk {}, ctx);
                self.finish(ctx);
                Ok(())
            }
        }
    }
}

/// The answer of an operation that made one request.
fn only(answers: &mut Vec<Result<Answer, Refusal>>) -> Result<Result<Answer, Refusal>, Violation> {
    answers.pop().ok_or_else(|| {
        Violation::new(ReplyCode::InternalError, "an operation ended without answer", (0, 0))
    })
}

/// A declare's outcome: whether the object is new.
pub(super) fn is_created(answer: &Answer) -> bool {
    matches!(answer, Answer::Outcome(Outcome::QueueDeclared { created: true, .. }))
}

/// Checks the property bytes of a publish; what is wrong closes the connection.
pub(super) fn properties_of(raw: &[u8]) -> Result<BasicProperties<'_>, Violation> {
    BasicProperties::parse(raw).map_err(|malformed| malformed.violation(BasicPublish::ID))
}

#[cfg(test)]
mod tests;
