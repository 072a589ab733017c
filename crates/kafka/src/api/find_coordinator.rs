//! FindCoordinator (key 10): every group is coordinated by the node the client talks to; it finds
//! the group's own core by itself.

use crate::codec::generated::find_coordinator::{Coordinator, Request, Response};
use crate::error::ErrorCode;
use crate::operation::{Env, Started};
use crate::reply::Reply;
use crate::rights::refusal_text;
use koine_broker::access::Action;

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
    let coordinators = request.coordinator_keys.into_iter().map(|key| {
        if let Err(error) = allowed(&key, error, env) {
            return Coordinator {
                key,
                node_id: -1,
                port: -1,
                error_code: error.code(),
                error_message: Some(refusal_text(error)),
                ..Coordinator::default()
            };
        }
        Coordinator {
            key,
            node_id,
            host: host.clone(),
            port,
            error_code: error.code(),
            error_message: message.map(str::to_string),
        }
    });
    let mut response = Response {
        coordinators: coordinators.collect(),
        throttle_time_ms: 0,
        error_code: error.code(),
        error_message: message.map(str::to_string),
        node_id,
        host: host.clone(),
        port,
    };
    if let Err(error) = allowed(&request.key, error, env) {
        response.error_code = error.code();
        response.error_message = Some(refusal_text(error));
        (response.node_id, response.host, response.port) = (-1, String::new(), -1);
    }
    env.send(reply, |w, v| response.encode(w, v));
    Started::Answered
}

/// Only groups are looked up; whatever else is asked for is refused anyway.
fn allowed(key: &str, error: ErrorCode, env: &Env<'_, '_>) -> Result<(), ErrorCode> {
    match error {
        ErrorCode::None => env.may_group(Action::Describe, key),
        _ => Ok(()),
    }
}
