//! Settings of a plugin as they are written.

use std::{
    collections::BTreeMap,
    num::{NonZeroU32, NonZeroU64, NonZeroUsize},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::reach::{HttpSettings, SecretSettings};
use crate::config::units::{
    ConfigText, Factor, Fraction, GroupName, MemorySize, Period, PositivePeriod, Size, TopicName,
    TopicPattern,
};

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
    pub group: Option<GroupName>,
    /// Where a plugin without a cursor begins; `earliest` by default.
    pub start: Option<StartSetting>,
    /// Which events are handled one after the other; `key` by default.
    pub ordering: Option<OrderingSetting>,
    /// Whether what it publishes and its position become visible together;
    /// `at-least-once` by default.
    pub delivery: Option<DeliveryMode>,
    /// Events handled at once; 8 by default.
    pub concurrency: Option<NonZeroUsize>,
    /// How long an instance lives, and so what one event can leave behind for the next;
    /// `warm` by default.
    pub isolation: Option<IsolationSetting>,
    /// Unfinished events per partition before intake pauses; 1024 by default, and 4096
    /// where delivery is exactly-once.
    pub max_in_flight: Option<NonZeroUsize>,
    /// Capabilities beyond context, logging and config: `clocks`, `random`, ...
    #[schemars(with = "Option<Vec<String>>")]
    pub grants: Option<Vec<Spanned<String>>>,
    /// Secrets that the plugin may read, by name: where they are, never what they are.
    #[schemars(with = "BTreeMap<String, SecretSettings>")]
    pub secrets: BTreeMap<String, Spanned<SecretSettings>>,
    /// Where the plugin may send HTTP requests; nowhere by default.
    pub http: HttpSettings,
    /// What the plugin reads through `wasi:config`.
    pub config: BTreeMap<String, ConfigText>,
    /// What follows the errors of a component that was built for other hosts.
    pub on_error: OnErrorSettings,
    /// What follows a failed attempt.
    pub retry: RetrySettings,
    /// What follows the last failed attempt.
    pub dead_letter: DeadLetterSettings,
    /// Whether events that were handled before are recognised and passed over.
    pub dedup: DedupSettings,
    /// When to stop trying because nothing works.
    pub breaker: BreakerSettings,
    /// What one call may use.
    pub limits: LimitSettings,
}

/// `on-error = { .. }`, for components of `wasi:messaging` and `wasmcloud:messaging`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct OnErrorSettings {
    /// After `timeout`; `retry` by default.
    pub timeout: Option<OnErrorSetting>,
    /// After `connection`; `retry` by default.
    pub connection: Option<OnErrorSetting>,
    /// After `permission-denied`; `reject` by default.
    pub permission_denied: Option<OnErrorSetting>,
    /// After any other error; `retry` by default.
    pub other: Option<OnErrorSetting>,
}

/// What follows an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnErrorSetting {
    /// Another attempt, by the retry policy.
    Retry,
    /// A dead letter at once.
    Reject,
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
    /// Where an event waits for its next attempt; `memory` by default. `topics` needs
    /// `ordering = "none"`.
    #[schemars(with = "Option<RetryThrough>")]
    pub through: Option<Spanned<RetryThrough>>,
}

/// `dead-letter = { .. }`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct DeadLetterSettings {
    /// Topic of the dead letters; `NAME.dlq` by default.
    pub topic: Option<TopicName>,
    /// Connection of the dead letters; by default the one that the event came from, or the
    /// nearest that retains events where that does not.
    #[schemars(with = "Option<String>")]
    pub connection: Option<Spanned<String>>,
    /// Whose headers are written in addition to Kafka's and our own; `none` by default.
    pub dialect: Option<DialectSetting>,
    /// What becomes of an event whose attempts are used up; `dead-letter` by default.
    pub on_exhausted: Option<ExhaustedSetting>,
    /// What becomes of later events of a key that has a dead letter; `continue` by default.
    #[schemars(with = "Option<OnDeadLetterSetting>")]
    pub on_dead_letter: Option<Spanned<OnDeadLetterSetting>>,
    /// A dead letter that was sent back so many times stays where it is; 3 by default,
    /// 0 sends none back.
    pub max_redrives: Option<u32>,
}

/// `dedup = { .. }`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct DedupSettings {
    /// How long a handled event is remembered; one that comes again within this time is
    /// passed over. `0s`, the default, remembers none.
    pub window: Option<Period>,
}

/// `breaker = { .. }`: a subscription whose attempts all fail pauses, then probes with
/// one event at a time until one gets an answer.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct BreakerSettings {
    /// Attempts in a row that fail and could be repeated before it pauses; 0, the
    /// default, never pauses.
    pub failures: Option<u32>,
    /// First pause; doubles with each probe that fails. `1s` by default.
    pub pause: Option<PositivePeriod>,
    /// Longest pause; `30s` by default, or `pause` where that is longer.
    #[schemars(with = "Option<PositivePeriod>")]
    pub max_pause: Option<Spanned<PositivePeriod>>,
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
    /// Keys of state that a plugin may have; 100000 by default.
    pub state_keys: Option<NonZeroU64>,
    /// Bytes of state that a plugin may have, keys and values; `64MiB` by default.
    pub state_bytes: Option<Size>,
    /// Series of its own metrics that a plugin may have; 200 by default.
    pub metric_series: Option<NonZeroUsize>,
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

/// How long an instance of a plugin lives.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum IsolationSetting {
    /// For many events, until it traps or hits a limit.
    Warm,
    /// For the events that are handed over together.
    PerBatch,
    /// For one attempt at one event.
    PerEvent,
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

/// What a plugin's outputs and its position have to do with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DeliveryMode {
    /// Outputs become visible before the position: a crash in between repeats them.
    #[default]
    AtLeastOnce,
    /// Both become visible in one step, where both are on one connection.
    ExactlyOnce,
}

/// Where an event waits for its next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RetryThrough {
    /// In memory: it holds back later events of its key, and counts as unfinished.
    #[default]
    Memory,
    /// In a topic of the connection (`retry-tiers`), where its delay is as long as that
    /// topic's: it holds back nothing.
    Topics,
}

/// What becomes of later events of a key that has a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnDeadLetterSetting {
    /// They are handled.
    Continue,
    /// They follow it to the dead-letter topic, until the key is released.
    HaltKey,
}
