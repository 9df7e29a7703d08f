//! What one plugin gets, complete. [`layers`](super::layers) says from where.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use sandbar_core::{StartAt, reserved};
use sandbar_pipeline::{
    Breaker, Dialect, OnDeadLetter, OnExhausted, Ordering, RetryPolicy, RetryTier,
};
use sandbar_wasm::{Grant, Isolation, Limits, OnErrors};

use super::{HttpConfig, ROUTE, SecretSource, redacted, settings::DeliveryMode};

/// What one plugin gets, complete.
#[derive(Clone, PartialEq)]
pub struct PluginConfig {
    /// Plugin name: the file's name without `.wasm`.
    pub name: String,
    /// Whether it is loaded at all.
    pub enabled: bool,
    /// The connection that its events come from.
    pub connection: String,
    /// Topics it is subscribed to: exact names or globs; never empty.
    pub topics: Vec<String>,
    /// Topics it may publish to: exact names or globs.
    pub publish: Vec<String>,
    /// Where outputs go that name no connection.
    pub output_connection: String,
    /// Consumer group or cursor.
    pub group: String,
    /// Where it begins without a cursor.
    pub start: StartAt,
    /// Which events are handled one after the other.
    pub ordering: Ordering,
    /// Whether outputs and position become visible together.
    pub delivery: DeliveryMode,
    /// Events handled at once.
    pub concurrency: usize,
    /// How long an instance lives.
    pub isolation: Isolation,
    /// Unfinished events per partition before intake pauses.
    pub max_in_flight: usize,
    /// Capabilities beyond context, logging and config.
    pub grants: BTreeSet<Grant>,
    /// Where the secrets are that it may read.
    pub secrets: BTreeMap<String, SecretSource>,
    /// Where it may send requests.
    pub http: Option<HttpConfig>,
    /// What it reads through `wasi:config`. May hold secrets.
    pub config: BTreeMap<String, String>,
    /// What follows the errors of a component that was built for other hosts.
    pub on_error: OnErrors,
    /// What follows a failed attempt.
    pub retry: RetryPolicy,
    /// The topics in which events wait for their next attempt, from short to long;
    /// empty: they wait in memory.
    pub retry_tiers: Vec<RetryTier>,
    /// What follows the last failed attempt.
    pub dead_letter: DeadLetters,
    /// Connection of its notes on halted keys: its own where that retains events, else
    /// that of its dead letters.
    pub notes_connection: String,
    /// How long handled events are remembered; `None`: not at all.
    pub dedup: Option<Duration>,
    /// When to stop trying because nothing works.
    pub breaker: Breaker,
    /// What one call may use.
    pub limits: Limits,
}

/// Where events go whose attempts are used up.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetters {
    /// Topic.
    pub topic: String,
    /// Connection of the topic.
    pub connection: String,
    /// Whose headers are written in addition to Kafka's and our own.
    pub dialect: Dialect,
    /// What becomes of such events.
    pub on_exhausted: OnExhausted,
    /// What becomes of later events of the same key.
    pub on_dead_letter: OnDeadLetter,
    /// A dead letter that was redriven so often is not sent again.
    pub max_redrives: u32,
}

impl PluginConfig {
    /// Whether it is a route, which is named with [`ROUTE`] first.
    pub fn is_route(&self) -> bool {
        self.name.starts_with(ROUTE)
    }

    /// Topic of its dead letters, `None` where it makes none.
    pub fn dead_letter_topic(&self) -> Option<&str> {
        (self.dead_letter.on_exhausted == OnExhausted::DeadLetter)
            .then_some(self.dead_letter.topic.as_str())
    }

    /// The topic of events that it alone is to handle.
    pub fn inbox(&self) -> String {
        reserved::inbox(&self.group)
    }

    /// Whether a dead letter halts its key, and so the topic of halted keys is needed.
    pub fn halts_keys(&self) -> bool {
        self.dead_letter_topic().is_some()
            && self.dead_letter.on_dead_letter == OnDeadLetter::HaltKey
    }

    /// What is allowed and may still not be what was meant, a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let exactly_once = self.delivery == DeliveryMode::ExactlyOnce;
        let mut elsewhere = |what: &str, connection: &str| {
            if exactly_once && connection != self.connection {
                warnings.push(format!(
                    "`delivery = \"exactly-once\"` ends at connection `{}`: {what} go to `{connection}` and are at-least-once",
                    self.connection
                ));
            }
        };
        elsewhere("its outputs", &self.output_connection);
        if self.dead_letter_topic().is_some() {
            elsewhere("its dead letters", &self.dead_letter.connection);
        } else if self.dead_letter.on_dead_letter == OnDeadLetter::HaltKey {
            warnings.push(
                "`dead-letter.on-dead-letter = \"halt-key\"` has no effect: `on-exhausted` makes no dead letters".into(),
            );
        }
        let shortest = self.retry_tiers.first().map(|tier| tier.delay);
        if let Some(shortest) = shortest.filter(|delay| self.retry.max_delay < *delay) {
            warnings.push(format!(
                "`retry.through = \"topics\"` has no effect: `retry.max-delay` ({}) is shorter than the shortest of `retry-tiers` ({})",
                humantime::format_duration(self.retry.max_delay),
                humantime::format_duration(shortest)
            ));
        }
        warnings
    }
}

impl fmt::Debug for PluginConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PluginConfig")
            .field("name", &self.name)
            .field("connection", &self.connection)
            .field("topics", &self.topics)
            .field("publish", &self.publish)
            .field("group", &self.group)
            .field("config", &redacted(&self.config))
            .finish_non_exhaustive()
    }
}
