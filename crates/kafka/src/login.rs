//! How far a connection has come in logging in, and what it may ask before it has. The requests that
//! log in are in `api`; whether they are right is the engine's to say. Never compares a password.

use crate::codec::ApiKey;
use crate::operation::{Env, Op, Operation};
use koine_base::Moment;
use koine_broker::access::scram::{Mechanism, ServerExchange};
use koine_broker::access::{Principal, Secret};
use koine_broker::session::{Context, Credentials, Event, LoginRefusal, Peer, Request as Ask};

/// Kafka's own bound: a connection that is logged in may do so again once a second.
const AGAIN_AFTER_MS: u64 = 1_000;

/// How a client proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaslMechanism {
    Plain,
    Scram(Mechanism),
}

impl SaslMechanism {
    pub const ALL: [SaslMechanism; 3] = [
        SaslMechanism::Plain,
        SaslMechanism::Scram(Mechanism::Sha256),
        SaslMechanism::Scram(Mechanism::Sha512),
    ];

    pub fn name(self) -> &'static str {
        match self {
            SaslMechanism::Plain => "PLAIN",
            SaslMechanism::Scram(mechanism) => mechanism.name(),
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name() == name)
    }
}

/// Where the tokens of a login come from.
pub struct Exchange {
    pub mechanism: SaslMechanism,
    /// In SaslAuthenticate; else each is bare, behind its length.
    pub is_framed: bool,
    /// Between the client's first and its last message of SCRAM; and the user's generation then, if
    /// there is such a user.
    pub scram: Option<Box<(ServerExchange, Option<u64>)>>,
}

#[derive(Default)]
enum Stage {
    /// Nothing has been looked at yet.
    #[default]
    New,
    /// Between logins, or without any.
    Idle,
    /// A mechanism is chosen and its tokens are awaited.
    Chosen(Exchange),
    /// The engine has been asked.
    Checking,
}

/// A login that was granted.
struct Granted {
    /// `None`: by certificate.
    mechanism: Option<SaslMechanism>,
    /// From then on only another login is served.
    expires_at: Moment,
}

pub struct Login {
    stage: Stage,
    /// On a node without users.
    is_open: bool,
    granted: Option<Granted>,
    /// A request beside those of logins was served.
    has_served: bool,
    /// When the one under way must be through.
    deadline: Moment,
    begun_at: Moment,
    certificate_user: Option<String>,
    /// Whoever the granted login was for; nobody before.
    pub principal: Principal,
}

impl Login {
    pub fn new(peer: &Peer) -> Self {
        Login {
            stage: Stage::New,
            is_open: false,
            granted: None,
            has_served: false,
            // At once: then the clock is known.
            deadline: Moment(0),
            begun_at: Moment(0),
            certificate_user: certificate_user(peer),
            principal: Principal::anonymous(peer.remote.ip()),
        }
    }

    #[cfg(test)]
    pub fn with_certificate(&mut self, user: &str) {
        self.certificate_user = Some(user.to_owned());
    }

