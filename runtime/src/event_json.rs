//! Events as JSON: what `tail -o json` prints, `publish --envelope` takes, and
//! `/api/topics/{topic}/events` speaks in both directions, one object a line.
//!
//! A value of bytes is a JSON string where the bytes are UTF-8, else
//! `{"base64": "..."}`; `null` is an absent value (no key, a tombstone, a null header).

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use sandbar_core::{Event, Header, Outgoing, ReadFrom};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Bytes in JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BytesJson(pub Bytes);

/// An event as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventJson {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: u32,
    /// Position within the partition.
    pub position: u64,
    /// Milliseconds since the Unix epoch.
    pub timestamp: u64,
    /// Key.
    pub key: Option<BytesJson>,
    /// Payload; `null` is a tombstone.
    pub payload: Option<BytesJson>,
    /// Headers in order; names may repeat.
    pub headers: Vec<(String, Option<BytesJson>)>,
    /// CloudEvents attributes by bare name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

/// An event to publish. What only a read event has (topic, partition, position,
/// timestamp) is accepted and ignored, so that what was read can be published again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutgoingJson {
    /// Key.
    #[serde(default)]
    pub key: Option<BytesJson>,
    /// Payload; must be there, `null` is a tombstone.
    #[serde(deserialize_with = "Option::deserialize")]
    pub payload: Option<BytesJson>,
    /// Headers in order; names may repeat.
    #[serde(default)]
    pub headers: Vec<(String, Option<BytesJson>)>,
    /// CloudEvents attributes by bare name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    #[serde(default, skip_serializing)]
    topic: Ignored,
    #[serde(default, skip_serializing)]
    partition: Ignored,
    #[serde(default, skip_serializing)]
    position: Ignored,
    #[serde(default, skip_serializing)]
    timestamp: Ignored,
}

/// A key whose value does not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Ignored;

impl<'de> Deserialize<'de> for Ignored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        de::IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// The answer of `POST /api/topics/{topic}/events`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Published {
    /// Events that are durable now.
    pub published: u64,
    /// Events that are not, by their line.
    pub errors: Vec<NotPublished>,
}

/// One event that was not published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotPublished {
    /// Line of the request's body, from 0.
    pub index: usize,
    /// Why.
    pub message: String,
    /// Whether the same event may be published later.
    pub retry: bool,
}

impl From<&Event> for EventJson {
    fn from(event: &Event) -> Self {
        Self {
            topic: event.topic.to_string(),
            partition: event.partition,
            position: event.position,
            timestamp: event.timestamp_ms,
            key: event.key.clone().map(BytesJson),
            payload: event.payload.clone().map(BytesJson),
            headers: headers(&event.headers),
            attributes: event.attributes.iter().cloned().collect(),
        }
    }
}

impl From<EventJson> for Event {
    fn from(json: EventJson) -> Self {
        Self {
            topic: json.topic.into(),
            partition: json.partition,
            position: json.position,
            key: json.key.map(|k| k.0),
            payload: json.payload.map(|p| p.0),
            headers: json.headers.into_iter().map(header).collect(),
            timestamp_ms: json.timestamp,
            attributes: json.attributes.into_iter().collect(),
        }
    }
}

impl From<&Outgoing> for OutgoingJson {
    fn from(event: &Outgoing) -> Self {
        Self {
            key: event.key.clone().map(BytesJson),
            payload: event.payload.clone().map(BytesJson),
            headers: headers(&event.headers),
            attributes: event.attributes.iter().cloned().collect(),
            topic: Ignored,
            partition: Ignored,
            position: Ignored,
            timestamp: Ignored,
        }
    }
}

impl OutgoingJson {
    /// The event, to be published to `topic`.
    pub fn into_outgoing(self, topic: &str) -> Outgoing {
        Outgoing {
            connection: None,
            topic: topic.into(),
            key: self.key.map(|k| k.0),
            payload: self.payload.map(|p| p.0),
            headers: self.headers.into_iter().map(header).collect(),
            attributes: self.attributes.into_iter().collect(),
        }
    }
}

fn headers(headers: &[Header]) -> Vec<(String, Option<BytesJson>)> {
    headers.iter().map(|h| (h.name.to_string(), h.value.clone().map(BytesJson))).collect()
}

fn header((name, value): (String, Option<BytesJson>)) -> Header {
    Header { name: name.into(), value: value.map(|v| v.0) }
}

