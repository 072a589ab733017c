//! JoinGroup (key 11): enters the next generation of a classic group. Answered when the generation
//! is complete, which may take as long as the slowest member's rebalance timeout.

use crate::codec::generated::join_group::{Member, Request, Response};
use crate::error::ErrorCode;
use crate::operation::{Env, Operation, Started};
use crate::reply::Reply;
use koine_broker::access::Action;
use koine_broker::membership::{self, Answer, Join, MemberRef};
use koine_broker::session::{Event, Request as Ask};

/// From this version on a new member first gets an id and comes back with it (KIP-394).
const KNOWN_MEMBER_ID_FROM: i16 = 4;
/// From this version on the leader may be told to leave the assignment as it is (KIP-814).
const SKIP_ASSIGNMENT_FROM: i16 = 9;

pub(crate) fn start(
    request: Request,
    client_id: &str,
    reply: Reply,
    env: &mut Env<'_, '_>,
) -> Started {
    if let Err(error) = env.may_group(Action::Read, &request.group_id) {
        let refused = refused(error, request.member_id, reply);
        env.send(reply, |w, v| refused.encode(w, v));
        return Started::Answered;
    }
    let session_timeout_ms = request.session_timeout_ms;
    let rebalance_timeout_ms = match reply.version {
        0 => session_timeout_ms,
        _ => request.rebalance_timeout_ms,
    };
    let (Ok(session_timeout_ms), Ok(rebalance_timeout_ms)) =
        (u32::try_from(session_timeout_ms), u32::try_from(rebalance_timeout_ms))
    else {
        let refused = refused(ErrorCode::InvalidSessionTimeout, request.member_id, reply);
        env.send(reply, |w, v| refused.encode(w, v));
        return Started::Answered;
    };
    let (group, member_id) = (request.group_id.clone(), request.member_id.clone());
    let op = env.new_op();
    let join = Join {
        group: request.group_id,
        client_id: client_id.to_string(),
        client_host: format!("/{}", env.connection.peer.remote.ip().to_canonical()),
        session_timeout_ms,
        rebalance_timeout_ms,
        protocol_type: request.protocol_type,
        // The frame is not kept alive for the life of the group by its slices.
        protocols: request
            .protocols
            .into_iter()
            .map(|protocol| (protocol.name, protocol.metadata.to_vec().into()))
            .collect(),
        require_known_member_id: reply.version >= KNOWN_MEMBER_ID_FROM
            && request.group_instance_id.is_none(),
        supports_skipping_assignment: reply.version >= SKIP_ASSIGNMENT_FROM,
        member: MemberRef { member_id: request.member_id, instance_id: request.group_instance_id },
    };
    env.request(Ask::Group { token: op.token(0), request: membership::Request::Join(join) });
    Started::Waiting(op, Box::new(JoinGroup { reply, group, member_id }))
}

fn refused(error: ErrorCode, member_id: String, reply: Reply) -> Response {
    Response {
        error_code: error.code(),
        member_id,
        // Version 7 made these nullable; before they are empty.
        protocol_type: None,
        protocol_name: (reply.version < 7).then(String::new),
        ..Response::default()
    }
}

struct JoinGroup {
    reply: Reply,
    group: String,
    member_id: String,
}

impl Operation for JoinGroup {
    fn event(&mut self, event: Event, env: &mut Env<'_, '_>) -> bool {
        let Event::Group { answer: Answer::Join(result), .. } = event else { return false };
        let response = match result {
            Ok(joined) => Response {
                throttle_time_ms: 0,
                error_code: 0,
                generation_id: joined.generation,
                protocol_type: Some(joined.protocol_type),
                protocol_name: Some(joined.protocol_name),
                leader: joined.leader,
                skip_assignment: joined.skip_assignment,
                member_id: joined.member_id,
                members: joined
                    .members
                    .into_iter()
                    .map(|member| Member {
                        member_id: member.member_id,
                        group_instance_id: member.instance_id,
                        metadata: member.metadata,
                    })
                    .collect(),
            },
            Err(refusal) => refused(refusal.error.into(), refusal.member_id, self.reply),
        };
        env.send(self.reply, |w, v| response.encode(w, v));
        true
    }

    fn access_changed(&mut self, env: &mut Env<'_, '_>) -> bool {
        let Err(error) = env.may_group(Action::Read, &self.group) else { return false };
        let response = refused(error, std::mem::take(&mut self.member_id), self.reply);
        env.send(self.reply, |w, v| response.encode(w, v));
        true
    }
}
