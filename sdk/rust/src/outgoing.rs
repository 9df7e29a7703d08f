use serde::Serialize;

use crate::{Bytes, Failure, Header, Text};

/// An event to be published.
///
/// ```
/// use sandbar_sdk::Outgoing;
///
/// let event = Outgoing::new("alerts").key("N14228").json(&["late"])?.attribute("type", "delay");
/// assert_eq!(event.payload.as_deref(), Some(&b"[\"late\"]"[..]));
/// # Ok::<(), sandbar_sdk::Failure>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outgoing {
    /// Name of a configured connection; `None` is the plugin's default output.
    pub connection: Option<Text>,
    /// Destination topic; must be one that the plugin may publish to.
    pub topic: Text,
    /// Partitioning or routing key.
    pub key: Option<Bytes>,
    /// `None` is a tombstone (a delete marker).
    pub payload: Option<Bytes>,
    /// Headers, written as given.
    pub headers: Vec<Header>,
    /// CloudEvents attributes by bare name; the host writes them as the broker spells them.
    pub attributes: Vec<(Text, Text)>,
}

impl Outgoing {
    /// An event for `topic` without key, headers and attributes. Until a payload is
    /// set it is a tombstone.
    pub fn new(topic: impl Into<Text>) -> Self {
        Self {
            connection: None,
            topic: topic.into(),
            key: None,
            payload: None,
            headers: Vec::new(),
            attributes: Vec::new(),
        }
    }

    /// Publishes on the configured connection called `name`.
    #[must_use]
    pub fn connection(mut self, name: impl Into<Text>) -> Self {
        self.connection = Some(name.into());
        self
    }

    /// Sets the partitioning key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets the payload.
    #[must_use]
    pub fn payload(mut self, payload: impl Into<Bytes>) -> Self {
        self.payload = Some(payload.into());
        self
    }

    /// Sets the payload to text.
    #[must_use]
    pub fn text(self, text: impl Into<Text>) -> Self {
        self.payload(text.into())
    }

    /// Sets the payload to the JSON form of `value`.
    ///
    /// # Errors
    /// Rejects with code `invalid-json` where `value` has no JSON form (a map with
    /// keys that are no strings).
    pub fn json(self, value: &impl Serialize) -> Result<Self, Failure> {
        Ok(self.payload(serde_json::to_vec(value)?))
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<Text>, value: impl Into<Bytes>) -> Self {
        self.headers.push(Header::new(name, value));
        self
    }

    /// Adds a CloudEvents attribute (`type`, `source`, `subject`, ...).
    #[must_use]
    pub fn attribute(mut self, name: impl Into<Text>, value: impl Into<Text>) -> Self {
        self.attributes.push((name.into(), value.into()));
        self
    }

    /// The payload as text, where there is one and it is UTF-8: for tests.
    pub fn payload_text(&self) -> Option<&str> {
        std::str::from_utf8(self.payload.as_deref()?).ok()
    }
}