impl Serialize for BytesJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => BTreeMap::from([("base64", BASE64.encode(&self.0))]).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for BytesJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = BytesJson;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string, {\"base64\": \"...\"} or null")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<BytesJson, E> {
                Ok(BytesJson(Bytes::copy_from_slice(text.as_bytes())))
            }
            fn visit_string<E: de::Error>(self, text: String) -> Result<BytesJson, E> {
                Ok(BytesJson(text.into()))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<BytesJson, A::Error> {
                let Encoded { base64 } =
                    Encoded::deserialize(de::value::MapAccessDeserializer::new(map))?;
                let bytes = BASE64
                    .decode(base64)
                    .map_err(|e| de::Error::custom(format!("not valid base64: {e}")))?;
                Ok(BytesJson(bytes.into()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Encoded {
    base64: String,
}

/// Where to begin to read, as given to `tail --from` and to `?from=`: `start`,
/// `end` (only what arrives from now on), a position, a time such as
/// `2026-11-21T10:00:00Z`, or how long ago, such as `10m`.
///
/// # Errors
/// A text that is none of these.
pub fn parse_from(text: &str, now: std::time::SystemTime) -> Result<ReadFrom, String> {
    let millis = |time: std::time::SystemTime| {
        let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        ReadFrom::Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    };
    match text {
        "start" => return Ok(ReadFrom::Start),
        "end" => return Ok(ReadFrom::Follow),
        _ => {}
    }
    if let Ok(position) = text.parse() {
        return Ok(ReadFrom::Position(position));
    }
    if let Ok(time) = humantime::parse_rfc3339_weak(text) {
        return Ok(millis(time));
    }
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(millis(now.checked_sub(ago).unwrap_or(std::time::UNIX_EPOCH)));
    }
    Err(format!(
        "`{text}` is no place to begin: write start, end, a position, a time such as 2026-11-21T10:00:00Z, or how long ago, such as 10m"
    ))
}

/// The inverse of [`parse_from`].
pub fn from_text(from: ReadFrom) -> String {
    match from {
        ReadFrom::Start => "start".to_owned(),
        ReadFrom::Follow => "end".to_owned(),
        ReadFrom::Position(position) => position.to_string(),
        ReadFrom::Time(ms) => {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms);
            humantime::format_rfc3339_millis(time).to_string()
        }
    }
}

/// A time of the broker, RFC 3339.
pub fn time_text(timestamp_ms: u64) -> String {
    let time = std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_millis(timestamp_ms));
    // the formatter knows years up to 9999
    match time.filter(|_| timestamp_ms < 253_402_300_800_000) {
        Some(time) => humantime::format_rfc3339_millis(time).to_string(),
        None => format!("{timestamp_ms} ms"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn event() -> Event {
        Event {
            topic: "t".into(),
            partition: 1,
            position: 7,
            key: Some(Bytes::from_static(b"\xff\x00")),
            payload: Some(Bytes::from_static("{\"a\": \"ü\"}".as_bytes())),
            headers: [
                Header::new("x", "1"),
                Header { name: "x".into(), value: None },
                Header::new("x", ""),
            ]
            .into(),
            timestamp_ms: 1234,
            attributes: [("type".to_owned(), "made".to_owned())].into(),
        }
    }

    #[test]
    fn an_event_survives_json_byte_for_byte() {
        let text = serde_json::to_string(&EventJson::from(&event())).unwrap();
        insta::assert_snapshot!(text, @r#"{"topic":"t","partition":1,"position":7,"timestamp":1234,"key":{"base64":"/wA="},"payload":"{\"a\": \"ü\"}","headers":[["x","1"],["x",null],["x",""]],"attributes":{"type":"made"}}"#);
        let back: EventJson = serde_json::from_str(&text).unwrap();
        assert_eq!(Event::from(back), event());
    }

    #[test]
    fn a_read_event_can_be_published_again() {
        let text = serde_json::to_string(&EventJson::from(&event())).unwrap();
        let outgoing: OutgoingJson = serde_json::from_str(&text).unwrap();
        let outgoing = outgoing.into_outgoing("other");
        assert_eq!((&*outgoing.topic, &outgoing.key), ("other", &event().key));
        assert_eq!(
            (&outgoing.headers[..], &outgoing.payload),
            (&event().headers[..], &event().payload)
        );
    }

    #[test]
    fn a_tombstone_is_told_from_a_forgotten_payload() {
        let read = |text: &str| serde_json::from_str::<OutgoingJson>(text);
        assert_eq!(read(r#"{"payload":null}"#).unwrap().payload, None);
        assert!(read("{}").unwrap_err().to_string().contains("missing field `payload`"));
        assert!(read(r#"{"payload":"","keyy":""}"#).unwrap_err().to_string().contains("keyy"));
        assert!(read(r#"{"payload":{"base64":"!"}}"#).unwrap_err().to_string().contains("base64"));
        assert!(read(r#"{"payload":{"a":1}}"#).is_err());
    }

    #[test]
    fn places_to_begin() {
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        let from = |text: &str| parse_from(text, now).ok();
        assert_eq!(from("start"), Some(ReadFrom::Start));
        assert_eq!(from("end"), Some(ReadFrom::Follow));
        assert_eq!(from("42"), Some(ReadFrom::Position(42)));
        assert_eq!(from("1970-01-01T00:00:02Z"), Some(ReadFrom::Time(2000)));
        assert_eq!(from("10m"), Some(ReadFrom::Time(400_000)));
        assert_eq!(from("beginning"), None);
        for case in [ReadFrom::Start, ReadFrom::Follow, ReadFrom::Position(3), ReadFrom::Time(1500)]
        {
            assert_eq!(from(&from_text(case)), Some(case));
        }
    }

    #[test]
    fn times_of_any_broker_can_be_shown() {
        assert_eq!(time_text(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time_text(u64::MAX), format!("{} ms", u64::MAX));
    }
}
