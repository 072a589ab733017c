//! Topic matching by table and by seed, exchanges and the graph between them.

use super::*;
use koine_base::rng::Rng;
use koine_base::GroupId;
use std::collections::BTreeSet;

const SPACE: NamespaceId = NamespaceId(1);

fn amqp(key: &str) -> Filter {
    Filter::from_amqp(key.as_bytes()).unwrap()
}

fn mqtt(filter: &str) -> Filter {
    Filter::from_mqtt(filter).unwrap()
}

fn queue(number: u64) -> StreamId {
    StreamId::new(GroupId(1), number)
}

fn matched<K: Ord + Clone, V>(tree: &SubjectTree<K, V>, subject: &Subject) -> Vec<K> {
    let mut keys = Vec::new();
    tree.matching(subject, &mut MatchScratch::default(), |key, _| keys.push(key.clone()));
    keys.sort();
    keys
}

/// What a filter means, by recursion: the rule written down, exponential and all.
fn naive(filter: &Filter, subject: &Subject) -> bool {
    fn tails(filter: &[FilterLevel<'_>], subject: &[&[u8]]) -> bool {
        match (filter.split_first(), subject.split_first()) {
            (None, tail) => tail.is_none(),
            (Some((FilterLevel::Many, rest)), tail) => {
                tails(rest, subject) || tail.is_some_and(|(_, tail)| tails(filter, tail))
            }
            (Some(_), None) => false,
            (Some((FilterLevel::One, rest)), Some((_, tail))) => tails(rest, tail),
            (Some((FilterLevel::Exact(wanted), rest)), Some((text, tail))) => {
                wanted == text && tails(rest, tail)
            }
        }
    }
    let text = subject.canonical();
    if filter.starts_with_mqtt_wildcard() && (text.is_empty() || text[0] == b'$') {
        return false;
    }
    tails(&filter.levels().collect::<Vec<_>>(), &subject.levels().collect::<Vec<_>>())
}

#[test]
fn topic_bindings_match_as_rabbitmq_does() {
    // The shapes of binding keys that RabbitMQ is tested with, by number.
    let keys = [
        "a.b.c",
        "a.*.c",
        "a.#.b",
        "a.b.b.c",
        "#",
        "#.#",
        "#.b",
        "*.*",
        "a.*",
        "*.b.c",
        "a.#",
        "a.#.#",
        "b.b.c",
        "a.b.b",
        "a.b",
        "b.c",
        "",
        "*.*.*",
        "vodka.martini",
        "a.b.c",
        "*.#",
        "#.*.#",
        "*.#.#",
        "#.#.#",
        "*",
        "#.b.#",
    ];
    let mut tree = SubjectTree::new();
    for (index, key) in keys.iter().enumerate() {
        tree.insert(&amqp(key), index + 1, ());
    }
    let check = |key: &str, expect: &[usize]| {
        let subject = Subject::from_amqp(key.as_bytes()).unwrap();
        assert_eq!(matched(&tree, &subject), expect, "{key:?}");
    };
    check("a.b.c", &[1, 2, 5, 6, 10, 11, 12, 18, 20, 21, 22, 23, 24, 26]);
    check("a.b", &[3, 5, 6, 7, 8, 9, 11, 12, 15, 21, 22, 23, 24, 26]);
    check("a.b.b", &[3, 5, 6, 7, 11, 12, 14, 18, 21, 22, 23, 24, 26]);
    check("", &[5, 6, 17, 24]);
    check("b.c.c", &[5, 6, 18, 21, 22, 23, 24, 26]);
    check("a.a.a.a.a", &[5, 6, 11, 12, 21, 22, 23, 24]);
    check("vodka.gin", &[5, 6, 8, 21, 22, 23, 24]);
    check("vodka.martini", &[5, 6, 8, 19, 21, 22, 23, 24]);
    check("b.b.c", &[5, 6, 10, 13, 18, 21, 22, 23, 24, 26]);
    check("nothing.here.at.all", &[5, 6, 21, 22, 23, 24]);
    check("oneword", &[5, 6, 21, 22, 23, 24, 25]);
    check("a..c", &[2, 5, 6, 11, 12, 18, 21, 22, 23, 24]);
    check(".", &[5, 6, 8, 21, 22, 23, 24]);
    for (index, key) in keys.iter().enumerate() {
        assert_eq!(tree.remove(&amqp(key), index + 1), Some(()), "{key:?}");
        assert_eq!(tree.remove(&amqp(key), index + 1), None);
    }
    assert_eq!((tree.len(), tree.node_count(), tree.segment_count()), (0, 0, 0));
}

#[test]
fn mqtt_filters_match_as_the_specification_says() {
    let check = |filter: &str, topic: &str, expect: bool| {
        let mut tree = SubjectTree::new();
        tree.insert(&mqtt(filter), (), ());
        let subject = Subject::from_mqtt(topic).unwrap();
        assert_eq!(!matched(&tree, &subject).is_empty(), expect, "{filter} on {topic}");
    };
    for (filter, topic, expect) in [
        ("sport/tennis/player1/#", "sport/tennis/player1", true),
        ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
        ("sport/#", "sport", true),
        ("sport/#", "sports", false),
        ("#", "sport/tennis", true),
        ("#", "/", true),
        ("sport/tennis/+", "sport/tennis/player1", true),
        ("sport/tennis/+", "sport/tennis/player1/ranking", false),
        ("sport/+", "sport", false),
        ("sport/+", "sport/", true),
        ("+", "finance", true),
        ("+", "/finance", false),
        ("+/+", "/finance", true),
        ("/+", "/finance", true),
        ("+/tennis/#", "sport/tennis", true),
        ("sport/+/player1", "sport/tennis/player1", true),
        ("#", "$SYS/monitor", false),
        ("+/monitor/Clients", "$SYS/monitor/Clients", false),
        ("+/#", "$SYS/monitor", false),
        ("$SYS/#", "$SYS/monitor", true),
        ("$SYS/#", "$SYS", true),
        ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
        ("a/#", "a/$SYS", true),
        ("ACCOUNTS", "Accounts", false),
        ("a/b", "a/b/", false),
        ("a.b", "a/b", false),
        ("a*/*", "a*/*", true),
        ("a/*", "a/b", false),
    ] {
        check(filter, topic, expect);
    }
    // AMQP wildcards do see subjects that start with a dollar sign.
    let mut tree = SubjectTree::new();
    for (key, filter) in [amqp("#"), amqp("*.up"), mqtt("#"), mqtt("+/up")].iter().enumerate() {
        tree.insert(filter, key, ());
    }
    assert_eq!(matched(&tree, &Subject::from_mqtt("$SYS/up").unwrap()), [0, 1]);
    assert_eq!(matched(&tree, &Subject::from_mqtt("SYS/up").unwrap()), [0, 1, 2, 3]);
    assert_eq!(matched(&tree, &Subject::from_amqp(b"").unwrap()), [0]);
}

#[test]
fn one_filter_in_two_styles_is_two_filters() {
    let mut tree = SubjectTree::new();
    assert_eq!(tree.insert(&mqtt("a/b"), 1, 'm'), None);
    assert_eq!(tree.insert(&amqp("a.b"), 1, 'a'), None);
    assert_eq!(tree.insert(&amqp("a.b"), 1, 'b'), Some('a'));
    assert_eq!((tree.len(), tree.node_count()), (2, 2));
    assert_eq!(tree.get(&mqtt("a/b"), 1), Some(&'m'));
    assert_eq!(tree.remove(&mqtt("a/b"), 1), Some('m'));
    assert_eq!(matched(&tree, &Subject::from_mqtt("a/b").unwrap()), [1]);
    assert_eq!(tree.remove(&mqtt("a/c"), 1), None);
    assert_eq!(tree.remove(&mqtt("a"), 1), None);
}

#[test]
fn trees_by_seed_agree_with_the_rule() {
    const WORDS: [&str; 6] = ["a", "b", "$c", "", "x/y", "+"];
    let mut scratch = MatchScratch::default();
    for seed in 0..60 {
        let mut rng = Rng::new(seed);
        let words = |wild: &[&'static str], count_max: u64, rng: &mut Rng| {
            let choice: Vec<&str> = WORDS.iter().chain(wild).copied().collect();
            let count = rng.below(count_max + 1);
            let pick = |_| choice[rng.below(choice.len() as u64) as usize];
            (0..count).map(pick).collect::<Vec<_>>().join(".")
        };
        let mut tree = SubjectTree::new();
        let mut held: BTreeSet<(Filter, u64)> = BTreeSet::new();
        for _ in 0..150 {
            let as_amqp = amqp(&words(&["*", "#", "*", "#"], 5, &mut rng));
            let filter = match as_amqp.to_mqtt() {
                Some(text) if rng.chance(1, 2) => mqtt(&text),
                _ => as_amqp,
            };
            let key = rng.below(3);
            if rng.chance(1, 3) {
                let (filter, key) = match held.iter().nth(rng.below(20) as usize) {
                    Some((filter, key)) => (filter.clone(), *key),
                    None => (filter, key),
                };
                let removed = tree.remove(&filter, key).is_some();
                assert_eq!(removed, held.remove(&(filter, key)), "seed {seed}");
            } else {
                let new = tree.insert(&filter, key, (filter.clone(), key)).is_none();
                assert_eq!(new, held.insert((filter, key)), "seed {seed}");
            }
        }
        assert_eq!(tree.len(), held.len());
        for _ in 0..150 {
            let subject = Subject::from_amqp(words(&[], 6, &mut rng).as_bytes()).unwrap();
            let expect: Vec<_> = held.iter().filter(|(f, _)| naive(f, &subject)).cloned().collect();
            let mut found = Vec::new();
            tree.matching(&subject, &mut scratch, |_, pair| found.push(pair.clone()));
            found.sort();
            assert_eq!(found, expect, "seed {seed} {subject:?}");
        }
        for (filter, key) in held {
            assert!(tree.remove(&filter, key).is_some());
        }
        assert_eq!((tree.node_count(), tree.segment_count()), (0, 0), "seed {seed}");
    }
}

#[test]
fn hostile_filters_cost_no_more_than_states_times_levels() {
    let mut tree = SubjectTree::new();
    let filters: Vec<Filter> = (0..64u64)
        .map(|number| {
            // Each with its own tail, all with as many '#' as are allowed.
            let mut key = ["#.a"; subject::HASHES_MAX].join(".");
            key.push_str(&format!(".t{number}"));
            amqp(&key)
        })
        .chain([amqp(&["#"; subject::HASHES_MAX].join("."))])
        .chain([amqp(&["#.*"; subject::HASHES_MAX].join("."))])
        .collect();
    for (number, filter) in filters.iter().enumerate() {
        tree.insert(filter, number, ());
    }
    let levels = vec!["a"; 127];
    let subject = Subject::from_amqp(levels.join(".").as_bytes()).unwrap();
    let mut scratch = MatchScratch::default();
    let mut found = Vec::new();
    tree.matching(&subject, &mut scratch, |key, ()| found.push(*key));
    assert_eq!(found.len(), 2);
    let bound = (tree.node_count() as u64 + 2) * 128;
    assert!(scratch.visited_count() <= bound, "{} nodes visited", scratch.visited_count());
    // A filter holds at most 2 * HASHES_MAX + 1 states at a level; these three shapes share them.
    let live = (2 * subject::HASHES_MAX as u64 + 1) * 3 * 128;
    assert!(scratch.visited_count() <= live, "{} nodes visited", scratch.visited_count());
}

fn declare(router: &mut Router, name: &str, kind: ExchangeKind) {
    let settings = ExchangeSettings::new(kind);
    assert_eq!(router.declare_exchange(SPACE, name.as_bytes(), settings), Ok(Declared::New));
}

fn bind(router: &mut Router, exchange: &str, number: u64, key: &str) {
    let new = router.bind(SPACE, exchange.as_bytes(), queue(number), key.as_bytes(), NONE);
    assert_eq!(new, Ok(true), "{exchange} {key}");
}

const NONE: Arguments = Arguments::NONE;

fn queues(router: &Router, exchange: &str, key: &str) -> Vec<u64> {
    queues_with(router, exchange, key, &NoHeaders)
}

fn queues_with(router: &Router, exchange: &str, key: &str, headers: &dyn Headers) -> Vec<u64> {
    let mut out = Matches::new();
    let outcome = router.route(SPACE, exchange.as_bytes(), key.as_bytes(), headers, &mut out);
    assert_eq!(outcome == RouteOutcome::Routed, !out.is_empty());
    out.queues.iter().map(|stream| stream.sequence()).collect()
}

#[test]
fn each_kind_routes_in_its_way() {
    let mut router = Router::new();
    for exchange in ["amq.direct", "amq.fanout", "amq.topic"] {
        bind(&mut router, exchange, 1, "a.b");
        bind(&mut router, exchange, 2, "a.*");
        bind(&mut router, exchange, 2, "a.#");
    }
    assert_eq!(router.declare_queue(SPACE, b"q3", queue(3)), Ok(Declared::New));
    assert_eq!(router.declare_queue(SPACE, b"q3", queue(3)), Ok(Declared::Existing));
    assert_eq!(router.declare_queue(SPACE, b"q3", queue(4)), Err(Refusal::Inequivalent));
    assert_eq!(router.declare_queue(SPACE, b"q4", queue(3)), Err(Refusal::Inequivalent));
    assert_eq!(queues(&router, "amq.direct", "a.b"), [1]);
    assert_eq!(queues(&router, "amq.direct", "a.*"), [2]);
    assert_eq!(queues(&router, "amq.direct", "a.c"), [0; 0]);
    assert_eq!(queues(&router, "amq.fanout", "whatever"), [1, 2]);
    assert_eq!(queues(&router, "amq.topic", "a.b"), [1, 2]);
    assert_eq!(queues(&router, "amq.topic", "a"), [2]);
    assert_eq!(queues(&router, "", "q3"), [3]);
    assert_eq!(queues(&router, "", "a.b"), [0; 0]);
    let mut out = Matches::new();
    let outcome = router.route(SPACE, b"none", b"", &NoHeaders, &mut out);
    assert_eq!(outcome, RouteOutcome::NoSuchExchange);
    let elsewhere = NamespaceId(2);
    let outcome = router.route(elsewhere, b"amq.topic", b"a.b", &NoHeaders, &mut out);
    assert_eq!(outcome, RouteOutcome::Unroutable);
    let outcome = router.route(elsewhere, b"none", b"a.b", &NoHeaders, &mut out);
    assert_eq!(outcome, RouteOutcome::NoSuchExchange);
}

#[test]
fn headers_exchanges_ask_the_arguments() {
    let mut router = Router::new();
    let table = |entries: &[(&str, HeaderValue)]| -> Vec<(Vec<u8>, HeaderValue)> {
        entries.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.clone())).collect()
    };
    let any = HeaderValue::Bytes(Bytes::from_static(b"any"));
    let one = Arguments::new(table(&[("a", HeaderValue::Int(1))]));
    let either = Arguments::new(table(&[
        ("x-match", any),
        ("a", HeaderValue::Int(1)),
        ("b", HeaderValue::Void),
    ]));
    assert_eq!(router.bind(SPACE, b"amq.headers", queue(1), b"", one.clone()), Ok(true));
    assert_eq!(router.bind(SPACE, b"amq.headers", queue(1), b"", one.clone()), Ok(false));
    assert_eq!(router.bind(SPACE, b"amq.headers", queue(1), b"k", one.clone()), Ok(true));
    assert_eq!(router.bind(SPACE, b"amq.headers", queue(2), b"", either.clone()), Ok(true));
    let bad = Arguments::new(table(&[("x-match", HeaderValue::Int(1))]));
    let version = router.version();
    let refused = router.bind(SPACE, b"amq.headers", queue(3), b"", bad);
    assert_eq!(refused, Err(Refusal::BadMatchMode));
    assert_eq!(router.version(), version);
    let message = table(&[("a", HeaderValue::Float(1.0))]);
    assert_eq!(queues_with(&router, "amq.headers", "", &message), [1, 2]);
    let message = table(&[("b", HeaderValue::Bool(false))]);
    assert_eq!(queues_with(&router, "amq.headers", "", &message), [2]);
    assert_eq!(queues(&router, "amq.headers", ""), [0; 0]);
    let mut out = Matches::new();
    router.route(SPACE, b"amq.headers", b"", &NoHeaders, &mut out);
    assert!(out.headers_asked);
    // Two bindings with the same arguments: the entry goes with the second.
    let message = table(&[("a", HeaderValue::Int(1))]);
    router.unbind(SPACE, b"amq.headers", queue(1), b"", one.clone());
    assert_eq!(queues_with(&router, "amq.headers", "", &message), [1, 2]);
    router.unbind(SPACE, b"amq.headers", queue(1), b"k", one);
    assert_eq!(queues_with(&router, "amq.headers", "", &message), [2]);
}

