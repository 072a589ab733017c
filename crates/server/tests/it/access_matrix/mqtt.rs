//! MQTT 5: subjects, those that are a topic's name and those that are not.

use super::{make_topic, site, Address, Cells, Exchange, On, Read, Right, Write};
use super::{PASSWORD, ROLES};
use crate::access::administer;
use crate::wire::broken;
use crate::wire::mqtt::{packet, Client};

const NOT_AUTHORIZED: u8 = 0x87;
/// Subjects are RabbitMQ's `amq.topic` to permissions.
const DISCONNECT: u8 = 0xe0;
const SUBJECT: On = Exchange;
const TOPIC: On = Address;

struct Operation {
    name: &'static str,
    needs: &'static [(Right, On)],
    run: fn(&mut Client, &str) -> std::io::Result<u8>,
    /// What whoever may do it is told: success, or the granted quality of service.
    done: u8,
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u16).to_be_bytes());
    out.extend(text.as_bytes());
}

/// The last byte of the answer with this first byte: its only reason code. Messages before it are passed over.
fn reason(client: &mut Client, bytes: &[u8], kind: u8) -> std::io::Result<u8> {
    client.send(bytes)?;
    loop {
        let (first, rest) = client.read()?;
        if first == kind {
            return Ok(if rest.len() == 2 { 0 } else { rest.get(2).copied().unwrap_or(0xff) });
        }
        if first == DISCONNECT {
            return Err(broken(format!("DISCONNECT {rest:x?}")));
        }
    }
}

fn publish(client: &mut Client, first: u8, subject: &str, answer: u8) -> std::io::Result<u8> {
    let mut rest = Vec::new();
    text(&mut rest, subject);
    rest.extend([0, 9, 0]); // identifier, no properties
    rest.extend(b"body");
    // 0x10: nobody subscribes.
    Ok(match reason(client, &packet(first, &rest), answer)? {
        0x10 => 0,
        code => code,
    })
}

fn subscribe(client: &mut Client, filter: &str) -> std::io::Result<u8> {
    let mut rest = vec![0, 7, 0];
    text(&mut rest, filter);
    rest.push(1);
    client.send(&packet(0x82, &rest))?;
    loop {
        let (first, rest) = client.read()?;
        if first == 0x90 {
            return Ok(rest.last().copied().unwrap_or(0xff));
        }
    }
}

const OPERATIONS: [Operation; 8] = [
    Operation {
        name: "publish",
        needs: &[(Write, SUBJECT)],
        run: |client, subject| publish(client, 0x32, &format!("{subject}/free"), 0x40),
        done: 0,
    },
    Operation {
        name: "publish-once",
        needs: &[(Write, SUBJECT)],
        run: |client, subject| publish(client, 0x34, &format!("{subject}/free"), 0x50),
        done: 0,
    },
    Operation {
        name: "retain",
        needs: &[(Write, SUBJECT)],
        run: |client, subject| publish(client, 0x33, &format!("{subject}/free"), 0x40),
        done: 0,
    },
    Operation {
        name: "publish-topic",
        needs: &[(Write, SUBJECT), (Write, TOPIC)],
        run: |client, subject| publish(client, 0x32, subject, 0x40),
        done: 0,
    },
    Operation {
        name: "retain-topic",
        needs: &[(Write, SUBJECT), (Write, TOPIC)],
        run: |client, subject| publish(client, 0x33, subject, 0x40),
        done: 0,
    },
    Operation {
        name: "subscribe",
        needs: &[(Read, SUBJECT)],
        run: |client, subject| subscribe(client, &format!("{subject}/free")),
        done: 1,
    },
    Operation {
        name: "subscribe-topic",
        needs: &[(Read, SUBJECT), (Read, TOPIC)],
        run: subscribe,
        done: 1,
    },
    Operation {
        name: "subscribe-shared",
        needs: &[(Read, SUBJECT), (Read, TOPIC)],
        run: |client, subject| subscribe(client, &format!("$share/g/{subject}")),
        done: 1,
    },
];

#[test]
fn every_packet_by_every_role() {
    let broker = site("mqtt-matrix");
    let address = &broker.addresses.mqtt;
    let mut cells = Cells::default();
    for role in ROLES {
        let mut client = Client::connect_as(5, address, role.name, role.name, PASSWORD).unwrap();
        for operation in &OPERATIONS {
            let topic = role.object(operation.name);
            make_topic(&broker, &topic);
            let got = (operation.run)(&mut client, &topic.replace('.', "/")).unwrap();
            let expect = match role.may_all(operation.needs) {
                true => operation.done,
                false => NOT_AUTHORIZED,
            };
            cells.check(role.name, operation.name, expect.to_string(), got.to_string());
        }
    }
    for (user, password, level, code) in [
        ("nobody", PASSWORD, 5, "86"),
        ("all", "wrong", 5, "86"),
        ("nobody", PASSWORD, 4, "4"),
        ("all", "wrong", 4, "4"),
    ] {
        let error =
            Client::connect_as(level, address, "x", user, password).unwrap_err().to_string();
        let is_right = error.contains(&format!(", {code}"));
        cells.check(user, &format!("connect {level}"), "true".into(), format!("{is_right}"));
        if !is_right {
            println!("{error}");
        }
    }
    // Nobody takes over another's session, and the other does not notice.
    let mut client = Client::connect_as(5, address, "last", "all", PASSWORD).unwrap();
    let error = Client::connect_as(5, address, "last", "uses", PASSWORD).unwrap_err().to_string();
    let is_right = error.contains("[0, 87");
    cells.check("uses", "take over", "true".into(), is_right.to_string());
    let got = publish(&mut client, 0x32, "mine/all/free", 0x40).unwrap();
    cells.check("all, left alone", "publish", "0".into(), got.to_string());
    administer(&broker, "permissions delete all", "");
    let end = publish(&mut client, 0x32, "mine/all/free", 0x40).unwrap_err().to_string();
    cells.check("all, taken away", "publish", "DISCONNECT [87]".into(), end);
    let mut client = Client::connect_as(5, address, "used", "uses", PASSWORD).unwrap();
    administer(&broker, "users delete uses", "");
    let end = publish(&mut client, 0x32, "mine/uses/free", 0x40).unwrap_err().to_string();
    cells.check("uses, deleted", "publish", "DISCONNECT [87]".into(), end);
    cells.end(85);
}
