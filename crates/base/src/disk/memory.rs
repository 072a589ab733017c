//! A disk in memory, for tests and the simulator: it keeps apart what was written from what was
//! synced, so that [`MemoryDisk::crash`] can lose exactly what a power cut may lose. It must never be
//! more forgiving than a real disk: what was not synced survives only if the caller asks for it.

use super::{Disk, FileId};
use crate::rng::Rng;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Granularity of the sparse store; unrelated to tearing, which [`Survival`] decides.
const PAGE_BYTES: u64 = 4096;

/// What a real disk writes as one piece.
const SECTOR_BYTES: u64 = 512;

/// What becomes of everything that was not synced when the power goes.
pub enum Survival<'a> {
    /// Lost: unsynced bytes and unsynced names.
    Nothing,
    /// All of it happened to reach the disk.
    Everything,
    /// All earlier writes reached the disk, and of the last one only this many bytes.
    TornLastWrite(u64),
    /// Each unsynced sector reaches the disk or not, by chance; of the unsynced names a prefix does.
    Random(&'a mut Rng),
}

/// See the module text. Shared by reference; all methods lock for the length of the call.
#[derive(Default)]
pub struct MemoryDisk {
    /// Guards the whole state: calls come from several disk threads.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    inodes: HashMap<u64, Inode>,
    /// Names as a running process sees them.
    names: BTreeMap<String, u64>,
    /// Names as they were at the last `sync_dir` of their directory.
    names_durable: BTreeMap<String, u64>,
    /// Changes of names since then, in order.
    name_changes: Vec<NameChange>,
    handles: HashMap<u64, u64>,
    last_id: u64,
    last_written: Option<u64>,
    /// Operations that change something, counted; see [`MemoryDisk::stop_after`].
    steps: u64,
    stop_at: Option<u64>,
    syncs: u64,
    fail_sync: Option<u64>,
    fail_write: Option<u64>,
    lies: bool,
    capacity: Option<u64>,
}

struct NameChange {
    path: String,
    inode: Option<u64>,
}

#[derive(Default, Clone)]
struct Inode {
    current: Sparse,
    durable: Sparse,
    /// Writes since the last sync, in order.
    unsynced: Vec<(u64, Vec<u8>)>,
}

#[derive(Default, Clone)]
struct Sparse {
    size: u64,
    pages: HashMap<u64, Box<[u8]>>,
}

impl Sparse {
    fn read(&self, position: u64, buffer: &mut [u8]) -> usize {
        let count = (self.size.saturating_sub(position)).min(buffer.len() as u64) as usize;
        let mut done = 0;
        while done < count {
            let at = position + done as u64;
            let within = (at % PAGE_BYTES) as usize;
            let step = (PAGE_BYTES as usize - within).min(count - done);
            match self.pages.get(&(at / PAGE_BYTES)) {
                Some(page) => {
                    buffer[done..done + step].copy_from_slice(&page[within..within + step])
                }
                None => buffer[done..done + step].fill(0),
            }
            done += step;
        }
        count
    }

    fn write(&mut self, position: u64, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let at = position + done as u64;
            let within = (at % PAGE_BYTES) as usize;
            let step = (PAGE_BYTES as usize - within).min(bytes.len() - done);
            let page = self
                .pages
                .entry(at / PAGE_BYTES)
                .or_insert_with(|| vec![0; PAGE_BYTES as usize].into_boxed_slice());
            page[within..within + step].copy_from_slice(&bytes[done..done + step]);
            done += step;
        }
        self.size = self.size.max(position + bytes.len() as u64);
    }
}

impl Inode {
    fn sync(&mut self) {
        self.durable.size = self.current.size;
        for (position, bytes) in self.unsynced.drain(..) {
            self.durable.write(position, &bytes);
        }
    }

