//! For each anomaly one history that must be flagged, and a legal neighbour that must not.
//!
//! A history is text, one event a line, with values as `process.counter`:
//!
//! ```text
//! w 1.1 ROUTE PROMISE [LANE]   a write begins (promises: none, least, exactly, once)
//! ok 1.1 [OFFSET]         it is acknowledged;  also: fail 1.1, lost 1.1 (unknown), again 1.1 (repeated)
//! log 1.1 OFFSET [AFTER]  read from the log;   alien OFFSET reads a damaged body, stray OFFSET another run's
//! kept 1.1 OFFSET [AFTER] read from the log of which consumers take
//! q 1.1 [CONN] [!]        delivered by the queue, over a connection; ! is redelivered
//! s QOS 1.1 [!]           pushed to the session with that QoS granted; ! is DUP
//! retain VALUE            a retained publish begins; - removes;   retained ok, retained lost
//! ask / see VALUE         a subscription asks; what it sees
//! commit N / committed ok / committed lost / fetch / fetched N
//! note lost-object, note lost-sequence, note malformed
//! ```

use super::*;
use crate::history::{How, Note, Promise, SinkKind};
use crate::value::Value;
use koine_base::Moment;

const LOG: usize = 0;
const KEPT: usize = 1;
const QUEUE: usize = 2;
/// The sink of a session with QoS n is this plus n.
const SESSION: usize = 3;

fn value(text: &str) -> Value {
    let (process, counter) = text.split_once('.').expect("a value is process.counter");
    let number = |text: &str| text.parse().expect("a number");
    Value { process: number(process), counter: number(counter) }
}

fn places() -> History {
    let mut history = History::default();
    history.sink("log", SinkKind::Log { whole: true });
    history.sink("kept", SinkKind::Log { whole: false });
    history.sink("queue", SinkKind::Queue);
    for qos in 0..3 {
        history.sink(format!("session {qos}"), SinkKind::Session { qos });
    }
    history
}

/// A route reaches what its name says: `log`, `kept`, `queue`, `s0`, `s1`, `s2`; `forward` reaches the log
/// and, with a copy, the queue.
fn route(history: &mut History, name: &str) -> usize {
    if name == "forward" {
        let route = history.route(name, &[LOG, QUEUE]);
        history.routes[route].copies = vec![QUEUE];
        return route;
    }
    let sink = match name {
        "log" => LOG,
        "kept" => KEPT,
        "queue" => QUEUE,
        session => SESSION + session[1..].parse::<usize>().expect("s and a QoS"),
    };
    match history.routes.iter().position(|route| route.name == name) {
        Some(known) => known,
        None => history.route(name, &[sink]),
    }
}

fn history(script: &str) -> History {
    let mut history = places();
    let mut asked = 0;
    for line in script.split([';', '\n']).map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<i64>().ok());
        match words[0] {
            "w" => {
                let route = route(&mut history, words[2]);
                let promise = match words[3] {
                    "none" => Promise::Nothing,
                    "will" => Promise::Will,
                    "least" => Promise::AtLeastOnce,
                    "exactly" => Promise::ExactlyOnce,
                    _ => Promise::Once,
                };
                let lane = number(4).unwrap_or(0) as u64;
                history.write(Moment(0), value(words[1]), route, promise, lane);
            }
            "ok" | "fail" | "lost" | "again" | "unheard" => end(&mut history, &words, number(2)),
            "log" | "kept" | "alien" | "stray" => {
                let sink = if words[0] == "kept" { KEPT } else { LOG };
                let (found, at) = match words[0] {
                    "alien" => (Found::Damaged, 1),
                    "stray" => (Found::Stray, 1),
                    _ => (Found::Value(value(words[1])), 2),
                };
                let offset = number(at).expect("an offset");
                let how = How::Offset { offset, after: number(at + 1) };
                history.read(Moment(0), (9, 1), sink, found, how);
            }
            "q" => {
                let how = How::Delivered { redelivered: words.contains(&"!") };
                let who = (8, number(2).unwrap_or(1) as u32);
                history.read(Moment(0), who, QUEUE, Found::Value(value(words[1])), how);
            }
            "s" => {
                let qos = number(1).expect("a QoS") as u8;
                let how = How::Pushed { qos, dup: words.contains(&"!") };
                let sink = SESSION + usize::from(qos);
                history.read(Moment(0), (7, 1), sink, Found::Value(value(words[2])), how);
            }
            "note" => {
                let text = "text".to_owned();
                let note = match words[1] {
                    "lost-object" => Note::ObjectLost(text),
                    "lost-sequence" => Note::SequenceLost(text),
                    "malformed" => Note::Malformed(text),
                    _ => Note::Refused(text),
                };
                history.note(1, note);
            }
            _ => look(&mut history, &words, &mut asked),
        }
    }
    history
}

