//! What the client publishes with QoS 1 and 2, until it is acknowledged. Acknowledgements leave in the
//! order of the publishes (MQTT 5 §4.6.0), however their commits come back; identifiers of QoS 2 are
//! held until PUBREL, so that a repetition is not published twice (§4.3.3).
//!
//! In a session that outlives its connection a QoS 2 publish goes in two steps: group 0 notes the use of
//! its identifier and gives it a number, and only then copies are stored, under that number. So whatever
//! a crash leaves, a repetition finds the number of the first try, and the streams know what they hold.

use crate::codec::Qos;
use crate::error::ReasonCode;
use std::collections::{BTreeMap, VecDeque};

/// Number of a [`Notes`] batch; 0 needs no note.
type Note = u64;

/// Changes of the durable part of a session, batched: one command is under way at a time and carries
/// all that came up meanwhile.
#[derive(Debug, Default)]
pub struct Notes {
    changes: Changes,
    /// Identifiers of the batch under way whose use begins.
    noting: Vec<u16>,
    /// The last batch that was proposed.
    proposed: Note,
    committed: Note,
}

/// Packet identifiers to note or forget. What is released was noted by an earlier batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub noted: Vec<u16>,
    /// With the number of the use.
    pub released: Vec<(u16, u64)>,
    pub unreleased: Vec<(u16, bool)>,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.noted.is_empty() && self.released.is_empty() && self.unreleased.is_empty()
    }
}

impl Notes {
    fn note(&mut self, packet_identifier: u16) {
        self.changes.noted.push(packet_identifier);
    }

    fn release(&mut self, packet_identifier: u16, use_number: u64) -> Note {
        self.changes.released.push((packet_identifier, use_number));
        self.proposed + 1
    }

    pub fn unreleased(&mut self, packet_identifier: u16, keep: bool) {
        self.changes.unreleased.push((packet_identifier, keep));
    }

    /// The next batch to propose, if none is under way.
    pub fn take(&mut self) -> Option<Changes> {
        if self.proposed > self.committed || self.changes.is_empty() {
            return None;
        }
        self.proposed += 1;
        self.noting.clone_from(&self.changes.noted);
        Some(std::mem::take(&mut self.changes))
    }

    /// What is not proposed yet, whatever is under way: the connection ends. Nothing was stored under
    /// identifiers that are not noted yet.
    pub fn take_rest(&mut self) -> Changes {
        self.changes.noted.clear();
        std::mem::take(&mut self.changes)
    }

    fn is_committed(&self, note: Note) -> bool {
        note <= self.committed
    }
}

#[derive(Debug)]
struct Pending {
    packet_identifier: u16,
    qos: Qos,
    reason: ReasonCode,
    /// Commits still to come.
    parts: u8,
    /// What has to be forgotten before a refusal is told.
    note: Note,
    bytes: usize,
}

/// Where an exactly-once publish stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// Not known: a new message.
    New,
    /// An earlier connection noted this use. Whether its copies are stored the streams know.
    Noted(u64),
    /// Being noted or published; PUBREC follows.
    Publishing,
    /// PUBREC was sent.
    Received,
}

/// The use of an identifier by this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Use {
    /// Of the note; `None` if nothing about it outlives the connection, or not yet.
    number: Option<u64>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Resumed,
    Publishing,
    Received,
}

/// An acknowledgement that may be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Puback(u16, ReasonCode),
    Pubrec(u16, ReasonCode),
    Pubcomp(u16, ReasonCode),
}

#[derive(Debug, Default)]
pub struct Incoming {
    queue: VecDeque<Pending>,
    /// Sequence number of the front of `queue`.
    first: u64,
    /// Payload bytes of `queue`.
    bytes: usize,
    /// QoS 2, until PUBREL.
    uses: BTreeMap<u16, Use>,
    /// QoS 1 in `queue`.
    at_least_once_count: usize,
    /// PUBCOMPs that wait for their note.
    completions: VecDeque<(u16, Note)>,
    pub notes: Notes,
}

impl Incoming {
    /// Publishes that the client counts against our receive maximum.
    pub fn open_count(&self) -> usize {
        self.at_least_once_count + self.uses.len() + self.completions.len()
    }

    /// Payload bytes that wait for their commit.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Identifiers that an earlier connection of the session noted.
    pub fn resume(&mut self, noted: impl IntoIterator<Item = (u16, u64)>) {
        self.uses.extend(
            noted.into_iter().map(|(packet, number)| {
                (packet, Use { number: Some(number), stage: Stage::Resumed })
            }),
        );
    }

    pub fn receipt(&self, packet_identifier: u16) -> Receipt {
        match self.uses.get(&packet_identifier) {
            None => Receipt::New,
            Some(Use { number: Some(number), stage: Stage::Resumed }) => Receipt::Noted(*number),
            Some(Use { stage: Stage::Received, .. }) => Receipt::Received,
            Some(_) => Receipt::Publishing,
        }
    }

    /// The sequence number that the next [`Self::begin`] gives.
    pub fn next_sequence(&self) -> u64 {
        self.first + self.queue.len() as u64
    }

