//! One shard's thread: a tokio current-thread runtime around the shard's state machine. Everything
//! here runs on that thread; the shard is borrowed for a step at a time and never across an await.

use super::busy_poll::{self, Look, Lookers, Looking, Pauses};
use super::clock::Clock;
use super::connection;
use super::disk_threads::ShardDisk;
use super::entrance::{self, Entered};
use super::fail_stop::FailStop;
use super::gate::Place;
use super::login_thread::PasswordChecks;
use super::mailbox::{Accepted, Mailbox, Message};
use super::protocols;
use super::report::ShardReport;
use super::stream::Stream;
use crate::admin::{AdminSession, Inbox};
use crate::metrics::{CloseReason, Protocol, Refusal, RuntimeCounts, PROTOCOLS};
use crate::tls::{Acceptance, Tls};
use bytes::BytesMut;
use koine_base::{ConnectionId, Moment, ShardId};
use koine_broker::limits::Limits;
use koine_broker::session::Peer;
use koine_cluster::shard::{Damage, Shard};
use koine_log::{IoClass, IoResult};
use rustix::net::sockopt;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::{spawn_local, LocalSet};

/// Where the admin API's session lives.
pub const ADMIN_SHARD: ShardId = ShardId(0);

/// Reads go into a block of this size that connections of the shard share; see [`connection`].
const SCRATCH_BYTES: usize = 256 << 10;

const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 4;

/// A socket that is on its way to its session.
struct Arrival {
    protocol: Protocol,
    peer: Peer,
    place: Place,
    /// When it was accepted: its time to log in runs from here.
    at: koine_base::Now,
}

pub struct ShardHost {
    shard: RefCell<Shard>,
    clock: Clock,
    disk: ShardDisk,
    /// Of all shards, this one included, by shard number.
    mailboxes: Vec<Arc<Mailbox>>,
    own_mailbox: Arc<Mailbox>,
    sockets: RefCell<HashMap<ConnectionId, Rc<Notify>>>,
    pub counts: RefCell<RuntimeCounts>,
    pub scratch: RefCell<BytesMut>,
    /// What encrypted connections read their sockets into; empty between reads.
    pub encrypted: RefCell<Vec<u8>>,
    /// The deadline that the timer task sleeps towards.
    timer_at: Cell<Moment>,
    timer_moved: Notify,
    /// The admin API's session, on the shard that has one.
    admin: Cell<Option<ConnectionId>>,
    admin_inbox: Inbox,
    /// Steps taken so far, and word of the next one.
    steps: Cell<u64>,
    stepped: Notify,
    lookers: Arc<Lookers>,
    stopped: Notify,
    is_stopping: Cell<bool>,
    tls: Option<Arc<Tls>>,
    limits: Limits,
    password_checks: PasswordChecks,
}

impl ShardHost {
    pub fn new(
        shard: Shard,
        clock: Clock,
        disk: ShardDisk,
        mailboxes: Vec<Arc<Mailbox>>,
        tls: Option<Arc<Tls>>,
        limits: Limits,
        lookers: Arc<Lookers>,
    ) -> Rc<Self> {
        let own_mailbox = Arc::clone(&mailboxes[usize::from(shard.id().0)]);
        Rc::new(ShardHost {
            shard: RefCell::new(shard),
            clock,
            disk,
            mailboxes,
            own_mailbox,
            sockets: RefCell::default(),
            counts: RefCell::default(),
            scratch: RefCell::new(BytesMut::with_capacity(SCRATCH_BYTES)),
            timer_at: Cell::new(Moment::NEVER),
            timer_moved: Notify::new(),
            admin: Cell::new(None),
            admin_inbox: Inbox::default(),
            steps: Cell::default(),
            stepped: Notify::new(),
            lookers,
            stopped: Notify::new(),
            is_stopping: Cell::new(false),
            encrypted: RefCell::default(),
            tls,
            limits,
            password_checks: PasswordChecks::default(),
        })
    }

