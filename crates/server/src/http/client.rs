//! The other end of the admin API, for our own subcommands: one blocking request per connection.
//! Speaks only as much HTTP/1.1 as our server answers with.

use crate::config::LOGIN_VARIABLES;
use base64ct::{Base64, Encoding};
use serde_json::Value;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// The server bounds its pages; more than this is not our server.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// Longer than the longest wait that can be asked for.
const ANSWER_WAIT: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub enum ClientError {
    Unreachable {
        address: String,
        error: io::Error,
    },
    NotKoine {
        address: String,
    },
    /// The broker said no; its own words.
    Refused(String),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Unreachable { address, error } => {
                write!(f, "no broker answers at http://{address} ({error}); start one with `koine`, or say where it is with --http HOST:PORT")
            }
            ClientError::NotKoine { address } => {
                write!(f, "what answers at http://{address} is not Koine's admin API")
            }
            ClientError::Refused(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for ClientError {}

pub fn request(
    address: &str,
    method: &str,
    target: &str,
    body: Option<&Value>,
) -> Result<Value, ClientError> {
    let unreachable = |error| ClientError::Unreachable { address: address.to_owned(), error };
    let (status, body) = exchange(address, method, target, body).map_err(unreachable)?;
    let not_koine = || ClientError::NotKoine { address: address.to_owned() };
    let value: Value = serde_json::from_slice(&body).map_err(|_| not_koine())?;
    if (200..300).contains(&status) {
        return Ok(value);
    }
    let message = value.pointer("/error/message").and_then(Value::as_str).ok_or_else(not_koine)?;
    Err(ClientError::Refused(message.to_owned()))
}

fn exchange(
    address: &str,
    method: &str,
    target: &str,
    body: Option<&Value>,
) -> io::Result<(u16, Vec<u8>)> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(ANSWER_WAIT))?;
    socket.set_write_timeout(Some(ANSWER_WAIT))?;
    let body = body.map(Value::to_string).unwrap_or_default();
    write!(
        socket,
        "{method} {target} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{}\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        authorization(),
        body.len()
    )?;
    let mut answer = Vec::new();
    socket.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    split_answer(&answer)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an HTTP answer"))
}

/// Who we are, if the environment says so.
fn authorization() -> String {
    let [user, password] = LOGIN_VARIABLES.map(|name| std::env::var(name).ok());
    let Some((user, password)) = user.zip(password) else { return String::new() };
    let encoded = Base64::encode_string(format!("{user}:{password}").as_bytes());
    format!("authorization: Basic {encoded}\r\n")
}

/// Status and body of a whole answer whose end was the end of the connection.
fn split_answer(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((status, answer[end + 4..].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_split() {
        assert_eq!(
            split_answer(b"HTTP/1.1 201 Created\r\na: b\r\n\r\n{}"),
            Some((201, b"{}".to_vec()))
        );
        for broken in [&b"HTTP/1.1 201"[..], b"SSH-2.0\r\n\r\n", b"HTTP/1.1 2\r\n\r\n", b""] {
            assert_eq!(split_answer(broken), None);
        }
    }
}
