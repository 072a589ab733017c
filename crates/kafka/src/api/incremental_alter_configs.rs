//! IncrementalAlterConfigs (key 44), and the work behind both ways of changing settings. Only topics
//! have settings that can be changed at run time.

use super::describe_configs::{BROKER, TOPIC};
use crate::codec::generated::incremental_alter_configs::{Request, Resource, Response};
use crate::config::{self, ConfigType, Defaults, TopicKey};
use crate::error::ErrorCode;
use crate::operation::{Env, Gather, Operation, Started};
use crate::reply::Reply;
use crate::rights::refusal_text;
use crate::topic::NAMESPACE;
use koine_broker::access::Action;
use koine_broker::metadata::{Command, Named, TopicSettings};
use koine_broker::session::Event;
use std::collections::HashSet;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

pub(crate) fn start(request: Request, reply: Reply, env: &mut Env<'_, '_>) -> Started {
    let wanted = request.resources.into_iter().map(|resource| Wanted {
        resource_type: resource.resource_type,
        resource_name: resource.resource_name,
        keep_others: true,
        changes: resource
            .configs
            .into_iter()
            .map(|config| Change {
                name: config.name,
                operation: config.config_operation,
                value: config.value,
            })
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

pub(super) struct Wanted {
    pub resource_type: i8,
    pub resource_name: String,
    /// Settings that are not named stay as they are.
    pub keep_others: bool,
    pub changes: Vec<Change>,
}

pub(super) struct Change {
    pub name: String,
    pub operation: i8,
    pub value: Option<String>,
}

pub(super) struct Answer {
    pub resource_type: i8,
    pub resource_name: String,
    pub error: ErrorCode,
    pub message: Option<String>,
}

/// Changes what can be changed and hands the answers, in the order of `wanted`, to `answer`.
pub(super) fn alter_all<F>(
    wanted: Vec<Wanted>,
    validate_only: bool,
    env: &mut Env<'_, '_>,
    answer: F,
) -> Started
where
    F: FnOnce(Vec<Answer>, &mut Env<'_, '_>) + Send + 'static,
{
    let op = env.new_op();
    let mut answers = Vec::new();
    let mut waiting = 0;
    let mut seen = HashSet::new();
    for resource in wanted {
        let repeated = !seen.insert((resource.resource_type, resource.resource_name.clone()));
        let settings = if repeated {
            Err((ErrorCode::InvalidRequest, "Each resource must appear at most once".to_string()))
        } else {
            new_settings(&resource, env)
        };
        let (error, message) = match settings {
            Ok(settings) => {
                if !validate_only {
                    let command = Command::AlterTopic {
                        namespace: NAMESPACE,
                        name: resource.resource_name.clone(),
                        settings,
                    };
                    env.propose(op.token_at(answers.len()), command);
                    waiting += 1;
                }
                (ErrorCode::None, None)
            }
            Err((error, message)) => (error, Some(message)),
        };
        let Wanted { resource_type, resource_name, .. } = resource;
        answers.push(Answer { resource_type, resource_name, error, message });
    }
    if waiting == 0 {
        answer(answers, env);
        return Started::Answered;
    }
    let answers = Gather::new(answers, waiting);
    Started::Waiting(op, Box::new(Alter { answers, answer: Some(answer) }))
}

fn new_settings(wanted: &Wanted, env: &Env<'_, '_>) -> Result<TopicSettings, (ErrorCode, String)> {
    let name = &wanted.resource_name;
    let allowed = match wanted.resource_type {
        TOPIC => env.may_topic(Action::AlterConfigs, name),
        BROKER => env.may_cluster(Action::AlterConfigs),
        _ => Ok(()),
    };
    allowed.map_err(|error| (error, refusal_text(error)))?;
    if wanted.resource_type != TOPIC {
        let text = "only topics have settings that can be changed at run time";
        return Err((ErrorCode::InvalidRequest, text.into()));
    }
    let topic = match env.catalog().find(name) {
        Ok(Named::Topic(topic)) => topic,
        Ok(Named::Queue(_)) => {
            return Err((
                ErrorCode::InvalidConfig,
                format!("'{name}' is a queue: it has no topic settings"),
            ));
        }
        Err(error) => return Err((error, format!("The topic '{name}' does not exist"))),
    };
    let defaults = Defaults { node: env.ctx.node, limits: env.ctx.limits };
    let mut settings = topic.settings.clone();
    if !wanted.keep_others {
        // The promise of a topic is fixed: leaving it out does not change it.
        settings = TopicSettings { durability: settings.durability, ..TopicSettings::default() };
    }
    let invalid = |text| (ErrorCode::InvalidConfig, text);
    for change in &wanted.changes {
        apply(change, &mut settings, defaults).map_err(invalid)?;
    }
    if settings.durability != topic.settings.durability {
        let promised = |durability: &TopicSettings| {
            TopicKey::find("koine.durability")
                .and_then(|key| key.value_in(durability).or_else(|| Some(key.default_on(defaults))))
        };
        if promised(&settings) != promised(&topic.settings) {
            return Err(invalid("koine.durability is fixed when the topic is created".into()));
        }
        settings.durability = topic.settings.durability;
    }
    Ok(settings)
}

fn apply(
    change: &Change,
    settings: &mut TopicSettings,
    defaults: Defaults<'_>,
) -> Result<(), String> {
    let name = &change.name;
    let key = TopicKey::find(name).ok_or_else(|| format!("Unknown topic config name: {name}"))?;
    let value = change.value.as_deref();
    match change.operation {
        DELETE => key.set(None, settings, defaults),
        SET => match value {
            Some(value) => config::set(name, Some(value), settings, defaults),
            None => Err(format!("Null value not supported for {name}")),
        },
        APPEND | SUBTRACT if key.kind == ConfigType::List => {
            let current = key.value_in(settings).unwrap_or_else(|| key.default_on(defaults));
            let listed =
                value.unwrap_or_default().split(',').map(str::trim).filter(|v| !v.is_empty());
            let mut values: Vec<&str> = current.split(',').filter(|v| !v.is_empty()).collect();
            for value in listed {
                match change.operation {
                    APPEND if !values.contains(&value) => values.push(value),
                    SUBTRACT => values.retain(|old| *old != value),
                    _ => {}
                }
            }
            key.set(Some(&values.join(",")), settings, defaults)
        }
        APPEND | SUBTRACT => {
            Err(format!("{name} is not a list: values cannot be added or taken away"))
        }
        other => Err(format!("unknown operation {other} on {name}")),
    }
}

struct Alter<F> {
    answers: Gather<Answer>,
    answer: Option<F>,
}

impl<F> Operation for Alter<F>
where
    F: FnOnce(Vec<Answer>, &mut Env<'_, '_>) + Send,
{
    fn event(&mut self, event: Event, env: &mut Env<'_, '_>) -> bool {
        let Event::Proposed { token, result } = event else { return false };
        let Some((place, last)) = self.answers.take(token) else { return false };
        if let Err(refusal) = result {
            place.error = refusal.into();
        }
        if last {
            if let Some(answer) = self.answer.take() {
                answer(std::mem::take(&mut self.answers.answers), env);
            }
        }
        last
    }
}
