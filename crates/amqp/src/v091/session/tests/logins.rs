//! Who is let in, how others are refused, and what is not acted upon before.

use super::access::{add_user, permit, secured};
use super::*;
use crate::v091::table::Value;
use koine_broker::access::{AccessCommand, UserLimits};
use koine_broker::session::LoginRefusal;

fn with_mechanism(mechanism: &str, response: &[u8]) -> ConnectionStartOk {
    ConnectionStartOk {
        mechanism: text(mechanism),
        response: SecretString(Bytes::copy_from_slice(response)),
        ..start_ok("", "")
    }
}

/// As clients send it that do not know `authentication_failure_close`.
fn without_capabilities(start_ok: ConnectionStartOk) -> ConnectionStartOk {
    ConnectionStartOk { client_properties: Table::default(), ..start_ok }
}

fn closed_with(seen: Vec<Seen>) -> (u16, (u16, u16), String) {
    match only_method(seen) {
        Method::ConnectionClose(close) => (
            close.reply_code,
            (close.class_id, close.method_id),
            close.reply_text.as_str().to_owned(),
        ),
        other => panic!("{other:?}"),
    }
}

fn refused(mechanism: &str) -> (u16, (u16, u16), String) {
    let text = format!(
        "ACCESS_REFUSED - Login was refused using authentication mechanism {mechanism}. \
         For details see the broker logfile."
    );
    (403, (0, 0), text)
}

fn amqplain(user: &str, password: &[u8], is_binary: bool) -> Vec<u8> {
    let password = match is_binary {
        true => Value::Binary(password),
        false => Value::LongString(password),
    };
    let table = TableBuilder::new().with("LOGIN", Value::LongString(user.as_bytes()));
    table.with("PASSWORD", password).finish().raw().to_vec()
}

fn is_tune(seen: Vec<Seen>) -> bool {
    matches!(only_method(seen), Method::ConnectionTune(_))
}

#[test]
fn every_mechanism_lets_its_user_in_and_nobody_else() {
    let mut node = secured();
    let mut check = |mechanism: &str, response: &[u8], is_let_in: bool| {
        let client = node.connect_greeted();
        node.take(client);
        let seen = node.ask(client, 0, with_mechanism(mechanism, response));
        let shown = format!("{mechanism} {}", response.escape_ascii());
        if is_let_in {
            assert!(is_tune(seen), "{shown}");
        } else {
            assert_eq!(closed_with(seen), refused(mechanism), "{shown}");
        }
    };
    check("PLAIN", b"\0alice\0right", true);
    check("PLAIN", b"alice\0alice\0right", true);
    check("PLAIN", b"bob\0alice\0right", false);
    check("PLAIN", b"\0alice\0wrong", false);
    check("PLAIN", b"\0alice\0", false);
    check("PLAIN", b"\0nobody\0right", false);
    check("PLAIN", b"\0guest\0guest", false);
    check("PLAIN", b"\0al\xFFice\0right", false);
    check("AMQPLAIN", &amqplain("alice", b"right", false), true);
    check("AMQPLAIN", &amqplain("alice", b"right", true), true);
    check("AMQPLAIN", &amqplain("alice", b"wrong", true), false);
}

#[test]
fn the_certificate_logs_in_on_tls_alone() {
    let mut node = secured();
    let mut check = |tls: Option<Option<&str>>, offered: &[u8], expect: Option<(u16, &str)>| {
        let client = match tls {
            None => node.connect_raw(),
            Some(user) => node.connect_tls(user),
        };
        node.send_bytes(client, b"AMQP\x00\x00\x09\x01");
        let Method::ConnectionStart(start) = only_method(node.take(client)) else { panic!() };
        assert_eq!(start.mechanisms.0, offered);
        let seen = node.ask(client, 0, with_mechanism("EXTERNAL", b""));
        match expect {
            None => {
                assert!(is_tune(seen), "{tls:?}");
                assert_eq!(node.session(client).user, "alice");
            }
            Some((code, starts)) => {
                let (found, _, text) = closed_with(seen);
                assert!(found == code && text.starts_with(starts), "{tls:?} {text}");
            }
        }
    };
    let all = b"PLAIN AMQPLAIN EXTERNAL";
    check(Some(Some("alice")), all, None);
    check(Some(Some("nobody")), all, Some((403, "ACCESS_REFUSED - Login was refused")));
    check(Some(None), all, Some((403, "ACCESS_REFUSED - Login was refused")));
    check(None, b"PLAIN AMQPLAIN", Some((503, "COMMAND_INVALID - unknown authentication")));
}

