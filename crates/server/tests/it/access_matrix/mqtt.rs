//! MQTT 5: subjects, those that are a topic's name and those that are not. A refusal is reason code 0x87.

use std::io;

use super::roles::{Right, Role, Standing, ROLES};
use super::{Cell, Outcome};
use crate::access::ADMIN;
use crate::broker::Broker;
use crate::wire::kafka;
use crate::wire::mqtt::{connect, connect_as, packet, Client};
use Right::{Read, Write};

const NOT_AUTHORIZED: u16 = 0x87;
const BAD_USER_NAME_OR_PASSWORD: u16 = 0x86;
const CONNACK: u8 = 0x20;
const DISCONNECT: u8 = 0xe0;
const PINGREQ: u8 = 0xc0;
const PINGRESP: u8 = 0xd0;
const SUBACK: u8 = 0x90;

/// What is to be seen if and only if it was done.
#[derive(Clone, Copy)]
enum Trace {
    Nothing,
    Retained,
    Record,
}

/// `@` is the cell's own name; the subject `@/t` is a topic's name, which has been made.
struct Operation {
    name: &'static str,
    right: Right,
    subject: &'static str,
    /// What the packet begins with, and its answer.
    packet: u8,
    answer: u8,
    trace: Trace,
}

const fn publish(
    name: &'static str,
    subject: &'static str,
    packet: u8,
    answer: u8,
    trace: Trace,
) -> Operation {
    Operation { name, right: Write, subject, packet, answer, trace }
}

const fn subscribe(name: &'static str, subject: &'static str) -> Operation {
    let trace = Trace::Nothing;
    Operation { name, right: Read, subject, packet: 0x82, answer: SUBACK, trace }
}

const OPERATIONS: [Operation; 11] = [
    publish("publish", "@/k", 0x32, 0x40, Trace::Nothing),
    publish("publish-elsewhere", "elsewhere/@", 0x32, 0x40, Trace::Nothing),
    publish("publish-once", "@/k", 0x34, 0x50, Trace::Nothing),
    publish("retain", "@/k", 0x33, 0x40, Trace::Retained),
    publish("publish-topic", "@/t", 0x32, 0x40, Trace::Record),
    publish("retain-topic", "@/t", 0x33, 0x40, Trace::Retained),
    subscribe("subscribe", "@/k"),
    subscribe("subscribe-elsewhere", "elsewhere/@"),
    subscribe("subscribe-wildcard", "@/#"),
    subscribe("subscribe-topic", "@/t"),
    subscribe("subscribe-shared", "$share/g/@/t"),
];

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u16).to_be_bytes());
    out.extend(text.as_bytes());
}

/// Waits for an answer; what else comes before is passed over.
fn wait_for(client: &mut Client, wanted: u8) -> io::Result<Outcome> {
    loop {
        let (first, rest) = client.read()?;
        let code = match first {
            DISCONNECT => {
                return Ok(Outcome::Closed(rest.first().copied().unwrap_or(0).into()));
            }
            _ if first != wanted => continue,
            SUBACK => rest.last(),
            CONNACK => rest.get(1),
            _ => rest.get(2),
        };
        return Ok(match code.copied().unwrap_or(0) {
            code @ 0x80.. => Outcome::Refused(code.into()),
            _ => Outcome::Done,
        });
    }
}

fn ask(client: &mut Client, bytes: &[u8], wanted: u8) -> Outcome {
    let _ = client.send(bytes);
    wait_for(client, wanted).unwrap_or(Outcome::Closed(0))
}

impl Operation {
    fn cell(&self, role: &Role) -> String {
        format!("{}.{}", role.name, self.name)
    }

    fn subject(&self, role: &Role) -> String {
        self.subject.replace('@', &self.cell(role).replace('.', "/"))
    }

    fn topic(&self, role: &Role) -> Option<String> {
        self.subject.ends_with("@/t").then(|| format!("{}.t", self.cell(role)))
    }

    fn bytes(&self, role: &Role) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.right {
            Read => {
                rest.extend([0, 7, 0]); // identifier, no properties
                text(&mut rest, &self.subject(role));
                rest.push(1);
            }
            _ => {
                text(&mut rest, &self.subject(role));
                rest.extend([0, 9, 0]);
                rest.extend(b"body");
            }
        }
        packet(self.packet, &rest)
    }

    fn expected(&self, role: &Role) -> Outcome {
        match role.standing {
            Standing::Nobody => return Outcome::Closed(NOT_AUTHORIZED),
            Standing::WrongPassword => return Outcome::Closed(BAD_USER_NAME_OR_PASSWORD),
            Standing::Deleted => return Outcome::Closed(NOT_AUTHORIZED),
            _ if !role.is_let_in() => return Outcome::Closed(NOT_AUTHORIZED),
            _ => {}
        }
        let subject = self.subject(role);
        let key = subject.trim_start_matches("$share/g/").replace('/', ".");
        let may_topic = self.topic(role).is_none_or(|topic| role.may_topic(self.right, &topic));
        match role.may_key(self.right, &key) && may_topic {
            true => Outcome::Done,
            false => Outcome::Refused(NOT_AUTHORIZED),
        }
    }
}

