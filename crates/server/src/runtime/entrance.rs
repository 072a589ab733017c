//! From an accepted socket to a stream that can be read: whether it is TLS, and its handshake. Until
//! then there is no session, and all of it must be over within the handshake's time.

use crate::metrics::Refusal;
use crate::tls::{Acceptance, HandshakeError, Tls, HANDSHAKE_RECORD};
use std::io;
use std::net::SocketAddr;
use tokio::net::TcpStream;
use tokio::time::{timeout_at, Instant};
use tokio_rustls::server::TlsStream;

pub enum Entered {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Nothing was said to a plain peer that is refused.
pub async fn enter(
    tls: &Tls,
    acceptance: Acceptance,
    socket: TcpStream,
    remote: SocketAddr,
) -> Result<Entered, Refusal> {
    let by = Instant::now() + tls.handshake_wait;
    if acceptance == Acceptance::Either {
        let mut first = [0];
        match timeout_at(by, socket.peek(&mut first)).await {
            Err(_) => return Err(Refusal::Slow),
            // It has left without a word.
            Ok(Err(_) | Ok(0)) => return Err(Refusal::Left),
            Ok(Ok(_)) if first[0] != HANDSHAKE_RECORD => return Ok(Entered::Plain(socket)),
            Ok(Ok(_)) => {}
        }
    }
    match tls.handshake(socket, by).await {
        Ok(stream) => Ok(Entered::Tls(Box::new(stream))),
        Err(HandshakeError::TooSlow) => Err(Refusal::Slow),
        Err(HandshakeError::Failed(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(Refusal::Left)
        }
        Err(error) => {
            tracing::info!(%remote, "no TLS connection: {error}");
            Err(Refusal::Handshake)
        }
    }
}

/// Whether a plain connection is refused: TLS is required, and it comes from another machine.
pub fn is_refused_plain(tls: Option<&Tls>, remote: SocketAddr) -> bool {
    tls.is_some_and(Tls::is_required) && !remote.ip().to_canonical().is_loopback()
}
