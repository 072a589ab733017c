//! What the log wants done on a disk, as data, and the one function that does it. A plan is complete in
//! itself: it can be sent to another thread and needs nothing of the log's state.

use crate::checkpoint::{CheckpointDone, CheckpointPlan};
use crate::format::{BodyCheck, FrameHeader, WalHeader, WalMark, WalPosition, FRAME_ALIGN};
use crate::read::{ReadDone, ReadPlan};
use crate::segment::Removal;
use bytes::Bytes;
use koine_base::disk::{Disk, FileId};
use std::fmt;
use std::io;

/// Which requests may wait for which. Within a class order is free, too: the log hands out the next
/// one only when it may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IoClass {
    /// Everybody waits for it: must never queue behind the other classes.
    Wal,
    Read,
    /// Long and not urgent: checkpoints, creating and deleting files.
    Background,
}

/// One job for a disk thread; see [`execute`].
#[derive(Debug)]
pub struct IoRequest(pub(crate) Plan);

/// What came of it, for [`crate::Log::complete`].
#[derive(Debug)]
pub struct IoResult(pub(crate) Outcome);

pub(crate) enum Plan {
    WalWrite(WalWrite),
    WalCreate(WalCreate),
    Read(ReadPlan),
    Checkpoint(Box<CheckpointPlan>),
    Remove(Vec<Removal>),
    Close(FileId),
}

#[derive(Debug)]
pub(crate) enum Outcome {
    WalWritten(WalWritten),
    WalCreated(WalCreated),
    Read(ReadDone),
    Checkpoint(CheckpointDone),
    Done,
}

pub(crate) struct WriteFrame {
    pub position: WalPosition,
    /// All but the check of the body, which is left to the disk thread.
    pub header: FrameHeader,
    pub payload: Vec<Bytes>,
}

/// One write to the WAL, in this order.
pub(crate) struct WalWrite {
    /// The file before, if the log moves on to the next.
    pub sync_first: Option<FileId>,
    pub file: FileId,
    /// The file's header, if this is its first write; synced before any frame is written.
    pub header: Option<WalHeader>,
    pub mark: Option<(usize, WalMark)>,
    /// Adjacent.
    pub frames: Vec<WriteFrame>,
    pub sync: bool,
}

pub(crate) type WalWritten = io::Result<()>;

pub(crate) struct WalCreate {
    pub number: u64,
    pub path: String,
    pub capacity: u32,
    pub free_bytes_min: u64,
}

#[derive(Debug)]
pub(crate) struct WalCreated {
    pub number: u64,
    pub capacity: u32,
    pub outcome: io::Result<FileId>,
}

impl IoRequest {
    /// The same read, for nobody in particular.
    pub(crate) fn in_background(mut self) -> Self {
        if let Plan::Read(plan) = &mut self.0 {
            plan.in_background = true;
        }
        self
    }

    pub fn class(&self) -> IoClass {
        match self.0 {
            Plan::WalWrite(_) => IoClass::Wal,
            Plan::Read(ref plan) if plan.in_background => IoClass::Background,
            Plan::Read(_) => IoClass::Read,
            Plan::WalCreate(_) | Plan::Checkpoint(_) | Plan::Remove(_) | Plan::Close(_) => {
                IoClass::Background
            }
        }
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Plan::WalWrite(plan) => {
                write!(f, "WalWrite({} frames, sync {})", plan.frames.len(), plan.sync)
            }
            Plan::WalCreate(plan) => write!(f, "WalCreate({})", plan.path),
            Plan::Read(plan) => write!(f, "{plan:?}"),
            Plan::Checkpoint(plan) => write!(f, "Checkpoint({})", plan.number),
            Plan::Remove(removals) => write!(f, "{removals:?}"),
            Plan::Close(file) => write!(f, "Close({file:?})"),
        }
    }
}

/// Does what `request` says; blocks until it is done. The result goes to [`crate::Log::complete`] of
/// the log that made the request, whatever it is.
pub fn execute(disk: &dyn Disk, request: IoRequest) -> IoResult {
    IoResult(match request.0 {
        Plan::WalWrite(plan) => Outcome::WalWritten(write_wal(disk, &plan)),
        Plan::WalCreate(plan) => {
            let outcome = create_wal(disk, &plan);
            Outcome::WalCreated(WalCreated {
                number: plan.number,
                capacity: plan.capacity,
                outcome,
            })
        }
        Plan::Read(plan) => Outcome::Read(plan.execute(disk)),
        Plan::Checkpoint(plan) => Outcome::Checkpoint(plan.execute(disk)),
        Plan::Remove(removals) => {
            for removal in removals {
                if let Some(file) = removal.file {
                    disk.close(file);
                }
                // What stays behind is found and deleted when the log is opened again.
                let _ = disk.remove(&removal.path);
            }
            Outcome::Done
        }
        Plan::Close(file) => {
            disk.close(file);
            Outcome::Done
        }
    })
}

fn write_wal(disk: &dyn Disk, plan: &WalWrite) -> io::Result<()> {
    if let Some(before) = plan.sync_first {
        disk.sync(before)?;
    }
    if let Some(header) = &plan.header {
        disk.write_at(plan.file, 0, &[&header.encode()])?;
        disk.sync(plan.file)?;
    }
    if let Some((place, mark)) = &plan.mark {
        disk.write_at(
            plan.file,
            u64::from(crate::format::WAL_MARKS_AT[*place]),
            &[&mark.encode()],
        )?;
    }
    if let Some(first) = plan.frames.first() {
        let headers: Vec<_> = plan.frames.iter().map(encode_header).collect();
        let mut pieces: Vec<&[u8]> = Vec::with_capacity(plan.frames.len() * 3);
        for (frame, header) in plan.frames.iter().zip(&headers) {
            pieces.push(header);
            pieces.extend(
                frame.payload.iter().map(|piece| &piece[..]).filter(|piece| !piece.is_empty()),
            );
            match frame.header.padding() {
                0 => {}
                padding => pieces.push(&[0; FRAME_ALIGN as usize][..padding as usize]),
            }
        }
        disk.write_at(plan.file, u64::from(first.position.offset()), &pieces)?;
    }
    if plan.sync {
        disk.sync(plan.file)?;
    }
    Ok(())
}

fn encode_header(frame: &WriteFrame) -> [u8; crate::format::FRAME_HEADER_BYTES] {
    let pieces = frame.payload.iter().map(|piece| &piece[..]);
    let body = BodyCheck::of(pieces, frame.header.padding());
    FrameHeader { body, ..frame.header }.encode(frame.position)
}

fn create_wal(disk: &dyn Disk, plan: &WalCreate) -> io::Result<FileId> {
    let size = u64::from(plan.capacity);
    if disk.free_bytes()? < size.saturating_add(plan.free_bytes_min) {
        return Err(io::ErrorKind::StorageFull.into());
    }
    let filled = disk.create(&plan.path, size).and_then(|file| match disk.fill(file, size) {
        Ok(()) => Ok(file),
        Err(error) => {
            disk.close(file);
            Err(error)
        }
    });
    let file = match filled {
        Ok(file) => file,
        Err(error) => {
            // It may be there in part.
            let _ = disk.remove(&plan.path);
            return Err(error);
        }
    };
    let directory = plan.path.rsplit_once('/').map_or("", |(directory, _)| directory);
    disk.sync_dir(directory)?;
    Ok(file)
}
