//! Session scripts: `testdata/*.txt` hold what clients do, and after `----` what they are sent. With
//! `KOINE_RECORD=1` the transcripts are written anew; review the difference.
//!
//! Verbs: `connect NAME [key=value ...]`, `subscribe NAME PACKET FILTER[,option...] ...`,
//! `unsubscribe NAME PACKET FILTER ...`, `publish NAME TOPIC PAYLOAD [key=value ...]`,
//! `puback|pubrec|pubrel|pubcomp NAME PACKET [REASON]`, `disconnect NAME [key=value ...]`,
//! `open NAME` (no CONNECT), `auth NAME`, `ping NAME`, `drop NAME`, `shutdown NAME`, `bytes NAME HEX`,
//! `adduser NAME PASSWORD`, `deluser NAME`, `password NAME PASSWORD`, `permit NAME CONFIGURE WRITE READ`,
//! `permitkeys NAME WRITE READ`, `forbid NAME`, `rule allow|deny read|write|all FILTER|topic:NAME NAME`,
//! `topic NAME`, `refused` (how often somebody was),
//! `evict NAME`, `wait MS`, `restart`, `alarm [disk] [memory]` (none: all is clear).

use super::engine::{administration, Engine};
use super::NAMESPACE;
use crate::codec::{
    Acknowledgement, Auth, Connect, Decoder, Disconnect, Packet, Properties, Property,
    PublishFrame, Qos, RetainHandling, Subscribe, SubscribeEntry, SubscriptionOptions, Unsubscribe,
    Version, Will,
};
use crate::error::ReasonCode;
use bytes::{Bytes, BytesMut};
use koine_base::{ConnectionId, Rope};
use koine_broker::access::{AccessCommand, Secret};
use koine_broker::overload::Alarms;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

struct Client {
    id: ConnectionId,
    version: Version,
    open: bool,
    input: BytesMut,
}

struct Stage {
    engine: Engine,
    clients: BTreeMap<String, Client>,
    notes: String,
}

/// `key=value` words.
struct Options<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Options<'a> {
    fn parse(words: &[&'a str]) -> Options<'a> {
        Options(words.iter().map(|word| word.split_once('=').unwrap_or((word, ""))).collect())
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.0.iter().find(|(name, _)| *name == key).map(|(_, value)| *value)
    }

    fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        self.get(key).map(|text| number(text))
    }
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().ok().unwrap_or_else(|| panic!("not a number: {text}"))
}

fn qos(text: &str) -> Qos {
    Qos::from_bits(number(text)).expect("0 to 2")
}

fn reason(text: &str) -> ReasonCode {
    let byte = u8::from_str_radix(text, 16).expect("two hexadecimal digits");
    ReasonCode::from_byte(byte).expect("a reason code")
}

/// `user=k:v` words, in order.
fn user_properties<'a>(options: &Options<'a>) -> Vec<Property<'a>> {
    let users = options.0.iter().filter(|(name, _)| *name == "user");
    users
        .map(|(_, pair)| {
            let (name, value) = pair.split_once(':').expect("name:value");
            Property::UserProperty(name, value)
        })
        .collect()
}

impl Stage {
    fn connect(&mut self, name: &str, words: &[&str]) {
        let options = Options::parse(words);
        let version = match options.get("v") {
            Some("3.1") => Version::V3_1,
            Some("4") => Version::V3_1_1,
            _ => Version::V5,
        };
        let mut properties = Vec::new();
        properties.extend(options.number("expiry").map(Property::SessionExpiryInterval));
        properties.extend(options.number("receive").map(Property::ReceiveMaximum));
        properties.extend(options.number("size").map(Property::MaximumPacketSize));
        properties.extend(options.number("aliases").map(Property::TopicAliasMaximum));
        properties.extend(options.number("problem").map(Property::RequestProblemInformation));
        properties.extend(options.get("method").map(Property::AuthenticationMethod));
        let connect = Connect {
            version,
            clean_start: options.has("clean"),
            keep_alive: options.number("keepalive").unwrap_or(0),
            properties: properties.into_iter().collect(),
            client_identifier: options.get("id").unwrap_or(name).to_owned(),
            will: options.get("will").map(|text| will(text, &options)),
            user_name: options.get("login").map(|login| login_of(login).0.to_owned()),
            password: options.get("login").and_then(|login| login_of(login).1).map(Secret::new),
        };
        let id = self.engine.connect_with(options.get("cert"));
        let client = Client { id, version, open: true, input: BytesMut::new() };
        self.clients.insert(name.to_owned(), client);
        self.send(name, &Packet::Connect(Box::new(connect)));
    }

