//! One namespace: its exchanges by name, the graph between them, the implicit bindings of the
//! default exchange and who subscribes to what. Changes are all or nothing.

use super::exchange::{BindingKey, Exchange, ExchangeSettings, Target};
use super::headers::Arguments;
use super::subject::Filter;
use super::{
    Binding, Declared, Destination, ExchangeKind, Refusal, Subscribed, Subscriber,
    SubscriptionOptions, ARGUMENTS_BYTES_MAX, BINDINGS_PER_EXCHANGE_MAX, EXCHANGES_MAX,
    NAME_BYTES_MAX, SUBSCRIPTIONS_PER_SUBSCRIBER_MAX,
};
use bytes::Bytes;
use koine_base::StreamId;
use std::collections::{BTreeMap, HashMap};

/// The slot of `amq.topic`, the subject space.
pub(super) const TOPIC_SLOT: u32 = 0;

/// Exchanges that every namespace has; the first stands in [`TOPIC_SLOT`].
pub(super) const PREDECLARED: [(&[u8], ExchangeKind); 5] = [
    (b"amq.topic", ExchangeKind::Topic),
    (b"amq.direct", ExchangeKind::Direct),
    (b"amq.fanout", ExchangeKind::Fanout),
    (b"amq.headers", ExchangeKind::Headers),
    (b"amq.match", ExchangeKind::Headers),
];

#[derive(Debug)]
pub(super) struct Namespace {
    slots: HashMap<Bytes, u32>,
    exchanges: Vec<Option<Exchange>>,
    free: Vec<u32>,
    queues: HashMap<Bytes, StreamId>,
    queue_names: BTreeMap<StreamId, Bytes>,
    /// For each target of bindings: its source exchanges and how many bindings come from each.
    sources: BTreeMap<Target, BTreeMap<u32, u32>>,
    /// Sorted filters of each subscriber; their options stand in the tree.
    subscriptions: BTreeMap<Subscriber, Vec<Filter>>,
}

impl Namespace {
    pub(super) fn new() -> Self {
        let mut namespace = Namespace {
            slots: HashMap::new(),
            exchanges: Vec::new(),
            free: Vec::new(),
            queues: HashMap::new(),
            queue_names: BTreeMap::new(),
            sources: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
        };
        for (name, kind) in PREDECLARED {
            namespace.add_exchange(Bytes::from_static(name), ExchangeSettings::new(kind));
        }
        namespace
    }

    pub(super) fn slot(&self, name: &[u8]) -> Option<u32> {
        self.slots.get(name).copied()
    }

    pub(super) fn exchange(&self, slot: u32) -> Option<&Exchange> {
        self.exchanges.get(slot as usize)?.as_ref()
    }

    fn exchange_mut(&mut self, slot: u32) -> Option<&mut Exchange> {
        self.exchanges.get_mut(slot as usize)?.as_mut()
    }

    pub(super) fn exchange_named(&self, name: &[u8]) -> Option<&Exchange> {
        self.exchange(self.slot(name)?)
    }

