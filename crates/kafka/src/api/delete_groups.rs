//! DeleteGroups (key 42): removes empty groups with their offsets.

use crate::codec::generated::delete_groups::{Group, Request, Response};
use crate::error::ErrorCode;
use crate::operation::{Env, Gather, Operation, Started};
use crate::reply::Reply;
use koine_broker::access::Action;
use koine_broker::membership::{self, Answer};
use koine_broker::session::{Event, Request as Ask};

pub(crate) fn start(request: Request, reply: Reply, env: &mut Env<'_, '_>) -> Started {
    let op = env.new_op();
    let mut groups = Vec::new();
    let mut waiting = 0;
    for group in request.groups_names {
        if let Err(error) = env.may_group(Action::Delete, &group) {
            groups.push(Group { group_id: group, error_code: error.code() });
            continue;
        }
        waiting += 1;
        let token = op.token_at(groups.len());
        let delete = membership::Request::Delete { group: group.clone() };
        env.request(Ask::Group { token, request: delete });
        groups.push(Group { group_id: group, error_code: 0 });
    }
    let mut operation = DeleteGroups { reply, groups: Gather::new(groups, waiting) };
    if waiting == 0 {
        operation.answer(env);
        return Started::Answered;
    }
    Started::Waiting(op, Box::new(operation))
}

struct DeleteGroups {
    reply: Reply,
    groups: Gather<Group>,
}

impl DeleteGroups {
    fn answer(&mut self, env: &mut Env<'_, '_>) {
        let results = std::mem::take(&mut self.groups.answers);
        let response = Response { throttle_time_ms: 0, results };
        env.send(self.reply, |w, v| response.encode(w, v));
    }
}

impl Operation for DeleteGroups {
    fn event(&mut self, event: Event, env: &mut Env<'_, '_>) -> bool {
        let Event::Group { token, answer: Answer::Delete(result) } = event else { return false };
        let Some((place, last)) = self.groups.take(token) else { return false };
        place.error_code = result.err().map_or(ErrorCode::None, ErrorCode::from).code();
        if last {
            self.answer(env);
        }
        last
    }
}
