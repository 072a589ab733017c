//! Retained messages by table, and by seed against a plain list.

use super::*;
use koine_base::rng::Rng;

const WIDE: RetainedLimits = RetainedLimits { count_max: 10_000, bytes_max: 1 << 30 };
const ALL: ScanBudget = ScanBudget { count_max: usize::MAX, node_count_max: usize::MAX };
const NOW: Timestamp = Timestamp(1_000);

fn subject(topic: &str) -> Subject {
    Subject::from_mqtt(topic).unwrap()
}

fn filled(topics: &[&str]) -> RetainedStore {
    let mut store = RetainedStore::new(WIDE);
    for topic in topics {
        store.set(&subject(topic), topic.as_bytes(), None, NOW).unwrap();
    }
    store
}

fn found(store: &RetainedStore, filter: &Filter, now: Timestamp) -> Vec<String> {
    let mut topics = Vec::new();
    let rest = store.matching(filter, None, now, ALL, |entry| {
        topics.push(String::from_utf8(entry.subject.canonical().to_vec()).unwrap());
    });
    assert_eq!(rest, None);
    topics
}

#[test]
fn filters_find_what_they_match() {
    let store = filled(&["a", "a/b", "a/b/c", "a/c", "b", "$SYS/up", "/", "a/"]);
    let check = |filter: &str, expect: &[&str]| {
        let found = found(&store, &Filter::from_mqtt(filter).unwrap(), NOW);
        assert_eq!(found, expect, "{filter}");
    };
    check("a", &["a"]);
    check("a/b", &["a/b"]);
    check("a/x", &[]);
    check("#", &["/", "a", "a/", "a/b", "a/b/c", "a/c", "b"]);
    check("a/#", &["a", "a/", "a/b", "a/b/c", "a/c"]);
    check("a/b/#", &["a/b", "a/b/c"]);
    check("+", &["a", "b"]);
    check("+/+", &["/", "a/", "a/b", "a/c"]);
    check("+/b/#", &["a/b", "a/b/c"]);
    check("$SYS/#", &["$SYS/up"]);
    check("$SYS/+", &["$SYS/up"]);
    check("+/up", &[]);
    let amqp = |key: &str| found(&store, &Filter::from_amqp(key.as_bytes()).unwrap(), NOW);
    assert_eq!(amqp("#.b.#"), ["a/b", "a/b/c", "b"]);
    assert_eq!(amqp("#.up"), ["$SYS/up"]);
    assert_eq!(amqp("#.#.c"), ["a/b/c", "a/c"]);
}

#[test]
fn the_last_message_stands_and_clearing_leaves_nothing_behind() {
    let mut store = filled(&["a/b", "a/b/c"]);
    store.set(&subject("a/b"), b"new", Some(Timestamp(5_000)), NOW).unwrap();
    assert_eq!(store.get(&subject("a/b"), NOW).unwrap().value, "new");
    assert_eq!(store.count(), 2);
    assert!(store.clear(&subject("a/b")));
    assert!(!store.clear(&subject("a/b")));
    assert!(!store.clear(&subject("a")));
    assert_eq!(store.next_expiry(), None);
    assert!(store.clear(&subject("a/b/c")));
    assert_eq!((store.count(), store.bytes(), store.node_count()), (0, 0, 0));
}

#[test]
fn expired_messages_are_neither_shown_nor_in_the_way() {
    let limits = RetainedLimits { count_max: 2, bytes_max: 10_000 };
    let mut store = RetainedStore::new(limits);
    store.set(&subject("soon"), b"x", Some(Timestamp(1_500)), NOW).unwrap();
    store.set(&subject("later"), b"x", Some(Timestamp(2_500)), NOW).unwrap();
    assert_eq!(store.next_expiry(), Some(Timestamp(1_500)));
    let all = Filter::from_mqtt("#").unwrap();
    assert_eq!(found(&store, &all, Timestamp(1_499)), ["later", "soon"]);
    assert_eq!(found(&store, &all, Timestamp(1_500)), ["later"]);
    assert!(store.get(&subject("soon"), Timestamp(1_500)).is_none());
    let refused = store.set(&subject("third"), b"x", None, Timestamp(1_499));
    assert_eq!(refused, Err(RetainedRefusal::TooMany { count_max: 2 }));
    assert_eq!(store.count(), 2);
    store.set(&subject("third"), b"x", None, Timestamp(1_500)).unwrap();
    assert_eq!(store.drop_expired(Timestamp(9_000)), 1);
    assert_eq!(found(&store, &all, NOW), ["third"]);
    // A later expiry of the same message replaces the earlier one.
    store.set(&subject("third"), b"x", Some(Timestamp(3_000)), NOW).unwrap();
    store.set(&subject("third"), b"y", Some(Timestamp(4_000)), NOW).unwrap();
    store.set(&subject("third"), b"z", Some(Timestamp(4_000)), NOW).unwrap();
    assert_eq!(store.drop_expired(Timestamp(3_500)), 0);
    assert_eq!(store.drop_expired(Timestamp(4_000)), 1);
}

