//! What is compared: a load, and who carries it with which promise.

use super::brokers::Kind;
use super::tools::Tool;

pub enum Load {
    /// Arguments of `koine-bench`.
    Bench(&'static [&'static str]),
    Vendor(Tool),
}

/// What a case is about.
#[derive(Clone, Copy, PartialEq)]
pub enum Figure {
    MessagesPerSecond,
    /// One message in flight, from publish to delivery.
    Latency,
}

pub struct Side {
    pub broker: Kind,
    /// What an acknowledgement means.
    pub promise: &'static str,
    pub arguments: &'static [&'static str],
}

impl Side {
    pub fn name(&self) -> String {
        format!("{} {}", self.broker.name(), self.promise)
    }
}

pub struct Case {
    pub name: &'static str,
    pub title: &'static str,
    pub figure: Figure,
    pub peer: Kind,
    pub load: Load,
    pub sides: &'static [Side],
}

const FSYNC: &[&str] = &["--durability", "fsync"];
const MEMORY: &[&str] = &["--durability", "memory"];

const fn koine(promise: &'static str, arguments: &'static [&'static str]) -> Side {
    Side { broker: Kind::Koine, promise, arguments }
}

const fn kafka(arguments: &'static [&'static str]) -> Side {
    Side { broker: Kind::Kafka, promise: "acks=all, no fsync", arguments }
}

const fn rabbitmq(promise: &'static str, arguments: &'static [&'static str]) -> Side {
    Side { broker: Kind::RabbitMq, promise, arguments }
}

const fn mosquitto(arguments: &'static [&'static str]) -> Side {
    Side { broker: Kind::Mosquitto, promise: "volatile", arguments }
}

const fn bench(
    name: &'static str,
    title: &'static str,
    peer: Kind,
    load: &'static [&'static str],
    sides: &'static [Side],
) -> Case {
    Case { name, title, figure: Figure::MessagesPerSecond, peer, load: Load::Bench(load), sides }
}

const fn latency(
    name: &'static str,
    title: &'static str,
    peer: Kind,
    load: &'static [&'static str],
    sides: &'static [Side],
) -> Case {
    Case { figure: Figure::Latency, ..bench(name, title, peer, load, sides) }
}

const fn vendor(
    name: &'static str,
    title: &'static str,
    peer: Kind,
    tool: Tool,
    sides: &'static [Side],
) -> Case {
    Case { load: Load::Vendor(tool), ..bench(name, title, peer, &[], sides) }
}

const KAFKA_SIDES: &[Side] = &[koine("fsync", FSYNC), koine("memory", MEMORY), kafka(&[])];
const KAFKA_TOOL_SIDES: &[Side] =
    &[koine("fsync", &["fsync"]), koine("memory", &["memory"]), kafka(&[])];
const RABBITMQ_TOOL: &[Side] = &[koine("transient", &[]), rabbitmq("transient", &[])];
const MQTT: &[Side] = &[koine("volatile", &[]), mosquitto(&[])];

