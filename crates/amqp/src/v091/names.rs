//! Names: those the broker makes up, and what is done to those that clients give.

use koine_base::rng::Rng;
use koine_broker::access::SecretRng;

/// Only the broker may create names that begin so.
const RESERVED_PREFIX: &str = "amq.";

/// Of a generated name, behind its prefix.
const GENERATED_CHARACTERS: usize = 22;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// `prefix` and 22 characters: 132 bits, as many as RabbitMQ makes. Users share a permission for all
/// that begin so, and are kept apart by nobody guessing another's.
pub fn generated(prefix: &str, rng: &mut SecretRng) -> String {
    let mut name = String::with_capacity(prefix.len() + GENERATED_CHARACTERS);
    name.push_str(prefix);
    for octet in rng.bytes::<GENERATED_CHARACTERS>() {
        name.push(char::from(ALPHABET[usize::from(octet) % ALPHABET.len()]));
    }
    name
}

pub fn is_reserved(name: &str) -> bool {
    name.starts_with(RESERVED_PREFIX)
}

/// RabbitMQ drops line ends from the names of queues and exchanges.
pub fn stripped(name: &str) -> String {
    name.chars().filter(|character| !matches!(character, '\r' | '\n')).collect()
}

/// A queue's id for Kafka clients; never all zero.
pub fn object_id(rng: &mut Rng) -> [u8; 16] {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&rng.next_u64().to_be_bytes());
    id[8..].copy_from_slice(&rng.next_u64().to_be_bytes());
    id[15] |= 1;
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_differ_and_have_their_prefix() {
        let mut rng = SecretRng::new(&[1; 32]);
        let (a, b) = (generated("amq.gen-", &mut rng), generated("amq.gen-", &mut rng));
        assert_ne!(a, b);
        assert_eq!(a.len(), 8 + 22);
        assert!(is_reserved(&a));
        assert!(!is_reserved("amqp"));
    }

    #[test]
    fn line_ends_are_dropped() {
        assert_eq!(stripped("a\r\nb\n"), "ab");
    }
}
