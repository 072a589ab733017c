//! What the user of a connection may do: the checks of every method, in RabbitMQ's words, and what ends
//! when users or rules change under an open connection.
//!
//! A check comes before whatever would tell that something exists, is locked or is declared otherwise.
//! Nothing here decides: `koine_broker::access` does.

use super::error::{ReplyCode, Violation};
use super::exchange::BindingMethod;
use super::methods::MethodId;
use super::session::{AmqpSession, Stage};
use super::text;
use koine_broker::access::{Action, Resource, DEFAULT_EXCHANGE, IMPERSONATOR, SUBJECT_EXCHANGE};
use koine_broker::metadata::{BindingTarget, ExchangeKind, Named, NamespaceId};
use koine_broker::router::{Filter, FilterLevel, Subject};
use koine_broker::session::{ConsumerId, Context, Peer};
use std::net::IpAddr;

/// The other end of the socket, as far as a login may rely on it.
pub(super) struct Caller {
    pub address: IpAddr,
    pub is_encrypted: bool,
    /// Whom its certificate names.
    pub certificate_user: Option<String>,
}

impl Caller {
    pub(super) fn of(peer: &Peer) -> Self {
        Caller {
            address: peer.remote.ip(),
            is_encrypted: peer.tls.is_some(),
            certificate_user: peer.tls.as_ref().and_then(|tls| tls.user.clone()),
        }
    }
}

/// What a permission is asked for. A topic is a queue to clients of this protocol.
#[derive(Clone, Copy, Debug)]
pub(super) enum Thing<'a> {
    Queue(&'a str),
    /// The empty name is the default exchange.
    Exchange(&'a str),
}

impl<'a> Thing<'a> {
    fn of_target(target: &'a BindingTarget) -> Self {
        match target {
            BindingTarget::Queue(name) => Thing::Queue(name),
            BindingTarget::Exchange(name) => Thing::Exchange(name),
        }
    }

    fn resource(self, namespace: NamespaceId) -> Resource<'a> {
        match self {
            Thing::Queue(name) => Resource::Topic { namespace, name },
            Thing::Exchange(name) => Resource::Exchange { namespace, name },
        }
    }

    fn shown(self, vhost: &str) -> String {
        match self {
            Thing::Queue(name) => text::queue(name, vhost),
            Thing::Exchange("") => text::exchange(DEFAULT_EXCHANGE, vhost),
            Thing::Exchange(name) => text::exchange(name, vhost),
        }
    }
}

/// Which of the three patterns of a permission answers for an action.
fn pattern_name(action: Action) -> &'static str {
    match action {
        Action::Read => "read",
        Action::Write => "write",
        // To see something any of the three will do; RabbitMQ asks for this one last.
        _ => "configure",
    }
}

impl AmqpSession {
    fn refused(&self, action: Action, thing: Thing<'_>, method: MethodId) -> Violation {
        let shown = thing.shown(&self.vhost);
        let explanation = text::refused(pattern_name(action), &shown, &self.user);
        Violation::new(ReplyCode::AccessRefused, &explanation, method)
    }

    fn key_refused(
        &self,
        action: Action,
        exchange: &str,
        key: &[u8],
        method: MethodId,
    ) -> Violation {
        let shown = text::exchange(exchange, &self.vhost);
        let key = String::from_utf8_lossy(key);
        let explanation = text::key_refused(pattern_name(action), &key, &shown, &self.user);
        Violation::new(ReplyCode::AccessRefused, &explanation, method)
    }

    /// 403 unless the user may do this to that.
    pub(super) fn permit(
        &mut self,
        action: Action,
        thing: Thing<'_>,
        method: MethodId,
        ctx: &Context<'_>,
    ) -> Result<(), Violation> {
        if self.may(action, thing, ctx) {
            return Ok(());
        }
        Err(self.refused(action, thing, method))
    }

    fn may(&mut self, action: Action, thing: Thing<'_>, ctx: &Context<'_>) -> bool {
        let resource = thing.resource(self.namespace);
        self.grants.authorize(ctx.metadata.access(), &self.who, action, &resource)
    }

