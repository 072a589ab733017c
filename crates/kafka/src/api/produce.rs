//! Produce (key 0): checks each batch and appends it verbatim. What a topic is sent is also offered
//! to the subscribers of the subject of its name.

use crate::codec::header;
use crate::codec::produce::{PartitionResponse, Request, Response, TopicData, TopicResponse};
use crate::codec::{ApiKey, Malformed};
use crate::config::{message_bytes_default, TIMESTAMP_AFTER_MAX_MS};
use crate::error::ErrorCode;
use crate::framing::Frame;
use crate::message::forwarded;
use crate::operation::{Env, Op};
use crate::reply::Reply;
use crate::session::{DISK_THROTTLE_MS, MEMORY_THROTTLE_MS};
use crate::topic::NAMESPACE;
use bytes::Bytes;
use koine_base::StreamId;
use koine_broker::access::Action;
use koine_broker::batch::{records, validate_from_producer, BatchInfo, BatchLimits, Codec};
use koine_broker::metadata::{Named, Refusal};
use koine_broker::overload::Alarms;
use koine_broker::publish::{to_subscribers, Publisher};
use koine_broker::router::Subject;
use koine_broker::session::{Event, Request as Ask, Route};

/// The first version whose records are of the format that is stored.
const SERVED_FROM: i16 = 3;
const IDS_FROM: i16 = 13;
/// Clients before this version cannot know Zstandard (KIP-110).
const ZSTD_FROM: i16 = 7;

/// The index of an append among the tokens of its operation; forwarded copies count from 1.
const APPEND: u32 = 0;

/// A Produce request under way. Each partition has its own operation number, all in a row.
pub struct Produce {
    reply: Reply,
    acks: i16,
    frame_bytes: usize,
    first_op: Op,
    /// In the order of the request.
    partitions: Vec<PartitionResponse>,
    topics: Vec<TopicPlace>,
    /// Events still to come.
    waiting: usize,
}

struct TopicPlace {
    name: String,
    topic_id: [u8; 16],
    partition_count: usize,
}

/// What a partition's batch is checked against and where it goes.
struct Target {
    stream: StreamId,
    limits: BatchLimits,
    log_append_time: bool,
}

/// Refused before it reached the engine.
struct Refused {
    error: ErrorCode,
    message: Option<String>,
}

impl From<ErrorCode> for Refused {
    fn from(error: ErrorCode) -> Self {
        Refused { error, message: None }
    }
}

pub(crate) fn start(frame: &Frame, env: &mut Env<'_, '_>) -> Result<Produce, Malformed> {
    let version = frame.head.api_version;
    let (_, mut r) = header::decode_request(&frame.bytes, frame.api)?;
    let request = Request::decode(&mut r, version)?;
    let mut produce = Produce {
        reply: Reply::to(ApiKey::Produce, frame.head),
        acks: request.acks,
        frame_bytes: frame.bytes.len(),
        first_op: env.next_op(),
        partitions: Vec::new(),
        topics: Vec::new(),
        waiting: 0,
    };
    let refused = refuse_all(&request, version);
    for topic in &request.topics {
        let name = match version {
            IDS_FROM.. => env.catalog().name_of(topic.topic_id),
            _ => Ok(topic.name),
        };
        let name = name.and_then(|name| env.may_topic(Action::Write, name).map(|()| name));
        for partition in &topic.partitions {
            let op = env.new_op();
            let mut answer = PartitionResponse { index: partition.index, ..Default::default() };
            let started = match (refused, name) {
                (Some(error), _) | (None, Err(error)) => Err(error.into()),
                (None, Ok(name)) => {
                    append(name, partition.index, partition.records.as_ref(), version, op, env)
                }
            };
            match started {
                Ok(waiting) => produce.waiting += waiting,
                Err(refused) => {
                    env.ctx.meter.request_errors += 1;
                    answer.error_code = refused.error.code();
                    answer.error_message = refused.message;
                }
            }
            produce.partitions.push(answer);
        }
        produce.topics.push(TopicPlace::of(topic));
    }
    Ok(produce)
}

/// What can stand before `acks`: the request's head and two strings of 32 KiB.
const BEFORE_ACKS_BYTES: usize = 128 << 10;