    /// What is left after a power cut. `torn` is set for the file that was written last.
    fn crash(&mut self, survival: &mut Survival<'_>, torn: bool) {
        match survival {
            Survival::Nothing => {}
            Survival::Everything => self.sync(),
            Survival::TornLastWrite(bytes_kept) => {
                if torn {
                    if let Some((_, last)) = self.unsynced.last_mut() {
                        last.truncate(usize::try_from(*bytes_kept).unwrap_or(usize::MAX));
                    }
                }
                self.sync();
            }
            Survival::Random(rng) => {
                if rng.chance(1, 2) {
                    self.durable.size = self.durable.size.max(self.current.size);
                }
                // Now and then all or nothing, else sector by sector.
                let style = rng.below(4);
                for (position, bytes) in std::mem::take(&mut self.unsynced) {
                    keep_some(&mut self.durable, position, &bytes, style, rng);
                }
            }
        }
        self.unsynced.clear();
        self.current = self.durable.clone();
    }
}

fn keep_some(durable: &mut Sparse, position: u64, bytes: &[u8], style: u64, rng: &mut Rng) {
    let mut at = position;
    let end = position + bytes.len() as u64;
    while at < end {
        let stop = (at / SECTOR_BYTES + 1) * SECTOR_BYTES;
        let stop = stop.min(end);
        let keep = match style {
            0 => true,
            1 => false,
            _ => rng.chance(1, 2),
        };
        if keep {
            durable.write(at, &bytes[(at - position) as usize..(stop - position) as usize]);
        }
        at = stop;
    }
}

fn directory_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}

fn stopped() -> io::Error {
    io::Error::other("the disk has stopped")
}

impl State {
    /// Counts one operation that changes something; fails it if the disk is to have stopped by now.
    fn step(&mut self) -> io::Result<()> {
        if self.stop_at.is_some_and(|stop_at| self.steps >= stop_at) {
            return Err(stopped());
        }
        self.steps += 1;
        Ok(())
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn handle_to(&mut self, inode: u64) -> FileId {
        let id = self.next_id();
        self.handles.insert(id, inode);
        FileId(id)
    }

    fn inode(&mut self, file: FileId) -> io::Result<(u64, &mut Inode)> {
        let number =
            *self.handles.get(&file.0).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let inode =
            self.inodes.get_mut(&number).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok((number, inode))
    }

    fn set_name(&mut self, path: &str, inode: Option<u64>) {
        match inode {
            Some(inode) => self.names.insert(path.to_owned(), inode),
            None => self.names.remove(path),
        };
        self.name_changes.push(NameChange { path: path.to_owned(), inode });
    }

    fn used_bytes(&self) -> u64 {
        self.names
            .values()
            .filter_map(|inode| self.inodes.get(inode))
            .map(|inode| inode.current.size)
            .sum()
    }

    fn free_bytes(&self) -> u64 {
        self.capacity.map_or(1 << 50, |capacity| capacity.saturating_sub(self.used_bytes()))
    }

    fn forget_unreachable(&mut self) {
        let State { inodes, names, names_durable, name_changes, handles, .. } = self;
        inodes.retain(|number, _| {
            names.values().any(|inode| inode == number)
                || names_durable.values().any(|inode| inode == number)
                || name_changes.iter().any(|change| change.inode == Some(*number))
                || handles.values().any(|inode| inode == number)
        });
    }
}

impl MemoryDisk {
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The power goes and comes back: handles are gone, unsynced bytes and names fare as `survival`
    /// says, injected faults are lifted.
    pub fn crash(&self, mut survival: Survival<'_>) {
        let state = &mut *self.lock();
        state.handles.clear();
        let last_written = state.last_written.take();
        let mut numbers: Vec<u64> = state.inodes.keys().copied().collect();
        numbers.sort_unstable();
        for number in numbers {
            if let Some(inode) = state.inodes.get_mut(&number) {
                inode.crash(&mut survival, last_written == Some(number));
            }
        }
        let kept = match &mut survival {
            Survival::Nothing => 0,
            Survival::Everything | Survival::TornLastWrite(_) => state.name_changes.len(),
            Survival::Random(rng) => rng.below(state.name_changes.len() as u64 + 1) as usize,
        };
        for change in std::mem::take(&mut state.name_changes).into_iter().take(kept) {
            match change.inode {
                Some(inode) => state.names_durable.insert(change.path, inode),
                None => state.names_durable.remove(&change.path),
            };
        }
        state.names = state.names_durable.clone();
        state.forget_unreachable();
        state.stop_at = None;
        state.fail_sync = None;
        state.fail_write = None;
    }

