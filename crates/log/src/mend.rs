//! Offline repair: makes a damaged log one that opens again. What is lost stays lost, but explicitly: the
//! caller says what a damaged frame is to hold instead. Nobody may have the log open.

use crate::error::OpenError;
use crate::format::{
    BodyCheck, FrameHeader, WalHeader, WalPosition, FRAME_ALIGN, FRAME_HEADER_BYTES, WAL_FRAMES_AT,
};
use crate::inspect::{first_frame_sequence, Fault, Finding};
use crate::open::Opener;
use crate::scan::{Scanner, Step};
use koine_base::checksum::crc32c;
use koine_base::disk::Disk;
use koine_base::GroupId;

/// What can be known of a damaged frame, for whoever makes up its place holder.
pub struct DamagedFrame {
    /// Group, kind, term and index, if its header is intact.
    pub header: Option<(GroupId, u8, u64, u64)>,
    /// As it is on disk; without a header all zero.
    pub payload: Vec<u8>,
}

/// What takes its place, alone or with others: together, headers included, exactly as long.
pub struct PlaceHolder {
    pub group: GroupId,
    pub kind: u8,
    pub term: u64,
    pub index: u64,
    pub payload: Vec<u8>,
}

/// Puts place holders where [`Fault::Frame`] was found in a WAL file. False, and nothing changed, if
/// `replace` gives none that fit, or the place is not what the finding says.
pub fn replace_frame(
    disk: &dyn Disk,
    directory: &str,
    finding: &Finding,
    replace: impl FnOnce(DamagedFrame) -> Option<Vec<PlaceHolder>>,
) -> Result<bool, OpenError> {
    let (Fault::Frame { sequence, .. }, Ok(at)) = (&finding.fault, u32::try_from(finding.position))
    else {
        return Ok(false);
    };
    let path = &finding.file;
    let failed = |error| OpenError::Io { action: "repair", path: path.clone(), error };
    let limit = closed_at(disk, directory, *sequence)?;
    let file = disk.open(path).map_err(failed)?;
    let size = u32::try_from(disk.size(file).map_err(failed)?).unwrap_or(u32::MAX);
    let mut scanner = Scanner::new(disk, file, *sequence, limit.unwrap_or(size));
    scanner.position = at;
    let Step::Bad { next, .. } = scanner.next().map_err(failed)? else {
        disk.close(file);
        return Ok(false);
    };
    let (header, payload) = scanner.damaged(at, next).map_err(failed)?;
    // Without a header the place reaches to the next frame, or to the end of a closed file.
    let room = match next {
        Some(_) => payload.len(),
        None => {
            let found = scanner.skip_to_next(at, None).map_err(failed)?;
            let end = if found { Some(scanner.position) } else { limit };
            let room = end.map(|end| end.saturating_sub(at) as usize);
            match room.and_then(|room| room.checked_sub(FRAME_HEADER_BYTES)) {
                Some(room) => room,
                None => {
                    disk.close(file);
                    return Ok(false);
                }
            }
        }
    };
    let damaged = DamagedFrame {
        header: header.map(|h| (GroupId(h.group), h.kind, h.term, h.index)),
        payload: if header.is_some() { payload } else { vec![0; room] },
    };
    let total =
        |payload: usize| FRAME_HEADER_BYTES + payload.next_multiple_of(FRAME_ALIGN as usize);
    let fits = |holders: &Vec<PlaceHolder>| {
        holders.iter().map(|holder| total(holder.payload.len())).sum::<usize>() == total(room)
    };
    let holders = replace(damaged).filter(fits);
    let durable = header.map_or(WalPosition::default(), |header| header.durable);
    let mut position = WalPosition::new(*sequence, at);
    let mut outcome = Ok(());
    for holder in holders.iter().flatten() {
        outcome = outcome.and_then(|()| write_frame(disk, file, position, durable, holder));
        position = position.plus(total(holder.payload.len()) as u32);
    }
    let outcome = outcome.and_then(|()| disk.sync(file));
    disk.close(file);
    outcome.map_err(failed)?;
    Ok(holders.is_some())
}

