//! CreateTopics (key 19).

use super::describe_configs::{DEFAULT_CONFIG, DYNAMIC_TOPIC_CONFIG};
use super::metadata::default_settings;
use crate::codec::generated::create_topics::{Config, Request, Response, Topic, TopicWanted};
use crate::config::{self, Defaults, TOPIC_KEYS};
use crate::error::ErrorCode;
use crate::operation::{Env, Gather, Operation, Started};
use crate::reply::Reply;
use crate::rights::refusal_text;
use crate::topic::{check_new_name, NAMESPACE};
use koine_broker::access::Action;
use koine_broker::metadata::{Command, Outcome, TopicSettings};
use koine_broker::session::Event;
use std::collections::HashMap;

type Refused = (ErrorCode, String);

pub(crate) fn start(request: Request, reply: Reply, env: &mut Env<'_, '_>) -> Started {
    let mut times: HashMap<&str, usize> = HashMap::new();
    for topic in &request.topics {
        *times.entry(&topic.name).or_default() += 1;
    }
    let op = env.new_op();
    let mut answers: Vec<Topic> = Vec::new();
    let mut waiting = 0;
    for wanted in &request.topics {
        // A name that is there twice is answered once.
        let Some(count) = times.remove(wanted.name.as_str()) else { continue };
        let planned = if count > 1 {
            Err((ErrorCode::InvalidRequest, "Duplicate topic name.".to_string()))
        } else {
            plan(wanted, env)
        };
        let mut answer = Topic { name: wanted.name.clone(), ..Topic::default() };
        match planned {
            Ok((partitions, settings)) => {
                describe(&mut answer, partitions, &settings, env);
                if !request.validate_only {
                    let id = env.fresh_topic_id();
                    let name = wanted.name.clone();
                    let namespace = NAMESPACE;
                    let command =
                        Command::CreateTopic { namespace, name, partitions, settings, id };
                    env.propose(op.token_at(answers.len()), command);
                    waiting += 1;
                }
            }
            Err((error, message)) => refuse(&mut answer, error, Some(message)),
        }
        answers.push(answer);
    }
    let mut operation = CreateTopics { reply, topics: Gather::new(answers, waiting) };
    if waiting == 0 {
        operation.answer(env);
        return Started::Answered;
    }
    Started::Waiting(op, Box::new(operation))
}

/// Partition count and settings of a topic that may be created.
fn plan(wanted: &TopicWanted, env: &Env<'_, '_>) -> Result<(u32, TopicSettings), Refused> {
    may_create(&wanted.name, env).map_err(|error| (error, refusal_text(error)))?;
    check_new_name(&wanted.name).map_err(|text| (ErrorCode::InvalidTopicException, text))?;
    if env.catalog().find(&wanted.name).is_ok() {
        let text = format!("Topic '{}' already exists.", wanted.name);
        return Err((ErrorCode::TopicAlreadyExists, text));
    }
    let partitions = partition_count(wanted, env)?;
    let defaults = Defaults { node: env.ctx.node, limits: env.ctx.limits };
    let mut settings = default_settings(env.ctx.node);
    for setting in &wanted.configs {
        let value = setting.value.as_deref();
        let set = match value {
            None => Err(format!("Null value not supported for topic configs: {}", setting.name)),
            value => config::set(&setting.name, value, &mut settings, defaults),
        };
        set.map_err(|text| (ErrorCode::InvalidConfig, text))?;
    }
    Ok((partitions, settings))
}

/// Who may create anything on the cluster may create any topic.
pub(super) fn may_create(name: &str, env: &Env<'_, '_>) -> Result<(), ErrorCode> {
    env.may_cluster(Action::Create).or_else(|_| env.may_topic(Action::Create, name))
}

