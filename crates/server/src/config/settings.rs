//! The one list of settings. Flag, environment variable, file key, help text and effect of a
//! setting are all derived from its line here, so that they can never disagree.
//!
//! Key `storage.tail_cache` is the flag `--storage-tail-cache`, the variable
//! `KOINE_STORAGE_TAIL_CACHE` and the key `tail_cache` in the table `[storage]` of `koine.toml`.

use super::value::{self, Size};
use super::{ClientAuth, Config, LogFormat, UserFrom};

/// One setting. `apply` takes the value as text, whatever it was written in.
pub struct Setting {
    pub key: &'static str,
    /// What a value looks like, for the help text.
    pub value: &'static str,
    pub help: &'static str,
    pub apply: fn(&mut Config, &str) -> Result<(), String>,
    /// A flag that needs no value on the command line (`--insecure`).
    pub switch: bool,
}

const fn setting(
    key: &'static str,
    value: &'static str,
    help: &'static str,
    apply: fn(&mut Config, &str) -> Result<(), String>,
) -> Setting {
    Setting { key, value, help, apply, switch: false }
}

const fn switch(
    key: &'static str,
    help: &'static str,
    apply: fn(&mut Config, &str) -> Result<(), String>,
) -> Setting {
    Setting { key, value: "true|false", help, apply, switch: true }
}

