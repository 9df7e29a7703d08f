//! A file of cases as it is written. Its JSON Schema is `sandbar schema cases`.
//!
//! Tables that share keys get them from a macro: flattened by serde, mistakes would lose their
//! place. The settings of a file and of a case are written out in both all the same, because what
//! the schema says of them differs: those of a case are added to the file's, or replace them.

use std::{collections::BTreeMap, num::NonZeroU32, path::PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

use super::{
    answer::Kind,
    payload::{Base64, Headers, JsonText, Moment, ValueText},
};
use crate::{
    config::{
        settings::LimitSettings,
        units::{ConfigText, Period, TopicPattern},
    },
    event_json::BytesJson,
};

/// Adds an event, and what is to come of it.
macro_rules! with_event {
    ($(#[$meta:meta])* pub struct $name:ident { $($own:tt)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
        pub struct $name {
            $($own)*
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
            /// All that it publishes at once, in order; not compared where it is left out.
            #[schemars(with = "Option<Vec<OutputText>>")]
            pub published: Option<Vec<Spanned<OutputText>>>,
            /// All that it remembers afterwards; not compared where it is left out.
            pub state_after: Option<BTreeMap<String, ValueText>>,
            /// All that it counts: a counter by its name, of a histogram `NAME_count` and
            /// `NAME_sum`, with labels as in `'name{label="value"}'`; what is left out of it is not
            /// to be counted, as if it were 0. Not compared where all of it is left out.
            pub metrics: Option<BTreeMap<String, f64>>,
            /// All that it logs, as `LEVEL: MESSAGE`; not compared where it is left out.
            pub log: Option<Vec<String>>,
        }
    };
}

/// Adds the forms of a payload.
macro_rules! with_payload {
    ($(#[$meta:meta])* pub struct $name:ident { $($own:tt)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Deserialize, JsonSchema)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields)]
        pub struct $name {
            $($own)*
            /// Payload as JSON: any value of TOML, or JSON text in a string. Where payloads are
            /// compared, by what it says.
            pub json: Option<JsonText>,
            /// Payload as text, byte for byte.
            pub text: Option<String>,
            /// Payload as bytes in base64.
            pub base64: Option<Base64>,
            /// Payload from a file, relative to this one; compared as JSON where it is some.
            #[schemars(with = "Option<PathBuf>")]
            pub file: Option<Spanned<PathBuf>>,
            /// Headers: a table, or `[["name", "value"], ...]`.
            #[serde(default)]
            pub headers: Headers,
        }

        impl $name {
            /// What is said of the payload.
            pub(super) fn payload(&mut self) -> Payload {
                Payload {
                    json: self.json.take(),
                    text: self.text.take(),
                    base64: self.base64.take(),
                    file: self.file.take(),
                }
            }
        }
    };
}

/// A payload in one of its forms, or in several by mistake.
pub(super) struct Payload {
    pub json: Option<JsonText>,
    pub text: Option<String>,
    pub base64: Option<Base64>,
    pub file: Option<Spanned<PathBuf>>,
}

impl Payload {
    /// How many forms are given.
    pub(super) fn given(&self) -> usize {
        let Self { json, text, base64, file } = self;
        let given = [json.is_some(), text.is_some(), base64.is_some(), file.is_some()];
        given.into_iter().filter(|given| *given).count()
    }
}

/// A file of cases. What stands above the first `[[case]]` holds for all of them.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[schemars(title = "cases.toml of a plugin")]
pub struct FileText {
    /// What the plugin reads from its clock, if it has one; 2026-01-01 by default.
    pub time: Option<Moment>,
    /// What the plugin reads as its configuration.
    pub config: BTreeMap<String, ConfigText>,
    /// Secrets that it may read: not the real ones, which have no place in a file of cases.
    pub secrets: BTreeMap<String, String>,
    /// What it remembers when a case begins.
    pub state: BTreeMap<String, ValueText>,
    /// What it may reach; whatever it imports by default.
    #[schemars(with = "Option<Vec<String>>")]
    pub grants: Option<Vec<Spanned<String>>>,
    /// Topics that it may publish to; what it says of itself by default.
    pub publish: Option<Vec<TopicPattern>>,
    /// What one call may use.
    pub limits: LimitSettings,
    /// HTTP requests, and how they are answered; all others fail the case.
    pub http: Vec<HttpText>,
    /// The cases.
    #[schemars(with = "Vec<CaseText>")]
    pub case: Vec<Spanned<CaseText>>,
}

with_event! {
    /// One case: one event at the case itself, or several as `[[case.step]]`, which one instance
    /// of the plugin gets one after the other.
    pub struct CaseText {
        /// What it shows.
        pub name: Option<String>,
        /// As above the cases, for this one.
        pub time: Option<Moment>,
        /// As above the cases, added to it.
        pub config: BTreeMap<String, ConfigText>,
        /// As above the cases, added to them.
        pub secrets: BTreeMap<String, String>,
        /// As above the cases, added to it.
        pub state: BTreeMap<String, ValueText>,
        /// As above the cases, instead of it.
        #[schemars(with = "Option<Vec<String>>")]
        pub grants: Option<Vec<Spanned<String>>>,
        /// As above the cases, added to them, and instead of those for the same request.
        pub http: Vec<HttpText>,
        /// The plugin is not to start: the error, or a part of it.
        pub start_error: Option<String>,
        /// Several events, one after the other.
        #[schemars(with = "Vec<StepText>")]
        pub step: Vec<Spanned<StepText>>,
    }
}

with_event! {
    /// One event of several, and what is to come of it.
    pub struct StepText {
        /// What the clock shows from now on.
        pub time: Option<Moment>,
    }
}

impl CaseText {
    /// The step that stands at the case itself.
    pub(super) fn into_step(self) -> StepText {
        StepText {
            time: None,
            event: self.event,
            verdict: self.verdict,
            code: self.code,
            message: self.message,
            after: self.after,
            output: self.output,
            published: self.published,
            state_after: self.state_after,
            metrics: self.metrics,
            log: self.log,
        }
    }
}

with_payload! {
    /// An event that the plugin gets. Its payload is one of `json`, `text`, `base64`, `file` and
    /// `tombstone`.
    pub struct EventText {
        /// Topic that it comes from.
        pub topic: String,
        /// Key: text, or `{ base64 = ".." }`.
        #[schemars(with = "Option<String>")]
        pub key: Option<BytesJson>,
        /// No payload at all.
        #[serde(default)]
        pub tombstone: bool,
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
}

with_payload! {
    /// An event that the plugin is to publish. What is left out is not there: no key, no headers.
    pub struct OutputText {
        /// Topic that it goes to.
        pub topic: String,
        /// Connection, where the plugin names one.
        pub connection: Option<String>,
        /// Key: text, or `{ base64 = ".." }`.
        #[schemars(with = "Option<String>")]
        pub key: Option<BytesJson>,
        /// No payload at all.
        #[serde(default)]
        pub tombstone: bool,
        /// CloudEvents attributes by bare name.
        #[serde(default)]
        pub attributes: BTreeMap<String, String>,
    }
}

/// An HTTP request of the plugin, and its response. Several for the same request answer one after
/// the other, the last one from then on.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HttpText {
    /// Which request.
    #[schemars(with = "RequestText")]
    pub request: Spanned<RequestText>,
    /// What comes back.
    #[schemars(with = "ResponseText")]
    pub response: Spanned<ResponseText>,
}

with_payload! {
    /// A request that is answered. Headers and body may be any where they are left out.
    pub struct RequestText {
        /// `GET` by default.
        pub method: Option<String>,
        /// The whole URL; `*` stands for anything.
        pub url: String,
    }
}

with_payload! {
    /// The response to a request; without a body where none is given.
    pub struct ResponseText {
        /// 200 by default.
        #[schemars(with = "Option<u16>", range(min = 200, max = 999))]
        pub status: Option<Spanned<u16>>,
    }
}
