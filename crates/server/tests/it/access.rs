//! Users and rules as an administrator meets them: the commands, the HTTP API, the listening policy.

use std::io::{Read, Write};
use std::process::{Output, Stdio};
use std::time::Duration;

use crate::broker::{koine, Broker, Directory, CANARY};
use crate::wait;
use crate::wire::open;

const COMMAND_LIMIT: Duration = Duration::from_secs(20);
pub const ADMIN: (&str, &str) = ("admin", "canary-admin-3f9c");

/// Runs a subcommand against this broker; `login` is a name and a password, `input` what it reads.
pub fn run(broker: &Broker, login: Option<(&str, &str)>, line: &str, input: &str) -> Output {
    let mut command = koine();
    command.args(line.split(' ')).args(["--http", &broker.addresses.http]);
    if let Some((user, password)) = login {
        command.env("KOINE_USER", user).env("KOINE_PASSWORD", password);
    }
    command.current_dir(broker.directory.path()).stdin(Stdio::piped());
    let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    process.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    if wait::poll(COMMAND_LIMIT, || process.try_wait().unwrap()).is_none() {
        process.kill().unwrap();
        panic!("koine {line} has not ended");
    }
    process.wait_with_output().unwrap()
}

/// The same as the administrator, successfully; what it prints.
pub fn administer(broker: &Broker, line: &str, input: &str) -> String {
    administer_as(broker, ADMIN, line, input)
}

pub fn administer_as(broker: &Broker, admin: (&str, &str), line: &str, input: &str) -> String {
    let output = run(broker, Some(admin), line, input);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains(CANARY) && !complaint.contains(CANARY), "koine {line} shows a password");
    assert!(output.status.success(), "koine {line}: {said}{complaint}");
    said
}

/// Makes the first user: from then on nobody gets in without a login.
pub fn secure(broker: &Broker) {
    let line = "users create admin --tags administrator --password-file -";
    administer(broker, line, ADMIN.1);
}

/// A user with everything, or with these patterns.
pub fn add_user(broker: &Broker, name: &str, password: &str, patterns: [&str; 3]) {
    add_user_as(broker, ADMIN, name, password, patterns);
}

/// Likewise, by this administrator.
pub fn add_user_as(
    broker: &Broker,
    admin: (&str, &str),
    name: &str,
    password: &str,
    patterns: [&str; 3],
) {
    administer_as(broker, admin, &format!("users create {name} --password-file -"), password);
    let [configure, write, read] = patterns;
    let options = format!("--configure={configure} --write={write} --read={read}");
    administer_as(broker, admin, &format!("permissions set {name} {options}"), "");
}

pub fn delete_user_as(broker: &Broker, admin: (&str, &str), name: &str) {
    administer_as(broker, admin, &format!("users delete {name}"), "");
}

