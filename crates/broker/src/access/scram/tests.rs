use super::*;
use crate::access::{AccessCommand, AccessLimits, User, Verifiers};

/// RFC 7677 §3: user `user`, password `pencil`.
const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";
const CLIENT_NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const PROOF: &str = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SIGNATURE: &str = "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

fn rng() -> SecretRng {
    SecretRng::new(&[3; 32])
}

fn access_with(mechanism: Mechanism, password: &str, salt: &[u8], iterations: u32) -> Access {
    let mut verifiers = Verifiers::default();
    *verifiers.scram_mut(mechanism) =
        Some(Verifier::of_password(mechanism, &Secret::new(password), salt.to_vec(), iterations));
    let mut access = Access::default();
    let add = AccessCommand::AddUser {
        name: "user".to_owned(),
        user: User { verifiers, ..User::default() },
        decoy_key: vec![9; 32],
    };
    access.apply(add, &AccessLimits::default()).expect("a sound user");
    access
}

#[test]
fn the_example_of_rfc_7677_is_understood() {
    let salt = from_base64(SALT).expect("base64");
    let access = access_with(Mechanism::Sha256, "pencil", &salt, 4096);
    let first = format!("n,,n=user,r={CLIENT_NONCE}");
    let (mut exchange, _) =
        ServerExchange::begin(Mechanism::Sha256, first.as_bytes(), &access, &mut rng())
            .expect("a sound first message");
    // The nonce of the example, in place of ours.
    exchange.nonce = format!("{CLIENT_NONCE}{SERVER_NONCE}");
    exchange.auth_message_start =
        format!("n=user,r={CLIENT_NONCE},r={},s={SALT},i=4096", exchange.nonce);
    let last = format!("c=biws,r={},p={PROOF}", exchange.nonce);
    assert_eq!(exchange.finish(last.as_bytes()), Ok(format!("v={SIGNATURE}")));
}

/// A client that knows this password, and may lie about the nonce or the channel.
fn last_message(
    mechanism: Mechanism,
    password: &str,
    first: &str,
    server_first: &str,
    spoil: impl Fn(&mut String, &mut String),
) -> String {
    let field = |name: &str| {
        let mut fields = server_first.split(',');
        fields.find_map(|field| field.strip_prefix(name)).expect("the field").to_owned()
    };
    let salt = from_base64(&field("s=")).expect("base64");
    let iterations = field("i=").parse().expect("a number");
    let (mut nonce, mut binding) = (field("r="), "biws".to_owned());
    spoil(&mut nonce, &mut binding);
    let count = NonZeroU32::new(iterations).expect("positive");
    let salted = mechanism.salted(password.as_bytes(), &salt, count);
    let client_key = mechanism.hmac(&salted, b"Client Key");
    let without_proof = format!("c={binding},r={nonce}");
    let bare = &first[3..];
    let auth_message = format!("{bare},{server_first},{without_proof}");
    let signature = mechanism.hmac(&mechanism.hash(&client_key), auth_message.as_bytes());
    let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
    format!("{without_proof},p={}", base64(&proof))
}

fn log_in(user: &str, password: &str, spoil: impl Fn(&mut String, &mut String)) -> Vec<bool> {
    let mut outcomes = Vec::new();
    for mechanism in Mechanism::ALL {
        let access = access_with(mechanism, "pencil", &[1; 16], 4096);
        let first = format!("n,,n={user},r=abc");
        let (exchange, server_first) =
            ServerExchange::begin(mechanism, first.as_bytes(), &access, &mut rng())
                .expect("a sound first message");
        let last = last_message(mechanism, password, &first, &server_first, &spoil);
        outcomes.push(exchange.finish(last.as_bytes()).is_ok());
    }
    outcomes
}

#[test]
fn only_who_knows_the_password_is_let_in() {
    assert_eq!(log_in("user", "pencil", |_, _| {}), [true, true]);
    assert_eq!(log_in("user", "pencils", |_, _| {}), [false, false]);
    assert_eq!(log_in("nobody", "pencil", |_, _| {}), [false, false]);
}

