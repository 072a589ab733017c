//! The router: which queues and sessions a publish reaches. One structure for exchanges, bindings
//! and MQTT subscriptions; every shard holds a copy and changes it by the same calls in the same
//! order, so nothing here may depend on time, chance or hash order. It must never touch a message
//! body, and never deletes on its own what a client declared.
//!
//! - [`subject`]: subjects and filters, and how they cross between protocols;
//! - [`tree`]: filters to values, matched in bounded time;
//! - [`headers`]: header values and the matching of headers exchanges;
//! - `exchange`, `namespace`: the tables and who is bound to what;
//! - `route`: one publish on its way.
//!
//! The subject space of a namespace is its `amq.topic`: MQTT subscriptions and AMQP bindings on it
//! stand in one tree. Other topic exchanges have trees of their own.

mod exchange;
pub mod headers;
mod namespace;
mod ordered;
mod route;
pub mod subject;
#[cfg(test)]
mod tests;
pub mod tree;

pub use crate::metadata::command::{ExchangeKind, NamespaceId, SessionId, SubscriptionOptions};
pub use exchange::ExchangeSettings;
pub use headers::{
    Arguments, BadMatchMode, HeaderMatch, HeaderRef, HeaderValue, Headers, NoHeaders,
};
pub use route::{Matches, RouteOutcome};
pub use subject::{Filter, FilterError, FilterLevel, FilterStyle, Subject, SubjectError};
pub use tree::{MatchScratch, SubjectTree};

use bytes::Bytes;
use koine_base::StreamId;
use namespace::{is_predeclared, Namespace};
use std::collections::BTreeMap;
use std::fmt;

/// Exchanges of one namespace. RabbitMQ installations stay in the thousands.
pub const EXCHANGES_MAX: usize = 65_536;
/// Bindings that leave one exchange.
pub const BINDINGS_PER_EXCHANGE_MAX: usize = 1 << 20;
/// Filters of one session or shared subscription.
pub const SUBSCRIPTIONS_PER_SUBSCRIBER_MAX: usize = 65_536;
/// Names and binding keys: the length of an AMQP short string.
pub const NAME_BYTES_MAX: usize = 255;
/// Names and values in the arguments of one binding.
pub const ARGUMENTS_BYTES_MAX: usize = 64 * 1024;

/// Who subscribes to a filter of the subject space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subscriber {
    /// A stream that keeps what matches: a shared subscription, a persistent session's backlog.
    Queue(StreamId),
    Session(SessionId),
}

/// The far end of a binding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Destination {
    Queue(StreamId),
    /// By name.
    Exchange(Bytes),
}

/// A binding, for listing. Its identity is all of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Binding {
    pub source: Bytes,
    pub destination: Destination,
    pub key: Bytes,
    pub arguments: Arguments,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declared {
    New,
    Existing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscribed {
    New,
    /// The same filter again: the options are the new ones (MQTT 5 §3.8.4).
    Replaced,
}

/// Why a change was not made. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    NoSuchExchange,
    /// The default exchange takes no bindings; it and the `amq.` ones of the start are not deleted.
    Predeclared,
    /// The name is taken by something that was declared otherwise.
    Inequivalent,
    BadFilter(FilterError),
    /// `x-match` is none of the four words.
    BadMatchMode,
    /// Over [`NAME_BYTES_MAX`] or [`ARGUMENTS_BYTES_MAX`].
    TooLong,
    /// Over [`EXCHANGES_MAX`].
    TooManyExchanges,
    /// Over [`BINDINGS_PER_EXCHANGE_MAX`].
    TooManyBindings,
    /// Over [`SUBSCRIPTIONS_PER_SUBSCRIBER_MAX`].
    TooManySubscriptions,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NoSuchExchange => f.write_str("no such exchange"),
            Refusal::Predeclared => f.write_str("not allowed on a predeclared exchange"),
            Refusal::Inequivalent => f.write_str("declared before with other properties"),
            Refusal::BadFilter(error) => error.fmt(f),
            Refusal::BadMatchMode => {
                f.write_str("x-match must be all, any, all-with-x or any-with-x")
            }
            Refusal::TooLong => f.write_str("a name or the arguments are too long"),
            Refusal::TooManyExchanges => f.write_str("too many exchanges"),
            Refusal::TooManyBindings => f.write_str("too many bindings on this exchange"),
            Refusal::TooManySubscriptions => f.write_str("too many subscriptions"),
        }
    }
}

impl std::error::Error for Refusal {}

/// Exchanges that delete themselves and have just lost their last binding. The caller deletes them
/// by [`Router::delete_exchange`] (through the log, if they are replicated), which may name more.
pub type Orphans = Vec<Bytes>;

/// All namespaces. A namespace is there from the first call that changes it; before that it routes
/// like one that holds only its predeclared exchanges.
#[derive(Debug, Default)]
pub struct Router {
    namespaces: BTreeMap<NamespaceId, Namespace>,
    version: u64,
}

