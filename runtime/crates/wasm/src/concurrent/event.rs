//! An event as a call takes it that may outlast whoever made it: by parts that are shared.

use std::sync::Arc;

use bytes::Bytes;
use sandbar_core::Call;
use wasmtime::component::{ComponentType, Lower};

/// `event` of `sandbar:events/types`.
#[derive(ComponentType, Lower)]
#[component(record)]
pub(crate) struct Event {
    topic: Arc<str>,
    partition: u32,
    position: u64,
    key: Option<Bytes>,
    payload: Option<Bytes>,
    headers: Vec<Header>,
    #[component(name = "timestamp-ms")]
    timestamp_ms: u64,
    attempt: u32,
    attributes: Arc<[(String, String)]>,
}

#[derive(ComponentType, Lower)]
#[component(record)]
pub(crate) struct Header {
    name: Arc<str>,
    value: Bytes,
}

impl Event {
    pub(super) fn of(call: &Call) -> Self {
        let event = &call.event;
        let header = |h: &sandbar_core::Header| Header {
            name: Arc::clone(&h.name),
            // the contract has no null header
            value: h.value.clone().unwrap_or_default(),
        };
        Self {
            topic: Arc::clone(&event.topic),
            partition: event.partition,
            position: event.position,
            key: event.key.clone(),
            payload: event.payload.clone(),
            headers: event.headers.iter().map(header).collect(),
            timestamp_ms: event.timestamp_ms,
            attempt: call.attempt,
            attributes: Arc::clone(&event.attributes),
        }
    }
}
