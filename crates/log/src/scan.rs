//! Walks over the frames of one WAL file on disk, and decides what a bad frame means. A torn tail was
//! never acknowledged and is cut off; damage below a position that is known to have been durable is
//! corruption, and is never cut off.

use crate::config::FRAME_PAYLOAD_BYTES_MAX;
use crate::format::{FrameHeader, WalPosition, FRAME_ALIGN, FRAME_HEADER_BYTES, WAL_FRAMES_AT};
use crate::repair::{mend_body, mend_header, Flip};
use koine_base::checksum::crc32c;
use koine_base::disk::{Disk, FileId};
use std::io;

/// How far behind a damaged frame, or behind the last mark, recovery looks for proof that it had been
/// durable. The writer's marks are at most `MARK_INTERVAL_BYTES` old, and no more than one write and the
/// relaxed bytes lie behind a durable position, so that proof, if there is any, starts before this.
pub(crate) const PROOF_BYTES: u64 = 8 << 20;

/// Read at once while walking.
const READ_BYTES: usize = 1 << 20;

pub(crate) enum Step<'a> {
    Frame {
        header: FrameHeader,
        position: WalPosition,
        payload: &'a [u8],
    },
    /// No intact frame here. `next` is where one could follow, if the header is readable.
    Bad {
        position: u32,
        next: Option<u32>,
    },
    /// The limit.
    End,
}

enum Body {
    Intact,
    Mended(Flip),
    Damaged,
}

fn decode_header(bytes: &[u8], place: WalPosition) -> Option<FrameHeader> {
    let header = FrameHeader::decode(bytes, place);
    header.filter(|header| header.length as usize <= FRAME_PAYLOAD_BYTES_MAX)
}

pub(crate) struct Scanner<'d> {
    disk: &'d dyn Disk,
    file: FileId,
    sequence: u32,
    /// Where the next frame starts.
    pub position: u32,
    limit: u32,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were read.
    filled: usize,
    /// Where in the file they come from.
    buffer_at: u64,
    /// Bits of the frames passed so far that are inverted on disk, by position in the file. The frames
    /// were handed out with them put right.
    pub flips: Vec<Flip>,
}

impl<'d> Scanner<'d> {
    /// Frames of `file` up to `limit`.
    pub(crate) fn new(disk: &'d dyn Disk, file: FileId, sequence: u32, limit: u32) -> Self {
        Scanner {
            disk,
            file,
            sequence,
            position: WAL_FRAMES_AT,
            limit,
            buffer: Vec::new(),
            filled: 0,
            buffer_at: 0,
            flips: Vec::new(),
        }
    }

    /// Bytes of the file from `at`; fewer than `count` only at its end. The buffer is used again and
    /// again, and what it still holds of the bytes asked for is not read twice.
    fn window(&mut self, at: u64, count: usize) -> io::Result<&[u8]> {
        let have = at.checked_sub(self.buffer_at).map(|from| from as usize);
        if have.is_none_or(|from| from + count > self.filled) {
            let still = have.map_or(0..0, |from| from.min(self.filled)..self.filled);
            let (kept, wanted) = (still.len(), count.max(READ_BYTES));
            if self.buffer.len() < wanted {
                // Memory that is zero already costs nothing until it is read into.
                let smaller = std::mem::replace(&mut self.buffer, vec![0; wanted]);
                self.buffer[..kept].copy_from_slice(&smaller[still]);
            } else {
                self.buffer.copy_within(still, 0);
            }
            let rest = &mut self.buffer[kept..wanted];
            self.filled = kept;
            self.buffer_at = at;
            self.filled += self.disk.read_at(self.file, at + kept as u64, rest)?;
        }
        let from = (at - self.buffer_at) as usize;
        let to = (from + count).min(self.filled);
        Ok(&self.buffer[from.min(to)..to])
    }

    fn header_at(&mut self, position: u32) -> io::Result<Option<FrameHeader>> {
        let place = WalPosition::new(self.sequence, position);
        let bytes = self.window(u64::from(position), FRAME_HEADER_BYTES)?;
        Ok(decode_header(bytes, place))
    }

