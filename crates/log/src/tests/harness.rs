//! A shard in miniature around one [`Log`]: groups whose entries create, fill, trim and delete streams,
//! a disk that takes its time, and a model of what must be there.

use super::batch;
use crate::batch::BatchHeader;
use crate::{
    execute, Completion, Config, Frame, FrameLocation, GroupCheckpoint, IoRequest, IoResult, Log,
    Placed, Placement, ReadOutcome, ReadToken, Replayed, TimestampOutcome,
};
use bytes::{BufMut, Bytes, BytesMut};
use koine_base::disk::{MemoryDisk, Survival};
use koine_base::rng::Rng;
use koine_base::{GroupId, Moment, StreamId};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

pub(crate) const ENTRY: u8 = 1;
pub(crate) const VOTE: u8 = 2;

/// Everything happens within a few KiB.
pub(crate) fn small_config() -> Config {
    Config {
        wal_file_bytes: 16 << 10,
        wal_index_entries_max: 40,
        wal_files_free_max: 2,
        wal_files_closed_max: 4,
        write_bytes_max: 4 << 10,
        relaxed_write_after: Duration::ZERO,
        relaxed_flush_bytes: 1 << 10,
        relaxed_flush_after: Duration::from_millis(100),
        relaxed_backlog_bytes_max: 8 << 10,
        tail_cache_bytes: 6 << 10,
        own_segment_bytes_min: 2 << 10,
        pack_segment_bytes_max: 6 << 10,
        index_interval_bytes: 400,
        rewrite_bytes_max: 20 << 10,
        pack_merge_count: 3,
        segments_open_max: 2,
        index_cache_bytes: 1 << 10,
        free_bytes_min: 0,
        full_retry_after: Duration::from_millis(200),
        ..Config::new("0")
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Op {
    Create(StreamId),
    Append(StreamId, Bytes),
    Trim(StreamId, u64),
    Delete(StreamId),
}

pub(crate) fn encode(ops: &[Op]) -> Bytes {
    let mut out = BytesMut::new();
    for op in ops {
        match op {
            Op::Create(stream) => {
                out.put_u8(1);
                out.put_u64(stream.raw());
            }
            Op::Append(stream, batch) => {
                out.put_u8(2);
                out.put_u64(stream.raw());
                out.put_u32(batch.len() as u32);
                out.put_slice(batch);
            }
            Op::Trim(stream, start) => {
                out.put_u8(3);
                out.put_u64(stream.raw());
                out.put_u64(*start);
            }
            Op::Delete(stream) => {
                out.put_u8(4);
                out.put_u64(stream.raw());
            }
        }
    }
    out.freeze()
}

/// The operations, and where in the payload the batch of each append is.
pub(crate) fn decode(payload: &Bytes) -> Vec<(Op, u32)> {
    let mut ops = Vec::new();
    let mut at = 0;
    let u64_at = |at: usize| u64::from_be_bytes(payload[at..at + 8].try_into().unwrap());
    while at < payload.len() {
        let stream = StreamId::from_raw(u64_at(at + 1));
        let tag = payload[at];
        at += 9;
        match tag {
            1 => ops.push((Op::Create(stream), 0)),
            2 => {
                let length = u32::from_be_bytes(payload[at..at + 4].try_into().unwrap()) as usize;
                at += 4;
                ops.push((Op::Append(stream, payload.slice(at..at + length)), at as u32));
                at += length;
            }
            3 => {
                ops.push((Op::Trim(stream, u64_at(at)), 0));
                at += 8;
            }
            4 => ops.push((Op::Delete(stream), 0)),
            other => panic!("no operation {other}"),
        }
    }
    ops
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct StreamModel {
    pub start: u64,
    pub end: u64,
    pub batches: Vec<Bytes>,
}

pub(crate) type State = BTreeMap<StreamId, StreamModel>;

pub(crate) fn last_offset(batch: &Bytes) -> u64 {
    BatchHeader::parse(batch).unwrap().last_offset
}

pub(crate) fn apply_model(state: &mut State, op: &Op) {
    match op {
        Op::Create(stream) => {
            state.entry(*stream).or_default();
        }
        Op::Append(stream, batch) => {
            if let Some(stream) = state.get_mut(stream) {
                stream.end = last_offset(batch) + 1;
                stream.batches.push(batch.clone());
            }
        }
        Op::Trim(stream, start) => {
            if let Some(stream) = state.get_mut(stream) {
                stream.start = stream.start.max(*start);
                stream.end = stream.end.max(*start);
                stream.batches.retain(|batch| last_offset(batch) >= *start);
            }
        }
        Op::Delete(stream) => {
            state.remove(stream);
        }
    }
}

/// A frame as it was appended.
#[derive(Clone)]
pub(crate) struct Written {
    pub group: GroupId,
    pub kind: u8,
    pub term: u64,
    pub index: u64,
    pub payload: Bytes,
    pub sync: bool,
    pub location: FrameLocation,
    /// Of the present incarnation of the log; 0 for older ones.
    pub number: u64,
    pub acked: bool,
}

#[derive(Default, Clone)]
pub(crate) struct Group {
    pub term: u64,
    pub vote: u64,
    /// The vote of frames that are persisted for sure.
    pub vote_acked: u64,
    /// Index and place in the history of what is not superseded.
    pub entries: BTreeMap<u64, usize>,
    pub persisted: u64,
    pub applied: u64,
    /// With all entries, as a leader sees it.
    pub proposed: State,
    /// Up to `applied`; what readers see.
    pub visible: State,
}

pub(crate) struct Expectation {
    stream: StreamId,
    offset: u64,
    bytes_max: usize,
    offset_end: u64,
    batches: Vec<Bytes>,
}

/// A search under way: stream, timestamp, and the batch that must be found.
type Search = (StreamId, i64, Option<(u64, i64)>);

pub(crate) struct Shard {
    pub disk: Arc<MemoryDisk>,
    pub config: Config,
    pub log: Log,
    pub now: Moment,
    pub groups: BTreeMap<GroupId, Group>,
    pub history: Vec<Written>,
    pub requests: Vec<IoRequest>,
    pub results: Vec<IoResult>,
    pub expectations: HashMap<ReadToken, Expectation>,
    pub searches: HashMap<ReadToken, Search>,
    pub batch_count: u64,
    /// Reads that came back from disk and were right.
    pub reads_checked: u64,
}

impl Shard {
    pub(crate) fn new(disk: Arc<MemoryDisk>, config: Config, groups: u16) -> Shard {
        let log = open_empty(&disk, &config);
        Shard {
            disk,
            config,
            log,
            now: Moment(0),
            groups: (1..=groups).map(|group| (GroupId(group), Group::default())).collect(),
            history: Vec::new(),
            requests: Vec::new(),
            results: Vec::new(),
            expectations: HashMap::new(),
            searches: HashMap::new(),
            batch_count: 0,
            reads_checked: 0,
        }
    }

    fn push_frame(&mut self, group: GroupId, kind: u8, index: u64, payload: Bytes, sync: bool) {
        let term = self.groups[&group].term;
        let cut = payload.len() / 3;
        let pieces = vec![payload.slice(..cut), payload.slice(cut..)];
        let frame = Frame { group, kind, term, index, payload: pieces, sync };
        let appended = self.log.append(self.now, frame);
        self.history.push(Written {
            group,
            kind,
            term,
            index,
            payload,
            sync,
            location: appended.location,
            number: appended.number,
            acked: false,
        });
    }

    /// Appends one entry with these operations.
    pub(crate) fn propose(&mut self, group: GroupId, ops: &[Op], sync: bool) -> u64 {
        let state = self.groups.get_mut(&group).unwrap();
        for op in ops {
            apply_model(&mut state.proposed, op);
        }
        self.append_entry(group, ops, sync)
    }

    /// The same, with operations that the model has seen.
    pub(crate) fn append_entry(&mut self, group: GroupId, ops: &[Op], sync: bool) -> u64 {
        let state = self.groups.get_mut(&group).unwrap();
        let index = state.entries.keys().next_back().copied().unwrap_or(0) + 1;
        state.entries.insert(index, self.history.len());
        self.push_frame(group, ENTRY, index, encode(ops), sync);
        index
    }

    pub(crate) fn vote(&mut self, group: GroupId) {
        let state = self.groups.get_mut(&group).unwrap();
        state.vote += 1;
        let payload = Bytes::copy_from_slice(&state.vote.to_be_bytes());
        self.push_frame(group, VOTE, 0, payload, true);
    }

    /// A new leader takes back what was not applied, from a random index on.
    pub(crate) fn take_back(&mut self, group: GroupId, rng: &mut Rng) {
        let state = self.groups.get_mut(&group).unwrap();
        let last = state.entries.keys().next_back().copied().unwrap_or(0);
        if last <= state.applied {
            return;
        }
        state.term += 1;
        let from = state.applied + 1 + rng.below(last - state.applied);
        state.entries.split_off(&from);
        state.persisted = state.persisted.min(from - 1);
        state.proposed = State::default();
        let entries: Vec<usize> = state.entries.values().copied().collect();
        for entry in entries {
            for (op, _) in decode(&self.history[entry].payload) {
                apply_model(&mut state.proposed, &op);
            }
        }
        // Its first entry is empty, as raft's is.
        self.propose(group, &[], true);
    }

    /// A batch for the end of the stream as proposed.
    pub(crate) fn next_batch(&mut self, stream: StreamId, records: u32, filler: usize) -> Op {
        let end = self.groups[&stream.group()].proposed[&stream].end;
        self.batch_count += 1;
        let timestamp_ms = self.batch_count as i64 * 10 - (self.batch_count % 3) as i64 * 15;
        Op::Append(stream, batch(end, records, timestamp_ms, filler))
    }

    /// Tells the groups what is persisted, and applies entries up to it, or some of them.
    pub(crate) fn apply(&mut self, mut lag: impl FnMut() -> u64) {
        for persisted in self.log.take_persisted() {
            for written in self.history.iter_mut().rev().take_while(|written| written.number > 0) {
                if written.group != persisted.group || written.number > persisted.number {
                    continue;
                }
                written.acked |= written.sync;
                let group = self.groups.get_mut(&persisted.group).unwrap();
                if written.kind == VOTE {
                    let vote = u64::from_be_bytes(written.payload[..8].try_into().unwrap());
                    group.vote_acked = group.vote_acked.max(vote);
                }
            }
            let group = self.groups.get_mut(&persisted.group).unwrap();
            let mine = |place: &usize| {
                let written = &self.history[*place];
                written.number == 0 || written.number <= persisted.number
            };
            let highest = group
                .entries
                .iter()
                .filter(|(_, place)| mine(place))
                .map(|(index, _)| *index)
                .max();
            group.persisted = highest.unwrap_or(0);
            if persisted.index > 0 {
                assert!(persisted.index <= group.persisted || persisted.term < group.term);
            }
        }
        let ids: Vec<GroupId> = self.groups.keys().copied().collect();
        for id in ids {
            let until = self.groups[&id].persisted.saturating_sub(lag());
            self.apply_until(id, until);
        }
    }

    fn apply_until(&mut self, id: GroupId, until: u64) {
        let group = self.groups.get_mut(&id).unwrap();
        while group.applied < until {
            group.applied += 1;
            let written = &self.history[group.entries[&group.applied]];
            for (op, position) in decode(&written.payload) {
                apply_model(&mut group.visible, &op);
                apply_log(&mut self.log, &op, position, written.location);
            }
        }
    }

    pub(crate) fn checkpoint(&mut self) {
        let groups = self.groups.iter().map(|(id, group)| {
            let applied_term =
                group.entries.get(&group.applied).map_or(0, |place| self.history[*place].term);
            let mut blob = BytesMut::new();
            blob.put_u64(group.vote);
            blob.put_u64(group.applied);
            GroupCheckpoint {
                group: *id,
                applied_index: group.applied,
                applied_term,
                blob: blob.split_to(8).freeze(),
                // The rest as it may come in parts.
                pages: vec![[blob.freeze(), Bytes::new()].into()],
            }
        });
        let groups = groups.collect();
        self.log.checkpoint(groups);
    }

    /// Starts a read and remembers what must come of it.
    pub(crate) fn read(
        &mut self,
        stream: StreamId,
        offset: u64,
        bytes_max: usize,
        offset_end: u64,
    ) {
        let model = self.groups[&stream.group()].visible.get(&stream);
        let outcome = self.log.read(stream, offset, bytes_max, offset_end);
        let Some(model) = model else {
            assert!(matches!(outcome, ReadOutcome::UnknownStream));
            return;
        };
        let inside = offset >= model.start && offset <= model.end;
        let behind = model.batches.iter().filter(|batch| last_offset(batch) >= offset);
        let batches = behind.cloned().collect();
        let expectation = Expectation { stream, offset, bytes_max, offset_end, batches };
        match outcome {
            ReadOutcome::OutOfRange { start, end } => {
                assert!(!inside);
                assert_eq!((start, end), (model.start, model.end));
            }
            ReadOutcome::Ready(batches) => {
                assert!(inside);
                expectation.check(&batches);
            }
            ReadOutcome::Pending(token, request) => {
                assert!(inside);
                self.expectations.insert(token, expectation);
                self.requests.push(request);
            }
            ReadOutcome::UnknownStream => panic!("{stream} is known"),
        }
    }

    pub(crate) fn search(&mut self, stream: StreamId, timestamp_ms: i64) {
        let Some(model) = self.groups[&stream.group()].visible.get(&stream) else {
            return;
        };
        let mut headers = model.batches.iter().map(|batch| BatchHeader::parse(batch).unwrap());
        let expect = headers.find(|header| header.max_timestamp_ms >= timestamp_ms);
        let expect = expect.map(|header| (header.base_offset, header.max_timestamp_ms));
        let outcome = self.log.offset_for_timestamp(stream, timestamp_ms);
        self.searched(stream, timestamp_ms, expect, outcome);
    }

    fn searched(
        &mut self,
        stream: StreamId,
        timestamp_ms: i64,
        expect: Option<(u64, i64)>,
        outcome: TimestampOutcome,
    ) {
        match outcome {
            TimestampOutcome::Found { base_offset, max_timestamp_ms } => {
                assert_eq!(
                    Some((base_offset, max_timestamp_ms)),
                    expect,
                    "{stream} at {timestamp_ms}"
                );
            }
            TimestampOutcome::None => assert_eq!(expect, None, "{stream} at {timestamp_ms}"),
            TimestampOutcome::Pending(token, request) => {
                self.searches.insert(token, (stream, timestamp_ms, expect));
                self.requests.push(request);
            }
            TimestampOutcome::UnknownStream => panic!("{stream} is known"),
        }
    }

    pub(crate) fn poll(&mut self) {
        while let Some(request) = self.log.poll_io(self.now) {
            self.requests.push(request);
        }
    }

    pub(crate) fn execute_one(&mut self, index: usize) {
        let request = self.requests.remove(index);
        self.results.push(execute(&*self.disk, request));
    }

    pub(crate) fn complete_one(&mut self, index: usize) -> Completion {
        let result = self.results.remove(index);
        self.try_complete(result).expect("no fault was injected")
    }

    pub(crate) fn try_complete(&mut self, result: IoResult) -> Result<Completion, crate::LogError> {
        let completion = self.log.complete(self.now, result)?;
        match &completion {
            Completion::Read { token, batches } => {
                let batches = batches.as_ref().expect("nothing is damaged");
                self.expectations.remove(token).expect("a known token").check(batches);
                self.reads_checked += 1;
            }
            Completion::Timestamp { token, .. } => {
                let (stream, timestamp_ms, expect) =
                    self.searches.remove(token).expect("a known token");
                let Completion::Timestamp { outcome, .. } = completion else { unreachable!() };
                let outcome = outcome.expect("nothing is damaged");
                // The stream may have been deleted or trimmed while the search was under way.
                let trimmed = self.log.bounds(stream).is_none_or(|bounds| {
                    expect.is_none_or(|(base_offset, _)| base_offset < bounds.start)
                });
                if !trimmed {
                    self.searched(stream, timestamp_ms, expect, outcome);
                } else if let TimestampOutcome::Pending(_, request) = outcome {
                    // Its result no longer matters, but the log counts on getting it.
                    let result = execute(&*self.disk, request);
                    self.log.complete(self.now, result)?;
                }
                return Ok(Completion::Internal);
            }
            _ => {}
        }
        Ok(completion)
    }

    /// Runs until nothing is left to do; time passes as needed.
    pub(crate) fn settle(&mut self) {
        for _ in 0..10_000 {
            self.poll();
            if !self.requests.is_empty() {
                self.execute_one(0);
            } else if !self.results.is_empty() {
                self.complete_one(0);
                self.apply(|| 0);
            } else if self.log.is_idle() {
                self.apply(|| 0);
                return;
            } else {
                self.now = self.log.deadline().expect("something is under way").max(self.now);
            }
        }
        panic!("the log does not settle");
    }

    /// What is stored equals the model, read through to the end.
    pub(crate) fn check_all(&mut self) {
        self.settle();
        let visible: Vec<(StreamId, StreamModel)> =
            self.groups.values().flat_map(|group| group.visible.clone()).collect();
        assert_eq!(self.log.stats().streams, visible.len() as u64);
        for (stream, model) in visible {
            let bounds = self.log.bounds(stream).expect("the stream is there");
            assert_eq!((bounds.start, bounds.end), (model.start, model.end), "{stream}");
            let mut offset = model.start;
            let mut read: Vec<Bytes> = Vec::new();
            while offset < model.end {
                let batches = self.read_now(stream, offset);
                offset = last_offset(batches.last().expect("more is there")) + 1;
                read.extend(batches);
            }
            assert_eq!(read, model.batches, "{stream}");
        }
    }

    pub(crate) fn read_now(&mut self, stream: StreamId, offset: u64) -> Vec<Bytes> {
        match self.log.read(stream, offset, 1000, u64::MAX) {
            ReadOutcome::Ready(batches) => batches,
            ReadOutcome::Pending(_, request) => {
                let result = execute(&*self.disk, request);
                match self.log.complete(self.now, result).unwrap() {
                    Completion::Read { batches, .. } => batches.unwrap(),
                    other => panic!("{other:?}"),
                }
            }
            other => panic!("{other:?}"),
        }
    }

    /// The power goes and comes back; everything acknowledged must still be there.
    pub(crate) fn crash(&mut self, survival: Survival<'_>) {
        self.disk.crash(survival);
        self.reopen();
    }

    pub(crate) fn reopen(&mut self) {
        self.requests.clear();
        self.results.clear();
        self.expectations.clear();
        self.searches.clear();
        let disk = self.disk.clone();
        let (mut log, mut replay) = Log::open(&*disk, self.config.clone()).expect("no false alarm");
        let end = log.wal.appended();
        let kept = self.history.partition_point(|written| written.location.payload <= end);
        let acked =
            self.history.iter().rposition(|written| written.acked).map_or(0, |last| last + 1);
        if let Some(lost) = self.history[..acked].get(kept) {
            let at = lost.location.payload;
            panic!(
                "frame {} of {:?} at {}/{} was acknowledged, but the log ends at {}/{}",
                lost.index,
                lost.group,
                at.sequence(),
                at.offset(),
                end.sequence(),
                end.offset()
            );
        }
        self.history.truncate(kept);
        self.rebuild_groups();
        let places: HashMap<FrameLocation, usize> = self
            .history
            .iter()
            .enumerate()
            .map(|(place, written)| (written.location, place))
            .collect();
        let mut applied: HashMap<GroupId, (u64, u64)> = HashMap::new();
        let mut seen = vec![false; kept];
        for replayed in &mut replay {
            match replayed.expect("was checked when it was opened") {
                Replayed::Group(group) => {
                    let vote = u64::from_be_bytes(group.blob[..8].try_into().unwrap());
                    let blob_applied = u64::from_be_bytes(group.blob[8..].try_into().unwrap());
                    assert_eq!(blob_applied, group.applied_index);
                    applied.insert(group.group, (group.applied_index, vote));
                }
                Replayed::Frame(frame) => {
                    let place = places[&frame.location];
                    let written = &self.history[place];
                    let fields = (frame.group, frame.kind, frame.term, frame.index, &frame.payload);
                    let expect = (
                        written.group,
                        written.kind,
                        written.term,
                        written.index,
                        &written.payload,
                    );
                    assert_eq!(fields, expect);
                    seen[place] = true;
                    let known = applied.entry(frame.group).or_default();
                    if frame.kind == VOTE {
                        known.1 =
                            known.1.max(u64::from_be_bytes(frame.payload[..8].try_into().unwrap()));
                        continue;
                    }
                    for (op, position) in decode(&frame.payload) {
                        if frame.index > known.0 || matches!(op, Op::Append(..)) {
                            apply_log(&mut log, &op, position, frame.location);
                        }
                    }
                }
            }
        }
        log.finish_replay(replay).expect("all streams are complete");
        for (id, group) in &self.groups {
            let (covered, vote) = applied.get(id).copied().unwrap_or_default();
            assert!(vote >= group.vote_acked, "an acknowledged vote is lost");
            for (index, place) in &group.entries {
                assert!(
                    *index <= covered || seen[*place],
                    "entry {index} of {id:?} was not replayed"
                );
            }
        }
        self.log = log;
        // What was recovered has been acted upon: from now on it must not go away.
        for written in &mut self.history {
            written.acked = true;
        }
        self.check_all();
    }

    /// The groups as the history has them: all that survived counts as committed.
    fn rebuild_groups(&mut self) {
        for group in self.groups.values_mut() {
            let Group { term, vote_acked, .. } = *group;
            *group = Group { term: term + 1, vote: vote_acked, vote_acked, ..Group::default() };
        }
        for (place, written) in self.history.iter_mut().enumerate() {
            let group = self.groups.get_mut(&written.group).unwrap();
            written.number = 0;
            if written.kind == VOTE {
                let vote = u64::from_be_bytes(written.payload[..8].try_into().unwrap());
                group.vote = group.vote.max(vote);
            } else {
                group.entries.split_off(&written.index);
                group.entries.insert(written.index, place);
            }
        }
        for group in self.groups.values_mut() {
            for place in group.entries.values() {
                for (op, _) in decode(&self.history[*place].payload) {
                    apply_model(&mut group.visible, &op);
                }
            }
            group.applied = group.entries.keys().next_back().copied().unwrap_or(0);
            group.persisted = group.applied;
            group.proposed = group.visible.clone();
        }
    }
}

fn open_empty(disk: &Arc<MemoryDisk>, config: &Config) -> Log {
    let (mut log, mut replay) = Log::open(&**disk, config.clone()).expect("an empty disk");
    assert!(replay.next().is_none());
    log.finish_replay(replay).expect("nothing to miss");
    log
}

pub(crate) fn apply_log(log: &mut Log, op: &Op, position: u32, frame: FrameLocation) {
    match op {
        Op::Create(stream) => {
            log.create_stream(*stream);
        }
        Op::Append(stream, batch) => {
            let header = BatchHeader::parse(batch).unwrap();
            let placed = log.place(Placement {
                stream: *stream,
                base_offset: header.base_offset,
                last_offset: header.last_offset,
                max_timestamp_ms: header.max_timestamp_ms,
                bytes: batch.clone(),
                frame,
                position,
            });
            let known = log.bounds(*stream).is_some();
            assert_eq!(known, placed != Placed::UnknownStream);
        }
        Op::Trim(stream, start) => {
            log.trim(*stream, *start);
        }
        Op::Delete(stream) => {
            log.delete_stream(*stream);
        }
    }
}

impl Expectation {
    fn check(&self, batches: &[Bytes]) {
        let what = format!("{} at {}", self.stream, self.offset);
        assert!(batches.len() <= self.batches.len(), "{what}");
        assert_eq!(batches, &self.batches[..batches.len()], "{what}");
        let bytes: usize = batches.iter().map(Bytes::len).sum();
        assert!(batches.len() <= 1 || bytes <= self.bytes_max, "{what}: more than asked for");
        let readable =
            self.batches.first().is_some_and(|batch| last_offset(batch) < self.offset_end);
        assert_eq!(!batches.is_empty(), readable, "{what}: one if there is one");
        assert!(batches.iter().all(|batch| last_offset(batch) < self.offset_end), "{what}");
    }
}
