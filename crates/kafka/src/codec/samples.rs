//! Random field values for round trips.

use bytes::Bytes;
use koine_base::rng::Rng;
use koine_broker::access::Secret;

/// Of any size: small ones and borders as often as large ones.
pub fn number(rng: &mut Rng) -> i64 {
    let shift = rng.below(64);
    (rng.next_u64() as i64) >> shift
}

pub fn uuid(rng: &mut Rng) -> [u8; 16] {
    let mut out = [0; 16];
    out[..8].copy_from_slice(&rng.next_u64().to_be_bytes());
    out[8..].copy_from_slice(&rng.next_u64().to_be_bytes());
    out
}

pub fn string(rng: &mut Rng) -> String {
    const LETTERS: [char; 6] = ['a', 'Z', '0', '-', 'é', '漢'];
    // Compact lengths take a second byte from 127 on.
    let count = if rng.chance(1, 16) { 200 } else { rng.below(8) };
    (0..count).map(|_| LETTERS[rng.below(6) as usize]).collect()
}

pub fn bytes(rng: &mut Rng) -> Bytes {
    let count = rng.below(20);
    (0..count).map(|_| rng.next_u64() as u8).collect()
}

pub fn secret(rng: &mut Rng) -> Secret {
    Secret::new(bytes(rng))
}

pub fn nullable<T>(rng: &mut Rng, value: impl FnOnce(&mut Rng) -> T) -> Option<T> {
    rng.chance(2, 3).then(|| value(rng))
}

pub fn array<T>(rng: &mut Rng, mut element: impl FnMut(&mut Rng) -> T) -> Vec<T> {
    (0..rng.below(4)).map(|_| element(rng)).collect()
}
