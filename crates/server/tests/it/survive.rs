//! What was acknowledged is served after the process was killed and started again on its data.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::broker::Broker;
use crate::clients::python;
use crate::programs::{check, sources};
use crate::wait;
use crate::wire::{amqp, kafka, mqtt};

/// Acknowledged messages per protocol before the broker is killed.
const ACKNOWLEDGED_MIN: usize = 200;
const WRITE_LIMIT: Duration = Duration::from_secs(60);

fn acknowledged(notes: &Path, protocol: &str) -> usize {
    let text = std::fs::read_to_string(notes).unwrap_or_default();
    text.lines().filter(|line| line.starts_with(protocol)).count()
}

/// The writer, ended with its guard.
struct Writer(Child);

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn acknowledged_messages_survive_kill_9_under_load() {
    let Some(python) = python() else { return };
    let mut broker = Broker::start("survive");
    for round in 0..3 {
        let (name, notes) =
            (format!("survive{round}"), broker.directory.path().join(format!("notes{round}")));
        let mut write = Command::new(&python);
        write.arg(sources().join("python/survive/write.py")).arg(&name).arg(&notes);
        write
            .envs(broker.variables())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let writer = Writer(write.spawn().unwrap());
        wait::until("acknowledgements of all three protocols", WRITE_LIMIT, || {
            let enough = |protocol| acknowledged(&notes, protocol) >= ACKNOWLEDGED_MIN;
            ["kafka", "amqp", "mqtt"].into_iter().all(enough).then_some(())
        });
        let directory = broker.kill();
        drop(writer);
        broker = Broker::start_in(directory, &[]);
        let mut read = Command::new(&python);
        read.arg(sources().join("python/survive/read.py")).arg(&name).arg(&notes);
        check(&mut broker, &mut read);
    }
}

/// The same without any client installed: one message of each protocol, a kill, a start, and all three are read.
#[test]
fn one_message_of_each_protocol_survives_kill_9() {
    let broker = Broker::start("survive-wire");
    let at = &broker.addresses;
    let mut writer = kafka::Client::connect(&at.kafka).unwrap();
    writer.create_topic("kept").unwrap();
    assert_eq!(writer.produce("kept", b"from kafka").unwrap(), 0);
    let mut publisher = amqp::Client::connect(&at.amqp).unwrap();
    publisher.declare("kept-queue").unwrap();
    publisher.publish("kept-queue", b"from amqp").unwrap();
    let mut keeper = mqtt::Client::connect(&at.mqtt, "keeper", false).unwrap();
    keeper.subscribe("kept/subject").unwrap();
    drop(keeper);
    let mut other = mqtt::Client::connect(&at.mqtt, "other", true).unwrap();
    other.publish("kept/subject", b"from mqtt").unwrap();

    let broker = Broker::start_in(broker.kill(), &[]);
    let at = &broker.addresses;
    let mut reader = kafka::Client::connect(&at.kafka).unwrap();
    assert_eq!(reader.fetch("kept", 0).unwrap(), b"from kafka");
    let mut consumer = amqp::Client::connect(&at.amqp).unwrap();
    assert_eq!(consumer.get("kept-queue").unwrap().as_deref(), Some(&b"from amqp"[..]));
    let mut keeper = mqtt::Client::connect(&at.mqtt, "keeper", false).unwrap();
    assert_eq!(keeper.receive().unwrap(), b"from mqtt");
}

#[test]
fn a_clean_stop_keeps_what_was_written() {
    let broker = Broker::start("clean-stop");
    let mut writer = kafka::Client::connect(&broker.addresses.kafka).unwrap();
    writer.create_topic("kept").unwrap();
    for i in 0..100u8 {
        assert_eq!(writer.produce("kept", &[i]).unwrap(), i64::from(i));
    }
    let (status, directory) = broker.stop();
    assert!(status.success(), "{status}");
    let broker = Broker::start_in(directory, &[]);
    let mut reader = kafka::Client::connect(&broker.addresses.kafka).unwrap();
    for i in [0, 42, 99u8] {
        assert_eq!(reader.fetch("kept", i64::from(i)).unwrap(), [i]);
    }
}
