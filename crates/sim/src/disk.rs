//! The node's disk: a [`MemoryDisk`] that can also go wrong without saying so. Bits flip, writes are lost
//! or land somewhere else, reads fail.
//!
//! What a node owes after that is detection: it may refuse, it must not serve a wrong byte or silently
//! miss one. Only the very end of a write-ahead log is beyond detection, since damage there looks like a
//! torn write; [`FaultyDisk::is_excusable`] says when that is so. It must never excuse anything else.

use koine_base::disk::{Disk, FileId, MemoryDisk};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::ops::Deref;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Writes of one directory that are remembered.
const RECENT_MAX: usize = 64;

/// A write-ahead log's directory ends like this.
const WAL_DIRECTORY: &str = "/wal";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfire {
    /// It is acknowledged and never reaches the disk.
    Lost,
    /// It lands on the sector with this number, wrapped to the size of the file that is chosen so.
    Misdirected { file: u64, sector: u64 },
}

/// A write that went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fired {
    pub misfire: Misfire,
    pub path: String,
    pub position: u64,
    pub bytes: u64,
}

/// Bytes that are no longer what was written.
#[derive(Clone, Debug)]
struct Damage {
    directory: String,
    /// When those bytes were synced, in syncs of the directory; 0 if that is long ago.
    synced_at: u64,
    /// Of a flip: where, and what stands there now.
    flip: Option<(String, u64, u8)>,
}

struct Recent {
    file: FileId,
    path: String,
    position: u64,
    end: u64,
    /// 0 as long as it is not synced.
    synced_at: u64,
}

#[derive(Default)]
struct Directory {
    /// Syncs that made something durable.
    syncs: u64,
    recent: VecDeque<Recent>,
}

#[derive(Default)]
struct State {
    paths: HashMap<FileId, String>,
    directories: BTreeMap<String, Directory>,
    fail_read: Option<u64>,
    reads_failed: u64,
    misfire: Option<(u64, Misfire)>,
    fired: Vec<Fired>,
    damages: Vec<Damage>,
}

/// See the module text.
#[derive(Default)]
pub struct FaultyDisk {
    inner: MemoryDisk,
    /// Guards what may go wrong and what did; calls come from one thread, but [`Disk`] is shared.
    state: Mutex<State>,
}

impl Deref for FaultyDisk {
    type Target = MemoryDisk;

    fn deref(&self) -> &MemoryDisk {
        &self.inner
    }
}

fn directory_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}

impl State {
    fn directory(&mut self, path: &str) -> &mut Directory {
        self.directories.entry(directory_of(path).to_owned()).or_default()
    }

    /// Bytes of a file are no longer what was written; `position` is one of them.
    fn damaged(&mut self, path: &str, position: u64) {
        let directory = self.directory(path);
        let at = |recent: &&Recent| {
            recent.path == path && (recent.position..recent.end).contains(&position)
        };
        let synced_at = match directory.recent.iter().rev().find(at) {
            Some(recent) if recent.synced_at > 0 => recent.synced_at,
            Some(_) => directory.syncs + 1,
            None => 0,
        };
        let directory = directory_of(path).to_owned();
        self.damages.push(Damage { directory, synced_at, flip: None });
    }

    /// Notes a write; says what becomes of it.
    fn written(&mut self, file: FileId, position: u64, bytes: u64) -> Option<Misfire> {
        let path = self.paths.get(&file).cloned().unwrap_or_default();
        let directory = self.directory(&path);
        if directory.recent.len() == RECENT_MAX {
            directory.recent.pop_front();
        }
        let end = position + bytes;
        directory.recent.push_back(Recent {
            file,
            path: path.clone(),
            position,
            end,
            synced_at: 0,
        });
        let (skip, misfire) = self.misfire.as_mut()?;
        if *skip > 0 {
            *skip -= 1;
            return None;
        }
        let misfire = *misfire;
        self.misfire = None;
        self.damaged(&path, position);
        self.fired.push(Fired { misfire, path, position, bytes });
        Some(misfire)
    }

    fn synced(&mut self, file: FileId) {
        let Some(path) = self.paths.get(&file).cloned() else { return };
        let directory = self.directory(&path);
        let now = directory.syncs + 1;
        for recent in directory.recent.iter_mut().filter(|recent| recent.file == file) {
            if recent.synced_at == 0 {
                recent.synced_at = now;
                directory.syncs = now;
            }
        }
    }
}

