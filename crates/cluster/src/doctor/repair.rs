//! Makes damaged data into data that a node starts with. Offsets that are lost become holes that every
//! reader skips; the caller has saved the damaged files before.

use super::{shard_directory, Finding, Report};
use crate::entry::{operations, EntryWriter, Operation};
use crate::shard::doctor::{is_entry, ENTRY_KIND};
use bytes::Bytes;
use koine_base::disk::Disk;
use koine_base::{GroupId, StreamId};
use koine_broker::batch::BatchHeader;
use koine_log::{
    hole, rebuild_wal_header, replace_frame, DamagedFrame, Fault, OpenError, PlaceHolder,
    FRAME_HEADER_BYTES,
};

/// What was done about a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// What can still be read is kept, and lost offsets are holes now.
    Replaced,
    /// Nothing was lost, and nothing is amiss any more.
    Restored,
    /// The next start does it, or it does no harm.
    NotNeeded,
    /// The broker starts; reads of the lost offsets fail, those around them do not.
    ReadsFail,
    /// Nothing can be done with what is there.
    Hopeless,
}

/// Repairs what `report` found, a remedy for each finding in the same order.
pub fn repair(disk: &dyn Disk, report: &Report) -> Result<Vec<Remedy>, OpenError> {
    let mut remedies = Vec::new();
    for finding in &report.findings {
        remedies.push(remedy(disk, finding)?);
    }
    Ok(remedies)
}

fn remedy(disk: &dyn Disk, finding: &Finding) -> Result<Remedy, OpenError> {
    let directory = shard_directory(finding.shard);
    let found = koine_log::Finding {
        file: finding.file.clone(),
        position: finding.position,
        fault: finding.fault.clone(),
        lost: Vec::new(),
    };
    Ok(match &finding.fault {
        Fault::Bit { .. } | Fault::SegmentStructure => Remedy::NotNeeded,
        Fault::Checkpoint { stands_in: true } => {
            let failed =
                |error| OpenError::Io { action: "remove", path: finding.file.clone(), error };
            disk.remove(&finding.file).map_err(failed)?;
            disk.sync_dir(&format!("{directory}/checkpoints")).map_err(failed)?;
            Remedy::Restored
        }
        Fault::Frame { .. } => {
            let replaced =
                replace_frame(disk, &directory, &found, |frame| place_holders(finding, frame))?;
            if replaced {
                Remedy::Replaced
            } else {
                Remedy::Hopeless
            }
        }
        Fault::WalHeader => match rebuild_wal_header(disk, &directory, &found)? {
            true => Remedy::Restored,
            false => Remedy::Hopeless,
        },
        Fault::Batches | Fault::Index => Remedy::ReadsFail,
        Fault::WalFileMissing { .. }
        | Fault::Checkpoint { stands_in: false }
        | Fault::CheckpointMissing
        | Fault::SegmentMissing
        | Fault::Unreadable(_)
        | Fault::Version(_) => Remedy::Hopeless,
    })
}

/// Entries with what is sound in the damaged one, holes for the offsets that are lost, and marks, which
/// mean nothing, up to its length.
fn place_holders(finding: &Finding, frame: DamagedFrame) -> Option<Vec<PlaceHolder>> {
    let room = frame.payload.len();
    let holder =
        |group, term, index, payload| PlaceHolder { group, kind: ENTRY_KIND, term, index, payload };
    match frame.header {
        // Zeros are a list of no commands.
        Some((GroupId::METADATA, _, term, index)) => {
            let (term, index) = if index > 0 { (term, index) } else { (0, 0) };
            Some(vec![holder(GroupId::METADATA, term, index, vec![0; room])])
        }
        Some((group, kind, term, index)) => {
            let sound = if is_entry(kind) { &frame.payload[..] } else { &[] };
            let mut payload = salvaged(finding, sound, term)?;
            fill(&mut payload, room);
            // A vote has no index: then an entry's batches are placed, and nothing else of it counts.
            Some(vec![holder(group, if index > 0 { term } else { 0 }, index, payload)])
        }
        None => {
            let mut holders: Vec<PlaceHolder> = Vec::new();
            for (group, index, term) in &finding.entries_lost {
                holders.push(holder(*group, *term, *index, Vec::new()));
            }
            let batches = salvaged(finding, &[], 0)?;
            let of_data = holders.iter().position(|holder| holder.group != GroupId::METADATA);
            let carrier = match of_data {
                Some(index) => index,
                None => {
                    let first = finding.affected.first();
                    let group = first.map_or(GroupId::METADATA, |lost| lost.stream.group());
                    holders.push(holder(group, 0, 0, Vec::new()));
                    holders.len() - 1
                }
            };
            // One header is not part of the room.
            let rest = room.checked_sub((holders.len() - 1) * FRAME_HEADER_BYTES)?;
            let carrier = &mut holders[carrier];
            carrier.payload = batches;
            fill(&mut carrier.payload, rest);
            Some(holders)
        }
    }
}

fn fill(payload: &mut Vec<u8>, room: usize) {
    let mut marks = EntryWriter::default();
    for _ in payload.len()..room {
        marks.mark();
    }
    payload.extend_from_slice(&marks.take());
}

fn salvaged(finding: &Finding, payload: &[u8], term: u64) -> Option<Vec<u8>> {
    let epoch = u32::try_from(term).unwrap_or(u32::MAX);
    let mut batches: Vec<(StreamId, u64, Bytes)> = Vec::new();
    for lost in &finding.affected {
        let batch = hole(lost.start, lost.end, epoch)?;
        batches.push((lost.stream, lost.start, Bytes::copy_from_slice(&batch)));
    }
    let mut entry = EntryWriter::default();
    for operation in operations(Bytes::copy_from_slice(payload)) {
        match operation {
            Ok(Operation::Append { stream, base_offset, batch, .. }) => {
                let header = BatchHeader::new(&batch).ok();
                let sound = header.is_some_and(|header| {
                    header.crc_is_good() && header.base_offset() == base_offset
                });
                if sound {
                    batches.push((stream, base_offset, batch));
                }
            }
            // The checksum failed somewhere: what decodes may still be wrong. A settlement that is
            // forgotten costs a second delivery, a wrong one a record.
            Ok(_) => {}
            Err(_) => break,
        }
    }
    batches.sort_by_key(|(stream, base, _)| (*stream, *base));
    for (stream, base, batch) in batches {
        entry.append(stream, base, &batch);
    }
    Some(entry.take())
}
