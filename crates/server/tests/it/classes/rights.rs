//! Who may do what: the doors that other brokers left open beside the front one.

use std::time::Instant;

use super::{start_secured, END_LIMIT, LOW, PASSWORD, USER};
use crate::access::{add_user, administer, run, ADMIN};
use crate::broker::Broker;
use crate::wait;
use crate::wire::{amqp, kafka, mqtt};

const CLUSTER_AUTHORIZATION_FAILED: i16 = 31;
const INVALID_REQUEST: i16 = 42;
const INVALID_CONFIG: i16 = 40;
const GROUP_AUTHORIZATION_FAILED: i16 = 30;
const ACCESS_REFUSED: [u8; 2] = 403u16.to_be_bytes();
const NOT_AUTHORIZED: u8 = 0x87;
const BROKER: u8 = 4;
const TOPIC: u8 = 2;

/// Keys by which other brokers were made to run code, read files or call out.
const FOREIGN_KEYS: [&str; 8] = [
    "sasl.jaas.config",
    "ssl.keystore.location",
    "ssl.engine.factory.class",
    "metric.reporters",
    "sasl.oauthbearer.token.endpoint.url",
    "log.dirs",
    "rocketmqHome",
    "listeners",
];

#[test]
fn remote_configuration() {
    let broker = start_secured("class-config");
    let at = &broker.addresses;
    let mut low = kafka::Client::login(&at.kafka, LOW, PASSWORD).unwrap();
    low.create_topic("low").unwrap();
    let mut admin = kafka::Client::login(&at.kafka, ADMIN.0, ADMIN.1).unwrap();
    for key in FOREIGN_KEYS {
        let value = "/etc/passwd";
        let code = low.set_config(BROKER, "0", key, value).unwrap();
        assert_eq!(code, CLUSTER_AUTHORIZATION_FAILED, "{key}, who may not");
        for code in [
            admin.set_config(BROKER, "0", key, value).unwrap(),
            admin.set_config(BROKER, "", key, value).unwrap(),
            low.set_config(TOPIC, "low", key, value).unwrap(),
        ] {
            assert!([INVALID_CONFIG, INVALID_REQUEST].contains(&code), "{key}: {code}");
        }
    }
    assert_eq!(low.set_config(TOPIC, "low", "retention.ms", "1000000").unwrap(), 0);
}

/// An address in any place where a peer can say one is not called.
#[test]
fn outbound_connection_forced_by_a_peer() {
    let bait = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    bait.set_nonblocking(true).unwrap();
    let url = format!("http://{}/", bait.local_addr().unwrap());
    let broker = start_secured("class-outbound");
    let at = &broker.addresses;
    let mut client = kafka::Client::login(&at.kafka, USER, PASSWORD).unwrap();
    client.create_topic("bait").unwrap();
    for key in FOREIGN_KEYS {
        assert_ne!(client.set_config(TOPIC, "bait", key, &url).unwrap(), 0);
    }
    client
        .produce_batch("bait", &kafka::batch_with(url.as_bytes(), &[(b"url", url.as_bytes())]))
        .unwrap();
    for argument in ["x-federation-upstream", "x-dead-letter-exchange", "alternate-exchange"] {
        let mut queue = amqp::Client::login(&at.amqp, USER, PASSWORD).unwrap();
        let mut arguments = b"\x00\x00\x04bait\x02".to_vec();
        let mut table = vec![argument.len() as u8];
        table.extend(argument.as_bytes());
        table.push(b'S');
        table.extend((url.len() as u32).to_be_bytes());
        table.extend(url.as_bytes());
        arguments.extend((table.len() as u32).to_be_bytes());
        arguments.extend(table);
        queue.send(&amqp::method(1, 50, 10, &arguments)).unwrap();
        queue.answer().unwrap();
    }
    let mut device = mqtt::Client::login(5, &at.mqtt, "bait", USER, PASSWORD).unwrap();
    assert!(device.publish_reason("bait/url", url.as_bytes()).is_ok());
    let called = bait.accept();
    assert!(called.is_err(), "{called:?}");
}