impl FaultyDisk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails one read, after letting `skip` of them through.
    pub fn fail_read(&self, skip: Option<u64>) {
        self.lock().fail_read = skip;
    }

    /// Reads that failed so far.
    pub fn reads_failed(&self) -> u64 {
        self.lock().reads_failed
    }

    /// One write goes wrong, after letting `skip` of them through.
    pub fn misfire(&self, after: Option<(u64, Misfire)>) {
        self.lock().misfire = after;
    }

    /// What went wrong with writes since the last call.
    pub fn take_fired(&self) -> Vec<Fired> {
        std::mem::take(&mut self.lock().fired)
    }

    /// Inverts bits of a stored byte.
    pub fn decay(&self, path: &str, position: u64, mask: u8) {
        if self.inner.flip(path, position, mask).is_ok() {
            let value = self.byte(path, position).unwrap_or(0);
            let state = &mut *self.lock();
            state.damaged(path, position);
            if let Some(damage) = state.damages.last_mut() {
                damage.flip = Some((path.to_owned(), position, value));
            }
        }
    }

    /// Takes back what [`Self::decay`] did, unless the node has put it right or written over it.
    pub fn restore(&self, path: &str, position: u64, mask: u8) {
        let now = self.byte(path, position);
        let is_it = |damage: &Damage| {
            let flip = damage.flip.as_ref();
            flip.is_some_and(|(of, at, _)| of == path && *at == position)
        };
        let found = {
            let state = &mut *self.lock();
            let at = state.damages.iter().rposition(is_it);
            at.map(|at| state.damages.remove(at))
        };
        let flipped = found.and_then(|damage| damage.flip).map(|(_, _, value)| value);
        if now.is_some() && now == flipped {
            // It was there a moment ago.
            let _ = self.inner.flip(path, position, mask);
        }
    }

    /// Flips that are gone, because the node has put them right or written over them; how many.
    pub fn forget_mended(&self) -> usize {
        let damages = std::mem::take(&mut self.lock().damages);
        let before = damages.len();
        let is_there = |damage: &Damage| match &damage.flip {
            Some((path, position, value)) => self.byte(path, *position) == Some(*value),
            None => true,
        };
        let left: Vec<Damage> = damages.into_iter().filter(is_there).collect();
        let mended = before - left.len();
        self.lock().damages = left;
        mended
    }

    fn byte(&self, path: &str, position: u64) -> Option<u8> {
        self.inner.contents(path).ok()?.get(usize::try_from(position).ok()?).copied()
    }

    pub fn is_damaged(&self) -> bool {
        !self.lock().damages.is_empty()
    }

    /// True if some of the damage was done to what a log had written last: no later frame says that it
    /// had been durable.
    pub fn is_excusable(&self) -> bool {
        let state = &*self.lock();
        state.damages.iter().any(|damage| {
            let syncs = state.directories.get(&damage.directory).map_or(0, |d| d.syncs);
            damage.directory.ends_with(WAL_DIRECTORY) && damage.synced_at >= syncs
        })
    }

    fn note_open(&self, path: &str, file: FileId) {
        self.lock().paths.insert(file, path.to_owned());
    }

    /// Writes to the wrong place, without making any file larger.
    fn write_elsewhere(&self, file: u64, sector: u64, bytes: &[u8]) -> io::Result<()> {
        const SECTOR_BYTES: u64 = 512;
        let paths = self.inner.paths();
        let Some(path) = paths.get((file % paths.len().max(1) as u64) as usize) else {
            return Ok(());
        };
        let there = self.inner.open(path)?;
        let size = self.inner.size(there)?;
        let position = (sector % (size / SECTOR_BYTES).max(1)) * SECTOR_BYTES;
        let room = usize::try_from(size.saturating_sub(position)).unwrap_or(usize::MAX);
        let bytes = &bytes[..bytes.len().min(room)];
        if !bytes.is_empty() {
            self.inner.write_at(there, position, &[bytes])?;
            self.inner.sync(there)?;
            for at in (position..position + bytes.len() as u64).step_by(SECTOR_BYTES as usize) {
                self.lock().damaged(path, at);
            }
        }
        self.inner.close(there);
        Ok(())
    }
}

impl Disk for FaultyDisk {
    fn make_dir(&self, path: &str) -> io::Result<()> {
        self.inner.make_dir(path)
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        self.inner.list(directory)
    }

    fn open(&self, path: &str) -> io::Result<FileId> {
        let file = self.inner.open(path)?;
        self.note_open(path, file);
        Ok(file)
    }

    fn create(&self, path: &str, size: u64) -> io::Result<FileId> {
        let file = self.inner.create(path, size)?;
        self.note_open(path, file);
        Ok(file)
    }

    fn fill(&self, file: FileId, size: u64) -> io::Result<()> {
        self.inner.fill(file, size)?;
        self.lock().synced(file);
        Ok(())
    }

    fn size(&self, file: FileId) -> io::Result<u64> {
        self.inner.size(file)
    }

    fn read_at(&self, file: FileId, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        {
            let state = &mut *self.lock();
            match &mut state.fail_read {
                Some(0) => {
                    state.fail_read = None;
                    state.reads_failed += 1;
                    return Err(io::Error::other("injected read failure"));
                }
                Some(skip) => *skip -= 1,
                None => {}
            }
        }
        self.inner.read_at(file, position, buffer)
    }

