//! Fetch (key 1): reads batches as they are stored, and waits for more if there are too few.
//!
//! Partitions are read in order while the byte budget lasts. If what they have is below `min_bytes`,
//! the end of each is watched; one that has grown is read again, until there is enough or `max_wait`
//! is over.

use super::list_offsets::check_epoch;
use crate::codec::fetch::{Partition, Request, Response, Topic};
use crate::error::ErrorCode;
use crate::fetch_session::{Plan, Target, TopicRef};
use crate::message::for_kafka;
use crate::operation::{Env, Op, Operation, Started};
use crate::reply::Reply;
use bytes::Bytes;
use koine_base::{Moment, StreamId};
use koine_broker::access::Action;
use koine_broker::batch::{attribute, BatchHeader, Codec};
use koine_broker::metadata::Refusal;
use koine_broker::session::{Event, ReadBatches, Request as Ask, StreamBounds};

/// Bytes of records in one answer, whatever the client asks for: Kafka's `fetch.max.bytes`.
const FETCH_BYTES_MAX: usize = 55 << 20;

/// The same while the node has no room left for output: everybody gets on, in small steps.
const FETCH_BYTES_MIN: usize = 64 << 10;

const READ_COMMITTED: i8 = 1;
const SESSIONS_FROM: i16 = 7;
/// Clients before this version cannot know Zstandard (KIP-110).
const ZSTD_FROM: i16 = 10;

/// What a token of a partition stands for; the token's index is `slot * KINDS + kind`.
const READ: usize = 0;
const WATCH: usize = 1;
const BOUNDS: usize = 2;
const KINDS: usize = 3;

struct Slot {
    target: Target,
    name: String,
    /// `None` if the partition cannot be read; `answer` says why.
    stream: Option<StreamId>,
    /// The budget of the read under way.
    reading_bytes: Option<usize>,
    /// It was read, or asked for its bounds, at least once.
    seen: bool,
    watched: bool,
    /// It may not be read any more; `answer` says so.
    is_revoked: bool,
    end: u64,
    answer: Partition,
}

struct Fetch {
    op: Op,
    reply: Reply,
    plan: Plan,
    read_committed: bool,
    slots: Vec<Slot>,
    /// The first slot that was not asked for yet.
    next: usize,
    /// Reads and questions about bounds under way.
    outstanding: usize,
    outstanding_bytes: usize,
    /// Bytes of records in all slots.
    used_bytes: usize,
    /// Some slot has an error.
    failed: bool,
    bytes_min: usize,
    bytes_max: usize,
    deadline: Moment,
}

pub(crate) fn start(request: &Request<'_>, reply: Reply, env: &mut Env<'_, '_>) -> Started {
    // A session id is positive, and hard to guess.
    let fresh_id = (env.connection.rng.next_u64() >> 33) as i32 | 1;
    let planned = env.connection.fetch_session.plan(request, reply.version, fresh_id);
    let (plan, targets) = match planned {
        Ok(planned) => planned,
        Err(error) => {
            let response = Response { error_code: error.code(), ..Response::default() };
            response.encode_frame(&mut env.ctx.out.wire, reply.version, reply.correlation_id);
            return Started::Answered;
        }
    };
    let op = env.new_op();
    let wait_ms = u64::try_from(request.max_wait_ms).unwrap_or(0);
    let slots: Vec<Slot> = targets.into_iter().map(|target| Slot::of(target, env)).collect();
    let bytes_max = env.ctx.output_room.clamp(FETCH_BYTES_MIN, FETCH_BYTES_MAX);
    let mut fetch = Fetch {
        op,
        reply,
        plan,
        read_committed: request.isolation_level == READ_COMMITTED,
        failed: slots.iter().any(|slot| slot.stream.is_none()),
        slots,
        next: 0,
        outstanding: 0,
        outstanding_bytes: 0,
        used_bytes: 0,
        bytes_min: usize::try_from(request.min_bytes).unwrap_or(0),
        bytes_max: usize::try_from(request.max_bytes).unwrap_or(0).clamp(1, bytes_max),
        deadline: env.ctx.now.moment.after_ms(wait_ms),
    };
    if fetch.advance(env) {
        return Started::Answered;
    }
    Started::Waiting(op, Box::new(fetch))
}

