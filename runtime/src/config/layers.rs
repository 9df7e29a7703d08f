//! The layers that a plugin's settings are made of, merged key by key:
//! built-in < what it says of itself < `[defaults]` < `[plugin.NAME]` < `NAME.toml`.

use std::{collections::BTreeMap, ops::Range, path::Path};

use sandbar_wasm::{Description, Grant};
use toml::Spanned;

use super::{
    Config, ConfigError, ConnectionConfig, PluginConfig, Text, complete, document, env,
    error::suggestion, known_connection, reach, settings::PluginSettings, units::TopicPattern,
};

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
    text: Text,
    settings: PluginSettings,
}

/// One layer, and the text that it was read from.
pub(super) type Layer<'a> = (&'a Text, &'a PluginSettings);

impl Config {
    /// Checks the text of a `NAME.toml`; `path` is its name in messages.
    ///
    /// # Errors
    /// The first mistake found.
    pub fn sidecar(&self, path: &Path, text: &str) -> Result<SidecarFile, ConfigError> {
        let text = Text::new(path.display().to_string(), text);
        let mut settings = document::plugin(&text, &env::process)?;
        check(&text, &settings, &self.connections)?;
        reach::resolve(&mut settings, path.parent().unwrap_or_else(|| Path::new("")));
        Ok(SidecarFile { text, settings })
    }

    /// Whether the plugin is to be loaded; known before it is.
    pub fn is_enabled(&self, name: &str, sidecar: Option<&SidecarFile>) -> bool {
        self.layers(name, sidecar).filter_map(|(_, s)| s.enabled).last().unwrap_or(true)
    }

    /// What the operator set, from the weakest layer to the strongest.
    fn layers<'a>(
        &'a self,
        name: &str,
        sidecar: Option<&'a SidecarFile>,
    ) -> impl Iterator<Item = Layer<'a>> {
        let here = |settings| (&self.text, settings);
        [
            Some(here(&self.defaults)),
            self.plugins.get(name).map(here),
            sidecar.map(|s| (&s.text, &s.settings)),
        ]
        .into_iter()
        .flatten()
    }

    /// Everything that plugin `name` gets.
    ///
    /// # Errors
    /// Where what the plugin says of itself does not fit this configuration, where
    /// settings of several layers contradict each other, or where nobody says which
    /// topics it handles.
    pub fn plugin(
        &self,
        name: &str,
        declared: &Declared,
        sidecar: Option<&SidecarFile>,
    ) -> Result<PluginConfig, ConfigError> {
        let (said, suggested) = suggested(name, declared)?;
        let layers: Vec<Layer<'_>> =
            [(&said, &suggested)].into_iter().chain(self.layers(name, sidecar)).collect();
        let mut merged = PluginSettings::default();
        for (_, layer) in &layers {
            overlay(&mut merged, layer);
        }
        complete::complete(self, name, merged, &layers)
    }
}

/// A mistake that shows only when the layers are put together: at the strongest of
/// them that says anything, as `place` finds it.
pub(super) fn mistake(
    layers: &[Layer<'_>],
    place: impl Fn(&PluginSettings) -> Option<Range<usize>>,
    message: String,
    label: &str,
) -> ConfigError {
    let strongest = layers.iter().rev().find_map(|(text, s)| Some((text, place(s)?)));
    match strongest {
        Some((text, span)) => text.error(span, message, label),
        None => ConfigError::new(message),
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
    settings.grants.iter().flatten().try_for_each(|grant| known_grant(text, grant).map(drop))?;
    reach::check(text, settings)
}

/// The capability that is named.
pub(crate) fn known_grant(text: &Text, name: &Spanned<String>) -> Result<Grant, ConfigError> {
    name.get_ref().parse().map_err(|_| {
        text.error(
            name.span(),
            format!("unknown capability `{}`", name.get_ref()),
            "no capability has this name",
        )
        .with_help(granted_otherwise(name.get_ref()))
    })
}

fn granted_otherwise(name: &str) -> String {
    match Grant::ALL.into_iter().find(|grant| grant.as_str() == name).and_then(Grant::setting) {
        Some(setting) => format!("it is granted by a setting of its own: `{setting}`"),
        None => {
            let by_name = Grant::ALL.into_iter().filter(|grant| grant.setting().is_none());
            suggestion(name, by_name.map(Grant::as_str))
        }
    }
}

/// What the plugin says of itself, as the weakest layer of settings.
///
/// A plugin is code that nobody has to trust: it may suggest how it wants to be
/// run, never what it may do. So capabilities, limits, its group and other
/// connections can only be set by the operator; how its events are delivered,
/// recognised, retried and ordered it may suggest.
fn suggested(name: &str, declared: &Declared) -> Result<(Text, PluginSettings), ConfigError> {
    const OPERATORS: [&str; 10] = [
        "enabled",
        "connection",
        "topics",
        "publish",
        "output-connection",
        "group",
        "grants",
        "secrets",
        "http",
        "limits",
    ];
    // where data leaves to, and what ends a loop
    const OPERATORS_ALONE: [&str; 2] = ["dead-letter.connection", "dead-letter.max-redrives"];
    let source = format!("describe of plugin `{name}`");
    let mut lines = String::new();
    for (key, value) in &declared.options {
        let root = key.split('.').next().unwrap_or_default();
        if OPERATORS.contains(&root) || OPERATORS_ALONE.contains(&key.as_str()) {
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
    let mut settings: PluginSettings = document::literal(&text)?;
    settings.connection = declared.connection.clone().map(|c| toml::Spanned::new(0..0, c));
    settings.topics = Some(patterns(name, &declared.topics)?);
    settings.publish = Some(patterns(name, &declared.publishes)?);
    Ok((text, settings))
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

/// Puts the keys that `over` has over those of `base`.
fn overlay(base: &mut PluginSettings, over: &PluginSettings) {
    macro_rules! keys {
        ($base:expr, $over:expr; $($key:ident),* $(,)?) => {
            $(if $over.$key.is_some() { $base.$key.clone_from(&$over.$key); })*
        };
    }
    keys!(base, over; enabled, connection, topics, publish, output_connection, group, start,
        ordering, delivery, concurrency, isolation, max_in_flight, grants);
    keys!(base.on_error, over.on_error; timeout, connection, permission_denied, other);
    keys!(base.retry, over.retry; max_attempts, initial_delay, max_delay, multiplier, jitter,
        max_age, through);
    keys!(base.dead_letter, over.dead_letter; topic, connection, dialect, on_exhausted,
        on_dead_letter, max_redrives);
    keys!(base.dedup, over.dedup; window);
    keys!(base.breaker, over.breaker; failures, pause, max_pause);
    keys!(base.limits, over.limits; cpu_time, wall_time, memory, output_records, output_bytes,
        log_lines_per_second, state_keys, state_bytes, metric_series, init_time);
    keys!(base.http, over.http; allow, inject, max_response, max_requests, timeout, tls_ca);
    base.secrets.extend(over.secrets.iter().map(|(name, secret)| (name.clone(), secret.clone())));
    base.config.extend(over.config.iter().map(|(key, value)| (key.clone(), value.clone())));
}
