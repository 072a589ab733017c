//! One client socket: one task, one loop. It reads when the session wants input, writes what the
//! session has to say in one vectored write, and ends when either side is through.
//!
//! Memory: an idle connection holds no read buffer. Reads go into a block shared by the shard and are
//! split off it; what a step leaves of them moves into a buffer of the connection's own, just as large,
//! so that a peer that is not read on keeps no more than it is counted for.

use super::shard_host::ShardHost;
use super::stream::{Stream, READ_BYTES};
use crate::metrics::{CloseReason, Protocol};
use bytes::BytesMut;
use koine_base::ConnectionId;
use std::io::{self, IoSlice};
use std::time::Duration;
use tokio::io::Interest;
use tokio::sync::Notify;
use tokio::time::Instant;

const SCRATCH_BYTES: usize = 256 << 10;
/// A rest up to this size never keeps a buffer with room for more.
const REST_BYTES_SMALL: usize = 4 << 10;
/// Pieces of one vectored write.
const PIECES_PER_WRITE: usize = 64;
/// How long a peer has to read what is left for it when its session is through. A peer that reads
/// nothing would keep its connection for ever.
const LAST_WORDS_MAX: Duration = Duration::from_secs(5);
/// How long a closed connection waits for its peer to read the goodbye.
const LINGER: Duration = Duration::from_secs(1);

pub async fn serve(
    host: &std::rc::Rc<ShardHost>,
    mut stream: Stream,
    id: ConnectionId,
    protocol: Protocol,
    news: &Notify,
) {
    let reason = exchange(host, &mut stream, id, protocol, news).await;
    match reason {
        CloseReason::Peer => {
            // It may be waiting for the answer to its own; nobody waits for it to be taken.
            stream.close_notify();
            let _ = stream.flush();
        }
        _ => say_goodbye(&mut stream).await,
    }
    drop(stream);
    host.counts.borrow_mut().of(protocol).close(reason);
    tracing::debug!(connection = id.raw(), reason = reason.name(), "disconnected");
    host.closed(id);
}

/// What the shard wants of the socket now.
struct Wish {
    input: bool,
    /// The session is through.
    close: bool,
    /// Nothing is left to write.
    silent: bool,
}

fn wish(host: &ShardHost, id: ConnectionId) -> Wish {
    host.with_shard(|shard| {
        let silent = shard.output(id).is_none_or(|output| output.is_empty());
        Wish { input: shard.wants_input(id), close: shard.wants_close(id), silent }
    })
}

async fn exchange(
    host: &std::rc::Rc<ShardHost>,
    stream: &mut Stream,
    id: ConnectionId,
    protocol: Protocol,
    news: &Notify,
) -> CloseReason {
    let mut input = BytesMut::new();
    let mut had_appetite = true;
    // The last step used some of the input up: what it left may be whole frames that had to wait.
    let mut progressed = false;
    let mut close_by = None;
    loop {
        let Ok(all_written) = write(host, stream, id, protocol) else {
            return CloseReason::Peer;
        };
        let wish = wish(host, id);
        if wish.close {
            if wish.silent && all_written {
                return host.own_reason();
            }
            close_by.get_or_insert_with(|| Instant::now() + LAST_WORDS_MAX);
        }
        let appetite_back = wish.input && !had_appetite;
        had_appetite = wish.input;
        if wish.input && (appetite_back || progressed) && !input.is_empty() {
            progressed = step(host, id, &mut input, true);
            continue;
        }
        let socket = stream.socket();
        tokio::select! {
            ready = readable(stream), if wish.input => {
                if ready.is_err() {
                    return CloseReason::Peer;
                }
                let is_own = input.len() > REST_BYTES_SMALL;
                match read(host, stream, &mut input) {
                    Ok(0) => return CloseReason::Peer,
                    Ok(count) => host.counts.borrow_mut().of(protocol).bytes_in += count as u64,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                    Err(_) => return CloseReason::Peer,
                }
                progressed = step(host, id, &mut input, is_own);
            }
            ready = socket.writable(), if !all_written => {
                if ready.is_err() {
                    return CloseReason::Peer;
                }
            }
            // Nobody reads or writes who would meet the error. Only that counts: a peer that has merely
            // said its last may have what it said in the socket, and is read to its end afterwards.
            _ = socket.ready(Interest::ERROR), if !wish.input && all_written => {
                return CloseReason::Peer;
            }
            () = news.notified() => {}
            () = until(close_by) => return host.own_reason(),
        }
    }
}

