//! Writing the fields of a packet. The caller checks lengths that a peer chose; a field that cannot
//! be expressed is a bug here and stops the process.

use bytes::{BufMut, BytesMut};

/// The longest string or binary field (MQTT 5 §1.5.4, §1.5.6).
pub const FIELD_BYTES_MAX: usize = 65_535;

/// The encoded length of a variable byte integer.
pub fn variable_byte_integer_size(value: usize) -> usize {
    match value {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4,
    }
}

pub fn put_variable_byte_integer(out: &mut BytesMut, value: usize) {
    assert!(value <= super::reader::VARIABLE_BYTE_INTEGER_MAX as usize, "length over 256 MiB");
    let mut rest = value;
    loop {
        let byte = (rest & 0x7F) as u8;
        rest >>= 7;
        if rest == 0 {
            out.put_u8(byte);
            return;
        }
        out.put_u8(byte | 0x80);
    }
}

/// A string or binary field with its 2-byte length.
pub fn put_field(out: &mut BytesMut, field: &[u8]) {
    let length = u16::try_from(field.len()).expect("callers keep fields within FIELD_BYTES_MAX");
    out.put_u16(length);
    out.put_slice(field);
}

/// A whole packet: first byte, remaining length, body.
pub fn put_packet(out: &mut BytesMut, first: u8, body: &[u8]) {
    out.put_u8(first);
    put_variable_byte_integer(out, body.len());
    out.put_slice(body);
}

#[cfg(test)]
mod tests {
    use super::super::reader::variable_byte_integer;
    use super::*;

    #[test]
    fn variable_byte_integers_read_back() {
        for value in [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455] {
            let mut out = BytesMut::new();
            put_variable_byte_integer(&mut out, value);
            assert_eq!(out.len(), variable_byte_integer_size(value));
            let read = variable_byte_integer(&out).expect("minimal encodings are well-formed");
            assert_eq!(read, Some((value as u32, out.len())));
        }
    }
}
