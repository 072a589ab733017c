//! The thread in front of the shards: accepts sockets, serves HTTP, puts metrics together from all
//! shards, and leads the shutdown.

use super::gate::Gate;
use super::mailbox::{Accepted, Mailbox, Message};
use super::overload::{self, Marks};
use super::report::ShardReport;
use super::secret_seed;
use crate::disk::RealDisk;
use crate::http::{self, AdminAnswer, AdminCall, AdminError, AdminRequest, Caller, Entry, Kind};
use crate::machine;
use crate::metrics::exposition::{Exposition, Format};
use crate::metrics::{encryption, engine, load, objects, Protocol, RuntimeCounts, Surroundings};
use crate::tls::{Acceptance, Tls};
use koine_base::disk::Disk;
use koine_broker::access::{Secret, SecretRng, Verifiers};
use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::signal::unix::{signal, SignalKind};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{spawn_local, JoinHandle};

/// How long publishes under way have to be committed and answered before peers get their goodbye. Only
/// a disk that does not go on takes so long.
const FINISH_MAX: Duration = Duration::from_secs(5);
/// How long peers have to take their goodbye.
const GOODBYE_MAX: Duration = Duration::from_secs(6);
/// How long the log has to become quiet afterwards.
const QUIET_MAX: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// How often a start that waits says so in the log.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// How often certificate files are looked at.
const CERTIFICATES_EVERY: Duration = Duration::from_secs(1);
/// Rows per kind on the metrics page; as many as there are series in a family.
const OBJECTS_MAX: usize = crate::metrics::exposition::SERIES_PER_FAMILY_MAX;
/// Recovery may read many gigabytes; longer than this something is stuck.
const SERVING_MAX: Duration = Duration::from_secs(600);

pub struct Front {
    pub mailboxes: Vec<Arc<Mailbox>>,
    pub disk: Arc<RealDisk>,
    pub gate: Arc<Gate>,
    pub tls: Option<Arc<Tls>>,
    pub memory_bytes: u64,
    pub marks: Marks,
    pub started_unix_seconds: f64,
    /// Sockets refused because too many were open; counted here because no shard saw them.
    pub refused: RefCell<RuntimeCounts>,
    pub next_shard: Cell<usize>,
    /// What the start waits for; none once the shards serve.
    pub waits_for: RefCell<Option<String>>,
}

/// The listeners, bound and not yet accepting.
pub struct Listening {
    pub protocols: Vec<(Protocol, Option<Acceptance>, TcpListener)>,
    pub http: Vec<(Option<Acceptance>, TcpListener)>,
}

