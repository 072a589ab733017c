//! Big-endian reading with every length checked, and writing. All three protocols are big-endian.

use super::Malformed;

/// A checked reader; `what` names the frame in errors.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Reader { rest: bytes, what }
    }

    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub fn malformed(&self) -> Malformed {
        Malformed(self.what)
    }

    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or(self.malformed())?;
        self.rest = rest;
        Ok(head)
    }

    pub fn chunk<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(self.malformed())?;
        self.rest = rest;
        Ok(*head)
    }

    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.chunk::<1>()?[0])
    }

    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.chunk().map(u16::from_be_bytes)
    }

    pub fn i16(&mut self) -> Result<i16, Malformed> {
        self.chunk().map(i16::from_be_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.chunk().map(u32::from_be_bytes)
    }

    pub fn i32(&mut self) -> Result<i32, Malformed> {
        self.chunk().map(i32::from_be_bytes)
    }

    pub fn i64(&mut self) -> Result<i64, Malformed> {
        self.chunk().map(i64::from_be_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.chunk().map(u64::from_be_bytes)
    }

    /// Bytes behind a 16-bit length; -1 (Kafka's null) is empty.
    pub fn short_bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.i16()?;
        self.take(length.max(0) as usize)
    }

    /// Bytes behind an 8-bit length (AMQP's short string).
    pub fn tiny_bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u8()?;
        self.take(usize::from(length))
    }

    /// All bytes left.
    pub fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// A 32-bit count of elements; -1 (Kafka's null array) is none. Every element takes a byte or
    /// more, so a count above the bytes left is false.
    pub fn count(&mut self) -> Result<usize, Malformed> {
        let count = self.i32()?.max(0) as usize;
        if count > self.rest.len() {
            return Err(self.malformed());
        }
        Ok(count)
    }
}

/// Appends big-endian fields. Implemented for the one buffer type in use.
pub trait Put {
    fn put(&mut self, bytes: &[u8]);

    fn put_u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    fn put_i16(&mut self, value: i16) {
        self.put(&value.to_be_bytes());
    }

    fn put_u16(&mut self, value: u16) {
        self.put(&value.to_be_bytes());
    }

    fn put_i32(&mut self, value: i32) {
        self.put(&value.to_be_bytes());
    }

    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }

    fn put_i64(&mut self, value: i64) {
        self.put(&value.to_be_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.put(&value.to_be_bytes());
    }

    /// Text behind a 16-bit length (Kafka, MQTT).
    fn put_short_text(&mut self, text: &str) {
        self.put_u16(text.len() as u16);
        self.put(text.as_bytes());
    }

    /// Text behind an 8-bit length (AMQP).
    fn put_tiny_text(&mut self, text: &str) {
        self.put_u8(text.len() as u8);
        self.put(text.as_bytes());
    }
}

impl Put for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}
