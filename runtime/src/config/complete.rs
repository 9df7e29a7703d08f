//! From merged settings to a plugin's configuration: defaults put in, connections
//! looked up, and what contradicts itself refused.

use std::{ops::Range, time::Duration};

use sandbar_core::{StartAt, reserved};
use sandbar_pipeline::{
    Breaker, Dialect, OnDeadLetter, OnExhausted, Ordering, RetryPolicy, RetryTier,
    SubscriptionConfig, topic_matches,
};
use sandbar_wasm::{ForeignError, Isolation, Limits, OnError, OnErrors};
use toml::Spanned;

use super::{
    Config, ConfigError, ConnectionConfig, DeadLetters, FILE_NAME, PluginConfig, ROUTE,
    error::suggestion,
    layers::{Layer, mistake},
    reach,
    settings::{
        BreakerSettings, DeadLetterSettings, DeliveryMode, DialectSetting, ExhaustedSetting,
        IsolationSetting, LimitSettings, OnDeadLetterSetting, OnErrorSetting, OnErrorSettings,
        OrderingSetting, PluginSettings, RetrySettings, RetryThrough, StartSetting,
    },
    units::TopicPattern,
};

/// A dead letter that comes back again and again is a loop, not bad luck.
const MAX_REDRIVES: u32 = 3;

/// Unfinished events of a partition where outputs and positions become visible together: all that
/// have gathered go into the next transaction, which costs the same however many they are.
const TRANSACTION: usize = 4096;

/// Everything that plugin `name` gets, `merged` being what `layers` come to.
///
/// # Errors
/// As [`Config::plugin`].
pub(super) fn complete(
    config: &Config,
    name: &str,
    merged: PluginSettings,
    layers: &[Layer<'_>],
) -> Result<PluginConfig, ConfigError> {
    let new = Completion { config, name, layers };
    let s = merged;
    let input = new.connection(s.connection, &config.default_connection)?;
    let topics = names(s.topics);
    if topics.is_empty() {
        return Err(ConfigError::new(format!("plugin `{name}` is subscribed to no topic"))
            .with_help(format!("set `topics = [\"...\"]` in {name}.toml")));
    }
    let ordering = match s.ordering {
        Some(OrderingSetting::Partition) => Ordering::Partition,
        Some(OrderingSetting::None) => Ordering::None,
        Some(OrderingSetting::Key) | None => Ordering::Key,
    };
    let built_in = SubscriptionConfig::new(name, input.as_str());
    let delivery = s.delivery.unwrap_or_default();
    let in_flight = match delivery {
        DeliveryMode::ExactlyOnce => TRANSACTION,
        DeliveryMode::AtLeastOnce => built_in.max_in_flight,
    };
    let dead_letter = new.dead_letters(s.dead_letter, &input, &topics, ordering)?;
    let keeps_notes = if new.retains(&input) { &input } else { &dead_letter.connection };
    Ok(PluginConfig {
        enabled: s.enabled.unwrap_or(true),
        notes_connection: keeps_notes.clone(),
        dead_letter,
        topics,
        publish: names(s.publish),
        output_connection: new.connection(s.output_connection, &input)?,
        group: s.group.map_or_else(|| format!("{}{name}", config.group_prefix), |g| g.0),
        start: match s.start {
            Some(StartSetting::Latest) => StartAt::Latest,
            Some(StartSetting::Earliest) | None => StartAt::Earliest,
        },
        ordering,
        delivery,
        concurrency: s.concurrency.map_or(built_in.concurrency, Into::into),
        isolation: match s.isolation {
            Some(IsolationSetting::PerEvent) => Isolation::PerEvent,
            Some(IsolationSetting::PerBatch) => Isolation::PerBatch,
            Some(IsolationSetting::Warm) | None => Isolation::Warm,
        },
        max_in_flight: s.max_in_flight.map_or(in_flight, Into::into),
        grants: s.grants.iter().flatten().filter_map(|g| g.get_ref().parse().ok()).collect(),
        secrets: reach::secrets(&s.secrets),
        http: reach::http(name, &s.http, layers)?,
        config: s.config.into_iter().map(|(key, value)| (key, value.0)).collect(),
        on_error: on_error(&s.on_error),
        retry: retry(&s.retry),
        retry_tiers: new.retry_tiers(&s.retry, &input, ordering)?,
        dedup: s.dedup.window.map(|window| window.0).filter(|window| !window.is_zero()),
        breaker: new.breaker(&s.breaker)?,
        limits: limits(&s.limits),
        connection: input,
        name: name.to_owned(),
    })
}

/// The plugin whose settings are completed.
struct Completion<'a> {
    config: &'a Config,
    name: &'a str,
    layers: &'a [Layer<'a>],
}

