//! AMQP 0-9-1: methods on queues and exchanges, and the ways to a topic.

use super::{make_topic, site, Address, Cells, Configure, Exchange, On, Read, Right, Role, Write};
use super::{OWNER, PASSWORD, ROLES};
use crate::access::administer;
use crate::broker::Broker;
use crate::wire::amqp::{basic_publish, frame, method, short_text, Client};

/// ACCESS_REFUSED.
const REFUSED: u16 = 403;

type Answer = Result<(u16, u16), u16>;

struct Operation {
    name: &'static str,
    needs: &'static [(Right, On)],
    /// Any right on the object is enough, not all of `needs`.
    needs_any: bool,
    bytes: fn(&str) -> Vec<u8>,
    /// What whoever may do it is told.
    answer: Answer,
}

fn texts(class: u16, number: u16, names: &[&str], flags: &[u8], table: &[u8]) -> Vec<u8> {
    let mut arguments = vec![0, 0];
    for name in names {
        short_text(&mut arguments, name);
    }
    arguments.extend(flags);
    if !table.is_empty() {
        arguments.extend((table.len() as u32 - 1).to_be_bytes());
        arguments.extend(&table[1..]);
    }
    method(1, class, number, &arguments)
}

/// One entry with a text, behind a byte that only says that there is a table.
fn entry(key: &str, value: &str) -> Vec<u8> {
    let mut table = vec![0];
    short_text(&mut table, key);
    table.push(b'S');
    table.extend((value.len() as u32).to_be_bytes());
    table.extend(value.as_bytes());
    table
}

fn queue_declare(name: &str, flags: u8, table: &[u8]) -> Vec<u8> {
    texts(50, 10, &[name], &[flags], table)
}

fn exchange_declare(name: &str, flags: u8, table: &[u8]) -> Vec<u8> {
    texts(40, 10, &[name, "fanout"], &[flags], table)
}

fn publish(exchange: &str, key: &str) -> Vec<u8> {
    let mut out = texts(60, 40, &[exchange, key], &[0], &[]);
    let mut header = vec![0, 60, 0, 0];
    header.extend(4u64.to_be_bytes());
    header.extend([0, 0]);
    out.extend(frame(2, 1, &header));
    out.extend(frame(3, 1, b"body"));
    out
}

const NO_TABLE: &[u8] = &[0];
const DURABLE: u8 = 0b10;
const PASSIVE: u8 = 0b1;

const QUEUE: On = Address;
const TOPIC: On = Address;
const NEW: On = Address;
const FROM: On = Exchange;
const TO: On = Exchange;
const DEFAULT: On = Exchange;
const AMQ_TOPIC: On = Exchange;

const fn needs(
    name: &'static str,
    needs: &'static [(Right, On)],
    bytes: fn(&str) -> Vec<u8>,
    answer: Answer,
) -> Operation {
    Operation { name, needs, needs_any: false, bytes, answer }
}

const fn needs_any(
    name: &'static str,
    on: &'static [(Right, On)],
    bytes: fn(&str) -> Vec<u8>,
    answer: Answer,
) -> Operation {
    Operation { name, needs: on, needs_any: true, bytes, answer }
}