fn refused(broker: &Broker, login: Option<(&str, &str)>, line: &str) -> String {
    let output = run(broker, login, line, "");
    assert!(!output.status.success(), "koine {line} succeeded");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Status and the rest of an answer, with an `Authorization` header.
fn get(broker: &Broker, path: &str, authorization: &str) -> (u16, String) {
    let address = &broker.addresses.http;
    let mut stream = open(address).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    write!(stream, "{head}{authorization}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split_whitespace().nth(1).and_then(|code| code.parse().ok());
    (status.unwrap_or(0), answer)
}

#[test]
fn the_first_user_closes_the_administration_to_strangers() {
    let broker = Broker::start("first-user");
    assert!(run(&broker, None, "topics create before", "").status.success());
    secure(&broker);
    let said = refused(&broker, None, "topics list");
    assert!(said.contains("KOINE_USER"), "{said}");
    refused(&broker, Some(("admin", "wrong")), "topics list");
    refused(&broker, Some(("nobody", ADMIN.1)), "topics list");
    assert!(administer(&broker, "topics list", "").contains("before"));

    for path in ["/metrics", "/koine/v1/status", "/koine/v1/users", "/koine/v1/tail/before"] {
        let (status, answer) = get(&broker, path, "");
        assert_eq!(status, 401, "{path}");
        assert!(answer.contains("www-authenticate: Basic"), "{answer}");
        let (status, _) = get(&broker, path, "Authorization: Bearer abc\r\n");
        assert_eq!(status, 401, "{path}");
    }
    for path in ["/health/live", "/health/ready"] {
        assert_eq!(get(&broker, path, "").0, 200, "{path}");
    }
    let basic = format!("Authorization: Basic {}\r\n", "YWRtaW46Y2FuYXJ5LWFkbWluLTNmOWM=");
    for path in ["/metrics", "/koine/v1/status", "/koine/v1/users", "/koine/v1/users/admin"] {
        let (status, answer) = get(&broker, path, &basic);
        assert_eq!(status, 200, "{path}");
        assert!(!answer.contains(CANARY), "{path} shows a password");
    }
    // Reading messages is a right of its own.
    let said = refused(&broker, Some(ADMIN), "tail before --no-follow --count 1");
    assert!(said.contains("may not"), "{said}");
}

#[test]
fn users_and_rules_are_made_listed_changed_and_taken_away() {
    let broker = Broker::start("users-and-rules");
    secure(&broker);
    add_user(&broker, "alice", "canary-alice-81d2", ["^a", "^a", "^a"]);
    administer(&broker, "users set alice --tags monitoring --connections-max 3", "");
    administer(&broker, "topic-permissions set alice/amq.topic --write=^w --read=^r", "");
    administer(&broker, "acls create orders --user alice --operation read --kind topic", "");
    let acl = "acls create out/%u/# --user * --operation write --kind subject";
    administer(&broker, acl, "");

    let users = administer(&broker, "users list --json", "");
    let users: serde_json::Value = serde_json::from_str(&users).unwrap();
    let scram = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];
    let alice = serde_json::json!({
        "name": "alice", "tags": ["monitoring"], "mechanisms": scram,
        "connections_max": 3, "channels_max": null,
    });
    assert_eq!(users[1], alice);
    let permissions = administer(&broker, "permissions describe alice --json", "");
    assert!(permissions.contains("\"configure\": \"^a\""), "{permissions}");
    let acls = administer(&broker, "acls list", "");
    assert!(acls.contains("allow:read:topic:literal:alice:%2A:orders"), "{acls}");

    // She may see how the node is, and nobody's rights; and do what her patterns say.
    let alice = Some(("alice", "canary-alice-81d2"));
    assert!(run(&broker, alice, "status", "").status.success());
    for line in ["users list", "acls list", "topics create b", "users delete admin"] {
        assert!(refused(&broker, alice, line).contains("may not"), "{line}");
    }
    assert!(run(&broker, alice, "topics create a1", "").status.success());

    for (line, expect) in [
        ("permissions set nobody --configure=a --write=a --read=a", "no user \"nobody\""),
        ("permissions set alice --configure=[ --write=a --read=a", "\"configure\": regex"),
        ("permissions set alice --write=a --read=a", "\"configure\" must be given"),
        ("users create alice", "exists already"),
        ("users set bob --tags a", "no user \"bob\""),
        ("users set alice", "nothing to set"),
        ("acls create x --user a --operation fly --kind topic", "\"operation\" must be one of"),
        ("acls create a/#/b --user a --operation read --kind subject", "not legal settings"),
        ("topic-permissions set alice --write=a --read=a", "USER/EXCHANGE"),
    ] {
        let said = refused(&broker, Some(ADMIN), line);
        assert!(said.contains(expect), "{line}: {said}");
    }

    let before = administer(&broker, "users list", "");
    administer(&broker, "users set alice --password-file -", "another");
    assert_eq!(administer(&broker, "users list", ""), before);
    refused(&broker, alice, "status");
    assert!(run(&broker, Some(("alice", "another")), "status", "").status.success());

    administer(&broker, "acls delete allow:read:topic:literal:alice:%2A:orders", "");
    administer(&broker, "topic-permissions delete alice/amq.topic", "");
    administer(&broker, "users delete alice", "");
    refused(&broker, Some(("alice", "another")), "status");
    assert!(!administer(&broker, "permissions list", "").contains("alice"));
    assert!(!administer(&broker, "acls list", "").contains("alice"));
}

#[test]
fn other_machines_are_let_in_once_there_are_users() {
    let directory = Directory::new("beyond");
    let broker = Broker::start_in(directory, &[]);
    secure(&broker);
    let (status, directory) = broker.stop();
    assert!(status.success());
    let broker = Broker::start_in(directory, &["--mqtt", "0.0.0.0:0"]);
    administer(&broker, "users delete admin", "");
    // Nobody is left; nobody gets in.
    refused(&broker, Some(ADMIN), "users list");
    refused(&broker, None, "users list");
}

#[test]
fn a_first_secured_start_takes_two_commands() {
    let directory = Directory::new("init");
    let init = |arguments: &[&str]| {
        let mut command = koine();
        command.args(["init", "--data", "data", "--json"]).args(arguments);
        let output = command.current_dir(directory.path()).stdin(Stdio::null()).output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{complaint}");
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let first = init(&["--name", "broker.example", "--client", "alice"]);
    assert_eq!(first["created"], true);
    assert_eq!(first["config"], "koine.toml");
    let again = init(&[]);
    assert_eq!((&again["created"], &again["server"]), (&false.into(), &serde_json::Value::Null));
    let password = |made: &serde_json::Value| made["password"].as_str().unwrap().to_owned();
    assert_ne!(password(&first), password(&again));

    // What it wrote is what the broker reads, and other machines may come.
    let broker = Broker::start_in(directory, &["--config", "koine.toml", "--kafka", "0.0.0.0:0"]);
    let old = password(&first);
    refused(&broker, Some(("admin", &old)), "users list");
    let new = password(&again);
    let listed = run(&broker, Some(("admin", &new)), "users list --json", "");
    assert!(String::from_utf8_lossy(&listed.stdout).contains("administrator"));
    let log = std::fs::read_to_string(broker.directory.path().join("log.txt")).unwrap();
    assert!(!log.contains(&old) && !log.contains(&new), "no password in the log");
}

/// Who may call what: roles by what the user was given, and what each is let do. `!` refuses.
#[test]
fn every_role_may_call_what_it_may_and_nothing_else() {
    let broker = Broker::start("http-roles");
    secure(&broker);
    administer(&broker, "topics create mine", "");
    administer(&broker, "topics create other", "");
    let roles: [(&str, [&str; 3], &str); 6] = [
        ("configures", ["^mine", "", ""], ""),
        ("reads", ["", "", "^mine"], ""),
        ("writes", ["", "^mine", ""], ""),
        ("sees", ["", "", ""], "monitoring"),
        ("rules", ["", "", ""], "administrator"),
        ("nothing", ["", "", ""], ""),
    ];
    for (name, patterns, tag) in roles {
        add_user(&broker, name, "canary-role-5b1e", patterns);
        administer(&broker, &format!("users set {name} --tags={tag}"), "");
    }
    // Each with the roles that may.
    let operations: [(&str, &[&str]); 14] = [
        ("status", &["sees", "rules"]),
        ("topics list", &["sees", "rules"]),
        ("groups list", &["sees", "rules"]),
        ("sessions list", &["sees", "rules"]),
        ("topics describe mine", &["configures", "reads", "writes", "sees", "rules"]),
        ("topics describe other", &["sees", "rules"]),
        ("topics create mine-NAME", &["configures", "rules"]),
        ("queues create queue-NAME", &["rules"]),
        ("tail mine --no-follow --from start", &["reads"]),
        ("tail other --no-follow --from start", &[]),
        ("users list", &["rules"]),
        ("permissions list", &["rules"]),
        ("users create new-NAME", &["rules"]),
        ("acls create other --user NAME --operation all --kind topic", &["rules"]),
    ];
    let mut wrong = Vec::new();
    for (operation, allowed) in operations {
        for (role, _, _) in roles {
            let line = operation.replace("NAME", role);
            let is_allowed =
                run(&broker, Some((role, "canary-role-5b1e")), &line, "").status.success();
            if is_allowed != allowed.contains(&role) {
                wrong.push(format!("{role}: {line}: allowed {is_allowed}"));
            }
        }
        for stranger in [None, Some(("rules", "wrong")), Some(("stranger", "canary-role-5b1e"))] {
            if run(&broker, stranger, operation, "").status.success() {
                wrong.push(format!("{stranger:?}: {operation}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} cells wrong:\n{}", wrong.len(), wrong.join("\n"));
}