impl Completion<'_> {
    /// The connection that was named, or the default.
    fn connection(
        &self,
        given: Option<Spanned<String>>,
        default: &str,
    ) -> Result<String, ConfigError> {
        let Self { config, name, .. } = self;
        let connection = given.map_or_else(|| default.to_owned(), Spanned::into_inner);
        // the operator's were checked with their place in a file; what the plugin says was not
        match config.connections.contains_key(&connection) {
            true => Ok(connection),
            false => Err(ConfigError::new(format!(
                "plugin `{name}` asks for the unknown connection `{connection}`"
            ))
            .with_help(format!(
                "add `[connections.{connection}]` to {FILE_NAME}, or set `connection` in {name}.toml; {known}",
                known = suggestion(&connection, config.connections.keys().map(String::as_str)),
            ))),
        }
    }

    fn retains(&self, connection: &str) -> bool {
        self.config.connections.get(connection).is_some_and(ConnectionConfig::retains)
    }

    /// Whether a later event of `connection` has a higher position.
    fn numbers_events(&self, connection: &str) -> bool {
        !matches!(self.config.connections.get(connection), Some(ConnectionConfig::Sqs(_)))
    }

    fn cannot_halt(&self, needs: &str, label: &str) -> ConfigError {
        mistake(
            self.layers,
            |s| s.dead_letter.on_dead_letter.as_ref().map(Spanned::span),
            format!("{}: `halt-key` needs {needs}", self.title()),
            label,
        )
    }

    /// Who is meant, in messages.
    fn title(&self) -> String {
        match self.name.strip_prefix(ROUTE) {
            Some(name) => format!("route `{name}`"),
            None => format!("plugin `{}`", self.name),
        }
    }

    /// Where its settings are, in messages.
    fn file(&self) -> String {
        match self.name.starts_with(ROUTE) {
            true => format!("in {FILE_NAME}"),
            false => format!("in {}.toml", self.name),
        }
    }

    fn dead_letters(
        &self,
        s: DeadLetterSettings,
        input: &str,
        topics: &[String],
        ordering: Ordering,
    ) -> Result<DeadLetters, ConfigError> {
        let name = self.name;
        let topic = s.topic.map_or_else(|| format!("{name}.dlq"), |t| t.0);
        let connection = self.connection(s.connection, self.config.keeper_of(input))?;
        if let Some(pattern) = topics.iter().find(|pattern| topic_matches(pattern, &topic))
            && connection == input
        {
            return Err(ConfigError::new(format!(
                "{} would handle its own dead letters: `{pattern}` in its topics matches `{topic}`",
                self.title()
            ))
            .with_help(format!(
                "narrow `topics` or set another `dead-letter.topic` {}",
                self.file()
            )));
        }
        let on_dead_letter = match s.on_dead_letter.map(Spanned::into_inner) {
            Some(OnDeadLetterSetting::HaltKey) if ordering == Ordering::None => {
                return Err(self
                    .needs_ordering(
                        |s| s.dead_letter.on_dead_letter.as_ref().map(Spanned::span),
                        "dead-letter.on-dead-letter = \"halt-key\"",
                        "`key` or `partition`",
                        ordering,
                    )
                    .with_help(
                        "without an order, later events of the key are handled before it is halted: \
                         set `ordering = \"key\"`, or `on-dead-letter = \"continue\"`",
                    ));
            }
            Some(OnDeadLetterSetting::HaltKey) if !self.numbers_events(input) => {
                return Err(self
                    .cannot_halt(
                        "events with positions in their order",
                        &format!("`{input}` has none: nobody can tell which events came later"),
                    )
                    .with_help("set `on-dead-letter = \"continue\"`"));
            }
            Some(OnDeadLetterSetting::HaltKey)
                if !self.retains(input) && !self.retains(&connection) =>
            {
                return Err(self
                    .cannot_halt(
                        "a connection that retains events",
                        &format!("neither `{input}` nor `{connection}` can hold the list of halted keys"),
                    )
                    .with_help(format!(
                        "leave `dead-letter.connection` out, which then is `{}`, or name one of type log, kafka or nats",
                        self.config.keeper_of(input)
                    )));
            }
            Some(OnDeadLetterSetting::HaltKey) => OnDeadLetter::HaltKey,
            Some(OnDeadLetterSetting::Continue) | None => OnDeadLetter::Continue,
        };
        Ok(DeadLetters {
            topic,
            connection,
            dialect: match s.dialect {
                Some(DialectSetting::Spring) => Dialect::Spring,
                Some(DialectSetting::Connect) => Dialect::Connect,
                Some(DialectSetting::Streams) => Dialect::Streams,
                Some(DialectSetting::None) | None => Dialect::None,
            },
            on_exhausted: match s.on_exhausted {
                Some(ExhaustedSetting::Halt) => OnExhausted::Halt,
                Some(ExhaustedSetting::Drop) => OnExhausted::Drop,
                Some(ExhaustedSetting::DeadLetter) | None => OnExhausted::DeadLetter,
            },
            on_dead_letter,
            max_redrives: s.max_redrives.unwrap_or(MAX_REDRIVES),
        })
    }

    /// The tiers of the connection, where retries are to go through them (contract R5).
    fn retry_tiers(
        &self,
        s: &RetrySettings,
        input: &str,
        ordering: Ordering,
    ) -> Result<Vec<RetryTier>, ConfigError> {
        match s.through.as_ref().map(Spanned::get_ref) {
            Some(RetryThrough::Memory) | None => Ok(Vec::new()),
            Some(RetryThrough::Topics) if !self.retains(input) => Err(mistake(
                self.layers,
                |s| s.retry.through.as_ref().map(Spanned::span),
                format!(
                    "{}: `retry.through = \"topics\"` needs a connection that retains events",
                    self.title()
                ),
                &format!("`{input}` does not: what waits there would be out of sight"),
            )
            .with_help("set `through = \"memory\"`: the broker keeps what waits there, too")),
            Some(RetryThrough::Topics) if ordering == Ordering::None => {
                let prefix = &self.config.group_prefix;
                let connection = self.config.connections.get(input);
                let delays = connection.map_or(&[][..], ConnectionConfig::retry_tiers);
                let tier = |delay: &Duration| RetryTier {
                    delay: *delay,
                    topic: reserved::retry_tier(prefix, *delay).into(),
                };
                Ok(delays.iter().map(tier).collect())
            }
            Some(RetryThrough::Topics) => Err(self
                .needs_ordering(
                    |s| s.retry.through.as_ref().map(Spanned::span),
                    "retry.through = \"topics\"",
                    "`none`",
                    ordering,
                )
                .with_help(
                    "an event that waits in a topic is overtaken by later ones of its key: \
                     set `ordering = \"none\"`, or `through = \"memory\"`",
                )),
        }
    }

    fn breaker(&self, s: &BreakerSettings) -> Result<Breaker, ConfigError> {
        let built_in = Breaker::default();
        let pause = s.pause.map_or(built_in.pause, |p| p.0);
        let max_pause = s.max_pause.as_ref().map(|p| p.get_ref().0);
        if let Some(most) = max_pause.filter(|most| *most < pause) {
            let [most, pause] = [most, pause].map(humantime::format_duration);
            return Err(mistake(
                self.layers,
                |s| s.breaker.max_pause.as_ref().map(Spanned::span),
                format!(
                    "plugin `{}`: the breaker's longest pause is shorter than its first",
                    self.name
                ),
                &format!("{most} is less than `pause`, which is {pause}"),
            )
            .with_help("set `breaker.max-pause` to `breaker.pause` or more"));
        }
        Ok(Breaker {
            failures: s.failures.unwrap_or(built_in.failures),
            pause,
            max_pause: max_pause.unwrap_or(built_in.max_pause.max(pause)),
        })
    }

    /// A setting that contradicts `ordering`.
    fn needs_ordering(
        &self,
        place: impl Fn(&PluginSettings) -> Option<Range<usize>>,
        setting: &str,
        needed: &str,
        ordering: Ordering,
    ) -> ConfigError {
        let is = match ordering {
            Ordering::Key => "key",
            Ordering::Partition => "partition",
            Ordering::None => "none",
        };
        mistake(
            self.layers,
            place,
            format!("{}: `{setting}` needs another ordering than `{is}`", self.title()),
            &format!("works with {needed} only"),
        )
    }
}

