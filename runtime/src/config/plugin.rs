//! The settings of one plugin, merged key by key:
//! built-in < what it says of itself < `[defaults]` < `[plugin.NAME]` < `NAME.toml`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
};

use sandbar_core::StartAt;
use sandbar_pipeline::{
    Dialect, OnExhausted, Ordering, RetryPolicy, SubscriptionConfig, topic_matches,
};
use sandbar_wasm::{Description, Grant, Limits};

use super::{
    Config, ConfigError, ConnectionConfig, Text, document, env,
    error::suggestion,
    known_connection, redacted,
    settings::{
        DialectSetting, ExhaustedSetting, LimitSettings, OrderingSetting, PluginSettings,
        RetrySettings, StartSetting,
    },
    units::TopicPattern,
};

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
    /// Events handled at once.
    pub concurrency: usize,
    /// Unfinished events per partition before intake pauses.
    pub max_in_flight: usize,
    /// Capabilities beyond context, logging and config.
    pub grants: BTreeSet<Grant>,
    /// What it reads through `wasi:config`. May hold secrets.
    pub config: BTreeMap<String, String>,
    /// What follows a failed attempt.
    pub retry: RetryPolicy,
    /// What follows the last failed attempt.
    pub dead_letter: DeadLetters,
    /// What one call may use.
    pub limits: Limits,
}

impl PluginConfig {
    /// Topic of its dead letters, `None` where it makes none.
    pub fn dead_letter_topic(&self) -> Option<&str> {
        (self.dead_letter.on_exhausted == OnExhausted::DeadLetter)
            .then_some(self.dead_letter.topic.as_str())
    }
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
}

/// What a plugin says of itself through `describe`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declared {
    /// Connection it asks for.
    pub connection: Option<String>,
    /// Topics it subscribes to.
    pub topics: Vec<String>,
    /// Topics it publishes to.
    pub publishes: Vec<String>,
    /// Settings it suggests, by their names in `NAME.toml` (`retry.max-attempts`).
    pub options: Vec<(String, String)>,
}

impl Declared {
    /// The one subscription that all declared ones make together.
    ///
    /// # Errors
    /// Where they name different connections: a plugin has one cursor, on one connection.
    pub fn new(plugin: &str, description: &Description) -> Result<Self, ConfigError> {
        let mut declared = Self { publishes: description.publishes.clone(), ..Self::default() };
        for (at, subscription) in description.subscriptions.iter().enumerate() {
            if at > 0 && subscription.connection != declared.connection {
                return Err(ConfigError::new(format!(
                    "plugin `{plugin}` declares subscriptions on several connections"
                ))
                .with_help("split it into one plugin for each connection"));
            }
            declared.connection.clone_from(&subscription.connection);
            declared.topics.extend(subscription.topics.iter().cloned());
            let options = subscription.options.iter();
            declared.options.extend(options.map(|(key, value)| (key.clone(), value.clone())));
        }
        Ok(declared)
    }
}

/// A checked `NAME.toml`.
#[derive(Debug, Clone)]
pub struct SidecarFile {
    settings: PluginSettings,
}

impl Config {
    /// Checks the text of a `NAME.toml`; `path` is its name in messages.
    ///
    /// # Errors
    /// The first mistake found.
    pub fn sidecar(&self, path: &Path, text: &str) -> Result<SidecarFile, ConfigError> {
        let text = Text::new(path.display().to_string(), text);
        let settings = document::plugin(&text, &env::process)?;
        check(&text, &settings, &self.connections)?;
        Ok(SidecarFile { settings })
    }

    /// Whether the plugin is to be loaded; known before it is.
    pub fn is_enabled(&self, name: &str, sidecar: Option<&SidecarFile>) -> bool {
        self.layers(name, sidecar).filter_map(|s| s.enabled).last().unwrap_or(true)
    }

