//! Judges a history, after Jepsen's `total-queue` and `kafka` checkers and the promises of each protocol.
//! It assumes that everything was drained: what was acknowledged and is not read by now is lost. It
//! must never ask the broker anything, and never forgive what no promise excuses.

mod group;
mod log;
mod queue;
mod retained;
mod session;
#[cfg(test)]
mod tests;
mod writes;

use crate::history::{History, Note, Outcome, SinkKind};
use crate::value::Found;
use std::fmt;
use writes::Writes;

/// What is wrong. Names are Jepsen's where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Acknowledged, and never read.
    Lost,
    /// Read, and never written to that place, or refused.
    Unexpected,
    /// Read again without the flag that says so, or under a promise of exactly once.
    Duplicated,
    /// Read again by a queue's consumer without `redelivered`, or by a session without DUP.
    NotFlagged,
    /// Read with bytes that nobody wrote.
    Damaged,
    /// Of another run.
    Stray,
    /// Read before an earlier one of the same writer and lane.
    Reordered,
    /// One offset, two values.
    InconsistentOffsets,
    /// Acknowledged at an offset below one that was read, and never read.
    LostWrite,
    /// One value at two offsets.
    DuplicateOffsets,
    /// A reader went over an offset that holds a value.
    PollSkip,
    NonmonotonicPoll,
    NonmonotonicSend,
    /// Acknowledged, and behind everything that was read.
    Unseen,
    /// A group's committed offset is older than one acknowledged before.
    OffsetMovedBack,
    /// A retained message that is neither the last one acknowledged nor a later attempt.
    RetainedStale,
    ObjectLost,
    SequenceLost,
    Malformed,
}

/// One broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anomaly {
    pub kind: Kind,
    pub text: String,
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.text)
    }
}

/// How strict to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// The broker ran short of something and may have refused writes. Of one that its client did not hear
    /// refused, and therefore sent again, the place in the order is that of the last try: what a PUBACK
    /// or PUBREC of 0x80 or above refuses, the broker never had to send on (MQTT 5 §3.5.2.1, §4.3.3, §4.6).
    pub refuses: bool,
    /// The broker was killed, and may have published a will before that and again after it: it publishes
    /// a will and then removes it (MQTT 5 §3.1.2.5), and at QoS 1 may do so twice (§4.3.2).
    pub repeats_wills: bool,
}

/// How much there was to judge. A run that judged nothing proves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub writes: u64,
    pub ok: u64,
    pub failed: u64,
    pub unknown: u64,
    pub repeated: u64,
    /// Unknown, and read: legal.
    pub recovered: u64,
    pub reads: u64,
    /// Reads of a value that the same sink had given before, flagged as they must be.
    pub redelivered: u64,
    pub retained_seen: u64,
    pub committed_seen: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Verdict {
    pub anomalies: Vec<Anomaly>,
    pub counts: Counts,
}

impl Verdict {
    pub fn is_valid(&self) -> bool {
        self.anomalies.is_empty()
    }

    pub(crate) fn flag(&mut self, kind: Kind, text: impl Into<String>) {
        self.anomalies.push(Anomaly { kind, text: text.into() });
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Of each kind, so that one bug with many victims does not hide another.
        const SHOWN_MAX: usize = 5;
        let mut kinds: Vec<Kind> = self.anomalies.iter().map(|anomaly| anomaly.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        for kind in kinds {
            let of_kind = || self.anomalies.iter().filter(|anomaly| anomaly.kind == kind);
            for anomaly in of_kind().take(SHOWN_MAX) {
                writeln!(f, "{anomaly}")?;
            }
            if of_kind().count() > SHOWN_MAX {
                writeln!(f, "{kind:?}: {} in all", of_kind().count())?;
            }
        }
        write!(f, "{:?}", self.counts)
    }
}

/// Judges everything.
pub fn judge(history: &History, rules: Rules) -> Verdict {
    let mut verdict = Verdict::default();
    let writes = Writes::new(history, rules);
    count(history, &mut verdict);
    for read in &history.reads {
        let sink = &history.sinks[read.sink].name;
        match read.found {
            Found::Damaged => verdict.flag(Kind::Damaged, format!("{sink}: {:?}", read.how)),
            Found::Stray => verdict.flag(Kind::Stray, format!("{sink}: {:?}", read.how)),
            Found::Value(_) => {}
        }
    }
    for (id, sink) in history.sinks.iter().enumerate() {
        let place = writes.place(id);
        place.check_known(&mut verdict);
        match sink.kind {
            SinkKind::Log { whole } => log::check(&place, whole, &mut verdict),
            SinkKind::Queue => queue::check(&place, &mut verdict),
            SinkKind::Session { qos } => session::check(&place, qos, &mut verdict),
        }
    }
    group::check(history, &mut verdict);
    retained::check(history, &mut verdict);
    for ((process, note), count) in &history.notes {
        let text = || format!("process {process}: {note:?}, {count} times");
        match note {
            Note::ObjectLost(_) => verdict.flag(Kind::ObjectLost, text()),
            Note::SequenceLost(_) => verdict.flag(Kind::SequenceLost, text()),
            Note::Malformed(_) => verdict.flag(Kind::Malformed, text()),
            _ => {}
        }
    }
    verdict
}

fn count(history: &History, verdict: &mut Verdict) {
    let counts = &mut verdict.counts;
    for write in &history.writes {
        counts.writes += 1;
        counts.repeated += u64::from(write.repeats > 0);
        match write.outcome {
            Outcome::Ok(_) => counts.ok += 1,
            Outcome::Failed => counts.failed += 1,
            Outcome::Open | Outcome::Unknown => counts.unknown += 1,
        }
    }
    counts.reads = history.reads.len() as u64;
    counts.retained_seen = history.retained_seen.len() as u64;
    counts.committed_seen = history.committed_seen.len() as u64;
}
