//! A checked cursor over one received frame. Every length is compared with what is left before it is
//! used, so decoding allocates no more than a small multiple of the bytes received.

use super::STRING_BYTES_MAX;
use bytes::Bytes;
use koine_broker::access::Secret;

/// Array elements in one request, all arrays together. A decoded element is larger than its bytes on
/// the wire (a one-byte empty string becomes 24 bytes), so the frame size alone does not bound memory.
/// 2^20 elements are twice what naming 200,000 partitions takes.
const ELEMENTS_MAX: usize = 1 << 20;

/// Why a frame is not a message. The connection cannot go on after any of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The frame ends inside a field, or a length points behind its end.
    Truncated,
    /// A length below zero that does not mean null.
    NegativeLength,
    /// Null where the version does not allow it.
    Null,
    /// A string over [`STRING_BYTES_MAX`].
    StringTooLong,
    /// A string that is not UTF-8.
    NotUtf8,
    /// A varint of more than five bytes.
    VarintTooLong,
    /// More than [`ELEMENTS_MAX`] array elements.
    TooManyElements,
    /// A tagged field whose value is shorter than its size says.
    TagSize,
}

/// Reads the fields of one message in order.
pub struct Reader<'a> {
    frame: &'a Bytes,
    position: usize,
    end: usize,
    elements_left: usize,
}

impl<'a> Reader<'a> {
    pub fn new(frame: &'a Bytes) -> Self {
        Reader { frame, position: 0, end: frame.len(), elements_left: ELEMENTS_MAX }
    }

    pub fn remaining(&self) -> usize {
        self.end - self.position
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        if count > self.remaining() {
            return Err(Malformed::Truncated);
        }
        let taken = &self.frame[self.position..self.position + count];
        self.position += count;
        Ok(taken)
    }

    fn array_of<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    /// A slice of the frame that keeps the frame alive instead of copying.
    fn share(&mut self, count: usize) -> Result<Bytes, Malformed> {
        if count > self.remaining() {
            return Err(Malformed::Truncated);
        }
        let taken = self.frame.slice(self.position..self.position + count);
        self.position += count;
        Ok(taken)
    }

    pub fn bool(&mut self) -> Result<bool, Malformed> {
        Ok(self.take(1)?[0] != 0)
    }

    pub fn i8(&mut self) -> Result<i8, Malformed> {
        self.array_of().map(i8::from_be_bytes)
    }

    pub fn i16(&mut self) -> Result<i16, Malformed> {
        self.array_of().map(i16::from_be_bytes)
    }

    pub fn i32(&mut self) -> Result<i32, Malformed> {
        self.array_of().map(i32::from_be_bytes)
    }

    pub fn i64(&mut self) -> Result<i64, Malformed> {
        self.array_of().map(i64::from_be_bytes)
    }

    pub fn uuid(&mut self) -> Result<[u8; 16], Malformed> {
        self.array_of()
    }

