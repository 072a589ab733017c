//! What was recovered, handed to the caller piece by piece: the groups of the checkpoint, then frames.
//! All of it was checked when the log was opened.

use crate::error::{CorruptReason, OpenError};
use crate::format::{WalPosition, FRAME_HEADER_BYTES};
use crate::log::{GroupCheckpoint, Log};
use crate::scan::{Scanner, Step};
use crate::wal::FrameLocation;
use bytes::Bytes;
use koine_base::disk::{Disk, FileId};
use koine_base::{GroupId, StreamId};
use std::collections::{HashMap, VecDeque};

/// A frame from the WAL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayFrame {
    pub group: GroupId,
    pub kind: u8,
    pub term: u64,
    pub index: u64,
    pub payload: Bytes,
    pub location: FrameLocation,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replayed {
    Group(GroupCheckpoint),
    Frame(ReplayFrame),
}

/// What there is to recover, in order: the groups of the checkpoint, then every frame that is not known
/// to be covered by it. Frames at or below their group's applied index are among them: their batches
/// may not be in segments yet and must be placed again, but nothing else of them applied. Frames that
/// a later one of the group with the same or a lower index took the place of are left out.
///
/// One frame is in memory at a time. To be read to its end and given to [`Log::finish_replay`].
pub struct Replay<'d> {
    pub(crate) disk: &'d dyn Disk,
    pub(crate) groups: VecDeque<GroupCheckpoint>,
    /// What is still to be read.
    pub(crate) files: VecDeque<ReplayFile>,
    pub(crate) scanner: Option<(Scanner<'d>, String)>,
    pub(crate) superseded: Superseded,
    /// Where the streams ended when the checkpoint was made.
    pub(crate) ends: Vec<(StreamId, u64)>,
    pub(crate) done: bool,
}

/// A file of the WAL, and where its frames end.
pub(crate) struct ReplayFile {
    pub file: FileId,
    pub path: String,
    pub sequence: u32,
    pub end: u32,
}

/// Where the index of a group went back: what was before is void from that index on.
#[derive(Default)]
pub(crate) struct Superseded {
    last: HashMap<GroupId, u64>,
    events: HashMap<GroupId, Vec<(WalPosition, u64)>>,
}

impl Superseded {
    pub(crate) fn note(&mut self, group: GroupId, index: u64, position: WalPosition) {
        if index == 0 {
            return;
        }
        let last = self.last.insert(group, index).unwrap_or(0);
        if index <= last {
            self.events.entry(group).or_default().push((position, index));
        }
    }

    /// From the events in the order of the log, makes for each the lowest index of all from there on.
    pub(crate) fn seal(&mut self) {
        for events in self.events.values_mut() {
            let mut lowest = u64::MAX;
            for (_, index) in events.iter_mut().rev() {
                lowest = lowest.min(*index);
                *index = lowest;
            }
        }
    }

    fn is_void(&self, group: GroupId, index: u64, position: WalPosition) -> bool {
        let Some(events) = self.events.get(&group) else {
            return false;
        };
        let next = events.partition_point(|(at, _)| *at <= position);
        index > 0 && events.get(next).is_some_and(|(_, lowest)| *lowest <= index)
    }
}

impl Iterator for Replay<'_> {
    type Item = Result<Replayed, OpenError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(group) = self.groups.pop_front() {
            return Some(Ok(Replayed::Group(group)));
        }
        match self.next_frame() {
            Ok(frame) => frame.map(|frame| Ok(Replayed::Frame(frame))),
            Err(error) => Some(Err(error)),
        }
    }
}

impl Replay<'_> {
    fn next_frame(&mut self) -> Result<Option<ReplayFrame>, OpenError> {
        loop {
            let Some((scanner, path)) = &mut self.scanner else {
                let Some(next) = self.files.pop_front() else {
                    self.done = true;
                    return Ok(None);
                };
                let scanner = Scanner::new(self.disk, next.file, next.sequence, next.end);
                self.scanner = Some((scanner, next.path));
                continue;
            };
            let step = scanner.next();
            let step = step.map_err(|error| {
                let (action, path) = ("read", path.clone());
                OpenError::Io { action, path, error }
            })?;
            match step {
                Step::Frame { header, position, payload } => {
                    let group = GroupId(header.group);
                    if self.superseded.is_void(group, header.index, position) {
                        continue;
                    }
                    let payload_at = position.plus(FRAME_HEADER_BYTES as u32);
                    return Ok(Some(ReplayFrame {
                        group,
                        kind: header.kind,
                        term: header.term,
                        index: header.index,
                        payload: Bytes::copy_from_slice(payload),
                        location: FrameLocation {
                            payload: payload_at,
                            payload_bytes: header.length,
                        },
                    }));
                }
                Step::End => self.scanner = None,
                // It was intact when the log was opened, and has been damaged since: by a write that
                // went to a wrong place, or where it lies.
                Step::Bad { position, .. } => {
                    let (file, position) = (path.clone(), u64::from(position));
                    let reason = CorruptReason::FrameBelowSyncedMark;
                    return Err(OpenError::Corrupt { file, position, reason });
                }
            }
        }
    }
}

impl Log {
    /// The caller has replayed everything. Fails if a stream did not get back to where it was at the
    /// checkpoint. From here on the log takes appends.
    pub fn finish_replay(&mut self, replay: Replay<'_>) -> Result<(), OpenError> {
        assert!(replay.done, "the replay was not read to its end");
        for (stream, end) in &replay.ends {
            let found = self.streams.get(stream);
            if found.is_some_and(|found| found.end < *end) {
                return Err(OpenError::Corrupt {
                    file: format!("stream {stream}"),
                    position: found.map_or(0, |found| found.end),
                    reason: CorruptReason::StreamIncomplete,
                });
            }
        }
        self.replaying = false;
        Ok(())
    }
}