/// Each cell has a queue `N.queue`, exchanges `N.from` and `N.to` and a topic `N.topic`, made by the owner. Dead
/// letters and alternate exchanges are not served: those doors are shut for everybody.
const OPERATIONS: [Operation; 27] = [
    needs(
        "declare",
        &[(Configure, NEW)],
        |n| queue_declare(&format!("{n}.new"), DURABLE, NO_TABLE),
        Ok((50, 11)),
    ),
    needs(
        "declare-again",
        &[(Configure, QUEUE)],
        |n| queue_declare(&format!("{n}.queue"), DURABLE, NO_TABLE),
        Ok((50, 11)),
    ),
    needs(
        "declare-otherwise",
        &[(Configure, QUEUE)],
        |n| queue_declare(&format!("{n}.queue"), DURABLE | 0b1000, NO_TABLE),
        Err(406),
    ),
    needs(
        "dead-letter",
        &[(Configure, NEW)],
        |n| {
            queue_declare(
                &format!("{n}.new"),
                DURABLE,
                &entry("x-dead-letter-exchange", &format!("{n}.to")),
            )
        },
        Err(406),
    ),
    needs_any(
        "passive",
        &[(Configure, QUEUE), (Write, QUEUE), (Read, QUEUE)],
        |n| queue_declare(&format!("{n}.queue"), PASSIVE, NO_TABLE),
        Ok((50, 11)),
    ),
    needs_any(
        "passive-absent",
        &[(Configure, NEW), (Write, NEW), (Read, NEW)],
        |n| queue_declare(&format!("{n}.new"), PASSIVE, NO_TABLE),
        Err(404),
    ),
    needs(
        "delete",
        &[(Configure, QUEUE)],
        |n| texts(50, 40, &[&format!("{n}.queue")], &[0], &[]),
        Ok((50, 41)),
    ),
    needs(
        "delete-absent",
        &[(Configure, NEW)],
        |n| texts(50, 40, &[&format!("{n}.new")], &[0], &[]),
        Ok((50, 41)),
    ),
    needs(
        "purge",
        &[(Read, QUEUE)],
        |n| texts(50, 30, &[&format!("{n}.queue")], &[0], &[]),
        Ok((50, 31)),
    ),
    needs(
        "get",
        &[(Read, QUEUE)],
        |n| texts(60, 70, &[&format!("{n}.queue")], &[0], &[]),
        Ok((60, 72)),
    ),
    needs(
        "get-absent",
        &[(Read, NEW)],
        |n| texts(60, 70, &[&format!("{n}.new")], &[0], &[]),
        Err(404),
    ),
    needs(
        "consume",
        &[(Read, QUEUE)],
        |n| texts(60, 20, &[&format!("{n}.queue"), n], &[0], NO_TABLE),
        Ok((60, 21)),
    ),
    needs(
        "bind",
        &[(Write, QUEUE), (Read, FROM)],
        |n| texts(50, 20, &[&format!("{n}.queue"), &format!("{n}.from"), "k"], &[0], NO_TABLE),
        Ok((50, 21)),
    ),
    needs(
        "unbind",
        &[(Write, QUEUE), (Read, FROM)],
        |n| texts(50, 50, &[&format!("{n}.queue"), &format!("{n}.from"), "k"], &[], NO_TABLE),
        Ok((50, 51)),
    ),
    needs(
        "exchange-declare",
        &[(Configure, TO)],
        |n| exchange_declare(&format!("{n}.made"), DURABLE, NO_TABLE),
        Ok((40, 11)),
    ),
    needs(
        "alternate",
        &[(Configure, TO)],
        |n| {
            exchange_declare(
                &format!("{n}.made"),
                DURABLE,
                &entry("alternate-exchange", &format!("{n}.to")),
            )
        },
        Err(406),
    ),
    needs_any(
        "exchange-passive",
        &[(Configure, TO), (Write, TO), (Read, TO)],
        |n| exchange_declare(&format!("{n}.to"), PASSIVE, NO_TABLE),
        Ok((40, 11)),
    ),
    needs(
        "exchange-delete",
        &[(Configure, TO)],
        |n| texts(40, 20, &[&format!("{n}.to")], &[0], &[]),
        Ok((40, 21)),
    ),
    needs(
        "exchange-bind",
        &[(Write, TO), (Read, FROM)],
        |n| texts(40, 30, &[&format!("{n}.to"), &format!("{n}.from"), "k"], &[0], NO_TABLE),
        Ok((40, 31)),
    ),
    needs(
        "exchange-unbind",
        &[(Write, TO), (Read, FROM)],
        |n| texts(40, 40, &[&format!("{n}.to"), &format!("{n}.from"), "k"], &[0], NO_TABLE),
        Ok((40, 51)),
    ),
    needs("publish", &[(Write, TO)], |n| publish(&format!("{n}.to"), "k"), Ok((60, 80))),
    needs("publish-absent", &[(Write, TO)], |n| publish(&format!("{n}.absent"), "k"), Err(404)),
    needs(
        "publish-default",
        &[(Write, DEFAULT), (Write, QUEUE)],
        |n| basic_publish(&format!("{n}.queue"), b"body"),
        Ok((60, 80)),
    ),
    needs("publish-amq-topic", &[(Write, AMQ_TOPIC)], |n| publish("amq.topic", n), Ok((60, 80))),
    needs(
        "topic-by-default",
        &[(Write, DEFAULT), (Write, TOPIC)],
        |n| publish("", &format!("{n}.topic")),
        Ok((60, 80)),
    ),
    needs(
        "topic-by-amq-topic",
        &[(Write, AMQ_TOPIC), (Write, TOPIC)],
        |n| publish("amq.topic", &format!("{n}.topic")),
        Ok((60, 80)),
    ),
    needs(
        "topic-by-binding",
        &[(Write, QUEUE), (Read, AMQ_TOPIC), (Read, TOPIC)],
        |n| {
            texts(
                50,
                20,
                &[&format!("{n}.queue"), "amq.topic", &format!("{n}.topic")],
                &[0],
                NO_TABLE,
            )
        },
        Ok((50, 21)),
    ),
];

