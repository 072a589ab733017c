//! What is damaged in the data of a node that is not running, in its own terms: which topic or queue, and
//! which offsets. It must never change anything; what it cannot know it says so.

mod repair;
mod voters;

pub use repair::{repair, Remedy};
pub use voters::Shared;

use crate::entry::{operations, Operation, APPEND_HEADER_BYTES};
use crate::layout::Layout;
use crate::shard::doctor::{
    decode_commands, decode_metadata, is_entry, stream_ends, without_incarnation,
};
use bytes::Bytes;
use koine_base::disk::Disk;
use koine_base::{GroupId, ShardId, StreamId};
use koine_broker::batch::BatchHeader;
use koine_broker::limits::Limits;
use koine_broker::metadata::{Effects, Metadata, MetadataLimits, StreamOwner};
use koine_log::{inspect, Config, Fault, GroupCheckpoint, OpenError, Seen, HOLE_BYTES};
use std::collections::BTreeMap;
use voters::VotersSeen;

/// Offsets of one stream that are gone, or cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affected {
    pub stream: StreamId,
    /// `None` if the metadata does not know the stream: it is deleted, or the metadata is damaged.
    pub owner: Option<StreamOwner>,
    pub start: u64,
    /// Last offset + 1.
    pub end: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub shard: ShardId,
    pub file: String,
    pub position: u64,
    pub fault: Fault,
    pub affected: Vec<Affected>,
    /// Changes to topics, queues, bindings, sessions or retained messages may be lost.
    pub metadata: bool,
    /// Entries of which not even the header is left: group, index, and the term of the one before.
    pub entries_lost: Vec<(GroupId, u64, u64)>,
    /// More may be lost than `affected` says: newest records, settlements, committed offsets.
    pub and_more: bool,
}

#[derive(Debug, Default)]
pub struct Report {
    pub findings: Vec<Finding>,
    /// With these groups' other replicas a repair would not agree: only where there are none may the
    /// node be repaired.
    pub shared: Vec<Shared>,
    pub files: u64,
    pub bytes: u64,
}

impl Report {
    /// True if the node does not start as things are.
    pub fn prevents_start(&self) -> bool {
        self.findings.iter().any(|finding| finding.fault.prevents_start())
    }
}

/// Directory of a shard's log.
pub fn shard_directory(shard: ShardId) -> String {
    format!("shard-{}", shard.0)
}

/// Checks every byte of all shards. `progress` hears of bytes as they are done. An error only if the
/// directory cannot be looked at.
pub fn examine(
    disk: &dyn Disk,
    layout: Layout,
    limits: &Limits,
    progress: &mut dyn FnMut(u64),
) -> Result<Report, OpenError> {
    let mut report = Report::default();
    let mut names = Names::new(layout, limits);
    for shard in layout.shards() {
        let mut watch =
            Watch { names: (shard == ShardId(0)).then_some(&mut names), ..Watch::default() };
        let config = Config::new(shard_directory(shard));
        let inspection = inspect(disk, &config, &mut |seen| watch.see(seen, progress))?;
        report.files += inspection.files;
        report.bytes += inspection.bytes;
        report.shared.extend(watch.voters.shared());
        watch.finish();
        let mut damage = watch.damage.into_iter();
        for found in inspection.findings {
            let mut finding = Finding {
                shard,
                file: found.file,
                position: found.position,
                fault: found.fault,
                affected: Vec::new(),
                entries_lost: Vec::new(),
                metadata: false,
                and_more: false,
            };
            let mut lost: Vec<_> =
                found.lost.iter().map(|lost| (lost.stream, lost.start, lost.end)).collect();
            match finding.fault {
                // Each of these was shown to the watch, in this order.
                Fault::Frame { .. } => {
                    let damage = damage.next().unwrap_or_default();
                    lost.extend(damage.lost);
                    finding.entries_lost = damage.entries;
                    finding.metadata = damage.metadata;
                    finding.and_more = damage.and_more;
                }
                Fault::WalFileMissing { .. }
                | Fault::CheckpointMissing
                | Fault::Checkpoint { stands_in: false } => {
                    finding.metadata = shard == ShardId(0);
                    finding.and_more = true;
                }
                _ => {}
            }
            let affect = |(stream, start, end)| Affected { stream, owner: None, start, end };
            finding.affected = lost.into_iter().map(affect).collect();
            report.findings.push(finding);
        }
    }
    for affected in report.findings.iter_mut().flat_map(|finding| &mut finding.affected) {
        affected.owner = names.owner(without_incarnation(affected.stream));
    }
    Ok(report)
}

