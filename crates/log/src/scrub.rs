//! Reads segments in the background, a little at a time, so that damage is found before a client asks
//! for it. What lies in the WAL is young, and was read when the log was opened.

use crate::io_plan::IoRequest;
use crate::log::Log;
use crate::read::Goal;
use koine_base::{Moment, StreamId};

/// Read at a time.
const SCRUB_BYTES: usize = 1 << 20;

/// Where the scrub is.
#[derive(Default)]
pub(crate) struct Scrub {
    /// Streams of this round still to be looked at, the next one last.
    streams: Vec<StreamId>,
    /// The next offset of the last of them.
    offset: u64,
    under_way: bool,
    next_at: Option<Moment>,
}

impl Log {
    pub(crate) fn poll_scrub(&mut self, now: Moment) -> Option<IoRequest> {
        let every = self.config.scrub_every?;
        let next_at = *self.scrub.next_at.get_or_insert(now.after(self.config.scrub_pause));
        if self.scrub.under_way || now < next_at {
            return None;
        }
        while let Some(stream) = self.scrub.streams.last().copied() {
            if let Some(offset) = self.segment_offset(stream, self.scrub.offset) {
                self.scrub.under_way = true;
                self.scrub.next_at = Some(now.after(every));
                return Some(self.start_scrub_read(stream, offset));
            }
            self.scrub.streams.pop();
            self.scrub.offset = 0;
        }
        self.next_round(now);
        None
    }

    fn next_round(&mut self, now: Moment) {
        let with_segments = self.streams.iter().filter(|(_, stream)| !stream.segments.is_empty());
        let mut streams: Vec<StreamId> = with_segments.map(|(id, _)| *id).collect();
        streams.sort_unstable_by(|a, b| b.cmp(a));
        self.scrub.streams = streams;
        self.scrub.next_at = Some(now.after(self.config.scrub_pause));
    }

    /// The first offset from `offset` on that a segment holds.
    fn segment_offset(&self, stream: StreamId, offset: u64) -> Option<u64> {
        let found = self.streams.get(&stream)?;
        let run = found.segments.get(found.find_segment(offset.max(found.start)))?;
        Some(offset.max(found.start).max(run.base))
    }

    fn start_scrub_read(&mut self, stream: StreamId, offset: u64) -> IoRequest {
        let (token, request) =
            self.start_read(stream, offset, SCRUB_BYTES, u64::MAX, Goal::Batches);
        self.note_scrub(token);
        request.in_background()
    }

    /// One read of the scrub is back, and the next begins at `offset`.
    pub(crate) fn scrubbed(&mut self, offset: u64) {
        self.scrub.under_way = false;
        self.scrub.offset = self.scrub.offset.max(offset);
    }

    pub(crate) fn scrub_deadline(&self) -> Option<Moment> {
        self.scrub.next_at.filter(|_| !self.scrub.under_way && self.config.scrub_every.is_some())
    }
}
