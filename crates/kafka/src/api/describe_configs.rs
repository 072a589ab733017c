//! DescribeConfigs (key 32): every key of a topic or of this broker, with its value and where that
//! comes from.

use crate::codec::generated::describe_configs::{
    Config, Request, Resource, ResourceWanted, Response, Synonym,
};
use crate::config::{ConfigType, Defaults, TopicKey, TOPIC_KEYS};
use crate::error::ErrorCode;
use crate::operation::{Env, Started};
use crate::reply::Reply;
use crate::rights::refusal_text;
use koine_broker::access::Action;
use koine_broker::metadata::{Named, TopicSettings};

pub(crate) const TOPIC: i8 = 2;
pub(crate) const BROKER: i8 = 4;

/// Where a value comes from.
pub(crate) const DYNAMIC_TOPIC_CONFIG: i8 = 1;
const STATIC_BROKER_CONFIG: i8 = 4;
pub(crate) const DEFAULT_CONFIG: i8 = 5;

type Refused = (ErrorCode, String);

pub(crate) fn start(request: Request, reply: Reply, env: &mut Env<'_, '_>) -> Started {
    let results = request.resources.iter().map(|wanted| describe(&request, wanted, env)).collect();
    let response = Response { throttle_time_ms: 0, results };
    env.send(reply, |w, v| response.encode(w, v));
    Started::Answered
}

fn describe(request: &Request, wanted: &ResourceWanted, env: &Env<'_, '_>) -> Resource {
    let mut resource = Resource {
        resource_type: wanted.resource_type,
        resource_name: wanted.resource_name.clone(),
        ..Resource::default()
    };
    let configs = match wanted.resource_type {
        _ if allowed(wanted, env).is_err() => allowed(wanted, env).map(|()| Vec::new()),
        TOPIC => topic(wanted, env),
        BROKER => broker(wanted, env),
        other => Err((
            ErrorCode::InvalidRequest,
            format!("resource type {other} has no configuration here"),
        )),
    };
    match configs {
        Ok(configs) => resource.configs = configs,
        Err((error, message)) => {
            resource.error_code = error.code();
            resource.error_message = Some(message);
        }
    }
    if let Some(keys) = &wanted.configuration_keys {
        resource.configs.retain(|config| keys.contains(&config.name));
    }
    for config in &mut resource.configs {
        if !request.include_synonyms {
            config.synonyms.clear();
        }
        if !request.include_documentation {
            config.documentation = None;
        }
    }
    resource
}

fn allowed(wanted: &ResourceWanted, env: &Env<'_, '_>) -> Result<(), Refused> {
    let allowed = match wanted.resource_type {
        TOPIC => env.may_topic(Action::DescribeConfigs, &wanted.resource_name),
        BROKER => env.may_cluster(Action::DescribeConfigs),
        _ => Ok(()),
    };
    allowed.map_err(|error| (error, refusal_text(error)))
}

fn topic(wanted: &ResourceWanted, env: &Env<'_, '_>) -> Result<Vec<Config>, Refused> {
    let name = &wanted.resource_name;
    let settings = match env.catalog().find(name) {
        Ok(Named::Topic(topic)) => topic.settings.clone(),
        // A queue has no settings of this kind: all are the defaults.
        Ok(Named::Queue(_)) => TopicSettings::default(),
        Err(error) => return Err((error, format!("The topic '{name}' does not exist"))),
    };
    let defaults = Defaults { node: env.ctx.node, limits: env.ctx.limits };
    Ok(TOPIC_KEYS.iter().map(|key| topic_config(key, &settings, defaults)).collect())
}

fn topic_config(key: &TopicKey, settings: &TopicSettings, defaults: Defaults<'_>) -> Config {
    let default = key.default_on(defaults);
    let given = key.value_in(settings);
    let mut synonyms = Vec::new();
    if let Some(value) = &given {
        let (name, value) = (key.name.to_string(), Some(value.clone()));
        synonyms.push(Synonym { name, value, source: DYNAMIC_TOPIC_CONFIG });
    }
    if let Some(name) = key.broker_synonym {
        let (name, value) = (name.to_string(), Some(default.clone()));
        synonyms.push(Synonym { name, value, source: DEFAULT_CONFIG });
    }
    Config {
        name: key.name.to_string(),
        config_source: if given.is_some() { DYNAMIC_TOPIC_CONFIG } else { DEFAULT_CONFIG },
        is_default: given.is_none(),
        value: Some(given.unwrap_or(default)),
        read_only: false,
        is_sensitive: false,
        synonyms,
        config_type: key.kind as i8,
        documentation: Some(key.documentation.to_string()),
    }
}

/// The broker keys that tools read. All are read only: `koine.toml` sets them.
fn broker(wanted: &ResourceWanted, env: &Env<'_, '_>) -> Result<Vec<Config>, Refused> {
    let node = env.ctx.node;
    // The empty name stands for the defaults of all brokers that were set at run time: there are none.
    if wanted.resource_name.is_empty() {
        return Ok(Vec::new());
    }
    if wanted.resource_name != node.node_id.to_string() {
        let message = format!("Unexpected broker id, expected {}", node.node_id);
        return Err((ErrorCode::InvalidRequest, message));
    }
    let (host, port) = env.advertised();
    let text = |name, value: String| read_only(name, value, ConfigType::String);
    let int = |name, value: String| read_only(name, value, ConfigType::Int);
    let mut configs = vec![
        text("advertised.listeners", format!("PLAINTEXT://{host}:{port}")),
        read_only(
            "auto.create.topics.enable",
            node.auto_create_topics.to_string(),
            ConfigType::Boolean,
        ),
        int("broker.id", node.node_id.to_string()),
        int("default.replication.factor", "1".into()),
        read_only("delete.topic.enable", "true".into(), ConfigType::Boolean),
        text("koine.version", node.version.to_string()),
        int("node.id", node.node_id.to_string()),
        int("num.partitions", node.default_partitions.to_string()),
        int("socket.request.max.bytes", env.ctx.limits.request_bytes_max.to_string()),
    ];
    let defaults = Defaults { node, limits: env.ctx.limits };
    for key in TOPIC_KEYS {
        if let Some(name) = key.broker_synonym {
            configs.push(read_only(name, key.default_on(defaults), key.kind));
        }
    }
    configs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(configs)
}

fn read_only(name: &str, value: String, kind: ConfigType) -> Config {
    Config {
        name: name.to_string(),
        value: Some(value),
        read_only: true,
        config_source: STATIC_BROKER_CONFIG,
        is_default: false,
        is_sensitive: false,
        synonyms: Vec::new(),
        config_type: kind as i8,
        documentation: None,
    }
}