/// The metadata as far as it can still be read.
struct Names {
    metadata: Metadata,
    limits: MetadataLimits,
    applied_index: u64,
}

impl Names {
    fn new(layout: Layout, limits: &Limits) -> Self {
        let limits = MetadataLimits::from(limits);
        let metadata = Metadata::new(&layout.relaxed(), limits);
        Names { metadata, limits, applied_index: 0 }
    }

    fn restore(&mut self, checkpoint: &GroupCheckpoint) {
        if let Some(metadata) = decode_metadata(&checkpoint.blob, self.limits) {
            self.metadata = metadata;
            self.applied_index = checkpoint.applied_index;
        }
    }

    /// A readable entry behind the checkpoint.
    fn apply(&mut self, index: u64, payload: &[u8]) {
        if index <= self.applied_index {
            return;
        }
        self.applied_index = index;
        for command in decode_commands(payload).unwrap_or_default() {
            let _ = self.metadata.apply(command, &mut Effects::default());
        }
    }

    fn owner(&self, stream: StreamId) -> Option<StreamOwner> {
        self.metadata.stream_owner(stream).cloned()
    }
}

/// What one damaged frame cost.
#[derive(Default)]
struct Damage {
    group: Option<GroupId>,
    lost: Vec<(StreamId, u64, u64)>,
    metadata: bool,
    and_more: bool,
    /// Bytes that an entry in its place can have.
    room: usize,
    /// Damaged batches of which only the first offset is sure.
    unresolved: Vec<(StreamId, u64, Option<u64>)>,
    entries: Vec<(GroupId, u64, u64)>,
}

impl Damage {
    /// True if a place holder for one more loss fits in.
    fn has_room(&self) -> bool {
        (self.lost.len() + 1) * (APPEND_HEADER_BYTES + HOLE_BYTES) <= self.room
    }
}

/// Follows a log from its checkpoint on and notices which offsets a damaged frame took.
#[derive(Default)]
struct Watch<'n> {
    /// On the shard that holds the metadata.
    names: Option<&'n mut Names>,
    ends: BTreeMap<StreamId, u64>,
    /// Newest index and term of each group.
    newest: BTreeMap<GroupId, (u64, u64)>,
    voters: VotersSeen,
    damage: Vec<Damage>,
}

