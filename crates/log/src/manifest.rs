//! The checkpoint file: what each group had applied, which segments there are, and where the batches of
//! each stream lie in them. One file holds all streams; an idle one costs 28 bytes in it.

use crate::error::{CorruptReason, OpenError};
use crate::format::{
    BodyCheck, CheckpointHeader, Fields, HeaderError, RunRecord, CHECKPOINT_HEADER_BYTES,
};
use crate::log::GroupCheckpoint;
use crate::repair::{mend_body, mend_header, Repair};
use crate::segment::SegmentRecord;
use bytes::Bytes;
use koine_base::checksum::crc32c;
use koine_base::disk::Disk;
use koine_base::{GroupId, StreamId};
use std::io;

pub(crate) fn checkpoint_path(directory: &str, number: u64) -> String {
    format!("{directory}/checkpoints/{number}")
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamRecord {
    pub stream: StreamId,
    pub start: u64,
    pub end: u64,
    pub runs: Vec<RunRecord>,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Manifest {
    pub groups: Vec<GroupCheckpoint>,
    pub segments: Vec<SegmentRecord>,
    pub streams: Vec<StreamRecord>,
}

impl Manifest {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&(self.groups.len() as u32).to_le_bytes());
        for group in &self.groups {
            out.extend_from_slice(&u32::from(group.group.0).to_le_bytes());
            let blob_bytes: usize = group.parts().map(Bytes::len).sum();
            for field in [group.applied_index, group.applied_term, blob_bytes as u64] {
                out.extend_from_slice(&field.to_le_bytes());
            }
            for part in group.parts() {
                out.extend_from_slice(part);
            }
        }
        out.extend_from_slice(&(self.segments.len() as u32).to_le_bytes());
        for segment in &self.segments {
            out.extend_from_slice(&segment.segment.to_le_bytes());
            out.extend_from_slice(&u32::from(segment.pack).to_le_bytes());
            out.extend_from_slice(&segment.bytes.to_le_bytes());
        }
        out.extend_from_slice(&(self.streams.len() as u32).to_le_bytes());
        for stream in &self.streams {
            for field in [stream.stream.raw(), stream.start, stream.end] {
                out.extend_from_slice(&field.to_le_bytes());
            }
            out.extend_from_slice(&(stream.runs.len() as u32).to_le_bytes());
            for run in &stream.runs {
                run.encode(stream.stream, &mut out);
            }
        }
        out
    }

    /// `None` if the body is not what [`Self::encode`] makes.
    fn decode(body: &Bytes) -> Option<Manifest> {
        let mut fields = Fields(body);
        let mut groups = Vec::new();
        for _ in 0..fields.u32()? {
            let group = GroupId(u16::try_from(fields.u32()?).ok()?);
            let (applied_index, applied_term) = (fields.u64()?, fields.u64()?);
            let blob = fields.u64()?;
            let blob = body.slice_ref(fields.bytes(usize::try_from(blob).ok()?)?);
            let pages = Vec::new();
            groups.push(GroupCheckpoint { group, applied_index, applied_term, blob, pages });
        }
        let mut segments = Vec::new();
        for _ in 0..fields.u32()? {
            let (segment, pack, bytes) = (fields.u64()?, fields.u32()? != 0, fields.u64()?);
            segments.push(SegmentRecord { segment, pack, bytes });
        }
        let mut streams = Vec::new();
        for _ in 0..fields.u32()? {
            let stream = StreamId::from_raw(fields.u64()?);
            let (start, end) = (fields.u64()?, fields.u64()?);
            let mut runs = Vec::new();
            for _ in 0..fields.u32()? {
                let (owner, run) = RunRecord::decode(&mut fields)?;
                let known =
                    segments.binary_search_by_key(&run.segment, |segment| segment.segment).is_ok();
                if owner != stream || !known {
                    return None;
                }
                runs.push(run);
            }
            streams.push(StreamRecord { stream, start, end, runs });
        }
        fields.0.is_empty().then_some(Manifest { groups, segments, streams })
    }
}

/// Writes the file under a temporary name, syncs it, and gives it its name.
pub(crate) fn write(
    disk: &dyn Disk,
    directory: &str,
    header: CheckpointHeader,
    manifest: &Manifest,
) -> io::Result<()> {
    let body = manifest.encode();
    let check = BodyCheck::of(std::iter::once(&body[..]), 0);
    let header = CheckpointHeader { body_bytes: body.len() as u64, body: check, ..header };
    let path = checkpoint_path(directory, header.number);
    let temporary = format!("{path}.tmp");
    let file = disk.create(&temporary, (CHECKPOINT_HEADER_BYTES + body.len()) as u64)?;
    let written = disk.write_at(file, 0, &[&header.encode(), &body]).and_then(|()| disk.sync(file));
    disk.close(file);
    if let Err(error) = written {
        let _ = disk.remove(&temporary);
        return Err(error);
    }
    if let Err(error) = disk.rename(&temporary, &path) {
        let _ = disk.remove(&temporary);
        return Err(error);
    }
    // From here on the new state may be the one that survives: no error may read as "nothing changed".
    disk.sync_dir(&format!("{directory}/checkpoints")).map_err(io::Error::other)
}

/// A checkpoint as it was written.
#[derive(Debug)]
pub(crate) struct ReadManifest {
    pub header: CheckpointHeader,
    pub manifest: Manifest,
    /// A bit that is inverted in the file.
    pub repair: Option<Repair>,
}

