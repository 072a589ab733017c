//! DescribeGroups (key 15): state and members of classic groups.

use crate::codec::generated::describe_groups::{Group, Member, Request, Response};
use crate::error::ErrorCode;
use crate::operation::{Env, Gather, Operation, Started};
use crate::reply::Reply;
use koine_broker::access::Action;
use koine_broker::membership::{self, Answer, GroupDescription, GroupPhase};
use koine_broker::session::{Event, Request as Ask};

/// From this version on a group that does not exist is an error; before it is described as dead
/// (KIP-1043).
const NOT_FOUND_FROM: i16 = 6;

pub(crate) fn start(request: Request, reply: Reply, env: &mut Env<'_, '_>) -> Started {
    let op = env.new_op();
    let mut groups = Vec::new();
    let mut waiting = 0;
    for group in request.groups {
        if let Err(error) = env.may_group(Action::Describe, &group) {
            let error_code = error.code();
            groups.push(Group { group_id: group, error_code, ..Group::default() });
            continue;
        }
        waiting += 1;
        let token = op.token_at(groups.len());
        let describe = membership::Request::Describe { group: group.clone() };
        env.request(Ask::Group { token, request: describe });
        groups.push(Group { group_id: group, ..Group::default() });
    }
    let mut operation = DescribeGroups {
        reply,
        operations: request.include_authorized_operations,
        groups: Gather::new(groups, waiting),
    };
    if waiting == 0 {
        operation.answer(env);
        return Started::Answered;
    }
    Started::Waiting(op, Box::new(operation))
}

/// As Kafka spells the states.
pub(super) fn state_name(phase: GroupPhase) -> &'static str {
    match phase {
        GroupPhase::Empty => "Empty",
        GroupPhase::PreparingRebalance => "PreparingRebalance",
        GroupPhase::CompletingRebalance => "CompletingRebalance",
        GroupPhase::Stable => "Stable",
        GroupPhase::Dead => "Dead",
    }
}

struct DescribeGroups {
    reply: Reply,
    operations: bool,
    groups: Gather<Group>,
}

impl DescribeGroups {
    fn answer(&mut self, env: &mut Env<'_, '_>) {
        let groups = std::mem::take(&mut self.groups.answers);
        let response = Response { throttle_time_ms: 0, groups };
        env.send(self.reply, |w, v| response.encode(w, v));
    }
}

fn fill(group: &mut Group, description: GroupDescription, version: i16) {
    group.group_state = state_name(description.phase).to_string();
    if description.phase == GroupPhase::Dead && version >= NOT_FOUND_FROM {
        group.error_code = ErrorCode::GroupIdNotFound.code();
        group.error_message = Some(format!("Group {} not found.", group.group_id));
    }
    group.protocol_type = description.protocol_type;
    group.protocol_data = description.protocol_name;
    let members = description.members.into_iter().map(|member| Member {
        member_id: member.member_id,
        group_instance_id: member.instance_id,
        client_id: member.client_id,
        client_host: member.client_host,
        member_metadata: member.metadata,
        member_assignment: member.assignment,
    });
    group.members = members.collect();
}

impl Operation for DescribeGroups {
    fn event(&mut self, event: Event, env: &mut Env<'_, '_>) -> bool {
        let Event::Group { token, answer: Answer::Describe(result) } = event else { return false };
        let Some((place, last)) = self.groups.take(token) else { return false };
        match result {
            Ok(description) => {
                fill(place, description, self.reply.version);
                if self.operations {
                    place.authorized_operations = env.group_operations(&place.group_id);
                }
            }
            Err(error) => {
                place.error_code = ErrorCode::from(error).code();
                place.group_state = state_name(GroupPhase::Dead).to_string();
            }
        }
        if last {
            self.answer(env);
        }
        last
    }
}