    /// Whether anything but a login is served.
    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Idle) && (self.is_open || self.granted.is_some())
    }

    pub fn deadline(&self) -> Moment {
        self.deadline
    }

    /// Whether what comes next is a bare token.
    pub fn awaits_token(&self) -> bool {
        matches!(&self.stage, Stage::Chosen(exchange) if !exchange.is_framed)
    }

    /// Whether this request is taken now. Which of them are answered with an error is theirs to say.
    pub fn admits(&mut self, key: ApiKey, now: Moment) -> bool {
        let is_login = matches!(key, ApiKey::SaslHandshake | ApiKey::SaslAuthenticate);
        let has_expired = self.granted.as_ref().is_some_and(|granted| granted.expires_at <= now);
        match &self.stage {
            Stage::New | Stage::Checking => false,
            Stage::Chosen(_) => is_login,
            Stage::Idle if self.is_over() && !has_expired => {
                self.has_served |= !is_login && key != ApiKey::ApiVersions;
                true
            }
            Stage::Idle if self.is_over() => key == ApiKey::SaslHandshake,
            Stage::Idle => is_login || key == ApiKey::ApiVersions,
        }
    }

    /// Whether a mechanism may be chosen now.
    pub fn may_begin(&self, now: Moment) -> bool {
        match (&self.stage, &self.granted) {
            _ if self.is_open => false,
            (Stage::Idle, None) => true,
            // A certificate opened the connection; who speaks over it may still say who it is.
            (Stage::Idle, Some(Granted { mechanism: None, .. })) => !self.has_served,
            (Stage::Idle, Some(granted)) => {
                granted.expires_at != Moment::NEVER && self.begun_at.after_ms(AGAIN_AFTER_MS) <= now
            }
            _ => false,
        }
    }

    pub fn begin(&mut self, mechanism: SaslMechanism, is_framed: bool, ctx: &Context<'_>) {
        if self.granted.is_some() {
            self.deadline = ctx.now.moment.after_ms(ctx.limits.handshake_ms_max);
        }
        self.begun_at = ctx.now.moment;
        self.stage = Stage::Chosen(Exchange { mechanism, is_framed, scram: None });
    }

    /// The login under way, which goes on with [`Self::put_back`] or is at its end.
    pub fn take_exchange(&mut self) -> Option<Exchange> {
        match std::mem::replace(&mut self.stage, Stage::Checking) {
            Stage::Chosen(exchange) => Some(exchange),
            other => {
                self.stage = other;
                None
            }
        }
    }

    pub fn put_back(&mut self, exchange: Exchange) {
        self.stage = Stage::Chosen(exchange);
    }

    /// What a login says of itself in errors.
    pub fn kind(&self) -> &'static str {
        match self.is_again() {
            true => "re-authentication",
            false => "authentication",
        }
    }

    fn is_again(&self) -> bool {
        self.granted.as_ref().is_some_and(|granted| granted.mechanism.is_some())
    }

    /// Why `user` may not log in by `mechanism` on this connection: whoever was logged in before must
    /// come again, in the same way (KIP-368).
    pub fn objection(&self, mechanism: SaslMechanism, user: &str) -> Option<String> {
        let granted = self.granted.as_ref()?;
        let before = granted.mechanism?;
        if before != mechanism {
            return Some(format!(
                "SASL mechanism '{}' requested by client is not supported for re-authentication of mechanism '{}'",
                mechanism.name(),
                before.name()
            ));
        }
        let is_same = self.principal.name() == user;
        (!is_same).then(|| {
            let before = self.principal.name();
            format!(
                "Cannot change principals during re-authentication from User.{before}: User.{user}"
            )
        })
    }

    /// Gives the milliseconds until the client must come again; 0 is never.
    pub fn grant(
        &mut self,
        principal: Principal,
        mechanism: Option<SaslMechanism>,
        ctx: &Context<'_>,
    ) -> u64 {
        let lifetime_ms = match mechanism {
            Some(_) => ctx.limits.sasl_session_ms_max,
            None => 0,
        };
        let expires_at = match lifetime_ms {
            0 => Moment::NEVER,
            ms => ctx.now.moment.after_ms(ms),
        };
        self.principal = principal;
        self.granted = Some(Granted { mechanism, expires_at });
        self.stage = Stage::Idle;
        self.deadline = Moment::NEVER;
        lifetime_ms
    }

    /// Whoever was logged in is not known any more; what is under way has this long.
    pub fn end(&mut self, ctx: &Context<'_>) {
        self.deadline = ctx.now.moment.after_ms(ctx.limits.handshake_ms_max);
    }

    /// Whether the connection still is who it was, now that users or rules have changed.
    pub fn is_known(&self, ctx: &Context<'_>) -> bool {
        let holds = self.is_open || self.granted.is_some();
        !holds || ctx.metadata.access().still_knows(&self.principal)
    }
}

/// The user that the peer's certificate stands for.
fn certificate_user(peer: &Peer) -> Option<String> {
    peer.tls.as_ref().and_then(|tls| tls.user.clone())
}

