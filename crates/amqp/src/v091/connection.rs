//! Class connection: greeting, login, tuning, opening the vhost, closing.

use super::error::{ReplyCode, Violation};
use super::frame::{self, greeting, Greeting, FRAME_MIN_SIZE, PROTOCOL_HEADER};
use super::login::{self, Login, LoginError};
use super::methods::{
    ConnectionCloseOk, ConnectionOpen, ConnectionOpenOk, ConnectionStart, ConnectionStartOk,
    ConnectionTune, ConnectionTuneOk, ConnectionUpdateSecretOk, Method,
};
use super::session::{AmqpSession, Stage};
use super::table::{Table, TableBuilder, TableView, Value};
use super::waiting::{Answer, Then};
use super::wire::LongString;
use bytes::{Buf, Bytes, BytesMut};
use koine_base::Moment;
use koine_broker::access::{same_bytes, Principal};
use koine_broker::metadata::{Command, Refusal};
use koine_broker::session::{Context, Credentials, LoginRefusal, NodeInfo, Request};

/// Seconds, proposed in tune as RabbitMQ does; the client's answer counts.
const HEARTBEAT_SECONDS: u16 = 60;

/// The one account of a node without users.
const USER: &str = "guest";
const PASSWORD: &str = "guest";

/// What we tell clients we can do; each is honoured. `direct_reply_to` is not, so it is not claimed.
const CAPABILITIES: [&str; 8] = [
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "consumer_priorities",
    "authentication_failure_close",
    "per_consumer_qos",
];

fn server_properties(node: &NodeInfo) -> Table {
    let mut capabilities = TableBuilder::new();
    for name in CAPABILITIES {
        capabilities = capabilities.with(name, Value::Bool(true));
    }
    let capabilities = capabilities.finish();
    TableBuilder::new()
        .with("capabilities", Value::Table(capabilities.view()))
        .with("cluster_name", Value::LongString(node.cluster_id.as_bytes()))
        .with("copyright", Value::LongString(b"The Koine authors"))
        .with("information", Value::LongString(b"Licensed under the Apache License 2.0"))
        .with("platform", Value::LongString(b"Rust"))
        .with("product", Value::LongString(b"Koine"))
        .with("version", Value::LongString(node.version.as_bytes()))
        .finish()
}

impl AmqpSession {
    /// False if nothing more can be done with `input` now.
    pub(super) fn greet(&mut self, input: &mut BytesMut, ctx: &mut Context<'_>) -> bool {
        match greeting(input) {
            Greeting::Incomplete => return false,
            Greeting::V091 => input.advance(PROTOCOL_HEADER.len()),
            Greeting::V1 | Greeting::V1Sasl | Greeting::Unknown => {
                // Section 2.2.4: say what we speak, and go.
                ctx.meter.violations += 1;
                ctx.out.wire.put(&PROTOCOL_HEADER);
                self.finish(ctx);
                return false;
            }
        }
        let start = ConnectionStart {
            version_major: 0,
            version_minor: 9,
            server_properties: server_properties(ctx.node),
            mechanisms: LongString(Bytes::from_static(match self.offers_external(ctx) {
                true => login::MECHANISMS_OF_TLS,
                false => login::MECHANISMS,
            })),
            locales: LongString(Bytes::from_static(b"en_US")),
        };
        self.reply(0, start, ctx);
        self.stage = Stage::Starting;
        true
    }

    pub(super) fn connection_method(
        &mut self,
        method: Method,
        ctx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        match (self.stage, method) {
            (Stage::Starting, Method::ConnectionStartOk(start)) => self.start_ok(&start, ctx),
            (Stage::Tuning, Method::ConnectionTuneOk(tune)) => self.tune_ok(&tune, ctx),
            (Stage::Opening, Method::ConnectionOpen(open)) => self.open(&open, ctx),
            (Stage::Running, Method::ConnectionUpdateSecret(_)) => {
                // As in RabbitMQ: a login by password does not expire, so there is nothing to renew,
                // but what the user may do is looked at again.
                self.follow_access(ctx);
                if self.stage == Stage::Running {
                    self.reply(0, ConnectionUpdateSecretOk {}, ctx);
                }
                Ok(())
            }
            (Stage::Running, Method::ConnectionClose(_)) => {
                self.leave(ctx);
                Ok(())
            }
            (_, Method::ConnectionClose(_)) => {
                self.reply(0, ConnectionCloseOk {}, ctx);
                self.finish(ctx);
                Ok(())
            }
            (Stage::Closing, Method::ConnectionCloseOk(_)) => {
                self.finish(ctx);
                Ok(())
            }
            (Stage::Closing | Stage::Leaving, _) => Ok(()),
            (stage, method) => {
                let explanation = format!(
                    "unexpected method {} in connection state {}",
                    method.name(),
                    format!("{stage:?}").to_lowercase()
                );
                Err(Violation::new(ReplyCode::ChannelError, &explanation, method.id()))
            }
        }
    }

