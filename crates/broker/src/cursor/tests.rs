//! Scripts of each protocol's use, and a seeded comparison with a model that keeps one state per
//! offset.

// Lists of ranges often have one.
#![allow(clippy::single_range_in_vec_init)]

use super::*;
use crate::snapshot::SnapshotError;
use koine_base::rng::Rng;
use std::collections::{BTreeMap, VecDeque};

const A: ConsumerId = ConsumerId(1);
const B: ConsumerId = ConsumerId(2);

fn with_credit(credit: u32) -> ConsumerOptions {
    ConsumerOptions { credit, ..ConsumerOptions::default() }
}

/// Gives what can be given below `end`; returns (offset, consumer, redelivered, delivery_count).
fn dispatch(cursor: &mut Cursor, end: u64) -> Vec<(u64, u64, bool, u32)> {
    let mut given = Vec::new();
    while let Some((start, count)) = cursor.next_wanted(end) {
        assert!(count > 0 && start + count <= end);
        match cursor.assign(start) {
            Assign::Given(a) => given.push((start, a.consumer.0, a.redelivered, a.delivery_count)),
            other => panic!("wanted {start} but {other:?}"),
        }
    }
    given
}

fn offsets(given: &[(u64, u64, bool, u32)]) -> Vec<u64> {
    given.iter().map(|item| item.0).collect()
}

fn ack(cursor: &mut Cursor, consumer: ConsumerId, range: Range<u64>) -> u64 {
    let mut settled = Vec::new();
    cursor.settle(consumer, &[range], Outcome::Ack, &mut settled)
}

fn commit(cursor: &mut Cursor) -> Applied {
    match cursor.take_delta() {
        Some(delta) => cursor.apply(&delta),
        None => Applied::default(),
    }
}

#[test]
fn fifo_with_credit_and_acks() {
    let mut cursor = Cursor::new(10);
    cursor.attach(A, with_credit(3)).unwrap();
    assert_eq!(cursor.next_wanted(20), Some((10, 3)));
    assert_eq!(offsets(&dispatch(&mut cursor, 20)), [10, 11, 12]);
    assert_eq!((cursor.ready_count(20), cursor.unacked_count()), (7, 3));
    assert_eq!(cursor.next_wanted(20), None);
    assert_eq!(cursor.assign(13), Assign::NoTaker);

    assert_eq!(ack(&mut cursor, A, 10..12), 0);
    assert_eq!(ack(&mut cursor, A, 10..12), 2, "a second ack is unknown");
    assert_eq!((cursor.floor(), cursor.ready_count(20), cursor.unacked_count()), (10, 7, 1));
    let delta = cursor.take_delta().unwrap();
    assert_eq!(delta, Delta { acked: vec![10..12], half: vec![], floor: 0 });
    assert_eq!(cursor.take_delta(), None);
    assert_eq!(cursor.apply(&delta), Applied { acked_count: 2, floor: 12, floor_moved: true });
    cursor.add_credit(A, 1);
    assert_eq!(offsets(&dispatch(&mut cursor, 20)), [13]);
    assert_eq!(cursor.credit(A), 0);
}

#[test]
fn requeued_offsets_go_first_and_count_their_deliveries() {
    let mut cursor = Cursor::new(0);
    cursor.attach(A, with_credit(5)).unwrap();
    dispatch(&mut cursor, 100);
    let mut settled = Vec::new();
    let release = Outcome::Release { count_delivery: true };
    assert_eq!(cursor.settle(A, &[1..2, 3..9], release, &mut settled), 4);
    assert_eq!(settled, [1..2, 3..5]);
    assert_eq!(
        cursor.settle(A, &[0..1], Outcome::Release { count_delivery: false }, &mut settled),
        0
    );
    cursor.attach(B, with_credit(5)).unwrap();
    assert_eq!(cursor.assign(5), Assign::NotWanted, "requeued ones come first");
    assert_eq!(
        dispatch(&mut cursor, 100),
        [(0, 2, true, 0), (1, 2, true, 1), (3, 2, true, 1), (4, 2, true, 1), (5, 2, false, 0)]
    );
    assert_eq!(cursor.held_by(A), [2..3]);
    assert_eq!(cursor.detach(B), [0..2, 3..6]);
    cursor.set_credit(A, CREDIT_UNLIMITED);
    assert_eq!(dispatch(&mut cursor, 7)[1], (1, 1, true, 2));
    assert_eq!(cursor.held_by(A), [0..7]);
}