#[test]
fn the_byte_budget_counts_what_a_replacement_frees() {
    let size = |value: usize| 1 + value + ENTRY_OVERHEAD_BYTES;
    let limits = RetainedLimits { count_max: 10, bytes_max: size(10) + size(20) };
    let mut store = RetainedStore::new(limits);
    store.set(&subject("a"), &[0; 10], None, NOW).unwrap();
    store.set(&subject("b"), &[0; 20], None, NOW).unwrap();
    let refusal = RetainedRefusal::TooLarge { bytes_max: limits.bytes_max };
    assert_eq!(store.set(&subject("a"), &[0; 11], None, NOW), Err(refusal));
    assert_eq!(store.get(&subject("a"), NOW).unwrap().value.len(), 10);
    store.set(&subject("b"), &[0; 19], None, NOW).unwrap();
    store.set(&subject("a"), &[0; 11], None, NOW).unwrap();
    assert_eq!(store.bytes(), limits.bytes_max);
}

/// What the filter matches, by recursion over the two level lists.
fn naive(filter: &[FilterLevel<'_>], subject: &[&[u8]]) -> bool {
    match filter.split_first() {
        None => subject.is_empty(),
        Some((FilterLevel::Many, rest)) => (0..=subject.len()).any(|n| naive(rest, &subject[n..])),
        Some((level, rest)) => match subject.split_first() {
            None => false,
            Some((text, tail)) => {
                (*level == FilterLevel::One || *level == FilterLevel::Exact(text))
                    && naive(rest, tail)
            }
        },
    }
}

fn text(rng: &mut Rng, words: &[&str], separator: &str) -> String {
    let count = rng.below(5);
    let words: Vec<_> = (0..count).map(|_| words[rng.below(words.len() as u64) as usize]).collect();
    words.join(separator)
}

#[test]
fn scans_by_seed_agree_with_a_list_whole_and_in_pieces() {
    for seed in 0..40 {
        let mut rng = Rng::new(seed);
        let mut store = RetainedStore::new(WIDE);
        let mut list: BTreeMap<Subject, Option<Timestamp>> = BTreeMap::new();
        for _ in 0..200 {
            let topic = text(&mut rng, &["a", "b", "$c", "", "d.e"], ".");
            let subject = Subject::from_amqp(topic.as_bytes()).unwrap();
            if rng.chance(1, 4) {
                assert_eq!(store.clear(&subject), list.remove(&subject).is_some(), "seed {seed}");
            } else {
                let expires = rng.chance(1, 3).then(|| Timestamp(rng.below(2_000) as i64));
                store.set(&subject, b"v", expires, NOW).unwrap();
                list.insert(subject, expires);
            }
        }
        assert_eq!(store.count(), list.len());
        for _ in 0..60 {
            let filter =
                Filter::from_amqp(text(&mut rng, &["a", "*", "#", "$c", ""], ".").as_bytes());
            let filter = match filter.unwrap().to_mqtt() {
                Some(mqtt) if rng.chance(1, 2) => Filter::from_mqtt(&mqtt).unwrap(),
                _ => Filter::from_amqp(text(&mut rng, &["a", "*", "#", "b"], ".").as_bytes())
                    .unwrap(),
            };
            let hidden = filter.starts_with_mqtt_wildcard();
            let levels: Vec<_> = filter.levels().collect();
            let mut expect: Vec<&Subject> = list
                .iter()
                .filter(|(_, expires)| expires.is_none_or(|at| at > NOW))
                .map(|(subject, _)| subject)
                .filter(|s| !hidden || !(s.canonical().is_empty() || s.canonical()[0] == b'$'))
                .filter(|s| naive(&levels, &s.levels().collect::<Vec<_>>()))
                .collect();
            expect.sort_by(|a, b| a.levels().cmp(b.levels()));
            let budget = ScanBudget { count_max: 1 + rng.below(4) as usize, ..ALL };
            let (mut pieces, mut position) = (Vec::new(), None);
            loop {
                let show = |entry: &Retained| pieces.push(entry.subject.clone());
                position = store.matching(&filter, position.as_ref(), NOW, budget, show);
                if position.is_none() {
                    break;
                }
            }
            assert_eq!(pieces.iter().collect::<Vec<_>>(), expect, "seed {seed} {filter:?}");
        }
        let bytes = store.encode();
        let loaded = RetainedStore::decode(&bytes, WIDE).unwrap();
        assert_eq!(loaded.encode(), bytes);
        assert_eq!((loaded.count(), loaded.bytes()), (store.count(), store.bytes()));
        assert_eq!(loaded.next_expiry(), store.next_expiry());
    }
}

#[test]
fn a_scan_without_matches_stops_at_its_node_budget() {
    let mut store = RetainedStore::new(WIDE);
    for number in 0..2_000 {
        store.set(&subject(&format!("{number}/x")), b"v", None, NOW).unwrap();
    }
    store.set(&subject("9/zz"), b"v", None, NOW).unwrap();
    let filter = Filter::from_mqtt("+/zz").unwrap();
    let budget = ScanBudget { count_max: 1, node_count_max: 500 };
    let (mut calls, mut shown, mut position) = (0, 0, None);
    loop {
        calls += 1;
        position = store.matching(&filter, position.as_ref(), NOW, budget, |_| shown += 1);
        if position.is_none() {
            break;
        }
    }
    assert_eq!(shown, 1);
    assert!((4..=6).contains(&calls), "{calls} calls for 2,001 nodes of 500 each");
}

#[test]
fn malformed_snapshots_say_why() {
    let store = filled(&["a", "b/c"]);
    let bytes = store.encode();
    let refusal = |bytes: &[u8]| RetainedStore::decode(bytes, WIDE).err();
    assert_eq!(refusal(&bytes), None);
    for length in 0..bytes.len() {
        assert_eq!(refusal(&bytes[..length]), Some(SnapshotMalformed::Length), "{length}");
    }
    let changed = |at: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = byte;
        refusal(&bytes)
    };
    assert_eq!(changed(0, 9), Some(SnapshotMalformed::Version(9)));
    assert_eq!(changed(1, 0xff), Some(SnapshotMalformed::Length));
    assert_eq!(changed(8, 1), Some(SnapshotMalformed::Length));
    assert_eq!(changed(9, 0xff), Some(SnapshotMalformed::Length));
    // version, count, length of "a", "a": then the flag.
    assert_eq!(changed(13, b'z'), Some(SnapshotMalformed::Subject));
    assert_eq!(changed(14, 7), Some(SnapshotMalformed::Flag(7)));
    let mut twice = bytes.clone();
    twice[8] = 3;
    twice.extend_from_slice(&bytes[9..9 + 4 + 1 + 1 + 4 + 1]);
    assert_eq!(refusal(&twice), Some(SnapshotMalformed::Subject));
}

