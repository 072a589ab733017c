//! `basic.publish`: checks, routing, the way to the broker, returns and confirms. Per message nothing
//! is allocated beyond references, while a client keeps to one exchange and key.

use super::access::Thing;
use super::arguments::texts_of_array;
use super::content::BasicProperties;
use super::error::{ReplyCode, Violation};
use super::message::{expiration_ms, record_key, Envelope, TableHeaders};
use super::methods::{BasicAck, BasicNack, BasicPublish, BasicReturn, MethodId};
use super::output::{put_method, put_return, Content as Outgoing};
use super::publish_window::Confirmed;
use super::session::{properties_of, AmqpSession};
use super::table::{TableBuilder, TableView};
use super::text;
use super::wire::ShortString;
use bytes::{Bytes, BytesMut};
use koine_base::Moment;
use koine_broker::access::Action;
use koine_broker::limits::Limits;
use koine_broker::message::{Content, Origin};
use koine_broker::metadata::ExchangeKind;
use koine_broker::publish::{to_exchange, Publisher};
use koine_broker::router::Matches;
use koine_broker::session::{Context, Request, Route, Token};

const ID: MethodId = BasicPublish::ID;

/// Envelopes are cut from one buffer of this size, so that they cost no allocation each.
const ENVELOPE_BLOCK_BYTES: usize = 32 << 10;

/// RabbitMQ's longest expiration: what fits its timers.
const EXPIRATION_MS_MAX: u64 = u32::MAX as u64;

/// What a connection keeps from one publish to the next.
#[derive(Default)]
pub(super) struct Publishing {
    matches: Matches,
    envelopes: BytesMut,
    recent: Recent,
}

/// Addresses that a connection published to last.
const RECENT_MAX: usize = 16;

/// Receivers of one route that is kept. A larger one is asked for each time: keeping it would cost a
/// connection more memory than asking costs time.
const RECEIVERS_MAX: usize = 4096;

/// What was found out about the addresses of the last publishes; good as long as the metadata (users and
/// rules are part of it) has not changed.
#[derive(Default)]
struct Recent {
    version: u64,
    /// Latest used first.
    addresses: Vec<Address>,
}

/// An exchange and key that the user may publish to.
struct Address {
    exchange: ShortString,
    routing_key: ShortString,
    /// Where it leads; `None` if headers or the record's key matter.
    route: Option<Route>,
}

impl Recent {
    fn find(&mut self, publish: &BasicPublish, version: u64) -> Option<&Address> {
        if self.version != version {
            self.version = version;
            self.addresses.clear();
        }
        let is_it = |address: &Address| {
            address.routing_key == publish.routing_key && address.exchange == publish.exchange
        };
        let at = self.addresses.iter().position(is_it)?;
        self.addresses[..=at].rotate_right(1);
        self.addresses.first()
    }

    /// Right after [`Self::find`], which has found it or not (`is_known`).
    fn keep(&mut self, publish: &BasicPublish, is_known: bool, route: Option<&Route>) {
        let route = route.filter(|route| {
            let receivers = route.streams.len() + route.backlogs.len() + route.live.len();
            receivers <= RECEIVERS_MAX
        });
        let route = route.cloned();
        if is_known {
            if let Some(first) = self.addresses.first_mut().filter(|_| route.is_some()) {
                first.route = route;
            }
            return;
        }
        self.addresses.truncate(RECENT_MAX - 1);
        let address = Address {
            // Copies: a slice would keep its whole receive buffer.
            exchange: publish.exchange.detached(),
            routing_key: publish.routing_key.detached(),
            route,
        };
        self.addresses.insert(0, address);
    }
}

pub(super) fn check_size(size: u64, limits: &Limits) -> Result<(), Violation> {
    let limit = limits.message_bytes_max;
    if size <= limit as u64 {
        return Ok(());
    }
    let explanation = format!("message size {size} is larger than configured max size {limit}");
    Err(Violation::new(ReplyCode::PreconditionFailed, &explanation, ID))
}