    /// Takes on a publish whose answer waits for `parts` commits (0: none).
    pub fn begin(
        &mut self,
        packet_identifier: u16,
        qos: Qos,
        reason: ReasonCode,
        parts: u8,
        bytes: usize,
    ) {
        match qos {
            Qos::AtMostOnce => {}
            Qos::AtLeastOnce => self.at_least_once_count += 1,
            Qos::ExactlyOnce => {
                let unknown = Use { number: None, stage: Stage::Publishing };
                self.uses.entry(packet_identifier).or_insert(unknown).stage = Stage::Publishing;
            }
        }
        self.bytes += bytes;
        self.queue.push_back(Pending { packet_identifier, qos, reason, parts, note: 0, bytes });
    }

    /// The publish just begun waits until the use of its identifier is noted.
    pub fn note_last(&mut self) {
        if let Some(pending) = self.queue.back() {
            let packet = pending.packet_identifier;
            self.notes.note(packet);
        }
    }

    /// The batch under way is committed; `use_number` is that of the uses it noted.
    pub fn noted(&mut self, use_number: u64) {
        self.notes.committed = self.notes.proposed;
        for packet in std::mem::take(&mut self.notes.noting) {
            if let Some(entry) = self.uses.get_mut(&packet) {
                entry.number = Some(use_number);
            }
        }
    }

    /// The number under which copies are stored, once it is known.
    pub fn use_number(&self, packet_identifier: u16) -> Option<u64> {
        self.uses.get(&packet_identifier)?.number
    }

    /// One commit of publish `sequence` came back. With `forgets`, a refusal ends the use of a QoS 2
    /// identifier that was noted, and is told after that.
    pub fn part_done(&mut self, sequence: u64, failure: Option<ReasonCode>, forgets: bool) {
        let Some(index) = sequence.checked_sub(self.first) else { return };
        let Some(pending) = self.queue.get_mut(index as usize) else { return };
        pending.parts = pending.parts.saturating_sub(1);
        if let Some(reason) = failure {
            pending.reason = reason;
        }
        if pending.parts > 0 {
            return;
        }
        self.bytes -= std::mem::take(&mut pending.bytes);
        if forgets && pending.qos == Qos::ExactlyOnce && pending.reason.is_failure() {
            let packet = pending.packet_identifier;
            let number = self.uses.get(&packet).and_then(|entry| entry.number);
            pending.note = number.map_or(0, |number| self.notes.release(packet, number));
        }
    }

    /// PUBREL: the identifier may be used again. False if it was not held.
    pub fn release(&mut self, packet_identifier: u16) -> bool {
        let Some(entry) = self.uses.get(&packet_identifier) else { return false };
        if !matches!(entry.stage, Stage::Resumed | Stage::Received) {
            return false;
        }
        let note = entry.number.map_or(0, |number| self.notes.release(packet_identifier, number));
        self.uses.remove(&packet_identifier);
        self.completions.push_back((packet_identifier, note));
        true
    }