/// True if the Produce request at the front of `input`, length included, wants no answer.
pub(crate) fn is_silent(input: &[u8]) -> bool {
    let Some(frame) = input.get(4..input.len().min(BEFORE_ACKS_BYTES)) else { return false };
    let frame = Bytes::copy_from_slice(frame);
    let Ok((header, mut r)) = header::decode_request(&frame, ApiKey::Produce.api()) else {
        return false;
    };
    Request::decode_acks(&mut r, header.head.api_version) == Ok(0)
}

fn throttle_ms(alarms: Alarms) -> i32 {
    let ms = match (alarms.disk, alarms.memory) {
        (true, _) => DISK_THROTTLE_MS,
        (false, true) => MEMORY_THROTTLE_MS,
        (false, false) => 0,
    };
    ms as i32
}

impl TopicPlace {
    fn of(topic: &TopicData<'_>) -> Self {
        TopicPlace {
            name: topic.name.to_string(),
            topic_id: topic.topic_id,
            partition_count: topic.partitions.len(),
        }
    }
}

/// An error for the request as a whole.
fn refuse_all(request: &Request<'_>, version: i16) -> Option<ErrorCode> {
    if version < SERVED_FROM {
        return Some(ErrorCode::UnsupportedVersion);
    }
    if request.transactional_id.is_some() {
        // As FindCoordinator answers for transactional ids.
        return Some(ErrorCode::TransactionalIdAuthorizationFailed);
    }
    match request.acks {
        -1..=1 => None,
        _ => Some(ErrorCode::InvalidRequiredAcks),
    }
}

/// Asks the engine to append one batch and to forward its records; gives the number of events that
/// will follow.
fn append(
    name: &str,
    index: i32,
    records: Option<&Bytes>,
    version: i16,
    op: Op,
    env: &mut Env<'_, '_>,
) -> Result<usize, Refused> {
    let target = target(name, index, env)?;
    let Some(batch) = records.filter(|records| !records.is_empty()) else {
        return Err(Refused {
            error: ErrorCode::InvalidRecord,
            message: Some("no record batch".into()),
        });
    };
    let info = check(batch, version, &target, env)?;
    let forwarded = forward(name, batch, &target.limits, op, env);
    env.ctx.meter.messages_in += u64::from(info.record_count);
    env.ctx.meter.message_bytes_in += batch.len() as u64;
    env.request(Ask::Append {
        token: Some(op.token(APPEND)),
        stream: target.stream,
        batch: batch.clone(),
        info,
    });
    Ok(1 + forwarded)
}

