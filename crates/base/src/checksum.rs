//! The checksums of the project: CRC-32C (Castagnoli), which RecordBatch v2, WAL frames and segments
//! all use, hardware-accelerated where the processor can; and a digest that shares nothing with it, for
//! the second look before a damaged bit is put right.

/// CRC-32C of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// CRC-32C of what `crc` was computed over, followed by `bytes`.
pub fn crc32c_append(crc: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc, bytes)
}

/// The polynomial of CRC-32C, lowest bit first.
const POLYNOMIAL: u32 = 0x82F6_3B78;

/// A longer message can have two single-bit errors of the same effect: the polynomial's period.
const CORRECTABLE_BITS_MAX: u64 = (1 << 31) - 1;

/// Index of the one bit (0 is the lowest of the first byte) that, inverted in a message of
/// `message_bytes`, changes its CRC-32C by `difference` (the exclusive or of the two). At most one bit
/// does, as long as the message is below 256 MiB. Takes a few milliseconds per MiB.
///
/// That such a bit exists proves little: by chance it does with odds of 8 * `message_bytes` in 2^32, so
/// what comes out must be checked by other means.
pub fn crc32c_flipped_bit(message_bytes: usize, difference: u32) -> Option<u64> {
    let bits = message_bytes as u64 * 8;
    if bits > CORRECTABLE_BITS_MAX || difference == 0 {
        return None;
    }
    // The checksum is linear: one bit adds what it becomes after all the shifts behind it.
    let mut effect = 1u32;
    for from_end in 1..=bits {
        let out = effect & 1;
        effect = effect >> 1 ^ (POLYNOMIAL & out.wrapping_neg());
        if effect == difference {
            return Some(bits - from_end);
        }
    }
    None
}

/// A 64-bit digest of a message given in pieces; how it is cut makes no difference. Not for use against
/// somebody who chooses the message.
///
/// Four lanes take eight bytes each in turn: `lane = (rotate(lane, 29) ^ word) * odd`. Each step is a
/// bijection of the lane, so that a change within one word never cancels out; the lanes and the length
/// are mixed at the end.
pub struct Digest {
    lanes: [u64; 4],
    block: [u8; BLOCK_BYTES],
    waiting: usize,
    bytes: u64,
}

const BLOCK_BYTES: usize = 32;
/// Odd numbers with about as many ones as zeros; their only job is to spread bits.
const SPREAD: [u64; 4] =
    [0x9E6D_62D0_6F6A_9A9B, 0xC2B2_AE35_9E37_79B1, 0xD6E8_FEB8_6659_FD93, 0xA076_1D64_78BD_642F];

impl Default for Digest {
    fn default() -> Self {
        Digest { lanes: SPREAD, block: [0; BLOCK_BYTES], waiting: 0, bytes: 0 }
    }
}

impl Digest {
    /// Of one message in one piece.
    pub fn of(bytes: &[u8]) -> u64 {
        let mut digest = Digest::default();
        digest.add(bytes);
        digest.finish()
    }

    pub fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        let mut rest = bytes;
        if self.waiting > 0 {
            let (head, tail) = rest.split_at(rest.len().min(BLOCK_BYTES - self.waiting));
            self.block[self.waiting..self.waiting + head.len()].copy_from_slice(head);
            self.waiting += head.len();
            rest = tail;
            if self.waiting < BLOCK_BYTES {
                return;
            }
            let block = self.block;
            self.take(&block);
            self.waiting = 0;
        }
        let mut blocks = rest.chunks_exact(BLOCK_BYTES);
        for block in &mut blocks {
            self.take(block);
        }
        let rest = blocks.remainder();
        self.block[..rest.len()].copy_from_slice(rest);
        self.waiting = rest.len();
    }

    fn take(&mut self, block: &[u8]) {
        for ((lane, odd), word) in self.lanes.iter_mut().zip(SPREAD).zip(block.chunks_exact(8)) {
            let word = word.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
            *lane = (lane.rotate_left(29) ^ word).wrapping_mul(odd);
        }
    }

    pub fn finish(mut self) -> u64 {
        if self.waiting > 0 {
            let mut block = [0; BLOCK_BYTES];
            block[..self.waiting].copy_from_slice(&self.block[..self.waiting]);
            self.take(&block);
        }
        let mixed = self.lanes.iter().fold(self.bytes, |mixed, lane| {
            let next = (mixed ^ lane).wrapping_mul(SPREAD[0]);
            next ^ next >> 32
        });
        let mixed = mixed.wrapping_mul(SPREAD[2]);
        mixed ^ mixed >> 29
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_vectors() {
        // RFC 3720 B.4: 32 bytes of zeros, and the check string of the polynomial.
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(crc32c_append(crc32c(b"1234"), b"56789"), crc32c(b"123456789"));
    }

    fn message(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|n| (n * 31 + n / 7) as u8).collect()
    }

    #[test]
    fn every_flipped_bit_is_found_and_no_two() {
        for bytes in [1, 7, 8, 100, 300] {
            let mut bad = message(bytes);
            let good = crc32c(&bad);
            for bit in 0..bytes as u64 * 8 {
                bad[(bit / 8) as usize] ^= 1 << (bit % 8);
                assert_eq!(crc32c_flipped_bit(bytes, crc32c(&bad) ^ good), Some(bit));
                let other = (bit * 13 + 5) % (bytes as u64 * 8);
                bad[(other / 8) as usize] ^= 1 << (other % 8);
                assert_eq!(crc32c_flipped_bit(bytes, crc32c(&bad) ^ good), None, "{bit} {other}");
                bad[(other / 8) as usize] ^= 1 << (other % 8);
                bad[(bit / 8) as usize] ^= 1 << (bit % 8);
            }
        }
        assert_eq!(crc32c_flipped_bit(100, 0), None);
    }

    #[test]
    fn the_digest_ignores_cuts_and_sees_every_bit() {
        for bytes in [0, 1, 31, 32, 33, 64, 200] {
            let mut bad = message(bytes);
            let whole = Digest::of(&bad);
            for cut in 0..bytes {
                let mut digest = Digest::default();
                digest.add(&bad[..cut / 2]);
                digest.add(&bad[cut / 2..cut]);
                digest.add(&bad[cut..]);
                assert_eq!(digest.finish(), whole, "{bytes} bytes cut at {cut}");
            }
            for bit in 0..bytes * 8 {
                bad[bit / 8] ^= 1 << (bit % 8);
                assert_ne!(Digest::of(&bad), whole, "bit {bit} of {bytes} bytes");
                bad[bit / 8] ^= 1 << (bit % 8);
            }
            bad.push(0);
            assert_ne!(Digest::of(&bad), whole, "{bytes} bytes and a zero");
        }
    }

    #[test]
    fn digests_of_similar_messages_spread() {
        let mut high = std::collections::HashSet::new();
        let mut low = std::collections::HashSet::new();
        for number in 0..20_000u64 {
            let digest = Digest::of(&number.to_le_bytes());
            high.insert(digest >> 32);
            low.insert(digest as u32);
        }
        // By chance 20,000 numbers of 32 bits repeat about 0.05 times.
        assert!(high.len() > 19_995 && low.len() > 19_995, "{} {}", high.len(), low.len());
    }
}