/// `Ok(None)` if the file is damaged beyond one bit.
pub(crate) fn read(
    disk: &dyn Disk,
    directory: &str,
    number: u64,
) -> Result<Option<ReadManifest>, OpenError> {
    let path = checkpoint_path(directory, number);
    let io_error = |error| OpenError::Io { action: "read", path: path.clone(), error };
    let file = disk.open(&path).map_err(io_error)?;
    let bytes = read_whole(disk, file);
    disk.close(file);
    let mut bytes = bytes.map_err(io_error)?;
    if bytes.len() < CHECKPOINT_HEADER_BYTES {
        return Ok(None);
    }
    let mut body = bytes.split_off(CHECKPOINT_HEADER_BYTES);
    let whole = body.len() as u64;
    let fits = |header: &CheckpointHeader| header.number == number && header.body_bytes == whole;
    let mut flip = None;
    let header = match CheckpointHeader::decode(&bytes) {
        Ok(header) => header,
        Err(HeaderError::Invalid) => {
            let decode = |bytes: &[u8]| CheckpointHeader::decode(bytes).ok().filter(fits);
            let Some((header, mended)) = mend_header(&mut bytes, decode) else {
                return Ok(None);
            };
            flip = Some(mended);
            header
        }
        Err(HeaderError::Version(version)) => {
            return Err(OpenError::UnknownVersion { file: path, version });
        }
    };
    if !fits(&header) {
        return Ok(None);
    }
    if crc32c(&body) != header.body.crc {
        let mended = mend_body(&mut body, header.body).filter(|_| flip.is_none());
        let Some(mended) = mended else { return Ok(None) };
        flip = Some(mended.behind(CHECKPOINT_HEADER_BYTES as u64));
    }
    // The checksum matched: what does not decode now was written wrong, and must not be skipped.
    let manifest = Manifest::decode(&Bytes::from(body)).ok_or_else(|| OpenError::Corrupt {
        file: path.clone(),
        position: CHECKPOINT_HEADER_BYTES as u64,
        reason: CorruptReason::Checkpoint,
    })?;
    let repair = flip.map(|flip| flip.in_file(&path));
    Ok(Some(ReadManifest { header, manifest, repair }))
}

fn read_whole(disk: &dyn Disk, file: koine_base::disk::FileId) -> io::Result<Vec<u8>> {
    let size = usize::try_from(disk.size(file)?).map_err(io::Error::other)?;
    let mut buffer = vec![0; size];
    let count = disk.read_at(file, 0, &mut buffer)?;
    buffer.truncate(count);
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::WalPosition;
    use koine_base::disk::MemoryDisk;

    fn example() -> Manifest {
        let stream = StreamId::new(GroupId(1), 2);
        let run = RunRecord {
            segment: 7,
            base: 10,
            end: 20,
            position: 72,
            bytes: 500,
            max_timestamp_ms: -1,
            index_position: 600,
            index_count: 1,
            index_crc: 9,
        };
        let blob = Bytes::from_static(b"state");
        Manifest {
            groups: vec![GroupCheckpoint {
                group: GroupId(1),
                applied_index: 5,
                applied_term: 2,
                blob,
                pages: Vec::new(),
            }],
            segments: vec![SegmentRecord { segment: 7, pack: true, bytes: 1000 }],
            streams: vec![
                StreamRecord { stream, start: 12, end: 25, runs: vec![run] },
                StreamRecord {
                    stream: StreamId::new(GroupId(1), 3),
                    start: 0,
                    end: 0,
                    runs: vec![],
                },
            ],
        }
    }

    #[test]
    fn round_trips_and_any_damage_is_seen() {
        let disk = MemoryDisk::new();
        let header = CheckpointHeader {
            number: 4,
            replay_from: 3,
            durable: WalPosition::new(3, 5000),
            next_segment: 8,
            body_bytes: 0,
            body: BodyCheck::default(),
        };
        write(&disk, "0", header, &example()).unwrap();
        assert_eq!(disk.paths(), ["0/checkpoints/4"]);
        let found = read(&disk, "0", 4).unwrap().unwrap();
        assert_eq!((found.header.number, found.header.replay_from), (4, 3));
        assert_eq!((found.manifest, found.repair), (example(), None));
        let size = disk.contents("0/checkpoints/4").unwrap().len() as u64;
        for position in 0..size {
            for bit in 0..8 {
                let mask = 1 << bit;
                disk.flip("0/checkpoints/4", position, mask).unwrap();
                let found = read(&disk, "0", 4).unwrap().unwrap();
                let file = "0/checkpoints/4".to_owned();
                assert_eq!(found.repair, Some(Repair { file, position, mask }));
                assert_eq!(found.manifest, example());
                disk.flip("0/checkpoints/4", position, mask).unwrap();
            }
            let other = (position * 7 + 3) % size;
            disk.flip("0/checkpoints/4", position, 0x10).unwrap();
            disk.flip("0/checkpoints/4", other, 0x20).unwrap();
            assert!(read(&disk, "0", 4).unwrap().is_none(), "bytes {position} and {other}");
            disk.flip("0/checkpoints/4", position, 0x10).unwrap();
            disk.flip("0/checkpoints/4", other, 0x20).unwrap();
        }
        disk.rename("0/checkpoints/4", "0/checkpoints/5").unwrap();
        assert!(read(&disk, "0", 5).unwrap().is_none(), "not what its name says");
    }

    #[test]
    fn truncated_or_foreign_bodies_do_not_decode() {
        let body = example().encode();
        for length in 0..body.len() {
            assert_eq!(Manifest::decode(&Bytes::copy_from_slice(&body[..length])), None);
        }
        let mut unknown_segment = example();
        unknown_segment.segments.clear();
        assert_eq!(Manifest::decode(&unknown_segment.encode().into()), None);
    }
}