#[test]
fn bindings_that_differ_only_in_arguments_hold_one_entry_together() {
    let argument = |number| Arguments::new(vec![(b"n".to_vec(), HeaderValue::Int(number))]);
    for exchange in ["amq.direct", "amq.fanout", "amq.topic"] {
        let mut router = Router::new();
        for number in 0..2 {
            let new = router.bind(SPACE, exchange.as_bytes(), queue(1), b"k", argument(number));
            assert_eq!(new, Ok(true));
        }
        assert_eq!(queues(&router, exchange, "k"), [1]);
        router.unbind(SPACE, exchange.as_bytes(), queue(1), b"k", argument(0));
        assert_eq!(queues(&router, exchange, "k"), [1], "{exchange}");
        assert_eq!(router.source_binding_count(SPACE, exchange.as_bytes()), 1);
        router.unbind(SPACE, exchange.as_bytes(), queue(1), b"k", argument(1));
        assert_eq!(queues(&router, exchange, "k"), [0; 0], "{exchange}");
    }
}

#[test]
fn exchange_bindings_may_form_cycles_and_each_queue_gets_one_copy() {
    let mut router = Router::new();
    declare(&mut router, "one", ExchangeKind::Fanout);
    declare(&mut router, "two", ExchangeKind::Topic);
    declare(&mut router, "three", ExchangeKind::Direct);
    for (source, destination, key) in
        [("one", "two", ""), ("two", "three", "a.#"), ("three", "one", "a.b"), ("one", "one", "")]
    {
        let bound = router.bind_exchange(
            SPACE,
            source.as_bytes(),
            destination.as_bytes(),
            key.as_bytes(),
            NONE,
        );
        assert_eq!(bound, Ok(true));
    }
    bind(&mut router, "one", 1, "");
    bind(&mut router, "two", 1, "#");
    bind(&mut router, "two", 2, "*.b");
    bind(&mut router, "three", 2, "a.b");
    bind(&mut router, "three", 3, "a.b");
    for exchange in ["one", "two", "three"] {
        assert_eq!(queues(&router, exchange, "a.b"), [1, 2, 3], "{exchange}");
    }
    assert_eq!(queues(&router, "three", "a.c"), [0; 0]);
    assert_eq!(queues(&router, "two", "b"), [1]);
    // Deleting one exchange of the cycle takes its bindings on both sides.
    assert_eq!(router.delete_exchange(SPACE, b"two"), Ok(Vec::new()));
    assert_eq!(queues(&router, "one", "a.b"), [1]);
    assert_eq!(queues(&router, "three", "a.b"), [1, 2, 3]);
    let left = router.bindings_from(SPACE, b"one");
    assert_eq!(left.len(), 2);
    assert_eq!(left[1].destination, Destination::Exchange(Bytes::from_static(b"one")));
    assert_eq!(router.delete_exchange(SPACE, b"one"), Ok(Vec::new()));
    assert_eq!(router.delete_exchange(SPACE, b"one"), Ok(Vec::new()));
    assert_eq!(router.source_binding_count(SPACE, b"three"), 2);
    // The slot of a deleted exchange is used again; nothing old leads to it.
    declare(&mut router, "four", ExchangeKind::Fanout);
    bind(&mut router, "four", 9, "");
    assert_eq!(queues(&router, "three", "a.b"), [2, 3]);
}

