//! A producer with acks=all. Plain: it never sends a batch again, so that an unanswered one stays
//! unknown. Idempotent: it sends unanswered batches again, unchanged and in their order, until they
//! are answered.

use super::batch::{encode, Sequence};
use super::calls::Calls;
use super::{code, requests, Topic};
use crate::client::{Client, Phase, Protocol, Step};
use crate::frames::wire::Reader as Fields;
use crate::frames::Malformed;
use crate::history::{Note, Outcome, Process, Promise, RouteId, WriteId};
use crate::value::Value;
use std::collections::VecDeque;

/// Batches that wait for their answer; more than five would not be told apart by the broker.
const WINDOW: usize = 5;
const RECORDS_MAX: u64 = 4;
const KEYS: u64 = 3;

/// A partition, and what its route is in the history.
#[derive(Clone, Debug)]
pub struct Target {
    pub topic: String,
    pub partition: i32,
    pub route: RouteId,
}

#[derive(Debug)]
enum Ask {
    Versions,
    Create,
    Describe,
    ProducerId,
    Batch,
}

#[derive(Debug)]
struct Batch {
    target: usize,
    writes: Vec<WriteId>,
    /// Index among all batches of the target, and so the first sequence number.
    bytes: Vec<u8>,
}

pub struct Writer {
    process: Process,
    counter: u32,
    topics: Vec<Topic>,
    targets: Vec<Target>,
    is_idempotent: bool,
    calls: Calls<Ask>,
    /// Unanswered, oldest first; as many of them as there are calls about batches were sent over this
    /// connection.
    batches: VecDeque<Batch>,
    producer: Option<(i64, i16)>,
    /// Next sequence number by target.
    sequences: Vec<i32>,
    connection: u32,
    is_ready: bool,
    is_set_up: bool,
    /// Producer ids so far: each is a new lane.
    lives: u64,
}

impl Writer {
    /// `topics` are those that it makes before the load begins.
    pub fn new(
        process: Process,
        topics: Vec<Topic>,
        targets: Vec<Target>,
        is_idempotent: bool,
    ) -> Self {
        Writer {
            process,
            counter: 0,
            is_set_up: topics.is_empty(),
            topics,
            sequences: vec![0; targets.len()],
            targets,
            is_idempotent,
            calls: Calls::default(),
            batches: VecDeque::new(),
            producer: None,
            connection: 0,
            is_ready: false,
            lives: 0,
        }
    }

    fn answer(
        &mut self,
        about: Ask,
        fields: &mut Fields<'_>,
        step: &mut Step<'_>,
    ) -> Result<(), Malformed> {
        match about {
            Ask::Versions => {
                if !requests::api_versions_answer(fields)? {
                    return Err(Malformed("ApiVersions answer: a version in use is not served"));
                }
                self.look_after_topics(step);
            }
            Ask::Create => {
                for (name, error) in requests::create_topics_answer(fields)? {
                    if !matches!(error, code::NONE | code::TOPIC_ALREADY_EXISTS) {
                        step.refused(self.process, format!("CreateTopics {name}: {error}"));
                        return Ok(());
                    }
                }
                self.is_set_up = true;
                self.get_ready(step);
            }
            Ask::Describe => {
                for (name, error, partitions) in requests::metadata_answer(fields)? {
                    let wanted = self.topics.iter().find(|topic| topic.name == name);
                    let is_whole =
                        wanted.is_some_and(|topic| topic.partition_count as usize == partitions);
                    if error == code::UNKNOWN_TOPIC || (error == code::NONE && !is_whole) {
                        let text = format!("topic {name}: {error}, {partitions} partitions");
                        step.note(self.process, Note::ObjectLost(text));
                    }
                }
                self.get_ready(step);
            }
            Ask::ProducerId => match requests::init_producer_id_answer(fields)? {
                (code::NONE, id, epoch) => {
                    self.producer = Some((id, epoch));
                    self.lives += 1;
                    self.sequences.fill(0);
                    self.is_ready = true;
                }
                (error, ..) => step.refused(self.process, format!("InitProducerId: {error}")),
            },
            Ask::Batch => {
                let answer = requests::produce_answer(fields)?;
                self.batch_answer(answer, step);
            }
        }
        Ok(())
    }

    fn look_after_topics(&mut self, step: &mut Step<'_>) {
        let topics = &self.topics;
        if topics.is_empty() {
            self.get_ready(step);
        } else if self.is_set_up {
            let names: Vec<String> = topics.iter().map(|topic| topic.name.clone()).collect();
            self.calls.ask(step.out, requests::METADATA, Ask::Describe, |out| {
                requests::metadata(out, &names);
            });
        } else {
            self.calls.ask(step.out, requests::CREATE_TOPICS, Ask::Create, |out| {
                requests::create_topics(out, topics);
            });
        }
    }

    fn get_ready(&mut self, step: &mut Step<'_>) {
        if self.is_idempotent && self.producer.is_none() {
            self.calls.ask(step.out, requests::INIT_PRODUCER_ID, Ask::ProducerId, |out| {
                requests::init_producer_id(out);
            });
            return;
        }
        self.is_ready = true;
        if !self.batches.is_empty() {
            step.note(self.process, Note::Repeated);
        }
        for index in 0..self.batches.len() {
            for write in &self.batches[index].writes {
                step.history.repeat(*write);
            }
            self.send(index, step.out);
        }
    }

