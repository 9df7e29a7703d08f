//! The configuration as it is written: every key optional, nothing resolved.

mod plugin;

use std::{
    collections::BTreeMap,
    num::{NonZeroU16, NonZeroU32},
    path::PathBuf,
};

use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

pub use plugin::{
    BreakerSettings, DeadLetterSettings, DedupSettings, DeliveryMode, DialectSetting,
    ExhaustedSetting, LimitSettings, OnDeadLetterSetting, OrderingSetting, PluginSettings,
    RetrySettings, RetryThrough, StartSetting,
};

use super::units::{
    Address, ConfigText, GroupPrefix, OrUnlimited, Period, PositivePeriod, RetryTiers, Size,
};

/// `sandbar.toml`. Without the file, every key has its default.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[schemars(title = "sandbar.toml")]
pub struct FileSettings {
    /// Folder of the plugins: `NAME.wasm` and, optionally, `NAME.toml` beside it.
    /// Relative to this file; `plugins` by default.
    pub plugins: Option<PathBuf>,
    /// Folder of the embedded log and the cache of compiled plugins. Relative to
    /// this file; `data` by default.
    pub data: Option<PathBuf>,
    /// The file that remembers handled events (`dedup`) of connections that cannot do
    /// so themselves. Relative to the data folder; `marks.redb` by default.
    #[schemars(with = "Option<String>")]
    pub marks: Option<Spanned<PathBuf>>,
    /// The connection of plugins that name none. May be left out where only one
    /// connection is configured.
    #[schemars(with = "Option<String>")]
    pub default_connection: Option<Spanned<String>>,
    /// How long events in work may take to finish when the runtime stops; `30s` by default.
    pub shutdown_timeout: Option<Period>,
    /// What a plugin's name is prefixed with to make its consumer group; `sandbar.` by default.
    pub group_prefix: Option<GroupPrefix>,
    /// The HTTP listener for health, metrics and administration.
    pub admin: AdminSettings,
    /// What the runtime writes about itself.
    pub logging: LoggingSettings,
    /// How the plugins folder is watched.
    pub watch: WatchSettings,
    /// The brokers, by name.
    pub connections: BTreeMap<String, ConnectionSettings>,
    /// Settings of every plugin, unless the plugin has its own.
    pub defaults: PluginSettings,
    /// Settings of single plugins, by plugin name (the file's name without `.wasm`).
    pub plugin: BTreeMap<String, PluginSettings>,
}

/// `[admin]`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct AdminSettings {
    /// `false` turns the listener off.
    pub enabled: Option<bool>,
    /// Address and port; `127.0.0.1:7070` by default. Port 0 takes a free one.
    pub listen: Option<Address>,
}

/// `[logging]`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct LoggingSettings {
    /// Level, or a filter such as `info,sandbar_pipeline=debug`; `info` by default.
    #[schemars(with = "Option<String>")]
    pub level: Option<Spanned<String>>,
    /// Form of the lines; `text` by default.
    pub format: Option<LogFormat>,
}

/// Form of the runtime's own log lines.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    Deserialize,
    serde::Serialize,
    JsonSchema,
    clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people, coloured on a terminal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `[watch]`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct WatchSettings {
    /// `native` asks the operating system; `poll` looks again and again, for
    /// network mounts. `native` by default.
    pub mode: Option<WatchMode>,
    /// Time between two looks in `poll` mode; `500ms` by default.
    pub interval: Option<PositivePeriod>,
    /// How long a file must be left alone before it is read; `200ms` by default.
    pub debounce: Option<Period>,
}

/// How the plugins folder is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WatchMode {
    /// Notifications of the operating system.
    #[default]
    Native,
    /// A look every interval.
    Poll,
}

/// `[connections.NAME]`: one broker.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ConnectionSettings {
    /// The embedded durable log.
    Log(LogSettings),
    /// Apache Kafka, or what speaks its protocol.
    Kafka(KafkaSettings),
}

/// A connection of type `log`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct LogSettings {
    /// Where the log is kept. Relative to the data folder; named after the
    /// connection by default.
    pub path: Option<PathBuf>,
    /// Partitions of topics that are created; 1 by default.
    pub partitions: Option<NonZeroU32>,
    /// How long events stay, whether they were handled or not.
    pub retention: RetentionSettings,
    /// How long events wait in topics whose `retry.through` is `topics`: one topic for
    /// each delay, for all plugins together. `["5s", "30s", "5m"]` by default.
    pub retry_tiers: Option<RetryTiers>,
}

/// What a log keeps. The limit that is reached first counts.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RetentionSettings {
    /// Events older than this are removed, or `unlimited`; `7d` by default.
    pub age: Option<OrUnlimited<Period>>,
    /// The oldest events of a topic that holds more than this are removed, or
    /// `unlimited`, which is the default.
    pub size: Option<OrUnlimited<Size>>,
}

/// A connection of type `kafka`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct KafkaSettings {
    /// Addresses to start from: `host:port`, separated by commas.
    #[schemars(with = "String")]
    pub brokers: Spanned<String>,
    /// Whether topics that do not exist are created; `false` by default.
    #[serde(default)]
    pub create_topics: Option<bool>,
    /// Partitions of topics that are created; the broker's default if left out.
    #[serde(default)]
    pub partitions: Option<NonZeroU32>,
    /// Replicas of topics that are created; the broker's default if left out.
    #[serde(default)]
    pub replication: Option<NonZeroU16>,
    /// Properties of librdkafka (`security.protocol`, `sasl.username`, ...), handed on as they are.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, ConfigText>")]
    pub properties: BTreeMap<Spanned<String>, ConfigText>,
    /// How long events wait in topics whose `retry.through` is `topics`: one topic for
    /// each delay, for all plugins together. `["5s", "30s", "5m"]` by default.
    #[serde(default)]
    pub retry_tiers: Option<RetryTiers>,
}
