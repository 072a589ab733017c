//! Topics, queues, exchanges and bindings: placement of streams and the changes to the router.

use super::command::{
    BindingSpec, BindingTarget, Durability, ExchangeKind, ExchangeSpec, Outcome, QueueSpec,
    Refusal, SubscriptionOptions, TopicSettings,
};
use super::{Effects, Metadata, Named, NamespaceId, Queue, StreamOwner, Topic};
use crate::message::HeaderValue;
use crate::router::{self, Arguments, Destination, ExchangeSettings, Orphans, Subscriber};
use bytes::Bytes;
use koine_base::{GroupId, StreamId, TopicId};

/// The exchanges every namespace has (AMQP 0-9-1 §3.1.3.1 and RabbitMQ's `amq.match` twin).
pub const PREDECLARED: [(&str, ExchangeKind); 6] = [
    ("", ExchangeKind::Direct),
    ("amq.direct", ExchangeKind::Direct),
    ("amq.fanout", ExchangeKind::Fanout),
    ("amq.topic", ExchangeKind::Topic),
    ("amq.headers", ExchangeKind::Headers),
    ("amq.match", ExchangeKind::Headers),
];

pub(super) fn predeclared(name: &str) -> Option<ExchangeSpec> {
    let (_, kind) = PREDECLARED.iter().find(|(predeclared, _)| *predeclared == name)?;
    Some(ExchangeSpec {
        kind: *kind,
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: Vec::new(),
    })
}

impl Metadata {
    /// Picks the group with the fewest streams among those that keep the promise.
    pub(super) fn place_stream(&mut self, durability: Durability, owner: StreamOwner) -> StreamId {
        let relaxed = durability != Durability::Fsync;
        let (number, group) = (1u16..)
            .zip(self.durable.groups.iter_mut().skip(1))
            .filter(|(_, group)| group.relaxed == relaxed)
            .min_by_key(|(number, group)| (group.stream_count, *number))
            .expect("the layout of every node has groups of both classes");
        let stream = StreamId::new(GroupId(number), group.next_sequence);
        group.next_sequence += 1;
        group.stream_count += 1;
        self.streams.insert(stream, owner);
        stream
    }

    pub(super) fn remove_stream(&mut self, stream: StreamId, effects: &mut Effects) {
        if self.streams.remove(&stream).is_some() {
            self.durable.groups[usize::from(stream.group().0)].stream_count -= 1;
            effects.deleted_streams.push(stream);
        }
    }

    fn check_name(&self, name: &str) -> Result<(), Refusal> {
        if name.is_empty() || name.len() > self.limits.name_bytes_max {
            return Err(Refusal::InvalidName);
        }
        Ok(())
    }

    pub(super) fn create_topic(
        &mut self,
        namespace: NamespaceId,
        name: String,
        partitions: u32,
        settings: TopicSettings,
        id: [u8; 16],
    ) -> Result<Outcome, Refusal> {
        self.check_name(&name)?;
        if self.named(namespace, &name).is_some() {
            return Err(Refusal::AlreadyExists);
        }
        if partitions == 0 || partitions > self.limits.partitions_max {
            return Err(Refusal::InvalidPartitions);
        }
        if self.streams.len() + partitions as usize > self.limits.objects_max {
            return Err(Refusal::QuotaExceeded);
        }
        if id == [0; 16] || self.by_topic_id.contains_key(&TopicId(id)) {
            return Err(Refusal::InvalidSettings);
        }
        let durability = settings.durability.unwrap_or(Durability::Fsync);
        let streams: Vec<StreamId> = (0..partitions)
            .map(|partition| self.place_partition(namespace, &name, partition, durability))
            .collect();
        let raw = streams.iter().map(|stream| stream.raw()).collect();
        self.by_topic_id.insert(TopicId(id), (namespace, name.clone()));
        let first_producer = self.durable.next_producer_id;
        let topic = Topic { id, streams: raw, settings, first_producer };
        self.durable.topics.insert((namespace, name), topic);
        Ok(Outcome::TopicCreated { id: TopicId(id), streams })
    }