/// An expression is refused if its automaton is large, and what is taken runs in linear time.
#[test]
fn regular_expressions_that_take_long() {
    let broker = start_secured("class-redos");
    let at = &broker.addresses;
    let set = |pattern: &str| {
        let line = format!("permissions set low --configure={pattern} --write=.* --read=.*");
        run(&broker, Some(ADMIN), &line, "")
    };
    for large in ["((a{100}){100}){100}", "(a{1000}b{1000}){1000}"] {
        let output = set(large);
        assert!(!output.status.success(), "{large}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("size"), "{said}");
    }
    for slow in ["^(a+)+$", "^(a|a|aa)*$", "^(.*a){20}$"] {
        assert!(set(slow).status.success(), "{slow}");
        let mut client = kafka::Client::login(&at.kafka, LOW, PASSWORD).unwrap();
        let began = Instant::now();
        assert_ne!(client.try_create_topic(&("a".repeat(240) + "-")).unwrap(), 0, "{slow}");
        assert!(began.elapsed() < END_LIMIT, "{slow}: {:?}", began.elapsed());
    }
}

/// Names that would mean something in a filter.
#[test]
fn wildcards_in_an_identity() {
    let broker = start_secured("class-identity");
    let rule = "acls create own/%c/# --user low --operation read --kind subject";
    administer(&broker, rule, "");
    let rule = "acls create by/%u/# --user * --operation read --kind subject";
    administer(&broker, rule, "");
    administer(&broker, "users create + --password-file -", PASSWORD);
    let at = &broker.addresses;
    let cases = [
        (LOW, "dev1", "own/dev1/x", true),
        (LOW, "dev1", "own/dev2/x", false),
        (LOW, "+", "own/dev2/x", false),
        (LOW, "#", "own/dev2/x", false),
        (LOW, "dev1/+", "own/dev1/dev2/x", false),
        (LOW, "dev1", "by/low/x", true),
        ("+", "dev2", "by/low/x", false),
        ("+", "dev2", "by/+/x", false),
    ];
    for (user, client, filter, expect) in cases {
        let mut device = match mqtt::Client::login(5, &at.mqtt, client, user, PASSWORD) {
            Ok(device) => device,
            // Such a name may be refused altogether.
            Err(_) if !expect => continue,
            Err(error) => panic!("{user} {client}: {error}"),
        };
        let mut rest = vec![0, 1, 0];
        rest.extend((filter.len() as u16).to_be_bytes());
        rest.extend(filter.as_bytes());
        rest.push(1);
        device.send(&mqtt::packet(0x82, &rest)).unwrap();
        let (_, answer) = device.read().unwrap();
        let code = answer.last().copied();
        assert_eq!(code != Some(NOT_AUTHORIZED), expect, "{user} {client} {filter}: {code:x?}");
    }
}

/// Passive declarations, bindings, groups, wills, retained messages: each is asked for its own right. The whole
/// table is `access_matrix`.
#[test]
fn rights_through_side_doors() {
    let broker = start_secured("class-side-doors");
    let at = &broker.addresses;
    let mut owner = amqp::Client::login(&at.amqp, USER, PASSWORD).unwrap();
    owner.declare("secret").unwrap();
    let passive = |queue: &str| {
        let mut arguments = vec![0, 0, queue.len() as u8];
        arguments.extend(queue.as_bytes());
        arguments.extend([1, 0, 0, 0, 0]);
        amqp::method(1, 50, 10, &arguments)
    };
    let bind = |queue: &str, exchange: &str| {
        let mut arguments = vec![0, 0];
        for text in [queue, exchange, "secret.#"] {
            arguments.push(text.len() as u8);
            arguments.extend(text.as_bytes());
        }
        arguments.extend([0, 0, 0, 0, 0]);
        amqp::method(1, 50, 20, &arguments)
    };
    let mut stranger = amqp::Client::login(&at.amqp, LOW, PASSWORD).unwrap();
    stranger.declare("low-queue").unwrap();
    drop(stranger);
    for (name, method) in [
        ("passive, there", passive("secret")),
        ("passive, absent", passive("absent")),
        ("bind another's queue", bind("secret", "amq.topic")),
        ("bind to an exchange", bind("low-queue", "amq.topic")),
    ] {
        let mut stranger = amqp::Client::login(&at.amqp, LOW, PASSWORD).unwrap();
        stranger.send(&method).unwrap();
        let (class, number, arguments) = stranger.answer().unwrap();
        assert_eq!((class, number), (20, 40), "{name}");
        assert_eq!(arguments[..2], ACCESS_REFUSED, "{name}");
    }

    let mut stranger = kafka::Client::login(&at.kafka, LOW, PASSWORD).unwrap();
    stranger.create_topic("low.topic").unwrap();
    let code = stranger.try_commit("secret", "low.topic", 0).unwrap();
    assert_eq!(code, GROUP_AUTHORIZATION_FAILED);
    assert_eq!(stranger.try_commit("low", "low.topic", 0).unwrap(), 0);

    // A will that may not be published is refused before it could be.
    let mut rest = b"\x00\x04MQTT\x05\xc6\x00\x3c\x00".to_vec();
    for text in ["w", "", "secret/x", "body", LOW, PASSWORD] {
        match text {
            "" => rest.push(0), // no properties
            _ => {
                rest.extend((text.len() as u16).to_be_bytes());
                rest.extend(text.as_bytes());
            }
        }
    }
    let mut dying = mqtt::Client::raw(&at.mqtt, 5).unwrap();
    dying.send(&mqtt::packet(0x10, &rest)).unwrap();
    let (first, answer) = dying.read().unwrap();
    assert_eq!((first, answer.get(1)), (0x20, Some(&NOT_AUTHORIZED)));
    let mut device = mqtt::Client::login(5, &at.mqtt, "d", LOW, PASSWORD).unwrap();
    assert_eq!(device.publish_reason("secret/x", b"body").unwrap(), NOT_AUTHORIZED);
}

/// A right that is taken away is gone for those who are connected.
#[test]
fn revocation_not_applied() {
    let broker = start_secured("class-revocation");
    let at = &broker.addresses;
    add_user(&broker, "mid", PASSWORD, [".*"; 3]);
    let mut device = mqtt::Client::login(5, &at.mqtt, "d", "mid", PASSWORD).unwrap();
    device.subscribe_5("low/x").unwrap();
    let mut producer = kafka::Client::login(&at.kafka, "mid", PASSWORD).unwrap();
    producer.create_topic("low.kafka").unwrap();
    producer.produce("low.kafka", b"before").unwrap();
    let mut queue = amqp::Client::login(&at.amqp, "mid", PASSWORD).unwrap();
    queue.declare("low-queue").unwrap();
    let mut full = mqtt::Client::login(5, &at.mqtt, "f", USER, PASSWORD).unwrap();
    full.publish_reason("low/x", b"before").unwrap();
    assert!(device.receive().unwrap().ends_with(b"before"));

    administer(&broker, "permissions delete mid", "");
    full.publish_reason("low/x", b"after").unwrap();
    // Told that the right is gone, or closed: but never the message.
    let heard = device.receive();
    assert!(heard.is_err(), "{heard:?}");
    assert!(producer.produce("low.kafka", b"after").is_err());
    assert!(queue.publish("low-queue", b"after").is_err());
}

/// A configuration that cannot be understood opens nothing: the broker does not start.
#[test]
fn fail_open_configuration() {
    for (name, text) in [
        ("unknown-key", "limits_of_nothing = 1\n"),
        ("not-toml", "kafka = [\n"),
        ("wrong-kind", "[tls]\nrequired = \"perhaps\"\n"),
        ("negative", "[limits]\nconnections = -1\n"),
        ("no-certificate", "[tls]\ncertificate = \"absent.pem\"\nkey = \"absent.key\"\n"),
        ("open-to-all", "kafka = \"0.0.0.0:0\"\n"),
    ] {
        let directory = crate::broker::Directory::new(name);
        std::fs::write(directory.path().join("koine.toml"), text).unwrap();
        let mut command = crate::broker::koine();
        command.args(["start", "--config", "koine.toml", "--data", "data"]);
        for listener in ["--amqp", "--mqtt", "--http"] {
            command.args([listener, "127.0.0.1:0"]);
        }
        if name != "open-to-all" {
            command.args(["--kafka", "127.0.0.1:0"]);
        }
        command.current_dir(directory.path()).stdin(std::process::Stdio::null());
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let mut process = command.spawn().unwrap();
        let ended = wait::poll(END_LIMIT, || process.try_wait().unwrap());
        let _ = process.kill();
        let status = ended.unwrap_or_else(|| panic!("{name}: it runs"));
        assert!(!status.success(), "{name}: {status}");
    }
    // Without a rule there is no right, and without the last user no free entry.
    let broker = start_secured("class-fail-open");
    administer(&broker, "permissions delete low", "");
    let at = &broker.addresses;
    let mut low = kafka::Client::login(&at.kafka, LOW, PASSWORD).unwrap();
    assert_ne!(low.try_create_topic("low").unwrap(), 0);
    for user in [LOW, USER, "admin"] {
        administer(&broker, &format!("users delete {user}"), "");
    }
    assert!(amqp::Client::connect(&at.amqp).is_err());
    assert!(mqtt::Client::connect(&at.mqtt, "anyone", true).is_err());
}

/// The words of a PROXY header say nothing about who somebody is.
#[test]
fn trust_in_the_peers_address() {
    let broker: Broker = start_secured("class-address");
    let at = &broker.addresses;
    // What a listener that takes such a header for granted would go on with.
    let go_on = |header: &[u8], login: &[u8]| [header, login, &[b' '; 256]].concat();
    let first = b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n";
    let second =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\x7f\x00\x00\x01\x7f\x00\x00\x01\x00\x01\x00\x02";
    for (protocol, login, welcome) in [
        ("kafka", kafka::request(18, 0, 1, &[]), &[0, 0, 0, 1, 0, 0][..]),
        ("amqp", amqp::PROTOCOL_HEADER.to_vec(), &[0, 10, 0, 10]),
        ("mqtt", mqtt::connect_as(5, "x", USER, PASSWORD), &[0x20]),
        ("http", b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), b" 200 "),
    ] {
        for header in [&first[..], &second[..]] {
            let bytes = go_on(header, &login);
            let answer = super::ended_by(at, protocol, super::Before::Nothing, &bytes).unwrap();
            let is_welcome = answer.windows(welcome.len()).any(|part| part == welcome);
            assert!(!is_welcome, "{protocol}: {answer:?}");
        }
    }
}
