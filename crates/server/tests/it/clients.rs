//! Every official client, unmodified, against a broker of its own.

use std::path::PathBuf;
use std::process::Command;

use crate::broker::Broker;
use crate::programs::{check, clients, present, sources};

fn run(test: &str, command: Option<Command>, address: impl Fn(&Broker) -> String) {
    let Some(mut command) = command else { return };
    let mut broker = Broker::start(test);
    command.arg(address(&broker));
    check(&mut broker, &mut command);
}

/// The interpreter of the virtual environment.
pub fn python() -> Option<PathBuf> {
    present("python", clients().join("python/bin/python"))
}

pub fn python_program(name: &str) -> Option<Command> {
    let mut command = Command::new(python()?);
    command.arg(sources().join("python").join(name).join("main.py"));
    Some(command)
}

pub fn node_program(name: &str) -> Option<Command> {
    let modules = present("node", clients().join("node/node_modules"))?;
    let mut command = Command::new("node");
    command.env("NODE_PATH", modules).arg(sources().join("node").join(name).join("main.js"));
    Some(command)
}

pub fn java_program(class: &str) -> Option<Command> {
    let classes = present("java", clients().join("java/classes"))?;
    let path = format!("{}:{}/*", classes.display(), clients().join("java/libs").display());
    let mut command = Command::new("java");
    command.args(["-Xmx256m", "-cp", &path, class]);
    Some(command)
}

pub fn go_program(name: &str) -> Option<Command> {
    present("go", clients().join("go").join(name)).map(Command::new)
}

fn rust_program(name: &str) -> Option<Command> {
    present("rust", clients().join("rust/debug").join(name)).map(Command::new)
}

macro_rules! client_tests {
    ($($test:ident: $program:expr, $listener:ident;)*) => {
        $(
            #[test]
            fn $test() {
                run(stringify!($test), $program, |broker| broker.addresses.$listener.clone());
            }
        )*
    };
}

client_tests! {
    kafka_rust_rdkafka: rust_program("client-rdkafka"), kafka;
    kafka_python_confluent: python_program("confluent-kafka"), kafka;
    kafka_python_kafka_python: python_program("kafka-python"), kafka;
    kafka_java_kafka_clients: java_program("kafkaclients.KafkaClients"), kafka;
    kafka_go_franz_go: go_program("franz-go"), kafka;
    kafka_node_kafkajs: node_program("kafkajs"), kafka;
    amqp_rust_lapin: rust_program("client-lapin"), amqp;
    amqp_python_pika: python_program("pika"), amqp;
    amqp_java_amqp_client: java_program("amqpclient.AmqpClient"), amqp;
    amqp_go_amqp091_go: go_program("amqp091-go"), amqp;
    amqp_node_amqplib: node_program("amqplib"), amqp;
    mqtt_rust_rumqttc: rust_program("client-rumqttc"), mqtt;
    mqtt_python_paho: python_program("paho-mqtt"), mqtt;
    mqtt_node_mqtt_js: node_program("mqtt"), mqtt;
}
