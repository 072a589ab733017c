//! What a group is, as bytes, when a WAL file is to be given back: everything that replaying the
//! file again would tell.

use super::control::Controller;
use super::Shard;
use crate::consensus::{Configuration, HardState};
use crate::group::{DataGroup, PAGE_STREAMS};
use crate::pages::Page;
use crate::stream::{Stream, StreamMap, Subscription};
use bytes::Bytes;
use koine_base::{GroupId, Moment, StreamId};
use koine_broker::cursor::Cursor;
use koine_broker::metadata::Metadata;
use koine_broker::offsets::Offsets;
use koine_broker::once::OncePublishes;
use koine_broker::producers::Producers;
use koine_log::GroupCheckpoint;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Serialize, Deserialize)]
struct StreamState {
    stream: u64,
    start: u64,
    end: u64,
    epochs: Vec<(u32, u64)>,
    cursor: Option<Vec<u8>>,
    producers: Option<Vec<u8>>,
    once: Option<Vec<u8>>,
}

/// Before the pages: so many of streams (each a list of [`StreamState`]), then so many of consumer
/// groups' offsets (each a name and bytes).
#[derive(Serialize, Deserialize)]
struct GroupHead {
    term: u64,
    vote: u64,
    configuration: Configuration,
    incarnation: u8,
    stream_pages: u64,
    offset_pages: u64,
}

/// Before the retained messages.
#[derive(Serialize, Deserialize)]
struct ControlHead {
    term: u64,
    vote: u64,
    configuration: Configuration,
    metadata_bytes: u64,
}

/// A checkpoint's bytes are not what this version writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnreadableCheckpoint;

pub(super) struct ControlParts<'a> {
    pub hard_state: HardState,
    pub configuration: Configuration,
    pub metadata: &'a [u8],
    /// The pages of a [`koine_broker::retained::RetainedStore`].
    pub retained: &'a [u8],
}

pub(super) fn decode_control(bytes: &[u8]) -> Result<ControlParts<'_>, UnreadableCheckpoint> {
    let (head, rest) = take::<ControlHead>(bytes)?;
    let metadata_bytes = usize::try_from(head.metadata_bytes).map_err(|_| UnreadableCheckpoint)?;
    let (metadata, retained) = rest.split_at_checked(metadata_bytes).ok_or(UnreadableCheckpoint)?;
    let hard_state = HardState { term: head.term, vote: head.vote };
    Ok(ControlParts { hard_state, configuration: head.configuration, metadata, retained })
}

fn take<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<(T, &'a [u8]), UnreadableCheckpoint> {
    postcard::take_from_bytes(bytes).map_err(|_| UnreadableCheckpoint)
}

fn put(value: &impl Serialize) -> Bytes {
    postcard::to_allocvec(value).expect("encoding to memory cannot fail").into()
}

/// Each stream of a data group's checkpoint with its end.
pub(super) fn decode_ends(bytes: &[u8]) -> Result<Vec<(StreamId, u64)>, UnreadableCheckpoint> {
    let (head, mut rest) = take::<GroupHead>(bytes)?;
    let mut ends = Vec::new();
    for _ in 0..head.stream_pages {
        let (streams, behind) = take::<Vec<StreamState>>(rest)?;
        rest = behind;
        ends.extend(streams.iter().map(|state| (StreamId::from_raw(state.stream), state.end)));
    }
    Ok(ends)
}

/// The whole of it in one piece, made anew.
pub(super) fn encode_group(group: &DataGroup) -> Vec<u8> {
    let pages: std::collections::BTreeSet<u64> =
        group.streams.keys().map(|id| id.sequence() / PAGE_STREAMS).collect();
    let streams: Vec<Page> = pages
        .iter()
        .filter_map(|page| encode_stream_page(group.id, &group.streams, *page))
        .collect();
    let offsets: Vec<Page> =
        group.offsets.keys().filter_map(|name| encode_offsets_page(&group.offsets, name)).collect();
    let mut all = group_head(group, streams.len(), offsets.len()).to_vec();
    for part in streams.iter().chain(&offsets).flat_map(|page| page.iter()) {
        all.extend_from_slice(part);
    }
    all
}

fn group_head(group: &DataGroup, stream_pages: usize, offset_pages: usize) -> Bytes {
    let HardState { term, vote } = group.hard_state;
    put(&GroupHead {
        term,
        vote,
        configuration: group.consensus.configuration(),
        incarnation: group.incarnation,
        stream_pages: stream_pages as u64,
        offset_pages: offset_pages as u64,
    })
}

