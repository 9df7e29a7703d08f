use std::{
    str,
    time::{Duration, SystemTime},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{Bytes, Failure, Json, Text, extract::FromEvent};

/// A broker header. Names may repeat; the value is raw bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Header name.
    pub name: Text,
    /// Raw value; a broker's null value arrives as an empty one.
    pub value: Bytes,
}

impl Header {
    /// A header from anything that has a name and bytes.
    pub fn new(name: impl Into<Text>, value: impl Into<Bytes>) -> Self {
        Self { name: name.into(), value: value.into() }
    }

    /// The value as text, where it is UTF-8.
    pub fn text(&self) -> Option<&str> {
        str::from_utf8(&self.value).ok()
    }
}

/// One event as it was delivered.
///
/// In unit tests make one with [`Event::new`] and the `with_` methods:
///
/// ```
/// use sandbar_sdk::Event;
///
/// let event = Event::new("orders").with_key("customer-7").with_text("{\"total\":12}");
/// assert_eq!(event.id(), "orders/0/0");
/// let order: serde_json::Value = event.json()?;
/// assert_eq!(order["total"], 12);
/// # Ok::<(), sandbar_sdk::Failure>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// Topic, subject, queue or stream.
    pub topic: Text,
    /// Partition or shard; 0 where the broker has none.
    pub partition: u32,
    /// Offset or stream sequence within the partition; 0 where the broker has none.
    pub position: u64,
    /// Partitioning or routing key.
    pub key: Option<Bytes>,
    /// `None` is a tombstone (a delete marker); an empty payload is `Some` of no bytes.
    pub payload: Option<Bytes>,
    /// Headers in the broker's order.
    pub headers: Vec<Header>,
    /// Broker timestamp, milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
    /// 1 on first delivery, +1 on each retry of this event to this plugin.
    pub attempt: u32,
    /// CloudEvents context attributes by bare name (`id`, `type`, `source`, ...) and
    /// host extras under `sandbar-*`.
    pub attributes: Vec<(Text, Text)>,
}

impl Event {
    /// An event for a unit test: no key, no payload, position 0, first attempt.
    pub fn new(topic: impl Into<Text>) -> Self {
        Self {
            topic: topic.into(),
            partition: 0,
            position: 0,
            key: None,
            payload: None,
            headers: Vec::new(),
            timestamp_ms: 0,
            attempt: 1,
            attributes: Vec::new(),
        }
    }

    /// The same event with a key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The same event with these bytes as its payload.
    #[must_use]
    pub fn with_payload(mut self, payload: impl Into<Bytes>) -> Self {
        self.payload = Some(payload.into());
        self
    }

    /// The same event with text as its payload.
    #[must_use]
    pub fn with_text(self, text: impl Into<String>) -> Self {
        self.with_payload(text.into())
    }

    /// The same event with `value` as its JSON payload.
    ///
    /// # Panics
    /// Where `value` has no JSON form (a map with keys that are no strings).
    #[must_use]
    pub fn with_json(self, value: &impl Serialize) -> Self {
        let bytes = serde_json::to_vec(value).expect("the test's value has a JSON form");
        self.with_payload(bytes)
    }

