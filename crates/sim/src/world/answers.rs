//! What a client hears, told to the model.

use super::client::{value_of, Asked, Client, Phase, Producer, Question};
use super::World;
use crate::coverage::Mark;
use crate::model::{violation, Checked, Delivered, Kind, Observed, StreamModel, Value, Violation};
use koine_base::checksum::crc32c;
use koine_base::StreamId;
use koine_broker::batch::{self, BatchLimits, Record};
use koine_broker::membership::GroupError;
use koine_broker::metadata::{Outcome, Refusal};
use koine_broker::session::{
    Appended, ConsumerId, Delivery, Event, ReadBatches, Request, StreamBounds, Token,
};
use std::collections::VecDeque;

impl World {
    /// Everything the client's session was told since the last time.
    pub(super) fn hear(&mut self, slot: usize) -> Checked {
        let events = std::mem::take(&mut self.clients[slot].script.borrow_mut().events);
        for event in events {
            self.note(|| format!("client {slot} hears {}", summary(&event)));
            self.answer(slot, event)?;
        }
        Ok(())
    }

    fn asked(&mut self, slot: usize, token: Token) -> Result<Asked, Violation> {
        let asked = self.clients[slot].waiting.remove(&token);
        asked.ok_or_else(|| {
            Violation(format!("client {slot} hears an answer to {token}, which is not open"))
        })
    }

    fn answer(&mut self, slot: usize, event: Event) -> Checked {
        match event {
            Event::Deliveries { consumer, stream, deliveries } => {
                self.delivered(slot, stream, consumer, &deliveries)
            }
            Event::Pulled { token, result } => {
                let asked = self.asked(slot, token)?;
                self.pulled(slot, &asked, result)
            }
            Event::ConsumerCancelled { consumer, stream } => {
                self.clients[slot].consumers.remove(&consumer);
                match self.may_be_unreadable() {
                    true => self.sent_away(slot, stream, consumer),
                    false => self.stream_gone(stream),
                }
            }
            Event::Published { token, result } => {
                let asked = self.asked(slot, token)?;
                self.published(slot, &asked, result)
            }
            Event::Appended { token, result } => {
                let asked = self.asked(slot, token)?;
                self.appended(slot, &asked, result)
            }
            Event::Proposed { token, result } => {
                let asked = self.asked(slot, token)?;
                self.proposed(slot, &asked, result)
            }
            Event::Attached { token, result } => {
                let asked = self.asked(slot, token)?;
                self.attached(slot, &asked, result)
            }
            Event::Stopped { token } | Event::Detached { token } => {
                self.asked(slot, token)?;
                Ok(())
            }
            Event::Live { .. } => Ok(()),
            Event::SessionTaken { session, .. } | Event::SessionEnded { session } => {
                self.mark(Mark::SessionTaken);
                if self.clients[slot].session == Some(session) {
                    self.clients[slot].session = None;
                }
                Ok(())
            }
            other => self.answer_about_stream(slot, other),
        }
    }

