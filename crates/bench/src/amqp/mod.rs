//! AMQP 0-9-1: a lane is a queue, published to through the default exchange. One channel per
//! connection.

mod consumer;
mod handshake;
mod producer;

use crate::failure::Failure;
use crate::plan::Plan;
use crate::protocol::{Opened, Protocol};
use koine_workload::frames::amqp::{
    frame, frame_bytes, method, put_frame, put_method, Frame, FRAME_EXTRA_BYTES, FRAME_HEAD_BYTES,
};
use koine_workload::frames::wire::Reader;

pub struct Amqp;

impl Amqp {
    /// Durable queue and persistent messages, or neither.
    fn is_durable(plan: &Plan) -> bool {
        plan.durability.as_deref() != Some("memory")
    }
}

impl Protocol for Amqp {
    fn prepare(&mut self, plan: &Plan) -> Result<(), Failure> {
        let mut channel = handshake::Channel::open(plan)?;
        channel.declare_all(plan)
    }

    fn producer(&self, plan: &Plan, index: usize) -> Result<Opened, Failure> {
        let mut channel = handshake::Channel::open(plan)?;
        if plan.confirm {
            channel.select_confirms()?;
        }
        let frame_bytes_max = channel.frame_bytes_max;
        let link = producer::Producer::new(plan, index, frame_bytes_max);
        Ok(Opened { dialogue: channel.dialogue, link: Box::new(link) })
    }

    fn consumer(&self, plan: &Plan, index: usize) -> Result<Opened, Failure> {
        let mut channel = handshake::Channel::open(plan)?;
        if !plan.auto_ack {
            channel.set_prefetch(plan.prefetch)?;
        }
        for (place, lane) in plan.lanes_of(index, plan.consumers).into_iter().enumerate() {
            channel.consume(plan, lane, place == 0)?;
        }
        let link = Box::new(consumer::Consumer::new(plan));
        Ok(Opened { dialogue: channel.dialogue, link })
    }

    fn clean_up(&self, plan: &Plan) -> Result<(), Failure> {
        if plan.given_name.is_some() {
            return Ok(());
        }
        let mut channel = handshake::Channel::open(plan)?;
        channel.delete_all(plan)
    }

    fn promise(&self, plan: &Plan) -> String {
        let queue = match (&plan.queue_type, Amqp::is_durable(plan)) {
            (Some(kind), _) => format!("{kind} queue, persistent messages"),
            (None, true) => "durable queue, persistent messages".into(),
            (None, false) => "transient queue and messages".to_owned(),
        };
        let confirms = if plan.confirm { "confirms" } else { "no confirms" };
        let acks = match (plan.consumers, plan.auto_ack) {
            (0, _) => String::new(),
            (_, true) => ", auto-ack".into(),
            (_, false) => format!(", acks (prefetch {})", plan.prefetch),
        };
        format!("{queue}, {confirms}{acks}")
    }
}

/// Connection.Close and Channel.Close say why; anything else was not expected.
fn unexpected(id: u32, mut reader: Reader) -> Failure {
    let doing = format!("method {}.{}", id >> 16, id & 0xFFFF);
    if !matches!(id, method::CONNECTION_CLOSE | method::CHANNEL_CLOSE) {
        return Failure::Refused(format!("unexpected {doing}"));
    }
    match (reader.u16(), reader.tiny_bytes()) {
        (Ok(code), Ok(text)) => {
            Failure::Refused(format!("{code} {}", String::from_utf8_lossy(text)))
        }
        _ => reader.malformed().into(),
    }
}
