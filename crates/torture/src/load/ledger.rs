//! The history: what was attempted, what was acknowledged, what was read. It lives outside the broker and decides.
//! Never trusts a reader's word beyond the message's own name.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::body::{self, Name};

/// Sentences kept about what must not have happened.
const COMPLAINTS_MAX: usize = 20;
/// Of these about wrong repetitions, which come in crowds.
const REPEATS_NAMED_MAX: u64 = 3;

/// The protocols under load, in the order of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    Kafka,
    Amqp,
    Mqtt,
}

/// When a message may be read a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeats {
    /// Idempotent Kafka producers, MQTT QoS 2.
    Never,
    /// AMQP: if the delivery says that it may be a repetition.
    Flagged,
    /// MQTT QoS 1: both sides repeat what was not acknowledged.
    Always,
}

/// One writer and its promises.
#[derive(Clone, Copy, Debug)]
pub struct Role {
    pub name: &'static str,
    pub protocol: Protocol,
    pub repeats: Repeats,
}

/// One message. Long runs have tens of millions, so it is small.
#[derive(Clone, Copy)]
struct Entry {
    acknowledged: bool,
    refused: bool,
    read: u16,
    /// Kafka: where it was acknowledged, as the partition in the upper 16 bits and the offset; all ones is nowhere.
    place: u64,
}

impl Entry {
    const NEW: Entry = Entry { acknowledged: false, refused: false, read: 0, place: u64::MAX };

    fn place(&self) -> Option<(u16, u64)> {
        (self.place != u64::MAX)
            .then_some(((self.place >> 48) as u16, self.place & (u64::MAX >> 16)))
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub attempted: u64,
    pub acknowledged: u64,
    pub refused: u64,
    /// Distinct messages read.
    pub read: u64,
    /// Acknowledged and not read.
    pub lost: u64,
    /// Attempted without an answer and read: legal.
    pub recovered: u64,
    /// Reads beyond the first.
    pub repeated: u64,
    /// Repetitions that the protocol's promise excludes.
    pub repeated_wrongly: u64,
    /// Whatever else must not have happened.
    pub unexpected: u64,
}

impl Sums {
    fn plus(self, other: Sums) -> Sums {
        Sums {
            attempted: self.attempted + other.attempted,
            acknowledged: self.acknowledged + other.acknowledged,
            refused: self.refused + other.refused,
            read: self.read + other.read,
            lost: self.lost + other.lost,
            recovered: self.recovered + other.recovered,
            repeated: self.repeated + other.repeated,
            repeated_wrongly: self.repeated_wrongly + other.repeated_wrongly,
            unexpected: self.unexpected + other.unexpected,
        }
    }

