use super::*;

fn words(line: &str) -> Vec<OsString> {
    line.split_whitespace().map(OsString::from).collect()
}

fn flags_of(line: &str) -> Flags {
    match read(words(line)) {
        Ok(Command::Start(flags)) => flags,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn start_takes_every_setting_and_the_word_is_optional() {
    let bare = flags_of("");
    assert!(bare.settings.is_empty() && bare.file.is_none());
    let flags = flags_of(
        "start --data d --config f.toml --kafka 127.0.0.1:0 --insecure --storage-tail-cache=10%",
    );
    assert_eq!(flags.file, Some(PathBuf::from("f.toml")));
    let expect = [
        ("data", "d"),
        ("kafka", "127.0.0.1:0"),
        ("insecure", "true"),
        ("storage.tail_cache", "10%"),
    ];
    assert_eq!(flags.settings, expect.map(|(key, value)| (key, value.to_owned())));
    assert_eq!(flags_of("--insecure=false").settings, [("insecure", "false".to_owned())]);
}

#[test]
fn subcommands() {
    let verb = |line: &str| match read(words(line)) {
        Ok(Command::Admin(command)) => (command.kind, command.verb, command.json),
        other => panic!("{line}: {other:?}"),
    };
    assert_eq!(verb("topics"), (Kind::Topics, Verb::List, false));
    assert_eq!(verb("queues describe q --json"), (Kind::Queues, Verb::Describe("q".into()), true));
    let options = vec![("partitions", "3".to_owned())];
    let create = Verb::Create { name: "t".into(), options };
    assert_eq!(verb("topics create t --partitions 3"), (Kind::Topics, create, false));
    let Ok(Command::Tail(tail)) = read(words("tail x --from 7 -n 2 --no-follow --http [::1]:1"))
    else {
        panic!("not a tail")
    };
    assert_eq!(
        (tail.name.as_str(), tail.from, tail.count, tail.follow),
        ("x", TailFrom::Offset(7), Some(2), false)
    );
    let Ok(Command::Doctor(doctor)) = read(words("doctor d --json")) else {
        panic!("not a doctor")
    };
    assert_eq!((doctor.data, doctor.json, doctor.repair), (Some(PathBuf::from("d")), true, false));
    assert!(read(words("doctor d e")).is_err() && read(words("doctor --kafka off")).is_err());
    assert!(matches!(read(words("status --json")), Ok(Command::Status(status)) if status.json));
    let Ok(Command::Demo(demo)) = read(words("demo --speed 1000x --full")) else {
        panic!("not a demo")
    };
    assert_eq!((demo.speed, demo.full, demo.connect), (Some(1000.0), true, false));
    assert!(
        matches!(read(words("--version")), Ok(Command::Show(text)) if text.starts_with("koine "))
    );
    assert!(
        matches!(read(words("start --help")), Ok(Command::Show(text)) if text.contains("--storage-wal-file SIZE"))
    );
}

#[test]
fn mistakes_are_named() {
    let check = |line: &str, expect: &str| {
        assert_eq!(read(words(line)).unwrap_err().0, expect, "{line}");
    };
    check("topcis", "unknown command \"topcis\" (did you mean \"topics\"?)");
    check("topics lst", "unknown verb \"lst\" (did you mean \"list\"?)");
    check("--kafak 1", "unknown flag --kafak (did you mean \"kafka\"?)");
    check("groups create g", "groups come into being when a client uses them; there is no create");
    check("topics describe", "which one? `koine topics describe NAME`");
    check("topics describe a b", "unexpected \"b\"");
    check("topics list --partitions 3", "--partitions goes with create or set only");
    check("tail", "which topic or queue? `koine tail NAME`");
    check("demo --speed 0", "--speed: \"0\" is not a factor like 100000 or \"max\"");
    check("start --data", "missing argument for option '--data'");
}