    pub fn uvarint(&mut self) -> Result<u32, Malformed> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.take(1)?[0];
            if shift == 28 && byte > 0x0F {
                return Err(Malformed::VarintTooLong);
            }
            value |= u32::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed::VarintTooLong)
    }

    /// A compact length is one more than the count, with zero for null; a classic one is `i32`, or
    /// `i16` for strings, with -1 for null.
    fn length(&mut self, flexible: bool, short: bool) -> Result<Option<usize>, Malformed> {
        if flexible {
            return Ok((self.uvarint()? as usize).checked_sub(1));
        }
        let length = if short { i64::from(self.i16()?) } else { i64::from(self.i32()?) };
        match length {
            -1 => Ok(None),
            _ => usize::try_from(length).map(Some).map_err(|_| Malformed::NegativeLength),
        }
    }

    pub fn nullable_str(&mut self, flexible: bool) -> Result<Option<&'a str>, Malformed> {
        let Some(length) = self.length(flexible, true)? else {
            return Ok(None);
        };
        if length > STRING_BYTES_MAX {
            return Err(Malformed::StringTooLong);
        }
        std::str::from_utf8(self.take(length)?).map(Some).map_err(|_| Malformed::NotUtf8)
    }

    pub fn str(&mut self, flexible: bool) -> Result<&'a str, Malformed> {
        self.nullable_str(flexible)?.ok_or(Malformed::Null)
    }

    pub fn nullable_string(&mut self, flexible: bool) -> Result<Option<String>, Malformed> {
        Ok(self.nullable_str(flexible)?.map(str::to_string))
    }

    pub fn string(&mut self, flexible: bool) -> Result<String, Malformed> {
        self.str(flexible).map(str::to_string)
    }

    /// The bytes are a slice of the frame: whoever keeps them for long should copy them.
    pub fn nullable_bytes(&mut self, flexible: bool) -> Result<Option<Bytes>, Malformed> {
        match self.length(flexible, false)? {
            None => Ok(None),
            Some(length) => self.share(length).map(Some),
        }
    }

    pub fn bytes(&mut self, flexible: bool) -> Result<Bytes, Malformed> {
        self.nullable_bytes(flexible)?.ok_or(Malformed::Null)
    }

    /// A copy, which is wiped when it goes; the frame it came in is not.
    pub fn secret(&mut self, flexible: bool) -> Result<Secret, Malformed> {
        Ok(Secret::new(&self.bytes(flexible)?[..]))
    }

    /// `element_bytes_min` is the fewest bytes one element can take: a count that cannot fit into the
    /// rest of the frame is refused before anything is allocated.
    pub fn nullable_array<T>(
        &mut self,
        flexible: bool,
        element_bytes_min: usize,
        mut element: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<Vec<T>>, Malformed> {
        let Some(count) = self.length(flexible, false)? else {
            return Ok(None);
        };
        if count > self.remaining() / element_bytes_min.max(1) {
            return Err(Malformed::Truncated);
        }
        self.elements_left =
            self.elements_left.checked_sub(count).ok_or(Malformed::TooManyElements)?;
        let mut out = Vec::with_capacity(count);
        for _ in 0..count {
            out.push(element(self)?);
        }
        Ok(Some(out))
    }

    pub fn array<T>(
        &mut self,
        flexible: bool,
        element_bytes_min: usize,
        element: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        self.nullable_array(flexible, element_bytes_min, element)?.ok_or(Malformed::Null)
    }

    /// A struct that may be absent: one byte, negative for null.
    pub fn nullable_struct<T>(
        &mut self,
        decode: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        if self.i8()? < 0 {
            return Ok(None);
        }
        decode(self).map(Some)
    }

    /// The tagged fields at the end of a struct. `field` gets each tag with a reader that ends where
    /// the value ends, and says whether it knows the tag; unknown ones are skipped (KIP-482).
    pub fn tags(
        &mut self,
        mut field: impl FnMut(u32, &mut Self) -> Result<bool, Malformed>,
    ) -> Result<(), Malformed> {
        let count = self.uvarint()? as usize;
        // A tag and a size are at least one byte each.
        if count > self.remaining() / 2 {
            return Err(Malformed::Truncated);
        }
        for _ in 0..count {
            let tag = self.uvarint()?;
            let size = self.uvarint()? as usize;
            if size > self.remaining() {
                return Err(Malformed::Truncated);
            }
            let outer_end = self.end;
            let value_end = self.position + size;
            self.end = value_end;
            let known = field(tag, self)?;
            if known && self.position != value_end {
                return Err(Malformed::TagSize);
            }
            self.position = value_end;
            self.end = outer_end;
        }
        Ok(())
    }

    pub fn skip_tags(&mut self) -> Result<(), Malformed> {
        self.tags(|_, _| Ok(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Debug;

    fn check<T: PartialEq + Debug>(
        input: &[u8],
        read: impl FnOnce(&mut Reader<'_>) -> Result<T, Malformed>,
        expect: Result<T, Malformed>,
    ) {
        let frame = Bytes::copy_from_slice(input);
        assert_eq!(read(&mut Reader::new(&frame)), expect, "{input:02x?}");
    }

    #[test]
    fn varints() {
        check(&[0x00], |r| r.uvarint(), Ok(0));
        check(&[0x7F], |r| r.uvarint(), Ok(127));
        check(&[0x80, 0x01], |r| r.uvarint(), Ok(128));
        check(&[0xFF, 0xFF, 0xFF, 0xFF, 0x0F], |r| r.uvarint(), Ok(u32::MAX));
        check(&[0xFF, 0xFF, 0xFF, 0xFF, 0x1F], |r| r.uvarint(), Err(Malformed::VarintTooLong));
        check(
            &[0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
            |r| r.uvarint(),
            Err(Malformed::VarintTooLong),
        );
        check(&[0x80], |r| r.uvarint(), Err(Malformed::Truncated));
    }

    #[test]
    fn strings() {
        check(&[0, 2, b'h', b'i'], |r| r.string(false), Ok("hi".into()));
        check(&[3, b'h', b'i'], |r| r.string(true), Ok("hi".into()));
        check(&[1], |r| r.string(true), Ok(String::new()));
        check(&[0xFF, 0xFF], |r| r.nullable_string(false), Ok(None));
        check(&[0], |r| r.nullable_string(true), Ok(None));
        check(&[0xFF, 0xFF], |r| r.string(false), Err(Malformed::Null));
        check(&[0], |r| r.string(true), Err(Malformed::Null));
        check(&[0xFF, 0xFE], |r| r.string(false), Err(Malformed::NegativeLength));
        check(&[0, 3, b'h', b'i'], |r| r.string(false), Err(Malformed::Truncated));
        check(&[4, b'h', b'i'], |r| r.string(true), Err(Malformed::Truncated));
        check(&[0, 1, 0xFF], |r| r.string(false), Err(Malformed::NotUtf8));
        // 32,768 bytes: one more than an i16 length can say.
        let mut long = vec![0x81, 0x80, 0x02];
        long.resize(3 + 32768, b'x');
        check(&long, |r| r.string(true), Err(Malformed::StringTooLong));
    }

    #[test]
    fn counts_are_checked_against_the_bytes_left() {
        check(&[0, 0, 0, 2, 1, 2], |r| r.array(false, 1, |r| r.i8()), Ok(vec![1, 2]));
        check(&[3, 1, 2], |r| r.array(true, 1, |r| r.i8()), Ok(vec![1, 2]));
        check(&[0xFF; 4], |r| r.nullable_array(false, 1, |r| r.i8()), Ok(None));
        check(
            &[0x7F, 0xFF, 0xFF, 0xFF, 1],
            |r| r.array(false, 1, |r| r.i8()),
            Err(Malformed::Truncated),
        );
        check(
            &[0x80, 0, 0, 0, 1],
            |r| r.array(false, 1, |r| r.i8()),
            Err(Malformed::NegativeLength),
        );
        check(
            &[0xFF, 0xFF, 0xFF, 0xFF, 0x0F],
            |r| r.array(true, 1, |r| r.i8()),
            Err(Malformed::Truncated),
        );
        check(&[0, 0, 0, 9, 1], |r| r.bytes(false), Err(Malformed::Truncated));
        let mut many = vec![0, 0x10, 0, 1];
        many.resize(4 + (1 << 20) + 1, 0);
        check(
            &many,
            |r| r.array(false, 1, |r| r.i8()).map(|v| v.len()),
            Err(Malformed::TooManyElements),
        );
    }

    #[test]
    fn tags_are_read_or_skipped() {
        let known = |r: &mut Reader<'_>| {
            let mut value = 0;
            r.tags(|tag, r| {
                if tag == 1 {
                    value = r.i16()?;
                }
                Ok(tag == 1)
            })?;
            Ok((value, r.remaining()))
        };
        check(&[2, 0, 1, 9, 1, 2, 0, 7, 5], known, Ok((7, 1)));
        check(&[1, 1, 3, 0, 7, 5], known, Err(Malformed::TagSize));
        check(&[1, 1, 1, 0, 7, 5], known, Err(Malformed::Truncated));
        check(&[1, 0, 9, 0], |r| r.skip_tags(), Err(Malformed::Truncated));
        check(&[0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 0], |r| r.skip_tags(), Err(Malformed::Truncated));
    }
}
