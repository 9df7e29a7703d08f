//! The configuration as it is written: every key optional, nothing resolved.

use std::{
    collections::BTreeMap,
    num::{NonZeroU16, NonZeroU32, NonZeroUsize},
    path::PathBuf,
};

use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

use super::units::{
    Address, ConfigText, Factor, Fraction, MemorySize, OrUnlimited, Period, PositivePeriod, Size,
    TopicName, TopicPattern,
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
    /// The connection of plugins that name none. May be left out where only one
    /// connection is configured.
    #[schemars(with = "Option<String>")]
    pub default_connection: Option<Spanned<String>>,
    /// How long events in work may take to finish when the runtime stops; `30s` by default.
    pub shutdown_timeout: Option<Period>,
    /// What a plugin's name is prefixed with to make its consumer group; `sandbar.` by default.
    pub group_prefix: Option<String>,
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
}

/// Settings of a plugin: `[defaults]`, `[plugin.NAME]` and `NAME.toml` share this form.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[schemars(title = "NAME.toml beside NAME.wasm")]
pub struct PluginSettings {
    /// `false` leaves the plugin unloaded; its cursor is kept.
    pub enabled: Option<bool>,
    /// The connection that its events come from; `default-connection` by default.
    #[schemars(with = "Option<String>")]
    pub connection: Option<Spanned<String>>,
    /// Topics it is subscribed to: exact names, or globs with `*`. What the plugin says by default.
    pub topics: Option<Vec<TopicPattern>>,
    /// Topics it may publish to: exact names, or globs with `*`. What the plugin says by default.
    pub publish: Option<Vec<TopicPattern>>,
    /// Where its outputs go; the connection that the event came from by default.
    #[schemars(with = "Option<String>")]
    pub output_connection: Option<Spanned<String>>,
    /// Consumer group or cursor; `sandbar.NAME` by default. Two plugins must not share one.
    pub group: Option<String>,
    /// Where a plugin without a cursor begins; `earliest` by default.
    pub start: Option<StartSetting>,
    /// Which events are handled one after the other; `key` by default.
    pub ordering: Option<OrderingSetting>,
    /// Events handled at once; 8 by default.
    pub concurrency: Option<NonZeroUsize>,
    /// Unfinished events per partition before intake pauses; 1024 by default.
    pub max_in_flight: Option<NonZeroUsize>,
    /// Capabilities beyond context, logging and config: `clocks`, `random`, ...
    #[schemars(with = "Option<Vec<String>>")]
    pub grants: Option<Vec<Spanned<String>>>,
    /// What the plugin reads through `wasi:config`.
    pub config: BTreeMap<String, ConfigText>,
    /// What follows a failed attempt.
    pub retry: RetrySettings,
    /// What follows the last failed attempt.
    pub dead_letter: DeadLetterSettings,
    /// What one call may use.
    pub limits: LimitSettings,
}

/// `retry = { .. }`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RetrySettings {
    /// Attempts in all, the first included; 5 by default.
    pub max_attempts: Option<NonZeroU32>,
    /// Time between the first attempt and the second; `200ms` by default.
    pub initial_delay: Option<Period>,
    /// Longest time between two attempts; `30s` by default.
    pub max_delay: Option<Period>,
    /// How much longer each delay is than the one before; 2 by default.
    pub multiplier: Option<Factor>,
    /// Share of a delay that is left to chance; 0.2 by default.
    pub jitter: Option<Fraction>,
    /// No attempt is started later than this after the first; `1h` by default.
    pub max_age: Option<Period>,
}

/// `dead-letter = { .. }`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct DeadLetterSettings {
    /// Topic of the dead letters; `NAME.dlq` by default.
    pub topic: Option<TopicName>,
    /// Connection of the dead letters; the one that the event came from by default.
    #[schemars(with = "Option<String>")]
    pub connection: Option<Spanned<String>>,
    /// Whose headers are written in addition to Kafka's and our own; `none` by default.
    pub dialect: Option<DialectSetting>,
    /// What becomes of an event whose attempts are used up; `dead-letter` by default.
    pub on_exhausted: Option<ExhaustedSetting>,
}

/// `limits = { .. }`. All are on by default.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct LimitSettings {
    /// CPU time of one call; `1s` by default.
    pub cpu_time: Option<PositivePeriod>,
    /// Time of one call, waiting included; `10s` by default.
    pub wall_time: Option<PositivePeriod>,
    /// Memory of one instance; `64MiB` by default.
    pub memory: Option<MemorySize>,
    /// Events that one call may return; 1000 by default.
    pub output_records: Option<NonZeroUsize>,
    /// Bytes that one call may return; `4MiB` by default.
    pub output_bytes: Option<Size>,
    /// Lines that a plugin may log in a second; 100 by default.
    pub log_lines_per_second: Option<NonZeroU32>,
    /// Time to make an instance and run its `init`; `10s` by default.
    pub init_time: Option<PositivePeriod>,
}

/// Where a plugin without a cursor begins.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StartSetting {
    /// At the oldest event that is kept.
    Earliest,
    /// At the events that arrive from now on.
    Latest,
}

/// Which events are handled one after the other.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OrderingSetting {
    /// Those of one topic with equal keys.
    Key,
    /// Those of one partition.
    Partition,
    /// None.
    None,
}

/// What becomes of an event whose attempts are used up.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ExhaustedSetting {
    /// It goes to the dead-letter topic.
    DeadLetter,
    /// The plugin stops until it is replaced or the runtime restarts.
    Halt,
    /// It is dropped and counted.
    Drop,
}

/// A family of dead-letter headers.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DialectSetting {
    /// Only Kafka's and our own.
    None,
    /// Spring Kafka's.
    Spring,
    /// Kafka Connect's.
    Connect,
    /// Kafka Streams'.
    Streams,
}
