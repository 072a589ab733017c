//! Subject sessions (MQTT sessions): opening and take-over, subscriptions, shared subscriptions, wills
//! and expiry.

use super::command::{Outcome, Refusal, SessionId, SubscriptionOptions, Will, EXPIRY_NEVER};
use super::{Durability, Effects, Metadata, NamespaceId, StreamOwner};
use crate::once::OnceId;
use crate::router::{Filter, Subscriber};
use koine_base::StreamId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A client's state that may outlive its connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubjectSession {
    pub namespace: NamespaceId,
    pub client_id: String,
    /// Whose it is; `None` if it was opened on a node without users. Who asks in its name when its
    /// client is not there.
    pub user: Option<String>,
    /// Raw id of the connection that has it now.
    pub connection: Option<u64>,
    /// Kept this long after its connection ends, milliseconds.
    pub expiry_ms: u64,
    /// When it ends, once disconnected; wall-clock milliseconds.
    pub expires_at: Option<i64>,
    pub will: Option<Will>,
    /// When its will is due; set at the end of the connection.
    pub will_at: Option<i64>,
    pub(super) backlog: Option<u64>,
    pub subscriptions: BTreeMap<String, SubscriptionOptions>,
    /// Packet identifiers under which the client publishes exactly once and has not released yet, each
    /// with the number of its use: a second publish under one of them is a repetition. Noted before
    /// anything is stored.
    pub received: BTreeMap<u16, u64>,
    /// Packet identifiers under which the client was sent something exactly once from a stream that is
    /// not its own, and which it is to be told to release when it comes back.
    pub unreleased: BTreeSet<u16>,
}

impl SubjectSession {
    /// The stream that keeps what waits for it; made with its first subscription of QoS 1 or 2.
    pub fn backlog(&self) -> Option<StreamId> {
        self.backlog.map(StreamId::from_raw)
    }
}

/// The members of a shared subscription and the stream they take turns on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SharedGroup {
    pub(super) stream: u64,
    pub members: BTreeSet<SessionId>,
}

impl SharedGroup {
    pub fn stream(&self) -> StreamId {
        StreamId::from_raw(self.stream)
    }
}

/// Splits `$share/group/filter`; `None` if it is not a shared filter or malformed.
pub fn split_shared(filter: &str) -> Option<(&str, &str)> {
    let (group, filter) = filter.strip_prefix("$share/")?.split_once('/')?;
    (!group.is_empty() && !filter.is_empty()).then_some((group, filter))
}

/// What a client says when it opens its session.
pub(super) struct Opening {
    pub namespace: NamespaceId,
    pub client_id: String,
    pub connection: u64,
    pub clean_start: bool,
    pub expiry_ms: u64,
    pub will: Option<Will>,
    pub user: Option<String>,
}

impl Metadata {
    pub(super) fn open_session(
        &mut self,
        opening: Opening,
        effects: &mut Effects,
    ) -> Result<Outcome, Refusal> {
        let key = (opening.namespace, opening.client_id.clone());
        let old = self.by_client.get(&key).copied();
        // One that was made before there were users is whoever's comes first.
        let owner = old.and_then(|id| self.durable.sessions[&id].user.as_ref());
        if self.access.is_secured()
            && owner.is_some_and(|owner| Some(owner) != opening.user.as_ref())
        {
            return Err(Refusal::NotAuthorized);
        }
        let taken_from = old
            .and_then(|id| self.durable.sessions[&id].connection)
            .filter(|connection| *connection != opening.connection);
        let kept = old.filter(|id| !opening.clean_start && !self.ends_with_connection(*id));
        if let (Some(id), Some(connection)) = (old, taken_from) {
            effects.taken.push((connection, id, kept.is_some()));
            self.session_mut(id).connection = None;
        }
        if let Some(id) = kept {
            let session = self.durable.sessions.get_mut(&id).expect("ids in by_client exist");
            session.connection = Some(opening.connection);
            session.expiry_ms = opening.expiry_ms;
            session.expires_at = None;
            session.will = opening.will;
            session.will_at = None;
            session.user = opening.user;
            return Ok(Outcome::SessionOpened { session: id, present: true, taken_from });
        }
        if let Some(id) = old {
            self.remove_session(id, effects);
        } else if self.durable.sessions.len() >= self.limits.objects_max {
            return Err(Refusal::QuotaExceeded);
        }
        let id = SessionId(self.durable.next_session);
        self.durable.next_session += 1;
        let session = SubjectSession {
            namespace: opening.namespace,
            client_id: opening.client_id,
            user: opening.user,
            connection: Some(opening.connection),
            expiry_ms: opening.expiry_ms,
            expires_at: None,
            will: opening.will,
            will_at: None,
            backlog: None,
            subscriptions: BTreeMap::new(),
            received: BTreeMap::new(),
            unreleased: BTreeSet::new(),
        };
        self.durable.sessions.insert(id, session);
        self.by_client.insert(key, id);
        Ok(Outcome::SessionOpened { session: id, present: false, taken_from })
    }