    fn send(&mut self, name: &str, packet: &Packet) {
        let client = &self.clients[name];
        let mut bytes = BytesMut::new();
        packet.encode(client.version, &mut bytes);
        self.engine.send(client.id, &bytes);
    }

    fn publish(&mut self, name: &str, words: &[&str]) {
        let options = Options::parse(&words[2..]);
        let qos = options.get("qos").map_or(Qos::AtMostOnce, qos);
        let topic = if words[0] == "-" { "" } else { words[0] };
        let payload = match words[1] {
            "-" => Bytes::new(),
            text => match text.strip_prefix("x*") {
                Some(count) => Bytes::from(vec![b'x'; number(count)]),
                None => Bytes::copy_from_slice(text.as_bytes()),
            },
        };
        let client = &self.clients[name];
        let properties: Properties = user_properties(&options).into_iter().collect();
        let frame = PublishFrame {
            version: client.version,
            topic: topic.as_bytes(),
            qos,
            retain: options.has("retain"),
            duplicate: options.has("dup"),
            packet_identifier: options.number("packet").unwrap_or(0),
            properties: properties.block(),
            message_expiry_interval: options.number("expiry"),
            topic_alias: options.number("alias"),
            subscription_identifiers: &[],
            payload: &payload,
        };
        let mut out = Rope::new();
        frame.encode(&mut out);
        self.engine.send(client.id, &out.take_all());
    }

    fn subscribe(&mut self, name: &str, words: &[&str]) {
        let mut properties = Vec::new();
        let mut entries = Vec::new();
        for word in &words[1..] {
            if let Some(identifier) = word.strip_prefix("identifier=") {
                properties.push(Property::SubscriptionIdentifier(number(identifier)));
                continue;
            }
            let mut parts = word.split(',');
            let topic_filter = parts.next().unwrap_or_default().to_owned();
            let mut options = SubscriptionOptions::default();
            for part in parts {
                match part {
                    "nolocal" => options.no_local = true,
                    "rap" => options.retain_as_published = true,
                    "ifnew" => options.retain_handling = RetainHandling::SendIfNew,
                    "never" => options.retain_handling = RetainHandling::Never,
                    level => options.qos = qos(level),
                }
            }
            entries.push(SubscribeEntry { topic_filter, options });
        }
        let packet = Packet::Subscribe(Subscribe {
            packet_identifier: number(words[0]),
            properties: properties.into_iter().collect(),
            entries,
        });
        self.send(name, &packet);
    }

    fn acknowledge(&mut self, verb: &str, name: &str, words: &[&str]) {
        let mut packet = Acknowledgement::new(number(words[0]));
        packet.reason = words.get(1).map_or(ReasonCode::Success, |text| reason(text));
        let packet = match verb {
            "puback" => Packet::Puback(packet),
            "pubrec" => Packet::Pubrec(packet),
            "pubrel" => Packet::Pubrel(packet),
            _ => Packet::Pubcomp(packet),
        };
        self.send(name, &packet);
    }

