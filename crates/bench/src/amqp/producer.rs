//! Basic.Publish: method, header and body frames built once per queue; only the stamp changes.
//! Confirms are counted one by one, however the broker bundles them.

use super::{
    frame, handshake::CHANNEL, method, put_frame, put_method, unexpected, Amqp, Frame,
    FRAME_EXTRA_BYTES, FRAME_HEAD_BYTES,
};
use crate::clock::{Nanos, Schedule};
use crate::failure::Failure;
use crate::payload::{pattern, Stamp};
use crate::plan::Plan;
use crate::protocol::Link;
use crate::tally::Tally;
use koine_workload::frames::wire::{Put, Reader};

/// Property flags: delivery-mode present (bit 12).
const HAS_DELIVERY_MODE: u16 = 0x1000;
const PERSISTENT: u8 = 2;
/// What a producer without confirms may append at once.
const UNBOUNDED: u64 = u64::MAX;

struct Template {
    frames: Vec<u8>,
    /// Where the body begins.
    body_start: usize,
    source: u32,
    sequence: u32,
    copies: u64,
}

pub struct Producer {
    templates: Vec<Template>,
    turn: usize,
    run: u16,
    stamped: bool,
    /// 0 without confirms.
    window: u64,
    /// By delivery tag modulo window: the intended time, or `None` once confirmed.
    unconfirmed: Vec<Option<Nanos>>,
    /// Smallest tag not yet confirmed, and the next to be given. Tags begin with 1.
    oldest: u64,
    next: u64,
}

impl Producer {
    pub fn new(plan: &Plan, index: usize, frame_bytes_max: usize) -> Self {
        let lanes = plan.lanes_of(index, plan.producers);
        let make = |&lane: &usize| template(plan, index, lane, frame_bytes_max);
        Producer {
            templates: lanes.iter().map(make).collect(),
            turn: 0,
            run: plan.run,
            stamped: plan.size >= crate::payload::STAMP_BYTES,
            window: plan.window,
            unconfirmed: vec![None; plan.window as usize],
            oldest: 1,
            next: 1,
        }
    }

    fn slot(&mut self, tag: u64) -> &mut Option<Nanos> {
        let slot = (tag % self.window) as usize;
        &mut self.unconfirmed[slot]
    }

    fn confirmed(
        &mut self,
        tag: u64,
        multiple: bool,
        refused: bool,
        at: Nanos,
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        // A tag of 0 with `multiple` means all.
        let last = if tag == 0 && multiple { self.next - 1 } else { tag };
        let first = if multiple { self.oldest } else { last };
        if last < self.oldest || last >= self.next {
            return Err(Failure::Malformed("confirm: its delivery tag is not in flight"));
        }
        for tag in first..=last {
            let Some(sent_at) = self.slot(tag).take() else { continue };
            if refused {
                tally.faults.refused += 1;
            }
            tally.acknowledged(1, sent_at, at);
        }
        while self.oldest < self.next && self.slot(self.oldest).is_none() {
            self.oldest += 1;
        }
        Ok(())
    }
}

fn template(plan: &Plan, index: usize, lane: usize, frame_bytes_max: usize) -> Template {
    let mut frames = Vec::new();
    put_method(&mut frames, CHANNEL, method::BASIC_PUBLISH, |out| {
        out.put_u16(0);
        out.put_tiny_text(""); // the default exchange
        out.put_tiny_text(&plan.lane_name(lane));
        out.put_u8(0); // neither mandatory nor immediate
    });
    put_frame(&mut frames, frame::HEADER, CHANNEL, |out| {
        out.put_u16(60); // class
        out.put_u16(0); // weight
        out.put_u64(plan.size as u64);
        if Amqp::is_durable(plan) {
            out.put_u16(HAS_DELIVERY_MODE);
            out.put_u8(PERSISTENT);
        } else {
            out.put_u16(0);
        }
    });
    let body_start = frames.len() + FRAME_HEAD_BYTES;
    let body = pattern(plan.size);
    for piece in body.chunks(frame_bytes_max - FRAME_EXTRA_BYTES) {
        put_frame(&mut frames, frame::BODY, CHANNEL, |out| out.put(piece));
    }
    Template {
        frames,
        body_start,
        source: plan.source(index, lane),
        sequence: 0,
        // Consumers of a queue compete: each message goes to one of them.
        copies: plan.readers_of(lane).min(1),
    }
}

impl Link for Producer {
    fn unit(&self) -> u64 {
        1
    }