    /// What topic permissions say about a key of a topic exchange, on top of the exchange's own: a
    /// binding key to read by, a routing key to write with.
    fn permit_key(
        &self,
        action: Action,
        exchange: &str,
        key: &[u8],
        method: MethodId,
        ctx: &Context<'_>,
    ) -> Result<(), Violation> {
        let (access, namespace) = (ctx.metadata.access(), self.namespace);
        if !access.is_secured() {
            return Ok(());
        }
        let may = |resource| access.authorize(&self.who, action, &resource);
        let filter = Filter::from_amqp(key);
        let subject = Subject::from_amqp(key);
        let is_permitted = match (exchange == SUBJECT_EXCHANGE, action, &filter, &subject) {
            (true, Action::Read, Ok(filter), _) => may(Resource::Filter { namespace, filter }),
            (true, Action::Write, _, Ok(subject)) => may(Resource::Subject { namespace, subject }),
            // Of a key that is none nothing is delivered; the pattern is asked all the same.
            _ => may(Resource::RoutingKey { namespace, exchange, key }),
        };
        if is_permitted {
            return Ok(());
        }
        Err(self.key_refused(action, exchange, key, method))
    }

    /// The checks of bind and unbind that need the default exchange refused in between: the target.
    pub(super) fn permit_target(
        &mut self,
        binding: &BindingMethod<'_>,
        ctx: &Context<'_>,
    ) -> Result<(), Violation> {
        self.permit(Action::Write, Thing::of_target(&binding.target), binding.method, ctx)
    }

    /// The source of a binding, and what would flow through it.
    pub(super) fn permit_source(
        &mut self,
        source: &str,
        binding: &BindingMethod<'_>,
        ctx: &Context<'_>,
    ) -> Result<(), Violation> {
        self.permit(Action::Read, Thing::Exchange(source), binding.method, ctx)?;
        if !ctx.metadata.access().is_secured() {
            return Ok(());
        }
        let kind = ctx.metadata.exchange(self.namespace, source).map(|exchange| exchange.kind);
        if kind == Some(ExchangeKind::Topic) {
            self.permit_key(Action::Read, source, binding.key, binding.method, ctx)?;
        }
        if !binding.bind {
            return Ok(());
        }
        if source == SUBJECT_EXCHANGE && !self.may_read_topics_of(binding.key, ctx) {
            return Err(self.key_refused(Action::Read, source, binding.key, binding.method));
        }
        self.permit_flow(kind, binding, ctx)
    }

    /// Whether the user may read every topic whose appends a key of `amq.topic` would bring.
    fn may_read_topics_of(&self, key: &[u8], ctx: &Context<'_>) -> bool {
        let Ok(filter) = Filter::from_amqp(key) else { return true };
        let may_read = |name: &str| {
            let Ok(subject) = Subject::from_topic_name(name) else { return true };
            !is_reached(&filter, &subject)
                || self.may_reach_topic(Action::Read, &subject, name, ctx)
        };
        let is_exact = filter.levels().all(|level| matches!(level, FilterLevel::Exact(_)));
        if is_exact {
            let name = std::str::from_utf8(key).ok();
            let topic = name.filter(|name| ctx.metadata.topic(self.namespace, name).is_some());
            return topic.is_none_or(may_read);
        }
        ctx.metadata.topics(self.namespace).all(|(name, _)| may_read(name))
    }

    fn may_reach_topic(
        &self,
        action: Action,
        subject: &Subject,
        topic: &str,
        ctx: &Context<'_>,
    ) -> bool {
        let access = ctx.metadata.access();
        access.subject_reaches_topic(&self.who, self.namespace, action, subject, topic)
    }

