//! Who may do what, through each protocol, against the real program: every operation by every role, each on an
//! object of its own. What is expected follows from the roles' rights and the rights that an operation needs, as
//! docs/user/access.md has them; nothing here asks the broker's rules.

mod amqp;
mod kafka;
mod mqtt;

use crate::access::{add_user, administer, secure};
use crate::broker::Broker;
use crate::wire::kafka::Client as Kafka;

const PASSWORD: &str = "canary-matrix-3d1c";
/// May do everything, and makes what the others try to use.
const OWNER: &str = "owner";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Right {
    Configure,
    Write,
    Read,
}
use Right::{Configure, Read, Write};

/// What an operation needs a right on. All that a cell touches lies in its role's patterns, or none of it.
#[derive(Clone, Copy)]
enum On {
    /// A queue, a topic or a group: lists can deny it.
    Address,
    Exchange,
}
use On::{Address, Exchange};

#[derive(Clone, Copy)]
struct Role {
    name: &'static str,
    /// Over what is called `mine...` and over the exchanges that are always there.
    rights: &'static [Right],
    /// A list denies it everything about addresses with its own name.
    is_denied: bool,
    /// It has the rights, but over other names.
    is_elsewhere: bool,
}

const fn role(name: &'static str, rights: &'static [Right]) -> Role {
    Role { name, rights, is_denied: false, is_elsewhere: false }
}

const ALL: &[Right] = &[Configure, Write, Read];

const ROLES: [Role; 10] = [
    role("empty", &[]),
    role("configures", &[Configure]),
    role("writes", &[Write]),
    role("reads", &[Read]),
    role("makes", &[Configure, Write]),
    role("looks", &[Configure, Read]),
    role("uses", &[Write, Read]),
    role("all", ALL),
    Role { name: "denied", rights: ALL, is_denied: true, is_elsewhere: false },
    Role { name: "elsewhere", rights: ALL, is_denied: false, is_elsewhere: true },
];

impl Role {
    fn may(&self, right: Right, on: On) -> bool {
        let is_denied = self.is_denied && matches!(on, Address);
        self.rights.contains(&right) && !self.is_elsewhere && !is_denied
    }

    fn may_all(&self, needs: &[(Right, On)]) -> bool {
        needs.iter().all(|(right, on)| self.may(*right, *on))
    }

    /// The name of what it tries an operation on.
    fn object(&self, operation: &str) -> String {
        format!("mine.{}.{operation}", self.name)
    }
}

/// A broker with the roles as users.
fn site(test: &str) -> Broker {
    let broker = Broker::start(test);
    secure(&broker);
    add_user(&broker, OWNER, PASSWORD, [".*"; 3]);
    for role in ROLES {
        let mine = match role.is_elsewhere {
            true => "^other",
            false => r"^(mine|amq\.)",
        };
        let pattern = |right| if role.rights.contains(&right) { mine } else { "" };
        let patterns = [pattern(Configure), pattern(Write), pattern(Read)];
        add_user(&broker, role.name, PASSWORD, patterns);
        if role.is_denied {
            let name = format!("mine.{}.", role.name);
            let line = format!("acls create {name} --user {} --operation all", role.name);
            let line = format!("{line} --kind topic --pattern prefixed --effect deny");
            administer(&broker, &line, "");
        }
    }
    broker
}

/// A topic that the owner makes.
fn make_topic(broker: &Broker, name: &str) {
    let mut client = Kafka::connect(&broker.addresses.kafka).unwrap();
    assert!(client.log_in(OWNER, PASSWORD).unwrap());
    client.create_topic(name).unwrap();
    client.produce(name, b"body").unwrap();
}

/// What was tried, and what came of it.
#[derive(Default)]
struct Cells {
    count: usize,
    wrong: Vec<String>,
}

impl Cells {
    fn check(&mut self, role: &str, operation: &str, expect: String, got: String) {
        self.count += 1;
        if expect != got {
            self.wrong.push(format!("{role}: {operation}: expected {expect}, got {got}"));
        }
    }

    fn end(self, count_min: usize) {
        println!("{} cells", self.count);
        assert!(self.count >= count_min, "only {} cells", self.count);
        let wrong = self.wrong.len();
        assert!(wrong == 0, "{wrong} of {} wrong:\n{}", self.count, self.wrong.join("\n"));
    }
}