fn end(history: &mut History, words: &[&str], offset: Option<i64>) {
    let value = value(words[1]);
    let id = history.writes.iter().position(|write| write.value == value).expect("it began");
    match words[0] {
        "ok" => history.end(id, Outcome::Ok(offset)),
        "fail" => history.end(id, Outcome::Failed),
        "lost" => history.end(id, Outcome::Unknown),
        "unheard" => history.repeat_refusable(id),
        _ => history.repeat(id),
    }
}

/// Retained messages and committed offsets.
fn look(history: &mut History, words: &[&str], asked: &mut u64) {
    let optional = |text: &str| (text != "-").then(|| value(text));
    let outcome = || if words[1] == "ok" { Outcome::Ok(None) } else { Outcome::Unknown };
    match words[0] {
        "retain" => drop(history.retain("r", optional(words[1]))),
        "retained" => history.end_retain(history.retains.len() - 1, outcome()),
        "ask" | "fetch" => *asked = history.tick(),
        "see" => history.retained("r", optional(words[1]).map(Found::Value), *asked),
        "commit" => drop(history.commit("g", LOG, words[1].parse().expect("an offset"))),
        "committed" => history.end_commit(history.commits.len() - 1, outcome()),
        "fetched" => history.committed("g", LOG, words[1].parse().ok(), *asked),
        other => panic!("{other}"),
    }
}