impl Fetch {
    /// Asks for what can be asked for; answers if all is there. True if it has answered.
    fn advance(&mut self, env: &mut Env<'_, '_>) -> bool {
        self.ask_next(env);
        if self.outstanding > 0 {
            return false;
        }
        if self.is_enough(env.ctx.now.moment) {
            self.answer(env);
            return true;
        }
        self.watch(env);
        false
    }

    /// Reads partitions in order while the budget lasts; of the rest only the bounds are asked, and
    /// in an incremental answer not even these.
    fn ask_next(&mut self, env: &mut Env<'_, '_>) {
        while let Some(slot) = self.slots.get(self.next) {
            let used = self.used_bytes + self.outstanding_bytes;
            let Some(stream) = slot.stream.filter(|_| !slot.is_revoked) else {
                self.next += 1;
                continue;
            };
            if used < self.bytes_max {
                self.read(self.next, stream, self.bytes_max - used, env);
            } else if self.outstanding_bytes > 0 {
                // What is under way may turn out smaller.
                return;
            } else if !self.plan.incremental {
                let token = self.token(self.next, BOUNDS);
                self.outstanding += 1;
                env.request(Ask::Bounds { token, stream });
            }
            self.next += 1;
        }
    }

    fn token(&self, slot: usize, kind: usize) -> u64 {
        self.op.token_at(slot * KINDS + kind)
    }

    fn read(&mut self, index: usize, stream: StreamId, room: usize, env: &mut Env<'_, '_>) {
        let token = self.token(index, READ);
        let slot = &mut self.slots[index];
        let wanted = slot.target.wanted;
        let bytes = usize::try_from(wanted.partition_max_bytes).unwrap_or(0).clamp(1, room.max(1));
        slot.reading_bytes = Some(bytes);
        self.outstanding += 1;
        self.outstanding_bytes += bytes;
        env.request(Ask::Read {
            token,
            stream,
            offset: wanted.fetch_offset as u64,
            bytes_max: bytes as u32,
        });
    }

    /// Kafka answers at once on any error, so that the client hears of it.
    fn is_enough(&self, now: Moment) -> bool {
        now >= self.deadline
            || self.slots.is_empty()
            || self.failed
            || self.used_bytes >= self.bytes_min.min(self.bytes_max)
    }

    fn watch(&mut self, env: &mut Env<'_, '_>) {
        for index in 0..self.slots.len() {
            let token = self.token(index, WATCH);
            let slot = &mut self.slots[index];
            let (Some(stream), true, false) = (slot.stream, slot.seen, slot.watched) else {
                continue;
            };
            slot.watched = true;
            env.request(Ask::Watch { token, stream, offset: slot.end });
        }
    }

    fn take_read(
        &mut self,
        index: usize,
        result: Result<ReadBatches, Refusal>,
        env: &mut Env<'_, '_>,
    ) {
        let slot = &mut self.slots[index];
        if slot.is_revoked {
            return;
        }
        self.used_bytes -= slot.answer.records_bytes();
        // The engine gives at least one batch, however large. Only the first in the answer may go
        // over the limit; another gets its turn in a later answer.
        let room = match self.used_bytes {
            0 => usize::MAX,
            used => self.bytes_max.saturating_sub(used),
        };
        match slot.take_read(result, self.reply.version, env) {
            Ok(batches) => slot.answer.records = batches,
            Err(error) => slot.fail(error),
        }
        if slot.answer.records_bytes() > room {
            slot.answer.records.clear();
        }
        self.used_bytes += slot.answer.records_bytes();
        self.failed |= slot.answer.error_code != 0;
    }

