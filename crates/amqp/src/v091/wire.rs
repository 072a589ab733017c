//! The elementary fields of a method (0-9-1 section 4.2.5): integers, bits, strings, tables. Reading
//! never copies (strings are slices of the receive buffer) and never trusts a length.

use super::error::Malformed;
use super::table::Table;
use bytes::{BufMut, Bytes, BytesMut};
use std::fmt;

/// UTF-8 text of at most 255 bytes, shared with the buffer that it came in.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct ShortString(Bytes);

impl ShortString {
    pub const LEN_MAX: usize = 255;

    /// `None` if `text` is too long or not UTF-8.
    pub fn new(text: Bytes) -> Option<Self> {
        (text.len() <= Self::LEN_MAX && std::str::from_utf8(&text).is_ok())
            .then_some(ShortString(text))
    }

    /// The longest beginning of `text` that fits and ends between two characters.
    pub fn truncated(text: &str) -> Self {
        let mut end = text.len().min(Self::LEN_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        ShortString(Bytes::copy_from_slice(&text.as_bytes()[..end]))
    }

    /// For texts of this program, which are short; longer ones are cut.
    pub fn fixed(text: &'static str) -> Self {
        if text.len() <= Self::LEN_MAX {
            return ShortString(Bytes::from_static(text.as_bytes()));
        }
        Self::truncated(text)
    }

    /// The same text in memory of its own, for what outlives the frame that it came in.
    pub fn detached(&self) -> Self {
        ShortString(Bytes::copy_from_slice(&self.0))
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("checked when this string was made")
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for ShortString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for ShortString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Octets of up to 4 GiB; not necessarily text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LongString(pub Bytes);

/// Octets that hold a password or a token: they print as nothing.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretString(pub Bytes);

impl fmt::Debug for SecretString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretString")
    }
}

/// Reads fields in order from one payload.
pub struct Reader<'a> {
    buffer: &'a Bytes,
    position: usize,
    /// The octet that holds the current run of bits, and how many of them are used. 8 = no run.
    bits: u8,
    bits_used: u8,
}

impl<'a> Reader<'a> {
    pub fn new(payload: &'a Bytes) -> Self {
        Reader { buffer: payload, position: 0, bits: 0, bits_used: 8 }
    }