    fn answer_about_stream(&mut self, slot: usize, event: Event) -> Checked {
        match event {
            Event::Read { token, result } => {
                let asked = self.asked(slot, token)?;
                self.read(slot, &asked, result)
            }
            Event::Grown { token } => {
                self.asked(slot, token)?;
                Ok(())
            }
            Event::Bounds { token, result } => {
                let asked = self.asked(slot, token)?;
                self.bounds(slot, &asked, result)
            }
            Event::EpochEnd { token, result } => {
                let asked = self.asked(slot, token)?;
                self.epoch_end(&asked, result)
            }
            Event::Located { token, result } => {
                let asked = self.asked(slot, token)?;
                let Question::Locate { stream } = asked.question else { return mixed_up() };
                self.check_refusal(stream, result.map(|_| ()))
            }
            Event::Purged { token, result } => {
                let asked = self.asked(slot, token)?;
                self.purged(slot, &asked, result)
            }
            Event::Status { token, result } => {
                let asked = self.asked(slot, token)?;
                let Question::Status { stream } = asked.question else { return mixed_up() };
                self.confirm(slot, stream, asked.serial, false);
                self.status = result.as_ref().ok().copied();
                self.check_refusal(stream, result.map(|_| ()))
            }
            Event::QueueDeleted { token, result } => {
                let asked = self.asked(slot, token)?;
                self.queue_deleted(&asked, result)
            }
            Event::Retained { token, result } => {
                let asked = self.asked(slot, token)?;
                let Ok(page) = result else {
                    return violation("a node alone does not say what is retained");
                };
                let messages = page.messages;
                let Question::Retained { subject, at_least } = asked.question else {
                    return mixed_up();
                };
                let read = messages.first().and_then(|m| value_of(m.content.body.as_ref()?));
                let known = self.model.retained.entry(subject.clone()).or_default();
                known.check(&subject, at_least, read)
            }
            Event::Committed { token, result } => {
                let asked = self.asked(slot, token)?;
                self.committed(&asked, result)
            }
            Event::Offsets { token, result } => {
                let asked = self.asked(slot, token)?;
                let Ok(offsets) = result else { return mixed_up() };
                let Question::Offsets { key, at_least } = asked.question else {
                    return mixed_up();
                };
                let read = offsets.first().and_then(|(_, _, committed)| committed.as_ref());
                self.model.offset_fetched(&key, at_least, read.map(|committed| committed.offset))
            }
            other => violation(format!("nobody asked for {}", summary(&other))),
        }
    }

    /// A refusal that only makes sense for a stream that is gone.
    fn check_refusal(&mut self, stream: StreamId, result: Result<(), Refusal>) -> Checked {
        match result {
            Ok(()) => Ok(()),
            Err(Refusal::NotFound) => self.stream_gone(stream),
            Err(Refusal::Corrupt) if self.may_be_unreadable() => {
                self.refused_as_corrupt(stream);
                Ok(())
            }
            Err(Refusal::Busy) => {
                self.mark(Mark::RefusedBusy);
                Ok(())
            }
            Err(other) => violation(format!("stream {stream}: refused with {other:?}")),
        }
    }

    fn stream_gone(&mut self, stream: StreamId) -> Checked {
        let Some(model) = self.model.stream(stream) else { return Ok(()) };
        if !model.is_unsure() && model.may_not_vanish() {
            return violation(format!("{} {} is gone", model.kind.noun(), model.name));
        }
        model.deleted = true;
        Ok(())
    }

    fn confirm(&mut self, slot: usize, stream: StreamId, serial: u64, durable: bool) {
        let connection = self.clients[slot].raw();
        if let Some(model) = self.model.stream(stream) {
            let durable = durable && model.strict;
            model.cursor.confirm(connection, serial, durable);
        }
    }

    fn delivered(
        &mut self,
        slot: usize,
        stream: StreamId,
        consumer: ConsumerId,
        deliveries: &[Delivery],
    ) -> Checked {
        let state = self.clients[slot].consumers.get(&consumer);
        let has_ended = state.is_none_or(|state| state.phase == Phase::Ended);
        let auto_settled = state.is_some_and(|state| state.auto);
        for delivery in deliveries {
            self.take(slot, stream, consumer, delivery, auto_settled, has_ended)?;
        }
        Ok(())
    }

    fn take(
        &mut self,
        slot: usize,
        stream: StreamId,
        consumer: ConsumerId,
        delivery: &Delivery,
        auto_settled: bool,
        has_ended: bool,
    ) -> Checked {
        let value = value_in(&delivery.record)?;
        if delivery.redelivered {
            self.mark(Mark::Redelivered);
        }
        let (holder, serial) = ((self.clients[slot].raw(), consumer), self.serials);
        let Some(model) = self.model.stream(stream) else { return Ok(()) };
        let evicted =
            model.kind == Kind::Backlog && model.cursor.owner.is_some_and(|owner| owner != holder);
        let delivered = Delivered {
            holder,
            offset: delivery.offset,
            redelivered: delivery.redelivered,
            auto_settled,
            is_stale: has_ended || evicted,
            serial,
        };
        let before = model.cursor.redelivered_after_crash;
        model.delivered(&delivered, value)?;
        if model.cursor.redelivered_after_crash > before {
            self.mark(Mark::RedeliveredAfterCrash);
        }
        Ok(())
    }

