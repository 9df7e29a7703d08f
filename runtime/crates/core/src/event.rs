//! The event, as it comes in and as it goes out.

use std::sync::Arc;

use bytes::Bytes;

/// A broker header. Names may repeat; a value may be null, empty or any bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Header name. Kafka defines it as UTF-8; invalid bytes are replaced on receipt.
    pub name: Arc<str>,
    /// Raw value; `None` is Kafka's null value and is kept apart from an empty one.
    pub value: Option<Bytes>,
}

impl Header {
    /// A header with a value.
    pub fn new(name: impl Into<Arc<str>>, value: impl Into<Bytes>) -> Self {
        Self { name: name.into(), value: Some(value.into()) }
    }
}

/// One event as a broker holds it. Cheap to clone: all bulk data is shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Topic, subject, queue or stream.
    pub topic: Arc<str>,
    /// Partition or shard; 0 where the broker has none.
    pub partition: u32,
    /// Offset or stream sequence within the partition; 0 where the broker has none.
    pub position: u64,
    /// Partitioning or routing key.
    pub key: Option<Bytes>,
    /// `None` is a tombstone; an empty payload is `Some` of no bytes.
    pub payload: Option<Bytes>,
    /// Headers in the broker's order, byte for byte.
    pub headers: Arc<[Header]>,
    /// Broker timestamp, milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
    /// CloudEvents context attributes by bare name; empty for a plain event.
    pub attributes: Arc<[(String, String)]>,
}

impl Event {
    /// First value of the CloudEvents attribute or host extra `name`.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// First header called `name`; null and empty values are told apart by the caller.
    pub fn header(&self, name: &str) -> Option<&Header> {
        self.headers.iter().find(|h| &*h.name == name)
    }

    /// Identity that is stable across redeliveries and replays (contract I1):
    /// CloudEvents `source` + `id` where given, else `topic/partition/position`.
    pub fn id(&self) -> String {
        match (self.attribute("source"), self.attribute("id")) {
            (Some(source), Some(id)) => format!("{source}#{id}"),
            (None, Some(id)) => id.to_owned(),
            _ => format!("{}/{}/{}", self.topic, self.partition, self.position),
        }
    }

    /// Bytes of key, payload and headers together: what a size limit counts.
    pub fn size(&self) -> usize {
        size(&self.key, &self.payload, &self.headers)
    }
}

/// An event to be produced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Name of the connection; `None` is the subscription's default output.
    pub connection: Option<Arc<str>>,
    /// Destination topic.
    pub topic: Arc<str>,
    /// Partitioning or routing key.
    pub key: Option<Bytes>,
    /// `None` is a tombstone.
    pub payload: Option<Bytes>,
    /// Headers, written as given.
    pub headers: Vec<Header>,
    /// CloudEvents attributes by bare name; the sink spells them as its broker does.
    pub attributes: Vec<(String, String)>,
}

impl Outgoing {
    /// A keyless event without headers.
    pub fn new(topic: impl Into<Arc<str>>, payload: impl Into<Bytes>) -> Self {
        Self {
            connection: None,
            topic: topic.into(),
            key: None,
            payload: Some(payload.into()),
            headers: Vec::new(),
            attributes: Vec::new(),
        }
    }

    /// The same event with a partitioning key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The same event with one more header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<Arc<str>>, value: impl Into<Bytes>) -> Self {
        self.headers.push(Header::new(name, value));
        self
    }

    /// Bytes of key, payload and headers together: what a size limit counts.
    pub fn size(&self) -> usize {
        size(&self.key, &self.payload, &self.headers)
    }
}

fn size(key: &Option<Bytes>, payload: &Option<Bytes>, headers: &[Header]) -> usize {
    let header = |h: &Header| h.name.len() + h.value.as_ref().map_or(0, Bytes::len);
    key.as_ref().map_or(0, Bytes::len)
        + payload.as_ref().map_or(0, Bytes::len)
        + headers.iter().map(header).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(attributes: &[(&str, &str)]) -> Event {
        Event {
            topic: "t".into(),
            partition: 2,
            position: 7,
            key: None,
            payload: None,
            headers: [].into(),
            timestamp_ms: 0,
            attributes: attributes.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect(),
        }
    }

    #[test]
    fn i1_identity_is_source_and_id_or_the_position() {
        assert_eq!(event(&[]).id(), "t/2/7");
        assert_eq!(event(&[("source", "/s"), ("id", "1")]).id(), "/s#1");
        assert_eq!(event(&[("id", "1")]).id(), "1");
    }
}
