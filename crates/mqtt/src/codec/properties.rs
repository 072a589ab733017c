//! The properties of MQTT 5 (§2.2.2): one table of what may stand where, a checked block of raw
//! bytes, and an iterator over it. A block is kept as received, so that it can be forwarded verbatim.

use super::reader::{check_text, variable_byte_integer, Reader};
use super::writer::{
    put_field, put_variable_byte_integer, variable_byte_integer_size, FIELD_BYTES_MAX,
};
use crate::error::{DecodeError, Malformed, Violation};
use bytes::{BufMut, Bytes, BytesMut};
use std::fmt;

/// Where a property block stands. PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK and UNSUBACK permit the
/// same properties and share one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Place {
    Connect = 1 << 0,
    Connack = 1 << 1,
    Will = 1 << 2,
    Publish = 1 << 3,
    Acknowledgement = 1 << 4,
    Subscribe = 1 << 5,
    Unsubscribe = 1 << 6,
    Disconnect = 1 << 7,
    Auth = 1 << 8,
}

/// A step of a login. Prints as nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hidden<'a>(pub &'a [u8]);

impl fmt::Debug for Hidden<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden")
    }
}

/// One property. Text borrows from the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property<'a> {
    PayloadFormatIndicator(u8),
    /// Seconds.
    MessageExpiryInterval(u32),
    ContentType(&'a str),
    ResponseTopic(&'a str),
    CorrelationData(&'a [u8]),
    SubscriptionIdentifier(u32),
    /// Seconds; 0xFFFF_FFFF is "never".
    SessionExpiryInterval(u32),
    AssignedClientIdentifier(&'a str),
    /// Seconds.
    ServerKeepAlive(u16),
    AuthenticationMethod(&'a str),
    AuthenticationData(Hidden<'a>),
    RequestProblemInformation(u8),
    /// Seconds.
    WillDelayInterval(u32),
    RequestResponseInformation(u8),
    ResponseInformation(&'a str),
    ServerReference(&'a str),
    ReasonString(&'a str),
    ReceiveMaximum(u16),
    TopicAliasMaximum(u16),
    TopicAlias(u16),
    MaximumQos(u8),
    RetainAvailable(u8),
    UserProperty(&'a str, &'a str),
    MaximumPacketSize(u32),
    WildcardSubscriptionAvailable(u8),
    SubscriptionIdentifierAvailable(u8),
    SharedSubscriptionAvailable(u8),
}

#[derive(Clone, Copy)]
enum Kind {
    Byte,
    TwoByte,
    FourByte,
    Variable,
    Text,
    Binary,
    TextPair,
}

struct Rule {
    kind: Kind,
    /// Bits of [`Place`].
    places: u16,
    /// Bits of [`Place`] where it may occur more than once.
    repeats: u16,
}

const EVERYWHERE: u16 = 0x1FF;

/// The table of MQTT 5 §2.2.2.2.
fn rule(identifier: u8) -> Option<Rule> {
    use Kind::*;
    const CONNECT: u16 = Place::Connect as u16;
    const CONNACK: u16 = Place::Connack as u16;
    const WILL: u16 = Place::Will as u16;
    const PUBLISH: u16 = Place::Publish as u16;
    const ACKNOWLEDGEMENT: u16 = Place::Acknowledgement as u16;
    const SUBSCRIBE: u16 = Place::Subscribe as u16;
    const DISCONNECT: u16 = Place::Disconnect as u16;
    const AUTH: u16 = Place::Auth as u16;
    let (kind, places) = match identifier {
        0x01 => (Byte, PUBLISH | WILL),
        0x02 => (FourByte, PUBLISH | WILL),
        0x03 => (Text, PUBLISH | WILL),
        0x08 => (Text, PUBLISH | WILL),
        0x09 => (Binary, PUBLISH | WILL),
        0x0B => (Variable, PUBLISH | SUBSCRIBE),
        0x11 => (FourByte, CONNECT | CONNACK | DISCONNECT),
        0x12 => (Text, CONNACK),
        0x13 => (TwoByte, CONNACK),
        0x15 => (Text, CONNECT | CONNACK | AUTH),
        0x16 => (Binary, CONNECT | CONNACK | AUTH),
        0x17 => (Byte, CONNECT),
        0x18 => (FourByte, WILL),
        0x19 => (Byte, CONNECT),
        0x1A => (Text, CONNACK),
        0x1C => (Text, CONNACK | DISCONNECT),
        0x1F => (Text, CONNACK | ACKNOWLEDGEMENT | DISCONNECT | AUTH),
        0x21 => (TwoByte, CONNECT | CONNACK),
        0x22 => (TwoByte, CONNECT | CONNACK),
        0x23 => (TwoByte, PUBLISH),
        0x24 => (Byte, CONNACK),
        0x25 => (Byte, CONNACK),
        0x26 => (TextPair, EVERYWHERE),
        0x27 => (FourByte, CONNECT | CONNACK),
        0x28..=0x2A => (Byte, CONNACK),
        _ => return None,
    };
    let repeats = match identifier {
        0x0B => PUBLISH,
        0x26 => EVERYWHERE,
        _ => 0,
    };
    Some(Rule { kind, places, repeats })
}

/// The properties by name, in the order of their identifiers.
pub const NAMES: &[&str] = &[
    "Payload Format Indicator",
    "Message Expiry Interval",
    "Content Type",
    "Response Topic",
    "Correlation Data",
    "Subscription Identifier",
    "Session Expiry Interval",
    "Assigned Client Identifier",
    "Server Keep Alive",
    "Authentication Method",
    "Authentication Data",
    "Request Problem Information",
    "Will Delay Interval",
    "Request Response Information",
    "Response Information",
    "Server Reference",
    "Reason String",
    "Receive Maximum",
    "Topic Alias Maximum",
    "Topic Alias",
    "Maximum QoS",
    "Retain Available",
    "User Property",
    "Maximum Packet Size",
    "Wildcard Subscription Available",
    "Subscription Identifier Available",
    "Shared Subscription Available",
];

/// Reads properties one by one without knowing where they stand.
#[derive(Clone)]
struct Scan<'a> {
    rest: &'a [u8],
}

enum Value<'a> {
    Number(u32),
    Text(&'a str),
    Binary(&'a [u8]),
    TextPair(&'a str, &'a str),
}

impl<'a> Scan<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        if count > self.rest.len() {
            return Err(Malformed::Truncated);
        }
        let (taken, rest) = self.rest.split_at(count);
        self.rest = rest;
        Ok(taken)
    }

    fn number(&mut self, bytes: usize) -> Result<u32, Malformed> {
        let taken = self.take(bytes)?;
        Ok(taken.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    }

    fn field(&mut self) -> Result<&'a [u8], Malformed> {
        let count = self.number(2)?;
        self.take(count as usize)
    }

    fn value(&mut self, kind: Kind) -> Result<Value<'a>, Malformed> {
        Ok(match kind {
            Kind::Byte => Value::Number(self.number(1)?),
            Kind::TwoByte => Value::Number(self.number(2)?),
            Kind::FourByte => Value::Number(self.number(4)?),
            Kind::Variable => {
                let read = variable_byte_integer(self.rest)?;
                let (value, length) = read.ok_or(Malformed::Truncated)?;
                self.take(length)?;
                Value::Number(value)
            }
            Kind::Text => Value::Text(check_text(self.field()?)?),
            Kind::Binary => Value::Binary(self.field()?),
            Kind::TextPair => {
                let name = check_text(self.field()?)?;
                Value::TextPair(name, check_text(self.field()?)?)
            }
        })
    }

    /// The next property and its identifier; `None` at the end.
    fn step(&mut self) -> Result<Option<(u8, Property<'a>)>, Malformed> {
        let Some(identifier) = self.rest.first().copied() else {
            return Ok(None);
        };
        let rule = rule(identifier).ok_or(Malformed::Property(identifier))?;
        self.take(1)?;
        let value = self.value(rule.kind)?;
        let property = typed(identifier, value).ok_or(Malformed::Property(identifier))?;
        Ok(Some((identifier, property)))
    }
}

/// Pairs the identifier with its value; the table above makes the kinds agree.
fn typed<'a>(identifier: u8, value: Value<'a>) -> Option<Property<'a>> {
    Some(match (identifier, value) {
        (0x01, Value::Number(n)) => Property::PayloadFormatIndicator(n as u8),
        (0x02, Value::Number(n)) => Property::MessageExpiryInterval(n),
        (0x03, Value::Text(t)) => Property::ContentType(t),
        (0x08, Value::Text(t)) => Property::ResponseTopic(t),
        (0x09, Value::Binary(b)) => Property::CorrelationData(b),
        (0x0B, Value::Number(n)) => Property::SubscriptionIdentifier(n),
        (0x11, Value::Number(n)) => Property::SessionExpiryInterval(n),
        (0x12, Value::Text(t)) => Property::AssignedClientIdentifier(t),
        (0x13, Value::Number(n)) => Property::ServerKeepAlive(n as u16),
        (0x15, Value::Text(t)) => Property::AuthenticationMethod(t),
        (0x16, Value::Binary(b)) => Property::AuthenticationData(Hidden(b)),
        (0x17, Value::Number(n)) => Property::RequestProblemInformation(n as u8),
        (0x18, Value::Number(n)) => Property::WillDelayInterval(n),
        (0x19, Value::Number(n)) => Property::RequestResponseInformation(n as u8),
        (0x1A, Value::Text(t)) => Property::ResponseInformation(t),
        (0x1C, Value::Text(t)) => Property::ServerReference(t),
        (0x1F, Value::Text(t)) => Property::ReasonString(t),
        (0x21, Value::Number(n)) => Property::ReceiveMaximum(n as u16),
        (0x22, Value::Number(n)) => Property::TopicAliasMaximum(n as u16),
        (0x23, Value::Number(n)) => Property::TopicAlias(n as u16),
        (0x24, Value::Number(n)) => Property::MaximumQos(n as u8),
        (0x25, Value::Number(n)) => Property::RetainAvailable(n as u8),
        (0x26, Value::TextPair(name, text)) => Property::UserProperty(name, text),
        (0x27, Value::Number(n)) => Property::MaximumPacketSize(n),
        (0x28, Value::Number(n)) => Property::WildcardSubscriptionAvailable(n as u8),
        (0x29, Value::Number(n)) => Property::SubscriptionIdentifierAvailable(n as u8),
        (0x2A, Value::Number(n)) => Property::SharedSubscriptionAvailable(n as u8),
        _ => return None,
    })
}

/// Values that have the right type and are still forbidden.
fn value_is_permitted(property: Property<'_>) -> bool {
    match property {
        Property::PayloadFormatIndicator(n)
        | Property::RequestProblemInformation(n)
        | Property::RequestResponseInformation(n)
        | Property::MaximumQos(n)
        | Property::RetainAvailable(n)
        | Property::WildcardSubscriptionAvailable(n)
        | Property::SubscriptionIdentifierAvailable(n)
        | Property::SharedSubscriptionAvailable(n) => n <= 1,
        Property::ReceiveMaximum(n) | Property::TopicAlias(n) => n > 0,
        Property::SubscriptionIdentifier(n) | Property::MaximumPacketSize(n) => n > 0,
        Property::ResponseTopic(topic) => !topic.contains(['+', '#']),
        _ => true,
    }
}

/// Reads and checks a block property by property, handing each to `see`.
pub fn check_properties<'a>(
    block: &'a [u8],
    place: Place,
    mut see: impl FnMut(Property<'a>),
) -> Result<(), DecodeError> {
    let mut scan = Scan { rest: block };
    let mut seen = 0u64;
    while let Some((identifier, property)) = scan.step()? {
        let rule = rule(identifier).ok_or(Malformed::Property(identifier))?;
        if rule.places & place as u16 == 0 {
            return Err(Malformed::Property(identifier).into());
        }
        let bit = 1u64 << identifier;
        if seen & bit != 0 && rule.repeats & place as u16 == 0 {
            return Err(Violation::DuplicateProperty(identifier).into());
        }
        seen |= bit;
        if !value_is_permitted(property) {
            return Err(Violation::PropertyValue(identifier).into());
        }
        see(property);
    }
    Ok(())
}

/// A checked block, without its length prefix.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties(Bytes);

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Properties {
    /// Reads the length and the block.
    pub fn read(reader: &mut Reader, place: Place) -> Result<Properties, DecodeError> {
        let length = reader.variable_byte_integer()? as usize;
        let block = reader.bytes(length)?;
        check_properties(&block, place, |_| ())?;
        Ok(Properties(block))
    }

    /// Checks a block that comes from elsewhere, such as a stored record.
    pub fn from_block(block: Bytes, place: Place) -> Result<Properties, DecodeError> {
        check_properties(&block, place, |_| ())?;
        Ok(Properties(block))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The raw bytes, without length prefix.
    pub fn block(&self) -> &Bytes {
        &self.0
    }

    pub fn iter(&self) -> PropertyIter<'_> {
        properties_of(&self.0)
    }

    pub fn write(&self, out: &mut BytesMut) {
        put_variable_byte_integer(out, self.0.len());
        out.put_slice(&self.0);
    }

    /// The first value that `pick` recognises.
    pub fn find<'a, T>(&'a self, pick: impl FnMut(Property<'a>) -> Option<T>) -> Option<T> {
        self.iter().find_map(pick)
    }

    pub fn reason_string(&self) -> Option<&str> {
        self.find(|property| match property {
            Property::ReasonString(text) => Some(text),
            _ => None,
        })
    }
}

impl<'a> FromIterator<Property<'a>> for Properties {
    fn from_iter<I: IntoIterator<Item = Property<'a>>>(properties: I) -> Self {
        let mut block = BytesMut::new();
        for property in properties {
            put_property(&mut block, property);
        }
        Properties(block.freeze())
    }
}

/// Iterates over a block that was checked before; bytes that do not parse end the iteration.
pub fn properties_of(block: &[u8]) -> PropertyIter<'_> {
    PropertyIter(Scan { rest: block })
}

