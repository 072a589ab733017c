//! The command line, turned into a [`Plan`] with each protocol's own defaults.

use crate::failure::Failure;
use crate::plan::{Mode, Plan, ProtocolName};
use lexopt::prelude::*;
use std::time::Duration;

pub const HELP: &str = "\
koine-bench: load generator for the native protocols of a message broker

usage: koine-bench kafka|amqp|mqtt [latency] [options]

what to run
  --addr HOST:PORT        broker [127.0.0.1 and the protocol's usual port]
  --mode produce|consume|both|latency|idle
                          latency keeps one message in flight, end to end; idle makes the lanes,
                          opens --producers connections and says what the broker holds then [both]
  --size N                body bytes; from 16 on bodies are stamped and verified [100]
  --connections N         producers and consumers, each [1]
  --producers N, --consumers N
  --lanes N               topics, partitions or queues (also --topics, --partitions, --queues);
                          producer and consumer i use lane i modulo N, or every N-th lane [1]
  --rate N|saturate       messages per second of all producers together [saturate]
  --window N              unacknowledged batches (kafka) or messages per producer
                          [kafka 10, amqp with confirms 1000, mqtt QoS 1 and 2 1000]
  --end-to-end N          messages of all producers sent but not delivered; 0 is no bound
                          [20000 with mqtt and where nothing is acknowledged, else 0]
  --warmup S, --duration S, --drain S   [2, 10, 5]
  --durability LEVEL      kafka: fsync, replicated, memory (creates the topic with koine.durability;
                          a broker that does not know it keeps its own default)
                          amqp: fsync (durable queue, persistent, confirms), memory (transient)
                          mqtt: fsync (QoS 1, persistent session), memory (QoS 0)
  --backlog N             consume: messages to write first [1000000]
  --messages N            produce, consume: end after so many messages instead of a time
  --standing              both: earlier runs' messages are in front (see --keep); they count as
                          received, and what this run sends is not waited for
  --name NAME, --keep     use and keep this topic or queue [made for the run, deleted after]
  --check-every N         compare the whole body (kafka: checksum and records) of each N-th
                          message or batch; 0 never [1000]
kafka
  --batch N               records per batch [1000]
  --acks all|1            [all]
  --fetch-bytes N         most bytes per partition and fetch [1048576]
amqp
  --confirms N            same as --window; 0: no confirms
  --prefetch N            [1000]
  --auto-ack              consumers do not acknowledge [off with fsync, on with memory]
  --ack-every N           deliveries per acknowledgement; 0: one for all of one read [0]
  --queue-type TYPE       x-queue-type argument
  --vhost V               [/]
mqtt
  --qos 0|1|2             [0]
  --mqtt-version 4|5      [4]
  --persistent-session    consumers resume their session
login
  --user U, --password P  kafka: SASL PLAIN [none; amqp: guest, guest]
measuring
  --pid N[,N...]          broker processes: CPU, memory, disk writes
  --threads N             generator threads [2; latency 1]
  --spin                  never sleep while waiting for events
  --json                  one JSON object on standard output instead of the table
  --label TEXT            name of the run in the output

exit code 1: something failed, or a message was lost, repeated, out of order or damaged.
";

/// Options that were given; the rest is filled in by [`Given::plan`].
#[derive(Default)]
struct Given {
    protocol: Option<ProtocolName>,
    mode: Option<Mode>,
    addr: Option<String>,
    size: Option<usize>,
    batch: Option<u32>,
    window: Option<u64>,
    end_to_end: Option<u64>,
    producers: Option<usize>,
    consumers: Option<usize>,
    lanes: Option<usize>,
    rate: Option<f64>,
    warmup: Option<f64>,
    duration: Option<f64>,
    drain: Option<f64>,
    durability: Option<String>,
    name: Option<String>,
    keep: bool,
    backlog: Option<u64>,
    messages: Option<u64>,
    standing: bool,
    check_every: Option<u64>,
    threads: Option<usize>,
    spin: bool,
    pids: Vec<u32>,
    json: bool,
    label: Option<String>,
    acks: Option<i16>,
    fetch_bytes: Option<i32>,
    prefetch: Option<u16>,
    auto_ack: bool,
    ack_every: Option<u64>,
    queue_type: Option<String>,
    user: Option<String>,
    password: Option<String>,
    vhost: Option<String>,
    qos: Option<u8>,
    mqtt_version: Option<u8>,
    persistent_session: bool,
}

/// `None` when help was asked for.
pub fn parse(mut parser: lexopt::Parser) -> Result<Option<Plan>, Failure> {
    let mut given = Given::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("help") | Short('h') => return Ok(None),
            Value(word) => given.word(&word.string()?)?,
            Long(name) => {
                let name = name.to_owned();
                given.option(&name, &mut parser)?;
            }
            Short(letter) => return Err(Failure::Usage(format!("unknown option -{letter}"))),
        }
    }
    given.plan().map(Some)
}