    /// Hands out what may be answered now.
    pub fn answers(&mut self, mut answer: impl FnMut(Answer)) {
        while let Some(pending) = self.queue.front() {
            if pending.parts > 0 || !self.notes.is_committed(pending.note) {
                break;
            }
            let (packet, reason) = (pending.packet_identifier, pending.reason);
            match pending.qos {
                Qos::AtMostOnce => {}
                Qos::AtLeastOnce => {
                    self.at_least_once_count -= 1;
                    answer(Answer::Puback(packet, reason));
                }
                Qos::ExactlyOnce => {
                    if reason.is_failure() {
                        self.uses.remove(&packet);
                    } else if let Some(entry) = self.uses.get_mut(&packet) {
                        entry.stage = Stage::Received;
                    }
                    answer(Answer::Pubrec(packet, reason));
                }
            }
            self.bytes -= pending.bytes;
            self.queue.pop_front();
            self.first += 1;
        }
        while let Some((packet, note)) = self.completions.front().copied() {
            if !self.notes.is_committed(note) {
                break;
            }
            self.completions.pop_front();
            answer(Answer::Pubcomp(packet, ReasonCode::Success));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(incoming: &mut Incoming) -> Vec<Answer> {
        let mut all = Vec::new();
        incoming.answers(|answer| all.push(answer));
        all
    }

    const OK: ReasonCode = ReasonCode::Success;

    fn begin_noted(incoming: &mut Incoming, packet: u16) {
        incoming.begin(packet, Qos::ExactlyOnce, OK, 1, 0);
        incoming.note_last();
    }

    #[test]
    fn answers_leave_in_the_order_of_the_publishes() {
        let mut incoming = Incoming::default();
        for (packet, parts) in [(7, 1), (8, 2), (9, 0)] {
            incoming.begin(packet, Qos::AtLeastOnce, OK, parts, 10);
        }
        assert_eq!(incoming.bytes(), 30);
        incoming.part_done(1, None, false);
        assert_eq!(answers(&mut incoming), []);
        incoming.part_done(0, Some(ReasonCode::QuotaExceeded), false);
        assert_eq!(answers(&mut incoming), [Answer::Puback(7, ReasonCode::QuotaExceeded)]);
        incoming.part_done(1, None, false);
        assert_eq!(answers(&mut incoming), [Answer::Puback(8, OK), Answer::Puback(9, OK)]);
        assert_eq!((incoming.bytes(), incoming.open_count()), (0, 0));
        incoming.part_done(1, None, false);
        incoming.part_done(99, None, false);
    }

    #[test]
    fn exactly_once_is_held_until_released() {
        let mut incoming = Incoming::default();
        incoming.begin(1, Qos::ExactlyOnce, OK, 1, 0);
        assert_eq!(incoming.receipt(1), Receipt::Publishing);
        assert!(!incoming.release(1));
        incoming.part_done(0, None, false);
        assert_eq!(answers(&mut incoming), [Answer::Pubrec(1, OK)]);
        assert_eq!((incoming.receipt(1), incoming.open_count()), (Receipt::Received, 1));
        assert!(incoming.release(1));
        assert_eq!(answers(&mut incoming), [Answer::Pubcomp(1, OK)]);
        assert_eq!((incoming.receipt(1), incoming.open_count()), (Receipt::New, 0));
        assert!(!incoming.release(1));
        assert_eq!(incoming.notes.take(), None, "nothing outlives the connection");
    }

    #[test]
    fn a_refused_exactly_once_publish_frees_its_identifier() {
        let refused = Some(ReasonCode::QuotaExceeded);
        let answer = Answer::Pubrec(1, ReasonCode::QuotaExceeded);
        let mut incoming = Incoming::default();
        incoming.begin(1, Qos::ExactlyOnce, OK, 1, 0);
        incoming.part_done(0, refused, true);
        assert_eq!(answers(&mut incoming), [answer]);
        assert_eq!((incoming.receipt(1), incoming.notes.take()), (Receipt::New, None));

        // One that was noted is forgotten first: the next message under it is another one.
        begin_noted(&mut incoming, 1);
        assert_eq!(incoming.notes.take().map(|it| it.noted), Some(vec![1]));
        incoming.noted(30);
        incoming.part_done(1, refused, true);
        assert_eq!(answers(&mut incoming), []);
        assert_eq!(incoming.notes.take().map(|it| it.released), Some(vec![(1, 30)]));
        incoming.noted(31);
        assert_eq!(answers(&mut incoming), [answer]);
        assert_eq!(incoming.receipt(1), Receipt::New);
    }

    #[test]
    fn in_a_durable_session_the_use_is_noted_first_and_forgotten_last() {
        let mut incoming = Incoming::default();
        begin_noted(&mut incoming, 1);
        let first = incoming.notes.take().expect("one identifier to note");
        assert_eq!(first.noted, [1]);
        begin_noted(&mut incoming, 2);
        assert_eq!(incoming.notes.take(), None, "one at a time");
        assert_eq!((incoming.use_number(1), incoming.use_number(2)), (None, None));
        incoming.noted(70);
        assert_eq!((incoming.use_number(1), incoming.use_number(2)), (Some(70), None));
        incoming.part_done(0, None, true);
        assert_eq!(answers(&mut incoming), [Answer::Pubrec(1, OK)]);
        assert!(incoming.release(1));
        let second = incoming.notes.take().expect("both changes together");
        assert_eq!((second.noted, second.released), (vec![2], vec![(1, 70)]));
        assert_eq!(answers(&mut incoming), []);
        incoming.noted(71);
        assert_eq!(answers(&mut incoming), [Answer::Pubcomp(1, OK)]);
        assert_eq!(incoming.use_number(2), Some(71));
    }

    #[test]
    fn what_an_earlier_connection_noted_keeps_its_number() {
        let mut incoming = Incoming::default();
        incoming.resume([(5, 40), (6, 41)]);
        assert_eq!(incoming.receipt(5), Receipt::Noted(40));
        incoming.begin(5, Qos::ExactlyOnce, OK, 1, 0);
        assert_eq!((incoming.receipt(5), incoming.use_number(5)), (Receipt::Publishing, Some(40)));
        incoming.part_done(0, None, true);
        assert_eq!(answers(&mut incoming), [Answer::Pubrec(5, OK)]);
        // Its PUBREC went before the connection was lost.
        assert!(incoming.release(6));
        assert!(incoming.release(5));
        let changes = incoming.notes.take().expect("both");
        assert_eq!(changes.released, [(6, 41), (5, 40)]);
    }

    #[test]
    fn the_end_of_a_connection_keeps_releases_and_drops_what_was_not_noted() {
        let mut incoming = Incoming::default();
        incoming.resume([(5, 40)]);
        assert!(incoming.release(5));
        begin_noted(&mut incoming, 1);
        incoming.notes.unreleased(40_000, true);
        let rest = incoming.notes.take_rest();
        assert_eq!((rest.noted, rest.released), (vec![], vec![(5, 40)]));
        assert_eq!(rest.unreleased, [(40_000, true)]);
    }
}