#[derive(Clone)]
pub struct PropertyIter<'a>(Scan<'a>);

impl<'a> Iterator for PropertyIter<'a> {
    type Item = Property<'a>;

    fn next(&mut self) -> Option<Property<'a>> {
        match self.0.step() {
            Ok(Some((_, property))) => Some(property),
            Ok(None) | Err(_) => None,
        }
    }
}

/// Appends one property. A text or binary value over [`FIELD_BYTES_MAX`] cannot be expressed: then
/// nothing is written and the answer is false.
pub fn put_property(out: &mut BytesMut, property: Property<'_>) -> bool {
    fn byte(out: &mut BytesMut, identifier: u8, value: u8) -> bool {
        out.put_slice(&[identifier, value]);
        true
    }
    fn two(out: &mut BytesMut, identifier: u8, value: u16) -> bool {
        out.put_u8(identifier);
        out.put_u16(value);
        true
    }
    fn four(out: &mut BytesMut, identifier: u8, value: u32) -> bool {
        out.put_u8(identifier);
        out.put_u32(value);
        true
    }
    fn field(out: &mut BytesMut, identifier: u8, value: &[u8]) -> bool {
        if value.len() > FIELD_BYTES_MAX {
            return false;
        }
        out.put_u8(identifier);
        put_field(out, value);
        true
    }
    match property {
        Property::PayloadFormatIndicator(n) => byte(out, 0x01, n),
        Property::MessageExpiryInterval(n) => four(out, 0x02, n),
        Property::ContentType(t) => field(out, 0x03, t.as_bytes()),
        Property::ResponseTopic(t) => field(out, 0x08, t.as_bytes()),
        Property::CorrelationData(b) => field(out, 0x09, b),
        Property::SubscriptionIdentifier(n) => {
            out.put_u8(0x0B);
            put_variable_byte_integer(out, n as usize);
            true
        }
        Property::SessionExpiryInterval(n) => four(out, 0x11, n),
        Property::AssignedClientIdentifier(t) => field(out, 0x12, t.as_bytes()),
        Property::ServerKeepAlive(n) => two(out, 0x13, n),
        Property::AuthenticationMethod(t) => field(out, 0x15, t.as_bytes()),
        Property::AuthenticationData(Hidden(b)) => field(out, 0x16, b),
        Property::RequestProblemInformation(n) => byte(out, 0x17, n),
        Property::WillDelayInterval(n) => four(out, 0x18, n),
        Property::RequestResponseInformation(n) => byte(out, 0x19, n),
        Property::ResponseInformation(t) => field(out, 0x1A, t.as_bytes()),
        Property::ServerReference(t) => field(out, 0x1C, t.as_bytes()),
        Property::ReasonString(t) => field(out, 0x1F, t.as_bytes()),
        Property::ReceiveMaximum(n) => two(out, 0x21, n),
        Property::TopicAliasMaximum(n) => two(out, 0x22, n),
        Property::TopicAlias(n) => two(out, 0x23, n),
        Property::MaximumQos(n) => byte(out, 0x24, n),
        Property::RetainAvailable(n) => byte(out, 0x25, n),
        Property::UserProperty(name, text) => {
            if text.len() > FIELD_BYTES_MAX || !field(out, 0x26, name.as_bytes()) {
                return false;
            }
            put_field(out, text.as_bytes());
            true
        }
        Property::MaximumPacketSize(n) => four(out, 0x27, n),
        Property::WildcardSubscriptionAvailable(n) => byte(out, 0x28, n),
        Property::SubscriptionIdentifierAvailable(n) => byte(out, 0x29, n),
        Property::SharedSubscriptionAvailable(n) => byte(out, 0x2A, n),
    }
}

