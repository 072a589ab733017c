//! TLS for every listener: which certificate is shown now, the handshake within its bounds, and what a
//! client certificate says. rustls does the cryptography and the parsing of everything before a peer is
//! verified; nothing here may look into a certificate that has not been.

mod files;
mod identity;
#[cfg(test)]
mod tests;

pub use files::TlsFileError;

use crate::config;
use files::Seen;
use koine_broker::limits::Limits;
use koine_broker::session::TlsPeer;
use rustls::{ServerConfig, ServerConnection};
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::server::TlsStream;
use tokio_rustls::TlsAcceptor;

/// The first byte of every TLS connection: the content type of a handshake record (RFC 8446 §5.1).
///
/// No other protocol here begins with it. An AMQP header begins with `A`, an MQTT CONNECT is 0x10 and
/// its flags are reserved, an HTTP method is letters, and the first byte of a Kafka request is the
/// highest of its size, which would be 352 MiB at least: nothing that a client begins with.
pub const HANDSHAKE_RECORD: u8 = 0x16;

/// How a listener treats TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceptance {
    /// Whatever the first byte says.
    Either,
    Always,
}

/// Shared by all threads.
pub struct Tls {
    settings: config::Tls,
    /// Guards what new connections are shown; held for the copy of a pointer only.
    current: Mutex<Arc<ServerConfig>>,
    /// Guards what the files looked like when they were last read and looked at.
    seen: Mutex<Looks>,
    handshakes: Semaphore,
    output_bytes_max: usize,
    pub handshake_wait: Duration,
    pub counts: Counts,
}

#[derive(Default)]
struct Looks {
    /// What was read last, well or not.
    read: Seen,
    /// What the last look saw.
    last: Seen,
}

/// Since the start, of the whole node.
#[derive(Default)]
pub struct Counts {
    pub done: AtomicU64,
    pub failed: AtomicU64,
    pub timed_out: AtomicU64,
    pub reloads: AtomicU64,
    pub reloads_failed: AtomicU64,
    /// When the certificate runs out, in seconds of Unix time.
    pub expires_unix_seconds: AtomicU64,
}

/// Why a connection did not come to be encrypted.
#[derive(Debug)]
pub enum HandshakeError {
    /// The peer broke the protocol, showed no good certificate, or left.
    Failed(io::Error),
    TooSlow,
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandshakeError::Failed(error) => error.fmt(f),
            HandshakeError::TooSlow => f.write_str("the handshake took too long"),
        }
    }
}

impl Tls {
    /// `None` without a certificate in the settings. What is wrong with a file prevents the start.
    pub fn open(settings: &config::Tls, limits: &Limits) -> Result<Option<Arc<Tls>>, TlsFileError> {
        if settings.certificate.is_none() {
            return Ok(None);
        }
        let seen = Seen::of(settings);
        let loaded = files::load(settings)?;
        let tls = Tls {
            settings: settings.clone(),
            current: Mutex::new(loaded.config),
            seen: Mutex::new(Looks { read: seen.clone(), last: seen }),
            handshakes: Semaphore::new(limits.tls_handshakes_max),
            output_bytes_max: limits.tls_output_bytes_max,
            handshake_wait: Duration::from_millis(limits.handshake_ms_max),
            counts: Counts::default(),
        };
        tls.counts.expires_unix_seconds.store(loaded.expires_unix_seconds, Ordering::Relaxed);
        Ok(Some(Arc::new(tls)))
    }

    /// Plain connections from other machines are refused.
    pub fn is_required(&self) -> bool {
        self.settings.required
    }

    /// One handshake from its first byte to its end. Waits its turn if too many are under way; all of it
    /// must be over at `by`, however the bytes trickle in.
    pub async fn handshake(
        &self,
        socket: TcpStream,
        by: tokio::time::Instant,
    ) -> Result<TlsStream<TcpStream>, HandshakeError> {
        // On the heap, so that a connection's task is not as large as its handshake all its life.
        let done = Box::pin(tokio::time::timeout_at(by, async {
            // The semaphore is never closed, and it is fair: places go in the order of asking.
            let _place = self.handshakes.acquire().await;
            let config = Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner));
            let bound = self.output_bytes_max;
            TlsAcceptor::from(config)
                .accept_with(socket, |tls| tls.set_buffer_limit(Some(bound)))
                .await
        }));
        let (outcome, counter) = match done.await {
            Ok(Ok(stream)) => (Ok(stream), &self.counts.done),
            Ok(Err(error)) => (Err(HandshakeError::Failed(error)), &self.counts.failed),
            Err(_) => (Err(HandshakeError::TooSlow), &self.counts.timed_out),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        outcome
    }

    /// What the other end showed. After the handshake: rustls has verified it.
    pub fn peer(&self, connection: &ServerConnection) -> TlsPeer {
        let shown = connection.peer_certificates().and_then(<[_]>::first);
        let certificate = shown.and_then(|shown| identity::read(shown));
        let user = certificate
            .as_ref()
            .and_then(|certificate| identity::user(certificate, self.settings.user_from));
        TlsPeer { certificate, user }
    }

    /// Takes files that have changed. A change counts when two looks in a row see the same, so that a
    /// certificate and its key, written one after the other, are taken together.
    pub fn look_at_files(&self) {
        let now = Seen::of(&self.settings);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let is_settled = seen.last == now;
        seen.last = now;
        if is_settled && seen.read != seen.last {
            seen.read = seen.last.clone();
            drop(seen);
            self.reload();
        }
    }

    /// Reads the files now. What is wrong with them is told, and nothing changes.
    pub fn reload(&self) {
        match files::load(&self.settings) {
            Ok(loaded) => {
                *self.current.lock().unwrap_or_else(PoisonError::into_inner) = loaded.config;
                let expires = loaded.expires_unix_seconds;
                self.counts.expires_unix_seconds.store(expires, Ordering::Relaxed);
                self.counts.reloads.fetch_add(1, Ordering::Relaxed);
                tracing::info!(
                    "new connections are shown the new certificate; those that are open stay"
                );
            }
            Err(error) => {
                self.counts.reloads_failed.fetch_add(1, Ordering::Relaxed);
                tracing::warn!("the new certificate is not taken, the old one stays: {error}");
            }
        }
    }
}
