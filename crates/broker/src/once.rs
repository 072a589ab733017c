//! What one stream knows of the exactly-once publishes (MQTT QoS 2) that are stored in it and not
//! released yet: enough to recognise a publisher's repetition, whether the first copy is in the log or
//! on its way there. An entry of the log carries a record and its [`OnceId`] together, so a crash keeps
//! both or neither.
//!
//! Entries go when their publisher has released the packet identifier, which metadata knows
//! ([`crate::metadata::Metadata::is_once_open`]). No clock, no order among publishers.

use crate::metadata::SessionId;
use crate::snapshot::{put_number, take_as, take_count, take_format, take_number, SnapshotError};
use std::collections::HashMap;

const FORMAT: u8 = 1;

/// Entries below which nothing is swept. Above, a sweep is due when as many new ones have come as the
/// last sweep left, so that its cost is spread over them, and a stream holds at most twice what is open.
const SWEEP_MIN: usize = 64;

/// One use of a packet identifier, from its PUBLISH to its release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OnceId {
    pub session: SessionId,
    pub packet_identifier: u16,
    /// Given by group 0 when the use was noted, before anything is stored. Never given again.
    pub use_number: u64,
}

impl OnceId {
    pub const BYTES: usize = 8 + 2 + 8;

    /// `session u64 | packet identifier u16 | use number u64`, big-endian.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.session.0.to_be_bytes());
        bytes[8..10].copy_from_slice(&self.packet_identifier.to_be_bytes());
        bytes[10..].copy_from_slice(&self.use_number.to_be_bytes());
        bytes
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<OnceId> {
        let (session, bytes) = bytes.split_first_chunk::<8>()?;
        let (packet_identifier, bytes) = bytes.split_first_chunk::<2>()?;
        Some(OnceId {
            session: SessionId(u64::from_be_bytes(*session)),
            packet_identifier: u16::from_be_bytes(*packet_identifier),
            use_number: u64::from_be_bytes(<[u8; 8]>::try_from(bytes).ok()?),
        })
    }
}

/// Whether a copy may be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sighting {
    New,
    /// The first copy is on its way: its fate is the answer.
    UnderWay,
    Stored,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    use_number: u64,
    committed: bool,
}

/// The exactly-once publishes of one stream.
#[derive(Clone, Debug, Default)]
pub struct OncePublishes {
    seen: HashMap<(SessionId, u16), Seen>,
    /// Entries that the last sweep left.
    kept: usize,
}

impl OncePublishes {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn len(&self) -> usize {
        self.seen.len()
    }

    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// On the leader, before a copy is appended.
    pub fn sighting(&self, id: &OnceId) -> Sighting {
        match self.seen.get(&(id.session, id.packet_identifier)) {
            Some(seen) if seen.use_number == id.use_number => match seen.committed {
                true => Sighting::Stored,
                false => Sighting::UnderWay,
            },
            // A later use is known, so this one was released: a repetition that lost its way.
            Some(seen) if seen.use_number > id.use_number => Sighting::Stored,
            _ => Sighting::New,
        }
    }

    /// On the leader: a copy is on its way.
    pub fn propose(&mut self, id: &OnceId) {
        self.note(id, false);
    }

    /// On every replica, for each committed copy, in the order of the log.
    pub fn commit(&mut self, id: &OnceId) {
        self.note(id, true);
    }

    fn note(&mut self, id: &OnceId, committed: bool) {
        let seen = Seen { use_number: id.use_number, committed };
        self.seen.insert((id.session, id.packet_identifier), seen);
    }

    /// Forgets what was on its way: leadership or the proposals were lost.
    pub fn abandon_proposed(&mut self) {
        self.seen.retain(|_, seen| seen.committed);
    }

    pub fn is_sweep_due(&self) -> bool {
        self.seen.len() >= SWEEP_MIN.max(2 * self.kept)
    }