    /// The same event with one more header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<Text>, value: impl Into<Bytes>) -> Self {
        self.headers.push(Header::new(name, value));
        self
    }

    /// The same event with one more CloudEvents attribute.
    #[must_use]
    pub fn with_attribute(mut self, name: impl Into<Text>, value: impl Into<Text>) -> Self {
        self.attributes.push((name.into(), value.into()));
        self
    }

    /// The same event at this partition and offset.
    #[must_use]
    pub fn at(mut self, partition: u32, position: u64) -> Self {
        (self.partition, self.position) = (partition, position);
        self
    }

    /// The same event on its `attempt`-th delivery, counted from 1.
    #[must_use]
    pub fn on_attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }

    /// Identity that is stable across redeliveries and replays, fit for an
    /// idempotency key: the CloudEvents `source#id` or `id` where the producer gave
    /// them, `topic/partition/position` otherwise.
    pub fn id(&self) -> String {
        match (self.attribute("source"), self.attribute("id")) {
            (Some(source), Some(id)) => format!("{source}#{id}"),
            (None, Some(id)) => id.to_owned(),
            _ => format!("{}/{}/{}", self.topic, self.partition, self.position),
        }
    }

    /// The key as text, where there is one and it is UTF-8.
    pub fn key_text(&self) -> Option<&str> {
        str::from_utf8(self.key.as_deref()?).ok()
    }

    /// The payload's bytes.
    ///
    /// # Errors
    /// Rejects a tombstone with code `no-payload`.
    pub fn bytes(&self) -> Result<&[u8], Failure> {
        self.payload
            .as_deref()
            .ok_or_else(|| Failure::reject("no-payload", "the event is a tombstone"))
    }

    /// The payload as text.
    ///
    /// # Errors
    /// Rejects a tombstone with code `no-payload` and bytes that are no UTF-8 with
    /// code `invalid-utf8`.
    pub fn text(&self) -> Result<&str, Failure> {
        Ok(str::from_utf8(self.bytes()?)?)
    }

    /// The payload read as JSON. For a type that borrows from the payload take
    /// [`Json<T>`] as the handler's argument instead.
    ///
    /// # Errors
    /// Rejects a tombstone with code `no-payload` and anything that is no `T` with
    /// code `invalid-json`, naming path, line and column.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        Json::from_event(self).map(|Json(value)| value)
    }

    /// Value of the first header called `name`; letter case counts.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|h| h.name == name).map(|h| &*h.value)
    }

    /// As [`header`](Self::header), as text; `None` also where it is no UTF-8.
    pub fn header_text(&self, name: &str) -> Option<&str> {
        str::from_utf8(self.header(name)?).ok()
    }

    /// The CloudEvents attribute or host extra called `name`.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(n, _)| n == name).map(|(_, v)| &**v)
    }

    /// Media type of the payload: the CloudEvents attribute `datacontenttype`, else
    /// the header `content-type` in any letter case.
    pub fn content_type(&self) -> Option<&str> {
        let header = || self.headers.iter().find(|h| h.name.eq_ignore_ascii_case("content-type"));
        self.attribute("datacontenttype").or_else(|| header()?.text())
    }

    /// The broker's timestamp.
    pub fn timestamp(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.timestamp_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i1_identity_is_source_and_id_or_the_position() {
        let event = Event::new("t").at(2, 7);
        assert_eq!(event.id(), "t/2/7");
        assert_eq!(event.clone().with_attribute("source", "/s").id(), "t/2/7");
        let event = event.with_attribute("id", "1");
        assert_eq!(event.id(), "1");
        assert_eq!(event.with_attribute("source", "/s").id(), "/s#1");
    }

    #[test]
    fn content_type_prefers_the_attribute_and_ignores_case_of_the_header() {
        let event = Event::new("t").with_header("Content-Type", "text/plain");
        assert_eq!(event.content_type(), Some("text/plain"));
        let event = event.with_attribute("datacontenttype", "application/json");
        assert_eq!(event.content_type(), Some("application/json"));
        assert_eq!(Event::new("t").with_header("content-type", [0xff]).content_type(), None);
    }

    #[test]
    fn text_and_bytes_tell_tombstone_empty_and_binary_apart() {
        assert!(
            matches!(Event::new("t").text(), Err(Failure::Reject { code, .. }) if code == "no-payload")
        );
        assert_eq!(Event::new("t").with_text("").text().unwrap(), "");
        let binary = Event::new("t").with_payload([0xff]);
        assert!(
            matches!(binary.text(), Err(Failure::Reject { code, .. }) if code == "invalid-utf8")
        );
        assert_eq!(binary.bytes().unwrap(), [0xff]);
    }
}
