//! Opening a connection with one channel, and the methods of set-up, all blocking.

use super::{frame, frame_bytes, method, put_method, unexpected, Amqp, Frame};
use crate::dialogue::Dialogue;
use crate::failure::Failure;
use crate::plan::Plan;
use koine_workload::frames::wire::{Put, Reader};

pub const CHANNEL: u16 = 1;
/// What we ask for when the broker sets no limit.
const FRAME_BYTES_MAX: u32 = 128 << 10;
/// Declarations or deletions sent before the first answer is read: some 100 bytes each, so that
/// both ends' socket buffers hold them.
const REQUESTS_AT_ONCE: usize = 500;

pub struct Channel {
    pub dialogue: Dialogue,
    pub frame_bytes_max: usize,
}

impl Channel {
    pub fn open(plan: &Plan) -> Result<Self, Failure> {
        let mut dialogue = Dialogue::open(&plan.addr)?;
        dialogue.say(b"AMQP\x00\x00\x09\x01")?;
        let mut channel = Channel { dialogue, frame_bytes_max: FRAME_BYTES_MAX as usize };
        channel.hear(method::CONNECTION_START)?;
        channel.say(0, method::CONNECTION_START_OK, |out| {
            out.put_u32(0); // client properties
            out.put_tiny_text("PLAIN");
            let (user, password) =
                plan.login.as_ref().map_or(("guest", "guest"), |(user, password)| (user, password));
            let response = format!("\0{user}\0{password}");
            out.put_u32(response.len() as u32);
            out.put(response.as_bytes());
            out.put_tiny_text("en_US");
        })?;
        let tune = channel.hear(method::CONNECTION_TUNE)?;
        let mut reader = Reader::new(&tune, "Connection.Tune");
        let channel_max = reader.u16()?;
        let frame_max = match reader.u32()? {
            0 => FRAME_BYTES_MAX,
            offered => offered.min(FRAME_BYTES_MAX),
        };
        channel.frame_bytes_max = frame_max as usize;
        channel.say(0, method::CONNECTION_TUNE_OK, |out| {
            out.put_u16(channel_max);
            out.put_u32(frame_max);
            out.put_u16(0); // no heartbeat
        })?;
        channel.say(0, method::CONNECTION_OPEN, |out| {
            out.put_tiny_text(&plan.vhost);
            out.put_u16(0);
        })?;
        channel.hear(method::CONNECTION_OPEN_OK)?;
        channel.say(CHANNEL, method::CHANNEL_OPEN, |out| out.put_u8(0))?;
        channel.hear(method::CHANNEL_OPEN_OK)?;
        Ok(channel)
    }

