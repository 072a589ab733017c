//! What each kind of call asks the engine, and where the answers go.

use super::groups::group_refused;
use super::{missing, refused, AdminSession, NAMESPACE};
use crate::http::{AdminAnswer, AdminCall, AdminError, Kind, TailRequest};
use koine_base::{Moment, StreamId};
use koine_broker::membership::Answer;
use koine_broker::metadata::{Command, Durability, Queue, QueueSpec, TopicSettings};
use koine_broker::session::{Context, Event, Request, StreamBounds, Token};
use serde_json::{json, Map, Value};
use tokio::sync::oneshot;

/// Questions of one call; a page of a list ends early at it.
pub(super) const QUESTIONS_MAX: usize = 10_000;

/// One call that is being answered.
pub struct Job {
    pub answer: oneshot::Sender<Result<AdminAnswer, AdminError>>,
    pub rows: Vec<Value>,
    pub shape: Shape,
    /// Requests without an answer yet.
    pub open: usize,
    pub failed: Option<AdminError>,
    /// Answered with what is there at this moment.
    pub deadline: Moment,
}

impl Job {
    pub fn new(answer: oneshot::Sender<Result<AdminAnswer, AdminError>>) -> Self {
        Job {
            answer,
            rows: Vec::new(),
            shape: Shape::Item,
            open: 0,
            failed: None,
            deadline: Moment::NEVER,
        }
    }
}

/// How the rows become the answer.
pub enum Shape {
    /// The one row.
    Item,
    /// `{"items": rows, "next": name to go on after, or null}`.
    Page { next: Option<String> },
    /// `{"records": rows, "next_offset"}`.
    Tail { next_offset: u64 },
}

impl Shape {
    pub fn render(self, mut rows: Vec<Value>) -> Value {
        match self {
            Shape::Item => rows.pop().unwrap_or(Value::Null),
            Shape::Page { next } => json!({"items": rows, "next": next}),
            Shape::Tail { next_offset } => json!({"records": rows, "next_offset": next_offset}),
        }
    }
}

/// What the answer to one question fills.
pub enum Slot {
    /// Success is all that matters.
    Done,
    /// Whether the call may go on.
    Login(Box<AdminCall>),
    /// Adds up the records of all partitions.
    TopicRecords {
        row: usize,
    },
    PartitionBounds {
        row: usize,
        partition: usize,
    },
    QueueStatus {
        row: usize,
    },
    SessionBacklog {
        row: usize,
    },
    GroupList {
        after: Option<String>,
        limit: usize,
    },
    GroupMembers {
        row: usize,
    },
    GroupOffsets {
        row: usize,
    },
    Lag {
        row: usize,
        topic: String,
        partition: i32,
        committed: i64,
    },
    TailBounds {
        tail: TailRequest,
        stream: StreamId,
    },
    TailGrown {
        tail: TailRequest,
        stream: StreamId,
        offset: u64,
    },
    TailRead {
        limit: usize,
        offset: u64,
    },
}

/// The request that an event answers.
pub fn token_of(event: &Event) -> Option<Token> {
    match event {
        Event::Proposed { token, .. }
        | Event::QueueDeleted { token, .. }
        | Event::Bounds { token, .. }
        | Event::Status { token, .. }
        | Event::Group { token, .. }
        | Event::Groups { token, .. }
        | Event::Offsets { token, .. }
        | Event::Grown { token }
        | Event::Authenticated { token, .. }
        | Event::Read { token, .. } => Some(*token),
        _ => None,
    }
}

impl AdminSession {
    pub(super) fn row(&mut self, id: u64, row: usize) -> Option<&mut Value> {
        self.jobs.get_mut(&id)?.rows.get_mut(row)
    }

    pub(super) fn set(&mut self, id: u64, row: usize, key: &str, value: Value) {
        if let Some(row) = self.row(id, row) {
            row[key] = value;
        }
    }

    pub(super) fn add(&mut self, id: u64, row: usize, key: &str, count: u64) {
        if let Some(row) = self.row(id, row) {
            row[key] = (row[key].as_u64().unwrap_or(0) + count).into();
        }
    }

    /// The page ends with `name`; the list goes on.
    pub(super) fn cut_page(&mut self, id: u64, name: &str) {
        self.shape(id, Shape::Page { next: Some(name.to_owned()) });
    }

