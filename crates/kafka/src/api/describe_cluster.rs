//! DescribeCluster (key 60).

use crate::codec::generated::describe_cluster::{Broker, Request, Response};
use crate::error::ErrorCode;
use crate::operation::{Env, Started};
use crate::reply::Reply;

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(crate) fn start(request: Request, reply: Reply, env: &mut Env<'_, '_>) -> Started {
    let mut response = Response {
        cluster_id: env.ctx.node.cluster_id.clone(),
        endpoint_type: request.endpoint_type,
        ..Response::default()
    };
    let refused = match request.endpoint_type {
        BROKERS => None,
        CONTROLLERS => Some((ErrorCode::MismatchedEndpointType, "this is a broker's listener")),
        _ => Some((ErrorCode::UnsupportedEndpointType, "unknown endpoint type")),
    };
    if let Some((error, message)) = refused {
        response.error_code = error.code();
        response.error_message = Some(message.to_string());
    } else {
        let (host, port) = env.advertised();
        let broker_id = env.ctx.node.node_id;
        response.controller_id = broker_id;
        response.brokers.push(Broker { broker_id, host, port, rack: None, is_fenced: false });
        if request.include_cluster_authorized_operations {
            response.cluster_authorized_operations = env.cluster_operations();
        }
    }
    env.send(reply, |w, v| response.encode(w, v));
    Started::Answered
}
