//! TLS from outside: every listener with both versions, plain and encrypted on one port, client certificates, new
//! certificates while it runs, and peers that break the rules.

mod bounds;
pub mod client;
mod rules;

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use rustls::HandshakeKind;

use crate::broker::{koine, signal, Broker, Directory};
use crate::command_line::{http_get, http_get_over};
use crate::overload::metric;
use crate::wait;
use crate::wire::{amqp, kafka, mqtt, open};
use client::{certificates, connect, connect_by, connection_of, file, Dial, VERSIONS};

const LIMIT: Duration = Duration::from_secs(20);

/// A broker with a certificate and further arguments.
pub fn start(test: &str, arguments: &[&str]) -> Broker {
    start_with(test, &file("server.pem"), &file("server.key"), arguments)
}

fn start_with(test: &str, certificate: &str, key: &str, arguments: &[&str]) -> Broker {
    let tls = ["--tls-certificate", certificate, "--tls-key", key];
    Broker::start_in(Directory::new(test), &[&tls, arguments].concat())
}

#[test]
fn one_port_takes_plain_and_both_versions_of_tls() {
    let broker = start("one-port", &[]);
    let at = &broker.addresses;
    let dials = VERSIONS.map(|versions| Some(Dial { versions, ..Dial::default() }));
    let dials = [None].into_iter().chain(dials);
    for (number, dial) in dials.enumerate() {
        let stream = |address: &str| -> crate::wire::Stream {
            match &dial {
                Some(dial) => dial.connect(address).unwrap().into(),
                None => open(address).unwrap().into(),
            }
        };
        let topic = format!("t{number}");
        let mut kafka = kafka::Client::over(stream(&at.kafka));
        kafka.create_topic(&topic).unwrap();
        assert_eq!(kafka.produce(&topic, b"value").unwrap(), 0, "{dial:?}");
        assert_eq!(kafka.fetch(&topic, 0).unwrap(), b"value");
        let mut amqp = amqp::Client::over(stream(&at.amqp)).unwrap();
        let queue = format!("q{number}");
        amqp.declare(&queue).unwrap();
        amqp.publish(&queue, b"body").unwrap();
        assert_eq!(amqp.get(&queue).unwrap().as_deref(), Some(&b"body"[..]), "{dial:?}");
        let mut mqtt = mqtt::Client::over(stream(&at.mqtt), 5, &topic, true).unwrap();
        mqtt.subscribe_5("hello").unwrap();
        assert_eq!(mqtt.publish_reason("elsewhere", b"x").unwrap() & 0x80, 0, "{dial:?}");
        let (status, body) = http_get_over(stream(&at.http), &at.http, "/health/ready");
        assert_eq!((status, body.as_str()), (200, "{\"status\":\"ready\"}\n"), "{dial:?}");
    }
    assert_eq!(metric(&broker, "koine_tls_handshakes_total{result=\"done\"}"), 8);
}

#[test]
fn a_listener_for_tls_takes_nothing_else() {
    let any = "127.0.0.1:0";
    let arguments = ["--kafkas", any, "--amqps", any, "--mqtts", any, "--https", any];
    let broker = start("tls-only", &arguments);
    kafka::Client::over(connect(&broker.listener("kafkas"))).create_topic("t").unwrap();
    amqp::Client::over(connect(&broker.listener("amqps"))).unwrap();
    mqtt::Client::over(connect(&broker.listener("mqtts")), 4, "id", true).unwrap();
    let https = broker.listener("https");
    assert_eq!(http_get_over(connect(&https), &https, "/health/live").0, 200);
    let hellos = [
        ("kafkas", kafka::request(18, 0, 1, &[])),
        ("amqps", amqp::PROTOCOL_HEADER.to_vec()),
        ("mqtts", mqtt::connect(4, "id", true)),
        ("https", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec()),
    ];
    for (key, hello) in hellos {
        let mut plain = open(&broker.listener(key)).unwrap();
        plain.write_all(&hello).unwrap();
        let mut answer = Vec::new();
        let _ = plain.read_to_end(&mut answer);
        // At most the alert that says "not TLS".
        assert!(answer.is_empty() || answer[0] == 0x15, "{key}: {answer:x?}");
    }
}