    /// What the operator set, from the weakest layer to the strongest.
    fn layers<'a>(
        &'a self,
        name: &str,
        sidecar: Option<&'a SidecarFile>,
    ) -> impl Iterator<Item = &'a PluginSettings> {
        [Some(&self.defaults), self.plugins.get(name), sidecar.map(|s| &s.settings)]
            .into_iter()
            .flatten()
    }

    /// Everything that plugin `name` gets.
    ///
    /// # Errors
    /// Where what the plugin says of itself does not fit this configuration, or
    /// where nobody says which topics it handles.
    pub fn plugin(
        &self,
        name: &str,
        declared: &Declared,
        sidecar: Option<&SidecarFile>,
    ) -> Result<PluginConfig, ConfigError> {
        let mut merged = suggested(name, declared)?;
        for layer in self.layers(name, sidecar) {
            overlay(&mut merged, layer);
        }
        self.complete(name, merged)
    }

    fn complete(&self, name: &str, s: PluginSettings) -> Result<PluginConfig, ConfigError> {
        // the operator's were checked with their place in a file; what the plugin says was not
        let connection = |given: Option<toml::Spanned<String>>, default: &str| {
            let connection = given.map_or_else(|| default.to_owned(), toml::Spanned::into_inner);
            match self.connections.contains_key(&connection) {
                true => Ok(connection),
                false => Err(ConfigError::new(format!(
                    "plugin `{name}` asks for the unknown connection `{connection}`"
                ))
                .with_help(format!(
                    "add `[connections.{connection}]` to {FILE}, or set `connection` in {name}.toml; {known}",
                    FILE = super::FILE_NAME,
                    known = suggestion(&connection, self.connections.keys().map(String::as_str)),
                ))),
            }
        };
        let input = connection(s.connection, &self.default_connection)?;
        let topics = names(s.topics);
        if topics.is_empty() {
            return Err(ConfigError::new(format!("plugin `{name}` is subscribed to no topic"))
                .with_help(format!("set `topics = [\"...\"]` in {name}.toml")));
        }
        let dead_letter = s.dead_letter;
        let dead_topic = dead_letter.topic.map_or_else(|| format!("{name}.dlq"), |t| t.0);
        let dead_connection = connection(dead_letter.connection, &input)?;
        if let Some(pattern) = topics.iter().find(|pattern| topic_matches(pattern, &dead_topic))
            && dead_connection == input
        {
            return Err(ConfigError::new(format!(
                "plugin `{name}` would handle its own dead letters: `{pattern}` in its topics matches `{dead_topic}`"
            ))
            .with_help(format!("narrow `topics` or set another `dead-letter.topic` in {name}.toml")));
        }
        let built_in = SubscriptionConfig::new(name, input.as_str());
        Ok(PluginConfig {
            enabled: s.enabled.unwrap_or(true),
            topics,
            publish: names(s.publish),
            output_connection: connection(s.output_connection, &input)?,
            group: s.group.unwrap_or_else(|| format!("{}{name}", self.group_prefix)),
            start: match s.start {
                Some(StartSetting::Latest) => StartAt::Latest,
                Some(StartSetting::Earliest) | None => StartAt::Earliest,
            },
            ordering: match s.ordering {
                Some(OrderingSetting::Partition) => Ordering::Partition,
                Some(OrderingSetting::None) => Ordering::None,
                Some(OrderingSetting::Key) | None => Ordering::Key,
            },
            concurrency: s.concurrency.map_or(built_in.concurrency, Into::into),
            max_in_flight: s.max_in_flight.map_or(built_in.max_in_flight, Into::into),
            grants: s.grants.iter().flatten().filter_map(|g| g.get_ref().parse().ok()).collect(),
            config: s.config.into_iter().map(|(key, value)| (key, value.0)).collect(),
            retry: retry(&s.retry),
            dead_letter: DeadLetters {
                topic: dead_topic,
                connection: dead_connection,
                dialect: match dead_letter.dialect {
                    Some(DialectSetting::Spring) => Dialect::Spring,
                    Some(DialectSetting::Connect) => Dialect::Connect,
                    Some(DialectSetting::Streams) => Dialect::Streams,
                    Some(DialectSetting::None) | None => Dialect::None,
                },
                on_exhausted: match dead_letter.on_exhausted {
                    Some(ExhaustedSetting::Halt) => OnExhausted::Halt,
                    Some(ExhaustedSetting::Drop) => OnExhausted::Drop,
                    Some(ExhaustedSetting::DeadLetter) | None => OnExhausted::DeadLetter,
                },
            },
            limits: limits(&s.limits),
            connection: input,
            name: name.to_owned(),
        })
    }
}