#[test]
fn a_nonce_or_channel_that_is_not_ours_ends_it() {
    let shorter = |nonce: &mut String, _: &mut String| {
        nonce.pop();
    };
    assert_eq!(log_in("user", "pencil", shorter), [false, false]);
    let longer = |nonce: &mut String, _: &mut String| nonce.push('x');
    assert_eq!(log_in("user", "pencil", longer), [false, false]);
    let own_only = |nonce: &mut String, _: &mut String| nonce.truncate(3);
    assert_eq!(log_in("user", "pencil", own_only), [false, false]);
    let other_channel = |_: &mut String, binding: &mut String| *binding = "eSws".to_owned();
    assert_eq!(log_in("user", "pencil", other_channel), [false, false]);
}

#[test]
fn a_user_who_does_not_exist_looks_like_one_who_does() {
    let access = access_with(Mechanism::Sha256, "pencil", &[1; 16], ITERATIONS);
    let ask = |user: &str, seed: u8| {
        let first = format!("n,,n={user},r=abc");
        let mut rng = SecretRng::new(&[seed; 32]);
        let (_, server_first) =
            ServerExchange::begin(Mechanism::Sha256, first.as_bytes(), &access, &mut rng)
                .expect("a sound first message");
        server_first.split_once(",s=").expect("a salt").1.to_owned()
    };
    assert_eq!(ask("nobody", 1), ask("nobody", 2), "the same salt each time");
    assert_ne!(ask("nobody", 1), ask("somebody", 1));
    assert_eq!(ask("nobody", 1).len(), ask("user", 1).len());
}

#[test]
fn malformed_first_messages_are_named() {
    let access = access_with(Mechanism::Sha256, "pencil", &[1; 16], 4096);
    let check = |message: &str, expect: ScramError| {
        let begun =
            ServerExchange::begin(Mechanism::Sha256, message.as_bytes(), &access, &mut rng());
        assert_eq!(begun.err(), Some(expect), "{message}");
    };
    check("", ScramError::InvalidEncoding);
    check("n,,", ScramError::InvalidEncoding);
    check("n,,n=user", ScramError::InvalidEncoding);
    check("n,,n=,r=abc", ScramError::InvalidEncoding);
    check("n,,n=user,r=", ScramError::InvalidEncoding);
    check("n,,n=us=er,r=abc", ScramError::InvalidEncoding);
    check("n,a=other,n=user,r=abc", ScramError::InvalidEncoding);
    check("x,,n=user,r=abc", ScramError::InvalidEncoding);
    check("p=tls-unique,,n=user,r=abc", ScramError::ChannelBindingNotSupported);
    check("n,,m=ext,n=user,r=abc", ScramError::ExtensionsNotSupported);
    check(&format!("n,,n=user,r={}", "a".repeat(5000)), ScramError::InvalidEncoding);
    let own_name = b"n,a=user,n=user,r=abc";
    assert!(ServerExchange::begin(Mechanism::Sha256, own_name, &access, &mut rng()).is_ok());
}

#[test]
fn names_are_escaped_and_base64_is_strict() {
    assert_eq!(unescaped("a=2Cb=3Dc").as_deref(), Some("a,b=c"));
    assert_eq!(unescaped("a=2cb"), None);
    assert_eq!(unescaped("a="), None);
    for bytes in [&b""[..], b"f", b"fo", b"foo", b"foob", b"\xff\x00\x7f"] {
        assert_eq!(from_base64(&base64(bytes)).as_deref(), Some(bytes));
    }
    assert_eq!(base64(b"foob"), "Zm9vYg==");
    for text in ["Z", "Zm9v=", "Zm9vYh==", "Zm9v\n", "====", "Zm 9"] {
        assert_eq!(from_base64(text), None, "{text}");
    }
}
