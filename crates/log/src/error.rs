//! What can go wrong, by what the host must do about it.

use koine_base::StreamId;
use std::fmt;
use std::io;

/// Why bytes on disk were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CorruptReason {
    /// A frame is damaged although it had been synced: a later mark proves it.
    FrameBelowSyncedMark,
    /// The header of a WAL file is damaged although frames follow it.
    WalHeader,
    /// A WAL file between the checkpoint and the newest one is not there.
    WalFileMissing,
    /// The checkpoint is damaged and nothing older can stand in for it.
    Checkpoint,
    /// There are segments or WAL files that only a checkpoint explains, but no checkpoint.
    CheckpointMissing,
    /// A segment that the checkpoint refers to is not there, or is too short.
    SegmentMissing,
    /// After replay a stream ends below where it ended at the checkpoint.
    StreamIncomplete,
}

/// The log cannot be opened. The node must not start with this shard's data; nothing was changed.
#[derive(Debug)]
pub enum OpenError {
    Io {
        action: &'static str,
        path: String,
        error: io::Error,
    },
    /// `position` is a byte position in `file`, or a stream's offset for `StreamIncomplete`.
    Corrupt {
        file: String,
        position: u64,
        reason: CorruptReason,
    },
    /// Written by a later release.
    UnknownVersion {
        file: String,
        version: u32,
    },
}

/// A failure after which the process must end: nothing may be assumed of unsynced bytes.
#[derive(Debug)]
pub enum LogError {
    Io {
        action: &'static str,
        error: io::Error,
    },
    /// A batch that a checkpoint had to move out of the WAL fails its checksum.
    Corrupt {
        stream: StreamId,
        offset: u64,
    },
}

/// A read failed. Other reads and writes go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// The bytes on disk for the batch with this offset fail a check.
    Corrupt {
        stream: StreamId,
        offset: u64,
    },
    Io {
        stream: StreamId,
        kind: io::ErrorKind,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Io { action, path, error } => write!(f, "cannot {action} {path}: {error}"),
            OpenError::Corrupt { file, position, reason } => {
                write!(f, "{file} is damaged at {position}: {reason:?}")
            }
            OpenError::UnknownVersion { file, version } => {
                write!(f, "{file} has format version {version}, which this release does not know")
            }
        }
    }
}

impl std::error::Error for OpenError {}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogError::Io { action, error } => write!(f, "cannot {action}: {error}"),
            LogError::Corrupt { stream, offset } => {
                write!(f, "stream {stream} is damaged on disk at offset {offset}")
            }
        }
    }
}

impl std::error::Error for LogError {}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Corrupt { stream, offset } => {
                write!(f, "stream {stream} is damaged on disk at offset {offset}")
            }
            ReadError::Io { stream, kind } => write!(f, "cannot read stream {stream}: {kind}"),
        }
    }
}

impl std::error::Error for ReadError {}
