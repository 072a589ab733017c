//! Logging in: each mechanism, framed and bare, for the first time and again, and every way not to.

use super::*;
use crate::codec::Writer;
use koine_broker::access::{AccessCommand, Secret, Verifiers};
use koine_broker::session::LoginRefusal;
use ring::{digest, hmac, pbkdf2};
use std::num::NonZeroU32;

/// Requests that a node without users does not list.
pub const SECURITY: [i16; 7] = [17, 29, 30, 31, 36, 50, 51];

const NAMES: [&str; 3] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];

pub fn secured() -> Client {
    let mut client = Client::new();
    client.engine.add_user("alice");
    client.engine.add_user("bob");
    client
}

fn handshake(client: &mut Client, version: i16, mechanism: &str) -> sasl_handshake::Response {
    let request = sasl_handshake::Request { mechanism: mechanism.into() };
    call!(client, sasl_handshake, SaslHandshake, version, request)
}

fn authenticate(client: &mut Client, version: i16, token: &[u8]) -> sasl_authenticate::Response {
    let request = sasl_authenticate::Request { auth_bytes: Secret::new(token) };
    call!(client, sasl_authenticate, SaslAuthenticate, version, request)
}

/// A bare token there and one back.
fn exchange(client: &mut Client, token: &[u8]) -> Bytes {
    client.queue_bytes(&(token.len() as u32).to_be_bytes());
    client.queue_bytes(token);
    client.run();
    let answer = client.take_bytes();
    assert_eq!(answer[..4], (answer.len() as u32 - 4).to_be_bytes());
    answer.slice(4..)
}

/// Whether the connection is served.
pub fn is_served(client: &mut Client) -> bool {
    if client.closed {
        return false;
    }
    client.queue(ApiKey::Metadata, 9, |w| metadata::Request::default().encode(w, 9));
    client.run();
    client.answer(ApiKey::Metadata, 9).is_some() && !client.closed
}

/// The client's side of SCRAM.
struct Scram {
    is_512: bool,
    user: &'static str,
    password: &'static str,
}

impl Scram {
    fn first_bare(&self) -> String {
        format!("n={},r=fyko+d2lbbFgONRv9qkxdawL", self.user)
    }

    fn first(&self) -> Vec<u8> {
        format!("n,,{}", self.first_bare()).into_bytes()
    }

    fn hmac(&self, key: &[u8], text: &[u8]) -> Vec<u8> {
        let algorithm = if self.is_512 { hmac::HMAC_SHA512 } else { hmac::HMAC_SHA256 };
        hmac::sign(&hmac::Key::new(algorithm, key), text).as_ref().to_vec()
    }

