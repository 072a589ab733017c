use super::*;
use crate::consensus::EntryKind;

fn start(applied: LogPoint, hard_state: HardState) -> RaftGroup {
    RaftGroup::start(StartingPoint {
        this: NodeId(1),
        now: Moment(0),
        seed: 1,
        applied,
        hard_state,
        configuration: Configuration::new(&[NodeId(1)]),
        entries: Vec::new(),
    })
}

/// Writes and persists all at once.
fn drive(group: &mut RaftGroup, frames: &mut u64) -> Vec<Entry> {
    let mut committed = Vec::new();
    while let Some(ready) = group.ready() {
        let count = ready.entries.len() as u64 + u64::from(ready.hard_state.is_some());
        *frames += count;
        group.wrote((count > 0).then_some(*frames));
        group.persisted(*frames);
        for entry in ready.committed {
            group.applied(LogPoint { index: entry.index, term: entry.term });
            committed.push(entry);
        }
    }
    committed
}

#[test]
fn a_lone_voter_leads_and_commits_what_is_persisted() {
    let mut group = start(LogPoint::default(), HardState::default());
    let mut frames = 0;
    assert!(!group.is_serving());
    let first = drive(&mut group, &mut frames);
    assert!(group.is_serving() && group.is_alone() && group.has_mandate(Moment(0)));
    assert_eq!(first.len(), 1, "the no-op of its term");
    assert_eq!(group.propose(b"one".to_vec()), Ok(2));
    let ready = group.ready().expect("an entry to write");
    assert_eq!((ready.entries.len(), ready.entries[0].kind), (1, EntryKind::Data));
    assert!(ready.committed.is_empty(), "not committed before it is persisted");
    group.wrote(Some(frames + 1));
    assert!(group.ready().is_none());
    group.persisted(frames + 1);
    let committed = drive(&mut group, &mut frames);
    assert_eq!(committed.iter().map(|e| &e.data[..]).collect::<Vec<_>>(), [b"one"]);
    assert!(group.take_messages().is_empty());
}

#[test]
fn a_restart_goes_on_above_what_was_applied_in_a_higher_term() {
    let applied = LogPoint { index: 41, term: 3 };
    let mut group = start(applied, HardState { term: 3, vote: 1 });
    let committed = drive(&mut group, &mut 0);
    assert_eq!((committed[0].index, committed[0].term), (42, 4));
    assert!(group.is_serving());
}

/// RUSTSEC-2024-0437: a parser that calls itself for each group within a group is brought down by a peer.
#[test]
fn nested_groups_are_no_change() {
    let before = Configuration::new(&[NodeId(1)]);
    // Field 1, beginning of a group; its end.
    assert_eq!(changed_by(&before, &[0x0b, 0x0b, 0x0c, 0x0c]), None, "one within another");
    assert_eq!(changed_by(&before, &vec![0x0b; 1 << 20]), None);
    assert!(changed_by(&before, &[]).is_some(), "an empty change is one");
}