    fn pulled(
        &mut self,
        slot: usize,
        asked: &Asked,
        result: Result<Option<(Delivery, u64)>, Refusal>,
    ) -> Checked {
        let Question::Pull { stream, consumer, auto } = asked.question else { return mixed_up() };
        self.confirm(slot, stream, asked.serial, false);
        match result {
            Ok(Some((delivery, _))) => {
                let state = self.clients[slot].consumers.get(&consumer);
                let has_ended = state.is_none_or(|state| state.phase == Phase::Ended);
                self.take(slot, stream, consumer, &delivery, auto, has_ended)
            }
            Ok(None) => Ok(()),
            Err(refusal) => self.check_refusal(stream, Err(refusal)),
        }
    }

    fn published(&mut self, slot: usize, asked: &Asked, result: Result<(), Refusal>) -> Checked {
        let Question::Publish { value, streams } = &asked.question else { return mixed_up() };
        let now = self.now.moment.0;
        for stream in streams {
            if result.is_ok() {
                self.confirm(slot, *stream, asked.serial, true);
            }
            let Some(model) = self.model.stream(*stream) else { continue };
            match result {
                Ok(()) => model.records.acked(*value, None, now)?,
                // Of several copies some may have been stored.
                Err(_) if streams.len() == 1 => {
                    model.records.refused(*value).map_err(|error| model.name_it(error))?;
                }
                Err(_) => {}
            }
        }
        match result {
            Err(Refusal::Busy) => self.mark(Mark::RefusedBusy),
            Err(other) => return violation(format!("a publish was refused with {other:?}")),
            Ok(()) => {}
        }
        Ok(())
    }

    fn appended(
        &mut self,
        slot: usize,
        asked: &Asked,
        result: Result<Appended, Refusal>,
    ) -> Checked {
        match &asked.question {
            Question::Append { stream, values } => {
                let (stream, values) = (*stream, values.clone());
                match result {
                    Ok(appended) => {
                        self.confirm(slot, stream, asked.serial, true);
                        self.note_appended(stream, &values, &appended)
                    }
                    Err(refusal) => {
                        if let Some(model) = self.model.stream(stream) {
                            for value in &values {
                                model.records.refused(*value).map_err(|e| model.name_it(e))?;
                            }
                        }
                        self.check_refusal(stream, Err(refusal))
                    }
                }
            }
            Question::AppendOnce { id, sequence } => {
                self.appended_once(slot, *id, *sequence, result)
            }
            _ => mixed_up(),
        }
    }

    fn note_appended(
        &mut self,
        stream: StreamId,
        values: &[Value],
        appended: &Appended,
    ) -> Checked {
        let now = self.now.moment.0;
        let Some(model) = self.model.stream(stream) else { return Ok(()) };
        if model.is_unsure() {
            return Ok(());
        }
        for (offset, value) in (appended.base_offset..).zip(values) {
            let noted = model.records.acked(*value, Some(offset), now);
            noted.map_err(|error| model.name_it(error))?;
        }
        Ok(())
    }

    /// An idempotent batch is sent until it is taken, and is then there once.
    fn appended_once(
        &mut self,
        slot: usize,
        id: i64,
        sequence: i32,
        result: Result<Appended, Refusal>,
    ) -> Checked {
        let producers = &mut self.clients[slot].producers;
        let Some(at) = producers.iter().position(|producer| producer.id == id) else {
            return Ok(());
        };
        let producer: &mut Producer = &mut producers[at];
        let stream = producer.stream;
        let Some(index) = producer.batches.iter().position(|b| b.sequence == sequence) else {
            return violation(format!("producer {id} hears of sequence {sequence} twice"));
        };
        producer.batches[index].is_sent = false;
        match result {
            Ok(appended) => {
                let batch = producer.batches.remove(index).expect("found above");
                let known = self.model.stream(stream).is_some_and(|model| {
                    model.records.offset_of(batch.values[0]) == Some(appended.base_offset)
                });
                if batch.tries > 1 && known {
                    self.mark(Mark::RetryDeduplicated);
                }
                self.note_appended(stream, &batch.values, &appended)
            }
            Err(Refusal::Busy) => {
                producer.is_resending = true;
                self.mark(Mark::RefusedBusy);
                Ok(())
            }
            Err(Refusal::OutOfOrderSequence) if index > 0 || !producer.is_resending => {
                // Something before it was refused.
                producer.is_resending = true;
                Ok(())
            }
            Err(Refusal::NotFound) => {
                producers.remove(at);
                self.stream_gone(stream)
            }
            Err(other) => violation(format!(
                "stream {stream}: producer {id} sends sequence {sequence}, its next, again: {other:?}"
            )),
        }
    }