impl Router {
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes up with each change that can alter where a publish goes: a publisher may keep the
    /// matches of an (exchange, key) while it stands still and `headers_asked` was false.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Forgets a namespace and everything in it. False if there was none.
    pub fn remove_namespace(&mut self, namespace: NamespaceId) -> bool {
        let removed = self.namespaces.remove(&namespace).is_some();
        self.version += u64::from(removed);
        removed
    }

    /// Makes `stream` the queue that the default exchange knows as `name`. A name or stream that
    /// is paired otherwise is refused as inequivalent.
    pub fn declare_queue(
        &mut self,
        namespace: NamespaceId,
        name: &[u8],
        stream: StreamId,
    ) -> Result<Declared, Refusal> {
        let declared = self.space(namespace).declare_queue(name, stream)?;
        self.version += u64::from(declared == Declared::New);
        Ok(declared)
    }

    /// Takes the queue's name, bindings and subscriptions away.
    pub fn remove_queue(&mut self, namespace: NamespaceId, stream: StreamId) -> Orphans {
        let orphans = self.space(namespace).remove_queue(stream);
        self.changed(orphans)
    }

    /// The queue that the default exchange knows by this name.
    pub fn queue(&self, namespace: NamespaceId, name: &[u8]) -> Option<StreamId> {
        self.namespaces.get(&namespace)?.queue(name)
    }

    /// Whether the client may use such a name (`amq.`) is for the session to say.
    pub fn declare_exchange(
        &mut self,
        namespace: NamespaceId,
        name: &[u8],
        settings: ExchangeSettings,
    ) -> Result<Declared, Refusal> {
        let declared = self.space(namespace).declare_exchange(name, settings)?;
        self.version += u64::from(declared == Declared::New);
        Ok(declared)
    }

    /// Takes the exchange and all bindings from and to it away; an absent one is no error.
    pub fn delete_exchange(
        &mut self,
        namespace: NamespaceId,
        name: &[u8],
    ) -> Result<Orphans, Refusal> {
        let orphans = self.space(namespace).delete_exchange(name)?;
        Ok(self.changed(orphans))
    }

    /// Sets what a policy says about unroutable messages.
    pub fn set_alternate(
        &mut self,
        namespace: NamespaceId,
        name: &[u8],
        alternate: Option<Bytes>,
    ) -> Result<(), Refusal> {
        let changed = self.space(namespace).set_alternate(name, alternate)?;
        self.version += u64::from(changed);
        Ok(())
    }

    /// `None` for the default exchange too: it has no settings.
    pub fn exchange(&self, namespace: NamespaceId, name: &[u8]) -> Option<&ExchangeSettings> {
        Some(&self.namespaces.get(&namespace)?.exchange_named(name)?.settings)
    }

    /// Ordered by name, without the default exchange.
    pub fn exchanges(&self, namespace: NamespaceId) -> Vec<(Bytes, ExchangeSettings)> {
        match self.namespaces.get(&namespace) {
            Some(space) => space.exchanges(),
            None => Namespace::new().exchanges(),
        }
    }

    /// True if the binding is new; the same binding again changes nothing. The stream need not
    /// have been declared.
    pub fn bind(
        &mut self,
        namespace: NamespaceId,
        source: &[u8],
        queue: StreamId,
        key: &[u8],
        arguments: Arguments,
    ) -> Result<bool, Refusal> {
        self.bind_to(namespace, source, &Destination::Queue(queue), key, arguments)
    }

    /// An absent binding is no error.
    pub fn unbind(
        &mut self,
        namespace: NamespaceId,
        source: &[u8],
        queue: StreamId,
        key: &[u8],
        arguments: Arguments,
    ) -> Orphans {
        self.unbind_from(namespace, source, &Destination::Queue(queue), key, arguments)
    }

    /// As [`Self::bind`]. Cycles are legal, also a binding of an exchange to itself.
    pub fn bind_exchange(
        &mut self,
        namespace: NamespaceId,
        source: &[u8],
        destination: &[u8],
        key: &[u8],
        arguments: Arguments,
    ) -> Result<bool, Refusal> {
        let destination = Destination::Exchange(Bytes::copy_from_slice(destination));
        self.bind_to(namespace, source, &destination, key, arguments)
    }

    /// As [`Self::unbind`].
    pub fn unbind_exchange(
        &mut self,
        namespace: NamespaceId,
        source: &[u8],
        destination: &[u8],
        key: &[u8],
        arguments: Arguments,
    ) -> Orphans {
        let destination = Destination::Exchange(Bytes::copy_from_slice(destination));
        self.unbind_from(namespace, source, &destination, key, arguments)
    }

