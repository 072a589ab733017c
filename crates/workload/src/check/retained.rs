//! A new subscription is told the last retained message acknowledged before it asked, or one that was
//! attempted later. Each topic has one publisher, which waits for its answer.

use super::{Kind, Verdict};
use crate::history::{History, Outcome, Retain, RetainedSeen};
use crate::value::{Found, Value};

pub fn check(history: &History, verdict: &mut Verdict) {
    for seen in &history.retained_seen {
        let found = match seen.value {
            None => None,
            Some(Found::Value(value)) => Some(value),
            Some(other) => {
                verdict.flag(Kind::Damaged, format!("retained {}: {other:?}", seen.topic));
                continue;
            }
        };
        let of_topic: Vec<&Retain> =
            history.retains.iter().filter(|retain| retain.topic == seen.topic).collect();
        if !candidates(&of_topic, seen).contains(&found) {
            let text = format!("retained {}: {found:?} seen at {}", seen.topic, seen.asked);
            verdict.flag(Kind::RetainedStale, text);
        }
    }
}

fn candidates(retains: &[&Retain], seen: &RetainedSeen) -> Vec<Option<Value>> {
    let is_settled =
        |retain: &&Retain| matches!(retain.outcome, Outcome::Ok(_)) && retain.ended < seen.asked;
    let last = retains.iter().rposition(is_settled);
    // Nothing is retained before the first.
    let mut candidates = if last.is_none() { vec![None] } else { Vec::new() };
    let later = &retains[last.unwrap_or(0)..];
    let attempts = later
        .iter()
        .filter(|retain| retain.begun < seen.heard && retain.outcome != Outcome::Failed);
    candidates.extend(attempts.map(|retain| retain.value));
    candidates
}
