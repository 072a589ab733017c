//! ApiVersions (key 18): which requests and versions are served.

use crate::codec::generated::api_versions::{ApiVersion, Request, Response};
use crate::codec::{ApiKey, APIS};
use crate::error::ErrorCode;
use crate::operation::{Env, Started};
use crate::reply::Reply;

/// What a node without users has no use for.
const SECURITY: [ApiKey; 7] = [
    ApiKey::SaslHandshake,
    ApiKey::DescribeAcls,
    ApiKey::CreateAcls,
    ApiKey::DeleteAcls,
    ApiKey::SaslAuthenticate,
    ApiKey::DescribeUserScramCredentials,
    ApiKey::AlterUserScramCredentials,
];

pub(crate) fn start(request: Request, reply: Reply, env: &mut Env<'_, '_>) -> Started {
    let named = reply.version >= 3;
    if named
        && !(is_software_text(&request.client_software_name)
            && is_software_text(&request.client_software_version))
    {
        return answer(ErrorCode::InvalidRequest, Vec::new(), reply, env);
    }
    let served = served(env);
    answer(ErrorCode::None, served, reply, env)
}

/// A version that is not served: version 0 of the answer, which every client can read, still with
/// the list (KIP-511).
pub(crate) fn refuse(reply: Reply, env: &mut Env<'_, '_>) -> Started {
    let reply = Reply { version: 0, ..reply };
    env.ctx.meter.request_errors += 1;
    let served = served(env);
    answer(ErrorCode::UnsupportedVersion, served, reply, env)
}

fn answer(
    error: ErrorCode,
    api_keys: Vec<ApiVersion>,
    reply: Reply,
    env: &mut Env<'_, '_>,
) -> Started {
    // No features: transactions, the new consumer groups and share groups are switched on by theirs.
    let response = Response { error_code: error.code(), api_keys, ..Response::default() };
    env.send(reply, |w, v| response.encode(w, v));
    Started::Answered
}

/// Logins and rules only where there are users.
fn served(env: &Env<'_, '_>) -> Vec<ApiVersion> {
    let is_secured = env.ctx.metadata.access().is_secured();
    APIS.iter()
        .filter(|api| is_secured || !SECURITY.contains(&api.key))
        .map(|api| ApiVersion {
            api_key: api.key as i16,
            min_version: api.version_min,
            max_version: api.version_max,
        })
        .collect()
}

/// Letters, digits, dots and dashes, with a letter or digit at both ends (KIP-511).
fn is_software_text(text: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    ends(text.chars().next())
        && ends(text.chars().next_back())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-')
}

#[cfg(test)]
mod tests {
    use super::is_software_text;

    #[test]
    fn software_names() {
        for (text, accepted) in [
            ("apache-kafka-java", true),
            ("4.1.0", true),
            ("a", true),
            ("", false),
            ("-a", false),
            ("a.", false),
            ("a b", false),
            ("é", false),
        ] {
            assert_eq!(is_software_text(text), accepted, "{text}");
        }
    }
}
