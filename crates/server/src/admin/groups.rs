//! Consumer groups: members, committed offsets, lag.

use super::jobs::{Shape, Slot, QUESTIONS_MAX};
use super::{missing, AdminSession, NAMESPACE};
use crate::http::AdminError;
use koine_broker::membership::{self, Answer, GroupError, GroupListing, GroupPhase};
use koine_broker::offsets::CommittedOffset;
use koine_broker::session::{Context, Request, StreamBounds};
use serde_json::{json, Value};

impl AdminSession {
    pub(super) fn group_row(&mut self, id: u64, group: String, ctx: &mut Context<'_>) {
        let row = self.push_row(id, json!({"name": group, "lag": 0, "offsets": []}));
        let request = membership::Request::Describe { group: group.clone() };
        self.ask(id, Slot::GroupMembers { row }, ctx, |token| Request::Group { token, request });
        self.ask(id, Slot::GroupOffsets { row }, ctx, |token| Request::FetchOffsets {
            token,
            group,
            partitions: None,
        });
    }

    pub(super) fn group_list(
        &mut self,
        id: u64,
        after: Option<&str>,
        limit: usize,
        mut groups: Vec<GroupListing>,
        ctx: &mut Context<'_>,
    ) {
        groups.retain(|listing| after.is_none_or(|after| listing.group.as_str() > after));
        groups.sort_by(|a, b| a.group.cmp(&b.group));
        if groups.len() > limit && limit > 0 {
            groups.truncate(limit);
            self.cut_page(id, &groups[limit - 1].group);
        }
        for listing in groups {
            self.group_row(id, listing.group, ctx);
        }
    }

    pub(super) fn group_members(&mut self, id: u64, row: usize, answer: Answer) {
        let description = match answer {
            Answer::Describe(Ok(description)) => description,
            Answer::Describe(Err(error)) => return self.fail(id, group_refused(error)),
            _ => {
                return self.fail(
                    id,
                    AdminError::Unavailable("the engine answered something else".to_owned()),
                )
            }
        };
        let is_list = self.jobs.get(&id).is_some_and(|job| matches!(job.shape, Shape::Page { .. }));
        if description.phase == GroupPhase::Dead && !is_list {
            return self.fail(id, missing("group", &description.group));
        }
        self.set(id, row, "state", phase_name(description.phase).into());
        self.set(id, row, "protocol", description.protocol_name.into());
        let members: Vec<Value> = description
            .members
            .iter()
            .map(|member| {
                json!({
                    "member": member.member_id, "client": member.client_id, "host": member.client_host,
                    "instance": member.instance_id,
                })
            })
            .collect();
        self.set(id, row, "members", members.into());
    }

    pub(super) fn group_offsets(
        &mut self,
        id: u64,
        row: usize,
        offsets: Vec<(String, i32, Option<CommittedOffset>)>,
        ctx: &mut Context<'_>,
    ) {
        let metadata = ctx.metadata;
        for (topic, partition, committed) in offsets.into_iter().take(QUESTIONS_MAX) {
            let Some(committed) = committed else { continue };
            let named = metadata.named(NAMESPACE, &topic);
            let Some(stream) = named.and_then(|named| named.stream(partition)) else {
                continue;
            };
            let slot = Slot::Lag { row, topic, partition, committed: committed.offset };
            self.ask(id, slot, ctx, |token| Request::Bounds { token, stream });
        }
    }

    pub(super) fn group_lag(
        &mut self,
        id: u64,
        row: usize,
        topic: &str,
        partition: i32,
        committed: i64,
        bounds: StreamBounds,
    ) {
        let position = u64::try_from(committed).unwrap_or(0).max(bounds.start);
        let lag = bounds.end.saturating_sub(position);
        self.add(id, row, "lag", lag);
        let shown = json!({"topic": topic, "partition": partition, "committed": committed, "end": bounds.end, "lag": lag});
        if let Some(Value::Array(offsets)) =
            self.row(id, row).and_then(|row| row.get_mut("offsets"))
        {
            offsets.push(shown);
        }
    }
}

fn phase_name(phase: GroupPhase) -> &'static str {
    match phase {
        GroupPhase::Empty => "empty",
        GroupPhase::PreparingRebalance => "preparing-rebalance",
        GroupPhase::CompletingRebalance => "completing-rebalance",
        GroupPhase::Stable => "stable",
        GroupPhase::Dead => "dead",
    }
}

pub(super) fn group_refused(error: GroupError) -> AdminError {
    match error {
        GroupError::GroupIdNotFound => AdminError::NotFound("no such group".to_owned()),
        GroupError::NonEmptyGroup => {
            AdminError::Invalid("the group has members; stop them first".to_owned())
        }
        GroupError::CoordinatorNotAvailable | GroupError::NotCoordinator => {
            AdminError::Unavailable(
                "the group's coordinator is not available; try again".to_owned(),
            )
        }
        other => AdminError::Invalid(format!("refused: {other:?}")),
    }
}
