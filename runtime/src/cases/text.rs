//! A file of cases as it is written. Its JSON Schema is `sandbar schema cases`.

use std::{collections::BTreeMap, num::NonZeroU32, path::PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

use super::{
    answer::Kind,
    payload::{Base64, Headers, JsonText, Moment},
};
use crate::{
    config::{
        settings::LimitSettings,
        units::{ConfigText, Period, TopicPattern},
    },
    event_json::BytesJson,
};

/// A file of cases. What stands above the first `[[case]]` holds for all of them.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[schemars(title = "cases.toml of a plugin")]
pub struct FileText {
    /// What the plugin reads from its clock, if it has one; 2026-01-01 by default.
    pub time: Option<Moment>,
    /// What the plugin reads as its configuration.
    pub config: BTreeMap<String, ConfigText>,
    /// What it may reach; whatever it imports by default.
    #[schemars(with = "Option<Vec<String>>")]
    pub grants: Option<Vec<Spanned<String>>>,
    /// Topics that it may publish to; what it says of itself by default.
    pub publish: Option<Vec<TopicPattern>>,
    /// What one call may use.
    pub limits: LimitSettings,
    /// The cases.
    #[schemars(with = "Vec<CaseText>")]
    pub case: Vec<Spanned<CaseText>>,
}

/// One case: one event at the case itself, or several as `[[case.step]]`, which one instance
/// of the plugin gets one after the other.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct CaseText {
    /// What it shows.
    pub name: Option<String>,
    /// As above the cases, for this one.
    pub time: Option<Moment>,
    /// As above the cases, added to it.
    pub config: BTreeMap<String, ConfigText>,
    /// As above the cases, instead of it.
    #[schemars(with = "Option<Vec<String>>")]
    pub grants: Option<Vec<Spanned<String>>>,
    /// The plugin is not to start: the error, or a part of it.
    pub start_error: Option<String>,
    /// The event.
    #[schemars(with = "Option<EventText>")]
    pub event: Option<Spanned<EventText>>,
    /// How the attempt ends; `ok` by default.
    #[schemars(with = "Option<Kind>")]
    pub verdict: Option<Spanned<Kind>>,
    /// Code of the failure.
    pub code: Option<String>,
    /// Message of the failure, or a part of it.
    pub message: Option<String>,
    /// When the handler wants the event again.
    pub after: Option<Period>,
    /// All that it publishes, in order.
    #[schemars(with = "Vec<OutputText>")]
    pub output: Vec<Spanned<OutputText>>,
    /// All that it logs, as `LEVEL: MESSAGE`; not compared where it is left out.
    pub log: Option<Vec<String>>,
    /// Several events, one after the other.
    #[schemars(with = "Vec<StepText>")]
    pub step: Vec<Spanned<StepText>>,
}

/// One event of several, and what is to come of it: the same keys as at a case (not flattened into
/// it, because serde then loses the place of mistakes).
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct StepText {
    /// What the clock shows from now on.
    pub time: Option<Moment>,
    /// The event.
    #[schemars(with = "Option<EventText>")]
    pub event: Option<Spanned<EventText>>,
    /// How the attempt ends; `ok` by default.
    #[schemars(with = "Option<Kind>")]
    pub verdict: Option<Spanned<Kind>>,
    /// Code of the failure.
    pub code: Option<String>,
    /// Message of the failure, or a part of it.
    pub message: Option<String>,
    /// When the handler wants the event again.
    pub after: Option<Period>,
    /// All that it publishes, in order.
    #[schemars(with = "Vec<OutputText>")]
    pub output: Vec<Spanned<OutputText>>,
    /// All that it logs, as `LEVEL: MESSAGE`; not compared where it is left out.
    pub log: Option<Vec<String>>,
}

/// An event that the plugin gets. Its payload is one of `json`, `text`, `base64`, `file` and
/// `tombstone`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct EventText {
    /// Topic that it comes from.
    pub topic: String,
    /// Key: text, or `{ base64 = ".." }`.
    #[schemars(with = "Option<String>")]
    pub key: Option<BytesJson>,
    /// Payload as JSON: any value of TOML, or JSON text in a string.
    pub json: Option<JsonText>,
    /// Payload as text.
    pub text: Option<String>,
    /// Payload as bytes in base64.
    pub base64: Option<Base64>,
    /// Payload from a file, relative to this one.
    #[schemars(with = "Option<PathBuf>")]
    pub file: Option<Spanned<PathBuf>>,
    /// No payload at all.
    #[serde(default)]
    pub tombstone: bool,
    /// Headers: a table, or `[["name", "value"], ...]`.
    #[serde(default)]
    pub headers: Headers,
    /// CloudEvents attributes by bare name.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// Time of the broker; the clock's by default.
    pub timestamp: Option<Moment>,
    /// Partition; 0 by default.
    #[serde(default)]
    pub partition: u32,
    /// Position; 0 for the first event of the case, 1 for the next, by default.
    pub position: Option<u64>,
    /// Which attempt this is; 1 by default.
    pub attempt: Option<NonZeroU32>,
}

/// An event that the plugin is to publish. What is left out is not there: no key, no headers.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct OutputText {
    /// Topic that it goes to.
    pub topic: String,
    /// Connection, where the plugin names one.
    pub connection: Option<String>,
    /// Key: text, or `{ base64 = ".." }`.
    #[schemars(with = "Option<String>")]
    pub key: Option<BytesJson>,
    /// Payload as JSON, compared by what it says: any value of TOML, or JSON text in a string.
    pub json: Option<JsonText>,
    /// Payload as text, compared byte for byte.
    pub text: Option<String>,
    /// Payload as bytes in base64.
    pub base64: Option<Base64>,
    /// Payload from a file, relative to this one; JSON is compared by what it says.
    #[schemars(with = "Option<PathBuf>")]
    pub file: Option<Spanned<PathBuf>>,
    /// No payload at all.
    #[serde(default)]
    pub tombstone: bool,
    /// Headers: a table, or `[["name", "value"], ...]`.
    #[serde(default)]
    pub headers: Headers,
    /// CloudEvents attributes by bare name.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
}
