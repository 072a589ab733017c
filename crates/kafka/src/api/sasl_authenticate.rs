//! SaslAuthenticate (key 36): one token of a login. Of a client that chose its mechanism by
//! SaslHandshake version 0 the tokens come without any request around them, and go so.

use crate::codec::generated::sasl_authenticate::{Request, Response};
use crate::error::ErrorCode;
use crate::login::{authenticate, invalid_credentials, parse_plain, refusal_text};
use crate::login::{Exchange, SaslMechanism};
use crate::operation::{Env, Operation, Started};
use crate::reply::Reply;
use bytes::{BufMut, Bytes};
use koine_broker::access::scram::{Mechanism, ServerExchange};
use koine_broker::access::Secret;
use koine_broker::session::{Credentials, Event};

pub(crate) fn start(request: Request, reply: Reply, env: &mut Env<'_, '_>) -> Started {
    let login = &mut env.connection.login;
    let is_served = login.is_over();
    let Some(exchange) = login.take_exchange() else {
        env.ctx.out.close |= !is_served;
        let text = match is_served {
            true => "SaslAuthenticate request received after successful authentication",
            false => "SaslAuthenticate request received before SaslHandshake",
        };
        let response = Response {
            error_code: ErrorCode::IllegalSaslState.code(),
            error_message: Some(text.into()),
            ..Response::default()
        };
        env.send(reply, |w, v| response.encode(w, v));
        return Started::Answered;
    };
    take(request.auth_bytes, exchange, Some(reply), env)
}

/// A token without a request.
pub(crate) fn start_bare(token: Secret, env: &mut Env<'_, '_>) -> Started {
    match env.connection.login.take_exchange() {
        Some(exchange) => take(token, exchange, None, env),
        None => Started::Answered,
    }
}

fn take(token: Secret, exchange: Exchange, reply: Option<Reply>, env: &mut Env<'_, '_>) -> Started {
    match exchange.mechanism {
        SaslMechanism::Plain => take_plain(token, exchange, reply, env),
        SaslMechanism::Scram(mechanism) => take_scram(token, mechanism, exchange, reply, env),
    }
}

fn take_plain(
    token: Secret,
    exchange: Exchange,
    reply: Option<Reply>,
    env: &mut Env<'_, '_>,
) -> Started {
    let (user, password) = match parse_plain(&token) {
        Ok(parsed) => parsed,
        Err(text) => return refuse(text, reply, env),
    };
    if let Some(text) = env.connection.login.objection(exchange.mechanism, &user) {
        return refuse(text, reply, env);
    }
    let credentials = Credentials::Password { user, password };
    ask(credentials, exchange.mechanism, Bytes::new(), None, reply, env)
}

fn take_scram(
    token: Secret,
    mechanism: Mechanism,
    mut exchange: Exchange,
    reply: Option<Reply>,
    env: &mut Env<'_, '_>,
) -> Started {
    let access = env.ctx.metadata.access();
    let generation_of = |user: &str| access.user(user).map(|user| user.generation);
    let Some((server, generation)) = exchange.scram.take().map(|begun| *begun) else {
        let begun = ServerExchange::begin(mechanism, token.expose(), access, env.ctx.secret_rng);
        let Ok((server, first)) = begun else {
            let text = invalid_credentials(mechanism, env.connection.login.kind());
            return refuse(text, reply, env);
        };
        let generation = generation_of(server.user());
        exchange.scram = Some(Box::new((server.taking_doubled_nonce(), generation)));
        env.connection.login.put_back(exchange);
        send_token(first.into(), 0, reply, env);
        return Started::Answered;
    };
    if let Some(text) = env.connection.login.objection(exchange.mechanism, server.user()) {
        return refuse(text, reply, env);
    }
    let user = server.user().to_owned();
    // What the exchange began with must not have been replaced since.
    let is_current = generation.is_some() && generation == generation_of(&user);
    let finished = server.finish(token.expose());
    let is_right = is_current && finished.is_ok();
    let last = finished.map(Bytes::from).unwrap_or_default();
    ask(Credentials::Scram { user, is_right }, exchange.mechanism, last, generation, reply, env)
}

fn ask(
    credentials: Credentials,
    mechanism: SaslMechanism,
    last: Bytes,
    generation: Option<u64>,
    reply: Option<Reply>,
    env: &mut Env<'_, '_>,
) -> Started {
    let op = env.new_op();
    authenticate(credentials, op, env);
    Started::Waiting(op, Box::new(SaslAuthenticate { reply, mechanism, last, generation }))
}

struct SaslAuthenticate {
    reply: Option<Reply>,
    mechanism: SaslMechanism,
    /// The server's last token.
    last: Bytes,
    /// Of the user when it was proved who it is; `None` if the engine itself does that.
    generation: Option<u64>,
}

impl Operation for SaslAuthenticate {
    fn event(&mut self, event: Event, env: &mut Env<'_, '_>) -> bool {
        let Event::Authenticated { result, .. } = event else { return false };
        let kind = env.connection.login.kind();
        match result {
            // The proof was for a password that is none any more.
            Ok(principal) if self.generation.is_some_and(|at| at != principal.generation) => {
                env.ctx.out.close = true;
            }
            Ok(principal) => {
                let lifetime_ms =
                    env.connection.login.grant(principal, Some(self.mechanism), env.ctx);
                send_token(std::mem::take(&mut self.last), lifetime_ms, self.reply, env);
            }
            Err(refusal) => match refusal_text(refusal, self.mechanism, kind) {
                Some(text) => {
                    refuse(text, self.reply, env);
                }
                None => env.ctx.out.close = true,
            },
        }
        true
    }
}

fn send_token(token: Bytes, lifetime_ms: u64, reply: Option<Reply>, env: &mut Env<'_, '_>) {
    let Some(reply) = reply else {
        let tail = env.ctx.out.wire.tail();
        tail.put_u32(u32::try_from(token.len()).expect("made here, of a few hundred bytes"));
        tail.put_slice(&token);
        return;
    };
    let session_lifetime_ms = i64::try_from(lifetime_ms).unwrap_or(i64::MAX);
    let response = Response { auth_bytes: token, session_lifetime_ms, ..Response::default() };
    env.send(reply, |w, v| response.encode(w, v));
}

/// Says why, if there is a way to say it, and ends the connection.
fn refuse(text: String, reply: Option<Reply>, env: &mut Env<'_, '_>) -> Started {
    env.ctx.out.close = true;
    env.ctx.meter.request_errors += 1;
    if let Some(reply) = reply {
        let response = Response {
            error_code: ErrorCode::SaslAuthenticationFailed.code(),
            error_message: Some(text),
            ..Response::default()
        };
        env.send(reply, |w, v| response.encode(w, v));
    }
    Started::Answered
}