fn expected(operation: &Operation, role: &Role) -> Answer {
    let is_allowed = match operation.needs_any {
        true => operation.needs.iter().any(|(right, on)| role.may(*right, *on)),
        false => role.may_all(operation.needs),
    };
    match is_allowed {
        true => operation.answer,
        false => Err(REFUSED),
    }
}

/// A binding is no way to read a topic that a list denies, under its name or among others.
fn topics_by_bindings(broker: &Broker, owner: &mut Client, cells: &mut Cells) {
    make_topic(broker, "mine.side.topic");
    let deny = "acls create mine.side.topic --user all --operation read --kind topic --effect deny";
    administer(broker, deny, "");
    let declared = owner.ask(&queue_declare("mine.side.queue", DURABLE, NO_TABLE)).unwrap();
    assert_eq!(declared, Ok((50, 11)));
    let mut client = Client::connect_as(&broker.addresses.amqp, "all", PASSWORD).unwrap();
    for (key, expect) in [
        ("mine.side.topic", Err(REFUSED)),
        ("mine.side.*", Err(REFUSED)),
        ("#", Err(REFUSED)),
        ("mine.side.other", Ok((50, 21))),
        ("mine.*", Ok((50, 21))),
    ] {
        let bind = texts(50, 20, &["mine.side.queue", "amq.topic", key], &[0], NO_TABLE);
        let got = client.ask(&bind).unwrap();
        cells.check("all but a topic", key, format!("{expect:?}"), format!("{got:?}"));
    }
}

#[test]
fn every_method_by_every_role() {
    let broker = site("amqp-matrix");
    let address = &broker.addresses.amqp;
    let mut owner = Client::connect_as(address, OWNER, PASSWORD).unwrap();
    let mut cells = Cells::default();
    for role in ROLES {
        let mut client = Client::connect_as(address, role.name, PASSWORD).unwrap();
        for operation in &OPERATIONS {
            let name = role.object(operation.name);
            let queue = queue_declare(&format!("{name}.queue"), DURABLE, NO_TABLE);
            assert_eq!(owner.ask(&queue).unwrap(), Ok((50, 11)));
            for end in ["from", "to"] {
                let exchange = exchange_declare(&format!("{name}.{end}"), DURABLE, NO_TABLE);
                assert_eq!(owner.ask(&exchange).unwrap(), Ok((40, 11)));
            }
            if operation.name.starts_with("topic") {
                make_topic(&broker, &format!("{name}.topic"));
            }
            let got = client.ask(&(operation.bytes)(&name)).unwrap();
            let expect = expected(operation, &role);
            cells.check(role.name, operation.name, format!("{expect:?}"), format!("{got:?}"));
        }
    }
    topics_by_bindings(&broker, &mut owner, &mut cells);
    // Whoever is no one, has the wrong password, or no permission at all does not even get a channel.
    administer(&broker, "users create stranded --password-file -", PASSWORD);
    for (user, password) in [("nobody", PASSWORD), ("all", "wrong"), ("guest", "guest")] {
        let error = Client::connect_as(address, user, password).unwrap_err();
        // A client that has not said that it knows a reason for it is told none.
        let expect = std::io::ErrorKind::UnexpectedEof.to_string();
        cells.check(user, "connect", expect, error.kind().to_string());
    }
    let error = Client::connect_as(address, "stranded", PASSWORD).unwrap_err().to_string();
    let got = if error.contains("NOT_ALLOWED") { "530" } else { &error };
    cells.check("stranded", "open", "530".into(), got.into());
    // Rights that go end what came with them.
    for (role, line, code) in
        [("all", "permissions delete all", "530"), ("uses", "users delete uses", "320")]
    {
        let mut client = Client::connect_as(address, role, PASSWORD).unwrap();
        administer(&broker, line, "");
        let name = format!("mine.{role}.get.queue");
        let end = client.ask(&texts(60, 70, &[&name], &[0], &[]));
        let got = end.unwrap_err().to_string();
        let got = if got.contains(code) { code.to_owned() } else { got };
        cells.check(role, line, code.into(), got);
    }
    cells.end(281);
}