    /// Runs until told to stop.
    pub fn run(self: Rc<Self>, runtime: &tokio::runtime::Runtime) {
        LocalSet::new().block_on(runtime, async move {
            if self.with_shard(|shard| shard.id()) == ADMIN_SHARD {
                self.open_admin();
            }
            self.pump();
            spawn_local(Rc::clone(&self).keep_time());
            spawn_local(Rc::clone(&self).take_mail());
            spawn_local(Rc::clone(&self).stay_awake());
            self.stopped.notified().await;
        });
    }

    /// One step of the shard. A panic that leaves the shard is a broken invariant, not a protocol's
    /// bug: those the shard catches itself.
    pub fn with_shard<R>(&self, step: impl FnOnce(&mut Shard) -> R) -> R {
        let _fail_stop = FailStop("the engine");
        step(&mut self.shard.borrow_mut())
    }

    pub fn now(&self) -> koine_base::Now {
        self.clock.now()
    }

    async fn take_mail(self: Rc<Self>) {
        loop {
            self.own_mailbox.filled().await;
            self.drain();
        }
    }

    /// Keeps the thread from sleeping between two steps while they come close one after the other.
    async fn stay_awake(self: Rc<Self>) {
        let mut pauses = Pauses::default();
        let mut looking = None;
        loop {
            let (seen, since) = (self.steps.get(), Instant::now());
            if looking.is_none() && pauses.are_short() {
                looking = Looking::begin(&self.lookers, &self.own_mailbox);
            }
            let is_over = || self.steps.get() != seen;
            let look = async || {
                tokio::task::yield_now().await;
                self.drain();
            };
            let look = match looking {
                Some(_) => busy_poll::until(is_over, look).await,
                None => Look::Nothing,
            };
            if look != Look::Found {
                looking = None;
                self.drain();
            }
            while self.steps.get() == seen {
                self.stepped.notified().await;
            }
            match look {
                Look::InTheWay => pauses.note_crowd(),
                Look::Found | Look::Nothing => pauses.note(since.elapsed()),
            }
        }
    }