pub const SETTINGS: &[Setting] = &[
    setting("data", "DIR", "directory of all stored data (./koine-data)", |c, v| {
        c.data = value::path(v)?;
        Ok(())
    }),
    setting("kafka", "HOST:PORT", "Kafka listener, or \"off\" (127.0.0.1:9092)", |c, v| {
        c.listen.kafka = value::listen(v)?;
        Ok(())
    }),
    setting("amqp", "HOST:PORT", "AMQP 0-9-1 listener, or \"off\" (127.0.0.1:5672)", |c, v| {
        c.listen.amqp = value::listen(v)?;
        Ok(())
    }),
    setting("mqtt", "HOST:PORT", "MQTT listener, or \"off\" (127.0.0.1:1883)", |c, v| {
        c.listen.mqtt = value::listen(v)?;
        Ok(())
    }),
    setting(
        "http",
        "HOST:PORT",
        "health, metrics and admin API, or \"off\" (127.0.0.1:15672)",
        |c, v| {
            c.listen.http = value::listen(v)?;
            Ok(())
        },
    ),
    setting("kafkas", "HOST:PORT", "Kafka listener for TLS only, usually on port 9093 (off)", |c, v| {
        c.listen.kafkas = value::listen(v)?;
        Ok(())
    }),
    setting("amqps", "HOST:PORT", "AMQP listener for TLS only, usually on port 5671 (off)", |c, v| {
        c.listen.amqps = value::listen(v)?;
        Ok(())
    }),
    setting("mqtts", "HOST:PORT", "MQTT listener for TLS only, usually on port 8883 (off)", |c, v| {
        c.listen.mqtts = value::listen(v)?;
        Ok(())
    }),
    setting("https", "HOST:PORT", "HTTP listener for TLS only, usually on port 15671 (off)", |c, v| {
        c.listen.https = value::listen(v)?;
        Ok(())
    }),
    setting(
        "advertised_host",
        "HOST",
        "host name told to clients that ask where to connect (the address they reached)",
        |c, v| {
            c.advertised_host = Some(value::host(v)?);
            Ok(())
        },
    ),
    setting(
        "ready_file",
        "FILE",
        "written once every listener accepts: JSON with the addresses",
        |c, v| {
            c.ready_file = Some(value::path(v)?);
            Ok(())
        },
    ),
    switch("insecure", "allow listening beyond this machine without users", |c, v| {
        c.insecure = value::boolean(v)?;
        Ok(())
    }),
    setting("shards", "COUNT", "event loops, one core each (one per core, at most 8)", |c, v| {
        c.shards = value::number_in(v, 1, 64)? as u16;
        Ok(())
    }),
    setting("log.level", "LEVEL", "error, warn, info, debug or trace (info)", |c, v| {
        c.log.level = value::level(v)?;
        Ok(())
    }),
    setting("log.format", "text|json", "how log lines look (text)", |c, v| {
        c.log.format = value::one_of(v, &[("text", LogFormat::Text), ("json", LogFormat::Json)])?;
        Ok(())
    }),
    setting(
        "storage.tail_cache",
        "SIZE|PERCENT",
        "memory for recent records (25%, at most 2GiB)",
        |c, v| {
            c.storage.tail_cache = value::size(v)?;
            Ok(())
        },
    ),
    setting(
        "storage.wal_file",
        "SIZE",
        "size of one write-ahead log file, less on a small disk (128MiB)",
        |c, v| {
            c.storage.wal_file_bytes = value::bytes_in(v, 4 << 20, 4 << 30)?;
            Ok(())
        },
    ),
    setting(
        "storage.free_min",
        "SIZE|PERCENT",
        "free disk space below which publishers wait (1GiB, or a tenth of a small disk, and always enough for the log)",
        |c, v| {
            c.storage.free_min = Some(value::size(v)?);
            Ok(())
        },
    ),
    setting(
        "topics.auto_create",
        "true|false",
        "create missing topics on first use (true)",
        |c, v| {
            c.topics.auto_create = value::boolean(v)?;
            Ok(())
        },
    ),
    setting(
        "topics.partitions",
        "COUNT",
        "partitions of a topic created without a count (1)",
        |c, v| {
            c.topics.partitions = value::number_in(v, 1, 1000)? as u32;
            Ok(())
        },
    ),
    setting("topics.durability", "LEVEL", "fsync, replicated or memory (fsync)", |c, v| {
        c.topics.durability = value::durability(v)?;
        Ok(())
    }),
    setting(
        "topics.retention",
        "DURATION|none",
        "how long records of topics are kept (7d)",
        |c, v| {
            c.topics.retention_ms = value::optional(v, value::duration_ms)?;
            Ok(())
        },
    ),
    setting(
        "topics.retention_check",
        "DURATION",
        "how often retention is applied; new records are spared as long (5m)",
        |c, v| {
            c.topics.retention_check_ms = value::duration_ms(v)?.max(1);
            Ok(())
        },
    ),
    setting("topics.retention_size", "SIZE|none", "bytes kept per partition (none)", |c, v| {
        c.topics.retention_bytes = value::optional(v, value::bytes)?;
        Ok(())
    }),
    setting("limits.connections", "COUNT", "client connections at once (10000)", |c, v| {
        c.limits.connections = value::number_in(v, 1, 1_000_000)? as u32;
        Ok(())
    }),
    setting("limits.message", "SIZE", "largest message of any protocol (16MiB)", |c, v| {
        c.limits.message_bytes = value::bytes_in(v, 1 << 10, 256 << 20)?;
        Ok(())
    }),
    setting("limits.request", "SIZE", "largest single request frame (100MiB)", |c, v| {
        c.limits.request_bytes = value::bytes_in(v, 64 << 10, 1 << 30)?;
        Ok(())
    }),
    setting(
        "limits.output",
        "SIZE",
        "unsent bytes of one connection before reading stops (4MiB)",
        |c, v| {
            c.limits.output_bytes = value::bytes_in(v, 64 << 10, 1 << 30)?;
            Ok(())
        },
    ),
    setting(
        "limits.memory",
        "SIZE|PERCENT",
        "what all connections together may hold, unsent output included (20%)",
        |c, v| {
            c.limits.memory = value::size(v)?;
            Ok(())
        },
    ),
    setting(
        "limits.sasl_session",
        "DURATION|none",
        "how long a Kafka client's login holds before it must log in again (none)",
        |c, v| {
            c.limits.sasl_session_ms = value::optional(v, value::duration_ms)?;
            Ok(())
        },
    ),
    setting(
        "limits.connections_per_address",
        "COUNT|none",
        "client connections at once of one remote address (none)",
        |c, v| {
            c.limits.connections_per_address =
                value::optional(v, value::count)?.unwrap_or(u32::MAX);
            Ok(())
        },
    ),
    setting(
        "limits.connection_rate_per_address",
        "COUNT|none",
        "new connections per second of one remote address (none)",
        |c, v| {
            c.limits.connection_rate_per_address =
                value::optional(v, value::count)?.unwrap_or(u32::MAX);
            Ok(())
        },
    ),
    setting(
        "tls.certificate",
        "FILE",
        "PEM file: the broker's certificate and those between it and its root (no TLS)",
        |c, v| {
            c.tls.certificate = Some(value::path(v)?);
            Ok(())
        },
    ),
    setting("tls.key", "FILE", "PEM file: the certificate's private key", |c, v| {
        c.tls.key = Some(value::path(v)?);
        Ok(())
    }),
    setting(
        "tls.client_ca",
        "FILE",
        "PEM file: the roots that client certificates must lead to",
        |c, v| {
            c.tls.client_ca = Some(value::path(v)?);
            Ok(())
        },
    ),
    setting(
        "tls.client_auth",
        "off|optional|required",
        "whether clients are asked for a certificate (off)",
        |c, v| {
            let choices = [
                ("off", ClientAuth::Off),
                ("optional", ClientAuth::Optional),
                ("required", ClientAuth::Required),
            ];
            c.tls.client_auth = value::one_of(v, &choices)?;
            Ok(())
        },
    ),
    setting(
        "tls.user_from",
        "common_name|distinguished_name|san",
        "the part of a client certificate that is the user's name (common_name)",
        |c, v| {
            let choices = [
                ("common_name", UserFrom::CommonName),
                ("distinguished_name", UserFrom::DistinguishedName),
                ("san", UserFrom::San),
            ];
            c.tls.user_from = value::one_of(v, &choices)?;
            Ok(())
        },
    ),
    setting(
        "tls.required",
        "true|false",
        "refuse plain connections from other machines (false)",
        |c, v| {
            c.tls.required = value::boolean(v)?;
            Ok(())
        },
    ),
];

impl Setting {
    /// `storage.tail_cache` -> `storage-tail-cache`, without the dashes in front.
    pub fn flag(&self) -> String {
        self.key.replace(['.', '_'], "-")
    }

    /// `storage.tail_cache` -> `KOINE_STORAGE_TAIL_CACHE`.
    pub fn variable(&self) -> String {
        format!("{}{}", super::VARIABLE_PREFIX, self.key.replace('.', "_").to_uppercase())
    }
}

pub fn by_key(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

pub fn by_flag(flag: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.flag() == flag)
}

pub fn by_variable(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.variable() == name)
}

impl Size {
    /// Bytes that this size is of `memory_bytes`.
    pub fn of(self, memory_bytes: u64) -> u64 {
        match self {
            Size::Bytes(bytes) => bytes,
            Size::Percent(percent) => memory_bytes / 100 * u64::from(percent),
        }
    }
}
