//! InitProducerId (key 22): a new identity for an idempotent producer. Transactions are not served.

use crate::codec::generated::init_producer_id::{Request, Response};
use crate::error::ErrorCode;
use crate::operation::{Env, Operation, Started};
use crate::reply::Reply;
use koine_broker::access::Action;
use koine_broker::metadata::{Command, Outcome};
use koine_broker::session::Event;

pub(crate) fn start(request: Request, reply: Reply, env: &mut Env<'_, '_>) -> Started {
    if request.transactional_id.is_some() {
        // As FindCoordinator answers for transactional ids.
        return answer(Err(ErrorCode::TransactionalIdAuthorizationFailed), reply, env);
    }
    if let Err(error) = env.may_cluster(Action::IdempotentWrite) {
        return answer(Err(error), reply, env);
    }
    let op = env.new_op();
    env.propose(op.token(0), Command::AllocateProducerId);
    Started::Waiting(op, Box::new(InitProducerId { reply }))
}

fn answer(result: Result<i64, ErrorCode>, reply: Reply, env: &mut Env<'_, '_>) -> Started {
    let mut response = Response::default();
    match result {
        // Every identity is new, so its first epoch is 0: an old one is never raised.
        Ok(producer_id) => response.producer_id = producer_id,
        Err(error) => {
            response.error_code = error.code();
            response.producer_epoch = -1;
        }
    }
    env.send(reply, |w, v| response.encode(w, v));
    Started::Answered
}

struct InitProducerId {
    reply: Reply,
}

impl Operation for InitProducerId {
    fn event(&mut self, event: Event, env: &mut Env<'_, '_>) -> bool {
        let Event::Proposed { result, .. } = event else { return false };
        let result = match result {
            Ok(Outcome::ProducerId(id)) => Ok(id),
            // Both are retried by clients.
            Ok(_) | Err(_) => Err(ErrorCode::CoordinatorNotAvailable),
        };
        answer(result, self.reply, env);
        true
    }
}
