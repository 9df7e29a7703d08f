//! Messages as NATS holds them, and events as the rest of Sandbar sees them.
//!
//! A NATS header is a line of text under a name without colon or space, and names that
//! begin with `Nats-` are orders to the server. What does not fit is written in base64:
//! a value under its own name, which [`ENCODED`] then lists, and a name behind [`NAMED`].

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use async_nats::{
    HeaderMap, HeaderName, HeaderValue, Message,
    jetstream::{self, Context},
};
use base64::{Engine, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use sandbar_core::{
    Event, Header, Outgoing,
    cloudevents::{self, Binding},
    reserved,
};

use crate::{config::NatsConfig, streams::Topic, topics};

/// The event's key, where no other header is configured for it.
const KEY: &str = "sandbar-key";
/// Names of headers whose values are base64; one that is [`NULL`] there is null.
const ENCODED: &str = "sandbar-encoded";
const NULL: &str = "!";
/// Before the base64 of a header name that is none for NATS.
const NAMED: &str = "sandbar-name-";
/// The payload is null, not empty.
const TOMBSTONE: &str = "sandbar-tombstone";
/// Begins the message ids that we make.
const OUR_ID: &str = "sandbar:";
const MESSAGE_ID: &str = "Nats-Msg-Id";
/// Written by the server when it delivers to the active reader.
const PIN: &str = "Nats-Pin-Id";
/// Headers of a dead letter begin with this (contract D2).
const DEAD_LETTER: &str = "__dlq.";

/// What a message says of itself as a delivery of a consumer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub position: u64,
    /// Counts all deliveries of the consumer.
    pub delivery: u64,
    /// How often this event was delivered, with this time.
    pub times: u64,
    /// Events for the consumer behind this one.
    pub behind: u64,
    pub timestamp_ms: u64,
}

impl Place {
    /// `None` for a message that no consumer delivered. Gives the message back.
    pub fn of(message: Message, context: &Context) -> (Message, Option<Self>) {
        let message = jetstream::Message { message, context: context.clone() };
        let place = message.info().ok().map(|info| Self {
            position: info.stream_sequence,
            delivery: info.consumer_sequence,
            times: u64::try_from(info.delivered).unwrap_or(1),
            behind: info.pending,
            timestamp_ms: u64::try_from(info.published.unix_timestamp_nanos() / 1_000_000)
                .unwrap_or_default(),
        });
        (message.message, place)
    }
}

/// The pin that a message was delivered under.
pub(crate) fn pin(message: &Message) -> Option<&str> {
    message.headers.as_ref()?.get(PIN).map(HeaderValue::as_str)
}

/// The event that a message holds. `topic` may be a subject with wildcards: then the event's
/// is the subject it was published to.
pub(crate) fn event(
    message: Message,
    topic: &Arc<str>,
    (position, timestamp_ms): (u64, u64),
    config: &NatsConfig,
) -> Event {
    let wild = topic.contains(['*', '>']);
    let mut read = message.headers.map(read).unwrap_or_default();
    let key = read.key.take().or_else(|| {
        let named = config
            .key_header
            .as_ref()
            .and_then(|name| read.headers.iter().find(|h| *h.name == **name)?.value.clone());
        let token = || message.subject.split('.').nth(config.key_token? - 1);
        named.or_else(|| token().map(|t| Bytes::copy_from_slice(t.as_bytes())))
    });
    Event {
        topic: if wild { message.subject.as_str().into() } else { topic.clone() },
        partition: 0,
        position,
        key,
        payload: (!read.tombstone).then_some(message.payload),
        attributes: cloudevents::attributes(&read.headers),
        headers: read.headers.into(),
        timestamp_ms,
    }
}

#[derive(Default)]
struct Read {
    headers: Vec<Header>,
    key: Option<Bytes>,
    tombstone: bool,
}

fn read(map: HeaderMap) -> Read {
    let mut read = Read::default();
    let encoded: Vec<String> = map.get_all(ENCODED).map(ToString::to_string).collect();
    // the client forgets the order of names: at least it is always the same
    let mut all: Vec<(String, Vec<HeaderValue>)> =
        map.iter().map(|(n, v)| (n.to_string(), v.to_vec())).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, values) in all {
        let raw = encoded.contains(&name);
        let decode = |value: &HeaderValue| {
            let text = value.as_str();
            if !raw {
                return Some(Bytes::copy_from_slice(text.as_bytes()));
            }
            if text == NULL {
                return None;
            }
            // whatever wrote this, it is no base64: the handler may know
            let kept = || Bytes::copy_from_slice(text.as_bytes());
            Some(BASE64_STANDARD.decode(text).map_or_else(|_| kept(), Bytes::from))
        };
        match &*name {
            ENCODED | PIN => continue,
            TOMBSTONE => read.tombstone = true,
            KEY => read.key = values.first().and_then(decode),
            MESSAGE_ID if values.iter().any(|v| v.as_str().starts_with(OUR_ID)) => {}
            _ => {
                let shown: Arc<str> = shown(&name).into();
                let header = |v| Header { name: shown.clone(), value: decode(v) };
                read.headers.extend(values.iter().map(header));
            }
        }
    }
    read
}