    /// The process dies, but the power stays: handles are gone, while what was not synced is still in
    /// the system's cache, and may yet be lost. Injected faults are lifted.
    pub fn kill(&self) {
        let state = &mut *self.lock();
        state.handles.clear();
        state.forget_unreachable();
        state.stop_at = None;
        state.fail_sync = None;
        state.fail_write = None;
    }

    /// Operations so far that change something: create, write, sync, rename, remove, sync of a
    /// directory.
    pub fn steps(&self) -> u64 {
        self.lock().steps
    }

    /// A second disk with the same files, both on the medium and in the cache; no file of it is open, and
    /// no fault is injected.
    pub fn fork(&self) -> MemoryDisk {
        let state = self.lock();
        let changes = state.name_changes.iter();
        let copy = State {
            inodes: state.inodes.clone(),
            names: state.names.clone(),
            names_durable: state.names_durable.clone(),
            name_changes: changes
                .map(|change| NameChange { path: change.path.clone(), inode: change.inode })
                .collect(),
            last_id: state.last_id,
            capacity: state.capacity,
            ..State::default()
        };
        MemoryDisk { state: Mutex::new(copy) }
    }

    /// Calls of `sync` that succeeded.
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// Lets `steps` more changing operations through and fails all others until the next crash.
    pub fn stop_after(&self, steps: u64) {
        let state = &mut *self.lock();
        state.stop_at = Some(state.steps + steps);
    }

    /// Fails one `sync`, after letting `skip` of them through. What it was to write is still read, until
    /// the power goes, and is never written unless somebody writes it again.
    pub fn fail_sync(&self, skip: u64) {
        self.lock().fail_sync = Some(skip);
    }

    /// Fails one write, after letting `skip` of them through; nothing of it is written.
    pub fn fail_write(&self, skip: u64) {
        self.lock().fail_write = Some(skip);
    }

    /// From now on a `sync` of a file says it is done and does nothing.
    pub fn lie_about_syncs(&self, lies: bool) {
        self.lock().lies = lies;
    }

    /// Total size of the device; `None` is without limit. Creating or growing beyond it fails with
    /// `StorageFull`.
    pub fn limit(&self, capacity: Option<u64>) {
        self.lock().capacity = capacity;
    }

    /// What all files take together.
    pub fn used_bytes(&self) -> u64 {
        self.lock().used_bytes()
    }

    /// Inverts the bits of `mask` in one stored byte, as decay of the medium does.
    pub fn flip(&self, path: &str, position: u64, mask: u8) -> io::Result<()> {
        let state = &mut *self.lock();
        let number =
            *state.names.get(path).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let inode = state
            .inodes
            .get_mut(&number)
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        for sparse in [&mut inode.current, &mut inode.durable] {
            let mut byte = [0];
            if sparse.read(position, &mut byte) == 1 {
                sparse.write(position, &[byte[0] ^ mask]);
            }
        }
        Ok(())
    }

    /// All names, in order.
    pub fn paths(&self) -> Vec<String> {
        self.lock().names.keys().cloned().collect()
    }

    /// All bytes of one file as a running process sees them.
    pub fn contents(&self, path: &str) -> io::Result<Vec<u8>> {
        let state = self.lock();
        let inode = state.names.get(path).and_then(|number| state.inodes.get(number));
        let inode = inode.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let mut bytes = vec![0; usize::try_from(inode.current.size).map_err(io::Error::other)?];
        inode.current.read(0, &mut bytes);
        Ok(bytes)
    }
}

impl Disk for MemoryDisk {
    fn make_dir(&self, _path: &str) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let state = self.lock();
        let names = state.names.keys().filter(|path| directory_of(path) == directory);
        Ok(names.map(|path| path.rsplit('/').next().unwrap_or(path).to_owned()).collect())
    }

    fn open(&self, path: &str) -> io::Result<FileId> {
        let state = &mut *self.lock();
        let inode =
            *state.names.get(path).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(state.handle_to(inode))
    }