    fn start_ok(
        &mut self,
        start: &ConnectionStartOk,
        ctx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        let capabilities = match start.client_properties.view().find("capabilities") {
            Some(Value::Table(capabilities)) => capabilities,
            _ => TableView::default(),
        };
        let has = |name: &str| capabilities.find(name) == Some(Value::Bool(true));
        self.wants_cancel_notify = has("consumer_cancel_notify");
        self.alarm.can_be_told = has("connection.blocked");
        self.wants_login_close = has("authentication_failure_close");
        let mechanism = start.mechanism.as_str();
        let refused = |code: ReplyCode, explanation: &str| {
            Err(Violation::new(code, explanation, ConnectionStartOk::ID))
        };
        match login::login(mechanism, &start.response.0, self.offers_external(ctx)) {
            Ok(login) => {
                self.log_in(mechanism, login, ctx);
                Ok(())
            }
            Err(LoginError::UnknownMechanism) => {
                let explanation = format!("unknown authentication mechanism '{mechanism}'");
                refused(ReplyCode::CommandInvalid, &explanation)
            }
            // Never with the response, which may be a password in the wrong place.
            Err(LoginError::MalformedResponse) => {
                let explanation = format!("{mechanism} response is not well-formed");
                refused(ReplyCode::SyntaxError, &explanation)
            }
            Err(LoginError::Impossible) => {
                self.login_refused(mechanism, ctx);
                Ok(())
            }
        }
    }

    /// RabbitMQ offers EXTERNAL on every TLS connection; without users nobody could log in by it.
    fn offers_external(&self, ctx: &Context<'_>) -> bool {
        self.caller.is_encrypted && ctx.metadata.access().is_secured()
    }

    fn log_in(&mut self, mechanism: &str, login: Login, ctx: &mut Context<'_>) {
        if !ctx.metadata.access().is_secured() {
            return self.log_in_without_users(mechanism, &login, ctx);
        }
        let (user, credentials) = match (login, &self.caller.certificate_user) {
            (Login::Password { user, password }, _) => {
                (user.clone(), Credentials::Password { user, password })
            }
            (Login::Certificate, Some(user)) => {
                (user.clone(), Credentials::Certificate { user: user.clone() })
            }
            (Login::Certificate, None) => return self.login_refused(mechanism, ctx),
        };
        let then = Then::LoggedIn { mechanism: mechanism.to_owned(), user };
        let address = self.caller.address;
        let request = |token| Request::Authenticate { token, address, credentials };
        self.ask(0, then, request, ctx);
    }

    fn log_in_without_users(&mut self, mechanism: &str, login: &Login, ctx: &mut Context<'_>) {
        let is_default = match login {
            Login::Password { user, password } => {
                user == USER && same_bytes(password.expose(), PASSWORD.as_bytes())
            }
            Login::Certificate => false,
        };
        if !is_default {
            return self.login_refused(mechanism, ctx);
        }
        self.user = USER.to_owned();
        self.tune(ctx);
    }

    /// The broker has looked at what the client showed; a refusal has been held back there.
    pub(super) fn logged_in(
        &mut self,
        mechanism: &str,
        user: String,
        answer: Result<Answer, Refusal>,
        ctx: &mut Context<'_>,
    ) -> Result<(), Violation> {
        match answer {
            Ok(Answer::Login(Ok(principal))) => {
                self.enter_as(principal);
                self.tune(ctx);
            }
            Ok(Answer::Login(Err(LoginRefusal::TooManyConnections { connections_max }))) => {
                self.user = user;
                self.limit_reached = Some(connections_max);
                self.tune(ctx);
            }
            Ok(Answer::Login(Err(LoginRefusal::Busy))) => {
                let explanation = "too many logins wait to be checked";
                self.refuse_entry(ReplyCode::ResourceError, explanation, ctx);
            }
            _ => self.login_refused(mechanism, ctx),
        }
        Ok(())
    }

    fn enter_as(&mut self, principal: Principal) {
        self.user = principal.name().to_owned();
        self.who = principal;
    }

