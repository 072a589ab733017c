//! The vendors' own load tools.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::brokers::{kafka_tools, maven, Kind, Running};
use super::cases::Side;
use super::directory;
use crate::conformance::librdkafka;
use crate::{process, project};
use koine_workload::usage::Usage;

const PERF_TEST: &str = "com.rabbitmq:perf-test:[2.18,3)";
const LIMIT: Duration = Duration::from_secs(120);
/// Records that one run produces or consumes: some seconds of either.
const RECORDS: u64 = 5_000_000;
/// The JVM's producer is slower.
const JAVA_RECORDS: u64 = 3_000_000;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tool {
    RdkafkaProduce,
    RdkafkaConsume,
    ProducerPerf,
    PerfTest,
}

/// What a tool says about itself.
pub struct Said {
    pub per_second: f64,
    pub messages: u64,
}

/// The same, and what the broker used meanwhile.
pub struct Measured {
    pub said: Said,
    pub used: Usage,
}

/// Runs the tool; `None` if it failed or cannot be understood.
fn measure(
    command: &mut Command,
    broker: &Running,
    log: &Path,
    read: impl Fn(&str) -> Option<Said>,
) -> Result<Option<Measured>, String> {
    let before = broker.usage();
    let finished = process::run(command, log, Some(LIMIT))?;
    let used = broker.usage().since(before);
    let said = read(&finished.text()).filter(|_| finished.success);
    Ok(said.map(|said| Measured { said, used }))
}

pub fn run(
    tool: Tool,
    side: &Side,
    broker: &Running,
    seconds: u32,
    log: &Path,
) -> Result<Option<Measured>, String> {
    match tool {
        Tool::PerfTest => perf_test(broker, seconds, log),
        Tool::RdkafkaProduce | Tool::RdkafkaConsume | Tool::ProducerPerf => {
            let topic = format!("compare-{}", unique());
            change_topic(true, &topic, side, broker)?;
            let said = with_topic(tool, broker, &topic, log);
            change_topic(false, &topic, side, broker)?;
            said
        }
    }
}

fn unique() -> u128 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.as_micros())
}

/// Makes a topic of one partition, or deletes it. Koine's promise is a setting of the topic that Apache Kafka's command
/// does not know.
fn change_topic(makes: bool, topic: &str, side: &Side, broker: &Running) -> Result<(), String> {
    let mut command = match (side.broker, side.arguments) {
        (Kind::Koine, [durability]) => {
            let mut command = Command::new(project::target().join("release/koine"));
            command.args(["topics", if makes { "create" } else { "delete" }, topic]);
            if makes {
                command.args(["--durability", durability]);
            }
            command.args(["--http", broker.address_of("http")]);
            command
        }
        _ => {
            let mut command = java(&kafka_tools()?, "org.apache.kafka.tools.TopicCommand");
            command.args(["--bootstrap-server", broker.address_of("kafka"), "--topic", topic]);
            match makes {
                true => {
                    command.args(["--create", "--partitions", "1", "--replication-factor", "1"])
                }
                false => command.arg("--delete"),
            };
            command
        }
    };
    let finished = process::run(&mut command, &directory().join("logs/topics.log"), Some(LIMIT))?;
    match finished.success {
        true => Ok(()),
        false => Err(finished.tail(20)),
    }
}

fn java(jars: &Path, class: &str) -> Command {
    let mut command = Command::new("java");
    command.args(["-Xmx512M", "-cp", &format!("{}/*", jars.display()), class]);
    command
}