#[test]
fn a_node_without_users_knows_guest_alone() {
    let check = |mechanism: &str, response: &[u8], expect: Option<u16>| {
        let mut node = Node::new();
        let client = node.connect_tls(Some("guest"));
        node.send_bytes(client, b"AMQP\x00\x00\x09\x01");
        let Method::ConnectionStart(start) = only_method(node.take(client)) else { panic!() };
        assert_eq!(&start.mechanisms.0[..], b"PLAIN AMQPLAIN");
        let seen = node.ask(client, 0, with_mechanism(mechanism, response));
        match expect {
            None => assert!(is_tune(seen)),
            Some(code) => assert_eq!(closed_with(seen).0, code),
        }
        assert!(!node.shown.contains("Authenticate"), "it is judged here");
    };
    check("PLAIN", b"\0guest\0guest", None);
    check("AMQPLAIN", &amqplain("guest", b"guest", false), None);
    check("PLAIN", b"\0guest\0other", Some(403));
    check("PLAIN", b"\0alice\0right", Some(403));
    check("EXTERNAL", b"", Some(503));
}

#[test]
fn a_client_that_cannot_be_told_is_just_closed() {
    for (start_ok, refusal) in [
        (start_ok("alice", "wrong"), None),
        (with_mechanism("PLAIN", b"bob\0alice\0right"), None),
        (start_ok("alice", "right"), Some(LoginRefusal::Busy)),
    ] {
        let mut node = secured();
        node.logins.refusal = refusal;
        let client = node.connect_greeted();
        node.take(client);
        assert_eq!(node.ask(client, 0, without_capabilities(start_ok)), []);
        assert!(node.is_closed(client));
    }
}

#[test]
fn too_many_logins_are_told_apart_from_wrong_ones() {
    let mut node = secured();
    node.logins.refusal = Some(LoginRefusal::Busy);
    let client = node.connect_greeted();
    node.take(client);
    let expect = (506, (0, 0), "RESOURCE_ERROR - too many logins wait to be checked".to_owned());
    assert_eq!(closed_with(node.ask(client, 0, start_ok("alice", "right"))), expect);
}

#[test]
fn a_user_with_all_its_connections_is_told_when_it_opens_the_vhost() {
    let mut node = secured();
    node.logins.refusal = Some(LoginRefusal::TooManyConnections { connections_max: 3 });
    let client = node.connect_greeted();
    node.take(client);
    let start_ok = without_capabilities(start_ok("alice", "right"));
    assert!(is_tune(node.ask(client, 0, start_ok)));
    node.send(client, 0, ConnectionTuneOk { channel_max: 9, frame_max: 8192, heartbeat: 0 });
    add_user(&mut node, "unrelated");
    let expect = "NOT_ALLOWED - connection refused for user 'alice': user connection limit (3) is \
                  reached";
    let closed = closed_with(node.ask(client, 0, open("/")));
    assert_eq!(closed, (530, (10, 40), expect.to_owned()));
    assert_eq!(node.ask(client, 1, ChannelOpen::default()), []);
}

#[test]
fn the_vhost_is_for_those_with_a_permission_on_it() {
    let mut node = secured();
    add_user(&mut node, "stranger");
    let mut check = |user: &str, vhost: &str, expect: &str| {
        let client = node.connect_greeted();
        node.send(client, 0, start_ok(user, "right"));
        node.send(client, 0, ConnectionTuneOk { channel_max: 9, frame_max: 8192, heartbeat: 0 });
        node.take(client);
        let closed = closed_with(node.ask(client, 0, open(vhost)));
        assert_eq!(closed, (530, (10, 40), expect.to_owned()));
    };
    check("stranger", "/", "NOT_ALLOWED - access to vhost '/' refused for user 'stranger'");
    check("stranger", "other", "NOT_ALLOWED - vhost other not found");
    check("alice", "other", "NOT_ALLOWED - vhost other not found");
}

#[test]
fn a_user_has_so_many_channels_on_a_connection() {
    let mut node = secured();
    let client = node.connect_as("alice", "right");
    let limit = |channels_max| AccessCommand::SetLimits {
        name: "alice".to_owned(),
        limits: UserLimits { channels_max, connections_max: None },
    };
    node.access(limit(Some(2)));
    assert!(matches!(
        only_method(node.ask(client, 2, ChannelOpen::default())),
        Method::ChannelOpenOk(_)
    ));
    let closed = closed_with(node.ask(client, 3, ChannelOpen::default()));
    let expect =
        "NOT_ALLOWED - number of channels opened for user 'alice' has reached the maximum \
                  allowed user limit of 2";
    assert_eq!(closed, (530, (20, 10), expect.to_owned()));
    node.access(limit(Some(0)));
    let client = node.connect_greeted();
    node.send(client, 0, start_ok("alice", "right"));
    node.send(client, 0, ConnectionTuneOk { channel_max: 9, frame_max: 8192, heartbeat: 0 });
    node.send(client, 0, open("/"));
    node.take(client);
    assert_eq!(closed_with(node.ask(client, 1, ChannelOpen::default())).0, 530);
}