    fn answer(&mut self, env: &mut Env<'_, '_>) {
        let mut response = Response { session_id: self.plan.session_id, ..Response::default() };
        for (index, mut slot) in std::mem::take(&mut self.slots).into_iter().enumerate() {
            if slot.watched {
                if let Some(stream) = slot.stream {
                    env.request(Ask::Unwatch { token: self.token(index, WATCH), stream });
                }
            }
            if slot.stream.is_some() && !slot.seen {
                // Not asked for: the budget was used up before its turn.
                continue;
            }
            if self.read_committed && slot.answer.error_code == 0 {
                slot.answer.aborted_transactions = Some(Vec::new());
            }
            let session = &mut env.connection.fetch_session;
            if !session.admit(self.plan, &slot.target.topic, &slot.answer) {
                continue;
            }
            slot.count(env);
            place(&mut response, slot);
        }
        if self.reply.version < SESSIONS_FROM {
            response.session_id = 0;
        }
        response.encode_frame(&mut env.ctx.out.wire, self.reply.version, self.reply.correlation_id);
    }
}

/// Adds a partition to its topic; partitions of one topic come in a row mostly.
fn place(response: &mut Response, slot: Slot) {
    let (topic, topic_id) = match slot.target.topic {
        TopicRef::Name(name) => (name, [0; 16]),
        TopicRef::Id(id) => (String::new(), id),
    };
    match response.topics.last_mut() {
        Some(last) if last.topic == topic && last.topic_id == topic_id => {
            last.partitions.push(slot.answer)
        }
        _ => response.topics.push(Topic { topic, topic_id, partitions: vec![slot.answer] }),
    }
}

impl Slot {
    /// What may be read of a partition that there is.
    fn of(target: Target, env: &Env<'_, '_>) -> Self {
        let catalog = env.catalog();
        let found = catalog.name(&target.topic).and_then(|name| {
            env.may_topic(Action::Read, name)?;
            Ok((name, catalog.stream(name, target.wanted.partition)?))
        });
        let mut answer =
            Partition { partition_index: target.wanted.partition, ..Partition::default() };
        let (name, stream) = match found {
            Ok((name, stream)) if target.wanted.fetch_offset >= 0 => {
                (name.to_string(), Some(stream))
            }
            Ok((name, _)) => {
                answer.error_code = ErrorCode::OffsetOutOfRange.code();
                (name.to_string(), None)
            }
            Err(error) => {
                answer.error_code = error.code();
                (String::new(), None)
            }
        };
        Slot {
            target,
            name,
            stream,
            reading_bytes: None,
            seen: false,
            watched: false,
            is_revoked: false,
            end: 0,
            answer,
        }
    }

    fn fail(&mut self, error: ErrorCode) {
        self.answer = Partition {
            partition_index: self.answer.partition_index,
            error_code: error.code(),
            ..Partition::default()
        };
    }

    fn take_read(
        &mut self,
        result: Result<ReadBatches, Refusal>,
        version: i16,
        env: &Env<'_, '_>,
    ) -> Result<Vec<Bytes>, ErrorCode> {
        let read = result?;
        self.take_bounds(read.bounds);
        check_epoch(self.target.wanted.current_leader_epoch, read.bounds.epoch)?;
        self.convert(read.batches, version, env)
    }

    fn take_bounds(&mut self, bounds: StreamBounds) {
        self.seen = true;
        self.end = bounds.end;
        self.answer.high_watermark = bounds.end as i64;
        // Without transactions everything committed is stable.
        self.answer.last_stable_offset = bounds.end as i64;
        self.answer.log_start_offset = bounds.start as i64;
    }

    /// Batches as Kafka clients can read them. Those of Kafka producers stay as they are.
    fn convert(
        &self,
        batches: Vec<Bytes>,
        version: i16,
        env: &Env<'_, '_>,
    ) -> Result<Vec<Bytes>, ErrorCode> {
        let mut out = Vec::with_capacity(batches.len());
        for batch in batches {
            let header = BatchHeader::new(&batch).map_err(|_| ErrorCode::KafkaStorageError)?;
            if header.has(attribute::FOREIGN) {
                let converted = for_kafka(&batch, &self.name, env.ctx.dialects, env.ctx.limits);
                out.push(converted.map_err(|_| ErrorCode::KafkaStorageError)?);
                continue;
            }
            if version < ZSTD_FROM && header.codec() == Ok(Codec::Zstd) {
                return Err(ErrorCode::UnsupportedCompressionType);
            }
            out.push(batch);
        }
        Ok(out)
    }