    /// The frame at `position`, which then moves behind it. A single inverted bit is put right.
    pub(crate) fn next(&mut self) -> io::Result<Step<'_>> {
        let position = self.position;
        if u64::from(position) + FRAME_HEADER_BYTES as u64 > u64::from(self.limit) {
            return Ok(Step::End);
        }
        let intact = self.header_at(position)?;
        let (header, flip) = match intact {
            Some(header) => (header, None),
            None => match self.mended_header(position)? {
                Some((header, flip)) => (header, Some(flip)),
                None => return Ok(Step::Bad { position, next: None }),
            },
        };
        let end = u64::from(position) + header.total_bytes();
        if end > u64::from(self.limit) {
            return Ok(Step::Bad { position, next: None });
        }
        let end = end as u32;
        match self.check_body(position, end, &header, flip.is_none())? {
            Body::Intact => self.flips.extend(flip),
            Body::Mended(flip) => self.flips.push(flip),
            // With a second thing wrong a mended header proves nothing.
            Body::Damaged => {
                let next = flip.is_none().then_some(end);
                return Ok(Step::Bad { position, next });
            }
        }
        self.position = end;
        let place = WalPosition::new(self.sequence, position);
        let body_at = u64::from(position) + FRAME_HEADER_BYTES as u64;
        let payload = self.window(body_at, header.length as usize)?;
        Ok(Step::Frame { header, position: place, payload })
    }

    fn mended_header(&mut self, position: u32) -> io::Result<Option<(FrameHeader, Flip)>> {
        let place = WalPosition::new(self.sequence, position);
        let bytes = self.window(u64::from(position), FRAME_HEADER_BYTES)?;
        let mended = mend_header(&mut bytes.to_vec(), |bytes| decode_header(bytes, place));
        Ok(mended.map(|(header, flip)| (header, flip.behind(u64::from(position)))))
    }

    /// Looks at the body of the frame at `position`, and puts one bit of it right if `may_mend`.
    fn check_body(
        &mut self,
        position: u32,
        end: u32,
        header: &FrameHeader,
        may_mend: bool,
    ) -> io::Result<Body> {
        let body_at = u64::from(position) + FRAME_HEADER_BYTES as u64;
        let body_bytes = (end - position) as usize - FRAME_HEADER_BYTES;
        let body = self.window(body_at, body_bytes)?;
        if body.len() != body_bytes {
            return Ok(Body::Damaged);
        }
        if crc32c(body) == header.body.crc {
            return Ok(Body::Intact);
        }
        let from = (body_at - self.buffer_at) as usize;
        let body = &mut self.buffer[from..from + body_bytes];
        let flip = if may_mend { mend_body(body, header.body) } else { None };
        Ok(flip.map_or(Body::Damaged, |flip| Body::Mended(flip.behind(body_at))))
    }

    pub(crate) fn sequence(&self) -> u32 {
        self.sequence
    }

    /// What can be read of the bad frame at `position`: its header if that is intact, and the bytes up
    /// to `next`.
    pub(crate) fn damaged(
        &mut self,
        position: u32,
        next: Option<u32>,
    ) -> io::Result<(Option<FrameHeader>, Vec<u8>)> {
        let (Some(header), Some(next)) = (self.header_at(position)?, next) else {
            return Ok((None, Vec::new()));
        };
        let body_at = position + FRAME_HEADER_BYTES as u32;
        let length = (header.length).min(next.saturating_sub(body_at));
        Ok((Some(header), self.window(u64::from(body_at), length as usize)?.to_vec()))
    }

    /// Moves to the next intact header behind a bad frame; false if there is none.
    pub(crate) fn skip_to_next(&mut self, position: u32, next: Option<u32>) -> io::Result<bool> {
        let mut at = next.unwrap_or(position + FRAME_ALIGN);
        while u64::from(at) + FRAME_HEADER_BYTES as u64 <= u64::from(self.limit) {
            if next == Some(at) || self.header_at(at)?.is_some() {
                self.position = at;
                return Ok(true);
            }
            at += FRAME_ALIGN;
        }
        // All up to the limit is damaged.
        self.position = self.limit;
        Ok(false)
    }

    /// Looks behind a bad frame for an intact header that says "all up to here was durable" with a
    /// position above the bad one. `known` is a position that is durable anyway.
    pub(crate) fn was_durable(
        &mut self,
        position: u32,
        next: Option<u32>,
        known: WalPosition,
    ) -> io::Result<bool> {
        let bad = WalPosition::new(self.sequence, position);
        if known > bad {
            return Ok(true);
        }
        let from = next.unwrap_or(position + FRAME_ALIGN);
        let until = (u64::from(from) + PROOF_BYTES).min(u64::from(self.limit));
        self.find_header(from, until, |header| header.durable > bad)
    }

    fn find_header(
        &mut self,
        from: u32,
        until: u64,
        proof: impl Fn(&FrameHeader) -> bool,
    ) -> io::Result<bool> {
        let mut at = from;
        while u64::from(at) + FRAME_HEADER_BYTES as u64 <= until {
            // The place is compared before anything is computed, so that stale bytes cost little.
            if self.header_at(at)?.is_some_and(|header| proof(&header)) {
                return Ok(true);
            }
            at += FRAME_ALIGN;
        }
        Ok(false)
    }
}

/// True if a file whose header is damaged holds frames of a sequence number above `newest`: they may
/// have been acknowledged.
pub(crate) fn holds_newer_frames(
    disk: &dyn Disk,
    file: FileId,
    newest: u32,
    header_blank: bool,
) -> io::Result<bool> {
    // Frames are written only after the header was synced. Where that is zero nothing was ever written,
    // unless the block itself was lost: then at least the first frame is still there.
    let bytes = if header_blank { FRAME_HEADER_BYTES } else { PROOF_BYTES as usize };
    let mut buffer = vec![0; bytes];
    let count = disk.read_at(file, u64::from(WAL_FRAMES_AT), &mut buffer)?;
    let mut at = 0;
    while at + FRAME_HEADER_BYTES <= count {
        let sequence = u32::from_le_bytes([
            buffer[at + 24],
            buffer[at + 25],
            buffer[at + 26],
            buffer[at + 27],
        ]);
        let place = WalPosition::new(sequence, WAL_FRAMES_AT + at as u32);
        if sequence > newest && FrameHeader::decode(&buffer[at..], place).is_some() {
            return Ok(true);
        }
        at += FRAME_ALIGN as usize;
    }
    Ok(false)
}
