//! Messages as AMQP 0-9-1 holds them, and as the rest of Sandbar sees them. The table of
//! `docs/brokers/rabbitmq.md` says what goes where.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use lapin::{
    BasicProperties,
    message::Delivery,
    types::{AMQPValue, FieldTable, ShortString},
};
use sandbar_core::{
    Event, Header, Outgoing, PublishError,
    cloudevents::{self, Binding},
    reserved,
};

use crate::config::RabbitMqConfig;

/// The key, where it is not the routing key; no value is no key.
const KEY: &str = "sandbar-key";
/// There is no payload, as opposed to an empty one.
const TOMBSTONE: &str = "sandbar-tombstone";
/// The routing key, where it is not the key.
const ROUTING_KEY: &str = "amqp-routing-key";
/// The time in milliseconds: RabbitMQ's own name for what its property has in seconds.
const MILLISECONDS: &str = "timestamp_in_ms";
/// How often a quorum queue delivered the message before.
const DELIVERY_COUNT: &str = "x-delivery-count";
const MESSAGE_ID: &str = "message-id";
/// What the headers of one message may amount to: they travel in one frame, and by default
/// a broker closes the connection on a frame that is longer than 128 KiB.
const HEADERS: usize = 126 * 1024;
/// Survives a restart of the broker.
const PERSISTENT: u8 = 2;

type Property = (
    &'static str,
    fn(&BasicProperties) -> &Option<ShortString>,
    fn(BasicProperties, ShortString) -> BasicProperties,
);

/// Properties that are headers here.
const PROPERTIES: [Property; 6] = [
    ("content-type", BasicProperties::content_type, BasicProperties::with_content_type),
    ("content-encoding", BasicProperties::content_encoding, BasicProperties::with_content_encoding),
    (MESSAGE_ID, BasicProperties::message_id, BasicProperties::with_message_id),
    ("correlation-id", BasicProperties::correlation_id, BasicProperties::with_correlation_id),
    ("reply-to", BasicProperties::reply_to, BasicProperties::with_reply_to),
    ("type", BasicProperties::kind, BasicProperties::with_type),
];

/// How often the broker delivered the message before; where it does not count, whether.
pub(crate) fn redeliveries(delivery: &Delivery) -> u32 {
    let count = header(&delivery.properties, DELIVERY_COUNT).and_then(integer).unwrap_or(0);
    u32::try_from(count).unwrap_or(u32::MAX).max(u32::from(delivery.redelivered))
}

/// A received message. `topic` is the one subscribed to: what was dead-lettered by the
/// broker came through another exchange.
pub(crate) fn event(
    delivery: Delivery,
    topic: &Arc<str>,
    position: u64,
    config: &RabbitMqConfig,
) -> Event {
    let properties = &delivery.properties;
    let mut headers = Vec::new();
    for (name, get, _) in PROPERTIES {
        headers
            .extend(get(properties).as_ref().map(|v| Header::new(name, String::from(v.clone()))));
    }
    let table = properties.headers().iter().flat_map(|table| table.inner());
    for (name, value) in table {
        if ![KEY, TOMBSTONE, MILLISECONDS, DELIVERY_COUNT].contains(&name.as_str()) {
            read(name.as_str().into(), value, &mut headers);
        }
    }
    let routing_key = delivery.routing_key.as_str().as_bytes();
    let key = key(properties, &headers, routing_key, config);
    if !routing_key.is_empty() && key.as_deref() != Some(routing_key) {
        headers.push(Header::new(ROUTING_KEY, routing_key.to_vec()));
    }
    let mut attributes = cloudevents::attributes(&headers);
    if let Some(id) = properties.message_id().as_ref().map(ToString::to_string) {
        if attributes.is_empty() {
            // what tells the event from others, delivered once or twice
            attributes = [("id".to_owned(), id)].into();
        } else if attributes.contains(&("id".to_owned(), id)) {
            headers.retain(|header| &*header.name != MESSAGE_ID);
        }
    }
    let is_tombstone = header(properties, TOMBSTONE).is_some();
    Event {
        topic: topic.clone(),
        partition: 0,
        position,
        key,
        timestamp_ms: timestamp(properties),
        headers: headers.into(),
        attributes,
        payload: (!is_tombstone).then(|| delivery.data.into()),
    }
}