    fn last(&self, server_first: &[u8], change_nonce: impl FnOnce(String) -> String) -> Vec<u8> {
        use base64ct::{Base64, Encoding};
        let text = std::str::from_utf8(server_first).expect("a text");
        let mut parts = text.split(',').map(|part| &part[2..]);
        let nonce = parts.next().expect("a nonce").to_owned();
        let salt = Base64::decode_vec(parts.next().expect("a salt")).expect("well formed");
        let iterations: u32 = parts.next().expect("iterations").parse().expect("a number");
        let (derivation, hash) = match self.is_512 {
            true => (pbkdf2::PBKDF2_HMAC_SHA512, &digest::SHA512),
            false => (pbkdf2::PBKDF2_HMAC_SHA256, &digest::SHA256),
        };
        let mut salted = vec![0; if self.is_512 { 64 } else { 32 }];
        let count = NonZeroU32::new(iterations).expect("not zero");
        pbkdf2::derive(derivation, count, &salt, self.password.as_bytes(), &mut salted);
        let client_key = self.hmac(&salted, b"Client Key");
        let stored_key = digest::digest(hash, &client_key);
        let without_proof = format!("c=biws,r={}", change_nonce(nonce));
        let auth_message = format!("{},{text},{without_proof}", self.first_bare());
        let signature = self.hmac(stored_key.as_ref(), auth_message.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        format!("{without_proof},p={}", Base64::encode_string(&proof)).into_bytes()
    }
}

/// Logs in by whole requests; the answer to the last.
pub fn login(
    client: &mut Client,
    mechanism: &str,
    user: &'static str,
    password: &'static str,
) -> sasl_authenticate::Response {
    assert_eq!(handshake(client, 1, mechanism).error_code, 0);
    if mechanism == "PLAIN" {
        return authenticate(client, 2, format!("\0{user}\0{password}").as_bytes());
    }
    let scram = Scram { is_512: mechanism.ends_with("512"), user, password };
    let first = authenticate(client, 2, &scram.first());
    assert_eq!((first.error_code, first.session_lifetime_ms), (0, 0));
    authenticate(client, 2, &scram.last(&first.auth_bytes, |nonce| nonce))
}

fn refusal_of(mechanism: &str) -> String {
    match mechanism {
        "PLAIN" => "Authentication failed: Invalid username or password".into(),
        other => format!(
            "Authentication failed during authentication due to invalid credentials with SASL mechanism {other}"
        ),
    }
}

#[test]
fn each_mechanism_lets_in_with_the_right_password_alone() {
    for mechanism in NAMES {
        for (user, password, is_right) in [
            ("alice", "alice", true),
            ("alice", "bob", false),
            ("alice", "alicf", false),
            ("nobody", "alice", false),
        ] {
            let mut client = secured();
            let answer = login(&mut client, mechanism, user, password);
            let name = format!("{mechanism} {user} {password}");
            assert_eq!(client.closed, !is_right, "{name}");
            if is_right {
                assert_eq!((answer.error_code, answer.error_message), (0, None), "{name}");
                assert_eq!(answer.auth_bytes.is_empty(), mechanism == "PLAIN");
                assert!(is_served(&mut client), "{name}");
            } else {
                assert_eq!(answer.error_code, ErrorCode::SaslAuthenticationFailed.code());
                assert_eq!(answer.error_message, Some(refusal_of(mechanism)), "{name}");
                assert!(answer.auth_bytes.is_empty());
            }
            assert_eq!(client.engine.logins, 1, "{name}: every outcome passes the engine");
        }
    }
}

#[test]
fn old_clients_log_in_with_bare_tokens() {
    let mut client = secured();
    assert_eq!(handshake(&mut client, 0, "PLAIN").mechanisms, NAMES);
    assert_eq!(exchange(&mut client, b"\0alice\0alice"), "");
    assert!(is_served(&mut client));

    let mut client = secured();
    handshake(&mut client, 0, "SCRAM-SHA-512");
    let scram = Scram { is_512: true, user: "bob", password: "bob" };
    let first = exchange(&mut client, &scram.first());
    let last = exchange(&mut client, &scram.last(&first, |nonce| nonce));
    assert!(last.starts_with(b"v="));
    assert!(is_served(&mut client));

    let mut client = secured();
    handshake(&mut client, 0, "PLAIN");
    client.queue_bytes(b"\0\0\0\x0a\0alice\0bob");
    client.run();
    assert!(client.closed && client.take_bytes().is_empty(), "there is no way to say why");
}

#[test]
fn tokens_may_come_byte_by_byte_and_several_in_a_row() {
    for (version, is_framed) in [(1, true), (0, false)] {
        let mut client = secured();
        let request = sasl_handshake::Request { mechanism: "PLAIN".into() };
        client.queue(ApiKey::SaslHandshake, version, |w| request.encode(w, version));
        let token = b"\0alice\0alice";
        if is_framed {
            let request = sasl_authenticate::Request { auth_bytes: Secret::new(&token[..]) };
            client.queue(ApiKey::SaslAuthenticate, 2, |w| request.encode(w, 2));
        } else {
            client.queue_bytes(&(token.len() as u32).to_be_bytes());
            client.queue_bytes(token);
        }
        client.queue(ApiKey::Metadata, 9, |w| metadata::Request::default().encode(w, 9));
        for byte in client.hold_back(0) {
            client.queue_bytes(&[byte]);
            client.run();
        }
        client.answer(ApiKey::SaslHandshake, version).expect("an answer");
        if is_framed {
            client.answer(ApiKey::SaslAuthenticate, 2).expect("an answer");
        } else {
            let rest = client.take_bytes();
            assert_eq!(rest[..4], [0; 4], "an empty token");
            client.engine.paused = false;
            assert!(rest.len() > 4 && !client.closed, "the request behind it was served");
            continue;
        }
        client.answer(ApiKey::Metadata, 9).expect("an answer");
        assert!(!client.closed);
    }
}

#[test]
fn what_is_not_a_login_closes_the_connection_before_it() {
    for api in APIS {
        let mut client = secured();
        client.queue(api.key, api.version_max, |_| {});
        client.run();
        let is_login = [17, 18, 36].contains(&(api.key as i16));
        let is_answered = !client.take_bytes().is_empty();
        assert!(client.closed || is_login, "{}", api.name);
        assert!(!is_answered || is_login, "{}", api.name);
    }
    // And once a mechanism is chosen.
    for api in APIS {
        let mut client = secured();
        handshake(&mut client, 1, "PLAIN");
        client.queue(api.key, api.version_max, |_| {});
        client.run();
        assert!(client.closed, "{}", api.name);
        assert!(client.take_bytes().is_empty() || api.key == ApiKey::SaslHandshake, "{}", api.name);
    }
}

#[test]
fn api_versions_names_logins_where_there_are_users() {
    let mut client = secured();
    let request = api_versions::Request {
        client_software_name: "tester".into(),
        client_software_version: "1.0".into(),
    };
    for _ in 0..2 {
        let response = call!(client, api_versions, ApiVersions, 4, request.clone());
        assert_eq!(response.api_keys.len(), APIS.len());
    }
    assert!(login(&mut client, "PLAIN", "alice", "alice").error_code == 0);
    let response = call!(client, api_versions, ApiVersions, 4, request);
    assert_eq!(response.api_keys.len(), APIS.len());
}

#[test]
fn mechanisms_that_are_not_served_are_refused_with_those_that_are() {
    for name in ["GSSAPI", "OAUTHBEARER", "plain", "", "SCRAM-SHA-1"] {
        for version in 0..=1 {
            let mut client = secured();
            let response = handshake(&mut client, version, name);
            assert_eq!(response.error_code, ErrorCode::UnsupportedSaslMechanism.code(), "{name}");
            assert_eq!(response.mechanisms, NAMES);
            assert!(client.closed);
        }
    }
}

#[test]
fn steps_out_of_order_are_illegal() {
    let illegal = ErrorCode::IllegalSaslState.code();
    let mut client = secured();
    assert_eq!(authenticate(&mut client, 2, b"\0alice\0alice").error_code, illegal);
    assert!(client.closed);

    let mut client = secured();
    handshake(&mut client, 1, "PLAIN");
    assert_eq!(handshake(&mut client, 1, "PLAIN").error_code, illegal);
    assert!(client.closed);

    // Once in, and without a limit to the login, there is nothing to repeat; the connection goes on.
    let mut client = secured();
    login(&mut client, "PLAIN", "alice", "alice");
    assert_eq!(handshake(&mut client, 1, "PLAIN").error_code, illegal);
    let response = authenticate(&mut client, 2, b"\0alice\0alice");
    assert_eq!(response.error_code, illegal);
    let text = "SaslAuthenticate request received after successful authentication";
    assert_eq!(response.error_message.as_deref(), Some(text));
    assert!(is_served(&mut client));
}

#[test]
fn a_node_without_users_knows_no_logins() {
    let mut client = Client::new();
    let response = handshake(&mut client, 1, "PLAIN");
    assert_eq!(response.error_code, ErrorCode::IllegalSaslState.code());
    assert!(response.mechanisms.is_empty());
    let response = authenticate(&mut client, 2, b"\0alice\0alice");
    assert_eq!(response.error_code, ErrorCode::IllegalSaslState.code());
    assert!(is_served(&mut client));
    assert_eq!(client.engine.logins, 0);
    // The first user ends the connections of nobody.
    client.engine.add_user("alice");
    client.access_changed();
    assert!(client.closed);
}

#[test]
fn tampered_scram_messages_are_refused_alike() {
    let text = refusal_of("SCRAM-SHA-256");
    let nonces: [fn(String) -> String; 4] = [
        |nonce| format!("x{nonce}"),
        |nonce| nonce[..nonce.len() - 1].to_owned(),
        |nonce| nonce["fyko+d2lbbFgONRv9qkxdawL".len()..].to_owned(),
        |_| "fyko+d2lbbFgONRv9qkxdawL".to_owned(),
    ];
    for change in nonces {
        let mut client = secured();
        handshake(&mut client, 1, "SCRAM-SHA-256");
        let scram = Scram { is_512: false, user: "alice", password: "alice" };
        let first = authenticate(&mut client, 2, &scram.first());
        let answer = authenticate(&mut client, 2, &scram.last(&first.auth_bytes, change));
        assert_eq!(answer.error_code, ErrorCode::SaslAuthenticationFailed.code());
        assert_eq!(answer.error_message.as_deref(), Some(text.as_str()));
        assert!(client.closed);
    }
    for first in
        ["", "n,,n=alice", "p=tls-unique,,n=alice,r=x", "n,,n=alice,r=", "y,a=bob,n=alice,r=x"]
    {
        let mut client = secured();
        handshake(&mut client, 1, "SCRAM-SHA-256");
        let answer = authenticate(&mut client, 2, first.as_bytes());
        assert_eq!(answer.error_message.as_deref(), Some(text.as_str()), "{first}");
        assert!(client.closed, "{first}");
    }
}

#[test]
fn librdkafka_before_2_6_1_doubles_its_nonce() {
    const OWN: &str = "fyko+d2lbbFgONRv9qkxdawL";
    let check = |change: fn(String) -> String, expect: bool| {
        let mut client = secured();
        handshake(&mut client, 1, "SCRAM-SHA-256");
        let scram = Scram { is_512: false, user: "alice", password: "alice" };
        let first = authenticate(&mut client, 2, &scram.first());
        let answer = authenticate(&mut client, 2, &scram.last(&first.auth_bytes, change));
        assert_eq!(answer.error_code == 0, expect);
        assert_eq!(is_served(&mut client), expect);
    };
    check(|nonce| format!("{OWN}{nonce}"), true);
    check(|nonce| format!("{OWN}{OWN}{nonce}"), false);
    check(|nonce| format!("{OWN}{}x", &nonce[..nonce.len() - 1]), false);
    check(|nonce| format!("{OWN}{}", &nonce[..nonce.len() - 1]), false);
    check(|nonce| format!("x{}{nonce}", &OWN[1..]), false);
}

#[test]
fn a_password_changed_during_the_login_is_not_let_in() {
    let mut client = secured();
    handshake(&mut client, 1, "SCRAM-SHA-256");
    let scram = Scram { is_512: false, user: "alice", password: "alice" };
    let first = authenticate(&mut client, 2, &scram.first());
    let last = scram.last(&first.auth_bytes, |nonce| nonce);
    let verifiers = Verifiers::default();
    client.engine.access(AccessCommand::SetVerifiers { name: "alice".into(), verifiers });
    client.access_changed();
    assert!(!client.closed);
    let answer = authenticate(&mut client, 2, &last);
    assert_eq!(answer.error_message, Some(refusal_of("SCRAM-SHA-256")));
    assert!(client.closed);
}

#[test]
fn sizes_before_the_login_are_bounded() {
    let check = |length: u32, prepare: fn(&mut Client), expect_closed: bool| {
        let mut client = secured();
        prepare(&mut client);
        client.take_bytes();
        client.queue_bytes(&length.to_be_bytes());
        client.queue_bytes(&[0, 18, 0, 0, 0, 0, 0, 1, 0xFF, 0xFF]);
        client.run();
        assert_eq!(client.closed, expect_closed, "{length}");
    };
    let nothing: fn(&mut Client) = |_| {};
    let bare: fn(&mut Client) = |client| {
        handshake(client, 0, "PLAIN");
    };
    check(64 << 10, nothing, false);
    check((64 << 10) + 1, nothing, true);
    check(64 << 10, bare, false);
    check((64 << 10) + 1, bare, true);
    check(u32::MAX, bare, true);
    let inside: fn(&mut Client) = |client| {
        login(client, "PLAIN", "alice", "alice");
    };
    check((64 << 10) + 1, inside, false);
}

#[test]
fn a_login_must_be_through_in_time() {
    // Without a byte from the peer.
    let mut client = secured();
    assert_eq!(client.session.deadline(), koine_base::Moment(0));
    let start = client.now.moment;
    client.tick();
    assert_eq!(client.session.deadline(), start.after_ms(client.limits.handshake_ms_max));
    client.pass_deadline();
    assert!(client.closed);
    // Half way.
    let mut client = secured();
    handshake(&mut client, 1, "PLAIN");
    assert_eq!(client.session.deadline(), start.after_ms(client.limits.handshake_ms_max));
    // While it is checked, nothing else is read.
    client.engine.paused = true;
    let request = sasl_authenticate::Request { auth_bytes: Secret::new("\0alice\0alice") };
    client.queue(ApiKey::SaslAuthenticate, 2, |w| request.encode(w, 2));
    client.run();
    assert!(!client.session.wants_input() && !client.closed);
    assert_eq!(client.session.deadline(), start.after_ms(client.limits.handshake_ms_max));
    client.engine.paused = false;
    client.run();
    assert!(client.session.wants_input());
    assert_eq!(client.session.deadline(), koine_base::Moment::NEVER);
}

#[test]
fn refusals_of_the_engine_have_their_texts() {
    for (refusal, expect) in [
        (
            LoginRefusal::TooManyConnections { connections_max: 3 },
            Some("Authentication failed: the user has 3 connections, as many as it may"),
        ),
        (LoginRefusal::Busy, None),
    ] {
        let mut client = secured();
        client.engine.login_refusal = Some(refusal);
        handshake(&mut client, 1, "PLAIN");
        let request = sasl_authenticate::Request { auth_bytes: Secret::new("\0alice\0alice") };
        client.queue(ApiKey::SaslAuthenticate, 2, |w| request.encode(w, 2));
        client.run();
        let answer = client.answer(ApiKey::SaslAuthenticate, 2);
        let text = answer.and_then(|(_, frame)| {
            decode(&frame, |r| sasl_authenticate::Response::decode(r, 2)).error_message
        });
        assert_eq!(text.as_deref(), expect);
        assert!(client.closed);
    }
}

#[test]
fn a_login_that_runs_out_must_be_repeated_by_the_same_user() {
    let again = || {
        let mut client = secured();
        client.limits.sasl_session_ms_max = 60_000;
        let answer = login(&mut client, "SCRAM-SHA-256", "alice", "alice");
        assert_eq!(answer.session_lifetime_ms, 60_000);
        client.now.moment = client.now.moment.after_ms(50_000);
        client
    };
    let mut client = again();
    let answer = login(&mut client, "SCRAM-SHA-256", "alice", "alice");
    assert_eq!((answer.error_code, answer.session_lifetime_ms), (0, 60_000));
    client.now.moment = client.now.moment.after_ms(59_999);
    assert!(is_served(&mut client));
    client.now.moment = client.now.moment.after_ms(1);
    assert!(!is_served(&mut client), "over");

    let mut client = again();
    client.now.moment = client.now.moment.after_ms(20_000);
    let answer = login(&mut client, "SCRAM-SHA-256", "alice", "alice");
    assert_eq!(answer.error_code, 0, "late, but nothing else was asked in between");
    assert!(is_served(&mut client));

    let mut client = again();
    let answer = login(&mut client, "SCRAM-SHA-256", "bob", "bob");
    let text = "Cannot change principals during re-authentication from User.alice: User.bob";
    assert_eq!(answer.error_message.as_deref(), Some(text));
    assert!(client.closed);

    let mut client = again();
    let answer = login(&mut client, "PLAIN", "alice", "alice");
    let text = "SASL mechanism 'PLAIN' requested by client is not supported for re-authentication of mechanism 'SCRAM-SHA-256'";
    assert_eq!(answer.error_message.as_deref(), Some(text));
    assert!(client.closed);

    let mut client = again();
    let answer = login(&mut client, "SCRAM-SHA-256", "alice", "wrong");
    let text = refusal_of("SCRAM-SHA-256").replace("during auth", "during re-auth");
    assert_eq!(answer.error_message, Some(text));
    assert!(client.closed);

    // Not more often than once a second.
    let mut client = again();
    login(&mut client, "SCRAM-SHA-256", "alice", "alice");
    let response = handshake(&mut client, 1, "SCRAM-SHA-256");
    assert_eq!(response.error_code, ErrorCode::IllegalSaslState.code());
    assert!(is_served(&mut client));
}

#[test]
fn a_certificate_logs_in_without_a_word() {
    let with = |user| {
        let mut client = secured();
        client.session.with_certificate(user);
        client
    };
    let mut client = with("alice");
    assert!(is_served(&mut client));
    assert_eq!(client.engine.logins, 1);
    assert_eq!(client.session.deadline(), koine_base::Moment::NEVER);
    let response = handshake(&mut client, 1, "PLAIN");
    assert_eq!(response.error_code, ErrorCode::IllegalSaslState.code());
    // Who has asked nothing yet may still log in as somebody else.
    let mut client = with("alice");
    assert_eq!(login(&mut client, "PLAIN", "bob", "bob").error_code, 0);
    assert!(is_served(&mut client));

    assert!(!is_served(&mut with("nobody")));
}

#[test]
fn whoever_is_gone_is_cut_off() {
    let mut client = secured();
    login(&mut client, "PLAIN", "alice", "alice");
    client.engine.access(AccessCommand::DeleteUser { name: "bob".into() });
    client.access_changed();
    assert!(!client.closed);
    client.engine.access(AccessCommand::DeleteUser { name: "alice".into() });
    client.access_changed();
    assert!(client.closed);
}

#[test]
fn passwords_are_not_printed() {
    let canary = "canary";
    let request = sasl_authenticate::Request { auth_bytes: Secret::new(canary) };
    let mut client = secured();
    client.engine.paused = true;
    handshake_only(&mut client);
    client.queue(ApiKey::SaslAuthenticate, 2, |w| plain(canary).encode(w, 2));
    client.run();
    let printed = format!("{request:?} {:?}", client.requests());
    assert!(printed.contains("Authenticate") && !printed.contains(canary), "{printed}");
}

fn plain(password: &str) -> sasl_authenticate::Request {
    sasl_authenticate::Request { auth_bytes: Secret::new(format!("\0alice\0{password}")) }
}

fn handshake_only(client: &mut Client) {
    let encode = |w: &mut Writer<'_>| {
        sasl_handshake::Request { mechanism: "PLAIN".into() }.encode(w, 1);
    };
    client.queue(ApiKey::SaslHandshake, 1, encode);
}