#[test]
fn turns_priorities_and_exclusive_use() {
    let mut cursor = Cursor::new(0);
    cursor.attach(A, with_credit(2)).unwrap();
    cursor.attach(B, with_credit(CREDIT_UNLIMITED)).unwrap();
    let high = ConsumerId(3);
    cursor.attach(high, ConsumerOptions { priority: 5, ..with_credit(2) }).unwrap();
    let turns: Vec<u64> = dispatch(&mut cursor, 8).iter().map(|item| item.1).collect();
    assert_eq!(turns, [3, 3, 1, 2, 1, 2, 2, 2]);
    assert_eq!(cursor.consumer_count(), 3);

    let exclusive = ConsumerOptions { exclusive: true, ..with_credit(1) };
    assert_eq!(cursor.attach(A, with_credit(1)), Err(AttachError::AlreadyAttached));
    assert_eq!(cursor.attach(ConsumerId(4), exclusive), Err(AttachError::Exclusive));
    for consumer in [A, B, high] {
        cursor.detach(consumer);
    }
    cursor.attach(ConsumerId(9), ConsumerOptions { pull_only: true, ..with_credit(0) }).unwrap();
    cursor.attach(A, exclusive).unwrap();
    assert_eq!(cursor.attach(B, with_credit(1)), Err(AttachError::Exclusive));
    // A stopped consumer is in nobody's way but may still settle.
    assert_eq!(offsets(&dispatch(&mut cursor, 8)), [0]);
    cursor.stop(A);
    cursor.add_credit(A, 5);
    assert_eq!(dispatch(&mut cursor, 8), []);
    cursor.attach(B, exclusive).unwrap();
    assert_eq!(ack(&mut cursor, A, 0..1), 0);
    assert_eq!(commit(&mut cursor).floor, 1);
}

#[test]
fn auto_settle_and_pull() {
    let mut cursor = Cursor::new(0);
    cursor.attach(A, ConsumerOptions { auto_settle: true, ..with_credit(3) }).unwrap();
    assert_eq!(offsets(&dispatch(&mut cursor, 10)), [0, 1, 2]);
    assert_eq!((cursor.unacked_count(), cursor.ready_count(10)), (0, 7));
    assert_eq!(commit(&mut cursor).floor, 3);

    cursor.attach(B, ConsumerOptions { pull_only: true, ..with_credit(9) }).unwrap();
    assert_eq!(cursor.next_wanted(10), None, "a puller is never served by itself");
    assert_eq!(cursor.next_ready(10), Some(3..10));
    assert_eq!(cursor.pull(4, B, false), None);
    assert_eq!(cursor.pull(3, ConsumerId(77), false), None);
    assert!(!cursor.pull(3, B, false).unwrap().auto_settled);
    assert!(cursor.pull(4, B, true).unwrap().auto_settled);
    assert_eq!((cursor.unacked_count_of(B), cursor.ready_count(10)), (1, 5));
}

#[test]
fn purge_and_discard_leave_what_is_held() {
    let mut cursor = Cursor::new(0);
    cursor.attach(A, with_credit(4)).unwrap();
    dispatch(&mut cursor, 20);
    let mut settled = Vec::new();
    cursor.settle(A, &[1..2], Outcome::Release { count_delivery: true }, &mut settled);
    assert_eq!(cursor.discard(8..10), 2);
    assert_eq!(cursor.discard(8..10), 0);
    assert_eq!(cursor.ready_count(20), 20 - 3 - 2);
    cursor.add_credit(A, 6);
    assert_eq!(offsets(&dispatch(&mut cursor, 20)), [1, 4, 5, 6, 7, 10]);
    assert_eq!(cursor.purge(20), 9);
    assert_eq!(cursor.purge(20), 0);
    assert_eq!((cursor.ready_count(20), cursor.unacked_count()), (0, 9));
    assert_eq!(commit(&mut cursor), Applied { acked_count: 11, floor: 0, floor_moved: false });
    ack(&mut cursor, A, 0..20);
    assert_eq!(commit(&mut cursor).floor, 20);
}

