//! The words of refusals, as RabbitMQ has them: client libraries and their tests match on them.

use std::fmt::Display;

/// Kind and name of a queue: `queue 'q' in vhost '/'`.
pub fn queue(name: &str, vhost: &str) -> String {
    format!("queue '{name}' in vhost '{vhost}'")
}

/// Kind and name of an exchange.
pub fn exchange(name: &str, vhost: &str) -> String {
    format!("exchange '{name}' in vhost '{vhost}'")
}

pub fn inequivalent(
    name: &str,
    what: &str,
    received: &dyn Display,
    current: &dyn Display,
) -> String {
    format!(
        "inequivalent arg '{name}' for {what}: received '{received}' but current is '{current}'"
    )
}

/// `what` is a locked queue.
pub fn locked(what: &str) -> String {
    format!(
        "cannot obtain exclusive access to locked {what}. It could be originally declared on \
         another connection or the exclusive property value does not match that of the original \
         declaration."
    )
}

/// `kind` is `queue` or `exchange`.
pub fn reserved(kind: &str, name: &str) -> String {
    format!("{kind} name '{name}' contains reserved prefix 'amq.*'")
}

/// `pattern`: which of a permission's three would have to match `what`.
pub fn refused(pattern: &str, what: &str, user: &str) -> String {
    format!("{pattern} access to {what} refused for user '{user}'")
}

/// Likewise, of a topic permission and a key of the exchange `what`.
pub fn key_refused(pattern: &str, key: &str, what: &str, user: &str) -> String {
    format!("{pattern} access to topic '{key}' in {what} refused for user '{user}'")
}

pub const DEFAULT_EXCHANGE: &str = "operation not permitted on the default exchange";