#[test]
fn pages_hold_every_message_once_and_only_touched_ones_change() {
    let limits = RetainedLimits { count_max: 100_000, bytes_max: 1 << 30 };
    let mut store = RetainedStore::new(limits);
    let now = Timestamp(5);
    let subject = |number: usize| Subject::from_mqtt(&format!("a/{number}")).unwrap();
    let mut pages = BTreeMap::new();
    let mut rng = koine_base::rng::Rng::new(3);
    for round in 0..20 {
        for _ in 0..200 {
            let subject = subject(rng.below(1000) as usize);
            let value = vec![round; rng.below(600) as usize];
            let expires_at = rng.chance(1, 4).then_some(Timestamp(1_000_000));
            match rng.chance(1, 4) {
                true => drop(store.clear(&subject)),
                false => store.set(&subject, &value, expires_at, now).unwrap(),
            }
        }
        for page in store.take_touched() {
            match store.encode_page(page) {
                Some(parts) => drop(pages.insert(page, parts)),
                None => drop(pages.remove(&page)),
            }
        }
        let bytes =
            pages.values().flatten().fold(Vec::new(), |all, part| [&all[..], part].concat());
        let again = RetainedStore::decode_pages(&bytes, limits).unwrap();
        assert_eq!(again.encode(), store.encode());
    }
    let bytes = store.encode_page(1).unwrap().concat();
    for cut in 1..bytes.len() {
        let read = RetainedStore::decode_pages(&bytes[..cut], limits);
        assert!(read.is_err() || read.unwrap().count() < 64, "cut at {cut}");
    }
}