    fn place_partition(
        &mut self,
        namespace: NamespaceId,
        name: &str,
        partition: u32,
        durability: Durability,
    ) -> StreamId {
        let owner = StreamOwner::Topic { namespace, name: name.to_owned(), partition };
        self.place_stream(durability, owner)
    }

    pub(super) fn delete_topic(
        &mut self,
        namespace: NamespaceId,
        name: String,
        effects: &mut Effects,
    ) -> Result<Outcome, Refusal> {
        let topic = self.durable.topics.remove(&(namespace, name)).ok_or(Refusal::NotFound)?;
        self.by_topic_id.remove(&topic.id());
        for stream in topic.streams() {
            let orphans = self.router.remove_queue(namespace, stream);
            self.drop_orphans(namespace, orphans);
            self.remove_stream(stream, effects);
        }
        Ok(Outcome::Deleted { existed: true })
    }

    pub(super) fn add_partitions(
        &mut self,
        namespace: NamespaceId,
        name: String,
        total: u32,
    ) -> Result<Outcome, Refusal> {
        let key = (namespace, name.clone());
        let topic = self.durable.topics.get(&key).ok_or(Refusal::NotFound)?;
        let count = topic.partition_count();
        if total <= count || total > self.limits.partitions_max {
            return Err(Refusal::InvalidPartitions);
        }
        if self.streams.len() + (total - count) as usize > self.limits.objects_max {
            return Err(Refusal::QuotaExceeded);
        }
        let durability = topic.settings.durability.unwrap_or(Durability::Fsync);
        for partition in count..total {
            let stream = self.place_partition(namespace, &name, partition, durability);
            let topic = self.durable.topics.get_mut(&key).expect("looked up above");
            topic.streams.push(stream.raw());
        }
        Ok(Outcome::Done)
    }

    pub(super) fn alter_topic(
        &mut self,
        namespace: NamespaceId,
        name: String,
        settings: TopicSettings,
    ) -> Result<Outcome, Refusal> {
        let topic = self.durable.topics.get_mut(&(namespace, name)).ok_or(Refusal::NotFound)?;
        if topic.settings.durability != settings.durability {
            return Err(Refusal::InvalidSettings);
        }
        topic.settings = settings;
        Ok(Outcome::Done)
    }

    pub(super) fn declare_queue(
        &mut self,
        namespace: NamespaceId,
        name: String,
        spec: QueueSpec,
        id: [u8; 16],
    ) -> Result<Outcome, Refusal> {
        self.check_name(&name)?;
        match self.named(namespace, &name) {
            Some(Named::Topic(topic)) => {
                let stream = topic.stream(0).expect("a topic has a first partition");
                return Ok(Outcome::QueueDeclared { stream, created: false });
            }
            Some(Named::Queue(queue)) => {
                return Ok(Outcome::QueueDeclared { stream: queue.stream(), created: false });
            }
            None => {}
        }
        if self.streams.len() >= self.limits.objects_max {
            return Err(Refusal::QuotaExceeded);
        }
        if id == [0; 16] || self.by_topic_id.contains_key(&TopicId(id)) {
            return Err(Refusal::InvalidSettings);
        }
        let kept = spec.durable && spec.exclusive.is_none();
        let durability = if kept { Durability::Fsync } else { Durability::Memory };
        let owner = StreamOwner::Queue { namespace, name: name.clone() };
        let stream = self.place_stream(durability, owner);
        self.router
            .declare_queue(namespace, name.as_bytes(), stream)
            .expect("name and stream are new");
        self.by_topic_id.insert(TopicId(id), (namespace, name.clone()));
        let queue = Queue { stream: stream.raw(), id, spec };
        self.durable.queues.insert((namespace, name), queue);
        Ok(Outcome::QueueDeclared { stream, created: true })
    }