    fn write_at(&self, file: FileId, position: u64, pieces: &[&[u8]]) -> io::Result<()> {
        let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
        let misfire = self.lock().written(file, position, bytes as u64);
        match misfire {
            None => self.inner.write_at(file, position, pieces),
            // The file is as large as it would be.
            Some(misfire) => {
                let end = position + bytes as u64;
                if self.inner.size(file)? < end {
                    self.inner.write_at(file, end - 1, &[&[0]])?;
                }
                match misfire {
                    Misfire::Lost => Ok(()),
                    Misfire::Misdirected { file, sector } => {
                        self.write_elsewhere(file, sector, &pieces.concat())
                    }
                }
            }
        }
    }

    fn sync(&self, file: FileId) -> io::Result<()> {
        self.inner.sync(file)?;
        self.lock().synced(file);
        Ok(())
    }

    fn sync_dir(&self, directory: &str) -> io::Result<()> {
        self.inner.sync_dir(directory)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.inner.remove(path)
    }

    fn close(&self, file: FileId) {
        self.lock().paths.remove(&file);
        self.inner.close(file);
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Disk::free_bytes(&self.inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use koine_base::disk::Survival;

    fn write(disk: &FaultyDisk, file: FileId, position: u64, bytes: &[u8]) {
        disk.write_at(file, position, &[bytes]).expect("no error is injected");
        disk.sync(file).expect("no error is injected");
    }

    #[test]
    fn a_lost_write_is_acknowledged_and_leaves_what_was_there() {
        let disk = FaultyDisk::default();
        let file = disk.create("0/wal/1", 1024).expect("room");
        disk.misfire(Some((1, Misfire::Lost)));
        for (position, bytes) in [(0, b"aa"), (2, b"bb"), (4, b"cc")] {
            write(&disk, file, position, bytes);
        }
        disk.sync_dir("0/wal").expect("no error is injected");
        disk.crash(Survival::Nothing);
        assert_eq!(&disk.contents("0/wal/1").expect("synced")[..6], b"aa\0\0cc");
        let (path, position) = ("0/wal/1".to_owned(), 2);
        let fired = Fired { misfire: Misfire::Lost, path, position, bytes: 2 };
        assert_eq!(disk.take_fired(), [fired]);
    }

    #[test]
    fn a_misdirected_write_lands_in_another_place_only() {
        let disk = FaultyDisk::default();
        let one = disk.create("0/segments/1", 1024).expect("room");
        let other = disk.create("0/segments/2", 1024).expect("room");
        write(&disk, other, 0, b"here");
        disk.misfire(Some((0, Misfire::Misdirected { file: 1, sector: 3 })));
        write(&disk, one, 0, b"lost");
        assert_eq!(&disk.contents("0/segments/1").expect("there")[..4], b"\0\0\0\0");
        let other = disk.contents("0/segments/2").expect("there");
        assert_eq!(
            (&other[..4], &other[512..516], other.len()),
            (&b"here"[..], &b"lost"[..], 1024)
        );
    }

    #[test]
    fn only_the_end_of_a_log_is_excused() {
        let disk = FaultyDisk::default();
        let wal = disk.create("0/wal/1", 4096).expect("room");
        let segment = disk.create("0/segments/1", 4096).expect("room");
        for at in 0..4 {
            write(&disk, wal, at * 8, b"8 bytes.");
            write(&disk, segment, at * 8, b"8 bytes.");
        }
        for (path, position, expect) in
            [("0/wal/1", 3 * 8, true), ("0/wal/1", 2 * 8, false), ("0/segments/1", 3 * 8, false)]
        {
            disk.decay(path, position, 1);
            assert_eq!(disk.is_excusable(), expect, "{path} at {position}");
            disk.restore(path, position, 1);
            assert!(!disk.is_damaged());
        }
    }

    #[test]
    fn what_the_node_put_right_is_not_flipped_again() {
        let disk = FaultyDisk::default();
        let file = disk.create("0/segments/1", 16).expect("room");
        write(&disk, file, 0, b"ab");
        disk.decay("0/segments/1", 0, 1);
        disk.decay("0/segments/1", 1, 1);
        write(&disk, file, 0, b"a");
        assert_eq!(disk.forget_mended(), 1);
        disk.restore("0/segments/1", 0, 1);
        disk.restore("0/segments/1", 1, 1);
        assert_eq!(&disk.contents("0/segments/1").expect("there")[..2], b"ab");
        assert!(!disk.is_damaged());
    }

    #[test]
    fn a_read_fails_once() {
        let disk = FaultyDisk::default();
        let file = disk.create("1", 4).expect("room");
        disk.fail_read(Some(1));
        let results = [(); 3].map(|()| disk.read_at(file, 0, &mut [0]).is_ok());
        assert_eq!(results, [true, false, true]);
        assert_eq!(disk.reads_failed(), 1);
    }
}
