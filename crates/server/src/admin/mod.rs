//! The admin API's end at the engine: a [`Session`] like a protocol's, fed with [`AdminCall`]s instead
//! of bytes. Each call is a job; its questions to the engine go out at once, and when the last answer
//! is in, the job is answered. It reads metadata directly and changes nothing but through requests.

mod access;
mod groups;
mod jobs;
mod login;
mod record;
mod tail;

#[cfg(test)]
mod tests;

use crate::http::{AdminAnswer, AdminCall, AdminError, AdminRequest, Kind};
use bytes::BytesMut;
use jobs::{Job, Shape, Slot};
use koine_base::Moment;
use koine_broker::membership;
use koine_broker::metadata::{Command, NamespaceId, Refusal};
use koine_broker::session::{Context, Event, Protocol, Request, Session, Token};
use serde_json::{json, Value};
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use tokio::sync::oneshot;

/// The admin API shows the namespace that unmodified clients use.
const NAMESPACE: NamespaceId = NamespaceId(0);

/// Calls that wait for the session's next step. Bounded by the channel that feeds it.
pub type Inbox = Rc<RefCell<VecDeque<AdminCall>>>;

pub struct AdminSession {
    inbox: Inbox,
    jobs: HashMap<u64, Job>,
    /// Open requests: the job each belongs to, and what its answer fills.
    open: HashMap<Token, (u64, Slot)>,
    next_job: u64,
    next_token: Token,
}

impl AdminSession {
    pub fn new(inbox: Inbox) -> Self {
        AdminSession {
            inbox,
            jobs: HashMap::new(),
            open: HashMap::new(),
            next_job: 1,
            next_token: 1,
        }
    }

    fn ask(
        &mut self,
        job: u64,
        slot: Slot,
        ctx: &mut Context<'_>,
        request: impl FnOnce(Token) -> Request,
    ) {
        let token = self.next_token;
        self.next_token += 1;
        self.open.insert(token, (job, slot));
        if let Some(job) = self.jobs.get_mut(&job) {
            job.open += 1;
        }
        ctx.out.request(request(token));
    }

    fn take(&mut self, mut call: AdminCall, ctx: &mut Context<'_>) {
        let id = self.next_job;
        self.next_job += 1;
        let (unused, _) = oneshot::channel();
        let answer = std::mem::replace(&mut call.answer, unused);
        self.jobs.insert(id, Job::new(answer));
        self.admit(id, call, ctx);
    }

    /// The caller may.
    fn start(&mut self, id: u64, call: AdminCall, ctx: &mut Context<'_>) {
        let verifiers = call.verifiers;
        let started = match call.request {
            // The front knows these; here it asks whether it may tell.
            AdminRequest::Ready | AdminRequest::Status | AdminRequest::Metrics { .. } => Ok(()),
            AdminRequest::List { kind, after, limit } => {
                self.list(id, kind, after.as_deref(), limit, ctx);
                Ok(())
            }
            AdminRequest::Describe { kind, name } => self.describe(id, kind, &name, ctx),
            AdminRequest::Create { kind, name, options, password: _ } if kind.is_access() => {
                self.create_access(id, kind, name, &options, verifiers, ctx)
            }
            AdminRequest::Create { kind, name, options, password: _ } => {
                self.create(id, kind, name, &options, ctx)
            }
            AdminRequest::Set { kind, name, options, password: _ } => {
                self.set_access(id, kind, name, &options, verifiers, ctx)
            }
            AdminRequest::Delete { kind, name } if kind.is_access() => {
                self.delete_access(id, kind, name, ctx)
            }
            AdminRequest::Delete { kind, name } => self.delete(id, kind, name, ctx),
            AdminRequest::Tail(tail) => self.tail(id, tail, ctx),
        };
        if let Err(error) = started {
            self.fail(id, error);
        }
        self.finish_if_done(id);
    }

