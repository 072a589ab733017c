//! Zigzag variable-length integers, as in records: 7 bits a byte, least significant first. The
//! sign moves to bit 0 so that small negative numbers stay short.

use super::BatchError;

/// Most bytes of a 32-bit number.
pub const VARINT_BYTES_MAX: usize = 5;
/// Most bytes of a 64-bit number.
pub const VARLONG_BYTES_MAX: usize = 10;

/// Reads a 32-bit number at `*position` and moves it behind the number.
#[inline]
pub fn read_varint(bytes: &[u8], position: &mut usize) -> Result<i32, BatchError> {
    let first = *bytes.get(*position).ok_or(BatchError::BadRecord)?;
    if first < 0x80 {
        *position += 1;
        return Ok(unzigzag(u64::from(first)) as i32);
    }
    let raw = read_long(bytes, position, VARINT_BYTES_MAX)?;
    let raw = u32::try_from(raw).map_err(|_| BatchError::BadVarint)?;
    Ok(unzigzag(u64::from(raw)) as i32)
}

/// Reads a 64-bit number at `*position` and moves it behind the number.
#[inline]
pub fn read_varlong(bytes: &[u8], position: &mut usize) -> Result<i64, BatchError> {
    let first = *bytes.get(*position).ok_or(BatchError::BadRecord)?;
    if first < 0x80 {
        *position += 1;
        return Ok(unzigzag(u64::from(first)));
    }
    Ok(unzigzag(read_long(bytes, position, VARLONG_BYTES_MAX)?))
}

fn read_long(bytes: &[u8], position: &mut usize, bytes_max: usize) -> Result<u64, BatchError> {
    let mut value = 0u64;
    for index in 0..bytes_max {
        let byte = *bytes.get(*position).ok_or(BatchError::BadRecord)?;
        *position += 1;
        let bits = u64::from(byte & 0x7F);
        // The tenth byte holds only bit 63.
        if index == VARLONG_BYTES_MAX - 1 && bits > 1 {
            return Err(BatchError::BadVarint);
        }
        value |= bits << (7 * index);
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(BatchError::BadVarint)
}

#[inline]
fn unzigzag(raw: u64) -> i64 {
    (raw >> 1) as i64 ^ -((raw & 1) as i64)
}

#[inline]
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Bytes that [`put_varlong`] writes. A 32-bit number has the same form in both widths.
#[inline]
pub fn varlong_bytes(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Writes `value` at `*position` of `out`, which has room for it, and moves the position.
#[inline]
pub fn put_varlong(out: &mut [u8], position: &mut usize, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out[*position] = rest as u8 | 0x80;
        *position += 1;
        rest >>= 7;
    }
    out[*position] = rest as u8;
    *position += 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_lengths() {
        let mut values = vec![0, 1, -1, 63, -64, 64, -65, i64::from(i32::MAX), i64::from(i32::MIN)];
        values.extend([i64::MAX, i64::MIN]);
        for shift in 0..63 {
            values.extend([1i64 << shift, -(1i64 << shift), (1i64 << shift) - 1]);
        }
        for value in values {
            let mut out = [0; VARLONG_BYTES_MAX];
            let mut end = 0;
            put_varlong(&mut out, &mut end, value);
            assert_eq!(end, varlong_bytes(value), "{value}");
            let mut position = 0;
            assert_eq!(read_varlong(&out[..end], &mut position), Ok(value));
            assert_eq!(position, end);
            let mut position = 0;
            let narrow = read_varint(&out[..end], &mut position);
            match i32::try_from(value) {
                Ok(fits) => assert_eq!(narrow, Ok(fits)),
                Err(_) => assert_eq!(narrow, Err(BatchError::BadVarint)),
            }
        }
    }

    #[test]
    fn malformed() {
        let check = |bytes: &[u8], expect| {
            assert_eq!(read_varint(bytes, &mut 0), Err(expect), "{bytes:?}");
        };
        check(&[], BatchError::BadRecord);
        check(&[0x80], BatchError::BadRecord);
        check(&[0x80, 0x80, 0x80, 0x80, 0x80], BatchError::BadVarint);
        check(&[0xFF, 0xFF, 0xFF, 0xFF, 0x10], BatchError::BadVarint);
        let long = |bytes: &[u8]| read_varlong(bytes, &mut 0);
        assert_eq!(long(&[0x80; 11]), Err(BatchError::BadVarint));
        assert_eq!(
            long(&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 2]),
            Err(BatchError::BadVarint)
        );
        assert_eq!(long(&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1]), Ok(i64::MIN));
    }
}
