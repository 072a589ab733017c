//! The few encodings that deltas and snapshots of this crate are made of: unsigned variable-length
//! numbers and byte strings behind their length. The bytes come from our own log, checksummed there,
//! yet a damaged or newer one must end in an error, never in a panic or a large allocation.

use std::fmt;

/// Why a snapshot or delta cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotError {
    /// The bytes end too early.
    Truncated,
    /// The format number is not one this version knows.
    UnknownFormat(u8),
    /// A value contradicts its neighbours or its type.
    BadValue,
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotError::Truncated => write!(f, "snapshot is cut short"),
            SnapshotError::UnknownFormat(format) => write!(f, "unknown snapshot format {format}"),
            SnapshotError::BadValue => write!(f, "snapshot holds a value out of range"),
        }
    }
}

impl std::error::Error for SnapshotError {}

/// Seven bits a byte, least significant first.
pub fn put_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Zigzag, so that -1 takes one byte.
pub fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_number(out, ((value << 1) ^ (value >> 63)) as u64);
}

pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub fn take_byte(input: &mut &[u8]) -> Result<u8, SnapshotError> {
    let (&byte, rest) = input.split_first().ok_or(SnapshotError::Truncated)?;
    *input = rest;
    Ok(byte)
}

pub fn take_number(input: &mut &[u8]) -> Result<u64, SnapshotError> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take_byte(input)?;
        let bits = u64::from(byte & 0x7F);
        if shift == 63 && bits > 1 {
            return Err(SnapshotError::BadValue);
        }
        value |= bits << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(SnapshotError::BadValue)
}

/// A number of a narrower type.
pub fn take_as<T: TryFrom<u64>>(input: &mut &[u8]) -> Result<T, SnapshotError> {
    T::try_from(take_number(input)?).map_err(|_| SnapshotError::BadValue)
}

pub fn take_signed(input: &mut &[u8]) -> Result<i64, SnapshotError> {
    let raw = take_number(input)?;
    Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
}

/// A signed number of a narrower type.
pub fn take_signed_as<T: TryFrom<i64>>(input: &mut &[u8]) -> Result<T, SnapshotError> {
    T::try_from(take_signed(input)?).map_err(|_| SnapshotError::BadValue)
}

/// A count of things that take at least `bytes_each_min` bytes each; a false one is an error before
/// anything is allocated for it.
pub fn take_count(input: &mut &[u8], bytes_each_min: usize) -> Result<usize, SnapshotError> {
    let count: usize = take_as(input)?;
    if count > input.len() / bytes_each_min.max(1) {
        return Err(SnapshotError::Truncated);
    }
    Ok(count)
}

pub fn take_bytes<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], SnapshotError> {
    let length: usize = take_as(input)?;
    let (bytes, rest) = input.split_at_checked(length).ok_or(SnapshotError::Truncated)?;
    *input = rest;
    Ok(bytes)
}

pub fn take_text(input: &mut &[u8]) -> Result<String, SnapshotError> {
    let bytes = take_bytes(input)?;
    String::from_utf8(bytes.to_vec()).map_err(|_| SnapshotError::BadValue)
}

/// The format number that starts each snapshot.
pub fn take_format(input: &mut &[u8], known: u8) -> Result<(), SnapshotError> {
    match take_byte(input)? {
        format if format == known => Ok(()),
        format => Err(SnapshotError::UnknownFormat(format)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put_number(&mut out, value);
            put_signed(&mut out, value as i64);
            put_bytes(&mut out, b"text");
            let mut input = &out[..];
            assert_eq!(take_number(&mut input), Ok(value));
            assert_eq!(take_signed(&mut input), Ok(value as i64));
            assert_eq!(take_text(&mut input).as_deref(), Ok("text"));
            assert!(input.is_empty());
        }
    }

    #[test]
    fn malformed() {
        assert_eq!(take_number(&mut &[][..]), Err(SnapshotError::Truncated));
        assert_eq!(take_number(&mut &[0x80][..]), Err(SnapshotError::Truncated));
        assert_eq!(take_number(&mut &[0xFF; 11][..]), Err(SnapshotError::BadValue));
        assert_eq!(take_as::<u8>(&mut &[0x80, 0x02][..]), Err(SnapshotError::BadValue));
        assert_eq!(take_bytes(&mut &[5, 1, 2][..]), Err(SnapshotError::Truncated));
        assert_eq!(take_text(&mut &[1, 0xFF][..]), Err(SnapshotError::BadValue));
        assert_eq!(take_count(&mut &[9, 0, 0][..], 2), Err(SnapshotError::Truncated));
        assert_eq!(take_format(&mut &[2][..], 1), Err(SnapshotError::UnknownFormat(2)));
    }
}
