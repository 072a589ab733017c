//! FindCoordinator (key 10): every group is coordinated by the node the client talks to; it finds
//! the group's own core by itself.

use crate::codec::generated::find_coordinator::{Coordinator, Request, Response};
use crate::error::ErrorCode;
use crate::operation::{Env, Started};
use crate::reply::Reply;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

pub(crate) fn start(request: Request, reply: Reply, env: &mut Env<'_, '_>) -> Started {
    let (error, message) = match request.key_type {
        GROUP => (ErrorCode::None, None),
        // The one code that makes every client give up at once instead of asking for ever.
        TRANSACTION => (
            ErrorCode::TransactionalIdAuthorizationFailed,
            Some("transactions are not supported yet"),
        ),
        _ => (ErrorCode::InvalidRequest, Some("this coordinator type is not supported")),
    };
    let (node_id, (host, port)) = match error {
        ErrorCode::None => (env.ctx.node.node_id, env.advertised()),
        _ => (-1, (String::new(), -1)),
    };
    let coordinators = request.coordinator_keys.into_iter().map(|key| Coordinator {
        key,
        node_id,
        host: host.clone(),
        port,
        error_code: error.code(),
        error_message: message.map(str::to_string),
    });
    let response = Response {
        coordinators: coordinators.collect(),
        throttle_time_ms: 0,
        error_code: error.code(),
        error_message: message.map(str::to_string),
        node_id,
        host: host.clone(),
        port,
    };
    env.send(reply, |w, v| response.encode(w, v));
    Started::Answered
}
