//! One exchange: its bindings and the table that answers a routing key. Knows targets only as
//! numbers; names and the graph between exchanges belong to the namespace.

use super::headers::{Arguments, HeaderMatch, Headers};
use super::ordered::OrderedMap;
use super::route::Found;
use super::subject::Filter;
use super::tree::SubjectTree;
use super::{ExchangeKind, Refusal, Subscriber, SubscriptionOptions};
use bytes::Bytes;
use koine_base::StreamId;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What a declaration fixes. Two declarations of one name must agree in all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExchangeSettings {
    pub kind: ExchangeKind,
    /// Outlives a restart: for metadata to act on.
    pub durable: bool,
    /// Goes with the last binding that has it as source; one that never had any stays.
    pub auto_delete: bool,
    /// Clients may not publish to it: for the session to refuse, bindings and dead letters may.
    pub internal: bool,
    /// Where a message goes that matches nothing here. May name an exchange that does not exist.
    pub alternate: Option<Bytes>,
}

impl ExchangeSettings {
    /// Durable and nothing else.
    pub fn new(kind: ExchangeKind) -> Self {
        ExchangeSettings {
            kind,
            durable: true,
            auto_delete: false,
            internal: false,
            alternate: None,
        }
    }
}

/// What stands at the far end of a table entry. Queues reached by a binding and by a subscription
/// are kept apart, so that taking one away leaves the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    Queue(StreamId),
    Exchange(u32),
    Subscriber(Subscriber),
}

/// A binding's identity, less its source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BindingKey {
    pub target: Target,
    pub key: Bytes,
    pub arguments: Arguments,
}

/// Targets of one table entry, each with the number of bindings that put it there: bindings that
/// differ only in what this kind of exchange does not look at share an entry.
type Targets = OrderedMap<Target, u32>;

#[derive(Debug)]
enum Table {
    Direct(HashMap<Bytes, Targets>),
    Fanout(Targets),
    Topic(SubjectTree<Target, SubscriptionOptions>),
    /// Bindings with equal arguments are asked once.
    Headers(BTreeMap<Arguments, (HeaderMatch, Targets)>),
}

#[derive(Debug)]
pub(super) struct Exchange {
    pub name: Bytes,
    pub settings: ExchangeSettings,
    /// Ordered by target first: all bindings to one target stand together.
    pub bindings: BTreeSet<BindingKey>,
    table: Table,
}

impl Exchange {
    pub(super) fn new(name: Bytes, settings: ExchangeSettings) -> Self {
        let table = match settings.kind {
            ExchangeKind::Direct => Table::Direct(HashMap::new()),
            ExchangeKind::Fanout => Table::Fanout(OrderedMap::new()),
            ExchangeKind::Topic => Table::Topic(SubjectTree::new()),
            ExchangeKind::Headers => Table::Headers(BTreeMap::new()),
        };
        Exchange { name, settings, bindings: BTreeSet::new(), table }
    }

    /// True if the binding is new. A refused binding leaves no trace.
    pub(super) fn bind(&mut self, binding: BindingKey) -> Result<bool, Refusal> {
        if self.bindings.contains(&binding) {
            return Ok(false);
        }
        let target = binding.target;
        match &mut self.table {
            Table::Direct(keys) => {
                count_in(keys.entry(binding.key.clone()).or_insert_with(OrderedMap::new), target);
            }
            Table::Fanout(targets) => count_in(targets, target),
            Table::Topic(tree) => {
                let filter = Filter::from_amqp(&binding.key).map_err(Refusal::BadFilter)?;
                tree.insert(&filter, target, SubscriptionOptions::default());
            }
            Table::Headers(groups) => match groups.get_mut(&binding.arguments) {
                Some((_, targets)) => count_in(targets, target),
                None => {
                    let wanted = HeaderMatch::parse(&binding.arguments)
                        .map_err(|_| Refusal::BadMatchMode)?;
                    let mut targets = OrderedMap::new();
                    count_in(&mut targets, target);
                    groups.insert(binding.arguments.clone(), (wanted, targets));
                }
            },
        }
        self.bindings.insert(binding);
        Ok(true)
    }