async fn readable(stream: &Stream) -> io::Result<()> {
    match stream.has_input() {
        true => Ok(()),
        false => stream.socket().readable().await,
    }
}

/// Never, without a time.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Lets the session work on its input, then frees what it has used up. True if it used up any.
/// `is_own`: the input lies in a buffer of the connection's own.
fn step(
    host: &std::rc::Rc<ShardHost>,
    id: ConnectionId,
    input: &mut BytesMut,
    is_own: bool,
) -> bool {
    host.drain();
    let now = host.now();
    let before = input.len();
    host.with_shard(|shard| shard.receive(now, id, input));
    host.pump_but(Some(id));
    let progressed = input.len() < before;
    if progressed || !is_own {
        keep_only(input);
    }
    progressed
}

/// Moves what is left of the input out of the block that it was read into. It would keep all of that,
/// or of the large frame that it came behind, and the shard counts its length only.
fn keep_only(input: &mut BytesMut) {
    *input = BytesMut::from(&input[..]);
}

fn read(host: &ShardHost, stream: &mut Stream, input: &mut BytesMut) -> io::Result<usize> {
    let mut encrypted = host.encrypted.borrow_mut();
    if input.len() > REST_BYTES_SMALL {
        input.reserve(READ_BYTES);
        return stream.read(input, &mut encrypted);
    }
    let mut scratch = host.scratch.borrow_mut();
    if scratch.capacity() < REST_BYTES_SMALL + READ_BYTES {
        // Reuses the block if nobody holds a piece of it any more.
        scratch.reserve(SCRATCH_BYTES);
    }
    // The beginning of a packet is moved there, which is less work than room for its rest.
    scratch.extend_from_slice(input);
    let outcome = stream.read(&mut scratch, &mut encrypted);
    match outcome {
        Ok(_) => *input = scratch.split(),
        Err(_) => scratch.clear(),
    }
    outcome
}

/// Writes until nothing is left (`true`) or the socket takes no more (`false`).
fn write(
    host: &ShardHost,
    stream: &mut Stream,
    id: ConnectionId,
    protocol: Protocol,
) -> io::Result<bool> {
    let mut written = 0;
    let outcome = host.with_shard(|shard| loop {
        let output = match shard.output(id) {
            Some(output) if !output.is_empty() => output,
            _ => return flush(stream),
        };
        let mut slices = [IoSlice::new(&[]); PIECES_PER_WRITE];
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(output.slices(PIECES_PER_WRITE)) {
            *slice = IoSlice::new(piece);
            count += 1;
        }
        match stream.write(&slices[..count]) {
            Ok(bytes) => {
                output.advance(bytes);
                written += bytes;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    });
    if written > 0 {
        host.counts.borrow_mut().of(protocol).bytes_out += written as u64;
        let now = host.now();
        host.with_shard(|shard| shard.written(now, id));
        host.pump();
    }
    outcome
}

/// Whether the socket has taken everything.
fn flush(stream: &mut Stream) -> io::Result<bool> {
    match stream.flush() {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

/// Closing with unread input would reset the connection and could destroy the last words on their way:
/// half-close, then read until the peer has closed as well.
async fn say_goodbye(stream: &mut Stream) {
    let polite = async {
        stream.close_notify();
        while !flush(stream)? {
            stream.socket().writable().await?;
        }
        let socket = stream.socket();
        rustix::net::shutdown(socket, rustix::net::Shutdown::Write)?;
        // On the heap: an array would lie in the task of every connection all its life.
        let mut ignored = vec![0; 4096];
        loop {
            socket.readable().await?;
            match socket.try_read(&mut ignored) {
                Ok(0) => return Ok::<(), io::Error>(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    };
    // Whether the peer was polite as well does not matter.
    let _ = tokio::time::timeout(LINGER, polite).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_keeps_nothing_of_the_frame_before_it() {
        let mut input = BytesMut::with_capacity(1 << 20);
        input.extend_from_slice(&[7; 600 << 10]);
        let frame = input.split_to(590 << 10).freeze();
        keep_only(&mut input);
        assert_eq!((input.len(), input.capacity()), (10 << 10, 10 << 10));
        assert!(frame.is_unique(), "nobody else holds its block");
    }
}