/// Looks at the node for the first time: whether a login is wanted at all. A certificate is shown to the
/// engine.
pub(crate) fn first_look(env: &mut Env<'_, '_>) -> Option<(Op, Box<dyn Operation + Send>)> {
    let login = &mut env.connection.login;
    if !matches!(login.stage, Stage::New) {
        return None;
    }
    login.stage = Stage::Idle;
    if !env.ctx.metadata.access().is_secured() {
        login.is_open = true;
        login.deadline = Moment::NEVER;
        return None;
    }
    login.deadline = env.ctx.now.moment.after_ms(env.ctx.limits.handshake_ms_max);
    let user = login.certificate_user.take()?;
    login.stage = Stage::Checking;
    let op = env.new_op();
    authenticate(Credentials::Certificate { user }, op, env);
    Some((op, Box::new(ByCertificate)))
}

pub(crate) fn authenticate(credentials: Credentials, op: Op, env: &mut Env<'_, '_>) {
    let address = env.connection.peer.remote.ip();
    env.request(Ask::Authenticate { token: op.token(0), address, credentials });
}

struct ByCertificate;

impl Operation for ByCertificate {
    fn event(&mut self, event: Event, env: &mut Env<'_, '_>) -> bool {
        let Event::Authenticated { result, .. } = event else { return false };
        match result {
            Ok(principal) => {
                env.connection.login.grant(principal, None, env.ctx);
            }
            Err(_) => env.ctx.out.close = true,
        }
        true
    }
}

/// What PLAIN's one message says: who logs in, with which password (RFC 4616). The error is a text for
/// the client.
pub(crate) fn parse_plain(token: &Secret) -> Result<(String, Secret), String> {
    let parts: Vec<&[u8]> = token.expose().split(|byte| *byte == 0).take(4).collect();
    let [authzid, user, password] = parts[..] else {
        let count = parts.len();
        return Err(format!("Invalid SASL/PLAIN response: expected 3 tokens, got {count}"));
    };
    if user.is_empty() {
        return Err("Authentication failed: username not specified".into());
    }
    if password.is_empty() {
        return Err("Authentication failed: password not specified".into());
    }
    if !authzid.is_empty() && authzid != user {
        return Err("Authentication failed: Client requested an authorization id that is different from username".into());
    }
    // A name that is not a text is nobody's; it is refused like any other that is not.
    let user = String::from_utf8_lossy(user).into_owned();
    Ok((user, Secret::new(password)))
}

/// The text for a login that the engine did not grant; `None` closes without one, so that the client
/// tries again.
pub(crate) fn refusal_text(
    refusal: LoginRefusal,
    mechanism: SaslMechanism,
    kind: &str,
) -> Option<String> {
    match (refusal, mechanism) {
        (LoginRefusal::Wrong, SaslMechanism::Plain) => {
            Some("Authentication failed: Invalid username or password".into())
        }
        (LoginRefusal::Wrong, SaslMechanism::Scram(mechanism)) => {
            Some(invalid_credentials(mechanism, kind))
        }
        (LoginRefusal::TooManyConnections { connections_max }, _) => Some(format!(
            "Authentication failed: the user has {connections_max} connections, as many as it may"
        )),
        (LoginRefusal::Busy, _) => None,
    }
}

pub(crate) fn invalid_credentials(mechanism: Mechanism, kind: &str) -> String {
    let name = mechanism.name();
    format!(
        "Authentication failed during {kind} due to invalid credentials with SASL mechanism {name}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_messages_have_three_parts() {
        let check = |token: &str, expect: Result<(&str, &str), &str>| {
            let parsed = parse_plain(&Secret::new(token));
            let parsed = parsed
                .as_ref()
                .map(|(user, password)| (user.as_str(), password.expose()))
                .map_err(String::as_str);
            assert_eq!(parsed, expect.map(|(user, password)| (user, password.as_bytes())));
        };
        check("\0alice\0secret", Ok(("alice", "secret")));
        check("alice\0alice\0secret", Ok(("alice", "secret")));
        let other = "Authentication failed: Client requested an authorization id that is different from username";
        check("bob\0alice\0secret", Err(other));
        check("\0\0secret", Err("Authentication failed: username not specified"));
        check("\0alice\0", Err("Authentication failed: password not specified"));
        for (token, count) in
            [("", 1), ("alice", 1), ("a\0b", 2), ("a\0b\0c\0d", 4), ("\0\0\0\0\0", 4)]
        {
            let text = format!("Invalid SASL/PLAIN response: expected 3 tokens, got {count}");
            check(token, Err(&text));
        }
    }
}
