//! Basic.Deliver: takes method, header and body frames apart, verifies, and acknowledges what one
//! read brought with one Basic.Ack (or each so many, as the plan says).

use super::{frame, handshake::CHANNEL, method, put_method, unexpected, Frame};
use crate::clock::Nanos;
use crate::failure::Failure;
use crate::payload::{pattern, Ledger, Share, Stamp, STAMP_BYTES};
use crate::plan::{Mode, Plan};
use crate::protocol::Link;
use crate::tally::Tally;
use koine_workload::frames::wire::{Put, Reader};

/// What the next frame must be.
#[derive(Clone, Copy, Debug)]
enum Expect {
    Method,
    Header,
    /// Position in the body, and its size.
    Body {
        position: usize,
        size: usize,
    },
}

pub struct Consumer {
    expect: Expect,
    /// Of the message being received, then of the last one complete.
    delivery_tag: u64,
    /// Complete messages not yet acknowledged.
    unacknowledged: u64,
    ack_every: u64,
    auto_ack: bool,
    ledger: Ledger,
    stamp: Option<Stamp>,
    body: Vec<u8>,
    check_every: u64,
    messages: u64,
}

impl Consumer {
    pub fn new(plan: &Plan) -> Self {
        let any_run = plan.mode == Mode::Consume || plan.standing;
        // Several consumers of a queue each see a part.
        let alone = plan.consumers <= plan.lanes;
        Consumer {
            expect: Expect::Method,
            delivery_tag: 0,
            unacknowledged: 0,
            ack_every: plan.ack_every,
            auto_ack: plan.auto_ack,
            ledger: Ledger::new(plan.run, any_run, if alone { Share::Whole } else { Share::Part }),
            stamp: None,
            body: pattern(plan.size),
            check_every: plan.check_every,
            messages: 0,
        }
    }

    #[inline]
    fn frame(
        &mut self,
        frame: &Frame,
        at: Nanos,
        out: &mut Vec<u8>,
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        match (self.expect, frame.kind) {
            (Expect::Method, frame::METHOD) => self.method(frame.payload),
            (Expect::Header, frame::HEADER) => {
                let size = frame.payload.get(4..12).and_then(|size| size.first_chunk::<8>());
                let size = u64::from_be_bytes(*size.ok_or(Failure::Malformed("content header"))?);
                self.stamp = None;
                match size {
                    0 => self.complete(at, out, tally),
                    size => self.expect = Expect::Body { position: 0, size: size as usize },
                }
                Ok(())
            }
            (Expect::Body { position, size }, frame::BODY) => {
                let piece = frame.payload;
                if piece.is_empty() || piece.len() > size - position {
                    return Err(Failure::Malformed("content body"));
                }
                self.piece(position, size, piece, tally);
                match position + piece.len() {
                    end if end == size => self.complete(at, out, tally),
                    position => self.expect = Expect::Body { position, size },
                }
                Ok(())
            }
            (_, frame::HEARTBEAT) => Ok(()),
            (_, frame::METHOD) => {
                let mut reader = Reader::new(frame.payload, "method");
                Err(unexpected(reader.u32()?, reader))
            }
            _ => Err(Failure::Malformed("order of frames")),
        }
    }

    #[inline]
    fn method(&mut self, payload: &[u8]) -> Result<(), Failure> {
        let mut reader = Reader::new(payload, "method");
        match reader.u32()? {
            method::BASIC_DELIVER => {
                reader.tiny_bytes()?; // consumer tag
                self.delivery_tag = reader.u64()?;
                self.expect = Expect::Header;
                Ok(())
            }
            method::BASIC_CONSUME_OK => Ok(()),
            method::BASIC_CANCEL => Err(Failure::Refused("the consumer was cancelled".into())),
            id => Err(unexpected(id, reader)),
        }
    }

    #[inline]
    fn piece(&mut self, position: usize, size: usize, piece: &[u8], tally: &mut Tally) {
        if position == 0 {
            self.stamp = Stamp::read(piece);
            self.messages += 1;
        }
        if self.check_every == 0 || !self.messages.is_multiple_of(self.check_every) {
            return;
        }
        // The stamp was read; the rest must be the pattern.
        let skip = if position == 0 && size >= STAMP_BYTES { STAMP_BYTES } else { 0 };
        let end = position + piece.len();
        let good =
            size == self.body.len() && piece.get(skip..) == self.body.get(position + skip..end);
        tally.faults.damaged += u64::from(!good);
    }

    #[inline]
    fn complete(&mut self, at: Nanos, out: &mut Vec<u8>, tally: &mut Tally) {
        self.expect = Expect::Method;
        match self.stamp {
            Some(stamp) => tally.delivered(&stamp, 1, at, &mut self.ledger),
            None => tally.delivered_unstamped(at),
        }
        self.unacknowledged += 1;
        if self.ack_every > 0 && self.unacknowledged >= self.ack_every {
            self.acknowledge(out);
        }
    }

