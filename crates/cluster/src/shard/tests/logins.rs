//! Logins over shard 0, whichever shard the client is on.

use super::*;
use koine_broker::access::{
    AccessCommand, Principal, Secret, SecretRng, User, UserLimits, Verifiers,
};
use koine_broker::session::{Credentials, LoginRefusal};
use std::net::IpAddr;

const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

pub(super) fn change(node: &mut Node<'_>, client: &Client, command: AccessCommand) {
    let request = Request::Propose { token: 1, command: Command::Access(Box::new(command)) };
    let events = node.ask(client, request);
    assert!(matches!(events[..], [Event::Proposed { result: Ok(_), .. }]), "{events:?}");
}

pub(super) fn add_user(
    node: &mut Node<'_>,
    client: &Client,
    name: &str,
    connections_max: Option<u32>,
) {
    let verifiers = Verifiers::of_password(&Secret::new("right"), &mut SecretRng::new(&[1; 32]));
    let limits = UserLimits { connections_max, channels_max: None };
    let user = User { verifiers, limits, ..User::default() };
    let add = AccessCommand::AddUser { name: name.to_owned(), user, decoy_key: vec![1] };
    change(node, client, add);
}

fn password(user: &str, password: &str) -> Request {
    let credentials =
        Credentials::Password { user: user.to_owned(), password: Secret::new(password) };
    Request::Authenticate { token: 5, address: ADDRESS, credentials }
}