    fn tune(&mut self, ctx: &mut Context<'_>) {
        let tune = ConnectionTune {
            channel_max: ctx.limits.channel_max,
            frame_max: ctx.limits.frame_bytes_max,
            heartbeat: HEARTBEAT_SECONDS,
        };
        self.reply(0, tune, ctx);
        self.stage = Stage::Tuning;
    }

    fn login_refused(&mut self, mechanism: &str, ctx: &mut Context<'_>) {
        let explanation = format!(
            "Login was refused using authentication mechanism {mechanism}. \
             For details see the broker logfile."
        );
        self.refuse_entry(ReplyCode::AccessRefused, &explanation, ctx);
    }

    /// Clients that do not know better take a closed socket for a failed login.
    fn refuse_entry(&mut self, code: ReplyCode, explanation: &str, ctx: &mut Context<'_>) {
        ctx.meter.request_errors += 1;
        if self.wants_login_close {
            self.connection_exception(Violation::new(code, explanation, (0, 0)), ctx);
        } else {
            self.finish(ctx);
        }
    }

    fn tune_ok(&mut self, tune: &ConnectionTuneOk, ctx: &mut Context<'_>) -> Result<(), Violation> {
        let frame_bytes_max = ctx.limits.frame_bytes_max;
        negotiated("frame_max", tune.frame_max, FRAME_MIN_SIZE, frame_bytes_max)?;
        let channel_max = ctx.limits.channel_max;
        negotiated("channel_max", tune.channel_max.into(), 1, channel_max.into())?;
        self.frame_max = tune.frame_max;
        self.channel_max = tune.channel_max;
        self.heartbeat.start(tune.heartbeat, ctx.now.moment);
        self.stage = Stage::Opening;
        Ok(())
    }

    fn open(&mut self, open: &ConnectionOpen, ctx: &mut Context<'_>) -> Result<(), Violation> {
        let vhost = open.virtual_host.as_str();
        let Some(namespace) = ctx.metadata.vhost(vhost) else {
            let explanation = format!("vhost {vhost} not found");
            return Err(Violation::new(ReplyCode::NotAllowed, &explanation, ConnectionOpen::ID));
        };
        if let Some(connections_max) = self.limit_reached {
            let explanation = format!(
                "connection refused for user '{}': user connection limit ({connections_max}) is \
                 reached",
                self.user
            );
            return Err(Violation::new(ReplyCode::NotAllowed, &explanation, ConnectionOpen::ID));
        }
        self.permit_vhost(namespace, vhost, ConnectionOpen::ID, ctx)?;
        self.namespace = namespace;
        self.vhost = vhost.to_owned();
        self.stage = Stage::Running;
        self.stage_deadline = Moment::NEVER;
        self.reply(0, ConnectionOpenOk::default(), ctx);
        Ok(())
    }

    /// The client closes: what it held is given back, and its exclusive queues go, before it is told,
    /// because that is when others expect them to be gone.
    fn leave(&mut self, ctx: &mut Context<'_>) {
        self.enter_closing(Stage::Leaving, ctx);
        let tokens = self.drop_channels(ctx);
        if tokens.is_empty() {
            return self.connection_left(ctx);
        }
        self.wait(0, Then::ConnectionLeft, Vec::new(), tokens, ctx);
    }

    pub(super) fn connection_left(&mut self, ctx: &mut Context<'_>) {
        let connection = ctx.connection.raw();
        if !ctx.metadata.is_bound_to(connection) {
            self.reply(0, ConnectionCloseOk {}, ctx);
            return self.finish(ctx);
        }
        let command = Command::ReleaseConnection { connection, at: ctx.now.wall.0 };
        self.ask(0, Then::ConnectionReleased, |token| Request::Propose { token, command }, ctx);
    }
}

const _: () = assert!(frame::FRAME_MAX_BEFORE_TUNE >= FRAME_MIN_SIZE, "what must fit, fits");

/// RabbitMQ's rule: at least the minimum, at most our value; 0 asks for no limit, which is too high.
fn negotiated(field: &str, value: u32, minimum: u32, maximum: u32) -> Result<(), Violation> {
    let explanation = if value != 0 && value < minimum {
        format!("negotiated {field} = {value} is lower than the minimum allowed value ({minimum})")
    } else if maximum != 0 && (value == 0 || value > maximum) {
        format!("negotiated {field} = {value} is higher than the maximum allowed value ({maximum})")
    } else {
        return Ok(());
    };
    Err(Violation::new(ReplyCode::NotAllowed, &explanation, ConnectionTune::ID))
}
