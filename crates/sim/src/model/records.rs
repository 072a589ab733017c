//! The records of one stream as its writers and readers see them: one value per offset, one offset per
//! value, nothing that was never sent, nothing acknowledged missing, each writer's order kept.

use super::{violation, Checked, Value, Violation};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Kept until settled.
    Queue,
    /// A session's backlog: its newest consumer alone gets what is there.
    Backlog,
    /// Kept whatever is settled.
    Topic,
}

impl Kind {
    pub fn noun(self) -> &'static str {
        match self {
            Kind::Queue => "queue",
            Kind::Backlog => "backlog",
            Kind::Topic => "topic",
        }
    }
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Not answered, or the answer never came: it may be there or not, for ever.
    Unknown,
    Acked,
    /// Must never be seen.
    Refused,
    /// It was acknowledged by a relaxed stream and lost in a crash, as allowed.
    Lost,
}

#[derive(Clone, Debug)]
pub struct RecordModel {
    pub fate: Fate,
    /// When it was acknowledged, microseconds.
    pub acked_at: u64,
    pub offset: Option<u64>,
    /// Appends of one writer to one stream keep their order.
    pub writer: u64,
}

/// What the node says of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Observed {
    pub start: u64,
    pub end: u64,
    pub epoch: i32,
}

#[derive(Default)]
pub struct Records {
    by_value: BTreeMap<Value, RecordModel>,
    by_offset: BTreeMap<u64, Value>,
    /// Checksum of all bytes of each batch that was read, by its first offset.
    batches: BTreeMap<u64, u32>,
    /// Committed end and leader epoch, as far as seen.
    pub end: u64,
    pub epoch: i32,
    /// Everything below may be gone: a trim was asked for.
    pub trimmed_to: u64,
}

impl Records {
    pub fn iter(&self) -> impl Iterator<Item = (&Value, &RecordModel)> {
        self.by_value.iter()
    }

    /// Values that were acknowledged and not given up since.
    pub fn acknowledged(&self) -> impl Iterator<Item = (&Value, &RecordModel)> {
        self.by_value.iter().filter(|(_, record)| record.fate == Fate::Acked)
    }

    pub fn offset_of(&self, value: Value) -> Option<u64> {
        self.by_value.get(&value)?.offset
    }

    pub fn sent(&mut self, value: Value, writer: u64) {
        let record = RecordModel { fate: Fate::Unknown, acked_at: 0, offset: None, writer };
        self.by_value.insert(value, record);
    }

    pub fn refused(&mut self, value: Value) -> Checked {
        let Some(record) = self.by_value.get_mut(&value) else { return Ok(()) };
        if let Some(offset) = record.offset {
            return violation(format!("v{value} was refused and lies at {offset}"));
        }
        record.fate = Fate::Refused;
        Ok(())
    }

    pub fn acked(&mut self, value: Value, offset: Option<u64>, now: u64) -> Checked {
        if let Some(offset) = offset {
            self.observe(offset, value)?;
        }
        if let Some(record) = self.by_value.get_mut(&value) {
            record.fate = Fate::Acked;
            record.acked_at = now;
        }
        Ok(())
    }

    /// Somebody saw `value` at `offset`.
    pub fn observe(&mut self, offset: u64, value: Value) -> Checked {
        self.end = self.end.max(offset + 1);
        let Some(record) = self.by_value.get_mut(&value) else {
            return violation(format!("v{value} at {offset} was never sent here"));
        };
        match record.fate {
            Fate::Refused => return violation(format!("v{value} at {offset} was refused")),
            Fate::Lost => {
                return violation(format!("v{value} at {offset} came back from the dead"))
            }
            Fate::Unknown | Fate::Acked => {}
        }
        if let Some(known) = record.offset.filter(|known| *known != offset) {
            return violation(format!("v{value} is at {known} and at {offset}"));
        }
        record.offset = Some(offset);
        match self.by_offset.insert(offset, value) {
            Some(other) if other != value => {
                violation(format!("offset {offset} holds v{other} and v{value}"))
            }
            _ => Ok(()),
        }
    }