    /// True if there was such a binding. The table entry stays while another binding needs it.
    pub(super) fn unbind(&mut self, binding: &BindingKey) -> bool {
        if !self.bindings.remove(binding) {
            return false;
        }
        let target = binding.target;
        match &mut self.table {
            Table::Direct(keys) => {
                if let Some(targets) = keys.get_mut(&binding.key) {
                    count_out(targets, target);
                    if targets.is_empty() {
                        keys.remove(&binding.key);
                    }
                }
            }
            Table::Fanout(targets) => count_out(targets, target),
            Table::Topic(tree) => {
                let other = bindings_from(&self.bindings, target, binding.key.clone()).next();
                if other.is_some_and(|other| other.key == binding.key) {
                    return true;
                }
                if let Ok(filter) = Filter::from_amqp(&binding.key) {
                    tree.remove(&filter, target);
                }
            }
            Table::Headers(groups) => {
                if let Some((_, targets)) = groups.get_mut(&binding.arguments) {
                    count_out(targets, target);
                    if targets.is_empty() {
                        groups.remove(&binding.arguments);
                    }
                }
            }
        }
        true
    }

    pub(super) fn bindings_to(&self, target: Target) -> Vec<BindingKey> {
        bindings_from(&self.bindings, target, Bytes::new()).cloned().collect()
    }

    /// The tree of a topic exchange.
    pub(super) fn tree(&self) -> Option<&SubjectTree<Target, SubscriptionOptions>> {
        match &self.table {
            Table::Topic(tree) => Some(tree),
            _ => None,
        }
    }

    pub(super) fn tree_mut(&mut self) -> Option<&mut SubjectTree<Target, SubscriptionOptions>> {
        match &mut self.table {
            Table::Topic(tree) => Some(tree),
            _ => None,
        }
    }

    /// Adds what the message matches here; true if anything does.
    pub(super) fn collect(&self, headers: &dyn Headers, found: &mut Found<'_>) -> bool {
        let mut matched = false;
        match &self.table {
            Table::Direct(keys) => {
                if let Some(targets) = keys.get(found.spelling.amqp()) {
                    matched = true;
                    targets.for_each(|target, _| found.reached.add(*target, NO_OPTIONS));
                }
            }
            Table::Fanout(targets) => {
                matched = !targets.is_empty();
                targets.for_each(|target, _| found.reached.add(*target, NO_OPTIONS));
            }
            Table::Topic(tree) => {
                let reached = &mut found.reached;
                tree.matching_canonical(
                    found.spelling.canonical(),
                    found.scratch,
                    |target, options| {
                        matched = true;
                        reached.add(*target, *options);
                    },
                );
            }
            Table::Headers(groups) => {
                *found.headers_asked = true;
                for (wanted, targets) in groups.values() {
                    if wanted.matches(headers) {
                        matched = true;
                        targets.for_each(|target, _| found.reached.add(*target, NO_OPTIONS));
                    }
                }
            }
        }
        matched
    }
}

/// A queue or exchange has none; only subscriptions do.
const NO_OPTIONS: SubscriptionOptions = SubscriptionOptions {
    qos_max: 0,
    no_local: false,
    retain_as_published: false,
    retain_handling: 0,
    identifier: None,
};

fn count_in(targets: &mut Targets, target: Target) {
    let count = targets.get(&target).map_or(0, |count| *count);
    targets.insert(target, count + 1);
}

fn count_out(targets: &mut Targets, target: Target) {
    match targets.get(&target) {
        Some(count) if *count > 1 => {
            let count = count - 1;
            targets.insert(target, count);
        }
        _ => {
            targets.remove(&target);
        }
    }
}

/// Bindings to one target, from `key` on.
fn bindings_from(
    bindings: &BTreeSet<BindingKey>,
    target: Target,
    key: Bytes,
) -> impl Iterator<Item = &BindingKey> {
    let first = BindingKey { target, key, arguments: Arguments::NONE };
    bindings.range(first..).take_while(move |binding| binding.target == target)
}
