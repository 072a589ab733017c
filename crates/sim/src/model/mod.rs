//! What the node has promised so far, and the checks of everything that it says. Ports of Jepsen's
//! `total-queue` and `kafka` checkers with the rules of one more protocol each: a second delivery is
//! flagged, first deliveries come in order, committed group offsets never move back, the retained
//! message is the last one acknowledged.
//!
//! Operations have three outcomes: acknowledged, refused, and unknown for ever. Nothing here looks into
//! the node.

mod cursor;
mod records;
#[cfg(test)]
mod tests;

pub use cursor::{Delivered, Holder};
pub use records::{Fate, Kind, Observed};

use koine_base::StreamId;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub type Checked = Result<(), Violation>;

pub(crate) fn violation<T>(text: impl Into<String>) -> Result<T, Violation> {
    Err(Violation(text.into()))
}

/// A body's number. Every record that a client sends has one of its own, in order of sending.
pub type Value = u64;

/// Everything known of one stream.
pub struct StreamModel {
    pub id: StreamId,
    pub name: String,
    pub kind: Kind,
    /// Acknowledged means on disk.
    pub strict: bool,
    /// Records by the size of the stream may go.
    pub has_retention: bool,
    /// Deletions asked for and not refused yet.
    pub closing: u32,
    pub deleted: bool,
    /// Some of it cannot be read any more, and the node says so.
    pub is_damaged: bool,
    pub records: records::Records,
    pub cursor: cursor::CursorModel,
}

impl StreamModel {
    pub fn new(id: StreamId, name: String, kind: Kind, strict: bool) -> Self {
        StreamModel {
            id,
            name,
            kind,
            strict,
            has_retention: false,
            closing: 0,
            deleted: false,
            is_damaged: false,
            records: records::Records::default(),
            cursor: cursor::CursorModel::default(),
        }
    }

    /// Nothing can be said of a stream that may be gone.
    pub fn is_unsure(&self) -> bool {
        self.deleted || self.closing > 0
    }

    /// Made by name; others come and go with their sessions.
    pub fn may_not_vanish(&self) -> bool {
        self.kind != Kind::Backlog && !self.name.starts_with('$')
    }

    /// A record came to a consumer.
    pub fn delivered(&mut self, delivered: &Delivered, value: Value) -> Checked {
        if self.is_unsure() {
            return Ok(());
        }
        self.records.observe(delivered.offset, value).map_err(|error| self.name_it(error))?;
        self.cursor.delivered(delivered).map_err(|error| self.name_it(error))
    }

    pub fn name_it(&self, error: Violation) -> Violation {
        Violation(format!("{} {} ({}): {error}", self.kind.noun(), self.name, self.id))
    }

    /// The node is back: `start` and `end` are what it kept.
    pub fn recovered(&mut self, observed: Observed, lost_allowed: bool) -> Result<bool, Violation> {
        let strict = self.strict || !lost_allowed;
        let lost = self.records.recovered(observed, strict).map_err(|e| self.name_it(e))?;
        self.cursor.recovered(observed.end, self.strict || !lost_allowed);
        Ok(lost)
    }

    /// Everything was drained and read: is anything missing?
    pub fn close(&self, kept: &BTreeMap<u64, Value>) -> Checked {
        if self.is_unsure() || self.is_damaged {
            return Ok(());
        }
        self.records.check_order().map_err(|error| self.name_it(error))?;
        if self.kind == Kind::Topic && !self.has_retention {
            self.records.check_kept(kept).map_err(|error| self.name_it(error))?;
        }
        if !self.has_retention {
            self.check_consumed().map_err(|error| self.name_it(error))?;
        }
        Ok(())
    }

    /// Jepsen's `lost`: acknowledged and, after everything was drained, never consumed.
    fn check_consumed(&self) -> Checked {
        if self.cursor.is_lossy || !self.cursor.is_drained {
            return Ok(());
        }
        for (value, record) in self.records.iter() {
            if record.fate != Fate::Acked || *value < self.cursor.purged_below {
                continue;
            }
            let Some(offset) = record.offset else {
                if self.records.trimmed_to > 0 {
                    continue;
                }
                return violation(format!("v{value} was acknowledged and never seen again"));
            };
            if offset < self.records.trimmed_to || self.cursor.is_consumed(offset) {
                continue;
            }
            let state = self.cursor.describe(offset);
            return violation(format!(
                "v{value} at {offset} was acknowledged and is not consumed after a full drain: {state}"
            ));
        }
        Ok(())
    }
}

/// One consumer group's offset of one partition: one client commits, any may ask.
#[derive(Clone, Copy, Debug, Default)]
pub struct GroupOffset {
    /// -1: none yet.
    pub acked: i64,
    pub attempted: i64,
}

/// One subject's retained message: one client sets it, any may ask.
#[derive(Clone, Debug)]
pub struct RetainedModel {
    /// What was set, in order; `None` clears. Begins with nothing.
    pub history: Vec<Option<Value>>,
    /// Index into `history`.
    pub acked: usize,
}

impl Default for RetainedModel {
    fn default() -> Self {
        RetainedModel { history: vec![None], acked: 0 }
    }
}

impl RetainedModel {
    /// What was read may be what was acknowledged when the question was asked, or anything later.
    pub fn check(&self, subject: &str, at_least: usize, read: Option<Value>) -> Checked {
        if self.history[at_least..].contains(&read) {
            return Ok(());
        }
        violation(format!(
            "retained message of {subject}: read {read:?}, but the last one acknowledged was {:?}",
            self.history[at_least]
        ))
    }
}

#[derive(Default)]
pub struct Model {
    pub streams: BTreeMap<StreamId, StreamModel>,
    /// Consumer group and partition to offset.
    pub groups: BTreeMap<(String, i32), GroupOffset>,
    pub retained: BTreeMap<String, RetainedModel>,
    pub producer_ids: BTreeSet<i64>,
    pub next_value: Value,
}

impl Model {
    pub fn value(&mut self) -> Value {
        self.next_value += 1;
        self.next_value
    }

    pub fn stream(&mut self, id: StreamId) -> Option<&mut StreamModel> {
        self.streams.get_mut(&id)
    }

    pub fn is_damaged(&self, id: StreamId) -> bool {
        self.streams.get(&id).is_some_and(|stream| stream.is_damaged)
    }

    /// Streams that clients may still use.
    pub fn usable(&self) -> impl Iterator<Item = &StreamModel> {
        self.streams.values().filter(|stream| !stream.is_unsure())
    }

    pub fn offset_fetched(&self, key: &(String, i32), least: i64, read: Option<i64>) -> Checked {
        let known = self.groups.get(key).copied().unwrap_or_default();
        let read = read.unwrap_or(-1);
        if read < least {
            return violation(format!(
                "group {} partition {}: offset {read} below {least}, which was acknowledged",
                key.0, key.1
            ));
        }
        if read > known.attempted.max(-1) {
            return violation(format!(
                "group {} partition {}: offset {read} was never committed",
                key.0, key.1
            ));
        }
        Ok(())
    }

    pub fn producer_id(&mut self, id: i64) -> Checked {
        if self.producer_ids.insert(id) {
            return Ok(());
        }
        violation(format!("producer id {id} was given out twice"))
    }
}
