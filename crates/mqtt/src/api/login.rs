//! Who a connection is: what CONNECT shows is asked of the engine, and the session is opened once it has
//! answered (MQTT 5 §3.1.3.5, §4.12). Never compares a password itself, and never says which part of a
//! login was wrong. On a node without users everybody is let in, and may call itself anything.

use crate::codec::{Auth, Hidden, Packet, Properties, Property};
use crate::error::{End, ReasonCode, Violation};
use crate::session::{token, Kind, MqttSession, Phase};
use koine_broker::access::scram::{Mechanism, ServerExchange};
use koine_broker::access::{Principal, Secret};
use koine_broker::session::{Context, Credentials, LoginRefusal, Peer, Request};

/// What RabbitMQ's clients may put before a user name to choose a virtual host; there is this one.
const VHOST_PREFIX: &str = "/:";

/// An enhanced login on its way.
#[derive(Debug)]
pub(crate) struct Login {
    mechanism: Mechanism,
    /// Of the user when the login began, if there was one.
    generation: Option<u64>,
    step: Step,
}

#[derive(Debug)]
enum Step {
    /// The client is to prove that it knows the password.
    Challenged(Box<ServerExchange>),
    /// With the engine, and what proves to the client that we know it, too.
    Checking(String),
}

impl Login {
    /// Nothing more is read until the engine has answered.
    pub fn is_checked(&self) -> bool {
        matches!(self.step, Step::Checking(_))
    }
}

/// The user that TLS has verified.
fn certificate_user(peer: &Peer) -> Option<&str> {
    peer.tls.as_ref()?.user.as_deref()
}

/// The method of enhanced authentication that a packet names, and its data.
fn method_and_data(properties: &Properties) -> (Option<&str>, &[u8]) {
    let (mut method, mut data) = (None, &[][..]);
    for property in properties.iter() {
        match property {
            Property::AuthenticationMethod(name) => method = Some(name),
            Property::AuthenticationData(Hidden(bytes)) => data = bytes,
            _ => {}
        }
    }
    (method, data)
}

/// What a CONNECT shows beside its certificate.
pub(super) struct Shown {
    pub user_name: Option<String>,
    pub password: Option<Secret>,
    /// With the client's first message.
    enhanced: Option<(Mechanism, Secret)>,
}

impl Shown {
    /// Without users there is nothing to prove by any method, so that none is known.
    pub fn of(
        properties: &Properties,
        user_name: Option<String>,
        password: Option<Secret>,
        is_secured: bool,
    ) -> Result<Self, End> {
        let enhanced = match method_and_data(properties) {
            (None, _) => None,
            (Some(method), data) => {
                let mechanism = Mechanism::from_name(method).filter(|_| is_secured);
                let mechanism =
                    mechanism.ok_or(End::Reason(ReasonCode::BadAuthenticationMethod))?;
                Some((mechanism, Secret::new(data)))
            }
        };
        Ok(Shown { user_name, password, enhanced })
    }
}

impl MqttSession {
    /// Lets the client in, or begins to find out whether to. Enhanced authentication comes before a user
    /// name, and that before a certificate.
    pub(super) fn log_in(&mut self, shown: Shown, ctx: &mut Context<'_>) -> Result<(), End> {
        if !ctx.metadata.access().is_secured() {
            let nobody = Principal::anonymous(self.peer().remote.ip());
            return self.logged_in(nobody, ctx);
        }
        if let Some((mechanism, data)) = shown.enhanced {
            self.phase = Phase::Authenticating;
            return self.challenge(mechanism, data.expose(), ctx);
        }
        let credentials = match (shown.user_name, certificate_user(self.peer())) {
            (Some(name), _) => {
                let user = name.strip_prefix(VHOST_PREFIX).unwrap_or(&name).to_owned();
                Credentials::Password { user, password: shown.password.unwrap_or_default() }
            }
            (None, Some(user)) => Credentials::Certificate { user: user.to_owned() },
            (None, None) => return Err(End::Reason(ReasonCode::NotAuthorized)),
        };
        self.is_named = matches!(credentials, Credentials::Password { .. });
        self.phase = Phase::LoggingIn;
        self.ask(credentials, ctx);
        Ok(())
    }

    fn ask(&self, credentials: Credentials, ctx: &mut Context<'_>) {
        let (token, address) = (token(Kind::Login, 0), self.peer().remote.ip());
        ctx.out.request(Request::Authenticate { token, address, credentials });
    }

    fn logged_in(&mut self, mut who: Principal, ctx: &mut Context<'_>) -> Result<(), End> {
        who.client_id = Some(self.client.identifier.as_str().into());
        self.principal = who;
        self.open(ctx)
    }

