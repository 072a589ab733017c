//! Matching of headers exchanges: what a binding's arguments ask of a message's headers. Knows no
//! wire format; the protocol hands values in as [`HeaderRef`].
//!
//! Rules as RabbitMQ has them: `x-match` is `all` (also when absent), `any`, `all-with-x` or
//! `any-with-x`; the plain two overlook wanted names that start with `x-`; a void wanted value asks
//! only for presence; numbers compare by value whatever their width; `all` without a wish is true,
//! `any` without one is false.

use bytes::Bytes;
use std::cmp::Ordering;

/// A header or argument value as our own: protocols map their tables to it.
#[derive(Clone, Debug)]
pub enum HeaderValue {
    Bool(bool),
    Int(i64),
    Float(f64),
    /// Text and byte strings alike.
    Bytes(Bytes),
    /// Seconds or milliseconds, as the protocol counts.
    Timestamp(i64),
    /// Present without a value.
    Void,
    /// A table or array in the protocol's own encoding: equal if the bytes are.
    Nested(Bytes),
}

/// [`HeaderValue`] borrowed from wherever the message keeps it.
#[derive(Clone, Copy, Debug)]
pub enum HeaderRef<'a> {
    Bool(bool),
    Int(i64),
    Float(f64),
    Bytes(&'a [u8]),
    Timestamp(i64),
    Void,
    Nested(&'a [u8]),
}

/// The headers of a message that is being routed.
pub trait Headers {
    /// The value of the first header of this name. Called once for each name that a binding wants.
    fn find(&self, name: &[u8]) -> Option<HeaderRef<'_>>;
}

/// A message without headers.
pub struct NoHeaders;

impl Headers for NoHeaders {
    fn find(&self, _name: &[u8]) -> Option<HeaderRef<'_>> {
        None
    }
}

impl Headers for [(Vec<u8>, HeaderValue)] {
    fn find(&self, name: &[u8]) -> Option<HeaderRef<'_>> {
        self.iter().find(|(held, _)| held == name).map(|(_, value)| value.as_ref())
    }
}

impl Headers for Vec<(Vec<u8>, HeaderValue)> {
    fn find(&self, name: &[u8]) -> Option<HeaderRef<'_>> {
        self.as_slice().find(name)
    }
}

impl HeaderValue {
    pub fn as_ref(&self) -> HeaderRef<'_> {
        match self {
            HeaderValue::Bool(value) => HeaderRef::Bool(*value),
            HeaderValue::Int(value) => HeaderRef::Int(*value),
            HeaderValue::Float(value) => HeaderRef::Float(*value),
            HeaderValue::Bytes(value) => HeaderRef::Bytes(value),
            HeaderValue::Timestamp(value) => HeaderRef::Timestamp(*value),
            HeaderValue::Void => HeaderRef::Void,
            HeaderValue::Nested(value) => HeaderRef::Nested(value),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            HeaderValue::Bool(_) => 0,
            HeaderValue::Int(_) => 1,
            HeaderValue::Float(_) => 2,
            HeaderValue::Bytes(_) => 3,
            HeaderValue::Timestamp(_) => 4,
            HeaderValue::Void => 5,
            HeaderValue::Nested(_) => 6,
        }
    }

    fn size(&self) -> usize {
        match self {
            HeaderValue::Bytes(value) | HeaderValue::Nested(value) => value.len(),
            _ => 8,
        }
    }
}