#[test]
fn what_comes_behind_a_login_waits_for_its_end() {
    let mut node = secured();
    node.logins.are_held = true;
    let client = node.connect_greeted();
    node.send(client, 0, start_ok("alice", "right"));
    assert!(!node.wants_input(client));
    node.open(client);
    assert_eq!(node.take(client), [], "not even tune");
    let deadline = node.deadline(client);
    assert_eq!(deadline, Moment(1_000_000).after_ms(node.limits.handshake_ms_max));
    node.release_logins();
    let names: Vec<bool> =
        node.take(client).iter().map(|seen| matches!(seen, Seen::Method(..))).collect();
    assert_eq!(names.len(), 3, "tune, open-ok, channel.open-ok");
    assert!(matches!(only_method(node.ask(client, 1, declare("q"))), Method::QueueDeclareOk(_)));
}

#[test]
fn a_login_that_takes_too_long_is_cut_off() {
    let mut node = secured();
    node.logins.are_held = true;
    let client = node.connect_greeted();
    node.send(client, 0, start_ok("alice", "right"));
    node.take(client);
    let deadline = node.deadline(client);
    node.tick(client, deadline);
    assert!(node.is_closed(client));
    node.release_logins();
    assert_eq!(node.take(client), [], "nobody is let in any more");
}

/// Every method and some frames before the login: none is acted upon.
#[test]
fn nothing_but_a_login_is_acted_upon_before_it() {
    let mut rng = koine_base::rng::Rng::new(3);
    let methods = Method::every(&mut rng);
    let mut wrong = Vec::new();
    for (method, channel) in methods.into_iter().flat_map(|m| [(m.clone(), 0), (m, 1)]) {
        let is_login = matches!(method, Method::ConnectionStartOk(_)) && channel == 0;
        let is_close = matches!(method, Method::ConnectionClose(_)) && channel == 0;
        if is_login || is_close {
            continue;
        }
        let mut node = secured();
        let client = node.connect_greeted();
        node.take(client);
        node.shown.clear();
        let seen = node.ask(client, channel, method.clone());
        let is_refused = matches!(seen[..], [Seen::Method(0, Method::ConnectionClose(_))]);
        if !is_refused || !node.shown.is_empty() {
            wrong.push(format!("{} on {channel}: {seen:?} {}", method.name(), node.shown));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn frames_before_tune_are_small() {
    let mut node = secured();
    let client = node.connect_greeted();
    node.take(client);
    // The head of a frame with 8193 octets of payload says it all.
    node.send_bytes(client, &[1, 0, 0, 0, 0, 0x20, 1]);
    let (code, _, text) = closed_with(node.take(client));
    assert_eq!(code, 501);
    assert!(text.contains("frame_too_large"), "{text}");
    let largest = with_mechanism("PLAIN", &[b"\0alice\0", &[b'x'; 7000][..]].concat());
    let client = node.connect_greeted();
    node.take(client);
    assert_eq!(closed_with(node.ask(client, 0, largest)), refused("PLAIN"));
}

#[test]
fn no_password_is_ever_shown() {
    let mut node = secured();
    for (user, mechanism) in [("alice", "PLAIN"), ("nobody", "PLAIN"), ("alice", "AMQPLAIN")] {
        for is_held in [false, true] {
            node.logins.are_held = is_held;
            let client = node.connect_greeted();
            let response = match mechanism {
                "PLAIN" => format!("\0{user}\0canary").into_bytes(),
                _ => amqplain(user, b"canary", true),
            };
            let start_ok = with_mechanism(mechanism, &response);
            let method = format!("{:?}", Method::from(start_ok.clone()));
            let seen = node.ask(client, 0, start_ok);
            let waiting = format!("{:?}", node.session(client).waiting);
            assert_eq!(waiting.contains("LoggedIn"), is_held);
            for shown in [&method, &waiting, &node.shown, &format!("{seen:?}")] {
                assert!(!shown.contains("canary") && !shown.contains("99, 97, 110"), "{shown}");
            }
        }
    }
    assert!(node.shown.contains("Authenticate"));
    let malformed = with_mechanism("PLAIN", b"canary");
    let client = node.connect_greeted();
    node.take(client);
    let (code, _, text) = closed_with(node.ask(client, 0, malformed));
    assert!(code == 502 && !text.contains("canary"), "{text}");
    let secret = ConnectionUpdateSecret {
        new_secret: SecretString(Bytes::from_static(b"canary")),
        ..ConnectionUpdateSecret::default()
    };
    let answer = ConnectionSecureOk { response: secret.new_secret.clone() };
    assert!(!format!("{secret:?} {answer:?}").contains("canary"));
}

#[test]
fn when_users_are_made_nobody_stays() {
    let mut node = Node::new();
    let before = node.connect();
    let starting = node.connect_greeted();
    node.take(starting);
    add_user(&mut node, "alice");
    permit(&mut node, "alice", ".*", ".*", ".*");
    let (code, method, text) = closed_with(node.take(before));
    assert_eq!((code, method), (320, (0, 0)));
    assert_eq!(text, "CONNECTION_FORCED - a login is needed by now");
    assert_eq!(node.ask(before, 1, declare("q")), []);
    assert!(node.metadata.queue(NamespaceId(0), "q").is_none());
    assert!(is_tune(node.ask(starting, 0, start_ok("alice", "right"))));
}
