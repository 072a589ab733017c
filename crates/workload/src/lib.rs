//! Clients of Kafka, AMQP 0-9-1 and MQTT as state machines without input and output.

pub mod amqp;
pub mod check;
pub mod client;
pub mod frames;
pub mod history;
pub mod kafka;
pub mod mix;
pub mod mqtt;
pub mod tcp;
mod topology;
pub mod value;