fn write_frame(
    disk: &dyn Disk,
    file: koine_base::disk::FileId,
    position: WalPosition,
    durable: WalPosition,
    holder: &PlaceHolder,
) -> std::io::Result<()> {
    let mut header = FrameHeader {
        length: holder.payload.len() as u32,
        kind: holder.kind,
        flags: 0,
        group: holder.group.0,
        term: holder.term,
        index: holder.index,
        durable,
        body: BodyCheck::default(),
    };
    header.body = BodyCheck::of(std::iter::once(&holder.payload[..]), header.padding());
    let padding = &[0; FRAME_ALIGN as usize][..header.padding() as usize];
    let at = u64::from(position.offset());
    disk.write_at(file, at, &[&header.encode(position), &holder.payload, padding])
}

/// Where the WAL file of this sequence number ends, as the header of the next one says.
fn closed_at(disk: &dyn Disk, directory: &str, sequence: u32) -> Result<Option<u32>, OpenError> {
    let (found, blanks) = Opener::new(disk, directory).read_slots()?;
    let slots = found.iter().map(|found| found.slot).chain(blanks.iter().map(|blank| blank.slot));
    slots.for_each(|slot| disk.close(slot.file));
    let next = sequence.checked_add(1);
    let next = found.iter().find(|found| Some(found.header.sequence) == next);
    let end = next.map(|next| next.header.previous_end);
    Ok(end.filter(|end| end.sequence() == sequence).map(WalPosition::offset))
}

/// Writes the header of a WAL file anew whose frames tell which it is. False if they do not.
pub fn rebuild_wal_header(
    disk: &dyn Disk,
    directory: &str,
    finding: &Finding,
) -> Result<bool, OpenError> {
    let path = &finding.file;
    let failed = |error| OpenError::Io { action: "repair", path: path.clone(), error };
    let file = disk.open(path).map_err(failed)?;
    let sequence = first_frame_sequence(disk, file).map_err(failed)?;
    let capacity = u32::try_from(disk.size(file).map_err(failed)?).unwrap_or(u32::MAX);
    let Some(sequence) = sequence else {
        disk.close(file);
        return Ok(false);
    };
    let before = sequence.saturating_sub(1);
    let end = end_of(disk, directory, before)?.unwrap_or(WAL_FRAMES_AT);
    let previous_end = WalPosition::new(before, end);
    let header = WalHeader { sequence, capacity, previous_end };
    let written = disk.write_at(file, 0, &[&header.encode()]).and_then(|()| disk.sync(file));
    disk.close(file);
    written.map_err(failed)?;
    Ok(true)
}

/// Where the frames of the WAL file with this sequence number end, if it is there.
fn end_of(disk: &dyn Disk, directory: &str, sequence: u32) -> Result<Option<u32>, OpenError> {
    let (found, blanks) = Opener::new(disk, directory).read_slots()?;
    let mut end = None;
    for found in &found {
        if found.header.sequence == sequence {
            let capacity = found.header.capacity.min(found.slot.capacity);
            let mut scanner = Scanner::new(disk, found.slot.file, sequence, capacity);
            while let Ok(Step::Frame { .. }) = scanner.next() {}
            end = Some(scanner.position);
        }
        disk.close(found.slot.file);
    }
    blanks.iter().for_each(|blank| disk.close(blank.slot.file));
    Ok(end)
}

/// A batch without records that stands for offsets that are lost: what a compacted log has in such
/// places, which every reader skips. `None` if there are too many for one batch.
pub fn hole(start: u64, end: u64, leader_epoch: u32) -> Option<[u8; HOLE_BYTES]> {
    let last_delta = u32::try_from(end.checked_sub(start)?.checked_sub(1)?).ok()?;
    if last_delta > i32::MAX as u32 || start > i64::MAX as u64 {
        return None;
    }
    let mut batch = [0; HOLE_BYTES];
    batch[0..8].copy_from_slice(&start.to_be_bytes());
    batch[8..12].copy_from_slice(&(HOLE_BYTES as u32 - 12).to_be_bytes());
    batch[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
    batch[16] = 2;
    batch[23..27].copy_from_slice(&last_delta.to_be_bytes());
    // No timestamps, no producer.
    batch[27..57].fill(0xFF);
    let crc = crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    Some(batch)
}

/// Size of a batch without records.
pub const HOLE_BYTES: usize = 61;