/// Everything prepared, and everybody connected who can be: a connection for each cell.
pub struct Matrix {
    address: String,
    kafka: kafka::Client,
    /// Or how it was refused.
    connections: Vec<Vec<Result<Client, Outcome>>>,
}

fn enter(address: &str, client_id: &str, login: Option<(&str, &str)>) -> Result<Client, Outcome> {
    let mut client = Client::raw(address, 5).unwrap();
    let hello = match login {
        Some((user, password)) => connect_as(5, client_id, user, password),
        None => connect(5, client_id, true),
    };
    match ask(&mut client, &hello, CONNACK) {
        Outcome::Done => Ok(client),
        Outcome::Refused(code) | Outcome::Closed(code) => Err(Outcome::Closed(code)),
    }
}

impl Matrix {
    pub fn prepare(broker: &Broker) -> Matrix {
        let address = broker.addresses.mqtt.clone();
        let mut kafka = kafka::Client::login(&broker.addresses.kafka, ADMIN.0, ADMIN.1).unwrap();
        let mut connections = Vec::new();
        for role in &ROLES {
            let login = (role.standing != Standing::Nobody).then(|| (role.name, role.password()));
            let mut of_role = Vec::new();
            for operation in &OPERATIONS {
                if let Some(topic) = operation.topic(role) {
                    kafka.create_topic(&topic).unwrap();
                }
                of_role.push(enter(&address, &operation.cell(role), login));
            }
            connections.push(of_role);
        }
        Matrix { address, kafka, connections }
    }

    pub fn run(mut self) -> Vec<Cell> {
        let mut cells = vec![self.take_over()];
        for (role, of_role) in ROLES.iter().zip(self.connections) {
            for (operation, connection) in OPERATIONS.iter().zip(of_role) {
                let actual = match connection {
                    Ok(mut client) => ask(&mut client, &operation.bytes(role), operation.answer),
                    Err(refused) => refused,
                };
                let seen = match operation.trace {
                    Trace::Nothing => None,
                    Trace::Retained => {
                        let is_done = actual == Outcome::Done;
                        Some(is_retained(&self.address, &operation.subject(role), is_done))
                    }
                    Trace::Record => {
                        let topic = operation.topic(role);
                        topic.map(|topic| self.kafka.end(&topic).unwrap() == 1)
                    }
                };
                let (name, expected) =
                    (format!("mqtt {}", operation.name), operation.expected(role));
                cells.push(Cell::new(role.name, name, expected, actual, seen));
            }
        }
        cells
    }

    /// Nobody gets another's session, who does not notice.
    fn take_over(&self) -> Cell {
        let role = ROLES.iter().find(|role| role.name == "all").unwrap();
        let mut owner = enter(&self.address, "owned", Some((role.name, role.password()))).unwrap();
        let other = enter(&self.address, "owned", Some(("own", role.password())));
        let still = ask(&mut owner, &OPERATIONS[0].bytes(role), OPERATIONS[0].answer);
        Cell {
            role: "own",
            operation: "mqtt take over".to_owned(),
            expected: Outcome::Closed(NOT_AUTHORIZED),
            actual: other.err().unwrap_or(Outcome::Done),
            contradiction: still != Outcome::Done,
        }
    }
}

/// Whether the administrator is sent what is retained.
fn is_retained(address: &str, subject: &str, is_expected: bool) -> bool {
    let mut admin = enter(address, "admin-looks", Some(ADMIN)).unwrap();
    let mut rest = vec![0, 7, 0];
    text(&mut rest, subject);
    rest.push(0);
    admin.send(&packet(0x82, &rest)).unwrap();
    // What is retained comes when it is found; what has to be there is waited for.
    if !is_expected {
        admin.send(&packet(PINGREQ, &[])).unwrap();
    }
    loop {
        match admin.read().unwrap() {
            (PINGRESP, _) => return false,
            (first, _) if first >> 4 == 3 => return true,
            _ => {}
        }
    }
}