#[test]
fn large_messages_come_through_both_ways() {
    let broker = start("large", &[]);
    let at = &broker.addresses;
    let body: Vec<u8> = (0..9 << 20).map(|number: u32| (number ^ number >> 11) as u8).collect();
    let mut publisher = amqp::Client::over(connect(&at.amqp)).unwrap();
    publisher.declare("q").unwrap();
    for _ in 0..3 {
        publisher.publish("q", &body).unwrap();
    }
    let mut consumer = amqp::Client::over(connect(&at.amqp)).unwrap();
    for _ in 0..3 {
        assert!(consumer.get("q").unwrap().unwrap() == body);
    }
    // What TLS has written, plain reads.
    publisher.publish("q", &body).unwrap();
    assert!(amqp::Client::connect(&at.amqp).unwrap().get("q").unwrap().unwrap() == body);
}

#[test]
fn sessions_are_not_resumed_and_offered_protocols_are_no_hindrance() {
    let broker = start("resume", &[]);
    for versions in VERSIONS {
        let mut config = Dial { versions, ..Dial::default() }.config();
        config.alpn_protocols = vec![b"h2".to_vec(), b"mqtt".to_vec()];
        // It keeps what it is given to resume with.
        let config = Arc::new(config);
        for number in 0..3 {
            let tls =
                connect_by(connection_of(Arc::clone(&config)), &broker.addresses.mqtt).unwrap();
            assert_eq!(tls.conn.alpn_protocol(), None);
            assert_eq!(tls.conn.handshake_kind(), Some(HandshakeKind::Full), "{number}");
            // Reading an answer takes whatever came before it as well.
            mqtt::Client::over(tls, 4, "id", true).unwrap();
        }
    }
}

#[test]
fn an_rsa_certificate_serves_as_well() {
    let broker = start_with("rsa", &file("server-rsa.pem"), &file("server-rsa.key"), &[]);
    for versions in VERSIONS {
        let dial = Dial { versions, ..Dial::default() };
        let stream = dial.connect(&broker.addresses.kafka).unwrap();
        kafka::Client::over(stream).produce("t", b"x").unwrap_err();
    }
}

/// A client that does not read is not sent more than its bounds, and what it then reads is whole.
#[test]
fn a_subscriber_that_does_not_read_is_held_up_alone() {
    let arguments = ["--limits-memory", "16MiB", "--shards", "1"];
    let broker = start("deaf-tls", &arguments);
    let at = &broker.addresses;
    let mut deaf = mqtt::Client::over(connect(&at.mqtt), 4, "deaf", true).unwrap();
    deaf.subscribe("flood").unwrap();
    let mut publisher = mqtt::Client::over(connect(&at.mqtt), 4, "publisher", true).unwrap();
    let before = broker.resident_bytes();
    for number in 0..2_000u32 {
        publisher.publish_volatile("flood", &[number as u8; 30_000]).unwrap();
    }
    publisher.publish("elsewhere", b"answered").unwrap();
    let gained = broker.resident_bytes().saturating_sub(before);
    assert!(gained < 64 << 20, "{gained}");
    let dropped = |reason| {
        let labels = format!("{{protocol=\"mqtt\",reason=\"{reason}\"}}");
        metric(&broker, &format!("koine_messages_dropped_total{labels}"))
    };
    let dropped = dropped("slow_receiver") + dropped("memory");
    assert!((1..2_000).contains(&dropped), "60 MB fit nowhere: {dropped}");
    for _ in dropped..2_000 {
        let body = deaf.receive().unwrap();
        assert!(body.len() == 30_000 && body.iter().all(|byte| *byte == body[0]));
    }
    // Nothing else came, and it is served as before.
    publisher.publish("flood", b"last").unwrap();
    assert_eq!(deaf.receive().unwrap(), b"last");
}

#[test]
fn a_stop_is_said_within_the_encryption() {
    let broker = start("close-notify", &[]);
    let at = broker.addresses.clone();
    let mut silent = connect(&at.kafka);
    kafka::Client::over(connect(&at.kafka)).create_topic("t").unwrap();
    let mut five = mqtt::Client::over(connect(&at.mqtt), 5, "five", true).unwrap();
    let stopping = std::thread::spawn(move || broker.stop());
    // Without close_notify this would be an unexpected end.
    assert_eq!(silent.read(&mut [0; 64]).unwrap(), 0);
    assert_eq!(five.read().unwrap().0, 0xE0, "DISCONNECT");
    drop((silent, five));
    let (status, directory) = stopping.join().unwrap();
    assert!(status.success(), "{status}");
    drop(directory);
}

