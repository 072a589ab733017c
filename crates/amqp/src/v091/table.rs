//! Field tables and arrays. A table is kept as the bytes that came in, checked once; order, duplicate
//! keys and type tags survive, and reading is a walk over the bytes. The type tags and their
//! signedness are RabbitMQ's, which differ from the printed specification.

use super::error::Malformed;
use bytes::{BufMut, Bytes, BytesMut};

/// Tables and arrays inside each other. No client nests deeper than a handful; the limit keeps the
/// check's recursion off the end of the stack.
pub const DEPTH_MAX: usize = 32;

/// One value. `'l'` and `'L'` both are signed 64-bit numbers to RabbitMQ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// `S`
    LongString(&'a [u8]),
    /// `T`, seconds since 1970
    Timestamp(u64),
    /// `b`
    Byte(i8),
    /// `B`
    UnsignedByte(u8),
    /// `s`
    Short(i16),
    /// `u`
    UnsignedShort(u16),
    /// `I`
    Int(i32),
    /// `i`
    UnsignedInt(u32),
    /// `l` and `L`
    Long(i64),
    /// `f`
    Float(f32),
    /// `d`
    Double(f64),
    /// `t`
    Bool(bool),
    /// `D`: `unscaled / 10^scale`
    Decimal { scale: u8, unscaled: u32 },
    /// `F`
    Table(TableView<'a>),
    /// `A`
    Array(ArrayView<'a>),
    /// `x`
    Binary(&'a [u8]),
    /// `V`
    Void,
}

impl<'a> Value<'a> {
    /// Any of the integer types; RabbitMQ compares arguments by value, not by type.
    pub fn as_integer(self) -> Option<i64> {
        match self {
            Value::Byte(number) => Some(number.into()),
            Value::UnsignedByte(number) => Some(number.into()),
            Value::Short(number) => Some(number.into()),
            Value::UnsignedShort(number) => Some(number.into()),
            Value::Int(number) => Some(number.into()),
            Value::UnsignedInt(number) => Some(number.into()),
            Value::Long(number) => Some(number),
            _ => None,
        }
    }

    /// The name RabbitMQ's error texts use for this type.
    pub fn type_name(self) -> &'static str {
        match self {
            Value::LongString(_) => "longstr",
            Value::Timestamp(_) => "timestamp",
            Value::Byte(_) => "byte",
            Value::UnsignedByte(_) => "unsignedbyte",
            Value::Short(_) => "short",
            Value::UnsignedShort(_) => "unsignedshort",
            Value::Int(_) => "signedint",
            Value::UnsignedInt(_) => "unsignedint",
            Value::Long(_) => "long",
            Value::Float(_) => "float",
            Value::Double(_) => "double",
            Value::Bool(_) => "bool",
            Value::Decimal { .. } => "decimal",
            Value::Table(_) => "table",
            Value::Array(_) => "array",
            Value::Binary(_) => "binary",
            Value::Void => "void",
        }
    }

    /// Type tag and value, as they stand in a table.
    pub fn encoded(self) -> Vec<u8> {
        let mut out = BytesMut::new();
        self.put(&mut out);
        out.to_vec()
    }

    /// The value that starts `encoded`; `None` if it is not well-formed.
    pub fn decode(encoded: &'a [u8]) -> Option<Value<'a>> {
        let end = check_value(encoded, 0, 0).ok()?;
        (end == encoded.len()).then_some(value_at(encoded, 0).ok()?.0)
    }

    /// Appends type tag and value.
    fn put(self, out: &mut BytesMut) {
        match self {
            Value::LongString(octets) => put_octets(out, b'S', octets),
            Value::Timestamp(seconds) => put_tagged(out, b'T', &seconds.to_be_bytes()),
            Value::Byte(number) => put_tagged(out, b'b', &number.to_be_bytes()),
            Value::UnsignedByte(number) => put_tagged(out, b'B', &[number]),
            Value::Short(number) => put_tagged(out, b's', &number.to_be_bytes()),
            Value::UnsignedShort(number) => put_tagged(out, b'u', &number.to_be_bytes()),
            Value::Int(number) => put_tagged(out, b'I', &number.to_be_bytes()),
            Value::UnsignedInt(number) => put_tagged(out, b'i', &number.to_be_bytes()),
            Value::Long(number) => put_tagged(out, b'l', &number.to_be_bytes()),
            Value::Float(number) => put_tagged(out, b'f', &number.to_be_bytes()),
            Value::Double(number) => put_tagged(out, b'd', &number.to_be_bytes()),
            Value::Bool(truth) => put_tagged(out, b't', &[u8::from(truth)]),
            Value::Decimal { scale, unscaled } => {
                put_tagged(out, b'D', &[scale]);
                out.put_u32(unscaled);
            }
            Value::Table(table) => put_octets(out, b'F', table.raw),
            Value::Array(array) => put_octets(out, b'A', array.raw),
            Value::Binary(octets) => put_octets(out, b'x', octets),
            Value::Void => out.put_u8(b'V'),
        }
    }
}

fn put_tagged(out: &mut BytesMut, tag: u8, octets: &[u8]) {
    out.put_u8(tag);
    out.extend_from_slice(octets);
}

fn put_octets(out: &mut BytesMut, tag: u8, octets: &[u8]) {
    out.put_u8(tag);
    let size = u32::try_from(octets.len()).expect("no buffer of this program reaches 4 GiB");
    out.put_u32(size);
    out.extend_from_slice(octets);
}

/// A checked table that owns (shares) its bytes. Without the four octets of length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table(Bytes);

impl Table {
    /// Checks every key, type tag, length and the nesting.
    pub fn new(raw: Bytes) -> Result<Self, Malformed> {
        check_table(&raw, 0)?;
        Ok(Table(raw))
    }

    pub fn raw(&self) -> &Bytes {
        &self.0
    }

    pub fn view(&self) -> TableView<'_> {
        TableView { raw: &self.0 }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A checked table that borrows its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableView<'a> {
    raw: &'a [u8],
}

impl<'a> TableView<'a> {
    /// Checks every key, type tag, length and the nesting.
    pub fn new(raw: &'a [u8]) -> Result<Self, Malformed> {
        check_table(raw, 0)?;
        Ok(TableView { raw })
    }

    pub fn raw(self) -> &'a [u8] {
        self.raw
    }

    pub fn is_empty(self) -> bool {
        self.raw.is_empty()
    }

    /// The entries in their order, duplicates included.
    pub fn entries(self) -> impl Iterator<Item = (&'a [u8], Value<'a>)> {
        let raw = self.raw;
        let mut position = 0;
        std::iter::from_fn(move || {
            if position >= raw.len() {
                return None;
            }
            // A view is only made of checked bytes, so neither of these fails.
            let (key, next) = key_at(raw, position).ok()?;
            let (value, next) = value_at(raw, next).ok()?;
            position = next;
            Some((key, value))
        })
    }

    /// The first entry named `name` with its bytes, type tag included.
    pub fn find_encoded(self, name: &[u8]) -> Option<(Value<'a>, &'a [u8])> {
        let mut position = 0;
        while position < self.raw.len() {
            let (key, start) = key_at(self.raw, position).ok()?;
            let (value, end) = value_at(self.raw, start).ok()?;
            if key == name {
                return Some((value, &self.raw[start..end]));
            }
            position = end;
        }
        None
    }

    /// The first entry named `key`.
    pub fn find(self, key: &str) -> Option<Value<'a>> {
        self.entries().find(|(name, _)| *name == key.as_bytes()).map(|(_, value)| value)
    }
}

/// A checked array that borrows its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArrayView<'a> {
    raw: &'a [u8],
}

