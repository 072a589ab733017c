//! ListGroups (key 16): all groups, filtered by state and type.

use super::describe_groups::state_name;
use crate::codec::generated::list_groups::{Group, Request, Response};
use crate::operation::{Env, Operation, Started};
use crate::reply::Reply;
use koine_broker::access::Action;
use koine_broker::session::{Event, Request as Ask};

/// The one type there is: groups of the consumer and share kinds are not served yet.
const CLASSIC: &str = "classic";

pub(crate) fn start(request: Request, reply: Reply, env: &mut Env<'_, '_>) -> Started {
    let op = env.new_op();
    env.request(Ask::ListGroups { token: op.token(0) });
    Started::Waiting(op, Box::new(ListGroups { reply, request }))
}

struct ListGroups {
    reply: Reply,
    request: Request,
}

/// An empty filter lets everything through; states and types are compared without case.
fn passes(filter: &[String], text: &str) -> bool {
    filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(text))
}

impl Operation for ListGroups {
    fn event(&mut self, event: Event, env: &mut Env<'_, '_>) -> bool {
        let Event::Groups { groups, .. } = event else { return false };
        let sees_all = env.may_cluster(Action::Describe).is_ok();
        let listed = groups
            .into_iter()
            .filter(|group| sees_all || env.may_group(Action::Describe, &group.group).is_ok())
            .filter(|group| passes(&self.request.states_filter, state_name(group.phase)))
            .filter(|_| passes(&self.request.types_filter, CLASSIC))
            .map(|group| Group {
                group_id: group.group,
                protocol_type: group.protocol_type,
                group_state: state_name(group.phase).to_string(),
                group_type: CLASSIC.to_string(),
            });
        let groups = listed.collect();
        let response = Response { groups, ..Response::default() };
        env.send(self.reply, |w, v| response.encode(w, v));
        true
    }
}
