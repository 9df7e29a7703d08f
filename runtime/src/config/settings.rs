//! The configuration as it is written: every key optional, nothing resolved.

mod connection;
mod plugin;
mod reach;
mod route;

use std::{collections::BTreeMap, num::NonZeroU32, path::PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

pub use connection::{
    ConnectionSettings, ExchangeSetting, KafkaSettings, LogSettings, NatsSettings, QueueArgument,
    RabbitMqSettings, RedriveSetting, RetentionSettings, SqsSettings,
};
pub use plugin::{
    BreakerSettings, DeadLetterSettings, DedupSettings, DeliveryMode, DialectSetting,
    ExhaustedSetting, IsolationSetting, LimitSettings, OnDeadLetterSetting, OnErrorSetting,
    OnErrorSettings, OrderingSetting, PluginSettings, RetrySettings, RetryThrough, StartSetting,
};
pub use reach::{AllowAtSetting, AllowSetting, HttpSettings, InjectSettings, SecretSettings};
pub use route::{RouteEnd, RouteSettings, RouteStart};

use super::units::{Address, GroupPrefix, Period, PositivePeriod};

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
    /// The file that remembers handled events (`dedup`) and holds the state of plugins for
    /// connections that cannot do so themselves. Relative to the data folder; `marks.redb`
    /// by default.
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
    /// What all plugins share.
    pub engine: EngineSettings,
    /// The brokers, by name.
    pub connections: BTreeMap<String, ConnectionSettings>,
    /// Settings of every plugin, unless the plugin has its own.
    pub defaults: PluginSettings,
    /// Settings of single plugins, by plugin name (the file's name without `.wasm`).
    pub plugin: BTreeMap<String, PluginSettings>,
    /// What is passed on from one connection to another without a plugin.
    pub route: Vec<RouteSettings>,
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

/// `[engine]`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct EngineSettings {
    /// Instances that may live at once, all plugins together: a busy plugin has up to
    /// `concurrency` of them. Each reserves 4 GiB of address space, not memory; 2000 by default.
    pub max_instances: Option<NonZeroU32>,
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
