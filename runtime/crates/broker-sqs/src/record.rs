//! Messages as SQS holds them, and as the rest of Sandbar sees them.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use sandbar_core::{
    Event, Header, Outgoing,
    cloudevents::{self, Binding},
};

use crate::attributes::{self, Attributes, BODY, Value};

/// Message groups that are no keys: of events without one, and of keys that cannot be one.
const OWN_GROUP: &str = "sandbar:";
/// Body of a message without a payload, since SQS allows none that is empty.
const NO_BODY: &str = "-";

/// A message to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub body: String,
    pub attributes: Attributes,
    pub fifo: Option<Fifo>,
}

/// What a FIFO queue asks for beside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fifo {
    pub group: String,
    pub deduplication: String,
}

/// A message that was received.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub id: String,
    pub receipt: String,
    pub body: String,
    pub attributes: Attributes,
    /// Message group, on FIFO queues.
    pub group: Option<Arc<str>>,
    /// Milliseconds since the Unix epoch.
    pub sent_ms: u64,
    /// How often it was received, this time included.
    pub receives: u32,
}

impl Message {
    /// `record` as a message whose key travels in the attribute `key`.
    pub fn new(record: &Outgoing, key: &str, fifo: bool) -> Self {
        let (body, marker) = match record.payload.as_deref() {
            None => (NO_BODY.to_owned(), Some("null")),
            Some([]) => (NO_BODY.to_owned(), Some("empty")),
            Some(payload) => match attributes::text(payload) {
                Some(text) => (text.to_owned(), None),
                None => (BASE64_STANDARD.encode(payload), Some("base64")),
            },
        };
        let mut headers = cloudevents::headers(record, Binding::Kafka).into_owned();
        if let Some(value) = &record.key {
            headers.retain(|header| *header.name != *key);
            headers.insert(0, Header::new(key, value.clone()));
        }
        let first = marker.map(|m| (BODY.to_owned(), Value::Text(m.to_owned())));
        let attributes = attributes::pack(&headers, key, first.into_iter().collect());
        let fifo = fifo.then(|| Fifo::new(record, &body, &attributes));
        Self { body, attributes, fifo }
    }

    /// Bytes that the limit of a queue counts: body, and name, type and value of each attribute.
    pub fn size(&self) -> usize {
        let attribute =
            |(name, value): &(String, Value)| name.len() + value.data_type().len() + value.len();
        self.body.len() + self.attributes.iter().map(attribute).sum::<usize>()
    }
}

impl Fifo {
    /// SQS drops a message whose deduplication id it saw within five minutes, and says
    /// nothing. So an event is known by its id together with all that it says: the same id
    /// with other headers (a retry, another dead letter) is another message. Events
    /// without an id may be equal and still be two.
    fn new(record: &Outgoing, body: &str, attributes: &Attributes) -> Self {
        let deduplication = match record.attributes.iter().any(|(name, _)| name == "id") {
            false => format!("{:032x}", rand::random::<u128>()),
            true => digest(record, body, attributes),
        };
        let group = match record.key.as_deref() {
            None => format!("{OWN_GROUP}none:{deduplication}"),
            Some(key) => group(key),
        };
        Self { group, deduplication }
    }
}

fn digest(record: &Outgoing, body: &str, attributes: &Attributes) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut add = |part: &[u8]| {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    };
    add(record.topic.as_bytes());
    add(body.as_bytes());
    // the listing of headers would have the trace, too, which differs from attempt to attempt
    let is_trace = |name: &str| matches!(name, "traceparent" | "tracestate");
    for header in record.headers.iter().filter(|h| !is_trace(&h.name)) {
        add(header.name.as_bytes());
        add(header.value.as_deref().unwrap_or_default());
    }
    for (name, value) in &record.attributes {
        add(name.as_bytes());
        add(value.as_bytes());
    }
    add(record.key.as_deref().unwrap_or_default());
    // a null payload and an empty one have the same body
    let marker = attributes.iter().find(|(name, _)| name == BODY);
    add(marker.map_or(&[][..], |(_, value)| match value {
        Value::Text(text) => text.as_bytes(),
        Value::Binary(bytes) => bytes,
    }));
    hasher.finalize().to_hex().to_string()
}

/// The message group of `key`: the key itself where that can be one.
fn group(key: &[u8]) -> String {
    let is_legal = (1..=128).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic);
    match std::str::from_utf8(key) {
        Ok(text) if is_legal && !text.starts_with(OWN_GROUP) => text.to_owned(),
        _ => format!("{OWN_GROUP}{}", blake3::hash(key).to_hex()),
    }
}

impl Received {
    /// The event of `topic` that this message is.
    pub fn into_event(self, topic: &Arc<str>, key: &str) -> Event {
        let position = self.position();
        let Self { body, mut attributes, group, sent_ms, .. } = self;
        let marker = attributes.iter().position(|(name, _)| name == BODY);
        let marker = marker.map(|at| attributes.remove(at).1.into_bytes());
        let payload = match marker.as_deref() {
            Some(b"null") => None,
            Some(b"empty") => Some(Bytes::new()),
            // others may write what is none: then the body is what it is
            Some(b"base64") => Some(BASE64_STANDARD.decode(&body).map_or(body.into(), Bytes::from)),
            _ => Some(body.into()),
        };
        let mut headers = attributes::unpack(attributes);
        let at = headers.iter().position(|header| *header.name == *key);
        let key = match at {
            Some(at) => headers.remove(at).value,
            None => group
                .filter(|group| !group.starts_with(OWN_GROUP))
                .map(|group| Bytes::copy_from_slice(group.as_bytes())),
        };
        Event {
            topic: topic.clone(),
            partition: 0,
            position,
            key,
            payload,
            attributes: cloudevents::attributes(&headers),
            headers: headers.into(),
            timestamp_ms: sent_ms,
        }
    }

    /// What names the message for as long as it is in its queue, however often and by whom
    /// it is received: 63 bits of a digest of its id.
    fn position(&self) -> u64 {
        let digest = blake3::hash(self.id.as_bytes());
        digest.as_bytes()[..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte)) >> 1
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
