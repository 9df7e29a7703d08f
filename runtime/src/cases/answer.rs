//! What a plugin made of an event: what cases are compared with, and programs read.

use std::{collections::BTreeMap, time::Duration};

use sandbar_core::{ErrorClass, HandlerError, Outgoing, Verdict};
use sandbar_test::{Attempt, LogLine};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RequestJson;
use crate::event_json::{BytesJson, OutgoingJson};

/// How an attempt ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Handled.
    #[default]
    Ok,
    /// The handler wants it again.
    Retry,
    /// The handler gave it up.
    Reject,
    /// Not for this plugin.
    Skip,
    /// The handler wants it again later, without using up an attempt.
    Defer,
    /// The guest trapped: a panic, an uncaught exception.
    Trap,
    /// It used more than it may; the code says of what.
    Limit,
    /// It published where it may not.
    Denied,
    /// The event is no CloudEvent, although it says so.
    Decode,
    /// The host failed.
    Host,
}

impl Kind {
    /// The name used in cases.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Retry => "retry",
            Self::Reject => "reject",
            Self::Skip => "skip",
            Self::Defer => "defer",
            Self::Trap => "trap",
            Self::Limit => "limit",
            Self::Denied => "denied",
            Self::Decode => "decode",
            Self::Host => "host",
        }
    }

    /// Whether its code tells more than the verdict does.
    pub(super) fn has_code(self) -> bool {
        matches!(self, Self::Reject | Self::Limit)
    }

    fn of(error: &HandlerError) -> Self {
        match error.class {
            ErrorClass::Handler | ErrorClass::Blocked => match error.verdict {
                Verdict::Retry { .. } => Self::Retry,
                Verdict::Reject => Self::Reject,
                Verdict::Skip => Self::Skip,
                Verdict::Defer { .. } => Self::Defer,
            },
            ErrorClass::Trap => Self::Trap,
            ErrorClass::Deadline
            | ErrorClass::CpuTime
            | ErrorClass::Memory
            | ErrorClass::Fuel
            | ErrorClass::Output => Self::Limit,
            ErrorClass::Denied => Self::Denied,
            ErrorClass::Decode => Self::Decode,
            ErrorClass::Host => Self::Host,
        }
    }
}

/// What a plugin made of one event.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// How the attempt ended.
    pub verdict: Kind,
    /// Code of the failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Message of the failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When the handler wants the event again; milliseconds when serialised.
    #[serde(rename = "after_ms", skip_serializing_if = "Option::is_none", with = "milliseconds")]
    pub after: Option<Duration>,
    /// What it published.
    pub outputs: Vec<OutputJson>,
    /// What it published at once, whatever the outcome.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<OutputJson>,
    /// What it logged.
    pub log: Vec<LogJson>,
    /// What it counted.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
    /// What it remembers afterwards.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub state: BTreeMap<String, BytesJson>,
    /// What it asked others for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<RequestJson>,
}

/// An event that a plugin published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutputJson {
    /// Topic.
    pub topic: String,
    /// Connection, where the plugin named one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// The rest of it.
    #[serde(flatten)]
    pub event: OutgoingJson,
}

/// A line that a plugin logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogJson {
    /// How grave.
    pub level: &'static str,
    /// Where from.
    pub context: String,
    /// The text.
    pub message: String,
}

impl From<Attempt> for Answer {
    fn from(attempt: Attempt) -> Self {
        let log = attempt.log.into_iter().map(LogJson::from).collect();
        let published = attempt.published.iter().map(OutputJson::from).collect();
        let state = attempt.state.into_iter().map(|(key, value)| (key, BytesJson(value)));
        let answer = Self {
            verdict: Kind::Ok,
            code: None,
            message: None,
            after: None,
            outputs: Vec::new(),
            published,
            log,
            metrics: attempt.metrics,
            state: state.collect(),
            requests: Vec::new(),
        };
        match attempt.outcome {
            Ok(outputs) => {
                Self { outputs: outputs.iter().map(OutputJson::from).collect(), ..answer }
            }
            Err(error) => Self {
                verdict: Kind::of(&error),
                after: match error.verdict {
                    Verdict::Retry { after } => after,
                    Verdict::Defer { pause } => Some(pause),
                    Verdict::Reject | Verdict::Skip => None,
                },
                code: Some(error.code),
                message: Some(error.message),
                ..answer
            },
        }
    }
}

impl From<&Outgoing> for OutputJson {
    fn from(event: &Outgoing) -> Self {
        Self {
            topic: event.topic.to_string(),
            connection: event.connection.as_deref().map(str::to_owned),
            event: event.into(),
        }
    }
}

impl From<OutputJson> for Outgoing {
    fn from(output: OutputJson) -> Self {
        let connection = output.connection.map(Into::into);
        Self { connection, ..output.event.into_outgoing(&output.topic) }
    }
}

impl OutputJson {
    pub(super) fn payload(&self) -> Option<&[u8]> {
        self.event.payload.as_ref().map(|BytesJson(bytes)| &**bytes)
    }
}

impl From<LogLine> for LogJson {
    fn from(line: LogLine) -> Self {
        let LogLine { level, context, message } = line;
        Self { level: level.as_str(), context, message }
    }
}

impl LogJson {
    /// As cases have it.
    pub(super) fn line(&self) -> String {
        format!("{}: {}", self.level, self.message)
    }
}

mod milliseconds {
    use std::time::Duration;

    use serde::{Serialize as _, Serializer};

    pub fn serialize<S: Serializer>(time: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)).serialize(to)
    }
}
