//! `tail`: where the records of a stream are, waiting for the next one, and showing them.

use super::jobs::{Shape, Slot};
use super::{missing, record, AdminSession, NAMESPACE};
use crate::http::{AdminError, TailFrom, TailRequest};
use koine_base::StreamId;
use koine_broker::batch::{records, BatchLimits};
use koine_broker::metadata::Named;
use koine_broker::session::{Context, Request, StreamBounds};

/// Bytes of stored batches that one tail answer is made from.
const TAIL_BYTES_MAX: u32 = 1 << 20;

impl AdminSession {
    pub(super) fn tail(
        &mut self,
        id: u64,
        tail: TailRequest,
        ctx: &mut Context<'_>,
    ) -> Result<(), AdminError> {
        let named = ctx.metadata.named(NAMESPACE, &tail.name);
        let named = named.ok_or_else(|| missing("topic or queue", &tail.name))?;
        let stream = i32::try_from(tail.partition)
            .ok()
            .and_then(|partition| Named::stream(named, partition));
        let stream = stream.ok_or_else(|| missing("partition", &tail.partition.to_string()))?;
        self.ask(id, Slot::TailBounds { tail, stream }, ctx, |token| Request::Bounds {
            token,
            stream,
        });
        Ok(())
    }

    pub(super) fn tail_from(
        &mut self,
        id: u64,
        tail: TailRequest,
        stream: StreamId,
        bounds: StreamBounds,
        ctx: &mut Context<'_>,
    ) {
        let offset = match tail.from {
            TailFrom::Start => bounds.start,
            TailFrom::End => bounds.end,
            TailFrom::Offset(offset) => offset.max(bounds.start),
        };
        if offset > bounds.end {
            let why = format!("offset {offset} is beyond the end, {}", bounds.end);
            return self.fail(id, AdminError::Invalid(why));
        }
        self.shape(id, Shape::Tail { next_offset: offset });
        if offset < bounds.end {
            return self.tail_read(id, tail.limit, stream, offset, ctx);
        }
        if tail.wait.is_zero() {
            return;
        }
        if let Some(job) = self.jobs.get_mut(&id) {
            job.deadline = ctx.now.moment.after(tail.wait);
        }
        let slot = Slot::TailGrown { tail, stream, offset };
        self.ask(id, slot, ctx, |token| Request::Watch { token, stream, offset });
    }

    pub(super) fn tail_read(
        &mut self,
        id: u64,
        limit: usize,
        stream: StreamId,
        offset: u64,
        ctx: &mut Context<'_>,
    ) {
        self.ask(id, Slot::TailRead { limit, offset }, ctx, |token| Request::Read {
            token,
            stream,
            offset,
            bytes_max: TAIL_BYTES_MAX,
        });
    }

    pub(super) fn tail_records(
        &mut self,
        id: u64,
        limit: usize,
        offset: u64,
        batches: &[bytes::Bytes],
        ctx: &mut Context<'_>,
    ) {
        let limits = BatchLimits::default();
        let mut next_offset = offset;
        let mut rows = Vec::new();
        for batch in batches {
            let Ok(records) = records(batch, &limits) else {
                continue;
            };
            for record in records.flatten().filter(|record| record.offset() >= offset) {
                if rows.len() == limit {
                    break;
                }
                next_offset = record.offset() + 1;
                rows.push(record::to_json(&record, ctx.dialects));
            }
        }
        if let Some(job) = self.jobs.get_mut(&id) {
            job.rows = rows;
            job.shape = Shape::Tail { next_offset };
        }
    }
}
