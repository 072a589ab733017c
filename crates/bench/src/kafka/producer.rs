//! Produce v7, one batch per request. Per request only the correlation id, the stamp in the batch's
//! last record and the checksum change; the checksum goes on from that of the fixed part, so its
//! cost does not depend on the batch's size.

use super::{finish, first_frame, key, refused, request, CORRELATION_POSITION};
use crate::clock::{Nanos, Schedule};
use crate::failure::Failure;
use crate::payload::{pattern, Stamp};
use crate::plan::Plan;
use crate::protocol::Link;
use crate::tally::Tally;
use koine_base::checksum::{crc32c, crc32c_append};
use koine_broker::batch::BatchBuilder;
use koine_workload::frames::wire::Put;
use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

/// Positions inside a batch: the checksum, and where it begins to cover.
const CRC_POSITION: usize = 17;
const CRC_START: usize = 21;
const TIMEOUT_MS: i32 = 30_000;

/// One partition's request, ready but for what changes.
struct Template {
    frame: Vec<u8>,
    /// Where in the frame the batch begins.
    batch_start: usize,
    /// Checksum from [`CRC_START`] up to the stamp.
    crc_before_stamp: u32,
    /// Where in the frame the last record's stamp is.
    stamp_start: usize,
    source: u32,
    sequence: u32,
    /// Consumers of the partition.
    copies: u64,
}

pub struct Producer {
    templates: Vec<Template>,
    turn: usize,
    correlation: i32,
    /// Records per batch.
    batch: u64,
    window: u64,
    run: u16,
    /// Intended times of the requests in flight. Kafka answers a connection in order.
    in_flight: VecDeque<Nanos>,
}

impl Producer {
    pub fn new(plan: &Plan, index: usize, lanes: &[usize]) -> Self {
        Producer {
            templates: lanes.iter().map(|&lane| template(plan, index, lane)).collect(),
            turn: 0,
            correlation: 0,
            batch: u64::from(plan.batch),
            window: plan.window,
            run: plan.run,
            in_flight: VecDeque::with_capacity(plan.window as usize),
        }
    }
}

/// The records of a batch: each with the body's pattern and a stamp of its index, the last one's to
/// be overwritten.
fn batch(plan: &Plan, source: u32) -> Vec<u8> {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    let timestamp = since_1970.map_or(0, |time| time.as_millis() as i64);
    let mut body = pattern(plan.size);
    let capacity = plan.batch as usize * (plan.size + 16);
    let mut builder = BatchBuilder::with_capacity(timestamp, capacity);
    for index in 0..plan.batch {
        Stamp { sent_at: 0, run: plan.run, source, sequence: index }.write(&mut body);
        builder.push(timestamp, None, Some(&[&body]), &[]);
    }
    builder.finish(0, -1).to_vec()
}

fn template(plan: &Plan, index: usize, lane: usize) -> Template {
    let source = plan.source(index, lane);
    let batch = batch(plan, source);
    let mut frame = request(key::PRODUCE, 7, 0);
    frame.put_i16(-1); // no transaction
    frame.put_i16(plan.acks);
    frame.put_i32(TIMEOUT_MS);
    frame.put_i32(1);
    frame.put_short_text(&plan.name());
    frame.put_i32(1);
    frame.put_i32(lane as i32);
    frame.put_i32(batch.len() as i32);
    let batch_start = frame.len();
    frame.put(&batch);
    // The last record ends with its body and the number of its headers, one byte.
    let stamp_start = frame.len() - 1 - plan.size;
    let frame = finish(frame);
    Template {
        crc_before_stamp: crc32c(&frame[batch_start + CRC_START..stamp_start]),
        frame,
        batch_start,
        stamp_start,
        source,
        sequence: 0,
        copies: plan.readers_of(lane),
    }
}

impl Link for Producer {
    fn unit(&self) -> u64 {
        self.batch
    }

    fn unit_bytes(&self) -> usize {
        self.templates[0].frame.len()
    }

    fn room(&self) -> u64 {
        self.window - self.in_flight.len() as u64
    }