impl<'a> ArrayView<'a> {
    pub fn values(self) -> impl Iterator<Item = Value<'a>> {
        let raw = self.raw;
        let mut position = 0;
        std::iter::from_fn(move || {
            if position >= raw.len() {
                return None;
            }
            let (value, next) = value_at(raw, position).ok()?;
            position = next;
            Some(value)
        })
    }
}

fn check_table(raw: &[u8], depth: usize) -> Result<(), Malformed> {
    let mut position = 0;
    while position < raw.len() {
        let (_, next) = key_at(raw, position)?;
        position = check_value(raw, next, depth)?;
    }
    Ok(())
}

fn check_array(raw: &[u8], depth: usize) -> Result<(), Malformed> {
    let mut position = 0;
    while position < raw.len() {
        position = check_value(raw, position, depth)?;
    }
    Ok(())
}

fn check_value(raw: &[u8], position: usize, depth: usize) -> Result<usize, Malformed> {
    let (value, next) = value_at(raw, position)?;
    match value {
        Value::Table(_) | Value::Array(_) if depth + 1 >= DEPTH_MAX => {
            return Err(Malformed::TooDeep)
        }
        Value::Table(table) => check_table(table.raw, depth + 1)?,
        Value::Array(array) => check_array(array.raw, depth + 1)?,
        _ => {}
    }
    Ok(next)
}

fn key_at(raw: &[u8], position: usize) -> Result<(&[u8], usize), Malformed> {
    let (size, start) = fixed_at::<1>(raw, position)?;
    octets_at(raw, start, usize::from(size[0]))
}

