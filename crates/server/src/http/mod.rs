//! Health, metrics and the JSON admin API. It knows paths and JSON, not the broker: each request
//! becomes an [`AdminRequest`] that the runtime answers.
//!
//! On a node without users the one thing between a web page and the broker is the browser: calls of
//! the admin API whose `Origin` is another site, or whose `Host` is a foreign name on a listener that
//! only this machine reaches (DNS rebinding), are refused. With users every call but those for health
//! needs a name and a password (HTTP Basic, RFC 7617); there are no cookies.

pub mod client;
mod credentials;
pub mod percent;
mod routes;

#[cfg(test)]
mod tests;

use crate::metrics::exposition::Format;
use crate::metrics::Refusal;
use crate::runtime::entrance::{self, Entered};
use crate::runtime::gate::{Gate, Place};
use crate::tls::{Acceptance, Tls};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{
    HeaderValue, ACCEPT, ALLOW, AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN, WWW_AUTHENTICATE,
};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use koine_broker::access::{Secret, Verifiers};
use koine_broker::session::Peer;
use serde_json::{json, Value};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, OwnedSemaphorePermit, Semaphore};

/// A create request is a name and a few settings.
const BODY_BYTES_MAX: usize = 64 << 10;
/// Head of one request; hyper answers 431 above it.
const HEAD_BYTES_MAX: usize = 16 << 10;
const HEAD_WAIT: Duration = Duration::from_secs(10);
/// Browsers and scrapers hold a handful; more wait for a free place.
const CONNECTIONS_MAX: usize = 256;
/// Everything below it can look into or change what is stored.
const ADMIN_PATH: &str = "/koine/";
/// Requests that the runtime has not taken yet.
pub const REQUESTS_WAITING_MAX: usize = 256;

/// What can be listed and described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Topics,
    Queues,
    Groups,
    Sessions,
    Users,
    Permissions,
    TopicPermissions,
    Acls,
}

impl Kind {
    pub const ALL: [Kind; 8] = [
        Kind::Topics,
        Kind::Queues,
        Kind::Groups,
        Kind::Sessions,
        Kind::Users,
        Kind::Permissions,
        Kind::TopicPermissions,
        Kind::Acls,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Topics => "topics",
            Kind::Queues => "queues",
            Kind::Groups => "groups",
            Kind::Sessions => "sessions",
            Kind::Users => "users",
            Kind::Permissions => "permissions",
            Kind::TopicPermissions => "topic-permissions",
            Kind::Acls => "acls",
        }
    }

    /// One of them, in a sentence.
    pub fn singular(self) -> &'static str {
        match self {
            Kind::Topics => "topic",
            Kind::Queues => "queue",
            Kind::Groups => "group",
            Kind::Sessions => "session",
            Kind::Users => "user",
            Kind::Permissions => "permission of user",
            Kind::TopicPermissions => "topic permission",
            Kind::Acls => "access control list",
        }
    }

    /// Who may do what, rather than what there is.
    pub fn is_access(self) -> bool {
        matches!(self, Kind::Users | Kind::Permissions | Kind::TopicPermissions | Kind::Acls)
    }

    pub fn is_created(self) -> bool {
        matches!(self, Kind::Topics | Kind::Queues | Kind::Users | Kind::Acls)
    }

    pub fn is_set(self) -> bool {
        matches!(self, Kind::Users | Kind::Permissions | Kind::TopicPermissions)
    }

    pub fn by_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum AdminRequest {
    Ready,
    /// How the node is: its alarms, and what its connections hold.
    Status,
    Metrics {
        format: Format,
    },
    /// Names behind `after` in byte order, at most `limit`.
    List {
        kind: Kind,
        after: Option<String>,
        limit: usize,
    },
    Describe {
        kind: Kind,
        name: String,
    },
    Create {
        kind: Kind,
        name: String,
        options: serde_json::Map<String, Value>,
        password: Option<Secret>,
    },
    /// Changes what is there, or makes it: a user's settings, permissions.
    Set {
        kind: Kind,
        name: String,
        options: serde_json::Map<String, Value>,
        password: Option<Secret>,
    },
    Delete {
        kind: Kind,
        name: String,
    },
    Tail(TailRequest),
}

