//! What of AMQP 0-9-1 and RabbitMQ's extensions works here. The table in docs/user/amqp.md is this
//! one, rendered; a test holds both against each other and against the codec.

use std::fmt::Write;

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Support {
    /// Method, argument or feature.
    pub feature: &'static str,
    pub works: bool,
    /// What it does here, or what a client gets that uses it.
    pub note: &'static str,
}

const fn yes(feature: &'static str, note: &'static str) -> Support {
    Support { feature, works: true, note }
}

const fn not_yet(feature: &'static str, note: &'static str) -> Support {
    Support { feature, works: false, note }
}

pub const SUPPORT: &[Support] = &[
    yes("protocol header 0-9-1 and 0-9", "any other header is answered with `AMQP 0 0 9 1` and closed"),
    yes("connection.start, tune, open, close", "channel_max 2047, frame_max 131072, heartbeat 60; any lower value may be chosen"),
    yes("login PLAIN, AMQPLAIN", "the node's users; without users `guest` with password `guest` alone; a failed login is 403 half a second later"),
    yes("login EXTERNAL", "on TLS, on a node with users: the user whom the client's certificate names"),
    not_yet("login ANONYMOUS", "503 COMMAND_INVALID"),
    yes("virtual host `/`", "any other is 530 NOT_ALLOWED, and so is `/` to a user without any rule"),
    yes("permissions, topic permissions", "asked by every method before it tells anything, 403 ACCESS_REFUSED in RabbitMQ's words"),
    yes("user limits", "connections: 530 at connection.open; channels per connection: 530 at channel.open"),
    yes("heartbeats", "the client's interval; two missed end the connection"),
    yes("connection.blocked, unblocked", "to publishers with the capability, once per alarm; from its next publish on the connection is not read until all alarms are over"),
    yes("connection.update-secret", "what the user may do is looked at again; a login by password does not expire"),
    yes("channel.open, close", "soft errors close the channel, hard ones the connection"),
    yes("channel.flow active=true", "answered"),
    not_yet("channel.flow active=false", "540 NOT_IMPLEMENTED"),
    yes("access.request", "answered with ticket 1"),
    yes("exchange.declare", "direct, fanout, topic, headers; durable, auto-delete, internal, passive"),
    not_yet("other exchange types", "503 COMMAND_INVALID"),
    not_yet("alternate-exchange", "406 PRECONDITION_FAILED naming the argument"),
    yes("exchange.delete", "if-unused"),
    yes("exchange.bind, unbind", "exchange-to-exchange bindings, cycles included"),
    yes("predeclared exchanges", "default, amq.direct, amq.fanout, amq.topic, amq.headers, amq.match"),
    not_yet("amq.rabbitmq.trace", "404 NOT_FOUND"),
    yes("queue.declare", "durable, exclusive, auto-delete, server-named, passive; a different redeclaration is 406, another connection's exclusive queue 405"),
    yes("x-queue-type=classic", "accepted: every queue is durable as declared and kept on disk"),
    not_yet("other queue arguments (x-message-ttl, x-max-length, x-dead-letter-exchange, x-max-priority, x-queue-type=quorum ...)", "406 PRECONDITION_FAILED naming the argument"),
    yes("queue.bind, unbind, purge, delete", "if-unused, if-empty"),
    yes("basic.publish", "bodies up to 16 MiB, larger ones are 406; user-id is checked, but for users tagged `impersonator`; CC and BCC headers are routed to, each key checked"),
    yes("mandatory", "basic.return 312 before the confirm"),
    not_yet("immediate", "540 NOT_IMPLEMENTED"),
    yes("expiration", "an expired message is not delivered any more; it still counts as ready until it would be"),
    not_yet("priority", "carried, queues are first in first out"),
    yes("confirm.select", "basic.ack once stored as durably as the queue promises (fsync for durable queues); basic.nack if refused"),
    not_yet("tx.select, commit, rollback", "540 NOT_IMPLEMENTED"),
    yes("basic.consume", "exclusive, no-ack, server-named tags, x-priority; no-local is ignored as in RabbitMQ"),
    not_yet("other consumer arguments", "406 PRECONDITION_FAILED naming the argument"),
    yes("basic.cancel", "both directions: consumers are told when their queue is deleted, or may not be read by them any more"),
    yes("basic.get", "with and without acknowledgement"),
    yes("basic.ack, nack, reject", "multiple, requeue with the redelivered flag; an unknown tag is 406"),
    yes("basic.recover", "requeue=true; requeue=false is 540"),
    yes("basic.qos", "prefetch-count per consumer, and shared by the channel with global; prefetch-size is 540"),
    not_yet("direct reply-to", "404 NOT_FOUND"),
    yes("topics of other protocols", "read as queues without a declaration; written by the default exchange or amq.topic"),
];

/// The table in Markdown.
pub fn table() -> String {
    let mut text = String::from("| feature | served | |\n|---|---|---|\n");
    for Support { feature, works, note } in SUPPORT {
        let served = if *works { "yes" } else { "not yet" };
        let written = writeln!(text, "| {feature} | {served} | {note} |");
        written.expect("a string takes all that is written to it");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v091::methods::Method;
    use koine_base::rng::Rng;

    #[test]
    fn the_manual_holds_this_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/user/amqp.md");
        let manual = std::fs::read_to_string(path).expect("the manual is part of the repository");
        assert!(manual.contains(&table()), "docs/user/amqp.md must hold:\n{}", table());
    }

    /// The names of the methods that a client asks with, as the table spells them: `basic.recover`
    /// for `BasicRecoverAsync` and so on.
    #[test]
    fn every_method_of_a_client_has_a_row() {
        let rows: String = SUPPORT.iter().map(|row| row.feature).collect::<Vec<_>>().join("\n");
        for method in Method::every(&mut Rng::new(1)) {
            let name = method.name();
            let second = name[1..].find(char::is_uppercase).expect("class and method") + 1;
            let (class, verb) = (name[..second].to_lowercase(), name[second..].to_lowercase());
            let is_answer = verb.ends_with("ok") || verb.ends_with("empty");
            let is_ours = ["secure", "return", "deliver"].contains(&verb.as_str());
            if is_answer || is_ours {
                continue;
            }
            let verb = match verb.as_str() {
                "updatesecret" => "update-secret",
                "recoverasync" => "recover",
                other => other,
            };
            let found = rows.lines().any(|row| row.starts_with(&class) && row.contains(verb));
            assert!(found, "{class}.{verb}");
        }
    }
}
