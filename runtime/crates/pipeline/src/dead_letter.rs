//! The dead-letter envelope: the event byte for byte, and headers that say what
//! happened to it (contract D2).
//!
//! The six `__dlq.errors.*` headers are Kafka's own (KIP-1191), the `sandbar-dlq-*`
//! headers are ours. All are text. An event that already is a dead letter keeps the
//! location of its first failure; what describes the error is replaced.

use std::sync::Arc;

use bytes::Bytes;
use sandbar_core::{Event, HandledBy, HandlerError, Header, Outgoing};
use serde::{Deserialize, Serialize};

use crate::{DeadLetterConfig, clock, dialect};

/// Together with every dialect's headers this keeps what we add below 8 KiB.
const MESSAGE_MAX: usize = 1024;
const BACKTRACE_MAX: usize = 1024;
const TEXT_MAX: usize = 256;
/// Ends a text that was cut.
const MARK: &str = "…";

const KAFKA: &str = "__dlq.errors.";
const OURS: &str = "sandbar-dlq-";

/// What a dead letter says of itself, apart from the event that it carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Topic of the event when it first failed.
    pub topic: String,
    /// Its partition then.
    pub partition: u32,
    /// Its position there.
    pub offset: u64,
    /// Its broker timestamp there, milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
    /// Consumer group of the subscription that failed last.
    pub group: String,
    /// Deliveries to that subscription, those counted by the broker included.
    pub delivery_count: u32,
    /// The last error, capped.
    pub message: String,
    /// The plugin that failed last.
    pub plugin: String,
    /// Its version; absent when it was not reached.
    pub plugin_version: Option<String>,
    /// Digest of its file; absent when it was not reached.
    pub digest: Option<String>,
    /// Kind of the last failure (contract R4).
    pub error_class: String,
    /// Code by which failures are grouped.
    pub error_code: String,
    /// Guest backtrace, capped.
    pub backtrace: Option<String>,
    /// Time of the first failure, RFC 3339.
    pub first_failed_at: String,
    /// Time of the last failure, RFC 3339.
    pub last_failed_at: String,
    /// Attempts that this subscription made.
    pub attempts: u32,
    /// How often it was redriven before.
    pub redrives: u32,
    /// Identity of the event (contract I1) when it first failed.
    pub event_id: String,
    /// Location of the dead letter that halts its key, where it was not attempted for
    /// that (contract O4): `topic/partition/offset`.
    pub blocked_by: Option<String>,
}

/// What is known of a failure when its event is given up.
pub(crate) struct Failure<'a> {
    pub error: &'a HandlerError,
    /// The plugin as named in the configuration.
    pub plugin: &'a str,
    /// What handled it, if it got that far.
    pub by: Option<&'a HandledBy>,
    pub group: &'a str,
    pub attempts: u32,
    pub redeliveries: u32,
    /// How often it was redriven, where it does not say so itself.
    pub redrives: u32,
    pub blocked_by: Option<&'a str>,
    pub first_failed_ms: u64,
    pub now_ms: u64,
}

impl DeadLetter {
    /// Reads the headers back; `None` where the event is no dead letter of ours.
    /// Headers that are missing or damaged are left empty, so that a dead letter
    /// that was touched by other tools can still be listed.
    pub fn parse(event: &Event) -> Option<Self> {
        let ours = |name: &str| text(event, OURS, name);
        let kafka = |name: &str| text(event, KAFKA, name);
        let plugin = ours("plugin")?;
        Some(Self {
            topic: kafka("topic").unwrap_or_default(),
            partition: number(kafka("partition")),
            offset: number(kafka("offset")),
            timestamp_ms: ours("timestamp-ms")
                .and_then(|t| t.parse().ok())
                .unwrap_or(event.timestamp_ms),
            group: kafka("group").unwrap_or_default(),
            delivery_count: number(kafka("delivery.count")),
            message: kafka("message").unwrap_or_default(),
            plugin,
            plugin_version: ours("plugin-version"),
            digest: ours("digest"),
            error_class: ours("error-class").unwrap_or_default(),
            error_code: ours("error-code").unwrap_or_default(),
            backtrace: ours("backtrace"),
            first_failed_at: ours("first-failed-at").unwrap_or_default(),
            last_failed_at: ours("last-failed-at").unwrap_or_default(),
            attempts: number(ours("attempts")),
            redrives: number(ours("redrives")),
            event_id: ours("event-id").unwrap_or_default(),
            blocked_by: ours("blocked-by"),
        })
    }

    fn new(event: &Event, failure: &Failure<'_>) -> Self {
        let Failure { error, by, .. } = failure;
        let before = Self::parse(event);
        // a dead letter of another tool that follows KIP-1191 has a location, too
        let located =
            text(event, KAFKA, "topic").filter(|_| text(event, KAFKA, "offset").is_some());
        let (topic, partition, offset) = match located {
            Some(topic) => {
                let partition = number(text(event, KAFKA, "partition"));
                (topic, partition, number(text(event, KAFKA, "offset")))
            }
            None => (event.topic.to_string(), event.partition, event.position),
        };
        let first = before.as_ref().map(|b| b.first_failed_at.clone()).filter(|t| !t.is_empty());
        let id = before.as_ref().map(|b| b.event_id.clone()).filter(|id| !id.is_empty());
        Self {
            topic: capped(&topic, TEXT_MAX),
            partition,
            offset,
            timestamp_ms: before.as_ref().map_or(event.timestamp_ms, |b| b.timestamp_ms),
            group: capped(failure.group, TEXT_MAX),
            delivery_count: failure.redeliveries.saturating_add(failure.attempts),
            message: capped(&error.message, MESSAGE_MAX),
            plugin: capped(failure.plugin, TEXT_MAX),
            plugin_version: by.map(|by| capped(&by.version, TEXT_MAX)),
            digest: by.map(|by| capped(&by.digest, TEXT_MAX)),
            error_class: error.class.as_str().into(),
            error_code: capped(&error.code, TEXT_MAX),
            backtrace: error.backtrace.as_deref().map(|b| capped(b, BACKTRACE_MAX)),
            first_failed_at: first.unwrap_or_else(|| clock::rfc3339(failure.first_failed_ms)),
            last_failed_at: clock::rfc3339(failure.now_ms),
            attempts: failure.attempts,
            redrives: before.as_ref().map_or(failure.redrives, |b| b.redrives),
            event_id: capped(&id.unwrap_or_else(|| event.id()), 2 * TEXT_MAX),
            blocked_by: failure.blocked_by.map(|at| capped(at, 2 * TEXT_MAX)),
        }
    }

