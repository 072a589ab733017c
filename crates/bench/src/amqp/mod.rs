//! AMQP 0-9-1: a lane is a queue, published to through the default exchange. One channel per
//! connection.

mod consumer;
mod handshake;
mod producer;

use crate::failure::Failure;
use crate::plan::Plan;
use crate::protocol::{Opened, Protocol};
use crate::wire::{Put, Reader};

/// Frame types and end (spec 2.3).
mod frame {
    pub const METHOD: u8 = 1;
    pub const HEADER: u8 = 2;
    pub const BODY: u8 = 3;
    pub const HEARTBEAT: u8 = 8;
    pub const END: u8 = 0xCE;
}

/// Class and method ids, in one number.
mod method {
    pub const CONNECTION_START: u32 = 10 << 16 | 10;
    pub const CONNECTION_START_OK: u32 = 10 << 16 | 11;
    pub const CONNECTION_TUNE: u32 = 10 << 16 | 30;
    pub const CONNECTION_TUNE_OK: u32 = 10 << 16 | 31;
    pub const CONNECTION_OPEN: u32 = 10 << 16 | 40;
    pub const CONNECTION_OPEN_OK: u32 = 10 << 16 | 41;
    pub const CONNECTION_CLOSE: u32 = 10 << 16 | 50;
    pub const CHANNEL_OPEN: u32 = 20 << 16 | 10;
    pub const CHANNEL_OPEN_OK: u32 = 20 << 16 | 11;
    pub const CHANNEL_CLOSE: u32 = 20 << 16 | 40;
    pub const QUEUE_DECLARE: u32 = 50 << 16 | 10;
    pub const QUEUE_DECLARE_OK: u32 = 50 << 16 | 11;
    pub const QUEUE_DELETE: u32 = 50 << 16 | 40;
    pub const QUEUE_DELETE_OK: u32 = 50 << 16 | 41;
    pub const BASIC_QOS: u32 = 60 << 16 | 10;
    pub const BASIC_QOS_OK: u32 = 60 << 16 | 11;
    pub const BASIC_CONSUME: u32 = 60 << 16 | 20;
    pub const BASIC_CONSUME_OK: u32 = 60 << 16 | 21;
    pub const BASIC_CANCEL: u32 = 60 << 16 | 30;
    pub const BASIC_PUBLISH: u32 = 60 << 16 | 40;
    pub const BASIC_DELIVER: u32 = 60 << 16 | 60;
    pub const BASIC_ACK: u32 = 60 << 16 | 80;
    pub const BASIC_NACK: u32 = 60 << 16 | 120;
    pub const CONFIRM_SELECT: u32 = 85 << 16 | 10;
    pub const CONFIRM_SELECT_OK: u32 = 85 << 16 | 11;
}

/// Type, channel and size before a frame's payload; the end octet follows it.
const FRAME_HEAD_BYTES: usize = 7;
const FRAME_EXTRA_BYTES: usize = FRAME_HEAD_BYTES + 1;

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
        (0..plan.lanes).try_for_each(|lane| channel.declare(plan, lane))
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
        (0..plan.lanes).try_for_each(|lane| channel.delete(plan, lane))
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

/// A whole frame at the front of the input.
struct Frame<'a> {
    kind: u8,
    payload: &'a [u8],
    /// With head and end.
    bytes: usize,
}

impl<'a> Frame<'a> {
    #[inline]
    fn first(input: &'a [u8]) -> Result<Option<Frame<'a>>, Failure> {
        let Some(bytes) = frame_bytes(input) else { return Ok(None) };
        let Some(whole) = input.get(..bytes) else { return Ok(None) };
        if whole[bytes - 1] != frame::END {
            return Err(Failure::Malformed("frame end"));
        }
        let payload = &whole[FRAME_HEAD_BYTES..bytes - 1];
        Ok(Some(Frame { kind: whole[0], payload, bytes }))
    }
}

fn frame_bytes(input: &[u8]) -> Option<usize> {
    let size = input.get(3..FRAME_HEAD_BYTES)?.first_chunk::<4>()?;
    Some((u32::from_be_bytes(*size) as usize).saturating_add(FRAME_EXTRA_BYTES))
}

/// Appends a frame of `kind` whose payload `fill` writes.
fn put_frame(out: &mut Vec<u8>, kind: u8, channel: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    out.put_u8(kind);
    out.put_u16(channel);
    out.put_u32(0);
    let start = out.len();
    fill(out);
    let size = (out.len() - start) as u32;
    out[start - 4..start].copy_from_slice(&size.to_be_bytes());
    out.put_u8(frame::END);
}

fn put_method(out: &mut Vec<u8>, channel: u16, id: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    put_frame(out, frame::METHOD, channel, |out| {
        out.put_u32(id);
        fill(out);
    });
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
        _ => reader.malformed(),
    }
}