fn partition_count(wanted: &TopicWanted, env: &Env<'_, '_>) -> Result<u32, Refused> {
    let node_id = env.ctx.node.node_id;
    if !wanted.assignments.is_empty() {
        if wanted.num_partitions != -1 || wanted.replication_factor != -1 {
            let text = "Both numPartitions or replicationFactor and replicasAssignments were set.";
            return Err((ErrorCode::InvalidRequest, text.into()));
        }
        let mut indexes: Vec<i32> = wanted.assignments.iter().map(|a| a.partition_index).collect();
        indexes.sort_unstable();
        let dense = indexes.iter().enumerate().all(|(place, index)| *index == place as i32);
        let here = wanted.assignments.iter().all(|a| a.broker_ids == [node_id]);
        if !dense || !here {
            let text = format!(
                "Partitions must be numbered from 0 and assigned to broker {node_id} alone."
            );
            return Err((ErrorCode::InvalidReplicaAssignment, text));
        }
        return Ok(indexes.len() as u32);
    }
    // -1 asks for the default. Clients may say so since version 4 (KIP-464), but kafkajs says it in
    // version 3 and Kafka lets it.
    match wanted.replication_factor {
        1 | -1 => {}
        factor if factor < 1 => {
            let text = "Replication factor must be larger than 0, or -1 to use the default value.";
            return Err((ErrorCode::InvalidReplicationFactor, text.into()));
        }
        factor => {
            let text = format!("Unable to replicate the partition {factor} time(s): only 1 broker(s) are registered.");
            return Err((ErrorCode::InvalidReplicationFactor, text));
        }
    }
    let max = env.ctx.limits.partitions_max;
    match u32::try_from(wanted.num_partitions) {
        Ok(count) if (1..=max).contains(&count) => Ok(count),
        Err(_) if wanted.num_partitions == -1 => Ok(env.ctx.node.default_partitions),
        _ => {
            let text =
                format!("Number of partitions must be 1 to {max}, or -1 to use the default value.");
            Err((ErrorCode::InvalidPartitions, text))
        }
    }
}

fn describe(answer: &mut Topic, partitions: u32, settings: &TopicSettings, env: &Env<'_, '_>) {
    if let Err(error) = env.may_topic(Action::DescribeConfigs, &answer.name) {
        // It is created all the same.
        answer.topic_config_error_code = error.code();
        return;
    }
    let defaults = Defaults { node: env.ctx.node, limits: env.ctx.limits };
    answer.num_partitions = partitions as i32;
    answer.replication_factor = 1;
    let configs = TOPIC_KEYS.iter().map(|key| {
        let given = key.value_in(settings);
        Config {
            name: key.name.to_string(),
            config_source: if given.is_some() { DYNAMIC_TOPIC_CONFIG } else { DEFAULT_CONFIG },
            value: Some(given.unwrap_or_else(|| key.default_on(defaults))),
            read_only: false,
            is_sensitive: false,
        }
    });
    answer.configs = Some(configs.collect());
}

fn refuse(answer: &mut Topic, error: ErrorCode, message: Option<String>) {
    *answer = Topic {
        name: std::mem::take(&mut answer.name),
        error_code: error.code(),
        error_message: message,
        configs: Some(Vec::new()),
        ..Topic::default()
    };
}

struct CreateTopics {
    reply: Reply,
    topics: Gather<Topic>,
}

impl CreateTopics {
    fn answer(&mut self, env: &mut Env<'_, '_>) {
        let topics = std::mem::take(&mut self.topics.answers);
        let response = Response { throttle_time_ms: 0, topics };
        env.send(self.reply, |w, v| response.encode(w, v));
    }
}

impl Operation for CreateTopics {
    fn event(&mut self, event: Event, env: &mut Env<'_, '_>) -> bool {
        let Event::Proposed { token, result } = event else { return false };
        let Some((place, last)) = self.topics.take(token) else { return false };
        match result {
            Ok(Outcome::TopicCreated { id, .. }) => place.topic_id = id.0,
            Ok(_) => {}
            Err(refusal) => refuse(place, refusal.into(), None),
        }
        if last {
            self.answer(env);
        }
        last
    }
}
