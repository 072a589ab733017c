//! What is damaged in the data of a node that is not running, in its own terms: which topic or queue, and
//! which offsets. It must never change anything; what it cannot know it says so.

mod repair;

pub use repair::{repair, Remedy};

use crate::entry::{operations, Operation};
use crate::layout::Layout;
use crate::shard::doctor::{decode_commands, decode_metadata, is_entry, stream_ends};
use bytes::Bytes;
use koine_base::disk::Disk;
use koine_base::{GroupId, ShardId, StreamId};
use koine_broker::batch::BatchHeader;
use koine_broker::limits::Limits;
use koine_broker::metadata::{Effects, Metadata, MetadataLimits, StreamOwner};
use koine_log::{inspect, Config, Fault, GroupCheckpoint, OpenError, Seen};
use std::collections::BTreeMap;

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
    /// More may be lost than `affected` says: newest records, settlements, committed offsets.
    pub and_more: bool,
}

#[derive(Debug, Default)]
pub struct Report {
    pub findings: Vec<Finding>,
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
        let mut damage = watch.damage.into_iter();
        for found in inspection.findings {
            let mut finding = Finding {
                shard,
                file: found.file,
                position: found.position,
                fault: found.fault,
                affected: Vec::new(),
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
        affected.owner = names.owner(affected.stream);
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
}

/// Follows a log from its checkpoint on and notices which offsets a damaged frame took.
#[derive(Default)]
struct Watch<'n> {
    /// On the shard that holds the metadata.
    names: Option<&'n mut Names>,
    ends: BTreeMap<StreamId, u64>,
    damage: Vec<Damage>,
}

impl Watch<'_> {
    fn see(&mut self, seen: Seen<'_>, progress: &mut dyn FnMut(u64)) {
        match seen {
            Seen::Bytes(bytes) => progress(bytes),
            Seen::Group(checkpoint) if checkpoint.group == GroupId::METADATA => {
                if let Some(names) = &mut self.names {
                    names.restore(checkpoint);
                }
            }
            Seen::Group(checkpoint) => {
                for (stream, end) in stream_ends(&checkpoint.blob) {
                    self.reaches(stream, end);
                }
            }
            Seen::Stream(..) => {}
            Seen::Frame { group, kind, index, payload } if is_entry(kind) => {
                if group != GroupId::METADATA {
                    self.entry(group, payload);
                } else if let Some(names) = &mut self.names {
                    names.apply(index, payload);
                }
            }
            Seen::Frame { .. } => {}
            Seen::Damaged { header, payload } => self.damaged(header, payload),
        }
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

    /// Offsets that are not there where a later entry goes on: the newest damage took them.
    fn blame(&mut self, group: GroupId, lost: (StreamId, u64, u64)) {
        let may_have = |damage: &&mut Damage| damage.group.is_none_or(|of| of == group);
        if let Some(damage) = self.damage.iter_mut().rev().find(may_have) {
            damage.lost.push(lost);
        }
    }

    fn damaged(&mut self, header: Option<(GroupId, u8, u64)>, payload: &[u8]) {
        let mut damage = Damage { group: header.map(|(group, ..)| group), ..Damage::default() };
        let of_metadata = damage.group.is_none_or(|group| group == GroupId::METADATA);
        damage.metadata = of_metadata && self.names.is_some();
        match header {
            Some((group, kind, _)) if is_entry(kind) && group != GroupId::METADATA => {
                damage.and_more = !self.salvage(payload, &mut damage.lost);
            }
            Some(_) => {}
            None => damage.and_more = true,
        }
        self.damage.push(damage);
    }

    /// Reads of a damaged entry what can be read, and notes the offsets of batches that are damaged.
    /// True if it was all.
    fn salvage(&mut self, payload: &[u8], lost: &mut Vec<(StreamId, u64, u64)>) -> bool {
        for operation in operations(Bytes::copy_from_slice(payload)) {
            let Ok(operation) = operation else { return false };
            let Operation::Append { stream, base_offset, batch, .. } = operation else {
                continue;
            };
            let known = self.ends.get(&stream).copied().unwrap_or(base_offset);
            let header = BatchHeader::new(&batch).ok();
            let header = header.filter(|header| header.base_offset() == base_offset);
            let Some(header) = header.filter(|_| base_offset == known) else {
                return false;
            };
            let end = header.next_offset();
            if !header.crc_is_good() {
                // Its length may be what is damaged; then the next batch of the stream says so.
                lost.push((stream, base_offset, end));
            }
            self.reaches(stream, end);
        }
        true
    }
}
