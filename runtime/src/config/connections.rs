//! The brokers: each resolved, which is the default, and which keeps what others cannot.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use toml::Spanned;

use super::{
    Config, ConfigError, Text,
    error::suggestion,
    redacted,
    settings::{ConnectionSettings, FileSettings, NatsSettings, RabbitMqSettings, SqsSettings},
    units::RetryTiers,
};

/// Name of the embedded log where no connection is configured.
pub const EMBEDDED: &str = "log";

/// Name of the embedded log that keeps dead letters where no configured connection can.
/// It is there without being configured.
pub const LOCAL: &str = "local";

/// How long the embedded log keeps events unless told otherwise: as long as Kafka.
const RETENTION_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long events wait in topics between two attempts, unless told otherwise.
const RETRY_TIERS: [Duration; 3] =
    [Duration::from_secs(5), Duration::from_secs(30), Duration::from_secs(5 * 60)];

/// One configured broker.
#[derive(Clone, PartialEq, Eq)]
pub enum ConnectionConfig {
    /// The embedded durable log.
    Log {
        /// The file that holds it.
        path: PathBuf,
        /// Partitions of topics that are created.
        partitions: u32,
        /// Events older than this are removed; `None`: never.
        retention_age: Option<Duration>,
        /// The oldest events of a topic that holds more bytes than this are removed;
        /// `None`: never.
        retention_bytes: Option<u64>,
        /// How long events wait in topics between two attempts; rising, never empty.
        retry_tiers: Vec<Duration>,
    },
    /// Apache Kafka, or what speaks its protocol.
    Kafka {
        /// `host:port`, separated by commas.
        brokers: String,
        /// Whether topics that do not exist are created.
        create_topics: bool,
        /// Partitions of topics that are created; `None`: the broker's default.
        partitions: Option<u32>,
        /// Replicas of topics that are created; `None`: the broker's default.
        replication: Option<u16>,
        /// Properties of librdkafka. May hold secrets: show them through [`redacted`] only.
        properties: BTreeMap<String, String>,
        /// As on a log.
        retry_tiers: Vec<Duration>,
    },
    /// NATS with JetStream.
    Nats {
        /// As written.
        settings: Box<NatsSettings>,
        /// As on a log.
        retry_tiers: Vec<Duration>,
    },
    /// RabbitMQ, as written but for the path of certificates, which is resolved.
    RabbitMq(Box<RabbitMqSettings>),
    /// Amazon SQS, as written.
    Sqs(Box<SqsSettings>),
}

impl ConnectionConfig {
    /// How long events wait in topics between two attempts; rising. Empty where they
    /// cannot, because the broker [retains](Self::retains) none.
    pub fn retry_tiers(&self) -> &[Duration] {
        match self {
            Self::Log { retry_tiers, .. }
            | Self::Kafka { retry_tiers, .. }
            | Self::Nats { retry_tiers, .. } => retry_tiers,
            Self::RabbitMq(_) | Self::Sqs(_) => &[],
        }
    }

    /// Whether events stay after they are handled, so that topics can be read by anyone
    /// and at any time: what dead letters and notes on halted keys need.
    pub fn retains(&self) -> bool {
        match self {
            Self::Log { .. } | Self::Kafka { .. } => true,
            Self::Nats { settings, .. } => settings.at_most_once != Some(true),
            Self::RabbitMq(_) | Self::Sqs(_) => false,
        }
    }
}

impl Config {
    /// The connection called `name`, by default the default one.
    ///
    /// # Errors
    /// Where no connection has that name.
    pub fn connection(&self, name: Option<&str>) -> Result<(&str, &ConnectionConfig), ConfigError> {
        let name = name.unwrap_or(&self.default_connection);
        self.connections.get_key_value(name).map(|(n, c)| (n.as_str(), c)).ok_or_else(|| {
            ConfigError::new(format!("unknown connection `{name}`"))
                .with_help(suggestion(name, self.connections.keys().map(String::as_str)))
        })
    }