#[test]
fn alternates_take_what_matches_nothing() {
    let mut router = Router::new();
    let mut settings = ExchangeSettings::new(ExchangeKind::Direct);
    settings.alternate = Some(Bytes::from_static(b"lost"));
    let declared = router.declare_exchange(SPACE, b"x", settings.clone());
    assert_eq!(declared, Ok(Declared::New));
    bind(&mut router, "x", 1, "k");
    assert_eq!(queues(&router, "x", "other"), [0; 0]);
    settings.alternate = Some(Bytes::from_static(b"x"));
    settings.kind = ExchangeKind::Topic;
    assert_eq!(router.declare_exchange(SPACE, b"lost", settings), Ok(Declared::New));
    bind(&mut router, "lost", 2, "*");
    assert_eq!(queues(&router, "x", "k"), [1]);
    assert_eq!(queues(&router, "x", "other"), [2]);
    // Both lead to each other: still an end.
    assert_eq!(queues(&router, "x", "no.one"), [0; 0]);
    // An exchange that matched only an exchange without queues has matched.
    declare(&mut router, "empty", ExchangeKind::Fanout);
    assert_eq!(router.bind_exchange(SPACE, b"x", b"empty", b"e", NONE), Ok(true));
    assert_eq!(queues(&router, "x", "e"), [0; 0]);
    // The default exchange can be an alternate.
    router.declare_queue(SPACE, b"e", queue(5)).unwrap();
    router.set_alternate(SPACE, b"empty", Some(Bytes::new())).unwrap();
    assert_eq!(queues(&router, "x", "e"), [5]);
}