/// Encoded size of a subscription identifier property.
pub fn subscription_identifier_size(identifier: u32) -> usize {
    1 + variable_byte_integer_size(identifier as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EACH: &[(u8, Place, Property<'static>)] = &[
        (0x01, Place::Publish, Property::PayloadFormatIndicator(1)),
        (0x02, Place::Will, Property::MessageExpiryInterval(7)),
        (0x03, Place::Publish, Property::ContentType("text/plain")),
        (0x08, Place::Publish, Property::ResponseTopic("answer/1")),
        (0x09, Place::Publish, Property::CorrelationData(&[0, 1, 255])),
        (0x0B, Place::Subscribe, Property::SubscriptionIdentifier(268_435_455)),
        (0x11, Place::Connect, Property::SessionExpiryInterval(u32::MAX)),
        (0x12, Place::Connack, Property::AssignedClientIdentifier("c")),
        (0x13, Place::Connack, Property::ServerKeepAlive(60)),
        (0x15, Place::Auth, Property::AuthenticationMethod("SCRAM")),
        (0x16, Place::Auth, Property::AuthenticationData(Hidden(b"x"))),
        (0x17, Place::Connect, Property::RequestProblemInformation(0)),
        (0x18, Place::Will, Property::WillDelayInterval(3)),
        (0x19, Place::Connect, Property::RequestResponseInformation(1)),
        (0x1A, Place::Connack, Property::ResponseInformation("r")),
        (0x1C, Place::Disconnect, Property::ServerReference("s")),
        (0x1F, Place::Acknowledgement, Property::ReasonString("why")),
        (0x21, Place::Connect, Property::ReceiveMaximum(1)),
        (0x22, Place::Connect, Property::TopicAliasMaximum(0)),
        (0x23, Place::Publish, Property::TopicAlias(65_535)),
        (0x24, Place::Connack, Property::MaximumQos(1)),
        (0x25, Place::Connack, Property::RetainAvailable(0)),
        (0x26, Place::Unsubscribe, Property::UserProperty("näme", "välue")),
        (0x27, Place::Connect, Property::MaximumPacketSize(1)),
        (0x28, Place::Connack, Property::WildcardSubscriptionAvailable(0)),
        (0x29, Place::Connack, Property::SubscriptionIdentifierAvailable(1)),
        (0x2A, Place::Connack, Property::SharedSubscriptionAvailable(1)),
    ];

    fn block(properties: &[Property<'_>]) -> Bytes {
        properties.iter().copied().collect::<Properties>().block().clone()
    }

    #[test]
    fn each_property_reads_back_and_refuses_truncation_and_repetition() {
        for (identifier, place, property) in EACH.iter().copied() {
            let raw = block(&[property]);
            assert_eq!(raw[0], identifier);
            let read = Properties::from_block(raw.clone(), place).expect("well-formed");
            assert_eq!(read.iter().collect::<Vec<_>>(), [property]);
            for cut in 1..raw.len() {
                let result = Properties::from_block(raw.slice(..cut), place);
                assert_eq!(result, Err(Malformed::Truncated.into()), "{property:?} cut at {cut}");
            }
            let twice = Properties::from_block(block(&[property, property]), place);
            if identifier == 0x26 {
                assert!(twice.is_ok());
            } else {
                assert_eq!(twice, Err(Violation::DuplicateProperty(identifier).into()));
            }
        }
    }

    #[test]
    fn every_property_has_a_name_and_a_sample() {
        let known = (0..=255u8).filter(|identifier| rule(*identifier).is_some());
        assert!(known.eq(EACH.iter().map(|(identifier, ..)| *identifier)));
        assert_eq!(NAMES.len(), EACH.len());
    }

    #[test]
    fn unknown_and_misplaced_properties_are_malformed() {
        for identifier in [0x00, 0x04, 0x0A, 0x14, 0x2B, 0x7F, 0x80, 0xFF] {
            let result =
                Properties::from_block(Bytes::from(vec![identifier, 1, 1]), Place::Publish);
            assert_eq!(result, Err(Malformed::Property(identifier).into()));
        }
        let alias = block(&[Property::TopicAlias(1)]);
        let result = Properties::from_block(alias, Place::Will);
        assert_eq!(result, Err(Malformed::Property(0x23).into()));
    }

    #[test]
    fn forbidden_values() {
        for (property, place) in [
            (Property::PayloadFormatIndicator(2), Place::Publish),
            (Property::RequestProblemInformation(2), Place::Connect),
            (Property::RequestResponseInformation(9), Place::Connect),
            (Property::ReceiveMaximum(0), Place::Connect),
            (Property::MaximumPacketSize(0), Place::Connect),
            (Property::TopicAlias(0), Place::Publish),
            (Property::SubscriptionIdentifier(0), Place::Subscribe),
            (Property::ResponseTopic("a/#"), Place::Publish),
        ] {
            let raw = block(&[property]);
            let expect = Err(Violation::PropertyValue(raw[0]).into());
            assert_eq!(Properties::from_block(raw, place), expect, "{property:?}");
        }
    }

    #[test]
    fn a_publish_may_carry_many_subscription_identifiers_in_order() {
        let all = [1, 200, 1].map(Property::SubscriptionIdentifier);
        let read = Properties::from_block(block(&all), Place::Publish).expect("well-formed");
        assert_eq!(read.iter().collect::<Vec<_>>(), all);
    }

    #[test]
    fn oversized_fields_are_not_written() {
        let long = "x".repeat(FIELD_BYTES_MAX + 1);
        let mut out = BytesMut::new();
        assert!(!put_property(&mut out, Property::ContentType(&long)));
        assert!(!put_property(&mut out, Property::UserProperty("a", &long)));
        assert!(!put_property(&mut out, Property::UserProperty(&long, "a")));
        assert!(out.is_empty());
    }
}
