//! Fetch v11 without sessions, one request in flight per connection. Of each batch only the header
//! and the last record's stamp are read, except for the sampled ones, which are checked whole.

use super::{finish, first_frame, key, refused, request};
use crate::clock::Nanos;
use crate::failure::Failure;
use crate::payload::{pattern, Ledger, Share, Stamp, STAMP_BYTES};
use crate::plan::{Mode, Plan};
use crate::protocol::Link;
use crate::tally::Tally;
use bytes::Bytes;
use koine_broker::batch::{records, BatchHeader, BatchLimits};
use koine_workload::frames::wire::{Put, Reader};

const OFFSET_OUT_OF_RANGE: i16 = 1;
const MAX_WAIT_MS: i32 = 500;
/// Most bytes of one response, whatever the partitions would allow.
const RESPONSE_BYTES_MAX: i64 = 64 << 20;

struct Partition {
    index: i32,
    offset: i64,
    /// Where to go on after the end, when a backlog is read again and again.
    start: i64,
    /// Where in the request the offset is.
    position: usize,
}

pub struct Consumer {
    partitions: Vec<Partition>,
    /// The request; only the offsets change.
    frame: Vec<u8>,
    /// A backlog is read again from its start.
    again: bool,
    ledger: Ledger,
    body: Vec<u8>,
    check_every: u64,
    batches: u64,
    /// Where the next partition of a response is looked for first: brokers answer in order.
    next_place: usize,
}

impl Consumer {
    /// `starts` are partitions and where to begin in each.
    pub fn new(plan: &Plan, starts: &[(usize, i64)]) -> Self {
        let mut frame = request(key::FETCH, 11, 0);
        frame.put_i32(-1); // replica
        frame.put_i32(MAX_WAIT_MS);
        frame.put_i32(1); // least bytes
        let most = i64::from(plan.fetch_bytes) * starts.len() as i64;
        frame.put_i32(most.clamp(1, RESPONSE_BYTES_MAX) as i32);
        frame.put_u8(0); // uncommitted
        frame.put_i32(0); // no session
        frame.put_i32(-1);
        frame.put_i32(1);
        frame.put_short_text(&plan.name());
        frame.put_i32(starts.len() as i32);
        let mut partitions = Vec::with_capacity(starts.len());
        for &(lane, start) in starts {
            frame.put_i32(lane as i32);
            frame.put_i32(-1); // leader epoch
            let position = frame.len();
            frame.put_i64(start);
            frame.put_i64(-1); // log start
            frame.put_i32(plan.fetch_bytes);
            partitions.push(Partition { index: lane as i32, offset: start, start, position });
        }
        frame.put_i32(0); // forgotten topics
        frame.put_i16(0); // rack
        Consumer {
            partitions,
            frame: finish(frame),
            again: plan.mode == Mode::Consume,
            ledger: Ledger::new(plan.run, plan.mode == Mode::Consume, Share::Whole),
            body: pattern(plan.size),
            check_every: plan.check_every,
            batches: 0,
            next_place: 0,
        }
    }

    fn place_of(&mut self, index: i32) -> Option<usize> {
        let wanted = |partition: &Partition| partition.index == index;
        let place = match self.partitions.get(self.next_place).is_some_and(wanted) {
            true => self.next_place,
            false => self.partitions.iter().position(wanted)?,
        };
        self.next_place = (place + 1) % self.partitions.len();
        Some(place)
    }

    fn fetch(&mut self, out: &mut Vec<u8>) {
        for partition in &self.partitions {
            self.frame[partition.position..partition.position + 8]
                .copy_from_slice(&partition.offset.to_be_bytes());
        }
        out.put(&self.frame);
    }