    /// Where the target is a topic exchange, whatever comes through the binding arrives there as if it
    /// was published to it: the user needs the right to write with every such key.
    fn permit_flow(
        &self,
        source: Option<ExchangeKind>,
        binding: &BindingMethod<'_>,
        ctx: &Context<'_>,
    ) -> Result<(), Violation> {
        let BindingTarget::Exchange(target) = &binding.target else { return Ok(()) };
        let found = ctx.metadata.exchange(self.namespace, target);
        if found.is_none_or(|found| found.kind != ExchangeKind::Topic) {
            return Ok(());
        }
        let keys = match source {
            Some(ExchangeKind::Direct | ExchangeKind::Topic) => binding.key,
            _ => b"#",
        };
        let (access, namespace) = (ctx.metadata.access(), self.namespace);
        let exchange: &str = target;
        let is_permitted = match Filter::from_amqp(keys) {
            Ok(filter) if exchange == SUBJECT_EXCHANGE => {
                let resource = Resource::Filter { namespace, filter: &filter };
                access.authorize(&self.who, Action::Write, &resource)
            }
            _ => {
                let resource = Resource::RoutingKey { namespace, exchange, key: keys };
                access.authorize(&self.who, Action::Write, &resource)
            }
        };
        if is_permitted {
            return Ok(());
        }
        Err(self.key_refused(Action::Write, exchange, keys, binding.method))
    }

    /// Publishing by the default exchange: to the queue or topic of that name.
    pub(super) fn permit_name(
        &mut self,
        key: &[u8],
        method: MethodId,
        ctx: &Context<'_>,
    ) -> Result<(), Violation> {
        let (access, namespace) = (ctx.metadata.access(), self.namespace);
        if !access.is_secured() {
            return Ok(());
        }
        let name = std::str::from_utf8(key).unwrap_or_default();
        let named = ctx.metadata.named(namespace, name);
        let is_topic = named.map(|named| matches!(named, Named::Topic(_)));
        if access.may_publish_by_name(&self.who, namespace, name, is_topic) {
            return Ok(());
        }
        // Whoever may not publish to the exchange is not told what it leads to.
        let refused = match self.may(Action::Write, Thing::Exchange(""), ctx) {
            true => Thing::Queue(name),
            false => Thing::Exchange(""),
        };
        Err(self.refused(Action::Write, refused, method))
    }

    /// Publishing with a routing key to a topic exchange, and for `amq.topic` to the topic of that name.
    pub(super) fn permit_routing_key(
        &self,
        exchange: &str,
        key: &[u8],
        method: MethodId,
        ctx: &Context<'_>,
    ) -> Result<(), Violation> {
        self.permit_key(Action::Write, exchange, key, method, ctx)?;
        if exchange != SUBJECT_EXCHANGE {
            return Ok(());
        }
        let (Ok(name), Ok(subject)) = (std::str::from_utf8(key), Subject::from_amqp(key)) else {
            return Ok(());
        };
        let is_topic = ctx.metadata.topic(self.namespace, name).is_some();
        if !is_topic || self.may_reach_topic(Action::Write, &subject, name, ctx) {
            return Ok(());
        }
        Err(self.key_refused(Action::Write, exchange, key, method))
    }

    /// Whether the user may name another one as the sender of a message.
    pub(super) fn is_impersonator(&self, ctx: &Context<'_>) -> bool {
        let user = ctx.metadata.access().user(self.who.name());
        user.is_some_and(|user| user.is_tagged(IMPERSONATOR))
    }

    /// 530 unless the user may be on the virtual host. `method` is the one to blame.
    pub(super) fn permit_vhost(
        &self,
        namespace: NamespaceId,
        vhost: &str,
        method: MethodId,
        ctx: &Context<'_>,
    ) -> Result<(), Violation> {
        let resource = Resource::Namespace(namespace);
        if ctx.metadata.access().authorize(&self.who, Action::Describe, &resource) {
            return Ok(());
        }
        let explanation = format!("access to vhost '{vhost}' refused for user '{}'", self.user);
        Err(Violation::new(ReplyCode::NotAllowed, &explanation, method))
    }

