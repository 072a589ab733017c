//! Checked reading of one packet's body. Every length is compared with what is there before it is
//! used; strings and binary fields are slices of the input, not copies.

use crate::error::Malformed;
use bytes::Bytes;

/// The largest value of a variable byte integer (MQTT 5 §1.5.5).
pub const VARIABLE_BYTE_INTEGER_MAX: u32 = 268_435_455;

/// Reads a variable byte integer at the start of `input`: the value and its encoded length.
/// `None` if `input` ends first. Encodings that are longer than needed are accepted, as every broker
/// does.
pub fn variable_byte_integer(input: &[u8]) -> Result<Option<(u32, usize)>, Malformed> {
    let mut value = 0u32;
    for (index, byte) in input.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((value, index + 1)));
        }
    }
    if input.len() >= 4 {
        return Err(Malformed::VariableByteInteger);
    }
    Ok(None)
}

/// UTF-8 without U+0000 (§1.5.4); Rust's check already refuses surrogates.
pub fn check_text(bytes: &[u8]) -> Result<&str, Malformed> {
    let text = std::str::from_utf8(bytes).map_err(|_| Malformed::Text)?;
    if text.as_bytes().contains(&0) {
        return Err(Malformed::Text);
    }
    Ok(text)
}

/// A cursor over the body of one packet.
pub struct Reader {
    body: Bytes,
    at: usize,
}

impl Reader {
    pub fn new(body: Bytes) -> Reader {
        Reader { body, at: 0 }
    }

    /// Bytes read so far.
    pub fn position(&self) -> usize {
        self.at
    }

    pub fn remaining(&self) -> usize {
        self.body.len() - self.at
    }

    pub fn u8(&mut self) -> Result<u8, Malformed> {
        let byte = *self.body.get(self.at).ok_or(Malformed::Truncated)?;
        self.at += 1;
        Ok(byte)
    }

    pub fn u16(&mut self) -> Result<u16, Malformed> {
        let high = self.u8()?;
        let low = self.u8()?;
        Ok(u16::from_be_bytes([high, low]))
    }

    pub fn variable_byte_integer(&mut self) -> Result<u32, Malformed> {
        match variable_byte_integer(&self.body[self.at..])? {
            Some((value, length)) => {
                self.at += length;
                Ok(value)
            }
            None => Err(Malformed::Truncated),
        }
    }

    /// The next `count` bytes, shared with the input.
    pub fn bytes(&mut self, count: usize) -> Result<Bytes, Malformed> {
        if count > self.remaining() {
            return Err(Malformed::Truncated);
        }
        let bytes = self.body.slice(self.at..self.at + count);
        self.at += count;
        Ok(bytes)
    }

    /// Binary data with its 2-byte length.
    pub fn binary(&mut self) -> Result<Bytes, Malformed> {
        let count = usize::from(self.u16()?);
        self.bytes(count)
    }

    /// A UTF-8 string with its 2-byte length.
    pub fn text(&mut self) -> Result<String, Malformed> {
        let count = usize::from(self.u16()?);
        if count > self.remaining() {
            return Err(Malformed::Truncated);
        }
        let text = check_text(&self.body[self.at..self.at + count])?;
        self.at += count;
        Ok(text.to_owned())
    }

    /// What is left, shared with the input.
    pub fn rest(&mut self) -> Bytes {
        let rest = self.body.slice(self.at..);
        self.at = self.body.len();
        rest
    }

    /// Ends the packet: nothing may be left.
    pub fn finish(self) -> Result<(), Malformed> {
        if self.remaining() > 0 {
            return Err(Malformed::TrailingBytes);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_byte_integers() {
        fn check(input: &[u8], expect: Result<Option<(u32, usize)>, Malformed>) {
            assert_eq!(variable_byte_integer(input), expect, "{input:02x?}");
        }
        check(&[], Ok(None));
        check(&[0x80], Ok(None));
        check(&[0xFF, 0xFF, 0xFF], Ok(None));
        check(&[0x00], Ok(Some((0, 1))));
        check(&[0x7F, 9], Ok(Some((127, 1))));
        check(&[0x80, 0x01], Ok(Some((128, 2))));
        check(&[0xFF, 0x7F], Ok(Some((16_383, 2))));
        check(&[0x80, 0x80, 0x01], Ok(Some((16_384, 3))));
        check(&[0x80, 0x80, 0x80, 0x01], Ok(Some((2_097_152, 4))));
        check(&[0xFF, 0xFF, 0xFF, 0x7F], Ok(Some((VARIABLE_BYTE_INTEGER_MAX, 4))));
        check(&[0x80, 0x00], Ok(Some((0, 2))));
        check(&[0xFF, 0xFF, 0xFF, 0xFF], Err(Malformed::VariableByteInteger));
        check(&[0x80, 0x80, 0x80, 0x80, 0x01], Err(Malformed::VariableByteInteger));
    }

    #[test]
    fn texts() {
        assert_eq!(check_text("grüße".as_bytes()), Ok("grüße"));
        assert_eq!(check_text(b""), Ok(""));
        for bad in [&b"a\0b"[..], b"\xED\xA0\x80", b"\xFF", b"\xC0\x80"] {
            assert_eq!(check_text(bad), Err(Malformed::Text), "{bad:02x?}");
        }
    }
}