impl AmqpSession {
    pub(super) fn basic_publish(
        &mut self,
        number: u16,
        publish: BasicPublish,
        mut properties: Bytes,
        body: Bytes,
        ctx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        if publish.immediate {
            return Err(Violation::new(ReplyCode::NotImplemented, "immediate=true", ID));
        }
        check_size(body.len() as u64, ctx.limits)?;
        self.alarm.has_published = true;
        ctx.meter.messages_in += 1;
        ctx.meter.message_bytes_in += body.len() as u64;
        let known = self.publishing.recent.find(&publish, ctx.metadata.version());
        let (is_known, route) = (known.is_some(), known.and_then(|address| address.route.clone()));
        let kind = if is_known { None } else { Some(self.enter_exchange(&publish, ctx)?) };
        let parsed = properties_of(&properties)?;
        check_expiration(&parsed)?;
        let copies = copies(&parsed)?;
        self.permit_keys(&publish, kind, &copies, ctx)?;
        self.check_user_id(&parsed, ctx)?;
        let key = record_key(&parsed);
        let route = match route.filter(|_| copies.is_empty() && key.is_none()) {
            Some(route) => route,
            None => self.route(&publish, &parsed, key.as_deref(), &copies, is_known, ctx)?,
        };
        if route.is_empty() {
            self.unroutable(number, &publish, &properties, &body, ctx);
            return Ok(());
        }
        if let Some(without) = without_blind_copies(&parsed) {
            properties = without;
        }
        let Some(channel) = self.channel(number) else {
            return Ok(());
        };
        let incarnation = channel.incarnation;
        let confirm = channel.confirms.as_mut().map(|confirms| Confirmed {
            channel: number,
            incarnation,
            sequence: confirms.open(1),
        });
        let envelope = Envelope {
            exchange: publish.exchange.as_bytes(),
            routing_key: publish.routing_key.as_bytes(),
            properties: &properties,
        };
        let content = Content {
            origin: Origin::Amqp091,
            envelope: self.publishing.envelope(&envelope),
            key,
            body: Some(body),
            timestamp: ctx.now.wall,
        };
        let token = confirm.map(|confirm| self.window.open(confirm));
        ctx.out.request(Request::Publish { token, content, route, once: None });
        Ok(())
    }

    /// The exchange of a publish: 403 unless the user may write there, 404 if there is none. What its
    /// keys lead to is for [`Self::permit_keys`], but for the default exchange, whose keys are names.
    fn enter_exchange(
        &mut self,
        publish: &BasicPublish,
        ctx: &Context<'_>,
    ) -> Result<ExchangeKind, Violation> {
        let exchange = publish.exchange.as_str();
        match exchange {
            "" => self.permit_name(publish.routing_key.as_bytes(), ID, ctx)?,
            _ => self.permit(Action::Write, Thing::Exchange(exchange), ID, ctx)?,
        }
        let Some(spec) = ctx.metadata.exchange(self.namespace, exchange) else {
            return Err(self.no_exchange(exchange));
        };
        if spec.internal {
            let what = text::exchange(exchange, &self.vhost);
            let explanation = format!("cannot publish to internal {what}");
            return Err(Violation::new(ReplyCode::AccessRefused, &explanation, ID));
        }
        Ok(spec.kind)
    }

    fn no_exchange(&self, exchange: &str) -> Violation {
        let explanation = format!("no {}", text::exchange(exchange, &self.vhost));
        Violation::new(ReplyCode::NotFound, &explanation, ID)
    }