fn encode_stream_page(id: GroupId, streams: &StreamMap, page: u64) -> Option<Page> {
    let numbers = page * PAGE_STREAMS..(page + 1) * PAGE_STREAMS;
    let ids = numbers.map(|sequence| StreamId::new(id, sequence));
    let states: Vec<StreamState> =
        ids.filter_map(|id| encode_stream(id, streams.get(&id)?)).collect();
    (!states.is_empty()).then(|| Arc::from([put(&states)]))
}

fn encode_offsets_page(all: &BTreeMap<String, Offsets>, name: &str) -> Option<Page> {
    let mut bytes = Vec::new();
    all.get(name)?.encode(&mut bytes);
    Some(Arc::from([put(&(name, bytes))]))
}

/// `None` if there is nothing to say of it: somebody has looked at it, and no more.
fn encode_stream(id: StreamId, stream: &Stream) -> Option<StreamState> {
    let subscription = stream.subscription.as_ref();
    let cursor = subscription.filter(|it| !it.cursor.is_new_at(stream.start)).map(|it| {
        let mut bytes = Vec::new();
        it.cursor.encode(&mut bytes);
        bytes
    });
    let producers = stream.producers.as_ref().filter(|it| !it.is_empty()).map(|producers| {
        let mut bytes = Vec::new();
        producers.encode(&mut bytes);
        bytes
    });
    let once = stream.once.as_ref().filter(|once| !once.is_empty()).map(|once| {
        let mut bytes = Vec::new();
        once.encode(&mut bytes);
        bytes
    });
    let is_blank = stream.end == 0 && cursor.is_none() && producers.is_none() && once.is_none();
    (!is_blank).then(|| StreamState {
        stream: id.raw(),
        start: stream.start,
        end: stream.end,
        epochs: stream.epochs.clone(),
        cursor,
        producers,
        once,
    })
}

/// Fills a fresh group from its checkpoint; returns who voted.
pub(super) fn decode_group(
    group: &mut DataGroup,
    bytes: &[u8],
) -> Result<Configuration, UnreadableCheckpoint> {
    let (head, mut rest) = take::<GroupHead>(bytes)?;
    group.hard_state = HardState { term: head.term, vote: head.vote };
    group.incarnation = head.incarnation;
    group.pages.streams.touch_all();
    group.pages.offsets.touch_all();
    for _ in 0..head.stream_pages {
        let (streams, behind) = take::<Vec<StreamState>>(rest)?;
        rest = behind;
        decode_streams(group, streams)?;
    }
    for _ in 0..head.offset_pages {
        let ((name, bytes), behind) = take::<(String, Vec<u8>)>(rest)?;
        rest = behind;
        let offsets = Offsets::decode(&mut &bytes[..]).map_err(|_| UnreadableCheckpoint)?;
        group.pages.offsets.touch(name.clone());
        group.offsets.insert(name, offsets);
    }
    match rest.is_empty() {
        true => Ok(head.configuration),
        false => Err(UnreadableCheckpoint),
    }
}

/// Who voted in a data group.
pub(super) fn decode_configuration(bytes: &[u8]) -> Result<Configuration, UnreadableCheckpoint> {
    Ok(take::<GroupHead>(bytes)?.0.configuration)
}

fn decode_streams(
    group: &mut DataGroup,
    streams: Vec<StreamState>,
) -> Result<(), UnreadableCheckpoint> {
    for stored in streams {
        group.pages.touch(StreamId::from_raw(stored.stream));
        let stream = group.stream(StreamId::from_raw(stored.stream));
        stream.start = stored.start;
        stream.end = stored.end;
        stream.next = stored.end;
        stream.epochs = stored.epochs;
        if let Some(bytes) = stored.cursor {
            let cursor = Cursor::decode(&mut &bytes[..]).map_err(|_| UnreadableCheckpoint)?;
            stream.subscription = Some(Box::new(Subscription::new(cursor)));
        }
        if let Some(bytes) = stored.producers {
            let producers = Producers::decode(&mut &bytes[..]).map_err(|_| UnreadableCheckpoint)?;
            stream.producers = Some(Box::new(producers));
        }
        if let Some(bytes) = stored.once {
            let once = OncePublishes::decode(&mut &bytes[..]).map_err(|_| UnreadableCheckpoint)?;
            stream.once = Some(Box::new(once));
        }
    }
    Ok(())
}

/// Pages made in one step: what a shard does between two looks at its sockets, well below a
/// millisecond.
const STEP_STREAM_PAGES: usize = 64;
const STEP_OFFSET_PAGES: usize = 256;
const STEP_RETAINED_PAGES: usize = 32;

/// How soon the next step follows if nothing else happens.
const STEP_EVERY_MS: u64 = 1;