    fn take(&mut self, size: usize) -> Result<&'a [u8], Malformed> {
        self.bits_used = 8;
        let end = self.position.checked_add(size).ok_or(Malformed::FieldPastEnd)?;
        let taken = self.buffer.get(self.position..end).ok_or(Malformed::FieldPastEnd)?;
        self.position = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed::FieldPastEnd)
    }

    fn shared(&mut self, size: usize) -> Result<Bytes, Malformed> {
        let start = self.position;
        self.take(size)?;
        Ok(self.buffer.slice(start..start + size))
    }

    pub fn octet(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    pub fn short(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub fn long(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub fn long_long(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    pub fn bit(&mut self) -> Result<bool, Malformed> {
        if self.bits_used == 8 {
            self.bits = self.octet()?;
            self.bits_used = 0;
        }
        let bit = self.bits >> self.bits_used & 1;
        self.bits_used += 1;
        Ok(bit == 1)
    }

    pub fn short_string(&mut self) -> Result<ShortString, Malformed> {
        let size = usize::from(self.octet()?);
        ShortString::new(self.shared(size)?).ok_or(Malformed::ShortStringNotUtf8)
    }

    pub fn long_string(&mut self) -> Result<LongString, Malformed> {
        let size = self.long()? as usize;
        self.shared(size).map(LongString)
    }

    pub fn secret_string(&mut self) -> Result<SecretString, Malformed> {
        self.long_string().map(|octets| SecretString(octets.0))
    }

    pub fn table(&mut self) -> Result<Table, Malformed> {
        Table::new(self.long_string()?.0)
    }

    /// Fails if anything is left.
    pub fn finish(self) -> Result<(), Malformed> {
        if self.position == self.buffer.len() {
            return Ok(());
        }
        Err(Malformed::TrailingBytes)
    }
}

/// Appends fields in order. The mirror of [`Reader`].
pub struct Writer<'a> {
    out: &'a mut BytesMut,
    /// How many bits of the last octet are used; 0 = no run.
    bits_used: u8,
}

impl<'a> Writer<'a> {
    pub fn new(out: &'a mut BytesMut) -> Self {
        Writer { out, bits_used: 0 }
    }

    pub fn octet(&mut self, value: u8) {
        self.bits_used = 0;
        self.out.put_u8(value);
    }

    pub fn short(&mut self, value: u16) {
        self.bits_used = 0;
        self.out.put_u16(value);
    }

    pub fn long(&mut self, value: u32) {
        self.bits_used = 0;
        self.out.put_u32(value);
    }

    pub fn long_long(&mut self, value: u64) {
        self.bits_used = 0;
        self.out.put_u64(value);
    }

    pub fn bit(&mut self, value: bool) {
        if self.bits_used == 0 {
            self.out.put_u8(0);
        }
        if let Some(last) = self.out.last_mut() {
            *last |= u8::from(value) << self.bits_used;
        }
        self.bits_used = (self.bits_used + 1) % 8;
    }

    pub fn short_string(&mut self, text: &ShortString) {
        self.short_text(text.as_bytes());
    }

    /// `text` is cut to 255 bytes.
    pub fn short_text(&mut self, text: &[u8]) {
        self.bits_used = 0;
        let size = text.len().min(ShortString::LEN_MAX);
        self.out.put_u8(size as u8);
        self.out.extend_from_slice(&text[..size]);
    }

    pub fn long_string(&mut self, octets: &[u8]) {
        self.bits_used = 0;
        let size = u32::try_from(octets.len()).expect("no buffer of this program reaches 4 GiB");
        self.out.put_u32(size);
        self.out.extend_from_slice(octets);
    }
}

/// One field of a method; which Rust type stands for which AMQP domain.
pub trait Field: Sized {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed>;
    fn write(&self, writer: &mut Writer<'_>);
}

macro_rules! fields {
    ($($type:ty, $read:ident, |$writer:ident, $value:ident| $write:expr;)*) => {$(
        impl Field for $type {
            fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
                reader.$read()
            }
            fn write(&self, $writer: &mut Writer<'_>) {
                let $value = self;
                $write;
            }
        }
    )*};
}

fields! {
    u8, octet, |writer, value| writer.octet(*value);
    u16, short, |writer, value| writer.short(*value);
    u32, long, |writer, value| writer.long(*value);
    u64, long_long, |writer, value| writer.long_long(*value);
    bool, bit, |writer, value| writer.bit(*value);
    ShortString, short_string, |writer, value| writer.short_string(value);
    LongString, long_string, |writer, value| writer.long_string(&value.0);
    SecretString, secret_string, |writer, value| writer.long_string(&value.0);
    Table, table, |writer, value| writer.long_string(value.raw());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_share_octets_until_another_field_comes() {
        let mut out = BytesMut::new();
        let mut writer = Writer::new(&mut out);
        for index in 0..9 {
            writer.bit(index % 3 == 0);
        }
        writer.octet(0xFF);
        writer.bit(true);
        assert_eq!(&out[..], [0b0100_1001, 0b0, 0xFF, 0b1]);

        let payload = out.freeze();
        let mut reader = Reader::new(&payload);
        for index in 0..9 {
            assert_eq!(reader.bit(), Ok(index % 3 == 0));
        }
        assert_eq!(reader.octet(), Ok(0xFF));
        assert_eq!(reader.bit(), Ok(true));
        assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn a_length_past_the_end_is_refused_before_anything_is_allocated() {
        let payload = Bytes::from_static(&[0xFF, 0xFF, 0xFF, 0xFF, 1]);
        assert_eq!(Reader::new(&payload).long_string(), Err(Malformed::FieldPastEnd));
        let payload = Bytes::from_static(&[3, b'a', b'b']);
        assert_eq!(Reader::new(&payload).short_string(), Err(Malformed::FieldPastEnd));
    }

    #[test]
    fn short_strings_are_utf8() {
        let payload = Bytes::from_static(&[2, 0xC3, 0x28]);
        assert_eq!(Reader::new(&payload).short_string(), Err(Malformed::ShortStringNotUtf8));
    }
}