    fn response(
        &mut self,
        mut reader: Reader,
        at: Nanos,
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        reader.i32()?; // correlation: one request in flight
        reader.i32()?; // throttle time
        match reader.i16()? {
            0 => {}
            code => return Err(refused("Fetch", code)),
        }
        reader.i32()?; // session
        for _ in 0..reader.count()? {
            reader.short_bytes()?; // name
            for _ in 0..reader.count()? {
                self.partition(&mut reader, at, tally)?;
            }
        }
        Ok(())
    }

    fn partition(
        &mut self,
        reader: &mut Reader,
        at: Nanos,
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        let index = reader.i32()?;
        let code = reader.i16()?;
        let high_watermark = reader.i64()?;
        reader.i64()?; // last stable offset
        let log_start = reader.i64()?;
        for _ in 0..reader.count()? {
            reader.take(16)?; // aborted transaction
        }
        reader.i32()?; // preferred replica
        let bytes = reader.i32()?.max(0) as usize;
        let batches = reader.take(bytes)?;
        let place = self.place_of(index).ok_or(reader.malformed())?;
        match code {
            0 => {}
            OFFSET_OUT_OF_RANGE if log_start > self.partitions[place].offset => {
                self.partitions[place].offset = log_start;
                return Ok(());
            }
            code => return Err(refused("Fetch", code)),
        }
        self.batches(place, batches, at, tally)?;
        let partition = &mut self.partitions[place];
        if self.again && partition.offset >= high_watermark && high_watermark > partition.start {
            partition.offset = partition.start.max(log_start);
            self.ledger.clear();
        }
        Ok(())
    }

    fn batches(
        &mut self,
        place: usize,
        mut rest: &[u8],
        at: Nanos,
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        let malformed = Failure::Malformed("record batch");
        // A response may end in the middle of a batch, even of its header.
        while let Ok(bytes) = BatchHeader::batch_bytes(rest) {
            let Some((batch, behind)) = rest.split_at_checked(bytes) else { break };
            rest = behind;
            let Ok(header) = BatchHeader::new(batch) else { return Err(malformed) };
            let partition = &mut self.partitions[place];
            let next = header.next_offset() as i64;
            if next <= partition.offset {
                continue;
            }
            partition.offset = next;
            let count = header.record_count().max(0) as u64;
            self.batches += 1;
            if self.check_every > 0 && self.batches.is_multiple_of(self.check_every) {
                self.check(&header, tally);
            }
            let stamp_start = batch.len().saturating_sub(1 + self.body.len());
            match Stamp::read(&batch[stamp_start..]) {
                Some(stamp) => tally.delivered(&stamp, count, at, &mut self.ledger),
                None => return Err(malformed),
            }
        }
        Ok(())
    }

    /// Checksum and every record: its index in the stamp (but for the last one), then the pattern.
    fn check(&self, header: &BatchHeader, tally: &mut Tally) {
        let count = u64::try_from(header.record_count()).unwrap_or(0);
        if !header.crc_is_good() {
            tally.faults.damaged += count;
            return;
        }
        let bytes = Bytes::copy_from_slice(header.bytes());
        let Ok(read) = records(&bytes, &BatchLimits::default()) else {
            tally.faults.damaged += count;
            return;
        };
        let mut good = 0;
        for (index, record) in read.map_while(Result::ok).enumerate() {
            let Some(value) = record.value() else { continue };
            let stamp = Stamp::read(value).map(|stamp| stamp.sequence as usize);
            let in_place = stamp == Some(index) || index as u64 + 1 == count;
            let whole = value.get(STAMP_BYTES..) == Some(&self.body[STAMP_BYTES..]);
            good += u64::from(in_place && whole);
        }
        tally.faults.damaged += count - good.min(count);
    }
}

impl Link for Consumer {
    fn start(&mut self, out: &mut Vec<u8>) {
        self.fetch(out);
    }

