//! One damaged bit, found and put right. A single inverted bit can be told from a torn write: the
//! checksum says which bit it would have to be, and a second check that shares nothing with the first
//! says whether the result is what was written.
//!
//! It must never make up content: what does not pass both checks stays damaged. By chance bytes that
//! are not one bit away pass with odds of (bits looked at) in 2^96 for a body, and in 2^64 or less for a
//! header, whose second check is its place, its magic or its number.

use crate::format::BodyCheck;
use koine_base::checksum::{crc32c, crc32c_flipped_bit, Digest};
use koine_base::disk::{Disk, FileId};
use std::fmt;
use std::io;

/// A bit that was found inverted on disk, and what it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    pub file: String,
    /// Of the byte in the file.
    pub position: u64,
    /// The bit in the byte.
    pub mask: u8,
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Repair { file, position, mask } = self;
        write!(f, "{file}: bit {} of the byte at {position} was inverted", mask.trailing_zeros())
    }
}

/// A bit relative to the bytes that were looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flip {
    pub at: u64,
    pub mask: u8,
}

impl Flip {
    fn of(bit: u64) -> Self {
        Flip { at: bit / 8, mask: 1 << (bit % 8) }
    }

    pub(crate) fn behind(self, bytes: u64) -> Self {
        Flip { at: self.at + bytes, ..self }
    }

    pub(crate) fn in_file(self, file: &str) -> Repair {
        Repair { file: file.to_owned(), position: self.at, mask: self.mask }
    }
}

/// Inverts each bit of a small structure in turn until `decode` takes it; `bytes` is then the result.
/// `decode` must look at more than the checksum.
pub(crate) fn mend_header<T>(
    bytes: &mut [u8],
    decode: impl Fn(&[u8]) -> Option<T>,
) -> Option<(T, Flip)> {
    for bit in 0..bytes.len() as u64 * 8 {
        let flip = Flip::of(bit);
        bytes[flip.at as usize] ^= flip.mask;
        if let Some(decoded) = decode(bytes) {
            return Some((decoded, flip));
        }
        bytes[flip.at as usize] ^= flip.mask;
    }
    None
}

/// Puts right the one bit of `bytes` that keeps it from matching `check`, if that is all.
pub(crate) fn mend_body(bytes: &mut [u8], check: BodyCheck) -> Option<Flip> {
    let flip = Flip::of(crc32c_flipped_bit(bytes.len(), crc32c(bytes) ^ check.crc)?);
    bytes[flip.at as usize] ^= flip.mask;
    if Digest::of(bytes) == check.digest {
        return Some(flip);
    }
    bytes[flip.at as usize] ^= flip.mask;
    None
}

/// Inverts the bit on disk and syncs the file.
pub(crate) fn apply(disk: &dyn Disk, file: FileId, repair: &Repair) -> io::Result<()> {
    let mut byte = [0];
    if disk.read_at(file, repair.position, &mut byte)? != 1 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    disk.write_at(file, repair.position, &[&[byte[0] ^ repair.mask]])?;
    disk.sync(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_bit_is_put_right() {
        let good: Vec<u8> = (0..200u32).map(|n| (n * 7) as u8).collect();
        let check = BodyCheck::of(std::iter::once(&good[..]), 0);
        let mut bytes = good.clone();
        for bit in 0..good.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let flip = mend_body(&mut bytes, check);
            assert_eq!(flip, Some(Flip { at: bit as u64 / 8, mask: 1 << (bit % 8) }));
            assert_eq!(bytes, good);
        }
        bytes[3] ^= 1;
        bytes[180] ^= 0x10;
        let twice = bytes.clone();
        assert_eq!(mend_body(&mut bytes, check), None);
        assert_eq!(bytes, twice, "nothing is changed");
    }

    /// A body for which the checksum alone names a bit, as one torn body in 2^32 / bits does.
    #[test]
    fn the_digest_refuses_what_the_checksum_would_take() {
        let written: Vec<u8> = (0..64u32).map(|n| (n * 7) as u8).collect();
        let check = BodyCheck::of(std::iter::once(&written[..]), 0);
        let mut other = vec![0x55; 64];
        // Patch the last four bytes so that the checksum is that of `written` but for bit 9.
        let mut wanted = written.clone();
        wanted[1] ^= 2;
        let target = crc32c(&wanted);
        let patch = solve_tail(&other, crc32c(&other) ^ target);
        for (byte, patch) in other[60..].iter_mut().zip(patch.to_le_bytes()) {
            *byte ^= patch;
        }
        assert_eq!(crc32c(&other), target);
        assert!(crc32c_flipped_bit(64, crc32c(&other) ^ check.crc).is_some());
        assert_eq!(mend_body(&mut other, check), None);
    }

    /// Bits of the last four bytes whose inversion changes the checksum by `difference`.
    fn solve_tail(bytes: &[u8], difference: u32) -> u32 {
        let effect = |bit: usize| {
            let mut changed = bytes.to_vec();
            changed[bytes.len() - 4 + bit / 8] ^= 1 << (bit % 8);
            crc32c(&changed) ^ crc32c(bytes)
        };
        let mut rows: Vec<(u32, u32)> = (0..32).map(|bit| (effect(bit), 1 << bit)).collect();
        let (mut left, mut patch) = (difference, 0);
        for column in 0..32 {
            let pivot = rows.iter().position(|(effect, _)| effect >> column & 1 == 1);
            let (effect, bits) = rows.swap_remove(pivot.unwrap());
            for row in &mut rows {
                if row.0 >> column & 1 == 1 {
                    *row = (row.0 ^ effect, row.1 ^ bits);
                }
            }
            if left >> column & 1 == 1 {
                left ^= effect;
                patch ^= bits;
            }
        }
        assert_eq!(left, 0);
        patch
    }
}
