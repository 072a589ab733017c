//! Committed offsets of a group never move back. Each group has one process, which commits rising offsets.

use super::{Kind, Verdict};
use crate::history::{History, Outcome};

pub fn check(history: &History, verdict: &mut Verdict) {
    for seen in &history.committed_seen {
        let same = |group: &str, sink| group == seen.group && sink == seen.sink;
        let commits = || history.commits.iter().filter(|commit| same(&commit.group, commit.sink));
        let acknowledged = commits()
            .filter(|commit| matches!(commit.outcome, Outcome::Ok(_)) && commit.ended < seen.asked);
        let floor = acknowledged.map(|commit| commit.offset).max();
        let earlier = history
            .committed_seen
            .iter()
            .filter(|other| same(&other.group, other.sink) && other.heard < seen.asked);
        let floor = floor.max(earlier.filter_map(|other| other.offset).max());
        let name = &history.sinks[seen.sink].name;
        if seen.offset < floor {
            let text = format!("{} on {name}: {:?} after {floor:?}", seen.group, seen.offset);
            verdict.flag(Kind::OffsetMovedBack, text);
        }
        let Some(offset) = seen.offset else { continue };
        let is_attempt = commits().any(|commit| {
            commit.offset == offset
                && commit.begun < seen.heard
                && commit.outcome != Outcome::Failed
        });
        if !is_attempt {
            let text = format!("{} on {name}: {offset} was never committed", seen.group);
            verdict.flag(Kind::Unexpected, text);
        }
    }
}
