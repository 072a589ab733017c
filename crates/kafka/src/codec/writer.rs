//! Appends the fields of one message to a buffer. Nothing here can fail: what is too long for the
//! format was refused when it came in, or is cut (see [`Writer::string`]).

use super::STRING_BYTES_MAX;
use bytes::{BufMut, BytesMut};

pub struct Writer<'a> {
    out: &'a mut BytesMut,
}

impl<'a> Writer<'a> {
    pub fn new(out: &'a mut BytesMut) -> Self {
        Writer { out }
    }

    /// Bytes in the buffer so far.
    pub fn position(&self) -> usize {
        self.out.len()
    }

    pub fn bool(&mut self, value: bool) {
        self.out.put_u8(u8::from(value));
    }

    pub fn i8(&mut self, value: i8) {
        self.out.put_i8(value);
    }

    pub fn i16(&mut self, value: i16) {
        self.out.put_i16(value);
    }

    pub fn i32(&mut self, value: i32) {
        self.out.put_i32(value);
    }

    pub fn i64(&mut self, value: i64) {
        self.out.put_i64(value);
    }

    pub fn uuid(&mut self, value: &[u8; 16]) {
        self.out.put_slice(value);
    }

    pub fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.out.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.put_u8(value as u8);
    }

    /// Lengths of answers are bounded by memory, far below what the formats can say.
    fn length(&mut self, length: Option<usize>, flexible: bool) {
        let length = length.map(|length| i32::try_from(length).expect("an answer is below 2 GiB"));
        if flexible {
            self.uvarint(length.map_or(0, |length| length as u32 + 1));
        } else {
            self.out.put_i32(length.unwrap_or(-1));
        }
    }

    /// Cut at a character's border if it is over [`STRING_BYTES_MAX`]: only texts of our own, such
    /// as error messages, can be.
    pub fn string(&mut self, value: &str, flexible: bool) {
        let mut length = value.len().min(STRING_BYTES_MAX);
        while !value.is_char_boundary(length) {
            length -= 1;
        }
        if flexible {
            self.uvarint(length as u32 + 1);
        } else {
            self.out.put_i16(length as i16);
        }
        self.out.put_slice(&value.as_bytes()[..length]);
    }

    pub fn nullable_string(&mut self, value: Option<&str>, flexible: bool) {
        match value {
            Some(value) => self.string(value, flexible),
            None if flexible => self.out.put_u8(0),
            None => self.out.put_i16(-1),
        }
    }

    pub fn bytes(&mut self, value: &[u8], flexible: bool) {
        self.length(Some(value.len()), flexible);
        self.out.put_slice(value);
    }

    /// Only the length of `bytes`, for values that the caller puts in by other means.
    pub fn bytes_length(&mut self, length: Option<usize>, flexible: bool) {
        self.length(length, flexible);
    }

    pub fn array<T>(
        &mut self,
        items: &[T],
        flexible: bool,
        mut each: impl FnMut(&mut Writer<'_>, &T),
    ) {
        self.length(Some(items.len()), flexible);
        for item in items {
            each(self, item);
        }
    }

    pub fn nullable_array<T>(
        &mut self,
        items: Option<&[T]>,
        flexible: bool,
        each: impl FnMut(&mut Writer<'_>, &T),
    ) {
        match items {
            Some(items) => self.array(items, flexible, each),
            None => self.length(None, flexible),
        }
    }

    pub fn nullable_struct<T>(&mut self, item: Option<&T>, each: impl FnOnce(&mut Writer<'_>, &T)) {
        match item {
            Some(item) => {
                self.i8(1);
                each(self, item);
            }
            None => self.i8(-1),
        }
    }

    pub fn no_tags(&mut self) {
        self.out.put_u8(0);
    }

    /// One tagged field; the count of fields comes before the first.
    pub fn tag(&mut self, tag: u32, value: impl FnOnce(&mut Writer<'_>)) {
        let mut encoded = BytesMut::new();
        value(&mut Writer::new(&mut encoded));
        self.uvarint(tag);
        self.uvarint(u32::try_from(encoded.len()).expect("an answer is below 2 GiB"));
        self.out.put_slice(&encoded);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(write: impl FnOnce(&mut Writer<'_>), expect: &[u8]) {
        let mut out = BytesMut::new();
        write(&mut Writer::new(&mut out));
        assert_eq!(&out[..], expect);
    }

    #[test]
    fn lengths() {
        check(|w| w.uvarint(300), &[0xAC, 0x02]);
        check(|w| w.string("hi", true), &[3, b'h', b'i']);
        check(|w| w.string("hi", false), &[0, 2, b'h', b'i']);
        check(|w| w.nullable_string(None, true), &[0]);
        check(|w| w.nullable_string(None, false), &[0xFF, 0xFF]);
        check(|w| w.nullable_array::<i8>(None, false, |_, _| {}), &[0xFF; 4]);
        check(|w| w.array(&[1, 2], true, |w, x| w.i8(*x)), &[3, 1, 2]);
        check(|w| w.tag(5, |w| w.i16(7)), &[5, 2, 0, 7]);
    }

    #[test]
    fn long_strings_are_cut_between_characters() {
        let text = "é".repeat(20_000);
        let mut out = BytesMut::new();
        Writer::new(&mut out).string(&text, false);
        // 32,767 is odd and é has two bytes.
        assert_eq!(out.len(), 2 + 32_766);
        assert_eq!(&out[..2], &32_766u16.to_be_bytes());
    }
}