    fn send(&mut self, index: usize, out: &mut Vec<u8>) {
        let batch = &self.batches[index];
        let target = &self.targets[batch.target];
        self.calls.ask(out, requests::PRODUCE, Ask::Batch, |out| {
            requests::produce(out, &target.topic, target.partition, &batch.bytes);
        });
    }

    fn batch_answer(&mut self, (error, base): (i16, i64), step: &mut Step<'_>) {
        match error {
            code::NONE => {
                for (index, write) in self.take_oldest().into_iter().enumerate() {
                    // An answer without an offset says only that it is stored.
                    let offset = (base >= 0).then_some(base + index as i64);
                    step.history.end(write, Outcome::Ok(offset));
                }
            }
            code::DUPLICATE_SEQUENCE if self.is_idempotent => {
                self.take_oldest().into_iter().for_each(|w| step.history.end(w, Outcome::Ok(None)));
            }
            code::OUT_OF_ORDER_SEQUENCE | code::INVALID_PRODUCER_EPOCH | code::UNKNOWN_PRODUCER
                if self.is_idempotent =>
            {
                // Everything before it was acknowledged, so it must fit.
                step.note(self.process, Note::SequenceLost(format!("Produce: {error}")));
                self.give_up(step);
                self.producer = None;
                step.close = true;
            }
            code::MESSAGE_TOO_LARGE | code::INVALID_RECORD => {
                self.take_oldest().into_iter().for_each(|w| step.history.end(w, Outcome::Failed));
                // The batches behind it would not fit any more.
                step.refused(self.process, format!("Produce: {error}"));
                self.producer = None;
                self.give_up(step);
            }
            error if self.is_idempotent => {
                step.refused(self.process, format!("Produce: {error}, to be repeated"));
            }
            error => {
                step.note(self.process, Note::Refused(format!("Produce: {error}")));
                self.take_oldest().into_iter().for_each(|w| step.history.end(w, Outcome::Unknown));
            }
        }
    }

    fn take_oldest(&mut self) -> Vec<WriteId> {
        self.batches.pop_front().map(|batch| batch.writes).unwrap_or_default()
    }

    /// Nothing that is open will be sent again.
    fn give_up(&mut self, step: &mut Step<'_>) {
        for write in self.batches.drain(..).flat_map(|batch| batch.writes) {
            step.history.end(write, Outcome::Unknown);
        }
    }

    fn write_batch(&mut self, step: &mut Step<'_>) {
        let at = step.rng.below(self.targets.len() as u64) as usize;
        let target = self.targets[at].clone();
        let count = 1 + step.rng.below(RECORDS_MAX);
        let lane = if self.is_idempotent { self.lives } else { u64::from(self.connection) };
        let (mut records, mut writes) = (Vec::new(), Vec::new());
        for _ in 0..count {
            self.counter += 1;
            let value = Value { process: self.process, counter: self.counter };
            let key = step.rng.below(KEYS) as u32;
            records.push((key, step.body(value, key)));
            let at = step.moment();
            writes.push(step.history.write(at, value, target.route, Promise::Once, lane));
        }
        let first = self.sequences[at];
        let sequence =
            self.producer.map(|(producer_id, epoch)| Sequence { producer_id, epoch, first });
        self.sequences[at] += count as i32;
        let bytes = encode(&records, step.now.wall.0, sequence);
        self.batches.push_back(Batch { target: at, writes, bytes });
        self.send(self.batches.len() - 1, step.out);
    }
}

impl Client for Writer {
    fn protocol(&self) -> Protocol {
        Protocol::Kafka
    }

    fn connected(&mut self, step: &mut Step<'_>) {
        self.connection += 1;
        self.calls.ask(step.out, requests::API_VERSIONS, Ask::Versions, |_| {});
    }

    fn receive(&mut self, input: &[u8], step: &mut Step<'_>) -> Result<usize, Malformed> {
        let mut used = 0;
        while !step.close {
            let Some((about, mut fields, bytes)) = self.calls.answer(&input[used..])? else {
                break;
            };
            used += bytes;
            self.answer(about, &mut fields, step)?;
        }
        Ok(used)
    }

    fn act(&mut self, step: &mut Step<'_>) {
        let has_room = self.batches.len() < WINDOW && !self.targets.is_empty();
        if step.phase == Phase::Load && self.is_ready && has_room {
            self.write_batch(step);
        }
    }

    fn lost(&mut self, step: &mut Step<'_>) {
        self.is_ready = false;
        self.calls.clear().for_each(drop);
        if !self.is_idempotent {
            self.give_up(step);
        }
    }

    fn is_set_up(&self) -> bool {
        self.is_set_up
    }

    fn is_waiting(&self) -> bool {
        self.calls.count() > 0
    }

    fn is_finished(&self) -> bool {
        self.batches.is_empty()
    }
}
