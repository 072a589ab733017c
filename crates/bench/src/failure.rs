//! Why a run ended early. Shown to a person, never matched on text.

use koine_workload::frames::Malformed;
use std::fmt;
use std::io;

#[derive(Debug)]
pub enum Failure {
    /// The options contradict each other or ask for what the protocol cannot do.
    Usage(String),
    Io(&'static str, io::Error),
    /// The broker's bytes are not what the protocol allows; what was being read is named.
    Malformed(&'static str),
    /// The broker said no.
    Refused(String),
    /// The broker closed the connection.
    Closed,
    /// Another connection of this run failed first and has reported it.
    Stopped,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(text) => write!(f, "{text}"),
            Failure::Io(doing, error) => write!(f, "{doing}: {error}"),
            Failure::Malformed(what) => write!(f, "the broker sent a malformed {what}"),
            Failure::Refused(text) => write!(f, "the broker refused: {text}"),
            Failure::Closed => write!(f, "the broker closed a connection"),
            Failure::Stopped => write!(f, "stopped"),
        }
    }
}

impl From<Malformed> for Failure {
    fn from(Malformed(what): Malformed) -> Self {
        Failure::Malformed(what)
    }
}

impl From<lexopt::Error> for Failure {
    fn from(error: lexopt::Error) -> Self {
        Failure::Usage(error.to_string())
    }
}

impl From<rustix::io::Errno> for Failure {
    fn from(errno: rustix::io::Errno) -> Self {
        Failure::Io("waiting for sockets", errno.into())
    }
}