    fn perform(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (verb, rest) = (words[0], &words[1..]);
        match verb {
            "wait" => return self.engine.advance(number(rest[0])),
            "alarm" => {
                let (disk, memory) = (rest.contains(&"disk"), rest.contains(&"memory"));
                return self.engine.alarm(Alarms { disk, memory });
            }
            "restart" => return self.engine.restart(),
            "refused" => {
                let count = std::mem::take(&mut self.engine.meter.refused);
                return writeln!(self.notes, "refused {count}").unwrap();
            }
            _ if self.administer(verb, rest) => return,
            _ => {}
        }
        let (name, rest) = (rest[0], &rest[1..]);
        match verb {
            "connect" => self.connect(name, rest),
            "subscribe" => self.subscribe(name, rest),
            "unsubscribe" => {
                let packet = Packet::Unsubscribe(Unsubscribe {
                    packet_identifier: number(rest[0]),
                    properties: Properties::default(),
                    topic_filters: rest[1..].iter().map(|text| (*text).to_owned()).collect(),
                });
                self.send(name, &packet);
            }
            "publish" => self.publish(name, rest),
            "puback" | "pubrec" | "pubrel" | "pubcomp" => self.acknowledge(verb, name, rest),
            "disconnect" => {
                let options = Options::parse(rest);
                let expiry = options.number("expiry").map(Property::SessionExpiryInterval);
                let packet = Packet::Disconnect(Disconnect {
                    reason: options.get("reason").map_or(ReasonCode::Success, reason),
                    properties: expiry.into_iter().collect(),
                });
                self.send(name, &packet);
            }
            "auth" => {
                let properties = Properties::default();
                let reason = ReasonCode::ReAuthenticate;
                self.send(name, &Packet::Auth(Auth { reason, properties }));
            }
            "open" => {
                let id = self.engine.connect();
                let version = match rest {
                    ["v=5"] => Version::V5,
                    _ => Version::V3_1_1,
                };
                let client = Client { id, version, open: true, input: BytesMut::new() };
                self.clients.insert(name.to_owned(), client);
            }
            "ping" => self.send(name, &Packet::Pingreq),
            "drop" => self.engine.drop_connection(self.clients[name].id),
            "evict" => self.engine.evict(self.clients[name].id),
            "shutdown" => self.engine.shutdown(self.clients[name].id),
            "bytes" => {
                let bytes: Vec<u8> = rest
                    .iter()
                    .map(|text| u8::from_str_radix(text, 16).expect("hexadecimal"))
                    .collect();
                self.engine.send(self.clients[name].id, &bytes);
            }
            other => panic!("unknown verb {other}"),
        }
    }

    /// Users, rules and topics. False if the verb is about none of them.
    fn administer(&mut self, verb: &str, words: &[&str]) -> bool {
        let name = || words[0].to_owned();
        let command = match verb {
            "adduser" => {
                self.engine.passwords.insert(name(), words[1].to_owned());
                administration::add_user(words[0])
            }
            "deluser" => AccessCommand::DeleteUser { name: name() },
            "password" => {
                self.engine.passwords.insert(name(), words[1].to_owned());
                administration::set_password(words[0])
            }
            "permit" => administration::permit(words[0], &words[1..]),
            "permitkeys" => administration::permit_keys(words[0], &words[1..]),
            "forbid" => AccessCommand::ClearPermissions { user: name(), namespace: NAMESPACE },
            "rule" => administration::rule(words),
            "topic" => {
                self.engine.command(administration::create_topic(words[0]));
                return true;
            }
            _ => return false,
        };
        self.engine.change(command);
        true
    }

    /// What every client was sent since the last call.
    fn transcript(&mut self) -> String {
        let mut text = std::mem::take(&mut self.notes);
        for (name, client) in &mut self.clients {
            client.input.extend_from_slice(&self.engine.take(client.id));
            let decoder = Decoder::new(client.version, 1 << 28);
            while let Some(packet) = decoder.next(&mut client.input).expect("we sent it") {
                writeln!(text, "{name} < {}", describe(&packet)).unwrap();
            }
            assert!(client.input.is_empty(), "half a packet was sent");
            if client.open && !self.engine.is_open(client.id) {
                client.open = false;
                writeln!(text, "{name} closed").unwrap();
            }
        }
        text
    }
}

/// `name` or `name:password`; a prefix for a virtual host is part of the name.
fn login_of(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((name, password)) => (name, Some(password)),
        None => (text, None),
    }
}

