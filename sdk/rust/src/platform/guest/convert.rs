//! Between the SDK's types and the boundary's. Strings and lists are moved, never copied.

use super::base::sandbar::events::types as wit;
use crate::{Event, Failure, Header, Outcome, Outgoing, Text, failure::millis};

pub(super) fn event(event: wit::Event) -> Event {
    let attribute = |(n, v): (String, String)| (Text::from(n), Text::from(v));
    Event {
        topic: event.topic.into(),
        partition: event.partition,
        position: event.position,
        key: event.key.map(Into::into),
        payload: event.payload.map(Into::into),
        headers: event.headers.into_iter().map(|h| Header::new(h.name, h.value)).collect(),
        timestamp_ms: event.timestamp_ms,
        attempt: event.attempt,
        attributes: event.attributes.into_iter().map(attribute).collect(),
    }
}

pub(super) fn outcome(outcome: Outcome) -> Result<Vec<wit::Outgoing>, wit::Failure> {
    match outcome {
        Ok(events) => Ok(events.into_iter().map(outgoing).collect()),
        Err(failure) => Err(self::failure(failure)),
    }
}

pub(super) fn outgoing(event: Outgoing) -> wit::Outgoing {
    let header = |h: Header| wit::Header { name: h.name.into(), value: h.value.into() };
    wit::Outgoing {
        connection: event.connection.map(Into::into),
        topic: event.topic.into(),
        key: event.key.map(Into::into),
        payload: event.payload.map(Into::into),
        headers: event.headers.into_iter().map(header).collect(),
        attributes: event.attributes.into_iter().map(|(n, v)| (n.into(), v.into())).collect(),
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