#[test]
fn a_new_certificate_is_taken_while_it_runs() {
    let directory = Directory::new("reload-files");
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (certificate, key) = (path("server.pem"), path("server.key"));
    let put = |name: &str| {
        std::fs::copy(file(&format!("{name}.pem")), &certificate).unwrap();
        std::fs::copy(file(&format!("{name}.key")), &key).unwrap();
    };
    put("server");
    let broker = start_with("reload", &certificate, &key, &[]);
    let at = &broker.addresses;
    let shown = || connect(&at.kafka).conn.peer_certificates().unwrap()[0].clone();
    let mut old = kafka::Client::over(connect(&at.kafka));
    old.create_topic("t").unwrap();
    assert_eq!(shown(), certificates("server")[0]);

    put("server-new");
    wait::until("the new one", LIMIT, || (shown() == certificates("server-new")[0]).then_some(()));
    assert_eq!(old.produce("t", b"still there").unwrap(), 0);

    // A key that is another's: the old pair stays, and the log says which file is wrong.
    std::fs::copy(file("server.key"), &key).unwrap();
    wait::until("the refusal", LIMIT, || {
        let refused = "koine_tls_reloads_total{result=\"refused\"}";
        (metric(&broker, refused) > 0).then_some(())
    });
    assert_eq!(shown(), certificates("server-new")[0]);
    let log = broker.log();
    let line = log.lines().find(|line| line.contains("the old one stays")).unwrap();
    assert!(
        line.contains("WARN") && line.contains(&format!("tls.key: {key}: is not the key")),
        "{line}"
    );

    std::fs::copy(file("server.pem"), &certificate).unwrap();
    signal(broker.id(), "HUP");
    wait::until("what SIGHUP asked for", LIMIT, || {
        (shown() == certificates("server")[0]).then_some(())
    });
}

#[test]
fn what_is_wrong_with_a_file_prevents_the_start() {
    let directory = Directory::new("tls-start");
    let check = |arguments: &[&str], expect: &str| {
        let output = koine()
            .args(["start", "--data", "data", "--kafka", "127.0.0.1:0"])
            .args(["--amqp", "off", "--mqtt", "off", "--http", "off"])
            .args(arguments)
            .current_dir(directory.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{arguments:?} started");
        assert!(said.contains(expect), "{arguments:?}: {said:?}, not {expect:?}");
    };
    let empty = directory.path().join("empty.pem");
    std::fs::write(&empty, "no PEM at all\n").unwrap();
    let broken = directory.path().join("broken.pem");
    std::fs::write(&broken, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        .unwrap();
    let (empty, broken) = (empty.to_str().unwrap(), broken.to_str().unwrap());
    let (good, key) = (file("server.pem"), file("server.key"));
    let check_pair = |certificate: &str, key: &str, rest: &[&str], expect: &str| {
        check(&[&["--tls-certificate", certificate, "--tls-key", key], rest].concat(), expect);
    };
    check(&["--tls-certificate", &good], "tls.certificate needs tls.key");
    check(&["--kafkas", "127.0.0.1:0"], "kafkas needs tls.certificate and tls.key");
    check(&["--tls-required", "true"], "tls.required needs tls.certificate and tls.key");
    check_pair(
        &good,
        &key,
        &["--tls-client-auth", "required"],
        "tls.client_auth needs tls.client_ca",
    );
    check_pair("none.pem", &key, &[], "tls.certificate: none.pem: No such file");
    check_pair(empty, &key, &[], "empty.pem: holds no certificate");
    check_pair(broken, &key, &[], "broken.pem: its first certificate cannot be read");
    check_pair(&good, empty, &[], "empty.pem: holds no private key");
    check_pair(&good, &file("alice.key"), &[], &format!("alice.key: is not the key of {good}"));
    let roots = ["--tls-client-auth", "required", "--tls-client-ca", "none.pem"];
    check_pair(&good, &key, &roots, "tls.client_ca: none.pem: No such file");
}

#[test]
fn a_key_that_others_can_read_and_a_certificate_that_has_ended_are_told() {
    use std::os::unix::fs::PermissionsExt;
    let directory = Directory::new("readable-key");
    let key = directory.path().join("server.key");
    std::fs::copy(file("server-expired.key"), &key).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let broker = start_with("told", &file("server-expired.pem"), key.to_str().unwrap(), &[]);
    let log = broker.log();
    assert!(log.contains("can be read by every user of this machine"), "{log}");
    assert!(log.contains("has expired; clients will refuse it"), "{log}");
    let error = Dial::default().connect(&broker.addresses.kafka).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
    assert!(error.to_string().contains("expired"), "{error}");
    assert_eq!(http_get(&broker.addresses.http, "/health/live").0, 200);
}
