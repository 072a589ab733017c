//! The configuration keys of a topic as Kafka clients see them: names, types, defaults and which
//! values are honoured. A key that is not honoured can be read, and "set" to its default, but any
//! other value is refused: a setting is never accepted and ignored.

use koine_broker::limits::Limits;
use koine_broker::metadata::{Durability, TopicSettings};
use koine_broker::session::NodeInfo;

/// The type of a key in DescribeConfigs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigType {
    Boolean = 1,
    String = 2,
    Int = 3,
    Long = 5,
    Double = 6,
    List = 7,
}

/// The keys that can be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    RetentionMs,
    RetentionBytes,
    MessageBytesMax,
    TimestampType,
    /// Our own key: what an acknowledgement promises. Fixed when the topic is created.
    Durability,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicKey {
    pub name: &'static str,
    /// Of a node without configuration; see [`TopicKey::default_on`].
    pub default: &'static str,
    pub kind: ConfigType,
    /// `None` for a key that has its default for ever.
    pub setting: Option<Setting>,
    /// The broker-wide key that gives the default, if there is one.
    pub broker_synonym: Option<&'static str>,
    pub documentation: &'static str,
}

/// How far in the future a producer's timestamp may lie: the default of
/// `message.timestamp.after.max.ms`, which cannot be changed yet.
pub const TIMESTAMP_AFTER_MAX_MS: i64 = 3_600_000;

const LONG_MAX: &str = "9223372036854775807";

/// All keys of a topic, sorted by name. Defaults are those of Kafka 4.
pub const TOPIC_KEYS: &[TopicKey] = &[
    fixed("cleanup.policy", "delete", ConfigType::List, Some("log.cleanup.policy"),
        "What happens to old records: delete. Compaction is not supported yet."),
    fixed("compression.gzip.level", "-1", ConfigType::Int, Some("compression.gzip.level"),
        "Not used: batches keep the producer's compression."),
    fixed("compression.lz4.level", "9", ConfigType::Int, Some("compression.lz4.level"),
        "Not used: batches keep the producer's compression."),
    fixed("compression.type", "producer", ConfigType::String, Some("compression.type"),
        "Batches are stored as the producer compressed them."),
    fixed("compression.zstd.level", "3", ConfigType::Int, Some("compression.zstd.level"),
        "Not used: batches keep the producer's compression."),
    fixed("delete.retention.ms", "86400000", ConfigType::Long, Some("log.cleaner.delete.retention.ms"),
        "How long compaction keeps tombstones. Compaction is not supported yet."),
    fixed("file.delete.delay.ms", "60000", ConfigType::Long, Some("log.segment.delete.delay.ms"),
        "Not used: files are deleted when nothing reads them."),
    fixed("flush.messages", LONG_MAX, ConfigType::Long, Some("log.flush.interval.messages"),
        "Not used: koine.durability says what an acknowledgement promises."),
    fixed("flush.ms", LONG_MAX, ConfigType::Long, Some("log.flush.interval.ms"),
        "Not used: koine.durability says what an acknowledgement promises."),
    fixed("follower.replication.throttled.replicas", "", ConfigType::List, None, "Not used."),
    fixed("index.interval.bytes", "4096", ConfigType::Int, Some("log.index.interval.bytes"),
        "Not used: the index has its own spacing."),
    settable("koine.durability", "fsync", ConfigType::String, Setting::Durability, None,
        "When a record is acknowledged: on disk at a majority, in memory at a majority, or in the leader's memory."),
    fixed("leader.replication.throttled.replicas", "", ConfigType::List, None, "Not used."),
    fixed("local.retention.bytes", "-2", ConfigType::Long, Some("log.local.retention.bytes"),
        "Tiered storage is not supported yet."),
    fixed("local.retention.ms", "-2", ConfigType::Long, Some("log.local.retention.ms"),
        "Tiered storage is not supported yet."),
    fixed("max.compaction.lag.ms", LONG_MAX, ConfigType::Long, Some("log.cleaner.max.compaction.lag.ms"),
        "Compaction is not supported yet."),
    settable("max.message.bytes", "1048588", ConfigType::Int, Setting::MessageBytesMax, Some("message.max.bytes"),
        "The largest record batch, in bytes as sent."),
    fixed("message.timestamp.after.max.ms", "3600000", ConfigType::Long, Some("log.message.timestamp.after.max.ms"),
        "How far a record's timestamp may lie in the future."),
    fixed("message.timestamp.before.max.ms", LONG_MAX, ConfigType::Long, Some("log.message.timestamp.before.max.ms"),
        "How far a record's timestamp may lie in the past."),
    settable("message.timestamp.type", "CreateTime", ConfigType::String, Setting::TimestampType, Some("log.message.timestamp.type"),
        "Whose clock stamps records: the producer's or the broker's."),
    fixed("min.cleanable.dirty.ratio", "0.5", ConfigType::Double, Some("log.cleaner.min.cleanable.ratio"),
        "Compaction is not supported yet."),
    fixed("min.compaction.lag.ms", "0", ConfigType::Long, Some("log.cleaner.min.compaction.lag.ms"),
        "Compaction is not supported yet."),
    fixed("min.insync.replicas", "1", ConfigType::Int, Some("min.insync.replicas"),
        "Not used: koine.durability says how many replicas acknowledge."),
    fixed("preallocate", "false", ConfigType::Boolean, Some("log.preallocate"),
        "Not used: files are always preallocated."),
    fixed("remote.log.copy.disable", "false", ConfigType::Boolean, None, "Tiered storage is not supported yet."),
    fixed("remote.log.delete.on.disable", "false", ConfigType::Boolean, None, "Tiered storage is not supported yet."),
    fixed("remote.storage.enable", "false", ConfigType::Boolean, None, "Tiered storage is not supported yet."),
    settable("retention.bytes", "-1", ConfigType::Long, Setting::RetentionBytes, Some("log.retention.bytes"),
        "Bytes kept per partition; -1 for no limit."),
    settable("retention.ms", "604800000", ConfigType::Long, Setting::RetentionMs, Some("log.retention.ms"),
        "How long records are kept; -1 for ever."),
    fixed("segment.bytes", "1073741824", ConfigType::Int, Some("log.segment.bytes"),
        "Not used: segments have their own size."),
    fixed("segment.index.bytes", "10485760", ConfigType::Int, Some("log.index.size.max.bytes"),
        "Not used: the index has its own size."),
    fixed("segment.jitter.ms", "0", ConfigType::Long, Some("log.roll.jitter.ms"), "Not used."),
    fixed("segment.ms", "604800000", ConfigType::Long, Some("log.roll.ms"),
        "Not used: segments are rolled by size."),
    fixed("unclean.leader.election.enable", "false", ConfigType::Boolean, Some("unclean.leader.election.enable"),
        "Never done: an acknowledged record is not given up."),
];