#[test]
fn auto_delete_exchanges_are_named_when_their_last_source_binding_goes() {
    let mut router = Router::new();
    let mut settings = ExchangeSettings::new(ExchangeKind::Fanout);
    settings.auto_delete = true;
    for name in ["a", "b", "c"] {
        router.declare_exchange(SPACE, name.as_bytes(), settings.clone()).unwrap();
    }
    bind(&mut router, "a", 1, "");
    bind(&mut router, "b", 1, "");
    router.bind_exchange(SPACE, b"b", b"a", b"", NONE).unwrap();
    router.bind_exchange(SPACE, b"c", b"b", b"", NONE).unwrap();
    assert_eq!(router.unbind(SPACE, b"a", queue(2), b"", NONE), Vec::<Bytes>::new());
    // b still leads to a.
    assert_eq!(router.remove_queue(SPACE, queue(1)), ["a"]);
    assert_eq!(router.source_binding_count(SPACE, b"b"), 1);
    assert!(router.exchange(SPACE, b"a").is_some(), "the caller deletes");
    assert_eq!(router.delete_exchange(SPACE, b"a").unwrap(), ["b"]);
    assert_eq!(router.delete_exchange(SPACE, b"b").unwrap(), ["c"]);
    assert_eq!(router.delete_exchange(SPACE, b"c").unwrap(), Vec::<Bytes>::new());
    let names: Vec<_> = router.exchanges(SPACE).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["amq.direct", "amq.fanout", "amq.headers", "amq.match", "amq.topic"]);
}

