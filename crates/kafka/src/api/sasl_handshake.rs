//! SaslHandshake (key 17): the client chooses how it logs in, for the first time or again.

use crate::codec::generated::sasl_handshake::{Request, Response};
use crate::error::ErrorCode;
use crate::login::SaslMechanism;
use crate::operation::{Env, Started};
use crate::reply::Reply;

/// From this version on tokens come in SaslAuthenticate (KIP-152).
const FRAMED_FROM: i16 = 1;

pub(crate) fn start(request: Request, reply: Reply, env: &mut Env<'_, '_>) -> Started {
    let login = &mut env.connection.login;
    let is_served = login.is_over();
    if !login.may_begin(env.ctx.now.moment) {
        // Kafka goes on with a connection that is served already, and ends a login out of order.
        env.ctx.out.close |= !is_served;
        return answer(ErrorCode::IllegalSaslState, Vec::new(), reply, env);
    }
    let names = SaslMechanism::ALL.map(|mechanism| mechanism.name().to_owned()).to_vec();
    let Some(mechanism) = SaslMechanism::from_name(&request.mechanism) else {
        env.ctx.out.close = true;
        return answer(ErrorCode::UnsupportedSaslMechanism, names, reply, env);
    };
    login.begin(mechanism, reply.version >= FRAMED_FROM, env.ctx);
    answer(ErrorCode::None, names, reply, env)
}

fn answer(
    error: ErrorCode,
    mechanisms: Vec<String>,
    reply: Reply,
    env: &mut Env<'_, '_>,
) -> Started {
    let response = Response { error_code: error.code(), mechanisms };
    env.send(reply, |w, v| response.encode(w, v));
    Started::Answered
}