impl Front {
    /// Waits until every shard serves. While the disk has no room it waits for that, however long.
    pub async fn until_serving(&self) -> bool {
        let mut asked = Instant::now();
        let mut told: Option<Instant> = None;
        while asked.elapsed() < SERVING_MAX {
            let Some(reports) = self.reports().await else {
                return false;
            };
            if reports.iter().all(|report| report.is_serving) {
                *self.waits_for.borrow_mut() = None;
                return true;
            }
            if reports.iter().any(|report| report.is_full) {
                let free = self.disk.free_bytes().unwrap_or(0) >> 20;
                let why =
                    format!("no room on the disk for the write-ahead log: {free} MiB are free");
                if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
                    tracing::warn!("cannot start yet: {why}; going on when there is more");
                    told = Some(Instant::now());
                }
                *self.waits_for.borrow_mut() = Some(why);
                asked = Instant::now();
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        false
    }

    /// Starts accepting; the tasks end when aborted.
    pub fn listen(
        self: &Rc<Self>,
        listeners: Vec<(Protocol, Option<Acceptance>, TcpListener)>,
    ) -> Vec<JoinHandle<()>> {
        let accept = |(protocol, encryption, listener)| {
            spawn_local(Rc::clone(self).accept(protocol, encryption, listener))
        };
        listeners.into_iter().map(accept).collect()
    }

    /// Starts answering HTTP, which may be before the shards serve: then it says so.
    pub fn listen_http(
        self: &Rc<Self>,
        listeners: Vec<(Option<Acceptance>, TcpListener)>,
    ) -> Vec<JoinHandle<()>> {
        let (calls, called) = mpsc::channel(http::REQUESTS_WAITING_MAX);
        let places = http::places();
        let serve = |(encryption, listener)| {
            let entry = Entry { gate: Arc::clone(&self.gate), tls: self.tls.clone(), encryption };
            spawn_local(http::serve(listener, entry, Arc::clone(&places), calls.clone()))
        };
        let mut tasks: Vec<_> = listeners.into_iter().map(serve).collect();
        tasks.push(spawn_local(Rc::clone(self).answer_calls(called)));
        tasks
    }

    /// Takes certificates that have changed, when they do or when SIGHUP asks for it.
    pub async fn watch_certificates(self: Rc<Self>) {
        let Some(tls) = &self.tls else { return };
        let mut asked = signal(SignalKind::hangup()).ok();
        loop {
            let signalled = async {
                match &mut asked {
                    Some(asked) => asked.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = tokio::time::sleep(CERTIFICATES_EVERY) => tls.look_at_files(),
                _ = signalled => tls.reload(),
            }
        }
    }

    async fn accept(
        self: Rc<Self>,
        protocol: Protocol,
        encryption: Option<Acceptance>,
        listener: TcpListener,
    ) {
        loop {
            match listener.accept().await {
                Ok((socket, remote)) => {
                    // A socket that cannot say its own address is dead already.
                    if let Ok(local) = socket.local_addr() {
                        self.hand_out(protocol, encryption, socket, remote, local);
                    }
                }
                Err(error) => {
                    // Out of descriptors, usually: they come back as connections end.
                    tracing::warn!(%error, listener = protocol.name(), "cannot accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Connections go to the shards in turn.
    fn hand_out(
        &self,
        protocol: Protocol,
        encryption: Option<Acceptance>,
        socket: tokio::net::TcpStream,
        remote: std::net::SocketAddr,
        local: std::net::SocketAddr,
    ) {
        let place = match self.gate.admit(remote.ip()) {
            Ok(place) => place,
            Err(refusal) => {
                self.refused.borrow_mut().of(protocol).refused.add(refusal);
                let (listener, reason) = (protocol.name(), refusal.name());
                tracing::info!(%remote, listener, reason, "refused: too many connections");
                return;
            }
        };
        let Ok(socket) = socket.into_std() else {
            return;
        };
        let shard = self.next_shard.get();
        self.next_shard.set((shard + 1) % self.mailboxes.len());
        let accepted = Accepted { socket, protocol, remote, local, encryption, place };
        self.mailboxes[shard].post(Message::Accepted(accepted));
    }

    async fn answer_calls(self: Rc<Self>, mut called: mpsc::Receiver<AdminCall>) {
        while let Some(call) = called.recv().await {
            if let Some(why) = &*self.waits_for.borrow() {
                let _ = call.answer.send(Err(AdminError::Unavailable(why.clone())));
                continue;
            }
            let front = Rc::clone(&self);
            spawn_local(async move { front.answer_call(call).await });
        }
    }

    async fn answer_call(self: Rc<Self>, mut call: AdminCall) {
        let answer = match &mut call.request {
            // Whoever balances load has no password.
            AdminRequest::Ready => self.ready().await,
            AdminRequest::Metrics { .. } | AdminRequest::Status => {
                let (request, answer) = (call.request.clone(), call.answer);
                let told = match (self.ask_admin(call.request, call.caller).await, request) {
                    (Ok(_), AdminRequest::Metrics { format }) => self.metrics(format).await,
                    (Ok(_), _) => self.status().await,
                    (refused, _) => refused,
                };
                let _ = answer.send(told);
                return;
            }
            AdminRequest::Create { password, .. } | AdminRequest::Set { password, .. } => {
                match verifiers_of(password.take()).await {
                    Ok(verifiers) => {
                        call.verifiers = verifiers;
                        return self.mailboxes[0].post(Message::Admin(call));
                    }
                    Err(error) => Err(error),
                }
            }
            // The admin session lives on the first shard.
            _ => return self.mailboxes[0].post(Message::Admin(call)),
        };
        let _ = call.answer.send(answer);
    }

    async fn ask_admin(
        &self,
        request: AdminRequest,
        caller: Caller,
    ) -> Result<AdminAnswer, AdminError> {
        let (answer, answered) = oneshot::channel();
        let call = AdminCall { request, caller, verifiers: None, answer };
        self.mailboxes[0].post(Message::Admin(call));
        let gone = |_| AdminError::Unavailable("the broker is stopping".to_owned());
        answered.await.map_err(gone)?
    }

    /// Of every shard, or `None` if one is gone.
    pub async fn reports(&self) -> Option<Vec<ShardReport>> {
        let mut asked = Vec::new();
        for mailbox in &self.mailboxes {
            let (answer, answered) = oneshot::channel();
            mailbox.post(Message::Report(answer));
            asked.push(answered);
        }
        let mut reports = Vec::new();
        for answered in asked {
            reports.push(answered.await.ok()?);
        }
        Some(reports)
    }

    async fn metrics(&self, format: Format) -> Result<AdminAnswer, AdminError> {
        let gone = || AdminError::Unavailable("the broker is stopping".to_owned());
        let reports = self.reports().await.ok_or_else(gone)?;
        let mut page = Exposition::new(format);
        let surroundings = Surroundings {
            process: machine::process_use(),
            started_unix_seconds: self.started_unix_seconds,
            memory_limit_bytes: self.memory_bytes,
            disk_free_bytes: self.disk.free_bytes().ok(),
        };
        surroundings.expose(&mut page);
        let mut counts = self.refused.borrow().clone();
        counts.http_refused = self.gate.http_refusals();
        let mut meters: [koine_broker::session::Meter; 3] = Default::default();
        for report in &reports {
            counts.merge(&report.counts);
            meters
                .iter_mut()
                .zip(&report.meters)
                .for_each(|(sum, meter)| engine::merge_meter(sum, meter));
        }
        counts.expose(&mut page);
        if let Some(tls) = &self.tls {
            encryption::expose(&mut page, &tls.counts);
        }
        load::expose(&mut page, &overload::sum(&reports), &self.marks.figures);
        engine::expose_meters(&mut page, &meters);
        let logs: Vec<koine_log::Stats> = reports.iter().map(|report| report.log).collect();
        engine::expose_logs(&mut page, &logs);
        objects::expose_topics(&mut page, &self.rows(Kind::Topics).await?);
        objects::expose_queues(&mut page, &self.rows(Kind::Queues).await?);
        objects::expose_groups(&mut page, &self.rows(Kind::Groups).await?);
        objects::expose_sessions(&mut page, &self.rows(Kind::Sessions).await?);
        Ok(AdminAnswer::Page { format, text: page.finish() })
    }

    async fn rows(&self, kind: Kind) -> Result<Vec<Value>, AdminError> {
        let request = AdminRequest::List { kind, after: None, limit: OBJECTS_MAX };
        match self.ask_admin(request, Caller::Node).await? {
            AdminAnswer::Json(mut page) => match page["items"].take() {
                Value::Array(rows) => Ok(rows),
                _ => Ok(Vec::new()),
            },
            AdminAnswer::Page { .. } => Ok(Vec::new()),
        }
    }

    /// Says goodbye to every peer, waits until the log is quiet, and ends the shards' threads. Takes less
    /// than the half minute that orchestrators grant.
    pub async fn shut_down(&self) {
        let say_goodbye =
            || self.mailboxes.iter().for_each(|mailbox| mailbox.post(Message::ShutDown));
        say_goodbye();
        if !self.until(FINISH_MAX, |report| report.sockets == 0).await {
            // Now to everybody, whatever is still under way: it was not acknowledged.
            say_goodbye();
            self.until(GOODBYE_MAX, |report| report.sockets == 0).await;
        }
        if !self.until(QUIET_MAX, |report| report.is_quiet).await {
            tracing::warn!(
                "stopping although the log is still busy; what was acknowledged is safe"
            );
        }
        self.mailboxes.iter().for_each(|mailbox| mailbox.post(Message::Stop));
    }

    /// Until all shards say so twice in a row: mail between them may be under way in between.
    async fn until(&self, wait: Duration, done: fn(&ShardReport) -> bool) -> bool {
        let asked = Instant::now();
        let mut agreed = 0;
        while asked.elapsed() < wait {
            let Some(reports) = self.reports().await else {
                return false;
            };
            agreed = if reports.iter().all(done) { agreed + 1 } else { 0 };
            if agreed == 2 {
                return true;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        false
    }
}

/// What is kept of a password. Takes tens of milliseconds, on another thread.
async fn verifiers_of(password: Option<Secret>) -> Result<Option<Verifiers>, AdminError> {
    let Some(password) = password else { return Ok(None) };
    let work = tokio::task::spawn_blocking(move || {
        let mut rng = SecretRng::new(&secret_seed());
        Verifiers::of_password(&password, &mut rng)
    });
    let failed = |_| AdminError::Unavailable("the password could not be prepared".to_owned());
    work.await.map(Some).map_err(failed)
}
