//! Metadata as bytes and back. Only the durable part travels; look-up tables and the router are rebuilt.

use super::{BindingSpec, Durable, Metadata, MetadataLimits, NamespaceId, StreamOwner};
use crate::access::{Access, DurableAccess};
use crate::router::Router;
use koine_base::{StreamId, TopicId};
use std::collections::{BTreeMap, HashMap};

/// What every look-up relies on: groups of both promises, and streams that lie in one of them.
fn is_sound(durable: &Durable) -> bool {
    let data = durable.groups.get(1..).unwrap_or_default();
    let has = |relaxed| data.iter().any(|group| group.relaxed == relaxed);
    let topics = durable.topics.values();
    let queues = durable.queues.values().map(|queue| queue.stream);
    let backlogs = durable.sessions.values().filter_map(|session| session.backlog());
    let shared = durable.shared.values().map(|shared| shared.stream());
    let mut streams = topics
        .clone()
        .flat_map(|topic| topic.streams.iter().copied())
        .chain(queues)
        .map(StreamId::from_raw)
        .chain(backlogs)
        .chain(shared);
    has(true)
        && has(false)
        && !durable.namespaces.is_empty()
        && topics.clone().all(|topic| !topic.streams.is_empty())
        && streams.all(|stream| usize::from(stream.group().0) < durable.groups.len())
}

impl Metadata {
    pub fn encode(&self) -> Vec<u8> {
        let bindings = self.all_bindings();
        postcard::to_allocvec(&(&self.durable, bindings, self.access.durable()))
            .expect("encoding to memory cannot fail")
    }

    /// `None` if the bytes are not a snapshot.
    pub fn decode(bytes: &[u8], limits: MetadataLimits) -> Option<Metadata> {
        type Bindings = Vec<(NamespaceId, BindingSpec)>;
        let (durable, bindings, access): (Durable, Bindings, DurableAccess) =
            postcard::from_bytes(bytes).ok()?;
        Self::from_durable(durable, bindings, access, limits)
    }

    pub(super) fn from_durable(
        durable: Durable,
        bindings: Vec<(NamespaceId, BindingSpec)>,
        access: DurableAccess,
        limits: MetadataLimits,
    ) -> Option<Metadata> {
        if !is_sound(&durable) {
            return None;
        }
        let mut metadata = Metadata {
            durable,
            access: Access::from_durable(access),
            limits,
            router: Router::new(),
            by_topic_id: HashMap::new(),
            streams: HashMap::new(),
            by_client: BTreeMap::new(),
            version: 0,
            rights_version: 0,
            revision: 0,
        };
        metadata.rebuild();
        metadata.rebuild_router(bindings)?;
        Some(metadata)
    }

    fn rebuild(&mut self) {
        for ((namespace, name), topic) in &self.durable.topics {
            self.by_topic_id.insert(TopicId(topic.id), (*namespace, name.clone()));
            for (partition, stream) in (0u32..).zip(topic.streams()) {
                let owner =
                    StreamOwner::Topic { namespace: *namespace, name: name.clone(), partition };
                self.streams.insert(stream, owner);
            }
        }
        for ((namespace, name), queue) in &self.durable.queues {
            self.by_topic_id.insert(TopicId(queue.id), (*namespace, name.clone()));
            let owner = StreamOwner::Queue { namespace: *namespace, name: name.clone() };
            self.streams.insert(queue.stream(), owner);
        }
        for (id, session) in &self.durable.sessions {
            self.by_client.insert((session.namespace, session.client_id.clone()), *id);
            if let Some(stream) = session.backlog() {
                self.streams.insert(stream, StreamOwner::Backlog { session: *id });
            }
        }
        for ((namespace, group, filter), shared) in &self.durable.shared {
            let owner = StreamOwner::Shared {
                namespace: *namespace,
                group: group.clone(),
                filter: filter.clone(),
            };
            self.streams.insert(StreamId::from_raw(shared.stream), owner);
        }
    }
}