    pub(super) fn list_topics(
        &mut self,
        id: u64,
        after: Option<&str>,
        limit: usize,
        ctx: &mut Context<'_>,
    ) {
        let metadata = ctx.metadata;
        let mut questions = 0;
        let mut last = None;
        for (name, topic) in metadata
            .topics(NAMESPACE)
            .skip_while(|(name, _)| after.is_some_and(|after| *name <= after))
        {
            if let (Some(last), true) =
                (last, self.page_is_full(id, limit) || questions >= QUESTIONS_MAX)
            {
                return self.cut_page(id, last);
            }
            let settings = &topic.settings;
            let row = self.push_row(
                id,
                json!({
                    "name": name, "partitions": topic.partition_count(), "records": 0,
                    "durability": durability_name(settings.durability.unwrap_or(ctx.node.default_durability)),
                    "retention_ms": settings.retention_ms.unwrap_or(ctx.node.default_retention_ms),
                    "retention_bytes": settings.retention_bytes.unwrap_or(ctx.node.default_retention_bytes),
                }),
            );
            for stream in topic.streams() {
                questions += 1;
                self.ask(id, Slot::TopicRecords { row }, ctx, |token| Request::Bounds {
                    token,
                    stream,
                });
            }
            last = Some(name);
        }
    }

    fn page_is_full(&self, id: u64, limit: usize) -> bool {
        self.jobs.get(&id).is_some_and(|job| job.rows.len() >= limit)
    }

    pub(super) fn describe_topic(
        &mut self,
        id: u64,
        name: &str,
        ctx: &mut Context<'_>,
    ) -> Result<(), AdminError> {
        let topic = ctx.metadata.topic(NAMESPACE, name).ok_or_else(|| missing("topic", name))?;
        let settings = &topic.settings;
        let partitions: Vec<Value> = topic
            .streams()
            .enumerate()
            .map(
                |(partition, stream)| json!({"partition": partition, "stream": stream.to_string()}),
            )
            .collect();
        let row = self.push_row(
            id,
            json!({
                "name": name, "durability": durability_name(settings.durability.unwrap_or(ctx.node.default_durability)),
                "retention_ms": settings.retention_ms.unwrap_or(ctx.node.default_retention_ms),
                    "retention_bytes": settings.retention_bytes.unwrap_or(ctx.node.default_retention_bytes),
                "message_bytes_max": settings.message_bytes_max, "log_append_time": settings.log_append_time,
                "records": 0, "partitions": partitions,
            }),
        );
        for (partition, stream) in topic.streams().enumerate() {
            self.ask(id, Slot::PartitionBounds { row, partition }, ctx, |token| Request::Bounds {
                token,
                stream,
            });
        }
        Ok(())
    }

    pub(super) fn list_queues(
        &mut self,
        id: u64,
        after: Option<&str>,
        limit: usize,
        ctx: &mut Context<'_>,
    ) {
        let metadata = ctx.metadata;
        let mut last = None;
        for (name, queue) in metadata
            .queues(NAMESPACE)
            .skip_while(|(name, _)| after.is_some_and(|after| *name <= after))
        {
            if let (Some(last), true) = (last, self.page_is_full(id, limit)) {
                return self.cut_page(id, last);
            }
            self.queue_row(id, name, queue, ctx);
            last = Some(name);
        }
    }

    pub(super) fn queue_row(&mut self, id: u64, name: &str, queue: &Queue, ctx: &mut Context<'_>) {
        let stream = queue.stream();
        let row = self.push_row(
            id,
            json!({
                "name": name, "durable": queue.spec.durable, "exclusive": queue.spec.exclusive.is_some(),
                "auto_delete": queue.spec.auto_delete, "stream": stream.to_string(),
            }),
        );
        self.ask(id, Slot::QueueStatus { row }, ctx, |token| Request::Status { token, stream });
    }

    /// Sessions are few and kept by id: sorted here by name.
    pub(super) fn list_sessions(
        &mut self,
        id: u64,
        after: Option<&str>,
        limit: usize,
        ctx: &mut Context<'_>,
    ) {
        let metadata = ctx.metadata;
        let mut names: Vec<&str> = metadata
            .sessions()
            .filter(|(_, session)| session.namespace == NAMESPACE)
            .map(|(_, session)| session.client_id.as_str())
            .filter(|name| after.is_none_or(|after| *name > after))
            .collect();
        names.sort_unstable();
        if names.len() > limit && limit > 0 {
            names.truncate(limit);
            self.cut_page(id, names[limit - 1]);
        }
        for name in names {
            // It was listed from the same metadata a moment ago.
            let _ = self.session_row(id, name, false, ctx);
        }
    }