    /// A batch carries the epoch of a leader that there has been by now.
    pub fn check_epoch(&self, base: u64, epoch: i32, now: i32) -> Checked {
        match epoch {
            epoch if epoch < 1 || epoch > now => violation(format!(
                "the batch at {base} is not what was read or written: of epoch {epoch}, and now is {now}"
            )),
            _ => Ok(()),
        }
    }

    /// A batch was read: a later reader finds the same bytes.
    pub fn observe_batch(&mut self, base: u64, checksum: u32) -> Checked {
        match self.batches.insert(base, checksum) {
            Some(before) if before != checksum => {
                violation(format!("the batch at {base} is not what was read there before"))
            }
            _ => Ok(()),
        }
    }

    /// An answer about the stream as a whole, to a question asked when `end` and `epoch` were known.
    pub fn bounds(&mut self, observed: Observed, end: u64, epoch: i32) -> Checked {
        let Observed { start, end: now_end, epoch: now_epoch } = observed;
        if now_end < end {
            return violation(format!("the end went back from {end} to {now_end}"));
        }
        if now_epoch < epoch {
            return violation(format!("the epoch went back from {epoch} to {now_epoch}"));
        }
        if start > now_end {
            return violation(format!("starts at {start}, behind its end {now_end}"));
        }
        self.end = self.end.max(now_end);
        self.epoch = self.epoch.max(now_epoch);
        Ok(())
    }

    /// After a crash; true if something acknowledged is gone (never with `strict`).
    pub fn recovered(&mut self, observed: Observed, strict: bool) -> Result<bool, Violation> {
        let Observed { end, epoch, .. } = observed;
        if strict && end < self.end {
            return violation(format!("the end was {} before the crash, now {end}", self.end));
        }
        if self.epoch > 0 && epoch <= self.epoch {
            return violation(format!("epoch {epoch} after a restart, {} before", self.epoch));
        }
        let gone = self.by_offset.split_off(&end);
        self.batches.split_off(&end);
        let mut lost = false;
        for (offset, value) in &gone {
            if let Some(record) = self.by_value.get_mut(value) {
                if record.fate == Fate::Acked {
                    return violation(format!(
                        "v{value} at {offset} was acknowledged long before the crash and is gone"
                    ));
                }
                lost |= record.acked_at > 0;
                record.fate = Fate::Lost;
                record.offset = None;
            }
        }
        self.end = end;
        self.epoch = epoch;
        Ok(lost)
    }

    /// A relaxed stream is about to crash: what was acknowledged since `since` may go, unless a reader
    /// finds it later.
    pub fn doubt(&mut self, since: u64) {
        for record in self.by_value.values_mut() {
            if record.fate == Fate::Acked && record.acked_at >= since {
                record.fate = Fate::Unknown;
            }
        }
    }

    /// Records of one writer lie in the order they were sent.
    pub fn check_order(&self) -> Checked {
        let mut last: BTreeMap<u64, (Value, u64)> = BTreeMap::new();
        for (offset, value) in &self.by_offset {
            let Some(record) = self.by_value.get(value) else { continue };
            if let Some((before, at)) = last.insert(record.writer, (*value, *offset)) {
                if before > *value {
                    return violation(format!(
                        "v{before} at {at} lies before v{value} at {offset}, which was sent first"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Everything acknowledged is there, where it was said to be, and nothing else.
    pub fn check_kept(&self, kept: &BTreeMap<u64, Value>) -> Checked {
        for (value, record) in &self.by_value {
            if record.fate != Fate::Acked {
                continue;
            }
            match record.offset {
                Some(offset) if offset < self.trimmed_to || kept.get(&offset) == Some(value) => {}
                Some(offset) => {
                    return violation(format!(
                        "v{value} was acknowledged at {offset}, where a reader finds {:?}",
                        kept.get(&offset)
                    ));
                }
                // Nobody saw where it went before it was trimmed.
                None if self.trimmed_to > 0 => {}
                None => return violation(format!("v{value} was acknowledged and is nowhere")),
            }
        }
        Ok(())
    }
}