    /// The connection that keeps the dead letters of events of `connection` unless told
    /// otherwise: itself where it retains events, else the default connection, else the
    /// one embedded log.
    pub fn keeper_of<'a>(&'a self, connection: &'a str) -> &'a str {
        keeper_of(connection, &self.default_connection, &self.connections)
    }

    /// The connection where dead letters are looked for when none is named.
    pub fn dead_letter_connection(&self) -> &str {
        self.keeper_of(&self.default_connection)
    }
}

fn keeper_of<'a>(
    connection: &'a str,
    default: &'a str,
    connections: &'a BTreeMap<String, ConnectionConfig>,
) -> &'a str {
    let retains = |name: &&str| connections.get(*name).is_some_and(ConnectionConfig::retains);
    let is_log = |(_, c): &(&String, &ConnectionConfig)| matches!(c, ConnectionConfig::Log { .. });
    [connection, default].into_iter().find(retains).unwrap_or_else(|| {
        let mut logs = connections.iter().filter(is_log).map(|(name, _)| name.as_str());
        match (logs.next(), logs.next()) {
            (Some(only), None) => only,
            _ => LOCAL,
        }
    })
}

/// Adds the log [`LOCAL`] where it is named or needed and not configured.
///
/// # Errors
/// Where it is needed and something else has its name.
pub(super) fn add_local(
    text: &Text,
    settings: &FileSettings,
    data: &Path,
    default: &str,
    connections: &mut BTreeMap<String, ConnectionConfig>,
) -> Result<(), ConfigError> {
    let is_needed = connections.keys().any(|name| keeper_of(name, default, connections) == LOCAL);
    match connections.get(LOCAL) {
        Some(other) if is_needed && !other.retains() => Err(text
            .error(
                0..0,
                format!("connection `{LOCAL}` keeps no events, and that is the name of the log for dead letters"),
                "no connection of type log here",
            )
            .with_help(format!("give connection `{LOCAL}` another name, or add one of type log"))),
        None if is_needed || settings.names_connection(LOCAL) => {
            connections.insert(LOCAL.to_owned(), embedded(data, LOCAL));
            Ok(())
        }
        _ => Ok(()),
    }
}

impl FileSettings {
    /// Whether a plugin's settings or a route name the connection `wanted`.
    fn names_connection(&self, wanted: &str) -> bool {
        let plugins = self.plugin.values().chain([&self.defaults]);
        let of_plugins =
            plugins.flat_map(|s| [&s.connection, &s.output_connection, &s.dead_letter.connection]);
        let of_routes = self
            .route
            .iter()
            .flat_map(|r| [&r.from.connection, &r.to.connection, &r.dead_letter.connection]);
        of_plugins.chain(of_routes).flatten().any(|name| name.get_ref() == wanted)
    }
}

/// What is written, resolved, `folder` being that of the file.
pub(super) fn resolved(
    settings: &FileSettings,
    folder: &Path,
    data: &Path,
) -> BTreeMap<String, ConnectionConfig> {
    let tiers = |written: &Option<RetryTiers>| {
        written.as_ref().map_or_else(|| RETRY_TIERS.to_vec(), |tiers| tiers.0.clone())
    };
    let resolve = |(name, written): (&String, &ConnectionSettings)| {
        let config = match written {
            ConnectionSettings::Log(log) => ConnectionConfig::Log {
                path: data.join(log.path.clone().unwrap_or_else(|| log_file(name))),
                partitions: log.partitions.map_or(1, Into::into),
                retention_age: log
                    .retention
                    .age
                    .map_or(Some(RETENTION_AGE), |age| age.0.map(|period| period.0)),
                retention_bytes: log.retention.size.and_then(|size| size.0).map(|size| size.0),
                retry_tiers: tiers(&log.retry_tiers),
            },
            ConnectionSettings::Kafka(kafka) => ConnectionConfig::Kafka {
                brokers: kafka.brokers.get_ref().clone(),
                create_topics: kafka.create_topics.unwrap_or(false),
                partitions: kafka.partitions.map(Into::into),
                replication: kafka.replication.map(Into::into),
                properties: kafka
                    .properties
                    .iter()
                    .map(|(name, value)| (name.get_ref().clone(), value.0.clone()))
                    .collect(),
                retry_tiers: tiers(&kafka.retry_tiers),
            },
            ConnectionSettings::Nats(nats) => ConnectionConfig::Nats {
                settings: Box::new(nats.in_folder(folder)),
                retry_tiers: tiers(&nats.retry_tiers),
            },
            ConnectionSettings::RabbitMq(rabbitmq) => ConnectionConfig::RabbitMq(Box::new({
                let ca_file = rabbitmq.ca_file.as_ref().map(|file| folder.join(file));
                RabbitMqSettings { ca_file, ..rabbitmq.clone() }
            })),
            ConnectionSettings::Sqs(sqs) => ConnectionConfig::Sqs(Box::new(sqs.clone())),
        };
        (name.clone(), config)
    };
    let mut connections: BTreeMap<_, _> = settings.connections.iter().map(resolve).collect();
    if connections.is_empty() {
        connections.insert(EMBEDDED.to_owned(), embedded(data, EMBEDDED));
    }
    connections
}

