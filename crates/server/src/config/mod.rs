//! What the program is told: defaults, then `koine.toml`, then `KOINE_...` variables, then flags;
//! the later wins. A key nobody knows is refused by name, wherever it was written, so that a typing
//! mistake never silently means "default".

mod settings;
mod value;

#[cfg(test)]
mod tests;

pub use settings::{by_flag, by_key, Setting, SETTINGS};
pub use value::Size;

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use tracing::Level;

pub const VARIABLE_PREFIX: &str = "KOINE_";
/// Names the file instead of a setting; the flag is `--config`.
pub const FILE_VARIABLE: &str = "KOINE_CONFIG";
/// Of our own commands, not of the broker: the name and the password to log in with.
pub const LOGIN_VARIABLES: [&str; 2] = ["KOINE_USER", "KOINE_PASSWORD"];
/// Read from the working directory if no other file is named; may be absent.
pub const FILE_DEFAULT: &str = "koine.toml";
/// A configuration file is text written by hand; anything larger is a mistake.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The default tail cache never takes more than this, however large the machine.
const TAIL_CACHE_BYTES_MAX: u64 = 2 << 30;

/// Free disk space that is kept by default, on disks that are large enough.
const DISK_FREE_BYTES_DEFAULT: u64 = 1 << 30;
/// What the log itself leaves free, see `free_bytes_min` of its configuration.
const DISK_RESERVE_BYTES: u64 = 64 << 20;
/// Less than this would not let one connection work.
const CONNECTION_MEMORY_BYTES_MIN: u64 = 1 << 20;

#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub data: PathBuf,
    pub listen: Listeners,
    pub advertised_host: Option<String>,
    pub ready_file: Option<PathBuf>,
    /// Listening beyond loopback without users is allowed.
    pub insecure: bool,
    /// At least 1.
    pub shards: u16,
    pub log: Log,
    pub storage: Storage,
    pub topics: Topics,
    pub limits: Limits,
    pub tls: Tls,
}

/// The first four take plain connections, and TLS ones as well once there is a certificate; the others
/// take TLS only.
#[derive(Clone, Debug, PartialEq)]
pub struct Listeners {
    pub kafka: Option<Listen>,
    pub amqp: Option<Listen>,
    pub mqtt: Option<Listen>,
    pub http: Option<Listen>,
    pub kafkas: Option<Listen>,
    pub amqps: Option<Listen>,
    pub mqtts: Option<Listen>,
    pub https: Option<Listen>,
}

impl Listeners {
    /// Every listener by the key that configures it.
    pub fn by_key(&mut self) -> [(&'static str, &mut Option<Listen>); 8] {
        [
            ("kafka", &mut self.kafka),
            ("amqp", &mut self.amqp),
            ("mqtt", &mut self.mqtt),
            ("http", &mut self.http),
            ("kafkas", &mut self.kafkas),
            ("amqps", &mut self.amqps),
            ("mqtts", &mut self.mqtts),
            ("https", &mut self.https),
        ]
    }
}

/// Where one listener binds. Port 0 takes any free port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    pub host: String,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    pub level: Level,
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Storage {
    pub tail_cache: Size,
    pub wal_file_bytes: u64,
    /// Free disk space below which nothing is published; `None` has the default of the disk.
    pub free_min: Option<Size>,
}

/// When a write is acknowledged (design: fsync, replicated, memory).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    Fsync,
    Replicated,
    Memory,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Topics {
    pub auto_create: bool,
    pub partitions: u32,
    pub durability: Durability,
    /// `None` keeps records for ever.
    pub retention_ms: Option<u64>,
    /// How often retention is applied, and how long a new record is spared at least.
    pub retention_check_ms: u64,
    /// Per partition; `None` is no bound.
    pub retention_bytes: Option<u64>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    pub connections: u32,
    pub message_bytes: u64,
    pub request_bytes: u64,
    /// Unsent bytes of one connection at which the broker stops reading from it.
    pub output_bytes: u64,
    /// What all connections together may hold.
    pub memory: Size,
    /// How long a SASL login holds; `None` is without end.
    pub sasl_session_ms: Option<u64>,
    /// Of one remote address; the largest number is no bound.
    pub connections_per_address: u32,
    /// New ones of one remote address in a second; likewise.
    pub connection_rate_per_address: u32,
}

/// Encryption. Off without a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// PEM: the certificate, then those between it and its root.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// PEM: the roots that client certificates must lead to.
    pub client_ca: Option<PathBuf>,
    pub client_auth: ClientAuth,
    pub user_from: UserFrom,
    /// Plain connections from other machines are refused.
    pub required: bool,
}

/// Whether clients are asked for a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    #[default]
    Off,
    /// Asked; one that is shown must be good.
    Optional,
    Required,
}

/// The part of a client certificate that is the user's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UserFrom {
    #[default]
    CommonName,
    DistinguishedName,
    /// The first e-mail address, or without one the first DNS name.
    San,
}

fn loopback(port: u16) -> Option<Listen> {
    Some(Listen { host: "127.0.0.1".to_owned(), port })
}

