//! The configuration: `sandbar.toml`, and `NAME.toml` beside `NAME.wasm`.
//!
//! [`settings`] is what may be written, [`document`] reads it with the place of
//! every mistake, and [`Config`] is what the runtime works with: complete,
//! checked, with all paths resolved. What a single plugin gets is made by
//! [`Config::plugin`] when the plugin is known.

mod complete;
mod document;
mod env;
mod error;
mod layers;
mod plugin;
mod redact;
pub mod settings;
pub mod units;

use std::{
    collections::BTreeMap,
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

pub use error::{ConfigError, Text};
pub use layers::{Declared, SidecarFile};
pub use plugin::{DeadLetters, PluginConfig};
pub use redact::{is_secret, redacted};
pub use settings::{DeliveryMode, LogFormat, RetryThrough, WatchMode};

use env::Lookup;
pub(crate) use error::suggestion;
use settings::{ConnectionSettings, FileSettings, PluginSettings};
use toml::Spanned;
use units::RetryTiers;

/// The file that is read when none is named.
pub const FILE_NAME: &str = "sandbar.toml";

/// Name of the embedded log where no connection is configured.
pub const EMBEDDED: &str = "log";

/// How long the embedded log keeps events unless told otherwise: as long as Kafka.
const RETENTION_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long events wait in topics between two attempts, unless told otherwise.
const RETRY_TIERS: [Duration; 3] =
    [Duration::from_secs(5), Duration::from_secs(30), Duration::from_secs(5 * 60)];

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file that it was read from; `None`: the built-in defaults.
    pub file: Option<PathBuf>,
    /// Folder of the plugins.
    pub plugins_folder: PathBuf,
    /// Folder of the embedded log, the cache of compiled plugins and `admin.addr`.
    pub data_folder: PathBuf,
    /// The file that remembers handled events of connections that cannot do so themselves.
    pub marks: PathBuf,
    /// How long events in work may take to finish at shutdown.
    pub shutdown_timeout: Duration,
    /// What a plugin's name is prefixed with to make its group.
    pub group_prefix: String,
    /// The connection of plugins that name none; a key of `connections`.
    pub default_connection: String,
    /// Address of the admin listener, `None` where it is off.
    pub admin: Option<SocketAddr>,
    /// The runtime's own log.
    pub logging: Logging,
    /// How the plugins folder is watched.
    pub watch: Watch,
    /// The brokers, by name; never empty.
    pub connections: BTreeMap<String, ConnectionConfig>,
    /// What `defaults` and `plugins` were read from, for the place of mistakes that show
    /// only when a plugin's settings are put together.
    text: Text,
    defaults: PluginSettings,
    plugins: BTreeMap<String, PluginSettings>,
}

/// The runtime's own log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logging {
    /// Level or filter, in the syntax of `tracing-subscriber`'s `EnvFilter`.
    pub level: String,
    /// Form of the lines.
    pub format: LogFormat,
}

/// How the plugins folder is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    /// Notifications of the operating system, or polling.
    pub mode: WatchMode,
    /// Time between two looks when polling.
    pub interval: Duration,
    /// How long a file must be left alone before it is read.
    pub debounce: Duration,
}

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
}

impl ConnectionConfig {
    /// How long events wait in topics between two attempts; rising, never empty.
    pub fn retry_tiers(&self) -> &[Duration] {
        match self {
            Self::Log { retry_tiers, .. } | Self::Kafka { retry_tiers, .. } => retry_tiers,
        }
    }
}

/// What the command line says over the file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Folder of the plugins, relative to the working directory.
    pub plugins: Option<PathBuf>,
    /// Data folder, relative to the working directory.
    pub data: Option<PathBuf>,
    /// Address of the admin listener.
    pub admin: Option<SocketAddr>,
    /// Level or filter of the runtime's log.
    pub log_level: Option<String>,
    /// Form of the runtime's log.
    pub log_format: Option<LogFormat>,
}