/// An embedded log with every default.
fn embedded(data: &Path, name: &str) -> ConnectionConfig {
    ConnectionConfig::Log {
        path: data.join(log_file(name)),
        partitions: 1,
        retention_age: Some(RETENTION_AGE),
        retention_bytes: None,
        retry_tiers: RETRY_TIERS.to_vec(),
    }
}

fn log_file(connection: &str) -> PathBuf {
    format!("{connection}.redb").into()
}

pub(super) fn default_connection(
    text: &Text,
    settings: &FileSettings,
    connections: &BTreeMap<String, ConnectionConfig>,
) -> Result<String, ConfigError> {
    if let Some(name) = &settings.default_connection {
        known_connection(text, name, connections)?;
        return Ok(name.get_ref().clone());
    }
    let mut names = connections.keys();
    match (names.next(), names.next()) {
        (Some(only), None) => Ok(only.clone()),
        _ => Err(text
            .error(0..0, "several connections, and none is the default", "missing here")
            .with_help(format!(
                "add `default-connection = \"NAME\"` above the first table; connections: `{}`",
                connections.keys().map(String::as_str).collect::<Vec<_>>().join("`, `")
            ))),
    }
}

/// That `name` is the name of a connection.
pub(super) fn known_connection(
    text: &Text,
    name: &Spanned<String>,
    connections: &BTreeMap<String, ConnectionConfig>,
) -> Result<(), ConfigError> {
    if connections.contains_key(name.get_ref()) {
        return Ok(());
    }
    Err(text
        .error(
            name.span(),
            format!("unknown connection `{}`", name.get_ref()),
            "no connection has this name",
        )
        .with_help(suggestion(name.get_ref(), connections.keys().map(String::as_str))))
}

impl fmt::Debug for ConnectionConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log { path, partitions, retention_age, retention_bytes, retry_tiers } => f
                .debug_struct("Log")
                .field("path", path)
                .field("partitions", partitions)
                .field("retention_age", retention_age)
                .field("retention_bytes", retention_bytes)
                .field("retry_tiers", retry_tiers)
                .finish(),
            Self::Kafka {
                brokers,
                create_topics,
                partitions,
                replication,
                properties,
                retry_tiers,
            } => f
                .debug_struct("Kafka")
                .field("brokers", brokers)
                .field("create_topics", create_topics)
                .field("partitions", partitions)
                .field("replication", replication)
                .field("properties", &redacted(properties))
                .field("retry_tiers", retry_tiers)
                .finish(),
            Self::Nats { settings, retry_tiers } => f
                .debug_struct("Nats")
                .field("settings", settings)
                .field("retry_tiers", retry_tiers)
                .finish(),
            Self::RabbitMq(settings) => settings.fmt(f),
            Self::Sqs(settings) => settings.fmt(f),
        }
    }
}
