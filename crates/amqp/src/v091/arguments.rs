//! Field tables as the broker keeps them (arguments of declarations and bindings, header values),
//! and which arguments are honoured. An `x-` argument that means something to RabbitMQ but nothing
//! here is refused by name, never accepted and ignored.

use super::error::{ReplyCode, Violation};
use super::methods::MethodId;
use super::table::{Table, TableBuilder, Value};
use super::text;
use koine_broker::message::HeaderValue;

/// One header or argument value in the common model. Decimals, tables and arrays stay in AMQP's
/// encoding, type tag included.
pub fn header_value(value: Value<'_>) -> HeaderValue {
    match value {
        Value::LongString(octets) => match std::str::from_utf8(octets) {
            Ok(text) => HeaderValue::Text(text.to_owned()),
            Err(_) => HeaderValue::Bytes(octets.to_vec()),
        },
        Value::Binary(octets) => HeaderValue::Bytes(octets.to_vec()),
        Value::Timestamp(seconds) => {
            HeaderValue::Timestamp(i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000))
        }
        Value::Float(number) => HeaderValue::Float(number.into()),
        Value::Double(number) => HeaderValue::Float(number),
        Value::Bool(truth) => HeaderValue::Bool(truth),
        Value::Void => HeaderValue::Void,
        Value::Decimal { .. } | Value::Table(_) | Value::Array(_) => {
            HeaderValue::Nested(value.encoded())
        }
        Value::Byte(_)
        | Value::UnsignedByte(_)
        | Value::Short(_)
        | Value::UnsignedShort(_)
        | Value::Int(_)
        | Value::UnsignedInt(_)
        | Value::Long(_) => HeaderValue::Int(value.as_integer().unwrap_or_default()),
    }
}

/// Adds a header of the common model to a table. Names over the 255 bytes of a key are cut.
pub fn put_header(table: &mut TableBuilder, name: &str, value: &HeaderValue) {
    let mut end = name.len().min(255);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    let value = match value {
        HeaderValue::Void => Value::Void,
        HeaderValue::Bool(truth) => Value::Bool(*truth),
        HeaderValue::Int(number) => Value::Long(*number),
        HeaderValue::Float(number) => Value::Double(*number),
        HeaderValue::Text(text) => Value::LongString(text.as_bytes()),
        HeaderValue::Bytes(octets) => Value::Binary(octets),
        HeaderValue::Timestamp(ms) => match u64::try_from(*ms / 1000) {
            Ok(seconds) => Value::Timestamp(seconds),
            Err(_) => Value::Long(*ms),
        },
        // Only this protocol nests in this encoding; another's bytes go as bytes.
        HeaderValue::Nested(raw) => Value::decode(raw).unwrap_or(Value::Binary(raw)),
    };
    table.put(&name.as_bytes()[..end], value);
}

/// The members of an array of nothing but text.
pub fn texts_of_array(value: Value<'_>) -> Option<Vec<&[u8]>> {
    let Value::Array(array) = value else {
        return None;
    };
    let texts = array.values().map(|value| match value {
        Value::LongString(octets) => Some(octets),
        _ => None,
    });
    texts.collect()
}

/// A table in the broker's form, order and duplicates kept.
pub fn list(table: &Table) -> Vec<(String, HeaderValue)> {
    let entries = table.view().entries();
    entries
        .map(|(name, value)| (String::from_utf8_lossy(name).into_owned(), header_value(value)))
        .collect()
}

/// What a declaration or consumer may carry.
pub struct Honoured {
    names: &'static [HonouredName],
}

/// A name, and whether a value of it is one that is honoured.
type HonouredName = (&'static str, fn(Value<'_>) -> bool);

pub const QUEUE: Honoured = Honoured { names: &[("x-queue-type", is_classic)] };
pub const EXCHANGE: Honoured = Honoured { names: &[] };
pub const CONSUMER: Honoured = Honoured { names: &[("x-priority", is_priority)] };

/// Not spelt `x-` but known to RabbitMQ.
const ALSO_CHECKED: &str = "alternate-exchange";

fn is_classic(value: Value<'_>) -> bool {
    value == Value::LongString(b"classic")
}

