//! What clients of a cluster hear, told to the history.

use super::clients::{Asked, Question};
use super::history::StreamHistory;
use super::Cluster;
use crate::coverage::Mark;
use crate::model::{violation, Checked, Delivered, Kind, Violation};
use crate::world::answers::{records_in, summary, value_in};
use crate::world::client::{value_of, Producer};
use koine_base::checksum::crc32c;
use koine_base::StreamId;
use koine_broker::batch::BatchHeader;
use koine_broker::membership::GroupError;
use koine_broker::metadata::{Outcome, Refusal};
use koine_broker::session::{Appended, ConsumerId, Delivery, Event, ReadBatches, Token};
use std::collections::VecDeque;

fn mixed_up() -> Checked {
    violation("an answer of another kind than the question")
}

/// The client asks somebody else, or the same later.
fn is_passing(refusal: Refusal) -> bool {
    // A node that is behind may not know of a stream yet.
    matches!(refusal, Refusal::NotLeader | Refusal::Busy | Refusal::Cancelled | Refusal::NotFound)
}

impl Cluster {
    /// Everything that sessions of a node were told since the last time.
    pub(super) fn hear_all(&mut self, node: usize) -> Checked {
        for slot in 0..self.clients.len() {
            let Some(link) = self.clients[slot].links.get(&node) else { continue };
            let events = std::mem::take(&mut link.script.borrow_mut().events);
            for event in events {
                self.note(|| format!("client {slot} hears {}", summary(&event)));
                self.hear(slot, node, event)?;
            }
        }
        Ok(())
    }

    fn hear(&mut self, slot: usize, node: usize, event: Event) -> Checked {
        match event {
            Event::Deliveries { consumer, stream, deliveries } => {
                self.delivered(slot, node, stream, consumer, &deliveries)
            }
            Event::ConsumerCancelled { consumer, .. } => {
                self.clients[slot].consumers.remove(&consumer);
                Ok(())
            }
            Event::Proposed { token, result } => self.proposed(slot, node, token, result),
            Event::Published { token, result } => {
                let asked = self.asked(slot, token)?;
                let Question::Publish { stream, value } = asked.question else {
                    return mixed_up();
                };
                if let Err(refusal) = result {
                    return self.refused(slot, &asked, refusal);
                }
                self.acked(stream, &[value], None)
            }
            Event::Appended { token, result } => self.appended(slot, token, result),
            Event::Read { token, result } => self.read_answered(slot, token, result),
            Event::Attached { token, result } => {
                let asked = self.asked(slot, token)?;
                let Question::Attach { consumer, .. } = asked.question else { return mixed_up() };
                if let Err(refusal) = result {
                    self.clients[slot].consumers.remove(&consumer);
                    return self.refused(slot, &asked, refusal);
                }
                if let Some(consumer) = self.clients[slot].consumers.get_mut(&consumer) {
                    consumer.is_attached = true;
                }
                Ok(())
            }
            Event::Synced { token, result } => {
                let asked = self.asked(slot, token)?;
                let Question::Sync { stream, consumer, offsets } = &asked.question else {
                    return mixed_up();
                };
                if let Err(refusal) = result {
                    return self.refused(slot, &asked, refusal);
                }
                // Who was sent away meanwhile settled in vain.
                if self.clients[slot].consumers.contains_key(consumer) {
                    if let Some(history) = self.history.streams.get_mut(stream) {
                        history.settled(offsets);
                    }
                }
                Ok(())
            }
            Event::Status { token, result } => {
                let asked = self.asked(slot, token)?;
                match result {
                    Ok(status) => {
                        self.status = Some(status);
                        Ok(())
                    }
                    Err(refusal) => self.refused(slot, &asked, refusal),
                }
            }
            other => self.hear_of_groups(slot, other),
        }
    }

    fn hear_of_groups(&mut self, slot: usize, event: Event) -> Checked {
        match event {
            Event::Committed { token, result } => {
                let asked = self.asked(slot, token)?;
                let Question::Commit { key, offset } = &asked.question else { return mixed_up() };
                match result {
                    Ok(()) => {
                        if let Some(known) = self.history.groups.get_mut(key) {
                            known.acked = known.acked.max(*offset);
                        }
                        self.history.acked_count += 1;
                        Ok(())
                    }
                    Err(error) => self.other_coordinator(slot, &asked, error),
                }
            }
            Event::Offsets { token, result } => {
                let asked = self.asked(slot, token)?;
                let Question::Offsets { key, at_least } = &asked.question else {
                    return mixed_up();
                };
                match result {
                    Ok(offsets) => {
                        let read = offsets.first().and_then(|(_, _, offset)| offset.as_ref());
                        self.fetched = Some(key.clone());
                        self.history.offset_fetched(key, *at_least, read.map(|read| read.offset))
                    }
                    Err(error) => self.other_coordinator(slot, &asked, error),
                }
            }
            Event::Retained { token, result } => {
                let asked = self.asked(slot, token)?;
                let messages = match result {
                    Ok(page) => page.messages,
                    Err(refusal) => return self.refused(slot, &asked, refusal),
                };
                let Question::Retained { subject, at_least } = asked.question else {
                    return mixed_up();
                };
                self.retained_read = Some(subject.clone());
                let read = messages.first().and_then(|m| value_of(m.content.body.as_ref()?));
                let known = self.history.retained.entry(subject.clone()).or_default();
                known.check(&subject, at_least, read)
            }
            Event::Live { .. } | Event::Grown { .. } => Ok(()),
            other => violation(format!("nobody asked for {}", summary(&other))),
        }
    }

