//! AMQP 0-9-1. What each method needs is RabbitMQ's documented table; a refusal is 403 on the channel.

use super::roles::{Right, Role, Standing, ROLES};
use super::{Cell, Outcome};
use crate::access::ADMIN;
use crate::broker::Broker;
use crate::wire::amqp::{
    channel_open, connection_open, frame, method, start_ok_as, tune_ok, Client, PROTOCOL_HEADER,
};
use crate::wire::kafka;
use Prepare::{Bound, Exchange, Filled, Queue, Topic};
use Right::{Any, Configure, Read, Write};

const ACCESS_REFUSED: u16 = 403;

/// The arguments of a method, from left to right.
struct Arguments(Vec<u8>);

/// Begins with the reserved short.
fn arguments() -> Arguments {
    Arguments(vec![0, 0])
}

impl Arguments {
    fn text(mut self, text: &str) -> Self {
        self.0.push(text.len() as u8);
        self.0.extend(text.as_bytes());
        self
    }

    fn bits(mut self, bits: u8) -> Self {
        self.0.push(bits);
        self
    }

    /// A table with one text, or none.
    fn table(mut self, entry: Option<(&str, &str)>) -> Self {
        let mut table = Vec::new();
        if let Some((key, value)) = entry {
            table.push(key.len() as u8);
            table.extend(key.as_bytes());
            table.push(b'S');
            table.extend((value.len() as u32).to_be_bytes());
            table.extend(value.as_bytes());
        }
        self.0.extend((table.len() as u32).to_be_bytes());
        self.0.extend(table);
        self
    }

    fn of(self, class: u16, number: u16) -> Vec<u8> {
        method(1, class, number, &self.0)
    }
}

const PASSIVE: u8 = 1;
const DURABLE: u8 = 2;
const EXCLUSIVE: u8 = 4;

fn declare(queue: &str, bits: u8, entry: Option<(&str, &str)>) -> Vec<u8> {
    arguments().text(queue).bits(bits).table(entry).of(50, 10)
}

fn declare_exchange(name: &str, kind: &str, bits: u8, entry: Option<(&str, &str)>) -> Vec<u8> {
    arguments().text(name).text(kind).bits(bits).table(entry).of(40, 10)
}

fn bind(queue: &str, exchange: &str, key: &str) -> Vec<u8> {
    arguments().text(queue).text(exchange).text(key).bits(0).table(None).of(50, 20)
}

fn unbind(queue: &str, exchange: &str, key: &str) -> Vec<u8> {
    arguments().text(queue).text(exchange).text(key).table(None).of(50, 50)
}

/// exchange.bind is method 30, unbind 40.
fn link(number: u16, to: &str, from: &str, key: &str) -> Vec<u8> {
    arguments().text(to).text(from).text(key).bits(0).table(None).of(40, number)
}

/// With confirms, so that it has an answer.
fn publish(exchange: &str, key: &str) -> Vec<u8> {
    let mut out = method(1, 85, 10, &[1]); // confirm.select, no-wait
    out.extend(arguments().text(exchange).text(key).bits(0).of(60, 40));
    let mut header = vec![0, 60, 0, 0];
    header.extend(1u64.to_be_bytes());
    header.extend([0, 0]);
    out.extend(frame(2, 1, &header));
    out.extend(frame(3, 1, b"x"));
    out
}

fn get(queue: &str) -> Vec<u8> {
    arguments().text(queue).bits(0).of(60, 70)
}

fn consume(queue: &str) -> Vec<u8> {
    arguments().text(queue).text("").bits(0).table(None).of(60, 20)
}

fn purge(queue: &str) -> Vec<u8> {
    arguments().text(queue).bits(0).of(50, 30)
}