fn is_priority(value: Value<'_>) -> bool {
    priority_of(value).is_some()
}

fn priority_of(value: Value<'_>) -> Option<i32> {
    i32::try_from(value.as_integer()?).ok()
}

impl Honoured {
    /// 406 with the name of the first argument that is not honoured. `what` is it that has the
    /// arguments, as `text` names it.
    pub fn check(&self, table: &Table, what: &str, method: MethodId) -> Result<(), Violation> {
        for (name, value) in table.view().entries() {
            if !name.starts_with(b"x-") && name != ALSO_CHECKED.as_bytes() {
                continue;
            }
            let known = self.names.iter().find(|(known, _)| known.as_bytes() == name);
            let explanation = match known {
                Some((_, is_valid)) if is_valid(value) => continue,
                Some(_) => "the value is not supported",
                None => "the argument is not supported",
            };
            let name = String::from_utf8_lossy(name);
            let explanation = format!("invalid arg '{name}' for {what}: {explanation}");
            return Err(Violation::new(ReplyCode::PreconditionFailed, &explanation, method));
        }
        Ok(())
    }
}

/// `x-priority` of a consumer; 0 without.
pub fn consumer_priority(table: &Table) -> i32 {
    table.view().find("x-priority").and_then(priority_of).unwrap_or(0)
}

/// Compares one property of a redeclaration with what exists (RabbitMQ's equivalence rules).
pub fn equivalent<T: PartialEq + std::fmt::Display>(
    name: &str,
    what: &str,
    received: T,
    current: T,
    method: MethodId,
) -> Result<(), Violation> {
    if received == current {
        return Ok(());
    }
    let explanation = text::inequivalent(name, what, &received, &current);
    Err(Violation::new(ReplyCode::PreconditionFailed, &explanation, method))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_that_are_not_honoured_are_named() {
        let check = |honoured: &Honoured, table: TableBuilder, expect: Option<&str>| {
            let found = honoured.check(&table.finish(), "queue 'q' in vhost '/'", (50, 10));
            let named = found.err().map(|violation| violation.reply_text.to_string());
            let expect = expect.map(|rest| format!("PRECONDITION_FAILED - invalid arg {rest}"));
            assert_eq!(named, expect);
        };
        let with = |name, value| TableBuilder::new().with(name, value);
        check(&QUEUE, TableBuilder::new(), None);
        check(&QUEUE, with("x-queue-type", Value::LongString(b"classic")), None);
        check(&QUEUE, with("comment", Value::Bool(true)), None);
        check(
            &QUEUE,
            with("x-queue-type", Value::LongString(b"quorum")),
            Some("'x-queue-type' for queue 'q' in vhost '/': the value is not supported"),
        );
        check(
            &QUEUE,
            with("x-message-ttl", Value::Int(1000)),
            Some("'x-message-ttl' for queue 'q' in vhost '/': the argument is not supported"),
        );
        check(
            &EXCHANGE,
            with("alternate-exchange", Value::LongString(b"ae")),
            Some("'alternate-exchange' for queue 'q' in vhost '/': the argument is not supported"),
        );
        check(&CONSUMER, with("x-priority", Value::Byte(-3)), None);
        check(
            &CONSUMER,
            with("x-priority", Value::LongString(b"high")),
            Some("'x-priority' for queue 'q' in vhost '/': the value is not supported"),
        );
    }

    #[test]
    fn header_values_cross_to_the_common_model_and_back() {
        let table = TableBuilder::new()
            .with("text", Value::LongString("é".as_bytes()))
            .with("bytes", Value::Binary(&[0xFF]))
            .with("number", Value::Long(-5))
            .with("real", Value::Double(1.5))
            .with("truth", Value::Bool(true))
            .with("time", Value::Timestamp(7))
            .with("void", Value::Void)
            .with("nested", Value::Table(Table::default().view()))
            .with("text", Value::LongString(b"again"))
            .finish();
        let mut back = TableBuilder::new();
        for (name, value) in list(&table) {
            put_header(&mut back, &name, &value);
        }
        assert_eq!(back.finish(), table);
    }
}