    fn unit_bytes(&self) -> usize {
        self.templates[0].frames.len()
    }

    fn room(&self) -> u64 {
        match self.window {
            0 => UNBOUNDED,
            window => window - (self.next - self.oldest),
        }
    }

    fn publish(
        &mut self,
        units: u64,
        times: &mut Schedule,
        out: &mut Vec<u8>,
        tally: &mut Tally,
    ) -> u64 {
        out.reserve(units as usize * self.unit_bytes());
        for _ in 0..units {
            let sent_at = times.take(1);
            let turn = self.turn;
            self.turn = if turn + 1 == self.templates.len() { 0 } else { turn + 1 };
            let template = &mut self.templates[turn];
            let start = out.len() + template.body_start;
            out.put(&template.frames);
            if self.stamped {
                let (run, source, sequence) = (self.run, template.source, template.sequence);
                Stamp { sent_at, run, source, sequence }.write(&mut out[start..]);
                template.sequence = sequence.wrapping_add(1);
            }
            tally.sent(1, template.copies);
            if self.window > 0 {
                let tag = self.next;
                *self.slot(tag) = Some(sent_at);
                self.next += 1;
            }
        }
        units
    }

    fn receive(
        &mut self,
        input: &[u8],
        at: Nanos,
        _out: &mut Vec<u8>,
        tally: &mut Tally,
    ) -> Result<usize, Failure> {
        let mut used = 0;
        while let Some(frame) = Frame::first(&input[used..])? {
            used += frame.bytes;
            if frame.kind == frame::HEARTBEAT {
                continue;
            }
            let mut reader = Reader::new(frame.payload, "method");
            match reader.u32()? {
                id @ (method::BASIC_ACK | method::BASIC_NACK) if self.window > 0 => {
                    let tag = reader.u64()?;
                    let multiple = reader.u8()? & 1 != 0;
                    self.confirmed(tag, multiple, id == method::BASIC_NACK, at, tally)?;
                }
                id => return Err(unexpected(id, reader)),
            }
        }
        Ok(used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Window;
    use crate::plan::tests::plan;

    const WINDOW: Window = Window { origin: 0, start: 0, end: 100 };

    #[test]
    fn bodies_are_cut_to_the_frame_size() {
        for (size, frame_max, frames) in
            [(100, 4096, 1), (4088, 4096, 1), (9000, 4096, 3), (0, 4096, 0)]
        {
            let mut plan = plan();
            plan.size = size;
            let template = template(&plan, 0, 0, frame_max);
            let (mut rest, mut body, mut count) = (&template.frames[..], Vec::new(), 0);
            while let Some(frame) = Frame::first(rest).unwrap() {
                assert!(frame.bytes <= frame_max);
                if frame.kind == frame::BODY {
                    count += 1;
                    body.extend_from_slice(frame.payload);
                }
                rest = &rest[frame.bytes..];
            }
            assert_eq!((rest.len(), count), (0, frames));
            assert_eq!(body, pattern(size));
        }
    }

    #[test]
    fn confirms_free_the_window_however_they_come() {
        let check = |confirms: &[(u64, bool)], room, acknowledged| {
            let mut plan = plan();
            plan.window = 4;
            let mut producer = Producer::new(&plan, 0, 4096);
            let mut tally = Tally::new(WINDOW);
            let mut out = Vec::new();
            producer.publish(4, &mut Schedule::new(1, 0.0), &mut out, &mut tally);
            assert_eq!(producer.room(), 0);
            let mut input = Vec::new();
            for &(tag, multiple) in confirms {
                put_method(&mut input, CHANNEL, method::BASIC_ACK, |out| {
                    out.put_u64(tag);
                    out.put_u8(u8::from(multiple));
                });
            }
            let used = producer.receive(&input, 5, &mut out, &mut tally);
            match acknowledged {
                Some(acknowledged) => {
                    assert_eq!(used.unwrap(), input.len());
                    assert_eq!((producer.room(), tally.totals.acknowledged), (room, acknowledged));
                }
                None => assert!(used.is_err()),
            }
        };
        check(&[(1, false)], 1, Some(1));
        check(&[(3, false), (2, false)], 0, Some(2));
        check(&[(3, false), (2, true)], 3, Some(3));
        check(&[(0, true)], 4, Some(4));
        check(&[(4, true)], 4, Some(4));
        check(&[(5, false)], 0, None);
        check(&[(4, true), (1, false)], 0, None);
    }
}