    fn shape(&mut self, id: u64, shape: Shape) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.shape = shape;
        }
    }

    fn push_row(&mut self, id: u64, row: Value) -> usize {
        match self.jobs.get_mut(&id) {
            Some(job) => {
                job.rows.push(row);
                job.rows.len() - 1
            }
            None => 0,
        }
    }

    fn fail(&mut self, id: u64, error: AdminError) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.failed.get_or_insert(error);
        }
    }

    fn finish_if_done(&mut self, id: u64) {
        if self.jobs.get(&id).is_some_and(|job| job.open == 0) {
            if let Some(job) = self.jobs.remove(&id) {
                job.answer();
            }
        }
    }

    fn list(
        &mut self,
        id: u64,
        kind: Kind,
        after: Option<&str>,
        limit: usize,
        ctx: &mut Context<'_>,
    ) {
        self.shape(id, Shape::Page { next: None });
        match kind {
            Kind::Topics => self.list_topics(id, after, limit, ctx),
            Kind::Queues => self.list_queues(id, after, limit, ctx),
            Kind::Sessions => self.list_sessions(id, after, limit, ctx),
            Kind::Groups => {
                let slot = Slot::GroupList { after: after.map(str::to_owned), limit };
                self.ask(id, slot, ctx, |token| Request::ListGroups { token });
            }
            access => self.list_access(id, access, after, limit, ctx),
        }
    }

    fn describe(
        &mut self,
        id: u64,
        kind: Kind,
        name: &str,
        ctx: &mut Context<'_>,
    ) -> Result<(), AdminError> {
        self.shape(id, Shape::Item);
        match kind {
            Kind::Topics => self.describe_topic(id, name, ctx),
            Kind::Queues => {
                let queue = ctx
                    .metadata
                    .queue(NAMESPACE, name)
                    .ok_or_else(|| missing("queue", name))?
                    .clone();
                self.queue_row(id, name, &queue, ctx);
                Ok(())
            }
            Kind::Sessions => self.describe_session(id, name, ctx),
            Kind::Groups => {
                self.group_row(id, name.to_owned(), ctx);
                Ok(())
            }
            access => self.describe_access(id, access, name, ctx),
        }
    }

    fn delete(
        &mut self,
        id: u64,
        kind: Kind,
        name: String,
        ctx: &mut Context<'_>,
    ) -> Result<(), AdminError> {
        self.shape(id, Shape::Item);
        self.push_row(id, json!({"deleted": name}));
        match kind {
            Kind::Topics => {
                ctx.metadata.topic(NAMESPACE, &name).ok_or_else(|| missing("topic", &name))?;
                let command = Command::DeleteTopic { namespace: NAMESPACE, name };
                self.ask(id, Slot::Done, ctx, |token| Request::Propose { token, command });
            }
            Kind::Queues => {
                ctx.metadata.queue(NAMESPACE, &name).ok_or_else(|| missing("queue", &name))?;
                self.ask(id, Slot::Done, ctx, |token| Request::DeleteQueue {
                    token,
                    namespace: NAMESPACE,
                    name,
                    if_unused: false,
                    if_empty: false,
                });
            }
            Kind::Groups => {
                let request = membership::Request::Delete { group: name };
                self.ask(id, Slot::Done, ctx, |token| Request::Group { token, request });
            }
            Kind::Sessions => {
                let session = ctx.metadata.session_of_client(NAMESPACE, &name);
                let session = session.ok_or_else(|| missing("session", &name))?;
                let command = Command::DeleteSession { session, at: ctx.now.wall.0 };
                self.ask(id, Slot::Done, ctx, |token| Request::Propose { token, command });
            }
            Kind::Users | Kind::Permissions | Kind::TopicPermissions | Kind::Acls => {
                unreachable!("deleted elsewhere")
            }
        }
        Ok(())
    }
}

fn missing(what: &str, name: &str) -> AdminError {
    AdminError::NotFound(format!("no {what} {name:?}"))
}

