//! CreateAcls (key 30). A rule that is there already is no error.

use super::acls::{Spelled, RULES_PER_COMMAND_MAX};
use crate::codec::generated::create_acls::{AclCreationResult, Request, Response};
use crate::error::ErrorCode;
use crate::operation::{Env, Op, Operation, Started};
use crate::reply::Reply;
use crate::rights::refusal_text;
use koine_broker::access::{AccessCommand, Acl, Action};
use koine_broker::metadata::Command;
use koine_broker::session::Event;

type Refused = (ErrorCode, String);

pub(crate) fn start(request: Request, reply: Reply, env: &mut Env<'_, '_>) -> Started {
    let mut acls: Vec<Acl> = Vec::new();
    let mut results = Vec::new();
    let allowed = may_change(env);
    for creation in request.creations {
        let spelled = Spelled {
            resource_type: creation.resource_type,
            resource_name: creation.resource_name,
            pattern_type: creation.pattern_type,
            principal: creation.principal,
            host: creation.host,
            operation: creation.operation,
            permission_type: creation.permission_type,
        };
        let acl = allowed
            .clone()
            .and_then(|()| spelled.to_acl().map_err(|text| (ErrorCode::InvalidRequest, text)));
        results.push(acl.map(|acl| {
            acls.push(acl);
            (acls.len() - 1) / RULES_PER_COMMAND_MAX
        }));
    }
    let op = env.new_op();
    let mut count = 0;
    for chunk in acls.chunks(RULES_PER_COMMAND_MAX) {
        let command = AccessCommand::AddAcls { acls: chunk.to_vec() };
        env.propose(op.token_at(count), Command::Access(Box::new(command)));
        count += 1;
    }
    let outcomes = vec![ErrorCode::None; count];
    let mut operation = CreateAcls { reply, results, outcomes, waiting: count };
    if count == 0 {
        operation.answer(env);
        return Started::Answered;
    }
    Started::Waiting(op, Box::new(operation))
}

/// Whether this client may change rules, and there are any to change.
pub(super) fn may_change(env: &Env<'_, '_>) -> Result<(), Refused> {
    env.may_cluster(Action::Alter).map_err(|error| (error, refusal_text(error)))?;
    if !env.ctx.metadata.access().is_secured() {
        return Err((ErrorCode::SecurityDisabled, "No Authorizer is configured.".into()));
    }
    Ok(())
}

struct CreateAcls {
    reply: Reply,
    /// Of each rule: which command carries it, or why none does.
    results: Vec<Result<usize, Refused>>,
    /// Of each command.
    outcomes: Vec<ErrorCode>,
    waiting: usize,
}

impl CreateAcls {
    fn answer(&mut self, env: &mut Env<'_, '_>) {
        let results = std::mem::take(&mut self.results).into_iter().map(|result| match result {
            Ok(command) => {
                let error = self.outcomes.get(command).copied().unwrap_or(ErrorCode::None);
                AclCreationResult { error_code: error.code(), error_message: None }
            }
            Err((error, message)) => {
                AclCreationResult { error_code: error.code(), error_message: Some(message) }
            }
        });
        let response = Response { throttle_time_ms: 0, results: results.collect() };
        env.send(self.reply, |w, v| response.encode(w, v));
    }
}

impl Operation for CreateAcls {
    fn event(&mut self, event: Event, env: &mut Env<'_, '_>) -> bool {
        let Event::Proposed { token, result } = event else { return false };
        let Some(place) = self.outcomes.get_mut(Op::index(token)) else { return false };
        *place = result.err().map_or(ErrorCode::None, ErrorCode::from);
        self.waiting = self.waiting.saturating_sub(1);
        if self.waiting == 0 {
            self.answer(env);
        }
        self.waiting == 0
    }
}
