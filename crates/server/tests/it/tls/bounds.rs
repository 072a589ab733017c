//! Bounds at the socket: how many connections an address may have, and make.

use std::io::Read;
use std::net::TcpStream;

use super::{connect, start, LIMIT};
use crate::broker::{Broker, Directory};
use crate::overload::metric;
use crate::wait;
use crate::wire::{kafka, mqtt, open};

/// Of one connection, in an unoptimised build; 5 KiB more while the room of a large record is kept.
const IDLE_BYTES_MAX: u64 = 22 << 10;

fn is_closed(mut stream: &TcpStream) -> bool {
    // Nothing was asked: any answer is the end.
    matches!(stream.read(&mut [0; 8]), Ok(0) | Err(_))
}

#[test]
fn an_address_has_so_many_connections_and_no_more() {
    let arguments = ["--limits-connections-per-address", "3"];
    let broker = start("per-address", &arguments);
    let at = &broker.addresses;
    let mut first = kafka::Client::over(connect(&at.kafka));
    first.create_topic("t").unwrap();
    let (second, third) = (connect(&at.amqp), open(&at.mqtt).unwrap());
    // The fourth and the fifth, whatever the listener: the order of arrival is that of connecting.
    assert!(is_closed(&open(&at.kafka).unwrap()));
    assert!(is_closed(&open(&at.http).unwrap()));
    assert_eq!(first.produce("t", b"x").unwrap(), 0);
    drop((second, third));
    let name = "koine_connections_rejected_total{protocol=\"kafka\",reason=\"address\"}";
    // The page itself needs a place, which is free once the broker has noticed.
    wait::until("a free place", LIMIT, || {
        let stream = open(&at.kafka).unwrap();
        kafka::Client::over(stream).create_topic("another").is_ok().then_some(())
    });
    wait::until("the page", LIMIT, || {
        std::panic::catch_unwind(|| metric(&broker, name)).ok().filter(|count| *count >= 1)
    });
}

#[test]
fn an_address_makes_so_many_connections_a_second() {
    const RATE: usize = 20;
    let arguments = ["--limits-connection-rate-per-address", "20"];
    let broker = Broker::start_in(Directory::new("rate"), &arguments);
    let streams: Vec<TcpStream> =
        (0..4 * RATE).map(|_| open(&broker.addresses.kafka).unwrap()).collect();
    let closed = streams
        .iter()
        .filter(|stream| {
            stream.set_read_timeout(Some(std::time::Duration::from_millis(100))).unwrap();
            matches!((&mut &**stream).read(&mut [0; 8]), Ok(0))
        })
        .count();
    assert!((RATE..=3 * RATE).contains(&closed), "{closed} of {}", streams.len());
    drop(streams);
    // A second later the address is as good as any.
    wait::until("another allowance", LIMIT, || {
        let mut client = kafka::Client::connect(&broker.addresses.kafka).unwrap();
        client.create_topic("t").is_ok().then_some(())
    });
}

/// Connections that are silent after large records.
#[test]
fn idle_connections_are_small() {
    const COUNT: u64 = 300;
    let broker = start("idle", &["--shards", "1"]);
    let at = &broker.addresses;
    let open = |number: u64| {
        let id = format!("idle{number}");
        let mut client = mqtt::Client::over(connect(&at.mqtt), 4, &id, true).unwrap();
        client.publish("nowhere", &[7; 16_000]).unwrap();
        client
    };
    let mut clients: Vec<_> = (0..50).map(open).collect();
    let before = broker.resident_bytes();
    clients.extend((50..50 + COUNT).map(open));
    let each = broker.resident_bytes().saturating_sub(before) / COUNT;
    println!("{each} bytes each");
    assert!(each < IDLE_BYTES_MAX, "{each} bytes each");
}
