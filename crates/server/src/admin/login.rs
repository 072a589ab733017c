//! Who calls the admin API, and what each call needs. On a node without users everybody may do
//! everything; with users nobody may do anything without a name and a password.

use super::jobs::Slot;
use super::{AdminSession, NAMESPACE};
use crate::http::{AdminCall, AdminError, AdminRequest, Caller, Kind};
use koine_broker::access::{Action, Principal, Resource};
use koine_broker::session::{Context, Credentials, LoginRefusal, Request};

impl AdminSession {
    /// Lets the call go on, now or when its caller is known.
    pub(super) fn admit(&mut self, id: u64, mut call: AdminCall, ctx: &mut Context<'_>) {
        let Caller::Peer { address, login } = &mut call.caller else {
            return self.start(id, call, ctx);
        };
        if !ctx.metadata.access().is_secured() {
            return self.start(id, call, ctx);
        }
        let Some((user, password)) = login.take() else {
            self.fail(id, AdminError::Unauthenticated);
            return self.finish_if_done(id);
        };
        let address = *address;
        let credentials = Credentials::Password { user, password };
        self.ask(id, Slot::Login(Box::new(call)), ctx, |token| Request::Authenticate {
            token,
            address,
            credentials,
        });
    }

    pub(super) fn logged_in(
        &mut self,
        id: u64,
        call: AdminCall,
        result: Result<Principal, LoginRefusal>,
        ctx: &mut Context<'_>,
    ) {
        let error = match result {
            Ok(who) if is_allowed(&call.request, &who, ctx) => return self.start(id, call, ctx),
            Ok(_) => AdminError::Forbidden,
            Err(LoginRefusal::Wrong | LoginRefusal::TooManyConnections { .. }) => {
                AdminError::Unauthenticated
            }
            Err(LoginRefusal::Busy) => {
                AdminError::Unavailable("too many logins wait; try again".to_owned())
            }
        };
        self.fail(id, error);
    }
}

fn is_allowed(request: &AdminRequest, who: &Principal, ctx: &Context<'_>) -> bool {
    let access = ctx.metadata.access();
    let may = |action, resource: Resource<'_>| access.authorize(who, action, &resource);
    let topic = |name| Resource::Topic { namespace: NAMESPACE, name };
    let administers = || may(Action::Alter, Resource::Cluster);
    match request {
        AdminRequest::Ready | AdminRequest::Status | AdminRequest::Metrics { .. } => {
            may(Action::Describe, Resource::Cluster)
        }
        AdminRequest::List { kind, .. } if kind.is_access() => administers(),
        AdminRequest::List { .. } => may(Action::Describe, Resource::Cluster),
        AdminRequest::Describe { kind, .. } if kind.is_access() => administers(),
        AdminRequest::Describe { kind: Kind::Topics | Kind::Queues, name } => {
            may(Action::Describe, Resource::Cluster) || may(Action::Describe, topic(name))
        }
        AdminRequest::Describe { .. } => may(Action::Describe, Resource::Cluster),
        AdminRequest::Create { kind: Kind::Topics | Kind::Queues, name, .. } => {
            may(Action::Create, Resource::Cluster) || may(Action::Create, topic(name))
        }
        AdminRequest::Delete { kind: Kind::Topics | Kind::Queues, name } => {
            may(Action::Delete, Resource::Cluster) || may(Action::Delete, topic(name))
        }
        AdminRequest::Create { .. } | AdminRequest::Set { .. } | AdminRequest::Delete { .. } => {
            administers()
        }
        // What messages say is for those who may read them; administrators have to be given that.
        AdminRequest::Tail(tail) => may(Action::Read, topic(&tail.name)),
    }
}
