//! DescribeUserScramCredentials (key 50).

use crate::codec::generated::describe_user_scram_credentials::{
    CredentialInfo, Request, Response, UserResult,
};
use crate::error::ErrorCode;
use crate::operation::{Env, Started};
use crate::reply::Reply;
use crate::rights::refusal_text;
use koine_broker::access::scram::Mechanism;
use koine_broker::access::{Action, User};
use std::collections::{HashMap, HashSet};

/// Kafka's numbers of mechanisms.
const NUMBERS: [(Mechanism, i8); 2] = [(Mechanism::Sha256, 1), (Mechanism::Sha512, 2)];

pub(super) fn mechanism_of(number: i8) -> Option<Mechanism> {
    NUMBERS.into_iter().find(|(_, known)| *known == number).map(|(mechanism, _)| mechanism)
}

pub(crate) fn start(request: Request, reply: Reply, env: &mut Env<'_, '_>) -> Started {
    let mut response = Response::default();
    if let Err(error) = env.may_cluster(Action::Describe) {
        response.error_code = error.code();
        response.error_message = Some(refusal_text(error));
        env.send(reply, |w, v| response.encode(w, v));
        return Started::Answered;
    }
    let access = env.ctx.metadata.access();
    let wanted = request.users.filter(|users| !users.is_empty());
    response.results = match &wanted {
        None => access.users().filter_map(|(name, user)| result(name, user)).collect(),
        Some(users) => {
            let mut times: HashMap<&str, usize> = HashMap::new();
            for user in users {
                *times.entry(&user.name).or_default() += 1;
            }
            let mut seen = HashSet::new();
            let names = users.iter().map(|user| user.name.as_str());
            let each = names.filter(|name| seen.insert(*name)).map(|name| {
                if times.get(name).is_some_and(|times| *times > 1) {
                    let text = format!("Cannot describe SCRAM credentials for the same user twice in a single request: {name}");
                    return refused(name, ErrorCode::DuplicateResource, text);
                }
                access.user(name).and_then(|user| result(name, user)).unwrap_or_else(|| {
                    let text =
                        format!("Attempt to describe a user credential that does not exist: {name}");
                    refused(name, ErrorCode::ResourceNotFound, text)
                })
            });
            each.collect()
        }
    };
    env.send(reply, |w, v| response.encode(w, v));
    Started::Answered
}

/// `None` for a user who cannot log in by SCRAM.
fn result(name: &str, user: &User) -> Option<UserResult> {
    let infos = NUMBERS.into_iter().filter_map(|(mechanism, number)| {
        let iterations = user.verifiers.scram(mechanism)?.iterations;
        Some(CredentialInfo { mechanism: number, iterations: iterations as i32 })
    });
    let credential_infos: Vec<CredentialInfo> = infos.collect();
    let result = UserResult { user: name.to_owned(), credential_infos, ..UserResult::default() };
    (!result.credential_infos.is_empty()).then_some(result)
}

fn refused(name: &str, error: ErrorCode, text: String) -> UserResult {
    UserResult {
        user: name.to_owned(),
        error_code: error.code(),
        error_message: Some(text),
        credential_infos: Vec::new(),
    }
}