/// Checks what serde cannot: names of connections and of capabilities.
pub(super) fn check(
    text: &Text,
    settings: &PluginSettings,
    connections: &BTreeMap<String, ConnectionConfig>,
) -> Result<(), ConfigError> {
    let named =
        [&settings.connection, &settings.output_connection, &settings.dead_letter.connection];
    for name in named.into_iter().flatten() {
        known_connection(text, name, connections)?;
    }
    for grant in settings.grants.iter().flatten() {
        if grant.get_ref().parse::<Grant>().is_err() {
            return Err(text
                .error(
                    grant.span(),
                    format!("unknown capability `{}`", grant.get_ref()),
                    "no capability has this name",
                )
                .with_help(suggestion(grant.get_ref(), Grant::ALL.map(|g| g.as_str()))));
        }
    }
    Ok(())
}

/// What the plugin says of itself, as the weakest layer of settings.
///
/// A plugin is code that nobody has to trust: it may suggest how it wants to be
/// run, never what it may do. So capabilities, limits, its group and other
/// connections can only be set by the operator.
fn suggested(name: &str, declared: &Declared) -> Result<PluginSettings, ConfigError> {
    const OPERATORS: [&str; 8] = [
        "enabled",
        "connection",
        "topics",
        "publish",
        "output-connection",
        "group",
        "grants",
        "limits",
    ];
    let source = format!("describe of plugin `{name}`");
    let mut lines = String::new();
    for (key, value) in &declared.options {
        let root = key.split('.').next().unwrap_or_default();
        if OPERATORS.contains(&root) || key == "dead-letter.connection" {
            return Err(ConfigError::new(format!(
                "plugin `{name}` suggests `{key}`, which only the operator may set"
            ))
            .with_help(format!("remove the option from the plugin; set `{key}` in {name}.toml")));
        }
        let legal = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if key.is_empty() || !key.chars().all(legal) {
            return Err(ConfigError::new(format!(
                "plugin `{name}` suggests the unknown setting {key:?}"
            )));
        }
        lines.push_str(&format!("{key} = {}\n", scalar(value)));
    }
    // variables of the host are none of the plugin's business: `${..}` stays as it is
    let text = Text::new(source, lines);
    let mut settings = document::plugin_literal(&text)?;
    settings.connection = declared.connection.clone().map(|c| toml::Spanned::new(0..0, c));
    settings.topics = Some(patterns(name, &declared.topics)?);
    settings.publish = Some(patterns(name, &declared.publishes)?);
    Ok(settings)
}

/// A value of `describe` as TOML: numbers and booleans as such, all else as text.
fn scalar(value: &str) -> toml::Value {
    value
        .parse()
        .map(toml::Value::Boolean)
        .or_else(|_| value.parse().map(toml::Value::Integer))
        .or_else(|_| value.parse().map(toml::Value::Float))
        .unwrap_or_else(|_| toml::Value::String(value.to_owned()))
}

fn patterns(plugin: &str, topics: &[String]) -> Result<Vec<TopicPattern>, ConfigError> {
    let checked = |topic: &String| {
        TopicPattern::new(topic.clone()).map_err(|why| {
            ConfigError::new(format!("plugin `{plugin}` declares a bad topic: {why}"))
        })
    };
    topics.iter().map(checked).collect()
}

fn names(patterns: Option<Vec<TopicPattern>>) -> Vec<String> {
    patterns.unwrap_or_default().into_iter().map(|p| p.0).collect()
}

/// Puts the keys that `over` has over those of `base`.
fn overlay(base: &mut PluginSettings, over: &PluginSettings) {
    macro_rules! keys {
        ($base:expr, $over:expr; $($key:ident),* $(,)?) => {
            $(if $over.$key.is_some() { $base.$key.clone_from(&$over.$key); })*
        };
    }
    keys!(base, over; enabled, connection, topics, publish, output_connection, group, start,
        ordering, concurrency, max_in_flight, grants);
    keys!(base.retry, over.retry; max_attempts, initial_delay, max_delay, multiplier, jitter, max_age);
    keys!(base.dead_letter, over.dead_letter; topic, connection, dialect, on_exhausted);
    keys!(base.limits, over.limits; cpu_time, wall_time, memory, output_records, output_bytes,
        log_lines_per_second, init_time);
    base.config.extend(over.config.iter().map(|(key, value)| (key.clone(), value.clone())));
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

fn limits(s: &LimitSettings) -> Limits {
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
        init_time: s.init_time.map_or(built_in.init_time, |p| p.0),
        ..built_in
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