fn names(patterns: Option<Vec<TopicPattern>>) -> Vec<String> {
    patterns.unwrap_or_default().into_iter().map(|p| p.0).collect()
}

fn on_error(s: &OnErrorSettings) -> OnErrors {
    let said = [
        (ForeignError::Timeout, s.timeout),
        (ForeignError::Connection, s.connection),
        (ForeignError::PermissionDenied, s.permission_denied),
        (ForeignError::Other, s.other),
    ];
    let answer = |setting| match setting {
        OnErrorSetting::Retry => OnError::Retry,
        OnErrorSetting::Reject => OnError::Reject,
    };
    said.into_iter().filter_map(|(case, setting)| Some((case, answer(setting?)))).collect()
}

fn retry(s: &RetrySettings) -> RetryPolicy {
    let built_in = RetryPolicy::default();
    RetryPolicy {
        max_attempts: s.max_attempts.map_or(built_in.max_attempts, Into::into),
        initial_delay: s.initial_delay.map_or(built_in.initial_delay, |p| p.0),
        max_delay: s.max_delay.map_or(built_in.max_delay, |p| p.0),
        multiplier: s.multiplier.map_or(built_in.multiplier, |f| f.0),
        jitter: s.jitter.map_or(built_in.jitter, |f| f.0),
        max_age: s.max_age.map_or(built_in.max_age, |p| p.0),
    }
}

/// The limits that are written, the rest as built in.
pub(crate) fn limits(s: &LimitSettings) -> Limits {
    let built_in = Limits::default();
    Limits {
        cpu_time: s.cpu_time.map_or(built_in.cpu_time, |p| p.0),
        wall_time: s.wall_time.map_or(built_in.wall_time, |p| p.0),
        memory: s.memory.map_or(built_in.memory, |m| usize::try_from(m.0).unwrap_or(usize::MAX)),
        output_records: s.output_records.map_or(built_in.output_records, Into::into),
        output_bytes: s
            .output_bytes
            .map_or(built_in.output_bytes, |b| usize::try_from(b.0).unwrap_or(usize::MAX)),
        log_lines_per_second: s
            .log_lines_per_second
            .map_or(built_in.log_lines_per_second, Into::into),
        state_keys: s.state_keys.map_or(built_in.state_keys, Into::into),
        state_bytes: s.state_bytes.map_or(built_in.state_bytes, |b| b.0),
        metric_series: s.metric_series.map_or(built_in.metric_series, Into::into),
        init_time: s.init_time.map_or(built_in.init_time, |p| p.0),
        ..built_in
    }
}