fn usage<T>(text: String) -> Result<T, Failure> {
    Err(Failure::Usage(text))
}

impl Given {
    fn word(&mut self, word: &str) -> Result<(), Failure> {
        match word {
            "kafka" => self.protocol = Some(ProtocolName::Kafka),
            "amqp" => self.protocol = Some(ProtocolName::Amqp),
            "mqtt" => self.protocol = Some(ProtocolName::Mqtt),
            "latency" => self.mode = Some(Mode::Latency),
            _ => return usage(format!("unknown protocol {word}")),
        }
        Ok(())
    }

    fn option(&mut self, name: &str, parser: &mut lexopt::Parser) -> Result<(), Failure> {
        match name {
            "keep" => self.keep = true,
            "standing" => self.standing = true,
            "spin" => self.spin = true,
            "json" => self.json = true,
            "auto-ack" => self.auto_ack = true,
            "persistent-session" => self.persistent_session = true,
            "addr" => self.addr = Some(parser.value()?.string()?),
            "mode" => self.mode = Some(mode(&parser.value()?.string()?)?),
            "size" => self.size = Some(parser.value()?.parse()?),
            "batch" => self.batch = Some(parser.value()?.parse()?),
            "window" | "confirms" => self.window = Some(parser.value()?.parse()?),
            "end-to-end" => self.end_to_end = Some(parser.value()?.parse()?),
            "connections" => {
                let count = parser.value()?.parse()?;
                (self.producers, self.consumers) = (Some(count), Some(count));
            }
            "producers" => self.producers = Some(parser.value()?.parse()?),
            "consumers" => self.consumers = Some(parser.value()?.parse()?),
            "lanes" | "topics" | "partitions" | "queues" => {
                self.lanes = Some(parser.value()?.parse()?);
            }
            "rate" => self.rate = rate(&parser.value()?.string()?)?,
            "warmup" => self.warmup = Some(parser.value()?.parse()?),
            "duration" => self.duration = Some(parser.value()?.parse()?),
            "drain" => self.drain = Some(parser.value()?.parse()?),
            "durability" => self.durability = Some(parser.value()?.string()?),
            "name" => self.name = Some(parser.value()?.string()?),
            "messages" => self.messages = Some(parser.value()?.parse()?),
            "backlog" => self.backlog = Some(parser.value()?.parse()?),
            "check-every" => self.check_every = Some(parser.value()?.parse()?),
            "threads" => self.threads = Some(parser.value()?.parse()?),
            "pid" => self.pids = pids(&parser.value()?.string()?)?,
            "label" => self.label = Some(parser.value()?.string()?),
            _ => self.protocol_option(name, parser)?,
        }
        Ok(())
    }

    fn protocol_option(&mut self, name: &str, parser: &mut lexopt::Parser) -> Result<(), Failure> {
        match name {
            "acks" => {
                self.acks = match parser.value()?.string()?.as_str() {
                    "all" | "-1" => Some(-1),
                    "1" => Some(1),
                    other => return usage(format!("--acks is all or 1, not {other}")),
                }
            }
            "fetch-bytes" => self.fetch_bytes = Some(parser.value()?.parse()?),
            "prefetch" => self.prefetch = Some(parser.value()?.parse()?),
            "ack-every" => self.ack_every = Some(parser.value()?.parse()?),
            "queue-type" => self.queue_type = Some(parser.value()?.string()?),
            "user" => self.user = Some(parser.value()?.string()?),
            "password" => self.password = Some(parser.value()?.string()?),
            "vhost" => self.vhost = Some(parser.value()?.string()?),
            "qos" => self.qos = Some(parser.value()?.parse()?),
            "mqtt-version" => self.mqtt_version = Some(parser.value()?.parse()?),
            _ => return usage(format!("unknown option --{name}")),
        }
        Ok(())
    }

    /// What the broker is asked to promise for each message.
    fn promise(&self, protocol: ProtocolName) -> Promise {
        let lossy = self.durability.as_deref().unwrap_or("fsync") == "memory";
        let qos = match (self.qos, &self.durability) {
            (Some(qos), _) => qos,
            (None, Some(_)) => u8::from(!lossy),
            (None, None) => 0,
        };
        let acknowledged = match protocol {
            ProtocolName::Kafka => true,
            ProtocolName::Amqp => self.window.map_or(!lossy, |window| window > 0),
            ProtocolName::Mqtt => qos > 0,
        };
        Promise { lossy, qos, acknowledged }
    }

