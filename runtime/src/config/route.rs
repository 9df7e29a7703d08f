//! Routes: each is a subscription like a plugin's, with a name that no plugin can have.

use std::{borrow::Cow, sync::Arc};

use sandbar_pipeline::topic_matches;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};
use toml::Spanned;

use super::{
    Config, ConfigError, PluginConfig, Text, complete, known_connection,
    settings::{PluginSettings, RouteSettings},
    units::TopicName,
};
use crate::plugin_file;

/// What the names of routes begin with among those of plugins.
pub const ROUTE: &str = "route.";

/// What stands for the topic that an event comes from.
const TOPIC: &str = "{topic}";

/// One route, complete.
#[derive(Debug, Clone)]
pub struct RouteConfig {
    /// Its subscription: connection, topics, group and dead letters.
    pub subscription: Arc<PluginConfig>,
    /// What the topics are called on the other side.
    pub rename: Rename,
}

/// Name of a topic in which `{topic}` stands for that of the event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename(String);

impl Rename {
    /// What `topic` is called on the other side.
    pub fn of(&self, topic: &Arc<str>) -> Arc<str> {
        match self.0.as_str() {
            TOPIC => topic.clone(),
            template => template.replace(TOPIC, topic).into(),
        }
    }
}

impl Default for Rename {
    fn default() -> Self {
        Self(TOPIC.to_owned())
    }
}

impl<'de> Deserialize<'de> for Rename {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let template = String::deserialize(deserializer)?;
        let example = template.replace(TOPIC, "t");
        let read = TopicName::deserialize(de::value::StrDeserializer::<D::Error>::new(&example));
        read.map(|_| Self(template))
    }
}

impl JsonSchema for Rename {
    fn schema_name() -> Cow<'static, str> {
        "Rename".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "examples": ["{topic}", "eu.{topic}"] })
    }
}

/// The routes that `written` says.
///
/// # Errors
/// The first mistake found.
pub(super) fn all(
    config: &Config,
    text: &Text,
    written: Vec<RouteSettings>,
) -> Result<Vec<RouteConfig>, ConfigError> {
    let mut routes: Vec<RouteConfig> = Vec::new();
    for settings in written.into_iter() {
        let place = settings.name.span();
        let is_enabled = settings.enabled.unwrap_or(true);
        let route = one(config, text, settings)?;
        let name = &route.subscription.name;
        if routes.iter().any(|other| other.subscription.name == *name) {
            let name = name.trim_start_matches(ROUTE);
            return Err(text
                .error(place, format!("two routes are called `{name}`"), "the second")
                .with_help("they would take each other's events: give each a name of its own"));
        }
        if is_enabled {
            routes.push(route);
        }
    }
    Ok(routes)
}

fn one(config: &Config, text: &Text, s: RouteSettings) -> Result<RouteConfig, ConfigError> {
    let name = format!("{ROUTE}{}", s.name.get_ref());
    if s.name.get_ref().is_empty() || !plugin_file::is_legal_name(&name) {
        let message = format!("`{}` is no name of a route", s.name.get_ref());
        return Err(text
            .error(s.name.span(), message, "part of a group and a topic")
            .with_help("use letters, digits, `.`, `_` and `-` only, at most 122"));
    }
    let named = [&s.from.connection, &s.to.connection, &s.dead_letter.connection];
    for connection in named.into_iter().flatten() {
        known_connection(text, connection, &config.connections)?;
    }
    let topics = s.from.topics.span();
    if s.from.topics.get_ref().is_empty() {
        let message = format!("route `{}` reads no topic", s.name.get_ref());
        return Err(text.error(topics, message, "at least one is needed"));
    }
    let end = s.to.topic.as_ref().map_or(topics, Spanned::span);
    let rename = s.to.topic.map(Spanned::into_inner).unwrap_or_default();
    let default = || Spanned::new(0..0, config.default_connection.clone());
    let merged = PluginSettings {
        connection: s.from.connection,
        topics: Some(s.from.topics.into_inner()),
        output_connection: Some(s.to.connection.unwrap_or_else(default)),
        start: s.start,
        ordering: s.ordering,
        concurrency: s.concurrency,
        max_in_flight: s.max_in_flight,
        dead_letter: s.dead_letter,
        ..PluginSettings::default()
    };
    let subscription = complete::complete(config, &name, merged.clone(), &[(text, &merged)])?;
    let loops = |pattern: &&String| {
        let written = rename.of(&pattern.as_str().into());
        subscription.topics.iter().any(|read| topic_matches(read, &written))
    };
    if subscription.connection == subscription.output_connection
        && let Some(pattern) = subscription.topics.iter().find(loops)
    {
        let message = format!("route `{}` would read what it writes", s.name.get_ref());
        let label = format!(
            "`{pattern}` becomes `{}`, which it reads",
            rename.of(&pattern.as_str().into())
        );
        return Err(text.error(end, message, label).with_help(
            "write to another connection, or set `to.topic` to a name that it does not read",
        ));
    }
    Ok(RouteConfig { subscription: Arc::new(subscription), rename })
}