    pub(super) fn delete_queue(
        &mut self,
        namespace: NamespaceId,
        name: String,
        effects: &mut Effects,
    ) -> Outcome {
        let Some(queue) = self.durable.queues.remove(&(namespace, name.clone())) else {
            return Outcome::Deleted { existed: false };
        };
        self.by_topic_id.remove(&queue.id());
        let orphans = self.router.remove_queue(namespace, queue.stream());
        self.drop_orphans(namespace, orphans);
        self.remove_stream(queue.stream(), effects);
        Outcome::Deleted { existed: true }
    }

    /// Auto-delete exchanges go with their last binding as a source, which may orphan others.
    fn drop_orphans(&mut self, namespace: NamespaceId, mut orphans: Orphans) {
        while let Some(name) = orphans.pop() {
            orphans.extend(self.drop_exchange(namespace, &String::from_utf8_lossy(&name)));
        }
    }

    fn drop_exchange(&mut self, namespace: NamespaceId, name: &str) -> Orphans {
        self.durable.exchanges.remove(&(namespace, name.to_owned()));
        // Predeclared ones never get here, and no other exchange is refused.
        self.router.delete_exchange(namespace, name.as_bytes()).unwrap_or_default()
    }

    pub(super) fn declare_exchange(
        &mut self,
        namespace: NamespaceId,
        name: String,
        spec: ExchangeSpec,
    ) -> Result<Outcome, Refusal> {
        self.check_name(&name)?;
        if let Some(old) = self.exchange(namespace, &name) {
            return if old == spec { Ok(Outcome::Done) } else { Err(Refusal::AlreadyExists) };
        }
        if self.durable.exchanges.len() >= self.limits.objects_max {
            return Err(Refusal::QuotaExceeded);
        }
        self.router
            .declare_exchange(namespace, name.as_bytes(), settings(&spec))
            .map_err(|_| Refusal::QuotaExceeded)?;
        self.durable.exchanges.insert((namespace, name), spec);
        Ok(Outcome::Done)
    }

    pub(super) fn delete_exchange(
        &mut self,
        namespace: NamespaceId,
        name: String,
        if_unused: bool,
    ) -> Result<Outcome, Refusal> {
        if predeclared(&name).is_some() {
            return Err(Refusal::Predeclared);
        }
        if !self.durable.exchanges.contains_key(&(namespace, name.clone())) {
            return Ok(Outcome::Deleted { existed: false });
        }
        let bound = self.router.source_binding_count(namespace, name.as_bytes()) > 0;
        if if_unused && bound {
            return Err(Refusal::InUse);
        }
        let orphans = self.drop_exchange(namespace, &name);
        self.drop_orphans(namespace, orphans);
        Ok(Outcome::Deleted { existed: true })
    }

    fn destination(
        &self,
        namespace: NamespaceId,
        target: &BindingTarget,
    ) -> Result<Destination, Refusal> {
        match target {
            BindingTarget::Queue(name) => {
                // A topic can be bound like a queue: its first partition receives.
                let stream = self.named(namespace, name).and_then(|named| named.stream(0));
                stream.map(Destination::Queue).ok_or(Refusal::NotFound)
            }
            BindingTarget::Exchange(name) => {
                self.exchange(namespace, name).ok_or(Refusal::NotFound)?;
                Ok(Destination::Exchange(Bytes::copy_from_slice(name.as_bytes())))
            }
        }
    }

    pub(super) fn bind(
        &mut self,
        namespace: NamespaceId,
        binding: BindingSpec,
    ) -> Result<Outcome, Refusal> {
        self.exchange(namespace, &binding.source).ok_or(Refusal::NotFound)?;
        if binding.source.is_empty() || binding.target == BindingTarget::Exchange(String::new()) {
            return Err(Refusal::Predeclared);
        }
        let destination = self.destination(namespace, &binding.target)?;
        self.router
            .bind_to(
                namespace,
                binding.source.as_bytes(),
                &destination,
                &binding.key,
                arguments(&binding.arguments),
            )
            .map_err(refusal)?;
        Ok(Outcome::Done)
    }

