use super::*;
use koine_base::rng::Rng;

fn load_text(
    file: &str,
    variables: &[(&str, &str)],
    flags: &[(&str, &str)],
) -> Result<Config, String> {
    let directory = crate::test_directory::TestDirectory::new("config");
    let path = directory.path().join("koine.toml");
    std::fs::write(&path, file).unwrap();
    let mut given = Flags { file: Some(path), settings: Vec::new() };
    for (flag, value) in flags {
        given.push(by_flag(flag).expect("a known flag"), (*value).to_owned());
    }
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    load(&given, variables).map_err(|error| {
        error.0.rsplit_once("koine.toml: ").map_or(error.0.clone(), |(_, rest)| rest.to_owned())
    })
}

#[test]
fn later_source_wins() {
    let file = "kafka = \"127.0.0.1:1\"\namqp = \"127.0.0.1:1\"\nmqtt = \"127.0.0.1:1\"\n";
    let variables =
        [("KOINE_AMQP", "127.0.0.1:2"), ("KOINE_MQTT", "127.0.0.1:2"), ("PATH", "/bin")];
    let config = load_text(file, &variables, &[("mqtt", "127.0.0.1:3")]).unwrap();
    let ports: Vec<u16> = config.listeners().map(|(_, listen)| listen.port).collect();
    assert_eq!(ports, [1, 2, 3, 15672]);
}

#[test]
fn sections_values_and_units() {
    let file = "insecure = true\nshards = 3\nhttp = \"off\"\n\
                [storage]\ntail_cache = \"10%\"\nwal_file = \"64MiB\"\n\
                [topics]\nretention = \"none\"\nretention_size = 1000000\ndurability = \"memory\"\n[limits]\n";
    let config =
        load_text(file, &[("KOINE_LIMITS_MESSAGE", "8 MiB")], &[("log-format", "json")]).unwrap();
    assert!(config.insecure);
    assert_eq!(config.shards, 3);
    assert_eq!(config.listen.http, None);
    assert_eq!(config.tail_cache_bytes(1000), 100);
    assert_eq!(config.storage.wal_file_bytes, 64 << 20);
    assert_eq!(config.topics.retention_ms, None);
    assert_eq!(config.topics.retention_bytes, Some(1_000_000));
    assert_eq!(config.topics.durability, Durability::Memory);
    assert_eq!(config.limits.message_bytes, 8 << 20);
    assert_eq!(config.log.format, LogFormat::Json);
}

#[test]
fn mistakes_are_named() {
    let check = |file: &str, variables: &[(&str, &str)], expect: &str| {
        assert_eq!(load_text(file, variables, &[]).unwrap_err(), expect);
    };
    check("kafak = 1", &[], "unknown key \"kafak\" (did you mean \"kafka\"?)");
    check(
        "[storage]\ntail_cach = 1",
        &[],
        "unknown key \"storage.tail_cach\" (did you mean \"storage.tail_cache\"?)",
    );
    check("[zzzzzzzz]", &[], "unknown key \"zzzzzzzz\"");
    check("", &[("KOINE_DATE", "x")], "unknown variable KOINE_DATE (did you mean \"KOINE_DATA\"?)");
    check(
        "kafka = 9092",
        &[],
        "kafka: \"9092\" is not HOST:PORT (like 127.0.0.1:9092, port 0 for any) or \"off\"",
    );
    check("data = [1]", &[], "data: a value of type array cannot stand here");
    check("shards = 0", &[], "shards: \"0\" is not a whole number from 1 to 64");
    check("", &[("KOINE_INSECURE", "yes")], "KOINE_INSECURE: \"yes\" is not one of true, false");
    check(
        "",
        &[("KOINE_STORAGE_WAL_FILE", "1KiB")],
        "KOINE_STORAGE_WAL_FILE: \"1KiB\" is not from 4MiB to 4GiB",
    );
    check(
        "",
        &[("KOINE_TOPICS_RETENTION", "7 days")],
        "KOINE_TOPICS_RETENTION: \"7 days\" is not a duration like 500ms, 30s, 12h or 7d",
    );
}

#[test]
fn every_flag_and_variable_leads_back_to_its_setting() {
    for setting in SETTINGS {
        assert_eq!(by_flag(&setting.flag()).unwrap().key, setting.key);
        assert_eq!(settings::by_variable(&setting.variable()).unwrap().key, setting.key);
    }
}

#[test]
fn the_document_lists_every_setting_and_no_other() {
    let document = include_str!("../../../../docs/user/configuration.md");
    let expect: Vec<String> = SETTINGS
        .iter()
        .map(|setting| {
            let value = setting.value.replace('|', "\\|");
            format!("| `{}` | {value} | {} |", setting.key, setting.help)
        })
        .collect();
    let listed: Vec<&str> = document.lines().filter(|line| line.starts_with("| `")).collect();
    assert_eq!(listed, expect);
}

/// Whatever a file holds, it is taken or refused with a word about it.
#[test]
fn changed_files_are_taken_or_refused() {
    let whole = "kafka = \"127.0.0.1:1\"\ninsecure = true\nshards = 3\n[storage]\ntail_cache = \"10%\"\n\
                 wal_file = \"64MiB\"\n[topics]\nretention = \"none\"\nretention_size = 1000000\n\
                 [limits]\nmessage = \"8MiB\"\nconnections = 9\n[tls]\nrequired = true\n[log]\nlevel = \"info\"\n";
    let mut rng = Rng::new(5);
    let mut below = |bound: usize| rng.below(bound as u64) as usize;
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..5_000 {
        let mut bytes = whole.as_bytes().to_vec();
        for _ in 0..=below(4) {
            let at = below(bytes.len());
            match below(4) {
                0 => bytes[at] = below(256) as u8,
                1 => bytes[at] ^= 1 << below(8),
                2 => drop(bytes.remove(at)),
                _ => bytes.insert(at, b"\"[]={}\n.-9 "[below(11)]),
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        match apply_file(&mut Config::default(), Path::new("koine.toml"), &text) {
            Ok(()) => taken += 1,
            Err(error) => {
                assert!(error.0.starts_with("koine.toml: "), "{error:?}");
                refused += 1;
            }
        }
    }
    assert!(taken > 100 && refused > 100, "{taken} taken, {refused} refused");
}