/// The words for a person, and the code for a program.
fn refused(refusal: Refusal) -> AdminError {
    match refusal {
        Refusal::NotFound => AdminError::NotFound("no longer there".to_owned()),
        Refusal::AlreadyExists => AdminError::AlreadyExists("that name exists already".to_owned()),
        Refusal::OtherKind => AdminError::AlreadyExists(
            "that name is taken by the other kind, topic or queue".to_owned(),
        ),
        Refusal::InvalidName => AdminError::Invalid("not a legal name".to_owned()),
        Refusal::InvalidPartitions => {
            AdminError::Invalid("not a legal number of partitions".to_owned())
        }
        Refusal::InvalidSettings => AdminError::Invalid("not legal settings".to_owned()),
        Refusal::InUse => AdminError::Invalid("in use".to_owned()),
        Refusal::Exclusive => AdminError::Invalid("exclusive to another connection".to_owned()),
        Refusal::Predeclared => AdminError::Invalid("predeclared, cannot be changed".to_owned()),
        Refusal::QuotaExceeded => {
            AdminError::Invalid("over the limit of such objects on this node".to_owned())
        }
        Refusal::Busy => {
            AdminError::Unavailable("the node is busy or its disk is full; try again".to_owned())
        }
        Refusal::NotLeader => {
            AdminError::Unavailable("this node does not lead that group now".to_owned())
        }
        other => AdminError::Invalid(format!("refused: {other:?}")),
    }
}

impl Session for AdminSession {
    fn protocol(&self) -> Protocol {
        Protocol::Admin
    }

    /// There are no bytes: new calls wait in the inbox.
    fn receive(&mut self, _input: &mut BytesMut, ctx: &mut Context<'_>) {
        loop {
            let call = self.inbox.borrow_mut().pop_front();
            match call {
                Some(call) => self.take(call, ctx),
                None => return,
            }
        }
    }

    fn event(&mut self, event: Event, ctx: &mut Context<'_>) {
        let Some(token) = jobs::token_of(&event) else {
            return;
        };
        let Some((id, slot)) = self.open.remove(&token) else {
            return;
        };
        if let Some(job) = self.jobs.get_mut(&id) {
            job.open -= 1;
        }
        self.fill(id, slot, event, ctx);
        self.finish_if_done(id);
    }

    fn tick(&mut self, ctx: &mut Context<'_>) {
        let due: Vec<u64> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.deadline <= ctx.now.moment)
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            // A tail that waited in vain; what it waited for is forgotten.
            let open: Vec<Token> = self
                .open
                .iter()
                .filter(|(_, (job, _))| *job == id)
                .map(|(token, _)| *token)
                .collect();
            for token in open {
                if let Some((_, Slot::TailGrown { stream, .. })) = self.open.remove(&token) {
                    ctx.out.request(Request::Unwatch { token, stream });
                }
            }
            if let Some(job) = self.jobs.remove(&id) {
                job.answer();
            }
        }
    }

    fn deadline(&self) -> Moment {
        self.jobs.values().map(|job| job.deadline).min().unwrap_or(Moment::NEVER)
    }

    fn access_changed(&mut self, _ctx: &mut Context<'_>) {}

    fn disconnected(&mut self, _ctx: &mut Context<'_>) {
        self.jobs.clear();
        self.open.clear();
    }

    /// Dropping the jobs tells the waiting callers.
    fn shutdown(&mut self, ctx: &mut Context<'_>) {
        self.jobs.clear();
        self.open.clear();
        self.inbox.borrow_mut().clear();
        ctx.out.close = true;
    }
}

impl Job {
    fn answer(self) {
        let result = match self.failed {
            Some(error) => Err(error),
            None => Ok(AdminAnswer::Json(self.shape.render(self.rows))),
        };
        // The caller may have hung up.
        let _ = self.answer.send(result);
    }
}
