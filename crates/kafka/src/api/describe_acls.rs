//! DescribeAcls (key 29).

use super::acls::{Filter, Spelled};
use crate::codec::generated::describe_acls::{AclDescription, Request, Resource, Response};
use crate::error::ErrorCode;
use crate::operation::{Env, Started};
use crate::reply::Reply;
use crate::rights::refusal_text;
use koine_broker::access::Action;
use std::collections::BTreeMap;

pub(crate) fn start(request: Request, reply: Reply, env: &mut Env<'_, '_>) -> Started {
    let mut response = Response::default();
    match find(request, env) {
        Ok(resources) => response.resources = resources,
        Err((error, message)) => {
            response.error_code = error.code();
            response.error_message = Some(message);
        }
    }
    env.send(reply, |w, v| response.encode(w, v));
    Started::Answered
}

fn find(request: Request, env: &Env<'_, '_>) -> Result<Vec<Resource>, (ErrorCode, String)> {
    env.may_cluster(Action::Describe).map_err(|error| (error, refusal_text(error)))?;
    let access = env.ctx.metadata.access();
    if !access.is_secured() {
        let text = "No Authorizer is configured on the broker";
        return Err((ErrorCode::SecurityDisabled, text.into()));
    }
    let filter = Filter {
        resource_type: request.resource_type,
        resource_name: request.resource_name,
        pattern_type: request.pattern_type,
        principal: request.principal,
        host: request.host,
        operation: request.operation,
        permission_type: request.permission_type,
    };
    filter.check()?;
    let mut resources: BTreeMap<(i8, String, i8), Vec<AclDescription>> = BTreeMap::new();
    let found = access.acls().filter_map(Spelled::of).filter(|rule| filter.matches(rule));
    for rule in found {
        let resource = (rule.resource_type, rule.resource_name, rule.pattern_type);
        resources.entry(resource).or_default().push(AclDescription {
            principal: rule.principal,
            host: rule.host,
            operation: rule.operation,
            permission_type: rule.permission_type,
        });
    }
    let resources = resources.into_iter().map(|(resource, acls)| {
        let (resource_type, resource_name, pattern_type) = resource;
        Resource { resource_type, resource_name, pattern_type, acls }
    });
    Ok(resources.collect())
}