    pub(super) fn unbind(
        &mut self,
        namespace: NamespaceId,
        binding: BindingSpec,
    ) -> Result<Outcome, Refusal> {
        if binding.source.is_empty() {
            return Err(Refusal::Predeclared);
        }
        let Ok(destination) = self.destination(namespace, &binding.target) else {
            return Ok(Outcome::Done);
        };
        let orphans = self.router.unbind_from(
            namespace,
            binding.source.as_bytes(),
            &destination,
            &binding.key,
            arguments(&binding.arguments),
        );
        self.drop_orphans(namespace, orphans);
        Ok(Outcome::Done)
    }

    /// Queues and exchanges that do not outlive the node's life go.
    pub(super) fn drop_transient(&mut self, effects: &mut Effects) {
        let queues: Vec<_> = self
            .durable
            .queues
            .iter()
            .filter(|(_, queue)| !queue.spec.durable || queue.spec.exclusive.is_some())
            .map(|(key, _)| key.clone())
            .collect();
        for (namespace, name) in queues {
            self.delete_queue(namespace, name, effects);
        }
        let exchanges: Vec<_> = self
            .durable
            .exchanges
            .iter()
            .filter(|(_, spec)| !spec.durable)
            .map(|(key, _)| key.clone())
            .collect();
        for (namespace, name) in exchanges {
            let orphans = self.drop_exchange(namespace, &name);
            self.drop_orphans(namespace, orphans);
        }
    }

    pub(super) fn release_connection(&mut self, connection: u64, effects: &mut Effects) {
        let queues: Vec<_> = self
            .durable
            .queues
            .iter()
            .filter(|(_, queue)| queue.spec.exclusive == Some(connection))
            .map(|(key, _)| key.clone())
            .collect();
        for (namespace, name) in queues {
            self.delete_queue(namespace, name, effects);
        }
    }

    /// `None` if something in it could not have come to be.
    pub(super) fn rebuild_router(
        &mut self,
        bindings: Vec<(NamespaceId, BindingSpec)>,
    ) -> Option<()> {
        for ((namespace, name), spec) in &self.durable.exchanges {
            self.router.declare_exchange(*namespace, name.as_bytes(), settings(spec)).ok()?;
        }
        for ((namespace, name), queue) in &self.durable.queues {
            self.router.declare_queue(*namespace, name.as_bytes(), queue.stream()).ok()?;
        }
        for (namespace, binding) in bindings {
            self.bind(namespace, binding).ok()?;
        }
        self.rebuild_subscriptions()
    }

    fn rebuild_subscriptions(&mut self) -> Option<()> {
        for (id, session) in &self.durable.sessions {
            for (filter, options) in &session.subscriptions {
                if super::sessions::split_shared(filter).is_some() {
                    continue;
                }
                let parsed = router::Filter::from_mqtt(filter).ok()?;
                self.router
                    .subscribe(session.namespace, Subscriber::Session(*id), parsed, *options)
                    .ok()?;
            }
        }
        for ((namespace, _, filter), shared) in &self.durable.shared {
            let parsed = router::Filter::from_mqtt(filter).ok()?;
            let subscriber = Subscriber::Queue(shared.stream());
            self.router
                .subscribe(*namespace, subscriber, parsed, SubscriptionOptions::default())
                .ok()?;
        }
        Some(())
    }

    /// Every binding with its namespace, in order of namespace, source and target.
    pub(super) fn all_bindings(&self) -> Vec<(NamespaceId, BindingSpec)> {
        let namespaces = 0..self.durable.namespaces.len();
        let namespaces = namespaces.map(|index| NamespaceId(u32::try_from(index).expect("few")));
        namespaces
            .flat_map(|namespace| self.bindings(namespace).into_iter().map(move |b| (namespace, b)))
            .collect()
    }

    /// In order of source and target.
    pub fn bindings(&self, namespace: NamespaceId) -> Vec<BindingSpec> {
        let predeclared = PREDECLARED.iter().map(|(name, _)| (*name).to_owned());
        let declared = self.exchanges(namespace).map(|(name, _)| name.to_owned());
        let sources = predeclared.chain(declared);
        sources.flat_map(|source| self.bindings_from(namespace, &source)).collect()
    }

