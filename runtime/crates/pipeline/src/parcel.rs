//! The parcel: an event that one group alone is to handle, on its way to the inbox of
//! that group (contract D3, R5).
//!
//! Key, payload and headers lie in the record byte for byte. What else the group has to
//! know stands in headers of the parcel, all of them text. Their names are reserved: an
//! event's own headers called `sandbar-parcel-*` do not come through.

use std::{fmt, str::FromStr, sync::Arc};

use bytes::Bytes;
use sandbar_core::{Event, Header, Outgoing};

use crate::{DeadLetter, clock, dead_letter};

const OURS: &str = "sandbar-parcel-";

/// An event and what its group is to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// The group that is to handle it.
    pub to: String,
    /// Why it does not come straight from its topic.
    pub reason: Reason,
    /// Number of its next attempt.
    pub attempt: u32,
    /// How often it was redriven, this time included.
    pub redrives: u32,
    /// Time of its first failure, milliseconds since the Unix epoch.
    pub first_failed_ms: u64,
    /// When its present round of attempts began, which is what limits their age (contract
    /// R2), milliseconds since the Unix epoch; `None` where none was made yet.
    pub began_ms: Option<u64>,
    /// Not to be handled before, milliseconds since the Unix epoch (contract R1).
    pub due_ms: u64,
    /// The event with the topic, partition, position and timestamp that it first had.
    pub event: Event,
}

/// Why an event comes as a parcel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// An attempt failed, and the next one is delayed.
    Retry,
    /// It was a dead letter and is to be tried anew.
    Redrive,
}

impl Reason {
    fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Redrive => "redrive",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Reason {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Retry, Self::Redrive].into_iter().find(|r| r.as_str() == text).ok_or(())
    }
}

/// Why a record is no parcel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParcelError {
    /// A header is not there or has a null value.
    #[error("no parcel: it lacks the header `{OURS}{0}`")]
    Missing(&'static str),
    /// A header does not say what it should.
    #[error("no parcel: its header `{OURS}{name}` says `{value}`")]
    Damaged {
        /// Name without the prefix.
        name: &'static str,
        /// What it says.
        value: String,
    },
}

impl Parcel {
    /// The event inside of `letter`, to be tried anew by the group that failed, without
    /// the headers that made it a dead letter. `None` where it is no dead letter of ours,
    /// or does not say where it comes from and who failed.
    pub fn of_dead_letter(letter: &Event) -> Option<Self> {
        let said = DeadLetter::parse(letter)?;
        let (topic, partition, position) = dead_letter::first_location(letter)?;
        let to = dead_letter::whole(said.group)?;
        Some(Self {
            to,
            reason: Reason::Redrive,
            attempt: 1,
            redrives: said.redrives.saturating_add(1),
            first_failed_ms: clock::parse_rfc3339(&said.first_failed_at)
                .unwrap_or(letter.timestamp_ms),
            began_ms: None,
            due_ms: 0,
            event: Event {
                topic,
                partition,
                position,
                timestamp_ms: said.timestamp_ms,
                headers: dead_letter::headers_of_the_event(letter),
                ..letter.clone()
            },
        })
    }

    /// The record that carries it, to be published to `topic`.
    pub fn record(&self, topic: impl Into<Arc<str>>) -> Outgoing {
        let Self { event, .. } = self;
        let mut headers = Vec::with_capacity(event.headers.len() + 11);
        headers.extend(event.headers.iter().filter(|h| !h.name.starts_with(OURS)).cloned());
        let mut add =
            |name: &str, value: String| headers.push(Header::new(format!("{OURS}{name}"), value));
        add("to", self.to.clone());
        add("reason", self.reason.to_string());
        add("topic", event.topic.to_string());
        add("partition", event.partition.to_string());
        add("position", event.position.to_string());
        add("timestamp", event.timestamp_ms.to_string());
        add("attempt", self.attempt.to_string());
        add("redrives", self.redrives.to_string());
        add("first-failed-ms", self.first_failed_ms.to_string());
        if let Some(began_ms) = self.began_ms {
            add("began-ms", began_ms.to_string());
        }
        add("due-ms", self.due_ms.to_string());
        Outgoing {
            connection: None,
            topic: topic.into(),
            key: event.key.clone(),
            payload: event.payload.clone(),
            headers,
            // they are among the headers already, as the producer wrote them
            attributes: Vec::new(),
        }
    }

    /// What [`record`](Self::record) has put into `carrier`.
    ///
    /// # Errors
    /// Where `carrier` is no parcel, or a damaged one.
    pub fn open(carrier: &Event) -> Result<Self, ParcelError> {
        let event = Event {
            topic: required::<String>(carrier, "topic")?.into(),
            partition: required(carrier, "partition")?,
            position: required(carrier, "position")?,
            timestamp_ms: required(carrier, "timestamp")?,
            headers: carrier
                .headers
                .iter()
                .filter(|h| !h.name.starts_with(OURS))
                .cloned()
                .collect(),
            ..carrier.clone()
        };
        Ok(Self {
            to: required(carrier, "to")?,
            reason: required(carrier, "reason")?,
            attempt: required(carrier, "attempt")?,
            redrives: required(carrier, "redrives")?,
            first_failed_ms: required(carrier, "first-failed-ms")?,
            began_ms: optional(carrier, "began-ms")?,
            due_ms: required(carrier, "due-ms")?,
            event,
        })
    }
}

fn required<T: FromStr>(carrier: &Event, name: &'static str) -> Result<T, ParcelError> {
    optional(carrier, name)?.ok_or(ParcelError::Missing(name))
}

fn optional<T: FromStr>(carrier: &Event, name: &'static str) -> Result<Option<T>, ParcelError> {
    let named = |h: &&Header| h.name.strip_prefix(OURS) == Some(name);
    let value = carrier.headers.iter().rfind(named).and_then(|h| h.value.as_ref());
    let parse = |value: &Bytes| {
        let text = std::str::from_utf8(value).ok();
        text.and_then(|t| t.parse().ok()).ok_or_else(|| ParcelError::Damaged {
            name,
            value: String::from_utf8_lossy(value).into_owned(),
        })
    };
    value.map(parse).transpose()
}

#[cfg(test)]
#[path = "parcel_tests.rs"]
mod tests;