    fn asked(&mut self, slot: usize, token: Token) -> Result<Asked, Violation> {
        let asked = self.clients[slot].waiting.remove(&token);
        asked.ok_or_else(|| {
            Violation(format!("client {slot} hears an answer to {token}, which is not open"))
        })
    }

    /// Somebody else may know better; whether it happened is not known.
    fn refused(&mut self, slot: usize, asked: &Asked, refusal: Refusal) -> Checked {
        let group = match &asked.question {
            Question::AppendOnce { .. } => {
                self.clients[slot].producer.as_ref().map(|producer| producer.stream.group())
            }
            question => question.group(),
        };
        match refusal {
            Refusal::NotLeader => self.mark(Mark::RefusedNotLeader),
            Refusal::Busy => self.mark(Mark::RefusedBusy),
            _ => {}
        }
        let is_damaged = refusal == Refusal::Corrupt && self.nodes[asked.node].disk.is_damaged();
        if !is_passing(refusal) && !is_damaged {
            return violation(format!("{:?} was refused with {refusal:?}", asked.question));
        }
        self.unknown(slot, asked);
        self.guess_again(slot, group, asked.node);
        Ok(())
    }

    fn other_coordinator(&mut self, slot: usize, asked: &Asked, error: GroupError) -> Checked {
        let is_passing =
            matches!(error, GroupError::NotCoordinator | GroupError::CoordinatorNotAvailable);
        if !is_passing {
            return violation(format!("{:?} was refused with {error:?}", asked.question));
        }
        self.guess_again(slot, None, asked.node);
        Ok(())
    }

    fn acked(&mut self, stream: StreamId, values: &[u64], base: Option<u64>) -> Checked {
        self.history.acked_count += 1;
        let now_us = self.now_us;
        match self.history.streams.get_mut(&stream) {
            Some(history) => history.acked(values, base, now_us),
            None => Ok(()),
        }
    }

    fn appended(
        &mut self,
        slot: usize,
        token: Token,
        result: Result<Appended, Refusal>,
    ) -> Checked {
        let asked = self.asked(slot, token)?;
        match (&asked.question, result) {
            (Question::Append { stream, values }, Ok(appended)) => {
                self.acked(*stream, values, Some(appended.base_offset))
            }
            (Question::Append { .. }, Err(refusal)) => self.refused(slot, &asked, refusal),
            (Question::AppendOnce { id, sequence }, result) => {
                self.appended_once(slot, &asked, *id, *sequence, result)
            }
            _ => mixed_up(),
        }
    }

    /// An idempotent batch is sent until it is taken, and is then there once.
    fn appended_once(
        &mut self,
        slot: usize,
        asked: &Asked,
        id: i64,
        sequence: i32,
        result: Result<Appended, Refusal>,
    ) -> Checked {
        let Some(producer) = self.clients[slot].producer.as_mut().filter(|p| p.id == id) else {
            return Ok(());
        };
        let stream = producer.stream;
        let Some(index) = producer.batches.iter().position(|b| b.sequence == sequence) else {
            return violation(format!("producer {id} hears of sequence {sequence} twice"));
        };
        match result {
            Ok(appended) => {
                let batch = producer.batches.remove(index).expect("found above");
                let records = self.history.streams.get(&stream).map(|s| &s.model.records);
                let known = records.and_then(|records| records.offset_of(batch.values[0]));
                if batch.tries > 1 && known == Some(appended.base_offset) {
                    self.mark(Mark::RetryDeduplicated);
                }
                self.acked(stream, &batch.values, Some(appended.base_offset))
            }
            // Something before it was refused, or its answer is still under way.
            Err(Refusal::OutOfOrderSequence) if index > 0 || !producer.is_resending => {
                producer.batches[index].is_sent = false;
                producer.is_resending = true;
                Ok(())
            }
            Err(Refusal::OutOfOrderSequence) => violation(format!(
                "{stream}: producer {id} sends {sequence}, its next, again, and it is out of order"
            )),
            Err(refusal) => self.refused(slot, asked, refusal),
        }
    }