impl Default for Config {
    fn default() -> Self {
        let cores = crate::machine::processors();
        Config {
            data: PathBuf::from("./koine-data"),
            listen: Listeners {
                kafka: loopback(9092),
                amqp: loopback(5672),
                mqtt: loopback(1883),
                http: loopback(15672),
                kafkas: None,
                amqps: None,
                mqtts: None,
                https: None,
            },
            advertised_host: None,
            ready_file: None,
            insecure: false,
            shards: cores.min(8) as u16,
            log: Log { level: Level::INFO, format: LogFormat::Text },
            storage: Storage {
                tail_cache: Size::Percent(25),
                wal_file_bytes: 128 << 20,
                free_min: None,
            },
            topics: Topics {
                auto_create: true,
                partitions: 1,
                durability: Durability::Fsync,
                retention_ms: Some(7 * 86_400_000),
                retention_check_ms: 300_000,
                retention_bytes: None,
            },
            limits: Limits {
                connections: 10_000,
                message_bytes: 16 << 20,
                request_bytes: 100 << 20,
                output_bytes: 4 << 20,
                memory: Size::Percent(20),
                sasl_session_ms: None,
                connections_per_address: u32::MAX,
                connection_rate_per_address: u32::MAX,
            },
            tls: Tls::default(),
        }
    }
}

/// Why the program cannot start as told. Shown as it is.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError(pub String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// What the command line said: the file, and settings in the order given.
#[derive(Debug, Default)]
pub struct Flags {
    pub file: Option<PathBuf>,
    pub settings: Vec<(&'static str, String)>,
}

impl Flags {
    pub fn push(&mut self, setting: &'static Setting, value: String) {
        self.settings.push((setting.key, value));
    }
}

/// Puts the four sources together. `variables` is the whole environment; only names with our prefix
/// are looked at, and every one of them must be known.
pub fn load(
    flags: &Flags,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let is_ours =
        |name: &str| name.starts_with(VARIABLE_PREFIX) && !LOGIN_VARIABLES.contains(&name);
    let mut ours: Vec<(String, String)> = variables.filter(|(name, _)| is_ours(name)).collect();
    ours.sort();
    let file_variable =
        ours.iter().position(|(name, _)| name == FILE_VARIABLE).map(|i| ours.remove(i).1);
    let named = flags.file.clone().or(file_variable.map(PathBuf::from));

    let mut config = Config::default();
    if let Some((path, text)) = read_file(named.as_deref())? {
        apply_file(&mut config, &path, &text)?;
    }
    for (name, value) in &ours {
        let setting = settings::by_variable(name).ok_or_else(|| unknown_variable(name))?;
        apply(&mut config, setting, value, name)?;
    }
    for (key, value) in &flags.settings {
        let setting = by_key(key).expect("flags are made from the table of settings");
        apply(&mut config, setting, value, &format!("--{}", setting.flag()))?;
    }
    config.check_tls()?;
    Ok(config)
}

fn apply(
    config: &mut Config,
    setting: &Setting,
    value: &str,
    written: &str,
) -> Result<(), ConfigError> {
    (setting.apply)(config, value).map_err(|wrong| ConfigError(format!("{written}: {wrong}")))
}

/// The named file must exist; the default one may.
fn read_file(named: Option<&Path>) -> Result<Option<(PathBuf, String)>, ConfigError> {
    let path = named.unwrap_or(Path::new(FILE_DEFAULT));
    let failed = |error: std::io::Error| ConfigError(format!("{}: {error}", path.display()));
    let size = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => {
            return Ok(None)
        }
        Err(error) => return Err(failed(error)),
    };
    if size > FILE_BYTES_MAX {
        return Err(ConfigError(format!(
            "{}: larger than 1 MiB; not a configuration file",
            path.display()
        )));
    }
    Ok(Some((path.to_owned(), std::fs::read_to_string(path).map_err(failed)?)))
}

fn apply_file(config: &mut Config, path: &Path, text: &str) -> Result<(), ConfigError> {
    let table: toml::Table =
        text.parse().map_err(|error| ConfigError(format!("{}: {error}", path.display())))?;
    let mut flat = Vec::new();
    flatten("", &table, &mut flat);
    for (key, value) in flat {
        let written = format!("{}: {key}", path.display());
        let Some(setting) = by_key(&key) else {
            return Err(ConfigError(format!(
                "{}: unknown key {key:?}{}",
                path.display(),
                did_you_mean(&key, SETTINGS.iter().map(|setting| setting.key.to_owned()))
            )));
        };
        let text = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Boolean(truth) => truth.to_string(),
            other => {
                let kind = other.type_str();
                return Err(ConfigError(format!(
                    "{written}: a value of type {kind} cannot stand here"
                )));
            }
        };
        apply(config, setting, &text, &written)?;
    }
    Ok(())
}

/// `[storage] tail_cache = ...` becomes `storage.tail_cache`. An empty table leaves its own name, so
/// that an unknown section is refused even when empty.
fn flatten(prefix: &str, table: &toml::Table, flat: &mut Vec<(String, toml::Value)>) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            toml::Value::Table(inner) if inner.is_empty() && is_section(&key) => {}
            toml::Value::Table(inner) if !inner.is_empty() => flatten(&key, inner, flat),
            value => flat.push((key, value.clone())),
        }
    }
}

