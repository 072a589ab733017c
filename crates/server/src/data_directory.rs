//! The data directory: made if missing, and held by one process at a time through a lock that the
//! kernel releases even after `kill -9`.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

const LOCK_FILE: &str = "lock";

/// Holds the lock until dropped.
pub struct DataDirectory {
    path: PathBuf,
    _lock: File,
}

#[derive(Debug)]
pub enum DataDirectoryError {
    /// Another process has it; the process id if its lock file tells.
    InUse {
        path: PathBuf,
        pid: Option<u32>,
    },
    Io {
        path: PathBuf,
        error: io::Error,
    },
}

impl fmt::Display for DataDirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataDirectoryError::InUse { path, pid: Some(pid) } => {
                write!(f, "data directory {} is in use by process {pid}", path.display())
            }
            DataDirectoryError::InUse { path, pid: None } => {
                write!(f, "data directory {} is in use by another process", path.display())
            }
            DataDirectoryError::Io { path, error } => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for DataDirectoryError {}

impl DataDirectory {
    pub fn open(path: &Path) -> Result<Self, DataDirectoryError> {
        let failed =
            |at: &Path, error: io::Error| DataDirectoryError::Io { path: at.to_owned(), error };
        std::fs::create_dir_all(path).map_err(|error| failed(path, error))?;
        let lock_path = path.join(LOCK_FILE);
        let mut lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(|error| failed(&lock_path, error))?;
        take(path, &lock_path, &mut lock)?;
        write_pid(&mut lock).map_err(|error| failed(&lock_path, error))?;
        Ok(DataDirectory { path: path.to_owned(), _lock: lock })
    }

    /// Takes the lock of a directory that is there, and changes nothing in it. `None` if no broker ever
    /// ran on it.
    pub fn hold(path: &Path) -> Result<Option<Self>, DataDirectoryError> {
        let lock_path = path.join(LOCK_FILE);
        let mut lock = match File::open(&lock_path) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.is_dir() => {
                return Ok(None)
            }
            Err(error) => return Err(DataDirectoryError::Io { path: lock_path, error }),
        };
        take(path, &lock_path, &mut lock)?;
        Ok(Some(DataDirectory { path: path.to_owned(), _lock: lock }))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn take(path: &Path, lock_path: &Path, lock: &mut File) -> Result<(), DataDirectoryError> {
    match rustix::fs::flock(&*lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(DataDirectoryError::InUse { path: path.to_owned(), pid: read_pid(lock) })
        }
        Err(error) => {
            Err(DataDirectoryError::Io { path: lock_path.to_owned(), error: error.into() })
        }
    }
}

fn read_pid(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn write_pid(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_directory::TestDirectory;

    #[test]
    fn second_opener_is_told_who_has_it() {
        let directory = TestDirectory::new("lock");
        let path = directory.path().join("new/data");
        let first = DataDirectory::open(&path).unwrap();
        assert_eq!(first.path(), path);
        let Err(DataDirectoryError::InUse { pid, .. }) = DataDirectory::open(&path) else {
            panic!("opened twice")
        };
        assert_eq!(pid, Some(std::process::id()));
        assert!(matches!(DataDirectory::hold(&path), Err(DataDirectoryError::InUse { .. })));
        drop(first);
        let held = DataDirectory::hold(&path).unwrap();
        assert!(held.is_some() && DataDirectory::open(&path).is_err());
        drop(held);
        assert!(DataDirectory::open(&path).is_ok());
        assert!(DataDirectory::hold(&path.join("none")).is_err());
        assert!(!path.join("none").exists(), "looking makes nothing");
    }
}
