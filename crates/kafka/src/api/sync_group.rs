//! SyncGroup (key 14): the leader's assignments in, each member's own out.

use crate::codec::generated::sync_group::{Request, Response};
use crate::error::ErrorCode;
use crate::operation::{Env, Operation, Started};
use crate::reply::Reply;
use koine_broker::access::Action;
use koine_broker::membership::{self, Answer, MemberRef, Sync};
use koine_broker::session::{Event, Request as Ask};

pub(crate) fn start(request: Request, reply: Reply, env: &mut Env<'_, '_>) -> Started {
    if let Err(error) = env.may_group(Action::Read, &request.group_id) {
        refuse(error, reply, env);
        return Started::Answered;
    }
    let group = request.group_id.clone();
    let op = env.new_op();
    let sync = Sync {
        group: request.group_id,
        member: MemberRef { member_id: request.member_id, instance_id: request.group_instance_id },
        generation: request.generation_id,
        protocol_type: request.protocol_type,
        protocol_name: request.protocol_name,
        assignments: request
            .assignments
            .into_iter()
            .map(|assignment| (assignment.member_id, assignment.assignment.to_vec().into()))
            .collect(),
    };
    env.request(Ask::Group { token: op.token(0), request: membership::Request::Sync(sync) });
    Started::Waiting(op, Box::new(SyncGroup { reply, group }))
}

fn refuse(error: ErrorCode, reply: Reply, env: &mut Env<'_, '_>) {
    let response = Response { error_code: error.code(), ..Response::default() };
    env.send(reply, |w, v| response.encode(w, v));
}

struct SyncGroup {
    reply: Reply,
    group: String,
}

impl Operation for SyncGroup {
    fn event(&mut self, event: Event, env: &mut Env<'_, '_>) -> bool {
        let Event::Group { answer: Answer::Sync(result), .. } = event else { return false };
        let response = match result {
            Ok(synced) => Response {
                protocol_type: Some(synced.protocol_type),
                protocol_name: Some(synced.protocol_name),
                assignment: synced.assignment,
                ..Response::default()
            },
            Err(error) => {
                Response { error_code: ErrorCode::from(error).code(), ..Response::default() }
            }
        };
        env.send(self.reply, |w, v| response.encode(w, v));
        true
    }

    fn access_changed(&mut self, env: &mut Env<'_, '_>) -> bool {
        let refused = env.may_group(Action::Read, &self.group).err();
        if let Some(error) = refused {
            refuse(error, self.reply, env);
        }
        refused.is_some()
    }
}
