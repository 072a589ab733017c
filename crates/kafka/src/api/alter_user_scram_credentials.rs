//! AlterUserScramCredentials (key 51): sets and takes away passwords. The client has done the hashing; what
//! it sends is as good as the password, and is turned into what cannot be used to log in.

use super::create_acls::may_change;
use super::describe_user_scram_credentials::mechanism_of;
use crate::codec::generated::alter_user_scram_credentials::{
    Deletion, Request, Response, Upsertion, UserResult,
};
use crate::error::ErrorCode;
use crate::operation::{Env, Gather, Operation, Started};
use crate::reply::Reply;
use koine_broker::access::scram::{Mechanism, Verifier, ITERATIONS_MAX, ITERATIONS_MIN};
use koine_broker::access::AccessCommand;
use koine_broker::metadata::{Command, Refusal};
use koine_broker::session::Event;
use std::collections::HashMap;

/// Bytes of a salt; the broker's bound.
const SALT_BYTES_MAX: usize = 256;

type Refused = (ErrorCode, String);
type Change = (Mechanism, Option<Verifier>);

pub(crate) fn start(request: Request, reply: Reply, env: &mut Env<'_, '_>) -> Started {
    let allowed = may_change(env);
    let mut users: Vec<(String, Result<Change, Refused>)> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut add = |name: String, change: Result<Change, Refused>| {
        let place = *places.entry(name.clone()).or_insert(users.len());
        match users.get_mut(place) {
            None => users.push((name, change)),
            Some((_, before)) => {
                let text = "A user credential cannot be altered twice in the same request";
                *before = Err((ErrorCode::DuplicateResource, text.into()));
            }
        }
    };
    for deletion in request.deletions {
        let change = allowed.clone().and_then(|()| delete(&deletion, env));
        add(deletion.name, change);
    }
    for upsertion in request.upsertions {
        let change = allowed.clone().and_then(|()| upsert(&upsertion));
        add(upsertion.name, change);
    }
    let op = env.new_op();
    let mut results = Vec::new();
    let mut waiting = 0;
    for (name, change) in users {
        let mut result = UserResult { user: name.clone(), ..UserResult::default() };
        // Nobody hears of a user's other faults who may not change any.
        match allowed.clone().and(change) {
            Ok(change) => {
                let decoy_key = env.ctx.secret_rng.bytes::<32>().to_vec();
                let command = AccessCommand::AlterScram { name, changes: vec![change], decoy_key };
                env.propose(op.token_at(results.len()), Command::Access(Box::new(command)));
                waiting += 1;
            }
            Err((error, message)) => {
                result.error_code = error.code();
                result.error_message = Some(message);
            }
        }
        results.push(result);
    }
    let mut operation = AlterUserScramCredentials { reply, users: Gather::new(results, waiting) };
    if waiting == 0 {
        operation.answer(env);
        return Started::Answered;
    }
    Started::Waiting(op, Box::new(operation))
}

fn mechanism(name: &str, number: i8) -> Result<Mechanism, Refused> {
    if name.is_empty() {
        return Err(unacceptable("Username must not be empty"));
    }
    let unknown = || (ErrorCode::UnsupportedSaslMechanism, "Unknown SCRAM mechanism".to_owned());
    mechanism_of(number).ok_or_else(unknown)
}

fn unacceptable(text: &str) -> Refused {
    (ErrorCode::UnacceptableCredential, text.to_owned())
}

fn delete(deletion: &Deletion, env: &Env<'_, '_>) -> Result<Change, Refused> {
    let mechanism = mechanism(&deletion.name, deletion.mechanism)?;
    let user = env.ctx.metadata.access().user(&deletion.name);
    if user.and_then(|user| user.verifiers.scram(mechanism)).is_none() {
        return Err(not_there());
    }
    Ok((mechanism, None))
}

fn not_there() -> Refused {
    let text = "Attempt to delete a user credential that does not exist";
    (ErrorCode::ResourceNotFound, text.to_owned())
}

fn upsert(upsertion: &Upsertion) -> Result<Change, Refused> {
    let mechanism = mechanism(&upsertion.name, upsertion.mechanism)?;
    let iterations = u32::try_from(upsertion.iterations).unwrap_or(0);
    if iterations < ITERATIONS_MIN {
        return Err(unacceptable("Too few iterations"));
    }
    if iterations > ITERATIONS_MAX {
        return Err(unacceptable("Too many iterations"));
    }
    if upsertion.salt.is_empty() || upsertion.salt.len() > SALT_BYTES_MAX {
        return Err(unacceptable("The salt must have 1 to 256 bytes"));
    }
    let salted = upsertion.salted_password.expose();
    if salted.len() != mechanism.hash_bytes() {
        return Err(unacceptable("The salted password is not of the mechanism's length"));
    }
    let salt = upsertion.salt.to_vec();
    let verifier = Verifier::of_salted_password(mechanism, salted, salt, iterations);
    Ok((mechanism, Some(verifier)))
}

struct AlterUserScramCredentials {
    reply: Reply,
    users: Gather<UserResult>,
}

impl AlterUserScramCredentials {
    fn answer(&mut self, env: &mut Env<'_, '_>) {
        let results = std::mem::take(&mut self.users.answers);
        let response = Response { throttle_time_ms: 0, results };
        env.send(self.reply, |w, v| response.encode(w, v));
    }
}

impl Operation for AlterUserScramCredentials {
    fn outlives_its_user(&self) -> bool {
        true
    }

    fn event(&mut self, event: Event, env: &mut Env<'_, '_>) -> bool {
        let Event::Proposed { token, result } = event else { return false };
        let Some((place, last)) = self.users.take(token) else { return false };
        if let Err(refusal) = result {
            let (error, text) = match refusal {
                Refusal::NotFound => not_there(),
                Refusal::InvalidName => unacceptable("The name cannot be a user's"),
                Refusal::QuotaExceeded => unacceptable("There are as many users as there may be"),
                other => (other.into(), "The change was not made".to_owned()),
            };
            place.error_code = error.code();
            place.error_message = Some(text);
        }
        if last {
            self.answer(env);
        }
        last
    }
}
