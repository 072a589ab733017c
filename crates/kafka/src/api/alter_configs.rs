//! AlterConfigs (key 33): replaces all settings of a topic; what is not named goes back to its
//! default.

use super::incremental_alter_configs::{alter_all, Change, Wanted};
use crate::codec::generated::alter_configs::{Request, Resource, Response};
use crate::operation::{Env, Started};
use crate::reply::Reply;

pub(crate) fn start(request: Request, reply: Reply, env: &mut Env<'_, '_>) -> Started {
    let wanted = request.resources.into_iter().map(|resource| Wanted {
        resource_type: resource.resource_type,
        resource_name: resource.resource_name,
        keep_others: false,
        changes: resource
            .configs
            .into_iter()
            .map(|config| Change { name: config.name, operation: 0, value: config.value })
            .collect(),
    });
    alter_all(wanted.collect(), request.validate_only, env, move |answers, env| {
        let responses = answers.into_iter().map(|answer| Resource {
            error_code: answer.error.code(),
            error_message: answer.message,
            resource_type: answer.resource_type,
            resource_name: answer.resource_name,
        });
        let response = Response { throttle_time_ms: 0, responses: responses.collect() };
        env.send(reply, |w, v| response.encode(w, v));
    })
}
