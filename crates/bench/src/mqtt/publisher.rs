//! PUBLISH, built once per topic; only packet identifier and stamp change. QoS 2 goes through
//! PUBREC, PUBREL and PUBCOMP.

use super::{answered, first_packet, kind, put_answer, put_packet, topic, FLAGS};
use crate::clock::{Nanos, Schedule};
use crate::failure::Failure;
use crate::payload::{pattern, Stamp, STAMP_BYTES};
use crate::plan::Plan;
use crate::protocol::Link;
use crate::tally::Tally;
use koine_workload::frames::wire::Put;

struct Template {
    packet: Vec<u8>,
    /// Where the packet identifier is (QoS 1 and 2).
    identifier_start: usize,
    body_start: usize,
    source: u32,
    sequence: u32,
    copies: u64,
}

pub struct Publisher {
    templates: Vec<Template>,
    turn: usize,
    run: u16,
    qos: u8,
    stamped: bool,
    /// By packet identifier minus one: the intended time of the message in flight under it. As many
    /// as the window; empty with QoS 0.
    in_flight: Vec<Option<Nanos>>,
    in_flight_count: u64,
    /// The next identifier, minus one.
    next: usize,
}

impl Publisher {
    /// `receive_max`: what the broker takes at once.
    pub fn new(plan: &Plan, index: usize, receive_max: u16) -> Self {
        let lanes = plan.lanes_of(index, plan.producers);
        let window = plan.window.min(u64::from(receive_max)) as usize;
        Publisher {
            templates: lanes.iter().map(|&lane| template(plan, index, lane)).collect(),
            turn: 0,
            run: plan.run,
            qos: plan.qos,
            stamped: plan.size >= STAMP_BYTES,
            in_flight: vec![None; if plan.qos > 0 { window } else { 0 }],
            in_flight_count: 0,
            next: 0,
        }
    }

    fn done(&mut self, identifier: u16, at: Nanos, tally: &mut Tally) -> Result<(), Failure> {
        let slot = self.in_flight.get_mut(usize::from(identifier).wrapping_sub(1));
        let Some(sent_at) = slot.and_then(Option::take) else {
            return Err(Failure::Malformed("acknowledgement: its identifier is not in flight"));
        };
        self.in_flight_count -= 1;
        tally.acknowledged(1, sent_at, at);
        Ok(())
    }

    fn answer(
        &mut self,
        first: u8,
        content: &[u8],
        at: Nanos,
        out: &mut Vec<u8>,
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        match (first & 0xF0, self.qos) {
            (kind::PUBACK, 1) | (kind::PUBCOMP, 2) => self.done(answered(content)?, at, tally),
            (kind::PUBREC, 2) => {
                put_answer(out, kind::PUBREL | FLAGS, answered(content)?);
                Ok(())
            }
            (kind::DISCONNECT, _) => Err(Failure::Refused(format!(
                "DISCONNECT: reason {:#04x}",
                content.first().unwrap_or(&0)
            ))),
            _ => Err(Failure::Refused(format!("unexpected packet {first:#04x}"))),
        }
    }
}

fn template(plan: &Plan, index: usize, lane: usize) -> Template {
    let mut content = Vec::new();
    content.put_short_text(&topic(plan, lane));
    if plan.qos > 0 {
        content.put_u16(0);
    }
    if plan.mqtt_version == 5 {
        content.put_u8(0); // no properties
    }
    content.put(&pattern(plan.size));
    let mut packet = Vec::new();
    put_packet(&mut packet, kind::PUBLISH | plan.qos << 1, &content);
    let body_start = packet.len() - plan.size;
    let properties = usize::from(plan.mqtt_version == 5);
    Template {
        identifier_start: body_start - properties - 2,
        body_start,
        packet,
        source: plan.source(index, lane),
        sequence: 0,
        copies: plan.readers_of(lane),
    }
}

impl Link for Publisher {
    fn unit(&self) -> u64 {
        1
    }

    fn unit_bytes(&self) -> usize {
        self.templates[0].packet.len()
    }

    fn room(&self) -> u64 {
        match self.qos {
            0 => u64::MAX,
            _ if self.in_flight[self.next].is_some() => 0,
            _ => self.in_flight.len() as u64 - self.in_flight_count,
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
        for done in 0..units {
            // An identifier acknowledged late holds back those after it.
            if self.qos > 0 && self.in_flight[self.next].is_some() {
                return done;
            }
            let sent_at = times.take(1);
            let turn = self.turn;
            self.turn = if turn + 1 == self.templates.len() { 0 } else { turn + 1 };
            let template = &mut self.templates[turn];
            let start = out.len();
            out.put(&template.packet);
            let packet = &mut out[start..];
            if self.stamped {
                let (run, source, sequence) = (self.run, template.source, template.sequence);
                Stamp { sent_at, run, source, sequence }.write(&mut packet[template.body_start..]);
                template.sequence = sequence.wrapping_add(1);
            }
            tally.sent(1, template.copies);
            if self.qos > 0 {
                let identifier = self.next as u16 + 1;
                packet[template.identifier_start..template.identifier_start + 2]
                    .copy_from_slice(&identifier.to_be_bytes());
                self.in_flight[self.next] = Some(sent_at);
                self.in_flight_count += 1;
                self.next = if self.next + 1 == self.in_flight.len() { 0 } else { self.next + 1 };
            }
        }
        units
    }

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
            self.answer(first, content, at, out, tally)?;
        }
        Ok(used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Window;
    use crate::plan::tests::plan;

    #[test]
    fn identifiers_are_used_again_only_after_their_answer() {
        for (qos, version) in [(1, 4), (1, 5), (2, 4), (2, 5)] {
            let mut plan = plan();
            (plan.qos, plan.mqtt_version, plan.window, plan.size) = (qos, version, 2, 20);
            let mut publisher = Publisher::new(&plan, 0, u16::MAX);
            let mut tally = Tally::new(Window { origin: 0, start: 0, end: 100 });
            let mut out = Vec::new();
            let mut times = Schedule::new(1, 0.0);
            assert_eq!(publisher.publish(2, &mut times, &mut out, &mut tally), 2);
            assert_eq!(publisher.room(), 0);
            let (_, content, _) = first_packet(&out).unwrap().unwrap();
            let head = 2 + topic(&plan, 0).len();
            assert_eq!(content[head..head + 2], [0, 1]);
            assert_eq!(content.len() - head - 2, 20 + usize::from(version == 5));
            out.clear();
            if qos == 2 {
                let recorded = [kind::PUBREC, 2, 0, 2];
                publisher.receive(&recorded, 4, &mut out, &mut tally).unwrap();
                assert_eq!(out, [kind::PUBREL | FLAGS, 2, 0, 2]);
            }
            let finished = if qos == 1 { kind::PUBACK } else { kind::PUBCOMP };
            // The second one's answer alone does not free the first one's identifier.
            publisher.receive(&[finished, 2, 0, 2], 5, &mut out, &mut tally).unwrap();
            assert_eq!(publisher.room(), 0);
            publisher.receive(&[finished, 2, 0, 1], 6, &mut out, &mut tally).unwrap();
            assert_eq!((publisher.room(), tally.totals.acknowledged), (2, 2));
            assert!(publisher.receive(&[finished, 2, 0, 1], 7, &mut out, &mut tally).is_err());
            assert!(publisher.receive(&[finished, 2, 0, 0], 7, &mut out, &mut tally).is_err());
            assert!(publisher.receive(&[finished, 2, 9, 9], 7, &mut out, &mut tally).is_err());
        }
    }
}