    fn create(&self, path: &str, size: u64) -> io::Result<FileId> {
        let state = &mut *self.lock();
        state.step()?;
        if size > state.free_bytes() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let number = state.next_id();
        let current = Sparse { size, pages: HashMap::new() };
        state.inodes.insert(number, Inode { current, ..Inode::default() });
        state.set_name(path, Some(number));
        Ok(state.handle_to(number))
    }

    /// There are no records that could be lost: a sync.
    fn fill(&self, file: FileId, _size: u64) -> io::Result<()> {
        self.sync(file)
    }

    fn size(&self, file: FileId) -> io::Result<u64> {
        Ok(self.lock().inode(file)?.1.current.size)
    }

    fn read_at(&self, file: FileId, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(self.lock().inode(file)?.1.current.read(position, buffer))
    }

    fn write_at(&self, file: FileId, position: u64, pieces: &[&[u8]]) -> io::Result<()> {
        let state = &mut *self.lock();
        state.step()?;
        if let Some(skip) = &mut state.fail_write {
            if *skip == 0 {
                state.fail_write = None;
                return Err(io::Error::other("injected write failure"));
            }
            *skip -= 1;
        }
        let bytes = pieces.concat();
        let free = state.free_bytes();
        let (number, inode) = state.inode(file)?;
        let end = position + bytes.len() as u64;
        if end.saturating_sub(inode.current.size) > free {
            return Err(io::ErrorKind::StorageFull.into());
        }
        inode.current.write(position, &bytes);
        inode.unsynced.push((position, bytes));
        state.last_written = Some(number);
        Ok(())
    }

    fn sync(&self, file: FileId) -> io::Result<()> {
        let state = &mut *self.lock();
        state.step()?;
        if let Some(skip) = &mut state.fail_sync {
            if *skip == 0 {
                state.fail_sync = None;
                // What Linux does: the pages count as clean from here on, so the cache serves bytes that
                // no later sync will write.
                state.inode(file)?.1.unsynced.clear();
                return Err(io::Error::other("injected sync failure"));
            }
            *skip -= 1;
        }
        let lies = state.lies;
        let (_, inode) = state.inode(file)?;
        if !lies {
            inode.sync();
        }
        state.syncs += 1;
        Ok(())
    }

    fn sync_dir(&self, directory: &str) -> io::Result<()> {
        let state = &mut *self.lock();
        state.step()?;
        let (synced, kept) = std::mem::take(&mut state.name_changes)
            .into_iter()
            .partition::<Vec<_>, _>(|change| directory_of(&change.path) == directory);
        state.name_changes = kept;
        for change in synced {
            match change.inode {
                Some(inode) => state.names_durable.insert(change.path, inode),
                None => state.names_durable.remove(&change.path),
            };
        }
        state.forget_unreachable();
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let state = &mut *self.lock();
        state.step()?;
        let inode =
            *state.names.get(from).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        // One change of two names: a crash keeps both or, by taking a prefix, the new name only.
        state.set_name(to, Some(inode));
        state.set_name(from, None);
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let state = &mut *self.lock();
        state.step()?;
        if !state.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.set_name(path, None);
        Ok(())
    }