    /// [`Self::bind`] for whoever has the destination as data.
    pub fn bind_to(
        &mut self,
        namespace: NamespaceId,
        source: &[u8],
        destination: &Destination,
        key: &[u8],
        arguments: Arguments,
    ) -> Result<bool, Refusal> {
        let space = self.space(namespace);
        let target = space.target(destination)?;
        let new = space.bind(source, target, key, arguments)?;
        self.version += u64::from(new);
        Ok(new)
    }

    /// [`Self::unbind`] for whoever has the destination as data.
    pub fn unbind_from(
        &mut self,
        namespace: NamespaceId,
        source: &[u8],
        destination: &Destination,
        key: &[u8],
        arguments: Arguments,
    ) -> Orphans {
        let space = self.space(namespace);
        let Ok(target) = space.target(destination) else {
            return Orphans::new();
        };
        let orphans = space.unbind(source, target, key, arguments);
        self.changed(orphans)
    }

    /// Subscribes to the subject space. The same filter again replaces the options.
    pub fn subscribe(
        &mut self,
        namespace: NamespaceId,
        subscriber: Subscriber,
        filter: Filter,
        options: SubscriptionOptions,
    ) -> Result<Subscribed, Refusal> {
        let subscribed = self.space(namespace).subscribe(subscriber, filter, options)?;
        self.version += 1;
        Ok(subscribed)
    }

    /// False if there was no such subscription.
    pub fn unsubscribe(
        &mut self,
        namespace: NamespaceId,
        subscriber: Subscriber,
        filter: &Filter,
    ) -> bool {
        let removed = self.space(namespace).unsubscribe(subscriber, filter);
        self.version += u64::from(removed);
        removed
    }

    /// How many subscriptions the session had.
    pub fn remove_session(&mut self, namespace: NamespaceId, session: SessionId) -> usize {
        let count = self.space(namespace).remove_subscriber(Subscriber::Session(session));
        self.version += u64::from(count > 0);
        count
    }

    /// In order of style, then spelling.
    pub fn subscriptions_of(
        &self,
        namespace: NamespaceId,
        subscriber: Subscriber,
    ) -> Vec<(Filter, SubscriptionOptions)> {
        let space = self.namespaces.get(&namespace);
        space.map_or_else(Vec::new, |space| space.subscriptions_of(subscriber))
    }

    /// Bindings with this exchange as source, ordered by destination, key and arguments.
    /// Subscriptions are not bindings.
    pub fn bindings_from(&self, namespace: NamespaceId, source: &[u8]) -> Vec<Binding> {
        let space = self.namespaces.get(&namespace);
        space.map_or_else(Vec::new, |space| space.bindings_from(source))
    }

    /// Bindings that end here, ordered by source, key and arguments; without the implicit one of
    /// the default exchange.
    pub fn bindings_to(&self, namespace: NamespaceId, destination: &Destination) -> Vec<Binding> {
        let Some(space) = self.namespaces.get(&namespace) else {
            return Vec::new();
        };
        match space.target(destination) {
            Ok(target) => space.bindings_to(target),
            Err(_) => Vec::new(),
        }
    }

    /// Bindings with this exchange as source; 0 if there is no such exchange.
    pub fn source_binding_count(&self, namespace: NamespaceId, exchange: &[u8]) -> usize {
        let exchange = self.namespaces.get(&namespace).and_then(|s| s.exchange_named(exchange));
        exchange.map_or(0, |exchange| exchange.bindings.len())
    }

    /// Adds to `out` whom a publish to `exchange` with `key` reaches. Follows exchange bindings
    /// and alternate exchanges; asks each exchange once.
    pub fn route(
        &self,
        namespace: NamespaceId,
        exchange: &[u8],
        key: &[u8],
        headers: &dyn Headers,
        out: &mut Matches,
    ) -> RouteOutcome {
        match self.namespaces.get(&namespace) {
            Some(space) => space.route(exchange, key, headers, out),
            None if is_predeclared(exchange) => RouteOutcome::Unroutable,
            None => RouteOutcome::NoSuchExchange,
        }
    }

    /// Adds to `out` whom a publish to a subject reaches: the same as a publish to `amq.topic`.
    /// `headers` matter only if `amq.topic` is bound to a headers exchange.
    pub fn route_subject(
        &self,
        namespace: NamespaceId,
        subject: &Subject,
        headers: &dyn Headers,
        out: &mut Matches,
    ) -> RouteOutcome {
        match self.namespaces.get(&namespace) {
            Some(space) => space.route_subject(subject, headers, out),
            None => RouteOutcome::Unroutable,
        }
    }

    fn space(&mut self, namespace: NamespaceId) -> &mut Namespace {
        self.namespaces.entry(namespace).or_insert_with(Namespace::new)
    }

    /// Counts the change if there was one.
    fn changed(&mut self, orphans: Option<Orphans>) -> Orphans {
        self.version += u64::from(orphans.is_some());
        orphans.unwrap_or_default()
    }
}