    fn plan(self) -> Result<Plan, Failure> {
        let Some(protocol) = self.protocol else {
            return usage("name a protocol: kafka, amqp or mqtt (--help shows all)".into());
        };
        let mode = self.mode.unwrap_or(Mode::Both);
        let Promise { lossy, qos, acknowledged } = self.promise(protocol);
        let (producers, consumers) = match mode {
            Mode::Produce | Mode::Idle => (self.producers.unwrap_or(1), 0),
            Mode::Latency => (1, 1),
            Mode::Consume | Mode::Both => {
                (self.producers.unwrap_or(1), self.consumers.unwrap_or(1))
            }
        };
        let latency = mode == Mode::Latency;
        let default_window = if protocol == ProtocolName::Kafka { 10 } else { 1000 };
        // An MQTT broker acknowledges what it has, however far behind the subscribers are.
        let unbounded = acknowledged && protocol != ProtocolName::Mqtt;
        let default_bound = if unbounded || mode != Mode::Both { 0 } else { 20_000 };
        let threads_useful = if latency { 1 } else { (producers + consumers).min(2) };
        let plan = Plan {
            protocol,
            mode,
            addr: self.addr.unwrap_or_else(|| default_addr(protocol).into()),
            size: self.size.unwrap_or(100),
            batch: if latency { 1 } else { self.batch.unwrap_or(1000) },
            window: match acknowledged {
                true if latency => 1,
                true => self.window.filter(|window| *window > 0).unwrap_or(default_window),
                false => 0,
            },
            end_to_end: if latency { 1 } else { self.end_to_end.unwrap_or(default_bound) },
            producers,
            consumers,
            lanes: self.lanes.unwrap_or(1),
            rate: self.rate,
            warmup: seconds(self.warmup, 2.0)?,
            duration: seconds(self.duration, 10.0)?,
            drain: seconds(self.drain, 5.0)?,
            auto_ack: self.auto_ack || (protocol == ProtocolName::Amqp && lossy),
            persistent_session: self.persistent_session || self.durability.is_some() && !lossy,
            durability: self.durability,
            given_name: self.name,
            keep: self.keep,
            backlog: self.backlog.unwrap_or(1_000_000),
            messages: self.messages,
            standing: self.standing,
            check_every: self.check_every.unwrap_or(1000),
            threads: self.threads.unwrap_or(threads_useful),
            spin: self.spin,
            pids: self.pids,
            json: self.json,
            label: self.label.unwrap_or_default(),
            run: run_number(),
            acks: self.acks.unwrap_or(-1),
            fetch_bytes: self.fetch_bytes.unwrap_or(1 << 20),
            confirm: protocol == ProtocolName::Amqp && acknowledged,
            prefetch: self.prefetch.unwrap_or(1000),
            ack_every: if latency { 1 } else { self.ack_every.unwrap_or(0) },
            queue_type: self.queue_type,
            login: self.user.zip(self.password),
            vhost: self.vhost.unwrap_or_else(|| "/".into()),
            qos,
            mqtt_version: self.mqtt_version.unwrap_or(4),
        };
        check(&plan)?;
        Ok(plan)
    }
}

struct Promise {
    lossy: bool,
    qos: u8,
    acknowledged: bool,
}

/// Refuses what could only fail in the middle of a run.
fn check(plan: &Plan) -> Result<(), Failure> {
    let wrong = [
        (plan.size > 64 << 20, "--size is at most 64 MiB"),
        (
            plan.size < 16 && plan.protocol == ProtocolName::Kafka,
            "--size is at least 16 with kafka",
        ),
        (plan.size < 16 && plan.mode == Mode::Latency, "--size is at least 16 for latency"),
        (plan.batch == 0 || plan.batch > 1_000_000, "--batch is 1 to 1000000"),
        (plan.lanes == 0 || plan.lanes > 1_000_000, "--lanes is 1 to 1000000"),
        (plan.producers > 60_000 || plan.consumers > 60_000, "at most 60000 connections a side"),
        (plan.producers == 0 && plan.mode != Mode::Consume, "--producers is at least 1"),
        (plan.consumers == 0 && plan.mode == Mode::Consume, "--consumers is at least 1"),
        (plan.threads == 0 || plan.threads > 64, "--threads is 1 to 64"),
        (plan.threads > 1 && plan.mode == Mode::Latency, "latency runs on one thread"),
        (
            plan.messages.is_some() && !matches!(plan.mode, Mode::Produce | Mode::Consume),
            "--messages is for the modes produce and consume",
        ),
        (plan.standing && plan.mode != Mode::Both, "--standing is for the mode both"),
        (plan.qos > 2, "--qos is 0, 1 or 2"),
        (!matches!(plan.mqtt_version, 4 | 5), "--mqtt-version is 4 (3.1.1) or 5"),
        (plan.window > 1 << 20, "--window is at most 1048576"),
        (
            plan.window > 65_535 && plan.protocol == ProtocolName::Mqtt,
            "--window is at most 65535 with mqtt",
        ),
        (
            plan.mode == Mode::Consume && plan.protocol == ProtocolName::Mqtt,
            "mqtt has no backlog to read: use --mode both",
        ),
        (
            plan.persistent_session && plan.qos == 0 && plan.protocol == ProtocolName::Mqtt,
            "a persistent session keeps nothing with QoS 0",
        ),
    ];
    match wrong.into_iter().find(|(wrong, _)| *wrong) {
        Some((_, text)) => usage(text.into()),
        None => Ok(()),
    }
}