fn with_topic(
    tool: Tool,
    broker: &Running,
    topic: &str,
    log: &Path,
) -> Result<Option<Measured>, String> {
    let address = broker.address_of("kafka");
    if tool == Tool::ProducerPerf {
        let mut command = java(&kafka_tools()?, "org.apache.kafka.tools.ProducerPerformance");
        command.args(["--topic", topic, "--num-records", &JAVA_RECORDS.to_string()]);
        command.args(["--record-size", "100", "--throughput", "-1", "--producer-props"]);
        command.args([&format!("bootstrap.servers={address}"), "acks=all", "batch.size=65536"]);
        return measure(&mut command, broker, log, said_by_java);
    }
    let program = rdkafka_performance()?;
    let records = RECORDS.to_string();
    let mut produce = Command::new(&program);
    produce.args(["-b", address, "-P", "-t", topic, "-p", "0", "-s", "100", "-a", "-1"]);
    let produced = measure(produce.args(["-c", &records]), broker, log, said_by_rdkafka)?;
    if tool == Tool::RdkafkaProduce || produced.is_none() {
        return Ok(produced);
    }
    let mut consume = Command::new(&program);
    consume.args(["-b", address, "-C", "-t", topic, "-p", "0", "-o", "beginning", "-e"]);
    measure(consume.args(["-c", &records]), broker, log, said_by_rdkafka)
}

/// librdkafka's example.
fn rdkafka_performance() -> Result<PathBuf, String> {
    let home = librdkafka::fetch(&directory())?;
    let make = "make -C examples rdkafka_performance";
    librdkafka::build(&home, make, "examples/rdkafka_performance", &directory().join("make.log"))
}

fn perf_test(broker: &Running, seconds: u32, log: &Path) -> Result<Option<Measured>, String> {
    let jars = maven("perf-test", &[PERF_TEST])?;
    let mut command = java(&jars, "com.rabbitmq.perf.PerfTest");
    let uri = format!("amqp://guest:guest@{}", broker.address_of("amqp"));
    command.args(["-h", &uri, "-x", "1", "-y", "1", "-s", "16", "--autoack"]);
    command.args(["-u", &format!("compare-{}", unique()), "-z", &seconds.to_string()]);
    let read = |text: &str| {
        let per_second = said_by_perf_test(text)?;
        Some(Said { per_second, messages: (per_second * f64::from(seconds)) as u64 })
    };
    measure(&mut command, broker, log, read)
}

/// `3000000 records sent, 1234567.8 records/sec (…)`, the last of several.
fn said_by_java(text: &str) -> Option<Said> {
    let line = text.lines().rfind(|line| line.contains("records/sec"))?;
    let messages = line.split_whitespace().next()?.parse().ok()?;
    let (before, _) = line.split_once(" records/sec")?;
    let per_second = before.rsplit(' ').next()?.parse().ok()?;
    Some(Said { per_second, messages })
}

/// `% 5000000 messages … in 2719ms: 1838763 msgs/s …`, the last of several.
fn said_by_rdkafka(text: &str) -> Option<Said> {
    let line = text.lines().rfind(|line| line.contains(" msgs/s"))?;
    let (before, _) = line.split_once(" msgs/s")?;
    let per_second = before.rsplit(' ').next()?.parse().ok()?;
    Some(Said { per_second, messages: RECORDS })
}

/// `id: …, receiving rate avg: 65432 msg/s`.
fn said_by_perf_test(text: &str) -> Option<f64> {
    let line = text.lines().rfind(|line| line.contains("receiving rate avg"))?;
    line.rsplit_once(": ")?.1.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_tools_say_is_read() {
        let java = "100000 records sent, 20000.0 records/sec (1.9 MB/sec), 1 ms avg latency.\n\
                    3000000 records sent, 1234567.89 records/sec (117.7 MB/sec), 2.0 ms avg latency";
        let said = said_by_java(java).expect("a rate");
        assert_eq!((said.messages, said.per_second as u64), (3_000_000, 1_234_567));
        let rdkafka = "% 5000000 messages produced (500000000 bytes), 5000000 delivered (offset 9, 0 failed) \
                       in 2719ms: 1838763 msgs/s and 183.88 MB/s, 0 produce failures";
        assert_eq!(said_by_rdkafka(rdkafka).expect("a rate").per_second as u64, 1_838_763);
        let perf = "id: test-1, sending rate avg: 71000 msg/s\nid: test-1, receiving rate avg: 70999 msg/s\n";
        assert_eq!(said_by_perf_test(perf), Some(70_999.0));
        assert_eq!(said_by_perf_test("nothing"), None);
    }
}
