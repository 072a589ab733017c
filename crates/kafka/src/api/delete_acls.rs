//! DeleteAcls (key 31): takes away what filters match, and says what that was.

use super::acls::{Filter, Spelled, RULES_PER_COMMAND_MAX};
use super::create_acls::may_change;
use crate::codec::generated::delete_acls::{FilterResult, MatchingAcl, Request, Response};
use crate::error::ErrorCode;
use crate::operation::{Env, Operation, Started};
use crate::reply::Reply;
use koine_broker::access::{AccessCommand, Acl};
use koine_broker::metadata::Command;
use koine_broker::session::Event;
use std::collections::BTreeSet;

pub(crate) fn start(request: Request, reply: Reply, env: &mut Env<'_, '_>) -> Started {
    let allowed = may_change(env);
    let spelled = |acl: &Acl| Spelled::of(acl).map(|spelled| (spelled, acl.clone()));
    let rules: Vec<(Spelled, Acl)> = match allowed {
        Ok(()) => env.ctx.metadata.access().acls().filter_map(spelled).collect(),
        Err(_) => Vec::new(),
    };
    let mut gone: BTreeSet<Acl> = BTreeSet::new();
    let mut results = Vec::new();
    for wanted in request.filters {
        let filter = Filter {
            resource_type: wanted.resource_type,
            resource_name: wanted.resource_name,
            pattern_type: wanted.pattern_type,
            principal: wanted.principal,
            host: wanted.host,
            operation: wanted.operation,
            permission_type: wanted.permission_type,
        };
        let mut result = FilterResult::default();
        if let Err((error, message)) = allowed.clone().and_then(|()| filter.check()) {
            result.error_code = error.code();
            result.error_message = Some(message);
        } else {
            for (rule, acl) in rules.iter().filter(|(rule, _)| filter.matches(rule)) {
                // What two filters match goes with the first.
                if gone.insert(acl.clone()) {
                    result.matching_acls.push(matching(rule));
                }
            }
        }
        results.push(result);
    }
    let op = env.new_op();
    let gone: Vec<Acl> = gone.into_iter().collect();
    let mut waiting = 0;
    for chunk in gone.chunks(RULES_PER_COMMAND_MAX) {
        let command = AccessCommand::RemoveAcls { acls: chunk.to_vec() };
        env.propose(op.token_at(waiting), Command::Access(Box::new(command)));
        waiting += 1;
    }
    let mut operation = DeleteAcls { reply, results, waiting };
    if waiting == 0 {
        operation.answer(env);
        return Started::Answered;
    }
    Started::Waiting(op, Box::new(operation))
}

fn matching(rule: &Spelled) -> MatchingAcl {
    let rule = rule.clone();
    MatchingAcl {
        error_code: 0,
        error_message: None,
        resource_type: rule.resource_type,
        resource_name: rule.resource_name,
        pattern_type: rule.pattern_type,
        principal: rule.principal,
        host: rule.host,
        operation: rule.operation,
        permission_type: rule.permission_type,
    }
}

struct DeleteAcls {
    reply: Reply,
    results: Vec<FilterResult>,
    waiting: usize,
}

impl DeleteAcls {
    fn answer(&mut self, env: &mut Env<'_, '_>) {
        let filter_results = std::mem::take(&mut self.results);
        let response = Response { throttle_time_ms: 0, filter_results };
        env.send(self.reply, |w, v| response.encode(w, v));
    }
}

impl Operation for DeleteAcls {
    fn event(&mut self, event: Event, env: &mut Env<'_, '_>) -> bool {
        let Event::Proposed { result, .. } = event else { return false };
        if let Err(refusal) = result {
            // Some may be gone; whoever asks again hears of the rest.
            let code = ErrorCode::from(refusal).code();
            for result in self.results.iter_mut().filter(|result| result.error_code == 0) {
                result.error_code = code;
                result.matching_acls.clear();
            }
        }
        self.waiting = self.waiting.saturating_sub(1);
        if self.waiting == 0 {
            self.answer(env);
        }
        self.waiting == 0
    }
}