    fn proposed(
        &mut self,
        slot: usize,
        node: usize,
        token: Token,
        result: Result<Outcome, Refusal>,
    ) -> Checked {
        let asked = self.asked(slot, token)?;
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(refusal) => return self.refused(slot, &asked, refusal),
        };
        self.history.acked_count += 1;
        match (asked.question, outcome) {
            (
                Question::Create { name, kind: Kind::Queue },
                Outcome::QueueDeclared { stream, .. },
            ) => {
                let made = StreamHistory::new(stream, name, Kind::Queue);
                self.history.streams.insert(stream, made);
            }
            (Question::Create { name, kind }, Outcome::TopicCreated { streams, .. }) => {
                for stream in streams {
                    let made = StreamHistory::new(stream, name.clone(), kind);
                    self.history.streams.insert(stream, made);
                }
            }
            (Question::ProducerId { stream }, Outcome::ProducerId(id)) => {
                self.history.producer_id(id)?;
                self.clients[slot].producer = Some(Producer {
                    id,
                    stream,
                    next_sequence: 0,
                    batches: VecDeque::new(),
                    is_resending: false,
                });
            }
            (Question::Retain { subject, index }, Outcome::Done) => {
                self.clients[slot].retains = false;
                let known = self.history.retained.entry(subject).or_default();
                known.acked = known.acked.max(index);
            }
            (question, outcome) => {
                let id = self.nodes[node].id;
                return violation(format!("{id}: {question:?} was answered with {outcome:?}"));
            }
        }
        Ok(())
    }

    fn delivered(
        &mut self,
        slot: usize,
        node: usize,
        stream: StreamId,
        consumer: ConsumerId,
        deliveries: &[Delivery],
    ) -> Checked {
        let home = self.clients[slot].links.get(&node).map(|link| link.shard);
        // From another shard it came by mail, and was judged when it set out.
        if home == Some(self.shard_of(stream.group())) {
            self.handed_out(stream, consumer, deliveries)?;
        }
        if let Some(consumer) = self.clients[slot].consumers.get_mut(&consumer) {
            consumer.held.extend(deliveries.iter().map(|delivery| delivery.offset));
        }
        Ok(())
    }

    /// A leader gives these to a consumer. What it may give is decided by what is so now, when it has
    /// the mandate, and not when its client hears of it: a process can be stopped in between, for as
    /// long as another leads and all is settled there.
    pub(super) fn handed_out(
        &mut self,
        stream: StreamId,
        consumer: ConsumerId,
        deliveries: &[Delivery],
    ) -> Checked {
        for delivery in deliveries {
            let value = value_in(&delivery.record)?;
            if delivery.redelivered {
                self.mark(Mark::Redelivered);
            }
            let delivered = Delivered {
                holder: (0, consumer),
                offset: delivery.offset,
                redelivered: delivery.redelivered,
                auto_settled: false,
                is_stale: false,
                serial: 0,
            };
            if let Some(history) = self.history.streams.get_mut(&stream) {
                history.delivered(&delivered, value)?;
            }
        }
        Ok(())
    }

    fn read_answered(
        &mut self,
        slot: usize,
        token: Token,
        result: Result<ReadBatches, Refusal>,
    ) -> Checked {
        let asked = self.asked(slot, token)?;
        let Question::Read { stream, offset, end } = asked.question else { return mixed_up() };
        let read = match result {
            Ok(read) => read,
            Err(Refusal::OffsetOutOfRange) => {
                return violation(format!(
                    "{stream}: {offset} is out of range, though the end was at {end}"
                ));
            }
            Err(refusal) => return self.refused(slot, &asked, refusal),
        };
        let Some(history) = self.history.streams.get_mut(&stream) else { return Ok(()) };
        let named =
            |history: &StreamHistory, text: String| Err(history.model.name_it(Violation(text)));
        if read.bounds.end < end {
            let text = format!("a reader sees the end at {}, it was at {end}", read.bounds.end);
            return named(history, text);
        }
        for bytes in &read.batches {
            if let Ok(header) = BatchHeader::new(bytes) {
                let records = &mut history.model.records;
                let noted = records.observe_batch(header.base_offset(), crc32c(bytes));
                noted.map_err(|error| history.model.name_it(error))?;
            }
        }
        let found = records_in(&read, offset)?;
        let is_there = offset >= read.bounds.start && offset < read.bounds.end;
        if is_there && found.first().is_none_or(|(first, _)| *first > offset) {
            return named(history, format!("a read from {offset} of {:?} is empty", read.bounds));
        }
        for (offset, value) in &found {
            let noted = history.model.records.observe(*offset, *value);
            noted.map_err(|error| history.model.name_it(error))?;
        }
        if slot == self.scout() {
            self.kept.extend(found);
            self.kept_end = Some(read.bounds.end);
        }
        Ok(())
    }
}
