//! Writes and reads of one place side by side, and what all places have in common.

use super::{Kind, Rules, Verdict};
use crate::history::{
    History, How, Outcome, Process, Promise, Read, RouteId, SinkId, SinkKind, Write,
};
use crate::value::{Found, Value};
use std::collections::HashMap;

/// The writes of a history by what they carried.
pub struct Writes<'a> {
    history: &'a History,
    rules: Rules,
    by_value: HashMap<Value, &'a Write>,
    /// Reads of values by sink, in order.
    reads: Vec<Vec<(&'a Read, Value)>>,
}

impl<'a> Writes<'a> {
    pub fn new(history: &'a History, rules: Rules) -> Self {
        let by_value = history.writes.iter().map(|write| (write.value, write)).collect();
        let mut reads = vec![Vec::new(); history.sinks.len()];
        for read in &history.reads {
            if let Found::Value(value) = read.found {
                reads[read.sink].push((read, value));
            }
        }
        Writes { history, rules, by_value, reads }
    }

    pub fn place(&self, sink: SinkId) -> Place<'_, 'a> {
        Place { writes: self, sink }
    }
}

/// What one place was written and what was read from it.
#[derive(Clone, Copy)]
pub struct Place<'w, 'a> {
    writes: &'w Writes<'a>,
    sink: SinkId,
}

/// Writes that are in order among themselves.
pub type Lane = (Process, RouteId, u64);

pub fn lane_of(write: &Write) -> Lane {
    (write.process, write.route, write.lane)
}

impl<'w, 'a> Place<'w, 'a> {
    pub fn name(&self) -> &'a str {
        &self.writes.history.sinks[self.sink].name
    }

    /// Reads that found a value, in order.
    pub fn reads(&self) -> &'w [(&'a Read, Value)] {
        &self.writes.reads[self.sink]
    }

    /// The write of a value, if it was meant for this place.
    pub fn write_of(&self, value: Value) -> Option<&'a Write> {
        let write = self.writes.by_value.get(&value).copied();
        write.filter(|write| self.is_reached_by(write))
    }

    fn is_reached_by(&self, write: &Write) -> bool {
        self.writes.history.routes[write.route].sinks.contains(&self.sink)
    }

    /// Writes that this place was promised to keep: acknowledged, or stored by a promise.
    pub fn acknowledged(&self) -> impl Iterator<Item = (&'a Write, Option<i64>)> + use<'w, 'a> {
        let place = *self;
        self.writes.history.writes.iter().filter_map(move |write| match write.outcome {
            Outcome::Ok(offset) if place.is_reached_by(write) => Some((write, offset)),
            _ => None,
        })
    }

    /// True if the client's own repetition, or the broker's of a will, may have been stored a second time.
    pub fn may_be_stored_again(&self, write: &Write) -> bool {
        if write.promise == Promise::Will {
            return self.writes.rules.repeats_wills;
        }
        let history = self.writes.history;
        // Copies for QoS 0 are not stored: nobody remembers that they were sent.
        let is_volatile = history.sinks[self.sink].kind == SinkKind::Session { qos: 0 };
        write.repeats > 0
            && match write.promise {
                Promise::AtLeastOnce => true,
                Promise::ExactlyOnce => is_volatile || self.may_have_been_refused(write),
                Promise::Once => history.routes[write.route].copies.contains(&self.sink),
                Promise::Nothing | Promise::Will => false,
            }
    }

    /// True if a try before the last one may have been refused, after it reached some of its places.
    fn may_have_been_refused(&self, write: &Write) -> bool {
        self.writes.rules.refuses && write.was_refusable
    }

    /// Everything read was written to this place and not refused.
    pub fn check_known(&self, verdict: &mut Verdict) {
        let mut recovered = std::collections::HashSet::new();
        for (read, value) in self.reads() {
            let why = match self.write_of(*value).map(|write| write.outcome) {
                None => "never written to it",
                Some(Outcome::Failed) => "refused",
                Some(Outcome::Unknown | Outcome::Open) => {
                    recovered.insert(*value);
                    continue;
                }
                Some(Outcome::Ok(_)) => continue,
            };
            let text = format!("{}: {value} was {why}, read by {}", self.name(), read.process);
            verdict.flag(Kind::Unexpected, text);
        }
        verdict.counts.recovered += recovered.len() as u64;
    }

    /// The first time that each value was read is in the order of its lane. `stream` tells readers
    /// apart that race with each other; `counts` leaves reads out.
    pub fn check_order<S: std::hash::Hash + Eq>(
        &self,
        reads: impl Iterator<Item = (&'a Read, Value)>,
        stream: impl Fn(&Read) -> S,
        verdict: &mut Verdict,
    ) {
        let mut seen = std::collections::HashSet::new();
        let mut last: HashMap<(Lane, S), Value> = HashMap::new();
        for (read, value) in reads {
            let Some(write) = self.write_of(value) else { continue };
            let may_have_moved = self.may_have_been_refused(write);
            if !seen.insert(value) || may_have_moved {
                continue;
            }
            let place = last.entry((lane_of(write), stream(read))).or_insert(value);
            if place.counter > value.counter {
                let text = format!("{}: {value} after {place}, {:?}", self.name(), read.how);
                verdict.flag(Kind::Reordered, text);
            } else {
                *place = value;
            }
        }
    }

    /// Everything acknowledged was read. For places that are drained by taking.
    pub fn check_lost(&self, is_due: impl Fn(&Write) -> bool, verdict: &mut Verdict) {
        let seen: std::collections::HashSet<Value> = self.reads().iter().map(|r| r.1).collect();
        for (write, _) in self.acknowledged() {
            if is_due(write) && !seen.contains(&write.value) {
                let text = format!("{}: {} acknowledged, {write:?}", self.name(), write.value);
                verdict.flag(Kind::Lost, text);
            }
        }
    }

    /// Whoever is given a value a second time is told so; `again` says what a repetition is.
    pub fn check_repeats(&self, again: impl Fn(&Read) -> Option<Kind>, verdict: &mut Verdict) {
        let mut seen: HashMap<Value, &Read> = HashMap::new();
        for (read, value) in self.reads() {
            let Some(first) = seen.insert(*value, read) else { continue };
            // What is stored once may pass by again where nothing is stored (docs/user/mqtt.md).
            let passes = matches!(read.how, How::Pushed { qos: 0, .. });
            let is_excused = self
                .write_of(*value)
                .is_some_and(|w| self.may_be_stored_again(w) || passes && w.repeats > 0);
            match again(read).filter(|_| !is_excused) {
                Some(kind) => {
                    let text = format!(
                        "{}: {value} by {} over its connection {} at {}, then by {} over {} at {}: {:?}",
                        self.name(),
                        first.process,
                        first.connection,
                        first.at.0,
                        read.process,
                        read.connection,
                        read.at.0,
                        read.how
                    );
                    verdict.flag(kind, text);
                }
                None => verdict.counts.redelivered += 1,
            }
        }
    }
}

/// Of a read by offset.
pub fn offset_of(read: &Read) -> Option<(i64, Option<i64>)> {
    match read.how {
        How::Offset { offset, after } => Some((offset, after)),
        _ => None,
    }
}
