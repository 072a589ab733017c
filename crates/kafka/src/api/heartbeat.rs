//! Heartbeat (key 12): keeps a classic group member alive.

use crate::codec::generated::heartbeat::{Request, Response};
use crate::error::ErrorCode;
use crate::operation::{Env, Operation, Started};
use crate::reply::Reply;
use koine_broker::access::Action;
use koine_broker::membership::{self, Answer, MemberRef};
use koine_broker::session::{Event, Request as Ask};

pub(crate) fn start(request: Request, reply: Reply, env: &mut Env<'_, '_>) -> Started {
    if let Err(error) = env.may_group(Action::Read, &request.group_id) {
        let response = Response { throttle_time_ms: 0, error_code: error.code() };
        env.send(reply, |w, v| response.encode(w, v));
        return Started::Answered;
    }
    let op = env.new_op();
    let heartbeat = membership::Request::Heartbeat {
        group: request.group_id,
        member: MemberRef { member_id: request.member_id, instance_id: request.group_instance_id },
        generation: request.generation_id,
    };
    env.request(Ask::Group { token: op.token(0), request: heartbeat });
    Started::Waiting(op, Box::new(Heartbeat { reply }))
}

struct Heartbeat {
    reply: Reply,
}

impl Operation for Heartbeat {
    fn event(&mut self, event: Event, env: &mut Env<'_, '_>) -> bool {
        let Event::Group { answer: Answer::Heartbeat(result), .. } = event else { return false };
        let error = result.err().map_or(ErrorCode::None, ErrorCode::from);
        let response = Response { throttle_time_ms: 0, error_code: error.code() };
        env.send(self.reply, |w, v| response.encode(w, v));
        true
    }
}