    fn say(
        &mut self,
        number: u16,
        id: u32,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Failure> {
        let mut out = Vec::new();
        put_method(&mut out, number, id, fill);
        self.dialogue.say(&out)
    }

    /// The arguments of the next method, which must be `id`.
    fn hear(&mut self, id: u32) -> Result<Vec<u8>, Failure> {
        loop {
            let bytes = self.dialogue.hear(frame_bytes)?;
            let Some(heard) = Frame::first(&bytes)? else {
                return Err(Failure::Malformed("frame"));
            };
            if heard.kind == frame::HEARTBEAT {
                continue;
            }
            let mut reader = Reader::new(heard.payload, "method");
            let got = reader.u32()?;
            if heard.kind != frame::METHOD || got != id {
                return Err(unexpected(got, reader));
            }
            return Ok(reader.rest().to_vec());
        }
    }

    /// One request per lane, several of them under way at once: tens of thousands of queues take
    /// seconds and not minutes.
    fn of_all_lanes(
        &mut self,
        plan: &Plan,
        answer: u32,
        request: fn(&mut Vec<u8>, &Plan, usize),
    ) -> Result<(), Failure> {
        let mut out = Vec::new();
        for first in (0..plan.lanes).step_by(REQUESTS_AT_ONCE) {
            let lanes = first..plan.lanes.min(first + REQUESTS_AT_ONCE);
            out.clear();
            lanes.clone().for_each(|lane| request(&mut out, plan, lane));
            self.dialogue.say(&out)?;
            for _ in lanes {
                self.hear(answer)?;
            }
        }
        Ok(())
    }

    pub fn declare_all(&mut self, plan: &Plan) -> Result<(), Failure> {
        self.of_all_lanes(plan, method::QUEUE_DECLARE_OK, put_declare)
    }

    pub fn delete_all(&mut self, plan: &Plan) -> Result<(), Failure> {
        self.of_all_lanes(plan, method::QUEUE_DELETE_OK, put_delete)
    }

    pub fn select_confirms(&mut self) -> Result<(), Failure> {
        self.say(CHANNEL, method::CONFIRM_SELECT, |out| out.put_u8(0))?;
        self.hear(method::CONFIRM_SELECT_OK).map(drop)
    }

    pub fn set_prefetch(&mut self, count: u16) -> Result<(), Failure> {
        self.say(CHANNEL, method::BASIC_QOS, |out| {
            out.put_u32(0); // bytes: no bound
            out.put_u16(count);
            out.put_u8(0); // for each consumer
        })?;
        self.hear(method::BASIC_QOS_OK).map(drop)
    }

    /// Deliveries of one consumer may come before the answer to the next; so only the first of a
    /// connection asks for an answer.
    pub fn consume(&mut self, plan: &Plan, lane: usize, first: bool) -> Result<(), Failure> {
        self.say(CHANNEL, method::BASIC_CONSUME, |out| {
            out.put_u16(0);
            out.put_tiny_text(&plan.lane_name(lane));
            out.put_tiny_text(&format!("c{lane}"));
            // Bits: no-local, no-ack, exclusive, no-wait.
            out.put_u8(u8::from(plan.auto_ack) << 1 | u8::from(!first) << 3);
            out.put_u32(0);
        })?;
        if first {
            self.hear(method::BASIC_CONSUME_OK)?;
        }
        Ok(())
    }
}

fn put_declare(out: &mut Vec<u8>, plan: &Plan, lane: usize) {
    put_method(out, CHANNEL, method::QUEUE_DECLARE, |out| {
        out.put_u16(0);
        out.put_tiny_text(&plan.lane_name(lane));
        // Bits: passive, durable, exclusive, auto-delete, no-wait.
        out.put_u8(if Amqp::is_durable(plan) { 0b00010 } else { 0 });
        match &plan.queue_type {
            None => out.put_u32(0),
            Some(kind) => {
                let mut table = Vec::new();
                table.put_tiny_text("x-queue-type");
                table.put_u8(b'S');
                table.put_u32(kind.len() as u32);
                table.put(kind.as_bytes());
                out.put_u32(table.len() as u32);
                out.put(&table);
            }
        }
    });
}

fn put_delete(out: &mut Vec<u8>, plan: &Plan, lane: usize) {
    put_method(out, CHANNEL, method::QUEUE_DELETE, |out| {
        out.put_u16(0);
        out.put_tiny_text(&plan.lane_name(lane));
        out.put_u8(0); // whether used or empty does not matter
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::plan;

    #[test]
    fn all_that_is_under_way_at_once_fits_a_socket_buffer() {
        let mut plan = plan();
        (plan.lanes, plan.queue_type) = (1_000_000, Some("quorum".into()));
        let mut out = Vec::new();
        (0..REQUESTS_AT_ONCE).for_each(|lane| put_declare(&mut out, &plan, 999_000 + lane));
        let mut rest = &out[..];
        let mut count = 0;
        while let Some(frame) = Frame::first(rest).expect("frames of our own") {
            rest = &rest[frame.bytes..];
            count += 1;
        }
        assert_eq!((count, rest.len()), (REQUESTS_AT_ONCE, 0));
        // Smaller than what Linux gives a socket at first for sending and for receiving.
        assert!(out.len() < 80 << 10, "{}", out.len());
    }
}