fn default_addr(protocol: ProtocolName) -> &'static str {
    match protocol {
        ProtocolName::Kafka => "127.0.0.1:9092",
        ProtocolName::Amqp => "127.0.0.1:5672",
        ProtocolName::Mqtt => "127.0.0.1:1883",
    }
}

fn mode(word: &str) -> Result<Mode, Failure> {
    match word {
        "produce" => Ok(Mode::Produce),
        "consume" => Ok(Mode::Consume),
        "both" => Ok(Mode::Both),
        "latency" => Ok(Mode::Latency),
        "idle" => Ok(Mode::Idle),
        _ => usage(format!("--mode is produce, consume, both, latency or idle, not {word}")),
    }
}

fn rate(word: &str) -> Result<Option<f64>, Failure> {
    if word == "saturate" {
        return Ok(None);
    }
    match word.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate.is_finite() => Ok(Some(rate)),
        _ => usage(format!("--rate is messages per second or saturate, not {word}")),
    }
}

fn pids(word: &str) -> Result<Vec<u32>, Failure> {
    let read = |pid: &str| pid.trim().parse().map_err(|_| Failure::Usage(format!("no pid: {pid}")));
    word.split(',').map(read).collect()
}

fn seconds(given: Option<f64>, default: f64) -> Result<Duration, Failure> {
    let seconds = given.unwrap_or(default);
    if !(0.0..=86_400.0).contains(&seconds) {
        return usage(format!("a time is 0 to 86400 seconds, not {seconds}"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// Different for runs that follow each other.
fn run_number() -> u16 {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let ticks = since_1970.map_or(0, |time| time.as_millis() as u64);
    koine_base::rng::Rng::new(ticks ^ u64::from(std::process::id()) << 32).next_u64() as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Plan, String> {
        let words = std::iter::once("koine-bench").chain(line.split_whitespace());
        match parse(lexopt::Parser::from_iter(words)) {
            Ok(plan) => Ok(plan.expect("no test asks for help")),
            Err(failure) => Err(failure.to_string()),
        }
    }

    #[test]
    fn defaults_follow_the_protocol_and_the_promise() {
        let check = |line: &str, window, end_to_end, auto_ack, qos| {
            let plan = parsed(line).expect(line);
            let got = (plan.window, plan.end_to_end, plan.auto_ack, plan.qos);
            assert_eq!(got, (window, end_to_end, auto_ack, qos), "{line}");
        };
        check("kafka", 10, 0, false, 0);
        check("kafka latency", 1, 1, false, 0);
        check("amqp", 1000, 0, false, 0);
        check("amqp --durability memory", 0, 20_000, true, 0);
        check("amqp --durability memory --mode produce", 0, 0, true, 0);
        check("amqp --confirms 0", 0, 20_000, false, 0);
        check("amqp latency --durability memory", 0, 1, true, 0);
        check("mqtt", 0, 20_000, false, 0);
        check("mqtt --durability fsync --window 50", 50, 20_000, false, 1);
        check("mqtt latency --qos 2", 1, 1, false, 2);
        check("kafka --mode produce --messages 7", 10, 0, false, 0);
        check("amqp --mode idle --durability fsync", 1000, 0, false, 1);
    }

    #[test]
    fn refuses_what_cannot_run() {
        let check = |line: &str, expect: &str| {
            let text = parsed(line).expect_err(line);
            assert!(text.contains(expect), "{line}: {text}");
        };
        check("", "name a protocol");
        check("nats", "unknown protocol nats");
        check("kafka --no-such", "unknown option --no-such");
        check("kafka --size 8", "--size");
        check("kafka --rate fast", "--rate");
        check("mqtt --qos 3", "--qos");
        check("mqtt --mode consume", "backlog");
        check("mqtt --qos 1 --window 70000", "--window");
        check("amqp latency --threads 2", "one thread");
        check("amqp --messages 5", "--messages");
        check("amqp --mode produce --standing", "--standing");
        check("amqp --lanes 0", "--lanes");
        check("amqp --pid x", "no pid");
        check("amqp --duration -1", "time");
        check("amqp --size", "--size");
    }
}