    fn close(&self, file: FileId) {
        let state = &mut *self.lock();
        state.handles.remove(&file.0);
        state.forget_unreachable();
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.lock().free_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(disk: &MemoryDisk, path: &str) -> Vec<u8> {
        disk.contents(path).unwrap()
    }

    #[test]
    fn crash_keeps_what_was_synced_and_named() {
        let disk = MemoryDisk::new();
        let file = disk.create("d/1", 4).unwrap();
        disk.write_at(file, 0, &[b"ab", b"cd"]).unwrap();
        disk.sync(file).unwrap();
        disk.sync_dir("d").unwrap();
        disk.write_at(file, 2, &[b"XY"]).unwrap();
        disk.create("d/2", 4).unwrap();
        assert_eq!(read_all(&disk, "d/1"), b"abXY");
        disk.crash(Survival::Nothing);
        assert_eq!(disk.paths(), ["d/1"]);
        assert_eq!(read_all(&disk, "d/1"), b"abcd");
        assert!(disk.read_at(file, 0, &mut [0]).is_err(), "handles do not outlive a crash");
    }

    #[test]
    fn a_killed_process_leaves_the_cache_which_a_power_cut_then_empties() {
        let disk = MemoryDisk::new();
        let file = disk.create("1", 0).unwrap();
        disk.sync_dir("").unwrap();
        disk.write_at(file, 0, &[b"ab"]).unwrap();
        disk.kill();
        assert!(disk.size(file).is_err());
        assert_eq!(read_all(&disk, "1"), b"ab");
        disk.crash(Survival::Nothing);
        assert_eq!(read_all(&disk, "1"), b"");
    }

    #[test]
    fn unsynced_name_is_lost_though_its_bytes_were_synced() {
        let disk = MemoryDisk::new();
        let file = disk.create("d/1", 0).unwrap();
        disk.write_at(file, 0, &[b"ab"]).unwrap();
        disk.sync(file).unwrap();
        disk.crash(Survival::Nothing);
        assert!(disk.paths().is_empty());
    }

    #[test]
    fn tears_the_last_write() {
        let disk = MemoryDisk::new();
        let file = disk.create("d/1", 8).unwrap();
        disk.sync_dir("d").unwrap();
        disk.write_at(file, 0, &[b"abcd"]).unwrap();
        disk.write_at(file, 4, &[b"efgh"]).unwrap();
        disk.crash(Survival::TornLastWrite(1));
        assert_eq!(read_all(&disk, "d/1"), b"abcde\0\0\0");
    }

    #[test]
    fn removed_and_renamed_names_return_unless_synced() {
        let disk = MemoryDisk::new();
        for path in ["d/1", "d/2"] {
            let file = disk.create(path, 0).unwrap();
            disk.write_at(file, 0, &[path.as_bytes()]).unwrap();
            disk.sync(file).unwrap();
        }
        disk.sync_dir("d").unwrap();
        disk.remove("d/1").unwrap();
        disk.rename("d/2", "d/3").unwrap();
        assert_eq!(disk.list("d").unwrap(), ["3"]);
        disk.crash(Survival::Nothing);
        assert_eq!(disk.paths(), ["d/1", "d/2"]);
        disk.remove("d/1").unwrap();
        disk.rename("d/2", "d/3").unwrap();
        disk.sync_dir("d").unwrap();
        disk.crash(Survival::Nothing);
        assert_eq!(disk.paths(), ["d/3"]);
        assert_eq!(read_all(&disk, "d/3"), b"d/2");
    }

    #[test]
    fn after_a_failed_sync_the_cache_has_what_the_medium_never_gets() {
        let disk = MemoryDisk::new();
        let file = disk.create("1", 8).unwrap();
        disk.sync_dir("").unwrap();
        disk.sync(file).unwrap();
        disk.write_at(file, 0, &[b"ab"]).unwrap();
        disk.fail_sync(0);
        assert!(disk.sync(file).is_err());
        disk.kill();
        let file = disk.open("1").unwrap();
        assert_eq!(read_all(&disk, "1")[..2], *b"ab");
        disk.write_at(file, 1, &[b"b"]).unwrap();
        disk.sync(file).unwrap();
        disk.crash(Survival::Nothing);
        assert_eq!(read_all(&disk, "1")[..3], *b"\0b\0");
    }

    #[test]
    fn faults_fire_where_asked() {
        let disk = MemoryDisk::new();
        disk.limit(Some(10));
        let file = disk.create("1", 8).unwrap();
        assert_eq!(disk.create("2", 8).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(
            disk.write_at(file, 8, &[b"abc"]).unwrap_err().kind(),
            io::ErrorKind::StorageFull
        );
        disk.fail_sync(1);
        disk.sync(file).unwrap();
        assert!(disk.sync(file).is_err());
        disk.sync(file).unwrap();
        disk.fail_write(0);
        assert!(disk.write_at(file, 0, &[b"a"]).is_err());
        disk.stop_after(1);
        disk.write_at(file, 0, &[b"a"]).unwrap();
        assert!(disk.sync(file).is_err());
        assert!(disk.sync_dir("").is_err());
    }
}