    /// No promise was broken.
    pub fn is_clean(&self) -> bool {
        self.lost + self.unexpected + self.repeated_wrongly == 0
    }
}

#[derive(Default)]
struct Book {
    writers: Vec<Vec<Entry>>,
    /// Kept up to date with every entry.
    sums: Sums,
    /// Acknowledged messages per protocol, in the order of [`Protocol`].
    by_protocol: [u64; 3],
    complaints: Vec<String>,
    /// What brokers said instead of an acknowledgement, and how often.
    signals: BTreeMap<String, u64>,
}

/// Guarded by one lock: writers and readers are few and their rate is low.
pub struct Ledger {
    pub run: u32,
    roles: Vec<Role>,
    book: Mutex<Book>,
}

impl Ledger {
    pub fn new(run: u32, roles: &[Role]) -> Ledger {
        let book = Book { writers: vec![Vec::new(); roles.len()], ..Book::default() };
        Ledger { run, roles: roles.to_vec(), book: Mutex::new(book) }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new message of this writer, with its body.
    pub fn attempt(&self, writer: u16) -> (u64, Vec<u8>) {
        let mut guard = self.book();
        let book = &mut *guard;
        let entries = &mut book.writers[usize::from(writer)];
        let sequence = entries.len() as u64;
        entries.push(Entry::NEW);
        book.sums.attempted += 1;
        (sequence, body::encode(Name { run: self.run, writer, sequence }))
    }

    pub fn acknowledged(&self, writer: u16, sequence: u64, place: Option<(u16, u64)>) {
        let mut guard = self.book();
        let book = &mut *guard;
        let entry = book.writers[usize::from(writer)].get_mut(sequence as usize);
        let Some(entry) = entry.filter(|entry| !entry.acknowledged) else { return };
        entry.acknowledged = true;
        if let Some((partition, offset)) = place {
            entry.place = u64::from(partition) << 48 | offset;
        }
        book.sums.acknowledged += 1;
        book.by_protocol[self.roles[usize::from(writer)].protocol as usize] += 1;
        match entry.read {
            0 => book.sums.lost += 1,
            _ => book.sums.recovered -= 1,
        }
    }

    pub fn refused(&self, writer: u16, sequence: u64) {
        let mut guard = self.book();
        let book = &mut *guard;
        let entry = book.writers[usize::from(writer)].get_mut(sequence as usize);
        if let Some(entry) = entry.filter(|entry| !entry.refused) {
            entry.refused = true;
            book.sums.refused += 1;
        }
    }

    /// A reader got this body. `flagged`: the delivery says that it may be a repetition.
    pub fn read(&self, body: &[u8], flagged: bool, place: Option<(u16, u64)>) -> Option<Name> {
        let Some(name) = body::decode(body) else {
            self.complain(format!("a message of {} bytes that nobody wrote", body.len()));
            return None;
        };
        let writer = usize::from(name.writer);
        let mut guard = self.book();
        let book = &mut *guard;
        let known = name.run == self.run && writer < self.roles.len();
        let entry = match known {
            true => book.writers[writer].get_mut(name.sequence as usize),
            false => None,
        };
        let Some(entry) = entry else {
            drop(guard);
            self.complain(format!("{name:?} was read and never written"));
            return None;
        };
        entry.read = entry.read.saturating_add(1);
        let (read, written_at) = (entry.read, entry.place());
        match (read, entry.acknowledged) {
            (1, true) => book.sums.lost -= 1,
            (1, false) => book.sums.recovered += 1,
            _ => book.sums.repeated += 1,
        }
        book.sums.read += u64::from(read == 1);
        let wrong = match self.roles[writer].repeats {
            _ if read == 1 => false,
            Repeats::Never => true,
            Repeats::Flagged => !flagged,
            Repeats::Always => false,
        };
        book.sums.repeated_wrongly += u64::from(wrong);
        let named = wrong && book.sums.repeated_wrongly <= REPEATS_NAMED_MAX;
        drop(guard);
        let role = self.roles[writer].name;
        if named {
            self.note(format!(
                "{role}: message {} was read {read} times, place {place:?}",
                name.sequence
            ));
        }
        if let (Some(written), Some(read)) = (written_at, place) {
            if written != read {
                self.complain(format!(
                    "{role}: message {} was acknowledged at {written:?} and read at {read:?}",
                    name.sequence
                ));
            }
        }
        Some(name)
    }

    /// Counts something that must not have happened.
    pub fn complain(&self, what: String) {
        self.book().sums.unexpected += 1;
        self.note(what);
    }

    fn note(&self, what: String) {
        let mut book = self.book();
        if book.complaints.len() < COMPLAINTS_MAX {
            book.complaints.push(what);
        }
    }

    /// Adds what somebody else has judged.
    pub fn absorb(&self, sums: Sums, complaints: impl Iterator<Item = String>) {
        let mut book = self.book();
        book.sums = book.sums.plus(sums);
        drop(book);
        complaints.for_each(|complaint| self.note(complaint));
    }

    /// Counts a broker's answer that is no acknowledgement.
    pub fn signal(&self, what: String) {
        *self.book().signals.entry(what).or_default() += 1;
    }

    pub fn signals(&self) -> BTreeMap<String, u64> {
        self.book().signals.clone()
    }

    pub fn complaints(&self) -> Vec<String> {
        self.book().complaints.clone()
    }

    /// Acknowledged messages, per protocol in the order of [`Protocol`].
    pub fn acknowledged_by_protocol(&self) -> [u64; 3] {
        self.book().by_protocol
    }

    pub fn sums(&self) -> Sums {
        self.book().sums
    }

    /// The first lost messages, in words.
    pub fn lost(&self) -> Vec<String> {
        let book = self.book();
        let mut found = Vec::new();
        for (role, entries) in self.roles.iter().zip(&book.writers) {
            let lost = entries.iter().enumerate().filter(|(_, e)| e.acknowledged && e.read == 0);
            for (sequence, entry) in lost.take(COMPLAINTS_MAX) {
                found.push(format!(
                    "{}: lost message {sequence}, place {:?}",
                    role.name,
                    entry.place()
                ));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLES: [Role; 4] = [
        Role { name: "log", protocol: Protocol::Kafka, repeats: Repeats::Never },
        Role { name: "queue", protocol: Protocol::Amqp, repeats: Repeats::Flagged },
        Role { name: "qos1", protocol: Protocol::Mqtt, repeats: Repeats::Always },
        Role { name: "qos2", protocol: Protocol::Mqtt, repeats: Repeats::Never },
    ];

    fn check(script: impl Fn(&Ledger, &[u8]), writer: u16, expect: Sums) {
        let ledger = Ledger::new(1, &ROLES);
        let (_, body) = ledger.attempt(writer);
        script(&ledger, &body);
        assert_eq!(ledger.sums(), expect);
    }

    #[test]
    fn what_counts_as_what() {
        let one = Sums { attempted: 1, ..Sums::default() };
        let acknowledged = Sums { acknowledged: 1, ..one };
        check(|_, _| (), 0, one);
        check(|l, _| l.acknowledged(0, 0, None), 0, Sums { lost: 1, ..acknowledged });
        let read = Sums { read: 1, ..acknowledged };
        let twice = |writer: u16, flagged: bool| {
            move |l: &Ledger, body: &[u8]| {
                l.acknowledged(writer, 0, None);
                l.read(body, false, None);
                l.read(body, flagged, None);
            }
        };
        check(twice(0, true), 0, Sums { repeated: 1, repeated_wrongly: 1, ..read });
        check(twice(1, true), 1, Sums { repeated: 1, ..read });
        check(twice(1, false), 1, Sums { repeated: 1, repeated_wrongly: 1, ..read });
        check(twice(2, false), 2, Sums { repeated: 1, ..read });
        check(twice(3, true), 3, Sums { repeated: 1, repeated_wrongly: 1, ..read });
        let recovered = Sums { read: 1, recovered: 1, ..one };
        check(|l, body| assert!(l.read(body, false, None).is_some()), 0, recovered);
    }

    #[test]
    fn messages_that_nobody_wrote_are_unexpected() {
        let one = Sums { attempted: 1, unexpected: 1, ..Sums::default() };
        let other = |run, writer, sequence| body::encode(Name { run, writer, sequence });
        for body in [other(2, 0, 0), other(1, 9, 0), other(1, 0, 1), b"noise".to_vec()] {
            check(|l, _| assert!(l.read(&body, false, None).is_none()), 0, one);
        }
        let moved =
            Sums { attempted: 1, acknowledged: 1, read: 1, unexpected: 1, ..Sums::default() };
        let elsewhere = |l: &Ledger, body: &[u8]| {
            l.acknowledged(0, 0, Some((0, 5)));
            l.read(body, false, Some((0, 6)));
        };
        check(elsewhere, 0, moved);
    }
}