    pub(super) fn describe_session(
        &mut self,
        id: u64,
        name: &str,
        ctx: &mut Context<'_>,
    ) -> Result<(), AdminError> {
        self.session_row(id, name, true, ctx)
    }

    fn session_row(
        &mut self,
        id: u64,
        name: &str,
        detailed: bool,
        ctx: &mut Context<'_>,
    ) -> Result<(), AdminError> {
        let metadata = ctx.metadata;
        let found = metadata.session_of_client(NAMESPACE, name).and_then(|id| metadata.session(id));
        let session = found.ok_or_else(|| missing("session", name))?;
        let subscriptions = match detailed {
            true => session
                .subscriptions
                .iter()
                .map(|(filter, options)| json!({"filter": filter, "qos": options.qos_max}))
                .collect(),
            false => json!(session.subscriptions.len()),
        };
        let row = self.push_row(
            id,
            json!({
                "name": name, "connected": session.connection.is_some(), "expires_at_ms": session.expires_at,
                "queued": 0, "unacked": 0, "subscriptions": subscriptions,
            }),
        );
        if let Some(stream) = session.backlog() {
            self.ask(id, Slot::SessionBacklog { row }, ctx, |token| Request::Status {
                token,
                stream,
            });
        }
        Ok(())
    }

    pub(super) fn create(
        &mut self,
        id: u64,
        kind: Kind,
        name: String,
        options: &Map<String, Value>,
        ctx: &mut Context<'_>,
    ) -> Result<(), AdminError> {
        let mut random = [0; 16];
        random[..8].copy_from_slice(&(ctx.rng.next_u64() | 1).to_be_bytes());
        random[8..].copy_from_slice(&ctx.rng.next_u64().to_be_bytes());
        if ctx.metadata.named(NAMESPACE, &name).is_some() {
            return Err(AdminError::AlreadyExists(format!("{name:?} exists already")));
        }
        self.shape(id, Shape::Item);
        self.push_row(id, json!({"name": name}));
        let command = match kind {
            Kind::Queues => {
                read_options(options, &[])?;
                let spec = QueueSpec { durable: true, ..QueueSpec::default() };
                Command::DeclareQueue { namespace: NAMESPACE, name, spec, id: random }
            }
            Kind::Topics => {
                let (partitions, settings) = topic_options(options, ctx.node.default_partitions)?;
                Command::CreateTopic {
                    namespace: NAMESPACE,
                    name,
                    partitions,
                    settings,
                    id: random,
                }
            }
            _ => {
                return Err(AdminError::Invalid(format!("{} are not created", kind.name())));
            }
        };
        self.ask(id, Slot::Done, ctx, |token| Request::Propose { token, command });
        Ok(())
    }

    /// Puts an answer where it belongs, asking on where it leads to more.
    pub(super) fn fill(&mut self, id: u64, slot: Slot, event: Event, ctx: &mut Context<'_>) {
        match (slot, event) {
            (Slot::TopicRecords { row }, Event::Bounds { result: Ok(bounds), .. }) => {
                self.add(id, row, "records", bounds.end - bounds.start);
            }
            (
                Slot::PartitionBounds { row, partition },
                Event::Bounds { result: Ok(bounds), .. },
            ) => {
                self.partition_bounds(id, row, partition, bounds);
            }
            (
                Slot::Lag { row, topic, partition, committed },
                Event::Bounds { result: Ok(bounds), .. },
            ) => {
                self.group_lag(id, row, &topic, partition, committed, bounds);
            }
            (Slot::Login(call), Event::Authenticated { result, .. }) => {
                self.logged_in(id, *call, result, ctx);
            }
            (Slot::QueueStatus { row }, Event::Status { result: Ok(status), .. }) => {
                self.set(id, row, "ready", status.ready.into());
                self.set(id, row, "unacked", status.unacked.into());
                self.set(id, row, "consumers", status.consumers.into());
                self.set(id, row, "bytes", status.bytes.into());
            }
            (Slot::SessionBacklog { row }, Event::Status { result: Ok(status), .. }) => {
                self.set(id, row, "queued", status.ready.into());
                self.set(id, row, "unacked", status.unacked.into());
            }
            (Slot::GroupList { after, limit }, Event::Groups { groups, .. }) => {
                self.group_list(id, after.as_deref(), limit, groups, ctx);
            }
            (Slot::GroupMembers { row }, Event::Group { answer, .. }) => {
                self.group_members(id, row, answer)
            }
            (Slot::GroupOffsets { row }, Event::Offsets { result, .. }) => {
                self.group_offsets(id, row, result.unwrap_or_default(), ctx);
            }
            (Slot::TailBounds { tail, stream }, Event::Bounds { result: Ok(bounds), .. }) => {
                self.tail_from(id, tail, stream, bounds, ctx);
            }
            (Slot::TailGrown { tail, stream, offset }, Event::Grown { .. }) => {
                if let Some(job) = self.jobs.get_mut(&id) {
                    job.deadline = Moment::NEVER;
                }
                self.tail_read(id, tail.limit, stream, offset, ctx);
            }
            (Slot::TailRead { limit, offset }, Event::Read { result: Ok(read), .. }) => {
                self.tail_records(id, limit, offset, &read.batches, ctx);
            }
            (
                Slot::Done,
                Event::Proposed { result: Ok(_), .. }
                | Event::QueueDeleted { result: Ok(_), .. }
                | Event::Group { answer: Answer::Delete(Ok(())), .. },
            ) => {}
            (_, event) => self.fill_failure(id, event),
        }
    }

