//! What subjects are to whom, where users, rules and topics meet: the questions that a publish, a
//! subscription and a delivery ask, whichever protocol they come from. Decides, and changes nothing.
//!
//! A subject may also be a topic's name (`a/b` is the topic `a.b`). Then the topic's own rules are asked
//! as well: a right over subjects must not be a way round them.

use super::{Metadata, NamespaceId, StreamOwner, SubjectSession};
use crate::access::{Access, Action, Principal, Resource};
use crate::router::{Filter, FilterLevel, Subject};
use koine_base::StreamId;

impl SubjectSession {
    /// Whoever asks in its name while its client is not there, or for it in another's doing: its user as
    /// it is now. Its address is not known, so that a permission for one address says nothing.
    pub fn principal(&self, access: &Access) -> Principal {
        let user = self.user.as_deref();
        Principal {
            user: user.map(Into::into),
            generation: user.and_then(|name| access.user(name)).map_or(0, |user| user.generation),
            address: None,
            client_id: Some(self.client_id.as_str().into()),
        }
    }

    /// Whether there is still somebody whose it is. Without users it is everybody's.
    pub(crate) fn is_somebody(&self, access: &Access) -> bool {
        let user = self.user.as_deref().and_then(|name| access.user(name));
        user.is_some() || !access.is_secured()
    }
}

impl Metadata {
    /// Whether who may publish under the subject, to all that it reaches.
    pub fn may_publish(&self, who: &Principal, namespace: NamespaceId, subject: &Subject) -> bool {
        let resource = Resource::Subject { namespace, subject };
        self.access.authorize(who, Action::Write, &resource)
            && self.may_reach_topic(who, namespace, Action::Write, subject)
    }

    /// Whether who may subscribe to the filter. For one with wildcards the topics it may match are asked
    /// about when something is published; see [`TopicGuard`].
    pub fn may_subscribe(&self, who: &Principal, namespace: NamespaceId, filter: &Filter) -> bool {
        let resource = Resource::Filter { namespace, filter };
        if !self.access.authorize(who, Action::Read, &resource) {
            return false;
        }
        let is_exact = filter.levels().all(|level| matches!(level, FilterLevel::Exact(_)));
        let subject = filter.to_mqtt().filter(|_| is_exact && self.access.is_secured());
        let subject = subject.and_then(|text| Subject::from_mqtt(&text).ok());
        subject.is_none_or(|subject| self.may_reach_topic(who, namespace, Action::Read, &subject))
    }

    /// Whether who may do this to the topic that the subject names; if there is none there is nothing to
    /// refuse.
    pub fn may_reach_topic(
        &self,
        who: &Principal,
        namespace: NamespaceId,
        action: Action,
        subject: &Subject,
    ) -> bool {
        let guard = TopicGuard::new(self, namespace, subject);
        guard.is_none_or(|guard| guard.allows(who, action))
    }
}

/// Stands before a topic that messages reach, or leave, under its subject.
pub struct TopicGuard<'a> {
    metadata: &'a Metadata,
    namespace: NamespaceId,
    subject: &'a Subject,
    topic: String,
}

impl<'a> TopicGuard<'a> {
    /// `None`: nothing to guard. There are no users, or the subject is no topic's name.
    pub fn new(
        metadata: &'a Metadata,
        namespace: NamespaceId,
        subject: &'a Subject,
    ) -> Option<Self> {
        if !metadata.access.is_secured() {
            return None;
        }
        let topic = subject.to_topic_name()?;
        metadata.topic(namespace, &topic)?;
        Some(TopicGuard { metadata, namespace, subject, topic })
    }

    pub fn allows(&self, who: &Principal, action: Action) -> bool {
        let access = &self.metadata.access;
        access.subject_reaches_topic(who, self.namespace, action, self.subject, &self.topic)
    }

    /// Whether a session may be handed what the topic holds.
    pub fn lets_read(&self, session: &SubjectSession) -> bool {
        self.allows(&session.principal(&self.metadata.access), Action::Read)
    }

    /// Whether a stream may be given a copy. A shared subscription's only if every member may read it:
    /// whoever takes the next turn is not known yet. What is bound to a queue was judged when it was
    /// bound.
    pub fn lets_into(&self, stream: StreamId) -> bool {
        let Some(StreamOwner::Shared { namespace, group, filter }) =
            self.metadata.stream_owner(stream)
        else {
            return true;
        };
        let Some(shared) = self.metadata.shared(*namespace, group, filter) else { return false };
        let mut members = shared.members.iter();
        members.all(|id| self.metadata.session(*id).is_some_and(|member| self.lets_read(member)))
    }
}

#[cfg(test)]
mod tests;