    /// By name.
    pub(super) fn exchanges(&self) -> Vec<(Bytes, ExchangeSettings)> {
        let mut all: Vec<_> = self
            .exchanges
            .iter()
            .flatten()
            .map(|exchange| (exchange.name.clone(), exchange.settings.clone()))
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    pub(super) fn queue(&self, name: &[u8]) -> Option<StreamId> {
        self.queues.get(name).copied()
    }

    pub(super) fn declare_queue(
        &mut self,
        name: &[u8],
        stream: StreamId,
    ) -> Result<Declared, Refusal> {
        check_name(name)?;
        match (self.queue(name), self.queue_names.get(&stream)) {
            (Some(held), _) if held == stream => return Ok(Declared::Existing),
            (None, None) => {}
            _ => return Err(Refusal::Inequivalent),
        }
        let name = Bytes::copy_from_slice(name);
        self.queues.insert(name.clone(), stream);
        self.queue_names.insert(stream, name);
        Ok(Declared::New)
    }

    /// `None` if nothing here knew the stream, else the exchanges that lost their last binding.
    pub(super) fn remove_queue(&mut self, stream: StreamId) -> Option<Vec<Bytes>> {
        let named = self.queue_names.remove(&stream);
        if let Some(name) = &named {
            self.queues.remove(name);
        }
        let subscriptions = self.remove_subscriber(Subscriber::Queue(stream));
        let orphans = self.unbind_target(Target::Queue(stream));
        let known = named.is_some() || subscriptions > 0 || orphans.is_some();
        known.then(|| orphans.unwrap_or_default())
    }

    pub(super) fn declare_exchange(
        &mut self,
        name: &[u8],
        settings: ExchangeSettings,
    ) -> Result<Declared, Refusal> {
        if name.is_empty() {
            return Err(Refusal::Predeclared);
        }
        check_name(name)?;
        if let Some(alternate) = &settings.alternate {
            check_name(alternate)?;
        }
        if let Some(exchange) = self.exchange_named(name) {
            return if exchange.settings == settings {
                Ok(Declared::Existing)
            } else {
                Err(Refusal::Inequivalent)
            };
        }
        if self.slots.len() >= EXCHANGES_MAX {
            return Err(Refusal::TooManyExchanges);
        }
        self.add_exchange(Bytes::copy_from_slice(name), settings);
        Ok(Declared::New)
    }

    fn add_exchange(&mut self, name: Bytes, settings: ExchangeSettings) {
        let exchange = Exchange::new(name.clone(), settings);
        let slot = match self.free.pop() {
            Some(slot) => {
                self.exchanges[slot as usize] = Some(exchange);
                slot
            }
            None => {
                self.exchanges.push(Some(exchange));
                // EXCHANGES_MAX keeps slots far below 2^32.
                (self.exchanges.len() - 1) as u32
            }
        };
        self.slots.insert(name, slot);
    }

    /// `Ok(None)` if there is no such exchange.
    pub(super) fn delete_exchange(&mut self, name: &[u8]) -> Result<Option<Vec<Bytes>>, Refusal> {
        if is_predeclared(name) {
            return Err(Refusal::Predeclared);
        }
        let Some(slot) = self.slots.remove(name) else {
            return Ok(None);
        };
        let exchange = self.exchanges[slot as usize].take();
        self.free.push(slot);
        for binding in exchange.iter().flat_map(|exchange| &exchange.bindings) {
            self.uncount(binding.target, slot, 1);
        }
        // Bindings to the exchange go after those from it: one to itself is gone by then.
        Ok(Some(self.unbind_target(Target::Exchange(slot)).unwrap_or_default()))
    }

    pub(super) fn set_alternate(
        &mut self,
        name: &[u8],
        alternate: Option<Bytes>,
    ) -> Result<bool, Refusal> {
        if let Some(alternate) = &alternate {
            check_name(alternate)?;
        }
        let slot = self.slot(name).ok_or(Refusal::NoSuchExchange)?;
        let exchange = self.exchange_mut(slot).ok_or(Refusal::NoSuchExchange)?;
        let changed = exchange.settings.alternate != alternate;
        exchange.settings.alternate = alternate;
        Ok(changed)
    }

    /// The target of a binding; refuses the default exchange, which takes none.
    pub(super) fn target(&self, destination: &Destination) -> Result<Target, Refusal> {
        match destination {
            Destination::Queue(stream) => Ok(Target::Queue(*stream)),
            Destination::Exchange(name) if name.is_empty() => Err(Refusal::Predeclared),
            Destination::Exchange(name) => {
                self.slot(name).map(Target::Exchange).ok_or(Refusal::NoSuchExchange)
            }
        }
    }

    /// True if the binding is new.
    pub(super) fn bind(
        &mut self,
        source: &[u8],
        target: Target,
        key: &[u8],
        arguments: Arguments,
    ) -> Result<bool, Refusal> {
        if source.is_empty() {
            return Err(Refusal::Predeclared);
        }
        check_name(key)?;
        if arguments.size() > ARGUMENTS_BYTES_MAX {
            return Err(Refusal::TooLong);
        }
        let slot = self.slot(source).ok_or(Refusal::NoSuchExchange)?;
        let exchange = self.exchange_mut(slot).ok_or(Refusal::NoSuchExchange)?;
        let binding = BindingKey { target, key: Bytes::copy_from_slice(key), arguments };
        if exchange.bindings.len() >= BINDINGS_PER_EXCHANGE_MAX
            && !exchange.bindings.contains(&binding)
        {
            return Err(Refusal::TooManyBindings);
        }
        let new = exchange.bind(binding)?;
        if new {
            *self.sources.entry(target).or_default().entry(slot).or_default() += 1;
        }
        Ok(new)
    }

    /// `None` if there was no such binding, else the source if it has to go with it.
    pub(super) fn unbind(
        &mut self,
        source: &[u8],
        target: Target,
        key: &[u8],
        arguments: Arguments,
    ) -> Option<Vec<Bytes>> {
        let slot = self.slot(source)?;
        let exchange = self.exchange_mut(slot)?;
        let binding = BindingKey { target, key: Bytes::copy_from_slice(key), arguments };
        if !exchange.unbind(&binding) {
            return None;
        }
        let orphan = orphaned(exchange);
        self.uncount(target, slot, 1);
        Some(orphan.into_iter().collect())
    }

    /// Takes away every binding to `target`; `None` if there is none.
    fn unbind_target(&mut self, target: Target) -> Option<Vec<Bytes>> {
        let sources = self.sources.remove(&target)?;
        let mut orphans = Vec::new();
        for slot in sources.into_keys() {
            let Some(exchange) = self.exchange_mut(slot) else {
                continue;
            };
            for binding in exchange.bindings_to(target) {
                exchange.unbind(&binding);
            }
            orphans.extend(orphaned(exchange));
        }
        orphans.sort();
        Some(orphans)
    }

    fn uncount(&mut self, target: Target, source: u32, count: u32) {
        let Some(sources) = self.sources.get_mut(&target) else {
            return;
        };
        if let Some(held) = sources.get_mut(&source) {
            *held = held.saturating_sub(count);
            if *held == 0 {
                sources.remove(&source);
            }
        }
        if sources.is_empty() {
            self.sources.remove(&target);
        }
    }

    /// Bindings that leave an exchange, in order.
    pub(super) fn bindings_from(&self, source: &[u8]) -> Vec<Binding> {
        let Some(exchange) = self.exchange_named(source) else {
            return Vec::new();
        };
        let bindings = exchange.bindings.iter();
        let mut all: Vec<_> = bindings.filter_map(|held| self.binding(exchange, held)).collect();
        // By name, not by slot: slots depend on what was deleted before.
        all.sort();
        all
    }

    /// Bindings that reach a target, in order.
    pub(super) fn bindings_to(&self, target: Target) -> Vec<Binding> {
        let mut all: Vec<Binding> = self
            .sources
            .get(&target)
            .into_iter()
            .flat_map(|sources| sources.keys())
            .filter_map(|slot| self.exchange(*slot))
            .flat_map(|exchange| {
                let bindings = exchange.bindings_to(target);
                bindings.into_iter().filter_map(|binding| self.binding(exchange, &binding))
            })
            .collect();
        all.sort();
        all
    }

    fn binding(&self, source: &Exchange, binding: &BindingKey) -> Option<Binding> {
        let destination = match binding.target {
            Target::Queue(stream) => Destination::Queue(stream),
            Target::Exchange(slot) => Destination::Exchange(self.exchange(slot)?.name.clone()),
            Target::Subscriber(_) => return None,
        };
        Some(Binding {
            source: source.name.clone(),
            destination,
            key: binding.key.clone(),
            arguments: binding.arguments.clone(),
        })
    }

    pub(super) fn subscribe(
        &mut self,
        subscriber: Subscriber,
        filter: Filter,
        options: SubscriptionOptions,
    ) -> Result<Subscribed, Refusal> {
        let held = self.subscriptions.get(&subscriber);
        let place = held.map_or(Err(0), |filters| filters.binary_search(&filter));
        if place.is_err() && held.map_or(0, Vec::len) >= SUBSCRIPTIONS_PER_SUBSCRIBER_MAX {
            return Err(Refusal::TooManySubscriptions);
        }
        let tree = self.exchange_mut(TOPIC_SLOT).and_then(Exchange::tree_mut);
        let tree = tree.ok_or(Refusal::NoSuchExchange)?;
        tree.insert(&filter, Target::Subscriber(subscriber), options);
        match place {
            Ok(_) => Ok(Subscribed::Replaced),
            Err(index) => {
                self.subscriptions.entry(subscriber).or_default().insert(index, filter);
                Ok(Subscribed::New)
            }
        }
    }

    pub(super) fn unsubscribe(&mut self, subscriber: Subscriber, filter: &Filter) -> bool {
        let Some(filters) = self.subscriptions.get_mut(&subscriber) else {
            return false;
        };
        let Ok(index) = filters.binary_search(filter) else {
            return false;
        };
        filters.remove(index);
        if filters.is_empty() {
            self.subscriptions.remove(&subscriber);
        }
        if let Some(tree) = self.exchange_mut(TOPIC_SLOT).and_then(Exchange::tree_mut) {
            tree.remove(filter, Target::Subscriber(subscriber));
        }
        true
    }

    /// How many subscriptions went.
    pub(super) fn remove_subscriber(&mut self, subscriber: Subscriber) -> usize {
        let filters = self.subscriptions.remove(&subscriber).unwrap_or_default();
        if let Some(tree) = self.exchange_mut(TOPIC_SLOT).and_then(Exchange::tree_mut) {
            for filter in &filters {
                tree.remove(filter, Target::Subscriber(subscriber));
            }
        }
        filters.len()
    }

    /// In order of style, then spelling.
    pub(super) fn subscriptions_of(
        &self,
        subscriber: Subscriber,
    ) -> Vec<(Filter, SubscriptionOptions)> {
        let Some(tree) = self.exchange(TOPIC_SLOT).and_then(Exchange::tree) else {
            return Vec::new();
        };
        let filters = self.subscriptions.get(&subscriber).into_iter().flatten();
        filters
            .filter_map(|filter| {
                let options = tree.get(filter, Target::Subscriber(subscriber))?;
                Some((filter.clone(), *options))
            })
            .collect()
    }
}

/// The name of an exchange that must go because its last binding just did.
fn orphaned(exchange: &Exchange) -> Option<Bytes> {
    (exchange.settings.auto_delete && exchange.bindings.is_empty()).then(|| exchange.name.clone())
}

/// True for the default exchange and those that every namespace has.
pub(super) fn is_predeclared(name: &[u8]) -> bool {
    name.is_empty() || PREDECLARED.iter().any(|(held, _)| *held == name)
}

fn check_name(name: &[u8]) -> Result<(), Refusal> {
    if name.len() > NAME_BYTES_MAX {
        return Err(Refusal::TooLong);
    }
    Ok(())
}