fn kinds(script: &str, rules: Rules) -> Vec<Kind> {
    let mut kinds: Vec<Kind> =
        judge(&history(script), rules).anomalies.iter().map(|anomaly| anomaly.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

/// `wrong` has this anomaly and no other, `legal` has none.
#[track_caller]
fn check(kind: Kind, wrong: &str, legal: &str) {
    assert_eq!(kinds(wrong, Rules::default()), [kind], "{wrong}");
    assert_eq!(kinds(legal, Rules::default()), [], "{legal}");
}

#[test]
fn queues() {
    check(Kind::Lost, "w 1.1 queue once; ok 1.1", "w 1.1 queue once; ok 1.1; q 1.1");
    check(Kind::Lost, "w 1.1 queue once; ok 1.1", "w 1.1 queue once; lost 1.1");
    check(Kind::Lost, "w 1.1 queue least; ok 1.1", "w 1.1 queue none; lost 1.1");
    check(Kind::Unexpected, "q 1.1", "w 1.1 queue once; lost 1.1; q 1.1");
    check(Kind::Unexpected, "w 1.1 log once; lost 1.1; q 1.1", "w 1.1 queue once; q 1.1");
    check(Kind::Unexpected, "w 1.1 queue once; fail 1.1; q 1.1", "w 1.1 queue once; fail 1.1");
    check(
        Kind::NotFlagged,
        "w 1.1 queue once; ok 1.1; q 1.1 1; q 1.1 2",
        "w 1.1 queue once; ok 1.1; q 1.1 1; q 1.1 2 !",
    );
    // Only a repetition that may be stored again excuses it.
    check(
        Kind::NotFlagged,
        "w 1.1 queue once; again 1.1; ok 1.1; q 1.1; q 1.1",
        "w 1.1 queue least; again 1.1; ok 1.1; q 1.1; q 1.1",
    );
    // A copy may be made again, the record itself not.
    check(
        Kind::DuplicateOffsets,
        "w 1.1 forward once; again 1.1; ok 1.1; log 1.1 0; log 1.1 1; q 1.1; q 1.1",
        "w 1.1 forward once; again 1.1; ok 1.1; log 1.1 0; q 1.1; q 1.1",
    );
    check(
        Kind::Reordered,
        "w 1.1 queue once; w 1.2 queue once; ok 1.1; ok 1.2; q 1.2 1; q 1.1 1",
        "w 1.1 queue once; w 1.2 queue once; ok 1.1; ok 1.2; q 1.2 1; q 1.1 2",
    );
    check(
        Kind::Reordered,
        "w 1.1 queue once; w 1.2 queue once; ok 1.1; ok 1.2; q 1.2; q 1.1",
        "w 1.1 queue once; w 1.2 queue once; ok 1.1; ok 1.2; q 1.2; q 1.1 !",
    );
    check(
        Kind::Reordered,
        "w 1.1 queue once; w 1.2 queue once; ok 1.1; ok 1.2; q 1.2; q 1.1",
        "w 1.2 queue once; w 2.1 queue once; ok 1.2; ok 2.1; q 1.2; q 2.1",
    );
    // What its client repeated is there twice, and the first of them was put back.
    check(
        Kind::Reordered,
        "w 1.1 queue least; w 1.2 queue least; again 1.1; ok 1.1; ok 1.2; q 1.2; q 1.1",
        "w 1.1 queue least; w 1.2 queue least; again 1.1; ok 1.1; ok 1.2; q 1.2; q 1.1; q 1.1 !",
    );
}

#[test]
fn what_may_have_been_refused_takes_the_place_of_its_last_try() {
    let refuses = Rules { refuses: true, ..Rules::default() };
    let two = "w 1.1 s2 exactly; w 1.2 s2 exactly;";
    let read = "ok 1.1; ok 1.2; s 2 1.2; s 2 1.1";
    assert_eq!(kinds(&format!("{two} unheard 1.1; {read}"), refuses), []);
    assert_eq!(kinds(&format!("{two} unheard 1.1; {read}"), Rules::default()), [Kind::Reordered]);
    // Not repeated, or by a client that cannot be told.
    assert_eq!(kinds(&format!("{two} {read}"), refuses), [Kind::Reordered]);
    assert_eq!(kinds(&format!("{two} again 1.1; {read}"), refuses), [Kind::Reordered]);
}

#[test]
fn a_will_comes_twice_only_over_a_crash() {
    let twice = "w 1.1 s1 will; lost 1.1; s 1 1.1; s 1 1.1";
    assert_eq!(kinds(twice, Rules::default()), [Kind::NotFlagged]);
    let lenient = Rules { repeats_wills: true, ..Rules::default() };
    assert_eq!(kinds(twice, lenient), []);
    assert_eq!(kinds("w 1.1 s1 none; lost 1.1; s 1 1.1; s 1 1.1", lenient), [Kind::NotFlagged]);
}

#[test]
fn logs() {
    let two = "w 1.1 log once; ok 1.1 0; w 1.2 log once; ok 1.2 1;";
    let both = &format!("{two} log 1.1 0; log 1.2 1 0");
    check(Kind::Unseen, &format!("{two} log 1.1 0"), both);
    check(Kind::LostWrite, &format!("{two} log 1.2 1"), both);
    check(Kind::Lost, "w 1.1 log once; ok 1.1", "w 1.1 log once; ok 1.1; log 1.1 4");
    check(
        Kind::InconsistentOffsets,
        "w 1.1 log once; w 2.1 log once; log 1.1 0; log 2.1 0",
        "w 1.1 log once; w 2.1 log once; log 1.1 0; log 2.1 1; log 1.1 0",
    );
    // What was acknowledged and what was read are one.
    check(
        Kind::InconsistentOffsets,
        "w 1.1 log once; ok 1.1 0; w 2.1 log once; log 2.1 0; log 1.1 1; w 3.1 log once; ok 3.1 1; log 3.1 2",
        "w 1.1 log once; ok 1.1 0; w 2.1 log once; log 2.1 1; log 1.1 0",
    );
    check(
        Kind::DuplicateOffsets,
        "w 1.1 log once; again 1.1; ok 1.1; log 1.1 0; log 1.1 1",
        "w 1.1 log least; again 1.1; ok 1.1; log 1.1 0; log 1.1 1",
    );
    check(
        Kind::PollSkip,
        &format!("{two} w 1.3 log once; ok 1.3 2; log 1.1 0; log 1.3 2 0; log 1.2 1"),
        &format!("{two} w 1.3 log once; ok 1.3 2; log 1.1 0; log 1.2 1 0; log 1.3 2 1"),
    );
    // An offset that nothing is known of may be empty.
    check(
        Kind::PollSkip,
        "w 1.1 log once; w 2.1 log once; w 3.1 log once; log 1.1 0; log 3.1 2 0; log 2.1 1",
        "w 1.1 log once; w 3.1 log once; log 1.1 0; log 3.1 2 0",
    );
    check(
        Kind::NonmonotonicPoll,
        &format!("{two} log 1.1 0; log 1.2 1 0; log 1.1 0 1"),
        &format!("{two} log 1.1 0; log 1.2 1 0; log 1.1 0"),
    );
    check(
        Kind::NonmonotonicSend,
        "w 1.1 log once; ok 1.1 1; w 1.2 log once 1; ok 1.2 0; log 1.2 0; log 1.1 1",
        both,
    );
    // At the same time either may come first.
    assert_eq!(
        kinds(
            "w 1.1 log once; w 1.2 log once; ok 1.2 0; ok 1.1 1; log 1.2 0; log 1.1 1",
            Rules::default()
        ),
        [Kind::Reordered]
    );
    check(Kind::Damaged, &format!("{both}; alien 2"), both);
    check(Kind::Stray, &format!("{both}; stray 2"), both);
    // Consumers take from it: gaps and losses are theirs to judge.
    check(
        Kind::InconsistentOffsets,
        "w 1.1 kept once; w 2.1 kept once; kept 1.1 0; kept 2.1 0",
        "w 1.1 kept once; ok 1.1 0; w 1.2 kept once; ok 1.2 1; w 1.3 kept once; ok 1.3 2; kept 1.3 2",
    );
}

#[test]
fn sessions() {
    check(Kind::Lost, "w 1.1 s1 least; ok 1.1", "w 1.1 s1 least; ok 1.1; s 1 1.1");
    check(Kind::Lost, "w 1.1 s2 least; ok 1.1", "w 1.1 s0 least; ok 1.1");
    check(
        Kind::NotFlagged,
        "w 1.1 s1 once; ok 1.1; s 1 1.1; s 1 1.1",
        "w 1.1 s1 once; ok 1.1; s 1 1.1; s 1 1.1 !",
    );
    check(
        Kind::Duplicated,
        "w 1.1 s2 exactly; ok 1.1; s 2 1.1; s 2 1.1 !",
        "w 1.1 s2 exactly; ok 1.1; s 2 1.1",
    );
    check(
        Kind::Duplicated,
        "w 1.1 s2 exactly; again 1.1; ok 1.1; s 2 1.1; s 2 1.1",
        "w 1.1 s2 least; again 1.1; ok 1.1; s 2 1.1; s 2 1.1",
    );
    let refuses = Rules { refuses: true, ..Rules::default() };
    let repeated = "w 1.1 s2 exactly; unheard 1.1; ok 1.1; s 2 1.1; s 2 1.1";
    assert_eq!(kinds(repeated, refuses), []);
    assert_eq!(kinds(repeated, Rules::default()), [Kind::Duplicated]);
    check(
        Kind::Duplicated,
        "w 1.1 s0 exactly; ok 1.1; s 0 1.1; s 0 1.1",
        "w 1.1 s0 exactly; again 1.1; ok 1.1; s 0 1.1; s 0 1.1",
    );
    check(
        Kind::Duplicated,
        "w 1.1 s0 none; lost 1.1; s 0 1.1; s 0 1.1",
        "w 1.1 s0 none; lost 1.1; s 0 1.1",
    );
    check(
        Kind::Reordered,
        "w 1.1 s0 exactly; w 1.2 s0 exactly; ok 1.1; ok 1.2; s 0 1.2; s 0 1.1",
        "w 1.1 s0 exactly; w 1.2 s0 exactly; again 1.1; ok 1.1; ok 1.2; s 0 1.2; s 0 1.1",
    );
    // What is stored once may pass by a second time where nothing is stored.
    check(
        Kind::Duplicated,
        "w 1.1 s0 exactly; ok 1.1; s 0 1.1; s 0 1.1",
        "w 1.1 s0 exactly; again 1.1; ok 1.1; s 0 1.1; s 0 1.1",
    );
    check(
        Kind::Reordered,
        "w 1.1 s1 least; w 1.2 s1 least; ok 1.1; ok 1.2; s 1 1.2; s 1 1.1",
        "w 1.1 s1 least; w 1.2 s1 least; ok 1.1; ok 1.2; s 1 1.1; s 1 1.2; s 1 1.1 !; s 1 1.2 !",
    );
}

#[test]
fn retained_messages() {
    let one = "retain 1.1; retained ok;";
    check(Kind::RetainedStale, &format!("{one} ask; see -"), &format!("{one} ask; see 1.1"));
    check(Kind::RetainedStale, "ask; see 1.1; retain 1.1", "ask; see -");
    check(
        Kind::RetainedStale,
        &format!("{one} retain 1.2; retained ok; ask; see 1.1"),
        &format!("{one} retain 1.2; ask; see 1.1; ask; see 1.2"),
    );
    check(
        Kind::RetainedStale,
        &format!("{one} retain -; retained ok; ask; see 1.1"),
        &format!("{one} retain -; retained ok; ask; see -"),
    );
    check(
        Kind::RetainedStale,
        &format!("{one} retain 1.2; retained lost; ask; see -"),
        &format!("{one} retain 1.2; retained lost; ask; see 1.2; ask; see 1.1"),
    );
}

#[test]
fn committed_offsets() {
    let one = "commit 5; committed ok;";
    check(Kind::OffsetMovedBack, &format!("{one} fetch; fetched -"), "fetch; fetched -");
    check(
        Kind::OffsetMovedBack,
        &format!("{one} commit 7; committed ok; fetch; fetched 5"),
        &format!("{one} commit 7; committed lost; fetch; fetched 5; fetch; fetched 7"),
    );
    // What was seen once was committed, whatever its client heard.
    check(
        Kind::OffsetMovedBack,
        &format!("{one} commit 7; committed lost; fetch; fetched 7; fetch; fetched 5"),
        &format!("{one} commit 7; committed lost; fetch; fetched 7; fetch; fetched 7"),
    );
    check(Kind::Unexpected, &format!("{one} fetch; fetched 6"), &format!("{one} fetch; fetched 5"));
}

#[test]
fn what_clients_met() {
    check(Kind::ObjectLost, "note lost-object", "note refused");
    check(Kind::SequenceLost, "note lost-sequence", "note refused");
    check(Kind::Malformed, "note malformed", "note refused");
}

#[test]
fn a_verdict_counts_what_there_was_to_judge() {
    let script = "w 1.1 queue once; ok 1.1; w 1.2 queue once; lost 1.2; w 1.3 queue once; fail 1.3;
        q 1.1; q 1.2; q 1.2 !; ask; see -; fetch; fetched -";
    let verdict = judge(&history(script), Rules::default());
    assert!(verdict.is_valid(), "{verdict}");
    let expect = Counts {
        writes: 3,
        ok: 1,
        failed: 1,
        unknown: 1,
        repeated: 0,
        recovered: 1,
        reads: 3,
        redelivered: 1,
        retained_seen: 1,
        committed_seen: 1,
    };
    assert_eq!(verdict.counts, expect);
}