#[test]
fn unbinding_an_exchange_names_the_source() {
    let mut router = Router::new();
    let mut settings = ExchangeSettings::new(ExchangeKind::Direct);
    settings.auto_delete = true;
    router.declare_exchange(SPACE, b"x", settings).unwrap();
    router.bind_exchange(SPACE, b"x", b"amq.fanout", b"k", NONE).unwrap();
    assert_eq!(router.unbind_exchange(SPACE, b"x", b"amq.fanout", b"j", NONE), Orphans::new());
    assert_eq!(router.unbind_exchange(SPACE, b"x", b"none", b"k", NONE), Orphans::new());
    assert_eq!(router.unbind_exchange(SPACE, b"x", b"amq.fanout", b"k", NONE), ["x"]);
}

#[test]
fn changes_that_are_not_allowed_change_nothing() {
    let mut router = Router::new();
    declare(&mut router, "x", ExchangeKind::Topic);
    let version = router.version();
    let settings = |kind| ExchangeSettings::new(kind);
    let declared = router.declare_exchange(SPACE, b"x", settings(ExchangeKind::Topic));
    assert_eq!(declared, Ok(Declared::Existing));
    let declared = router.declare_exchange(SPACE, b"x", settings(ExchangeKind::Fanout));
    assert_eq!(declared, Err(Refusal::Inequivalent));
    let declared = router.declare_exchange(SPACE, b"", settings(ExchangeKind::Direct));
    assert_eq!(declared, Err(Refusal::Predeclared));
    let declared = router.declare_exchange(SPACE, &[b'x'; 256], settings(ExchangeKind::Direct));
    assert_eq!(declared, Err(Refusal::TooLong));
    assert_eq!(router.delete_exchange(SPACE, b""), Err(Refusal::Predeclared));
    assert_eq!(router.delete_exchange(SPACE, b"amq.match"), Err(Refusal::Predeclared));
    assert_eq!(router.bind(SPACE, b"", queue(1), b"k", NONE), Err(Refusal::Predeclared));
    assert_eq!(router.bind(SPACE, b"y", queue(1), b"k", NONE), Err(Refusal::NoSuchExchange));
    let bound = router.bind_exchange(SPACE, b"x", b"y", b"k", NONE);
    assert_eq!(bound, Err(Refusal::NoSuchExchange));
    let bound = router.bind_exchange(SPACE, b"x", b"", b"k", NONE);
    assert_eq!(bound, Err(Refusal::Predeclared));
    let bound = router.bind(SPACE, b"x", queue(1), b"#.#.#.#.#.#.#.#.#", NONE);
    assert_eq!(bound, Err(Refusal::BadFilter(FilterError::TooManyHashes)));
    let large = HeaderValue::Bytes(Bytes::from(vec![0; ARGUMENTS_BYTES_MAX]));
    let large = Arguments::new(vec![(b"a".to_vec(), large)]);
    assert_eq!(router.bind(SPACE, b"x", queue(1), b"k", large), Err(Refusal::TooLong));
    assert_eq!(router.remove_queue(SPACE, queue(1)), Orphans::new());
    assert_eq!(router.remove_session(SPACE, SessionId(1)), 0);
    assert!(!router.unsubscribe(SPACE, Subscriber::Session(SessionId(1)), &mqtt("a")));
    assert_eq!(router.version(), version);
    assert_eq!(router.bindings_from(SPACE, b"x"), Vec::new());
}