    fn proposal_refused(&mut self, slot: usize, asked: &Asked, refusal: Refusal) -> Checked {
        match (&asked.question, refusal) {
            // The session may have been ended by another client's clean start.
            (Question::Subscribe { .. }, Refusal::NotFound) => self.clients[slot].session = None,
            // Somebody else was first.
            (Question::DeleteTopic { .. }, Refusal::NotFound) => {}
            // Retained messages take room, too.
            (Question::Retain { .. }, Refusal::Busy) => {
                self.clients[slot].retains = false;
                self.mark(Mark::RefusedBusy);
            }
            (question, refusal) => {
                return violation(format!("{question:?} was refused with {refusal:?}"));
            }
        }
        Ok(())
    }

    fn proposed(
        &mut self,
        slot: usize,
        asked: &Asked,
        result: Result<Outcome, Refusal>,
    ) -> Checked {
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(refusal) => return self.proposal_refused(slot, asked, refusal),
        };
        match (&asked.question, outcome) {
            (Question::Declare { name }, Outcome::QueueDeclared { stream, .. }) => {
                let model = StreamModel::new(stream, name.clone(), Kind::Queue, true);
                self.model.streams.insert(stream, model);
            }
            (
                Question::CreateTopic { name, strict, has_retention },
                Outcome::TopicCreated { streams, .. },
            ) => {
                for stream in streams {
                    let mut model = StreamModel::new(stream, name.clone(), Kind::Topic, *strict);
                    model.has_retention = *has_retention;
                    self.model.streams.insert(stream, model);
                }
            }
            (Question::ProducerId { stream }, Outcome::ProducerId(id)) => {
                self.model.producer_id(id)?;
                self.clients[slot].producers.push(Producer {
                    id,
                    stream: *stream,
                    next_sequence: 0,
                    batches: VecDeque::new(),
                    is_resending: false,
                });
            }
            (Question::OpenSession, Outcome::SessionOpened { session, .. }) => {
                self.clients[slot].session = Some(session);
            }
            (Question::Subscribe { session }, Outcome::Subscribed { .. }) => {
                self.note_backlog(slot, *session);
            }
            (Question::Retain { subject, index }, Outcome::Done) => {
                self.clients[slot].retains = false;
                let known = self.model.retained.entry(subject.clone()).or_default();
                known.acked = known.acked.max(*index);
            }
            (Question::DeleteTopic { name }, Outcome::Deleted { .. }) => {
                self.mark(Mark::TopicDeleted);
                for stream in self.model.streams.values_mut().filter(|s| s.name == *name) {
                    stream.deleted = true;
                }
            }
            (question, outcome) => {
                return violation(format!("{question:?} was answered with {outcome:?}"));
            }
        }
        Ok(())
    }

    fn note_backlog(&mut self, slot: usize, session: koine_broker::metadata::SessionId) {
        let Some((shard, _)) = self.clients[slot].connection else { return };
        let found = self.shards[shard].metadata().session(session);
        if let Some(stream) = found.and_then(|session| session.backlog()) {
            self.discover(slot, stream);
        }
    }

    fn attached(
        &mut self,
        slot: usize,
        asked: &Asked,
        result: Result<Vec<u64>, Refusal>,
    ) -> Checked {
        let Question::Attach { stream, consumer } = asked.question else { return mixed_up() };
        self.confirm(slot, stream, asked.serial, false);
        let holder = (self.clients[slot].raw(), consumer);
        if let Some(model) = self.model.stream(stream) {
            if model.kind == Kind::Backlog {
                model.cursor.taking_over = model.cursor.taking_over.saturating_sub(1);
            }
        }
        let halves = match result {
            // Sent away since, and what it was to take over is another's.
            Ok(_) if !self.clients[slot].consumers.contains_key(&consumer) => Vec::new(),
            Ok(halves) => halves,
            Err(refusal) => {
                self.clients[slot].consumers.remove(&consumer);
                return self.check_refusal(stream, Err(refusal));
            }
        };
        if !halves.is_empty() {
            self.mark(Mark::HalfResumed);
        }
        if let Some(state) = self.clients[slot].consumers.get_mut(&consumer) {
            state.phase = Phase::Attached;
        }
        let Some(model) = self.model.stream(stream) else { return Ok(()) };
        if model.is_unsure() {
            return Ok(());
        }
        let is_backlog = model.kind == Kind::Backlog;
        let noted = model.cursor.attached(holder, &halves, is_backlog, asked.serial);
        noted.map_err(|error| model.name_it(error))
    }

    fn read(
        &mut self,
        slot: usize,
        asked: &Asked,
        result: Result<ReadBatches, Refusal>,
    ) -> Checked {
        let (stream, offset, end, epoch) = match asked.question {
            Question::Read { stream, offset, end, epoch } => (stream, offset, end, epoch),
            Question::ReadAll { stream, offset } => (stream, offset, 0, 0),
            _ => return mixed_up(),
        };
        self.confirm(slot, stream, asked.serial, false);
        let read = match result {
            Ok(read) => read,
            Err(Refusal::OffsetOutOfRange) => return self.check_out_of_range(stream, offset, end),
            Err(refusal) => return self.check_refusal(stream, Err(refusal)),
        };
        self.check_bounds(stream, read.bounds, end, epoch)?;
        let found = records_in(&read, offset)?;
        let Some(model) = self.model.stream(stream) else { return Ok(()) };
        if model.is_unsure() {
            return Ok(());
        }
        let is_there = offset >= read.bounds.start && offset < read.bounds.end;
        if is_there && found.first().is_none_or(|(first, _)| *first > offset) {
            let first = found.first();
            let text = format!("read from {offset} in {:?} begins at {first:?}", read.bounds);
            return Err(model.name_it(Violation(text)));
        }
        for bytes in &read.batches {
            if let Ok(header) = batch::BatchHeader::new(bytes) {
                let (base, epoch) = (header.base_offset(), header.leader_epoch());
                let noted = model.records.check_epoch(base, epoch, read.bounds.epoch);
                let noted = noted.and_then(|()| model.records.observe_batch(base, crc32c(bytes)));
                noted.map_err(|error| model.name_it(error))?;
            }
        }
        for (offset, value) in &found {
            model.records.observe(*offset, *value).map_err(|error| model.name_it(error))?;
        }
        if matches!(asked.question, Question::ReadAll { .. }) {
            self.kept.extend(found);
            self.kept_bounds = Some(read.bounds);
        }
        Ok(())
    }

    fn check_out_of_range(&mut self, stream: StreamId, offset: u64, end: u64) -> Checked {
        let Some(model) = self.model.stream(stream) else { return Ok(()) };
        let sure = !model.is_unsure() && !model.has_retention && model.kind == Kind::Topic;
        if sure && offset >= model.records.trimmed_to && offset <= end {
            let text = format!("{offset} is out of range, though the end was at {end}");
            return Err(model.name_it(Violation(text)));
        }
        Ok(())
    }

    fn check_bounds(
        &mut self,
        stream: StreamId,
        bounds: StreamBounds,
        end: u64,
        epoch: i32,
    ) -> Checked {
        let Some(model) = self.model.stream(stream) else { return Ok(()) };
        if model.is_unsure() {
            return Ok(());
        }
        let observed = Observed { start: bounds.start, end: bounds.end, epoch: bounds.epoch };
        let noted = model.records.bounds(observed, end, epoch);
        noted.map_err(|error| model.name_it(error))?;
        if model.kind == Kind::Topic && bounds.start > model.records.trimmed_to {
            if !model.has_retention {
                let text = format!("begins at {}, though nobody trimmed it", bounds.start);
                return Err(model.name_it(Violation(text)));
            }
            self.mark(Mark::TrimmedByRetention);
        }
        Ok(())
    }

    fn bounds(
        &mut self,
        slot: usize,
        asked: &Asked,
        result: Result<StreamBounds, Refusal>,
    ) -> Checked {
        match (asked.question.clone(), result) {
            (Question::Stock { stream }, Ok(bounds)) => {
                let observed =
                    Observed { start: bounds.start, end: bounds.end, epoch: bounds.epoch };
                let lost_allowed = self.lost_allowed;
                let Some(model) = self.model.stream(stream) else { return Ok(()) };
                if model.recovered(observed, lost_allowed)? {
                    self.mark(Mark::RelaxedLost);
                }
                Ok(())
            }
            (Question::Stock { stream }, Err(refusal)) => {
                violation(format!("stream {stream} after a restart: {refusal:?}"))
            }
            (Question::Trim { stream, offset }, Ok(bounds)) => {
                self.mark(Mark::Trimmed);
                self.confirm(slot, stream, asked.serial, true);
                if bounds.start < offset.min(bounds.end) {
                    return violation(format!("{stream} was trimmed to {offset}: {bounds:?}"));
                }
                self.check_bounds(stream, bounds, 0, 0)
            }
            (Question::Bounds { stream, end, epoch }, Ok(bounds)) => {
                self.confirm(slot, stream, asked.serial, false);
                self.start = Some(bounds.start);
                self.check_bounds(stream, bounds, end, epoch)
            }
            // Asked for with the end of a committed stream, before a crash cost it some.
            (Question::Trim { .. }, Err(Refusal::OffsetOutOfRange)) => Ok(()),
            (Question::Trim { stream, .. } | Question::Bounds { stream, .. }, Err(refusal)) => {
                self.check_refusal(stream, Err(refusal))
            }
            _ => mixed_up(),
        }
    }

    fn epoch_end(&mut self, asked: &Asked, result: Result<Option<(i32, u64)>, Refusal>) -> Checked {
        let Question::EpochEnd { stream, epoch, end } = asked.question else { return mixed_up() };
        let found = match result {
            Ok(found) => found,
            Err(refusal) => return self.check_refusal(stream, Err(refusal)),
        };
        let Some(model) = self.model.stream(stream) else { return Ok(()) };
        let Some((found_epoch, found_end)) = found.filter(|_| !model.is_unsure()) else {
            return Ok(());
        };
        // Of an epoch that was never seen nothing is known: a later one may hold all records.
        let is_newest = model.records.epoch > 0 && epoch >= model.records.epoch;
        if found_epoch > epoch || (is_newest && found_end < end) {
            let text = format!("epoch {epoch} ends at {found:?}; the end was at {end}");
            return Err(model.name_it(Violation(text)));
        }
        Ok(())
    }

    fn purged(&mut self, slot: usize, asked: &Asked, result: Result<u64, Refusal>) -> Checked {
        let Question::Purge { stream } = asked.question else { return mixed_up() };
        if let Err(refusal) = result {
            return self.check_refusal(stream, Err(refusal));
        }
        self.mark(Mark::Purged);
        self.confirm(slot, stream, asked.serial, true);
        let below = self.model.next_value + 1;
        if let Some(model) = self.model.stream(stream) {
            model.cursor.purged(below);
        }
        Ok(())
    }

    fn queue_deleted(&mut self, asked: &Asked, result: Result<u64, Refusal>) -> Checked {
        let Question::DeleteQueue { stream } = asked.question else { return mixed_up() };
        let Some(model) = self.model.stream(stream) else { return Ok(()) };
        match result {
            Ok(_) | Err(Refusal::NotFound) => {
                model.deleted = true;
                self.mark(Mark::QueueDeleted);
            }
            Err(Refusal::InUse | Refusal::NotEmpty) => model.closing -= 1,
            Err(other) => return violation(format!("a deletion was refused with {other:?}")),
        }
        Ok(())
    }

    fn committed(&mut self, asked: &Asked, result: Result<(), GroupError>) -> Checked {
        let Question::Commit { key, offset } = &asked.question else { return mixed_up() };
        match result {
            Ok(()) => {
                if let Some(known) = self.model.groups.get_mut(key) {
                    known.acked = known.acked.max(*offset);
                }
                Ok(())
            }
            Err(GroupError::CoordinatorNotAvailable) => {
                self.mark(Mark::RefusedBusy);
                Ok(())
            }
            Err(other) => violation(format!("a commit was refused with {other:?}")),
        }
    }

    /// The answer will never come.
    pub(super) fn forget_question(&mut self, slot: usize, asked: &Asked) {
        let client: &mut Client = &mut self.clients[slot];
        match &asked.question {
            Question::Retain { .. } => client.retains = false,
            Question::Purge { stream } => {
                // It may happen at any time from now on.
                if let Some(model) = self.model.stream(*stream) {
                    model.cursor.is_lossy = true;
                }
            }
            _ => {}
        }
    }
}