    fn receive(
        &mut self,
        input: &[u8],
        at: Nanos,
        out: &mut Vec<u8>,
        tally: &mut Tally,
    ) -> Result<usize, Failure> {
        let mut used = 0;
        while let Some((reader, bytes)) = first_frame(&input[used..], "Fetch response") {
            used += bytes;
            self.response(reader, at, tally)?;
            self.fetch(out);
        }
        Ok(used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Window;
    use crate::plan::tests::plan;
    use koine_broker::batch::BatchBuilder;

    /// One batch of three records, as the producer makes them, at `offset`.
    fn batch(plan: &Plan, offset: u64, sequence: u32) -> Vec<u8> {
        let mut builder = BatchBuilder::new(0);
        let mut body = pattern(plan.size);
        for index in 0..3 {
            let sequence = if index == 2 { sequence } else { index };
            Stamp { sent_at: 3, run: plan.run, source: 0, sequence }.write(&mut body);
            builder.push(0, None, Some(&[&body]), &[]);
        }
        builder.finish(offset, 0).to_vec()
    }

    fn response(code: i16, batches: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 4];
        frame.put(&[0; 14]);
        frame.put_i32(1);
        frame.put_short_text("t");
        frame.put_i32(1);
        frame.put_i32(0);
        frame.put_i16(code);
        frame.put_i64(6);
        frame.put_i64(6);
        frame.put_i64(0);
        frame.put_i32(-1);
        frame.put_i32(-1);
        frame.put_i32(batches.len() as i32);
        frame.put(batches);
        finish(frame)
    }

    #[test]
    fn counts_checks_and_goes_on_behind_what_it_read() {
        let mut plan = plan();
        plan.check_every = 1;
        let two = [batch(&plan, 0, 0), batch(&plan, 3, 1)].concat();
        let mut damaged = two.clone();
        let last = damaged.len() - 5;
        damaged[last] ^= 1;
        let check = |batches: &[u8], delivered, offset, damaged| {
            let mut consumer = Consumer::new(&plan, &[(0, 0)]);
            let mut tally = Tally::new(Window { origin: 0, start: 0, end: 100 });
            let mut out = Vec::new();
            let input = response(0, batches);
            let used = consumer.receive(&input, 9, &mut out, &mut tally).unwrap();
            assert_eq!(used, input.len());
            assert_eq!(tally.totals.delivered, delivered);
            assert_eq!(tally.faults.damaged, damaged);
            assert_eq!(consumer.partitions[0].offset, offset);
            assert_eq!(out, consumer.frame);
        };
        check(&[], 0, 0, 0);
        check(&two, 6, 6, 0);
        check(&two[..two.len() - 1], 3, 3, 0);
        check(&two[..two.len() / 2 + 10], 3, 3, 0);
        check(&damaged, 6, 6, 3);
    }

    #[test]
    fn partitions_are_found_in_any_order() {
        let mut consumer = Consumer::new(&plan(), &[(4, 0), (7, 0), (9, 0)]);
        let found: Vec<_> = [4, 7, 9, 4, 9, 7, 8, 7].map(|index| consumer.place_of(index)).into();
        let places = [0, 1, 2, 0, 2, 1].map(Some);
        assert_eq!(found, [&places[..], &[None, Some(1)]].concat());
    }

    #[test]
    fn malformed_and_refused_responses_end_the_run() {
        let plan = plan();
        let receive = |input: &[u8]| {
            let mut consumer = Consumer::new(&plan, &[(0, 0)]);
            let mut tally = Tally::new(Window { origin: 0, start: 0, end: 100 });
            consumer.receive(input, 9, &mut Vec::new(), &mut tally)
        };
        let good = response(0, &batch(&plan, 0, 0));
        assert_eq!(receive(&good[..good.len() - 1]).unwrap(), 0, "not yet whole");
        assert!(receive(&response(3, &[])).is_err());
        for cut in 4..good.len() {
            let shorter = finish(good[..cut].to_vec());
            assert!(receive(&shorter).is_err(), "cut at {cut}");
        }
    }
}