/// The value whose type tag is at `position`, and the position after it. Does not look inside
/// tables and arrays.
fn value_at(raw: &[u8], position: usize) -> Result<(Value<'_>, usize), Malformed> {
    let ([tag], at) = fixed_at::<1>(raw, position)?;
    Ok(match tag {
        b'S' => long_octets_at(raw, at).map(|(octets, next)| (Value::LongString(octets), next))?,
        b'T' => {
            fixed_at(raw, at).map(|(o, next)| (Value::Timestamp(u64::from_be_bytes(o)), next))?
        }
        b'b' => fixed_at(raw, at).map(|(o, next)| (Value::Byte(i8::from_be_bytes(o)), next))?,
        b'B' => {
            fixed_at(raw, at).map(|(o, next)| (Value::UnsignedByte(u8::from_be_bytes(o)), next))?
        }
        b's' => fixed_at(raw, at).map(|(o, next)| (Value::Short(i16::from_be_bytes(o)), next))?,
        b'u' => fixed_at(raw, at)
            .map(|(o, next)| (Value::UnsignedShort(u16::from_be_bytes(o)), next))?,
        b'I' => fixed_at(raw, at).map(|(o, next)| (Value::Int(i32::from_be_bytes(o)), next))?,
        b'i' => {
            fixed_at(raw, at).map(|(o, next)| (Value::UnsignedInt(u32::from_be_bytes(o)), next))?
        }
        b'l' | b'L' => {
            fixed_at(raw, at).map(|(o, next)| (Value::Long(i64::from_be_bytes(o)), next))?
        }
        b'f' => fixed_at(raw, at).map(|(o, next)| (Value::Float(f32::from_be_bytes(o)), next))?,
        b'd' => fixed_at(raw, at).map(|(o, next)| (Value::Double(f64::from_be_bytes(o)), next))?,
        b't' => fixed_at::<1>(raw, at).map(|(o, next)| (Value::Bool(o[0] != 0), next))?,
        b'D' => {
            let ([scale], at) = fixed_at::<1>(raw, at)?;
            let (unscaled, next) = fixed_at(raw, at)?;
            (Value::Decimal { scale, unscaled: u32::from_be_bytes(unscaled) }, next)
        }
        b'F' => {
            let (inner, next) = long_octets_at(raw, at)?;
            (Value::Table(TableView { raw: inner }), next)
        }
        b'A' => {
            let (inner, next) = long_octets_at(raw, at)?;
            (Value::Array(ArrayView { raw: inner }), next)
        }
        b'x' => long_octets_at(raw, at).map(|(octets, next)| (Value::Binary(octets), next))?,
        b'V' => (Value::Void, at),
        other => return Err(Malformed::ValueType(other)),
    })
}

fn fixed_at<const N: usize>(raw: &[u8], position: usize) -> Result<([u8; N], usize), Malformed> {
    let (octets, next) = octets_at(raw, position, N)?;
    Ok((octets.try_into().map_err(|_| Malformed::FieldPastEnd)?, next))
}

fn long_octets_at(raw: &[u8], position: usize) -> Result<(&[u8], usize), Malformed> {
    let (size, start) = fixed_at(raw, position)?;
    octets_at(raw, start, u32::from_be_bytes(size) as usize)
}

fn octets_at(raw: &[u8], position: usize, size: usize) -> Result<(&[u8], usize), Malformed> {
    let end = position.checked_add(size).ok_or(Malformed::FieldPastEnd)?;
    let octets = raw.get(position..end).ok_or(Malformed::FieldPastEnd)?;
    Ok((octets, end))
}

/// Makes a table. What it makes is well-formed by construction.
#[derive(Default)]
pub struct TableBuilder {
    out: BytesMut,
}

impl TableBuilder {
    pub fn new() -> Self {
        Self::default()
    }

    /// False, and nothing added, if `key` is longer than the 255 bytes a table can hold.
    pub fn put(&mut self, key: &[u8], value: Value<'_>) -> bool {
        let Ok(size) = u8::try_from(key.len()) else {
            return false;
        };
        self.out.put_u8(size);
        self.out.extend_from_slice(key);
        value.put(&mut self.out);
        true
    }