#[test]
fn half_settled_offsets_survive_the_consumer_and_the_leader() {
    let mut cursor = Cursor::new(0);
    cursor.set_offset_span_max(4);
    cursor.attach(A, with_credit(10)).unwrap();
    assert_eq!(
        offsets(&dispatch(&mut cursor, 20)),
        [0, 1, 2, 3],
        "the window of packet identifiers"
    );
    assert_eq!(cursor.assign(4), Assign::NoTaker);
    let mut settled = Vec::new();
    cursor.settle(A, &[1..2, 2..3], Outcome::Half, &mut settled);
    cursor.settle(A, &[1..2], Outcome::Half, &mut settled);
    assert_eq!(cursor.take_delta().unwrap().half, [1..3]);
    cursor.apply(&Delta { half: vec![1..3], ..Delta::default() });
    assert_eq!(cursor.detach(A), [0..4]);
    assert_eq!(cursor.ready_count(20), 18, "received ones are not given again");

    let mut bytes = Vec::new();
    cursor.encode(&mut bytes);
    let mut cursor = Cursor::decode(&mut &bytes[..]).unwrap();
    cursor.recover(20);
    cursor.attach(B, with_credit(10)).unwrap();
    assert_eq!(cursor.resume_half(B), [1..3]);
    assert_eq!(cursor.resume_half(B), []);
    assert_eq!(cursor.next_wanted(20), Some((0, 1)));
    let given = dispatch(&mut cursor, 20);
    assert_eq!(offsets(&given)[..2], [0, 3]);
    assert!(given.iter().all(|item| item.2), "may have been delivered by the leader before");
    ack(&mut cursor, B, 0..3);
    assert_eq!(commit(&mut cursor).floor, 3);
    assert!(cursor.half().is_empty());
    assert_eq!(dispatch(&mut cursor, 21).last(), None, "no credit is left");
}

#[test]
fn ten_million_acked_behind_one_stuck_head_are_one_range() {
    let mut cursor = Cursor::new(0);
    cursor.attach(A, with_credit(CREDIT_UNLIMITED)).unwrap();
    assert!(matches!(cursor.assign(0), Assign::Given(_)));
    let mut settled = Vec::new();
    for batch in 0..1_000u64 {
        for offset in batch * 100 + 1..batch * 100 + 101 {
            assert!(matches!(cursor.assign(offset), Assign::Given(_)));
        }
        settled.clear();
        cursor.settle(A, &[1..u64::MAX], Outcome::Ack, &mut settled);
        commit(&mut cursor);
    }
    assert_eq!((cursor.acked().range_count(), cursor.acked().count()), (1, 100_000));
    assert_eq!(cursor.unacked_count(), 1);
    ack(&mut cursor, A, 0..1);
    assert_eq!(commit(&mut cursor), Applied { acked_count: 1, floor: 100_001, floor_moved: true });
}

#[test]
fn leases_are_bounded() {
    let mut cursor = Cursor::new(0);
    cursor.attach(A, with_credit(CREDIT_UNLIMITED)).unwrap();
    for offset in 0..LEASES_MAX {
        assert!(matches!(cursor.assign(offset), Assign::Given(_)));
    }
    assert_eq!(cursor.next_wanted(u64::MAX), None);
    assert_eq!(cursor.assign(LEASES_MAX), Assign::NoTaker);
    ack(&mut cursor, A, 7..8);
    assert_eq!(cursor.next_wanted(u64::MAX).unwrap().0, LEASES_MAX);
}

#[test]
fn the_floor_moves_over_whatever_lies_below() {
    let mut cursor = Cursor::new(0);
    cursor.attach(A, with_credit(5)).unwrap();
    dispatch(&mut cursor, 30);
    let mut settled = Vec::new();
    cursor.settle(A, &[1..2], Outcome::Release { count_delivery: true }, &mut settled);
    ack(&mut cursor, A, 2..3);
    cursor.advance_floor(4);
    cursor.advance_floor(3);
    assert_eq!(commit(&mut cursor), Applied { acked_count: 4, floor: 4, floor_moved: true });
    assert_eq!((cursor.unacked_count(), cursor.ready_count(30)), (1, 25));
    assert_eq!(ack(&mut cursor, A, 0..5), 4);
    assert_eq!(commit(&mut cursor).floor, 5);
}

