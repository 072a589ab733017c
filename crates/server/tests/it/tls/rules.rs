//! Who is let in: client certificates, plain connections where TLS is required, and what happens to peers that break
//! TLS's own rules.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};

use super::client::{connect, file, Dial, VERSIONS};
use super::{start, LIMIT};
use crate::broker::Broker;
use crate::command_line::http_get;
use crate::overload::metric;
use crate::wait;
use crate::wire::{amqp, kafka, mqtt, open};

/// The broker's first answer. A refusal of the certificate comes with it at the latest.
fn first_answer(dial: &Dial, address: &str) -> io::Result<()> {
    let mut tls = dial.connect(address)?;
    tls.write_all(amqp::PROTOCOL_HEADER)?;
    tls.read_exact(&mut [0; 7])
}

fn check_certificates(test: &str, auth: &str, cases: &[(Option<&'static str>, bool)]) {
    let roots = file("ca.pem");
    let broker = start(test, &["--tls-client-auth", auth, "--tls-client-ca", &roots]);
    for versions in VERSIONS {
        for (shows, is_good) in cases {
            let dial = Dial { versions, shows: *shows, ..Dial::default() };
            let answer = first_answer(&dial, &broker.addresses.amqp);
            assert_eq!(answer.is_ok(), *is_good, "{auth}, {dial:?}: {answer:?}");
        }
    }
    let refused = cases.iter().filter(|(_, is_good)| !is_good).count() * VERSIONS.len();
    let name = "koine_connections_rejected_total{protocol=\"amqp\",reason=\"handshake\"}";
    assert_eq!(metric(&broker, name), refused as u64);
}

#[test]
fn tls_chain_of_trust() {
    check_certificates(
        "certificate-required",
        "required",
        &[
            (Some("alice"), true),
            (Some("bob"), true), // by way of an intermediate, which it sends
            (Some("odd"), true),
            (None, false),
            (Some("expired"), false),
            (Some("mallory"), false), // alice's name by another authority of the same name
            (Some("server"), false),  // good for servers only
        ],
    );
    check_certificates(
        "certificate-optional",
        "optional",
        &[(Some("alice"), true), (None, true), (Some("expired"), false), (Some("mallory"), false)],
    );
}

#[test]
fn a_client_that_trusts_another_authority_leaves_and_nobody_else_notices() {
    let broker = start("wrong-ca", &[]);
    let at = &broker.addresses;
    let mut good = kafka::Client::over(connect(&at.kafka));
    good.create_topic("t").unwrap();
    for versions in VERSIONS {
        let dial = Dial { versions, trusts: "other-ca", ..Dial::default() };
        assert_eq!(dial.connect(&at.kafka).unwrap_err().kind(), ErrorKind::InvalidData);
    }
    assert_eq!(good.produce("t", b"x").unwrap(), 0);
}

/// An address of this machine that is not loopback, if it has one.
fn outer_address() -> Option<String> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent: only the route is looked up.
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then(|| address.to_string())
}

fn is_closed_without_a_word(mut stream: TcpStream, hello: &[u8]) -> bool {
    stream.write_all(hello).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer.is_empty()
}

#[test]
fn where_tls_is_required_only_this_machine_speaks_plain() {
    let Some(outer) = outer_address() else {
        println!("skipped: this machine has no address beyond loopback");
        return;
    };
    let any = format!("{outer}:0");
    let mut arguments = vec!["--tls-required", "true", "--insecure"];
    for listener in ["--kafka", "--amqp", "--mqtt", "--http"] {
        arguments.extend([listener, &any]);
    }
    let broker = start("required", &arguments);
    let at = &broker.addresses;
    assert!(at.kafka.starts_with(&outer), "{at:?}");
    assert!(is_closed_without_a_word(open(&at.kafka).unwrap(), &kafka::request(18, 0, 1, &[])));
    assert!(is_closed_without_a_word(open(&at.amqp).unwrap(), amqp::PROTOCOL_HEADER));
    assert!(is_closed_without_a_word(open(&at.mqtt).unwrap(), &mqtt::connect(4, "id", true)));
    let (status, body) = http_get(&at.http, "/health/live");
    assert_eq!(status, 403, "{body}");
    assert!(body.contains("tls_required"), "{body}");
    kafka::Client::over(connect(&at.kafka)).create_topic("t").unwrap();
    let page = {
        let tls = connect(&at.http);
        crate::command_line::http_get_over(tls, &at.http, "/metrics").1
    };
    for protocol in ["kafka", "amqp", "mqtt", "http"] {
        let line = format!(
            "koine_connections_rejected_total{{protocol=\"{protocol}\",reason=\"plain\"}} 1\n"
        );
        assert!(page.contains(&line), "{line} not in {page}");
    }
    drop(broker);

    let broker = start("required-loopback", &["--tls-required", "true"]);
    amqp::Client::connect(&broker.addresses.amqp).unwrap();
    assert_eq!(http_get(&broker.addresses.http, "/health/live").0, 200);
}

/// No connection is left, and the broker is as before.
fn until_all_are_gone(broker: &Broker) {
    for protocol in ["kafka", "amqp", "mqtt"] {
        let name = format!("koine_connections{{protocol=\"{protocol}\"}}");
        wait::until(&name, LIMIT, || (metric(broker, &name) == 0).then_some(()));
    }
}

fn client_hello() -> Vec<u8> {
    let mut hello = Vec::new();
    Dial::default().connection().write_tls(&mut hello).unwrap();
    hello
}

/// Bytes that are the same on every run.
fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn garbage_before_in_and_behind_a_handshake_ends_its_connection_only() {
    let broker = start("garbage", &[]);
    let at = &broker.addresses;
    let mut good = kafka::Client::over(connect(&at.kafka));
    good.create_topic("t").unwrap();
    let hello = client_hello();
    for seed in 0..60 {
        let noise = noise(seed, 300);
        let mut bent = hello.clone();
        let index = noise[0] as usize % bent.len();
        bent[index] ^= noise[1] | 1;
        let attacks = [
            [&[0x16][..], &noise].concat(),
            [&[0x16, 3, 1, 0x3F, 0xFF, 1][..], &noise].concat(),
            [&hello[..], &noise].concat(),
            [&hello[..], &hello].concat(),
            hello[..5 + index % 200].to_vec(),
            bent,
        ];
        for (number, attack) in attacks.into_iter().enumerate() {
            let address = [&at.kafka, &at.amqp, &at.mqtt, &at.http][number % 4];
            let mut stream = open(address).unwrap();
            let _ = stream.write_all(&attack);
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        }
        assert_eq!(good.produce("t", b"x").unwrap(), seed as i64);
    }
    // Behind the handshake: a record that is not what it claims to be.
    let mut tls = connect(&at.mqtt);
    tls.sock.write_all(&[0x17, 3, 3, 0, 32]).unwrap();
    tls.sock.write_all(&noise(1, 32)).unwrap();
    let error = tls.read(&mut [0; 64]).unwrap_err();
    assert!(error.to_string().contains("alert"), "{error}");
    drop((tls, good));
    until_all_are_gone(&broker);
}

/// Connections of a shard read into one block: what one sent before its mistake is not another's.
#[test]
fn what_came_before_a_broken_record_is_nobody_elses() {
    let broker = start("shared-block", &["--shards", "1"]);
    let at = &broker.addresses;
    for number in 0..20 {
        let mut broken = connect(&at.mqtt);
        broken.write_all(&mqtt::connect(4, "broken", true)).unwrap();
        broken.read_exact(&mut [0; 4]).unwrap();
        // Two records, of which the broker decrypts the first before it comes to the mistake.
        let publish = mqtt::publish(1, "nowhere", &[7; 6_000]);
        for record in [vec![0xC0, 0], publish] {
            broken.conn.writer().write_all(&record).unwrap();
        }
        let mut bytes = Vec::new();
        while broken.conn.wants_write() {
            broken.conn.write_tls(&mut bytes).unwrap();
        }
        bytes.extend([0x17, 3, 3, 0, 32]);
        bytes.extend(noise(number, 32));
        broken.sock.write_all(&bytes).unwrap();
        // It may have been answered before the mistake was read.
        while broken.read(&mut [0; 8]).is_ok_and(|count| count > 0) {}
        // A PINGREQ in front of its CONNECT would end it.
        mqtt::Client::connect(&at.mqtt, &format!("good{number}"), true).unwrap();
    }
}

#[test]
fn both_ways_to_leave_are_noticed() {
    let broker = start("leave", &[]);
    let at = &broker.addresses;
    let mut polite = connect(&at.kafka);
    polite.conn.send_close_notify();
    polite.conn.complete_io(&mut polite.sock).unwrap();
    // Answered in kind, although the socket is open.
    assert_eq!(polite.read(&mut [0; 8]).unwrap(), 0);
    let cut = connect(&at.kafka);
    cut.sock.shutdown(Shutdown::Write).unwrap();
    // In the middle of a record, too.
    let mut half = connect(&at.kafka);
    half.sock.write_all(&[0x17, 3, 3, 0x20, 0, 1, 2, 3]).unwrap();
    half.sock.shutdown(Shutdown::Write).unwrap();
    until_all_are_gone(&broker);
    drop((polite, cut, half));
}

/// Each asks for new keys and an answer, and costs the client next to nothing (CVE-2026-39304 of ActiveMQ).
#[test]
fn tls_key_update_flood() {
    let broker = start("key-updates", &[]);
    let dial = Dial { versions: VERSIONS[1], ..Dial::default() };
    let mut client = kafka::Client::over(dial.connect(&broker.addresses.kafka).unwrap());
    client.create_topic("t").unwrap();
    let mut tls = dial.connect(&broker.addresses.kafka).unwrap();
    // A few are in order.
    for _ in 0..5 {
        tls.conn.refresh_traffic_keys().unwrap();
    }
    let mut kafka = kafka::Client::over(tls);
    assert_eq!(kafka.produce("t", b"with new keys").unwrap(), 0);
    let mut tls = dial.connect(&broker.addresses.kafka).unwrap();
    for _ in 0..1_000 {
        tls.conn.refresh_traffic_keys().unwrap();
    }
    while tls.conn.wants_write() {
        if tls.conn.write_tls(&mut tls.sock).is_err() {
            break;
        }
    }
    let answer = tls.read(&mut [0; 8]);
    assert!(answer.is_err(), "{answer:?}");
    assert_eq!(client.produce("t", b"others go on").unwrap(), 1);
}

/// Renegotiation, which only TLS 1.2 has, is refused: there is nothing to ask for.
#[test]
fn renegotiation_is_not_a_way_to_keep_the_broker_busy() {
    let broker = start("renegotiation", &[]);
    let dial = Dial { versions: VERSIONS[0], ..Dial::default() };
    let mut tls = dial.connect(&broker.addresses.kafka).unwrap();
    // A ClientHello in clear inside an encrypted connection is not even a record.
    let _ = tls.sock.write_all(&client_hello());
    assert!(tls.read(&mut [0; 8]).is_err());
    until_all_are_gone(&broker);
}