    fn headers(&self) -> Vec<Header> {
        let mut headers = Vec::with_capacity(20);
        let mut add = |prefix: &str, name: &str, value: &str| {
            headers.push(Header::new(
                format!("{prefix}{name}"),
                Bytes::copy_from_slice(value.as_bytes()),
            ));
        };
        add(KAFKA, "topic", &self.topic);
        add(KAFKA, "partition", &self.partition.to_string());
        add(KAFKA, "offset", &self.offset.to_string());
        add(KAFKA, "group", &self.group);
        add(KAFKA, "delivery.count", &self.delivery_count.to_string());
        add(KAFKA, "message", &self.message);
        add(OURS, "plugin", &self.plugin);
        for (name, value) in [("plugin-version", &self.plugin_version), ("digest", &self.digest)] {
            if let Some(value) = value {
                add(OURS, name, value);
            }
        }
        add(OURS, "error-class", &self.error_class);
        add(OURS, "error-code", &self.error_code);
        if let Some(backtrace) = &self.backtrace {
            add(OURS, "backtrace", backtrace);
        }
        add(OURS, "timestamp-ms", &self.timestamp_ms.to_string());
        add(OURS, "first-failed-at", &self.first_failed_at);
        add(OURS, "last-failed-at", &self.last_failed_at);
        add(OURS, "attempts", &self.attempts.to_string());
        add(OURS, "redrives", &self.redrives.to_string());
        add(OURS, "event-id", &self.event_id);
        if let Some(blocked_by) = &self.blocked_by {
            add(OURS, "blocked-by", blocked_by);
        }
        headers
    }
}

/// The dead letter of `event`, which is the event as the broker delivered it.
pub(crate) fn envelope(event: &Event, failure: &Failure<'_>, to: &DeadLetterConfig) -> Outgoing {
    let letter = DeadLetter::new(event, failure);
    let replaced = |name: &str| {
        name.starts_with(OURS) || name.starts_with(KAFKA) || dialect::owns(to.dialect, name)
    };
    let mut headers: Vec<_> =
        event.headers.iter().filter(|h| !replaced(&h.name)).cloned().collect();
    headers.extend(letter.headers());
    headers.extend(dialect::headers(to.dialect, &letter, event));
    Outgoing {
        connection: None,
        topic: to.topic.clone(),
        key: event.key.clone(),
        payload: event.payload.clone(),
        headers,
        // they are among the headers already, as the producer wrote them
        attributes: Vec::new(),
    }
}

/// The headers that the event inside of `letter` had. Another family's headers are part
/// of the letter where they stand behind ours; before them they are the event's own.
pub(crate) fn headers_of_the_event(letter: &Event) -> Arc<[Header]> {
    let ours = |h: &Header| h.name.starts_with(OURS) || h.name.starts_with(KAFKA);
    let begin = letter.headers.iter().position(ours).unwrap_or(letter.headers.len());
    let kept =
        |(at, h): &(usize, &Header)| !ours(h) && (*at < begin || !dialect::is_owned(&h.name));
    letter.headers.iter().enumerate().filter(kept).map(|(_, h)| h.clone()).collect()
}

/// Where the event inside of `letter` first failed: topic, partition and position.
/// `None` where that is missing or damaged, for its identity may hang on it.
pub(crate) fn first_location(letter: &Event) -> Option<(Arc<str>, u32, u64)> {
    let topic = whole(text(letter, KAFKA, "topic")?)?;
    let partition = text(letter, KAFKA, "partition")?.parse().ok()?;
    Some((topic.into(), partition, text(letter, KAFKA, "offset")?.parse().ok()?))
}

/// `text` unless it is empty or was cut.
pub(crate) fn whole(text: String) -> Option<String> {
    (!text.is_empty() && !text.ends_with(MARK)).then_some(text)
}

fn text(event: &Event, prefix: &str, name: &str) -> Option<String> {
    let mut named = event.headers.iter().filter(|h| h.name.strip_prefix(prefix) == Some(name));
    // the last one counts, as in Kafka's own readers
    let value = named.next_back()?.value.as_deref()?;
    Some(String::from_utf8_lossy(value).into_owned())
}

fn number<N: std::str::FromStr + Default>(text: Option<String>) -> N {
    text.and_then(|t| t.parse().ok()).unwrap_or_default()
}

/// `text` cut to at most `max` bytes, marked where it was cut.
fn capped(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(max - MARK.len());
    format!("{}{MARK}", &text[..end])
}

#[cfg(test)]
#[path = "dead_letter_tests.rs"]
mod tests;