    /// Every key of its own. `kind`: `None` if the routing key has been judged before.
    fn permit_keys(
        &mut self,
        publish: &BasicPublish,
        kind: Option<ExchangeKind>,
        copies: &[&[u8]],
        ctx: &Context<'_>,
    ) -> Result<(), Violation> {
        let first = kind.map(|_| publish.routing_key.as_bytes());
        if first.is_none() && copies.is_empty() || !ctx.metadata.access().is_secured() {
            return Ok(());
        }
        let exchange = publish.exchange.as_str();
        if exchange.is_empty() {
            return copies.iter().try_for_each(|key| self.permit_name(key, ID, ctx));
        }
        let kind = match kind {
            Some(kind) => kind,
            None => self.enter_exchange(publish, ctx)?,
        };
        if kind != ExchangeKind::Topic {
            return Ok(());
        }
        let mut keys = first.into_iter().chain(copies.iter().copied());
        keys.try_for_each(|key| self.permit_routing_key(exchange, key, ID, ctx))
    }

    fn check_user_id(
        &self,
        properties: &BasicProperties<'_>,
        ctx: &Context<'_>,
    ) -> Result<(), Violation> {
        let claimed = properties.user_id.filter(|id| *id != self.user.as_bytes());
        let Some(claimed) = claimed.filter(|_| !self.is_impersonator(ctx)) else {
            return Ok(());
        };
        let explanation = format!(
            "user_id property set to '{}' but authenticated user was '{}'",
            String::from_utf8_lossy(claimed),
            self.user
        );
        Err(Violation::new(ReplyCode::PreconditionFailed, &explanation, ID))
    }

    /// Where a publish goes that the user may make. `is_known`: its address is kept already.
    fn route(
        &mut self,
        publish: &BasicPublish,
        properties: &BasicProperties<'_>,
        key: Option<&[u8]>,
        copies: &[&[u8]],
        is_known: bool,
        ctx: &Context<'_>,
    ) -> Result<Route, Violation> {
        let exchange = publish.exchange.as_str();
        let publisher =
            Publisher { connection: ctx.connection, session: None, qos: 1, retain: false, key };
        let headers = TableHeaders(properties.headers.unwrap_or_default());
        let mut route = Route::default();
        for routing_key in
            std::iter::once(publish.routing_key.as_bytes()).chain(copies.iter().copied())
        {
            let one = to_exchange(
                ctx.metadata,
                self.namespace,
                exchange,
                routing_key,
                &headers,
                &publisher,
                &mut self.publishing.matches,
            );
            merge(&mut route, one.ok_or_else(|| self.no_exchange(exchange))?);
        }
        let is_plain = copies.is_empty() && key.is_none();
        let is_fixed = is_plain && !self.publishing.matches.headers_asked;
        self.publishing.recent.keep(publish, is_known, is_fixed.then_some(&route));
        Ok(route)
    }

    /// Nobody wants it: back to the client if it asked so, and acknowledged all the same.
    fn unroutable(
        &mut self,
        number: u16,
        publish: &BasicPublish,
        properties: &Bytes,
        body: &Bytes,
        ctx: &mut Context<'_>,
    ) {
        ctx.meter.unroutable += 1;
        if publish.mandatory {
            let returned = BasicReturn {
                reply_code: ReplyCode::NoRoute.number(),
                reply_text: ShortString::fixed(ReplyCode::NoRoute.name()),
                exchange: publish.exchange.clone(),
                routing_key: publish.routing_key.clone(),
            };
            let content = Outgoing { properties, body, frame_max: self.frame_max };
            put_return(&mut ctx.out.wire, number, &returned, content);
        }
        let Some(channel) = self.channel(number) else {
            return;
        };
        if let Some(confirms) = &mut channel.confirms {
            confirms.open(0);
            self.confirms_are_due(number, ctx);
        }
    }

    /// The broker has stored (or refused) a publish everywhere it went.
    pub(super) fn published(&mut self, token: Token, stored: bool, ctx: &mut Context<'_>) {
        let Some(confirmed) = self.window.close(token) else {
            return;
        };
        let Some(channel) = self.channel(confirmed.channel) else {
            return;
        };
        if channel.incarnation != confirmed.incarnation {
            return;
        }
        if let Some(confirms) = &mut channel.confirms {
            confirms.answer(confirmed.sequence, stored);
            self.confirms_are_due(confirmed.channel, ctx);
        }
    }

