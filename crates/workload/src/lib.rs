//! Clients of Kafka, AMQP 0-9-1 and MQTT as state machines without input and output.

pub mod frames;
