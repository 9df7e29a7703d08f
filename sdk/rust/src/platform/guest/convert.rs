//! Between the SDK's types and the boundary's. Strings and lists are moved, never copied.

use super::base::sandbar::events::types as wit;
use crate::{Event, Failure, Header, Outcome, Outgoing};

pub(super) fn event(event: wit::Event) -> Event {
    Event {
        topic: event.topic,
        partition: event.partition,
        position: event.position,
        key: event.key,
        payload: event.payload,
        headers: event
            .headers
            .into_iter()
            .map(|h| Header { name: h.name, value: h.value })
            .collect(),
        timestamp_ms: event.timestamp_ms,
        attempt: event.attempt,
        attributes: event.attributes,
    }
}

pub(super) fn outcome(outcome: Outcome) -> Result<Vec<wit::Outgoing>, wit::Failure> {
    match outcome {
        Ok(events) => Ok(events.into_iter().map(outgoing).collect()),
        Err(failure) => Err(self::failure(failure)),
    }
}

pub(super) fn outgoing(event: Outgoing) -> wit::Outgoing {
    let header = |h: Header| wit::Header { name: h.name, value: h.value };
    wit::Outgoing {
        connection: event.connection,
        topic: event.topic,
        key: event.key,
        payload: event.payload,
        headers: event.headers.into_iter().map(header).collect(),
        attributes: event.attributes,
    }
}

fn failure(failure: Failure) -> wit::Failure {
    match failure {
        Failure::Retry { reason, after } => {
            wit::Failure::Retry(wit::RetryHint { reason, delay_ms: after.map(millis) })
        }
        Failure::Reject { code, message } => {
            wit::Failure::Reject(wit::RejectReason { code, message })
        }
        Failure::Skip { reason } => wit::Failure::Skip(reason),
        Failure::Defer { pause } => wit::Failure::Defer(millis(pause)),
    }
}

/// A longer time than u64 milliseconds (584 million years) is as good as this one.
pub(super) fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
