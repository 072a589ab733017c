//! Every operation by every role, held against a table of what each needs. The table is written down
//! from RabbitMQ's documentation and asks neither the session nor the broker.

use super::access::{
    add_user, bind, exchange, list, outcome, permission, permit, permit_keys, secured, to,
};
use super::*;
use koine_broker::access::{AccessCommand, AclPattern, Effect, Operation, Verifiers};
use Need::{Any, Configure, Key, Name, Read, Topics, Write};
use Thing::{Exchange, Queue};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Thing {
    Queue(&'static str),
    Exchange(&'static str),
}

#[derive(Clone, Copy, Debug)]
enum Need {
    Configure(Thing),
    Write(Thing),
    Read(Thing),
    /// One of the three.
    Any(Thing),
    /// `write` or `read`, exchange and key.
    Key(&'static str, &'static str, &'static str),
    /// To publish to this name by the default exchange.
    Name(&'static str),
    /// To read by this key of `amq.topic` what reaches these topics.
    Topics(&'static str, &'static [&'static str]),
}

struct Act {
    name: &'static str,
    what: What,
    /// In the order they are asked.
    needs: Vec<Need>,
    /// What comes of it if it is permitted; empty if it works.
    else_says: &'static str,
}

enum What {
    Method(Method),
    Publish(BasicPublish),
}

fn act(
    name: &'static str,
    method: impl Into<Method>,
    needs: &[Need],
    else_says: &'static str,
) -> Act {
    let what = match method.into() {
        Method::BasicPublish(publish) => What::Publish(publish),
        method => What::Method(method),
    };
    Act { name, what, needs: needs.to_vec(), else_says }
}

fn declarations() -> Vec<Act> {
    let passive = |name: &str| QueueDeclare { passive: true, ..declare(name) };
    let passive_exchange = |name: &str| ExchangeDeclare { passive: true, ..exchange(name, "") };
    let delete = |name: &str| QueueDelete { queue: text(name), ..QueueDelete::default() };
    let delete_exchange =
        |name: &str| ExchangeDelete { exchange: text(name), ..ExchangeDelete::default() };
    let purge = |name: &str| QueuePurge { queue: text(name), ..QueuePurge::default() };
    vec![
        act("declare n", declare("n"), &[Configure(Queue("n"))], ""),
        act("declare q", declare("q"), &[Configure(Queue("q"))], ""),
        act("declare topic", declare("orders"), &[Configure(Queue("orders"))], ""),
        act("declare ''", declare(""), &[Configure(Queue("amq.gen-"))], ""),
        act("passive q", passive("q"), &[Any(Queue("q"))], ""),
        act("passive n", passive("n"), &[Any(Queue("n"))], "404 NOT_FOUND - no queue 'n'"),
        act("delete q", delete("q"), &[Configure(Queue("q"))], ""),
        act("delete n", delete("n"), &[Configure(Queue("n"))], ""),
        act("purge q", purge("q"), &[Read(Queue("q"))], ""),
        act("purge n", purge("n"), &[Read(Queue("n"))], "404 NOT_FOUND - no queue 'n'"),
        act(
            "purge topic",
            purge("orders"),
            &[Read(Queue("orders")), Configure(Queue("orders"))],
            "",
        ),
        act("exchange n", exchange("n", "fanout"), &[Configure(Exchange("n"))], ""),
        act("exchange x", exchange("x", "direct"), &[Configure(Exchange("x"))], ""),
        act("passive x", passive_exchange("x"), &[Any(Exchange("x"))], ""),
        act(
            "passive exchange n",
            passive_exchange("n"),
            &[Any(Exchange("n"))],
            "404 NOT_FOUND - no exchange 'n'",
        ),
        act("delete x", delete_exchange("x"), &[Configure(Exchange("x"))], ""),
        act("delete exchange n", delete_exchange("n"), &[Configure(Exchange("n"))], ""),
    ]
}

fn unbind(queue: &str, source: &str, key: &str) -> QueueUnbind {
    QueueUnbind {
        queue: text(queue),
        exchange: text(source),
        routing_key: text(key),
        ..QueueUnbind::default()
    }
}

fn bindings() -> Vec<Act> {
    let q = Write(Queue("q"));
    vec![
        act("bind q x", bind("q", "x", "k"), &[q, Read(Exchange("x"))], ""),
        act("unbind q x", unbind("q", "x", "k"), &[q, Read(Exchange("x"))], ""),
        act(
            "bind q n",
            bind("q", "n", ""),
            &[q, Read(Exchange("n"))],
            "404 NOT_FOUND - no exchange 'n'",
        ),
        act(
            "bind n x",
            bind("n", "x", ""),
            &[Write(Queue("n")), Read(Exchange("x"))],
            "404 NOT_FOUND - no queue 'n'",
        ),
        act(
            "bind topic x",
            bind("orders", "x", ""),
            &[Write(Queue("orders")), Read(Exchange("x"))],
            "",
        ),
        act(
            "bind q t",
            bind("q", "t", "b.*"),
            &[q, Read(Exchange("t")), Key("read", "t", "b.*")],
            "",
        ),
    ]
}

fn subject_bindings() -> Vec<Act> {
    let q = Write(Queue("q"));
    let subjects = Read(Exchange("amq.topic"));
    vec![
        act(
            "bind q amq.topic a.b",
            bind("q", "amq.topic", "a.b"),
            &[q, subjects, Key("read", "amq.topic", "a.b"), Topics("a.b", &[])],
            "",
        ),
        act(
            "bind q amq.topic a.orders",
            bind("q", "amq.topic", "a.orders"),
            &[q, subjects, Key("read", "amq.topic", "a.orders"), Topics("a.orders", &["a.orders"])],
            "",
        ),
        act(
            "bind q amq.topic #",
            bind("q", "amq.topic", "#"),
            &[q, subjects, Key("read", "amq.topic", "#"), Topics("#", &["orders", "a.orders"])],
            "",
        ),
        act(
            "unbind q amq.topic #",
            unbind("q", "amq.topic", "#"),
            &[q, subjects, Key("read", "amq.topic", "#")],
            "",
        ),
    ]
}

fn exchange_bindings() -> Vec<Act> {
    let into = |target: &str, source: &str, key: &str| ExchangeBind {
        destination: text(target),
        source: text(source),
        routing_key: text(key),
        ..ExchangeBind::default()
    };
    let unbind_exchange = ExchangeUnbind {
        destination: text("x"),
        source: text("t"),
        routing_key: text("a.b"),
        ..ExchangeUnbind::default()
    };
    let of_t = [Write(Exchange("x")), Read(Exchange("t")), Key("read", "t", "a.b")];
    vec![
        act("bind x t", into("x", "t", "a.b"), &of_t, ""),
        act("unbind x t", unbind_exchange, &of_t, ""),
        act(
            "bind t x",
            into("t", "x", "b.b"),
            &[Write(Exchange("t")), Read(Exchange("x")), Key("write", "t", "b.b")],
            "",
        ),
    ]
}

fn messages() -> Vec<Act> {
    vec![
        act("consume q", consume("q", "c"), &[Read(Queue("q"))], ""),
        act("consume topic", consume("orders", "c"), &[Read(Queue("orders"))], ""),
        act("consume n", consume("n", "c"), &[Read(Queue("n"))], "404 NOT_FOUND - no queue 'n'"),
        act("get q", get("q"), &[Read(Queue("q"))], ""),
        act("get topic", get("orders"), &[Read(Queue("orders"))], ""),
        act("get n", get("n"), &[Read(Queue("n"))], "404 NOT_FOUND - no queue 'n'"),
        act("publish x", to("x", "k"), &[Write(Exchange("x"))], ""),
        act("publish n", to("n", "k"), &[Write(Exchange("n"))], "404 NOT_FOUND - no exchange 'n'"),
        act("publish q", publish_to("q"), &[Name("q")], ""),
        act("publish to nobody", publish_to("n"), &[Name("n")], ""),
        act("publish topic", publish_to("orders"), &[Name("orders")], ""),
        act("publish t", to("t", "b.b"), &[Write(Exchange("t")), Key("write", "t", "b.b")], ""),
        act(
            "publish amq.topic",
            to("amq.topic", "a.b"),
            &[Write(Exchange("amq.topic")), Key("write", "amq.topic", "a.b")],
            "",
        ),
        act(
            "publish amq.topic to a topic",
            to("amq.topic", "a.orders"),
            &[
                Write(Exchange("amq.topic")),
                Key("write", "amq.topic", "a.orders"),
                Key("append", "amq.topic", "a.orders"),
            ],
            "",
        ),
        act("ack", ack(7), &[], "406 PRECONDITION_FAILED - unknown delivery tag 7"),
        act("qos", BasicQos::default(), &[], ""),
        act("recover", BasicRecover { requeue: true }, &[], ""),
        act("confirms", ConfirmSelect::default(), &[], ""),
        act("cancel", BasicCancel { consumer_tag: text("c"), no_wait: false }, &[], ""),
        act("access", AccessRequest::default(), &[], ""),
    ]
}

fn acts() -> Vec<Act> {
    let groups = [declarations(), bindings(), subject_bindings(), exchange_bindings(), messages()];
    groups.into_iter().flatten().collect()
}

/// Right, thing.
type MayName = fn(&'static str, Thing) -> bool;
/// `write` or `read` (or `append`, to the topic of that name), exchange and key.
type MayKey = fn(&'static str, &'static str, &'static str) -> bool;

struct Role {
    name: &'static str,
    password: &'static str,
    /// Makes the user what it is, before it logs in.
    prepare: fn(&mut Node),
    /// When it has logged in.
    meanwhile: Option<AccessCommand>,
    may: MayName,
    may_key: MayKey,
    /// It is out, whatever it does.
    out: Option<&'static str>,
}

const SAME: MayKey = |_, _, _| true;

const ALL: fn(&mut Node) = |node| permit(node, "bob", ".*", ".*", ".*");

fn role(name: &'static str, prepare: fn(&mut Node), may: MayName, may_key: MayKey) -> Role {
    Role { name, password: "right", prepare, meanwhile: None, may, may_key, out: None }
}

fn by_permissions() -> Vec<Role> {
    vec![
        role("all", ALL, |_, _| true, SAME),
        role("nothing", |node| permit(node, "bob", "", "", ""), |_, _| false, SAME),
        role("read", |node| permit(node, "bob", "", "", ".*"), |right, _| right == "read", SAME),
        role("write", |node| permit(node, "bob", "", ".*", ""), |right, _| right == "write", SAME),
        role(
            "configure",
            |node| permit(node, "bob", ".*", "", ""),
            |right, _| right == "configure",
            SAME,
        ),
        role(
            "read and write by name",
            |node| permit(node, "bob", "", "^(q|amq\\.topic)$", "^(q|amq\\.topic)$"),
            |right, thing| {
                right != "configure" && [Queue("q"), Exchange("amq.topic")].contains(&thing)
            },
            SAME,
        ),
    ]
}

fn by_lists_and_keys() -> Vec<Role> {
    vec![
        role(
            "denied by list",
            |node| {
                permit(node, "bob", ".*", ".*", ".*");
                for name in ["q", "orders"] {
                    let name = AclPattern::Literal(name.to_owned());
                    list(node, "bob", Effect::Deny, Operation::All, name);
                }
            },
            |_, thing| ![Queue("q"), Queue("orders")].contains(&thing),
            SAME,
        ),
        role(
            "allowed by list",
            |node| {
                for name in ["q", "a.orders"] {
                    let name = AclPattern::Literal(name.to_owned());
                    list(node, "bob", Effect::Allow, Operation::All, name);
                }
            },
            |_, thing| [Queue("q"), Queue("a.orders")].contains(&thing),
            SAME,
        ),
        role(
            "limited to keys",
            |node| {
                permit(node, "bob", ".*", ".*", ".*");
                for exchange in ["t", "amq.topic"] {
                    permit_keys(node, "bob", exchange, "^a\\.", "^a\\.");
                }
            },
            |_, _| true,
            |_, _, key| key.starts_with("a."),
        ),
        role(
            "limited to subjects",
            |node| {
                permit(node, "bob", "", "^q$", "");
                let filter = AclPattern::Filter("a/#".to_owned());
                list(node, "bob", Effect::Allow, Operation::All, filter);
            },
            |right, thing| match thing {
                Exchange("amq.topic") | Queue("a.orders") => right != "configure",
                thing => right == "write" && thing == Queue("q"),
            },
            |_, _, key| key.starts_with("a."),
        ),
    ]
}

/// Whoever is out before it acts.
fn outsiders() -> Vec<Role> {
    let out = |name, meanwhile, out| Role {
        meanwhile: Some(meanwhile),
        out: Some(out),
        ..role(name, ALL, |_, _| true, SAME)
    };
    let bob = || "bob".to_owned();
    vec![
        Role {
            password: "wrong",
            out: Some("!403 ACCESS_REFUSED - Login was refused using authentication"),
            ..role("wrong password", ALL, |_, _| true, SAME)
        },
        Role {
            out: Some("!530 NOT_ALLOWED - access to vhost '/' refused for user 'bob'"),
            ..role("no permission", |_| {}, |_, _| true, SAME)
        },
        Role {
            meanwhile: Some(permission("bob", "", "", "")),
            ..role("emptied meanwhile", ALL, |_, _| false, SAME)
        },
        out(
            "deleted meanwhile",
            AccessCommand::DeleteUser { name: bob() },
            "!320 CONNECTION_FORCED - user 'bob' is deleted",
        ),
        out(
            "another password meanwhile",
            AccessCommand::SetVerifiers { name: bob(), verifiers: Verifiers::default() },
            "!320 CONNECTION_FORCED - the password of user 'bob' has changed",
        ),
        out(
            "cleared meanwhile",
            AccessCommand::ClearPermissions { user: bob(), namespace: NamespaceId(0) },
            "!530 NOT_ALLOWED - access to vhost '/' refused for user 'bob'",
        ),
    ]
}

fn refusal(right: &str, thing: Thing) -> String {
    let what = match thing {
        Queue(name) => format!("queue '{name}'"),
        Exchange(name) => format!("exchange '{name}'"),
    };
    format!("403 ACCESS_REFUSED - {right} access to {what} in vhost '/' refused for user 'bob'")
}

fn key_refusal(right: &str, exchange: &str, key: &str) -> String {
    format!(
        "403 ACCESS_REFUSED - {right} access to topic '{key}' in exchange '{exchange}' in vhost \
         '/' refused for user 'bob'"
    )
}

/// `None`: the need is met.
fn unmet(role: &Role, need: Need) -> Option<String> {
    let may = |right, thing| (!(role.may)(right, thing)).then(|| refusal(right, thing));
    match need {
        Configure(thing) => may("configure", thing),
        Write(thing) => may("write", thing),
        Read(thing) => may("read", thing),
        Any(thing) => {
            let rights = ["configure", "write", "read"];
            let is_met = rights.into_iter().any(|right| (role.may)(right, thing));
            (!is_met).then(|| refusal("configure", thing))
        }
        Key("append", exchange, key) => {
            (!(role.may)("write", Queue(key))).then(|| key_refusal("write", exchange, key))
        }
        Key(right, exchange, key) => {
            (!(role.may_key)(right, exchange, key)).then(|| key_refusal(right, exchange, key))
        }
        Topics(key, topics) => {
            let is_met = topics.iter().all(|topic| (role.may)("read", Queue(topic)));
            (!is_met).then(|| key_refusal("read", "amq.topic", key))
        }
        Name(name) => {
            let by_exchange = (role.may)("write", Exchange("amq.default"));
            // A list that denies the name speaks for itself; without one the exchange is enough.
            let is_denied = role.name == "denied by list" && ["q", "orders"].contains(&name);
            let is_met = match name {
                "orders" => (role.may)("write", Queue(name)),
                "n" => by_exchange,
                _ => by_exchange && !is_denied || (role.may)("write", Queue(name)),
            };
            let named = if by_exchange { Queue(name) } else { Exchange("amq.default") };
            (!is_met).then(|| refusal("write", named))
        }
    }
}

/// A generated name without what is random in it.
fn without_chance(outcome: &str) -> String {
    match outcome.find("amq.gen-") {
        Some(at) if outcome.len() > at + 30 => {
            format!("{}{}", &outcome[..at + 8], &outcome[at + 30..])
        }
        _ => outcome.to_owned(),
    }
}

fn seen_by(role: &Role, act: &Act) -> String {
    let mut node = secured();
    let alice = node.connect_as("alice", "right");
    node.send(alice, 1, declare("q"));
    node.send(alice, 1, exchange("x", "direct"));
    node.send(alice, 1, exchange("t", "topic"));
    node.create_topic("orders", 1);
    node.create_topic("a.orders", 1);
    add_user(&mut node, "bob");
    (role.prepare)(&mut node);
    let bob = node.connect_greeted();
    node.send(bob, 0, start_ok("bob", role.password));
    node.send(bob, 0, ConnectionTuneOk { channel_max: 9, frame_max: 131_072, heartbeat: 0 });
    node.send(bob, 0, open("/"));
    node.send(bob, 1, ChannelOpen::default());
    if let Some(command) = &role.meanwhile {
        node.access(command.clone());
    }
    match &act.what {
        What::Method(method) => node.send(bob, 1, method.clone()),
        What::Publish(publish) => {
            node.publish(bob, publish.clone(), BasicProperties::default(), b"x");
        }
    }
    let seen = node.take(bob);
    without_chance(&outcome(&seen))
}

#[test]
fn every_operation_by_every_role() {
    let acts: Vec<Act> = declarations().into_iter().chain(bindings()).chain(messages()).collect();
    let (mut wrong, mut cells) = (Vec::new(), 0);
    let roles = [by_permissions(), by_lists_and_keys(), outsiders()];
    for role in roles.into_iter().flatten() {
        for act in &acts {
            let unmet = act.needs.iter().find_map(|need| unmet(&role, *need));
            let expect = match (role.out, unmet) {
                (Some(out), _) => out.to_owned(),
                (None, Some(refusal)) => refusal,
                (None, None) if act.else_says.is_empty() => "ok".to_owned(),
                (None, None) => act.else_says.to_owned(),
            };
            let found = seen_by(&role, act);
            if !found.starts_with(&expect) {
                wrong.push(format!(
                    "{} / {}:\n  want {expect}\n  seen {found}",
                    role.name, act.name
                ));
            }
            cells += 1;
        }
    }
    let count = wrong.len();
    assert!(wrong.is_empty(), "{count} of {cells} cells are wrong:\n{}", wrong.join("\n"));
}

/// Who has not logged in does none of it, on a node with users.
#[test]
fn nobody_does_nothing() {
    let mut wrong = Vec::new();
    for act in acts() {
        let mut node = secured();
        let client = node.connect_greeted();
        node.take(client);
        node.shown.clear();
        match act.what {
            What::Method(method) => node.send(client, 1, method),
            What::Publish(publish) => {
                node.publish(client, publish, BasicProperties::default(), b"x");
            }
        }
        let found = outcome(&node.take(client));
        if !found.starts_with("!505 UNEXPECTED_FRAME") || !node.shown.is_empty() {
            wrong.push(format!("{}: {found} {}", act.name, node.shown));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