    /// Users or rules have changed: ends the connection of a user who is not the same any more or has
    /// nothing to do on the virtual host, and consumers of queues that may no longer be read. What was
    /// remembered for publishing is void by itself. Bindings stay, as in RabbitMQ.
    pub(super) fn follow_access(&mut self, ctx: &mut Context<'_>) {
        let access = ctx.metadata.access();
        let is_in = (Stage::Tuning..Stage::Leaving).contains(&self.stage);
        if !access.is_secured() || !is_in || self.limit_reached.is_some() {
            return;
        }
        if !access.still_knows(&self.who) {
            let user = self.who.name();
            let explanation = match (&self.who.user, access.user(user)) {
                (None, _) => "a login is needed by now".to_owned(),
                (Some(_), None) => format!("user '{user}' is deleted"),
                (Some(_), Some(_)) => format!("the password of user '{user}' has changed"),
            };
            let violation = Violation::new(ReplyCode::ConnectionForced, &explanation, (0, 0));
            return self.close_connection(violation, ctx);
        }
        if self.stage != Stage::Running {
            return;
        }
        if let Err(violation) = self.permit_vhost(self.namespace, &self.vhost, (0, 0), ctx) {
            return self.close_connection(violation, ctx);
        }
        for consumer in self.unpermitted_consumers(ctx) {
            self.revoke_consumer(consumer, ctx);
        }
    }

    /// Oldest first. One whose consume is not answered yet is looked at when it is.
    fn unpermitted_consumers(&mut self, ctx: &Context<'_>) -> Vec<ConsumerId> {
        let running = self.consumers.iter().filter(|(_, consumer)| consumer.is_running());
        let mut running: Vec<_> =
            running.map(|(id, consumer)| (*id, consumer.queue().to_owned())).collect();
        running.sort_unstable();
        running.retain(|(_, queue)| !self.may(Action::Read, Thing::Queue(queue), ctx));
        running.into_iter().map(|(id, _)| id).collect()
    }
}

/// Whether a topic exchange would take a subject through a binding with this key. At most one step back
/// per word: the last `#` takes one word more.
fn is_reached(filter: &Filter, subject: &Subject) -> bool {
    let pattern: Vec<_> = filter.levels().collect();
    let words: Vec<_> = subject.levels().collect();
    let (mut at, mut word) = (0, 0);
    // Behind the last `#`, and the first word that it has not taken.
    let mut retry = None;
    while word < words.len() {
        match pattern.get(at) {
            Some(FilterLevel::Many) => {
                at += 1;
                retry = Some((at, word));
                continue;
            }
            Some(FilterLevel::One) => {}
            Some(FilterLevel::Exact(text)) if *text == words[word] => {}
            _ => match retry {
                Some((behind, taken)) => {
                    retry = Some((behind, taken + 1));
                    (at, word) = (behind, taken + 1);
                    continue;
                }
                None => return false,
            },
        }
        at += 1;
        word += 1;
    }
    pattern[at..].iter().all(|level| *level == FilterLevel::Many)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_reach_the_topics_that_their_bindings_would_be_brought() {
        for (key, topic, expect) in [
            ("#", "a", true),
            ("#", "a.b.c", true),
            ("a.#", "a", true),
            ("a.#", "b", false),
            ("*", "a", true),
            ("*", "a.b", false),
            ("a.*.c", "a.b.c", true),
            ("a.*.c", "a.b.d", false),
            ("#.c", "a.b.c", true),
            ("#.c", "c", true),
            ("#.c", "c.d", false),
            ("a.#.b.#.c", "a.x.b.y.b.z.c", true),
            ("a.#.b.#.c", "a.x.y.c", false),
            ("#.*", "a", true),
            ("#.a.*", "a.a.b", true),
            ("a.b", "a.b", true),
            ("a.b", "a", false),
            ("a", "a.b", false),
        ] {
            let filter = Filter::from_amqp(key.as_bytes()).expect("a sound key");
            let subject = Subject::from_topic_name(topic).expect("a sound name");
            assert_eq!(is_reached(&filter, &subject), expect, "{key} and {topic}");
        }
    }
}