/// Identity, not meaning: `Int(1)` and `Float(1.0)` make two bindings, as two declarations would.
impl Ord for HeaderValue {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (HeaderValue::Bool(a), HeaderValue::Bool(b)) => a.cmp(b),
            (HeaderValue::Int(a), HeaderValue::Int(b)) => a.cmp(b),
            (HeaderValue::Float(a), HeaderValue::Float(b)) => a.total_cmp(b),
            (HeaderValue::Bytes(a), HeaderValue::Bytes(b)) => a.cmp(b),
            (HeaderValue::Timestamp(a), HeaderValue::Timestamp(b)) => a.cmp(b),
            (HeaderValue::Nested(a), HeaderValue::Nested(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for HeaderValue {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for HeaderValue {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for HeaderValue {}

impl HeaderRef<'_> {
    /// Equality as headers exchanges see it.
    pub fn equals(self, other: HeaderRef<'_>) -> bool {
        use HeaderRef::{Bool, Bytes, Float, Int, Nested, Timestamp, Void};
        match (self, other) {
            (Bool(a), Bool(b)) => a == b,
            (Int(a) | Timestamp(a), Int(b) | Timestamp(b)) => a == b,
            (Float(a), Float(b)) => a == b,
            (Int(a) | Timestamp(a), Float(b)) | (Float(b), Int(a) | Timestamp(a)) => {
                // 2^63 is a float, i64::MAX is not: compare without rounding the integer.
                let whole = b.fract() == 0.0 && (-TWO_POW_63..TWO_POW_63).contains(&b);
                whole && b as i64 == a
            }
            (Bytes(a), Bytes(b)) | (Nested(a), Nested(b)) => a == b,
            (Void, Void) => true,
            _ => false,
        }
    }
}

const TWO_POW_63: f64 = 9_223_372_036_854_775_808.0;

/// The arguments of a binding, in an order of their own so that the order in which a client wrote
/// them makes no second binding.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arguments(Vec<(Vec<u8>, HeaderValue)>);

impl Arguments {
    pub const NONE: Arguments = Arguments(Vec::new());

    pub fn new(mut arguments: Vec<(Vec<u8>, HeaderValue)>) -> Arguments {
        arguments.sort();
        Arguments(arguments)
    }

    /// In order of name, then value.
    pub fn as_slice(&self) -> &[(Vec<u8>, HeaderValue)] {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Roughly the memory that they take beside the list itself.
    pub fn size(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.size()).sum()
    }
}

/// `x-match` holds something other than the four words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadMatchMode;

/// A binding's arguments made ready to be asked.
#[derive(Clone, Debug)]
pub struct HeaderMatch {
    any: bool,
    wanted: Vec<(Vec<u8>, HeaderValue)>,
}

impl HeaderMatch {
    pub fn parse(arguments: &Arguments) -> Result<HeaderMatch, BadMatchMode> {
        let mode = arguments.as_slice().iter().find(|(name, _)| name == b"x-match");
        let (any, with_x) = match mode.map(|(_, value)| value.as_ref()) {
            None | Some(HeaderRef::Bytes(b"all")) => (false, false),
            Some(HeaderRef::Bytes(b"any")) => (true, false),
            Some(HeaderRef::Bytes(b"all-with-x")) => (false, true),
            Some(HeaderRef::Bytes(b"any-with-x")) => (true, true),
            Some(_) => return Err(BadMatchMode),
        };
        let wanted = arguments
            .as_slice()
            .iter()
            .filter(|(name, _)| name != b"x-match" && (with_x || !name.starts_with(b"x-")))
            .cloned()
            .collect();
        Ok(HeaderMatch { any, wanted })
    }

    /// Asks for each wanted name at most once.
    pub fn matches(&self, headers: &dyn Headers) -> bool {
        let mut wishes = self.wanted.iter().map(|(name, wanted)| match headers.find(name) {
            None => false,
            Some(found) => matches!(wanted, HeaderValue::Void) || wanted.as_ref().equals(found),
        });
        if self.any {
            wishes.any(|granted| granted)
        } else {
            wishes.all(|granted| granted)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> HeaderValue {
        HeaderValue::Bytes(Bytes::copy_from_slice(value.as_bytes()))
    }

    fn table(entries: &[(&str, HeaderValue)]) -> Vec<(Vec<u8>, HeaderValue)> {
        entries.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.clone())).collect()
    }

    fn check(binding: &[(&str, HeaderValue)], message: &[(&str, HeaderValue)], expect: bool) {
        let wanted = HeaderMatch::parse(&Arguments::new(table(binding))).unwrap();
        assert_eq!(wanted.matches(&table(message)), expect, "{binding:?} on {message:?}");
    }

    #[test]
    fn all_and_any() {
        use HeaderValue::{Int, Void};
        let ab = [("a", Int(1)), ("b", text("x"))];
        check(&ab, &[("b", text("x")), ("a", Int(1)), ("c", Void)], true);
        check(&ab, &[("a", Int(1))], false);
        check(&ab, &[("a", Int(1)), ("b", text("y"))], false);
        check(&ab, &[], false);
        check(&[], &[], true);
        check(&[], &[("a", Int(1))], true);
        let any = [("x-match", text("any")), ("a", Int(1)), ("b", text("x"))];
        check(&any, &[("a", Int(1))], true);
        check(&any, &[("a", Int(2)), ("b", text("x"))], true);
        check(&any, &[("a", Int(2)), ("b", text("y"))], false);
        check(&any, &[], false);
        check(&[("x-match", text("any"))], &[("a", Int(1))], false);
        check(&[("x-match", text("all")), ("a", Int(1))], &[("a", Int(1))], true);
    }

    #[test]
    fn names_that_start_with_x_count_only_in_the_with_x_modes() {
        use HeaderValue::Int;
        let binding = |mode: &str| [("x-match", text(mode)), ("x-a", Int(1)), ("b", Int(2))];
        check(&binding("all"), &[("b", Int(2))], true);
        check(&binding("all-with-x"), &[("b", Int(2))], false);
        check(&binding("all-with-x"), &[("b", Int(2)), ("x-a", Int(1))], true);
        check(&binding("any"), &[("x-a", Int(1))], false);
        check(&binding("any-with-x"), &[("x-a", Int(1))], true);
        check(&[("x-a", Int(1))], &[], true);
        // x-match itself is never a wish.
        check(&[("x-match", text("all-with-x"))], &[], true);
    }

    #[test]
    fn void_asks_for_presence_and_numbers_compare_by_value() {
        use HeaderValue::{Bool, Float, Int, Nested, Timestamp, Void};
        check(&[("a", Void)], &[("a", text("anything"))], true);
        check(&[("a", Void)], &[("a", Void)], true);
        check(&[("a", Void)], &[("b", Void)], false);
        check(&[("a", Int(1))], &[("a", Void)], false);
        check(&[("a", Int(1))], &[("a", Float(1.0))], true);
        check(&[("a", Float(1.5))], &[("a", Int(1))], false);
        check(&[("a", Timestamp(7))], &[("a", Int(7))], true);
        check(&[("a", Int(i64::MAX))], &[("a", Float(TWO_POW_63))], false);
        check(&[("a", Int(i64::MIN))], &[("a", Float(-TWO_POW_63))], true);
        check(&[("a", Float(f64::NAN))], &[("a", Int(0))], false);
        check(&[("a", Bool(true))], &[("a", Int(1))], false);
        check(&[("a", Int(1))], &[("a", text("1"))], false);
        let nested = |bytes: &'static [u8]| Nested(Bytes::from_static(bytes));
        check(&[("a", nested(b"t"))], &[("a", nested(b"t"))], true);
        check(&[("a", nested(b"t"))], &[("a", text("t"))], false);
    }

    #[test]
    fn a_bad_match_mode_is_refused_and_argument_order_is_no_identity() {
        for mode in [text("most"), text(""), HeaderValue::Int(1), HeaderValue::Void] {
            let arguments = Arguments::new(table(&[("x-match", mode)]));
            assert_eq!(HeaderMatch::parse(&arguments).err(), Some(BadMatchMode));
        }
        let (a, b) = (("a", HeaderValue::Int(1)), ("b", HeaderValue::Void));
        assert_eq!(
            Arguments::new(table(&[a.clone(), b.clone()])),
            Arguments::new(table(&[b, a.clone()]))
        );
        assert_ne!(
            Arguments::new(table(&[a])),
            Arguments::new(table(&[("a", HeaderValue::Float(1.0))]))
        );
    }
}
