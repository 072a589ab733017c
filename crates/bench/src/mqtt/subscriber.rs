//! Takes PUBLISH packets, verifies them and answers as their QoS demands.

use super::{answered, first_packet, kind, put_answer};
use crate::clock::Nanos;
use crate::failure::Failure;
use crate::payload::{pattern, Ledger, Share, Stamp, STAMP_BYTES};
use crate::plan::Plan;
use crate::protocol::Link;
use crate::tally::Tally;
use koine_workload::frames::wire::Reader;

pub struct Subscriber {
    version: u8,
    ledger: Ledger,
    body: Vec<u8>,
    check_every: u64,
    messages: u64,
}

impl Subscriber {
    pub fn new(plan: &Plan) -> Self {
        Subscriber {
            version: plan.mqtt_version,
            ledger: Ledger::new(plan.run, false, Share::Whole),
            body: pattern(plan.size),
            check_every: plan.check_every,
            messages: 0,
        }
    }

    #[inline]
    fn publish(
        &mut self,
        first: u8,
        content: &[u8],
        at: Nanos,
        out: &mut Vec<u8>,
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        let mut reader = Reader::new(content, "PUBLISH");
        reader.short_bytes()?; // topic
        let qos = first >> 1 & 3;
        if qos > 0 {
            let identifier = reader.u16()?;
            let answer = if qos == 1 { kind::PUBACK } else { kind::PUBREC };
            put_answer(out, answer, identifier);
        }
        if self.version == 5 {
            let length = reader.u8()?;
            // Longer properties would take a length of two bytes; nothing here makes any.
            if length >= 0x80 {
                return Err(reader.malformed().into());
            }
            reader.take(usize::from(length))?;
        }
        let body = reader.rest();
        self.messages += 1;
        if self.check_every > 0 && self.messages.is_multiple_of(self.check_every) {
            let skip = if body.len() >= STAMP_BYTES { STAMP_BYTES } else { 0 };
            let good = body.get(skip..) == self.body.get(skip..);
            tally.faults.damaged += u64::from(!good);
        }
        match Stamp::read(body) {
            Some(stamp) => tally.delivered(&stamp, 1, at, &mut self.ledger),
            None => tally.delivered_unstamped(at),
        }
        Ok(())
    }
}

impl Link for Subscriber {
    fn receive(
        &mut self,
        input: &[u8],
        at: Nanos,
        out: &mut Vec<u8>,
        tally: &mut Tally,
    ) -> Result<usize, Failure> {
        let mut used = 0;
        while let Some((first, content, bytes)) = first_packet(&input[used..])? {
            used += bytes;
            match first & 0xF0 {
                kind::PUBLISH => self.publish(first, content, at, out, tally)?,
                kind::PUBREL => put_answer(out, kind::PUBCOMP, answered(content)?),
                kind::SUBACK => {}
                _ => return Err(Failure::Refused(format!("unexpected packet {first:#04x}"))),
            }
        }
        Ok(used)
    }
}

#[cfg(test)]
mod tests {
    use super::super::put_packet;
    use super::*;
    use crate::clock::Window;
    use crate::plan::tests::plan;
    use koine_workload::frames::wire::Put;

    fn publish(plan: &Plan, sequence: u32) -> Vec<u8> {
        let mut content = Vec::new();
        content.put_short_text("t");
        if plan.qos > 0 {
            content.put_u16(9);
        }
        if plan.mqtt_version == 5 {
            content.put_u8(0);
        }
        let mut body = pattern(plan.size);
        Stamp { sent_at: 1, run: plan.run, source: 0, sequence }.write(&mut body);
        content.put(&body);
        let mut packet = Vec::new();
        put_packet(&mut packet, kind::PUBLISH | plan.qos << 1, &content);
        packet
    }

    #[test]
    fn messages_are_verified_and_answered() {
        for (qos, version) in [(0, 4), (0, 5), (1, 4), (1, 5), (2, 4), (2, 5)] {
            let mut plan = plan();
            (plan.qos, plan.mqtt_version, plan.check_every) = (qos, version, 1);
            let mut input = [publish(&plan, 0), publish(&plan, 1)].concat();
            *input.last_mut().unwrap() ^= 1;
            if qos == 2 {
                input.put(&[kind::PUBREL | 2, 2, 0, 9]);
            }
            let mut subscriber = Subscriber::new(&plan);
            let mut tally = Tally::new(Window { origin: 0, start: 0, end: 100 });
            let mut out = Vec::new();
            let used = subscriber.receive(&input, 5, &mut out, &mut tally).unwrap();
            assert_eq!(used, input.len());
            assert_eq!((tally.totals.delivered, tally.faults.damaged), (2, 1));
            let expect: &[u8] = match qos {
                0 => &[],
                1 => &[0x40, 2, 0, 9, 0x40, 2, 0, 9],
                _ => &[0x50, 2, 0, 9, 0x50, 2, 0, 9, 0x70, 2, 0, 9],
            };
            assert_eq!(out, expect);
        }
    }

    #[test]
    fn malformed_packets_end_the_run() {
        let mut plan = plan();
        plan.qos = 1;
        let receive = |input: &[u8]| {
            let mut tally = Tally::new(Window { origin: 0, start: 0, end: 100 });
            Subscriber::new(&plan).receive(input, 5, &mut Vec::new(), &mut tally)
        };
        assert!(receive(&[kind::PUBLISH, 1, 0]).is_err(), "cut in the topic's length");
        assert!(receive(&[kind::PUBLISH, 3, 0, 5, b't']).is_err(), "topic longer than the packet");
        assert!(receive(&[kind::PUBLISH | 2, 4, 0, 1, b't', 0]).is_err(), "half an identifier");
        assert!(receive(&[kind::CONNACK, 2, 0, 0]).is_err());
    }
}