#[test]
fn subscriptions_and_topic_bindings_share_one_space() {
    let mut router = Router::new();
    let options = |qos_max, identifier| SubscriptionOptions {
        qos_max,
        identifier: Some(identifier),
        ..SubscriptionOptions::default()
    };
    let session = SessionId(7);
    let subscriber = Subscriber::Session(session);
    let mut subscribe =
        |filter: &str, options| router.subscribe(SPACE, subscriber, mqtt(filter), options).unwrap();
    assert_eq!(subscribe("a/+", options(0, 1)), Subscribed::New);
    assert_eq!(subscribe("a/#", options(1, 2)), Subscribed::New);
    assert_eq!(subscribe("a/#", options(2, 2)), Subscribed::Replaced);
    let shared = Subscriber::Queue(queue(5));
    router.subscribe(SPACE, shared, mqtt("a/b"), SubscriptionOptions::default()).unwrap();
    bind(&mut router, "amq.topic", 5, "a.b");
    bind(&mut router, "amq.topic", 6, "#.b");
    declare(&mut router, "down", ExchangeKind::Direct);
    router.bind_exchange(SPACE, b"amq.topic", b"down", b"#", NONE).unwrap();
    bind(&mut router, "down", 8, "a.b");

    let both = vec![(session, options(0, 1)), (session, options(2, 2))];
    let mut out = Matches::new();
    let subject = Subject::from_mqtt("a/b").unwrap();
    let outcome = router.route_subject(SPACE, &subject, &NoHeaders, &mut out);
    assert_eq!(outcome, RouteOutcome::Routed);
    assert_eq!(out.queues, [queue(5), queue(6), queue(8)]);
    assert_eq!(out.sessions, both);
    assert!(!out.headers_asked);
    out.clear();
    router.route(SPACE, b"amq.topic", b"a.b", &NoHeaders, &mut out);
    assert_eq!((out.queues.len(), &out.sessions), (3, &both));
    // Further keys of the same message add to the first.
    bind(&mut router, "amq.direct", 6, "cc");
    router.route(SPACE, b"amq.direct", b"cc", &NoHeaders, &mut out);
    assert_eq!(out.queues.len(), 3);

    assert_eq!(
        router.subscriptions_of(SPACE, subscriber),
        [(mqtt("a/#"), options(2, 2)), (mqtt("a/+"), options(0, 1))]
    );
    assert!(router.unsubscribe(SPACE, subscriber, &mqtt("a/+")));
    assert_eq!(router.remove_session(SPACE, session), 1);
    assert!(router.unsubscribe(SPACE, shared, &mqtt("a/b")));
    out.clear();
    router.route_subject(SPACE, &subject, &NoHeaders, &mut out);
    assert_eq!(out.queues, [queue(5), queue(6), queue(8)], "the binding stays");
    assert!(out.sessions.is_empty());
    let destination = Destination::Queue(queue(6));
    let sources: Vec<_> =
        router.bindings_to(SPACE, &destination).into_iter().map(|b| (b.source, b.key)).collect();
    let (direct, topic) = (Bytes::from_static(b"amq.direct"), Bytes::from_static(b"amq.topic"));
    assert_eq!(sources, [(direct, Bytes::from("cc")), (topic, Bytes::from("#.b"))]);
    let subscriptions = router.subscribe(SPACE, shared, mqtt("z"), SubscriptionOptions::default());
    assert_eq!(subscriptions, Ok(Subscribed::New));
    router.remove_queue(SPACE, queue(5));
    assert!(router.subscriptions_of(SPACE, shared).is_empty());
}

