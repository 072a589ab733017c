//! The composition root: which crate speaks which protocol. The only place that knows them all.

use super::node_file::random_number;
use crate::metrics::Protocol;
use koine_base::Moment;
use koine_broker::limits::Limits;
use koine_broker::message::Dialects;
use koine_broker::session::{Peer, Session};

/// A session for a new socket of one of [`crate::metrics::PROTOCOLS`].
pub fn open(protocol: Protocol, peer: Peer, now: Moment, limits: &Limits) -> Box<dyn Session> {
    match protocol {
        Protocol::Kafka => Box::new(koine_kafka::KafkaSession::new(peer, random_number())),
        Protocol::Amqp091 => Box::new(koine_amqp::v091::AmqpSession::new(&peer, now, limits)),
        Protocol::Mqtt => Box::new(koine_mqtt::MqttSession::new(peer)),
        Protocol::Admin => unreachable!("no socket speaks to the admin session"),
    }
}

pub const DIALECTS: Dialects = Dialects {
    kafka: &koine_kafka::message::KafkaDialect,
    amqp091: &koine_amqp::v091::Amqp091Dialect,
    mqtt: &koine_mqtt::MqttDialect,
};
