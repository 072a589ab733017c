//! Runs a mix against a node on this machine: `tcp KAFKA_PORT AMQP_PORT MQTT_PORT SECONDS SEED`.

use koine_workload::mix::{Mix, MixOptions};
use koine_workload::tcp::{Addresses, TcpHost};
use std::time::Duration;

fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let [kafka, amqp, mqtt, seconds, seed] = numbers[..] else {
        eprintln!("tcp KAFKA_PORT AMQP_PORT MQTT_PORT SECONDS SEED");
        return;
    };
    let at = |port: u64| ([127, 0, 0, 1], port as u16).into();
    let addresses = Addresses { kafka: at(kafka), amqp: at(amqp), mqtt: at(mqtt) };
    let mut host = TcpHost::new(addresses);
    let mut mix = Mix::new(MixOptions::new(seed));
    host.run_for(&mut mix, Duration::from_secs(seconds));
    let is_drained = host.drain(&mut mix, Duration::from_secs(60));
    println!("drained: {is_drained}, open: {:?}", mix.unfinished());
    for (note, count) in &mix.history().notes {
        println!("{note:?}: {count}");
    }
    println!("{}", mix.judge());
}