/// Records of one partition of a topic, or of a queue without consuming them.
#[derive(Clone, Debug, PartialEq)]
pub struct TailRequest {
    pub name: String,
    pub partition: u32,
    pub from: TailFrom,
    pub limit: usize,
    /// How long to wait for the first record if there is none yet.
    pub wait: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TailFrom {
    Start,
    End,
    Offset(u64),
}

#[derive(Clone, Debug, PartialEq)]
pub enum AdminAnswer {
    Json(Value),
    Page { format: Format, text: String },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminError {
    NotFound(String),
    AlreadyExists(String),
    Invalid(String),
    /// Not now: starting, stopping, or too much waiting.
    Unavailable(String),
    /// No name and password, or not the right ones.
    Unauthenticated,
    /// The user may not.
    Forbidden,
}

/// Who asks.
pub enum Caller {
    /// The node itself.
    Node,
    Peer {
        address: IpAddr,
        login: Option<(String, Secret)>,
    },
}

pub struct AdminCall {
    pub request: AdminRequest,
    pub caller: Caller,
    /// What is to be kept of the request's password, once somebody has worked it out.
    pub verifiers: Option<Verifiers>,
    pub answer: oneshot::Sender<Result<AdminAnswer, AdminError>>,
}

/// How connections come in.
#[derive(Clone)]
pub struct Entry {
    pub gate: Arc<Gate>,
    pub tls: Option<Arc<Tls>>,
    /// `None`: plain, without looking.
    pub encryption: Option<Acceptance>,
}

/// The places that all HTTP listeners share.
pub fn places() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(CONNECTIONS_MAX))
}

/// Serves until the task is dropped. Runs inside a `LocalSet`.
pub async fn serve(
    listener: TcpListener,
    entry: Entry,
    places: Arc<Semaphore>,
    calls: mpsc::Sender<AdminCall>,
) {
    let is_loopback = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let (socket, remote, local) = match accept(&listener).await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, usually: they come back as connections end.
                tracing::warn!(%error, "cannot accept on the http listener");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        match entry.gate.admit_http(remote.ip()) {
            Ok(admitted) => {
                let connection = Connection {
                    peer: Peer::plain(remote, local),
                    calls: calls.clone(),
                    is_loopback,
                    is_refused: false,
                    _places: (place, admitted),
                };
                tokio::task::spawn_local(connection.enter(entry.clone(), socket));
            }
            Err(refusal) => entry.gate.refused_http(refusal),
        }
    }
}

async fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr, SocketAddr)> {
    let (socket, remote) = listener.accept().await?;
    let local = socket.local_addr()?;
    Ok((socket, remote, local))
}

/// What all requests of one connection share.
struct Connection {
    peer: Peer,
    calls: mpsc::Sender<AdminCall>,
    /// The listener is reached from this machine only.
    is_loopback: bool,
    /// Plain, where TLS is required.
    is_refused: bool,
    _places: (OwnedSemaphorePermit, Place),
}

impl Connection {
    async fn enter(mut self, entry: Entry, socket: TcpStream) {
        let remote = self.peer.remote;
        let entered = match (entry.encryption, &entry.tls) {
            (Some(acceptance), Some(tls)) => entrance::enter(tls, acceptance, socket, remote).await,
            _ => Ok(Entered::Plain(socket)),
        };
        match entered {
            Ok(Entered::Plain(socket)) => {
                self.is_refused = entrance::is_refused_plain(entry.tls.as_deref(), remote);
                if self.is_refused {
                    entry.gate.refused_http(Refusal::Plain);
                }
                self.serve(socket).await;
            }
            Ok(Entered::Tls(stream)) => {
                self.peer.tls = entry.tls.as_ref().map(|tls| tls.peer(stream.get_ref().1));
                self.serve(stream).await;
            }
            Err(refusal) => entry.gate.refused_http(refusal),
        }
    }

    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + 'static) {
        let this = Rc::new(self);
        let service = hyper::service::service_fn(move |request| {
            let this = Rc::clone(&this);
            async move { Ok::<_, std::convert::Infallible>(answer(request, &this).await) }
        });
        let served = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WAIT)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "http connection ended");
        }
    }
}

async fn answer(request: Request<Incoming>, connection: &Connection) -> Response<Full<Bytes>> {
    if connection.is_refused {
        let why = "this broker wants TLS; use https";
        return refusal(StatusCode::FORBIDDEN, "tls_required", why);
    }
    let is_encrypted = connection.peer.tls.is_some();
    if let Err(why) = check_origin(&request, connection.is_loopback, is_encrypted) {
        return refusal(StatusCode::FORBIDDEN, "forbidden", why);
    }
    let (head, body) = request.into_parts();
    let login = head.headers.get(AUTHORIZATION).map(credentials::basic);
    let Ok(login) = login.transpose() else {
        return error_reply(&AdminError::Unauthenticated);
    };
    let format = Format::accepted(
        head.headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default(),
    );
    let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
        return refusal(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            "the body is over 64 KiB or was cut off",
        );
    };
    let target = routes::Target {
        method: head.method.as_str(),
        path: head.uri.path(),
        query: head.uri.query().unwrap_or_default(),
        body: &body.to_bytes(),
        format,
    };
    let request = match routes::route(&target) {
        Ok(routes::Route::Live) => return reply(StatusCode::OK, &json!({"status": "live"})),
        Ok(routes::Route::Index) => return index(),
        Ok(routes::Route::Ask(request)) => request,
        Err(routes::Refusal::NoSuchPath) => {
            return refusal(StatusCode::NOT_FOUND, "no_such_path", "no such path; GET / lists them")
        }
        Err(routes::Refusal::WrongMethod { allow }) => {
            let mut response = refusal(
                StatusCode::METHOD_NOT_ALLOWED,
                "wrong_method",
                &format!("use {allow} here"),
            );
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
            return response;
        }
        Err(routes::Refusal::Invalid(why)) => {
            return refusal(StatusCode::BAD_REQUEST, "invalid", &why)
        }
    };
    let created = matches!(request, AdminRequest::Create { .. });
    let caller = Caller::Peer { address: connection.peer.remote.ip(), login };
    match ask(request, caller, &connection.calls).await {
        Ok(AdminAnswer::Json(value)) => {
            reply(if created { StatusCode::CREATED } else { StatusCode::OK }, &value)
        }
        Ok(AdminAnswer::Page { format, text }) => page(format.content_type(), text),
        Err(error) => error_reply(&error),
    }
}

