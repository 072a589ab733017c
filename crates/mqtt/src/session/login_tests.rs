//! Logins as they look on the wire, and what waits for them: SCRAM over AUTH, logins that the engine takes
//! its time for, passwords that must not print, and who may do what.

use super::engine::{administration, Engine};
use super::tests::{bytes_of, connect_packet, publish_bytes, subscribe_packet};
use crate::codec::{
    Acknowledgement, Auth, Connack, Connect, Decoder, Disconnect, Hidden, Packet, PacketType,
    Properties, Property, Qos, Version,
};
use crate::error::ReasonCode;
use crate::websocket::client_frame;
use base64ct::{Base64, Encoding};
use bytes::{Bytes, BytesMut};
use koine_base::rng::Rng;
use koine_base::ConnectionId;
use koine_broker::access::scram::Mechanism;
use koine_broker::access::{AccessCommand, Secret};
use koine_broker::session::{LoginRefusal, Session};
use ring::{digest, hmac, pbkdf2};
use std::cell::OnceCell;
use std::num::NonZeroU32;

const V5: Version = Version::V5;

/// A client's side of one exchange (RFC 5802 §3).
struct Scram {
    mechanism: Mechanism,
    password: String,
    first_bare: String,
    /// Takes long; the salt is always the same.
    salted: OnceCell<Vec<u8>>,
}

impl Scram {
    fn new(mechanism: Mechanism, user: &str, password: &str) -> Scram {
        let first_bare = format!("n={user},r=client");
        Scram { mechanism, password: password.to_owned(), first_bare, salted: OnceCell::new() }
    }

    fn first(&self) -> String {
        format!("n,,{}", self.first_bare)
    }

    fn hmac(&self, key: &[u8], text: &str) -> Vec<u8> {
        let algorithm = match self.mechanism {
            Mechanism::Sha256 => hmac::HMAC_SHA256,
            Mechanism::Sha512 => hmac::HMAC_SHA512,
        };
        hmac::sign(&hmac::Key::new(algorithm, key), text.as_bytes()).as_ref().to_vec()
    }

    fn hash(&self, bytes: &[u8]) -> Vec<u8> {
        let algorithm = match self.mechanism {
            Mechanism::Sha256 => &digest::SHA256,
            Mechanism::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, bytes).as_ref().to_vec()
    }

    /// The last message, and what the server has to answer.
    fn last(&self, server_first: &str) -> (String, String) {
        let field = |name: &str| {
            let mut fields = server_first.split(',');
            fields.find_map(|field| field.strip_prefix(name)).expect("the field").to_owned()
        };
        let salt = Base64::decode_vec(&field("s=")).expect("base64");
        let iterations: u32 = field("i=").parse().expect("a number");
        let algorithm = match self.mechanism {
            Mechanism::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Mechanism::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        };
        let salted = self.salted.get_or_init(|| {
            let mut salted = vec![0; self.mechanism.hash_bytes()];
            let count = NonZeroU32::new(iterations).expect("positive");
            pbkdf2::derive(algorithm, count, &salt, self.password.as_bytes(), &mut salted);
            salted
        });
        let without_proof = format!("c=biws,r={}", field("r="));
        let message = format!("{},{server_first},{without_proof}", self.first_bare);
        let client_key = self.hmac(salted, "Client Key");
        let signature = self.hmac(&self.hash(&client_key), &message);
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        let server_key = self.hmac(salted, "Server Key");
        let expected = Base64::encode_string(&self.hmac(&server_key, &message));
        let last = format!("{without_proof},p={}", Base64::encode_string(&proof));
        (last, format!("v={expected}"))
    }
}

fn authentication(method: &str, data: &str) -> Properties {
    let data = Property::AuthenticationData(Hidden(data.as_bytes()));
    [Property::AuthenticationMethod(method), data].into_iter().collect()
}

fn auth(reason: ReasonCode, method: &str, data: &str) -> Packet {
    Packet::Auth(Auth { reason, properties: authentication(method, data) })
}

fn connect(name: &str, version: Version) -> Connect {
    match connect_packet(name, version, true) {
        Packet::Connect(connect) => *connect,
        _ => unreachable!("it makes a CONNECT"),
    }
}

fn with_password(name: &str, version: Version, user: &str, password: &str) -> Packet {
    let mut connect = connect(name, version);
    connect.user_name = Some(user.to_owned());
    connect.password = Some(Secret::new(password));
    Packet::Connect(Box::new(connect))
}

fn send(engine: &mut Engine, id: ConnectionId, version: Version, packet: &Packet) {
    engine.send(id, &bytes_of(packet, version));
}

fn take(engine: &mut Engine, id: ConnectionId, version: Version) -> Vec<Packet> {
    let decoder = Decoder::new(version, 1 << 20);
    let mut input = BytesMut::from(&engine.take(id)[..]);
    std::iter::from_fn(|| decoder.next(&mut input).expect("we sent it")).collect()
}