    /// A connected session whose expiry is 0 ends when another connection takes its client id.
    fn ends_with_connection(&self, id: SessionId) -> bool {
        let session = &self.durable.sessions[&id];
        session.expiry_ms == 0
    }

    pub(super) fn close_session(
        &mut self,
        id: SessionId,
        connection: u64,
        expiry_ms: Option<u64>,
        publish_will: bool,
        at: i64,
    ) -> Outcome {
        let Some(session) = self.durable.sessions.get_mut(&id) else {
            return Outcome::Done;
        };
        if session.connection != Some(connection) {
            return Outcome::Done;
        }
        session.connection = None;
        if let Some(expiry_ms) = expiry_ms {
            session.expiry_ms = expiry_ms;
        }
        session.expires_at = deadline(at, session.expiry_ms);
        if publish_will {
            // The will goes at the latest when the session ends (MQTT 5 §3.1.2.5).
            session.will_at = session
                .will
                .as_ref()
                .and_then(|will| deadline(at, will.delay_ms.min(session.expiry_ms)));
        } else {
            session.will = None;
        }
        Outcome::Done
    }

    /// Wills that are due, for the node that leads group 0 to publish.
    pub fn due_wills(&self, at: i64) -> impl Iterator<Item = (SessionId, &SubjectSession, &Will)> {
        self.durable.sessions.iter().filter_map(move |(id, session)| {
            let will = session.will.as_ref()?;
            (session.will_at? <= at).then_some((*id, session, will))
        })
    }

    /// The next wall-clock time at which a will is due or a session ends.
    pub fn next_session_deadline(&self) -> Option<i64> {
        let sessions = self.durable.sessions.values();
        sessions.flat_map(|session| [session.will_at, session.expires_at]).flatten().min()
    }

    /// True if a session is to be ended at `at`; its will, if any, has gone before.
    fn is_expired(session: &SubjectSession, at: i64) -> bool {
        session.connection.is_none()
            && session.will_at.is_none()
            && session.expires_at.is_some_and(|expires_at| expires_at <= at)
    }

    pub fn has_expired_sessions(&self, at: i64) -> bool {
        self.durable.sessions.values().any(|session| Self::is_expired(session, at))
    }

    pub(super) fn expire_sessions(&mut self, at: i64, effects: &mut Effects) {
        let expired: Vec<SessionId> = self
            .durable
            .sessions
            .iter()
            .filter(|(_, session)| Self::is_expired(session, at))
            .map(|(id, _)| *id)
            .collect();
        for id in expired {
            self.remove_session(id, effects);
        }
    }

    /// Begins uses of packet identifiers, all under one number.
    pub(super) fn note_packets(
        &mut self,
        id: SessionId,
        connection: u64,
        noted: &[u16],
    ) -> Result<Outcome, Refusal> {
        let use_number = self.durable.next_use;
        if !noted.is_empty() {
            let session = self.durable.sessions.get_mut(&id).ok_or(Refusal::NotFound)?;
            if session.connection != Some(connection) {
                return Err(Refusal::Cancelled);
            }
            session.received.extend(noted.iter().map(|packet| (*packet, use_number)));
            self.durable.next_use += 1;
        }
        Ok(Outcome::Noted { use_number })
    }

    pub(super) fn release_packets(
        &mut self,
        id: SessionId,
        released: &[(u16, u64)],
        unreleased: &[(u16, bool)],
    ) -> Result<(), Refusal> {
        let session = self.durable.sessions.get_mut(&id).ok_or(Refusal::NotFound)?;
        for (packet, use_number) in released {
            // Another use may have begun since.
            if session.received.get(packet) == Some(use_number) {
                session.received.remove(packet);
            }
        }
        for (packet, keep) in unreleased {
            match keep {
                true => session.unreleased.insert(*packet),
                false => session.unreleased.remove(packet),
            };
        }
        Ok(())
    }

    /// False if the publish was released, or its session is gone. A use that this copy has not heard
    /// of yet is open.
    pub fn is_once_open(&self, id: &OnceId) -> bool {
        if id.use_number >= self.durable.next_use {
            return true;
        }
        let session = self.durable.sessions.get(&id.session);
        let current = session.and_then(|session| session.received.get(&id.packet_identifier));
        current == Some(&id.use_number)
    }

    pub(super) fn will_published(&mut self, id: SessionId) {
        if let Some(session) = self.durable.sessions.get_mut(&id) {
            session.will = None;
            session.will_at = None;
        }
    }

    pub(super) fn remove_session(&mut self, id: SessionId, effects: &mut Effects) -> bool {
        let Some(session) = self.durable.sessions.get(&id) else {
            return false;
        };
        let (namespace, connection) = (session.namespace, session.connection);
        let filters: Vec<String> = session.subscriptions.keys().cloned().collect();
        self.unsubscribe(id, &filters, effects);
        let session = self.durable.sessions.remove(&id).expect("looked up above");
        self.by_client.remove(&(namespace, session.client_id.clone()));
        self.router.remove_session(namespace, id);
        if let Some(stream) = session.backlog() {
            self.remove_stream(stream, effects);
        }
        if let Some(connection) = connection {
            effects.ended.push((connection, id));
        }
        true
    }