    fn publish(
        &mut self,
        units: u64,
        times: &mut Schedule,
        out: &mut Vec<u8>,
        tally: &mut Tally,
    ) -> u64 {
        for _ in 0..units {
            let sent_at = times.take(self.batch);
            let turn = self.turn;
            self.turn = if turn + 1 == self.templates.len() { 0 } else { turn + 1 };
            let template = &mut self.templates[turn];
            let stamp = Stamp {
                sent_at,
                run: self.run,
                source: template.source,
                sequence: template.sequence,
            };
            template.sequence = template.sequence.wrapping_add(1);
            let frame = &mut template.frame;
            self.correlation = self.correlation.wrapping_add(1);
            frame[CORRELATION_POSITION..CORRELATION_POSITION + 4]
                .copy_from_slice(&self.correlation.to_be_bytes());
            stamp.write(&mut frame[template.stamp_start..]);
            let crc = crc32c_append(template.crc_before_stamp, &frame[template.stamp_start..]);
            let crc_start = template.batch_start + CRC_POSITION;
            frame[crc_start..crc_start + 4].copy_from_slice(&crc.to_be_bytes());
            out.put(frame);
            tally.sent(self.batch, template.copies);
            self.in_flight.push_back(sent_at);
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
        while let Some((mut reader, bytes)) = first_frame(&input[used..], "Produce response") {
            used += bytes;
            let sent_at = self.in_flight.pop_front().ok_or(reader.malformed())?;
            // Requests in flight carry the latest correlation ids.
            let expect = self.correlation.wrapping_sub(self.in_flight.len() as i32);
            if reader.i32()? != expect || reader.count()? != 1 {
                return Err(reader.malformed().into());
            }
            reader.short_bytes()?; // name
            if reader.count()? != 1 {
                return Err(reader.malformed().into());
            }
            reader.i32()?; // partition
            match reader.i16()? {
                0 => tally.acknowledged(self.batch, sent_at, at),
                code => return Err(refused("Produce", code)),
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
    use bytes::Bytes;
    use koine_broker::batch::{records, validate_from_producer, BatchLimits};

    #[test]
    fn every_request_carries_a_valid_batch_with_a_new_stamp() {
        for (size, batch) in [(16, 1), (100, 3), (1000, 200)] {
            let mut plan = plan();
            (plan.size, plan.batch, plan.lanes) = (size, batch, 2);
            let mut producer = Producer::new(&plan, 0, &[0, 1]);
            let mut tally = Tally::new(Window { origin: 0, start: 0, end: 100 });
            let mut out = Vec::new();
            assert_eq!(producer.publish(4, &mut Schedule::new(77, 0.0), &mut out, &mut tally), 4);
            assert_eq!(tally.totals.sent, 4 * u64::from(batch));
            let mut rest = &out[..];
            for index in 0..4u32 {
                let (reader, bytes) = first_frame(rest, "own request").unwrap();
                let start = producer.templates[0].batch_start - 4;
                let bytes_of_batch = Bytes::copy_from_slice(&reader.rest()[start..]);
                let limits = BatchLimits::default();
                let info = validate_from_producer(&bytes_of_batch, &limits).unwrap();
                assert_eq!(info.record_count, batch);
                let last = records(&bytes_of_batch, &limits).unwrap().last().unwrap().unwrap();
                let stamp = Stamp::read(last.value().unwrap()).unwrap();
                let expect =
                    Stamp { sent_at: 77, run: plan.run, source: index % 2, sequence: index / 2 };
                assert_eq!(stamp, expect);
                rest = &rest[bytes..];
            }
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn answers_free_the_window_and_refusals_end_the_run() {
        let answer = |correlation: i32, code: i16| {
            let mut frame = vec![0; 4];
            frame.put_i32(correlation);
            frame.put_i32(1);
            frame.put_short_text("t");
            frame.put_i32(1);
            frame.put_i32(0);
            frame.put_i16(code);
            frame.put(&[0; 28]);
            finish(frame)
        };
        let check = |input: Vec<u8>, expect: Result<u64, &str>| {
            let plan = plan();
            let mut producer = Producer::new(&plan, 0, &[0]);
            let mut tally = Tally::new(Window { origin: 0, start: 0, end: 100 });
            let mut out = Vec::new();
            producer.publish(2, &mut Schedule::new(5, 0.0), &mut out, &mut tally);
            let got = producer.receive(&input, 9, &mut out, &mut tally);
            match (got, expect) {
                (Ok(used), Ok(acknowledged)) => {
                    assert_eq!(used, input.len());
                    assert_eq!(tally.totals.acknowledged, acknowledged);
                }
                (Err(failure), Err(text)) => assert!(failure.to_string().contains(text)),
                (got, expect) => panic!("{got:?} instead of {expect:?}"),
            }
        };
        check([answer(1, 0), answer(2, 0)].concat(), Ok(2000));
        check(answer(1, 0), Ok(1000));
        check(answer(2, 0), Err("malformed"));
        check(answer(1, 10), Err("message too large"));
        check([answer(1, 0), answer(2, 0), answer(3, 0)].concat(), Err("malformed"));
    }
}