fn take_one(engine: &mut Engine, id: ConnectionId) -> Packet {
    let mut all = take(engine, id, V5);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

/// Method, data.
fn told(properties: &Properties) -> (String, String) {
    let (mut method, mut text) = (String::new(), String::new());
    for property in properties.iter() {
        match property {
            Property::AuthenticationMethod(name) => method = name.to_owned(),
            Property::AuthenticationData(Hidden(data)) => {
                text = String::from_utf8(data.to_vec()).expect("text");
            }
            _ => {}
        }
    }
    (method, text)
}

fn engine_with(users: &[(&str, &str)]) -> Engine {
    let mut engine = Engine::new();
    for (name, password) in users {
        engine.passwords.insert((*name).to_owned(), (*password).to_owned());
        engine.change(administration::add_scram_user(name, password));
        engine.change(administration::permit(name, &[".*", ".*", ".*"]));
    }
    engine
}

/// Begins a login with the first message in CONNECT; gives what AUTH challenges with.
fn begin(engine: &mut Engine, scram: &Scram) -> (ConnectionId, String) {
    let id = engine.connect();
    let mut connect = connect("c", V5);
    connect.properties = authentication(scram.mechanism.name(), &scram.first());
    send(engine, id, V5, &Packet::Connect(Box::new(connect)));
    let Packet::Auth(auth) = take_one(engine, id) else { panic!("a challenge") };
    assert_eq!(auth.reason, ReasonCode::ContinueAuthentication);
    let (method, server_first) = told(&auth.properties);
    assert_eq!(method, scram.mechanism.name());
    (id, server_first)
}

/// Logs in by SCRAM: the CONNACK.
fn log_in(engine: &mut Engine, scram: &Scram) -> (ConnectionId, Connack) {
    let (id, server_first) = begin(engine, scram);
    let (last, answer) = scram.last(&server_first);
    let method = scram.mechanism.name();
    send(engine, id, V5, &auth(ReasonCode::ContinueAuthentication, method, &last));
    let Packet::Connack(connack) = take_one(engine, id) else { panic!("an answer") };
    if connack.reason == ReasonCode::Success {
        assert_eq!(told(&connack.properties), (method.to_owned(), answer));
    }
    assert_eq!(engine.is_open(id), connack.reason == ReasonCode::Success);
    (id, connack)
}

#[test]
fn scram_lets_in_who_knows_the_password() {
    for mechanism in Mechanism::ALL {
        for (user, password, expect) in [
            ("alice", "right", ReasonCode::Success),
            ("alice", "wrong", ReasonCode::NotAuthorized),
            ("nobody", "right", ReasonCode::NotAuthorized),
        ] {
            let mut engine = engine_with(&[("alice", "right")]);
            let (id, connack) = log_in(&mut engine, &Scram::new(mechanism, user, password));
            assert_eq!(connack.reason, expect, "{user} {password}");
            if expect == ReasonCode::Success {
                assert_eq!(engine.session(id).principal.user.as_deref(), Some("alice"));
            }
        }
    }
}

#[test]
fn scram_messages_that_are_none_end_the_login() {
    let method = "SCRAM-SHA-256";
    for data in ["", "x", "n,,n=,r=a", "p=tls-exporter,,n=alice,r=a", "n,a=bob,n=alice,r=a"] {
        let mut engine = engine_with(&[("alice", "right")]);
        let id = engine.connect();
        let mut connect = connect("c", V5);
        connect.properties = authentication(method, data);
        send(&mut engine, id, V5, &Packet::Connect(Box::new(connect)));
        let Packet::Connack(connack) = take_one(&mut engine, id) else { panic!("an answer") };
        assert_eq!(connack.reason, ReasonCode::NotAuthorized, "{data}");
        assert!(!engine.is_open(id));
    }
    let scram = Scram::new(Mechanism::Sha256, "alice", "right");
    let long = "x".repeat(5000);
    for last in ["", "c=biws,r=client,p=AAAA", "c=eSws,r=client,p=AAAA", &long] {
        let mut engine = engine_with(&[("alice", "right")]);
        let (id, _) = begin(&mut engine, &scram);
        let proof = auth(ReasonCode::ContinueAuthentication, method, last);
        send(&mut engine, id, V5, &proof);
        let Packet::Connack(connack) = take_one(&mut engine, id) else { panic!("an answer") };
        assert_eq!(connack.reason, ReasonCode::NotAuthorized, "{last}");
    }
}

#[test]
fn nothing_but_auth_and_goodbye_may_come_before_the_login_is_through() {
    let scram = Scram::new(Mechanism::Sha256, "alice", "right");
    let goodbye = Disconnect { reason: ReasonCode::Success, properties: Properties::default() };
    for (packet, expect) in [
        (Packet::Pingreq, Some(ReasonCode::ProtocolError)),
        (subscribe_packet("t", Qos::AtMostOnce), Some(ReasonCode::ProtocolError)),
        (connect_packet("c", V5, true), Some(ReasonCode::ProtocolError)),
        (
            auth(ReasonCode::ReAuthenticate, "SCRAM-SHA-256", "n,,n=alice,r=a"),
            Some(ReasonCode::ProtocolError),
        ),
        (
            auth(ReasonCode::ContinueAuthentication, "SCRAM-SHA-512", "x"),
            Some(ReasonCode::ProtocolError),
        ),
        (Packet::Disconnect(goodbye), None),
    ] {
        let mut engine = engine_with(&[("alice", "right")]);
        let (id, _) = begin(&mut engine, &scram);
        send(&mut engine, id, V5, &packet);
        let answer = take(&mut engine, id, V5).pop();
        let reason = answer.map(|answer| match answer {
            Packet::Connack(connack) => connack.reason,
            other => panic!("{other:?}"),
        });
        assert_eq!(reason, expect, "{packet:?}");
        assert!(!engine.is_open(id));
    }
}

#[test]
fn a_password_that_changes_during_the_exchange_is_wrong() {
    let mut engine = engine_with(&[("alice", "right")]);
    let scram = Scram::new(Mechanism::Sha256, "alice", "right");
    let (id, server_first) = begin(&mut engine, &scram);
    engine.change(administration::set_password("alice"));
    let (last, _) = scram.last(&server_first);
    send(&mut engine, id, V5, &auth(ReasonCode::ContinueAuthentication, "SCRAM-SHA-256", &last));
    let Packet::Connack(connack) = take_one(&mut engine, id) else { panic!("an answer") };
    assert_eq!(connack.reason, ReasonCode::NotAuthorized);
}

#[test]
fn a_client_may_prove_itself_again_as_itself() {
    let scram = Scram::new(Mechanism::Sha256, "alice", "right");
    let method = "SCRAM-SHA-256";
    let mut engine = engine_with(&[("alice", "right"), ("bob", "right")]);
    let (id, _) = log_in(&mut engine, &scram);
    for _ in 0..2 {
        send(&mut engine, id, V5, &auth(ReasonCode::ReAuthenticate, method, &scram.first()));
        let Packet::Auth(challenge) = take_one(&mut engine, id) else { panic!("a challenge") };
        // The connection goes on meanwhile.
        send(&mut engine, id, V5, &Packet::Pingreq);
        assert_eq!(take_one(&mut engine, id), Packet::Pingresp);
        let (last, answer) = scram.last(&told(&challenge.properties).1);
        send(&mut engine, id, V5, &auth(ReasonCode::ContinueAuthentication, method, &last));
        let Packet::Auth(done) = take_one(&mut engine, id) else { panic!("an answer") };
        assert_eq!(done.reason, ReasonCode::Success);
        assert_eq!(told(&done.properties), (method.to_owned(), answer));
        assert!(engine.session(id).principal.client_id.is_some());
    }
    let refused = |packets: &[Packet], expect: ReasonCode| {
        let mut engine = engine_with(&[("alice", "right"), ("bob", "right")]);
        let (id, _) = log_in(&mut engine, &scram);
        for packet in packets {
            send(&mut engine, id, V5, packet);
        }
        let last = take(&mut engine, id, V5).pop().expect("an answer");
        let Packet::Disconnect(disconnect) = last else { panic!("{last:?}") };
        assert_eq!(disconnect.reason, expect, "{packets:?}");
        assert!(!engine.is_open(id));
    };
    let again = |data: &str| auth(ReasonCode::ReAuthenticate, method, data);
    let proof = |data: &str| auth(ReasonCode::ContinueAuthentication, method, data);
    let (not_allowed, violation) = (ReasonCode::NotAuthorized, ReasonCode::ProtocolError);
    refused(&[again("n,,n=bob,r=client")], not_allowed);
    refused(&[again("nonsense")], not_allowed);
    refused(&[again(&scram.first()), proof("c=biws,r=client,p=AAAA")], not_allowed);
    refused(&[auth(ReasonCode::ReAuthenticate, "SCRAM-SHA-512", &scram.first())], violation);
    refused(&[again(&scram.first()), again(&scram.first())], violation);
    refused(&[proof("x")], violation);
    refused(&[auth(ReasonCode::Success, method, "x")], violation);
}

#[test]
fn a_refusal_says_as_much_as_its_version_can() {
    for (refusal, code, return_code) in [
        (LoginRefusal::Wrong, 0x86, 4),
        (LoginRefusal::TooManyConnections { connections_max: 1 }, 0x97, 3),
        (LoginRefusal::Busy, 0x89, 3),
    ] {
        for version in [Version::V3_1, Version::V3_1_1, V5] {
            let mut engine = engine_with(&[("alice", "right")]);
            engine.login_refusal = Some(refusal);
            let id = engine.connect();
            send(&mut engine, id, version, &with_password("c", version, "alice", "right"));
            let expect = if version.is_v5() { code } else { return_code };
            assert_eq!(engine.take(id)[3], expect, "{refusal:?} {version:?}");
            assert!(!engine.is_open(id));
        }
    }
}

#[test]
fn while_a_login_is_checked_input_waits_and_so_does_nobody_for_ever() {
    let mut engine = engine_with(&[("alice", "right")]);
    engine.hold_logins = true;
    let id = engine.connect();
    let mut bytes = BytesMut::from(&bytes_of(&with_password("c", V5, "alice", "right"), V5)[..]);
    bytes.extend_from_slice(&bytes_of(&subscribe_packet("t", Qos::AtMostOnce), V5));
    bytes.extend_from_slice(&bytes_of(&Packet::Pingreq, V5));
    engine.send(id, &bytes);
    assert!(!engine.session(id).wants_input());
    assert!(engine.take(id).is_empty());
    engine.answer_logins();
    let seen: Vec<_> = take(&mut engine, id, V5).iter().map(Packet::packet_type).collect();
    assert_eq!(seen.len(), 3, "{seen:?}");

    engine.hold_logins = true;
    let late = engine.connect();
    send(&mut engine, late, V5, &with_password("late", V5, "alice", "right"));
    engine.advance(engine.limits.handshake_ms_max - 1);
    assert!(engine.is_open(late));
    engine.advance(1);
    assert!(!engine.is_open(late));
    // Neither does an exchange that its client leaves.
    engine.hold_logins = false;
    let scram = Scram::new(Mechanism::Sha256, "alice", "right");
    let (left, _) = begin(&mut engine, &scram);
    engine.advance(engine.limits.handshake_ms_max);
    assert!(!engine.is_open(left));
}

/// Whoever has no right here is told so before anything is asked of group 0.
#[test]
fn a_session_is_opened_for_those_who_may_and_judged_again_when_it_is_open() {
    let mut engine = engine_with(&[("alice", "right"), ("bob", "right")]);
    let forbid = |user: &str| AccessCommand::ClearPermissions {
        user: user.to_owned(),
        namespace: crate::session::NAMESPACE,
    };
    engine.change(forbid("bob"));
    engine.hold_commands = true;
    let refused = |engine: &mut Engine, id: ConnectionId| {
        let Packet::Connack(connack) = take_one(engine, id) else { panic!("an answer") };
        assert_eq!(connack.reason, ReasonCode::NotAuthorized);
        assert!(!engine.is_open(id));
    };
    let bob = engine.connect();
    send(&mut engine, bob, V5, &with_password("b", V5, "bob", "right"));
    refused(&mut engine, bob);
    let alice = engine.connect();
    send(&mut engine, alice, V5, &with_password("a", V5, "alice", "right"));
    assert!(take(&mut engine, alice, V5).is_empty());
    engine.change(forbid("alice"));
    engine.release_commands();
    refused(&mut engine, alice);
}

/// Messages of an exchange with bytes turned, cut off or put in, at each of its steps: nobody gets in.
#[test]
fn noise_in_an_exchange_lets_nobody_in() {
    let scram = Scram::new(Mechanism::Sha256, "alice", "right");
    let mut rng = Rng::new(5);
    let mut engine = engine_with(&[("alice", "right")]);
    for round in 0..300u32 {
        let spoils_first = round % 2 == 0;
        let mut spoil = |text: &str| {
            let mut bytes = text.as_bytes().to_vec();
            let at = rng.below(bytes.len() as u64) as usize;
            match rng.below(3) {
                0 => bytes[at] ^= 1 << rng.below(7),
                1 => bytes.truncate(at),
                _ => bytes.insert(at, rng.below(128) as u8),
            }
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let id = engine.connect();
        let mut connect = connect("c", V5);
        let first = if spoils_first { spoil(&scram.first()) } else { scram.first() };
        connect.properties = authentication("SCRAM-SHA-256", &first);
        send(&mut engine, id, V5, &Packet::Connect(Box::new(connect)));
        if let Packet::Auth(challenge) = take_one(&mut engine, id) {
            // As one does who believes that its own first message arrived.
            let (last, _) = scram.last(&told(&challenge.properties).1);
            let last = if spoils_first { last } else { spoil(&last) };
            let proof = auth(ReasonCode::ContinueAuthentication, "SCRAM-SHA-256", &last);
            send(&mut engine, id, V5, &proof);
            let answer = take_one(&mut engine, id);
            let Packet::Connack(connack) = &answer else { panic!("{answer:?}") };
            assert!(connack.reason.is_failure(), "{first} {last}");
        }
        assert!(!engine.is_open(id));
    }
}

/// Another step of the input, as at the first login.
#[test]
fn input_waits_for_a_login_during_the_connection_too() {
    let mut engine = engine_with(&[("alice", "right")]);
    let scram = Scram::new(Mechanism::Sha256, "alice", "right");
    let (id, _) = log_in(&mut engine, &scram);
    engine.hold_logins = true;
    let method = "SCRAM-SHA-256";
    send(&mut engine, id, V5, &auth(ReasonCode::ReAuthenticate, method, &scram.first()));
    let Packet::Auth(challenge) = take_one(&mut engine, id) else { panic!("a challenge") };
    let (last, _) = scram.last(&told(&challenge.properties).1);
    send(&mut engine, id, V5, &auth(ReasonCode::ContinueAuthentication, method, &last));
    send(&mut engine, id, V5, &Packet::Pingreq);
    assert!(!engine.session(id).wants_input());
    assert!(take(&mut engine, id, V5).is_empty());
    engine.answer_logins();
    let seen: Vec<_> = take(&mut engine, id, V5).iter().map(Packet::packet_type).collect();
    assert_eq!(seen, [PacketType::Auth, PacketType::Pingresp]);
}

/// A user who is gone, or has another password, when the answer comes.
#[test]
fn a_login_that_was_granted_too_late_opens_nothing() {
    let mut engine = engine_with(&[("alice", "right"), ("bob", "right")]);
    engine.hold_logins = true;
    let id = engine.connect();
    send(&mut engine, id, V5, &with_password("c", V5, "alice", "right"));
    engine.change(administration::set_password("alice"));
    engine.answer_logins();
    let Packet::Connack(connack) = take_one(&mut engine, id) else { panic!("an answer") };
    assert_eq!(connack.reason, ReasonCode::NotAuthorized);
    assert!(!engine.is_open(id));
}

#[test]
fn the_same_over_a_websocket() {
    let mut engine = engine_with(&[("alice", "right")]);
    let open = |engine: &mut Engine, password: &str| {
        let id = engine.connect();
        let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
              Sec-WebSocket-Protocol: mqtt\r\n\r\n";
        engine.send(id, upgrade.as_bytes());
        engine.take(id);
        let version = Version::V3_1_1;
        let connect = bytes_of(&with_password("c", version, "alice", password), version);
        engine.send(id, &client_frame(0x82, [1, 2, 3, 4], &connect));
        id
    };
    let wrong = open(&mut engine, "wrong");
    assert_eq!(&engine.take(wrong)[..6], [0x82, 4, 0x20, 2, 0, 4]);
    assert!(!engine.is_open(wrong));
    let right = open(&mut engine, "right");
    assert_eq!(&engine.take(right)[..], [0x82, 4, 0x20, 2, 0, 0]);
    // The end of a session that is revoked has its frame as well.
    engine.change(administration::set_password("alice"));
    assert_eq!(&engine.take(right)[..], [0x88, 2, 3, 232]);
    assert!(!engine.is_open(right));
}

#[test]
fn passwords_do_not_print() {
    let canary = "hunter2-canary";
    let mut connect = connect("c", V5);
    connect.user_name = Some("alice".to_owned());
    connect.password = Some(Secret::new(canary));
    connect.properties = authentication("PLAIN", canary);
    let bytes = bytes_of(&Packet::Connect(Box::new(connect)), V5);
    assert!(bytes.windows(canary.len()).any(|window| window == canary.as_bytes()));
    let decoder = Decoder::new(V5, 1 << 20);
    let packet = decoder.next(&mut BytesMut::from(&bytes[..])).expect("sound").expect("whole");
    let step = auth(ReasonCode::ContinueAuthentication, "PLAIN", canary);
    for packet in [packet, step] {
        let printed = format!("{packet:?} {packet:#?}");
        assert!(!printed.contains("canary"), "{printed}");
        assert!(!printed.contains(&format!("{:?}", canary.as_bytes())), "{printed}");
    }
}

/// A client of version 5 that has logged in and subscribed to `filter`, and nothing else to read.
fn subscriber(engine: &mut Engine, filter: &str, qos: Qos) -> ConnectionId {
    let id = engine.connect();
    send(engine, id, V5, &with_password("sub", V5, "alice", "right"));
    send(engine, id, V5, &subscribe_packet(filter, qos));
    take(engine, id, V5);
    id
}

fn publisher(engine: &mut Engine) -> ConnectionId {
    let id = engine.connect();
    let version = Version::V3_1_1;
    send(engine, id, version, &with_password("pub", version, "bob", "right"));
    engine.take(id);
    id
}

/// The filter is dropped by group 0, later; nothing of it is delivered from the change of the rules on.
#[test]
fn what_is_revoked_stops_before_metadata_has_dropped_it() {
    for (filter, qos) in [
        ("a", Qos::AtMostOnce),
        ("a", Qos::AtLeastOnce),
        ("a", Qos::ExactlyOnce),
        ("$share/g/a", Qos::AtLeastOnce),
    ] {
        let mut engine = engine_with(&[("alice", "right"), ("bob", "right")]);
        let id = subscriber(&mut engine, filter, qos);
        let publisher = publisher(&mut engine);
        let publish = publish_bytes("a", &Bytes::from_static(b"x"), qos, 1);
        engine.send(publisher, &publish);
        assert_eq!(take(&mut engine, id, V5).len(), 1, "{filter} {qos:?}");
        engine.hold_commands = true;
        engine.change(administration::permit_keys("alice", &[".*", "^b"]));
        let publish = publish_bytes("a", &Bytes::from_static(b"x"), qos, 2);
        engine.send(publisher, &publish);
        assert!(take(&mut engine, id, V5).is_empty(), "{filter} {qos:?}");
        engine.release_commands();
        assert!(take(&mut engine, id, V5).is_empty(), "{filter} {qos:?}");
        assert!(engine.is_open(id));
        // Likewise for a right that is there again in the meantime.
        engine.change(administration::permit_keys("alice", &[".*", ".*"]));
        send(&mut engine, id, V5, &subscribe_packet(filter, qos));
        engine.hold_commands = true;
        engine.change(administration::permit_keys("alice", &[".*", "^b"]));
        engine.change(administration::permit_keys("alice", &[".*", ".*"]));
        send(&mut engine, id, V5, &subscribe_packet(filter, qos));
        engine.release_commands();
        take(&mut engine, id, V5);
        let publish = publish_bytes("a", &Bytes::from_static(b"x"), qos, 3);
        engine.send(publisher, &publish);
        let last = take(&mut engine, id, V5).pop();
        assert!(matches!(last, Some(Packet::Publish(_))), "{filter} {qos:?}: {last:?}");
    }
}

#[test]
fn a_subscription_that_is_granted_too_late_is_refused() {
    for filter in ["a", "$share/g/a"] {
        let mut engine = engine_with(&[("alice", "right"), ("bob", "right")]);
        let id = subscriber(&mut engine, "b", Qos::AtLeastOnce);
        engine.hold_commands = true;
        send(&mut engine, id, V5, &subscribe_packet(filter, Qos::AtLeastOnce));
        engine.change(administration::permit_keys("alice", &[".*", "^b"]));
        engine.release_commands();
        let Packet::Suback(suback) = take_one(&mut engine, id) else { panic!("an answer") };
        assert_eq!(suback.reasons, [ReasonCode::NotAuthorized], "{filter}");
        let session = engine.session(id).client.session.expect("open");
        let session = engine.metadata.session(session).expect("open");
        assert_eq!(session.subscriptions.keys().collect::<Vec<_>>(), ["b"]);
    }
}

#[test]
fn who_cannot_be_unsubscribed_is_sent_away() {
    let mut engine = engine_with(&[("alice", "right"), ("bob", "right")]);
    let id = subscriber(&mut engine, "a", Qos::AtLeastOnce);
    engine.is_deposed = true;
    engine.change(administration::permit_keys("alice", &[".*", "^b"]));
    assert!(!engine.is_open(id));
}

/// What was in the member's hands and not sent goes to a member who may have it.
#[test]
fn a_shared_delivery_that_was_not_sent_goes_to_another_member() {
    let mut engine = engine_with(&[("alice", "right"), ("bob", "right")]);
    let id = engine.connect();
    let mut connect = connect("sub", V5);
    connect.properties = [Property::ReceiveMaximum(1)].into_iter().collect();
    connect.user_name = Some("alice".to_owned());
    connect.password = Some(Secret::new("right"));
    send(&mut engine, id, V5, &Packet::Connect(Box::new(connect)));
    send(&mut engine, id, V5, &subscribe_packet("$share/g/a", Qos::AtLeastOnce));
    send(&mut engine, id, V5, &subscribe_packet("b", Qos::AtLeastOnce));
    take(&mut engine, id, V5);
    let bob = publisher(&mut engine);
    // The first leaves no room for the second.
    engine.send(bob, &publish_bytes("b", &Bytes::new(), Qos::AtLeastOnce, 1));
    engine.send(bob, &publish_bytes("a", &Bytes::new(), Qos::AtLeastOnce, 2));
    assert_eq!(take(&mut engine, id, V5).len(), 1);
    let version = Version::V3_1_1;
    send(&mut engine, bob, version, &subscribe_packet("$share/g/a", Qos::AtMostOnce));
    engine.take(bob);
    engine.hold_commands = true;
    engine.change(administration::permit_keys("alice", &[".*", "^b"]));
    // Now there is room, but the right is gone.
    send(&mut engine, id, V5, &Packet::Puback(Acknowledgement::new(1)));
    assert!(take(&mut engine, id, V5).is_empty());
    engine.release_commands();
    let seen = take(&mut engine, bob, version);
    assert!(matches!(&seen[..], [Packet::Publish(it)] if it.topic() == b"a"), "{seen:?}");
    assert!(take(&mut engine, id, V5).is_empty());
}

/// What one user may do, as the table has it.
#[derive(Clone, Copy)]
struct Role {
    name: &'static str,
    /// Rights, a line each; empty for a user without any.
    rights: &'static [&'static str],
    /// Lets in, publishes, subscribes, leaves a will; `y` or `n`.
    expect: &'static str,
}

const ROLES: &[Role] = &[
    Role { name: "nobody", rights: &[], expect: "nnnn" },
    Role { name: "wrong password", rights: &["permit user .* .* .*"], expect: "nnnn" },
    Role { name: "without rights", rights: &[], expect: "nnnn" },
    Role { name: "read only", rights: &["permit user - - .*"], expect: "ynyn" },
    Role { name: "write only", rights: &["permit user - .* -"], expect: "yyny" },
    Role { name: "configure only", rights: &["permit user .* - -"], expect: "ynnn" },
    Role { name: "everything", rights: &["permit user .* .* .*"], expect: "yyyy" },
    Role {
        name: "denied to write by a rule",
        rights: &["permit user .* .* .*", "rule deny write a/# user"],
        expect: "ynyn",
    },
    Role {
        name: "denied to read by a rule for everybody",
        rights: &["permit user .* .* .*", "rule deny read +/b *"],
        expect: "yyny",
    },
    Role {
        name: "denied by a rule elsewhere",
        rights: &["permit user .* .* .*", "rule deny all other/# user"],
        expect: "yyyy",
    },
    Role {
        name: "keys that fit",
        rights: &["permit user - .* .*", "permitkeys user ^a\\.b$ ^a\\.b$"],
        expect: "yyyy",
    },
    Role {
        name: "keys that do not",
        rights: &["permit user - .* .*", "permitkeys user ^x ^x"],
        expect: "ynnn",
    },
    Role { name: "a rule", rights: &["rule allow all a/+ user"], expect: "yyyy" },
    Role { name: "a rule for reading", rights: &["rule allow read a/b user"], expect: "ynyn" },
    Role { name: "a rule elsewhere", rights: &["rule allow all b/# user"], expect: "ynnn" },
    Role {
        name: "a rule with its own name",
        rights: &["rule allow all %u/b user"],
        expect: "ynnn",
    },
    Role {
        name: "a rule with its client identifier",
        rights: &["rule allow all %c/b user"],
        expect: "yyyy",
    },
    Role {
        name: "no right to the topic of that name",
        rights: &["topic a.b", "permit user - ^amq\\.topic$ ^amq\\.topic$"],
        expect: "ynnn",
    },
    Role {
        name: "a right to the topic as well",
        rights: &["topic a.b", "permit user - ^(amq\\.topic|a\\.b)$ ^(amq\\.topic|a\\.b)$"],
        expect: "yyyy",
    },
    Role {
        name: "denied the topic of that name",
        rights: &["topic a.b", "permit user .* .* .*", "rule deny all topic:a.b user"],
        expect: "ynnn",
    },
];

/// The rights are there when it comes, or take the place of every right while it is connected and
/// subscribed.
#[derive(Clone, Copy, PartialEq, Debug)]
enum When {
    Before,
    Meanwhile,
}

fn give(engine: &mut Engine, rights: &[&str]) {
    for line in rights {
        let words: Vec<&str> = line.split(' ').collect();
        match words[0] {
            "permit" => engine.change(administration::permit(words[1], &words[2..])),
            "permitkeys" => engine.change(administration::permit_keys(words[1], &words[2..])),
            "topic" => engine.command(administration::create_topic(words[1])),
            _ => engine.change(administration::rule(&words[1..])),
        }
    }
}

/// What happens to the four operations, in the order of [`Role::expect`].
fn outcome(role: &Role, version: Version, when: When) -> String {
    let mut engine = Engine::new();
    engine.passwords.insert("user".to_owned(), "right".to_owned());
    engine.change(administration::add_user("user"));
    let id = engine.connect();
    match when {
        When::Before => {
            give(&mut engine, role.rights);
            send(&mut engine, id, version, &login(role, version, false));
        }
        When::Meanwhile => {
            engine.change(administration::permit("user", &[".*", ".*", ".*"]));
            send(&mut engine, id, version, &login(role, version, false));
            send(&mut engine, id, version, &subscribe_packet("a/b", Qos::AtMostOnce));
            give(&mut engine, role.rights);
            if !role.rights.iter().any(|line| line.starts_with("permit ")) {
                let (user, namespace) = ("user".to_owned(), super::NAMESPACE);
                engine.change(AccessCommand::ClearPermissions { user, namespace });
            }
        }
    }
    take(&mut engine, id, version);
    let is_in = engine.is_open(id);
    let session = is_in.then(|| engine.session(id).client.session).flatten();
    let session = session.and_then(|session| engine.metadata.session(session));
    let is_subscribed = session.is_some_and(|it| it.subscriptions.contains_key("a/b"));
    engine.send(id, &publish_at(version, Qos::AtLeastOnce));
    let publishes = take(&mut engine, id, version)
        .iter()
        .any(|packet| matches!(packet, Packet::Puback(puback) if !puback.reason.is_failure()));
    let subscribes = match when {
        When::Before => subscribes(&mut engine, role, version),
        When::Meanwhile => is_subscribed,
    };
    let id = engine.connect();
    send(&mut engine, id, version, &login(role, version, true));
    let seen = [is_in, publishes, subscribes, engine.is_open(id)];
    seen.map(|is_allowed| if is_allowed { 'y' } else { 'n' }).iter().collect()
}

/// On a connection of its own: before version 5 a refused publish has ended the other.
fn subscribes(engine: &mut Engine, role: &Role, version: Version) -> bool {
    let id = engine.connect();
    send(engine, id, version, &login(role, version, false));
    take(engine, id, version);
    send(engine, id, version, &subscribe_packet("a/b", Qos::AtMostOnce));
    take(engine, id, version)
        .iter()
        .any(|packet| matches!(packet, Packet::Suback(suback) if !suback.reasons[0].is_failure()))
}

fn login(role: &Role, version: Version, has_will: bool) -> Packet {
    let mut connect = connect("a", version);
    if role.name != "nobody" {
        let password = if role.name == "wrong password" { "wrong" } else { "right" };
        connect.user_name = Some("user".to_owned());
        connect.password = Some(Secret::new(password));
    }
    connect.will = has_will.then(|| crate::codec::Will {
        topic: "a/b".to_owned(),
        payload: Bytes::from_static(b"bye"),
        qos: Qos::AtMostOnce,
        retain: false,
        properties: Properties::default(),
    });
    Packet::Connect(Box::new(connect))
}

fn publish_at(version: Version, qos: Qos) -> Bytes {
    let mut bytes = publish_bytes("a/b", &Bytes::from_static(b"x"), qos, 9).to_vec();
    if version.is_v5() {
        // No properties, behind topic and identifier.
        bytes.insert(9, 0);
        bytes[1] += 1;
    }
    bytes.into()
}

#[test]
fn who_may_do_what() {
    let mut wrong = String::new();
    for role in ROLES {
        for version in [Version::V3_1, Version::V3_1_1, V5] {
            for when in [When::Before, When::Meanwhile] {
                if when == When::Meanwhile && role.expect.starts_with('n') {
                    continue;
                }
                let seen = outcome(role, version, when);
                if seen != role.expect {
                    let Role { name, expect, .. } = role;
                    wrong += &format!("\n{name}, {version:?}, {when:?}: {seen}, not {expect}");
                }
            }
        }
    }
    assert!(wrong.is_empty(), "let in, publish, subscribe, will:{wrong}");
}

/// Identifiers bound what a client may begin and not finish, and version 5 the receive maximum.
#[test]
fn publishes_that_are_begun_and_never_finished_are_bounded() {
    let mut engine = engine_with(&[("alice", "right")]);
    let version = Version::V3_1_1;
    let id = engine.connect();
    send(&mut engine, id, version, &with_password("c", version, "alice", "right"));
    engine.take(id);
    let count = 200_000u32;
    let mut bytes = BytesMut::new();
    let mut answers = 0;
    for number in 0..count {
        let packet = (number % 65_535) as u16 + 1;
        bytes.extend_from_slice(&publish_bytes("t", &Bytes::new(), Qos::ExactlyOnce, packet));
        if bytes.len() > 1 << 18 {
            engine.send(id, &bytes.split());
            answers += engine.take(id).len() / 4;
        }
    }
    engine.send(id, &bytes);
    answers += engine.take(id).len() / 4;
    assert_eq!(answers, count as usize, "each is answered");
    assert_eq!(engine.session(id).incoming.open_count(), 65_535);
    assert_eq!(engine.meter.messages_in, 65_535, "a repetition is none");

    let id = engine.connect();
    send(&mut engine, id, V5, &with_password("v5", V5, "alice", "right"));
    engine.take(id);
    for number in 0..=engine.limits.receive_maximum {
        assert!(engine.is_open(id), "{number}");
        let mut bytes = publish_bytes("t", &Bytes::new(), Qos::ExactlyOnce, number + 1).to_vec();
        bytes.push(0);
        bytes[1] += 1;
        engine.send(id, &bytes);
    }
    let last = take(&mut engine, id, V5).pop().expect("an answer");
    assert!(
        matches!(&last, Packet::Disconnect(it) if it.reason == ReasonCode::ReceiveMaximumExceeded),
        "{last:?}"
    );
}