pub const CASES: &[Case] = &[
    bench(
        "kafka-both",
        "Kafka 100 B, one partition, produced and consumed at once",
        Kind::Kafka,
        &["kafka"],
        KAFKA_SIDES,
    ),
    bench(
        "kafka-six",
        "Kafka 100 B, six partitions, produced and consumed at once",
        Kind::Kafka,
        &["kafka", "--lanes", "6"],
        KAFKA_SIDES,
    ),
    bench(
        "kafka-backlog",
        "Kafka 100 B, a backlog of 5 million consumed",
        Kind::Kafka,
        &["kafka", "--mode", "consume", "--backlog", "5000000"],
        &[koine("fsync", FSYNC), kafka(&[])],
    ),
    latency("kafka-one", "Kafka 100 B", Kind::Kafka, &["kafka", "latency"], KAFKA_SIDES),
    vendor(
        "rdkafka-produce",
        "`rdkafka_performance`, 100 B, one partition, produced",
        Kind::Kafka,
        Tool::RdkafkaProduce,
        KAFKA_TOOL_SIDES,
    ),
    vendor(
        "rdkafka-consume",
        "`rdkafka_performance`, 100 B, one partition, consumed",
        Kind::Kafka,
        Tool::RdkafkaConsume,
        KAFKA_TOOL_SIDES,
    ),
    vendor(
        "producer-perf",
        "`kafka-producer-perf-test`, 100 B, one partition",
        Kind::Kafka,
        Tool::ProducerPerf,
        KAFKA_TOOL_SIDES,
    ),
    bench(
        "amqp-transient",
        "AMQP 16 B, one queue, one to one, automatic acks, no confirms",
        Kind::RabbitMq,
        &["amqp", "--size", "16", "--durability", "memory"],
        &[koine("transient", &[]), rabbitmq("transient", &[])],
    ),
    bench(
        "amqp-durable",
        "AMQP 100 B, persistent, confirms (window 1,000), manual acks (prefetch 1,000)",
        Kind::RabbitMq,
        &["amqp", "--durability", "fsync", "--window", "1000", "--prefetch", "1000"],
        &[
            koine("fsync", &[]),
            rabbitmq("classic, written", &[]),
            rabbitmq("quorum, fsync", &["--queue-type", "quorum"]),
        ],
    ),
    latency(
        "amqp-one",
        "AMQP 100 B, transient",
        Kind::RabbitMq,
        &["amqp", "latency", "--durability", "memory"],
        &[koine("transient", &[]), rabbitmq("transient", &[])],
    ),
    latency(
        "amqp-one-durable",
        "AMQP 100 B, persistent, confirmed",
        Kind::RabbitMq,
        &["amqp", "latency", "--durability", "fsync"],
        &[
            koine("fsync", &[]),
            rabbitmq("classic, written", &[]),
            rabbitmq("quorum, fsync", &["--queue-type", "quorum"]),
        ],
    ),
    vendor(
        "perftest",
        "RabbitMQ PerfTest, 16 B, one queue, one to one, automatic acks",
        Kind::RabbitMq,
        Tool::PerfTest,
        RABBITMQ_TOOL,
    ),
    bench("mqtt-0", "MQTT QoS 0, 100 B, one to one", Kind::Mosquitto, &["mqtt"], MQTT),
    bench(
        "mqtt-1",
        "MQTT QoS 1, 100 B, one to one (window 100)",
        Kind::Mosquitto,
        &["mqtt", "--qos", "1", "--window", "100"],
        &[
            koine("memory", MEMORY),
            koine("fsync, persistent session", &["--durability", "fsync"]),
            mosquitto(MEMORY),
        ],
    ),
    bench(
        "mqtt-out-100",
        "MQTT QoS 0, 100 B, fan-out to 100 (messages delivered)",
        Kind::Mosquitto,
        &["mqtt", "--producers", "1", "--consumers", "100", "--end-to-end", "500"],
        MQTT,
    ),
    bench(
        "mqtt-out-1000",
        "MQTT QoS 0, 100 B, fan-out to 1,000 (messages delivered)",
        Kind::Mosquitto,
        &["mqtt", "--producers", "1", "--consumers", "1000", "--end-to-end", "50"],
        MQTT,
    ),
    bench(
        "mqtt-in-1000",
        "MQTT QoS 0, 100 B, fan-in from 1,000",
        Kind::Mosquitto,
        &["mqtt", "--producers", "1000", "--consumers", "1"],
        MQTT,
    ),
    latency("mqtt-one-0", "MQTT QoS 0, 100 B", Kind::Mosquitto, &["mqtt", "latency"], MQTT),
    latency(
        "mqtt-one-1",
        "MQTT QoS 1, 100 B",
        Kind::Mosquitto,
        &["mqtt", "latency", "--qos", "1"],
        &[
            koine("memory", MEMORY),
            koine("fsync, persistent session", &["--durability", "fsync"]),
            mosquitto(MEMORY),
        ],
    ),
];
