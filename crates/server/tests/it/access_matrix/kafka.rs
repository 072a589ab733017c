//! Kafka. A refusal is a code in the answer; whoever has not logged in is not answered.

use std::io;

use super::roles::{Right, Role, Standing, ROLES};
use super::{Cell, Outcome};
use crate::access::ADMIN;
use crate::broker::Broker;
use crate::wire::kafka::Client;
use Right::{Any, Configure, Read, Write};

const TOPIC_AUTHORIZATION_FAILED: u16 = 29;
const GROUP_AUTHORIZATION_FAILED: u16 = 30;

/// What is to be seen if and only if it was done.
#[derive(Clone, Copy)]
enum Trace {
    Nothing,
    Record,
    IsThere(bool),
}

/// On a topic of the cell's own, which the administrator has made.
struct Operation {
    name: &'static str,
    right: Right,
    act: fn(&mut Client, &str) -> io::Result<i16>,
    trace: Trace,
}

const OPERATIONS: [Operation; 6] = [
    Operation {
        name: "produce",
        right: Write,
        act: |client, topic| client.try_produce(topic, b"body").map(|(code, ..)| code),
        trace: Trace::Record,
    },
    // Of an empty topic: that is asked about, not waited for.
    Operation { name: "fetch", right: Read, act: Client::try_fetch, trace: Trace::Nothing },
    Operation { name: "metadata", right: Any, act: Client::metadata_code, trace: Trace::Nothing },
    Operation {
        name: CREATE,
        right: Configure,
        act: Client::try_create_topic,
        trace: Trace::IsThere(true),
    },
    Operation {
        name: "delete",
        right: Configure,
        act: Client::try_delete_topic,
        trace: Trace::IsThere(false),
    },
    Operation {
        name: COMMIT,
        right: Read,
        act: |client, topic| client.try_commit(topic, topic, 0),
        trace: Trace::Nothing,
    },
];

const CREATE: &str = "create";
/// To a group of the topic's name.
const COMMIT: &str = "commit";

fn expected(role: &Role, operation: &Operation, topic: &str) -> Outcome {
    if matches!(role.standing, Standing::Nobody | Standing::WrongPassword | Standing::Deleted) {
        return Outcome::Closed(0);
    }
    let may_group = role.may(operation.right, topic);
    match role.may_topic(operation.right, topic) {
        _ if operation.name == COMMIT && !may_group => Outcome::Refused(GROUP_AUTHORIZATION_FAILED),
        true => Outcome::Done,
        false => Outcome::Refused(TOPIC_AUTHORIZATION_FAILED),
    }
}

/// Everything prepared, and everybody connected who can be.
pub struct Matrix {
    address: String,
    admin: Client,
    connections: Vec<Client>,
}

fn connect(address: &str, role: &Role) -> Client {
    let mut client = Client::connect(address).unwrap();
    if role.standing != Standing::Nobody {
        let is_right = role.standing != Standing::WrongPassword;
        let code = client.authenticate(role.name, role.password()).unwrap();
        assert_eq!(code == 0, is_right, "{} logs in", role.name);
    }
    client
}

impl Matrix {
    pub fn prepare(broker: &Broker) -> Matrix {
        let address = broker.addresses.kafka.clone();
        let mut admin = Client::login(&address, ADMIN.0, ADMIN.1).unwrap();
        for role in &ROLES {
            for operation in OPERATIONS.iter().filter(|operation| operation.name != CREATE) {
                admin.create_topic(&topic(role, operation)).unwrap();
                if operation.name == "fetch" {
                    admin.produce(&topic(role, operation), b"body").unwrap();
                }
            }
        }
        let connections = ROLES.iter().map(|role| connect(&address, role)).collect();
        Matrix { address, admin, connections }
    }

    pub fn run(mut self) -> Vec<Cell> {
        let mut cells = Vec::new();
        for (role, client) in ROLES.iter().zip(&mut self.connections) {
            for operation in &OPERATIONS {
                if matches!(role.standing, Standing::Nobody | Standing::WrongPassword) {
                    *client = connect(&self.address, role);
                }
                let topic = topic(role, operation);
                let actual = match (operation.act)(client, &topic) {
                    Ok(0) => Outcome::Done,
                    Ok(code) => Outcome::Refused(code as u16),
                    Err(_) => Outcome::Closed(0),
                };
                let seen = match operation.trace {
                    Trace::Nothing => None,
                    Trace::Record => Some(self.admin.end(&topic).unwrap() == 1),
                    Trace::IsThere(is_there) => Some(self.admin.end(&topic).is_ok() == is_there),
                };
                let (name, expected) =
                    (format!("kafka {}", operation.name), expected(role, operation, &topic));
                cells.push(Cell::new(role.name, name, expected, actual, seen));
            }
        }
        cells
    }
}

fn topic(role: &Role, operation: &Operation) -> String {
    format!("{}.{}.t", role.name, operation.name)
}
