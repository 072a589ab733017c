//! Kafka: topics, groups and their offsets.

use super::{make_topic, site, Address, Cells, Configure, On, Read, Right, Role, Write};
use super::{PASSWORD, ROLES};
use crate::access::administer;
use crate::wire::kafka::Client;

const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
const GROUP_AUTHORIZATION_FAILED: i16 = 30;
const TOPIC: On = Address;
const GROUP: On = Address;

struct Operation {
    name: &'static str,
    /// Any of these is enough.
    needs: &'static [(Right, On)],
    run: fn(&mut Client, &str) -> std::io::Result<i16>,
}

const OPERATIONS: [Operation; 6] = [
    Operation {
        name: "produce",
        needs: &[(Write, TOPIC)],
        run: |client, topic| client.try_produce(topic, b"body").map(|(code, ..)| code),
    },
    Operation { name: "fetch", needs: &[(Read, TOPIC)], run: Client::try_fetch },
    // Whoever may do anything with a topic may know that there is one.
    Operation {
        name: "metadata",
        needs: &[(Configure, TOPIC), (Write, TOPIC), (Read, TOPIC)],
        run: Client::metadata_code,
    },
    Operation {
        name: "create",
        needs: &[(Configure, TOPIC)],
        run: |client, topic| client.try_create_topic(&format!("{topic}.new")),
    },
    Operation { name: "delete", needs: &[(Configure, TOPIC)], run: Client::try_delete_topic },
    Operation {
        name: "commit",
        needs: &[(Read, GROUP)],
        run: |client, topic| client.try_commit(topic, topic, 0),
    },
];

/// Groups are no topics: the list of one who is denied its topics says nothing about them.
fn expected(operation: &Operation, role: &Role) -> i16 {
    let may = |role: &Role| operation.needs.iter().any(|(right, on)| role.may(*right, *on));
    if operation.name != "commit" {
        return if may(role) { 0 } else { TOPIC_AUTHORIZATION_FAILED };
    }
    match (may(&Role { is_denied: false, ..*role }), may(role)) {
        (false, _) => GROUP_AUTHORIZATION_FAILED,
        (true, false) => TOPIC_AUTHORIZATION_FAILED,
        (true, true) => 0,
    }
}

#[test]
fn every_request_by_every_role() {
    let broker = site("kafka-matrix");
    let address = &broker.addresses.kafka;
    let mut cells = Cells::default();
    for role in ROLES {
        let mut client = Client::connect(address).unwrap();
        assert!(client.log_in(role.name, PASSWORD).unwrap());
        for operation in &OPERATIONS {
            let topic = role.object(operation.name);
            make_topic(&broker, &topic);
            let got = (operation.run)(&mut client, &topic).unwrap();
            let expect = expected(operation, &role);
            cells.check(role.name, operation.name, expect.to_string(), got.to_string());
        }
    }
    for (user, password) in [("nobody", PASSWORD), ("all", "wrong")] {
        let is_in = Client::connect(address).unwrap().log_in(user, password).unwrap();
        cells.check(user, "log in", "false".into(), is_in.to_string());
    }
    for operation in &OPERATIONS {
        let mut stranger = Client::connect(address).unwrap();
        let is_served = (operation.run)(&mut stranger, "mine.all.fetch").is_ok();
        cells.check("stranger", operation.name, "false".into(), is_served.to_string());
    }
    let mut client = Client::connect(address).unwrap();
    assert!(client.log_in("all", PASSWORD).unwrap());
    administer(&broker, "permissions delete all", "");
    let got = client.try_fetch("mine.all.fetch").unwrap();
    cells.check(
        "all, taken away",
        "fetch",
        TOPIC_AUTHORIZATION_FAILED.to_string(),
        got.to_string(),
    );
    administer(&broker, "users delete all", "");
    let is_served = client.try_fetch("mine.all.fetch").is_ok();
    cells.check("all, deleted", "fetch", "false".into(), is_served.to_string());
    cells.end(70);
}
