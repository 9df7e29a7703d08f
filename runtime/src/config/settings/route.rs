//! `[[route]]` as it is written.

use std::num::NonZeroUsize;

use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

use super::{DeadLetterSettings, OrderingSetting, StartSetting};
use crate::config::{route::Rename, units::TopicPattern};

/// `[[route]]`: events passed on from one connection to another as they are, without a
/// plugin: at least once, those of a key in their order.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RouteSettings {
    /// Its name: letters, digits, `.`, `_` and `-`. Its group is `sandbar.route.NAME`.
    #[schemars(with = "String")]
    pub name: Spanned<String>,
    /// What it reads.
    pub from: RouteStart,
    /// Where it writes.
    #[serde(default)]
    pub to: RouteEnd,
    /// `false` stops it; its cursor is kept.
    #[serde(default)]
    pub enabled: Option<bool>,
    /// Where a route without a cursor begins; `earliest` by default.
    #[serde(default)]
    pub start: Option<StartSetting>,
    /// Which events are passed on one after the other; `key` by default.
    #[serde(default)]
    pub ordering: Option<OrderingSetting>,
    /// Writes under way at once; 8 by default.
    #[serde(default)]
    pub concurrency: Option<NonZeroUsize>,
    /// Unfinished events per partition before intake pauses; 1024 by default.
    #[serde(default)]
    pub max_in_flight: Option<NonZeroUsize>,
    /// What becomes of an event that the target refuses; its topic is `route.NAME.dlq` by default.
    #[serde(default)]
    pub dead_letter: DeadLetterSettings,
}

/// `from = { .. }`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RouteStart {
    /// Connection of the topics; `default-connection` by default.
    #[schemars(with = "Option<String>")]
    #[serde(default)]
    pub connection: Option<Spanned<String>>,
    /// Exact names, or globs with `*`.
    #[schemars(with = "Vec<TopicPattern>")]
    pub topics: Spanned<Vec<TopicPattern>>,
}

/// `to = { .. }`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RouteEnd {
    /// Connection of the topic; `default-connection` by default.
    #[schemars(with = "Option<String>")]
    pub connection: Option<Spanned<String>>,
    /// The topic, in which `{topic}` stands for the one that the event comes from;
    /// `{topic}` by default.
    #[schemars(with = "Option<Rename>")]
    pub topic: Option<Spanned<Rename>>,
}