    pub(super) fn subscribe(
        &mut self,
        id: SessionId,
        filters: Vec<(String, SubscriptionOptions)>,
    ) -> Result<Outcome, Refusal> {
        let session = self.durable.sessions.get(&id).ok_or(Refusal::NotFound)?;
        let added = filters.iter().filter(|(f, _)| !session.subscriptions.contains_key(f)).count();
        if session.subscriptions.len() + added > self.limits.subscriptions_max {
            return Err(Refusal::QuotaExceeded);
        }
        for (filter, _) in &filters {
            let plain = split_shared(filter).map_or(filter.as_str(), |(_, filter)| filter);
            Filter::from_mqtt(plain).map_err(|_| Refusal::InvalidName)?;
        }
        let namespace = session.namespace;
        let stored = |(filter, options): &(String, SubscriptionOptions)| {
            options.qos_max > 0 && split_shared(filter).is_none()
        };
        if session.backlog.is_none() && filters.iter().any(stored) {
            let durability =
                if session.expiry_ms == 0 { Durability::Memory } else { Durability::Fsync };
            let stream = self.place_stream(durability, StreamOwner::Backlog { session: id });
            self.session_mut(id).backlog = Some(stream.raw());
        }
        let mut new = Vec::with_capacity(filters.len());
        for (filter, options) in filters {
            match split_shared(&filter) {
                Some((group, plain)) => self.join_shared(namespace, id, group, plain)?,
                None => {
                    let parsed = Filter::from_mqtt(&filter).expect("checked above");
                    let subscriber = Subscriber::Session(id);
                    self.router
                        .subscribe(namespace, subscriber, parsed, options)
                        .map_err(|_| Refusal::QuotaExceeded)?;
                }
            }
            new.push(self.session_mut(id).subscriptions.insert(filter, options).is_none());
        }
        Ok(Outcome::Subscribed { new })
    }

    fn session_mut(&mut self, id: SessionId) -> &mut SubjectSession {
        self.durable.sessions.get_mut(&id).expect("the caller looked it up")
    }

    fn join_shared(
        &mut self,
        namespace: NamespaceId,
        id: SessionId,
        group: &str,
        filter: &str,
    ) -> Result<(), Refusal> {
        let key = (namespace, group.to_owned(), filter.to_owned());
        if let Some(shared) = self.durable.shared.get_mut(&key) {
            shared.members.insert(id);
            return Ok(());
        }
        let owner =
            StreamOwner::Shared { namespace, group: group.to_owned(), filter: filter.to_owned() };
        let stream = self.place_stream(Durability::Fsync, owner);
        let parsed = Filter::from_mqtt(filter).expect("checked by the caller");
        self.router
            .subscribe(namespace, Subscriber::Queue(stream), parsed, SubscriptionOptions::default())
            .map_err(|_| Refusal::QuotaExceeded)?;
        let members = BTreeSet::from([id]);
        self.durable.shared.insert(key, SharedGroup { stream: stream.raw(), members });
        Ok(())
    }

    pub(super) fn unsubscribe(
        &mut self,
        id: SessionId,
        filters: &[String],
        effects: &mut Effects,
    ) -> Option<Vec<bool>> {
        let namespace = self.durable.sessions.get(&id)?.namespace;
        let mut existed = Vec::with_capacity(filters.len());
        for filter in filters {
            let was = self.session_mut(id).subscriptions.remove(filter).is_some();
            existed.push(was);
            if !was {
                continue;
            }
            match split_shared(filter) {
                Some((group, plain)) => self.leave_shared(namespace, id, group, plain, effects),
                None => {
                    let parsed = Filter::from_mqtt(filter).expect("only valid filters are stored");
                    self.router.unsubscribe(namespace, Subscriber::Session(id), &parsed);
                }
            }
        }
        Some(existed)
    }

    fn leave_shared(
        &mut self,
        namespace: NamespaceId,
        id: SessionId,
        group: &str,
        filter: &str,
        effects: &mut Effects,
    ) {
        let key = (namespace, group.to_owned(), filter.to_owned());
        let Some(shared) = self.durable.shared.get_mut(&key) else {
            return;
        };
        shared.members.remove(&id);
        if !shared.members.is_empty() {
            return;
        }
        let stream = shared.stream();
        self.durable.shared.remove(&key);
        self.router.remove_queue(namespace, stream);
        self.remove_stream(stream, effects);
    }

    /// Every connection of an earlier life of the node is gone.
    pub(super) fn disconnect_all(&mut self, at: i64, effects: &mut Effects) {
        let connected: Vec<(SessionId, u64)> = self
            .durable
            .sessions
            .iter()
            .filter_map(|(id, session)| Some((*id, session.connection?)))
            .collect();
        for (id, connection) in connected {
            self.close_session(id, connection, None, true, at);
        }
        self.expire_sessions(at, effects);
    }
}

/// `at + wait`, or `None` for a wait that never ends.
fn deadline(at: i64, wait_ms: u64) -> Option<i64> {
    if wait_ms == EXPIRY_NEVER {
        return None;
    }
    Some(at.saturating_add(i64::try_from(wait_ms).unwrap_or(i64::MAX)))
}