#[test]
fn malformed_snapshots_and_deltas() {
    let mut cursor = Cursor::new(5);
    cursor.apply(&Delta { acked: vec![8..12, 20..21], half: vec![14..16], floor: 0 });
    let mut good = Vec::new();
    cursor.encode(&mut good);
    assert!(Cursor::decode(&mut &good[..]).is_ok());
    for cut in 0..good.len() {
        assert!(Cursor::decode(&mut &good[..cut]).is_err());
    }
    assert_eq!(Cursor::decode(&mut &[9][..]).unwrap_err(), SnapshotError::UnknownFormat(9));
    assert_eq!(
        Cursor::decode(&mut &[1, 5, 0, 1, 5, 1, 0][..]).unwrap_err(),
        SnapshotError::BadValue
    );
    let delta = Delta { acked: vec![8..12, 20..21], half: vec![14..16], floor: 3 };
    let mut bytes = Vec::new();
    delta.encode(&mut bytes);
    assert_eq!(Delta::decode(&mut &bytes[..]), Ok(delta));
    for cut in 0..bytes.len() {
        assert!(Delta::decode(&mut &bytes[..cut]).is_err());
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Ready { count: u32, redelivered: bool },
    Leased { consumer: u64, count: u32, half: bool },
    HalfIdle,
    Settling,
    Acked,
}

/// One state per offset, and the credit of each consumer.
#[derive(Default)]
struct Model {
    states: Vec<State>,
    credit: BTreeMap<u64, u32>,
    span: u64,
}

impl Model {
    fn count(&self, is: impl Fn(&State) -> bool) -> u64 {
        self.states.iter().filter(|state| is(state)).count() as u64
    }

    fn floor(&self) -> u64 {
        self.states.iter().position(|state| *state != State::Acked).unwrap_or(self.states.len())
            as u64
    }

    fn lowest_ready(&self) -> Option<u64> {
        let ready = |state: &State| matches!(state, State::Ready { .. });
        let lowest = self.states.iter().position(ready)? as u64;
        (lowest < self.floor() + self.span).then_some(lowest)
    }

    fn give(&mut self, offset: u64, assignment: &Assignment, auto: bool) {
        let State::Ready { count, redelivered } = self.states[offset as usize] else {
            panic!("{offset} was given in state {:?}", self.states[offset as usize]);
        };
        assert_eq!((assignment.delivery_count, assignment.redelivered), (count, redelivered));
        let consumer = assignment.consumer.0;
        self.states[offset as usize] =
            if auto { State::Settling } else { State::Leased { consumer, count, half: false } };
    }

    fn settle(&mut self, id: u64, range: Range<u64>, outcome: Outcome) -> u64 {
        let mut held = 0;
        for state in &mut self.states[range.start as usize..range.end as usize] {
            let State::Leased { consumer, count, half } = *state else {
                continue;
            };
            if consumer != id {
                continue;
            }
            held += 1;
            *state = match outcome {
                Outcome::Ack => State::Settling,
                Outcome::Half => State::Leased { consumer, count, half: true },
                Outcome::Release { .. } if half => State::HalfIdle,
                Outcome::Release { count_delivery } => {
                    State::Ready { count: count + u32::from(count_delivery), redelivered: true }
                }
            };
        }
        held
    }

    fn apply(&mut self, delta: &Delta) {
        for offset in delta.acked.iter().cloned().flatten().chain(0..delta.floor) {
            self.states[offset as usize] = State::Acked;
        }
    }

    fn check(&self, cursor: &Cursor) {
        let end = self.states.len() as u64;
        assert_eq!(cursor.floor(), self.floor());
        assert_eq!(
            cursor.ready_count(end),
            self.count(|state| matches!(state, State::Ready { .. }))
        );
        assert_eq!(
            cursor.unacked_count(),
            self.count(|state| matches!(state, State::Leased { .. }))
        );
        assert_eq!(
            cursor.acked().count() + cursor.floor(),
            self.count(|state| *state == State::Acked)
        );
        for (&id, &credit) in &self.credit {
            assert_eq!(cursor.credit(ConsumerId(id)), credit);
        }
    }
}

/// Random steps on a leader, its follower and the model.
struct Trial {
    rng: Rng,
    model: Model,
    leader: Cursor,
    follower: Cursor,
    in_flight: VecDeque<Delta>,
}

impl Trial {
    fn some_range(&mut self) -> Range<u64> {
        let end = self.model.states.len() as u64;
        let start = self.rng.below(end + 1);
        start..(start + self.rng.below(8)).min(end)
    }

    fn step(&mut self) {
        let id = 1 + self.rng.below(4);
        let consumer = ConsumerId(id);
        match self.rng.below(100) {
            0..15 => {
                for _ in 0..self.rng.below(10) {
                    self.model.states.push(State::Ready { count: 0, redelivered: false });
                }
            }
            15..25 => self.attach(id),
            25..28 => {
                self.leader.detach(consumer);
                let end = self.model.states.len() as u64;
                self.model.settle(id, 0..end, Outcome::Release { count_delivery: true });
                self.model.credit.remove(&id);
            }
            28..40 => {
                let credit = self.rng.below(6) as u32;
                if let Some(known) = self.model.credit.get_mut(&id) {
                    *known += credit;
                    self.leader.add_credit(consumer, credit);
                }
            }
            40..60 => self.dispatch(),
            60..78 => {
                let range = self.some_range();
                let outcome = match self.rng.below(6) {
                    0 => Outcome::Release { count_delivery: true },
                    1 => Outcome::Release { count_delivery: false },
                    2 => Outcome::Half,
                    _ => Outcome::Ack,
                };
                let mut settled = Vec::new();
                let unknown = self.leader.settle(
                    consumer,
                    std::slice::from_ref(&range),
                    outcome,
                    &mut settled,
                );
                let held = self.model.settle(id, range.clone(), outcome);
                assert_eq!(unknown, range.end - range.start - held);
                assert_eq!(settled.into_iter().flatten().count() as u64, held);
            }
            78..80 => {
                let range = self.some_range();
                let is_purge = self.rng.chance(1, 4);
                let range = if is_purge { 0..self.model.states.len() as u64 } else { range };
                let ready = |state: &&mut State| matches!(state, State::Ready { .. });
                let states = &mut self.model.states[range.start as usize..range.end as usize];
                let changed =
                    states.iter_mut().filter(ready).map(|state| *state = State::Settling).count();
                let count = if is_purge {
                    self.leader.purge(range.end)
                } else {
                    self.leader.discard(range)
                };
                assert_eq!(count, changed as u64);
            }
            80..83 => self.resume_half(id),
            83..90 => self.in_flight.extend(self.leader.take_delta()),
            90..97 => self.apply_one(),
            97 => {
                let floor = self.some_range().start;
                if self.rng.chance(1, 4) {
                    self.leader.advance_floor(floor);
                }
            }
            _ => {
                if self.rng.chance(1, 4) {
                    self.fail_over();
                }
            }
        }
        self.model.check(&self.leader);
    }

    fn attach(&mut self, id: u64) {
        let credit = self.rng.below(5) as u32;
        let options = ConsumerOptions {
            auto_settle: id == 4,
            pull_only: id == 3,
            priority: self.rng.below(2) as i32,
            ..with_credit(credit)
        };
        let attached = self.leader.attach(ConsumerId(id), options);
        assert_eq!(attached.is_ok(), !self.model.credit.contains_key(&id));
        self.model.credit.entry(id).or_insert(credit);
    }

    fn dispatch(&mut self) {
        let end = self.model.states.len() as u64;
        for _ in 0..self.rng.below(8) {
            let lowest = self.model.lowest_ready();
            let takers = self.model.credit.iter().any(|(&id, &credit)| id != 3 && credit > 0);
            let wanted = self.leader.next_wanted(end);
            assert_eq!(wanted.map(|(offset, _)| offset), lowest.filter(|_| takers));
            assert_eq!(self.leader.next_ready(end).map(|run| run.start), lowest);
            let Some(lowest) = lowest else { return };
            if self.rng.chance(1, 10) && self.model.credit.contains_key(&3) {
                let given = self.leader.pull(lowest, ConsumerId(3), false).unwrap();
                self.model.give(lowest, &given, false);
                continue;
            }
            let Some((offset, count)) = wanted else {
                return;
            };
            for offset in offset..offset + count {
                let Assign::Given(given) = self.leader.assign(offset) else {
                    panic!("{offset} was promised")
                };
                self.model.give(offset, &given, given.auto_settled);
                let credit = self.model.credit.get_mut(&given.consumer.0).unwrap();
                assert!(*credit > 0 && given.consumer.0 != 3);
                *credit -= 1;
            }
        }
    }

    fn resume_half(&mut self, id: u64) {
        let resumed = self.leader.resume_half(ConsumerId(id));
        if !self.model.credit.contains_key(&id) {
            assert!(resumed.is_empty());
            return;
        }
        let mut expect = Vec::new();
        for (offset, state) in self.model.states.iter_mut().enumerate() {
            if *state == State::HalfIdle {
                *state = State::Leased { consumer: id, count: 0, half: true };
                expect.push(offset as u64);
            }
        }
        assert!(resumed.into_iter().flatten().eq(expect));
    }

    fn apply_one(&mut self) {
        let Some(delta) = self.in_flight.pop_front() else {
            return;
        };
        let floor_before = self.leader.floor();
        let applied = self.leader.apply(&delta);
        assert_eq!(self.follower.apply(&delta), applied, "followers apply alike");
        self.model.apply(&delta);
        assert!(applied.floor >= floor_before);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        self.leader.encode(&mut ours);
        self.follower.encode(&mut theirs);
        assert_eq!(ours, theirs);
    }

    /// The follower becomes leader; deltas in flight are lost.
    fn fail_over(&mut self) {
        let mut bytes = Vec::new();
        self.follower.encode(&mut bytes);
        let span = self.model.span;
        self.leader = Cursor::decode(&mut &bytes[..]).unwrap();
        self.leader.set_offset_span_max(span);
        self.leader.recover(self.model.states.len() as u64);
        bytes.clear();
        self.leader.encode(&mut bytes);
        self.follower = Cursor::decode(&mut &bytes[..]).unwrap();
        self.in_flight.clear();
        self.model.credit.clear();
        for (offset, state) in self.model.states.iter_mut().enumerate() {
            if self.leader.half().contains(offset as u64) {
                *state = State::HalfIdle;
            } else if *state != State::Acked {
                *state = State::Ready { count: 0, redelivered: true };
            }
        }
    }

    fn drain(&mut self) {
        let end = self.model.states.len() as u64;
        for id in 1..=4 {
            self.leader.detach(ConsumerId(id));
        }
        self.leader.attach(A, with_credit(CREDIT_UNLIMITED)).unwrap();
        while self.leader.floor() < end {
            self.leader.resume_half(A);
            dispatch(&mut self.leader, end);
            ack(&mut self.leader, A, 0..end);
            self.in_flight.extend(self.leader.take_delta());
            assert!(!self.in_flight.is_empty(), "stuck at {} of {end}", self.leader.floor());
            while let Some(delta) = self.in_flight.pop_front() {
                self.leader.apply(&delta);
            }
        }
        assert_eq!((self.leader.ready_count(end), self.leader.unacked_count()), (0, 0));
        assert!(self.leader.acked().is_empty() && self.leader.half().is_empty());
    }
}

#[test]
fn agrees_with_the_model_whatever_happens() {
    for seed in 0..400 {
        let mut rng = Rng::new(seed);
        let span = if rng.chance(1, 2) { SPAN_UNLIMITED } else { 1 + rng.below(20) };
        let mut trial = Trial {
            rng,
            model: Model { span: span.min(1 << 40), ..Model::default() },
            leader: Cursor::new(0),
            follower: Cursor::new(0),
            in_flight: VecDeque::new(),
        };
        trial.leader.set_offset_span_max(span);
        for _ in 0..500 {
            trial.step();
        }
        trial.drain();
    }
}