fn will(text: &str, options: &Options<'_>) -> Will {
    let (topic, payload) = text.split_once(':').expect("topic:payload");
    let delay = options.number("delay").map(Property::WillDelayInterval);
    Will {
        topic: topic.to_owned(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        qos: options.get("willqos").map_or(Qos::AtMostOnce, qos),
        retain: options.has("willretain"),
        properties: delay.into_iter().collect(),
    }
}

fn properties_text(properties: impl Iterator<Item = String>) -> String {
    properties.fold(String::new(), |text, property| text + " " + &property)
}

fn block_text(properties: &Properties) -> String {
    properties_text(properties.iter().map(|property| format!("{property:?}")))
}

fn describe(packet: &Packet) -> String {
    let acknowledgement = |name: &str, packet: &Acknowledgement| {
        let reason = match packet.reason {
            ReasonCode::Success => String::new(),
            reason => format!(" {reason:?}"),
        };
        format!("{name} {}{reason}{}", packet.packet_identifier, block_text(&packet.properties))
    };
    match packet {
        Packet::Connack(connack) => format!(
            "CONNACK present={} {:?}{}",
            u8::from(connack.session_present),
            connack.reason,
            block_text(&connack.properties)
        ),
        Packet::Publish(publish) => {
            let mut flags = String::new();
            if publish.duplicate {
                flags += " dup";
            }
            if publish.retain {
                flags += " retain";
            }
            if publish.packet_identifier > 0 {
                write!(flags, " packet={}", publish.packet_identifier).unwrap();
            }
            let payload = match publish.payload_size() {
                0..=40 => String::from_utf8_lossy(&publish.payload()).into_owned(),
                size => format!("({size} bytes)"),
            };
            let properties = crate::codec::properties_of(publish.properties());
            format!(
                "PUBLISH {:?} {payload:?} qos={}{flags}{}",
                publish.topic_text(),
                publish.qos as u8,
                properties_text(properties.map(|property| format!("{property:?}")))
            )
        }
        Packet::Puback(packet) => acknowledgement("PUBACK", packet),
        Packet::Pubrec(packet) => acknowledgement("PUBREC", packet),
        Packet::Pubrel(packet) => acknowledgement("PUBREL", packet),
        Packet::Pubcomp(packet) => acknowledgement("PUBCOMP", packet),
        Packet::Suback(suback) => {
            format!("SUBACK {} {:?}", suback.packet_identifier, suback.reasons)
        }
        Packet::Unsuback(unsuback) => {
            format!("UNSUBACK {} {:?}", unsuback.packet_identifier, unsuback.reasons)
        }
        Packet::Pingresp => "PINGRESP".to_owned(),
        Packet::Disconnect(disconnect) => {
            format!("DISCONNECT {:?}{}", disconnect.reason, block_text(&disconnect.properties))
        }
        other => format!("{other:?}"),
    }
}

/// Runs one script and gives it back with the transcripts that came out.
fn run(script: &str) -> String {
    let mut stage = Stage { engine: Engine::new(), clients: BTreeMap::new(), notes: String::new() };
    let mut text = String::new();
    let mut in_transcript = false;
    for line in script.lines() {
        if in_transcript {
            // The old transcript ends with an empty line.
            in_transcript = !line.is_empty();
            continue;
        }
        if line == "----" {
            in_transcript = true;
            writeln!(text, "----\n{}", stage.transcript()).unwrap();
            continue;
        }
        if !line.is_empty() && !line.starts_with('#') {
            stage.perform(line);
        }
        writeln!(text, "{line}").unwrap();
    }
    let rest = stage.transcript();
    assert!(rest.is_empty(), "nothing may follow the last ----: {rest}");
    text.trim_end().to_owned() + "\n"
}

#[test]
fn scripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let record = std::env::var_os("KOINE_RECORD").is_some();
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("testdata is part of the crate") {
        let path = entry.expect("readable").path();
        let script = std::fs::read_to_string(&path).expect("readable");
        let result = run(&script);
        if record {
            std::fs::write(&path, result).expect("writable");
        } else {
            assert_eq!(script, result, "{}", path.display());
        }
        count += 1;
    }
    assert!(count > 0);
}