fn key(
    properties: &BasicProperties,
    headers: &[Header],
    routing_key: &[u8],
    config: &RabbitMqConfig,
) -> Option<Bytes> {
    let named = config.key_header.as_deref();
    let named = named.and_then(|name| headers.iter().find(|h| &*h.name == name));
    if let Some(value) = named.and_then(|header| header.value.clone()) {
        return Some(value);
    }
    match header(properties, KEY) {
        Some(value) => scalar(value),
        None => (!routing_key.is_empty()).then(|| Bytes::copy_from_slice(routing_key)),
    }
}

/// When it was published, in milliseconds since the Unix epoch; now, where nobody says.
fn timestamp(properties: &BasicProperties) -> u64 {
    let exact = header(properties, MILLISECONDS).and_then(integer);
    exact
        .and_then(|ms| u64::try_from(ms).ok())
        .or_else(|| properties.timestamp().map(|seconds| seconds.saturating_mul(1000)))
        .unwrap_or_else(now_ms)
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn header<'a>(properties: &'a BasicProperties, name: &str) -> Option<&'a AMQPValue> {
    properties.headers().as_ref()?.inner().get(name)
}

/// Adds one entry of the table: an array of texts is one header said several times.
fn read(name: Arc<str>, value: &AMQPValue, headers: &mut Vec<Header>) {
    let is_text = |v: &AMQPValue| matches!(v, AMQPValue::LongString(_) | AMQPValue::Void);
    match value {
        AMQPValue::FieldArray(values) if values.as_slice().iter().all(is_text) => {
            let header = |v| Header { name: name.clone(), value: scalar(v) };
            headers.extend(values.as_slice().iter().map(header));
        }
        value => headers.push(Header { name, value: scalar(value) }),
    }
}

/// One value as bytes: text and bytes as they are, all else as text, and what is made of
/// several as JSON.
fn scalar(value: &AMQPValue) -> Option<Bytes> {
    Some(match value {
        AMQPValue::Void => return None,
        AMQPValue::LongString(text) => Bytes::copy_from_slice(text.as_bytes()),
        AMQPValue::ByteArray(bytes) => Bytes::copy_from_slice(bytes.as_slice()),
        value => match json(value) {
            serde_json::Value::String(text) => text.into(),
            other => other.to_string().into(),
        },
    })
}

fn integer(value: &AMQPValue) -> Option<i64> {
    Some(match value {
        AMQPValue::ShortShortInt(v) => (*v).into(),
        AMQPValue::ShortShortUInt(v) => (*v).into(),
        AMQPValue::ShortInt(v) => (*v).into(),
        AMQPValue::ShortUInt(v) => (*v).into(),
        AMQPValue::LongInt(v) => (*v).into(),
        AMQPValue::LongUInt(v) => (*v).into(),
        AMQPValue::LongLongInt(v) => *v,
        _ => return None,
    })
}

fn json(value: &AMQPValue) -> serde_json::Value {
    if let Some(number) = integer(value) {
        return number.into();
    }
    match value {
        AMQPValue::Boolean(v) => (*v).into(),
        AMQPValue::Float(v) => (*v).into(),
        AMQPValue::Double(v) => (*v).into(),
        AMQPValue::DecimalValue(v) => (f64::from(v.value) / 10_f64.powi(v.scale.into())).into(),
        AMQPValue::ShortString(v) => v.as_str().into(),
        AMQPValue::LongString(v) => v.to_string().into(),
        AMQPValue::ByteArray(v) => String::from_utf8_lossy(v.as_slice()).into(),
        AMQPValue::Timestamp(seconds) => SystemTime::UNIX_EPOCH
            .checked_add(Duration::from_secs(*seconds))
            // beyond the year 9999 there is no such text
            .filter(|_| *seconds < 253_402_300_800)
            .map_or((*seconds).into(), |at| {
                humantime::format_rfc3339_seconds(at).to_string().into()
            }),
        AMQPValue::FieldArray(values) => values.as_slice().iter().map(json).collect(),
        AMQPValue::FieldTable(table) => {
            table.inner().iter().map(|(name, v)| (name.to_string(), json(v))).collect()
        }
        _ => serde_json::Value::Null,
    }
}

