//! What a message carries: who wrote it, its number, and a pattern that both determine, so that a reader knows every
//! byte of it.

const MAGIC: [u8; 4] = *b"KTOR";
const HEAD_BYTES: usize = 4 + 4 + 2 + 8;
/// Most bodies are up to this large...
const SMALL_BYTES_MAX: u64 = 700;
/// ...and one in so many is up to [`LARGE_BYTES_MAX`].
const LARGE_ONE_IN: u64 = 200;
const LARGE_BYTES_MAX: u64 = 40_000;

/// The name of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// Tells the messages of one run from what other runs left behind.
    pub run: u32,
    pub writer: u16,
    pub sequence: u64,
}

/// A mix of the name in which every bit counts (the finalizer of MurmurHash3).
fn mix(name: Name) -> u64 {
    let mut x = name.sequence ^ (u64::from(name.writer) << 48) ^ (u64::from(name.run) << 16);
    x = (x ^ (x >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    x = (x ^ (x >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

pub fn encode(name: Name) -> Vec<u8> {
    let mixed = mix(name);
    let most = if mixed.is_multiple_of(LARGE_ONE_IN) { LARGE_BYTES_MAX } else { SMALL_BYTES_MAX };
    let filler = (mixed >> 8) % most;
    let mut out = Vec::with_capacity(HEAD_BYTES + filler as usize);
    out.extend(MAGIC);
    out.extend(name.run.to_be_bytes());
    out.extend(name.writer.to_be_bytes());
    out.extend(name.sequence.to_be_bytes());
    let pattern = mixed.to_be_bytes();
    out.extend((0..filler as usize).map(|i| pattern[i % 8]));
    out
}

/// The name, if the body is exactly what its writer wrote.
pub fn decode(body: &[u8]) -> Option<Name> {
    let head = body.get(..HEAD_BYTES)?;
    let name = Name {
        run: u32::from_be_bytes(head[4..8].try_into().ok()?),
        writer: u16::from_be_bytes(head[8..10].try_into().ok()?),
        sequence: u64::from_be_bytes(head[10..18].try_into().ok()?),
    };
    (encode(name) == body).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_names_itself_and_no_changed_byte_passes() {
        for sequence in 0..500 {
            let name = Name { run: 7, writer: 3, sequence };
            let mut body = encode(name);
            assert_eq!(decode(&body), Some(name));
            let at = sequence as usize % body.len();
            body[at] ^= 1;
            assert_ne!(decode(&body), Some(name));
            body[at] ^= 1;
            body.push(0);
            assert_eq!(decode(&body), None);
        }
        assert_eq!(decode(b""), None);
    }
}