    pub fn bindings_from(&self, namespace: NamespaceId, source: &str) -> Vec<BindingSpec> {
        let bindings = self.router.bindings_from(namespace, source.as_bytes());
        bindings.into_iter().filter_map(|binding| self.spec(binding)).collect()
    }

    fn spec(&self, binding: router::Binding) -> Option<BindingSpec> {
        let target = match &binding.destination {
            Destination::Exchange(name) => {
                BindingTarget::Exchange(String::from_utf8_lossy(name).into_owned())
            }
            Destination::Queue(stream) => match self.stream_owner(*stream)? {
                StreamOwner::Queue { name, .. } | StreamOwner::Topic { name, .. } => {
                    BindingTarget::Queue(name.clone())
                }
                StreamOwner::Backlog { .. } | StreamOwner::Shared { .. } => return None,
            },
        };
        let arguments =
            binding.arguments.as_slice().iter().map(|(name, value)| {
                (String::from_utf8_lossy(name).into_owned(), stored_value(value))
            });
        Some(BindingSpec {
            source: String::from_utf8_lossy(&binding.source).into_owned(),
            target,
            key: binding.key.to_vec(),
            arguments: arguments.collect(),
        })
    }
}

fn settings(spec: &ExchangeSpec) -> ExchangeSettings {
    ExchangeSettings {
        kind: spec.kind,
        durable: spec.durable,
        auto_delete: spec.auto_delete,
        internal: spec.internal,
        alternate: None,
    }
}

fn refusal(refused: router::Refusal) -> Refusal {
    match refused {
        router::Refusal::NoSuchExchange => Refusal::NotFound,
        router::Refusal::Predeclared => Refusal::Predeclared,
        router::Refusal::Inequivalent => Refusal::AlreadyExists,
        router::Refusal::TooLong => Refusal::InvalidName,
        router::Refusal::BadFilter(_) | router::Refusal::BadMatchMode => Refusal::InvalidSettings,
        router::Refusal::TooManyExchanges
        | router::Refusal::TooManyBindings
        | router::Refusal::TooManySubscriptions => Refusal::QuotaExceeded,
    }
}

fn arguments(arguments: &[(String, HeaderValue)]) -> Arguments {
    let routed = arguments.iter().map(|(name, value)| {
        let value = match value {
            HeaderValue::Void => router::HeaderValue::Void,
            HeaderValue::Bool(value) => router::HeaderValue::Bool(*value),
            HeaderValue::Int(value) => router::HeaderValue::Int(*value),
            HeaderValue::Float(value) => router::HeaderValue::Float(*value),
            HeaderValue::Text(text) => router::HeaderValue::Bytes(Bytes::from(text.clone())),
            HeaderValue::Bytes(bytes) => router::HeaderValue::Bytes(Bytes::from(bytes.clone())),
            HeaderValue::Timestamp(ms) => router::HeaderValue::Timestamp(*ms),
            HeaderValue::Nested(raw) => router::HeaderValue::Nested(Bytes::from(raw.clone())),
        };
        (name.clone().into_bytes(), value)
    });
    Arguments::new(routed.collect())
}

/// Text and bytes are one to the router, so text comes back where it is text.
fn stored_value(value: &router::HeaderValue) -> HeaderValue {
    match value {
        router::HeaderValue::Void => HeaderValue::Void,
        router::HeaderValue::Bool(value) => HeaderValue::Bool(*value),
        router::HeaderValue::Int(value) => HeaderValue::Int(*value),
        router::HeaderValue::Float(value) => HeaderValue::Float(*value),
        router::HeaderValue::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => HeaderValue::Text(text.to_owned()),
            Err(_) => HeaderValue::Bytes(bytes.to_vec()),
        },
        router::HeaderValue::Timestamp(ms) => HeaderValue::Timestamp(*ms),
        router::HeaderValue::Nested(raw) => HeaderValue::Nested(raw.to_vec()),
    }
}