const fn fixed(
    name: &'static str,
    default: &'static str,
    kind: ConfigType,
    broker_synonym: Option<&'static str>,
    documentation: &'static str,
) -> TopicKey {
    TopicKey { name, default, kind, setting: None, broker_synonym, documentation }
}

const fn settable(
    name: &'static str,
    default: &'static str,
    kind: ConfigType,
    setting: Setting,
    broker_synonym: Option<&'static str>,
    documentation: &'static str,
) -> TopicKey {
    TopicKey { name, default, kind, setting: Some(setting), broker_synonym, documentation }
}

/// What the node's own configuration makes of the defaults.
#[derive(Clone, Copy)]
pub struct Defaults<'a> {
    pub node: &'a NodeInfo,
    pub limits: &'a Limits,
}

impl TopicKey {
    /// `None` for a key that topics do not have.
    pub fn find(name: &str) -> Option<&'static TopicKey> {
        TOPIC_KEYS.iter().find(|key| key.name == name)
    }

    pub fn default_on(&self, defaults: Defaults<'_>) -> String {
        match self.setting {
            Some(Setting::RetentionMs) => defaults.node.default_retention_ms.to_string(),
            Some(Setting::RetentionBytes) => defaults.node.default_retention_bytes.to_string(),
            Some(Setting::MessageBytesMax) => message_bytes_default(defaults.limits).to_string(),
            // A topic of a node with another default is given that default when it is created.
            Some(Setting::Durability | Setting::TimestampType) | None => self.default.into(),
        }
    }

    /// What a topic has been given; `None` if it has the default.
    pub fn value_in(&self, settings: &TopicSettings) -> Option<String> {
        match self.setting? {
            Setting::RetentionMs => settings.retention_ms.map(|ms| ms.to_string()),
            Setting::RetentionBytes => settings.retention_bytes.map(|bytes| bytes.to_string()),
            Setting::MessageBytesMax => settings.message_bytes_max.map(|bytes| bytes.to_string()),
            Setting::TimestampType => settings
                .log_append_time
                .map(|append| if append { "LogAppendTime" } else { "CreateTime" }.to_string()),
            Setting::Durability => settings.durability.map(|level| durability_text(level).into()),
        }
    }

    /// Changes one setting, or with `None` goes back to the default. The error is a text for the
    /// client.
    pub fn set(
        &self,
        value: Option<&str>,
        settings: &mut TopicSettings,
        defaults: Defaults<'_>,
    ) -> Result<(), String> {
        let Some(setting) = self.setting else {
            return match value {
                Some(value) if value != self.default => Err(format!(
                    "{}={value} is not supported here: only {:?} is",
                    self.name, self.default
                )),
                _ => Ok(()),
            };
        };
        match setting {
            Setting::RetentionMs => settings.retention_ms = self.number(value, -1, i64::MAX)?,
            Setting::RetentionBytes => {
                settings.retention_bytes = self.number(value, -1, i64::MAX)?
            }
            Setting::MessageBytesMax => {
                let limit = u32::try_from(defaults.limits.message_bytes_max).unwrap_or(u32::MAX);
                let number = self.number(value, 0, i64::from(limit))?;
                settings.message_bytes_max = number.map(|bytes| bytes as u32);
            }
            Setting::TimestampType => {
                let known = [("CreateTime", false), ("LogAppendTime", true)];
                settings.log_append_time = self.one_of(value, &known)?;
            }
            Setting::Durability => {
                let known = [
                    ("fsync", Durability::Fsync),
                    ("replicated", Durability::Replicated),
                    ("memory", Durability::Memory),
                ];
                settings.durability = self.one_of(value, &known)?;
            }
        }
        Ok(())
    }

    fn number(&self, value: Option<&str>, min: i64, max: i64) -> Result<Option<i64>, String> {
        let Some(value) = value else { return Ok(None) };
        match value.trim().parse::<i64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(Some(number)),
            Ok(_) => Err(format!(
                "Invalid value {value} for configuration {}: must be {min} to {max}",
                self.name
            )),
            Err(_) => {
                Err(format!("Invalid value {value} for configuration {}: not a number", self.name))
            }
        }
    }

    fn one_of<T: Copy>(
        &self,
        value: Option<&str>,
        known: &[(&str, T)],
    ) -> Result<Option<T>, String> {
        let Some(value) = value else { return Ok(None) };
        if let Some((_, meaning)) = known.iter().find(|(text, _)| *text == value) {
            return Ok(Some(*meaning));
        }
        let texts: Vec<&str> = known.iter().map(|(text, _)| *text).collect();
        Err(format!(
            "Invalid value {value} for configuration {}: must be one of {}",
            self.name,
            texts.join(", ")
        ))
    }
}