    /// AUTH: a step of the login, or of one more during the connection (§3.15).
    pub(crate) fn on_auth(&mut self, auth: &Auth, ctx: &mut Context<'_>) -> Result<(), End> {
        let known = self.login.as_ref().map(|login| login.mechanism).or(self.client.mechanism);
        let mechanism = known.ok_or(Violation::UnexpectedPacket)?;
        let (method, data) = method_and_data(&auth.properties);
        // The method is that of CONNECT, always (§4.12.1).
        if method != Some(mechanism.name()) {
            return Err(Violation::AuthenticationMethod.into());
        }
        match (auth.reason, &self.login) {
            (ReasonCode::ContinueAuthentication, Some(_)) => self.prove(data, ctx),
            (ReasonCode::ReAuthenticate, None) => self.challenge(mechanism, data, ctx),
            _ => Err(Violation::UnexpectedPacket.into()),
        }
    }

    /// The client's first message: answered for a user who does not exist as well.
    fn challenge(
        &mut self,
        mechanism: Mechanism,
        client_first: &[u8],
        ctx: &mut Context<'_>,
    ) -> Result<(), End> {
        let access = ctx.metadata.access();
        let begun = ServerExchange::begin(mechanism, client_first, access, ctx.secret_rng);
        let (exchange, server_first) = begun.map_err(|_| End::Reason(ReasonCode::NotAuthorized))?;
        // One connection is one user's, for as long as it lasts.
        if self.phase == Phase::Connected && exchange.user() != self.principal.name() {
            return Err(End::Reason(ReasonCode::NotAuthorized));
        }
        let generation = access.user(exchange.user()).map(|user| user.generation);
        let step = Step::Challenged(Box::new(exchange));
        self.login = Some(Login { mechanism, generation, step });
        self.send_auth(ReasonCode::ContinueAuthentication, mechanism, &server_first, ctx);
        Ok(())
    }

    /// The client's last message. Right or wrong, the engine says so, and not sooner than it does to
    /// others.
    fn prove(&mut self, client_final: &[u8], ctx: &mut Context<'_>) -> Result<(), End> {
        let Some(Login { step, .. }) = &mut self.login else {
            return Err(Violation::UnexpectedPacket.into());
        };
        let Step::Challenged(exchange) = step else {
            return Err(Violation::UnexpectedPacket.into());
        };
        let outcome = exchange.finish(client_final);
        let (user, is_right) = (exchange.user().to_owned(), outcome.is_ok());
        *step = Step::Checking(outcome.unwrap_or_default());
        if self.phase == Phase::Authenticating {
            self.phase = Phase::LoggingIn;
        }
        self.ask(Credentials::Scram { user, is_right }, ctx);
        Ok(())
    }

    fn send_auth(
        &self,
        reason: ReasonCode,
        mechanism: Mechanism,
        data: &str,
        ctx: &mut Context<'_>,
    ) {
        let properties = authentication(mechanism, data).into_iter().collect();
        self.encode(&Packet::Auth(Auth { reason, properties }), ctx);
    }

    /// The engine has decided.
    pub(crate) fn on_authenticated(
        &mut self,
        result: Result<Principal, LoginRefusal>,
        ctx: &mut Context<'_>,
    ) -> Result<(), End> {
        let who = result.map_err(|refusal| self.login_refused(refusal, ctx))?;
        // The password that was proven may not be the user's any more.
        if self.login.as_ref().is_some_and(|login| login.generation != Some(who.generation)) {
            return Err(self.login_refused(LoginRefusal::Wrong, ctx));
        }
        if self.phase == Phase::LoggingIn {
            return self.logged_in(who, ctx);
        }
        self.principal.generation = who.generation;
        if let Some(Login { mechanism, step: Step::Checking(answer), .. }) = self.login.take() {
            self.send_auth(ReasonCode::Success, mechanism, &answer, ctx);
        }
        Ok(())
    }

    fn login_refused(&self, refusal: LoginRefusal, ctx: &mut Context<'_>) -> End {
        ctx.meter.request_errors += 1;
        End::Reason(match refusal {
            LoginRefusal::Wrong if self.is_named => ReasonCode::BadUserNameOrPassword,
            LoginRefusal::Wrong => ReasonCode::NotAuthorized,
            LoginRefusal::TooManyConnections { .. } => ReasonCode::QuotaExceeded,
            LoginRefusal::Busy => ReasonCode::ServerBusy,
        })
    }

    /// What CONNACK says of an enhanced login that is through: it is, from here on.
    pub(super) fn end_login(&mut self) -> Option<(Mechanism, String)> {
        let Login { mechanism, step, .. } = self.login.take()?;
        let Step::Checking(answer) = step else { return None };
        self.client.mechanism = Some(mechanism);
        Some((mechanism, answer))
    }
}

/// The properties of a step.
pub(super) fn authentication(mechanism: Mechanism, data: &str) -> [Property<'_>; 2] {
    [
        Property::AuthenticationMethod(mechanism.name()),
        Property::AuthenticationData(Hidden(data.as_bytes())),
    ]
}