fn is_section(key: &str) -> bool {
    SETTINGS
        .iter()
        .any(|setting| setting.key.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
}

fn unknown_variable(name: &str) -> ConfigError {
    let known = SETTINGS.iter().map(Setting::variable).chain([FILE_VARIABLE.to_owned()]);
    ConfigError(format!("unknown variable {name}{}", did_you_mean(name, known)))
}

/// ` (did you mean "x"?)` if a known name is near, else nothing.
pub fn did_you_mean(name: &str, known: impl Iterator<Item = String>) -> String {
    let near = known
        .map(|candidate| (edit_distance(name, &candidate), candidate))
        .min()
        .filter(|(distance, _)| *distance <= 1 + name.len() / 4);
    near.map(|(_, candidate)| format!(" (did you mean {candidate:?}?)")).unwrap_or_default()
}

/// Levenshtein distance of two short names.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replace = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

impl Config {
    /// Settings of TLS that say nothing without each other. Half of them would mean less protection than
    /// somebody believes to have.
    fn check_tls(&self) -> Result<(), ConfigError> {
        let tls = &self.tls;
        let wrong = |text: String| Err(ConfigError(text));
        match (&tls.certificate, &tls.key) {
            (Some(_), None) => return wrong("tls.certificate needs tls.key".to_owned()),
            (None, Some(_)) => return wrong("tls.key needs tls.certificate".to_owned()),
            (Some(_), Some(_)) if tls.client_auth != ClientAuth::Off && tls.client_ca.is_none() => {
                return wrong("tls.client_auth needs tls.client_ca: the roots of the certificates that clients may show".to_owned());
            }
            (Some(_), Some(_)) if tls.client_auth == ClientAuth::Off && tls.client_ca.is_some() => {
                return wrong("tls.client_ca does nothing while tls.client_auth is off; set it to optional or required".to_owned());
            }
            (Some(_), Some(_)) => return Ok(()),
            (None, None) => {}
        }
        let listeners = self.listeners().filter(|(key, _)| key.ends_with('s'));
        let others = [
            ("tls.client_ca", tls.client_ca.is_some()),
            ("tls.client_auth", tls.client_auth != ClientAuth::Off),
            ("tls.required", tls.required),
        ];
        let first = listeners.map(|(key, _)| key);
        let first =
            first.chain(others.into_iter().filter_map(|(key, set)| set.then_some(key))).next();
        match first {
            Some(key) => wrong(format!("{key} needs tls.certificate and tls.key")),
            None => Ok(()),
        }
    }

    /// Bytes of the tail cache on a machine with `memory_bytes`.
    pub fn tail_cache_bytes(&self, memory_bytes: u64) -> u64 {
        let bytes = self.storage.tail_cache.of(memory_bytes);
        match self.storage.tail_cache {
            Size::Percent(_) => bytes.min(TAIL_CACHE_BYTES_MAX),
            Size::Bytes(_) => bytes,
        }
    }

    /// Bytes that connections may hold on a machine with `memory_bytes`.
    pub fn connection_memory_bytes(&self, memory_bytes: u64) -> u64 {
        self.limits.memory.of(memory_bytes).max(CONNECTION_MEMORY_BYTES_MIN)
    }

    /// Free space below which nothing is published, on a disk of `disk_bytes`. The default leaves every
    /// shard room for one more file of its write-ahead log, so that consumers can go on settling.
    pub fn disk_free_bytes_min(&self, disk_bytes: u64, shard_count: u16) -> u64 {
        if let Some(size) = self.storage.free_min {
            return size.of(disk_bytes);
        }
        let logs = self.storage.wal_file_bytes.saturating_mul(u64::from(shard_count));
        let share = DISK_FREE_BYTES_DEFAULT.min(disk_bytes / 10);
        share.max(logs.saturating_add(DISK_RESERVE_BYTES))
    }

    /// Every listener that is on, by the key that configures it.
    pub fn listeners(&self) -> impl Iterator<Item = (&'static str, &Listen)> {
        let listen = &self.listen;
        [
            ("kafka", &listen.kafka),
            ("amqp", &listen.amqp),
            ("mqtt", &listen.mqtt),
            ("http", &listen.http),
            ("kafkas", &listen.kafkas),
            ("amqps", &listen.amqps),
            ("mqtts", &listen.mqtts),
            ("https", &listen.https),
        ]
        .into_iter()
        .filter_map(|(key, listen)| Some((key, listen.as_ref()?)))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl Listen {
    /// The addresses to bind.
    pub fn resolve(&self, key: &str) -> Result<Vec<SocketAddr>, ConfigError> {
        let found: Vec<SocketAddr> = (self.host.as_str(), self.port)
            .to_socket_addrs()
            .map_err(|error| {
                ConfigError(format!("{key}: cannot resolve {:?}: {error}", self.host))
            })?
            .collect();
        match found.is_empty() {
            true => Err(ConfigError(format!("{key}: {:?} has no address", self.host))),
            false => Ok(found),
        }
    }
}
