//! What of MQTT is served. The table in docs/user/mqtt.md is this one, rendered; a test holds both
//! against each other and against the codec.

use std::fmt::Write;

/// Whether a feature is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    Yes,
    /// Not yet; what the client gets instead.
    NotYet(&'static str),
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Feature {
    pub name: &'static str,
    /// The protocol versions that have it.
    pub versions: &'static str,
    pub support: Support,
    pub note: &'static str,
}

const ALL: &str = "3.1, 3.1.1, 5";
const LATER: &str = "3.1.1, 5";
const V5: &str = "5";

const fn yes(name: &'static str, versions: &'static str, note: &'static str) -> Feature {
    Feature { name, versions, support: Support::Yes, note }
}

const fn not_yet(name: &'static str, versions: &'static str, instead: &'static str) -> Feature {
    Feature { name, versions, support: Support::NotYet(instead), note: "" }
}

/// Packets first, in the order of the specification, then properties, then behaviour.
pub const FEATURES: &[Feature] = &[
    yes("CONNECT", ALL, "client identifiers up to 255 bytes"),
    yes("CONNACK", ALL, "session present is exact; version 3.1 has no such flag"),
    yes("PUBLISH", ALL, "QoS 0, 1 and 2 in both directions; payloads up to 16 MiB"),
    yes("PUBACK", ALL, "sent when every copy is as durable as its stream promises"),
    yes(
        "PUBREC",
        ALL,
        "likewise; in a session that is kept the identifier is noted before anything is stored",
    ),
    yes("PUBREL", ALL, ""),
    yes("PUBCOMP", ALL, ""),
    yes("SUBSCRIBE", ALL, "the QoS asked for is granted"),
    yes("SUBACK", ALL, "one code per filter; before version 5 an invalid filter closes"),
    yes("UNSUBSCRIBE", ALL, ""),
    yes("UNSUBACK", ALL, ""),
    yes("PINGREQ", ALL, ""),
    yes("PINGRESP", ALL, ""),
    yes("DISCONNECT", ALL, "with a reason code from the server in version 5"),
    yes("AUTH", V5, "also to log in again during a connection; none without users"),
    yes("Payload Format Indicator", V5, "forwarded; the payload is not checked against it"),
    yes("Message Expiry Interval", V5, "counts down while a message waits, retained or not"),
    yes("Content Type", V5, "forwarded unaltered"),
    yes("Response Topic", V5, "forwarded unaltered"),
    yes("Correlation Data", V5, "forwarded unaltered"),
    yes("Subscription Identifier", V5, "all that match, in one copy"),
    yes("Session Expiry Interval", V5, "in CONNECT and DISCONNECT"),
    yes("Assigned Client Identifier", V5, ""),
    yes("Server Keep Alive", V5, "if the limit `keep_alive_seconds_max` is set"),
    yes(
        "Authentication Method",
        V5,
        "`SCRAM-SHA-256`, `SCRAM-SHA-512`; CONNACK 0x8C to others, and to all without users",
    ),
    yes("Authentication Data", V5, "the messages of RFC 5802"),
    yes("Request Problem Information", V5, "reason strings only if wanted"),
    yes("Will Delay Interval", V5, ""),
    not_yet("Request Response Information", V5, "no response information, as the protocol permits"),
    not_yet("Response Information", V5, "none is sent"),
    not_yet("Server Reference", V5, "none is sent: every node serves every client"),
    yes("Reason String", V5, "on errors"),
    yes("Receive Maximum", V5, "both directions; DISCONNECT 0x93 to excess"),
    yes("Topic Alias Maximum", V5, "both directions"),
    yes("Topic Alias", V5, "both directions"),
    yes("Maximum QoS", V5, "never sent: 2"),
    yes("Retain Available", V5, "never sent: yes"),
    yes("User Property", V5, "forwarded in order, duplicates kept"),
    yes("Maximum Packet Size", V5, "what is larger is not sent to that client"),
    yes("Wildcard Subscription Available", V5, "never sent: yes"),
    yes("Subscription Identifier Available", V5, "never sent: yes"),
    yes("Shared Subscription Available", V5, "never sent: yes"),
    yes("Kept sessions", ALL, "backlog on disk, resumed under the same packet identifiers"),
    yes("Take-over", ALL, "the older connection gets DISCONNECT 0x8E in version 5"),
    yes("Will", ALL, "with delay; published at the latest when the session ends"),
    yes("Keep alive", ALL, "closed after one and a half intervals"),
    yes(
        "Retained messages",
        ALL,
        "also for wildcard filters; retain handling; retain as published",
    ),
    yes("Shared subscriptions", ALL, "`$share/name/filter`, also before version 5"),
    yes("No Local", V5, ""),
    yes("WebSocket", LATER, "on the same port; sub-protocol `mqtt`"),
    yes("User name and password", ALL, "any are accepted on a node without users"),
    yes("Permissions", ALL, "for publishing, subscribing, wills and what is delivered"),
    not_yet("$SYS topics", ALL, "nothing is published there"),
];

/// The table in Markdown.
pub fn table() -> String {
    let mut text = String::from("| feature | versions | served | |\n|---|---|---|---|\n");
    for Feature { name, versions, support, note } in FEATURES {
        let (served, note) = match support {
            Support::Yes => ("yes", *note),
            Support::NotYet(instead) => ("not yet", *instead),
        };
        let written = writeln!(text, "| {name} | {versions} | {served} | {note} |");
        written.expect("a string takes all that is written to it");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::properties::NAMES;
    use crate::codec::PacketType;

    #[test]
    fn the_manual_holds_this_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/user/mqtt.md");
        let manual = std::fs::read_to_string(path).expect("the manual is part of the repository");
        assert!(manual.contains(&table()), "docs/user/mqtt.md must hold:\n{}", table());
    }

    #[test]
    fn every_packet_and_property_has_a_row() {
        let rows: Vec<&str> = FEATURES.iter().map(|feature| feature.name).collect();
        for number in 1..=15u8 {
            let packet_type = PacketType::from_number(number).expect("1 to 15 are packets");
            let name = format!("{packet_type:?}").to_uppercase();
            assert!(rows.contains(&name.as_str()), "{name}");
        }
        for name in NAMES {
            assert!(rows.contains(name), "{name}");
        }
        assert_eq!(rows.len(), 15 + NAMES.len() + 11);
    }
}