async fn ask(
    request: AdminRequest,
    caller: Caller,
    calls: &mpsc::Sender<AdminCall>,
) -> Result<AdminAnswer, AdminError> {
    let (answer, answered) = oneshot::channel();
    let gone = || AdminError::Unavailable("the broker is stopping".to_owned());
    calls.send(AdminCall { request, caller, verifiers: None, answer }).await.map_err(|_| gone())?;
    answered.await.map_err(|_| gone())?
}

fn error_reply(error: &AdminError) -> Response<Full<Bytes>> {
    match error {
        AdminError::NotFound(why) => refusal(StatusCode::NOT_FOUND, "not_found", why),
        AdminError::AlreadyExists(why) => refusal(StatusCode::CONFLICT, "already_exists", why),
        AdminError::Invalid(why) => refusal(StatusCode::BAD_REQUEST, "invalid", why),
        AdminError::Unavailable(why) => {
            refusal(StatusCode::SERVICE_UNAVAILABLE, "unavailable", why)
        }
        AdminError::Unauthenticated => {
            let why = "this needs a user's name and password (HTTP Basic; for our own commands \
                       KOINE_USER and KOINE_PASSWORD)";
            let mut response = refusal(StatusCode::UNAUTHORIZED, "unauthenticated", why);
            let challenge = HeaderValue::from_static("Basic realm=\"koine\", charset=\"UTF-8\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            response
        }
        AdminError::Forbidden => {
            refusal(StatusCode::FORBIDDEN, "forbidden", "the user may not do this")
        }
    }
}

fn page(content_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn reply(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    let mut response = page("application/json", format!("{value}\n"));
    *response.status_mut() = status;
    response
}

/// `code` is stable and for programs, the message for people.
fn refusal(status: StatusCode, code: &str, message: &str) -> Response<Full<Bytes>> {
    reply(status, &json!({"error": {"code": code, "message": message}}))
}

fn index() -> Response<Full<Bytes>> {
    let text = "Koine: health, metrics and the admin API.\n\n\
                GET    /health/live\nGET    /health/ready\nGET    /metrics\n\
                GET    /koine/v1/status\n\
                KIND is topics, queues, groups, sessions, users, permissions, topic-permissions, acls\n\
                GET    /koine/v1/KIND?after=NAME&limit=N\n\
                GET    /koine/v1/KIND/NAME\n\
                POST   /koine/v1/{topics,queues,users,acls}          {\"name\": ...}\n\
                PUT    /koine/v1/{users,permissions}/NAME\n\
                PUT    /koine/v1/topic-permissions/USER%2FEXCHANGE\n\
                DELETE /koine/v1/KIND/NAME\n\
                GET    /koine/v1/tail/NAME?partition=0&from=start|end|OFFSET&limit=N&wait_ms=N\n";
    page("text/plain; charset=utf-8", text.to_owned())
}

fn check_origin(
    request: &Request<Incoming>,
    is_loopback: bool,
    is_encrypted: bool,
) -> Result<(), &'static str> {
    if !request.uri().path().starts_with(ADMIN_PATH) {
        return Ok(());
    }
    let text =
        |name| request.headers().get(name).map(|value: &HeaderValue| value.to_str().unwrap_or("?"));
    let host = text(HOST).unwrap_or_default();
    if is_loopback && !is_own_name(host) {
        return Err("the Host header is a name that this listener does not go by; use its address");
    }
    let scheme = if is_encrypted { "https://" } else { "http://" };
    match text(ORIGIN) {
        Some(origin) if origin.strip_prefix(scheme) != Some(host) => {
            Err("requests from other sites are refused")
        }
        _ => Ok(()),
    }
}

/// An address, or `localhost`: no name that a stranger's DNS could point here.
fn is_own_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    bare == "localhost" || bare.parse::<IpAddr>().is_ok()
}