    fn confirms_are_due(&mut self, number: u16, ctx: &Context<'_>) {
        if !self.confirms_due.contains(&number) {
            self.confirms_due.push(number);
        }
        self.confirms_due_at = self.confirms_due_at.min(ctx.now.moment);
    }

    /// Tells what is decided, as few frames as possible.
    pub(super) fn send_confirms(&mut self, ctx: &mut Context<'_>) {
        self.confirms_due_at = Moment::NEVER;
        let mut due = std::mem::take(&mut self.confirms_due);
        for number in due.drain(..) {
            let Some(confirms) = self.channel(number).and_then(|channel| channel.confirms.as_mut())
            else {
                continue;
            };
            while let Some(verdict) = confirms.next_verdict() {
                let (delivery_tag, multiple) = (verdict.delivery_tag, verdict.multiple);
                let method = if verdict.acked {
                    BasicAck { delivery_tag, multiple }.into()
                } else {
                    BasicNack { delivery_tag, multiple, requeue: false }.into()
                };
                put_method(&mut ctx.out.wire, number, &method);
            }
        }
        self.confirms_due = due;
    }
}

impl Publishing {
    fn envelope(&mut self, envelope: &Envelope<'_>) -> Bytes {
        let size =
            2 + envelope.exchange.len() + envelope.routing_key.len() + envelope.properties.len();
        if self.envelopes.capacity() < size {
            self.envelopes.reserve(ENVELOPE_BLOCK_BYTES.max(size));
        }
        envelope.encode(&mut self.envelopes);
        self.envelopes.split().freeze()
    }
}

fn check_expiration(properties: &BasicProperties<'_>) -> Result<(), Violation> {
    let Some(expiration) = properties.expiration else { return Ok(()) };
    if expiration_ms(expiration).is_some_and(|ms| ms <= EXPIRATION_MS_MAX) {
        return Ok(());
    }
    let explanation = format!(
        "invalid expiration '{}': not a number of milliseconds",
        String::from_utf8_lossy(expiration)
    );
    Err(Violation::new(ReplyCode::PreconditionFailed, &explanation, ID))
}

/// Further routing keys (RabbitMQ's sender-selected distribution).
fn copies<'a>(properties: &BasicProperties<'a>) -> Result<Vec<&'a [u8]>, Violation> {
    let mut keys = Vec::new();
    let headers: TableView<'a> = properties.headers.unwrap_or_default();
    for name in ["CC", "BCC"] {
        let Some(value) = headers.find(name) else {
            continue;
        };
        let Some(list) = texts_of_array(value) else {
            let explanation = format!("{name} header is not an array of strings");
            return Err(Violation::new(ReplyCode::PreconditionFailed, &explanation, ID));
        };
        keys.extend(list);
    }
    Ok(keys)
}

/// The properties less their BCC header, which no receiver may see; `None` if there is none.
fn without_blind_copies(properties: &BasicProperties<'_>) -> Option<Bytes> {
    let headers = properties.headers?;
    headers.find("BCC")?;
    let mut kept = TableBuilder::new();
    for (name, value) in headers.entries().filter(|(name, _)| *name != b"BCC") {
        kept.put(name, value);
    }
    let kept = kept.finish();
    let without = BasicProperties { headers: Some(kept.view()), ..*properties };
    let mut raw = BytesMut::new();
    without.encode(&mut raw);
    Some(raw.freeze())
}

/// A queue or session that several keys reach gets one copy.
fn merge(route: &mut Route, other: Route) {
    if route.is_empty() {
        *route = other;
        return;
    }
    for stream in other.streams {
        if !route.streams.contains(&stream) {
            route.streams.push(stream);
        }
    }
    for (stream, annotation) in other.backlogs {
        if !route.backlogs.iter().any(|(held, _)| *held == stream) {
            route.backlogs.push((stream, annotation));
        }
    }
    for (connection, annotation) in other.live {
        if !route.live.iter().any(|(held, _)| *held == connection) {
            route.live.push((connection, annotation));
        }
    }
}