/// What the administrator makes for a cell. `@` is the cell's own name, here and below.
#[derive(Clone, Copy)]
enum Prepare {
    Queue(&'static str),
    /// A queue that nobody but the administrator may use.
    Locked(&'static str),
    /// A queue with one message.
    Filled(&'static str),
    /// Of type topic.
    Exchange(&'static str),
    /// Queue, exchange, key.
    Bound(&'static str, &'static str, &'static str),
    /// Of Kafka's.
    Topic(&'static str),
}

#[derive(Clone, Copy)]
enum Need {
    Topic(Right, &'static str),
    Exchange(Right, &'static str),
    /// A key of `amq.topic`.
    Key(Right, &'static str),
    /// To publish to it by the default exchange; whether it is a topic.
    Name(&'static str, bool),
}

/// What is to be seen if and only if it was done.
#[derive(Clone, Copy)]
enum Trace {
    Nothing,
    QueueIs(&'static str, bool),
    ExchangeIs(&'static str, bool),
    /// This many messages; one other number otherwise.
    Messages(&'static str, u32),
    /// Publishing to the exchange with the key reaches the queue, or no longer does.
    Route(&'static str, &'static str, &'static str, bool),
    /// Kafka's topic has a record.
    Record(&'static str),
}

struct Operation {
    name: &'static str,
    prepare: &'static [Prepare],
    needs: &'static [Need],
    act: fn(&str) -> Vec<u8>,
    /// For whoever may.
    then: Outcome,
    trace: Trace,
}

macro_rules! operation {
    ($name:literal [$($prepare:expr),*] [$($need:expr),*] $act:expr => $trace:expr) => {
        operation!($name [$($prepare),*] [$($need),*] $act => $trace, Outcome::Done)
    };
    ($name:literal [$($prepare:expr),*] [$($need:expr),*] $act:expr => $trace:expr, $then:expr) => {
        Operation {
            name: $name, prepare: &[$($prepare),*], needs: &[$($need),*], act: $act, then: $then,
            trace: $trace,
        }
    };
}

const Q: &str = "@.q";
const X: &str = "@.x";
const NOTHING: Trace = Trace::Nothing;

fn named(cell: &str, template: &str) -> String {
    template.replace('@', cell)
}

fn declarations() -> Vec<Operation> {
    let not_found = Outcome::Refused(404);
    let differs = Outcome::Refused(406);
    // Side doors that are not built yet: such an argument is refused, and nothing is declared. Once they are
    // served, both need the right to read what is declared and to write to where it leads.
    let not_served = Outcome::Refused(406);
    vec![
        operation!("declare" [] [Need::Topic(Configure, Q)]
            |cell| declare(&named(cell, Q), DURABLE, None) => Trace::QueueIs(Q, true)),
        operation!("declare-otherwise" [Queue(Q)] [Need::Topic(Configure, Q)]
            |cell| declare(&named(cell, Q), 0, None) => NOTHING, differs),
        operation!("passive" [Queue(Q)] [Need::Topic(Any, Q)]
            |cell| declare(&named(cell, Q), PASSIVE, None) => NOTHING),
        operation!("passive-absent" [] [Need::Topic(Any, Q)]
            |cell| declare(&named(cell, Q), PASSIVE, None) => NOTHING, not_found),
        operation!("delete" [Queue(Q)] [Need::Topic(Configure, Q)]
            |cell| arguments().text(&named(cell, Q)).bits(0).of(50, 40) => Trace::QueueIs(Q, false)),
        operation!("purge" [Filled(Q)] [Need::Topic(Read, Q)]
            |cell| purge(&named(cell, Q)) => Trace::Messages(Q, 0)),
        operation!("purge-absent" [] [Need::Topic(Read, Q)]
            |cell| purge(&named(cell, Q)) => NOTHING, not_found),
        operation!("dead-letters" [] [Need::Topic(Configure, Q)]
            |cell| declare(&named(cell, Q), DURABLE, Some(("x-dead-letter-exchange", &named(cell, X))))
            => Trace::QueueIs(Q, true), not_served),
        operation!("exchange" [] [Need::Exchange(Configure, X)]
            |cell| declare_exchange(&named(cell, X), "topic", DURABLE, None) => Trace::ExchangeIs(X, true)),
        operation!("exchange-otherwise" [Exchange(X)] [Need::Exchange(Configure, X)]
            |cell| declare_exchange(&named(cell, X), "fanout", DURABLE, None) => NOTHING, differs),
        operation!("exchange-passive" [Exchange(X)] [Need::Exchange(Any, X)]
            |cell| declare_exchange(&named(cell, X), "topic", PASSIVE, None) => NOTHING),
        operation!("exchange-passive-absent" [] [Need::Exchange(Any, X)]
            |cell| declare_exchange(&named(cell, X), "topic", PASSIVE, None) => NOTHING, not_found),
        operation!("exchange-delete" [Exchange(X)] [Need::Exchange(Configure, X)]
            |cell| arguments().text(&named(cell, X)).bits(0).of(40, 20) => Trace::ExchangeIs(X, false)),
        operation!("alternate" [] [Need::Exchange(Configure, X)]
            |cell| declare_exchange(&named(cell, X), "topic", DURABLE,
                Some(("alternate-exchange", &named(cell, "@.y")))) => Trace::ExchangeIs(X, true), not_served),
    ]
}

fn bindings() -> Vec<Operation> {
    vec![
        operation!("bind" [Queue(Q), Exchange(X)] [Need::Topic(Write, Q), Need::Exchange(Read, X)]
            |cell| bind(&named(cell, Q), &named(cell, X), "k") => Trace::Route(Q, X, "k", true)),
        operation!("unbind" [Queue(Q), Exchange(X), Bound(Q, X, "k")]
            [Need::Topic(Write, Q), Need::Exchange(Read, X)]
            |cell| unbind(&named(cell, Q), &named(cell, X), "k") => Trace::Route(Q, X, "k", false)),
        operation!("bind-absent" [Queue(Q)] [Need::Topic(Write, Q), Need::Exchange(Read, X)]
            |cell| bind(&named(cell, Q), &named(cell, X), "k") => NOTHING, Outcome::Refused(404)),
        operation!("bind-subjects" [Queue(Q)] [Need::Topic(Write, Q), Need::Key(Read, "@.k")]
            |cell| bind(&named(cell, Q), "amq.topic", &named(cell, "@.k"))
            => Trace::Route(Q, "amq.topic", "@.k", true)),
        operation!("bind-subjects-elsewhere" [Queue(Q)] [Need::Topic(Write, Q), Need::Key(Read, "elsewhere.@")]
            |cell| bind(&named(cell, Q), "amq.topic", &named(cell, "elsewhere.@"))
            => Trace::Route(Q, "amq.topic", "elsewhere.@", true)),
        operation!("exchange-bind" [Exchange(X), Exchange("@.y"), Queue(Q), Bound(Q, X, "#")]
            [Need::Exchange(Write, X), Need::Exchange(Read, "@.y")]
            |cell| link(30, &named(cell, X), &named(cell, "@.y"), "k") => Trace::Route(Q, "@.y", "k", true)),
        operation!("exchange-unbind" [Exchange(X), Exchange("@.y")]
            [Need::Exchange(Write, X), Need::Exchange(Read, "@.y")]
            |cell| link(40, &named(cell, X), &named(cell, "@.y"), "k") => NOTHING),
        operation!("bind-topic" [Queue(Q), Topic("@.t")]
            [Need::Topic(Write, Q), Need::Key(Read, "@.t"), Need::Topic(Read, "@.t")]
            |cell| bind(&named(cell, Q), "amq.topic", &named(cell, "@.t")) => NOTHING),
        operation!("bind-topic-among-others" [Queue(Q), Topic("@.t")]
            [Need::Topic(Write, Q), Need::Key(Read, "@.#"), Need::Topic(Read, "@.t")]
            |cell| bind(&named(cell, Q), "amq.topic", &named(cell, "@.#")) => NOTHING),
    ]
}

fn messages() -> Vec<Operation> {
    vec![
        operation!("publish-default" [Queue(Q)] [Need::Name(Q, false)]
            |cell| publish("", &named(cell, Q)) => Trace::Messages(Q, 1)),
        operation!("publish-default-topic" [Topic("@.t")] [Need::Name("@.t", true)]
            |cell| publish("", &named(cell, "@.t")) => Trace::Record("@.t")),
        operation!("publish" [Exchange(X), Queue(Q), Bound(Q, X, "#")] [Need::Exchange(Write, X)]
            |cell| publish(&named(cell, X), "k") => Trace::Messages(Q, 1)),
        operation!("publish-absent" [] [Need::Exchange(Write, X)]
            |cell| publish(&named(cell, X), "k") => NOTHING, Outcome::Refused(404)),
        operation!("publish-subject" [Queue(Q), Bound(Q, "amq.topic", "@.k")] [Need::Key(Write, "@.k")]
            |cell| publish("amq.topic", &named(cell, "@.k")) => Trace::Messages(Q, 1)),
        operation!("publish-subject-elsewhere" [Queue(Q), Bound(Q, "amq.topic", "elsewhere.@")]
            [Need::Key(Write, "elsewhere.@")]
            |cell| publish("amq.topic", &named(cell, "elsewhere.@")) => Trace::Messages(Q, 1)),
        operation!("publish-subject-topic" [Topic("@.t")] [Need::Key(Write, "@.t"), Need::Topic(Write, "@.t")]
            |cell| publish("amq.topic", &named(cell, "@.t")) => Trace::Record("@.t")),
        operation!("get" [Queue(Q)] [Need::Topic(Read, Q)] |cell| get(&named(cell, Q)) => NOTHING),
        operation!("get-absent" [] [Need::Topic(Read, Q)]
            |cell| get(&named(cell, Q)) => NOTHING, Outcome::Refused(404)),
        operation!("get-locked" [Prepare::Locked(Q)] [Need::Topic(Read, Q)]
            |cell| get(&named(cell, Q)) => NOTHING, Outcome::Refused(405)),
        operation!("get-topic" [Topic("@.t")] [Need::Topic(Read, "@.t")]
            |cell| get(&named(cell, "@.t")) => NOTHING),
        operation!("consume" [Queue(Q)] [Need::Topic(Read, Q)] |cell| consume(&named(cell, Q)) => NOTHING),
        operation!("consume-topic" [Topic("@.t")] [Need::Topic(Read, "@.t")]
            |cell| consume(&named(cell, "@.t")) => NOTHING),
    ]
}

fn operations() -> Vec<Operation> {
    [declarations(), bindings(), messages()].into_iter().flatten().collect()
}

fn expected(role: &Role, operation: &Operation, cell: &str) -> Outcome {
    match role.standing {
        Standing::Nobody => return Outcome::Closed(505),
        Standing::WrongPassword => return Outcome::Closed(ACCESS_REFUSED),
        Standing::Deleted => return Outcome::Closed(320),
        _ if !role.is_let_in() => return Outcome::Closed(530),
        _ => {}
    }
    let is_met = |need: &Need| match *need {
        Need::Topic(right, name) => role.may_topic(right, &named(cell, name)),
        Need::Exchange(right, name) => role.may(right, &named(cell, name)),
        Need::Key(right, key) => role.may_key(right, &named(cell, key)),
        Need::Name(name, is_topic) => role.may_publish_to(&named(cell, name), is_topic),
    };
    match operation.needs.iter().all(is_met) {
        true => operation.then,
        false => Outcome::Refused(ACCESS_REFUSED),
    }
}

/// A connection with the first channel open, if it comes as far.
struct Connection {
    client: Client,
    /// What it was answered last.
    arguments: Vec<u8>,
}

impl Connection {
    /// Everything up to the channel is sent at once: whoever is refused has said it all the same.
    fn begin(address: &str, login: Option<(&str, &str)>) -> Connection {
        let mut client = Client::raw(address).unwrap();
        client.send(PROTOCOL_HEADER).unwrap();
        client.expect(10, 10).unwrap();
        if let Some((user, password)) = login {
            let hello = [start_ok_as(user, password), tune_ok(), connection_open(), channel_open()];
            client.send(&hello.concat()).unwrap();
        }
        Connection { client, arguments: Vec::new() }
    }

    /// tune, open-ok and the channel's open-ok.
    fn is_open(&mut self) -> bool {
        (0..3).all(|_| self.answer() == Outcome::Done)
    }

    fn answer(&mut self) -> Outcome {
        let Ok((class, number, arguments)) = self.client.answer() else {
            return Outcome::Closed(0);
        };
        let code = arguments.get(..2).map_or(0, |code| u16::from_be_bytes([code[0], code[1]]));
        self.arguments = arguments;
        match (class, number) {
            (10, 50) => Outcome::Closed(code),
            (20, 40) => {
                // close-ok, and the channel again.
                let again = [method(1, 20, 41, &[]), channel_open()].concat();
                let _ = self.client.send(&again);
                let _ = self.client.expect(20, 11);
                Outcome::Refused(code)
            }
            _ => Outcome::Done,
        }
    }

    fn ask(&mut self, bytes: &[u8]) -> Outcome {
        let _ = self.client.send(bytes);
        self.answer()
    }

    fn surely(&mut self, bytes: &[u8]) {
        let outcome = self.ask(bytes);
        let text = String::from_utf8_lossy(&self.arguments);
        assert_eq!(outcome, Outcome::Done, "the administrator: {text:?}");
    }

    /// How many messages it holds.
    fn count(&mut self, queue: &str) -> u32 {
        self.surely(&declare(queue, PASSIVE, None));
        // The name's length and the name come before.
        let at = 1 + usize::from(self.arguments[0]);
        let count: [u8; 4] = self.arguments[at..at + 4].try_into().unwrap();
        u32::from_be_bytes(count)
    }

    fn make(&mut self, what: Prepare, cell: &str, topics: &mut Vec<String>) {
        match what {
            Queue(name) => self.surely(&declare(&named(cell, name), DURABLE, None)),
            Prepare::Locked(name) => self.surely(&declare(&named(cell, name), EXCLUSIVE, None)),
            Filled(name) => {
                self.surely(&declare(&named(cell, name), DURABLE, None));
                self.surely(&publish("", &named(cell, name)));
            }
            Exchange(name) => {
                self.surely(&declare_exchange(&named(cell, name), "topic", DURABLE, None));
            }
            Bound(queue, from, key) => {
                self.surely(&bind(&named(cell, queue), &named(cell, from), &named(cell, key)));
            }
            Topic(name) => topics.push(named(cell, name)),
        }
    }

    /// Whether the trace is there; `None` if there is none to look for.
    fn sees(&mut self, trace: Trace, cell: &str, kafka: &mut kafka::Client) -> Option<bool> {
        Some(match trace {
            Trace::Nothing => return None,
            Trace::QueueIs(name, is_there) => {
                let found = self.ask(&declare(&named(cell, name), PASSIVE, None));
                (found == Outcome::Done) == is_there
            }
            Trace::ExchangeIs(name, is_there) => {
                let found = self.ask(&declare_exchange(&named(cell, name), "", PASSIVE, None));
                (found == Outcome::Done) == is_there
            }
            Trace::Messages(name, count) => self.count(&named(cell, name)) == count,
            Trace::Route(queue, from, key, is_there) => {
                self.surely(&publish(&named(cell, from), &named(cell, key)));
                (self.count(&named(cell, queue)) == 1) == is_there
            }
            Trace::Record(name) => kafka.end(&named(cell, name)).unwrap() == 1,
        })
    }
}

/// Everything prepared, and everybody connected.
pub struct Matrix {
    address: String,
    admin: Connection,
    kafka: kafka::Client,
    operations: Vec<Operation>,
    /// By role; one of each operation for whoever is out at the first.
    connections: Vec<Vec<Connection>>,
    /// The message that the revoked user holds.
    held: &'static str,
}

impl Matrix {
    pub fn prepare(broker: &Broker) -> Matrix {
        let address = broker.addresses.amqp.clone();
        let mut admin = Connection::begin(&address, Some(ADMIN));
        assert!(admin.is_open());
        let mut kafka = kafka::Client::login(&broker.addresses.kafka, ADMIN.0, ADMIN.1).unwrap();
        let operations = operations();
        let mut topics = Vec::new();
        let mut connections = Vec::new();
        for role in &ROLES {
            for operation in &operations {
                let cell = format!("{}.{}", role.name, operation.name);
                for what in operation.prepare {
                    admin.make(*what, &cell, &mut topics);
                }
            }
            let login = (role.standing != Standing::Nobody).then(|| (role.name, role.password()));
            let is_out = matches!(
                role.standing,
                Standing::Nobody | Standing::WrongPassword | Standing::Deleted
            ) || !role.is_let_in();
            let count = if is_out { operations.len() } else { 1 };
            let mut of_role: Vec<_> =
                (0..count).map(|_| Connection::begin(&address, login)).collect();
            if role.is_let_in()
                && !matches!(role.standing, Standing::Nobody | Standing::WrongPassword)
            {
                assert!(of_role.iter_mut().all(Connection::is_open), "{} gets in", role.name);
            }
            connections.push(of_role);
        }
        kafka.create_topics(&topics).unwrap();
        let held = "held-while-revoked";
        admin.make(Filled(held), "", &mut topics);
        let revoked = ROLES.iter().position(|role| role.standing == Standing::Revoked).unwrap();
        assert_eq!(connections[revoked][0].ask(&get(held)), Outcome::Done);
        Matrix { address, admin, kafka, operations, connections, held }
    }

    pub fn run(mut self) -> Vec<Cell> {
        let mut cells = Vec::new();
        for (role, mut of_role) in ROLES.iter().zip(self.connections) {
            if role.standing == Standing::Revoked {
                // What was got under the right may be settled without it.
                let ack = method(1, 60, 80, &[0, 0, 0, 0, 0, 0, 0, 1, 0]);
                let qos = method(1, 60, 10, &[0, 0, 0, 0, 0, 9, 0]);
                let actual = of_role[0].ask(&[ack, qos].concat());
                let contradiction = self.admin.count(self.held) != 0;
                let (operation, expected) = ("amqp ack".to_owned(), Outcome::Done);
                cells.push(Cell { role: role.name, operation, expected, actual, contradiction });
            }
            let shares = of_role.len() == 1;
            for (at, operation) in self.operations.iter().enumerate() {
                let cell = format!("{}.{}", role.name, operation.name);
                let connection = &mut of_role[if shares { 0 } else { at }];
                if role.standing == Standing::Nobody {
                    // Whoever says nothing is not kept for long.
                    *connection = Connection::begin(&self.address, None);
                }
                let mut actual = connection.ask(&(operation.act)(&cell));
                // The tune of who is refused at the open.
                while !shares && actual == Outcome::Done {
                    actual = connection.answer();
                }
                let seen = self.admin.sees(operation.trace, &cell, &mut self.kafka);
                let name = format!("amqp {}", operation.name);
                let expected = expected(role, operation, &cell);
                cells.push(Cell::new(role.name, name, expected, actual, seen));
            }
        }
        cells
    }
}