impl Watch<'_> {
    fn see(&mut self, seen: Seen<'_>, progress: &mut dyn FnMut(u64)) {
        match seen {
            Seen::Bytes(bytes) => progress(bytes),
            Seen::Group(checkpoint) => self.group(checkpoint),
            Seen::Stream(..) => {}
            Seen::Frame { group, kind, term, index, payload } => {
                self.note_index(group, index, term);
                self.voters.frame(group, kind, index, payload);
                if !is_entry(kind) {
                    return;
                }
                if group != GroupId::METADATA {
                    self.entry(group, payload);
                } else if let Some(names) = &mut self.names {
                    names.apply(index, payload);
                }
            }
            Seen::Damaged { header, payload } => self.damaged(header, payload),
        }
    }

    fn group(&mut self, checkpoint: &GroupCheckpoint) {
        let newest = (checkpoint.applied_index, checkpoint.applied_term);
        self.newest.insert(checkpoint.group, newest);
        self.voters.checkpoint(checkpoint);
        if checkpoint.group != GroupId::METADATA {
            for (stream, end) in stream_ends(&checkpoint.blob) {
                self.reaches(stream, end);
            }
        } else if let Some(names) = &mut self.names {
            names.restore(checkpoint);
        }
    }

    /// Indexes have no gaps: what is missing was in a damaged entry without a header.
    fn note_index(&mut self, group: GroupId, index: u64, term: u64) {
        let (newest, newest_term) = self.newest.get(&group).copied().unwrap_or_default();
        if index <= newest {
            return;
        }
        let headless = self.damage.iter_mut().rev().find(|damage| damage.group.is_none());
        if let Some(damage) = headless {
            damage.entries.extend((newest + 1..index).map(|index| (group, index, newest_term)));
        }
        self.newest.insert(group, (index, term));
    }

    fn reaches(&mut self, stream: StreamId, end: u64) {
        let known = self.ends.entry(stream).or_insert(end);
        *known = (*known).max(end);
    }

    fn entry(&mut self, group: GroupId, payload: &[u8]) {
        for operation in operations(Bytes::copy_from_slice(payload)) {
            let Ok(Operation::Append { stream, base_offset, batch, .. }) = operation else {
                continue;
            };
            let known = self.ends.get(&stream).copied();
            // A stream that begins here begins at its first offset.
            let known = known.unwrap_or(if self.damage.is_empty() { base_offset } else { 0 });
            if base_offset > known {
                self.blame(group, (stream, known, base_offset));
            }
            let end = BatchHeader::new(&batch).map_or(base_offset, |header| header.next_offset());
            self.reaches(stream, end);
        }
    }

    /// Offsets that are not there where a later entry goes on. Which of several damaged entries had them
    /// makes no difference; one that a repair can put them into is as good as any.
    fn blame(&mut self, group: GroupId, lost: (StreamId, u64, u64)) {
        let may_have = |damage: &&mut Damage| damage.group.is_none_or(|of| of == group);
        let mut suspects: Vec<&mut Damage> = self.damage.iter_mut().filter(may_have).collect();
        let roomy = suspects.iter().position(|damage| damage.has_room());
        let index = roomy.or(suspects.len().checked_sub(1));
        if let Some(damage) = index.and_then(|index| suspects.get_mut(index)) {
            damage.lost.push(lost);
        }
    }

    fn damaged(&mut self, header: Option<(GroupId, u8, u64)>, payload: &[u8]) {
        if let Some((group, _, index)) = header {
            let term = self.newest.get(&group).map_or(0, |(_, term)| *term);
            self.note_index(group, index, term);
        }
        let group = header.map(|(group, ..)| group);
        let metadata = group.is_none_or(|group| group == GroupId::METADATA) && self.names.is_some();
        let room = payload.len();
        let and_more = header.is_none();
        self.damage.push(Damage { group, metadata, and_more, room, ..Damage::default() });
        let of_data =
            |(group, kind, _): &(GroupId, u8, u64)| is_entry(*kind) && *group != GroupId::METADATA;
        if header.as_ref().is_some_and(of_data) {
            self.salvage(payload);
        }
    }

    /// Reads of the newest damaged entry what can be read.
    fn salvage(&mut self, payload: &[u8]) {
        let index = self.damage.len() - 1;
        for operation in operations(Bytes::copy_from_slice(payload)) {
            let Ok(operation) = operation else {
                self.damage[index].and_more = true;
                return;
            };
            let Operation::Append { stream, base_offset, batch, .. } = operation else {
                continue;
            };
            let known = *self.ends.entry(stream).or_insert(base_offset);
            let header = BatchHeader::new(&batch).ok();
            let header = header.filter(|header| header.base_offset() == base_offset);
            match header {
                Some(header) if header.crc_is_good() && base_offset >= known => {
                    if base_offset > known {
                        self.blame(stream.group(), (stream, known, base_offset));
                    }
                    self.reaches(stream, header.next_offset());
                }
                // How far it reached is said by the next batch of the stream, if there is one.
                Some(header) if base_offset == known => {
                    let end = plausible_end(&header);
                    self.damage[index].unresolved.push((stream, base_offset, end));
                }
                _ => {
                    self.damage[index].and_more = true;
                    return;
                }
            }
        }
    }

    /// The log is over: batches that nothing follows reached as far as they say themselves.
    fn finish(&mut self) {
        for damage in &mut self.damage {
            for (stream, base, end) in std::mem::take(&mut damage.unresolved) {
                if self.ends.get(&stream) == Some(&base) {
                    damage.lost.push((stream, base, end.unwrap_or(base + 1)));
                    damage.and_more |= end.is_none();
                    self.ends.insert(stream, end.unwrap_or(base + 1));
                }
            }
        }
    }
}

/// Where a damaged batch ends, if its header does not contradict itself.
fn plausible_end(header: &BatchHeader<'_>) -> Option<u64> {
    let count = u64::try_from(header.record_count()).ok()?;
    let end = header.next_offset();
    let is_possible = count > 0 && count <= header.bytes().len() as u64 * RECORDS_PER_BYTE_MAX;
    (is_possible && end == header.base_offset() + count).then_some(end)
}

/// Compressed as well as can be, this many records are still more than a byte.
const RECORDS_PER_BYTE_MAX: u64 = 1000;
