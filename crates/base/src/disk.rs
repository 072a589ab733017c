//! The disk as `log` sees it: plain synchronous calls on named files below one directory.
//!
//! `log` never calls this from a shard's event loop. It hands out I/O requests as data; whoever runs
//! the node (the disk threads of `server`, the simulator) executes them against a `Disk`.

pub mod memory;

pub use memory::{MemoryDisk, Survival};

use std::io;

/// An open file. Numbers are never reused while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u64);

/// Paths are relative to the data directory, use `/`, and are made of numbers and fixed words only:
/// no name chosen by a user ever becomes part of a path.
///
/// Durability: written bytes survive a power cut only after [`Disk::sync`] of the file returned `Ok`;
/// a created, renamed or removed name only after [`Disk::sync_dir`] of its directory. After a failed
/// `sync` nothing may be assumed of any byte not synced before: the caller must end the process.
pub trait Disk: Send + Sync {
    /// Makes the directory and its parents; no error if it exists.
    fn make_dir(&self, path: &str) -> io::Result<()>;

    /// Names of the plain files in a directory, in no order.
    fn list(&self, directory: &str) -> io::Result<Vec<String>>;

    /// Opens for reading and writing; `NotFound` if it does not exist.
    fn open(&self, path: &str) -> io::Result<FileId>;

    /// Creates (or truncates) and preallocates `size` bytes that read as zero.
    fn create(&self, path: &str, size: u64) -> io::Result<FileId>;

    /// Writes zeros over the first `size` bytes of a file just created, and syncs them: a later sync of
    /// bytes among them depends on the bytes alone and not on the file system's own records, which an
    /// ext4 that is failing may lose after it has reported success.
    fn fill(&self, file: FileId, size: u64) -> io::Result<()>;

    fn size(&self, file: FileId) -> io::Result<u64>;

    /// Reads up to `buffer.len()` bytes; fewer only at the end of the file.
    fn read_at(&self, file: FileId, position: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `pieces` one after the other from `position`, growing the file if need be.
    fn write_at(&self, file: FileId, position: u64, pieces: &[&[u8]]) -> io::Result<()>;

    /// [`Disk::write_at`] for many bytes that nobody is expected to read soon: they need not take the place
    /// of others in the system's memory.
    fn write_past_cache(&self, file: FileId, position: u64, pieces: &[&[u8]]) -> io::Result<()> {
        self.write_at(file, position, pieces)
    }

    /// `fdatasync`.
    fn sync(&self, file: FileId) -> io::Result<()>;

    /// Makes names created, renamed or removed in `directory` durable.
    fn sync_dir(&self, directory: &str) -> io::Result<()>;

    /// Replaces `to` if it exists.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    fn remove(&self, path: &str) -> io::Result<()>;

    /// Forgets the handle. Reads under way finish first.
    fn close(&self, file: FileId);

    /// Bytes still free on the device.
    fn free_bytes(&self) -> io::Result<u64>;
}
