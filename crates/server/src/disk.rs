//! The real disk: `koine_base::disk::Disk` over the files of one directory. Called from the disk
//! threads only; it may block. Never sees a name chosen by a user: paths come from `log`.

use koine_base::disk::{Disk, FileId};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

/// Pieces of one `pwritev`; Linux takes 1,024 (`IOV_MAX`).
const PIECES_PER_WRITE: usize = 1024;

/// What a device may want of the place, the length and the memory of a write that passes by the cache.
const DIRECT_ALIGN: usize = 4096;

/// Bytes of one such write.
const DIRECT_BYTES: usize = 1 << 20;

/// Zeros of one write.
const FILL_BYTES: usize = 1 << 20;

/// Zeros between two syncs: those of other files do not wait behind a whole file of them.
const FILL_SYNC_BYTES: u64 = 8 << 20;

pub struct RealDisk {
    root: PathBuf,
    /// Files are opened for writing, too.
    writes: bool,
    next_id: AtomicU64,
    /// Guards the table of open files, never held during I/O: a reader clones the handle out, so
    /// `close` does not wait for it and the descriptor lives until its last user is done.
    files: RwLock<HashMap<FileId, Arc<Open>>>,
    /// Guards what direct writes are gathered in, one of them at a time; empty until the first.
    gathered: Mutex<Vec<u8>>,
}

struct Open {
    file: File,
    path: PathBuf,
    /// The same file past the system's cache, where that is possible; opened when first wanted.
    direct: OnceLock<Option<File>>,
}

impl RealDisk {
    /// `root` must exist.
    pub fn new(root: &Path) -> Self {
        RealDisk {
            root: root.to_owned(),
            writes: true,
            next_id: AtomicU64::new(1),
            files: RwLock::default(),
            gathered: Mutex::default(),
        }
    }

    /// One that cannot change a file.
    pub fn reader(root: &Path) -> Self {
        RealDisk { writes: false, ..Self::new(root) }
    }

    /// Size of the device that the files are on, for marks that are a share of it.
    pub fn total_bytes(&self) -> io::Result<u64> {
        let figures = rustix::fs::statvfs(&self.root)?;
        Ok(figures.f_blocks.saturating_mul(figures.f_frsize))
    }

    fn locate(&self, path: &str) -> PathBuf {
        if path.is_empty() {
            return self.root.clone();
        }
        self.root.join(path)
    }

    fn keep(&self, file: File, path: PathBuf) -> FileId {
        let id = FileId(self.next_id.fetch_add(1, Ordering::Relaxed));
        let open = Arc::new(Open { file, path, direct: OnceLock::new() });
        self.files.write().unwrap_or_else(PoisonError::into_inner).insert(id, open);
        id
    }

    fn file(&self, id: FileId) -> io::Result<Arc<Open>> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        files
            .get(&id)
            .cloned()
            .ok_or_else(|| io::Error::other(format!("file {} is not open", id.0)))
    }
}