impl Config {
    /// Reads the file at `path`; without one, `sandbar.toml` in the working
    /// directory if it exists, else the built-in defaults.
    ///
    /// # Errors
    /// The first mistake found, or that the file cannot be read.
    pub fn load(path: Option<&Path>, overrides: &Overrides) -> Result<Self, ConfigError> {
        let (path, required) = path.map_or((Path::new(FILE_NAME), false), |p| (p, true));
        match std::fs::read_to_string(path) {
            Ok(text) => {
                let folder = path.parent().unwrap_or_else(|| Path::new(""));
                let text = Text::new(path.display().to_string(), text);
                let mut config = Self::parse(&text, folder, overrides, &env::process)?;
                config.file = Some(path.to_owned());
                Ok(config)
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !required => {
                Self::parse(&Text::new(FILE_NAME, ""), Path::new(""), overrides, &env::process)
            }
            Err(e) => Err(ConfigError::unreadable(path, &e)
                .with_help("`sandbar init` writes a file to begin with")),
        }
    }

    /// Checks the text of a `sandbar.toml` that lies in `folder`.
    ///
    /// # Errors
    /// The first mistake found.
    pub fn parse(
        text: &Text,
        folder: &Path,
        overrides: &Overrides,
        lookup: &Lookup<'_>,
    ) -> Result<Self, ConfigError> {
        let settings = document::file(text, lookup)?;
        let in_folder = |given: &Option<PathBuf>, default: &str| {
            folder.join(given.as_deref().unwrap_or_else(|| Path::new(default)))
        };
        let data_folder =
            overrides.data.clone().unwrap_or_else(|| in_folder(&settings.data, "data"));
        let plugins_folder =
            overrides.plugins.clone().unwrap_or_else(|| in_folder(&settings.plugins, "plugins"));
        let connections = connections(&settings, &data_folder);
        let default_connection = default_connection(text, &settings, &connections)?;
        for plugin in settings.plugin.values().chain([&settings.defaults]) {
            layers::check(text, plugin, &connections)?;
        }
        let marks = marks(text, &settings, &data_folder, &connections)?;
        let admin =
            settings.admin.listen.map_or((Ipv4Addr::LOCALHOST, 7070).into(), |address| address.0);
        let level = logging_level(text, settings.logging.level.as_ref())?;
        Ok(Self {
            file: None,
            plugins_folder,
            data_folder,
            marks,
            shutdown_timeout: settings.shutdown_timeout.map_or(Duration::from_secs(30), |p| p.0),
            group_prefix: settings.group_prefix.map_or_else(|| "sandbar.".into(), |p| p.0),
            default_connection,
            admin: overrides
                .admin
                .or_else(|| settings.admin.enabled.unwrap_or(true).then_some(admin)),
            logging: Logging {
                level: overrides.log_level.clone().unwrap_or(level),
                format: overrides.log_format.or(settings.logging.format).unwrap_or_default(),
            },
            watch: Watch {
                mode: settings.watch.mode.unwrap_or_default(),
                interval: settings.watch.interval.map_or(Duration::from_millis(500), |p| p.0),
                debounce: settings.watch.debounce.map_or(Duration::from_millis(200), |p| p.0),
            },
            connections,
            text: text.clone(),
            defaults: settings.defaults,
            plugins: settings.plugin,
        })
    }

    /// The file in which a running runtime leaves the address of its admin listener.
    pub fn admin_address_file(&self) -> PathBuf {
        self.data_folder.join("admin.addr")
    }

    /// Names of the plugins that have a `[plugin.NAME]` of their own.
    pub fn configured_plugins(&self) -> impl Iterator<Item = &str> {
        self.plugins.keys().map(String::as_str)
    }

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
}

fn connections(settings: &FileSettings, data: &Path) -> BTreeMap<String, ConnectionConfig> {
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
        };
        (name.clone(), config)
    };
    let mut connections: BTreeMap<_, _> = settings.connections.iter().map(resolve).collect();
    if connections.is_empty() {
        let embedded = ConnectionConfig::Log {
            path: data.join(log_file(EMBEDDED)),
            partitions: 1,
            retention_age: Some(RETENTION_AGE),
            retention_bytes: None,
            retry_tiers: RETRY_TIERS.to_vec(),
        };
        connections.insert(EMBEDDED.to_owned(), embedded);
    }
    connections
}

fn log_file(connection: &str) -> PathBuf {
    format!("{connection}.redb").into()
}

/// The file of marks, which no connection may have as its own.
fn marks(
    text: &Text,
    settings: &FileSettings,
    data: &Path,
    connections: &BTreeMap<String, ConnectionConfig>,
) -> Result<PathBuf, ConfigError> {
    let written = settings.marks.as_ref();
    let marks = data.join(written.map_or(Path::new("marks.redb"), |path| path.get_ref()));
    let is_taken = |(_, connection): &(&String, &ConnectionConfig)| matches!(connection, ConnectionConfig::Log { path, .. } if *path == marks);
    match connections.iter().find(is_taken) {
        None => Ok(marks),
        Some((name, _)) => Err(text
            .error(
                written.map_or(0..0, Spanned::span),
                format!("{} is the file of connection `{name}`", marks.display()),
                "marks need a file of their own",
            )
            .with_help("name another file as `marks`, above the first table")),
    }
}

fn default_connection(
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
fn known_connection(
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

fn logging_level(text: &Text, written: Option<&Spanned<String>>) -> Result<String, ConfigError> {
    let Some(level) = written else { return Ok("info".to_owned()) };
    tracing_subscriber::EnvFilter::try_new(level.get_ref()).map_err(|e| {
        text.error(
            level.span(),
            format!("`{}` is no log level or filter", level.get_ref()),
            e.to_string(),
        )
        .with_help("write error, warn, info, debug, trace, or `info,sandbar_pipeline=debug`")
    })?;
    Ok(level.get_ref().clone())
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
        }
    }
}

#[cfg(test)]
mod delivery_tests;
#[cfg(test)]
mod mistakes;
#[cfg(test)]
mod tests;