impl Shard {
    /// Gives the log the state of every group when it wants to let a WAL file go. What changed since the
    /// last time is encoded in steps first.
    pub(super) fn checkpoint_if_due(&mut self) {
        self.next_checkpoint_step = Moment::NEVER;
        if !self.log.checkpoint_due(self.now.moment) {
            return;
        }
        if !self.prepare_checkpoint() {
            self.next_checkpoint_step = self.now.moment.after_ms(STEP_EVERY_MS);
            return;
        }
        let control = self.checkpoint_of_control();
        let groups = self.groups.values_mut().map(checkpoint_of_group);
        let mut groups: Vec<GroupCheckpoint> = control.into_iter().chain(groups).collect();
        groups.extend(self.checkpoint_stages());
        self.log.checkpoint(groups);
    }

    /// One step; true if what is left can be done at once.
    fn prepare_checkpoint(&mut self) -> bool {
        let mut is_ready = true;
        if let Some(controller) = &mut self.controller {
            let Controller { retained, pages, .. } = controller;
            for page in retained.take_touched() {
                pages.retained.touch(page);
            }
            let encode = |page: &u32| retained.encode_page(*page).map(Arc::from);
            is_ready &= pages.retained.prepare(STEP_RETAINED_PAGES, encode);
        }
        let metadata = &self.metadata;
        for group in self.groups.values_mut() {
            let DataGroup { id, streams, offsets, pages, .. } = group;
            is_ready &= pages.streams.prepare(STEP_STREAM_PAGES, |page| {
                sweep_once(metadata, *id, streams, *page);
                encode_stream_page(*id, streams, *page)
            });
            let encode = |name: &String| encode_offsets_page(offsets, name);
            is_ready &= pages.offsets.prepare(STEP_OFFSET_PAGES, encode);
        }
        is_ready
    }

    /// Group 0's in one piece, made anew.
    pub(super) fn encode_control(&self, controller: &Controller) -> Vec<u8> {
        let metadata = self.metadata.encode();
        let mut all = control_head(controller, metadata.len()).to_vec();
        all.extend_from_slice(&metadata);
        for part in controller.retained.encode_pages() {
            all.extend_from_slice(&part);
        }
        all
    }

    fn checkpoint_of_control(&mut self) -> Option<GroupCheckpoint> {
        let controller = self.controller.as_mut()?;
        let Controller { retained, pages, .. } = controller;
        let revision = self.metadata.revision();
        let known = pages.metadata.take().filter(|(of, _)| *of == revision);
        let (_, metadata) =
            known.unwrap_or_else(|| (revision, Bytes::from(self.metadata.encode())));
        pages.metadata = Some((revision, metadata.clone()));
        for page in retained.take_touched() {
            pages.retained.touch(page);
        }
        let encode = |page: &u32| retained.encode_page(*page).map(Arc::from);
        let of_retained = pages.retained.finish(encode);
        let head = control_head(controller, metadata.len());
        Some(GroupCheckpoint {
            group: GroupId::METADATA,
            applied_index: controller.applied.index,
            applied_term: controller.applied.term,
            blob: head,
            pages: std::iter::once(Page::from([metadata])).chain(of_retained).collect(),
        })
    }
}

fn control_head(controller: &Controller, metadata_bytes: usize) -> Bytes {
    let HardState { term, vote } = controller.hard_state;
    let configuration = controller.consensus.configuration();
    put(&ControlHead { term, vote, configuration, metadata_bytes: metadata_bytes as u64 })
}

fn checkpoint_of_group(group: &mut DataGroup) -> GroupCheckpoint {
    let DataGroup { id, streams, offsets, pages, .. } = group;
    let mut all = pages.streams.finish(|page| encode_stream_page(*id, streams, *page));
    let stream_pages = all.len();
    all.extend(pages.offsets.finish(|name| encode_offsets_page(offsets, name)));
    let blob = group_head(group, stream_pages, all.len() - stream_pages);
    #[cfg(debug_assertions)]
    {
        let parts = all.iter().flat_map(|page| page.iter().map(|part| &part[..]));
        let whole: Vec<&[u8]> = std::iter::once(&blob[..]).chain(parts).collect();
        assert!(whole.concat() == encode_group(group), "a page changed without a touch");
    }
    GroupCheckpoint {
        group: group.id,
        applied_index: group.applied.index,
        applied_term: group.applied.term,
        blob,
        pages: all,
    }
}

/// Forgets the exactly-once publishes that are released, before they would reach a checkpoint.
fn sweep_once(metadata: &Metadata, group: GroupId, streams: &mut StreamMap, page: u64) {
    for sequence in page * PAGE_STREAMS..(page + 1) * PAGE_STREAMS {
        let stream = streams.get_mut(&StreamId::new(group, sequence));
        if let Some(once) = stream.and_then(|stream| stream.once.as_mut()) {
            once.sweep(|id| metadata.is_once_open(id));
        }
    }
}