/// The name that was written as `name`.
fn shown(name: &str) -> String {
    let decoded = name
        .strip_prefix(NAMED)
        .and_then(|text| BASE64_URL_SAFE_NO_PAD.decode(text).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok());
    decoded.unwrap_or_else(|| name.to_owned())
}

/// The name to write for a header called `name`.
fn written(name: &str) -> Cow<'_, str> {
    let ours = [KEY, ENCODED, TOMBSTONE].contains(&name) || name.starts_with(NAMED);
    let order = name.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("nats-"));
    if name.parse::<HeaderName>().is_ok() && !ours && !order && !name.is_empty() {
        return Cow::Borrowed(name);
    }
    Cow::Owned(format!("{NAMED}{}", BASE64_URL_SAFE_NO_PAD.encode(name)))
}

/// `value` as it stands in a header, where that is possible.
fn plain(value: &Bytes) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?;
    (text.trim() == text && !text.contains(char::is_control)).then_some(text)
}

/// Writes the values of a header; `name` must be one for NATS.
fn append(map: &mut HeaderMap, name: &str, values: &[Option<&Bytes>]) {
    let texts: Option<Vec<&str>> = values.iter().map(|v| v.and_then(plain)).collect();
    if let Some(texts) = texts {
        for text in texts {
            map.append(name, HeaderValue::from(text));
        }
        return;
    }
    map.append(ENCODED, name);
    for value in values {
        let text = value.map_or_else(|| NULL.to_owned(), |v| BASE64_STANDARD.encode(v));
        map.append(name, text);
    }
}

/// The headers to write for a record.
pub(crate) fn headers(record: &Outgoing, config: &NatsConfig) -> HeaderMap {
    let mut map = HeaderMap::new();
    let all = cloudevents::headers(record, Binding::Nats);
    let mut by_name: BTreeMap<&str, Vec<Option<&Bytes>>> = BTreeMap::new();
    for header in all.iter() {
        by_name.entry(&header.name).or_default().push(header.value.as_ref());
    }
    if let Some(key) = &record.key {
        match &config.key_header {
            Some(name) => {
                by_name.entry(name).or_insert_with(|| vec![Some(key)]);
            }
            None => append(&mut map, KEY, &[Some(key)]),
        }
    }
    for (name, values) in by_name {
        append(&mut map, &written(name), &values);
    }
    if record.payload.is_none() {
        map.insert(TOMBSTONE, "1");
    }
    if let Some(id) = message_id(record) {
        map.insert(MESSAGE_ID, id);
    }
    map
}

/// What the server knows a repetition of this record by.
///
/// A CloudEvents id counts only together with what the event says, so that nothing but a
/// repetition is ever dropped. Dead letters and parcels repeat the ids of what they carry, and
/// are never taken for repetitions.
fn message_id(record: &Outgoing) -> Option<String> {
    let dead = record.headers.iter().any(|h| h.name.starts_with(DEAD_LETTER));
    if dead || reserved::is_reserved(&record.topic) {
        return None;
    }
    let given = record.headers.iter().find(|h| {
        h.name.eq_ignore_ascii_case("idempotency-key") || h.name.eq_ignore_ascii_case(MESSAGE_ID)
    });
    if let Some(value) = given.and_then(|h| h.value.as_ref()) {
        return plain(value).map(|text| format!("{OUR_ID}{text}"));
    }
    let attribute = |name: &str| record.attributes.iter().find(|(n, _)| n == name);
    let (_, id) = attribute("id")?;
    let source = attribute("source").map_or("", |(_, v)| v);
    let text = format!("{OUR_ID}{source}#{id}");
    plain(&Bytes::from(text.clone()))?;
    let content = [record.key.as_deref(), record.payload.as_deref()].map(|b| {
        b.map_or_else(|| "-".to_owned(), |bytes| format!("{:x}", topics::checksum(bytes)))
    });
    Some(format!("{text}#{}", content.join("#")))
}

/// The subject to publish a record to, or why there is none.
pub(crate) fn subject(
    record: &Outgoing,
    topic: &Topic,
    config: &NatsConfig,
) -> Result<String, String> {
    if let (Some(prefix), Some(key)) = (&topic.keyed, &record.key) {
        let token = BASE64_URL_SAFE_NO_PAD.encode(key);
        // a subject that does not fit into a line of the protocol would end the connection
        if token.len() > 2048 {
            return Err(format!("topic {}: a key of {} bytes is too long", topic.name, key.len()));
        }
        return Ok(format!("{prefix}{token}"));
    }
    if !record.topic.contains(['*', '>']) {
        return Ok(record.topic.to_string());
    }
    let at = config.key_token.map(|n| n - 1);
    let mut tokens: Vec<&str> = record.topic.split('.').collect();
    let key = record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok());
    if let (Some(at), Some(key)) = (at.filter(|at| tokens.get(*at) == Some(&"*")), key) {
        if !topics::is_valid(key) || key.contains(['.', '*', '>']) {
            return Err(format!("topic {}: key `{key}` is no token of a subject", topic.name));
        }
        tokens[at] = key;
    }
    let subject = tokens.join(".");
    if subject.contains(['*', '>']) {
        return Err(format!(
            "topic {} has a wildcard: events can be written to it only with a key, and with \
             `key-token` saying that the key is what stands there",
            topic.name
        ));
    }
    Ok(subject)
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