/// Asks, lets the host check the password, and waits for as long as a failure takes.
fn log_in(
    node: &mut Node<'_>,
    client: &Client,
    request: Request,
) -> Result<Principal, LoginRefusal> {
    let mut events = node.ask(client, request);
    let checks = node.shards[0].take_password_checks();
    for check in checks {
        let is_right = check.is_right();
        node.shards[0].password_checked(node.now, check.ticket, is_right);
        node.settle();
        events.extend(client.take());
    }
    if events.is_empty() {
        pass(node, node.shards[0].config.limits.login_delay_ms - 1);
        assert!(client.take().is_empty(), "too early");
        pass(node, 2);
        events = client.take();
    }
    match events.pop() {
        Some(Event::Authenticated { token: 5, result }) => result,
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_has_the_password_is_let_in_and_nobody_learns_why_another_is_not() {
    for shard_count in [1, 2] {
        let disk = MemoryDisk::new();
        let mut node = Node::open(&disk, shard_count);
        let admin = node.connect(0);
        let client = node.connect(usize::from(shard_count) - 1);
        add_user(&mut node, &admin, "alice", None);
        let let_in = log_in(&mut node, &client, password("alice", "right")).expect("let in");
        assert_eq!(let_in.user.as_deref(), Some("alice"));
        assert!(node.shards.iter().all(|shard| shard.metadata().access().still_knows(&let_in)));
        for (user, given) in [("alice", "wrong"), ("alice", ""), ("nobody", "right")] {
            let refused = log_in(&mut node, &client, password(user, given));
            assert_eq!(refused, Err(LoginRefusal::Wrong));
        }
        for (user, is_right, expect) in
            [("alice", true, true), ("alice", false, false), ("nobody", true, false)]
        {
            let credentials = Credentials::Scram { user: user.to_owned(), is_right };
            let request = Request::Authenticate { token: 5, address: ADDRESS, credentials };
            assert_eq!(log_in(&mut node, &client, request).is_ok(), expect, "{user} {is_right}");
        }
        let credentials = Credentials::Certificate { user: "nobody".to_owned() };
        let request = Request::Authenticate { token: 5, address: ADDRESS, credentials };
        assert_eq!(log_in(&mut node, &client, request), Err(LoginRefusal::Wrong));
    }
}

#[test]
fn a_user_has_as_many_connections_as_it_may() {
    let disk = MemoryDisk::new();
    let mut node = Node::open(&disk, 2);
    let admin = node.connect(0);
    add_user(&mut node, &admin, "alice", Some(2));
    let clients = [node.connect(1), node.connect(1), node.connect(1)];
    for client in &clients[..2] {
        log_in(&mut node, client, password("alice", "right")).expect("one of two");
    }
    log_in(&mut node, &clients[1], password("alice", "right")).expect("again, the same one");
    let refused = log_in(&mut node, &clients[2], password("alice", "right"));
    assert_eq!(refused, Err(LoginRefusal::TooManyConnections { connections_max: 2 }));
    node.shards[1].disconnected(node.now, clients[0].id);
    node.settle();
    log_in(&mut node, &clients[2], password("alice", "right")).expect("there is room again");
}

#[test]
fn a_password_that_changes_while_it_is_checked_is_wrong() {
    let disk = MemoryDisk::new();
    let mut node = Node::open(&disk, 1);
    let admin = node.connect(0);
    let client = node.connect(0);
    add_user(&mut node, &admin, "alice", None);
    assert!(node.ask(&client, password("alice", "right")).is_empty());
    let check = node.shards[0].take_password_checks().pop().expect("one check");
    let verifiers = Verifiers::of_password(&Secret::new("new"), &mut SecretRng::new(&[2; 32]));
    let name = "alice".to_owned();
    change(&mut node, &admin, AccessCommand::SetVerifiers { name, verifiers });
    node.shards[0].password_checked(node.now, check.ticket, check.is_right());
    pass(&mut node, 1000);
    let events = client.take();
    let wrong = Event::Authenticated { token: 5, result: Err(LoginRefusal::Wrong) };
    assert_eq!(format!("{events:?}"), format!("{:?}", [wrong]));
}

#[test]
fn no_more_logins_wait_than_may_and_those_of_the_gone_are_forgotten() {
    let disk = MemoryDisk::new();
    let few = |shard, layout| {
        let mut config = config(shard, layout);
        config.limits.logins_waiting_max = 2;
        config
    };
    let mut node = Node::open_with(&disk, 1, few);
    let clients = [node.connect(0), node.connect(0), node.connect(0)];
    for client in &clients {
        node.ask(client, password("alice", "right"));
    }
    let checks = node.shards[0].take_password_checks();
    assert_eq!(checks.len(), 2);
    pass(&mut node, 1000);
    let busy = Event::Authenticated { token: 5, result: Err(LoginRefusal::Busy) };
    assert_eq!(format!("{:?}", clients[2].take()), format!("{:?}", [busy]));
    node.shards[0].disconnected(node.now, clients[0].id);
    node.settle();
    assert!(node.ask(&clients[2], password("alice", "right")).is_empty());
    assert_eq!(node.shards[0].take_password_checks().len(), 1, "there is room again");
}

#[test]
fn users_and_rules_survive_a_restart() {
    let disk = MemoryDisk::new();
    let mut node = Node::open(&disk, 2);
    let admin = node.connect(0);
    add_user(&mut node, &admin, "alice", None);
    drop(node);
    let mut node = Node::open(&disk, 2);
    let client = node.connect(1);
    assert!(node.shards.iter().all(|shard| shard.metadata().access().is_secured()));
    log_in(&mut node, &client, password("alice", "right")).expect("still known");
}

#[test]
fn strangers_hold_no_more_than_their_budget_and_who_logged_in_is_none() {
    let disk = MemoryDisk::new();
    let small = |shard, layout| {
        let mut config = config(shard, layout);
        config.limits.handshake_memory_max = 1000;
        config
    };
    let mut node = Node::open_with(&disk, 1, small);
    let admin = node.connect(0);
    let begin = |node: &mut Node<'_>, client: &Client, bytes: usize| {
        let mut input = BytesMut::from(&vec![0; bytes][..]);
        node.shards[0].receive(node.now, client.id, &mut input);
    };
    let closes = |node: &Node<'_>, client: &Client| node.shards[0].wants_close(client.id);
    let early = node.connect(0);
    begin(&mut node, &early, 5000);
    assert!(!closes(&node, &early), "without users there are no strangers");
    add_user(&mut node, &admin, "alice", None);
    let known = node.connect(0);
    log_in(&mut node, &known, password("alice", "right")).expect("let in");
    begin(&mut node, &known, 5000);
    let (large, small) = (node.connect(0), node.connect(0));
    begin(&mut node, &large, 900);
    begin(&mut node, &small, 200);
    assert!(closes(&node, &large));
    assert!(!closes(&node, &small) && !closes(&node, &known));
}

/// Takes nothing before the engine has said who it is.
struct Asks(bool, Rc<RefCell<Script>>);

impl Session for Asks {
    fn protocol(&self) -> Protocol {
        Protocol::Kafka
    }
    fn receive(&mut self, input: &mut BytesMut, ctx: &mut Context<'_>) {
        match self.0 {
            true => input.clear(),
            false => ctx.out.request(Request::Authenticate {
                token: 1,
                address: ADDRESS,
                credentials: Credentials::Certificate { user: "alice".to_owned() },
            }),
        }
    }
    fn event(&mut self, event: Event, _ctx: &mut Context<'_>) {
        self.0 = true;
        self.1.borrow_mut().events.push(event);
    }
    fn access_changed(&mut self, _ctx: &mut Context<'_>) {}
    fn tick(&mut self, _ctx: &mut Context<'_>) {}
    fn deadline(&self) -> Moment {
        Moment::NEVER
    }
    fn wants_input(&self) -> bool {
        self.0
    }
    fn disconnected(&mut self, _ctx: &mut Context<'_>) {}
    fn shutdown(&mut self, _ctx: &mut Context<'_>) {}
}

#[test]
fn input_that_had_to_wait_for_an_answer_of_the_same_step_is_taken() {
    let disk = MemoryDisk::new();
    let mut node = Node::open(&disk, 1);
    let admin = node.connect(0);
    add_user(&mut node, &admin, "alice", None);
    let script = Rc::new(RefCell::new(Script::default()));
    let id = node.shards[0].connect(node.now, Box::new(Asks(false, Rc::clone(&script))));
    let mut input = BytesMut::from(&b"request"[..]);
    node.shards[0].receive(node.now, id, &mut input);
    assert_eq!(script.borrow().events.len(), 1);
    assert!(input.is_empty(), "nobody would ask again");
}