fn target(name: &str, index: i32, env: &Env<'_, '_>) -> Result<Target, ErrorCode> {
    let named = env.catalog().find(name)?;
    let stream = named.stream(index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let settings = match named {
        Named::Topic(topic) => Some(&topic.settings),
        Named::Queue(_) => None,
    };
    let node_max = env.ctx.limits.message_bytes_max;
    let batch_bytes_max = match settings {
        None => node_max,
        Some(settings) => match settings.message_bytes_max {
            Some(bytes) => (bytes as usize).min(node_max),
            None => message_bytes_default(env.ctx.limits),
        },
    };
    let limits = BatchLimits {
        batch_bytes_max,
        decompressed_bytes_max: env.ctx.limits.inflated_bytes_max,
        decompressed_ratio_max: env.ctx.limits.inflated_ratio_max,
        ..BatchLimits::default()
    };
    let log_append_time = settings.and_then(|settings| settings.log_append_time).unwrap_or(false);
    Ok(Target { stream, limits, log_append_time })
}

fn check(
    batch: &Bytes,
    version: i16,
    target: &Target,
    env: &Env<'_, '_>,
) -> Result<BatchInfo, Refused> {
    let info = validate_from_producer(batch, &target.limits)
        .map_err(|error| Refused { error: error.into(), message: Some(error.to_string()) })?;
    if info.codec == Codec::Zstd && version < ZSTD_FROM {
        return Err(ErrorCode::UnsupportedCompressionType.into());
    }
    if info.is_transactional() {
        return Err(ErrorCode::InvalidTxnState.into());
    }
    let latest = env.ctx.now.wall.plus_ms(TIMESTAMP_AFTER_MAX_MS).0;
    if !target.log_append_time && info.max_timestamp > latest {
        let message = format!("timestamp {} is more than an hour ahead", info.max_timestamp);
        return Err(Refused { error: ErrorCode::InvalidTimestamp, message: Some(message) });
    }
    Ok(info)
}

/// Hands a copy of each record to the subscribers of the subject `name`, if there are any. A record
/// of a batch that cannot be read is not forwarded: the topic still has it.
///
/// Copies are made with the append, not after it: a producer that loses its connection in between
/// sends the batch again, is told that it is a duplicate, and would never get them made.
fn forward(
    name: &str,
    batch: &Bytes,
    limits: &BatchLimits,
    op: Op,
    env: &mut Env<'_, '_>,
) -> usize {
    let route = subscribers(name, env);
    if route.is_empty() {
        return 0;
    }
    let Ok(records) = records(batch, limits) else { return 0 };
    let mut count = 0;
    for record in records.map_while(Result::ok) {
        count += 1;
        env.request(Ask::Publish {
            token: Some(op.token(APPEND + count)),
            content: forwarded(name, &record),
            route: route.clone(),
            once: None,
        });
    }
    count as usize
}

fn subscribers(name: &str, env: &mut Env<'_, '_>) -> Route {
    let Ok(subject) = Subject::from_topic_name(name) else { return Route::default() };
    let publisher = Publisher {
        connection: env.ctx.connection,
        session: None,
        qos: 1,
        retain: false,
        key: None,
    };
    to_subscribers(env.ctx.metadata, NAMESPACE, &subject, &publisher, &mut env.connection.matches)
}

impl Produce {
    pub fn is_complete(&self) -> bool {
        self.waiting == 0
    }

    pub fn frame_bytes(&self) -> usize {
        self.frame_bytes
    }

    /// Whether `op` belongs to this request.
    pub fn owns(&self, op: Op) -> bool {
        op.since(self.first_op) < self.partitions.len()
    }

    pub fn event(&mut self, event: Event, env: &mut Env<'_, '_>) {
        let (token, error) = match event {
            Event::Appended { token, result } => {
                let place = Op::of(token).since(self.first_op);
                let Some(answer) = self.partitions.get_mut(place) else { return };
                match result {
                    Ok(appended) => {
                        answer.base_offset = appended.base_offset as i64;
                        answer.log_start_offset = appended.log_start as i64;
                        answer.log_append_time_ms =
                            appended.log_append_time.map_or(-1, |time| time.0);
                        (token, None)
                    }
                    // The batch was appended before: the same answer as then.
                    Err(Refusal::DuplicateSequence { base_offset }) => {
                        answer.base_offset = base_offset as i64;
                        (token, None)
                    }
                    Err(refusal) => (token, Some(refusal)),
                }
            }
            Event::Published { token, result } => (token, result.err()),
            _ => return,
        };
        let place = Op::of(token).since(self.first_op);
        let Some(answer) = self.partitions.get_mut(place) else { return };
        self.waiting = self.waiting.saturating_sub(1);
        if let Some(refusal) = error {
            env.ctx.meter.request_errors += 1;
            if answer.error_code == ErrorCode::None.code() {
                answer.error_code = ErrorCode::from(refusal).code();
                answer.base_offset = -1;
            }
        }
    }

    /// Sends the answer. With `acks=0` there is none: an error closes the connection instead, so
    /// that the client looks at the metadata again, as Kafka does.
    pub fn answer(self, env: &mut Env<'_, '_>) {
        let failed = self.partitions.iter().any(|partition| partition.error_code != 0);
        if self.acks == 0 {
            env.ctx.out.close |= failed;
            return;
        }
        let mut partitions = self.partitions.into_iter();
        let topics = self.topics.into_iter().map(|topic| TopicResponse {
            name: topic.name,
            topic_id: topic.topic_id,
            partitions: partitions.by_ref().take(topic.partition_count).collect(),
        });
        let response = Response {
            topics: topics.collect(),
            throttle_time_ms: throttle_ms(env.ctx.alarms),
            ..Response::default()
        };
        env.send(self.reply, |w, v| response.encode(w, v));
    }
}
