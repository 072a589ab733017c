//! Changes to an input, from a seed: without knowledge of what they reach, for where there is no libFuzzer.

use koine_base::rng::Rng;

const INTERESTING: [u8; 12] = [0, 1, 2, 0x7f, 0x80, 0xfe, 0xff, 0x10, 0x20, b'/', b'#', b'F'];
const INPUT_BYTES_MAX: usize = 8 << 10;

/// One to eight changes.
pub fn mutate(input: &[u8], others: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut out = input.to_vec();
    out.truncate(INPUT_BYTES_MAX);
    for _ in 0..=rng.below(8) {
        change(&mut out, others, rng);
    }
    out.truncate(INPUT_BYTES_MAX * 2);
    out
}

fn change(out: &mut Vec<u8>, others: &[Vec<u8>], rng: &mut Rng) {
    let at = rng.below(out.len() as u64 + 1) as usize;
    match rng.below(9) {
        0 => out.insert(at, rng.next_u64() as u8),
        1 => out.insert(at, INTERESTING[rng.below(INTERESTING.len() as u64) as usize]),
        2 | 3 if at < out.len() => out[at] ^= 1 << rng.below(8),
        4 if at < out.len() => out[at] = INTERESTING[rng.below(INTERESTING.len() as u64) as usize],
        5 if at < out.len() => {
            let end = (at + 1 + rng.below(16) as usize).min(out.len());
            out.drain(at..end);
        }
        6 if at + 4 <= out.len() => {
            let number = [0, 1, u32::MAX, i32::MAX as u32, 1 << 31, 65_536][rng.below(6) as usize];
            out[at..at + 4].copy_from_slice(&number.to_be_bytes());
        }
        7 if !others.is_empty() => {
            let other = &others[rng.below(others.len() as u64) as usize];
            let from = rng.below(other.len() as u64 + 1) as usize;
            let piece = &other[from..other.len().min(from + 400)];
            out.splice(at..at, piece.iter().copied());
        }
        _ => {
            let copied = out[at..].iter().take(64).copied().collect::<Vec<u8>>();
            out.splice(at..at, copied);
        }
    }
}