impl Disk for RealDisk {
    fn make_dir(&self, path: &str) -> io::Result<()> {
        std::fs::create_dir_all(self.locate(path))
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.locate(directory))? {
            let entry = entry?;
            if !entry.file_type()?.is_file() {
                continue;
            }
            // A name that is not UTF-8 was not made by us.
            if let Ok(name) = entry.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn open(&self, path: &str) -> io::Result<FileId> {
        let path = self.locate(path);
        let file = File::options().read(true).write(self.writes).open(&path)?;
        Ok(self.keep(file, path))
    }

    fn create(&self, path: &str, size: u64) -> io::Result<FileId> {
        let path = self.locate(path);
        let file =
            File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        if size > 0 {
            preallocate(&file, size)?;
        }
        Ok(self.keep(file, path))
    }

    fn fill(&self, file: FileId, size: u64) -> io::Result<()> {
        let open = self.file(file)?;
        let file = &open.file;
        let zeros = vec![0; FILL_BYTES];
        let mut position = 0;
        while position < size {
            let piece = &zeros[..zeros.len().min((size - position) as usize)];
            position = write_chunk(file, position, &[piece])?;
            if position.is_multiple_of(FILL_SYNC_BYTES) {
                file.sync_data()?;
            }
        }
        file.sync_data()
    }

    fn size(&self, file: FileId) -> io::Result<u64> {
        Ok(self.file(file)?.file.metadata()?.len())
    }

    fn read_at(&self, file: FileId, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let open = self.file(file)?;
        let mut done = 0;
        while done < buffer.len() {
            match open.file.read_at(&mut buffer[done..], position + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, file: FileId, position: u64, pieces: &[&[u8]]) -> io::Result<()> {
        write_pieces(&self.file(file)?.file, position, pieces)
    }

    /// Whole blocks go past the cache, which spares the system a copy into pages that it has to find
    /// first; what is left at both ends goes the ordinary way.
    fn write_past_cache(&self, file: FileId, position: u64, pieces: &[&[u8]]) -> io::Result<()> {
        let open = self.file(file)?;
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        let end = position + length as u64;
        let (first, last) = (position.next_multiple_of(ALIGN), end - end % ALIGN);
        let direct = if first < last { open.direct() } else { None };
        let Some(direct) = direct else {
            return write_pieces(&open.file, position, pieces);
        };
        let mut cursor = Pieces { rest: pieces, skip: 0 };
        write_pieces(&open.file, position, &cursor.take((first - position) as usize))?;
        let mut gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        gathered.resize(DIRECT_BYTES + DIRECT_ALIGN, 0);
        let begin = gathered.as_ptr().align_offset(DIRECT_ALIGN);
        let aligned = &mut gathered[begin..][..DIRECT_BYTES];
        let mut at = first;
        while at < last {
            let count = DIRECT_BYTES.min((last - at) as usize);
            let mut filled = 0;
            for piece in cursor.take(count) {
                aligned[filled..filled + piece.len()].copy_from_slice(piece);
                filled += piece.len();
            }
            at = match write_chunk(direct, at, &[&aligned[..count]]) {
                // This file system or device wants something else than the usual.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    write_chunk(&open.file, at, &[&aligned[..count]])?
                }
                outcome => outcome?,
            };
        }
        drop(gathered);
        write_pieces(&open.file, last, &cursor.take((end - last) as usize))
    }

    fn sync(&self, file: FileId) -> io::Result<()> {
        self.file(file)?.file.sync_data()
    }

    fn sync_dir(&self, directory: &str) -> io::Result<()> {
        File::open(self.locate(directory))?.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.locate(from), self.locate(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        std::fs::remove_file(self.locate(path))
    }

    fn close(&self, file: FileId) {
        self.files.write().unwrap_or_else(PoisonError::into_inner).remove(&file);
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let figures = rustix::fs::statvfs(&self.root)?;
        Ok(figures.f_bavail.saturating_mul(figures.f_frsize))
    }
}

const ALIGN: u64 = DIRECT_ALIGN as u64;

impl Open {
    fn direct(&self) -> Option<&File> {
        let open = || {
            let flags = rustix::fs::OFlags::DIRECT.bits() as i32;
            File::options().write(true).custom_flags(flags).open(&self.path).ok()
        };
        self.direct.get_or_init(open).as_ref()
    }
}

/// Bytes that lie in pieces, taken from the front.
struct Pieces<'a> {
    rest: &'a [&'a [u8]],
    /// Of the first piece, taken already.
    skip: usize,
}

impl<'a> Pieces<'a> {
    fn take(&mut self, mut count: usize) -> Vec<&'a [u8]> {
        let mut taken = Vec::new();
        while let Some(piece) = self.rest.first().filter(|_| count > 0) {
            let piece = &piece[self.skip..];
            if piece.len() > count {
                self.skip += count;
                taken.push(&piece[..count]);
                break;
            }
            count -= piece.len();
            taken.push(piece);
            self.rest = &self.rest[1..];
            self.skip = 0;
        }
        taken
    }
}

fn write_pieces(file: &File, mut position: u64, pieces: &[&[u8]]) -> io::Result<()> {
    for chunk in pieces.chunks(PIECES_PER_WRITE) {
        position = write_chunk(file, position, chunk)?;
    }
    Ok(())
}

/// Reserves the blocks, so that a later write cannot fail for lack of space; file systems that
/// cannot (tmpfs of old kernels, some network mounts) get a sparse file of the right length.
fn preallocate(file: &File, size: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, size) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => file.set_len(size),
        Err(error) => Err(error.into()),
    }
}