    /// Counts what is handed out.
    fn count(&self, env: &mut Env<'_, '_>) {
        let from = self.target.wanted.fetch_offset.max(0) as u64;
        let wall = env.ctx.now.wall.0;
        let meter = &mut env.ctx.meter;
        for batch in &self.answer.records {
            let Ok(header) = BatchHeader::new(batch) else { continue };
            let skipped = from.saturating_sub(header.base_offset());
            let count = u64::try_from(header.record_count()).unwrap_or(0).saturating_sub(skipped);
            meter.messages_out += count;
            meter.message_bytes_out += batch.len() as u64;
            let age_ms = wall.saturating_sub(header.max_timestamp());
            if header.max_timestamp() >= 0 && age_ms >= 0 {
                let age_us = (age_ms as u64).saturating_mul(1000);
                let origin = koine_broker::message::Origin::Kafka.number() as usize;
                let buckets = &mut meter.delivery_latency[origin];
                let bucket = (64 - age_us.leading_zeros() as usize).min(buckets.len() - 1);
                buckets[bucket] += count;
                meter.delivery_latency_sum_us[origin] = meter.delivery_latency_sum_us[origin]
                    .saturating_add(age_us.saturating_mul(count));
            }
        }
        if self.answer.error_code != 0 {
            meter.request_errors += 1;
        }
    }
}

impl Operation for Fetch {
    fn event(&mut self, event: Event, env: &mut Env<'_, '_>) -> bool {
        let place = |token| (Op::index(token) / KINDS, Op::index(token) % KINDS);
        match event {
            Event::Read { token, result } => {
                let (index, _) = place(token);
                let Some(bytes) =
                    self.slots.get_mut(index).and_then(|slot| slot.reading_bytes.take())
                else {
                    return false;
                };
                self.outstanding -= 1;
                self.outstanding_bytes -= bytes;
                self.slots[index].seen = true;
                self.take_read(index, result, env);
            }
            Event::Bounds { token, result } => {
                let (index, _) = place(token);
                let Some(slot) = self.slots.get_mut(index) else { return false };
                self.outstanding -= 1;
                slot.seen = true;
                match result {
                    _ if slot.is_revoked => {}
                    Ok(bounds) => slot.take_bounds(bounds),
                    Err(refusal) => slot.fail(refusal.into()),
                }
            }
            Event::Grown { token } => {
                let (index, kind) = place(token);
                let Some(slot) = self.slots.get_mut(index) else { return false };
                let stream = slot.stream.filter(|_| !slot.is_revoked);
                let (Some(stream), true, WATCH) = (stream, slot.watched, kind) else {
                    return false;
                };
                slot.watched = false;
                let others = self.used_bytes - slot.answer.records_bytes();
                let room = self.bytes_max.saturating_sub(others + self.outstanding_bytes);
                self.read(index, stream, room, env);
                return false;
            }
            _ => return false,
        }
        self.advance(env)
    }

    fn access_changed(&mut self, env: &mut Env<'_, '_>) -> bool {
        for slot in self.slots.iter_mut().filter(|slot| slot.stream.is_some()) {
            let Err(error) = env.may_topic(Action::Read, &slot.name) else { continue };
            self.used_bytes -= slot.answer.records_bytes();
            slot.fail(error);
            slot.is_revoked = true;
            slot.seen = true;
            self.failed = true;
        }
        // Reads under way are waited for: they answer soon.
        self.failed && self.advance(env)
    }

    fn gathered_bytes(&self) -> usize {
        self.used_bytes + self.outstanding_bytes
    }

    fn deadline(&self) -> Moment {
        self.deadline
    }

    fn tick(&mut self, env: &mut Env<'_, '_>) -> bool {
        // A read under way is waited for: it answers soon.
        if self.outstanding > 0 {
            return false;
        }
        self.answer(env);
        true
    }
}
