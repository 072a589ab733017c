//! A disk of real files that counts what is written to them, by what it is for. Must never be part of a
//! broker: what `server` does about partial failures is not done here.

use koine_base::disk::{Disk, FileId};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, IoSlice, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A page of the page cache: what the kernel counts, and writes, when one byte of it changed.
const PAGE_BYTES: u64 = 4096;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Wal,
    Segment,
    Checkpoint,
}

/// Bytes since the disk was made.
#[derive(Default)]
pub struct Counts {
    /// Zeros that WAL files are filled with before their first use.
    pub fill: AtomicU64,
    pub wal: AtomicU64,
    /// Whole pages that the writes to the WAL touched.
    pub wal_pages: AtomicU64,
    pub segment: AtomicU64,
    pub checkpoint: AtomicU64,
    pub syncs: AtomicU64,
}

type Open = Arc<(Use, Mutex<File>)>;

/// Files of a directory that goes with it.
pub struct FileDisk {
    root: PathBuf,
    next: AtomicU64,
    open: Mutex<HashMap<FileId, Open>>,
    pub counts: Counts,
}

impl FileDisk {
    pub fn new(name: &str) -> Arc<Self> {
        let root = std::env::temp_dir().join(format!("koine-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        std::fs::create_dir_all(&root).expect("a directory for what is measured");
        let (next, open) = (AtomicU64::new(1), Mutex::default());
        Arc::new(FileDisk { root, next, open, counts: Counts::default() })
    }

    fn keep(&self, path: &str, file: File) -> FileId {
        let purpose = if path.contains("/wal/") {
            Use::Wal
        } else if path.contains("/segments/") {
            Use::Segment
        } else {
            Use::Checkpoint
        };
        let id = FileId(self.next.fetch_add(1, Ordering::Relaxed));
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.insert(id, Arc::new((purpose, Mutex::new(file))));
        id
    }

    fn file(&self, id: FileId) -> io::Result<Open> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.get(&id).cloned().ok_or_else(|| io::Error::other("not open"))
    }

    fn with<R>(&self, id: FileId, call: impl FnOnce(&mut File) -> io::Result<R>) -> io::Result<R> {
        let file = self.file(id)?;
        let mut file = file.1.lock().unwrap_or_else(PoisonError::into_inner);
        call(&mut file)
    }
}

impl Drop for FileDisk {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

impl Disk for FileDisk {
    fn make_dir(&self, path: &str) -> io::Result<()> {
        std::fs::create_dir_all(self.root.join(path))
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.root.join(directory))? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.extend(entry.file_name().into_string().ok());
            }
        }
        Ok(names)
    }

    fn open(&self, path: &str) -> io::Result<FileId> {
        let file = File::options().read(true).write(true).open(self.root.join(path))?;
        Ok(self.keep(path, file))
    }

    fn create(&self, path: &str, size: u64) -> io::Result<FileId> {
        let mut options = File::options();
        let options = options.read(true).write(true).create(true).truncate(true);
        let file = options.open(self.root.join(path))?;
        file.set_len(size)?;
        Ok(self.keep(path, file))
    }

    fn fill(&self, file: FileId, size: u64) -> io::Result<()> {
        self.counts.fill.fetch_add(size, Ordering::Relaxed);
        let zeros = vec![0; 1 << 20];
        self.with(file, |file| {
            let mut position = 0;
            while position < size {
                let piece = &zeros[..zeros.len().min((size - position) as usize)];
                file.write_all_at(piece, position)?;
                position += piece.len() as u64;
                if position.is_multiple_of(8 << 20) {
                    file.sync_data()?;
                }
            }
            file.sync_data()
        })
    }

    fn size(&self, file: FileId) -> io::Result<u64> {
        self.with(file, |file| Ok(file.metadata()?.len()))
    }

    fn read_at(&self, file: FileId, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.with(file, |file| {
            let mut done = 0;
            while done < buffer.len() {
                match file.read_at(&mut buffer[done..], position + done as u64)? {
                    0 => break,
                    count => done += count,
                }
            }
            Ok(done)
        })
    }

    fn write_at(&self, id: FileId, position: u64, pieces: &[&[u8]]) -> io::Result<()> {
        let file = self.file(id)?;
        let bytes: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        let counts = &self.counts;
        match file.0 {
            Use::Wal => {
                let first = position / PAGE_BYTES;
                let pages = (position + bytes).div_ceil(PAGE_BYTES) - first;
                counts.wal.fetch_add(bytes, Ordering::Relaxed);
                counts.wal_pages.fetch_add(pages * PAGE_BYTES, Ordering::Relaxed);
            }
            Use::Segment => _ = counts.segment.fetch_add(bytes, Ordering::Relaxed),
            Use::Checkpoint => _ = counts.checkpoint.fetch_add(bytes, Ordering::Relaxed),
        }
        let mut file = file.1.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(position))?;
        for chunk in pieces.chunks(1024) {
            let mut slices: Vec<IoSlice<'_>> = chunk.iter().map(|it| IoSlice::new(it)).collect();
            let mut rest = &mut slices[..];
            IoSlice::advance_slices(&mut rest, 0);
            while !rest.is_empty() {
                let count = file.write_vectored(rest)?;
                IoSlice::advance_slices(&mut rest, count);
            }
        }
        Ok(())
    }

    fn sync(&self, file: FileId) -> io::Result<()> {
        self.counts.syncs.fetch_add(1, Ordering::Relaxed);
        self.with(file, |file| file.sync_data())
    }

    fn sync_dir(&self, directory: &str) -> io::Result<()> {
        File::open(self.root.join(directory))?.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.root.join(from), self.root.join(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        std::fs::remove_file(self.root.join(path))
    }

    fn close(&self, file: FileId) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&file);
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(1 << 40)
    }
}