    fn acknowledge(&mut self, out: &mut Vec<u8>) {
        if self.auto_ack || self.unacknowledged == 0 {
            self.unacknowledged = 0;
            return;
        }
        let multiple = self.unacknowledged > 1;
        self.unacknowledged = 0;
        let tag = self.delivery_tag;
        put_method(out, CHANNEL, method::BASIC_ACK, |out| {
            out.put_u64(tag);
            out.put_u8(u8::from(multiple));
        });
    }
}

impl Link for Consumer {
    fn receive(
        &mut self,
        input: &[u8],
        at: Nanos,
        out: &mut Vec<u8>,
        tally: &mut Tally,
    ) -> Result<usize, Failure> {
        let mut used = 0;
        while let Some(frame) = Frame::first(&input[used..])? {
            used += frame.bytes;
            self.frame(&frame, at, out, tally)?;
        }
        // In the middle of a message `delivery_tag` is already the next one's.
        if self.ack_every == 0 && matches!(self.expect, Expect::Method) {
            self.acknowledge(out);
        }
        Ok(used)
    }
}

#[cfg(test)]
mod tests {
    use super::super::put_frame;
    use super::*;
    use crate::clock::Window;
    use crate::plan::tests::plan;

    fn delivery(plan: &Plan, tag: u64, pieces: &[usize]) -> Vec<u8> {
        let mut out = Vec::new();
        put_method(&mut out, CHANNEL, method::BASIC_DELIVER, |out| {
            out.put_tiny_text("c0");
            out.put_u64(tag);
            out.put_u8(0);
            out.put_tiny_text("");
            out.put_tiny_text("q");
        });
        put_frame(&mut out, frame::HEADER, CHANNEL, |out| {
            out.put_u32(60 << 16);
            out.put_u64(plan.size as u64);
            out.put_u16(0);
        });
        let mut body = pattern(plan.size);
        let sequence = tag as u32 - 1;
        Stamp { sent_at: 2, run: plan.run, source: 0, sequence }.write(&mut body);
        let mut start = 0;
        for &piece in pieces {
            put_frame(&mut out, frame::BODY, CHANNEL, |out| out.put(&body[start..start + piece]));
            start += piece;
        }
        out
    }

    fn ack(tag: u64, multiple: bool) -> Vec<u8> {
        let mut out = Vec::new();
        put_method(&mut out, CHANNEL, method::BASIC_ACK, |out| {
            out.put_u64(tag);
            out.put_u8(u8::from(multiple));
        });
        out
    }

    #[test]
    fn deliveries_in_any_cut_are_counted_checked_and_acknowledged() {
        let mut plan = plan();
        (plan.check_every, plan.size) = (1, 40);
        let whole = delivery(&plan, 1, &[40]);
        let split = delivery(&plan, 2, &[17, 23]);
        let mut damaged = delivery(&plan, 2, &[40]);
        let last = damaged.len() - 2;
        damaged[last] ^= 1;
        let check = |inputs: &[&[u8]], delivered, damaged, acks: &[u8]| {
            let mut consumer = Consumer::new(&plan);
            let mut tally = Tally::new(Window { origin: 0, start: 0, end: 100 });
            let mut out = Vec::new();
            for input in inputs {
                let used = consumer.receive(input, 9, &mut out, &mut tally).unwrap();
                assert_eq!(used, input.len());
            }
            assert_eq!(tally.totals.delivered, delivered);
            assert_eq!(tally.faults.damaged, damaged);
            assert_eq!(out, acks);
        };
        check(&[&whole, &split], 2, 0, &[ack(1, false), ack(2, false)].concat());
        check(&[&[&whole[..], &split].concat()], 2, 0, &ack(2, true));
        check(&[&[&whole[..], &damaged].concat()], 2, 1, &ack(2, true));
    }

    #[test]
    fn malformed_deliveries_end_the_run() {
        let mut plan = plan();
        plan.size = 40;
        let good = delivery(&plan, 1, &[40]);
        let receive = |input: &[u8]| {
            let mut consumer = Consumer::new(&plan);
            let mut tally = Tally::new(Window { origin: 0, start: 0, end: 100 });
            consumer.receive(input, 9, &mut Vec::new(), &mut tally)
        };
        for cut in 0..good.len() {
            assert!(receive(&good[..cut]).is_ok(), "not yet whole");
        }
        let mut end = good.clone();
        *end.last_mut().unwrap() = 0;
        assert!(receive(&end).is_err());
        let too_long = delivery(&plan, 1, &[40, 0]);
        assert!(receive(&too_long).is_err());
        let header_again = [&good[..good.len() - 48], &good[..8]].concat();
        assert!(receive(&header_again).is_ok());
        let mut wrong_order = Vec::new();
        put_frame(&mut wrong_order, frame::BODY, CHANNEL, |out| out.put(b"x"));
        assert!(receive(&wrong_order).is_err());
        let mut close = Vec::new();
        put_method(&mut close, 0, method::CONNECTION_CLOSE, |out| {
            out.put_u16(320);
            out.put_tiny_text("CONNECTION_FORCED");
            out.put_u32(0);
        });
        assert!(receive(&close).unwrap_err().to_string().contains("320 CONNECTION_FORCED"));
    }
}