/// What is published of a record, besides its payload.
#[derive(Debug)]
pub(crate) struct Message {
    pub exchange: ShortString,
    pub routing_key: ShortString,
    pub properties: BasicProperties,
    /// Whether a queue must take it.
    pub mandatory: bool,
}

impl Message {
    /// # Errors
    /// [`PublishError::Rejected`] where AMQP cannot carry it.
    pub fn new(record: &Outgoing, config: &RabbitMqConfig) -> Result<Self, PublishError> {
        let topic = &*record.topic;
        let rejected = |what: String| PublishError::Rejected(format!("topic {topic}: {what}"));
        let exchange = short(topic).ok_or_else(|| {
            rejected("its name is longer than the 255 bytes that AMQP allows".into())
        })?;
        let now = now_ms();
        let mut properties =
            BasicProperties::default().with_delivery_mode(PERSISTENT).with_timestamp(now / 1000);
        let mut routing_key = None;
        let mut table: BTreeMap<ShortString, Vec<AMQPValue>> = BTreeMap::new();
        let mut size = 0;
        for Header { name, value } in &*cloudevents::headers(record, Binding::Amqp) {
            let text = value.as_deref().and_then(|v| std::str::from_utf8(v).ok()).and_then(short);
            let property = PROPERTIES
                .iter()
                .find(|(property, get, _)| *property == &**name && get(&properties).is_none());
            if let (Some((_, _, with)), Some(text)) = (property, &text) {
                properties = with(properties, text.clone());
                continue;
            }
            if &**name == ROUTING_KEY && text.is_some() {
                routing_key = text;
                continue;
            }
            let entry = short(name).ok_or_else(|| {
                rejected("a header's name is longer than the 255 bytes that AMQP allows".into())
            })?;
            size += name.len() + value.as_ref().map_or(0, Bytes::len) + 16;
            table.entry(entry).or_default().push(long(value.as_ref()));
        }
        let id = record.attributes.iter().find(|(name, _)| name == "id").map(|(_, id)| id);
        if properties.message_id().is_none()
            && let Some(id) = id.and_then(|id| short(id))
        {
            properties = properties.with_message_id(id);
        }

        let key = record.key.as_ref();
        let of_key = || key.and_then(|k| std::str::from_utf8(k).ok()).and_then(short);
        let configured = || config.routing_key.as_deref().and_then(short);
        let routing_key = routing_key.or_else(configured).or_else(of_key).unwrap_or_default();
        let told = (!routing_key.as_str().is_empty()).then(|| routing_key.as_str().as_bytes());
        if told != key.map(|k| &**k) {
            size += key.map_or(0, Bytes::len);
            table.insert(KEY.into(), vec![long(key)]);
        }
        if record.payload.is_none() {
            table.insert(TOMBSTONE.into(), vec![AMQPValue::Boolean(true)]);
        }
        let exact = i64::try_from(now).unwrap_or(i64::MAX);
        table.insert(MILLISECONDS.into(), vec![AMQPValue::LongLongInt(exact)]);
        if size > HEADERS {
            return Err(rejected(format!(
                "key and headers have {size} bytes, and one AMQP frame has room for {HEADERS}: \
                 move what is large into the payload"
            )));
        }
        let headers: BTreeMap<ShortString, AMQPValue> = table
            .into_iter()
            .map(|(name, mut values)| match values.pop() {
                Some(only) if values.is_empty() => (name, only),
                last => {
                    values.extend(last);
                    (name, AMQPValue::FieldArray(values.into()))
                }
            })
            .collect();
        let properties = properties.with_headers(FieldTable::from(headers));
        let mandatory = config.mandatory || reserved::is_reserved(topic);
        Ok(Self { exchange, routing_key, properties, mandatory })
    }
}

/// `text`, if AMQP can carry it as a name.
pub(crate) fn short(text: &str) -> Option<ShortString> {
    ShortString::try_new(text).ok()
}

fn long(value: Option<&Bytes>) -> AMQPValue {
    value.map_or(AMQPValue::Void, |value| AMQPValue::LongString(value.to_vec().into()))
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