    /// Forgets what is released.
    pub fn sweep(&mut self, is_open: impl Fn(&OnceId) -> bool) {
        self.seen.retain(|(session, packet_identifier), seen| {
            let (session, packet_identifier) = (*session, *packet_identifier);
            is_open(&OnceId { session, packet_identifier, use_number: seen.use_number })
        });
        self.seen.shrink_to(2 * self.seen.len());
        self.kept = self.seen.len();
    }

    /// What is committed.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(FORMAT);
        let mut all: Vec<_> = self.seen.iter().filter(|(_, seen)| seen.committed).collect();
        all.sort_unstable_by_key(|(key, _)| **key);
        put_number(out, all.len() as u64);
        for ((session, packet_identifier), seen) in all {
            put_number(out, session.0);
            put_number(out, u64::from(*packet_identifier));
            put_number(out, seen.use_number);
        }
    }

    pub fn decode(input: &mut &[u8]) -> Result<Self, SnapshotError> {
        take_format(input, FORMAT)?;
        let mut once = OncePublishes::new();
        for _ in 0..take_count(input, 3)? {
            once.commit(&OnceId {
                session: SessionId(take_number(input)?),
                packet_identifier: take_as(input)?,
                use_number: take_number(input)?,
            });
        }
        once.kept = once.seen.len();
        Ok(once)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(session: u64, packet_identifier: u16, use_number: u64) -> OnceId {
        OnceId { session: SessionId(session), packet_identifier, use_number }
    }

    #[test]
    fn a_repetition_is_recognised_and_a_new_use_is_not() {
        let mut once = OncePublishes::new();
        assert_eq!(once.sighting(&id(1, 7, 3)), Sighting::New);
        once.propose(&id(1, 7, 3));
        assert_eq!(once.sighting(&id(1, 7, 3)), Sighting::UnderWay);
        once.commit(&id(1, 7, 3));
        assert_eq!(once.sighting(&id(1, 7, 3)), Sighting::Stored);
        for other in [id(2, 7, 3), id(1, 8, 3), id(1, 7, 4)] {
            assert_eq!(once.sighting(&other), Sighting::New, "{other:?}");
        }
        assert_eq!(once.sighting(&id(1, 7, 2)), Sighting::Stored, "released long ago");
        once.propose(&id(1, 8, 9));
        once.abandon_proposed();
        assert_eq!(once.sighting(&id(1, 8, 9)), Sighting::New);
        assert_eq!(once.len(), 1);
    }

    #[test]
    fn what_is_released_is_swept_in_proportion_to_what_comes() {
        let mut once = OncePublishes::new();
        let mut sweeps = 0;
        for packet in 0..10_000u16 {
            if once.is_sweep_due() {
                sweeps += 1;
                once.sweep(|id| id.packet_identifier + 10 > packet);
            }
            once.commit(&id(1, packet, u64::from(packet)));
            assert!(once.len() <= SWEEP_MIN);
        }
        assert!(sweeps < 10_000 / (SWEEP_MIN - 10) + 2, "{sweeps}");
        assert_eq!(once.sighting(&id(1, 9_999, 9_999)), Sighting::Stored);
    }

    #[test]
    fn snapshots_hold_what_is_committed() {
        let mut once = OncePublishes::new();
        for packet in [9, 3, 65_535] {
            once.commit(&id(u64::MAX, packet, 1 << 40));
        }
        once.propose(&id(1, 1, 1));
        let mut bytes = Vec::new();
        once.encode(&mut bytes);
        let decoded = OncePublishes::decode(&mut &bytes[..]).expect("just encoded");
        once.abandon_proposed();
        assert_eq!(decoded.seen, once.seen);
        for cut in 0..bytes.len() {
            assert!(OncePublishes::decode(&mut &bytes[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn ids_travel_as_bytes() {
        let all = id(0x0102_0304_0506_0708, 0x090A, u64::MAX);
        assert_eq!(OnceId::from_bytes(&all.to_bytes()), Some(all));
        assert_eq!(OnceId::from_bytes(&all.to_bytes()[1..]), None);
    }
}
