//! What the client publishes with QoS 1 and 2, until it is acknowledged. Acknowledgements leave in the
//! order of the publishes (MQTT 5 §4.6.0), however their commits come back; identifiers of QoS 2 are
//! held until PUBREL, so that a repetition is not published twice (§4.3.3).

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
    /// The last batch that was proposed.
    proposed: Note,
    committed: Note,
}

/// Packet identifiers to note (true) or forget (false), in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub received: Vec<(u16, bool)>,
    pub unreleased: Vec<(u16, bool)>,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.received.is_empty() && self.unreleased.is_empty()
    }
}

impl Notes {
    pub fn received(&mut self, packet_identifier: u16, keep: bool) -> Note {
        self.changes.received.push((packet_identifier, keep));
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
        Some(std::mem::take(&mut self.changes))
    }

    /// All that is not proposed yet, whatever is under way: the connection ends.
    pub fn take_rest(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    pub fn committed(&mut self) {
        self.committed = self.proposed;
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
    note: Note,
    bytes: usize,
}

/// Where an exactly-once publish stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// Not known: a new message.
    New,
    /// Being published; PUBREC follows.
    Publishing,
    /// PUBREC was sent.
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
    /// QoS 2, until PUBREL; true once PUBREC was sent.
    received: BTreeMap<u16, bool>,
    /// QoS 1 in `queue`.
    at_least_once_count: usize,
    /// PUBCOMPs that wait for their note.
    completions: VecDeque<(u16, Note)>,
    pub notes: Notes,
}

impl Incoming {
    /// Publishes that the client counts against our receive maximum.
    pub fn open_count(&self) -> usize {
        self.at_least_once_count + self.received.len() + self.completions.len()
    }

    /// Payload bytes that wait for their commit.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Identifiers that an earlier connection of the session received.
    pub fn resume(&mut self, received: impl IntoIterator<Item = u16>) {
        self.received.extend(received.into_iter().map(|packet| (packet, true)));
    }

    pub fn receipt(&self, packet_identifier: u16) -> Receipt {
        match self.received.get(&packet_identifier) {
            None => Receipt::New,
            Some(false) => Receipt::Publishing,
            Some(true) => Receipt::Received,
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
                self.received.insert(packet_identifier, false);
            }
        }
        self.bytes += bytes;
        self.queue.push_back(Pending { packet_identifier, qos, reason, parts, note: 0, bytes });
    }

    /// One commit of publish `sequence` came back. With `durable`, a QoS 2 identifier is noted before
    /// it is acknowledged.
    pub fn part_done(&mut self, sequence: u64, failure: Option<ReasonCode>, durable: bool) {
        let Some(index) = sequence.checked_sub(self.first) else { return };
        let Some(pending) = self.queue.get_mut(index as usize) else { return };
        pending.parts = pending.parts.saturating_sub(1);
        if let Some(reason) = failure {
            pending.reason = reason;
        }
        if pending.parts == 0 {
            self.bytes -= std::mem::take(&mut pending.bytes);
            if durable && pending.qos == Qos::ExactlyOnce && !pending.reason.is_failure() {
                pending.note = self.notes.received(pending.packet_identifier, true);
            }
        }
    }

    /// A publish with no commit to wait for, such as one without subscribers, still has to be noted.
    pub fn note_last(&mut self) {
        if let Some(pending) = self.queue.back_mut() {
            pending.note = self.notes.received(pending.packet_identifier, true);
        }
    }

    /// PUBREL: the identifier may be used again. False if it was not held.
    pub fn release(&mut self, packet_identifier: u16, durable: bool) -> bool {
        if self.received.get(&packet_identifier) != Some(&true) {
            return false;
        }
        self.received.remove(&packet_identifier);
        let note = match durable {
            true => self.notes.received(packet_identifier, false),
            false => 0,
        };
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
                        self.received.remove(&packet);
                    } else {
                        self.received.insert(packet, true);
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

    /// What must be noted when the connection ends: identifiers whose publish is under way will have
    /// been published by the time the client repeats them.
    pub fn rest(&mut self) -> Changes {
        for pending in &self.queue {
            if pending.qos == Qos::ExactlyOnce && pending.note == 0 && !pending.reason.is_failure()
            {
                self.notes.received(pending.packet_identifier, true);
            }
        }
        self.notes.take_rest()
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
        assert!(!incoming.release(1, false));
        incoming.part_done(0, None, false);
        assert_eq!(answers(&mut incoming), [Answer::Pubrec(1, OK)]);
        assert_eq!((incoming.receipt(1), incoming.open_count()), (Receipt::Received, 1));
        assert!(incoming.release(1, false));
        assert_eq!(answers(&mut incoming), [Answer::Pubcomp(1, OK)]);
        assert_eq!((incoming.receipt(1), incoming.open_count()), (Receipt::New, 0));
        assert!(!incoming.release(1, false));
    }

    #[test]
    fn a_refused_exactly_once_publish_frees_its_identifier() {
        let mut incoming = Incoming::default();
        incoming.begin(1, Qos::ExactlyOnce, OK, 1, 0);
        incoming.part_done(0, Some(ReasonCode::QuotaExceeded), true);
        assert_eq!(answers(&mut incoming), [Answer::Pubrec(1, ReasonCode::QuotaExceeded)]);
        assert_eq!(incoming.receipt(1), Receipt::New);
        assert_eq!(incoming.notes.take(), None);
    }

    #[test]
    fn in_a_durable_session_answers_wait_for_their_note() {
        let mut incoming = Incoming::default();
        for packet in [1, 2] {
            incoming.begin(packet, Qos::ExactlyOnce, OK, 1, 0);
        }
        incoming.part_done(0, None, true);
        let first = incoming.notes.take().expect("one identifier to note");
        assert_eq!(first.received, [(1, true)]);
        incoming.part_done(1, None, true);
        assert_eq!(incoming.notes.take(), None, "one at a time");
        assert_eq!(answers(&mut incoming), []);
        incoming.notes.committed();
        assert_eq!(answers(&mut incoming), [Answer::Pubrec(1, OK)]);
        assert!(incoming.release(1, true));
        let second = incoming.notes.take().expect("both changes together");
        assert_eq!(second.received, [(2, true), (1, false)]);
        assert_eq!(answers(&mut incoming), []);
        incoming.notes.committed();
        assert_eq!(answers(&mut incoming), [Answer::Pubrec(2, OK), Answer::Pubcomp(1, OK)]);
    }

    #[test]
    fn what_is_under_way_is_noted_when_the_connection_ends() {
        let mut incoming = Incoming::default();
        incoming.resume([5]);
        assert_eq!(incoming.receipt(5), Receipt::Received);
        incoming.begin(1, Qos::ExactlyOnce, OK, 1, 0);
        incoming.begin(2, Qos::AtLeastOnce, OK, 1, 0);
        incoming.notes.unreleased(40_000, true);
        let rest = incoming.rest();
        assert_eq!(rest.received, [(1, true)]);
        assert_eq!(rest.unreleased, [(40_000, true)]);
    }
}
