//! LeaveGroup (key 13): one member leaves, or from version 3 several are removed.

use crate::codec::generated::leave_group::{Member, Request, Response};
use crate::error::ErrorCode;
use crate::operation::{Env, Operation, Started};
use crate::reply::Reply;
use koine_broker::access::Action;
use koine_broker::membership::{self, Answer, MemberRef};
use koine_broker::session::{Event, Request as Ask};

/// From this version on members are a list and have errors of their own (KIP-345).
const LIST_FROM: i16 = 3;

pub(crate) fn start(request: Request, reply: Reply, env: &mut Env<'_, '_>) -> Started {
    if let Err(error) = env.may_group(Action::Read, &request.group_id) {
        let response = Response { error_code: error.code(), ..Response::default() };
        env.send(reply, |w, v| response.encode(w, v));
        return Started::Answered;
    }
    let members = if reply.version < LIST_FROM {
        vec![MemberRef { member_id: request.member_id, instance_id: None }]
    } else {
        let refs = request.members.into_iter().map(|member| MemberRef {
            member_id: member.member_id,
            instance_id: member.group_instance_id,
        });
        refs.collect()
    };
    let op = env.new_op();
    let leave = membership::Request::Leave { group: request.group_id, members };
    env.request(Ask::Group { token: op.token(0), request: leave });
    Started::Waiting(op, Box::new(LeaveGroup { reply }))
}

struct LeaveGroup {
    reply: Reply,
}

impl Operation for LeaveGroup {
    fn event(&mut self, event: Event, env: &mut Env<'_, '_>) -> bool {
        let Event::Group { answer: Answer::Leave(result), .. } = event else { return false };
        let code =
            |result: Result<(), _>| result.err().map_or(ErrorCode::None, ErrorCode::from).code();
        let mut response = Response::default();
        match result {
            Err(error) => response.error_code = ErrorCode::from(error).code(),
            Ok(left) if self.reply.version < LIST_FROM => {
                let first = left.into_iter().next().map_or(Ok(()), |(_, result)| result);
                response.error_code = code(first);
            }
            Ok(left) => {
                let members = left.into_iter().map(|(member, result)| Member {
                    member_id: member.member_id,
                    group_instance_id: member.instance_id,
                    error_code: code(result),
                });
                response.members = members.collect();
            }
        }
        env.send(self.reply, |w, v| response.encode(w, v));
        true
    }
}