    async fn keep_time(self: Rc<Self>) {
        loop {
            let due = self.clock.instant(self.timer_at.get());
            let sleep = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep => {
                    let now = self.now();
                    self.with_shard(|shard| shard.tick(now));
                    self.timer_at.set(Moment::NEVER);
                    self.pump();
                }
                () = self.timer_moved.notified() => {}
            }
        }
    }

    /// Carries out what steps left behind: disk requests, mail, sockets with news, the next deadline.
    pub fn pump(&self) {
        self.pump_but(None);
    }

    /// The same without waking the one socket whose task called and looks for itself.
    pub fn pump_but(&self, caller: Option<ConnectionId>) {
        self.steps.set(self.steps.get() + 1);
        self.stepped.notify_one();
        let (outbox, changed, deadline) = self.with_shard(|shard| {
            while let Some(request) = shard.poll_io() {
                self.disk.submit(request);
            }
            for check in shard.take_password_checks() {
                self.password_checks.submit(check, &self.own_mailbox);
            }
            (shard.take_outbox(), shard.take_changed(), shard.deadline())
        });
        if !outbox.is_empty() {
            self.send_mail(outbox);
        }
        let sockets = self.sockets.borrow();
        for id in changed.into_iter().filter(|id| Some(*id) != caller) {
            if let Some(socket) = sockets.get(&id) {
                socket.notify_one();
            }
        }
        drop(sockets);
        if deadline < self.timer_at.get() {
            self.timer_at.set(deadline);
            self.timer_moved.notify_one();
        }
    }

    /// One wake per receiving shard, however much it gets.
    fn send_mail(&self, outbox: Vec<(ShardId, koine_cluster::mail::Mail)>) {
        let mut by_shard: Vec<Vec<Message>> = self.mailboxes.iter().map(|_| Vec::new()).collect();
        for (to, mail) in outbox {
            by_shard[usize::from(to.0)].push(Message::Mail(mail));
        }
        for (mailbox, messages) in self.mailboxes.iter().zip(by_shard) {
            if messages.is_empty() {
                continue;
            }
            let mut counts = self.counts.borrow_mut();
            counts.mailbox_messages += messages.len() as u64;
            counts.mailbox_batches += 1;
            drop(counts);
            mailbox.post_all(messages);
        }
    }

    /// Takes what other threads have sent. Called before each step of a socket, so that a busy peer
    /// does not delay the disk's and the other shards' news.
    pub fn drain(self: &Rc<Self>) {
        let messages = self.own_mailbox.take();
        if messages.is_empty() {
            return;
        }
        let mut mail = Vec::new();
        for message in messages {
            if let Message::Mail(one) = message {
                mail.push(one);
                continue;
            }
            self.deliver(&mut mail);
            self.receive(message);
        }
        self.deliver(&mut mail);
        self.pump();
    }

    fn deliver(&self, mail: &mut Vec<koine_cluster::mail::Mail>) {
        if !mail.is_empty() {
            let now = self.now();
            self.with_shard(|shard| shard.mail(now, mail.drain(..)));
        }
    }

    fn receive(self: &Rc<Self>, message: Message) {
        match message {
            Message::Mail(_) => {}
            Message::Disk { result, class, took } => self.disk_done(result, class, took),
            Message::Accepted(accepted) => self.accept(accepted),
            Message::Admin(call) => {
                self.admin_inbox.borrow_mut().push_back(call);
                if let Some(admin) = self.admin.get() {
                    let now = self.now();
                    self.with_shard(|shard| shard.receive(now, admin, &mut BytesMut::new()));
                }
            }
            Message::PasswordChecked { ticket, is_right } => {
                let now = self.now();
                self.with_shard(|shard| shard.password_checked(now, ticket, is_right));
            }
            Message::Report(answer) => {
                let _ = answer.send(self.report());
            }
            Message::DiskLow(is_low) => {
                let now = self.now();
                self.with_shard(|shard| shard.set_disk_low(now, is_low));
            }
            Message::ShutDown => self.shut_down(),
            Message::Stop => self.stopped.notify_one(),
        }
    }

    fn disk_done(&self, result: IoResult, class: IoClass, took: Duration) {
        let mut counts = self.counts.borrow_mut();
        let histogram = match class {
            IoClass::Wal => &mut counts.disk_wal,
            IoClass::Read => &mut counts.disk_read,
            IoClass::Background => &mut counts.disk_background,
        };
        histogram.record(took.as_micros() as u64);
        drop(counts);
        let now = self.now();
        let completed = self.with_shard(|shard| shard.io_complete(now, result));
        for Damage { stream, owner, offset } in self.with_shard(Shard::take_damage) {
            let of = owner.map_or("nobody".to_owned(), |owner| format!("{owner:?}"));
            tracing::error!(%stream, of, offset, "records on disk are damaged; `koine doctor` says which");
        }
        if let Err(error) = completed {
            tracing::error!(%error, "the disk failed; stopping, because nothing may be acknowledged any more");
            std::process::exit(1);
        }
    }

    fn accept(self: &Rc<Self>, accepted: Accepted) {
        let Accepted { socket, protocol, remote, local, encryption, place } = accepted;
        if self.is_stopping.get() {
            return;
        }
        let socket = match into_tokio(socket) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(%error, %remote, "a connection could not be taken over");
                return;
            }
        };
        let arrival = Arrival { protocol, peer: Peer::plain(remote, local), place, at: self.now() };
        match (encryption, &self.tls) {
            (Some(acceptance), Some(tls)) => {
                let (host, tls) = (Rc::clone(self), Arc::clone(tls));
                spawn_local(async move { host.enter(arrival, acceptance, &tls, socket).await });
            }
            _ => self.open(arrival, Stream::Plain(socket)),
        }
    }

    /// Finds out whether it is TLS, and opens a session for what comes out of it.
    async fn enter(
        self: Rc<Self>,
        mut arrival: Arrival,
        acceptance: Acceptance,
        tls: &Tls,
        socket: tokio::net::TcpStream,
    ) {
        let remote = arrival.peer.remote;
        let stream = match entrance::enter(tls, acceptance, socket, remote).await {
            Ok(Entered::Plain(_)) if entrance::is_refused_plain(Some(tls), remote) => {
                tracing::info!(%remote, "refused: not encrypted");
                Err(Refusal::Plain)
            }
            Ok(Entered::Plain(socket)) => Ok(Stream::Plain(socket)),
            Ok(Entered::Tls(stream)) => {
                let (socket, connection) = stream.into_inner();
                arrival.peer.tls = Some(tls.peer(&connection));
                Ok(Stream::encrypted(socket, connection))
            }
            Err(refusal) => Err(refusal),
        };
        match stream {
            Ok(stream) if !self.is_stopping.get() => self.open(arrival, stream),
            Ok(_) => {}
            Err(refusal) => self.counts.borrow_mut().of(arrival.protocol).refused.add(refusal),
        }
    }

    fn open(self: &Rc<Self>, arrival: Arrival, stream: Stream) {
        let Arrival { protocol, peer, place, at } = arrival;
        let (remote, is_encrypted) = (peer.remote, peer.tls.is_some());
        let session = protocols::open(protocol, peer, at.moment, &self.limits);
        let id = self.with_shard(|shard| shard.connect(self.clock.now(), session));
        let news = Rc::new(Notify::new());
        self.sockets.borrow_mut().insert(id, Rc::clone(&news));
        self.counts.borrow_mut().of(protocol).opened += 1;
        let (connection, name) = (id.raw(), protocol.name());
        tracing::debug!(connection, %remote, protocol = name, is_encrypted, "connected");
        let host = Rc::clone(self);
        spawn_local(async move {
            connection::serve(&host, stream, id, protocol, &news).await;
            drop(place);
        });
    }

    /// Makes this the shard that answers the admin API.
    fn open_admin(&self) {
        let session = AdminSession::new(Rc::clone(&self.admin_inbox));
        let now = self.now();
        let id = self.with_shard(|shard| shard.connect(now, Box::new(session)));
        self.admin.set(Some(id));
    }

    /// The socket is closed: forgets it and tells the shard.
    pub fn closed(&self, id: ConnectionId) {
        self.sockets.borrow_mut().remove(&id);
        let now = self.now();
        self.with_shard(|shard| shard.disconnected(now, id));
        self.pump();
    }

    /// The end of a connection, seen from here: the session asked for it, or the node stops.
    pub fn own_reason(&self) -> CloseReason {
        match self.is_stopping.get() {
            true => CloseReason::Shutdown,
            false => CloseReason::Session,
        }
    }

    fn shut_down(&self) {
        self.is_stopping.set(true);
        let now = self.now();
        self.with_shard(|shard| shard.shut_down(now));
        if let Some(admin) = self.admin.take() {
            self.with_shard(|shard| shard.disconnected(now, admin));
        }
    }

    fn report(&self) -> ShardReport {
        let counts = self.counts.borrow().clone();
        let sockets = self.sockets.borrow().len();
        self.with_shard(|shard| ShardReport {
            counts,
            meters: PROTOCOLS.map(|protocol: Protocol| shard.meter(protocol).clone()),
            log: shard.log_stats().to_owned(),
            load: shard.load(),
            is_serving: shard.is_serving(),
            is_full: shard.is_full(),
            is_quiet: shard.is_quiet(),
            sockets,
        })
    }
}

fn into_tokio(socket: TcpStream) -> std::io::Result<tokio::net::TcpStream> {
    socket.set_nodelay(true)?;
    socket.set_nonblocking(true)?;
    // A peer that vanished without a word is found out even where its protocol has no heartbeat.
    sockopt::set_socket_keepalive(&socket, true)?;
    sockopt::set_tcp_keepidle(&socket, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(&socket, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(&socket, KEEPALIVE_PROBES)?;
    tokio::net::TcpStream::from_std(socket)
}