    fn fill_failure(&mut self, id: u64, event: Event) {
        let refusal = match event {
            Event::Bounds { result: Err(refusal), .. }
            | Event::Status { result: Err(refusal), .. }
            | Event::Read { result: Err(refusal), .. }
            | Event::QueueDeleted { result: Err(refusal), .. }
            | Event::Proposed { result: Err(refusal), .. } => refusal,
            Event::Group { answer: Answer::Delete(Err(error)), .. } => {
                return self.fail(id, group_refused(error));
            }
            _ => {
                return self.fail(
                    id,
                    AdminError::Unavailable("the engine answered something else".to_owned()),
                )
            }
        };
        // One row of a list may have vanished since it was listed; it just stays incomplete.
        let is_list = self.jobs.get(&id).is_some_and(|job| matches!(job.shape, Shape::Page { .. }));
        if !is_list {
            self.fail(id, refused(refusal));
        }
    }

    fn partition_bounds(&mut self, id: u64, row: usize, partition: usize, bounds: StreamBounds) {
        self.add(id, row, "records", bounds.end - bounds.start);
        let Some(row) = self.row(id, row) else { return };
        let shown = &mut row["partitions"][partition];
        shown["start"] = bounds.start.into();
        shown["end"] = bounds.end.into();
        shown["epoch"] = bounds.epoch.into();
    }
}

fn durability_name(durability: Durability) -> &'static str {
    match durability {
        Durability::Fsync => "fsync",
        Durability::Replicated => "replicated",
        Durability::Memory => "memory",
    }
}

/// Refuses what is not `known`.
pub(super) fn read_options(options: &Map<String, Value>, known: &[&str]) -> Result<(), AdminError> {
    match options.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => {
            Err(AdminError::Invalid(format!("unknown option {key:?}; known: {}", known.join(", "))))
        }
        None => Ok(()),
    }
}

fn topic_options(
    options: &Map<String, Value>,
    partitions: u32,
) -> Result<(u32, TopicSettings), AdminError> {
    read_options(options, &["partitions", "durability", "retention_ms", "retention_bytes"])?;
    let wrong = |key: &str, must: &str| AdminError::Invalid(format!("{key:?} must be {must}"));
    let number = |key: &str| match options.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_i64().map(Some).ok_or_else(|| wrong(key, "a whole number")),
    };
    let partitions = match number("partitions")? {
        None => partitions,
        Some(count) => {
            u32::try_from(count).map_err(|_| wrong("partitions", "a whole number from 1"))?
        }
    };
    let durability = match options.get("durability") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) if text == "fsync" => Some(Durability::Fsync),
        Some(Value::String(text)) if text == "replicated" => Some(Durability::Replicated),
        Some(Value::String(text)) if text == "memory" => Some(Durability::Memory),
        Some(_) => return Err(wrong("durability", "fsync, replicated or memory")),
    };
    let settings = TopicSettings {
        retention_ms: number("retention_ms")?,
        retention_bytes: number("retention_bytes")?,
        durability,
        ..TopicSettings::default()
    };
    Ok((partitions, settings))
}