#[test]
fn a_level_with_a_dot_reaches_amqp_with_a_slash() {
    let mut router = Router::new();
    bind(&mut router, "amq.topic", 1, "spBv1/0.*.NDATA");
    bind(&mut router, "amq.topic", 2, "spBv1.0.#");
    let mut out = Matches::new();
    let subject = Subject::from_mqtt("spBv1.0/group/NDATA").unwrap();
    router.route_subject(SPACE, &subject, &NoHeaders, &mut out);
    assert_eq!(out.queues, [queue(1)]);
}

/// Random changes applied to the router and to a list of bindings, and every publish compared.
#[test]
fn routers_by_seed_agree_with_a_list_of_bindings() {
    const EXCHANGES: [(&str, ExchangeKind); 5] = [
        ("amq.topic", ExchangeKind::Topic),
        ("amq.direct", ExchangeKind::Direct),
        ("amq.fanout", ExchangeKind::Fanout),
        ("t", ExchangeKind::Topic),
        ("d", ExchangeKind::Direct),
    ];
    const KEYS: [&str; 8] = ["a", "a.b", "a.*", "#", "*.b", "", "#.b.#", "b"];
    type Bindings = BTreeSet<(usize, Result<u64, usize>, &'static str)>;
    fn reach(bindings: &Bindings, from: usize, key: &str, seen: &mut Vec<usize>) -> BTreeSet<u64> {
        let mut queues = BTreeSet::new();
        if seen.contains(&from) {
            return queues;
        }
        seen.push(from);
        for (source, destination, wanted) in bindings {
            let subject = Subject::from_amqp(key.as_bytes()).unwrap();
            let matches = match EXCHANGES[*source].1 {
                ExchangeKind::Topic => naive(&amqp(wanted), &subject),
                ExchangeKind::Direct => *wanted == key,
                _ => true,
            };
            if *source != from || !matches {
                continue;
            }
            match destination {
                Ok(queue) => {
                    queues.insert(*queue);
                }
                Err(exchange) => queues.extend(reach(bindings, *exchange, key, seen)),
            }
        }
        queues
    }
    let mut out = Matches::new();
    for seed in 0..40 {
        let mut rng = Rng::new(seed);
        let mut router = Router::new();
        declare(&mut router, "t", ExchangeKind::Topic);
        declare(&mut router, "d", ExchangeKind::Direct);
        let mut bindings = Bindings::new();
        for _ in 0..200 {
            let source = rng.below(5) as usize;
            let key = KEYS[rng.below(8) as usize];
            let to = if rng.chance(1, 4) { Err(rng.below(5) as usize) } else { Ok(rng.below(6)) };
            let destination = match to {
                Ok(number) => Destination::Queue(queue(number)),
                Err(index) => {
                    Destination::Exchange(Bytes::from_static(EXCHANGES[index].0.as_bytes()))
                }
            };
            let name = EXCHANGES[source].0.as_bytes();
            let version = router.version();
            let changed = if rng.chance(1, 20) {
                let number = rng.below(6);
                router.remove_queue(SPACE, queue(number));
                let before = bindings.len();
                bindings.retain(|(_, destination, _)| *destination != Ok(number));
                before != bindings.len()
            } else if rng.chance(2, 5) {
                router.unbind_from(SPACE, name, &destination, key.as_bytes(), NONE);
                bindings.remove(&(source, to, key))
            } else {
                let new = router.bind_to(SPACE, name, &destination, key.as_bytes(), NONE).unwrap();
                assert_eq!(new, bindings.insert((source, to, key)));
                new
            };
            assert_eq!(router.version() > version, changed, "seed {seed}");
            let (from, key) = (rng.below(5) as usize, KEYS[rng.below(8) as usize]);
            let expect: Vec<StreamId> =
                reach(&bindings, from, key, &mut Vec::new()).into_iter().map(queue).collect();
            out.clear();
            router.route(SPACE, EXCHANGES[from].0.as_bytes(), key.as_bytes(), &NoHeaders, &mut out);
            assert_eq!(out.queues, expect, "seed {seed} {from} {key}");
        }
        for (index, (name, _)) in EXCHANGES.iter().enumerate() {
            let held = bindings.iter().filter(|(source, ..)| *source == index).count();
            assert_eq!(router.source_binding_count(SPACE, name.as_bytes()), held);
            let destination = Destination::Exchange(Bytes::from_static(name.as_bytes()));
            let to = bindings.iter().filter(|(_, to, _)| *to == Err(index)).count();
            assert_eq!(router.bindings_to(SPACE, &destination).len(), to);
        }
    }
}

#[test]
fn a_hundred_thousand_subscribers_of_one_filter_come_and_go() {
    let mut router = Router::new();
    let filter = mqtt("news/#");
    let subscriber = |number: u64| Subscriber::Session(SessionId(number * 7_919 % 100_003));
    for number in 0..100_000 {
        let options = SubscriptionOptions::default();
        router.subscribe(SPACE, subscriber(number), filter.clone(), options).unwrap();
    }
    let mut out = Matches::new();
    let subject = Subject::from_mqtt("news/today").unwrap();
    router.route_subject(SPACE, &subject, &NoHeaders, &mut out);
    assert_eq!(out.sessions.len(), 100_000);
    assert!(out.sessions.windows(2).all(|pair| pair[0] < pair[1]));
    assert!(out.visited_count() < 10);
    for number in 0..100_000 {
        assert!(router.unsubscribe(SPACE, subscriber(number), &filter));
    }
    out.clear();
    let outcome = router.route_subject(SPACE, &subject, &NoHeaders, &mut out);
    assert_eq!(outcome, RouteOutcome::Unroutable);
}
