//! What the client may do, asked before it is done and again when users or rules have changed. What is
//! not allowed any more stops within the turn: filters count as gone before metadata has dropped them.

use super::{token, Kind, MqttSession, Phase, NAMESPACE};
use crate::error::{End, ReasonCode, Violation};
use crate::topic::TopicFilter;
use koine_broker::access::{Action, Resource};
use koine_broker::metadata::{Command, Outcome, Refusal, SubjectSession};
use koine_broker::router::{Filter, Subject};
use koine_broker::session::{Context, Request};

impl MqttSession {
    /// Whether the client may publish under the topic.
    pub(crate) fn may_publish(
        &mut self,
        topic: &[u8],
        ctx: &Context<'_>,
    ) -> Result<bool, Violation> {
        if !ctx.metadata.access().is_secured() {
            return Ok(true);
        }
        let version = ctx.metadata.rights_version();
        if let Some(is_allowed) = self.writable.find(topic, version) {
            return Ok(is_allowed);
        }
        let text = std::str::from_utf8(topic).unwrap_or_default();
        let subject = Subject::from_mqtt(text).map_err(|_| Violation::TopicName)?;
        let is_allowed = ctx.metadata.may_publish(&self.principal, NAMESPACE, &subject);
        self.writable.remember(topic, version, is_allowed);
        Ok(is_allowed)
    }

    /// Whether the client may subscribe to the filter, shared or not.
    pub(crate) fn may_subscribe(&self, topic_filter: &str, ctx: &Context<'_>) -> bool {
        let Ok(TopicFilter { filter, .. }) = TopicFilter::parse(topic_filter) else { return false };
        let Ok(filter) = Filter::from_mqtt(filter) else { return false };
        ctx.metadata.may_subscribe(&self.principal, NAMESPACE, &filter)
    }

    /// Whether the client may be sent what was kept for it: something it subscribes to matches, or it
    /// might subscribe to the topic itself. What was stored under a right that is gone is not sent.
    pub(crate) fn may_receive(&mut self, topic: &[u8], ctx: &Context<'_>) -> bool {
        if !ctx.metadata.access().is_secured() {
            return true;
        }
        let version = ctx.metadata.rights_version();
        if self.readable.find(topic, version).is_some() {
            return true;
        }
        let is_allowed = self.decide_receive(topic, ctx);
        // The next subscription may bring what is refused now.
        if is_allowed {
            self.readable.remember(topic, version, true);
        }
        is_allowed
    }

    fn decide_receive(&self, topic: &[u8], ctx: &Context<'_>) -> bool {
        let Ok(text) = std::str::from_utf8(topic) else { return false };
        let Ok(subject) = Subject::from_mqtt(text) else { return false };
        let session = self.client.session.and_then(|id| ctx.metadata.session(id));
        let is_wanted = session.is_some_and(|session| self.is_wanted(session, text));
        let resource = Resource::Subject { namespace: NAMESPACE, subject: &subject };
        let who = &self.principal;
        (is_wanted || ctx.metadata.access().authorize(who, Action::Read, &resource))
            && ctx.metadata.may_reach_topic(who, NAMESPACE, Action::Read, &subject)
    }

    fn is_wanted(&self, session: &SubjectSession, topic: &str) -> bool {
        let filters = session.subscriptions.keys().filter(|it| !self.revoked.contains(*it));
        let mut plain = filters.filter_map(|it| TopicFilter::parse(it).ok());
        plain.any(|it| it.share.is_none() && it.matches(topic))
    }

    /// Users or rules have changed. A login, and a session that is being opened, are judged when they are
    /// through, by the rules of then.
    pub(super) fn on_access_changed(&mut self, ctx: &mut Context<'_>) {
        if self.phase == Phase::Connected {
            self.recheck(ctx);
            self.flush(ctx);
        }
    }

    /// Ends what the client may not do any more: some of it, or all if its user is gone, has another
    /// password or has no right left.
    pub(crate) fn recheck(&mut self, ctx: &mut Context<'_>) {
        if !ctx.metadata.access().is_secured() {
            return;
        }
        if !self.may_enter(ctx) {
            ctx.meter.refused += 1;
            return self.fail(End::Reason(ReasonCode::NotAuthorized), ctx);
        }
        let Some(id) = self.client.session else { return };
        let Some(session) = ctx.metadata.session(id) else { return };
        let filters = session.subscriptions.keys();
        let filters: Vec<String> = filters
            .filter(|it| !self.revoked.contains(*it) && !self.may_subscribe(it, ctx))
            .cloned()
            .collect();
        if filters.is_empty() {
            return;
        }
        ctx.meter.refused += filters.len() as u64;
        for topic_filter in &filters {
            self.leave_shared(topic_filter, ctx);
        }
        self.revoked.extend(filters.iter().cloned());
        let command = Command::Unsubscribe { session: id, filters };
        ctx.out.request(Request::Propose { token: token(Kind::Revoke, 0), command });
    }

    /// Metadata has dropped what was revoked. If it cannot, the client goes: what it subscribes to is
    /// asked about again when it comes back.
    pub(super) fn on_revoked(&mut self, result: Result<Outcome, Refusal>, ctx: &mut Context<'_>) {
        if result.is_err() {
            return self.fail(End::Reason(ReasonCode::UnspecifiedError), ctx);
        }
        let session = self.client.session.and_then(|id| ctx.metadata.session(id));
        self.revoked.retain(|topic_filter| {
            session.is_some_and(|session| session.subscriptions.contains_key(topic_filter))
        });
    }

    /// The client subscribes again, and may.
    pub(crate) fn not_revoked(&mut self, topic_filter: &str) {
        self.revoked.remove(topic_filter);
    }

    pub(crate) fn may_enter(&self, ctx: &Context<'_>) -> bool {
        let namespace = Resource::Namespace(NAMESPACE);
        ctx.metadata.access().authorize(&self.principal, Action::Read, &namespace)
    }
}
