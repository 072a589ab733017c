//! The classes of attack that brought other brokers an advisory, one test each, named as in
//! `docs/internals/security-classes.md`; that page also says what was removed to see each fail. TLS and the whole
//! table of rights have tests of their own kind beside them.

mod bytes;
mod memory;
mod rights;
mod scram;
mod surroundings;

use std::io::{Read, Write};
use std::time::Duration;

use crate::access::{add_user, secure};
use crate::broker::{Addresses, Broker};
use crate::wire::{amqp, kafka, mqtt, open};

const USER: &str = "full";
const PASSWORD: &str = "canary-full-5e02";
/// A user who may do everything with names that begin with `low`, and nothing else.
const LOW: &str = "low";
/// How long a refusal may take: less than a handshake's deadline.
const END_LIMIT: Duration = Duration::from_secs(5);

/// With an administrator, a user with every right and [`LOW`].
fn start_secured(test: &str) -> Broker {
    let broker = Broker::start(test);
    secure(&broker);
    add_user(&broker, USER, PASSWORD, [".*"; 3]);
    add_user(&broker, LOW, PASSWORD, ["^low"; 3]);
    broker
}

/// What is said before the bytes of interest, without a login.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Before {
    Nothing,
    /// Logged in to an open broker, with channel 1 in AMQP.
    Login,
}

/// Sends `bytes` as the named protocol and reads until the broker has ended the connection, which in AMQP is
/// connection.close as well. The answer's bytes.
fn ended_by(
    at: &Addresses,
    protocol: &str,
    before: Before,
    bytes: &[u8],
) -> Result<Vec<u8>, String> {
    let (address, preamble) = match protocol {
        "kafka" => (&at.kafka, Vec::new()),
        "amqp" => (&at.amqp, amqp_login()),
        "mqtt" => (&at.mqtt, mqtt::connect(5, "", true)),
        "mqtt4" => (&at.mqtt, mqtt::connect(4, "", true)),
        _ => (&at.http, Vec::new()),
    };
    let mut stream = open(address).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(END_LIMIT)).map_err(|error| error.to_string())?;
    if before == Before::Login {
        let _ = stream.write_all(&preamble);
    }
    // What is refused early cannot be written to its end.
    let _ = stream.write_all(bytes);
    let mut heard = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return Ok(heard),
            Ok(count) => heard.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(heard),
            Err(error) => return Err(format!("{error} after {heard:?}")),
        }
        if protocol == "amqp" && closes_connection(&heard) {
            return Ok(heard);
        }
    }
}

fn amqp_login() -> Vec<u8> {
    let mut out = amqp::PROTOCOL_HEADER.to_vec();
    out.extend(amqp::start_ok());
    out.extend(amqp::tune_ok());
    out.extend(amqp::connection_open());
    out.extend(amqp::channel_open());
    out
}

/// Whether these frames end with connection.close (class 10, method 50).
fn closes_connection(mut frames: &[u8]) -> bool {
    while let [kind, _, _, a, b, c, d, rest @ ..] = frames {
        let size = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        let Some(payload) = rest.get(..size) else { return false };
        if *kind == 1 && payload.starts_with(&[0, 10, 0, 50]) {
            return true;
        }
        frames = rest.get(size + 1..).unwrap_or_default();
    }
    false
}

/// Each protocol's clients go on, on a broker without users.
fn serves(broker: &mut Broker, name: &str) {
    let log = broker.log();
    assert!(broker.is_running() && !log.contains("panicked"), "{log}");
    let at = &broker.addresses;
    let mut writer = kafka::Client::connect(&at.kafka).unwrap();
    let offset = {
        let _ = writer.try_create_topic(name).unwrap();
        writer.produce(name, b"kafka").unwrap()
    };
    assert_eq!(writer.fetch(name, offset).unwrap(), b"kafka");
    let mut client = amqp::Client::connect(&at.amqp).unwrap();
    client.declare(&format!("{name}-queue")).unwrap();
    client.publish(&format!("{name}-queue"), b"amqp").unwrap();
    assert_eq!(client.get(&format!("{name}-queue")).unwrap().unwrap(), b"amqp");
    let mut client = mqtt::Client::connect(&at.mqtt, "", true).unwrap();
    client.subscribe("serves/it").unwrap();
    client.publish("serves/it", b"mqtt").unwrap();
    assert_eq!(client.receive().unwrap(), b"mqtt");
}
