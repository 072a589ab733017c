//! SCRAM (RFC 5802) as a dishonest client speaks it.

use std::num::NonZeroU32;

use base64ct::{Base64, Encoding};
use ring::{digest, hmac, pbkdf2};

use super::{start_secured, PASSWORD, USER};
use crate::wire::kafka;

const NONCE: &str = "fyko+d2lbbFgONRv9qkxdawL";

/// What the broker's first step says: its nonce, salt and iterations.
fn read_step(step: &str) -> (String, Vec<u8>, NonZeroU32) {
    let mut parts = step.split(',').map(|part| part.split_once('=').unwrap().1);
    let nonce = parts.next().unwrap().to_owned();
    let salt = Base64::decode_vec(parts.next().unwrap()).unwrap();
    (nonce, salt, parts.next().unwrap().parse().unwrap())
}

/// The last step that names `nonce`, with a proof of the password over the very words that are sent.
fn last_step(server_first: &str, nonce: &str) -> Vec<u8> {
    let (_, salt, iterations) = read_step(server_first);
    let mut salted = [0; 32];
    let password = PASSWORD.as_bytes();
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, password, &mut salted);
    let sign = |key: &[u8], data: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data);
    let client_key = sign(&salted, b"Client Key");
    let stored = digest::digest(&digest::SHA256, client_key.as_ref());
    let bare = format!("c=biws,r={nonce}");
    let words = format!("n={USER},r={NONCE},{server_first},{bare}");
    let signature = sign(stored.as_ref(), words.as_bytes());
    let proof: Vec<u8> =
        client_key.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
    format!("{bare},p={}", Base64::encode_string(&proof)).into_bytes()
}

fn begin(address: &str, user: &str) -> (kafka::Client, String) {
    let mut client = kafka::Client::connect(address).unwrap();
    assert_eq!(client.handshake("SCRAM-SHA-256").unwrap(), 0);
    let (code, step) = client.say(format!("n,,n={user},r={NONCE}").as_bytes()).unwrap();
    assert_eq!(code, 0, "the first step of {user}");
    (client, String::from_utf8(step).unwrap())
}

/// The whole nonce is looked at (CVE-2024-56128), and who is not there is met like who is.
#[test]
fn scram() {
    let broker = start_secured("class-scram");
    let at = &broker.addresses.kafka;
    let (mut client, step) = begin(at, USER);
    let (nonce, ..) = read_step(&step);
    assert_eq!(client.say(&last_step(&step, &nonce)).unwrap().0, 0, "an honest client");
    let tampered: [fn(&str) -> String; 4] = [
        |_| NONCE.to_owned(),
        |nonce| nonce[..nonce.len() - 1].to_owned(),
        |nonce| format!("{nonce}x"),
        |nonce| format!("{}{}", NONCE, &nonce[NONCE.len()..].replace(|_: char| true, "x")),
    ];
    for tamper in tampered {
        let (mut client, step) = begin(at, USER);
        let (nonce, ..) = read_step(&step);
        let (code, _) = client.say(&last_step(&step, &tamper(&nonce))).unwrap();
        assert_ne!(code, 0, "{} for {nonce}", tamper(&nonce));
    }
    // The same salt each time, the same work, and no more to learn from it.
    let unknown: Vec<_> = (0..2).map(|_| read_step(&begin(at, "nobody").1)).collect();
    let (_, salt, iterations) = read_step(&step);
    assert_eq!(unknown[0].1, unknown[1].1, "a decoy's salt");
    assert_eq!((unknown[0].1.len(), unknown[0].2), (salt.len(), iterations));
}