fn mixed_up<T>() -> Result<T, Violation> {
    violation("an answer of another kind than the question")
}

pub(crate) fn value_in(record: &Record) -> Result<Value, Violation> {
    let value = record.value().and_then(value_of);
    value.ok_or_else(|| Violation(format!("garbled record at {}", record.offset())))
}

/// Records from `offset` on; their offsets must follow each other.
pub(crate) fn records_in(read: &ReadBatches, offset: u64) -> Result<Vec<(u64, Value)>, Violation> {
    let mut found: Vec<(u64, Value)> = Vec::new();
    let mut next = None;
    for bytes in &read.batches {
        let header = batch::BatchHeader::new(bytes);
        let Some(header) = header.ok().filter(|header| header.crc_is_good()) else {
            return violation("a batch that was read has a bad checksum");
        };
        // The batch's own checksum leaves it out.
        let epoch = header.leader_epoch();
        if epoch < 1 || epoch > read.bounds.epoch {
            let newest = read.bounds.epoch;
            return violation(format!("garbled batch: epoch {epoch} where {newest} is the newest"));
        }
        let records = batch::records(bytes, &BatchLimits::default());
        let records = records.map_err(|error| Violation(format!("unreadable batch: {error:?}")))?;
        for record in records {
            let record = record.map_err(|error| Violation(format!("bad record: {error:?}")))?;
            if next.is_some_and(|next| next != record.offset()) {
                return violation(format!("{} follows {next:?}", record.offset()));
            }
            next = Some(record.offset() + 1);
            if record.offset() >= offset {
                found.push((record.offset(), value_in(&record)?));
            }
        }
    }
    Ok(found)
}