/// The largest batch of a topic that does not say: Kafka's default, or the node's limit if that is
/// lower. A queue has the node's limit.
pub fn message_bytes_default(limits: &Limits) -> usize {
    const KAFKA_DEFAULT: usize = (1 << 20) + 12;
    limits.message_bytes_max.min(KAFKA_DEFAULT)
}

fn durability_text(durability: Durability) -> &'static str {
    match durability {
        Durability::Fsync => "fsync",
        Durability::Replicated => "replicated",
        Durability::Memory => "memory",
    }
}

/// Sets one key of a new or existing topic by name.
pub fn set(
    name: &str,
    value: Option<&str>,
    settings: &mut TopicSettings,
    defaults: Defaults<'_>,
) -> Result<(), String> {
    let key = TopicKey::find(name).ok_or_else(|| format!("Unknown topic config name: {name}"))?;
    key.set(value, settings, defaults)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::node;

    #[test]
    fn keys_are_sorted_and_their_defaults_are_accepted() {
        let (node, limits) = (node(), Limits::default());
        let defaults = Defaults { node: &node, limits: &limits };
        assert!(TOPIC_KEYS.windows(2).all(|pair| pair[0].name < pair[1].name));
        for key in TOPIC_KEYS {
            let mut settings = TopicSettings::default();
            assert_eq!(key.value_in(&settings), None);
            assert_eq!(key.default_on(defaults), key.default, "{}", key.name);
            assert_eq!(key.set(Some(key.default), &mut settings, defaults), Ok(()));
            let shown = key.value_in(&settings).unwrap_or_else(|| key.default_on(defaults));
            assert_eq!(shown, key.default);
            assert_eq!(key.set(None, &mut settings, defaults), Ok(()));
            assert_eq!(settings, TopicSettings::default());
            assert!(!key.documentation.is_empty());
        }
    }

    #[test]
    fn what_is_not_honoured_is_refused() {
        let (node, limits) = (node(), Limits::default());
        let check = |name, value, accepted| {
            let defaults = Defaults { node: &node, limits: &limits };
            let result = set(name, Some(value), &mut TopicSettings::default(), defaults);
            assert_eq!(result.is_ok(), accepted, "{name}={value}: {result:?}");
        };
        check("retention.ms", "1000", true);
        check("retention.ms", "-1", true);
        check("retention.ms", "-2", false);
        check("retention.ms", "soon", false);
        check("max.message.bytes", "99999999999", false);
        check("message.timestamp.type", "LogAppendTime", true);
        check("message.timestamp.type", "logappendtime", false);
        check("cleanup.policy", "compact", false);
        check("koine.durability", "memory", true);
        check("koine.durability", "volatile", false);
        check("no.such.key", "1", false);
    }
}