    /// For keys of this program.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: Value<'_>) -> Self {
        let added = self.put(key.as_bytes(), value);
        assert!(added, "a key of this program is over 255 bytes");
        self
    }

    pub fn finish(self) -> Table {
        Table(self.out.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use koine_base::rng::Rng;

    fn every_type() -> Table {
        let inner = TableBuilder::new().with("deep", Value::Bool(true)).finish();
        let mut array = BytesMut::new();
        Value::Int(-1).put(&mut array);
        Value::Table(inner.view()).put(&mut array);
        Value::Void.put(&mut array);
        TableBuilder::new()
            .with("S", Value::LongString(b"text"))
            .with("T", Value::Timestamp(u64::MAX))
            .with("b", Value::Byte(-128))
            .with("B", Value::UnsignedByte(255))
            .with("s", Value::Short(-32768))
            .with("u", Value::UnsignedShort(65535))
            .with("I", Value::Int(i32::MIN))
            .with("i", Value::UnsignedInt(u32::MAX))
            .with("l", Value::Long(i64::MIN))
            .with("f", Value::Float(1.5))
            .with("d", Value::Double(-2.25))
            .with("t", Value::Bool(false))
            .with("D", Value::Decimal { scale: 2, unscaled: 314 })
            .with("F", Value::Table(inner.view()))
            .with("A", Value::Array(ArrayView { raw: &array }))
            .with("x", Value::Binary(&[0, 1, 2]))
            .with("V", Value::Void)
            .with("S", Value::LongString(b"the same key again"))
            .finish()
    }

    #[test]
    fn every_type_keeps_order_duplicates_and_bytes() {
        let table = every_type();
        let again = Table::new(table.raw().clone()).unwrap();
        let mut rebuilt = TableBuilder::new();
        let mut keys = String::new();
        for (key, value) in again.view().entries() {
            assert!(rebuilt.put(key, value));
            keys.push_str(std::str::from_utf8(key).unwrap());
        }
        assert_eq!(keys, "STbBsuIilfdtDFAxVS");
        assert_eq!(rebuilt.finish(), table);
        assert_eq!(again.view().find("S"), Some(Value::LongString(b"text")));
        assert_eq!(again.view().find("missing"), None);
        let Some(Value::Array(array)) = again.view().find("A") else { panic!("an array") };
        assert_eq!(array.values().count(), 3);
    }

    #[test]
    fn upper_case_l_is_signed_and_any_nonzero_octet_is_true() {
        let raw = Bytes::from_static(b"\x01aL\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFE\x01bt\x07");
        let table = Table::new(raw).unwrap();
        assert_eq!(table.view().find("a"), Some(Value::Long(-2)));
        assert_eq!(table.view().find("b"), Some(Value::Bool(true)));
    }

    #[test]
    fn integers_compare_by_value() {
        for value in [Value::Byte(7), Value::UnsignedShort(7), Value::Long(7), Value::Int(7)] {
            assert_eq!(value.as_integer(), Some(7));
        }
        assert_eq!(Value::LongString(b"7").as_integer(), None);
    }

    #[test]
    fn every_cut_is_refused_or_ends_between_two_entries() {
        let whole = every_type();
        let mut borders = vec![0];
        let mut position = 0;
        while position < whole.raw().len() {
            let (_, next) = key_at(whole.raw(), position).unwrap();
            position = value_at(whole.raw(), next).unwrap().1;
            borders.push(position);
        }
        for end in 0..whole.raw().len() {
            let cut = Table::new(whole.raw().slice(..end));
            assert_eq!(cut.is_ok(), borders.contains(&end), "cut at {end}: {cut:?}");
        }
    }

    #[test]
    fn malformed_values_are_named() {
        let check = |raw: &'static [u8], expect: Malformed| {
            assert_eq!(Table::new(Bytes::from_static(raw)), Err(expect), "{raw:?}");
        };
        check(b"\x01az", Malformed::ValueType(b'z'));
        check(b"\x01aS\xFF\xFF\xFF\xFFab", Malformed::FieldPastEnd);
        check(b"\x01aF\x00\x00\x00\x03\x01bq", Malformed::ValueType(b'q'));
        check(b"\x01aA\x00\x00\x00\x02I\x00", Malformed::FieldPastEnd);
        check(b"\xFFa", Malformed::FieldPastEnd);
    }

    #[test]
    fn nesting_has_a_limit() {
        let nest = |levels: usize| {
            let mut table = Table::default();
            for _ in 1..levels {
                table = TableBuilder::new().with("t", Value::Table(table.view())).finish();
            }
            Table::new(table.raw().clone())
        };
        assert!(nest(DEPTH_MAX).is_ok());
        assert_eq!(nest(DEPTH_MAX + 1), Err(Malformed::TooDeep));
        // A megabyte of opening brackets must not overflow the stack either.
        let mut bomb = BytesMut::new();
        let mut left = 1u32 << 20;
        while left > 5 {
            left -= 5;
            bomb.put_u8(b'A');
            bomb.put_u32(left);
        }
        let mut table = BytesMut::from(&b"\x01a"[..]);
        table.extend_from_slice(&bomb);
        table.extend_from_slice(&vec![b'V'; left as usize]);
        assert!(Table::new(table.freeze()).is_err());
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut rng = Rng::new(11);
        for _ in 0..20_000 {
            let size = rng.below(40) as usize;
            let raw: Vec<u8> = (0..size)
                .map(|_| match rng.below(3) {
                    0 => b"STbBsuIilLfdtDFAxV"[rng.below(18) as usize],
                    1 => rng.below(4) as u8,
                    _ => rng.next_u64() as u8,
                })
                .collect();
            if let Ok(table) = Table::new(Bytes::from(raw)) {
                let _ = table.view().entries().count();
            }
        }
    }
}