/// One line for the trace.
pub(crate) fn summary(event: &Event) -> String {
    match event {
        Event::Deliveries { consumer, stream, deliveries } => {
            let mut text = format!("deliveries of {stream} to {consumer}:");
            for delivery in deliveries.iter().take(40) {
                let flag = if delivery.redelivered { "!" } else { "" };
                text.push_str(&format!(" {}{flag}", delivery.offset));
            }
            text
        }
        Event::Pulled { token, result } => {
            let offset = |pulled: &Option<(Delivery, u64)>| {
                pulled.as_ref().map(|(delivery, _)| (delivery.offset, delivery.redelivered))
            };
            format!("pulled {token}: {:?}", result.as_ref().map(offset))
        }
        Event::Read { token, result } => {
            let read = result.as_ref().map(|read| (read.batches.len(), read.bounds));
            format!("read {token}: {read:?}")
        }
        Event::Live { .. } => "live".to_owned(),
        Event::Retained { token, result } => {
            let count = result.as_ref().map(|page| page.messages.len());
            format!("retained {token}: {count:?}")
        }
        other => format!("{other:?}"),
    }
}

pub(super) fn summary_of(request: &Request) -> String {
    match request {
        Request::Publish { token, content, route, once: _ } => {
            let value = content.body.as_ref().and_then(|body| value_of(body));
            format!("publishes {token:?} v{} to {route:?}", value.unwrap_or(0))
        }
        Request::Append { token, stream, batch, info } => {
            let sequence = (info.producer_id, info.base_sequence);
            let count = info.record_count;
            format!("appends {token:?} to {stream}: {count} ({} B) {sequence:?}", batch.len())
        }
        Request::Propose { token, command } => {
            let text: String = format!("{command:?}").chars().take(200).collect();
            format!("proposes {token} {text}")
        }
        other => format!("{other:?}"),
    }
}