/// Writes all pieces, going on after short writes. Answers the position behind them.
fn write_chunk(file: &File, mut position: u64, pieces: &[&[u8]]) -> io::Result<u64> {
    let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    let mut rest = &mut slices[..];
    // Drops empty pieces in front, so that a write of nothing is not taken for a full disk.
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match rustix::io::pwritev(file, rest, position) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                position += count as u64;
                IoSlice::advance_slices(&mut rest, count);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(position)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_directory::TestDirectory;

    #[test]
    fn pieces_come_back_in_order_and_ends_are_short() {
        let directory = TestDirectory::new("disk");
        let disk = RealDisk::new(directory.path());
        disk.make_dir("wal/0").unwrap();
        let file = disk.create("wal/0/1.log", 64).unwrap();
        assert_eq!(disk.size(file).unwrap(), 64);
        let many: Vec<Vec<u8>> =
            (0..3000u32).map(|n| n.to_be_bytes()[..(n % 5) as usize].to_vec()).collect();
        let pieces: Vec<&[u8]> = many.iter().map(Vec::as_slice).collect();
        disk.write_at(file, 10, &pieces).unwrap();
        disk.sync(file).unwrap();
        disk.sync_dir("wal/0").unwrap();
        let expect: Vec<u8> = many.concat();
        let mut seen = vec![0xAA; expect.len() + 100];
        assert_eq!(disk.read_at(file, 10, &mut seen).unwrap(), expect.len());
        assert_eq!(&seen[..expect.len()], &expect[..]);
        assert_eq!(disk.read_at(file, 1 << 30, &mut seen).unwrap(), 0);
        assert_eq!(disk.read_at(file, 0, &mut seen[..10]).unwrap(), 10);
        assert_eq!(seen[..10], [0; 10]);
        disk.close(file);
        assert!(disk.read_at(file, 0, &mut seen).is_err());
    }

    #[test]
    fn what_passes_by_the_cache_lies_where_it_should_beside_what_did_not() {
        let directory = TestDirectory::new("disk");
        let disk = RealDisk::new(directory.path());
        let mut expect: Vec<u8> = Vec::new();
        let file = disk.create("1", 100).unwrap();
        let lengths = [1, 4095, 4096, 4097, 100, 3 << 20, 0, 70_001, (1 << 20) + 5, 8192, 7];
        for (round, length) in lengths.into_iter().enumerate() {
            let bytes: Vec<u8> = (0..length).map(|n| (n * 7 + round) as u8).collect();
            // In pieces, some of them empty.
            let pieces: Vec<&[u8]> = bytes.chunks(1 + round * 3001).chain([&[][..]]).collect();
            disk.write_past_cache(file, expect.len() as u64, &pieces).unwrap();
            expect.extend_from_slice(&bytes);
        }
        // Over blocks that went the ordinary way a moment before.
        disk.write_at(file, 10_000, &[&[1; 50_000]]).unwrap();
        disk.write_past_cache(file, 20_001, &[&[2; 20_000]]).unwrap();
        expect[10_000..60_000].fill(1);
        expect[20_001..40_001].fill(2);
        disk.sync(file).unwrap();
        let mut seen = vec![0; expect.len() + 1];
        assert_eq!(disk.read_at(file, 0, &mut seen).unwrap(), expect.len());
        assert!(seen[..expect.len()] == expect);
    }

    /// `FIEMAP` would say it outright, and needs `unsafe`; blocks that are only reserved are a hole to `SEEK_DATA`.
    #[test]
    fn a_filled_file_has_written_blocks_to_its_end() {
        const BYTES: u64 = (FILL_SYNC_BYTES + FILL_BYTES as u64) + 5000;
        let directory = TestDirectory::new("disk");
        let disk = RealDisk::new(directory.path());
        let file = disk.create("1", BYTES).unwrap();
        disk.fill(file, BYTES).unwrap();
        assert_eq!(disk.size(file).unwrap(), BYTES);
        let (inner, mut at) = (disk.file(file).unwrap(), 0);
        while at < BYTES {
            assert_eq!(rustix::fs::seek(&inner.file, rustix::fs::SeekFrom::Data(at)).unwrap(), at);
            at += 4096;
        }
        let mut seen = vec![1; BYTES as usize];
        assert_eq!(disk.read_at(file, 0, &mut seen).unwrap() as u64, BYTES);
        assert!(seen.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn names_are_listed_renamed_and_removed() {
        let directory = TestDirectory::new("disk");
        let disk = RealDisk::new(directory.path());
        disk.make_dir("a/b").unwrap();
        disk.make_dir("a/b").unwrap();
        assert_eq!(disk.open("a/1").unwrap_err().kind(), io::ErrorKind::NotFound);
        for name in ["a/1", "a/2"] {
            let file = disk.create(name, 0).unwrap();
            disk.write_at(file, 0, &[name.as_bytes(), b""]).unwrap();
            disk.write_at(file, 0, &[]).unwrap();
        }
        disk.rename("a/1", "a/2").unwrap();
        assert_eq!(disk.list("a").unwrap(), ["2"]);
        let mut seen = [0; 8];
        assert_eq!(disk.read_at(disk.open("a/2").unwrap(), 0, &mut seen).unwrap(), 3);
        assert_eq!(&seen[..3], b"a/1");
        disk.remove("a/2").unwrap();
        assert!(disk.list("a").unwrap().is_empty());
        assert!(disk.free_bytes().unwrap() > 0);
        assert!(disk.total_bytes().unwrap() >= disk.free_bytes().unwrap());
    }
}
