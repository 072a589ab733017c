//! The `kafka` checker: a log read by offset.

use super::writes::{offset_of, Place};
use super::{Kind, Verdict};
use crate::history::{Process, Read};
use crate::value::Value;
use std::collections::{BTreeMap, HashMap};

/// Unless it is `whole`, what consumers settled may be gone from it before it was read.
pub fn check(place: &Place<'_, '_>, whole: bool, verdict: &mut Verdict) {
    let by_offset = check_offsets(place, verdict);
    check_duplicates(place, &by_offset, verdict);
    if whole {
        check_missing(place, &by_offset, verdict);
    }
    check_polls(place, &by_offset, whole, verdict);
    check_sends(place, verdict);
    let in_log: Vec<(&Read, Value)> = {
        let mut reads = place.reads().to_vec();
        reads.sort_by_key(|(read, _)| offset_of(read));
        reads
    };
    place.check_order(in_log.into_iter(), |_| (), verdict);
}

/// What is known to be where, from reads and from acknowledgements.
fn check_offsets(place: &Place<'_, '_>, verdict: &mut Verdict) -> BTreeMap<i64, Value> {
    let mut by_offset = BTreeMap::new();
    let reads = place.reads().iter().filter_map(|(read, value)| Some((offset_of(read)?.0, *value)));
    let sends = place.acknowledged().filter_map(|(write, offset)| Some((offset?, write.value)));
    for (offset, value) in reads.chain(sends) {
        let known = *by_offset.entry(offset).or_insert(value);
        if known != value {
            let text = format!("{}: {known} and {value} at {offset}", place.name());
            verdict.flag(Kind::InconsistentOffsets, text);
        }
    }
    by_offset
}

fn check_duplicates(
    place: &Place<'_, '_>,
    by_offset: &BTreeMap<i64, Value>,
    verdict: &mut Verdict,
) {
    let mut first: HashMap<Value, i64> = HashMap::new();
    for (offset, value) in by_offset {
        let Some(earlier) = first.insert(*value, *offset) else { continue };
        if place.write_of(*value).is_some_and(|write| place.may_be_stored_again(write)) {
            verdict.counts.redelivered += 1;
            continue;
        }
        let text = format!("{}: {value} at {earlier} and {offset}", place.name());
        verdict.flag(Kind::DuplicateOffsets, text);
    }
}

fn check_missing(place: &Place<'_, '_>, by_offset: &BTreeMap<i64, Value>, verdict: &mut Verdict) {
    let seen: std::collections::HashSet<Value> = place.reads().iter().map(|r| r.1).collect();
    let highest = place.reads().iter().filter_map(|(read, _)| offset_of(read)).max();
    let highest = highest.map_or(-1, |(offset, _)| offset);
    for (write, offset) in place.acknowledged() {
        if !write.promise.is_due() || seen.contains(&write.value) {
            continue;
        }
        let kind = match offset {
            Some(offset) if offset < highest => Kind::LostWrite,
            Some(_) => Kind::Unseen,
            None => Kind::Lost,
        };
        let holder = offset.and_then(|offset| by_offset.get(&offset));
        let text = format!(
            "{}: {} acknowledged, highest read {highest}, holder {holder:?}, {write:?}",
            place.name(),
            write.value
        );
        verdict.flag(kind, text);
    }
}

fn check_polls(
    place: &Place<'_, '_>,
    by_offset: &BTreeMap<i64, Value>,
    whole: bool,
    verdict: &mut Verdict,
) {
    for (read, value) in place.reads() {
        let Some((offset, Some(after))) = offset_of(read) else { continue };
        let name = place.name();
        if offset <= after {
            let text = format!("{name}: process {} reads {offset} after {after}", read.process);
            verdict.flag(Kind::NonmonotonicPoll, text);
        } else if whole {
            if let Some((skipped, other)) = by_offset.range(after + 1..offset).next() {
                let text = format!(
                    "{name}: process {} goes from {after} to {value} at {offset} over {other} at {skipped}",
                    read.process
                );
                verdict.flag(Kind::PollSkip, text);
            }
        }
    }
}

/// A process that sends one after the other gets rising offsets.
fn check_sends(place: &Place<'_, '_>, verdict: &mut Verdict) {
    let mut last: HashMap<Process, (u64, i64)> = HashMap::new();
    for (write, offset) in place.acknowledged() {
        let Some(offset) = offset else { continue };
        let (ended, before) = last.get(&write.process).copied().unwrap_or((0, -1));
        if write.begun > ended && offset <= before {
            let text = format!("{}: {} at {offset} after {before}", place.name(), write.value);
            verdict.flag(Kind::NonmonotonicSend, text);
        }
        if offset > before {
            last.insert(write.process, (write.ended, offset));
        }
    }
}
